"""The functional simulator: runs the decoded binary of a program, bit exact, in any order that its
waits permit.

    run = simulate(program, {"image": x})

    session = Session(program)                # keeps the machine and its constants, for many inputs
    for x in images:
        run = session.run({"image": x})
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from npu_dialect.diagnostics import Code, CompileError, error, warn
from npu_dialect.machine import Array, Machine
from npu_dialect.npu.base import Instruction, Values
from npu_dialect.ports import Inputs, bind
from npu_dialect.runtime import profile, tiers
from npu_dialect.runtime.execution import Execution
from npu_dialect.runtime.program import Binding, Constant, DebugRecord, Program
from npu_dialect.runtime.run import Run
from npu_dialect.runtime.schedule import Plan
from npu_dialect.runtime.tiers import TIERS, Native

__all__ = ["TIERS", "Run", "Session", "Step", "simulate"]


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


Action = tuple[Callable[[Machine, Values], None], Values]
"""What executes an instruction, and its fields."""

Observer = Callable[[Step], None]
"""Called after every instruction."""


def simulate(
    program: Program,
    inputs: Inputs,
    seed: int | None = None,
    trace: bool = False,
    *,
    tier: str = "auto",
    strict: bool = False,
    threads: int = 1,
    order: str | None = None,
    tensors: bool = False,
    observe: Observer | None = None,
) -> Run:
    """Run a program once. `inputs` are arrays by name, or in order, or the only one.

    The order of execution is that of the program; with `seed` a random one that the waits permit;
    or `order` (`schedule.POLICIES`). `trace` puts every instruction's times into the report,
    `tensors` keeps the intermediate tensors that the program names. `tier`, `strict` and `threads`
    are those of `Session`; but `auto` is the plain tier until what the program's single runs have
    had to do exceeds `tiers.WORTHWHILE`: before, they are done sooner than a translation is. That
    is the first run of ResNet-18 in floats, or the third in int8.

    Raises CompileError (NPU0004, NPU0007, NPU0501 to NPU0506, NPU0604).
    """
    if tier == "auto":
        tier = "plain" if tensors or observe else tiers.for_runs(program)
    session = Session(program, tier=tier, strict=strict, threads=threads, order=order, seed=seed)
    return session.run(inputs, trace=trace, tensors=tensors, observe=observe)


class Session:
    """A machine that holds a program's constants, ready for one input after the other.

    `tier` is one of `TIERS`: all give the same bits (but NaNs, which are all alike). `auto` is the
    compiled tier where llvmlite is installed and its code passes a self-test on this processor,
    else the plain one, and a remark says why. The translation is made here, and kept as long as the
    program for its next session. With `strict` the compiled tier takes nothing for granted: it runs
    every copy, and reads constants where they lie. `threads` share the work of each instruction in
    the compiled tier, and in torch, where they are those of the process.

    Memory that the program has not written holds a pattern at first, and what earlier runs left
    later on. One thread may use a session at a time; several sessions run at once in several
    threads, and native code holds no lock that keeps Python from running.
    """

    def __init__(
        self,
        program: Program,
        *,
        tier: str = "auto",
        strict: bool = False,
        threads: int = 1,
        order: str | None = None,
        seed: int | None = None,
    ) -> None:
        if threads < 1:
            raise error(Code.OPTION, "threads must be at least 1", found=threads, source="threads")
        self.program = program
        policy = order or ("program" if seed is None else "random")
        self.order = Plan.of(program).order(policy, seed)
        chosen = tiers.choose(tier)
        self.machine = tiers.machine(program, chosen, threads)
        self._write_constants(program.constants)
        self._clean = True
        self._few: dict[int, Action] = {}
        self._native: Native | None = None
        if chosen == "compiled":
            self._native = self._translate(strict, threads, must=tier == "compiled")
        by_torch = chosen == "torch"
        self._one_by_one = Execution(
            "torch" if by_torch else "plain", threads if by_torch else 1, len(self.order)
        )
        self.execution = self._native.execution if self._native else self._one_by_one
        """The tier that was chosen, and what it leaves to the plain one."""

    @property
    def tier(self) -> str:
        """compiled, torch or plain."""
        return self.execution.tier

    @property
    def native(self) -> int:
        """How many instructions of a run are native code."""
        return self.execution.native

    @property
    def fallbacks(self) -> Mapping[str, Mapping[str, int]]:
        """What a compiled program leaves to the plain tier: by instruction name, the reasons and
        how many instructions each concerns.
        """
        return self.execution.fallbacks

    def run(
        self,
        inputs: Inputs,
        *,
        trace: bool = False,
        tensors: bool = False,
        observe: Observer | None = None,
    ) -> Run:
        """Run the program on one input.

        A run that is observed or keeps tensors takes the plain tier, on the same memories. Raises
        CompileError (NPU0501 to NPU0503, NPU0505).
        """
        arrays = bind(self.program.inputs, inputs)
        if not self._clean:
            self._write_constants(self._at_risk)
        self._clean = False
        for binding, array in zip(self.program.inputs, arrays, strict=True):
            np.copyto(self.machine.view(binding.operand), array.reshape(binding.operand.dims))
        watched = tensors or observe is not None
        kept = self._execute_observed(observe, tensors) if watched else self._execute()
        outputs = {b.name: self.read(b) for b in self.program.outputs}
        execution = self._one_by_one if watched else self.execution
        profiled = profile.of(self.program)
        return Run(outputs, profiled, tensors=kept, trace=trace, execution=execution)

    def stream(self, samples: Iterable[Inputs]) -> Iterator[Run]:
        """The runs of one input after the other, each when it is asked for; `stream.map_inputs`
        does the same with several sessions.
        """
        return map(self.run, samples)

    def read(self, binding: Binding) -> Array:
        """A copy of the tensor at a binding, in its shape."""
        return self.machine.view(binding.operand).reshape(binding.shape).copy()

    def _translate(self, strict: bool, threads: int, must: bool) -> Native | None:
        try:
            return tiers.native(
                self.program, self.order, self.machine, strict=strict, threads=threads
            )
        except CompileError as problem:
            record = problem.records[0]
            if must or record.code is not Code.TIER:
                raise
            warn(record.code, record.rule, found=record.found, remedy=record.remedy)
            return None

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
    def _actions(self) -> list[Action]:
        """The instructions in the order of execution, with their fields at hand."""
        return [self._action(position) for position in range(len(self.order))]

    def _action(self, position: int) -> Action:
        instruction, values = tiers.rows(self.program)[self.order[position]]
        return instruction.execute, values

    def _execute(self) -> dict[str, Array]:
        if self._native:
            self._native.run(self._execute_between)
            return {}
        machine, done = self.machine, 0
        try:
            for execute, values in self._actions:
                execute(machine, values)
                done += 1
        except Exception as problem:
            raise self._fault(done, problem) from problem
        return {}

    def _execute_between(self, position: int) -> None:
        """Executes one of the few instructions that have no native code."""
        action = self._few.get(position)
        if action is None:
            action = self._few[position] = self._action(position)
        self._execute_one(position, action)

    def _execute_one(self, position: int, action: Action) -> None:
        execute, values = action
        try:
            execute(self.machine, values)
        except Exception as problem:
            raise self._fault(position, problem) from problem

    def _execute_observed(self, observe: Observer | None, tensors: bool) -> dict[str, Array]:
        kept: dict[str, Array] = {}
        for position, number in enumerate(self.order):
            index, instruction = self.program.executed[number]
            self._execute_one(position, self._actions[position])
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
