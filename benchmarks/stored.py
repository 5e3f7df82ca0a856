"""Every model of ../shared/models, compiled, simulated and compared with its stored outputs.

  python benchmarks/stored.py                         all of them, on mobile4k
  python benchmarks/stored.py --target edge256 NAME   some of them, on another machine

Models are compiled for the shapes of their stored inputs. The columns are the greatest difference
from the stored outputs as a share of the range of the tensor, the share of elements that are
outside rtol 1e-3 and atol 1e-4 of the range, and what the host does most. Quantized models may have
such elements, by a value that is rounded the other way (see accuracy.py), or by a function in fixed
point, which may be one step off on a target without floats unless --exact is given; floats may not.
"""

from __future__ import annotations

import argparse
import sys
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

import common
import numpy as np

if TYPE_CHECKING:
    from npu_dialect.runtime.program import Program

Array = np.ndarray[Any, np.dtype[Any]]
COLUMNS = (
    "model", "target", "cases", "compile s", "simulate s", "difference", "outside", "instructions",
    "cycles", "on the host",
)  # fmt: skip


def main() -> int:
    args = options()
    paths = [p for p in sorted(args.models.glob("*.onnx")) if p.with_suffix(".npz").exists()]
    paths = [p for p in paths if not args.names or p.stem in args.names]
    rows = [attempt(path, args) for path in paths]
    common.show("stored outputs", COLUMNS, (cells(r) for r in rows if "error" not in r))
    common.show_errors(rows)
    far = [r for r in rows if r.get("outside") and not r["quantized"]]
    return common.finish(args, rows) or int(bool(far))


def options() -> argparse.Namespace:
    parser = common.parser(__doc__ or "", models=False)
    add = parser.add_argument
    add("names", nargs="*", metavar="MODEL", help="these only")
    add("--models", type=Path, default=common.SHARED_MODELS, metavar="DIR")
    add("--target", default="mobile4k")
    add("--exact", action="store_true", help="functions of floats on the host, not in fixed point")
    add("--cases", type=int, default=3, help="stored cases of each model at most (%(default)s)")
    return parser.parse_args()


def attempt(path: Path, args: argparse.Namespace) -> common.Row:
    """The row of one model, or its error."""
    row: common.Row = {"model": path.stem, "target": args.target}
    print(f"{path.stem} ...", file=sys.stderr, flush=True)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return row | measure(path, args.target, args.cases, exact=args.exact)
    except Exception as problem:  # one model that fails must not hide the others
        return row | {"error": f"{type(problem).__name__}: {problem}".splitlines()[0]}


def measure(path: Path, target: str, most: int, *, exact: bool) -> common.Row:
    """Compiles and simulates one model; a model of other shapes is compiled for each of them."""
    programs: dict[object, Program] = {}
    compiling = simulating = difference = outside = 0.0
    count = 0
    for inputs, expected in list(cases(path.with_suffix(".npz")))[:most]:
        start = perf_counter()
        shapes = tuple(x.shape for x in inputs)
        if shapes not in programs:
            programs[shapes] = compiled(path, target, shapes, exact=exact)
        compiled_at = perf_counter()
        found = simulated(programs[shapes], inputs)
        simulating += perf_counter() - compiled_at
        compiling += compiled_at - start
        far = [distance(a, b) for a, b in zip(found, expected, strict=True)]
        difference = max(difference, *(d for d, _ in far))
        outside = max(outside, *(share for _, share in far))
        count += 1
    program = next(iter(programs.values()))
    hosted = Counter(p.op.removeprefix("graph.") for p in program.placements if p.engine == "host")
    return {
        "cases": count, "compile_seconds": compiling, "simulate_seconds": simulating,
        "difference": difference, "outside": outside, "quantized": is_quantized(path),
        "instructions": len(program.executed),
        "cycles": program.profile.cycles, "hosted": dict(hosted),
    }  # fmt: skip


def cases(path: Path) -> Iterator[tuple[list[Array], list[Array]]]:
    """(inputs, outputs) of each stored case, in the order of the model's."""
    with np.load(path) as stored:
        count = len({name.partition("/")[0] for name in stored.files})
        for k in range(count):
            yield [
                [stored[n] for n in stored.files if n.startswith(f"case{k}/{what}")]
                for what in ("in", "out")
            ]  # type: ignore[misc]


def compiled(
    path: Path, target: str, shapes: Sequence[tuple[int, ...]], *, exact: bool = False
) -> Program:
    import onnx

    from npu_dialect import api

    graph = onnx.load(path, load_external_data=False).graph
    known = {tensor.name for tensor in graph.initializer}
    names = [v.name for v in graph.input if v.name not in known]
    bound = dict(zip(names, shapes, strict=True))
    return api.compile(path, target, shapes=bound, exact=exact)


def simulated(program: Program, inputs: Sequence[Array]) -> list[Array]:
    from npu_dialect import api

    return list(api.simulate(program, list(inputs), seed=0).outputs.values())


def is_quantized(path: Path) -> bool:
    """Whether a model holds quantized tensors."""
    import onnx

    ops = {node.op_type for node in onnx.load(path, load_external_data=False).graph.node}
    return any("Quantize" in op or "QLinear" in op for op in ops)


def distance(found: Array, expected: Array) -> tuple[float, float]:
    """The greatest difference as a share of the range, and the share of elements outside the
    tolerance.
    """
    a, b = found.astype(np.float64), expected.astype(np.float64)
    if a.shape != b.shape or not a.size:
        return (0.0, 0.0) if a.shape == b.shape else (float("inf"), 1.0)
    span = float(np.ptp(b)) or float(np.abs(b).max()) or 1.0
    within = np.isclose(a, b, rtol=1e-3, atol=1e-4 * span, equal_nan=True)
    return float(np.abs(a - b).max()) / span, 1 - float(within.mean())


def cells(row: common.Row) -> tuple[object, ...]:
    ranked = sorted(row["hosted"].items(), key=lambda item: -item[1])
    hosted = ", ".join(f"{n} {op}" for op, n in ranked[:4]) or "nothing"
    return (
        row["model"], row["target"], row["cases"], common.seconds(row["compile_seconds"]),
        common.seconds(row["simulate_seconds"]), f"{row['difference']:.2g}",
        f"{row['outside']:.1%}", f"{row['instructions']:,}", f"{row['cycles']:,}", hosted,
    )  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
