"""One-node ONNX models of the integer operators."""

from __future__ import annotations

from typing import Any

import numpy as np
from onnx_cases import MICROSOFT, Array, Case, f32, floats, ints, scalar

X = floats(2, 3, 4)
W = ints(5, 4, 3, 3, low=-127, high=127, dtype=np.int8)
U8 = ints(1, 4, 6, 6, low=0, high=255, dtype=np.uint8)


def parameters(scale: float, zero: int, dtype: Any) -> list[Array]:
    return [scalar(scale), scalar(zero, dtype)]


def quantized(scale: float, zero: int, *shape: int, dtype: Any = np.int8) -> list[Array]:
    """Stored values with their scale and zero point."""
    info = np.iinfo(dtype)
    x = ints(*shape, low=info.min, high=info.max, dtype=dtype)
    return [x, *parameters(scale, zero, dtype)]


def qlinear_conv(label: str, w: Array, w_scale: Array, w_zero: Array, **attributes: Any) -> Case:
    bias = ints(w.shape[0], low=-500, high=500)
    inputs = [U8, scalar(0.02), scalar(120, np.uint8), w, w_scale, w_zero,
              scalar(0.13), scalar(100, np.uint8), bias]  # fmt: skip
    return Case("QLinearConv", inputs, attributes, range(1, 9), label=label)


SCALES = floats(5, low=0.002, high=0.05, seed=4)
ZEROS = np.zeros(5, np.int8)

QUANTIZED = [
    *[Case("QuantizeLinear", [X, *parameters(0.013, zero, dtype)], {}, (1, 2), label=label)
      for label, zero, dtype in (("int8", -3, np.int8), ("uint8", 130, np.uint8))],
    Case("QuantizeLinear", [X, scalar(0.013)], {}, (1,), label="default"),
    Case("QuantizeLinear", [X, f32(0.1, 0.2, 0.3), ints(3, dtype=np.int8)], {"axis": 1}, (1, 2),
         label="axis"),
    Case("QuantizeLinear", [X, *parameters(0.013, -3, np.int8)], label="run-time parameters"),
    Case("QuantizeLinear", [X * 100, *parameters(0.013, 7, np.int16)], {}, (1, 2), opset=21,
         label="int16"),
    *[Case("DequantizeLinear", quantized(0.1, 3, 2, 3, dtype=dtype), {}, (1, 2),
           label=np.dtype(dtype).name) for dtype in (np.int8, np.uint8)],
    Case("DequantizeLinear", [ints(2, 3), scalar(0.1)], {}, (0, 1), label="int32"),
    Case("DequantizeLinear", [ints(2, 3), scalar(0.1)], {}, (1,), label="run-time int32"),
    Case("DequantizeLinear", [ints(2, 3, dtype=np.int8), f32(0.1, 0.2), ints(2, dtype=np.int8)],
         {"axis": 0}, (0, 1, 2), label="axis"),
    Case("DequantizeLinear", quantized(0.1, 3, 2, 3), label="run-time parameters"),
    Case("DequantizeLinear", [ints(4, 6, dtype=np.int8), floats(2, 6, low=0.1)],
         {"axis": 0, "block_size": 2}, (0, 1), opset=21, label="blocks"),
    Case("QuantizeLinear", [np.where(X > 1, -np.inf, X).astype(np.float32),
                            *parameters(np.inf, 0, np.uint8)], {}, (1, 2), label="endless scale"),
    Case("DynamicQuantizeLinear", [X], outputs=3),
    qlinear_conv("per tensor", W, scalar(0.01), scalar(0, np.int8)),
    qlinear_conv("per channel", W, SCALES, ZEROS, pads=[1, 1, 1, 1]),
    qlinear_conv("strided", W, SCALES, ZEROS, strides=[2, 2], pads=[0, 1, 1, 0]),
    qlinear_conv("depthwise", W[:4, :1], SCALES[:4], ZEROS[:4], group=4),
    qlinear_conv("weights with a zero point", W.view(np.uint8), scalar(0.01),
                 scalar(128, np.uint8)),
    Case("QLinearMatMul", [*quantized(0.02, 120, 3, 4, dtype=np.uint8), *quantized(0.01, 3, 4, 5),
                           *parameters(0.05, 90, np.uint8)], {}, (1, 2, 3, 4, 5, 6, 7)),
    Case("QLinearMatMul", [*quantized(0.02, 120, 3, 4, dtype=np.uint8),
                           ints(4, 5, low=-99, high=99, dtype=np.int8), SCALES, ZEROS,
                           *parameters(0.05, 90, np.uint8)], {}, (1, 2, 3, 4, 5, 6, 7),
         label="per column"),
    Case("ConvInteger", [U8, W.view(np.uint8), scalar(120, np.uint8)], {"pads": [1, 1, 1, 1]},
         (1, 2)),
    Case("MatMulInteger", [U8[0, 0], U8[0, 1], scalar(7, np.uint8), scalar(9, np.uint8)], {},
         (1, 2, 3)),
    Case("MatMulInteger", [U8[0], U8[0, :, :, :3], scalar(7, np.uint8), scalar(9, np.uint8)],
         label="run-time zero points"),
    Case("ConvInteger", [U8, W.view(np.uint8), scalar(120, np.uint8), scalar(130, np.uint8)],
         {"pads": [1, 0, 1, 2], "strides": [2, 1]}, label="run-time zero points"),
    Case("ConvInteger", [U8, W[:4, :2].copy().view(np.uint8), scalar(120, np.uint8)],
         {"pads": [1, 1, 1, 1], "group": 2}, label="run-time zero point, grouped"),
    Case("QLinearMatMul", [*quantized(0.02, 120, 3, 4, dtype=np.uint8),
                           *quantized(0.01, 130, 4, 5, dtype=np.uint8),
                           *parameters(0.05, 90, np.uint8)], label="run-time parameters"),
    Case("QLinearConv", [U8, *parameters(0.02, 120, np.uint8), W.view(np.uint8),
                         *parameters(0.01, 130, np.uint8), *parameters(0.13, 100, np.uint8),
                         ints(5, low=-500, high=500)],
         {"pads": [1, 1, 0, 2]}, label="run-time parameters"),
]  # fmt: skip

