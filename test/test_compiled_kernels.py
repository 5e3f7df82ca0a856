"""Kernels in native code: any straight line of micro-operations gives the bits of `evaluate`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

pytest.importorskip("llvmlite")

from tiers import agree, extremes

from npu_dialect import dtypes
from npu_dialect.dtypes import DType
from npu_dialect.kernel import MICRO_OPS, VALUE_NUMPY, Kernel, KernelBuilder, widened
from npu_dialect.machine import Machine, Operand
from npu_dialect.npu.vectors import VectorOp
from npu_dialect.numerics import ROUNDINGS
from npu_dialect.numerics.requantize import ROUNDINGS_WIDE
from npu_dialect.runtime.compiled.kernels import split
from npu_dialect.runtime.compiled.micro_ops import ROWS

Value = tuple[str, int]
Draw = st.DrawFn

SMALL = st.integers(-200, 200)
INTS = {
    "i32": st.one_of(SMALL, st.integers(-(2**31), 2**31 - 1)),
    "i64": st.one_of(SMALL, st.integers(-(2**63), 2**63 - 1)),
}
FINITE = st.one_of(
    st.sampled_from([0.0, -0.0, 1.0, 0.5, -1.5, 2.0**-149, -(2.0**-126), 3.4e38, 6.0]),
    st.floats(-(2.0**100), 2.0**100, width=32),
)
CHANNELS = 21


class Draft:
    """A kernel that grows step by step, and the values that there are so far, by type."""

    def __init__(self, draw: Draw) -> None:
        self.draw, self.builder = draw, KernelBuilder()
        self.values: dict[str, list[Value]] = {"i32": [], "i64": [], "f32": []}
        self.multipliers: list[Value] = []
        for dtype in draw(st.lists(st.sampled_from(dtypes.ALL), min_size=1, max_size=3)):
            self.values[widened(dtype)].append(self.builder.tensor(dtype))
        for kind in draw(st.lists(st.sampled_from(["i32", "f32"]), max_size=3)):
            row = self.builder.param(kind)
            self.values[kind].append(row)
            if kind == "f32":
                self.multipliers.append(row)

    def step(self, op: str, *args: Value, immediates: Sequence[Any] = ()) -> Value:
        value = self.builder.step(op, *args, immediates=immediates)
        self.values[MICRO_OPS[op].result].append(value)
        return value

    def any(self, kind: str) -> Value:
        """An earlier value; a constant where there is none."""
        if not self.values[kind]:
            number = self.draw(FINITE if kind == "f32" else INTS[kind])
            return self.step(f"const.{kind}", immediates=[number])
        return self.draw(st.sampled_from(self.values[kind]))

    def bounded(self, low: int, high: int) -> Value:
        return self.step("clamp.i32", self.any("i32"), immediates=[low, high])

    def multiplier(self) -> Value:
        """A finite scale."""
        if self.multipliers and self.draw(st.booleans()):
            return self.draw(st.sampled_from(self.multipliers))
        return self.step("const.f32", immediates=[self.draw(FINITE)])

    def grow(self) -> None:
        """One more micro-operation, with what its operands must be."""
        op = self.draw(st.sampled_from(sorted(MICRO_OPS.keys() - {"interpolate.i32"})))
        immediates = [] if op.startswith("lookup.") else self.immediates(op)
        if op in ("requantize.f32", "requantize.f32.i64"):
            args = [self.any(MICRO_OPS[op].operands[0]), self.multiplier()]
        elif op in ("requantize.fixed", "requantize.fixed.i64"):
            x = self.any(MICRO_OPS[op].operands[0])
            args = [x, self.any("i32"), self.bounded(0, 62)]
        elif op.startswith("lookup."):
            if not self.has_table(op):
                return
            immediates = [self.draw(st.sampled_from([0, 128, 5]))]
            args = [self.bounded(-immediates[0], 255 - immediates[0])]
        else:
            args = [self.any(kind) for kind in MICRO_OPS[op].operands]
        self.step(op, *args, immediates=immediates)

    def has_table(self, op: str) -> bool:
        if self.builder.table is None:
            self.builder.table = self.draw(st.sampled_from(dtypes.ALL))
        return widened(self.builder.table) == MICRO_OPS[op].result

    def immediates(self, op: str) -> list[Any]:
        draw = self.draw
        found: list[Any] = []
        if op == "requantize.fixed":
            found.append(draw(st.sampled_from(sorted(ROUNDINGS))))
        if op == "requantize.fixed.i64":
            found.append(draw(st.sampled_from(sorted(ROUNDINGS_WIDE))))
        if op.endswith(("clamp.i32", "clamp.i64", "const.i32", "const.i64")):
            return [draw(INTS[op[-3:]]) for _ in MICRO_OPS[op].immediates]
        if op.startswith("requantize."):
            ends = draw(st.sampled_from([(-128, 127), (0, 255), (-(2**31), 2**31 - 1), (5, 5)]))
            return [*found, draw(INTS["i32"]), draw(INTS["i32"]), *ends]
        if op == "quantize":
            scale = draw(FINITE.filter(lambda x: np.float32(x) != 0))
            ends = draw(st.sampled_from([(-128, 127), (0, 65535), (-(2**31), 2**31 - 1)]))
            return [scale, draw(INTS["i32"]), *ends]
        if op == "dequantize":
            return [draw(FINITE), draw(INTS["i32"])]
        return [draw(FINITE) for _ in MICRO_OPS[op].immediates]


@st.composite
def random_kernels(draw: Draw) -> Kernel:
    draft = Draft(draw)
    for _ in range(draw(st.integers(0, 6))):
        draft.grow()
    builder = draft.builder
    if not builder.steps:
        kind = widened(builder.tensors[0])
    else:
        # A tensor takes part in the last step, so that the result has its extents.
        kind = MICRO_OPS[builder.steps[-1][0]].result
        first = widened(builder.tensors[0])
        condition = ("t", 0)
        if first != "i32":
            condition = draft.step(f"cast.{first}.i32", condition)
        last = draft.values[kind][-1]
        draft.step(f"select.{kind}", condition, last, draft.any(kind))
    outputs = [d for d in dtypes.ALL if widened(d) == kind]
    return builder.build(draw(st.sampled_from(outputs)))


class Layout:
    """Operands one behind the other."""

    def __init__(self) -> None:
        self.end = 0

    def dense(self, dtype: DType, dims: Sequence[int]) -> Operand:
        address = -(-self.end // 64) * 64
        operand = Operand.dense("spm", address, dtype, dims)
        self.end = address + operand.size
        return operand


def compare(kernel: Kernel, seed: int, rows: int) -> None:
    """The kernel on some rows of numbers, as a vector instruction in both tiers."""
    rng, layout = np.random.default_rng(seed), Layout()
    dims = (rows, CHANNELS)
    tensors = [layout.dense(d, dims) for d in kernel.tensors]
    output = layout.dense(kernel.output, dims)
    operands: dict[str, Any] = dict(zip("abc", tensors, strict=False))
    data: dict[str, Any] = {n: numbers(o.dtype, rng, dims) for n, o in operands.items()}
    if kernel.params:
        operands["params"] = layout.dense(dtypes.i32, (len(kernel.params), CHANNELS))
        data["params"] = np.array([_row(kind, rng) for kind in kernel.params])
    if kernel.table is not None:
        operands["table"] = layout.dense(kernel.table, (256,))
        data["table"] = numbers(kernel.table, rng, (256,))

    def prepare(machine: Machine) -> None:
        for name, operand in operands.items():
            machine.view(operand)[...] = data[name]

    operation = VectorOp(**operands, kernel=0, output=output)
    with np.errstate(all="ignore"):
        agree(operation, kernels=[kernel], prepare=prepare, threads=[1], equal=output)


def numbers(dtype: DType, rng: np.random.Generator, dims: Sequence[int]) -> Any:
    """Extremes, and for floats ties as well."""
    count = int(np.prod(dims))
    with np.errstate(all="ignore"):
        found = extremes(dtype, rng, count)
        if dtype.is_float:
            ties = (rng.integers(-300, 300, count) + 0.5).astype(dtype.numpy)
            found = np.where(rng.random(count) < 0.2, ties, found)
    return found.reshape(dims)


def _row(kind: str, rng: np.random.Generator) -> Any:
    if kind == "i32":
        return numbers(dtypes.i32, rng, (CHANNELS,))
    scale = 2.0 ** rng.integers(-140, 60, CHANNELS) * rng.choice([1, -1, 0.7], CHANNELS)
    return scale.astype(VALUE_NUMPY[kind]).view(np.int32)


def test_every_micro_operation_has_code():
    assert MICRO_OPS.keys() <= ROWS.keys()


@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
@given(random_kernels(), st.integers(0, 2**32), st.integers(1, 3))
def test_random_kernels_give_the_same_bits(kernel: Kernel, seed: int, rows: int):
    compare(kernel, seed, rows)


REQUANTIZE = "(t0: i32; p0: i32, p1: f32) -> {}: v0 = add.i32 t0, p0; v1 = requantize.f32 v0, p1 "


def test_the_shape_is_the_same_whatever_the_numbers():
    shapes = {
        split(Kernel.parse(REQUANTIZE.format("i8") + ends))[0]
        for ends in (
            "{zero_in=0, zero_out=7, low=-128, high=127}",
            "{zero_in=0, zero_out=-3, low=0, high=100}",
        )
    }
    assert len(shapes) == 1


@pytest.mark.parametrize("rounding", sorted(ROUNDINGS))
def test_fixed_point_rounds_ties_and_extremes_alike(rounding: str):
    ends = "zero_in=0, zero_out=0, low=-2147483648, high=2147483647"
    kernel = Kernel.parse(
        "(t0: i32; p0: i32, p1: i32) -> i32: v0 = clamp.i32 p1 {low=0, high=62}; "
        f"v1 = requantize.fixed t0, p0, v0 {{rounding='{rounding}', {ends}}}"
    )
    for seed in range(3):
        compare(kernel, seed, 40)


@pytest.mark.parametrize("bounds", [(0.0, 6.0), (-0.0, 1.0), (0.0, -0.0), (-1.0, -0.0)])
def test_clamps_at_zeros_keep_their_signs(bounds: tuple[float, float]):
    low, high = bounds
    kernel = Kernel.parse(f"(t0: f32) -> f32: v0 = clamp.f32 t0 {{low={low}, high={high}}}")
    compare(kernel, 0, 20)
