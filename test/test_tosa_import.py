"""TOSA read in computes what its specification says: bit for bit of integers."""

from __future__ import annotations

import numpy as np
import pytest
import tosa_cases
import tosa_reference
from tosa_support import agree, mlir_opt, reference_model, stored, tool

import npu_dialect as npu
from npu_dialect import levels
from npu_dialect.frontends import tosa
from npu_dialect.frontends.tosa.ops import TOPICS
from npu_dialect.frontends.tosa.registry import TABLE

ALL = {**tosa_cases.CASES, **tosa_cases.SMALL, **tosa_cases.FLOATS}
ROUNDS = 4


def inputs_of(text, rng, small=False):
    """Random arrays for the arguments of a function."""
    from xdsl.dialects.func import FuncOp

    from npu_dialect.tosa.text import numpy_type, parse

    (function,) = (op for op in parse(text).body.ops if isinstance(op, FuncOp))
    found = []
    for argument in function.args:
        dtype, shape = numpy_type(argument.type.element_type), argument.type.get_shape()
        if dtype == np.bool_:
            found.append(rng.random(shape) < 0.5)
        elif dtype.kind == "f":
            found.append(rng.normal(0, 3, shape).astype(np.float32))
        else:
            bits = int(rng.integers(3, 15 if small else 8 * dtype.itemsize))
            values = rng.integers(-(1 << bits) + 1, 1 << bits, shape).astype(dtype)
            found.append(np.where(values == 0, 1, values).astype(dtype) if small else values)
    return found


def run(text, inputs):
    module = tosa.load(text)
    module.verify()
    ports = levels.inputs_of(module)
    given = [
        a if a.dtype == bool else a.view(p.dtype.numpy) for a, p in zip(inputs, ports, strict=True)
    ]
    return next(iter(npu.execute(module, given).values()))


def test_every_importer_has_a_case():
    assert all(TOPICS)
    named = " ".join(ALL.values())
    without = [n for n in TABLE if f"tosa.{n} " not in named]
    assert set(without) == {"pow", "log", "rsqrt"}  # of positive numbers, below


@pytest.mark.parametrize("name", [*tosa_cases.CASES, *tosa_cases.SMALL])
def test_integers_are_those_of_the_specification(name):
    rng = np.random.default_rng(1)
    for _ in range(ROUNDS):
        inputs = inputs_of(ALL[name], rng, name in tosa_cases.SMALL)
        (expected,) = tosa_reference.run(ALL[name], inputs)
        assert agree(stored(run(ALL[name], inputs)), expected)


@pytest.mark.parametrize("name", tosa_cases.FLOATS)
def test_floats_are_close_to_those_of_the_specification(name):
    inputs = inputs_of(ALL[name], np.random.default_rng(2))
    (expected,) = tosa_reference.run(ALL[name], inputs)
    assert agree(run(ALL[name], inputs), expected)


@pytest.mark.parametrize("name", ["log", "rsqrt"])
def test_functions_of_positive_numbers_are_close(name):
    text = tosa_cases.simple(name, ["3x7xf32"], "3x7xf32")
    x = np.random.default_rng(3).uniform(0.1, 9, (3, 7)).astype(np.float32)
    assert agree(run(text, [x]), tosa_reference.run(text, [x])[0])


def test_powers_are_close():
    text = tosa_cases.simple("pow", ["3x7xf32", "1x7xf32"], "3x7xf32")
    rng = np.random.default_rng(3)
    x = [rng.uniform(0.1, 3, s).astype(np.float32) for s in ((3, 7), (1, 7))]
    assert agree(run(text, x), tosa_reference.run(text, x)[0])


@pytest.mark.skipif(tool("mlir-opt") is None, reason="mlir-opt (mlir-22-tools) is not installed")
@pytest.mark.parametrize("name", ALL)
def test_the_cases_are_what_mlir_takes(name):
    assert mlir_opt(ALL[name]) is None


@pytest.mark.skipif(tool("tosa_reference_model") is None, reason="tosa-tools are not installed")
@pytest.mark.parametrize("name", [*tosa_cases.CASES, *tosa_cases.SMALL])
def test_the_specification_in_numpy_is_the_reference_model(name, tmp_path):
    inputs = inputs_of(ALL[name], np.random.default_rng(4), name in tosa_cases.SMALL)
    (expected,) = reference_model(tmp_path, ALL[name], inputs, 1)
    assert agree(tosa_reference.run(ALL[name], inputs)[0], expected)
