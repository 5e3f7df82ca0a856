"""The geometry of cascades: groups that are executed together in stripes of rows, depth-first.

Rows of a tensor are its chunks along the outermost dimension that is longer than 1: H of
[1, H, W, C], N of [N, H, W, C], M of [1, M, K]. A group can be cut in rows where rows [a, b) of its
result come from rows [lo, hi) of each tensor that it reads, or from all of it (weights, what is
broadcast along the rows).

A stripe makes some rows of the last group's result, and before that, in program order, what of the
other results is needed for it and not there yet. So nothing is computed twice, and the rows that
the next stripe reads again (halo) stay in row buffers. Of three groups with stripes of 4 rows, the
second and third with windows of 3 rows:

    steps(groups, 4) = [[Piece(0, 0, 6), Piece(1, 0, 5), Piece(2, 0, 4)],
                        [Piece(0, 6, 10), Piece(1, 5, 9), Piece(2, 4, 8)], ...]

Everything here is a function of the graph; it rewrites nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from math import prod

from xdsl.dialects.func import FuncOp
from xdsl.ir import Operation, OpResult, SSAValue

from npu_dialect.graph.base import shape_of
from npu_dialect.graph.states import states_of
from npu_dialect.passes.mapping.collapse import align
from npu_dialect.passes.mapping.groups import CONTRACTIONS, POOLS, SCATTER, Group, is_constant, root


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
class RowWindow:
    """The rows of a tensor that a range of rows of a result needs.

    The reader sees the tensor, perhaps reshaped, with `seen` rows, and needs `extent` of them from
    row a * stride - pad on for row a of its result. `rows` are those that the tensor itself has.
    """

    rows: int
    seen: int
    stride: int = 1
    extent: int = 1
    pad: int = 0
    other: RowWindow | None = None
    """A second read of the tensor by the same group (a residual)."""

    def seen_of(self, start: int, stop: int) -> tuple[int, int]:
        """The rows [lo, hi) as the reader counts them, clamped."""
        low = start * self.stride - self.pad
        high = (stop - 1) * self.stride - self.pad + self.extent
        low = min(max(low, 0), self.seen)
        return low, max(low, min(high, self.seen))

    def of(self, start: int, stop: int) -> tuple[int, int]:
        """The rows [lo, hi) of the tensor that rows [start, stop) of the result need, clamped; an
        empty range where nothing but padding is needed. `stop` must be greater than `start`.
        """
        low, high = self.seen_of(start, stop)
        low, high = low * self.rows // self.seen, -(-high * self.rows // self.seen)
        if self.other is None:
            return low, high
        other = self.other.of(start, stop)
        return min(low, other[0]), max(high, other[1])


@dataclass(frozen=True)
class Read:
    """A tensor that a group reads, as it is outside; without a window all of it is needed."""

    value: SSAValue
    window: RowWindow | None


def reshaped(value: SSAValue) -> SSAValue:
    """The tensor of the same elements in the same order that `value` is a reshape of."""
    while isinstance(value, OpResult) and value.op.name == "graph.reshape":
        value = value.op.operands[0]
    return value


# --- rows of one group ----------------------------------------------------------------------------


def row_axis(shape: Sequence[int]) -> int | None:
    """The outermost dimension that is longer than 1."""
    return next((k for k, d in enumerate(shape) if d > 1), None)


def rows_of_tensor(value: SSAValue) -> int:
    """Rows of a tensor."""
    shape = shape_of(value)
    axis = row_axis(shape)
    return 1 if axis is None else shape[axis]


def rows_of(group: Group) -> int | None:
    """Rows of a group's result; None where it cannot be made in parts of some rows."""
    return None if uncuttable(group) else rows_of_tensor(group.result)


def uncuttable(group: Group) -> str | None:
    """Why a group's result cannot be made in parts of some rows; None where it can."""
    if group.kind not in ("array", "vector") or len(group.op.results) != 1:
        return f"a group of a cascade must run on the array or the vector unit, found {group.kind}"
    shape = shape_of(group.result)
    axis = row_axis(shape)
    if axis is None or axis == len(shape) - 1:
        return f"the result must have rows, found {_dims(shape)}"
    return None if group.anchor is None else _uncuttable_anchor(group, axis)


