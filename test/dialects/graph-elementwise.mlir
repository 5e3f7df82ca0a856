// RUN: npu-opt %s | filecheck %s

// Elementwise operations read as they print.

// CHECK: func.func @relu(
// CHECK-NEXT: %1 = graph.relu %0 : (tensor<2x3xf32>) -> tensor<2x3xf32>
func.func @relu(%0: tensor<2x3xf32>) -> tensor<2x3xf32> {
  %1 = graph.relu %0 : (tensor<2x3xf32>) -> tensor<2x3xf32>
  func.return %1 : tensor<2x3xf32>
}

// CHECK: func.func @neg(
// CHECK-NEXT: %1 = graph.neg %0 : (tensor<2x3xf32>) -> tensor<2x3xf32>
func.func @neg(%0: tensor<2x3xf32>) -> tensor<2x3xf32> {
  %1 = graph.neg %0 : (tensor<2x3xf32>) -> tensor<2x3xf32>
  func.return %1 : tensor<2x3xf32>
}

// CHECK: func.func @abs(
// CHECK-NEXT: %1 = graph.abs %0 : (tensor<2x3xf32>) -> tensor<2x3xf32>
func.func @abs(%0: tensor<2x3xf32>) -> tensor<2x3xf32> {
  %1 = graph.abs %0 : (tensor<2x3xf32>) -> tensor<2x3xf32>
  func.return %1 : tensor<2x3xf32>
}

// CHECK: func.func @exp(
// CHECK-NEXT: %1 = graph.exp %0 : (tensor<2x3xf32>) -> tensor<2x3xf32>
func.func @exp(%0: tensor<2x3xf32>) -> tensor<2x3xf32> {
  %1 = graph.exp %0 : (tensor<2x3xf32>) -> tensor<2x3xf32>
  func.return %1 : tensor<2x3xf32>
}

// CHECK: func.func @log(
// CHECK-NEXT: %1 = graph.log %0 : (tensor<2x3xf32>) -> tensor<2x3xf32>
func.func @log(%0: tensor<2x3xf32>) -> tensor<2x3xf32> {
  %1 = graph.log %0 : (tensor<2x3xf32>) -> tensor<2x3xf32>
  func.return %1 : tensor<2x3xf32>
}

// CHECK: func.func @sqrt(
// CHECK-NEXT: %1 = graph.sqrt %0 : (tensor<2x3xf32>) -> tensor<2x3xf32>
func.func @sqrt(%0: tensor<2x3xf32>) -> tensor<2x3xf32> {
  %1 = graph.sqrt %0 : (tensor<2x3xf32>) -> tensor<2x3xf32>
  func.return %1 : tensor<2x3xf32>
}

// CHECK: func.func @rsqrt(
// CHECK-NEXT: %1 = graph.rsqrt %0 : (tensor<2x3xf32>) -> tensor<2x3xf32>
func.func @rsqrt(%0: tensor<2x3xf32>) -> tensor<2x3xf32> {
  %1 = graph.rsqrt %0 : (tensor<2x3xf32>) -> tensor<2x3xf32>
  func.return %1 : tensor<2x3xf32>
}

// CHECK: func.func @reciprocal(
// CHECK-NEXT: %1 = graph.reciprocal %0 : (tensor<2x3xf32>) -> tensor<2x3xf32>
func.func @reciprocal(%0: tensor<2x3xf32>) -> tensor<2x3xf32> {
  %1 = graph.reciprocal %0 : (tensor<2x3xf32>) -> tensor<2x3xf32>
  func.return %1 : tensor<2x3xf32>
}

// CHECK: func.func @tanh(
// CHECK-NEXT: %1 = graph.tanh %0 : (tensor<2x3xf32>) -> tensor<2x3xf32>
func.func @tanh(%0: tensor<2x3xf32>) -> tensor<2x3xf32> {
  %1 = graph.tanh %0 : (tensor<2x3xf32>) -> tensor<2x3xf32>
  func.return %1 : tensor<2x3xf32>
}

// CHECK: func.func @sigmoid(
// CHECK-NEXT: %1 = graph.sigmoid %0 : (tensor<2x3xf32>) -> tensor<2x3xf32>
func.func @sigmoid(%0: tensor<2x3xf32>) -> tensor<2x3xf32> {
  %1 = graph.sigmoid %0 : (tensor<2x3xf32>) -> tensor<2x3xf32>
  func.return %1 : tensor<2x3xf32>
}

