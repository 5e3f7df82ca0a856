// RUN: npu-opt %s --target edge256 -p "graph-assign-precision" --verify-diagnostics | filecheck %s

// Without samples no error can be measured. What samples give is in test/test_precision.py.

func.func @main(%x : tensor<4xf32>) -> tensor<4xf32> {
  %1 = graph.relu %x : (tensor<4xf32>) -> tensor<4xf32>
  func.return %1 : tensor<4xf32>
}
// CHECK: error[NPU0004]: graph-assign-precision: must be given samples; found none; try graph-assign-precision{samples="samples.npz"}
