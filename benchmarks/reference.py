"""onnxruntime as the reference: its outputs, and the distance of other arrays from them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

RTOL, ATOL = 1e-3, 1e-4
"""The tolerance of floats; the absolute one is relative to the range of the tensor."""
MAX_STEPS, MAX_FRACTION = 1, 0.01
"""The tolerance of quantized tensors: the largest difference in quantization steps, and the share
of elements that may differ at all.
"""


def session(path: Path, *, optimize: bool) -> Any:
    """onnxruntime on the CPU. With `optimize` it runs quantized models on integers, without it as
    the ONNX operators say: on reals that it quantizes and dequantizes.
    """
    import onnxruntime

    from npu_dialect.taps import EXACT_BYTES

    options = onnxruntime.SessionOptions()
    options.add_session_config_entry(*EXACT_BYTES)
    options.log_severity_level = 3
    if not optimize:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def run(path: Path, cases: Sequence[Mapping[str, Array]], *, optimize: bool) -> list[list[Array]]:
    """The outputs of every case."""
    made = session(path, optimize=optimize)
    return [made.run(None, dict(case)) for case in cases]


@dataclass(frozen=True)
class Distance:
    """How far some tensors are from their reference."""

    quantized: bool
    largest: float = 0.0
    """In quantization steps; of reals relative to the range of their tensor."""
    differing: int = 0
    elements: int = 0
    excess: float = 0.0
    """Of reals: the largest difference in tolerances."""
    same_argmax: bool = True

    @property
    def fraction(self) -> float:
        return self.differing / max(1, self.elements)

    @property
    def within(self) -> bool:
        """Whether they agree as far as they must."""
        if not self.quantized:
            return self.excess <= 1
        return self.largest <= MAX_STEPS and self.fraction <= MAX_FRACTION and self.same_argmax

    def __add__(self, other: Distance) -> Distance:
        return Distance(
            self.quantized or other.quantized,
            max(self.largest, other.largest),
            self.differing + other.differing,
            self.elements + other.elements,
            max(self.excess, other.excess),
            self.same_argmax and other.same_argmax,
        )

    def __str__(self) -> str:
        if not self.quantized:
            return f"{self.largest:.1e} of the range"
        argmax = "" if self.same_argmax else ", other argmax"
        return f"{self.largest:.0f} steps, {self.fraction:.3%}{argmax}"


def distance(found: Array, wanted: Array, step: float = 0.0) -> Distance:
    """How far `found` is from `wanted`; `step` is that of reals which were quantized, or 0."""
    quantized = bool(step) or wanted.dtype.kind in "iub"
    gap = np.abs(found.astype(np.float64) - wanted.astype(np.float64))
    same_argmax = bool(not wanted.size or found.argmax() == wanted.argmax())
    if quantized:
        steps = np.rint(gap / (step or 1.0))
        count = int(np.count_nonzero(steps))
        return Distance(True, float(steps.max(initial=0)), count, gap.size, 0.0, same_argmax)
    spread = float(np.ptp(wanted)) if wanted.size else 0.0
    allowed = RTOL * np.abs(wanted.astype(np.float64)) + ATOL * spread
    excess = np.divide(gap, allowed, out=np.where(gap > 0, np.inf, 0.0), where=allowed > 0)
    largest = float(gap.max(initial=0.0)) / (spread or 1.0)
    count = int(np.count_nonzero(gap))
    return Distance(False, largest, count, gap.size, float(excess.max(initial=0.0)), same_argmax)


def in_layout_of(wanted: Array, found: Array) -> Array | None:
    """`wanted` in the shape and layout of `found`, which may have its channels last; None where it
    has other elements.

    Where several layouts fit, the one with the fewest differences.
    """
    fitting = [a for a in _layouts(wanted) if _solid(a) == _solid(found)]
    shaped = [a.reshape(found.shape) for a in fitting]
    return min(shaped, key=lambda a: np.count_nonzero(a != found), default=None)


def _layouts(array: Array) -> Iterator[Array]:
    yield array
    if array.ndim > 2:
        yield np.moveaxis(array, 1, -1)


def _solid(array: Array) -> tuple[int, ...]:
    """The shape without ones."""
    return tuple(n for n in array.shape if n != 1)
