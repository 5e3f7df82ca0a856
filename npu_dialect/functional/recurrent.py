"""Recurrent layers, written once over an arithmetic.

On numpy arrays it gives the values of a layer, on operations of `graph` (`passes/unrolling.py`) the
program that computes the same bits.

Sizes: T time steps, B sequences, I inputs, H hidden values, G gates. Weights are [I, G * H] and
[H, G * H] in the order of gates that each layer states. The products of all time steps with the
input weights are one contraction, to which the bias is added. The sum of the recurrent products is
added to that as one number; sums of products start from +0.0 and ascend.

Sources: the equations of LSTM, GRU and RNN in https://onnx.ai/onnx/operators. What they leave open
is as in onnxruntime: the clip does not bound what the last activation of a LSTM gets, and in
reverse a sequence begins with its own last step.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Generic, Protocol, TypeVar

import numpy as np

from npu_dialect import numerics
from npu_dialect.functional.contraction import matmul
from npu_dialect.numerics import Array

V = TypeVar("V")


class Arithmetic(Protocol[V]):
    """What the layers are made of. A `V` is a tensor."""

    def shape(self, x: V) -> tuple[int, ...]:
        """The shape of x."""
        ...

    def full(self, value: float, shape: Sequence[int] = ()) -> V:
        """A f32 tensor of one value."""
        ...

    def matmul(self, a: V, b: V, bias: V | None = None) -> V:
        """a [M, K] times b [K, N] plus bias [N]."""
        ...

    def unary(self, name: str, x: V, *parameters: float) -> V:
        """A function of `numerics` of one tensor."""
        ...

    def binary(self, name: str, a: V, b: V) -> V:
        """A function of `numerics` of two tensors, which broadcast."""
        ...

    def where(self, condition: V, a: V, b: V) -> V:
        """a where the condition holds, else b."""
        ...

    def above(self, lens: V, step: int) -> V | bool:
        """Whether lens > step, as [B, 1]; True or False where that is known of all sequences."""
        ...

    def part(self, x: V, starts: Sequence[int], sizes: Sequence[int]) -> V:
        """A window of x."""
        ...

    def join(self, parts: Sequence[V], axis: int) -> V:
        """The parts one after the other."""
        ...

    def reshape(self, x: V, shape: Sequence[int]) -> V:
        """x in another shape."""
        ...


# Activations


@dataclass(frozen=True)
class Activation:
    """A function by name, with the constants that it may have."""

    name: str
    alpha: float = 0.0
    beta: float = 0.0


def _affine(a: Arithmetic[V], x: V, f: Activation) -> V:
    return a.binary("add", a.binary("mul", x, a.full(f.alpha)), a.full(f.beta))


def _scaled_tanh(a: Arithmetic[V], x: V, f: Activation) -> V:
    inner = a.unary("tanh", a.binary("mul", x, a.full(f.beta)))
    return a.binary("mul", inner, a.full(f.alpha))


def _softsign(a: Arithmetic[V], x: V, f: Activation) -> V:
    return a.binary("div", x, a.binary("add", a.unary("abs", x), a.full(1.0)))


def _thresholded_relu(a: Arithmetic[V], x: V, f: Activation) -> V:
    return a.where(a.binary("gt", x, a.full(f.alpha)), x, a.full(0.0))


ACTIVATIONS: Mapping[str, Callable[[Arithmetic[Any], Any, Activation], Any]] = {
    "affine": _affine,
    "elu": lambda a, x, f: a.unary("elu", x, f.alpha),
    "hard_sigmoid": lambda a, x, f: a.unary("hard_sigmoid", x, f.alpha, f.beta),
    "leaky_relu": lambda a, x, f: a.unary("leaky_relu", x, f.alpha),
    "relu": lambda a, x, f: a.unary("relu", x),
    "scaled_tanh": _scaled_tanh,
    "sigmoid": lambda a, x, f: a.unary("sigmoid", x),
    "softplus": lambda a, x, f: a.unary("softplus", x),
    "softsign": _softsign,
    "tanh": lambda a, x, f: a.unary("tanh", x),
    "thresholded_relu": _thresholded_relu,
}
"""affine: alpha * x + beta; scaled_tanh: alpha * tanh(beta * x); softsign: x / (1 + |x|);
thresholded_relu: x where x > alpha, else 0; the others as in `numerics`."""


# Layers


@dataclass(frozen=True)
class Sizes:
    """Time steps T, sequences B, inputs I, hidden values H."""

    steps: int
    batch: int
    inputs: int
    hidden: int


@dataclass(frozen=True)
class Settings:
    """What is fixed when a layer is made. `activations` are those of the layer, in its order."""

    activations: Sequence[Activation]
    reverse: bool = False
    clip: float | None = None


@dataclass(frozen=True)
class Weights(Generic[V]):
    """x [T, B, I], w [I, G * H], r [H, G * H], bias and recurrent_bias [G * H], lens [B]."""

    x: V
    w: V
    r: V
    bias: V
    recurrent_bias: V
    lens: V


@dataclass(frozen=True)
class Outputs(Generic[V]):
    """y [T, B, H], 0 after the end of a sequence; the states [B, H] after the last step."""

    y: V
    states: tuple[V, ...]


Inputs = Callable[[int, int], V]
"""The gates' inputs x W + bias of one time step, [B, n * H]: from which gate on, of how many."""

