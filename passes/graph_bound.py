"""graph-bound: notes what no program of the model can beat on the target.

    func.func @main(%x: ...) -> ... {
      %y = graph.group %x, %w ... {kind = "array"} { ... }

becomes

    func.func @main(%x: ...) -> ... attributes {npu.metadata = {bound.main = "..."}} {
      %y = graph.group %x, %w ... {kind = "array"} { ... }

The text is that of `npu_dialect.bound`, which counts and shares nothing with the passes; programs
carry it to every report.
"""

from __future__ import annotations

from dataclasses import dataclass

from xdsl.context import Context
from xdsl.dialects.builtin import ModuleOp
from xdsl.passes import ModulePass

from npu_dialect import bound
from npu_dialect.passes.targets import module_target


@dataclass(frozen=True)
class GraphBoundPass(ModulePass):
    """Write the bound of every function into its metadata."""

    name = "graph-bound"

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        bound.record(op, module_target(op))
