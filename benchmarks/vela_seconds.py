"""Processor time of compiling .tflite files, beside both cores of Arm Vela.

  python benchmarks/vela_seconds.py                      the models of GOAL
  python benchmarks/vela_seconds.py mlperf_ic mcunet     models whose names hold one of these

Seconds of user and system time of whole processes, run in turns; the least of --runs of each.
Columns:

  ours        npu-compile with nothing kept from before
  again       npu-compile of a model that was compiled before
  Vela        its core in C++
  Python      its core in Python (--debug-force-legacy-core)
  ours / Python, against GOAL

Needs the package ethos-u-vela.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import common
import vela_runs

GOAL = 3.0
"""Times the processor time of Vela's Python core."""
MODELS = (
    "mlperf_ad_int8", "mlperf_kws_int8", "mlperf_ic_int8", "mlperf_vww_int8",
    "coral_mobilenet_v1_025_128", "coral_tf2_mobilenet_v2_ptq",
)  # fmt: skip
LEGACY = ("--debug-force-legacy-core",)


def main() -> int:
    parser = common.parser(__doc__ or "", models=False)
    add = parser.add_argument
    add(
        "names", nargs="*", metavar="MODEL", default=MODELS, help="parts of names (default: GOAL's)"
    )
    add("--models", metavar="DIR", type=Path, default=common.SHARED_MODELS)
    add("--machine", choices=[m.target for m in vela_runs.MACHINES], default="ethos_u55_256")
    add("--runs", type=int, default=3, help="of each (default: 3)")
    args = parser.parse_args()
    common.compile_bytecode()
    machine = next(m for m in vela_runs.MACHINES if m.target == args.machine)
    found = sorted(args.models.glob("*.tflite"))
    paths = [path for path in found if any(name in path.stem for name in args.names)]
    rows = [row(path, machine, args.runs) for path in paths]
    lines = [
        (r["model"], *(f"{r[k]:.2f}" for k in ("ours", "again", "vela", "python", "ratio")))
        for r in rows
    ]
    header = ("model", "ours", "again", "Vela", "Python", "ours / Python")
    common.show(f"CPU seconds of compiling for {machine.target}", header, lines)
    worst = max((r["ratio"] for r in rows), default=0.0)
    print(f"at most {GOAL} times Vela's Python core: {common.verdict(worst <= GOAL)}")
    return common.finish(args, rows)


def row(path: Path, machine: vela_runs.Machine, runs: int) -> common.Row:
    """The least seconds of each, run in turns."""
    found: dict[str, list[float]] = {"ours": [], "again": [], "vela": [], "python": []}
    for _ in range(runs):
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            for which in ("ours", "again"):
                found[which].append(ours(path, machine, folder))
            for which, options in (("vela", ()), ("python", LEGACY)):
                used = vela_runs.run(path, machine, folder / which, options).cpu_seconds
                found[which].append(used)
    least = {which: min(seconds) for which, seconds in found.items()}
    return {"model": path.stem, **least, "ratio": least["ours"] / least["python"]}


def ours(path: Path, machine: vela_runs.Machine, folder: Path) -> float:
    """Seconds of npu-compile, which keeps what it finds in the folder."""
    command = [sys.executable, "-m", "npu_dialect.tools.npu_compile", str(path)]
    command += ["--target", machine.target, "-o", str(folder / "model.npu")]
    environment = os.environ | {"NPU_CACHE_DIR": str(folder / "cache")}
    environment.pop("NPU_NO_CACHE", None)
    before = os.times()
    subprocess.run(command, capture_output=True, check=True, cwd=common.ROOT, env=environment)
    after = os.times()
    used = after.children_user - before.children_user
    return used + after.children_system - before.children_system


if __name__ == "__main__":
    sys.exit(main())
