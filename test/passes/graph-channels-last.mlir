// RUN: npu-opt %s -p "graph-channels-last" | filecheck %s

// The transpositions around an activation cancel.

func.func @activation(%x : tensor<1x8x8x16xf32>) -> tensor<1x8x8x16xf32> {
  %1 = graph.transpose %x {permutation = [0, 3, 1, 2]} : (tensor<1x8x8x16xf32>) -> tensor<1x16x8x8xf32>
  %2 = graph.relu %1 : (tensor<1x16x8x8xf32>) -> tensor<1x16x8x8xf32>
  %3 = graph.transpose %2 {permutation = [0, 2, 3, 1]} : (tensor<1x16x8x8xf32>) -> tensor<1x8x8x16xf32>
  func.return %3 : tensor<1x8x8x16xf32>
}
// CHECK: func.func @activation
// CHECK-NEXT: %[[R:.*]] = graph.relu %x
// CHECK-NEXT: func.return %[[R]]

// Attributes and constants are permuted on the way; a reduction leaves a view.

func.func @attributes(%x : tensor<1x4x4x2xf32>) -> tensor<1x2x1x1xf32> {
  %c = graph.constant {value = #graph.blob<f32, [2, 1, 1], [1.0, 2.0]>} : () -> tensor<2x1x1xf32>
  %1 = graph.transpose %x {permutation = [0, 3, 1, 2]} : (tensor<1x4x4x2xf32>) -> tensor<1x2x4x4xf32>
  %2 = graph.mul %1, %c : (tensor<1x2x4x4xf32>, tensor<2x1x1xf32>) -> tensor<1x2x4x4xf32>
  %3 = graph.slice %2 {starts = [0, 0, 1, 2], sizes = [1, 2, 3, 2], strides = [1, 1, 1, 1]} : (tensor<1x2x4x4xf32>) -> tensor<1x2x3x2xf32>
  %4 = graph.reduce_mean %3 {axes = [2, 3]} : (tensor<1x2x3x2xf32>) -> tensor<1x2x1x1xf32>
  func.return %4 : tensor<1x2x1x1xf32>
}
// CHECK: func.func @attributes
// CHECK-NEXT: %[[C:.*]] = graph.constant {value = #graph.blob<f32, [1, 1, 1, 2], [1.0, 2.0]>}
// CHECK-NEXT: graph.mul %x, %[[C]]
// CHECK-NEXT: graph.slice {{.*}}starts = [0, 1, 2, 0], sizes = [1, 3, 2, 2]
// CHECK-NEXT: graph.reduce_mean {{.*}}axes = [1, 2]
// CHECK-NEXT: graph.reshape {{.*}} : (tensor<1x1x1x2xf32>) -> tensor<1x2x1x1xf32>

// A flattening matrix product takes the order of the channels into its weights.

func.func @flatten(%x : tensor<1x2x1x2xf32>) -> tensor<1x1xf32> {
  %w = graph.constant {value = #graph.blob<f32, [4, 1], [1.0, 2.0, 3.0, 4.0]>} : () -> tensor<4x1xf32>
  %1 = graph.transpose %x {permutation = [0, 3, 1, 2]} : (tensor<1x2x1x2xf32>) -> tensor<1x2x2x1xf32>
  %2 = graph.reshape %1 : (tensor<1x2x2x1xf32>) -> tensor<1x4xf32>
  %3 = graph.matmul %2, %w : (tensor<1x4xf32>, tensor<4x1xf32>) -> tensor<1x1xf32>
  func.return %3 : tensor<1x1xf32>
}
// CHECK: func.func @flatten
// CHECK-NEXT: %[[X:.*]] = graph.reshape %x
// CHECK-NEXT: %[[W:.*]] = graph.constant {value = #graph.blob<f32, [4, 1], [1.0, 3.0, 2.0, 4.0]>}
// CHECK-NEXT: graph.matmul %[[X]], %[[W]]

// What is left moves stored bytes.

func.func @left(%x : tensor<1x4x4x2x!quant.uniform<i8:f32, 0.5>>) -> tensor<1x2x4x4xf32> {
  %1 = graph.dequantize %x : (tensor<1x4x4x2x!quant.uniform<i8:f32, 0.5>>) -> tensor<1x4x4x2xf32>
  %2 = graph.transpose %1 {permutation = [0, 3, 1, 2]} : (tensor<1x4x4x2xf32>) -> tensor<1x2x4x4xf32>
  func.return %2 : tensor<1x2x4x4xf32>
}
// CHECK: func.func @left
// CHECK-NEXT: %[[T:.*]] = graph.transpose %x
// CHECK-NEXT: graph.dequantize %[[T]]

// Repeats (a resize of the nearest element) are no obstacle: dimensions move together with what they are repeated along.

func.func @repeat(%x : tensor<1x4x4x2xf32>, %y : tensor<1x8x8x2xf32>) -> tensor<1x8x8x2xf32> {
  %1 = graph.transpose %x {permutation = [0, 3, 1, 2]} : (tensor<1x4x4x2xf32>) -> tensor<1x2x4x4xf32>
  %2 = graph.reshape %1 : (tensor<1x2x4x4xf32>) -> tensor<1x2x4x1x4x1xf32>
  %3 = graph.broadcast_to %2 : (tensor<1x2x4x1x4x1xf32>) -> tensor<1x2x4x2x4x2xf32>
  %4 = graph.reshape %3 : (tensor<1x2x4x2x4x2xf32>) -> tensor<1x2x8x8xf32>
  %5 = graph.transpose %4 {permutation = [0, 2, 3, 1]} : (tensor<1x2x8x8xf32>) -> tensor<1x8x8x2xf32>
  %6 = graph.add %5, %y : (tensor<1x8x8x2xf32>, tensor<1x8x8x2xf32>) -> tensor<1x8x8x2xf32>
  func.return %6 : tensor<1x8x8x2xf32>
}
// CHECK: func.func @repeat
// CHECK-NEXT: %[[R:.*]] = graph.reshape %x : (tensor<1x4x4x2xf32>) -> tensor<1x4x1x4x1x2xf32>
// CHECK-NEXT: %[[B:.*]] = graph.broadcast_to %[[R]] {{.*}} -> tensor<1x4x2x4x2x2xf32>
// CHECK-NEXT: %[[V:.*]] = graph.reshape %[[B]] {{.*}} -> tensor<1x8x8x2xf32>
// CHECK-NEXT: graph.add %[[V]], %y
