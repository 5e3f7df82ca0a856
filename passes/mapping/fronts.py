"""Fronts: the choices of mapping a layer of which none takes less scratchpad and costs less. They
are kept on disk, since the same layers are compiled again and again.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import numpy.typing as npt

from npu_dialect import cache, cost, dtypes, target
from npu_dialect.ethos_u import cycles, walk
from npu_dialect.passes.mapping.contraction_problem import (
    Contraction,
    ContractionMapping,
    Level,
    Order,
)
from npu_dialect.target import Target

Numbers = npt.NDArray[np.int64]

FOLDER = "mappings"
MOST = 8192
"""Layers that are kept on disk, of some KiB each."""

FRUGAL = 1 / 400
"""What a mapping may cost more, as a part of its cycles, each time it takes half the scratchpad:
copies for other layers run ahead into the rest, and what is loaded in parts is waited for less."""
ENOUGH = 8192
"""Bytes of scratchpad below which taking less is worth nothing."""


@dataclass(frozen=True)
class Kind:
    """A nest without its extents."""

    order: Order
    slots: int
    x: Level
    weights: Level


@dataclass(frozen=True)
class Front:
    """The choices of one kind of which none takes less scratchpad and costs less: bytes ascend,
    costs descend.
    """

    kind: Kind
    bytes: Numbers
    costs: npt.NDArray[np.float64]
    extents: Numbers
    """[choice, 5]: rows, columns, channels, reduction, and 1 where taps are joined."""

    def within(self, capacity: int) -> int:
        """The number of the best choice in so many bytes; -1 where none fits."""
        return int(np.searchsorted(self.bytes, capacity, "right")) - 1

    def frugal(self, last: int, share: float) -> tuple[float, int]:
        """(what it counts, number) of the choice up to number `last` that counts the least, where
        half the bytes are worth this share of the cost.
        """
        doublings = np.log2(np.maximum(self.bytes[: last + 1] / ENOUGH, 1))
        counts = self.costs[: last + 1] * (1 + share * doublings)
        number = last - int(counts[::-1].argmin())
        return float(counts[number]), number

    def mapping(self, number: int) -> ContractionMapping:
        """A choice as a mapping."""
        rows, cols, channels, reduction, joined = self.extents[number].tolist()
        k, taps = self.kind, "joined" if joined else "apart"
        return ContractionMapping(
            rows, cols, channels, reduction, k.order, k.slots, k.x, k.weights, taps
        )


# --- on disk --------------------------------------------------------------------------------------


def name(machine: Target, p: Contraction, objective: str = "latency") -> str:
    """What fronts are kept under: it differs with the layer, the target, what decides and this
    code.
    """
    text = f"{version()} {_description(machine)} {objective} {p!r}"
    return hashlib.sha256(text.encode()).hexdigest()


def read(place: str) -> tuple[Front, ...] | None:
    """The fronts that are kept under a name; None where there are none."""
    content = cache.read(FOLDER, place)
    if content is None:
        return None
    try:
        head, found = content.split(b"\n", 1)
        rows = json.loads(head)
        numbers = np.frombuffer(found, np.int64).reshape(-1, _COLUMNS)
        ends = np.cumsum([count for *_, count in rows]).tolist()
        return tuple(
            _front(Kind(*kind), numbers[end - count : end])
            for (*kind, count), end in zip(rows, ends, strict=True)
        )
    except (ValueError, TypeError):
        return None


def write(place: str, fronts: Sequence[Front]) -> None:
    """Keeps fronts: a line with their kinds and sizes, then the numbers of all choices."""
    kinds = [(k.order, k.slots, k.x, k.weights, len(f.bytes)) for f in fronts for k in (f.kind,)]
    numbers = [np.column_stack((f.bytes, f.costs.view(np.int64), f.extents)) for f in fronts]
    content = json.dumps(kinds).encode() + b"\n" + b"".join(n.tobytes() for n in numbers)
    cache.write(FOLDER, place, content, MOST)


_COLUMNS = 7
"""Numbers of a choice: bytes, the bits of its cost, extents."""


def _front(kind: Kind, numbers: Numbers) -> Front:
    return Front(kind, numbers[:, 0], numbers[:, 1].copy().view(np.float64), numbers[:, 2:])


@lru_cache(64)
def _description(machine: Target) -> str:
    return hashlib.sha256(repr(machine).encode()).hexdigest()


@lru_cache(1)
def version() -> str:
    """Changes with everything that decides what a mapping costs and which ones are tried."""
    digest = hashlib.sha256()
    modules = (Path(m.__file__ or "") for m in (cost, cycles, walk, dtypes, target))
    for path in (*sorted(Path(__file__).parent.glob("*.py")), *modules):
        digest.update(path.read_bytes())
    return digest.hexdigest()
