"""tile-to-npu: executes the loops of a tile function symbolically and emits one machine instruction
per operation.

    func.func @main(%in: memref<64xi8, "dram">, %out: memref<64xi8, "dram">) {
      %x = tile.alloc {offset = 0} : memref<64xi8, "spm">
      %t = tile.copy %in to %x : memref<64xi8, "dram"> to memref<64xi8, "spm">
      tile.wait %t
      ...

becomes

    npu.program @main target <"edge256"> dram_size 128 inputs [...] outputs [...] ... {
      npu.dma_copy source = <dram, 0x0, i8, [64], [1]>, destination = <spm, 0x0, i8, [64], [1]>
      ...

Waits on copies are dropped: npu-sync finds what each instruction depends on from the bytes that it
touches. The instructions are put in the order of a list schedule, in which copies run ahead of the
computation, across loop nests, as far as there is room; values may move to other addresses than
those of tile-allocate for that (`prefetch`). `{order=program}` keeps the order of the tile function
and its addresses. Functions of the host stay in the module.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

from xdsl.context import Context
from xdsl.dialects.builtin import (
    ArrayAttr,
    IntAttr,
    ModuleOp,
    StringAttr,
    TensorType,
    UnitAttr,
)
from xdsl.dialects.func import FuncOp
from xdsl.ir import Attribute, Block, Region, SSAValue, TypeAttribute
from xdsl.passes import ModulePass

from npu_dialect import provenance
from npu_dialect.blob import Blob, BlobAttr
from npu_dialect.diagnostics import Code, error
from npu_dialect.graph.states import INPUT_NAMES, OUTPUT_NAMES, result_arguments, states_of
from npu_dialect.kernel import KernelAttr
from npu_dialect.machine import Operand
from npu_dialect.npu.attributes import BindingAttr, ConstantAttr, OperandAttr, StateAttr
from npu_dialect.npu.base import Instruction
from npu_dialect.npu.fields import integer
from npu_dialect.npu.structure import ProgramOp
from npu_dialect.passes.packing import stored
from npu_dialect.passes.prefetch import ordered
from npu_dialect.passes.program_length import check_length
from npu_dialect.passes.targets import module_target
from npu_dialect.passes.tensor_taps import TensorTaps
from npu_dialect.passes.tile_allocate import (
    DramLayout,
    aligned,
    dram_layouts,
    slot_stride,
    state_arguments,
)
from npu_dialect.passes.tile_instructions import Addresses, Selector, Tables, flattened
from npu_dialect.target import Target
from npu_dialect.tile import AllocOp, ConstantOp
from npu_dialect.tile.contraction import STREAMED, ArrayOp
from npu_dialect.tile.events import Event
from npu_dialect.tile.syntax import dtype_of, memref_of, shape_of, space_of
from npu_dialect.tile.walk import walk

CARRIED = ("npu.placements", "npu.metadata", "npu.nodes")
"""Attributes of the function that the program keeps."""


@dataclass(frozen=True)
class TileToNpuPass(ModulePass):
    """Lower a tile function to a program. `order` is "schedule" or "program"."""

    name = "tile-to-npu"

    order: str = "schedule"

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        if self.order not in ("schedule", "program"):
            raise error(Code.OPTION, "order must be schedule or program", found=self.order)
        target = module_target(op)
        functions = {f.sym_name.data: f for f in op.ops if isinstance(f, FuncOp)}
        tables = Tables()
        programs: list[ProgramOp] = []
        for function, layout in dram_layouts(op).items():
            selector = Selector(Addresses(layout), functions, tables)
            programs.append(_lower(function, selector, target, op, self.order == "schedule"))
            block = function.parent
            assert block is not None
            block.insert_op_before(programs[-1], function)
            function.detach()
            function.erase()
        for program in programs:  # the tables are complete now
            program.properties |= _shared(tables)


def _lower(
    function: FuncOp, selector: Selector, target: Target, module: ModuleOp, scheduled: bool
) -> ProgramOp:
    layout = selector.addresses.layout
    _check_placed(function)
    _check_streamed(function, target)
    check_length(function)
    instructions: list[Instruction] = []

    taps = TensorTaps(selector.addresses)

    def visit(event: Event) -> None:
        selected = selector.select(event)
        taps.note(event, selected)
        instructions.extend(selected)

    walk(function, visit)
    if scheduled:
        found = ordered(instructions, target, list(selector.tables.kernels))
        instructions = found.instructions
        taps.follow(found.steps)
    taps.attach(instructions)
    return _program(function, layout, selector.tables, instructions, module)


def _shared(tables: Tables) -> dict[str, Attribute]:
    """What the programs of a module have in common."""
    return {
        "kernels": ArrayAttr([KernelAttr(k) for k in tables.kernels]),
        "host_functions": ArrayAttr([StringAttr(f) for f in tables.host_functions]),
    }


def _check_placed(function: FuncOp) -> None:
    for op in function.walk():
        if isinstance(op, AllocOp) and op.offset is None:
            raise error(
                Code.LEVEL,
                "every tile.alloc must have an offset before it is lowered",
                remedy="-p tile-allocate,tile-to-npu",
                source=op,
            )


def _check_streamed(function: FuncOp, target: Target) -> None:
    """Only an array with a port of dram reads constants there."""
    if target.array_reads_dram:
        return
    for op in function.walk():
        if isinstance(op, ArrayOp):
            names = [n for n in STREAMED for v in op.operands_named(n) if space_of(v) == "dram"]
            if names:
                raise error(
                    Code.IR_INVALID,
                    "operands of the array must lie on the chip where it has no port of dram",
                    found=f"{' and '.join(names)} in dram",
                    remedy=f"a copy into spm, or a target with memories.dram.ports.mxu "
                    f"({target.name} has none)",
                    source=op,
                )


# --- the program around the instructions ----------------------------------------------------------


def _program(
    function: FuncOp,
    layout: DramLayout,
    tables: Tables,
    instructions: Sequence[Instruction],
    module: ModuleOp,
) -> ProgramOp:
    inputs, outputs = _bindings(function, layout)
    states = _states(function, layout)
    properties: dict[str, Attribute] = {
        "sym_name": function.sym_name,
        "target": module.attributes["npu.target"],
        "dram_size": integer(_dram_size(function, layout)),
        "inputs": ArrayAttr(inputs),
        "outputs": ArrayAttr(outputs),
        "constants": ArrayAttr(_constants(function, layout)),
        **_shared(tables),
    }
    if states:
        properties["states"] = ArrayAttr(states)
    return ProgramOp.create(
        properties=properties,
        attributes={n: a for n, a in function.attributes.items() if n in CARRIED},
        regions=[Region(Block(instructions))],
        location=function.location,
    )


def _bindings(function: FuncOp, layout: DramLayout) -> tuple[list[BindingAttr], list[BindingAttr]]:
    """The inputs and the outputs that are no states."""
    arguments = list(function.body.block.args)
    inputs, outputs = _names(function, INPUT_NAMES), _names(function, OUTPUT_NAMES)
    places = result_arguments(function, len(inputs))
    if len(places) != len(outputs) or len(inputs) > len(arguments):
        raise error(
            Code.IR_INVALID,
            f"{INPUT_NAMES} and {OUTPUT_NAMES} must name the function's arguments",
            found=f"{len(inputs)} and {len(outputs)} for {len(arguments)} arguments",
            source=function.sym_name.data,
        )
    held = set(state_arguments(function).values())
    types = _types(function, arguments)

    def bind(name: str, number: int) -> BindingAttr:
        return _binding(name, arguments[number], layout.arguments[number], types[number])

    return (
        [bind(name, k) for k, name in enumerate(inputs) if arguments[k] not in held],
        [bind(n, k) for n, k in zip(outputs, places, strict=True) if arguments[k] not in held],
    )


def _states(function: FuncOp, layout: DramLayout) -> list[StateAttr]:
    arguments = list(function.body.block.args)
    types = _types(function, arguments)
    places = state_arguments(function)
    found: list[StateAttr] = []
    for state in states_of(function):
        number = places[state.name].index
        place = _binding(state.name, arguments[number], layout.arguments[number], types[number])
        access = "write" if state.argument is None else "update"
        access = "read" if state.result is None else access
        initial = state.initial or UnitAttr()
        found.append(StateAttr(place.label, place.operand, place.type, StringAttr(access), initial))
    return found


def _names(function: FuncOp, attribute: str) -> list[str]:
    found = function.attributes.get(attribute)
    if not isinstance(found, ArrayAttr):
        raise error(
            Code.IR_INVALID,
            f"a tile function must carry {attribute}",
            found="none",
            source=function.sym_name.data,
        )
    return [s.data for s in cast(ArrayAttr[StringAttr], found)]


def _types(function: FuncOp, arguments: Sequence[SSAValue]) -> list[Attribute]:
    """The tensor types of the arguments as the user sees them, or else the plain storage types."""
    found = [function.attributes.get(f"npu.{end}_types") for end in ("input", "output")]
    plain: list[Attribute] = [TensorType(memref_of(a).element_type, shape_of(a)) for a in arguments]
    if not all(isinstance(f, ArrayAttr) for f in found):
        return plain
    inputs, outputs = (cast(ArrayAttr[Attribute], f).data for f in found)
    places = result_arguments(function, len(inputs))
    by_place = dict(enumerate(inputs)) | dict(zip(places, outputs, strict=True))
    return [by_place.get(k, each) for k, each in enumerate(plain)]


def _binding(name: str, argument: SSAValue, address: int, kind: Attribute) -> BindingAttr:
    operand = Operand.dense("dram", address, dtype_of(argument), shape_of(argument))
    if len(operand.dims) > 5:
        operand = flattened(operand)
    return BindingAttr(StringAttr(name), OperandAttr(operand), cast(TypeAttribute, kind))


def _constants(function: FuncOp, layout: DramLayout) -> list[ConstantAttr]:
    """Each content once, named after the operations that bring it."""
    labels: dict[Blob, dict[str, None]] = {blob: {} for blob in layout.constants}
    for op in function.walk():
        if isinstance(op, ConstantOp):
            labels[stored(op)].update(dict.fromkeys(provenance.sources(op)))
    return [
        ConstantAttr(IntAttr(address), BlobAttr(blob), StringAttr(", ".join(labels[blob])))
        for blob, address in layout.constants.items()
    ]


def _dram_size(function: FuncOp, layout: DramLayout) -> int:
    """One past the last byte of dram that the program uses."""
    end = layout.end
    for op in function.walk():
        if isinstance(op, AllocOp) and space_of(op.result) == "dram":
            offset = cast(Any, op.offset).value.data
            end = max(end, offset + op.slots * slot_stride(op))
    return aligned(end)
