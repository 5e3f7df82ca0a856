"""Cascades that the user pins: the overrides of layers, checked, as options of the plan.

    ["conv1"]
    cascade = { number = 0, rows = 4 }
    weights = "held"

    ["conv2"]
    cascade = { number = 0, rows = 4 }

The groups of a number must be a run that may be a cascade. What is left open (`held`, `input_held`)
is the least that works; weights are held unless they are pinned otherwise.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, cast

from xdsl.dialects.builtin import DictionaryAttr, IntegerAttr, StringAttr
from xdsl.ir import Attribute, SSAValue

from npu_dialect import overrides
from npu_dialect.diagnostics import Code, CompileError, error
from npu_dialect.passes.mapping.cascades import Member, Option, Run, with_input
from npu_dialect.passes.mapping.footprint import exact
from npu_dialect.passes.mapping.geometry import Geometry
from npu_dialect.passes.mapping.groups import Group
from npu_dialect.passes.mapping.parts import clipped, part
from npu_dialect.passes.mapping.problems import constant_bytes
from npu_dialect.passes.mapping.scatter import Scatter
from npu_dialect.passes.mapping.stripes import (
    Source,
    fits,
    held_inputs,
    held_results,
    rows_of,
    stripes_of,
)
from npu_dialect.passes.mapping.work import ENGINES

TILE_ROOMS = (4, 16, 64, 256)
"""The room for tiles within a stripe, as parts of the scratchpad: the greatest that fits."""


@dataclass(frozen=True)
class Pinned:
    """A cascade of the groups [first, stop) of a function, as the user wants it."""

    first: int
    stop: int
    rows: int
    weights: tuple[bool, ...]
    """Whether each group's constants are held."""
    held: tuple[int | None, ...]
    most: tuple[int | None, ...]
    input_held: tuple[int | None, ...]


def pinned_cascades(groups: Sequence[Group]) -> list[Pinned]:
    """The cascades that are pinned, in program order. Raises CompileError (NPU0004) for groups that
    are no cascade, or that disagree.
    """
    members: dict[int, list[int]] = {}
    for number, group in enumerate(groups):
        pin = overrides.pins(group.op).get("cascade")
        if isinstance(pin, DictionaryAttr) and group.kind in ("array", "vector"):
            members.setdefault(_integer(pin.data.get("number")) or 0, []).append(number)
    return [_pinned(groups, numbers) for numbers in members.values()]


def _pinned(groups: Sequence[Group], numbers: Sequence[int]) -> Pinned:
    run = [groups[k] for k in numbers]
    reason = fits(run)
    if reason is not None:
        raise _refuse(run[0], "layers of a cascade must be executable in stripes", reason)
    rows = {_rows(group) for group in run}
    total = rows_of(run[-1])
    assert total is not None
    (most, *others) = sorted(rows)
    if others or not 1 <= most <= total:
        rule = f"layers of a cascade must have the same rows, 1 to {total} of {run[-1].name}"
        raise _refuse(run[0], rule, " and ".join(map(str, sorted(rows))))
    pins = [overrides.pins(g.op) for g in run]
    return Pinned(
        numbers[0],
        numbers[-1] + 1,
        most,
        tuple(p.get("weights") != StringAttr("stripe") for p in pins),
        tuple(_integer(p.get("held")) for p in pins),
        tuple(_integer(p.get("rows")) for p in pins),
        tuple(_integer(p.get("input_held")) for p in pins),
    )


def _rows(group: Group) -> int:
    pin = overrides.pins(group.op)["cascade"]
    assert isinstance(pin, DictionaryAttr)
    return _integer(pin.data.get("rows")) or 0


def _integer(attribute: Attribute | None) -> int | None:
    if not isinstance(attribute, IntegerAttr):
        return None
    return cast(IntegerAttr[Any], attribute).value.data


def _refuse(group: Group, rule: str, found: object) -> CompileError:
    remedy = "other layers in the overrides file, or leaving the cascade to the compiler"
    return error(Code.OPTION, rule, found=found, remedy=remedy, source=group.op)


def pinned_option(
    run: Run, pin: Pinned, resident: frozenset[SSAValue], stays: Sequence[bool]
) -> Option | None:
    """The run as the user wants it; None where it does not fit the scratchpad."""
    geometry = _geometry(run, pin)
    spm = run.works.target.memories["spm"].size
    sources = {k: s for k, s in run.holdable(resident).items() if pin.input_held[k]}
    near = run.near(resident, stays, [s.value for s in sources.values()])
    for room in (spm // divisor for divisor in TILE_ROOMS):
        members: list[Member] = []
        for k in range(len(run.groups)):
            out = stays[k] if run.leaves[k] else True
            member = _member(run, pin, geometry, k, near[k], out, room, sources.get(k))
            members += [] if member is None else [member]
        if len(members) == len(run.groups):
            option = Option(run.first, pin.rows, tuple(members), run.total(members, geometry))
            option = exact(run, option, resident, stays)
            if option.work.used <= spm:
                return option
    return None


def _geometry(run: Run, pin: Pinned) -> Geometry:
    """Rows of the largest piece of each group after the first stripe, and what is held."""
    stripes = stripes_of(run.flow, pin.rows, pin.most)
    rows = [1] * len(run.groups)
    for stripe in stripes[1:] or stripes:
        for piece in stripe:
            rows[piece.group] = max(rows[piece.group], piece.rows)
    pieces = list(chain.from_iterable(stripes))
    least, inputs = held_results(run.flow, pieces), held_inputs(run.flow, pieces)
    held = [h or most for h, most in zip(pin.held, least, strict=True)]
    return Geometry(pin.rows, tuple(rows), tuple(held), len(stripes), pin.most, inputs)


def _member(
    run: Run,
    pin: Pinned,
    geometry: Geometry,
    k: int,
    near: frozenset[SSAValue],
    out: bool,
    room: int,
    source: Source | None,
) -> Member | None:
    works, group, rows = run.works, run.groups[k], geometry.stripe[k]
    p = works.problem(run.first + k, near, out)
    assert p is not None and not isinstance(p, Scatter)
    start = (run.flow.rows[k] - rows) // 2
    sources = {} if source is None else {k: source}
    buffered = run.is_buffered(k, sources)
    some: Any = part(p, group, start, start + rows, pin.weights[k], buffered)  # pyright: ignore[reportArgumentType]
    mapping = works.pinned.get(group.op)
    if mapping is None:
        work = works.mapped(ENGINES[group.kind], some, room)
    else:
        work = works.with_mapping(group, some, clipped(mapping, some))  # type: ignore[type-var]
    if work is None:
        return None
    weights = constant_bytes(p) if pin.weights[k] else 0
    held = None if run.leaves[k] else geometry.held[k]
    member = run.member(k, geometry, work, held, weights, None)
    rows_held = pin.input_held[k]
    if source is None or rows_held is None:
        return member
    return with_input(member, source, rows_held)
