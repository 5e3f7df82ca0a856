"""Linear maps of single dimensions, such as a bilinear resize, as products of integers.

    quantize(transpose(dequantize(x) @ A) @ B)  ==>

    hi = requantize(A' @ (x - zero))               rows first; A' of 16 bits, 2**7 a step of x
    lo = hi / 2**7
    requantize([hi, lo] @ [B1, B0])                columns; B' = 2**7 B1 + B0, each of 8 bits

A and B are constant; between them dimensions may be moved. An array multiplies by weights of 8
bits, which are too coarse for a place between two pixels. So the first product has them as its
activations, which may have 16 bits, and the second sums those of two parts at once, 8 bits each.
Where weights are whole multiples of a fraction (a quarter, for a doubled image) one part is all.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import prod

import numpy as np
from xdsl.ir import Operation, SSAValue

from npu_dialect import dtypes, graph
from npu_dialect.graph.attributes import values
from npu_dialect.graph.base import shape_of, tensor_type
from npu_dialect.graph.quant import QuantType, uniform
from npu_dialect.passes.fixed_point.steps import COARSEST, Array, Steps, eight_bits, exponent
from npu_dialect.passes.qdq.common import known, one_scale, stored
from npu_dialect.passes.rewriting import location_of

MOST = 127
"""The greatest weight of 8 bits."""

SHORT = 2**15 - 1
"""The greatest of 16 bits."""

PART_BITS = 7
"""Bits of the lower part of a weight."""

NEARLY_WHOLE = 1e-4
"""Weights this near to whole numbers were computed from them in float32."""

MOST_FACTOR = 2.0**20
"""Steps of the result in one of the source, at most."""

FEW = 2
"""Results of which the weights are looked at first."""

WEIGHTS = uniform(dtypes.i8, 1.0)
SHORTS = uniform(dtypes.i16, 1.0)

# --- what is mapped -------------------------------------------------------------------------------


@dataclass
class Maps:
    """A tensor of which some dimensions were multiplied with matrices, and then moved."""

    source: SSAValue
    """The quantized tensor."""
    axes: list[int]
    """Its dimensions, taken apart where a reshape does so, without those of 1."""
    order: list[tuple[int, ...]]
    """Which of them each dimension of the result has."""
    sizes: dict[int, int]
    """How long each one is now."""
    matrices: dict[int, Array] = field(default_factory=dict[int, Array])
    """[before, after] float64, by dimension."""


def _maps(value: SSAValue) -> Maps | None:
    """What `value` is, seen as linear maps of dimensions; None where it is something else."""
    source = stored(value)
    if source is not None and 0 not in shape_of(source):
        sizes = {k: d for k, d in enumerate(shape_of(source)) if d != 1}
        order = [(k,) if k in sizes else () for k in range(len(shape_of(source)))]
        return Maps(source, list(sizes), order, sizes)
    op = value.owner
    if not isinstance(op, graph.ReshapeOp | graph.TransposeOp | graph.MatmulOp):
        return None
    inner = op.operands[0]
    maps = _maps(inner) if inner.has_one_use() else None
    if maps is None:
        return None
    if isinstance(op, graph.MatmulOp):
        return _multiplied(maps, op)
    if isinstance(op, graph.TransposeOp):
        maps.order = [maps.order[k] for k in values(op.permutation)]
        return maps
    return _reshaped(maps, shape_of(op.result))


def _reshaped(maps: Maps, shape: Sequence[int]) -> Maps | None:
    """Dimensions may be joined, and taken apart where nothing was multiplied yet."""
    left = [k for part in maps.order for k in part]
    order: list[tuple[int, ...]] = []
    for size in shape:
        part: list[int] = []
        while size > 1 and left:
            axis = left.pop(0)
            if size % maps.sizes[axis]:
                inner = _taken_apart(maps, axis, size)
                if inner is None:
                    return None
                left.insert(0, inner)
            part.append(axis)
            size //= maps.sizes[axis]
        if size != 1:
            return None
        order.append(tuple(part))
    maps.order = order
    return maps if not left else None


def _taken_apart(maps: Maps, axis: int, size: int) -> int | None:
    """Leaves `size` to a dimension; the number of what is left of it inside."""
    if maps.sizes[axis] % size or axis in maps.matrices:
        return None
    inner = max(maps.axes) + 1
    maps.sizes[inner] = maps.sizes[axis] // size
    maps.sizes[axis] = size
    maps.axes.insert(maps.axes.index(axis) + 1, inner)
    return inner


def _multiplied(maps: Maps, op: graph.MatmulOp) -> Maps | None:
    matrix, last = known(op.b), maps.order[-1]
    if matrix is None or matrix.ndim != 2 or op.bias is not None or len(last) != 1:
        return None
    if matrix.shape[1] == 1 or not np.isfinite(matrix).all():
        return None
    (axis,) = last
    before = maps.matrices.get(axis)
    wide = matrix.astype(np.float64)
    maps.matrices[axis] = wide if before is None else before @ wide
    maps.sizes[axis] = matrix.shape[1]
    return maps


# --- its steps ------------------------------------------------------------------------------------


@dataclass
class _Part:
    """A tensor on its way: `value` has the dimensions `axes`, with `bits` fractional bits, and is
    off by `error`; both in steps of the source.
    """

    value: SSAValue
    axes: list[int]
    bits: int
    low: float
    high: float
    error: float = 0.0

    @property
    def reach(self) -> float:
        """The greatest magnitude."""
        return max(-self.low, self.high)


def resized(op: graph.QuantizeOp) -> Steps | None:
    """The steps of quantize(linear maps of dequantize(x)); None where `op` is something else."""
    result = one_scale(op.result)
    maps = _maps(op.x) if isinstance(op.x.owner, Operation) else None
    if result is None or maps is None or not 1 <= len(maps.matrices) <= 2:
        return None
    quant = eight_bits(maps.source)
    if quant is None or quant.scale / result.scale >= MOST_FACTOR:
        return None
    steps = Steps(location_of(op.x))
    if not _emit(steps, maps, quant, result, shape_of(op.x)):
        steps.discard()
        return None
    return steps


def _emit(
    steps: Steps, maps: Maps, quant: QuantType, result: QuantType, shape: Sequence[int]
) -> bool:
    """Whether all of it is exact enough; the last step is the result."""
    final = [k for part in maps.order for k in part]
    factor = quant.scale / result.scale
    last = final[-1] if final[-1] in maps.matrices else list(maps.matrices)[-1]
    outer = [k for k in maps.matrices if k != last] or ([last] if last != final[-1] else [])
    low, high = quant.low - quant.zero_point, quant.high - quant.zero_point
    part = _Part(maps.source, list(maps.axes), 0, low, high)
    part.value = _shaped(steps, part, {**maps.sizes, **_before(maps)})
    is_narrow = True
    for axis in outer:
        is_last = len(maps.matrices) == 1
        found = _rows(steps, part, axis, maps, (factor, result) if is_last else None)
        if found is None:
            return False
        part, is_narrow = found, False
    if last not in outer:
        found = _columns(steps, part, last, maps, factor, result, is_narrow)
        if found is None:
            return False
        part = found
    if part.error * factor > COARSEST:
        return False
    moved = _permuted(steps, part, final)
    if shape_of(moved) != tuple(shape):
        steps.add(graph.ReshapeOp(moved, shape, location=steps.location))
    return True


def _before(maps: Maps) -> dict[int, int]:
    return {k: matrix.shape[0] for k, matrix in maps.matrices.items()}


def _shaped(steps: Steps, part: _Part, sizes: dict[int, int]) -> SSAValue:
    """The tensor without dimensions of 1, but a matrix at least."""
    shape = [sizes[k] for k in part.axes]
    shape = [1, *shape] if len(shape) == 1 else shape
    if shape_of(part.value) == tuple(shape):
        return part.value
    return steps.add(graph.ReshapeOp(part.value, shape, location=steps.location))


def _permuted(steps: Steps, part: _Part, axes: Sequence[int]) -> SSAValue:
    """The tensor with its dimensions in another order."""
    order = [part.axes.index(k) for k in axes]
    if order == sorted(order):
        return part.value
    return steps.add(graph.TransposeOp(part.value, order, location=steps.location))


def _rows(
    steps: Steps, part: _Part, axis: int, maps: Maps, end: tuple[float, QuantType] | None
) -> _Part | None:
    """A product with the matrix from the left, of tensors of 8 bits; `end` gives the factor and the
    type of the result, else it has 16 bits.
    """
    matrix = maps.matrices[axis].T
    scale = _whole_scale(matrix, SHORT) or SHORT / np.abs(matrix).max(initial=1e-30)
    weights = np.rint(matrix * scale)
    others = [k for k in part.axes if k != axis and k not in maps.matrices]
    inner = [k for k in part.axes if k != axis and k in maps.matrices]
    axes = [axis, *others, *inner]
    x = _permuted(steps, part, axes)
    rest = shape_of(x)[1:]
    flat = steps.add(graph.ReshapeOp(x, (matrix.shape[1], prod(rest)), location=steps.location))
    if not _sums_fit(weights.T, part.reach):
        return None
    low, high = _range(matrix.T, part)
    error = _error((matrix - weights / scale).T, part)
    bits = min(PART_BITS, exponent(SHORT / max(-low, high, 1.0)))
    factor, kind = (2.0**bits, SHORTS) if end is None else end
    left = steps.add(_stored(weights.astype(np.int16), SHORTS, steps))
    sums = steps.add(graph.MatmulOp(left, flat, sums="i32", location=steps.location))
    whole = steps.scaled(sums, factor / scale, kind)
    value = steps.add(graph.ReshapeOp(whole, (matrix.shape[0], *rest), location=steps.location))
    error += 0.5 * 2.0**-bits if end is None else 0.0
    return _Part(value, axes, bits, low, high, error)


def _columns(
    steps: Steps,
    part: _Part,
    axis: int,
    maps: Maps,
    factor: float,
    result: QuantType,
    is_narrow: bool,
) -> _Part | None:
    """A product with the matrix from the right, to the type of the result."""
    matrix = maps.matrices[axis]
    outer = [k for k in part.axes if k != axis and k in maps.matrices]
    others = [k for k in part.axes if k != axis and k not in maps.matrices]
    axes = [*outer, *others, axis]
    x = _permuted(steps, part, axes)
    if is_narrow:
        part.bits = min(PART_BITS, exponent(SHORT / part.reach))
    scale = _whole_scale(matrix, MOST)
    error = 0.0
    if scale is not None:
        weights = np.rint(matrix * scale)
        halves = weights
        unit = 1.0 if is_narrow else 2.0**part.bits
    else:
        scale = (MOST << part.bits) / np.abs(matrix).max(initial=1e-30)
        weights = np.rint(matrix * scale)
        upper = np.clip(np.rint(weights / 2.0**part.bits), -MOST, MOST)
        lower = weights - upper * 2.0**part.bits
        if np.abs(lower).max() > MOST:
            return None
        halves, unit = np.concatenate([upper, lower]), 1.0
        error += 0.0 if is_narrow else 0.5 * float(np.abs(lower).sum(0).max()) / scale
        x = _two_parts(steps, x, 0 if is_narrow else part.bits, part.bits)
    if not _sums_fit(halves, part.reach * 2.0**part.bits):
        return None
    gain = float(np.abs(matrix).sum(0).max())
    error += _error(matrix - weights / scale, part) + part.error * gain
    by = steps.add(_stored(halves.astype(np.int8), WEIGHTS, steps))
    sums = steps.add(graph.MatmulOp(x, by, sums="i32", location=steps.location))
    value = steps.scaled(sums, factor / (scale * unit), result)
    return _Part(value, axes, 0, *_range(matrix, part), error)


def _two_parts(steps: Steps, x: SSAValue, had: int, bits: int) -> SSAValue:
    """[..., k] with `had` fractional bits as [..., 2 k]: with `bits` of them, and without."""
    shape = shape_of(x)
    apart = steps.add(graph.ReshapeOp(x, (*shape[:-1], 1, shape[-1]), location=steps.location))
    factors = steps.constant(np.array([[1 << bits], [1]], np.int32))
    both = steps.product(apart, factors, had, SHORTS)
    joined = (*shape[:-1], 2 * shape[-1])
    return steps.add(graph.ReshapeOp(both, joined, location=steps.location))


def _stored(array: Array, quant: QuantType, steps: Steps) -> Operation:
    return graph.ConstantOp(array, tensor_type(array.shape, quant), location=steps.location)


def _whole_scale(matrix: Array, most: int) -> float | None:
    """The least number that makes whole numbers of all weights, none greater than `most`."""
    greatest = float(np.abs(matrix).max(initial=1e-30))
    some = matrix[:, :FEW]
    for scale in range(1, min(int(most / greatest), MOST * 2) + 1):
        if _are_whole(some * scale) and _are_whole(matrix * scale):
            return float(scale)
    return None


def _are_whole(numbers: Array) -> bool:
    return bool(np.abs(numbers - np.rint(numbers)).max(initial=0) < NEARLY_WHOLE)


def _range(matrix: Array, part: _Part) -> tuple[float, float]:
    """The least and the greatest value of a column's sum."""
    up, down = np.maximum(matrix, 0).sum(0), np.minimum(matrix, 0).sum(0)
    return (
        float((up * part.low + down * part.high).min(initial=0)),
        float((up * part.high + down * part.low).max(initial=0)),
    )


def _error(off: Array, part: _Part) -> float:
    """How far sums are off where weights are off by so much."""
    low, high = _range(off, part)
    return max(-low, high)


def _sums_fit(weights: Array, reach: float) -> bool:
    """Whether sums of products fit 32 bits."""
    return float(np.abs(weights).sum(0).max(initial=0)) * reach < 2**31
