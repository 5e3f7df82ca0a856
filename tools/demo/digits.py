"""A small CNN for scikit-learn's handwritten digits: data, training, export to ONNX, quantization
by onnxruntime.

The data set is the test part of the UCI "Optical Recognition of Handwritten Digits" (E. Alpaydin,
C. Kaynak, 1998), 1,797 images of 8 x 8 pixels with values 0..16, which scikit-learn ships.
"""

from __future__ import annotations

import logging
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from npu_dialect.taps import EXACT_BYTES

Images = npt.NDArray[np.float32]
Labels = npt.NDArray[np.int64]

SEED = 7
TEST_IMAGES = 360


@dataclass(frozen=True)
class Digits:
    """Images [N, 1, 8, 8] with values 0..1, and labels [N]."""

    train_images: Images
    train_labels: Labels
    test_images: Images
    test_labels: Labels


def load() -> Digits:
    """The data, split with a fixed seed."""
    from sklearn.datasets import load_digits  # type: ignore[import-untyped]

    data = cast(Any, load_digits())
    images = (data.images / 16.0).astype(np.float32)[:, None]
    labels = data.target.astype(np.int64)
    order = np.random.default_rng(SEED).permutation(len(labels))
    test, train = order[:TEST_IMAGES], order[TEST_IMAGES:]
    return Digits(images[train], labels[train], images[test], labels[test])


def network() -> Any:
    """Convolutions with a residual connection, pooling and a classifier: 30 thousand parameters."""
    from torch import nn

    class Residual(nn.Module):
        def __init__(self, channels: int):
            super().__init__()
            self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
            self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)

        def forward(self, x: Any) -> Any:
            return nn.functional.relu(x + self.conv2(nn.functional.relu(self.conv1(x))))

    class DigitsNet(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem = nn.Conv2d(1, 16, 3, padding=1)
            self.block = Residual(16)
            self.pool = nn.MaxPool2d(2)
            self.widen = nn.Conv2d(16, 32, 3, padding=1)
            self.depthwise = nn.Conv2d(32, 32, 3, padding=1, groups=32)
            self.mix = nn.Conv2d(32, 48, 1)
            self.classifier = nn.Linear(48 * 16, 10)

        def forward(self, image: Any) -> Any:
            relu = nn.functional.relu
            x = self.block(relu(self.stem(image)))
            x = relu(self.widen(self.pool(x)))
            x = relu(self.mix(relu(self.depthwise(x))))
            return self.classifier(x.flatten(1))

    return DigitsNet()


def train(digits: Digits, epochs: int = 30) -> Any:
    """The trained network, in evaluation mode. Same seed, same result on one machine."""
    import torch

    torch.manual_seed(SEED)
    torch.set_num_threads(1)  # a network this small is slower on several
    net = network()
    optimizer = torch.optim.Adam(net.parameters(), 2e-3, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs)
    images, labels = torch.from_numpy(digits.train_images), torch.from_numpy(digits.train_labels)
    for _ in range(epochs):
        for batch in torch.randperm(len(labels)).split(64):
            loss = torch.nn.functional.cross_entropy(net(images[batch]), labels[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        schedule.step()
    return net.eval()


def export(net: Any, path: Path) -> None:
    """The network as an ONNX file with one image per call."""
    import torch

    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            net,
            (torch.zeros(1, 1, 8, 8),),
            str(path),
            input_names=["image"],
            output_names=["logits"],
            dynamo=True,
            external_data=False,
            verbose=False,
        )


def quantize(source: Path, path: Path, digits: Digits) -> None:
    """onnxruntime's static quantization of `source`: QDQ form, u8 activations, s8 weights per
    channel.
    """
    from onnxruntime import quantization as q  # type: ignore[import-untyped]

    class Reader(q.CalibrationDataReader):
        def __init__(self, images: Images):
            self.images = iter(images)

        def get_next(self) -> dict[str, Images] | None:
            image = next(self.images, None)
            return None if image is None else {"image": image[None]}

    logging.disable(logging.WARNING)
    q.quantize_static(
        str(source),
        str(path),
        Reader(digits.train_images[:128]),
        quant_format=q.QuantFormat.QDQ,
        per_channel=True,
        activation_type=q.QuantType.QUInt8,
        weight_type=q.QuantType.QInt8,
    )
    logging.disable(logging.NOTSET)


def run_onnxruntime(path: Path, images: Images, optimize: bool = False) -> npt.NDArray[np.float32]:
    """Logits [N, 10] by onnxruntime, one image per call; graph optimizations off unless asked
    for.
    """
    import onnxruntime as ort  # type: ignore[import-untyped]

    options = ort.SessionOptions()
    options.add_session_config_entry(*EXACT_BYTES)
    if not optimize:
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return np.concatenate([session.run(None, {"image": image[None]})[0] for image in images])
