// RUN: npu-opt %s -p graph-fixed-point --target edge256 | filecheck %s
// RUN: npu-opt %s -p graph-fixed-point --target mobile4k | filecheck %s --check-prefix FLOATS

// A small range needs no maximum: a table, its sum, one division for a row, one product for an element.
func.func @softmax(%x: tensor<8x64x!quant.uniform<u8:f32, 0.01:128>>) -> tensor<8x64x!quant.uniform<u8:f32, 0.00390625>> {
  %0 = graph.dequantize %x : (tensor<8x64x!quant.uniform<u8:f32, 0.01:128>>) -> tensor<8x64xf32> loc("d")
  %1 = graph.softmax %0 {axis = 1} : (tensor<8x64xf32>) -> tensor<8x64xf32> loc("s")
  %2 = graph.quantize %1 : (tensor<8x64xf32>) -> tensor<8x64x!quant.uniform<u8:f32, 0.00390625>> loc("q")
  func.return %2 : tensor<8x64x!quant.uniform<u8:f32, 0.00390625>>
}
// CHECK: func.func @softmax
// CHECK: %[[E:.*]] = graph.lookup %x
// CHECK: %[[S:.*]] = graph.reduce_sum %[[E]] {axes = [1], npu.approximate = "softmax"}
// CHECK: graph.div {{.*}} -> tensor<8x1xi32>
// CHECK: graph.rescale {{.*}} (tensor<8x64xi32>, tensor<8x1xi32>) -> tensor<8x64x!quant.uniform<u8:f32, 0.00390625>>
// FLOATS: func.func @softmax
// FLOATS: graph.softmax

// In a wide range, the greatest value of a row is subtracted first.
func.func @wide(%x: tensor<8x64x!quant.uniform<u8:f32, 0.4:128>>) -> tensor<8x64x!quant.uniform<u8:f32, 0.00390625>> {
  %0 = graph.dequantize %x : (tensor<8x64x!quant.uniform<u8:f32, 0.4:128>>) -> tensor<8x64xf32> loc("d")
  %1 = graph.softmax %0 {axis = 1} : (tensor<8x64xf32>) -> tensor<8x64xf32> loc("s")
  %2 = graph.quantize %1 : (tensor<8x64xf32>) -> tensor<8x64x!quant.uniform<u8:f32, 0.00390625>> loc("q")
  func.return %2 : tensor<8x64x!quant.uniform<u8:f32, 0.00390625>>
}
// CHECK: func.func @wide
// CHECK: %[[M:.*]] = graph.reduce_max %x {axes = [1]
// CHECK: graph.lookup {{.*}} (tensor<8x64xui8>, tensor<256xi32>) -> tensor<8x64xi32>

// Two sums of a row, the inverse root of its variance, and then four steps for an element.
func.func @layer_norm(%x: tensor<8x2x!quant.uniform<i8:f32, 0.05>>) -> tensor<8x2x!quant.uniform<i8:f32, 0.03>> {
  %g = graph.constant {value = #graph.blob<f32, [2], [2.0, 1.0]>} : () -> tensor<2xf32> loc("g")
  %b = graph.constant {value = #graph.blob<f32, [2], [0.5, 0.25]>} : () -> tensor<2xf32> loc("b")
  %0 = graph.dequantize %x : (tensor<8x2x!quant.uniform<i8:f32, 0.05>>) -> tensor<8x2xf32> loc("d")
  %1 = graph.layer_norm %0, %g, %b {axis = 1, epsilon = 1.0e-05 : f32} : (tensor<8x2xf32>, tensor<2xf32>, tensor<2xf32>) -> tensor<8x2xf32> loc("n")
  %2 = graph.quantize %1 : (tensor<8x2xf32>) -> tensor<8x2x!quant.uniform<i8:f32, 0.03>> loc("q")
  func.return %2 : tensor<8x2x!quant.uniform<i8:f32, 0.03>>
}
// CHECK: func.func @layer_norm
// CHECK: graph.reduce_sum %x
// CHECK: graph.lookup %x, {{.*}} -> tensor<8x2xui16>
// CHECK-NOT: graph.layer_norm
// CHECK: graph.requantize {{.*}} (tensor<8x2xi32>) -> tensor<8x2x!quant.uniform<i8:f32, 0.03>>
// FLOATS: graph.layer_norm
