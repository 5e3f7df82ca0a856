"""Constants, groups, opaque operations, placement, and running modules."""

import numpy as np
import pytest
from graph_cases import Q8, context, in_function, opaque, t, value, values
from xdsl.dialects.builtin import ModuleOp, f32, i8
from xdsl.dialects.func import FuncOp
from xdsl.ir import Block, Region
from xdsl.parser import Parser
from xdsl.utils.exceptions import ParseError, VerifyException

from npu_dialect import graph, provenance
from npu_dialect.graph.interpret import run, run_all


def parse(text: str) -> ModuleOp:
    module = Parser(context(), text).parse_module()
    module.verify()
    return module


def test_a_constant_has_the_type_of_its_array():
    assert graph.ConstantOp(np.zeros((2, 3), np.int8)).type == t(i8, 2, 3)


def test_a_constant_may_be_quantized():
    constant = graph.ConstantOp(np.array([1, 2], np.int8), t(Q8, 2))
    assert constant.type == t(Q8, 2)


def test_the_type_of_a_constant_must_fit_its_array():
    with pytest.raises(
        ValueError, match=r"must have the shape \[2\] and the storage i8 of the value"
    ):
        graph.ConstantOp(np.array([1, 2], np.int8), t(Q8, 3))


def test_small_constants_print_their_elements():
    text = "%0 = graph.constant {value = #graph.blob<f32, [2], [1.0, -0.5]>} : () -> tensor<2xf32>"
    assert str(graph.ConstantOp(np.array([1, -0.5], np.float32))) == text


GROUP = """
func.func @main(%x: tensor<2xf32>, %y: tensor<2xf32>) -> (tensor<2xf32>, tensor<2xf32>) {
  %0, %1 = graph.group %x, %y {kind = "vector"} {
  ^bb0(%a : tensor<2xf32>, %b : tensor<2xf32>):
    %2 = graph.add %a, %b : (tensor<2xf32>, tensor<2xf32>) -> tensor<2xf32> loc("add")
    %3 = graph.neg %2 : (tensor<2xf32>) -> tensor<2xf32> loc("neg")
    graph.yield %2, %3 : tensor<2xf32>, tensor<2xf32>
  } : (tensor<2xf32>, tensor<2xf32>) -> (tensor<2xf32>, tensor<2xf32>)
  func.return %0, %1 : tensor<2xf32>, tensor<2xf32>
}
"""
X, Y = np.array([1, 2], np.float32), np.array([10, 20], np.float32)


def test_a_group_computes_what_its_body_does():
    assert [r.tolist() for r in run(parse(GROUP), [X, Y])] == [[11, 22], [-11, -22]]


def test_operations_inside_groups_are_recorded():
    found = run_all(parse(GROUP), [X, Y])
    assert {"add", "neg"} <= set(found)


def forwarding_body() -> Region:
    block = Block(arg_types=[t(f32, 2)])
    block.add_op(graph.YieldOp(*block.args))
    return Region(block)


def test_a_group_has_the_results_that_its_body_yields():
    group = graph.GroupOp(values([t(f32, 2)]), forwarding_body(), "move")
    assert group.result_types == (t(f32, 2),)


def test_the_operands_of_a_group_must_have_the_types_of_its_arguments():
    with pytest.raises(
        ValueError,
        match=r"block arguments must have the types of the operands \(tensor<3xf32>\); found",
    ):
        graph.GroupOp(values([t(f32, 3)]), forwarding_body(), "move")


def test_a_group_must_be_of_a_known_kind():
    with pytest.raises(ValueError, match="the kind must be one of array, vector, move, host, io"):
        graph.GroupOp(values([t(f32, 2)]), forwarding_body(), "gpu")


def test_a_group_must_end_with_a_yield():
    with pytest.raises(ValueError, match="must end with graph.yield"):
        graph.GroupOp([], Region(Block()), "move")


def test_the_results_of_a_group_must_be_those_that_it_yields():
    text = GROUP.replace(
        "graph.yield %2, %3 : tensor<2xf32>, tensor<2xf32>", "graph.yield %2 : tensor<2xf32>"
    )
    with pytest.raises(
        (VerifyException, ParseError), match="the yielded values must have the types of"
    ):
        parse(text)


