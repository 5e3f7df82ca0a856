"""The package `tflite`, which has the schema of the format: imported when it is needed."""

from __future__ import annotations

import importlib
from functools import cache
from typing import Any, cast

from npu_dialect.diagnostics import Code, error


@cache
def schema() -> Any:
    """The package `tflite`. Raises CompileError (NPU0007) where it is missing."""
    try:
        return importlib.import_module("tflite")
    except ImportError:
        raise error(
            Code.PACKAGE_MISSING,
            "the package tflite must be installed to read .tflite files",
            found="no such package",
            remedy="pip install 'npu-dialect[tflite]'",
            source="tflite",
        ) from None


@cache
def names(enum: str) -> dict[int, str]:
    """The names of an enumeration of the schema, by number."""
    found = cast("dict[str, Any]", vars(getattr(schema(), enum)))
    return {n: name for name, n in found.items() if isinstance(n, int) and name[0] != "_"}
