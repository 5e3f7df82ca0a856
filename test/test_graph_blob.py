"""Blobs: text, side files, content addressing."""

import hashlib
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from graph_cases import context
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from xdsl.dialects.builtin import ModuleOp
from xdsl.parser import Parser
from xdsl.utils.exceptions import ParseError

from npu_dialect import dtypes, graph
from npu_dialect.blob import (
    INLINE_ELEMENTS,
    Blob,
    BlobAttr,
    blobs_from,
    collect_blobs,
    load_blobs,
    save_blobs,
)
from npu_dialect.diagnostics import Code, CompileError


def parse(text: str) -> Blob:
    attribute = Parser(context(), text).parse_attribute()
    assert isinstance(attribute, BlobAttr)
    return attribute.data


LARGE = np.arange(INLINE_ELEMENTS + 1, dtype=np.int32)


def large_module() -> ModuleOp:
    return ModuleOp([graph.ConstantOp(LARGE), graph.ConstantOp(np.array([1], np.float32))])


@pytest.mark.parametrize(
    ("array", "text"),
    [
        (np.array([[1, -2.5], [0.1, 1e-30]], np.float32), "f32, [2, 2], [1.0, -2.5, 0.1, 1.0e-30]"),
        (np.array([np.inf, np.nan, -0.0], np.float32), "f32, [3], [0x7F800000, 0x7FC00000, -0.0]"),
        (np.array([0.5, np.inf], np.float16), "f16, [2], [0.5, 0x7C00]"),
        (np.array([-128, 127], np.int8), "i8, [2], [-128, 127]"),
        (np.int64(-(2**63)), "i64, [], [-9223372036854775808]"),
        (np.array([True, False]), "bool, [2], [1, 0]"),
        (np.zeros((0, 3), np.uint8), "u8, [0, 3], []"),
    ],
    ids=["f32", "special", "f16", "i8", "i64", "bool", "empty"],
)
def test_small_blobs_are_written_out(array: np.ndarray, text: str):
    assert str(BlobAttr.of(array)) == f"#graph.blob<{text}>"


arrays = st.sampled_from(dtypes.ALL).flatmap(
    lambda d: hnp.arrays(
        np.uint8, hnp.array_shapes(max_dims=2, max_side=4).map(lambda s: (*s, d.itemsize))
    ).map(lambda b: _reinterpret(b, d))
)


def _reinterpret(raw: np.ndarray, dtype: dtypes.DType) -> np.ndarray:
    if dtype is dtypes.bool_:
        raw = raw & 1
    return raw.view(dtype.numpy)[..., 0]


@given(arrays)
def test_every_bit_survives_the_text(array: np.ndarray):
    found = parse(str(BlobAttr.of(array)))
    assert found.array.tobytes() == array.tobytes()
    assert (found.array.dtype, found.shape) == (array.dtype, array.shape)


@given(st.floats(width=32, allow_nan=False, allow_infinity=False))
def test_every_float_survives_the_text(value: float):
    assert (
        parse(str(BlobAttr.of(np.array([value], np.float32)))).array[0].tobytes()
        == np.float32(value).tobytes()
    )


def test_large_blobs_print_their_digest():
    blob = Blob(LARGE)
    assert str(BlobAttr(blob)) == f'#graph.blob<"{blob.digest}", i32, [65]>'


def test_the_digest_is_the_sha256_of_the_bytes():
    assert Blob(LARGE).digest == hashlib.sha256(LARGE.tobytes()).hexdigest()


def test_blobs_of_equal_content_are_equal():
    assert BlobAttr.of(LARGE.copy()) == BlobAttr.of(LARGE.copy())
    assert hash(BlobAttr.of(LARGE.copy())) == hash(BlobAttr.of(LARGE.copy()))


@pytest.mark.parametrize(
    "other",
    [
        np.array([1, 3], np.int32),
        np.array([1, 0, 2, 0], np.uint16),
        np.array([[1, 2]], np.int32),
        np.array([1e-45, 3e-45], np.float32),
    ],
    ids=["content", "type and shape", "shape", "type"],
)
def test_blobs_that_differ_are_not_equal(other: np.ndarray):
    assert Blob(other) != Blob(np.array([1, 2], np.int32))


