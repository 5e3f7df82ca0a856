// RUN: npu-opt %s -p "graph-to-tile" | filecheck %s

// Weights that are streamed: each operation reads its weights and parameters where they lie in dram. Only the rows of
// the input are loaded.

builtin.module attributes {npu.target = #npu.target<"ethos_u55_256">} {
  func.func @main(%x: tensor<1x4x4x2x!quant.uniform<i8:f32, 0.05>>) -> tensor<1x4x4x4x!quant.uniform<i8:f32, 0.1>> {
    %w = graph.constant {value = #graph.blob<i8, [1, 1, 2, 4], [1, 2, 3, 4, 5, 6, 7, 8]>} : () -> tensor<1x1x2x4x!quant.uniform<i8:f32, 0.05>>
    %b = graph.constant {value = #graph.blob<i32, [4], [1, 2, 3, 4]>} : () -> tensor<4xi32>
    %y = graph.group %x, %w, %b {kind = "array", npu.memory = "dram", npu.mapping = {rows = 2 : i64, cols = 4 : i64, channels = 4 : i64, reduction = 2 : i64, order = "weights_outer", slots = 2 : i64, x = "tile", weights = "stream", taps = "apart"}} {
    ^bb0(%0: tensor<1x4x4x2x!quant.uniform<i8:f32, 0.05>>, %1: tensor<1x1x2x4x!quant.uniform<i8:f32, 0.05>>, %2: tensor<4xi32>):
      %3 = graph.conv2d %0, %1, %2 {strides = [1, 1], pads = [0, 0, 0, 0], dilations = [1, 1], groups = 1} : (tensor<1x4x4x2x!quant.uniform<i8:f32, 0.05>>, tensor<1x1x2x4x!quant.uniform<i8:f32, 0.05>>, tensor<4xi32>) -> tensor<1x4x4x4xi32>
      %4 = graph.requantize %3 {recipe = #graph.requant<f32, [0.003]>} : (tensor<1x4x4x4xi32>) -> tensor<1x4x4x4x!quant.uniform<i8:f32, 0.1>>
      graph.yield %4 : tensor<1x4x4x4x!quant.uniform<i8:f32, 0.1>>
    } : (tensor<1x4x4x2x!quant.uniform<i8:f32, 0.05>>, tensor<1x1x2x4x!quant.uniform<i8:f32, 0.05>>, tensor<4xi32>) -> tensor<1x4x4x4x!quant.uniform<i8:f32, 0.1>>
    func.return %y : tensor<1x4x4x4x!quant.uniform<i8:f32, 0.1>>
  }
}

// CHECK: tile.transpose %{{.*}} : {{.*}}memref<4x1x1x2xi8, "dram">{{.*}}memref<1x1x2x4xi8, "dram">
// CHECK-NEXT: tile.for %{{.*}} to 2 {
// CHECK: tile.copy %{{.*}} to %{{.*}} : memref<1x2x4x2xi8, "dram"> to memref<1x2x4x2xi8, "spm">
// CHECK-NOT: tile.copy
// CHECK: tile.conv2d ins(%{{.*}}, %{{.*}} : memref<1x2x4x2xi8, "spm">, memref<1x1x2x4xi8, "dram">) {{.*}} params(%{{.*}} : memref<{{.*}}xi32, "dram">)
