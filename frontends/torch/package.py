"""The torch package: imported when it is needed, and refused when it is too old."""

from __future__ import annotations

import importlib
import re
import warnings
from collections.abc import Generator
from contextlib import contextmanager
from functools import cache
from typing import Any

from npu_dialect.diagnostics import Code, CompileError, error

OLDEST = (2, 6)
"""The first version whose `torch.export` lets a table choose what is decomposed."""


@cache
def torch() -> Any:
    """The torch package. Raises CompileError (NPU0007) where it is missing or too old."""
    try:
        package = importlib.import_module("torch")
    except ImportError:
        raise _missing("no such package") from None
    check_version(str(package.__version__))
    return package


@contextmanager
def quiet() -> Generator[None]:
    """Without the warnings that torch gives about its own code."""
    with warnings.catch_warnings():
        for category in (FutureWarning, DeprecationWarning):
            warnings.simplefilter("ignore", category)
        yield


def check_version(version: str) -> None:
    """Refuse a version before `OLDEST`."""
    numbers = tuple(int(n) for n in re.findall(r"\d+", version)[:2])
    if numbers < OLDEST:
        raise _missing(f"torch {version}")


def _missing(found: str) -> CompileError:
    oldest = ".".join(map(str, OLDEST))
    return error(
        Code.PACKAGE_MISSING,
        f"torch must be installed, version {oldest} or later",
        found=found,
        remedy="pip install 'npu-dialect[torch]'",
        source="torch",
    )
