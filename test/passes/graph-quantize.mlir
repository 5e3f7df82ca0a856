// RUN: npu-opt %s --split-input-file -p "graph-quantize" | filecheck %s
// RUN: npu-opt %s --split-input-file -p "graph-quantize,graph-fold-qdq" | filecheck %s --check-prefix=FOLD

// A convolution, its bias and its activation become one operation of integers. The range of the
// convolution's own result plays no part.

func.func @conv(%x : tensor<1x2x2x2xf32>) -> tensor<1x2x2x2xf32> attributes {npu.input_names = ["x"], npu.ranges = array<f64: -1.27, 1.28>} {
  %w = graph.constant {value = #graph.blob<f32, [1, 1, 2, 2], [1.27, 0.5, -1.0, 2.54]>} : () -> tensor<1x1x2x2xf32>
  %b = graph.constant {value = #graph.blob<f32, [2], [0.5, -0.5]>} : () -> tensor<2xf32>
  %1 = graph.conv2d %x, %w, %b {strides = [1, 1], pads = [0, 0, 0, 0], dilations = [1, 1], groups = 1, npu.ranges = array<f64: -9.0, 9.0>} : (tensor<1x2x2x2xf32>, tensor<1x1x2x2xf32>, tensor<2xf32>) -> tensor<1x2x2x2xf32>
  %2 = graph.relu %1 {npu.ranges = array<f64: 0.0, 5.1>} : (tensor<1x2x2x2xf32>) -> tensor<1x2x2x2xf32>
  func.return %2 : tensor<1x2x2x2xf32>
}
// CHECK: func.func @conv
// CHECK-NOT: npu.ranges
// CHECK: %[[XQ:.*]] = graph.quantize %x : {{.*}}!quant.uniform<i8:f32, 0.01:-1>
// CHECK: %[[X:.*]] = graph.dequantize %[[XQ]]
// CHECK: !quant.uniform<i8:f32:3, {0.01, 0.02}>
// CHECK: !quant.uniform<i32:f32:0, {0.0001, 0.0002}>
// CHECK: %[[C:.*]] = graph.conv2d %[[X]]
// CHECK-NEXT: %[[R:.*]] = graph.relu %[[C]]
// CHECK-NEXT: %[[Q:.*]] = graph.quantize %[[R]] : {{.*}}!quant.uniform<i8:f32, 0.02:-128>
// CHECK-NEXT: graph.dequantize %[[Q]]
// FOLD: graph.conv2d {{.*}} -> tensor<1x2x2x2xi32>
// FOLD: graph.requantize

// -----

// A chain of functions of one tensor is one table.

func.func @chain(%x : tensor<4xf32>) -> tensor<4xf32> attributes {npu.input_names = ["x"], npu.ranges = array<f64: -1.0, 1.0>} {
  %1 = graph.sigmoid %x {npu.ranges = array<f64: 0.0, 1.0>} : (tensor<4xf32>) -> tensor<4xf32>
  %2 = graph.mul %x, %1 {npu.ranges = array<f64: -0.3, 0.8>} : (tensor<4xf32>, tensor<4xf32>) -> tensor<4xf32>
  func.return %2 : tensor<4xf32>
}
// CHECK: func.func @chain
// CHECK: %[[S:.*]] = graph.sigmoid
// CHECK-NEXT: %[[M:.*]] = graph.mul %{{.*}}, %[[S]]
// CHECK-NEXT: graph.quantize %[[M]]
// FOLD: func.func @chain
// FOLD: graph.lookup

// -----

// What only moves values keeps their type.

func.func @moves(%x : tensor<2x3xf32>) -> tensor<3x2xf32> attributes {npu.input_names = ["x"], npu.ranges = array<f64: -1.0, 1.0>} {
  %1 = graph.transpose %x {permutation = [1, 0], npu.ranges = array<f64: -1.0, 1.0>} : (tensor<2x3xf32>) -> tensor<3x2xf32>
  func.return %1 : tensor<3x2xf32>
}
// CHECK: func.func @moves
// CHECK: graph.dequantize
// CHECK-NEXT: graph.transpose
// CHECK-NEXT: func.return
