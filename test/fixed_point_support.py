"""Functions between quantized tensors, rows for them, and the same functions in float64."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from mapped_groups import ModuleBuilder
from xdsl.dialects.builtin import ModuleOp
from xdsl.ir import SSAValue

from npu_dialect import graph
from npu_dialect.graph.quant import QuantType
from npu_dialect.provenance import name_location

Array = np.ndarray[Any, np.dtype[Any]]
Make = Callable[[ModuleBuilder, SSAValue], graph.GraphOp]


def function(
    make: Make, shape: tuple[int, ...], x: QuantType, y: QuantType, target: str = "edge256"
) -> ModuleOp:
    """quantize(make(dequantize(x)))."""
    build = ModuleBuilder(target, (shape, x))
    real = graph.DequantizeOp(build.args[0], location=name_location("dequantize"))
    build.block.add_op(real)
    made = make(build, real.result)
    made.location = name_location("function")
    result = graph.QuantizeOp(made.results[0], y, location=name_location("quantize"))
    build.block.add_ops([made, result])
    module = build.module(result.result)
    del module.attributes["npu.level"]  # no pass has run yet
    return module


def in_integers(module: ModuleOp) -> bool:
    return not any(isinstance(op, graph.DequantizeOp) for op in module.walk())


def rows(rng: np.random.Generator, count: int, quant: QuantType, many: int = 60) -> Array:
    """Rows of stored values: random, narrow, constant, with one element that differs."""
    low, high = quant.low, quant.high
    spread = rng.uniform(0, 60, (many, 1))
    normal = rng.normal(rng.uniform(low, high, (many, 1)), spread, (many, count))
    x = np.where(spread < 30, normal, rng.integers(low, high + 1, (many, count)))
    x = np.clip(np.rint(x), low, high)
    x[0], x[1], x[2], x[3], x[4], x[5, ::2], x[5, 1::2] = low, high, low, high, high, low, high
    x[2, 0], x[3, 0], x[4, 0] = high, low, high - 1
    return x.astype(quant.storage_dtype.numpy)


def real(x: Array, quant: QuantType) -> Array:
    return (x.astype(np.float64) - quant.zero_point) * quant.scale


def steps_off(found: Array, exact: Array, quant: QuantType) -> float:
    """How far results are from what the real numbers are in steps, as far as the type has them."""
    inside = np.clip(exact / quant.scale + quant.zero_point, quant.low, quant.high)
    return float(np.abs(found.astype(np.float64) - inside).max())


def exact_layer_norm(x: Array, quant: QuantType, gain: Array, bias: Array, epsilon: float) -> Array:
    numbers = real(x, quant)
    d = numbers - numbers.mean(-1, keepdims=True)
    variance = (d * d).mean(-1, keepdims=True)
    return d / np.sqrt(variance + float(np.float32(epsilon))) * gain + bias


def layer_norm_of(
    shape: tuple[int, ...], x: QuantType, y: QuantType, gain: Array, bias: Array, epsilon: float
) -> ModuleOp:
    def make(build: ModuleBuilder, value: SSAValue) -> graph.GraphOp:
        parameters = [build.constant(p.astype(np.float32), None) for p in (gain, bias)]
        return graph.LayerNormOp(value, *parameters, axis=len(shape) - 1, epsilon=epsilon)

    return function(make, shape, x, y)
