// RUN: npu-opt %s | filecheck %s

// Every instruction reads as it prints.

// CHECK: npu.program @main
npu.program @main target <"edge256"> dram_size 65536 inputs [] outputs [] constants [] kernels [] host_functions [] {
  // CHECK-NEXT: npu.dma_copy source = <dram, 0x1000, i8, [8, 32], [64, 1]>, destination = <spm, 0x0, i8, [8, 32], [32, 1]>
  npu.dma_copy source = <dram, 0x1000, i8, [8, 32], [64, 1]>, destination = <spm, 0x0, i8, [8, 32], [32, 1]>
  // CHECK-NEXT: npu.dma_copy source = <dram, 0x0, i8, [4], [1]>, destination = <spm, 0x3, i8, [4], [-1]>, core = 1, waits = {mxu: 2, 1:vpu: 1}
  npu.dma_copy source = <dram, 0x0, i8, [4], [1]>, destination = <spm, 0x3, i8, [4], [-1]>, core = 1, waits = {mxu: 2, 1:vpu: 1}
  // CHECK-NEXT: npu.dma_fill destination = <spm, 0x0, u8, [64], [1]>, bits = 128
  npu.dma_fill destination = <spm, 0x0, u8, [64], [1]>, bits = 128
  // CHECK-NEXT: npu.dma_gather source = <dram, 0x0, i8, [100, 16], [16, 1]>, indices = <spm, 0x0, i32, [4], [4]>, destination = <spm, 0x40, i8, [4, 16], [16, 1]>
  npu.dma_gather source = <dram, 0x0, i8, [100, 16], [16, 1]>, indices = <spm, 0x0, i32, [4], [4]>, destination = <spm, 0x40, i8, [4, 16], [16, 1]>
  // CHECK-NEXT: npu.dma_scatter source = <spm, 0x40, i8, [4, 16], [16, 1]>, indices = <spm, 0x0, i32, [4], [4]>, destination = <dram, 0x0, i8, [100, 16], [16, 1]>, first = 0
  npu.dma_scatter source = <spm, 0x40, i8, [4, 16], [16, 1]>, indices = <spm, 0x0, i32, [4], [4]>, destination = <dram, 0x0, i8, [100, 16], [16, 1]>, first = 0
  // CHECK-NEXT: npu.conv2d strides = [1, 1], dilations = [1, 1], pads = [1, 1], input = <spm, 0x0, i8, [4, 4, 8], [32, 8, 1]>, weights = <spm, 0x200, i8, [3, 3, 8, 8], [192, 64, 8, 1]>, params = <spm, 0x800, i32, [2, 8], [32, 4]>, residual = <spm, 0x0, i8, [4, 4, 8], [32, 8, 1]>, output = <spm, 0x400, i8, [4, 4, 8], [32, 8, 1]>, accumulate = 0, kernel = 0, x_zero = -3, w_zero = 0, waits = {dma: 2}
  npu.conv2d strides = [1, 1], dilations = [1, 1], pads = [1, 1], input = <spm, 0x0, i8, [4, 4, 8], [32, 8, 1]>, weights = <spm, 0x200, i8, [3, 3, 8, 8], [192, 64, 8, 1]>, params = <spm, 0x800, i32, [2, 8], [32, 4]>, residual = <spm, 0x0, i8, [4, 4, 8], [32, 8, 1]>, output = <spm, 0x400, i8, [4, 4, 8], [32, 8, 1]>, accumulate = 0, kernel = 0, x_zero = -3, w_zero = 0, waits = {dma: 2}
  // CHECK-NEXT: npu.conv2d strides = [1, 1], dilations = [1, 1], pads = [1, 1], input = <spm, 0x0, i8, [4, 4, 8], [32, 8, 1]>, weights = <spm, 0x200, i8, [3, 3, 8, 8], [192, 64, 8, 1]>, partial = <acc, 0x0, i32, [4, 4, 8], [128, 32, 4]>, accumulate = 1, x_zero = -3, w_zero = 0
  npu.conv2d strides = [1, 1], dilations = [1, 1], pads = [1, 1], input = <spm, 0x0, i8, [4, 4, 8], [32, 8, 1]>, weights = <spm, 0x200, i8, [3, 3, 8, 8], [192, 64, 8, 1]>, partial = <acc, 0x0, i32, [4, 4, 8], [128, 32, 4]>, accumulate = 1, x_zero = -3, w_zero = 0
  // CHECK-NEXT: npu.depthwise_conv2d strides = [1, 1], dilations = [1, 1], pads = [1, 1], input = <spm, 0x0, i8, [4, 4, 8], [32, 8, 1]>, weights = <spm, 0x200, i8, [3, 3, 8], [24, 8, 1]>, output = <spm, 0x400, i8, [4, 4, 8], [32, 8, 1]>, accumulate = 0, kernel = 1, x_zero = -3, w_zero = 0
  npu.depthwise_conv2d strides = [1, 1], dilations = [1, 1], pads = [1, 1], input = <spm, 0x0, i8, [4, 4, 8], [32, 8, 1]>, weights = <spm, 0x200, i8, [3, 3, 8], [24, 8, 1]>, output = <spm, 0x400, i8, [4, 4, 8], [32, 8, 1]>, accumulate = 0, kernel = 1, x_zero = -3, w_zero = 0
  // CHECK-NEXT: npu.matmul input = <spm, 0x0, i8, [4, 32], [32, 1]>, weights = <spm, 0x200, i8, [32, 8], [8, 1]>, output = <spm, 0x400, i32, [4, 8], [32, 4]>, accumulate = 0, kernel = 2, x_zero = 0, w_zero = 0
  npu.matmul input = <spm, 0x0, i8, [4, 32], [32, 1]>, weights = <spm, 0x200, i8, [32, 8], [8, 1]>, output = <spm, 0x400, i32, [4, 8], [32, 4]>, accumulate = 0, kernel = 2, x_zero = 0, w_zero = 0
  // CHECK-NEXT: npu.vector a = <spm, 0x0, i8, [4, 4, 8], [32, 8, 1]>, b = <spm, 0x400, i8, [4, 4, 8], [32, 8, 1]>, output = <spm, 0x0, i8, [4, 4, 8], [32, 8, 1]>, kernel = 3, waits = {mxu: 4}
  npu.vector a = <spm, 0x0, i8, [4, 4, 8], [32, 8, 1]>, b = <spm, 0x400, i8, [4, 4, 8], [32, 8, 1]>, output = <spm, 0x0, i8, [4, 4, 8], [32, 8, 1]>, kernel = 3, waits = {mxu: 4}
  // CHECK-NEXT: npu.vector a = <spm, 0x0, i8, [4, 4, 8], [32, 8, 1]>, table = <spm, 0x800, i8, [256], [1]>, output = <spm, 0x400, i8, [4, 4, 8], [32, 8, 1]>, kernel = 4
  npu.vector a = <spm, 0x0, i8, [4, 4, 8], [32, 8, 1]>, table = <spm, 0x800, i8, [256], [1]>, output = <spm, 0x400, i8, [4, 4, 8], [32, 8, 1]>, kernel = 4
  // CHECK-NEXT: npu.reduce input = <spm, 0x0, i8, [4, 4, 8], [32, 8, 1]>, kind = sum, x_zero = -3, axes = 3, output = <spm, 0x400, i32, [1, 1, 8], [32, 32, 4]>
  npu.reduce input = <spm, 0x0, i8, [4, 4, 8], [32, 8, 1]>, kind = sum, x_zero = -3, axes = 3, output = <spm, 0x400, i32, [1, 1, 8], [32, 32, 4]>
  // CHECK-NEXT: npu.pool2d input = <spm, 0x0, i8, [4, 4, 8], [32, 8, 1]>, kind = max, size = [2, 2], strides = [2, 2], dilations = [1, 1], pads = [0, 0, 0, 0], x_zero = 0, count_include_pad = 0, output = <spm, 0x400, i8, [2, 2, 8], [16, 8, 1]>
  npu.pool2d input = <spm, 0x0, i8, [4, 4, 8], [32, 8, 1]>, kind = max, size = [2, 2], strides = [2, 2], dilations = [1, 1], pads = [0, 0, 0, 0], x_zero = 0, count_include_pad = 0, output = <spm, 0x400, i8, [2, 2, 8], [16, 8, 1]>
  // CHECK-NEXT: npu.scatter indices = <spm, 0x0, i32, [4], [4]>, updates = <spm, 0x40, i32, [4, 16], [64, 4]>, output = <spm, 0x400, i32, [8, 16], [64, 4]>, kind = add, first = 8
  npu.scatter indices = <spm, 0x0, i32, [4], [4]>, updates = <spm, 0x40, i32, [4, 16], [64, 4]>, output = <spm, 0x400, i32, [8, 16], [64, 4]>, kind = add, first = 8
  // CHECK-NEXT: npu.host place = io, function = 0, inputs = [<dram, 0x0, f32, [10], [4]>], outputs = [<dram, 0x40, i8, [10], [1]>], macs = 0, elements = 10
  npu.host place = io, function = 0, inputs = [<dram, 0x0, f32, [10], [4]>], outputs = [<dram, 0x40, i8, [10], [1]>], macs = 0, elements = 10
  // CHECK-NEXT: npu.repeat 4 {
  npu.repeat 4 {
  // CHECK-NEXT: npu.dma_copy source = <dram, 0x0, i8, [64], [1]>, destination = <spm, 0x0, i8, [64], [1]>, waits = {mxu: 1}, address_steps = [64, 0], wait_steps = [1]
    npu.dma_copy source = <dram, 0x0, i8, [64], [1]>, destination = <spm, 0x0, i8, [64], [1]>, waits = {mxu: 1}, address_steps = [64, 0], wait_steps = [1]
  // CHECK-NEXT: }
  }
}
