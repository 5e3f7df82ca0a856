// RUN: npu-opt %s -p graph-unroll | filecheck %s
// RUN: npu-opt %s -p 'graph-unroll{steps=1}' | filecheck %s --check-prefix=LONG
// RUN: npu-opt %s -p 'graph-unroll{precision="int16x8"}' | filecheck %s --check-prefix=WIDE

// A recurrence becomes its time steps, each with a product and a function of the state.
func.func @main(%x: tensor<2x1x3xf32>, %w: tensor<3x4xf32>, %r: tensor<4x4xf32>, %bias: tensor<4xf32>, %lens: tensor<1xi32>, %h: tensor<1x4xf32>) -> tensor<1x4xf32> {
  %y, %last = graph.rnn %x, %w, %r, %bias, %bias, %lens, %h {activations = ["tanh"], reverse = 0} : (tensor<2x1x3xf32>, tensor<3x4xf32>, tensor<4x4xf32>, tensor<4xf32>, tensor<4xf32>, tensor<1xi32>, tensor<1x4xf32>) -> (tensor<2x1x4xf32>, tensor<1x4xf32>) loc("layer")
  func.return %last : tensor<1x4xf32>
}
// CHECK-NOT: graph.rnn
// CHECK: graph.tanh
// CHECK: graph.tanh
// CHECK-NOT: graph.tanh
// LONG: graph.rnn
// WIDE: npu.recurrent = {layer = "int16x8"}
