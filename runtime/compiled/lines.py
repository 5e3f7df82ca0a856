"""Kernels along a line of elements: the innermost loops of the output stage and of vector
instructions.

A cheap kernel runs over four vectors at a time, so that narrow results fill a register, then vector
by vector; of the last vector, only the elements within the line are stored.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from npu_dialect.machine import GUARD
from npu_dialect.runtime.compiled import elements, tables
from npu_dialect.runtime.compiled.builder import I64, Function, Value, Whole
from npu_dialect.runtime.compiled.host import Host
from npu_dialect.runtime.compiled.kernels import Prepared, Shape, evaluate, prepare

UNIT, SAME, STRIDED = "unit", "same", "strided"
"""How an operand moves along a line: to the next element, not at all, or by a stride."""
PARTS = 4
"""Vectors that a cheap kernel takes at a time."""


def mode_of(stride: int, size: int, extent: int) -> str:
    """The mode of an operand whose elements of `size` bytes lie `stride` bytes apart."""
    if stride == size or extent == 1:
        return UNIT
    return SAME if stride == 0 else STRIDED


@dataclass(frozen=True)
class Access:
    """An operand along a line: where it begins, and how it goes on."""

    dtype: str
    mode: str
    pointer: Value
    stride: Whole = 0

    @property
    def size(self) -> int:
        """Bytes of an element."""
        return elements.item_size(self.dtype)


def lanes_of(host: Host, shape: Shape) -> int:
    """Elements of a vector: a register of 32-bit ones, never more bytes than may be overread."""
    return min(host.lanes, GUARD // shape.item_size)


class Line:
    """One kernel's code along lines."""

    def __init__(self, f: Function, host: Host, shape: Shape, words: Value) -> None:
        self.f, self.host, self.shape = f, host, shape
        self.lanes = lanes_of(host, shape)
        self.parts = 1 if shape.heavy else PARTS
        self.prepared = prepare(f, host, shape, words, self.lanes)
        self.wide = self.prepared
        """For the iterations of `parts` vectors."""
        if tables.shuffles(host, shape.shuffled_table):
            self.wide = prepare(f, host, shape, words, tables.LANES)

    @property
    def width(self) -> int:
        """Elements of an iteration."""
        return self.parts * self.wide.lanes

    def emit(
        self,
        count: Value,
        tensors: Sequence[Access],
        params: Sequence[Access],
        table: Value,
        output: Access,
        period: Value = None,
    ) -> None:
        """The kernel on `count` elements. With a `period`, which is at least `width`, parameters
        repeat after so many elements, and can be read `width` elements further.
        """
        _Emission(self, count, tensors, params, table, output, period).emit()


class _Emission:
    """The code of one line."""

    def __init__(
        self,
        line: Line,
        count: Value,
        tensors: Sequence[Access],
        params: Sequence[Access],
        table: Value,
        output: Access,
        period: Value,
    ) -> None:
        self.line, self.f, self.host = line, line.f, line.host
        self.count, self.table, self.output, self.period = count, table, output, period
        self.tensors, self.params = tensors, params
        self.fixed = {
            (a, lanes): elements.load_splat(self.f, a.dtype, a.pointer, lanes, self.host)
            for a in (*tensors, *params)
            if a.mode == SAME
            for lanes in {line.lanes, line.wide.lanes}
        }

    def emit(self) -> None:
        f, line = self.f, self.line
        done, phase = I64(0), [] if self.period is None else [I64(0)]
        if line.width > line.lanes and self.output.mode == UNIT:
            done = f.b.and_(self.count, I64(-line.width))
            phase = f.loop(0, done, self._wide, phase, step=line.width)
        f.loop(done, self.count, self._narrow, phase, step=line.lanes)

    def _wide(self, index: Value, phase: list[Value]) -> list[Value]:
        """Some vectors, all within the line."""
        f, line, output = self.f, self.line, self.output
        results = [self._vector(line.wide, index, phase, part) for part in range(line.parts)]
        stored = elements.narrow_all(
            f, output.dtype, results, self.host, bounded=line.shape.bounded
        )
        f.store(stored, f.at(output.pointer, f.mul(index, output.size)))
        return self._advanced(phase, line.width)

    def _narrow(self, index: Value, phase: list[Value]) -> list[Value]:
        """One vector, perhaps the last."""
        f, line, output = self.f, self.line, self.output
        left = f.sub(self.count, index)
        result = self._vector(line.prepared, index, phase, 0, f.min(left, line.lanes))
        stored = elements.narrow(f, output.dtype, result, self.host)
        if output.mode == STRIDED:
            to = f.at(output.pointer, f.mul(index, output.stride))
            elements.store_strided(f, stored, to, output.stride, left)
            return self._advanced(phase, line.lanes)
        to = f.at(output.pointer, f.mul(index, output.size))
        f.when(
            f.less(left, line.lanes),
            lambda: elements.store_first(f, stored, to, left, self.host),
            lambda: f.store(stored, to),
        )
        return self._advanced(phase, line.lanes)

    def _advanced(self, phase: list[Value], width: int) -> list[Value]:
        if not phase:
            return []
        following = self.f.add(phase[0], width)
        wrapped = self.f.sub(following, self.period)
        return [self.f.b.select(self.f.less(following, self.period), following, wrapped)]

    def _vector(
        self,
        prepared: Prepared,
        index: Value,
        phase: list[Value],
        part: int,
        left: Value = None,
    ) -> Value:
        """The results of one vector, number `part` from the element `index` on."""
        lanes = prepared.lanes
        tensors = [self._load(a, lanes, index, part, left) for a in self.tensors]
        place = phase[0] if phase else index
        params = [self._load(a, lanes, place, part, left) for a in self.params]
        shape = self.line.shape
        return evaluate(self.f, self.host, shape, prepared, tensors, params, self.table)

    def _load(self, access: Access, lanes: int, index: Value, part: int, left: Value) -> Value:
        f = self.f
        if access.mode == SAME:
            return self.fixed[access, lanes]
        step = access.size if access.mode == UNIT else access.stride
        at = f.at(access.pointer, f.mul(index, step))
        at = f.at(at, f.mul(part * lanes, step))
        if access.mode == UNIT:
            value = elements.load(f, access.dtype, at, lanes, host=self.host)
            return value if left is None else elements.only_first(f, value, left)
        return elements.load(f, access.dtype, at, lanes, step, count=left, host=self.host)
