"""Transcendental functions on vectors of float32, with the bits of `numerics`.

There is one definition of the mathematics, `numerics.transcendental`: calling it on symbols gives
the code, operation by operation. Only the two activations of `numerics.arithmetic` that compute in
double precision are written again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from npu_dialect.numerics.transcendental import DEFINITIONS
from npu_dialect.runtime.compiled.builder import F32, F64, Function, Value, vector
from npu_dialect.runtime.compiled.tracing import Trace


def _hard_sigmoid(x: Any, alpha: Any, beta: Any) -> Any:
    return np.clip(x * alpha + beta, 0.0, 1.0) + 0.0


def _hard_swish(x: Any) -> Any:
    return x * np.clip(x + 3.0, 0.0, 6.0) / 6.0


FUNCTIONS: dict[str, Callable[..., Any]] = {
    **DEFINITIONS,
    "hard_sigmoid": _hard_sigmoid,
    "hard_swish": _hard_swish,
    "pow": DEFINITIONS["power"],
}
"""By name: functions of doubles."""


def emit(f: Function, name: str, *operands: Value, immediates: Sequence[Value] = ()) -> Value:
    """The function `name` of float32 vectors; immediates are vectors with one number in every lane.

    Lanes are independent. Code for great angles is a branch, so a block may end here.
    """
    trace = Trace(f)
    lanes = operands[0].type.count
    wide = [f.b.fpext(v, vector(F64, lanes)) for v in (*operands, *immediates)]
    result = FUNCTIONS[name](*(trace.symbol(v) for v in wide))
    return f.b.fptrunc(result.value, vector(F32, lanes))
