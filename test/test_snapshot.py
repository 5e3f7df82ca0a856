"""Snapshots: the driver leaves out verification only where nothing has changed."""

from collections.abc import Callable

import pytest
from xdsl.dialects.builtin import ModuleOp, StringAttr, TensorType, f32
from xdsl.ir import Operation

from npu_dialect import text
from npu_dialect.graph import NegOp
from npu_dialect.provenance import name_location
from npu_dialect.snapshot import Snapshot

MODULE = """
func.func @main(%x: tensor<4xf32>, %y: tensor<4xf32>) -> tensor<4xf32> {
  %0 = graph.neg %x : (tensor<4xf32>) -> tensor<4xf32> loc("a")
  %1 = graph.neg %y : (tensor<4xf32>) -> tensor<4xf32> loc("b")
  %2 = graph.concat %0, %1 {axis = 0} : (tensor<4xf32>, tensor<4xf32>) -> tensor<8xf32> loc("c")
  func.return %0 : tensor<4xf32>
}
"""


def first(module: ModuleOp, name: str) -> Operation:
    return next(op for op in module.walk() if op.name == name)


def replace_an_operand(module: ModuleOp) -> None:
    negation = first(module, "graph.neg")
    negation.operands[0] = first(module, "func.func").regions[0].block.args[1]


def change_the_type_of_a_result(module: ModuleOp) -> None:
    first(module, "graph.neg").results[0]._type = TensorType(f32, [5])


def change_the_type_of_an_argument(module: ModuleOp) -> None:
    first(module, "func.func").regions[0].block.args[0]._type = TensorType(f32, [5])


def change_a_property(module: ModuleOp) -> None:
    first(module, "graph.concat").properties["axis"] = StringAttr("none")


def rename_a_property(module: ModuleOp) -> None:
    properties = first(module, "graph.concat").properties
    properties["other"] = properties.pop("axis")


def make_an_attribute_of_a_property(module: ModuleOp) -> None:
    op = first(module, "graph.concat")
    op.attributes["axis"] = op.properties.pop("axis")


def set_an_attribute_of_the_module(module: ModuleOp) -> None:
    module.attributes["npu.level"] = StringAttr("graph")


def forget_the_location(module: ModuleOp) -> None:
    first(module, "graph.neg").location = name_location("elsewhere")


def swap_two_operations(module: ModuleOp) -> None:
    op = first(module, "graph.neg")
    block, after = op.parent, op.next_op
    assert block and after
    op.detach()
    block.insert_op_after(op, after)


def add_an_operation(module: ModuleOp) -> None:
    op = first(module, "graph.neg")
    assert op.parent
    op.parent.insert_op_after(NegOp(op.results[0], location=op.location), op)


def move_an_operation_out(module: ModuleOp) -> None:
    op = first(module, "graph.concat")
    op.detach()
    module.body.block.add_op(op)


CHANGES = (
    replace_an_operand, change_the_type_of_a_result, change_the_type_of_an_argument,
    change_a_property, rename_a_property, make_an_attribute_of_a_property,
    set_an_attribute_of_the_module, forget_the_location, swap_two_operations, add_an_operation,
    move_an_operation_out,
)  # fmt: skip


@pytest.mark.parametrize("change", CHANGES)
def test_every_change_is_seen(change: Callable[[ModuleOp], None]):
    module = text.parse(MODULE)
    before = Snapshot.of(module)
    change(module)
    assert Snapshot.of(module) != before


def test_a_module_that_nobody_changed_is_the_same():
    module = text.parse(MODULE)
    assert Snapshot.of(module) == Snapshot.of(module)


def test_operations_are_counted():
    assert Snapshot.of(text.parse(MODULE)).operations == 6