def _uncuttable_anchor(group: Group, axis: int) -> str | None:
    anchor = group.anchor
    assert anchor is not None
    shape = shape_of(anchor.results[0])
    if prod(shape) != prod(shape_of(group.result)) or row_axis(shape) != axis:
        return f"{anchor.name} must make the rows of the group's result, found {_dims(shape)}"
    if anchor.name == SCATTER:
        return "a scatter may change any row, so it must see all of them"
    if anchor.name == "graph.matmul":
        weights = shape_of(anchor.operands[1])
        batched = prod(weights[:-2]) != 1
        return f"weights must be one matrix, found {_dims(weights)}" if batched else None
    if anchor.name == "graph.conv2d" or anchor.name in POOLS:
        if axis > 1:
            return f"an image must have more than one row, found {_dims(shape)}"
        return _padded(_anchored(group, group.outer(anchor.operands[0])), shape[axis])
    source = shape_of(anchor.operands[0])
    if row_axis(source) != axis or source[axis] != shape[axis]:
        return f"rows must not be reduced, found {_dims(source)} to {_dims(shape)}"
    return None


def _padded(window: RowWindow, rows: int) -> str | None:
    for row in (0, rows - 1):
        low, high = window.seen_of(row, row + 1)
        if low == high:
            return f"every row must be made of some input, row {row} is made of padding"
    return None


def _dims(shape: Sequence[int]) -> str:
    return "x".join(map(str, shape)) or "a scalar"


def reads(group: Group) -> list[Read]:
    """The tensors that a group (that can be cut in rows) reads, constants among them, weights last.

    Parameters and tables of kernels are none.
    """
    anchor = group.anchor
    side = [Read(v, _alike(group, v)) for v in group.tensors]
    if anchor is None:
        return side
    x = group.outer(anchor.operands[0])
    found = [Read(x, _anchored(group, x)), *side]
    if anchor.name in CONTRACTIONS:
        found.append(Read(group.outer(anchor.operands[1]), None))
    return found


def _alike(group: Group, value: SSAValue) -> RowWindow | None:
    """Row by row, unless the tensor is broadcast along the rows."""
    shape = shape_of(group.result)
    axis = row_axis(shape)
    assert axis is not None
    rows = align(shape_of(value), len(shape))[axis]
    return _window(value, rows) if rows == shape[axis] else None


def _anchored(group: Group, value: SSAValue) -> RowWindow:
    """What the anchor's first operand is read with."""
    anchor = group.anchor
    assert anchor is not None
    shape = shape_of(anchor.results[0])
    axis = row_axis(shape)
    is_image = anchor.name == "graph.conv2d" or anchor.name in POOLS
    if not is_image or axis != 1:
        assert axis is not None
        return _window(value, shape[axis])
    is_pool = anchor.name in POOLS
    kernel = group.setting("kernel")[0] if is_pool else shape_of(anchor.operands[1])[0]
    stride, dilation = group.setting("strides")[0], group.setting("dilations")[0]
    extent = (kernel - 1) * dilation + 1
    seen = shape_of(anchor.operands[0])[1]
    return _window(value, seen, stride, extent, group.setting("pads")[0])


def _window(
    value: SSAValue, seen: int, stride: int = 1, extent: int = 1, pad: int = 0
) -> RowWindow:
    """In the tensor's own rows where they are whole multiples of those seen, or the reverse."""
    rows = rows_of_tensor(reshaped(value))
    common = rows % seen == 0 or seen % rows == 0
    return RowWindow(rows if common else seen, seen, stride, extent, pad)


