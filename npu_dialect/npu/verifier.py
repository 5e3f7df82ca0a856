"""The static proof of a program: that it does nothing that the machine cannot do, in any order that
its waits permit.

Proved: operands lie in their memory and are aligned; fields fit each other, the program's tables
and the machine; no byte is read that nothing wrote, or written twice by one instruction; no two
accesses conflict without an order; no wait is for ever; every output is written; states have places
of their own, and only what updates a state writes there. The proof uses nothing of what computed
the waits.

    for finding in verify_program(program, load_target("edge256")):
        print(finding)
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain, islice
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from xdsl.utils.exceptions import VerifyException

from npu_dialect import provenance, rice
from npu_dialect.diagnostics import Code, Diagnostic
from npu_dialect.dtypes import u8
from npu_dialect.kernel import Kernel
from npu_dialect.machine import Operand
from npu_dialect.npu.arrays import ArrayInstruction
from npu_dialect.npu.base import Instruction
from npu_dialect.npu.consistency import mistakes, out_of_bounds, overlaps_itself, unsupported
from npu_dialect.npu.copies import DmaDecodeOp
from npu_dialect.npu.ordering import Ordering, Race, Stuck, byte_view
from npu_dialect.npu.streams import stored_weights
from npu_dialect.npu.structure import ProgramOp
from npu_dialect.target import Target

MOST = 50
"""Findings of one kind that are reported."""


@dataclass(frozen=True)
class ProgramImage:
    """A program as far as its proof needs it, from IR or decoded from a file."""

    instructions: Sequence[Instruction]
    """In program order, repeats expanded."""
    kernels: Sequence[Kernel]
    inputs: Sequence[tuple[str, Operand]]
    outputs: Sequence[tuple[str, Operand]]
    constants: Sequence[tuple[int, int]]
    """(address, bytes) in dram."""
    dram_size: int
    states: Sequence[tuple[str, Operand, bool]] = ()
    """(name, place, whether the program may write it)"""
    others: Sequence[tuple[str, Operand]] = ()
    """What must stay for other programs of the module: their constants and states."""
    host_functions: int = 0
    sources: Sequence[str] = field(default=())
    """By instruction, what it comes from, where the instructions themselves do not say."""
    contents: Mapping[int, memoryview] = field(default_factory=dict[int, memoryview])
    """The bytes of constants by address, as far as they are known."""

    @staticmethod
    def of(program: ProgramOp) -> ProgramImage:
        """The image of a program in the IR."""
        return ProgramImage(
            list(program.expanded()),
            [k.data for k in program.kernels],
            [(b.label.data, b.operand.data) for b in program.inputs],
            [(b.label.data, b.operand.data) for b in program.outputs],
            [(c.address.data, len(c.blob.data.bytes)) for c in program.constants],
            cast(Any, program.dram_size).value.data,
            [(s.label.data, s.operand.data, s.access.data != "read") for s in program.state_list],
            list(_of_others(program)),
            len(program.host_functions),
            contents={c.address.data: c.blob.data.bytes for c in program.constants},
        )


def _of_others(program: ProgramOp) -> Iterator[tuple[str, Operand]]:
    """Constants and states of the other programs of the module, that are not the program's own."""
    mine = {(c.address.data, c.blob) for c in program.constants}
    states = {s.label.data for s in program.state_list}
    parent = program.parent_op()
    for op in parent.regions[0].block.ops if parent is not None else ():
        if isinstance(op, ProgramOp) and op is not program:
            name = f"@{op.sym_name.data}"
            for c in op.constants:
                if (c.address.data, c.blob) not in mine:
                    place = Operand.dense("dram", c.address.data, u8, [len(c.blob.data.bytes)])
                    yield f"constant {c.label.data} of {name}", place
            for s in op.state_list:
                if s.label.data not in states:
                    yield f"state {s.label.data} of {name}", s.operand.data


@dataclass(frozen=True)
class Finding:
    """Something that is not proved. `index` is the instruction's number in program order, or -1."""

    code: Code
    index: int
    rule: str
    found: str
    source: str

    def __str__(self) -> str:
        return str(self.diagnostic())

    def diagnostic(self) -> Diagnostic:
        """The finding as an error record."""
        place = f"instruction {self.index}" if self.index >= 0 else ""
        return Diagnostic(self.code, self.rule, self.found, "", self.source, place)


