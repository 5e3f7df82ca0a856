// RUN: npu-opt %s --split-input-file --verify-diagnostics | filecheck %s

// A copy's operands must have the same extents.
npu.program @main target <"edge256"> dram_size 64 inputs [] outputs [] constants [] kernels [] host_functions [] {
  npu.dma_copy source = <dram, 0x0, i8, [4], [1]>, destination = <spm, 0x0, i8, [5], [1]>
}
// CHECK: a copy's operands must have the same extents and type, found i8 (4,) and i8 (5,)

// -----

// A field must fit its bits.
npu.program @main target <"edge256"> dram_size 64 inputs [] outputs [] constants [] kernels [] host_functions [] {
  npu.dma_fill destination = <spm, 0x0, i8, [4], [1]>, bits = 0, core = 16
}
// CHECK: must lie in [0, 15] (4 bits), found 16

// -----

// The array reads the scratchpad only.
npu.program @main target <"edge256"> dram_size 64 inputs [] outputs [] constants [] kernels [] host_functions [] {
  npu.vector a = <dram, 0x0, i8, [4], [1]>, output = <spm, 0x0, i8, [4], [1]>, kernel = 0
}
// CHECK: must lie in spm, found dram

// -----

// An instruction waits for an engine once.
npu.program @main target <"edge256"> dram_size 64 inputs [] outputs [] constants [] kernels [] host_functions [] {
  npu.dma_fill destination = <spm, 0x0, i8, [4], [1]>, bits = 0, waits = {mxu: 1, mxu: 2}
}
// CHECK: an instruction must wait for each engine at most once

// -----

// A wait names an engine.
npu.program @main target <"edge256"> dram_size 64 inputs [] outputs [] constants [] kernels [] host_functions [] {
  npu.dma_fill destination = <spm, 0x0, i8, [4], [1]>, bits = 0, waits = {gpu: 1}
}
// CHECK: an engine must be one of dma, mxu, vpu, host, io, found gpu

// -----

// An instruction has its own fields only.
npu.program @main target <"edge256"> dram_size 64 inputs [] outputs [] constants [] kernels [] host_functions [] {
  npu.dma_fill destination = <spm, 0x0, i8, [4], [1]>, bits = 0, kernel = 1
}
// CHECK: npu.dma_fill must have only its own fields, found kernel

// -----

// A memory must exist.
npu.program @main target <"edge256"> dram_size 64 inputs [] outputs [] constants [] kernels [] host_functions [] {
  npu.dma_fill destination = <l2, 0x0, i8, [4], [1]>, bits = 0
}
// CHECK: a memory must be one of dram, spm, acc, found l2

// -----

// A kernel's micro-operations must exist.
npu.program @main target <"edge256"> dram_size 64 inputs [] outputs [] constants [] kernels [#npu.kernel<"(t0: i8) -> i8: v0 = foo.i32 t0">] host_functions [] {
}
// CHECK: a kernel's step must be a known micro-operation, found foo.i32

// -----

// An instruction in a repeat says how its operands move.
npu.program @main target <"edge256"> dram_size 64 inputs [] outputs [] constants [] kernels [] host_functions [] {
  npu.repeat 2 {
    npu.dma_fill destination = <spm, 0x0, i8, [4], [1]>, bits = 0
  }
}
// CHECK: npu.dma_fill in a repeat must have 1 address steps
