// RUN: npu-opt %s -p "graph-map" | filecheck %s

// One cascade of two stripes of four rows, each of two tiles: one is loaded while the other is computed.
// Of the first result the scratchpad holds the rows of one stripe.

builtin.module attributes {npu.target = #npu.target<"edge256">} {
  func.func @main(%x: tensor<1x8x8x4x!quant.uniform<i8:f32, 0.05>>, %w: tensor<1x1x4x8x!quant.uniform<i8:f32, 0.1>>) -> tensor<1x8x8x8xi32> {
    %y = graph.group %x, %w {kind = "array"} {
    ^bb0(%a: tensor<1x8x8x4x!quant.uniform<i8:f32, 0.05>>, %b: tensor<1x1x4x8x!quant.uniform<i8:f32, 0.1>>):
      %0 = graph.conv2d %a, %b {strides = [1, 1], pads = [0, 0, 0, 0], dilations = [1, 1], groups = 1} : (tensor<1x8x8x4x!quant.uniform<i8:f32, 0.05>>, tensor<1x1x4x8x!quant.uniform<i8:f32, 0.1>>) -> tensor<1x8x8x8xi32>
      graph.yield %0 : tensor<1x8x8x8xi32>
    } : (tensor<1x8x8x4x!quant.uniform<i8:f32, 0.05>>, tensor<1x1x4x8x!quant.uniform<i8:f32, 0.1>>) -> tensor<1x8x8x8xi32>
    %z = graph.group %y {kind = "vector"} {
    ^bb0(%a: tensor<1x8x8x8xi32>):
      %0 = graph.abs %a : (tensor<1x8x8x8xi32>) -> tensor<1x8x8x8xi32>
      graph.yield %0 : tensor<1x8x8x8xi32>
    } : (tensor<1x8x8x8xi32>) -> tensor<1x8x8x8xi32>
    func.return %z : tensor<1x8x8x8xi32>
  }
}

// CHECK: graph.group
// CHECK-SAME: npu.memory = "rows"
// CHECK-SAME: npu.mapping = {rows = 2 : i64, cols = 8 : i64, channels = 8 : i64, reduction = 4 : i64, order = "weights_outer", slots = 2 : i64, x = "tile", weights = "tile", taps = "apart"}
// CHECK-SAME: npu.cascade = {number = 0 : i64, rows = 4 : i64}, npu.held = 4 : i64
// CHECK: graph.group
// CHECK-SAME: npu.memory = "dram"
// CHECK-SAME: npu.mapping = {axis = 0 : i64, chunk =
