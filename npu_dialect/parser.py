"""The parser of our IR: xDSL's, with names in any script.

xDSL prints what is not ASCII in a string as bytes in hexadecimal, and reads those as bytes, so that
a module with such a name in a location or a label is not read back.
"""

from __future__ import annotations

from xdsl.parser import Parser
from xdsl.utils.mlir_lexer import MLIRTokenKind, StringLiteral


class Utf8Parser(Parser):
    """A parser that takes bytes that are UTF-8 for the string they came from."""

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
