"""Random defects of any file: of its bytes."""

from __future__ import annotations

from random import Random


def flip(random: Random, data: bytes) -> bytes:
    """Some bytes changed."""
    content = bytearray(data)
    for _ in range(random.randint(1, 8) if content else 0):
        content[random.randrange(len(content))] = random.randrange(256)
    return bytes(content)


def cut(random: Random, data: bytes) -> bytes:
    """The first bytes."""
    return data[: random.randint(0, len(data))]


def splice(random: Random, data: bytes) -> bytes:
    """Some bytes left out, or given twice."""
    first, last = sorted(random.randint(0, len(data)) for _ in range(2))
    return data[:last] + data[first:] if random.random() < 0.5 else data[:first] + data[last:]
