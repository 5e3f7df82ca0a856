// RUN: npu-opt %s -p graph-bound | filecheck %s

// 16 positions x 4 products x 8 channels over 256 multipliers are 2 cycles; 64 input, 32 weight and
// 128 output bytes are 14 cycles of the scratchpad's port and 59.7 of dram.

builtin.module attributes {npu.target = #npu.target<"edge256">} {
  func.func @main(%x : tensor<1x4x4x4x!quant.uniform<i8:f32, 0.1>>) -> tensor<1x4x4x8x!quant.uniform<i8:f32, 0.2>> {
    %w = graph.constant {value = #graph.blob<i8, [1, 1, 4, 8], [1, 2, 3, 4, 5, 6, 7, 8, 1, 2, 3, 4, 5, 6, 7, 8, 1, 2, 3, 4, 5, 6, 7, 8, 1, 2, 3, 4, 5, 6, 7, 8]>} : () -> tensor<1x1x4x8x!quant.uniform<i8:f32, 0.5>>
    %y = graph.group %x, %w {kind = "array"} {
    ^bb0(%a : tensor<1x4x4x4x!quant.uniform<i8:f32, 0.1>>, %b : tensor<1x1x4x8x!quant.uniform<i8:f32, 0.5>>):
      %1 = graph.conv2d %a, %b {strides = [1, 1], pads = [0, 0, 0, 0], dilations = [1, 1], groups = 1} : (tensor<1x4x4x4x!quant.uniform<i8:f32, 0.1>>, tensor<1x1x4x8x!quant.uniform<i8:f32, 0.5>>) -> tensor<1x4x4x8xi32>
      %2 = graph.requantize %1 {recipe = #graph.requant<f32, [0.25]>} : (tensor<1x4x4x8xi32>) -> tensor<1x4x4x8x!quant.uniform<i8:f32, 0.2>>
      graph.yield %2 : tensor<1x4x4x8x!quant.uniform<i8:f32, 0.2>>
    } : (tensor<1x4x4x4x!quant.uniform<i8:f32, 0.1>>, tensor<1x1x4x8x!quant.uniform<i8:f32, 0.5>>) -> tensor<1x4x4x8x!quant.uniform<i8:f32, 0.2>>
    func.return %y : tensor<1x4x4x8x!quant.uniform<i8:f32, 0.2>>
  }
}

// CHECK: npu.metadata = {bound.main = {{.*}}resources{{.*}}[2.0,0.0,14.0,59.733333]{{.*}}dram_bytes{{.*}}:224,
// CHECK: graph.group %x, %w {kind = "array"}
