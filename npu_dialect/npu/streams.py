"""The weights of an array instruction, which may be decoded as they are read.

With the field `stream`, the operand `weights` says how the elements lie once they are decoded:
dense, in the order of their strides. In memory there are `stream` bytes at its address instead.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from xdsl.utils.exceptions import VerifyException

from npu_dialect import dtypes, rice
from npu_dialect.machine import Array, Machine, Operand

Bytes = npt.NDArray[np.uint8]


def stored_weights(values: Mapping[str, Any]) -> Operand:
    """The bytes that are read."""
    weights: Operand = values["weights"]
    if "stream" not in values:
        return weights
    return Operand.dense(weights.space, weights.address, dtypes.u8, [values["stream"]])


def decoded_bytes(values: Mapping[str, Any], data: Bytes) -> Bytes:
    """The elements of a stream, in their order."""
    w: Operand = values["weights"]
    return rice.decode(data, w.elements, values["row"], w.dtype.itemsize).reshape(-1)


def decoded_weights(values: Mapping[str, Any], data: Bytes) -> Array:
    """The elements of a stream, as the array multiplies them."""
    w: Operand = values["weights"]
    return np.ndarray(w.dims, w.dtype.numpy, decoded_bytes(values, data).data, 0, w.strides)


def weights_of(machine: Machine, values: Mapping[str, Any]) -> Array:
    """The weights as the array multiplies them."""
    stored = machine.view(stored_weights(values))
    return decoded_weights(values, stored) if "stream" in values else stored


def check_stream(values: Mapping[str, Any]) -> None:
    """Raises VerifyException where the fields of a stream contradict each other."""
    if ("stream" in values) != ("row" in values):
        raise VerifyException("weights that are decoded must have both a stream and a row")
    if "stream" not in values:
        return
    weights: Operand = values["weights"]
    if weights.space != "dram":
        raise VerifyException(f"a stream must lie in dram, found {weights.space}")
    if values["row"] == 0:
        raise VerifyException("a row must have elements, found 0")
    step = weights.dtype.itemsize
    for stride, extent in sorted(zip(weights.strides, weights.dims, strict=True)):
        if extent != 1 and stride != step:
            rule = "weights that are decoded must be dense"
            found = f"extents {weights.dims} with strides {weights.strides}"
            raise VerifyException(f"{rule}, found {found}")
        step *= extent
