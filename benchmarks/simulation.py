"""How fast programs are simulated, next to onnxruntime, and how soon the first result is there.

  python benchmarks/simulation.py                            all models, every tier there is
  python benchmarks/simulation.py resnet18_int8 --tier torch compiled --threads 1 2
  python benchmarks/simulation.py digits_int8 --seconds 10

Each model, tier and number of threads is measured by a process of its own, in which ours and
onnxruntime take turns: one run that fills the caches, then timed ones for a twentieth of a second.
Inputs are given one at a time to a session that holds the constants, as in a run over a test set.
Compiling is left out. With one thread the time is that of the processor, which other work on the
machine hardly touches; with two it is that of a clock on the wall. Times and ratios are
"best/median" of all timed runs; goals are held against the ratio of the medians. onnxruntime has as
many threads as we, its default optimizations, and the same file. "types" are those of activations
and weights: onnxruntime is fast for u8 x s8.

With two threads it is measured twice, for its idle threads spin and take our core: "spin" says
whether it was faster with or without, and the faster one counts. Between turns everyone rests.

Without VNNI instructions onnxruntime's u8 x s8 products saturate at 16 bits: it is fast, and wrong.
"exact" is then the ratio to the mode in which it is right (session.x64quantprecision).

"in plain" is the share of instructions of a compiled program that the plain tier runs.

Goals, in times of onnxruntime: compiled 0.9 for MobileNetV2, 1.0 for ResNets, 1.5 for other
quantized models, 1.1 for all of them with two threads, 4 for floats; torch 2.5 for ResNet-18 and 5
for MobileNetV2, plain 10 for both. The digits network runs 30 images a second in any tier.

The second table is about processes that start: from nothing to the first result of a `.npu` file,
with an empty cache of compiled code ("cold") and with the one that this leaves ("warm"). "session"
is the part that gets the program ready to run; where the tier is "compiled", that is the start of
the JIT. Goals: MobileNetV2 within 1 s, sessions within 0.3 s, both warm.
"""

from __future__ import annotations

import argparse
import inspect
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import cycle, pairwise
from pathlib import Path
from statistics import median
from time import perf_counter, process_time, sleep
from typing import Any

import common
import reference
import zoo
from common import Row

TIERS = ("plain", "torch", "compiled")
INPUTS = 4

TURN_SECONDS = 0.05
"""How long one side runs before the other one's turn."""
WARMING_SECONDS = 0.2
"""A longer run warms its own caches, and none is thrown away."""
REST_SECONDS = 0.1
"""What lets the spinning threads of the other side fall asleep."""
LEAST_TURNS = 3

PRODUCTS, QUANTIZED_PRODUCTS = ("Conv", "Gemm", "MatMul"), ("QLinearConv", "QLinearMatMul")
"""The operators that have weights; of a quantized one they are the fourth input."""

COMPILED_GOALS = {"mobilenet_v2_int8": 0.9, "resnet18_int8": 1.0, "resnet50_int8": 1.0}
OTHER_INT8_GOAL, TWO_THREADS_GOAL, FP32_GOAL = 1.5, 1.1, 4.0
TORCH_GOALS = {"resnet18_int8": 2.5, "mobilenet_v2_int8": 5.0}
PLAIN_GOALS = {"resnet18_int8": 10.0, "mobilenet_v2_int8": 10.0}

DIGITS, DIGITS_PER_SECOND = ("digits", "digits_int8"), 30.0
START_MODELS, START_SECONDS, SESSION_SECONDS = ("mobilenet_v2", "mobilenet_v2_int8"), 1.0, 0.3
WARM_STARTS = 3

COLUMNS = (
    "model", "types", "tier", "threads", "ours ms", "onnxruntime ms", "spin", "ratio", "exact",
    "goal", "met", "inputs/s", "instructions", "in plain",
)  # fmt: skip
START_COLUMNS = (
    "model", "tier", "cache", "process s", "imports s", "load s", "session s", "first run s", "met",
)  # fmt: skip

