"""The overrides file: decisions of the compiler that the user makes instead, by operation of the
model.

    ["conv1"]                     # the name of a node, as reports print it
    engine = "host"               # keep it off the accelerator

    ["layer1.conv2"]
    memory = "dram"               # do not keep its result in the scratchpad ("spm": keep it there)
    mapping = { rows = 8, cols = 32, channels = 16, reduction = 16, order = "weights_outer" }

    ["layer2.conv1"]
    cascade = { number = 0, rows = 4 }    # all layers of number 0 depth-first, in stripes of rows
    weights = "held"              # load them once and keep them ("stripe": in every stripe)
    held = 8                      # rows of its result that are kept, if it stays inside
    rows = 2                      # rows of its result that are made at once
    input_held = 6                # rows of its input from dram that are kept

    ["head.conv"]
    precision = "int16x8"         # the scheme it is quantized to; "float32": it is not

The module carries them as `npu.overrides`, so that a pipeline that is replayed decides alike. They
are found by provenance, and so hold for whatever an operation has become when a decision is due.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from xdsl.dialects.builtin import DictionaryAttr, IntegerAttr, ModuleOp, StringAttr, i64
from xdsl.ir import Attribute, Operation

from npu_dialect import files, provenance
from npu_dialect.diagnostics import Code, error

ATTRIBUTE = "npu.overrides"

CHOICES = {"engine": ("host",), "memory": ("spm", "dram"), "weights": ("held", "stripe")}
"""The settings with a fixed set of values."""
NUMBERS = ("held", "rows", "input_held")
"""The settings that are numbers, 1 at least."""
NAMES = ("precision",)
"""The settings that are names of what only a pass knows."""
TABLES = ("mapping", "cascade")
"""The settings that are tables."""

Pins = Mapping[str, Any]
"""The settings of one operation."""


def apply(module: ModuleOp, path: str | Path) -> None:
    """Reads an overrides file into the module.

    Raises CompileError for a file that is no TOML, a setting that does not exist, or a name that no
    operation of the model has.
    """
    try:
        table = tomllib.loads(files.read_text(path))
    except tomllib.TOMLDecodeError as problem:
        raise error(
            Code.FILE_KIND, "an overrides file must be TOML", found=problem, source=str(path)
        ) from problem
    _check_names(table, module, str(path))
    for name, pins in table.items():
        _check_pins(name, pins, str(path))
    module.attributes[ATTRIBUTE] = DictionaryAttr({n: _attribute(p) for n, p in table.items()})


def _check_names(table: Iterable[str], module: ModuleOp, path: str) -> None:
    known = {source for op in module.walk() for source in provenance.sources(op)}
    for name in table:
        if name not in known:
            close = get_close_matches(name, known, 1)
            raise error(
                Code.OPTION,
                "an override must name an operation of the model",
                found=repr(name),
                remedy=repr(close[0]) if close else "a name that npu-run prints",
                source=path,
            )


def _check_pins(name: str, pins: object, path: str) -> None:
    if not isinstance(pins, dict):
        raise error(Code.OPTION, f'["{name}"] must be a table', found=pins, source=path)
    for key, value in _items(pins):
        legal = CHOICES.get(key)
        if legal is not None and value not in legal:
            rule = f'["{name}"] {key} must be one of {", ".join(legal)}'
            raise error(Code.OPTION, rule, found=value, source=path)
        if legal is None and not _is_legal(key, value):
            rule = (
                f'["{name}"] must set only engine, memory, weights, mapping = {{...}}, '
                "cascade = {number, rows}, precision, or held, rows, input_held (1 at least)"
            )
            raise error(Code.OPTION, rule, found=f"{key} = {value}", source=path)


def _is_legal(key: str, value: object) -> bool:
    """Whether a setting without a fixed set of values is well formed."""
    if key in NAMES:
        return isinstance(value, str)
    if key in NUMBERS:
        return isinstance(value, int) and value >= 1
    if key == "cascade" and isinstance(value, dict):
        pairs = dict(_items(value))  # pyright: ignore[reportUnknownArgumentType]
        return set(pairs) == {"number", "rows"} and all(isinstance(v, int) for v in pairs.values())
    return key in TABLES and isinstance(value, dict)


def _items(pins: Any) -> Iterable[tuple[str, Any]]:
    return ((str(key), value) for key, value in pins.items())


def _attribute(value: Any) -> Attribute:
    if isinstance(value, dict):
        return DictionaryAttr({k: _attribute(v) for k, v in _items(value)})  # pyright: ignore[reportUnknownArgumentType]
    return IntegerAttr(value, i64) if isinstance(value, int) else StringAttr(str(value))


def check_precisions(module: ModuleOp) -> None:
    """Raises CompileError (NPU0004) where a module that is not quantized has precisions."""
    table = module.attributes.get(ATTRIBUTE)
    for name, entry in table.data.items() if isinstance(table, DictionaryAttr) else ():
        if isinstance(entry, DictionaryAttr) and "precision" in entry.data:
            raise error(
                Code.OPTION,
                "overrides that set a precision must go with a scheme to quantize to",
                found=f'["{name}"] precision = {entry.data["precision"]}, and none',
                remedy='--quantize int8, or quantize="int8" in Python',
                source="overrides",
            )


def pins(op: Operation) -> dict[str, Attribute]:
    """What the user decided for the sources of an operation, in their order; later ones win."""
    module = _module(op)
    table = None if module is None else module.attributes.get(ATTRIBUTE)
    found: dict[str, Attribute] = {}
    if isinstance(table, DictionaryAttr):
        for source in provenance.sources(op):
            entry = table.data.get(source)
            if isinstance(entry, DictionaryAttr):
                found.update(entry.data)
    return found


def _module(op: Operation) -> ModuleOp | None:
    parent: Operation | None = op
    while parent is not None and not isinstance(parent, ModuleOp):
        parent = parent.parent_op()
    return parent
