"""How far each program is from what its machine allows, and what holds it back.

  python benchmarks/mapping.py                        every model on its targets
  python benchmarks/mapping.py resnet18 ultraface     models whose names hold one of these
  python benchmarks/mapping.py --target edge512       on this target only (may be repeated)
  python benchmarks/mapping.py --jobs 2 --json F      two processes at once, figures to a file

Models are the ONNX files of --models, those of zoo.py and vision.py: integers on edge256, edge512
and headset2k where there is a quantized file or onnxruntime's static quantizer makes one, floats on
mobile4k. Columns:

  estimate  cycles that the plan foretold before scheduling, over them
  bound     cycles that no program can beat (npu_dialect/bound.py), and the resource they are of
  /bound    cycles over it
  /layers   cycles over the bound by layers: what an engine is busy at least where one layer
            computes, the next one waits for the scratchpad's port, a third for the output stage
            (by layers and room, in the summary: layers in their order, with no more bytes loaded
            ahead than the scratchpad holds)
  /busiest  cycles over those of the busiest engine; then each engine's share of the time
  dram      bytes moved over the compulsory ones (weights, inputs, state, outputs, each once)
  peak      the highest address of the scratchpad over the greatest sum of bytes live at once, with
            lifetimes read off the decoded program, byte by byte (live_bytes.py)
  verify    whether npu-verify proves the program again after it was written and read

Programs whose bound is under 50,000 cycles have no goal.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import TYPE_CHECKING

import common
import vision
import zoo
from live_bytes import greatest_live_sum

if TYPE_CHECKING:
    from npu_dialect.runtime.program import Program

INT8_TARGETS, FLOAT_TARGETS = ("edge256", "edge512", "headset2k"), ("mobile4k",)
LEAST = 50_000
"""Cycles of the bound from which on a program has a goal."""
FAR = 1.5
"""Cycles over the bound beyond which the causes are told."""
BUILT = ("mobilenet_v2", "resnet18", "resnet50", "mobilebert")
HAVE_INT8 = ("cifar_resnet20", "ultraface_rfb320", "winml_mnist")
"""Files of the folder of models of which a quantized one lies beside them."""
COLUMNS = (
    "model", "target", "cycles", "estimate", "bound", "of", "/bound", "/layers", "/busiest",
    "engines", "dram", "peak KiB", "peak", "compile s", "instr", "verify",
)  # fmt: skip


@dataclass(frozen=True)
class Entry:
    """A model on its targets."""

    name: str
    targets: tuple[str, ...]
    make: Callable[[Path], Path]


def main() -> int:
    args = _parser().parse_args()
    if args.measure:
        _answer(args)
        return 0
    pairs = [(e, t) for e in entries(args) for t in args.target or e.targets]
    with ThreadPoolExecutor(args.jobs) as pool:
        rows = list(pool.map(lambda pair: _measure(args, *pair), pairs))
    good = [row for row in rows if "error" not in row]
    with_goal = [row for row in good if row["bound"] >= LEAST]
    common.show("programs with a goal", COLUMNS, map(cells, with_goal))
    small = [row for row in good if row["bound"] < LEAST]
    common.show(f"bound under {LEAST:,} cycles: no goal", COLUMNS, map(cells, small))
    common.show_errors(rows)
    for line in goals(with_goal, good):
        print(line)
    return common.finish(args, rows)


def _parser() -> argparse.ArgumentParser:
    parser = common.parser(__doc__ or "")
    add = parser.add_argument
    add("--target", action="append", metavar="NAME", help="on this target only")
    add("--jobs", type=int, default=1, metavar="N", help="processes at once (default: 1)")
    return parser


# --- what there is --------------------------------------------------------------------------------


def entries(args: argparse.Namespace) -> list[Entry]:
    """The models that the options ask for."""
    found = [e for e in _all(args.models) if not args.names or any(n in e.name for n in args.names)]
    if not found:
        sys.exit(f"no model {', '.join(args.names)}")
    return found


def _all(folder: Path) -> Iterator[Entry]:
    files = {path.stem: path for path in sorted(folder.glob("*.onnx"))}
    floats = {name: _given(path) for name, path in files.items() if not zoo.is_quantized(name)}
    for name in BUILT:
        floats[name] = lambda cache, name=name: zoo._fp32(cache, name)
    for name in vision.BUILT:
        floats[name] = lambda cache, name=name: vision.fp32(cache, name)
    for name, path in files.items():
        if zoo.is_quantized(name):
            yield Entry(name, INT8_TARGETS, _given(path))
    for name, make in floats.items():
        if name in BUILT:
            yield Entry(f"{name}_int8", INT8_TARGETS, lambda c, n=name: zoo._int8(c, n))
        elif name not in HAVE_INT8:
            int8: Callable[[Path], Path] = lambda c, n=name, m=make: vision.int8(c, n, m(c))  # noqa: E731
            yield Entry(f"{name}_int8", INT8_TARGETS, int8)
    for name, make in floats.items():
        yield Entry(name, FLOAT_TARGETS, make)


def _given(path: Path) -> Callable[[Path], Path]:
    return lambda _: path


# --- measuring ------------------------------------------------------------------------------------


def _measure(args: argparse.Namespace, entry: Entry, target: str) -> common.Row:
    """What a process of its own finds for a model on a target, or its error."""
    print(f"{entry.name} on {target} ...", file=sys.stderr, flush=True)
    command = [sys.executable, __file__, "--measure", entry.name, "--target", target]
    found = subprocess.run(
        [*command, "--models", str(args.models), "--cache", str(args.cache)],
        capture_output=True,
        text=True,
    )
    row: common.Row = {"model": entry.name, "target": target}
    for line in found.stdout.splitlines():
        if line.startswith(common.RESULT):
            return row | json.loads(line.removeprefix(common.RESULT))
    return row | {"error": (found.stderr.strip().splitlines() or ["no output"])[-1]}


def _answer(args: argparse.Namespace) -> None:
    entry = next(e for e in _all(args.models) if e.name == args.measure)
    try:
        row = measure(entry.make(args.cache), args.target[0])
    except Exception as problem:  # one model that fails must not hide the others
        row = {"error": f"{type(problem).__name__}: {problem}".splitlines()[0]}
    print(common.RESULT + json.dumps(row))


def measure(path: Path, target: str) -> common.Row:
    """The figures of one program."""
    from npu_dialect import api
    from npu_dialect.planned import estimate_of
    from npu_dialect.runtime.program import Program
    from npu_dialect.tools.gap import gap

    start = perf_counter()
    built = api.compile(path, target, shapes=zoo.shapes(path), options=api.Options(reproducer=None))
    seconds = perf_counter() - start
    program = Program.from_bytes(built.to_bytes())
    profile = program.profile
    bound = profile.lower_bound
    assert bound is not None
    found = gap(program)
    busy = {engine.name: engine.busy for engine in profile.engines}
    busiest = max(busy, key=busy.__getitem__, default="")
    return {
        "cycles": profile.cycles,
        "estimate": estimate_of(program.metadata, program.entry_name()) or 0,
        "bound": bound.cycles,
        "in_layers": bound.in_layers,
        "in_room": bound.in_room(profile.target),
        "binds": bound.binds,
        "resources": dict(bound.resources),
        "busy": busy,
        "busiest": busiest,
        "over_busiest": profile.cycles / busy[busiest] if busiest else 1.0,
        "dram": profile.dram_read + profile.dram_written,
        "compulsory": bound.dram_bytes,
        "peak_spm": profile.peak_spm,
        "live_spm": greatest_live_sum(program),
        "compile_seconds": seconds,
        "instructions": len(program.executed),
        "host_layers": len(bound.host),
        "causes": "" if found is None else found.summary,
        "verified": verifies(program),
    }


def verifies(program: Program) -> bool:
    """Whether npu-verify proves the decoded program."""
    from npu_dialect import pipeline
    from npu_dialect.diagnostics import CompileError

    try:
        pipeline.run(program.to_module(), "npu-verify")
    except CompileError:
        return False
    return True


# --- showing --------------------------------------------------------------------------------------


def cells(row: common.Row) -> tuple[object, ...]:
    shares = " ".join(
        f"{name} {busy / row['cycles']:.0%}" for name, busy in row["busy"].items() if busy
    )
    return (
        row["model"],
        row["target"],
        f"{row['cycles']:,}",
        f"{ratio(row['estimate'], row['cycles']):.3f}",
        f"{row['bound']:,}",
        row["binds"] + (f" +{row['host_layers']} host" if row["host_layers"] else ""),
        f"{ratio(row['cycles'], row['bound']):.2f}",
        f"{ratio(row['cycles'], row['in_layers']):.2f}",
        f"{row['over_busiest']:.3f}",
        shares,
        f"{ratio(row['dram'], row['compulsory']):.2f}",
        f"{row['peak_spm'] / 1024:.0f}",
        f"{ratio(row['peak_spm'], row['live_spm']):.3f}",
        common.seconds(row["compile_seconds"]),
        f"{row['instructions']:,}",
        common.verdict(row["verified"]),
    )


def ratio(value: float, least: float) -> float:
    return value / least if least else float("inf") if value else 1.0


def goals(rows: Sequence[common.Row], every: Sequence[common.Row]) -> Iterator[str]:
    """Medians against the goals."""
    if not rows:
        return
    busiest = [row["over_busiest"] for row in rows]
    yield _verdict("makespan / busiest engine, median", median(busiest), 1.10)
    yield _verdict("makespan / busiest engine, greatest", max(busiest), 1.30)
    errors = [abs(ratio(row["estimate"], row["cycles"]) - 1) for row in rows]
    yield _verdict("estimate's error, median", median(errors), 0.05)
    yield _verdict("estimate's error, greatest", max(errors), 0.15)
    yield from far(rows)
    alone = [row for row in rows if not row["host_layers"]]
    if alone:
        bounds = [ratio(row["cycles"], row["bound"]) for row in alone]
        drams = [ratio(row["dram"], row["compulsory"]) for row in alone]
        yield f"without work of the host, {len(alone)} programs:"
        yield _verdict("  cycles / bound, median", median(bounds), 1.15)
        yield _verdict("  cycles / bound, greatest", max(bounds), 1.50)
        for key, what in (("in_layers", "by layers"), ("in_room", "by layers and room")):
            found = [ratio(row["cycles"], row[key]) for row in alone]
            yield f"  cycles / bound {what}, median {median(found):.3f}, greatest {max(found):.3f}"
        yield _verdict("  DRAM bytes / compulsory, median", median(drams), 1.05)
    exact = sum(row["peak_spm"] <= row["live_spm"] for row in rows) / len(rows)
    yield f"peak scratchpad = greatest live sum: {exact:.0%} of programs; goal 95 %"
    yield f"npu-verify clean: {sum(r['verified'] for r in every)} of {len(every)}"


def far(rows: Sequence[common.Row]) -> Iterator[str]:
    """What holds the programs back that take much more than their bound."""
    found = [row for row in rows if ratio(row["cycles"], row["bound"]) > FAR]
    yield f"cycles / bound over {FAR}: {len(found)} programs; where their cycles go (tools/gap.py):"
    for row in sorted(found, key=lambda row: -ratio(row["cycles"], row["bound"])):
        share = ratio(row["cycles"], row["bound"])
        yield f"  {row['model']} {row['target']} {share:.2f}: {row['causes']}"


def _verdict(what: str, value: float, goal: float) -> str:
    return f"{what}: {value:.3f}; at most {goal:.2f}: {common.verdict(value <= goal)}"


if __name__ == "__main__":
    sys.exit(main())
