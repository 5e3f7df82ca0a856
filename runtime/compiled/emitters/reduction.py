"""npu.reduce: sums, products, maxima and minima over dimensions.

Results are computed a vector at a time. Where results lie beside each other at the input
("vectors"), so do the elements that are added to them. Where the elements of one result do
("rows"), whole numbers and extremes are folded a vector at a time and then across its lanes; sums
and products of floats, whose order is fixed, take a row per lane, transposed in registers. Anything
else is folded element by element ("elements").
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import Any

from npu_dialect.dtypes import BY_NAME, DType
from npu_dialect.kernel import Kernel
from npu_dialect.machine import Operand
from npu_dialect.npu.base import Values, kernel_of
from npu_dialect.npu.vectors import ReduceOp
from npu_dialect.runtime.compiled.builder import I64, Function, Value, vector
from npu_dialect.runtime.compiled.emitters.copies import with_input_apart
from npu_dialect.runtime.compiled.emitters.finish import lower_finish
from npu_dialect.runtime.compiled.emitters.strides import RANK, merged, moved, padded
from npu_dialect.runtime.compiled.folds import Fold, Vectors, fold_vectors, folded
from npu_dialect.runtime.compiled.host import Host
from npu_dialect.runtime.compiled.library import emitter
from npu_dialect.runtime.compiled.llvm import ir
from npu_dialect.runtime.compiled.records import ROUTINE, Address, Call, Code, Fields
from npu_dialect.runtime.compiled.translate import (
    Context,
    NotEmittedError,
    lowers,
    separate,
)

OUTER = 2
"""Dimensions of results besides the innermost."""

REDUCE = Fields(
    "input",
    "finish",
    "positions",
    "blocks",
    "block",
    "chunk",
    "apart",
    "zero",
    outer=OUTER,
    outer_strides=OUTER,
    extents=RANK,
    strides=RANK,
)
"""A position is a block of `block` results, `apart` bytes from each other at the input; there are
`blocks` of them at each place of `outer`. `chunk` positions are computed before they are finished.
`zero`: what a sum is decreased by, or each factor of a product.
"""
BLOCK = {"vectors": 128, "rows": 64, "elements": 64}
"""Results that are computed together, where there are many and they can be divided."""
MOST = 4096
"""Results that are computed together, where there are many."""
SCRATCH = 4096
"""Bytes of results that are computed before they are finished."""
SLACK = 256
"""Bytes behind the results that may be written."""
CALLS = 256
"""Calls that one instruction may become."""


def fold_of(kind: str, dtype: DType) -> Fold:
    """How a kind of reduction combines elements."""
    if kind in ("max", "min"):
        return Fold(kind, dtype.name)
    if dtype.is_float:
        return Fold(kind, dtype.name, "f32")
    return Fold(kind, dtype.name, "i64" if dtype.name == "i64" else "i32")


@dataclass(frozen=True)
class Dim:
    """A dimension: its extent, and its strides at the input and at the output (0 where reduced)."""

    extent: int
    of: int
    to: int = 0


@dataclass(frozen=True)
class Plan:
    """A reduction whose dimensions are sorted out."""

    values: Values
    fold: Fold
    mode: str
    outer: tuple[Dim, ...]
    inner: Dim
    """Results along it are computed together."""
    nest: tuple[Dim, ...]
    """What is reduced."""
    source: Address
    output: Operand
    whole: bool
    """Whether the results along `inner` stay together."""

    def part(self, start: Dim, index: int, **changes: Any) -> Plan:
        """The plan of what lies `index` places further along a dimension."""
        source = Address(self.source.space, self.source.offset + index * start.of)
        return replace(self, source=source, output=self.output.moved(index * start.to), **changes)


@lowers(ReduceOp)
def lower_reduce(values: Values, context: Context) -> Sequence[Call]:
    """A reduction as few calls: one, but for a rest of blocks and for unusual strides."""
    separate(values["output"], *(values[n] for n in ("params", "table") if n in values))
    values, first = with_input_apart(values)
    kernel = kernel_of(context.kernels, values) if "kernel" in values else None
    return [*first, *_calls(_plan(values, kernel), kernel, context)]


def _plan(values: Values, kernel: Kernel | None) -> Plan:
    source: Operand = values["input"]
    output: Operand = values["output"]
    fold = fold_of(values["kind"], source.dtype)
    dims = [Dim(*d) for d in zip(source.dims, source.strides, output.strides, strict=True)]
    kept = [d for axis, d in enumerate(dims) if not values["axes"] >> axis & 1]
    nest = [d for axis, d in enumerate(dims) if values["axes"] >> axis & 1]
    if not fold.ordered:
        nest.sort(key=lambda d: -abs(d.of))
    nest = [replace(d, to=0) for d in _merged([replace(d, to=0) for d in nest])]
    whole = kernel is not None and bool(kernel.params) and values["params"].dims[1] > 1
    size = source.dtype.itemsize
    if whole:
        outer, inner = _merged(kept[:-1]), kept[-1]
    else:
        outer = _merged(kept) or [Dim(1, 0)]
        inner = next((d for d in outer if d.of == size), max(outer, key=lambda d: d.extent))
        outer.remove(inner)
    mode = "elements"
    if inner.of == size and inner.extent > 1:
        mode = "vectors"
    elif nest and nest[-1].of == size:
        mode = "rows"
    place = Address.of(source)
    return Plan(values, fold, mode, tuple(outer), inner, tuple(nest), place, output, whole)


def _merged(dims: Sequence[Dim]) -> list[Dim]:
    """As few dimensions as possible."""
    if any(d.extent == 0 for d in dims):
        return [Dim(0, 0)]
    extents, (of, to) = merged([d.extent for d in dims], [d.of for d in dims], [d.to for d in dims])
    return [Dim(*d) for d in zip(extents, of, to, strict=True)]


def _calls(plan: Plan, kernel: Kernel | None, context: Context) -> list[Call]:
    if len(plan.outer) > OUTER:
        first, *rest = plan.outer
        if first.extent > CALLS:
            raise NotEmittedError("its results have too many dimensions")
        parts = (plan.part(first, i, outer=tuple(rest)) for i in range(first.extent))
        calls = [call for part in parts for call in _calls(part, kernel, context)]
        if len(calls) > CALLS:
            raise NotEmittedError("its results have too many dimensions")
        return calls
    inner = plan.inner
    block = _block(plan)
    blocks = inner.extent // block if block else 0
    main = replace(plan, inner=replace(inner, extent=blocks * block))
    calls = [_call(main, block, kernel, context)]
    if blocks * block < inner.extent:
        rest = inner.extent - blocks * block
        tail = plan.part(inner, blocks * block, inner=replace(inner, extent=rest))
        calls.append(_call(tail, rest, kernel, context))
    return calls


def _block(plan: Plan) -> int:
    """How many results are computed together."""
    places, extent = prod(d.extent for d in plan.outer), plan.inner.extent
    if plan.whole or len(plan.outer) > 1 or (places >= 8 and extent <= MOST):
        return extent
    return min(extent, BLOCK[plan.mode])


def _call(plan: Plan, block: int, kernel: Kernel | None, context: Context) -> Call:
    fold, inner = plan.fold, plan.inner
    results = (*plan.outer, inner)
    output = Operand(
        plan.output.space,
        plan.output.address,
        plan.output.dtype,
        tuple(d.extent for d in results),
        tuple(d.to for d in results),
    )
    pitch = block * fold.result_size
    blocks = inner.extent // block if block else 0
    positions = prod(d.extent for d in plan.outer) * blocks
    spec, words = lower_finish(
        plan.values,
        kernel,
        fold.result,
        output,
        rows=positions,
        columns=1,
        channels=block,
        sums_stride=pitch,
        context=context,
    )
    count = prod(d.extent for d in plan.nest)
    zero: int = 0 if fold.extreme or fold.ordered else plan.values["x_zero"]
    zero = (zero * count if fold.kind == "sum" else zero) & (2**64 - 1)
    chunk = max(1, SCRATCH // max(pitch, 1))
    record = REDUCE.pack(
        words,
        input=plan.source,
        finish=Code(spec),
        positions=positions,
        blocks=max(1, blocks),
        block=block,
        chunk=chunk,
        apart=inner.of,
        zero=zero - (zero >> 63 << 64),
        outer=padded([d.extent for d in plan.outer], 1, OUTER),
        outer_strides=padded([d.of for d in plan.outer], 0, OUTER),
        extents=padded([d.extent for d in plan.nest], 1),
        strides=padded([d.of for d in plan.nest], 0),
    )
    routine = ("reduce", fold.kind, fold.dtype, plan.mode, len(plan.nest))
    return Call(routine, record, min(chunk, positions) * pitch + SLACK)


class _Reduction:
    """The code of one routine."""

    def __init__(self, f: Function, host: Host, fold: Fold, mode: str, rank: int) -> None:
        self.f, self.host, self.fold = f, host, fold
        self.lanes = 1 if mode == "elements" else fold.lanes(host)
        record = f["record"]

        def word(name: str, element: int = 0) -> Value:
            return REDUCE.whole(f, record, name, element)

        dims = range(RANK - rank, RANK)
        self.nest = [(word("extents", i), word("strides", i)) for i in dims]
        self.block, self.apart = word("block"), word("apart")
        self.compute = {"rows": self.by_rows}.get(mode, self.by_vectors)
        if mode == "rows" and fold.ordered:
            self.compute = self.by_transposed_rows
        if not (fold.extreme or fold.ordered):
            zero = word("zero")
            self.zero = zero if fold.element is I64 else f.b.trunc(zero, fold.element)

    def emit(self) -> None:
        """Chunk by chunk of the thread's positions."""
        f, record = self.f, self.f["record"]
        chunk, blocks = (REDUCE.whole(f, record, n) for n in ("chunk", "blocks"))
        outer, strides = (
            [REDUCE.whole(f, record, n, i) for i in range(OUTER)]
            for n in ("outer", "outer_strides")
        )
        source, finish = (REDUCE.pointer(f, record, n) for n in ("input", "finish"))
        pitch = f.mul(self.block, self.fold.result_size)
        step = f.mul(self.block, self.apart)
        positions = REDUCE.whole(f, record, "positions")
        low, high = f.share(positions, f["thread"], f["threads"])

        def some(first: Value, _: list[Value]) -> None:
            last = f.min(f.add(first, chunk), high)

            def one(position: Value, _: list[Value]) -> None:
                number = f.b.udiv(position, blocks)
                (here,) = moved(f, number, outer, [(source, strides)])
                here = f.at(here, f.mul(f.b.urem(position, blocks), step))
                self.compute(here, f.at(f["scratch"], f.mul(f.sub(position, first), pitch)))

            f.loop(first, last, one)
            results = [f.at(record, 8 * REDUCE.size), f["scratch"], first, f.sub(last, first)]
            f.call(finish, results)

        f.loop(low, high, some, step=chunk)
        f.done()

    # --- elements ---------------------------------------------------------------------------------

    def term(self, x: Value) -> Value:
        """What is folded: a factor decreases by the zero point, a sum does so in the end."""
        if self.fold.kind != "prod" or self.fold.ordered:
            return x
        return self.f.b.sub(x, self.f.splat(self.zero, x.type.count))

    def finished(self, totals: Sequence[Value]) -> Value:
        """The results, as they are stored."""
        return self.adjusted(self.fold.value(self.f, totals))

    def adjusted(self, result: Value) -> Value:
        """The results of elements less the zero point."""
        if self.fold.kind != "sum" or self.fold.ordered:
            return result
        return self.f.b.sub(result, self.f.splat(self.zero, result.type.count))

    # --- a block of results -----------------------------------------------------------------------

    def by_vectors(self, source: Value, target: Value) -> None:
        """Neighbouring results, or single ones."""
        f, lanes = self.f, self.lanes
        count = f.div(f.add(self.block, lanes - 1), lanes)
        apart = self.apart if lanes == 1 else lanes * self.fold.storage.itemsize
        vectors = Vectors(count, apart, lanes * self.fold.result_size)
        fold_vectors(
            f, self.host, self.fold, lanes, source, target, vectors, self.nest, self.finished,
            self.term,
        )  # fmt: skip

    def by_rows(self, source: Value, target: Value) -> None:
        """Vectors along the elements of a result, whose order does not matter."""
        f, fold, lanes = self.f, self.fold, self.lanes
        extent, size = self.nest[-1][0], fold.storage.itemsize
        whole = f.b.and_(extent, I64(-lanes))
        numbers = ir.Constant(vector(fold.element, lanes), list(range(lanes)))
        rest = f.sub(extent, whole)
        rest = rest if fold.element is I64 else f.b.trunc(rest, fold.element)
        inside = f.b.icmp_signed("<", numbers, f.splat(rest, lanes))

        def row(index: Value, _: list[Value]) -> None:
            def run(at: Sequence[Value], totals: Sequence[Value]) -> list[Value]:
                def some(i: Value, now: list[Value]) -> list[Value]:
                    x = fold.load(f, self.host, f.at(at[0], f.mul(i, size)), lanes)
                    return fold.step(f, now, self.term(x))

                totals = f.loop(0, whole, some, totals, step=lanes)
                x = fold.load(f, self.host, f.at(at[0], f.mul(whole, size)), lanes)
                x = f.b.select(inside, self.term(x), fold.start(f, lanes)[0])
                return fold.step(f, totals, x)

            here = f.at(source, f.mul(index, self.apart))
            totals = folded(f, self.nest[:-1], [here], fold.start(f, lanes), run)
            result = self.adjusted(fold.across(f, totals))
            f.store(result, target, f.mul(index, fold.result_size))

        f.loop(0, self.block, row)

    def by_transposed_rows(self, source: Value, target: Value) -> None:
        """A row per lane, in order; two vectors of rows at a time, as each addition waits for the
        one before. Rows beyond the last one are the last one again.
        """
        f, lanes = self.f, self.host.lanes
        last = f.sub(self.block, 1)

        def some(together: int) -> Callable[[Value, list[Value]], None]:
            def rows(index: Value, _: list[Value]) -> None:
                numbers = [f.min(f.add(index, i), last) for i in range(together * lanes)]
                offsets = [f.mul(number, self.apart) for number in numbers]
                groups = [offsets[i : i + lanes] for i in range(0, together * lanes, lanes)]
                for g, totals in enumerate(self._rows(source, groups)):
                    f.store(totals, f.at(target, f.mul(index, 4)), 4 * g * lanes)

            return rows

        double = 2 * lanes
        whole = f.b.and_(self.block, I64(-double))
        f.loop(0, whole, some(2), step=double)
        f.loop(whole, self.block, some(1), step=lanes)

    def _rows(self, source: Value, groups: Sequence[Sequence[Value]]) -> list[Value]:
        f, fold = self.f, self.fold
        extent, size = self.nest[-1][0], fold.storage.itemsize
        whole = f.b.and_(extent, I64(-4))
        rest = f.sub(extent, whole)

        def columns(at: Value, place: Value) -> list[list[Value]]:
            here = f.at(at, f.mul(place, size))
            return [self._columns(here, offsets) for offsets in groups]

        def run(at: Sequence[Value], totals: Sequence[Value]) -> list[Value]:
            def four(i: Value, now: list[Value]) -> list[Value]:
                now = list(now)
                for g, parts in enumerate(columns(at[0], i)):
                    for x in parts:
                        (now[g],) = fold.step(f, [now[g]], x)
                return now

            totals = f.loop(0, whole, four, totals, step=4)
            for g, parts in enumerate(columns(at[0], whole)):
                for place, x in enumerate(parts[:3]):
                    (new,) = fold.step(f, [totals[g]], x)
                    totals[g] = f.b.select(f.less(place, rest), new, totals[g])
            return totals

        start = fold.start(f, self.host.lanes) * len(groups)
        return folded(f, self.nest[:-1], [source], start, run)

    def _columns(self, at: Value, offsets: Sequence[Value]) -> list[Value]:
        """Four elements of each of `host.lanes` rows, as four vectors with a lane per row: squares
        of four rows each side by side, transposed.
        """
        f, lanes = self.f, len(offsets)
        loaded = [self.fold.load(f, self.host, f.at(at, offset), 4) for offset in offsets]
        rows = [f.concat(loaded[i::4]) for i in range(4)]
        starts = range(0, lanes, 4)
        low = [lane for s in starts for lane in (s, lanes + s, s + 1, lanes + s + 1)]
        high = [lane + 2 for lane in low]
        for _ in range(2):
            pairs = zip(rows[:2], rows[2:], strict=True)
            rows = [f.shuffle(a, b, order) for a, b in pairs for order in (low, high)]
        return rows


@emitter("reduce")
def emit_reduce(
    module: Any, symbol: str, host: Host, kind: str, dtype: str, mode: str, rank: int
) -> None:
    """Reduces `rank` dimensions."""
    f = Function(module, symbol, ROUTINE)
    _Reduction(f, host, fold_of(kind, BY_NAME[dtype]), mode, rank).emit()
