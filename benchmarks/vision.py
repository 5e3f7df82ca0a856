"""Further models for benchmarks/mapping.py: EfficientNet-Lite0 and a transformer of ViT-tiny's
shapes, built as those of zoo.py are, and what onnxruntime's static quantizer makes of any model.
"""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import zoo

LITE0 = (
    (1, 16, 1, 1, 3),
    (6, 24, 2, 2, 3),
    (6, 40, 2, 2, 5),
    (6, 80, 3, 2, 3),
    (6, 112, 3, 1, 5),
    (6, 192, 4, 2, 5),
    (6, 320, 1, 1, 3),
)
"""EfficientNet-Lite0's stages: expansion, channels, blocks, stride, kernel (Tan and Le, 2019, table
1, without squeeze-and-excitation and with ReLU6, as the Lite models have it).
"""

VIT_DIM, VIT_DEPTH, VIT_HEADS, VIT_PATCH, VIT_TOKENS = 192, 12, 3, 16, 197
"""ViT-tiny (Touvron et al., 2021, table 1): features, blocks, heads, pixels of a patch, tokens."""

LEAST_OPSET = 13
BUILT = ("efficientnet_lite0", "vit_tiny")


def fp32(cache: Path, name: str) -> Path:
    """The ONNX file of a model of `BUILT`."""
    import torch

    path = zoo._place(cache, __file__) / f"{name}.onnx"
    if not path.exists():
        torch.manual_seed(zoo.SEED)
        net = efficientnet_lite0() if name == "efficientnet_lite0" else vit_tiny()
        with zoo._whole(path) as part:
            zoo.export(net.eval(), part)
    return path


def int8(cache: Path, name: str, source: Path) -> Path:
    """What the static quantizer makes of a file; raises what it raises."""
    path = zoo._place(cache, __file__) / f"{name}_int8.onnx"
    if not path.exists():
        with zoo._whole(path) as part, TemporaryDirectory() as folder:
            zoo.quantize(_raised(source, Path(folder) / "raised.onnx"), part)
    return path


def _raised(source: Path, path: Path) -> Path:
    """The model in an opset that has quantization per channel: itself, or a converted copy."""
    import onnx
    from onnx import version_converter

    model = onnx.load(str(source))
    if next(o.version for o in model.opset_import if o.domain in ("", "ai.onnx")) >= LEAST_OPSET:
        return source
    onnx.save(version_converter.convert_version(model, LEAST_OPSET), str(path))
    return path


def efficientnet_lite0(classes: int = 1000) -> Any:
    """EfficientNet-Lite0, 224 x 224."""
    from torch import nn

    layers: list[Any] = [zoo._conv_bn(3, 32, 3, 2, activation=nn.ReLU6)]
    channels = 32
    for expansion, out, blocks, stride, kernel in LITE0:
        for block in range(blocks):
            step = stride if block == 0 else 1
            layers.append(_inverted_residual(channels, out, step, expansion, kernel))
            channels = out
    layers.append(zoo._conv_bn(channels, 1280, 1, activation=nn.ReLU6))
    head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(1280, classes)]
    net = nn.Sequential(*layers, *head)
    zoo._randomize(net)
    return net


def _inverted_residual(channels: int, out: int, stride: int, expansion: int, kernel: int) -> Any:
    from torch import nn

    hidden = channels * expansion
    parts: list[Any] = []
    if expansion != 1:
        parts.append(zoo._conv_bn(channels, hidden, 1, activation=nn.ReLU6))
    parts.append(zoo._conv_bn(hidden, hidden, kernel, stride, groups=hidden, activation=nn.ReLU6))
    parts.append(zoo._conv_bn(hidden, out, 1))
    body = nn.Sequential(*parts)
    return zoo._sum(body, nn.Identity()) if stride == 1 and channels == out else body


def vit_tiny(classes: int = 1000) -> Any:
    """A vision transformer: patches, a class token, blocks with the normalization in front."""
    import torch
    from torch import nn

    class Vit(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.patches = nn.Conv2d(3, VIT_DIM, VIT_PATCH, VIT_PATCH)
            self.token = nn.Parameter(0.1 * torch.randn(1, 1, VIT_DIM))
            self.places = nn.Parameter(0.1 * torch.randn(1, VIT_TOKENS, VIT_DIM))
            self.blocks = nn.Sequential(*(_block() for _ in range(VIT_DEPTH)))
            self.norm, self.head = nn.LayerNorm(VIT_DIM), nn.Linear(VIT_DIM, classes)

        def forward(self, x: Any) -> Any:
            x = self.patches(x).flatten(2).transpose(1, 2)
            x = torch.cat([self.token, x], 1) + self.places
            return self.head(self.norm(self.blocks(x))[:, 0])

    return Vit()


def _block() -> Any:
    from torch import nn

    mlp = [nn.LayerNorm(VIT_DIM), nn.Linear(VIT_DIM, 4 * VIT_DIM), nn.GELU()]
    body = nn.Sequential(*mlp, nn.Linear(4 * VIT_DIM, VIT_DIM))
    attention = nn.Sequential(nn.LayerNorm(VIT_DIM), _attention())
    return nn.Sequential(
        zoo._sum(attention, nn.Identity()),
        zoo._sum(body, nn.Identity()),
    )


def _attention() -> Any:
    from torch import nn

    depth = VIT_DIM // VIT_HEADS

    class Attention(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.query, self.key, self.value = (nn.Linear(VIT_DIM, VIT_DIM) for _ in range(3))
            self.project = nn.Linear(VIT_DIM, VIT_DIM)

        def forward(self, x: Any) -> Any:
            q, k, v = (
                zoo._heads(t, VIT_HEADS, depth) for t in (self.query(x), self.key(x), self.value(x))
            )
            scores = q @ k.transpose(-1, -2) / depth**0.5
            mixed = (scores.softmax(-1) @ v).transpose(1, 2)
            return self.project(mixed.reshape(*x.shape[:2], VIT_DIM))

    return Attention()
