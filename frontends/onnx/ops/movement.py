"""Slices, joins and padding."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from npu_dialect import graph
from npu_dialect.frontends.onnx.builder import is_quantized
from npu_dialect.frontends.onnx.ops import common
from npu_dialect.frontends.onnx.ops.common import (
    Builder,
    Misfit,
    NotExpressible,
    SSAValue,
    element_of,
    shape_of,
)
from npu_dialect.frontends.onnx.registry import op
from npu_dialect.frontends.onnx.widen import plain


@op("Concat", storage=True)
def concat(b: Builder, *xs: SSAValue, axis: int) -> SSAValue:
    """Tensors one after the other along `axis`."""
    parts = list(xs)
    if any(is_quantized(x) and element_of(x) != element_of(xs[0]) for x in xs):
        parts = [value for x in xs if (value := plain(b, x)) is not None]
    return common.concat(b, parts, common.normalize_axis(axis, len(shape_of(xs[0]))))


@op("Slice", storage=True)
def slice_1(
    b: Builder,
    x: SSAValue,
    *,
    axes: Sequence[int] | None,
    ends: Sequence[int],
    starts: Sequence[int],
) -> SSAValue:
    """Bounds as attributes."""
    return _slice(b, x, starts, ends, axes, None)


@op("Slice", since=10, storage=True)
def slice_10(
    b: Builder,
    x: SSAValue,
    starts: SSAValue,
    ends: SSAValue,
    axes: SSAValue | None = None,
    steps: SSAValue | None = None,
) -> SSAValue:
    """Bounds as inputs, with steps."""
    return _slice(
        b, x,
        b.ints(starts, "starts"),
        b.ints(ends, "ends"),
        b.ints(axes, "axes") if axes is not None else None,
        b.ints(steps, "steps") if steps is not None else None,
    )  # fmt: skip


def _slice(
    b: Builder,
    x: SSAValue,
    starts: Sequence[int],
    ends: Sequence[int],
    axes: Sequence[int] | None,
    steps: Sequence[int] | None,
) -> SSAValue:
    """Bounds as in Python, clamped to the tensor."""
    shape = shape_of(x)
    axes = tuple(range(len(starts))) if axes is None else axes
    steps = (1,) * len(starts) if steps is None else steps
    if not len(starts) == len(ends) == len(axes) == len(steps) or 0 in steps:
        raise Misfit("a Slice whose bounds do not fit together")
    first, count, stride = [0] * len(shape), list(shape), [1] * len(shape)
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        k = common.normalize_axis(axis, len(shape))
        kept = range(*slice(start, _end(end, step, shape[k]), step).indices(shape[k]))
        first[k], count[k], stride[k] = (kept.start if kept else 0), len(kept), step
    stride = [1 if n <= 1 else s for n, s in zip(count, stride, strict=True)]
    return common.window(b, x, first, count, stride)


def _end(end: int, step: int, size: int) -> int | None:
    """Python's bound: an end before the first element, going down, is None."""
    return None if step < 0 and end < -size else end


@op("Split", storage=True)
def split_2(b: Builder, x: SSAValue, *, axis: int, split: Sequence[int] | None) -> list[SSAValue]:
    """Sizes as an attribute."""
    return _split(b, x, axis, split, len(b.outputs))


@op("Split", since=13, storage=True)
def split_13(
    b: Builder,
    x: SSAValue,
    split: SSAValue | None = None,
    *,
    axis: int,
    num_outputs: int | None = None,
) -> list[SSAValue]:
    """Sizes as an input, or a number of outputs."""
    sizes = b.ints(split, "split") if split is not None else None
    return _split(b, x, axis, sizes, num_outputs or len(b.outputs))


