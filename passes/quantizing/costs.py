"""What a quantized module is estimated to cost, by the nodes of the model: what graph-map finds."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field

from xdsl.context import Context
from xdsl.dialects.builtin import ModuleOp, StringAttr
from xdsl.dialects.func import FuncOp
from xdsl.ir import Operation
from xdsl.utils.arg_spec import parse_pipeline

from npu_dialect import provenance, universe
from npu_dialect.passes.mapping.groups import Group
from npu_dialect.passes.mapping.plan import Planner
from npu_dialect.passes.mapping.segments import Single, TooLargeError
from npu_dialect.passes.targets import module_target

OBJECTIVES = {"cycles": "latency", "energy": "energy"}
"""What costs are counted in, and what graph-map calls it. Energy is dynamic, in pJ."""
BEFORE_MAP = "graph-map"


@dataclass
class Costs:
    """Of one module."""

    by_source: dict[frozenset[str], float] = field(default_factory=dict[frozenset[str], float])
    """Of each group, by the nodes that it comes from."""
    hosted: set[str] = field(default_factory=set[str])
    """Nodes of contractions that the host computes."""

    @property
    def total(self) -> float:
        return sum(self.by_source.values())


def lower(module: ModuleOp, context: Context) -> None:
    """Runs the passes before graph-map."""
    steps = (*universe.PIPELINES["graph"], *universe.PIPELINES["tile"])
    for step in steps:
        if step.spec.startswith(BEFORE_MAP):
            return
        (spec,) = parse_pipeline(step.spec)
        universe.pass_class(spec.name).from_spec(spec).apply(context, module)


def costs_of(module: ModuleOp, context: Context, objective: str) -> Costs:
    """Lowers a module at level graph, in place, and plans it."""
    lower(module, context)
    found: defaultdict[frozenset[str], float] = defaultdict(float)
    hosted: set[str] = set()
    for function in list(module.ops):
        if not isinstance(function, FuncOp) or function.is_declaration:
            continue
        if function.sym_visibility is not None:
            continue
        for group, cost in _planned(module, function, objective):
            names = frozenset[str]().union(*map(own_source, group.body))
            found[names] += cost
            if group.kind == "host":
                hosted |= names
    return Costs(dict(found), hosted)


def own_source(op: Operation) -> frozenset[str]:
    """The node that an operation computes: the first that it comes from, for those of what it reads
    follow.
    """
    return frozenset(provenance.sources(op)[:1])


def _planned(module: ModuleOp, function: FuncOp, objective: str) -> list[tuple[Group, float]]:
    """Every group of a function and its share of the cost of the plan."""
    target = module_target(module)
    while True:
        try:
            planner = Planner(target, function.body.block, {}, None, OBJECTIVES[objective])
            plan = planner.run()
            break
        except TooLargeError as problem:
            problem.group.op.properties["kind"] = StringAttr("host")
    found: list[tuple[Group, float]] = []
    first = 0
    for segment in plan.segments:
        steps = plan.steps[first : segment.stop]
        first = segment.stop
        alone = [max(step.work.alone, 1e-9) for step in steps]
        whole = segment.cycles
        if objective == "energy":
            is_one = isinstance(segment, Single)
            whole = (segment.work if is_one else segment.option.work).alone
        found += [
            (step.group, whole * part / sum(alone)) for step, part in zip(steps, alone, strict=True)
        ]
    return found


def shared_out(costs: Costs, units: Mapping[str, frozenset[str]]) -> dict[str, float]:
    """The cost of each unit, of which the names of nodes are given: that of the groups it is in,
    shared by the units of a group.
    """
    owners: defaultdict[str, set[str]] = defaultdict(set)
    for unit, names in units.items():
        for name in names:
            owners[name].add(unit)
    found = dict.fromkeys(units, 0.0)
    for names, cost in costs.by_source.items():
        takers = {unit for name in names for unit in owners[name]}
        for unit in takers:
            found[unit] += cost / len(takers)
    return found
