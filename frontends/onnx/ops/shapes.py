"""Operators that change or state shapes."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import numpy as np

from npu_dialect.frontends.onnx.ops import common
from npu_dialect.frontends.onnx.ops.common import (
    Builder,
    Misfit,
    SSAValue,
    shape_of,
)
from npu_dialect.frontends.onnx.registry import op


@op("Reshape", storage=True)
def reshape(b: Builder, x: SSAValue, shape: SSAValue, *, allowzero: int = 0) -> SSAValue:
    """0 keeps a dimension (unless `allowzero`), one -1 takes what is left."""
    wanted = list(b.ints(shape, "the shape"))
    given = shape_of(x)
    for k, size in enumerate(wanted):
        if size == 0 and not allowzero:
            if k >= len(given):
                raise Misfit(f"a reshape from {list(given)} to {wanted}")
            wanted[k] = given[k]
    if wanted.count(-1) == 1:
        rest = prod(size for size in wanted if size != -1)
        wanted[wanted.index(-1)] = prod(given) // rest if rest else 0
    return common.reshape(b, x, wanted)


@op("Flatten", storage=True)
def flatten(b: Builder, x: SSAValue, *, axis: int) -> SSAValue:
    """A matrix: the dimensions before `axis` by the others."""
    shape = shape_of(x)
    if not -len(shape) <= axis <= len(shape):
        raise Misfit(f"Flatten at axis {axis} of rank {len(shape)}")
    axis = axis + len(shape) if axis < 0 else axis
    return common.reshape(b, x, (prod(shape[:axis]), prod(shape[axis:])))


@op("Squeeze", storage=True)
def squeeze_1(b: Builder, x: SSAValue, *, axes: Sequence[int] | None) -> SSAValue:
    """Axes as an attribute; without, all dimensions of 1."""
    shape = shape_of(x)
    found = (
        common.normalize_axes(axes, len(shape))
        if axes is not None
        else [k for k, size in enumerate(shape) if size == 1]
    )
    return common.squeeze(b, x, found)


@op("Squeeze", since=13, storage=True)
def squeeze(b: Builder, x: SSAValue, axes: SSAValue | None = None) -> SSAValue:
    """Axes as an input."""
    return squeeze_1(b, x, axes=b.ints(axes, "axes") if axes is not None else None)


@op("Unsqueeze", storage=True)
def unsqueeze_1(b: Builder, x: SSAValue, *, axes: Sequence[int]) -> SSAValue:
    """Axes as an attribute."""
    rank = len(shape_of(x)) + len(axes)
    places = common.normalize_axes(axes, rank)
    rest = iter(shape_of(x))
    return common.reshape(b, x, [1 if k in places else next(rest) for k in range(rank)])


@op("Unsqueeze", since=13, storage=True)
def unsqueeze(b: Builder, x: SSAValue, axes: SSAValue) -> SSAValue:
    """Axes as an input."""
    return unsqueeze_1(b, x, axes=b.ints(axes, "axes"))


@op("Transpose", storage=True)
def transpose(b: Builder, x: SSAValue, *, perm: Sequence[int] | None) -> SSAValue:
    """Dimensions in the order `perm`, reversed without."""
    rank = len(shape_of(x))
    order = tuple(perm) if perm is not None else tuple(reversed(range(rank)))
    if sorted(order) != list(range(rank)):
        raise Misfit(f"the permutation {list(order)} of rank {rank}")
    return common.transpose(b, x, order)


@op("Expand", storage=True)
def expand(b: Builder, x: SSAValue, shape: SSAValue) -> SSAValue:
    """Both ways: a size of 1 in `shape` keeps that of `x`."""
    wanted = b.ints(shape, "the shape")
    try:
        both = np.broadcast_shapes(shape_of(x), wanted)
    except ValueError:
        raise Misfit(f"an Expand from {list(shape_of(x))} to {list(wanted)}") from None
    return common.broadcast(b, x, both)


@op("Tile", storage=True)
def tile(b: Builder, x: SSAValue, repeats: SSAValue) -> SSAValue:
    """A dimension of size n becomes r x n by a broadcast, then one of r * n; at most two at once,
    since a copy counts five dimensions."""
    times, shape = b.ints(repeats, "repeats"), shape_of(x)
    if len(times) != len(shape) or min(times, default=0) < 0:
        raise Misfit(f"repeats {list(times)} of {list(shape)}")
    repeated = [k for k, r in enumerate(times) if r != 1]
    for first, *second in reversed([repeated[k : k + 2] for k in range(0, len(repeated), 2)]):
        x = _tiled(b, x, times, first, second[0] if second else len(shape))
    return x


def _tiled(b: Builder, x: SSAValue, times: Sequence[int], first: int, second: int) -> SSAValue:
    """Repeated along two dimensions, the second of which may be past the end."""
    shape = list(shape_of(x))
    parts = [prod(shape[:first]), prod(shape[first:second]), prod(shape[second:])]
    factors = [times[k] for k in (first, second) if k < len(shape)]
    apart, pairs = [parts[0]], [parts[0]]
    for factor, part in zip(factors, parts[1:], strict=False):
        apart += [1, part]
        pairs += [factor, part]
    for k, factor in zip((first, second), factors, strict=False):
        shape[k] *= factor
    return common.reshape(b, common.broadcast(b, common.reshape(b, x, apart), pairs), shape)


@op("Shape", storage=True)
def shape(b: Builder, x: SSAValue, *, start: int = 0, end: int | None = None) -> SSAValue:
    """The shape, a constant here."""
    return b.constant(np.array(shape_of(x)[start:end], np.int64))


@op("Size", storage=True)
def size(b: Builder, x: SSAValue) -> SSAValue:
    """The number of elements, a constant here."""
    return b.constant(np.array(prod(shape_of(x)), np.int64))


@op("DepthToSpace", storage=True)
def depth_to_space(b: Builder, x: SSAValue, *, blocksize: int, mode: str = "DCR") -> SSAValue:
    """Channels into blocks of pixels; of several images in two steps, each of five dimensions."""
    n, c, h, w = _image(x, blocksize)
    s, depth = blocksize, c // (blocksize * blocksize)
    if n != 1:
        return _blocks(b, x, s, mode)
    if mode == "DCR":
        split, order = (n, s, s, depth, h, w), (0, 3, 4, 1, 5, 2)
    else:
        split, order = (n, depth, s, s, h, w), (0, 1, 4, 2, 5, 3)
    x = common.transpose(b, common.reshape(b, x, split), order)
    return common.reshape(b, x, (n, depth, h * s, w * s))


def _blocks(b: Builder, x: SSAValue, s: int, mode: str) -> SSAValue:
    n, c, h, w = shape_of(x)
    depth = c // (s * s)
    if mode == "DCR":
        x = common.reshape(b, x, (n, s * s, depth, h, w))
        x = common.transpose(b, x, (0, 2, 3, 1, 4))
    else:
        x = common.reshape(b, x, (n * depth, s * s, h, w))
        x = common.transpose(b, x, (0, 2, 1, 3))
    x = common.reshape(b, x, (n * depth * h, s, s, w))
    return common.reshape(b, common.transpose(b, x, (0, 1, 3, 2)), (n, depth, h * s, w * s))


@op("SpaceToDepth", storage=True)
def space_to_depth(b: Builder, x: SSAValue, *, blocksize: int, mode: str = "DCR") -> SSAValue:
    """Blocks of pixels into channels; of several images in two steps, each of five dimensions."""
    n, c, h, w = _image(x, blocksize)
    s, rows, columns = blocksize, h // blocksize, w // blocksize
    if n == 1:
        order = (2, 4, 0, 1, 3) if mode == "DCR" else (0, 2, 4, 1, 3)
        split = common.reshape(b, x, (c, rows, s, columns, s))
        return common.reshape(b, common.transpose(b, split, order), (1, c * s * s, rows, columns))
    split = common.reshape(b, x, (n * c * rows, s, columns, s))
    blocks = common.transpose(b, split, (0, 1, 3, 2))
    if mode == "DCR":
        blocks = common.reshape(b, blocks, (n, c, rows, s * s, columns))
        blocks = common.transpose(b, blocks, (0, 3, 1, 2, 4))
    else:
        blocks = common.reshape(b, blocks, (n * c, rows, s * s, columns))
        blocks = common.transpose(b, blocks, (0, 2, 1, 3))
    return common.reshape(b, blocks, (n, c * s * s, rows, columns))


def _image(x: SSAValue, blocksize: int) -> tuple[int, int, int, int]:
    if len(shape_of(x)) != 4 or blocksize < 1:
        raise Misfit(f"blocks of {blocksize} in a tensor of rank {len(shape_of(x))}")
    n, c, h, w = shape_of(x)
    return n, c, h, w
