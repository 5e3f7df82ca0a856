"""Texts of TOSA with random defects."""

from __future__ import annotations

import random
import re

NUMBERS = (0, 1, -1, 2, 7, 64, 255, 2**31, -(2**63), 10**12)
OPERATIONS = (
    "add", "reshape", "conv2d", "rescale", "clamp", "table", "gather", "resize", "tile", "cast",
    "concat", "nothing", "cond_if", "variable_read", "negate", "transpose", "slice", "pad",
    "avg_pool2d",
)  # fmt: skip
TYPES = ("i8", "i32", "f32", "i16", "i48", "i1", "f16", "i4", "ui8", "i64", "index", "i9999999")


def mutated(text: str, rng: random.Random) -> str:
    """The text with one to three defects."""
    for _ in range(rng.randint(1, 3)):
        text = rng.choice(DEFECTS)(text, rng)
    return text


def _replaced(pattern: str, choices):
    def defect(text: str, rng: random.Random) -> str:
        places = list(re.finditer(pattern, text))
        if not places:
            return text
        place = rng.choice(places)
        new = rng.choice(choices) if choices else rng.choice(places).group()
        return f"{text[: place.start()]}{new}{text[place.end() :]}"

    return defect


def _cut(text: str, rng: random.Random) -> str:
    start = rng.randrange(len(text)) if text else 0
    return text[:start] + text[start + rng.randint(1, 4) :]


def _swapped(text: str, rng: random.Random) -> str:
    lines = text.split("\n")
    i, j = rng.randrange(len(lines)), rng.randrange(len(lines))
    lines[i], lines[j] = lines[j], lines[i]
    return "\n".join(lines)


DEFECTS = (
    _replaced(r"-?\d+", NUMBERS), _replaced(r"%\w+", ()), _replaced(r"tensor<[^>]*>", ()),
    _replaced(r"(?<=tosa\.)\w+(?= )", OPERATIONS), _replaced(r"(?<=x)[if]\d+", TYPES), _cut,
    _swapped,
)  # fmt: skip
