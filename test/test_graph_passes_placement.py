"""Placement says for every operation where it runs, and why in words."""

from __future__ import annotations

import numpy as np
import pytest
from graph_samples import Sample
from xdsl.context import Context
from xdsl.dialects.builtin import ModuleOp, f32
from xdsl.ir import SSAValue

from npu_dialect import dtypes, graph
from npu_dialect.graph.attributes import PLACEMENT
from npu_dialect.graph.base import shape_of
from npu_dialect.passes.graph_group import GraphGroupPass
from npu_dialect.passes.graph_place import GraphPlacePass
from npu_dialect.passes.placement.rules import UNITS, rule_name, rule_text
from npu_dialect.provenance import sources

STRUCTURE = (graph.ConstantOp, graph.GroupOp, graph.YieldOp)
INT8 = graph.uniform(dtypes.i8, 0.1)
RULES = sorted({rule for unit in UNITS.values() for rule in unit.rules}, key=rule_name)


@pytest.mark.parametrize("cls", graph.OPS, ids=lambda cls: cls.name)
def test_every_operation_has_a_unit(cls: type):
    assert cls in UNITS or cls in STRUCTURE


@pytest.mark.parametrize("rule", RULES, ids=rule_name)
def test_every_rule_is_a_sentence_for_the_user(rule):
    assert "must" in rule_text(rule)
    assert rule.__doc__.strip().endswith(".")


def placed(module: ModuleOp) -> dict[str, tuple[str, str]]:
    GraphPlacePass().apply(Context(), module)
    found = {op.name: op.attributes.get(PLACEMENT) for op in module.walk()}
    return {
        name: (p.data.engine, p.data.reason)
        for name, p in found.items()
        if isinstance(p, graph.PlacementAttr)
    }


def groups(module: ModuleOp) -> list[tuple[str, list[str]]]:
    GraphPlacePass().apply(Context(), module)
    GraphGroupPass().apply(Context(), module)
    module.verify()
    return [
        (op.kind.data, [inner.name.removeprefix("graph.") for inner in op.operations])
        for op in module.walk()
        if isinstance(op, graph.GroupOp)
    ]


def convolution(s: Sample, x: SSAValue) -> SSAValue:
    w = s.constant(np.ones((1, 1, shape_of(x)[3], 4), np.float32))
    return s.add(graph.Conv2DOp(x, w))


def test_floats_on_an_integer_machine_are_for_the_host():
    s = Sample(0, "edge256")
    engine, reason = placed(s.module(convolution(s, s.argument((1, 4, 4, 2), f32))))["graph.conv2d"]
    assert engine == "host"
    assert (
        reason == "The array must multiply activations and weights of these types; found f32 by f32"
    )


def test_a_bias_of_run_time_is_named():
    s = Sample(0)
    x, w, b = (s.argument(shape, f32) for shape in ((2, 4), (4, 3), (3,)))
    engine, reason = placed(s.module(s.add(graph.MatmulOp(x, w, b))))["graph.matmul"]
    assert (engine, reason.split(";")[1]) == ("host", " found one computed at run time")


def test_a_dynamic_table_is_named():
    s = Sample(0)
    x, table = s.argument((4,), INT8), s.argument((256,), dtypes.i8)
    element = dtypes.element_type(dtypes.i8)
    engine, reason = placed(s.module(s.add(graph.LookupOp(x, table, element))))["graph.lookup"]
    assert (engine, reason.split("; ")[1]) == ("host", "found the table is not constant")


def test_the_later_of_two_convolutions_takes_their_sum():
    s = Sample(0)
    x = s.argument((1, 4, 4, 2), f32)
    total = s.add(graph.AddOp(convolution(s, x), convolution(s, x)))
    found = groups(s.module(s.add(graph.ReluOp(total))))
    assert found == [("array", ["conv2d"]), ("array", ["conv2d", "add", "relu"])]


def test_a_value_that_is_used_twice_ends_a_chain():
    s = Sample(0)
    y = s.add(graph.ReluOp(convolution(s, s.argument((1, 4, 4, 2), f32))))
    found = groups(s.module(s.add(graph.ExpOp(y)), y))
    assert found == [("array", ["conv2d", "relu"]), ("vector", ["exp"])]


def test_a_vector_group_reads_three_tensors_at_most():
    s = Sample(0)
    a, b, c, d = (s.argument((8,), f32) for _ in range(4))
    total = s.add(graph.AddOp(s.add(graph.AddOp(s.add(graph.AddOp(a, b)), c)), d))
    assert groups(s.module(total)) == [("vector", ["add"]), ("vector", ["add", "add"])]


def test_a_small_operand_is_not_computed_again_for_every_element():
    s = Sample(0)
    x, m = s.argument((8, 8), f32), s.argument((8, 1), f32)
    found = groups(s.module(s.add(graph.MulOp(x, s.add(graph.RsqrtOp(m))))))
    assert found == [("vector", ["rsqrt"]), ("vector", ["mul"])]


def test_tasks_of_the_host_are_cut_where_the_accelerator_comes_between():
    s = Sample(0, "edge256")
    x = s.argument((1, 4), f32)
    a = s.add(graph.ExpOp(x))
    b = s.add(graph.DequantizeOp(s.add(graph.ReluOp(s.add(graph.QuantizeOp(a, INT8))))))
    found = groups(s.module(s.add(graph.MulOp(s.add(graph.ExpOp(b)), a))))
    assert found == [
        ("host", ["exp", "quantize"]),
        ("vector", ["relu"]),
        ("host", ["dequantize", "exp", "mul"]),
    ]


def test_a_group_is_called_by_its_anchor_and_knows_all_its_sources():
    s = Sample(0)
    module = s.module(s.add(graph.ReluOp(convolution(s, s.argument((1, 4, 4, 2), f32)))))
    groups(module)
    (group,) = [op for op in module.walk() if isinstance(op, graph.GroupOp)]
    assert sources(group) == ("graph.conv2d.1", "graph.relu.2")
