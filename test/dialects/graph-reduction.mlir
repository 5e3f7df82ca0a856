// RUN: npu-opt %s | filecheck %s

// Pooling, reductions and normalizations.

// CHECK: func.func @maxpool2d(
// CHECK-NEXT: %1 = graph.max_pool2d %0 {kernel = [2, 3], strides = [2, 1], pads = [0, 1, 1, 0], dilations = [1, 1]} : (tensor<1x6x6x4x!quant.uniform<i8:f32, 0.05:-3>>) -> tensor<1x3x5x4x!quant.uniform<i8:f32, 0.05:-3>>
func.func @maxpool2d(%0: tensor<1x6x6x4x!quant.uniform<i8:f32, 0.05:-3>>) -> tensor<1x3x5x4x!quant.uniform<i8:f32, 0.05:-3>> {
  %1 = graph.max_pool2d %0 {kernel = [2, 3], strides = [2, 1], pads = [0, 1, 1, 0], dilations = [1, 1]} : (tensor<1x6x6x4x!quant.uniform<i8:f32, 0.05:-3>>) -> tensor<1x3x5x4x!quant.uniform<i8:f32, 0.05:-3>>
  func.return %1 : tensor<1x3x5x4x!quant.uniform<i8:f32, 0.05:-3>>
}

// CHECK: func.func @sumpool2d(
// CHECK-NEXT: %1 = graph.sum_pool2d %0 {kernel = [2, 3], strides = [2, 1], pads = [0, 1, 1, 0], dilations = [1, 1]} : (tensor<1x6x6x4x!quant.uniform<i8:f32, 0.05:-3>>) -> tensor<1x3x5x4xi32>
func.func @sumpool2d(%0: tensor<1x6x6x4x!quant.uniform<i8:f32, 0.05:-3>>) -> tensor<1x3x5x4xi32> {
  %1 = graph.sum_pool2d %0 {kernel = [2, 3], strides = [2, 1], pads = [0, 1, 1, 0], dilations = [1, 1]} : (tensor<1x6x6x4x!quant.uniform<i8:f32, 0.05:-3>>) -> tensor<1x3x5x4xi32>
  func.return %1 : tensor<1x3x5x4xi32>
}

// CHECK: func.func @avgpool2d(
// CHECK-NEXT: %1 = graph.avg_pool2d %0 {kernel = [2, 3], strides = [2, 1], pads = [0, 1, 1, 0], dilations = [1, 1], count_include_pad = false} : (tensor<1x6x6x4xf32>) -> tensor<1x3x5x4xf32>
func.func @avgpool2d(%0: tensor<1x6x6x4xf32>) -> tensor<1x3x5x4xf32> {
  %1 = graph.avg_pool2d %0 {kernel = [2, 3], strides = [2, 1], pads = [0, 1, 1, 0], dilations = [1, 1], count_include_pad = false} : (tensor<1x6x6x4xf32>) -> tensor<1x3x5x4xf32>
  func.return %1 : tensor<1x3x5x4xf32>
}

// CHECK: func.func @reducesum(
// CHECK-NEXT: %1 = graph.reduce_sum %0 {axes = [1, 2]} : (tensor<1x6x6x4xf32>) -> tensor<1x1x1x4xf32>
func.func @reducesum(%0: tensor<1x6x6x4xf32>) -> tensor<1x1x1x4xf32> {
  %1 = graph.reduce_sum %0 {axes = [1, 2]} : (tensor<1x6x6x4xf32>) -> tensor<1x1x1x4xf32>
  func.return %1 : tensor<1x1x1x4xf32>
}

// CHECK: func.func @reducemean(
// CHECK-NEXT: %1 = graph.reduce_mean %0 {axes = [1, 2]} : (tensor<1x6x6x4xf32>) -> tensor<1x1x1x4xf32>
func.func @reducemean(%0: tensor<1x6x6x4xf32>) -> tensor<1x1x1x4xf32> {
  %1 = graph.reduce_mean %0 {axes = [1, 2]} : (tensor<1x6x6x4xf32>) -> tensor<1x1x1x4xf32>
  func.return %1 : tensor<1x1x1x4xf32>
}

// CHECK: func.func @reducemax(
// CHECK-NEXT: %1 = graph.reduce_max %0 {axes = [1, 2]} : (tensor<1x6x6x4xf32>) -> tensor<1x1x1x4xf32>
func.func @reducemax(%0: tensor<1x6x6x4xf32>) -> tensor<1x1x1x4xf32> {
  %1 = graph.reduce_max %0 {axes = [1, 2]} : (tensor<1x6x6x4xf32>) -> tensor<1x1x1x4xf32>
  func.return %1 : tensor<1x1x1x4xf32>
}

// CHECK: func.func @reducemin(
// CHECK-NEXT: %1 = graph.reduce_min %0 {axes = [1, 2]} : (tensor<1x6x6x4xf32>) -> tensor<1x1x1x4xf32>
func.func @reducemin(%0: tensor<1x6x6x4xf32>) -> tensor<1x1x1x4xf32> {
  %1 = graph.reduce_min %0 {axes = [1, 2]} : (tensor<1x6x6x4xf32>) -> tensor<1x1x1x4xf32>
  func.return %1 : tensor<1x1x1x4xf32>
}

