"""Instances for offset allocation that are known to fit: rectangles, cut into buffers.

A rectangle of time and addresses is cut into blocks; a block is a buffer, and where it lay is a
solution. Kinds differ in how they are cut:

    guillotine   always into two parts, over the whole width or height
    wheels       some into five, four around one, which no cut over the whole can make
    long         a few buffers live all the time, many a short time
    repeated     few different sizes and moments

Up to 11 % of the area is taken away again.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

from npu_dialect.passes.allocation import Buffer

Block = tuple[int, int, int, int]
"""From and to in time, from and to in address."""
COUNTS = (150, 170, 200, 215, 250, 300, 360, 410, 450)
GRID = 1024


@dataclass(frozen=True)
class Instance:
    """Buffers, and offsets at which they fit."""

    buffers: list[Buffer]
    solution: dict[int, int]


@dataclass(frozen=True)
class Manner:
    """How blocks are cut: about `count` of them; in time with the chance `upright`, into five with
    the chance `wheels`. Of `pick` blocks the largest is next. Below 1, `form` prefers cuts near the
    sides.
    """

    count: int
    upright: float
    form: float
    pick: int
    wheels: float = 0.0


def area(block: Block) -> int:
    return (block[1] - block[0]) * (block[3] - block[2])


def manner(chance: random.Random, wheels: float = 0.0) -> Manner:
    """Any manner."""
    count, upright = chance.choice(COUNTS), chance.uniform(0.4, 0.6)
    return Manner(
        count, upright, chance.choice((0.7, 1.0, 1.0)), chance.choice((1, 2, 4, 12)), wheels
    )


def tiled(chance: random.Random, how: Manner, width: int = GRID, height: int = GRID) -> list[Block]:
    """A rectangle in blocks."""
    blocks = [(0, width, 0, height)]
    for _ in range(40 * how.count):
        if len(blocks) >= how.count:
            break
        some = chance.sample(range(len(blocks)), min(how.pick, len(blocks)))
        block = blocks.pop(max(some, key=lambda k: area(blocks[k])))
        cut = wheel if chance.random() < how.wheels and is_large(block) else halves
        blocks += cut(block, chance, how)
    return blocks


def is_large(block: Block) -> bool:
    return block[1] - block[0] >= 8 and block[3] - block[2] >= 8


def halves(block: Block, chance: random.Random, how: Manner) -> list[Block]:
    """Two parts, or the block where it is too small."""
    a, b, c, d = block
    where = chance.betavariate(how.form, how.form)
    if b - a > 1 and (chance.random() < how.upright or d - c < 2):
        at = min(b - 1, max(a + 1, round(a + where * (b - a))))
        return [(a, at, c, d), (at, b, c, d)]
    if d - c < 2:
        return [block]
    at = min(d - 1, max(c + 1, round(c + where * (d - c))))
    return [(a, b, c, at), (a, b, at, d)]


def wheel(block: Block, chance: random.Random, how: Manner) -> list[Block]:
    """Four parts around one."""
    a, b, c, d = block
    (x, z), (y, w) = (sorted(chance.sample(range(e + 1, f), 2)) for e, f in ((a, b), (c, d)))
    return [(a, z, c, y), (z, b, c, w), (x, b, w, d), (a, x, y, d), (x, z, y, w)]


def instance(
    chance: random.Random, blocks: list[Block], gone: float, capacity: int, height: int = GRID
) -> Instance:
    """The blocks as buffers, without as many as have the part `gone` of the area."""
    chance.shuffle(blocks)
    left = gone * sum(map(area, blocks))
    kept: list[Block] = []
    for block in blocks:
        if area(block) <= left:
            left -= area(block)
        else:
            kept.append(block)
    unit = capacity // height
    found = [Buffer(k, a, b, unit * (d - c)) for k, (a, b, c, d) in enumerate(kept)]
    return Instance(found, {k: unit * block[2] for k, block in enumerate(kept)})


def guillotine(chance: random.Random, capacity: int) -> Instance:
    gone = chance.choice((0.0, 0.02, 0.03, 0.05, 0.11))
    return instance(chance, tiled(chance, manner(chance)), gone, capacity)


def wheels(chance: random.Random, capacity: int) -> Instance:
    gone = chance.choice((0.0, 0.02, 0.03, 0.05, 0.11))
    how = manner(chance, chance.choice((0.1, 0.3, 0.6)))
    return instance(chance, tiled(chance, how), gone, capacity)


def long(chance: random.Random, capacity: int) -> Instance:
    number = chance.randint(3, 12)
    edges = [0, *sorted(chance.sample(range(1, 300), number))]
    blocks = [(0, GRID, a, b) for a, b in pairwise(edges)]
    how = Manner(chance.choice(COUNTS) - number, 0.75, 1.0, chance.choice((1, 2, 4, 12)), 0.1)
    above = tiled(chance, how, height=GRID - edges[-1])
    blocks += [(a, b, c + edges[-1], d + edges[-1]) for a, b, c, d in above]
    return instance(chance, blocks, chance.choice((0.0, 0.01, 0.02, 0.05)), capacity)


def repeated(chance: random.Random, capacity: int) -> Instance:
    height, width = chance.choice((32, 64, 128)), chance.choice((40, 64, 100, 200))
    blocks = tiled(chance, manner(chance, 0.1), width, height)
    return instance(chance, blocks, chance.choice((0.0, 0.01, 0.02, 0.05)), capacity, height)


KINDS: dict[str, Callable[[random.Random, int], Instance]] = {
    "guillotine": guillotine,
    "wheels": wheels,
    "long": long,
    "repeated": repeated,
}


def make(kind: str, seed: int, capacity: int) -> Instance:
    """The instance of a kind for a seed; the capacity is a multiple of 1024."""
    return KINDS[kind](random.Random(seed), capacity)
