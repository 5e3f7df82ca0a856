"""Functions of 16-bit tensors without floats: tables, and lines between their entries."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from test_wide_sums import check_everywhere
from xdsl.dialects.builtin import ArrayAttr, ModuleOp, StringAttr, TensorType
from xdsl.dialects.func import FuncOp, ReturnOp

import npu_dialect as npu
from npu_dialect import dtypes, graph, provenance
from npu_dialect.passes.fixed_point.interpolation import fitting

Array = npt.NDArray[Any]
AT = provenance.name_location("act1")
EVERY = np.arange(-(2**15), 2**15).astype(np.int16)

FUNCTIONS: dict[str, tuple[Any, Any]] = {
    "sigmoid": (graph.SigmoidOp, lambda x: 1 / (1 + np.exp(-x))),
    "tanh": (graph.TanhOp, np.tanh),
    "exp": (graph.ExpOp, np.exp),
    "silu": (graph.SiluOp, lambda x: x / (1 + np.exp(-x))),
    "softplus": (graph.SoftplusOp, lambda x: np.log1p(np.exp(x))),
    "hard_swish": (graph.HardSwishOp, lambda x: x * np.clip(x / 6 + 0.5, 0, 1)),
}

STEEP = {
    "rsqrt": (graph.RsqrtOp, lambda x: 1 / np.sqrt(x)),
    "log": (graph.LogOp, np.log),
    "reciprocal": (graph.ReciprocalOp, lambda x: 1 / x),
}


def function(op: Any, scale: float, zero: int, result: graph.QuantType) -> ModuleOp:
    """quantize(op(dequantize(x))) of all 65,536 values."""
    kind = TensorType(graph.uniform(dtypes.i16, scale, zero), [256, 256])
    main = FuncOp("main", ([kind], [TensorType(result, [256, 256])]))
    block = main.body.block
    real = graph.DequantizeOp(block.args[0], location=AT)
    made = op(real, location=AT)
    stored = graph.QuantizeOp(made, result, location=AT)
    block.add_ops([real, made, stored, ReturnOp(stored)])
    main.attributes["npu.input_names"] = ArrayAttr([StringAttr("x")])
    main.attributes["npu.output_names"] = ArrayAttr([StringAttr("y")])
    return ModuleOp([main])


@pytest.mark.parametrize("span", [1.0, 8.0, 16.0])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_value_is_at_most_one_step_from_the_function(name: str, span: float) -> None:
    """Against float64, at level graph after the pass."""
    op, reference = FUNCTIONS[name]
    scale, zero = span / 2**15, 0 if span > 1 else 1000
    real = reference((EVERY.astype(np.float64) - zero) * scale)
    step = np.float32(np.abs(real).max() / 32767)
    module = npu.load(function(op, scale, zero, graph.uniform(dtypes.i16, step)), target="edge256")
    npu.lower(module, until="graph")
    assert "graph.interpolate" in str(module)
    found = npu.execute(module, EVERY.reshape(256, 256))["y"].reshape(-1)
    exact = np.clip(np.rint(real / float(step)), -(2**15), 2**15 - 1)
    assert np.abs(found - exact).max() <= 1


@pytest.mark.parametrize("zero", [0, 12345])
@pytest.mark.parametrize("span", [60.0, 200.0])
@pytest.mark.parametrize("name", ["sigmoid", "tanh"])
def test_a_function_that_is_flat_in_most_of_the_range_is_read_more_finely(
    name: str, span: float, zero: int
) -> None:
    op, reference = FUNCTIONS[name]
    with np.errstate(over="ignore"):
        real = reference((EVERY.astype(np.float64) - zero) * span / 2**15)
    result = graph.uniform(dtypes.i16, 1 / 2**15)
    module = npu.load(function(op, span / 2**15, zero, result), target="edge256")
    npu.lower(module, until="graph")
    assert "graph.interpolate" in str(module)
    found = npu.execute(module, EVERY.reshape(256, 256))["y"].reshape(-1)
    assert np.abs(found - np.clip(np.rint(real * 2**15), -(2**15), 2**15 - 1)).max() <= 1


@pytest.mark.parametrize("span", [8, 200])
def test_a_function_is_the_same_at_all_levels_and_runs_on_the_vector_unit(span: int) -> None:
    result = graph.uniform(dtypes.i16, 1 / 2**15)
    module = function(graph.SigmoidOp, span / 2**15, 0, result)
    x = EVERY.reshape(256, 256)
    reference = npu.load(module.clone(), target="edge256")
    npu.lower(reference, until="graph")
    y = npu.execute(reference, x)["y"]
    program = check_everywhere(module, x, y, "edge256")
    assert {row.engine for row in program.placement} == {"vpu"}
    assert "16-bit" in program.placement[0].reason


def test_the_result_may_have_8_bits() -> None:
    result = graph.uniform(dtypes.i8, 1 / 2**7, -128)
    module = npu.load(function(graph.SigmoidOp, 8 / 2**15, 0, result), target="edge256")
    npu.lower(module, until="graph")
    found = npu.execute(module, EVERY.reshape(256, 256))["y"].reshape(-1)
    real = 1 / (1 + np.exp(-EVERY.astype(np.float64) * 8 / 2**15))
    assert np.abs(found - np.clip(np.rint(real * 2**7) - 128, -128, 127)).max() <= 1


@pytest.mark.parametrize("zero", [0, -3000])
@pytest.mark.parametrize("name", ["rsqrt", "log", "reciprocal"])
def test_a_function_that_is_steep_beside_zero_has_a_table_of_the_values_there(
    name: str, zero: int
) -> None:
    """All 65,536 values, at all levels; below zero the function is none, and may be anything."""
    op, reference = STEEP[name]
    scale, step = 1e-4, 2.5e-3
    x = (EVERY.astype(np.float64) - zero) * scale
    with np.errstate(all="ignore"):
        steps = np.rint(reference(x) / step)
    result = graph.uniform(dtypes.i16, step)
    module = function(op, scale, zero, result)
    values = EVERY.reshape(256, 256)
    reference_module = npu.load(module.clone(), target="edge256")
    npu.lower(reference_module, until="graph")
    y = npu.execute(reference_module, values)["y"]
    above = zero < EVERY
    assert np.abs(y.reshape(-1) - np.clip(steps, -(2**15), 2**15 - 1))[above].max() <= 1
    program = check_everywhere(module, values, y, "edge256")
    assert {row.engine for row in program.placement} == {"vpu"}


def test_a_function_that_jumps_is_left_alone() -> None:
    """Unless it jumps near to the zero point, where a table may have every value."""
    far, near = (np.where(at > EVERY, -30000.0, 30000.0) for at in (10000, 100))
    assert fitting(far, far, graph.uniform(dtypes.i16, 1.0)) is None
    assert fitting(near, near, graph.uniform(dtypes.i16, 1.0)) is not None


@pytest.mark.parametrize("entries", [100, 512, 8193])
def test_a_table_has_a_power_of_two_and_one_entries(entries: int) -> None:
    x = graph.ConstantOp(EVERY[:4], TensorType(graph.uniform(dtypes.i16, 1.0), [4]))
    table = graph.ConstantOp(np.zeros(entries, np.int16))
    with pytest.raises(ValueError, match=r"2\*\*k \+ 1 entries"):
        graph.InterpolateOp(x, table, graph.uniform(dtypes.i16, 1.0))