// CHECK: func.func @erf(
// CHECK-NEXT: %1 = graph.erf %0 : (tensor<2x3xf32>) -> tensor<2x3xf32>
func.func @erf(%0: tensor<2x3xf32>) -> tensor<2x3xf32> {
  %1 = graph.erf %0 : (tensor<2x3xf32>) -> tensor<2x3xf32>
  func.return %1 : tensor<2x3xf32>
}

// CHECK: func.func @floor(
// CHECK-NEXT: %1 = graph.floor %0 : (tensor<2x3xf32>) -> tensor<2x3xf32>
func.func @floor(%0: tensor<2x3xf32>) -> tensor<2x3xf32> {
  %1 = graph.floor %0 : (tensor<2x3xf32>) -> tensor<2x3xf32>
  func.return %1 : tensor<2x3xf32>
}

// CHECK: func.func @ceil(
// CHECK-NEXT: %1 = graph.ceil %0 : (tensor<2x3xf32>) -> tensor<2x3xf32>
func.func @ceil(%0: tensor<2x3xf32>) -> tensor<2x3xf32> {
  %1 = graph.ceil %0 : (tensor<2x3xf32>) -> tensor<2x3xf32>
  func.return %1 : tensor<2x3xf32>
}

// CHECK: func.func @round(
// CHECK-NEXT: %1 = graph.round %0 : (tensor<2x3xf32>) -> tensor<2x3xf32>
func.func @round(%0: tensor<2x3xf32>) -> tensor<2x3xf32> {
  %1 = graph.round %0 : (tensor<2x3xf32>) -> tensor<2x3xf32>
  func.return %1 : tensor<2x3xf32>
}

// CHECK: func.func @sin(
// CHECK-NEXT: %1 = graph.sin %0 : (tensor<2x3xf32>) -> tensor<2x3xf32>
func.func @sin(%0: tensor<2x3xf32>) -> tensor<2x3xf32> {
  %1 = graph.sin %0 : (tensor<2x3xf32>) -> tensor<2x3xf32>
  func.return %1 : tensor<2x3xf32>
}

// CHECK: func.func @cos(
// CHECK-NEXT: %1 = graph.cos %0 : (tensor<2x3xf32>) -> tensor<2x3xf32>
func.func @cos(%0: tensor<2x3xf32>) -> tensor<2x3xf32> {
  %1 = graph.cos %0 : (tensor<2x3xf32>) -> tensor<2x3xf32>
  func.return %1 : tensor<2x3xf32>
}

// CHECK: func.func @sign(
// CHECK-NEXT: %1 = graph.sign %0 : (tensor<2x3xf32>) -> tensor<2x3xf32>
func.func @sign(%0: tensor<2x3xf32>) -> tensor<2x3xf32> {
  %1 = graph.sign %0 : (tensor<2x3xf32>) -> tensor<2x3xf32>
  func.return %1 : tensor<2x3xf32>
}

// CHECK: func.func @gelu(
// CHECK-NEXT: %1 = graph.gelu %0 : (tensor<2x3xf32>) -> tensor<2x3xf32>
func.func @gelu(%0: tensor<2x3xf32>) -> tensor<2x3xf32> {
  %1 = graph.gelu %0 : (tensor<2x3xf32>) -> tensor<2x3xf32>
  func.return %1 : tensor<2x3xf32>
}

// CHECK: func.func @silu(
// CHECK-NEXT: %1 = graph.silu %0 : (tensor<2x3xf32>) -> tensor<2x3xf32>
func.func @silu(%0: tensor<2x3xf32>) -> tensor<2x3xf32> {
  %1 = graph.silu %0 : (tensor<2x3xf32>) -> tensor<2x3xf32>
  func.return %1 : tensor<2x3xf32>
}

// CHECK: func.func @hardswish(
// CHECK-NEXT: %1 = graph.hard_swish %0 : (tensor<2x3xf32>) -> tensor<2x3xf32>
func.func @hardswish(%0: tensor<2x3xf32>) -> tensor<2x3xf32> {
  %1 = graph.hard_swish %0 : (tensor<2x3xf32>) -> tensor<2x3xf32>
  func.return %1 : tensor<2x3xf32>
}

// CHECK: func.func @softplus(
// CHECK-NEXT: %1 = graph.softplus %0 : (tensor<2x3xf32>) -> tensor<2x3xf32>
func.func @softplus(%0: tensor<2x3xf32>) -> tensor<2x3xf32> {
  %1 = graph.softplus %0 : (tensor<2x3xf32>) -> tensor<2x3xf32>
  func.return %1 : tensor<2x3xf32>
}

