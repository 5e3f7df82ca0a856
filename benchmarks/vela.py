"""The same .tflite files, compiled by Arm Vela and by npu-compile for the same machines.

  python benchmarks/vela.py                      every .tflite file of the folder of models
  python benchmarks/vela.py mlperf_ic kws        models whose names hold one of these
  python benchmarks/vela.py --machine ethos_u65_512
  python benchmarks/vela.py --size               Vela's --optimise Size, our --objective memory
  python benchmarks/vela.py --raw                ours with constants as they are, too
  python benchmarks/vela.py --balanced           ours with the least bytes times squared cycles
  python benchmarks/vela.py --same-memory        ours in as much SRAM as Vela's result needs
  python benchmarks/vela.py --operators          our count of Vela's operators, with Vela's blocks

Needs the package ethos-u-vela. For each machine two lines a model, Vela's and ours, then ours over
Vela's. Columns:

  s, CPU s    compile time: the whole process, by the clock and of the processor, with nothing kept
              from before
  on-chip     bytes of SRAM at once: our scratchpad and, where dram begins with flash, what lies in
              SRAM behind it (inputs, outputs, what found no room), over bytes of the scratchpad
              that hold nothing meanwhile (`vela_sram.py`)
  off-chip    bytes moved from and to flash or DRAM, of constants as they are stored: both code them
              without loss; with --raw a line "raw" has ours of constants as they are
  weights     bytes of them, as the model has them and as they are stored
  array       cycles of array and output stage, operator by operator (with the copies of weights
              that an operator waits for: Vela's; without: ours)
  total       cycles; Vela adds up operators, ours overlap
  /bound      over the greater of multiply-accumulates over the array's peak and weights, as the
              model has them, over the width of flash or DRAM; both by Vela's count of them
  uJ          energy, ours only: Vela has none
  host        layers of the host, whose time is part of ours and not of Vela's

Means are over the models of which Vela runs anything on the accelerator.

What the two count differently is in docs/targets.md. Models that do not load, here or there, are
listed with the reason.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from math import exp, log, prod
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING

import common
import vela_runs
import vela_sram
from vela_runs import MACHINES, Machine

if TYPE_CHECKING:
    from npu_dialect.runtime.program import Program
    from npu_dialect.target import Target

COLUMNS = (
    "model", "by", "s, CPU s", "on-chip", "off-chip", "weights", "array", "total", "/bound", "uJ",
    "host",
)  # fmt: skip
ALIGNMENT = 16
"""Bytes by multiples of which a scratchpad is made smaller."""
TRIES = 4
"""Sizes of the scratchpad that are tried for a limit of all SRAM."""
RATIOS = ("cpu_seconds", "on_chip", "off_chip", "array", "cycles")
"""What ours is compared with Vela's in."""


def main() -> int:
    args = _parser().parse_args()
    if not vela_runs.is_installed():
        sys.exit("needs the package ethos-u-vela: pip install -c constraints.txt -e .[dev]")
    common.compile_bytecode()
    compare = operators if args.operators else _compare
    rows = [
        row
        for machine in MACHINES
        if not args.machine or machine.target in args.machine
        for row in compare(args, machine)
    ]
    return common.finish(args, rows)


def _parser() -> argparse.ArgumentParser:
    parser = common.parser(__doc__ or "", models=False)
    add = parser.add_argument
    add("names", nargs="*", metavar="MODEL", help="models whose names hold one of these")
    add("--models", metavar="DIR", type=Path, default=common.SHARED_MODELS)
    add(
        "--machine",
        action="append",
        choices=[m.target for m in MACHINES],
        help="this one only (may be repeated)",
    )
    add("--raw", action="store_true", help="ours with constants as they are, too")
    add("--size", action="store_true", help="for the least memory rather than cycles")
    add("--balanced", action="store_true", help="ours with --objective balanced")
    add("--operators", action="store_true", help="compare the counts of cycles, compile nothing")
    add("--same-memory", action="store_true", help="give ours the SRAM that Vela's result needs")
    return parser


