"""graph-half-products: the array multiplies f16 or bf16 as they are stored, where it can.

    %1 = graph.cast %x : (tensor<8x64xf16>) -> tensor<8x64xf32>
    %2 = graph.cast %w : (tensor<64x32xf16>) -> tensor<64x32xf32>
    %3 = graph.matmul %1, %2 : (tensor<8x64xf32>, tensor<64x32xf32>) -> tensor<8x32xf32>

becomes, on a target whose array has products of f16,

    %3 = graph.matmul %x, %w : (tensor<8x64xf16>, tensor<64x32xf16>) -> tensor<8x32xf32>

(with `sums = "f32"`) and the same bits: a product of two f16 (22 bits) or bf16 (16 bits) is exact
in f32, and sums are of f32 in both. A constant goes along if all of its numbers are halves. Casts
before movement go behind it, so that halves are moved.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
from xdsl.context import Context
from xdsl.dialects.builtin import ModuleOp
from xdsl.ir import Operation, SSAValue
from xdsl.passes import ModulePass
from xdsl.pattern_rewriter import PatternRewriter

from npu_dialect import dtypes, graph
from npu_dialect.dtypes import DType
from npu_dialect.graph.attributes import string
from npu_dialect.graph.base import dtype_of, shape_of, tensor_type
from npu_dialect.passes.rewriting import Array, constant, replace, rewrite
from npu_dialect.passes.targets import module_target
from npu_dialect.target import Target

HALVES = (dtypes.f16, dtypes.bf16)
MOVES = (graph.ReshapeOp, graph.TransposeOp, graph.SliceOp, graph.BroadcastToOp)
Contraction = graph.Conv2DOp | graph.MatmulOp


@dataclass(frozen=True)
class GraphHalfProductsPass(ModulePass):
    """Multiply halves as they are stored."""

    name = "graph-half-products"

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        target = module_target(op)
        rule: Callable[..., None] = partial(narrow, target=target)
        rewrite(op, {graph.Conv2DOp: [rule], graph.MatmulOp: [rule]})


def narrow(op: Contraction, rewriter: PatternRewriter, target: Target) -> None:
    """A contraction of numbers that are halves reads them as such."""
    x, w = op.operands[:2]
    if dtype_of(x) is not dtypes.f32 or dtype_of(w) is not dtypes.f32:
        return
    half = _half_of(x) or _half_of(w)
    if half is None or not target.array_can(half.name, half.name):
        return
    found = [_narrowed(value, half) for value in (x, w)]
    if any(each is None for each in found):
        return
    made: list[Operation] = []
    operands = [each(made) for each in found if each is not None]
    new = type(op).create(
        operands=[*operands, *op.operands[2:]],
        properties={**op.properties, "sums": string("f32")},
        result_types=[op.result.type],
        location=op.location,
    )
    replace(rewriter, op, *made, new)


Make = Callable[[list[Operation]], SSAValue]
"""Gives a tensor of halves; appends the operations that make it."""


def _half_of(value: SSAValue) -> DType | None:
    """The type of halves that a tensor of f32 was cast from."""
    while isinstance(value.owner, MOVES):
        value = value.owner.operands[0]
    if not isinstance(value.owner, graph.CastOp):
        return None
    found = dtype_of(value.owner.x)
    return found if found in HALVES else None


def _narrowed(value: SSAValue, half: DType) -> Make | None:
    """How a tensor of f32 is made as one of halves; None where its numbers are others."""
    owner, array = value.owner, constant(value)
    if array is not None:
        return _constant(value, array, half)
    if isinstance(owner, graph.CastOp) and dtype_of(owner.x) is half:
        source = owner.x
        return lambda made: source
    if not isinstance(owner, MOVES):
        return None
    inner = _narrowed(owner.operands[0], half)
    return None if inner is None else partial(_moved, owner, inner, half)


def _moved(op: Operation, inner: Make, half: DType, made: list[Operation]) -> SSAValue:
    """The same movement of halves."""
    kind = tensor_type(shape_of(op.results[0]), dtypes.element_type(half))
    moved = type(op).create(
        operands=[inner(made), *op.operands[1:]],
        properties=op.properties,
        result_types=[kind],
        location=op.location,
    )
    made.append(moved)
    return moved.results[0]


def _constant(value: SSAValue, array: Array, half: DType) -> Make | None:
    with np.errstate(over="ignore"):
        stored = array.astype(half.numpy)
    if not np.array_equal(stored.astype(np.float32), array):
        return None

    def make(made: list[Operation]) -> SSAValue:
        assert isinstance(value.owner, Operation)
        op = graph.ConstantOp(stored, location=value.owner.location)
        made.append(op)
        return op.result

    return make
