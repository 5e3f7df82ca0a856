"""The models that the benchmarks run: built here, or found in a folder of ONNX files.

MobileNetV2, ResNet-18 and ResNet-50 have the layer shapes of torchvision's models, MobileBERT those
of the published encoder behind its embeddings. Their weights are random with a fixed seed, scaled
so that values stay alive through all layers, and their normalizations hold statistics and factors
of their own. Files are made once and kept in a cache whose folder depends on this file and on the
packages that made them.
"""

from __future__ import annotations

import argparse
import hashlib
import logging
import os
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

SEED = 18
IMAGE = (1, 3, 224, 224)
EMBEDDINGS = (1, 128, 512)
"""What enters MobileBERT's first block: sequences, tokens, features."""
CALIBRATION_INPUTS = 4
MAKERS = ("torch", "onnxscript", "onnx", "onnxruntime", "numpy")
"""The packages whose versions decide what a built model is, bit for bit."""

INVERTED_RESIDUALS = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)
"""MobileNetV2's stages: expansion, channels, blocks, stride (Sandler et al., 2018, table 2)."""

RESNET18_STAGES = ((64, 1), (128, 2), (256, 2), (512, 2))
"""ResNet-18's stages of two blocks: channels, stride (He et al., 2015, table 1)."""

RESNET50_STAGES = ((64, 3, 1), (128, 4, 2), (256, 6, 2), (512, 3, 2))
"""ResNet-50's stages: channels inside a block, blocks, stride (He et al., 2015, table 1)."""

MOBILEBERT_BLOCKS, MOBILEBERT_HEADS, MOBILEBERT_FFNS = 24, 4, 4
MOBILEBERT_HIDDEN, MOBILEBERT_BOTTLENECK, MOBILEBERT_FFN = 512, 128, 512
"""MobileBERT's encoder: features between blocks, inside a block, inside a feed-forward network
(Sun et al., 2020, table 1).
"""

FP32_TARGET, INT8_TARGET = "mobile4k", "edge256"

SHARED = (
    "winml_mnist",
    "winml_mnist_qdq_u8s8",
    "winml_cifar_cnn",
    "cifar_resnet20",
    "cifar_resnet20_qdq_s8s8_pc",
    "cifar_resnet20_qop_u8s8",
    "ultraface_qdq_s8s8_pc",
    "shark_qmlp",
)
"""The files of the folder of models that must compile; `--all` adds every other one."""


@dataclass(frozen=True)
class Model:
    """One model and the machine that it is compiled for."""

    name: str
    target: str
    make: Callable[[Path], Path]
    """Gives the ONNX file, in the cache folder where it must be built."""

    @property
    def quantized(self) -> bool:
        return is_quantized(self.name)


def is_quantized(name: str) -> bool:
    """Whether a model of this name holds quantized tensors."""
    return any(mark in name for mark in ("_int8", "_qdq_", "_qop_", "_qmlp"))


# --- what there is --------------------------------------------------------------------------------


def models(folder: Path | None = None, *, every: bool = False) -> list[Model]:
    """The models built here, then those of `folder`: `SHARED`, or `every` .onnx file in it.

    The quantized transformer is for mobile4k, whose floats give softmax exactly.
    """
    built = [
        Model("digits", FP32_TARGET, lambda cache: _digits(cache)[0]),
        Model("digits_int8", INT8_TARGET, lambda cache: _digits(cache)[1]),
        Model("mobilenet_v2", FP32_TARGET, lambda cache: _fp32(cache, "mobilenet_v2")),
        Model("mobilenet_v2_bn", FP32_TARGET, lambda cache: _unfused(cache, "mobilenet_v2")),
        Model("mobilenet_v2_int8", INT8_TARGET, lambda cache: _int8(cache, "mobilenet_v2")),
        Model("resnet18", FP32_TARGET, lambda cache: _fp32(cache, "resnet18")),
        Model("resnet18_int8", INT8_TARGET, lambda cache: _int8(cache, "resnet18")),
        Model("resnet50", FP32_TARGET, lambda cache: _fp32(cache, "resnet50")),
        Model("resnet50_int8", INT8_TARGET, lambda cache: _int8(cache, "resnet50")),
        Model("mobilebert", FP32_TARGET, lambda cache: _fp32(cache, "mobilebert")),
        Model("mobilebert_int8", FP32_TARGET, lambda cache: _int8(cache, "mobilebert")),
    ]
    return built + list(_files(folder, every))


