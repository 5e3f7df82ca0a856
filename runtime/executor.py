"""How a session runs one entry of a program: the order, the tier, and one instruction after the
other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from npu_dialect.diagnostics import Code, CompileError, error, warn
from npu_dialect.machine import Array, Machine
from npu_dialect.npu.base import Instruction, Values
from npu_dialect.runtime import tiers
from npu_dialect.runtime.execution import Execution
from npu_dialect.runtime.program import Binding, DebugRecord, Program
from npu_dialect.runtime.schedule import Plan
from npu_dialect.runtime.tiers import Native, Tier


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


@dataclass(frozen=True)
class Settings:
    """How the entries of a session are run. `asked` is the tier as the user named it."""

    tier: Tier
    asked: str
    strict: bool
    threads: int
    policy: str
    seed: int | None


class Executor:
    """One entry of a program, bound to a machine."""

    def __init__(self, program: Program, machine: Machine, settings: Settings) -> None:
        self.program = program
        """The program with this entry only."""
        self.machine = machine
        self.order = Plan.of(program).order(settings.policy, settings.seed)
        self._few: dict[int, Action] = {}
        self._native: Native | None = None
        if settings.tier == "compiled":
            self._native = self._translate(settings)
        by_torch = settings.tier == "torch"
        self.one_by_one = Execution(
            "torch" if by_torch else "plain", settings.threads if by_torch else 1, len(self.order)
        )
        """How instructions are executed while somebody watches."""
        self.execution = self._native.execution if self._native else self.one_by_one
        """The tier that was chosen, and what it leaves to the plain one."""

    def _translate(self, settings: Settings) -> Native | None:
        try:
            return tiers.native(
                self.program,
                self.order,
                self.machine,
                strict=settings.strict,
                threads=settings.threads,
            )
        except CompileError as problem:
            record = problem.records[0]
            if settings.asked == "compiled" or record.code is not Code.TIER:
                raise
            warn(record.code, record.rule, found=record.found, remedy=record.remedy)
            return None

    def run(self) -> None:
        """Executes everything, with the inputs in their places."""
        if self._native:
            self._native.run(self._between)
            return
        machine, done = self.machine, 0
        try:
            for execute, values in self._actions:
                execute(machine, values)
                done += 1
        except Exception as problem:
            raise self._fault(done, problem) from problem

    def run_observed(self, observe: Observer | None, tensors: bool) -> dict[str, Array]:
        """Executes everything by definition; gives the tensors that are asked for."""
        kept: dict[str, Array] = {}
        for step in self.steps():
            if tensors:
                kept |= {b.name: self.read(b) for b in self.tensors_after(step.index)}
            if observe:
                observe(step)
        return kept

    def steps(self) -> Iterator[Step]:
        """Executes by definition, one instruction at a time as the next step is asked for."""
        for position, number in enumerate(self.order):
            index, instruction = self.program.executed[number]
            self._execute(position, self._actions[position])
            yield Step(number, index, instruction, self.program.debug[index], self.machine)

    def tensors_after(self, index: int) -> Sequence[Binding]:
        """The tensors of the model that are complete once instruction `index` has run."""
        return self._tensors_by_index.get(index, ())

    def read(self, binding: Binding) -> Array:
        """A copy of the tensor at a binding, in its shape."""
        return self.machine.view(binding.operand).reshape(binding.shape).copy()

    @cached_property
    def _actions(self) -> list[Action]:
        """The instructions in the order of execution, with their fields at hand."""
        return [self._action(position) for position in range(len(self.order))]

    def _action(self, position: int) -> Action:
        instruction, values = tiers.rows(self.program)[self.order[position]]
        return instruction.execute, values

    def _between(self, position: int) -> None:
        """Executes one of the few instructions that have no native code."""
        action = self._few.get(position)
        if action is None:
            action = self._few[position] = self._action(position)
        self._execute(position, action)

    def _execute(self, position: int, action: Action) -> None:
        execute, values = action
        try:
            execute(self.machine, values)
        except Exception as problem:
            raise self._fault(position, problem) from problem

    @cached_property
    def _tensors_by_index(self) -> Mapping[int, list[Binding]]:
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
