"""Statistics, ranges and types of quantization, against numpy and brute force."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import helper, numpy_helper

import npu_dialect as npu
from npu_dialect import levels, pipeline
from npu_dialect.diagnostics import CompileError
from npu_dialect.passes.graph_calibrate import range_of
from npu_dialect.passes.quantizing import calibration
from npu_dialect.passes.quantizing.ranges import ESTIMATORS, Range, mse, percentile
from npu_dialect.passes.quantizing.schemes import SCHEMES
from npu_dialect.passes.quantizing.statistics import BINS, Statistics

Array = np.ndarray[Any, Any]


def statistics(*samples: Array) -> Statistics:
    found = Statistics()
    for sample in samples:
        found.add(sample)
    return found


def normal(size: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).normal(size=size).astype(np.float32)


def rounded(values: Array, found: Range, levels: int = 256) -> Array:
    """Values in the steps of a range, saturated."""
    step = (found.high - found.low) / (levels - 1)
    zero = np.rint(-found.low / step)
    return (np.clip(np.rint(values / step) + zero, 0, levels - 1) - zero) * step


# --- statistics -----------------------------------------------------------------------------------


@given(st.lists(st.integers(-8, 8), min_size=1, max_size=6), st.integers(0, 9))
def test_counts_are_those_of_one_histogram_of_all_samples(exponents: list[int], seed: int):
    samples = [normal(50, seed + k) * np.float32(2.0**e) for k, e in enumerate(exponents)]
    found = statistics(*samples)
    edges = (np.arange(BINS + 1) - BINS // 2) * found.width
    expected, _ = np.histogram(np.concatenate(samples).astype(np.float64), edges)
    assert found.counts.tolist() == expected.tolist()


def test_extremes_and_mean_are_those_of_all_values():
    values = normal(1000)
    found = statistics(values[:300], values[300:])
    assert (found.low, found.high) == (values.min(), values.max())
    assert found.mean == pytest.approx(values.mean(dtype=np.float64))


def test_what_is_no_number_is_counted_apart():
    found = statistics(np.array([1, np.nan, np.inf, -2], np.float32))
    assert (found.strange, found.low, found.high) == (2, -2, 1)


def test_zeros_alone_are_known():
    found = statistics(np.zeros(3, np.float32))
    assert found.known
    assert ESTIMATORS["mse"](found, 256) == Range(0, 0)


def test_statistics_are_the_same_after_they_were_written(tmp_path: Path):
    calibration.save(tmp_path / "s.npz", {"a": statistics(normal(100))})
    found = calibration.load(tmp_path / "s.npz")["a"]
    assert found.to_arrays()[0].tolist() == statistics(normal(100)).to_arrays()[0].tolist()
    assert (found.counts == statistics(normal(100)).counts).all()


# --- ranges ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ESTIMATORS)
def test_a_range_has_zero_in_it_and_goes_no_further_than_the_values(name: str):
    values = normal(5000) + 3
    found = ESTIMATORS[name](statistics(values), 256)
    assert found.low == 0 if values.min() > 0 else found.low >= values.min()
    assert found.high <= values.max()


def test_a_percentile_leaves_out_its_share():
    values = normal(100_000)
    found = percentile(statistics(values), 256, 99.0)
    outside = np.mean((values < found.low) | (values > found.high))
    assert outside == pytest.approx(0.01, abs=0.001)


@pytest.mark.parametrize("kind", ["normal", "laplace", "relu", "outlier"])
def test_the_least_squared_error_is_near_that_of_brute_force(kind: str):
    r = np.random.default_rng(5)
    values = {
        "normal": r.normal(size=20_000),
        "laplace": r.laplace(size=20_000),
        "relu": np.maximum(r.normal(size=20_000), 0),
        "outlier": np.append(r.normal(size=20_000), 60.0),
    }[kind].astype(np.float32)
    low, high = float(values.min()), float(values.max())
    tried = [Range(min(low * a, 0), high * b) for a in PARTS for b in PARTS]
    least = min(float(np.mean((rounded(values, t) - values) ** 2)) for t in tried)
    found = float(np.mean((rounded(values, mse(statistics(values), 256)) - values) ** 2))
    assert found <= 1.1 * least


PARTS = np.linspace(0.05, 1, 24)


# --- types ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SCHEMES)
@pytest.mark.parametrize("found", [Range(-1, 2), Range(0, 5), Range(-3, 0), Range(0, 0)])
def test_a_type_covers_its_range_within_half_a_step(name: str, found: Range):
    quant = SCHEMES[name].activation(found)
    least = (quant.low - quant.zero_point) * quant.scale
    greatest = (quant.high - quant.zero_point) * quant.scale
    assert least <= found.low + 0.51 * quant.scale
    assert greatest >= found.high - 0.51 * quant.scale


def test_weights_have_a_scale_by_channel():
    array = np.array([[1, -4], [0.5, 2]], np.float32)
    quant = SCHEMES["int8"].weight(array, 1)
    assert quant.scales.tolist() == pytest.approx([1 / 127, 4 / 127])
    assert not quant.zero_points.any()


# --- a model --------------------------------------------------------------------------------------


def model() -> Any:
    """Two convolutions, a residual, a mean, a product."""
    r = np.random.default_rng(2)
    constants = {
        "w1": r.normal(size=(16, 3, 3, 3)) / 5, "b1": r.normal(size=16),
        "w2": r.normal(size=(16, 16, 3, 3)) / 12, "b2": r.normal(size=16),
        "m": r.normal(size=(16, 10)) / 4,
    }  # fmt: skip
    nodes = [
        helper.make_node("Conv", ["x", "w1", "b1"], ["c1"], "conv1", pads=[1] * 4),
        helper.make_node("Relu", ["c1"], ["r1"], "relu1"),
        helper.make_node("Conv", ["r1", "w2", "b2"], ["c2"], "conv2", pads=[1] * 4),
        helper.make_node("Add", ["c2", "r1"], ["s"], "add1"),
        helper.make_node("Relu", ["s"], ["r2"], "relu2"),
        helper.make_node("GlobalAveragePool", ["r2"], ["g"], "mean1"),
        helper.make_node("Flatten", ["g"], ["f"], "flatten1"),
        helper.make_node("MatMul", ["f", "m"], ["y"], "product1"),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", 1, [1, 3, 12, 12])],
        [helper.make_tensor_value_info("y", 1, [1, 10])],
        [numpy_helper.from_array(v.astype(np.float32), n) for n, v in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)


SAMPLES = normal(16 * 432, 9).reshape(16, 3, 12, 12)
PREPARE = "graph-canonicalize,graph-fold-constants,graph-channels-last,graph-fuse-batch-norm"


def quantized(tmp_path: Path, options: str = "", samples: Array = SAMPLES) -> Any:
    np.savez(tmp_path / "samples.npz", x=samples)
    module = npu.load(model(), target="edge256")
    pipeline.run(module, f'{PREPARE},graph-calibrate{{samples="{tmp_path}/samples.npz"{options}}}')
    return module


@pytest.mark.parametrize("method", ESTIMATORS)
def test_a_quantized_model_is_near_the_float_one_and_leaves_nothing_to_the_host(
    tmp_path: Path, method: str
):
    reference = npu.load(model(), target="edge256")
    expected = [levels.run_graph(reference, [x[None]])[0] for x in SAMPLES]
    module = quantized(tmp_path, f' method="{method}"')
    pipeline.run(module, "graph-quantize")
    npu.lower(module)
    program = npu.assemble(module)
    assert {row.engine for row in program.placement} <= {
        "mxu",
        "vpu",
        "dma",
        "io",
        "none",
        "memory",
    }
    found = [npu.simulate(program, [x[None]]).outputs["y"] for x in SAMPLES]
    noise = np.mean((np.array(found) - np.array(expected)) ** 2) / np.var(expected)
    assert 10 * np.log10(noise) < -25


def test_ranges_are_those_of_the_tensors(tmp_path: Path):
    module = quantized(tmp_path)
    relu = next(op for op in module.walk() if op.name == "graph.relu")
    found = range_of(relu.results[0])
    assert found is not None
    plain = npu.load(model(), target="edge256")
    values = [tensors(plain, x[None])["relu1"] for x in SAMPLES]
    assert (found.low, found.high) == (0.0, pytest.approx(float(np.max(values)), rel=1e-5))


def tensors(module: Any, x: Array) -> dict[str, Array]:
    from npu_dialect.graph import interpret

    return interpret.run_all(module, [x])


def test_few_values_of_a_type_make_its_range_narrow(tmp_path: Path):
    """With four steps the least squared error saturates, with 65,536 nothing does."""
    high: list[float] = []
    for count in (4, 65536):
        module = quantized(tmp_path, f' method="mse" levels={count}')
        conv = next(op for op in module.walk() if op.name == "graph.conv2d")
        found = range_of(conv.results[0])
        assert found is not None
        high.append(found.high)
    assert high[0] < 0.8 * high[1]


def test_statistics_are_kept_and_read_again(tmp_path: Path):
    first = quantized(tmp_path, f' save="{tmp_path}/s.npz"')
    module = npu.load(model(), target="edge256")
    pipeline.run(module, f'{PREPARE},graph-calibrate{{statistics="{tmp_path}/s.npz"}}')
    assert str(module) == str(first)


# --- where tensors are quantized ------------------------------------------------------------------


def in_integers(
    nodes: list[Any],
    shape: list[int],
    constants: dict[str, Array],
    samples: list[Array] | None = None,
) -> Any:
    """A model with the input x and the output y, quantized."""
    samples = samples or [normal(int(np.prod(shape)), k).reshape(shape) for k in range(8)]
    kind = helper.np_dtype_to_tensor_dtype(samples[0].dtype)
    made = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", kind, shape)],
        [helper.make_tensor_value_info("y", 1, None)],
        [numpy_helper.from_array(v.astype(np.float32), n) for n, v in constants.items()],
    )
    opsets = [helper.make_opsetid("", 13)]
    source = npu.load(helper.make_model(made, opset_imports=opsets, ir_version=8), "edge256")
    npu.quantize(source, npu.Quantization(samples=samples))
    return source


def engines(*model: Any) -> set[str]:
    """Where the operations of a model run that is quantized so."""
    source = in_integers(*model)
    npu.lower(source)
    return {row.engine for row in npu.assemble(source).placement}


def test_a_table_of_a_sum_by_channel_has_a_type_between():
    """sigmoid(x + c) is another function for each channel, which no table can be."""
    nodes = [helper.make_node("Add", ["x", "c"], ["s"]), helper.make_node("Sigmoid", ["s"], ["y"])]
    assert "host" not in engines(nodes, [1, 6, 8], {"c": normal(8)})


def test_factors_and_terms_by_channel_have_none_between():
    nodes = [helper.make_node("Mul", ["x", "f"], ["m"]), helper.make_node("Add", ["m", "c"], ["y"])]
    assert "host" not in engines(nodes, [1, 6, 8], {"f": normal(8), "c": normal(8, 1)})


def test_scores_that_are_divided_are_quantized_once():
    nodes = [
        helper.make_node("Transpose", ["x"], ["t"], perm=[0, 2, 1]),
        helper.make_node("MatMul", ["x", "t"], ["s"]),
        helper.make_node("Div", ["s", "c"], ["y"]),
    ]
    assert "host" not in engines(nodes, [1, 6, 8], {"c": np.array(2.9)})


def test_a_table_of_embeddings_is_of_integers():
    """Else its rows would be floats that the host adds up."""
    constants = {"t": normal(40 * 8).reshape(40, 8), "p": normal(6 * 8, 1).reshape(6, 8)}
    nodes = [
        helper.make_node("Gather", ["t", "x"], ["e"]),
        helper.make_node("Add", ["e", "p"], ["y"]),
    ]
    numbers = [np.random.default_rng(k).integers(0, 40, (1, 6)) for k in range(8)]
    assert "host" not in engines(nodes, [1, 6], constants, numbers)


def test_weights_may_have_many_dimensions():
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["h"]),
        helper.make_node("Add", ["h", "b"], ["y"]),
    ]
    constants = {"w": normal(2 * 3 * 4 * 5).reshape(1, 2, 1, 3, 4, 5), "b": normal(5)}
    assert "host" not in engines(nodes, [1, 2, 1, 3, 6, 4], constants)


def test_recurrent_layers_are_quantized_by_steps():
    """A layer as a whole would be a function of floats, on the host."""
    constants = {"w": normal(32 * 3).reshape(1, 24, 4), "r": normal(192, 1).reshape(1, 24, 8) / 4}
    node = helper.make_node("GRU", ["x", "w", "r"], ["", "y"], hidden_size=8)
    assert "host" not in engines([node], [5, 1, 4], constants)


def test_what_an_activation_clips_takes_no_steps():
    """Nothing reads the negative values of the maxima, so that they may saturate."""
    nodes = [
        helper.make_node("MaxPool", ["x"], ["p"], "pool", kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("Relu", ["p"], ["r"], "relu"),
        helper.make_node("Conv", ["r", "w"], ["y"], "conv"),
    ]
    source = in_integers(nodes, [1, 2, 8, 8], {"w": normal(4).reshape(2, 2, 1, 1)})
    first = next(op for op in source.walk() if op.name == "graph.quantize")
    kind = first.results[0].type.element_type
    assert kind.zero_point == kind.low


def test_a_result_of_floats_that_leaves_the_model_has_no_steps():
    """Nothing computes log_softmax in integers: rounding its results would be for nothing."""
    nodes = [
        helper.make_node("Gemm", ["x", "w"], ["h"], "product"),
        helper.make_node("LogSoftmax", ["h"], ["y"], "end"),
    ]
    source = in_integers(nodes, [1, 16], {"w": normal(160).reshape(16, 10)})
    returned = next(op for op in source.walk() if op.name == "func.return")
    assert returned.operands[0].owner.name == "graph.log_softmax"


@pytest.mark.parametrize("weight", [0.0, 1e-12])
def test_channels_without_weights_keep_their_bias(weight: float):
    """The bias is in steps of the sums; those of a tiny scale would not fit 32 bits."""
    weights = normal(16 * 8).reshape(16, 8)
    weights[:, 3] = weight
    nodes = [helper.make_node("Gemm", ["x", "w", "b"], ["y"])]
    assert "host" not in engines(nodes, [4, 16], {"w": weights, "b": normal(8, 1)})


# --- bad input ------------------------------------------------------------------------------------


def test_samples_of_another_shape_are_refused(tmp_path: Path):
    with pytest.raises(CompileError, match=r"samples of x must be \[samples, 1, 3, 12, 12\]"):
        quantized(tmp_path, samples=SAMPLES[:, :2])


def test_samples_that_are_no_numbers_are_refused(tmp_path: Path):
    with pytest.raises(CompileError, match="must be finite"):
        quantized(tmp_path, samples=np.full((2, 3, 12, 12), np.nan, np.float32))


def test_no_samples_are_refused(tmp_path: Path):
    with pytest.raises(CompileError, match="there must be samples"):
        quantized(tmp_path, samples=SAMPLES[:0])


def test_an_unknown_method_is_refused(tmp_path: Path):
    with pytest.raises(CompileError, match="method must be one of minmax"):
        quantized(tmp_path, ' method="guess"')


def test_a_graph_without_ranges_is_not_quantized():
    module = npu.load(model(), target="edge256")
    with pytest.raises(CompileError, match="must have ranges"):
        pipeline.run(module, "graph-quantize")
