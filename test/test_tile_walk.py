"""The walk resolves buffers, padding and reductions to numbers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tile_nests import Conv, body, conv_nest, function, load, loops
from xdsl.dialects.func import FuncOp

from npu_dialect import dtypes, text
from npu_dialect.diagnostics import CompileError
from npu_dialect.tile import (
    AllocOp,
    BroadcastOp,
    CopyOp,
    DepthwiseConv2DOp,
    ReshapeOp,
    Span,
    StridedOp,
    TransposeOp,
    UnfoldOp,
    ViewOp,
)
from npu_dialect.tile.descriptor import BufferKey, dense, dense_strides, reshaped
from npu_dialect.tile.events import AllocEvent, ArrayEvent, CopyEvent, Event, WaitEvent
from npu_dialect.tile.walk import walk


def events(func: FuncOp) -> list[Event]:
    found: list[Event] = []
    walk(func, found.append)
    return found


def parse(code: str) -> FuncOp:
    func = text.parse(code).body.block.first_op
    assert isinstance(func, FuncOp)
    return func


def copies(func: FuncOp) -> list[CopyEvent]:
    return [e for e in events(func) if isinstance(e, CopyEvent)]


def test_a_view_is_clamped_at_both_ends():
    func = function([((10, 4), dtypes.i8)])
    build, (i,) = loops(body(func), 3)
    load(build, func.args[0], [Span(6, -1, [(i, 4)]), 4])
    sources = [c.source for c in copies(func)]
    assert [(s.byte_offset, s.dims, s.strides, s.cut) for s in sources] == [
        (0, (5, 4), (4, 1), (1, 0)),
        (12, (6, 4), (4, 1), (0, 0)),
        (28, (3, 4), (4, 1), (0, 0)),
    ]


def test_an_alloc_has_the_extents_of_its_like_and_dense_strides():
    func = function([((10, 4), dtypes.i32)])
    build, (i,) = loops(body(func), 2)
    view = build.insert(ViewOp(func.args[0], [Span(8, 0, [(i, 8)]), Span(3)]))
    build.insert(AllocOp.of(view))
    found = [e.result for e in events(func) if isinstance(e, AllocEvent)]
    assert [(d.dims, d.strides) for d in found] == [((8, 3), (12, 4)), ((2, 3), (12, 4))]


def test_the_instances_of_an_alloc_rotate_through_its_slots():
    func = function([])
    build, _ = loops(body(func), 5)
    build.insert(AllocOp((4,), dtypes.i8, depth=2))
    keys = [e.result.buffer for e in events(func) if isinstance(e, AllocEvent)]
    assert [(k.instance, k.slot) for k in keys] == [(0, 0), (1, 1), (2, 0), (3, 1), (4, 0)]


def test_a_view_may_run_backwards_and_step():
    func = function([((10,), dtypes.i16)])
    build = body(func)
    back = build.insert(ViewOp(func.args[0], [Span(5, 9, step=-2)]))
    build.insert(CopyOp(back, build.insert(AllocOp.of(back))))
    (copy,) = copies(func)
    assert (copy.source.byte_offset, copy.source.dims, copy.source.strides) == (18, (5,), (-4,))
    assert copy.source.interval == (2, 20)


def test_views_compose():
    func = function([((1, 6), dtypes.i8)])
    build = body(func)
    turned = build.insert(TransposeOp(func.args[0], [1, 0]))
    flat = build.insert(ReshapeOp(turned, [6]))
    wide = build.insert(BroadcastOp(flat, [3, 6]))
    part = build.insert(ViewOp(wide, [Span(2), Span(4, 2)]))
    build.insert(CopyOp(part, build.insert(AllocOp.of(part))))
    (copy,) = copies(func)
    assert (copy.source.byte_offset, copy.source.dims, copy.source.strides) == (2, (2, 4), (0, 1))


def test_strides_show_a_dense_buffer_in_any_order():
    func = function([((4, 8), dtypes.i16)])
    build = body(func)
    odd = build.insert(StridedOp(func.args[0], (4, 4), (2, 8), 1))
    build.insert(CopyOp(odd, build.insert(AllocOp.of(odd))))
    (copy,) = copies(func)
    assert (copy.source.byte_offset, copy.source.dims, copy.source.strides) == (2, (4, 4), (4, 16))


def test_strides_are_those_of_a_dense_buffer():
    func = function([((4, 8), dtypes.i8)])
    build = body(func)
    part = build.insert(ViewOp(func.args[0], [Span(4), Span(4)]))
    odd = build.insert(StridedOp(part, (4, 4), (1, 4)))
    build.insert(CopyOp(odd, build.insert(AllocOp.of(odd))))
    with pytest.raises(CompileError, match="the source must be a whole buffer that lies densely"):
        copies(func)


def test_neighbouring_columns_are_the_channels_of_one():
    func = function([((5, 9, 3), dtypes.i16)])
    build = body(func)
    part = build.insert(ViewOp(func.args[0], [Span(5), Span(7, 1), Span(3)]))
    wide = build.insert(UnfoldOp(part, 4, 2))
    build.insert(CopyOp(wide, build.insert(AllocOp.of(wide))))
    (copy,) = copies(func)
    assert (copy.source.byte_offset, copy.source.dims) == (6, (5, 2, 12))
    assert copy.source.strides == (54, 12, 2)


def test_columns_that_become_channels_lie_densely():
    func = function([((5, 9, 3), dtypes.i8)])
    build = body(func)
    part = build.insert(ViewOp(func.args[0], [Span(5), Span(9), Span(2)]))
    wide = build.insert(UnfoldOp(part, 3))
    build.insert(CopyOp(wide, build.insert(AllocOp.of(wide))))
    with pytest.raises(CompileError, match="columns must lie densely"):
        copies(func)


shapes = st.lists(st.integers(1, 4), min_size=1, max_size=4)


@given(shapes, st.randoms(use_true_random=False))
def test_a_reshape_of_a_whole_buffer_is_numpys(shape: list[int], random: object):
    size = int(np.prod(shape))
    targets = [t for t in factorings(size) if len(t) <= 4]
    for target in targets[:6]:
        source = dense(BufferKey(function([((1,), dtypes.i8)]).args[0]), "dram", dtypes.i16, shape)
        found = reshaped(source, shape, target)
        assert found.dims == tuple(target)
        data = np.arange(size, dtype=np.int16)
        strided = np.lib.stride_tricks.as_strided(data, found.dims, found.strides)
        np.testing.assert_array_equal(strided, data.reshape(target))


def factorings(size: int) -> list[list[int]]:
    found = [[size]]
    for d in range(1, size + 1):
        if size % d == 0:
            rest = size // d
            found += [[d, rest], [1, d, rest], [d, 1, rest]]
    return found


def tile_of(dims: Sequence[int], strides: Sequence[int] | None = None):
    owner = function([((1,), dtypes.i8)]).args[0]
    found = dense(BufferKey(owner), "spm", dtypes.i8, dims)
    if strides is None:
        return found
    return type(found)(
        found.buffer, "spm", 0, dtypes.i8, tuple(dims), tuple(strides), (0,) * len(dims)
    )


def test_a_clamped_tile_can_be_flattened():
    found = reshaped(tile_of((5, 4, 3)), (8, 4, 3), (32, 3))
    assert (found.dims, found.strides) == ((20, 3), (3, 1))


def test_a_clamped_tile_can_be_split_where_it_divides():
    found = reshaped(tile_of((20, 3)), (32, 3), (8, 4, 3))
    assert (found.dims, found.strides) == ((5, 4, 3), (12, 3, 1))
    with pytest.raises(ValueError, match=r"extents \[21\] of \[32\], to \[8, 4\]"):
        reshaped(tile_of((21, 3)), (32, 3), (8, 4, 3))


def test_dimensions_with_gaps_cannot_be_merged():
    with pytest.raises(ValueError, match=r"dimensions \[2, 3\] with byte strides \[8, 1\]"):
        reshaped(tile_of((2, 3), (8, 1)), (2, 3), (6,))


def test_dense_strides_are_row_major():
    assert dense_strides((2, 3, 4), 2) == (24, 8, 2)


# Derived numbers


def products(func: FuncOp) -> list[ArrayEvent]:
    return [e for e in events(func) if isinstance(e, ArrayEvent)]


def test_padding_is_what_clamping_cut_off():
    found = products(conv_nest(Conv((8, 8, 2), 3, rows=4, columns=8)))
    assert [e.pads for e in found] == [(1, 1), (0, 1)]
    assert [e.x.dims for e in found] == [(5, 8, 2), (5, 8, 2)]


def test_a_sum_that_is_cut_accumulates_and_ends():
    found = products(conv_nest(Conv((4, 4, 6), 3, in_tile=2)))
    assert [(e.accumulate, e.last) for e in found] == [(False, False), (True, False), (True, True)]
    assert [e.kernel is None for e in found] == [True, True, False]
    assert [e.out is None for e in found] == [True, True, False]
    assert all(e.acc is not None for e in found)
    assert found[0].target == found[0].acc
    assert found[2].writes == (found[2].out,)


def test_a_sum_that_is_not_cut_leaves_acc_alone():
    (event,) = products(conv_nest(Conv((4, 4, 6), 3)))
    assert event.acc is None
    assert not event.accumulate and event.last


def test_events_know_the_loop_indices():
    func = conv_nest(Conv((8, 8, 2), 3, rows=4, columns=4, out_tile=3))
    assert [list(e.ivs.values()) for e in products(func)] == [
        [0, 0, 0],
        [0, 1, 0],
        [1, 0, 0],
        [1, 1, 0],
    ]


def test_a_leading_dimension_of_one_is_dropped():
    func = parse("""
        func.func @main() {
          %x = tile.alloc : memref<1x4x4x2xi8, "spm">
          %w = tile.alloc : memref<3x3x2x5xi8, "spm">
          %a = tile.alloc : memref<1x4x4x5xi32, "acc">
          tile.conv2d ins(%x, %w : memref<1x4x4x2xi8, "spm">, memref<3x3x2x5xi8, "spm">)
            acc(%a : memref<1x4x4x5xi32, "acc">) window [-1 : 6, -1 : 6]
          func.return
        }""")
    func.verify()
    (event,) = products(func)
    assert (event.x.dims, event.target.dims, event.pads) == ((4, 4, 2), (4, 4, 5), (1, 1))


def test_tokens_name_copies():
    func = conv_nest(Conv((8, 8, 2), 3))
    found = events(func)
    started = [e.token for e in found if isinstance(e, CopyEvent)]
    waited = [t for e in found if isinstance(e, WaitEvent) for t in e.tokens]
    assert started == waited == list(range(len(started)))


# What cannot be


def test_a_copy_of_unequal_extents_is_an_error():
    func = function([((10,), dtypes.i8)])
    build, (i,) = loops(body(func), 2)
    view = build.insert(ViewOp(func.args[0], [Span(8, 0, [(i, 8)])]))
    build.insert(CopyOp(view, build.insert(AllocOp((8,), dtypes.i8))))
    with pytest.raises(CompileError, match=r"must have the same extents; found \[2\] to \[8\]"):
        events(func)


def test_channels_that_do_not_fit_are_an_error():
    func = function([((4, 4, 5), dtypes.i8)])
    build, (i,) = loops(body(func), 2)
    x = load(build, func.args[0], [4, 4, Span(3, 0, [(i, 3)])])
    w = build.insert(AllocOp((1, 1, 3), dtypes.i8))
    acc = build.insert(AllocOp((4, 4, 3), dtypes.i32, "acc"))
    build.insert(DepthwiseConv2DOp(x, w, [Span(4), Span(4)], acc=acc))
    with pytest.raises(CompileError, match=r"w must have the channels of x .* 2 channels to 3"):
        events(func)


def test_a_result_without_elements_is_an_error():
    func = parse("""
        func.func @main(%m : memref<4xi8, "dram">) {
          %x = tile.alloc : memref<4xi8, "spm">
          %v = tile.view %x[4 : 2] : memref<4xi8, "spm">
          tile.vector ins(%v : memref<2xi8, "spm">) out(%v : memref<2xi8, "spm">)
            {kernel = #npu.kernel<"(t0: i8) -> i8: v0 = neg.i32 t0">}
          func.return
        }""")
    with pytest.raises(CompileError, match=r"must have at least one element; found \[0\]"):
        events(func)


def test_an_operation_of_another_level_is_an_error():
    func = parse("func.func @main() {\n%0 = arith.constant 1 : i32\nfunc.return\n}")
    with pytest.raises(CompileError, match=r"must hold tile operations only; found arith.constant"):
        events(func)
