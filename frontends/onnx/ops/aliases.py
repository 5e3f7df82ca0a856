"""Operators of com.microsoft that are those of ONNX, or nearly."""

from __future__ import annotations

from npu_dialect import graph
from npu_dialect.frontends.onnx.ops import common, constants, movement, selection, shapes
from npu_dialect.frontends.onnx.ops.common import (
    Builder,
    NotExpressible,
    SSAValue,
    shape_of,
)
from npu_dialect.frontends.onnx.registry import MICROSOFT, op


@op("ExpandDims", domain=MICROSOFT, storage=True)
def expand_dims(b: Builder, x: SSAValue, axis: SSAValue) -> SSAValue:
    """A new dimension of 1."""
    return shapes.unsqueeze(b, x, axis)


@op("GatherND", domain=MICROSOFT, storage=True)
def gather_nd(b: Builder, x: SSAValue, indices: SSAValue) -> SSAValue:
    """Rows that tuples of indices name."""
    return selection.gather_nd(b, x, indices)


@op("Pad", domain=MICROSOFT)
def pad(
    b: Builder, x: SSAValue, pads: SSAValue, value: SSAValue | None = None, *,
    mode: str = "constant",
) -> SSAValue:  # fmt: skip
    """Pads in one row, or as they are."""
    return movement.pad(b, x, pads, value, mode=mode)


@op("Range", domain=MICROSOFT)
def arange(b: Builder, start: SSAValue, limit: SSAValue, delta: SSAValue | None = None) -> SSAValue:
    """Steps of 1, unless stated."""
    return constants.arange(b, start, limit, delta or b.scalar(1, start))


@op("Trilu", domain=MICROSOFT, storage=True)
def trilu(b: Builder, x: SSAValue, k: SSAValue | None = None, *, upper: int = 1) -> SSAValue:
    """One triangle of the last two dimensions."""
    return movement.trilu(b, x, k, upper=upper)


@op("CDist", domain=MICROSOFT)
def distances(b: Builder, x: SSAValue, y: SSAValue, *, metric: str = "sqeuclidean") -> SSAValue:
    """The distances [rows of x, rows of y] of rows."""
    (m, width), (n, _) = shape_of(x), shape_of(y)
    if metric not in ("euclidean", "sqeuclidean"):
        raise NotExpressible(f"the distance {metric}")
    left, right = common.reshape(b, x, (m, 1, width)), common.reshape(b, y, (1, n, width))
    difference = common.sub(b, left, right)
    square = common.mul(b, difference, difference)
    total = common.reduce(b, graph.ReduceSumOp, square, (2,), 0)
    return total if metric == "sqeuclidean" else b.emit(graph.SqrtOp(total))
