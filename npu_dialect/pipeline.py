"""The driver: runs a pipeline string pass by pass and verifies after each.

A pipeline string is what `npu-opt -p` takes: `graph-fuse,tile-map{budget=3}`. A pass that fails
leaves a reproducer, and the error says how to run it.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from time import perf_counter
from typing import TextIO

from xdsl.context import Context
from xdsl.dialects.builtin import ModuleOp
from xdsl.ir import Operation
from xdsl.passes import ModulePass
from xdsl.utils.arg_spec import ArgSpec, parse_pipeline
from xdsl.utils.exceptions import ArgSpecParseError, VerifyException

from npu_dialect import provenance, reproducer, text, universe
from npu_dialect.collector import rarely_collecting
from npu_dialect.diagnostics import Code, CompileError, Diagnostic, error
from npu_dialect.snapshot import Snapshot

Progress = Callable[[str, int, int], None]
"""Called before each pass with its spec, its index and the number of passes."""


@dataclass(frozen=True)
class Options:
    """What the driver does beside running the passes."""

    verify_each: bool = True
    """Verify after every pass that changed something: xDSL's verifier, SSA order, provenance."""
    print_before: tuple[str, ...] = ()
    print_after: tuple[str, ...] = ()
    print_after_all: bool = False
    print_to: TextIO | None = None
    """Where the IR between passes goes; standard error when None."""
    reproducer: Path | None = Path("npu-reproducer")
    """The folder for what reproduces a failing pass; None writes none."""
    progress: Progress | None = None


DEFAULT_OPTIONS = Options()


@dataclass(frozen=True)
class PassRun:
    """One pass that ran: its spec in `-p` syntax, its time in seconds, the operations it left."""

    spec: str
    seconds: float
    operations: int


class PassDefectError(Exception):
    """A defect of a pass: it raised what is no CompileError, or left IR that does not verify."""

    def __init__(self, spec: str, cause: BaseException) -> None:
        super().__init__(spec, cause)
        self.spec = spec
        self.cause = cause


def parse(spec: str) -> tuple[ModulePass, ...]:
    """The passes that a pipeline string names. Raises CompileError (NPU0005, NPU0006)."""
    try:
        specs = tuple(parse_pipeline(spec))
    except ArgSpecParseError as problem:
        raise error(
            Code.PIPELINE_SYNTAX,
            "must be a pipeline such as pass-a,pass-b{option=1}",
            found=repr(spec),
            source="-p",
        ) from problem
    return tuple(map(_instance, specs))


def spell(passes: Sequence[ModulePass]) -> str:
    """The pipeline string of some passes: the inverse of `parse`."""
    return ",".join(str(p) for p in passes)


@rarely_collecting()
def run(
    module: ModuleOp,
    spec: str,
    context: Context | None = None,
    options: Options = DEFAULT_OPTIONS,
    *,
    verified: bool = False,
) -> list[PassRun]:
    """Run a pipeline on a module, in place. `verified` says that the module verifies already.

    Raises CompileError for what is wrong with the input, and CompileError (NPU0901) where a pass
    itself fails, after writing a reproducer.
    """
    passes = parse(spec)
    context = context or universe.NpuContext()
    if options.verify_each and not verified:
        verify(module)
    start = module.clone() if options.reproducer and passes else None
    snapshot = Snapshot.of(module)
    runs: list[PassRun] = []
    for index, each in enumerate(passes):
        if options.progress:
            options.progress(str(each), index, len(passes))
        try:
            seconds = _run_one(module, each, context, options)
            before, snapshot = snapshot, Snapshot.of(module)
            if options.verify_each and snapshot != before:
                _verify_after(module, each)
        except PassDefectError as defect:
            raise _crash(defect, start, passes, index, context, options) from defect.cause
        runs.append(PassRun(str(each), seconds, snapshot.operations))
    return runs


