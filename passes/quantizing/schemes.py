"""Schemes of quantization: which integers stand for activations and weights."""

from __future__ import annotations

from dataclasses import dataclass
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
LEAST_PART, PARTS = 0.4, 49
"""Of the range of weights of few bits: the least part that is tried, and how many are."""


@dataclass(frozen=True)
class Scheme:
    """The types of a quantized model."""

    activations: DType = dtypes.i8
    symmetric: bool = False
    """Whether the zero point of activations is 0."""
    weights: DType = dtypes.i8
    per_channel: bool = True
    weight_bits: int = 8
    """Of the stored values of weights; of fewer than 8, scales are those with the least squared
    error, for a range of a few steps is better cut off than covered."""

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
        low, high = -(2 ** (self.weight_bits - 1)), 2 ** (self.weight_bits - 1) - 1
        if axis is None or not self.per_channel:
            rows, axis = array.reshape(1, -1), None
        else:
            rows = np.moveaxis(array, axis, 0).reshape(array.shape[axis], -1)
        scales = self._weight_scales(rows.astype(np.float64), low, high)
        scales = np.maximum(scales, np.max(least, initial=0) if axis is None else least)
        scales = np.where(scales > LEAST_SCALE, scales, _scale(float(scales.max(initial=0))))
        return uniform(self.weights, scales.astype(np.float32), 0, axis, low, high)

    def _weight_scales(self, rows: Array, low: int, high: int) -> Array:
        """The scales of rows of weights: the greatest magnitude is `high`, or less where that has
        the least squared error.
        """
        greatest = np.abs(rows).max(axis=1, initial=0) / high
        if self.weight_bits >= 8:
            return greatest
        best, least = greatest, np.full(len(rows), np.inf)
        for part in np.linspace(1.0, LEAST_PART, PARTS):
            scales = np.where(greatest > 0, greatest * part, 1.0)
            stored = np.clip(np.rint(rows / scales[:, None]), low, high)
            errors = np.sum((stored * scales[:, None] - rows) ** 2, axis=1)
            best = np.where(errors < least, greatest * part, best)
            least = np.minimum(errors, least)
        return best


def _scale(scale: float) -> np.float32:
    return np.float32(scale if scale > LEAST_SCALE else 1.0)


SCHEMES = {
    "int8": Scheme(),
    "uint8": Scheme(activations=dtypes.u8),
    "int8-symmetric": Scheme(symmetric=True),
    "int8-per-tensor": Scheme(per_channel=False),
    "int4": Scheme(weight_bits=4),
}
"""The schemes by name."""
