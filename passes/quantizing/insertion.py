"""Where tensors are quantized: after what computes them, but not inside what becomes one operation.

    x -> conv -> relu -> y     ==>     dq(q(x)) -> conv(dq(w), dq(bias)) -> relu -> dq(q(y))

A quantize and a dequantize stand where the model will have integers; graph-fold-qdq makes them of
it. What only moves values keeps the type of its operand.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import cast

import numpy as np
from xdsl.dialects.builtin import LocationAttr
from xdsl.dialects.func import FuncOp, ReturnOp
from xdsl.ir import BlockArgument, Operation, SSAValue, Use

from npu_dialect import dtypes, graph, provenance
from npu_dialect.diagnostics import Code, error
from npu_dialect.dtypes import DType
from npu_dialect.graph.base import quant_of, shape_of, tensor_type
from npu_dialect.graph.elementwise import BinaryOp
from npu_dialect.graph.quant import QuantType, uniform
from npu_dialect.graph.unary import UnaryOp
from npu_dialect.passes.quantizing import halves
from npu_dialect.passes.quantizing.calibration import argument_names, is_real
from npu_dialect.passes.quantizing.clipping import clipped
from npu_dialect.passes.quantizing.masks import limit_constants
from npu_dialect.passes.quantizing.precision import (
    PRECISION,
    Unit,
    check,
    scheme_named,
    units,
)
from npu_dialect.passes.quantizing.ranges import Range
from npu_dialect.passes.quantizing.schemes import Array, Grid, Scheme
from npu_dialect.passes.rewriting import constant, constant_like, erase_dead, splat
from npu_dialect.target import Target

MOVES = (
    graph.ReshapeOp, graph.TransposeOp, graph.SliceOp, graph.BroadcastToOp, graph.GatherOp,
    graph.MaxPool2DOp,
)  # fmt: skip
"""Operations whose results are some of the first operand's values."""
LINEAR = (graph.Conv2DOp, graph.MatmulOp)
FACTORS = (graph.AddOp, graph.SubOp, graph.MulOp, graph.DivOp)
TERMS = (graph.AddOp, graph.SubOp)
ACTIVATIONS = (graph.ReluOp, graph.ClampOp)
WEIGHTS_TYPE = "npu.weights_type"
"""The attribute of a contraction: the quantized type that its weights were rounded for."""
FLOATS = (graph.LogSoftmaxOp, graph.OpaqueOp)
"""What has no form in integers: its results that leave the model need no steps either."""
GREATEST_BIAS = 2.0**30
"""Of a bias in steps of the sums, so that products have room beside it in 32 bits."""


