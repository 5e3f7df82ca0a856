"""Rewriting with rules by class of operation, until nothing changes.

A rule is a function of an operation and a rewriter that either changes something through the
rewriter (best with `replace`, which keeps sources) or leaves everything as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from xdsl.dialects.builtin import LocationAttr, ModuleOp, UnknownLoc
from xdsl.ir import Attribute, Block, Operation, Region, SSAValue
from xdsl.pattern_rewriter import PatternRewriter, PatternRewriteWalker, RewritePattern

from npu_dialect import graph, provenance
from npu_dialect.graph.base import (
    InferredOp,
    dtype_of,
    quant_of,
    shape_of,
    tensor_type,
    type_of,
)

Array = npt.NDArray[Any]
Rule = Callable[[Any, PatternRewriter], None]
Rules = Mapping[type[Operation], Sequence[Rule]]


@dataclass
class _Dispatch(RewritePattern):
    """Tries the rules of an operation's class in order; erases what nobody uses."""

    rules: Rules

    def match_and_rewrite(self, op: Operation, rewriter: PatternRewriter) -> None:
        if is_dead(op):
            rewriter.erase(op)
            return
        for rule in self.rules.get(type(op), ()):
            rule(op, rewriter)
            if rewriter.has_done_action:
                return


class _Walker(PatternRewriteWalker):
    """Begins with the operations that there is something to do with, not with all."""

    def _populate_worklist(self, op: Operation | Region | Block) -> None:
        assert isinstance(self.pattern, _Dispatch)
        rules, push = self.pattern.rules, self._worklist.push
        for inner in op.walk(reverse=True, region_first=True):
            if type(inner) in rules or is_dead(inner):
                push(inner)


def rewrite(module: ModuleOp, rules: Rules) -> bool:
    """Apply the rules everywhere until none changes anything; whether one did."""
    return _Walker(_Dispatch(rules)).rewrite_module(module)


def by_class(
    *tables: Mapping[type[Operation], Sequence[Rule]],
) -> dict[type[Operation], list[Rule]]:
    """One table of several: the rules of earlier tables come first."""
    joined: dict[type[Operation], list[Rule]] = {}
    for table in tables:
        for cls, rules in table.items():
            joined.setdefault(cls, []).extend(rules)
    return joined


def is_dead(op: Operation) -> bool:
    """Whether an operation of graph computes what nobody uses."""
    for result in op.results:
        if result.first_use is not None:
            return False
    return isinstance(op, graph.GraphOp)


def erase_dead(block: Block) -> None:
    """Erase the operations of graph whose results nobody uses."""
    for op in reversed(list(block.ops)):
        if is_dead(op):
            op.detach()
            op.erase()


def replace(
    rewriter: PatternRewriter, op: Operation, *new_ops: Operation, value: SSAValue | None = None
) -> None:
    """Replace `op` by `value` or the last result of `new_ops`, which take over its sources."""
    provenance.replace(rewriter, op, new_ops, None if value is None else [value])


def discard(*ops: Operation) -> None:
    """Erase operations that were made on trial, users before producers, so that they count no more
    as users of their operands.
    """
    for op in reversed(ops):
        op.erase()


def constant(value: SSAValue) -> Array | None:
    """The storage values of a value that is a constant."""
    owner = value.owner
    return owner.array if isinstance(owner, graph.ConstantOp) else None


def constant_like(
    value: SSAValue, array: Array, element: Attribute | None = None
) -> graph.ConstantOp:
    """A constant that stands for (a part of) `value`, with its source and its element type."""
    element = type_of(value).element_type if element is None else element
    found = tensor_type(array.shape, element)
    return graph.ConstantOp(array, found, location=location_of(value))


def float_constant(array: npt.ArrayLike, *sources: Operation) -> graph.ConstantOp:
    """An f32 constant made for some operations."""
    return graph.ConstantOp(np.asarray(array, np.float32), location=provenance.fuse(*sources))


def splat(value: SSAValue) -> float | None:
    """The number that all elements of a constant are, or None."""
    array = constant(value)
    if array is None or not array.size or quant_of(value) is not None:
        return None
    first = array.reshape(-1)[0]
    return float(first) if bool((array == first).all()) else None


def location_of(value: SSAValue) -> LocationAttr:
    """The location of the operation whose result `value` is; unknown for an argument."""
    return value.owner.location if isinstance(value.owner, Operation) else UnknownLoc()


def inverse(permutation: Sequence[int]) -> tuple[int, ...]:
    """The permutation that undoes `permutation`."""
    return tuple(sorted(range(len(permutation)), key=lambda i: permutation[i]))


def is_view_transpose(shape: Sequence[int], permutation: Sequence[int]) -> bool:
    """Whether a transposition keeps the order of the elements: only dimensions of 1 move."""
    moved = [p for p in permutation if shape[p] != 1]
    return moved == sorted(moved)


def rebuild(op: Operation, operands: Sequence[SSAValue | Operation]) -> Operation | None:
    """`op` with other operands and the type that follows from them; None where they do not fit."""
    values = [SSAValue.get(v) for v in operands]
    try:
        if isinstance(op, graph.ReshapeOp | graph.BroadcastToOp):
            return type(op)(values[0], shape_of(op.result), location=op.location)
        if isinstance(op, graph.CastOp):
            return graph.CastOp(values[0], dtype_of(op.result), location=op.location)
        if isinstance(op, graph.RescaleOp):
            element, rounding = op.type.element_type, op.rounding.data
            shift = op.shift.value.data
            return graph.RescaleOp(*values, shift, element, rounding, location=op.location)
        assert isinstance(op, InferredOp), op.name
        result = type(op).infer([type_of(v) for v in values], op.properties)
    except ValueError:
        return None
    return type(op).create(
        operands=values,
        result_types=[result],
        properties=dict(op.properties),
        location=op.location,
    )
