"""Convolutions: NCHW/OIHW in ONNX, NHWC/HWIO in `graph`, with transposes between."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
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

Ints = Sequence[int] | None

MAX_TAPS = 64
"""Blocks larger than this are not put together tap by tap."""


@dataclass(frozen=True)
class Windows:
    """Where the windows of a convolution or pooling lie, per spatial dimension."""

    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    low: tuple[int, ...]
    high: tuple[int, ...]

    @property
    def extents(self) -> tuple[int, ...]:
        """Elements from the first to the last tap of a window."""
        pairs = zip(self.kernel, self.dilations, strict=True)
        return tuple((k - 1) * d + 1 for k, d in pairs)

    def counts(self, size: Sequence[int]) -> tuple[int, ...]:
        """How many windows there are over an input of `size`."""
        room = [n + p + q - e for n, p, q, e in
                zip(size, self.low, self.high, self.extents, strict=True)]  # fmt: skip
        if min(room) < 0:
            raise Misfit(f"windows of {list(self.extents)} over {list(size)}")
        return tuple(r // s + 1 for r, s in zip(room, self.strides, strict=True))

    def by_axis(self) -> tuple[tuple[int, ...], ...]:
        """Kernel, strides, dilations, and padding before and after."""
        return self.kernel, self.strides, self.dilations, self.low, self.high

    def part(self, first: int, end: int) -> Windows:
        """The same over some of the dimensions."""
        return Windows(*(values[first:end] for values in self.by_axis()))

    def turned(self) -> Windows:
        """The same for an image of one column, if this is for a sequence."""
        size, step, none = (1,), (1,), (0,)
        k, s, d, low, high = self.by_axis()
        return Windows((*k, *size), (*s, *step), (*d, *step), (*low, *none), (*high, *none))

    def image(self) -> Windows:
        """The same for an image, if this is for a sequence: a row dimension of 1 is added."""
        if len(self.kernel) == 2:
            return self
        return Windows(
            (1, *self.kernel), (1, *self.strides), (1, *self.dilations),
            (0, *self.low), (0, *self.high),
        )  # fmt: skip

    @property
    def pads(self) -> tuple[int, int, int, int]:
        """Top, left, bottom, right of an image."""
        return self.low[0], self.low[1], self.high[0], self.high[1]


def windows(
    size: Sequence[int],
    kernel: Sequence[int],
    strides: Ints,
    dilations: Ints,
    pads: Ints,
    auto_pad: str,
) -> Windows:
    """The windows over an input of `size`, with padding resolved to numbers."""
    rank = len(kernel)
    strides = tuple(strides or (1,) * rank)
    dilations = tuple(dilations or (1,) * rank)
    pads = tuple(pads or (0,) * (2 * rank))
    valid = {len(size), len(strides), len(dilations), len(pads) // 2} == {rank}
    if min(pads, default=0) < 0:
        raise NotExpressible("negative pads")
    if not valid or not rank or min(*strides, *dilations, *kernel) < 1:
        raise Misfit(
            f"windows of kernel {list(kernel)}, strides {list(strides)}, "
            f"dilations {list(dilations)}, pads {list(pads)} over {list(size)}"
        )
    found = Windows(tuple(kernel), strides, dilations, pads[:rank], pads[rank:])
    return found if auto_pad in ("NOTSET", "") else _auto(found, size, auto_pad)


def _auto(w: Windows, size: Sequence[int], auto_pad: str) -> Windows:
    """SAME_UPPER, SAME_LOWER: ceil(size / stride) windows. VALID: no padding."""
    none = (0,) * len(w.kernel)
    if auto_pad == "VALID":
        return Windows(w.kernel, w.strides, w.dilations, none, none)
    if auto_pad not in ("SAME_UPPER", "SAME_LOWER"):
        raise Misfit(f"auto_pad {auto_pad}")
    low: list[int] = []
    high: list[int] = []
    for n, extent, stride in zip(size, w.extents, w.strides, strict=True):
        total = max((-(-n // stride) - 1) * stride + extent - n, 0)
        small, large = total // 2, total - total // 2
        low.append(small if auto_pad == "SAME_UPPER" else large)
        high.append(large if auto_pad == "SAME_UPPER" else small)
    return Windows(w.kernel, w.strides, w.dilations, tuple(low), tuple(high))


@op("Conv")
def conv(
    b: Builder,
    x: SSAValue,
    w: SSAValue,
    bias: SSAValue | None = None,
    *,
    auto_pad: str,
    dilations: Ints,
    group: int,
    kernel_shape: Ints,
    pads: Ints,
    strides: Ints,
) -> SSAValue:
    """A convolution in one to three spatial dimensions, grouped or not."""
    taps = check_kernel(w, kernel_shape)
    found = windows(shape_of(x)[2:], taps, strides, dilations, pads, auto_pad)
    return convolve(b, x, w, bias, found, group)


def check_kernel(w: SSAValue, kernel_shape: Ints) -> tuple[int, ...]:
    """The spatial shape of OI... weights, with which the attribute must agree."""
    taps = shape_of(w)[2:]
    if kernel_shape is not None and tuple(kernel_shape) != taps:
        raise Misfit(f"kernel_shape {list(kernel_shape)} with weights of {list(taps)}")
    return taps


def convolve(
    b: Builder, x: SSAValue, w: SSAValue, bias: SSAValue | None, found: Windows, group: int
) -> SSAValue:
    """`conv2d` on NC... data and OI... weights, with the result NC... again."""
    if len(found.kernel) == 3:
        return _convolve_volume(b, x, w, bias, found, group)
    return common.from_image(b, conv_image(b, x, w, bias, found, group), len(shape_of(x)))


def conv_image(
    b: Builder, x: SSAValue, w: SSAValue, bias: SSAValue | None, found: Windows, group: int
) -> SSAValue:
    """`conv2d` on NC... data and OI... weights; the result is N H W C."""
    found.counts(shape_of(x)[2:])
    _check_groups(x, w, group)
    image = found.image()
    y = graph.Conv2DOp(
        common.as_image(b, x),
        kernel_image(b, w),
        bias,
        strides=image.strides,
        pads=image.pads,
        dilations=image.dilations,
        groups=group,
    )
    return b.emit(y)


def _convolve_volume(
    b: Builder, x: SSAValue, w: SSAValue, bias: SSAValue | None, found: Windows, group: int
) -> SSAValue:
    """One convolution of planes, whose channels are those of all planes that a window touches."""
    deep = found.part(0, 1)
    x = common.pad(b, x, (0, 0, *deep.low, 0, 0), (0, 0, *deep.high, 0, 0))
    n, c, _, *size = shape_of(x)
    o, i, taps, *kernel = shape_of(w)
    _check_groups(x, w, group)
    depth = found.counts([shape_of(x)[2] - sum(deep.low + deep.high), *size])[0]
    steps = [k * deep.dilations[0] for k in range(taps)]
    parts = [common.along(b, x, 2, k, depth, deep.strides[0]) for k in steps]
    rows = [common.reshape(b, p, (n * group, c // group * depth * prod(size))) for p in parts]
    x = common.reshape(b, common.concat(b, rows, 1), (n, taps * c, depth, prod(size)))
    x = common.reshape(b, common.transpose(b, x, (0, 2, 1, 3)), (n * depth, taps * c, *size))
    w = common.reshape(b, common.transpose(b, w, (0, 2, 1, 3, 4)), (o, taps * i, *kernel))
    y = convolve(b, x, w, bias, found.part(1, 3), group)
    size = shape_of(y)[2:]
    y = common.transpose(b, common.reshape(b, y, (n, depth, o, prod(size))), (0, 2, 1, 3))
    return common.reshape(b, y, (n, o, depth, *size))


def _check_groups(x: SSAValue, w: SSAValue, group: int) -> None:
    if group < 1 or shape_of(x)[1] != shape_of(w)[1] * group or shape_of(w)[0] % group:
        raise Misfit(f"data {list(shape_of(x))} and weights {list(shape_of(w))} in {group} groups")


def kernel_image(b: Builder, w: SSAValue) -> SSAValue:
    """O I K or O I KH KW -> KH KW I O."""
    rank = len(shape_of(w))
    w = common.transpose(b, w, (*range(2, rank), 1, 0))
    return common.reshape(b, w, (1, *shape_of(w))) if rank == 3 else w


@op("ConvTranspose")
def conv_transpose(
    b: Builder,
    x: SSAValue,
    w: SSAValue,
    bias: SSAValue | None = None,
    *,
    auto_pad: str,
    dilations: Ints,
    group: int,
    kernel_shape: Ints,
    output_padding: Ints,
    output_shape: Ints,
    pads: Ints,
    strides: Ints,
) -> SSAValue:
    """Zeros between the elements, then a convolution with the weights turned round."""
    size, rank = shape_of(x)[2:], len(shape_of(x)) - 2
    if shape_of(x)[1] != shape_of(w)[0] or group < 1 or shape_of(w)[0] % group:
        raise Misfit(f"data {list(shape_of(x))} and weights {list(shape_of(w))} in {group} groups")
    taps = check_kernel(w, kernel_shape)
    found = windows(size, taps, strides, dilations, pads, "NOTSET")
    extra = tuple(output_padding or (0,) * rank)
    if output_shape or auto_pad not in ("NOTSET", ""):
        found = _transposed_pads(found, size, extra, output_shape, auto_pad)
    low = [e - 1 - p for e, p in zip(found.extents, found.low, strict=True)]
    high = [e - 1 - p + o for e, p, o in zip(found.extents, found.high, extra, strict=True)]
    x = spread(b, x, found.strides)
    x = common.pad(b, x, (0, 0, *low), (0, 0, *high))
    none = (0,) * rank
    plain = Windows(found.kernel, (1,) * rank, found.dilations, none, none)
    return convolve(b, x, _turned(b, w, group), bias, plain, group)


def _transposed_pads(
    w: Windows, size: Sequence[int], extra: Sequence[int], shape: Ints, auto_pad: str
) -> Windows:
    """The padding that gives `shape`, or size * stride where that is absent."""
    if auto_pad == "VALID" and not shape:
        return w
    wanted = list(shape or [])[-len(size) :]
    wanted = wanted or [n * s for n, s in zip(size, w.strides, strict=True)]
    low: list[int] = []
    high: list[int] = []
    for k, out in enumerate(wanted):
        total = w.strides[k] * (size[k] - 1) + extra[k] + w.extents[k] - out
        small, large = total // 2, total - total // 2
        low.append(small if auto_pad == "SAME_UPPER" else large)
        high.append(large if auto_pad == "SAME_UPPER" else small)
    return Windows(w.kernel, w.strides, w.dilations, tuple(low), tuple(high))


def spread(b: Builder, x: SSAValue, strides: Sequence[int]) -> SSAValue:
    """N C ... with stride - 1 zeros after each element but the last, one dimension at a time."""
    for k, stride in enumerate(strides):
        shape = shape_of(x)
        if stride == 1 or 0 in shape:
            continue
        before, size, inner = shape[: 2 + k], shape[2 + k], prod(shape[3 + k :])
        apart = common.reshape(b, x, (prod(before) * size, 1, inner))
        wide = common.pad(b, apart, (0, 0, 0), (0, stride - 1, 0))
        wide = common.reshape(b, wide, (prod(before), size * stride, inner))
        kept = common.along(b, wide, 1, 0, (size - 1) * stride + 1)
        x = common.reshape(b, kept, (*before, (size - 1) * stride + 1, *shape[3 + k :]))
    return x


@op("Col2Im", since=18)
def columns_to_image(
    b: Builder,
    x: SSAValue,
    image_shape: SSAValue,
    block_shape: SSAValue,
    *,
    dilations: Ints,
    pads: Ints,
    strides: Ints,
) -> SSAValue:
    """Blocks [N, C * elements of a block, blocks] put where they come from, and added."""
    image, block = b.ints(image_shape, "the shape"), b.ints(block_shape, "the shape of a block")
    found = windows(image, block, strides, dilations, pads, "NOTSET")
    n, width, count = shape_of(x)
    taps, places = prod(block), found.counts(image)
    if width % taps or count != prod(places) or taps > MAX_TAPS:
        raise NotExpressible(f"blocks {list(block)} of {list(shape_of(x))} in {list(image)}")
    x = common.reshape(b, x, (n, width // taps, taps, count))
    padded = [s + p + q for s, p, q in zip(image, found.low, found.high, strict=True)]
    total: SSAValue | None = None
    for tap in product(*(range(size) for size in block)):
        k = sum(t * prod(block[a + 1 :]) for a, t in enumerate(tap))
        part = common.reshape(b, common.along(b, x, 2, k, 1), (n, width // taps, *places))
        part = spread(b, part, found.strides)
        low = [t * d for t, d in zip(tap, found.dilations, strict=True)]
        high = [size - p - s for size, p, s in zip(padded, low, shape_of(part)[2:], strict=True)]
        part = common.pad(b, part, (0, 0, *low), (0, 0, *high))
        total = part if total is None else common.add(b, total, part)
    assert total is not None
    return common.window(b, total, (0, 0, *found.low), (n, width // taps, *image))


def _turned(b: Builder, w: SSAValue, group: int) -> SSAValue:
    """Weights I O/g ... as O I/g ..., reversed in space."""
    i, o, *taps = shape_of(w)
    rank = len(taps)
    starts = (0, 0, *(t - 1 for t in taps))
    w = common.window(b, w, starts, shape_of(w), (1, 1, *([-1] * rank)))
    w = common.reshape(b, w, (group, i // group, o, *taps))
    w = common.transpose(b, w, (0, 2, 1, *range(3, 3 + rank)))
    return common.reshape(b, w, (group * o, i // group, *taps))
