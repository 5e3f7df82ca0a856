"""npu.pool2d as native code: the bytes of the plain tier."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiers import agree, extremes

from npu_dialect import dtypes
from npu_dialect.dtypes import DType, bf16, bool_, f16, f32, f64, i8, i16, i32, i64, u8, u16
from npu_dialect.kernel import Kernel
from npu_dialect.machine import Machine, Operand
from npu_dialect.npu.vectors import Pool2DOp

TYPES = (i8, u8, i16, u16, i32, i64, bool_, f16, bf16, f32, f64)
REQUANTIZE = "(t0: i32) -> i8: v0 = clamp.i32 t0 {low=-128, high=127}"


def result_type(kind: str, dtype: DType) -> DType:
    return {"max": dtype, "sum": i32, "avg": f32}[kind]


def output_extents(
    image: Sequence[int],
    size: Sequence[int],
    strides: Sequence[int],
    dilations: Sequence[int],
    pads: Sequence[int],
) -> list[int]:
    """Rows and columns whose windows lie within the padded image."""
    reach = [(k - 1) * d + 1 for k, d in zip(size, dilations, strict=True)]
    room = [image[a] + pads[a] + pads[a + 2] - reach[a] for a in (0, 1)]
    return [r // s + 1 for r, s in zip(room, strides, strict=True)]


def check(
    kind: str,
    dtype: DType,
    image: tuple[int, int, int],
    *,
    size: tuple[int, int] = (2, 2),
    strides: tuple[int, int] = (1, 1),
    dilations: tuple[int, int] = (1, 1),
    pads: tuple[int, int, int, int] = (0, 0, 0, 0),
    x_zero: int = 0,
    include: int = 0,
    gap: int = 0,
    step: int = 1,
    seed: int = 0,
    kernel: str = "",
    **options: Any,
) -> None:
    """Compares one pooling; `gap`: elements between pixels, `step`: between channels."""
    _, width, channels = image
    item = dtype.itemsize
    across = (channels * step + gap) * item
    x = Operand("spm", 128, dtype, image, (width * across + gap * item, across, step * item))
    out = [max(1, extent) for extent in output_extents(image, size, strides, dilations, pads)]
    kernels = [Kernel.parse(kernel)] if kernel else []
    result = kernels[0].output if kernel else result_type(kind, dtype)
    y = Operand.dense("spm", 1 << 16, result, (*out, channels))

    def prepare(machine: Machine) -> None:
        data = extremes(dtype, np.random.default_rng(seed), x.elements)
        machine.view(x)[...] = data.reshape(image)

    op = Pool2DOp(
        input=x,
        output=y,
        kind=kind,
        size=size,
        strides=strides,
        dilations=dilations,
        pads=pads,
        x_zero=x_zero,
        count_include_pad=include,
        **({"kernel": 0} if kernel else {}),
    )
    agree(op, kernels=kernels, prepare=prepare, equal=y, **options)


PAIR = st.tuples(st.integers(1, 3), st.integers(1, 3))


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(("max", "sum", "avg")),
    st.sampled_from(TYPES),
    st.tuples(st.integers(1, 7), st.integers(1, 9), st.sampled_from((1, 2, 3, 5, 8, 16, 17, 40))),
    PAIR,
    PAIR,
    PAIR,
    st.tuples(*[st.integers(0, 3)] * 4),
    st.integers(-200, 200),
    st.integers(0, 1),
    st.sampled_from(((0, 1), (0, 1), (3, 1), (0, 2))),
    st.integers(0, 99),
)
def test_windows_of_any_form(
    kind: str,
    dtype: DType,
    image: tuple[int, int, int],
    size: tuple[int, int],
    strides: tuple[int, int],
    dilations: tuple[int, int],
    pads: tuple[int, int, int, int],
    x_zero: int,
    include: int,
    layout: tuple[int, int],
    seed: int,
):
    if kind == "sum" and dtype.is_float:
        dtype = i8
    check(
        kind,
        dtype,
        image,
        size=size,
        strides=strides,
        dilations=dilations,
        pads=pads,
        x_zero=x_zero,
        include=include,
        gap=layout[0],
        step=layout[1],
        seed=seed,
    )


@pytest.mark.parametrize("dtype", TYPES, ids=str)
@pytest.mark.parametrize("strides", [(1, 1), (2, 2)])
def test_maxima_of_every_type(dtype: DType, strides: tuple[int, int]):
    check("max", dtype, (7, 12, 16), size=(3, 3), strides=strides, pads=(1, 1, 1, 1))


@pytest.mark.parametrize("kind", ["max", "avg"])
def test_windows_within_the_padding_alone(kind: str):
    check(kind, f32, (2, 2, 5), size=(2, 2), strides=(2, 2), pads=(4, 4, 4, 4))


def test_sums_go_through_a_kernel():
    check("sum", i8, (8, 8, 24), size=(3, 3), x_zero=-5, pads=(1, 1, 1, 1), kernel=REQUANTIZE)


@pytest.mark.parametrize("host", ["avx2", "avx512vnni"])
def test_other_hosts(host: str):
    for kind in ("max", "sum", "avg"):
        check(kind, u8, (6, 9, 19), size=(3, 2), pads=(1, 0, 1, 2), hosts=(host,))


def test_a_window_over_the_whole_image():
    check("avg", f32, (7, 7, 40), size=(7, 7), seed=3)


def test_the_stride_of_a_single_channel_does_not_matter():
    x, y = (
        Operand("spm", 256, i8, (8, 90, 1), (90, 1, 7)),
        Operand.dense("spm", 9000, i8, (7, 89, 1)),
    )
    window = {"size": (2, 2), "strides": (1, 1), "dilations": (1, 1), "pads": (0, 0, 0, 0)}
    agree(Pool2DOp(input=x, output=y, kind="max", x_zero=0, count_include_pad=0, **window))


def test_the_output_may_overlap_the_input():
    x, y = Operand.dense("spm", 256, i8, (8, 8, 4)), Operand.dense("spm", 300, i8, (7, 7, 4))
    window = {"size": (2, 2), "strides": (1, 1), "dilations": (1, 1), "pads": (0, 0, 0, 0)}
    agree(Pool2DOp(input=x, output=y, kind="max", x_zero=0, count_include_pad=0, **window))


def test_every_storage_type_is_tried():
    assert set(TYPES) == set(dtypes.ALL)
