"""What an importer works with: the builder of graph ops, and what its result must be."""

from __future__ import annotations

from typing import Any

import numpy as np
from xdsl.ir import Block, SSAValue

from npu_dialect import dtypes, graph
from npu_dialect.dtypes import DType
from npu_dialect.frontends.onnx.builder import Array, dtype_of, is_quantized
from npu_dialect.frontends.onnx.builder import Builder as GraphBuilder
from npu_dialect.frontends.onnx.errors import NotExpressible
from npu_dialect.graph.quant import QuantType
from npu_dialect.graph.ranges import Ranges


class Builder(GraphBuilder):
    """Appends graph ops on behalf of one operation of TOSA at a time."""

    def __init__(self, block: Block) -> None:
        super().__init__(block)
        self.ranges = Ranges()
        self.element: Any = None
        """The element type of the result, as graph has it."""
        self.shape: tuple[int, ...] = ()
        """The stated shape of the result; below 0 where a dimension is left open."""

    @property
    def dtype(self) -> DType:
        """The storage type of the result."""
        return dtypes.of(self.element)

    @property
    def quant(self) -> QuantType:
        """The quantized element type of the result; NotExpressible without."""
        if not isinstance(self.element, QuantType):
            raise NotExpressible(f"a result of type {self.element}")
        return self.element

    def i32(self, value: int | Array) -> SSAValue:
        """A constant of i32, 0-d for a number."""
        return self.constant(np.asarray(value, np.int32))

    def number(self, value: SSAValue, what: str) -> float:
        """The number of a constant of one element."""
        array = self.known(value, what)
        if array.size != 1:
            raise NotExpressible(f"{what} of {array.size} elements")
        return array.reshape(-1)[0].item()

    def recast(self, x: SSAValue, dtype: DType) -> SSAValue:
        """Plain numbers as another type."""
        if not is_quantized(x) and dtype_of(x) is dtype:
            return x
        return self.emit(graph.CastOp(x, dtype))
