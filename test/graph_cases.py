"""Examples of every operation of graph: the types of its operands, and how to build it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from xdsl.context import Context
from xdsl.dialects.builtin import ModuleOp, TensorType, f32, i1, i8, i16, i32, i64
from xdsl.dialects.func import FuncOp, ReturnOp
from xdsl.ir import Attribute, Block, Operation, Region, SSAValue

from npu_dialect import dtypes, graph
from npu_dialect.functional.recurrent import Activation
from npu_dialect.graph.base import GraphOp, dtype_of, shape_of, tensor_type
from npu_dialect.universe import NpuContext

Q16 = graph.uniform(dtypes.i16, 0.001)
Q8 = graph.uniform(dtypes.i8, 0.05, -3)
Q8B = graph.uniform(dtypes.i8, 0.1, 4)
QU8 = graph.uniform(dtypes.u8, 0.25, 128)
QW = graph.uniform(dtypes.i8, [0.1, 0.2], axis=3)
QM = graph.uniform(dtypes.i8, [0.1, 0.2, 0.3], [1, 2, 3], axis=1)
QB = graph.uniform(dtypes.i32, 0.005)


@dataclass(frozen=True)
class Case:
    """An operation: `build` gets one value per operand type."""

    name: str
    types: tuple[TensorType[Attribute], ...]
    build: Callable[..., GraphOp]

    def __str__(self) -> str:
        return self.name


def t(element: Attribute, *shape: int) -> TensorType[Attribute]:
    """A tensor type."""
    return tensor_type(shape, element)


def context() -> Context:
    """A context that knows the dialects."""
    return NpuContext()


def values(types: Sequence[Attribute]) -> list[Any]:
    """A value per type, untyped so that they unpack into any constructor."""
    return list(Block(arg_types=types).args)


def value(kind: Attribute) -> SSAValue:
    """A value of a type."""
    return Block(arg_types=[kind]).args[0]


def make(case: Case) -> GraphOp:
    """The operation of a case."""
    return case.build(*values(case.types))


def example_array(kind: TensorType[Attribute], rng: np.random.Generator) -> np.ndarray:
    """Random stored values; positive where a float could leave the domain of a function."""
    dtype, shape = dtype_of(kind), shape_of(kind)
    if dtype.is_float:
        return rng.uniform(0.1, 2.0, shape).astype(dtype.numpy)
    if dtype is dtypes.bool_:
        return rng.integers(0, 2, shape).astype(bool)
    high = min(dtype.high, 1 << 20)
    return rng.integers(max(dtype.low, -high), high, shape, endpoint=True).astype(dtype.numpy)


def _group(a: SSAValue, b: SSAValue) -> GraphOp:
    body = Block(arg_types=[a.type, b.type])
    total = graph.AddOp(body.args[0], body.args[1])
    body.add_ops([total, graph.YieldOp(total)])
    return graph.GroupOp([a, b], Region(body), "vector")


def opaque(x: SSAValue, op_type: str = "Det") -> GraphOp:
    """The determinant, which graph does not have."""
    from onnx import TensorProto, helper

    node = helper.make_node(op_type, ["x"], ["y"])
    shape = list(shape_of(x))
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)]
    outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, [])]
    proto = helper.make_model(
        helper.make_graph([node], "one", inputs, outputs),
        opset_imports=[helper.make_opsetid("", 17)],
    )
    return graph.OpaqueOp([x], [t(f32)], "", op_type, proto.SerializeToString(), "no determinant")


F, I32, B = t(f32, 2, 3), t(i32, 2, 3), t(i1, 2, 3)
IMAGE, QIMAGE = t(f32, 1, 6, 6, 4), t(Q8, 1, 6, 6, 4)

UNARY = [
    "Relu",
    "Neg",
    "Abs",
    "Exp",
    "Log",
    "Sqrt",
    "Rsqrt",
    "Reciprocal",
    "Tanh",
    "Sigmoid",
    "Erf",
    "Floor",
    "Ceil",
    "Round",
    "Sin",
    "Cos",
    "Sign",
    "Gelu",
    "Silu",
    "HardSwish",
    "Softplus",
]
BINARY = ["Add", "Sub", "Mul", "Div", "Max", "Min", "Pow", "Eq", "Ne", "Lt", "Le", "Gt", "Ge"]
LOGICAL = ["And", "Or", "Xor"]
POOLS = {"MaxPool2D": QIMAGE, "SumPool2D": QIMAGE, "AvgPool2D": IMAGE}
REDUCTIONS = ["ReduceSum", "ReduceMean", "ReduceMax", "ReduceMin", "ReduceProd"]


def _table() -> list[Case]:
    cases = [Case(n, (F,), op(n)) for n in UNARY]
    cases += [Case(n, (F, t(f32, 3)), op(n)) for n in BINARY]
    cases += [Case(n, (B, t(i1, 3)), op(n)) for n in LOGICAL]
    cases += [
        Case(n, (k,), _with(op(n), kernel=(2, 3), strides=(2, 1), pads=(0, 1, 1, 0)))
        for n, k in POOLS.items()
    ]
    cases += [Case(n, (IMAGE,), _with(op(n), axes=(1, 2))) for n in REDUCTIONS]
    return cases + _single_cases()


def op(name: str) -> Callable[..., GraphOp]:
    """The class of an operation by its name without `Op`."""
    return getattr(graph, f"{name}Op")


def _with(build: Callable[..., GraphOp], **keywords: object) -> Callable[..., GraphOp]:
    return lambda *operands: build(*operands, **keywords)


def _recurrent(gates: int, states: int = 1) -> tuple[TensorType[Attribute], ...]:
    """The operands of a recurrent layer: 3 steps, 1 sequence, 4 inputs, 2 hidden values."""
    width = 2 * gates
    weights = t(f32, 4, width), t(f32, 2, width), t(f32, width), t(f32, width)
    return t(f32, 3, 1, 4), *weights, t(i32, 1), *[t(f32, 1, 2)] * states


def _single_cases() -> list[Case]:
    return [
        *_elementwise_cases(),
        *_contraction_cases(),
        *_row_cases(),
        *_movement_cases(),
        *_conversion_cases(),
    ]


def _elementwise_cases() -> list[Case]:
    g = graph
    return [
        Case("Relu-i32", (I32,), g.ReluOp),
        Case("Relu-quant", (t(Q8, 4),), g.ReluOp),
        Case("Not", (B,), g.NotOp),
        Case("Clamp", (F,), lambda x: g.ClampOp(x, 0, 6)),
        Case("Clamp-quant", (t(Q8, 4),), lambda x: g.ClampOp(x, -3, 117)),
        Case("LeakyRelu", (F,), lambda x: g.LeakyReluOp(x, 0.1)),
        Case("Elu", (F,), lambda x: g.EluOp(x, 0.7)),
        Case("HardSigmoid", (F,), lambda x: g.HardSigmoidOp(x, 0.3, 0.4)),
        Case("Add-i64", (t(i64, 2), t(i64, 3, 1)), g.AddOp),
        Case("Where", (t(i1, 3), F, t(f32, 1)), g.WhereOp),
        Case("Cast", (F,), lambda x: g.CastOp(x, dtypes.i8)),
        Case("Cast-f16", (I32,), lambda x: g.CastOp(x, dtypes.f16)),
    ]


def _contraction_cases() -> list[Case]:
    g = graph
    return [
        Case(
            "Conv2D",
            (IMAGE, t(f32, 3, 3, 4, 2), t(f32, 2)),
            lambda x, w, b: g.Conv2DOp(x, w, b, strides=(2, 1), pads=(1, 0, 1, 0)),
        ),
        Case("Conv2D-quant", (QIMAGE, t(QW, 3, 3, 4, 2), t(i32, 2)), g.Conv2DOp),
        Case(
            "Conv2D-depthwise",
            (QIMAGE, t(Q8B, 3, 3, 1, 4)),
            lambda x, w: g.Conv2DOp(x, w, groups=4, dilations=(2, 2)),
        ),
        Case("Matmul", (t(f32, 2, 4, 5), t(f32, 5, 3), t(f32, 3)), g.MatmulOp),
        Case("Matmul-quant", (t(QU8, 4, 5), t(QM, 5, 3)), g.MatmulOp),
    ]


def _row_cases() -> list[Case]:
    g = graph
    channel = t(f32, 4)
    return [
        Case("ReduceSum-quant", (QIMAGE,), lambda x: g.ReduceSumOp(x, (1, 2))),
        Case("ReduceMax-quant", (QIMAGE,), lambda x: g.ReduceMaxOp(x, (3,))),
        Case("Softmax", (F,), lambda x: g.SoftmaxOp(x, 1)),
        Case("LogSoftmax", (F,), lambda x: g.LogSoftmaxOp(x, 0)),
        Case("BatchNorm", (IMAGE, *[channel] * 4), lambda *v: g.BatchNormOp(*v, axis=3)),
        Case("LayerNorm", (F, t(f32, 3), t(f32, 3)), lambda *v: g.LayerNormOp(*v, axis=1)),
        Case("LSTM", _recurrent(4, 2), g.LSTMOp),
        Case(
            "LSTM-peepholes",
            (*_recurrent(4, 2), t(f32, 6)),
            _with(g.LSTMOp, clip=0.7, input_forget=True, reverse=True),
        ),
        Case("GRU", _recurrent(3), _with(g.GRUOp, linear_before_reset=True)),
        Case("RNN", _recurrent(1), _with(g.RNNOp, activations=[Activation("elu", 0.1)])),
    ]


def _movement_cases() -> list[Case]:
    g = graph
    return [
        Case("Reshape", (F,), lambda x: g.ReshapeOp(x, (3, 2))),
        Case("Transpose", (IMAGE,), lambda x: g.TransposeOp(x, (0, 3, 1, 2))),
        Case("Transpose-quant", (t(QM, 5, 3),), lambda x: g.TransposeOp(x, (1, 0))),
        Case("Concat", (F, t(f32, 2, 1)), lambda a, b: g.ConcatOp([a, b], 1)),
        Case("Slice", (F,), lambda x: g.SliceOp(x, (1, 2), (1, 2), (1, -2))),
        Case("Slice-quant", (t(QM, 5, 3),), lambda x: g.SliceOp(x, (0, 1), (5, 2))),
        Case("Pad", (F,), lambda x: g.PadOp(x, (0, 1), (2, 0), float("-inf"))),
        Case("Pad-quant", (t(Q8, 4),), lambda x: g.PadOp(x, (1,), (1,), -3)),
        Case("BroadcastTo", (t(f32, 3),), lambda x: g.BroadcastToOp(x, (2, 2, 3))),
        Case("Gather", (F, t(i32, 4)), g.GatherOp),
        Case("Gather-quant", (t(QM, 5, 3), t(i64, 4)), g.GatherOp),
        Case("Scatter", (t(Q8, 5, 3), t(i32, 4), t(Q8, 4, 3)), g.ScatterOp),
        Case(
            "Scatter-add", (F, t(i64, 4), t(f32, 4, 3)), lambda x, i, u: g.ScatterOp(x, i, u, "add")
        ),
    ]


def _conversion_cases() -> list[Case]:
    g = graph
    recipe = g.requant_fixed([1 << 30], [35], "half_up")
    return [
        Case("Quantize", (F,), lambda x: g.QuantizeOp(x, Q8)),
        Case("Quantize-axis", (t(f32, 5, 3),), lambda x: g.QuantizeOp(x, QM)),
        Case("Dequantize", (t(Q8, 4),), g.DequantizeOp),
        Case("Dequantize-i32", (t(QB, 4),), g.DequantizeOp),
        Case("Requantize", (t(i32, 2, 4),), lambda x: g.RequantizeOp(x, recipe, Q8)),
        Case(
            "Requantize-channels",
            (t(Q8, 5, 2),),
            lambda x: g.RequantizeOp(x, g.requant_f32([0.1, 3e-7]), i32),
        ),
        Case(
            "Rescale",
            (t(i32, 2, 4), t(i32, 2, 1)),
            lambda x, m: g.RescaleOp(x, m, 31, Q8, "half_even"),
        ),
        Case("Rescale-quant", (t(Q8, 4), t(i32)), lambda x, m: g.RescaleOp(x, m, 0, i32)),
        Case("Lookup", (t(Q8, 4), t(i8, 256)), lambda x, y: g.LookupOp(x, y, Q8B)),
        Case("Interpolate", (t(Q16, 4), t(i16, 513)), lambda x, y: g.InterpolateOp(x, y, Q16)),
        Case("Constant", (), lambda: g.ConstantOp(np.array([[1.5, np.nan]], np.float32))),
        Case("Constant-quant", (), lambda: g.ConstantOp(np.array([1, -2], np.int8), t(Q8, 2))),
        Case("Group", (F, F), _group),
        Case("Opaque", (t(f32, 2, 2),), opaque),
    ]


CASES = _table()


def in_function(operation: Operation, types: Sequence[Attribute]) -> ModuleOp:
    """A module whose function `main` consists of `operation` on its arguments."""
    block = Block(arg_types=types)
    operation.operands = list(block.args)
    block.add_ops([operation, ReturnOp(*operation.results)])
    return ModuleOp([FuncOp("main", (list(types), operation.result_types), Region(block))])
