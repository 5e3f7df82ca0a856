"""Matrix products."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

from npu_dialect import graph
from npu_dialect.frontends.onnx.ops import common
from npu_dialect.frontends.onnx.ops.common import (
    Builder,
    Misfit,
    NotExpressible,
    SSAValue,
    shape_of,
)
from npu_dialect.frontends.onnx.registry import op


@op("MatMul")
def matmul(b: Builder, x: SSAValue, y: SSAValue) -> SSAValue:
    """numpy's matmul."""
    return product(b, x, y)


def product(b: Builder, x: SSAValue, y: SSAValue, bias: SSAValue | None = None) -> SSAValue:
    """numpy's matmul: an operand of rank 1 gets a dimension, which the result loses again."""
    drop: list[int] = []
    if len(shape_of(x)) == 1:
        x = common.reshape(b, x, (1, *shape_of(x)))
        drop.append(-2)
    if len(shape_of(y)) == 1:
        y = common.reshape(b, y, (*shape_of(y), 1))
        drop.append(-1)
    result = b.emit(graph.MatmulOp(x, y, bias))
    rank = len(shape_of(result))
    return common.squeeze(b, result, [rank + k for k in drop]) if drop else result


def turned_product(b: Builder, x: SSAValue, y: SSAValue, turn_x: int, turn_y: int) -> SSAValue:
    """`product`, where the last two dimensions of either operand may be exchanged before."""
    return product(b, _turned(b, x, turn_x), _turned(b, y, turn_y))


def _turned(b: Builder, x: SSAValue, turn: int) -> SSAValue:
    rank = len(shape_of(x))
    order = [*range(rank - 2), rank - 1, rank - 2]
    return common.transpose(b, x, order) if turn and rank > 1 else x


@op("Gemm")
def gemm(
    b: Builder,
    x: SSAValue,
    y: SSAValue,
    c: SSAValue | None = None,
    *,
    alpha: float,
    beta: float,
    transA: int,  # noqa: N803
    transB: int,  # noqa: N803
) -> SSAValue:
    """alpha * x @ y + beta * c; a row added to a plain product becomes its bias."""
    x = common.transpose(b, x, (1, 0)) if transA else x
    y = common.transpose(b, y, (1, 0)) if transB else y
    if c is None or beta == 0.0:
        return common.scaled(b, product(b, x, y), alpha)
    c = common.scaled(b, c, beta)
    row = as_row(b, c, shape_of(y)[1]) if alpha == 1.0 else None
    if row is not None:
        return product(b, x, y, row)
    return common.add(b, common.scaled(b, product(b, x, y), alpha), c)


@op("Gemm", since=1)
def gemm_1(
    b: Builder,
    x: SSAValue,
    y: SSAValue,
    c: SSAValue,
    *,
    alpha: float,
    beta: float,
    broadcast: int,
    transA: int,  # noqa: N803
    transB: int,  # noqa: N803
) -> SSAValue:
    """Before opset 7 a `c` of another shape is announced by an attribute."""
    del broadcast
    return gemm(b, x, y, c, alpha=alpha, beta=beta, transA=transA, transB=transB)


def as_row(b: Builder, c: SSAValue, size: int) -> SSAValue | None:
    """`c` as [size], if it is the same in every row of the result."""
    shape = shape_of(c)
    if len(shape) == 2 and shape[0] == 1:
        c = common.reshape(b, c, shape[1:])
    if len(shape_of(c)) > 1:
        return None
    return common.broadcast(b, c, (size,))


MAX_DETERMINANT = 4


@op("Det")
def determinant(b: Builder, x: SSAValue) -> SSAValue:
    """Of small matrices, by the minors of the first row."""
    *outer, rows, columns = shape_of(x)
    if rows != columns:
        raise Misfit(f"the determinant of {rows} by {columns}")
    if not 0 < rows <= MAX_DETERMINANT:
        raise NotExpressible(f"the determinant of {rows} by {rows}")
    flat = common.reshape(b, x, (prod(outer), rows * rows))
    elements = [common.along(b, flat, 1, k, 1) for k in range(rows * rows)]
    grid = [elements[k * rows : (k + 1) * rows] for k in range(rows)]
    return common.reshape(b, _determinant(b, grid), outer)


def _determinant(b: Builder, grid: Sequence[Sequence[SSAValue]]) -> SSAValue:
    first, *rest = grid
    if not rest:
        return first[0]
    total: SSAValue | None = None
    for k, element in enumerate(first):
        minor = _determinant(b, [[*row[:k], *row[k + 1 :]] for row in rest])
        term = common.mul(b, element, minor)
        if total is None:
            total = term
        else:
            total = common.sub(b, total, term) if k % 2 else common.add(b, total, term)
    assert total is not None
    return total
