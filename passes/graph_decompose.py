"""graph-decompose: operations of several steps become these steps, where the target can do them.

    %1 = graph.softmax %x {axis = 1} : (tensor<4x10xf32>) -> tensor<4x10xf32>

becomes, on a target with a float vector unit,

    %m = graph.reduce_max %x {axes = [1]} : (tensor<4x10xf32>) -> tensor<4x1xf32>
    %d = graph.sub %x, %m
    %e = graph.exp %d
    %s = graph.reduce_sum %e {axes = [1]} : (tensor<4x10xf32>) -> tensor<4x1xf32>
    %1 = graph.div %e, %s

Means become a sum divided by the count. The steps are those that the operations' docstrings state,
so that the result has the same bits; batch_norm alone divides and subtracts its constants first.
A recurrent layer becomes its time steps, up to a number (`MAX_STEPS` of placement/rules.py).
A bias that is computed at run time is added after the array's operation, and what has more
dimensions than the machine counts is done in fewer (`ranks.py`), on every target.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from xdsl.context import Context
from xdsl.dialects.builtin import ModuleOp
from xdsl.ir import Operation, SSAValue
from xdsl.passes import ModulePass
from xdsl.pattern_rewriter import PatternRewriter

from npu_dialect import graph, provenance
from npu_dialect.graph import recurrent
from npu_dialect.graph.attributes import values
from npu_dialect.graph.base import shape_of
from npu_dialect.graph.recurrent import RecurrentOp
from npu_dialect.passes import ranks
from npu_dialect.passes.placement.rules import has_float_lanes, place, unrolled_steps
from npu_dialect.passes.rewriting import (
    Rule,
    Rules,
    by_class,
    constant,
    discard,
    float_constant,
    replace,
    rewrite,
)
from npu_dialect.passes.targets import module_target
from npu_dialect.passes.unrolling import unrolled
from npu_dialect.target import Target

Steps = Callable[[Any], list[Operation]]


@dataclass(frozen=True)
class GraphDecomposePass(ModulePass):
    """Replace composite operations by their steps."""

    name = "graph-decompose"

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        target = module_target(op)
        rules = {cls: [_rule(steps, target)] for cls, steps in STEPS.items()}
        rules |= {cls: [partial(unroll, target=target)] for cls in recurrent.OPS}
        low = ranks.rules(target)
        rewrite(op, by_class(BIAS, low, rules) if has_float_lanes(target) else by_class(BIAS, low))


def _rule(steps: Steps, target: Target) -> Rule:
    return partial(_decompose, steps=steps, target=target)


def _decompose(op: Operation, rewriter: PatternRewriter, steps: Steps, target: Target) -> None:
    """Replace `op` by its steps, if the target can do all of them."""
    made = steps(op)
    if any(_is_left_to_host(step, target) for step in made):
        for step in reversed(made):
            step.erase()
        return
    replace(rewriter, op, *made)


def unroll(op: RecurrentOp, rewriter: PatternRewriter, target: Target) -> None:
    """A recurrent layer becomes its time steps, if they are few and the target does all of them."""
    if unrolled_steps(op, target) is not None:
        return
    made, values = unrolled(op)
    if any(_is_left_to_host(step, target) for step in made):
        discard(*made)
        return
    provenance.replace(rewriter, op, made, values)


def _is_left_to_host(op: Operation, target: Target) -> bool:
    if isinstance(op, graph.ConstantOp) or type(op) in STEPS:
        return False
    return place(op, target).data.engine == "host"


def softmax(op: graph.SoftmaxOp) -> list[Operation]:
    """e / sum(e) with e = exp(x - max(x))."""
    *shifted, difference = _shifted(op)
    e = graph.ExpOp(difference, location=op.location)
    total = graph.ReduceSumOp(e, [op.axis.value.data], location=op.location)
    return [*shifted, difference, e, total, graph.DivOp(e, total, location=op.location)]


def log_softmax(op: graph.LogSoftmaxOp) -> list[Operation]:
    """d - log(sum(exp(d))) with d = x - max(x)."""
    *shifted, d = _shifted(op)
    e = graph.ExpOp(d, location=op.location)
    total = graph.ReduceSumOp(e, [op.axis.value.data], location=op.location)
    logarithm = graph.LogOp(total, location=op.location)
    return [*shifted, d, e, total, logarithm, graph.SubOp(d, logarithm, location=op.location)]


def _shifted(op: graph.SoftmaxOp | graph.LogSoftmaxOp) -> list[Operation]:
    greatest = graph.ReduceMaxOp(op.x, [op.axis.value.data], location=op.location)
    return [greatest, graph.SubOp(op.x, greatest, location=op.location)]


def reduce_mean(op: graph.ReduceMeanOp) -> list[Operation]:
    """sum(x) / count."""
    return _mean(op.x, values(op.axes), op)


def _mean(x: SSAValue | Operation, axes: Sequence[int], op: Operation) -> list[Operation]:
    value = SSAValue.get(x)
    total = graph.ReduceSumOp(value, axes, location=op.location)
    count = float_constant(np.float32(math.prod(shape_of(value)[a] for a in axes)), op)
    return [total, count, graph.DivOp(total, count, location=op.location)]


def layer_norm(op: graph.LayerNormOp) -> list[Operation]:
    """d * rsqrt(mean(d * d) + epsilon) * scale + bias with d = x - mean(x)."""
    at = op.location
    axes = range(op.axis.value.data, len(shape_of(op.x)))
    mean = _mean(op.x, axes, op)
    d = graph.SubOp(op.x, mean[-1], location=at)
    square = graph.MulOp(d, d, location=at)
    variance = _mean(square, axes, op)
    epsilon = float_constant(np.float32(op.epsilon.value.data), op)
    moved = graph.AddOp(variance[-1], epsilon, location=at)
    inverse = graph.RsqrtOp(moved, location=at)
    normal = graph.MulOp(d, inverse, location=at)
    scaled = graph.MulOp(normal, op.scale, location=at)
    head = [*mean, d, square, *variance, epsilon, moved, inverse, normal, scaled]
    return [*head, graph.AddOp(scaled, op.bias, location=at)]


def batch_norm(op: graph.BatchNormOp) -> list[Operation]:
    """(x - mean) * (scale / sqrt(variance + epsilon)) + bias, for parameters of run time."""
    at = op.location
    along = [1] * len(shape_of(op.x))
    along[op.axis.value.data] = shape_of(op.scale)[0]
    parts = (op.scale, op.bias, op.mean, op.variance)
    scale, bias, mean, variance = (graph.ReshapeOp(v, along, location=at) for v in parts)
    epsilon = float_constant(np.float32(op.epsilon.value.data), op)
    moved = graph.AddOp(variance, epsilon, location=at)
    deviation = graph.SqrtOp(moved, location=at)
    centred = graph.SubOp(op.x, mean, location=at)
    factor = graph.DivOp(scale, deviation, location=at)
    scaled = graph.MulOp(centred, factor, location=at)
    head = [scale, bias, mean, variance, epsilon, moved, deviation, centred, factor, scaled]
    return [*head, graph.AddOp(scaled, bias, location=at)]


def split_bias(op: graph.Conv2DOp | graph.MatmulOp, rewriter: PatternRewriter) -> None:
    """A bias that is no constant becomes an addition."""
    if op.bias is None or constant(op.bias) is not None:
        return
    bare = type(op).create(
        operands=op.operands[:2],
        result_types=[op.type],
        properties=dict(op.properties),
        location=op.location,
    )
    replace(rewriter, op, bare, graph.AddOp(bare.results[0], op.bias, location=op.location))


STEPS: Mapping[type[Operation], Steps] = {
    graph.SoftmaxOp: softmax,
    graph.LogSoftmaxOp: log_softmax,
    graph.ReduceMeanOp: reduce_mean,
    graph.LayerNormOp: layer_norm,
    graph.BatchNormOp: batch_norm,
}
"""The steps of each composite operation, the last of which gives its result."""

BIAS: Rules = {graph.Conv2DOp: [split_bias], graph.MatmulOp: [split_bias]}
