"""Provenance: locations name the nodes of the model, and replacing operations keeps them."""

from io import StringIO

import pytest
from graph_cases import context, t, value, values
from xdsl.dialects.builtin import (
    FileLineColLoc,
    LocationAttr,
    ModuleOp,
    UnknownLoc,
    UnrealizedConversionCastOp,
    f32,
)
from xdsl.dialects.func import FuncOp, ReturnOp
from xdsl.ir import Block, Region
from xdsl.parser import Parser
from xdsl.printer import Printer

from npu_dialect import graph, provenance
from npu_dialect.diagnostics import CompileError
from npu_dialect.provenance import carry, check, fuse, name_location, sources


def relu(name: str | None = None) -> graph.ReluOp:
    location = name_location(name) if name else None
    return graph.ReluOp(value(t(f32, 4)), location=location)


def test_an_operation_knows_its_source():
    assert sources(relu("relu1")) == ("relu1",)


def test_an_operation_without_location_has_no_source():
    assert sources(relu()) == ()


def test_a_location_may_carry_the_line_of_the_source():
    location = name_location("layer1.conv", "model.py", 12)
    assert isinstance(location.location, FileLineColLoc)
    assert sources(location) == ("layer1.conv",)


def test_a_location_in_a_file_is_named_by_file_and_line():
    inner = name_location("x", "model.py", 12, 4).location
    assert sources(inner) == ("model.py:12:4",)


def test_fusing_gives_the_union_in_order():
    assert sources(fuse(relu("b"), name_location("a"), relu("b"))) == ("b", "a")


def test_fusing_flattens():
    inner = fuse(name_location("a"), name_location("b"))
    assert fuse(inner, name_location("c")) == fuse(*map(name_location, "abc"))


def test_fusing_one_location_gives_it_back():
    assert fuse(name_location("a"), UnknownLoc()) == name_location("a")


def test_fusing_nothing_known_is_unknown():
    assert fuse(UnknownLoc(), relu()) == UnknownLoc()


def test_replacing_gives_the_new_operation_the_sources_of_the_old():
    block = Block(arg_types=[t(f32, 4)])
    old = graph.ReluOp(block.args[0], location=name_location("old"))
    block.add_op(old)
    new = graph.AbsOp(block.args[0], location=name_location("new"))
    provenance.replace(None, old, new)
    assert sources(new) == ("new", "old")
    assert list(block.ops) == [new]


def test_carrying_reaches_the_operations_inside_a_group():
    body = Block(arg_types=[t(f32, 4)])
    inner = graph.AbsOp(body.args[0])
    body.add_ops([inner, graph.YieldOp(inner)])
    group = graph.GroupOp(values([t(f32, 4)]), Region(body), "vector")
    carry(relu("old"), [group])
    assert sources(inner) == ("old",)


def test_check_names_the_operation_whose_source_is_unknown():
    with pytest.raises(CompileError, match=r"NPU0204.*graph.relu does not"):
        check(ModuleOp([relu("a"), relu()]))


def test_check_passes_when_every_source_is_known():
    check(ModuleOp([relu("a"), relu("b")]))


def test_check_demands_the_source_of_constants_too():
    with pytest.raises(CompileError, match=r"graph.constant does not"):
        check(ModuleOp([graph.ConstantOp([1.0])]))


def test_check_leaves_other_dialects_and_terminators_alone():
    check(ModuleOp([UnrealizedConversionCastOp.get(values([t(f32)]), [t(f32)])]))
    assert not provenance.needs_source(graph.YieldOp())


@pytest.mark.parametrize(
    "location",
    [name_location("a"), name_location("a", "m.py", 3, 1), fuse(*map(name_location, "ab"))],
    ids=["name", "line", "fused"],
)
def test_locations_survive_the_text(location: LocationAttr):
    op = relu("x")
    op.location = location
    block = Block(arg_types=[t(f32, 4)])
    op.operands[0] = block.args[0]
    block.add_op(op)
    block.add_op(ReturnOp())
    module = ModuleOp([FuncOp("main", ([t(f32, 4)], []), Region(block))])
    stream = StringIO()
    Printer(stream, print_debuginfo=True).print_op(module)
    found = Parser(context(), stream.getvalue()).parse_module()
    (parsed,) = [x for x in found.walk() if isinstance(x, graph.ReluOp)]
    assert parsed.location == location