def needs(group: Group) -> dict[SSAValue, RowWindow]:
    """The rows of each input for a range of rows of the result, by the tensor that the input is a
    reshape of.

    Constants and inputs that are needed whole are absent. The group must have rows.
    """
    found: dict[SSAValue, RowWindow] = {}
    whole = {reshaped(r.value) for r in reads(group) if r.window is None}
    for read in reads(group):
        base = reshaped(read.value)
        if read.window is None or base in whole or is_constant(base):
            continue
        first = found.get(base)
        found[base] = read.window if first is None else _both(first, read.window)
    return found


def _both(first: RowWindow, second: RowWindow) -> RowWindow:
    return RowWindow(
        first.rows, first.seen, first.stride, first.extent, first.pad,
        second if first.other is None else _both(first.other, second),
    )  # fmt: skip


# --- a run of groups ------------------------------------------------------------------------------


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
        starts = [
            w.of(made[j], made[j] + 1)[0] for j, w in source.readers if made[j] < self.rows[j]
        ]
        return min(starts, default=source.rows)


def _leaves(value: SSAValue, inside: set[Operation]) -> bool:
    users = [use.operation for use in value.uses]
    reshaped = (u for u in users if u.name == "graph.reshape")
    others = (u for u in users if u.name != "graph.reshape")
    is_read = any(u not in inside for u in others)
    return not users or is_read or any(_leaves(u.results[0], inside) for u in reshaped)


def steps(groups: Sequence[Group], rows: int) -> list[list[Piece]]:
    """The pieces of each stripe in the order in which they are made: `rows` rows of the last result
    and what they need of the others.

    The groups must fit (`fits`). What is read outside is complete after the last stripe.
    """
    flow = Flow(tuple(groups))
    made = [0] * len(groups)
    found: list[list[Piece]] = []
    for start in range(0, flow.rows[-1], rows):
        wanted = flow.targets(min(start + rows, flow.rows[-1]))
        pairs = enumerate(zip(made, wanted, strict=True))
        found.append([Piece(i, a, b) for i, (a, b) in pairs if b > a])
        made = [max(a, b) for a, b in zip(made, wanted, strict=True)]
    return found


def least_held(groups: Sequence[Group], rows: int) -> dict[SSAValue, int]:
    """The rows that a row buffer of each result needs at least: the most of what a stripe makes and
    what is still needed of the rows before. The results that are read outside are absent.
    """
    flow = Flow(tuple(groups))
    made = [0] * len(groups)
    least = [0] * len(groups)
    for stripe in steps(groups, rows):
        before = list(made)
        for piece in stripe:
            kept = min(flow.kept_from(flow.results[piece.group], before), piece.start)
            least[piece.group] = max(least[piece.group], piece.stop - kept)
            made[piece.group] = piece.stop
    pairs = zip(flow.results, flow.leaves, strict=True)
    return {s.value: least[i] for i, (s, leaves) in enumerate(pairs) if not leaves}


def loads(groups: Sequence[Group], rows: int, value: SSAValue) -> list[tuple[int, int]]:
    """The rows [lo, hi) of an input that each stripe is the first one to read."""
    flow = Flow(tuple(groups))
    source = next(s for s in flow.inputs if s.value is value)
    found: list[tuple[int, int]] = []
    loaded = 0
    for stripe in steps(groups, rows):
        stop = loaded
        for piece in stripe:
            for j, window in source.readers:
                if j == piece.group:
                    stop = max(stop, window.of(piece.start, piece.stop)[1])
        found.append((loaded, stop))
        loaded = stop
    return found


def least_input_held(groups: Sequence[Group], rows: int) -> dict[SSAValue, int]:
    """The rows that a row buffer of each input needs at least, where each row is loaded once."""
    flow = Flow(tuple(groups))
    stripes = steps(groups, rows)
    found: dict[SSAValue, int] = {}
    for source in flow.inputs:
        made = [0] * len(groups)
        least = 0
        for stripe, (low, high) in zip(stripes, loads(groups, rows, source.value), strict=True):
            kept = min(flow.kept_from(source, made), low)
            least = max(least, high - kept if high > low else 0)
            for piece in stripe:
                made[piece.group] = piece.stop
        found[source.value] = least
    return found


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
