"""Graph as TOSA computes the same: bit for bit of integers, or it says why not."""

from __future__ import annotations

import numpy as np
import pytest
import tosa_reference
from hypothesis import given, settings
from hypothesis import strategies as st
from random_graphs import INTEGER_TYPES, TYPES, WIDE
from tosa_support import agree, is_finite, mlir_opt, parts, stored, tool
from xdsl.dialects.builtin import ModuleOp, TensorType
from xdsl.dialects.func import FuncOp, ReturnOp
from xdsl.ir import Block, Region

import npu_dialect as npu
from npu_dialect import dtypes, exchange, graph, text, tosa_export
from npu_dialect.diagnostics import Code, CompileError, collect
from npu_dialect.frontends import tosa
from npu_dialect.graph.attributes import ROUNDINGS
from npu_dialect.graph.base import GraphOp
from npu_dialect.tosa.text import to_text
from npu_dialect.tosa_export.ops import TOPICS
from npu_dialect.tosa_export.registry import TABLE

KINDS = {
    "all": TYPES, "integers": INTEGER_TYPES, "wide": WIDE, "floats": (dtypes.f32,),
    "quantized": (dtypes.i8, dtypes.u8, dtypes.i32),
}  # fmt: skip
COMPOSITE = {
    graph.SoftmaxOp, graph.LogSoftmaxOp, graph.ReduceMeanOp, graph.LayerNormOp, graph.BatchNormOp,
}  # fmt: skip
WITHOUT_RULE = {graph.GroupOp, graph.YieldOp, graph.OpaqueOp, graph.ConstantOp, graph.LSTMOp,
                graph.GRUOp, graph.RNNOp}  # fmt: skip


def exported(module, *, is_open=False):
    with collect():
        return to_text(tosa_export.export(module, is_open=is_open))


def of(source):
    """The TOSA text of a function in graph."""
    return exported(text.parse(source))


def check(module, inputs, expected):
    """The text computes what graph does, and so does what is read back from it."""
    try:
        made = exported(module)
    except CompileError:
        return
    (found,) = tosa_reference.run(made, [stored(a) for a in inputs])
    assert agree(found, expected), made
    back = next(iter(npu.execute(tosa.load(made), inputs).values()))
    assert agree(stored(back), expected), made


def test_every_operation_of_graph_has_a_rule_or_is_known_to_have_none():
    assert all(TOPICS)
    assert set(graph.OPS) - set(TABLE) - COMPOSITE == WITHOUT_RULE


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=5, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), depth=st.integers(0, 3))
def test_parts_of_random_graphs_compute_the_same_or_are_refused(kind, seed, depth):
    for module, inputs, (expected,) in parts(seed, KINDS[kind], size=5, depth=depth):
        if is_finite([*inputs, expected]):
            check(module, inputs, expected)


@pytest.mark.skipif(tool("mlir-opt") is None, reason="mlir-opt (mlir-22-tools) is not installed")
@pytest.mark.parametrize("seed", range(10))
def test_mlir_takes_parts_of_random_graphs(seed):
    for module, _, _ in parts(seed, TYPES):
        try:
            made = exported(module, is_open=True)
        except CompileError:
            continue
        assert mlir_opt(made) is None, made


# Requantization, at the ends of what TOSA takes

RECIPES = st.builds(
    lambda m, s, r: graph.requant_fixed(m, s, r),
    st.lists(st.integers(0, 2**31 - 1), min_size=3, max_size=3),
    st.lists(st.integers(0, 62), min_size=3, max_size=3),
    st.sampled_from(["half_up", "half_even", "half_away", "double"]),
)


@settings(max_examples=40, deadline=None)
@given(
    recipe=RECIPES,
    zero=st.integers(-128, 127),
    numbers=st.lists(st.integers(-(2**15), 2**15 - 1), min_size=6, max_size=6),
    wide=st.booleans(),
)
def test_rescaling_is_exact_or_refused(recipe, zero, numbers, wide):
    source = graph.uniform(dtypes.i16, 0.5) if wide else graph.uniform(dtypes.i8, 0.5, 3)
    array = np.array(numbers).reshape(2, 3).astype(source.storage_dtype.numpy)
    _requantized(array, source, recipe, graph.uniform(dtypes.i8, 0.1, zero))


