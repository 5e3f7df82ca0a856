"""Malformed .tflite files are refused in one line that says what must hold."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import npu_dialect as npu
from npu_dialect.diagnostics import CompileError

pytest.importorskip("tflite")

from npu_dialect.frontends import tflite


def refused(source: bytes, *words: str) -> None:
    with pytest.raises(CompileError) as caught:
        tflite.load(source)
    text = str(caught.value)
    assert "\n" not in text
    for word in words:
        assert word in text, text


@pytest.fixture(scope="module")
def hello(models: Path) -> bytes:
    path = models / "tflm_hello_int8.tflite"
    if not path.is_file():
        pytest.skip(f"{path} is missing")
    return path.read_bytes()


@pytest.mark.parametrize("data", [b"", b"TFL3", b"\x00" * 100, b"not a model at all"])
def test_a_file_that_is_no_model(data: bytes) -> None:
    refused(data, "NPU0101", "the identifier TFL3")


def test_a_file_that_leads_outside_of_itself() -> None:
    refused(b"\xff\xff\xff\x7fTFL3" + b"\x00" * 20, "NPU0101", "must lie in it")


def test_a_truncated_model(hello: bytes) -> None:
    refused(hello[:1000], "an offset that leads outside of its 1,000 bytes; try the whole file")
    for length in range(8, len(hello), 37):
        try:
            tflite.load(hello[:length])
        except CompileError as error:
            assert "\n" not in str(error)


@given(st.lists(st.tuples(st.integers(8, 2703), st.integers(0, 255)), min_size=1, max_size=8))
@settings(max_examples=200)
def test_changed_bytes(hello: bytes, changes: list[tuple[int, int]]) -> None:
    data = bytearray(hello)
    for place, value in changes:
        data[place % len(data)] = value
    try:
        tflite.load(bytes(data))
    except CompileError as error:
        assert "\n" not in str(error)


def test_a_shape_is_one_of_an_input(hello: bytes, tmp_path: Path) -> None:
    path = tmp_path / "m.tflite"
    path.write_bytes(hello)
    with pytest.raises(CompileError, match=r"the inputs are serving_default_dense_input:0\[\?, "):
        npu.load(path, shapes={"x": (2, 1)})


def test_an_operator_without_an_importer_says_so() -> None:
    pytest.importorskip("ai_edge_litert")
    from tflite_models import Tensor, model

    source = model("LSH_PROJECTION", [Tensor((4,), "float32")], [Tensor((4,), "float32")])
    refused(source, "NPU0109", "LSH_PROJECTION", "graph has no equivalent", "y0")
