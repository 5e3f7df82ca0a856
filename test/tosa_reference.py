"""TOSA 1.0 in plain numpy, operation by operation from the specification's pseudocode.

It works on parsed text and knows nothing of graph. Where the pseudocode has a REQUIRE, so has this:
text whose meaning TOSA leaves undefined fails. Integers are computed in int64. Floats are float32
operations in the order that is stated here; sums go from first to last.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from xdsl.dialects.builtin import DenseArrayBase, IntegerType
from xdsl.dialects.func import FuncOp, ReturnOp

from npu_dialect.tosa.base import EnumAttr
from npu_dialect.tosa.text import array_of, numpy_type, parse

RANGES = {1: (0, 1), 8: (-128, 127), 16: (-32768, 32767), 32: (-(2**31), 2**31 - 1)}
RANGES[48] = (-(2**47), 2**47 - 1)


def require(condition):
    assert bool(np.all(condition)), "REQUIRE of the specification"


def run(text, inputs):
    """The outputs of the only function of `text` for some inputs, as stored."""
    (function,) = (op for op in parse(text).body.ops if isinstance(op, FuncOp))
    values: dict[Any, Any] = dict(zip(function.args, inputs, strict=True))
    for argument, array in values.items():
        assert argument.type.get_shape() == array.shape, (argument.type, array.shape)
    for op in function.body.block.ops:
        if isinstance(op, ReturnOp):
            return [values[v] for v in op.operands]
        found = evaluate(op, [values[v] for v in op.operands])
        values |= zip(op.results, found if len(op.results) > 1 else [found], strict=True)
    raise AssertionError("a function without return")


def evaluate(op, operands):
    name = op.name.removeprefix("tosa.")
    properties = {k: plain(v) for k, v in op.properties.items()}
    if name in ("const", "const_shape"):
        return array_of(op.properties["values"])
    result = op.results[0]
    element = result.type.element_type
    types = [getattr(v.type, "element_type", None) for v in op.operands]
    found = OPS[name](Call(types, element, properties), *operands)
    if isinstance(found, tuple):
        assert {part.shape for part in found} == {result.type.get_shape()}
        return [part.astype(numpy_type(element)) for part in found]
    found = np.asarray(found)
    assert found.shape == result.type.get_shape(), (op.name, found.shape, result.type)
    if isinstance(element, IntegerType) and found.dtype != bool:
        low, high = RANGES[element.width.data]
        require((found >= low) & (found <= high))
    return found.astype(numpy_type(element))


def plain(attribute):
    if isinstance(attribute, EnumAttr):
        return attribute.word.data
    if isinstance(attribute, DenseArrayBase):
        return tuple(attribute.get_values())
    value = getattr(attribute, "value", None)
    return getattr(value, "data", attribute)


class Call:
    """The types and attributes of an operation."""

    def __init__(self, types, result, properties):
        self.types, self.result, self.properties = types, result, properties

    def __getattr__(self, name):
        if name not in self.properties:
            raise AttributeError(name)
        return self.properties[name]

    @property
    def is_float(self):
        return not isinstance(self.types[0], IntegerType)

    @property
    def range(self):
        return RANGES[self.result.width.data]


def wide(x):
    return x.astype(np.int64) if x.dtype.kind in "iub" else x.astype(np.float32)


# Tensor operators


def windows(x, kernel, stride, dilation, pad, fill):
    """For each position of the kernel, what it meets: a list of [N, OH, OW, C], with (ky, kx)."""
    top, bottom, left, right = pad
    height, width = x.shape[1] + top + bottom, x.shape[2] + left + right
    padded = np.full((x.shape[0], height, width, x.shape[3]), fill, x.dtype)
    padded[:, top : height - bottom, left : width - right] = x
    sizes = []
    for size, k, s, d in zip((height, width), kernel, stride, dilation, strict=True):
        rest = size - ((k - 1) * d + 1)
        assert rest >= 0 and rest % s == 0, "ERROR_IF: the output size must be whole"
        sizes.append(rest // s + 1)
    rows, columns = sizes
    return [
        (ky, kx, padded[:, ky * dilation[0] :: stride[0], kx * dilation[1] :: stride[1]][
            :, :rows, :columns])
        for ky in range(kernel[0])
        for kx in range(kernel[1])
    ]  # fmt: skip


def single(x):
    assert x.size == 1
    return x.reshape(-1)[0].astype(np.int64 if x.dtype.kind in "iu" else np.float32)


def conv2d(c, x, w, bias, x_zp, w_zp):
    x, w = wide(x) - single(x_zp), wide(w) - single(w_zp)
    assert c.is_float or c.types[0].width.data == 8 or not (single(x_zp) or single(w_zp))
    total: Any = 0
    for ky, kx, view in windows(x, w.shape[1:3], c.stride, c.dilation, c.pad, 0):
        if c.is_float:
            for k in range(w.shape[3]):
                total = total + view[..., k : k + 1] * w[:, ky, kx, k]
        else:
            total = total + np.tensordot(view, w[:, ky, kx], (3, 1))
    return total + wide(bias)


def conv3d(c, x, w, bias, x_zp, w_zp):
    x, w = wide(x) - single(x_zp), wide(w) - single(w_zp)
    front, back, *pad = c.pad
    depth = (x.shape[1] + front + back - (w.shape[1] - 1) * c.dilation[0] - 1) // c.stride[0] + 1
    x = np.pad(x, [(0, 0), (front, back), (0, 0), (0, 0), (0, 0)])
    planes = []
    for plane in range(depth):
        total: Any = 0
        for kd in range(w.shape[1]):
            image = x[:, plane * c.stride[0] + kd * c.dilation[0]]
            for ky, kx, view in windows(image, w.shape[2:4], c.stride[1:], c.dilation[1:], pad, 0):
                total = total + np.tensordot(view, w[:, kd, ky, kx], (3, 1))
        planes.append(total + wide(bias))
    return np.stack(planes, 1)


def fft2d(c, real, imaginary):
    """Each result by the definition: a sum over all elements, whose angles have a sign."""
    x = real.astype(np.float64) + 1j * imaginary.astype(np.float64)
    sign = 1 if getattr(c, "inverse", False) else -1
    height, width = x.shape[1:]
    rows, columns = (np.outer(np.arange(n), np.arange(n)) / n for n in (height, width))
    turned = [np.exp(sign * 2j * np.pi * turns) for turns in (rows, columns)]
    found = np.einsum("nyx,yv,xu->nvu", x, *turned)
    return found.real, found.imag


def rfft2d(c, real):
    found = fft2d(c, real, np.zeros_like(real))
    return tuple(part[..., : real.shape[2] // 2 + 1] for part in found)


def depthwise_conv2d(c, x, w, bias, x_zp, w_zp):
    x, w = wide(x) - single(x_zp), wide(w) - single(w_zp)
    total: Any = 0
    for ky, kx, view in windows(x, w.shape[:2], c.stride, c.dilation, c.pad, 0):
        total = total + view[..., None] * w[ky, kx]
    return total.reshape(*total.shape[:3], -1) + wide(bias)


def transpose_conv2d(c, x, w, bias, x_zp, w_zp):
    x, w = wide(x) - single(x_zp), wide(w) - single(w_zp)
    top, bottom, left, right = c.out_pad
    channels, kh, kw, _ = w.shape
    rows = (x.shape[1] - 1) * c.stride[0] + top + bottom + kh
    columns = (x.shape[2] - 1) * c.stride[1] + left + right + kw
    result = np.zeros((x.shape[0], rows, columns, channels), x.dtype) + wide(bias)
    for iy, ix, ky, kx in np.ndindex(x.shape[1], x.shape[2], kh, kw):
        oy, ox = iy * c.stride[0] + top + ky, ix * c.stride[1] + left + kx
        if 0 <= oy < rows and 0 <= ox < columns:
            result[:, oy, ox] += x[:, iy, ix] @ w[:, ky, kx].T
    return result


def matmul(c, a, b, a_zp, b_zp):
    a, b = wide(a) - single(a_zp), wide(b) - single(b_zp)
    if not c.is_float:
        return a @ b
    total = np.zeros((*a.shape[:2], b.shape[2]), np.float32)
    for k in range(a.shape[2]):
        total = total + a[:, :, k : k + 1] * b[:, k : k + 1]
    return total


def reciprocal_scale(value):
    require(value > 0)
    k = 32 - leading_zeros(value - 1)
    return ((1 << 30) + 1 << k) // value, 30 + k


def leading_zeros(value):
    return 32 - int(value).bit_length() if value >= 0 else 0


def avg_pool2d(c, x, x_zp, y_zp):
    ones = np.ones((1, *x.shape[1:3], 1), np.int64)
    count: Any = sum(v for _, _, v in windows(ones, c.kernel, c.stride, (1, 1), c.pad, 0))
    total: Any = 0
    for _, _, view in windows(wide(x) - single(x_zp), c.kernel, c.stride, (1, 1), c.pad, 0):
        total = total + view
    if c.is_float:
        return total / count.astype(np.float32)
    result = np.empty_like(total)
    for place in np.ndindex(total.shape):
        multiplier, shift = reciprocal_scale(int(count[0, place[1], place[2], 0]))
        result[place] = apply_scale_32(total[place], multiplier, shift, False)
    return np.clip(result + single(y_zp), *c.range)


def max_pool2d(c, x):
    least = -np.inf if c.is_float else np.iinfo(x.dtype).min
    views = windows(x, c.kernel, c.stride, (1, 1), c.pad, least)
    return np.max([v for _, _, v in views], axis=0)


def argmax(c, x):
    return np.argmax(x, axis=c.axis)


# Elementwise


def broadcast(function):
    def call(c, *operands):
        assert len({x.ndim for x in operands}) == 1, "ERROR_IF: ranks differ"
        return function(c, *map(wide, operands))

    return call


def arithmetic_right_shift(c, x, n):
    require((n >= 0) & (n <= 31))
    result = x >> n
    carry = (x >> np.maximum(n - 1, 0)) & 1
    return result + np.where((n > 0) & bool(c.round), carry, 0)


def logical_left_shift(c, x, n):
    require((n >= 0) & (n <= 31))
    bits = c.result.width.data
    found = (x << n) & ((1 << bits) - 1)
    return found - ((found >> (bits - 1)) << bits)


def logical_right_shift(c, x, n):
    require((n >= 0) & (n <= 31))
    bits = c.result.width.data
    found = (x & ((1 << bits) - 1)) >> n
    return found - ((found >> (bits - 1)) << bits)


def intdiv(c, x, y):
    require(y != 0)
    return np.sign(x) * np.sign(y) * (np.abs(x) // np.abs(y))


def mul(c, x, y, shift):
    assert x.ndim == y.ndim
    if c.is_float:
        return x * y
    amount, product = int(single(shift)), wide(x) * wide(y)
    assert not amount or c.types[0].width.data == 32
    return (product + (1 << (amount - 1))) >> amount if amount else product


def clamp(c, x):
    low, high = c.min_val, c.max_val
    assert low <= high
    if c.is_float:
        return np.minimum(np.maximum(x, np.float32(low)), np.float32(high))
    return np.clip(wide(x), low, high)


def negate(c, x, x_zp, y_zp):
    if c.is_float:
        return -x
    found = -(wide(x) - single(x_zp)) + single(y_zp)
    return found if c.types[0].width.data == 32 else np.clip(found, *c.range)


def table(c, x, entries):
    if c.types[0].width.data == 8:
        return entries[wide(x) + 128]
    index, fraction = (wide(x) + 32768) >> 7, wide(x) & 0x7F
    base, following = wide(entries)[index], wide(entries)[index + 1]
    slope = following - base
    require((slope >= -32768) & (slope <= 32767))
    return (base << 7) + slope * fraction


# Type conversion


def apply_scale_32(value, multiplier, shift, double_round):
    value, multiplier, shift = (np.asarray(v, np.int64) for v in (value, multiplier, shift))
    require(multiplier >= 0)
    require((shift >= 2) & (shift <= 62))
    require((value >= -(1 << (shift - 1))) & (value < (1 << (shift - 1))))
    rounding = np.int64(1) << (shift - 1)
    if double_round:
        more = np.where(value >= 0, 1 << 30, -(1 << 30))
        rounding = rounding + np.where(shift > 31, more, 0)
    result = (value * multiplier + rounding) >> shift
    require((result >= RANGES[32][0]) & (result <= RANGES[32][1]))
    return result


def apply_scale_16(value, multiplier, shift):
    require(multiplier >= 0)
    require((shift >= 2) & (shift <= 62))
    result = (value * multiplier + (np.int64(1) << (shift - 1))) >> shift
    require((result >= RANGES[32][0]) & (result <= RANGES[32][1]))
    return result


def rescale(c, x, multiplier, shift, x_zp, y_zp):
    bits, out_bits = c.types[0].width.data, c.result.width.data
    value = wide(x) & ((1 << bits) - 1) if c.input_unsigned else wide(x)
    zero_in, zero_out = int(single(x_zp)), int(single(y_zp))
    zero_in %= 1 << (bits if c.input_unsigned else 63)
    zero_out %= 1 << (out_bits if c.output_unsigned else 63)
    zero_in -= (1 << 63) if zero_in >= 1 << 62 else 0
    zero_out -= (1 << 63) if zero_out >= 1 << 62 else 0
    assert bits == 8 or zero_in == 0 or (bits == 16 and c.input_unsigned and zero_in == 32768)
    assert out_bits == 8 or zero_out == 0 or (out_bits == 16 and zero_out == 32768)
    assert multiplier.size == shift.size == (x.shape[-1] if c.per_channel else 1)
    factors, shifts = multiplier.astype(np.int64), shift.astype(np.int64)
    if not c.per_channel:
        factors, shifts = factors[0], shifts[0]
    if c.scale32:
        assert bits != 48
        assert c.rounding_mode != "INEXACT_ROUND"
        is_double = c.rounding_mode == "DOUBLE_ROUND"
        result = apply_scale_32(value - zero_in, factors, shifts, is_double)
    else:
        assert c.rounding_mode == "SINGLE_ROUND"
        result = apply_scale_16(value - zero_in, factors, shifts)
    if c.output_unsigned:
        found = np.clip(result + zero_out, 0, (1 << out_bits) - 1)
        return found - ((found >> (out_bits - 1)) << out_bits)
    return np.clip(result + zero_out, *c.range)


def cast(c, x):
    out = c.result
    if not isinstance(out, IntegerType):
        return x.astype(np.float32)
    bits = out.width.data
    if bits == 1:
        return x != 0
    if c.is_float:
        low, high = RANGES[bits]
        require(~np.isnan(x))
        return np.clip(np.rint(x.astype(np.float64)), low, high)
    found = wide(x) & ((1 << bits) - 1)
    return found - ((found >> (bits - 1)) << bits)


# Data layout


def gather(c, values, indices):
    require((indices >= 0) & (indices < values.shape[1]))
    return np.stack([table[i] for table, i in zip(values, indices, strict=True)])


def scatter(c, values, indices, updates):
    result = values.copy()
    for n, row in enumerate(indices):
        require((row >= 0) & (row < values.shape[1]))
        assert len(set(row.tolist())) == row.size, "REQUIRE: each place once"
        result[n, row] = updates[n]
    return result


def pad(c, x, padding, value):
    return np.pad(x, padding.reshape(-1, 2), constant_values=value.reshape(-1)[0])


def slice_(c, x, start, size):
    return x[tuple(slice(a, a + n) for a, n in zip(start, size, strict=True))]


def resize(c, x, scale, offset, border):
    (yn, yd, xn, xd), (oy, ox), (by, bx) = scale.tolist(), offset.tolist(), border.tolist()
    height, width = x.shape[1:3]
    rows = ((height - 1) * yn - oy + by) // yd + 1
    columns = ((width - 1) * xn - ox + bx) // xd + 1
    result = np.zeros((x.shape[0], rows, columns, x.shape[3]), wide(x).dtype)
    for row, column in np.ndindex(rows, columns):
        y, x_ = row * yd + oy, column * xd + ox
        iy, ix = y // yn, x_ // xn
        dy, dx = y - iy * yn, x_ - ix * xn
        y0, y1 = np.clip([iy, iy + 1], 0, height - 1)
        x0, x1 = np.clip([ix, ix + 1], 0, width - 1)
        v = wide(x)
        if c.mode == "NEAREST_NEIGHBOR":
            at = (y1 if 2 * dy >= yn else y0), (x1 if 2 * dx >= xn else x0)
            result[:, row, column] = v[:, at[0], at[1]]
        else:
            if c.is_float:
                dy, dx, yn_, xn_ = dy / yn, dx / xn, 1, 1
            else:
                yn_, xn_ = yn, xn
            total = v[:, y0, x0] * (yn_ - dy) * (xn_ - dx) + v[:, y0, x1] * (yn_ - dy) * dx
            total = total + v[:, y1, x0] * dy * (xn_ - dx) + v[:, y1, x1] * dy * dx
            result[:, row, column] = total
    return result


def ordered(function, start):
    def reduce(c, x):
        x = np.moveaxis(wide(x), c.axis, 0)
        total = np.full(x.shape[1:], start, x.dtype)
        for part in x:
            total = function(total, part)
        return np.expand_dims(total, c.axis)

    return reduce


def erf(x):
    from math import erf as scalar

    return np.vectorize(scalar)(x)


OPS = {
    "conv2d": conv2d, "conv3d": conv3d, "fft2d": fft2d, "rfft2d": rfft2d,
    "depthwise_conv2d": depthwise_conv2d, "transpose_conv2d": transpose_conv2d,
    "matmul": matmul, "avg_pool2d": avg_pool2d, "max_pool2d": max_pool2d, "argmax": argmax,
    "add": broadcast(lambda c, x, y: x + y), "sub": broadcast(lambda c, x, y: x - y),
    "maximum": broadcast(lambda c, x, y: np.maximum(x, y)),
    "minimum": broadcast(lambda c, x, y: np.minimum(x, y)),
    "pow": broadcast(lambda c, x, y: np.power(x.astype(np.float64), y)),
    "intdiv": broadcast(intdiv), "mul": mul,
    "bitwise_and": broadcast(lambda c, x, y: x & y),
    "bitwise_or": broadcast(lambda c, x, y: x | y),
    "bitwise_xor": broadcast(lambda c, x, y: x ^ y),
    "logical_and": broadcast(lambda c, x, y: (x & y) != 0),
    "logical_or": broadcast(lambda c, x, y: (x | y) != 0),
    "logical_xor": broadcast(lambda c, x, y: (x ^ y) != 0),
    "arithmetic_right_shift": broadcast(arithmetic_right_shift),
    "logical_left_shift": broadcast(logical_left_shift),
    "logical_right_shift": broadcast(logical_right_shift),
    "equal": broadcast(lambda c, x, y: x == y), "greater": broadcast(lambda c, x, y: x > y),
    "greater_equal": broadcast(lambda c, x, y: x >= y),
    "select": lambda c, p, a, b: np.where(p, a, b),
    "clamp": clamp, "negate": negate, "table": table, "rescale": rescale, "cast": cast,
    "abs": lambda c, x: np.abs(wide(x)), "bitwise_not": lambda c, x: ~wide(x),
    "logical_not": lambda c, x: ~x,
    "clz": lambda c, x: np.vectorize(leading_zeros)(x),
    "ceil": lambda c, x: np.ceil(x), "floor": lambda c, x: np.floor(x),
    "exp": lambda c, x: np.exp(x.astype(np.float64)),
    "log": lambda c, x: np.log(x.astype(np.float64)),
    "tanh": lambda c, x: np.tanh(x.astype(np.float64)),
    "sigmoid": lambda c, x: 1 / (1 + np.exp(-x.astype(np.float64))),
    "sin": lambda c, x: np.sin(x.astype(np.float64)),
    "cos": lambda c, x: np.cos(x.astype(np.float64)),
    "erf": lambda c, x: erf(x),
    "reciprocal": lambda c, x: np.float32(1) / x,
    "rsqrt": lambda c, x: 1 / np.sqrt(x.astype(np.float64)),
    "reduce_sum": ordered(np.add, 0), "reduce_product": ordered(np.multiply, 1),
    "reduce_max": lambda c, x: np.max(x, axis=c.axis, keepdims=True),
    "reduce_min": lambda c, x: np.min(x, axis=c.axis, keepdims=True),
    "reduce_all": lambda c, x: np.all(x, axis=c.axis, keepdims=True),
    "reduce_any": lambda c, x: np.any(x, axis=c.axis, keepdims=True),
    "concat": lambda c, *xs: np.concatenate(xs, axis=c.axis), "pad": pad,
    "reshape": lambda c, x, shape: x.reshape(shape), "reverse": lambda c, x: np.flip(x, c.axis),
    "slice": slice_, "tile": lambda c, x, times: np.tile(x, times),
    "transpose": lambda c, x: x.transpose(c.perms), "gather": gather, "scatter": scatter,
    "resize": resize, "identity": lambda c, x: x,
}  # fmt: skip
"""What each operation computes."""
