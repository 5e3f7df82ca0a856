"""The parser of our IR: xDSL's, with names in any script.

xDSL prints what is not ASCII in a string as bytes in hexadecimal, and reads those as bytes, so that
a module with such a name in a location or a label is not read back.
"""

from __future__ import annotations

import re
from bisect import bisect_left

from xdsl.context import Context
from xdsl.dialects.builtin import FileLineColLoc, IntAttr, ModuleOp, StringAttr, UnknownLoc
from xdsl.ir import Operation
from xdsl.parser import Parser
from xdsl.parser.generic_parser import ParserState
from xdsl.utils.exceptions import ParseError, VerifyException
from xdsl.utils.lexer import Input
from xdsl.utils.mlir_lexer import MLIRLexer, MLIRTokenKind, StringLiteral

from npu_dialect.diagnostics import Code, CompileError, error


class LinearLexer(MLIRLexer):
    """The lexer, which sees in linear time that a string has no end."""

    _unescaped_characters_regex = re.compile(r'"(?:[^"\\\n\v\f]++|\\(?:["nt\\]|[0-9A-Fa-f]{2}))*+"')


class Utf8Parser(Parser):
    """A parser that takes bytes that are UTF-8 for the string they came from."""

    # numbers of a type are computed by its width, so that it must be bounded
    _builtin_integer_type_regex = re.compile(r"^[su]?i(\d{1,4})$")

    def __init__(self, context: Context, text: str, name: str = "<unknown>") -> None:
        super().__init__(context, "", name)
        self._resume_from(ParserState(LinearLexer(Input(text, name))))

    def parse_optional_str_literal(self) -> str | None:
        """The string, where one follows."""
        token = self._current_token
        if token.kind == MLIRTokenKind.BYTES_LIT:
            try:
                text = StringLiteral.from_span(token.span).bytes_contents.decode()
            except UnicodeDecodeError:
                return None
            self._consume_token(MLIRTokenKind.BYTES_LIT)
            return text
        return super().parse_optional_str_literal()


class PlacingParser(Utf8Parser):
    """The parser, which also notes where each operation stands."""

    def __init__(self, context: Context, text: str, name: str, line: int = 0) -> None:
        """`line` is the one that the text starts at in the file `name`, counted from 0.

        Raises CompileError (NPU0201) for text that does not even begin as IR.
        """
        self.file = StringAttr(name)
        self.first_line = line
        self.is_empty = not text.strip()
        self.newlines = [i for i, character in enumerate(text) if character == "\n"]
        try:
            super().__init__(context, text, name)
        except ParseError as problem:
            raise self._syntax_error(problem) from problem

    def module(self) -> ModuleOp:
        """The module that the text spells. Raises CompileError (NPU0201) for text that is no IR."""
        try:
            return self.parse_module()
        except ParseError as problem:
            raise self._syntax_error(problem) from problem
        except VerifyException as problem:
            source = self.file.data
            rule = "must be valid IR"
            raise error(Code.IR_SYNTAX, rule, found=problem, source=source) from problem

    def parse_operation(self) -> Operation:
        """The next operation; without a `loc(...)` it gets its place in the file."""
        position = self.pos
        op = super().parse_operation()
        if isinstance(op.location, UnknownLoc) and not isinstance(op, ModuleOp):
            op.location = self._location(position)
        return op

    def _location(self, position: int) -> FileLineColLoc:
        row = bisect_left(self.newlines, position)
        start = self.newlines[row - 1] + 1 if row else 0
        line = IntAttr(self.first_line + row + 1)
        return FileLineColLoc(self.file, line, IntAttr(position - start + 1))

    def _syntax_error(self, problem: ParseError) -> CompileError:
        place = problem.span.get_location()
        return error(
            Code.IR_SYNTAX,
            "must be valid IR",
            found="no text" if self.is_empty else problem.msg.strip().splitlines()[0],
            source=f"{self.file.data}:{self.first_line + place.line}:{place.col}",
        )
