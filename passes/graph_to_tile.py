"""graph-to-tile: every group becomes a loop nest over buffers, as its mapping says.

    func.func @main(%x: tensor<1x32x32x16x!q>) -> tensor<1x32x32x16x!q> {
      %y = graph.group %x, %w {kind = "array", npu.memory = "dram", npu.mapping = {rows = 8, ...}} {
      ... } return %y
    }

becomes

    func.func @main(%x: memref<1x32x32x16xi8, "dram">, %y: memref<1x32x32x16xi8, "dram">) {
      %w = tile.constant {value = #graph.blob<...>} : memref<16x3x3x16xi8, "dram">
      tile.for (%i) to 1 {
        %wt = tile.alloc like %w : memref<..., "spm">
        %t = tile.copy %w to %wt
        tile.wait %t
        tile.for (%y) to 4 { load a window of %x; tile.conv2d ...; store the rows of %y }
      }
    }

Results become trailing arguments. Tensors between groups get a `tile.alloc` at the level of the
function, in spm where `npu.memory` says so. What the host runs becomes a private function of graph
operations.
"""

from __future__ import annotations

from dataclasses import dataclass

from xdsl.builder import Builder, InsertPoint
from xdsl.context import Context
from xdsl.dialects.builtin import (
    ArrayAttr,
    DictionaryAttr,
    FunctionType,
    LocationAttr,
    ModuleOp,
    StringAttr,
)
from xdsl.dialects.func import FuncOp, ReturnOp
from xdsl.ir import Block, Operation, OpResult, Region, SSAValue
from xdsl.passes import ModulePass

from npu_dialect import provenance
from npu_dialect.diagnostics import Code, error
from npu_dialect.graph.attributes import PLACEMENT, PlacementAttr
from npu_dialect.graph.base import dtype_of, shape_of
from npu_dialect.passes.graph_map import mapping_of, stays
from npu_dialect.passes.mapping.contraction import ContractionMapping
from npu_dialect.passes.mapping.elementwise import ElementwiseMapping, PoolingMapping
from npu_dialect.passes.mapping.groups import Group, root
from npu_dialect.passes.mapping.scatter import ScatterMapping
from npu_dialect.passes.targets import module_target
from npu_dialect.passes.to_tile.context import Lowering, Nest
from npu_dialect.passes.to_tile.contraction import ContractionLowering
from npu_dialect.passes.to_tile.host import HostLowering
from npu_dialect.passes.to_tile.move import MoveLowering
from npu_dialect.passes.to_tile.scatter import ScatterLowering
from npu_dialect.passes.to_tile.vector import PoolingLowering, VectorLowering
from npu_dialect.target import Target
from npu_dialect.tile.syntax import memref


def placements(function: FuncOp) -> ArrayAttr[DictionaryAttr]:
    """Where every operation of the graph runs, and why; it is lost in loop nests otherwise."""
    rows: list[DictionaryAttr] = []
    for op in function.walk():
        placement = op.attributes.get(PLACEMENT)
        counts = op.name not in ("graph.group", "graph.constant")
        if counts and isinstance(placement, PlacementAttr):
            data = placement.data
            fields = {
                "source": provenance.sources(op)[0],
                "op": op.name,
                "engine": data.engine,
                "rule": data.rule,
                "reason": data.reason,
            }
            rows.append(DictionaryAttr({k: StringAttr(v) for k, v in fields.items()}))
    return ArrayAttr(rows)


@dataclass(frozen=True)
class GraphToTilePass(ModulePass):
    """Lowers mapped groups to loop nests."""

    name = "graph-to-tile"

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        target = module_target(op)
        for function in list(op.body.block.ops):
            if isinstance(function, FuncOp) and not function.is_declaration:
                FunctionLowering(op, function, target).run()


