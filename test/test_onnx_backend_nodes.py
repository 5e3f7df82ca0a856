"""A sample of the node tests that ship with onnx, at graph level."""

from __future__ import annotations

import warnings
from functools import cache
from typing import Any

import numpy as np
import pytest
from onnx import ModelProto, TensorProto, numpy_helper
from onnx_support import SHARED, Array

from npu_dialect.frontends.onnx import load
from npu_dialect.graph.interpret import run

LIST = SHARED / "suites" / "onnx_core_peer_consensus.txt"
EVERY = 8

pytestmark = pytest.mark.skipif(not LIST.is_file(), reason=f"needs the list of tests {LIST}")


@cache
def node_tests() -> dict[str, Any]:
    from onnx.backend.test.loader import load_model_tests

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return {test.name: test for test in load_model_tests(kind="node")}


def sample() -> list[str]:
    return LIST.read_text().split()[::EVERY] if LIST.is_file() else []


def array_of(value: Any) -> Array:
    return numpy_helper.to_array(value) if isinstance(value, TensorProto) else np.asarray(value)


def split(model: ModelProto, inputs: list[Array]) -> tuple[dict[str, Array], dict[str, Array]]:
    """Inputs by name: those that are shapes, axes or bounds, and the others."""
    names = [value.name for value in model.graph.input]
    given = dict(zip(names, inputs, strict=True))
    known = {n: x for n, x in given.items() if x.dtype == np.int64 and x.ndim <= 1}
    known = known if len(given) > 1 else {}
    if "window" in model.graph.name:  # the length of the result
        known = given
    return known, {n: x for n, x in given.items() if n not in known}


@pytest.mark.parametrize("name", sample())
def test_a_backend_node(name: str) -> None:
    test = node_tests().get(name)
    if test is None or test.model is None:
        pytest.skip(f"this onnx has no node test {name}")
    for inputs, outputs in test.data_sets:
        known, given = split(test.model, [array_of(x) for x in inputs])
        shapes = {n: x.shape for n, x in given.items()}
        module = load(test.model, shapes, known)
        for y, reference in zip(run(module, list(given.values())), outputs, strict=True):
            expected = array_of(reference)
            assert (y.shape, y.dtype) == (expected.shape, expected.dtype)
            np.testing.assert_allclose(
                y.astype(np.float64), expected.astype(np.float64),
                rtol=max(test.rtol, 1e-3), atol=max(test.atol, 1e-6),
            )  # fmt: skip
