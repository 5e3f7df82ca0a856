"""Convolutions whose taps of a kernel row are one sum: the bits of plain sums, the costs of the
instructions, and chosen where channels are few.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mapped_groups import I8, OUT, ModuleBuilder, assert_levels_agree, floats, integers, levels
from xdsl.dialects.builtin import f32, i32
from xdsl.dialects.func import FuncOp
from xdsl.ir import SSAValue

from npu_dialect import api, bound, graph
from npu_dialect.diagnostics import CompileError
from npu_dialect.graph.attributes import requant_f32
from npu_dialect.passes.graph_map import mapping_attribute
from npu_dialect.passes.mapping import contraction
from npu_dialect.passes.mapping.contraction import Contraction, ContractionMapping
from npu_dialect.passes.mapping.contraction_taps import columns, may_join
from npu_dialect.passes.mapping.groups import Group
from npu_dialect.passes.mapping.problems import problem
from npu_dialect.pipeline import Options
from npu_dialect.target import load_target, target_text

few = settings(max_examples=12, deadline=None)
QUIET = Options(reproducer=None)
TARGETS = ("edge256", "edge512", "headset2k", "mobile4k", "systolic32_ws")

FIRST = Contraction(oh=112, ow=112, oc=64, ic=3, ih=224, iw=224, kh=7, kw=7, strides=(2, 2),
                    pads=(3, 3), kernel_costs=("requantize",), param_rows=2)  # fmt: skip
"""The first convolution of ResNets."""


@dataclass(frozen=True)
class Layer:
    """A convolution of int8 with its requantization."""

    image: tuple[int, int, int, int]
    filters: tuple[int, int, int]
    """Rows, columns, output channels."""
    strides: tuple[int, int] = (1, 1)
    pads: tuple[int, ...] = (0, 0, 0, 0)
    down: int = 1
    """Rows from tap to tap."""
    target: str = "edge256"

    def weights(self, seed: int) -> npt.NDArray[np.int8]:
        kh, kw, oc = self.filters
        return integers(np.random.default_rng(seed), kh, kw, self.image[3], oc)

    def build(self, seed: int = 0) -> tuple[ModuleBuilder, Group]:
        """The module under construction, and its group."""
        build = ModuleBuilder(self.target, (self.image, I8))
        w = build.constant(self.weights(seed), I8)
        b = build.constant(np.arange(self.filters[2], dtype=np.int32), i32)
        y = build.group("conv", "array", [build.args[0], w, b], self._body)
        assert isinstance(y.owner, graph.GroupOp)
        return build, Group(y.owner)

    def _body(self, x: SSAValue, w: SSAValue, b: SSAValue) -> list[graph.GraphOp]:
        sums = graph.Conv2DOp(x, w, b, self.strides, self.pads, (self.down, 1))
        return [sums, graph.RequantizeOp(sums.result, requant_f32(2.0**-9), OUT)]

    def problem(self) -> Contraction:
        """The mapper's problem of it, with everything in dram."""
        found = problem(self.build()[1], lambda _: False, False)
        assert isinstance(found, Contraction)
        return found

    def expected(self, x: npt.NDArray[np.int8], seed: int) -> npt.NDArray[np.int8]:
        """By plain sums of int64, tap by tap; the multiplier is a power of two, so that the result
        is rounded once.
        """
        top, left, bottom, right = self.pads
        image = np.pad(x.astype(np.int64) + 3, ((0, 0), (top, bottom), (left, right), (0, 0)))
        w = self.weights(seed).astype(np.int64) + 3
        p = self.problem()
        sums = np.zeros((x.shape[0], p.oh, p.ow, p.oc), np.int64) + np.arange(p.oc)
        (sh, sw), (kh, kw, _, _) = self.strides, w.shape
        for r in range(kh):
            for c in range(kw):
                rows = image[:, r * self.down :][:, : (p.oh - 1) * sh + 1 : sh]
                sums += rows[:, :, c:][:, :, : (p.ow - 1) * sw + 1 : sw] @ w[r, c]
        return np.clip(np.rint(sums * 2.0**-9) + 5, -128, 127).astype(np.int8)


