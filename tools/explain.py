"""Why each operation runs where it does: the text of `npu-compile --explain` and `--strict`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import TYPE_CHECKING

from npu_dialect.diagnostics import Code, CompileError, Diagnostic
from npu_dialect.runtime.quantities import short, shorts
from npu_dialect.tools.columns import aligned

if TYPE_CHECKING:
    from xdsl.dialects.builtin import ModuleOp

    from npu_dialect.runtime.program import PlacedOp, Program

MAX_NAMES = 8
"""Operations that the line of a cause names."""

MAX_NAME = 60
"""Characters of a name there."""

MAX_KINDS = 3
"""Kinds of operations that a line of the table names."""

CONSEQUENCE = "moves-among-host"
"""The rule of what runs on the host only because its neighbours do."""

FLOATS = ("f16", "bf16", "f32", "f64")

Elsewhere = Callable[["PlacedOp"], Sequence[str]]
"""The other targets that need no host for an operation."""


@dataclass(frozen=True)
class Trip:
    """Going to the host and back for some layers: the host's tasks and the bytes they touch."""

    calls: int = 0
    cycles: int = 0
    read: int = 0
    written: int = 0

    def __add__(self, other: Trip) -> Trip:
        return Trip(
            self.calls + other.calls, self.cycles + other.cycles,
            self.read + other.read, self.written + other.written,
        )  # fmt: skip

    def __str__(self) -> str:
        calls = f"{self.calls:,} call{'s' if self.calls != 1 else ''}"
        return (f"{calls} of the host, {self.cycles:,} cycles, "
                f"{self.read:,} bytes read, {self.written:,} written")  # fmt: skip


@dataclass
class Cause:
    """A reason for which operations run on the host."""

    rule: str
    text: str
    """The rule in words."""
    found: str
    ops: list[PlacedOp] = field(default_factory=list["PlacedOp"])

    @property
    def sources(self) -> list[str]:
        """The nodes of the model."""
        return list(dict.fromkeys(op.source for op in self.ops))

    @property
    def layers(self) -> set[str]:
        """The layers of the program in which the host does them."""
        return {op.layer for op in self.ops}


def causes(program: Program) -> list[Cause]:
    """The causes for which operations run on the host, each with its operations.

    Rules that fail for floats where the target has none are one cause. What moves data among
    operations of the host belongs to the cause of its layer.
    """
    found: dict[tuple[str, str], Cause] = {}
    moves: list[PlacedOp] = []
    for op in program.placement:
        if op.engine == "host" and op.rule == CONSEQUENCE:
            moves.append(op)
        elif op.engine == "host":
            cause = _cause(op, program)
            found.setdefault((cause.rule, cause.found), cause).ops.append(op)
    for op in moves:
        cause = _cause_of_move(op, found.values()) or _cause(op, program)
        found.setdefault((cause.rule, cause.found), cause).ops.append(op)
    return list(found.values())


def _cause(op: PlacedOp, program: Program) -> Cause:
    text, _, found = op.reason.partition("; found ")
    kind = found.partition(", and ")[0].partition(" by ")[0]
    has_floats = any(name in FLOATS for name in program.machine.vector.lanes)
    if not has_floats and (kind in FLOATS or op.rule == "several-steps"):
        rule = "An operation on the accelerator must be one of integers"
        return Cause("floats", rule, f"floats, and {program.target} has none")
    return Cause(op.rule, text, found)


def _cause_of_move(op: PlacedOp, known: Iterable[Cause]) -> Cause | None:
    return next((cause for cause in known if op.layer in cause.layers), None)


def trips(program: Program) -> dict[str, Trip]:
    """What the host takes, by layer."""
    found: dict[str, Trip] = {}
    costs = program.profile.costs
    for cost, (number, op) in zip(costs, program.executed, strict=True):
        if op.engine == "host":
            layer = program.debug[number].layer
            trip = Trip(1, cost.cycles, cost.reads.get("dram", 0), cost.writes.get("dram", 0))
            found[layer] = found.get(layer, Trip()) + trip
    return found


def nowhere(op: PlacedOp) -> Sequence[str]:
    """No other target, where nobody looked."""
    return ()


def elsewhere(module: ModuleOp, program: Program) -> Elsewhere:
    """Finds the other targets on which operations of `module`, as it was imported, need no host."""
    from npu_dialect import api
    from npu_dialect.pipeline import Options
    from npu_dialect.target import target_names

    hosted: dict[str, set[str]] = {}
    for name in target_names():
        if name != program.target:
            other = module.clone()
            other.attributes.pop("npu.target", None)
            api.set_target(other, name)
            api.lower(other, "graph", options=Options(reproducer=None))
            hosted[name] = _hosted_sources(other)
    return lambda op: [name for name, sources in hosted.items() if op.source not in sources]