@dataclass
class Insertion:
    """Quantizes one function with the ranges of its tensors. What has no range stays as it is."""

    function: FuncOp
    ranges: dict[SSAValue, Range]
    scheme: Scheme
    cones: dict[SSAValue, frozenset[SSAValue]] = field(
        default_factory=dict[SSAValue, frozenset[SSAValue]]
    )
    """What each tensor is one function of, element by element: a table, or a line by channel."""
    lines: set[SSAValue] = field(default_factory=set[SSAValue])
    """Tensors that are factors times a tensor plus terms."""
    by_channel: set[SSAValue] = field(default_factory=set[SSAValue])
    """Tensors that are another function for each channel, which no table can be."""
    real: dict[SSAValue, SSAValue] = field(default_factory=dict[SSAValue, SSAValue])
    """The dequantized tensor that stands for a quantized one, and back."""

    schemes: dict[Operation, Scheme | None] = field(default_factory=dict[Operation, Scheme | None])
    """Of operations for which another one than `scheme` was said; None for floats."""
    halves: dict[Operation, DType] = field(default_factory=dict[Operation, DType])
    """Operations of floats whose results are stored as halves, which contractions multiply."""
    floats: str = ""
    """The precision, one of floats, where nothing is said; without, `scheme`."""
    target: Target | None = None
    """The machine, which must have what is said of layers."""

    def chosen(self) -> list[SSAValue]:
        """The tensors that are stored between operations, in program order."""
        for value in list(self.ranges):
            self._note(value)
        chosen = [value for value in self.ranges if self._is_chosen(value)]
        self.ranges.update({value: clipped(value, self.ranges[value]) for value in chosen})
        for value in chosen:
            if self.ranges[value].is_zero:
                self.ranges[value] = self._beside(value)
        return chosen

    def _beside(self, value: SSAValue) -> Range:
        """The range of a tensor of zeros, of which nothing else is known: that of the sum it goes
        into, so that their steps are alike.
        """
        sums = [use.operation for use in value.uses if isinstance(use.operation, TERMS)]
        found = [self.ranges[op.results[0]] for op in sums if op.results[0] in self.ranges]
        return found[0] if found else self.ranges[value]

    def scheme_of(self, op: Operation) -> Scheme | None:
        """The scheme of an operation; None where it stays with floats."""
        return self.schemes.get(op, None if self.floats else self.scheme)

    def run(self) -> int:
        """Rewrites the function; the number of tensors that are quantized, or could be."""
        if not self.floats:
            limit_constants(self.function, self.ranges, self.scheme.levels)
        chosen = self.chosen()
        for unit in units(chosen):
            self._give(unit, unit.said or self.floats)
        for value in chosen:
            self._store(value)
        for op in list(self.function.body.block.ops):
            op.attributes.pop(PRECISION, None)
            if self.scheme_of(op) is None:
                if op in self.halves and isinstance(op, LINEAR):
                    halves.narrow_operands(op, self.halves[op])
                continue
            if isinstance(op, LINEAR):
                self._weights(op)
            elif isinstance(op, BinaryOp):
                self._constants(op)
            elif isinstance(op, MOVES):
                self._table(op)
        erase_dead(self.function.body.block)
        return len(chosen)

    def _give(self, unit: Unit, name: str) -> None:
        """Gives the operations of a unit the precision of a name, if there is one."""
        if not name:
            return
        if self.target is not None:
            check(unit, name, self.target)
        precision = scheme_named(name, unit.name)
        is_half = isinstance(precision, DType)
        self.schemes.update(dict.fromkeys(unit.ops, None if is_half else precision))
        if is_half:
            self.halves.update(dict.fromkeys(unit.ops, precision))
        elif precision is not None and not self.ranges[unit.value].is_finite:
            raise error(
                Code.OPTION,
                "layers of integers must have ranges",
                found=f"{name} without samples",
                remedy="samples to calibrate with",
                source=unit.name,
            )

    # --- which tensors ---

    def _note(self, value: SSAValue) -> None:
        """What a tensor is a function of."""
        owner = value.owner
        self.cones[value] = frozenset((value,))
        if not isinstance(owner, Operation) or not is_elementwise(owner):
            return
        operands = self._varying(owner)
        cone = frozenset[SSAValue]().union(*(self.cones.get(v, {v}) for v in operands))
        is_line = self._is_line(owner, operands)
        varies = self._varies(owner)
        if len(cone) != 1 or (varies and not is_line) or self._is_apart(owner, cone):
            return
        self.cones[value] = cone
        self.lines.update([value] if is_line else [])
        self.by_channel.update([value] if varies else [])

    @staticmethod
    def _is_apart(owner: Operation, cone: frozenset[SSAValue]) -> bool:
        """Whether an operation's constants vary along more than the channels, as masks do, behind
        a contraction: no scale of its sums is that.
        """
        linear = any(isinstance(value.owner, LINEAR) for value in cone)
        return linear and not all(map(_by_channel, owner.operands))

    def _varies(self, owner: Operation) -> bool:
        """Whether an elementwise operation is another function for each channel."""
        constants = [v for v in owner.operands if constant(v) is not None]
        many = any(splat(v) is None for v in constants)
        return many or not self.by_channel.isdisjoint(owner.operands)

    def _is_line(self, owner: Operation, operands: list[SSAValue]) -> bool:
        """Whether the result of an operation is factors times a tensor plus terms."""
        if not isinstance(owner, FACTORS) or len(operands) != 1:
            return False
        if isinstance(owner, graph.DivOp) and owner.lhs is not operands[0]:
            return False
        return operands[0] in self.lines or self._is_own(operands[0])

    def _is_own(self, value: SSAValue) -> bool:
        """Whether a tensor is seen as a function of itself only."""
        own = frozenset((value,))
        return self.cones.get(value, own) == own

    @staticmethod
    def _varying(op: object) -> list[SSAValue]:
        assert isinstance(op, Operation)
        return [v for v in op.operands if constant(v) is None]

    def _is_chosen(self, value: SSAValue) -> bool:
        """Whether a tensor is quantized."""
        users = list(dict.fromkeys(use.operation for use in value.uses))
        owner = value.owner
        if not users or all(isinstance(u, graph.CastOp | graph.QuantizeOp) for u in users):
            return False
        if isinstance(owner, (graph.DequantizeOp, *MOVES)):
            return False
        if isinstance(owner, FLOATS) and all(isinstance(u, ReturnOp) for u in users):
            return False
        return not self._is_inside(value, owner, users)

    def _is_inside(self, value: SSAValue, owner: object, users: list[Operation]) -> bool:
        """Whether a tensor lies within what becomes one operation of integers."""
        if (
            len(users) == 1
            and isinstance(owner, (*LINEAR, *FACTORS))
            and self._joins(owner, users[0])
        ):
            return True
        if self._is_own(value):
            return False
        return all(
            is_elementwise(user) and self.cones.get(user.results[0]) == self.cones[value]
            for user in users
        )

    def _joins(self, owner: object, user: Operation) -> bool:
        """Whether an activation, or factors and terms by channel, go with what is before them."""
        if isinstance(user, ACTIVATIONS):
            return True
        is_scaled = isinstance(user, FACTORS) and len(self._varying(user)) == 1
        return isinstance(owner, LINEAR) and is_scaled and all(map(_by_channel, user.operands))

    # --- activations ---

    def _store(self, value: SSAValue) -> None:
        """Quantizes a tensor for its readers: all of them, or, if floats make it, those with
        integers.
        """
        owner, found = value.owner, self.ranges[value]
        made = self.scheme_of(owner) if isinstance(owner, Operation) else None
        half = self.halves.get(owner) if isinstance(owner, Operation) else None
        if half is not None:
            value = halves.stored(value, half, found)
        users = [use for use in value.uses if not isinstance(use.operation, graph.QuantizeOp)]
        if made is not None:
            self._quantize(value, made.activation(found), users)
            return
        whole = [use for use in users if self._wanted(use.operation) is not None]
        wanted = [s for use in whole if (s := self._wanted(use.operation)) is not None]
        if wanted:
            widest = max(wanted, key=lambda s: s.activations.itemsize)
            self._quantize(value, widest.activation(found), whole)

    def _wanted(self, op: Operation) -> Scheme | None:
        """The scheme in which an operation, or what it only moves values for, reads; None for
        floats.
        """
        if not isinstance(op, MOVES):
            return None if isinstance(op, ReturnOp) and self.schemes else self.scheme_of(op)
        found = [self._wanted(use.operation) for result in op.results for use in result.uses]
        return next((s for s in found if s is not None), None)

    def _quantize(self, value: SSAValue, quant: QuantType, users: Sequence[Use]) -> None:
        """Puts a quantize and a dequantize behind a tensor, for some of its users."""
        location = self._location(value)
        stored = graph.QuantizeOp(value, quant, location=location)
        back = graph.DequantizeOp(stored, location=location)
        block = self.function.body.block
        if isinstance(value.owner, Operation):
            block.insert_ops_after([stored, back], value.owner)
        elif block.first_op is not None:
            block.insert_ops_before([stored, back], block.first_op)
        for use in users:
            use.operation.operands[use.index] = back.result
        self.real[value] = back.result

    def _location(self, value: SSAValue) -> LocationAttr:
        if isinstance(value.owner, Operation):
            return value.owner.location
        return provenance.name_location(
            argument_names(self.function)[cast(BlockArgument, value).index]
        )

    # --- constants ---

    def _weights(self, op: graph.Conv2DOp | graph.MatmulOp) -> None:
        """Weights by output channel, and a bias in steps of the sums."""
        weights, array = op.operands[1], constant(op.operands[1])
        inputs = stored_type(op.operands[0])
        if array is None or quant_of(weights) is not None or inputs is None:
            return
        bias = constant(op.operands[2]) if len(op.operands) > 2 else None
        quant = op.attributes.pop(WEIGHTS_TYPE, None)
        if not isinstance(quant, QuantType):
            scheme = self.scheme_of(op)
            assert scheme is not None, "floats have no quantized weights"
            grid = grid_of(op, scheme, inputs)
            array, quant = grid.nearest(array) if scheme.group else array, grid.quant
        stored = self._stored(op, 1, array, quant)
        if bias is not None and inputs.axis is None and inputs.storage_dtype.itemsize == 1:
            scales = np.float32(inputs.scale) * stored.scales
            axis = bias.ndim - 1 if scales.size > 1 else None
            self._stored(op, 2, bias, uniform(dtypes.i32, scales, 0, axis))

    def _constants(self, op: BinaryOp) -> None:
        """Constants that vary along more than the channels, beside a quantized tensor."""
        for k, value in enumerate(op.operands):
            array = constant(value)
            other = op.operands[1 - k]
            if array is None or array.dtype != np.float32 or _by_channel(value):
                continue
            if stored_type(other) is not None:
                found = Range.around(float(array.min()), float(array.max()))
                self._stored(op, k, array, self.scheme.activation(found))

    def _table(self, op: Operation) -> None:
        """A constant of which parts are chosen, as embeddings are by their numbers."""
        array = constant(op.operands[0])
        if array is not None and array.dtype == np.float32 and self._varying(op):
            found = Range.around(float(array.min(initial=0)), float(array.max(initial=0)))
            self._stored(op, 0, array, self.scheme.activation(found))

    @staticmethod
    def _stored(op: Operation, operand: int, array: Array, quant: QuantType) -> QuantType:
        """Gives an operation a quantized constant."""
        value = op.operands[operand]
        location = value.owner.location if isinstance(value.owner, Operation) else op.location
        real = graph.ConstantOp(array, tensor_type(array.shape, _f32()), location=location)
        stored = graph.QuantizeOp(real, quant, location=location)
        made = constant_like(value, stored.evaluate(array)[0], quant)
        stored.erase()
        real.erase()
        back = graph.DequantizeOp(made, location=location)
        block = op.parent
        assert block is not None
        block.insert_ops_before([made, back], op)
        op.operands[operand] = back.result
        return quant


