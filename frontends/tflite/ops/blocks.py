"""Blocks of an image that become channels or images of a batch, and back; mirrored borders."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

from xdsl.ir import SSAValue

from npu_dialect.frontends.onnx.builder import shape_of
from npu_dialect.frontends.onnx.errors import Misfit, NotExpressible
from npu_dialect.frontends.onnx.ops.common import along, concat, pad, reshape, transpose, window
from npu_dialect.frontends.tflite.builder import Builder
from npu_dialect.frontends.tflite.ops.rescaling import as_result, is_quantized
from npu_dialect.frontends.tflite.registry import op


def _image(x: SSAValue) -> tuple[int, int, int, int]:
    shape = shape_of(x)
    if len(shape) != 4:
        raise Misfit(f"an image of {list(shape)}")
    return shape[0], shape[1], shape[2], shape[3]


@op("SPACE_TO_DEPTH", options="SpaceToDepthOptions")
def space_to_depth(b: Builder, x: SSAValue, *, block_size: int) -> SSAValue:
    """The pixels of a block one after the other as channels."""
    n, height, width, channels = _image(x)
    if block_size < 1 or height % block_size or width % block_size:
        raise Misfit(f"blocks of {block_size} of {list(shape_of(x))}")
    apart = (n, height // block_size, block_size, width // block_size, block_size, channels)
    found = transpose(b, reshape(b, x, apart), (0, 1, 3, 2, 4, 5))
    return as_result(b, reshape(b, found, b.shape))


@op("DEPTH_TO_SPACE", options="DepthToSpaceOptions")
def depth_to_space(b: Builder, x: SSAValue, *, block_size: int) -> SSAValue:
    """The other way round."""
    n, height, width, channels = _image(x)
    if block_size < 1 or channels % (block_size * block_size):
        raise Misfit(f"blocks of {block_size} of {list(shape_of(x))}")
    apart = (n, height, width, block_size, block_size, channels // (block_size * block_size))
    found = transpose(b, reshape(b, x, apart), (0, 1, 3, 2, 4, 5))
    return as_result(b, reshape(b, found, b.shape))


def _pairs(b: Builder, x: SSAValue, count: int, what: str) -> list[tuple[int, int]]:
    found = b.known(x, what)
    if found.shape != (count, 2):
        raise Misfit(f"{what} {found.tolist()} of {count} dimensions")
    return [(int(low), int(high)) for low, high in found]


@op("SPACE_TO_BATCH_ND", options="SpaceToBatchNDOptions")
def space_to_batch(b: Builder, x: SSAValue, blocks: SSAValue, amounts: SSAValue) -> SSAValue:
    """The pixels of a place within a block as an image; number 0 is put around before."""
    sizes = b.ints(blocks, "the size of a block")
    amount = _pairs(b, amounts, len(sizes), "an amount of padding")
    x = as_result(b, x)
    filler = b.quant.zero_point if is_quantized(x) else 0
    spare = [(0, 0)] * (len(shape_of(x)) - len(sizes) - 1)
    low, high = zip((0, 0), *amount, *spare, strict=True)
    x = pad(b, x, low, high, filler)
    n, *space = shape_of(x)
    rest = space[len(sizes) :]
    if any(s < 1 or size % s for s, size in zip(sizes, space, strict=False)):
        raise Misfit(f"blocks of {list(sizes)} of {list(shape_of(x))}")
    pairs = [d for size, s in zip(space, sizes, strict=False) for d in (size // s, s)]
    count = len(sizes)
    order = (*range(2, 2 * count + 1, 2), 0, *range(1, 2 * count, 2), 2 * count + 1)
    found = transpose(b, reshape(b, x, (n, *pairs, prod(rest))), order)
    return reshape(b, found, b.shape)


@op("BATCH_TO_SPACE_ND", options="BatchToSpaceNDOptions")
def batch_to_space(b: Builder, x: SSAValue, blocks: SSAValue, crops: SSAValue) -> SSAValue:
    """The other way round; what is cropped is left out afterwards."""
    sizes = b.ints(blocks, "the size of a block")
    crop = _pairs(b, crops, len(sizes), "an amount to crop")
    batch, *space = shape_of(x)
    count, rest = len(sizes), space[len(sizes) :]
    if min(sizes, default=1) < 1 or batch % prod(sizes) or len(space) < count:
        raise Misfit(f"blocks of {list(sizes)} of {list(shape_of(x))}")
    apart = (*sizes, batch // prod(sizes), *space[:count], prod(rest))
    pairs = [d for k in range(count) for d in (count + 1 + k, k)]
    found = transpose(b, reshape(b, x, apart), (count, *pairs, 2 * count + 1))
    whole = [size * s for size, s in zip(space, sizes, strict=False)]
    found = reshape(b, found, (batch // prod(sizes), *whole, *rest))
    starts = (0, *(low for low, _ in crop), *([0] * len(rest)))
    if b.shape[1 : count + 1] != tuple(n - sum(c) for n, c in zip(whole, crop, strict=True)):
        raise Misfit(f"a result of {list(b.shape)}, where {crop} of {whole} is cropped")
    return as_result(b, window(b, found, starts, b.shape))


@op("MIRROR_PAD", options="MirrorPadOptions")
def mirror_pad(b: Builder, x: SSAValue, amounts: SSAValue, *, mode: str) -> SSAValue:
    """The elements beside each end once more behind it, with the last one if SYMMETRIC."""
    if mode not in ("REFLECT", "SYMMETRIC"):
        raise NotExpressible(f"the mode {mode}")
    inside = 1 if mode == "REFLECT" else 0
    for axis, (low, high) in enumerate(_pairs(b, amounts, len(shape_of(x)), "an amount")):
        x = _mirrored(b, x, axis, low, high, inside)
    return as_result(b, x)


def _mirrored(b: Builder, x: SSAValue, axis: int, low: int, high: int, inside: int) -> SSAValue:
    size = shape_of(x)[axis]
    if min(low, high) < 0 or max(low, high) > size - inside:
        raise Misfit(f"{low} and {high} elements beside {size}")
    parts: Sequence[tuple[int, int, int]] = (
        (low - 1 + inside, low, -1), (0, size, 1), (size - 1 - inside, high, -1)
    )  # fmt: skip
    return concat(b, [along(b, x, axis, *part) for part in parts if part[1]], axis)