START = """
import json, sys, time
times = [time.perf_counter()]
import numpy
from npu_dialect.runtime.program import Program
from npu_dialect.runtime.simulator import Session
with numpy.load(sys.argv[2]) as arrays:
    inputs = dict(arrays)
times.append(time.perf_counter())
program = Program.load(sys.argv[1])
times.append(time.perf_counter())
session = Session(program, **json.loads(sys.argv[3]))
times.append(time.perf_counter())
session.run(inputs)
times.append(time.perf_counter())
print(json.dumps(times))
"""
"""What a user's process does: arguments are the program, its inputs and the options of Session."""


def main() -> int:
    args = options()
    if args.measure:
        common.answer(args, (prepare if args.prepare else time_tier)(args))
        return 0
    if args.tier is None:
        args.tier = known_tiers()
    with tempfile.TemporaryDirectory() as folder:
        rows = [row for model in common.chosen(args) for row in rows_of(args, model, Path(folder))]
    timed = [row for row in rows if "ours" in row]
    common.show("time of one inference, best/median", COLUMNS, map(cells, timed))
    starts = [row for row in rows if "process" in row]
    if starts:
        common.show("start of a process", START_COLUMNS, map(start_cells, starts))
    common.show_errors(rows)
    for line in remarks(timed):
        print(line)
    return common.finish(args, rows)


def options() -> argparse.Namespace:
    parser = common.parser(__doc__ or "")
    add = parser.add_argument
    add("--tier", nargs="+", choices=TIERS, help="ways to simulate (default: every one there is)")
    add("--threads", nargs="+", type=int, choices=(1, 2), default=[1], help="default: 1")
    add("--seconds", type=float, default=4.0, help="per row, for both sides (default: 4)")
    add("--folder", type=Path, help=argparse.SUPPRESS)
    add("--prepare", action="store_true", help=argparse.SUPPRESS)
    return parser.parse_args()


# --- processes ------------------------------------------------------------------------------------


def rows_of(args: argparse.Namespace, model: zoo.Model, folder: Path) -> Iterator[Row]:
    """Compile a model, then measure each tier and number of threads, then starts."""
    prepared = common.measure(args, __file__, model, ["--prepare", "--folder", str(folder)])
    if "error" in prepared:
        yield prepared
        return
    for tier in args.tier:
        for threads in args.threads:
            how = ["--tier", tier, "--threads", str(threads), "--seconds", str(args.seconds)]
            how += ["--folder", str(folder)]
            row = common.measure(args, __file__, model, how, **thread_limits(threads))
            yield row | {"tier": tier, "threads": threads, "types": prepared["types"]}
        if model.name in START_MODELS:
            yield from starts(model, tier, folder)


def thread_limits(count: int) -> dict[str, str]:
    """The variables that limit the threads of numpy's and torch's libraries."""
    names = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS")
    return dict.fromkeys(names, str(count))


def program_path(folder: Path, model: zoo.Model) -> Path:
    return folder / f"{model.name}.npu"


def inputs_path(folder: Path, model: zoo.Model) -> Path:
    return folder / f"{model.name}.npz"


def prepare(args: argparse.Namespace) -> Callable[[zoo.Model, Path], Row]:
    """Compile a model once, for all processes that measure it."""

    def body(model: zoo.Model, path: Path) -> Row:
        import numpy as np

        from npu_dialect import api

        program = api.compile(path, model.target, shapes=zoo.shapes(path))
        program.save(program_path(args.folder, model))
        arrays: dict[str, Any] = zoo.inputs(path, 1)[0]
        np.savez(inputs_path(args.folder, model), **arrays)
        return {"types": number_types(path)}

    return body


# --- tiers ----------------------------------------------------------------------------------------


def known_tiers() -> tuple[str, ...]:
    """The tiers that this version can be asked for."""
    if has_tiers():
        return TIERS
    print("only the plain tier: this version's Session has no argument `tier`", file=sys.stderr)
    return ("plain",)


