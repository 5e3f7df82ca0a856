"""Operations that the compiler does not know: users say what they compute, as a numpy function.

    @npu.custom_op("Clipped")
    def clipped(call, x):
        return np.minimum(x, call.options["limit"])

They are `graph.opaque` with the domain `custom`: the host runs them, at every level. The function
gets stored values, and `call` says what they mean; it gives one array or a sequence of them, of the
shapes and types in `call.outputs`. The payload is JSON with what `Call` has. Functions are not part
of a program: where it runs, they must be registered too.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from typing import Any, cast

import numpy as np

from npu_dialect.diagnostics import Code, error
from npu_dialect.functional import detection
from npu_dialect.graph.base import Array
from npu_dialect.graph.references import CUSTOM

DOMAIN = CUSTOM
Function = Callable[..., Any]


@dataclass(frozen=True)
class Operand:
    """What an operand or result is."""

    shape: tuple[int, ...]
    dtype: str
    """The type of the stored values, as numpy calls it."""
    scale: float | None = None
    """What a step means, of a quantized tensor with one scale; None of any other."""
    zero_point: int = 0

    def real(self, stored: Array) -> Array:
        """The numbers that stored values mean, in float32; those of a float tensor as they are."""
        if self.scale is None:
            return stored
        return (stored.astype(np.float32) - np.float32(self.zero_point)) * np.float32(self.scale)

    def stored(self, real: Array) -> Array:
        """The stored values nearest to some numbers, ties away from zero."""
        if self.scale is None:
            return real.astype(self.dtype)
        steps = real.astype(np.float64) / self.scale
        rounded = np.trunc(steps + np.copysign(0.5, steps)) + self.zero_point
        info = np.iinfo(self.dtype)
        return np.clip(rounded, info.min, info.max).astype(self.dtype)


@dataclass(frozen=True)
class Call:
    """An operator of a model, as its function sees it."""

    name: str
    inputs: tuple[Operand | None, ...]
    """None for one that is left out."""
    outputs: tuple[Operand, ...]
    options: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """The options of the operator, if they are a flexbuffer of a map, as TFLite's are."""
    data: bytes = b""
    """The same as the bytes that the file has."""


TABLE: dict[str, Function] = {"TFLite_Detection_PostProcess": detection.post_process}
"""The functions by the name of the operator."""


def custom_op(name: str) -> Callable[[Function], Function]:
    """Enter a function as what the custom operator `name` computes; a decorator.

    A second one for the same operator replaces the first.
    """

    def enter(function: Function) -> Function:
        TABLE[name] = function
        return function

    return enter


def payload(call: Call) -> bytes:
    """The payload of the operation."""
    return json.dumps(asdict(call) | {"data": call.data.hex()}, sort_keys=True).encode()


@lru_cache(maxsize=64)
def call_of(text: bytes) -> Call:
    """What a payload says."""
    found = json.loads(text)
    return Call(
        found["name"],
        tuple(None if each is None else _operand(each) for each in found["inputs"]),
        tuple(_operand(each) for each in found["outputs"]),
        found["options"],
        bytes.fromhex(found["data"]),
    )


def _operand(found: Mapping[str, Any]) -> Operand:
    return Operand(tuple(found["shape"]), found["dtype"], found["scale"], found["zero_point"])


def run(op_type: str, text: bytes, operands: Sequence[Array]) -> Sequence[Any]:
    """The results of an operation, by its function. Raises CompileError (NPU0505) without one."""
    call = call_of(text)
    function = TABLE.get(op_type)
    if function is None:
        raise error(
            Code.EXECUTION,
            f"the custom operator {op_type} must have a function where it runs",
            found="none of this name",
            remedy=f"npu.custom_op({op_type!r}) before, or --custom FILE.py",
            source=op_type,
        )
    given = iter(operands)
    found = function(call, *(None if each is None else next(given) for each in call.inputs))
    return cast("Sequence[Any]", found) if isinstance(found, list | tuple) else [found]