@st.composite
def layers(draw: st.DrawFn) -> Layer:
    """Any window with several columns of taps that always meet the image."""
    kh, kw = draw(st.integers(1, 4)), draw(st.integers(2, 5))
    pads = tuple(draw(st.integers(0, k - 1)) for k in (kh, kw, kh, kw))
    target = draw(st.sampled_from(TARGETS))
    deep = load_target(target).array.macs["i8"][2]
    channels = st.integers(1, 9).filter(lambda c: c % deep != 0)
    image = (draw(st.integers(1, 2)), draw(st.integers(8, 14)), draw(st.integers(5, 14)),
             draw(channels))  # fmt: skip
    return Layer(
        image,
        (kh, kw, draw(st.integers(1, 20))),
        (draw(st.integers(1, 3)), draw(st.integers(1, 3))),
        pads,
        draw(st.integers(1, 2)),
        target,
    )


@st.composite
def cases(draw: st.DrawFn) -> tuple[Layer, ContractionMapping]:
    """A layer, and a mapping with joined taps."""
    layer = draw(layers())
    p = layer.problem()
    rows, channels = draw(st.integers(1, p.oh)), draw(st.integers(1, p.oc))
    level = st.sampled_from(("tile", "held"))
    mapping = ContractionMapping(
        rows, p.ow, channels, p.ic, draw(st.sampled_from(("weights_outer", "rows_outer"))),
        draw(st.integers(1, 2)), draw(level), draw(level), "joined",
    )  # fmt: skip
    return layer, mapping


@few
@given(cases(), st.integers(0, 1 << 16))
def test_joined_taps_give_the_plain_sums_at_every_level(
    case: tuple[Layer, ContractionMapping], seed: int
):
    layer, mapping = case
    build, group = layer.build(seed)
    group.op.attributes["npu.mapping"] = mapping_attribute(mapping)
    x = integers(np.random.default_rng(seed), *layer.image)
    expected = layer.expected(x, seed)
    for level, (found,) in levels(build.module(group.result), [x], seed).items():
        np.testing.assert_array_equal(found, expected, err_msg=level)


@few
@given(cases())
def test_the_estimate_is_what_the_array_takes(case: tuple[Layer, ContractionMapping]):
    layer, mapping = case
    build, group = layer.build()
    group.op.attributes["npu.mapping"] = mapping_attribute(mapping)
    module = build.module(group.result)
    api.lower(module, "npu", options=QUIET)
    busy = {e.name: e.busy for e in api.assemble(module).profile.engines}
    found = contraction.estimate(load_target(layer.target), layer.problem(), mapping)
    assert busy["mxu"] == found.compute


@few
@given(cases())
def test_no_layer_of_joined_taps_is_faster_than_its_bound(case: tuple[Layer, ContractionMapping]):
    layer, mapping = case
    build, group = layer.build()
    group.op.attributes["npu.mapping"] = mapping_attribute(mapping)
    module = build.module(group.result)
    bound.record(module, load_target(layer.target))
    api.lower(module, "npu", options=QUIET)
    profile = api.assemble(module).profile
    assert profile.lower_bound is not None
    busy = {e.name: e.busy for e in profile.engines}
    assert profile.lower_bound.resources["array"] <= busy["mxu"]


def test_taps_in_the_padding_that_are_left_out_do_not_beat_the_bound():
    layer = Layer((1, 107, 16, 4), (8, 4, 8), pads=(0, 3, 0, 3))
    p = layer.problem()
    build, group = layer.build()
    module = build.module(group.result)
    (function,) = (op for op in module.ops if isinstance(op, FuncOp))
    least = bound.of_function(function, load_target("edge256")).resources["array"]
    mapping = ContractionMapping(p.oh, p.ow, p.oc, p.ic, taps="joined")
    taken = contraction.estimate(load_target("edge256"), p, mapping).compute
    # 100 rows, 19 columns of 8 x 4 taps, of which 1 + 2 + 3 columns on each side are padding
    assert least == 100 * (19 * 4 - 12) * 8 * 4 * 8 / 256
    assert least <= taken < 100 * (19 * 4) * 8 * 4 * 8 / 256


