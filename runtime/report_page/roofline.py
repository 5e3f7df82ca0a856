"""The roofline of a program (Williams, Waterman and Patterson, 2009): per layer, how many products
a cycle it makes against how many it makes per byte of dram.

A layer's time here is that of its busiest engine, so that no point lies above the roof. Drawn as
SVG, both axes logarithmic.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape
from math import floor, log10, prod, sqrt

from npu_dialect.runtime.layers import Layer
from npu_dialect.runtime.profile import Profile
from npu_dialect.runtime.quantities import short

WIDTH, HEIGHT = 760, 420
LEFT, RIGHT, TOP, BOTTOM = 64, 16, 16, 48
LABELS = 6
"""Layers that have their name beside them: those with the greatest part of the time."""


@dataclass(frozen=True)
class Point:
    """A layer with array work."""

    layer: Layer
    intensity: float | None
    """Multiply-accumulates per byte of dram; None where it moves none."""
    rate: float
    """Multiply-accumulates a cycle of its busiest engine."""


@dataclass(frozen=True)
class _Axis:
    """A logarithmic scale from `low` to `high` onto `begin` to `end`."""

    low: float
    high: float
    begin: float
    end: float

    def __call__(self, value: float) -> float:
        value = min(self.high, max(self.low, value))
        part = (log10(value) - log10(self.low)) / (log10(self.high) - log10(self.low))
        return round(self.begin + part * (self.end - self.begin), 1)

    def ticks(self) -> Iterator[float]:
        """Powers of ten; also their doubles and fivefolds where there are few."""
        steps = (1, 2, 5) if self.high / self.low < 2000 else (1,)
        for exponent in range(floor(log10(self.low)), floor(log10(self.high)) + 1):
            for value in (step * 10.0**exponent for step in steps):
                if self.low <= value <= self.high:
                    yield value


def points(profile: Profile) -> list[Point]:
    """The layers with array work."""
    return [
        Point(
            layer,
            layer.macs / layer.dram_bytes if layer.dram_bytes else None,
            layer.macs / max(layer.busy.values()),
        )
        for layer in profile.layers
        if layer.macs
    ]


def ridge(profile: Profile) -> float:
    """Multiply-accumulates per byte of dram from which on the array decides, at its greatest peak
    for the types that the program uses.
    """
    return max(_roofs(profile).values()) / profile.target.memories["dram"].ports["dma"]


def svg(profile: Profile) -> str:
    """The plot; empty where no layer has array work."""
    found = points(profile)
    if not found:
        return ""
    slope = profile.target.memories["dram"].ports["dma"]
    roofs = _roofs(profile)
    xs = [p.intensity for p in found if p.intensity]
    top = max(roofs.values())
    xs.append(ridge(profile))
    x = _Axis(min(xs) / 2, max(xs) * 4, LEFT, WIDTH - RIGHT)
    y = _Axis(min(p.rate for p in found) / 2, top * 2, HEIGHT - BOTTOM, TOP)
    parts = [*_grid(x, y), *_roof(x, y, slope, roofs), *_points(x, y, found)]
    label = "Roofline: multiply-accumulates a cycle against multiply-accumulates per byte of dram"
    return (
        f'<svg class="roofline" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{label}">'
        f"{''.join(parts)}</svg>"
    )


def _roofs(profile: Profile) -> dict[str, int]:
    """The array's peaks for the types that the program uses."""
    array = profile.target.array
    used = {c.mac_type for c in profile.costs if c.macs}
    dense = {f"array, {t}": prod(array.macs[t]) for t in sorted(used)}
    return dense | {f"array, depthwise {t}": array.depthwise_macs[t] for t in sorted(used)}


def _grid(x: _Axis, y: _Axis) -> Iterator[str]:
    bottom, left = y.begin, x.begin
    for value in x.ticks():
        yield _line(x(value), y.begin, x(value), y.end, "grid")
        yield _text(x(value), bottom + 16, f"{value:g}", "tick", "middle")
    for value in y.ticks():
        yield _line(x.begin, y(value), x.end, y(value), "grid")
        yield _text(left - 6, y(value) + 4, f"{value:g}", "tick", "end")
    middle = (x.begin + x.end) / 2
    yield _text(middle, HEIGHT - 10, "multiply-accumulates per byte of dram", "axis", "middle")
    place = (TOP + HEIGHT - BOTTOM) / 2
    yield (
        f'<text class="axis" text-anchor="middle" transform="translate(14 {place}) rotate(-90)">'
        "multiply-accumulates per cycle</text>"
    )


def _roof(x: _Axis, y: _Axis, slope: float, roofs: dict[str, int]) -> Iterator[str]:
    top = max(roofs.values())
    low = max(x.low, y.low / slope)
    yield _line(x(low), y(low * slope), x(top / slope), y(top), "roof")
    angle = (y(low * slope) - y(top)) / max(1.0, x(top / slope) - x(low))
    where = (low * top / slope) ** 0.5
    name, away = f"dram {slope:g} B/cycle", 8 * sqrt(1 + angle**2)
    if x(where) > LEFT + 120:
        yield _text(x(where) - 8, y(where * slope) - away, name, "rooflabel", "end")
    else:
        yield _text(x(where) + 12, y(where * slope) + away + 8, name, "rooflabel", "start")
    seen: set[int] = set()
    for name, peak in sorted(roofs.items(), key=lambda item: -item[1]):
        if peak in seen or peak < y.low:
            continue
        seen.add(peak)
        kind = "roof" if peak == top else "roof minor"
        yield _line(x(max(x.low, peak / slope)), y(peak), x.end, y(peak), kind)
        yield _text(x.end - 4, y(peak) - 5, f"{name}: {peak:,}", "rooflabel", "end")


def _points(x: _Axis, y: _Axis, found: Sequence[Point]) -> Iterator[str]:
    ordered = sorted(found, key=lambda p: -p.layer.share)
    taken: list[tuple[float, float]] = []
    for place, p in enumerate(ordered):
        at = (x(p.intensity) if p.intensity else x.end - 8, y(p.rate))
        radius = 3 + 22 * sqrt(max(0.0, p.layer.share))
        yield (
            f'<circle cx="{at[0]}" cy="{at[1]}" r="{radius:.1f}" class="point b-{p.layer.bound}"'
            f' data-layer="{escape(p.layer.name)}"><title>{escape(_says(p))}</title></circle>'
        )
        free = all(abs(at[0] - u) > 120 or abs(at[1] - v) > 14 for u, v in taken)
        if place < LABELS and free:
            taken.append(at)
            right = at[0] > (x.begin + x.end) * 0.6
            offset = -(radius + 4) if right else radius + 4
            anchor = "end" if right else "start"
            yield _text(at[0] + offset, at[1] + 4, short(p.layer.name, 24), "pointlabel", anchor)


def _says(p: Point) -> str:
    per_byte = f"{p.intensity:,.1f} MAC per byte of dram" if p.intensity else "no dram"
    return (
        f"{p.layer.name}\n{p.rate:,.1f} MAC per cycle, {per_byte}\n"
        f"{p.layer.share:.1%} of the time, bound by {p.layer.bound}"
    )


def _line(x1: float, y1: float, x2: float, y2: float, kind: str) -> str:
    return f'<line x1="{x1}" y1="{y1}" x2="{x2}" y2="{y2}" class="{kind}"/>'


def _text(x: float, y: float, text: str, kind: str, anchor: str) -> str:
    at = f'x="{x:.1f}" y="{y:.1f}"'
    return f'<text {at} class="{kind}" text-anchor="{anchor}">{escape(text)}</text>'
