"""The routines and lowerings of the instruction set, by kind of instruction."""

from __future__ import annotations

from importlib import import_module

MODULES = (
    "contraction",
    "copies",
    "decoding",
    "depthwise",
    "expansion",
    "host_functions",
    "indexed",
    "pooling",
    "reduction",
    "vectors",
)


def register() -> None:
    """Fills the tables of routines and lowerings."""
    import_module("npu_dialect.runtime.compiled.driver")
    for name in MODULES:
        import_module(f"{__name__}.{name}")
