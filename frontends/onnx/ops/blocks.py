"""Products of floats with integers, and tables of integers with a scale for each block."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from npu_dialect import dtypes, graph
from npu_dialect.frontends.onnx.ops import common, unbound
from npu_dialect.frontends.onnx.ops.attention import HIDDEN, Projected, attended, rows
from npu_dialect.frontends.onnx.ops.common import (
    Array,
    Builder,
    Misfit,
    NotExpressible,
    SSAValue,
    dtype_of,
    shape_of,
)
from npu_dialect.frontends.onnx.ops.linear import product
from npu_dialect.frontends.onnx.registry import MICROSOFT, op

Floats = NDArray[np.float32]


@op("MatMulIntegerToFloat", domain=MICROSOFT)
def matmul_integer_to_float(
    b: Builder,
    x: SSAValue,
    y: SSAValue,
    x_scale: SSAValue,
    y_scale: SSAValue,
    x_zero: SSAValue | None = None,
    y_zero: SSAValue | None = None,
    bias: SSAValue | None = None,
) -> SSAValue:
    """(x - x_zero) @ (y - y_zero) * (x_scale * y_scale) + bias"""
    sums = unbound.product(b, (x, x_zero), (y, y_zero))
    scale = common.mul(b, _scale(b, x_scale), _scale(b, y_scale))
    result = common.mul(b, common.cast(b, sums, dtypes.f32), scale)
    return result if bias is None else common.add(b, result, bias)


def _scale(b: Builder, scale: SSAValue) -> SSAValue:
    return common.reshape(b, scale, ()) if np.prod(shape_of(scale)) == 1 else scale


@op("DynamicQuantizeMatMul", domain=MICROSOFT)
def dynamic_quantize_matmul(
    b: Builder,
    x: SSAValue,
    y: SSAValue,
    y_scale: SSAValue,
    y_zero: SSAValue | None = None,
    bias: SSAValue | None = None,
) -> SSAValue:
    """The same with x quantized to u8 by its own extremes."""
    stored, scale, zero = _dynamically_quantized(b, x)
    return matmul_integer_to_float(b, stored, y, scale, y_scale, zero, y_zero, bias)


def _dynamically_quantized(b: Builder, x: SSAValue) -> tuple[SSAValue, SSAValue, SSAValue]:
    """What DynamicQuantizeLinear gives: u8, their scale and zero point, such that 0 is exact."""
    axes, none = tuple(range(len(shape_of(x)))), b.scalar(0, x)
    least, most = (
        b.emit(extreme(common.reduce(b, operation, x, axes, 0), none))
        for extreme, operation in (
            (graph.MinOp, graph.ReduceMinOp),
            (graph.MaxOp, graph.ReduceMaxOp),
        )
    )
    scale = common.div(b, common.sub(b, most, least), b.scalar(255, x))
    start = common.div(b, common.sub(b, none, least), scale)
    zero = b.emit(graph.RoundOp(b.emit(graph.ClampOp(start, 0, 255))))
    steps = common.add(b, b.emit(graph.RoundOp(common.div(b, x, scale))), zero)
    stored = b.emit(graph.ClampOp(steps, 0, 255))
    stored, zero = (
        common.cast(b, common.cast(b, v, dtypes.i32), dtypes.u8) for v in (stored, zero)
    )
    return stored, scale, zero


@op("QAttention", domain=MICROSOFT)
def qattention(
    b: Builder,
    x: SSAValue,
    weights: SSAValue,
    bias: SSAValue,
    x_scale: SSAValue,
    weight_scale: SSAValue,
    mask_index: SSAValue | None = None,
    x_zero: SSAValue | None = None,
    weight_zero: SSAValue | None = None,
    past: SSAValue | None = None,
    *,
    do_rotary: int = 0,
    mask_filter_value: float = HIDDEN,
    num_heads: int,
    past_present_share_buffer: int = 0,
    scale: float | None = None,
    unidirectional: int = 0,
) -> list[SSAValue]:
    """Attention whose queries, keys and values are a product of integers."""
    if do_rotary or past_present_share_buffer:
        raise NotExpressible("QAttention with rotation or a shared cache")
    total = matmul_integer_to_float(b, x, weights, x_scale, weight_scale, x_zero, weight_zero, bias)
    how = Projected(scale, mask_filter_value, bool(unidirectional))
    return attended(b, total, num_heads, None, mask_index, past, None, how)


# A scale for each block


@op("MatMulNBits", domain=MICROSOFT)
def matmul_n_bits(
    b: Builder,
    x: SSAValue,
    weights: SSAValue,
    scales: SSAValue,
    zeros: SSAValue | None = None,
    groups: SSAValue | None = None,
    bias: SSAValue | None = None,
    *,
    K: int,  # noqa: N803
    N: int,  # noqa: N803
    accuracy_level: int = 0,
    bits: int = 4,
    block_size: int,
    weight_prepacked: int = 0,
) -> SSAValue:
    """x @ w^T for weights [N, K] of few bits, packed into bytes [N, blocks, bytes of a block].

    The weights become floats when compiling; `accuracy_level` allows less, and is not used.
    """
    del accuracy_level
    if groups is not None or weight_prepacked:
        raise NotExpressible("MatMulNBits with groups, or weights packed for one processor")
    if bits not in (2, 4, 8) or block_size < 1:
        raise Misfit(f"blocks of {block_size} numbers of {bits} bits")
    blocks = -(-K // block_size)
    b.reserve(N, blocks * block_size, itemsize=4)
    stored = _unpacked(b.known(weights, "the weights").reshape(N * blocks, -1), bits)
    real = _real(
        stored.reshape(N, blocks, -1)[..., :block_size],
        b.known(scales, "the scales").astype(np.float32).reshape(N, blocks),
        _zeros(None if zeros is None else b.known(zeros, "the zero points"), bits, N, blocks),
    )
    dense = np.ascontiguousarray(real.reshape(N, -1)[:, :K].T)
    y = product(b, x, b.constant(dense))
    return y if bias is None else common.add(b, y, bias)


def _unpacked(stored: Array, bits: int) -> Array:
    """The numbers in each row of bytes, the low bits of a byte first."""
    shifts = np.arange(0, 8, bits, dtype=np.uint8)
    numbers = (stored.astype(np.uint8)[..., None] >> shifts) & np.uint8((1 << bits) - 1)
    return numbers.reshape(stored.shape[0], -1)


def _zeros(zeros: Array | None, bits: int, count: int, blocks: int) -> Any:
    """The zero point of each block [count, blocks]; by default the middle of the range."""
    if zeros is None:
        return 1 << (bits - 1)
    if zeros.dtype != np.uint8:
        return zeros.astype(np.float32).reshape(count, blocks)
    return _unpacked(zeros.reshape(count, -1), bits)[:, :blocks, None].squeeze(-1)


def _real(stored: Array, scales: Array, zeros: Any) -> Floats:
    """(stored - zero) * scale for numbers [count, blocks, size]."""
    offset = np.broadcast_to(np.asarray(zeros, np.float32), scales.shape)
    return (stored.astype(np.float32) - offset[..., None]) * scales[..., None]


@op("GatherBlockQuantized", domain=MICROSOFT)
def gather_block_quantized(
    b: Builder,
    table: SSAValue,
    indices: SSAValue,
    scales: SSAValue,
    zeros: SSAValue | None = None,
    *,
    bits: int = 4,
    block_size: int = 128,
    gather_axis: int = 0,
    quantize_axis: int = 1,
) -> SSAValue:
    """Rows of a table [rows, blocks * size], which becomes floats when compiling."""
    if len(shape_of(table)) != 2 or gather_axis or quantize_axis not in (1, -1):
        raise NotExpressible("GatherBlockQuantized but for rows of a matrix")
    if dtype_of(table) is not dtypes.u8 or bits not in (4, 8):
        raise NotExpressible(f"numbers of {bits} bits in {dtype_of(table)}")
    stored = _unpacked(b.known(table, "the table"), bits)
    count, width = stored.shape
    if block_size < 1:
        raise Misfit(f"blocks of {block_size} numbers")
    blocks = -(-width // block_size)
    b.reserve(count, blocks * block_size, itemsize=4)
    full = np.pad(stored, ((0, 0), (0, blocks * block_size - width)))
    known = None if zeros is None else b.known(zeros, "the zero points")
    real = _real(
        full.reshape(count, blocks, block_size),
        b.known(scales, "the scales").astype(np.float32).reshape(count, blocks),
        _zeros(known, bits, count, blocks),
    )
    dense = np.ascontiguousarray(real.reshape(count, -1)[:, :width])
    return rows(b, b.constant(dense), indices)
