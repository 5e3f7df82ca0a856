"""Custom operators: functions of users on the host, lowerings, the end of a detection network."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import npu_dialect as npu
from npu_dialect import graph
from npu_dialect.diagnostics import CompileError
from npu_dialect.graph import custom

pytest.importorskip("tflite")
pytest.importorskip("ai_edge_litert")

from tflite_graphs import Models, options
from tflite_models import Array, reference

from npu_dialect.frontends import tflite
from npu_dialect.frontends.tflite import user_lowerings
from npu_dialect.passes.placement.remedies import remedy
from npu_dialect.tools import npu_compile, npu_run

F32, SHAPE = "float32", (2, 3)


@pytest.fixture(autouse=True)
def functions() -> Iterator[None]:
    """What a test registers is forgotten after it."""
    before = dict(custom.TABLE), dict(user_lowerings.TABLE)
    yield
    for table, found in zip((custom.TABLE, user_lowerings.TABLE), before, strict=True):
        table.clear()
        table.update(found)


def model(name: str, dtype: str = F32, **more: Any) -> bytes:
    """y = 2 * NAME(x) with the limit 1.5."""
    m = Models()
    main = m.graph("main")
    x = main.input(SHAPE, dtype, name="x", **more)
    y = main.op(name, [x], [main.tensor(SHAPE, dtype, name="y", **more)], custom=options(limit=1.5))
    main.returns(main.binary("ADD", y, y, dtype, SHAPE, name="z", **more))
    return m.bytes()


def clipped(call: custom.Call, x: Array) -> Array:
    real = call.inputs[0].real(x)  # type: ignore[union-attr]
    return call.outputs[0].stored(np.minimum(real, np.float32(call.options["limit"])))


def test_an_operator_without_a_function_is_refused_with_what_to_do() -> None:
    with pytest.raises(CompileError) as caught:
        tflite.load(model("Clipped"))
    text = str(caught.value)
    assert text.startswith("error[NPU0109]: y: a custom operator must have a function")
    assert 'found Clipped; try npu.custom_op("Clipped")' in text
    assert "\n" not in text


def test_an_operator_of_tensorflow_says_how_to_convert_without() -> None:
    with pytest.raises(CompileError, match="try a conversion without SELECT_TF_OPS"):
        tflite.load(model("FlexErf"))


@pytest.mark.parametrize("dtype", [F32, "int8"])
def test_a_function_of_the_user_runs_on_the_host_at_all_levels(dtype: str) -> None:
    npu.custom_op("Clipped")(clipped)
    more = {} if dtype == F32 else {"scale": 0.03125, "zero": 5}
    x = np.array([[-1, 0, 1], [2, 3, 0.5]], np.float32)
    expected = 2 * np.minimum(x, np.float32(1.5))
    if more:
        x = custom.Operand(SHAPE, dtype, 0.03125, 5).stored(x)
        expected = np.clip(np.round(expected / 0.03125) + 5, -128, 127).astype(np.int8)
    module = npu.load(tflite.load(model("Clipped", dtype, **more)), target="mobile4k")
    for level in ("graph", "tile", "npu"):
        npu.lower(module, until=level)
        np.testing.assert_array_equal(npu.execute(module, x)["z"], expected)


def test_the_placement_says_that_the_host_runs_it_and_why() -> None:
    npu.custom_op("Clipped")(clipped)
    program = npu.compile(tflite.load(model("Clipped")), "mobile4k")
    (row,) = (row for row in program.placement if row.source == "y")
    assert row.engine == "host"
    assert "Clipped (a custom operator)" in row.reason
    assert remedy("expressible", row.reason).startswith("a lowering of the operator")
    assert row.cycles > 0


def test_a_function_may_be_called_in_a_loop_of_the_host() -> None:
    npu.custom_op("Doubled")(lambda call, x: x + x)  # pyright: ignore[reportUnknownLambdaType]
    m = Models()
    main, condition, body = m.graph("main"), m.graph("condition"), m.graph("body")
    x, y = main.input((1,), F32), main.output((1,), F32)
    main.op("WHILE", [x], [y], "WhileOptions", condSubgraphIndex=1, bodySubgraphIndex=2)
    z = condition.input((1,), F32)
    condition.returns(condition.binary("LESS", z, condition.constant([9], F32), "bool", (1,)))
    w = body.input((1,), F32)
    body.returns(body.op("Doubled", [w], [body.tensor((1,), F32)], custom=options(limit=1.5)))
    program = npu.compile(tflite.load(m.bytes()), "mobile4k")
    found = npu.simulate(program, np.array([1.5], np.float32)).outputs.values()
    np.testing.assert_array_equal(next(iter(found)), [12])


def test_a_program_needs_the_function_where_it_runs(tmp_path: Path) -> None:
    npu.custom_op("Clipped")(clipped)
    npu.compile(tflite.load(model("Clipped")), "mobile4k").save(tmp_path / "m.npu")
    custom.TABLE.pop("Clipped")
    program = npu.Program.load(tmp_path / "m.npu")
    with pytest.raises(CompileError, match="must have a function where it runs.*--custom FILE.py"):
        npu.simulate(program, np.zeros(SHAPE, np.float32))


def test_a_result_of_another_shape_is_an_error() -> None:
    npu.custom_op("Clipped")(lambda call, x: x[0])  # pyright: ignore[reportUnknownLambdaType]
    module = npu.load(tflite.load(model("Clipped")))
    with pytest.raises(CompileError, match=r"a result of float32 \[3\], where tensor<2x3xf32>"):
        npu.execute(module, np.zeros(SHAPE, np.float32))


def test_a_lowering_of_the_user_comes_first() -> None:
    npu.custom_op("Clipped")(clipped)

    @tflite.lowering("Clipped")
    def _(b: Any, call: custom.Call, x: Any) -> Any:
        return b.emit(graph.MinOp(x, b.scalar(call.options["limit"], x)))

    module = npu.load(tflite.load(model("Clipped")), target="mobile4k")
    assert "graph.opaque" not in str(module)
    found = npu.execute(module, np.full(SHAPE, 9, np.float32))["z"]
    np.testing.assert_array_equal(found, np.full(SHAPE, 3, np.float32))


def test_the_tools_take_a_file_with_the_functions(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "m.tflite").write_bytes(model("Negated"))
    code = 'import npu_dialect as npu\n@npu.custom_op("Negated")\ndef f(call, x): return -x\n'
    (tmp_path / "ops.py").write_text(code)
    file, program = str(tmp_path / "m.tflite"), str(tmp_path / "m.npu")
    more = ["--custom", str(tmp_path / "ops.py")]
    assert npu_compile.main([file, "--target", "mobile4k", "-o", program]) == 1
    assert "Negated" in capsys.readouterr().err
    assert npu_compile.main([file, "--target", "mobile4k", "-o", program, *more]) == 0
    np.save(tmp_path / "x.npy", np.full(SHAPE, 2, np.float32))
    output = str(tmp_path / "y.npz")
    arguments = [program, "--input", str(tmp_path / "x.npy"), "--output", output, *more]
    assert npu_run.main(arguments) == 0
    with np.load(output) as found:
        np.testing.assert_array_equal(found["z"], np.full(SHAPE, -4, np.float32))


# TFLite_Detection_PostProcess


def detection(boxes: int, classes: int, quantized: bool, **fields: Any) -> bytes:
    m = Models()
    main = m.graph("main")
    rng = np.random.default_rng(boxes)
    anchors = np.concatenate([rng.uniform(0, 1, (boxes, 2)), rng.uniform(0.1, 0.5, (boxes, 2))], 1)
    settings = {"max_detections": 6, "max_classes_per_detection": 1, "num_classes": classes,
                "nms_score_threshold": 0.3, "nms_iou_threshold": 0.5, "y_scale": 10.0,
                "x_scale": 10.0, "h_scale": 5.0, "w_scale": 5.0} | fields  # fmt: skip
    more: list[dict[str, Any]] = [{}, {}, {}]
    dtype: str = F32
    if quantized:
        dtype, more = "uint8", [{"scale": 0.1, "zero": 128}, {"scale": 1 / 256}, {"scale": 1 / 256}]
        anchors = np.round(anchors * 256)
    x = main.input((1, boxes, 4), dtype, **more[0])
    scores = main.input((1, boxes, classes + 1), dtype, **more[1])
    a = main.constant(anchors, dtype, **more[2])
    rows = settings["max_detections"] * settings["max_classes_per_detection"]
    results = [main.output(s, F32) for s in ((1, rows, 4), (1, rows), (1, rows), (1,))]
    main.op("TFLite_Detection_PostProcess", [x, scores, a], results, custom=options(**settings))
    return m.bytes()


KINDS = [{}, {"max_classes_per_detection": 3}, {"use_regular_nms": True},
         {"use_regular_nms": True, "detections_per_class": 2}]  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("quantized", [False, True])
@given(st.integers(0, 2**32 - 1), st.integers(1, 40), st.integers(3, 6))
@settings(max_examples=12)
def test_detections_are_those_of_the_reference(
    kind: dict[str, Any], quantized: bool, seed: int, boxes: int, classes: int
) -> None:
    """Of distinct scores: how the kernel orders equal ones is not defined. What it does not write,
    after the last detection, is not compared.
    """
    rng = np.random.default_rng(seed)
    source = detection(boxes, classes, quantized, **kind)
    if quantized:
        scores = rng.permutation(np.arange(256, dtype=np.uint8))[: boxes * (classes + 1)]
        scores = np.resize(scores, (1, boxes, classes + 1))
        encodings = rng.integers(0, 256, (1, boxes, 4), np.uint8)
    else:
        scores = rng.random((1, boxes, classes + 1)).astype(np.float32)
        encodings = rng.normal(0, 3, (1, boxes, 4)).astype(np.float32)
    assume(len(np.unique(scores)) == scores.size)
    wanted = reference(source, [encodings, scores])
    found = list(npu.execute(npu.load(tflite.load(source)), [encodings, scores]).values())
    count = int(wanted[3][0]) * kind.get("max_classes_per_detection", 1)
    np.testing.assert_array_equal(found[3], wanted[3])
    for a, b in zip(found[:3], wanted, strict=False):
        np.testing.assert_array_equal(a[:, :count], b[:, :count])
        assert not a[:, count:].any()


def test_detections_on_a_machine() -> None:
    source, rng = detection(20, 4, quantized=False), np.random.default_rng(0)
    inputs = [rng.normal(0, 3, (1, 20, 4)), rng.random((1, 20, 5))]
    inputs = [each.astype(np.float32) for each in inputs]
    program = npu.compile(tflite.load(source), "mobile4k")
    found = npu.simulate(program, inputs).outputs.values()
    expected = npu.execute(npu.load(tflite.load(source)), inputs).values()
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_array_equal(a, b)


def test_options_that_detections_cannot_have_are_refused() -> None:
    with pytest.raises(CompileError, match="NPU0106.*options out of range"):
        tflite.load(detection(4, 2, quantized=False, nms_iou_threshold=2.0))


# MediaPipe


def transposed(code: str, padding: int, stride: int) -> bytes:
    """A transposed convolution of floats with a bias: MediaPipe's operator, or TFLite's."""
    rng, m = np.random.default_rng(3), Models()
    main = m.graph("main")
    x = main.input((1, 5, 6, 3), "float32")
    w = main.constant(rng.normal(size=(2, 3, 3, 3)), "float32")
    bias = main.constant(rng.normal(size=2), "float32")
    sizes = [n * stride if padding == 1 else (n - 1) * stride + 3 for n in (5, 6)]
    y = main.output((1, *sizes, 2), "float32")
    if code == "TRANSPOSE_CONV":
        shape = main.constant([1, *sizes, 2])
        fields = {"padding": padding - 1, "strideH": stride, "strideW": stride}
        main.op(code, [shape, w, x, bias], [y], "TransposeConvOptions", **fields)
    else:
        main.op(code, [x, w, bias], [y], custom=struct.pack("<iii", padding, stride, stride))
    return m.bytes()


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("padding", [1, 2])
def test_a_transposed_convolution_of_mediapipe_is_that_of_tflite(padding: int, stride: int) -> None:
    x = np.random.default_rng(0).normal(size=(1, 5, 6, 3)).astype(np.float32)
    source = transposed("Convolution2DTransposeBias", padding, stride)
    (found,) = npu.execute(npu.load(tflite.load(source), target="mobile4k"), [x]).values()
    (expected,) = reference(transposed("TRANSPOSE_CONV", padding, stride), [x])
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


def test_a_transposed_convolution_without_options_is_refused() -> None:
    m = Models()
    main = m.graph("main")
    x, y = main.input((1, 5, 6, 3), "float32"), main.output((1, 5, 6, 2), "float32")
    w = main.constant(np.zeros((2, 3, 3, 3)), "float32")
    main.op("Convolution2DTransposeBias", [x, w], [y])
    with pytest.raises(CompileError, match="0 bytes of options"):
        tflite.load(m.bytes())
