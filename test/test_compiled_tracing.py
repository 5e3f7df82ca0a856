"""Symbols in the place of arrays: their code computes what numpy does, or is refused."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("llvmlite")

from npu_dialect.runtime.compiled.builder import F64, I64, POINTER, Function, Value, vector
from npu_dialect.runtime.compiled.host import Host, detect
from npu_dialect.runtime.compiled.library import CACHE_VARIABLE, emitter, library
from npu_dialect.runtime.compiled.llvm import ir
from npu_dialect.runtime.compiled.tracing import ELEMENT, UFUNCS, Symbol, Trace

SIGNATURE = ctypes.CFUNCTYPE(None, *[ctypes.c_void_p] * 3, ctypes.c_int64)

NUMBERS = np.array([0.0, 1.0, 0.5, 2.5, 3.5, 2.0**52 + 1, 2.0**53 + 2, 5e-324, np.inf, np.nan])
OPERANDS: dict[str, np.ndarray] = {
    "float64": np.concatenate([NUMBERS, -NUMBERS]),
    "int64": np.array([0, 1, -1, 7, -7, 52, 2**62 + 3, -(2**63)]),
    "uint64": np.array([0, 1, 7, 31, 52, 63, 2**63 + 5, 2**64 - 1], np.uint64),
}
OPERATIONS: dict[str, Callable[..., Any]] = {
    **{u.__name__: u for u in UFUNCS if u not in (np.maximum, np.minimum)},
    "maximum": lambda x: np.maximum(x, 0.5),
    "minimum": lambda x: np.minimum(x, 0.5),
    "clip": lambda x: np.clip(x, -1.5, 2.0),
    "astype": lambda x: x.astype(np.float64),
    "where": lambda x, y: np.where(x, y, x),
}


NOT_DOUBLES = ["astype", "bitwise_and", "bitwise_or", "invert", "left_shift", "right_shift"]
ONLY_DOUBLES = [
    "absolute",
    "clip",
    "copysign",
    "divide",
    "isfinite",
    "isinf",
    "maximum",
    "minimum",
    "rint",
    "signbit",
]


def has_code(name: str, dtype: str) -> bool:
    if dtype == "float64":
        return name not in NOT_DOUBLES
    return name not in ONLY_DOUBLES and (name, dtype) != ("negative", "uint64")


CASES = [(name, dtype) for name in OPERATIONS for dtype in OPERANDS if has_code(name, dtype)]


def arity(name: str) -> int:
    operation = OPERATIONS[name]
    return operation.nin if isinstance(operation, np.ufunc) else operation.__code__.co_argcount


@emitter("test_operation")
def emit_operation(module: Any, symbol: str, host: Host, name: str, dtype: str) -> None:
    """void(ptr out, ptr a, ptr b, i64 vectors), of vectors of 4 elements of 8 bytes."""
    f = Function(module, symbol, {"out": POINTER, "a": POINTER, "b": POINTER, "vectors": I64})
    trace, wide = Trace(f), vector(ELEMENT[np.dtype(dtype).kind], 4)

    def body(index: Value, _: list[Value]) -> None:
        values = [f.load(wide, f[x], f.mul(index, 32)) for x in ("a", "b")[: arity(name)]]
        result = OPERATIONS[name](*(Symbol(trace, v, np.dtype(dtype)) for v in values))
        value = result.value
        if result.dtype == bool:
            value = f.b.zext(value, vector(I64, 4))
        f.store(value, f["out"], f.mul(index, 32))

    f.loop(0, f["vectors"], body)
    f.done()


@pytest.mark.parametrize("host", ["native", "plain"])
@pytest.mark.parametrize(("name", "dtype"), CASES)
def test_symbols_compute_what_arrays_do(
    name: str, dtype: str, host: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    some = OPERANDS[dtype]
    a, b = (x.reshape(-1).copy() for x in np.meshgrid(some, some))
    if "shift" in name:
        b %= 64
    with np.errstate(all="ignore"):
        expected = OPERATIONS[name](*(a, b)[: arity(name)])
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path))  # this file is not a part of routines' names
    routines, spec = library(detect(host)), ("test_operation", name, dtype)
    routines.load([spec])
    out = np.empty(a.size, np.int64)
    SIGNATURE(routines.addresses[spec])(*(x.ctypes.data for x in (out, a, b)), a.size // 4)
    got = out.astype(bool) if expected.dtype == bool else out.view(expected.dtype)
    assert np.array_equal(got, expected, equal_nan=dtype == "float64")
    assert dtype != "float64" or np.array_equal(
        np.signbit(got[expected == 0]), np.signbit(expected[expected == 0])
    )


REFUSED: dict[str, Callable[[Any], Any]] = {
    "no code for numpy's sqrt": np.sqrt,
    "no code for numpy's median": np.median,
    "no code for numpy's clip": lambda x: np.clip(x, 0.0, 1.0, out=x),
    "no code for and_ of float64": lambda x: x & x,
    "no code for the maximum or minimum of two symbols": lambda x: np.maximum(x, x),
    "a mask begins one branch only": lambda x: [x[mask] for mask in [x > 0.0] * 2],
    "no code for a conversion of float64": lambda x: x.astype(np.int64),
    "operands must have one type, found float64 and bool": lambda x: x + (x > 0.0),
    "float64 assigned to bool": lambda x: np.negative(x, out=x > 0.0),
}


@pytest.mark.parametrize("reason", REFUSED)
def test_an_operation_without_code_is_refused(reason: str) -> None:
    f = Function(ir.Module(), "f", {"x": vector(F64, 4)})
    with pytest.raises(TypeError, match=reason):
        REFUSED[reason](Trace(f).symbol(f["x"]))
