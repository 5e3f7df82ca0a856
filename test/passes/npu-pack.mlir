// RUN: npu-opt %s -p "npu-pack" | filecheck %s

// The value of the copy dies where the one of the second vector instruction begins, which takes its
// place; the tensor that is noted for those who look at it moves along.

npu.program @main target <"edge256"> dram_size 4096 inputs [] outputs [] constants [] kernels [#npu.kernel<"(t0: i8) -> i8:">] host_functions [] {
  npu.dma_copy source = <dram, 0x0, i8, [64], [1]>, destination = <spm, 0x1000, i8, [64], [1]> loc("a")
  npu.vector a = <spm, 0x1000, i8, [64], [1]>, output = <spm, 0x2000, i8, [64], [1]>, kernel = 0 loc("b")
  npu.vector a = <spm, 0x2000, i8, [64], [1]>, output = <spm, 0x3000, i8, [64], [1]>, kernel = 0 loc("c")
  npu.dma_copy source = <spm, 0x3000, i8, [64], [1]>, destination = <dram, 0x40, i8, [64], [1]> loc("c")
}

// CHECK: npu.dma_copy source = <dram, 0x0, i8, [64], [1]>, destination = <spm, 0x0, i8, [64], [1]>
// CHECK-NEXT: npu.vector a = <spm, 0x0, i8, [64], [1]>, output = <spm, 0x40, i8, [64], [1]>
// CHECK-NEXT: npu.vector a = <spm, 0x40, i8, [64], [1]>, output = <spm, 0x0, i8, [64], [1]>
// CHECK-NEXT: npu.dma_copy source = <spm, 0x0, i8, [64], [1]>, destination = <dram, 0x40, i8, [64], [1]>
