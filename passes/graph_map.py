"""graph-map: decides how every group is cut into tiles and which tensors stay in the scratchpad.

    %y = graph.group %x, %w ... {kind = "array"}

becomes

    %y = graph.group %x, %w ... {kind = "array", npu.memory = "spm", npu.estimate = 5210,
        npu.mapping = {rows = 8, cols = 32, channels = 16, reduction = 16, order = "weights_outer"}}

The decisions are in the IR, so that they can be read, replayed and pinned: a group that has a
mapping already keeps it, and a function that has cascades keeps all its decisions. Every other
decision is by search with the cost functions that the simulator uses (passes/mapping/), for the
fewest cycles unless `objective` says otherwise. With `energy` the energy of accesses, copies and
products decides, and what the machine leaks meanwhile: tiles may then take all of the scratchpad
once rather than half of it twice, since copies that the array waits for cost none. A group of which
not even the smallest tile fits goes to the host.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, cast

from xdsl.context import Context
from xdsl.dialects.builtin import DictionaryAttr, IntegerAttr, ModuleOp, StringAttr, i64
from xdsl.dialects.func import FuncOp
from xdsl.ir import Attribute, Operation
from xdsl.passes import ModulePass

from npu_dialect import overrides
from npu_dialect import planned as estimates
from npu_dialect.diagnostics import Code, error
from npu_dialect.graph.attributes import PLACEMENT, PlacementAttr
from npu_dialect.passes.mapping.cascades import Member
from npu_dialect.passes.mapping.contraction import ContractionMapping
from npu_dialect.passes.mapping.elementwise import ElementwiseMapping, PoolingMapping
from npu_dialect.passes.mapping.explained import Explained, explained
from npu_dialect.passes.mapping.groups import POOLS, SCATTER, Group
from npu_dialect.passes.mapping.hoist import hoist_views
from npu_dialect.passes.mapping.least import FRUGAL, balance, least, within
from npu_dialect.passes.mapping.plan import Planner
from npu_dialect.passes.mapping.problems import AnyMapping
from npu_dialect.passes.mapping.scatter import ScatterMapping
from npu_dialect.passes.mapping.segments import Plan, Step, TooLargeError
from npu_dialect.passes.mapping.views import settled, storage
from npu_dialect.passes.targets import SCRATCHPAD, module_target
from npu_dialect.target import Target


def mapping_attribute(mapping: AnyMapping) -> DictionaryAttr:
    """A mapping as it stands in the IR."""
    return DictionaryAttr({name: _attribute(value) for name, value in asdict(mapping).items()})


def _attribute(value: int | str) -> Attribute:
    return StringAttr(value) if isinstance(value, str) else IntegerAttr(value, i64)


def mapping_of(group: Group) -> AnyMapping | None:
    """The mapping that a group's IR states, or None."""
    attribute = group.op.attributes.get("npu.mapping") or overrides.pins(group.op).get("mapping")
    if not isinstance(attribute, DictionaryAttr) or group.kind not in ("array", "vector"):
        return None
    values = {name: _value(a) for name, a in attribute.data.items()}
    if group.kind == "array":
        return ContractionMapping(**values)
    anchor = "" if group.anchor is None else group.anchor.name
    if anchor == SCATTER:
        return ScatterMapping(**values)
    return PoolingMapping(**values) if anchor in POOLS else ElementwiseMapping(**values)


def _value(attribute: Attribute) -> Any:
    if isinstance(attribute, StringAttr):
        return attribute.data
    return cast(IntegerAttr[Any], attribute).value.data


def stays(op: Operation) -> bool:
    """Whether a group's results stay in the scratchpad."""
    return op.attributes.get("npu.memory") == StringAttr("spm")


OBJECTIVES = ("latency", "energy", *FRUGAL)
"""What a plan is chosen by."""
OBJECTIVE = "npu.objective"
"""Where a module says by which, unless the pass is told."""


@dataclass(frozen=True)
class GraphMapPass(ModulePass):
    """Map groups for `objective`: latency; energy, as the target's tables estimate it; memory (the
    least, in at most twice the cycles); or balanced (the least bytes times squared cycles).
    """

    name = "graph-map"

    objective: str = "latency"

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        objective = objective_of(op, self.objective)
        target = module_target(op)
        limited = SCRATCHPAD in op.attributes
        found: dict[str, int] = {}
        taken = 0
        for function in list(op.body.block.ops):
            if not isinstance(function, FuncOp) or function.is_declaration:
                continue
            if not _has_cascades(function):
                hoist_views(function.body.block)
                planner, plan = _plan(target, function, objective, limited)
                _annotate(plan)
                taken = max(taken, planner.capacity) if objective in FRUGAL else 0
                found[function.sym_name.data] = round(planner.estimate(plan))
        estimates.record(op, found)
        if taken:
            op.attributes[SCRATCHPAD] = IntegerAttr(taken, i64)


