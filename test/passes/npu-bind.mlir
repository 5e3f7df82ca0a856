// RUN: npu-opt %s -p "npu-bind" | filecheck %s

// What is only copied to the scratchpad and from it lies there itself.

// CHECK: npu.program @both
// CHECK-SAME: inputs [#npu.binding<"x", #npu.operand<spm, 0x80, i8, [64], [1]>, tensor<64xi8>>]
// CHECK-SAME: outputs [#npu.binding<"y", #npu.operand<spm, 0xc0, i8, [64], [1]>, tensor<64xi8>>]
// CHECK-NEXT: npu.vector a = <spm, 0x80
// CHECK-NEXT: }
npu.program @both target <"ethos_u55_256"> dram_size 67108992 inputs [#npu.binding<"x", #npu.operand<dram, 0x4000000, i8, [64], [1]>, tensor<64xi8>>] outputs [#npu.binding<"y", #npu.operand<dram, 0x4000040, i8, [64], [1]>, tensor<64xi8>>] constants [] kernels [#npu.kernel<"(t0: i8) -> i8:">] host_functions [] {
  npu.dma_copy source = <dram, 0x4000000, i8, [32], [1]>, destination = <spm, 0x80, i8, [32], [1]>
  npu.dma_copy source = <dram, 0x4000020, i8, [32], [1]>, destination = <spm, 0xa0, i8, [32], [1]>
  npu.vector a = <spm, 0x80, i8, [64], [1]>, output = <spm, 0xc0, i8, [64], [1]>, kernel = 0
  npu.dma_copy source = <spm, 0xc0, i8, [64], [1]>, destination = <dram, 0x4000040, i8, [64], [1]>
}

// A place that is taken before keeps its copy; so does an output whose place is written again, and
// what comes in two parts that lie apart.

// CHECK: npu.program @neither
// CHECK-SAME: inputs [#npu.binding<"x", #npu.operand<dram, 0x4000000, {{.*}}#npu.binding<"z", #npu.operand<dram, 0x4000080,
// CHECK-SAME: outputs [#npu.binding<"y", #npu.operand<dram, 0x4000040,
// CHECK-COUNT-4: npu.dma_copy
npu.program @neither target <"ethos_u55_256"> dram_size 67109056 inputs [#npu.binding<"x", #npu.operand<dram, 0x4000000, i8, [64], [1]>, tensor<64xi8>>, #npu.binding<"z", #npu.operand<dram, 0x4000080, i8, [64], [1]>, tensor<64xi8>>] outputs [#npu.binding<"y", #npu.operand<dram, 0x4000040, i8, [64], [1]>, tensor<64xi8>>] constants [] kernels [#npu.kernel<"(t0: i8) -> i8:">] host_functions [] {
  npu.dma_copy source = <dram, 0x4000080, i8, [32], [1]>, destination = <spm, 0x80, i8, [32], [1]>
  npu.dma_copy source = <dram, 0x40000a0, i8, [32], [1]>, destination = <spm, 0x200, i8, [32], [1]>
  npu.vector a = <spm, 0x80, i8, [32], [1]>, output = <spm, 0xa0, i8, [32], [1]>, kernel = 0
  npu.dma_copy source = <dram, 0x4000000, i8, [64], [1]>, destination = <spm, 0x80, i8, [64], [1]>
  npu.vector a = <spm, 0x80, i8, [64], [1]>, output = <spm, 0xc0, i8, [64], [1]>, kernel = 0
  npu.dma_copy source = <spm, 0xc0, i8, [64], [1]>, destination = <dram, 0x4000040, i8, [64], [1]>
  npu.vector a = <spm, 0x80, i8, [64], [1]>, output = <spm, 0xc0, i8, [64], [1]>, kernel = 0
}

// Where dram is a memory of its own, the caller finds inputs and outputs there.

// CHECK: npu.program @apart
// CHECK-SAME: inputs [#npu.binding<"x", #npu.operand<dram, 0x0,
// CHECK-NEXT: npu.dma_copy
npu.program @apart target <"edge256"> dram_size 128 inputs [#npu.binding<"x", #npu.operand<dram, 0x0, i8, [64], [1]>, tensor<64xi8>>] outputs [] constants [] kernels [] host_functions [] {
  npu.dma_copy source = <dram, 0x0, i8, [64], [1]>, destination = <spm, 0x80, i8, [64], [1]>
}
