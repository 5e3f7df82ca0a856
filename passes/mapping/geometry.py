"""The ways to cut a run of groups into stripes that are worth a try: how many rows each group makes
at once, and how many its row buffer has.

Stripes of some rows of the last result ask more and more rows of the groups before it. Where every
group makes pieces of about as many bytes, and those before it what they need in turn, a longer run
needs no larger pieces:

    stripes of 2 rows       a 20 rows, b 9 rows, c 2 rows at once
    pieces of 8 KiB         a 3 rows, b 2 rows, c 4 rows at once
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain, islice, product

from xdsl.ir import SSAValue

from npu_dialect.passes.mapping.stripes import Flow, held_inputs, held_results, stripes_of

PARTS = (2, 4, 7, 14, 28, 56, 112)
"""Stripes that a cascade may be cut into: the first of them whose row buffers fit."""
TRIED = 4
"""So many of them are tried."""
SHARES = (16, 32, 64, 128)
"""Pieces may take such a part of the scratchpad each."""
EVEN_SHARES = (8, 16, 32)
"""Pieces and what each of them reads may take such a part."""
PIECES = 1000
"""Pieces that a cascade may have: each is a loop nest of its own in the program."""
SAMPLE = 3
"""Stripes by which the rows of buffers are found: the others ask as much."""


@dataclass(frozen=True)
class Geometry:
    """Rows of each group of a run for stripes of `rows` rows of the last result: in one whole
    piece, and held at least, of inputs too; how many stripes there are.
    """

    rows: int
    stripe: tuple[int, ...]
    held: tuple[int, ...]
    stripes: int
    most: tuple[int | None, ...] | None = None
    """The most rows that each group makes at once, where a stripe needs more."""
    inputs: dict[SSAValue, int] = field(default_factory=dict[SSAValue, int])


def geometries(flow: Flow, row_bytes: Sequence[int], capacity: int) -> list[Geometry]:
    """Those to try for a run of groups, within `capacity` bytes."""
    striped = (g for g in _by_stripes(flow) if _held(flow, g, row_bytes) <= capacity)
    return [*islice(striped, TRIED), *_by_pieces(flow, row_bytes, capacity)]


def _held(flow: Flow, geometry: Geometry, row_bytes: Sequence[int]) -> int:
    """Bytes of the rows that are held of results."""
    rows = zip(flow.leaves, geometry.held, row_bytes, strict=True)
    return sum(held * size for leaves, held, size in rows if not leaves)


def _by_stripes(flow: Flow) -> Iterator[Geometry]:
    total = flow.rows[-1]
    for rows in dict.fromkeys(-(-total // parts) for parts in PARTS):
        stripes = -(-total // rows)
        if stripes > 1 and stripes * len(flow.groups) <= PIECES:
            yield _striped(flow, rows, stripes)


def _striped(flow: Flow, rows: int, stripes: int) -> Geometry:
    total = flow.rows[-1]
    moments = {0, 1, stripes // 2, max(0, stripes - 2), stripes - 1}
    stripe = [0] * len(flow.groups)
    held = [0] * len(flow.groups)
    inputs = dict.fromkeys((s.value for s in flow.inputs), 0)
    for number in sorted(m for m in moments if m < stripes):
        before = flow.targets(number * rows) if number else [0] * len(flow.groups)
        after = flow.targets(min(total, (number + 1) * rows))
        for k, source in enumerate(flow.results):
            if after[k] > before[k]:
                kept = min(flow.kept_from(source, before), before[k])
                held[k] = max(held[k], after[k] - kept)
                if number or not stripe[k]:
                    stripe[k] = max(stripe[k] if number > 1 else 0, after[k] - before[k])
        for source in flow.inputs:
            stop = max((w.of(0, after[j])[1] for j, w in source.readers if after[j]), default=0)
            kept = min(flow.kept_from(source, before), stop)
            inputs[source.value] = max(inputs[source.value], stop - kept)
    whole = tuple(max(1, s) for s in stripe)
    return Geometry(rows, whole, tuple(held), stripes, None, inputs)


def _by_pieces(flow: Flow, row_bytes: Sequence[int], capacity: int) -> Iterator[Geometry]:
    seen: set[tuple[int, ...]] = set()
    read = _read_bytes(flow, row_bytes)
    kinds = [*product(SHARES, [row_bytes]), *product(EVEN_SHARES, [read])]
    for share, sizes in kinds:
        most = tuple(
            max(1, min(rows, capacity // share // max(1, size)))
            for rows, size in zip(flow.rows, sizes, strict=True)
        )
        pieces = sum(-(-rows // m) for rows, m in zip(flow.rows, most, strict=True))
        if most not in seen and len(flow.groups) < pieces <= PIECES:
            seen.add(most)
            found = _in_pieces(flow, most, pieces)
            if sizes is row_bytes or _held(flow, found, row_bytes) <= capacity:
                yield found


def _read_bytes(flow: Flow, row_bytes: Sequence[int]) -> list[int]:
    """The greatest of the bytes of a row of each result and of those that it is made of."""
    found = list(row_bytes)
    for source, size in zip(flow.results, row_bytes, strict=True):
        for reader, window in source.readers:
            rows = window.stride * source.rows / window.seen
            found[reader] = max(found[reader], round(size * rows))
    return found


def _in_pieces(flow: Flow, most: tuple[int, ...], pieces: int) -> Geometry:
    rows = most[-1]
    first = list(chain.from_iterable(stripes_of(flow, rows, most, SAMPLE * rows)))
    held, inputs = held_results(flow, first), held_inputs(flow, first)
    stripes = max(1, round(pieces / len(flow.groups)))
    return Geometry(rows, most, tuple(held), stripes, most, inputs)
