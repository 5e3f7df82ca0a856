// RUN: npu-opt %s -p tile-pack-constants --target edge256 | filecheck %s

// Copies of two and of four elements begin and end with whole bytes.
func.func @whole(%out: memref<2x4xi8, "dram">) attributes {npu.input_names = [], npu.output_names = ["out"]} {
  %w = tile.constant {value = #graph.blob<i8, [2, 4], [1, 2, 3, 4, 5, 6, 7, 0]>, npu.packed = "i4"} : memref<2x4xi8, "dram"> loc("w")
  %x = tile.alloc {label = "x"} : memref<2x2xi8, "spm"> loc("w")
  %v = tile.view %w[0 : 2, 2 : 2] : memref<2x4xi8, "dram"> loc("w")
  %t = tile.copy %v to %x : memref<2x2xi8, "dram"> to memref<2x2xi8, "spm"> loc("w")
  tile.wait %t
  func.return
}
// CHECK: func.func @whole
// CHECK: tile.constant
// CHECK-SAME: npu.packed = "i4"

// A copy that begins with the second element does not.
func.func @cut(%out: memref<2x4xi8, "dram">) attributes {npu.input_names = [], npu.output_names = ["out"]} {
  %w = tile.constant {value = #graph.blob<i8, [2, 4], [1, 2, 3, 4, 5, 6, 7, 0]>, npu.packed = "i4"} : memref<2x4xi8, "dram"> loc("w")
  %x = tile.alloc {label = "x"} : memref<2x2xi8, "spm"> loc("w")
  %v = tile.view %w[0 : 2, 1 : 2] : memref<2x4xi8, "dram"> loc("w")
  %t = tile.copy %v to %x : memref<2x2xi8, "dram"> to memref<2x2xi8, "spm"> loc("w")
  tile.wait %t
  func.return
}
// CHECK: func.func @cut
// CHECK: tile.constant
// CHECK-NOT: npu.packed
// CHECK-SAME: memref<2x4xi8, "dram">
