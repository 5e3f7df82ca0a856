"""The program: what the compiler makes, the `.npu` file holds and the simulator runs.

It is self-contained: instructions in their binary form, kernels, constants, the memory map, inputs,
outputs and states by name, host functions as text, the whole description of its target, and what is
needed to explain it (sources, layers, placement). Equal modules give equal bytes: there is no time
stamp and no dependence on hash order.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt
from xdsl.dialects.builtin import ModuleOp
from xdsl.ir import Operation

from npu_dialect import files
from npu_dialect.diagnostics import Code, error
from npu_dialect.kernel import Kernel
from npu_dialect.machine import Operand
from npu_dialect.npu import encoding
from npu_dialect.npu.base import Instruction, Values, Wait
from npu_dialect.npu.disassemble import disassemble
from npu_dialect.npu.structure import RepeatOp
from npu_dialect.ports import Inputs, Port, fits, zeros
from npu_dialect.target import Target, TargetError, parse_target

if TYPE_CHECKING:
    from npu_dialect.runtime.profile import Profile

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Quantization:
    """real = (stored - zero_points) * scales; per `axis`, or (None) for the whole tensor."""

    scales: tuple[float, ...]
    zero_points: tuple[int, ...]
    axis: int | None = None


@dataclass(frozen=True)
class Binding(Port):
    """An input or output of a program: a port, where it lies, and its type as the user sees it."""

    operand: Operand
    type: str
    """The tensor type as text."""
    quantization: Quantization | None = None


@dataclass(frozen=True, eq=False)
class StateBinding(Binding):
    """A state: a place in dram that keeps its content from one run to the next."""

    initial: Array | None = None
    """Its content before the first run, in storage values; None for `zero` everywhere."""

    @property
    def content(self) -> Array:
        """The content before the first run."""
        if self.initial is not None:
            return self.initial
        if self.quantization is None:
            return zeros(self.shape, self.dtype)
        points, axis = self.quantization.zero_points, self.quantization.axis
        return zeros(self.shape, self.dtype, points, axis)


Access = Literal["read", "write", "update"]
"""What an entry does to a state; update is both."""


@dataclass(frozen=True)
class Constant:
    """An array that must lie at `address` in dram before the program starts."""

    label: str
    address: int
    array: Array

    @property
    def end(self) -> int:
        return self.address + self.array.nbytes


@dataclass(frozen=True)
class HostCode:
    """The functions of graph operations that `npu.host` calls by number: the text of one module."""

    names: tuple[str, ...] = ()
    text: str = ""
    blobs: Mapping[str, Array] = field(default_factory=dict[str, Array])
    """Large constants of the text, by digest."""


@dataclass(frozen=True)
class Placement:
    """Where an operation of the model runs, the rule that decided, and its reason."""

    source: str
    op: str
    engine: str
    rule: str
    reason: str


@dataclass(frozen=True)
class PlacedOp(Placement):
    """A placement with the layer of the program it became part of, and that layer's cycles of the
    makespan.

    An operation that was folded away has no layer ("").
    """

    layer: str
    cycles: int


@dataclass(frozen=True)
class DebugRecord:
    """Which layer (fused group) an instruction belongs to, and the model's nodes behind it."""

    layer: str
    sources: tuple[str, ...]
    lines: tuple[tuple[str, ...], ...] = ()
    """`file:line` of the user's code for each of `sources`; empty where the model has none."""


@dataclass(frozen=True)
class TensorRecord:
    """A tensor of the model that is complete, at `binding`, once instruction number `instruction`
    has run.
    """

    instruction: int
    binding: Binding


@dataclass(frozen=True)
class DecodedInstruction:
    """One static instruction, as `Program.instructions` lists it."""

    index: int
    engine: str
    core: int
    op: str
    fields: Values
    waits: tuple[Wait, ...]
    layer: str
    source: tuple[str, ...]
    lines: tuple[str, ...]
    """`file:line` of the user's code, of all sources."""
    trips: int
    """How often its repeat executes it; 1 outside repeats."""
    instruction: Instruction

    def __str__(self) -> str:
        return f"{self.index:5} {self.engine:4} {self.instruction!s}  // {self.layer}"


@dataclass(frozen=True)
class Entry:
    """What is particular to one entry of a program."""

    code: bytes
    """Its instructions in binary form."""
    inputs: tuple[Binding, ...] = ()
    outputs: tuple[Binding, ...] = ()
    states: Mapping[str, Access] = field(default_factory=dict[str, Access])
    """The states that it uses, by name."""
    debug: tuple[DebugRecord, ...] = ()
    """One per static instruction."""
    tensors: tuple[TensorRecord, ...] = ()
    placements: tuple[Placement, ...] = ()
    metadata: Mapping[str, str] = field(default_factory=dict[str, str])


