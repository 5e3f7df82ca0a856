"""The output stage of array, reduce and pool instructions: results go through a kernel to where
they belong.

A routine `finish` is called with a block of results that lie dense, per position, and the number
of the first position. Its record is the tail of the caller's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from npu_dialect.dtypes import BY_NAME, DType
from npu_dialect.kernel import TABLE_SIZE, Kernel, widened
from npu_dialect.machine import Operand
from npu_dialect.npu.base import Values
from npu_dialect.runtime.compiled import kernels, tables
from npu_dialect.runtime.compiled.builder import I32, I64, POINTER, Function, Value, vector
from npu_dialect.runtime.compiled.emitters.strides import merged, padded
from npu_dialect.runtime.compiled.host import Host
from npu_dialect.runtime.compiled.kernels import Shape
from npu_dialect.runtime.compiled.library import Spec, emitter
from npu_dialect.runtime.compiled.lines import SAME, UNIT, Access, Line, mode_of
from npu_dialect.runtime.compiled.records import Address, Fields, Word
from npu_dialect.runtime.compiled.translate import Context, NotEmittedError

FINISH = Fields(
    "columns",
    "channels",
    "sums_stride",
    "params",
    "params_row",
    "params_channel",
    "table",
    "table_step",
    "output",
    "residual",
    output_strides=3,
    residual_strides=3,
)
"""Strides of row, column and channel, in bytes; what an instruction lacks is 0. The kernel's
numbers are the tail.
"""

ROUTINE = {"record": POINTER, "sums": POINTER, "first": I64, "count": I64}
"""The arguments of a finish routine."""

PERIODIC = 128
"""Channels up to which a run of dense positions is one line, with parameters that repeat."""


@dataclass(frozen=True)
class Modes:
    """How the operands of the output stage move from channel to channel."""

    output: str
    residual: str
    """"" without one."""
    params: str
    """"" without any."""
    dense: bool
    """Whether the positions of a row follow each other without a gap, here and in the sums."""
    gapless_table: bool = True


def lower_finish(
    values: Values,
    kernel: Kernel | None,
    source_dtype: str,
    output: Operand,
    *,
    rows: int,
    columns: int,
    channels: int,
    sums_stride: int,
    context: Context,
) -> tuple[Spec, list[Word]]:
    """The routine and the record of an output stage for `rows` x `columns` positions. Raises
    NotEmittedError.
    """
    if kernel is None:
        shape, words = Shape.store(BY_NAME[source_dtype], output.dtype), list[int]()
    else:
        kernel = _taking(kernel, BY_NAME[source_dtype])
        check_operands(values, kernel)
        _check_types(values, kernel, source_dtype, output)
        shape, words = kernels.split(kernel)
    residual: Operand | None = values["residual"] if len(shape.tensors) > 1 else None
    params: Operand | None = values["params"] if shape.params else None
    places = _Places.of(output, residual, rows * columns, channels)
    row, step = param_strides(params, channels)
    table, gapless = table_fields(values, shape)
    modes = Modes(
        mode_of(places.output[2], output.dtype.itemsize, channels),
        mode_of(places.residual[2], residual.dtype.itemsize, channels) if residual else "",
        mode_of(step, 4, channels) if params else "",
        dense=False,
        gapless_table=gapless,
    )
    if sums_stride == channels * BY_NAME[source_dtype].itemsize:
        modes = replace(modes, dense=_is_dense(places, modes, output, residual, channels))
    record = FINISH.pack(
        words,
        columns=places.columns,
        channels=channels,
        sums_stride=sums_stride,
        params=Address.of(params) if params else 0,
        params_row=row,
        params_channel=step,
        **table,
        output=Address.of(output),
        residual=Address.of(residual) if residual else 0,
        output_strides=places.output,
        residual_strides=places.residual,
    )
    return ("finish", shape, modes), record


def _taking(kernel: Kernel, source: DType) -> Kernel:
    """A kernel of widened results, as one of the results themselves, which its loads widen: of
    maxima and minima, which keep the type of the elements.
    """
    if not kernel.tensors or kernel.tensors[0].name != widened(source):
        return kernel
    return replace(kernel, tensors=(source, *kernel.tensors[1:]))


def _check_types(values: Values, kernel: Kernel, source_dtype: str, output: Operand) -> None:
    names = [d.name for d in kernel.tensors]
    if not names or names[0] != source_dtype:
        raise NotEmittedError(f"its kernel does not take {source_dtype}")
    if len(names) > 2 or kernel.output is not output.dtype:
        raise NotEmittedError("its kernel does not fit its operands")
    residual: Operand | None = values.get("residual")
    if len(names) == 2 and (residual is None or residual.dtype is not kernel.tensors[1]):
        raise NotEmittedError("its kernel does not fit its residual")


def check_operands(values: Values, kernel: Kernel) -> None:
    """Raises NotEmittedError where an instruction lacks what its kernel takes, or the look-up table
    is not as many elements of the kernel's type as that takes.
    """
    wanted = {"params": bool(kernel.params), "table": kernel.table is not None}
    if any(name not in values for name, needed in wanted.items() if needed):
        raise NotEmittedError("its kernel takes parameters or a table that it has not")
    if kernel.table is not None:
        table: Operand = values["table"]
        if table.dims != (kernel.table_size,) or table.dtype is not kernel.table:
            raise NotEmittedError("its kernel does not fit its table")
        if kernel.table_size != TABLE_SIZE and table.strides[0] != table.dtype.itemsize:
            raise NotEmittedError("its table of more than 256 elements has gaps")


def table_fields(values: Values, shape: Shape) -> tuple[dict[str, Word], bool]:
    """The fields of a record that say where the table lies, and whether its elements are
    neighbours.
    """
    if shape.table is None:
        return {"table": 0, "table_step": 0}, True
    table: Operand = values["table"]
    step = table.strides[0]
    return {"table": Address.of(table), "table_step": step}, step == table.dtype.itemsize


def param_strides(params: Operand | None, channels: int) -> tuple[int, int]:
    """Strides of the rows of parameters, and from channel to channel. Raises NotEmittedError."""
    if params is None:
        return 0, 0
    if len(params.dims) != 2 or params.dtype.itemsize != 4:
        raise NotEmittedError("its parameters are not rows of 4-byte words")
    if params.dims[1] not in (1, channels):
        raise NotEmittedError("its parameters do not fit the channels")
    return params.strides[0], params.strides[1] if params.dims[1] > 1 else 0


@dataclass(frozen=True)
class _Places:
    """Where positions lie: strides of row, column and channel, in bytes."""

    columns: int
    output: tuple[int, int, int]
    residual: tuple[int, int, int]

    @staticmethod
    def of(output: Operand, residual: Operand | None, positions: int, channels: int) -> _Places:
        """The output's elements in order, as positions of so many channels each. Raises
        NotEmittedError where positions need more than two dimensions.
        """
        other = broadcast_strides(residual, output.dims)
        if positions * channels != output.elements:
            raise NotEmittedError("its positions do not fit its output")
        if not output.elements:
            return _Places(1, (0, 0, 0), (0, 0, 0))
        dims, (to, of) = merged(output.dims, output.strides, other)
        last = (0, 0)
        if channels > 1:
            if dims[-1] % channels:
                raise NotEmittedError("its channels are not one dimension")
            last = (to[-1], of[-1])
            dims[-1] //= channels
            to[-1] *= channels
            of[-1] *= channels
            if dims[-1] == 1:
                dims, (to, of) = dims[:-1], (to[:-1], of[:-1])
        if len(dims) > 2:
            raise NotEmittedError("its positions have more than two dimensions")
        columns = dims[-1] if dims else 1
        to, of = padded(to, 0, 2), padded(of, 0, 2)
        return _Places(columns, (to[0], to[1], last[0]), (of[0], of[1], last[1]))


def broadcast_strides(operand: Operand | None, dims: Sequence[int]) -> list[int]:
    """The strides of an operand that is repeated to fill `dims`; all 0 without one."""
    if operand is None:
        return [0] * len(dims)
    own = padded(operand.dims, 1, len(dims))
    strides = padded(operand.strides, 0, len(dims))
    if len(own) != len(dims) or any(a not in (1, b) for a, b in zip(own, dims, strict=True)):
        raise NotEmittedError("an operand does not broadcast to its output")
    return [0 if extent == 1 else stride for extent, stride in zip(own, strides, strict=True)]


def _is_dense(
    places: _Places, modes: Modes, output: Operand, residual: Operand | None, channels: int
) -> bool:
    """Whether a row's positions can be one line."""
    if modes.output != UNIT or (modes.params == UNIT and channels > PERIODIC):
        return False
    if places.columns > 1 and places.output[1] != channels * output.dtype.itemsize:
        return False
    if residual is None:
        return modes.params in ("", UNIT, SAME)
    step = channels * residual.dtype.itemsize
    return modes.residual == UNIT and (places.columns == 1 or places.residual[1] == step)


