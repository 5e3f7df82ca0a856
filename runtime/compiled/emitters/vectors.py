"""Vector instructions: kernels over operands that broadcast to the output.

Dimensions are joined where all operands allow it, and one of them becomes the line along which the
kernel runs; the others are walked, and shared among the threads. The parameters are one more
operand, which moves in the last dimension only.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

from npu_dialect.kernel import Kernel
from npu_dialect.machine import Operand
from npu_dialect.npu.base import Values, kernel_of
from npu_dialect.npu.vectors import VectorOp
from npu_dialect.runtime.compiled import kernels, tables
from npu_dialect.runtime.compiled.builder import Function, Value
from npu_dialect.runtime.compiled.emitters.finish import (
    broadcast_strides,
    check_operands,
    param_strides,
    table_fields,
)
from npu_dialect.runtime.compiled.emitters.strides import merged, moved, padded, product
from npu_dialect.runtime.compiled.host import Host
from npu_dialect.runtime.compiled.kernels import Shape
from npu_dialect.runtime.compiled.library import emitter
from npu_dialect.runtime.compiled.lines import STRIDED, Access, Line, mode_of
from npu_dialect.runtime.compiled.records import ROUTINE, Address, Call, Fields
from npu_dialect.runtime.compiled.translate import Context, NotEmittedError, lowers, separate

OUTER = 4
"""Dimensions around the line."""
NAMES = ("output", "a", "b", "c", "params")

VECTOR = Fields(
    "line",
    "last",
    "params_row",
    "table",
    "table_step",
    *NAMES,
    dims=OUTER,
    steps=len(NAMES),
    **{f"{name}_strides": OUTER for name in NAMES},
)
"""`line` elements at each position of `dims`, `last` at the last position of the innermost one;
`steps` are the strides along the line. What an instruction lacks is 0.
"""

PIECE = 4096
"""Elements of a line when one long dimension is all there is: pieces of it are shared."""
LINE_COST = 12
"""Time to begin a line, in elements of one vector instruction each."""
STRIDED_COST = 1.5
"""Time per element of an operand whose elements are no neighbours."""


@dataclass
class _Walk:
    """Dimensions and, per operand of `NAMES`, strides in bytes."""

    dims: list[int]
    strides: list[list[int]]

    def take(self, axis: int) -> tuple[int, list[int]]:
        """Removes a dimension: its extent and strides."""
        return self.dims.pop(axis), [s.pop(axis) for s in self.strides]


@lowers(VectorOp)
def lower_vector(values: Values, context: Context) -> Call:
    """A vector instruction."""
    return vector_call(values, kernel_of(context.kernels, values))


def vector_call(values: Values, kernel: Kernel) -> Call:
    """A kernel of operands a, b and c, with what else it takes."""
    inputs = [values[n] for n in "abc" if n in values]
    output: Operand = values["output"]
    _check(values, kernel, inputs, output)
    shape, words = kernels.split(kernel)
    params: Operand | None = values["params"] if shape.params else None
    channels = output.dims[-1] if output.dims else 1
    table, gapless = table_fields(values, shape)
    params_row, channel = param_strides(params, channels)
    walk = _walk(inputs, output, channel)
    sizes = [output.dtype.itemsize, *(o.dtype.itemsize for o in inputs)]
    sizes += [4] * (len(NAMES) - len(sizes))
    line, steps = walk.take(_best_line(walk, sizes)) if walk.dims else (1, [0] * len(NAMES))
    modes = [mode_of(step, size, line) for step, size in zip(steps, sizes, strict=True)]
    line, last = _split_line(walk, line, steps)
    dims = [0] * OUTER if not output.elements else padded(walk.dims, 1, OUTER)
    operands = dict(zip("abc", inputs, strict=False))
    record = VECTOR.pack(
        words,
        line=line,
        last=last,
        params_row=params_row,
        **table,
        output=Address.of(output),
        a=Address.of(inputs[0]) if inputs else 0,
        b=Address.of(operands["b"]) if "b" in operands else 0,
        c=Address.of(operands["c"]) if "c" in operands else 0,
        params=Address.of(params) if params else 0,
        dims=dims,
        steps=steps,
        **{
            f"{name}_strides": padded(strides, 0, OUTER)
            for name, strides in zip(NAMES, walk.strides, strict=True)
        },
    )
    used = [modes[0], *modes[1 : 1 + len(inputs)], modes[4] if params else ""]
    return Call(("vector", shape, tuple(used), gapless), record)


def _check(values: Values, kernel: Kernel, inputs: Sequence[Operand], output: Operand) -> None:
    if [o.dtype for o in inputs] != list(kernel.tensors) or output.dtype is not kernel.output:
        raise NotEmittedError("its kernel does not fit its operands")
    repeats = zip(output.strides, output.dims, strict=True)
    if output.elements and any(stride == 0 and extent > 1 for stride, extent in repeats):
        raise NotEmittedError("its output overlaps itself")
    check_operands(values, kernel)
    beside = [values[n] for n in ("params", "table") if n in values]
    separate(output, *beside, same=inputs)


def _walk(inputs: Sequence[Operand], output: Operand, channel: int) -> _Walk:
    """All dimensions, joined."""
    if not output.elements:
        return _Walk([], [[] for _ in NAMES])
    lists = [list(output.strides), *(broadcast_strides(o, output.dims) for o in inputs)]
    lists += [[0] * len(output.dims) for _ in range(len(NAMES) - 1 - len(lists))]
    lists.append([0] * (len(output.dims) - 1) + [channel] if output.dims else [])
    return _Walk(*merged(output.dims, *lists))


def _best_line(walk: _Walk, sizes: Sequence[int]) -> int:
    """The dimension along which the kernel takes the least time."""
    elements = prod(walk.dims)

    def cost(axis: int) -> float:
        lines = elements / walk.dims[axis]
        strided = sum(
            mode_of(s[axis], size, walk.dims[axis]) == STRIDED
            for s, size in zip(walk.strides, sizes, strict=True)
        )
        return lines * LINE_COST + elements * strided * STRIDED_COST

    return min(reversed(range(len(walk.dims))), key=cost)


def _split_line(walk: _Walk, line: int, steps: Sequence[int]) -> tuple[int, int]:
    """Elements of a line and of the last one; a long line alone becomes pieces, in `walk`."""
    if line <= PIECE or len(walk.dims) == OUTER or prod(walk.dims) > 8:
        return line, line
    pieces = -(-line // PIECE)
    walk.dims.append(pieces)
    for strides, step in zip(walk.strides, steps, strict=True):
        strides.append(PIECE * step)
    return PIECE, line - PIECE * (pieces - 1)


# --- the routine ----------------------------------------------------------------------------------


@emitter("vector")
def emit(
    module: Any, symbol: str, host: Host, shape: Shape, modes: tuple[str, ...], gapless: bool
) -> None:
    """`modes` are those of the output, the operands and the parameters."""
    f = Function(module, symbol, ROUTINE)
    routine = _Vector(f, host, shape, modes)
    if shape.shuffled_table:
        step = VECTOR.whole(f, f["record"], "table_step")
        routine.table = tables.ready(f, host, shape.shuffled_table, routine.table, step, gapless)
    routine.emit()
    f.done()


class _Vector:
    """The code of one vector instruction."""

    def __init__(self, f: Function, host: Host, shape: Shape, modes: tuple[str, ...]) -> None:
        self.f, self.shape = f, shape
        record = f["record"]
        self.line = Line(f, host, shape, VECTOR.end(f, record))
        inputs = NAMES[1 : 1 + len(shape.tensors)]
        self.names = ["output", *inputs, *(["params"] if shape.params else [])]
        self.modes = dict(zip(["output", *inputs, "params"], modes, strict=True))
        self.dims = [VECTOR.whole(f, record, "dims", i) for i in range(OUTER)]
        self.strides = {
            n: [VECTOR.whole(f, record, f"{n}_strides", i) for i in range(OUTER)]
            for n in self.names
        }
        self.steps = {
            n: VECTOR.whole(f, record, "steps", NAMES.index(n))
            for n in self.names
            if self.modes[n] == STRIDED
        }
        self.length, self.last, self.params_row = (
            VECTOR.whole(f, record, n) for n in ("line", "last", "params_row")
        )
        self.table = VECTOR.pointer(f, record, "table")

    def emit(self) -> None:
        """Positions row by row: a row is the innermost of the dimensions around the line."""
        f, row = self.f, self.dims[-1]
        low, high = f.share(product(f, self.dims), f["thread"], f["threads"])
        width = f.max(row, 1)
        after = f.div(f.add(high, f.sub(width, 1)), width)

        def some(index: Value, _: list[Value]) -> None:
            begin = f.mul(index, row)
            start = f.sub(f.max(low, begin), begin)
            stop = f.sub(f.min(high, f.add(begin, row)), begin)
            self._row(index, start, stop)

        f.loop(f.div(low, width), after, some)

    def _row(self, index: Value, start: Value, stop: Value) -> None:
        """The positions from `start` to `stop` of row number `index`."""
        f = self.f
        ends = [(VECTOR.pointer(f, f["record"], n), self.strides[n][:-1]) for n in self.names]
        steps = [self.strides[n][-1] for n in self.names]
        pointers = [
            f.at(pointer, f.mul(start, step))
            for pointer, step in zip(moved(f, index, self.dims[:-1], ends), steps, strict=True)
        ]
        end = f.sub(self.dims[-1], 1)

        def position(column: Value, at: list[Value]) -> list[Value]:
            is_last = f.b.icmp_signed("==", column, end)
            self._line(f.b.select(is_last, self.last, self.length), at)
            return [f.at(pointer, step) for pointer, step in zip(at, steps, strict=True)]

        f.loop(start, stop, position, pointers)

    def _line(self, count: Value, pointers: Sequence[Value]) -> None:
        shape, at = self.shape, dict(zip(self.names, pointers, strict=True))
        inputs = self.names[1 : 1 + len(shape.tensors)]
        tensors = [
            self._access(dtype, name, at[name])
            for dtype, name in zip(shape.tensors, inputs, strict=True)
        ]
        params = [
            self._access(kind, "params", self.f.at(at["params"], self.f.mul(n, self.params_row)))
            for n, kind in enumerate(shape.params)
        ]
        output = self._access(shape.output, "output", at["output"])
        self.line.emit(count, tensors, params, self.table, output)

    def _access(self, dtype: str, name: str, pointer: Value) -> Access:
        return Access(dtype, self.modes[name], pointer, self.steps.get(name, 0))
