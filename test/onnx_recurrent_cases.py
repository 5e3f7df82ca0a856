"""One-node ONNX models of the recurrent operators.

B sequences of T time steps of I numbers, H hidden values, D directions. Weights are small, so that
a difference of one bit in a state does not grow.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from onnx_cases import Array, Case

GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}
ACTIVATIONS = (
    "Affine", "Elu", "HardSigmoid", "LeakyRelu", "Relu", "ScaledTanh", "Sigmoid", "Softplus",
    "Softsign", "Tanh", "ThresholdedRelu",
)  # fmt: skip
WEIGHTS = (1, 2, 3, 7)
"""The positions of W, R, B and P."""


def inputs(
    op_type: str,
    steps: int = 4,
    batch: int = 2,
    size: int = 3,
    hidden: int = 5,
    directions: int = 1,
    lens: Sequence[int] | None = None,
    optional: bool = True,
    seed: int = 0,
) -> list[Array | None]:
    """X, W, R and, where `optional`, B, sequence_lens, the initial states and peepholes."""
    rng, d, width = np.random.default_rng(seed), directions, GATES[op_type] * hidden

    def array(*shape: int) -> Array:
        return rng.uniform(-0.5, 0.5, shape).astype(np.float32)

    found: list[Array | None] = [
        array(steps, batch, size), array(d, width, size), array(d, width, hidden)
    ]  # fmt: skip
    if not optional:
        return found
    known = None if lens is None else np.array(lens, np.int32)
    found += [array(d, 2 * width), known, array(d, batch, hidden)]
    if op_type == "LSTM":
        found += [array(d, batch, hidden), array(d, 3 * hidden)]
    return found


def case(op_type: str, label: str = "", opset: int = 14, **options: Any) -> Case:
    """A case; `options` are those of `inputs` and attributes."""
    names = ("steps", "batch", "size", "hidden", "directions", "lens", "optional", "seed")
    given = inputs(op_type, **{n: options.pop(n) for n in names if n in options})
    first, hidden = given[1], given[2]
    assert first is not None
    assert hidden is not None
    direction = "bidirectional" if first.shape[0] == 2 else "forward"
    attributes = {"hidden_size": hidden.shape[2], "direction": direction} | options
    known = tuple(k for k in WEIGHTS if k < len(given))
    outputs = 3 if op_type == "LSTM" else 2
    return Case(op_type, given, attributes, known, outputs, opset, label=label)


RECURRENT = [
    *[case(n, "plain", opset, optional=False) for n in GATES for opset in (7, 14, 22)],
    *[case(n, "all inputs") for n in GATES],
    *[case(n, "reverse", direction="reverse", lens=(2, 4)) for n in GATES],
    *[case(n, "bidirectional", directions=2, lens=(4, 1)) for n in GATES],
    *[case(n, "clip", clip=0.2) for n in GATES],
    case("LSTM", "input forget", input_forget=1),
    case("GRU", "linear before reset", linear_before_reset=1, directions=2),
]