ACTIVATION = quantized(0.02, 120, 1, 4, 6, 6, dtype=np.uint8)
TO = parameters(0.03, 60, np.uint8)


def microsoft(name: str, inputs: list[Array], constants: Any, **attributes: Any) -> Case:
    return Case(name, inputs, attributes, constants, domain=MICROSOFT, result="uint8")


INTEGER_MICROSOFT = [
    *[microsoft(name, [*ACTIVATION, *ACTIVATION, *TO], (1, 2, 4, 5, 6, 7))
      for name in ("QLinearAdd", "QLinearMul")],
    microsoft("QLinearSigmoid", [*ACTIVATION, *parameters(1 / 256, 0, np.uint8)], (1, 2, 3, 4)),
    microsoft("QLinearLeakyRelu", [*ACTIVATION, *TO], (1, 2, 3, 4), alpha=0.2),
    microsoft("QLinearSoftmax", [*ACTIVATION, *parameters(1 / 256, 0, np.uint8)], (1, 2, 3, 4),
              axis=1, opset=13),
    microsoft("QLinearAveragePool", [*ACTIVATION, *TO], (1, 2, 3, 4), kernel_shape=[2, 3]),
    microsoft("QLinearGlobalAveragePool", [*ACTIVATION, *TO], (1, 2, 3, 4)),
    microsoft("QLinearConcat", [*TO, *ACTIVATION, *ACTIVATION], (0, 1, 3, 4, 6, 7), axis=1),
    microsoft("QGemm", [*quantized(0.02, 120, 3, 4, dtype=np.uint8), *quantized(0.01, 3, 5, 4),
                        ints(5, low=-99, high=99), *TO], (1, 2, 3, 4, 5, 6, 7, 8), transB=1),
    Case("QGemm", [*quantized(0.02, 120, 3, 4, dtype=np.uint8), *quantized(0.01, 3, 4, 5)], {},
         (1, 2, 3, 4, 5), domain=MICROSOFT, label="to float", result="float32"),
]  # fmt: skip