def _compare(args: argparse.Namespace, machine: Machine) -> list[common.Row]:
    """The figures of all models on a machine, printed."""
    objective = "memory" if args.size else "balanced" if args.balanced else "latency"
    rows: list[common.Row] = []
    for path in _models(args):
        print(f"{path.stem} on {machine.target} ...", file=sys.stderr, flush=True)
        row: common.Row = {"model": path.stem, "target": machine.target}
        try:
            row["vela"] = of_vela(path, machine, args.size)
            if not args.same_memory:
                row["ours"] = of_ours(path, machine, objective)
            if args.raw:
                row["raw"] = of_ours(path, machine, objective, raw=True)
            if args.same_memory:
                row["ours"] = within(path, machine, objective, row["vela"]["on_chip"])
        except Exception as problem:  # one model that fails must not hide the others
            by = "ours" if "vela" in row else "vela"
            row["error"] = f"{by}: {str(problem).splitlines()[0]}"
        rows.append(row)
    good = [row for row in rows if "error" not in row and row["vela"]["cycles"]]
    common.show(
        f"{machine.target}: {machine.accelerator}, {machine.system}, {machine.memory}",
        COLUMNS,
        (line for row in rows for line in lines(row)),
    )
    for line in means(good):
        print(line)
    common.show_errors(rows)
    return rows


def _models(args: argparse.Namespace) -> list[Path]:
    """The files that the options ask for."""
    found = sorted(args.models.glob("*.tflite"))
    return [p for p in found if not args.names or any(name in p.stem for name in args.names)]


def operators(args: argparse.Namespace, machine: Machine) -> list[common.Row]:
    """How many operators our count is equal for, with the blocks that Vela chose, and the sum.

    Operators of Vela's on Ethos-U65 may read and write dram, and then wait for it; ours do not.
    """
    import vela_count

    rows: list[common.Row] = []
    for path in _models(args):
        try:
            with tempfile.TemporaryDirectory() as folder:
                found = vela_runs.run(path, machine, Path(folder), ["--enable-debug-db"])
        except RuntimeError as problem:
            print(f"{path.stem}: {problem}")
            continue
        if not found.operators:
            continue
        many = [o for o in found.operators if o.mac_cycles is not None]
        counts = [vela_count.of_operator(machine.target, o) for o in many]
        pairs = list(zip(counts, many, strict=True))
        rows.append({
            "model": path.stem,
            "target": machine.target,
            "operators": len(many),
            "mac_cycles": sum(c.mac_cycles == o.mac_cycles for c, o in pairs),
            "whole": sum(c.total in (o.cycles, o.npu_cycles) for c, o in pairs),
            "ours": vela_count.of_network(machine.target, found.operators),
            "vela": int(found.number("cycles_npu")),
        })  # fmt: skip
    columns = ("model", "operators", "mac_cycles equal", "whole equal", "ours", "Vela", "ratio")
    common.show(f"{machine.target}: array and output stage", columns, map(_operator_line, rows))
    return rows


def _operator_line(row: common.Row) -> Sequence[object]:
    share = f"{row['ours'] / row['vela']:.3f}"
    counts = (row["operators"], row["mac_cycles"], row["whole"])
    return (row["model"], *counts, f"{row['ours']:,}", f"{row['vela']:,}", share)


# --- measuring ------------------------------------------------------------------------------------


def of_vela(path: Path, machine: Machine, size: bool) -> common.Row:
    """Vela's figures of a model."""
    options = ["--optimise", "Size"] if size else []
    with tempfile.TemporaryDirectory() as folder:
        found = vela_runs.run(path, machine, Path(folder), options)
    target = _target(machine)
    weights = found.number("total_original_weights")
    width = target.memories["dram"].ports["dma"]
    peak = prod(target.array.macs["i8"])
    return {
        "seconds": found.seconds,
        "cpu_seconds": found.cpu_seconds,
        "on_chip": found.on_chip,
        "off_chip": found.off_chip,
        "weights": weights,
        "stored": found.number("total_npu_encoded_weights"),
        "array": found.number("cycles_npu"),
        "cycles": found.number("cycles_total"),
        "bound": max(found.number("nn_macs") / peak, weights / width),
    }


