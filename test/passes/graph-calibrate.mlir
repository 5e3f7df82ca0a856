// RUN: npu-opt %s -p "graph-calibrate" --verify-diagnostics | filecheck %s

// Without samples there is nothing to note. What samples give is in test/test_quantizing.py.

func.func @main(%x : tensor<4xf32>) -> tensor<4xf32> {
  %1 = graph.relu %x : (tensor<4xf32>) -> tensor<4xf32>
  func.return %1 : tensor<4xf32>
}
// CHECK: error[NPU0004]: graph-calibrate: must be given either samples or statistics; found neither
