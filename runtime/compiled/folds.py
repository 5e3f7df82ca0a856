"""Folding many elements into one: sums, products, maxima and minima, a vector of results at a time.

Floats are ordered by their bits: a maximum is found among the bits as signed numbers where some
value is not negative, else as unsigned ones, where the least is the greatest value. So three
extremes are kept, of which the third one tells whether there was a NaN; -0 is below +0.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from npu_dialect.dtypes import BY_NAME, DType
from npu_dialect.runtime.compiled.builder import (
    F32,
    I8,
    I16,
    I32,
    I64,
    Function,
    Value,
    Whole,
    vector,
)
from npu_dialect.runtime.compiled.elements import load, value_type
from npu_dialect.runtime.compiled.host import Host

BITS = {1: I8, 2: I16, 4: I32, 8: I64}
TOTALS = {"i32": I32, "i64": I64, "f32": F32}
_INFINITY = {"f16": 0x7C00, "bf16": 0x7F80, "f32": 0x7F800000, "f64": 0x7FF << 52}
TOGETHER = 4
"""Vectors of results that are computed at a time."""

Nest = Sequence[tuple[Value, Value]]
"""(extent, stride) of the dimensions that are folded, the outermost first."""
Finish = Callable[[list[Value]], Value]
"""From the accumulators to a vector of results."""


@dataclass(frozen=True)
class Fold:
    """One kind of folding. `into` is the type of a sum or product ("i32", "i64" or "f32")."""

    kind: str
    """"sum", "prod", "max" or "min"."""
    dtype: str
    into: str = ""

    @property
    def storage(self) -> DType:
        return BY_NAME[self.dtype]

    @property
    def extreme(self) -> bool:
        """Whether the result is one of the elements."""
        return self.kind in ("max", "min")

    @property
    def result(self) -> str:
        """The storage type of the results."""
        return self.dtype if self.extreme else self.into

    @property
    def result_size(self) -> int:
        return BY_NAME[self.result].itemsize

    @property
    def ordered(self) -> bool:
        """Whether the result depends on the order of the elements."""
        return self.into == "f32"

    @property
    def element(self) -> Any:
        """The type of the accumulators' lanes."""
        return BITS[self.storage.itemsize] if self.extreme else TOTALS[self.into]

    def lanes(self, host: Host) -> int:
        """Elements of a vector, such that a read beyond the end stays in the guard."""
        return host.vector_bytes // max(self.storage.itemsize, self.result_size)

    # --- elements -----------------------------------------------------------------------------

    def load(self, f: Function, host: Host, pointer: Value, lanes: int) -> Value:
        """Neighbours, as they are accumulated."""
        if self.extreme:
            return f.load(vector(self.element, lanes), pointer)
        value = load(f, self.dtype, pointer, lanes, host=host)
        kind, wide = value_type(self.dtype), vector(self.element, lanes)
        if self.into == "f32" and kind != "f32":
            return f.b.sitofp(value, wide)
        if (self.into, kind) == ("i32", "i64"):
            return f.b.trunc(value, wide)
        return value

    # --- accumulators -------------------------------------------------------------------------

    def start(self, f: Function, lanes: int) -> list[Value]:
        """Accumulators of no elements."""
        count = 3 if self.extreme and self.storage.is_float else 1
        return [f.constant(self.element, self._first, lanes)] * count

    @property
    def _first(self) -> int:
        if not self.extreme:
            return 1 if self.kind == "prod" else 0
        if self.storage.kind == "bool":
            return 0 if self.kind == "max" else 1
        if self.storage.is_float:
            infinity = _INFINITY[self.dtype]
            return infinity - self._sign if self.kind == "max" else infinity
        return self._as_signed(self.storage.low if self.kind == "max" else self.storage.high)

    @property
    def _sign(self) -> int:
        return 1 << (8 * self.storage.itemsize - 1)

    def _as_signed(self, value: int) -> int:
        return value if value < self._sign else value - 2 * self._sign

    @property
    def operations(self) -> tuple[str, ...]:
        """The operation of each accumulator, as LLVM names it."""
        if not self.extreme:
            name = {"sum": "add", "prod": "mul"}[self.kind]
            return ("f" + name,) if self.ordered else (name,)
        if self.storage.is_float:
            return ("smax", "umin", "umax")
        unsigned = self.dtype in ("u8", "u16", "bool")
        return (f"{'u' if unsigned else 's'}{self.kind}",)

    def step(self, f: Function, totals: Sequence[Value], x: Value) -> list[Value]:
        """The accumulators after one more element per lane."""
        return [
            f.elementwise(name, total, x) if self.extreme else getattr(f.b, name)(total, x)
            for name, total in zip(self.operations, totals, strict=True)
        ]

    def value(self, f: Function, totals: Sequence[Value]) -> Value:
        """The results, as they are stored."""
        if len(totals) == 1:
            return totals[0]
        signed_most, least, most = totals
        kind, lanes = self.element, most.type.count
        infinity = _INFINITY[self.dtype]
        zero = f.constant(kind, 0, lanes)
        if self.kind == "max":
            best = f.b.select(f.b.icmp_signed(">=", signed_most, zero), signed_most, least)
            strange = f.b.icmp_unsigned(">", most, self._constant(f, infinity - self._sign, lanes))
        else:
            best = f.b.select(f.b.icmp_signed("<", most, zero), most, least)
            strange = f.b.icmp_signed(">", signed_most, self._constant(f, infinity, lanes))
        return f.b.select(strange, self._constant(f, self._nan, lanes), best)

    def across(self, f: Function, totals: Sequence[Value]) -> Value:
        """One result from all lanes, as a vector of one lane."""
        value = self.value(f, totals)
        if len(totals) == 1:
            return self._reduced(f, self.operations[0], value)
        best = self._reduced(f, f"s{self.kind}", self._flipped(f, value))
        return self._flipped(f, best)

    def _reduced(self, f: Function, operation: str, value: Value) -> Value:
        lanes, element = value.type.count, value.type.element
        name = f"llvm.vector.reduce.{operation}.v{lanes}i{element.width}"
        return f.splat(f.intrinsic(name, element, [value]), 1)

    def _flipped(self, f: Function, bits: Value) -> Value:
        """Bits of floats as signed numbers of the same order; its own inverse."""
        lanes = bits.type.count
        sign = f.b.ashr(bits, self._constant(f, 8 * self.storage.itemsize - 1, lanes))
        return f.b.xor(bits, f.b.and_(sign, self._constant(f, self._sign - 1, lanes)))

    def _constant(self, f: Function, value: int, lanes: int) -> Value:
        return f.constant(self.element, value, lanes)

    @property
    def _nan(self) -> int:
        """A NaN that is beyond every number on the side that is asked for."""
        infinity = _INFINITY[self.dtype]
        nan = infinity | (infinity & -infinity) >> 1
        return nan if self.kind == "max" else nan - self._sign