def _split(
    b: Builder, x: SSAValue, axis: int, sizes: Sequence[int] | None, parts: int
) -> list[SSAValue]:
    """Parts of the given sizes, or equal ones, of which the last may be smaller."""
    axis = common.normalize_axis(axis, len(shape_of(x)))
    total = shape_of(x)[axis]
    if sizes is None:
        each = -(-total // parts)
        sizes = [max(min(each, total - k * each), 0) for k in range(parts)]
    if sum(sizes) != total or min(sizes, default=0) < 0:
        raise Misfit(f"a Split of {total} into {list(sizes)}")
    starts = [sum(sizes[:k]) for k in range(len(sizes))]
    return [common.along(b, x, axis, s, n) for s, n in zip(starts, sizes, strict=True)]


@op("Pad")
def pad_2(b: Builder, x: SSAValue, *, mode: str, pads: Sequence[int], value: float) -> SSAValue:
    """Pads and value as attributes."""
    return _pad(b, x, mode, pads, value, None)


@op("Pad", since=11)
def pad(
    b: Builder,
    x: SSAValue,
    pads: SSAValue,
    value: SSAValue | None = None,
    axes: SSAValue | None = None,
    *,
    mode: str,
) -> SSAValue:
    """Pads and value as inputs."""
    known = b.array(value)
    fill = 0 if known is None else known.reshape(-1)[0].item() if known.size else 0
    places, sizes = b.ints(axes, "axes") if axes is not None else None, b.ints(pads, "pads")
    y = _pad(b, x, mode, sizes, fill, places)
    if value is None or known is not None or mode != "constant":
        return y
    b.reserve(*shape_of(y), itemsize=1)
    inside = b.constant(np.ones(shape_of(x), np.bool_))
    return common.where(b, _pad(b, inside, mode, sizes, 0, places), y, common.reshape(b, value, ()))


def _pad(
    b: Builder,
    x: SSAValue,
    mode: str,
    pads: Sequence[int],
    value: float,
    axes: Sequence[int] | None,
) -> SSAValue:
    rank = len(shape_of(x))
    places = range(rank) if axes is None else [common.normalize_axis(a, rank) for a in axes]
    if len(pads) != 2 * len(places):
        raise Misfit(f"{len(pads)} pads for {len(places)} dimensions")
    low, high = [0] * rank, [0] * rank
    for k, axis in enumerate(places):
        low[axis], high[axis] = pads[k], pads[len(places) + k]
    if mode == "constant":
        return common.pad(b, x, low, high, value)
    x = common.pad(b, x, [min(p, 0) for p in low], [min(p, 0) for p in high])
    for axis in range(rank):
        x = _extend(b, x, axis, max(low[axis], 0), max(high[axis], 0), mode)
    return x


def _extend(b: Builder, x: SSAValue, axis: int, low: int, high: int, mode: str) -> SSAValue:
    """`x` with its own elements before and after, along one axis."""
    size = shape_of(x)[axis]
    limit = {"edge": low + high, "reflect": size - 1, "wrap": size}.get(mode, -1)
    if max(low, high) > limit or (size == 0 and low + high):
        raise NotExpressible(f"padding {low}, {high} of {size} by {mode}")

    def part(start: int, count: int, stride: int) -> list[SSAValue]:
        return [common.along(b, x, axis, start, count, stride)] if count else []

    if mode == "edge":
        before = [_repeated(b, value, axis, low) for value in part(0, min(low, 1), 1)]
        after = [_repeated(b, value, axis, high) for value in part(size - 1, min(high, 1), 1)]
    elif mode == "reflect":
        before, after = part(low, low, -1), part(size - 2, high, -1)
    else:
        before, after = part(size - low, low, 1), part(0, high, 1)
    return common.concat(b, [*before, x, *after], axis)


def _repeated(b: Builder, x: SSAValue, axis: int, count: int) -> SSAValue:
    shape = list(shape_of(x))
    shape[axis] = count
    return common.broadcast(b, x, shape)


@op("Trilu", storage=True)
def trilu(b: Builder, x: SSAValue, k: SSAValue | None = None, *, upper: int) -> SSAValue:
    """Zeros below (or above) the k-th diagonal of the last two dimensions."""

    diagonal = int(b.known(k, "k").reshape(())) if k is not None else 0
    rows, columns = shape_of(x)[-2:]
    b.reserve(rows, columns, itemsize=1)
    diagonal = max(-rows, min(diagonal, columns))
    keep = np.triu(np.ones((rows, columns), np.bool_), diagonal)
    if not upper:
        keep = np.tril(np.ones((rows, columns), np.bool_), diagonal)
    return b.emit(graph.WhereOp(b.constant(keep), x, b.scalar(0, x)))
