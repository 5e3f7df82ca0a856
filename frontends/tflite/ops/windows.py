"""The padding of windows."""

from __future__ import annotations

from collections.abc import Sequence

from npu_dialect.frontends.onnx.errors import Misfit


def pads_of(
    size: Sequence[int],
    kernel: Sequence[int],
    strides: Sequence[int],
    dilations: Sequence[int],
    padding: str,
) -> tuple[int, int, int, int]:
    """Top, left, bottom, right; SAME has ceil(size / stride) windows, the odd one at the end."""
    if min(*strides, *dilations, *kernel) < 1:
        raise Misfit(f"a window of {list(kernel)}, strides {list(strides)}")
    if padding == "VALID":
        return 0, 0, 0, 0
    low: list[int] = []
    high: list[int] = []
    for n, k, stride, gap in zip(size, kernel, strides, dilations, strict=True):
        extent = (k - 1) * gap + 1
        total = max((-(-n // stride) - 1) * stride + extent - n, 0)
        low.append(total // 2)
        high.append(total - total // 2)
    return low[0], low[1], high[0], high[1]
