"""The geometry of cascades: groups that are executed together in stripes of rows, depth-first.

A stripe makes some rows of the last group's result, and before that what of the other results is
needed for it and not there yet. So nothing is computed twice, and the rows that the next stripe
reads again (halo) stay in row buffers. Of three groups with stripes of 4 rows, the second and third
with windows of 3 rows:

    steps(groups, 4) = [[Piece(0, 0, 6), Piece(1, 0, 5), Piece(2, 0, 4)],
                        [Piece(0, 6, 10), Piece(1, 5, 9), Piece(2, 4, 8)], ...]

Where groups make at most some rows at once, row buffers are smaller:

    steps(groups, 4, [2, 2, 2]) = [[Piece(0, 0, 2), Piece(0, 2, 4), Piece(1, 0, 2),
                                    Piece(0, 4, 6), Piece(1, 2, 4), Piece(2, 0, 2), ...

Everything here is a function of the graph; it rewrites nothing. The rows of single groups are in
`rows.py`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain, pairwise

from xdsl.dialects.func import FuncOp
from xdsl.ir import Operation, SSAValue

from npu_dialect.graph.states import states_of
from npu_dialect.passes.mapping.groups import Group, root
from npu_dialect.passes.mapping.rows import (
    RowWindow,
    needs,
    reshaped,
    rows_of,
    rows_of_tensor,
    uncuttable,
)
from npu_dialect.passes.mapping.views import storage

__all__ = [
    "Flow", "Most", "Piece", "RowWindow", "fits", "held_inputs", "held_results", "held_storages",
    "least_held", "least_input_held", "needs", "rows_of", "steps", "stripes_of",
]  # fmt: skip


@dataclass(frozen=True)
class Piece:
    """Rows [start, stop) of the result of the group with this index in its cascade."""

    group: int
    start: int
    stop: int

    @property
    def rows(self) -> int:
        """How many."""
        return self.stop - self.start


@dataclass(frozen=True)
class Source:
    """Where rows come from: the result of a group, or a tensor that comes from outside."""

    value: SSAValue
    rows: int
    readers: tuple[tuple[int, RowWindow], ...]
    """Groups of the cascade that read it by rows, and how."""


@dataclass(frozen=True)
class Flow:
    """What the groups of a cascade, of which each has rows, hand to each other."""

    groups: tuple[Group, ...]

    @cached_property
    def rows(self) -> list[int]:
        """Rows of each result."""
        return [rows_of_tensor(g.result) for g in self.groups]

    @cached_property
    def needs(self) -> list[dict[SSAValue, RowWindow]]:
        """What each group needs."""
        return [needs(g) for g in self.groups]

    @cached_property
    def results(self) -> list[Source]:
        """The result of each group."""
        return [self._source(g.result, self.rows[i]) for i, g in enumerate(self.groups)]

    @cached_property
    def inputs(self) -> list[Source]:
        """The tensors from outside that are read by rows."""
        made = {g.result for g in self.groups}
        found = {v: w.rows for need in self.needs for v, w in need.items() if v not in made}
        return [self._source(v, rows) for v, rows in found.items()]

    def _source(self, value: SSAValue, rows: int) -> Source:
        pairs = ((i, need.get(value)) for i, need in enumerate(self.needs))
        return Source(value, rows, tuple((i, w) for i, w in pairs if w is not None))

    @cached_property
    def leaves(self) -> list[bool]:
        """Whether each result is read outside of the cascade, and so is needed whole."""
        inside = {g.op for g in self.groups}
        return [_leaves(g.result, inside) for g in self.groups]

    def targets(self, stop: int) -> list[int]:
        """The rows that each result must have once the last group has made its first `stop`."""
        count = len(self.groups)
        found = [0] * count
        total = self.rows[-1]
        for i in reversed(range(count)):
            source = self.results[i]
            ends = [w.of(0, found[j])[1] for j, w in source.readers if found[j] > 0]
            if not source.readers:
                ends.append(-(-source.rows * stop // total))
            if self.leaves[i] and stop == total:
                ends.append(source.rows)
            found[i] = max(ends, default=0)
        return found

    def kept_from(self, source: Source, made: Sequence[int]) -> int:
        """The first row that is still needed when the groups have made `made` rows each."""
        rows, first = self.rows, -1
        for j, window in source.readers:
            start = made[j]
            if start < rows[j]:
                low = window.of(start, start + 1)[0]
                first = low if first < 0 or low < first else first
        return source.rows if first < 0 else first


def _leaves(value: SSAValue, inside: set[Operation]) -> bool:
    users = [use.operation for use in value.uses]
    reshaped = (u for u in users if u.name == "graph.reshape")
    others = (u for u in users if u.name != "graph.reshape")
    is_read = any(u not in inside for u in others)
    return not users or is_read or any(_leaves(u.results[0], inside) for u in reshaped)


@dataclass
class _Making:
    """The pieces of a cascade as they are made, stripe by stripe; `most` rows at once, by group."""

    flow: Flow
    most: Sequence[int | None]
    made: list[int]
    wanted: list[int]
    stripes: list[list[Piece]]

    @cached_property
    def makers(self) -> list[list[tuple[int, RowWindow]]]:
        """What each group reads of the others."""
        number = {s.value: i for i, s in enumerate(self.flow.results)}
        return [[(number[v], w) for v, w in n.items() if v in number] for n in self.flow.needs]

    @cached_property
    def final(self) -> list[int]:
        """The rows of each result that are needed at all."""
        return self.flow.targets(self.flow.rows[-1])

    def stripe(self, stop: int) -> None:
        """Makes the last result's rows up to `stop`, and what goes along with them."""
        self.wanted = self.flow.targets(stop)
        self.stripes.append([])
        for group in reversed(range(len(self.made))):
            self.pull(group, self.wanted[group])

    def pull(self, group: int, stop: int) -> None:
        """Makes a result's rows up to `stop` and perhaps beyond."""
        while self.made[group] < stop:
            start, most = self.made[group], self.most[group]
            end = max(self.wanted[group], stop)
            if most is not None:
                end = min(start + most, self.final[group])
            for maker, window in self.makers[group]:
                self.pull(maker, window.of(start, end)[1])
            self.stripes[-1].append(Piece(group, start, end))
            self.made[group] = end


