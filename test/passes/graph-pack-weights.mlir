// RUN: npu-opt %s -p "graph-place,graph-pack-weights" --target edge256 | filecheck %s

// All of %w is in -8..7 and its columns are whole bytes; %v has a value that is not.
func.func @main(%x: tensor<1x2x!quant.uniform<i8:f32, 1.0>>) -> (tensor<1x1xi32>, tensor<1x1xi32>) {
  %w = graph.constant {value = #graph.blob<i8, [2, 1], [7, -8]>} : () -> tensor<2x1x!quant.uniform<i8:f32, 1.0>> loc("w")
  %v = graph.constant {value = #graph.blob<i8, [2, 1], [7, 8]>} : () -> tensor<2x1x!quant.uniform<i8:f32, 1.0>> loc("v")
  %0 = graph.matmul %x, %w : (tensor<1x2x!quant.uniform<i8:f32, 1.0>>, tensor<2x1x!quant.uniform<i8:f32, 1.0>>) -> tensor<1x1xi32> loc("fc1")
  %1 = graph.matmul %x, %v : (tensor<1x2x!quant.uniform<i8:f32, 1.0>>, tensor<2x1x!quant.uniform<i8:f32, 1.0>>) -> tensor<1x1xi32> loc("fc2")
  func.return %0, %1 : tensor<1x1xi32>, tensor<1x1xi32>
}
// CHECK: %w = graph.constant
// CHECK-SAME: [7, -8]>, npu.packed = "i4"}
// CHECK-NEXT: %v = graph.constant
// CHECK-NOT: npu.packed
// CHECK-SAME: () ->