def grid_of(op: graph.Conv2DOp | graph.MatmulOp, scheme: Scheme, inputs: QuantType) -> Grid:
    """The grid of the constant weights of a contraction with inputs of a type."""
    array = constant(op.operands[1])
    assert array is not None
    many = isinstance(op, graph.MatmulOp) and int(np.prod(array.shape[:-2])) > 1
    bias = constant(op.operands[2]) if len(op.operands) > 2 else None
    is_wide = inputs.storage_dtype.itemsize > 1
    least = np.zeros(1) if bias is None or is_wide else np.abs(bias)
    packs = not (isinstance(op, graph.Conv2DOp) and op.is_depthwise)
    return scheme.grid(
        array,
        None if many else array.ndim - 1,
        array.ndim - 2 if packs else None,
        least / (GREATEST_BIAS * inputs.scales.max()),
    )


def is_elementwise(op: object) -> bool:
    """Whether each element of the result follows from one element of each tensor."""
    is_unary = isinstance(op, UnaryOp) and not isinstance(op, graph.SoftmaxOp | graph.LogSoftmaxOp)
    if is_unary or not isinstance(op, BinaryOp):
        return is_unary
    shapes = [shape_of(v) for v in op.operands if constant(v) is None]
    return all(shape == shape_of(op.results[0]) for shape in shapes)


def _by_channel(value: SSAValue) -> bool:
    """Whether a value is no constant, or one that varies along its last dimension only."""
    array = constant(value)
    if array is None or array.ndim == 0 or array.size == array.shape[-1]:
        return True
    return splat(value) is not None


def stored_type(value: SSAValue) -> QuantType | None:
    """The quantized type behind a tensor of reals, also where its values were moved."""
    while isinstance(value.owner, MOVES):
        value = value.owner.operands[0]
    return quant_of(value.owner.x) if isinstance(value.owner, graph.DequantizeOp) else None


def _f32() -> object:
    return dtypes.element_type(dtypes.f32)


def real_tensors(function: FuncOp) -> list[SSAValue]:
    """The float tensors of a function that are no constants, in program order."""
    values: list[SSAValue] = [*function.args]
    for op in function.body.block.ops:
        if not isinstance(op, ReturnOp):
            values += op.results
    return [v for v in values if is_real(v)]
