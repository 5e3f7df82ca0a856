"""From decoded instructions to calls of native routines.

`LOWERINGS` is the table beside the instruction set: per instruction class, a function that turns
one instruction into a `Call`. An instruction without a row, or one that its row refuses, runs in
the plain tier between two stretches of native code, and `Translation.fallbacks` says why.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import prod
from typing import Any

import numpy as np

from npu_dialect.kernel import Kernel
from npu_dialect.machine import GUARD, Array, Operand
from npu_dialect.npu.arrays import ArrayInstruction
from npu_dialect.npu.base import Instruction, Values
from npu_dialect.npu.copies import DmaDecodeOp
from npu_dialect.npu.streams import decoded_bytes, stored_weights
from npu_dialect.runtime.compiled.constants import Constants
from npu_dialect.runtime.compiled.host import Host
from npu_dialect.runtime.compiled.records import SHARED, Call, Table

DECODED = "decoded"
"""The space of weights that are decoded when a program is translated: no memory has them."""


BEYOND = 1 << 40
"""An address beyond all scratch memory, as long as nobody knows how much there is."""


class NotEmittedError(Exception):
    """An instruction that no routine can do; the text is the reason."""


@dataclass
class Context:
    """What a lowering may look at besides the instruction itself."""

    kernels: Sequence[Kernel]
    host: Host
    constants: Constants | None
    """What is known of the memories' content before the instruction; None with `strict`."""
    elementwise: Mapping[int, Kernel] = field(default_factory=dict[int, Kernel])
    """The host functions that are kernels, by number."""
    decoded: Array | None = None
    """The bytes of the weights that the present instruction decodes, where they are known: what
    lies in the space `DECODED`.
    """
    folded: list[Operand] = field(default_factory=list[Operand])
    """Operands whose content the present call holds already: it does not read them."""
    shared: dict[Any, Any] = field(default_factory=dict[Any, Any])
    """Values that several calls share (packed weights), by content."""

    def known(self, operand: Operand) -> Array | None:
        """The content of an operand where it is the same in every run. The caller must not read the
        memory then.
        """
        if operand.space == DECODED:
            place = operand.dims, operand.dtype.numpy, self.decoded, operand.address
            return np.ndarray(*place, operand.strides)
        found = self.constants.content(operand) if self.constants else None
        if found is not None:
            self.folded.append(operand)
        return found


Lowering = Callable[[Values, Context], Call | Sequence[Call]]
"""Gives the calls that do an instruction, one after the other. Raises NotEmittedError with the
reason where no routine does such an instruction.
"""

LOWERINGS: dict[type[Instruction], Lowering] = {}


def lowers(*instructions: type[Instruction]) -> Callable[[Lowering], Lowering]:
    """Decorator: the lowering of these instructions."""

    def register(function: Lowering) -> Lowering:
        LOWERINGS.update(dict.fromkeys(instructions, function))
        return function

    return register


SMALL_MACS = 1 << 15
SMALL_BYTES = 1 << 14
"""Work of about half a microsecond."""

Stretch = Table | list[int]
"""Calls to run natively, or the positions of instructions to run in the plain tier."""


@dataclass
class Translation:
    """A sequence of instructions as stretches of native calls and of plain instructions."""

    stretches: list[Stretch]
    fallbacks: dict[str, dict[str, int]]
    """Per instruction name, the reasons why some of them are not native, and how many."""
    scratch: int
    """Bytes of scratch memory per thread."""
    shared: int
    """Bytes of scratch memory that the threads share."""
    native: int
    """How many instructions run natively."""
    elided: int
    """How many copies are left out, since nothing reads what they write."""


def translate(
    instructions: Iterable[tuple[Instruction, Values]],
    kernels: Sequence[Kernel],
    host: Host,
    constants: Constants | None,
    elementwise: Mapping[int, Kernel] | None = None,
) -> Translation:
    """Translates instructions in the order in which they run. `constants` knows what the memories
    hold before the first one; None takes nothing for granted, and translates every instruction.
    `elementwise` are the host functions that a kernel can do (`runtime.host.kernels`).
    """
    rows = list(instructions)
    context = Context(kernels, host, constants, elementwise or {})
    fallbacks: dict[str, dict[str, int]] = {}
    calls: list[Sequence[Call]] = []
    for position, (instruction, values) in enumerate(rows):
        context.folded = []
        try:
            calls.append(_lower(instruction, values, context))
        except NotEmittedError as problem:
            reasons = fallbacks.setdefault(instruction.name, {})
            reasons[str(problem)] = reasons.get(str(problem), 0) + 1
            context.folded = []
            calls.append(())
        if constants:
            constants.step(position, instruction, values, context.folded)
    dropped = constants.unread() if constants else set[int]()
    return Translation(
        _stretches(calls, dropped),
        fallbacks,
        scratch=max((call.scratch for some in calls for call in some), default=0),
        shared=max((call.shared for some in calls for call in some), default=0),
        native=sum(bool(some) for some in calls),
        elided=len(dropped),
    )


