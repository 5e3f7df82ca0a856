"""graph-correct-bias: what quantization does to the mean of a channel is taken off its bias.

    %1 = graph.conv2d %x, %w, %b {npu.ranges = ...}

becomes, with E the mean over samples and places, and ~ what is computed with quantized tensors,

    %1 = graph.conv2d %x, %w, %b'         b' = b + E[%1 - %1~], less where that may be chance

Rounded weights and saturated activations have an error that is no noise around zero: each channel
of a layer gets its own mean, which further layers add up (Nagel et al., 2019, section 4.2, measured
on samples as in their appendix D). The layers are corrected in program order, each behind those
that are corrected already. It goes between graph-calibrate and graph-quantize, with the same
`scheme`; a layer without a bias gets one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from xdsl.context import Context
from xdsl.dialects.builtin import ModuleOp
from xdsl.passes import ModulePass

from npu_dialect.passes.graph_calibrate import functions
from npu_dialect.passes.quantizing import replay
from npu_dialect.passes.quantizing.twins import Linear, bias_of, give, in_step, scheme_of
from npu_dialect.passes.rewriting import Array, erase_dead


@dataclass(frozen=True)
class GraphCorrectBiasPass(ModulePass):
    """Take what quantization does to the means of channels off their biases. `samples` is a .npz or
    .npy file, `scheme` that of graph-quantize.
    """

    name = "graph-correct-bias"

    keeps_bits: ClassVar[bool] = False
    """It is the quantized function that it makes better; the float one becomes another."""

    samples: str = ""
    scheme: str = "int8"

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        scheme = scheme_of(self.scheme, self.name)
        for function in functions(op):
            changes: dict[Linear, tuple[Array | None, Array | None]] = {}
            arguments = replay.samples(function, self.samples, self.name)
            for layer in in_step(function, scheme, arguments):
                found = layer.stored.values[layer.twin.result]
                off = shift(layer.real.values[layer.op.result], found)
                changes[layer.op] = None, bias_of(layer.op) + off
                layer.stored.values[layer.twin.result] = [x + np.float32(off) for x in found]
            give(changes)
            erase_dead(function.body.block)


def shift(wanted: Sequence[Array], found: Sequence[Array]) -> Array:
    """The shift by channel that brings the mean of what was found to what is wanted, [channels].

    Each sample is one observation d of the shift; its places are no independent ones. The mean is
    shrunk by what part of its square is that of its own error, max(0, 1 - var(d) / n / mean(d)^2)
    (James and Stein): of few samples, chance is not put into a bias.
    """
    axes = tuple(range(found[0].ndim - 1))
    pairs = zip(wanted, found, strict=True)
    d = np.array([(a - b).mean(axis=axes, dtype=np.float64) for a, b in pairs])
    mean = d.mean(axis=0)
    if len(d) == 1:
        return mean
    chance = d.var(axis=0, ddof=1) / len(d)
    part = np.divide(chance, mean**2, out=np.ones_like(mean), where=mean != 0)
    return mean * np.maximum(0, 1 - part)
