"""What each instruction does, against plain integer arithmetic."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from npu_programs import dense, execute, kernel_of, machine, place, reference_conv, wrap
from xdsl.utils.exceptions import VerifyException

from npu_dialect import dtypes
from npu_dialect.dtypes import f32, i8, i32
from npu_dialect.kernel import KernelBuilder
from npu_dialect.machine import Operand
from npu_dialect.npu.arrays import Conv2DOp, DepthwiseConv2DOp, MatmulOp
from npu_dialect.npu.copies import DmaCopyOp, DmaFillOp
from npu_dialect.npu.vectors import Pool2DOp, ReduceOp, VectorOp

SUM = kernel_of(i32, output=i32)
"""The sum itself, stored as int32."""


def whole(seed: int, *shape: int, dtype: Any = np.int8) -> Any:
    info = np.iinfo(dtype)
    values = np.random.default_rng(seed).integers(info.min, info.max, shape, endpoint=True)
    return values.astype(dtype)


# dma


def test_a_copy_transposes_by_permuted_strides():
    m, x = machine(), whole(0, 3, 5)
    source = place(m, 0, x, "dram")
    execute(
        m,
        DmaCopyOp(source=source, destination=Operand("spm", 64, i8, (3, 5), (1, 3))),
    )
    assert (m.view(dense("spm", 64, i8, [5, 3])) == x.T).all()


def test_a_copy_repeats_with_stride_zero_and_reverses_with_a_negative_one():
    m, x = machine(), np.arange(4, dtype=np.int8)
    place(m, 0, x, "dram")
    source = Operand("dram", 3, i8, (2, 4), (0, -1))
    execute(m, DmaCopyOp(source=source, destination=dense("spm", 0, i8, [2, 4])))
    assert m.view(dense("spm", 0, i8, [2, 4])).tolist() == [[3, 2, 1, 0]] * 2


def test_a_copy_must_have_equal_extents_and_types():
    copy = DmaCopyOp(source=dense("dram", 0, i8, [4]), destination=dense("spm", 0, i8, [5]))
    with pytest.raises(VerifyException, match="same extents and type, found i8"):
        copy.verify()


@pytest.mark.parametrize("value", [-1.5, 0.0, np.inf])
def test_a_fill_writes_the_bits_of_one_element(value: float):
    m = machine()
    bits = int(np.float32(value).view(np.uint32))
    execute(m, DmaFillOp(destination=Operand("spm", 0, f32, (2, 2), (16, 8)), bits=bits))
    memory = m.view(dense("spm", 0, f32, [8]))
    assert memory[::2].tolist() == [value] * 4
    assert (m.view(dense("spm", 4, dtypes.u8, [4])) == 0xA5).all()


# array


def windows(**changes: Any) -> dict[str, Any]:
    return {
        "strides": (1, 1),
        "dilations": (1, 1),
        "pads": (0, 0),
        "x_zero": 0,
        "w_zero": 0,
    } | changes


@pytest.mark.parametrize(
    ("out", "fields"),
    [
        ((6, 5), windows()),
        ((8, 7), windows(pads=(1, 1))),
        ((4, 4), windows(pads=(1, 0), strides=(2, 2))),
        ((4, 5), windows(dilations=(2, 1))),
        ((9, 8), windows(pads=(2, 1), x_zero=-7, w_zero=3)),
    ],
)
def test_conv2d_sums_the_products_of_its_windows(out: tuple[int, int], fields: dict[str, Any]):
    m, x, w = machine(kernels=[SUM]), whole(1, 8, 7, 4), whole(2, 3, 3, 4, 6)
    output = dense("spm", 4096, i32, [*out, 6])
    execute(
        m,
        Conv2DOp(
            input=place(m, 0, x),
            weights=place(m, 1024, w),
            output=output,
            accumulate=0,
            kernel=0,
            **fields,
        ),
    )
    assert (m.view(output) == reference_conv(x, w, out, **fields)).all()


def test_conv2d_wraps_at_the_extremes():
    x = np.full((1, 1, 512), -128, np.int8)
    w = np.full((1, 1, 512, 2), -128, np.int8)
    start = np.full((1, 1, 2), 2**31 - 1, np.int32)
    m = machine(kernels=[SUM])
    output = dense("spm", 8192, i32, [1, 1, 2])
    execute(
        m,
        Conv2DOp(
            input=place(m, 0, x),
            weights=place(m, 1024, w),
            partial=place(m, 0, start, "acc"),
            output=output,
            accumulate=1,
            kernel=0,
            **windows(x_zero=127, w_zero=127),
        ),
    )
    expected = 255 * 255 * 512 + 2**31 - 1
    assert (m.view(output) == wrap(np.array([expected]))).all()


def test_conv2d_leaves_partial_sums_and_goes_on_from_them():
    m, x, w = machine(kernels=[SUM]), whole(3, 4, 4, 8), whole(4, 3, 3, 8, 4)
    partial = dense("acc", 256, i32, [2, 2, 4])
    output = dense("spm", 8192, i32, [2, 2, 4])
    for half, last in ((slice(0, 4), False), (slice(4, 8), True)):
        end: dict[str, Any] = {"output": output, "kernel": 0} if last else {}
        execute(
            m,
            Conv2DOp(
                input=place(m, 0, np.ascontiguousarray(x[..., half])),
                weights=place(m, 1024, np.ascontiguousarray(w[:, :, half])),
                partial=partial,
                accumulate=int(last),
                **windows(),
                **end,
            ),
        )
    assert (m.view(output) == reference_conv(x, w, (2, 2))).all()


def test_conv2d_applies_parameters_and_a_residual_in_the_output_stage():
    builder = KernelBuilder()
    total, residual, bias = builder.tensor(i32), builder.tensor(i8), builder.param("i32")
    builder.step("add.i32", builder.step("add.i32", total, bias), residual)
    m, x, w = machine(kernels=[builder.build(i32)]), whole(5, 3, 3, 2), whole(6, 1, 1, 2, 4)
    bias_row, extra = whole(7, 1, 4, dtype=np.int32), whole(8, 3, 3, 4)
    output = dense("spm", 4096, i32, [3, 3, 4])
    execute(
        m,
        Conv2DOp(
            input=place(m, 0, x),
            weights=place(m, 512, w),
            params=place(m, 1024, bias_row),
            residual=place(m, 2048, extra),
            output=output,
            accumulate=0,
            kernel=0,
            **windows(),
        ),
    )
    expected = wrap(reference_conv(x, w, (3, 3)) + bias_row[0] + extra)
    assert (m.view(output) == expected).all()


def test_depthwise_conv2d_filters_each_channel_alone():
    m, x, w = machine(kernels=[SUM]), whole(9, 6, 6, 5), whole(10, 3, 3, 5)
    output = dense("spm", 4096, i32, [6, 6, 5])
    fields = windows(pads=(1, 1), x_zero=4)
    execute(
        m,
        DepthwiseConv2DOp(
            input=place(m, 0, x),
            weights=place(m, 1024, w),
            output=output,
            accumulate=0,
            kernel=0,
            **fields,
        ),
    )
    for channel in range(5):
        one = reference_conv(
            x[..., [channel]], w[..., [channel], None], (6, 6), pads=(1, 1), x_zero=4
        )
        assert (m.view(output)[..., channel] == one[..., 0]).all()


def test_matmul_multiplies_matrices():
    m, a, b = machine(kernels=[SUM]), whole(11, 5, 16), whole(12, 16, 7)
    output = dense("spm", 4096, i32, [5, 7])
    execute(
        m,
        MatmulOp(
            input=place(m, 0, a),
            weights=place(m, 1024, b),
            output=output,
            accumulate=0,
            kernel=0,
            x_zero=-128,
            w_zero=5,
        ),
    )
    assert (m.view(output) == (a.astype(np.int64) + 128) @ (b.astype(np.int64) - 5)).all()


def test_float_matmul_adds_rounded_products_in_ascending_order():
    rng = np.random.default_rng(13)
    a, b = (rng.standard_normal(s).astype(np.float32) for s in ((4, 32), (32, 3)))
    m = machine("mobile4k", kernels=[kernel_of(f32, output=f32)])
    output = dense("spm", 4096, f32, [4, 3])
    execute(
        m,
        MatmulOp(
            input=place(m, 0, a),
            weights=place(m, 1024, b),
            output=output,
            accumulate=0,
            kernel=0,
            x_zero=0,
            w_zero=0,
        ),
    )
    expected = np.zeros((4, 3), np.float32)
    for k in range(32):
        expected += a[:, k, None] * b[k]
    assert m.view(output).tobytes() == expected.tobytes()


def test_new_weights_at_the_same_address_are_noticed():
    m, a = machine(kernels=[SUM]), whole(14, 2, 4)
    output = dense("spm", 4096, i32, [2, 3])
    for seed in (15, 16, 15):
        b = whole(seed, 4, 3)
        execute(
            m,
            MatmulOp(
                input=place(m, 0, a),
                weights=place(m, 1024, b),
                output=output,
                accumulate=0,
                kernel=0,
                x_zero=0,
                w_zero=0,
            ),
        )
        assert (m.view(output) == a.astype(np.int64) @ b.astype(np.int64)).all()


def test_an_array_instruction_without_kernel_must_have_partial_sums():
    op = MatmulOp(
        input=dense("spm", 0, i8, [1, 1]),
        weights=dense("spm", 8, i8, [1, 1]),
        accumulate=0,
        x_zero=0,
        w_zero=0,
    )
    with pytest.raises(VerifyException, match="must have partial sums"):
        op.verify()


def test_an_array_instruction_must_have_both_kernel_and_output():
    op = MatmulOp(
        input=dense("spm", 0, i8, [1, 1]),
        weights=dense("spm", 8, i8, [1, 1]),
        accumulate=0,
        kernel=0,
        x_zero=0,
        w_zero=0,
    )
    with pytest.raises(VerifyException, match="both a kernel and an output, or neither"):
        op.verify()


# vector


def test_vector_broadcasts_its_operands():
    builder = KernelBuilder()
    builder.step("sub.i32", builder.tensor(i8), builder.tensor(i8))
    m, a, b = machine(kernels=[builder.build(i32)]), whole(17, 4, 6), whole(18, 1, 6)
    output = dense("spm", 1024, i32, [4, 6])
    execute(m, VectorOp(a=place(m, 0, a), b=place(m, 512, b), output=output, kernel=0))
    assert (m.view(output) == a.astype(np.int64) - b).all()


def test_vector_looks_up_a_table():
    builder = KernelBuilder(table=i8)
    builder.step("lookup.i32", builder.tensor(i8), immediates=(128,))
    m, x, table = machine(kernels=[builder.build(i8)]), whole(19, 3, 8), whole(20, 256)
    output = dense("spm", 1024, i8, [3, 8])
    execute(m, VectorOp(a=place(m, 0, x), table=place(m, 256, table), output=output, kernel=0))
    assert (m.view(output) == table[x.astype(np.int64) + 128]).all()


def test_a_stored_integer_wraps():
    m, x = machine(kernels=[kernel_of(i32, output=i8)]), np.array([127, 128, -129], np.int32)
    output = dense("spm", 1024, i8, [3])
    execute(m, VectorOp(a=place(m, 0, x), output=output, kernel=0))
    assert m.view(output).tolist() == [127, -128, 127]


@pytest.mark.parametrize(
    ("kind", "reduced"),
    [
        ("sum", lambda x: (x - 3).sum(axis=(0, 1), keepdims=True)),
        ("max", lambda x: x.max(axis=(0, 1), keepdims=True)),
        ("min", lambda x: x.min(axis=(0, 1), keepdims=True)),
    ],
)
def test_reduce_keeps_the_reduced_dimensions(kind: str, reduced: Any):
    m, x = machine(), whole(21, 4, 5, 6)
    output = dense("spm", 1024, i32 if kind == "sum" else i8, [1, 1, 6])
    source = place(m, 0, x)
    execute(m, ReduceOp(input=source, output=output, kind=kind, axes=0b011, x_zero=3))
    assert (m.view(output) == reduced(x.astype(np.int64))).all()


def pool(kind: str, **changes: Any) -> dict[str, Any]:
    fields = {"size": (2, 2), "strides": (2, 2), "dilations": (1, 1), "pads": (0, 0, 0, 0)}
    return {"kind": kind, "x_zero": 0, "count_include_pad": 0} | fields | changes


def test_max_pool_takes_the_greatest_of_a_window():
    m, x = machine(), whole(22, 6, 6, 3)
    output = dense("spm", 1024, i8, [3, 3, 3])
    execute(m, Pool2DOp(input=place(m, 0, x), output=output, **pool("max")))
    assert (m.view(output) == x.reshape(3, 2, 3, 2, 3).max(axis=(1, 3))).all()


def test_sum_pool_subtracts_the_zero_point_and_not_in_the_padding():
    m, x = machine(), whole(23, 4, 4, 2)
    output = dense("spm", 1024, i32, [5, 5, 2])
    fields = pool("sum", strides=(1, 1), pads=(1, 1, 1, 1), x_zero=9)
    execute(m, Pool2DOp(input=place(m, 0, x), output=output, **fields))
    ones = np.zeros((2, 2, 2, 2), np.int8)
    ones[:, :, [0, 1], [0, 1]] = 1
    assert (m.view(output) == reference_conv(x, ones, (5, 5), pads=(1, 1), x_zero=9)).all()


@pytest.mark.parametrize(("include", "corner"), [(0, 1.0), (1, 0.25)])
def test_avg_pool_divides_by_the_count(include: int, corner: float):
    m, x = machine("mobile4k"), np.ones((2, 2, 1), np.float32)
    output = dense("spm", 1024, f32, [3, 3, 1])
    fields = pool("avg", strides=(1, 1), pads=(1, 1, 1, 1), count_include_pad=include)
    execute(m, Pool2DOp(input=place(m, 0, x), output=output, **fields))
    assert m.view(output)[0, 0, 0] == corner
    assert m.view(output)[1, 1, 0] == 1.0
