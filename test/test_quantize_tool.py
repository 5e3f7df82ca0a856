"""npu-compile --quantize and npu.compile(quantize=...): samples, statistics, what is refused."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from harness import RunTool
from onnx import helper, numpy_helper, save

import npu_dialect as npu
from npu_dialect.diagnostics import Code, CompileError, collect
from npu_dialect.pipeline import Options
from npu_dialect.quantization import IMPROVEMENTS

Array = np.ndarray[Any, Any]
SHAPE = (1, 3, 6, 6)
RNG = np.random.default_rng(4)
SAMPLES = RNG.normal(size=(12, *SHAPE[1:])).astype(np.float32)
WEIGHTS = (RNG.normal(size=(8, 3, 3, 3)) / 4).astype(np.float32)
BIAS = RNG.normal(size=8).astype(np.float32)


def model(inputs: int = 1) -> Any:
    """relu(conv(x)), and the same of z plus it."""
    nodes = [helper.make_node("Conv", ["x", "w", "b"], ["c"], "conv", pads=[1] * 4)]
    nodes.append(helper.make_node("Relu", ["c"], ["y" if inputs == 1 else "r"], "relu"))
    if inputs == 2:
        nodes.append(helper.make_node("Conv", ["z", "w", "b"], ["d"], "conv2", pads=[1] * 4))
        nodes.append(helper.make_node("Add", ["r", "d"], ["y"], "add"))
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info(name, 1, SHAPE) for name in "xz"[:inputs]],
        [helper.make_tensor_value_info("y", 1, [1, 8, 6, 6])],
        [numpy_helper.from_array(WEIGHTS, "w"), numpy_helper.from_array(BIAS, "b")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)


def expected(x: Array) -> Array:
    """relu(conv(x)) in float64, by shifted products."""
    padded = np.pad(x.astype(np.float64), ((0, 0), (0, 0), (1, 1), (1, 1)))
    taps = [(i, j) for i in range(3) for j in range(3)]
    found = sum(
        np.einsum("nchw,oc->nohw", padded[:, :, i : i + 6, j : j + 6], WEIGHTS[:, :, i, j])
        for i, j in taps
    )
    return np.maximum(found + BIAS[:, None, None], 0)


def is_near(program: npu.Program) -> bool:
    """Whether a program gives the function within a hundredth of its range."""
    found = npu.simulate(program, {"x": SAMPLES[:1]}).outputs["y"]
    wanted = expected(SAMPLES[:1])
    return bool(np.abs(found - wanted).max() < wanted.max() / 100)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    save(model(), str(tmp_path / "m.onnx"))
    np.savez(tmp_path / "s.npz", x=SAMPLES)
    return tmp_path


COMMON = ("--target", "edge256", "--quantize", "int8")


# --- what works -----------------------------------------------------------------------------------


def test_the_tool_says_to_what_it_quantized(folder: Path, run_tool: RunTool):
    run = run_tool("npu-compile", "m.onnx", *COMMON, "--calibrate", "s.npz", "-o", "m.npu")
    assert run.code == 0, run.err
    assert "quantized to int8, ranges by minmax of 12 samples" in run.out
    assert is_near(npu.Program.load(folder / "m.npu"))


def test_integer_ports_say_what_their_integers_mean(folder: Path, run_tool: RunTool):
    options = ("--calibrate", "s.npz", "--integer-io", "-o", "m.npu")
    run = run_tool("npu-compile", "m.onnx", *COMMON, *options)
    assert "x: i8, real = (stored " in run.out and "y: i8, real = (stored " in run.out
    program = npu.Program.load(folder / "m.npu")
    x, y = program.inputs[0], program.outputs[0]
    assert x.quantization is not None and y.quantization is not None
    (scale,), (zero,) = x.quantization.scales, x.quantization.zero_points
    stored = np.clip(np.rint(SAMPLES[:1] / scale) + zero, -128, 127).astype(np.int8)
    found = npu.simulate(program, {"x": stored}).outputs["y"].astype(np.float64)
    real = (found - y.quantization.zero_points[0]) * y.quantization.scales[0]
    assert np.abs(real - expected(SAMPLES[:1])).max() < expected(SAMPLES[:1]).max() / 100


def test_statistics_stand_for_the_samples(folder: Path, run_tool: RunTool):
    first = ("--calibrate", "s.npz", "--save-statistics", "st.npz", "-o", "a.npu")
    assert run_tool("npu-compile", "m.onnx", *COMMON, *first).code == 0
    assert (
        run_tool("npu-compile", "m.onnx", *COMMON, "--statistics", "st.npz", "-o", "b.npu").code
        == 0
    )
    assert (folder / "a.npu").read_bytes() == (folder / "b.npu").read_bytes()


def test_npu_opt_replays_it(folder: Path, run_tool: RunTool):
    """The same passes on the imported model, one tool after the other."""
    module = npu.load(model(), "edge256")
    outcome = npu.quantize(module, npu.Quantization(samples=folder / "s.npz"))
    (folder / "float.mlir").write_text(str(npu.load(model(), "edge256")))
    (folder / "after.mlir").write_text(str(module))
    replayed = run_tool("npu-opt", "float.mlir", "-p", outcome.spec)
    as_text = run_tool("npu-opt", "after.mlir")
    assert replayed.out == as_text.out, replayed.err


def in_python(kind: str, folder: Path) -> Any:
    np.save(folder / "x.npy", SAMPLES)
    for part in ("each", "batched"):
        (folder / part).mkdir()
    for k, sample in enumerate(SAMPLES):
        np.save(folder / "each" / f"{k:02}.npy", sample)
        np.savez(folder / "batched" / f"{k:02}.npz", x=sample[None])

    def stream() -> Iterator[Array]:
        yield from SAMPLES[:, None]

    return {
        "npz": folder / "s.npz",
        "npy": folder / "x.npy",
        "folder of npy": folder / "each",
        "folder of npz": folder / "batched",
        "arrays": {"x": SAMPLES},
        "array": SAMPLES,
        "list": list(SAMPLES[:, None]),
        "list without batch": list(SAMPLES),
        "tensor": torch.from_numpy(SAMPLES).requires_grad_(),
        "tensors": list(torch.from_numpy(SAMPLES[:, None])),
        "dictionaries": [{"x": sample[None]} for sample in SAMPLES],
        "function": stream,
    }[kind]


KINDS = (
    "npz", "npy", "folder of npy", "folder of npz", "arrays", "array", "list", "dictionaries",
    "function", "list without batch", "tensor", "tensors",
)  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_all_kinds_of_samples_give_the_same_program(kind: str, folder: Path):
    wanted = npu.Quantization(samples=in_python("npz", folder))
    reference, module = (npu.load(model(), "edge256") for _ in range(2))
    npu.quantize(reference, wanted)
    (folder / "again").mkdir()
    np.savez(folder / "again" / "s.npz", x=SAMPLES)
    npu.quantize(module, npu.Quantization(samples=in_python(kind, folder / "again")))
    assert str(module) == str(reference)


def test_a_program_is_compiled_with_samples_of_a_function(folder: Path):
    program = npu.compile(
        model(), "edge256", quantize="int8", calibrate=lambda: iter(SAMPLES[:, None])
    )
    assert is_near(program)


def test_an_exported_program_is_quantized_as_a_file_is():
    torch = pytest.importorskip("torch")
    conv = torch.nn.Conv2d(3, 8, 3, padding=1)
    with torch.no_grad():
        conv.weight.copy_(torch.from_numpy(WEIGHTS))
        conv.bias.copy_(torch.from_numpy(BIAS))
    net = torch.nn.Sequential(conv, torch.nn.ReLU()).eval()
    exported = torch.export.export(net, (torch.zeros(SHAPE),))
    program = npu.compile(exported, "edge256", quantize="int8", calibrate=list(SAMPLES[:, None]))
    found = next(iter(npu.simulate(program, [SAMPLES[:1]]).outputs.values()))
    wanted = expected(SAMPLES[:1])
    assert np.abs(found - wanted).max() < wanted.max() / 100


def test_images_become_inputs_by_scale_mean_and_deviation(tmp_path: Path):
    image = pytest.importorskip("PIL.Image")
    pixels = RNG.integers(0, 256, (5, 6, 6, 3), np.uint8)
    for k, each in enumerate(pixels):
        image.fromarray(each).save(tmp_path / f"{k}.png")
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    arrays = ((pixels / 255 - mean) / std).transpose(0, 3, 1, 2).astype(np.float32)
    options = npu.Quantization(samples=tmp_path, images=npu.Images(mean=mean, std=std))
    modules = [npu.load(model(), "edge256") for _ in range(2)]
    npu.quantize(modules[0], options)
    npu.quantize(modules[1], npu.Quantization(samples=arrays))
    assert str(modules[0]) == str(modules[1])


@pytest.mark.parametrize(("scheme", "said"), [("int8", ""), ("int16x8", " levels=65536")])
def test_ranges_are_for_as_many_values_as_the_scheme_has(scheme: str, said: str):
    outcome = npu.quantize(npu.load(model(), "edge256"), npu.Quantization(scheme, SAMPLES))
    assert f'graph-calibrate{{samples="memory:0" method="minmax"{said}}}' in outcome.spec


def test_auto_quantizes_for_a_target_without_floats(folder: Path, run_tool: RunTool):
    options = ("--quantize", "auto", "--calibrate", "s.npz", "-o", "m.npu")
    assert (
        "quantized to int8"
        in run_tool("npu-compile", "m.onnx", "--target", "edge256", *options).out
    )
    run = run_tool("npu-compile", "m.onnx", "--target", "mobile4k", *options)
    assert "not quantized: mobile4k computes with floats" in run.out


def test_auto_leaves_a_quantized_model_as_it_is():
    module = npu.load(model(), "edge256")
    npu.quantize(module, npu.Quantization(samples=SAMPLES))
    again = str(module)
    assert npu.quantize(module, npu.Quantization("auto")).note == "the model is quantized already"
    assert str(module) == again


def test_progress_tells_of_every_sample():
    steps: list[tuple[str, int, int]] = []
    options = Options(progress=lambda *step: steps.append(step))
    npu.quantize(npu.load(model(), "edge256"), npu.Quantization(samples=SAMPLES), options=options)
    assert [s for s in steps if s[0] == "calibration"] == [
        ("calibration", k, 12) for k in range(12)
    ]


def test_a_state_has_one_type_before_and_after_a_step():
    """Else it would be kept in floats, and converted on the host of a target without them."""
    nodes = [
        helper.make_node("MatMul", ["h", "u"], ["r"], "back"),
        helper.make_node("Add", ["x", "r"], ["s"], "add"),
        helper.make_node("Tanh", ["s"], ["n"], "tanh"),
    ]
    ports = [helper.make_tensor_value_info(n, 1, [1, 8]) for n in "xhn"]
    weights = numpy_helper.from_array((RNG.normal(size=(8, 8)) / 3).astype(np.float32), "u")
    graph = helper.make_graph(nodes, "g", ports[:2], ports[2:], [weights])
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    samples = RNG.normal(size=(20, 1, 8)).astype(np.float32)
    program = npu.compile(made, "edge256", states={"h": "n"}, quantize="int8", calibrate=samples)
    assert [state.dtype.name for state in program.states] == ["i8"]


def test_a_budget_chooses_precisions_that_overrides_repeat(folder: Path, run_tool: RunTool):
    options = ("--calibrate", "s.npz", "--budget", "30", "--save-precisions", "p.toml")
    run = run_tool("npu-compile", "m.onnx", *COMMON, *options, "-o", "m.npu")
    assert run.code == 0 and "mixed for 30 dB" in run.out, run.err
    again = ("--calibrate", "s.npz", "--overrides", "p.toml", "-o", "n.npu")
    assert run_tool("npu-compile", "m.onnx", *COMMON, *again).code == 0
    a, b = (npu.Program.load(folder / name) for name in ("m.npu", "n.npu"))
    x = {"x": SAMPLES[:1]}
    found, repeated = (npu.simulate(p, x).outputs["y"] for p in (a, b))
    np.testing.assert_array_equal(found, repeated)
    wanted = expected(SAMPLES[:1])
    assert np.sum(wanted**2) / np.sum((wanted - found) ** 2) > 10**2.8  # 30 dB on all samples


def test_a_budget_that_no_choice_keeps_is_refused(folder: Path, run_tool: RunTool):
    run = run_tool("npu-compile", "m.onnx", *COMMON, "--calibrate", "s.npz", "--budget", "300")
    assert run.code == 1 and "must be able to keep 300 dB" in run.err


def test_improvements_may_be_one_string():
    assert npu.Quantization(improve="bias, round").improve == ("bias", "round")


@pytest.mark.parametrize("name", IMPROVEMENTS)
def test_improvements_keep_the_function(name: str):
    wanted = npu.Quantization(samples=SAMPLES, improve=(name,))
    assert is_near(npu.compile(model(), "edge256", quantize=wanted))


# --- what is refused ------------------------------------------------------------------------------


def refused(rule: str, samples: Any = SAMPLES, source: Any = None, **options: Any) -> None:
    target = options.pop("target", "edge256")
    module = npu.load(source or model(), target)
    scheme = options.pop("scheme", "int8")
    with pytest.raises(CompileError, match=rule):
        npu.quantize(module, npu.Quantization(scheme, samples, **options))


def test_there_must_be_samples():
    refused(
        r"quantize: there must be samples .* or statistics .* try some tens of typical inputs",
        None,
    )


@pytest.mark.parametrize("none", [[], SAMPLES[:0], lambda: iter(())])
def test_there_must_be_one_sample_at_least(none: Any):
    refused(r"there must be samples to calibrate with; found none", none)


def test_an_empty_folder_is_refused(tmp_path: Path):
    refused(r"there must be samples to calibrate with; found an empty folder", tmp_path)


def test_a_folder_of_other_files_is_refused(tmp_path: Path):
    (tmp_path / "notes.txt").write_text("")
    refused(
        r"must hold .npy files, .npz files or images, and nothing else; found notes.txt", tmp_path
    )


def test_samples_of_another_order_of_axes_are_told_what_to_do():
    rule = (
        r"samples of x must be \[samples, 1, 3, 6, 6\]; found \[12, 6, 6, 3\]; try array.transpose"
    )
    refused(rule, SAMPLES.transpose(0, 2, 3, 1))


def test_samples_of_another_type_are_refused():
    rule = r"samples of x must have element type float32; found float64; try array.astype"
    refused(rule, SAMPLES.astype(np.float64))


def test_samples_by_another_name_are_refused():
    rule = r"there must be samples for the input x; found image; try numpy.savez"
    refused(rule, {"image": SAMPLES})


def test_each_input_has_as_many_samples():
    refused(
        r"as many samples for each input; found 12 for x, 5 for z",
        {"x": SAMPLES, "z": SAMPLES[:5]},
        model(2),
    )


def test_the_sample_that_does_not_fit_is_named():
    refused(r"calibrate, sample 1, x: the input must have shape", [SAMPLES[:1], SAMPLES[0, 0]])


def test_samples_must_be_finite():
    samples = SAMPLES.copy()
    samples[3, 0, 0, 0] = np.nan
    refused(
        r"x: the values of a tensor that is quantized must be finite; found 1 of 1,296", samples
    )


@pytest.mark.parametrize("percent", [0, -3.0, 200, float("nan")])
def test_a_percentile_is_a_share(percent: float):
    with pytest.raises(CompileError, match="percent"):
        npu.quantize(
            npu.load(model(), "edge256"),
            npu.Quantization(samples=SAMPLES, method="percentile", percent=percent),
        )


def test_a_percentage_must_have_its_method(folder: Path, run_tool: RunTool):
    options = ("--calibrate", "s.npz", "--percent", "99")
    run = run_tool("npu-compile", "m.onnx", *COMMON, *options)
    assert run.code == 1 and "--percent must go with --method percentile" in run.err
    refused("percent must go with the method percentile", percent=99.0)


def test_samples_beside_statistics_are_refused_where_nothing_needs_them(tmp_path: Path):
    refused("either from samples or from statistics", statistics=tmp_path / "s.npz")


def test_a_budget_must_be_finite():
    refused("a budget must be a finite number", budget=float("nan"))


@pytest.mark.parametrize("pair", [(".npy", ".npz"), (".npy", ".png")])
def test_a_folder_of_two_kinds_is_refused(tmp_path: Path, pair: tuple[str, str]):
    for suffix in pair:
        (tmp_path / f"a{suffix}").write_bytes(b"")
    refused(f"nothing else; found {' and '.join(pair)} files together", tmp_path)


@pytest.mark.parametrize(
    ("name", "found"),
    [("a.csv", "a .csv file"), ("a.npz", "other contents"), ("a.png", "a single image")],
)
def test_a_file_without_arrays_is_refused(tmp_path: Path, name: str, found: str):
    (tmp_path / name).write_text("1,2,3")
    refused(f"samples must be in a .npy or .npz file .*; found {found}", tmp_path / name)


def test_a_sample_by_another_name_is_told_no_flag():
    refused("calibrate, sample 0: .*; found q; try arrays by name", [{"q": SAMPLES[:1]}])


def test_a_function_that_wants_an_argument_is_refused():
    def one(index: int) -> Array:
        return SAMPLES[index]

    refused("must be called without arguments; found missing a required argument", one)


def test_weights_of_four_bits_that_keep_a_byte_are_warned_of():
    with collect() as records:
        npu.quantize(npu.load(model(), "mobile4k"), npu.Quantization("int4", SAMPLES))
    found = [str(r) for r in records]
    assert any("mobile4k without, so that weights keep a byte" in line for line in found)
    assert any("found conv, whose weights keep 8 bits" in line for line in found)


def test_what_is_no_samples_is_refused():
    refused(r"samples must be a path, arrays by name, .*; found int", 7)


def test_statistics_of_another_model_are_refused(tmp_path: Path):
    module = npu.load(model(), "edge256")
    npu.quantize(module, npu.Quantization(samples=SAMPLES, save_statistics=tmp_path / "st.npz"))
    rule = r"there must be statistics of every float tensor; found none of"
    refused(rule, None, model(2), statistics=tmp_path / "st.npz")


def test_a_scheme_that_there_is_not_is_refused():
    refused(r"a scheme must be one of auto, int8, .*; found int9", scheme="int9")


def test_an_improvement_that_there_is_not_is_refused():
    refused(r"an improvement must be one of equalize, .*; found luck", improve=("luck",))


def test_improvements_on_samples_need_them_beside_statistics(tmp_path: Path):
    rule = r"the improvement bias must have samples beside statistics"
    refused(rule, None, statistics=tmp_path / "st.npz", improve=("bias",))


def test_a_scheme_that_the_target_lacks_is_refused(tmp_path: Path):
    text = (Path(npu.__file__).parent / "targets" / "edge256.toml").read_text()
    lines = [line for line in text.splitlines() if not line.startswith("weight_types")]
    lines.insert(lines.index("[array]") + 1, 'weight_types = ["u8"]')
    (tmp_path / "unsigned.toml").write_text("\n".join(lines))
    refused(
        r"the target must have what the scheme int8 needs; found .* without weights of i8",
        target=tmp_path / "unsigned.toml",
    )


def test_a_quantized_model_is_refused():
    module = npu.load(model(), "edge256")
    npu.quantize(module, npu.Quantization(samples=SAMPLES))
    with pytest.raises(CompileError, match="a model must be of floats to be quantized"):
        npu.quantize(module, npu.Quantization(samples=SAMPLES))


def test_one_model_is_quantized_at_a_time():
    module = npu.load({"first": model(), "second": model()}, "edge256")
    with pytest.raises(
        CompileError, match="must have one entry to be quantized; found first, second"
    ):
        npu.quantize(module, npu.Quantization(samples=SAMPLES))


def test_options_without_a_scheme_are_refused(folder: Path, run_tool: RunTool):
    run = run_tool("npu-compile", "m.onnx", "--calibrate", "s.npz")
    assert run.code == 1 and "--calibrate must go with --quantize" in run.err


def test_precisions_without_a_scheme_are_refused(folder: Path, run_tool: RunTool):
    (folder / "p.toml").write_text('["conv"]\nprecision = "int16x8"\n')
    run = run_tool("npu-compile", "m.onnx", "--overrides", "p.toml")
    assert run.code == 1 and "must go with a scheme to quantize to" in run.err
    with pytest.raises(CompileError, match="must go with a scheme to quantize to"):
        npu.compile(model(), "edge256", overrides=folder / "p.toml")


def test_many_samples_for_one_input_are_told_how_to_pick(folder: Path, run_tool: RunTool):
    run_tool("npu-compile", "m.onnx", *COMMON, "--calibrate", "s.npz", "-o", "m.npu")
    run = run_tool("npu-run", "m.npu", "--input", "s.npz")
    assert run.code == 1 and "try one sample, array[:1]" in run.err


def test_numbers_of_images_are_numbers(folder: Path, run_tool: RunTool):
    run = run_tool("npu-compile", "m.onnx", *COMMON, "--calibrate", "s.npz", "--image-mean", "a")
    assert "--image-mean: must be numbers with commas between them; found 'a'" in run.err


# --- what is warned of ----------------------------------------------------------------------------


def test_constant_inputs_are_warned_of():
    with collect() as records:
        npu.quantize(npu.load(model(), "edge256"), npu.Quantization(samples=SAMPLES * 0 + 2))
    (record,) = [r for r in records if r.code == Code.DEGENERATE and r.source == "x"]
    assert "found 2 in all of 1,296" in str(record)


def test_ranges_that_leave_out_much_are_warned_of():
    wanted = npu.Quantization(samples=SAMPLES, method="percentile", percent=80.0)
    with collect() as records:
        npu.quantize(npu.load(model(), "edge256"), wanted)
    found = [r for r in records if r.code == Code.SATURATION]
    assert found and all("should hold all but 1% of the values" in str(r) for r in found)