@few
@given(layers())
def test_every_column_is_computed_once(layer: Layer):
    p = layer.problem()
    parts = columns(p)
    covered = [c for part in parts for c in range(part.start, part.start + part.problem.ow)]
    assert covered == (list(range(p.ow)) if parts else [])


def test_float_sums_keep_their_order(tmp_path: Path):
    text = target_text("mobile4k")
    assert "f32 = [16, 16, 1]" in text
    machine = tmp_path / "deep.toml"
    machine.write_text(text.replace("f32 = [16, 16, 1]", "f32 = [16, 4, 4]"))
    rng = np.random.default_rng(0)
    build = ModuleBuilder(str(machine), ((1, 6, 9, 3), f32))
    w = build.constant(floats(rng, 3, 3, 3, 5))
    body = lambda x, w: [graph.Conv2DOp(x, w, None, (1, 2))]  # noqa: E731
    y = build.group("conv", "array", [build.args[0], w], body)
    assert isinstance(y.owner, graph.GroupOp)
    y.owner.attributes["npu.mapping"] = mapping_attribute(
        ContractionMapping(2, 4, 5, 3, taps="joined")
    )
    assert_levels_agree(build.module(y), [floats(rng, 1, 6, 9, 3)])


# --- where ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("target", ["edge256", "edge512", "headset2k", "mobile4k"])
def test_the_first_convolution_of_an_image_has_its_taps_joined(target: str):
    machine = load_target(target)
    found = contraction.search(machine, FIRST, machine.memories["spm"].size)
    assert found is not None
    assert found[0].taps == "joined"


def test_a_run_of_21_elements_takes_three_blocks_of_8():
    machine = load_target("edge256")
    mapping = ContractionMapping(112, 112, 64, 3, taps="joined")
    # 4 positions x 8 channels x 8 deep; the outer columns have 4, 6 and 5 taps of 3 elements
    blocks = 109 * 3 + 2 + 3 + 2
    expected = 112 // 4 * 64 // 8 * 7 * blocks + 4 * machine.array.fill
    assert contraction.estimate(machine, FIRST, mapping).compute == expected


def test_channels_that_fill_the_array_stay_apart():
    machine = load_target("edge256")
    p = Contraction(oh=28, ow=28, oc=32, ic=16, ih=30, iw=30, kh=3, kw=3)
    found = contraction.search(machine, p, machine.memories["spm"].size)
    assert found is not None
    assert found[0].taps == "apart"


@pytest.mark.parametrize(
    "change",
    [
        {"kw": 1}, {"groups": 3, "ic": 1}, {"depthwise": True}, {"dilations": (1, 2)},
        {"constant_weights": False}, {"ic": 16}, {"dense_columns": False}, {"pads": (3, 7)},
        {"x_type": "f16", "w_type": "f16"},
    ],
    ids=str,
)  # fmt: skip
def test_taps_are_joined_only_where_they_are_a_run(change: dict[str, object]):
    assert may_join(load_target("mobile4k"), FIRST)
    assert not may_join(load_target("mobile4k"), replace(FIRST, **change))  # type: ignore[arg-type]


def test_taps_that_cannot_be_joined_are_refused():
    layer = Layer((1, 8, 8, 3), (3, 3, 4))
    build, group = layer.build()
    mapping = ContractionMapping(2, 3, 4, 3, taps="joined")
    group.op.attributes["npu.mapping"] = mapping_attribute(mapping)
    with pytest.raises(CompileError, match="in tiles of all columns and input channels"):
        api.lower(build.module(group.result), "npu", options=QUIET)