def within(path: Path, machine: Machine, objective: str, limit: float) -> common.Row:
    """Our figures in so many bytes of SRAM, with what lies beside the scratchpad."""
    room = min(int(limit), _target(machine).memories["spm"].size)
    for _ in range(TRIES):
        found = of_ours(path, machine, objective, scratchpad=room)
        if found["on_chip"] <= limit:
            return found
        room -= -(-(found["on_chip"] - int(limit)) // ALIGNMENT) * ALIGNMENT
        if room <= 0:
            break
    raise ValueError(f"{limit:,.0f} bytes do not hold the program and its inputs and outputs")


def of_ours(
    path: Path, machine: Machine, objective: str, raw: bool = False, scratchpad: int = 0
) -> common.Row:
    """Our figures of a model, read off the program that npu-compile wrote."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "model.npu"
        command = [sys.executable, "-m", "npu_dialect.tools.npu_compile", str(path)]
        command += ["--target", machine.target, "-o", str(file)]
        command += ["--objective", objective]
        command += ["--raw-constants"] if raw else []
        command += ["--scratchpad", str(scratchpad)] if scratchpad else []
        before, start = os.times(), perf_counter()
        done = subprocess.run(
            command, capture_output=True, text=True, cwd=common.ROOT,
            env=os.environ | {"NPU_NO_CACHE": "programs,mappings"},
        )  # fmt: skip
        seconds, after = perf_counter() - start, os.times()
        if done.returncode:
            raise RuntimeError(_error(done.stderr))
        used = after.children_user - before.children_user
        used += after.children_system - before.children_system
        return {"seconds": seconds, "cpu_seconds": used, **figures(file)}


def _error(text: str) -> str:
    lines = text.strip().splitlines() or ["no output"]
    return next((line for line in lines if line.startswith("error")), lines[-1])


def figures(file: Path) -> common.Row:
    """What a program takes."""
    from npu_dialect.runtime.program import Program

    program = Program.from_bytes(file.read_bytes())
    profile = program.profile
    busy = {engine.name: engine.busy for engine in profile.engines}
    stored = sum(c.array.nbytes for c in program.constants)
    return {
        "on_chip": max(profile.peak_spm, vela_sram.in_one_sram(program)),
        "off_chip": off_chip(program),
        "stored": stored,
        "array": busy.get("mxu", 0) + busy.get("vpu", 0),
        "cycles": profile.cycles,
        "energy": profile.energy.joules * 1e6,
        "host": sum(row.engine == "host" for row in program.placement),
    }


def off_chip(program: Program) -> int:
    """Bytes of dram that copies move or the array reads, of the part that is not on the chip."""
    read_only = program.machine.memories["dram"].read_only
    moved = 0
    for cost, (_, op) in zip(program.profile.costs, program.executed, strict=True):
        if op.takes_dma:  # constants, perhaps several times
            moved += cost.reads["dram"]
            continue
        if op.engine == "io":
            continue
        for operand in (*op.reads(), *op.writes()):
            is_off = not read_only or operand.address < read_only
            moved += operand.size if operand.space == "dram" and is_off else 0
    return moved


def _target(machine: Machine) -> Target:
    from npu_dialect.target import load_target

    return load_target(machine.target)


# --- showing --------------------------------------------------------------------------------------


def lines(row: common.Row) -> Iterator[Sequence[object]]:
    """A line of a model by each that compiled it, and the ratios."""
    for by in (by for by in ("vela", "ours", "raw") if by in row):
        found = row[by]
        yield (
            row["model"] if by == "vela" else "",
            by,
            f"{found['seconds']:.1f}, {found['cpu_seconds']:.1f}",
            _kibibytes(found["on_chip"]),
            _kibibytes(found["off_chip"]),
            f"{_kibibytes(row['vela']['weights'])} > {_kibibytes(found['stored'])}",
            f"{found['array']:,.0f}",
            f"{found['cycles']:,.0f}",
            f"{found['cycles'] / bound:.2f}" if (bound := row["vela"]["bound"]) else "-",
            f"{found['energy']:.1f}" if "energy" in found else "-",
            found.get("host", "-"),
        )
    if "ours" not in row:
        return
    for by in (by for by in ("ours", "raw") if by in row):
        share = {key: f"{ratio(row, key, by):.2f} x" for key in RATIOS}
        shown = (share["cpu_seconds"], share["on_chip"], share["off_chip"], "", share["array"])
        yield ("", f"{by} / vela", *shown, share["cycles"], "", "", "")


def _kibibytes(size: float) -> str:
    return f"{size / 1024:.0f}K" if size >= 100 * 1024 else f"{size / 1024:.1f}K"


def ratio(row: common.Row, key: str, by: str = "ours") -> float:
    """Ours over Vela's."""
    return row[by][key] / row["vela"][key] if row["vela"][key] else float("inf")


def means(rows: Sequence[common.Row]) -> Iterator[str]:
    """Geometric means over models, and on how many of them ours is no more."""
    for by in (by for by in ("ours", "raw") if all(by in row for row in rows)):
        for key in RATIOS if rows else ():
            found = [r for r in (ratio(row, key, by) for row in rows) if 0 < r < float("inf")]
            mean = exp(sum(map(log, found)) / len(found)) if found else float("nan")
            yield (
                f"{key}, {by} / vela: geometric mean {mean:.2f}, greatest "
                f"{max(found, default=0):.2f}; at most 1 for {sum(r <= 1 for r in found)} of "
                f"{len(rows)}"
            )


if __name__ == "__main__":
    sys.exit(main())
