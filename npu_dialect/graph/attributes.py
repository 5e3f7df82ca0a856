"""Attributes of the graph dialect, and cached builders of the builtin ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any
from weakref import WeakValueDictionary

import numpy as np
import numpy.typing as npt
from xdsl.dialects.builtin import (
    I64,
    DenseArrayBase,
    Float32Type,
    FloatAttr,
    IntegerAttr,
    StringAttr,
    f32,
    i64,
)
from xdsl.ir import Attribute, Data
from xdsl.irdl import irdl_attr_definition
from xdsl.parser import AttrParser
from xdsl.printer import Printer

from npu_dialect import dtypes
from npu_dialect.blob import float_text
from npu_dialect.dtypes import DType

Integers = DenseArrayBase[I64]
Integer = IntegerAttr[I64]
Real = FloatAttr[Float32Type]


@lru_cache(maxsize=65536)
def _integers(values: tuple[int, ...]) -> Integers:
    return DenseArrayBase.from_list(i64, values)


def integers(values: Sequence[int]) -> Integers:
    """`array<i64: ...>` of whole numbers."""
    return _integers(tuple(int(v) for v in values))


@lru_cache(maxsize=65536)
def integer(value: int) -> Integer:
    """`value : i64`."""
    return IntegerAttr(int(value), i64)


def real(value: float) -> Real:
    """`value : f32`, rounded to float32."""
    return FloatAttr(float(value), f32)


@lru_cache(maxsize=4096)
def string(value: str) -> StringAttr:
    """A string attribute."""
    return StringAttr(value)


def values(attribute: Attribute) -> tuple[int, ...]:
    """The numbers of an `array<i64: ...>`. Raises ValueError for another attribute."""
    if not isinstance(attribute, DenseArrayBase):
        raise ValueError(f"a list must be array<i64: ...>; found {attribute}")
    return tuple(int(v) for v in attribute.iter_values())  # pyright: ignore[reportUnknownArgumentType, reportUnknownVariableType]


def pair(attribute: Attribute) -> tuple[int, int]:
    """The two numbers of a list (height and width). Raises ValueError for another length."""
    found = values(attribute)
    if len(found) != 2:
        raise ValueError(f"there must be 2 numbers, for height and width; found {list(found)}")
    return found[0], found[1]


def four(attribute: Attribute) -> tuple[int, int, int, int]:
    """The four numbers of a list: top, left, bottom, right. ValueError for another length."""
    found = values(attribute)
    if len(found) != 4:
        raise ValueError(f"there must be 4 numbers: top, left, bottom, right; found {list(found)}")
    return found[0], found[1], found[2], found[3]


def scalar(value: float, dtype: DType) -> Attribute:
    """The attribute of one number of a storage type: f32 for floats, i64 for integers and bool."""
    return real(value) if dtype.is_float else integer(int(value))


def scalar_of(attribute: Attribute, dtype: DType, what: str) -> float:
    """The number of an attribute that `scalar` makes for `dtype`. ValueError for any other."""
    if dtype.is_float and isinstance(attribute, FloatAttr):
        return attribute.value.data
    if not dtype.is_float and isinstance(attribute, IntegerAttr):
        value = attribute.value.data
        low, high = (0, 1) if dtype is dtypes.bool_ else (dtype.low, dtype.high)
        if low <= value <= high:
            return value
    kind = "a number : f32" if dtype.is_float else f"an integer that {dtype} can hold"
    raise ValueError(f"{what} must be {kind}; found {attribute}")


# Requantization

KINDS = ("f32", "fixed")
ROUNDINGS = ("half_even", "half_up", "half_away", "double")


@dataclass(frozen=True, eq=False)
class Requant:
    """How integers are rescaled; made by `requant_f32` and `requant_fixed`, which intern it.

    `f32`:   rint(f32(x - zero_in) * multiplier), the product rounded to float32.
    `fixed`: (x - zero_in) * multiplier / 2**shift, an exact int64 product, rounded as `rounding`
    says.
    """

    kind: str
    multiplier: npt.NDArray[Any]
    """float32 or int32, one or one per channel (the last dimension); read-only."""
    shift: npt.NDArray[np.int32]
    """Of the same size as `multiplier` for `fixed`, else empty."""
    rounding: str
    """One of `ROUNDINGS`; `half_even` for kind `f32`."""

    @property
    def channels(self) -> int:
        """1, or the size of the last dimension that the recipe is for."""
        return self.multiplier.size

    @cached_property
    def text(self) -> str:
        """What stands between the angle brackets of the attribute."""
        if self.kind == "f32":
            return f"f32, [{', '.join(float_text(m) for m in self.multiplier)}]"
        return f"fixed, {self.multiplier.tolist()}, {self.shift.tolist()}, {self.rounding}"

    def __repr__(self) -> str:
        return f"Requant<{self.text}>"


_interned: WeakValueDictionary[tuple[Any, ...], Requant] = WeakValueDictionary()


@irdl_attr_definition
class RequantAttr(Data[Requant]):
    """How `graph.requantize` rescales: `#graph.requant<f32, [0.0123]>`, or
    `#graph.requant<fixed, [1073741824], [38], half_up>` (multipliers, right shifts, rounding)."""

    name = "graph.requant"

    @classmethod
    def parse_parameter(cls, parser: AttrParser) -> Requant:
        with parser.in_angle_brackets():
            try:
                return _parse_requant(parser)
            except ValueError as error:
                parser.raise_error(str(error))

    def print_parameter(self, printer: Printer) -> None:
        with printer.in_angle_brackets():
            printer.print_string(self.data.text)


def requant_f32(multiplier: npt.ArrayLike) -> RequantAttr:
    """The recipe rint(f32(x - zero_in) * multiplier): one multiplier, or one per channel.

    Raises ValueError for a multiplier that is not finite in float32.
    """
    array = np.array(multiplier, np.float32).reshape(-1)
    if not array.size or not np.isfinite(array).all():
        raise ValueError(f"multipliers must be finite in float32; found {array.tolist()[:8]}")
    return _intern("f32", array, np.empty(0, np.int32), "half_even")


def requant_fixed(
    multiplier: npt.ArrayLike, shift: npt.ArrayLike, rounding: str = "half_even"
) -> RequantAttr:
    """The recipe (x - zero_in) * multiplier / 2**shift: one of each, or one per channel.

    Raises ValueError for multipliers outside int32, shifts outside 0..62 or an unknown rounding.
    """
    wide = np.array(multiplier, np.int64).reshape(-1)
    array = wide.astype(np.int32)
    shifts = np.array(np.broadcast_to(np.array(shift, np.int32).reshape(-1), array.shape))
    if not array.size or (array != wide).any():
        raise ValueError(f"multipliers must fit 32 bits; found {wide.tolist()[:8]}")
    if ((shifts < 0) | (shifts > 62)).any():
        raise ValueError(f"shifts must lie in 0..62; found {shifts.tolist()[:8]}")
    if rounding not in ROUNDINGS:
        raise ValueError(f"the rounding must be one of {', '.join(ROUNDINGS)}; found {rounding}")
    return _intern("fixed", array, shifts, rounding)


def _intern(
    kind: str, multiplier: npt.NDArray[Any], shift: npt.NDArray[np.int32], rounding: str
) -> RequantAttr:
    key = (kind, multiplier.tobytes(), shift.tobytes(), rounding)
    found = _interned.get(key)
    if found is None:
        multiplier.flags.writeable = shift.flags.writeable = False
        found = _interned.setdefault(key, Requant(kind, multiplier, shift, rounding))
    return RequantAttr(found)


def _parse_requant(parser: AttrParser) -> Requant:
    kind = parser.parse_identifier("f32 or fixed")
    if kind not in KINDS:
        parser.raise_error(f"a recipe must be f32 or fixed; found {kind}")
    parser.parse_punctuation(",")
    if kind == "f32":
        floats = parser.parse_comma_separated_list(parser.Delimiter.SQUARE, parser.parse_float)
        return requant_f32(floats).data
    multiplier = parser.parse_comma_separated_list(parser.Delimiter.SQUARE, parser.parse_integer)
    parser.parse_punctuation(",")
    shift = parser.parse_comma_separated_list(parser.Delimiter.SQUARE, parser.parse_integer)
    parser.parse_punctuation(",")
    return requant_fixed(multiplier, shift, parser.parse_identifier("a rounding")).data


# Placement

ENGINES = ("dma", "mxu", "vpu", "host", "io")


@dataclass(frozen=True)
class Placement:
    """Where an operation runs, the rule that decided it, and the reason in words."""

    engine: str
    rule: str
    reason: str


@irdl_attr_definition
class PlacementAttr(Data[Placement]):
    """`#graph.placement<mxu, "conv-int8", "a reason">`: where an operation runs, and why."""

    name = "graph.placement"

    @staticmethod
    def of(engine: str, rule: str, reason: str) -> PlacementAttr:
        """The attribute. Raises ValueError for an engine that no machine has."""
        if engine not in ENGINES:
            raise ValueError(f"an engine must be one of {', '.join(ENGINES)}; found {engine}")
        return PlacementAttr(Placement(engine, rule, reason))

    @classmethod
    def parse_parameter(cls, parser: AttrParser) -> Placement:
        with parser.in_angle_brackets():
            engine = parser.parse_identifier("an engine")
            parser.parse_punctuation(",")
            rule = parser.parse_str_literal("a rule")
            parser.parse_punctuation(",")
            reason = parser.parse_str_literal("a reason")
            try:
                return PlacementAttr.of(engine, rule, reason).data
            except ValueError as error:
                parser.raise_error(str(error))

    def print_parameter(self, printer: Printer) -> None:
        with printer.in_angle_brackets():
            printer.print_string(f"{self.data.engine}, ")
            printer.print_string_literal(self.data.rule)
            printer.print_string(", ")
            printer.print_string_literal(self.data.reason)


PLACEMENT = "npu.placement"
"""The name under which operations carry a `PlacementAttr`."""

APPROXIMATE = "npu.approximate"
"""The name under which steps in fixed point say which function they stand for."""

EXACT = "npu.exact"
"""On a module: functions of floats stay so, also where only the host can compute them."""
