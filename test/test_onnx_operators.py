"""Every imported operator computes what onnxruntime computes."""

from __future__ import annotations

import numpy as np
import onnx_cases
import onnx_composite_cases
import onnx_microsoft_cases
import onnx_quantized_cases
import onnx_recurrent_cases
import pytest
import test_onnx_fused
from onnx_cases import Case
from onnx_support import node_model, operations, run_onnxruntime

from npu_dialect.frontends.onnx import load
from npu_dialect.graph.interpret import run

CASES: list[Case] = [
    *onnx_cases.UNARY,
    *onnx_cases.BINARY,
    *onnx_cases.SELECTION,
    *onnx_cases.CASTS,
    *onnx_cases.LINEAR,
    *onnx_cases.CONVOLUTIONS,
    *onnx_cases.POOLING,
    *onnx_cases.NORMALIZATION,
    *onnx_cases.REDUCTIONS,
    *onnx_recurrent_cases.RECURRENT,
    *onnx_cases.SHAPES,
    *onnx_cases.MOVEMENT,
    *onnx_cases.CONSTANTS,
    *onnx_composite_cases.COMPOSITE,
    *onnx_microsoft_cases.MICROSOFT_CASES,
    *onnx_quantized_cases.QUANTIZED,
    *onnx_quantized_cases.INTEGER_MICROSOFT,
]

ELSEWHERE = {"Swish", "Scatter", "TensorScatter", "CumProd"}
"""Operators that onnxruntime lacks: the backend tests cover them."""

OTHER_PROCESSORS = {case.op_type for case in test_onnx_fused.CASES} | {"QLinearReduceMean"}
"""Operators that onnxruntime has, but not on the CPU."""


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_an_operator_gives_what_onnxruntime_gives(case: Case) -> None:
    model = node_model(
        case.op_type, case.inputs, case.attributes, case.constants, case.outputs, case.opset,
        case.domain, case.result,
    )  # fmt: skip
    feeds = {
        f"x{k}": array
        for k, array in enumerate(case.inputs)
        if array is not None and k not in case.constants
    }
    expected = run_onnxruntime(model, feeds)
    module = load(model)
    module.verify()
    assert bool(operations(module, "graph.opaque")) == case.opaque
    found = run(module, list(feeds.values()))
    for y, reference in zip(found, expected, strict=True):
        assert (y.shape, y.dtype) == (reference.shape, reference.dtype)
        wide = y.astype(np.float64), reference.astype(np.float64)
        if y.dtype.kind in "iub":
            np.testing.assert_allclose(*wide, rtol=0, atol=case.steps)
        else:
            np.testing.assert_allclose(*wide, rtol=case.tolerance, atol=case.tolerance * 0.2)


def test_every_row_of_the_table_has_a_case() -> None:
    from npu_dialect.frontends.onnx import contributed, registry

    tested = {(case.domain, case.op_type) for case in CASES}
    quantizers = {("com.microsoft", "QuantizeLinear"), ("com.microsoft", "DequantizeLinear")}
    early = {("com.microsoft", name) for name in contributed.NAMES}
    missing = {key for key in registry.TABLE if key not in tested} - quantizers - early
    assert {name for _, name in missing} <= ELSEWHERE | OTHER_PROCESSORS