@settings(max_examples=20, deadline=None)
@given(
    multiplier=st.integers(2**30, 2**31 - 1),
    shift=st.integers(31, 50),
    rounding=st.sampled_from(["half_up", "half_even", "half_away", "double"]),
    numbers=st.lists(st.integers(-(2**31), 2**31 - 1), min_size=6, max_size=6),
)
def test_rescaling_of_all_of_i32_is_exact(multiplier, shift, rounding, numbers):
    recipe = graph.requant_fixed(multiplier, shift, rounding)
    array = np.array(numbers, np.int64).astype(np.int32).reshape(2, 3)
    element = dtypes.element_type(dtypes.i32)
    _requantized(array, element, recipe, graph.uniform(dtypes.i8, 0.1, -7))


def _requantized(array, source, recipe, target):
    from xdsl.dialects.builtin import FunctionType, ModuleOp
    from xdsl.dialects.func import FuncOp, ReturnOp
    from xdsl.ir import Block, Region

    from npu_dialect.provenance import name_location

    block = Block(arg_types=[graph.tensor_type(array.shape, source)])
    op = graph.RequantizeOp(block.args[0], recipe, target, name_location("q"))
    block.add_ops([op, ReturnOp(op.result)])
    kind = FunctionType.from_lists(block.arg_types, [op.result.type])
    check(ModuleOp([FuncOp("main", kind, Region(block))]), [array], op.evaluate(array)[0])


@pytest.mark.parametrize("rounding", ["half_up", "half_even", "half_away", "double"])
def test_the_least_number_of_32_bits_is_rescaled(rounding):
    array = np.array([[-(2**31), -(2**31) + 1, 2**31 - 1]], np.int32)
    recipe = graph.requant_fixed([2**30, 2**30 + 1, 2**31 - 1], [54, 55, 33], rounding)
    element = dtypes.element_type(dtypes.i32)
    _requantized(array, element, recipe, graph.uniform(dtypes.i8, 0.1, -7))
    _requantized(array[:, ::-1].copy(), element, recipe, graph.uniform(dtypes.i8, 0.1, -7))


def test_ties_of_both_signs_are_rounded_as_graph_says():
    recipe = {r: graph.requant_fixed(1 << 30, 31, r) for r in ROUNDINGS}
    array = np.array([[-5, -3, -1, 1, 3, 5]], np.int16)
    for each in recipe.values():
        _requantized(array, graph.uniform(dtypes.i16, 1.0), each, graph.uniform(dtypes.i8, 1.0))


# Integers that wrap and saturate

EDGES = np.array([[-(2**31), -(2**31) + 1, -1, 0, 1, 2**30, 2**31 - 2, 2**31 - 1]], np.int32)
WRAPS = {
    "a sum": "graph.add %x, %y : (tensor<8x8xi32>, tensor<8x8xi32>) -> tensor<8x8xi32>",
    "a difference": "graph.sub %x, %y : (tensor<8x8xi32>, tensor<8x8xi32>) -> tensor<8x8xi32>",
    "the high half of a product": 'graph.rescale %x, %y {shift = 31, rounding = "half_up"} : '
    "(tensor<8x8xi32>, tensor<8x8xi32>) -> tensor<8x8xi32>",
    "a saturated shift": "graph.requantize %x {recipe = #graph.requant<fixed, [4], [0], half_up>} :"
    " (tensor<8x8xi32>) -> tensor<8x8xi32>",
}


