// RUN: npu-opt %s --split-input-file -p "graph-decompose" --target mobile4k | filecheck %s
// RUN: npu-opt %s --split-input-file -p "graph-decompose" --target edge256 | filecheck %s --check-prefix=INT

// A softmax is its steps where the vector unit has floats, and stays whole for the host elsewhere.

func.func @main(%x : tensor<4x10xf32>) -> tensor<4x10xf32> {
  %1 = graph.softmax %x {axis = 1} : (tensor<4x10xf32>) -> tensor<4x10xf32>
  func.return %1 : tensor<4x10xf32>
}
// CHECK: %[[M:.*]] = graph.reduce_max %x {axes = [1]}
// CHECK-NEXT: %[[D:.*]] = graph.sub %x, %[[M]]
// CHECK-NEXT: %[[E:.*]] = graph.exp %[[D]]
// CHECK-NEXT: %[[S:.*]] = graph.reduce_sum %[[E]] {axes = [1]}
// CHECK-NEXT: graph.div %[[E]], %[[S]]
// INT: func.func @main
// INT-NEXT: graph.softmax

// -----

// A recurrence is the products of all time steps with the input weights, then its steps in order.

func.func @recurrence(%x : tensor<2x1x3xf32>, %w : tensor<3x4xf32>, %r : tensor<4x4xf32>, %bias : tensor<4xf32>, %h : tensor<1x4xf32>) -> tensor<2x1x4xf32> {
  %zeros = graph.constant {value = #graph.blob<f32, [4], [0.0, 0.0, 0.0, 0.0]>} : () -> tensor<4xf32>
  %lens = graph.constant {value = #graph.blob<i32, [1], [2]>} : () -> tensor<1xi32>
  %y, %last = graph.rnn %x, %w, %r, %bias, %zeros, %lens, %h {activations = ["tanh"], reverse = 0} : (tensor<2x1x3xf32>, tensor<3x4xf32>, tensor<4x4xf32>, tensor<4xf32>, tensor<4xf32>, tensor<1xi32>, tensor<1x4xf32>) -> (tensor<2x1x4xf32>, tensor<1x4xf32>)
  func.return %y : tensor<2x1x4xf32>
}
// CHECK: func.func @recurrence
// CHECK: %[[ROWS:.*]] = graph.reshape %x
// CHECK-NEXT: %[[XW:.*]] = graph.matmul %[[ROWS]], %w
// CHECK-NEXT: %[[ALL:.*]] = graph.add %[[XW]]
// CHECK-NEXT: %[[X0:.*]] = graph.slice %[[ALL]] {starts = [0, 0], sizes = [1, 4]
// CHECK-NEXT: %[[P0:.*]] = graph.matmul %h, %r
// CHECK-NEXT: %[[A0:.*]] = graph.add %[[P0]], %[[X0]]
// CHECK-NEXT: %[[H0:.*]] = graph.tanh %[[A0]]
// CHECK-NEXT: %[[X1:.*]] = graph.slice %[[ALL]] {starts = [1, 0], sizes = [1, 4]
// CHECK-NEXT: %[[P1:.*]] = graph.matmul %[[H0]], %r
// CHECK-NEXT: %[[A1:.*]] = graph.add %[[P1]], %[[X1]]
// CHECK-NEXT: %[[H1:.*]] = graph.tanh %[[A1]]
// CHECK-NEXT: graph.concat %[[H0]], %[[H1]] {axis = 0}
// INT: func.func @recurrence
// INT: graph.rnn

// -----

// Dimensions that stay neighbours count as one: a copy has five at most.

func.func @windows(%x : tensor<2x4x2x4x2x8xf32>) -> tensor<2x4x4x2x2x8xf32> {
  %1 = graph.transpose %x {permutation = [0, 1, 3, 2, 4, 5]} : (tensor<2x4x2x4x2x8xf32>) -> tensor<2x4x4x2x2x8xf32>
  func.return %1 : tensor<2x4x4x2x2x8xf32>
}
// CHECK: func.func @windows
// CHECK-NEXT: %[[A:.*]] = graph.reshape %x : (tensor<2x4x2x4x2x8xf32>) -> tensor<8x2x4x16xf32>
// CHECK-NEXT: %[[B:.*]] = graph.transpose %[[A]] {permutation = [0, 2, 1, 3]}
// CHECK-NEXT: graph.reshape %[[B]] : (tensor<8x4x2x16xf32>) -> tensor<2x4x4x2x2x8xf32>
// INT: func.func @windows
// INT-NEXT: graph.reshape %x : (tensor<2x4x2x4x2x8xf32>) -> tensor<8x2x4x16xf32>
