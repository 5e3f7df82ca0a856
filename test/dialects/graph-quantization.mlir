// RUN: npu-opt %s | filecheck %s

// Between real numbers and stored integers.

// CHECK: func.func @quantize(
// CHECK-NEXT: %1 = graph.quantize %0 : (tensor<2x3xf32>) -> tensor<2x3x!quant.uniform<i8:f32, 0.05:-3>>
func.func @quantize(%0: tensor<2x3xf32>) -> tensor<2x3x!quant.uniform<i8:f32, 0.05:-3>> {
  %1 = graph.quantize %0 : (tensor<2x3xf32>) -> tensor<2x3x!quant.uniform<i8:f32, 0.05:-3>>
  func.return %1 : tensor<2x3x!quant.uniform<i8:f32, 0.05:-3>>
}

// CHECK: func.func @quantize_axis(
// CHECK-NEXT: %1 = graph.quantize %0 : (tensor<5x3xf32>) -> tensor<5x3x!quant.uniform<i8:f32:1, {0.1:1, 0.2:2, 0.3:3}>>
func.func @quantize_axis(%0: tensor<5x3xf32>) -> tensor<5x3x!quant.uniform<i8:f32:1, {0.1:1, 0.2:2, 0.3:3}>> {
  %1 = graph.quantize %0 : (tensor<5x3xf32>) -> tensor<5x3x!quant.uniform<i8:f32:1, {0.1:1, 0.2:2, 0.3:3}>>
  func.return %1 : tensor<5x3x!quant.uniform<i8:f32:1, {0.1:1, 0.2:2, 0.3:3}>>
}

// CHECK: func.func @dequantize(
// CHECK-NEXT: %1 = graph.dequantize %0 : (tensor<4x!quant.uniform<i8:f32, 0.05:-3>>) -> tensor<4xf32>
func.func @dequantize(%0: tensor<4x!quant.uniform<i8:f32, 0.05:-3>>) -> tensor<4xf32> {
  %1 = graph.dequantize %0 : (tensor<4x!quant.uniform<i8:f32, 0.05:-3>>) -> tensor<4xf32>
  func.return %1 : tensor<4xf32>
}

// CHECK: func.func @dequantize_i32(
// CHECK-NEXT: %1 = graph.dequantize %0 : (tensor<4x!quant.uniform<i32:f32, 0.005>>) -> tensor<4xf32>
func.func @dequantize_i32(%0: tensor<4x!quant.uniform<i32:f32, 0.005>>) -> tensor<4xf32> {
  %1 = graph.dequantize %0 : (tensor<4x!quant.uniform<i32:f32, 0.005>>) -> tensor<4xf32>
  func.return %1 : tensor<4xf32>
}

// CHECK: func.func @requantize(
// CHECK-NEXT: %1 = graph.requantize %0 {recipe = #graph.requant<fixed, [1073741824], [35], half_up>} : (tensor<2x4xi32>) -> tensor<2x4x!quant.uniform<i8:f32, 0.05:-3>>
func.func @requantize(%0: tensor<2x4xi32>) -> tensor<2x4x!quant.uniform<i8:f32, 0.05:-3>> {
  %1 = graph.requantize %0 {recipe = #graph.requant<fixed, [1073741824], [35], half_up>} : (tensor<2x4xi32>) -> tensor<2x4x!quant.uniform<i8:f32, 0.05:-3>>
  func.return %1 : tensor<2x4x!quant.uniform<i8:f32, 0.05:-3>>
}

// CHECK: func.func @requantize_channels(
// CHECK-NEXT: %1 = graph.requantize %0 {recipe = #graph.requant<f32, [0.1, 3.0e-07]>} : (tensor<5x2x!quant.uniform<i8:f32, 0.05:-3>>) -> tensor<5x2xi32>
func.func @requantize_channels(%0: tensor<5x2x!quant.uniform<i8:f32, 0.05:-3>>) -> tensor<5x2xi32> {
  %1 = graph.requantize %0 {recipe = #graph.requant<f32, [0.1, 3.0e-07]>} : (tensor<5x2x!quant.uniform<i8:f32, 0.05:-3>>) -> tensor<5x2xi32>
  func.return %1 : tensor<5x2xi32>
}

// CHECK: func.func @lookup(
// CHECK-NEXT: %2 = graph.lookup %0, %1 : (tensor<4x!quant.uniform<i8:f32, 0.05:-3>>, tensor<256xi8>) -> tensor<4x!quant.uniform<i8:f32, 0.1:4>>
func.func @lookup(%0: tensor<4x!quant.uniform<i8:f32, 0.05:-3>>, %1: tensor<256xi8>) -> tensor<4x!quant.uniform<i8:f32, 0.1:4>> {
  %2 = graph.lookup %0, %1 : (tensor<4x!quant.uniform<i8:f32, 0.05:-3>>, tensor<256xi8>) -> tensor<4x!quant.uniform<i8:f32, 0.1:4>>
  func.return %2 : tensor<4x!quant.uniform<i8:f32, 0.1:4>>
}
