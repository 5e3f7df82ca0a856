"""How far functions in fixed point are from the exact ones, and what they cost.

  python benchmarks/integer_functions.py            on edge256
  python benchmarks/integer_functions.py --target edge512 --rows 2000

Each function stands between dequantize and quantize, and gets rows of bytes: uniform ones, narrow
ones about a random value, constant ones, and those with one element that differs. Columns, in
steps of the result:

  bound      the greatest error before the result is rounded, by the formula that the compiler uses
  measured   the greatest that was found, against float64; below 0 where rounding hid it
  differing  elements that are another step than the exact function rounds to; then the most steps
  npu, host  cycles for an element in fixed point, and with the float function on the host
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from typing import Any

import common
import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]
COLUMNS = (
    "function", "row", "scale of x", "of y", "table", "bound", "measured", "differing", "steps",
    "npu", "host",
)  # fmt: skip
SOFTMAX = [(n, s, o) for n in (10, 64, 197, 1000) for s, o in ((0.02, 1 / 256), (0.2, 1 / 256))]
SOFTMAX += [(197, 0.004, 3e-5), (1000, 0.004, 6e-6)]
LAYER_NORM = [(n, s) for n in (64, 192, 384, 768, 1024, 4096) for s in (0.002, 0.05)]
EPSILON = 1e-5
TIMED = 20_000
"""Elements of the programs whose cycles are counted, at least."""


def main() -> int:
    parser = common.parser(__doc__ or "", models=False)
    parser.add_argument("--target", default="edge256")
    parser.add_argument("--rows", type=int, default=500, help="rows of each kind (%(default)s)")
    args = parser.parse_args()
    rows = list(measured(args))
    common.show(f"functions in fixed point, {args.target}", COLUMNS, map(cells, rows))
    failed = [r for r in rows if r["steps"] > 1 or r["measured"] > r["bound"]]
    return common.finish(args, rows) or int(bool(failed))


def measured(args: argparse.Namespace) -> Iterator[common.Row]:
    for case in SOFTMAX:
        yield softmax(args, *case)
    for case in LAYER_NORM:
        yield layer_norm(args, *case)


def softmax(args: argparse.Namespace, count: int, scale: float, out: float) -> common.Row:
    from npu_dialect import dtypes, graph
    from npu_dialect.graph.quant import uniform
    from npu_dialect.passes.fixed_point import softmax as steps

    quant, result = uniform(dtypes.u8, scale, 120), uniform(dtypes.u8, out, 0)
    plan = steps.best_plan(count, quant, result)
    assert plan is not None
    x = samples(count, args.rows)
    real = (x.astype(np.float64) - 120) * quant.scale
    e = np.exp(real - real.max(-1, keepdims=True))
    exact = e / e.sum(-1, keepdims=True)
    table = f"{plan.table.dtype}{', less the greatest' if plan.from_greatest else ''}"
    make = lambda value: [graph.SoftmaxOp(value, 1)]  # noqa: E731
    row: common.Row = {"function": "softmax", "row": count, "scale": scale, "out": out}
    return row | {"table": table, "bound": plan.error} | off(args, make, x, quant, result, exact)


def layer_norm(args: argparse.Namespace, count: int, scale: float) -> common.Row:
    from npu_dialect import dtypes, graph
    from npu_dialect.graph.quant import uniform
    from npu_dialect.passes.fixed_point import layer_norm as steps

    rng = np.random.default_rng(count)
    gain = rng.normal(1, 0.3, count).astype(np.float32)
    bias = rng.normal(0, 0.3, count).astype(np.float32)
    quant, result = uniform(dtypes.u8, scale, 120), uniform(dtypes.u8, 8 / 255, 128)
    in_steps = gain.astype(np.float64) / result.scale, bias.astype(np.float64) / result.scale
    plan = steps.best_plan(count, quant, EPSILON, in_steps[0], in_steps[1], result)
    assert plan is not None
    x = samples(count, args.rows)
    real = (x.astype(np.float64) - 120) * quant.scale
    d = real - real.mean(-1, keepdims=True)
    variance = (d * d).mean(-1, keepdims=True)
    exact = d / np.sqrt(variance + float(np.float32(EPSILON))) * gain + bias

    def make(value: Any) -> list[Any]:
        gains, biases = graph.ConstantOp(gain), graph.ConstantOp(bias)
        return [gains, biases, graph.LayerNormOp(value, gains, biases, 1, EPSILON)]

    row: common.Row = {"function": "layer norm", "row": count, "scale": scale, "out": result.scale}
    row |= {"table": "u16, long product" if plan.wide else "u16", "bound": plan.error}
    return row | off(args, make, x, quant, result, exact)


def samples(count: int, rows: int) -> Array:
    """[rows, count] u8."""
    rng = np.random.default_rng(0)
    x = rng.integers(0, 256, (rows, count))
    narrow = rng.normal(rng.uniform(0, 255, (rows, 1)), rng.uniform(0, 40, (rows, 1)), x.shape)
    x[::2] = np.clip(np.rint(narrow), 0, 255)[::2]
    x[0], x[1], x[2], x[3], x[4, ::2], x[4, 1::2] = 0, 255, 0, 255, 0, 255
    x[2, 0], x[3, 0] = 255, 254
    return x.astype(np.uint8)


def off(
    args: argparse.Namespace, make: Any, x: Array, quant: Any, result: Any, exact: Array
) -> common.Row:
    """How far off the results are, and the cycles for an element with and without the host."""
    import npu_dialect as npu

    npu_module = module(make, x.shape, quant, result, args.target)
    npu.lower(npu_module, until="graph")
    found = next(iter(npu.execute(npu_module, x).values())).astype(np.float64)
    steps = np.clip(exact / result.scale + result.zero_point, result.low, result.high)
    wrong = np.abs(found - np.rint(steps))
    shape = (-(-TIMED // x.shape[1]), x.shape[1])
    cycles: list[float] = []
    for keep in (False, True):
        timed = npu.load(module(make, shape, quant, result, args.target), exact=keep)
        npu.lower(timed)
        cycles.append(npu.assemble(timed).profile.cycles / (shape[0] * shape[1]))
    return {
        "measured": float(np.abs(found - steps).max()) - 0.5,
        "differing": float((wrong > 0).mean()),
        "steps": int(wrong.max()),
        "npu": cycles[0],
        "host": cycles[1],
    }


def module(make: Any, shape: tuple[int, ...], quant: Any, result: Any, target: str) -> Any:
    """quantize(make(dequantize(x)))."""
    from xdsl.dialects.builtin import ArrayAttr, ModuleOp, StringAttr, TensorType
    from xdsl.dialects.func import FuncOp, ReturnOp

    import npu_dialect as npu
    from npu_dialect import graph, provenance

    main = FuncOp("main", ([TensorType(quant, shape)], [TensorType(result, shape)]))
    real = graph.DequantizeOp(main.body.block.args[0])
    made = make(real.result)
    last = graph.QuantizeOp(made[-1], result)
    for op in (real, *made, last):
        op.location = provenance.name_location("function")
    main.body.block.add_ops([real, *made, last, ReturnOp(last)])
    main.attributes["npu.input_names"] = ArrayAttr([StringAttr("x")])
    main.attributes["npu.output_names"] = ArrayAttr([StringAttr("y")])
    return npu.load(ModuleOp([main]), target)


def cells(row: common.Row) -> tuple[object, ...]:
    return (
        row["function"], row["row"], f"{row['scale']:.3g}", f"{row['out']:.2g}", row["table"],
        f"{row['bound']:.4f}", f"{row['measured']:.4f}", f"{row['differing']:.3%}", row["steps"],
        f"{row['npu']:.2f}", f"{row['host']:.2f}",
    )  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
