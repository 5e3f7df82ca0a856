"""The tests that ship with onnx, compiled and simulated.

  python benchmarks/onnx_backend.py                                  the core tests of our peers
  python benchmarks/onnx_backend.py --tests FILE --target edge256    names of tests, one a line
  python benchmarks/onnx_backend.py test_add test_sub                these only

"all-NPU" counts the tests whose decoded program has at least one instruction of the array, the
vector unit or the copy engine, and none of the host. Operands that state a shape, axes, bounds or
sizes are bound when compiling; everything else is an input of the simulated program.
"""

from __future__ import annotations

import argparse
import os
import sys
import warnings
from collections import Counter
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import common

if TYPE_CHECKING:
    from onnx_suite import Outcome

TESTS = common.ROOT.parent / "shared" / "suites" / "onnx_core_peer_consensus.txt"

sys.path.insert(0, str(common.ROOT / "test"))


def main() -> int:
    args = options()
    names = args.names or args.tests.read_text().split()
    with ProcessPoolExecutor(args.jobs) as pool:
        work = partial(measure, target=args.target, seed=args.seed)
        outcomes = list(pool.map(work, names, chunksize=4))
    show_failures(outcomes)
    show_hosted(outcomes)
    passed = sum(not o.error for o in outcomes)
    all_npu = sum(o.all_npu for o in outcomes)
    defects = sum(o.is_defect for o in outcomes)
    print(f"\n{args.target}: {passed} of {len(outcomes)} passed, {all_npu} all-NPU,", end=" ")
    print(f"{defects} failed without a clear message")
    rows = [{"model": o.name, "target": args.target, "all_npu": o.all_npu} | error(o)
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
    failed = [o for o in outcomes if o.error]
    common.show("failures", ("test", "defect", "error"), map(failure, failed))


def failure(outcome: Outcome) -> tuple[str, str, str]:
    return outcome.name, "yes" if outcome.is_defect else "", outcome.error


def show_hosted(outcomes: Iterable[Outcome]) -> None:
    """Operators on the host, by reason, the most frequent first."""
    count: Counter[tuple[str, str, str]] = Counter()
    example: dict[tuple[str, str, str], str] = {}
    for outcome in outcomes:
        for key in dict.fromkeys((p.op, p.rule, p.reason) for p in outcome.hosted):
            count[key] += 1
            example.setdefault(key, outcome.name)
    rows = [(op, n, f"{rule}: {reason}", example[op, rule, reason])
            for (op, rule, reason), n in count.most_common()]  # fmt: skip
    common.show("on the host", ("operation", "tests", "reason", "for example"), rows)


if __name__ == "__main__":
    sys.exit(main())