# --- the routine ----------------------------------------------------------------------------------


@emitter("finish")
def emit(module: Any, symbol: str, host: Host, shape: Shape, modes: Modes) -> None:
    """void(ptr record, ptr sums, i64 first, i64 count)."""
    f = Function(module, symbol, ROUTINE)
    _Finish(f, host, shape, modes).emit()
    f.done()


class _Finish:
    """The code of one output stage."""

    def __init__(self, f: Function, host: Host, shape: Shape, modes: Modes) -> None:
        self.f, self.shape, self.modes = f, shape, modes
        self.record = f["record"]
        self.line = Line(f, host, shape, FINISH.end(f, self.record))
        self.columns, self.channels, self.sums_stride = (
            FINISH.whole(f, self.record, n) for n in ("columns", "channels", "sums_stride")
        )
        self.table = FINISH.pointer(f, self.record, "table")
        if shape.shuffled_table:
            step = FINISH.whole(f, self.record, "table_step")
            gapless = modes.gapless_table
            self.table = tables.ready(f, host, shape.shuffled_table, self.table, step, gapless)
        self.last = f.add(f["first"], f["count"])

    def emit(self) -> None:
        """Row by row; the first and the last may be parts."""
        f = self.f
        params, period = self._params()
        low = f.div(f["first"], self.columns)
        high = f.div(f.add(self.last, f.sub(self.columns, 1)), self.columns)

        def row(index: Value, _: list[Value]) -> None:
            begin = f.mul(index, self.columns)
            start = f.max(f["first"], begin)
            stop = f.min(self.last, f.add(begin, self.columns))
            column = f.sub(start, begin)
            sums = f.at(f["sums"], f.mul(f.sub(start, f["first"]), self.sums_stride))
            ends = [self._end(name, index, column) for name in self._names()]
            self._positions(f.sub(stop, start), [sums, *ends], params, period)

        f.loop(low, high, row)

    def _names(self) -> list[str]:
        return ["output", "residual"] if self.modes.residual else ["output"]

    def _stride(self, name: str, axis: int) -> Value:
        return FINISH.whole(self.f, self.record, f"{name}_strides", axis)

    def _end(self, name: str, row: Value, column: Value) -> Value:
        """Where an operand's position lies."""
        f = self.f
        start = f.at(FINISH.pointer(f, self.record, name), f.mul(row, self._stride(name, 0)))
        return f.at(start, f.mul(column, self._stride(name, 1)))

    def _positions(
        self, count: Value, pointers: list[Value], params: Sequence[Access], period: Value
    ) -> None:
        """Some neighbours in a row, whose sums, output and residual begin at `pointers`."""
        f = self.f
        if self.modes.dense:
            self._line(f.mul(count, self.channels), pointers, params, period)
            return
        steps = [self.sums_stride, *(self._stride(n, 1) for n in self._names())]

        def position(_: Value, at: list[Value]) -> list[Value]:
            self._line(self.channels, at, params, None)
            return [f.at(pointer, step) for pointer, step in zip(at, steps, strict=True)]

        f.loop(0, count, position, pointers)

    def _line(
        self, count: Value, pointers: list[Value], params: Sequence[Access], period: Value
    ) -> None:
        shape, modes = self.shape, self.modes
        sums, output, *residual = pointers
        tensors = [Access(shape.tensors[0], UNIT, sums)]
        if residual:
            step = self._stride("residual", 2)
            tensors.append(Access(shape.tensors[1], modes.residual, residual[0], step))
        to = Access(shape.output, modes.output, output, self._stride("output", 2))
        self.line.emit(count, tensors, params, self.table, to, period)

    def _params(self) -> tuple[list[Access], Value]:
        """The rows of parameters, and the period with which they repeat."""
        f = self.f
        base = FINISH.pointer(f, self.record, "params")
        row = FINISH.whole(f, self.record, "params_row")
        step = FINISH.whole(f, self.record, "params_channel")
        rows = [f.at(base, f.mul(number, row)) for number in range(len(self.shape.params))]
        period = None
        if self.modes.dense and self.modes.params == UNIT:
            rows, period = self._repeated(rows)
        kinds = self.shape.params
        return [
            Access(kind, self.modes.params, pointer, step)
            for kind, pointer in zip(kinds, rows, strict=True)
        ], period

    def _repeated(self, rows: Sequence[Value]) -> tuple[list[Value], Value]:
        """Copies of rows of parameters, repeated to an iteration's width at least, and further by
        that.
        """
        f, width, lanes = self.f, self.line.width, self.line.lanes
        times = f.div(f.add(self.channels, width - 1), self.channels)
        period = f.mul(times, self.channels)
        kind = vector(I32, lanes)
        slots = 2 * (PERIODIC + width) + lanes
        targets = [tables.room(f, slots) for _ in rows]

        def repeat(start: Value, _: list[Value]) -> None:
            def some(i: Value, _: list[Value]) -> None:
                for row, target in zip(rows, targets, strict=True):
                    value = f.load(kind, row, f.mul(i, 4))
                    f.store(value, target, f.mul(f.add(start, i), 4))

            f.loop(0, self.channels, some, step=lanes)

        f.loop(0, f.add(period, width), repeat, step=self.channels)
        return targets, period
