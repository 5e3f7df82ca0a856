"""graph-prune: weights that matter least become zero.

    %1 = graph.conv2d %x, %w, %b

becomes

    %1 = graph.conv2d %x, %w', %b'        w' with zeros, the rest as it was

Of every layer's weights, the share `sparsity` with the least magnitudes; or with structure="2:4"
two of every four consecutive input channels, for each output channel and tap, which a dma engine
with the codec s2x4 stores in five bytes for eight (`npu_dialect/codecs.py`). Depthwise
convolutions are left alone, and for 2:4 layers whose input channels are no multiple of four.

With `samples`, a weight counts with the power of its input (|w| |x|; Sun et al., "A Simple and
Effective Pruning Approach for Large Language Models", 2024), the weights that stay make up for
those that go (least squares of the layer's sums, begun as in Frantar and Alistarh, "SparseGPT",
2023), and biases for what is left of the means.
It goes before graph-calibrate. graph-round-weights leaves zeros zero.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import numpy.typing as npt
from xdsl.context import Context
from xdsl.dialects.builtin import ModuleOp
from xdsl.dialects.func import FuncOp
from xdsl.passes import ModulePass

from npu_dialect import graph
from npu_dialect.codecs import KEPT, QUAD
from npu_dialect.diagnostics import Code, error
from npu_dialect.graph.base import shape_of
from npu_dialect.passes.graph_calibrate import functions
from npu_dialect.passes.graph_correct_bias import shift
from npu_dialect.passes.graph_round_weights import (
    by_group,
    centred_gram,
    from_groups,
    is_plain,
)
from npu_dialect.passes.quantizing import replay, rounding
from npu_dialect.passes.quantizing.twins import Linear, bias_of, give, is_layer
from npu_dialect.passes.rewriting import Array, constant, erase_dead

Floats = npt.NDArray[np.float64]
Changes = dict[Linear, tuple[Array | None, Array | None]]

PAIRS = f"{KEPT}:{QUAD}"
"""The structure."""
SWEEPS = 30
"""At the least squares of the weights that stay."""


@dataclass(frozen=True)
class GraphPrunePass(ModulePass):
    """Make weights zero: the share `sparsity` of each layer, or, with the structure 2:4, two of
    every four input channels. `samples`, a .npz or .npy file, lets the others make up for them;
    `places` results by channel are looked at, `damping` is that of graph-round-weights.
    """

    name = "graph-prune"

    keeps_bits: ClassVar[bool] = False
    """It is another function."""

    sparsity: float | int = 0.5
    structure: str = ""
    samples: str = ""
    places: int = 8192
    damping: float | int = 0.01

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        if not 0 <= self.sparsity < 1:
            rule = "sparsity must be a number from 0 to below 1"
            raise error(Code.OPTION, rule, found=self.sparsity, source=self.name)
        if self.structure not in ("", PAIRS):
            rule = f"structure must be {PAIRS} or nothing"
            raise error(Code.OPTION, rule, found=self.structure, source=self.name)
        for function in functions(op):
            found = self._observed(function) if self.samples else self._alone(function)
            give(found)
            erase_dead(function.body.block)

    def _alone(self, function: FuncOp) -> Changes:
        """Weights by their magnitudes."""
        found: Changes = {}
        for op in function.body.block.ops:
            if isinstance(op, Linear) and self._takes(op):
                array, weights = _weights(op)
                kept = self._kept(np.abs(weights))
                found[op] = from_groups(np.where(kept, weights, 0), array.shape), None
        return found

    def _observed(self, function: FuncOp) -> Changes:
        """Weights and biases that make up for what is gone, behind layers that are pruned."""
        arguments = replay.samples(function, self.samples, self.name)
        real, pruned = replay.Replay(function, arguments), replay.Replay(function, arguments)
        steps = iter(pruned)
        found: Changes = {}
        for op in real:
            if not isinstance(op, Linear) or not self._takes(op):
                continue
            while next(steps) is not op:
                pass
            inputs = pruned.values[op.operands[0]]
            weights, bias = self._layer(op, inputs), bias_of(op)
            arrays = weights.astype(np.float32), bias.astype(np.float32)
            sums = [replay.contraction(op, x, *arrays) for x in inputs]
            off = shift(real.values[op.result], sums)
            pruned.values[op.result] = [x + np.float32(off) for x in sums]
            found[op] = weights, bias + off
        return found

    def _layer(self, op: Linear, inputs: Sequence[Array]) -> Floats:
        """The weights of a layer with such inputs."""
        array, weights = _weights(op)
        gram = centred_gram(op, inputs, self.places)
        power = np.sqrt(np.diagonal(gram, axis1=1, axis2=2))[..., None]
        kept = self._kept(np.abs(weights) * power)
        settled = rounding.refit(weights, rounding.damped(gram, self.damping), kept, SWEEPS)
        return from_groups(settled, array.shape)

    def _takes(self, op: Linear) -> bool:
        """Whether a layer is pruned."""
        if not is_layer(op) or not is_plain(op) or constant(op.operands[1]) is None:
            return False
        if isinstance(op, graph.Conv2DOp) and op.is_depthwise:
            return False
        return not self.structure or shape_of(op.operands[1])[-2] % QUAD == 0

    def _kept(self, scores: Floats) -> npt.NDArray[np.bool_]:
        """Which weights stay, of their scores [groups, K, N]."""
        if self.structure:
            groups, size, count = scores.shape
            quads = scores.reshape(groups, size // QUAD, QUAD, count)
            rank = np.argsort(np.argsort(-quads, axis=2, kind="stable"), axis=2)
            return (rank < KEPT).reshape(scores.shape)
        flat = scores.reshape(-1)
        kept = np.ones(flat.size, np.bool_)
        kept[np.argsort(flat, kind="stable")[: int(self.sparsity * flat.size)]] = False
        return kept.reshape(scores.shape)


def _weights(op: Linear) -> tuple[Array, Floats]:
    """The weights of a layer, and by group [groups, K, N] in double precision."""
    array = constant(op.operands[1])
    assert array is not None
    return array, by_group(op, array.astype(np.float64))
