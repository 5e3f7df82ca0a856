// RUN: npu-opt %s --split-input-file -p "graph-order" --target edge256 | filecheck %s

// Two branches, each of which begins with 300,000 bytes: one after the other they fit the
// scratchpad of 524,288 bytes, side by side they do not.

func.func @branches(%x : tensor<75000xi32>, %y : tensor<75000xi32>) -> tensor<1xi32> {
  %a = graph.group %x {kind = "vector"} {
  ^bb0(%i : tensor<75000xi32>):
    %0 = graph.neg %i : (tensor<75000xi32>) -> tensor<75000xi32>
    graph.yield %0 : tensor<75000xi32>
  } : (tensor<75000xi32>) -> tensor<75000xi32>
  %b = graph.group %y {kind = "vector"} {
  ^bb0(%i : tensor<75000xi32>):
    %0 = graph.abs %i : (tensor<75000xi32>) -> tensor<75000xi32>
    graph.yield %0 : tensor<75000xi32>
  } : (tensor<75000xi32>) -> tensor<75000xi32>
  %c = graph.group %a {kind = "vector"} {
  ^bb0(%i : tensor<75000xi32>):
    %0 = graph.reduce_max %i {axes = [0]} : (tensor<75000xi32>) -> tensor<1xi32>
    graph.yield %0 : tensor<1xi32>
  } : (tensor<75000xi32>) -> tensor<1xi32>
  %d = graph.group %b {kind = "vector"} {
  ^bb0(%i : tensor<75000xi32>):
    %0 = graph.reduce_min %i {axes = [0]} : (tensor<75000xi32>) -> tensor<1xi32>
    graph.yield %0 : tensor<1xi32>
  } : (tensor<75000xi32>) -> tensor<1xi32>
  %e = graph.group %c, %d {kind = "vector"} {
  ^bb0(%i : tensor<1xi32>, %j : tensor<1xi32>):
    %0 = graph.max %i, %j : (tensor<1xi32>, tensor<1xi32>) -> tensor<1xi32>
    graph.yield %0 : tensor<1xi32>
  } : (tensor<1xi32>, tensor<1xi32>) -> tensor<1xi32>
  func.return %e : tensor<1xi32>
}
// CHECK: func.func @branches
// CHECK: graph.neg
// CHECK: graph.reduce_max
// CHECK: graph.abs
// CHECK: graph.reduce_min
// CHECK: graph.max

// -----

// What fits stays in the order of the model.

func.func @small(%x : tensor<30xi32>, %y : tensor<30xi32>) -> tensor<1xi32> {
  %a = graph.group %x {kind = "vector"} {
  ^bb0(%i : tensor<30xi32>):
    %0 = graph.neg %i : (tensor<30xi32>) -> tensor<30xi32>
    graph.yield %0 : tensor<30xi32>
  } : (tensor<30xi32>) -> tensor<30xi32>
  %b = graph.group %y {kind = "vector"} {
  ^bb0(%i : tensor<30xi32>):
    %0 = graph.abs %i : (tensor<30xi32>) -> tensor<30xi32>
    graph.yield %0 : tensor<30xi32>
  } : (tensor<30xi32>) -> tensor<30xi32>
  %c = graph.group %a, %b {kind = "vector"} {
  ^bb0(%i : tensor<30xi32>, %j : tensor<30xi32>):
    %0 = graph.max %i, %j : (tensor<30xi32>, tensor<30xi32>) -> tensor<30xi32>
    %1 = graph.reduce_max %0 {axes = [0]} : (tensor<30xi32>) -> tensor<1xi32>
    graph.yield %1 : tensor<1xi32>
  } : (tensor<30xi32>, tensor<30xi32>) -> tensor<1xi32>
  func.return %c : tensor<1xi32>
}
// CHECK: func.func @small
// CHECK: graph.neg
// CHECK: graph.abs