@pytest.mark.parametrize("name", WRAPS)
def test_overflow_is_that_of_graph(name):
    module = text.parse(
        "func.func @main(%x: tensor<8x8xi32>, %y: tensor<8x8xi32>) -> tensor<8x8xi32> {\n"
        f'  %0 = {WRAPS[name]} loc("op")\n  func.return %0 : tensor<8x8xi32>\n}}'
    )
    x, y = (np.ascontiguousarray(a) for a in np.broadcast_arrays(EDGES, EDGES.T))
    (op,) = (op for op in module.walk() if isinstance(op, GraphOp))
    (expected,) = op.evaluate(*(x, y)[: len(op.operands)])
    (found,) = tosa_reference.run(exported(module), [x, y])
    assert agree(found, expected)


def test_a_product_with_a_power_of_two_wraps():
    module = text.parse(
        "func.func @main(%x: tensor<1x8xi32>) -> tensor<1x8xi32> {\n"
        "  %c = graph.constant {value = #graph.blob<i32, [], [4096]>} : () -> tensor<i32> "
        'loc("c")\n'
        "  %0 = graph.mul %x, %c : (tensor<1x8xi32>, tensor<i32>) -> tensor<1x8xi32> "
        'loc("op")\n  func.return %0 : tensor<1x8xi32>\n}'
    )
    (found,) = tosa_reference.run(exported(module), [EDGES])
    assert agree(found, (EDGES.astype(np.int64) << 12).astype(np.int32))


# Limits of level 8K: 6 dimensions, and lists of 6 sizes


def built(*operations, shape, dtype=dtypes.i8):
    """A function of one argument, and of operations that make each of the one before."""
    block = Block(arg_types=[TensorType(dtypes.element_type(dtype), shape)])
    value = block.args[0]
    for make in operations:
        value = make(value).results[0]
        block.add_op(value.owner)
    block.add_op(ReturnOp(value))
    types = [block.args[0].type], [value.type]
    return ModuleOp([FuncOp("main", types, Region(block))])


BORDERS = {
    (1, 3, 4, 2): ((0, 1, 2, 0), (0, 0, 1, 0)),
    (2, 3, 4, 2): ((0, 1, 2, 0), (0, 3, 1, 0)),
    (2, 3, 1, 2, 2): ((1, 0, 1, 0, 1), (0, 1, 0, 2, 0)),
    (5, 2, 3, 2): ((0, 0, 0, 1), (0, 0, 0, 0)),
}


@pytest.mark.parametrize("shape", BORDERS)
def test_borders_of_more_than_three_dimensions_fit_level_8k(shape):
    low, high = BORDERS[shape]
    module = built(lambda x: graph.PadOp(x, low, high, 7), shape=shape)
    x = np.random.default_rng(0).integers(-128, 128, shape, np.int8)
    made = exported(module)
    (found,) = tosa_reference.run(made, [x])
    expected = np.pad(x, list(zip(low, high, strict=True)), constant_values=7)
    np.testing.assert_array_equal(found, expected)
    assert tool("mlir-opt") is None or mlir_opt(made) is None


def test_repetitions_of_more_than_six_dimensions_fit_level_8k():
    ones, twos = (1, 1, 3, 1, 4, 1, 2, 1), (1, 1, 3, 2, 4, 2, 2, 1)
    module = built(
        lambda x: graph.ReshapeOp(x, ones),
        lambda x: graph.BroadcastToOp(x, twos),
        lambda x: graph.ReshapeOp(x, (1, 6, 8, 2)),
        shape=(1, 3, 4, 2),
    )
    x = np.random.default_rng(0).integers(-128, 128, (1, 3, 4, 2), np.int8)
    made = exported(module)
    (found,) = tosa_reference.run(made, [x])
    np.testing.assert_array_equal(found, x.repeat(2, 1).repeat(2, 2))
    assert tool("mlir-opt") is None or mlir_opt(made) is None


def test_other_operations_of_more_than_six_dimensions_are_refused():
    shape = (1, 2, 1, 2, 1, 2, 1)
    steps = (lambda x: graph.ReshapeOp(x, shape)), graph.NegOp
    module = built(*steps, shape=(2, 2, 2), dtype=dtypes.i32)
    with pytest.raises(CompileError, match="a tensor of 7 dimensions; try 6, which TOSA has"):
        exported(module)


