// RUN: npu-opt %s -p graph-half-products | filecheck %s

// The array of mobile4k multiplies halves: casts before a product, also behind movement, go.
builtin.module attributes {npu.target = #npu.target<"mobile4k">} {
  func.func @main(%x: tensor<8x4xf16>, %w: tensor<3x4xf16>) -> tensor<8x3xf32> {
    %0 = graph.cast %x : (tensor<8x4xf16>) -> tensor<8x4xf32> loc("x")
    %1 = graph.cast %w : (tensor<3x4xf16>) -> tensor<3x4xf32> loc("w")
    %2 = graph.transpose %1 {permutation = [1, 0]} : (tensor<3x4xf32>) -> tensor<4x3xf32> loc("t")
    %3 = graph.matmul %0, %2 : (tensor<8x4xf32>, tensor<4x3xf32>) -> tensor<8x3xf32> loc("product")
    func.return %3 : tensor<8x3xf32>
  }
}
// CHECK: %[[T:.*]] = graph.transpose %w {permutation = [1, 0]} : (tensor<3x4xf16>) -> tensor<4x3xf16>
// CHECK-NEXT: graph.matmul %x, %[[T]] {sums = "f32"} : (tensor<8x4xf16>, tensor<4x3xf16>) -> tensor<8x3xf32>
