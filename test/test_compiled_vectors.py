"""Vector instructions and the output stage in native code: strides, broadcasts, lines, blocks."""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("llvmlite")

from tiers import SIZE, TARGET, agree, extremes

from npu_dialect import dtypes
from npu_dialect.dtypes import DType
from npu_dialect.kernel import Kernel
from npu_dialect.machine import Machine, Operand
from npu_dialect.npu.vectors import VectorOp
from npu_dialect.runtime.compiled.emitters.finish import lower_finish
from npu_dialect.runtime.compiled.host import detect
from npu_dialect.runtime.compiled.library import library
from npu_dialect.runtime.compiled.records import Call, Table
from npu_dialect.runtime.compiled.translate import Context, NotEmittedError, translate

Draw = st.DrawFn


class Space:
    """Operands with gaps, one behind the other."""

    def __init__(self) -> None:
        self.end = 0

    def operand(self, dtype: DType, dims: list[int], order: list[int], gaps: list[int]) -> Operand:
        """Dimensions in the `order` in which they lie, outermost first; some elements between."""
        strides, step = [0] * len(dims), dtype.itemsize
        for axis, gap in zip(reversed(order), gaps, strict=True):
            strides[axis] = step
            step *= dims[axis] + gap
        address = -(-self.end // dtype.itemsize) * dtype.itemsize
        self.end = address + step
        return Operand("spm", address, dtype, tuple(dims), tuple(strides))


@st.composite
def instructions(draw: Draw) -> tuple[VectorOp, Kernel]:
    """A sum of one to three operands that broadcast to a strided output, scaled per channel."""
    dims = draw(st.lists(st.sampled_from([1, 2, 3, 5, 19]), min_size=1, max_size=5))
    while np.prod(dims) > 900:
        dims[dims.index(max(dims))] = 2
    space, rank = Space(), len(dims)

    def place(dtype: DType, extents: list[int]) -> Operand:
        order = draw(st.one_of(st.just(list(range(rank))), st.permutations(range(rank))))
        gaps = draw(st.lists(st.sampled_from([0, 0, 0, 3]), min_size=rank, max_size=rank))
        return space.operand(dtype, extents, list(order), gaps)

    count = draw(st.integers(1, 3))
    types = [draw(st.sampled_from([dtypes.i8, dtypes.u8, dtypes.i32])) for _ in range(count)]
    output = draw(st.sampled_from([dtypes.i8, dtypes.i16, dtypes.i32]))
    steps = "v0 = add.i32 t0, p0"
    for n in range(1, count):
        steps += f"; v{n} = sub.i32 v{n - 1}, t{n}"
    head = ", ".join(f"t{n}: {d}" for n, d in enumerate(types))
    kernel = Kernel.parse(f"({head}; p0: i32) -> {output}: {steps}")
    operands: dict[str, Any] = {}
    for name, dtype in zip("abc", types, strict=False):
        kept = draw(st.lists(st.booleans(), min_size=rank, max_size=rank))
        extents = [d if keep else 1 for d, keep in zip(dims, kept, strict=True)]
        operands[name] = place(dtype, extents)
    channels = draw(st.sampled_from([1, dims[-1]]))
    operands["params"] = space.operand(dtypes.i32, [2, channels], [0, 1], [0, 0])
    operands["output"] = place(output, dims)
    return VectorOp(**operands, kernel=0), kernel


@settings(max_examples=80, deadline=None)
@given(instructions())
def test_operands_of_all_strides_broadcast(case: tuple[VectorOp, Kernel]):
    operation, kernel = case
    agree(operation, kernels=[kernel])


@pytest.mark.parametrize("count", [4095, 4096, 4097, 12289])
def test_a_long_line_is_shared_in_pieces(count: int):
    kernel = Kernel.parse("(t0: i8, t1: i8) -> i8: v0 = add.i32 t0, t1")
    a, b, output = (Operand.dense("spm", 16000 * n, dtypes.i8, [count]) for n in range(3))
    agree(VectorOp(a=a, b=b, kernel=0, output=output), kernels=[kernel], threads=[1, 2, 3])


def test_the_output_may_lie_on_an_operand():
    kernel = Kernel.parse("(t0: i8, t1: i8) -> u8: v0 = add.i32 t0, t1")
    a, b = (Operand.dense("spm", 1000 * n, dtypes.i8, [7, 41]) for n in range(2))
    output = Operand.dense("spm", 0, dtypes.u8, [7, 41])
    agree(VectorOp(a=a, b=b, kernel=0, output=output), kernels=[kernel])


def test_an_output_beside_an_operand_that_it_overlaps_is_refused():
    kernel = Kernel.parse("(t0: i8) -> i8: v0 = neg.i32 t0")
    a, output = (Operand.dense("spm", n, dtypes.i8, [40]) for n in range(2))
    operation = VectorOp(a=a, kernel=0, output=output)
    found = translate([(operation, operation.values())], [kernel], detect(), None)
    assert found.fallbacks == {"npu.vector": {"its output overlaps an input, shifted": 1}}


def test_the_kernel_must_fit_the_operands():
    kernel = Kernel.parse("(t0: i16) -> i8: v0 = neg.i32 t0")
    a, output = (Operand.dense("spm", 100 * n, dtypes.i8, [40]) for n in range(2))
    operation = VectorOp(a=a, kernel=0, output=output)
    found = translate([(operation, operation.values())], [kernel], detect(), None)
    assert found.fallbacks == {"npu.vector": {"its kernel does not fit its operands": 1}}


# --- the output stage -----------------------------------------------------------------------------

SCALED = Kernel.parse(
    "(t0: i32; p0: i32, p1: f32) -> u8: v0 = add.i32 t0, p0; "
    "v1 = requantize.f32 v0, p1 {zero_in=0, zero_out=7, low=0, high=255}"
)
ADDED = Kernel.parse(
    "(t0: i32, t1: i8; p0: i32, p1: f32) -> i16: v0 = add.i32 t0, p0; "
    "v1 = requantize.f32 v0, p1 {zero_in=3, zero_out=0, low=-30000, high=30000}; "
    "v2 = add.i32 v1, t1"
)
FINISH = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64)


