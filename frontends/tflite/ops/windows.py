"""The padding of windows, and results that are put together from some of them each."""

from __future__ import annotations

from collections.abc import Sequence

from xdsl.ir import SSAValue

from npu_dialect.frontends.onnx.builder import shape_of
from npu_dialect.frontends.onnx.errors import Misfit
from npu_dialect.frontends.onnx.ops.common import concat, reshape
from npu_dialect.frontends.tflite.builder import Builder


def pads_of(
    size: Sequence[int],
    kernel: Sequence[int],
    strides: Sequence[int],
    dilations: Sequence[int],
    padding: str,
) -> tuple[int, int, int, int]:
    """Top, left, bottom, right; SAME has ceil(size / stride) windows, the odd one at the end."""
    low, high = ends_of(size, kernel, strides, dilations, padding)
    return low[0], low[1], high[0], high[1]


def ends_of(
    size: Sequence[int],
    kernel: Sequence[int],
    strides: Sequence[int],
    dilations: Sequence[int],
    padding: str,
) -> tuple[list[int], list[int]]:
    """What is put before and behind each dimension, however many there are."""
    if min(*strides, *dilations, *kernel) < 1:
        raise Misfit(f"a window of {list(kernel)}, strides {list(strides)}")
    if padding == "VALID":
        return [0] * len(size), [0] * len(size)
    low: list[int] = []
    high: list[int] = []
    for n, k, stride, gap in zip(size, kernel, strides, dilations, strict=True):
        extent = (k - 1) * gap + 1
        total = max((-(-n // stride) - 1) * stride + extent - n, 0)
        low.append(total // 2)
        high.append(total - total // 2)
    return low, high


def interleaved(b: Builder, parts: Sequence[SSAValue], axis: int) -> SSAValue:
    """The elements of all parts in turn along a dimension."""
    if len(parts) == 1:
        return parts[0]
    shape = shape_of(parts[0])
    apart = [reshape(b, p, (*shape[: axis + 1], 1, *shape[axis + 1 :])) for p in parts]
    whole = (*shape[:axis], shape[axis] * len(parts), *shape[axis + 1 :])
    return reshape(b, concat(b, apart, axis + 1), whole)
