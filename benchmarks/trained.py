"""Networks trained here on real data, in seconds: what quantization does to accuracy is measured on
them.

The data are scikit-learn's handwritten digits, 1,797 images of 8 x 8 pixels (E. Alpaydin,
C. Kaynak, 1998). A seed decides the split, the first weights and the order of training.

  cnn          convolutions with batch normalization, a depthwise one and a residual
  transformer  2 layers of attention over 16 patches; layer normalization, GELU
  gru, lstm    the 8 rows of an image as a sequence; the steps stand in the graph as operations, so
               that every quantizer sees them
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import zoo

Array = npt.NDArray[Any]

TEST = 599
"""Images of the test set: a third."""
CALIBRATION = 128
"""Images of the training set that ranges are found with."""
EPOCHS = {"cnn": 25, "transformer": 60, "gru": 50, "lstm": 50}


@dataclass(frozen=True)
class Digits:
    """Images [N, 1, 8, 8] with values 0..1, and labels [N]."""

    images: Array
    labels: Array
    test_images: Array
    test_labels: Array

    @property
    def calibration(self) -> Array:
        """Some images of the training set."""
        return self.images[:CALIBRATION]


def digits(seed: int) -> Digits:
    """The data, split by a seed."""
    from sklearn.datasets import load_digits  # type: ignore[import-untyped]

    data = cast(Any, load_digits())
    images = (data.images / 16.0).astype(np.float32)[:, None]
    labels = data.target.astype(np.int64)
    order = np.random.default_rng(seed).permutation(len(labels))
    test, train = order[:TEST], order[TEST:]
    return Digits(images[train], labels[train], images[test], labels[test])


def trained(name: str, seed: int, cache: Path) -> Path:
    """The ONNX file of a network, for one image; trained now where the cache has none."""
    path = zoo._place(cache, __file__) / f"{name}_{seed}.onnx"
    if not path.exists():
        net = train(name, seed)
        with zoo._whole(path) as part:
            zoo.export(net, part, (1, 1, 8, 8))
    return path


def train(name: str, seed: int) -> Any:
    """The trained torch module of a name, in evaluation mode."""
    import torch

    data = digits(seed)
    torch.manual_seed(seed)
    torch.set_num_threads(1)  # networks this small are slower on several
    net = NETWORKS[name]()
    optimizer = torch.optim.AdamW(net.parameters(), 3e-3, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, 6e-3, epochs=EPOCHS[name], steps_per_epoch=-(-len(data.labels) // 64)
    )
    images, labels = torch.from_numpy(data.images), torch.from_numpy(data.labels)
    for _ in range(EPOCHS[name]):
        for batch in torch.randperm(len(labels)).split(64):
            loss = torch.nn.functional.cross_entropy(net(images[batch]), labels[batch])
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
            optimizer.step()
            schedule.step()
    return net.eval()


# --- networks -------------------------------------------------------------------------------------


def cnn() -> Any:
    """Five convolutions, 20 thousand parameters."""
    from torch import nn

    def conv(channels: int, out: int, kernel: int, groups: int = 1) -> Any:
        made = nn.Conv2d(channels, out, kernel, padding=kernel // 2, groups=groups, bias=False)
        return nn.Sequential(made, nn.BatchNorm2d(out), nn.ReLU())

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem, self.inner = conv(1, 16, 3), conv(16, 16, 3)
            self.pool, self.widen = nn.MaxPool2d(2), conv(16, 32, 3)
            self.depthwise, self.mix = conv(32, 32, 3, 32), conv(32, 64, 1)
            self.classifier = nn.Linear(64, 10)

        def forward(self, image: Any) -> Any:
            x = self.stem(image)
            x = self.widen(self.pool(x + self.inner(x)))
            return self.classifier(self.mix(self.depthwise(x)).mean((2, 3)))

    return Net()


WIDTH, HEADS, LAYERS = 48, 3, 2
"""Of the transformer."""


def transformer() -> Any:
    """Patches of 2 x 2 pixels, layer normalization before attention and perceptron."""
    import torch
    from torch import nn

    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
            self.query, self.key = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH)
            self.value, self.project = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH)
            self.up, self.down = nn.Linear(WIDTH, 2 * WIDTH), nn.Linear(2 * WIDTH, WIDTH)

        def forward(self, x: Any) -> Any:
            h, (batch, tokens, _) = self.first(x), x.shape
            q, k, v = (
                part(h).reshape(batch, tokens, HEADS, WIDTH // HEADS).transpose(1, 2)
                for part in (self.query, self.key, self.value)
            )
            scores = q @ k.transpose(2, 3) / (WIDTH // HEADS) ** 0.5
            mixed = (scores.softmax(-1) @ v).transpose(1, 2).reshape(batch, tokens, WIDTH)
            x = x + self.project(mixed)
            return x + self.down(nn.functional.gelu(self.up(self.second(x))))

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.patches = nn.Conv2d(1, WIDTH, 2, 2)
            self.places = nn.Parameter(0.1 * torch.randn(1, 16, WIDTH))
            self.blocks = nn.Sequential(*(Block() for _ in range(LAYERS)))
            self.last, self.classifier = nn.LayerNorm(WIDTH), nn.Linear(WIDTH, 10)

        def forward(self, image: Any) -> Any:
            x = self.patches(image).flatten(2).transpose(1, 2) + self.places
            return self.classifier(self.last(self.blocks(x)).mean(1))

    return Net()


HIDDEN = 64
"""Of the recurrent networks."""


def recurrent(cell: str) -> Any:
    """One layer over the rows of an image, from the first to the last."""
    import torch
    from torch import nn

    gates = {"gru": 3, "lstm": 4}[cell]

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.enter, self.back = nn.Linear(8, gates * HIDDEN), nn.Linear(HIDDEN, gates * HIDDEN)
            self.classifier = nn.Linear(HIDDEN, 10)

        def forward(self, image: Any) -> Any:
            state = torch.zeros(image.shape[0], HIDDEN)
            cell_state = torch.zeros_like(state)
            for row in range(8):
                x, h = self.enter(image[:, 0, row]), self.back(state)
                if cell == "gru":
                    state = gru_step(x, h, state)
                else:
                    state, cell_state = lstm_step(x + h, cell_state)
            return self.classifier(state)

    return Net()


def gru_step(x: Any, h: Any, state: Any) -> Any:
    """The new state of a GRU (Cho et al., 2014), its reset after the product as in cuDNN."""
    (xr, xz, xn), (hr, hz, hn) = x.chunk(3, -1), h.chunk(3, -1)
    z = (xz + hz).sigmoid()
    return (1 - z) * (xn + (xr + hr).sigmoid() * hn).tanh() + z * state


def lstm_step(gates: Any, cell: Any) -> tuple[Any, Any]:
    """The new state and cell of an LSTM (Hochreiter, Schmidhuber, 1997)."""
    i, f, g, o = gates.chunk(4, -1)
    cell = f.sigmoid() * cell + i.sigmoid() * g.tanh()
    return o.sigmoid() * cell.tanh(), cell


NETWORKS: dict[str, Callable[[], Any]] = {
    "cnn": cnn,
    "transformer": transformer,
    "gru": lambda: recurrent("gru"),
    "lstm": lambda: recurrent("lstm"),
}
"""The networks by name."""
