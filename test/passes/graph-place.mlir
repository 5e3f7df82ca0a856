// RUN: npu-opt %s -p "graph-place" | filecheck %s

// An int8 machine: the array convolves, the vector unit pools, the copy engine moves, the boundary
// converts, and the host does what is left, with the rule that says why.

builtin.module attributes {npu.target = #npu.target<"edge256">} {
  func.func @main(%image : tensor<1x4x4x2xf32>, %w : tensor<1x1x2x2x!quant.uniform<i8:f32, 0.5>>) -> (tensor<1x2x2x2xf32>, tensor<1x16x2xf32>) {
    %0 = graph.quantize %image : (tensor<1x4x4x2xf32>) -> tensor<1x4x4x2x!quant.uniform<i8:f32, 0.1>>
    %1 = graph.conv2d %0, %w {strides = [1, 1], pads = [0, 0, 0, 0], dilations = [1, 1], groups = 1} : (tensor<1x4x4x2x!quant.uniform<i8:f32, 0.1>>, tensor<1x1x2x2x!quant.uniform<i8:f32, 0.5>>) -> tensor<1x4x4x2xi32>
    %2 = graph.requantize %1 {recipe = #graph.requant<f32, [0.25]>} : (tensor<1x4x4x2xi32>) -> tensor<1x4x4x2x!quant.uniform<i8:f32, 0.2>>
    %3 = graph.max_pool2d %2 {kernel = [2, 2], strides = [2, 2], pads = [0, 0, 0, 0], dilations = [1, 1]} : (tensor<1x4x4x2x!quant.uniform<i8:f32, 0.2>>) -> tensor<1x2x2x2x!quant.uniform<i8:f32, 0.2>>
    %4 = graph.transpose %3 {permutation = [0, 3, 1, 2]} : (tensor<1x2x2x2x!quant.uniform<i8:f32, 0.2>>) -> tensor<1x2x2x2x!quant.uniform<i8:f32, 0.2>>
    %5 = graph.dequantize %4 : (tensor<1x2x2x2x!quant.uniform<i8:f32, 0.2>>) -> tensor<1x2x2x2xf32>
    %6 = graph.dequantize %2 : (tensor<1x4x4x2x!quant.uniform<i8:f32, 0.2>>) -> tensor<1x4x4x2xf32>
    %7 = graph.reshape %6 : (tensor<1x4x4x2xf32>) -> tensor<1x16x2xf32>
    %8 = graph.softmax %7 {axis = 2} : (tensor<1x16x2xf32>) -> tensor<1x16x2xf32>
    func.return %5, %8 : tensor<1x2x2x2xf32>, tensor<1x16x2xf32>
  }

  // A quantization with a rounding of its own is one too, if nothing else reads its steps.
  func.func @steps(%x : tensor<8xf32>) -> tensor<8xi32> {
    %s = graph.constant {value = #graph.blob<f32, [], [0.5]>} : () -> tensor<f32>
    %0 = graph.div %x, %s : (tensor<8xf32>, tensor<f32>) -> tensor<8xf32>
    %1 = graph.round %0 : (tensor<8xf32>) -> tensor<8xf32>
    %2 = graph.cast %1 : (tensor<8xf32>) -> tensor<8xi32>
    func.return %2 : tensor<8xi32>
  }

  func.func @read(%x : tensor<8xf32>) -> (tensor<8xi32>, tensor<8xf32>) {
    %0 = graph.round %x : (tensor<8xf32>) -> tensor<8xf32>
    %1 = graph.cast %0 : (tensor<8xf32>) -> tensor<8xi32>
    func.return %1, %0 : tensor<8xi32>, tensor<8xf32>
  }

  // An output of a type that the accelerator does not store gets it at the boundary.
  func.func @wide(%x : tensor<1x8xi32>) -> tensor<8xi64> {
    %0 = graph.add %x, %x : (tensor<1x8xi32>, tensor<1x8xi32>) -> tensor<1x8xi32>
    %1 = graph.cast %0 : (tensor<1x8xi32>) -> tensor<1x8xi64>
    %2 = graph.reshape %1 : (tensor<1x8xi64>) -> tensor<8xi64>
    func.return %2 : tensor<8xi64>
  }
}

// CHECK: graph.quantize {{.*}}#graph.placement<io, "quantize-input",
// CHECK-NEXT: graph.conv2d {{.*}}#graph.placement<mxu, "array", "the array multiplies these types">
// CHECK-NEXT: graph.requantize {{.*}}#graph.placement<vpu, "vector-kernel",
// CHECK-NEXT: graph.max_pool2d {{.*}}#graph.placement<vpu, "vector-pooling",
// CHECK-NEXT: graph.transpose {{.*}}#graph.placement<dma, "copy",
// CHECK-NEXT: graph.dequantize {{.*}}#graph.placement<io, "dequantize-output",
// CHECK-NEXT: graph.dequantize {{.*}}#graph.placement<host, "vector-types", "The vector unit must load and store the types of the operands and of the result; found f32, and edge256 has
// CHECK-NEXT: graph.reshape {{.*}}#graph.placement<host, "moves-among-host",
// CHECK-NEXT: graph.softmax {{.*}}#graph.placement<host, "several-steps",
// CHECK: func.func @steps
// CHECK: graph.div {{.*}}#graph.placement<io, "quantize-input",
// CHECK-NEXT: graph.round {{.*}}#graph.placement<io, "quantize-input",
// CHECK-NEXT: graph.cast {{.*}}#graph.placement<io, "quantize-input",
// CHECK: func.func @read
// CHECK-NEXT: graph.round {{.*}}#graph.placement<host,
// CHECK-NEXT: graph.cast {{.*}}#graph.placement<host,
// CHECK: func.func @wide
// CHECK: graph.add {{.*}}#graph.placement<vpu,
// CHECK-NEXT: graph.cast {{.*}}#graph.placement<io, "output-type",
// CHECK-NEXT: graph.reshape {{.*}}#graph.placement<io, "output-type",