def _files(folder: Path | None, every: bool) -> Iterator[Model]:
    found = {path.stem: path for path in sorted(folder.glob("*.onnx"))} if folder else {}
    names = [name for name in SHARED if name in found]
    names += [name for name in found if every and name not in SHARED]
    for name in names:
        path = found[name]
        target = INT8_TARGET if is_quantized(name) else FP32_TARGET
        yield Model(name, target, lambda _, path=path: path)


def find(name: str, folder: Path | None = None) -> Model:
    """The model of a name. Raises KeyError."""
    return {model.name: model for model in models(folder, every=True)}[name]


def default_cache() -> Path:
    """The user's cache folder."""
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "npu_dialect"


def _place(cache: Path, recipe: str) -> Path:
    """The folder of what the source file `recipe` makes; it differs where that would."""
    digest = hashlib.sha256(Path(recipe).read_bytes())
    for package in MAKERS:
        digest.update(f"{package} {installed(package)}\n".encode())
    folder = cache / f"{Path(recipe).stem}-{digest.hexdigest()[:12]}"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def installed(package: str) -> str:
    """The version of an installed package, or "none"."""
    try:
        return version(package)
    except PackageNotFoundError:
        return "none"


def shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """The shapes to bind: of the inputs that have symbolic dimensions, those of the first case."""
    first = inputs(path, 1)[0]
    symbolic = (port.name for port in _ports(path) if 0 in _dims(port))
    return {name: first[name].shape for name in symbolic}


def inputs(path: Path, count: int, seed: int = 0) -> list[dict[str, Array]]:
    """Inputs of a model by name: those stored beside it in an .npz, or else random ones."""
    ports = _ports(path)
    stored = path.with_suffix(".npz")
    if stored.exists():
        return list(_stored_inputs(stored, [port.name for port in ports], count))
    generator = np.random.default_rng(seed)
    return [{port.name: _random(port, generator) for port in ports} for _ in range(count)]


def _ports(path: Path) -> list[Any]:
    import onnx

    graph = onnx.load(str(path), load_external_data=False).graph
    constants = {c.name for c in graph.initializer}
    return [port for port in graph.input if port.name not in constants]


def _dims(port: Any) -> list[int]:
    """The dimensions of an input, 0 where they are symbolic."""
    return [d.dim_value for d in port.type.tensor_type.shape.dim]


def _stored_inputs(path: Path, names: list[str], count: int) -> Iterator[dict[str, Array]]:
    """The first cases, without those of other shapes than the first."""
    first: dict[str, Array] = {}
    with np.load(path) as arrays:
        for case in range(count):
            keys = [f"case{case}/in{index}" for index in range(len(names))]
            if not all(key in arrays for key in keys):
                return
            found = {name: arrays[key] for name, key in zip(names, keys, strict=True)}
            first = first or found
            if all(found[name].shape == first[name].shape for name in names):
                yield found


def _random(port: Any, generator: np.random.Generator) -> Array:
    from onnx import helper

    shape = [max(1, d) for d in _dims(port)]
    dtype = helper.tensor_dtype_to_np_dtype(port.type.tensor_type.elem_type)
    if dtype.kind == "f":
        return generator.standard_normal(shape).astype(dtype)
    return generator.integers(0, 2, shape).astype(dtype)


# --- building -------------------------------------------------------------------------------------


def _digits(cache: Path) -> tuple[Path, Path]:
    """The trained network of `make demo`: fp32 and int8."""
    from npu_dialect.tools.demo import digits

    folder = _place(cache, digits.__file__)
    fp32, int8 = folder / "digits.onnx", folder / "digits_int8.onnx"
    if not int8.exists():
        data = digits.load()
        with _whole(fp32) as part:
            digits.export(digits.train(data), part)
        with _whole(int8) as part:
            digits.quantize(fp32, part, data)
    return fp32, int8


