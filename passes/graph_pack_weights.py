"""graph-pack-weights: weights of few values are stored in fewer bytes.

    %w = graph.constant {value = #graph.blob<i8, [1, 1, 64, 32], ...>}        all of it in -8..7
    %1 = graph.conv2d %x, %w {npu.placement = #graph.placement<mxu, ...>}

becomes

    %w = graph.constant {value = #graph.blob<i8, [1, 1, 64, 32], ...>} {npu.packed = "i4"}

where the target's dma engine expands such weights (`dma.codecs`). The value is the same; in dram it
lies with output channels outermost and input channels innermost, packed by the codec that takes the
fewest bytes (`npu_dialect/codecs.py`). A weight that is a whole number for its group of input
channels times one of 4 bits is found to be one by its values.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from xdsl.context import Context
from xdsl.dialects.builtin import ModuleOp, StringAttr
from xdsl.ir import Operation, Use
from xdsl.passes import ModulePass

from npu_dialect import graph
from npu_dialect.codecs import PACKED, smallest
from npu_dialect.graph.base import shape_of
from npu_dialect.passes.graph_place import engine_of
from npu_dialect.passes.targets import module_target


@dataclass(frozen=True)
class GraphPackWeightsPass(ModulePass):
    """Note the codec of constant weights that fit one."""

    name = "graph-pack-weights"

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        names = module_target(op).dma.codecs
        if not names:
            return
        for each in op.walk():
            if isinstance(each, graph.ConstantOp) and all(map(_is_weight, each.result.uses)):
                codec = smallest(_as_stored(each), names)
                if codec is not None:
                    each.attributes[PACKED] = StringAttr(codec.name)


def _is_weight(use: Use) -> bool:
    """Whether a constant is the weights of a convolution (no depthwise one) or a product."""
    op: Operation = use.operation
    if use.index != 1 or engine_of(op) != "mxu":
        return False
    if isinstance(op, graph.Conv2DOp):
        return not op.is_depthwise
    return isinstance(op, graph.MatmulOp)


def _as_stored(constant: graph.ConstantOp) -> np.ndarray[tuple[int, ...], np.dtype[np.generic]]:
    """Weights [KH, KW, IC, OC] or [..., K, N] in the order of memory, input channels last."""
    array = constant.array
    if array.dtype != np.int8 or len(shape_of(constant.result)) < 2 or not constant.result.uses:
        return np.zeros(0, np.int8)
    use = next(iter(constant.result.uses))
    if isinstance(use.operation, graph.Conv2DOp):
        return np.ascontiguousarray(array.transpose(3, 0, 1, 2))
    return np.ascontiguousarray(np.swapaxes(array, -1, -2))