Most = Sequence[int | None]
"""The rows that each group makes at once at most; None for all that a stripe needs."""


def stripes_of(
    flow: Flow, rows: int, most: Most | None = None, until: int | None = None
) -> list[list[Piece]]:
    """`steps` of the groups of a flow; only the first stripes where the last group's rows `until`
    are enough.
    """
    count = len(flow.groups)
    limits = [None] * count if most is None else most
    making = _Making(flow, limits, [0] * count, [0] * count, [])
    total = flow.rows[-1]
    for start in range(0, total if until is None else min(until, total), rows):
        making.stripe(min(start + rows, total))
    return making.stripes


def held_results(flow: Flow, pieces: Iterable[Piece]) -> list[int]:
    """The rows that a row buffer of each result needs at least for these pieces."""
    made = [0] * len(flow.groups)
    least = [0] * len(flow.groups)
    for piece in pieces:
        kept = min(flow.kept_from(flow.results[piece.group], made), piece.start)
        least[piece.group] = max(least[piece.group], piece.stop - kept)
        made[piece.group] = piece.stop
    return least


def held_inputs(flow: Flow, pieces: Iterable[Piece]) -> dict[SSAValue, int]:
    """The rows that a row buffer of each input needs at least for these pieces."""
    made = [0] * len(flow.groups)
    loaded = {s.value: 0 for s in flow.inputs}
    least = dict(loaded)
    for piece in pieces:
        for source in flow.inputs:
            window = flow.needs[piece.group].get(source.value)
            stop = 0 if window is None else window.of(piece.start, piece.stop)[1]
            if stop > loaded[source.value]:
                kept = min(flow.kept_from(source, made), loaded[source.value])
                least[source.value] = max(least[source.value], stop - kept)
                loaded[source.value] = stop
        made[piece.group] = piece.stop
    return least


