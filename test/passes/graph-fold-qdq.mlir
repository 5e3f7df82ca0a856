// RUN: npu-opt %s -p "graph-fold-qdq" | filecheck %s

// A convolution between dequantize and quantize is integer; the rectifier compares stored values.
// The multiplier is f32(f32(0.1 * 0.5) / 0.2) per channel, the bias whole multiples of 0.1 * 0.5.

func.func @convolution(%x : tensor<1x4x4x1x!quant.uniform<i8:f32, 0.1>>) -> tensor<1x4x4x2x!quant.uniform<i8:f32, 0.2:-3>> {
  %w = graph.constant {value = #graph.blob<i8, [1, 1, 1, 2], [1, 2]>} : () -> tensor<1x1x1x2x!quant.uniform<i8:f32:3, {0.5, 0.25}>>
  %b = graph.constant {value = #graph.blob<i32, [2], [7, 8]>} : () -> tensor<2x!quant.uniform<i32:f32:0, {0.05, 0.025}>>
  %x1 = graph.dequantize %x : (tensor<1x4x4x1x!quant.uniform<i8:f32, 0.1>>) -> tensor<1x4x4x1xf32>
  %w1 = graph.dequantize %w : (tensor<1x1x1x2x!quant.uniform<i8:f32:3, {0.5, 0.25}>>) -> tensor<1x1x1x2xf32>
  %b1 = graph.dequantize %b : (tensor<2x!quant.uniform<i32:f32:0, {0.05, 0.025}>>) -> tensor<2xf32>
  %1 = graph.conv2d %x1, %w1, %b1 {strides = [1, 1], pads = [0, 0, 0, 0], dilations = [1, 1], groups = 1} : (tensor<1x4x4x1xf32>, tensor<1x1x1x2xf32>, tensor<2xf32>) -> tensor<1x4x4x2xf32>
  %2 = graph.relu %1 : (tensor<1x4x4x2xf32>) -> tensor<1x4x4x2xf32>
  %3 = graph.quantize %2 : (tensor<1x4x4x2xf32>) -> tensor<1x4x4x2x!quant.uniform<i8:f32, 0.2:-3>>
  func.return %3 : tensor<1x4x4x2x!quant.uniform<i8:f32, 0.2:-3>>
}
// CHECK: func.func @convolution
// CHECK: %[[B:.*]] = graph.constant {value = #graph.blob<i32, [2], [7, 8]>} : () -> tensor<2xi32>
// CHECK-NEXT: %[[A:.*]] = graph.conv2d %x, %w, %[[B]]
// CHECK-NEXT: %[[R:.*]] = graph.requantize %[[A]] {recipe = #graph.requant<f32, [0.25, 0.125]>}
// CHECK-NEXT: graph.relu %[[R]]

// A function of one tensor is a table.

func.func @table(%x : tensor<4x!quant.uniform<u8:f32, 0.1:128>>) -> tensor<4x!quant.uniform<u8:f32, 0.004>> {
  %1 = graph.dequantize %x : (tensor<4x!quant.uniform<u8:f32, 0.1:128>>) -> tensor<4xf32>
  %2 = graph.sigmoid %1 : (tensor<4xf32>) -> tensor<4xf32>
  %3 = graph.quantize %2 : (tensor<4xf32>) -> tensor<4x!quant.uniform<u8:f32, 0.004>>
  func.return %3 : tensor<4x!quant.uniform<u8:f32, 0.004>>
}
// CHECK: func.func @table
// CHECK-NEXT: %[[T:.*]] = graph.constant {{.*}} tensor<256xui8>
// CHECK-NEXT: graph.lookup %x, %[[T]]

// A sum is done in steps of the result with 20 fractional bits.

func.func @sum(%a : tensor<4x!quant.uniform<i8:f32, 0.5>>, %b : tensor<4x!quant.uniform<i8:f32, 0.25:3>>) -> tensor<4x!quant.uniform<i8:f32, 1.0>> {
  %1 = graph.dequantize %a : (tensor<4x!quant.uniform<i8:f32, 0.5>>) -> tensor<4xf32>
  %2 = graph.dequantize %b : (tensor<4x!quant.uniform<i8:f32, 0.25:3>>) -> tensor<4xf32>
  %3 = graph.add %1, %2 : (tensor<4xf32>, tensor<4xf32>) -> tensor<4xf32>
  %4 = graph.quantize %3 : (tensor<4xf32>) -> tensor<4x!quant.uniform<i8:f32, 1.0>>
  func.return %4 : tensor<4x!quant.uniform<i8:f32, 1.0>>
}
// CHECK: func.func @sum
// CHECK-NEXT: %[[A:.*]] = graph.requantize %a {recipe = #graph.requant<fixed, [1073741824], [11], half_even>}
// CHECK-NEXT: %[[B:.*]] = graph.requantize %b {recipe = #graph.requant<fixed, [1073741824], [12], half_even>}
// CHECK-NEXT: %[[S:.*]] = graph.add %[[A]], %[[B]]
// CHECK-NEXT: graph.requantize %[[S]] {recipe = #graph.requant<fixed, [1], [20], half_even>}

// Moves pass; the padding is what is stored for 0.

func.func @moves(%x : tensor<1x4x!quant.uniform<i8:f32, 0.5:3>>) -> tensor<6x1x!quant.uniform<i8:f32, 0.5:3>> {
  %1 = graph.dequantize %x : (tensor<1x4x!quant.uniform<i8:f32, 0.5:3>>) -> tensor<1x4xf32>
  %2 = graph.pad %1 {low = [0, 1], high = [0, 1], value = 0.0 : f32} : (tensor<1x4xf32>) -> tensor<1x6xf32>
  %3 = graph.reshape %2 : (tensor<1x6xf32>) -> tensor<6x1xf32>
  %4 = graph.quantize %3 : (tensor<6x1xf32>) -> tensor<6x1x!quant.uniform<i8:f32, 0.5:3>>
  func.return %4 : tensor<6x1x!quant.uniform<i8:f32, 0.5:3>>
}
// CHECK: func.func @moves
// CHECK-NEXT: %[[P:.*]] = graph.pad %x {low = [0, 1], high = [0, 1], value = 3}
// CHECK-NEXT: %[[V:.*]] = graph.reshape %[[P]]
// CHECK-NEXT: func.return %[[V]]

// Stored values compare as their numbers do; positions take as few bytes as they need.

func.func @greatest(%x : tensor<4x3x!quant.uniform<i8:f32, 0.5>>) -> tensor<4x1xi32> {
  %m = graph.reduce_max %x {axes = [1]} : (tensor<4x3x!quant.uniform<i8:f32, 0.5>>) -> tensor<4x1x!quant.uniform<i8:f32, 0.5>>
  %1 = graph.dequantize %x : (tensor<4x3x!quant.uniform<i8:f32, 0.5>>) -> tensor<4x3xf32>
  %2 = graph.dequantize %m : (tensor<4x1x!quant.uniform<i8:f32, 0.5>>) -> tensor<4x1xf32>
  %3 = graph.eq %1, %2 : (tensor<4x3xf32>, tensor<4x1xf32>) -> tensor<4x3xi1>
  %p = graph.constant {value = #graph.blob<i32, [3], [0, 1, 2]>} : () -> tensor<3xi32>
  %n = graph.constant {value = #graph.blob<i32, [], [3]>} : () -> tensor<i32>
  %4 = graph.where %3, %p, %n : (tensor<4x3xi1>, tensor<3xi32>, tensor<i32>) -> tensor<4x3xi32>
  %5 = graph.reduce_min %4 {axes = [1]} : (tensor<4x3xi32>) -> tensor<4x1xi32>
  func.return %5 : tensor<4x1xi32>
}
// CHECK: func.func @greatest
// CHECK-NEXT: %[[M:.*]] = graph.reduce_max %x
// CHECK-NEXT: %[[X:.*]] = graph.requantize %x {{.*}} -> tensor<4x3xi32>
// CHECK-NEXT: %[[L:.*]] = graph.requantize %[[M]] {{.*}} -> tensor<4x1xi32>
// CHECK-NEXT: %[[E:.*]] = graph.eq %[[X]], %[[L]]
// CHECK: %[[W:.*]] = graph.where %[[E]]
// CHECK-NEXT: %[[B:.*]] = graph.requantize %[[W]] {{.*}} -> tensor<4x3x!quant.uniform<u8:f32, 1.0>>
// CHECK-NEXT: %[[R:.*]] = graph.reduce_min %[[B]]
// CHECK-NEXT: graph.requantize %[[R]] {{.*}} -> tensor<4x1xi32>
