// RUN: npu-opt %s -p "graph-canonicalize" | filecheck %s

// Two transpositions are one, and here none; a rectifier and bounds are one pair of bounds.

func.func @transposes(%x : tensor<1x3x8x8xf32>) -> tensor<1x3x8x8xf32> {
  %1 = graph.transpose %x {permutation = [0, 2, 3, 1]} : (tensor<1x3x8x8xf32>) -> tensor<1x8x8x3xf32>
  %2 = graph.transpose %1 {permutation = [0, 3, 1, 2]} : (tensor<1x8x8x3xf32>) -> tensor<1x3x8x8xf32>
  %3 = graph.relu %2 : (tensor<1x3x8x8xf32>) -> tensor<1x3x8x8xf32>
  %4 = graph.clamp %3 {min = -1.0 : f32, max = 6.0 : f32} : (tensor<1x3x8x8xf32>) -> tensor<1x3x8x8xf32>
  func.return %4 : tensor<1x3x8x8xf32>
}
// CHECK: func.func @transposes
// CHECK-NEXT: %[[R:.*]] = graph.clamp %x {min = 0.000000e+00 : f32, max = 6.000000e+00 : f32}
// CHECK-NEXT: func.return %[[R]]

// A transposition that only moves dimensions of 1 is a view, and views of views are one view.

func.func @views(%x : tensor<1x1x4x4xf32>) -> tensor<16xf32> {
  %1 = graph.transpose %x {permutation = [0, 2, 3, 1]} : (tensor<1x1x4x4xf32>) -> tensor<1x4x4x1xf32>
  %2 = graph.reshape %1 : (tensor<1x4x4x1xf32>) -> tensor<4x4xf32>
  %3 = graph.reshape %2 : (tensor<4x4xf32>) -> tensor<16xf32>
  func.return %3 : tensor<16xf32>
}
// CHECK: func.func @views
// CHECK-NEXT: %[[V:.*]] = graph.reshape %x : (tensor<1x1x4x4xf32>) -> tensor<16xf32>
// CHECK-NEXT: func.return %[[V]]

// Slices of everything, padding of nothing, casts to the same type and what nobody uses go.

func.func @nothing(%x : tensor<4xf32>) -> tensor<4xf32> {
  %1 = graph.slice %x {starts = [0], sizes = [4], strides = [1]} : (tensor<4xf32>) -> tensor<4xf32>
  %2 = graph.pad %1 {low = [0], high = [0], value = 0.0 : f32} : (tensor<4xf32>) -> tensor<4xf32>
  %3 = graph.cast %2 : (tensor<4xf32>) -> tensor<4xf32>
  %4 = graph.exp %x : (tensor<4xf32>) -> tensor<4xf32>
  func.return %3 : tensor<4xf32>
}
// CHECK: func.func @nothing
// CHECK-NEXT: func.return %x