def has_tiers() -> bool:
    from npu_dialect.runtime.simulator import Session

    return "tier" in inspect.signature(Session).parameters


def session_options(tier: str, threads: int) -> dict[str, Any]:
    """The arguments that make a session of a tier. Raises ValueError where there are no tiers."""
    if has_tiers():
        return {"tier": tier, "threads": threads}
    if tier == "plain":
        return {}
    raise ValueError(f"no tier {tier}: this version's Session has no argument `tier`")


# --- time per inference ---------------------------------------------------------------------------


@dataclass
class Side:
    """One of those that take turns, and the seconds of its timed runs."""

    run: Callable[[Mapping[str, reference.Array]], object]
    cases: Iterator[Mapping[str, reference.Array]]
    clock: Callable[[], float]
    seconds: list[float] = field(default_factory=list[float])

    def turn(self) -> None:
        """Run for a while with warm caches."""
        if not self.seconds or self.seconds[-1] < WARMING_SECONDS:
            self.run(next(self.cases))
        end = perf_counter() + TURN_SECONDS
        while True:
            case, start = next(self.cases), self.clock()
            self.run(case)
            self.seconds.append(self.clock() - start)
            if perf_counter() >= end:
                return

    def figures(self) -> Row:
        return {
            "best": min(self.seconds),
            "median": median(self.seconds),
            "runs": len(self.seconds),
        }


def time_tier(args: argparse.Namespace) -> Callable[[zoo.Model, Path], Row]:
    """Time one tier against onnxruntime, in this process."""
    (tier,), (threads,) = args.tier, args.threads

    def body(model: zoo.Model, path: Path) -> Row:
        from npu_dialect.runtime.program import Program
        from npu_dialect.runtime.simulator import Session

        program = Program.load(program_path(args.folder, model))
        session = Session(program, **session_options(tier, threads))
        cases = zoo.inputs(path, INPUTS)
        wrong = model.quantized and saturates()
        clock = process_time if threads == 1 else perf_counter
        ours, wrong = Side(session.run, cycle(cases), clock), model.quantized and saturates()
        others = {
            name: Side(lambda case, made=made: made.run(None, dict(case)), cycle(cases), clock)
            for name, made in onnxruntime_sessions(path, threads, exact=wrong).items()
        }
        take_turns([ours, *others.values()], args.seconds, threads)
        return {
            "ours": ours.figures(),
            "onnxruntime": {name: side.figures() for name, side in others.items()},
            "executed": len(program.executed),
            "fallbacks": fallbacks(session),
            "chosen": getattr(session, "tier", tier),
        }

    return body


def fallbacks(session: Any) -> dict[str, dict[str, int]] | None:
    """What the plain tier runs of a compiled program: by name of the instruction, the reasons and
    how many instructions each concerns; None where the session does not say.
    """
    found = getattr(session, "fallbacks", None)
    return None if found is None else {name: dict(reasons) for name, reasons in found.items()}


def take_turns(sides: Sequence[Side], limit: float, threads: int) -> None:
    """Turn by turn until `limit` seconds, but each at least a few times."""
    end, turns = perf_counter() + limit, 0
    while turns < LEAST_TURNS or perf_counter() < end:
        for side in sides:
            side.turn()
            if threads > 1:
                sleep(REST_SECONDS)
        turns += 1


def onnxruntime_sessions(path: Path, threads: int, *, exact: bool) -> dict[str, Any]:
    """onnxruntime as it comes, and the variants that decide which figure is the one to compare."""
    entries = {"spinning": {}}
    if threads > 1:
        entries["resting"] = {"session.intra_op.allow_spinning": "0"}
    if exact:
        entries["exact"] = {"session.x64quantprecision": "1"}
    return {name: onnxruntime_session(path, threads, each) for name, each in entries.items()}


