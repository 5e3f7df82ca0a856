"""Recurrent layers: LSTM, GRU, RNN, one operation for each layer and direction.

torch has the gates of an LSTM in the order input, forget, cell, output, and those of a GRU as
reset, update, new; `graph` has input, output, forget, cell, and update, reset, new.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from npu_dialect import graph
from npu_dialect.frontends.torch.ops import common
from npu_dialect.frontends.torch.ops.common import Builder, NotExpressible, SSAValue, shape_of
from npu_dialect.frontends.torch.registry import op
from npu_dialect.functional.recurrent import Activation

LSTM_GATES, GRU_GATES, RNN_GATES = (0, 3, 1, 2), (1, 0, 2), (0,)
"""Where torch has each gate of `graph`."""


@dataclass(frozen=True)
class Layer:
    """The operands of one layer in one direction."""

    b: Builder
    weights: Sequence[SSAValue]
    gates: Sequence[int]

    def operands(self, x: SSAValue) -> list[SSAValue]:
        """x, w, r, bias, recurrent bias and lens."""
        b, (steps, batch, _) = self.b, shape_of(x)
        w, r, *biases = (self._ordered(v) for v in self.weights[:4])
        if not biases:
            zeros = b.constant(np.zeros(shape_of(w)[0], np.float32))
            biases = [zeros, zeros]
        lens = b.constant(np.full(batch, steps, np.int32))
        turned = [common.transpose(b, v, (1, 0)) for v in (w, r)]
        return [x, *turned, *biases, lens]

    def _ordered(self, v: SSAValue) -> SSAValue:
        size = shape_of(v)[0] // len(self.gates)
        parts = [common.along(self.b, v, 0, gate * size, size) for gate in self.gates]
        return common.concat(self.b, parts, 0)


def _layers(
    b: Builder, params: Sequence[SSAValue], gates: Sequence[int], has_biases: bool
) -> Iterator[Layer]:
    each = 4 if has_biases else 2
    for k in range(0, len(params), each):
        yield Layer(b, params[k : k + each], gates)


@dataclass(frozen=True)
class Network:
    """What the three operators have in common."""

    b: Builder
    operation: Any
    gates: Sequence[int]
    options: dict[str, Any]

    def run(
        self,
        x: SSAValue,
        states: Sequence[SSAValue],
        params: Sequence[SSAValue],
        has_biases: bool,
        train: bool,
        dropout: float,
        bidirectional: bool,
        batch_first: bool,
    ) -> list[SSAValue]:
        """y and the last states [layers * directions, B, H]."""
        if train and dropout:
            raise NotExpressible("a recurrent layer with dropout in training")
        b, ways = self.b, 2 if bidirectional else 1
        x = common.transpose(b, x, (1, 0, 2)) if batch_first else x
        layers = list(_layers(b, params, self.gates, has_biases))
        if len(layers) * (len(params) // max(len(layers), 1)) != len(params):
            raise NotExpressible("recurrent layers with projections")
        last: list[list[SSAValue]] = []
        for k in range(0, len(layers), ways):
            ys: list[SSAValue] = []
            for way in range(ways):
                made = self._one(layers[k + way], x, states, k + way, bool(way))
                ys.append(made[0])
                last.append(made[1:])
            x = common.concat(b, ys, 2)
        y = common.transpose(b, x, (1, 0, 2)) if batch_first else x
        return [y, *(_stacked(b, same) for same in zip(*last, strict=True))]

    def _one(
        self, layer: Layer, x: SSAValue, states: Sequence[SSAValue], k: int, reverse: bool
    ) -> list[SSAValue]:
        initial = [common.squeeze(self.b, common.along(self.b, s, 0, k, 1), [0]) for s in states]
        made = self.operation(*layer.operands(x), *initial, reverse=reverse, **self.options)
        self.b.insert(made)
        return list(made.results)


def _stacked(b: Builder, values: Sequence[SSAValue]) -> SSAValue:
    return common.concat(b, [common.reshape(b, v, (1, *shape_of(v))) for v in values], 0)


@op("lstm.input")
def lstm(
    b: Builder,
    input: SSAValue,
    hx: Sequence[SSAValue],
    params: Sequence[SSAValue],
    has_biases: bool,
    num_layers: int,
    dropout: float,
    train: bool,
    bidirectional: bool,
    batch_first: bool,
) -> list[SSAValue]:
    """y, the last h, the last c."""
    if shape_of(hx[0])[-1] != shape_of(hx[1])[-1]:
        raise NotExpressible("an LSTM with projections")
    network = Network(b, graph.LSTMOp, LSTM_GATES, {})
    return network.run(input, hx, params, has_biases, train, dropout, bidirectional, batch_first)


@op("gru.input")
def gru(
    b: Builder,
    input: SSAValue,
    hx: SSAValue,
    params: Sequence[SSAValue],
    has_biases: bool,
    num_layers: int,
    dropout: float,
    train: bool,
    bidirectional: bool,
    batch_first: bool,
) -> list[SSAValue]:
    """y, the last h."""
    network = Network(b, graph.GRUOp, GRU_GATES, {"linear_before_reset": True})
    return network.run(input, [hx], params, has_biases, train, dropout, bidirectional, batch_first)


def _register_rnn(name: str, activation: str) -> None:
    @op(name)
    def rnn(
        b: Builder,
        input: SSAValue,
        hx: SSAValue,
        params: Sequence[SSAValue],
        has_biases: bool,
        num_layers: int,
        dropout: float,
        train: bool,
        bidirectional: bool,
        batch_first: bool,
    ) -> list[SSAValue]:
        options = {"activations": (Activation(activation),)}
        network = Network(b, graph.RNNOp, RNN_GATES, options)
        return network.run(
            input, [hx], params, has_biases, train, dropout, bidirectional, batch_first
        )

    del rnn


_register_rnn("rnn_tanh.input", "tanh")
_register_rnn("rnn_relu.input", "relu")
