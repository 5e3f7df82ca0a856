"""Recurrent layers: LSTM, GRU, RNN.

ONNX has the weights of both directions in one tensor, [D, G * H, I]; `graph` has one operation for
each direction, with weights [I, G * H]. The order of gates is the same.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from npu_dialect import dtypes, graph
from npu_dialect.frontends.onnx.ops import common
from npu_dialect.frontends.onnx.ops.common import Builder, Misfit, SSAValue, shape_of
from npu_dialect.frontends.onnx.registry import op
from npu_dialect.functional.recurrent import Activation
from npu_dialect.graph.recurrent import RecurrentOp

DIRECTIONS = {"forward": (False,), "reverse": (True,), "bidirectional": (False, True)}

ACTIVATIONS: dict[str, tuple[str, tuple[float, ...]]] = {
    "affine": ("affine", (1.0, 0.0)),
    "elu": ("elu", (1.0,)),
    "hardsigmoid": ("hard_sigmoid", (0.2, 0.5)),
    "leakyrelu": ("leaky_relu", (0.01,)),
    "relu": ("relu", ()),
    "scaledtanh": ("scaled_tanh", (1.0, 1.0)),
    "sigmoid": ("sigmoid", ()),
    "softplus": ("softplus", ()),
    "softsign": ("softsign", ()),
    "tanh": ("tanh", ()),
    "thresholdedrelu": ("thresholded_relu", (1.0,)),
}
"""The activations by ONNX's name without regard to case: our name, the defaults of alpha and beta.

