"""graph-equalize: neighbouring layers share out the ranges of their channels.

    %1 = graph.conv2d %x, %w1, %b1
    %2 = graph.relu %1
    %3 = graph.conv2d %2, %w2, %b2

becomes, with s = sqrt(greatest |w1| / greatest |w2|) by channel between the two,

    %1 = graph.conv2d %x, %w1', %b1'      w1' = w1 / s, b1' = b1 / s
    %2 = graph.relu %1
    %3 = graph.conv2d %2, %w2', %b2       w2' = w2 * s

so that in both every channel has the same greatest weight: cross-layer equalization (Nagel et al.,
"Data-Free Quantization Through Weight Equalization and Bias Correction", 2019, equations 8 to 11).
Repeated over all families of tensors (passes/quantizing/channels.py) until nothing changes, so also
through depthwise convolutions, pooling and residuals. One scale for all weights of a layer then
serves small channels too.

A ReLU6 between two layers has another greatest value in each channel then. `clamps` says what
becomes of it: "keep" leaves such layers as they are, "minimum" makes it a ReLU and a minimum with a
constant by channel, "relu" drops the greatest value, which changes the function (as the paper
does). With `powers` the scales are powers of two, so that the float function keeps its bits.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from xdsl.context import Context
from xdsl.dialects.builtin import ModuleOp
from xdsl.ir import Operation
from xdsl.passes import ModulePass

from npu_dialect import graph
from npu_dialect.diagnostics import Code, error
from npu_dialect.passes.graph_calibrate import functions
from npu_dialect.passes.quantizing.channels import (
    Family,
    Linear,
    families,
    input_axis,
    scale,
    times_inputs,
    weights_of,
)
from npu_dialect.passes.rewriting import Array, erase_dead

CLAMPS = ("keep", "minimum", "relu")
ROUNDS = 40
"""At most; each family once in every round."""
NEAR = 1e-3
"""Scales this near to 1 in all families end the rounds."""
GREATEST = 2.0**10
"""Of a scale, and of its reciprocal: a channel that is all but dead has a bias too."""


@dataclass(frozen=True)
class GraphEqualizePass(ModulePass):
    """Share out the ranges of channels between neighbouring layers. `clamps` is keep, minimum or
    relu: what becomes of a ReLU6 in between. `powers`: scales are powers of two.
    """

    name = "graph-equalize"

    keeps_bits: ClassVar[bool] = False
    """New constants are rounded once; results may differ in the last bits."""

    clamps: str = "keep"
    powers: bool = False

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        if self.clamps not in CLAMPS:
            raise error(
                Code.OPTION,
                f"clamps must be one of {', '.join(CLAMPS)}",
                found=self.clamps,
                source="graph-equalize",
            )
        for function in functions(op):
            found = [f for f in families(function) if self._takes(f)]
            scales = Equalization(found).run()
            if self.powers:
                scales = [np.exp2(np.rint(np.log2(s))) for s in scales]
            if self.clamps == "relu":
                for family in found:
                    _drop_clamps(family)
            scale(zip(found, scales, strict=True))
            erase_dead(function.body.block)

    def _takes(self, family: Family) -> bool:
        if family.clamps and self.clamps == "keep":
            return False
        both = (family.makers, family.readers)
        return all(any(isinstance(op, Linear) for op in ops) for ops in both)


def _drop_clamps(family: Family) -> None:
    """clamp(x, 0, high) becomes relu(x)."""
    for op in family.clamps:
        relu = graph.ReluOp(op.x, location=op.location)
        block = op.parent
        assert block is not None
        block.insert_op_before(relu, op)
        op.result.replace_all_uses_with(relu.result)
        op.detach()
        op.erase()
    family.clamps.clear()


class Equalization:
    """The scales of families, found on copies of the weights."""

    def __init__(self, found: list[Family]) -> None:
        self.families = found
        members = [op for family in found for op in (*family.makers, *family.readers)]
        self.weights: dict[Operation, Array] = {
            op: weights_of(op) for op in members if isinstance(op, Linear)
        }

    def run(self) -> list[Array]:
        """The scales [channels] of each family."""
        total = [np.ones(f.channels) for f in self.families]
        for _ in range(ROUNDS):
            steps = [self._step(f, s) for f, s in zip(self.families, total, strict=True)]
            if all(np.abs(np.log(step)).max(initial=0) < NEAR for step in steps):
                break
        return total

    def _step(self, family: Family, total: Array) -> Array:
        """One family's scales in one round, multiplied onto what it has."""
        made = np.max([self._made(op) for op in family.makers if op in self.weights], axis=0)
        read = np.max([self._read(op) for op in family.readers if op in self.weights], axis=0)
        alive = (made > 0) & (read > 0)
        wanted = np.sqrt(np.divide(made, read, out=np.ones_like(made), where=alive))
        step = np.clip(total * wanted, 1 / GREATEST, GREATEST) / total
        total *= step
        for op in family.makers:
            if op in self.weights:
                self.weights[op] = self.weights[op] / step
        for op in family.readers:
            if op in self.weights:
                self.weights[op] = times_inputs(op, self.weights[op], step)
        return step

    def _made(self, op: Operation) -> Array:
        """The greatest weight by channel of the result."""
        array = self.weights[op]
        return np.abs(array).max(axis=tuple(range(array.ndim - 1)), initial=0)

    def _read(self, op: Operation) -> Array:
        """The greatest weight by channel of the input."""
        return np.abs(input_axis(op, self.weights[op])).max(axis=1, initial=0)
