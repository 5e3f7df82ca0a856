"""The section about quantization: noise by layer as a plot (SVG) and a table."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from html import escape
from typing import Any

from npu_dialect.runtime.quantities import short

Row = dict[str, Any]

WIDTH, HEIGHT = 900, 260
LEFT, RIGHT, TOP, BOTTOM = 48, 16, 14, 34
MOST = 70.0
"""Decibels at the top of the plot, where layers reach as much."""


def of(found: Mapping[str, Any]) -> Row:
    """What the section says of `Fidelity.to_json`."""
    layers: Sequence[Row] = found["layers"]
    blamed: Sequence[str] = found["blame"]
    count = int(found["inputs"])
    return {
        "inputs": f"{count} input{'s' if count != 1 else ''}",
        "outputs": [f"{name}: {_decibels(v)} dB" for name, v in found["outputs"].items()],
        "blame": blamed,
        "plot": svg(layers, blamed),
        "layers": [_layer(each, each["name"] in blamed) for each in layers],
    }


def _layer(each: Row, blamed: bool) -> Row:
    exact, stored = each["worst_values"]
    return each | {
        "blamed": blamed,
        "type": f"{each['dtype']}, step {each['scale']:.3g}",
        "sqnr_says": _decibels(each["sqnr"]),
        "own_says": _decibels(each["own"]),
        "alone_says": _decibels(each["alone"]),
        "cosine_says": f"{each['cosine']:.5f}",
        "worst_says": f"{each['worst']:.1f}",
        "where": f"{list(each['worst_index'])}: {exact:.4g} became {stored:.4g}",
    }


def _decibels(value: float | None) -> str:
    return "" if value is None else f"{value:.1f}"


# --- the plot -------------------------------------------------------------------------------------


def svg(layers: Sequence[Row], blamed: Sequence[str]) -> str:
    """Signal to noise of the layers in the order of the model; empty without layers."""
    known = [v for each in layers for v in (each["sqnr"], each["own"]) if v is not None]
    if not known:
        return ""
    low, high = min(0.0, min(known)), min(MOST, max(known)) + 3
    step = (WIDTH - LEFT - RIGHT) / len(layers)

    def x(k: int) -> float:
        return LEFT + (k + 0.5) * step

    def y(value: float) -> float:
        inside = min(max(value, low), high)
        return TOP + (high - inside) / (high - low) * (HEIGHT - TOP - BOTTOM)

    parts = [*_grid(low, high, y)]
    series = [(x(k), y(e["sqnr"])) for k, e in enumerate(layers) if e["sqnr"] is not None]
    path = " ".join(f"{a:.1f},{b:.1f}" for a, b in series)
    parts.append(f'<polyline points="{path}" class="line"/>')
    for k, each in enumerate(layers):
        kind = "blamed" if each["name"] in blamed else "total"
        parts += _dot(x(k), y, each, "own", "own")
        parts += _dot(x(k), y, each, "sqnr", kind)
    label = "Signal to quantization noise by layer, in decibels"
    return (
        f'<svg class="fidelity" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{label}">'
        f"{''.join(parts)}</svg>"
    )


def _grid(low: float, high: float, y: Any) -> Iterator[str]:
    first = int(low // 10) * 10
    for value in range(first, int(high) + 1, 10):
        if value >= low:
            at, end = y(value), WIDTH - RIGHT
            yield f'<line x1="{LEFT}" y1="{at:.1f}" x2="{end}" y2="{at:.1f}" class="grid"/>'
            yield f'<text x="{LEFT - 30}" y="{at + 4:.1f}" class="tick">{value}</text>'
    yield f'<text x="{LEFT}" y="{HEIGHT - 10}" class="tick">first layer</text>'
    end = WIDTH - RIGHT
    yield f'<text x="{end}" y="{HEIGHT - 10}" text-anchor="end" class="tick">last layer</text>'


def _dot(x: float, y: Any, each: Row, key: str, kind: str) -> Iterator[str]:
    value = each[key]
    if value is None:
        return
    says = escape(f"{short(each['name'])}\n{key}: {value:.1f} dB\nworst {each['worst']:.1f} steps")
    radius = 5 if kind == "blamed" else 3
    yield (
        f'<circle cx="{x:.1f}" cy="{y(value):.1f}" r="{radius}" class="{kind}">'
        f"<title>{says}</title></circle>"
    )