def _lower(instruction: Instruction, values: Values, context: Context) -> Sequence[Call]:
    lowering = LOWERINGS.get(type(instruction))
    if lowering is None:
        raise NotEmittedError("it has no routine")
    streams = isinstance(instruction, ArrayInstruction) and "stream" in values
    calls = (_lower_decoding if streams else _calls)(lowering, values, context)
    if _is_small(instruction, values):
        return [replace(call, alone=True) for call in calls]
    return calls


def _calls(lowering: Lowering, values: Values, context: Context) -> Sequence[Call]:
    found = lowering(values, context)
    return (found,) if isinstance(found, Call) else found


def _lower_decoding(lowering: Lowering, values: Values, context: Context) -> Sequence[Call]:
    """An array instruction that decodes its weights: now, where they are known; else a call before
    its own decodes them into scratch memory that the threads share.
    """
    stored, weights = stored_weights(values), values["weights"]
    known = context.known(stored)
    if known is not None:
        context.decoded = decoded_bytes(values, known)
        there = replace(weights, space=DECODED, address=0)
        return _calls(lowering, {**values, "weights": there}, context)
    there = replace(weights, space=SHARED, address=BEYOND)
    calls = _calls(lowering, {**values, "weights": there}, context)
    at = -(-max(call.shared for call in calls) // 64) * 64
    calls = _calls(lowering, {**values, "weights": replace(there, address=at)}, context)
    flat = Operand.dense(SHARED, at, weights.dtype, [weights.elements])
    copied = {"source": stored, "destination": flat, "row": values["row"]}
    (decode,) = _calls(LOWERINGS[DmaDecodeOp], copied, context)
    every = (decode, *calls)
    return [replace(call, shared=at + flat.size + GUARD) for call in every]


def _is_small(instruction: Instruction, values: Values) -> bool:
    """Whether an instruction is less work than it takes two threads to meet."""
    if isinstance(instruction, ArrayInstruction):
        work = instruction.work(values)
        sides = (work[n] for n in ("positions", "taps", "in_channels", "out_channels"))
        return prod(sides) < SMALL_MACS
    return sum(v.size for v in values.values() if isinstance(v, Operand)) < SMALL_BYTES


def _stretches(calls: Sequence[Sequence[Call]], dropped: set[int]) -> list[Stretch]:
    stretches: list[Stretch] = []
    native: list[Call] = []
    plain: list[int] = []

    def flush() -> None:
        if native:
            stretches.append(Table(tuple(native)))
            native.clear()
        if plain:
            stretches.append(list(plain))
            plain.clear()

    for position, some in enumerate(calls):
        if position in dropped:
            continue
        if plain if some else native:
            flush()
        if some:
            native += some
        else:
            plain.append(position)
    flush()
    return stretches


def separate(output: Operand, *inputs: Operand, same: Sequence[Operand] = ()) -> None:
    """Raises NotEmittedError where `output` overlaps an input, or one of `same` in another way than
    element by element.
    """
    for other in inputs:
        if overlap(output, other):
            raise NotEmittedError("its output overlaps an input")
    for other in same:
        if overlap(output, other) and not coincide(output, other):
            raise NotEmittedError("its output overlaps an input, shifted")


def overlap(a: Operand, b: Operand) -> bool:
    """Whether two blocks may share bytes."""
    (low, high), (other_low, other_high) = a.interval, b.interval
    return a.space == b.space and low < other_high and other_low < high


def coincide(a: Operand, b: Operand) -> bool:
    """Whether two blocks that overlap are the same one, element by element."""
    place = (a.address, a.dims, a.strides, a.dtype.itemsize)
    return place == (b.address, b.dims, b.strides, b.dtype.itemsize)
