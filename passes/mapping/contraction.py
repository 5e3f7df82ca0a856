"""Mapping of convolutions and matrix products onto the array.

The cost of a mapping is that of its array instructions and copies (`contraction_cost.py`). All
choices of extents are costed together, the array's part once for a layer and the copies once for
every kind of nest (order of the loops, levels of loading, slots). What remains for each kind is a
`Front`: the choices of which none takes less scratchpad and is better. A search with some capacity
is then a look-up in the fronts. What is better is cycles, or with the objective energy, pJ
(`contraction_energy.py`) and a little for every cycle.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields, is_dataclass, replace
from functools import lru_cache
from math import prod
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from npu_dialect import cost
from npu_dialect.cost import ArrayWork, weight_passes
from npu_dialect.passes.mapping import energy
from npu_dialect.passes.mapping.contraction_cost import Numbers, array_cycles, estimates
from npu_dialect.passes.mapping.contraction_cost import estimate as estimate
from npu_dialect.passes.mapping.contraction_cost import stream_latency as stream_latency
from npu_dialect.passes.mapping.contraction_energy import array_pj, energies
from npu_dialect.passes.mapping.contraction_energy import energy_of as energy_of
from npu_dialect.passes.mapping.contraction_problem import Contraction as Contraction
from npu_dialect.passes.mapping.contraction_problem import ContractionMapping as ContractionMapping
from npu_dialect.passes.mapping.contraction_problem import (
    Level,
    Tile,
    Trips,
    all_buffers,
    input_bytes,
    itemsize,
    loop_trips,
    may_stream,
    stored_part,
    tile_bytes,
    weight_bytes,
    whole_blocks,
)
from npu_dialect.passes.mapping.contraction_problem import buffers as buffers
from npu_dialect.passes.mapping.contraction_problem import input_extent as input_extent
from npu_dialect.passes.mapping.contraction_taps import columns, may_join, whole_columns
from npu_dialect.passes.mapping.estimates import Estimate as Estimate
from npu_dialect.passes.mapping.estimates import dram_width
from npu_dialect.passes.mapping.fronts import FRUGAL, Front, Kind
from npu_dialect.passes.mapping.fronts import name as name_of
from npu_dialect.passes.mapping.fronts import read as read_fronts
from npu_dialect.passes.mapping.fronts import write as write_fronts
from npu_dialect.passes.mapping.tiles import candidates, spm_bytes
from npu_dialect.target import Target

TILE, SHARE = 8.0, 2000
"""Cycles that a tile counts beyond what it takes, since its instructions are scheduled and stored:
so many, and at most such a part of its layer's."""
EXHAUSTIVE = 4_000
"""Choices of extents up to which all are tried; beyond, those that cut evenly."""
MANY = 20_000
"""Choices up to which powers of two are tried too, and rows together with any columns."""


@lru_cache(4096)
def search(
    target: Target,
    p: Contraction,
    capacity: int,
    objective: str = "latency",
    streams: bool | None = None,
) -> tuple[ContractionMapping, Estimate] | None:
    """The mapping of least estimated cycles (or energy) whose buffers fit; None when none does. Of
    cycles it may take a little more than the least where that saves much scratchpad (`fronts`) and
    the array waits for weights anyway. `streams` asks for one that reads its constants from dram,
    or for one that does not.
    """
    kept = fronts(target, p, objective)
    if streams is not None:
        kept = tuple(f for f in kept if (f.kind.weights == "stream") == streams)
    fitting = [(f, last) for f in kept if (last := f.within(capacity)) >= 0]
    if not fitting:
        return None
    share = FRUGAL if objective != "energy" and waits_for_weights(target, p) else 0.0
    found = sorted(((*f.frugal(last, share), f) for f, last in fitting), key=lambda item: item[0])
    score, number, front = found[0]
    best, cost = front.mapping(number), float(front.costs[number])
    other: tuple[Any, float] | None = None
    if len(found) > 1:
        other = found[1][2].mapping(found[1][1]), float(found[1][0] / score - 1)
    bound = least_energy if objective == "energy" else lower_bound
    least = min(float(f.costs[last]) for f, last in fitting)
    least = least if is_exhaustive(p) else bound(target, p)
    gap = max(0.0, 1 - least / cost) if cost else 0.0
    return best, replace(estimate(target, p, best), gap=gap, alternative=other)


