"""What range the whole numbers in a kernel have, from their types and the steps' immediates."""

from __future__ import annotations

from npu_dialect import dtypes
from npu_dialect.dtypes import DType
from npu_dialect.kernel import Kernel, Step
from npu_dialect.runtime.compiled.packing import Range, limits

CLAMPING = (
    "clamp.i32", "requantize.f32", "quantize", "requantize.f32.i64", "requantize.fixed.i64"
)  # fmt: skip
"""Steps whose last immediates are the least and the greatest result."""

FULL: Range = (dtypes.i32.low, dtypes.i32.high)


def ranges(kernel: Kernel) -> list[Range | None]:
    """The range of each value: tensors, params, results of the steps. None: no i32."""
    found: list[Range | None] = [_stored(d) for d in kernel.tensors]
    found += [FULL if kind == "i32" else None for kind in kernel.params]
    for step, kind in zip(kernel.steps, kernel.value_types, strict=True):
        found.append(_result(step, found, kernel.table) if kind == "i32" else None)
    return found


def _stored(dtype: DType) -> Range | None:
    return None if dtype.is_float or dtype is dtypes.i64 else limits(dtype)


def _result(step: Step, values: list[Range | None], table: DType | None) -> Range:
    operands = [values[a] or FULL for a in step.args]
    if step.op == "const.i32":
        return int(step.immediates[0]), int(step.immediates[0])
    if step.op in CLAMPING:
        low, high = (int(i) for i in step.immediates[-2:])
        return low, high
    if step.op == "requantize.fixed":
        return _rescaled(step, operands)
    if step.op == "lookup.i32" and table is not None:
        return limits(table)
    if step.op in ("add.i32", "sub.i32"):
        return _sum(operands[0], operands[1], -1 if step.op == "sub.i32" else 1)
    return FULL


def _sum(a: Range, b: Range, sign: int) -> Range:
    """a + sign * b; a sum that may wrap may be anything."""
    ends = sorted(x + sign * y for x in a for y in b)
    return _within((ends[0], ends[-1]))


def _within(found: Range) -> Range:
    return found if FULL[0] <= found[0] and found[1] <= FULL[1] else FULL


def _rescaled(step: Step, operands: list[Range]) -> Range:
    _, zero_in, zero_out, low, high = step.immediates
    x, multiplier, shift = operands
    bounds = int(low), int(high)
    shifted = _sum(x, (int(zero_in), int(zero_in)), -1)
    if multiplier[0] != multiplier[1] or shift[0] != shift[1] or step.immediates[0] == "double":
        return bounds
    ends = sorted((s * multiplier[0] >> shift[0]) + int(zero_out) for s in shifted)
    return max(bounds[0], ends[0]), min(bounds[1], ends[1] + 1)
