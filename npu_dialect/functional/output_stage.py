"""The usual kernels of an output stage, on sums in floating point.

`requantization` knows kernels that begin with

    v0 = add.i32 t0, p0; v1 = requantize.f32 v0, p1 {zero_in=0, ...}

to 8 bits. The bias p0 can then be part of the sums, and the rest is a few operations on float32.
What follows depends on v1, and perhaps on a residual of 8 bits, and so is a table of at most 2**16
entries, which the kernel itself fills.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from npu_dialect import dtypes
from npu_dialect.functional.windows import Array
from npu_dialect.kernel import Kernel, Step

BYTES = (dtypes.u8, dtypes.i8)
TILE = 8192
"""Multipliers are repeated to about so many elements, because short rows are slow."""

Finish = Callable[[Array, Array | None, Array], None]
"""From sums [positions, channels] (overwritten) and a residual to the output, shaped alike."""


@dataclass(frozen=True)
class Requantization:
    """A kernel known to be the requantization of sums with a bias, then perhaps a table."""

    kernel: Kernel
    zero: int
    low: int
    high: int

    def fits(self, multiplier: Array) -> bool:
        """Whether no product with a sum can overflow, which would need care."""
        return bool(np.abs(multiplier).max(initial=0) < 1e20)

    def finish(self, multiplier: Array, positions: int) -> Finish:
        """The operation for float32 `multiplier` [channels] and so many positions."""
        channels = len(multiplier)
        limit = max(1, TILE // channels)
        repeats = max(d for d in range(1, min(limit, positions) + 1) if positions % d == 0)
        wide = np.tile(np.ascontiguousarray(multiplier), repeats)
        low, high = float(self.low - self.zero), float(self.high - self.zero)
        store, first = self._store()
        offset = float(self.zero - first)

        def run(sums: Array, residual: Array | None, output: Array) -> None:
            if sums.dtype != np.float32:
                sums = sums.astype(np.float32)
            real = sums.reshape(-1, len(wide))
            np.multiply(real, wide, out=real)
            np.rint(real, out=real)
            real.clip(low, high, out=real)
            if offset:
                np.add(real, offset, out=real)
            store(real.reshape(output.shape), residual, output)

        return run

    def _store(self) -> tuple[Finish, int]:
        """From v1, minus the number beside, to the output."""
        if len(self.kernel.steps) == 2:
            return _narrow, 0
        table = _table(self)
        return (_look_up if len(self.kernel.tensors) == 1 else _look_up_pair)(table), self.low


def requantization(kernel: Kernel) -> Requantization | None:
    """What a kernel is, where it is known; see the module docstring."""
    if kernel.tensors[0] != dtypes.i32 or kernel.params != ("i32", "f32") or len(kernel.steps) < 2:
        return None
    count = len(kernel.tensors)
    bias, scale = kernel.steps[:2]
    if bias != Step("add.i32", (0, count)) or scale.op != "requantize.f32":
        return None
    if scale.args != (count + 2, count + 1):
        return None
    zero_in, zero, low, high = (_whole(i) for i in scale.immediates)
    if zero_in != 0 or not -(2**16) <= low <= high <= 2**16 or abs(zero) > 2**16:
        return None
    found = Requantization(kernel, zero, low, high)
    return found if _is_stored(found) or _is_table(found) else None


def _is_stored(found: Requantization) -> bool:
    """Whether v1 itself is the output, and fits it."""
    output = found.kernel.output
    alone = len(found.kernel.steps) == 2 and len(found.kernel.tensors) == 1
    return alone and output.is_int and output.low <= found.low and found.high <= output.high


def _is_table(found: Requantization) -> bool:
    """Whether the output depends on v1 and a residual of 8 bits alone."""
    kernel, count = found.kernel, len(found.kernel.tensors)
    hidden = {0, *range(count, count + 3)}
    small = found.high - found.low < 256 and len(kernel.steps) > 2 and kernel.table is None
    bytes_only = count <= 2 and all(d in BYTES for d in kernel.tensors[1:])
    return small and bytes_only and all(hidden.isdisjoint(s.args) for s in kernel.steps[2:])


@lru_cache(maxsize=256)
def _table(found: Requantization) -> Array:
    """The output for every v1 and, with a residual, each of its bit patterns, which vary first."""
    count = len(found.kernel.tensors)
    steps = tuple(
        Step(s.op, tuple(_renumbered(a, count) for a in s.args), s.immediates)
        for s in found.kernel.steps[2:]
    )
    rest = Kernel((dtypes.i32, *found.kernel.tensors[1:]), (), steps, found.kernel.output)
    values = np.arange(found.low, found.high + 1, dtype=np.int32)[:, None]
    patterns = np.arange(256, dtype=np.uint8)[None]
    residuals = [patterns.view(d.numpy) for d in found.kernel.tensors[1:]]
    return rest.evaluate([values, *residuals]).reshape(-1)


def _look_up(table: Array) -> Finish:
    def store(values: Array, residual: Array | None, output: Array) -> None:
        np.copyto(output, table.take(values.astype(np.intp)))

    return store


def _look_up_pair(table: Array) -> Finish:
    def store(values: Array, residual: Array | None, output: Array) -> None:
        assert residual is not None
        np.multiply(values, 256.0, out=values)
        np.add(values, residual.view(np.uint8), out=values)
        np.copyto(output, table.take(values.astype(np.intp)))

    return store


def _renumbered(value: int, tensors: int) -> int:
    """The number of a value where v1 is the first tensor, and t0, p0, p1 and v0 are gone."""
    if value < tensors:
        return value
    return 0 if value == tensors + 3 else value - 4


def _whole(value: Any) -> int:
    return int(value)


def _narrow(values: Array, residual: Array | None, output: Array) -> None:
    np.copyto(output, values, casting="unsafe")
