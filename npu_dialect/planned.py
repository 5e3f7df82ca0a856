"""What a plan says of a program before it is scheduled: its cycles, by function.

The numbers travel as metadata of the functions, then of the program, beside the bound.
"""

from __future__ import annotations

from collections.abc import Mapping

from xdsl.dialects.builtin import DictionaryAttr, ModuleOp, StringAttr
from xdsl.dialects.func import FuncOp
from xdsl.ir import Attribute

METADATA, KEY = "npu.metadata", "estimate."
"""Where functions, and then the program, carry the estimates of all of them, by name."""


def record(module: ModuleOp, cycles: Mapping[str, int]) -> None:
    """Write the estimated cycles of functions into the metadata of all functions."""
    found = {f"{KEY}{name}": StringAttr(str(n)) for name, n in cycles.items()}
    if not found:
        return
    for function in module.ops:
        if isinstance(function, FuncOp) and not function.is_declaration:
            before = function.attributes.get(METADATA)
            kept: Mapping[str, Attribute] = (
                before.data if isinstance(before, DictionaryAttr) else {}
            )
            function.attributes[METADATA] = DictionaryAttr({**kept, **found})


def estimate_of(metadata: Mapping[str, str], entry: str = "main") -> int | None:
    """The estimated cycles of an entry of a program; None for one that was not planned."""
    text = metadata.get(f"{KEY}{entry}")
    return None if text is None else int(text)
