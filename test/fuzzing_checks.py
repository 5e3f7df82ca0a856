"""What the tests of importers share that read models with random defects."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

ALLOWED = ("refused", "imported", "compiled")
"""What may become of a model with defects."""


def check_sample(outcome: Callable[..., str], cases: int, every: int) -> None:
    """Some cases end as they may; of `every` so many one is compiled, too, and some of each kind
    are there.
    """
    found = {k: outcome(20_000 + k, compile=k % every == 0) for k in range(cases)}
    bad = {k: text for k, text in found.items() if text not in ALLOWED}
    assert not bad
    counts = Counter(found.values())
    assert counts["refused"] > cases / 4
    assert counts["imported"] + counts["compiled"] > cases / 10


def check_cases(mutant: Callable[[int], bytes]) -> None:
    """A case is the same every time, and most of them differ."""
    assert mutant(7) == mutant(7)
    assert len({mutant(k) for k in range(50)}) > 45
