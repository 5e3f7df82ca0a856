"""Recurrent layers of one direction: all time steps of a LSTM, a GRU or a plain recurrence.

T time steps of B sequences of I numbers come as x [T, B, I]; the weights are w [I, G * H] of the
inputs and r [H, G * H] of the states, the gates G in the order that the operation states; there is
a bias [G * H] for each. lens [B] says how many steps a sequence has (T where all have): beyond
them its states stay, and its outputs are 0. With `reverse` the last step comes first. A layer of
two directions is two operations, whose results are joined.

The meaning is that of `npu_dialect/functional/recurrent.py`, in its order of arithmetic.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar, TypeVar, cast

from xdsl.dialects.builtin import (
    ArrayAttr,
    DenseArrayBase,
    Float32Type,
    LocationAttr,
    StringAttr,
    TensorType,
    f32,
    i32,
)
from xdsl.ir import Attribute, SSAValue
from xdsl.irdl import (
    irdl_op_definition,
    operand_def,
    opt_operand_def,
    opt_prop_def,
    prop_def,
    result_def,
)

from npu_dialect.functional.recurrent import (
    ACTIVATIONS,
    Activation,
    Arithmetic,
    Blocks,
    Layer,
    Outputs,
    Settings,
    Sizes,
    Weights,
)
from npu_dialect.graph.attributes import Integer, Real, integer, real, string
from npu_dialect.graph.base import (
    Array,
    GraphOp,
    Properties,
    Tensor,
    Types,
    Value,
    require_rank,
    restore,
    shape_of,
    tensor_type,
    type_of,
)

V = TypeVar("V")
Reals = DenseArrayBase[Float32Type]

SIGMOID, TANH = Activation("sigmoid"), Activation("tanh")

GRU_ACTIVATIONS = (SIGMOID, TANH)
LSTM_ACTIVATIONS = (SIGMOID, TANH, TANH)


class RecurrentOp(GraphOp, ABC):
    """What the layers share: operands up to the first state, y [T, B, H] and the last state."""

    GATES: ClassVar[int]
    STATES: ClassVar[int] = 1
    ACTIVATIONS: ClassVar[int]

    x = operand_def(TensorType)
    w = operand_def(TensorType)
    r = operand_def(TensorType)
    bias = operand_def(TensorType)
    recurrent_bias = operand_def(TensorType)
    lens = operand_def(TensorType)
    initial_h = operand_def(TensorType)
    activations = prop_def(ArrayAttr[StringAttr])
    parameters = opt_prop_def(Reals)
    reverse = prop_def(Integer)
    clip = opt_prop_def(Real)
    y = result_def(TensorType)
    h = result_def(TensorType)

    @abstractmethod
    def unrolled(self, a: Arithmetic[V], operands: Sequence[V]) -> Outputs[V]:
        """The results in an arithmetic, for operands in it."""

    @property
    def sizes(self) -> Sizes:
        """T, B, I and H."""
        steps, batch, inputs = shape_of(self.x)
        return Sizes(steps, batch, inputs, shape_of(self.initial_h)[1])

    @property
    def functions(self) -> list[Activation]:
        """The activations, with their alpha and beta."""
        names = [name.data for name in self.activations]
        found = [0.0] * (2 * len(names)) if self.parameters is None else _reals(self.parameters)
        return [
            Activation(name, *pair)
            for name, *pair in zip(names, found[::2], found[1::2], strict=True)
        ]

    def _layer(self, a: Arithmetic[V], operands: Sequence[V]) -> Layer[V]:
        clip = None if self.clip is None else self.clip.value.data
        settings = Settings(self.functions, bool(self.reverse.value.data), clip)
        return Layer(a, self.sizes, settings, Weights(*operands[:6]))

    def evaluate(self, *operands: Array) -> tuple[Array, ...]:
        found = self.unrolled(Blocks(), operands)
        arrays = (found.y, *found.states)
        return tuple(restore(v, r) for v, r in zip(arrays, self.results, strict=True))

    def _init(
        self, operands: Sequence[Value], properties: Properties, location: LocationAttr | None
    ) -> None:
        found = [SSAValue.get(v) for v in operands]
        try:
            results = self.infer([type_of(v) for v in found])
            self._check_properties(properties)
        except ValueError as error:
            raise ValueError(f"{self.name}: {error}") from error
        self._setup(found, properties, results, location)

    @classmethod
    def infer(cls, types: Types) -> list[Tensor]:
        """The types of the results. Raises ValueError where those of the operands do not fit."""
        steps, batch, inputs = require_rank("the input", types[0], 3)
        _, hidden = require_rank("the first state", types[6], 2)
        if not steps:
            raise ValueError(f"there must be at least one time step; found {types[0]}")
        width = cls.GATES * hidden
        rows: list[tuple[str, tuple[int, ...]]] = [
            ("the input weights", (inputs, width)),
            ("the recurrent weights", (hidden, width)),
            ("the bias", (width,)),
            ("the recurrent bias", (width,)),
        ]
        state = tensor_type((batch, hidden), f32)
        _require("the input", types[0], tensor_type((steps, batch, inputs), f32))
        for (what, shape), found in zip(rows, types[1:5], strict=True):
            _require(what, found, tensor_type(shape, f32))
        _require("the lengths", types[5], tensor_type((batch,), i32))
        for found in types[6 : 6 + cls.STATES]:
            _require("an initial state", found, state)
        for found in types[6 + cls.STATES :]:
            _require("the peepholes", found, tensor_type((3 * hidden,), f32))
        return [tensor_type((steps, batch, hidden), f32), *[state] * cls.STATES]

    def check_types(self) -> None:
        expected = self.infer([type_of(v) for v in self.operands])
        if list(self.result_types) != expected:
            texts = [", ".join(map(str, types)) for types in (expected, self.result_types)]
            raise ValueError(f"the results must have the types {texts[0]}; found {texts[1]}")
        self._check_properties(self.properties)

    @classmethod
    def _check_properties(cls, properties: Properties) -> None:
        activations = cast(ArrayAttr[StringAttr], properties["activations"])
        names = [name.data for name in activations]
        if len(names) != cls.ACTIVATIONS or not set(names) <= ACTIVATIONS.keys():
            raise ValueError(
                f"there must be {cls.ACTIVATIONS} activations of {', '.join(ACTIVATIONS)}; "
                f"found {', '.join(names)}"
            )
        parameters = properties.get("parameters")
        if parameters is not None and len(_reals(parameters)) != 2 * len(names):
            raise ValueError(
                f"the parameters must be alpha and beta of each activation; found {parameters}"
            )


def _require(what: str, found: Tensor, expected: Tensor) -> None:
    if found != expected:
        raise ValueError(f"{what} must be {expected}; found {found}")


def _reals(attribute: Attribute) -> tuple[float, ...]:
    return tuple(float(v) for v in cast(Reals, attribute).iter_values())


def _common(
    activations: Sequence[Activation], reverse: bool, clip: float | None
) -> dict[str, Attribute]:
    """The properties that all layers have."""
    found: dict[str, Attribute] = {"activations": ArrayAttr([string(f.name) for f in activations])}
    parameters = [number for f in activations for number in (f.alpha, f.beta)]
    if any(parameters):
        found["parameters"] = DenseArrayBase.from_list(f32, parameters)
    found["reverse"] = integer(reverse)
    if clip is not None:
        found["clip"] = real(clip)
    return found


class CellOp(GraphOp, ABC):
    """A second state. It is a base of its own because operands and results are ordered by base."""

    initial_c = operand_def(TensorType)
    peepholes = opt_operand_def(TensorType)
    c = result_def(TensorType)


@irdl_op_definition
class LSTMOp(RecurrentOp, CellOp):
    """Long short-term memory. Gates: input, output, forget, cell. Activations: of the first three,
    of the cell, of the output. Results: y, the last h, the last c.

    i = f(xi + h Ri + pi c); k = f(xf + h Rf + pf c), or 1 - i with `input_forget`;
    g = g(xg + h Rg); c' = k c + i g; o = f(xo + h Ro + po c'); h' = o h(c'), where x is the
    product with w plus both biases. The last operand, peepholes [3 * H] of input, output and forget
    gate, may be missing. `clip` bounds what the activations of the gates get.

    `%8, %9, %10 = graph.lstm %0, %1, %2, %3, %4, %5, %6, %7
    {activations = ["sigmoid", "tanh", "tanh"], reverse = 0, input_forget = 0}
    : (tensor<3x1x4xf32>, tensor<4x8xf32>, tensor<2x8xf32>, tensor<8xf32>, tensor<8xf32>,
    tensor<1xi32>, tensor<1x2xf32>, tensor<1x2xf32>)
    -> (tensor<3x1x2xf32>, tensor<1x2xf32>, tensor<1x2xf32>)`
    """

    name = "graph.lstm"
    GATES: ClassVar[int] = 4
    STATES: ClassVar[int] = 2
    ACTIVATIONS: ClassVar[int] = 3

    input_forget = prop_def(Integer)

    def __init__(
        self,
        x: Value,
        w: Value,
        r: Value,
        bias: Value,
        recurrent_bias: Value,
        lens: Value,
        initial_h: Value,
        initial_c: Value,
        peepholes: Value | None = None,
        activations: Sequence[Activation] = LSTM_ACTIVATIONS,
        reverse: bool = False,
        clip: float | None = None,
        input_forget: bool = False,
        location: LocationAttr | None = None,
    ) -> None:
        operands = [x, w, r, bias, recurrent_bias, lens, initial_h, initial_c]
        if peepholes is not None:
            operands.append(peepholes)
        properties = _common(activations, reverse, clip) | {"input_forget": integer(input_forget)}
        self._init(operands, properties, location)

    def unrolled(self, a: Arithmetic[V], operands: Sequence[V]) -> Outputs[V]:
        peepholes = operands[8] if len(operands) > 8 else None
        forget = bool(self.input_forget.value.data)
        return self._layer(a, operands).lstm(operands[6], operands[7], peepholes, forget)


@irdl_op_definition
class GRUOp(RecurrentOp):
    """Gated recurrent unit. Gates: update, reset, hidden. Activations: of the first two, of the
    hidden gate. Results: y, the last h.

    z = f(xz + h Rz); r = f(xr + h Rr); n = g(xn + (r h) Rn); h' = (1 - z) n + z h, where x is the
    product with w plus both biases. With `linear_before_reset` n = g(xn + r (h Rn + bn)), where
    bn, the recurrent bias of the hidden gate, is not in xn (as torch has it).

    `%7, %8 = graph.gru %0, %1, %2, %3, %4, %5, %6
    {activations = ["sigmoid", "tanh"], reverse = 0, linear_before_reset = 1}
    : (tensor<3x1x4xf32>, tensor<4x6xf32>, tensor<2x6xf32>, tensor<6xf32>, tensor<6xf32>,
    tensor<1xi32>, tensor<1x2xf32>) -> (tensor<3x1x2xf32>, tensor<1x2xf32>)`
    """

    name = "graph.gru"
    GATES: ClassVar[int] = 3
    ACTIVATIONS: ClassVar[int] = 2

    linear_before_reset = prop_def(Integer)

    def __init__(
        self,
        x: Value,
        w: Value,
        r: Value,
        bias: Value,
        recurrent_bias: Value,
        lens: Value,
        initial_h: Value,
        activations: Sequence[Activation] = GRU_ACTIVATIONS,
        reverse: bool = False,
        clip: float | None = None,
        linear_before_reset: bool = False,
        location: LocationAttr | None = None,
    ) -> None:
        properties = _common(activations, reverse, clip)
        properties["linear_before_reset"] = integer(linear_before_reset)
        self._init([x, w, r, bias, recurrent_bias, lens, initial_h], properties, location)

    def unrolled(self, a: Arithmetic[V], operands: Sequence[V]) -> Outputs[V]:
        linear = bool(self.linear_before_reset.value.data)
        return self._layer(a, operands).gru(operands[6], linear)


@irdl_op_definition
class RNNOp(RecurrentOp):
    """A plain recurrence: h' = f(x + h R), where x is the product with w plus both biases.

    `%7, %8 = graph.rnn %0, %1, %2, %3, %4, %5, %6 {activations = ["tanh"], reverse = 0}
    : (tensor<3x1x4xf32>, tensor<4x2xf32>, tensor<2x2xf32>, tensor<2xf32>, tensor<2xf32>,
    tensor<1xi32>, tensor<1x2xf32>) -> (tensor<3x1x2xf32>, tensor<1x2xf32>)`
    """

    name = "graph.rnn"
    GATES: ClassVar[int] = 1
    ACTIVATIONS: ClassVar[int] = 1

    def __init__(
        self,
        x: Value,
        w: Value,
        r: Value,
        bias: Value,
        recurrent_bias: Value,
        lens: Value,
        initial_h: Value,
        activations: Sequence[Activation] = (TANH,),
        reverse: bool = False,
        clip: float | None = None,
        location: LocationAttr | None = None,
    ) -> None:
        operands = [x, w, r, bias, recurrent_bias, lens, initial_h]
        self._init(operands, _common(activations, reverse, clip), location)

    def unrolled(self, a: Arithmetic[V], operands: Sequence[V]) -> Outputs[V]:
        return self._layer(a, operands).rnn(operands[6])


OPS = [LSTMOp, GRUOp, RNNOp]
