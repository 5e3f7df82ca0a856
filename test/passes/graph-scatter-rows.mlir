// RUN: npu-opt %s -p "graph-scatter-rows,graph-canonicalize" --split-input-file | filecheck %s

// A row of every head is written where the cache lies: its transpositions are gone.

func.func @main(%cache : tensor<2x512x64xf32>, %at : tensor<1xi32>, %new : tensor<1x128xf32>) -> tensor<2x512x64xf32>
    attributes {npu.input_names = ["cache", "at", "new"], npu.output_names = ["next"], npu.states = [{name = "cache", argument = 0 : i64, result = 0 : i64}]} {
  %0 = graph.transpose %cache {permutation = [1, 0, 2]} : (tensor<2x512x64xf32>) -> tensor<512x2x64xf32> loc("t0")
  %1 = graph.reshape %0 : (tensor<512x2x64xf32>) -> tensor<512x128xf32> loc("r0")
  %2 = graph.scatter %1, %at, %new {kind = "set"} : (tensor<512x128xf32>, tensor<1xi32>, tensor<1x128xf32>) -> tensor<512x128xf32> loc("put")
  %3 = graph.reshape %2 : (tensor<512x128xf32>) -> tensor<512x2x64xf32> loc("r1")
  %4 = graph.transpose %3 {permutation = [1, 0, 2]} : (tensor<512x2x64xf32>) -> tensor<2x512x64xf32> loc("t1")
  func.return %4 : tensor<2x512x64xf32>
}
// CHECK: %[[ROWS:.*]] = graph.reshape %cache : (tensor<2x512x64xf32>) -> tensor<1024x64xf32>
// CHECK: graph.constant {value = #graph.blob<i32, [2, 1], [0, 512]>}
// CHECK: %[[NEXT:.*]] = graph.scatter %[[ROWS]], {{.*}}, {{.*}} {kind = "set"} : (tensor<1024x64xf32>, tensor<2xi32>, tensor<2x64xf32>) -> tensor<1024x64xf32>
// CHECK-NEXT: %[[BACK:.*]] = graph.reshape %[[NEXT]] : (tensor<1024x64xf32>) -> tensor<2x512x64xf32>
// CHECK-NEXT: func.return %[[BACK]]

// -----

// What is no state is copied anyway.

func.func @main(%data : tensor<2x512x64xf32>, %at : tensor<1xi32>, %new : tensor<1x128xf32>) -> tensor<512x128xf32> {
  %0 = graph.transpose %data {permutation = [1, 0, 2]} : (tensor<2x512x64xf32>) -> tensor<512x2x64xf32> loc("t0")
  %1 = graph.reshape %0 : (tensor<512x2x64xf32>) -> tensor<512x128xf32> loc("r0")
  %2 = graph.scatter %1, %at, %new {kind = "set"} : (tensor<512x128xf32>, tensor<1xi32>, tensor<1x128xf32>) -> tensor<512x128xf32> loc("put")
  func.return %2 : tensor<512x128xf32>
}
// CHECK: graph.transpose
// CHECK: graph.scatter {{.*}} -> tensor<512x128xf32>
