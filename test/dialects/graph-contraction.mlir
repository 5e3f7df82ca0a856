// RUN: npu-opt %s | filecheck %s

// Convolutions and matrix products: float, quantized per tensor and per axis, depthwise.

// CHECK: func.func @conv2d(
// CHECK-NEXT: %3 = graph.conv2d %0, %1, %2 {strides = [2, 1], pads = [1, 0, 1, 0], dilations = [1, 1], groups = 1} : (tensor<1x6x6x4xf32>, tensor<3x3x4x2xf32>, tensor<2xf32>) -> tensor<1x3x4x2xf32>
func.func @conv2d(%0: tensor<1x6x6x4xf32>, %1: tensor<3x3x4x2xf32>, %2: tensor<2xf32>) -> tensor<1x3x4x2xf32> {
  %3 = graph.conv2d %0, %1, %2 {strides = [2, 1], pads = [1, 0, 1, 0], dilations = [1, 1], groups = 1} : (tensor<1x6x6x4xf32>, tensor<3x3x4x2xf32>, tensor<2xf32>) -> tensor<1x3x4x2xf32>
  func.return %3 : tensor<1x3x4x2xf32>
}

// CHECK: func.func @conv2d_quant(
// CHECK-NEXT: %3 = graph.conv2d %0, %1, %2 {strides = [1, 1], pads = [0, 0, 0, 0], dilations = [1, 1], groups = 1} : (tensor<1x6x6x4x!quant.uniform<i8:f32, 0.05:-3>>, tensor<3x3x4x2x!quant.uniform<i8:f32:3, {0.1, 0.2}>>, tensor<2xi32>) -> tensor<1x4x4x2xi32>
func.func @conv2d_quant(%0: tensor<1x6x6x4x!quant.uniform<i8:f32, 0.05:-3>>, %1: tensor<3x3x4x2x!quant.uniform<i8:f32:3, {0.1, 0.2}>>, %2: tensor<2xi32>) -> tensor<1x4x4x2xi32> {
  %3 = graph.conv2d %0, %1, %2 {strides = [1, 1], pads = [0, 0, 0, 0], dilations = [1, 1], groups = 1} : (tensor<1x6x6x4x!quant.uniform<i8:f32, 0.05:-3>>, tensor<3x3x4x2x!quant.uniform<i8:f32:3, {0.1, 0.2}>>, tensor<2xi32>) -> tensor<1x4x4x2xi32>
  func.return %3 : tensor<1x4x4x2xi32>
}

// CHECK: func.func @conv2d_depthwise(
// CHECK-NEXT: %2 = graph.conv2d %0, %1 {strides = [1, 1], pads = [0, 0, 0, 0], dilations = [2, 2], groups = 4} : (tensor<1x6x6x4x!quant.uniform<i8:f32, 0.05:-3>>, tensor<3x3x1x4x!quant.uniform<i8:f32, 0.1:4>>) -> tensor<1x2x2x4xi32>
func.func @conv2d_depthwise(%0: tensor<1x6x6x4x!quant.uniform<i8:f32, 0.05:-3>>, %1: tensor<3x3x1x4x!quant.uniform<i8:f32, 0.1:4>>) -> tensor<1x2x2x4xi32> {
  %2 = graph.conv2d %0, %1 {strides = [1, 1], pads = [0, 0, 0, 0], dilations = [2, 2], groups = 4} : (tensor<1x6x6x4x!quant.uniform<i8:f32, 0.05:-3>>, tensor<3x3x1x4x!quant.uniform<i8:f32, 0.1:4>>) -> tensor<1x2x2x4xi32>
  func.return %2 : tensor<1x2x2x4xi32>
}

// CHECK: func.func @matmul(
// CHECK-NEXT: %3 = graph.matmul %0, %1, %2 : (tensor<2x4x5xf32>, tensor<5x3xf32>, tensor<3xf32>) -> tensor<2x4x3xf32>
func.func @matmul(%0: tensor<2x4x5xf32>, %1: tensor<5x3xf32>, %2: tensor<3xf32>) -> tensor<2x4x3xf32> {
  %3 = graph.matmul %0, %1, %2 : (tensor<2x4x5xf32>, tensor<5x3xf32>, tensor<3xf32>) -> tensor<2x4x3xf32>
  func.return %3 : tensor<2x4x3xf32>
}

// CHECK: func.func @matmul_quant(
// CHECK-NEXT: %2 = graph.matmul %0, %1 : (tensor<4x5x!quant.uniform<u8:f32, 0.25:128>>, tensor<5x3x!quant.uniform<i8:f32:1, {0.1:1, 0.2:2, 0.3:3}>>) -> tensor<4x3xi32>
func.func @matmul_quant(%0: tensor<4x5x!quant.uniform<u8:f32, 0.25:128>>, %1: tensor<5x3x!quant.uniform<i8:f32:1, {0.1:1, 0.2:2, 0.3:3}>>) -> tensor<4x3xi32> {
  %2 = graph.matmul %0, %1 : (tensor<4x5x!quant.uniform<u8:f32, 0.25:128>>, tensor<5x3x!quant.uniform<i8:f32:1, {0.1:1, 0.2:2, 0.3:3}>>) -> tensor<4x3xi32>
  func.return %2 : tensor<4x3xi32>
}
