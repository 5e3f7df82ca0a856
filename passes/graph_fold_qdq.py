"""graph-fold-qdq: what lies between dequantize and quantize becomes integer operations.

    %x1 = graph.dequantize %x : (tensor<1x8x8x4x!qx>) -> tensor<1x8x8x4xf32>
    %w1 = graph.dequantize %w : (tensor<3x3x4x8x!qw>) -> tensor<3x3x4x8xf32>
    %b1 = graph.dequantize %b : (tensor<8x!qb>) -> tensor<8xf32>
    %1 = graph.conv2d %x1, %w1, %b1 {...}
    %2 = graph.relu %1
    %3 = graph.quantize %2 : (tensor<1x8x8x8xf32>) -> tensor<1x8x8x8x!qy>

becomes

    %1 = graph.conv2d %x, %w, %b {...} : (...) -> tensor<1x8x8x8xi32>
    %2 = graph.requantize %1 {recipe = #graph.requant<f32, [...]>} : (...) -> tensor<1x8x8x8x!qy>
    %3 = graph.relu %2 : (tensor<1x8x8x8x!qy>) -> tensor<1x8x8x8x!qy>

Every rounding of the model stays; what has no integer form stays as float operations. The rules are
in `qdq`: `moves`, `contractions`, `arithmetic`, `tables`, `extremes`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from xdsl.context import Context
from xdsl.dialects.builtin import ModuleOp
from xdsl.passes import ModulePass
from xdsl.pattern_rewriter import PatternRewriter

from npu_dialect import graph
from npu_dialect.passes.graph_fold_constants import MOVES as MOVED_CONSTANTS
from npu_dialect.passes.qdq import arithmetic, contractions, extremes, moves, tables
from npu_dialect.passes.rewriting import Rules, by_class, constant, constant_like, replace, rewrite


@dataclass(frozen=True)
class GraphFoldQdqPass(ModulePass):
    """Integer operations in place of dequantize, float operation, quantize."""

    name = "graph-fold-qdq"

    keeps_bits: ClassVar[bool] = False
    """Sums of integers are exact, those of floats before were not; results may be a step apart."""

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        rewrite(op, RULES)
        rewrite(op, LEFT_OVER)


def fold(op: graph.DequantizeOp, rewriter: PatternRewriter) -> None:
    """A constant that floats use is stored as floats."""
    array = constant(op.x)
    if array is not None:
        plain = op.type.element_type
        replace(rewriter, op, constant_like(op.x, op.evaluate(array)[0], plain))


def duplicate(op: graph.DequantizeOp, rewriter: PatternRewriter) -> None:
    """Every user has its own dequantize, so that the narrow form is what is stored and loaded."""
    users = dict.fromkeys(use.operation for use in op.result.uses)
    for user in list(users)[1:]:
        own = graph.DequantizeOp(op.x, location=op.location)
        rewriter.insert(own)
        user.operands = [own.result if v is op.result else v for v in user.operands]
        rewriter.notify_op_modified(user)


RULES: Rules = by_class(
    MOVED_CONSTANTS,
    moves.RULES,
    contractions.RULES,
    tables.RULES,
    arithmetic.RULES,
    extremes.RULES,
)
LEFT_OVER: Rules = {graph.DequantizeOp: [fold, duplicate]}