class FunctionLowering:
    """Rewrites one function."""

    def __init__(self, module: ModuleOp, function: FuncOp, target: Target):
        self.module, self.source = module, function
        old = function.body.block
        returned = old.last_op
        assert isinstance(returned, ReturnOp)
        self.inputs, self.outputs = list(old.args), list(returned.operands)
        types = [memref(shape_of(v), dtype_of(v), "dram") for v in (*self.inputs, *self.outputs)]
        self.block = Block(arg_types=types)
        self.function = FuncOp(
            function.sym_name.data, FunctionType.from_lists(types, []), Region(self.block)
        )
        self.low = Lowering(target, Builder(InsertPoint.at_end(self.block)))
        self.tasks = 0

    def run(self) -> None:
        """Writes the new function in place of the old one."""
        copies = self._bind()
        for op in self.source.body.block.ops:
            self._lower(op)
        for value, place in copies:
            self._copy_out(value, place)
        self.low.builder.insert(ReturnOp())
        self._keep_attributes()
        self.module.body.block.insert_op_before(self.function, self.source)
        self.source.detach()
        self.source.erase(safe_erase=False)

    def _bind(self) -> list[tuple[SSAValue, SSAValue]]:
        """Gives inputs and outputs their memory; returns what must be copied to an output at the
        end.
        """
        memory, args = self.low.memory, list(self.block.args)
        memory.update(zip(self.inputs, args, strict=False))
        copies: list[tuple[SSAValue, SSAValue]] = []
        for value, place in zip(self.outputs, args[len(self.inputs) :], strict=True):
            base = root(value)
            made_here = isinstance(base, OpResult) and base.op.name == "graph.group"
            if made_here and base not in memory:
                assert isinstance(base, OpResult)
                memory[base] = self.low.reshaped(place, shape_of(base), base.op.location)
            else:
                copies.append((value, place))
        return copies

    def _lower(self, op: Operation) -> None:
        if op.name in ("graph.constant", "graph.reshape", "func.return"):
            return
        if op.name != "graph.group":
            raise error(
                Code.NOT_LOWERABLE,
                "every operation must be in a group before it is lowered",
                found=op.name,
                source=op,
                remedy="the passes graph-place, graph-group and graph-map first",
            )
        self._group(Group(op))

    def _group(self, group: Group) -> None:
        resident = stays(group.op)
        if group.kind in ("host", "io"):
            HostLowering(self.low, group, self.module, self.tasks).emit()
            self.tasks += 1
        elif group.kind == "move":
            MoveLowering(self.low, group, resident).emit()
        else:
            self._nest(group, resident)

    def _nest(self, group: Group, resident: bool) -> None:
        mapping = mapping_of(group)
        if isinstance(mapping, ContractionMapping):
            ContractionLowering(self.low, group, mapping, resident).emit()
        elif isinstance(mapping, PoolingMapping):
            PoolingLowering(self.low, group, mapping, resident).emit()
        elif isinstance(mapping, ScatterMapping):
            ScatterLowering(self.low, group, mapping, resident).emit()
        elif isinstance(mapping, ElementwiseMapping):
            VectorLowering(self.low, group, mapping, resident).emit()
        else:
            raise error(
                Code.NOT_LOWERABLE,
                "a group must have a mapping before it is lowered",
                source=group.op,
                remedy="the pass graph-map first",
            )

    def _copy_out(self, value: SSAValue, place: SSAValue) -> None:
        location = (
            value.owner.location if isinstance(value.owner, Operation) else self._name_location()
        )
        source = self.low.buffer(value, location)
        Nest(self.low.builder, location).copy(source, place)

    def _name_location(self) -> LocationAttr:
        return provenance.name_location(self.source.sym_name.data)

    def _keep_attributes(self) -> None:
        attributes = self.function.attributes
        attributes.update(self.source.attributes)
        attributes["npu.placements"] = placements(self.source)
        attributes["npu.input_types"] = ArrayAttr([v.type for v in self.inputs])
        attributes["npu.output_types"] = ArrayAttr([v.type for v in self.outputs])
