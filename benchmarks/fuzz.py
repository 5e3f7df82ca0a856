"""Random graphs through the whole compiler, on machines with little memory.

  python benchmarks/fuzz.py                        5,000 cases
  python benchmarks/fuzz.py --cases 100 --seed 7   others, fewer
  python benchmarks/fuzz.py --case 1234            one again, with the error in full
  python benchmarks/fuzz.py --mappings             random layers with random legal mappings instead

A case is a graph of up to --size operations of every kind and type, and a target whose scratchpad
may be cut to a few KiB. Level graph must give what the module gave before any pass (integers bit
for bit, smooth functions of floats nearly); tile and npu must give the bits of graph, npu in two
orders of execution; npu-verify must find nothing; a second compilation must give the same bytes.

With --mappings a case is a few layers of what is mapped, for one of six targets, most of them cut
into tiles that the mapper would not choose but that its rules allow: the same must hold.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import traceback
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from importlib import import_module
from itertools import groupby
from pathlib import Path
from time import perf_counter

import common

sys.path.insert(0, str(common.ROOT / "test"))

Failure = tuple[int, str, str]
"""Seed, error, and where it was raised."""


def main() -> int:
    args = options()
    with tempfile.TemporaryDirectory() as folder:
        if args.case is not None:
            return again(args, Path(folder))
        start = perf_counter()
        seeds = range(args.seed, args.seed + args.cases)
        with ProcessPoolExecutor(args.jobs) as pool:
            work = partial(attempt, kind=kind(args), size=args.size, folder=Path(folder))
            failures = [f for f in pool.map(work, seeds, chunksize=16) if f is not None]
        seconds = perf_counter() - start
    show(failures)
    rate = args.cases / seconds
    print(f"\n{args.cases} cases, {len(failures)} failed, {rate:.1f} cases a second")
    rows = [{"model": f"case {s}", "target": "random", "error": e} for s, e, _ in failures]
    return common.finish(args, rows)


def options() -> argparse.Namespace:
    parser = common.parser(__doc__ or "", models=False)
    add = parser.add_argument
    add("--cases", type=int, default=5000)
    add("--seed", type=int, default=0, help="the first case")
    add("--size", type=int, help="operations at most (16, of mappings 4)")
    add("--mappings", action="store_true", help="random mappings of random layers")
    add("--case", type=int, help="this one alone")
    add("--jobs", type=int, default=os.cpu_count())
    args = parser.parse_args()
    args.size = args.size or (4 if args.mappings else 16)
    return args


def kind(args: argparse.Namespace) -> str:
    """The module of the tests that has the cases."""
    return "mapping_cases" if args.mappings else "fuzzing"


def attempt(seed: int, kind: str, size: int, folder: Path) -> Failure | None:
    """The failure of one case, in a process of the pool."""
    cases = import_module(kind)
    try:
        cases.check(cases.Case.of(seed, size), folder / str(os.getpid()))
    except Exception as problem:  # all cases are run
        cause = root(problem)
        frame = traceback.extract_tb(cause.__traceback__)[-1]
        text = " ".join(str(cause).split())[:200]
        place = f"{Path(frame.filename).name}:{frame.lineno}"
        return seed, f"{type(cause).__name__}: {text}", place
    return None


def again(args: argparse.Namespace, folder: Path) -> int:
    """Runs one case with its module and its error in full."""
    from npu_dialect import text

    cases = import_module(kind(args))
    case = cases.Case.of(args.case, args.size)
    print(case)
    print(text.to_text(case.module(folder)[0]))
    try:
        cases.check(case, folder)
    except Exception as problem:  # shown
        traceback.print_exception(root(problem))
        return 1
    return 0


def root(problem: BaseException) -> BaseException:
    """What an error was caused by in the first place."""
    while problem.__cause__ is not None:
        problem = problem.__cause__
    return problem


def show(failures: Sequence[Failure]) -> None:
    """One row for each place where cases fail."""

    def place(failure: Failure) -> str:
        return failure[2]

    rows: list[tuple[object, ...]] = []
    for where, found in groupby(sorted(failures, key=place), place):
        group = list(found)
        rows.append((len(group), ", ".join(str(s) for s, _, _ in group[:4]), where, group[0][1]))
    common.show("failures", ("cases", "for example", "raised in", "error"), rows)


if __name__ == "__main__":
    sys.exit(main())
