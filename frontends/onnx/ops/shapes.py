"""Operators that change or state shapes."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import numpy as np

from npu_dialect.frontends.onnx.ops import common
from npu_dialect.frontends.onnx.ops.common import (
    Builder,
    Misfit,
    NotExpressible,
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
    """A dimension of size n becomes r x n by a broadcast, then one of r * n."""
    times, shape = b.ints(repeats, "repeats"), shape_of(x)
    if len(times) != len(shape) or min(times, default=0) < 0:
        raise Misfit(f"repeats {list(times)} of {list(shape)}")
    apart = common.reshape(b, x, [d for n in shape for d in (1, n)])
    pairs = [d for r, n in zip(times, shape, strict=True) for d in (r, n)]
    full = [r * n for r, n in zip(times, shape, strict=True)]
    return common.reshape(b, common.broadcast(b, apart, pairs), full)


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
    """Channels into blocks of pixels."""
    n, c, h, w = _image(x, blocksize)
    s, depth = blocksize, c // (blocksize * blocksize)
    if mode == "DCR":
        split, order = (n, s, s, depth, h, w), (0, 3, 4, 1, 5, 2)
    else:
        split, order = (n, depth, s, s, h, w), (0, 1, 4, 2, 5, 3)
    x = common.transpose(b, common.reshape(b, x, split), order)
    return common.reshape(b, x, (n, depth, h * s, w * s))


@op("SpaceToDepth", storage=True)
def space_to_depth(b: Builder, x: SSAValue, *, blocksize: int, mode: str = "DCR") -> SSAValue:
    """Blocks of pixels into channels."""
    n, c, h, w = _image(x, blocksize)
    s = blocksize
    split = common.reshape(b, x, (n, c, h // s, s, w // s, s))
    order = (0, 3, 5, 1, 2, 4) if mode == "DCR" else (0, 1, 3, 5, 2, 4)
    return common.reshape(b, common.transpose(b, split, order), (n, c * s * s, h // s, w // s))


def _image(x: SSAValue, blocksize: int) -> tuple[int, int, int, int]:
    if len(shape_of(x)) != 4 or blocksize < 1:
        raise Misfit(f"blocks of {blocksize} in a tensor of rank {len(shape_of(x))}")
    n, c, h, w = shape_of(x)
    return n, c, h, w


@op("Resize", since=11, storage=True)
def resize(
    b: Builder,
    x: SSAValue,
    roi: SSAValue | None = None,
    scales: SSAValue | None = None,
    sizes: SSAValue | None = None,
    *,
    mode: str,
    nearest_mode: str,
    coordinate_transformation_mode: str,
    antialias: int = 0,
    axes: Sequence[int] | None = None,
    cubic_coeff_a: float,
    exclude_outside: int,
    extrapolation_value: float,
    keep_aspect_ratio_policy: str = "stretch",
) -> SSAValue:
    """Nearest neighbour by whole factors, for which the other attributes mean nothing: repeats."""
    del roi, antialias, cubic_coeff_a, exclude_outside, extrapolation_value
    if axes is not None or keep_aspect_ratio_policy != "stretch":
        raise NotExpressible("Resize of some axes, or to an aspect ratio")
    factors = _factors(b, x, scales, sizes)
    exact = coordinate_transformation_mode == "asymmetric" and nearest_mode == "floor"
    middle = coordinate_transformation_mode in ("half_pixel", "pytorch_half_pixel")
    if mode != "nearest" or not (exact or (middle and nearest_mode.startswith("round"))):
        raise NotExpressible(f"Resize by {mode}, {coordinate_transformation_mode}")
    return repeat(b, x, factors)


@op("Resize", "Upsample", since=9, storage=True)
def resize_10(b: Builder, x: SSAValue, scales: SSAValue, *, mode: str) -> SSAValue:
    """Scales as an input; the coordinates are asymmetric, rounded down."""
    if mode != "nearest":
        raise NotExpressible(f"Resize by {mode}")
    return repeat(b, x, _factors(b, x, scales, None))


@op("Upsample", storage=True)
def upsample_7(b: Builder, x: SSAValue, *, mode: str, scales: Sequence[float]) -> SSAValue:
    """Scales as an attribute."""
    return resize_10(b, x, b.constant(np.array(scales, np.float32)), mode=mode)


def _factors(
    b: Builder, x: SSAValue, scales: SSAValue | None, sizes: SSAValue | None
) -> tuple[int, ...]:
    shape = shape_of(x)
    if scales is not None and shape_of(scales) != (0,):
        found = [float(s) for s in b.known(scales, "scales").reshape(-1)]
    elif sizes is not None:
        found = [s / max(n, 1) for s, n in zip(b.ints(sizes, "sizes"), shape, strict=False)]
    else:
        found = []
    if len(found) != len(shape) or any(f < 1 or f % 1 != 0 for f in found):
        raise NotExpressible(f"Resize by the factors {found}")
    return tuple(int(f) for f in found)


def repeat(b: Builder, x: SSAValue, factors: Sequence[int]) -> SSAValue:
    """Each element `factors[k]` times along dimension k."""
    shape = shape_of(x)
    x = common.reshape(b, x, [d for n in shape for d in (n, 1)])
    pairs = [d for n, f in zip(shape, factors, strict=True) for d in (n, f)]
    full = [n * f for n, f in zip(shape, factors, strict=True)]
    return common.reshape(b, common.broadcast(b, x, pairs), full)
