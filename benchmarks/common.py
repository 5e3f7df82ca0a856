"""What the benchmarks share: options, a process for each measurement, tables, the machine.

Importing this is cheap, and puts the checkout in front of an installed `npu_dialect`.
"""

from __future__ import annotations

import argparse
import compileall
import json
import os
import platform
import resource
import subprocess
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import zoo

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

os.environ.setdefault("NPU_NO_CACHE", "programs")  # what is measured is compiled
SHARED_MODELS = ROOT.parent / "shared" / "models"
PACKAGES = ("xdsl", "numpy", "onnx", "onnxruntime", "torch")
RESULT = "result: "
"""What stands before the JSON that a measuring process prints."""

Row = dict[str, Any]


# --- options --------------------------------------------------------------------------------------


def parser(description: str, *, models: bool = True) -> argparse.ArgumentParser:
    """The options of every benchmark; `models` adds the choice of models."""
    result = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    result.add_argument("--json", metavar="FILE", type=Path, help="also write the figures there")
    if models:
        add = result.add_argument
        add("names", nargs="*", metavar="MODEL", help="measure these only")
        add("--all", action="store_true", help="every .onnx file of the folder of models")
        add(
            "--models",
            metavar="DIR",
            type=Path,
            default=SHARED_MODELS,
            help="the folder of models beside those built here (default: ../shared/models)",
        )
        add(
            "--cache",
            metavar="DIR",
            type=Path,
            default=zoo.default_cache(),
            help="where built models are kept (default: %(default)s)",
        )
        add("--measure", metavar="MODEL", help=argparse.SUPPRESS)
    return result


def chosen(args: argparse.Namespace) -> list[zoo.Model]:
    """The models that the options ask for. Exits on a name that there is not."""
    folder = args.models if args.models.is_dir() else None
    if not args.names:
        return zoo.models(folder, every=args.all)
    known = {model.name: model for model in zoo.models(folder, every=True)}
    unknown = [name for name in args.names if name not in known]
    if unknown:
        sys.exit(f"no model {', '.join(unknown)}; there are: {', '.join(known)}")
    return [known[name] for name in args.names]


def model_path(args: argparse.Namespace, model: zoo.Model) -> Path:
    """The model's file, built now where it must be."""
    return model.make(args.cache)


# --- measuring ------------------------------------------------------------------------------------


def measure_each(
    args: argparse.Namespace, script: str, extra: Sequence[str] = (), **environment: str
) -> list[Row]:
    """One row per chosen model; see `measure`."""
    return [measure(args, script, model, extra, **environment) for model in chosen(args)]


def measure(
    args: argparse.Namespace,
    script: str,
    model: zoo.Model,
    extra: Sequence[str] = (),
    **environment: str,
) -> Row:
    """What a process that runs `script --measure MODEL` reports, or its error.

    This process stays small, for Linux counts its memory as that of the processes it starts.
    """
    print(f"{model.name} ...", file=sys.stderr, flush=True)
    command = [sys.executable, script, "--measure", model.name, "--models", str(args.models)]
    found = subprocess.run(
        [*command, "--cache", str(args.cache), *extra],
        capture_output=True,
        text=True,
        env=os.environ | environment,
    )
    row: Row = {"model": model.name, "target": model.target}
    for line in found.stdout.splitlines():
        if line.startswith(RESULT):
            return row | json.loads(line.removeprefix(RESULT))
    return row | {"error": (found.stderr.strip().splitlines() or ["no output"])[-1]}


def answer(args: argparse.Namespace, body: Callable[[zoo.Model, Path], Row]) -> None:
    """The measuring process: prints what `body` finds for a model, or the error it raises.

    A model that is not built yet is built by a process of its own, whose memory does not count.
    """
    model = zoo.find(args.measure, args.models if args.models.is_dir() else None)
    command = [sys.executable, zoo.__file__, model.name, "--cache", str(args.cache)]
    try:
        subprocess.run([*command, "--models", str(args.models)], check=True, capture_output=True)
        row = body(model, model_path(args, model))
    except Exception as problem:  # one model that fails must not hide the others
        row = {"error": f"{type(problem).__name__}: {problem}".splitlines()[0]}
    print(RESULT + json.dumps(row))


def compile_bytecode() -> None:
    """Python's bytecode of the package, as an installation has it: what is timed as a whole process
    must not compile its sources (PYTHONDONTWRITEBYTECODE would have it do so each time).
    """
    for folder in ("npu_dialect", "passes", "frontends", "runtime", "tools"):  # links are not taken
        compileall.compile_dir(ROOT / folder, quiet=2)


def peak_memory() -> int:
    """The most memory that this process held so far, in bytes."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


# --- showing --------------------------------------------------------------------------------------


def machine() -> dict[str, str]:
    """The computer and the versions that figures depend on."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "processor": f"{_processor()}, {os.cpu_count()} cores",
        "memory": f"{memory / 2**30:.0f} GiB",
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        **{package: zoo.installed(package) for package in PACKAGES},
        "commit": _commit(),
        "load": " ".join(f"{load:.1f}" for load in os.getloadavg()),
    }


def _processor() -> str:
    cpus = Path("/proc/cpuinfo")
    lines = cpus.read_text().splitlines() if cpus.exists() else []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor() or platform.machine())


def _commit() -> str:
    command = ["git", "-C", str(ROOT), "describe", "--always", "--dirty"]
    try:
        return subprocess.run(command, capture_output=True, text=True).stdout.strip() or "unknown"
    except OSError:
        return "unknown"


def show(title: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print a table."""
    from npu_dialect.tools import tables

    table = tables.table(f"\n{title}", columns)
    for row in rows:
        table.add_row(*map(str, row))
    tables.console().print(table)


def show_errors(rows: Iterable[Row]) -> None:
    """Print the errors of the models that failed."""
    for row in rows:
        if "error" in row:
            print(f"{row['model']} on {row['target']}: {row['error']}")


def finish(args: argparse.Namespace, rows: Sequence[Row]) -> int:
    """Print the machine, write the figures where asked; the exit code: 1 where a model failed."""
    about = machine()
    print("\n" + "; ".join(f"{name}: {value}" for name, value in about.items()))
    if args.json:
        args.json.write_text(json.dumps({"machine": about, "rows": rows}, indent=2) + "\n")
    return int(any("error" in row for row in rows))


def seconds(value: float) -> str:
    """A time as it stands in a table."""
    return f"{value:.3f}" if value < 1 else f"{value:.2f}"


def mebibytes(value: float) -> str:
    """An amount of memory as it stands in a table."""
    return f"{value / 2**20:.0f}" if value >= 10 * 2**20 else f"{value / 2**20:.2f}"


def verdict(holds: bool) -> str:
    """What stands in a table for something that must hold."""
    return "yes" if holds else "NO"
