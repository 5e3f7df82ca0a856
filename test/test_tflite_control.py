"""Subgraphs of TFLite: IF, WHILE, CALL and CALL_ONCE give the bits of the reference kernels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import npu_dialect as npu
from npu_dialect.diagnostics import CompileError, collect

pytest.importorskip("tflite")
pytest.importorskip("ai_edge_litert")

from tflite_graphs import Graph, Models, options, session
from tflite_models import Array, first_operator, schema

from npu_dialect.frontends import tflite

SHAPE = (2, 3)
BOOL, F32, I32 = "bool", "float32", "int32"


def ops(source: bytes) -> list[str]:
    """The operations of the main function, as imported."""
    module = tflite.load(source)
    (function,) = module.ops
    return [op.name for op in function.regions[0].block.ops]


def compare(source: bytes, *runs: list[Array]) -> None:
    """The bits of the reference at all levels, in runs that keep the variables."""
    call = session(source)
    expected = [call(inputs) for inputs in runs]
    module = npu.load(tflite.load(source), target="mobile4k")
    for level in (None, "graph", "tile", "npu"):
        if level:
            npu.lower(module, until=level)
        state: dict[str, Any] = {}
        for inputs, wanted in zip(runs, expected, strict=True):
            found = list(npu.execute(module, inputs, state=state).values())
            for a, b in zip(found, wanted, strict=False):
                np.testing.assert_array_equal(a, b, str(level))


def floats(*values: float) -> Array:
    return np.resize(np.array(values, np.float32), SHAPE)


# IF


def choice(then: str = "MUL", otherwise: str = "ADD", condition: Any = None, **more: Any) -> bytes:
    """y = x * c if the condition holds, else x + c."""
    m = Models()
    main = m.graph("main")
    branches = [m.graph("then"), m.graph("else")]
    flag = main.input((), BOOL) if condition is None else main.constant(condition, BOOL)
    dtype, x = more.get("dtype", F32), main.input(SHAPE, **{"dtype": F32, **more})
    y = main.output(SHAPE, **{"dtype": F32, **more})
    numbers = {"thenSubgraphIndex": branches[0].number, "elseSubgraphIndex": branches[1].number}
    main.op("IF", [flag, x], [y], "IfOptions", **numbers)
    for branch, code in zip(branches, (then, otherwise), strict=True):
        inner = branch.input(SHAPE, **{"dtype": F32, **more})
        c = branch.constant(
            np.full(SHAPE, 3), dtype, **{k: v for k, v in more.items() if k != "dtype"}
        )
        made = branch.binary(
            code, inner, c, dtype, SHAPE, **{k: v for k, v in more.items() if k != "dtype"}
        )
        branch.returns(made)
    return m.bytes()


@pytest.mark.parametrize("flag", [True, False])
def test_an_if_of_run_time_computes_both_branches_and_chooses(flag: bool) -> None:
    source = choice()
    assert ops(source).count("graph.where") == 1
    compare(source, [np.array(flag), floats(1, -2, 0.5)])


@pytest.mark.parametrize("flag", [True, False])
def test_the_branches_may_be_of_integers(flag: bool) -> None:
    x = np.random.default_rng(0).integers(-128, 128, SHAPE, np.int8)
    compare(choice(dtype="int8", scale=0.05, zero=3), [np.array(flag), x])


@pytest.mark.parametrize("flag", [True, False])
def test_of_an_if_with_a_constant_condition_only_the_branch_is_left(flag: bool) -> None:
    source = choice(condition=flag)
    assert ops(source)[:-1] == ["graph.constant", "graph.mul" if flag else "graph.add"]
    compare(source, [floats(1, -2, 0.5)])


def test_a_branch_may_give_back_what_it_got() -> None:
    m = Models()
    main, same, twice = m.graph("main"), m.graph("same"), m.graph("twice")
    flag, x = main.input((1,), BOOL), main.input(SHAPE, F32)
    y = main.output(SHAPE, F32)
    main.op("IF", [flag, x], [y], "IfOptions", thenSubgraphIndex=1, elseSubgraphIndex=2)
    same.returns(same.input(SHAPE, F32))
    inner = twice.input(SHAPE, F32)
    twice.returns(twice.binary("ADD", inner, inner, F32, SHAPE))
    for holds in (True, False):
        compare(m.bytes(), [np.array([holds]), floats(1, 2)])


def counter(assigns: tuple[bool, bool]) -> bytes:
    """A variable v; IF of run time, whose branches assign v + x and v * x, or not."""
    m = Models()
    main, once = m.graph("main"), m.graph("once")
    branches = [m.graph("then"), m.graph("else")]
    flag, x = main.input((), BOOL), main.input(SHAPE, F32)
    main.op("CALL_ONCE", [], [], "CallOnceOptions", initSubgraphIndex=once.number)
    y = main.tensor(SHAPE, F32)
    main.op("IF", [flag, x], [y], "IfOptions", thenSubgraphIndex=2, elseSubgraphIndex=3)
    z = main.output(SHAPE, F32)
    v = main.op("READ_VARIABLE", [main.variable("v")], [main.tensor(SHAPE, F32)])
    main.op("ADD", [v, y], [z], "AddOptions")
    once.op("ASSIGN_VARIABLE", [once.variable("v"), once.constant(np.ones(SHAPE), F32)], [])
    for branch, code, does in zip(branches, ("ADD", "MUL"), assigns, strict=True):
        inner = branch.input(SHAPE, F32)
        handle = branch.variable("v")
        before = branch.op("READ_VARIABLE", [handle], [branch.tensor(SHAPE, F32)])
        after = branch.binary(code, before, inner, F32, SHAPE)
        if does:
            branch.op("ASSIGN_VARIABLE", [handle, after], [])
        branch.returns(after)
    return m.bytes()


@pytest.mark.parametrize("assigns", [(True, True), (True, False), (False, True)])
def test_variables_that_branches_assign_are_chosen_too(assigns: tuple[bool, bool]) -> None:
    runs = [[np.array(flag), floats(2, 3)] for flag in (True, False, False, True, True)]
    compare(counter(assigns), *runs)


def test_branches_of_other_shapes_are_refused() -> None:
    m = Models()
    main, one, two = m.graph("main"), m.graph("one"), m.graph("two")
    flag, x = main.input((), BOOL), main.input(SHAPE, F32)
    main.op(
        "IF", [flag, x], [main.output(SHAPE, F32)], "IfOptions",
        thenSubgraphIndex=1, elseSubgraphIndex=2,
    )  # fmt: skip
    one.returns(one.input(SHAPE, F32))
    inner = two.input(SHAPE, F32)
    two.returns(two.op("RESHAPE", [inner, two.constant([6])], [two.tensor((6,), F32)]))
    refused(
        m.bytes(),
        "NPU0109",
        "what a condition of run time chooses between must have one shape",
        "found [2, 3] or [6]",
        "results padded to one shape",
    )


# WHILE


def loop(steps: int | None, limit: float | None = None, **more: Any) -> bytes:
    """x = x + c and i = i + 1 while i < steps and sum of x < limit; either may be left out."""
    m = Models()
    main, condition, body = m.graph("main"), m.graph("condition"), m.graph("body")
    i, x = main.constant(0), main.input(SHAPE, F32)
    fields = {"condSubgraphIndex": condition.number, "bodySubgraphIndex": body.number}
    main.op(
        "WHILE", [i, x], [main.output((), I32), main.output(SHAPE, F32)], "WhileOptions", **fields
    )
    k, y = condition.input((), I32), condition.input(SHAPE, F32)
    flags: list[int] = []
    if steps is not None:
        flags.append(condition.binary("LESS", k, condition.constant(steps), BOOL, ()))
    if limit is not None:
        greatest = condition.tensor((), F32)
        condition.op("REDUCE_MAX", [y, condition.constant([0, 1])], [greatest], "ReducerOptions")
        flags.append(condition.binary("LESS", greatest, condition.constant(limit, F32), BOOL, ()))
    while len(flags) > 1:
        flags.append(condition.binary("LOGICAL_AND", flags.pop(), flags.pop(), BOOL, ()))
    condition.returns(*flags)
    _step(body, np.asarray(more.get("addend", 1.5), np.float32))
    return m.bytes()


def _step(body: Graph, addend: Array) -> None:
    k, y = body.input((), I32), body.input(SHAPE, F32)
    body.returns(body.binary("ADD", k, body.constant(1), I32, ()))
    body.returns(body.binary("ADD", y, body.constant(addend, F32), F32, SHAPE))


@pytest.mark.parametrize("steps", [0, 1, 5])
def test_a_loop_of_a_known_number_of_steps_is_unrolled(steps: int) -> None:
    source = loop(steps)
    assert ops(source).count("graph.add") == steps
    assert not {"graph.where", "graph.opaque"} & set(ops(source))
    compare(source, [floats(1, -2, 0.25)])


@given(st.integers(0, 6), st.floats(-4, 12, width=32), st.floats(-5, 5, width=32))
@settings(max_examples=15)
def test_a_loop_with_a_bound_chooses_the_values_of_its_last_step(
    steps: int, limit: float, first: float
) -> None:
    source = loop(steps, limit)
    assert "graph.opaque" not in ops(source)
    compare(source, [floats(first, 0.5, -1)])


@given(st.floats(-4, 40, width=32), st.floats(-5, 5, width=32))
@settings(max_examples=10)
def test_a_loop_without_a_bound_is_one_of_the_host(limit: float, first: float) -> None:
    source = loop(None, limit)
    assert ops(source).count("graph.opaque") == 1
    compare(source, [floats(first, 0.5, -1)])


@pytest.mark.parametrize(
    ("source", "words"), [(choice(), "both branches of an IF run"), (loop(3, 9.0), "all steps of")]
)
def test_a_remark_says_what_is_computed_for_nothing(source: bytes, words: str) -> None:
    with collect() as records:
        tflite.load(source)
    (record,) = records
    assert str(record).startswith("remark[NPU1004]: t")
    assert words in str(record)
    assert "since its condition is of run time" in str(record)


def test_the_placement_says_why_a_loop_is_one_of_the_host() -> None:
    program = npu.compile(tflite.load(loop(None, 3.0)), "mobile4k")
    (row,) = (row for row in program.placement if row.engine == "host")
    assert "WHILE (a loop whose number of steps is known at run time only" in row.reason


def test_large_constants_of_a_loop_of_the_host_are_operands() -> None:
    m = Models()
    main, condition, body = m.graph("main"), m.graph("condition"), m.graph("body")
    x = main.input((9, 9), F32)
    main.op(
        "WHILE", [x], [main.output((9, 9), F32)], "WhileOptions",
        condSubgraphIndex=1, bodySubgraphIndex=2,
    )  # fmt: skip
    table = np.arange(81).reshape(9, 9) % 7
    y = condition.input((9, 9), F32)
    z = condition.binary("SUB", y, condition.constant(table, F32), F32, (9, 9))
    greatest = condition.tensor((), F32)
    condition.op("REDUCE_MAX", [z, condition.constant([0, 1])], [greatest], "ReducerOptions")
    condition.returns(condition.binary("LESS", greatest, condition.constant(40, F32), BOOL, ()))
    inner = body.input((9, 9), F32)
    body.returns(body.binary("ADD", inner, body.constant(table + 1, F32), F32, (9, 9)))
    assert ops(m.bytes()).count("graph.constant") == 2
    compare(m.bytes(), [np.zeros((9, 9), np.float32)], [table.astype(np.float32)])


def test_a_loop_of_the_host_may_hold_tables_and_loops_of_the_host() -> None:
    m = Models()
    graphs = [m.graph(name) for name in ("main", "condition", "body", "inner", "again")]
    main, condition, body, inner, again = graphs
    kind: dict[str, Any] = {"scale": 1 / 256, "zero": -128}
    x = main.input(SHAPE, "int8", **kind)
    fields = {"condSubgraphIndex": 1, "bodySubgraphIndex": 2}
    main.op("WHILE", [x], [main.output(SHAPE, "int8", **kind)], "WhileOptions", **fields)
    for each, limit in ((condition, 0.25), (inner, 0.75)):
        y = each.input(SHAPE, "int8", **kind)
        real = each.op("DEQUANTIZE", [y], [each.tensor(SHAPE, F32)])
        least = each.tensor((), F32)
        each.op("REDUCE_MIN", [real, each.constant([0, 1])], [least], "ReducerOptions")
        each.returns(each.binary("LESS", least, each.constant(limit, F32), BOOL, ()))
    z = body.input(SHAPE, "int8", **kind)
    fields = {"condSubgraphIndex": 3, "bodySubgraphIndex": 4}
    deep = body.op("WHILE", [z], [body.tensor(SHAPE, "int8", **kind)], "WhileOptions", **fields)
    body.returns(body.op("LOGISTIC", [deep], [body.tensor(SHAPE, "int8", **kind)]))
    w = again.input(SHAPE, "int8", **kind)
    c = again.constant(np.full(SHAPE, -90), "int8", **kind)
    again.returns(again.binary("ADD", w, c, "int8", SHAPE, **kind))
    rng = np.random.default_rng(0)
    runs = [[rng.integers(-128, high, SHAPE, np.int8)] for high in (-100, 0, 127)]
    compare(m.bytes(), *runs)


def test_loops_of_the_host_may_be_inside_of_each_other_under_a_condition() -> None:
    m = Models()
    names = ("main", "then", "else", "condition", "body", "again", "inner")
    main, then, otherwise, condition, body, again, inner = map(m.graph, names)
    flag, x = main.input((), BOOL), main.input(SHAPE, F32)
    fields = {"thenSubgraphIndex": then.number, "elseSubgraphIndex": otherwise.number}
    main.op("IF", [flag, x], [main.output(SHAPE, F32)], "IfOptions", **fields)
    otherwise.returns(otherwise.input(SHAPE, F32))
    for graph, first in ((then, condition.number), (body, again.number)):
        fields = {"condSubgraphIndex": first, "bodySubgraphIndex": first + 1}
        y = graph.input(SHAPE, F32)
        z = graph.op("WHILE", [y], [graph.tensor(SHAPE, F32)], "WhileOptions", **fields)
        graph.returns(graph.binary("ADD", z, graph.constant(-1.5, F32), F32, SHAPE))
    body.made.outputs = [
        body.binary("ADD", body.made.outputs[0], body.constant(3, F32), F32, SHAPE)
    ]
    for graph, limit in ((condition, 7), (again, 5)):
        y = graph.input(SHAPE, F32)
        least = graph.tensor((), F32)
        graph.op("REDUCE_MIN", [y, graph.constant([0, 1])], [least], "ReducerOptions")
        graph.returns(graph.binary("LESS", least, graph.constant(limit, F32), BOOL, ()))
    y = inner.input(SHAPE, F32)
    inner.returns(inner.binary("ADD", y, inner.constant(1, F32), F32, SHAPE))
    compare(m.bytes(), *[[np.array(k), floats(1, 2)] for k in (True, False)])


def test_a_loop_that_would_be_too_long_is_one_of_the_host() -> None:
    source = loop(5000)
    assert ops(source).count("graph.opaque") == 1
    compare(source, [floats(1, -2)])


def test_a_loop_without_end_ends_with_an_error() -> None:
    source = loop(None, float("inf"))
    module = npu.load(tflite.load(source), target="mobile4k")
    from npu_dialect.graph import loops

    before, loops.MAX_STEPS = loops.MAX_STEPS, 100
    try:
        with pytest.raises(CompileError, match="WHILE must end; found more than 100 steps"):
            npu.execute(module, floats(1))
    finally:
        loops.MAX_STEPS = before


def test_a_loop_may_assign_variables() -> None:
    m = Models()
    main, condition, body, once = (m.graph(n) for n in ("main", "condition", "body", "once"))
    main.op("CALL_ONCE", [], [], "CallOnceOptions", initSubgraphIndex=once.number)
    once.op("ASSIGN_VARIABLE", [once.variable("v"), once.constant(np.ones(SHAPE), F32)], [])
    fields = {"condSubgraphIndex": condition.number, "bodySubgraphIndex": body.number}
    x = main.input(SHAPE, F32)
    main.op("WHILE", [main.constant(0), x], [main.tensor((), I32), main.output(SHAPE, F32)],
            "WhileOptions", **fields)  # fmt: skip
    k = condition.input((), I32)
    condition.input(SHAPE, F32)
    condition.returns(condition.binary("LESS", k, condition.constant(3), BOOL, ()))
    j, y = body.input((), I32), body.input(SHAPE, F32)
    handle = body.variable("v")
    before = body.op("READ_VARIABLE", [handle], [body.tensor(SHAPE, F32)])
    after = body.binary("ADD", before, y, F32, SHAPE)
    body.op("ASSIGN_VARIABLE", [handle, after], [])
    body.returns(body.binary("ADD", j, body.constant(1), I32, ()), after)
    compare(m.bytes(), [floats(1, 2)], [floats(0.5)], [floats(-1)])


def test_a_variable_tensor_of_a_body_goes_on_from_step_to_step(models: Path) -> None:
    """An LSTM in a loop of three steps, run three times."""
    path = models / "tflm_mnist_lstm_int8.tflite"
    if not path.is_file():
        pytest.skip(f"{path} is missing")
    m = Models(first_operator(path.read_bytes()))
    main, condition, body = m.graph("main"), m.graph("condition"), m.taken("body")
    x, y = body.made.inputs[0], body.made.outputs[0]
    for graph in (main, condition):
        graph.takes(graph.copy(body, x), graph.copy(body, y))
    results = [main.copy(body, x), main.copy(body, y), main.tensor((), I32)]
    main.op("WHILE", [*main.made.inputs, main.constant(0)], results, "WhileOptions",
            condSubgraphIndex=1, bodySubgraphIndex=2)  # fmt: skip
    main.returns(results[1])
    k = condition.input((), I32)
    condition.returns(condition.binary("LESS", k, condition.constant(3), BOOL, ()))
    body.takes(body.copy(body, y))
    j = body.input((), I32)
    body.made.outputs = [x, y, body.binary("ADD", j, body.constant(1), I32, ())]
    call, rng = session(m.bytes()), np.random.default_rng(0)
    module, state = npu.load(tflite.load(m.bytes())), dict[str, Any]()
    for _ in range(3):
        inputs = [rng.integers(-128, 128, (1, 28, 28), np.int8), np.zeros((1, 28, 20), np.int8)]
        found = next(iter(npu.execute(module, inputs, state=state).values()))
        np.testing.assert_array_equal(found, call(inputs)[0])


def test_a_loop_of_the_host_under_a_condition_does_no_step_where_it_does_not_hold() -> None:
    """A branch is computed for nothing where it is not taken; a loop in it may not end then."""
    m = Models()
    main, then, otherwise = m.graph("main"), m.graph("then"), m.graph("else")
    condition, body = m.graph("condition"), m.graph("body")
    flag, x = main.input((), BOOL), main.input(SHAPE, F32)
    main.op("IF", [flag, x], [main.output(SHAPE, F32)], "IfOptions",
            thenSubgraphIndex=1, elseSubgraphIndex=2)  # fmt: skip
    inner = then.input(SHAPE, F32)
    then.op("WHILE", [inner], [then.output(SHAPE, F32)], "WhileOptions",
            condSubgraphIndex=3, bodySubgraphIndex=4)  # fmt: skip
    otherwise.returns(otherwise.input(SHAPE, F32))
    y = condition.input(SHAPE, F32)
    least = condition.tensor((), F32)
    condition.op("REDUCE_MIN", [y, condition.constant([0, 1])], [least], "ReducerOptions")
    condition.returns(condition.binary("LESS", least, condition.constant(0, F32), BOOL, ()))
    z = body.input(SHAPE, F32)
    body.returns(body.binary("MUL", z, body.constant(-1, F32), F32, SHAPE))
    compare(m.bytes(), [np.array(False), floats(-1, 1)], [np.array(True), floats(-1, 0)])


def test_loops_may_be_inside_of_loops() -> None:
    m = Models()
    main, condition, body, inner = (m.graph(n) for n in ("main", "condition", "body", "inner"))
    again = m.graph("again")
    fields = {"condSubgraphIndex": condition.number, "bodySubgraphIndex": body.number}
    x = main.input(SHAPE, F32)
    main.op("WHILE", [main.constant(0), x], [main.tensor((), I32), main.output(SHAPE, F32)],
            "WhileOptions", **fields)  # fmt: skip
    for each in (condition, again):
        k = each.input((), I32)
        each.input(SHAPE, F32)
        each.returns(each.binary("LESS", k, each.constant(3), BOOL, ()))
    j, y = body.input((), I32), body.input(SHAPE, F32)
    results = [body.tensor((), I32), body.tensor(SHAPE, F32)]
    fields = {"condSubgraphIndex": again.number, "bodySubgraphIndex": inner.number}
    body.op("WHILE", [body.constant(0), y], results, "WhileOptions", **fields)
    body.returns(body.binary("ADD", j, body.constant(1), I32, ()), results[1])
    _step(inner, np.array(0.5, np.float32))
    assert ops(m.bytes()).count("graph.add") == 9
    compare(m.bytes(), [floats(1, 2)])


# CALL_ONCE and CALL


def test_variables_may_be_initialized_with_what_is_computed_of_constants() -> None:
    m = Models()
    main, once = m.graph("main"), m.graph("once")
    x = main.input(SHAPE, F32)
    main.op("CALL_ONCE", [], [], "CallOnceOptions", initSubgraphIndex=once.number)
    handle = main.variable("v")
    before = main.op("READ_VARIABLE", [handle], [main.tensor(SHAPE, F32)])
    after = main.binary("ADD", before, x, F32, SHAPE)
    main.op("ASSIGN_VARIABLE", [handle, after], [])
    main.returns(after)
    c = once.constant(np.full(SHAPE, 2.5), F32)
    once.op("ASSIGN_VARIABLE", [once.variable("v"), once.binary("MUL", c, c, F32, SHAPE)], [])
    compare(m.bytes(), [floats(1, 2)], [floats(3)])


def test_variables_are_not_initialized_under_a_condition() -> None:
    m = Models()
    main, branch, once = m.graph("main"), m.graph("branch"), m.graph("once")
    main.op("IF", [main.input((), BOOL)], [main.output((1,), F32)], "IfOptions",
            thenSubgraphIndex=1, elseSubgraphIndex=1)  # fmt: skip
    branch.op("CALL_ONCE", [], [], "CallOnceOptions", initSubgraphIndex=once.number)
    branch.returns(branch.constant([1], F32))
    refused(m.bytes(), "NPU0109", "CALL_ONCE", "initialized under a condition of run time")


def test_a_call_is_the_operators_of_the_subgraph() -> None:
    """The interpreter has no kernel of CALL, so that what is expected is plain arithmetic."""
    m = Models()
    main, inner = m.graph("main"), m.graph("inner")
    x = main.input(SHAPE, F32)
    y = main.op("CALL", [x], [main.tensor(SHAPE, F32)], "CallOptions", subgraph=1)
    main.op("CALL", [y], [main.output(SHAPE, F32)], "CallOptions", subgraph=1)
    z = inner.input(SHAPE, F32)
    inner.returns(inner.binary("MUL", z, inner.constant(3, F32), F32, SHAPE))
    (found,) = npu.execute(npu.load(tflite.load(m.bytes())), floats(1, 2)).values()
    np.testing.assert_array_equal(found, floats(9, 18))


def test_a_composite_is_the_operators_that_it_is_made_of() -> None:
    m = Models()
    main, inner = m.graph("main"), m.graph("inner")
    x = main.input(SHAPE, F32)
    main.op("STABLEHLO_COMPOSITE", [x], [main.output(SHAPE, F32)])
    s, (node,) = schema(), main.made.operators
    node.builtinOptions2Type = s.BuiltinOptions2.StableHLOCompositeOptions
    node.builtinOptions2 = s.StableHLOCompositeOptionsT()
    node.builtinOptions2.name, node.builtinOptions2.decompositionSubgraphIndex = "thrice", 1
    node.builtinOptions2.compositeAttributes = list(options())
    z = inner.input(SHAPE, F32)
    inner.returns(inner.binary("MUL", z, inner.constant(3, F32), F32, SHAPE))
    compare(m.bytes(), [floats(1, 2)])


def test_an_index_that_is_outside_of_a_branch_not_taken_does_no_harm() -> None:
    m = Models()
    main, then, otherwise = m.graph("main"), m.graph("then"), m.graph("else")
    x, i = main.input((4, 3), F32), main.input((1,), I32)
    flag = main.binary("LESS", i, main.constant([4]), BOOL, (1,))
    main.op("IF", [flag, x, i], [main.output((1, 3), F32)], "IfOptions",
            thenSubgraphIndex=1, elseSubgraphIndex=2)  # fmt: skip
    y, k = then.input((4, 3), F32), then.input((1,), I32)
    then.op("GATHER", [y, k], [then.output((1, 3), F32)], "GatherOptions")
    otherwise.takes(otherwise.tensor((4, 3), F32), otherwise.tensor((1,), I32))
    otherwise.returns(otherwise.constant([[7, 8, 9]], F32))
    rows = np.arange(12, dtype=np.float32).reshape(4, 3)
    compare(m.bytes(), *[[rows, np.array([k], np.int32)] for k in (2, 4, 1000)])


# What is refused


def refused(source: bytes, *words: str) -> None:
    with pytest.raises(CompileError) as caught:
        tflite.load(source)
    for word in words:
        assert word in str(caught.value), str(caught.value)


def test_a_subgraph_that_runs_itself_is_refused() -> None:
    m = Models()
    main, inner = m.graph("main"), m.graph("inner")
    main.op("CALL", [main.input(SHAPE, F32)], [main.output(SHAPE, F32)], "CallOptions", subgraph=1)
    inner.op(
        "CALL", [inner.input(SHAPE, F32)], [inner.output(SHAPE, F32)], "CallOptions", subgraph=1
    )
    refused(m.bytes(), "NPU0106", "subgraphs that run each other 32 deep")


def test_a_subgraph_that_there_is_not_is_refused() -> None:
    m = Models()
    main = m.graph("main")
    main.op("CALL", [main.input(SHAPE, F32)], [main.output(SHAPE, F32)], "CallOptions", subgraph=3)
    refused(m.bytes(), "subgraph 3 of 1")


def growing(assigns_in_condition: bool = False, by_handle: bool = False) -> bytes:
    """v = v * x while the sum of v is below a limit, at run time; y = v of before, w is counted."""
    m = Models()
    main, condition, body, once = (m.graph(n) for n in ("main", "condition", "body", "once"))
    main.op("CALL_ONCE", [], [], "CallOnceOptions", initSubgraphIndex=once.number)
    for name in ("v", "w"):
        ones = once.constant(np.ones(SHAPE), F32)
        once.op("ASSIGN_VARIABLE", [once.variable(name), ones], [])
    x, given = main.input(SHAPE, F32), [main.variable("v")] if by_handle else []
    results = [main.output(SHAPE, F32), *(main.handle() for _ in given)]
    main.op("WHILE", [x, *given], results, "WhileOptions",
            condSubgraphIndex=condition.number, bodySubgraphIndex=body.number)  # fmt: skip
    held: list[int] = []
    for graph in (condition, body):
        value = graph.input(SHAPE, F32)
        held = [graph.handle()] if by_handle else []
        graph.takes(*held)
        handle = held[0] if by_handle else graph.variable("v")
        now = graph.op("READ_VARIABLE", [handle], [graph.tensor(SHAPE, F32)])
        if graph is body:
            after = body.binary("MUL", now, value, F32, SHAPE)
            body.op("ASSIGN_VARIABLE", [handle, after], [])
            body.op("ASSIGN_VARIABLE", [body.variable("w"), now], [])
            body.returns(value, *held)
            continue
        if assigns_in_condition:
            condition.op("ASSIGN_VARIABLE", [handle, value], [])
        axes = condition.constant([0, 1])
        total = condition.op("SUM", [now, axes], [condition.tensor((), F32)], "ReducerOptions")
        condition.returns(condition.binary("LESS", total, condition.constant(99, F32), BOOL, ()))
    last = main.op("READ_VARIABLE", [main.variable("v")], [main.output(SHAPE, F32)])
    assert last >= 0
    main.op("READ_VARIABLE", [main.variable("w")], [main.output(SHAPE, F32)])
    return m.bytes()


@pytest.mark.parametrize("by_handle", [False, True])
def test_a_loop_of_the_host_may_read_and_assign_variables(by_handle: bool) -> None:
    source = growing(by_handle=by_handle)
    assert "graph.opaque" in ops(source)
    compare(source, [floats(1.5, 2)], [floats(3)], [floats(1.2)])


def test_a_variable_that_a_condition_of_the_host_assigns_is_refused_with_what_would_work() -> None:
    found = "must be read or assigned in its body; found a condition that assigns variables"
    refused(growing(assigns_in_condition=True), "NPU0109", found, "LOGICAL_AND(i < n, ...)")


def test_inputs_that_do_not_fit_a_subgraph_are_refused() -> None:
    m = Models()
    main, inner = m.graph("main"), m.graph("inner")
    main.op("CALL", [main.input(SHAPE, F32)], [main.output(SHAPE, F32)], "CallOptions", subgraph=1)
    inner.returns(inner.input((3, 2), F32))
    refused(m.bytes(), "f32 [2, 3], where f32 [3, 2] is stated")


@pytest.mark.parametrize("code", ["LOGICAL_AND", "LOGICAL_OR", "LOGICAL_NOT"])
def test_truth_values(code: str) -> None:
    m = Models()
    main = m.graph("main")
    count = 1 if code == "LOGICAL_NOT" else 2
    inputs = [main.input((4,), BOOL) for _ in range(count)]
    main.op(code, inputs, [main.output((4,), BOOL)])
    values = [np.array(v) for v in ([False, False, True, True], [False, True, False, True])]
    compare(m.bytes(), values[:count])


def test_the_cost_of_a_loop_of_the_host_is_that_of_one_step() -> None:
    from npu_dialect.passes.host_work import HostWork

    (function,) = tflite.load(loop(None, 3.0)).ops
    work = HostWork.of_region(function.regions[0])
    greatest, reshaped, comparison, sums = 6, 1, 1, 1 + 6
    assert (work.macs, work.elements) == (0, greatest + reshaped + comparison + sums)
