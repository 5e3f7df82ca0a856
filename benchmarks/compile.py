"""How long each model takes to import and to compile, how much memory, and what comes out.

  python benchmarks/compile.py                          all models
  python benchmarks/compile.py mobilenet_v2 --passes    one model, the time of every pass
  python benchmarks/compile.py --all                    also every other .onnx file of --models

Each model is compiled twice, by processes with different hash seeds. Times are those of the faster
one; "same" says whether both programs are equal byte for byte. "import" is the time to read the
ONNX file, onnx itself included; "compile" is everything from there to the bytes of the program,
verification after every pass included. "again" is both once the program is in the cache.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from time import perf_counter

import common
import zoo

GOAL_SECONDS, GOAL_BYTES = 10.0, 2**30
GOAL_MODELS = ("mobilenet_v2", "mobilenet_v2_bn", "mobilenet_v2_int8")
COLUMNS = (
    "model", "target", "import s", "compile s", "again s", "memory MiB", "ops", "instructions",
    "program KiB", "same", "cycles", "host ops",
)  # fmt: skip


def main() -> int:
    parser = common.parser(__doc__ or "")
    parser.add_argument("--passes", action="store_true", help="also print the time of every pass")
    args = parser.parse_args()
    if args.measure:
        common.answer(args, measure)
        return 0
    rows = [twice(args, model) for model in common.chosen(args)]
    good = [row for row in rows if "error" not in row]
    common.show("import and compile", COLUMNS, map(cells, good))
    common.show_errors(rows)
    if args.passes:
        show_passes(good)
    for line in goals(good):
        print(line)
    return common.finish(args, rows)


def twice(args: argparse.Namespace, model: zoo.Model) -> common.Row:
    """One model, compiled by two processes."""
    return merge(*(common.measure(args, __file__, model, PYTHONHASHSEED=seed) for seed in "12"))


def measure(model: zoo.Model, path: Path) -> common.Row:
    """Import and compile one model in this process."""
    from npu_dialect import api

    shapes = zoo.shapes(path)
    start = perf_counter()
    module = api.load(path, model.target, shapes=shapes)
    loaded = perf_counter()
    operations = sum(1 for _ in module.walk())
    runs = api.lower(module, options=api.Options(reproducer=None))
    program = api.assemble(module)
    content = program.to_bytes()
    done = perf_counter()
    memory = common.peak_memory()
    return {
        "import_seconds": loaded - start,
        "compile_seconds": done - loaded,
        "again_seconds": again(model, path, content),
        "memory": memory,
        "operations": operations,
        "passes": [[run.spec, run.seconds, run.operations] for run in runs],
        "digest": hashlib.sha256(content).hexdigest(),
        "bytes": len(content),
        "instructions": len(program.static),
        "executed": len(program.executed),
        "host_operations": sum(p.engine == "host" for p in program.placements),
        "cycles": profile_cycles(program),
    }


def again(model: zoo.Model, path: Path, content: bytes) -> float:
    """Seconds to import and compile a model whose program is in the cache."""
    from npu_dialect import api, program_cache
    from npu_dialect.runtime.program import Program

    shapes = zoo.shapes(path)
    before = os.environ.pop("NPU_NO_CACHE")
    name = program_cache.name(api.load(path, model.target, shapes=shapes))
    assert name is not None
    program_cache.write(name, Program.from_bytes(content), [])
    start = perf_counter()
    found = api.compile(path, model.target, shapes=shapes).to_bytes()
    seconds = perf_counter() - start
    assert found == content
    os.environ["NPU_NO_CACHE"] = before
    return seconds


def profile_cycles(program: object) -> int:
    """The makespan of a program."""
    from npu_dialect.runtime import profile
    from npu_dialect.runtime.program import Program

    assert isinstance(program, Program)
    return profile.of(program).cycles


def merge(first: common.Row, second: common.Row) -> common.Row:
    """The faster of two runs, the greater memory, and whether they made the same bytes."""
    if "error" in first or "error" in second:
        return first if "error" in first else second
    fast = min(first, second, key=total)
    memory = max(first["memory"], second["memory"])
    return fast | {"memory": memory, "identical": first["digest"] == second["digest"]}


def total(row: common.Row) -> float:
    return row["import_seconds"] + row["compile_seconds"]


def cells(row: common.Row) -> tuple[object, ...]:
    return (
        row["model"],
        row["target"],
        common.seconds(row["import_seconds"]),
        common.seconds(row["compile_seconds"]),
        common.seconds(row["again_seconds"]),
        common.mebibytes(row["memory"]),
        row["operations"],
        f"{row['instructions']:,}",
        f"{row['bytes'] / 1024:,.0f}",
        common.verdict(row["identical"]),
        f"{row['cycles']:,}",
        row["host_operations"],
    )


def show_passes(rows: list[common.Row]) -> None:
    for row in rows:
        inside = sum(seconds for _, seconds, _ in row["passes"])
        lines = [(spec, common.seconds(s), ops) for spec, s, ops in row["passes"]]
        rest = common.seconds(row["compile_seconds"] - inside)
        lines.append(("verification, assembly", rest, ""))
        common.show(f"{row['model']} on {row['target']}", ("pass", "seconds", "ops after"), lines)


def goals(rows: list[common.Row]) -> Iterator[str]:
    for row in rows:
        if row["model"] in GOAL_MODELS:
            met = total(row) < GOAL_SECONDS and row["memory"] < GOAL_BYTES
            figures = f"{total(row):.1f} s, {common.mebibytes(row['memory'])} MiB"
            yield f"{row['model']}: {figures}; under 10 s and 1 GiB: {common.verdict(met)}"


if __name__ == "__main__":
    sys.exit(main())
