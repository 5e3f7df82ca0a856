// RUN: npu-opt %s -p graph-to-tile | filecheck %s

// A cascade is made in stripes: two rows of the last result, and before that what they need.

builtin.module attributes {npu.target = #npu.target<"mobile4k">} {
  func.func @main(%x: tensor<1x5x4x2xf32>) -> tensor<1x5x4x2xf32> attributes {npu.input_names = ["x"], npu.output_names = ["y"]} {
    %a = graph.group %x {kind = "vector", npu.cascade = {number = 0, rows = 2}, npu.memory = "rows", npu.held = 4, npu.input_held = 3, npu.mapping = {axis = 0, chunk = 32}} {
    ^bb0(%0: tensor<1x5x4x2xf32>):
      %1 = graph.relu %0 : (tensor<1x5x4x2xf32>) -> tensor<1x5x4x2xf32> loc("relu1")
      graph.yield %1 : tensor<1x5x4x2xf32>
    } : (tensor<1x5x4x2xf32>) -> tensor<1x5x4x2xf32> loc("relu1")
    %b = graph.group %a {kind = "vector", npu.cascade = {number = 0, rows = 2}, npu.memory = "dram", npu.mapping = {rows = 2, cols = 4, channels = 2, slots = 1}} {
    ^bb0(%2: tensor<1x5x4x2xf32>):
      %3 = graph.max_pool2d %2 {kernel = [3, 3], strides = [1, 1], pads = [1, 1, 1, 1], dilations = [1, 1]} : (tensor<1x5x4x2xf32>) -> tensor<1x5x4x2xf32> loc("pool1")
      graph.yield %3 : tensor<1x5x4x2xf32>
    } : (tensor<1x5x4x2xf32>) -> tensor<1x5x4x2xf32> loc("pool1")
    func.return %b : tensor<1x5x4x2xf32>
  }
}

// CHECK: func.func @main(%[[X:.*]]: memref<1x5x4x2xf32, "dram">, %[[Y:.*]]: memref<1x5x4x2xf32, "dram">)
// CHECK: %[[R:.*]] = tile.alloc {label = "relu1", part} : memref<1x4x4x2xf32, "spm">
// CHECK-NEXT: %[[I:.*]] = tile.alloc {label = "relu1", part} : memref<1x3x4x2xf32, "spm">

// The first stripe: rows 0 to 2 of the input, so many of relu1, padding above the rows 0 and 1 of pool1.

// CHECK-NEXT: tile.view %[[X]][0 : 1, 0 : 3, 0 : 4, 0 : 2]
// CHECK: tile.view %[[R]][0 : 1, 0 : 3, 0 : 4, 0 : 2]
// CHECK: tile.vector ins(%{{.*}} : memref<24xf32, "spm">) out(%{{.*}} : memref<24xf32, "spm">)
// CHECK-NEXT: tile.view %[[Y]][0 : 1, 0 : 2, 0 : 4, 0 : 2]
// CHECK: tile.pool2d {{.*}} window [-1 : 4, -1 : 6]

// The second one: rows 3 and 4 of the input. Rows 1 and 2 of relu1, which are read again, go to the start of its
// buffer, one by one as they may not overlap with where they go.

// CHECK: tile.view %[[X]][0 : 1, 3 : 2, 0 : 4, 0 : 2]
// CHECK: tile.view %[[R]][0 : 1, 1 : 1, 0 : 4, 0 : 2]
// CHECK-NEXT: tile.view %[[R]][0 : 1, 0 : 1, 0 : 4, 0 : 2]
// CHECK-NEXT: tile.copy %{{.*}} to %{{.*}} : memref<1x1x4x2xf32, "spm"> to memref<1x1x4x2xf32, "spm">
// CHECK-NEXT: tile.wait
// CHECK-NEXT: tile.view %[[R]][0 : 1, 2 : 1, 0 : 4, 0 : 2]
// CHECK-NEXT: tile.view %[[R]][0 : 1, 1 : 1, 0 : 4, 0 : 2]
// CHECK: tile.view %[[R]][0 : 1, 2 : 2, 0 : 4, 0 : 2]
// CHECK: tile.vector ins(%{{.*}} : memref<16xf32, "spm">) out(%{{.*}} : memref<16xf32, "spm">)
// CHECK: tile.pool2d {{.*}} window [0 : 4, -1 : 6]

// The last one: everything but the last row of pool1 is there; padding below it.

// CHECK: tile.view %[[Y]][0 : 1, 4 : 1, 0 : 4, 0 : 2]
// CHECK-NEXT: tile.view %[[R]][0 : 1, 2 : 2, 0 : 4, 0 : 2]
// CHECK-NOT: tile.vector
// CHECK: tile.pool2d {{.*}} window [0 : 3, -1 : 6]