// CHECK: func.func @add(
// CHECK-NEXT: %2 = graph.add %0, %1 : (tensor<2x3xf32>, tensor<3xf32>) -> tensor<2x3xf32>
func.func @add(%0: tensor<2x3xf32>, %1: tensor<3xf32>) -> tensor<2x3xf32> {
  %2 = graph.add %0, %1 : (tensor<2x3xf32>, tensor<3xf32>) -> tensor<2x3xf32>
  func.return %2 : tensor<2x3xf32>
}

// CHECK: func.func @sub(
// CHECK-NEXT: %2 = graph.sub %0, %1 : (tensor<2x3xf32>, tensor<3xf32>) -> tensor<2x3xf32>
func.func @sub(%0: tensor<2x3xf32>, %1: tensor<3xf32>) -> tensor<2x3xf32> {
  %2 = graph.sub %0, %1 : (tensor<2x3xf32>, tensor<3xf32>) -> tensor<2x3xf32>
  func.return %2 : tensor<2x3xf32>
}

// CHECK: func.func @mul(
// CHECK-NEXT: %2 = graph.mul %0, %1 : (tensor<2x3xf32>, tensor<3xf32>) -> tensor<2x3xf32>
func.func @mul(%0: tensor<2x3xf32>, %1: tensor<3xf32>) -> tensor<2x3xf32> {
  %2 = graph.mul %0, %1 : (tensor<2x3xf32>, tensor<3xf32>) -> tensor<2x3xf32>
  func.return %2 : tensor<2x3xf32>
}

// CHECK: func.func @div(
// CHECK-NEXT: %2 = graph.div %0, %1 : (tensor<2x3xf32>, tensor<3xf32>) -> tensor<2x3xf32>
func.func @div(%0: tensor<2x3xf32>, %1: tensor<3xf32>) -> tensor<2x3xf32> {
  %2 = graph.div %0, %1 : (tensor<2x3xf32>, tensor<3xf32>) -> tensor<2x3xf32>
  func.return %2 : tensor<2x3xf32>
}

// CHECK: func.func @max(
// CHECK-NEXT: %2 = graph.max %0, %1 : (tensor<2x3xf32>, tensor<3xf32>) -> tensor<2x3xf32>
func.func @max(%0: tensor<2x3xf32>, %1: tensor<3xf32>) -> tensor<2x3xf32> {
  %2 = graph.max %0, %1 : (tensor<2x3xf32>, tensor<3xf32>) -> tensor<2x3xf32>
  func.return %2 : tensor<2x3xf32>
}

// CHECK: func.func @min(
// CHECK-NEXT: %2 = graph.min %0, %1 : (tensor<2x3xf32>, tensor<3xf32>) -> tensor<2x3xf32>
func.func @min(%0: tensor<2x3xf32>, %1: tensor<3xf32>) -> tensor<2x3xf32> {
  %2 = graph.min %0, %1 : (tensor<2x3xf32>, tensor<3xf32>) -> tensor<2x3xf32>
  func.return %2 : tensor<2x3xf32>
}

// CHECK: func.func @pow(
// CHECK-NEXT: %2 = graph.pow %0, %1 : (tensor<2x3xf32>, tensor<3xf32>) -> tensor<2x3xf32>
func.func @pow(%0: tensor<2x3xf32>, %1: tensor<3xf32>) -> tensor<2x3xf32> {
  %2 = graph.pow %0, %1 : (tensor<2x3xf32>, tensor<3xf32>) -> tensor<2x3xf32>
  func.return %2 : tensor<2x3xf32>
}

// CHECK: func.func @eq(
// CHECK-NEXT: %2 = graph.eq %0, %1 : (tensor<2x3xf32>, tensor<3xf32>) -> tensor<2x3xi1>
func.func @eq(%0: tensor<2x3xf32>, %1: tensor<3xf32>) -> tensor<2x3xi1> {
  %2 = graph.eq %0, %1 : (tensor<2x3xf32>, tensor<3xf32>) -> tensor<2x3xi1>
  func.return %2 : tensor<2x3xi1>
}

// CHECK: func.func @ne(
// CHECK-NEXT: %2 = graph.ne %0, %1 : (tensor<2x3xf32>, tensor<3xf32>) -> tensor<2x3xi1>
func.func @ne(%0: tensor<2x3xf32>, %1: tensor<3xf32>) -> tensor<2x3xi1> {
  %2 = graph.ne %0, %1 : (tensor<2x3xf32>, tensor<3xf32>) -> tensor<2x3xi1>
  func.return %2 : tensor<2x3xi1>
}

