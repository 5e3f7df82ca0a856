"""The tiers of the simulator: ways to execute instructions that give the same bits.

    plain      every instruction by its definition, with numpy
    torch      the same, with the products of integers by torch
    compiled   native code, which LLVM makes for the program (npu-dialect[jit])
    auto       compiled where that is available, else plain

What has no native code runs in the plain tier in between; `Execution.fallbacks` says what, and why.
llvmlite and torch are imported by the tiers that use them, and by nothing else.
"""

from __future__ import annotations

import importlib
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any, Literal, get_args
from weakref import WeakKeyDictionary

import numpy as np

from npu_dialect.cost import Cost
from npu_dialect.diagnostics import Code, CompileError, Diagnostic, error, remark
from npu_dialect.dtypes import BY_NAME
from npu_dialect.machine import Machine
from npu_dialect.npu.base import Instruction, Values
from npu_dialect.npu.consistency import mistakes, out_of_bounds
from npu_dialect.npu.copies import DmaCopyOp
from npu_dialect.runtime.execution import Execution
from npu_dialect.runtime.program import Program

if TYPE_CHECKING:
    from npu_dialect.runtime.compiled.host import Host
    from npu_dialect.runtime.compiled.translate import Translation

Tier = Literal["auto", "compiled", "torch", "plain"]
TIERS: tuple[Tier, ...] = get_args(Tier)
"""What `tier` may be."""

WORTHWHILE = 4_000_000_000
"""The `work` from which a translation has paid, even for a single run.

Processor time of a new process with compiled routines on disk (one core, AVX2): the tier takes
0.3 s to start, and about 0.3 ms per instruction to translate. ResNet-18 in int8 (work 1.9e9) took
0.65 s compiled and 0.36 s plain, MobileNetV2 in int8 (0.35e9) 0.62 and 0.35 s, ResNet-18 in float
(7.5e9) 0.50 and 1.39 s.
"""

FLOAT_WORK = 4
"""A multiply-accumulate of floats takes the plain tier that many times as long as one of integers:
it adds in a stated order.
"""

INSTRUCTION_WORK = 100_000
"""What an instruction takes the plain tier whatever its size, in the same unit: 20 to 40 µs, where
a multiply-accumulate of integers in a large product takes 0.2 ns. A recurrent network of 352 small
instructions takes 11 ms a run.
"""


# --- choosing -------------------------------------------------------------------------------------


def choose(tier: str) -> Tier:
    """The tier that is used where `tier` is asked for. For `auto`, a remark says why the compiled
    one is not available. Raises CompileError (NPU0004, NPU0007, NPU0506).
    """
    if tier == "auto":
        problem = unavailable("compiled")
        if problem is None:
            return "compiled"
        remark(
            problem.code,
            problem.rule,
            found=problem.found,
            remedy=problem.remedy,
            source=problem.source,
        )
        return "plain"
    if tier not in TIERS:
        rule = f"a tier must be one of {', '.join(TIERS)}"
        raise error(Code.OPTION, rule, found=tier, source="tier")
    problem = unavailable(tier)
    if problem is not None:
        raise CompileError(problem)
    return tier


def for_runs(program: Program, count: int = 1) -> str:
    """What `auto` means for some more runs of a program by sessions that end with them: `plain`,
    until all such runs together do the work of `WORTHWHILE`.
    """
    if mistake(program):
        return "plain"
    known = _facts(program)
    known.work += count * work(program)
    return "auto" if known.work >= WORTHWHILE else "plain"


def work(program: Program) -> int:
    """How much a run has to do: multiply-accumulates, those of floats times `FLOAT_WORK`, bytes
    that instructions read and write, and `INSTRUCTION_WORK` for each instruction.
    """
    return sum(INSTRUCTION_WORK + _work(cost) for cost in program.profile.costs)


def _work(cost: Cost) -> int:
    factor = FLOAT_WORK if cost.macs and BY_NAME[cost.mac_type].is_float else 1
    return factor * cost.macs + sum(cost.reads.values()) + sum(cost.writes.values())


def unavailable(tier: str) -> Diagnostic | None:
    """Why a tier cannot be used here; None where it can. Raises CompileError (NPU0004) for an
    environment that names no host.
    """
    if tier == "compiled":
        return _compiled_problem()
    return _torch_problem() if tier == "torch" else None


def _compiled_problem() -> Diagnostic | None:
    try:
        importlib.import_module("npu_dialect.runtime.compiled.llvm")
    except (ImportError, OSError, RuntimeError) as problem:
        return _missing("compiled", "llvmlite", problem, "pip install 'npu-dialect[jit]'")
    found = _self_test()
    return None if found is None else _wrong("compiled", found)


def _self_test() -> str | None:
    """What native code gets wrong on this processor; None where it can be trusted."""
    from npu_dialect.runtime.compiled import selftest
    from npu_dialect.runtime.compiled.host import detect

    host = detect()
    return None if selftest.trusted(host) else selftest.run(host)


@cache
def _torch_problem() -> Diagnostic | None:
    try:
        from npu_dialect.functional.torch_products import TorchProducts

        TorchProducts(None)
    except (ImportError, OSError) as problem:
        return _missing("torch", "torch", problem, "pip install 'npu-dialect[torch]'")
    except ArithmeticError as problem:
        return _wrong("torch", f"{problem}")
    return None


def _wrong(tier: str, found: str) -> Diagnostic:
    return Diagnostic(
        Code.TIER,
        "the tier must pass its self-test on this processor",
        found=found,
        remedy="the tier plain",
        source=f"tier {tier}",
    )


