"""torch's samples of its operators (OpInfo), compiled, simulated and compared with eager torch.

  python benchmarks/torch_opinfo.py                          core ATen and what models use, f32
  python benchmarks/torch_opinfo.py add softmax --limit 5    these operators, few samples
  python benchmarks/torch_opinfo.py --all --jobs 1           every OpInfo of torch
  python benchmarks/torch_opinfo.py topk --samples           a line for each sample

A sample is a module of one call, in inference; its tensors are the inputs. "passed" means that all
results have torch's types and shapes, and its values within rtol 1e-4, and within 1e-5 of the
greatest magnitude (integers exactly). "all-NPU" programs have instructions of the array, the vector
unit or the copy engine and no work of the host; "host" ones have some; "idle" ones have nothing to
do at run time. Samples "apart" are no tests, for the reason given: no tensor, random results, no
elements. Complex numbers are compared as pairs; operators without floats are tested with int64.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import common

if TYPE_CHECKING:
    from opinfo_suite import Outcome

SUITES = common.ROOT.parent / "shared" / "suites"
LISTS = (SUITES / "torch_ops_core.tsv", SUITES / "torch_core_aten.txt")
KINDS = ("all-NPU", "host", "idle", "failed", "apart")
CRASHED = "the process ended (a crash)"

sys.path.insert(0, str(common.ROOT / "test"))


def main() -> int:
    args = options()
    tests = chosen(args)
    names = list(dict.fromkeys(name for found in tests.values() for name in found))
    outcomes = list(run(args, names))
    if args.samples:
        show_samples(outcomes)
    by_test: dict[str, list[Outcome]] = {}
    for outcome in outcomes:
        by_test.setdefault(outcome.op, []).append(outcome)
    rows = {op: [o for name in found for o in by_test[name]] for op, found in tests.items()}
    show_operators(rows)
    show_reasons("failed", ((o.reason, o) for o in outcomes if o.kind == "failed"))
    show_reasons("on the host", ((h, o) for o in outcomes if o.is_passed for h in o.hosted))
    show_reasons("apart", ((o.reason, o) for o in outcomes if o.kind == "apart"))
    show_summary(args.target, rows, outcomes)
    return common.finish(args, [as_row(o, args.target) for o in outcomes])


def options() -> argparse.Namespace:
    parser = common.parser(__doc__ or "", models=False)
    add = parser.add_argument
    add("names", nargs="*", metavar="OP", help="these operators only: an ATen name, or an OpInfo's")
    add(
        "--lists", nargs="*", type=Path, default=LISTS, metavar="FILE", help="operators, one a line"
    )
    add("--all", action="store_true", help="every OpInfo of torch")
    add("--target", default="mobile4k")
    add("--limit", type=int, default=40, help="samples of an OpInfo, evenly chosen (%(default)s)")
    add("--seconds", type=int, default=60, help="the time limit of a sample (%(default)s)")
    add("--samples", action="store_true", help="print a line for each sample")
    add("--jobs", type=int, default=os.cpu_count())
    return parser.parse_args()


def chosen(args: argparse.Namespace) -> dict[str, list[str]]:
    """The OpInfos of each operator. Exits on a name that torch does not have."""
    import opinfo_suite

    if args.all:
        return {name: [name] for name in opinfo_suite.infos()}
    found = {op: opinfo_suite.of_operator(op) for op in args.names or listed(args.lists)}
    for op in args.names:
        if op in opinfo_suite.infos():
            found[op] = [op]
        elif not found[op]:
            sys.exit(f"torch has no OpInfo for {op}")
    return found


def listed(files: Iterable[Path]) -> list[str]:
    """The operators of the lists, without their overloads and those of training."""
    lines = [line.split("\t")[0] for path in files for line in path.read_text().splitlines()]
    bases = [line.split(".")[1] for line in lines if line.startswith("aten.")]
    return sorted({base for base in bases if not base.endswith("_backward")})


def run(args: argparse.Namespace, names: Sequence[str]) -> Iterator[Outcome]:
    """The outcomes of all samples, in order. A process that dies costs one operator."""
    work = partial(measure, target=args.target, limit=args.limit, seconds=args.seconds)
    left = list(names)
    while left:
        with ProcessPoolExecutor(args.jobs) as pool:
            try:
                for outcomes in pool.map(work, left):
                    print(f"{left.pop(0)} ...", file=sys.stderr, flush=True)
                    yield from outcomes
            except BrokenProcessPool:
                pass
        if left:  # a process died, by this operator or another that ran beside it
            yield from alone(work, left.pop(0))


def alone(work: Callable[[str], list[Outcome]], name: str) -> list[Outcome]:
    """The outcomes of one operator, in a process of its own."""
    from opinfo_suite import Outcome

    with ProcessPoolExecutor(1) as pool:
        try:
            return pool.submit(work, name).result()
        except BrokenProcessPool:
            return [Outcome(name, 0, "failed", CRASHED)]


def measure(name: str, target: str, limit: int, seconds: int) -> list[Outcome]:
    """One OpInfo, in a process of the pool."""
    import opinfo_suite

    return opinfo_suite.outcomes(name, target, limit, seconds)


def as_row(outcome: Outcome, target: str) -> common.Row:
    return {"model": outcome.op, "target": target, "sample": outcome.sample, "kind": outcome.kind,
            "reason": outcome.reason, "hosted": outcome.hosted,
            "seconds": round(outcome.seconds, 3)} | (
            {"error": outcome.reason} if outcome.kind == "failed" else {})  # fmt: skip


def show_samples(outcomes: Iterable[Outcome]) -> None:
    for o in outcomes:
        print(f"{o.op} {o.sample}: {o.kind}, {o.seconds:.2f} s; {o.reason} {'; '.join(o.hosted)}")


def show_operators(rows: dict[str, list[Outcome]]) -> None:
    """One line for each operator."""
    table: list[Sequence[object]] = []
    for op, outcomes in rows.items():
        count = Counter(o.kind for o in outcomes)
        passed, ran = sum(o.is_passed for o in outcomes), sum(o.is_run for o in outcomes)
        table.append((op, f"{passed}/{ran}", *(count[kind] or "" for kind in KINDS)))
    common.show("samples by operator", ("operator", "passed", *KINDS), table)


def show_reasons(title: str, reasons: Iterable[tuple[str, Outcome]]) -> None:
    """Reasons with how many samples have them, the most frequent first, and operators."""
    found: dict[str, Counter[str]] = {}
    for reason, outcome in reasons:
        found.setdefault(reason, Counter())[outcome.op] += 1
    print(f"\n{title}\nsamples  reason (operators)")
    for reason, ops in sorted(found.items(), key=lambda item: -item[1].total()):
        names = ", ".join(list(ops)[:4]) + (", ..." if len(ops) > 4 else "")
        print(f"{ops.total():7}  {reason} ({names})")


def show_summary(target: str, rows: dict[str, list[Outcome]], outcomes: Sequence[Outcome]) -> None:
    """What the figures sum to; a sample of several operators counts once."""
    tested = {op: found for op, found in rows.items() if any(o.is_run for o in found)}
    whole = sum(all(o.is_passed for o in found if o.is_run) for found in tested.values())
    count = Counter(o.kind for o in outcomes)
    passed, ran = sum(o.is_passed for o in outcomes), sum(o.is_run for o in outcomes)
    print(f"\n{target}: {passed} of {ran} samples passed ({passed / max(ran, 1):.1%}),", end=" ")
    print(", ".join(f"{count[kind]} {kind}" for kind in KINDS), end="; ")
    print(f"{whole} of {len(tested)} operators passed in all samples;", end=" ")
    print(f"{len(rows) - len(tested)} operators without a sample that is a test: ", end="")
    print(", ".join(op for op in rows if op not in tested) or "none")


if __name__ == "__main__":
    sys.exit(main())
