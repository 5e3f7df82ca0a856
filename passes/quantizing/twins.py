"""A float function beside what quantization makes of it, on the same samples.

    for layer in in_step(function, scheme, arguments):
        layer.op, layer.real        a float contraction, and what was computed up to it
        layer.twin, layer.stored    the same of the quantized function

The quantized function is that of graph-quantize, in floats that went through quantize and
dequantize. Its values may be changed, and what comes after them is computed from that.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from xdsl.dialects.builtin import StringAttr
from xdsl.dialects.func import FuncOp
from xdsl.ir import Operation

from npu_dialect import dtypes, graph
from npu_dialect.diagnostics import Code, error
from npu_dialect.graph.base import dtype_of, shape_of
from npu_dialect.passes.graph_calibrate import range_of
from npu_dialect.passes.quantizing.insertion import (
    Insertion,
    grid_of,
    real_tensors,
    stored_type,
)
from npu_dialect.passes.quantizing.precision import PRECISION, said
from npu_dialect.passes.quantizing.replay import Arguments, Replay
from npu_dialect.passes.quantizing.schemes import SCHEMES, Grid, Scheme
from npu_dialect.passes.rewriting import Array, constant, constant_like

Linear = graph.Conv2DOp | graph.MatmulOp


def scheme_of(name: str, source: str) -> Scheme:
    """The scheme of a name. Raises CompileError where there is none."""
    if name not in SCHEMES:
        raise error(
            Code.OPTION,
            f"scheme must be one of {', '.join(SCHEMES)}",
            found=name,
            source=source,
        )
    return SCHEMES[name]


def quantized(function: FuncOp, scheme: Scheme) -> tuple[Insertion, dict[Operation, Operation]]:
    """What quantized a copy of a function with ranges, and for each operation the one in the copy.

    Raises CompileError for a function without ranges.
    """
    twin = function.clone()
    originals = list(function.body.block.ops)
    pairs = dict(zip(originals, list(twin.body.block.ops), strict=True))
    for op, other in pairs.items():
        precision = said(op)
        if precision is not None:
            other.attributes[PRECISION] = StringAttr(precision)
    ranges = {v: found for v in real_tensors(twin) if (found := range_of(v)) is not None}
    if real_tensors(twin) and not ranges:
        raise error(
            Code.OPTION,
            "the tensors of a graph must have ranges",
            found="none",
            remedy="graph-calibrate{samples=...} first",
            source=function.sym_name.data,
        )
    insertion = Insertion(twin, ranges, scheme)
    insertion.run()
    return insertion, pairs


@dataclass(frozen=True)
class Layer:
    """A contraction with constant weights, computed both ways for all samples."""

    op: Linear
    real: Replay
    twin: Linear
    stored: Replay
    grid: Grid | None
    """What the weights can be; None where they stay floats."""


def in_step(function: FuncOp, scheme: Scheme, arguments: Arguments) -> Iterator[Layer]:
    """The contractions with constant float weights in program order."""
    insertion, pairs = quantized(function, scheme)
    real, stored = Replay(function, arguments), Replay(insertion.function, arguments)
    steps = iter(stored)
    for op in real:
        if isinstance(op, Linear) and is_layer(op):
            other = pairs[op]
            if other.parent is None:
                continue  # nobody reads it
            assert isinstance(other, Linear)
            while next(steps) is not other:
                pass
            inputs = stored_type(other.operands[0])
            own = insertion.scheme_of(other)
            grid = None if inputs is None or own is None else grid_of(op, own, inputs)
            yield Layer(op, real, other, stored, grid)


def is_layer(op: Linear) -> bool:
    """Whether a contraction that computes anything has constant float weights, and no bias or a
    constant one.
    """
    if any(0 in shape_of(v) for v in (*op.operands, op.result)):
        return False
    constants = [constant(v) for v in op.operands[1:]]
    return dtype_of(op.operands[0]) is dtypes.f32 and all(c is not None for c in constants)


def give(changes: Mapping[Linear, tuple[Array | None, Array | None]]) -> dict[Linear, Linear]:
    """Gives contractions other weights and biases, where there are any; the new ones."""
    return {op: _given(op, *arrays) for op, arrays in changes.items()}


def _given(op: Linear, weights: Array | None, bias: Array | None) -> Linear:
    block = op.parent
    assert block is not None
    operands = list(op.operands)
    if weights is not None:
        made = constant_like(operands[1], weights.astype(np.float32))
        block.insert_op_before(made, op)
        operands[1] = made.result
    if bias is not None:
        array = bias.astype(np.float32)
        new = graph.ConstantOp(array, location=op.location)
        if op.bias is not None:
            new = constant_like(op.bias, array)
        block.insert_op_before(new, op)
        operands[2:] = [new.result]
    found = type(op).create(
        operands=operands,
        result_types=[op.result.type],
        properties=dict(op.properties),
        attributes=dict(op.attributes),
        location=op.location,
    )
    block.insert_op_before(found, op)
    op.result.replace_all_uses_with(found.results[0])
    op.detach()
    op.erase()
    return found


def bias_of(op: Linear) -> Array:
    """The bias [channels] in double precision; zeros where there is none."""
    bias = None if op.bias is None else constant(op.bias)
    if bias is None:
        return np.zeros(shape_of(op.result)[-1])
    return bias.astype(np.float64)
