// RUN: npu-opt %s --locations | filecheck %s

// A program: memory map, kernels, host functions; instructions with their layer, sources and the
// tensors that they complete.

// CHECK:      npu.program @main target <"edge256"> dram_size 4096 : i64
// CHECK-SAME: inputs [#npu.binding<"x", #npu.operand<dram, 0x0, i8, [1, 4], [4, 1]>, tensor<1x4x!quant.uniform<i8:f32, 0.05:-3>>>]
// CHECK-SAME: outputs [#npu.binding<"y", #npu.operand<dram, 0x40, i8, [1, 4], [4, 1]>, tensor<1x4xi8>>]
// CHECK-SAME: constants [#npu.constant<#builtin.int<128>, #graph.blob<i32, [2], [1, -2]>, "conv1.bias">]
// CHECK-SAME: kernels [#npu.kernel<"(t0: i8) -> i8: v0 = neg.i32 t0">]
// CHECK-SAME: host_functions ["host_0"]
// CHECK-SAME: attributes {npu.placements = [{source = "neg1", op = "graph.neg", engine = "vpu", rule = "vector", reason = "neg.i32"}]}
npu.program @main target <"edge256"> dram_size 4096
  inputs [#npu.binding<"x", #npu.operand<dram, 0x0, i8, [1, 4], [4, 1]>, tensor<1x4x!quant.uniform<i8:f32, 0.05:-3>>>]
  outputs [#npu.binding<"y", #npu.operand<dram, 0x40, i8, [1, 4], [4, 1]>, tensor<1x4xi8>>]
  constants [#npu.constant<#builtin.int<128>, #graph.blob<i32, [2], [1, -2]>, "conv1.bias">]
  kernels [#npu.kernel<"(t0: i8) -> i8: v0 = neg.i32 t0">]
  host_functions ["host_0"]
  attributes {npu.placements = [{source = "neg1", op = "graph.neg", engine = "vpu", rule = "vector", reason = "neg.i32"}]}
{
  // CHECK-NEXT: npu.dma_copy {{.*}} {npu.layer = "group1"} loc("neg1")
  npu.dma_copy source = <dram, 0x0, i8, [4], [1]>, destination = <spm, 0x0, i8, [4], [1]> {npu.layer = "group1"} loc("neg1")
  // CHECK-NEXT: npu.vector {{.*}}, waits = {dma: 1} {npu.tensors = [#npu.binding<"neg1", #npu.operand<spm, 0x10, i8, [4], [1]>, tensor<4xi8>>]} loc("neg1")
  npu.vector a = <spm, 0x0, i8, [4], [1]>, output = <spm, 0x10, i8, [4], [1]>, kernel = 0, waits = {dma: 1} {npu.tensors = [#npu.binding<"neg1", #npu.operand<spm, 0x10, i8, [4], [1]>, tensor<4xi8>>]} loc("neg1")
  // CHECK-NEXT: npu.host place = host, function = 0
  npu.host place = host, function = 0, inputs = [<dram, 0x0, i8, [4], [1]>], outputs = [<dram, 0x40, i8, [4], [1]>], macs = 0, elements = 4 loc("neg2")
}

// CHECK: func.func @host_0
func.func @host_0(%x: tensor<1x4xi8>) -> tensor<1x4xi8> {
  func.return %x : tensor<1x4xi8>
}
