"""Control flow of TOSA: regions are written out, or are a loop of the host."""

from __future__ import annotations

import numpy as np
import pytest
from tosa_support import mlir_opt, tool

import npu_dialect as npu
from npu_dialect.diagnostics import CompileError
from npu_dialect.frontends import tosa
from npu_dialect.tosa.text import parse, to_text

F32 = "tensor<4xf32>"
BINARY = "(tensor<4xf32>, tensor<4xf32>) -> tensor<4xf32>"
COUNT = "(tensor<i32>, tensor<i32>) -> tensor<i32>"

CHOICE = f"""func.func @main(%c: tensor<i1>, %x: {F32}, %y: {F32}) -> {F32} {{
  %r = tosa.cond_if %c (%a = %x) : tensor<i1> ({F32}) -> {F32} {{
  ^bb0(%a: {F32}):
    %0 = tosa.add %a, %y : {BINARY}
    tosa.yield %0 : {F32}
  }} else {{
  ^bb0(%b: {F32}):
    tosa.yield %y : {F32}
  }}
  return %r : {F32}
}}
"""
PLAIN_CHOICE = f"""func.func @main(%c: tensor<i1>, %x: {F32}, %y: {F32}) -> {F32} {{
  %r = "tosa.cond_if"(%c) ({{
    %0 = tosa.add %x, %y : {BINARY}
    "tosa.yield"(%0) : ({F32}) -> ()
  }}, {{
    "tosa.yield"(%y) : ({F32}) -> ()
  }}) : (tensor<i1>) -> {F32}
  return %r : {F32}
}}
"""


def constant(value: int) -> str:
    return f'"tosa.const"() <{{values = dense<{value}> : tensor<i32>}}> : () -> tensor<i32>'


def loop(start: str) -> str:
    """x = x + y and i = i + 1 while i < 5, from `start`."""
    return f"""func.func @main(%i: tensor<i32>, %x: {F32}, %y: {F32}) -> ({F32}, tensor<i32>) {{
  %zero = {constant(0)}
  %step = {constant(1)}
  %r:2 = tosa.while_loop (%j = %{start}, %a = %x) : (tensor<i32>, {F32}) -> (tensor<i32>, {F32}) {{
    %n = {constant(5)}
    %g = tosa.greater %n, %j : (tensor<i32>, tensor<i32>) -> tensor<i1>
    tosa.yield %g : tensor<i1>
  }} do {{
  ^bb0(%k: tensor<i32>, %b: {F32}):
    %m = tosa.add %k, %step : {COUNT}
    %c = tosa.add %b, %y : {BINARY}
    tosa.yield %m, %c : tensor<i32>, {F32}
  }}
  return %r#1, %r#0 : {F32}, tensor<i32>
}}
"""


def floats(*values: float) -> np.ndarray:
    return np.resize(np.array(values, np.float32), 4)


def names(text: str) -> list[str]:
    return [op.name for op in tosa.load(text).walk()]


@pytest.mark.parametrize("text", [CHOICE, PLAIN_CHOICE])
@pytest.mark.parametrize("holds", [True, False])
def test_a_choice_at_run_time_computes_both(text: str, holds: bool) -> None:
    x, y = floats(1, 2), floats(0.5, -3)
    found = npu.execute(tosa.load(text), [np.array(holds), x, y])
    np.testing.assert_array_equal(next(iter(found.values())), x + y if holds else y)


def test_a_choice_that_is_known_is_one_region() -> None:
    truth = '"tosa.const"() <{values = dense<true> : tensor<i1>}> : () -> tensor<i1>'
    text = CHOICE.replace("  %r = tosa.cond_if %c", f"  %t = {truth}\n  %r = tosa.cond_if %t")
    assert "graph.where" not in names(text)


@pytest.mark.parametrize("start", [-2, 3, 5, 9])
def test_a_loop_of_an_unknown_number_of_steps_is_the_hosts(start: int) -> None:
    assert "graph.opaque" in names(loop("i"))
    x, y = floats(1, 2), floats(0.5, -3)
    module = npu.load(tosa.load(loop("i")), target="mobile4k")
    expected = x.copy()
    for _ in range(start, 5):
        expected = expected + y
    for level in (None, "graph", "tile", "npu"):
        if level:
            npu.lower(module, until=level)
        found = list(npu.execute(module, [np.array(start, np.int32), x, y]).values())
        np.testing.assert_array_equal(found[0], expected)
        assert found[1] == max(start, 5)


