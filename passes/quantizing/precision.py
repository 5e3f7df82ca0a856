"""Which scheme holds for which operation of a function, where it is not one for all.

A unit is what becomes one operation of integers: the operations between stored tensors, such as a
convolution and its activation. Its precision is that of its weights and of the tensor that it
makes: a row of passes/quantizing/schemes.py, `float16`, `bfloat16` or `float32`. The user says it
for any operation of the unit (`precision` in the overrides file), graph-assign-precision by an
attribute, else it is the default. What a unit reads is as its maker stores it; what integers read
of floats is stored between them.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass

from xdsl.dialects.builtin import DictionaryAttr, StringAttr
from xdsl.ir import Operation, SSAValue

from npu_dialect import dtypes, graph, overrides, provenance
from npu_dialect.diagnostics import Code, error
from npu_dialect.dtypes import DType
from npu_dialect.passes.quantizing.schemes import SCHEMES, Scheme
from npu_dialect.target import Target

PRECISION = "npu.precision"
"""The attribute of an operation: the name of a scheme, or of floats."""
RECURRENT = "npu.recurrent"
"""The attribute of a function: the same for the nodes that are recurrent layers."""
FLOAT = "float32"
HALVES = {"float16": dtypes.f16, "bfloat16": dtypes.bf16}
"""Precisions of floats of 16 bits: what is stored has them, what the array multiplies too."""
FLOATS = ("float", FLOAT, *HALVES)
Precision = Scheme | DType | None
"""A scheme, a type of halves, or None for f32."""


@dataclass(frozen=True, eq=False)
class Unit:
    """Operations that become one, and the tensor that is stored."""

    value: SSAValue
    ops: tuple[Operation, ...]

    @property
    def name(self) -> str:
        """The source of its contraction, or of its last operation."""
        linear = [op for op in self.ops if isinstance(op, graph.Conv2DOp | graph.MatmulOp)]
        op = (linear or self.ops[-1:])[0]
        return (op.name, *provenance.sources(op))[-1]

    @property
    def nodes(self) -> frozenset[str]:
        """The nodes of the model that it computes."""
        return frozenset(name for op in self.ops for name in provenance.sources(op))

    @property
    def said(self) -> str | None:
        """The precision that the user or a pass gave it, or that its recurrent layer has."""
        own = next((found for op in self.ops if (found := said(op)) is not None), None)
        return own or self._of_layer()

    def _of_layer(self) -> str | None:
        function = self.ops[0].parent_op()
        return None if function is None else precision_of_layers(function).get(self.name)


def precision_of_layers(function: Operation) -> dict[str, str]:
    """The precisions of the nodes of a function that are recurrent layers."""
    rows = function.attributes.get(RECURRENT)
    found = rows.data if isinstance(rows, DictionaryAttr) else {}
    return {name: p.data for name, p in found.items() if isinstance(p, StringAttr)}


def said(op: Operation) -> str | None:
    """The precision that the overrides or an attribute give one operation."""
    found = overrides.pins(op).get("precision") or op.attributes.get(PRECISION)
    return found.data if isinstance(found, StringAttr) else None


def units(chosen: Iterable[SSAValue]) -> list[Unit]:
    """The units of a function, by the tensors that are stored; arguments are in none."""
    stored = dict.fromkeys(chosen)
    taken: set[Operation] = set()
    found: list[Unit] = []
    for value in stored:
        if isinstance(value.owner, Operation):
            ops = _inside(value.owner, stored, taken)
            taken.update(ops)
            found.append(Unit(value, tuple(ops)))
    return found


def _inside(
    last: Operation, stored: Collection[SSAValue], taken: set[Operation]
) -> list[Operation]:
    """What comes to one result without anything stored in between, in program order."""
    found: set[Operation] = {last}
    todo: list[Operation] = [last]
    while todo:
        for value in todo.pop().operands:
            op = value.owner
            if not isinstance(op, Operation) or isinstance(op, graph.ConstantOp):
                continue
            if value not in stored and op not in taken and op not in found:
                found.add(op)
                todo.append(op)
    if len(found) == 1:
        return [last]
    block = last.parent
    assert block is not None
    return [op for op in block.ops if op in found]


def scheme_named(name: str, source: str) -> Precision:
    """What a precision is. Raises CompileError where there is none of the name."""
    if name in FLOATS:
        return HALVES.get(name)
    if name not in SCHEMES:
        raise error(
            Code.OPTION,
            f"precision must be one of {', '.join((*FLOATS, *SCHEMES))}",
            found=name,
            source=source,
        )
    return SCHEMES[name]


def lacking(precision: Precision, target: Target, *, multiplies: bool = True) -> str:
    """What a target lacks for a precision, of layers that multiply or that do not; empty where it
    has all. Floats of 32 bits can always be: the host has them.
    """
    if precision is None:
        return ""
    is_half = isinstance(precision, DType)
    stored = precision.name if is_half else precision.activations.name
    weights = stored if is_half else precision.weights.name
    if multiplies and stored not in target.array.macs:
        return f"products of {stored} in the array"
    if multiplies and target.array.weight_types and weights not in target.array.weight_types:
        return f"weights of {weights} in the array"
    if stored not in target.vector.storage:
        return f"{stored} in the vector unit"
    return ""


def check(unit: Unit, name: str, target: Target) -> None:
    """Raises CompileError where a target lacks the units for the precision of a layer."""
    multiplies = any(isinstance(op, graph.Conv2DOp | graph.MatmulOp) for op in unit.ops)
    found = lacking(scheme_named(name, unit.name), target, multiplies=multiplies)
    if found:
        able = able_on(target, multiplies=multiplies)
        raise error(
            Code.TARGET_LACKS,
            f"the target must have what the precision {name} needs",
            found=f"{target.name} without {found}",
            remedy=f"{', '.join(able)}, or {FLOAT}, on the host where nothing else can",
            source=unit.name,
        )


def able_on(target: Target, *, multiplies: bool = True) -> list[str]:
    """The precisions, f32 apart, that a target has the units for."""
    every = {**SCHEMES, **HALVES}
    return [n for n, p in every.items() if not lacking(p, target, multiplies=multiplies)]
