// RUN: npu-opt %s --split-input-file -p "graph-place,graph-group" | filecheck %s

// A convolution takes what its output stage can do, with the addition of one other tensor; the
// widening of that tensor is done as it is loaded. Constants are operands of the group.

builtin.module attributes {npu.target = #npu.target<"edge256">} {
  func.func @main(%x : tensor<1x4x4x2x!quant.uniform<i8:f32, 0.1>>) -> tensor<1x2x2x2x!quant.uniform<i8:f32, 0.2>> {
    %w = graph.constant {value = #graph.blob<i8, [1, 1, 2, 2], [1, 2, 3, 4]>} : () -> tensor<1x1x2x2x!quant.uniform<i8:f32, 0.5>>
    %bias = graph.constant {value = #graph.blob<i32, [2], [5, 6]>} : () -> tensor<2xi32>
    %1 = graph.conv2d %x, %w, %bias {strides = [1, 1], pads = [0, 0, 0, 0], dilations = [1, 1], groups = 1} : (tensor<1x4x4x2x!quant.uniform<i8:f32, 0.1>>, tensor<1x1x2x2x!quant.uniform<i8:f32, 0.5>>, tensor<2xi32>) -> tensor<1x4x4x2xi32>
    %2 = graph.requantize %1 {recipe = #graph.requant<f32, [0.25, 0.5]>} : (tensor<1x4x4x2xi32>) -> tensor<1x4x4x2x!quant.uniform<i8:f32, 0.2>>
    %3 = graph.requantize %2 {recipe = #graph.requant<fixed, [1], [0], half_even>} : (tensor<1x4x4x2x!quant.uniform<i8:f32, 0.2>>) -> tensor<1x4x4x2xi32>
    %4 = graph.requantize %x {recipe = #graph.requant<fixed, [1], [1], half_even>} : (tensor<1x4x4x2x!quant.uniform<i8:f32, 0.1>>) -> tensor<1x4x4x2xi32>
    %5 = graph.add %3, %4 : (tensor<1x4x4x2xi32>, tensor<1x4x4x2xi32>) -> tensor<1x4x4x2xi32>
    %6 = graph.requantize %5 {recipe = #graph.requant<fixed, [1], [0], half_even>} : (tensor<1x4x4x2xi32>) -> tensor<1x4x4x2x!quant.uniform<i8:f32, 0.2>>
    %7 = graph.max_pool2d %6 {kernel = [2, 2], strides = [2, 2], pads = [0, 0, 0, 0], dilations = [1, 1]} : (tensor<1x4x4x2x!quant.uniform<i8:f32, 0.2>>) -> tensor<1x2x2x2x!quant.uniform<i8:f32, 0.2>>
    %8 = graph.relu %7 : (tensor<1x2x2x2x!quant.uniform<i8:f32, 0.2>>) -> tensor<1x2x2x2x!quant.uniform<i8:f32, 0.2>>
    func.return %8 : tensor<1x2x2x2x!quant.uniform<i8:f32, 0.2>>
  }
}

// CHECK: %w = graph.constant
// CHECK-NEXT: %bias = graph.constant
// CHECK-NEXT: graph.group %x, %w, %bias {kind = "array", npu.placement = #graph.placement<mxu,
// CHECK-NEXT: ^bb0(
// CHECK-NEXT: graph.conv2d
// CHECK-NEXT: graph.requantize {{.*}}"output-stage"
// CHECK-NEXT: graph.requantize {{.*}}"output-stage"
// CHECK-NEXT: graph.requantize {{.*}}"output-stage"
// CHECK-NEXT: graph.add {{.*}}"output-stage"
// CHECK-NEXT: graph.requantize {{.*}}"output-stage"
// CHECK-NEXT: graph.yield
// CHECK: graph.group {{.*}}kind = "vector"
// CHECK: graph.max_pool2d
// CHECK-NEXT: graph.relu
// CHECK-NEXT: graph.yield

// -----

// The same for an array whose output stage adds no tensors: it stops at the narrowest result, and
// the vector unit does the rest.

builtin.module attributes {npu.target = #npu.target<"ethos_u55_256">} {
  func.func @main(%x : tensor<1x4x4x2x!quant.uniform<i8:f32, 0.1>>) -> tensor<1x4x4x2x!quant.uniform<i8:f32, 0.2>> {
    %w = graph.constant {value = #graph.blob<i8, [1, 1, 2, 2], [1, 2, 3, 4]>} : () -> tensor<1x1x2x2x!quant.uniform<i8:f32, 0.5>>
    %1 = graph.conv2d %x, %w {strides = [1, 1], pads = [0, 0, 0, 0], dilations = [1, 1], groups = 1} : (tensor<1x4x4x2x!quant.uniform<i8:f32, 0.1>>, tensor<1x1x2x2x!quant.uniform<i8:f32, 0.5>>) -> tensor<1x4x4x2xi32>
    %2 = graph.requantize %1 {recipe = #graph.requant<f32, [0.25, 0.5]>} : (tensor<1x4x4x2xi32>) -> tensor<1x4x4x2x!quant.uniform<i8:f32, 0.2>>
    %3 = graph.requantize %2 {recipe = #graph.requant<fixed, [1], [0], half_even>} : (tensor<1x4x4x2x!quant.uniform<i8:f32, 0.2>>) -> tensor<1x4x4x2xi32>
    %4 = graph.requantize %3 {recipe = #graph.requant<fixed, [1], [1], half_away>} : (tensor<1x4x4x2xi32>) -> tensor<1x4x4x2xi32>
    %5 = graph.requantize %x {recipe = #graph.requant<fixed, [1], [1], half_even>} : (tensor<1x4x4x2x!quant.uniform<i8:f32, 0.1>>) -> tensor<1x4x4x2xi32>
    %6 = graph.add %4, %5 : (tensor<1x4x4x2xi32>, tensor<1x4x4x2xi32>) -> tensor<1x4x4x2xi32>
    %7 = graph.requantize %6 {recipe = #graph.requant<fixed, [1], [0], half_even>} : (tensor<1x4x4x2xi32>) -> tensor<1x4x4x2x!quant.uniform<i8:f32, 0.2>>
    func.return %7 : tensor<1x4x4x2x!quant.uniform<i8:f32, 0.2>>
  }
}

// CHECK: graph.group {{.*}}kind = "array"
// CHECK: graph.conv2d
// CHECK-NEXT: graph.requantize {{.*}}"output-stage"
// CHECK-NEXT: graph.yield
// CHECK: graph.group {{.*}}kind = "vector"
// CHECK: graph.add
// CHECK-NEXT: graph.requantize
// CHECK-NEXT: graph.yield
