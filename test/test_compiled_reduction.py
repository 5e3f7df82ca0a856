"""npu.reduce as native code: the bytes of the plain tier."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiers import agree, extremes

from npu_dialect import dtypes
from npu_dialect.dtypes import DType, bf16, bool_, f16, f32, f64, i8, i16, i32, i64, u8, u16
from npu_dialect.kernel import Kernel
from npu_dialect.machine import Machine, Operand
from npu_dialect.npu.vectors import REDUCTIONS, ReduceOp
from npu_dialect.runtime.compiled.emitters.reduction import lower_reduce
from npu_dialect.runtime.compiled.host import detect
from npu_dialect.runtime.compiled.translate import Context

TYPES = (i8, u8, i16, u16, i32, i64, bool_, f16, bf16, f32, f64)
EXTENTS = (0, 1, 2, 3, 4, 5, 7, 8, 9, 16, 17, 33, 64, 70, 131, 300)
BIASED = "(t0: i32; p0: i32) -> i32: v0 = add.i32 t0, p0"
ROOM = 24000
"""Bytes of the input."""


def result_type(kind: str, dtype: DType) -> DType:
    if kind in ("max", "min"):
        return dtype
    return f32 if dtype.is_float else i64 if dtype is i64 else i32


def strides_in_order(dims: Sequence[int], order: Sequence[int], size: int, gap: int) -> list[int]:
    """Strides of a block whose dimensions lie in that order in memory, innermost first."""
    strides, step = [0] * len(dims), size
    for axis in order:
        strides[axis] = step
        step = step * max(1, dims[axis]) + gap * size
    return strides


def operation(
    kind: str,
    dtype: DType,
    dims: Sequence[int],
    axes: int,
    *,
    order: Sequence[int] | None = None,
    gap: int = 0,
    out_order: Sequence[int] | None = None,
    x_zero: int = 0,
    kernel: str = "",
    **fields: Any,
) -> ReduceOp:
    order = list(reversed(range(len(dims)))) if order is None else order
    out_order = list(reversed(range(len(dims)))) if out_order is None else out_order
    out = tuple(1 if axes >> axis & 1 else extent for axis, extent in enumerate(dims))
    result = Kernel.parse(kernel).output if kernel else result_type(kind, dtype)
    x = strides_in_order(dims, order, dtype.itemsize, gap)
    y = strides_in_order(out, out_order, result.itemsize, gap)
    return ReduceOp(
        input=Operand("spm", 128, dtype, tuple(dims), tuple(x)),
        output=Operand("spm", 32768, result, out, tuple(y)),
        kind=kind,
        axes=axes,
        x_zero=x_zero,
        **({"kernel": 0} if kernel else {}),
        **fields,
    )


def check(op: ReduceOp, *, seed: int = 0, kernel: str = "", **options: Any) -> None:
    values = op.values()
    x: Operand = values["input"]

    def prepare(machine: Machine) -> None:
        data = extremes(x.dtype, np.random.default_rng(seed), x.elements)
        machine.view(x)[...] = data.reshape(x.dims)

    kernels = [Kernel.parse(kernel)] if kernel else []
    agree(op, kernels=kernels, prepare=prepare, equal=values["output"], **options)


@st.composite
def reductions(draw: st.DrawFn) -> ReduceOp:
    dtype = draw(st.sampled_from(TYPES))
    dims: list[int] = []
    for _ in range(draw(st.integers(1, 5))):
        room = ROOM // 8 // int(np.prod([max(1, d) for d in dims]))
        dims.append(draw(st.sampled_from([e for e in EXTENTS if e <= room])))
    rank = len(dims)
    usual = list(reversed(range(rank)))
    order = draw(st.one_of(st.just(usual), st.permutations(range(rank))))
    gap = draw(st.sampled_from((0, 0, 1)))
    if gap and int(np.prod([max(1, d) + 1 for d in dims])) * dtype.itemsize > ROOM:
        gap = 0
    return operation(
        draw(st.sampled_from(REDUCTIONS)),
        dtype,
        dims,
        draw(st.integers(0, 2**rank - 1)),
        order=order,
        gap=gap,
        x_zero=draw(st.sampled_from((0, 0, -128, 3, 65535))),
    )


@settings(max_examples=100, deadline=None)
@given(reductions(), st.integers(0, 99))
def test_dimensions_of_any_form(op: ReduceOp, seed: int):
    check(op, seed=seed)


@pytest.mark.parametrize("dtype", TYPES, ids=str)
@pytest.mark.parametrize("kind", REDUCTIONS)
def test_rows_and_columns_of_every_type(kind: str, dtype: DType):
    for axes in (1, 2, 3):
        check(operation(kind, dtype, (21, 67), axes, x_zero=2))
        check(operation(kind, dtype, (21, 67), axes, order=(0, 1), x_zero=2), threads=(2,))


@pytest.mark.parametrize("kind", REDUCTIONS)
@pytest.mark.parametrize("dtype", [i8, bool_, f32, f16], ids=str)
def test_reductions_of_nothing(kind: str, dtype: DType):
    for dims in ((0, 20), (20, 0), (0, 0)):
        for axes in range(4):
            check(operation(kind, dtype, dims, axes), hosts=("native",))


def test_parameters_follow_the_channels():
    params = Operand.dense("spm", 28000, i32, (1, 200))
    for dims, order in (((9, 200), None), ((3, 9, 200), None), ((9, 200), (0, 1))):
        op = operation("sum", i8, dims, len(dims) - 1, order=order, params=params, kernel=BIASED)
        check(op, kernel=BIASED)


def test_one_parameter_for_all():
    params = Operand.dense("spm", 28000, i32, (1, 1))
    for axes in (1, 2):
        check(
            operation("sum", i8, (60, 150), axes, params=params, kernel=BIASED, x_zero=-7),
            kernel=BIASED,
        )


def test_results_in_many_dimensions():
    op = operation("sum", i16, (2, 3, 4, 5, 6), 8, order=(1, 3, 0, 4, 2), out_order=(2, 0, 1, 4, 3))
    check(op)


@pytest.mark.parametrize("host", ["avx2", "avx512vnni"])
def test_other_hosts(host: str):
    for kind in REDUCTIONS:
        for dtype in (u8, f32, bf16):
            for axes in (1, 2):
                check(operation(kind, dtype, (35, 77), axes, x_zero=1), hosts=(host,))


def test_many_results_are_divided_among_threads():
    op = operation("sum", u8, (4, 1280), 1)
    calls = cast(Any, lower_reduce(op.values(), Context((), detect(), None)))
    assert [call.words[2] for call in calls] == [10]


def test_the_output_may_overlap_the_input():
    x, y = Operand.dense("spm", 256, f32, (40, 30)), Operand.dense("spm", 256, f32, (40, 1))
    check(ReduceOp(input=x, output=y, kind="sum", x_zero=0, axes=2))


def test_every_storage_type_is_tried():
    assert set(TYPES) == set(dtypes.ALL)
