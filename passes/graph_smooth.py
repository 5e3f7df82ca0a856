"""graph-smooth: outliers of activations go into the weights that read them.

    %1 = graph.layer_norm %x, %gain, %bias
    %2 = graph.matmul %1, %w

becomes, with s = (greatest |%1|) ^ alpha / (greatest |w|) ^ (1 - alpha) by channel,

    %1 = graph.layer_norm %x, %gain / s, %bias / s
    %2 = graph.matmul %1, %w * s

Xiao et al., "SmoothQuant", 2023, equation 4. Activations have one scale for all channels, weights
one for each channel of the result; where some channels of an activation are a hundred times the
others, these keep few steps. What is between a normalization (or a factor by channel) and its
readers is found as in graph-equalize; all readers get the same factors. The greatest values are
those on the samples. With `everywhere` also what contractions make, not only normalizations.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from xdsl.context import Context
from xdsl.dialects.builtin import ModuleOp
from xdsl.dialects.func import FuncOp
from xdsl.ir import SSAValue
from xdsl.passes import ModulePass

from npu_dialect.diagnostics import Code, error
from npu_dialect.passes.graph_calibrate import functions
from npu_dialect.passes.quantizing import replay
from npu_dialect.passes.quantizing.channels import (
    Family,
    Linear,
    families,
    input_axis,
    scale,
    weights_of,
)
from npu_dialect.passes.rewriting import Array, erase_dead

LEAST = 1e-5
"""Of the greatest value of a channel, as a part of the greatest of all: dead channels are no
outliers."""


@dataclass(frozen=True)
class GraphSmoothPass(ModulePass):
    """Move outliers of activations into weights. `samples` is a .npz or .npy file; `alpha`, 0 to 1,
    is how much of the range goes into the weights; `everywhere`: also between contractions.
    """

    name = "graph-smooth"

    keeps_bits: ClassVar[bool] = False
    """New constants are rounded once; results may differ in the last bits."""

    samples: str = ""
    alpha: float | int = 0.5
    everywhere: bool = False

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        if not 0 <= self.alpha <= 1:
            raise error(
                Code.OPTION,
                "alpha must lie between 0 and 1",
                found=self.alpha,
                source="graph-smooth",
            )
        for function in functions(op):
            found = [f for f in families(function) if self._takes(f)]
            seen = greatest(function, found, replay.samples(function, self.samples, self.name))
            scale([(f, scales(f, seen, self.alpha)) for f in found])
            erase_dead(function.body.block)

    def _takes(self, family: Family) -> bool:
        is_made = self.everywhere or not any(isinstance(op, Linear) for op in family.makers)
        is_read = all(isinstance(op, Linear) for op in family.readers)
        return is_made and is_read and not family.clamps


def greatest(
    function: FuncOp, found: list[Family], arguments: replay.Arguments
) -> dict[SSAValue, Array]:
    """The greatest magnitude by channel of every tensor that is read as a member of a family."""
    wanted = {op.operands[0] for family in found for op in family.readers}
    seen: dict[SSAValue, Array] = {}
    run = replay.Replay(function, arguments)
    for op in run:
        for value in wanted.intersection(op.results):
            arrays = run.values[value]
            axes = tuple(range(arrays[0].ndim - 1))
            seen[value] = np.max([np.abs(a).max(axis=axes, initial=0) for a in arrays], axis=0)
    return seen


def scales(family: Family, seen: dict[SSAValue, Array], alpha: float) -> Array:
    """The scales of a family, [channels]."""
    values = np.max([seen[op.operands[0]] for op in family.readers], axis=0).astype(np.float64)
    weights = np.max(
        [np.abs(input_axis(op, weights_of(op))).max(axis=1, initial=0) for op in family.readers],
        axis=0,
    )
    values = np.maximum(values, LEAST * values.max(initial=0))
    weights = np.maximum(weights, LEAST * weights.max(initial=0))
    if not values.all() or not weights.all():
        return np.ones(family.channels)
    return values**alpha / weights ** (1 - alpha)
