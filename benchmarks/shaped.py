"""Models without labels: shapes of well-known networks with random weights, and trained models of
the folder ../shared/models with the inputs that are stored beside them.

  bert       3 encoder blocks on token numbers: embeddings, attention, GELU; norms after sums
  vit        3 blocks on patches of an image; norms before attention and perceptron
  mobilenet  MobileNetV2's blocks on an image of 96 x 96
  lstm_shaped  2 layers of 12 steps, the steps as operations of the graph

Norms have factors between 0.5 and 2, some channels of activations are several times the others, as
in trained transformers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import common
import numpy as np
import numpy.typing as npt
import trained
import zoo

Array = npt.NDArray[Any]

SEED = 31
CALIBRATION, MEASURED = 32, 8
"""Inputs that ranges are found with, and others that noise is measured on."""
TOKENS, WORDS = 32, 1000
WIDTH, HEADS, BLOCKS = 128, 4, 3
MASKED = -1e9
"""What is added to the scores of words that another one must not see."""
STEPS, FEATURES, HIDDEN = 12, 40, 96
SIDE = 96


@dataclass(frozen=True)
class Model:
    """A model with inputs."""

    name: str
    path: Path
    calibration: Sequence[Mapping[str, Array]]
    inputs: Sequence[Mapping[str, Array]]


def cases(cache: Path) -> list[Model]:
    """The models with random weights, built where the cache has none."""
    return [_case(name, cache) for name in SHAPES]


def _case(name: str, cache: Path) -> Model:
    path = zoo._place(cache, __file__) / f"{name}.onnx"
    make, example = SHAPES[name]
    if not path.exists():
        import torch

        torch.manual_seed(SEED)
        with zoo._whole(path) as part:
            _export(make().eval(), part, example(np.random.default_rng(SEED)))
    port, rng = zoo._ports(path)[0].name, np.random.default_rng(SEED)
    inputs = [{port: example(rng)} for _ in range(CALIBRATION + MEASURED)]
    return Model(name, path, inputs[:CALIBRATION], inputs[CALIBRATION:])


def _export(net: Any, path: Path, example: Array) -> None:
    import torch

    with zoo._quiet():
        torch.onnx.export(
            net,
            (torch.from_numpy(example),),
            str(path),
            input_names=["x"],
            output_names=["y"],
            dynamo=True,
            external_data=False,
            verbose=False,
        )


def files() -> list[Model]:
    """Trained float models with the inputs stored beside them, which are few: all of them
    calibrate, and all measure.
    """
    found: list[Model] = []
    for name in FILES:
        path = common.SHARED_MODELS / f"{name}.onnx"
        if path.exists():
            inputs = zoo.inputs(path, 1000)
            found.append(Model(name, path, inputs, inputs))
    return found


FILES = (
    "burn_mnist", "cifar_resnet20", "cct_cifar", "gap_mnist_gru", "deeploy_autoencoder1d",
    "ultraface_rfb320", "yunet_n_320", "winml_mnist", "winml_cifar_cnn", "stories260k_prefill64",
)  # fmt: skip
"""Models of one input, whose products are most of their work. Of gap_mnist_gru onnxruntime leaves
the recurrences in floats, for it has no quantized GRU.
"""


# --- networks -------------------------------------------------------------------------------------


def _image(side: int) -> Callable[[np.random.Generator], Array]:
    def make(rng: np.random.Generator) -> Array:
        return rng.normal(size=(1, 3, side, side)).astype(np.float32)

    return make


def _words(rng: np.random.Generator) -> Array:
    return rng.integers(0, WORDS, (1, TOKENS))


def _frames(rng: np.random.Generator) -> Array:
    return rng.normal(size=(1, STEPS, FEATURES)).astype(np.float32)


def bert() -> Any:
    """Devlin et al., 2018: the norm follows the sum."""
    import torch
    from torch import nn

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.words = nn.Embedding(WORDS, WIDTH)
            self.places = nn.Parameter(0.3 * torch.randn(1, TOKENS, WIDTH))
            self.first = nn.LayerNorm(WIDTH)
            self.blocks = nn.Sequential(*(_block(before=False) for _ in range(BLOCKS)))

        def forward(self, numbers: Any) -> Any:
            return self.blocks(self.first(self.words(numbers) + self.places))

    return _vary(Net())


def decoder() -> Any:
    """Radford et al., 2019: norms before, and no word sees those after it."""
    import torch
    from torch import nn

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.words = nn.Embedding(WORDS, WIDTH)
            self.places = nn.Parameter(0.3 * torch.randn(1, TOKENS, WIDTH))
            self.blocks = nn.Sequential(*(_block(before=True, causal=True) for _ in range(BLOCKS)))
            self.last = nn.LayerNorm(WIDTH)

        def forward(self, numbers: Any) -> Any:
            return self.last(self.blocks(self.words(numbers) + self.places))

    return _vary(Net())


def vit() -> Any:
    """Dosovitskiy et al., 2020, on 32 x 32 pixels in patches of 4 x 4."""
    import torch
    from torch import nn

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.patches = nn.Conv2d(3, WIDTH, 4, 4)
            self.token = nn.Parameter(torch.randn(1, 1, WIDTH))
            self.places = nn.Parameter(0.3 * torch.randn(1, 65, WIDTH))
            self.blocks = nn.Sequential(*(_block(before=True) for _ in range(BLOCKS)))
            self.last, self.classifier = nn.LayerNorm(WIDTH), nn.Linear(WIDTH, 100)

        def forward(self, image: Any) -> Any:
            x = self.patches(image).flatten(2).transpose(1, 2)
            x = self.blocks(torch.cat((self.token, x), 1) + self.places)
            return self.classifier(self.last(x[:, 0]))

    return _vary(Net())


def _block(*, before: bool, causal: bool = False) -> Any:
    """Attention and perceptron beside what they skip; norms before or after; whether words see
    only those before them.
    """
    import torch
    from torch import nn

    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
            self.query, self.key = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH)
            self.value, self.project = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH)
            self.up, self.down = nn.Linear(WIDTH, 4 * WIDTH), nn.Linear(4 * WIDTH, WIDTH)

        def attend(self, x: Any) -> Any:
            heads = (zoo._heads(p(x), HEADS, WIDTH // HEADS)
                     for p in (self.query, self.key, self.value))  # fmt: skip
            q, k, v = heads
            scores = q @ k.transpose(-1, -2) / (WIDTH // HEADS) ** 0.5
            if causal:
                scores = scores + torch.triu(torch.full(scores.shape[-2:], MASKED), 1)
            mixed = (scores.softmax(-1) @ v).transpose(1, 2)
            return self.project(mixed.reshape(*x.shape[:2], WIDTH))

        def think(self, x: Any) -> Any:
            return self.down(nn.functional.gelu(self.up(x)))

        def forward(self, x: Any) -> Any:
            if before:
                x = x + self.attend(self.first(x))
                return x + self.think(self.second(x))
            x = self.first(x + self.attend(x))
            return self.second(x + self.think(x))

    return Block()


def _vary(net: Any) -> Any:
    """Weights that keep variances; factors of norms that differ, a few of them by a lot."""
    import torch
    from torch import nn

    with torch.no_grad():
        for module in net.modules():
            if isinstance(module, nn.Linear):
                nn.init.kaiming_normal_(module.weight, nonlinearity="linear")
                nn.init.normal_(module.bias, std=0.1)
            elif isinstance(module, nn.LayerNorm):
                nn.init.uniform_(module.weight, 0.5, 2.0)
                module.weight[:3] *= 4
                nn.init.normal_(module.bias, std=0.2)
    return net


def mobilenet() -> Any:
    """Some of MobileNetV2's blocks (Sandler et al., 2018)."""
    from torch import nn

    layers: list[Any] = [zoo._conv_bn(3, 16, 3, 2, activation=nn.ReLU6)]
    channels = 16
    for expansion, out, stride in ((1, 8, 1), (6, 16, 2), (6, 16, 1), (6, 32, 2), (6, 32, 1)):
        layers.append(zoo._inverted_residual(channels, out, stride, expansion))
        channels = out
    layers += [zoo._conv_bn(channels, 128, 1, activation=nn.ReLU6)]
    layers += [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(128, 100)]
    net = nn.Sequential(*layers)
    zoo._randomize(net)
    return net


