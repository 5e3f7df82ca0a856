"""IR as text: parsing with a location for every operation, printing, `.mlir` files.

Large constants print as a digest; their data is in a side file, `model.blobs.npz` beside
`model.mlir`.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from xdsl.dialects.builtin import ModuleOp
from xdsl.ir import Attribute, Operation
from xdsl.printer import Printer

from npu_dialect import blob, files
from npu_dialect.diagnostics import Code, error
from npu_dialect.parser import PlacingParser
from npu_dialect.universe import NpuContext

if TYPE_CHECKING:
    from xdsl.context import Context


def parse(
    text: str, name: str = "<text>", context: Context | None = None, line: int = 0
) -> ModuleOp:
    """The module that `text` spells.

    An operation without a `loc(...)` gets its place in the file, counted from `line`. Raises
    CompileError (NPU0201) for text that is no IR.
    """
    return PlacingParser(context or NpuContext(), text, name, line).module()


def parse_model(
    text: str, name: str, shapes: Mapping[str, Sequence[int]] | None = None, line: int = 0
) -> ModuleOp:
    """The module that `text` spells; what is TOSA is imported to graph, with inputs of `shapes`.

    Raises CompileError, also for `shapes` of text that has its own (NPU0105).
    """
    from npu_dialect.frontends import tosa

    if tosa.holds(text):
        return tosa.load(text, name, shapes, line)
    if shapes:
        rule, found = "shapes must be bound when a model is imported", "text whose shapes are fixed"
        raise error(Code.SHAPE_BINDING, rule, found=found, source=name)
    return parse(text, name, line=line)


def read(path: str | Path, context: Context | None = None) -> ModuleOp:
    """The module of a `.mlir` file, with the data of its side file where there is one."""
    content = files.read_text(path)
    with side_data(path):
        return parse(content, str(path), context)


@contextmanager
def side_data(path: str | Path) -> Generator[None, None, None]:
    """Let what is parsed in the block find the large constants of the `.mlir` file `path`."""
    side = side_file(path)
    with blob.blobs_from(side if side.exists() else {}):
        yield


def to_text(module: Operation, *, locations: bool = False, generic: bool = False) -> str:
    """The text of an operation.

    `locations` prints where each operation came from, `generic` the form that any MLIR tool reads.
    """
    stream = StringIO()
    printer = _Printer(stream=stream, print_debuginfo=locations, print_generic_format=generic)
    printer.print_op(module)
    stream.write("\n")
    return stream.getvalue()


class _Printer(Printer):
    """xDSL's, which prints each attribute once: a type stands wherever its value is used."""

    def __init__(self, stream: StringIO, *, print_debuginfo: bool, print_generic_format: bool):
        super().__init__(
            stream=stream,
            print_debuginfo=print_debuginfo,
            print_generic_format=print_generic_format,
        )
        self.known: dict[tuple[int, bool], tuple[Attribute, str]] = {}
        """By identity, and whether it is part of a location; held so that the identity is its."""

    def print_attribute(self, attribute: Attribute) -> None:
        key = id(attribute), self.printing_location
        found = self.known.get(key)
        if found is None:
            outer, self.stream = self.stream, StringIO()
            super().print_attribute(attribute)
            found = self.known[key] = attribute, self.stream.getvalue()
            self.stream = outer
        self.print_string(found[1], indent=0)


def write(path: str | Path, module: ModuleOp, *, locations: bool = True, header: str = "") -> None:
    """Write a `.mlir` file, and its side file if a constant is too large to print."""
    save(path, header + to_text(module, locations=locations), [module])


def save(path: str | Path, content: str, modules: Sequence[ModuleOp]) -> None:
    """Write the text of some modules, and the side file with their large constants."""
    blobs = {name: a for module in modules for name, a in blob.collect_blobs(module).items()}
    if blobs:
        data = {name: blobs[name].reshape(-1).view(np.uint8) for name in sorted(blobs)}
        files.write_npz(side_file(path), data)
    files.write_text(path, content)


def side_file(path: str | Path) -> Path:
    """Where the large constants of a `.mlir` file are."""
    return Path(path).with_suffix(".blobs.npz")
