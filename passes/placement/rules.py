"""The conditions under which the engines do an operation.

A rule is a function of an operation and a target that returns None where it holds and otherwise
what was found. Its name is the rule's name, its docstring is what the user reads.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache

from xdsl.ir import Operation

from npu_dialect import dtypes, graph
from npu_dialect.graph.attributes import values
from npu_dialect.graph.base import dtype_of, quant_of, shape_of
from npu_dialect.graph.recurrent import RecurrentOp
from npu_dialect.graph.reduction import ReduceOp
from npu_dialect.kernel import widened
from npu_dialect.npu.arrays import Conv2DOp
from npu_dialect.npu.base import Instruction, field_table
from npu_dialect.npu.fields import Ints
from npu_dialect.npu.vectors import Pool2DOp
from npu_dialect.passes import kernels
from npu_dialect.passes.placement.sums import greatest_sum
from npu_dialect.target import Target

Rule = Callable[[Operation, Target], str | None]

VECTOR_RANK = 5
"""Dimensions that an operand of an instruction can have."""

VECTOR_TENSORS = 3
"""Tensors that a vector instruction can read."""


MAX_STEPS = 300
"""Time steps of a recurrence that become a program: those of a LSTM take some 20 s to compile."""


@dataclass(frozen=True)
class Unit:
    """What does a class of operations: the engine, the rules that must hold, and why there."""

    engine: str
    name: str
    reason: str
    rules: tuple[Rule, ...] = ()


@cache
def rule_name(rule: Rule) -> str:
    """`array_types` is called array-types."""
    return rule.__name__.replace("_", "-")


@cache
def rule_text(rule: Rule) -> str:
    """The rule in words: its docstring, without the full stop."""
    return " ".join((rule.__doc__ or "").split()).removesuffix(".")


# Every engine


def elements_exist(op: Operation, target: Target) -> str | None:
    """A tensor on the accelerator must have at least one element."""
    shapes = [shape_of(v) for v in (*op.operands, *op.results)]
    return next((str(list(s)) for s in shapes if 0 in s), None)


# The array


def array_types(op: Operation, target: Target) -> str | None:
    """The array must multiply activations and weights of these types."""
    x, w = (dtype_of(v).name for v in op.operands[:2])
    return None if target.array_can(x, w) else f"{x} by {w}"


GREATEST_I40 = 2**39
"""Sums below it in magnitude fit accumulators of 40 bits."""


def sum_types(op: Operation, target: Target) -> str | None:
    """The array's accumulators must hold the sums."""
    total = dtype_of(op.results[0]).name
    if not target.sums_in(total):
        return f"{total}, and {target.name} has {', '.join(target.acc_types)}"
    if total == "i64" and total not in target.acc_types:
        greatest = greatest_sum(op)
        if greatest >= GREATEST_I40:
            return f"sums of up to {greatest} in 40 bits"
    return None


def fits_output_stage(plan: kernels.KernelPlan, target: Target) -> bool:
    """Whether the array's output stage can do a kernel: sums, a residual, and its steps."""
    names = [step.op for step in plan.kernel.steps if not kernels.is_immediate(step.op)]
    return (
        len(plan.tensors) <= 1 + target.array.residual
        and len(names) <= target.array.output_micro_ops
        and all(map(target.output_stage_can, names))
    )


def one_weight_zero(op: Operation, target: Target) -> str | None:
    """All weights must have the same zero point."""
    quant = quant_of(op.operands[1])
    if quant is None or isinstance(quant.zero(), int):
        return None
    return "zero points that differ by channel"


def constant_bias(op: Operation, target: Target) -> str | None:
    """The bias of the array's output stage must be a constant."""
    bias = op.operands[2] if len(op.operands) > 2 else None
    return (
        None
        if bias is None or kernels.constant_of(bias) is not None
        else "one computed at run time"
    )


# Instructions


def window_fields(op: Operation, target: Target) -> str | None:
    """The strides, dilations, window and padding must fit the fields of an instruction."""
    instruction = INSTRUCTIONS[type(op)]
    for name, found in _window(op).items():
        row = field_table(instruction).get(name)
        if row is not None and isinstance(row.field, Ints) and max(found) >> row.field.width:
            return f"{name} of {list(found)}, and a field has {row.field.width} bits"
    return None


