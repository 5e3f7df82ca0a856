"""The text of every tile operation reads back, in its own form and in the generic one."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tile_nests import body, function, loops
from xdsl.dialects.builtin import ModuleOp, StringAttr
from xdsl.ir import Operation
from xdsl.utils.exceptions import VerifyException

from npu_dialect import dtypes, text, tile
from npu_dialect.blob import BlobAttr
from npu_dialect.diagnostics import CompileError
from npu_dialect.provenance import name_location
from npu_dialect.tile import Span, Window, WindowAttr
from npu_dialect.tile.attributes import clamp, spans_of, windows_of

KERNEL = '#npu.kernel<"(t0: i32) -> i8: v0 = clamp.i32 t0 {low=-128, high=127}">'
PLUS = '#npu.kernel<"(t0: i8, t1: i8; p0: i32) -> i8: v0 = add.i32 t0, t1; v1 = add.i32 v0, p0">'
LOOKUP = '#npu.kernel<"(t0: i8 | table i8) -> i8: v0 = lookup.i32 t0 {offset=128}">'
X = 'memref<6x8x4xi8, "spm">'
Y = 'memref<4x6x5xi8, "spm">'

EXAMPLES = {
    "tile.constant": [
        '%0 = tile.constant {value = #graph.blob<i8, [2], [1, 2]>} : memref<2xi8, "dram">'
    ],
    "tile.alloc": [
        '%0 = tile.alloc : memref<4x4xi8, "spm">',
        '%0 = tile.alloc {depth = 2, offset = 64, label = "x"} : memref<4x4xui8, "spm">',
        f'%0 = tile.alloc like(%x : {X}) : memref<6x8x4xi32, "acc">',
    ],
    "tile.for": ["tile.for %k to 3 {\n}", "tile.for %k to 3 {\n} {unroll}"],
    "tile.end": [],
    "tile.view": [
        f"%0 = tile.view %x[%i * 8 - 1 : 10, 0 : 8, %i * -2 + %j + 5 : 2 : -1] : {X}",
        f"%0 = tile.view %x[%i : 1, 2 : 3 : 2, 0 : 4] {{note = 1}} : {X}",
    ],
    "tile.transpose": [
        f'%0 = tile.transpose %x {{permutation = [2, 0, 1]}} : {X} to memref<4x6x8xi8, "spm">'
    ],
    "tile.reshape": [f'%0 = tile.reshape %x : {X} to memref<48x4xi8, "spm">'],
    "tile.broadcast": [f'%0 = tile.broadcast %x : {X} to memref<2x6x8x4xi8, "spm">'],
    "tile.strided": [
        f'%0 = tile.strided %x {{strides = [1, 4]}} : {X} to memref<4x48xi8, "spm">',
        f'%0 = tile.strided %x {{offset = 191, strides = [-2, 0]}} : {X} to memref<3x2xi8, "spm">',
    ],
    "tile.unfold": [
        f'%0 = tile.unfold %x {{size = 3}} : {X} to memref<6x6x12xi8, "spm">',
        f'%0 = tile.unfold %x {{size = 2, step = 3}} : {X} to memref<6x3x8xi8, "spm">',
    ],
    "tile.copy": [f"%0 = tile.copy %x to %x2 : {X} to {X}"],
    "tile.wait": [f"%0 = tile.copy %x to %x2 : {X} to {X}\ntile.wait %0, %0"],
    "tile.fill": [
        f"tile.fill %x {{value = -3 : i8}} : {X}",
        'tile.fill %f {value = 1.500000e+00 : f32} : memref<4xf32, "spm">',
        'tile.fill %f {value = 0xff800000 : f32} : memref<4xf32, "spm">',
        'tile.fill %b {value = true} : memref<4xi1, "spm">',
        'tile.fill %u {value = 200 : ui8} : memref<4xui8, "spm">',
        'tile.fill %l {value = 7} : memref<4xi64, "spm">',
    ],
    "tile.conv2d": [
        f'tile.conv2d ins(%x, %w : {X}, memref<3x3x4x5xi8, "spm">) out(%y : {Y}) '
        f"window [%i * 4 : 6, 0 : 8] {{kernel = {KERNEL}, x_zero = 3, w_zero = -1}}",
        f'tile.conv2d ins(%x, %w : {X}, memref<3x3x4x5xi8, "spm">) acc(%a : memref<4x6x5xi32, '
        '"acc">) window [%i * 4 : 6, 0 : 8] reduction [%j] {strides = [2, 1], dilations = [1, 2]}',
    ],
    "tile.depthwise_conv2d": [
        f'tile.depthwise_conv2d ins(%x, %d : {X}, memref<3x3x4xi8, "spm">) '
        f'acc(%e : memref<4x6x4xi32, "acc">) window [%i * 4 - 1 : 6, -1 : 8]'
    ],
    "tile.matmul": [
        'tile.matmul ins(%m, %n : memref<2x3xi8, "spm">, memref<3x4xi8, "spm">) '
        'acc(%o : memref<2x4xi32, "acc">) out(%q : memref<2x4xi8, "spm">) reduction [%i, %j] '
        f"{{kernel = {KERNEL}}}"
    ],
    "tile.vector": [
        f'tile.vector ins(%x, %x2 : {X}, {X}) out(%x : {X}) params(%p : memref<1x4xi32, "spm">) '
        f"{{kernel = {PLUS}}}",
        f'tile.vector ins(%x : {X}) out(%x : {X}) table(%t : memref<256xi8, "spm">) '
        f"{{kernel = {LOOKUP}}}",
    ],
    "tile.reduce": [
        f'tile.reduce ins(%x : {X}) out(%r : memref<1x1x4xi32, "spm">) '
        '{kind = "sum", axes = [0, 1], x_zero = 3}'
    ],
    "tile.pool2d": [
        f'tile.pool2d ins(%x : {X}) out(%v : memref<3x4x4xi8, "spm">) window [%i * 6 : 6, 0 : 8] '
        '{kind = "max", size = [2, 2], strides = [2, 2]}',
        'tile.pool2d ins(%g : memref<1x6x8x4xf32, "spm">) out(%h : memref<1x3x4x4xf32, "spm">) '
        'window [0 : 6, 0 : 8] {kind = "avg", size = [2, 2], strides = [2, 2], count_include_pad}',
    ],
    "tile.gather": [
        'tile.gather ins(%tokens, %rows : memref<9x4xi8, "dram">, memref<3xi64, "dram">) '
        'out(%n : memref<3x4xi8, "spm">)',
    ],
    "tile.scatter": [
        'tile.scatter ins(%ids, %n : memref<3xi32, "spm">, memref<3x4xi8, "spm">) '
        'out(%q : memref<2x4xi8, "spm">) window [%i * 2 : 2] {kind = "set"}',
        'tile.scatter ins(%ids, %one : memref<3xi32, "spm">, memref<3x1xf32, "spm">) '
        'out(%ones : memref<4x1xf32, "spm">) window [0 : 4] {kind = "max"}',
    ],
    "tile.host": [
        'tile.host ins(%in : memref<4xf32, "dram">) outs(%on : memref<4xi8, "dram">) '
        '{callee = @f, engine = "io"}',
        'tile.host outs(%on : memref<4xi8, "dram">) {callee = @f}',
    ],
}
"""Operations as they print."""

VALUES = {
    "x": X,
    "x2": X,
    "y": Y,
    "w": 'memref<3x3x4x5xi8, "spm">',
    "a": 'memref<4x6x5xi32, "acc">',
    "d": 'memref<3x3x4xi8, "spm">',
    "e": 'memref<4x6x4xi32, "acc">',
    "m": 'memref<2x3xi8, "spm">',
    "n": 'memref<3x4xi8, "spm">',
    "o": 'memref<2x4xi32, "acc">',
    "q": 'memref<2x4xi8, "spm">',
    "p": 'memref<1x4xi32, "spm">',
    "t": 'memref<256xi8, "spm">',
    "r": 'memref<1x1x4xi32, "spm">',
    "v": 'memref<3x4x4xi8, "spm">',
    "g": 'memref<1x6x8x4xf32, "spm">',
    "h": 'memref<1x3x4x4xf32, "spm">',
    "f": 'memref<4xf32, "spm">',
    "b": 'memref<4xi1, "spm">',
    "u": 'memref<4xui8, "spm">',
    "l": 'memref<4xi64, "spm">',
    "ids": 'memref<3xi32, "spm">',
    "rows": 'memref<3xi64, "dram">',
    "tokens": 'memref<9x4xi8, "dram">',
    "one": 'memref<3x1xf32, "spm">',
    "ones": 'memref<4x1xf32, "spm">',
    "in": 'memref<4xf32, "dram">',
    "on": 'memref<4xi8, "dram">',
}


def parse(operation: str) -> ModuleOp:
    """A module with `operation` in two loops, over an argument per value it may use."""
    used = {name: kind for name, kind in VALUES.items() if f"%{name}" in operation}
    arguments = ", ".join(f"%{name} : {kind}" for name, kind in used.items())
    loops = "tile.for %i to 2 {\ntile.for %j to 2 {\n" + operation + "\n}\n}\n"
    return text.parse(f"func.func @main({arguments}) {{\n{loops}func.return\n}}")


def operations(module: ModuleOp, name: str) -> list[Operation]:
    return [op for op in module.walk() if op.name == name]


def test_every_operation_has_an_example():
    assert set(EXAMPLES) == {op.name for op in tile.OPS}


@pytest.mark.parametrize(
    ("name", "example"), [(n, e) for n, examples in EXAMPLES.items() for e in examples]
)
def test_an_operation_reads_back(name: str, example: str):
    module = parse(example)
    module.verify()
    printed = text.to_text(module)
    assert text.to_text(text.parse(printed)) == printed
    generic = text.parse(text.to_text(module, generic=True))
    assert generic.is_structurally_equivalent(module)


@pytest.mark.parametrize(
    ("name", "example"), [(n, e) for n, examples in EXAMPLES.items() for e in examples]
)
def test_an_operation_prints_as_it_is_written(name: str, example: str):
    printed = text.to_text(parse(example))
    assert squeeze(example) in squeeze(printed)


def squeeze(code: str) -> str:
    """Without white space and value names, which printing may change."""
    import re

    return re.sub(r"%\w+", "%", "".join(code.split()).replace("%", " %"))


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        ("tile.for %k to 0 {\n}", "a loop must have at least one trip, found 0"),
        (
            f"%0 = tile.view %x[0 : 2] : {X}",
            "there must be one window per dimension (3), found 1",
        ),
        (
            f"%0 = tile.view %x[0 : 0, 0 : 1, 0 : 1] : {X}",
            "a window must have at least one element",
        ),
        (
            f'%0 = tile.transpose %x {{permutation = [0, 0, 1]}} : {X} to memref<6x6x8xi8, "spm">',
            "permutation must name each of the 3 dimensions once, found [0, 0, 1]",
        ),
        (
            f'%0 = tile.transpose %x {{permutation = [1, 0, 2]}} : {X} to memref<6x8x4xi8, "spm">',
            'tile.transpose must give memref<8x6x4xi8, "spm">',
        ),
        (
            f'%0 = tile.reshape %x : {X} to memref<48x5xi8, "spm">',
            "a reshape must keep the number of elements, found [6, 8, 4] and [48, 5]",
        ),
        (
            f'%0 = tile.broadcast %x : {X} to memref<12x8x4xi8, "spm">',
            "a broadcast must keep every dimension or repeat one of size 1",
        ),
        (
            f'%0 = tile.strided %x {{strides = [1]}} : {X} to memref<4x48xi8, "spm">',
            "there must be one stride per dimension (2), found 1",
        ),
        (
            f'%0 = tile.strided %x {{offset = 9, strides = [4]}} : {X} to memref<47xi8, "spm">',
            "the elements must lie in the source's [0, 192), found [9, 193]",
        ),
        (
            f'%0 = tile.unfold %x {{size = 9}} : {X} to memref<6x0x36xi8, "spm">',
            "size must be 1 to the number of columns, and step at least 1, found 9 and 1",
        ),
        (
            f'%0 = tile.unfold %x {{size = 3}} : {X} to memref<6x8x12xi8, "spm">',
            'tile.unfold must give memref<6x6x12xi8, "spm">',
        ),
        (f"%0 = tile.copy %x to %y : {X} to {Y}", "a copy must keep the shape"),
        (
            'tile.fill %f {value = 3 : i8} : memref<4xf32, "spm">',
            "the value must have the element type f32, found i8",
        ),
        ('%0 = tile.alloc {depth = 0} : memref<4xi8, "spm">', "depth must be at least 1, found 0"),
        (
            '%0 = tile.alloc : memref<4xi8, "l2">',
            'result must lie in "dram", "spm" or "acc", found "l2"',
        ),
        (
            '%0 = tile.alloc : memref<4xi7, "spm">',
            "result must have a plain storage element type, found i7",
        ),
        (
            f'tile.conv2d ins(%x, %w : {X}, memref<3x3x4x5xi8, "spm">) window [0 : 6, 0 : 8]',
            "there must be an acc, for sums that are partial or stay",
        ),
        (
            f'tile.conv2d ins(%x, %w : {X}, memref<3x3x4x5xi8, "spm">) out(%y : {Y}) '
            "window [0 : 6, 0 : 8]",
            "there must be both a kernel and an out, or neither",
        ),
        (
            f'tile.conv2d ins(%x, %d : {X}, memref<3x3x4xi8, "spm">) acc(%a : memref<4x6x5xi32, '
            '"acc">) window [0 : 6, 0 : 8]',
            "w must have the shape [KH, KW, 4, OC], found [3, 3, 4]",
        ),
        (
            'tile.matmul ins(%m, %n : memref<2x3xi8, "spm">, memref<3x4xi8, "spm">) '
            'acc(%q : memref<2x4xi8, "spm">)',
            "acc must be i32 or i64, found i8",
        ),
        (
            f"tile.vector ins(%x : {X}) out(%x : {X}) {{kernel = {PLUS}}}",
            "the kernel must take (i8), found (i8, i8)",
        ),
        (
            f"tile.vector ins(%x, %x2 : {X}, {X}) out(%x : {X}) {{kernel = {PLUS}}}",
            "params must have the kernel's 1 rows, found none",
        ),
        (f"tile.vector ins(%x : {X}) out(%x : {X})", "a vector operation must have a kernel"),
        (
            f'tile.reduce ins(%x : {X}) out(%r : memref<1x1x4xi32, "spm">) '
            '{kind = "mean", axes = [0, 1]}',
            "kind must be one of sum, max, min, prod, found mean",
        ),
        (
            f'tile.reduce ins(%x : {X}) out(%r : memref<1x1x4xi32, "spm">) '
            '{kind = "sum", axes = [0]}',
            "out must have the shape [1, 8, 4]",
        ),
        (
            f'tile.reduce ins(%x : {X}) out(%r : memref<1x1x4xi32, "spm">) '
            '{kind = "max", axes = [0, 1]}',
            "out of i8 must be one of (i8), found i32",
        ),
        (
            'tile.host outs(%on : memref<4xi8, "dram">) {callee = @f, engine = "dma"}',
            'engine must be "host" or "io", found "dma"',
        ),
    ],
)
def test_a_broken_operation_says_what_must_hold(broken: str, message: str):
    with pytest.raises((VerifyException, CompileError)) as problem:
        parse(broken).verify()
    assert message in str(problem.value)


def test_a_location_is_kept():
    where = name_location("conv1")
    value = tile.ConstantOp(BlobAttr.of(np.zeros(2, np.int8)), location=where)
    assert value.location == where
    assert tile.AllocOp.of(value, location=where).location == where


def test_a_loop_is_filled_before_its_end():
    func = function([((4,), dtypes.i8)])
    build, (i,) = loops(body(func), 2)
    build.insert(tile.ViewOp(func.args[0], [Span(2, 0, [(i, 2)])]))
    assert [op.name for op in func.body.block.first_op.body.block.ops] == ["tile.view", "tile.end"]  # pyright: ignore


# Windows


def test_windows_print_as_they_are_written():
    assert str(WindowAttr(Window(-1, (8,), 10))) == "#tile.window<d0 * 8 - 1 : 10>"
    assert str(WindowAttr(Window(3, (0, 1), 4, -2))) == "#tile.window<d1 + 3 : 4 : -2>"
    assert str(WindowAttr(Window(0, (), 4))) == "#tile.window<0 : 4>"


def test_equal_windows_compare_equal():
    assert Window(0, (1, 0, 0), 4) == Window(0, (1,), 4)


def test_spans_name_each_loop_index_once():
    func = function([((4,), dtypes.i8)])
    _, (i, j) = loops(body(func), 2, 2)
    spans = [Span(2, 0, [(j, 2)]), Span(3, 1, [(i, 1), (j, 4)]), Span(4)]
    indices, windows = windows_of(spans)
    assert indices == [j, i]
    assert [w.data.coefficients for w in windows] == [(2,), (4, 1), ()]
    assert sorted(map(repr, flatten(spans_of(indices, windows)))) == sorted(
        map(repr, flatten(spans))
    )


def flatten(spans: list[Span]) -> list[Any]:
    return [
        (s.size, s.start, s.step, {id(v): c for v, c in sorted(s.terms, key=lambda t: id(t[0]))})
        for s in spans
    ]


@given(
    st.integers(-30, 30), st.integers(1, 12), st.integers(-4, 4).filter(bool), st.integers(1, 20)
)
def test_clamping_keeps_the_elements_inside(start: int, size: int, step: int, bound: int):
    inside = [k for k in range(size) if 0 <= start + k * step < bound]
    first, extent, cut = clamp(start, size, step, bound)
    assert extent == len(inside)
    if inside:
        assert (first, cut) == (start + inside[0] * step, inside[0])
    else:
        assert first == 0


def test_an_attribute_of_another_dialect_stays():
    module = parse('%0 = tile.alloc {npu.note = "kept"} : memref<4xi8, "spm">')
    (alloc,) = operations(module, "tile.alloc")
    assert alloc.attributes == {"npu.note": StringAttr("kept")}
