"""Rescaling one or two bytes as one affine function of whole numbers, where a table proves it.

A quantized addition rescales both operands and their sum, with a rounding each time. Its operands
have 256 values each, so that all results fit in a table; wherever one (a * x + b * y + c) >> shift
within 32 bits, clamped, gives the whole table, code computes that: a tenth of the work.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import product
from typing import Any

import numpy as np

from npu_dialect.kernel import MICRO_OPS, Kernel, Step
from npu_dialect.machine import Array
from npu_dialect.runtime.compiled.builder import Value
from npu_dialect.runtime.compiled.micro_ops import Scope, row
from npu_dialect.runtime.compiled.packing import Range

AFFINE = "affine"
"""A step that kernels do not have."""
VALUES = 256
"""Values of an operand at most."""
NEAR = 3
"""How far factors are looked for from the best ones."""
FAR = 1 << 40
"""More than any bound of what a sum starts from."""
RESCALE, ADD, CONSTANT = "requantize.fixed", "add.i32", "const.i32"


@dataclass(frozen=True)
class Affine:
    """clamp((factors . operands + start) >> shift, low, high)."""

    operands: tuple[int, ...]
    """Numbers of the kernel's values."""
    factors: tuple[int, ...]
    start: int
    shift: int
    low: int
    high: int
    replaced: frozenset[int]
    """Values that nothing else needs."""

    @property
    def numbers(self) -> list[tuple[str, int | float]]:
        """The numbers of the step's code."""
        plain = (*self.factors, self.start, self.shift, self.low, self.high)
        return [("i32", n) for n in plain]


def affine_steps(kernel: Kernel, ranges: Sequence[Range | None]) -> dict[int, Affine]:
    """By the number of the value that it gives, what replaces a rescaling."""
    first = len(kernel.tensors) + len(kernel.params)
    found: dict[int, Affine] = {}
    for number, step in enumerate(kernel.steps, first):
        if step.op == RESCALE:
            match = _match(kernel, ranges, number)
            if match is not None:
                found[number] = match
    inner = frozenset[int]().union(*(a.replaced for a in found.values()))
    return {number: a for number, a in found.items() if number not in inner}


def _match(kernel: Kernel, ranges: Sequence[Range | None], top: int) -> Affine | None:
    tree = _Tree(kernel, ranges)
    if not tree.expand(top) or not tree.inner - {top}:
        return None
    operands = tuple(sorted(tree.leaves))
    if len(operands) > 2:
        return None
    limits = tuple(tree.leaves[o] for o in operands)
    expression = tree.expression(top, {o: i for i, o in enumerate(operands)})
    numbers = _fit(expression, limits)
    if numbers is None:
        return None
    low, high = (int(i) for i in tree.step(top).immediates[-2:])
    return Affine(operands, *numbers, low, high, frozenset(tree.inner - {top}))


@dataclass
class _Tree:
    """The additions and rescalings that a value is made of, down to values of few bits."""

    kernel: Kernel
    ranges: Sequence[Range | None]
    leaves: dict[int, Range] = field(default_factory=dict[int, Range])
    inner: set[int] = field(default_factory=set[int])
    """Values that only the tree needs."""

    def step(self, number: int) -> Step:
        return self.kernel.steps[number - len(self.kernel.tensors) - len(self.kernel.params)]

    def expand(self, number: int) -> bool:
        """Whether a value and what it is made of is such a tree."""
        self.inner.add(number)
        step = self.step(number)
        if step.op == RESCALE:
            return self._constants(step) and self._operand(step.args[0])
        return all(self._operand(a) for a in step.args)

    def _operand(self, number: int) -> bool:
        limits = self.ranges[number]
        if limits is not None and limits[1] - limits[0] < VALUES:
            self.leaves[number] = limits
            return True
        inputs = len(self.kernel.tensors) + len(self.kernel.params)
        if number < inputs or self.step(number).op not in (RESCALE, ADD):
            return False
        return self._uses(number) == 1 and self.expand(number)

    def _uses(self, number: int) -> int:
        result = len(self.kernel.tensors) + len(self.kernel.params) + len(self.kernel.steps) - 1
        return sum(s.args.count(number) for s in self.kernel.steps) + (number == result)

    def _constants(self, step: Step) -> bool:
        limits = [self.ranges[a] for a in step.args[1:]]
        return all(ends is not None and ends[0] == ends[1] for ends in limits)

    def expression(self, number: int, places: Mapping[int, int]) -> Any:
        """The tree as nested tuples: a place of an operand, or (immediates, multiplier, shift,
        rescaled), or the two summands.
        """
        if number in places:
            return places[number]
        step = self.step(number)
        if step.op == ADD:
            return tuple(self.expression(a, places) for a in step.args)
        multiplier, shift = (ends[0] for a in step.args[1:] if (ends := self.ranges[a]))
        return step.immediates, multiplier, shift, self.expression(step.args[0], places)


@lru_cache(maxsize=1024)
def _fit(expression: Any, limits: tuple[Range, ...]) -> tuple[tuple[int, ...], int, int] | None:
    """(factors, start, shift) that give an expression for all operands within `limits`."""
    axes = [np.arange(low, high + 1, dtype=np.int32) for low, high in limits]
    grid = [axis.reshape([-1 if i == n else 1 for i in range(len(axes))])
            for n, axis in enumerate(axes)]  # fmt: skip
    table = np.broadcast_to(_table(expression, grid), [len(a) for a in axes]).astype(np.int64)
    slopes, constant = _line(expression, len(axes))
    low, high = (int(i) for i in expression[0][-2:])
    shift = min(30, 31 - int(_greatest(slopes, constant, limits) + 2).bit_length())
    if shift < 1:
        return None
    factors = tuple(round(s * 2.0**shift) for s in slopes)
    return _Fit(table, axes, shift, (low, high)).near(factors, constant)