def verify_program(program: ProgramOp | ProgramImage, target: Target) -> list[Finding]:
    """All that is wrong with a program (at most 50 findings of a kind); empty when it is proved."""
    image = ProgramImage.of(program) if isinstance(program, ProgramOp) else program
    sizes = {space: memory.size for space, memory in target.memories.items()}
    proof = _Proof(image, target, {**sizes, "dram": min(image.dram_size, sizes["dram"])})
    findings = list(islice(chain(proof.fields(), proof.streams()), MOST))
    if findings:  # what lies outside its memory cannot be looked at further
        return findings
    ordering = Ordering(image.instructions)
    findings += islice((proof.stuck(s) for s in ordering.stuck), MOST)
    findings += islice(proof.unwritten(), MOST)
    findings += islice(proof.state_writes(), MOST)
    if not ordering.stuck:
        findings += islice(proof.races(ordering), MOST)
    return findings


class _Proof:
    """The checks of one program."""

    def __init__(self, image: ProgramImage, target: Target, sizes: dict[str, int]) -> None:
        self.image, self.target, self.sizes = image, target, sizes

    def source(self, index: int) -> str:
        """What an instruction comes from."""
        if index < len(self.image.sources):
            return self.image.sources[index]
        instruction = self.image.instructions[index]
        return ", ".join(provenance.sources(instruction)) or instruction.name

    def finding(self, code: Code, index: int, rule: str, found: str = "") -> Finding:
        name = self.image.instructions[index].name
        return Finding(code, index, f"{name}: {rule}", found, self.source(index))

    # --- fields ----------------------------------------

    def fields(self) -> Iterator[Finding]:
        """Fields that do not fit, operands that lie outside their memory."""
        yield from self.layout()
        for index, instruction in enumerate(self.image.instructions):
            for name, _, operand in instruction.places():
                if wrong := out_of_bounds(operand, self.sizes):
                    yield self.finding(Code.PROOF_BOUNDS, index, f"{name} {wrong}")
            if any(map(overlaps_itself, instruction.writes())):
                rule = "must write every byte once, found a block that overlaps itself"
                yield self.finding(Code.IR_INVALID, index, rule)
            try:
                instruction.verify(verify_nested_ops=False)
            except VerifyException as problem:
                yield self.finding(Code.IR_INVALID, index, _first_line(problem))
                continue
            values = instruction.values()
            kernels, functions = self.image.kernels, self.image.host_functions
            for rule in (
                *mistakes(instruction, values, kernels, functions),
                *unsupported(instruction, values, self.target, kernels),
            ):
                yield self.finding(Code.IR_INVALID, index, rule)

    def streams(self) -> Iterator[Finding]:
        """What decodes another number of bytes than it reads, of constants that are known; and what
        decodes, or the array reads, beside constants.
        """
        found = sorted(self.image.contents.items())
        known: dict[tuple[int, ...], int] = {}
        for index, instruction in enumerate(self.image.instructions):
            if isinstance(instruction, ArrayInstruction):
                yield from self.beside_constants(index, instruction)
            stream = _stream_of(instruction) if found else None
            if stream is None:
                continue
            source, *shape = stream
            data = _constant_at(found, source)
            if data is None:
                rule = "must decode bytes of one constant"
                where = f"[{source.address:#x}, {source.address + source.size:#x})"
                yield self.finding(Code.PROOF_BOUNDS, index, rule, where)
                continue
            key = (source.address, source.size, *shape)
            if key not in known:
                known[key] = rice.length(np.frombuffer(data, np.uint8), *shape)
            if known[key] != source.size:
                rule = f"must read the {known[key]} bytes of the elements that it decodes"
                yield self.finding(Code.IR_INVALID, index, rule, str(source.size))

    def beside_constants(self, index: int, instruction: ArrayInstruction) -> Iterator[Finding]:
        """What the array reads in dram that is no part of a constant."""
        if not instruction.takes_dma:
            return
        for name, _, operand in instruction.places():
            low, high = operand.interval
            inside = any(a <= low and high <= a + n for a, n in self.image.constants)
            if operand.space == "dram" and not inside:
                rule = f"{name} in dram must lie in one constant"
                yield self.finding(Code.PROOF_BOUNDS, index, rule, f"[{low:#x}, {high:#x})")

    def layout(self) -> Iterator[Finding]:
        """Constants, inputs and outputs that lie outside the dram."""
        size = self.sizes["dram"]
        for address, length in self.image.constants:
            if address < 0 or address + length > size:
                found = f"[{address:#x}, {address + length:#x})"
                rule = f"a constant must lie in dram [0, {size:#x})"
                yield Finding(Code.PROOF_BOUNDS, -1, rule, found, "constants")
        places = [(name, operand) for name, operand, _ in self.image.states]
        for name, operand in (*self.image.inputs, *self.image.outputs, *places):
            if wrong := out_of_bounds(operand, self.sizes):
                yield Finding(Code.PROOF_BOUNDS, -1, wrong, "", name)
        yield from self.written_constants()
        yield from self.shared_places()

    def written_constants(self) -> Iterator[Finding]:
        """What is written, or lies where it would be, in the part of dram that is read only."""
        end = self.target.memories["dram"].read_only
        rule = f"must lie or be written in dram only from {end:#x} on: before, it is read only"
        places = ((name, operand) for name, operand, _ in self.image.states)
        for name, operand in (*self.image.inputs, *self.image.outputs, *places):
            if operand.space == "dram" and operand.size and operand.interval[0] < end:
                yield Finding(Code.PROOF_BOUNDS, -1, rule, f"{operand.interval[0]:#x}", name)
        for index, instruction in enumerate(self.image.instructions):
            for operand in instruction.writes():
                if operand.space == "dram" and operand.size and operand.interval[0] < end:
                    found = f"{operand.interval[0]:#x}"
                    yield self.finding(Code.PROOF_BOUNDS, index, rule, found)

    def shared_places(self) -> Iterator[Finding]:
        """States that are not alone in their place."""
        taken = [("a constant", (a, a + n)) for a, n in self.image.constants]
        bound = (*self.image.inputs, *self.image.outputs)
        taken += [(n, o.interval) for n, o in bound if o.size and o.space == "dram"]
        for name, operand, _ in self.image.states:
            low, high = operand.interval
            for other, (start, end) in taken:
                if low < end and start < high:
                    rule = "a state must have a place in dram of its own"
                    found = f"[{low:#x}, {high:#x}), where {other} lies"
                    yield Finding(Code.PROOF_BOUNDS, -1, rule, found, name)
            taken.append((f"state {name}", operand.interval))

    # --- bytes ----------------------------------------

    def unwritten(self) -> Iterator[Finding]:
        """Reads of bytes that nothing wrote before; outputs that are not written."""
        memories = {space: np.zeros(size, np.bool_) for space, size in self.sizes.items()}
        for address, length in self.image.constants:
            memories["dram"][address : address + length] = True
        places = [operand for _, operand, _ in self.image.states]
        for operand in (*(o for _, o in self.image.inputs), *places):
            byte_view(memories[operand.space], operand)[...] = True
        for index, instruction in enumerate(self.image.instructions):
            for operand in instruction.reads():
                if not byte_view(memories[operand.space], operand).all():
                    rule = "must read only bytes that were written before"
                    found = _gap(memories[operand.space], operand)
                    yield self.finding(Code.PROOF_UNWRITTEN, index, rule, found)
            for operand in instruction.writes():
                byte_view(memories[operand.space], operand)[...] = True
        for name, operand in self.image.outputs:
            if not byte_view(memories[operand.space], operand).all():
                found = _gap(memories[operand.space], operand)
                rule = "an output must be written by the program"
                yield Finding(Code.PROOF_UNWRITTEN, -1, rule, found, name)

    def state_writes(self) -> Iterator[Finding]:
        """Writes into states that the program only reads, blocks that reach beyond a state, and
        writes to what other programs keep.
        """
        places = [operand.interval for _, operand in self.image.others]
        if not self.image.states and not places:
            return
        start, end = min(places, default=(0, 0))[0], max((high for _, high in places), default=0)
        for name, operand in (*self.image.inputs, *self.image.outputs):
            if operand.space == "dram":
                yield from self.foreign_write(-1, operand, name)
        for index, instruction in enumerate(self.image.instructions):
            for operand in instruction.writes():
                if operand.space == "dram" and operand.size:
                    yield from self.state_write(index, operand)
                    low, high = operand.interval
                    if low < end and start < high:
                        yield from self.foreign_write(index, operand, "")

    def foreign_write(self, index: int, operand: Operand, name: str) -> Iterator[Finding]:
        low, high = operand.interval
        for other, place in self.image.others:
            start, end = place.interval
            if start < high and low < end:
                found = f"[{low:#x}, {high:#x}), {other} is [{start:#x}, {end:#x})"
                rule = "must not write what another program of the module keeps"
                if index < 0:
                    yield Finding(Code.PROOF_BOUNDS, index, rule, found, name)
                else:
                    yield self.finding(Code.PROOF_BOUNDS, index, rule, found)

    def state_write(self, index: int, operand: Operand) -> Iterator[Finding]:
        low, high = operand.interval
        for name, place, writable in self.image.states:
            start, end = place.interval
            if start < high and low < end:
                found = f"[{low:#x}, {high:#x}), state {name} is [{start:#x}, {end:#x})"
                if not writable:
                    rule = "must not write a state that the program only reads"
                    yield self.finding(Code.PROOF_BOUNDS, index, rule, found)
                elif low < start or end < high:
                    rule = "must write inside one state, or outside of all"
                    yield self.finding(Code.PROOF_BOUNDS, index, rule, found)

    # --- order ----------------------------------------

    def stuck(self, stuck: Stuck) -> Finding:
        wait = stuck.wait
        rule = (
            f"must wait for a count of engine {wait.engine} that earlier instructions reach "
            f"({stuck.available})"
        )
        found = f"{wait.count} of {stuck.total}"
        return self.finding(Code.PROOF_DEADLOCK, stuck.index, rule, found)

    def races(self, ordering: Ordering) -> Iterator[Finding]:
        """One finding for each pair of instructions."""
        seen: set[tuple[int, int]] = set()
        for race in ordering.races():
            if (race.first, race.second) not in seen:
                seen.add((race.first, race.second))
                yield self.race(race)

    def race(self, race: Race) -> Finding:
        first = self.image.instructions[race.first]
        verbs = ["writes" if w else "reads" for w in (race.first_writes, race.second_writes)]
        low = max(race.first_operand.interval[0], race.second_operand.interval[0])
        found = (
            f"it {verbs[1]} {race.second_operand.space} near {low:#x}, which instruction "
            f"{race.first} ({first.name} of {self.source(race.first)}) {verbs[0]}"
        )
        rule = "must wait for what touches the same bytes and may not be complete"
        return self.finding(Code.PROOF_RACE, race.second, rule, found)


