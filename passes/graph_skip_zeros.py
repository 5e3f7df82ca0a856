"""graph-skip-zeros: what of a layer's products is made, where the array leaves out zeros.

    %w = graph.constant {value = #graph.blob<i8, [1, 1, 64, 32], ...>}      two of every four zero
    %1 = graph.conv2d %x, %w {npu.placement = #graph.placement<mxu, ...>}

becomes, on a target whose array leaves out two of every four products,

    %w = graph.constant {...} {npu.made = 32 : i64}                         of 64 parts

The mapper, the instructions, the bound and the energy model count by it (`npu_dialect/zeros.py`);
results are the same. Weights of integers without a zero point count, of layers that are not
depthwise.
"""

from __future__ import annotations

from dataclasses import dataclass

from xdsl.context import Context
from xdsl.dialects.builtin import IntegerAttr, ModuleOp, i64
from xdsl.ir import Use
from xdsl.passes import ModulePass

from npu_dialect import graph
from npu_dialect.graph.base import dtype_of, quant_of, shape_of
from npu_dialect.passes.graph_place import engine_of
from npu_dialect.passes.targets import module_target
from npu_dialect.zeros import ALL_MADE, MADE, made


@dataclass(frozen=True)
class GraphSkipZerosPass(ModulePass):
    """Note which part of the products with constant weights is made."""

    name = "graph-skip-zeros"

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        zeros = module_target(op).array.zeros
        for each in op.walk() if zeros is not None else ():
            if zeros is not None and isinstance(each, graph.ConstantOp) and _is_weight(each):
                found = made(each.array, zeros)
                if found < ALL_MADE:
                    each.attributes[MADE] = IntegerAttr(found, i64)


def _is_weight(constant: graph.ConstantOp) -> bool:
    """Whether a constant is weights of integers, whose zero is 0, and nothing else."""
    uses, quant = list(constant.result.uses), quant_of(constant.result)
    if not uses or len(shape_of(constant.result)) < 2 or not dtype_of(constant.result).is_int:
        return False
    return (quant is None or not quant.zero_points.any()) and all(map(_is_weight_of, uses))


def _is_weight_of(use: Use) -> bool:
    op = use.operation
    if use.index != 1 or engine_of(op) != "mxu":
        return False
    if isinstance(op, graph.Conv2DOp):
        return not op.is_depthwise
    return isinstance(op, graph.MatmulOp)
