"""Convolutions alone in a module, for the tests of the mapper."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from hypothesis import strategies as st
from mapped_groups import I8, OUT, ModuleBuilder, integers
from xdsl.dialects.builtin import i32
from xdsl.ir import SSAValue

from npu_dialect import graph
from npu_dialect.graph.attributes import requant_f32
from npu_dialect.passes.mapping.contraction_problem import Contraction
from npu_dialect.passes.mapping.groups import Group
from npu_dialect.passes.mapping.problems import problem

TARGETS = ("edge256", "edge512", "headset2k", "mobile4k", "systolic32_ws", "systolic32_os")


@dataclass(frozen=True)
class Layer:
    """A convolution of int8 alone in a module."""

    target: str
    image: tuple[int, int, int, int]
    filters: tuple[int, int, int]
    """Rows, columns, output channels."""
    depthwise: bool = False
    strides: tuple[int, int] = (1, 1)
    pads: tuple[int, ...] = (0, 0, 0, 0)

    def build(self) -> tuple[ModuleBuilder, Group]:
        """The module under construction, and its group."""
        rng = np.random.default_rng(0)
        build = ModuleBuilder(self.target, (self.image, I8))
        kh, kw, oc = self.filters
        w = build.constant(integers(rng, kh, kw, 1 if self.depthwise else self.image[3], oc), I8)
        b = build.constant(rng.integers(-1000, 1000, oc, np.int32), i32)
        y = build.group("conv", "array", [build.args[0], w, b], self._body)
        assert isinstance(y.owner, graph.GroupOp)
        return build, Group(y.owner)

    def _body(self, x: SSAValue, w: SSAValue, b: SSAValue) -> list[graph.GraphOp]:
        groups = self.image[3] if self.depthwise else 1
        sums = graph.Conv2DOp(x, w, b, self.strides, self.pads, groups=groups)
        return [sums, graph.RequantizeOp(sums.result, requant_f32(0.003), OUT)]

    def problem(self) -> Contraction:
        """The mapper's problem of it, with everything in dram."""
        found = problem(self.build()[1], lambda _: False, False)
        assert isinstance(found, Contraction)
        return found


@st.composite
def layers(draw: st.DrawFn, channels: int, side: int) -> Layer:
    """Any window, pads and strides, on any target; up to so many input channels, and rows and
    columns of the image.
    """
    depthwise = draw(st.booleans())
    ic = draw(st.integers(2, channels))
    oc = ic if depthwise else draw(st.integers(1, 40))
    kh, kw = draw(st.integers(1, 3)), draw(st.integers(1, 3))
    return Layer(
        draw(st.sampled_from(TARGETS)),
        (1, draw(st.integers(4, side)), draw(st.integers(4, side)), ic),
        (kh, kw, oc),
        depthwise,
        (draw(st.integers(1, 2)), draw(st.integers(1, 2))),
        tuple(draw(st.integers(0, k - 1)) for k in (kh, kw, kh, kw)),
    )
