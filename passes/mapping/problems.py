"""The mapper's problem of any group: its kind decides which search it goes to."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from npu_dialect.passes.mapping import contraction as conv
from npu_dialect.passes.mapping import elementwise as vec
from npu_dialect.passes.mapping import scatter as rows
from npu_dialect.passes.mapping.contraction_problem import weight_bytes
from npu_dialect.passes.mapping.estimates import Estimate
from npu_dialect.passes.mapping.groups import (
    POOLS,
    SCATTER,
    Group,
    Resident,
    contraction,
    elementwise,
    pooling,
    scatter,
)
from npu_dialect.passes.mapping.tiles import Buffer, aligned
from npu_dialect.target import Target

AnyMapping = (
    conv.ContractionMapping | vec.ElementwiseMapping | vec.PoolingMapping | rows.ScatterMapping
)
Problem = conv.Contraction | vec.Elementwise | vec.Pooling | rows.Scatter


def problem(group: Group, resident: Resident, out_resident: bool) -> Problem | None:
    """The mapper's problem for a group, or None for one that needs no tiles."""
    if group.kind == "array":
        return contraction(group, resident, out_resident)
    if group.kind != "vector":
        return None
    if group.anchor is not None and group.anchor.name in POOLS:
        return pooling(group, resident, out_resident)
    if group.anchor is not None and group.anchor.name == SCATTER:
        return scatter(group, resident, out_resident)
    return elementwise(group, resident, out_resident)


@dataclass(frozen=True)
class Mapper:
    """What is known of one kind of problem."""

    search: Callable[..., tuple[AnyMapping, Estimate] | None]
    buffers: Callable[[Any, Any], list[Buffer]]
    estimate: Callable[[Target, Any, Any], Estimate]
    energy: Callable[[Target, Any, Any], float]


def _search_scatter(
    target: Target, p: rows.Scatter, capacity: int, objective: str
) -> tuple[AnyMapping, Estimate] | None:
    return rows.search(target, p, capacity)


MAPPERS: dict[type, Mapper] = {
    conv.Contraction: Mapper(conv.search, conv.buffers, conv.estimate, conv.energy_of),
    vec.Elementwise: Mapper(vec.search, vec.buffers, vec.estimate, vec.energy_of),
    vec.Pooling: Mapper(
        vec.search_pooling, vec.pooling_buffers, vec.pooling_estimate, vec.pooling_energy
    ),
    rows.Scatter: Mapper(_search_scatter, rows.buffers, rows.estimate, rows.energy_of),
}
"""The mapper of each kind."""


def search(
    target: Target,
    p: Problem,
    capacity: int,
    objective: str = "latency",
    streams: bool | None = None,
) -> tuple[AnyMapping, Estimate] | None:
    """The best mapping of any problem within `capacity` bytes of scratchpad. The tiles of a scatter
    are chosen by latency always; `streams` says for a contraction whether its instructions read
    constants from dram (None: what is better).
    """
    if streams is not None and isinstance(p, conv.Contraction):
        return conv.search(target, p, capacity, objective, streams)
    return MAPPERS[type(p)].search(target, p, capacity, objective)


def buffers_of(p: Problem, mapping: Any) -> list[Buffer]:
    """The buffers of any problem's mapping."""
    return MAPPERS[type(p)].buffers(p, mapping)


def estimate_of(target: Target, p: Problem, mapping: Any) -> Estimate:
    """What any problem's mapping costs."""
    return MAPPERS[type(p)].estimate(target, p, mapping)


def energy_of(target: Target, p: Problem, mapping: Any) -> float:
    """Dynamic energy in pJ that any problem's mapping is estimated to take."""
    return MAPPERS[type(p)].energy(target, p, mapping)


def constant_bytes(p: Problem) -> int:
    """Bytes of scratchpad that weights, parameters and table take, each a buffer of its own."""
    return sum(map(aligned, _constant_sizes(p)))


def _constant_sizes(p: Problem) -> tuple[int, ...]:
    if isinstance(p, conv.Contraction):
        weights = weight_bytes(p) if p.constant_weights and not p.w_resident else 0
        return weights, p.param_rows * p.oc * p.groups * 4, p.table_bytes
    if isinstance(p, vec.Pooling):
        return p.param_rows * p.channels * 4, p.table_bytes
    if isinstance(p, vec.Elementwise):
        last = p.output.dims[-1] if p.output.dims else 1
        return p.param_rows * last * 4, p.table_bytes
    return ()
