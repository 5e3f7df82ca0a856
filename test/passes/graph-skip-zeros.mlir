// RUN: npu-opt %s -p 'graph-place,graph-skip-zeros' | filecheck %s
// RUN: npu-opt %s -p 'graph-place,graph-skip-zeros' | filecheck %s --check-prefix=WHOLE

// Two of every four input channels: half of the products of the array of headset2k.
builtin.module attributes {npu.target = #npu.target<"headset2k">} {
  func.func @main(%x: tensor<1x4x!quant.uniform<i8:f32, 0.1>>) -> (tensor<1x2xi32>, tensor<1x2xi32>) {
    %w = graph.constant {value = #graph.blob<i8, [4, 2], [1, 0, 0, 5, 0, 6, 2, 0]>} : () -> tensor<4x2x!quant.uniform<i8:f32, 0.1>> loc("w")
    %v = graph.constant {value = #graph.blob<i8, [4, 2], [1, 4, 1, 5, 1, 6, 2, 0]>} : () -> tensor<4x2x!quant.uniform<i8:f32, 0.1>> loc("v")
    %0 = graph.matmul %x, %w : (tensor<1x4x!quant.uniform<i8:f32, 0.1>>, tensor<4x2x!quant.uniform<i8:f32, 0.1>>) -> tensor<1x2xi32> loc("a")
    %1 = graph.matmul %x, %v : (tensor<1x4x!quant.uniform<i8:f32, 0.1>>, tensor<4x2x!quant.uniform<i8:f32, 0.1>>) -> tensor<1x2xi32> loc("b")
    func.return %0, %1 : tensor<1x2xi32>, tensor<1x2xi32>
  }
}
// CHECK: %w = graph.constant{{.*}}npu.made = 32
// WHOLE: %v = graph.constant
// WHOLE-NOT: npu.made