def _greatest(slopes: Sequence[float], constant: float, limits: Sequence[Range]) -> float:
    """The greatest magnitude of a line. Sums on the way to it may wrap."""
    ends = [[slope * end for end in pair] for slope, pair in zip(slopes, limits, strict=True)]
    return max(abs(constant + sum(map(least, ends))) for least in (min, max))


@dataclass(frozen=True)
class _Fit:
    """The search for what gives a table within its bounds."""

    table: Array
    axes: Sequence[Array]
    shift: int
    bounds: Range

    def near(
        self, factors: tuple[int, ...], constant: float
    ) -> tuple[tuple[int, ...], int, int] | None:
        """(factors, start, shift) with factors that differ from those given by a little."""
        exact = self._slacks(factors)
        moves = sorted(product(range(-NEAR, NEAR + 1), repeat=len(factors)), key=_length)
        for move in moves:
            least, most = self._moved(exact, move)
            if least <= most:
                found = tuple(f + m for f, m in zip(factors, move, strict=True))
                start = min(max(round((constant + 0.5) * 2.0**self.shift), least), most)
                return (found, start, self.shift) if self._fits(found, start) else None
        return None

    def _slacks(self, factors: tuple[int, ...]) -> list[tuple[Array, Array]]:
        """(operands [n, k], slack [n]) of the results that bound the start from below, then from
        above: those that can decide after a small change of the factors.
        """
        low, high = self.bounds
        values = self._values(factors)
        reach = 2 * NEAR * sum(int(np.abs(a).max()) for a in self.axes)
        below, above = (
            (self.table << self.shift) - values,
            ((self.table + 1) << self.shift) - values,
        )
        from_below, from_above = self.table > low, self.table < high
        most = below[from_below].max(initial=-FAR)
        least = above[from_above].min(initial=FAR)
        chosen = (from_below & (below >= most - reach), from_above & (above <= least + reach))
        return [
            (self._operands(at), slack[at])
            for at, slack in zip(chosen, (below, above), strict=True)
        ]

    def _operands(self, chosen: Array) -> Array:
        places = np.nonzero(chosen)
        columns = [axis[p].astype(np.int64) for axis, p in zip(self.axes, places, strict=True)]
        return np.stack(columns, axis=1)

    def _moved(self, exact: list[tuple[Array, Array]], move: tuple[int, ...]) -> Range:
        """The least and the greatest start when the factors move."""
        (under, below), (over, above) = exact
        least = (below - under @ np.array(move)).max(initial=-FAR)
        most = (above - over @ np.array(move)).min(initial=FAR) - 1
        return int(least), int(most)

    def _values(self, factors: tuple[int, ...]) -> Array:
        values: Array = np.zeros((), np.int64)
        for factor, axis in zip(factors, self.axes, strict=True):
            values = values[..., None] + factor * axis.astype(np.int64)
        return values

    def _fits(self, factors: tuple[int, ...], start: int) -> bool:
        """Whether no sum leaves 32 bits; on the way to it, it may."""
        values = self._values(factors)
        ends = (int(values.min()) + start, int(values.max()) + start, start, *factors)
        return all(-(1 << 31) <= end < 1 << 31 for end in ends)


def _length(move: tuple[int, ...]) -> int:
    return sum(abs(m) for m in move)


def _table(expression: Any, grid: Sequence[Array]) -> Array:
    """The exact values of an expression, by the micro-operations themselves."""
    if isinstance(expression, int):
        return grid[expression]
    if len(expression) == 2:
        a, b = (_table(e, grid) for e in expression)
        return MICRO_OPS[ADD].function(a, b)
    immediates, multiplier, shift, of = expression
    numbers = (np.asarray(n, np.int32) for n in (multiplier, shift))
    return MICRO_OPS[RESCALE].function(_table(of, grid), *numbers, *immediates)


def _line(expression: Any, count: int) -> tuple[list[float], float]:
    """(slopes, constant) of an expression without its roundings and clamps."""
    if isinstance(expression, int):
        return [float(i == expression) for i in range(count)], 0.0
    if len(expression) == 2:
        (a, c), (b, d) = (_line(e, count) for e in expression)
        return [x + y for x, y in zip(a, b, strict=True)], c + d
    (_, zero_in, zero_out, *_), multiplier, shift, of = expression
    slopes, constant = _line(of, count)
    factor = multiplier * 2.0**-shift
    if expression[0][0] == "double":
        factor = multiplier * 2.0 ** -max(shift, 31) * 2.0 ** max(31 - shift, 0)
    return [factor * s for s in slopes], factor * (constant - int(zero_in)) + int(zero_out)


@row(AFFINE)
def _emit(s: Scope, form: str, immediates: Sequence[Value], *operands: Value) -> Value:
    factors, (start, shift, low, high) = immediates[: len(operands)], immediates[len(operands) :]
    total = start
    for x, factor in zip(operands, factors, strict=True):
        total = s.b.add(total, s.b.mul(x, factor))
    whole = s.b.ashr(total, shift)
    whole = s.b.select(s.b.icmp_signed(">", whole, low), whole, low)
    return s.b.select(s.b.icmp_signed("<", whole, high), whole, high)
