"""How low a tensor must reach that is read by nothing but softmax: masks need not be -1e9.

    add(scores, mask) -> softmax              where(mask, scores, -inf) -> softmax

An element of a row of N that is `x` below the row's greatest has a probability of at most exp(-x).
All of a row together add less than half a step of a result of `levels` steps, 1 / (2 levels), where

    N exp(-x) <= 1 / (2 levels)               x >= ln(2 N levels)

That is 10.4 for 64 elements and 256 levels, 15.9 for 65,536. So a tensor that a softmax reads needs
no values below the least of the rows' greatest, less this distance. What is below saturates there.
The same follows for what is added up or chosen before it: with a sum that saturates at `low`, a
term beside one of at most `high` needs no values below `low - high`. Constants of masks become that
number. Greatest numbers are those of the samples, as all ranges are.

A range is `SLACK` steps wider than that. Ends of a range are off by half a step, as zero is a
stored value: of the term (1/2), and of the other one (1/2); the sum is rounded (1/2), and the
greatest of the row twice (1): 2 1/2 steps at most, so that a masked element stays below.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from xdsl.dialects.func import FuncOp
from xdsl.ir import Operation, SSAValue

from npu_dialect import graph
from npu_dialect.graph.base import dtype_of, shape_of
from npu_dialect.passes.quantizing.ranges import Range
from npu_dialect.passes.quantizing.statistics import Array, Calibration
from npu_dialect.passes.rewriting import constant, constant_like, splat

GREATEST = "/greatest"
"""What stands behind a tensor's name for the statistics of the greatest of its rows."""
SLACK = 3
"""Steps by which ranges are wider than what must be told apart."""
ABSENT = 1000.0
"""A row that lies so far below the others of a tensor is wholly masked, and decides no range."""
VIEWS = (graph.ReshapeOp, graph.TransposeOp, graph.SliceOp, graph.BroadcastToOp)
CHOICES = (graph.WhereOp, graph.MaxOp)
"""Results that are one of the operands."""
FACTORS = (graph.MulOp, graph.DivOp)
LEAST_FLOAT = float(np.finfo(np.float32).min)

High = Callable[[SSAValue], float]
Limit = Callable[[graph.SoftmaxOp], float]


def distance(elements: int, levels: int) -> float:
    """How far below the greatest of a row of so many elements all others are nothing to a softmax
    whose result has `levels` steps.
    """
    return math.log(2.0 * elements * levels)


def masked(function: FuncOp) -> list[graph.SoftmaxOp]:
    """The softmaxes of a sum or a choice, which may be a mask's."""
    found = [op for op in function.body.block.ops if isinstance(op, graph.SoftmaxOp)]
    return [op for op in found if _is_masked(op)]


def _is_masked(op: graph.SoftmaxOp) -> bool:
    if dtype_of(op.x) is not dtype_of(op.result):
        return False
    value = op.x
    while isinstance(value.owner, Operation) and isinstance(value.owner, (*VIEWS, *FACTORS)):
        value = value.owner.operands[0]
    return isinstance(value.owner, (graph.AddOp, *CHOICES))


def least(value: SSAValue, limit: Limit, high: High) -> float:
    """The number below which the readers of a tensor tell nothing apart; -infinity where there is
    none. `limit` is that of a softmax, `high` the greatest number of a tensor.
    """
    found = [_least_of(use.operation, use.index, limit, high) for use in value.uses]
    return min(found, default=-math.inf)


def _least_of(op: Operation, operand: int, limit: Limit, high: High) -> float:
    if isinstance(op, graph.SoftmaxOp):
        return limit(op) if _is_masked(op) else -math.inf
    if isinstance(op, VIEWS) and operand == 0:
        return least(op.results[0], limit, high)
    if isinstance(op, graph.WhereOp | graph.MaxOp) and not _is_condition(op, operand):
        return least(op.results[0], limit, high)
    if isinstance(op, graph.AddOp):
        return least(op.result, limit, high) - high(op.operands[1 - operand])
    if isinstance(op, FACTORS):
        factor = _factor(op, operand)
        return least(op.results[0], limit, high) / factor if factor > 0 else -math.inf
    return -math.inf


