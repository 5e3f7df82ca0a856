"""gemmlowp's functions as operations give what its tables have, for all numbers of 16 bits."""

from __future__ import annotations

import numpy as np
import pytest
from xdsl.ir import Block

pytest.importorskip("tflite")

from npu_dialect.frontends.tflite.builder import Builder
from npu_dialect.frontends.tflite.ops import gemmlowp, gemmlowp_steps

ALL = np.arange(-(1 << 15), 1 << 15).astype(np.int32)


def test_sigmoid() -> None:
    b = Builder(Block())
    found = b.known(gemmlowp_steps.sigmoid(b, b.constant(ALL)), "a constant")
    np.testing.assert_array_equal(found, gemmlowp.sigmoid())


@pytest.mark.parametrize("bits", range(7))
def test_tanh(bits: int) -> None:
    b = Builder(Block())
    found = b.known(gemmlowp_steps.tanh(b, b.constant(ALL), bits), "a constant")
    np.testing.assert_array_equal(found, gemmlowp.tanh(bits))