def test_a_loop_of_a_known_number_of_steps_is_written_out() -> None:
    found = names(loop("zero"))
    assert "graph.opaque" not in found
    assert found.count("graph.add") == 5
    x, y = floats(1, 2), floats(0.25, -3)
    results = npu.execute(tosa.load(loop("zero")), [np.array(7, np.int32), x, y]).values()
    np.testing.assert_array_equal(next(iter(results)), x + y + y + y + y + y)


def test_stored_numbers_keep_their_zero_points_through_regions() -> None:
    i8 = "tensor<4xi8>"
    flags = "rounding_mode = SINGLE_ROUND, scale32 = true, per_channel = false"
    signs = "input_unsigned = false, output_unsigned = false"
    kinds = f"({i8}, tensor<1xi32>, tensor<1xi8>, tensor<1xi8>, tensor<1xi8>) -> {i8}"
    text = f"""func.func @main(%c: tensor<i1>, %x: {i8}) -> {i8} {{
  %m = "tosa.const"() <{{values = dense<1073741824> : tensor<1xi32>}}> : () -> tensor<1xi32>
  %s = "tosa.const"() <{{values = dense<31> : tensor<1xi8>}}> : () -> tensor<1xi8>
  %z = "tosa.const"() <{{values = dense<5> : tensor<1xi8>}}> : () -> tensor<1xi8>
  %r = tosa.cond_if %c (%a = %x) : tensor<i1> ({i8}) -> {i8} {{
  ^bb0(%a: {i8}):
    %0 = tosa.rescale %a, %m, %s, %z, %z {{{flags}, {signs}}} : {kinds}
    tosa.yield %0 : {i8}
  }} else {{
  ^bb0(%b: {i8}):
    tosa.yield %b : {i8}
  }}
  return %r : {i8}
}}
"""
    x = np.array([-128, 4, 7, 127], np.int8)
    for holds in (True, False):
        found = next(iter(npu.execute(tosa.load(text), [np.array(holds), x]).values()))
        halves = np.floor((x.astype(np.int64) - 5) / 2 + 0.5) + 5
        np.testing.assert_array_equal(found, halves if holds else x)


TEXTS = {"choice": CHOICE, "plain choice": PLAIN_CHOICE, "loop": loop("i")}


@pytest.mark.parametrize("name", TEXTS)
def test_what_is_printed_is_read_again(name: str) -> None:
    printed = to_text(parse(TEXTS[name]))
    assert to_text(parse(printed)) == printed


@pytest.mark.skipif(tool("mlir-opt") is None, reason="mlir-opt (mlir-22-tools) is not installed")
@pytest.mark.parametrize("name", TEXTS)
def test_mlir_takes_what_is_printed(name: str) -> None:
    assert mlir_opt(to_text(parse(TEXTS[name]))) is None


def test_variables_in_regions_are_refused() -> None:
    body = f"    %v = tosa.variable_read @v : {F32}\n    tosa.yield %v : {F32}"
    choice = CHOICE.replace(f"    tosa.yield %y : {F32}", body)
    text = f"tosa.variable @v = dense<0.0> : {F32}\n{choice}"
    with pytest.raises(CompileError, match="found variables in its regions"):
        tosa.load(text)


WRONG = {
    "a region that yields nothing": (
        CHOICE.replace(f"    tosa.yield %y : {F32}\n", "    tosa.yield\n"),
        "0 values for 1 results",
    ),
    "a region of other arguments": (
        CHOICE.replace(f"  ^bb0(%b: {F32}):\n", ""), "a region of 1 blocks for 1 values",
    ),
    "a condition of several results": (
        loop("i").replace("yield %g : tensor<i1>", "yield %g, %g : tensor<i1>, tensor<i1>"),
        "a condition of 2 results",
    ),
    "a condition that is none": (
        loop("i").replace("yield %g : tensor<i1>", "yield %n : tensor<i32>"),
        "a condition that is no truth value",
    ),
    "results of another number": (
        loop("i").replace(f"-> (tensor<i32>, {F32}) {{", "-> (tensor<i32>) {").replace(
            "%r:2", "%r").replace(f"return %r#1, %r#0 : {F32}", f"return %x, %r : {F32}"),
        "1 results of 2 values",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_regions_that_do_not_fit_are_refused(name: str) -> None:
    text, expected = WRONG[name]
    with pytest.raises(CompileError) as found:
        tosa.load(text)
    assert expected in str(found.value)