def _is_condition(op: Operation, operand: int) -> bool:
    return isinstance(op, graph.WhereOp) and operand == 0


def _factor(op: Operation, operand: int) -> float:
    """The number that an operand is multiplied by; 0 where it is none, or none that is known."""
    number = splat(op.operands[1 - operand])
    if number is None or (isinstance(op, graph.DivOp) and operand == 1):
        return 0.0
    factor = float(number)
    if isinstance(op, graph.DivOp):
        return 1 / factor if factor else 0.0
    return factor


def reaches_softmax(value: SSAValue) -> bool:
    """Whether a tensor is read by nothing but softmaxes of sums and choices."""
    return least(value, lambda _: 0.0, lambda _: 0.0) > -math.inf


# --- what samples tell ----------------------------------------------------------------------------


def finite(array: Array) -> Array:
    """The values with the least float for -infinity."""
    return np.where(np.isneginf(array), np.float32(LEAST_FLOAT), array)


def greatest(array: Array, axis: int) -> Array:
    """The greatest of each row that is not wholly masked."""
    rows = array.max(axis=axis).ravel()
    return rows[rows >= rows.max() - ABSENT] if np.isfinite(rows.max(initial=-np.inf)) else rows[:0]


@dataclass(frozen=True)
class Limits:
    """The ranges of the tensors that masks decide, by the statistics of a function."""

    names: Mapping[SSAValue, str]
    found: Calibration
    levels: int

    def range_of(self, value: SSAValue) -> Range | None:
        """The range of a tensor that is limited below; None where it needs none."""
        own = self.found[self.names[value]]
        low = least(value, self._of_softmax, self._high)
        if own.low >= low:
            return None
        return widened(low, max(own.high, low), self.levels)

    def _of_softmax(self, op: graph.SoftmaxOp) -> float:
        rows = self.found.get(self.names.get(op.x, "") + GREATEST)
        if rows is None or not rows.known:
            return -math.inf
        return rows.low - distance(shape_of(op.x)[op.axis.value.data], self.levels)

    def _high(self, value: SSAValue) -> float:
        array = constant(value)
        if array is not None:
            return float(array.max(initial=0.0))
        return max(self.found[self.names[value]].high, 0.0) if value in self.names else math.inf


def widened(low: float, high: float, levels: int) -> Range:
    """The range with the slack below; zero is in it."""
    whole = Range.around(low, high)
    return Range(whole.low - SLACK * (whole.high - whole.low) / levels, whole.high)


# --- constants ------------------------------------------------------------------------------------


def limit_constants(function: FuncOp, ranges: Mapping[SSAValue, Range], levels: int) -> None:
    """Constants that are added, or chosen, before a softmax become numbers that its sum, or choice,
    still saturates with: -1e9 and -infinity become as little as needed.
    """
    for op in function.body.block.ops:
        if isinstance(op, (graph.AddOp, *CHOICES)) and op.results[0] in ranges:
            for k, value in enumerate(op.operands):
                array = constant(value)
                if array is None or array.dtype != np.float32 or not reaches_softmax(op.results[0]):
                    continue
                low = _least_constant(op, k, ranges, levels)
                if array.min(initial=0.0) < low:
                    made = constant_like(value, np.maximum(array, np.float32(low)))
                    function.body.block.insert_op_before(made, op)
                    op.operands[k] = made.result


def _least_constant(
    op: Operation, operand: int, ranges: Mapping[SSAValue, Range], levels: int
) -> float:
    own = ranges[op.results[0]]
    if not isinstance(op, graph.AddOp):
        return own.low
    other = ranges.get(op.operands[1 - operand])
    return -math.inf if other is None else widened(own.low - other.high, 0.0, levels).low