def _gap(memory: NDArray[np.bool_], operand: Operand) -> str:
    """The first byte of an operand that was not written."""
    low, high = operand.interval
    flags = np.zeros(high - low, np.bool_)
    byte_view(flags, operand, low)[...] = True
    gaps = np.flatnonzero(flags & ~memory[low:high])
    return f"{gaps.size} bytes of {operand.space} from {low + int(gaps[0]):#x}"


def _stream_of(instruction: Instruction) -> tuple[Operand, int, int, int] | None:
    """The bytes that an instruction decodes; elements, elements of a row, bytes of an element."""
    if isinstance(instruction, DmaDecodeOp):
        values = instruction.values()
        stored, decoded = values["source"], values["destination"]
    elif isinstance(instruction, ArrayInstruction) and instruction.stream is not None:
        values = instruction.values()
        stored, decoded = stored_weights(values), values["weights"]
    else:
        return None
    row: int = values.get("row", 0)
    return (stored, decoded.elements, row, decoded.dtype.itemsize) if row else None


def _constant_at(found: Sequence[tuple[int, memoryview]], source: Operand) -> memoryview | None:
    """The bytes of a stream that lies in one of the constants, which are given by address."""
    number = bisect_right(found, source.address, key=lambda each: each[0]) - 1
    address, data = found[max(number, 0)]
    first = source.address - address
    if number < 0 or first + source.size > len(data):
        return None
    return data[first : first + source.size]


def _first_line(problem: VerifyException) -> str:
    lines = [line for line in str(problem).splitlines() if line.strip()]
    return lines[-1].strip() if lines else type(problem).__name__
