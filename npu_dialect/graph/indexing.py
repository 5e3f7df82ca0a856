"""Rows that indices of run time name: reading them, and writing or accumulating into them."""

from __future__ import annotations

from typing import ClassVar

from xdsl.dialects.builtin import LocationAttr, StringAttr, TensorType
from xdsl.irdl import irdl_op_definition, operand_def, prop_def

from npu_dialect import functional
from npu_dialect.functional.indexing import SCATTERS
from npu_dialect.graph.base import (
    WIDE,
    Array,
    InferredOp,
    Properties,
    Tensor,
    Types,
    Value,
    quant_of,
    require_element,
    require_rank,
    tensor_type,
)

INDICES = ("i32", "i64")


def _check_rows(data: Tensor, indices: Tensor) -> tuple[int, int]:
    """The elements of a row of `data`, and the number of indices."""
    rows, elements = require_rank("the data", data, 2)
    (count,) = require_rank("the indices", indices, 1)
    require_element("the indices", indices, INDICES)
    quant = quant_of(data)
    if quant is not None and quant.axis == 0:
        raise ValueError(f"the rows must have the same scales; found {data}")
    if count and not rows:
        raise ValueError(f"the data must have a row for the indices; found {data}")
    return elements, count


@irdl_op_definition
class GatherOp(InferredOp):
    """Row indices[k] of the data [rows, elements] as row k of the result.

    A negative index counts from the last row; one that is outside still means the nearest row.

    `%2 = graph.gather %0, %1 : (tensor<100x16xf32>, tensor<4xi32>) -> tensor<4x16xf32>`
    """

    name = "graph.gather"

    x = operand_def(TensorType)
    indices = operand_def(TensorType)

    def __init__(self, x: Value, indices: Value, location: LocationAttr | None = None) -> None:
        self._init([x, indices], {}, location)

    @classmethod
    def infer(cls, types: Types, properties: Properties) -> Tensor:
        data, indices = types
        elements, count = _check_rows(data, indices)
        return tensor_type((count, elements), data.element_type)

    def evaluate(self, *operands: Array) -> tuple[Array, ...]:
        return (functional.gather(*operands),)


@irdl_op_definition
class ScatterOp(InferredOp):
    """The data [rows, elements], where for each k in ascending order row indices[k] has become
    row k of the updates (kind set), or the sum, product, maximum or minimum of both.

    An index that is not one of a row (negative ones among them) changes nothing.

    `%3 = graph.scatter %0, %1, %2 {kind = "add"}
    : (tensor<100x16xf32>, tensor<4xi32>, tensor<4x16xf32>) -> tensor<100x16xf32>`
    """

    name = "graph.scatter"
    KINDS: ClassVar[tuple[str, ...]] = SCATTERS

    x = operand_def(TensorType)
    indices = operand_def(TensorType)
    updates = operand_def(TensorType)
    kind = prop_def(StringAttr)

    def __init__(
        self,
        x: Value,
        indices: Value,
        updates: Value,
        kind: str = "set",
        location: LocationAttr | None = None,
    ) -> None:
        self._init([x, indices, updates], {"kind": StringAttr(kind)}, location)

    @classmethod
    def infer(cls, types: Types, properties: Properties) -> Tensor:
        data, indices, updates = types
        elements, count = _check_rows(data, indices)
        kind = properties["kind"]
        if not isinstance(kind, StringAttr) or kind.data not in SCATTERS:
            raise ValueError(f"the kind must be one of {', '.join(SCATTERS)}; found {kind}")
        if kind.data != "set":
            require_element("the data", data, WIDE)
        if updates != tensor_type((count, elements), data.element_type):
            rows = f"{count} rows of {elements} {data.element_type}"
            raise ValueError(f"the updates must be {rows}; found {updates}")
        return data

    def evaluate(self, *operands: Array) -> tuple[Array, ...]:
        data, indices, updates = operands
        result = data.copy()
        functional.scatter(self.kind.data, result, indices, updates)
        return (result,)


OPS = [GatherOp, ScatterOp]
