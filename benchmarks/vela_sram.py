"""What a program needs of one SRAM that holds its scratchpad and what lies behind the flash.

Vela has one arena: an input's bytes are used again when nobody reads it any more, an output has
bytes from its first write on. Our programs have inputs, outputs and what found no room behind the
flash, at addresses of their own. Both are parts of the same SRAM, so such a tensor may lie over
bytes of the scratchpad that hold nothing while it lives:

    scratchpad  conv 1 [0, 24K) until cycle 900, conv 2 [0, 40K) after it
    input       until cycle 700: at 24K, over conv 2; 40K in all rather than 40K and the input
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

if TYPE_CHECKING:
    from npu_dialect.runtime.program import Program

ALIGNMENT = 16
"""Bytes that tensors of an arena begin at multiples of, as Vela's do."""


class Span(NamedTuple):
    """Bytes [low, high) that are taken during [begin, end), in cycles."""

    low: int
    high: int
    begin: int
    end: int


def in_one_sram(program: Program) -> int:
    """Bytes of SRAM that a program takes: its scratchpad, and over bytes of it that are free, or
    above it, what lies behind the flash. Where dram has no such part, only the scratchpad.
    """
    from npu_dialect.runtime import buffers

    profile = program.profile
    taken = [Span(b.low, b.high, b.begin, b.end) for b in buffers.of(profile)]
    for span in sorted(beside(program), key=lambda s: s.low - s.high):
        taken.append(placed(span, taken))
    return max((span.high for span in taken), default=0)


def placed(span: Span, taken: Sequence[Span]) -> Span:
    """The span at the lowest address where it meets nothing that is taken."""
    others = [o for o in taken if o.begin < span.end and span.begin < o.end]
    low, size = 0, span.high - span.low
    for other in sorted(others):
        if other.low >= low + size:
            break
        low = max(low, -(-other.high // ALIGNMENT) * ALIGNMENT)
    return Span(low, low + size, span.begin, span.end)


def beside(program: Program) -> Iterator[Span]:
    """What lies behind the flash, while it is needed: an input until it is read for the last time,
    an output from its first write on, other tensors in between, states always.
    """
    read_only = program.machine.memories["dram"].read_only
    if not read_only:
        return
    profile = program.profile
    last = profile.cycles + 1
    uses: dict[int, list[tuple[int, int]]] = {}
    parts = _parts(program, read_only)
    for number, (_, op) in enumerate(program.executed):
        when = int(profile.timing.start[number]), max(1, int(profile.timing.end[number]))
        for operand in (*op.reads(), *op.writes()):
            if operand.space == "dram" and operand.address >= read_only:
                low, high = operand.interval
                for k, (first, past) in enumerate(parts):
                    if low < past and first < high:
                        uses.setdefault(k, []).append(when)
    inputs = {b.operand.address for b in program.inputs}
    outputs = {b.operand.address for b in program.outputs}
    states = {s.operand.address for s, _ in program.used_states}
    for k, (low, high) in enumerate(parts):
        when = uses.get(k, [(0, last)])
        is_first = low in inputs | states
        is_last = low in outputs | states
        begin = 0 if is_first else min(start for start, _ in when)
        yield Span(low, high, begin, last if is_last else max(end for _, end in when))


def _parts(program: Program, read_only: int) -> list[tuple[int, int]]:
    """[low, high) of inputs, outputs and states, and what lies between them in one piece each."""
    bindings = [*program.inputs, *program.outputs, *(s for s, _ in program.used_states)]
    named = sorted({b.operand.interval for b in bindings if b.operand.space == "dram"})
    found: list[tuple[int, int]] = []
    at = read_only
    for low, high in [*named, (program.dram_size, program.dram_size)]:
        if low - at >= 64:  # less is what rounds addresses up
            found.append((at, low))
        if high > low:
            found.append((low, high))
        at = max(at, high)
    return found
