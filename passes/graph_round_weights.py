"""graph-round-weights: weights are rounded so that a layer's sums, not its weights, come near.

    %1 = graph.conv2d %x, %w, %b {npu.ranges = ...}

becomes, with w' on the grid that graph-quantize stores,

    %1 = graph.conv2d %x, %w', %b' {npu.weights_type = !quant.uniform<i8:f32:3, {...}>}

Layer by layer in program order: the integers minimize the squared error of the sums
(passes/quantizing/rounding.py), as AdaRound does, for the inputs that the layer has on the samples
when the layers before are quantized and rounded already. What is left of the means goes into the
biases, as in graph-correct-bias, which is not needed then. It goes between graph-calibrate and
graph-quantize, with the same `scheme`. Of each layer, `places` results by channel are looked at,
chosen at random. `damping` is the share of the mean power of the inputs that is added to that of
each: what few samples do not show is decided by the weights.
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
from npu_dialect.diagnostics import Code, error
from npu_dialect.graph.base import shape_of
from npu_dialect.graph.quant import QuantType
from npu_dialect.passes.graph_calibrate import functions
from npu_dialect.passes.graph_correct_bias import shift
from npu_dialect.passes.quantizing import replay, rounding
from npu_dialect.passes.quantizing.insertion import WEIGHTS_TYPE
from npu_dialect.passes.quantizing.schemes import Grid, Scheme
from npu_dialect.passes.quantizing.twins import (
    Layer,
    Linear,
    bias_of,
    give,
    in_step,
    scheme_of,
)
from npu_dialect.passes.rewriting import Array, constant, erase_dead

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class GraphRoundWeightsPass(ModulePass):
    """Round weights for the least error of a layer's sums. `samples` is a .npz or .npy file,
    `scheme` that of graph-quantize; `places` is how many results by channel of a layer are looked
    at, `sweeps` how often each weight is rounded again at most, `damping` the share of the mean
    power of the inputs that is added to that of each.
    """

    name = "graph-round-weights"

    keeps_bits: ClassVar[bool] = False
    """It rounds weights."""

    samples: str = ""
    scheme: str = "int8"
    places: int = 8192
    sweeps: int = 20
    damping: float | int = 0.01

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        for name, value in (("places", self.places), ("damping", self.damping)):
            if value <= 0:
                rule = f"{name} must be above 0"
                raise error(Code.OPTION, rule, found=value, source=self.name)
        scheme = scheme_of(self.scheme, self.name)
        for function in functions(op):
            self._round(function, replay.samples(function, self.samples, self.name), scheme)

    def _round(self, function: FuncOp, arguments: replay.Arguments, scheme: Scheme) -> None:
        changes: dict[Linear, tuple[Array | None, Array | None]] = {}
        types: dict[Linear, QuantType] = {}
        for layer in in_step(function, scheme, arguments):
            if layer.grid is None or not is_plain(layer.op):
                continue
            weights, bias = self._weights(layer, layer.grid), bias_of(layer.op)
            inputs = layer.stored.values[layer.twin.operands[0]]
            real = weights.astype(np.float32), bias.astype(np.float32)
            sums = [replay.contraction(layer.op, x, *real) for x in inputs]
            off = shift(layer.real.values[layer.op.result], sums)
            layer.stored.values[layer.twin.result] = [x + np.float32(off) for x in sums]
            changes[layer.op], types[layer.op] = (weights, bias + off), layer.grid.quant
        for old, new in give(changes).items():
            new.attributes[WEIGHTS_TYPE] = types[old]
        erase_dead(function.body.block)

    def _weights(self, layer: Layer, grid: Grid) -> Floats:
        """The rounded weights of a layer, of the same shape."""
        array = constant(layer.op.operands[1])
        assert array is not None
        inputs = layer.stored.values[layer.twin.operands[0]]
        gram = rounding.damped(centred_gram(layer.op, inputs, self.places), self.damping)
        weights = by_group(layer.op, array.astype(np.float64))
        steps = by_group(layer.op, np.broadcast_to(grid.steps, array.shape))
        stored = rounding.round_to_grid(weights, gram, steps, grid.low, grid.high, self.sweeps)
        return from_groups(stored * steps, array.shape)


def centred_gram(op: Linear, inputs: Sequence[Array], places: int) -> Floats:
    """The mean products of a layer's inputs [groups, K, K], less those of their means, at some
    places of every sample.
    """
    count = int(np.prod(shape_of(op.result)[:-1]))
    chance, share = np.random.default_rng(0), max(1, places // len(inputs))
    found = [patches(op, x, np.sort(chance.permutation(count)[:share])) for x in inputs]
    x = np.concatenate(found, axis=1).astype(np.float64)
    x -= x.mean(axis=1, keepdims=True)
    return x.transpose(0, 2, 1) @ x / x.shape[1]


def is_plain(op: Linear) -> bool:
    """Whether all rows of the input meet the same weights."""
    return isinstance(op, graph.Conv2DOp) or int(np.prod(shape_of(op.b)[:-2])) == 1


def patches(op: Linear, x: Array, places: Array) -> Array:
    """What the results at some places are sums of, [groups, places, K]. Places are counted in
    row-major order without the channels; K ascends in (kh, kw, channel) of the weights.
    """
    if isinstance(op, graph.MatmulOp):
        return x.reshape(int(np.prod(x.shape[:-1])), x.shape[-1])[places][None]
    found = replay.windows(op, x)
    index = np.unravel_index(places, found.shape[:3])
    groups = op.groups.value.data
    count, channels, kh, kw = (some := found[index]).shape
    split = some.reshape(count, groups, channels // groups, kh, kw)
    size = kh * kw * channels // groups
    return split.transpose(1, 0, 3, 4, 2).reshape(groups, count, size)


def by_group(op: Linear, weights: Array) -> Array:
    """Weights as [groups, K, N]: inputs that are summed, and results by group."""
    groups = op.groups.value.data if isinstance(op, graph.Conv2DOp) else 1
    out = weights.shape[-1]
    size = int(np.prod(weights.shape[:-1]))
    return weights.reshape(size, groups, out // groups).transpose(1, 0, 2)


def from_groups(found: Array, shape: tuple[int, ...]) -> Array:
    """The weights that `by_group` split, in their shape."""
    return found.transpose(1, 0, 2).reshape(shape)
