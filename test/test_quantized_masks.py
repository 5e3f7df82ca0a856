"""Masked attention keeps its accuracy when it is quantized, whatever number the mask has."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import npu_dialect as npu
from npu_dialect import fidelity, pipeline
from npu_dialect.passes.quantizing.masks import distance, greatest
from npu_dialect.quantization import PREPARE

torch = pytest.importorskip("torch")

Array = np.ndarray[Any, np.dtype[Any]]

TOKENS, WIDTH = 8, 16
LEAST = 30.0
"""Decibels; without a mask the same attention has 32.1."""
LESS = 1.0
"""Decibels that a mask may cost."""


class Attention(torch.nn.Module):
    """One head, of which `masking` makes the scores that softmax reads."""

    def __init__(self, masking: Callable[[Any], Any]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.q, self.k, self.v = (torch.nn.Linear(WIDTH, WIDTH) for _ in range(3))
        self.masking = masking

    def forward(self, x: Any) -> Any:
        scores = self.q(x) @ self.k(x).transpose(1, 2) / 4
        return torch.softmax(self.masking(scores), -1) @ self.v(x)


class Causal(Attention):
    def forward(self, x: Any) -> Any:
        attention = torch.nn.functional.scaled_dot_product_attention
        return attention(self.q(x), self.k(x), self.v(x), is_causal=True)


class Given(torch.nn.Module):
    """Attention with the mask as another input."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.q, self.k, self.v = (torch.nn.Linear(WIDTH, WIDTH) for _ in range(3))

    def forward(self, x: Any, mask: Any) -> Any:
        scores = self.q(x) @ self.k(x).transpose(1, 2) / 4
        return torch.softmax(scores + mask, -1) @ self.v(x)


def upper(value: float) -> Any:
    return torch.triu(torch.full((TOKENS, TOKENS), value), 1)


def future() -> Any:
    return torch.triu(torch.ones(TOKENS, TOKENS, dtype=torch.bool), 1)


MASKS: dict[str, Callable[[Any], Any]] = {
    "added -inf": lambda s: s + upper(-math.inf),
    "added -1e4": lambda s: s + upper(-1e4),
    "added -100": lambda s: s + upper(-100.0),
    "filled -inf": lambda s: s.masked_fill(future(), -math.inf),
    "filled -1e9": lambda s: s.masked_fill(future(), -1e9),
    "before a factor": lambda s: s.masked_fill(future(), -1e9) * 0.5,
    "cut at the least float": lambda s: torch.maximum(
        s + upper(-math.inf), torch.tensor(torch.finfo(torch.float32).min)
    ),
}


def samples(count: int) -> Array:
    torch.manual_seed(1)
    found: Array = (torch.randn(count, 1, TOKENS, WIDTH) * 2).numpy()
    return found


def noise(exact: Array, found: Array) -> float:
    """Signal to noise in dB."""
    return float(10 * np.log10((exact**2).sum() / ((exact - found) ** 2).sum()))


def quantized(net: Any, scheme: str = "int8") -> tuple[float, Any]:
    """The signal-to-noise ratio of the program of a network, beside torch, and the program."""
    x = samples(48)
    example = (torch.from_numpy(x[0]),)
    program = npu.compile(net.eval(), example, target="edge256", quantize=scheme, calibrate=x[:32])
    name = program.inputs[0].name
    exact = np.stack([net(torch.from_numpy(each)).detach().numpy() for each in x[32:]])
    runs = [npu.simulate(program, {name: each}) for each in x[32:]]
    return noise(exact, np.stack([next(iter(run.outputs.values())) for run in runs])), program


@pytest.mark.parametrize("mask", MASKS)
def test_a_mask_costs_no_accuracy(mask: str):
    found, program = quantized(Attention(MASKS[mask]))
    assert found > LEAST
    assert all(row.engine != "host" for row in program.placement)


@pytest.mark.parametrize("scheme", ["int8", "uint8", "int16x8"])
def test_causal_attention_has_the_accuracy_of_that_without_a_mask(scheme: str):
    whole, _ = quantized(Attention(lambda scores: scores), scheme)
    assert quantized(Causal(lambda scores: scores), scheme)[0] > whole - LESS


@pytest.mark.parametrize("value", [-math.inf, -3.4e38, -1e4])
def test_a_mask_may_be_an_input(value: float):
    net = Given().eval()
    x, mask = samples(48), upper(value)[None].numpy()
    program = npu.compile(
        net,
        (torch.from_numpy(x[0]), torch.from_numpy(mask)),
        target="edge256",
        quantize="int8",
        calibrate=[{"x": each, "mask": mask} for each in x[:32]],
    )
    exact, found = [], []
    for each in x[32:]:
        exact.append(net(torch.from_numpy(each), torch.from_numpy(mask)).detach().numpy())
        run = npu.simulate(program, {"x": each, "mask": mask})
        found.append(next(iter(run.outputs.values())))
    assert noise(np.stack(exact), np.stack(found)) > LEAST


def test_a_row_that_is_wholly_masked_is_uniform_and_costs_the_others_nothing():
    padding = torch.zeros(TOKENS, TOKENS)
    padding[TOKENS - 1] = -1e9
    net = Attention(lambda s: s + upper(-1e9) + padding)
    found, _ = quantized(net)
    assert found > LEAST


def test_a_row_of_minus_infinity_is_refused():
    padding = torch.zeros(TOKENS, TOKENS)
    padding[TOKENS - 1] = -math.inf
    with pytest.raises(npu.CompileError, match="must be finite"):
        quantized(Attention(lambda s: s + padding))


@pytest.mark.parametrize("elements", [1, 8, 1000])
@pytest.mark.parametrize("levels", [256, 65536])
def test_all_that_is_beyond_the_distance_is_less_than_half_a_step(elements: int, levels: int):
    rest = elements * np.exp(-np.float64(distance(elements, levels)))
    assert rest <= 0.5 / levels * (1 + 1e-12)


def test_rows_that_are_wholly_masked_decide_no_range():
    rows = np.array([[0.5, -1e9], [-1e9, -1e9], [-2.0, -np.inf]], np.float32)
    assert greatest(rows, 1).tolist() == [0.5, -2.0]


@pytest.mark.parametrize("mask", MASKS)
def test_what_a_mask_saturates_is_no_noise_of_a_layer(mask: str):
    """As in numpy: the scores that softmax can tell apart, against their steps."""
    x = samples(8)
    net = Attention(MASKS[mask]).eval()
    module = npu.load(torch.export.export(net, (torch.from_numpy(x[0]),)), target="edge256")
    floats = module.clone()
    npu.quantize(module, npu.Quantization("int8", samples=x))
    pipeline.run(floats, ",".join(PREPARE))
    npu.lower(module, until="graph")
    found = fidelity.compare(floats, module, [[each] for each in x])
    assert all(layer.sqnr > LEAST for layer in found.layers)
    assert max(layer.saturated for layer in found.layers) == 0.0
    assert max(layer.worst for layer in found.layers) < 10
