// RUN: npu-opt %s -p "graph-smooth" --verify-diagnostics | filecheck %s

// Without samples it is not known which channels are outliers. What samples give is in
// test/test_equalization.py.

func.func @main(%x : tensor<4xf32>) -> tensor<4xf32> {
  %1 = graph.relu %x : (tensor<4xf32>) -> tensor<4xf32>
  func.return %1 : tensor<4xf32>
}
// CHECK: error[NPU0004]: graph-smooth: must be given samples; found none; try graph-smooth{samples="samples.npz"}
