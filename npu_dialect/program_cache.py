"""Programs that were compiled before, kept on disk.

The name of a program says all that it depends on: the text of the module with the digests of its
constants and the sources of its operations, the pipelines, the target's file, the code of this
package and of what computes for it (sizes and times of files). So what is found is what compiling
would give, byte for byte; what passes reported then is reported again. See `npu_dialect.cache` for
where it lies; NPU_NO_CACHE=programs compiles always.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import ml_dtypes
import numpy
import xdsl
from xdsl.dialects.builtin import ModuleOp

from npu_dialect import cache, diagnostics, text, universe
from npu_dialect.diagnostics import Code, Diagnostic, Severity
from npu_dialect.npu.attributes import TargetAttr
from npu_dialect.target import target_text

if TYPE_CHECKING:
    from npu_dialect.runtime.program import Program

FOLDER = "programs"
MOST = 32
"""Programs that are kept."""
LARGEST = 128 << 20
"""Bytes of a program that is kept."""
_LENGTH = 8
"""Bytes of the length of what stands before a program."""
_PACKAGES = (xdsl, numpy, ml_dtypes)
"""What else computes while a module is compiled."""


def name(module: ModuleOp) -> str | None:
    """What the program of a module that names its target is kept under; None where nothing is."""
    target = module.attributes.get("npu.target")
    if not cache.is_on(FOLDER) or not isinstance(target, TargetAttr):
        return None
    digest = hashlib.sha256(_code().encode())
    for part in (
        target_text(target.data),
        *map(universe.pipeline, universe.PIPELINES),
        text.to_text(module, locations=True),
    ):
        digest.update(hashlib.sha256(part.encode()).digest())
    return digest.hexdigest()


def read(name: str) -> tuple[Program, list[Diagnostic]] | None:
    """The program that is kept under a name, and what was reported when it was made."""
    from npu_dialect.runtime.program import Program

    content = cache.read(FOLDER, name)
    if content is None:
        return None
    start = _LENGTH + int.from_bytes(content[:_LENGTH], "little")
    records = [_record(**row) for row in json.loads(content[_LENGTH:start])]
    return Program.from_bytes(content[start:], "a program from the cache"), records


def write(name: str, program: Program, records: Sequence[Diagnostic]) -> None:
    """Keeps a program."""
    content = program.to_bytes()
    if len(content) > LARGEST:
        return
    rows = [asdict(r) | {"code": r.code.name, "severity": r.severity.value} for r in records]
    head = json.dumps(rows).encode()
    cache.write(FOLDER, name, len(head).to_bytes(_LENGTH, "little") + head + content)
    cache.trim(FOLDER, MOST)


def report(records: Sequence[Diagnostic]) -> None:
    """Reports again what was collected."""
    for record in records:
        diagnostics.report(record)


def _record(code: str, severity: str, **others: Any) -> Diagnostic:
    return Diagnostic(Code[code], severity=Severity(severity), **others)


@lru_cache(1)
def _code() -> str:
    """Changes with the code of this package and what it stands on: with the size or the time of a
    file, as Python's bytecode does. To read them all, or xDSL's metadata, takes as long as to
    import numpy.
    """
    known = (platform.python_version(), platform.machine())
    packages = (_stamp(str(p.__file__)) for p in _PACKAGES)
    return repr((*known, *packages, *sorted(_files(os.path.dirname(__file__)))))


def _stamp(path: str) -> tuple[str, int, int]:
    """A file with its size and time."""
    found = os.stat(path)
    return path, found.st_size, found.st_mtime_ns


def _files(folder: str) -> Iterator[tuple[str, int, int]]:
    """The stamps of all files of code."""
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.endswith(".py"):
                yield _stamp(entry.path)
            elif entry.is_dir() and entry.name != "__pycache__":
                yield from _files(entry.path)
