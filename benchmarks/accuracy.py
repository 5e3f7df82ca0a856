"""How far compiled models are from onnxruntime, and whether all levels agree.

  python benchmarks/accuracy.py                           all models
  python benchmarks/accuracy.py resnet18_int8 --inputs 5

Outputs are those of the simulated program. "plain" is onnxruntime without graph optimizations,
which computes quantized models in floats; "optimized" is onnxruntime as it comes, which computes
them in integers. Reals must be within rtol 1e-3 and atol 1e-4 of the range; quantized outputs
within one step, in at most 1 % of the elements of all inputs together, with the same argmax.

One value that is rounded the other way changes values of the next layer, and so on: in deep
quantized models onnxruntime is far from itself ("plain / optimized"). So the column "layers" states
the distance of each layer alone, fed with the tensors of plain onnxruntime, over all layers. A
quantized model agrees ("yes") where its outputs are within the tolerance of plain onnxruntime; it
agrees "by layers" where they are not, but every layer alone is, and the outputs are no further from
plain onnxruntime than optimized onnxruntime is.

"levels" says whether graph, tile and npu give the same bits for every tensor that they hold.

  python benchmarks/accuracy.py --pairs                   int8 .tflite models beside float ones

is another comparison: see `pairs.py`.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from functools import reduce
from operator import add
from pathlib import Path
from typing import TYPE_CHECKING

import common
import pairs
import reference
import zoo
from reference import Array, Distance

if TYPE_CHECKING:
    from xdsl.dialects.builtin import ModuleOp
    from xdsl.dialects.func import FuncOp
    from xdsl.ir import Block, Operation, SSAValue

COLUMNS = (
    "model", "target", "plain", "optimized", "plain / optimized", "layers", "levels", "agrees",
)  # fmt: skip
COMPARISONS = ("plain", "optimized", "between")


def main() -> int:
    parser = common.parser(__doc__ or "")
    parser.add_argument("--inputs", type=int, default=3, help="per model (default: 3)")
    parser.add_argument("--pairs", action="store_true", help="int8 .tflite models and their twins")
    args = parser.parse_args()
    if args.pairs:
        return pairs.main(args)
    if args.measure:
        common.answer(args, measurement(args))
        return 0
    rows = common.measure_each(args, __file__, ["--inputs", str(args.inputs)])
    good = [row for row in rows if "error" not in row]
    title = f"distance from onnxruntime, {args.inputs} inputs"
    common.show(title, COLUMNS, map(cells, good))
    common.show_errors(rows)
    for row in good:
        if row["differing"]:
            print(f"{row['model']}: levels differ in {', '.join(row['differing'])}")
    bad = [row for row in good if row["agrees"] == "NO" or not row["levels"]]
    return common.finish(args, rows) or int(bool(bad))


def measurement(args: argparse.Namespace) -> Callable[[zoo.Model, Path], common.Row]:
    def body(model: zoo.Model, path: Path) -> common.Row:
        return measure(model, path, args.inputs)

    return body


def measure(model: zoo.Model, path: Path, count: int) -> common.Row:
    """Compile one model and run it at every level, and in onnxruntime."""
    from npu_dialect import api, compare, taps

    cases, shapes = zoo.inputs(path, count), zoo.shapes(path)
    graph = api.load(path, model.target, shapes=shapes)
    api.lower(graph, "graph")
    steps = taps.steps(graph)
    module = api.load(path, model.target, shapes=shapes)
    comparison = compare.compare(module, cases[0])
    found = simulated(module, cases)
    plain = reference.run(path, cases, optimize=False)
    optimized = reference.run(path, cases, optimize=True)
    quanta = [steps.get(taps.OUTPUT + name, 0.0) for name in found]
    outputs = list(map(list, zip(*found.values(), strict=True)))
    distances = {
        "plain": total(outputs, plain, quanta),
        "optimized": total(outputs, optimized, quanta),
        "between": total(optimized, plain, quanta),
        "layers": layers(graph, path, cases[0]),
    }
    about = {name: asdict(d) | {"text": str(d)} for name, d in distances.items()}
    differing = [f"{s.source} at {s.level}" for s in comparison.steps if not s.agrees]
    return about | {
        "levels": comparison.levels_agree,
        "differing": differing,
        "agrees": agrees(**distances),
    }


def simulated(module: ModuleOp, cases: Sequence[Mapping[str, Array]]) -> dict[str, list[Array]]:
    """The outputs of a module at level npu for every case, by name."""
    from npu_dialect import api
    from npu_dialect.runtime.simulator import Session

    session = Session(api.assemble(module))
    runs = [session.run(case).outputs for case in cases]
    return {name: [run[name] for run in runs] for name in runs[0]}


def total(
    found: Sequence[Sequence[Array]], wanted: Sequence[Sequence[Array]], steps: Sequence[float]
) -> Distance:
    """The distance over all outputs of all cases."""
    each = (
        reference.distance(a, b, step)
        for outputs, others in zip(found, wanted, strict=True)
        for a, b, step in zip(outputs, others, steps, strict=True)
    )
    return reduce(add, each)


def layers(graph: ModuleOp, path: Path, case: Mapping[str, Array]) -> Distance:
    """The distance of the quantized tensors of a module at level graph, where every operation is
    fed with what plain onnxruntime computed.
    """
    from npu_dialect import levels, taps
    from npu_dialect.ports import bind

    function = levels.main(graph)
    fed = Fed(taps.onnxruntime(path, case), last_of_each_node(function))
    fed.run(function.body.block, bind(levels.inputs_of(graph), case))
    return fed.distance


def last_of_each_node(function: FuncOp) -> dict[Operation, str]:
    """The operations that compute a whole node of the model, and its name."""
    from npu_dialect import provenance

    named = ((provenance.sources(op), op) for op in function.walk())
    last = {names[-1]: op for names, op in named if names}
    return {op: name for name, op in last.items()}


class Fed:
    """Evaluates operations of graph, and replaces their results by those of the reference."""

    def __init__(self, wanted: Mapping[str, Array], names: Mapping[Operation, str]) -> None:
        self.wanted, self.names = wanted, names
        self.distance = Distance(quantized=True)

    def run(self, block: Block, operands: Sequence[Array]) -> list[Array]:
        """What the terminator of a block names."""
        known: dict[SSAValue, Array] = dict(zip(block.args, operands, strict=True))
        *body, last = block.ops
        for op in body:
            results = self._evaluate(op, [known[v] for v in op.operands])
            results[0] = self._replaced(op, results[0])
            known.update(zip(op.results, results, strict=True))
        return [known[v] for v in last.operands]

    def _evaluate(self, op: Operation, operands: Sequence[Array]) -> list[Array]:
        from npu_dialect.graph.base import GraphOp
        from npu_dialect.graph.structure import GroupOp

        if isinstance(op, GroupOp):
            return self.run(op.body.block, operands)
        assert isinstance(op, GraphOp)
        return list(op.evaluate(*operands))

    def _replaced(self, op: Operation, found: Array) -> Array:
        wanted = self.wanted.get(self.names.get(op, ""))
        if wanted is None or wanted.dtype != found.dtype or found.dtype.kind not in "iu":
            return found
        moved = reference.in_layout_of(wanted, found)
        if moved is None:
            return found
        self.distance += reference.distance(found, moved)
        return moved


def agrees(plain: Distance, optimized: Distance, between: Distance, layers: Distance) -> str:
    """The verdict on a model; see the top."""
    del optimized
    if plain.within:
        return "yes"
    near = plain.largest <= between.largest + 1 and plain.fraction <= between.fraction + 0.01
    return "by layers" if layers.elements and layers.within and near else "NO"


def cells(row: common.Row) -> tuple[object, ...]:
    texts = [row[name]["text"] for name in (*COMPARISONS, "layers")]
    if not row["layers"]["elements"]:
        texts[-1] = ""
    return (row["model"], row["target"], *texts, common.verdict(row["levels"]), row["agrees"])


if __name__ == "__main__":
    sys.exit(main())
