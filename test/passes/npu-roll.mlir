// RUN: npu-opt %s -p "npu-sync,npu-roll" | filecheck %s

// Addresses and counts that advance by constant steps become steps of a repeat; the first trip of
// the loop is irregular, since nothing has to be waited for yet.
npu.program @main target <"edge256"> dram_size 4096 inputs [] outputs [] constants [] kernels [#npu.kernel<"(t0: i8) -> i8:">] host_functions [] {
  npu.dma_copy source = <dram, 0x0, i8, [64], [1]>, destination = <spm, 0x0, i8, [64], [1]> loc("a")
  npu.vector a = <spm, 0x0, i8, [64], [1]>, output = <spm, 0x80, i8, [64], [1]>, kernel = 0 loc("a")
  npu.dma_copy source = <dram, 0x40, i8, [64], [1]>, destination = <spm, 0x0, i8, [64], [1]> loc("a")
  npu.vector a = <spm, 0x0, i8, [64], [1]>, output = <spm, 0xc0, i8, [64], [1]>, kernel = 0 loc("a")
  npu.dma_copy source = <dram, 0x80, i8, [64], [1]>, destination = <spm, 0x0, i8, [64], [1]> loc("a")
  npu.vector a = <spm, 0x0, i8, [64], [1]>, output = <spm, 0x100, i8, [64], [1]>, kernel = 0 loc("a")
  npu.dma_copy source = <dram, 0xc0, i8, [64], [1]>, destination = <spm, 0x0, i8, [64], [1]> loc("a")
  npu.vector a = <spm, 0x0, i8, [64], [1]>, output = <spm, 0x140, i8, [64], [1]>, kernel = 0 loc("a")
}

// CHECK: npu.dma_copy source = <dram, 0x0,
// CHECK-NEXT: npu.repeat 3 {
// CHECK-NEXT: npu.vector a = <spm, 0x0, i8, [64], [1]>, output = <spm, 0x80, {{.*}}waits = {dma: 1}, address_steps = [0, 64], wait_steps = [1]
// CHECK-NEXT: npu.dma_copy source = <dram, 0x40, {{.*}}waits = {vpu: 1}, address_steps = [64, 0], wait_steps = [1]
// CHECK-NEXT: }
// CHECK-NEXT: npu.vector a
