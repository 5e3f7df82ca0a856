"""Calling an importer, in a wider type where `graph` lacks the operator's own.

`graph` computes in f32, i32 and i64. An elementwise operator on f16 is imported as cast to
f32, the operator, cast back: one rounding, as the ISA defines it. Small integers are computed
in i32 and wrap on the way back. Which results go back is read from the ONNX schema: those
that share the type variable of a widened input; operators without a schema there, those of
com.microsoft, give floats of one type.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from xdsl.ir import SSAValue

from npu_dialect import dtypes, graph
from npu_dialect.dtypes import DType
from npu_dialect.frontends.onnx import registry
from npu_dialect.frontends.onnx.builder import Builder, dtype_of, element_of, is_quantized
from npu_dialect.frontends.onnx.errors import Misfit, NotExpressible
from npu_dialect.frontends.onnx.registry import Importer
from npu_dialect.graph.quant import QuantType

if TYPE_CHECKING:
    from onnx import NodeProto
    from onnx.defs import OpSchema

WIDER: dict[DType, DType] = {
    dtypes.f16: dtypes.f32,
    dtypes.bf16: dtypes.f32,
    dtypes.i8: dtypes.i32,
    dtypes.u8: dtypes.i32,
    dtypes.i16: dtypes.i32,
    dtypes.u16: dtypes.i32,
}


def call(
    b: Builder,
    row: Importer,
    node: NodeProto,
    version: int,
    values: Sequence[SSAValue | None],
) -> Sequence[SSAValue | None]:
    """The results of an importer on a node; NotExpressible if no type works."""
    if not row.storage:
        values = [plain(b, value) for value in values]
    inputs, attributes = registry.bind(row, node, b.source, version, values)
    try:
        return _call(b, row, inputs, attributes)
    except NotExpressible:
        schema = registry.schema(row.domain, row.op_type, version)
        variable, narrow = _narrow(schema, values)
        if narrow is None or (schema is None and not narrow.is_float):
            raise
    wide = [_widen(b, value, narrow) for value in inputs]
    results = _call(b, row, wide, attributes)
    returns = [schema is None or _type_variable(schema.outputs, k) == variable
               for k in range(len(results))]  # fmt: skip
    return [
        cast(b, result, narrow) if back and result and dtype_of(result) == WIDER[narrow] else result
        for result, back in zip(results, returns, strict=True)
    ]


def _call(
    b: Builder, row: Importer, inputs: Sequence[Any], attributes: Mapping[str, Any]
) -> Sequence[SSAValue | None]:
    """What an op of the dialect refuses (ValueError) is not expressible.

    Numbers that do not fit (a 2^60 for an i32) and shapes of too few dimensions are misfits.
    """
    try:
        found: SSAValue | Sequence[SSAValue | None] = row.function(b, *inputs, **attributes)
    except ValueError as error:
        raise NotExpressible(str(error)) from None
    except (ArithmeticError, IndexError) as error:
        raise Misfit(str(error)) from None
    return [found] if isinstance(found, SSAValue) else found


def _narrow(schema: OpSchema | None, values: Sequence[SSAValue | None]) -> tuple[str, DType | None]:
    """The type variable and type of the first input that has a wider type."""
    for k, value in enumerate(values):
        if value is not None and dtype_of(value) in WIDER:
            variable = "" if schema is None else _type_variable(schema.inputs, k)
            return variable, dtype_of(value)
    return "", None


def _type_variable(parameters: Sequence[OpSchema.FormalParameter], index: int) -> str:
    """The type variable of a parameter; the last one may be variadic."""
    return parameters[min(index, len(parameters) - 1)].type_str if parameters else ""


def _widen(b: Builder, value: SSAValue | None, narrow: DType) -> SSAValue | None:
    if value is None or dtype_of(value) != narrow:
        return value
    return cast(b, value, WIDER[narrow])


def cast(b: Builder, value: SSAValue, dtype: DType) -> SSAValue:
    """`value` as plain `dtype`; the value itself if it is that."""
    if dtype_of(value) == dtype and not is_quantized(value):
        return value
    return b.emit(graph.CastOp(value, dtype))


def plain(b: Builder, value: SSAValue | None) -> SSAValue | None:
    """A quantized value as the integers that store it; others as they are."""
    if value is None or not is_quantized(value):
        return value
    array = b.array(value)
    if array is not None:
        return b.constant(array)
    element = element_of(value)
    assert isinstance(element, QuantType)
    if element.axis is not None or element.storage_dtype.itemsize > 2:
        raise NotExpressible("arithmetic on the storage of a tensor with several scales")
    integer = dtypes.element_type(dtypes.i32)
    number = b.emit(graph.RequantizeOp(value, graph.requant_f32(1.0), integer))
    offset = b.constant(np.array(element.zero_point, np.int32))
    return cast(b, b.emit(graph.AddOp(number, offset)), element.storage_dtype)