def _window(op: Operation) -> dict[str, Sequence[int]]:
    """The settings of a convolution or pooling, as instructions call them."""
    window: dict[str, Sequence[int]] = {
        n: values(op.properties[n]) for n in ("strides", "dilations", "pads")
    }
    if "kernel" in op.properties:
        window["size"] = values(op.properties["kernel"])
    return window


# The vector unit


def vector_types(op: Operation, target: Target) -> str | None:
    """The vector unit must load and store the types of the operands and of the result."""
    for value in (*op.operands, *op.results):
        if dtype_of(value).name not in target.vector.storage:
            return f"{dtype_of(value)}, and {target.name} has {', '.join(target.vector.storage)}"
    return None


def vector_lanes(op: Operation, target: Target) -> str | None:
    """The vector unit must have lanes for the values that it computes with."""
    for value in (*op.operands, *op.results):
        kind = widened(dtype_of(value))
        if kind not in target.vector.lanes:
            return f"{kind}, and {target.name} has {', '.join(target.vector.lanes)}"
    return None


def vector_micro_ops(op: Operation, target: Target) -> str | None:
    """The vector unit must have the micro-operations that compute it."""
    try:
        needed = kernels.micro_ops(op)
    except kernels.KernelError as reason:
        return str(reason)
    return _missing(needed, target)


def vector_operands(op: Operation, target: Target) -> str | None:
    """A vector instruction must read one to three tensors."""
    tensors = kernels.build_kernel([op], op.results[0]).tensors
    return None if 1 <= len(tensors) <= VECTOR_TENSORS else str(len(tensors))


def vector_rank(op: Operation, target: Target) -> str | None:
    """An operand of a vector instruction must have at most five dimensions other than 1."""
    ranks = [sum(d != 1 for d in shape_of(v)) for v in (*op.operands, *op.results)]
    return None if max(ranks) <= VECTOR_RANK else str(max(ranks))


POOLING: Mapping[type[Operation], tuple[str, ...]] = {
    graph.MaxPool2DOp: ("max",),
    graph.SumPool2DOp: ("add",),
    graph.AvgPool2DOp: ("add", "div"),
}

INSTRUCTIONS: Mapping[type[Operation], type[Instruction]] = {
    graph.Conv2DOp: Conv2DOp,
    **dict.fromkeys(POOLING, Pool2DOp),
}

REDUCTIONS = {"sum": "add", "max": "max", "min": "min", "prod": "mul"}


def pooling_micro_ops(op: Operation, target: Target) -> str | None:
    """The vector unit must have the micro-operations that the pooling needs."""
    kind = widened(dtype_of(op.operands[0]))
    return _missing([f"{name}.{kind}" for name in POOLING[type(op)]], target)


def reduction_kind(op: Operation, target: Target) -> str | None:
    """The vector unit must reduce in this way: by sum, max, min or prod."""
    assert isinstance(op, ReduceOp)
    kind = op.kind()
    if kind not in REDUCTIONS:
        return kind
    return _missing([f"{REDUCTIONS[kind]}.{widened(dtype_of(op.x))}"], target)


def _missing(needed: Sequence[str], target: Target) -> str | None:
    missing = [name for name in needed if not target.vector_can(name)]
    return f"{', '.join(missing)}, which {target.name} lacks" if missing else None


# The copy engine


def copy_rank(op: Operation, target: Target) -> str | None:
    """A copy must have no more dimensions other than 1 than the copy engine counts."""
    ranks = [sum(d != 1 for d in shape_of(v)) for v in (*op.operands, *op.results)]
    return None if max(ranks) <= target.dma.max_rank else str(max(ranks))


# Rows by indices


def gather_indices(op: Operation, target: Target) -> str | None:
    """The copy engine must copy rows by indices of this type."""
    return _unknown_index(op, target.dma.index_types, target)


def scatter_indices(op: Operation, target: Target) -> str | None:
    """The vector unit must write rows by indices of this type."""
    return _unknown_index(op, target.vector.index_types, target)


def _unknown_index(op: Operation, known: Sequence[str], target: Target) -> str | None:
    found = dtype_of(op.operands[1]).name
    return (
        None if found in known else f"{found}, and {target.name} has {', '.join(known) or 'none'}"
    )


def scatter_kind(op: Operation, target: Target) -> str | None:
    """The vector unit must have the micro-operation by which rows are accumulated."""
    assert isinstance(op, graph.ScatterOp)
    kind = op.kind.data
    return None if kind == "set" else _missing([f"{kind}.{widened(dtype_of(op.x))}"], target)


