// RUN: npu-opt %s -p "graph-decompose" --target mobile4k | filecheck %s
// RUN: npu-opt %s -p "graph-decompose" --target edge256 | filecheck %s --check-prefix=INT

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
