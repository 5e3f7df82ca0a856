"""A sample of the node tests that ship with onnx, at graph level."""

from __future__ import annotations

import warnings
from functools import cache
from typing import Any

import numpy as np
import pytest
from onnx_support import SHARED

from npu_dialect.frontends.onnx import load
from npu_dialect.graph.interpret import run
from npu_dialect.onnx_backend import as_array, bound_inputs, required_inputs

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


@pytest.mark.parametrize("name", sample())
def test_a_backend_node(name: str) -> None:
    test = node_tests().get(name)
    if test is None or test.model is None:
        pytest.skip(f"this onnx has no node test {name}")
    for inputs, outputs in test.data_sets:
        names = [value.name for value in required_inputs(test.model)]
        arrays = dict(zip(names, map(as_array, inputs), strict=True))
        known = {name: arrays[name] for name in bound_inputs(test.model)}
        given = {name: x for name, x in arrays.items() if name not in known}
        shapes = {name: x.shape for name, x in given.items()}
        module = load(test.model, shapes, known)
        for y, reference in zip(run(module, list(given.values())), outputs, strict=True):
            expected = as_array(reference)
            assert (y.shape, y.dtype) == (expected.shape, expected.dtype)
            np.testing.assert_allclose(
                y.astype(np.float64), expected.astype(np.float64),
                rtol=max(test.rtol, 1e-3), atol=max(test.atol, 1e-6),
            )  # fmt: skip
