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


@dataclass(frozen=True)
class Scheme:
    """The types of a quantized model."""

    activations: DType = dtypes.i8
    symmetric: bool = False
    """Whether the zero point of activations is 0."""
    weights: DType = dtypes.i8
    per_channel: bool = True

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
        magnitude = np.abs(array.astype(np.float64))
        high = self.weights.high
        if axis is None or not self.per_channel:
            scale = max(magnitude.max(initial=0) / high, float(np.max(least, initial=0)))
            return uniform(self.weights, _scale(scale))
        others = tuple(k for k in range(array.ndim) if k != axis)
        scales = np.maximum(magnitude.max(axis=others, initial=0) / high, least)
        scales = np.where(scales > LEAST_SCALE, scales, _scale(float(scales.max(initial=0))))
        return uniform(self.weights, scales.astype(np.float32), 0, axis)


def _scale(scale: float) -> np.float32:
    return np.float32(scale if scale > LEAST_SCALE else 1.0)


SCHEMES = {
    "int8": Scheme(),
    "uint8": Scheme(activations=dtypes.u8),
    "int8-symmetric": Scheme(symmetric=True),
    "int8-per-tensor": Scheme(per_channel=False),
}
"""The schemes by name."""
