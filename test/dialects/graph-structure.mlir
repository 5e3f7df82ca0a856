// RUN: npu-opt %s | filecheck %s

// Small constants are written out; values that are not finite, as their bits.
// CHECK: func.func @constants
func.func @constants() {
  // CHECK-NEXT: graph.constant {value = #graph.blob<f32, [2, 2], [1.0, -0.5, 0x7F800000, 0.1]>} : () -> tensor<2x2xf32>
  %0 = graph.constant {value = #graph.blob<f32, [2, 2], [1.0, -0.5, 0x7F800000, 0.1]>} : () -> tensor<2x2xf32>
  // CHECK-NEXT: graph.constant {value = #graph.blob<i8, [2], [-3, 7]>} : () -> tensor<2x!quant.uniform<i8:f32, 0.5:-3>>
  %1 = graph.constant {value = #graph.blob<i8, [2], [-3, 7]>} : () -> tensor<2x!quant.uniform<i8:f32, 0.5:-3>>
  // CHECK-NEXT: graph.constant {value = #graph.blob<bool, [], [1]>} : () -> tensor<i1>
  %2 = graph.constant {value = #graph.blob<bool, [], [1]>} : () -> tensor<i1>
  func.return
}

// A group holds what becomes one nest; an operation in it says where it runs, and why.
// CHECK: func.func @group
func.func @group(%x: tensor<4xf32>) -> tensor<4xf32> {
  // CHECK-NEXT: %0 = graph.group %x {kind = "vector"} {
  %0 = graph.group %x {kind = "vector"} {
  // CHECK-NEXT: ^bb0(%a: tensor<4xf32>):
  ^bb0(%a: tensor<4xf32>):
    // CHECK-NEXT: %1 = graph.relu %a {npu.placement = #graph.placement<vpu, "elementwise", "lanes for f32">} : (tensor<4xf32>) -> tensor<4xf32>
    %1 = graph.relu %a {npu.placement = #graph.placement<vpu, "elementwise", "lanes for f32">} : (tensor<4xf32>) -> tensor<4xf32>
    // CHECK-NEXT: graph.yield %1 : tensor<4xf32>
    graph.yield %1 : tensor<4xf32>
  // CHECK-NEXT: } : (tensor<4xf32>) -> tensor<4xf32>
  } : (tensor<4xf32>) -> tensor<4xf32>
  func.return %0 : tensor<4xf32>
}

// An opaque operation carries the model's node as bytes.
// CHECK: func.func @opaque
func.func @opaque(%x: tensor<2x2xf32>) -> tensor<f32> {
  // CHECK-NEXT: graph.opaque %x {domain = "", op_type = "Det", payload = #graph.blob<u8, [2], [8, 8]>, reason = "no determinant"} : (tensor<2x2xf32>) -> tensor<f32>
  %0 = graph.opaque %x {domain = "", op_type = "Det", payload = #graph.blob<u8, [2], [8, 8]>, reason = "no determinant"} : (tensor<2x2xf32>) -> tensor<f32>
  func.return %0 : tensor<f32>
}