def folded(
    f: Function,
    nest: Nest,
    pointers: Sequence[Value],
    totals: Sequence[Value],
    step: Callable[[Sequence[Value], Sequence[Value]], list[Value]],
) -> list[Value]:
    """`totals` after step(addresses, totals) at every position of a nest, row-major."""
    if not nest:
        return step(pointers, totals)
    (extent, stride), inner = nest[0], nest[1:]

    def body(_: Value, carried: list[Value]) -> list[Value]:
        here, now = carried[: len(pointers)], carried[len(pointers) :]
        now = folded(f, inner, here, now, step)
        return [*(f.at(p, stride) for p in here), *now]

    return f.loop(0, extent, body, [*pointers, *totals])[len(pointers) :]


@dataclass(frozen=True)
class Vectors:
    """Vectors of results: their number, and bytes from one to the next, of the elements and of the
    results.
    """

    count: Value
    apart: Whole
    results_apart: Whole


def fold_vectors(
    f: Function,
    host: Host,
    fold: Fold,
    lanes: int,
    source: Value,
    target: Value,
    vectors: Vectors,
    nest: Nest,
    finish: Finish,
    term: Callable[[Value], Value] = lambda x: x,
) -> None:
    """Stores the results of neighbours of `source` over a nest, several vectors at a time. `term`
    makes of an element what is folded.
    """

    def some(together: int) -> Callable[[Value, list[Value]], None]:
        steps = [f.mul(vectors.apart, u) for u in range(together)]
        count = len(fold.operations)

        def one(index: Value, _: list[Value]) -> None:
            def step(at: Sequence[Value], totals: Sequence[Value]) -> list[Value]:
                loaded = [fold.load(f, host, f.at(at[0], s), lanes) for s in steps]
                parts = [totals[u * count : u * count + count] for u in range(together)]
                new = [fold.step(f, p, term(x)) for p, x in zip(parts, loaded, strict=True)]
                return [total for part in new for total in part]

            here = f.at(source, f.mul(index, vectors.apart))
            totals = folded(f, nest, [here], fold.start(f, lanes) * together, step)
            place = f.at(target, f.mul(index, vectors.results_apart))
            for u in range(together):
                result = finish(totals[u * count : u * count + count])
                f.store(result, place, f.mul(vectors.results_apart, u))

        return one

    whole = f.b.and_(vectors.count, I64(-TOGETHER))
    f.loop(0, whole, some(TOGETHER), step=TOGETHER)
    f.loop(whole, vectors.count, some(1))
