// RUN: npu-opt %s -p graph-narrow-sums | filecheck %s

// A sum of 127 * 32768 and the bias stays below 2**31.
func.func @narrow(%x: tensor<1x1x!quant.uniform<i16:f32, 1.0>>)
    -> tensor<1x1x!quant.uniform<i16:f32, 1.0>> {
  %w = graph.constant {value = #graph.blob<i8, [1, 1], [127]>} : () -> tensor<1x1x!quant.uniform<i8:f32, 1.0>> loc("w")
  %b = graph.constant {value = #graph.blob<i64, [1], [7]>} : () -> tensor<1xi64> loc("b")
  %0 = graph.matmul %x, %w, %b : (tensor<1x1x!quant.uniform<i16:f32, 1.0>>, tensor<1x1x!quant.uniform<i8:f32, 1.0>>, tensor<1xi64>) -> tensor<1x1xi64> loc("fc")
  %1 = graph.requantize %0 {recipe = #graph.requant<f32, [0.5]>} : (tensor<1x1xi64>) -> tensor<1x1x!quant.uniform<i16:f32, 1.0>> loc("q")
  func.return %1 : tensor<1x1x!quant.uniform<i16:f32, 1.0>>
}
// CHECK: func.func @narrow
// CHECK: graph.matmul
// CHECK-SAME: {sums = "i32"}
// CHECK-SAME: tensor<1xi32>) -> tensor<1x1xi32>
// CHECK-NEXT: graph.requantize
// CHECK-SAME: (tensor<1x1xi32>)

// With this bias it may not.
func.func @wide(%x: tensor<1x1x!quant.uniform<i16:f32, 1.0>>)
    -> tensor<1x1x!quant.uniform<i16:f32, 1.0>> {
  %w = graph.constant {value = #graph.blob<i8, [1, 1], [127]>} : () -> tensor<1x1x!quant.uniform<i8:f32, 1.0>> loc("w")
  %b = graph.constant {value = #graph.blob<i64, [1], [2147483647]>} : () -> tensor<1xi64> loc("b")
  %0 = graph.matmul %x, %w, %b : (tensor<1x1x!quant.uniform<i16:f32, 1.0>>, tensor<1x1x!quant.uniform<i8:f32, 1.0>>, tensor<1xi64>) -> tensor<1x1xi64> loc("fc")
  %1 = graph.requantize %0 {recipe = #graph.requant<f32, [0.5]>} : (tensor<1x1xi64>) -> tensor<1x1x!quant.uniform<i16:f32, 1.0>> loc("q")
  func.return %1 : tensor<1x1x!quant.uniform<i16:f32, 1.0>>
}
// CHECK: func.func @wide
// CHECK: graph.matmul
// CHECK-NOT: sums
// CHECK-SAME: tensor<1xi64>) -> tensor<1x1xi64>
