"""Host groups: the body becomes a function of graph operations, called on whole tensors in dram."""

from __future__ import annotations

from xdsl.dialects.builtin import FunctionType, ModuleOp
from xdsl.dialects.func import FuncOp, ReturnOp
from xdsl.ir import Block, Region, SSAValue

from npu_dialect import tile
from npu_dialect.passes.mapping.groups import Group
from npu_dialect.passes.to_tile.context import Lowering


class HostLowering:
    """One task of the host: `host` for what the accelerator lacks, `io` for conversions at the
    boundary.
    """

    def __init__(self, low: Lowering, group: Group, module: ModuleOp, number: int):
        self.low, self.group, self.module = low, group, module
        self.name = f"{group.kind}_{number}"

    def emit(self) -> None:
        """Writes the function and the call."""
        low, group = self.low, self.group
        location = group.location
        outs = [low.buffer(v, location) for v in self._results()]
        ins = [low.buffer(v, location) for v in group.op.operands]
        self.module.body.block.add_op(self._function())
        call = tile.HostOp(self.name, ins, outs, engine=group.kind, location=location)
        low.builder.insert(call)

    def _results(self) -> list[SSAValue]:
        for value in self.group.op.results:
            self.low.allocate_result(self.group, value, False)
        return list(self.group.op.results)

    def _function(self) -> FuncOp:
        source = self.group.op.regions[0].block
        location = self.group.location
        block = Block(arg_types=source.arg_types)
        values: dict[SSAValue, SSAValue] = dict(zip(source.args, block.args, strict=True))
        for op in source.ops:
            if op.name == "graph.yield":
                end = ReturnOp(*(values[v] for v in op.operands))
                end.location = location
                block.add_op(end)
            else:
                block.add_op(op.clone(values))
        types = FunctionType.from_lists(
            list(source.arg_types), [r.type for r in self.group.op.results]
        )
        function = FuncOp(self.name, types, Region(block), visibility="private")
        function.location = location
        return function
