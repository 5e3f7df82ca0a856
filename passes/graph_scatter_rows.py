"""graph-scatter-rows: a scatter into a state along an inner dimension works on the rows of the
state as they lie, not on a transposed copy.

    // %cache: tensor<2x512x64xf32>, a state; %at: tensor<1xi32>; %new: tensor<1x128xf32>
    %0 = graph.transpose %cache {permutation = [1, 0, 2]} : (...) -> tensor<512x2x64xf32>
    %1 = graph.reshape %0 : (tensor<512x2x64xf32>) -> tensor<512x128xf32>
    %2 = graph.scatter %1, %at, %new {kind = "set"} : (...) -> tensor<512x128xf32>

becomes

    %3 = graph.reshape %cache : (tensor<2x512x64xf32>) -> tensor<1024x64xf32>
    %4 = ... : tensor<2xi32>                       // %at and %at + 512; -1 where %at is no row
    %5 = graph.reshape %new : (tensor<1x128xf32>) -> tensor<2x64xf32>
    %6 = graph.scatter %3, %4, %5 {kind = "set"} : (...) -> tensor<1024x64xf32>
    %7 = graph.reshape %6 : (tensor<1024x64xf32>) -> tensor<2x512x64xf32>
    %8 = graph.transpose %7 {permutation = [1, 0, 2]} : (...) -> tensor<512x2x64xf32>
    %2 = graph.reshape %8 : (tensor<512x2x64xf32>) -> tensor<512x128xf32>

What is left of transpositions cancels with the one that brings the cache back. So a cache of keys
[heads, time, values] changes one row per head and step, and stays where it is.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

import numpy as np
from xdsl.context import Context
from xdsl.dialects.builtin import LocationAttr, ModuleOp
from xdsl.dialects.func import FuncOp
from xdsl.ir import BlockArgument, Operation, SSAValue
from xdsl.passes import ModulePass

from npu_dialect import dtypes, graph, provenance
from npu_dialect.graph.attributes import values
from npu_dialect.graph.base import dtype_of, shape_of
from npu_dialect.graph.states import states_of

SMALLEST = 8192
"""Bytes of a state from which it pays. A step of attention on mobile4k takes 2,813 cycles with
caches of 2 KiB that are transposed, 3,249 with rows; with 16 KiB 7,834 and 7,080, with 512 KiB
147,300 and 80,626.
"""


@dataclass(frozen=True)
class GraphScatterRowsPass(ModulePass):
    """Scatter into states along inner dimensions without transposing them."""

    name = "graph-scatter-rows"

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        for function in op.ops:
            if isinstance(function, FuncOp) and not function.is_declaration:
                states = {state.argument for state in states_of(function)}
                for each in list(function.body.block.ops):
                    if isinstance(each, graph.ScatterOp) and states:
                        found = _Inner.of(each, states)
                        if found is not None:
                            found.rewrite()


@dataclass(frozen=True)
class _Inner:
    """A scatter along the middle dimension of `data`, seen as [outer, rows, inner]."""

    op: graph.ScatterOp
    turned: graph.TransposeOp
    """`data` with the middle dimension first."""
    outer: int
    rows: int
    inner: int

    @staticmethod
    def of(op: graph.ScatterOp, states: set[int | None]) -> _Inner | None:
        """What a scatter into a state is, where it is one along an inner dimension."""
        turned = _through_reshapes(op.x).owner
        if not isinstance(turned, graph.TransposeOp):
            return None
        data = _through_reshapes(turned.x)
        if not isinstance(data, BlockArgument) or data.index not in states:
            return None
        shape, order = shape_of(turned.x), values(turned.permutation)
        moved = [p for p in order if shape[p] != 1]
        if not moved or [moved[0], *sorted(moved[1:])] != moved:
            return None
        rows, outer = shape[moved[0]], prod(shape[: moved[0]])
        size = prod(shape) * dtype_of(data).itemsize
        if shape_of(op.x)[0] != rows or outer == 1 or size < SMALLEST:
            return None
        return _Inner(op, turned, outer, rows, prod(shape[moved[0] + 1 :]))

    def rewrite(self) -> None:
        """Puts the scatter of rows in place of the one of the transposed data."""
        op = self.op
        count = shape_of(op.indices)[0]
        rows = self._add(graph.ReshapeOp(self.turned.x, (self.outer * self.rows, self.inner)))
        updates = self._add(graph.ReshapeOp(op.updates, (count, self.outer, self.inner)))
        updates = self._add(graph.TransposeOp(updates, (1, 0, 2)))
        updates = self._add(graph.ReshapeOp(updates, (self.outer * count, self.inner)))
        made = self._add(graph.ScatterOp(rows, self._indices(count), updates, op.kind.data))
        made = self._add(graph.ReshapeOp(made, shape_of(self.turned.x)))
        made = self._add(graph.TransposeOp(made, values(self.turned.permutation)))
        made = self._add(graph.ReshapeOp(made, shape_of(op.result)))
        op.result.replace_all_uses_with(made)
        op.detach()
        op.erase()

    def _indices(self, count: int) -> SSAValue:
        """Of each row: outer index times rows, plus the index where it is one, else -1."""
        index = self._add(graph.ReshapeOp(self.op.indices, (1, count)))
        kind = dtype_of(index).numpy
        low, high = (self._constant(np.array(n, kind)) for n in (0, self.rows))
        inside = self._add(
            graph.AndOp(self._add(graph.GeOp(index, low)), self._add(graph.LtOp(index, high)))
        )
        first = np.arange(self.outer, dtype=np.int32)[:, None] * np.int32(self.rows)
        if kind != np.int32:
            index = self._add(graph.CastOp(index, dtypes.i32))
        place = self._add(graph.AddOp(index, self._constant(first)))
        chosen = self._add(graph.WhereOp(inside, place, self._constant(np.array(-1, np.int32))))
        return self._add(graph.ReshapeOp(chosen, (self.outer * count,)))

    def _constant(self, array: np.ndarray[tuple[int, ...], np.dtype[np.generic]]) -> SSAValue:
        return self._add(graph.ConstantOp(array))

    def _add(self, made: Operation) -> SSAValue:
        made.location = self._location
        block = self.op.parent
        assert block is not None
        block.insert_op_before(made, self.op)
        return made.results[0]

    @property
    def _location(self) -> LocationAttr:
        return provenance.fuse(self.op)


def _through_reshapes(value: SSAValue) -> SSAValue:
    while isinstance(value.owner, graph.ReshapeOp):
        value = value.owner.x
    return value
