"""One-node ONNX models, at least one for every imported operator."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
MICROSOFT = "com.microsoft"


@dataclass(frozen=True)
class Case:
    """`constants` are the positions of the inputs that are known when compiling."""

    op_type: str
    inputs: Sequence[Array | None]
    attributes: dict[str, Any] = field(default_factory=dict)
    constants: Sequence[int] = ()
    outputs: int = 1
    opset: int = 17
    domain: str = ""
    opaque: bool = False
    steps: int = 0
    """Integer results may differ by so many steps."""
    tolerance: float = 1e-5
    label: str = ""
    result: str = ""
    """The element type of the result, where shape inference does not know the operator."""

    @property
    def id(self) -> str:
        parts = [self.op_type, str(self.opset), self.label]
        return "-".join(part for part in parts if part)


def floats(*shape: int, low: float = -2, high: float = 2, seed: int = 0) -> Array:
    return np.random.default_rng(seed).uniform(low, high, shape).astype(np.float32)


def ints(*shape: int, low: int = -9, high: int = 9, seed: int = 0, dtype: Any = np.int32) -> Array:
    return np.random.default_rng(seed).integers(low, high, shape, endpoint=True).astype(dtype)


def bools(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).integers(0, 2, shape).astype(bool)


def i64(*values: int) -> Array:
    return np.array(values, np.int64)


def f32(*values: float) -> Array:
    return np.array(values, np.float32)


def scalar(value: float, dtype: Any = np.float32) -> Array:
    return np.array(value, dtype)


X = floats(2, 3, 4)
IMAGE = floats(1, 4, 7, 9)

UNARY = [
    *[Case(name, [X]) for name in (
        "Abs", "Ceil", "Cos", "Elu", "Erf", "Exp", "Floor", "HardSigmoid", "HardSwish", "Identity",
        "IsNaN", "LeakyRelu", "Neg", "Reciprocal", "Relu", "Selu", "Sigmoid", "Sign", "Sin",
        "Softplus", "Softsign", "Tan", "Tanh", "ThresholdedRelu", "Celu",
    )],
    *[Case(name, [np.abs(X)]) for name in ("Log", "Sqrt")],
    Case("Round", [np.array([-2.5, -1.5, -0.5, 0.5, 1.5, 2.4], np.float32)]),
    Case("Elu", [X], {"alpha": 0.5}, label="alpha"),
    Case("HardSigmoid", [X], {"alpha": 0.3, "beta": 0.4}, label="parameters"),
    Case("Selu", [X], {"alpha": 1.5, "gamma": 2.0}, label="parameters"),
    Case("Celu", [X], {"alpha": 0.5}, label="alpha"),
    Case("LeakyRelu", [X], {"alpha": 0.2}, label="alpha"),
    Case("Not", [bools(3, 4)]),
    Case("Neg", [ints(3, 4)], label="int32"),
    Case("Abs", [ints(3, 4, dtype=np.int8)], label="int8"),
    Case("Relu", [X.astype(np.float16)], label="float16", tolerance=1e-3),
    Case("Gelu", [X], opset=20),
    Case("Gelu", [X], {"approximate": "tanh"}, opset=20, label="tanh"),
    Case("Mish", [X], opset=18),
    Case("Gelu", [X], domain=MICROSOFT, label="microsoft", result="float32"),
    Case("QuickGelu", [X], domain=MICROSOFT, result="float32"),
    Case("IsInf", [f32(1, np.inf, -np.inf)]),
    Case("IsInf", [f32(1, np.inf, -np.inf)], {"detect_negative": 0}, label="positive"),
    Case("Dropout", [X]),
    Case("Dropout", [X], {"ratio": 0.3}, opset=10),
    Case("Dropout", [X, scalar(0.3), scalar(False, bool)], constants=(1, 2), outputs=2,
         label="mask"),
]  # fmt: skip

BINARY = [
    *[Case(name, [X, floats(3, 1, seed=1)]) for name in ("Add", "Div", "Mul", "Sub")],
    *[Case(name, [ints(3, 4), ints(4, low=1)], label="int32")
      for name in ("Add", "Div", "Mul", "Sub", "Mod")],
    *[Case(name, [ints(3, 4, dtype=np.int64), ints(4, low=1, dtype=np.int64)], label="int64")
      for name in ("Add", "Div", "Mul", "Sub", "Mod")],
    *[Case(name, [ints(9), ints(9, seed=1)], label="int32")
      for name in ("Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual")],
    *[Case(name, [X, X[:1]]) for name in (
        "Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual")],
    *[Case(name, [bools(3, 4), bools(4, seed=1)]) for name in ("And", "Or", "Xor")],
    *[Case(name, [ints(3, 4), ints(4, seed=1)], opset=18)
      for name in ("BitwiseAnd", "BitwiseOr", "BitwiseXor")],
    *[Case(name, [X, X[:1], floats(1, seed=3)]) for name in ("Max", "Mean", "Min", "Sum")],
    Case("Max", [ints(4), ints(4, seed=1)], label="int32"),
    Case("Mod", [ints(9, low=-9, high=9), ints(9, low=-9, high=-1)], label="negative"),
    Case("Mod", [ints(9), ints(9, low=1)], {"fmod": 1}, label="fmod"),
    Case("Pow", [np.abs(X), floats(4, seed=1)]),
    *[Case("Pow", [ints(9, dtype=kind), ints(9, low=0, high=7, seed=1, dtype=power)],
           label=f"{kind.__name__} {power.__name__}")
      for kind in (np.int32, np.int64) for power in (np.int32, np.int64, np.float32)],
    *[Case("Pow", [X, scalar(k)], constants=(1,), label=f"{k}") for k in (1, 2, 3, 4)],
    Case("Pow", [np.abs(X), ints(4, low=0, high=3)], label="int exponent"),
    Case("PRelu", [X, floats(4, low=0, seed=1)]),

    Case("BiasGelu", [X, floats(4)], domain=MICROSOFT, result="float32"),
]  # fmt: skip
SELECTION = [
    Case("Clip", [X, scalar(-1), scalar(0.5)], constants=(1, 2)),
    Case("Clip", [X, None, scalar(0.5)], constants=(2,), label="above"),
    Case("Clip", [X, scalar(-1), scalar(0.5)], label="run-time bounds"),
    Case("Clip", [ints(9, dtype=np.int8), scalar(-3, np.int8)], constants=(1,), label="int8"),
    Case("Clip", [X], {"min": -1.0, "max": 1.0}, opset=7),
    Case("Where", [bools(3, 1), floats(3, 4), floats(4, seed=1)]),
    Case("Where", [bools(3), ints(3, dtype=np.int64), ints(3, dtype=np.int64)], label="int64"),
    Case("Gather", [X, i64(2, 0)], {"axis": 2}, constants=(1,)),
    Case("Gather", [X, scalar(-1, np.int64)], {"axis": 1}, constants=(1,), label="scalar"),
    Case("Gather", [X, ints(2, 3, low=0, high=3, dtype=np.int64)], {"axis": 2}, constants=(1,),
         label="matrix"),
    Case("Gather", [floats(8, 4), ints(2, 3, low=-8, high=7, dtype=np.int64)], constants=(0,),
         label="run time"),
    Case("Gather", [X, ints(2, 3, low=-3, high=2)], {"axis": 1}, label="run time, axis 1"),
    Case("Gather", [X, ints(20, low=0, high=2)], {"axis": 1}, constants=(1,), label="many"),
    Case("GatherElements", [X, ints(2, 2, 4, low=-3, high=2, dtype=np.int64)], {"axis": 1}),
    Case("GatherElements", [ints(9, dtype=np.int8), ints(4, low=-9, high=8)], label="int8"),
    Case("GatherND", [X, ints(3, 2, low=-2, high=1, dtype=np.int64)]),
    Case("GatherND", [X, ints(2, 2, 1, low=-3, high=2, dtype=np.int64)], {"batch_dims": 1},
         label="batch"),
    Case("ScatterElements", [X, i64(2, -3).reshape(1, 2, 1), floats(1, 2, 1)], {"axis": 1}),
    Case("ScatterElements", [ints(9, dtype=np.int8), i64(7, 7, -9), ints(3, dtype=np.int8)],
         {"reduction": "add"}, opset=16, label="int8"),
    Case("ScatterND", [X, i64(1, 0, -1, 2).reshape(2, 2), floats(2, 4)]),
    Case("ScatterND", [X, i64(1, 0, -1, 2).reshape(2, 2), floats(2, 4)], {"reduction": "max"},
         opset=18, label="max"),
    Case("ReverseSequence", [X, i64(2, 1, 0)], {"batch_axis": 1, "time_axis": 0}),
    Case("ReverseSequence", [X, i64(3, 2)], {"batch_axis": 0, "time_axis": 1}, label="batch first"),
    Case("MaxUnpool", [floats(1, 1, 2, 2), i64(5, 7, 13, 15).reshape(1, 1, 2, 2)],
         {"kernel_shape": [2, 2], "strides": [2, 2]}),
    Case("OneHot", [ints(2, 3, low=-4, high=3, dtype=np.int64), i64(4), f32(-1, 2)],
         constants=(1,)),
    Case("OneHot", [ints(2, 3, low=0, high=3, dtype=np.int64), i64(4), f32(0, 1)], {"axis": 0},
         constants=(1, 2), label="axis"),
    Case("CumSum", [X, scalar(1, np.int64)], constants=(1,)),
    Case("CumSum", [f32(1, np.inf, 2, -np.inf, 3), i64(0)], constants=(1,), label="infinite"),
    *[Case("CumSum", [ints(3, size, dtype=kind), scalar(1, np.int64)], attributes, (1,),
           label=f"{kind.__name__} {size} {attributes}")
      for kind in (np.int32, np.int64) for size in (1, 5, 8)
      for attributes in ({}, {"exclusive": 1}, {"reverse": 1}, {"exclusive": 1, "reverse": 1})],
    *[Case("TopK", [x, i64(k)], {"axis": axis, "largest": largest}, (1,), outputs=2,
           label=f"{x.dtype} {k} {axis} {largest}")
      for x in (X, ints(2, 3, 4, high=2), ints(2, 3, 4, high=2, dtype=np.int64))
      for k, axis in ((1, -1), (3, 2), (4, 2), (1, 1)) for largest in (0, 1)],
    Case("TopK", [f32(1, -np.inf, -np.inf, np.inf), i64(4)], {}, (1,), outputs=2,
         label="infinite"),
    Case("TopK", [X], {"axis": 1, "k": 2}, outputs=2, opset=9),
    Case("TopK", [floats(50), i64(40)], {}, (1,), outputs=2, label="many", opaque=True),
    Case("CumSum", [X, scalar(0, np.int64)], {"exclusive": 1, "reverse": 1}, constants=(1,),
         label="reverse"),
    *[Case(name, [X], {"axis": axis}, label=str(axis))
      for name in ("ArgMax", "ArgMin", "Hardmax", "Softmax", "LogSoftmax") for axis in (-1, 1)],
    *[Case(name, [X], {"axis": 1}, opset=11) for name in ("Hardmax", "Softmax", "LogSoftmax")],
    Case("ArgMax", [ints(4, 5, high=-7)], {"keepdims": 0, "select_last_index": 1}, label="last"),
    Case("Trilu", [X], {"upper": 0}),
    Case("Trilu", [X, scalar(1, np.int64)], constants=(1,), label="upper"),
]  # fmt: skip

CASTS = [
    Case("Cast", [source], {"to": to}, label=f"{source.dtype} to {to}")
    for source, to in [
        (X, 6), (X, 7), (X * 20, 3), (np.abs(X) * 50, 2), (X, 9), (X, 10), (X, 11),
        (ints(5), 1), (ints(5), 7), (ints(5), 3), (bools(5), 1), (bools(5), 6),
        (X.astype(np.float16), 1),
    ]
] + [Case("CastLike", [X, ints(1)])]  # fmt: skip

LINEAR = [
    Case("MatMul", [floats(3, 4), floats(4, 5, seed=1)]),
    Case("MatMul", [floats(2, 3, 4), floats(4, 5, seed=1)], constants=(1,), label="shared"),
    Case("MatMul", [floats(2, 1, 3, 4), floats(5, 4, 2, seed=1)], label="batches"),
    Case("MatMul", [floats(4), floats(4, 5, seed=1)], label="vector by matrix"),
    Case("MatMul", [floats(2, 3, 4), floats(4, seed=1)], label="matrix by vector"),
    Case("MatMul", [floats(4), floats(4, seed=1)], label="vectors"),
    Case("FusedMatMul", [floats(2, 4, 3), floats(2, 4, 5, seed=1)], {"alpha": 0.5, "transA": 1},
         domain=MICROSOFT, result="float32"),
    *[Case("Gemm", [floats(3, 4), floats(4, 5, seed=1), c], constants=(1, 2),
           label="x".join(map(str, c.shape)) or "scalar")
      for c in (floats(5), floats(1, 5), floats(3, 1), floats(3, 5), floats())],
    Case("Gemm", [floats(4, 3), floats(5, 4, seed=1), floats(5)],
         {"alpha": 0.5, "beta": 2.0, "transA": 1, "transB": 1}, label="scaled"),
    Case("Gemm", [floats(3, 4), floats(4, 5, seed=1)], {"transB": 0}, label="no bias"),
]  # fmt: skip


def conv(label: str, x: Array, w: Array, bias: bool = True, **attributes: Any) -> Case:
    inputs = [x, w, floats(w.shape[0], seed=3)] if bias else [x, w]
    return Case("Conv", inputs, attributes, range(1, len(inputs)), label=label)


CONVOLUTIONS = [
    conv("plain", IMAGE, floats(5, 4, 3, 3, seed=1)),
    conv("no bias", IMAGE, floats(5, 4, 3, 3, seed=1), bias=False),
    conv("strided", IMAGE, floats(5, 4, 3, 3, seed=1), strides=[2, 3], pads=[1, 0, 2, 1]),
    conv("dilated", IMAGE, floats(5, 4, 3, 3, seed=1), dilations=[2, 1], kernel_shape=[3, 3]),
    conv("grouped", IMAGE, floats(6, 2, 3, 2, seed=1), group=2),
    conv("depthwise", IMAGE, floats(4, 1, 3, 3, seed=1), group=4, pads=[1, 1, 1, 1]),
    conv("multiplier", IMAGE, floats(8, 1, 3, 3, seed=1), group=4),
    conv("same upper", IMAGE, floats(5, 4, 2, 4, seed=1), auto_pad="SAME_UPPER", strides=[2, 2]),
    conv("same lower", IMAGE, floats(5, 4, 2, 4, seed=1), auto_pad="SAME_LOWER"),
    conv("valid", IMAGE, floats(5, 4, 2, 4, seed=1), auto_pad="VALID"),
    conv("1-D", floats(2, 4, 9), floats(5, 4, 3, seed=1), pads=[2, 1], strides=[2]),
    conv("1-D depthwise", floats(2, 4, 9), floats(4, 1, 3, seed=1), group=4, dilations=[2]),
    Case("Conv", [IMAGE, floats(5, 4, 3, 3, seed=1)], label="run-time weights"),
    *[Case("ConvTranspose", [floats(1, 4, 5, 6), floats(4, 3, 3, 2, seed=1), floats(3)],
           attributes, (1, 2), label=label)
      for label, attributes in {
          "plain": {},
          "strided": {"strides": [2, 3], "pads": [1, 0, 1, 1], "output_padding": [1, 0]},
          "dilated": {"dilations": [2, 2], "strides": [2, 1]},
          "shape": {"output_shape": [10, 11], "strides": [2, 2]},
          "same": {"auto_pad": "SAME_UPPER", "strides": [2, 2]},
          "pads": {"pads": [3, 2, 3, 2], "strides": [2, 2]},
      }.items()],
    Case("ConvTranspose", [floats(1, 4, 5), floats(4, 2, 3, seed=1)],
         {"strides": [2], "group": 2}, (1,), label="1-D grouped"),
    conv("3-D", floats(2, 2, 5, 6, 4), floats(6, 2, 2, 3, 2, seed=1), pads=[1, 0, 1, 0, 2, 1]),
    conv("3-D grouped", floats(2, 4, 5, 6, 4), floats(6, 2, 2, 3, 2, seed=1), group=2,
         strides=[2, 1, 3], dilations=[2, 2, 1]),
    conv("3-D depthwise", floats(1, 4, 5, 4, 4), floats(4, 1, 3, 2, 2, seed=1), group=4),
    Case("ConvTranspose", [floats(1, 3, 3, 4, 2), floats(3, 2, 2, 3, 2, seed=1)],
         {"strides": [2, 1, 3], "pads": [1, 0, 0, 0, 1, 0]}, (1,), label="3-D"),
]  # fmt: skip

WINDOWS: dict[str, dict[str, Any]] = {
    "plain": {"kernel_shape": [2, 3]},
    "strided": {"kernel_shape": [3, 2], "strides": [2, 2], "pads": [1, 0, 1, 1]},
    "ceil": {"kernel_shape": [3, 3], "strides": [2, 2], "ceil_mode": 1},
    "ceil padded": {"kernel_shape": [3, 2], "strides": [3, 2], "pads": [1, 1, 1, 0],
                    "ceil_mode": 1},
    "same": {"kernel_shape": [3, 3], "strides": [2, 2], "auto_pad": "SAME_UPPER"},
}  # fmt: skip

POOLING = [
    *[Case(name, [IMAGE], window, label=label, opset=19)
      for name in ("MaxPool", "AveragePool") for label, window in WINDOWS.items()],
    *[Case("AveragePool", [IMAGE], {**window, "count_include_pad": 1}, label=f"{label} counted",
           opset=19) for label, window in WINDOWS.items()],
    Case("MaxPool", [IMAGE], {"kernel_shape": [2, 2], "dilations": [2, 3]}, label="dilated"),
    Case("MaxPool", [floats(2, 3, 9)], {"kernel_shape": [3], "pads": [1, 0]}, label="1-D"),
    Case("MaxPool", [ints(1, 3, 6, 6, dtype=np.int8)], {"kernel_shape": [2, 2]}, label="int8"),
    *[Case("MaxPool", [floats(2, 3, *size)], attributes, outputs=2, label=f"indices {k}")
      for k, (size, attributes) in enumerate([
          ([7, 9], {"kernel_shape": [2, 3]}),
          ([7, 9], {"kernel_shape": [3, 3], "pads": [1, 1, 0, 1], "strides": [2, 2],
                    "storage_order": 1}),
          ([9], {"kernel_shape": [3], "strides": [2], "ceil_mode": 1}),
      ])],
    Case("MaxPool", [floats(1, 2, 4, 5, 6)], {"kernel_shape": [2, 3, 2], "pads": [1] * 6},
         label="3-D"),
    Case("AveragePool", [floats(2, 3, 9)], {"kernel_shape": [3]}, label="1-D", opset=11),
    *[Case(name, [floats(2, 3, 5, 6, 7)], {"kernel_shape": [2, 3, 2], **attributes}, opset=19,
           label=f"3-D {k}")
      for name in ("MaxPool", "AveragePool") for k, attributes in enumerate([
          {"strides": [2, 2, 3]},
          {"pads": [1, 1, 0, 0, 1, 1], "strides": [1, 2, 1]},
          {"dilations": [2, 1, 3]},
          {"ceil_mode": 1, "strides": [2, 2, 2]},
      ])],
    Case("AveragePool", [floats(2, 3, 5, 6, 7)],
         {"kernel_shape": [2, 3, 2], "pads": [1, 1, 0, 0, 1, 1], "count_include_pad": 1},
         label="3-D counted"),
    *[Case("LpPool", [floats(2, 3, *[7, 6, 5][:rank])],
           {"kernel_shape": [2, 3, 2][:rank], "p": p, "pads": [1] * rank * 2,
            "strides": [1, 2, 2][:rank]}, opset=18, label=f"{rank}-D {p}")
      for rank in (1, 2, 3) for p in (1, 2, 3)],
    *[Case("GlobalLpPool", [IMAGE], {"p": p}, label=str(p)) for p in (1, 2, 3)],
    *[Case(name, [x], label=f"rank {x.ndim}")
      for name in ("GlobalAveragePool", "GlobalMaxPool")
      for x in (IMAGE, floats(2, 3, 5), floats(1, 2, 3, 4, 5))],
]  # fmt: skip

NORMALIZATION = [
    *[Case("BatchNormalization", [x, floats(c), floats(c, seed=1), floats(c, seed=2),
                                  floats(c, low=0.5, seed=3)], {"epsilon": 1e-3}, (1, 2, 3, 4),
           opset=opset, label=f"rank {x.ndim}")
      for x, c in ((IMAGE, 4), (floats(3, 5), 5)) for opset in (7, 9, 15)],
    Case("InstanceNormalization", [IMAGE, floats(4), floats(4, seed=1)], tolerance=1e-4),
    Case("LayerNormalization", [X, floats(4), floats(4, seed=1)], tolerance=1e-4),
    Case("LayerNormalization", [X, floats(3, 4)], {"axis": 1, "epsilon": 1e-3}, label="no bias"),
    Case("LayerNormalization", [X, floats(4)], outputs=3, label="statistics", tolerance=1e-4),
    Case("GroupNormalization", [IMAGE, floats(4), floats(4, seed=1)], {"num_groups": 2},
         opset=21, tolerance=1e-4, result="float32"),
    Case("LRN", [floats(1, 7, 3, 3)], {"size": 3}),
    Case("LRN", [floats(1, 7, 3, 3)], {"size": 5, "alpha": 0.1, "bias": 2.0}, label="parameters"),
    Case("LpNormalization", [X], {"axis": 1}),
    Case("LpNormalization", [X], {"p": 1}, label="1"),
]  # fmt: skip

REDUCTION_NAMES = ("L1", "L2", "LogSum", "LogSumExp", "Max", "Mean", "Min", "Prod", "Sum",
                   "SumSquare")  # fmt: skip
REDUCTIONS = [
    *[Case("Reduce" + name, [np.abs(X)], {"axes": [-1, 0]}, opset=11) for name in REDUCTION_NAMES],
    *[Case("Reduce" + name, [np.abs(X), i64(1)], {"keepdims": 0}, (1,), opset=18)
      for name in REDUCTION_NAMES],
    *[Case("Reduce" + name, [np.abs(X)], opset=18, label="all") for name in REDUCTION_NAMES],
    Case("ReduceSum", [X, i64()], {"noop_with_empty_axes": 1}, (1,), opset=18, label="none"),
    Case("ReduceSum", [ints(3, 4)], label="int32"),
    Case("ReduceMax", [ints(3, 4, dtype=np.int8)], {"axes": [1]}, label="int8"),
]  # fmt: skip

SHAPES = [
    Case("Reshape", [X, i64(0, -1)], constants=(1,)),
    *[Case("Flatten", [X], {"axis": axis}, label=str(axis)) for axis in (0, 1, -1, 3)],
    Case("Squeeze", [floats(1, 3, 1)]),
    Case("Squeeze", [floats(1, 3, 1), i64(-1)], constants=(1,), label="axes"),
    Case("Squeeze", [floats(1, 3, 1)], {"axes": [0]}, opset=11),
    Case("Unsqueeze", [X, i64(0, -1)], constants=(1,)),
    Case("Unsqueeze", [X], {"axes": [1, 4]}, opset=11),
    Case("Transpose", [X]),
    Case("Transpose", [X], {"perm": [1, 2, 0]}, label="perm"),
    Case("Expand", [floats(3, 1), i64(2, 1, 4)], constants=(1,)),
    Case("Tile", [X, i64(1, 2, 3)], constants=(1,)),
    Case("Shape", [X]),
    Case("Shape", [X], {"start": -2, "end": 3}, label="part"),
    Case("Size", [X]),
    *[Case("DepthToSpace", [floats(1, 8, 2, 3)], {"blocksize": 2, "mode": mode}, label=mode)
      for mode in ("DCR", "CRD")],
    *[Case("DepthToSpace", [floats(2, 12, 3, 5)], {"blocksize": 2, "mode": mode},
           label=f"{mode} images") for mode in ("DCR", "CRD")],
    *[Case("SpaceToDepth", [floats(n, 3, 4, 6)], {"blocksize": 2}, label=str(n)) for n in (1, 2)],
    Case("Tile", [floats(2, 3, 4, 5), i64(3, 2, 1, 4)], constants=(1,), label="three"),
    Case("Resize", [IMAGE, None, f32(1, 1, 2, 3)],
         {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}, (2,)),
    Case("Resize", [IMAGE, None, None, i64(1, 4, 14, 18)], {}, (3,), label="sizes"),
    *[Case("Resize", [IMAGE, None, scale, size],
           {"mode": mode, "coordinate_transformation_mode": coordinates},
           (3,) if scale is None else (2,), opset=19, tolerance=1e-4,
           label=f"{mode} {coordinates} {label}")
      for mode in ("nearest", "linear", "cubic")
      for coordinates in ("half_pixel", "half_pixel_symmetric", "pytorch_half_pixel",
                          "align_corners", "asymmetric")
      for label, scale, size in (("down", None, i64(1, 4, 3, 5)), ("up", f32(1, 1, 2, 1.5), None))
      if coordinates != "align_corners" or (mode != "nearest" and label == "down")],
    *[Case("Resize", [IMAGE, None, None, i64(1, 4, 3, 21)], {"mode": mode, "antialias": 1}, (3,),
           opset=19, label=f"{mode} antialias") for mode in ("linear", "cubic")],
    *[Case("Resize", [IMAGE, None, None, i64(1, 4, 12, 11)], {"nearest_mode": mode}, (3,),
           label=mode) for mode in ("round_prefer_floor", "round_prefer_ceil", "floor", "ceil")],
    Case("Resize", [IMAGE, None, None, i64(5, 20)],
         {"mode": "cubic", "exclude_outside": 1, "cubic_coeff_a": -0.5, "axes": [3, 2]}, (3,),
         opset=19, label="axes"),
    Case("Resize", [IMAGE, None, None, i64(5, 20)],
         {"mode": "linear", "axes": [2, 3], "keep_aspect_ratio_policy": "not_larger"}, (3,),
         opset=19, label="not larger"),
    Case("Resize", [IMAGE, f32(0, 0, -0.2, 0.3, 1, 1, 0.7, 1.4), None, i64(1, 4, 5, 6)],
         {"mode": "linear", "coordinate_transformation_mode": "tf_crop_and_resize",
          "extrapolation_value": 7.5}, (1, 3), label="crop"),
    Case("Resize", [ints(1, 2, 4, 4, dtype=np.int8), None, None, i64(1, 2, 7, 8)], {}, (3,),
         label="int8"),
    Case("Resize", [IMAGE, f32(1, 1, 2, 2)], {}, (1,), opset=10),
    Case("Resize", [IMAGE, f32(1, 1, 2, 1.5)], {"mode": "linear"}, (1,), opset=10, label="linear"),
    Case("Upsample", [IMAGE, f32(1, 1, 2, 2)], {}, (1,), opset=9),
    Case("Upsample", [IMAGE], {"scales": [1.0, 1.0, 2.0, 2.0]}, opset=7),
]  # fmt: skip

MOVEMENT = [
    Case("Concat", [X, floats(2, 1, 4)], {"axis": 1}),
    Case("Concat", [X, X, floats(2, 3, 1)], {"axis": -1}, label="three"),
    Case("Slice", [X], {"starts": [1, -2], "ends": [9, 3], "axes": [1, 2]}, opset=9),
    *[Case("Slice", [X, *bounds], {}, range(1, 1 + len(bounds)), label=label)
      for label, bounds in {
          "plain": (i64(0, 1), i64(1, 3)),
          "steps": (i64(0), i64(9), i64(2), i64(2)),
          "backwards": (i64(-1), i64(-100), i64(2), i64(-1)),
          "backwards by two": (i64(2), i64(-5), i64(-1), i64(-2)),
          "backwards, part": (i64(3), i64(0), i64(2), i64(-1)),
          "past the end": (i64(1), i64(2**40), i64(1)),
      }.items()],
    Case("Split", [X], {"axis": 2}, outputs=2),
    Case("Split", [X, i64(1, 2)], {"axis": 1}, (1,), outputs=2, label="sizes"),
    Case("Split", [X], {"axis": 1, "split": [2, 1]}, outputs=2, opset=11),
    Case("Split", [X], {"axis": 1, "num_outputs": 2}, outputs=2, opset=18),
    Case("Pad", [X], {"pads": [0, 1, 0, 2, 0, 0], "value": 1.5}, opset=10),
    Case("Pad", [X, i64(0, 1, 2, 1, 0, 0), scalar(3)], {}, (1, 2)),
    Case("Pad", [X, i64(-1, 1, -2, 0, 0, 1)], {}, (1,), label="negative"),
    Case("Pad", [X, i64(0, 1, 2, 1, 0, 0), scalar(3)], {}, (1,), label="run-time value"),
    Case("Pad", [X, i64(1, 2, 3, 1), None, i64(1, -1)], {}, (1, 3), opset=18, label="axes"),
    *[Case("Pad", [X, i64(0, 2, 1, 0, 1, 3)], {"mode": mode}, (1,), label=mode, opset=19)
      for mode in ("reflect", "edge", "wrap")],
    Case("Pad", [ints(2, 3, dtype=np.int8), i64(1, 0, 0, 1), scalar(5, np.int8)], {}, (1, 2),
         label="int8"),
]  # fmt: skip

CONSTANTS = [
    Case("ConstantOfShape", [i64(2, 3)], constants=(0,)),
    Case("Range", [scalar(1), scalar(7), scalar(2)], constants=(0, 1, 2)),
    Case("Range", [scalar(9, np.int64), scalar(-2, np.int64), scalar(-3, np.int64)],
         constants=(0, 1, 2), label="down"),
    Case("EyeLike", [floats(3, 4)], {"k": 1}),
    Case("Constant", [], {"value_floats": [1.0, 2.5]}, label="floats"),
    Case("Constant", [], {"value_int": 3}, label="int"),
]  # fmt: skip