def test_a_group_must_not_use_values_from_outside():
    with pytest.raises((VerifyException, ParseError)):
        parse(GROUP.replace("graph.add %a, %b", "graph.add %a, %y"))


def test_a_group_holds_only_operations_of_graph():
    text = GROUP.replace("%2 = graph.add %a, %b :", '%2 = "test.op"(%a, %b) :')
    with pytest.raises((VerifyException, ParseError)):
        parse(text)


def test_an_opaque_operation_runs_the_reference_of_its_format():
    (x,) = values([t(f32, 2, 2)])
    assert opaque(x).evaluate(np.array([[1, 2], [3, 4]], np.float32))[0] == pytest.approx(-2.0)


def test_the_payload_of_an_opaque_operation_must_be_bytes():
    made = opaque(value(t(f32, 2, 2)))
    made.properties["payload"] = graph.BlobAttr.of(np.array([1], np.float32))
    with pytest.raises(VerifyException, match="the payload must be a list of u8"):
        made.verify()


PLACEMENT = '#graph.placement<mxu, "conv-int8", "the array multiplies int8">'


def test_placement_reads_as_it_prints():
    attribute = Parser(context(), PLACEMENT).parse_attribute()
    assert attribute == graph.PlacementAttr.of("mxu", "conv-int8", "the array multiplies int8")
    assert str(attribute) == PLACEMENT


def test_placement_names_an_engine():
    with pytest.raises(
        ParseError, match="an engine must be one of dma, mxu, vpu, host, io; found gpu"
    ):
        Parser(context(), '#graph.placement<gpu, "a", "b">').parse_attribute()


# Running


def neg_module() -> ModuleOp:
    return in_function(graph.NegOp(value(t(f32, 2))), [t(f32, 2)])


def test_a_function_can_be_run_by_itself():
    module = neg_module()
    (function,) = module.ops
    assert isinstance(function, FuncOp)
    assert run(function, [X])[0].tolist() == [-1, -2]


def test_the_number_of_inputs_must_be_that_of_the_arguments():
    with pytest.raises(ValueError, match="there must be 1 inputs; found 2"):
        run(neg_module(), [X, X])


@pytest.mark.parametrize(
    "bad", [np.array([1, 2, 3], np.float32), np.array([1, 2], np.float64)], ids=["shape", "type"]
)
def test_inputs_must_have_the_types_of_the_arguments(bad: np.ndarray):
    with pytest.raises(ValueError, match=r"input 0 must be f32 with the shape \[2\]; found"):
        run(neg_module(), [bad])


def test_an_entry_that_does_not_exist_is_reported_with_those_that_do():
    with pytest.raises(ValueError, match="a function called decode; found main"):
        run(neg_module(), [X], entry="decode")


def test_the_last_operation_of_a_node_has_the_name_of_the_node():
    module = parse(
        """
        func.func @main(%x: tensor<2xf32>) -> tensor<2xf32> {
          %0 = graph.neg %x : (tensor<2xf32>) -> tensor<2xf32> loc("n")
          %1 = graph.abs %0 : (tensor<2xf32>) -> tensor<2xf32> loc(fused["m", "n"])
          func.return %1 : tensor<2xf32>
        }"""
    )
    found = run_all(module, [X])
    assert {k: v.tolist() for k, v in found.items()} == {"n#1": [-1, -2], "n": [1, 2]}


def test_the_interpreter_refuses_operations_of_other_levels():
    module = parse(
        """
        func.func @main() -> () {
          %0 = arith.constant 1 : i32
          func.return
        }"""
    )
    with pytest.raises(
        ValueError, match="only operations of graph can be run .* found arith.constant"
    ):
        run(module, [])


def test_groups_keep_the_sources_of_their_operations():
    (group,) = [op for op in parse(GROUP).walk() if isinstance(op, graph.GroupOp)]
    assert [provenance.sources(op) for op in group.operations] == [("add",), ("neg",)]