def onnxruntime_session(path: Path, threads: int, entries: Mapping[str, str]) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = threads
    for name, value in entries.items():
        options.add_session_config_entry(name, value)
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def saturates() -> bool:
    """Whether onnxruntime's products of u8 and s8 are wrong here: it adds pairs in 16 bits."""
    import numpy as np
    import onnxruntime
    from onnx import TensorProto, helper, numpy_helper

    depth, greatest, weight = 64, 255, 127
    weights = numpy_helper.from_array(np.full((depth, 16), weight, np.int8), "weights")
    graph = helper.make_graph(
        [helper.make_node("MatMulInteger", ["x", "weights"], ["y"])],
        "product",
        [helper.make_tensor_value_info("x", TensorProto.UINT8, (4, depth))],
        [helper.make_tensor_value_info("y", TensorProto.INT32, (4, 16))],
        [weights],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    found: Any = session.run(None, {"x": np.full((4, depth), greatest, np.uint8)})
    return not np.array_equal(found[0], np.full((4, 16), depth * greatest * weight))


def number_types(path: Path) -> str:
    """The types of a model's activations and weights, as "u8 x s8"; "fp32" of one without any.

    They decide which code onnxruntime runs.
    """
    import onnx

    graph = onnx.load(str(path)).graph
    types = constant_types(graph)
    activations = {
        types.get(node.input[2] if len(node.input) > 2 else "", "u8")
        for node in graph.node
        if node.op_type == "QuantizeLinear"
    }
    if not activations:
        return "fp32"
    weights = {types[name] for name in factors(graph) if name in types}
    return f"{'/'.join(sorted(activations))} x {'/'.join(sorted(weights))}"


def factors(graph: Any) -> set[str]:
    """What the products of a graph multiply, quantized: their own inputs and what is dequantized
    for them.
    """
    direct = {n for node in graph.node if node.op_type in PRODUCTS for n in node.input}
    before = {n.output[0]: n.input[0] for n in graph.node if n.op_type == "DequantizeLinear"}
    weights = {n.input[3] for n in graph.node if n.op_type in QUANTIZED_PRODUCTS}
    return weights | {before[name] for name in direct if name in before}


def constant_types(graph: Any) -> dict[str, str]:
    """The types of the constants of a graph that have eight bits, by name."""
    from onnx import TensorProto

    names = {TensorProto.UINT8: "u8", TensorProto.INT8: "s8"}
    constants = {c.name: c.data_type for c in graph.initializer}
    for node in graph.node:
        if node.op_type == "Constant" and node.attribute[0].name == "value":
            constants[node.output[0]] = node.attribute[0].t.data_type
    return {name: names[kind] for name, kind in constants.items() if kind in names}


# --- start ----------------------------------------------------------------------------------------


def starts(model: zoo.Model, tier: str, folder: Path) -> Iterator[Row]:
    """A cold start and the best of some warm ones."""
    with tempfile.TemporaryDirectory() as cache:
        found = [start(model, tier, folder, cache) for _ in range(1 + WARM_STARTS)]
    about = {"model": model.name, "target": model.target, "tier": tier}
    failed = [row for row in found if "error" in row]
    if failed:
        yield about | failed[0]
        return
    yield about | {"cache": "cold"} | found[0]
    yield about | {"cache": "warm"} | min(found[1:], key=lambda row: row["process"])


def start(model: zoo.Model, tier: str, folder: Path, cache: str) -> Row:
    """The seconds of a process that runs a program once, and of its steps."""
    try:
        how = json.dumps(session_options(tier, 1))
    except ValueError as problem:
        return {"error": str(problem)}
    files = map(str, (program_path(folder, model), inputs_path(folder, model)))
    began = perf_counter()
    found = subprocess.run(
        [sys.executable, "-c", START, *files, how],
        capture_output=True,
        text=True,
        cwd=common.ROOT,
        env=os.environ | thread_limits(1) | {"NPU_CACHE_DIR": cache},
    )
    seconds = perf_counter() - began
    if found.returncode:
        return {"error": found.stderr.strip().splitlines()[-1]}
    times = json.loads(found.stdout)
    steps = (after - before for before, after in pairwise(times))
    names = ("imports", "load", "session", "first")
    return {"process": seconds} | dict(zip(names, steps, strict=True))


# --- showing --------------------------------------------------------------------------------------


def goal(row: Row) -> float | None:
    """The greatest ratio to onnxruntime that is wanted."""
    model, tier = row["model"], row["tier"]
    if tier == "torch":
        return TORCH_GOALS.get(model)
    if tier == "plain":
        return PLAIN_GOALS.get(model)
    if not zoo.is_quantized(model):
        return FP32_GOAL
    return TWO_THREADS_GOAL if row["threads"] > 1 else COMPILED_GOALS.get(model, OTHER_INT8_GOAL)


def baseline(row: Row) -> str:
    """The variant of onnxruntime that counts: the faster one of those that it offers."""
    found = row["onnxruntime"]
    return min((n for n in found if n != "exact"), key=lambda name: found[name]["median"])


def ratio(row: Row, name: str, of: str = "median") -> float:
    return row["ours"][of] / row["onnxruntime"][name][of]


def cells(row: Row) -> tuple[object, ...]:
    name, wanted = baseline(row), goal(row)
    return (
        row["model"],
        row["types"],
        row["chosen"],
        row["threads"],
        milliseconds(row["ours"]),
        milliseconds(row["onnxruntime"][name]),
        common.verdict(name == "spinning") if row["threads"] > 1 else "",
        "/".join(short(ratio(row, name, of)) for of in ("best", "median")),
        short(ratio(row, "exact")) if "exact" in row["onnxruntime"] else "",
        "" if wanted is None else f"{wanted:.1f}",
        "" if wanted is None else common.verdict(ratio(row, name) <= wanted),
        short(per_second(row)),
        f"{row['executed']:,}",
        plain_share(row),
    )


def left(found: Mapping[str, Mapping[str, int]]) -> Iterator[str]:
    """Each kind of instruction that has no native code, and why."""
    for name, reasons in found.items():
        for why, count in reasons.items():
            yield f"{count} {name} ({why})"


def name_of(row: Row) -> str:
    return f"{row['model']}, {row['tier']}, threads {row['threads']}"


def milliseconds(figures: Row) -> str:
    return "/".join(short(1000 * figures[of]) for of in ("best", "median"))


def short(value: float) -> str:
    """A number to three digits or more."""
    return f"{value:,.{2 if value < 10 else 1 if value < 100 else 0}f}"


def per_second(row: Row) -> float:
    return 1 / row["ours"]["median"]


def plain_share(row: Row) -> str:
    """How much of a compiled program the plain tier runs; empty where that is not known."""
    if row["fallbacks"] is None or row["chosen"] != "compiled":
        return ""
    count = sum(sum(reasons.values()) for reasons in row["fallbacks"].values())
    return f"{count} ({count / max(1, row['executed']):.1%})"


def start_cells(row: Row) -> tuple[object, ...]:
    steps = (row[name] for name in ("process", "imports", "load", "session", "first"))
    return row["model"], row["tier"], row["cache"], *map(common.seconds, steps), start_verdict(row)


def start_verdict(row: Row) -> str:
    if (row["tier"], row["cache"]) != ("compiled", "warm"):
        return ""
    return common.verdict(row["process"] <= START_SECONDS and row["session"] <= SESSION_SECONDS)


def remarks(rows: Sequence[Row]) -> Iterator[str]:
    """What the tables have no room for."""
    for row in rows:
        if row["model"] in DIGITS:
            met = common.verdict(per_second(row) >= DIGITS_PER_SECOND)
            yield f"{name_of(row)}: {per_second(row):,.0f} images/s; at least 30: {met}"
        if row["chosen"] == "compiled" and row["fallbacks"]:
            yield f"{name_of(row)}: in the plain tier {', '.join(left(row['fallbacks']))}"
    if any("exact" in row["onnxruntime"] for row in rows):
        yield "onnxruntime's u8 x s8 products saturate on this machine (no VNNI): see `exact`"


if __name__ == "__main__":
    sys.exit(main())
