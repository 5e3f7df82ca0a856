"""The functional simulator: runs the decoded binary of a program, bit exact, in any order that its
waits permit.

    run = simulate(program, {"image": x})

    session = Session(program)                # keeps the machine and its constants, for many inputs
    for x in images:
        run = session.run({"image": x})
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property

import numpy as np

from npu_dialect.diagnostics import Code, error
from npu_dialect.machine import Array
from npu_dialect.ports import Inputs, bind
from npu_dialect.runtime import profile, tiers
from npu_dialect.runtime.execution import Execution
from npu_dialect.runtime.executor import Executor, Observer, Settings, Step
from npu_dialect.runtime.program import MAIN, Binding, Constant, Program
from npu_dialect.runtime.run import Run
from npu_dialect.runtime.states import States
from npu_dialect.runtime.tiers import TIERS

__all__ = ["TIERS", "Observer", "Run", "Session", "Step", "simulate"]


def simulate(
    program: Program,
    inputs: Inputs,
    seed: int | None = None,
    trace: bool = False,
    *,
    entry: str | None = None,
    state: Mapping[str, Array] | None = None,
    tier: str = "auto",
    strict: bool = False,
    threads: int = 1,
    order: str | None = None,
    tensors: bool = False,
    observe: Observer | None = None,
) -> Run:
    """Run an entry of a program once. `inputs` are arrays by name, or in order, or the only one.

    States start from their initial content, or from `state`, contents by name; `Run.state` is what
    the run leaves. The order of execution is that of the program; with `seed` a random one that the
    waits permit; or `order` (`schedule.POLICIES`). `trace` puts every instruction's times into the
    report, `tensors` keeps the intermediate tensors that the program names. `tier`, `strict` and
    `threads` are those of `Session`; but `auto` is the plain tier until what the program's single
    runs have had to do exceeds `tiers.WORTHWHILE`: before, they are done sooner than a translation
    is. That is the first run of ResNet-18 in floats, or the third in int8.

    Raises CompileError (NPU0004, NPU0007, NPU0501 to NPU0507, NPU0604).
    """
    entry = entry or program.entry_for(inputs)
    if tier == "auto":
        tier = "plain" if tensors or observe else tiers.for_runs(program.entry(entry))
    session = Session(program, tier=tier, strict=strict, threads=threads, order=order, seed=seed)
    session.set_initial(state or {})
    run = session.run(inputs, entry=entry, trace=trace, tensors=tensors, observe=observe)
    return replace(run, state=dict(session.state))


class Session:
    """A machine that holds a program's constants and states, ready for one input after the other.

    `tier` is one of `TIERS`: all give the same bits (but NaNs, which are all alike). `auto` is the
    compiled tier where llvmlite is installed and its code passes a self-test on this processor,
    else the plain one, and a remark says why. The translation is made here, or for a program with
    several entries when an entry first runs; it is kept as long as the program for its next
    session. With `strict` the compiled tier takes nothing for granted: it runs every copy, and
    reads constants where they lie. `threads` share the work of each instruction in the compiled
    tier, and in torch, where they are those of the process.

    States have their initial content at first and keep what a run leaves for the next one, of
    whichever entry. Other memory that the program has not written holds a pattern at first, and
    what earlier runs left later on. One thread may use a session at a time; several sessions run at
    once in several threads, and native code holds no lock that keeps Python from running.
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
        self._settings = Settings(tiers.choose(tier), tier, strict, threads, policy, seed)
        self.machine = tiers.machine(program, self._settings.tier, threads)
        self._write_constants(program.constants)
        self.state = States(program.states, self.machine)
        """The contents of the states by name: to read, and to set."""
        self.reset()
        self._clean = True
        self._executors: dict[str, Executor] = {}
        self._latest: str | None = None
        if len(program.entries) == 1:
            self.executor()

    def executor(self, entry: str | None = None) -> Executor:
        """What runs an entry (default: the only one, or `main`). Raises CompileError (NPU0507)."""
        name = self.program.entry_name(entry)
        if name not in self._executors:
            alone = self.program.entry(name)
            self._executors[name] = Executor(alone, self.machine, self._settings)
        return self._executors[name]

    @property
    def order(self) -> Sequence[int]:
        """The order in which instructions are executed, by their places in `Program.executed`."""
        return self.executor(self._latest).order

    @property
    def execution(self) -> Execution:
        """The tier that was chosen, and what it leaves to the plain one: in the entry of the latest
        run; before, in the only one or `main`. Raises CompileError (NPU0507) before the first run
        where there is none, as `executor(entry)` then has it.
        """
        return self.executor(self._latest).execution

    @property
    def tier(self) -> str:
        """compiled, torch or plain: that of `execution`, or the one chosen for all entries."""
        entries = self.program.entries
        is_known = self._latest or len(entries) == 1 or MAIN in entries
        return self.execution.tier if is_known else self._settings.tier

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
        entry: str | None = None,
        trace: bool = False,
        tensors: bool = False,
        observe: Observer | None = None,
    ) -> Run:
        """Run an entry of the program (default: the only one, `main`, or the one that the inputs
        fit) on one input.

        A run that is observed or keeps tensors takes the plain tier, on the same memories. States
        keep what the run leaves; a run that fails may leave them half updated. Raises CompileError
        (NPU0501 to NPU0503, NPU0505, NPU0507).
        """
        executor = self._begin(inputs, entry)
        program = executor.program
        watched = tensors or observe is not None
        kept: dict[str, Array] = {}
        if watched:
            kept = executor.run_observed(observe, tensors)
        else:
            executor.run()
        outputs = {b.name: self.read(b) for b in program.outputs}
        execution = executor.one_by_one if watched else executor.execution
        profiled = profile.of(program)
        return Run(outputs, profiled, tensors=kept, trace=trace, execution=execution)

    def steps(self, inputs: Inputs, *, entry: str | None = None) -> Iterator[Step]:
        """A run in which each instruction is executed, by definition, when its step is asked for.

        One that is not gone through to the end leaves states half updated. Raises as `run`.
        """
        return self._begin(inputs, entry).steps()

    def _begin(self, inputs: Inputs, entry: str | None) -> Executor:
        """What runs an entry, with the inputs in their places."""
        name = self.program.entry_name(entry or self.program.entry_for(inputs))
        executor = self.executor(name)
        program = executor.program
        arrays = bind(program.inputs, inputs)
        self._latest = name
        if not self._clean:
            self._write_constants(self._at_risk)
        self._clean = False
        for binding, array in zip(program.inputs, arrays, strict=True):
            np.copyto(self.machine.view(binding.operand), array.reshape(binding.operand.dims))
        return executor

    def reset(self, *names: str) -> None:
        """Give these states, or all, the content that they have before the first run."""
        self.state.reset(names)

    def set_initial(self, contents: Mapping[str, Array]) -> None:
        """Contents for `reset` to give states, by name, instead of those of the program; they have
        them from now on. Raises CompileError (NPU0501 to NPU0503).
        """
        self.state.set_initial(contents)

    def stream(self, samples: Iterable[Inputs], *, entry: str | None = None) -> Iterator[Run]:
        """The runs of one input after the other, as steps of one stream: states are kept. Each is
        run when it is asked for; `stream.map_inputs` does so with several sessions.
        """
        return (self.run(sample, entry=entry) for sample in samples)

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
        """The constants that an entry or an input may overwrite."""
        entries = [self.program.entry(name) for name in self.program.entries]
        written = [
            o for e in entries for _, op in e.executed for o in op.writes() if o.space == "dram"
        ]
        given = [b.operand for e in entries for b in e.inputs]
        intervals = {o.interval for o in (*written, *given)}
        return [
            c
            for c in self.program.constants
            if any(low < c.end and c.address < high for low, high in intervals)
        ]
