"""Tiles: chosen within the memories, and without any influence on a single bit of the result."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mapped_groups import I8, OUT, ModuleBuilder, assert_levels_agree, f32, floats, integers
from xdsl.dialects.builtin import i32
from xdsl.ir import SSAValue

from npu_dialect import graph
from npu_dialect.diagnostics import CompileError
from npu_dialect.graph.attributes import requant_f32
from npu_dialect.passes.graph_map import GraphMapPass, mapping_attribute, stays
from npu_dialect.passes.mapping import contraction, elementwise
from npu_dialect.passes.mapping.collapse import collapse
from npu_dialect.passes.mapping.contraction import Contraction, ContractionMapping
from npu_dialect.passes.mapping.elementwise import (
    Elementwise,
    ElementwiseMapping,
    PoolingMapping,
    Stream,
)
from npu_dialect.passes.mapping.tiles import candidates, split, spm_bytes
from npu_dialect.passes.to_tile.move import merge_permutation
from npu_dialect.target import load_target
from npu_dialect.universe import NpuContext

few = settings(max_examples=20, deadline=None)

CONV = Contraction(oh=28, ow=28, oc=64, ic=32, ih=28, iw=28, kh=3, kw=3, kernel_costs=("alu",) * 3)


@given(st.integers(1, 5000), st.integers(1, 64))
def test_candidates_start_with_the_whole_and_end_with_one_step(extent: int, step: int):
    sizes = candidates(extent, step)
    assert (sizes[0], sizes[-1]) == (extent, min(extent, step))


@given(st.integers(1, 1000), st.integers(1, 1000))
def test_tiles_cover_an_extent_exactly(extent: int, tile: int):
    assert sum(size * count for size, count in split(extent, tile)) == extent


@given(st.integers(1 << 12, 1 << 19))
def test_a_chosen_mapping_fits_the_capacity(capacity: int):
    found = contraction.search(load_target("edge256"), CONV, capacity)
    assert found is None or spm_bytes(contraction.buffers(CONV, found[0])) <= capacity


def test_more_scratchpad_is_never_slower():
    target = load_target("edge256")
    found = [contraction.search(target, CONV, size << 10) for size in (16, 32, 64, 128, 256)]
    cycles = [f[1].in_place for f in found if f is not None]
    assert cycles == sorted(cycles, reverse=True)


def test_a_float_reduction_is_split_only_where_the_order_of_the_sum_stays():
    conv = replace(CONV, x_type="f32", w_type="f32", out_type="f32")
    assert not conv.may_split_reduction
    assert replace(conv, kh=1, kw=1).may_split_reduction


def test_elementwise_tiles_fit_the_capacity():
    p = Elementwise((1000, 64), (Stream((1000, 64), 4), Stream((1, 64), 4)), Stream((1000, 64), 4))
    found = elementwise.search(load_target("mobile4k"), p, 20_000)
    assert found is not None
    assert spm_bytes(elementwise.buffers(p, found[0])) <= 20_000


def test_dimensions_that_every_operand_has_whole_are_merged():
    found = collapse((2, 3, 4, 5), [(2, 3, 4, 5), (4, 5), (2, 3, 4, 5)], keep_last=False)
    assert (found.dims, found.operands[1]) == ((6, 20), (1, 20))


def test_the_last_dimension_stays_apart_for_parameters():
    assert collapse((2, 3, 4), [(2, 3, 4)], keep_last=True).dims == (6, 4)


@given(st.permutations(range(4)), st.lists(st.integers(1, 4), min_size=4, max_size=4))
def test_a_merged_transposition_moves_the_same_elements(permutation: list[int], shape: list[int]):
    x = np.arange(np.prod(shape)).reshape(shape)
    dims, merged = merge_permutation(shape, permutation)
    expected = x.transpose(permutation).ravel()
    np.testing.assert_array_equal(x.reshape(dims).transpose(merged).ravel(), expected)


# --- any legal mapping gives the same bits


def convolution(x: SSAValue, w: SSAValue, b: SSAValue, **window: object) -> list[graph.GraphOp]:
    sums = graph.Conv2DOp(x, w, b, **window)  # type: ignore[arg-type]
    quantized = graph.RequantizeOp(sums.result, requant_f32(0.003), OUT)
    return [sums, quantized, graph.ReluOp(quantized.result)]


@st.composite
def conv_cases(draw: st.DrawFn) -> tuple[dict[str, object], tuple[int, ...], ContractionMapping]:
    pad = st.integers(0, 2)
    window = {
        "strides": (draw(st.integers(1, 2)), draw(st.integers(1, 2))),
        "dilations": (draw(st.integers(1, 2)), 1),
        "pads": tuple(draw(pad) for _ in range(4)),
    }
    ic, oc = draw(st.integers(1, 12)), draw(st.integers(1, 20))
    kh, kw = draw(st.integers(1, 3)), draw(st.integers(1, 3))
    one = st.integers(1, 12)
    mapping = ContractionMapping(
        draw(one),
        draw(one),
        draw(st.integers(1, oc)),
        draw(st.integers(1, ic)),
        draw(st.sampled_from(["weights_outer", "rows_outer"])),
        draw(st.integers(1, 2)),
    )
    return window, (kh, kw, ic, oc), mapping


def cut_to(mapping: ContractionMapping, shape: tuple[int, ...]) -> ContractionMapping:
    """The mapping with tiles no larger than the result."""
    return replace(mapping, rows=min(mapping.rows, shape[1]), cols=min(mapping.cols, shape[2]))


@few
@given(conv_cases(), st.integers(0, 1 << 16))
def test_any_mapping_of_an_integer_convolution_gives_the_same_bits(
    case: tuple[dict[str, object], tuple[int, ...], ContractionMapping], seed: int
):
    window, filters, mapping = case
    rng = np.random.default_rng(seed)
    build = ModuleBuilder("edge256", ((2, 6, 7, filters[2]), I8))
    w = build.constant(integers(rng, *filters), I8)
    b = build.constant(rng.integers(-1000, 1000, filters[3], np.int32), i32)
    y = build.group("conv", "array", [build.args[0], w, b], lambda *v: convolution(*v, **window))
    op = y.owner
    assert isinstance(op, graph.GroupOp)
    mapping = cut_to(mapping, y.type.get_shape())  # type: ignore[attr-defined]
    op.attributes["npu.mapping"] = mapping_attribute(mapping)
    x = integers(rng, 2, 6, 7, filters[2])
    assert_levels_agree(build.module(y), [x], seed)


@few
@given(st.integers(1, 20), st.integers(1, 30), st.integers(1, 20), st.integers(0, 1 << 16))
def test_any_split_of_a_float_product_gives_the_same_bits(m: int, k: int, n: int, seed: int):
    rng = np.random.default_rng(seed)
    rows, channels, reduction = (int(rng.integers(1, e + 1)) for e in (m, n, k))
    tile = ContractionMapping(rows, 1, channels, reduction)
    build = ModuleBuilder("mobile4k", ((m, k), f32), ((k, n), f32))
    y = build.group("product", "array", build.args, lambda a, b: [graph.MatmulOp(a, b)])
    assert isinstance(y.owner, graph.GroupOp)
    y.owner.attributes["npu.mapping"] = mapping_attribute(tile)
    assert_levels_agree(build.module(y), [floats(rng, m, k), floats(rng, k, n)], seed)


@few
@given(st.integers(1, 9), st.integers(1, 9), st.integers(0, 1 << 16))
def test_any_tiling_of_a_broadcast_sum_gives_the_same_bits(rows: int, cols: int, seed: int):
    rng = np.random.default_rng(seed)
    axis = int(rng.integers(0, 2))
    build = ModuleBuilder("mobile4k", ((rows, cols), f32), ((1, cols), f32))
    y = build.group("sum", "vector", build.args, lambda a, b: [graph.AddOp(a, b)])
    assert isinstance(y.owner, graph.GroupOp)
    dims = collapse((rows, cols), [(rows, cols), (1, cols)], keep_last=False).dims
    axis = min(axis, len(dims) - 1)
    chunk = int(rng.integers(1, dims[axis] + 1))
    y.owner.attributes["npu.mapping"] = mapping_attribute(ElementwiseMapping(axis, chunk))
    assert_levels_agree(build.module(y), [floats(rng, rows, cols), floats(rng, 1, cols)], seed)


@few
@given(st.integers(1, 3), st.integers(2, 6), st.integers(0, 1 << 16))
def test_batched_products_broadcast_their_batches(batch: int, k: int, seed: int):
    rng = np.random.default_rng(seed)
    build = ModuleBuilder("mobile4k", ((batch, 2, 5, k), f32), ((1, 2, k, 7), f32))
    y = build.group("product", "array", build.args, lambda a, b: [graph.MatmulOp(a, b)])
    inputs = [floats(rng, batch, 2, 5, k), floats(rng, 1, 2, k, 7)]
    assert_levels_agree(build.module(y), inputs, seed)


@few
@given(st.sampled_from([(1, 2), (0,), (3,), (0, 3), (1, 2, 3)]), st.integers(0, 1 << 16))
def test_reductions_agree_at_every_level(axes: tuple[int, ...], seed: int):
    rng = np.random.default_rng(seed)
    build = ModuleBuilder("mobile4k", ((2, 3, 4, 5), f32))
    y = build.group("sum", "vector", build.args, lambda x: [graph.ReduceSumOp(x, axes)])
    assert_levels_agree(build.module(y), [floats(rng, 2, 3, 4, 5)], seed)


def test_grouped_convolutions_agree_at_every_level():
    rng = np.random.default_rng(0)
    build = ModuleBuilder("edge256", ((1, 6, 6, 8), I8))
    w = build.constant(integers(rng, 3, 3, 4, 10), I8)
    b = build.constant(rng.integers(-1000, 1000, 10, np.int32), i32)
    body = lambda *v: convolution(*v, groups=2, pads=(1, 1, 1, 1))  # noqa: E731
    y = build.group("conv", "array", [build.args[0], w, b], body)
    assert_levels_agree(build.module(y), [integers(rng, 1, 6, 6, 8)])


def test_depthwise_convolutions_agree_at_every_level():
    rng = np.random.default_rng(0)
    build = ModuleBuilder("edge256", ((1, 9, 9, 40), I8))
    w = build.constant(integers(rng, 3, 3, 1, 40), I8)
    b = build.constant(rng.integers(-1000, 1000, 40, np.int32), i32)
    body = lambda *v: convolution(*v, groups=40, strides=(2, 2), pads=(0, 0, 1, 1))  # noqa: E731
    y = build.group("conv", "array", [build.args[0], w, b], body)
    assert_levels_agree(build.module(y), [integers(rng, 1, 9, 9, 40)])


# --- the plan


def tight_target(folder: Path, spm: int) -> str:
    """edge256 with another size of scratchpad, as a target file."""
    text = (Path(graph.__file__).parent.parent / "targets" / "edge256.toml").read_text()
    path = folder / "tight.toml"
    path.write_text(text.replace("size = 524288 ", f"size = {spm} "))
    return str(path)


def chain(target: str, layers: int) -> ModuleBuilder:
    """Convolutions of 16 x 16 x 16 tensors, each feeding the next."""
    rng = np.random.default_rng(0)
    build = ModuleBuilder(target, ((1, 16, 16, 16), OUT))
    value = build.args[0]
    for n in range(layers):
        w = build.constant(integers(rng, 3, 3, 16, 16), I8)
        b = build.constant(np.zeros(16, np.int32), i32)
        body = lambda *v: convolution(*v, pads=(1, 1, 1, 1))  # noqa: E731
        value = build.group(f"conv{n}", "array", [value, w, b], body)
    build.result = value  # type: ignore[attr-defined]
    return build


def residency(target: str) -> list[bool]:
    build = chain(target, 4)
    module = build.module(build.result)  # type: ignore[attr-defined]
    GraphMapPass().apply(NpuContext(), module)
    return [stays(op) for op in module.walk() if isinstance(op, graph.GroupOp)]


def test_results_stay_in_the_scratchpad_where_they_fit():
    assert residency("edge256") == [True, True, True, False]


def test_results_go_to_dram_where_they_do_not_fit(tmp_path: Path):
    assert residency(tight_target(tmp_path, 6_500)) == [False, False, False, False]


@pytest.mark.parametrize("spm", [9_000, 12_000, 20_000, 40_000])
def test_a_tight_scratchpad_changes_no_bit(tmp_path: Path, spm: int):
    build = chain(tight_target(tmp_path, spm), 3)
    x = integers(np.random.default_rng(1), 1, 16, 16, 16)
    assert_levels_agree(build.module(build.result), [x])  # type: ignore[attr-defined]


def test_what_no_tile_of_fits_the_scratchpad_runs_on_the_host(tmp_path: Path):
    build = chain(tight_target(tmp_path, 256), 1)
    module = build.module(build.result)  # type: ignore[attr-defined]
    GraphMapPass().apply(NpuContext(), module)
    group = next(op for op in module.walk() if isinstance(op, graph.GroupOp))
    assert group.kind.data == "host"
    assert_levels_agree(module, [integers(np.random.default_rng(1), 1, 16, 16, 16)])


def test_a_pinned_mapping_too_large_for_the_scratchpad_is_an_error(tmp_path: Path):
    build = chain(tight_target(tmp_path, 1_000), 1)
    op = build.result.owner  # type: ignore[attr-defined]
    op.attributes["npu.mapping"] = mapping_attribute(ContractionMapping(16, 16, 16, 16))
    module = build.module(build.result)  # type: ignore[attr-defined]
    with pytest.raises(CompileError, match="tiles of a mapping must fit the scratchpad"):
        GraphMapPass().apply(NpuContext(), module)


# --- operations that need the narrowest tiles or weights that are not known


@few
@given(st.booleans(), st.integers(0, 1 << 16))
def test_convolutions_by_computed_weights_agree_at_every_level(depthwise: bool, seed: int):
    rng = np.random.default_rng(seed)
    groups, filters = (6, (3, 2, 1, 6)) if depthwise else (2, (3, 2, 3, 10))
    build = ModuleBuilder("mobile4k", ((2, 7, 6, 6), f32), (filters, f32))
    body = lambda x, w: [graph.Conv2DOp(x, w, groups=groups)]  # noqa: E731
    y = build.group("conv", "array", build.args, body)
    assert_levels_agree(build.module(y), [floats(rng, 2, 7, 6, 6), floats(rng, *filters)], seed)


@few
@given(st.integers(1, 4), st.integers(1, 9), st.integers(1, 5), st.integers(0, 1 << 16))
def test_any_tiling_of_a_pool_gives_the_same_bits(rows: int, cols: int, channels: int, seed: int):
    rng = np.random.default_rng(seed)
    build = ModuleBuilder("mobile4k", ((2, 7, 6, 5), f32))
    pool = lambda x: [graph.MaxPool2DOp(x, (3, 2), (2, 1), (1, 1, 0, 1), (2, 1))]  # noqa: E731
    y = build.group("pool", "vector", build.args, pool)
    _, oh, ow, _ = y.type.get_shape()  # type: ignore[attr-defined]
    slots = int(rng.integers(1, 3))
    mapping = PoolingMapping(min(rows, oh), min(cols, ow), channels, slots)
    y.owner.attributes["npu.mapping"] = mapping_attribute(mapping)  # type: ignore[union-attr]
    assert_levels_agree(build.module(y), [floats(rng, 2, 7, 6, 5)], seed)
