// RUN: npu-opt %s -p "npu-verify" --split-input-file --verify-diagnostics | filecheck %s

// Nothing makes the vector unit wait for the copy.
npu.program @main target <"edge256"> dram_size 4096 inputs [#npu.binding<"x", #npu.operand<dram, 0x0, i8, [64], [1]>, tensor<64xi8>>] outputs [] constants [] kernels [#npu.kernel<"(t0: i8) -> i8:">] host_functions [] {
  npu.dma_copy source = <dram, 0x0, i8, [64], [1]>, destination = <spm, 0x0, i8, [64], [1]> loc("load1")
  npu.vector a = <spm, 0x0, i8, [64], [1]>, output = <spm, 0x40, i8, [64], [1]>, kernel = 0 loc("relu1")
}
// CHECK: error[NPU0603]: relu1 (instruction 1): npu.vector: must wait for what touches the same bytes and may not be complete
// CHECK-SAME: found it reads spm near 0x0, which instruction 0 (npu.dma_copy of load1) writes

// -----

// With the wait it is proved.
npu.program @main target <"edge256"> dram_size 4096 inputs [#npu.binding<"x", #npu.operand<dram, 0x0, i8, [64], [1]>, tensor<64xi8>>] outputs [] constants [] kernels [#npu.kernel<"(t0: i8) -> i8:">] host_functions [] {
  npu.dma_copy source = <dram, 0x0, i8, [64], [1]>, destination = <spm, 0x0, i8, [64], [1]> loc("load1")
  npu.vector a = <spm, 0x0, i8, [64], [1]>, output = <spm, 0x40, i8, [64], [1]>, kernel = 0, waits = {dma: 1} loc("relu1")
}
// CHECK: npu.program @main

// -----

// Bytes that nothing wrote, and an output that is not written.
npu.program @main target <"edge256"> dram_size 4096 inputs [] outputs [#npu.binding<"y", #npu.operand<dram, 0x40, i8, [64], [1]>, tensor<64xi8>>] constants [] kernels [] host_functions [] {
  npu.dma_copy source = <dram, 0x0, i8, [64], [1]>, destination = <spm, 0x0, i8, [64], [1]> loc("load1")
}
// CHECK: error[NPU0602]: load1 (instruction 0): npu.dma_copy: must read only bytes that were written before; found 64 bytes of dram from 0x0
// CHECK: error[NPU0602]: y: an output must be written by the program; found 64 bytes of dram from 0x40

// -----

// A state is there from the start, and a program that only reads it does not write it.
npu.program @main target <"edge256"> dram_size 4096 inputs [] outputs [] states [#npu.state<"h", #npu.operand<dram, 0x40, i8, [64], [1]>, tensor<64xi8>, "read", unit>] constants [] kernels [] host_functions [] {
  npu.dma_copy source = <dram, 0x40, i8, [64], [1]>, destination = <spm, 0x0, i8, [64], [1]> loc("load1")
  npu.dma_copy source = <spm, 0x0, i8, [64], [1]>, destination = <dram, 0x40, i8, [64], [1]>, waits = {dma: 1} loc("store1")
}
// CHECK: error[NPU0601]: store1 (instruction 1): npu.dma_copy: must not write a state that the program only reads; found [0x40, 0x80), state h is [0x40, 0x80)

// -----

// What one program keeps, another one leaves alone.
npu.program @keeps target <"edge256"> dram_size 4096 inputs [] outputs [] states [#npu.state<"h", #npu.operand<dram, 0x40, i8, [64], [1]>, tensor<64xi8>, "read", unit>] constants [] kernels [] host_functions [] {
  npu.dma_copy source = <dram, 0x40, i8, [64], [1]>, destination = <spm, 0x0, i8, [64], [1]> loc("load1")
}
npu.program @writes target <"edge256"> dram_size 4096 inputs [] outputs [] constants [] kernels [] host_functions [] {
  npu.dma_fill destination = <dram, 0x78, u8, [64], [1]>, bits = 0 loc("clear")
}
// CHECK: error[NPU0601]: clear (instruction 0): npu.dma_fill: must not write what another program of the module keeps; found [0x78, 0xb8), state h of @keeps is [0x40, 0x80)
