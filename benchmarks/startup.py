"""How long `npu-opt --help` takes, process start included.

python benchmarks/startup.py --runs 20
"""

from __future__ import annotations

import statistics
import subprocess
import sys
from time import perf_counter

import common

GOAL_SECONDS = 0.5
COMMANDS = {
    "python -c pass": ("-c", "pass"),
    "npu-opt --help": ("-m", "npu_dialect.tools.npu_opt", "--help"),
    "npu-compile --help": ("-m", "npu_dialect.tools.npu_compile", "--help"),
    "npu-run --help": ("-m", "npu_dialect.tools.npu_run", "--help"),
    "import npu_dialect.api": ("-c", "import npu_dialect.api"),
}
"""What is timed; the first is the share of Python itself."""


def main() -> int:
    parser = common.parser(__doc__ or "", models=False)
    parser.add_argument("--runs", type=int, default=10, help="of each (default: 10)")
    args = parser.parse_args()
    common.compile_bytecode()
    rows = [row(name, time_runs(command, args.runs)) for name, command in COMMANDS.items()]
    lines = [(r["command"], f"{r['best']:.3f}", f"{r['median']:.3f}") for r in rows]
    common.show(f"start of a process, {args.runs} runs", ("command", "best s", "median s"), lines)
    median = next(r["median"] for r in rows if r["command"] == "npu-opt --help")
    print(f"npu-opt --help under {GOAL_SECONDS} s: {common.verdict(median < GOAL_SECONDS)}")
    return common.finish(args, rows)


def row(command: str, times: list[float]) -> common.Row:
    return {"command": command, "best": min(times), "median": statistics.median(times)}


def time_runs(arguments: tuple[str, ...], runs: int) -> list[float]:
    """Seconds of each run of the Python interpreter, after one that fills the caches."""
    times: list[float] = []
    for _ in range(runs + 1):
        start = perf_counter()
        subprocess.run(
            [sys.executable, *arguments], check=True, capture_output=True, cwd=common.ROOT
        )
        times.append(perf_counter() - start)
    return times[1:]


if __name__ == "__main__":
    sys.exit(main())
