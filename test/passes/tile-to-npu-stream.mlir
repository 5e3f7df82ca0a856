// RUN: npu-opt %s -p "tile-pack-constants,tile-allocate,tile-to-npu{order=program}" | filecheck %s

// An array that reads dram takes weights and parameters where they lie: here 5 bytes of a stream for
// each 8 x 2 weights, which lie channel by channel once they are decoded.
builtin.module attributes {npu.target = #npu.target<"ethos_u55_256">} {
  func.func @main(%in: memref<1x8xi8, "dram">, %out: memref<1x4xi32, "dram">) attributes {npu.input_names = ["in"], npu.output_names = ["out"]} {
    %w = tile.constant {value = #graph.blob<i8, [4, 8], [1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1]>, npu.packed = "rice8"} : memref<4x8xi8, "dram"> loc("fc1")
    %p = tile.constant {value = #graph.blob<i32, [1, 4], [7, 7, 7, 7]>} : memref<1x4xi32, "dram"> loc("fc1")
    %v = tile.transpose %w {permutation = [1, 0]} : memref<4x8xi8, "dram"> to memref<8x4xi8, "dram"> loc("fc1")
    %x = tile.alloc {label = "x"} : memref<1x8xi8, "spm"> loc("fc1")
    %s = tile.copy %in to %x : memref<1x8xi8, "dram"> to memref<1x8xi8, "spm"> loc("fc1")
    tile.wait %s
    tile.for %i to 2 {
      %u = tile.view %v[0 : 8, %i * 2 : 2] : memref<8x4xi8, "dram"> loc("fc1")
      %q = tile.view %p[0 : 1, %i * 2 : 2] : memref<1x4xi32, "dram"> loc("fc1")
      %o = tile.view %out[0 : 1, %i * 2 : 2] : memref<1x4xi32, "dram"> loc("fc1")
      %y = tile.alloc {label = "y"} : memref<1x2xi32, "spm"> loc("fc1")
      tile.matmul ins(%x, %u : memref<1x8xi8, "spm">, memref<8x2xi8, "dram">) out(%y : memref<1x2xi32, "spm">) params(%q : memref<1x2xi32, "dram">) {kernel = #npu.kernel<"(t0: i32; p0: i32) -> i32: v0 = add.i32 t0, p0">} loc("fc1")
      %t = tile.copy %y to %o : memref<1x2xi32, "spm"> to memref<1x2xi32, "dram"> loc("fc1")
      tile.wait %t
    }
    func.return
  }
}
// CHECK: npu.dma_copy source = <dram, 0x4000000
// CHECK-NEXT: npu.matmul {{.*}}weights = <dram, 0x0, i8, [8, 2], [1, 8]>, params = <dram, 0x40, i32, [1, 2], [16, 4]>, {{.*}}stream = 5, row = 8
// CHECK-NEXT: npu.dma_copy source = <spm
// CHECK-NEXT: npu.matmul {{.*}}weights = <dram, 0x5, i8, [8, 2], [1, 8]>, params = <dram, 0x48, i32, [1, 2], [16, 4]>, {{.*}}stream = 5, row = 8
// CHECK-NEXT: npu.dma_copy source = <spm
