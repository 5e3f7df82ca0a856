// RUN: npu-opt %s -p "tile-allocate" --split-input-file --verify-diagnostics | filecheck %s

// Slots are rounded up to 16 bytes and follow each other. The tensor between the nests keeps its
// place; the buffers of the two nests would share theirs, but there is room to load ahead.
builtin.module attributes {npu.target = #npu.target<"edge256">} {
  func.func @main(%in: memref<4x100xi8, "dram">, %out: memref<4x100xi8, "dram">) attributes {npu.input_names = ["in"], npu.output_names = ["out"]} {
    %w = tile.constant {value = #graph.blob<i8, [2], [1, 2]>} : memref<2xi8, "dram"> loc("w")
    %kept = tile.alloc {label = "kept"} : memref<4x100xi8, "spm"> loc("first")
    %far = tile.alloc {label = "far"} : memref<4x100xi8, "dram"> loc("first")
    tile.for %i to 4 {
      %v = tile.view %in[%i : 1, 0 : 100] : memref<4x100xi8, "dram"> loc("first")
      %x = tile.alloc like(%v : memref<1x100xi8, "dram">) {depth = 2, label = "x"} : memref<1x100xi8, "spm"> loc("first")
      %t = tile.copy %v to %x : memref<1x100xi8, "dram"> to memref<1x100xi8, "spm"> loc("first")
      tile.wait %t
      %k = tile.view %kept[%i : 1, 0 : 100] : memref<4x100xi8, "spm"> loc("first")
      tile.vector ins(%x : memref<1x100xi8, "spm">) out(%k : memref<1x100xi8, "spm">) {kernel = #npu.kernel<"(t0: i8) -> i8:">} loc("first")
    }
    %t2 = tile.copy %kept to %far : memref<4x100xi8, "spm"> to memref<4x100xi8, "dram"> loc("second")
    %t3 = tile.copy %kept to %out : memref<4x100xi8, "spm"> to memref<4x100xi8, "dram"> loc("second")
    tile.wait %t2, %t3
    func.return
  }
}
// CHECK: tile.alloc {label = "kept", offset = 0} : memref<4x100xi8, "spm">
// CHECK: tile.alloc {label = "far", offset = 960} : memref<4x100xi8, "dram">
// CHECK: tile.alloc like(%{{.*}}) {depth = 2, label = "x", offset = 400}

// -----

// What cannot fit is refused, with what is live and how much of it.
builtin.module attributes {npu.target = #npu.target<"edge256">} {
  func.func @main(%in: memref<300000xi8, "dram">, %out: memref<300000xi8, "dram">) attributes {npu.input_names = ["in"], npu.output_names = ["out"]} {
    %x = tile.alloc {label = "x"} : memref<300000xi8, "spm"> loc("relu1")
    %y = tile.alloc {label = "y"} : memref<300000xi8, "spm"> loc("relu1")
    %t = tile.copy %in to %x : memref<300000xi8, "dram"> to memref<300000xi8, "spm"> loc("relu1")
    tile.wait %t
    tile.vector ins(%x : memref<300000xi8, "spm">) out(%y : memref<300000xi8, "spm">) {kernel = #npu.kernel<"(t0: i8) -> i8:">} loc("relu1")
    %u = tile.copy %y to %out : memref<300000xi8, "spm"> to memref<300000xi8, "dram"> loc("relu1")
    tile.wait %u
    func.return
  }
}
// CHECK: error[NPU0304]: relu1: the buffers that are live at once must fit in the 524288 bytes of spm
// CHECK-SAME: found 600000 bytes are live at once, which no placement can avoid
// CHECK-SAME: live at the peak: relu1 600,000 (x 300,000, y 300,000)
// CHECK-SAME: try keeping x of relu1 in dram (memory = "dram" for it among the overrides; 300,000 bytes less; 600,000 more bytes to move, 160,000 cycles)
// CHECK-SAME: or a target with 600,000 bytes of spm
