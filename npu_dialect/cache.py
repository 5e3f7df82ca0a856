"""What is kept on disk between processes: pieces of bytes by kind and name.

They lie in NPU_CACHE_DIR, or in `npu_dialect` in the user's cache folder (XDG_CACHE_HOME, or
~/.cache), a folder for each kind. A name must say everything that its content depends on, so
nothing is ever stale, and removing a file costs time only. With NPU_NO_CACHE set nothing is read or
written; where it lists kinds (NPU_NO_CACHE=programs,mappings), nothing of these.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from contextlib import suppress
from pathlib import Path

FOLDER_VARIABLE = "NPU_CACHE_DIR"
OFF_VARIABLE = "NPU_NO_CACHE"

_DIGEST_BYTES = 32
_TRIMMED_EVERY = 64
"""Of how many writes one removes what is too much; which one, the name decides."""


def folder(kind: str) -> Path:
    """Where what is kept of a kind lies."""
    chosen = os.environ.get(FOLDER_VARIABLE)
    if chosen:
        return Path(chosen) / kind
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "npu_dialect" / kind


KINDS = "mappings", "programs", "routines"
"""What there is: layers' mappings, compiled programs, native code of the simulator."""


def is_on(kind: str) -> bool:
    """Whether anything of a kind is kept."""
    off = os.environ.get(OFF_VARIABLE, "")
    named = {each.strip() for each in off.split(",")}
    return not off or (named <= set(KINDS) and kind not in named)


def read(kind: str, name: str) -> bytes | None:
    """What is kept; None where there is nothing, or something that is not whole."""
    if not is_on(kind):
        return None
    try:
        data = (folder(kind) / name).read_bytes()
    except OSError:
        return None
    digest, content = data[:_DIGEST_BYTES], data[_DIGEST_BYTES:]
    return content if hashlib.sha256(content).digest() == digest else None


def write(kind: str, name: str, content: bytes, most: int | None = None) -> None:
    """Keeps something, all of it or nothing, and at most about `most` pieces of the kind: the
    oldest go. A folder that cannot be written costs time only.
    """
    if not is_on(kind):
        return
    place = str(folder(kind))
    with suppress(OSError):
        handle, temporary = _temporary(place)
        with os.fdopen(handle, "wb", buffering=0) as stream:
            stream.write(hashlib.sha256(content).digest() + content)
        os.replace(temporary, f"{place}/{name}")
        if most is not None and hashlib.sha256(name.encode()).digest()[0] % _TRIMMED_EVERY == 0:
            trim(kind, most)


def _temporary(place: str) -> tuple[int, str]:
    """A new file in a folder, which is made where it is missing."""
    try:
        return tempfile.mkstemp(dir=place)
    except FileNotFoundError:
        os.makedirs(place, exist_ok=True)
        return tempfile.mkstemp(dir=place)


def trim(kind: str, most: int) -> None:
    """Removes the oldest pieces of a kind beyond `most`. Others may remove them at the same
    time.
    """
    with suppress(OSError):
        with os.scandir(folder(kind)) as entries:
            found = [(entry.stat().st_mtime_ns, entry.path) for entry in entries]
        for _, path in sorted(found)[: max(0, len(found) - most)]:
            with suppress(OSError):
                os.unlink(path)
