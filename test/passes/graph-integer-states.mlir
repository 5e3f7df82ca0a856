// RUN: npu-opt %s -p "graph-integer-states" --split-input-file | filecheck %s

// The state is kept as i8, its initial content 0.5 and -1 as 5 + 3 and -10 + 3.

func.func @main(%x : tensor<2x!quant.uniform<i8:f32, 0.1:3>>, %h : tensor<2xf32>) -> (tensor<2x!quant.uniform<i8:f32, 0.1:3>>, tensor<2xf32>)
    attributes {npu.input_names = ["x", "h"], npu.output_names = ["y", "hn"], npu.states = [{name = "h", argument = 1 : i64, result = 1 : i64, initial = #graph.blob<f32, [2], [0.5, -1.0]>}]} {
  %0 = graph.quantize %h : (tensor<2xf32>) -> tensor<2x!quant.uniform<i8:f32, 0.1:3>> loc("q")
  %1 = graph.relu %0 : (tensor<2x!quant.uniform<i8:f32, 0.1:3>>) -> tensor<2x!quant.uniform<i8:f32, 0.1:3>> loc("relu")
  %2 = graph.dequantize %1 : (tensor<2x!quant.uniform<i8:f32, 0.1:3>>) -> tensor<2xf32> loc("dq")
  func.return %x, %2 : tensor<2x!quant.uniform<i8:f32, 0.1:3>>, tensor<2xf32>
}
// CHECK: func.func @main(%x: tensor<2x!quant.uniform<i8:f32, 0.1:3>>, %h: tensor<2x!quant.uniform<i8:f32, 0.1:3>>)
// CHECK: initial = #graph.blob<i8, [2], [8, -7]>
// CHECK-NEXT: %0 = graph.relu %h
// CHECK-NEXT: func.return %x, %0

// -----

// A state that somebody reads as real numbers stays as it is.

func.func @main(%x : tensor<2xf32>, %h : tensor<2xf32>) -> (tensor<2xf32>, tensor<2xf32>)
    attributes {npu.input_names = ["x", "h"], npu.output_names = ["y", "hn"], npu.states = [{name = "h", argument = 1 : i64, result = 1 : i64}]} {
  %0 = graph.quantize %h : (tensor<2xf32>) -> tensor<2x!quant.uniform<i8:f32, 0.1:3>> loc("q")
  %1 = graph.add %x, %h : (tensor<2xf32>, tensor<2xf32>) -> tensor<2xf32> loc("add")
  %2 = graph.dequantize %0 : (tensor<2x!quant.uniform<i8:f32, 0.1:3>>) -> tensor<2xf32> loc("dq")
  func.return %1, %2 : tensor<2xf32>, tensor<2xf32>
}
// CHECK: func.func @main(%x: tensor<2xf32>, %h: tensor<2xf32>)
// CHECK: graph.quantize %h