# The host


def several_steps(op: Operation, target: Target) -> str | None:
    """The accelerator must be able to do the steps that the operation is made of."""
    return f"{op.name}, whose float steps {target.name} lacks"


def unrolled_steps(op: Operation, target: Target) -> str | None:
    """A recurrence on the accelerator, whose time steps are unrolled, must have at most 300."""
    assert isinstance(op, RecurrentOp)
    steps = op.sizes.steps
    return None if steps <= MAX_STEPS else f"{steps}, so the host does all of it"


def expressible(op: Operation, target: Target) -> str | None:
    """The operation must be one that the compiler can express."""
    assert isinstance(op, graph.OpaqueOp)
    reason = f" ({op.reason.data})" if op.reason else ""
    return f"{op.op_type.data}{reason}"


ARRAY = Unit(
    "mxu",
    "array",
    "the array multiplies these types",
    (elements_exist, array_types, sum_types, one_weight_zero, constant_bias),
)
CONVOLUTION = replace(ARRAY, rules=(*ARRAY.rules, window_fields))
KERNEL = Unit(
    "vpu",
    "vector-kernel",
    "the vector unit has the micro-operations",
    (
        elements_exist,
        vector_types,
        vector_lanes,
        vector_micro_ops,
        vector_operands,
        vector_rank,
    ),
)
POOL = Unit(
    "vpu",
    "vector-pooling",
    "the vector unit pools this type",
    (elements_exist, vector_types, vector_lanes, pooling_micro_ops, window_fields),
)
REDUCE = Unit(
    "vpu",
    "vector-reduction",
    "the vector unit reduces this type",
    (elements_exist, vector_types, vector_lanes, reduction_kind, vector_rank),
)
COPY = Unit("dma", "copy", "the copy engine moves tensors", (elements_exist, copy_rank))
GATHER = Unit(
    "dma",
    "row-gather",
    "the copy engine copies rows by indices",
    (elements_exist, gather_indices),
)
SCATTER = Unit(
    "vpu",
    "row-scatter",
    "the vector unit writes rows by indices",
    (elements_exist, vector_types, vector_lanes, scatter_indices, scatter_kind),
)
VIEW = Unit("dma", "view", "the same memory in another shape, which costs nothing")
STEPS = Unit("host", "several-steps", "", (several_steps,))
RECURRENT = replace(STEPS, rules=(unrolled_steps, several_steps))
OPAQUE = Unit("host", "expressible", "", (expressible,))

UNITS: Mapping[type[Operation], Unit] = {
    graph.Conv2DOp: CONVOLUTION,
    graph.MatmulOp: ARRAY,
    **dict.fromkeys(kernels.EMITTERS, KERNEL),
    **dict.fromkeys(POOLING, POOL),
    graph.ReduceSumOp: REDUCE,
    graph.ReduceMeanOp: REDUCE,
    graph.ReduceMaxOp: REDUCE,
    graph.ReduceMinOp: REDUCE,
    graph.ReduceProdOp: REDUCE,
    graph.TransposeOp: COPY,
    graph.ConcatOp: COPY,
    graph.SliceOp: COPY,
    graph.PadOp: COPY,
    graph.BroadcastToOp: COPY,
    graph.ReshapeOp: VIEW,
    graph.GatherOp: GATHER,
    graph.ScatterOp: SCATTER,
    graph.SoftmaxOp: STEPS,
    graph.LogSoftmaxOp: STEPS,
    graph.BatchNormOp: STEPS,
    graph.LayerNormOp: STEPS,
    graph.LSTMOp: RECURRENT,
    graph.GRUOp: RECURRENT,
    graph.RNNOp: RECURRENT,
    graph.OpaqueOp: OPAQUE,
}
"""What does each operation, where the rules hold."""


def place(op: Operation, target: Target) -> graph.PlacementAttr:
    """Where one operation runs, seen alone."""
    unit = UNITS.get(type(op), STEPS)
    for rule in unit.rules:
        found = rule(op, target)
        if found is not None:
            reason = f"{rule_text(rule)}; found {found}"
            return graph.PlacementAttr.of("host", rule_name(rule), reason)
    return graph.PlacementAttr.of(unit.engine, unit.name, unit.reason)


def has_float_lanes(target: Target) -> bool:
    """Whether the vector unit computes with floats at all."""
    return dtypes.f32.name in target.vector.lanes