def _hosted_sources(module: ModuleOp) -> set[str]:
    from npu_dialect import provenance
    from npu_dialect.graph.attributes import PLACEMENT, PlacementAttr

    found: set[str] = set()
    for op in module.walk():
        placement = op.attributes.get(PLACEMENT)
        if isinstance(placement, PlacementAttr) and placement.data.engine == "host":
            found.update(provenance.sources(op))
    return found


# --- text -----------------------------------------------------------------------------------------


def report(program: Program, other: Elsewhere) -> Iterator[str]:
    """The lines of `--explain`."""
    yield from table(program.placement)
    yield ""
    yield _boundary(program)
    found = causes(program)
    if not found:
        yield "on the host: nothing"
        return
    spent = trips(program)
    yield f"on the host, in all {sum(spent.values(), Trip())}:"
    for cause in found:
        yield f"  {line(cause, spent, other)}"


def table(placement: Sequence[PlacedOp]) -> Iterator[str]:
    """A line for each operation, or for some in a row of which all but the kind is the same."""
    head = ("source", "operation", "engine", "cycles", "layer", "rule: reason")
    names = shorts(name for op in placement for name in (op.source, op.layer))
    rows = [
        (names[op.source], _kinds(ops), op.engine, f"{op.cycles:,}", names[op.layer],
         f"{op.rule}: {op.reason}")
        for op, ops in _alike(placement)
    ]  # fmt: skip
    yield from aligned([head, *rows], right=[head.index("cycles")])


def _alike(placement: Iterable[PlacedOp]) -> Iterator[tuple[PlacedOp, list[PlacedOp]]]:
    """Operations in a row that differ in their kind alone, with the first of them."""
    for _, group in groupby(placement, lambda op: (op.source, op.engine, op.layer, op.reason)):
        ops = list(group)
        yield ops[0], ops


def _kinds(ops: Sequence[PlacedOp]) -> str:
    kinds = list(dict.fromkeys(op.op for op in ops))
    more = f" and {len(kinds) - MAX_KINDS} more" if len(kinds) > MAX_KINDS else ""
    return ", ".join(kinds[:MAX_KINDS]) + more


def _boundary(program: Program) -> str:
    """What the engine `io` converts, which is no work of the host."""
    names = list(dict.fromkeys(op.source for op in program.placement if op.engine == "io"))
    cycles = sum(layer.busy.get("io", 0) for layer in program.profile.io)
    shown = f"{_names(names)}; {cycles:,} cycles, not counted" if names else "nothing"
    return f"conversion of inputs and outputs (io): {shown}"


def line(cause: Cause, spent: Mapping[str, Trip], other: Elsewhere) -> str:
    """A cause with its operations, what it costs and what would fix it."""
    trip = sum((spent.get(layer, Trip()) for layer in sorted(cause.layers)), Trip())
    parts = [f"{cause.rule}: {cause.text}"]
    parts += [f"found {cause.found}"] if cause.found else []
    count = len(cause.sources)
    parts += [f"{count} operation{'s' * (count > 1)}: {_names(cause.sources)}", str(trip)]
    parts += [f"try {fix}"] if (fix := remedy(cause, other)) else []
    return "; ".join(parts)


def remedy(cause: Cause, other: Elsewhere) -> str:
    """What would bring all operations of a cause to an accelerator."""
    from npu_dialect.passes.placement import remedies

    known = [remedies.remedy(cause.ops[0].rule, cause.found)]
    first, *rest = (other(op) for op in cause.ops)
    targets = [name for name in first if all(name in names for names in rest)]
    return ", or ".join([*filter(None, known), *(f"--target {name}" for name in targets)])


def _names(names: Sequence[str]) -> str:
    more = f" and {len(names) - MAX_NAMES} more" if len(names) > MAX_NAMES else ""
    return ", ".join(short(name, MAX_NAME) for name in names[:MAX_NAMES]) + more


# --- strict ---------------------------------------------------------------------------------------


def check_strict(program: Program, other: Elsewhere) -> None:
    """Raises CompileError (NPU0306), with one record for each cause, if the host has work."""
    found = causes(program)
    if found:
        raise CompileError(*(_record(cause, other) for cause in found))


def _record(cause: Cause, other: Elsewhere) -> Diagnostic:
    return Diagnostic(
        Code.HOST_NEEDED, f"{cause.rule}: {cause.text}", cause.found, remedy(cause, other),
        _names(cause.sources),
    )  # fmt: skip