Cell = Callable[[Inputs[V], tuple[V, ...]], tuple[V, ...]]
"""The next states, of the gates' inputs and the states; the first one is the output."""


@dataclass(frozen=True)
class Layer(Generic[V]):
    """One direction of a layer, for one arithmetic."""

    a: Arithmetic[V]
    sizes: Sizes
    settings: Settings
    weights: Weights[V]

    def lstm(
        self, h: V, c: V, peepholes: V | None = None, input_forget: bool = False
    ) -> Outputs[V]:
        """Gates input, output, forget, cell; peepholes [3 * H] of the first three.

        i = f(xi + h Ri + pi c); k = f(xf + h Rf + pf c), or 1 - i with `input_forget`;
        g = g(xg + h Rg); c' = k c + i g; o = f(xo + h Ro + po c'); h' = o h(c').
        """
        a, r = self.a, self.weights.r
        pi, po, pf = [None] * 3 if peepholes is None else self._split(peepholes, 3)

        def cell(inputs: Inputs[V], states: tuple[V, ...]) -> tuple[V, ...]:
            h, c = states
            xi, xo, xf, xg = self._split(self._plus(inputs(0, 4), h, r), 4)
            i = self._gate(self._seen(xi, pi, c), 0)
            if input_forget:
                k = a.binary("sub", a.full(1.0), i)
            else:
                k = self._gate(self._seen(xf, pf, c), 0)
            kept, added = a.binary("mul", k, c), a.binary("mul", i, self._gate(xg, 1))
            c = a.binary("add", kept, added)
            o = self._gate(self._seen(xo, po, c), 0)
            return a.binary("mul", o, self._activate(c, 2)), c

        return self._run(cell, self._both_biases(), (h, c))

    def gru(self, h: V, linear_before_reset: bool = False) -> Outputs[V]:
        """Gates update, reset, hidden. z = f(xz + h Rz); r = f(xr + h Rr);
        n = g(xn + (r h) Rn), or g(xn + r (h Rn + bn)) with `linear_before_reset`;
        h' = (1 - z) n + z h.
        """
        a, weights = self.a, self.weights
        r, rn = self._columns(weights.r, 0, 2), self._columns(weights.r, 2)
        bias, bn = self._gru_biases(linear_before_reset)

        def cell(inputs: Inputs[V], states: tuple[V, ...]) -> tuple[V, ...]:
            (h,) = states
            z, reset = self._split(self._plus(inputs(0, 2), h, r), 2)
            z, reset = self._gate(z, 0), self._gate(reset, 0)
            if linear_before_reset:
                n = a.binary("add", a.binary("mul", reset, a.matmul(h, rn, bn)), inputs(2, 1))
            else:
                n = self._plus(inputs(2, 1), a.binary("mul", reset, h), rn)
            n = self._gate(n, 1)
            fresh = a.binary("mul", a.binary("sub", a.full(1.0), z), n)
            return (a.binary("add", fresh, a.binary("mul", z, h)),)

        return self._run(cell, bias, (h,))

    def rnn(self, h: V) -> Outputs[V]:
        """h' = f(x + h R)."""

        def cell(inputs: Inputs[V], states: tuple[V, ...]) -> tuple[V, ...]:
            return (self._gate(self._plus(inputs(0, 1), states[0], self.weights.r), 0),)

        return self._run(cell, self._both_biases(), (h,))

    # Time

    def _run(self, cell: Cell[V], bias: V, states: tuple[V, ...]) -> Outputs[V]:
        """All time steps; a sequence that has ended keeps its states and gives 0."""
        n = self.sizes
        order, shape = range(n.steps), (n.batch, n.hidden)
        rows = self.a.reshape(self.weights.x, (n.steps * n.batch, n.inputs))
        projected = self.a.matmul(rows, self.weights.w, bias)
        found: dict[int, V] = {}
        for t in reversed(order) if self.settings.reverse else order:
            active = self.a.above(self.weights.lens, t)
            if active is not False:
                new = cell(partial(self._inputs, projected, t), states)
                states = self._kept(active, new, states)
                found[t] = self._output(active, new[0])
        outputs = [found[t] if t in found else self.a.full(0.0, shape) for t in order]
        joined = self.a.join(outputs, 0)
        return Outputs(self.a.reshape(joined, (n.steps, *shape)), states)

    def _inputs(self, projected: V, t: int, gate: int, count: int) -> V:
        """The rows of time step t, and the columns of some gates."""
        n = self.sizes
        starts, sizes = (t * n.batch, gate * n.hidden), (n.batch, count * n.hidden)
        return self.a.part(projected, starts, sizes)

    def _kept(self, active: V | bool, new: tuple[V, ...], old: tuple[V, ...]) -> tuple[V, ...]:
        if isinstance(active, bool):
            return new
        return tuple(self.a.where(active, x, y) for x, y in zip(new, old, strict=True))

    def _output(self, active: V | bool, h: V) -> V:
        return h if isinstance(active, bool) else self.a.where(active, h, self.a.full(0.0))

    # Parts of a step

    def _plus(self, x: V, h: V, r: V) -> V:
        return self.a.binary("add", self.a.matmul(h, r), x)

    def _seen(self, x: V, peephole: V | None, c: V) -> V:
        if peephole is None:
            return x
        return self.a.binary("add", x, self.a.binary("mul", c, peephole))

    def _gate(self, x: V, index: int) -> V:
        """The activation `index` of the clipped input."""
        clip = self.settings.clip
        return self._activate(x if clip is None else self.a.unary("clamp", x, -clip, clip), index)

    def _activate(self, x: V, index: int) -> V:
        f = self.settings.activations[index]
        return ACTIVATIONS[f.name](self.a, x, f)

    # By gate, in the last dimension

    def _columns(self, x: V, gate: int, count: int = 1) -> V:
        rows, size = self.a.shape(x)[:-1], self.sizes.hidden
        return self.a.part(x, (*[0] * len(rows), gate * size), (*rows, count * size))

    def _split(self, x: V, gates: int) -> list[V]:
        return [self._columns(x, k) for k in range(gates)]

    def _both_biases(self) -> V:
        return self.a.binary("add", self.weights.bias, self.weights.recurrent_bias)

    def _gru_biases(self, linear_before_reset: bool) -> tuple[V, V | None]:
        """The bias of the projection, and that of the recurrent product of the hidden gate."""
        if not linear_before_reset:
            return self._both_biases(), None
        gates = self._columns(self._both_biases(), 0, 2), self._columns(self.weights.bias, 2)
        return self.a.join(gates, 0), self._columns(self.weights.recurrent_bias, 2)


