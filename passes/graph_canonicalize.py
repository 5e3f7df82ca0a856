"""graph-canonicalize: operations that change nothing go; several that are one become one.

    %1 = graph.transpose %x {permutation = [0, 2, 3, 1]} : (tensor<1x3x8x8xf32>) -> ...
    %2 = graph.transpose %1 {permutation = [0, 3, 1, 2]} : ...
    %3 = graph.relu %2
    %4 = graph.clamp %3 {min = -1.0 : f32, max = 6.0 : f32}

becomes

    %4 = graph.clamp %x {min = 0.0 : f32, max = 6.0 : f32}

What nobody uses is erased. The rules are in `canonical`: `moves` and `values`.
"""

from __future__ import annotations

from dataclasses import dataclass

from xdsl.context import Context
from xdsl.dialects.builtin import ModuleOp
from xdsl.passes import ModulePass

from npu_dialect.passes.canonical import moves, values
from npu_dialect.passes.rewriting import Rules, by_class, rewrite

RULES: Rules = by_class(moves.RULES, values.RULES)


@dataclass(frozen=True)
class GraphCanonicalizePass(ModulePass):
    """Simplify what is there."""

    name = "graph-canonicalize"

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        rewrite(op, RULES)
