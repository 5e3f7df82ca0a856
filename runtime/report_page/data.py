"""What the page draws itself: instructions, buffers and curves over time, as compact JSON values.

Rows of numbers are flat lists, and names are positions in lists of names, so that a page of
50,000 instructions stays at a few MB.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from npu_dialect.runtime.buffers import KINDS
from npu_dialect.runtime.profile import Profile
from npu_dialect.runtime.schedule import queue_name
from npu_dialect.runtime.series import Series

STEPS = 1500
"""Points of a curve."""
MOST = 60_000
"""Instructions that are drawn one by one; of more, those of one layer in a row are one."""


def of(profile: Profile) -> dict[str, Any]:
    """The data of the timeline."""
    names = _Names()
    timeline = {
        "cycles": profile.cycles,
        "frequency": profile.target.frequency,
        "top": _top(profile),
        "engines": _engines(profile, names),
        "critical": _critical(profile, names),
        "buffers": _buffers(profile, names),
        "kinds": list(KINDS),
        "curves": _curves(profile),
    }
    return timeline | {"names": names.all}


def _top(profile: Profile) -> int:
    """The highest address that is drawn: the scratchpad's size, halved while all fits."""
    top = profile.target.memories["spm"].size
    while top % 8 == 0 and 0 < profile.peak_spm <= top // 2:
        top //= 2
    return top


class _Names:
    """Names by number."""

    def __init__(self) -> None:
        self.numbers: dict[str, int] = {}

    def __call__(self, name: str) -> int:
        return self.numbers.setdefault(name, len(self.numbers))

    @property
    def all(self) -> list[str]:
        return list(self.numbers)


def _engines(profile: Profile, names: _Names) -> list[dict[str, Any]]:
    """By engine, per instruction: start, cycles, layer, operation, what bounds it, its number, how
    many it stands for.
    """
    merge = len(profile.costs) > MOST
    found: list[dict[str, Any]] = []
    for queue, members in zip(profile.plan.queues, profile.plan.members, strict=True):
        if queue[1] == "io":
            continue
        rows = [_instruction(profile, i, names) for i in members]
        rows = _merged(rows) if merge else rows
        found.append({"name": queue_name(queue), "rows": _flat(rows)})
    return found


def _instruction(profile: Profile, i: int, names: _Names) -> list[int]:
    number, op = profile.program.executed[i]
    begin, free = int(profile.timing.start[i]), int(profile.timing.free[i])
    layer = names(profile.program.debug[number].layer)
    return [begin, free - begin, layer, names(op.name), names(profile.costs[i].bound), number, 1]


def _merged(rows: Iterable[list[int]]) -> list[list[int]]:
    """Neighbours of one layer, operation and bound as one."""
    found: list[list[int]] = []
    for row in rows:
        if found and found[-1][2:5] == row[2:5]:
            last = found[-1]
            last[1] = row[0] + row[1] - last[0]
            last[6] += 1
        else:
            found.append(row)
    return found


def _critical(profile: Profile, names: _Names) -> list[int]:
    """The critical path: begin, cycles, layer, what bounds it."""
    rows: list[list[int]] = []
    for span in profile.timing.critical:
        record = profile.records[span.instruction]
        layer, bound = names(record.layer), names(profile.costs[span.instruction].bound)
        if rows and rows[-1][2:] == [layer, bound]:
            rows[-1][1] += span.end - span.begin
        else:
            rows.append([span.begin, span.end - span.begin, layer, bound])
    return _flat(rows)


def _buffers(profile: Profile, names: _Names) -> list[int]:
    """The scratchpad: first and last address, begin, end, name, kind, the instruction that wrote
    it, and that one's layer.
    """
    rows: list[list[int]] = []
    for b in profile.buffers:
        number = int(profile.plan.static[b.writer])
        layer = names(profile.records[b.writer].layer)
        row = [b.low, b.high, b.begin, b.end, names(b.name), KINDS.index(b.kind), number, layer]
        last = rows[-1] if rows else None
        if last and last[2:6] == row[2:6] and last[1] == row[0]:
            last[1] = row[1]
        else:
            rows.append(row)
    return _flat(rows)


def _curves(profile: Profile) -> list[dict[str, Any]]:
    end, frequency = profile.cycles, profile.target.frequency
    memories = profile.target.memories
    curves = [
        _curve("power", "W", profile.power.means(end, STEPS), 1.0),
        _curve("spm held", "KiB", profile.occupancy.peaks(end, STEPS), 1 / 1024,
               _top(profile) / 1024),
    ]  # fmt: skip
    gigabytes = frequency / 1e9
    for (space, direction), series in profile.traffic.items():
        if space == "dram":
            roof = memories[space].ports["dma"] * gigabytes
            name = f"{space} {direction}"
            curves.append(_curve(name, "GB/s", series.means(end, STEPS), gigabytes, roof))
    return curves


def _curve(
    name: str, unit: str, series: Series, scale: float, most: float | None = None
) -> dict[str, Any]:
    values = [float(f"{v * scale:.4g}") for v in series.values.tolist()]
    return {"name": name, "unit": unit, "t": series.times.tolist(), "v": values, "most": most}


def _flat(rows: Sequence[Sequence[int]]) -> list[int]:
    return [value for row in rows for value in row]
