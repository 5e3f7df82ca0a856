// RUN: npu-opt %s | filecheck %s

// Operations that move elements; the scales of a quantized tensor move along.

// CHECK: func.func @reshape(
// CHECK-NEXT: %1 = graph.reshape %0 : (tensor<2x3xf32>) -> tensor<3x2xf32>
func.func @reshape(%0: tensor<2x3xf32>) -> tensor<3x2xf32> {
  %1 = graph.reshape %0 : (tensor<2x3xf32>) -> tensor<3x2xf32>
  func.return %1 : tensor<3x2xf32>
}

// CHECK: func.func @transpose(
// CHECK-NEXT: %1 = graph.transpose %0 {permutation = [0, 3, 1, 2]} : (tensor<1x6x6x4xf32>) -> tensor<1x4x6x6xf32>
func.func @transpose(%0: tensor<1x6x6x4xf32>) -> tensor<1x4x6x6xf32> {
  %1 = graph.transpose %0 {permutation = [0, 3, 1, 2]} : (tensor<1x6x6x4xf32>) -> tensor<1x4x6x6xf32>
  func.return %1 : tensor<1x4x6x6xf32>
}

// CHECK: func.func @transpose_quant(
// CHECK-NEXT: %1 = graph.transpose %0 {permutation = [1, 0]} : (tensor<5x3x!quant.uniform<i8:f32:1, {0.1:1, 0.2:2, 0.3:3}>>) -> tensor<3x5x!quant.uniform<i8:f32:0, {0.1:1, 0.2:2, 0.3:3}>>
func.func @transpose_quant(%0: tensor<5x3x!quant.uniform<i8:f32:1, {0.1:1, 0.2:2, 0.3:3}>>) -> tensor<3x5x!quant.uniform<i8:f32:0, {0.1:1, 0.2:2, 0.3:3}>> {
  %1 = graph.transpose %0 {permutation = [1, 0]} : (tensor<5x3x!quant.uniform<i8:f32:1, {0.1:1, 0.2:2, 0.3:3}>>) -> tensor<3x5x!quant.uniform<i8:f32:0, {0.1:1, 0.2:2, 0.3:3}>>
  func.return %1 : tensor<3x5x!quant.uniform<i8:f32:0, {0.1:1, 0.2:2, 0.3:3}>>
}

// CHECK: func.func @concat(
// CHECK-NEXT: %2 = graph.concat %0, %1 {axis = 1} : (tensor<2x3xf32>, tensor<2x1xf32>) -> tensor<2x4xf32>
func.func @concat(%0: tensor<2x3xf32>, %1: tensor<2x1xf32>) -> tensor<2x4xf32> {
  %2 = graph.concat %0, %1 {axis = 1} : (tensor<2x3xf32>, tensor<2x1xf32>) -> tensor<2x4xf32>
  func.return %2 : tensor<2x4xf32>
}

// CHECK: func.func @slice(
// CHECK-NEXT: %1 = graph.slice %0 {starts = [1, 2], sizes = [1, 2], strides = [1, -2]} : (tensor<2x3xf32>) -> tensor<1x2xf32>
func.func @slice(%0: tensor<2x3xf32>) -> tensor<1x2xf32> {
  %1 = graph.slice %0 {starts = [1, 2], sizes = [1, 2], strides = [1, -2]} : (tensor<2x3xf32>) -> tensor<1x2xf32>
  func.return %1 : tensor<1x2xf32>
}

// CHECK: func.func @slice_quant(
// CHECK-NEXT: %1 = graph.slice %0 {starts = [0, 1], sizes = [5, 2], strides = [1, 1]} : (tensor<5x3x!quant.uniform<i8:f32:1, {0.1:1, 0.2:2, 0.3:3}>>) -> tensor<5x2x!quant.uniform<i8:f32:1, {0.2:2, 0.3:3}>>
func.func @slice_quant(%0: tensor<5x3x!quant.uniform<i8:f32:1, {0.1:1, 0.2:2, 0.3:3}>>) -> tensor<5x2x!quant.uniform<i8:f32:1, {0.2:2, 0.3:3}>> {
  %1 = graph.slice %0 {starts = [0, 1], sizes = [5, 2], strides = [1, 1]} : (tensor<5x3x!quant.uniform<i8:f32:1, {0.1:1, 0.2:2, 0.3:3}>>) -> tensor<5x2x!quant.uniform<i8:f32:1, {0.2:2, 0.3:3}>>
  func.return %1 : tensor<5x2x!quant.uniform<i8:f32:1, {0.2:2, 0.3:3}>>
}

// CHECK: func.func @pad(
// CHECK-NEXT: %1 = graph.pad %0 {low = [0, 1], high = [2, 0], value = 0xff800000 : f32} : (tensor<2x3xf32>) -> tensor<4x4xf32>
func.func @pad(%0: tensor<2x3xf32>) -> tensor<4x4xf32> {
  %1 = graph.pad %0 {low = [0, 1], high = [2, 0], value = 0xff800000 : f32} : (tensor<2x3xf32>) -> tensor<4x4xf32>
  func.return %1 : tensor<4x4xf32>
}

// CHECK: func.func @pad_quant(
// CHECK-NEXT: %1 = graph.pad %0 {low = [1], high = [1], value = -3} : (tensor<4x!quant.uniform<i8:f32, 0.05:-3>>) -> tensor<6x!quant.uniform<i8:f32, 0.05:-3>>
func.func @pad_quant(%0: tensor<4x!quant.uniform<i8:f32, 0.05:-3>>) -> tensor<6x!quant.uniform<i8:f32, 0.05:-3>> {
  %1 = graph.pad %0 {low = [1], high = [1], value = -3} : (tensor<4x!quant.uniform<i8:f32, 0.05:-3>>) -> tensor<6x!quant.uniform<i8:f32, 0.05:-3>>
  func.return %1 : tensor<6x!quant.uniform<i8:f32, 0.05:-3>>
}

// CHECK: func.func @broadcastto(
// CHECK-NEXT: %1 = graph.broadcast_to %0 : (tensor<3xf32>) -> tensor<2x2x3xf32>
func.func @broadcastto(%0: tensor<3xf32>) -> tensor<2x2x3xf32> {
  %1 = graph.broadcast_to %0 : (tensor<3xf32>) -> tensor<2x2x3xf32>
  func.return %1 : tensor<2x2x3xf32>
}