// CHECK: func.func @lt(
// CHECK-NEXT: %2 = graph.lt %0, %1 : (tensor<2x3xf32>, tensor<3xf32>) -> tensor<2x3xi1>
func.func @lt(%0: tensor<2x3xf32>, %1: tensor<3xf32>) -> tensor<2x3xi1> {
  %2 = graph.lt %0, %1 : (tensor<2x3xf32>, tensor<3xf32>) -> tensor<2x3xi1>
  func.return %2 : tensor<2x3xi1>
}

// CHECK: func.func @le(
// CHECK-NEXT: %2 = graph.le %0, %1 : (tensor<2x3xf32>, tensor<3xf32>) -> tensor<2x3xi1>
func.func @le(%0: tensor<2x3xf32>, %1: tensor<3xf32>) -> tensor<2x3xi1> {
  %2 = graph.le %0, %1 : (tensor<2x3xf32>, tensor<3xf32>) -> tensor<2x3xi1>
  func.return %2 : tensor<2x3xi1>
}

// CHECK: func.func @gt(
// CHECK-NEXT: %2 = graph.gt %0, %1 : (tensor<2x3xf32>, tensor<3xf32>) -> tensor<2x3xi1>
func.func @gt(%0: tensor<2x3xf32>, %1: tensor<3xf32>) -> tensor<2x3xi1> {
  %2 = graph.gt %0, %1 : (tensor<2x3xf32>, tensor<3xf32>) -> tensor<2x3xi1>
  func.return %2 : tensor<2x3xi1>
}

// CHECK: func.func @ge(
// CHECK-NEXT: %2 = graph.ge %0, %1 : (tensor<2x3xf32>, tensor<3xf32>) -> tensor<2x3xi1>
func.func @ge(%0: tensor<2x3xf32>, %1: tensor<3xf32>) -> tensor<2x3xi1> {
  %2 = graph.ge %0, %1 : (tensor<2x3xf32>, tensor<3xf32>) -> tensor<2x3xi1>
  func.return %2 : tensor<2x3xi1>
}

// CHECK: func.func @and(
// CHECK-NEXT: %2 = graph.and %0, %1 : (tensor<2x3xi1>, tensor<3xi1>) -> tensor<2x3xi1>
func.func @and(%0: tensor<2x3xi1>, %1: tensor<3xi1>) -> tensor<2x3xi1> {
  %2 = graph.and %0, %1 : (tensor<2x3xi1>, tensor<3xi1>) -> tensor<2x3xi1>
  func.return %2 : tensor<2x3xi1>
}

// CHECK: func.func @or(
// CHECK-NEXT: %2 = graph.or %0, %1 : (tensor<2x3xi1>, tensor<3xi1>) -> tensor<2x3xi1>
func.func @or(%0: tensor<2x3xi1>, %1: tensor<3xi1>) -> tensor<2x3xi1> {
  %2 = graph.or %0, %1 : (tensor<2x3xi1>, tensor<3xi1>) -> tensor<2x3xi1>
  func.return %2 : tensor<2x3xi1>
}

// CHECK: func.func @xor(
// CHECK-NEXT: %2 = graph.xor %0, %1 : (tensor<2x3xi1>, tensor<3xi1>) -> tensor<2x3xi1>
func.func @xor(%0: tensor<2x3xi1>, %1: tensor<3xi1>) -> tensor<2x3xi1> {
  %2 = graph.xor %0, %1 : (tensor<2x3xi1>, tensor<3xi1>) -> tensor<2x3xi1>
  func.return %2 : tensor<2x3xi1>
}

// CHECK: func.func @relu_i32(
// CHECK-NEXT: %1 = graph.relu %0 : (tensor<2x3xi32>) -> tensor<2x3xi32>
func.func @relu_i32(%0: tensor<2x3xi32>) -> tensor<2x3xi32> {
  %1 = graph.relu %0 : (tensor<2x3xi32>) -> tensor<2x3xi32>
  func.return %1 : tensor<2x3xi32>
}

// CHECK: func.func @relu_quant(
// CHECK-NEXT: %1 = graph.relu %0 : (tensor<4x!quant.uniform<i8:f32, 0.05:-3>>) -> tensor<4x!quant.uniform<i8:f32, 0.05:-3>>
func.func @relu_quant(%0: tensor<4x!quant.uniform<i8:f32, 0.05:-3>>) -> tensor<4x!quant.uniform<i8:f32, 0.05:-3>> {
  %1 = graph.relu %0 : (tensor<4x!quant.uniform<i8:f32, 0.05:-3>>) -> tensor<4x!quant.uniform<i8:f32, 0.05:-3>>
  func.return %1 : tensor<4x!quant.uniform<i8:f32, 0.05:-3>>
}

