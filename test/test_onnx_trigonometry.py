"""The composed transcendental functions keep to the error that they state."""

from __future__ import annotations

import numpy as np
import pytest
from onnx_support import Array, node_model

from npu_dialect.frontends.onnx import load
from npu_dialect.frontends.onnx.ops.trigonometry import FUNCTIONS
from npu_dialect.graph.interpret import run

RANGES = {
    "Acos": (np.arccos, (-1, 1)),
    "Acosh": (np.arccosh, (1, 3), (1, 1e4), (1e4, 1e38)),
    "Asin": (np.arcsin, (-1, 1)),
    "Asinh": (np.arcsinh, (-3, 3), (-1e4, 1e4), (1e4, 1e38)),
    "Atan": (np.arctan, (-3, 3), (-1e4, 1e4)),
    "Atanh": (np.arctanh, (-1, 1)),
    "Cosh": (np.cosh, (-3, 3), (-89, 89)),
    "Sinh": (np.sinh, (-3, 3), (-89, 89)),
}


def evaluated(name: str, x: Array) -> Array:
    (y,) = run(load(node_model(name, [x], {})), [x])
    return y


@pytest.mark.parametrize("name", RANGES)
def test_the_error_is_at_most_3e_7(name: str) -> None:
    function, *ranges = RANGES[name]
    for low, high in ranges:
        x = np.random.default_rng(0).uniform(low, high, 50_000).astype(np.float32)
        np.testing.assert_allclose(evaluated(name, x), function(x.astype(np.float64)), rtol=3e-7)


@pytest.mark.parametrize("name", RANGES)
def test_special_values_are_those_of_numpy(name: str) -> None:
    x = np.array([0, np.inf, -np.inf, np.nan, 1, -1, 1e30, -1e30], np.float32)
    with np.errstate(all="ignore"):
        expected = RANGES[name][0](x)
    np.testing.assert_allclose(evaluated(name, x), expected, rtol=3e-7)


def test_every_function_has_a_range() -> None:
    assert set(RANGES) == set(FUNCTIONS)