def _missing(tier: str, package: str, problem: Exception, remedy: str) -> Diagnostic:
    return Diagnostic(
        Code.PACKAGE_MISSING,
        f"{package} must be installed",
        found=str(problem).partition("\n")[0],
        remedy=remedy,
        source=f"tier {tier}",
    )


# --- the machine ----------------------------------------------------------------------------------


def machine(program: Program, tier: Tier, threads: int) -> Machine:
    """A machine that executes a program's instructions in a tier. With torch, `threads` are those
    of the whole process.
    """
    from npu_dialect.runtime import host

    made = Machine(
        program.machine, program.dram_size, program.kernels, host.functions(program.host)
    )
    if tier == "torch":
        from npu_dialect.functional.torch_products import TorchProducts

        made.products = TorchProducts(threads)
    return made


# --- native code ----------------------------------------------------------------------------------


def native(
    program: Program, order: Sequence[int], machine: Machine, *, strict: bool, threads: int
) -> Native | None:
    """The program as native code on a machine; None where it has an instruction that no machine can
    execute. Raises CompileError (NPU0506) where the translation fails.
    """
    if found := mistake(program):
        remark(
            Code.TIER,
            "every instruction must be one that the machine can execute, to become native code",
            found=f"one that {found}",
            source="tier compiled",
        )
        return None
    try:
        return Native(program, order, machine, strict=strict, threads=threads)
    except CompileError:
        raise
    except Exception as problem:
        raise error(
            Code.TIER,
            "the compiled tier must be able to translate the program, and cannot: a defect",
            found=f"{type(problem).__name__}: {problem}",
            remedy="the tier plain, and report it",
            source="tier compiled",
        ) from problem


class Native:
    """A program, translated in the order of execution and bound to a machine."""

    def __init__(
        self,
        program: Program,
        order: Sequence[int],
        machine: Machine,
        *,
        strict: bool,
        threads: int,
    ) -> None:
        from npu_dialect.runtime.compiled.host import detect
        from npu_dialect.runtime.compiled.runner import Runner

        host = detect()
        with _compiling:
            made = _translation(program, order, host, strict)
            self._runner = Runner(made, machine, host, threads)
        self.execution = Execution(
            "compiled", threads, len(order), made.native, made.elided, made.fallbacks
        )

    def run(self, plain: Callable[[int], None]) -> None:
        """Run everything; `plain` executes the instruction at a position of the order."""
        self._runner.run(plain)


Row = tuple[Instruction, Values]


@dataclass
class _Known:
    """What is known of a program, for all its sessions."""

    rows: list[Row]
    """What is executed, in program order, each instruction with its fields."""
    mistake: str | None = None
    """See `mistake`; None before it is looked for."""
    work: int = 0
    """What its runs by short-lived sessions have done."""
    translations: dict[Any, Translation] = field(default_factory=dict[Any, Any])


_known: WeakKeyDictionary[Program, _Known] = WeakKeyDictionary()
_compiling = threading.Lock()


def mistake(program: Program) -> str:
    """What makes an instruction of a program unfit for native code, which checks nothing; empty
    where all are fit. The plain tier stops at such an instruction.
    """
    known = _facts(program)
    if known.mistake is None:
        known.mistake = next(_mistakes(program, known.rows), "")
    return known.mistake


def rows(program: Program) -> Sequence[Row]:
    """The instructions that a program executes, in its order, with their fields at hand."""
    return _facts(program).rows


def _facts(program: Program) -> _Known:
    found = _known.get(program)
    if found is None:
        decoded = [(op, op.values()) for _, op in program.executed]
        found = _known.setdefault(program, _Known(decoded))
    return found


def _mistakes(program: Program, decoded: Sequence[Row]) -> Iterator[str]:
    sizes = {name: memory.size for name, memory in program.machine.memories.items()}
    sizes["dram"] = program.dram_size
    for instruction, values in decoded:
        yield from mistakes(instruction, values, program.kernels, len(program.host.names))
        if isinstance(instruction, DmaCopyOp):
            source, destination = values["source"], values["destination"]
            if source.dims != destination.dims or source.dtype != destination.dtype:
                yield "must copy between blocks of the same type and extents"
        for _, _, operand in instruction.places():
            if found := out_of_bounds(operand, sizes):
                yield found


def _translation(program: Program, order: Sequence[int], host: Host, strict: bool) -> Translation:
    """The translation of a program; that of the program's own order is kept as long as it."""
    kept, key = _facts(program).translations, (host, strict)
    if isinstance(order, range) and key in kept:
        return kept[key]
    made = _translate(program, order, host, strict)
    if isinstance(order, range):
        kept[key] = made
    return made


def _translate(program: Program, order: Sequence[int], host: Host, strict: bool) -> Translation:
    from npu_dialect.runtime.compiled import emitters
    from npu_dialect.runtime.compiled.constants import Constants
    from npu_dialect.runtime.compiled.translate import translate
    from npu_dialect.runtime.host import kernels

    emitters.register()
    decoded = rows(program)
    ordered = [decoded[i] for i in order]
    elementwise = kernels(program.host)
    if strict:
        return translate(ordered, program.kernels, host, None, elementwise)
    constants = Constants(program.machine, program.dram_size)
    for c in program.constants:
        constants.hold(c.address, c.array.reshape(-1).view(np.uint8))
    for b in (*program.inputs, *program.states):
        constants.forget(b.operand)
    return translate(ordered, program.kernels, host, constants, elementwise)
