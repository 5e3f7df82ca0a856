"""IR as text: parsing with a location for every operation, printing, and `.mlir` files with their side file.

Large constants print as a digest; their data is in the side file, `model.blobs.npz` beside `model.mlir`.
"""

from __future__ import annotations

from bisect import bisect_left
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING

from xdsl.dialects.builtin import FileLineColLoc, IntAttr, ModuleOp, StringAttr, UnknownLoc
from xdsl.ir import Operation
from xdsl.parser import Parser
from xdsl.printer import Printer
from xdsl.utils.exceptions import ParseError, VerifyException

from npu_dialect import blob, files
from npu_dialect.diagnostics import Code, CompileError, error
from npu_dialect.universe import NpuContext

if TYPE_CHECKING:
    from xdsl.context import Context


def parse(text: str, name: str = "<text>", context: Context | None = None, line: int = 0) -> ModuleOp:
    """The module that `text` spells.

    An operation without a `loc(...)` gets its place in the file, counted from `line`. Raises
    CompileError (NPU0201) for text that is no IR.
    """
    parser = _Parser(context or NpuContext(), text, name, line)
    try:
        return parser.parse_module()
    except ParseError as problem:
        raise _syntax_error(problem, name, line) from problem
    except VerifyException as problem:
        raise error(
            Code.IR_SYNTAX, "must be valid IR", found=problem, source=name
        ) from problem


def read(path: str | Path, context: Context | None = None) -> ModuleOp:
    """The module of a `.mlir` file, with the data of its side file where there is one."""
    text = files.read_text(path)
    side = side_file(path)
    if not side.exists():
        return parse(text, str(path), context)
    with blob.known(load_side_file(side)):
        return parse(text, str(path), context)


def to_text(module: Operation, *, locations: bool = False, generic: bool = False) -> str:
    """The text of an operation; `locations` prints where each came from, `generic` the form any MLIR tool reads."""
    stream = StringIO()
    printer = Printer(stream=stream, print_debuginfo=locations, print_generic_format=generic)
    printer.print_op(module)
    stream.write("\n")
    return stream.getvalue()


def write(path: str | Path, module: ModuleOp, *, locations: bool = True, header: str = "") -> None:
    """Write a `.mlir` file, and its side file if a constant is too large to print."""
    arrays = blob.collect_blobs(module)
    if arrays:
        files.write_npz(side_file(path), arrays)
    files.write_text(path, header + to_text(module, locations=locations))


def side_file(path: str | Path) -> Path:
    """Where the large constants of a `.mlir` file are."""
    return Path(path).with_suffix(".blobs.npz")


class _Parser(Parser):
    """xDSL's parser, which also notes where each operation stands."""

    def __init__(self, context: Context, text: str, name: str, line: int) -> None:
        super().__init__(context, text, name)
        self.file = StringAttr(name)
        self.first_line = line
        self.newlines = [i for i, character in enumerate(text) if character == "\n"]

    def parse_operation(self) -> Operation:
        position = self.pos
        op = super().parse_operation()
        if isinstance(op.location, UnknownLoc):
            op.location = self._location(position)
        return op

    def _location(self, position: int) -> FileLineColLoc:
        row = bisect_left(self.newlines, position)
        start = self.newlines[row - 1] + 1 if row else 0
        line = IntAttr(self.first_line + row + 1)
        return FileLineColLoc(self.file, line, IntAttr(position - start + 1))


def _syntax_error(problem: ParseError, name: str, line: int) -> CompileError:
    place = problem.span.get_location()
    return error(
        Code.IR_SYNTAX,
        "must be valid IR",
        found=problem.msg.strip().splitlines()[0],
        source=name,
        location=f"{name}:{line + place.line}:{place.col}",
    )
