// RUN: npu-opt %s | filecheck %s
// RUN: npu-opt %s --generic | filecheck %s --check-prefix GENERIC

// Views are no work: they change how a buffer is seen.

func.func @main(%a : memref<6x8x4xi8, "dram">, %s : memref<1x4xi8, "dram">) {
  %back = tile.view %a[5 : 3 : -2, 0 : 8, 0 : 4] : memref<6x8x4xi8, "dram">
  %flat = tile.reshape %a : memref<6x8x4xi8, "dram"> to memref<48x4xi8, "dram">
  %turned = tile.transpose %flat {permutation = [1, 0]} : memref<48x4xi8, "dram"> to memref<4x48xi8, "dram">
  %wide = tile.broadcast %s : memref<1x4xi8, "dram"> to memref<6x8x4xi8, "dram">
  %odd = tile.strided %a {offset = 1, strides = [1, 4]} : memref<6x8x4xi8, "dram"> to memref<2x48xi8, "dram">
  %runs = tile.unfold %a {size = 3, step = 2} : memref<6x8x4xi8, "dram"> to memref<6x3x12xi8, "dram">
  tile.for %i to 2 {
    %part = tile.view %turned[0 : 4, %i * 32 : 32] : memref<4x48xi8, "dram">
  } loc("layer")
  func.return
}

// CHECK: %back = tile.view %a[5 : 3 : -2, 0 : 8, 0 : 4] : memref<6x8x4xi8, "dram">
// CHECK-NEXT: %flat = tile.reshape %a : memref<6x8x4xi8, "dram"> to memref<48x4xi8, "dram">
// CHECK-NEXT: %turned = tile.transpose %flat {permutation = [1, 0]} : memref<48x4xi8, "dram"> to memref<4x48xi8, "dram">
// CHECK-NEXT: %wide = tile.broadcast %s : memref<1x4xi8, "dram"> to memref<6x8x4xi8, "dram">
// CHECK-NEXT: %odd = tile.strided %a {offset = 1, strides = [1, 4]} : memref<6x8x4xi8, "dram"> to memref<2x48xi8, "dram">
// CHECK-NEXT: %runs = tile.unfold %a {size = 3, step = 2} : memref<6x8x4xi8, "dram"> to memref<6x3x12xi8, "dram">
// CHECK-NEXT: tile.for %i to 2 {
// CHECK-NEXT: %part = tile.view %turned[0 : 4, %i * 32 : 32] : memref<4x48xi8, "dram">

// GENERIC: "tile.view"(%a) <{windows = [#tile.window<5 : 3 : -2>, #tile.window<0 : 8>, #tile.window<0 : 4>]}>
// GENERIC: "tile.transpose"(%flat) <{permutation = array<i64: 1, 0>}>
// GENERIC: "tile.view"(%i, %turned) <{windows = [#tile.window<0 : 4>, #tile.window<d0 * 32 : 32>]}>
