"""graph-pack-weights: weights are stored in fewer bytes.

    %w = graph.constant {value = #graph.blob<i8, [1, 1, 64, 32], ...>}        all of it in -8..7
    %1 = graph.conv2d %x, %w {npu.placement = #graph.placement<mxu, ...>}

becomes

    %w = graph.constant {value = #graph.blob<i8, [1, 1, 64, 32], ...>} {npu.packed = "i4"}

where the target's dma engine expands such weights (`dma.codecs`). The value is the same; in dram it
lies with output channels outermost and input channels innermost, packed by the codec that takes the
fewest bytes (`npu_dialect/codecs.py`). A weight that is a whole number for its group of input
channels times one of 4 bits is found to be one by its values.

Where the engine decodes streams, any weights may take fewer bytes (`npu_dialect/rice.py`):

    %w = graph.constant {...} {npu.packed = "rice64", npu.stored = 1750 : i64}

with blocks of whole units of 64 elements, one or more output channels, and 1,750 bytes in all.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from xdsl.context import Context
from xdsl.dialects.builtin import IntegerAttr, ModuleOp, StringAttr, i64
from xdsl.ir import Operation, Use
from xdsl.passes import ModulePass

from npu_dialect import graph, rice
from npu_dialect.codecs import PACKED, STORED, smallest
from npu_dialect.graph.base import shape_of
from npu_dialect.passes.graph_place import engine_of
from npu_dialect.passes.targets import module_target

LARGEST = 0.98
"""The share of its bytes that a coded constant takes at most: headers come with every copy."""


@dataclass(frozen=True)
class GraphPackWeightsPass(ModulePass):
    """Note the codec of constant weights that fit one."""

    name = "graph-pack-weights"

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        names = module_target(op).dma.codecs
        fixed = [name for name in names if name != rice.NAME]
        for each in op.walk() if names else ():
            if isinstance(each, graph.ConstantOp) and _is_weight(each):
                _pack(each, fixed)
                if rice.NAME in names:
                    _code(each)


def _pack(constant: graph.ConstantOp, names: list[str]) -> None:
    """Notes the codec of blocks that weights fit."""
    stored = _as_stored(constant)
    if stored.dtype != np.int8 or any(map(_is_depthwise, constant.result.uses)):
        return
    codec = smallest(stored, names)
    if codec is not None:
        constant.attributes[PACKED] = StringAttr(codec.name)


def _code(constant: graph.ConstantOp) -> None:
    """Notes that weights are coded, if they take no fewer bytes by a codec of blocks."""
    if PACKED in constant.attributes:
        return
    stored = _as_stored(constant)
    unit = _unit(stored.shape, any(_is_product(use) for use in constant.result.uses))
    size = rice.size(stored, unit, rice.centres(stored))
    if size < LARGEST * stored.nbytes:
        constant.attributes[PACKED] = StringAttr(rice.name(unit))
        constant.attributes[STORED] = IntegerAttr(size, i64)


def _unit(shape: tuple[int, ...], is_product: bool) -> int:
    """Elements of as few output channels as have a block."""
    channel = shape[-1] if is_product else int(np.prod(shape[1:]))
    channels = 1
    while channels * channel < rice.BLOCK:
        channels *= 2
    return channels * channel


def _is_weight(constant: graph.ConstantOp) -> bool:
    """Whether a constant is the weights of convolutions or of products, and nothing else."""
    uses = list(constant.result.uses)
    is_matrix = len(shape_of(constant.result)) >= 2 and constant.array.size > 0
    return bool(uses) and is_matrix and all(map(_is_weight_of, uses))


def _is_weight_of(use: Use) -> bool:
    """Whether an operation has a constant as weights."""
    op: Operation = use.operation
    if use.index != 1 or engine_of(op) != "mxu":
        return False
    return isinstance(op, graph.Conv2DOp | graph.MatmulOp)


def _is_depthwise(use: Use) -> bool:
    return isinstance(use.operation, graph.Conv2DOp) and use.operation.is_depthwise


def _is_product(use: Use) -> bool:
    return isinstance(use.operation, graph.MatmulOp)


def _as_stored(constant: graph.ConstantOp) -> npt.NDArray[Any]:
    """Weights [KH, KW, IC, OC] or [..., K, N] in the order of memory, input channels last."""
    array = constant.array
    if isinstance(next(iter(constant.result.uses)).operation, graph.Conv2DOp):
        return np.ascontiguousarray(array.transpose(3, 0, 1, 2))
    return np.ascontiguousarray(np.swapaxes(array, -1, -2))
