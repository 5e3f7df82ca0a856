"""The rows of tensors, and which rows of its inputs a group needs for some rows of its result.

Rows of a tensor are its chunks along the outermost dimension that is longer than 1: H of
[1, H, W, C], N of [N, H, W, C], M of [1, M, K]. A group can be cut in rows where rows [a, b) of its
result come from rows [lo, hi) of each tensor that it reads, or from all of it (weights, what is
broadcast along the rows).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

from xdsl.ir import OpResult, SSAValue

from npu_dialect.graph.base import shape_of
from npu_dialect.passes.mapping.collapse import align
from npu_dialect.passes.mapping.groups import (
    CONTRACTIONS,
    POOLS,
    SCATTER,
    Group,
    is_constant,
    matrices,
    streams,
)
from npu_dialect.passes.mapping.views import place_of, root


@dataclass(frozen=True)
class RowWindow:
    """The rows of a tensor that a range of rows of a result needs.

    The reader sees the tensor, perhaps reshaped, with `seen` rows, and needs `extent` of them from
    row a * stride - pad on for row a of its result. `rows` are those that the tensor itself has.
    """

    rows: int
    seen: int
    stride: int = 1
    extent: int = 1
    pad: int = 0
    other: RowWindow | None = None
    """A second read of the tensor by the same group (a residual)."""

    def seen_of(self, start: int, stop: int) -> tuple[int, int]:
        """The rows [lo, hi) as the reader counts them, clamped."""
        low = start * self.stride - self.pad
        high = low + (stop - 1 - start) * self.stride + self.extent
        seen = self.seen
        low = 0 if low < 0 else seen if low > seen else low
        high = seen if high > seen else high
        return low, low if high < low else high

    def of(self, start: int, stop: int) -> tuple[int, int]:
        """The rows [lo, hi) of the tensor that rows [start, stop) of the result need, clamped; an
        empty range where nothing but padding is needed. `stop` must be greater than `start`.
        """
        low, high = self.seen_of(start, stop)
        if self.rows != self.seen:
            low, high = low * self.rows // self.seen, -(-high * self.rows // self.seen)
        if self.other is None:
            return low, high
        other = self.other.of(start, stop)
        return min(low, other[0]), max(high, other[1])


@dataclass(frozen=True)
class Read:
    """A tensor that a group reads, as it is outside; without a window all of it is needed."""

    value: SSAValue
    window: RowWindow | None


def reshaped(value: SSAValue) -> SSAValue:
    """The tensor of the same elements in the same order that `value` is a reshape of."""
    while isinstance(value, OpResult) and value.op.name == "graph.reshape":
        value = value.op.operands[0]
    return value


# --- rows of one group ----------------------------------------------------------------------------


def row_axis(shape: Sequence[int]) -> int | None:
    """The outermost dimension that is longer than 1."""
    return next((k for k, d in enumerate(shape) if d > 1), None)


def rows_of_tensor(value: SSAValue) -> int:
    """Rows of a tensor."""
    shape = shape_of(value)
    axis = row_axis(shape)
    return 1 if axis is None else shape[axis]


def rows_of(group: Group) -> int | None:
    """Rows of a group's result; None where it cannot be made in parts of some rows."""
    return None if uncuttable(group) else rows_of_tensor(group.result)


def uncuttable(group: Group) -> str | None:
    """Why a group's result cannot be made in parts of some rows; None where it can."""
    if group.kind not in ("array", "vector") or len(group.op.results) != 1:
        return f"a group of a cascade must run on the array or the vector unit, found {group.kind}"
    shape = shape_of(group.result)
    axis = row_axis(shape)
    if axis is None or axis == len(shape) - 1:
        return f"the result must have rows, found {_dims(shape)}"
    reason = None if group.anchor is None else _uncuttable_anchor(group, axis)
    return reason or _apart(group)


def _apart(group: Group) -> str | None:
    """Why rows of tensors that lie within others are not rows of what the engine sees."""
    tensors = [group.result, *group.inputs]
    if all(place_of(v).is_whole for v in tensors):
        return None
    rows = rows_of_tensor(group.result)
    if any(place_of(v).strides(shape_of(root(v))) is None for v in tensors):
        return "a tensor within another must have a stride along each dimension"
    if group.anchor is not None and group.anchor.name == "graph.matmul":
        outer = matrices(group).batch
        if outer and not (is_batched(group) and first_extent(outer) == rows):
            return f"rows must be one dimension, found {_dims((*outer, rows))}"
        return None
    if group.anchor is None or group.anchor.name not in (*CONTRACTIONS, *POOLS):
        dims = streams(group).shape.dims
        if dims[0] % rows:
            return f"rows must be one dimension, found {_dims(dims)}"
    return None


def _uncuttable_anchor(group: Group, axis: int) -> str | None:
    anchor = group.anchor
    assert anchor is not None
    shape = shape_of(anchor.results[0])
    if prod(shape) != prod(shape_of(group.result)) or row_axis(shape) != axis:
        return f"{anchor.name} must make the rows of the group's result, found {_dims(shape)}"
    if anchor.name == SCATTER:
        return "a scatter may change any row, so it must see all of them"
    if anchor.name == "graph.matmul":
        return _uncuttable_product(group, axis)
    if anchor.name == "graph.conv2d" or anchor.name in POOLS:
        if axis > 1:
            return f"an image must have more than one row, found {_dims(shape)}"
        return _padded(_anchored(group, group.outer(anchor.operands[0])), shape[axis])
    source = shape_of(anchor.operands[0])
    if row_axis(source) != axis or source[axis] != shape[axis]:
        return f"rows must not be reduced, found {_dims(source)} to {_dims(shape)}"
    return None