def verify(module: ModuleOp) -> None:
    """Check all that holds between passes: the rules of each operation, SSA order, states,
    provenance.

    Raises CompileError (NPU0202, NPU0203, NPU0204).
    """
    from npu_dialect.graph import states
    from npu_dialect.passes import verify_ssa_order

    try:
        module.verify()
    except (VerifyException, ValueError) as problem:
        raise _verify_error(module, problem) from problem
    verify_ssa_order.check(module)
    states.check(module)
    provenance.check(module)


def _instance(spec: ArgSpec) -> ModulePass:
    try:
        cls = universe.pass_class(spec.name)
    except KeyError:
        raise _unknown_pass(spec.name) from None
    try:
        return cls.from_spec(spec)
    except ValueError as problem:
        known = [f.name for f in fields(cls) if f.name != "name"]
        unknown = [name for name in spec.parameters if name.replace("-", "_") not in known]
        raise error(
            Code.PIPELINE_SYNTAX,
            f"must be given options that it has ({', '.join(known) or 'none'}), of their types",
            found=", ".join(unknown) or problem,
            source=spec.name,
        ) from problem


def _unknown_pass(name: str) -> CompileError:
    from difflib import get_close_matches

    near = get_close_matches(name, universe.pass_names(), n=3, cutoff=0.5)
    return error(
        Code.PASS_UNKNOWN,
        "a pipeline must name registered passes",
        found=repr(name),
        remedy=f"{' or '.join(near)}" if near else "npu-opt --list-passes to see them",
        source="-p",
    )


def _run_one(module: ModuleOp, each: ModulePass, context: Context, options: Options) -> float:
    """Runs a pass; the seconds that it took."""
    if each.name in options.print_before:
        _print_ir(module, f"before {each}", options)
    began = perf_counter()
    try:
        each.apply(context, module)
    except CompileError:
        raise
    except Exception as problem:
        raise PassDefectError(str(each), problem) from problem
    seconds = perf_counter() - began
    if options.print_after_all or each.name in options.print_after:
        _print_ir(module, f"after {each}", options)
    return seconds


def _verify_after(module: ModuleOp, each: ModulePass) -> None:
    try:
        verify(module)
    except CompileError as problem:
        if each.name.startswith("verify"):
            raise
        raise PassDefectError(str(each), problem) from problem


def _print_ir(module: ModuleOp, when: str, options: Options) -> None:
    stream = options.print_to or sys.stderr
    stream.write(f"// ----- IR {when} -----\n{text.to_text(module)}")


def _verify_error(module: ModuleOp, problem: Exception) -> CompileError:
    culprit = _first_invalid(module)
    rule = str(problem).strip().splitlines()[0] if str(problem).strip() else type(problem).__name__
    return error(
        Code.IR_INVALID,
        f"{culprit.name} must satisfy the rules of its dialect",
        found=rule,
        source=culprit,
    )


def _first_invalid(module: ModuleOp) -> Operation:
    for op in module.walk():
        try:
            op.verify(verify_nested_ops=False)
        except (VerifyException, ValueError):
            return op
    return module


def _crash(
    defect: PassDefectError,
    start: ModuleOp | None,
    passes: Sequence[ModulePass],
    index: int,
    context: Context,
    options: Options,
) -> CompileError:
    command = "the same command with --reproducer DIR"
    if start is not None and options.reproducer is not None:
        module, first = _before_failure(start, passes, index, context)
        try:
            spec = spell(passes[first:])
            command = reproducer.write(options.reproducer, module, spec, defect.cause)
        except Exception as problem:  # the failing pass matters more than a full disk
            command = f"{command} (not written: {reproducer.one_line(problem)})"
    return CompileError(
        Diagnostic(
            Code.CRASH,
            "the pass must not fail on IR that verifies",
            found=reproducer.one_line(defect.cause),
            remedy=f"{command} to see it alone, and report it",
            source=defect.spec,
        )
    )


def _before_failure(
    start: ModuleOp, passes: Sequence[ModulePass], index: int, context: Context
) -> tuple[ModuleOp, int]:
    """The module just before the failing pass, by replay, and the index of that pass."""
    module = start.clone()
    try:
        for each in passes[:index]:
            each.apply(context, module)
    except Exception:  # the replay took another course: give the whole story instead
        return start, 0
    return module, index
