"""Precision by operation: overrides, and graph-assign-precision."""

from __future__ import annotations

from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import helper, numpy_helper
from quantizing_models import (
    computed,
    convolutions,
    decibels,
    expected,
    normal,
    prepared,
    saved,
    session,
)

import npu_dialect as npu
from npu_dialect import dtypes, graph, overrides, pipeline, provenance, universe
from npu_dialect.diagnostics import CompileError, collect
from npu_dialect.graph.base import dtype_of, quant_of
from npu_dialect.passes import graph_assign_precision, graph_calibrate
from npu_dialect.passes.quantizing import calibration
from npu_dialect.passes.quantizing.insertion import Insertion, real_tensors
from npu_dialect.passes.quantizing.knapsack import STEPS, cheapest
from npu_dialect.passes.quantizing.precision import units
from npu_dialect.passes.quantizing.ranges import ESTIMATORS
from npu_dialect.passes.quantizing.schemes import SCHEMES
from npu_dialect.passes.quantizing.sensitivity import Sensitivity

Array = np.ndarray[Any, Any]

IMAGES = normal(12, 1, 3, 12, 12, seed=9)


def quantized(tmp_path: Path, said: dict[str, str], target: str = "edge256", spec: str = "") -> Any:
    module = prepared(convolutions(residual=False), target=target)
    table = "\n".join(f'["{name}"]\nprecision = "{value}"' for name, value in said.items())
    (tmp_path / "overrides.toml").write_text(table)
    overrides.apply(module, tmp_path / "overrides.toml")
    calibrate = f"graph-calibrate{{samples={saved(tmp_path, IMAGES)}}}"
    pipeline.run(module, f"{calibrate},{spec}graph-quantize")
    return module


def stored(module: Any) -> dict[str, str]:
    """The type that each quantized tensor is stored in, by the source of what makes it."""
    return {
        provenance.sources(op)[-1]: dtype_of(op.result).name
        for op in module.walk()
        if isinstance(op, graph.QuantizeOp)
    }


def test_an_operation_has_the_precision_that_the_user_says(tmp_path: Path):
    found = stored(quantized(tmp_path, {"conv2": "int16x8"}))
    assert found["relu_r2"] == "i16"
    assert {name: kind for name, kind in found.items() if name != "relu_r2"} == {
        name: "i8" for name in found if name != "relu_r2"
    }


def test_an_operation_that_stays_with_floats_reads_and_gives_floats(tmp_path: Path):
    module = quantized(tmp_path, {"conv3": "float", "conv4": "float"}, "mobile4k")
    plain = [op for op in module.walk() if isinstance(op, graph.Conv2DOp)]
    assert [isinstance(op.w.owner, graph.ConstantOp) for op in plain] == [False, False, True, True]
    assert "conv3" not in stored(module)
    assert all(dtype_of(op.w) is dtypes.f32 for op in plain[2:])


@pytest.mark.parametrize("said", ["float", "int16x8", "int4", "int4-g16"])
def test_a_precision_for_one_operation_is_no_worse_than_int4_for_it(tmp_path: Path, said: str):
    reference = expected(convolutions(residual=False), IMAGES)
    four, other = (
        decibels(computed(quantized(tmp_path, {"conv4": name}), IMAGES), reference)
        for name in ("int4", said)
    )
    assert other >= four


@pytest.mark.parametrize(
    ("target", "said"),
    [
        ("edge256", {"conv2": "int16x8", "conv4": "int4"}),
        ("mobile4k", {"conv3": "float", "conv1": "int4-g16"}),
    ],
)
def test_mixed_precisions_are_the_same_bits_at_all_levels(
    tmp_path: Path, target: str, said: dict[str, str]
):
    module = quantized(tmp_path, said, target)
    plain = module.clone()
    npu.lower(module)
    found = npu.simulate(npu.assemble(module), [IMAGES[0]]).outputs["y"]
    pipeline.run(plain, universe.pipeline("graph"))
    assert np.asarray(found).tobytes() == computed(plain, IMAGES[:1])[0].tobytes()


def test_a_precision_that_there_is_not_is_refused(tmp_path: Path):
    with pytest.raises(CompileError, match="precision must be one of float, float32, float16"):
        quantized(tmp_path, {"conv2": "int5"})


def test_rounding_follows_the_precision_of_each_operation(tmp_path: Path):
    rounded = f"graph-round-weights{{samples={saved(tmp_path, IMAGES)}}},"
    module = quantized(tmp_path, {"conv4": "int4", "conv3": "float"}, "mobile4k", rounded)
    owners = [op.w.owner for op in module.walk() if isinstance(op, graph.Conv2DOp)]
    kinds = [quant_of(w.x) if isinstance(w, graph.DequantizeOp) else None for w in owners]
    assert [kind and kind.high for kind in kinds] == [127, 127, None, 7]