def _uncuttable_product(group: Group, axis: int) -> str | None:
    """Of a matrix product: rows are those of the result where there is one matrix of weights, else
    the products of a batch (heads), each with rows and weights of its own.
    """
    anchor = group.anchor
    assert anchor is not None
    if not is_batched(group):
        return None
    shape = shape_of(anchor.results[0])
    weights = shape_of(anchor.operands[1])
    if is_constant(group.outer(anchor.operands[1])):
        return f"weights must be one matrix or computed, found {_dims(weights)}"
    for operand in map(shape_of, anchor.operands[:2]):
        own = align(operand, len(shape))
        if axis >= len(shape) - 2 or own[axis] != shape[axis]:
            return f"both operands must have the rows of the result, found {_dims(operand)}"
    return None


def is_batched(group: Group) -> bool:
    """Whether a group is a product of several matrices with weights of their own."""
    anchor = group.anchor
    if anchor is None or anchor.name != "graph.matmul":
        return False
    return prod(shape_of(anchor.operands[1])[:-2]) != 1


def first_extent(dims: Sequence[int]) -> int:
    """The outermost extent that is longer than 1, or 1."""
    return next((d for d in dims if d > 1), 1)


def _padded(window: RowWindow, rows: int) -> str | None:
    for row in (0, rows - 1):
        low, high = window.seen_of(row, row + 1)
        if low == high:
            return f"every row must be made of some input, row {row} is made of padding"
    return None


def _dims(shape: Sequence[int]) -> str:
    return "x".join(map(str, shape)) or "a scalar"


def reads(group: Group) -> list[Read]:
    """The tensors that a group (that can be cut in rows) reads, constants among them, weights last.

    Parameters and tables of kernels are none. Looked up once for a group.
    """
    known: dict[str, list[Read]] = vars(group)
    if "rows.reads" not in known:
        known["rows.reads"] = _reads(group)
    return known["rows.reads"]


def _reads(group: Group) -> list[Read]:
    anchor = group.anchor
    side = [Read(v, _alike(group, v)) for v in group.tensors]
    if anchor is None:
        return side
    x = group.outer(anchor.operands[0])
    found = [Read(x, _anchored(group, x)), *side]
    if anchor.name in CONTRACTIONS:
        w = group.outer(anchor.operands[1])
        found.append(Read(w, _anchored(group, w) if is_batched(group) else None))
    return found


def _alike(group: Group, value: SSAValue) -> RowWindow | None:
    """Row by row, unless the tensor is broadcast along the rows."""
    shape = shape_of(group.result)
    axis = row_axis(shape)
    assert axis is not None
    rows = align(shape_of(value), len(shape))[axis]
    return _window(value, rows) if rows == shape[axis] else None


def _anchored(group: Group, value: SSAValue) -> RowWindow:
    """What the anchor's first operand is read with."""
    anchor = group.anchor
    assert anchor is not None
    shape = shape_of(anchor.results[0])
    axis = row_axis(shape)
    is_image = anchor.name == "graph.conv2d" or anchor.name in POOLS
    if not is_image or axis != 1:
        assert axis is not None
        return _window(value, shape[axis])
    is_pool = anchor.name in POOLS
    kernel = group.setting("kernel")[0] if is_pool else shape_of(anchor.operands[1])[0]
    stride, dilation = group.setting("strides")[0], group.setting("dilations")[0]
    extent = (kernel - 1) * dilation + 1
    seen = shape_of(anchor.operands[0])[1]
    return _window(value, seen, stride, extent, group.setting("pads")[0])


def _window(
    value: SSAValue, seen: int, stride: int = 1, extent: int = 1, pad: int = 0
) -> RowWindow:
    """In the tensor's own rows where they are whole multiples of those seen, or the reverse."""
    rows = rows_of_tensor(reshaped(value))
    common = rows % seen == 0 or seen % rows == 0
    return RowWindow(rows if common else seen, seen, stride, extent, pad)


def needs(group: Group) -> dict[SSAValue, RowWindow]:
    """The rows of each input for a range of rows of the result, by the tensor that the input is a
    reshape of.

    Constants and inputs that are needed whole are absent. The group must have rows.
    """
    found: dict[SSAValue, RowWindow] = {}
    whole = {reshaped(r.value) for r in reads(group) if r.window is None}
    for read in reads(group):
        base = reshaped(read.value)
        if read.window is None or base in whole or is_constant(base):
            continue
        first = found.get(base)
        found[base] = read.window if first is None else _both(first, read.window)
    return found


def _both(first: RowWindow, second: RowWindow) -> RowWindow:
    return RowWindow(
        first.rows, first.seen, first.stride, first.extent, first.pad,
        second if first.other is None else _both(first.other, second),
    )  # fmt: skip
