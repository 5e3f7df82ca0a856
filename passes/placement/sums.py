"""How great the integer sums of a convolution or matrix product can become."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
from xdsl.ir import Operation, SSAValue

from npu_dialect import graph
from npu_dialect.graph.base import quant_of, shape_of
from npu_dialect.graph.quant import QuantType
from npu_dialect.passes import kernels


def greatest_sum(op: Operation) -> int:
    """A bound of the magnitude of every partial sum, from zero or with the bias, over all output
    channels.

    Of known weights it is the greatest sum of their magnitudes; a bias that is computed counts as
    2**62.
    """
    x, w = (_quant(v) for v in op.operands[:2])
    weights = kernels.constant_of(op.operands[1])
    if weights is None:
        shape = shape_of(op.operands[1])
        total = np.array(math.prod(shape[k] for k in _summed(op, len(shape))) * _reach(w))
    else:
        distance = np.abs(weights.astype(np.int64) - np.asarray(w.along(weights.ndim)[1], np.int64))
        total = distance.sum(axis=_summed(op, weights.ndim))
    return int((total * _reach(x) + _bias(op)).max(initial=0))


def _bias(op: Operation) -> npt.NDArray[np.int64]:
    """Magnitudes of the bias."""
    if len(op.operands) < 3:
        return np.zeros(1, np.int64)
    found = kernels.constant_of(op.operands[2])
    return np.array(2**62) if found is None else np.abs(found.astype(np.int64))


def _quant(value: SSAValue) -> QuantType:
    quant = quant_of(value)
    assert quant is not None, "sums of integers"
    return quant


def _reach(quant: QuantType) -> int:
    """The greatest distance of a value of the storage type from a zero point."""
    zeros: npt.NDArray[Any] = np.asarray(quant.zero())
    dtype = quant.storage_dtype
    return max(dtype.high - int(zeros.min()), int(zeros.max()) - dtype.low)


def _summed(op: Operation, rank: int) -> tuple[int, ...]:
    """The dimensions of weights that one sum goes over."""
    return (0, 1, 2) if isinstance(op, graph.Conv2DOp) else (rank - 2,)
