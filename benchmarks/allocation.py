"""Offset allocation on instances from files: python benchmarks/allocation.py FILE... --capacity N

`--cut N` adds N instances that are known to fit: rectangles as high as the capacity, cut at random
into 150 to 400 buffers, of which 2 to 10 % of the area is taken away. `--kinds N` adds N of each
kind of `allocation_kinds.py`.

A file is a table with the columns id, lower, upper, size: `size` bytes must be kept during
[lower, upper). Prints name, buffers, the highest byte that is used, the greatest sum of sizes that
are live at once, and seconds of processor time; exits 1 where an instance does not fit. The result
is the same every time: the search is bounded in steps.
"""

from __future__ import annotations

import argparse
import csv
import random
import sys
import time
from pathlib import Path

import allocation_kinds

from npu_dialect.passes.allocation import Buffer, Overflow, allocate, live_bound

EFFORT = 7
"""Times the work that a compilation may spend: about 7 s."""


def read(path: Path) -> list[Buffer]:
    """The buffers of a file."""
    with path.open(newline="") as file:
        rows = [{name: int(value) for name, value in row.items()} for row in csv.DictReader(file)]
    return [Buffer(row["id"], row["lower"], row["upper"], row["size"]) for row in rows]


def check(buffers: list[Buffer], offsets: dict[int, int], capacity: int) -> None:
    """Raises AssertionError where two buffers share a byte at a time, or one lies outside."""
    for a in buffers:
        low, high = offsets[a.id], offsets[a.id] + a.size
        assert low >= 0, f"buffer {a.id} starts at {low}"
        assert high <= capacity, f"buffer {a.id} ends at {high}"
        for b in buffers:
            meet = a.id < b.id and a.lower < b.upper and b.lower < a.upper
            apart = high <= offsets[b.id] or offsets[b.id] + b.size <= low
            assert not meet or apart, f"buffers {a.id} and {b.id} overlap"


def cut(seed: int, height: int) -> list[Buffer]:
    """Buffers that fit in `height` bytes, a multiple of 1024."""
    chance = random.Random(seed)
    count = chance.choice([150, 170, 200, 215, 250, 300, 400])
    time = int(count * chance.uniform(0.5, 0.7))
    gone, upright = chance.choice([0.02, 0.03, 0.05, 0.1]), chance.uniform(0.3, 0.6)
    blocks = [(0, time, 0, height // 1024)]
    for _ in range(20 * count):
        if len(blocks) >= count:
            break
        some = chance.sample(range(len(blocks)), min(12, len(blocks)))
        number = max(some, key=lambda k: area(blocks[k]))
        blocks += parts(blocks.pop(number), chance, upright)
    chance.shuffle(blocks)
    left = gone * time * (height // 1024)
    kept: list[Block] = []
    for block in blocks:
        if area(block) <= left:
            left -= area(block)
        else:
            kept.append(block)
    return [Buffer(k, a, b, 1024 * (d - c)) for k, (a, b, c, d) in enumerate(kept)]


Block = tuple[int, int, int, int]
"""From and to in time, from and to in address."""


def area(block: Block) -> int:
    return (block[1] - block[0]) * (block[3] - block[2])


def parts(block: Block, chance: random.Random, upright: float) -> list[Block]:
    """Two parts of a block, in time with the chance `upright`, else in address."""
    a, b, c, d = block
    where = chance.betavariate(0.7, 0.7)
    if b - a > 1 and (chance.random() < upright or d - c < 2):
        at = min(b - 1, max(a + 1, round(a + where * (b - a))))
        return [(a, at, c, d), (at, b, c, d)]
    if d - c < 2:
        return [block]
    at = min(d - 1, max(c + 1, round(c + where * (d - c))))
    return [(a, b, c, at), (a, b, at, d)]


def measure(name: str, buffers: list[Buffer], capacity: int, effort: float) -> bool:
    """Allocates one instance and prints its row; returns whether it fits."""
    start = time.process_time()
    try:
        offsets = allocate(buffers, capacity, effort)
    except Overflow as overflow:
        peak, note = overflow.peak, "does not fit" if overflow.proven else "not found"
    else:
        check(buffers, offsets, capacity)
        peak, note = max((offsets[b.id] + b.size for b in buffers), default=0), ""
    seconds = time.process_time() - start
    bound = live_bound(buffers)[0]
    print(f"{name:28}{len(buffers):8}{peak:12}{bound:12}{seconds:9.2f}  {note}".rstrip())
    return not note


def main(arguments: list[str] | None = None) -> int:
    """The command line; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("files", nargs="*", type=Path)
    parser.add_argument("--cut", type=int, default=0, metavar="N", help="also N random instances")
    parser.add_argument("--kinds", type=int, default=0, metavar="N", help="also N of each kind")
    parser.add_argument("--capacity", type=int, required=True, help="bytes")
    parser.add_argument(
        "--effort", type=float, default=EFFORT, help="bound of the search, about 1 s"
    )
    options = parser.parse_args(arguments)
    print(f"{'name':28}{'buffers':>8}{'peak':>12}{'live sum':>12}{'seconds':>9}")
    named = [(path.name, read(path)) for path in options.files]
    named += [(f"cut {seed}", cut(seed, options.capacity)) for seed in range(options.cut)]
    for kind in allocation_kinds.KINDS:
        for seed in range(options.kinds):
            made = allocation_kinds.make(kind, seed, options.capacity)
            named.append((f"{kind} {seed}", made.buffers))
    fits = [measure(*each, options.capacity, options.effort) for each in named]
    return 0 if all(fits) else 1


if __name__ == "__main__":
    sys.exit(main())
