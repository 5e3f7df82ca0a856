"""The storage types of tensors: one row each, with their numpy and xDSL spellings."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import ml_dtypes
import numpy as np
from xdsl.dialects import builtin
from xdsl.ir import Attribute


@dataclass(frozen=True)
class DType:
    """A storage type. `code` is its number in the instruction encoding; `itemsize` is in bytes."""

    name: str
    code: int
    numpy: np.dtype[Any]
    kind: str
    """"int", "float" or "bool"."""

    @property
    def itemsize(self) -> int:
        return self.numpy.itemsize

    def __str__(self) -> str:
        return self.name

    @property
    def is_float(self) -> bool:
        return self.kind == "float"

    @property
    def is_int(self) -> bool:
        return self.kind == "int"

    @property
    def low(self) -> int:
        """Smallest value of an integer type."""
        return int(np.iinfo(self.numpy).min)

    @property
    def high(self) -> int:
        """Greatest value of an integer type."""
        return int(np.iinfo(self.numpy).max)


i8 = DType("i8", 0, np.dtype(np.int8), "int")
u8 = DType("u8", 1, np.dtype(np.uint8), "int")
i16 = DType("i16", 2, np.dtype(np.int16), "int")
i32 = DType("i32", 3, np.dtype(np.int32), "int")
i64 = DType("i64", 4, np.dtype(np.int64), "int")
bool_ = DType("bool", 5, np.dtype(np.bool_), "bool")
f16 = DType("f16", 6, np.dtype(np.float16), "float")
bf16 = DType("bf16", 7, np.dtype(ml_dtypes.bfloat16), "float")
f32 = DType("f32", 8, np.dtype(np.float32), "float")
u16 = DType("u16", 9, np.dtype(np.uint16), "int")
f64 = DType("f64", 10, np.dtype(np.float64), "float")

ALL = (i8, u8, i16, i32, i64, bool_, f16, bf16, f32, u16, f64)
BY_NAME = {t.name: t for t in ALL}
BY_CODE = {t.code: t for t in ALL}
BY_NUMPY = {t.numpy: t for t in ALL}

_ELEMENT: dict[str, Attribute] = {
    "i8": builtin.i8,
    "u8": builtin.IntegerType(8, builtin.Signedness.UNSIGNED),
    "i16": builtin.i16,
    "u16": builtin.IntegerType(16, builtin.Signedness.UNSIGNED),
    "i32": builtin.i32,
    "i64": builtin.i64,
    "bool": builtin.i1,
    "f16": builtin.f16,
    "bf16": builtin.bf16,
    "f32": builtin.f32,
    "f64": builtin.f64,
}
_BY_ELEMENT = {attribute: BY_NAME[name] for name, attribute in _ELEMENT.items()}


def element_type(dtype: DType) -> Attribute:
    """The plain xDSL element type of `dtype` (`ui8` for u8, `i1` for bool)."""
    return _ELEMENT[dtype.name]


@cache
def of(element: Attribute) -> DType:
    """The storage type of an xDSL element type; looks through `!quant.uniform`.

    Raises KeyError for a type that tensors cannot have.
    """
    storage = getattr(element, "storage_dtype", None)
    if isinstance(storage, DType):
        return storage
    return _BY_ELEMENT[element]
