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

// What is coded has a stream for each block that is copied, here of both rows; elements that are all the same take few bytes.
func.func @coded(%out: memref<2x4xi32, "dram">) attributes {npu.input_names = [], npu.output_names = ["out"]} {
  %p = tile.constant {value = #graph.blob<i32, [2, 4], [7, 7, 7, 7, 7, 7, 7, 7]>, npu.packed = "rice"} : memref<2x4xi32, "dram"> loc("p")
  %x = tile.alloc {label = "x"} : memref<2x3xi32, "spm"> loc("p")
  %v = tile.view %p[0 : 2, 1 : 3] : memref<2x4xi32, "dram"> loc("p")
  %t = tile.copy %v to %x : memref<2x3xi32, "dram"> to memref<2x3xi32, "spm"> loc("p")
  tile.wait %t
  func.return
}
// CHECK: func.func @coded
// CHECK: tile.constant
// CHECK-SAME: npu.packed = "rice", npu.streams = [array<i64: 1, 3, 2, 3, 4, 1>]

// Numbers without order do not take fewer bytes.
func.func @random(%out: memref<4xi32, "dram">) attributes {npu.input_names = [], npu.output_names = ["out"]} {
  %p = tile.constant {value = #graph.blob<i32, [4], [1941832001, -812361, 70311721, -1984412345]>, npu.packed = "rice"} : memref<4xi32, "dram"> loc("p")
  %x = tile.alloc {label = "x"} : memref<4xi32, "spm"> loc("p")
  %t = tile.copy %p to %x : memref<4xi32, "dram"> to memref<4xi32, "spm"> loc("p")
  tile.wait %t
  func.return
}
// CHECK: func.func @random
// CHECK: tile.constant
// CHECK-NOT: npu.packed
// CHECK-SAME: memref<4xi32, "dram">

// Weights that the array reads in dram have a stream for each block that it reads, in the order in which they lie in the constant; parameters stay.
func.func @read(%out: memref<1x4xi32, "dram">) attributes {npu.input_names = [], npu.output_names = ["out"]} {
  %w = tile.constant {value = #graph.blob<i8, [4, 8], [1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1]>, npu.packed = "rice8"} : memref<4x8xi8, "dram"> loc("w")
  %p = tile.constant {value = #graph.blob<i32, [1, 4], [7, 7, 7, 7]>, npu.packed = "rice"} : memref<1x4xi32, "dram"> loc("p")
  %v = tile.transpose %w {permutation = [1, 0]} : memref<4x8xi8, "dram"> to memref<8x4xi8, "dram"> loc("w")
  %x = tile.alloc {label = "x"} : memref<1x8xi8, "spm"> loc("x")
  tile.fill %x {value = 1 : i8} : memref<1x8xi8, "spm"> loc("x")
  tile.for %i to 2 {
    %u = tile.view %v[0 : 8, %i * 2 : 2] : memref<8x4xi8, "dram"> loc("w")
    %q = tile.view %p[0 : 1, %i * 2 : 2] : memref<1x4xi32, "dram"> loc("p")
    %o = tile.view %out[0 : 1, %i * 2 : 2] : memref<1x4xi32, "dram"> loc("y")
    %y = tile.alloc {label = "y"} : memref<1x2xi32, "spm"> loc("y")
    tile.matmul ins(%x, %u : memref<1x8xi8, "spm">, memref<8x2xi8, "dram">) out(%y : memref<1x2xi32, "spm">) params(%q : memref<1x2xi32, "dram">) {kernel = #npu.kernel<"(t0: i32; p0: i32) -> i32: v0 = add.i32 t0, p0">} loc("y")
    %t = tile.copy %y to %o : memref<1x2xi32, "spm"> to memref<1x2xi32, "dram"> loc("y")
    tile.wait %t
  }
  func.return
}
// CHECK: func.func @read
// CHECK: tile.constant
// CHECK-SAME: npu.packed = "rice8", npu.streams = [array<i64: 0, 8, 16, 1>, array<i64: 16, 8, 16, 1>]
// CHECK-NEXT: tile.constant
// CHECK-NOT: npu.packed
// CHECK-SAME: memref<1x4xi32, "dram">