# --- the choices ----------------------------------------------------------------------------------


def is_exhaustive(p: Contraction) -> bool:
    """Whether all extents are tried."""
    return _count(p) <= EXHAUSTIVE


def _count(p: Contraction) -> int:
    """How many choices of extents there are."""
    reduction = p.ic if p.may_split_reduction and p.groups == 1 else 1
    channels = 1 if p.groups > 1 else p.oc
    return prod((p.oh, p.ow, channels, reduction))


@dataclass(frozen=True)
class Choices:
    """Extents of tiles, the cycles that the array is busy with them, and where energy decides, what
    it takes in pJ.
    """

    rows: Numbers
    cols: Numbers
    channels: Numbers
    reduction: Numbers
    joined: npt.NDArray[np.bool_]
    """Whether the taps of kernel rows are one sum, as that is better."""
    compute: Numbers
    sizes: Tile
    trips: Trips
    energy: Any = None

    def mapping(self, kind: Kind) -> Any:
        """All of them as mappings of a kind."""
        extents = (self.rows, self.cols, self.channels, self.reduction)
        return ContractionMapping(*extents, kind.order, kind.slots, kind.x, kind.weights)  # type: ignore[arg-type]

    def only(self, which: Numbers) -> Choices:
        """Those of these numbers."""
        return Choices(**{f.name: _only(getattr(self, f.name), which) for f in fields(self)})


def _only(numbers: Any, which: Numbers) -> Any:
    """Those of these numbers, of an array or of all that a record has; what is no array is the same
    for all.
    """
    if is_dataclass(numbers):
        found = {f.name: _only(getattr(numbers, f.name), which) for f in fields(numbers)}
        return type(numbers)(**found)
    return cast(Any, numbers)[which] if isinstance(numbers, np.ndarray) else numbers


@lru_cache(512)
def choices(target: Target, p: Contraction, objective: str = "latency") -> Choices:
    """The choices for a layer of which nothing lies in the scratchpad."""
    lists = _every(p) if is_exhaustive(p) else _even(target, p)
    grids = np.meshgrid(*(np.array(sizes, np.int64) for sizes in lists), indexing="ij")
    rows, cols, channels, reduction = (g.ravel() for g in grids)
    fits = _may_fit(target, p, rows, cols, channels, reduction) & whole_blocks(p, reduction)
    extents = rows[fits], cols[fits], channels[fits], reduction[fits]
    joined = _better_joined(target, p, extents, objective)
    taken = array_pj(target, p, extents, joined) if objective == "energy" else None
    compute = array_cycles(target, p, *extents, joined=joined)
    m: Any = ContractionMapping(*extents)  # type: ignore[arg-type]
    return Choices(*extents, joined, compute, tile_bytes(p, m), loop_trips(p, m), taken)


@lru_cache(512)
def streamed_choices(target: Target, p: Contraction, objective: str = "latency") -> Choices:
    """The choices for a layer whose instructions read weights and parameters from dram: all input
    channels at once; and the taps of kernel rows as one sum only for columns that meet all of them.
    """
    found = choices(target, replace(p, w_part=1.0), objective)
    found = found.only(np.flatnonzero(found.reduction == p.ic))
    extents = found.rows, found.cols, found.channels, found.reduction
    joined = found.joined & (len(whole_columns(p)) > 0)
    taken = array_pj(target, p, extents, joined, streamed=True) if objective == "energy" else None
    compute = array_cycles(target, p, *extents, joined=joined, streamed=True)
    return replace(found, joined=joined, compute=compute, energy=taken)


