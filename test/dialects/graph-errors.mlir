// RUN: npu-opt %s --split-input-file --verify-diagnostics | filecheck %s

// Shapes must broadcast together.
func.func @broadcast(%a: tensor<2xf32>, %b: tensor<3xf32>) {
  %0 = graph.add %a, %b : (tensor<2xf32>, tensor<3xf32>) -> tensor<2xf32>
  func.return
}
// CHECK: graph.add: shapes must broadcast together; found [2] and [3]

// -----

// The weights must have the channels of the input.
func.func @channels(%x: tensor<1x4x4x3xf32>, %w: tensor<1x1x4x8xf32>) {
  %0 = graph.conv2d %x, %w {strides = [1, 1], pads = [0, 0, 0, 0], dilations = [1, 1], groups = 1} : (tensor<1x4x4x3xf32>, tensor<1x1x4x8xf32>) -> tensor<1x4x4x8xf32>
  func.return
}
// CHECK: graph.conv2d: the weights must have 3 input channels (3 in 1 groups); found 4

// -----

// A stated result type must be the one that follows from the operands.
func.func @result(%x: tensor<2x3xf32>) {
  %0 = graph.transpose %x {permutation = [1, 0]} : (tensor<2x3xf32>) -> tensor<2x3xf32>
  func.return
}
// CHECK: graph.transpose: the result must have the type tensor<3x2xf32>; found tensor<2x3xf32>

// -----

// Arithmetic is on real numbers or integers, not on stored values.
func.func @quantized(%x: tensor<4x!quant.uniform<i8:f32, 0.5>>) {
  %0 = graph.mul %x, %x : (tensor<4x!quant.uniform<i8:f32, 0.5>>, tensor<4x!quant.uniform<i8:f32, 0.5>>) -> tensor<4x!quant.uniform<i8:f32, 0.5>>
  func.return
}
// CHECK: graph.mul: the operands must have elements of type f32 or i32 or i64; found tensor<4x!quant.uniform<i8:f32, 0.5>>

// -----

// There must be one scale per index of the quantized dimension.
func.func @scales(%x: tensor<4x!quant.uniform<i8:f32:0, {0.5, 0.25}>>) {
  %0 = graph.dequantize %x : (tensor<4x!quant.uniform<i8:f32:0, {0.5, 0.25}>>) -> tensor<4xf32>
  func.return
}
// CHECK: graph.dequantize: a type quantized along dimension 0 must have one scale per index of it; found 2 scales for the shape [4]

// -----

// Every dimension must be known.
func.func @dynamic(%x: tensor<?xf32>) {
  %0 = graph.relu %x : (tensor<?xf32>) -> tensor<?xf32>
  func.return
}
// CHECK: graph.relu: every dimension must be known; found tensor<?xf32>

// -----

// Updates are rows of the data.
func.func @updates(%x: tensor<4x2xf32>, %i: tensor<3xi32>, %u: tensor<3x1xf32>) {
  %0 = graph.scatter %x, %i, %u {kind = "set"} : (tensor<4x2xf32>, tensor<3xi32>, tensor<3x1xf32>) -> tensor<4x2xf32>
  func.return
}
// CHECK: graph.scatter: the updates must be 3 rows of 2 f32; found tensor<3x1xf32>
