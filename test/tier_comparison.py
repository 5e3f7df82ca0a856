"""The plain tier against the compiled one, case by case: all memories, byte for byte."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from instruction_matrix import SIZES, Case

from npu_dialect.machine import GUARD, Array, Machine, Operand
from npu_dialect.npu.base import Instruction, Values
from npu_dialect.npu.consistency import mistakes, out_of_bounds, overlaps_itself
from npu_dialect.npu.copies import DmaCopyOp, DmaFillOp
from npu_dialect.runtime.compiled.constants import Constants
from npu_dialect.runtime.compiled.host import Host
from npu_dialect.runtime.compiled.library import library
from npu_dialect.runtime.compiled.records import Table
from npu_dialect.runtime.compiled.runner import ALIGNMENT, DRIVER, Runner, aligned
from npu_dialect.runtime.compiled.translate import Translation, translate
from npu_dialect.target import Target, load_target

CANARY = 256
"""Bytes behind the scratch memory that nothing may write."""


def small_target() -> Target:
    """A machine whose memories compare fast."""
    target = load_target("mobile4k")
    memories = {s: replace(target.memories[s], size=size) for s, size in SIZES.items()}
    return replace(target, memories=memories)


TARGET = small_target()
BACKGROUND = {s: np.random.default_rng(n).bytes(n) for s, n in SIZES.items()}
"""What the memories hold where no operand lies."""


@dataclass
class Outcome:
    """What a comparison of many cases found."""

    compared: int = 0
    failures: list[str] = field(default_factory=list[str])
    refused: Counter[tuple[str, str]] = field(default_factory=Counter[tuple[str, str]])
    """Cases that have no routine, by instruction and reason."""
    illegal: Counter[tuple[str, str]] = field(default_factory=Counter[tuple[str, str]])
    """Cases that the plain tier cannot execute, by instruction and problem."""


@dataclass(frozen=True)
class Job:
    """A translation of a case: its instruction alone, or behind the copies that bring known
    constants.
    """

    case: Case
    rows: Sequence[tuple[Instruction, Values]]
    translation: Translation
    constants: Constants | None

    def __str__(self) -> str:
        return "constants known" if self.constants else "strict"


def compare(cases: Sequence[Case], host: Host, threads: Sequence[int] = (1, 2)) -> Outcome:
    """Runs every case in the plain tier, and in the compiled one: with these numbers of threads,
    and where constants are known with the last of them.
    """
    outcome = Outcome()
    plain, native = (Machine(TARGET, SIZES["dram"]) for _ in range(2))
    jobs = [list(translations(case, host)) for case in cases]
    tables = [
        t for row in jobs for j in row for t in j.translation.stretches if isinstance(t, Table)
    ]
    library(host).load([DRIVER, *(spec for table in tables for spec in table.specs)])
    for case, row in zip(cases, jobs, strict=True):
        check_legal(case)
        prepare(plain, case)
        try:
            with np.errstate(all="ignore"):
                case.instruction.execute(plain, case.values)
        except Exception as problem:
            outcome.illegal[case.instruction.name, str(problem)] += 1
            continue
        settle(plain, case)
        refused = {(n, r) for j in row for n, rs in j.translation.fallbacks.items() for r in rs}
        outcome.refused.update(refused)
        outcome.compared += not refused
        for job in row:
            if not job.translation.fallbacks:
                for count in threads[-1:] if job.constants else threads:
                    found = run(job, plain, native, host, count)
                    where = f"{case.label} ({job}, threads: {count})"
                    outcome.failures += [f"{where}: {text}" for text in found]
    return outcome


def translations(case: Case, host: Host) -> Iterator[Job]:
    """Without constants, and where there may be some, with them."""
    rows = [(case.instruction, case.values)]
    yield Job(case, rows, translate(rows, case.kernels, host, None), None)
    if case.images or case.held:
        constants = Constants(TARGET, SIZES["dram"])
        copies: list[tuple[Instruction, Values]] = []
        for address, content in case.held:
            constants.hold(address, np.frombuffer(content, np.uint8))
        for source, operand, data in case.images:
            constants.hold(source.address, np.frombuffer(data.tobytes(), np.uint8))
            copy = DmaCopyOp(source=source, destination=operand)
            copies.append((copy, copy.values()))
        rows = [*copies, *rows]
        yield Job(case, rows, translate(rows, case.kernels, host, constants), constants)


def prepare(machine: Machine, case: Case) -> None:
    """Fills the memories."""
    machine.kernels = case.kernels
    for space, memory in machine.memories.items():
        memory[:] = np.frombuffer(BACKGROUND[space], np.uint8)
    for operand, data in case.contents:
        np.copyto(machine.view(operand), data)
    for source, _, data in case.images:
        np.copyto(machine.view(source), data)


def check_legal(case: Case) -> None:
    """Raises AssertionError unless a program may hold the instruction."""
    instruction = case.instruction
    wrong = [m for _, _, o in instruction.places() if (m := out_of_bounds(o, SIZES))]
    wrong += mistakes(instruction, case.values, case.kernels, 0)
    wrong += ["overlaps itself" for o in instruction.writes() if overlaps_itself(o)]
    assert not wrong, f"{case.label}: {wrong}"
    instruction.verify_()


def settle(machine: Machine, case: Case) -> None:
    """Gives every NaN of a result the same bits. Copies keep those that they find."""
    if isinstance(case.instruction, DmaCopyOp | DmaFillOp):
        return
    for operand in case.instruction.writes():
        if operand.dtype.is_float:
            view = machine.view(operand)
            with np.errstate(invalid="ignore"):
                np.copyto(view, view.dtype.type(np.nan), where=np.isnan(view))


def run(job: Job, plain: Machine, native: Machine, host: Host, threads: int) -> list[str]:
    """Runs a translation; what differs from the plain tier's memories."""
    prepare(native, job.case)
    if job.constants:
        for _, operand, _ in job.case.images:
            np.bitwise_xor(bytes_of(native, operand), 0x5A, out=bytes_of(native, operand))
    runner = Runner(job.translation, native, host, threads)
    size = job.translation.scratch + ALIGNMENT
    runner._scratch = [aligned(size + CANARY) for _ in range(threads)]
    for guarded in (*runner._scratch, *guards(native)):
        guarded[...] = 0xFF
    runner.run(_nothing)
    for position in job.constants.unread() if job.constants else ():
        instruction, values = job.rows[position]
        instruction.execute(native, values)
    settle(native, job.case)
    found = [difference(job.case, s, plain, native) for s in SIZES]
    if any((guard != 0xFF).any() for guard in guards(native)):
        found.append("writes outside the memories")
    if any((scratch[size:] != 0xFF).any() for scratch in runner._scratch):
        found.append("writes outside its scratch memory")
    return [text for text in found if text]