# What is refused

REFUSED = {
    "an input of 64 bits": (
        "func.func @main(%x: tensor<4xi64>) -> tensor<4xi64> {\n"
        "  func.return %x : tensor<4xi64>\n}",
        "whole numbers of 64 bits",
    ),
    "a product that may leave 32 bits": (
        "func.func @main(%x: tensor<4xi32>) -> tensor<4xi32> {\n"
        "  %0 = graph.mul %x, %x : (tensor<4xi32>, tensor<4xi32>) -> tensor<4xi32> "
        'loc("product")\n'
        "  func.return %0 : tensor<4xi32>\n}",
        "product: graph.mul must be expressible in TOSA, bit for bit where it is of integers; "
        "found results from -4611686016279904256 to 4611686018427387904, which 32 bits cannot hold",
    ),
    "integers of an exponential": (
        "func.func @main(%x: tensor<4xf32>) -> tensor<4xi32> {\n"
        "  %0 = graph.exp %x : (tensor<4xf32>) -> tensor<4xf32> loc(\"e\")\n"
        "  %1 = graph.cast %0 : (tensor<4xf32>) -> tensor<4xi32> loc(\"c\")\n"
        "  func.return %1 : tensor<4xi32>\n}",
        "e: graph.exp must be expressible in TOSA, bit for bit where it is of integers; found exp, "
        "on which integers of the model depend; try --tosa-open",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_tosa_cannot_express_is_refused_by_name(name):
    source, expected = REFUSED[name]
    with pytest.raises(CompileError) as found:
        of(source)
    assert expected in str(found.value)


def test_what_tosa_leaves_open_is_allowed_with_a_warning():
    source, _ = REFUSED["integers of an exponential"]
    with collect() as records:
        made = to_text(tosa_export.export(text.parse(source), is_open=True))
    assert "tosa.exp" in made
    assert [r.code for r in records] == [Code.APPROXIMATION]


def test_floats_that_no_integer_depends_on_are_written_with_a_warning():
    source = (
        "func.func @main(%x: tensor<4xf32>) -> tensor<4xf32> {\n"
        '  %0 = graph.tanh %x : (tensor<4xf32>) -> tensor<4xf32> loc("t")\n'
        "  func.return %0 : tensor<4xf32>\n}"
    )
    with collect() as records:
        tosa_export.export(text.parse(source))
    assert ["tanh, which the specification of TOSA leaves open" in str(r) for r in records] == [
        True
    ]


def test_a_lowered_module_is_refused():
    source, _ = REFUSED["an input of 64 bits"]
    module = text.parse(source.replace("i64", "f32"))
    npu.lower(module, until="graph")
    with pytest.raises(CompileError, match="only a module as it was imported"):
        exchange.to_tosa(module)


def test_operations_keep_their_source_and_ports_their_names():
    module = text.parse(
        "func.func @main(%x: tensor<4x!quant.uniform<i8:f32, 0.5:3>>) -> tensor<4xf32> attributes "
        '{npu.input_names = ["in"], npu.output_names = ["out"]} {\n'
        "  %0 = graph.dequantize %x : (tensor<4x!quant.uniform<i8:f32, 0.5:3>>) -> tensor<4xf32> "
        'loc("layer")\n  func.return %0 : tensor<4xf32>\n}'
    )
    made = to_text(tosa_export.export(module), locations=True)
    back = tosa.load(made)
    ops = [op for op in back.walk() if isinstance(op, GraphOp)]
    assert {npu.provenance.sources(op) for op in ops} == {("layer",)}
    function = npu.levels.main(back)
    assert npu.levels.input_names(function) == ["in"]
    assert npu.levels.result_names(function) == ["out"]
    assert str(function.args[0].type) == "tensor<4x!quant.uniform<i8:f32, 0.5:3>>"
