"""Inputs and outputs of a module or program by name; the check of the arrays given for them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from npu_dialect.diagnostics import Code, CompileError, error
from npu_dialect.dtypes import DType

Array = NDArray[Any]
Inputs = Mapping[str, Array] | Sequence[Array] | Array
"""Arrays by name, or in order, or the only one."""


@dataclass(frozen=True)
class Port:
    """One input or output: its name in the model, its storage type and its shape."""

    name: str
    dtype: DType
    shape: tuple[int, ...]

    def __str__(self) -> str:
        return f"{self.name}: {self.dtype}{list(self.shape)}"


def bind(ports: Sequence[Port], inputs: Inputs) -> list[Array]:
    """The arrays in the order of `ports`.

    Raises CompileError (NPU0501, NPU0502, NPU0503), with one record for each port that is wrong.
    """
    arrays = _by_name(ports, inputs)
    records = [e for port in ports for e in _mismatches(port, arrays[port.name])]
    if records:
        raise CompileError(*(r for e in records for r in e.records))
    return [np.asarray(arrays[port.name], order="C") for port in ports]


def zeros(
    shape: Sequence[int], dtype: DType, zero_points: Sequence[int] = (), axis: int | None = None
) -> Array:
    """A tensor that means zero everywhere, in storage values. `zero_points` are those of its
    quantization, one or along `axis`; none without one.
    """
    array = np.zeros(shape, dtype.numpy)
    if len(zero_points):
        points = np.asarray(zero_points)
        points = points.reshape([-1 if k == axis else 1 for k in range(len(shape))])
        array += points.astype(array.dtype)
    return array


def fits(ports: Sequence[Port], inputs: Inputs) -> bool:
    """Whether arrays are given for exactly these ports, in their types and shapes."""
    try:
        bind(ports, inputs)
    except CompileError:
        return False
    return True


def _by_name(ports: Sequence[Port], inputs: Inputs) -> dict[str, Array]:
    if isinstance(inputs, np.ndarray):
        inputs = [inputs]
    if not isinstance(inputs, Mapping):
        if len(inputs) != len(ports):
            raise _names_error(ports, f"{len(inputs)} arrays without names")
        return {port.name: np.asarray(a) for port, a in zip(ports, inputs, strict=True)}
    names = {port.name for port in ports}
    if set(inputs) != names:
        raise _names_error(ports, ", ".join(sorted(inputs)) or "none")
    return {name: np.asarray(a) for name, a in inputs.items()}


def _names_error(ports: Sequence[Port], found: str) -> CompileError:
    wanted = "; ".join(map(str, ports)) or "none"
    return error(
        Code.INPUT_NAMES,
        f"the inputs must be exactly those of the program ({wanted})",
        found=found,
        remedy=" ".join(f"--input {port.name}=FILE.npy" for port in ports),
        source="inputs",
    )


def _mismatches(port: Port, array: Array) -> list[CompileError]:
    if array.dtype != port.dtype.numpy:
        wanted = f"the input must have element type {port.dtype.numpy}"
        remedy = _quantized(port, array) or f"array.astype(numpy.{port.dtype.numpy})"
        return [error(Code.INPUT_DTYPE, wanted, found=array.dtype, remedy=remedy, source=port.name)]
    if array.shape != port.shape:
        wanted = f"the input must have shape {list(port.shape)}"
        return [
            error(
                Code.INPUT_SHAPE,
                wanted,
                found=list(array.shape),
                remedy=_shape_remedy(port, array),
                source=port.name,
            )
        ]
    return []


def _quantized(port: Port, array: Array) -> str:
    """How to quantize floats for a port with one scale; empty for any other."""
    quant = getattr(port, "quantization", None)
    if quant is None or array.dtype.kind != "f" or len(quant.scales) != 1:
        return ""
    scale, zero, dtype = quant.scales[0], quant.zero_points[0], port.dtype
    steps = f"numpy.round(array / {scale:.9g}) {'-' if zero < 0 else '+'} {abs(zero)}"
    return f"numpy.clip({steps}, {dtype.low}, {dtype.high}).astype(numpy.{dtype.numpy})"


def _shape_remedy(port: Port, array: Array) -> str:
    if array.size == np.prod(port.shape, dtype=int):
        return f"array.reshape({list(port.shape)})"
    if port.shape[:1] == (1,) and array.shape[1:] == port.shape[1:]:
        return "one sample, array[:1], or all of them as a data set, array[:, None]"
    return "an array of that shape, or compiling for this one (shapes=, in a shell --shape)"
