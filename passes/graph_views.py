"""graph-views: what moves data becomes a way to address it, where strides can express it.

    %y = graph.group %x {kind = "move"} { graph.transpose %x {permutation = [0, 2, 1]} }
    %z = graph.group %a, %b {kind = "move"} { graph.concat %a, %b {axis = 1} }

becomes

    %y = graph.group %x {kind = "move", npu.view} { ... }
    %z = graph.group %a, %b {kind = "move", npu.within = [0, 1]} { ... }

With `npu.view` the result is never made: its readers read the operand by strides. With `npu.within`
those operands (by number) have no memory of their own: what makes them writes them to where they
lie within the result. A movement keeps an instruction where some engine could not address what it
then had to, where the host or the caller needs the tensor itself, or where short runs in dram would
cost more than the copy; `npu.copied` says which. What dram must hold in short runs is put together
in the scratchpad where it fits, and copied as a whole (`mapping/staging.py`). On a machine whose
dram has the scratchpad's own memory behind a part that is read only, inputs and outputs get copies
on the chip, too, which `npu-bind` drops (`mapping/ports.py`).
"""

from __future__ import annotations

from dataclasses import dataclass

from xdsl.context import Context
from xdsl.dialects.builtin import ModuleOp
from xdsl.dialects.func import FuncOp
from xdsl.passes import ModulePass

from npu_dialect.passes.mapping.ports import stage_ports
from npu_dialect.passes.mapping.staging import stage
from npu_dialect.passes.mapping.view_choice import Chooser
from npu_dialect.passes.targets import module_target


@dataclass(frozen=True)
class GraphViewsPass(ModulePass):
    """Replace movements by addressing."""

    name = "graph-views"

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        target = module_target(op)
        for function in op.body.block.ops:
            if isinstance(function, FuncOp) and not function.is_declaration:
                Chooser(function.body.block, target).run()
                stage(function, target)
                stage_ports(function, target)
