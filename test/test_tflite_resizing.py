"""RESIZE_BILINEAR and RESIZE_NEAREST_NEIGHBOR: the bits of TFLite's reference kernels."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("tflite")
pytest.importorskip("ai_edge_litert")

from tflite_checks import check, like, quantized, seeds
from tflite_models import Tensor, constant, model

from npu_dialect.diagnostics import CompileError
from npu_dialect.frontends import tflite

CENTERS = [(False, False), (True, False), (False, True)]


def resize(x: Tensor, size: tuple[int, int], corners: bool, centers: bool) -> bytes:
    y = like(x, (x.shape[0], *size, x.shape[3]))
    return model(
        "RESIZE_BILINEAR", [x, constant(size)], [y], "ResizeBilinearOptions",
        alignCorners=corners, halfPixelCenters=centers,
    )  # fmt: skip


sizes = st.tuples(st.integers(1, 6), st.integers(1, 6))


@pytest.mark.parametrize(("corners", "centers"), CENTERS)
@given(st.data(), seeds, sizes, sizes)
@settings(max_examples=6)
def test_i8_from_any_size_to_any(
    corners: bool,
    centers: bool,
    data: st.DataObject,
    seed: int,
    old: tuple[int, int],
    new: tuple[int, int],
) -> None:
    x = quantized((2, *old, 3), "int8", data)
    check(resize(x, new, corners, centers), [x], seed)


@pytest.mark.parametrize("dtype", ["int8", "uint8"])
@pytest.mark.parametrize(("corners", "centers"), CENTERS)
@given(st.data(), seeds, st.integers(1, 4), st.sampled_from([1, 2, 4, 8, 16]))
@settings(max_examples=5)
def test_powers_of_two(
    corners: bool, centers: bool, dtype: str, data: st.DataObject, seed: int, n: int, by: int
) -> None:
    x = quantized((1, n, n + 1, 5), dtype, data)
    size = (by * (n - 1) + 1, by * n + 1) if corners else (by * n, by * (n + 1))
    check(resize(x, size, corners, centers), [x], seed)


@pytest.mark.parametrize("size", [(90, 3), (3, 90), (2, 150)])
def test_many_different_places_are_taken_by_index(size: tuple[int, int]) -> None:
    x = Tensor((1, 13, 17, 2), "int8", 0.1, 5)
    check(resize(x, size, False, False), [x])


@pytest.mark.parametrize(("corners", "centers"), CENTERS)
@pytest.mark.parametrize("size", [(7, 5), (10, 15), (3, 2), (1, 1)])
def test_floats(corners: bool, centers: bool, size: tuple[int, int]) -> None:
    x = Tensor((2, 5, 4, 3), "float32")
    check(resize(x, size, corners, centers), [x], rtol=2e-6, target="mobile4k")


@pytest.mark.parametrize(("corners", "centers"), CENTERS)
@given(st.data(), seeds, sizes, sizes)
@settings(max_examples=5)
def test_u8_where_float32_rounds(
    corners: bool,
    centers: bool,
    data: st.DataObject,
    seed: int,
    old: tuple[int, int],
    new: tuple[int, int],
) -> None:
    x = quantized((2, *old, 3), "uint8", data)
    check(resize(x, new, corners, centers), [x], seed, target="mobile4k")


@pytest.mark.parametrize("dtype", ["int8", "uint8"])
@pytest.mark.parametrize(("corners", "centers"), CENTERS)
def test_one_pixel_is_repeated(corners: bool, centers: bool, dtype: str) -> None:
    x = Tensor((1, 1, 1, 30), dtype, 0.1, 3)
    check(resize(x, (7, 33), corners, centers), [x])


def test_a_rounded_scale_that_leads_outside_of_the_image_is_refused() -> None:
    x = Tensor((1, 1, 1, 3), "int8", 0.1, 3)
    with pytest.raises(CompileError, match=r"65 pixels of 1, where .* leads outside"):
        tflite.load(resize(x, (65, 65), False, False))


@pytest.mark.parametrize("dtype", ["int8", "uint8", "float32"])
@pytest.mark.parametrize(("corners", "centers"), [*CENTERS, (True, True)])
@pytest.mark.parametrize("size", [(6, 10), (2, 3), (5, 4), (1, 1), (9, 5)])
def test_the_nearest(size: tuple[int, int], corners: bool, centers: bool, dtype: str) -> None:
    x = Tensor((2, 3, 5, 4), dtype, None if dtype == "float32" else 0.05, 7)
    y = like(x, (2, *size, 4))
    source = model(
        "RESIZE_NEAREST_NEIGHBOR", [x, constant(size)], [y], "ResizeNearestNeighborOptions",
        alignCorners=corners, halfPixelCenters=centers,
    )  # fmt: skip
    check(source, [x])


def test_a_size_of_a_broken_file_is_refused() -> None:
    x = Tensor((1, 1, 3, 1), "int8", 0.1, 3)
    with pytest.raises(CompileError, match=r"2147483647|elements"):
        tflite.load(resize(x, (2**31 - 1, 3), False, False))
