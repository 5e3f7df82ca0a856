"""graph-narrow-sums: sums that cannot leave 32 bits are of 32 bits.

    %1 = graph.conv2d %x, %w, %b {...} : (tensor<1x8x8x16x!qx>, tensor<3x3x16x8x!qw>, tensor<8xi64>)
    -> tensor<1x8x8x8xi64>
    %2 = graph.requantize %1 {...} : (tensor<1x8x8x8xi64>) -> tensor<1x8x8x8x!qy>

with 16-bit activations and weights of which no channel sums up to 2**16, becomes

    %1 = graph.conv2d %x, %w, %b {..., sums = "i32"} : (..., tensor<8xi32>) -> tensor<1x8x8x8xi32>
    %2 = graph.requantize %1 {...} : (tensor<1x8x8x8xi32>) -> tensor<1x8x8x8x!qy>

The proof is by the weights and the bias (`placement/sums.py`). Accumulators of 32 bits take half
the room, and machines without wider ones need them; what is requantized is the same number, so no
bit changes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from xdsl.context import Context
from xdsl.dialects.builtin import ModuleOp, i32
from xdsl.ir import Operation
from xdsl.passes import ModulePass
from xdsl.pattern_rewriter import PatternRewriter

from npu_dialect import graph
from npu_dialect.graph.attributes import string
from npu_dialect.graph.base import shape_of, tensor_type
from npu_dialect.passes.placement.sums import greatest_sum
from npu_dialect.passes.rewriting import constant, constant_like, replace, rewrite

Contraction = graph.Conv2DOp | graph.MatmulOp

GREATEST_I32 = 2**31
"""Sums below it in magnitude fit 32 bits."""


@dataclass(frozen=True)
class GraphNarrowSumsPass(ModulePass):
    """Sums of 32 bits where 64 are not needed."""

    name = "graph-narrow-sums"

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        rewrite(op, {graph.Conv2DOp: [narrow], graph.MatmulOp: [narrow]})


def narrow(op: Contraction, rewriter: PatternRewriter) -> None:
    """A sum of 64 bits that is proved to fit 32."""
    users = [use.operation for use in op.result.uses]
    if not op.is_wide or not all(isinstance(u, graph.RequantizeOp | graph.CastOp) for u in users):
        return
    if op.bias is not None and constant(op.bias) is None:
        return
    if greatest_sum(op) < GREATEST_I32:
        replace(rewriter, op, *_narrowed(op))


def _narrowed(op: Contraction) -> list[Operation]:
    """The same operation with a bias and sums of 32 bits."""
    operands, made = list(op.operands), list[Operation]()
    if op.bias is not None:
        array = constant(op.bias)
        assert array is not None, "checked"
        made.append(constant_like(op.bias, array.astype(np.int32), i32))
        operands[2] = made[0].results[0]
    new = type(op).create(
        operands=operands,
        result_types=[tensor_type(shape_of(op.result), i32)],
        properties={**op.properties, "sums": string("i32")},
        location=op.location,
    )
    return [*made, new]
