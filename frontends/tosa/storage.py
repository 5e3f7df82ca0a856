"""What the integers of 8 and 16 bits of a function stand for.

TOSA states zero points and signs where numbers are read and written, graph in the type of a tensor.
Values that hold the same stored numbers (a tensor and what is sliced from it) form a class; the
class has the zero point that writes it, else the one that first reads it, and the sign likewise.
Where another one is read, the numbers are converted (`ops.rescaling.as_zero`).

    %1 = tosa.rescale %0, ..., %zp8        output_zp = 8       written
    %2 = tosa.clamp %1                                         the same numbers
    %3 = tosa.conv2d %2, ..., %zp8         input_zp = 8        read
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from xdsl.dialects.builtin import TensorType
from xdsl.dialects.func import FuncOp
from xdsl.ir import SSAValue

from npu_dialect import dtypes
from npu_dialect.frontends.onnx.builder import element_of
from npu_dialect.frontends.onnx.errors import Misfit
from npu_dialect.frontends.tosa import control
from npu_dialect.graph.quant import QuantType, uniform
from npu_dialect.tosa import TosaOp, VariableReadOp, VariableWriteOp
from npu_dialect.tosa.text import array_of, width_of

SAME: dict[str, tuple[int, ...]] = {
    **dict.fromkeys(
        ("clamp", "max_pool2d", "reduce_max", "reduce_min", "reshape", "reverse", "slice", "tile",
         "transpose", "gather", "identity", "resize"), (0,)
    ),
    "pad": (0, 2), "scatter": (0, 2), "select": (1, 2), "concat": (),
}  # fmt: skip
"""Operations whose results hold the stored numbers of their operands, and of which; () for all."""

READ = {
    "avg_pool2d": ((0, 1),), "conv2d": ((0, 3), (1, 4)), "depthwise_conv2d": ((0, 3), (1, 4)),
    "conv3d": ((0, 3), (1, 4)), "transpose_conv2d": ((0, 3), (1, 4)), "matmul": ((0, 2), (1, 3)),
    "rescale": ((0, 3),), "negate": ((0, 1),),
}  # fmt: skip
"""Operands that are read with a zero point, and the operand that states it."""

WRITTEN = {"avg_pool2d": 2, "rescale": 4, "negate": 2}
"""The operand that states the zero point of the result."""


class Storage:
    """The classes of a function's values, and the element type of each."""

    def __init__(self, function: FuncOp, stated: dict[SSAValue, QuantType]) -> None:
        """`stated` are quantizations of arguments and results that the function states."""
        self.parent: dict[SSAValue, SSAValue] = {}
        self.zeros: dict[SSAValue, int] = {}
        self.unsigned: dict[SSAValue, bool] = {}
        self.stated: dict[SSAValue, QuantType] = {}
        ops = [op for op in function.walk() if isinstance(op, TosaOp)]
        for op in ops:
            self._join(op)
        self._join_variables(function)
        for op in function.walk():
            for value, other in control.same_values(op):
                if _is_stored(value) and _is_stored(other):
                    self._union(value, other)
        for value, quant in stated.items():
            self.stated.setdefault(self._root(value), quant)
        for votes in (_written, _read):
            for op in ops:
                for value, zero, sign in votes(op):
                    root = self._root(value)
                    self.zeros.setdefault(root, zero)
                    if sign is not None:
                        self.unsigned.setdefault(root, sign)

    def element(self, value: SSAValue, width: int) -> QuantType:
        """The quantized type of a value of `width` bits."""
        root = self._root(value)
        stated = self.stated.get(root)
        if stated is not None and stated.storage_dtype.itemsize * 8 == width:
            return stated
        is_unsigned = self.unsigned.get(root, False)
        dtype = {
            (8, False): dtypes.i8, (8, True): dtypes.u8,
            (16, False): dtypes.i16, (16, True): dtypes.u16,
        }[width, is_unsigned]  # fmt: skip
        zero = self.zeros.get(root, 0)
        if is_unsigned:
            zero %= 1 << width
        return uniform(dtype, 1.0, zero)

    def _root(self, value: SSAValue) -> SSAValue:
        while value in self.parent:
            value = self.parent[value]
        return value

    def _join(self, op: TosaOp) -> None:
        same = SAME.get(op.name.removeprefix("tosa."))
        if same is None or not _is_stored(op.results[0]):
            return
        if op.name == "tosa.resize" and _width(op.results[0]) != _width(op.operands[0]):
            return
        for value in [op.operands[k] for k in same] or op.operands:
            self._union(value, op.results[0])

    def _join_variables(self, function: FuncOp) -> None:
        """What is written to a variable is what is read from it."""
        first: dict[str, SSAValue] = {}
        for op in function.walk():
            if isinstance(op, VariableReadOp | VariableWriteOp):
                value = op.results[0] if isinstance(op, VariableReadOp) else op.input1
                if _is_stored(value):
                    self._union(first.setdefault(op.variable.data, value), value)

    def _union(self, value: SSAValue, other: SSAValue) -> None:
        a, b = self._root(value), self._root(other)
        if a is not b:
            self.parent[b] = a


def _width(value: SSAValue) -> int:
    """Bits of the whole numbers of a tensor, 0 for anything else."""
    return width_of(element_of(value)) if isinstance(value.type, TensorType) else 0


def _is_stored(value: SSAValue) -> bool:
    return _width(value) in (4, 8, 16)


Vote = tuple[SSAValue, int, bool | None]


def _written(op: TosaOp) -> Iterator[Vote]:
    k = WRITTEN.get(op.name.removeprefix("tosa."))
    if k is not None and _is_stored(op.results[0]) and k < len(op.operands):
        yield op.results[0], zero_point(op.operands[k]), _sign(op, "output_unsigned")


def _read(op: TosaOp) -> Iterator[Vote]:
    for k, z in READ.get(op.name.removeprefix("tosa."), ()):
        if z < len(op.operands) and _is_stored(op.operands[k]):
            yield op.operands[k], zero_point(op.operands[z]), _sign(op, "input_unsigned")


def _sign(op: TosaOp, name: str) -> bool | None:
    found: Any = op.properties.get(name)
    if op.name != "tosa.rescale":
        return False
    return None if found is None else bool(found.value.data)


def zero_point(value: SSAValue) -> int:
    """The number of a zero point. Raises Misfit where it is no constant of one element."""
    owner = value.owner
    if isinstance(owner, TosaOp) and owner.name == "tosa.const" and "values" in owner.properties:
        array = array_of(owner.properties["values"])
        if array.size == 1:
            return int(array.reshape(-1)[0])
    raise Misfit("a zero point that is no constant of one element")
