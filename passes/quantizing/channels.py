"""Which tensors have channels that constants around them can scale, so that the function stays.

    %1 = graph.conv2d %x, %w1, %b1        w1 / s, b1 / s by output channel
    %2 = graph.relu %1                    relu(y / s) = relu(y) / s
    %3 = graph.conv2d %2, %w2, %b2        w2 * s by input channel

A family is a set of tensors that must be scaled alike: what a function with f(x / s) = f(x) / s
makes of one of them, and what is added to it. Its makers have constants that divide, its readers
constants that multiply. Where a member is anything else's (a sigmoid's, an output of the function),
the family cannot be scaled. Channels are the last dimension.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
from xdsl.dialects.func import FuncOp
from xdsl.ir import Operation, SSAValue

from npu_dialect import dtypes, graph
from npu_dialect.graph.attributes import values
from npu_dialect.graph.base import dtype_of, shape_of, type_of
from npu_dialect.graph.pooling import Pool2DOp
from npu_dialect.graph.reduction import ReduceOp
from npu_dialect.passes.rewriting import Array, constant, constant_like

Linear = graph.Conv2DOp | graph.MatmulOp
UNARY = (graph.ReluOp, graph.LeakyReluOp, graph.AbsOp, graph.NegOp)
"""Functions with f(x / s) = f(x) / s."""
TERMS = (graph.AddOp, graph.SubOp, graph.MaxOp, graph.MinOp)
"""Functions of two tensors with f(x / s, y / s) = f(x, y) / s."""
FACTORS = (graph.MulOp, graph.DivOp)
REDUCTIONS = (graph.ReduceMeanOp, graph.ReduceSumOp, graph.ReduceMaxOp, graph.ReduceMinOp)


@dataclass(eq=False)
class Family:
    """Tensors with the same channels, scaled alike."""

    channels: int
    tensors: list[SSAValue] = field(default_factory=list[SSAValue])
    makers: list[Operation] = field(default_factory=list[Operation])
    """Contractions, layer normalizations and factors whose result is a member."""
    readers: list[Operation] = field(default_factory=list[Operation])
    """Contractions and factors whose first operand is a member."""
    terms: list[tuple[Operation, int]] = field(default_factory=list[tuple[Operation, int]])
    """Operands that are constants beside a member."""
    clamps: list[graph.ClampOp] = field(default_factory=list[graph.ClampOp])
    """With a least value of 0: after scaling, their greatest value differs by channel."""


def families(function: FuncOp) -> list[Family]:
    """The families of a function that can be scaled, in program order."""
    return _Search(function).run()


class _Search:
    """Joins tensors to families, and drops those with a member that cannot be scaled."""

    def __init__(self, function: FuncOp) -> None:
        self.function = function
        self.above: dict[SSAValue, SSAValue] = {}
        self.barred: set[SSAValue] = set()
        self.roles: list[tuple[str, SSAValue, Operation, int]] = []

    def run(self) -> list[Family]:
        self._bar(self.function.args)
        for op in self.function.body.block.ops:
            if not isinstance(op, graph.ConstantOp) and not self._take(op):
                self._bar([*op.operands, *op.results])
        return self._gather()

    def _find(self, value: SSAValue) -> SSAValue:
        self.above.setdefault(value, value)
        while self.above[value] is not value:
            self.above[value] = self.above[self.above[value]]
            value = self.above[value]
        return value

    def _join(self, *members: SSAValue) -> None:
        roots = [self._find(v) for v in members]
        for root in roots[1:]:
            if root is not roots[0]:
                self.above[root] = roots[0]

    def _bar(self, members: Iterable[SSAValue]) -> None:
        self.barred.update(v for v in members if constant(v) is None)

    def _note(self, role: str, value: SSAValue, op: Operation, operand: int = 0) -> None:
        self._find(value)
        self.roles.append((role, value, op, operand))

    # --- by operation: whether it is understood ---

    def _take(self, op: Operation) -> bool:
        if not all(_is_float(v) for v in (*op.operands, *op.results)):
            return False
        if not all(map(shape_of, op.results)):
            return False
        if isinstance(op, Linear):
            return self._linear(op)
        if isinstance(op, graph.LayerNormOp):
            return self._layer_norm(op)
        if isinstance(op, TERMS):
            return self._terms(op)
        if isinstance(op, FACTORS):
            return self._factors(op)
        return self._moves(op)

    def _linear(self, op: Linear) -> bool:
        x, w = op.operands[:2]
        if constant(x) is not None or any(constant(v) is None for v in op.operands[1:]):
            return False
        assert constant(w) is not None
        self._note("reader", x, op)
        self._note("maker", op.result, op)
        return True

    def _layer_norm(self, op: graph.LayerNormOp) -> bool:
        if constant(op.scale) is None or constant(op.bias) is None or len(shape_of(op.scale)) != 1:
            return False
        self._bar([op.x])
        self._note("maker", op.result, op)
        return True

    def _terms(self, op: Operation) -> bool:
        x, y = op.operands
        result = op.results[0]
        for k, (value, other) in enumerate(((x, y), (y, x))):
            if constant(other) is not None and constant(value) is None:
                if _channels(value) != _channels(result):
                    return False
                self._note("term", result, op, 1 - k)
                self._join(result, value)
                return True
        if not _channels(x) == _channels(y) == _channels(result):
            return False
        self._join(result, x, y)
        return True

    def _factors(self, op: Operation) -> bool:
        x, y = op.operands
        if constant(x) is not None and isinstance(op, graph.MulOp):
            x, y = y, x
        if constant(y) is None or constant(x) is not None:
            return False
        if _channels(x) != _channels(op.results[0]):
            return False
        self._note("reader", x, op)
        self._note("maker", op.results[0], op)
        return True

    def _moves(self, op: Operation) -> bool:
        if isinstance(op, graph.ClampOp):
            low, high = op.bounds
            if low != 0 or high <= 0:
                return False
            self._note("clamp", op.result, op)
        elif not (isinstance(op, (*UNARY, Pool2DOp)) or _keeps_channels(op)):
            return False
        self._join(op.results[0], *op.operands)
        return True

    # --- the families ---

    def _gather(self) -> list[Family]:
        barred = {self._find(v) for v in self.barred}
        found: dict[SSAValue, Family] = {}
        for value in list(self.above):
            root = self._find(value)
            if root not in barred and shape_of(value):
                family = found.setdefault(root, Family(_channels(value)))
                family.tensors.append(value)
        for role, value, op, operand in self.roles:
            family = found.get(self._find(value))
            if family is None:
                continue
            if role == "term":
                family.terms.append((op, operand))
            elif isinstance(op, graph.ClampOp):
                family.clamps.append(op)
            else:
                (family.makers if role == "maker" else family.readers).append(op)
        return [f for f in found.values() if f.makers and f.readers]


def _is_float(value: SSAValue) -> bool:
    return dtype_of(value) is dtypes.f32


def _channels(value: SSAValue) -> int:
    return (shape_of(value) or (0,))[-1]


def _keeps_channels(op: Operation) -> bool:
    """Whether what moves or reduces values leaves the last dimension as it is."""
    if isinstance(op, graph.ReshapeOp):
        return _channels(op.x) == _channels(op.result) > 0
    if isinstance(op, graph.TransposeOp):
        return values(op.permutation)[-1] == len(shape_of(op.x)) - 1
    if isinstance(op, graph.SliceOp):
        is_whole = _channels(op.x) == _channels(op.result) > 0
        return is_whole and values(op.strides)[-1] > 0
    if isinstance(op, graph.PadOp):
        is_zero = op.value.value.data == 0
        return is_zero and _channels(op.x) == _channels(op.result) > 0
    if isinstance(op, ReduceOp):
        last = len(shape_of(op.x)) - 1
        return isinstance(op, REDUCTIONS) and last not in values(op.axes)
    return False


# --- scaling --------------------------------------------------------------------------------------


def input_axis(op: Operation, array: Array) -> Array:
    """A view of weights of a contraction [channels of its input, rest]: what multiplies each."""
    if isinstance(op, graph.MatmulOp):
        return np.moveaxis(array, -2, 0).reshape(array.shape[-2], -1)
    assert isinstance(op, graph.Conv2DOp)
    kh, kw, depth, out = array.shape
    groups = op.groups.value.data
    split = array.reshape(kh * kw, depth, groups, out // groups)
    return split.transpose(2, 1, 0, 3).reshape(groups * depth, -1)


def times_inputs(op: Operation, array: Array, factors: Array) -> Array:
    """Weights of a contraction with what reads each channel of the input multiplied."""
    if isinstance(op, graph.MatmulOp):
        return array * factors[:, None]
    assert isinstance(op, graph.Conv2DOp)
    kh, kw, depth, out = array.shape
    groups = op.groups.value.data
    split = array.reshape(kh, kw, depth, groups, out // groups)
    by_group = factors.reshape(groups, depth).T[None, None, :, :, None]
    return (split * by_group).reshape(array.shape)


def scale(scales: Iterable[tuple[Family, Array]]) -> None:
    """Divides the channels of each family by its scales [channels], and multiplies where they are
    read. Clamps become a relu and a minimum by channel. Weights are computed in double precision
    and rounded once.
    """
    wide: dict[tuple[Operation, int], Array] = {}

    def current(op: Operation, operand: int) -> Array:
        key = op, operand
        if key not in wide:
            array = constant(op.operands[operand])
            assert array is not None, "a family has constants around it"
            wide[key] = array.astype(np.float64)
        return wide[key]

    clamps: list[tuple[graph.ClampOp, Array]] = []
    for family, s in scales:
        for op in family.makers:
            for k in constants_of(op):
                divides = isinstance(op, graph.DivOp)
                found = current(op, k)
                wide[op, k] = found * s if divides else found / s
        for op in family.readers:
            k = constants_of(op)[0]
            found = current(op, k)
            if isinstance(op, Linear):
                wide[op, k] = times_inputs(op, found, s)
            else:
                wide[op, k] = found / s if isinstance(op, graph.DivOp) else found * s
        for op, k in family.terms:
            wide[op, k] = current(op, k) / s
        clamps += [(op, s) for op in family.clamps]
    for (op, k), array in wide.items():
        _give(op, k, array)
    for op, s in clamps:
        _split_clamp(op, s)


def weights_of(op: Operation) -> Array:
    """The constant of a maker or reader that is scaled, in double precision."""
    array = constant(op.operands[constants_of(op)[0]])
    assert array is not None, "members of families have constants"
    return array.astype(np.float64)


def constants_of(op: Operation) -> list[int]:
    """The operands of a maker that its result's channels are scaled by; weights come first."""
    if isinstance(op, FACTORS):
        return [k for k, v in enumerate(op.operands) if constant(v) is not None]
    return list(range(1, len(op.operands)))


def _give(op: Operation, operand: int, array: Array) -> None:
    made = constant_like(op.operands[operand], array.astype(np.float32))
    block = op.parent
    assert block is not None
    block.insert_op_before(made, op)
    op.operands[operand] = made.result


def _split_clamp(op: graph.ClampOp, s: Array) -> None:
    """clamp(x, 0, high) of scaled channels: min(relu(x), high / s)."""
    high = (op.bounds[1] / s).astype(np.float32)
    rows = graph.ConstantOp(high, location=op.location)
    positive = graph.ReluOp(op.x, location=op.location)
    least = graph.MinOp(positive, rows, location=op.location)
    block = op.parent
    assert block is not None and type_of(op.result) == type_of(least.result)
    block.insert_ops_before([rows, positive, least], op)
    op.result.replace_all_uses_with(least.result)
    op.detach()
    op.erase()
