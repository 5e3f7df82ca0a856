"""The container of a program file: named sections of bytes behind a header that guards them.

    8 bytes   magic
    u32       ABI version
    u32       number of sections
    u64       bytes of the whole file
    32 bytes  SHA-256 of everything that follows
    table     per section: u32 length of its name, the name, u64 offset in the file, u64 bytes
    sections  each at a multiple of 64 bytes

All numbers are little endian. The same sections give the same bytes.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Mapping

from npu_dialect.diagnostics import Code, CompileError, error

MAGIC = b"\x89NPU\r\n\x1a\n"
"""Like that of PNG: a transfer as text or with the eighth bit cut off damages it visibly."""

ABI = 5
"""The version of the file's layout, the instruction encoding and the kernels' encoding together."""

_HEADER = struct.Struct("<8sIIQ32s")
_ENTRY = struct.Struct("<QQ")
ALIGNMENT = 64


def pack(sections: Mapping[str, bytes]) -> bytes:
    """The file that holds `sections`, in their order."""
    names = {name: name.encode() for name in sections}
    at = _HEADER.size + sum(4 + len(n) + _ENTRY.size for n in names.values())
    table = bytearray()
    for name, data in sections.items():
        at = _aligned(at)
        table += struct.pack("<I", len(names[name])) + names[name] + _ENTRY.pack(at, len(data))
        at += len(data)
    body: list[bytes] = [bytes(table)]
    size = _HEADER.size + len(table)
    for data in sections.values():
        body += [bytes(_aligned(size) - size), data]
        size = _aligned(size) + len(data)
    digest = hashlib.sha256()
    for data in body:
        digest.update(data)
    return b"".join([_HEADER.pack(MAGIC, ABI, len(sections), size, digest.digest()), *body])


def _aligned(at: int) -> int:
    return -(-at // ALIGNMENT) * ALIGNMENT


def unpack(data: bytes, source: str) -> dict[str, memoryview]:
    """The sections of a file. Raises CompileError (NPU0401, NPU0402); `source` names the file in
    it.
    """
    count = _check(data, source)
    view, at = memoryview(data), _HEADER.size
    sections: dict[str, memoryview] = {}
    try:
        for _ in range(count):
            (length,) = struct.unpack_from("<I", data, at)
            name = data[at + 4 : at + 4 + length].decode()
            start, size = _ENTRY.unpack_from(data, at + 4 + length)
            at += 4 + length + _ENTRY.size
            if start + size > len(data):
                raise ValueError(f"section {name} outside the file")
            sections[name] = view[start : start + size]
    except (struct.error, ValueError) as problem:
        raise malformed(source, str(problem)) from problem
    return sections


def _check(data: bytes, source: str) -> int:
    """The number of sections of a file that is whole and intact."""
    if data[: len(MAGIC)] != MAGIC[: len(data)] or not data:
        raise error(
            Code.PROGRAM_MALFORMED,
            "must be a program file (.npu)",
            found=f"{len(data)} bytes that begin {data[:8]!r}" if data else "an empty file",
            remedy="a file that npu-compile wrote",
            source=source,
        )
    if len(data) < _HEADER.size:
        raise malformed(source, f"{len(data)} bytes, less than a header")
    _, abi, count, size, digest = _HEADER.unpack_from(data)
    if abi != ABI:
        raise error(
            Code.PROGRAM_VERSION,
            f"a program file must have version {ABI}",
            found=f"version {abi}",
            remedy="compiling the model again",
            source=source,
        )
    if len(data) != size:
        raise malformed(source, f"{len(data)} bytes instead of {size}")
    if hashlib.sha256(memoryview(data)[_HEADER.size :]).digest() != digest:
        raise malformed(source, "content that does not match its checksum")
    return count


def malformed(source: str, found: str) -> CompileError:
    """The error of a program file that is cut or corrupted."""
    return error(
        Code.PROGRAM_MALFORMED,
        "a program file must be whole and unchanged",
        found=found,
        remedy="copying it again, or compiling the model again",
        source=source,
    )
