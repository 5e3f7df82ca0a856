"""PyTorch models through the compiler: what each captures to, takes, costs, and how near it comes.

  python benchmarks/torch_models.py                    all models of the zoo
  python benchmarks/torch_models.py tv_resnet18 hf_llama
  python benchmarks/torch_models.py --sample           a few that need no package beside torch

The zoo is a Python file with `ZOO` (names) and `build(name)` -> (module, args, kwargs). Each model
has a process of its own, one thread, a limit of time and of memory. "ops" are the calls that
torch.export captures, "graph" the operations that are imported; seconds are of the processor.
"off by" is the greatest difference from eager torch as a part of the range of that output, over all
outputs; the goal is 1e-3. A model that fails has a line of its own with the diagnostic. Fresh
models hold zeros and ones (heads, normalizations, statistics), which hide errors: see `--scramble`.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import resource
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from time import process_time
from typing import Any, TypeVar

import common
import numpy as np

GOAL = 1e-3
ZOO = common.ROOT.parent / "shared" / "suites" / "torch_zoo.py"
SAMPLE = ("nn_lenet", "nn_lstm", "nn_transformer_encoder", "nn_unet")
COLUMNS = (
    "model", "M params", "capture", "ops", "graph", "host", "capture s", "import s", "compile s",
    "MiB", "instructions", "cycles", "off by", "within",
)  # fmt: skip

T = TypeVar("T")
Module = tuple[Any, tuple[Any, ...], dict[str, Any]]


def main() -> int:
    args = options().parse_args()
    if args.measure:
        print(common.RESULT + json.dumps(guarded(args, args.measure)))
        return 0
    rows = [apart(args, name) for name in chosen(args)]
    good = [row for row in rows if "error" not in row]
    common.show(f"PyTorch models on {args.target}", COLUMNS, map(cells, good))
    common.show_errors(rows)
    show_host(good)
    within = sum(row["off_by"] <= GOAL for row in good)
    print(f"\n{within} of {len(rows)} models compile and are within {GOAL:g} of eager torch")
    common.finish(args, rows)
    return int(within < len(rows))


def options() -> argparse.ArgumentParser:
    parser = common.parser(__doc__ or "", models=False)
    add = parser.add_argument
    add("names", nargs="*", metavar="MODEL", help="measure these only")
    add("--sample", action="store_true", help=f"measure {', '.join(SAMPLE)}")
    add("--zoo", metavar="FILE", type=Path, default=ZOO, help="default: ../shared/suites")
    add("--target", default="mobile4k")
    add("--seconds", type=int, default=900, help="limit of processor time for each model")
    add("--gib", type=int, default=12, help="limit of memory for each model")
    add("--scramble", action="store_true", help="give parameters that are constant other values")
    add("--programs", metavar="DIR", type=Path, help="also keep the .npu files there")
    add("--measure", metavar="MODEL", help=argparse.SUPPRESS)
    return parser


def chosen(args: argparse.Namespace) -> Sequence[str]:
    """The names that the options ask for."""
    if args.names:
        return args.names
    return SAMPLE if args.sample else tuple(zoo_of(args.zoo).ZOO)


def zoo_of(path: Path) -> Any:
    """The module of a zoo's file."""
    spec = importlib.util.spec_from_file_location("torch_zoo", path)
    if spec is None or spec.loader is None or not path.exists():
        sys.exit(f"no zoo at {path}; --zoo FILE names another")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


# --- a process for each model ---------------------------------------------------------------------


def apart(args: argparse.Namespace, name: str) -> common.Row:
    """What a process of its own finds for a model, or why it ended."""
    print(f"{name} ...", file=sys.stderr, flush=True)
    command = [sys.executable, __file__, "--measure", name, "--zoo", str(args.zoo)]
    command += ["--target", args.target, "--seconds", str(args.seconds), "--gib", str(args.gib)]
    if args.programs:
        command += ["--programs", str(args.programs)]
    if args.scramble:
        command.append("--scramble")
    one_thread = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    found = subprocess.run(command, capture_output=True, text=True, env=os.environ | one_thread)
    row: common.Row = {"model": name, "target": args.target}
    for line in found.stdout.splitlines():
        if line.startswith(common.RESULT):
            return row | json.loads(line.removeprefix(common.RESULT))
    last = (found.stderr.strip().splitlines() or ["no output"])[-1]
    return row | {"error": f"ended with code {found.returncode}: {last}"}


def guarded(args: argparse.Namespace, name: str) -> common.Row:
    """A model's row under the limits; one that fails has a row with its error."""
    resource.setrlimit(resource.RLIMIT_CPU, (args.seconds, args.seconds + 5))
    resource.setrlimit(resource.RLIMIT_DATA, (args.gib << 30, args.gib << 30))
    try:
        return measure(args, name)
    except Exception as problem:  # one model that fails must not hide the others
        text = " ".join(str(problem).split())
        return {"error": f"{type(problem).__name__}: {text}"[:600]}


def timed(call: Callable[[], T]) -> tuple[T, float]:
    """What `call` gives, and its seconds of processor time."""
    began = process_time()
    return call(), process_time() - began


