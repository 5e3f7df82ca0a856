// RUN: npu-opt %s -p "graph-place,graph-group,graph-views" | filecheck %s
// RUN: npu-opt %s -p "graph-place,graph-group,graph-views,graph-map,graph-to-tile" | filecheck %s --check-prefix TILE

builtin.module attributes {npu.target = #npu.target<"edge256">} {

  // What makes a transposition's operand writes it transposed; a slice is read where it lies.

  func.func @turned(%x: tensor<16x64xi32>) -> tensor<64x8xi32> {
    %n = graph.neg %x : (tensor<16x64xi32>) -> tensor<16x64xi32>
    %t = graph.transpose %n {permutation = [1, 0]} : (tensor<16x64xi32>) -> tensor<64x16xi32>
    %s = graph.slice %t {starts = [0, 1], sizes = [64, 8], strides = [1, 2]} : (tensor<64x16xi32>) -> tensor<64x8xi32>
    %y = graph.abs %s : (tensor<64x8xi32>) -> tensor<64x8xi32>
    func.return %y : tensor<64x8xi32>
  }
  // CHECK: func.func @turned
  // CHECK: npu.within = array<i64: 0>
  // CHECK-NEXT: ^
  // CHECK-NEXT: graph.transpose
  // CHECK: npu.view
  // CHECK-NEXT: ^
  // CHECK-NEXT: graph.slice

  // TILE: func.func @turned
  // TILE: %[[T:.*]] = tile.alloc {{.*}} : memref<64x16xi32, "spm">
  // TILE-NEXT: tile.strided %[[T]] {strides = [1, 16]} : memref<64x16xi32, "spm"> to memref<16x64xi32, "spm">
  // TILE: tile.strided %[[T]] {offset = 1, strides = [2]} : memref<64x16xi32, "spm"> to memref<512xi32, "spm">

  // Two parts of a concat are written to where they belong; an input is copied there.

  func.func @joined(%x: tensor<4x8xi32>, %c: tensor<4x3xi32>) -> tensor<4x19xi32> {
    %a = graph.neg %x : (tensor<4x8xi32>) -> tensor<4x8xi32>
    %b = graph.abs %x : (tensor<4x8xi32>) -> tensor<4x8xi32>
    %j = graph.concat %a, %b, %c {axis = 1} : (tensor<4x8xi32>, tensor<4x8xi32>, tensor<4x3xi32>) -> tensor<4x19xi32>
    func.return %j : tensor<4x19xi32>
  }
  // CHECK: func.func @joined
  // CHECK: npu.within = array<i64: 0, 1>, npu.copied = "an input of the program"
  // CHECK-NEXT: ^
  // CHECK-NEXT: graph.concat

  // TILE: func.func @joined(%{{.*}}: memref<4x8xi32, "dram">, %[[C:.*]]: memref<4x3xi32, "dram">, %[[J:.*]]: memref<4x19xi32, "dram">)
  // TILE: tile.strided %[[J]] {strides = [19, 1]} : memref<4x19xi32, "dram"> to memref<4x8xi32, "dram">
  // TILE: tile.strided %[[J]] {offset = 8, strides = [19, 1]} : memref<4x19xi32, "dram"> to memref<4x8xi32, "dram">
  // TILE: %[[P:.*]] = tile.strided %[[J]] {offset = 16, strides = [19, 1]}
  // TILE-NEXT: tile.copy %[[C]] to %[[P]]
  // TILE-NOT: tile.copy

  // Only what is around the operand of a pad is filled.

  func.func @padded(%x: tensor<4x8xi32>) -> tensor<6x8xi32> {
    %n = graph.neg %x : (tensor<4x8xi32>) -> tensor<4x8xi32>
    %p = graph.pad %n {low = [1, 0], high = [1, 0], value = 3 : i64} : (tensor<4x8xi32>) -> tensor<6x8xi32>
    func.return %p : tensor<6x8xi32>
  }
  // CHECK: func.func @padded
  // CHECK: npu.within = array<i64: 0>
  // CHECK-NEXT: ^
  // CHECK-NEXT: graph.pad

  // TILE: func.func @padded(%{{.*}}: memref<4x8xi32, "dram">, %[[P:.*]]: memref<6x8xi32, "dram">)
  // TILE: tile.strided %[[P]] {offset = 8, strides = [1]} : memref<6x8xi32, "dram"> to memref<32xi32, "dram">
  // TILE: tile.fill %{{.*}} {value = 3 : i32} : memref<1x8xi32, "dram">
  // TILE: tile.fill %{{.*}} {value = 3 : i32} : memref<1x8xi32, "dram">

  // A repeated tensor is read with a stride of 0, also where a reshape joins what is repeated.

  func.func @repeated(%x: tensor<4x8xi32>, %z: tensor<8x8xi32>) -> tensor<8x8xi32> {
    %n = graph.neg %x : (tensor<4x8xi32>) -> tensor<4x8xi32>
    %1 = graph.reshape %n : (tensor<4x8xi32>) -> tensor<4x1x8xi32>
    %2 = graph.broadcast_to %1 : (tensor<4x1x8xi32>) -> tensor<4x2x8xi32>
    %3 = graph.reshape %2 : (tensor<4x2x8xi32>) -> tensor<8x8xi32>
    %y = graph.max %3, %z : (tensor<8x8xi32>, tensor<8x8xi32>) -> tensor<8x8xi32>
    func.return %y : tensor<8x8xi32>
  }
  // CHECK: func.func @repeated
  // CHECK: npu.view
  // CHECK-NEXT: ^
  // CHECK-NEXT: graph.broadcast_to

  // TILE: func.func @repeated
  // TILE: tile.strided %{{.*}} {strides = [8, 0, 1]} : memref<4x8xi32, "spm"> to memref<4x2x8xi32, "spm">

  // The caller needs a tensor of its own, and so does the host.

  func.func @returned(%x: tensor<16x64xi32>) -> tensor<64x16xi32> {
    %t = graph.transpose %x {permutation = [1, 0]} : (tensor<16x64xi32>) -> tensor<64x16xi32>
    func.return %t : tensor<64x16xi32>
  }
  // CHECK: func.func @returned
  // CHECK: npu.copied = "an input of the program; a result of the program"

  // Short runs are put together in the scratchpad, and what the caller needs is stored at once.

  func.func @staged(%x: tensor<4096x2xi32>) -> tensor<4096x4xi32> {
    %a = graph.neg %x : (tensor<4096x2xi32>) -> tensor<4096x2xi32>
    %b = graph.abs %x : (tensor<4096x2xi32>) -> tensor<4096x2xi32>
    %j = graph.concat %a, %b {axis = 1} : (tensor<4096x2xi32>, tensor<4096x2xi32>) -> tensor<4096x4xi32>
    func.return %j : tensor<4096x4xi32>
  }
  // CHECK: func.func @staged
  // CHECK: npu.within = array<i64: 0, 1>
  // CHECK: npu.copied = "short runs in dram: {{.*}}"
  // CHECK-NEXT: ^
  // CHECK-NEXT: graph.reshape

  // TILE: func.func @staged(%{{.*}}: memref<4096x2xi32, "dram">, %[[J:.*]]: memref<4096x4xi32, "dram">)
  // TILE: %[[P:.*]] = tile.alloc {{.*}} : memref<4096x4xi32, "spm">
  // TILE: tile.copy %[[P]] to %[[J]]
}