MAIN = "main"
"""The entry that is meant where a program has several and none is named."""


@dataclass(frozen=True, eq=False)
class Program:
    """A compiled model. See the module docstring.

    A program may have several entries, each with its own inputs, outputs and instructions; they
    share constants, states, kernels and host functions. `inputs`, `instructions`, `profile` and the
    like are those of the only entry, or of `main`; `entry(name)` is the program with one entry.
    """

    target_text: str
    """The file of the target."""
    entries: Mapping[str, Entry]
    """By name."""
    kernels: tuple[Kernel, ...]
    constants: tuple[Constant, ...]
    dram_size: int
    states: tuple[StateBinding, ...] = ()
    host: HostCode = field(default_factory=HostCode)

    # --- files ------------------------------------------------------------------------------------

    def save(self, path: str | Path) -> None:
        """Write a `.npu` file, whole or not at all. Raises CompileError (NPU0002)."""
        files.write_bytes(path, self.to_bytes())

    @staticmethod
    def load(path: str | Path) -> Program:
        """The program of a `.npu` file. Raises CompileError (NPU0001, NPU0401, NPU0402)."""
        return Program.from_bytes(files.read_bytes(path), str(path))

    def to_bytes(self) -> bytes:
        """The content of the program's file."""
        from npu_dialect.runtime import serialize

        return serialize.to_bytes(self)

    @staticmethod
    def from_bytes(data: bytes, source: str = "program") -> Program:
        """The program of a file's content. Raises CompileError (NPU0401, NPU0402)."""
        from npu_dialect.runtime import serialize

        return serialize.from_bytes(data, source)

    # --- modules ----------------------------------------------------------------------------------

    @staticmethod
    def from_module(module: ModuleOp) -> Program:
        """The program of a module that holds one `npu.program` and its host functions.

        Raises CompileError (NPU0202, NPU0301, NPU0404).
        """
        from npu_dialect.runtime import assembler

        return assembler.assemble(module)

    def to_module(self) -> ModuleOp:
        """The module of the program: `from_module` of it gives the same program."""
        from npu_dialect.runtime import assembler

        return assembler.to_module(self)

    # --- entries ----------------------------------------------------------------------------------

    def entry(self, name: str | None = None) -> Program:
        """The program with the entry `name` only: the same constants, states and memory map.
        Without a name, the only entry or `main`. Raises CompileError (NPU0507).
        """
        chosen = self.entry_name(name)
        return self if len(self.entries) == 1 else self._alone[chosen]

    def entry_name(self, name: str | None = None) -> str:
        """`name`, or the name of the entry that is meant without one. Raises CompileError
        (NPU0507) for a name that no entry has, and where one must be named.
        """
        if name is None and len(self.entries) == 1:
            return next(iter(self.entries))
        chosen = MAIN if name is None else name
        if chosen not in self.entries:
            raise error(
                Code.ENTRY,
                f"an entry must be named, one of {', '.join(self.entries)}",
                found="none" if name is None else name,
                source="entry",
            )
        return chosen

    def entry_for(self, inputs: Inputs) -> str:
        """The name of the only entry, or `main`, or else the one that the inputs fit: one compiled
        for their shapes. Raises CompileError (NPU0507) where they fit none, or several.
        """
        if len(self.entries) == 1 or MAIN in self.entries:
            return self.entry_name()
        found = [name for name, entry in self.entries.items() if fits(entry.inputs, inputs)]
        if len(found) == 1:
            return found[0]
        takes = "; ".join(f"{n}({', '.join(map(str, e.inputs))})" for n, e in self.entries.items())
        raise error(
            Code.ENTRY,
            f"an entry must be named where the inputs fit not exactly one of {takes}",
            found=f"inputs that fit {' and '.join(found) or 'none'}",
            remedy=f'entry="{next(iter(self.entries))}"',
            source="entry",
        )

    @cached_property
    def _alone(self) -> dict[str, Program]:
        return {n: replace(self, entries={n: e}) for n, e in self.entries.items()}

    @property
    def selected(self) -> Entry:
        """The only entry, or `main`. Raises CompileError (NPU0507) where one must be named."""
        return self.entries[self.entry_name()]

    @property
    def inputs(self) -> tuple[Binding, ...]:
        return self.selected.inputs

    @property
    def outputs(self) -> tuple[Binding, ...]:
        return self.selected.outputs

    @property
    def used_states(self) -> list[tuple[StateBinding, Access]]:
        """The states of the only entry, or of `main`, and what it does to each."""
        bindings = {state.name: state for state in self.states}
        return [(bindings[name], access) for name, access in self.selected.states.items()]

    @property
    def debug(self) -> tuple[DebugRecord, ...]:
        """One per static instruction."""
        return self.selected.debug

    @property
    def tensors(self) -> tuple[TensorRecord, ...]:
        return self.selected.tensors

    @property
    def placements(self) -> tuple[Placement, ...]:
        return self.selected.placements

    @property
    def metadata(self) -> Mapping[str, str]:
        return self.selected.metadata

    # --- what it holds ----------------------------------------------------------------------------

    @cached_property
    def machine(self) -> Target:
        """The description of the target that the program is compiled for."""
        try:
            return parse_target(self.target_text, "the program's target")
        except TargetError as problem:
            from npu_dialect.runtime.container import malformed

            raise malformed("program", str(problem)) from problem

    @property
    def target(self) -> str:
        """The target's name."""
        return self.machine.name

    @property
    def target_digest(self) -> str:
        """SHA-256 of the target's file."""
        return self.machine.digest

    @cached_property
    def code(self) -> tuple[Operation, ...]:
        """The decoded instructions and repeats. Raises CompileError (NPU0401)."""
        try:
            return tuple(encoding.decode(self.selected.code))
        except ValueError as problem:
            from npu_dialect.runtime.container import malformed

            raise malformed("program", str(problem)) from problem

    @cached_property
    def static(self) -> tuple[tuple[Instruction, int], ...]:
        """Every instruction once, with the trips of its repeat, in program order."""
        rows: list[tuple[Instruction, int]] = []
        for op in self.code:
            if isinstance(op, RepeatOp):
                rows += [(each, op.count) for each in op.instructions]
            elif isinstance(op, Instruction):
                rows.append((op, 1))
        return tuple(rows)

    @cached_property
    def executed(self) -> tuple[tuple[int, Instruction], ...]:
        """Every instruction as often as it runs, in program order, with its number in
        `instructions`.
        """
        rows: list[tuple[int, Instruction]] = []
        number = 0
        for op in self.code:
            if isinstance(op, RepeatOp):
                body = op.instructions
                for trip in range(op.count):
                    rows += [(number + i, each.at(trip)) for i, each in enumerate(body)]
                number += len(body)
            elif isinstance(op, Instruction):
                rows.append((number, op))
                number += 1
        return tuple(rows)

    @cached_property
    def instructions(self) -> list[DecodedInstruction]:
        """Every instruction once: engine, operation, fields, source."""
        return [self._decoded(i, op, trips) for i, (op, trips) in enumerate(self.static)]

    def _decoded(self, index: int, op: Instruction, trips: int) -> DecodedInstruction:
        record = self.debug[index]
        return DecodedInstruction(
            index=index,
            engine=op.engine,
            core=op.core_index,
            op=op.name,
            fields=op.values(),
            waits=op.wait_list,
            layer=record.layer,
            source=record.sources,
            lines=tuple(dict.fromkeys(line for found in record.lines for line in found)),
            trips=trips,
            instruction=op,
        )

    @cached_property
    def profile(self) -> Profile:
        """Time and energy by layer and engine. Raises CompileError (NPU0604) on deadlock."""
        from npu_dialect.runtime import profile

        return profile.compute(self)

    @property
    def placement(self) -> list[PlacedOp]:
        """Per source operation: engine, rule, reason, its layer's cycles on the critical path."""
        from npu_dialect.runtime import profile

        return profile.placed(self)

    def disassembly(self) -> str:
        """The decoded instructions as text, one per line, each with its layer; of several entries
        one after the other.
        """
        if len(self.entries) > 1:
            parts = (f"// entry {n}\n{self.entry(n).disassembly()}" for n in self.entries)
            return "\n".join(parts)
        return disassemble(self.code, [r.layer for r in self.debug])

    @cached_property
    def constant_bytes(self) -> int:
        """Bytes of all constants."""
        return sum(c.array.nbytes for c in self.constants)

    def __repr__(self) -> str:
        count = sum(len(self.entry(n).static) for n in self.entries)
        entries = f"entries {', '.join(self.entries)}, " if len(self.entries) > 1 else ""
        states = f", states {', '.join(s.name for s in self.states)}" if self.states else ""
        return (
            f"Program({self.target}, {entries}{count} instructions, {len(self.kernels)} kernels, "
            f"{self.constant_bytes} bytes of constants{states})"
        )


def scalar_or_list(values: npt.ArrayLike) -> tuple[Any, ...]:
    """An array's elements as a tuple of Python numbers."""
    return tuple(np.asarray(values).reshape(-1).tolist())
