"""Numbers as people read them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from math import floor, isfinite, log10

PREFIXES = {-12: "p", -9: "n", -6: "µ", -3: "m", 0: "", 3: "k", 6: "M", 9: "G", 12: "T"}


def si(value: float, unit: str, digits: int = 3) -> str:
    """`si(0.00367, "s")` is "3.67 ms"."""
    if not value or not isfinite(value):
        return f"{value:g} {unit}"
    exponent = min(12, max(-12, 3 * floor(log10(abs(value)) / 3)))
    scaled = value / 10.0**exponent
    if float(f"{abs(scaled):.{digits}g}") >= 1000 and exponent < 12:
        exponent += 3
        scaled = value / 10.0**exponent
    return f"{_rounded(scaled, digits)} {PREFIXES[exponent]}{unit}"


def _rounded(value: float, digits: int) -> str:
    whole = len(str(int(abs(value))))
    return f"{value:,.{max(0, digits - whole)}f}"


def size(count: float) -> str:
    """Bytes: `size(2048)` is "2.0 KiB"."""
    value = float(count)
    for unit in ("B", "KiB", "MiB"):
        if abs(value) < 1024:
            return f"{value:,.0f} B" if unit == "B" else f"{value:,.1f} {unit}"
        value /= 1024
    return f"{value:,.1f} GiB"


def short(name: str, most: int = 40) -> str:
    """A name without its middle."""
    if len(name) <= most:
        return name
    head = most // 2
    return f"{name[:head]}…{name[head + 1 - most :]}"


def shorts(names: Iterable[str], most: int = 40) -> dict[str, str]:
    """Names by their short forms, which are the names themselves where two would look alike."""
    found = {name: short(name, most) for name in names}
    uses = Counter(found.values())
    return {name: text if uses[text] == 1 else name for name, text in found.items()}


def change(after: float, before: float) -> str:
    """A relative change: "-12.3 %"; "new" where there was nothing."""
    if before == after:
        return "="
    return f"{(after - before) / before:+.1%}".replace("%", " %") if before else "new"
