"""Schemes of quantization: which integers stand for activations and weights."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from npu_dialect import dtypes
from npu_dialect.dtypes import DType
from npu_dialect.graph.quant import QuantType, uniform
from npu_dialect.passes.quantizing.ranges import Range

Array = npt.NDArray[Any]

LEAST_SCALE = float(np.finfo(np.float32).tiny)
"""Tensors with a smaller one are taken for zeros, whose scale is 1."""
MULTIPLIERS = 16
"""The greatest factor of a group, so that 7 of its steps fit 8 bits."""
NEARLY = 1e-6
"""What a factor may be above a whole number, by rounding."""
LEAST_PART, PARTS = 0.4, 49
"""Of the range of weights of few bits: the least part that is tried, and how many are."""


@dataclass(frozen=True)
class Grid:
    """The real numbers that weights can be: whole numbers of `low` to `high` times `steps`."""

    quant: QuantType
    """What they are stored as; its scales divide `steps`."""
    steps: Array
    """In double precision; broadcasts to the weights."""
    low: int
    high: int

    def nearest(self, array: Array) -> Array:
        """The nearest numbers of the grid."""
        whole = np.clip(np.rint(array / self.steps), self.low, self.high)
        return np.asarray(whole * self.steps, np.float32)


@dataclass(frozen=True)
class Scheme:
    """The types of a quantized model."""

    activations: DType = dtypes.i8
    symmetric: bool = False
    """Whether the zero point of activations is 0."""
    weights: DType = dtypes.i8
    per_channel: bool = True
    weight_bits: int = 8
    """Of weights that are stored packed; of fewer than 8, scales are those with the least squared
    error, for a range of a few steps is better cut off than covered.
    """
    group: int = 0
    """Input channels of which weights have a scale of their own; 0: all of an output channel."""

    @property
    def levels(self) -> int:
        """Values of an activation."""
        return self.activations.high - self.activations.low + 1

    def activation(self, found: Range) -> QuantType:
        """The type of an activation whose values are in a range."""
        if self.symmetric:
            greatest = max(-found.low, found.high)
            return uniform(self.activations, _scale(greatest / self.activations.high))
        low, high = self.activations.low, self.activations.high
        scale = _scale((found.high - found.low) / (high - low))
        zero = int(np.clip(np.rint(low - found.low / scale), low, high))
        return uniform(self.activations, scale, zero)

    def weight(
        self, array: Array, axis: int | None, least: npt.ArrayLike = LEAST_SCALE
    ) -> QuantType:
        """The type of constant weights, symmetric; one scale for each index of `axis`, none below
        `least`. A channel of zeros has the greatest scale of the others.
        """
        return self.grid(array, axis, None, least).quant

    def grid(
        self,
        array: Array,
        axis: int | None,
        inputs: int | None = None,
        least: npt.ArrayLike = LEAST_SCALE,
    ) -> Grid:
        """The grid of constant weights as in `weight`; `inputs` is the dimension of the input
        channels, None where there is none that packing could go along.
        """
        packs = inputs is not None and array.shape[inputs] % max(2, self.group) == 0
        bits = self.weight_bits if packs else 8
        if self.group and packs and axis is not None and inputs is not None:
            return self._grouped(array, axis, inputs, least)
        low, high = _reach(bits)
        if axis is None or not self.per_channel:
            rows, axis = array.reshape(1, -1), None
        else:
            rows = np.moveaxis(array, axis, 0).reshape(array.shape[axis], -1)
        scales = _weight_scales(rows.astype(np.float64), bits)
        scales = np.maximum(scales, np.max(least, initial=0) if axis is None else least)
        quant = uniform(self.weights, _alive(scales), 0, axis, low, high)
        return Grid(quant, quant.along(array.ndim)[0].astype(np.float64), low, high)

    def _grouped(self, array: Array, axis: int, inputs: int, least: npt.ArrayLike) -> Grid:
        """Weights q * m * s: s by output channel, m by group and output channel, 1 to 16."""
        rows = np.moveaxis(array.astype(np.float64), (axis, inputs), (-1, -2))
        *taps, channels, out = rows.shape
        groups = rows.reshape(*taps, channels // self.group, self.group, out)
        flat = np.swapaxes(groups, -1, -2).reshape(-1, self.group)
        wanted = _weight_scales(flat, self.weight_bits).reshape(*taps, -1, out)
        greatest = wanted.reshape(-1, out).max(axis=0) / MULTIPLIERS
        quant = uniform(self.weights, _alive(np.maximum(greatest, least)), 0, axis)
        scales = quant.scales.astype(np.float64)
        factors = np.clip(np.ceil(wanted / scales - NEARLY), 1, MULTIPLIERS)
        steps = np.repeat(factors * scales, self.group, axis=-2)
        high = _reach(self.weight_bits)[1]
        return Grid(quant, np.moveaxis(steps, (-1, -2), (axis, inputs)), -high, high)


def _reach(bits: int) -> tuple[int, int]:
    return -(2 ** (bits - 1)), 2 ** (bits - 1) - 1


def _weight_scales(rows: Array, bits: int) -> Array:
    """The scales of rows of weights: the greatest magnitude is the greatest whole number, or
    beyond it where that has the least squared error.
    """
    low, high = _reach(bits)
    greatest = np.abs(rows).max(axis=1, initial=0) / high
    if bits >= 8:
        return greatest
    best, least = greatest, np.full(len(rows), np.inf)
    for part in np.linspace(1.0, LEAST_PART, PARTS):
        scales = np.where(greatest > 0, greatest * part, 1.0)
        stored = np.clip(np.rint(rows / scales[:, None]), low, high)
        errors = np.sum((stored * scales[:, None] - rows) ** 2, axis=1)
        best = np.where(errors < least, greatest * part, best)
        least = np.minimum(errors, least)
    return best


def _alive(scales: Array) -> npt.NDArray[np.float32]:
    """Scales with the greatest of them for channels of zeros."""
    found = np.where(scales > LEAST_SCALE, scales, _scale(float(scales.max(initial=0))))
    return found.astype(np.float32)


def _scale(scale: float) -> np.float32:
    return np.float32(scale if scale > LEAST_SCALE else 1.0)


_INT4 = {
    "int4": Scheme(weight_bits=4),
    **{f"int4-g{group}": Scheme(weight_bits=4, group=group) for group in (16, 32, 64, 128)},
}


def _wide(scheme: Scheme) -> Scheme:
    return replace(scheme, activations=dtypes.i16, symmetric=True, per_channel=True)


SCHEMES = {
    "int8": Scheme(),
    "uint8": Scheme(activations=dtypes.u8),
    "int8-symmetric": Scheme(symmetric=True),
    "int8-per-tensor": Scheme(per_channel=False),
    "int16x8": _wide(Scheme()),
    **_INT4,
    **{name.replace("int4", "int16x4"): _wide(scheme) for name, scheme in _INT4.items()},
}
"""The schemes by name: activations of 8 bits (int16x8, int16x4: of 16), weights of 8, or of 4, also
by groups of input channels.
"""


def wider(name: str) -> str:
    """The scheme with the same weights and activations of 16 bits."""
    if SCHEMES[name].activations.itemsize > 1:
        return name
    return name.replace("int4", "int16x4") if name in _INT4 else "int16x8"