def _better_joined(
    target: Target, p: Contraction, extents: tuple[Numbers, ...], objective: str
) -> npt.NDArray[np.bool_]:
    """For which extents the array takes less where the taps of kernel rows are one sum."""
    _, cols, _, reduction = extents
    joined = (cols == p.ow) & (reduction == p.ic) & may_join(target, p)
    some = np.flatnonzero(joined)
    if some.size:
        part = tuple(e[some] for e in extents)
        apart, whole = (
            array_pj(target, p, part, how)
            if objective == "energy"
            else array_cycles(target, p, *part, joined=how)
            for how in (np.zeros(len(some), bool), np.ones(len(some), bool))
        )
        joined[some] = whole < apart
    return joined


def _every(p: Contraction) -> tuple[list[int], ...]:
    reduction = p.may_split_reduction and p.groups == 1
    return (
        list(range(1, p.oh + 1)),
        list(range(1, p.ow + 1)),
        [p.oc] if p.groups > 1 else list(range(1, p.oc + 1)),
        list(range(1, p.ic + 1)) if reduction else [p.ic],
    )


def _even(target: Target, p: Contraction) -> tuple[list[int], ...]:
    """Extents that cut evenly, in multiples of what the array takes at once. A grouped convolution
    keeps its groups whole, so that no tile crosses into the next.
    """
    _, outputs, inputs = target.array.macs[p.x_type]
    channels = candidates(p.oc, min(p.oc, 16 if p.depthwise else outputs))
    reduction = candidates(p.ic, min(p.ic, max(16, inputs)))
    lists = (
        candidates(p.oh),
        candidates(p.ow),
        [p.oc] if p.groups > 1 else [*channels, *(c for c in (1, 4) if c < channels[-1])],
        reduction if p.may_split_reduction and p.groups == 1 else [p.ic],
    )
    if _count(p) > MANY:
        return lists
    rows, cols, channels, reduction = map(sorted, lists)
    return _with_powers(rows), _with_powers(cols), channels, reduction


def _with_powers(sizes: list[int]) -> list[int]:
    """Sizes in order, and the powers of two below the last one."""
    powers = (1 << k for k in range(sizes[-1].bit_length()))
    return sorted({*sizes, *(size for size in powers if size < sizes[-1])})


def _may_fit(
    target: Target, p: Contraction, rows: Numbers, cols: Numbers, channels: Numbers, depth: Numbers
) -> Any:
    """Whether partial sums fit the accumulators. Of very many choices, those that cut columns and
    have more than one row are left out.
    """
    inside = replace(p, x_resident=True, w_resident=True, residual_resident=True, out_resident=True)
    m: Any = ContractionMapping(rows, cols, channels, depth, slots=1)  # type: ignore[arg-type]
    acc = sum(b.total for b in all_buffers(inside, m) if b.space == "acc")
    wide = (cols == p.ow) | (rows == 1) | (_count(p) <= MANY)
    return (acc <= max(1, target.memories["acc"].size)) & wide


# --- the fronts -----------------------------------------------------------------------------------


@lru_cache(4096)
def fronts(target: Target, p: Contraction, objective: str = "latency") -> tuple[Front, ...]:
    """The front of every kind of nest."""
    place = name_of(target, p, objective)
    kept = read_fronts(place)
    if kept is None:
        kept = compute_fronts(target, p, objective)
        write_fronts(place, kept)
    return kept


def compute_fronts(target: Target, p: Contraction, objective: str = "latency") -> tuple[Front, ...]:
    """As `fronts`, without what is kept on disk."""
    shape = _shape(p)
    found = choices(target, shape, objective)
    every = list(_fronts(target, p, found, kinds(p, objective)))
    if target.array_reads_dram and may_stream(p):
        found = streamed_choices(target, replace(shape, w_part=p.w_part), objective)
        every += _fronts(target, p, found, streaming_kinds(p, objective))
    return tuple(every)


def _shape(p: Contraction) -> Contraction:
    """The problem without what only its copies depend on."""
    return replace(
        p, x_resident=False, w_resident=False, residual_resident=False, out_resident=False,
        constants_resident=False, takes_over=0, hands_over=0, w_part=1.0,
        constant_weights=p.constant_weights or p.kw == 1,
    )  # fmt: skip


