// RUN: npu-opt %s --split-input-file --verify-diagnostics | filecheck %s

// Layers of one direction: the results are the outputs of all steps and the last states.

// CHECK: func.func @lstm(
// CHECK: %y, %h, %c = graph.lstm %{{.*}} {activations = ["sigmoid", "tanh", "leaky_relu"], parameters = array<f32: 0.000000e+00, 0.000000e+00, 0.000000e+00, 0.000000e+00, 1.000000e-01, 0.000000e+00>, reverse = 1, clip = 3.000000e+00 : f32, input_forget = 0}
func.func @lstm(%x: tensor<3x1x4xf32>, %w: tensor<4x8xf32>, %r: tensor<2x8xf32>, %b: tensor<8xf32>, %lens: tensor<1xi32>, %s: tensor<1x2xf32>, %p: tensor<6xf32>) -> tensor<3x1x2xf32> {
  %y, %h, %c = graph.lstm %x, %w, %r, %b, %b, %lens, %s, %s, %p {activations = ["sigmoid", "tanh", "leaky_relu"], parameters = array<f32: 0.0, 0.0, 0.0, 0.0, 0.1, 0.0>, reverse = 1, clip = 3.0 : f32, input_forget = 0} : (tensor<3x1x4xf32>, tensor<4x8xf32>, tensor<2x8xf32>, tensor<8xf32>, tensor<8xf32>, tensor<1xi32>, tensor<1x2xf32>, tensor<1x2xf32>, tensor<6xf32>) -> (tensor<3x1x2xf32>, tensor<1x2xf32>, tensor<1x2xf32>)
  func.return %y : tensor<3x1x2xf32>
}

// -----

// The weights have the columns of all gates.
func.func @gru(%x: tensor<3x1x4xf32>, %w: tensor<4x8xf32>, %r: tensor<2x6xf32>, %b: tensor<6xf32>, %lens: tensor<1xi32>, %s: tensor<1x2xf32>) {
  %y, %h = graph.gru %x, %w, %r, %b, %b, %lens, %s {activations = ["sigmoid", "tanh"], reverse = 0, linear_before_reset = 0} : (tensor<3x1x4xf32>, tensor<4x8xf32>, tensor<2x6xf32>, tensor<6xf32>, tensor<6xf32>, tensor<1xi32>, tensor<1x2xf32>) -> (tensor<3x1x2xf32>, tensor<1x2xf32>)
  func.return
}
// CHECK: graph.gru: the input weights must be tensor<4x6xf32>; found tensor<4x8xf32>

// -----

// Activations are known by name.
func.func @rnn(%x: tensor<3x1x4xf32>, %w: tensor<4x2xf32>, %r: tensor<2x2xf32>, %b: tensor<2xf32>, %lens: tensor<1xi32>, %s: tensor<1x2xf32>) {
  %y, %h = graph.rnn %x, %w, %r, %b, %b, %lens, %s {activations = ["cos"], reverse = 0} : (tensor<3x1x4xf32>, tensor<4x2xf32>, tensor<2x2xf32>, tensor<2xf32>, tensor<2xf32>, tensor<1xi32>, tensor<1x2xf32>) -> (tensor<3x1x2xf32>, tensor<1x2xf32>)
  func.return
}
// CHECK: graph.rnn: there must be 1 activations of affine, elu, hard_sigmoid, {{.*}}; found cos
