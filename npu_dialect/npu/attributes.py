"""Attributes of the npu dialect: the target of a module, operands of instructions; constants,
bindings and states in their places.
"""

from __future__ import annotations

from xdsl.dialects.builtin import IntAttr, StringAttr, UnitAttr
from xdsl.ir import Attribute, Data, ParametrizedAttribute, TypeAttribute
from xdsl.irdl import irdl_attr_definition
from xdsl.parser import AttrParser
from xdsl.printer import Printer

from npu_dialect import dtypes
from npu_dialect.blob import BlobAttr
from npu_dialect.machine import Operand
from npu_dialect.target import SPACES


@irdl_attr_definition
class TargetAttr(Data[str]):
    """`#npu.target<"edge256">`: name or file of the target that a module is compiled for."""

    name = "npu.target"

    @classmethod
    def parse_parameter(cls, parser: AttrParser) -> str:
        with parser.in_angle_brackets():
            return parser.parse_str_literal()

    def print_parameter(self, printer: Printer) -> None:
        with printer.in_angle_brackets():
            printer.print_string_literal(self.data)


@irdl_attr_definition
class OperandAttr(Data[Operand]):
    """`#npu.operand<spm, 0x100, i8, [8, 32, 16], [512, 16, 1]>`: memory, byte address, type,
    elements, byte strides.
    """

    name = "npu.operand"

    @classmethod
    def parse_parameter(cls, parser: AttrParser) -> Operand:
        with parser.in_angle_brackets():
            return parse_operand(parser)

    def print_parameter(self, printer: Printer) -> None:
        with printer.in_angle_brackets():
            printer.print_string(operand_text(self.data))


def operand_text(operand: Operand) -> str:
    """The operand as it is written between angle brackets."""
    dims, strides = (", ".join(map(str, x)) for x in (operand.dims, operand.strides))
    return f"{operand.space}, {operand.address:#x}, {operand.dtype}, [{dims}], [{strides}]"


def parse_operand(parser: AttrParser) -> Operand:
    """The operand that `operand_text` wrote."""
    space = parser.parse_identifier("a memory")
    if space not in SPACES:
        parser.raise_error(f"a memory must be one of {', '.join(SPACES)}, found {space}")
    parser.parse_punctuation(",")
    address = parser.parse_integer()
    parser.parse_punctuation(",")
    name = parser.parse_identifier("a storage type")
    if name not in dtypes.BY_NAME:
        parser.raise_error(
            f"a storage type must be one of {', '.join(dtypes.BY_NAME)}, found {name}"
        )
    parser.parse_punctuation(",")
    dims = _integers(parser)
    parser.parse_punctuation(",")
    strides = _integers(parser)
    if len(dims) != len(strides):
        parser.raise_error("an operand must have one stride per dimension")
    return Operand(space, address, dtypes.BY_NAME[name], dims, strides)


def _integers(parser: AttrParser) -> tuple[int, ...]:
    items = parser.parse_comma_separated_list(parser.Delimiter.SQUARE, parser.parse_integer)
    return tuple(items)


@irdl_attr_definition
class ConstantAttr(ParametrizedAttribute):
    """`#npu.constant<4096, #graph.blob<...>, "conv1.weight">`: a constant, its byte address in dram
    and its name.
    """

    name = "npu.constant"

    address: IntAttr
    blob: BlobAttr
    label: StringAttr


@irdl_attr_definition
class BindingAttr(ParametrizedAttribute):
    """`#npu.binding<"image", #npu.operand<dram, ...>, tensor<1x8x8x1xf32>>`: where an input or
    output lies.

    The tensor type carries the shape and the quantization as the user of the program sees them.
    """

    name = "npu.binding"

    label: StringAttr
    operand: OperandAttr
    type: TypeAttribute


@irdl_attr_definition
class StateAttr(ParametrizedAttribute):
    """`#npu.state<"h", #npu.operand<dram, ...>, tensor<1x8xf32>, "update", unit>`: where a state
    lies, whether the program reads it, writes it, or both (read, write, update), and its content
    before the first run (a blob of storage values; unit for zeros).

    A state keeps its content from one run to the next.
    """

    name = "npu.state"

    label: StringAttr
    operand: OperandAttr
    type: TypeAttribute
    access: StringAttr
    initial: BlobAttr | UnitAttr


ATTRIBUTES: list[type[Attribute]] = [TargetAttr, OperandAttr, ConstantAttr, BindingAttr, StateAttr]
