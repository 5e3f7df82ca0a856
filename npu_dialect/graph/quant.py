"""The `quant` dialect: quantized element types in the spelling of upstream MLIR.

    !quant.uniform<i8:f32, 0.05:-3>                       per tensor: real = (stored - (-3)) * 0.05
    !quant.uniform<i8:f32:3, {0.05:-3, 0.1, 0.2:4}>       per index of dimension 3
    !quant.uniform<i8<-127:127>:f32, 0.05>                stored values use only that range

The parameters are interned: equal parameters are one object, so that types with thousands of scales
are compared and hashed by identity. Scales are float32; they are written as the shortest decimal
that reads back as the same float32.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any
from weakref import WeakValueDictionary

import numpy as np
import numpy.typing as npt
from xdsl.ir import Data, Dialect, TypeAttribute
from xdsl.irdl import irdl_attr_definition
from xdsl.parser import AttrParser
from xdsl.printer import Printer

from npu_dialect import dtypes
from npu_dialect.blob import float_text
from npu_dialect.dtypes import DType

STORAGE = {t.name: t for t in (dtypes.i8, dtypes.u8, dtypes.i16, dtypes.u16, dtypes.i32)}
"""The storage types that a quantized type can have."""

ScaleArray = npt.NDArray[np.float32]
ZeroArray = npt.NDArray[np.int32]


@dataclass(frozen=True, eq=False)
class Uniform:
    """The parameters of a quantized type; made by `uniform`, which interns them."""

    storage: DType
    low: int
    """Smallest stored value."""
    high: int
    """Greatest stored value."""
    axis: int | None
    """The dimension along which scales differ, or None for one scale."""
    scales: ScaleArray
    """[1] or [size of the axis], read-only."""
    zero_points: ZeroArray
    """Same shape as `scales`."""

    @cached_property
    def text(self) -> str:
        """What stands between the angle brackets of the type."""
        full = (self.low, self.high) == (self.storage.low, self.storage.high)
        storage = f"{self.storage}" if full else f"{self.storage}<{self.low}:{self.high}>"
        items = [
            _scale_text(s, z) for s, z in zip(self.scales, self.zero_points.tolist(), strict=True)
        ]
        if self.axis is None:
            return f"{storage}:f32, {items[0]}"
        return f"{storage}:f32:{self.axis}, {{{', '.join(items)}}}"

    def __repr__(self) -> str:
        return f"Uniform<{self.text}>"


def _scale_text(scale: np.float32, zero: int) -> str:
    return float_text(scale) + (f":{zero}" if zero else "")


_interned: WeakValueDictionary[tuple[Any, ...], Uniform] = WeakValueDictionary()


@irdl_attr_definition
class QuantType(Data[Uniform], TypeAttribute):
    """`!quant.uniform<...>`: the element type of a quantized tensor. Build it with `uniform`."""

    name = "quant.uniform"

    @property
    def storage_dtype(self) -> DType:
        """The type of the stored values."""
        return self.data.storage

    @property
    def axis(self) -> int | None:
        """The dimension along which scales differ, or None."""
        return self.data.axis

    @property
    def low(self) -> int:
        """Smallest stored value."""
        return self.data.low

    @property
    def high(self) -> int:
        """Greatest stored value."""
        return self.data.high

    @property
    def scales(self) -> ScaleArray:
        """[1] or [size of the axis], read-only."""
        return self.data.scales

    @property
    def zero_points(self) -> ZeroArray:
        """[1] or [size of the axis], read-only."""
        return self.data.zero_points

    @property
    def scale(self) -> float:
        """The scale of a per-tensor type; ValueError for a per-axis type."""
        return float(self._single().scales[0])

    @property
    def zero_point(self) -> int:
        """The zero point of a per-tensor type; ValueError for a per-axis type."""
        return int(self._single().zero_points[0])

    def _single(self) -> Uniform:
        if self.axis is not None:
            raise ValueError(f"the type must have one scale for the whole tensor; found {self}")
        return self.data

    def zero(self) -> int | ZeroArray:
        """The zero point as one number where all are the same, else the array."""
        zeros = self.zero_points
        return int(zeros[0]) if self.axis is None or not (zeros != zeros[0]).any() else zeros

    def along(self, rank: int) -> tuple[ScaleArray, ZeroArray | int]:
        """Scales and zero points, shaped to broadcast against a tensor of `rank` dimensions."""
        shape = [1] * rank
        if self.axis is not None:
            shape[self.axis] = -1
        zero = self.zero()
        return self.scales.reshape(shape), zero if isinstance(zero, int) else zero.reshape(shape)

    def with_axis(self, axis: int) -> QuantType:
        """The same parameters along another dimension (a transposition)."""
        return _make(self.data.storage, self.low, self.high, axis, self.scales, self.zero_points)

    def with_parameters(self, scales: npt.ArrayLike, zero_points: npt.ArrayLike) -> QuantType:
        """The same storage and axis with other parameters (a slice along the axis)."""
        return uniform(self.data.storage, scales, zero_points, self.axis, self.low, self.high)

    @classmethod
    def parse_parameter(cls, parser: AttrParser) -> Uniform:
        with parser.in_angle_brackets():
            return _parse(parser)

    def print_parameter(self, printer: Printer) -> None:
        with printer.in_angle_brackets():
            printer.print_string(self.data.text)


def uniform(
    storage: DType,
    scale: npt.ArrayLike,
    zero_point: npt.ArrayLike = 0,
    axis: int | None = None,
    low: int | None = None,
    high: int | None = None,
) -> QuantType:
    """The quantized type real = (stored - zero_point) * scale.

    Without `axis`, `scale` and `zero_point` are numbers; with it, arrays over that dimension (one
    zero point may serve all). `low` and `high` bound the stored values; by default they are those
    of `storage`. Raises ValueError for a scale that is not positive and finite in float32, or a
    zero point outside `storage`.
    """
    scales = np.array(scale, np.float32).reshape(-1)
    zeros = np.broadcast_to(np.array(zero_point).reshape(-1), scales.shape)
    if storage.name not in STORAGE:
        raise ValueError(f"quantized storage must be one of {', '.join(STORAGE)}; found {storage}")
    low = storage.low if low is None else low
    high = storage.high if high is None else high
    _check(storage, scales, zeros, axis, low, high)
    return _make(storage, low, high, axis, scales, np.array(zeros, np.int32))


def _make(
    storage: DType, low: int, high: int, axis: int | None, scales: ScaleArray, zeros: ZeroArray
) -> QuantType:
    key = (storage.name, low, high, axis, scales.tobytes(), zeros.tobytes())
    found = _interned.get(key)
    if found is None:
        scales.flags.writeable = zeros.flags.writeable = False
        found = _interned.setdefault(key, Uniform(storage, low, high, axis, scales, zeros))
    return QuantType(found)


def _check(
    storage: DType,
    scales: ScaleArray,
    zeros: npt.NDArray[Any],
    axis: int | None,
    low: int,
    high: int,
) -> None:
    if axis is None and scales.size != 1:
        raise ValueError(f"a type without an axis must have one scale; found {scales.size}")
    if axis is not None and axis < 0:
        raise ValueError(f"the axis of a quantized type must not be negative; found {axis}")
    if not (np.isfinite(scales) & (scales > 0)).all():
        raise ValueError(
            f"scales must be positive and finite in float32; found {scales.tolist()[:8]}"
        )
    if not storage.low <= low < high <= storage.high:
        raise ValueError(f"the storage range must lie in that of {storage}; found {low}:{high}")
    if zeros.dtype.kind not in "iu" or ((zeros < storage.low) | (zeros > storage.high)).any():
        raise ValueError(f"zero points must be values of {storage}; found {zeros.tolist()[:8]}")


# Text


def _parse(parser: AttrParser) -> Uniform:
    name = parser.parse_identifier("a storage type")
    if name not in STORAGE:
        parser.raise_error(f"quantized storage must be one of {', '.join(STORAGE)}; found {name}")
    low, high = _parse_range(parser)
    parser.parse_punctuation(":")
    expressed = parser.parse_identifier("an expressed type")
    if expressed != "f32":
        parser.raise_error(f"the expressed type must be f32; found {expressed}")
    axis = parser.parse_integer() if parser.parse_optional_punctuation(":") else None
    parser.parse_punctuation(",")
    pairs = _parse_pairs(parser, axis is not None)
    try:
        return uniform(STORAGE[name], *_columns(pairs), axis, low, high).data
    except ValueError as error:
        parser.raise_error(str(error))


def _columns(pairs: Iterable[tuple[float, int]]) -> tuple[list[float], list[int]]:
    scales, zeros = zip(*pairs, strict=True)
    return list(scales), list(zeros)


def _parse_range(parser: AttrParser) -> tuple[int | None, int | None]:
    if parser.parse_optional_punctuation("<") is None:
        return None, None
    low = parser.parse_integer()
    parser.parse_punctuation(":")
    high = parser.parse_integer()
    parser.parse_punctuation(">")
    return low, high


def _parse_pairs(parser: AttrParser, per_axis: bool) -> list[tuple[float, int]]:
    def pair() -> tuple[float, int]:
        scale = parser.parse_float()
        return scale, parser.parse_integer() if parser.parse_optional_punctuation(":") else 0

    if not per_axis:
        return [pair()]
    pairs = parser.parse_comma_separated_list(parser.Delimiter.BRACES, pair)
    if not pairs:
        parser.raise_error("a per-axis type must have at least one scale")
    return pairs


Quant = Dialect("quant", [], [QuantType])
