// RUN: npu-opt %s | filecheck %s

// Rows that indices name.

// CHECK: func.func @gather(
// CHECK-NEXT: %2 = graph.gather %0, %1 : (tensor<100x16xf32>, tensor<4xi64>) -> tensor<4x16xf32>
func.func @gather(%0: tensor<100x16xf32>, %1: tensor<4xi64>) -> tensor<4x16xf32> {
  %2 = graph.gather %0, %1 : (tensor<100x16xf32>, tensor<4xi64>) -> tensor<4x16xf32>
  func.return %2 : tensor<4x16xf32>
}

// CHECK: func.func @scatter(
// CHECK-NEXT: %3 = graph.scatter %0, %1, %2 {kind = "add"} : (tensor<100x16xf32>, tensor<4xi32>, tensor<4x16xf32>) -> tensor<100x16xf32>
func.func @scatter(%0: tensor<100x16xf32>, %1: tensor<4xi32>, %2: tensor<4x16xf32>) -> tensor<100x16xf32> {
  %3 = graph.scatter %0, %1, %2 {kind = "add"} : (tensor<100x16xf32>, tensor<4xi32>, tensor<4x16xf32>) -> tensor<100x16xf32>
  func.return %3 : tensor<100x16xf32>
}