WEIGHTS_OUTER: tuple[tuple[Level, Level], ...] = (
    ("tile", "tile"), ("tile", "slice"), ("held", "tile"), ("held", "slice"),
    ("slice", "tile"), ("slice", "slice"),
)  # fmt: skip
ROWS_OUTER: tuple[tuple[Level, Level], ...] = (
    ("tile", "tile"), ("tile", "held"), ("tile", "slice"), ("held", "held"),
)  # fmt: skip
"""The levels (of activations, of weights) that make sense in a nest. Weights that the outermost
loop goes over are loaded once anyway; so are activations."""


def kinds(p: Contraction, objective: str = "latency") -> Iterator[Kind]:
    """The nests that may be best for a problem. Copies that the array waits for cost no energy, but
    the room of a second slot does: larger tiles would be loaded less often.
    """
    nests = [Kind("weights_outer", 2, *levels) for levels in WEIGHTS_OUTER]
    nests += [Kind("rows_outer", 2, *levels) for levels in ROWS_OUTER]
    if objective == "energy":
        nests += [replace(nest, slots=1) for nest in nests]
    else:
        nests += [Kind("weights_outer", 1, level, level) for level in ("tile", "slice")]
    for kind in nests:
        levels = kind.x, kind.weights
        if (p.x_resident and kind.x != "tile") or (p.w_resident and kind.weights != "tile"):
            continue
        if "slice" not in levels or p.may_split_reduction:
            yield kind


def streaming_kinds(p: Contraction, objective: str = "latency") -> Iterator[Kind]:
    """The nests of instructions that read their constants from dram."""
    nests = [Kind("weights_outer", 2, level, "stream") for level in ("tile", "held")]
    nests.append(Kind("rows_outer", 2, "tile", "stream"))
    nests += [replace(nest, slots=1) for nest in (nests if objective == "energy" else nests[:1])]
    yield from (nest for nest in nests if nest.x == "tile" or not p.x_resident)


def _fronts(
    target: Target, p: Contraction, found: Choices, nests: Iterable[Kind]
) -> Iterator[Front]:
    """The fronts of the kinds of which anything fits. What kinds share is computed once, for the
    choices that fit as one of them.
    """
    rooms = [(kind, *_room(target, p, found, kind)) for kind in nests]
    rooms = [room for room in rooms if room[2].any()]
    if not rooms:
        return
    used = np.flatnonzero(np.any([fits for _, _, fits in rooms], axis=0))
    some = found.only(used)
    known: dict[Any, Any] = {}
    for kind, size, fits in rooms:
        yield _front(target, p, some, kind, size[used], np.flatnonzero(fits[used]), known)


def _room(
    target: Target, p: Contraction, found: Choices, kind: Kind
) -> tuple[Numbers, npt.NDArray[np.bool_]]:
    """(bytes of scratchpad, whether they are there and the kind makes sense) of each choice."""
    m, n = found.mapping(kind), found.trips
    size: Any = spm_bytes(list(all_buffers(p, m, found.sizes, n)))
    size = size + np.zeros(len(found.rows), np.int64)
    fits = size <= target.memories["spm"].size
    if kind.order == "rows_outer":
        fits &= n.channels > 1
    if "slice" in (kind.x, kind.weights):
        fits &= n.reduction > 1
    return size, fits


def _front(
    target: Target,
    p: Contraction,
    some: Choices,
    kind: Kind,
    size: Numbers,
    used: Numbers,
    known: dict[Any, Any],
) -> Front:
    """The front of one kind, of the choices of these numbers, which take `size` bytes."""
    m, n = some.mapping(kind), some.trips
    estimated = estimates(target, p, m, some.compute, some.sizes, n, known)
    cycles: Any = estimated.in_place
    score = cycles + np.minimum(TILE, cycles / SHARE) * n.tiles * n.reduction
    if some.energy is not None:
        taken = energies(target, p, m, some.energy)
        score = energy.price(target, taken, estimated.cycles, n.tiles * n.reduction)
    kept = used[_staircase(size[used], score[used])]
    numbers = (some.rows, some.cols, some.channels, some.reduction, some.joined)
    extents = np.stack([n[kept] for n in numbers], axis=1).astype(np.int64)
    return Front(kind, size[kept], score[kept], extents)