def lstm() -> Any:
    """Two layers, and a product of the last state."""
    import torch
    from torch import nn

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            sizes = (FEATURES, HIDDEN)
            self.enter = nn.ModuleList(nn.Linear(n, 4 * HIDDEN) for n in sizes)
            self.back = nn.ModuleList(nn.Linear(HIDDEN, 4 * HIDDEN) for _ in sizes)
            self.classifier = nn.Linear(HIDDEN, 50)

        def forward(self, x: Any) -> Any:
            states = [torch.zeros(1, HIDDEN) for _ in self.enter]
            cells = [torch.zeros(1, HIDDEN) for _ in self.enter]
            value = x[:, 0]
            for step in range(STEPS):
                value = x[:, step]
                for k, (enter, back) in enumerate(zip(self.enter, self.back, strict=True)):
                    gates = enter(value) + back(states[k])
                    states[k], cells[k] = trained.lstm_step(gates, cells[k])
                    value = states[k]
            return self.classifier(value)

    net = Net()
    with torch.no_grad():
        for module in net.modules():
            if isinstance(module, nn.Linear):
                nn.init.kaiming_normal_(module.weight, nonlinearity="linear")
                nn.init.normal_(module.bias, std=0.1)
    return net


SHAPES: dict[str, tuple[Callable[[], Any], Callable[[np.random.Generator], Array]]] = {
    "bert": (bert, _words),
    "decoder": (decoder, _words),
    "vit": (vit, _image(32)),
    "mobilenet": (mobilenet, _image(SIDE)),
    "lstm_shaped": (lstm, _frames),
}
"""What makes the networks, and an input of each."""
