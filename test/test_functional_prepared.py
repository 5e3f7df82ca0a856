"""Array instructions that are made ready against their definition: sums, then the kernel."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from npu_dialect import functional
from npu_dialect.dtypes import i8, i32, u8
from npu_dialect.functional.products import Products
from npu_dialect.kernel import Kernel
from npu_dialect.machine import Machine, Operand
from npu_dialect.npu.arrays import ArrayInstruction, Conv2DOp, DepthwiseConv2DOp, MatmulOp
from npu_dialect.target import load_target

dense = Operand.dense
REQUANTIZE = Kernel.parse(
    "(t0: i32; p0: i32, p1: f32) -> u8: v0 = add.i32 t0, p0; "
    "v1 = requantize.f32 v0, p1 {zero_in=0, zero_out=9, low=0, high=255}"
)
FIELDS: dict[str, Any] = {"strides": (1, 1), "dilations": (1, 1), "pads": (1, 1)}
ZEROS: dict[str, Any] = {"x_zero": 130, "w_zero": -3}


def products(name: str) -> Products:
    if name == "numpy":
        return Products()
    pytest.importorskip("torch", reason="torch is not installed: its products are not tested")
    from npu_dialect.functional.torch_products import TorchProducts

    return TorchProducts(great=0)


def instruction(kind: str, **fields: Any) -> ArrayInstruction:
    """With params as rows [2, 1]: one bias and one multiplier for all channels."""
    fields |= ZEROS | {"accumulate": 0, "kernel": 0}
    fields["params"] = dense("spm", 60000, i32, [2, 1])
    if kind == "matmul":
        a, b = dense("spm", 0, u8, [9, 70]), dense("spm", 16384, i8, [70, 24])
        return MatmulOp(input=a, weights=b, output=dense("spm", 40000, u8, [9, 24]), **fields)
    x, out = dense("spm", 0, u8, [9, 8, 70]), dense("spm", 40000, u8, [9, 8, 24])
    if kind == "conv2d":
        w = dense("spm", 16384, i8, [3, 3, 70, 24])
        return Conv2DOp(input=x, weights=w, output=out, **fields, **FIELDS)
    w, out = dense("spm", 16384, i8, [3, 3, 70]), dense("spm", 40000, u8, [9, 8, 70])
    return DepthwiseConv2DOp(input=x, weights=w, output=out, **fields, **FIELDS)


def definition(machine: Machine, op: ArrayInstruction) -> np.ndarray:
    values = op.values()
    x, w = (machine.view(values[n]) for n in ("input", "weights"))
    if isinstance(op, MatmulOp):
        sums = functional.matmul(x, w, **ZEROS)
    else:
        depthwise = isinstance(op, DepthwiseConv2DOp)
        function = functional.depthwise_conv2d if depthwise else functional.conv2d
        sums = function(x[None], w, pads=(1, 1, 0, 0), out_hw=(9, 8), **ZEROS)[0]
    return REQUANTIZE.evaluate([sums], machine.view(values["params"]))


def fill(machine: Machine, op: ArrayInstruction, seed: int) -> None:
    values, rng = op.values(), np.random.default_rng(seed)
    machine.view(values["input"])[...] = rng.integers(0, 256, values["input"].dims)
    machine.view(values["weights"])[...] = rng.integers(-128, 128, values["weights"].dims)
    params = machine.view(values["params"])
    params[0] = rng.integers(-5000, 5000)
    params[1] = np.float32(rng.uniform(1e-5, 1e-2)).view(np.int32)


@pytest.mark.parametrize("name", ["numpy", "torch"])
@pytest.mark.parametrize("kind", ["conv2d", "depthwise_conv2d", "matmul"])
def test_changed_weights_and_parameters_are_noticed_every_time(kind: str, name: str) -> None:
    machine = Machine(load_target("edge256"), 4096, [REQUANTIZE], products=products(name))
    op = instruction(kind)
    values = op.values()
    for seed in (1, 1, 2, 2, 1, 3, 3, 4):
        fill(machine, op, seed)
        op.execute(machine, values)
        assert np.array_equal(machine.view(values["output"]), definition(machine, op))


@pytest.mark.parametrize("name", ["numpy", "torch"])
@pytest.mark.parametrize("kind", ["conv2d", "depthwise_conv2d", "matmul"])
def test_partial_sums_are_those_of_the_definition_and_wrap(kind: str, name: str) -> None:
    machine = Machine(load_target("edge256"), 4096, [REQUANTIZE], products=products(name))
    op = instruction(kind)
    fill(machine, op, 5)
    partial = dense("acc", 0, i32, op.values()["output"].dims)
    op = op.with_values(output=None, kernel=None, params=None, partial=partial)
    op.execute(machine, op.values())
    first = machine.view(partial).copy()
    start = np.int32(2**31 - 1) - np.abs(first) // 2
    machine.view(partial)[...] = start
    op = op.with_values(accumulate=1)
    op.execute(machine, op.values())
    wrapped = (start.astype(np.int64) + first).astype(np.int32)
    assert np.array_equal(machine.view(partial), wrapped)
    assert (wrapped < 0).any()
