"""Provenance: the `location` of every operation says which nodes of the model it comes from.

loc("conv1")                                   an ONNX node, a TFLite operator
loc("layer1.conv"("model.py":12:0))            a torch module path, and the line
loc(fused["conv1", "relu1"])                   an operation made of several: the union, in order
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from typing import cast

from xdsl.dialects.builtin import (
    ArrayAttr,
    CallSiteLoc,
    FileLineColLoc,
    FusedLoc,
    IntAttr,
    LocationAttr,
    NameLoc,
    NoneAttr,
    StringAttr,
    UnknownLoc,
)
from xdsl.ir import Attribute, Operation, SSAValue
from xdsl.pattern_rewriter import PatternRewriter
from xdsl.rewriter import Rewriter
from xdsl.traits import IsTerminator

from npu_dialect.diagnostics import Code, error

OWN_DIALECTS = ("graph", "tile", "npu")


@lru_cache(maxsize=65536)
def name_location(name: str, file: str = "", line: int = 0, column: int = 0) -> NameLoc:
    """The location of the model's node `name`, with the source line behind it where known."""
    inner = FileLineColLoc(StringAttr(file), IntAttr(line), IntAttr(column)) if file else NoneAttr()
    return NameLoc(StringAttr(name), inner)


def fuse(*items: Operation | Attribute) -> LocationAttr:
    """The union of the locations of `items` (operations or locations): flat, in order, each once.

    Unknown locations add nothing; without any known one the result is unknown.
    """
    parts = tuple(dict.fromkeys(part for item in items for part in _parts(_location(item))))
    if not parts:
        return UnknownLoc()
    return parts[0] if len(parts) == 1 else FusedLoc(parts, NoneAttr())


def _location(item: Operation | Attribute) -> Attribute:
    return item.location if isinstance(item, Operation) else item


def _parts(location: Attribute) -> Iterator[LocationAttr]:
    if isinstance(location, FusedLoc):
        for part in _fused_parts(location):
            yield from _parts(part)
    elif isinstance(location, NameLoc | FileLineColLoc | CallSiteLoc):
        yield location


def _fused_parts(location: FusedLoc) -> Iterable[Attribute]:
    # Not `isa`, which looks at every part and takes a tenth of a compilation.
    return cast(ArrayAttr[Attribute], location.locations).data


def sources(op: Operation | Attribute) -> tuple[str, ...]:
    """The names of the model's nodes behind an operation or a location; empty when unknown."""
    return tuple(dict.fromkeys(_name(part) for part in _parts(_location(op))))


def lines(op: Operation | Attribute) -> dict[str, tuple[str, ...]]:
    """The `file:line`s behind each of `sources`, where the model's format has any."""
    found: dict[str, dict[str, None]] = {}
    for part in _parts(_location(op)):
        places = found.setdefault(_name(part), {})
        if isinstance(part, NameLoc) and isinstance(part.location, FileLineColLoc):
            places[f"{part.location.filename.data}:{part.location.line.data}"] = None
    return {name: tuple(places) for name, places in found.items()}


def located(name: str, places: Sequence[str]) -> LocationAttr:
    """The location of a source, given its `lines`."""
    pairs = (place.rpartition(":") for place in places)
    return (
        fuse(*(name_location(name, f, int(n)) for f, _, n in pairs))
        if places
        else name_location(name)
    )


def _name(location: Attribute) -> str:
    if isinstance(location, NameLoc):
        return location.desc.data
    if isinstance(location, FileLineColLoc):
        return f"{location.filename.data}:{location.line.data}:{location.column.data}"
    assert isinstance(location, CallSiteLoc)
    return _name(location.callee)


def carry(op: Operation | Attribute, new_ops: Iterable[Operation]) -> None:
    """Add the sources of `op` to each of `new_ops` and to the operations in their regions."""
    origin = _location(op)
    for new_op in new_ops:
        for inner in new_op.walk():
            inner.location = fuse(inner, origin)


def replace(
    rewriter: PatternRewriter | None,
    op: Operation,
    new_ops: Operation | Sequence[Operation],
    results: Sequence[SSAValue | None] | None = None,
) -> None:
    """Replace `op` by `new_ops`, which take over its sources.

    `results` stand for the results of `op`; without them, the results of the last new operation.
    """
    new_ops = (new_ops,) if isinstance(new_ops, Operation) else new_ops
    carry(op, new_ops)
    if rewriter is None:
        Rewriter.replace_op(op, new_ops, results)
    else:
        rewriter.replace(op, new_ops, results)


def check(module: Operation) -> None:
    """Raise CompileError (NPU0204) for the first operation of our dialects whose source is unknown.

    Structure is exempt: terminators, and operations with a body and no results (a loop, a program).
    """
    for op in module.walk():
        if isinstance(op.location, NameLoc):
            continue
        if needs_source(op) and next(_parts(op.location), None) is None:
            raise error(
                Code.PROVENANCE,
                f"every operation must know its source, and {op.name} does not",
                found=str(op)[:200],
                remedy="creating it with location=, or replacing through provenance.replace",
                source=op.name,
            )


def needs_source(op: Operation) -> bool:
    """Whether `check` demands a location of `op`."""
    if op.name.partition(".")[0] not in OWN_DIALECTS:
        return False
    if op.regions and not op.results:
        return False
    return not op.has_trait(IsTerminator)
