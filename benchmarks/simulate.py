"""How fast programs are simulated, next to onnxruntime in the same process.

  python benchmarks/simulate.py                      all models
  python benchmarks/simulate.py digits_int8 --seconds 5

Inputs are given one at a time to a session that holds the constants, as in a run over a test set.
"ratio" is the time per input over that of onnxruntime as it comes: optimized, on all cores.
Compiling is left out of both. Times are the best and the median of all runs.

The products of the simulator run on --threads threads of OpenBLAS. More than one helps large
models on an idle machine, and costs a factor of ten and more where other work keeps the cores busy.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Callable, Mapping, Sequence
from itertools import cycle
from pathlib import Path
from time import perf_counter

import common
import reference
import zoo

GOAL_MODELS, GOAL_PER_SECOND = ("digits", "digits_int8"), 30.0
INPUTS = 4
COLUMNS = (
    "model", "target", "best ms", "median ms", "inputs / s", "onnxruntime ms", "ratio",
    "instructions run", "simulated ms",
)  # fmt: skip


def main() -> int:
    parser = common.parser(__doc__ or "")
    parser.add_argument("--seconds", type=float, default=3.0, help="per model (default: 3)")
    parser.add_argument("--threads", type=int, default=1, help="of OpenBLAS (default: 1)")
    args = parser.parse_args()
    if args.measure:
        common.answer(args, measurement(args))
        return 0
    rows = common.measure_each(
        args,
        __file__,
        ["--seconds", str(args.seconds)],
        OPENBLAS_NUM_THREADS=str(args.threads),
    )
    good = [row for row in rows if "error" not in row]
    title = f"simulation, one input at a time, {args.threads} BLAS threads"
    common.show(title, COLUMNS, map(cells, good))
    common.show_errors(rows)
    for row in good:
        if row["model"] in GOAL_MODELS:
            met = common.verdict(per_second(row) >= GOAL_PER_SECOND)
            print(f"{row['model']}: {per_second(row):,.0f} images/s; at least 30: {met}")
    return common.finish(args, rows)


def measurement(args: argparse.Namespace) -> Callable[[zoo.Model, Path], common.Row]:
    def body(model: zoo.Model, path: Path) -> common.Row:
        return measure(model, path, args.seconds)

    return body


def measure(model: zoo.Model, path: Path, limit: float) -> common.Row:
    """Compile one model and time its simulation, and onnxruntime."""
    from npu_dialect import api
    from npu_dialect.runtime.simulator import Session

    cases = zoo.inputs(path, INPUTS)
    program = api.compile(path, model.target, shapes=zoo.shapes(path))
    session = Session(program)
    ours = time_runs(session.run, cases, limit)
    other = reference.session(path, optimize=True)
    theirs = time_runs(lambda case: other.run(None, dict(case)), cases, limit / 3)
    return {
        "best": min(ours),
        "median": statistics.median(ours),
        "runs": len(ours),
        "onnxruntime": statistics.median(theirs),
        "executed": len(program.executed),
        "simulated": session.run(cases[0]).seconds,
    }


def time_runs(
    run: Callable[[Mapping[str, reference.Array]], object],
    cases: Sequence[Mapping[str, reference.Array]],
    limit: float,
) -> list[float]:
    """Seconds of each run, after one that fills the caches; at least three, until `limit`."""
    run(cases[0])
    times: list[float] = []
    for case in cycle(cases):
        start = perf_counter()
        run(case)
        times.append(perf_counter() - start)
        if len(times) >= 3 and sum(times) >= limit:
            break
    return times


def per_second(row: common.Row) -> float:
    return 1 / row["median"]


def cells(row: common.Row) -> tuple[object, ...]:
    return (
        row["model"],
        row["target"],
        f"{1000 * row['best']:.2f}",
        f"{1000 * row['median']:.2f}",
        f"{per_second(row):,.1f}",
        f"{1000 * row['onnxruntime']:.2f}",
        f"{row['median'] / row['onnxruntime']:.1f}",
        f"{row['executed']:,}",
        f"{1000 * row['simulated']:.3f}",
    )


if __name__ == "__main__":
    sys.exit(main())
