"""Shapes of results that a file leaves free, from operands, as TFLite's kernels find them.

    RESHAPE x [4, 6, 2], shape [-1, 12]     stated [1, 12], signature [-1, 12]    ->  [4, 12]

A file has a size for every dimension, but where its shape signature has -1, it may be that of other
inputs, or just 1. Operators without a rule here have results whose shapes follow from the
operations that they become, or that are as they are stated.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import ceil, prod

import numpy as np
from xdsl.ir import SSAValue

from npu_dialect.frontends.onnx.builder import shape_of
from npu_dialect.frontends.onnx.errors import Misfit
from npu_dialect.frontends.onnx.ops.common import normalize_axis
from npu_dialect.frontends.tflite import registry
from npu_dialect.frontends.tflite.builder import Builder
from npu_dialect.frontends.tflite.model import COMPLEX, Operator, Tensor
from npu_dialect.frontends.tflite.registry import shape

Shape = list[int]
Shapes = tuple[tuple[int, ...], ...]


def is_free(tensor: Tensor) -> bool:
    """Whether a file leaves some dimension of a tensor free."""
    return tensor.data is None and any(size < 0 for size in tensor.signature)


def is_as_stated(found: Sequence[int], tensor: Tensor) -> bool:
    """Whether a shape is that of a tensor, but for dimensions that are free."""
    if not is_free(tensor):
        return tuple(found) == tensor.shape
    pairs = zip(found, tensor.signature, strict=False)
    return len(found) == len(tensor.signature) and all(size in (n, -1) for n, size in pairs)


def settled(
    b: Builder, node: Operator, given: Sequence[SSAValue | None], stated: Sequence[Tensor]
) -> list[Tensor]:
    """The results of an operator with the shapes that they have. Raises Misfit."""
    if not any(map(is_free, stated)):
        return list(stated)
    found = registry.shapes(b, node, given)
    pairs = zip(stated, found, strict=False)
    known = [_settled(tensor, sizes) if is_free(tensor) else tensor for tensor, sizes in pairs]
    return [*known, *stated[len(known) :]]


def _settled(tensor: Tensor, sizes: tuple[int, ...]) -> Tensor:
    return replace(tensor, shape=(*sizes, 2) if tensor.kind == COMPLEX else sizes)


def _sizes(b: Builder, x: SSAValue) -> tuple[int, ...]:
    """The shape of the first operand, which may hold complex numbers."""
    source = b.operands[0]
    return shape_of(x)[:-1] if source is not None and source.kind == COMPLEX else shape_of(x)


def _numbers(b: Builder, x: SSAValue | None) -> list[int] | None:
    """The numbers of a tensor, None where they are not known."""
    array = None if x is None else b.array(x)
    return None if array is None else [int(n) for n in np.asarray(array).reshape(-1)]


def _axes(b: Builder, x: SSAValue, axes: SSAValue) -> set[int] | None:
    found, rank = _numbers(b, axes), len(shape_of(x))
    return None if found is None else {normalize_axis(axis, rank) for axis in found}


# Movement


@shape("RESHAPE", options="ReshapeOptions")
def reshape(
    b: Builder, x: SSAValue, sizes: SSAValue | None = None, *, new_shape: Sequence[int]
) -> Shape | None:
    """As the second operand says; one size of -1 is what is left."""
    found = _numbers(b, sizes) if sizes is not None else list(new_shape)
    if found is None or found.count(-1) > 1:
        return None
    rest = prod(n for n in found if n != -1)
    if -1 in found and rest:
        found[found.index(-1)] = prod(_sizes(b, x)) // rest
    return found if min(found, default=0) >= 0 else None


@shape("SQUEEZE", options="SqueezeOptions")
def squeeze(b: Builder, x: SSAValue, *, squeeze_dims: Sequence[int]) -> Shape:
    """Without some dimensions of one element, or without all of them."""
    old = _sizes(b, x)
    gone = {normalize_axis(axis, len(old)) for axis in squeeze_dims}
    return [n for k, n in enumerate(old) if not (k in gone or (not gone and n == 1))]


@shape("EXPAND_DIMS")
def expand_dims(b: Builder, x: SSAValue, axis: SSAValue) -> Shape | None:
    """With one dimension of one element more."""
    found = _numbers(b, axis)
    if found is None or len(found) != 1:
        return None
    old = _sizes(b, x)
    place = normalize_axis(found[0], len(old) + 1)
    return [*old[:place], 1, *old[place:]]


@shape("SPLIT")
def split(b: Builder, axis: SSAValue, x: SSAValue) -> Shapes | None:
    """Equal parts, as many as there are results."""
    found, count = _axes(b, x, axis), len(b.results)
    if not found:
        return None
    (place,) = found
    return (_with(shape_of(x), place, shape_of(x)[place] // count),) * count


@shape("SPLIT_V")
def split_v(b: Builder, x: SSAValue, sizes: SSAValue, axis: SSAValue) -> Shapes | None:
    """Parts of some sizes; one of -1 is what is left."""
    places, found = _axes(b, x, axis), _numbers(b, sizes)
    if not places or found is None or found.count(-1) > 1:
        return None
    (place,) = places
    left = shape_of(x)[place] - sum(n for n in found if n >= 0)
    return tuple(_with(shape_of(x), place, left if n < 0 else n) for n in found)


def _with(old: Sequence[int], axis: int, size: int) -> tuple[int, ...]:
    return tuple(size if k == axis else n for k, n in enumerate(old))


@shape("SLICE")
def slice_(b: Builder, x: SSAValue, begin: SSAValue, size: SSAValue) -> Shape | None:
    """Of the given sizes; -1 is all that is left."""
    starts, sizes = _numbers(b, begin), _numbers(b, size)
    if starts is None or sizes is None or not len(starts) == len(sizes) == len(shape_of(x)):
        return None
    triples = zip(shape_of(x), starts, sizes, strict=True)
    return [old - low if n == -1 else n for old, low, n in triples]


@shape("BROADCAST_TO")
def broadcast_to(b: Builder, x: SSAValue, sizes: SSAValue) -> Shape | None:
    """The given one."""
    del x
    return _numbers(b, sizes)


@shape("SCATTER_ND")
def scatter_nd(b: Builder, indices: SSAValue, x: SSAValue, sizes: SSAValue) -> Shape | None:
    """The given one."""
    del indices, x
    return _numbers(b, sizes)


@shape("FILL")
def fill(b: Builder, sizes: SSAValue, value: SSAValue) -> Shape | None:
    """The given one."""
    del value
    return _numbers(b, sizes)


@shape("ZEROS_LIKE", "DIV")
def same(b: Builder, x: SSAValue, *others: SSAValue) -> Shape:
    """That of the operands together."""
    del b
    try:
        return list(np.broadcast_shapes(shape_of(x), *map(shape_of, others)))
    except ValueError:
        raise Misfit(f"{[list(shape_of(v)) for v in (x, *others)]}") from None


@shape("RANGE")
def range_(b: Builder, start: SSAValue, limit: SSAValue, delta: SSAValue) -> Shape | None:
    """As many numbers as there are before the limit."""
    known = [b.array(v) for v in (start, limit, delta)]
    if any(array is None or array.size != 1 for array in known):
        return None
    first, last, step = (float(array.reshape(-1)[0]) for array in known if array is not None)
    return [max(ceil((last - first) / step), 0)] if step else None


@shape("GATHER", options="GatherOptions")
def gather(b: Builder, x: SSAValue, indices: SSAValue, *, axis: int, batch_dims: int) -> Shape:
    """The shape of the indices in the place of a dimension."""
    del b
    place, many = normalize_axis(axis, len(shape_of(x))), shape_of(indices)
    batch = batch_dims + len(many) if batch_dims < 0 else batch_dims
    return [*shape_of(x)[:place], *many[batch:], *shape_of(x)[place + 1 :]]


# Reductions and products


@shape(
    "MEAN", "SUM", "REDUCE_MAX", "REDUCE_MIN", "REDUCE_PROD", "REDUCE_ANY", "REDUCE_ALL",
    options="ReducerOptions",
)  # fmt: skip
def reduced(b: Builder, x: SSAValue, axes: SSAValue, *, keep_dims: bool) -> Shape | None:
    """Without some dimensions, or with one element in their place."""
    gone = _axes(b, x, axes)
    if gone is None:
        return None
    sizes = [1 if k in gone else n for k, n in enumerate(shape_of(x))]
    return sizes if keep_dims else [n for k, n in enumerate(sizes) if k not in gone]


@shape("ARG_MAX", "ARG_MIN")
def position(b: Builder, x: SSAValue, axis: SSAValue) -> Shape | None:
    """Without the dimension."""
    gone = _axes(b, x, axis)
    return None if gone is None else [n for k, n in enumerate(shape_of(x)) if k not in gone]


@shape("FULLY_CONNECTED", options="FullyConnectedOptions")
def fully_connected(
    b: Builder, x: SSAValue, w: SSAValue, bias: SSAValue | None = None, *, keep_num_dims: bool
) -> Shape | None:
    """Rows of as many elements as there are channels."""
    del b, bias
    if len(shape_of(w)) != 2 or not shape_of(w)[1]:
        return None
    rows = shape_of(x)[:-1] if keep_num_dims else (prod(shape_of(x)) // shape_of(w)[1],)
    return [*rows, shape_of(w)[0]]


@shape("RESIZE_BILINEAR", "RESIZE_NEAREST_NEIGHBOR")
def resized(b: Builder, x: SSAValue, size: SSAValue) -> Shape | None:
    """An image of the given height and width."""
    found, old = _numbers(b, size), shape_of(x)
    return None if found is None or len(old) != 4 else [old[0], *found, old[3]]


@shape("TRANSPOSE_CONV")
def transpose_conv(
    b: Builder, sizes: SSAValue, w: SSAValue, x: SSAValue, bias: SSAValue | None = None
) -> Shape | None:
    """The given one."""
    del w, x, bias
    return _numbers(b, sizes)


@shape("RFFT2D")
def spectrum(b: Builder, x: SSAValue, sizes: SSAValue) -> Shape | None:
    """Half of the columns, and one more."""
    found = _numbers(b, sizes)
    if found is None or len(found) != 2:
        return None
    return [*shape_of(x)[:-2], found[0], found[1] // 2 + 1]


# Blocks


@shape("SPACE_TO_DEPTH", options="SpaceToDepthOptions")
def space_to_depth(b: Builder, x: SSAValue, *, block_size: int) -> Shape | None:
    """Fewer pixels of more channels."""
    del b
    if len(shape_of(x)) != 4 or block_size < 1:
        return None
    n, height, width, channels = shape_of(x)
    return [n, height // block_size, width // block_size, channels * block_size * block_size]


@shape("DEPTH_TO_SPACE", options="DepthToSpaceOptions")
def depth_to_space(b: Builder, x: SSAValue, *, block_size: int) -> Shape | None:
    """More pixels of fewer channels."""
    del b
    if len(shape_of(x)) != 4 or block_size < 1:
        return None
    n, height, width, channels = shape_of(x)
    return [n, height * block_size, width * block_size, channels // (block_size * block_size)]


@shape("SPACE_TO_BATCH_ND")
def space_to_batch(b: Builder, x: SSAValue, blocks: SSAValue, pads: SSAValue) -> Shape | None:
    """More images of fewer pixels, of a padded one."""
    sizes, around = _numbers(b, blocks), _numbers(b, pads)
    if not sizes or around is None or len(around) != 2 * len(sizes) or min(sizes) < 1:
        return None
    n, *space = shape_of(x)
    if len(space) < len(sizes):
        return None
    for k, size in enumerate(sizes):
        space[k] = (space[k] + around[2 * k] + around[2 * k + 1]) // size
    return [n * prod(sizes), *space]


@shape("BATCH_TO_SPACE_ND")
def batch_to_space(b: Builder, x: SSAValue, blocks: SSAValue, crops: SSAValue) -> Shape | None:
    """Fewer images of more pixels, cropped."""
    sizes, gone = _numbers(b, blocks), _numbers(b, crops)
    if not sizes or gone is None or len(gone) != 2 * len(sizes) or min(sizes) < 1:
        return None
    n, *space = shape_of(x)
    if len(space) < len(sizes):
        return None
    for k, size in enumerate(sizes):
        space[k] = space[k] * size - gone[2 * k] - gone[2 * k + 1]
    return [n // prod(sizes), *space]