# Blocks

_UNARY: Mapping[str, Callable[..., Array]] = {
    **numerics.UNARY,
    "clamp": numerics.clamp,
    "elu": numerics.elu,
    "hard_sigmoid": numerics.hard_sigmoid,
    "leaky_relu": numerics.leaky_relu,
}
_BINARY: Mapping[str, Callable[[Array, Array], Array]] = numerics.BINARY | numerics.COMPARISON


class Blocks(Arithmetic[Array]):
    """The arithmetic on numpy arrays."""

    def shape(self, x: Array) -> tuple[int, ...]:
        return x.shape

    def full(self, value: float, shape: Sequence[int] = ()) -> Array:
        return np.full(tuple(shape), value, np.float32)

    def matmul(self, a: Array, b: Array, bias: Array | None = None) -> Array:
        sums = matmul(a, b)
        return sums if bias is None else numerics.add(sums, bias)

    def unary(self, name: str, x: Array, *parameters: float) -> Array:
        return _UNARY[name](x, *parameters)

    def binary(self, name: str, a: Array, b: Array) -> Array:
        return _BINARY[name](a, b)

    def where(self, condition: Array, a: Array, b: Array) -> Array:
        return numerics.where(condition, a, b)

    def above(self, lens: Array, step: int) -> Array | bool:
        active = lens > step
        if active.all() or not active.any():
            return bool(active.all())
        return active[:, np.newaxis]

    def part(self, x: Array, starts: Sequence[int], sizes: Sequence[int]) -> Array:
        return x[tuple(slice(k, k + n) for k, n in zip(starts, sizes, strict=True))]

    def join(self, parts: Sequence[Array], axis: int) -> Array:
        return np.concatenate(parts, axis)

    def reshape(self, x: Array, shape: Sequence[int]) -> Array:
        return x.reshape(shape)