def test_zeros_of_both_signs_differ():
    assert Blob(np.array([0.0], np.float32)) != Blob(np.array([-0.0], np.float32))


def test_a_blob_does_not_change_with_the_array_it_was_made_of():
    array = np.array([1, 2], np.int32)
    blob = Blob(array)
    array[0] = 9
    assert blob.array.tolist() == [1, 2]


def test_a_blob_cannot_be_written_to():
    with pytest.raises(ValueError, match="read-only"):
        Blob(np.array([1], np.int32)).array[0] = 2


def test_a_view_that_is_not_contiguous_is_stored_in_row_major_order():
    blob = Blob(np.arange(6, dtype=np.int32).reshape(2, 3).T)
    assert blob.bytes.tobytes() == np.array([0, 3, 1, 4, 2, 5], np.int32).tobytes()


def test_an_array_of_no_storage_type_is_refused():
    with pytest.raises(
        ValueError, match="a blob must hold one of i8, u8, .* found an array of complex"
    ):
        Blob(np.zeros(2, np.complex64))


def test_a_scalar_keeps_its_rank():
    assert Blob(np.float32(3)).shape == ()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("#graph.blob<f31, [1], [1.0]>", "a blob's type must be one of"),
        ("#graph.blob<i8, [3], [1, 2]>", "must have as many elements; found 2"),
        ("#graph.blob<i8, [1], [128]>", "elements must be values of i8"),
        ("#graph.blob<i8, [1], [1.5]>", "elements must be values of i8"),
        ("#graph.blob<f32, [1], [0x7F8000000]>", "elements must be values of f32"),
    ],
)
def test_text_that_is_no_blob_is_refused_where_it_stands(text: str, message: str):
    with pytest.raises(ParseError, match=message):
        parse(text)


# Side files


def test_only_blobs_that_print_a_digest_go_to_the_side_file():
    assert list(collect_blobs(large_module())) == [Blob(LARGE).digest]


def test_a_module_reads_back_with_its_side_file(tmp_path: Path):
    module = large_module()
    save_blobs(tmp_path / "m.npz", module)
    with blobs_from(tmp_path / "m.npz"):
        found = Parser(context(), str(module)).parse_module()
    assert found.is_structurally_equivalent(module)


def test_a_module_reads_back_with_the_blobs_in_memory():
    module = large_module()
    with blobs_from(collect_blobs(module)):
        found = Parser(context(), str(module)).parse_module()
    assert found.is_structurally_equivalent(module)


def test_bfloat16_survives_the_side_file(tmp_path: Path):
    array = np.arange(100).astype(ml_dtypes.bfloat16)
    module = ModuleOp([graph.ConstantOp(array)])
    save_blobs(tmp_path / "m.npz", module)
    with blobs_from(tmp_path / "m.npz"):
        found = Parser(context(), str(module)).parse_module()
    assert found.is_structurally_equivalent(module)


def test_the_side_file_is_the_same_from_run_to_run(tmp_path: Path):
    for name in ("a", "b"):
        save_blobs(tmp_path / name, large_module())
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_a_digest_without_side_file_is_an_error_that_says_what_to_do():
    with pytest.raises(
        CompileError, match=r"NPU0205.*must be in the side file .* try putting the"
    ) as e:
        parse(str(BlobAttr.of(LARGE)))
    assert e.value.records[0].code is Code.BLOB_MISSING


def test_bytes_that_do_not_have_the_digest_are_refused():
    text = str(BlobAttr.of(LARGE))
    with (
        blobs_from({Blob(LARGE).digest: LARGE + 1}),
        pytest.raises(CompileError, match="found bytes with"),
    ):
        parse(text)


def test_bytes_of_another_size_are_refused():
    text = str(BlobAttr.of(LARGE))
    with (
        blobs_from({Blob(LARGE).digest: LARGE[1:]}),
        pytest.raises(CompileError, match="256 bytes for"),
    ):
        parse(text)


def test_a_side_file_that_is_none_is_refused(tmp_path: Path):
    (tmp_path / "m.npz").write_text("nothing")
    with pytest.raises(CompileError, match="NPU0001"):
        load_blobs(tmp_path / "m.npz")
