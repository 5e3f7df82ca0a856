"""The functional simulator: runs the decoded binary of a program, bit exact, in any order that its
waits permit.

    run = simulate(program, {"image": x})

    session = Session(program)                # keeps the machine and its constants, for many inputs
    for x in images:
        run = session.run({"image": x})
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from npu_dialect.diagnostics import Code, CompileError, error
from npu_dialect.machine import Array, Machine
from npu_dialect.npu.base import Instruction, Values
from npu_dialect.ports import Inputs, bind
from npu_dialect.runtime import host, profile
from npu_dialect.runtime.program import Binding, Constant, DebugRecord, Program
from npu_dialect.runtime.run import Run
from npu_dialect.runtime.schedule import Plan

__all__ = ["Run", "Session", "Step", "simulate"]


@dataclass(frozen=True)
class Step:
    """One executed instruction, as an observer sees it."""

    number: int
    """Its place in `Program.executed`."""
    index: int
    """Its place in `Program.instructions`."""
    instruction: Instruction
    record: DebugRecord
    machine: Machine


Observer = Callable[[Step], None]
"""Called after every instruction."""


def simulate(
    program: Program,
    inputs: Inputs,
    seed: int | None = None,
    trace: bool = False,
    *,
    order: str | None = None,
    tensors: bool = False,
    observe: Observer | None = None,
) -> Run:
    """Run a program once. `inputs` are arrays by name, or in order, or the only one.

    The order of execution is that of the program; with `seed` a random one that the waits permit;
    or `order` (`schedule.POLICIES`). `trace` puts every instruction's times into the report,
    `tensors` keeps the intermediate tensors that the program names. Raises CompileError (NPU0501 to
    NPU0505, NPU0604).
    """
    session = Session(program, order=order, seed=seed)
    return session.run(inputs, trace=trace, tensors=tensors, observe=observe)


class Session:
    """A machine that holds a program's constants, ready for one input after the other.

    Memory that the program has not written holds a pattern at first, and what earlier runs left
    later on.
    """

    def __init__(
        self, program: Program, *, order: str | None = None, seed: int | None = None
    ) -> None:
        self.program = program
        policy = order or ("program" if seed is None else "random")
        self.order = Plan.of(program).order(policy, seed)
        self.machine = Machine(
            program.machine, program.dram_size, program.kernels, host.functions(program.host)
        )
        self._write_constants(program.constants)
        self._clean = True

    def run(
        self,
        inputs: Inputs,
        *,
        trace: bool = False,
        tensors: bool = False,
        observe: Observer | None = None,
    ) -> Run:
        """Run the program on one input. Raises CompileError (NPU0501 to NPU0503, NPU0505)."""
        arrays = bind(self.program.inputs, inputs)
        if not self._clean:
            self._write_constants(self._at_risk)
        self._clean = False
        for binding, array in zip(self.program.inputs, arrays, strict=True):
            np.copyto(self.machine.view(binding.operand), array.reshape(binding.operand.dims))
        kept = self._execute(observe, tensors)
        outputs = {b.name: self.read(b) for b in self.program.outputs}
        return Run(outputs, profile.of(self.program), tensors=kept, trace=trace)

    def read(self, binding: Binding) -> Array:
        """A copy of the tensor at a binding, in its shape."""
        return self.machine.view(binding.operand).reshape(binding.shape).copy()

    # --- memory -----------------------------------------------------------------------------------

    def _write_constants(self, constants: Sequence[Constant]) -> None:
        memory = self.machine.memories["dram"]
        for c in constants:
            if not 0 <= c.address <= c.end <= memory.size:
                raise error(
                    Code.EXECUTION,
                    f"a constant must lie in dram [0, {memory.size:#x})",
                    found=f"[{c.address:#x}, {c.end:#x})",
                    source=c.label,
                )
            memory[c.address : c.end] = c.array.reshape(-1).view(np.uint8)

    @cached_property
    def _at_risk(self) -> list[Constant]:
        """The constants that the program or an input may overwrite."""
        written = [o for _, op in self.program.executed for o in op.writes() if o.space == "dram"]
        intervals = [o.interval for o in (*written, *(b.operand for b in self.program.inputs))]
        return [
            c
            for c in self.program.constants
            if any(low < c.end and c.address < high for low, high in intervals)
        ]

    # --- execution --------------------------------------------------------------------------------

    @cached_property
    def _actions(self) -> list[tuple[Callable[[Machine, Values], None], Values]]:
        """The instructions in the order of execution, with their fields at hand."""
        executed = self.program.executed
        return [(executed[i][1].execute, executed[i][1].values()) for i in self.order]

    def _execute(self, observe: Observer | None, tensors: bool) -> dict[str, Array]:
        if tensors or observe:
            return self._execute_observed(observe, tensors)
        machine, done = self.machine, 0
        try:
            for execute, values in self._actions:
                execute(machine, values)
                done += 1
        except Exception as problem:
            raise self._fault(done, problem) from problem
        return {}

    def _execute_observed(self, observe: Observer | None, tensors: bool) -> dict[str, Array]:
        kept: dict[str, Array] = {}
        for position, (execute, values) in enumerate(self._actions):
            number = self.order[position]
            index, instruction = self.program.executed[number]
            try:
                execute(self.machine, values)
            except Exception as problem:
                raise self._fault(position, problem) from problem
            if tensors:
                kept |= {b.name: self.read(b) for b in self._tensors_by_index.get(index, ())}
            if observe:
                record = self.program.debug[index]
                observe(Step(number, index, instruction, record, self.machine))
        return kept

    @cached_property
    def _tensors_by_index(self) -> dict[int, list[Binding]]:
        found: dict[int, list[Binding]] = {}
        for record in self.program.tensors:
            found.setdefault(record.instruction, []).append(record.binding)
        return found

    def _fault(self, position: int, problem: Exception) -> Exception:
        if isinstance(problem, CompileError):
            return problem
        index, instruction = self.program.executed[self.order[position]]
        return error(
            Code.EXECUTION,
            f"instruction {index} ({instruction.name}) must be executable",
            found=f"{type(problem).__name__}: {problem}",
            source=self.program.debug[index].layer,
        )
