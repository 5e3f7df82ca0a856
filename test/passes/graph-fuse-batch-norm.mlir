// RUN: npu-opt %s -p "graph-fuse-batch-norm,graph-canonicalize" | filecheck %s

// scale / sqrt(variance + epsilon) is 2: the weights double, and the bias follows.

func.func @convolution(%x : tensor<1x4x4x1xf32>) -> tensor<1x4x4x2xf32> {
  %w = graph.constant {value = #graph.blob<f32, [1, 1, 1, 2], [1.0, 3.0]>} : () -> tensor<1x1x1x2xf32>
  %scale = graph.constant {value = #graph.blob<f32, [2], [2.0, 2.0]>} : () -> tensor<2xf32>
  %bias = graph.constant {value = #graph.blob<f32, [2], [0.5, -0.5]>} : () -> tensor<2xf32>
  %mean = graph.constant {value = #graph.blob<f32, [2], [1.0, 0.0]>} : () -> tensor<2xf32>
  %variance = graph.constant {value = #graph.blob<f32, [2], [0.75, 0.75]>} : () -> tensor<2xf32>
  %1 = graph.conv2d %x, %w {strides = [1, 1], pads = [0, 0, 0, 0], dilations = [1, 1], groups = 1} : (tensor<1x4x4x1xf32>, tensor<1x1x1x2xf32>) -> tensor<1x4x4x2xf32>
  %2 = graph.batch_norm %1, %scale, %bias, %mean, %variance {axis = 3, epsilon = 0.25 : f32} : (tensor<1x4x4x2xf32>, tensor<2xf32>, tensor<2xf32>, tensor<2xf32>, tensor<2xf32>) -> tensor<1x4x4x2xf32>
  func.return %2 : tensor<1x4x4x2xf32>
}
// CHECK: func.func @convolution
// CHECK-NEXT: %[[B:.*]] = graph.constant {value = #graph.blob<f32, [2], [-1.5, -0.5]>}
// CHECK-NEXT: %[[W:.*]] = graph.constant {value = #graph.blob<f32, [1, 1, 1, 2], [2.0, 6.0]>}
// CHECK-NEXT: graph.conv2d %x, %[[W]], %[[B]]
// CHECK-NEXT: func.return

// Where there is no convolution, a multiplication and an addition by channel are left.

func.func @alone(%x : tensor<1x2x4xf32>) -> tensor<1x2x4xf32> {
  %scale = graph.constant {value = #graph.blob<f32, [2], [2.0, 2.0]>} : () -> tensor<2xf32>
  %mean = graph.constant {value = #graph.blob<f32, [2], [1.0, 0.0]>} : () -> tensor<2xf32>
  %variance = graph.constant {value = #graph.blob<f32, [2], [0.75, 0.75]>} : () -> tensor<2xf32>
  %1 = graph.batch_norm %x, %scale, %mean, %mean, %variance {axis = 1, epsilon = 0.25 : f32} : (tensor<1x2x4xf32>, tensor<2xf32>, tensor<2xf32>, tensor<2xf32>, tensor<2xf32>) -> tensor<1x2x4xf32>
  func.return %1 : tensor<1x2x4xf32>
}
// CHECK: func.func @alone
// CHECK-NEXT: %[[S:.*]] = graph.constant {value = #graph.blob<f32, [1, 2, 1], [2.0, 2.0]>}
// CHECK-NEXT: %[[O:.*]] = graph.constant {value = #graph.blob<f32, [1, 2, 1], [-1.0, 0.0]>}
// CHECK-NEXT: %[[P:.*]] = graph.mul %x, %[[S]]
// CHECK-NEXT: graph.add %[[P]], %[[O]]
