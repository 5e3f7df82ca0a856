"""Variables: tensors that keep their content from one call to the next.

tosa.variable @state = dense<-128> : tensor<1x5x1x64xi8>
func.func @main(%x: ...) {
  %0 = tosa.variable_read @state : tensor<1x5x1x64xi8>
  tosa.variable_write @state, %1 : tensor<1x5x1x64xi8>
"""

from __future__ import annotations

from xdsl.dialects.builtin import StringAttr, SymbolNameConstraint, TensorType
from xdsl.ir import Attribute
from xdsl.irdl import (
    IRDLOperation,
    irdl_op_definition,
    operand_def,
    opt_prop_def,
    prop_def,
    result_def,
)
from xdsl.parser import Parser
from xdsl.printer import Printer


@irdl_op_definition
class VariableOp(IRDLOperation):
    """A variable of a type, with its content at the start or without.

    `tosa.variable @state = dense<0> : tensor<4xi8>`, `tosa.variable @state : tensor<4xi8>`
    """

    name = "tosa.variable"

    sym_name = prop_def(SymbolNameConstraint())
    var_shape = opt_prop_def()
    type = opt_prop_def()
    initial_value = opt_prop_def()

    def print(self, printer: Printer) -> None:
        printer.print_string(" ")
        printer.print_symbol_name(self.sym_name.data)
        if self.initial_value is not None:
            printer.print_string(" = ")
            printer.print_attribute(self.initial_value)
        elif self.type is not None:
            printer.print_string(" : ")
            printer.print_attribute(self.type)

    @classmethod
    def parse(cls, parser: Parser) -> VariableOp:
        properties: dict[str, Attribute] = {"sym_name": parser.parse_symbol_name()}
        if parser.parse_optional_punctuation("="):
            properties["initial_value"] = parser.parse_attribute()
        else:
            parser.parse_punctuation(":")
            properties["type"] = parser.parse_type()
        return cls.create(properties=properties)


@irdl_op_definition
class VariableReadOp(IRDLOperation):
    """The content of a variable.

    `%0 = tosa.variable_read @state : tensor<4xi8>`
    """

    name = "tosa.variable_read"

    variable = prop_def(StringAttr, prop_name="name")
    output1 = result_def(TensorType)

    def print(self, printer: Printer) -> None:
        printer.print_string(" ")
        printer.print_symbol_name(self.variable.data)
        printer.print_string(" : ")
        printer.print_attribute(self.output1.type)

    @classmethod
    def parse(cls, parser: Parser) -> VariableReadOp:
        name = parser.parse_symbol_name()
        parser.parse_punctuation(":")
        return cls.create(result_types=[parser.parse_type()], properties={"name": name})


@irdl_op_definition
class VariableWriteOp(IRDLOperation):
    """The new content of a variable.

    `tosa.variable_write @state, %0 : tensor<4xi8>`
    """

    name = "tosa.variable_write"

    variable = prop_def(StringAttr, prop_name="name")
    input1 = operand_def(TensorType)

    def print(self, printer: Printer) -> None:
        printer.print_string(" ")
        printer.print_symbol_name(self.variable.data)
        printer.print_string(", ")
        printer.print_ssa_value(self.input1)
        printer.print_string(" : ")
        printer.print_attribute(self.input1.type)

    @classmethod
    def parse(cls, parser: Parser) -> VariableWriteOp:
        name = parser.parse_symbol_name()
        parser.parse_punctuation(",")
        value = parser.parse_unresolved_operand()
        parser.parse_punctuation(":")
        operand = parser.resolve_operand(value, parser.parse_type())
        return cls.create(operands=[operand], properties={"name": name})