def objective_of(module: ModuleOp, found: str = "latency") -> str:
    """What plans are chosen by: the option, else what the module says (`npu.objective`)."""
    said = module.attributes.get(OBJECTIVE)
    if found == "latency" and isinstance(said, StringAttr):
        found = said.data
    if found not in OBJECTIVES:
        rule = f"objective must be {', '.join(OBJECTIVES[:-1])} or {OBJECTIVES[-1]}"
        raise error(Code.OPTION, rule, found=found, source="graph-map")
    return found


def explanations(module: ModuleOp) -> dict[str, list[Explained]]:
    """Why every group of a grouped module is mapped as it is, by function."""
    target, objective = module_target(module), objective_of(module)
    limited = SCRATCHPAD in module.attributes
    return {
        function.sym_name.data: explained(*_plan(target, function, objective, limited))
        for function in module.body.block.ops
        if isinstance(function, FuncOp) and not function.is_declaration
    }


def _has_cascades(function: FuncOp) -> bool:
    """Whether the cascades of a function are decided: then so is all that lies around them."""
    return any("npu.cascade" in op.attributes for op in function.body.block.ops)


def _plan(
    target: Target, function: FuncOp, objective: str = "latency", limited: bool = False
) -> tuple[Planner, Plan]:
    """The plan of a function; what no tile of fits the scratchpad goes to the host before.
    `limited` says that the module may not use all of the machine's.
    """
    choose = _CHOICES.get(objective, within if limited else Planner.run)
    while True:
        try:
            with settled():
                pins = _pins(function, target)
                planner = Planner(target, function.body.block, pins, None, objective)
                return planner, choose(planner)
        except TooLargeError as problem:
            _to_host(problem.group, target)


_CHOICES: dict[str, Callable[[Planner], Plan]] = {"memory": least, "balanced": balance}
"""How a plan is found where it is not just the best in all of the scratchpad."""


def _to_host(group: Group, target: Target) -> None:
    size = target.memories["spm"].size
    reason = f"The smallest tile of an operation must fit the scratchpad; found {size:,} bytes"
    placement = PlacementAttr.of("host", "tile-fits", reason)
    group.op.properties["kind"] = StringAttr("host")
    for op in (group.op, *group.body):
        op.attributes[PLACEMENT] = placement


def _pins(function: FuncOp, target: Target) -> dict[Operation, AnyMapping]:
    """The mappings that the groups of a function have. Raises CompileError (NPU0305) for weights
    that the array shall read from dram where it cannot.
    """
    groups = (Group(op) for op in function.body.block.ops if op.name == "graph.group")
    found = {group.op: mapping_of(group) for group in groups}
    for op, mapping in found.items():
        is_streamed = isinstance(mapping, ContractionMapping) and mapping.weights == "stream"
        if is_streamed and not target.array_reads_dram:
            raise error(
                Code.NOT_LOWERABLE,
                "weights that are streamed need an array that reads dram (a port mxu in "
                "[memories.dram])",
                found=target.name,
                source=op,
                remedy='weights = "tile" in its mapping',
            )
    return {op: mapping for op, mapping in found.items() if mapping is not None}


def _annotate(plan: Plan) -> None:
    for step in plan.steps:
        attributes = step.group.op.attributes
        resident = any(storage(v) in plan.resident for v in step.group.op.results)
        attributes["npu.memory"] = StringAttr("spm" if resident else "dram")
        if step.mapping is not None:
            attributes["npu.mapping"] = mapping_attribute(step.mapping)
            attributes["npu.estimate"] = IntegerAttr(round(step.cycles), i64)
        if step.member is not None:
            _annotate_member(attributes, step, step.member)


def _annotate_member(attributes: dict[str, Attribute], step: Step, member: Member) -> None:
    """What a group in a cascade says."""
    settings = {"number": step.number, "rows": step.rows}
    attributes["npu.cascade"] = DictionaryAttr(
        {name: IntegerAttr(value, i64) for name, value in settings.items()}
    )
    if member.held is not None:
        attributes["npu.memory"] = StringAttr("rows")
        attributes["npu.held"] = IntegerAttr(member.held, i64)
    if member.holds_weights:
        attributes["npu.weights"] = StringAttr("held")
    for name, value in (("rows", member.most), ("input_held", member.input_held)):
        if value is not None:
            attributes[f"npu.{name}"] = IntegerAttr(value, i64)
    for name in ("rows", "held", "input_held"):
        pin = overrides.pins(step.group.op).get(name)
        if pin is not None and (name != "held" or member.held is not None):
            attributes[f"npu.{name}"] = pin
