"""Control flow: operations with regions, whose blocks end with `tosa.yield`.

%2 = tosa.cond_if %c (%a = %x) : tensor<i1> (tensor<4xf32>) -> tensor<4xf32> {
^bb0(%a: tensor<4xf32>):
  tosa.yield %a : tensor<4xf32>
} else { ... }
%3 = tosa.while_loop (%a = %x) : (tensor<4xf32>) -> tensor<4xf32> {
  tosa.yield %holds : tensor<i1>
} do { ... }
"""

from __future__ import annotations

from collections.abc import Sequence

from xdsl.ir import Attribute, Region, SSAValue
from xdsl.irdl import (
    IRDLOperation,
    irdl_op_definition,
    operand_def,
    region_def,
    traits_def,
    var_operand_def,
    var_result_def,
)
from xdsl.parser import Parser, UnresolvedOperand
from xdsl.printer import Printer
from xdsl.traits import IsTerminator


@irdl_op_definition
class YieldOp(IRDLOperation):
    """What a region gives: `tosa.yield %0, %1 : tensor<i32>, tensor<4xf32>`."""

    name = "tosa.yield"

    inputs = var_operand_def()

    traits = traits_def(IsTerminator())

    def print(self, printer: Printer) -> None:
        if self.inputs:
            printer.print_string(" ")
            printer.print_list(self.inputs, printer.print_ssa_value)
            printer.print_string(" : ")
            printer.print_list(self.operand_types, printer.print_attribute)

    @classmethod
    def parse(cls, parser: Parser) -> YieldOp:
        position = parser.pos
        operands = parser.parse_optional_undelimited_comma_separated_list(
            parser.parse_optional_unresolved_operand, parser.parse_unresolved_operand
        )
        if not operands:
            return cls.create()
        parser.parse_punctuation(":")
        types = parser.parse_comma_separated_list(parser.Delimiter.NONE, parser.parse_type)
        return cls.create(operands=parser.resolve_operands(operands, types, position))


@irdl_op_definition
class CondIfOp(IRDLOperation):
    """One of two regions, which both take the inputs: `tosa.cond_if %c : ... {...} else {...}`."""

    name = "tosa.cond_if"

    condition = operand_def()
    inputs = var_operand_def()
    outputs = var_result_def()
    then_graph = region_def()
    else_graph = region_def()

    def print(self, printer: Printer) -> None:
        printer.print_string(" ")
        printer.print_ssa_value(self.condition)
        if self.inputs:
            printer.print_string(" ")
            _print_bindings(printer, self.then_graph, self.inputs)
        printer.print_string(" : ")
        printer.print_attribute(self.condition.type)
        printer.print_string(" ")
        if self.inputs:
            _print_types(printer, self.inputs)
        printer.print_string("-> ")
        _print_types(printer, self.outputs)
        printer.print_region(self.then_graph)
        printer.print_string(" else ")
        printer.print_region(self.else_graph)

    @classmethod
    def parse(cls, parser: Parser) -> CondIfOp:
        position = parser.pos
        condition = parser.parse_unresolved_operand()
        _, operands = _bindings(parser)
        parser.parse_punctuation(":")
        kinds = [parser.parse_type()]
        if operands:
            kinds += parser.parse_comma_separated_list(parser.Delimiter.PAREN, parser.parse_type)
        results = _result_types(parser)
        regions = [parser.parse_region()]
        parser.parse_keyword("else")
        regions.append(parser.parse_region())
        found = parser.resolve_operands([condition, *operands], kinds, position)
        return cls.create(operands=found, result_types=results, regions=regions)


@irdl_op_definition
class WhileLoopOp(IRDLOperation):
    """The second region while the first holds: `tosa.while_loop (...) : ... {...} do {...}`."""

    name = "tosa.while_loop"

    inputs = var_operand_def()
    outputs = var_result_def()
    cond_graph = region_def()
    body_graph = region_def()

    def print(self, printer: Printer) -> None:
        printer.print_string(" ")
        _print_bindings(printer, self.cond_graph, self.inputs)
        printer.print_string(" : ")
        printer.print_function_type(self.operand_types, self.result_types)
        printer.print_string(" ")
        printer.print_region(self.cond_graph, print_entry_block_args=False)
        printer.print_string(" do ")
        printer.print_region(self.body_graph)

    @classmethod
    def parse(cls, parser: Parser) -> WhileLoopOp:
        position = parser.pos
        names, operands = _bindings(parser)
        parser.parse_punctuation(":")
        kinds = parser.parse_comma_separated_list(parser.Delimiter.PAREN, parser.parse_type)
        results = _result_types(parser)
        if len(kinds) != len(names):
            parser.raise_error(f"{len(kinds)} types of {len(names)} values")
        pairs = zip(names, kinds, strict=True)
        arguments = [parser.Argument(name.span, kind) for name, kind in pairs]
        regions = [parser.parse_region(arguments)]
        parser.parse_keyword("do")
        regions.append(parser.parse_region())
        found = parser.resolve_operands(operands, kinds, position)
        return cls.create(operands=found, result_types=results, regions=regions)


def _bindings(parser: Parser) -> tuple[list[UnresolvedOperand], list[UnresolvedOperand]]:
    """Names of a region's arguments and the values that they have at first; none of either."""

    def binding() -> tuple[UnresolvedOperand, UnresolvedOperand]:
        name = parser.parse_unresolved_operand()
        parser.parse_punctuation("=")
        return name, parser.parse_unresolved_operand()

    found = parser.parse_optional_comma_separated_list(parser.Delimiter.PAREN, binding) or []
    return [name for name, _ in found], [value for _, value in found]


def _result_types(parser: Parser) -> Sequence[Attribute]:
    parser.parse_punctuation("->")
    listed = parser.parse_optional_comma_separated_list(parser.Delimiter.PAREN, parser.parse_type)
    return [parser.parse_type()] if listed is None else listed


def _print_bindings(printer: Printer, region: Region, values: Sequence[SSAValue]) -> None:
    def binding(pair: tuple[SSAValue, SSAValue]) -> None:
        printer.print_ssa_value(pair[0])
        printer.print_string(" = ")
        printer.print_ssa_value(pair[1])

    printer.print_string("(")
    printer.print_list(list(zip(region.block.args, values, strict=True)), binding)
    printer.print_string(")")


def _print_types(printer: Printer, values: Sequence[SSAValue]) -> None:
    printer.print_string("(")
    printer.print_list([v.type for v in values], printer.print_attribute)
    printer.print_string(") ")
