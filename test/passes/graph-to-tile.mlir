// RUN: npu-opt %s -p "graph-to-tile" | filecheck %s

// Rows in two tiles: a loop that loads, computes and stores. The last tile is clamped by its window.

builtin.module attributes {npu.target = #npu.target<"edge256">} {
  func.func @main(%x: tensor<6x4xi32>, %y: tensor<1x4xi32>) -> tensor<6x4xi32> {
    %z = graph.group %x, %y {kind = "vector", npu.memory = "dram", npu.mapping = {axis = 0 : i64, chunk = 4 : i64}} {
    ^bb0(%a: tensor<6x4xi32>, %b: tensor<1x4xi32>):
      %0 = graph.add %a, %b : (tensor<6x4xi32>, tensor<1x4xi32>) -> tensor<6x4xi32>
      graph.yield %0 : tensor<6x4xi32>
    } : (tensor<6x4xi32>, tensor<1x4xi32>) -> tensor<6x4xi32>
    func.return %z : tensor<6x4xi32>
  }
  func.func @rows(%x: tensor<6x4xi32>, %i: tensor<3xi32>) -> tensor<6x4xi32> {
    %y = graph.group %x, %i {kind = "move", npu.memory = "spm"} {
    ^bb0(%a: tensor<6x4xi32>, %b: tensor<3xi32>):
      %0 = graph.gather %a, %b : (tensor<6x4xi32>, tensor<3xi32>) -> tensor<3x4xi32>
      graph.yield %0 : tensor<3x4xi32>
    } : (tensor<6x4xi32>, tensor<3xi32>) -> tensor<3x4xi32>
    %z = graph.group %x, %i, %y {kind = "vector", npu.memory = "dram", npu.mapping = {rows = 4 : i64, elements = 4 : i64, count = 3 : i64}} {
    ^bb0(%a: tensor<6x4xi32>, %b: tensor<3xi32>, %c: tensor<3x4xi32>):
      %0 = graph.scatter %a, %b, %c {kind = "add"} : (tensor<6x4xi32>, tensor<3xi32>, tensor<3x4xi32>) -> tensor<6x4xi32>
      graph.yield %0 : tensor<6x4xi32>
    } : (tensor<6x4xi32>, tensor<3xi32>, tensor<3x4xi32>) -> tensor<6x4xi32>
    func.return %z : tensor<6x4xi32>
  }
}

// CHECK: func.func @main(%{{.*}}: memref<6x4xi32, "dram">, %{{.*}}: memref<1x4xi32, "dram">, %{{.*}}: memref<6x4xi32, "dram">)
// CHECK: tile.for %{{.*}} to 1 {
// CHECK-NEXT: tile.for %{{.*}} to 2 {
// CHECK-NEXT: tile.view %{{.*}}[%{{.*}} * 4 : 4, 0 : 4]
// CHECK-NEXT: tile.alloc like
// CHECK-NEXT: tile.copy
// CHECK-NEXT: tile.wait
// CHECK: tile.vector ins(
// CHECK-NEXT: tile.copy
// CHECK-NEXT: tile.wait

// A gather reads dram itself; a scatter takes tiles of rows through the scratchpad.

// CHECK: func.func @rows(
// CHECK: tile.gather ins({{.*}} : memref<6x4xi32, "dram">, memref<3xi32, "dram">) out(%{{.*}} : memref<3x4xi32, "spm">)
// CHECK: tile.for %{{.*}} to 2 {
// CHECK: tile.copy
// CHECK: tile.scatter ins({{.*}} : memref<3xi32, "spm">, memref<3x4xi32, "spm">) out(%{{.*}} : memref<4x4xi32, "spm">) window [%{{.*}} * 4 : 4] {kind = "add"}
// CHECK-NEXT: tile.copy
// CHECK-NEXT: tile.wait
