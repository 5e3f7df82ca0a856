"""graph-group: operations that become one fused nest, or one task of the host, go into a group.

    %1 = graph.conv2d %x, %w, %bias {...} : (...) -> tensor<1x8x8x16xi32>
    %2 = graph.requantize %1 {recipe = ...} : (tensor<1x8x8x16xi32>) -> tensor<1x8x8x16x!q>
    %3 = graph.relu %2 : (tensor<1x8x8x16x!q>) -> tensor<1x8x8x16x!q>

becomes

    %3 = graph.group %x, %w, %bias {kind = "array"} {
    ^bb0(%x1 : tensor<...>, %w1 : tensor<...>, %bias1 : tensor<16xi32>):
      %1 = graph.conv2d %x1, %w1, %bias1 {...}
      %2 = graph.requantize %1 {...}
      %3 = graph.relu %2
      graph.yield %3
    } : (...) -> tensor<1x8x8x16x!q>

A group is an array operation with what its output stage can do after it (an addition of one other
tensor included), a reduction or pooling with what follows, a few elementwise operations on at most
three tensors, one move, or connected operations of the host. Views and constants stay outside.
"""

from __future__ import annotations

from dataclasses import dataclass

from xdsl.context import Context
from xdsl.dialects.builtin import ModuleOp
from xdsl.dialects.func import FuncOp
from xdsl.ir import Operation
from xdsl.passes import ModulePass

from npu_dialect import graph
from npu_dialect.passes.graph_place import engine_of
from npu_dialect.passes.grouping.build import build_groups
from npu_dialect.passes.grouping.clusters import Clusters
from npu_dialect.passes.rewriting import erase_dead
from npu_dialect.passes.targets import module_target


@dataclass(frozen=True)
class GraphGroupPass(ModulePass):
    """Fuse placed operations into groups."""

    name = "graph-group"

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        target = module_target(op)
        for function in op.ops:
            if isinstance(function, FuncOp) and not function.is_declaration:
                block = function.body.block
                erase_dead(block)
                placed = [inner for inner in block.ops if _is_ungrouped(inner)]
                build_groups(block, Clusters(placed, target).find())


def _is_ungrouped(op: Operation) -> bool:
    return engine_of(op) is not None and not isinstance(op, graph.GroupOp)
