"""DENSIFY: sparse constants as dense ones. They are written out when they are read."""

from __future__ import annotations

from xdsl.ir import SSAValue

from npu_dialect.frontends.tflite.builder import Builder
from npu_dialect.frontends.tflite.registry import op


@op("DENSIFY")
def densify(b: Builder, x: SSAValue) -> SSAValue:
    """The constant, as `sparse.py` has read it."""
    b.known(x, "a sparse tensor")
    return x
