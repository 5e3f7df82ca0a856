// RUN: npu-opt %s -p "npu-sync" | filecheck %s

// Two tiles through two slots: the second store of the vector unit reuses no slot, the third copy
// overwrites what the first vector instruction has read. The last copy waits for the vector unit
// alone, whose wait for the copy before it says the rest.

npu.program @main target <"edge256"> dram_size 4096 inputs [] outputs [] constants [] kernels [#npu.kernel<"(t0: i8) -> i8:">] host_functions [] {
  npu.dma_copy source = <dram, 0x0, i8, [64], [1]>, destination = <spm, 0x0, i8, [64], [1]> loc("a")
  npu.dma_copy source = <dram, 0x40, i8, [64], [1]>, destination = <spm, 0x40, i8, [64], [1]> loc("a")
  npu.vector a = <spm, 0x0, i8, [64], [1]>, output = <spm, 0x80, i8, [64], [1]>, kernel = 0 loc("a")
  npu.vector a = <spm, 0x40, i8, [64], [1]>, output = <spm, 0xc0, i8, [64], [1]>, kernel = 0 loc("a")
  npu.dma_copy source = <dram, 0x80, i8, [64], [1]>, destination = <spm, 0x0, i8, [64], [1]> loc("a")
  npu.dma_copy source = <spm, 0x80, i8, [64], [1]>, destination = <dram, 0x100, i8, [64], [1]> loc("a")
  npu.vector a = <spm, 0x0, i8, [64], [1]>, output = <spm, 0x80, i8, [64], [1]>, kernel = 0 loc("a")
}

// CHECK: npu.dma_copy source
// CHECK-NEXT: npu.dma_copy source
// CHECK-NEXT: npu.vector {{.*}}waits = {dma: 1}
// CHECK-NEXT: npu.vector {{.*}}waits = {dma: 2}
// CHECK-NEXT: npu.dma_copy {{.*}}waits = {vpu: 1}
// CHECK-NEXT: npu.dma_copy source
// CHECK-NEXT: npu.vector {{.*}}waits = {dma: 4}