// CHECK: func.func @not(
// CHECK-NEXT: %1 = graph.not %0 : (tensor<2x3xi1>) -> tensor<2x3xi1>
func.func @not(%0: tensor<2x3xi1>) -> tensor<2x3xi1> {
  %1 = graph.not %0 : (tensor<2x3xi1>) -> tensor<2x3xi1>
  func.return %1 : tensor<2x3xi1>
}

// CHECK: func.func @clamp(
// CHECK-NEXT: %1 = graph.clamp %0 {min = 0.000000e+00 : f32, max = 6.000000e+00 : f32} : (tensor<2x3xf32>) -> tensor<2x3xf32>
func.func @clamp(%0: tensor<2x3xf32>) -> tensor<2x3xf32> {
  %1 = graph.clamp %0 {min = 0.000000e+00 : f32, max = 6.000000e+00 : f32} : (tensor<2x3xf32>) -> tensor<2x3xf32>
  func.return %1 : tensor<2x3xf32>
}

// CHECK: func.func @clamp_quant(
// CHECK-NEXT: %1 = graph.clamp %0 {min = -3, max = 117} : (tensor<4x!quant.uniform<i8:f32, 0.05:-3>>) -> tensor<4x!quant.uniform<i8:f32, 0.05:-3>>
func.func @clamp_quant(%0: tensor<4x!quant.uniform<i8:f32, 0.05:-3>>) -> tensor<4x!quant.uniform<i8:f32, 0.05:-3>> {
  %1 = graph.clamp %0 {min = -3, max = 117} : (tensor<4x!quant.uniform<i8:f32, 0.05:-3>>) -> tensor<4x!quant.uniform<i8:f32, 0.05:-3>>
  func.return %1 : tensor<4x!quant.uniform<i8:f32, 0.05:-3>>
}

// CHECK: func.func @leakyrelu(
// CHECK-NEXT: %1 = graph.leaky_relu %0 {alpha = 1.000000e-01 : f32} : (tensor<2x3xf32>) -> tensor<2x3xf32>
func.func @leakyrelu(%0: tensor<2x3xf32>) -> tensor<2x3xf32> {
  %1 = graph.leaky_relu %0 {alpha = 1.000000e-01 : f32} : (tensor<2x3xf32>) -> tensor<2x3xf32>
  func.return %1 : tensor<2x3xf32>
}

// CHECK: func.func @elu(
// CHECK-NEXT: %1 = graph.elu %0 {alpha = 7.000000e-01 : f32} : (tensor<2x3xf32>) -> tensor<2x3xf32>
func.func @elu(%0: tensor<2x3xf32>) -> tensor<2x3xf32> {
  %1 = graph.elu %0 {alpha = 7.000000e-01 : f32} : (tensor<2x3xf32>) -> tensor<2x3xf32>
  func.return %1 : tensor<2x3xf32>
}

// CHECK: func.func @hardsigmoid(
// CHECK-NEXT: %1 = graph.hard_sigmoid %0 {alpha = 3.000000e-01 : f32, beta = 4.000000e-01 : f32} : (tensor<2x3xf32>) -> tensor<2x3xf32>
func.func @hardsigmoid(%0: tensor<2x3xf32>) -> tensor<2x3xf32> {
  %1 = graph.hard_sigmoid %0 {alpha = 3.000000e-01 : f32, beta = 4.000000e-01 : f32} : (tensor<2x3xf32>) -> tensor<2x3xf32>
  func.return %1 : tensor<2x3xf32>
}

// CHECK: func.func @where(
// CHECK-NEXT: %3 = graph.where %0, %1, %2 : (tensor<3xi1>, tensor<2x3xf32>, tensor<1xf32>) -> tensor<2x3xf32>
func.func @where(%0: tensor<3xi1>, %1: tensor<2x3xf32>, %2: tensor<1xf32>) -> tensor<2x3xf32> {
  %3 = graph.where %0, %1, %2 : (tensor<3xi1>, tensor<2x3xf32>, tensor<1xf32>) -> tensor<2x3xf32>
  func.return %3 : tensor<2x3xf32>
}

// CHECK: func.func @cast(
// CHECK-NEXT: %1 = graph.cast %0 : (tensor<2x3xf32>) -> tensor<2x3xi8>
func.func @cast(%0: tensor<2x3xf32>) -> tensor<2x3xi8> {
  %1 = graph.cast %0 : (tensor<2x3xf32>) -> tensor<2x3xi8>
  func.return %1 : tensor<2x3xi8>
}
