"""Which scheme holds for which operation of a function, where it is not one for all.

A unit is what becomes one operation of integers: the operations between stored tensors, such as a
convolution and its activation. Its precision is that of its weights and of the tensor that it
makes: a row of passes/quantizing/schemes.py, or `float`. The user says it for any operation of the
unit (`precision` in the overrides file), graph-assign-precision by an attribute, else it is the
default. What a unit reads is as its maker stores it; what integers read of floats is stored between
them.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass

from xdsl.dialects.builtin import DictionaryAttr, StringAttr
from xdsl.ir import Operation, SSAValue

from npu_dialect import graph, overrides, provenance
from npu_dialect.diagnostics import Code, error
from npu_dialect.passes.quantizing.schemes import SCHEMES, Scheme

PRECISION = "npu.precision"
"""The attribute of an operation: the name of a scheme, or `float`."""
RECURRENT = "npu.recurrent"
"""The attribute of a function: the same for the nodes that are recurrent layers."""
FLOAT = "float"


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


def scheme_named(name: str, source: str) -> Scheme | None:
    """The scheme of a precision; None for floats. Raises CompileError where there is none."""
    if name == FLOAT:
        return None
    if name not in SCHEMES:
        raise error(
            Code.OPTION,
            f"precision must be {FLOAT} or one of {', '.join(SCHEMES)}",
            found=name,
            source=source,
        )
    return SCHEMES[name]
