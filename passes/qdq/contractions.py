"""Convolutions, matrix products, means and sums of quantized tensors: exact integers, then a scale.

    conv2d(dequantize(x), dequantize(w), b)  ==>  cast(conv2d(x, w, b')) * (sx * sw)
    quantize(cast(sums) * scales)            ==>  requantize(sums) by f32(scales / sy)

with the scales sx of x, sw of w and sy of the result; b' is the bias in multiples of sx * sw. The
multiplier is that of onnxruntime: f32(f32(sx * sw) / sy). Sums and biases are i32 for 8-bit
operands, and i64 where one has 16 bits; these are kept below 2**39, which 40 bits hold.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
from xdsl.dialects.builtin import LocationAttr
from xdsl.ir import SSAValue
from xdsl.pattern_rewriter import PatternRewriter

from npu_dialect import functional, graph, provenance
from npu_dialect.diagnostics import Code, remark
from npu_dialect.graph.attributes import requant_f32, values
from npu_dialect.graph.base import shape_of
from npu_dialect.graph.reduction import ReduceOp
from npu_dialect.passes.qdq.common import (
    accumulator,
    fixed_product,
    known,
    one_scale,
    reach,
    scaled,
    stored,
    type_of_stored,
)
from npu_dialect.passes.rewriting import Rules, constant, location_of, replace

Array = npt.NDArray[Any]

NEARLY_WHOLE = 1e-3
"""A bias this near to a whole multiple of the product of the scales was quantized so."""

GREATEST_SUM = 2**31
"""Sums of 8-bit operands below it in magnitude do not wrap."""

GREATEST_WIDE_SUM = 2**39
"""What 40 bits hold, of which accumulators for 16-bit operands are on machines as Ethos-U55."""

LEAST_CHANGE = 0.01
"""The part of a bias that may be taken off, so that its sum cannot wrap.