# --- graph-assign-precision -----------------------------------------------------------------------


@given(st.integers(0, 2**31), st.integers(1, 6), st.integers(1, 4))
def test_choices_keep_the_budget_at_the_least_cost(seed: int, items: int, choices: int):
    r = np.random.default_rng(seed)
    takes = r.exponential(1.0, (items, choices)) ** 2
    costs = r.integers(1, 20, (items, choices)).astype(float)
    budget = float(r.uniform(0.2, 2.0) * items)
    found = cheapest(takes.tolist(), costs.tolist(), budget)

    def least(limit: float) -> float:
        rows = np.arange(items)
        tried = (np.array(each) for each in product(range(choices), repeat=items))
        fit = [costs[rows, each].sum() for each in tried if takes[rows, each].sum() <= limit]
        return min(fit, default=np.inf)

    if found is None:
        assert least(budget * (1 - items / STEPS)) == np.inf
        return
    rows = np.arange(items)
    assert takes[rows, found].sum() <= budget * (1 + 1e-9)
    assert least(budget) <= costs[rows, found].sum() <= least(budget * (1 - items / STEPS))


def test_the_noise_of_a_layer_is_that_of_its_rounded_weights_and_result():
    source = convolutions(residual=False)
    module = prepared(source)
    source.graph.output.extend([helper.make_tensor_value_info("f", 1, [1, 16])])
    pairs = [session(source).run(None, {"x": x}) for x in IMAGES]
    y, f = (np.stack(arrays).astype(np.float64) for arrays in zip(*pairs, strict=True))
    w = next(numpy_helper.to_array(t) for t in source.graph.initializer if t.name == "m")
    scales = np.abs(w).max(axis=0) / 127
    steps = (y.max() - y.min()) / 255
    zero = np.rint(-128 - y.min() / steps)
    sums = f @ (np.rint(w / scales) * scales)
    stored = (np.clip(np.rint(sums / steps) + zero, -128, 127) - zero) * steps
    wanted = np.square(stored - y).sum() / np.square(y).sum()

    function = next(iter(module.ops))
    arguments = [[x] for x in IMAGES]
    calibrated = calibration.observe(function, [{"x": x} for x in IMAGES])
    graph_calibrate.annotate(function, calibrated, ESTIMATORS["minmax"])
    ranges = {v: r for v in real_tensors(function) if (r := graph_calibrate.range_of(v))}
    last = units(Insertion(function, ranges, SCHEMES["int8"]).chosen())[-1]
    found = Sensitivity(function, ranges, arguments).noise(last, SCHEMES["int8"])
    assert last.name == "product1"
    assert found == pytest.approx(wanted, rel=0.02)


def assigned(tmp_path: Path, options: str, target: str = "edge256", pins: str = "") -> Any:
    module = prepared(convolutions(residual=False), target=target)
    if pins:
        (tmp_path / "pins.toml").write_text(pins)
        overrides.apply(module, tmp_path / "pins.toml")
    samples = saved(tmp_path, IMAGES)
    assign = f"graph-assign-precision{{samples={samples} count=12 table=false {options}}}"
    pipeline.run(module, f"graph-calibrate{{samples={samples}}},{assign}")
    return module


TWO = 'choices="int8,int16x8"'


def said(module: Any) -> dict[str, str]:
    return {
        provenance.sources(op)[-1]: op.attributes["npu.precision"].data
        for op in module.walk()
        if "npu.precision" in op.attributes
    }


@pytest.mark.parametrize("budget", [25.0, 41.0])
def test_the_outputs_keep_the_budget(tmp_path: Path, budget: float):
    module = assigned(tmp_path, f"budget={budget} {TWO}")
    pipeline.run(module, "graph-quantize")
    reference = expected(convolutions(residual=False), IMAGES)
    assert decibels(computed(module, IMAGES), reference) >= budget - 0.1


def test_a_greater_budget_needs_more_exact_choices(tmp_path: Path):
    order = ["int4", "int4-g32", "int8", "int16x8"]
    sums = [
        sum(map(order.index, said(assigned(tmp_path, f'budget={b} objective="energy"')).values()))
        for b in (12.0, 43.0)
    ]
    assert sums[0] < sums[1]


def test_floats_are_chosen_where_the_target_has_units_for_them(tmp_path: Path):
    found = said(assigned(tmp_path, "budget=70.0", "mobile4k"))
    assert "float16" in found.values()


