"""TOSA read in computes what its specification says: bit for bit of integers."""

# ruff: noqa: E501  (lines of MLIR are as long as they are)

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest
import tosa_cases
import tosa_reference
from tosa_mutations import mutated
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
        type: Any = argument.type
        dtype, shape = numpy_type(type.element_type), type.get_shape()
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


# What is refused

ADD = tosa_cases.simple("add", ["3x7xi32", "1x7xi32"], "3x7xi32")
RESCALE = tosa_cases.CASES["rescale_i8_i32"]
WRONG = {
    "an open dimension": (
        tosa_cases.simple("clamp", ["?x7xi8"], "?x7xi8", "{max_val = 9 : i8, min_val = 0 : i8}"),
        "error[NPU0104]: a: every dimension of an input must be known; found ['?', 7]; "
        "try --shape a=1,7",
    ),
    "an operation of another dialect": (
        ADD.replace("tosa.add %a, %b ", '"arith.addi"(%a, %b) ').replace("tensor<1x7", "tensor<3x7"),
        "operations must be of TOSA 1.0; found arith.addi",
    ),
    "an operation without an equivalent": (
        tosa_cases.simple(
            "custom", ["4xf32"], "4xf32",
            '{operator_name = "f", domain_name = "d", implementation_attrs = ""}',
        ),
        "tosa.custom must be expressible in graph",
    ),
    "a function of several blocks": (
        ADD.replace("  return", "^bb1:\n  return"), "found a function of several blocks",
    ),
    "a rounding mode that is the machine's": (
        RESCALE.replace("SINGLE_ROUND", "INEXACT_ROUND"),
        "the rounding mode INEXACT_ROUND, which every machine defines for itself",
    ),
    "a result of another shape": (
        ADD.replace("-> tensor<3x7xi32>", "-> tensor<3x8xi32>").replace("%r : tensor<3x7", "%r : tensor<3x8"),
        "found i32 [3, 7], where i32 [3, 8] is stated",
    ),
    "an operand too few": (
        "func.func @main(%a: tensor<4xi32>) -> tensor<4xi32> {\n"
        "  %r = tosa.add %a : (tensor<4xi32>) -> tensor<4xi32>\n  return %r : tensor<4xi32>\n}\n",
        "found tosa.add of 1 operands",
    ),
    "an attribute that is missing": (
        tosa_cases.simple("reverse", ["3x7xi8"], "3x7xi8", "{}"), "tosa.reverse without axis",
    ),
    "an attribute of older text": (
        tosa_cases.simple("reverse", ["3x7xi8"], "3x7xi8", "{axis = 1 : i32, quantization_info = 1}"),
        "tosa.reverse with the attribute quantization_info",
    ),
    "NaN passed over": (
        tosa_cases.simple("maximum", ["3x7xf32", "1x7xf32"], "3x7xf32", "{nan_mode = IGNORE}"),
        "floats of which NaN is passed over (IGNORE)",
    ),
    "a string without an end": ('func.func @main() { "tosa.add<{values = 1}>', "must be valid IR"),
    "a constant of a few bytes that is large": (
        'func.func @main() -> tensor<99999999999xi8> {\n  %r = "tosa.const"() <{values = dense<0> : '
        "tensor<99999999999xi8>}> : () -> tensor<99999999999xi8>\n  return %r : "
        "tensor<99999999999xi8>\n}\n",
        "a constant of at most",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_what_cannot_be_read_is_refused_with_the_reason(name):
    text, expected = WRONG[name]
    with pytest.raises(npu.CompileError) as found:
        tosa.load(text)
    assert expected in str(found.value)


@pytest.mark.parametrize("seed", range(4))
def test_text_with_random_defects_is_read_or_refused(seed):
    rng = random.Random(seed)
    for _ in range(60):
        text = mutated(ALL[rng.choice(list(ALL))], rng)
        try:
            tosa.load(text).verify()
        except npu.CompileError as problem:
            assert len(str(problem).splitlines()) == 1


def test_an_open_dimension_is_bound_by_name():
    text, _ = WRONG["an open dimension"]
    module = tosa.load(text, shapes={"a": (2, 7)})
    assert levels.inputs_of(module)[0].shape == (2, 7)


def test_the_generic_form_is_the_same():
    text = tosa_cases.CASES["rescale_i8_i32"]
    head, _, tail = text.partition("tosa.rescale %a, %m, %s, %zi, %zo {")
    attributes, _, rest = tail.partition("}")
    attributes = attributes.replace("SINGLE_ROUND", "#tosa.rounding_mode<SINGLE_ROUND>")
    generic = f'{head}"tosa.rescale"(%a, %m, %s, %zi, %zo) <{{{attributes}}}>{rest}'
    assert str(tosa.load(generic)) == str(tosa.load(text))


def test_hexadecimal_floats_are_bits_as_in_mlir():
    text = (
        "func.func @main() -> tensor<3xf32> {\n"
        '  %r = "tosa.const"() <{values = dense<[0x7F800000, 1.5, 0x80000000]> : tensor<3xf32>}> '
        ": () -> tensor<3xf32>\n  return %r : tensor<3xf32>\n}\n"
    )
    (found,) = npu.execute(tosa.load(text), []).values()
    assert found.view(np.uint32).tolist() == [0x7F800000, 0x3FC00000, 0x80000000]


def test_numbers_of_48_bits_in_bytes_have_six():
    from npu_dialect.tosa.text import array_of, parse

    text = '"tosa.const"() <{values = dense<"0xFFFFFFFFFFFF010000000080"> : tensor<2xi48>}> '
    (op,) = parse(f"%0 = {text}: () -> tensor<2xi48>").body.ops
    assert array_of(op.properties["values"]).tolist() == [-1, 1 - 2**47]


def test_variables_are_states():
    text = (
        "tosa.variable @s = dense<7> : tensor<1x4xi8>\n"
        "func.func @main(%x: tensor<1x4xi8>) -> tensor<1x4xi8> {\n"
        "  %0 = tosa.variable_read @s : tensor<1x4xi8>\n"
        "  tosa.variable_write @s, %x : tensor<1x4xi8>\n"
        "  return %0 : tensor<1x4xi8>\n}\n"
    )
    module, state = tosa.load(text), {}
    x = np.arange(4, dtype=np.int8)[None]
    first = next(iter(npu.execute(module, [x], state=state).values()))
    second = next(iter(npu.execute(module, [x], state=state).values()))
    assert first.tolist() == [[7] * 4] and second.tolist() == x.tolist()


def test_our_own_text_is_not_taken_for_tosa():
    assert not tosa.holds('func.func @main() attributes {npu.input_names = ["tosa.add (x)"]} {\n}')
    assert not tosa.holds("%0 = graph.add %1, %2 : ... // tosa.add %a")
    assert tosa.holds(ADD)
    assert tosa.holds('%0 = "tosa.const"() <{values = dense<1> : tensor<1xi8>}>')