Quantizers raise the scale of a channel of tiny weights until its bias just fits 32 bits; the
products that are added to it then no longer do. In such a channel the bias outweighs the products a
hundred times and more.
"""


def contract(op: graph.Conv2DOp | graph.MatmulOp, rewriter: PatternRewriter) -> None:
    """A convolution or matrix product of dequantized tensors."""
    x, w = (stored(v) for v in op.operands[:2])
    if x is None or w is None or not _fit(x, w):
        return
    scales = one(x).scales * type_of_stored(w).scales
    limit, is_product = _limit(x, w), isinstance(op, graph.MatmulOp)
    bias = None
    if op.bias is not None:
        bias = _whole_bias(op, op.bias, scales, limit)
        bias = (
            None
            if bias is None
            else _bias_within(op, bias, _greatest_sums(x, w, is_product), limit)
        )
        if bias is None:
            return
    elif _greatest_sums(x, w, is_product).max() >= limit:
        return
    location = provenance.fuse(op, *map(location_of, op.operands[:2]))
    added = [] if bias is None else [_bias_constant(op, bias)]
    sums = _on_integers(op, x, w, added, location)
    replace(rewriter, op, *added, sums, *scaled(sums, scales))


def one(value: SSAValue) -> Any:
    """The type of a tensor with one scale."""
    quant = one_scale(value)
    assert quant is not None, "checked"
    return quant


def _fit(x: SSAValue, w: SSAValue) -> bool:
    """Whether the rule for quantized operands holds: 8 or 16 bits, one scale (w: or by channel)."""
    weights = type_of_stored(w)
    if one_scale(x) is None or weights.axis not in (None, len(shape_of(w)) - 1):
        return False
    return all(type_of_stored(v).storage_dtype.itemsize <= 2 for v in (x, w))


def _limit(x: SSAValue, w: SSAValue) -> int:
    """What sums must be below, in magnitude."""
    narrow = all(type_of_stored(v).storage_dtype.itemsize == 1 for v in (x, w))
    return GREATEST_SUM if narrow else GREATEST_WIDE_SUM


def _whole_bias(
    op: graph.Conv2DOp | graph.MatmulOp, bias: SSAValue, scales: Array, limit: int
) -> Array | None:
    """The bias in multiples of `scales`; None where it is not constant or reaches the limit."""
    dtype = np.int32 if limit == GREATEST_SUM else np.int64
    found = _stored_bias(bias, scales)
    if found is not None:
        return found.astype(dtype)
    real = known(bias)
    if real is None:
        return None
    steps = real.astype(np.float64) / scales.astype(np.float64)
    rounded = np.rint(steps)
    if not np.abs(rounded).max(initial=0) < limit:
        return None
    off = float(np.abs(steps - rounded).max(initial=0))
    if off > NEARLY_WHOLE:
        remark(
            Code.APPROXIMATION,
            "a bias should be a whole multiple of the product of the scales",
            found=f"one that is off by {off:.3g} of it, and is rounded",
            source=op,
        )
    return rounded.astype(dtype)


def _stored_bias(bias: SSAValue, scales: Array) -> npt.NDArray[np.int32] | None:
    """The stored integers of a bias that is quantized by `scales`."""
    source = stored(bias)
    array = None if source is None else constant(source)
    if source is None or array is None:
        return None
    quant = type_of_stored(source)
    if quant.zero_points.any() or not np.allclose(quant.scales, scales, rtol=1e-6, atol=0):
        return None
    return array.astype(np.int32)


def _greatest_sums(x: SSAValue, w: SSAValue, is_product: bool) -> Array:
    """A bound of the magnitude of the sums without bias, by output channel (or one for all); of
    each matrix alone where there are several.
    """
    weights = type_of_stored(w)
    array = constant(w)
    if array is None:
        count = shape_of(w)[-2] if is_product else math.prod(shape_of(w)[:-1])
        far = reach(weights) if weights.axis is None else weights.high - weights.low
        return np.array([float(count) * far * reach(one(x))])
    zero = np.asarray(weights.zero(), np.int64)
    distance = np.abs(array.astype(np.int64) - zero)
    if is_product:
        total = distance.sum(axis=-2).reshape(-1, array.shape[-1]).max(axis=0, initial=0)
    else:
        total = distance.sum(axis=tuple(range(array.ndim - 1)))
    return total.astype(np.float64) * reach(one(x))


def _bias_within(
    op: graph.Conv2DOp | graph.MatmulOp, bias: Array, sums: Array, limit: int
) -> Array | None:
    """The bias, reduced where its sum might wrap; None where that would change too much."""
    wide = bias.astype(np.float64)
    room = limit - 1 - sums
    if np.any(room < (1 - LEAST_CHANGE) * np.minimum(np.abs(wide), limit)):
        return None
    limited = np.clip(wide, -room, room)
    changed = int(np.count_nonzero(limited != wide))
    if changed:
        remark(
            Code.APPROXIMATION,
            f"a bias should leave room for the sum that it is added to below {limit}",
            found=f"{changed} channels in which it fills them, and is reduced by less than 1 %",
            source=op,
        )
    return limited.astype(bias.dtype)


def _bias_constant(op: graph.Conv2DOp | graph.MatmulOp, bias: Array) -> graph.ConstantOp:
    assert op.bias is not None
    return graph.ConstantOp(bias, location=location_of(op.bias))


def _on_integers(
    op: graph.Conv2DOp | graph.MatmulOp,
    x: SSAValue,
    w: SSAValue,
    bias: list[graph.ConstantOp],
    location: LocationAttr,
) -> graph.Conv2DOp | graph.MatmulOp:
    added = bias[0] if bias else None
    if isinstance(op, graph.MatmulOp):
        return graph.MatmulOp(x, w, added, location=location)
    return graph.Conv2DOp(
        x,
        w,
        added,
        strides=values(op.strides),
        pads=values(op.pads),
        dilations=values(op.dilations),
        groups=op.groups.value.data,
        location=location,
    )


def requantize(op: graph.QuantizeOp, rewriter: PatternRewriter) -> None:
    """quantize of an accumulator rescales its integers."""
    found, quant = accumulator(op.x), one_scale(op.result)
    if found is None or quant is None:
        return
    multiplier = found.scales / quant.scales
    if multiplier.ndim == 1:
        recipe = requant_f32(multiplier)
        replace(rewriter, op, graph.RequantizeOp(found.sums, recipe, quant, location=op.location))
    elif isinstance(pool := found.sums.owner, graph.SumPool2DOp):
        greatest = reach(one(pool.x)) * float(_count(pool.window["kernel"]))
        product = fixed_product(pool, greatest, multiplier, quant, op)
        if product is not None:
            replace(rewriter, op, *product)


def average(op: graph.AvgPool2DOp, rewriter: PatternRewriter) -> None:
    """The mean of windows: the sum, scaled by scale / count."""
    source = _narrow(op.x)
    if source is None:
        return
    sums = graph.SumPool2DOp(source, **op.window, location=op.location)
    counts = _count(op.window["kernel"])
    if any(values(op.pads)) and not op.count_include_pad.value.data:
        counts = _counts_inside(op)
    replace(rewriter, op, sums, *scaled(sums, one(source).scales / counts))


def _counts_inside(op: graph.AvgPool2DOp) -> Array:
    """[1, OH, OW, 1]: the positions of each window that lie inside the input."""
    _, height, width, _ = shape_of(op.x)
    ones = np.ones((1, height, width, 1), np.int8)
    return functional.sum_pool2d(ones, **op.window).astype(np.float32)


def reduce(op: ReduceOp, rewriter: PatternRewriter) -> None:
    """The sum or the mean over dimensions."""
    source = _narrow(op.x)
    if source is None:
        return
    axes = values(op.axes)
    count = _count([shape_of(op.x)[a] for a in axes] if isinstance(op, graph.ReduceMeanOp) else [])
    if float(count) * reach(one(source)) >= GREATEST_SUM:
        return
    sums = graph.ReduceSumOp(source, axes, location=op.location)
    replace(rewriter, op, sums, *scaled(sums, one(source).scales / count))


def _count(sizes: Any) -> np.float32:
    return np.float32(math.prod(sizes))


def _narrow(value: SSAValue) -> SSAValue | None:
    """The 8- or 16-bit tensor with one scale that `value` is the dequantization of."""
    source = stored(value)
    quant = None if source is None else one_scale(source)
    return source if quant is not None and quant.storage_dtype.itemsize <= 2 else None


RULES: Rules = {
    graph.Conv2DOp: [contract],
    graph.MatmulOp: [contract],
    graph.AvgPool2DOp: [average],
    graph.ReduceMeanOp: [reduce],
    graph.ReduceSumOp: [reduce],
    graph.QuantizeOp: [requantize],
}
