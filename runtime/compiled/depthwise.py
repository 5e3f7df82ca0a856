"""The routine of depthwise convolutions: vectors of channels, window element after window element.

For i16 two window elements are taken at a time: the unpack instructions interleave two vectors of
inputs into pairs, whose products one instruction adds. They work on 16 bytes each, so that sums
come in another order of channels (`packing.interleaving`), which is undone at the end.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from npu_dialect.runtime.compiled.builder import F32, I16, I32, I64, Function, Value, vector
from npu_dialect.runtime.compiled.host import Host
from npu_dialect.runtime.compiled.library import Spec, emitter
from npu_dialect.runtime.compiled.packing import interleaving
from npu_dialect.runtime.compiled.products import Positions, multiply_add
from npu_dialect.runtime.compiled.records import ROUTINE

VECTORS = (8, 4, 2, 1)
"""Vectors of sums at a time."""


def spec(arithmetic: str, accumulate: bool) -> Spec:
    """The routine's name."""
    return ("depthwise", arithmetic, accumulate)


@emitter("depthwise")
def emit(module: Any, symbol: str, host: Host, arithmetic: str, accumulate: bool) -> None:
    """One instruction; `accumulate`: the products are added to partial sums."""
    f = Function(module, symbol, ROUTINE)
    kind = _Pairs if arithmetic == "i16" else _Singles
    kind(f, host, arithmetic, accumulate).emit()
    f.done()


class Depthwise(Positions):
    """Chunks of channels, for each of them all positions."""

    widths: Sequence[int]
    """Vectors of sums of a chunk, as many as the channels that are left fill; greatest first. The
    number of channels is filled up to the smallest.
    """

    def sums(self, base: Value, count: Value) -> None:
        f = self.f
        done: Value = I64(0)
        for vectors in self.widths:
            width = vectors * self.host.lanes
            last = f.sub(self.w["padded"], f.b.srem(f.sub(self.w["padded"], done), I64(width)))

            def some(n: Value, _: list[Value], vectors: int = vectors) -> None:
                self.chunk(base, count, n, vectors)

            f.loop(done, last, some, step=width)
            done = last

    def chunk(self, base: Value, count: Value, n: Value, vectors: int) -> None:
        """`vectors` vectors of channels from `n` on, of all positions."""
        self.f.loop(0, count, lambda i, _: self._position(base, i, n, vectors))

    def _position(self, base: Value, i: Value, n: Value, vectors: int) -> None:
        """The sums of one position and `vectors` vectors of channels."""
        f, size = self.f, 4 * self.host.lanes
        window = f.at(base, f.load(I64, self.offsets, f.mul(i, 8)))
        out = f.at(self.block_sums, f.add(f.mul(i, self.sums_row), f.mul(n, 4)))
        kind = vector(F32 if self.is_float else I32, self.host.lanes)
        if self.accumulate:
            start = [f.load(kind, out, size * v) for v in range(vectors)]
        else:
            start = [f.constant(kind.element, 0, self.host.lanes)] * vectors
        for v, value in enumerate(self.window(window, n, self.arranged(start))):
            f.store(value, out, size * v)

    def arranged(self, sums: list[Value]) -> list[Value]:
        """Sums in the order in which `window` takes them."""
        return sums

    def window(self, window: Value, n: Value, sums: list[Value]) -> list[Value]:
        """`sums` plus the products of a window, for channels `n` and following."""
        raise NotImplementedError

    def element(self, window: Value, index: Value) -> Value:
        """The address of element number `index` of a window."""
        offset = self.f.load(I64, self.address("run_offsets"), self.f.mul(index, 8))
        return self.f.at(window, offset)


class _Singles(Depthwise):
    """i32 and f32."""

    widths = VECTORS

    def window(self, window: Value, n: Value, sums: list[Value]) -> list[Value]:
        f, lanes = self.f, self.host.lanes
        kind = vector(F32 if self.is_float else I32, lanes)
        here, weights = f.at(window, f.mul(n, 4)), f.at(self.address("weights"), f.mul(n, 4))

        def one(t: Value, state: list[Value]) -> list[Value]:
            pointer, *totals = state
            of = self.element(here, t)
            new: list[Value] = []
            for v, total in enumerate(totals):
                x, w = f.load(kind, of, 4 * lanes * v), f.load(kind, pointer, 4 * lanes * v)
                new.append(multiply_add(f, self.host, self.arithmetic, total, x, w))
            return [f.at(pointer, self.sums_row), *new]

        return f.loop(0, self.w["runs"], one, [weights, *sums])[1:]


class _Pairs(Depthwise):
    """i16: pairs of window elements."""

    widths = VECTORS[:-1]

    def arranged(self, sums: list[Value]) -> list[Value]:
        return self._permuted(sums, interleaving(self.host.lanes))

    def window(self, window: Value, n: Value, sums: list[Value]) -> list[Value]:
        f, lanes = self.f, self.host.lanes
        here = f.at(window, f.mul(n, 2))
        weights = f.at(self.address("weights"), f.mul(n, 4))
        halves = len(sums) // 2

        def pair(t: Value, state: list[Value]) -> list[Value]:
            pointer, *totals = state
            first = self.element(here, f.mul(t, 2))
            second = self.element(here, f.add(f.mul(t, 2), 1))
            new: list[Value] = []
            for h in range(halves):
                a, b = (f.load(vector(I16, 2 * lanes), p, 4 * lanes * h) for p in (first, second))
                for half, total in zip((0, 4), totals[2 * h : 2 * h + 2], strict=True):
                    x = f.shuffle(a, b, _unpack(lanes, half))
                    w = f.load(x.type, pointer, 4 * lanes * (2 * h + half // 4))
                    new.append(multiply_add(f, self.host, "i16", total, x, w))
            return [f.at(pointer, self.sums_row), *new]

        pairs = f.div(f.add(self.w["runs"], 1), 2)
        found = f.loop(0, pairs, pair, [weights, *sums])[1:]
        back: list[int] = [0] * (2 * lanes)
        for place, channel in enumerate(interleaving(lanes)):
            back[channel] = place
        return self._permuted(found, back)

    def _permuted(self, sums: list[Value], order: list[int]) -> list[Value]:
        """Each two vectors of sums in another order."""
        lanes, result = self.host.lanes, list[Value]()
        for a, b in zip(sums[::2], sums[1::2], strict=True):
            result += [self.f.shuffle(a, b, order[:lanes]), self.f.shuffle(a, b, order[lanes:])]
        return result


def _unpack(lanes: int, half: int) -> list[int]:
    """Lanes of punpcklwd (`half` 0) or punpckhwd (4)."""
    return [
        lane
        for group in range(lanes // 4)
        for i in range(4)
        for lane in (8 * group + half + i, 2 * lanes + 8 * group + half + i)
    ]
