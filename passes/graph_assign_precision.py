"""graph-assign-precision: each layer gets the cheapest precision that the whole can do with.

    %1 = graph.conv2d %x, %w, %b {npu.ranges = ...}
    %2 = graph.relu %1 {npu.ranges = ...}

becomes

    %1 = graph.conv2d %x, %w, %b {npu.ranges = ..., npu.precision = "int4-g32"}
    %2 = graph.relu %1 {npu.ranges = ..., npu.precision = "int4-g32"}

such that the outputs keep a signal-to-noise ratio of `budget` decibels on the samples, at the least
cycles or energy. For every unit (what becomes one operation, passes/quantizing/precision.py) and
every choice, the noise is measured with all else in floats, and the cost is that of graph-map when
all units have that choice. Noise is taken to add up; a knapsack solved by dynamic programming then
chooses (passes/quantizing/knapsack.py). The outcome is measured as a whole, and the budget of the
knapsack changed until the whole just keeps what is wanted; one choice for all is taken where that
is cheaper. What the user says (`precision` in the overrides file) stays. graph-quantize follows,
with the `scheme` of what has no unit.

`choices` are names of schemes, `float16`, `bfloat16` and `float32`, with commas; by default those
that the target has units for (bfloat16 apart). `samples` is a .npz or .npy file, of which the units
are measured on `count`, the whole on all. The table of units, choices, noise and cost is printed,
unless `table` is false; `save` names an overrides file to write.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import numpy.typing as npt
from xdsl.context import Context
from xdsl.dialects.builtin import ModuleOp, StringAttr
from xdsl.dialects.func import FuncOp
from xdsl.ir import SSAValue
from xdsl.passes import ModulePass

from npu_dialect.diagnostics import Code, error, warn
from npu_dialect.graph.base import dtype_of
from npu_dialect.passes.graph_calibrate import functions, range_of
from npu_dialect.passes.quantizing import replay
from npu_dialect.passes.quantizing.costs import OBJECTIVES, Costs, costs_of, shared_out
from npu_dialect.passes.quantizing.insertion import Insertion, real_tensors
from npu_dialect.passes.quantizing.knapsack import STEPS, cheapest
from npu_dialect.passes.quantizing.precision import (
    FLOAT,
    PRECISION,
    Precision,
    Unit,
    scheme_named,
    units,
)
from npu_dialect.passes.quantizing.ranges import Range
from npu_dialect.passes.quantizing.schemes import Scheme
from npu_dialect.passes.quantizing.sensitivity import Sensitivity, decibels, noise_share
from npu_dialect.passes.quantizing.twins import quantized, scheme_of
from npu_dialect.passes.targets import module_target
from npu_dialect.target import Target

ATTEMPTS = 10
"""At a budget of the knapsack with which the whole keeps what is wanted."""
TIGHTER = 0.9
"""Than the share by which it was missed."""
PREPARE = (
    "graph-unroll",
    "graph-canonicalize",
    "graph-fold-constants",
    "graph-channels-last",
    "graph-fuse-batch-norm",
)
"""What makes the operations that integers will be of."""
NEAR = 1.05
"""Budgets that differ by this factor are alike."""


@dataclass(frozen=True)
class GraphAssignPrecisionPass(ModulePass):
    """Choose the precision of each layer so that the outputs keep `budget` decibels at the least
    `objective`: cycles or energy. `samples` is a .npz or .npy file; layers are measured on `count`
    of them. `choices` are schemes and floats, with commas; `scheme` is that of graph-quantize. The
    table is printed unless `table` is false; `save` names an overrides file to write.
    """

    name = "graph-assign-precision"

    keeps_bits: ClassVar[bool] = True
    """It only says what graph-quantize does."""

    samples: str = ""
    budget: float | int = 30.0
    objective: str = "cycles"
    choices: str = ""
    scheme: str = "int8"
    count: int = 4
    table: bool = True
    save: str = ""

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        if self.objective not in OBJECTIVES:
            rule = f"objective must be {' or '.join(OBJECTIVES)}"
            raise error(Code.OPTION, rule, found=self.objective, source=self.name)
        if not np.isfinite(self.budget):
            rule = "budget must be a finite number of decibels"
            raise error(Code.OPTION, rule, found=self.budget, source=self.name)
        if self.count < 1:
            raise error(Code.OPTION, "count must be above 0", found=self.count, source=self.name)
        names = [n for n in self.choices.split(",") if n] or choices_for(module_target(op))
        default = scheme_of(self.scheme, self.name)
        schemes = {name: scheme_named(name, self.name) for name in names}
        for function in functions(op):
            arguments = replay.samples(function, self.samples, self.name)
            assignment = Assignment(op, function, default, schemes, arguments)
            if assignment.units:
                assignment.cost(ctx, self.objective)
                assignment.measure(self.count)
                report = assignment.solve(ctx, self.budget, self.objective)
                if self.table:
                    sys.stderr.write(f"{report}\n")
                if self.save:
                    Path(self.save).write_text(assignment.overrides())


def choices_for(target: Target) -> list[str]:
    """The precisions that a target has units for, from the least to the most exact."""
    codecs, array = target.dma.codecs, target.array.macs
    found = ["int4"] if "i4" in codecs else []
    found += ["int4-g32"] if "i4x32" in codecs else []
    found.append("int8")
    found += ["int16x8"] if "i16" in array and "i16" in target.vector.storage else []
    floats = {"float16": "f16", FLOAT: "f32"} if "f32" in target.vector.lanes else {}
    return found + [name for name, dtype in floats.items() if dtype in target.vector.storage]


class Assignment:
    """The choices for one function."""

    def __init__(
        self,
        module: ModuleOp,
        function: FuncOp,
        default: Scheme,
        schemes: dict[str, Precision],
        arguments: replay.Arguments,
    ) -> None:
        self.module, self.function, self.default = module, function, default
        self.arguments = arguments
        self.ranges: dict[SSAValue, Range] = {
            v: found for v in real_tensors(function) if (found := range_of(v)) is not None
        }
        self.units: list[Unit] = units(Insertion(function, self.ranges, default).chosen())
        said = [unit.said for unit in self.units]
        more = {s: scheme_named(s, u.name) for s, u in zip(said, self.units, strict=True) if s}
        self.schemes = schemes | more
        self.names = list(self.schemes)
        self.allowed = [[s] if s else list(schemes) for s in said]
        self.labels = labels([unit.name for unit in self.units])
        self.costs: dict[str, Costs] = {}
        self.prices = np.zeros((len(self.units), len(self.names)))
        self.noise = np.zeros_like(self.prices)
        self.chosen: list[str] = []

    # --- what a choice costs and does ---

    def cost(self, ctx: Context, objective: str) -> None:
        """Plans the whole module with each choice for all units. What would leave the accelerator
        cannot be chosen, unless nothing else can.
        """
        nodes = dict(zip(self.labels, (u.nodes for u in self.units), strict=True))
        away = np.zeros(self.prices.shape, np.bool_)
        for k, name in enumerate(self.names):
            self._give([name] * len(self.units))
            self.costs[name] = found = self._planned(ctx, objective)
            by_unit = shared_out(found, nodes)
            self.prices[:, k] = [by_unit[label] for label in self.labels]
            away[:, k] = [bool(nodes[label] & found.hosted) for label in self.labels]
        for row, hosted, allowed in zip(self.prices, away, self.allowed, strict=True):
            barred = np.array([name not in allowed for name in self.names])
            row[barred if (hosted | barred).all() else hosted | barred] = np.inf
        stay = [label for label, hosted in zip(self.labels, away, strict=True) if hosted.all()]
        if stay:
            warn(
                Code.OPTION,
                "layers should run on the accelerator with one of the choices",
                found=f"{', '.join(stay[:3])}{' and others' if len(stay) > 3 else ''}, "
                "on the host with each",
                remedy=f"before calibration: {','.join(PREPARE)}",
                source=self.function.sym_name.data,
            )

    def _planned(self, ctx: Context, objective: str) -> Costs:
        copy = self.module.clone()
        for function in functions(copy):
            values = real_tensors(function)
            ranges = {v: found for v in values if (found := range_of(v)) is not None}
            Insertion(function, ranges, self.default).run()
        return costs_of(copy, ctx, objective)

    def measure(self, count: int) -> None:
        """The noise of each unit and choice, on some of the samples."""
        sensitivity = Sensitivity(self.function, self.ranges, self.arguments[:count])
        for n, unit in enumerate(self.units):
            for k, name in enumerate(self.names):
                if np.isfinite(self.prices[n, k]):
                    self.noise[n, k] = sensitivity.noise(unit, self.schemes[name])

    def _give(self, chosen: Sequence[str]) -> None:
        for unit, name in zip(self.units, chosen, strict=True):
            for op in unit.ops:
                op.attributes[PRECISION] = StringAttr(name)

    def _measured(self) -> float:
        """The share of noise in the outputs with all that is chosen."""
        twin = quantized(self.function, self.default)[0].function
        wanted = replay.run(self.function, self.arguments)
        found = replay.run(twin, self.arguments)
        last = self.function.body.block.last_op
        assert last is not None
        real = [k for k, v in enumerate(last.operands) if dtype_of(v).is_float]
        shares = [noise_share([a[k] for a in wanted], [b[k] for b in found]) for k in real]
        return float(np.mean(shares)) if shares else 0.0

    # --- the choice ---

    def solve(self, ctx: Context, budget: float, objective: str) -> str:
        """Chooses, and tells of it. Raises CompileError where nothing keeps the budget."""
        wanted = 10 ** (-budget / 10)
        kept = self._search(wanted)
        if kept is None:
            raise self._refusal(budget)
        self.chosen, share = kept
        self._give(self.chosen)
        cost = self._planned(ctx, objective)
        for name, alike in self.costs.items():
            tried = self._alike(name) if alike.total < cost.total else None
            if tried is not None and tried[1] <= wanted:
                (self.chosen, share), cost = tried, alike
        self._give(self.chosen)
        return self._report(share, cost, objective)

    def _alike(self, name: str) -> tuple[list[str], float] | None:
        """One choice for all units, and the noise of the whole; None where one must not have it."""
        if not np.isfinite(self.prices[:, self.names.index(name)]).all():
            return None
        chosen = [name] * len(self.units)
        self._give(chosen)
        return chosen, self._measured()

    def _search(self, wanted: float) -> tuple[list[str], float] | None:
        """The cheapest of some choices whose noise as a whole is at most what is wanted, and it.
        The budget of the knapsack follows the share by which the last one missed, and then lies
        between those that held and those that did not. It is no less than what the most exact
        choices sum to: the whole may have less noise than that.
        """
        exact = self._most_exact()
        kept = exact if exact[1] <= wanted else None
        held, missed, allowed = 0.0, np.inf, max(wanted, self._least())
        for _ in range(ATTEMPTS):
            tried = self._tried(allowed)
            if tried is None and not held:
                break
            if tried is not None and tried[1] <= wanted:
                held, kept = allowed, tried
            else:
                missed = allowed
            ratio = wanted / tried[1] if tried and tried[1] else 1.0
            allowed = next_budget(held, missed, allowed * ratio)
            if min(allowed, missed) < NEAR * held:
                break
        return kept

    def _tried(self, allowed: float) -> tuple[list[str], float] | None:
        """The choices for a budget of the knapsack, and the noise of the whole; None without."""
        found = cheapest(self.noise.tolist(), self.prices.tolist(), allowed)
        if found is None:
            return None
        chosen = [self.names[k] for k in found]
        self._give(chosen)
        return chosen, self._measured()

    def _possible(self) -> npt.NDArray[np.float64]:
        """The noise of each unit and choice; infinite where the choice cannot be made."""
        return np.where(np.isfinite(self.prices), self.noise, np.inf).astype(np.float64)

    def _least(self) -> float:
        """The budget of the knapsack that is enough for the most exact choices, rounded up."""
        steps = 1 - len(self.units) / STEPS
        return float(self._possible().min(axis=1).sum()) / max(steps, TIGHTER)

    def _most_exact(self) -> tuple[list[str], float]:
        """The choices with the least noise of each unit, and the noise of the whole."""
        chosen = [self.names[int(np.argmin(row))] for row in self._possible()]
        self._give(chosen)
        return chosen, self._measured()

    def _refusal(self, budget: float) -> Exception:
        best = decibels(self._most_exact()[1])
        for unit in self.units:
            for op in unit.ops:
                op.attributes.pop(PRECISION, None)
        return error(
            Code.OPTION,
            f"the outputs must be able to keep {budget:g} dB with the choices",
            found=f"{best:.1f} dB with the most exact of {', '.join(self.names)}",
            remedy="a smaller budget, or more choices",
            source=self.function.sym_name.data,
        )

    # --- what was found ---

    def _report(self, share: float, found: Costs, objective: str) -> str:
        """The table: for each unit and choice the signal-to-noise ratio that it alone would leave
        and its cost; then those of the whole.
        """
        unit = "pJ" if objective == "energy" else "cycles"
        rows = [["layer", *(f"{n}: dB, {unit}" for n in self.names), "chosen"]]
        for n, label in enumerate(self.labels):
            cells = [
                f"{decibels(self.noise[n, k]):.1f}, {price:,.0f}" if np.isfinite(price) else "-"
                for k, price in enumerate(self.prices[n])
            ]
            rows.append([label, *cells, self.chosen[n]])
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = ["  ".join(c.ljust(w) for c, w in zip(r, widths, strict=True)) for r in rows]
        uniform = ", ".join(f"{n} {c.total:,.0f}" for n, c in self.costs.items())
        lines.append(f"all alike, {unit}: {uniform}")
        lines.append(f"chosen: {decibels(share):.1f} dB measured, {found.total:,.0f} {unit}")
        return "\n".join(line.rstrip() for line in lines)

    def overrides(self) -> str:
        """The choices as an overrides file has them, without what has the name of another."""
        pairs = zip(self.units, self.chosen, strict=True)
        found = {unit.name: name for unit, name in reversed(list(pairs))}
        items = reversed(found.items())
        return "\n".join(f'["{node}"]\nprecision = "{name}"\n' for node, name in items)


def next_budget(held: float, missed: float, guess: float) -> float:
    """The budget to try after the greatest that held (0 for none) and the least that missed."""
    if held and missed < np.inf:
        return float(np.sqrt(held * missed))
    return guess if held else TIGHTER * guess


def labels(names: Sequence[str]) -> list[str]:
    """Names that differ: of several alike, those before the last have a number."""
    total, seen = Counter(names), Counter[str]()
    found: list[str] = []
    for name in names:
        seen[name] += 1
        found.append(name if seen[name] == total[name] else f"{name}#{seen[name]}")
    return found
