"""Shape shared by the operations that apply a kernel, and the checks they share."""

from __future__ import annotations

from abc import ABC
from collections.abc import Sequence
from typing import Any, cast

from xdsl.dialects.builtin import (
    IntegerAttr,
    MemRefType,
)
from xdsl.ir import Attribute, SSAValue
from xdsl.irdl import (
    opt_operand_def,
    opt_prop_def,
)
from xdsl.utils.exceptions import VerifyException

from npu_dialect.dtypes import DType
from npu_dialect.kernel import Kernel, KernelAttr
from npu_dialect.tile.syntax import (
    TileOp,
    dtype_of,
    shape_of,
    values_of,
)

Pair = tuple[int, int]


class KernelOp(TileOp, ABC):
    """Shape shared by the operations that apply a kernel."""

    params = opt_operand_def(MemRefType)
    table = opt_operand_def(MemRefType)
    kernel = opt_prop_def(KernelAttr)

    def check_kernel(self, tensors: Sequence[DType], output: SSAValue) -> None:
        """Raises VerifyException unless the kernel takes `tensors`, gives the type of `output`, and
        has its operands.
        """
        if self.kernel is None:
            return
        kernel = self.kernel.data
        if kernel.tensors != tuple(tensors):
            raise VerifyException(
                f"the kernel must take ({type_names(tensors)}), "
                f"found ({type_names(kernel.tensors)})"
            )
        if kernel.output != dtype_of(output):
            raise VerifyException(f"the kernel must give {dtype_of(output)}, found {kernel.output}")
        self._check_params(len(kernel.params), shape_of(output)[-1] if shape_of(output) else 1)
        self._check_table(kernel)

    def _check_params(self, rows: int, channels: int) -> None:
        if (self.params is None) != (rows == 0):
            found = "none" if self.params is None else f"{self.params.type}"
            raise VerifyException(f"params must have the kernel's {rows} rows, found {found}")
        if self.params is None:
            return
        shape = shape_of(self.params)
        if len(shape) != 2 or shape[0] != rows or shape[1] not in (1, channels):
            raise VerifyException(
                f"params must have the shape [{rows}, {channels}] or [{rows}, 1], "
                f"found {list(shape)}"
            )
        if dtype_of(self.params).itemsize != 4:
            raise VerifyException(f"params must be 4-byte words, found {dtype_of(self.params)}")

    def _check_table(self, kernel: Kernel) -> None:
        if (self.table is None) != (kernel.table is None):
            raise VerifyException("there must be a table exactly where the kernel looks one up")
        if self.table is not None and (shape_of(self.table), dtype_of(self.table)) != (
            (kernel.table_size,),
            kernel.table,
        ):
            raise VerifyException(
                f"the table must be {kernel.table_size} elements of {kernel.table}, "
                f"found {self.table.type}"
            )


def type_names(types: Sequence[DType]) -> str:
    """The types as messages name them."""
    return ", ".join(map(str, types))


def kernel_attr(kernel: Kernel | KernelAttr | None) -> KernelAttr | None:
    """The property of a kernel."""
    return KernelAttr(kernel) if isinstance(kernel, Kernel) else kernel


def int_of(attribute: Attribute) -> int:
    """The value of an integer property."""
    return cast(IntegerAttr[Any], attribute).value.data


def broadcasts(shape: tuple[int, ...], to: tuple[int, ...]) -> bool:
    """Whether dimensions of size 1 repeated make `shape` equal to `to`; ranks must agree."""
    return len(shape) == len(to) and all(s in (1, t) for s, t in zip(shape, to, strict=True))


def check_pairs(**values: Any) -> None:
    """Raises VerifyException unless every array property is a pair of positive integers."""
    for name, attribute in values.items():
        found = values_of(attribute)
        if len(found) != 2 or min(found) < 1:
            raise VerifyException(f"{name} must be two positive integers, found {list(found)}")


def image_dims(name: str, shape: tuple[int, ...]) -> tuple[int, ...]:
    """[H, W, C] of an image, which may have a leading dimension of size 1."""
    if len(shape) == 4 and shape[0] == 1:
        return shape[1:]
    if len(shape) != 3:
        raise VerifyException(
            f"{name} must have the shape [H, W, C] or [1, H, W, C], found {list(shape)}"
        )
    return shape
