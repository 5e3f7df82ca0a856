"""Kernels, reductions, fills and fused nests in the tile interpreter."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tile_nests import Conv, body, conv_nest, function, load, loops, trips
from xdsl.dialects.func import FuncOp

from npu_dialect import dtypes, functional, text
from npu_dialect.dtypes import DType
from npu_dialect.kernel import Kernel
from npu_dialect.tile import (
    AllocOp,
    Conv2DOp,
    CopyOp,
    FillOp,
    ReduceOp,
    Span,
    VectorOp,
    ViewOp,
    WaitOp,
)
from npu_dialect.tile.interpret import run
from npu_dialect.tile.verify import verify

Array = npt.NDArray[Any]
ADD = Kernel.parse("(t0: f32, t1: f32) -> f32: v0 = add.f32 t0, t1")
IDENTITY = Kernel((dtypes.i32,), (), (), dtypes.i32)


@settings(max_examples=25, deadline=None)
@given(
    st.tuples(*[st.integers(1, 6)] * 3),
    st.tuples(*[st.booleans()] * 3),
    st.tuples(*[st.integers(1, 4)] * 3),
)
def test_operands_broadcast_as_in_numpy(
    shape: tuple[int, int, int], repeats: tuple[bool, ...], tiles: tuple[int, int, int]
):
    small = tuple(1 if r else s for r, s in zip(repeats, shape, strict=True))
    func = function([(shape, dtypes.f32), (small, dtypes.f32), (shape, dtypes.f32)])
    a, b, y = func.args
    build, indices = loops(body(func), *map(trips, shape, tiles))
    spans = [Span(t, 0, [(i, t)]) for t, i in zip(tiles, indices, strict=True)]
    narrow = [1 if r else s for r, s in zip(repeats, spans, strict=True)]
    view = build.insert(ViewOp(y, spans))
    out = build.insert(AllocOp.of(view))
    build.insert(VectorOp([load(build, a, spans), load(build, b, narrow)], out, ADD))
    build.insert(WaitOp(build.insert(CopyOp(out, view))))
    func.verify()
    verify(func)
    rng = np.random.default_rng(0)
    left, right = (rng.standard_normal(s).astype(np.float32) for s in (shape, small))
    (result,) = run(func, [left, right])
    np.testing.assert_array_equal(result, left + right)


def parse(code: str) -> FuncOp:
    func = text.parse(code).body.block.first_op
    assert isinstance(func, FuncOp)
    func.verify()
    verify(func)
    return func


def test_params_go_along_the_last_dimension_and_tables_by_value():
    steps = "v0 = lookup.i32 t0 {offset=128}; v1 = add.i32 v0, p0"
    kernel = f'#npu.kernel<"(t0: i8; p0: i32| table i8) -> i8: {steps}">'
    func = parse(
        """
      func.func @main(%x : memref<3x4xi8, "dram">, %p : memref<1x4xi32, "dram">,
                      %t : memref<256xi8, "dram">, %y : memref<3x4xi8, "dram">) {
        %xs = tile.alloc : memref<3x4xi8, "spm">
        %ps = tile.alloc : memref<1x4xi32, "spm">
        %ts = tile.alloc : memref<256xi8, "spm">
        %0 = tile.copy %x to %xs : memref<3x4xi8, "dram"> to memref<3x4xi8, "spm">
        %1 = tile.copy %p to %ps : memref<1x4xi32, "dram"> to memref<1x4xi32, "spm">
        %2 = tile.copy %t to %ts : memref<256xi8, "dram"> to memref<256xi8, "spm">
        tile.wait %0, %1, %2
        tile.vector ins(%xs : memref<3x4xi8, "spm">) out(%xs : memref<3x4xi8, "spm">)
          params(%ps : memref<1x4xi32, "spm">) table(%ts : memref<256xi8, "spm">)
          {kernel = KERNEL}
        %3 = tile.copy %xs to %y : memref<3x4xi8, "spm"> to memref<3x4xi8, "dram">
        tile.wait %3
        func.return
      }""".replace("KERNEL", kernel)
    )
    rng = np.random.default_rng(0)
    x = rng.integers(-128, 128, (3, 4), np.int8)
    params = rng.integers(-5, 5, (1, 4), np.int32)
    table = rng.integers(-50, 50, 256).astype(np.int8)
    (y,) = run(func, [x, params, table])
    np.testing.assert_array_equal(y, (table[x.astype(int) + 128] + params[0]).astype(np.int8))


@pytest.mark.parametrize("kind", ["sum", "max", "min", "prod"])
@pytest.mark.parametrize("dtype", [dtypes.i8, dtypes.f32])
@pytest.mark.parametrize("axes", [(0,), (1, 2), (0, 1, 2)])
def test_a_reduction_is_that_of_the_whole(kind: str, dtype: DType, axes: tuple[int, ...]):
    shape = (5, 4, 6)
    kept = tuple(1 if a in axes else s for a, s in enumerate(shape))
    wide = {"sum", "prod"} & {kind} and dtype.is_int
    result = dtypes.i32 if wide else dtype
    func = function([(shape, dtype), (kept, result)])
    build = body(func)
    out = build.insert(AllocOp(kept, result))
    zero = 3 if dtype.is_int else 0
    build.insert(ReduceOp(load(build, func.args[0], shape), out, kind, axes, x_zero=zero))
    build.insert(WaitOp(build.insert(CopyOp(out, func.args[1]))))
    func.verify()
    verify(func)
    rng = np.random.default_rng(0)
    x = (rng.standard_normal(shape) * 40).astype(dtype.numpy)
    (y,) = run(func, [x])
    np.testing.assert_array_equal(y, functional.reduce(kind, x, axes, x_zero=zero))


def test_a_kernel_finishes_a_reduction():
    func = function([((4, 6), dtypes.i8), ((4, 1), dtypes.i8)])
    build = body(func)
    out = build.insert(AllocOp((4, 1), dtypes.i8))
    kernel = Kernel.parse("(t0: i32) -> i8: v0 = clamp.i32 t0 {low=-9, high=9}")
    build.insert(ReduceOp(load(build, func.args[0], [4, 6]), out, "sum", [1], kernel=kernel))
    build.insert(WaitOp(build.insert(CopyOp(out, func.args[1]))))
    x = np.arange(-12, 12, dtype=np.int8).reshape(4, 6)
    (y,) = run(func, [x])
    np.testing.assert_array_equal(y[:, 0], np.clip(x.sum(axis=1), -9, 9))


def test_a_residual_is_the_second_tensor_of_the_kernel():
    func = function([((4, 4, 2), dtypes.i8), ((1, 1, 2, 2), dtypes.i8), ((4, 4, 2), dtypes.i32)])
    build = body(func)
    x = load(build, func.args[0], [4, 4, 2])
    w = load(build, func.args[1], [1, 1, 2, 2])
    out = build.insert(AllocOp((4, 4, 2), dtypes.i32))
    kernel = Kernel.parse("(t0: i32, t1: i8) -> i32: v0 = add.i32 t0, t1")
    build.insert(Conv2DOp(x, w, [Span(4), Span(4)], out=out, kernel=kernel, residual=x))
    build.insert(WaitOp(build.insert(CopyOp(out, func.args[2]))))
    func.verify()
    verify(func)
    rng = np.random.default_rng(0)
    image, weights = rng.integers(-9, 9, (4, 4, 2), np.int8), np.ones((1, 1, 2, 2), np.int8)
    (y,) = run(func, [image, weights])
    np.testing.assert_array_equal(y, image.sum(axis=2, keepdims=True, dtype=np.int32) + image)


@pytest.mark.parametrize(
    ("dtype", "value"),
    [
        (dtypes.i8, -3),
        (dtypes.u8, 200),
        (dtypes.bool_, 1),
        (dtypes.i64, 1 << 40),
        (dtypes.f32, float("-inf")),
        (dtypes.f16, 1.5),
        (dtypes.bf16, -2.0),
    ],
)
def test_a_fill_writes_a_storage_value(dtype: DType, value: float):
    func = function([((3,), dtype)])
    build = body(func)
    out = build.insert(AllocOp((3,), dtype))
    build.insert(FillOp(out, value))
    build.insert(WaitOp(build.insert(CopyOp(out, func.args[0]))))
    func.verify()
    again = text.parse(text.to_text(func.parent_op()))  # pyright: ignore[reportArgumentType]
    (y,) = run(again.body.block.first_op, [])  # pyright: ignore[reportArgumentType]
    np.testing.assert_array_equal(y, np.full(3, value, dtype.numpy))


# Cascades


@settings(max_examples=30, deadline=None)
@given(
    st.integers(1, 5),
    st.sampled_from([1, 2]),
    st.sampled_from([1, 2]),
    st.integers(0, 2),
    st.integers(0, 2),
)
def test_two_convolutions_in_one_nest_equal_one_after_the_other(
    rows: int, first_stride: int, second_stride: int, first_pad: int, second_pad: int
):
    # The rows of the intermediate that a tile needs are clamped; the walk derives their padding.
    first = Conv(
        (16, 9, 3),
        4,
        strides=(first_stride, 1),
        pads=every(first_pad),
        x_zero=2,
    )
    height, width = first.out_hw
    second = Conv(
        (height, width, 4),
        5,
        strides=(second_stride, 1),
        pads=every(second_pad),
        rows=rows,
    )
    func = cascade(first, second)
    func.verify()
    verify(func)
    rng = np.random.default_rng(0)
    x, w, v = (
        rng.integers(-128, 128, s, np.int8) for s in ((16, 9, 3), (3, 3, 3, 4), (3, 3, 4, 5))
    )
    (y,) = run(func, [x, w, v])
    clamp = Kernel.parse("(t0: i32) -> i8: v0 = clamp.i32 t0 {low=-128, high=127}")
    (middle,) = run(conv_nest(first, clamp), [x, w])
    (expected,) = run(conv_nest(second), [middle, v])
    np.testing.assert_array_equal(y, expected)


def every(pad: int) -> tuple[int, int, int, int]:
    return (pad, pad, pad, pad)


def cascade(first: Conv, second: Conv) -> FuncOp:
    """(%x, %w, %v, %y). The intermediate is an alloc in dram of which only the extents count."""
    rows, columns = second.out_hw
    middle_rows, middle_columns = first.out_hw
    func = function(
        [
            (first.image, dtypes.i8),
            ((3, 3, 3, 4), dtypes.i8),
            ((3, 3, 4, 5), dtypes.i8),
            ((rows, columns, 5), dtypes.i32),
        ]
    )
    x, w, v, y = func.args
    build = body(func)
    middle = build.insert(AllocOp((middle_rows, middle_columns, 4), dtypes.i8, "dram"))
    build, (i,) = loops(build, trips(rows, second.rows))
    window = second.span(0, second.rows, i)
    part = build.insert(ViewOp(middle, [window, middle_columns, 4]))
    between = build.insert(AllocOp.of(part))
    stride, pad = first.strides[0], first.pads[0]
    needed = Span(
        (window.size - 1) * stride + 3,
        window.start * stride - pad,
        [(index, c * stride) for index, c in window.terms],
    )
    clamp = Kernel.parse("(t0: i32) -> i8: v0 = clamp.i32 t0 {low=-128, high=127}")
    build.insert(
        Conv2DOp(
            load(build, x, [needed, *first.image[1:]]),
            load(build, w, [3, 3, 3, 4]),
            [needed, Span(first.image[1], -first.pads[1])],
            out=between,
            kernel=clamp,
            strides=first.strides,
            x_zero=first.x_zero,
        )
    )
    view = build.insert(ViewOp(y, [Span(second.rows, 0, [(i, second.rows)]), columns, 5]))
    out = build.insert(AllocOp.of(view))
    build.insert(
        Conv2DOp(
            between,
            load(build, v, [3, 3, 4, 5]),
            [window, Span(middle_columns, -second.pads[1])],
            out=out,
            kernel=IDENTITY,
            strides=second.strides,
        )
    )
    build.insert(WaitOp(build.insert(CopyOp(out, view))))
    return func
