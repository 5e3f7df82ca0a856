"""Mappings as `npu-compile --explain` prints them and `--export-mappings` writes them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from npu_dialect.runtime.quantities import shorts
from npu_dialect.tools.columns import aligned

if TYPE_CHECKING:
    from xdsl.dialects.builtin import ModuleOp

    from npu_dialect.passes.mapping.explained import Explained

NOTHING = "-"
"""The mapping of what has none."""

HEAD = ("layer", "cycles", "bound by", "gap", "result in", "mapping", "best rejected")


def explanations(module: ModuleOp) -> dict[str, list[Explained]]:
    """Why each group of a module at level graph is mapped as it will be, by function."""
    from npu_dialect import pipeline, universe
    from npu_dialect.passes.graph_map import explanations as explained

    names = [step.spec for step in universe.PIPELINES["tile"]]
    before = names[: names.index("graph-map")]
    copy = module.clone()
    if before:
        pipeline.run(copy, ",".join(before), options=pipeline.Options(reproducer=None))
    return explained(copy)


def table(rows: Sequence[Explained]) -> Iterator[str]:
    """A line for each layer: estimated cycles, what binds them, the mapping, what was rejected.

    What was rejected is said of the layer by itself. It may take fewer cycles there: the plan
    weighs its neighbours and the room that it takes from them, too. What takes nothing has no line:
    views, and the conversion of inputs and outputs.
    """
    rows = [row for row in rows if row.cycles or row.mapping != NOTHING]
    names = shorts(row.layer for row in rows)
    cells = [
        (
            names[row.layer], f"{row.cycles:,.0f}", row.binds,
            "-" if row.gap is None else f"{row.gap:.1%}", row.place, row.mapping, row.rejected,
        )
        for row in rows
    ]  # fmt: skip
    yield from aligned([HEAD, *cells], right=[HEAD.index("cycles"), HEAD.index("gap")])


def export(path: str | Path, rows: Sequence[Explained]) -> int:
    """Write the decisions as an overrides file; the number of layers in it.

    A layer whose name other layers have too cannot be pinned, nor a cascade with such a layer: they
    are comments.
    """
    from npu_dialect import files

    parts = [
        *("# What npu-compile decided, for --overrides.", ""),
        *(line for row in rows if row.pins for line in _entry(row)),
    ]
    files.write_text(Path(path), "\n".join(parts) + "\n")
    return sum(bool(row.pins) and row.is_unique for row in rows)


def _entry(row: Explained) -> Iterator[str]:
    if not row.is_unique:
        yield f"# {row.layer}: it, or a layer of its cascade, has a name that others have too"
    else:
        yield f"[{_quoted(row.layer)}]"
        for name, value in row.pins.items():
            yield f"{name} = {_value(value)}"
    yield ""


def _value(value: Any) -> str:
    if isinstance(value, Mapping):
        pairs = ", ".join(f"{k} = {_value(v)}" for k, v in value.items())  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]
        return f"{{ {pairs} }}"
    return str(value) if isinstance(value, int) else _quoted(str(value))


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
