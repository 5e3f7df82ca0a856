"""What tests of TFLite operators share: random quantizations, and a comparison at all levels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from hypothesis import strategies as st
from tflite_models import Array, Tensor, draw, reference

import npu_dialect as npu
from npu_dialect.frontends import tflite
from npu_dialect.levels import Level

TARGET = "edge256"
LEVELS: tuple[Level | None, ...] = (None, "graph", "tile", "npu")

seeds = st.integers(0, 2**32 - 1)
types = st.sampled_from(["int8", "uint8"])
scales = st.floats(0.004, 0.5).map(lambda s: float(np.float32(s)))
activations = st.sampled_from([0, 1, 2, 3])


def quantized(shape: Sequence[int], dtype: str, data: st.DataObject) -> Tensor:
    """A tensor of any scale and zero point."""
    info = np.iinfo(dtype)
    return Tensor(shape, dtype, data.draw(scales), data.draw(st.integers(info.min, info.max)))


def like(x: Tensor, shape: Sequence[int]) -> Tensor:
    """A tensor of the same quantization."""
    return Tensor(shape, x.dtype, x.scale, x.zero)


def every_value(x: Tensor) -> Array:
    """All 256 values of an 8-bit type."""
    low = np.iinfo(x.dtype).min
    return np.arange(low, low + 256).astype(x.dtype)


def compare(
    source: bytes,
    inputs: Sequence[Array],
    resolver: str = "BUILTIN_REF",
    target: str = TARGET,
    rtol: float = 0.0,
    levels: Sequence[Level | None] = LEVELS,
) -> None:
    """The same bits as TFLite at every level; with `rtol`, floats as near as that."""
    expected = reference(source, inputs, resolver)
    module = npu.load(tflite.load(source), target=target)
    for until in levels:
        if until:
            npu.lower(module, until=until)
        found = list(npu.execute(module, list(inputs)).values())
        assert len(found) == len(expected)
        for a, b in zip(found, expected, strict=True):
            assert a.dtype == b.dtype
            if rtol and a.dtype == np.float32:
                np.testing.assert_allclose(a, b, rtol=rtol, atol=rtol)
            else:
                np.testing.assert_array_equal(a, b, err_msg=f"at level {until}")


def compare_graph(source: bytes, inputs: Sequence[Array], target: str = TARGET) -> None:
    """The same bits at level graph, as imported and after the passes of that level."""
    compare(source, inputs, target=target, levels=(None, "graph"))


def check(source: bytes, inputs: Sequence[Tensor], seed: int = 0, **more: Any) -> None:
    """The same bits for random values of the inputs."""
    rng = np.random.default_rng(seed)
    compare(source, [draw(rng, x) for x in inputs], **more)