@pytest.mark.parametrize("host", ["native", "plain"])
@pytest.mark.parametrize("kernel", [SCALED, ADDED], ids=["scaled", "added"])
@pytest.mark.parametrize("gap", [0, 8])
@pytest.mark.parametrize("channels", [1, 3, 16, 24, 32, 100, 128, 129, 300])
def test_an_output_stage_comes_in_blocks(host: str, kernel: Kernel, gap: int, channels: int):
    """3 x 5 positions in blocks of other sizes than a row; gaps between sums and rows."""
    rows, columns, rng = 3, 5, np.random.default_rng(channels)
    machine, size = Machine(TARGET, SIZE), kernel.output.itemsize
    dims = (rows, columns, channels)
    strides = (size * (columns * channels + gap), size * channels, size)
    values = {
        "output": Operand("spm", 32768, kernel.output, dims, strides),
        "params": Operand.dense("spm", 64, dtypes.i32, [2, channels]),
        "residual": Operand.dense("spm", 8192, dtypes.i8, dims),
    }
    scales = rng.random(channels).astype(np.float32).view(np.int32)
    machine.view(values["params"])[...] = [rng.integers(-99, 99, channels), scales]
    tensors = [extremes(dtypes.i32, rng, rows * columns * channels).reshape(dims)]
    if len(kernel.tensors) > 1:
        tensors.append(machine.view(values["residual"]))
    expected = Machine(TARGET, SIZE)
    for space, memory in machine.memories.items():
        expected.memories[space][:] = memory
    expected.view(values["output"])[...] = kernel.evaluate(tensors, machine.view(values["params"]))
    _finish(host, machine, kernel, values, tensors[0], gap)
    for space, memory in machine.memories.items():
        assert (memory == expected.memories[space]).all()


def _finish(
    name: str, machine: Machine, kernel: Kernel, values: dict[str, Any], sums: Any, gap: int
) -> None:
    rows, columns, channels = sums.shape
    host = detect(name)
    padded = channels + gap
    spec, words = lower_finish(
        values,
        kernel,
        "i32",
        values["output"],
        rows=rows,
        columns=columns,
        channels=channels,
        sums_stride=4 * padded,
        context=Context([kernel], host, None),
    )
    routines = library(host)
    routines.load([spec])
    bases = {space: memory.ctypes.data for space, memory in machine.memories.items()}
    record, _ = Table([Call(spec, words)]).bind(bases, routines.addresses)
    finish = FINISH(routines.addresses[spec])
    flat = np.zeros((rows * columns, padded), np.int32)
    flat[:, :channels] = sums.reshape(-1, channels)
    for first, count in ((0, 4), (4, 0), (4, 9), (13, 2)):
        block = np.zeros((count + 1) * padded + 16, np.int32)
        block[: count * padded] = flat[first : first + count].reshape(-1)
        finish(record.ctypes.data, block.ctypes.data, first, count)


def test_an_output_stage_without_a_kernel_does_not_cast_to_another_kind():
    output = Operand.dense("spm", 0, dtypes.f32, [4, 4])
    context = Context([], detect(), None)
    with pytest.raises(NotEmittedError, match="i32 is stored as f32 without a kernel"):
        lower_finish(
            {}, None, "i32", output, rows=1, columns=4, channels=4, sums_stride=16, context=context
        )


def test_a_kernel_that_wants_a_table_must_have_one():
    kernel = Kernel.parse("(t0: i8 | table i8) -> i8: v0 = neg.i32 t0")
    a, output = (Operand.dense("spm", 100 * n, dtypes.i8, [40]) for n in range(2))
    operation = VectorOp(a=a, kernel=0, output=output)
    found = translate([(operation, operation.values())], [kernel], detect(), None)
    (reason,) = found.fallbacks["npu.vector"]
    assert reason == "its kernel takes parameters or a table that it has not"
