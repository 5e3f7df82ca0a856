"""Emitting graph ops: folding what is constant, and reading back what is known."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from math import prod
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from xdsl.dialects.builtin import LocationAttr, TensorType, UnknownLoc
from xdsl.ir import Attribute, Block, Operation, SSAValue

from npu_dialect import dtypes, graph, provenance
from npu_dialect.dtypes import DType
from npu_dialect.frontends.onnx.errors import MAX_MADE, NotExpressible, check_shape
from npu_dialect.graph.quant import QuantType

Array = NDArray[Any]

MAX_FOLDED_BYTES = 1 << 26
"""A constant result larger than this, and than its operands, stays an operation."""

NEVER_FOLDED = (graph.DequantizeOp, graph.ConstantOp)
"""A quantized weight stays in its integers, followed by `dequantize`."""


def type_of(value: SSAValue) -> TensorType[Attribute]:
    """The tensor type of a value."""
    found = value.type
    assert isinstance(found, TensorType)
    return cast(TensorType[Attribute], found)


def shape_of(value: SSAValue) -> tuple[int, ...]:
    """The static shape of a value."""
    return type_of(value).get_shape()


def element_of(value: SSAValue) -> Attribute:
    """The element type of a value, quantized or plain."""
    return type_of(value).get_element_type()


def dtype_of(value: SSAValue) -> DType:
    """The storage type of a value."""
    return dtypes.of(element_of(value))


def is_quantized(value: SSAValue) -> bool:
    """True if the element type carries a scale."""
    return isinstance(element_of(value), QuantType)


def is_small(result: SSAValue | TensorType[Any], operands: Sequence[Array]) -> bool:
    """True if a result is small enough to be folded into a constant."""
    found = type_of(result) if isinstance(result, SSAValue) else result
    size = dtypes.of(found.get_element_type()).itemsize * prod(found.get_shape())
    return size <= max([MAX_FOLDED_BYTES, *(array.nbytes for array in operands)])


class Builder:
    """Appends graph ops to a block on behalf of one node at a time.

    Constants are detached until an op that stays uses them, so that what is folded away
    leaves nothing behind.
    """

    def __init__(self, block: Block) -> None:
        self.block = block
        self.location: LocationAttr = UnknownLoc()
        self.opset = 0
        """The version of the current node's domain."""
        self.outputs: Sequence[str] = ()
        """The current node's output names, "" for one that nobody wants."""
        self.declared: Mapping[str, TensorType] = {}
        """The static types that the model states for outputs of the current node."""

    @property
    def source(self) -> str:
        """The current node's name, for messages."""
        return next(iter(provenance.sources(self.location)), "")

    def wants(self, index: int) -> bool:
        """True if the current node's output `index` is used."""
        return index < len(self.outputs) and self.outputs[index] != ""

    # Constants

    def constant(self, array: Array, element: Attribute | None = None) -> SSAValue:
        """A constant of storage values; `element` is its element type if it is quantized."""
        array = np.asarray(array)
        plain = element or dtypes.element_type(dtypes.BY_NUMPY[array.dtype])
        op = graph.ConstantOp(array, graph.tensor_type(array.shape, plain))
        op.location = self.location
        return op.results[0]

    def reserve(self, *shape: int, itemsize: int = 8) -> None:
        """Refuse to make an absurdly large constant, before it is made."""
        check_shape(shape, itemsize, self.source, MAX_MADE)

    def scalar(self, value: float, like: SSAValue) -> SSAValue:
        """A 0-d constant of the element type of `like`."""
        return self.constant(np.array(value, dtype_of(like).numpy))

    def array(self, value: SSAValue | None) -> Array | None:
        """The storage values of a constant, None for anything else."""
        owner = value.owner if value is not None else None
        return owner.array if isinstance(owner, graph.ConstantOp) else None

    def known(self, value: SSAValue, what: str) -> Array:
        """The values of a constant; the node is not expressible without."""
        array = self.array(value)
        if array is None:
            raise NotExpressible(f"{what} is computed at run time")
        return array

    def ints(self, value: SSAValue, what: str) -> tuple[int, ...]:
        """The integers of a constant (a shape, axes, bounds)."""
        return tuple(int(x) for x in self.known(value, what).reshape(-1))

    # Operations

    def emit(self, op: graph.GraphOp) -> SSAValue:
        """Append an op of one result, or fold it."""
        self._check(op)
        folded = self._fold(op)
        if folded is not None:
            return folded
        self.insert(op)
        return op.results[0]

    def insert(self, op: Operation) -> None:
        """Append an op, and before it those of its constants that no op used so far."""
        self.attach(op.operands)
        op.location = self.location
        self.block.add_op(op)

    def attach(self, values: Iterable[SSAValue]) -> None:
        """Append the constants among `values` that are detached still."""
        for value in values:
            owner = value.owner
            if isinstance(owner, graph.ConstantOp) and owner.parent is None:
                self.block.add_op(owner)

    def _check(self, op: Operation) -> None:
        for result in op.results:
            itemsize = dtype_of(result).itemsize
            check_shape(shape_of(result), itemsize, self.source)

    def _fold(self, op: graph.GraphOp) -> SSAValue | None:
        if isinstance(op, NEVER_FOLDED) or not op.operands:
            return None
        result = op.results[0]
        arrays = [self.array(value) for value in op.operands]
        known = [array for array in arrays if array is not None]
        if 0 in shape_of(result):
            return self._settled(op, np.zeros(shape_of(result), dtype_of(result).numpy))
        if len(known) != len(arrays) or not is_small(result, known):
            return None
        return self._settled(op, op.evaluate(*known)[0])

    def _settled(self, op: graph.GraphOp, value: Array) -> SSAValue:
        """The constant that takes the place of an operation."""
        element = element_of(op.results[0])
        op.drop_all_references()
        return self.constant(value, element)
