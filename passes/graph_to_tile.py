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

Groups that `npu.cascade` joins become nests by stripe instead (`to_tile/cascade.py`): each piece
makes some rows of a result, and what groups hand to each other lies in row buffers.

    %a = graph.group ... {npu.cascade = {number = 0, rows = 4}, npu.memory = "rows", npu.held = 6}
    %b = graph.group %a, %w ... {npu.cascade = {number = 0, rows = 4}, npu.weights = "held", ...}

becomes

    %rows = tile.alloc {part} : memref<1x6x32x16xi8, "spm">
    nest of rows 0..5 of %a into %rows[0 : 5], nest of rows 0..4 of %b from there
    copy of %rows[3 : 2] to %rows[0 : 2], which the next stripe reads again
    nest of rows 5..9 of %a into %rows[2 : 4], nest of rows 4..8 of %b
    ...

A state is one argument for its content before and after (`to_tile/states.py`): the group that makes
the new content writes it in place where nobody needs the old one any more, else beside, and a copy
at the end of the function brings it there.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import cast

from xdsl.builder import Builder
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
from xdsl.ir import Block, BlockArgument, Operation, OpResult, Region, SSAValue
from xdsl.passes import ModulePass
from xdsl.rewriter import InsertPoint

from npu_dialect import provenance
from npu_dialect.diagnostics import Code, error
from npu_dialect.graph.attributes import APPROXIMATE, PLACEMENT, PlacementAttr
from npu_dialect.graph.base import dtype_of, shape_of
from npu_dialect.graph.states import result_arguments, states_of
from npu_dialect.passes.graph_map import mapping_of, stays
from npu_dialect.passes.mapping.contraction import ContractionMapping
from npu_dialect.passes.mapping.elementwise import ElementwiseMapping, PoolingMapping
from npu_dialect.passes.mapping.groups import Group, root
from npu_dialect.passes.mapping.scatter import ScatterMapping
from npu_dialect.passes.mapping.views import PORT, storage
from npu_dialect.passes.targets import module_target
from npu_dialect.passes.to_tile.cascade import CascadeLowering, cascade_of, runs
from npu_dialect.passes.to_tile.context import Lowering, Nest
from npu_dialect.passes.to_tile.contraction import ContractionLowering
from npu_dialect.passes.to_tile.host import HostLowering
from npu_dialect.passes.to_tile.move import MoveLowering
from npu_dialect.passes.to_tile.scatter import ScatterLowering
from npu_dialect.passes.to_tile.site import Site
from npu_dialect.passes.to_tile.states import Move, in_order, in_place
from npu_dialect.passes.to_tile.vector import PoolingLowering, VectorLowering
from npu_dialect.target import Target
from npu_dialect.tile.syntax import memref


