// RUN: npu-opt %s -p "graph-round-weights" --verify-diagnostics | filecheck %s

// Without samples there is nothing to go by. What samples give is in test/test_rounding.py.

func.func @main(%x : tensor<4xf32>) -> tensor<4xf32> {
  %1 = graph.relu %x : (tensor<4xf32>) -> tensor<4xf32>
  func.return %1 : tensor<4xf32>
}
// CHECK: error[NPU0004]: graph-round-weights: must be given samples; found none; try graph-round-weights{samples="samples.npz"}
