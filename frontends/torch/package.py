"""The torch package: imported when it is needed, and refused when it is too old."""

from __future__ import annotations

import importlib
import io
import logging
import re
import warnings
from collections.abc import Generator
from contextlib import ExitStack, contextmanager, redirect_stderr
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
def quiet(*, everything: bool = False) -> Generator[list[str]]:
    """Without the warnings that torch gives about its own code.

    `everything` is also without what it logs, and prints on standard error, when it fails: the
    message of its exception says it. The list has the warnings of the user's concern then.
    """
    found: list[str] = []
    with warnings.catch_warnings(record=everything) as records, ExitStack() as stack:
        for category in (FutureWarning, DeprecationWarning):
            warnings.simplefilter("ignore", category)
        if everything:
            warnings.simplefilter("always", UserWarning)
            warnings.simplefilter("ignore", ResourceWarning)
            stack.enter_context(_unlogged())
            stack.enter_context(redirect_stderr(io.StringIO()))
        try:
            yield found
        finally:
            found += [str(record.message) for record in records or ()]


@contextmanager
def _unlogged() -> Generator[None]:
    """Without the records of torch's loggers."""

    def refuse(record: logging.LogRecord) -> bool:
        return not record.name.startswith("torch")

    names = [n for n in list(logging.root.manager.loggerDict) if n.partition(".")[0] == "torch"]
    loggers = [logging.root, *(logging.getLogger(n) for n in names if n != "torch.__trace")]
    handlers = [handler for logger in loggers for handler in logger.handlers]
    for handler in handlers:
        handler.addFilter(refuse)
    try:
        yield
    finally:
        for handler in handlers:
            handler.removeFilter(refuse)


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
