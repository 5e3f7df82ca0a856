// RUN: npu-opt %s -p graph-equalize | filecheck %s

// The channels between two products: their greatest weights were 8 and 2, and 1/2 and 2. Both become
// 2 (s = 4 and 1).

func.func @main(%x : tensor<1x1xf32>) -> tensor<1x1xf32> {
  %w1 = graph.constant {value = #graph.blob<f32, [1, 2], [8.0, 2.0]>} : () -> tensor<1x2xf32> loc("w1")
  %b1 = graph.constant {value = #graph.blob<f32, [2], [4.0, 3.0]>} : () -> tensor<2xf32> loc("b1")
  %w2 = graph.constant {value = #graph.blob<f32, [2, 1], [0.5, 2.0]>} : () -> tensor<2x1xf32> loc("w2")
  %1 = graph.matmul %x, %w1, %b1 : (tensor<1x1xf32>, tensor<1x2xf32>, tensor<2xf32>) -> tensor<1x2xf32> loc("first")
  %2 = graph.relu %1 : (tensor<1x2xf32>) -> tensor<1x2xf32> loc("relu")
  %3 = graph.matmul %2, %w2 : (tensor<1x2xf32>, tensor<2x1xf32>) -> tensor<1x1xf32> loc("second")
  func.return %3 : tensor<1x1xf32>
}
// CHECK: graph.constant {value = #graph.blob<f32, [1, 2], [2.0, 2.0]>}
// CHECK: graph.constant {value = #graph.blob<f32, [2], [1.0, 3.0]>}
// CHECK: graph.constant {value = #graph.blob<f32, [2, 1], [2.0, 2.0]>}
