"""What holds for every operation of graph, by iterating over all of them."""

import inspect
import re
from io import StringIO

import numpy as np
import pytest
from graph_cases import CASES, Case, context, example_array, in_function, make, t, value, values
from xdsl.dialects.builtin import IndexType, ModuleOp, f32
from xdsl.parser import Parser
from xdsl.printer import Printer
from xdsl.traits import is_side_effect_free
from xdsl.utils.exceptions import VerifyException

from npu_dialect import graph, provenance
from npu_dialect.graph.base import GraphOp, dtype_of, shape_of
from npu_dialect.graph.interpret import run

GRAPH_OPS = [op for op in graph.OPS if issubclass(op, GraphOp)]
each_case = pytest.mark.parametrize("case", CASES, ids=str)
each_op = pytest.mark.parametrize("op", graph.OPS, ids=lambda op: op.name)


def parse(text: str) -> ModuleOp:
    module = Parser(context(), text).parse_module()
    module.verify()
    return module


def example(op: type) -> str:
    """The IR in a docstring, on one line."""
    doc = inspect.getdoc(op) or ""
    found = re.search(r"```\n(.*?)```", doc, re.DOTALL) or re.search(
        r"`((?:%|graph).*?)`", doc, re.DOTALL
    )
    return " ".join(found[1].split()) if found else ""


def test_every_operation_has_a_case():
    assert {make(case).name for case in CASES} == {op.name for op in GRAPH_OPS}


@each_op
def test_docstring_shows_the_operation_in_ir(op: type):
    assert op.name in example(op)


@pytest.mark.parametrize("op", GRAPH_OPS, ids=lambda op: op.name)
def test_docstring_example_parses_and_verifies(op: type):
    text = example(op)
    head, _, tail = text.rpartition(" : (")
    operands = re.findall(r"%\w+", head.split(" {")[0].split("=")[1])
    types = split_types(tail[: tail.rindex(") -> ")]) if operands else []
    arguments = ", ".join(f"{v}: {k}" for v, k in zip(operands, types, strict=True))
    module = parse(f"func.func @main({arguments}) {{\n{text}\nfunc.return }}")
    assert any(isinstance(inner, op) for inner in module.walk())


def split_types(text: str) -> list[str]:
    """Types between commas that are not inside brackets."""
    depth, out = 0, [""]
    for char in text:
        depth += (char in "<{[") - (char in ">}]")
        if char == "," and depth == 0:
            out.append("")
        else:
            out[-1] += char
    return [x.strip() for x in out]


@each_case
def test_constructed_operation_verifies(case: Case):
    make(case).verify()


@each_case
def test_text_reads_back_as_the_same_operation(case: Case):
    text = str(in_function(make(case), case.types))
    assert str(parse(text)) == text


@each_case
def test_generic_text_reads_back_as_the_same_operation(case: Case):
    module = in_function(make(case), case.types)
    stream = StringIO()
    Printer(stream, print_generic_format=True).print_op(module)
    assert str(parse(stream.getvalue())) == str(module)


@each_case
def test_parsed_operation_equals_the_built_one(case: Case):
    module = in_function(make(case), case.types)
    assert parse(str(module)).is_structurally_equivalent(module)


@each_case
def test_evaluation_gives_arrays_of_the_result_types(case: Case):
    op = make(case)
    rng = np.random.default_rng(0)
    results = op.evaluate(*(example_array(k, rng) for k in case.types))
    assert [(r.shape, r.dtype) for r in results] == [
        (shape_of(v), dtype_of(v).numpy) for v in op.results
    ]


@each_case
def test_evaluation_leaves_its_operands_unchanged(case: Case):
    rng = np.random.default_rng(1)
    arrays = [example_array(k, rng) for k in case.types]
    before = [a.copy() for a in arrays]
    make(case).evaluate(*arrays)
    for array, old in zip(arrays, before, strict=True):
        np.testing.assert_array_equal(array, old)


@each_case
def test_interpreting_a_module_gives_what_the_operation_evaluates_to(case: Case):
    rng = np.random.default_rng(2)
    arrays = [example_array(k, rng) for k in case.types]
    module = in_function(make(case), case.types)
    for found, expected in zip(run(module, arrays), make(case).evaluate(*arrays), strict=True):
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("case", [c for c in CASES if c.types], ids=str)
def test_verification_refuses_an_operand_of_an_impossible_element_type(case: Case):
    op = make(case)
    op.operands[0] = values([t(IndexType(), 2, 3)])[0]
    with pytest.raises(VerifyException, match="a tensor must have elements of type"):
        op.verify()


@pytest.mark.parametrize("case", [c for c in CASES if c.name != "Opaque"], ids=str)
def test_verification_refuses_a_result_of_the_wrong_shape(case: Case):
    op = make(case)
    wrong = type(op).create(
        operands=op.operands,
        properties=op.properties,
        result_types=[t(f32, 7, 7, 7)] * len(op.results),
        regions=[op.detach_region(region) for region in list(op.regions)],
    )
    with pytest.raises(VerifyException, match=f"{op.name}: .* must .*; found"):
        wrong.verify()


@each_op
def test_dimensions_must_be_known(op: type):
    if op is graph.YieldOp:
        return
    case = next(c for c in CASES if isinstance(make(c), op))
    found = make(case)
    if found.operands:
        found.operands[0] = values([t(f32, -1, 3)])[0]
        with pytest.raises(VerifyException, match="every dimension must be known"):
            found.verify()


@each_case
def test_operations_are_pure(case: Case):
    assert is_side_effect_free(make(case))


@pytest.mark.parametrize("op", GRAPH_OPS, ids=lambda op: op.name)
def test_constructor_takes_a_location_last(op: type):
    assert list(inspect.signature(op).parameters)[-1] == "location"


def test_constructor_keeps_the_location():
    loc = provenance.name_location("relu1")
    assert graph.ReluOp(value(t(f32, 4)), location=loc).location == loc


def test_constructor_refuses_what_verification_would():
    with pytest.raises(
        ValueError, match=r"graph.add: shapes must broadcast together; found \[2\] and \[3\]"
    ):
        graph.AddOp(*values([t(f32, 2), t(f32, 3)]))


def test_operands_may_be_given_as_operations():
    constant = graph.ConstantOp(np.array([1, 2], np.float32))
    assert graph.NegOp(constant).x is constant.result


def test_attributes_stay_with_the_operation_in_text():
    op = graph.ReluOp(value(t(f32, 4)))
    op.attributes["npu.placement"] = graph.PlacementAttr.of("vpu", "relu", 'it "fits"')
    module = in_function(op, [t(f32, 4)])
    assert parse(str(module)).is_structurally_equivalent(module)
