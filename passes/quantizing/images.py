"""Folders of images as samples: each file is scaled to the size that a model takes.

    value = (pixel * scale - mean) / std            pixel 0 to 255, mean and std by channel

An input is [1, channels, height, width] or [1, height, width, channels] with 1 (grey) or 3 (red,
green, blue) channels.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from npu_dialect.diagnostics import Code, error
from npu_dialect.ports import Array, Port

SUFFIXES = frozenset((".png", ".jpg", ".jpeg", ".bmp", ".webp", ".gif", ".tif", ".tiff", ".ppm"))
"""Of files that are taken for images."""
FITS = ("crop", "stretch")
"""`crop`: scaled until the shorter side fits, then the middle; `stretch`: both sides scaled."""


@dataclass(frozen=True)
class Images:
    """How pixels become the values that a model takes."""

    scale: float = 1 / 255
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)
    fit: str = "crop"

    def read(self, paths: Sequence[Path], port: Port) -> Iterator[Array]:
        """One array for each file, in the shape of an input. Raises CompileError."""
        axis = self._channels(port)
        height, width = (n for k, n in enumerate(port.shape) if k not in (0, axis))
        for path in paths:
            pixels = self._pixels(path, height, width, port.shape[axis])
            values = np.moveaxis(self._values(pixels, port), -1, axis - 1)
            yield np.ascontiguousarray(values[None])

    def _values(self, pixels: Array, port: Port) -> Array:
        if port.dtype.is_int:
            return pixels.astype(port.dtype.numpy)
        mean, std = np.asarray(self.mean, np.float64), np.asarray(self.std, np.float64)
        return ((pixels * self.scale - mean) / std).astype(port.dtype.numpy)

    def _channels(self, port: Port) -> int:
        """The axis of channels. Raises CompileError where the input is no image, or the options do
        not fit it.
        """
        shape = tuple(port.shape)
        axes = [axis for axis in (1, 3) if len(shape) == 4 and shape[axis] in (1, 3)]
        if shape[:1] != (1,) or not axes:
            raise error(
                Code.INPUT_SHAPE,
                "an input that images are for must be [1, channels, height, width] or "
                "[1, height, width, channels], with 1 or 3 channels",
                found=list(shape),
                remedy="a folder of .npy files",
                source=port.name,
            )
        for name, numbers in (("mean", self.mean), ("std", self.std)):
            if len(numbers) not in (1, shape[axes[0]]) or (name == "std" and 0 in numbers):
                raise error(
                    Code.OPTION,
                    f"--image-{name} must be one number, or one for each of "
                    f"{shape[axes[0]]} channels{', none of them 0' if name == 'std' else ''}",
                    found=", ".join(f"{n:g}" for n in numbers) or "none",
                    source=port.name,
                )
        return axes[0]

    def _pixels(self, path: Path, height: int, width: int, channels: int) -> Array:
        """[height, width, channels] from 0 to 255."""
        image: Any = _package("PIL.Image")
        try:
            with image.open(path) as opened:
                picture = opened.convert("L" if channels == 1 else "RGB")
        except OSError as problem:
            raise error(
                Code.FILE_KIND, "must be an image", found=str(problem), source=str(path)
            ) from problem
        size = (width, height)
        if self.fit == "stretch":
            picture = picture.resize(size, image.Resampling.BILINEAR)
        else:
            picture = _package("PIL.ImageOps").fit(picture, size, image.Resampling.BILINEAR)
        return np.asarray(picture, np.float64).reshape(height, width, channels)


def _package(name: str) -> Any:
    try:
        return import_module(name)
    except ImportError as problem:
        raise error(
            Code.PACKAGE_MISSING,
            "Pillow must be installed for reading images",
            found=problem,
            remedy="pip install 'npu-dialect[images]', or a folder of .npy files",
            source="images",
        ) from problem
