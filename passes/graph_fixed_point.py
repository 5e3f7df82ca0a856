"""graph-fixed-point: functions between dequantize and quantize become integer steps.

    %1 = graph.dequantize %0 : (tensor<8x64x!quant.uniform<u8:f32, 0.01>>) -> tensor<8x64xf32>
    %2 = graph.softmax %1 {axis = 1}
    %3 = graph.quantize %2 : (tensor<8x64xf32>) -> tensor<8x64x!quant.uniform<u8:f32, 0.004>>

becomes, on a target whose vector unit has no floats,

    %e = graph.lookup %0, %table : (...) -> tensor<8x64xui16>
    %s = graph.reduce_sum %e {axes = [1]} : (tensor<8x64xui16>) -> tensor<8x1xi32>
    ...                                                a division, two steps of Newton's method
    %w = graph.cast %e : (tensor<8x64xui16>) -> tensor<8x64xi32>
    %3 = graph.rescale %w, %r {shift = 35, rounding = "half_even"}

A result is at most one step of its quantization from that of the exact function; formulas and
bounds are in docs/integer-functions.md. What is farther off stays in floats, on the host, and so
does all of it where the module says `npu.exact`, and what the overrides file pins there.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from xdsl.context import Context
from xdsl.dialects.builtin import ModuleOp, StringAttr
from xdsl.ir import Operation
from xdsl.passes import ModulePass
from xdsl.pattern_rewriter import PatternRewriter

from npu_dialect import dtypes, graph, overrides
from npu_dialect.diagnostics import Code, remark
from npu_dialect.graph.attributes import APPROXIMATE, EXACT
from npu_dialect.graph.base import dtype_of
from npu_dialect.passes.fixed_point.affine import affine
from npu_dialect.passes.fixed_point.chain import chain
from npu_dialect.passes.fixed_point.interpolation import interpolated
from npu_dialect.passes.fixed_point.layer_norm import layer_norm
from npu_dialect.passes.fixed_point.resizing import resized
from npu_dialect.passes.fixed_point.scaled_sums import scaled_sums
from npu_dialect.passes.fixed_point.softmax import softmax
from npu_dialect.passes.fixed_point.squares import mean_of_products
from npu_dialect.passes.fixed_point.steps import Steps
from npu_dialect.passes.fixed_point.wide_layer_norm import wide_layer_norm
from npu_dialect.passes.fixed_point.wide_softmax import wide_softmax
from npu_dialect.passes.placement.rules import has_float_lanes, place
from npu_dialect.passes.rewriting import replace, rewrite
from npu_dialect.passes.targets import module_target
from npu_dialect.target import Target

Function = Callable[[graph.QuantizeOp], Steps | None]

FUNCTIONS: dict[str, Function] = {
    "function of one 16-bit tensor": interpolated,
    "softmax": softmax,
    "softmax of 16 bits": wide_softmax,
    "layer norm": layer_norm,
    "layer norm of 16 bits": wide_layer_norm,
    "mean of products": mean_of_products,
    "scaling of sums": scaled_sums,
    "scaling by channel": affine,
    "resizing": resized,
    "chain of sums and choices": chain,
}
"""What makes the steps of a function, by the name that messages have for it."""


@dataclass(frozen=True)
class GraphFixedPointPass(ModulePass):
    """Integer steps in place of float functions of quantized tensors."""

    name = "graph-fixed-point"

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        target = module_target(op)
        if not has_float_lanes(target) and EXACT not in op.attributes:
            rewrite(op, {graph.QuantizeOp: [partial(approximate, target=target)]})


def approximate(op: graph.QuantizeOp, rewriter: PatternRewriter, target: Target) -> None:
    """Replace a function by its steps, if the target can do all of them."""
    inner = op.x.owner
    if not isinstance(inner, graph.GraphOp) or _pinned(op) or _pinned(inner):
        return
    for name, function in FUNCTIONS.items():
        steps = function(op)
        if steps is None:
            continue
        if any(_is_left_to_host(step, target) for step in steps.ops):
            steps.discard()
            return
        for step in steps.ops:
            if not isinstance(step, graph.ConstantOp):
                step.attributes[APPROXIMATE] = StringAttr(name)
        remark(
            Code.APPROXIMATION,
            f"a {name} between quantized tensors should be computed as the model states it",
            found=f"{target.name} without floats; in fixed point it is at most one step off",
            remedy="npu-compile --exact, which leaves it to the host",
            source=inner,
        )
        replace(rewriter, op, *steps.ops)
        return


def _pinned(op: graph.GraphOp) -> bool:
    return overrides.pins(op).get("engine") == StringAttr("host")


def _is_left_to_host(op: Operation, target: Target) -> bool:
    if isinstance(op, graph.RequantizeOp) and dtype_of(op.x) is dtypes.i64:
        op = op.x.owner  # rescales what the array computes on its way out
        assert isinstance(op, Operation)
    return not isinstance(op, graph.ConstantOp) and place(op, target).data.engine == "host"