def _fp32(cache: Path, name: str) -> Path:
    path = _place(cache, __file__) / f"{name}.onnx"
    if not path.exists():
        with _whole(path) as part:
            export(network(name), part, *_ports_of(name))
    return path


def _ports_of(name: str) -> tuple[tuple[int, ...], str, str]:
    """The shape and the name of a network's input, and the name of its output."""
    if name == "mobilebert":
        return EMBEDDINGS, "embeddings", "hidden"
    return IMAGE, "image", "logits"


def _unfused(cache: Path, name: str) -> Path:
    """As torch leaves it without optimizations of its own: batch normalizations are nodes."""
    path = _place(cache, __file__) / f"{name}_bn.onnx"
    if not path.exists():
        with _whole(path) as part:
            export(network(name), part, optimize=False)
    return path


def _int8(cache: Path, name: str) -> Path:
    path = _place(cache, __file__) / f"{name}_int8.onnx"
    if not path.exists():
        with _whole(path) as part:
            quantize(_fp32(cache, name), part)
    return path


@contextmanager
def _whole(path: Path) -> Iterator[Path]:
    """A path to write to, that becomes `path` when all is written."""
    part = path.with_suffix(f".{os.getpid()}.part.onnx")
    yield part
    part.replace(path)


def network(name: str, classes: int = 1000) -> Any:
    """The torch module of a name in evaluation mode, with its random parameters."""
    import torch

    torch.manual_seed(SEED)
    if name == "mobilebert":
        net = mobilebert()
        _randomize_transformer(net)
        return net.eval()
    net = {"mobilenet_v2": mobilenet_v2, "resnet18": resnet18, "resnet50": resnet50}[name](classes)
    _randomize(net)
    return net.eval()


def mobilenet_v2(classes: int = 1000) -> Any:
    """MobileNetV2 of width 1 (Sandler et al., 2018)."""
    from torch import nn

    layers: list[Any] = [_conv_bn(3, 32, 3, 2, activation=nn.ReLU6)]
    channels = 32
    for expansion, out, blocks, stride in INVERTED_RESIDUALS:
        for block in range(blocks):
            layers.append(_inverted_residual(channels, out, stride if block == 0 else 1, expansion))
            channels = out
    layers.append(_conv_bn(channels, 1280, 1, activation=nn.ReLU6))
    head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(0.2), nn.Linear(1280, classes)]
    return nn.Sequential(*layers, *head)


def _inverted_residual(channels: int, out: int, stride: int, expansion: int) -> Any:
    from torch import nn

    hidden = channels * expansion
    parts: list[Any] = []
    if expansion != 1:
        parts.append(_conv_bn(channels, hidden, 1, activation=nn.ReLU6))
    parts.append(_conv_bn(hidden, hidden, 3, stride, groups=hidden, activation=nn.ReLU6))
    parts.append(_conv_bn(hidden, out, 1))
    body = nn.Sequential(*parts)
    return _sum(body, nn.Identity()) if stride == 1 and channels == out else body


def resnet18(classes: int = 1000) -> Any:
    """ResNet-18 (He et al., 2015)."""
    blocks: list[Any] = []
    channels = 64
    for out, stride in RESNET18_STAGES:
        blocks += [_basic_block(channels, out, stride), _basic_block(out, out, 1)]
        channels = out
    return _resnet(blocks, channels, classes)


def _basic_block(channels: int, out: int, stride: int) -> Any:
    from torch import nn

    first = _conv_bn(channels, out, 3, stride, activation=nn.ReLU)
    return _residual([first, _conv_bn(out, out, 3)], channels, out, stride)


def resnet50(classes: int = 1000) -> Any:
    """ResNet-50 (He et al., 2015), with the stride at the 3x3 convolution as torchvision has it."""
    blocks: list[Any] = []
    channels = 64
    for inner, count, stride in RESNET50_STAGES:
        for block in range(count):
            blocks.append(_bottleneck(channels, inner, stride if block == 0 else 1))
            channels = 4 * inner
    return _resnet(blocks, channels, classes)


