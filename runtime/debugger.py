"""Running a program step by step: stops, memory as tensors, watched addresses.

debugger = Debugger(program, {"image": x})
debugger.stop_at("conv1")              # a layer, or the number of an instruction
debugger.watch("spm", 0x100, 0x200)
stop = debugger.resume()               # Stop(reason="layer conv1", step=...), None at the end
debugger.array(stop.step.instruction.writes()[0])
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

from npu_dialect import dtypes
from npu_dialect.diagnostics import Code, CompileError, error
from npu_dialect.machine import Array, MemoryFaultError, Operand
from npu_dialect.ports import Inputs
from npu_dialect.runtime.executor import Step
from npu_dialect.runtime.program import Binding, Program
from npu_dialect.runtime.simulator import Session


@dataclass(frozen=True)
class Stop:
    """Why the program stands still, just after the instruction of `step`."""

    reason: str
    step: Step


@dataclass(frozen=True)
class Watch:
    """Bytes [low, high) of a memory of which every write stops the program."""

    space: str
    low: int
    high: int

    def __str__(self) -> str:
        return f"{self.space} [{self.low:#x}, {self.high:#x})"


class Debugger:
    """One run of an entry of a program, instruction by instruction, by definition."""

    def __init__(
        self,
        program: Program,
        inputs: Inputs,
        *,
        entry: str | None = None,
        seed: int | None = None,
        state: Any = None,
    ) -> None:
        entry = entry or program.entry_for(inputs)
        self._session = Session(program, tier="plain", seed=seed)
        self._session.set_initial(state or {})
        self._steps = self._session.steps(inputs, entry=entry)
        self._executor = self._session.executor(entry)
        self.program = self._executor.program
        self.step: Step | None = None
        """The latest instruction; None before the first."""
        self.tensors: dict[str, Binding] = {}
        """Where the latest content of each tensor of the model was when it was complete."""
        self.layers: set[str] = set()
        self.instructions: set[int] = set()
        self.watches: list[Watch] = []

    # --- stops ---

    def stop_at(self, place: str) -> None:
        """Stop after instruction `#12` (or `12`), or after the first instruction of a layer.

        A layer is called by its name, as short as tables have it, or by one of the model's nodes in
        it. Raises CompileError for what is none.
        """
        number = place.removeprefix("#")
        if number.isdecimal():
            if int(number) >= len(self.program.debug):
                last = len(self.program.debug) - 1
                raise _no_place(place, f"an instruction must be one of 0 to {last}")
            self.instructions.add(int(number))
            return
        debug = self.program.debug
        found = {d.layer for d in debug if any(_is_called(n, place) for n in (d.layer, *d.sources))}
        if not found:
            layers = list(dict.fromkeys(d.layer for d in debug))
            near = get_close_matches(place, layers, 3, 0.3) or layers[:3]
            rule = "a stop must be at a layer or an instruction of the program"
            raise _no_place(place, rule, " or ".join(near))
        self.layers |= found

    def watch(self, space: str, low: int, high: int) -> Watch:
        """Stop after every instruction that writes to bytes [low, high) of a memory."""
        sizes = {name: m.size for name, m in self._session.machine.memories.items()}
        if space not in sizes or not 0 <= low < high <= sizes[space]:
            limits = ", ".join(f"{name} [0, {size:#x})" for name, size in sizes.items())
            raise _no_place(
                f"{space} [{low:#x}, {high:#x})", f"watched bytes must lie in one of {limits}"
            )
        self.watches.append(Watch(space, low, high))
        return self.watches[-1]

    # --- going on ---

    def advance(self, count: int = 1) -> Step | None:
        """Executes so many instructions; the last of them, None at the end of the program."""
        step = None
        for _ in range(count):
            step = next(self._steps, None)
            if step is None:
                return None
            self.step = step
            for binding in self._executor.tensors_after(step.index):
                self.tensors[binding.name] = binding
        return step

    def resume(self) -> Stop | None:
        """Goes on to the next stop; None at the end of the program."""
        while True:
            before = None if self.step is None else self.step.record.layer
            step = self.advance()
            if step is None:
                return None
            reason = next(self._reasons(step, before), "")
            if reason:
                return Stop(reason, step)

    def _reasons(self, step: Step, before: str | None) -> Iterator[str]:
        layer = step.record.layer
        if step.index in self.instructions:
            yield f"instruction {step.index}"
        if layer in self.layers and layer != before:
            yield f"layer {layer}"
        for watch in self.watches:
            for operand in step.instruction.writes():
                low, high = operand.interval
                if operand.space == watch.space and low < watch.high and watch.low < high:
                    yield f"write to {watch}"

    # --- looking ---

    def array(self, place: Operand) -> Array:
        """A copy of a part of a memory. Raises CompileError where it lies outside."""
        try:
            return self._session.machine.view(place).copy()
        except MemoryFaultError as problem:
            raise _no_place(place.space, str(problem)) from None

    def find(self, name: str) -> Operand:
        """The place of a field of the latest instruction (`output`), of a tensor of the model by
        name, of an input or output of the program, or of `SPACE:ADDRESS:DTYPE:DIMS`
        (`spm:0x40:i8:8x16`). Raises CompileError.
        """
        if self.step is not None:
            for field, _, operand in self.step.instruction.places():
                if field == name:
                    return operand
        ports = {b.name: b for b in (*self.program.inputs, *self.program.outputs)} | self.tensors
        if name in ports:
            return ports[name].operand
        if ":" in name:
            return parse_place(name)
        fields = () if self.step is None else (f for f, _, _ in self.step.instruction.places())
        known = ", ".join(dict.fromkeys([*fields, *ports]))
        raise _no_place(
            name,
            "must be a field of the latest instruction, a tensor that is complete, an input or "
            f"output ({known}), or {PLACE}",
        )


PLACE = "SPACE:ADDRESS:DTYPE:DIMS, such as spm:0x40:i8:8x16"


def parse_place(text: str) -> Operand:
    """A dense block from `spm:0x40:i8:8x16`. Raises CompileError."""
    try:
        space, address, dtype, dims = text.split(":")
        shape = tuple(int(d) for d in dims.split("x"))
        return Operand.dense(space, int(address, 0), dtypes.BY_NAME[dtype], shape)
    except (ValueError, KeyError):
        raise _no_place(text, f"must be {PLACE}") from None


def _is_called(name: str, place: str) -> bool:
    """Whether a name is the one that is given, or what `quantities.short` makes of it is."""
    head, gap, tail = place.partition("…")
    is_short = bool(gap) and len(place) < len(name)
    return name == place or (is_short and name.startswith(head) and name.endswith(tail))


def _no_place(found: str, rule: str, remedy: str = "") -> CompileError:
    return error(Code.OPTION, rule, found=found, remedy=remedy, source="debugger")