def steps(groups: Sequence[Group], rows: int, most: Most | None = None) -> list[list[Piece]]:
    """The pieces of each stripe in the order in which they are made: `rows` rows of the last result
    and what they need of the others. What is read outside is complete after the last stripe.

    A group makes all that a stripe needs at once, or `most` rows each time where that is given; the
    groups before it then make what these rows need, in turn. The groups must fit (`fits`).
    """
    return stripes_of(Flow(tuple(groups)), rows, most)


def least_held(groups: Sequence[Group], rows: int, most: Most | None = None) -> dict[SSAValue, int]:
    """The rows that a row buffer of each result needs at least: the most of what is made at once
    and what is still needed of the rows before. The results that are read outside are absent.
    """
    flow = Flow(tuple(groups))
    least = held_results(flow, chain.from_iterable(stripes_of(flow, rows, most)))
    pairs = zip(flow.results, flow.leaves, strict=True)
    return {s.value: least[i] for i, (s, leaves) in enumerate(pairs) if not leaves}


def least_input_held(
    groups: Sequence[Group], rows: int, most: Most | None = None
) -> dict[SSAValue, int]:
    """The rows that a row buffer of each input needs at least, where each row is loaded once,
    before the first piece that reads it.
    """
    flow = Flow(tuple(groups))
    return held_inputs(flow, chain.from_iterable(stripes_of(flow, rows, most)))


def held_storages(groups: Sequence[Group], held: Collection[SSAValue]) -> frozenset[SSAValue]:
    """The memories of inputs that a cascade reads from row buffers only, where those in `held` have
    one.
    """
    others = {storage(v) for g in groups for v in g.inputs if reshaped(v) not in held}
    return frozenset(storage(v) for v in held) - others


# --- what a cascade may be ------------------------------------------------------------------------


def fits(groups: Sequence[Group]) -> str | None:
    """Why a run of groups is no cascade; None where it is one."""
    return next(_problems(groups), None)


def _problems(groups: Sequence[Group]) -> Iterator[str]:
    if len(groups) < 2:
        yield f"a cascade must have two groups at least, found {len(groups)}"
        return
    for group in groups:
        reason = uncuttable(group)
        if reason is not None:
            yield f"{group.name}: {reason}"
            return
    yield from _gaps(groups)
    makers = {g.result: g for g in groups}
    states = _states(groups[0])
    for group in groups:
        if group.result in states:
            yield f"{group.name} must not write a state, of which a later stripe may read the rows"
        needed = needs(group)
        for value in group.inputs:
            maker = makers.get(reshaped(value)) or makers.get(root(value))
            if maker is not None:
                yield from _edge(maker, group, value, needed)


def _gaps(groups: Sequence[Group]) -> Iterator[str]:
    for before, after in pairwise(groups):
        op = before.op.next_op
        while op is not None and op.name != "graph.group":
            op = op.next_op
        if op is not after.op:
            found = "nothing" if op is None else Group(op).name
            yield f"{after.name} must follow {before.name}, found {found}"


def _states(group: Group) -> set[SSAValue]:
    """The results of groups that are the new content of states."""
    function = group.op.parent_op()
    if not isinstance(function, FuncOp):
        return set()
    last = function.body.block.last_op
    assert last is not None
    return {root(last.operands[s.result]) for s in states_of(function) if s.result is not None}


def _edge(
    maker: Group, reader: Group, value: SSAValue, needed: dict[SSAValue, RowWindow]
) -> Iterator[str]:
    if reshaped(value) is not maker.result:
        yield f"{reader.name} must read whole rows of {maker.name}, not a part or a permutation"
        return
    window = needed.get(maker.result)
    if window is None:
        yield f"{reader.name} needs {maker.name} whole"
        return
    while window is not None:
        if window.rows != rows_of_tensor(maker.result):
            yield (
                f"{reader.name} must see the {rows_of_tensor(maker.result)} rows of {maker.name} "
                f"or equal parts of them, found {window.seen} rows"
            )
            return
        window = window.other
