// RUN: npu-opt %s -p "tile-allocate,tile-to-npu{order=program}" | filecheck %s

// Loops are executed, buffers become addresses, slots alternate, dimensions merge where they are
// dense, and the last tile is smaller.
builtin.module attributes {npu.target = #npu.target<"edge256">} {
  func.func @main(%in: memref<3x40x4xi8, "dram">, %out: memref<3x40x4xi8, "dram">) attributes {npu.input_names = ["in"], npu.output_names = ["out"]} {
    tile.for %i to 2 {
      %v = tile.view %in[%i * 2 : 2, 0 : 40, 0 : 4] : memref<3x40x4xi8, "dram"> loc("relu1")
      %o = tile.view %out[%i * 2 : 2, 0 : 40, 0 : 4] : memref<3x40x4xi8, "dram"> loc("relu1")
      %x = tile.alloc like(%v : memref<2x40x4xi8, "dram">) {depth = 2} : memref<2x40x4xi8, "spm"> loc("relu1")
      %t = tile.copy %v to %x : memref<2x40x4xi8, "dram"> to memref<2x40x4xi8, "spm"> loc("relu1")
      tile.wait %t
      tile.vector ins(%x : memref<2x40x4xi8, "spm">) out(%x : memref<2x40x4xi8, "spm">) {kernel = #npu.kernel<"(t0: i8) -> i8:">} loc("relu1")
      %u = tile.copy %x to %o : memref<2x40x4xi8, "spm"> to memref<2x40x4xi8, "dram"> loc("relu1")
      tile.wait %u
    }
    tile.fill %out {value = -1 : i8} : memref<3x40x4xi8, "dram"> loc("fill")
    func.return
  }
}
// CHECK: npu.program @main target <"edge256"> dram_size 1024
// CHECK-SAME: inputs [#npu.binding<"in", #npu.operand<dram, 0x0, i8, [3, 40, 4], [160, 4, 1]>, tensor<3x40x4xi8>>]
// CHECK-SAME: outputs [#npu.binding<"out", #npu.operand<dram, 0x200, i8, [3, 40, 4], [160, 4, 1]>, tensor<3x40x4xi8>>]
// CHECK-NEXT: npu.dma_copy source = <dram, 0x0, i8, [320], [1]>, destination = <spm, 0x0, i8, [320], [1]>
// CHECK-NEXT: npu.vector {{.*}}output = <spm, 0x0, i8, [320], [1]>
// CHECK-NEXT: npu.dma_copy source = <spm, 0x0, i8, [320], [1]>, destination = <dram, 0x200, i8, [320], [1]>
// CHECK-NEXT: npu.dma_copy source = <dram, 0x140, i8, [160], [1]>, destination = <spm, 0x140, i8, [160], [1]>
// CHECK-NEXT: npu.vector
// CHECK-NEXT: npu.dma_copy source = <spm, 0x140, i8, [160], [1]>, destination = <dram, 0x340, i8, [160], [1]>
// CHECK-NEXT: npu.dma_fill destination = <dram, 0x200, i8, [480], [1]>, bits = 255