def measure(args: argparse.Namespace, name: str) -> common.Row:
    """Capture, import, compile and run one model in this process."""
    import torch

    from npu_dialect import api
    from npu_dialect.frontends import torch as frontend
    from npu_dialect.frontends.torch import capture

    torch.set_num_threads(1)
    module, positional, named = built(args.zoo, name)
    if args.scramble:
        scramble(module)
    with torch.no_grad():
        wanted = tensors(module(*positional, **named))
    (exported, mode), capture_seconds = timed(lambda: capture.capture(module, positional, named))
    ops = sum(node.op == "call_function" for node in exported.graph.nodes)
    ir, import_seconds = timed(lambda: frontend.load(exported))
    names = [op.name for op in ir.walk()]
    graph_ops = sum(op.startswith("graph.") and op != "graph.constant" for op in names)
    content, compile_seconds = timed(lambda: compiled(ir, args.target))
    if args.programs:
        args.programs.mkdir(parents=True, exist_ok=True)
        (args.programs / f"{name}.npu").write_bytes(content)
    memory = common.peak_memory()
    from npu_dialect.runtime.program import Program

    program = Program.from_bytes(content, name)
    run, run_seconds = timed(lambda: api.simulate(program, inputs_of(program, positional, named)))
    return {
        "parameters": sum(p.numel() for p in module.parameters()),
        "capture": mode,
        "ops": ops,
        "graph_ops": graph_ops,
        "host": host_work(program),
        "capture_seconds": capture_seconds,
        "import_seconds": import_seconds,
        "compile_seconds": compile_seconds,
        "run_seconds": run_seconds,
        "memory": memory,
        "instructions": len(program.static),
        "cycles": run.cycles,
        "off_by": distance(list(run.outputs.values()), wanted),
    }


def built(path: Path, name: str) -> Module:
    """A model of the zoo; torchvision's Python part must import beside a CPU torch."""
    zoo = zoo_of(path)
    if importlib.util.find_spec("torchvision") and hasattr(zoo, "torchvision_shim"):
        zoo.torchvision_shim()
    return zoo.build(name)


def scramble(module: Any) -> None:
    """Adds numbers from [0, 0.1) to the parameters and buffers whose elements are all the same."""
    import torch

    generator = torch.Generator().manual_seed(1)
    for tensor in (*module.parameters(), *module.buffers()):
        same = tensor.is_floating_point() and tensor.numel() > 1 and tensor.min() == tensor.max()
        if same and tensor.isfinite().all():
            tensor.data += 0.1 * torch.rand(tensor.shape, generator=generator)


def compiled(ir: Any, target: str) -> bytes:
    """The bytes of the program, verification after every pass included."""
    from npu_dialect import api

    api.set_target(ir, target)
    api.lower(ir, options=api.Options(reproducer=None))
    return api.assemble(ir).to_bytes()


def inputs_of(program: Any, positional: tuple[Any, ...], named: dict[str, Any]) -> Any:
    """The arguments as arrays: by name where all are keywords, else in order."""
    names = {binding.name for binding in program.inputs}
    if not positional and names == set(named):
        return {name: x.numpy() for name, x in named.items()}
    return [x.numpy() for x in tensors((positional, named))]


def tensors(tree: Any) -> list[Any]:
    """The tensors in a tree of tuples, lists, dictionaries and dataclasses of output."""
    import torch
    from torch.utils import _pytree as pytree

    leaves = pytree.tree_leaves(tree)
    return [x.detach() for x in leaves if isinstance(x, torch.Tensor)]


def host_work(program: Any) -> dict[str, int]:
    """What runs on the host, with its reason, and how often."""
    reasons = [f"{p.op}: {p.reason}" for p in program.placements if p.engine == "host"]
    return {reason: reasons.count(reason) for reason in dict.fromkeys(reasons)}


def distance(found: Sequence[Any], wanted: Sequence[Any]) -> float:
    """The greatest difference, as a part of the range of the output that it is in."""
    if len(found) != len(wanted):
        raise ValueError(f"{len(found)} outputs where torch has {len(wanted)}")
    return max(apart_by(np.asarray(f), w.numpy()) for f, w in zip(found, wanted, strict=True))


def apart_by(found: Any, wanted: Any) -> float:
    """The greatest difference as a part of the range, or of the magnitude where all are equal."""
    if found.shape != wanted.shape:
        raise ValueError(f"an output of shape {found.shape} where torch has {wanted.shape}")
    if not wanted.size:
        return 0.0
    found, wanted = found.astype(np.float64), wanted.astype(np.float64)
    off = float(np.abs(found - wanted).max())
    scale = float(np.ptp(wanted)) or float(np.abs(wanted).max()) or 1.0
    return off / scale if np.isfinite(off) else float("inf")


# --- showing --------------------------------------------------------------------------------------


def cells(row: common.Row) -> tuple[object, ...]:
    return (
        row["model"],
        f"{row['parameters'] / 1e6:.2f}",
        row["capture"],
        row["ops"],
        row["graph_ops"],
        sum(row["host"].values()),
        *(common.seconds(row[f"{step}_seconds"]) for step in ("capture", "import", "compile")),
        common.mebibytes(row["memory"]),
        f"{row['instructions']:,}",
        f"{row['cycles']:,}",
        f"{row['off_by']:.1e}",
        common.verdict(row["off_by"] <= GOAL),
    )


def show_host(rows: Sequence[common.Row]) -> None:
    """What runs on the host, and why."""
    for row in rows:
        for reason, count in row["host"].items():
            print(f"{row['model']} on the host: {count} x {reason}")


if __name__ == "__main__":
    sys.exit(main())
