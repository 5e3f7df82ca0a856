"""Sums of 64 bits, put together from sums of 32 bits of the operands' bytes.

    x = 256 * high + low            low a u8, high an i8, both strided views of the i16
    sum(x * w) = 256 * sum(high * w) + sum(low * w)

A zero point is taken apart in the same way, so that padding is zero in both. Each of the sums is an
ordinary product of bytes, whose result goes to memory that the threads share; that no sum leaves 32
bits is proved by how many products it has. Weights of 16 bits are taken apart too, which makes four
sums. Two kernels follow: one that puts the parts together, with the partial sums, and the
instruction's own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from math import prod

from npu_dialect.dtypes import DType, i8, i16, i32, i64, u8
from npu_dialect.kernel import Kernel
from npu_dialect.machine import Operand
from npu_dialect.npu.arrays import sum_type
from npu_dialect.npu.base import Values, kernel_of
from npu_dialect.runtime.compiled.emitters.vectors import vector_call
from npu_dialect.runtime.compiled.emitters.windows import check_overlap, output_of, round_up
from npu_dialect.runtime.compiled.records import SHARED, Call
from npu_dialect.runtime.compiled.translate import Context, NotEmittedError

Lower = Callable[[Values, Context], Call | Sequence[Call]]

FARTHEST = 128 + 256
"""The greatest distance of the high byte of a number from that of a zero point of 17 bits."""


def is_wide(values: Values, context: Context) -> bool:
    """Whether an instruction's sums are of 64 bits."""
    return sum_type(values, context.kernels) is i64


@dataclass(frozen=True)
class Part:
    """The bytes of an operand that count for as much."""

    operand: Operand
    zero: int


def lower_wide(values: Values, context: Context, lower: Lower) -> list[Call]:
    """The calls of an instruction, by those that `lower` makes for sums of 32 bits."""
    check_overlap(values)
    x = _halves(values["input"], values["x_zero"])
    w = _halves(values["weights"], values["w_zero"])
    _check_length(values["weights"].dims[:-1], w)
    pairs = [(a, b) for b in w for a in x]
    if len(pairs) == 1:
        raise NotEmittedError("its sums of products of bytes are of 64 bits")
    dims = output_of(values).dims
    at = round_up(max(_shared(_made(lower, values, a, b, 0, context)) for a, b in pairs))
    calls: list[Call] = []
    sums: list[Operand] = []
    for a, b in pairs:
        calls += _made(lower, values, a, b, at, context)
        sums.append(Operand.dense(SHARED, at, i32, dims))
        at += round_up(sums[-1].size)
    while len(sums) > 2:
        sums = [_joined(calls, sums[k : k + 2], _room(at, k, dims), []) for k in (0, 2)]
    at = max(at, *(round_up(o.address + o.size) for o in sums))
    _finish(calls, sums, values, context, Operand.dense(SHARED, at, i64, dims))
    end = at + round_up(8 * prod(dims)) + 64
    return [replace(call, shared=end) for call in calls]


def _room(at: int, k: int, dims: Sequence[int]) -> Operand:
    """Where the sums of a half of the weights are put together."""
    return Operand.dense(SHARED, at + k // 2 * round_up(8 * prod(dims)), i64, dims)


def _halves(operand: Operand, zero: int) -> list[Part]:
    """The low and the high bytes of i16, as they lie in memory; an operand of bytes as it is."""
    if operand.dtype in (i8, u8):
        return [Part(operand, zero)]
    if operand.dtype is not i16:
        raise NotEmittedError(f"its sums of {operand.dtype} are of 64 bits")
    high = replace(operand.moved(1), dtype=i8)
    return [Part(replace(operand, dtype=u8), zero & 255), Part(high, zero >> 8)]


def _check_length(summed: Sequence[int], w: Sequence[Part]) -> None:
    """Raises NotEmittedError where a sum of bytes might leave 32 bits."""
    reach = FARTHEST if len(w) > 1 else max(abs(b - w[0].zero) for b in (-128, 255))
    if prod(summed) * FARTHEST * reach >= 2**31:
        raise NotEmittedError("its sums of 64 bits are too long")


def _made(
    lower: Lower, values: Values, x: Part, w: Part, at: int, context: Context
) -> Sequence[Call]:
    """The calls for some of the bytes, without an output stage; their sums go to the address `at`
    of shared memory.
    """
    gone = ("kernel", "output", "params", "table", "residual")
    kept = {name: value for name, value in values.items() if name not in gone}
    part = {
        **kept,
        "input": x.operand,
        "weights": w.operand,
        "x_zero": x.zero,
        "w_zero": w.zero,
        "accumulate": 0,
        "partial": Operand.dense(SHARED, at, i32, output_of(values).dims),
    }
    found = lower(part, context)
    return (found,) if isinstance(found, Call) else found


def _shared(calls: Sequence[Call]) -> int:
    return max((call.shared for call in calls), default=0)


@cache
def _joining(dtype: DType, more: int) -> Kernel:
    """t0 + 256 * t1, plus `more` tensors of i64."""
    added = "".join(f", t{2 + k}: i64" for k in range(more))
    steps = ["v0 = const.i64 {value=256}"]
    low, high = "t0", "t1"
    if dtype is i32:
        steps += ["v1 = cast.i32.i64 t0", "v2 = cast.i32.i64 t1"]
        low, high = "v1", "v2"
    steps += [f"v{len(steps)} = mul.i64 {high}, v0"]
    steps += [f"v{len(steps)} = add.i64 {low}, v{len(steps) - 1}"]
    for k in range(more):
        steps += [f"v{len(steps)} = add.i64 v{len(steps) - 1}, t{2 + k}"]
    return Kernel.parse(f"(t0: {dtype}, t1: {dtype}{added}) -> i64: {'; '.join(steps)}")


def _joined(
    calls: list[Call], sums: Sequence[Operand], output: Operand, more: Sequence[Operand]
) -> Operand:
    """The low and the high part of sums as one, with others added."""
    operands = dict(zip("abc", (*sums, *more), strict=False))
    kernel = _joining(sums[0].dtype, len(more))
    calls.append(vector_call({**operands, "output": output}, kernel))
    return output


def _finish(
    calls: list[Call], sums: Sequence[Operand], values: Values, context: Context, room: Operand
) -> None:
    """The sums with the partial ones, and the output stage."""
    more = [values["partial"]] if values["accumulate"] else []
    finished = "kernel" in values
    total = _joined(calls, sums, room if finished else values["partial"], more)
    if not finished:
        return
    fields = {n: values[n] for n in ("params", "table", "output") if n in values}
    if "residual" in values:
        fields["b"] = values["residual"]
    calls.append(vector_call({**fields, "a": total}, kernel_of(context.kernels, values)))
