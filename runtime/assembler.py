"""A module at level npu to a program, and back.

The module holds an `npu.program` for each entry and, as functions of graph operations, what
`npu.host` calls.
Beside properties, the assembler reads these attributes:

    npu.placements  on npu.program: dictionaries {source, op, engine, rule, reason} of strings
    npu.nodes       on npu.program, or on a module with one: dictionaries {source, op} of the nodes
                    that the model has
    npu.metadata    on npu.program: a dictionary of strings, kept in the program as it is
    npu.layer       on an instruction: the name of its layer; else the first of its sources
    npu.tensors     on an instruction: `#npu.binding`s of the model's tensors that are complete
                    once it has run
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, cast, get_args

from xdsl.dialects.builtin import (
    ArrayAttr,
    DictionaryAttr,
    IntAttr,
    LocationAttr,
    ModuleOp,
    StringAttr,
    TensorType,
    UnitAttr,
)
from xdsl.dialects.func import FuncOp
from xdsl.ir import Attribute, Block, Operation, Region, TypeAttribute
from xdsl.printer import Printer

from npu_dialect import blob, dtypes, provenance
from npu_dialect.blob import BlobAttr
from npu_dialect.diagnostics import Code, CompileError, error
from npu_dialect.graph.quant import QuantType
from npu_dialect.kernel import KernelAttr
from npu_dialect.npu import encoding
from npu_dialect.npu.attributes import (
    BindingAttr,
    ConstantAttr,
    OperandAttr,
    StateAttr,
    TargetAttr,
)
from npu_dialect.npu.base import Instruction
from npu_dialect.npu.fields import Int, integer
from npu_dialect.npu.structure import ProgramOp
from npu_dialect.runtime import host
from npu_dialect.runtime.program import (
    Access,
    Binding,
    Constant,
    DebugRecord,
    Entry,
    HostCode,
    Placement,
    Program,
    Quantization,
    StateBinding,
    TensorRecord,
    scalar_or_list,
)
from npu_dialect.target import TargetError, target_text

LAYER, TENSORS = "npu.layer", "npu.tensors"
PLACEMENTS, METADATA, NODES = "npu.placements", "npu.metadata", "npu.nodes"


def assemble(module: ModuleOp) -> Program:
    """The program of a module: an entry for each `npu.program` in it. Raises CompileError (NPU0202,
    NPU0301, NPU0404).
    """
    ops = _program_ops(module)
    first = ops[0]
    return Program(
        target_text=_target_text(first),
        entries={op.sym_name.data: _entry(module, op) for op in ops},
        kernels=tuple(k.data for k in _same(ops, "kernels")),
        constants=tuple(_constants(ops)),
        dram_size=max(Int(48).value(op.dram_size) for op in ops),
        states=tuple(_states(ops)),
        host=_host_code(module, [name.data for name in _same(ops, "host_functions")]),
    )


def _entry(module: ModuleOp, op: ProgramOp) -> Entry:
    instructions = list(op.walk_instructions())
    debug = tuple(map(_debug_record, instructions))
    placements = tuple(_placements(op))
    return Entry(
        code=_encode(op),
        inputs=tuple(map(binding, op.inputs)),
        outputs=tuple(map(binding, op.outputs)),
        states={s.label.data: _access(s) for s in op.state_list},
        debug=debug,
        tensors=tuple(_tensor_records(instructions)),
        placements=(*placements, *_folded(_nodes(module, op), placements, debug)),
        metadata=_strings(op.attributes.get(METADATA, DictionaryAttr({}))),
    )


def _program_ops(module: ModuleOp) -> list[ProgramOp]:
    found = [op for op in module.body.ops if isinstance(op, ProgramOp)]
    if not found:
        raise error(
            Code.IR_INVALID,
            "a module must hold an npu.program to be assembled",
            found="none of them",
            remedy="lowering the module to level npu first",
        )
    _same(found, "target")
    return found


def _same(ops: Sequence[ProgramOp], name: str) -> Any:
    """A property that all programs of a module must have in common."""
    values = {op.sym_name.data: op.properties[name] for op in ops}
    first, *others = values.items()
    for entry, value in others:
        if value != first[1]:
            raise error(
                Code.IR_INVALID,
                f"the programs of a module must have the same {name}",
                found=f"@{first[0]} and @{entry} with different ones",
                remedy="lowering them in one module",
                source=entry,
            )
    return first[1]


def _constants(ops: Sequence[ProgramOp]) -> Iterator[Constant]:
    """Those of all programs, each once; of several programs in the order of their addresses."""
    found = {(c.address.data, c.blob): c for op in ops for c in op.constants}
    if len(ops) > 1:
        found = dict(sorted(found.items(), key=_address))
        occupied = [address for (address, blob) in found if blob.data.bytes]
        if len(set(occupied)) < len(occupied):
            raise _clash("one constant at an address", ops[-1])
    for each in found.values():
        yield Constant(each.label.data, each.address.data, each.blob.array)


def _address(row: tuple[tuple[int, BlobAttr], ConstantAttr]) -> int:
    return row[0][0]


def _states(ops: Sequence[ProgramOp]) -> Iterator[StateBinding]:
    """Those of all programs, each name once."""
    known: dict[str, StateAttr] = {}
    for op in ops:
        for each in op.state_list:
            before = known.setdefault(each.label.data, each)
            if (before.operand, before.type) != (each.operand, each.type):
                raise _clash(f"state {each.label.data} at one place, of one type", op)
            blobs = [s.initial for s in (before, each) if isinstance(s.initial, BlobAttr)]
            if len(set(blobs)) > 1:
                raise _clash(f"state {each.label.data} with one initial content", op)
            if blobs and not isinstance(before.initial, BlobAttr):
                known[each.label.data] = each
    for each in known.values():
        place = binding(BindingAttr(each.label, each.operand, each.type))
        initial = each.initial.array if isinstance(each.initial, BlobAttr) else None
        yield StateBinding(**vars(place), initial=initial)


def _clash(rule: str, op: ProgramOp) -> CompileError:
    return error(
        Code.IR_INVALID,
        f"the programs of a module must have {rule}",
        found="different ones",
        remedy="lowering them in one module",
        source=op.sym_name.data,
    )


def _access(state: StateAttr) -> Access:
    found = state.access.data
    for access in get_args(Access):
        if found == access:
            return access
    rule = f"the access to a state must be one of {', '.join(get_args(Access))}"
    raise error(Code.IR_INVALID, rule, found=found, source=state.label.data)


def _target_text(op: ProgramOp) -> str:
    try:
        return target_text(op.target.data)
    except TargetError as problem:
        raise error(Code.TARGET_UNKNOWN, str(problem), source="target") from problem


def _encode(op: ProgramOp) -> bytes:
    try:
        return encoding.encode(op.body.block.ops)
    except encoding.EncodingError as problem:
        rule = f"{problem.op.name}: {problem.reason}"
        raise error(Code.FIELD_RANGE, rule, source=problem.op) from problem


def binding(attribute: BindingAttr) -> Binding:
    """The input or output that the attribute describes."""
    type_ = cast(TensorType[Attribute], attribute.type)
    element = type_.element_type
    quantized = None
    if isinstance(element, QuantType):
        scales, zeros = scalar_or_list(element.scales), scalar_or_list(element.zero_points)
        quantized = Quantization(scales, zeros, element.axis)
    return Binding(
        attribute.label.data,
        dtypes.of(element),
        type_.get_shape(),
        attribute.operand.data,
        str(type_),
        quantized,
    )


def _host_code(module: ModuleOp, names: Sequence[str]) -> HostCode:
    """The named functions as the text of one module, with locations."""
    if not names:
        return HostCode()
    known = {op.sym_name.data: op for op in module.body.ops if isinstance(op, FuncOp)}
    missing = [n for n in names if n not in known]
    if missing:
        raise error(
            Code.IR_INVALID,
            "the host functions of an npu.program must be functions of the module",
            found=f"no {', '.join(missing)}",
        )
    functions = ModuleOp([known[n].clone() for n in dict.fromkeys(names)])
    blobs = dict(sorted(blob.collect_blobs(functions).items()))
    return HostCode(tuple(names), _text(functions), blobs)


def _text(module: ModuleOp) -> str:
    from io import StringIO

    stream = StringIO()
    Printer(stream=stream, print_debuginfo=True).print_op(module)
    return stream.getvalue()


def _debug_record(op: Instruction) -> DebugRecord:
    found = provenance.lines(op)
    sources = tuple(found)
    lines = tuple(found.values()) if any(found.values()) else ()
    layer = op.attributes.get(LAYER)
    if isinstance(layer, StringAttr):
        return DebugRecord(layer.data, sources, lines)
    if not sources:
        raise error(
            Code.PROVENANCE,
            f"every instruction must know its layer, and {op.name} does not",
            found=str(op)[:200],
            remedy="a location or the attribute npu.layer",
            source=op.name,
        )
    return DebugRecord(sources[0], sources, lines)


def _tensor_records(ops: Sequence[Instruction]) -> Iterator[TensorRecord]:
    for number, op in enumerate(ops):
        for each in cast(ArrayAttr[BindingAttr], op.attributes.get(TENSORS, ArrayAttr([]))):
            yield TensorRecord(number, binding(each))


def _placements(op: ProgramOp) -> Iterator[Placement]:
    for each in cast(ArrayAttr[Attribute], op.attributes.get(PLACEMENTS, ArrayAttr([]))):
        yield Placement(**_strings(each))


def _nodes(module: ModuleOp, op: ProgramOp) -> Iterator[dict[str, str]]:
    """The nodes that the model of a program has."""
    nodes = op.attributes.get(NODES) or module.attributes.get(NODES, ArrayAttr([]))
    return map(_strings, cast(ArrayAttr[Attribute], nodes))


def _folded(
    nodes: Iterable[Mapping[str, str]],
    placements: Sequence[Placement],
    debug: Sequence[DebugRecord],
) -> Iterator[Placement]:
    """The nodes of the model that became part of others, or of constants."""
    seen = {placement.source for placement in placements}
    layer_of = {source: record.layer for record in debug for source in record.sources}
    for node in nodes:
        layer = layer_of.get(node["source"])
        reason = f"it is part of {layer}" if layer else "its result needs no work at run time"
        if node["source"] not in seen:
            yield Placement(node["source"], node["op"], "folded", "folded", reason)


def _strings(attribute: Attribute) -> dict[str, str]:
    items = cast(DictionaryAttr, attribute).data.items()
    return {name: cast(StringAttr, value).data for name, value in items}


# --- back to a module -----------------------------------------------------------------------------


def to_module(program: Program) -> ModuleOp:
    """The module of a program, detached from it. The target is given by name."""
    constants = _constants_by_entry(program)
    entries = [_program(program.entry(name), name, constants[name]) for name in program.entries]
    functions = host.parse(program.host).body.ops if program.host.names else ()
    return ModuleOp([*entries, *(f.clone() for f in functions)])


def _code(program: Program) -> list[Operation]:
    ops = [op.clone() for op in program.code]
    instructions = (each for op in ops for each in op.walk() if isinstance(each, Instruction))
    for number, each in enumerate(instructions):
        _annotate(each, program.debug[number])
        here = [t.binding for t in program.tensors if t.instruction == number]
        if here:
            each.attributes[TENSORS] = ArrayAttr(_binding_attr(b) for b in here)
    return ops


def _annotate(op: Instruction, record: DebugRecord) -> None:
    op.location = _location(record)
    if record.layer != record.sources[0]:
        op.attributes[LAYER] = StringAttr(record.layer)


def _location(record: DebugRecord) -> LocationAttr:
    lines = record.lines or ((),) * len(record.sources)
    return provenance.fuse(*map(provenance.located, record.sources, lines))


def _program(program: Program, name: str, constants: Sequence[Constant]) -> ProgramOp:
    """The one entry of a program."""
    properties: dict[str, Attribute] = {
        "sym_name": StringAttr(name),
        "target": TargetAttr(program.target),
        "dram_size": integer(program.dram_size),
        "inputs": ArrayAttr(map(_binding_attr, program.inputs)),
        "outputs": ArrayAttr(map(_binding_attr, program.outputs)),
        "constants": ArrayAttr(map(_constant_attr, constants)),
        "kernels": ArrayAttr(map(KernelAttr, program.kernels)),
        "host_functions": ArrayAttr(map(StringAttr, program.host.names)),
    }
    used = program.selected.states
    if used:
        bindings = {s.name: s for s in program.states}
        properties["states"] = ArrayAttr(_state_attr(bindings[n], a) for n, a in used.items())
    attributes: dict[str, Attribute] = {}
    if program.placements:
        attributes[PLACEMENTS] = ArrayAttr(_dictionary(vars(p)) for p in program.placements)
    if program.metadata:
        attributes[METADATA] = _dictionary(program.metadata)
    return ProgramOp.create(
        properties=properties, attributes=attributes, regions=[Region(Block(_code(program)))]
    )


def _constants_by_entry(program: Program) -> dict[str, list[Constant]]:
    """The constants that each entry reads; the first entry has those that none reads, too."""
    if len(program.entries) == 1:
        return {name: list(program.constants) for name in program.entries}
    found = {name: _read_constants(program.entry(name)) for name in program.entries}
    unread = set(range(len(program.constants))).difference(*found.values())
    found[next(iter(found))] |= unread
    return {n: [program.constants[k] for k in sorted(chosen)] for n, chosen in found.items()}


def _read_constants(program: Program) -> set[int]:
    """The numbers of the constants that the one entry of a program reads."""
    reads = [o.interval for _, op in program.executed for o in op.reads() if o.space == "dram"]
    return {
        number
        for number, c in enumerate(program.constants)
        if any(low < max(c.end, c.address + 1) and c.address < high for low, high in set(reads))
    }


def _dictionary(strings: Mapping[str, Any]) -> DictionaryAttr:
    return DictionaryAttr({name: StringAttr(text) for name, text in strings.items()})


def _binding_attr(item: Binding) -> BindingAttr:
    type_ = cast(TypeAttribute, host.parse_type(item.type))
    return BindingAttr(StringAttr(item.name), OperandAttr(item.operand), type_)


def _state_attr(item: StateBinding, access: Access) -> StateAttr:
    place = _binding_attr(item)
    initial = UnitAttr() if item.initial is None else BlobAttr.of(item.initial)
    return StateAttr(place.label, place.operand, place.type, StringAttr(access), initial)


def _constant_attr(item: Constant) -> ConstantAttr:
    return ConstantAttr(IntAttr(item.address), BlobAttr.of(item.array), StringAttr(item.label))
