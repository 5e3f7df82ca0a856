"""graph-calibrate: runs the graph on samples and notes the range of every float tensor.

    %1 = graph.conv2d %x, %w {...} : (...) -> tensor<1x8x8x16xf32>

becomes, with the samples of a file,

    %1 = graph.conv2d %x, %w {..., npu.ranges = array<f64: -3.2, 4.7>} : ...

Two numbers for each result, the least and the greatest real number that a quantized type shall
hold; those of the arguments stand on the function. Arguments and results keep all that was seen; of
tensors between, `method` says how a range follows from the
values (passes/quantizing/ranges.py); what masks make of scores needs no range down to -1e9
(passes/quantizing/masks.py). The statistics behind them can be written (`save`), and read
instead of running the samples again (`statistics`), also to try another method.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import cast

from xdsl.context import Context
from xdsl.dialects.builtin import DenseArrayBase, ModuleOp, f64
from xdsl.dialects.func import FuncOp
from xdsl.ir import BlockArgument, Operation, OpResult, SSAValue
from xdsl.passes import ModulePass

from npu_dialect import graph, provenance
from npu_dialect.diagnostics import Code, error, remark, warn
from npu_dialect.graph.base import shape_of
from npu_dialect.graph.states import states_of
from npu_dialect.passes.quantizing import calibration
from npu_dialect.passes.quantizing.masks import Limits
from npu_dialect.passes.quantizing.precision import precision_of_layers, scheme_named
from npu_dialect.passes.quantizing.ranges import (
    ESTIMATORS,
    PERCENTILE,
    Estimator,
    Range,
    minmax,
    percentile,
)
from npu_dialect.passes.quantizing.samples import samples_of
from npu_dialect.passes.quantizing.schemes import Scheme
from npu_dialect.passes.quantizing.statistics import Calibration, Statistics

RANGES = "npu.ranges"
"""The attribute: pairs of numbers, by result, or by argument of a function. NaN where there is
none.
"""
SATURATED = 0.01
"""The share of the values outside of a range that is worth a warning."""
LEVELS = 256
"""Values of the type that ranges are chosen for."""


@dataclass(frozen=True)
class GraphCalibratePass(ModulePass):
    """Note the ranges of float tensors on samples. `samples` is a .npz, a .npy or a folder of them,
    `statistics` and `save` are .npz files; `method` is minmax, moving, percentile, mse or entropy;
    `percent` is of percentile, `levels` how many values the type has that ranges are for.
    """

    name = "graph-calibrate"

    samples: str = ""
    statistics: str = ""
    save: str = ""
    method: str = "minmax"
    percent: float | int = PERCENTILE
    levels: int = LEVELS

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        estimator = self._estimator()
        if bool(self.samples) == bool(self.statistics):
            raise error(
                Code.OPTION,
                "must be given either samples or statistics",
                found="both" if self.samples else "neither",
                source="graph-calibrate",
            )
        known = calibration.load(self.statistics) if self.statistics else None
        everything: dict[str, Statistics] = {}
        for function in functions(op):
            found = known if known is not None else self._observe(function)
            everything |= found
            annotate(function, found, estimator, self.levels)
        if self.save:
            calibration.save(self.save, everything)

    def _observe(self, function: FuncOp) -> Calibration:
        samples = samples_of(self.samples, calibration.ports_of(function))
        return calibration.observe(function, samples)

    def _estimator(self) -> Estimator:
        if self.method not in ESTIMATORS:
            raise error(
                Code.OPTION,
                f"method must be one of {', '.join(ESTIMATORS)}",
                found=self.method,
                source="graph-calibrate",
            )
        if not 0 < self.percent <= 100:
            rule = "percent must be above 0 and at most 100"
            raise error(Code.OPTION, rule, found=self.percent, source="graph-calibrate")
        if self.method == "percentile":
            return partial(percentile, percent=self.percent)
        return ESTIMATORS[self.method]


def functions(module: ModuleOp) -> list[FuncOp]:
    """The functions that are entries."""
    return [
        f
        for f in module.ops
        if isinstance(f, FuncOp) and not f.is_declaration and f.sym_visibility is None
    ]


def annotate(
    function: FuncOp, found: Calibration, estimator: Estimator, levels: int = LEVELS
) -> None:
    """Writes the ranges that follow from statistics onto the operations. Raises CompileError where
    those of a tensor are missing.
    """
    ranges: dict[SSAValue, Range] = {}
    found = {**found, **_of_states(function, found)}
    ends = {*function.args, *returned(function)}
    names = calibration.names_in(function)
    limits, wide = Limits(names, found, levels), _levels_of_layers(function)
    for value, name in names.items():
        if 0 in shape_of(value):
            continue
        if name not in found or not found[name].known:
            raise error(
                Code.OPTION,
                "there must be statistics of every float tensor",
                found=f"none of {name}",
                remedy="statistics of this model, after the same passes",
                source="graph-calibrate",
            )
        limited = limits.range_of(value)
        chosen = minmax if value in ends else estimator
        ranges[value] = limited or chosen(found[name], wide.get(value, levels))
        if not limited and not isinstance(value.owner, graph.ReshapeOp | graph.TransposeOp):
            report(name, found[name], ranges[value], value in ends)
    function.attributes[RANGES] = _attribute(function.args, ranges)
    for op in function.body.block.ops:
        if any(result in ranges for result in op.results):
            op.attributes[RANGES] = _attribute(op.results, ranges)


def _levels_of_layers(function: FuncOp) -> dict[SSAValue, int]:
    """How many values the tensors have of nodes with a precision of their own."""
    rows = precision_of_layers(function)
    found: dict[SSAValue, int] = {}
    for op in function.body.block.ops if rows else ():
        name = next(iter(provenance.sources(op)[-1:]), "")
        scheme = scheme_named(rows[name], name) if name in rows else None
        found |= dict.fromkeys(op.results, scheme.levels) if isinstance(scheme, Scheme) else {}
    return found


def _of_states(function: FuncOp, found: Calibration) -> Calibration:
    """The statistics of states before and after a call, which are those of both: a state that has
    one type is kept in integers.
    """
    names, results = calibration.names_in(function), returned(function)
    both: dict[str, Statistics] = {}
    for state in states_of(function):
        if state.argument is not None and state.result is not None:
            pair = (function.args[state.argument], results[state.result])
            known = [names[v] for v in pair if v in names and names[v] in found]
            if len(known) == 2:
                joined = found[known[0]].joined(found[known[1]])
                both |= dict.fromkeys(known, joined)
    return both


def report(name: str, found: Statistics, chosen: Range, is_end: bool) -> None:
    """Warns of a tensor that holds one value on all samples, and of a range that leaves out much.

    Tensors inside may be constant for good reasons, such as states that start with zeros.
    """
    if found.low == found.high and found.elements > 1:
        (warn if is_end else remark)(
            Code.DEGENERATE,
            "the values of a tensor should differ between samples, for they decide its range",
            found=f"{found.low:g} in all of {found.elements:,}",
            remedy="more samples, and typical ones",
            source=name,
        )
    outside = found.outside(chosen.low, chosen.high)
    if outside > SATURATED:
        warn(
            Code.SATURATION,
            f"a range should hold all but {SATURATED:.0%} of the values",
            found=f"{outside:.1%} outside of {chosen.low:.4g} to {chosen.high:.4g}",
            remedy="the method minmax, or a greater percent",
            source=name,
        )


def returned(function: FuncOp) -> list[SSAValue]:
    """The results of a function, as they are before they are moved."""
    last = function.body.block.last_op
    assert last is not None
    found: list[SSAValue] = []
    for value in last.operands:
        while isinstance(value.owner, graph.ReshapeOp | graph.TransposeOp):
            value = value.owner.x
        found.append(value)
    return found


def _attribute(values: Sequence[SSAValue], ranges: dict[SSAValue, Range]) -> DenseArrayBase:
    nan = float("nan")
    pairs = [ranges.get(v, Range(nan, nan)) for v in values]
    return DenseArrayBase.from_list(f64, [x for pair in pairs for x in (pair.low, pair.high)])


def range_of(value: SSAValue) -> Range | None:
    """The range that graph-calibrate noted for a value; None where it noted none."""
    owner = value.owner
    holder = owner if isinstance(owner, Operation) else owner.parent_op()
    attribute = holder.attributes.get(RANGES) if holder is not None else None
    if not isinstance(attribute, DenseArrayBase):
        return None
    numbers = [float(x) for x in attribute.get_values()]
    index = cast(OpResult | BlockArgument, value).index
    low, high = numbers[2 * index : 2 * index + 2]
    return None if low != low else Range(low, high)