// CHECK: func.func @reduceprod(
// CHECK-NEXT: %1 = graph.reduce_prod %0 {axes = [1, 2]} : (tensor<1x6x6x4xf32>) -> tensor<1x1x1x4xf32>
func.func @reduceprod(%0: tensor<1x6x6x4xf32>) -> tensor<1x1x1x4xf32> {
  %1 = graph.reduce_prod %0 {axes = [1, 2]} : (tensor<1x6x6x4xf32>) -> tensor<1x1x1x4xf32>
  func.return %1 : tensor<1x1x1x4xf32>
}

// CHECK: func.func @reducesum_quant(
// CHECK-NEXT: %1 = graph.reduce_sum %0 {axes = [1, 2]} : (tensor<1x6x6x4x!quant.uniform<i8:f32, 0.05:-3>>) -> tensor<1x1x1x4xi32>
func.func @reducesum_quant(%0: tensor<1x6x6x4x!quant.uniform<i8:f32, 0.05:-3>>) -> tensor<1x1x1x4xi32> {
  %1 = graph.reduce_sum %0 {axes = [1, 2]} : (tensor<1x6x6x4x!quant.uniform<i8:f32, 0.05:-3>>) -> tensor<1x1x1x4xi32>
  func.return %1 : tensor<1x1x1x4xi32>
}

// CHECK: func.func @reducemax_quant(
// CHECK-NEXT: %1 = graph.reduce_max %0 {axes = [3]} : (tensor<1x6x6x4x!quant.uniform<i8:f32, 0.05:-3>>) -> tensor<1x6x6x1x!quant.uniform<i8:f32, 0.05:-3>>
func.func @reducemax_quant(%0: tensor<1x6x6x4x!quant.uniform<i8:f32, 0.05:-3>>) -> tensor<1x6x6x1x!quant.uniform<i8:f32, 0.05:-3>> {
  %1 = graph.reduce_max %0 {axes = [3]} : (tensor<1x6x6x4x!quant.uniform<i8:f32, 0.05:-3>>) -> tensor<1x6x6x1x!quant.uniform<i8:f32, 0.05:-3>>
  func.return %1 : tensor<1x6x6x1x!quant.uniform<i8:f32, 0.05:-3>>
}

// CHECK: func.func @softmax(
// CHECK-NEXT: %1 = graph.softmax %0 {axis = 1} : (tensor<2x3xf32>) -> tensor<2x3xf32>
func.func @softmax(%0: tensor<2x3xf32>) -> tensor<2x3xf32> {
  %1 = graph.softmax %0 {axis = 1} : (tensor<2x3xf32>) -> tensor<2x3xf32>
  func.return %1 : tensor<2x3xf32>
}

// CHECK: func.func @logsoftmax(
// CHECK-NEXT: %1 = graph.log_softmax %0 {axis = 0} : (tensor<2x3xf32>) -> tensor<2x3xf32>
func.func @logsoftmax(%0: tensor<2x3xf32>) -> tensor<2x3xf32> {
  %1 = graph.log_softmax %0 {axis = 0} : (tensor<2x3xf32>) -> tensor<2x3xf32>
  func.return %1 : tensor<2x3xf32>
}

// CHECK: func.func @batchnorm(
// CHECK-NEXT: %5 = graph.batch_norm %0, %1, %2, %3, %4 {axis = 3, epsilon = 1.000000e-05 : f32} : (tensor<1x6x6x4xf32>, tensor<4xf32>, tensor<4xf32>, tensor<4xf32>, tensor<4xf32>) -> tensor<1x6x6x4xf32>
func.func @batchnorm(%0: tensor<1x6x6x4xf32>, %1: tensor<4xf32>, %2: tensor<4xf32>, %3: tensor<4xf32>, %4: tensor<4xf32>) -> tensor<1x6x6x4xf32> {
  %5 = graph.batch_norm %0, %1, %2, %3, %4 {axis = 3, epsilon = 1.000000e-05 : f32} : (tensor<1x6x6x4xf32>, tensor<4xf32>, tensor<4xf32>, tensor<4xf32>, tensor<4xf32>) -> tensor<1x6x6x4xf32>
  func.return %5 : tensor<1x6x6x4xf32>
}

// CHECK: func.func @layernorm(
// CHECK-NEXT: %3 = graph.layer_norm %0, %1, %2 {axis = 1, epsilon = 1.000000e-05 : f32} : (tensor<2x3xf32>, tensor<3xf32>, tensor<3xf32>) -> tensor<2x3xf32>
func.func @layernorm(%0: tensor<2x3xf32>, %1: tensor<3xf32>, %2: tensor<3xf32>) -> tensor<2x3xf32> {
  %3 = graph.layer_norm %0, %1, %2 {axis = 1, epsilon = 1.000000e-05 : f32} : (tensor<2x3xf32>, tensor<3xf32>, tensor<3xf32>) -> tensor<2x3xf32>
  func.return %3 : tensor<2x3xf32>
}
