// RUN: npu-opt %s | filecheck %s

// One of each operation that computes.

func.func private @sort(tensor<8xf32>) -> tensor<8xi64>

func.func @main(%scores : memref<8xf32, "dram">, %order : memref<8xi64, "dram">) {
  %x = tile.alloc : memref<8x8x4xi8, "spm">
  tile.fill %x {value = -3 : i8} : memref<8x8x4xi8, "spm">
  %w = tile.alloc : memref<3x3x4xi8, "spm">
  %a = tile.alloc : memref<8x8x4xi32, "acc">
  tile.depthwise_conv2d ins(%x, %w : memref<8x8x4xi8, "spm">, memref<3x3x4xi8, "spm">)
    acc(%a : memref<8x8x4xi32, "acc">) window [-1 : 10, -1 : 10] {w_zero = 2}
  %m = tile.alloc : memref<4x8xf32, "spm">
  %n = tile.alloc : memref<8x2xf32, "spm">
  %s = tile.alloc : memref<4x2xf32, "acc">
  tile.matmul ins(%m, %n : memref<4x8xf32, "spm">, memref<8x2xf32, "spm">) acc(%s : memref<4x2xf32, "acc">)
  tile.vector ins(%x : memref<8x8x4xi8, "spm">) out(%x : memref<8x8x4xi8, "spm">)
    {kernel = #npu.kernel<"(t0: i8) -> i8: v0 = neg.i32 t0">}
  %r = tile.alloc : memref<1x1x4xi32, "spm">
  tile.reduce ins(%x : memref<8x8x4xi8, "spm">) out(%r : memref<1x1x4xi32, "spm">) {kind = "sum", axes = [0, 1]}
  %p = tile.alloc : memref<4x4x4xi8, "spm">
  tile.pool2d ins(%x : memref<8x8x4xi8, "spm">) out(%p : memref<4x4x4xi8, "spm">) window [0 : 8, 0 : 8]
    {kind = "max", size = [2, 2], strides = [2, 2]}
  %t = tile.alloc : memref<16x4xi8, "dram">
  tile.fill %t {value = 0 : i8} : memref<16x4xi8, "dram">
  %i = tile.alloc : memref<3xi32, "spm">
  tile.fill %i {value = 7 : i32} : memref<3xi32, "spm">
  %u = tile.alloc : memref<3x4xi8, "spm">
  tile.gather ins(%t, %i : memref<16x4xi8, "dram">, memref<3xi32, "spm">) out(%u : memref<3x4xi8, "spm">)
  %y = tile.alloc : memref<8x4xi8, "spm">
  tile.fill %y {value = 1 : i8} : memref<8x4xi8, "spm">
  tile.scatter ins(%i, %u : memref<3xi32, "spm">, memref<3x4xi8, "spm">) out(%y : memref<8x4xi8, "spm">)
    window [0 : 8] {kind = "set"}
  tile.host ins(%scores : memref<8xf32, "dram">) outs(%order : memref<8xi64, "dram">) {callee = @sort}
  func.return
}

// CHECK: tile.fill %x {value = -3 : i8} : memref<8x8x4xi8, "spm">
// CHECK: tile.depthwise_conv2d ins(%x, %w : memref<8x8x4xi8, "spm">, memref<3x3x4xi8, "spm">) acc(%a : memref<8x8x4xi32, "acc">) window [-1 : 10, -1 : 10] {w_zero = 2}
// CHECK: tile.matmul ins(%m, %n : memref<4x8xf32, "spm">, memref<8x2xf32, "spm">) acc(%s : memref<4x2xf32, "acc">)
// CHECK-NEXT: tile.vector ins(%x : memref<8x8x4xi8, "spm">) out(%x : memref<8x8x4xi8, "spm">) {kernel = #npu.kernel<"(t0: i8) -> i8: v0 = neg.i32 t0">}
// CHECK: tile.reduce ins(%x : memref<8x8x4xi8, "spm">) out(%r : memref<1x1x4xi32, "spm">) {kind = "sum", axes = [0, 1]}
// CHECK: tile.pool2d ins(%x : memref<8x8x4xi8, "spm">) out(%p : memref<4x4x4xi8, "spm">) window [0 : 8, 0 : 8] {kind = "max", size = [2, 2], strides = [2, 2]}
// CHECK: tile.gather ins(%t, %i : memref<16x4xi8, "dram">, memref<3xi32, "spm">) out(%u : memref<3x4xi8, "spm">)
// CHECK: tile.scatter ins(%i, %u : memref<3xi32, "spm">, memref<3x4xi8, "spm">) out(%y : memref<8x4xi8, "spm">) window [0 : 8] {kind = "set"}
// CHECK-NEXT: tile.host ins(%scores : memref<8xf32, "dram">) outs(%order : memref<8xi64, "dram">) {callee = @sort}
