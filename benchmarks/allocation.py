"""Offset allocation on instances from files: python benchmarks/allocation.py FILE... --capacity N

A file is a table with the columns id, lower, upper, size: `size` bytes must be kept during
[lower, upper). Prints name, buffers, the highest byte that is used, the greatest sum of sizes that
are live at once, and seconds of processor time; exits 1 where an instance does not fit. The result
is the same every time: the search is bounded in steps.
"""

from __future__ import annotations

import argparse
import csv
import sys
import time
from pathlib import Path

from npu_dialect.passes.allocation import Buffer, Overflow, allocate, live_bound

EFFORT = 8
"""Times the work that a compilation may spend: about 8 s."""


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


def measure(path: Path, capacity: int, effort: int) -> bool:
    """Allocates one instance and prints its row; returns whether it fits."""
    buffers = read(path)
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
    print(f"{path.name:28}{len(buffers):8}{peak:12}{bound:12}{seconds:9.2f}  {note}".rstrip())
    return not note


def main(arguments: list[str] | None = None) -> int:
    """The command line; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("files", nargs="+", type=Path)
    parser.add_argument("--capacity", type=int, required=True, help="bytes")
    parser.add_argument("--effort", type=int, default=EFFORT, help="bound of the search, about 1 s")
    options = parser.parse_args(arguments)
    print(f"{'name':28}{'buffers':>8}{'peak':>12}{'live sum':>12}{'seconds':>9}")
    fits = [measure(path, options.capacity, options.effort) for path in options.files]
    return 0 if all(fits) else 1


if __name__ == "__main__":
    sys.exit(main())