def test_what_the_user_says_stays(tmp_path: Path):
    found = said(assigned(tmp_path, f"budget=15.0 {TWO}", pins='["conv3"]\nprecision = "int16x8"'))
    assert found["conv3"] == "int16x8"
    assert found["conv2"] != "int16x8"


def test_choices_are_written_as_overrides_that_quantize_alike(tmp_path: Path):
    module = assigned(tmp_path, f'budget=41.0 save="{tmp_path}/precision.toml" {TWO}')
    other = prepared(convolutions(residual=False))
    overrides.apply(other, tmp_path / "precision.toml")
    pipeline.run(other, f"graph-calibrate{{samples={saved(tmp_path, IMAGES)}}}")
    for each in (module, other):
        pipeline.run(each, "graph-quantize")
    assert computed(module, IMAGES).tobytes() == computed(other, IMAGES).tobytes()


def test_the_table_names_layers_errors_and_costs(tmp_path: Path, capsys: Any):
    samples = saved(tmp_path, IMAGES)
    spec = f"graph-calibrate{{samples={samples}}},graph-assign-precision{{samples={samples}}}"
    prepared(convolutions(), spec)
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].split("  ")[0] == "layer"
    assert "int8: dB, cycles" in lines[0]
    assert [line.split()[0] for line in lines[1:6]] == ["conv1", "conv2", "conv3", "conv4", "add1"]
    assert lines[-1].startswith("chosen: ")


@pytest.mark.parametrize("below", [0.1, 1.0])
def test_a_budget_is_kept_that_the_whole_keeps_and_the_sum_of_layers_does_not(
    tmp_path: Path, below: float
):
    module = prepared(convolutions(residual=False))
    every = "".join(
        f'["{n}"]\nprecision = "int16x8"\n' for n in said(assigned(tmp_path, f"budget=12 {TWO}"))
    )
    (tmp_path / "all.toml").write_text(every)
    overrides.apply(module, tmp_path / "all.toml")
    samples = saved(tmp_path, IMAGES)
    pipeline.run(module, f"graph-calibrate{{samples={samples}}},graph-quantize")
    reference = expected(convolutions(residual=False), IMAGES)
    budget = decibels(computed(module, IMAGES), reference) - below
    module = assigned(tmp_path, f"budget={budget} {TWO}")
    pipeline.run(module, "graph-quantize")
    assert decibels(computed(module, IMAGES), reference) >= budget - 0.1


def test_a_budget_may_be_a_whole_number(tmp_path: Path):
    assert said(assigned(tmp_path, f"budget=25 {TWO}"))


def test_layers_of_the_host_have_its_cost_and_are_warned_of(tmp_path: Path, capsys: Any):
    weights = [normal(1, 3 * 8, n, seed=n) for n in (4, 8)]
    made = helper.make_model(
        helper.make_graph(
            [helper.make_node("GRU", ["x", "w", "r"], ["y"], "gru", hidden_size=8)],
            "g",
            [helper.make_tensor_value_info("x", 1, [5, 1, 4])],
            [helper.make_tensor_value_info("y", 1, [5, 1, 1, 8])],
            [numpy_helper.from_array(w, n) for w, n in zip(weights, "wr", strict=True)],
        ),
        opset_imports=[helper.make_opsetid("", 13)],
        ir_version=8,
    )
    samples = saved(tmp_path, normal(2, 5, 1, 4))
    assign = f"graph-assign-precision{{samples={samples} choices=int8 budget=1}}"
    spec = f"graph-calibrate{{samples={samples}}},{assign}"
    with collect() as plain:
        pipeline.run(npu.load(made, "edge256"), spec)
    with collect() as unrolled:
        prepare = ",".join(graph_assign_precision.PREPARE)
        pipeline.run(npu.load(made, "edge256"), f"{prepare},{spec}")
    warned = [any("should run on the accelerator" in r.rule for r in e) for e in (plain, unrolled)]
    assert warned == [True, False]
    row = next(line for line in capsys.readouterr().err.splitlines() if line.startswith("gru "))
    assert int(row.split()[2].replace(",", "")) > 0


def test_a_budget_that_nothing_keeps_is_refused(tmp_path: Path):
    with pytest.raises(CompileError, match=r"keep 90 dB with the choices; found \d+\.\d dB"):
        assigned(tmp_path, f"budget=90.0 {TWO}")


@pytest.mark.parametrize(
    ("option", "rule"),
    [
        ('objective="bytes"', "objective must be cycles or energy"),
        ('choices="int8,int5"', "precision must be one of float, float32, float16"),
        ('scheme="int5"', "scheme must be one of int8"),
    ],
)
def test_options_must_be_known(tmp_path: Path, option: str, rule: str):
    with pytest.raises(CompileError, match=rule):
        assigned(tmp_path, option)
