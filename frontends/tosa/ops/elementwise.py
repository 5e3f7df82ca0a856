"""Functions of two numbers, choices and comparisons."""

from __future__ import annotations

from typing import Any

from xdsl.ir import SSAValue

from npu_dialect import dtypes, graph
from npu_dialect.frontends.onnx.builder import dtype_of, is_quantized
from npu_dialect.frontends.onnx.errors import Misfit
from npu_dialect.frontends.tosa.builder import Builder
from npu_dialect.frontends.tosa.ops.pooling import propagates
from npu_dialect.frontends.tosa.ops.rescaling import I32, whole
from npu_dialect.frontends.tosa.registry import op


def plain(b: Builder, x: SSAValue) -> SSAValue:
    """Floats, truth values and wide integers as they are; others as the i32 that are stored."""
    return whole(b, x) if is_quantized(x) else x


def _binary(name: str, kind: type[Any]) -> None:
    @op(name)
    def emit(b: Builder, input1: SSAValue, input2: SSAValue) -> SSAValue:
        return b.emit(kind(plain(b, input1), plain(b, input2)))

    emit.__doc__ = f"`{kind.name}`."


for _name, _kind in {
    "add": graph.AddOp, "sub": graph.SubOp, "pow": graph.PowOp, "intdiv": graph.DivOp,
    "bitwise_and": graph.AndOp, "bitwise_or": graph.OrOp, "bitwise_xor": graph.XorOp,
    "logical_and": graph.AndOp, "logical_or": graph.OrOp, "logical_xor": graph.XorOp,
    "equal": graph.EqOp, "greater": graph.GtOp, "greater_equal": graph.GeOp,
}.items():  # fmt: skip
    _binary(_name, _kind)


def _extreme(name: str, kind: type[Any]) -> None:
    @op(name)
    def emit(b: Builder, input1: SSAValue, input2: SSAValue, *, nan_mode: str) -> SSAValue:
        propagates(input1, nan_mode)
        return b.emit(kind(plain(b, input1), plain(b, input2)))

    emit.__doc__ = f"`{kind.name}`; of floats where NaN propagates."


_extreme("maximum", graph.MaxOp)
_extreme("minimum", graph.MinOp)


@op("mul")
def mul(b: Builder, input1: SSAValue, input2: SSAValue, shift: SSAValue) -> SSAValue:
    """The product; of i32 with a shift, of 64 bits, shifted right and rounded half up."""
    amount = int(b.number(shift, "the shift"))
    if is_quantized(input1):
        input1, input2 = whole(b, input1), whole(b, input2)
    if not amount:
        return b.emit(graph.MulOp(input1, input2))
    if dtype_of(input1) is not dtypes.i32 or not 0 < amount < 63:
        raise Misfit(f"a shift of {amount} of {dtype_of(input1)}")
    return b.emit(graph.RescaleOp(input1, input2, amount, I32, "half_up"))


@op("select")
def select(b: Builder, input1: SSAValue, input2: SSAValue, input3: SSAValue) -> SSAValue:
    """input2 where input1 holds, else input3."""
    return b.emit(graph.WhereOp(input1, input2, input3))
