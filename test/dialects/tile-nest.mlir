// RUN: npu-opt %s | filecheck %s

// A convolution with padding, cut into tiles of rows and into parts of its sum. Edge tiles are
// smaller than the types say: `like` carries the extents from the views to the buffers.

func.func @main(%image : memref<30x32x16xi8, "dram">, %out : memref<30x32x8xi8, "dram">) {
  %w = tile.constant {value = #graph.blob<i8, [1, 1, 16, 2], [
    1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28,
    29, 30, 31, 32]>} : memref<1x1x16x2xi8, "dram">
  tile.for %i to 4 {
    tile.for %o to 4 {
      %y = tile.view %out[%i * 8 : 8, 0 : 32, %o * 2 : 2] : memref<30x32x8xi8, "dram">
      %ys = tile.alloc like(%y : memref<8x32x2xi8, "dram">) {depth = 2, label = "y"} : memref<8x32x2xi8, "spm">
      %acc = tile.alloc like(%y : memref<8x32x2xi8, "dram">) : memref<8x32x2xi32, "acc">
      tile.for %k to 2 {
        %x = tile.view %image[%i * 8 - 1 : 8, 0 : 32, %k * 8 : 8] : memref<30x32x16xi8, "dram">
        %xs = tile.alloc like(%x : memref<8x32x8xi8, "dram">) {depth = 2} : memref<8x32x8xi8, "spm">
        %wv = tile.view %w[0 : 1, 0 : 1, %k * 8 : 8, 0 : 2] : memref<1x1x16x2xi8, "dram">
        %ws = tile.alloc like(%wv : memref<1x1x8x2xi8, "dram">) : memref<1x1x8x2xi8, "spm">
        %t0 = tile.copy %x to %xs : memref<8x32x8xi8, "dram"> to memref<8x32x8xi8, "spm">
        %t1 = tile.copy %wv to %ws : memref<1x1x8x2xi8, "dram"> to memref<1x1x8x2xi8, "spm">
        tile.wait %t0, %t1
        tile.conv2d ins(%xs, %ws : memref<8x32x8xi8, "spm">, memref<1x1x8x2xi8, "spm">)
          acc(%acc : memref<8x32x2xi32, "acc">) out(%ys : memref<8x32x2xi8, "spm">)
          window [%i * 8 - 1 : 8, 0 : 32] reduction [%k]
          {kernel = #npu.kernel<"(t0: i32) -> i8: v0 = clamp.i32 t0 {low=-128, high=127}">, x_zero = 3}
      }
      %t2 = tile.copy %ys to %y : memref<8x32x2xi8, "spm"> to memref<8x32x2xi8, "dram">
      tile.wait %t2
    }
  }
  func.return
}

// CHECK: func.func @main(%image: memref<30x32x16xi8, "dram">
// CHECK-NEXT: %w = tile.constant {value = #graph.blob<i8, [1, 1, 16, 2], [1, 2
// CHECK-NEXT: tile.for %i to 4 {
// CHECK-NEXT: tile.for %o to 4 {
// CHECK-NEXT: %y = tile.view %out[%i * 8 : 8, 0 : 32, %o * 2 : 2] : memref<30x32x8xi8, "dram">
// CHECK-NEXT: %ys = tile.alloc like(%y : memref<8x32x2xi8, "dram">) {depth = 2, label = "y"} : memref<8x32x2xi8, "spm">
// CHECK-NEXT: %acc = tile.alloc like(%y : memref<8x32x2xi8, "dram">) : memref<8x32x2xi32, "acc">
// CHECK-NEXT: tile.for %k to 2 {
// CHECK-NEXT: %x = tile.view %image[%i * 8 - 1 : 8, 0 : 32, %k * 8 : 8]
// CHECK: tile.wait %t0, %t1
// CHECK-NEXT: tile.conv2d ins(%xs, %ws : memref<8x32x8xi8, "spm">, memref<1x1x8x2xi8, "spm">) acc(%acc : memref<8x32x2xi32, "acc">) out(%ys : memref<8x32x2xi8, "spm">) window [%i * 8 - 1 : 8, 0 : 32] reduction [%k] {kernel =
// CHECK-NEXT: }
// CHECK-NEXT: %t2 = tile.copy %ys to %y
// CHECK-NEXT: tile.wait %t2