def _staircase(size: Numbers, score: Numbers) -> Numbers:
    """The numbers of those of which none is smaller, or as small, and scores less; of equal ones
    the first.
    """
    count = len(size)
    order = np.sort(size * count + np.arange(count)) % count  # by size, then by number
    least = np.minimum.accumulate(score[order])
    kept = order[np.flatnonzero(np.diff(least, prepend=np.inf) < 0)]
    return kept[np.flatnonzero(np.diff(size[kept], append=-1))]


# --- the proof ------------------------------------------------------------------------------------


def least_compute(target: Target, p: Contraction) -> int:
    """Cycles of the array with whole extents."""
    whole = _whole(target, p)
    if not may_join(target, p):
        return whole
    return min(whole, sum(_whole(target, part.problem) for part in columns(p)))


def _whole(target: Target, p: Contraction) -> int:
    positions = p.oh * p.ow
    channels = 1 if p.depthwise else p.ic
    outputs = positions * p.oc
    repeats = p.batch * p.groups
    work = ArrayWork(
        dtype=p.x_type, passes=weight_passes(p.w_type), positions=positions, taps=p.kh * p.kw,
        in_channels=channels, out_channels=p.oc, input_bytes=0,
        weight_bytes=weight_bytes(p) // repeats or 1,
        output_bytes=outputs * itemsize(p.out_type), depthwise=p.depthwise,
        kernel_costs=p.kernel_costs, rows=p.oh, kernel=(p.kh, p.kw), strides=p.strides,
        dilations=p.dilations, made=p.made,
    )  # fmt: skip
    return repeats * cost.array(target, work).cycles


@lru_cache(4096)
def lower_bound(target: Target, p: Contraction) -> float:
    """What no mapping costs less than: whole extents for the array, every byte once."""
    compute = least_compute(target, p)
    weights = 0 if p.w_resident else weight_bytes(p) * stored_part(p)
    constants = dram_width(target, constants=p.constant_weights)
    if target.array_reads_dram and may_stream(p):
        constants = max(constants, target.memories["dram"].ports["mxu"])
    moved = 0 if p.out_resident else p.batch * p.groups * p.oh * p.ow * p.oc * itemsize(p.out_type)
    moved += 0 if p.x_resident else min(input_bytes(p), _least_input(p))
    transfer = weights / constants + moved / dram_width(target)
    return Estimate(compute, transfer, 0.0).in_place


@lru_cache(4096)
def least_energy(target: Target, p: Contraction) -> float:
    """What no mapping takes less than, in pJ: the products, and every byte read once."""
    macs = p.batch * p.groups * p.oh * p.ow * p.oc * p.kh * p.kw * p.depth
    weights = 0 if p.w_resident else weight_bytes(p) * stored_part(p)
    read = 0 if p.x_resident else min(input_bytes(p), _least_input(p))
    outputs = p.batch * p.groups * p.oh * p.ow * p.oc * itemsize(p.out_type)
    moved = energy.loaded(target, read)
    if target.array_reads_dram and may_stream(p):
        moved += weights * target.memories["dram"].read_pj
    else:
        moved += energy.loaded(target, weights)
    moved += 0 if p.out_resident else energy.stored(target, outputs)
    return float(macs * target.array.mac_pj[p.x_type] + moved)


def waits_for_weights(target: Target, p: Contraction) -> bool:
    """Whether its weights take longer to come from dram than the array takes to use them."""
    weights = 0 if p.w_resident else weight_bytes(p) * stored_part(p)
    arrive = weights / dram_width(target, constants=p.constant_weights)
    return bool(arrive > least_compute(target, p))


def _least_input(p: Contraction) -> int:
    """Bytes of activations that some output needs, at least."""
    rows = min(p.ih, p.oh if p.strides[0] > 1 else p.oh - p.pads[0])
    cols = min(p.iw, p.ow if p.strides[1] > 1 else p.ow - p.pads[1])
    channels = p.oc if p.depthwise else p.ic * p.groups
    return max(0, p.batch * rows * cols * channels * itemsize(p.x_type))
