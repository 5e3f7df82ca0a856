// RUN: npu-opt %s --lower-to tile | filecheck %s --check-prefix=TILE
// RUN: npu-opt %s --lower-to npu | filecheck %s --check-prefix=NPU

// Two entries: @add updates the state n in place, @shift gives two states new contents that are
// copied at the end, in an order in which neither is lost.

builtin.module attributes {npu.target = #npu.target<"mobile4k">} {
  func.func @add(%x : tensor<4xi32>, %n : tensor<4xi32>) -> tensor<4xi32>
      attributes {npu.input_names = ["x", "n"], npu.output_names = ["n_next"], npu.states = [{name = "n", argument = 1 : i64, result = 0 : i64, initial = #graph.blob<i32, [4], [1, 2, 3, 4]>}]} {
    %0 = graph.add %n, %x : (tensor<4xi32>, tensor<4xi32>) -> tensor<4xi32> loc("add")
    func.return %0 : tensor<4xi32>
  }
  func.func @shift(%x : tensor<4xi32>, %n : tensor<4xi32>, %m : tensor<4xi32>) -> (tensor<4xi32>, tensor<4xi32>)
      attributes {npu.input_names = ["x", "n", "m"], npu.output_names = ["n_next", "m_next"], npu.states = [{name = "n", argument = 1 : i64, result = 0 : i64}, {name = "m", argument = 2 : i64, result = 1 : i64}]} {
    func.return %x, %n : tensor<4xi32>, tensor<4xi32>
  }
}

// TILE: func.func @add(%{{.*}}: memref<4xi32, "dram">, %[[N:.*]]: memref<4xi32, "dram">)
// TILE: tile.copy %[[N]] to
// TILE: tile.copy %{{.*}} to %[[N]] : memref<4xi32, "spm"> to memref<4xi32, "dram">
// TILE: func.func @shift(%[[X:.*]]: memref<4xi32, "dram">, %[[N:.*]]: memref<4xi32, "dram">, %[[M:.*]]: memref<4xi32, "dram">)
// TILE-NEXT: %[[T0:.*]] = tile.copy %[[N]] to %[[M]]
// TILE-NEXT: tile.wait %[[T0]]
// TILE-NEXT: %[[T1:.*]] = tile.copy %[[X]] to %[[N]]
// TILE-NEXT: tile.wait %[[T1]]

// NPU: npu.program @add {{.*}} outputs [] states [#npu.state<"n", #npu.operand<dram, 0x0, i32, [4], [4]>, tensor<4xi32>, "update", #graph.blob<i32, [4], [1, 2, 3, 4]>>] constants
// NPU: destination = <dram, 0x0, i32, [4], [4]>
// NPU: npu.program @shift {{.*}} states [#npu.state<"n", #npu.operand<dram, 0x0, {{.*}} "update", unit>, #npu.state<"m", #npu.operand<dram, 0x40, {{.*}} "update", unit>] constants
// NPU-NEXT: npu.dma_copy source = <dram, 0x0, i32, [4], [4]>, destination = <dram, 0x40, i32, [4], [4]>
// NPU-NEXT: npu.dma_copy source = <dram, 0x80, i32, [4], [4]>, destination = <dram, 0x0, i32, [4], [4]>
