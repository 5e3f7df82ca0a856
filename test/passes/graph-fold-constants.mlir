// RUN: npu-opt %s -p "graph-fold-constants" | filecheck %s

// What constants give is a constant; dequantized constants wait for graph-fold-qdq.

func.func @main(%x : tensor<2xf32>) -> (tensor<2xf32>, tensor<2xf32>) {
  %a = graph.constant {value = #graph.blob<f32, [2], [1.0, 2.0]>} : () -> tensor<2xf32>
  %b = graph.neg %a : (tensor<2xf32>) -> tensor<2xf32>
  %c = graph.mul %b, %a : (tensor<2xf32>, tensor<2xf32>) -> tensor<2xf32>
  %y = graph.add %x, %c : (tensor<2xf32>, tensor<2xf32>) -> tensor<2xf32>
  %q = graph.constant {value = #graph.blob<i8, [2], [3, 4]>} : () -> tensor<2x!quant.uniform<i8:f32, 0.5>>
  %d = graph.dequantize %q : (tensor<2x!quant.uniform<i8:f32, 0.5>>) -> tensor<2xf32>
  func.return %y, %d : tensor<2xf32>, tensor<2xf32>
}
// CHECK: func.func @main
// CHECK-NEXT: %[[C:.*]] = graph.constant {value = #graph.blob<f32, [2], [-1.0, -4.0]>}
// CHECK-NEXT: graph.add %x, %[[C]]
// CHECK-NEXT: graph.constant {value = #graph.blob<i8, [2], [3, 4]>}
// CHECK-NEXT: graph.dequantize