def _nothing(position: int) -> None:
    raise AssertionError("an instruction with a routine must not run in the plain tier")


def bytes_of(machine: Machine, operand: Operand) -> Array:
    """The bytes of each element."""
    dims, strides = (*operand.dims, operand.dtype.itemsize), (*operand.strides, 1)
    memory = machine.memories[operand.space]
    return np.ndarray(dims, np.uint8, memory.data, operand.address, strides)


def guards(machine: Machine) -> list[Array]:
    """The bytes behind each memory that may be read, with no meaning."""
    found: list[Array] = []
    for memory in machine.memories.values():
        whole: Any = memory.base
        start = memory.ctypes.data - whole.ctypes.data
        found += [whole[:start], whole[start + memory.size :]]
        assert len(found[-1]) + len(found[-2]) == 2 * GUARD
    return found


def difference(case: Case, space: str, plain: Machine, native: Machine) -> str:
    """Where a memory differs; empty where it does not."""
    wanted, found = plain.memories[space], native.memories[space]
    if (wanted == found).all():
        return ""
    places = np.flatnonzero(wanted != found)
    for operand in case.instruction.writes():
        if operand.space == space:
            inside = (bytes_of(plain, operand) != bytes_of(native, operand)).any(axis=-1)
            if inside.any():
                index = tuple(int(k[0]) for k in np.nonzero(inside))
                values = (machine.view(operand)[index] for machine in (plain, native))
                return (
                    f"{int(inside.sum())} of {operand.elements} results, first at {list(index)}: "
                    "{!r}, must be {!r}".format(*reversed(list(values)))
                )
    return f"{len(places)} bytes of {space} outside the result, first at {int(places[0]):#x}"
