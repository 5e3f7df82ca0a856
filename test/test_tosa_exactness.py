"""Reciprocals, quotients and quantization that are exact though TOSA's reciprocal is not."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from xdsl.dialects.builtin import f32
from xdsl.ir import Block

from npu_dialect.graph.ranges import Ranges
from npu_dialect.tosa.text import array_of, tensor
from npu_dialect.tosa_export.emitter import Emitter
from npu_dialect.tosa_export.ops.exactness import exact_quotient, exact_reciprocal
from npu_dialect.tosa_export.ops.quantization import least

F = np.float32


def evaluate(block, inputs, off):
    """The last value of a block of floats in numpy float32; reciprocals are `off` units off."""
    values: dict[Any, Any] = dict(zip(block.args, inputs, strict=True))
    found: Any = None
    for op in block.ops:
        args = [values[v] for v in op.operands]
        values[op.results[0]] = found = OPS[op.name](op, off, *args)
        assert found.dtype in (np.float32, np.int8, bool), op.name
    return found


def reciprocal(op, off, x):
    found = F(1) / x
    return np.nextafter(found, F(np.inf) * F(np.sign(off))) if off else found


OPS = {
    "tosa.const": lambda op, off: array_of(op.properties["values"]),
    "tosa.reciprocal": reciprocal,
    "tosa.mul": lambda op, off, a, b, s: a * b,
    "tosa.add": lambda op, off, a, b: a + b,
    "tosa.sub": lambda op, off, a, b: a - b,
    "tosa.abs": lambda op, off, a: np.abs(a),
    "tosa.greater": lambda op, off, a, b: a > b,
    "tosa.greater_equal": lambda op, off, a, b: a >= b,
    "tosa.logical_and": lambda op, off, a, b: a & b,
    "tosa.select": lambda op, off, c, a, b: np.where(c, a, b),
}


def built(function, count, size=1):
    block = Block(arg_types=[tensor(f32, size)] * count)
    e = Emitter(block, Ranges(), is_open=False)
    function(e, *block.args)
    return block


@pytest.mark.parametrize("off", [-1, 0, 1])
def test_a_reciprocal_is_the_nearest_float_for_every_significand(off):
    block = built(exact_reciprocal, 1)
    for start in range(1 << 23, 1 << 24, 1 << 21):
        x = np.arange(start, start + (1 << 21)).astype(F) * F(2.0**-23)
        assert np.array_equal(evaluate(block, [x], off), F(1) / x)


@pytest.mark.parametrize("scale", [2.0**-50, 2.0**-9, 3.7, 2.0**50])
def test_a_reciprocal_is_the_nearest_float_of_moderate_numbers_of_both_signs(scale):
    x = F(scale) * np.random.default_rng(0).uniform(-1.9, 1.9, 100000).astype(F)
    x = x[np.abs(x) >= 2.0**-60]
    assert np.array_equal(evaluate(built(exact_reciprocal, 1), [x], 1), F(1) / x)


def hard_quotients(rng):
    """Numbers whose quotients are as near to the middle of two floats as any: a = (q + 1/2) b,
    rounded to the next significand.
    """
    b = rng.integers(1 << 23, 1 << 24, 200000)
    q = rng.integers(1 << 23, 1 << 24, 200000)
    a = ((2 * q + 1) * b) >> 24
    return a.astype(F), b.astype(F)


@pytest.mark.parametrize("off", [-1, 0, 1])
def test_a_quotient_is_the_nearest_float(off):
    rng = np.random.default_rng(1)
    block = built(exact_quotient, 2)
    random = [rng.normal(0, 100, 300000).astype(F) for _ in range(2)]
    for a, b in (random, hard_quotients(rng), hard_quotients(rng)):
        for sign in (F(1), F(-1)):
            assert np.array_equal(evaluate(block, [a, sign * b], off), a / (sign * b))


def test_a_quotient_of_zero_is_zero():
    zero = np.zeros(3, F)
    assert np.array_equal(evaluate(built(exact_quotient, 2), [zero, zero + F(3)], 1), zero)


@pytest.mark.parametrize("scale", [F(0.1), F(0.0039215689), F(1 / 3), F(7.3), F(0.5)])
def test_a_step_begins_where_quantization_says(scale):
    for step in range(-130, 130):
        begin = least(step, scale)
        before = np.nextafter(begin, F(-np.inf))
        assert np.rint(begin / scale) >= step > np.rint(before / scale)
