"""Windows as TOSA wants them: the last one ends where the padded input does."""

from __future__ import annotations

from collections.abc import Sequence

from xdsl.ir import SSAValue

from npu_dialect.graph.base import shape_of
from npu_dialect.tosa_export.emitter import Emitter, Refused


def fitted(
    e: Emitter,
    x: SSAValue,
    kernel: Sequence[int],
    strides: Sequence[int],
    dilations: Sequence[int],
    pads: Sequence[int],
) -> tuple[SSAValue, tuple[int, int, int, int]]:
    """x [N, H, W, C] without what no window reaches, and the padding: top, bottom, left, right.

    `pads` are top, left, bottom, right, as in graph.
    """
    low, high = list(pads[:2]), list(pads[2:])
    sizes = list(shape_of(x))
    for k in (0, 1):
        extent = (kernel[k] - 1) * dilations[k] + 1
        surplus = (sizes[k + 1] + low[k] + high[k] - extent) % strides[k]
        cut = min(surplus, high[k])
        high[k] -= cut
        sizes[k + 1] -= surplus - cut
        if sizes[k + 1] < 1:
            raise Refused("windows of which none meets an element")
    return e.slice(x, (0, 0, 0, 0), sizes), (low[0], high[0], low[1], high[1])
