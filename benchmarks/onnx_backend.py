"""The tests that ship with onnx, compiled and simulated.

  python benchmarks/onnx_backend.py                                  the core tests
  python benchmarks/onnx_backend.py --tests FILE --target edge256    names of tests, one a line
  python benchmarks/onnx_backend.py test_add test_sub                these only

"all-NPU" counts the tests whose decoded program has at least one instruction of the array, the
vector unit or the copy engine, and none of the host. Inputs that state
a shape, axes, bounds or sizes are bound when compiling (`npu_dialect.onnx_backend.BOUND`).
"""

from __future__ import annotations

import argparse
import os
import sys
import warnings
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import common

if TYPE_CHECKING:
    from onnx_suite import Outcome

    from npu_dialect.runtime.program import Placement

TESTS = common.ROOT.parent / "shared" / "suites" / "onnx_in_scope_core.txt"

sys.path.insert(0, str(common.ROOT / "test"))


def main() -> int:
    args = options()
    names = args.names or args.tests.read_text().split()
    with ProcessPoolExecutor(args.jobs) as pool:
        work = partial(measure, target=args.target, seed=args.seed)
        outcomes = list(pool.map(work, names, chunksize=4))
    show_failures(outcomes)
    show_hosted(outcomes)
    show_summary(args.target, outcomes)
    rows = [{"model": o.name, "target": args.target, "all_npu": o.all_npu,
             "compile_seconds": round(o.seconds, 3)} | error(o)
            for o in outcomes]  # fmt: skip
    return common.finish(args, rows)


def options() -> argparse.Namespace:
    parser = common.parser(__doc__ or "", models=False)
    add = parser.add_argument
    add("names", nargs="*", metavar="TEST", help="run these only")
    add("--tests", type=Path, default=TESTS, metavar="FILE", help="names of tests (%(default)s)")
    add("--target", default="mobile4k")
    add("--seed", type=int, help="simulate in a random order that the program's waits permit")
    add("--jobs", type=int, default=os.cpu_count())
    return parser.parse_args()


def measure(name: str, target: str, seed: int | None) -> Outcome:
    """One test, in a process of the pool."""
    from onnx_suite import outcome

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return outcome(name, target, seed)


def error(outcome: Outcome) -> dict[str, str]:
    return {"error": outcome.error} if outcome.error else {}


def show_failures(outcomes: Sequence[Outcome]) -> None:
    """One line for each test that failed."""
    for outcome in outcomes:
        if outcome.error:
            kind = "DEFECT: " if outcome.is_defect else ""
            print(f"{outcome.name}: {kind}{outcome.error}")


def show_hosted(outcomes: Iterable[Outcome]) -> None:
    """The operators that fell back, by reason, the most frequent first."""
    found: dict[tuple[str, str], list[str]] = {}
    for outcome in outcomes:
        for key in dict.fromkeys(map(cause, outcome.hosted)):
            found.setdefault(key, []).append(outcome.name)
    print("\non the host\ntests  operator          reason (and a test)")
    for (operator, reason), tests in sorted(found.items(), key=lambda item: -len(item[1])):
        print(f"{len(tests):5}  {operator:16}  {reason} ({tests[0]})")


def cause(placement: Placement) -> tuple[str, str]:
    """The operator, and why it fell back; of one that `graph` cannot express, ONNX's name."""
    _, _, found = placement.reason.partition("; found ")
    if placement.rule != "expressible":
        return placement.op.removeprefix("graph."), f"{placement.rule}: {found}"
    operator, _, reason = found.partition(" (")
    return operator, reason.removesuffix(")")


def show_summary(target: str, outcomes: Sequence[Outcome]) -> None:
    """What the figures sum to."""
    passed = sum(not o.error for o in outcomes)
    all_npu = sum(o.all_npu for o in outcomes)
    defects = sum(o.is_defect for o in outcomes)
    slowest = max(outcomes, key=lambda o: o.seconds)
    print(f"\n{target}: {passed} of {len(outcomes)} passed, {all_npu} all-NPU", end=" ")
    print(f"({all_npu / len(outcomes):.1%}), {defects} failed without a clear message;", end=" ")
    print(f"slowest to compile: {slowest.name}, {slowest.seconds:.1f} s")


if __name__ == "__main__":
    sys.exit(main())