def placements(function: FuncOp) -> ArrayAttr[DictionaryAttr]:
    """Where every operation of the graph runs, and why; it is lost in loop nests otherwise."""
    rows: list[DictionaryAttr] = []
    seen: set[tuple[str, str]] = set()
    for op in function.walk():
        placement = op.attributes.get(PLACEMENT)
        counts = op.name not in ("graph.group", "graph.constant")
        if counts and isinstance(placement, PlacementAttr):
            data = placement.data
            source, name = provenance.sources(op)[0], op.name
            step_of = op.attributes.get(APPROXIMATE)
            if isinstance(step_of, StringAttr):  # its steps are one row
                name = step_of.data
                if (source, name) in seen:
                    continue
                seen.add((source, name))
            fields = {
                "source": source,
                "op": name,
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


def _is_private(op: Operation) -> bool:
    return isinstance(op, FuncOp) and op.sym_visibility is not None


class FunctionLowering:
    """Rewrites one function."""

    def __init__(self, module: ModuleOp, function: FuncOp, target: Target):
        self.module, self.source = module, function
        old = function.body.block
        returned = old.last_op
        assert isinstance(returned, ReturnOp)
        self.inputs, self.outputs = list(old.args), list(returned.operands)
        stored = {s.result: s.argument for s in states_of(function) if s.argument is not None}
        trailing = [v for k, v in enumerate(self.outputs) if k not in stored]
        types = [memref(shape_of(v), dtype_of(v), "dram") for v in (*self.inputs, *trailing)]
        self.block = Block(arg_types=types)
        self.function = FuncOp(
            function.sym_name.data, FunctionType.from_lists(types, []), Region(self.block)
        )
        self.low = Lowering(target, Builder(InsertPoint.at_end(self.block)))
        self.tasks = sum(_is_private(op) for op in module.body.block.ops)

    def run(self) -> None:
        """Writes the new function in place of the old one."""
        self._keep_attributes()
        moves = self._bind()
        self._lower_all()
        self._copy_out(moves)
        self.low.builder.insert(ReturnOp())
        self.module.body.block.insert_op_before(self.function, self.source)
        self.source.detach()
        self.source.erase(safe_erase=False)

    def _bind(self) -> list[tuple[SSAValue, SSAValue]]:
        """Gives inputs and outputs their memory; returns what must be copied to its place at the
        end: (tensor, buffer).
        """
        memory, args = self.low.memory, list(self.block.args)
        memory.update(zip(self.inputs, args, strict=False))
        moves: list[tuple[SSAValue, SSAValue]] = []
        places = result_arguments(self.function, len(self.inputs))
        for value, number in zip(self.outputs, places, strict=True):
            place, base = args[number], root(value)
            made_here = isinstance(base, OpResult) and base.op.name == "graph.group"
            old = self.inputs[number] if number < len(self.inputs) else None
            if base is old:
                continue
            if made_here and base not in memory and (old is None or in_place(old, base)):
                assert isinstance(base, OpResult)
                memory[base] = self.low.reshaped(place, shape_of(base), base.op.location)
                self._bind_maker(base.op, memory[base])
            else:
                moves.append((value, place))
        return moves

    def _bind_maker(self, op: Operation, place: SSAValue) -> None:
        """Gives what an output is a copy of its place, where it does not stay on the chip."""
        if PORT not in op.attributes:
            return
        made = storage(op.operands[0])
        assert isinstance(made, OpResult), "ports.py"
        if not stays(made.op):
            self.low.memory[made] = self.low.reshaped(place, shape_of(made), made.op.location)

    def _lower_all(self) -> None:
        """Lowers every operation; the groups of a cascade together, where its first one stands."""
        ops = list(self.source.body.block.ops)
        cascades = runs(ops)
        for op in ops:
            if op in cascades:
                CascadeLowering(self.low, cascades[op], self._nest).emit()
            elif cascade_of(op) is None:
                self._lower(op)

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
        if group.op.attributes.get("npu.memory") == StringAttr("rows"):
            raise error(
                Code.NOT_LOWERABLE,
                "only a group of a cascade may hold some rows of its result",
                source=group.op,
                remedy='npu.memory = "spm" or "dram"',
            )
        if group.kind in ("host", "io"):
            HostLowering(self.low, group, self.module, self.tasks).emit()
            self.tasks += 1
        elif group.kind == "move":
            MoveLowering(self.low, group, resident).emit()
        else:
            self._nest(group, Site(self.low, group, resident))

    def _nest(self, group: Group, site: Site) -> None:
        mapping = mapping_of(group)
        if isinstance(mapping, ContractionMapping):
            ContractionLowering(self.low, group, mapping, site).emit()
        elif isinstance(mapping, PoolingMapping):
            PoolingLowering(self.low, group, mapping, site).emit()
        elif isinstance(mapping, ScatterMapping):
            ScatterLowering(self.low, group, mapping, site.out_resident).emit()
        elif isinstance(mapping, ElementwiseMapping):
            VectorLowering(self.low, group, mapping, site).emit()
        else:
            raise error(
                Code.NOT_LOWERABLE,
                "a group must have a mapping before it is lowered",
                source=group.op,
                remedy="the pass graph-map first",
            )

    def _copy_out(self, values: list[tuple[SSAValue, SSAValue]]) -> None:
        """Brings results to their places, where one may be the old content of another's state."""
        moves: list[Move] = []
        names = {number: name for name, number in self._state_places()}
        for value, place in values:
            owner, number = value.owner, cast(BlockArgument, place).index
            location = self._name_location(names.get(number))
            location = owner.location if isinstance(owner, Operation) else location
            moves.append(Move(self.low.buffer(value, location), place, location))
        for move in in_order(moves, self.low.builder):
            Nest(self.low.builder, move.location).copy(move.source, move.destination)

    def _name_location(self, state: str | None) -> LocationAttr:
        """For what comes from no operation."""
        name = self.source.sym_name.data if state is None else f"state {state}"
        return provenance.name_location(name)

    def _state_places(self) -> Iterator[tuple[str, int]]:
        """The states with the arguments that they are."""
        places = result_arguments(self.function, len(self.inputs))
        for state in states_of(self.function):
            number = state.argument if state.result is None else places[state.result]
            assert number is not None
            yield state.name, number

    def _keep_attributes(self) -> None:
        attributes = self.function.attributes
        attributes.update(self.source.attributes)
        attributes["npu.placements"] = placements(self.source)
        attributes["npu.input_types"] = ArrayAttr([v.type for v in self.inputs])
        attributes["npu.output_types"] = ArrayAttr([v.type for v in self.outputs])