def _bottleneck(channels: int, inner: int, stride: int) -> Any:
    from torch import nn

    first = _conv_bn(channels, inner, 1, activation=nn.ReLU)
    second = _conv_bn(inner, inner, 3, stride, activation=nn.ReLU)
    return _residual([first, second, _conv_bn(inner, 4 * inner, 1)], channels, 4 * inner, stride)


def _resnet(blocks: list[Any], channels: int, classes: int) -> Any:
    """The blocks between the first layers and the last ones, which all ResNets share."""
    from torch import nn

    stem = [_conv_bn(3, 64, 7, 2, activation=nn.ReLU), nn.MaxPool2d(3, 2, 1)]
    head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, classes)]
    return nn.Sequential(*stem, *blocks, *head)


def _residual(body: list[Any], channels: int, out: int, stride: int) -> Any:
    """The layers and a shortcut around them, which is a convolution where the shapes differ."""
    from torch import nn

    same = stride == 1 and channels == out
    shortcut = nn.Identity() if same else _conv_bn(channels, out, 1, stride)
    return nn.Sequential(_sum(nn.Sequential(*body), shortcut), nn.ReLU())


def _conv_bn(
    channels: int,
    out: int,
    size: int,
    stride: int = 1,
    *,
    groups: int = 1,
    activation: Callable[[], Any] | None = None,
) -> Any:
    """Convolution, batch normalization and activation; same size at stride 1."""
    from torch import nn

    conv = nn.Conv2d(channels, out, size, stride, size // 2, groups=groups, bias=False)
    parts = [conv, nn.BatchNorm2d(out)]
    return nn.Sequential(*parts, *([activation()] if activation else []))


def _sum(left: Any, right: Any) -> Any:
    from torch import nn

    class Sum(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.left, self.right = left, right

        def forward(self, x: Any) -> Any:
            return self.left(x) + self.right(x)

    return Sum()


def mobilebert(blocks: int = MOBILEBERT_BLOCKS) -> Any:
    """The encoder of MobileBERT, from embeddings to hidden states (Sun et al., 2020, figure 1)."""
    from torch import nn

    return nn.Sequential(*(_mobilebert_block() for _ in range(blocks)))


def _mobilebert_block() -> Any:
    """Attention and feed-forward networks between two bottlenecks; queries and keys have a
    bottleneck of their own, values come from the wide hidden states.
    """
    from torch import nn

    wide, narrow = MOBILEBERT_HIDDEN, MOBILEBERT_BOTTLENECK

    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.enter = nn.Sequential(nn.Linear(wide, narrow), _no_norm(narrow))
            self.enter_attention = nn.Sequential(nn.Linear(wide, narrow), _no_norm(narrow))
            self.attention = _attention(wide, narrow)
            self.attended = _no_norm(narrow)
            self.ffns = nn.Sequential(*(_ffn(narrow) for _ in range(MOBILEBERT_FFNS)))
            self.leave, self.left = nn.Linear(narrow, wide), _no_norm(wide)

        def forward(self, x: Any) -> Any:
            inside = self.attended(self.attention(self.enter_attention(x), x) + self.enter(x))
            return self.left(self.leave(self.ffns(inside)) + x)

    return Block()


def _attention(wide: int, narrow: int) -> Any:
    """Self-attention with several heads: of queries and keys, and values, to its projection."""
    from torch import nn

    heads, depth = MOBILEBERT_HEADS, narrow // MOBILEBERT_HEADS

    class Attention(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.query, self.key = nn.Linear(narrow, narrow), nn.Linear(narrow, narrow)
            self.value, self.project = nn.Linear(wide, narrow), nn.Linear(narrow, narrow)

        def forward(self, x: Any, values: Any) -> Any:
            q, k, v = (
                _heads(t, heads, depth) for t in (self.query(x), self.key(x), self.value(values))
            )
            scores = q @ k.transpose(-1, -2) / depth**0.5
            mixed = (scores.softmax(-1) @ v).transpose(1, 2)
            return self.project(mixed.reshape(*x.shape[:2], narrow))

    return Attention()


def _heads(x: Any, heads: int, depth: int) -> Any:
    """[batch, tokens, features] as [batch, head, token, feature of the head]."""
    return x.reshape(*x.shape[:2], heads, depth).transpose(1, 2)


def _ffn(features: int) -> Any:
    from torch import nn

    inner = MOBILEBERT_FFN
    body = nn.Sequential(nn.Linear(features, inner), nn.ReLU(), nn.Linear(inner, features))
    return nn.Sequential(_sum(body, nn.Identity()), _no_norm(features))


def _no_norm(features: int) -> Any:
    """What MobileBERT has in place of layer normalization: a factor and an offset per feature."""
    import torch
    from torch import nn

    class NoNorm(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.factor = nn.Parameter(torch.ones(features))
            self.offset = nn.Parameter(torch.zeros(features))

        def forward(self, x: Any) -> Any:
            return x * self.factor + self.offset

    return NoNorm()


def _randomize_transformer(net: Any) -> None:
    """Random weights that keep the variance of their inputs, and factors below one, so that sums
    with what they skip do not grow from block to block.
    """
    from torch import nn

    for module in net.modules():
        if isinstance(module, nn.Linear):
            nn.init.kaiming_normal_(module.weight, nonlinearity="linear")
            nn.init.normal_(module.bias, std=0.05)
        elif hasattr(module, "factor"):
            nn.init.uniform_(module.factor, 0.6, 0.9)
            nn.init.normal_(module.offset, std=0.2)


def _randomize(net: Any) -> None:
    """Random weights, factors and offsets; the statistics of random inputs, then disturbed.

    Statistics that fit the data keep the values of every layer in a usable range, as training does.
    """
    import torch
    from torch import nn

    norms = [m for m in net.modules() if isinstance(m, nn.BatchNorm2d)]
    with torch.no_grad():
        for module in net.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out")
            elif isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, std=0.05)
                nn.init.normal_(module.bias, std=0.05)
        for norm in norms:
            norm.momentum = None  # the plain mean over all batches
            norm.weight.uniform_(0.6, 1.4)
            norm.bias.normal_(0.0, 0.2)
        net.train()
        for _ in range(2):
            net(torch.randn(4, *IMAGE[1:]))
        for norm in norms:
            mean, variance = norm.running_mean, norm.running_var
            assert mean is not None and variance is not None
            mean += 0.1 * variance.sqrt() * torch.randn(norm.num_features)
            variance *= torch.empty(norm.num_features).uniform_(0.8, 1.25)


def export(
    net: Any,
    path: Path,
    shape: tuple[int, ...] = IMAGE,
    source: str = "image",
    result: str = "logits",
    *,
    optimize: bool = True,
) -> None:
    """A network on one input of a shape as an ONNX file; `optimize` lets torch fold what it can."""
    import torch

    with _quiet():
        torch.onnx.export(
            net,
            (torch.zeros(shape),),
            str(path),
            input_names=[source],
            output_names=[result],
            dynamo=True,
            external_data=False,
            optimize=optimize,
            verbose=False,
        )


def quantize(source: Path, path: Path) -> None:
    """onnxruntime's static quantization: QDQ, u8 activations, s8 weights per channel."""
    from onnxruntime import quantization as q

    cases = iter(inputs(source, CALIBRATION_INPUTS, SEED))

    class Reader(q.CalibrationDataReader):
        def get_next(self) -> dict[str, Array]:
            return next(cases, cast(Any, None))

    with _quiet():
        q.quantize_static(
            str(source),
            str(path),
            Reader(),
            quant_format=q.QuantFormat.QDQ,
            per_channel=True,
            activation_type=q.QuantType.QUInt8,
            weight_type=q.QuantType.QInt8,
        )


@contextmanager
def _quiet() -> Iterator[None]:
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(logging.NOTSET)


def main() -> None:
    """Build models, so that measuring them starts from files."""
    parser = argparse.ArgumentParser(description="Build the models of the benchmarks.")
    parser.add_argument("names", nargs="*", metavar="MODEL")
    parser.add_argument("--cache", type=Path, default=default_cache())
    parser.add_argument("--models", type=Path, metavar="DIR", help="a folder of .onnx files")
    args = parser.parse_args()
    for model in models(args.models, every=True):
        if not args.names or model.name in args.names:
            print(model.name, model.make(args.cache))


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
    main()
