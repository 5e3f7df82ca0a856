"""graph-channels-last: transpositions around channels-last operations cancel, or move no data.

    %1 = graph.transpose %0 {permutation = [0, 3, 1, 2]} : (tensor<1x8x8x16xf32>) -> ...
    %2 = graph.relu %1 : (tensor<1x16x8x8xf32>) -> tensor<1x16x8x8xf32>
    %3 = graph.transpose %2 {permutation = [0, 2, 3, 1]} : ... -> tensor<1x8x8x16xf32>

becomes

    %3 = graph.relu %0 : (tensor<1x8x8x16xf32>) -> tensor<1x8x8x16xf32>

Importers put a transposition before and after every convolution and pooling. They move down through
what works in any order of dimensions (its constants and attributes are permuted) and cancel; one
before a flattening matrix product goes into the weights. What is left is addressed (`graph-views`)
or copied.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from xdsl.context import Context
from xdsl.dialects.builtin import ModuleOp
from xdsl.passes import ModulePass

from npu_dialect.passes.canonical.moves import TRANSPOSES
from npu_dialect.passes.graph_fold_constants import MOVES
from npu_dialect.passes.layout.sinking import HOIST, SINK
from npu_dialect.passes.rewriting import by_class, rewrite


@dataclass(frozen=True)
class GraphChannelsLastPass(ModulePass):
    """Cancel transpositions."""

    name = "graph-channels-last"

    keeps_bits: ClassVar[bool] = False
    """A flattening product adds up its floats in another order."""

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        rewrite(op, by_class(MOVES, TRANSPOSES, SINK))
        rewrite(op, by_class(MOVES, TRANSPOSES, HOIST))