The defaults are those of the operators of the same name; Affine and ScaledTanh were operators up to
opset 6, without defaults for the latter.
"""


Operands = tuple[SSAValue, SSAValue, SSAValue, SSAValue, SSAValue, SSAValue]


@dataclass(frozen=True)
class Layer:
    """What the inputs and attributes of the three operators have in common."""

    b: Builder
    x: SSAValue
    w: SSAValue
    r: SSAValue
    biases: SSAValue | None
    lens: SSAValue
    reverse: Sequence[bool]
    batch_first: bool
    activations: Sequence[Activation]

    def operands(self, direction: int) -> Operands:
        """x, w, r, bias, recurrent bias and lens of one direction."""
        b, w, r = self.b, _of(self.b, self.w, direction), _of(self.b, self.r, direction)
        width = shape_of(w)[0]
        own, recurrent = self._biases(direction, width)
        w, r = common.transpose(b, w, (1, 0)), common.transpose(b, r, (1, 0))
        return self.x, w, r, own, recurrent, self.lens

    def _biases(self, direction: int, width: int) -> tuple[SSAValue, SSAValue]:
        if self.biases is None:
            zeros = self.b.constant(np.zeros(width, np.float32))
            return zeros, zeros
        both = _of(self.b, self.biases, direction)
        _fits("B", both, (2 * width,))
        own, recurrent = (common.along(self.b, both, 0, k * width, width) for k in (0, 1))
        return own, recurrent

    def state(self, states: SSAValue | None, direction: int) -> SSAValue:
        """The initial state [B, H] of one direction, 0 where there is none."""
        batch, hidden = shape_of(self.x)[1], shape_of(self.r)[-1]
        if states is None:
            return self.b.constant(np.zeros((batch, hidden), np.float32))
        if self.batch_first:
            states = common.transpose(self.b, states, (1, 0, 2))
        return _of(self.b, states, direction)

    def functions(self, direction: int) -> Sequence[Activation]:
        """The activations of one direction."""
        count = len(self.activations) // len(self.reverse)
        return self.activations[direction * count : (direction + 1) * count]

    def results(self, ops: Sequence[RecurrentOp]) -> list[SSAValue]:
        """Y [T, D, B, H] and the states [D, B, H], of the operations of all directions."""
        b = self.b
        for made in ops:
            b.insert(made)
        y = _stacked(b, [made.results[0] for made in ops], 1)
        states = [_stacked(b, same, 0) for same in zip(*(o.results[1:] for o in ops), strict=True)]
        if not self.batch_first:
            return [y, *states]
        turned = [common.transpose(b, state, (1, 0, 2)) for state in states]
        return [common.transpose(b, y, (2, 0, 1, 3)), *turned]


def _of(b: Builder, values: SSAValue, direction: int) -> SSAValue:
    """The part of one direction, the first dimension."""
    if direction >= shape_of(values)[0]:
        raise Misfit(f"{direction + 1} directions and the shape {list(shape_of(values))}")
    return common.squeeze(b, common.along(b, values, 0, direction, 1), [0])


def _stacked(b: Builder, values: Sequence[SSAValue], axis: int) -> SSAValue:
    """The values along a new dimension."""
    shape = shape_of(values[0])
    parts = [common.reshape(b, v, (*shape[:axis], 1, *shape[axis:])) for v in values]
    return common.concat(b, parts, axis)


def _fits(what: str, value: SSAValue, shape: Sequence[int]) -> None:
    if shape_of(value) != tuple(shape):
        raise Misfit(f"{what} of {list(shape_of(value))} where {list(shape)} is needed")


def _layer(
    b: Builder,
    x: SSAValue,
    w: SSAValue,
    r: SSAValue,
    biases: SSAValue | None,
    lens: SSAValue | None,
    *,
    gates: int,
    activations: Sequence[str],
    alphas: Sequence[float] | None,
    betas: Sequence[float] | None,
    direction: str,
    hidden_size: int | None,
    layout: int,
) -> Layer:
    if direction.lower() not in DIRECTIONS:
        raise Misfit(f"the direction {direction}")
    reverse = DIRECTIONS[direction.lower()]
    x = common.transpose(b, x, (1, 0, 2)) if layout else x
    steps, batch, inputs = shape_of(x)
    hidden = shape_of(r)[-1]
    if hidden_size not in (None, hidden):
        raise Misfit(f"hidden_size {hidden_size} and R of {list(shape_of(r))}")
    _fits("W", w, (len(reverse), gates * hidden, inputs))
    _fits("R", r, (len(reverse), gates * hidden, hidden))
    if lens is None:
        lens = b.constant(np.full(batch, steps, np.int32))
    found = list(_activations(activations, alphas or (), betas or ()))
    return Layer(b, x, w, r, biases, common.cast(b, lens, dtypes.i32), reverse, bool(layout), found)


def _activations(
    names: Sequence[str], alphas: Sequence[float], betas: Sequence[float]
) -> Iterator[Activation]:
    """Alphas and betas go, in order, to the activations that have one."""
    given = iter(alphas), iter(betas)
    for written in names:
        if written.lower() not in ACTIVATIONS:
            raise Misfit(f"the activation {written}")
        name, defaults = ACTIVATIONS[written.lower()]
        yield Activation(name, *(next(g, d) for g, d in zip(given, defaults, strict=False)))


def _names(found: Sequence[str] | None, default: Sequence[str], direction: str) -> Sequence[str]:
    """The activations of all directions."""
    count = 2 if direction.lower() == "bidirectional" else 1
    names = [*default] * count if found is None else found
    if len(names) != len(default) * count:
        raise Misfit(f"{len(names)} activations where {len(default) * count} are needed")
    return names


@op("LSTM")
def lstm(
    b: Builder,
    x: SSAValue,
    w: SSAValue,
    r: SSAValue,
    biases: SSAValue | None = None,
    lens: SSAValue | None = None,
    initial_h: SSAValue | None = None,
    initial_c: SSAValue | None = None,
    peepholes: SSAValue | None = None,
    *,
    activation_alpha: Sequence[float] | None = None,
    activation_beta: Sequence[float] | None = None,
    activations: Sequence[str] | None = None,
    clip: float | None = None,
    direction: str = "forward",
    hidden_size: int | None = None,
    input_forget: int = 0,
    layout: int = 0,
) -> Sequence[SSAValue]:
    """All variants. The clip does not bound the cell state, as in onnxruntime."""
    layer = _layer(
        b, x, w, r, biases, lens, gates=4, alphas=activation_alpha, betas=activation_beta,
        activations=_names(activations, ("Sigmoid", "Tanh", "Tanh"), direction),
        direction=direction, hidden_size=hidden_size, layout=layout,
    )  # fmt: skip
    ops = [
        graph.LSTMOp(
            *layer.operands(k), layer.state(initial_h, k), layer.state(initial_c, k),
            None if peepholes is None else _of(b, peepholes, k), layer.functions(k), reverse,
            clip, bool(input_forget),
        )
        for k, reverse in enumerate(layer.reverse)
    ]  # fmt: skip
    return layer.results(ops)


@op("GRU")
def gru(
    b: Builder,
    x: SSAValue,
    w: SSAValue,
    r: SSAValue,
    biases: SSAValue | None = None,
    lens: SSAValue | None = None,
    initial_h: SSAValue | None = None,
    *,
    activation_alpha: Sequence[float] | None = None,
    activation_beta: Sequence[float] | None = None,
    activations: Sequence[str] | None = None,
    clip: float | None = None,
    direction: str = "forward",
    hidden_size: int | None = None,
    layout: int = 0,
    linear_before_reset: int = 0,
) -> Sequence[SSAValue]:
    """All variants."""
    layer = _layer(
        b, x, w, r, biases, lens, gates=3, alphas=activation_alpha, betas=activation_beta,
        activations=_names(activations, ("Sigmoid", "Tanh"), direction),
        direction=direction, hidden_size=hidden_size, layout=layout,
    )  # fmt: skip
    ops = [
        graph.GRUOp(
            *layer.operands(k), layer.state(initial_h, k), layer.functions(k), reverse, clip,
            bool(linear_before_reset),
        )
        for k, reverse in enumerate(layer.reverse)
    ]  # fmt: skip
    return layer.results(ops)


@op("RNN")
def rnn(
    b: Builder,
    x: SSAValue,
    w: SSAValue,
    r: SSAValue,
    biases: SSAValue | None = None,
    lens: SSAValue | None = None,
    initial_h: SSAValue | None = None,
    *,
    activation_alpha: Sequence[float] | None = None,
    activation_beta: Sequence[float] | None = None,
    activations: Sequence[str] | None = None,
    clip: float | None = None,
    direction: str = "forward",
    hidden_size: int | None = None,
    layout: int = 0,
) -> Sequence[SSAValue]:
    """All variants."""
    if activations == ("Tanh", "Tanh"):  # the default of the schema, for two directions
        activations = None
    layer = _layer(
        b, x, w, r, biases, lens, gates=1, alphas=activation_alpha, betas=activation_beta,
        activations=_names(activations, ("Tanh",), direction),
        direction=direction, hidden_size=hidden_size, layout=layout,
    )  # fmt: skip
    ops = [
        graph.RNNOp(
            *layer.operands(k), layer.state(initial_h, k), layer.functions(k), reverse, clip
        )
        for k, reverse in enumerate(layer.reverse)
    ]
    return layer.results(ops)
