"""graph-fold-constants: operations on constants are done now.

    %a = graph.constant {value = #graph.blob<f32, [2], [1.0, 2.0]>} : () -> tensor<2xf32>
    %b = graph.neg %a : (tensor<2xf32>) -> tensor<2xf32>

becomes

    %b = graph.constant {value = #graph.blob<f32, [2], [-1.0, -2.0]>} : () -> tensor<2xf32>

Dequantized constants stay as they are, for graph-fold-qdq. A result that is much larger than its
operands stays an operation.
"""

from __future__ import annotations

from dataclasses import dataclass

from xdsl.context import Context
from xdsl.dialects.builtin import ModuleOp
from xdsl.passes import ModulePass
from xdsl.pattern_rewriter import PatternRewriter

from npu_dialect import graph, provenance
from npu_dialect.graph.base import GraphOp, type_of
from npu_dialect.passes.rewriting import Rules, constant, location_of, rewrite

MOST_BYTES = 1 << 16
"""A result that is larger than this and than its operands together is not stored."""


@dataclass(frozen=True)
class GraphFoldConstantsPass(ModulePass):
    """Evaluate operations whose operands are constants."""

    name = "graph-fold-constants"

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        rewrite(op, RULES)


def fold(op: GraphOp, rewriter: PatternRewriter) -> None:
    """Replace an operation on constants by its results."""
    arrays = [a for a in map(constant, op.operands) if a is not None]
    if not arrays or len(arrays) != len(op.operands):
        return
    results = op.evaluate(*arrays)
    total = sum(a.nbytes for a in results)
    if total > MOST_BYTES and total > sum(a.nbytes for a in arrays):
        return
    location = provenance.fuse(*map(location_of, op.operands), op)
    constants = [
        graph.ConstantOp(array, type_of(value), location=location)
        for array, value in zip(results, op.results, strict=True)
    ]
    provenance.replace(rewriter, op, constants, [c.result for c in constants])


_KEPT = (graph.ConstantOp, graph.DequantizeOp, graph.GroupOp, graph.OpaqueOp, graph.YieldOp)

RULES: Rules = {cls: [fold] for cls in graph.OPS if cls not in _KEPT}

MOVES: Rules = {
    cls: [fold]
    for cls in (graph.TransposeOp, graph.ReshapeOp, graph.SliceOp, graph.ConcatOp, graph.PadOp)
}
"""The part of the rules that only moves elements."""
