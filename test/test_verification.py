"""An operation of graph that verified is verified again once it has changed."""

import gc

import numpy as np
import pytest
from graph_cases import Q8, context, t
from xdsl.dialects.builtin import ModuleOp, StringAttr, f32
from xdsl.ir import Operation
from xdsl.parser import Parser
from xdsl.rewriter import Rewriter
from xdsl.utils.exceptions import VerifyException

from npu_dialect import graph, pipeline
from npu_dialect.pipeline import Options

TEXT = """
func.func @main(%x: tensor<4xf32>) -> tensor<4xf32> {
  %0 = graph.relu %x : (tensor<4xf32>) -> tensor<4xf32>
  %1 = graph.group %0 {kind = "vector"} {
  ^bb0(%a: tensor<4xf32>):
    %2 = graph.neg %a : (tensor<4xf32>) -> tensor<4xf32>
    graph.yield %2 : tensor<4xf32>
  } : (tensor<4xf32>) -> tensor<4xf32>
  func.return %1 : tensor<4xf32>
}
"""


@pytest.fixture
def module() -> ModuleOp:
    """A function that verified."""
    found = Parser(context(), TEXT).parse_module()
    found.verify()
    return found


def find(module: ModuleOp, kind: type[Operation]) -> Operation:
    return next(op for op in module.walk() if isinstance(op, kind))


def test_after_the_type_of_a_result_changed(module: ModuleOp):
    Rewriter.replace_value_with_new_type(find(module, graph.ReluOp).results[0], t(f32, 5))
    with pytest.raises((VerifyException, ValueError), match="graph.relu"):
        module.verify()


def test_after_an_operand_changed(module: ModuleOp):
    other = graph.ConstantOp(np.zeros(4, np.int8), t(Q8, 4))
    relu = find(module, graph.ReluOp)
    relu.parent.insert_op_before(other, relu)  # type: ignore[union-attr]
    relu.operands[0] = other.results[0]
    with pytest.raises((VerifyException, ValueError), match="graph.relu"):
        module.verify()


def test_after_a_property_changed(module: ModuleOp):
    find(module, graph.GroupOp).properties["kind"] = StringAttr("unknown")
    with pytest.raises((VerifyException, ValueError), match="the kind must be one of"):
        module.verify()


def test_after_the_body_of_a_group_took_a_value_from_outside(module: ModuleOp):
    find(module, graph.NegOp).operands[0] = find(module, graph.ReluOp).results[0]
    with pytest.raises((VerifyException, ValueError), match="graph.group"):
        module.verify()


def test_after_the_yield_of_a_group_moved_up(module: ModuleOp):
    neg = find(module, graph.NegOp)
    body = neg.parent
    assert body is not None
    neg.detach()
    body.add_op(neg)
    with pytest.raises((VerifyException, ValueError), match="must be the last operation"):
        module.verify()


def test_a_pipeline_gives_the_collector_its_thresholds_back(module: ModuleOp):
    before = gc.get_threshold()
    pipeline.run(module, "graph-canonicalize", options=Options(verify_each=False))
    assert gc.get_threshold() == before
