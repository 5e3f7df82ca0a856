// RUN: npu-opt %s -p "graph-prune{structure=\"2:4\"}" | filecheck %s
// RUN: npu-opt %s -p "graph-prune{sparsity=0.25}" | filecheck %s --check-prefix=SHARE

// Two of every four input channels stay, for each output channel; or all but the least quarter.

func.func @main(%x : tensor<1x4xf32>) -> tensor<1x2xf32> {
  %w = graph.constant {value = #graph.blob<f32, [4, 2], [1.0, -8.0, -3.0, 7.0, 2.0, 6.0, 0.5, 5.0]>} : () -> tensor<4x2xf32> loc("w")
  %1 = graph.matmul %x, %w : (tensor<1x4xf32>, tensor<4x2xf32>) -> tensor<1x2xf32> loc("product")
  func.return %1 : tensor<1x2xf32>
}
// CHECK: #graph.blob<f32, [4, 2], [0.0, -8.0, -3.0, 7.0, 2.0, 0.0, 0.0, 0.0]>
// SHARE: #graph.blob<f32, [4, 2], [0.0, -8.0, -3.0, 7.0, 2.0, 6.0, 0.0, 5.0]>
