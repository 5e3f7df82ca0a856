"""A function of one 8-bit tensor becomes a table of its 256 results.

    quantize(hard_swish(dequantize(x)))         ==>  lookup(x, table)
    quantize(dequantize(x) * sigmoid(dequantize(x)) + 2.0)  ==>  lookup(x, table)

The table is what these operations give for every stored value, so the result is exact.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from xdsl.ir import Operation, SSAValue
from xdsl.pattern_rewriter import PatternRewriter

from npu_dialect import graph, provenance
from npu_dialect.graph.base import GraphOp, shape_of, tensor_type, type_of
from npu_dialect.passes.kernels import is_elementwise
from npu_dialect.passes.qdq.common import Array, known, one_scale, stored
from npu_dialect.passes.rewriting import Rules, rebuild, replace

MOST_OPERATIONS = 32
"""Operations that are looked through for the one tensor that they depend on."""


def tabulate(op: graph.QuantizeOp, rewriter: PatternRewriter) -> None:
    """quantize of a function of one 8-bit tensor."""
    quant = one_scale(op.result)
    found = None if quant is None else elementwise_function(op.x)
    if quant is None or found is None:
        return
    source, ops = found
    known = results(source, [*ops, op])
    if known is None:
        return
    table = known[1]
    location = provenance.fuse(*ops, op)
    entries = graph.ConstantOp(table, location=location)
    replace(rewriter, op, entries, graph.LookupOp(source, entries, quant, location=location))


def elementwise_function(
    value: SSAValue, itemsize: int = 1
) -> tuple[SSAValue, list[Operation]] | None:
    """The tensor of so many bytes that `value` is an elementwise function of, and the operations,
    in order.
    """
    sources: set[SSAValue] = set()
    ops: dict[Operation, None] = {}
    if not _collect(value, shape_of(value), sources, ops) or len(sources) != 1:
        return None
    source = sources.pop()
    quant = one_scale(source)
    is_narrow = quant is not None and quant.storage_dtype.itemsize == itemsize
    return (source, list(ops)) if is_narrow else None


def _collect(
    value: SSAValue, shape: tuple[int, ...], sources: set[SSAValue], ops: dict[Operation, None]
) -> bool:
    """Gather what `value` depends on; False where it is no such function."""
    if _scalar(value) is not None:
        return True
    op = value.owner
    if isinstance(op, graph.DequantizeOp):
        quant = one_scale(op.x)
        sources.add(op.x)
        return quant is not None and quant.storage_dtype.itemsize <= 2 and shape_of(value) == shape
    if not isinstance(op, Operation) or not is_elementwise(op) or shape_of(value) != shape:
        return False
    if isinstance(op, graph.LookupOp | graph.RequantizeOp | graph.QuantizeOp):
        return False
    if op in ops:
        return True
    if not all(_collect(v, shape, sources, ops) for v in op.operands):
        return False
    ops[op] = None
    return len(ops) <= MOST_OPERATIONS


def _scalar(value: SSAValue) -> Array | None:
    """[1]: the number that all elements of a constant are."""
    numbers = known(value)
    if numbers is None or not numbers.size:
        return None
    flat = numbers.reshape(-1)
    return flat[:1] if bool((flat == flat[0]).all()) else None


def results(source: SSAValue, ops: Sequence[Operation]) -> tuple[Array, Array] | None:
    """The operand and the result of the last of `ops` for all stored values of `source`, by their
    index.
    """
    quant = type_of(source).element_type
    stored_type = one_scale(source)
    assert stored_type is not None, "collected"
    dtype = stored_type.storage_dtype
    entries = np.arange(dtype.low, dtype.high + 1).astype(dtype.numpy)
    start = graph.ConstantOp(entries, tensor_type((entries.size,), quant))
    arrays: dict[SSAValue, Array] = {}
    names: dict[SSAValue, SSAValue] = {}
    real = graph.DequantizeOp(start)
    arrays[real.result] = real.evaluate(entries)[0]
    for op in ops:
        operands = [_operand(v, source, real, names, arrays) for v in op.operands]
        copy = _copy(op, operands)
        if not isinstance(copy, GraphOp):
            return None
        names[op.results[0]] = copy.results[0]
        arrays[copy.results[0]] = copy.evaluate(*(arrays[v] for v in operands))[0]
    last = ops[-1]
    return arrays[names.get(last.operands[0], real.result)], arrays[names[last.results[0]]]


def _operand(
    value: SSAValue,
    source: SSAValue,
    real: graph.DequantizeOp,
    names: dict[SSAValue, SSAValue],
    arrays: dict[SSAValue, Array],
) -> SSAValue:
    """What stands for an operand when the table is computed."""
    if value in names:
        return names[value]
    if stored(value) is source:
        return real.result
    number = _scalar(value)
    assert number is not None, "collected"
    plain = graph.ConstantOp(number)
    arrays[plain.result] = number
    return plain.result


def _copy(op: Operation, operands: Sequence[SSAValue]) -> Operation | None:
    if isinstance(op, graph.QuantizeOp):
        quant = one_scale(op.result)
        return None if quant is None else graph.QuantizeOp(operands[0], quant)
    return rebuild(op, operands)


RULES: Rules = {graph.QuantizeOp: [tabulate]}
