"""Cases of the array's instructions, for the matrix of `instruction_matrix`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

import numpy as np
from instruction_matrix import LAYOUTS, Build, Rows, Sheet, generates

from npu_dialect import dtypes, rice
from npu_dialect.dtypes import DType, bf16, f16, f32, f64, i8, i16, i32, i64, u8, u16
from npu_dialect.machine import Array, Operand
from npu_dialect.npu.arrays import Conv2DOp, DepthwiseConv2DOp, MatmulOp
from npu_dialect.npu.base import Instruction

USUAL = [(i8, i8), (u8, i8), (i16, i8), (f32, f32), (f16, f16), (bf16, bf16)]
"""(input, weights) of all shapes."""
UNUSUAL = [
    *((x, u8) for x in (i8, u8, i16)),
    *((x, w) for x, w in product((f32, f16, bf16), repeat=2) if x is not w),
    *((x, i16) for x in (i8, u8, i16)),
    *((x, w) for x in (u16, i32, i64, dtypes.bool_) for w in (i8, x)),
    *[(i8, i32), (u8, i64), (i8, dtypes.bool_), (f64, f32), (f32, f64), (f64, f64)],
]
"""What else the plain tier multiplies: a few shapes of each."""
PAIRS = [*USUAL, *UNUSUAL]


# --- the output stage


@dataclass(frozen=True)
class Finish:
    """What becomes of the sums."""

    kernel: str = ""
    params: str = ""
    """Per row: b(ias), m(ultiplier), p(ower of two), q(31 multiplier), s(hift), v(alue: f32)."""
    residual: DType | None = None
    table: DType | None = None
    accumulate: bool = False
    params_channels: int | None = None
    layout: str = "dense"
    side_layout: str = "dense"
    in_place: bool = False
    """Whether the residual lies where the output goes."""
    wide: bool = False
    """Whether sums of integers have 64 bits."""


PARTIAL, ACCUMULATE = Finish(), Finish(accumulate=True)

REQUANTIZE = "zero_in=0, zero_out=3, low=-128, high=127"
WHOLE = {
    "sums": Finish("(t0: i32) -> i32:"),
    "wrapped": Finish("(t0: i32) -> i8:", accumulate=True),
    "requantized": Finish(
        "(t0: i32; p0: i32, p1: f32) -> i8: v0 = add.i32 t0, p0; "
        f"v1 = requantize.f32 v0, p1 {{{REQUANTIZE}}}",
        "bm",
    ),
    "ties": Finish(
        "(t0: i32; p0: i32, p1: f32) -> u8: v0 = add.i32 t0, p0; "
        "v1 = requantize.f32 v0, p1 {zero_in=1, zero_out=128, low=0, high=255}",
        "bp",
        accumulate=True,
    ),
    "fixed": Finish(
        "(t0: i32; p0: i32, p1: i32, p2: i32) -> i16: v0 = add.i32 t0, p0; v1 = requantize.fixed "
        "v0, p1, p2 {rounding='half_away', zero_in=0, zero_out=-5, low=-32768, high=32767}",
        "bqs",
    ),
    "doubly rounded": Finish(
        "(t0: i32; p0: i32, p1: i32) -> i8: v0 = requantize.fixed t0, p0, p1 "
        "{rounding='double', zero_in=7, zero_out=-5, low=-128, high=127}",
        "qs",
        params_channels=1,
    ),
    "residual": Finish(
        "(t0: i32, t1: i8; p0: f32) -> i8: v0 = requantize.f32 t0, p0 "
        f"{{{REQUANTIZE}}}; v1 = add.i32 v0, t1; v2 = clamp.i32 v1 {{low=-128, high=127}}",
        "p",
        residual=i8,
    ),
    "looked up": Finish(
        "(t0: i32; p0: i32, p1: f32 | table u8) -> u8: v0 = add.i32 t0, p0; v1 = requantize.f32 "
        f"v0, p1 {{{REQUANTIZE}}}; v2 = lookup.i32 v1 {{offset=128}}",
        "bm",
        table=u8,
    ),
    "as floats": Finish(
        "(t0: i32; p0: f32) -> f32: v0 = dequantize t0 {scale=0.0123, zero_point=3}; "
        "v1 = mul.f32 v0, p0; v2 = tanh.f32 v1",
        "v",
    ),
}
REAL = {
    "sums": Finish("(t0: f32) -> f32:"),
    "narrowed": Finish("(t0: f32) -> f16:", accumulate=True),
    "biased": Finish("(t0: f32; p0: f32) -> bf16: v0 = add.f32 t0, p0; v1 = relu.f32 v0", "v"),
    "residual": Finish(
        "(t0: f32, t1: f16; p0: f32) -> f16: v0 = mul.f32 t0, p0; v1 = add.f32 v0, t1",
        "v",
        residual=f16,
    ),
    "quantized": Finish(
        "(t0: f32) -> i8: v0 = quantize t0 {scale=0.37, zero_point=-3, low=-128, high=127}",
        accumulate=True,
    ),
}


HALF = "zero_in=0, zero_out=3, low=-32768, high=32767"
WIDE = {
    "partial": Finish(wide=True),
    "accumulate": Finish(accumulate=True, wide=True),
    "sums": Finish("(t0: i64) -> i64:", wide=True),
    "rescaled": Finish(
        "(t0: i64; p0: i32, p1: f32) -> i16: v0 = cast.i32.i64 p0; v1 = add.i64 t0, v0; "
        f"v2 = requantize.f32.i64 v1, p1 {{{HALF}}}",
        "bm",
        accumulate=True,
        wide=True,
    ),
    "fixed": Finish(
        "(t0: i64; p0: i32, p1: i32, p2: i32, p3: i32) -> i16: v0 = pair.i64 p0, p1; v1 = add.i64 "
        f"t0, v0; v2 = requantize.fixed.i64 v1, p2, p3 {{rounding='half_up', {HALF}}}",
        "bbqs",
        wide=True,
    ),
    "residual": Finish(
        f"(t0: i64, t1: i16; p0: f32) -> i16: v0 = requantize.f32.i64 t0, p0 {{{HALF}}}; "
        "v1 = add.i32 v0, t1; v2 = clamp.i32 v1 {low=-32768, high=32767}",
        "p",
        residual=i16,
        accumulate=True,
        wide=True,
    ),
}
WIDE_PAIRS = ((i16, i8), (i16, i16), (u8, i16))


def wide_stages() -> Iterator[tuple[DType, DType, int, Finish]]:
    """Types of operands, a number, and an output stage of 64-bit sums."""
    for (x, w), (number, finish) in product(WIDE_PAIRS, enumerate(WIDE.values())):
        yield x, w, number, finish


def stages(is_float: bool) -> dict[str, Finish]:
    """The output stages of a type of sums, without and with a kernel."""
    return {"partial": PARTIAL, "accumulate": ACCUMULATE, **(REAL if is_float else WHOLE)}


def finished(sheet: Sheet, finish: Finish, dims: Sequence[int], is_float: bool) -> dict[str, Any]:
    """The fields of an array instruction from its sums on."""
    sums = f32 if is_float else i64 if finish.wide else i32
    fields: dict[str, Any] = {"accumulate": int(finish.accumulate)}
    if finish.accumulate:
        fields["partial"] = sheet.given(sums, dims, finish.side_layout, "acc")
    elif not finish.kernel:
        fields["partial"] = sheet.space(sums, dims, finish.side_layout, "acc")
    if not finish.kernel:
        return fields
    fields["kernel"] = sheet.kernel(finish.kernel)
    kernel = sheet.kernels[-1]
    if finish.params:
        channels = dims[-1] if finish.params_channels is None else finish.params_channels
        rows = [row(sheet, kind, max(channels, 1)) for kind in finish.params]
        fields["params"] = sheet.params(rows, channels, finish.side_layout)
    if finish.residual:
        fields["residual"] = sheet.given(finish.residual, dims, finish.side_layout)
    if finish.table:
        fields["table"] = sheet.given(finish.table, (256,), finish.side_layout)
    if finish.in_place:
        fields["output"] = fields["residual"]
    else:
        fields["output"] = sheet.space(kernel.output, dims, finish.layout)
    return fields


def row(sheet: Sheet, kind: str, count: int) -> Array:
    """A row of parameters."""
    rng = sheet.rng
    return {
        "b": lambda: rng.integers(-9999, 9999, count, np.int32),
        "m": lambda: (rng.random(count) * 2.0 ** rng.integers(-14, -4, count)).astype(np.float32),
        "p": lambda: (2.0 ** rng.integers(-10, -2, count)).astype(np.float32),
        "q": lambda: rng.integers(1 << 30, 1 << 31, count).astype(np.int32),
        "s": lambda: rng.integers(30, 44, count).astype(np.int32),
        "v": lambda: rng.standard_normal(count).astype(np.float32),
    }[kind]()


# --- constants in dram


def streamed(make: Build, coded: bool, layout: str) -> Build:
    """An instruction that reads weights and parameters in dram."""

    def build(sheet: Sheet) -> Instruction:
        op = make(sheet)
        values: dict[str, Any] = op.values()
        for name in ("weights", "params"):
            if name not in values:
                continue
            at = next(k for k, (o, _) in enumerate(sheet.contents) if o == values[name])
            operand, data = sheet.contents.pop(at)
            if name == "weights" and coded:
                op = op.with_values(**_coded(sheet, operand, data, layout))
            else:
                place = sheet.given(operand.dtype, operand.dims, layout, "dram", data)
                op = op.with_values(**{name: place})
        return op

    return build


def _coded(sheet: Sheet, operand: Operand, data: Array, layout: str) -> dict[str, Any]:
    """The fields of weights that are decoded from a stream."""
    strides = LAYOUTS[layout](operand.dims, operand.dtype.itemsize)
    elements = np.empty(operand.elements, operand.dtype.numpy)
    np.ndarray(operand.dims, elements.dtype, elements.data, 0, strides)[...] = data
    row = max(1, operand.elements // 3)
    stream = rice.encode(elements, row, rice.centres(elements))
    place = sheet.given(dtypes.u8, stream.shape, "dense", "dram", stream)
    weights = Operand("dram", place.address, operand.dtype, operand.dims, strides)
    return {"weights": weights, "stream": stream.size, "row": row}


STREAMED = ((i8, i8), (u8, i8), (i16, i8), (f32, f32), (i16, i16))


def streams(make: Any, shapes: dict[str, Any], names: Sequence[str]) -> Rows:
    """Ways to read constants in dram; `make` gives an instruction of types, shape and finish."""
    for x, w in STREAMED:
        ways = [(c, f) for c in (False, True) for f in ("dense", "permuted")]
        ways.append((False, "padded"))
        some = [f for f in stages(x.is_float).values() if f.params or not f.kernel]
        for number, (name, (coded, layout)) in enumerate(product(names, ways)):
            finish = some[number % len(some)]
            kind = f"{'coded' if coded else 'raw'}, {layout}"
            build = streamed(make(x, w, shapes[name], finish), coded, layout)
            yield f"{x} {w} in dram", f"{name}, {kind} {number}", build
    for number, finish in enumerate(WIDE.values()):
        for x, w in WIDE_PAIRS:
            build = streamed(make(x, w, shapes[names[-1]], finish), True, "permuted")
            yield f"{x} {w} in dram, wide", f"coded {number}", build


# --- matmul


@dataclass(frozen=True)
class Product:
    """A matrix product."""

    m: int = 5
    k: int = 24
    n: int = 19
    x_zero: int = 0
    w_zero: int = 0
    x_layout: str = "dense"
    w_layout: str = "dense"


PRODUCTS = {
    "one": Product(1, 1, 1),
    "one row": Product(1, 33, 40),
    "one column": Product(9, 31, 1),
    "tiny": Product(2, 3, 5),
    "lanes": Product(8, 16, 16),
    "lane and one": Product(9, 17, 17),
    "lane but one": Product(7, 15, 15),
    "primes": Product(13, 37, 31, x_zero=5),
    "wide": Product(3, 7, 131),
    "wider": Product(6, 12, 96),
    "tall": Product(67, 9, 8, x_zero=-3),
    "deep": Product(2, 401, 33),
    "large": Product(48, 64, 64),
    "zero points": Product(6, 29, 18, x_zero=-17, w_zero=11),
    "weight zero": Product(4, 30, 16, w_zero=-128),
    "far zero points": Product(3, 21, 9, x_zero=65535, w_zero=-65536),
    "padded": Product(6, 21, 35, 2, 1, "padded", "padded"),
    "apart": Product(6, 21, 19, 2, 0, "apart", "apart"),
    "permuted": Product(6, 21, 19, 0, 2, "permuted", "permuted"),
    "backwards": Product(6, 21, 19, 0, 0, "backwards", "backwards"),
    "flipped": Product(6, 21, 19, 1, 0, "flipped", "flipped"),
    "repeated": Product(6, 21, 19, 3, 0, "repeated", "repeated"),
    "no rows": Product(0, 8, 8),
    "no columns": Product(8, 8, 0),
    "no products": Product(5, 0, 9),
}
FEW = ("one", "primes", "zero points", "padded", "no products")


def product_of(x: DType, w: DType, shape: Product, finish: Finish) -> Build:
    def build(sheet: Sheet) -> Instruction:
        real = x.is_float
        return MatmulOp(
            input=sheet.given(x, (shape.m, shape.k), shape.x_layout),
            weights=sheet.given(w, (shape.k, shape.n), shape.w_layout),
            x_zero=0 if real else shape.x_zero,
            w_zero=0 if real else shape.w_zero,
            **finished(sheet, finish, (shape.m, shape.n), real),
        )

    return build


@generates(MatmulOp)
def products() -> Rows:
    for x, w in PAIRS:
        usual = (x, w) in USUAL
        group = f"{x} {w}"
        some = [*stages(x.is_float).items()]
        for number, (name, shape) in enumerate(PRODUCTS.items()):
            if usual or name in FEW:
                stage, finish = some[number % (len(some) if usual else 3)]
                yield group, f"{name}, {stage}", product_of(x, w, shape, finish)
    for x, w in ((i8, i8), (u8, i8), (i16, i8), (f32, f32), (f16, f16)):
        for name, shape, finish in _stage_cases(x.is_float, Product(7, 20, 37), Product(3, 5, 8)):
            yield f"{x} {w} stages", name, product_of(x, w, shape, finish)
    for x, w, number, finish in wide_stages():
        for name in [*PRODUCTS][number :: len(WIDE)]:
            yield f"{x} {w} wide", name, product_of(x, w, PRODUCTS[name], finish)
        for side in ("padded", "flipped"):
            form = replace(finish, side_layout=side, layout=side)
            yield f"{x} {w} wide", f"{side} {number}", product_of(x, w, Product(7, 20, 37), form)
    yield from streams(product_of, PRODUCTS, ("one row", "primes", "zero points", "deep"))
    yield "zero points of floats", "both", _float_zeros(3, -2)
    yield "overlaps", "output on input", _overlapping("input", 0)
    yield "overlaps", "output behind the start of the input", _overlapping("input", 16)


def _stage_cases(is_float: bool, large: Any, small: Any) -> Iterator[tuple[str, Any, Finish]]:
    """Every output stage, and the forms of its operands."""
    for name, finish in stages(is_float).items():
        yield name, large, finish
        yield f"{name}, small", small, replace(finish, accumulate=not finish.accumulate)
    for layout, side in (
        ("padded", "padded"),
        ("apart", "apart"),
        ("permuted", "permuted"),
        ("backwards", "backwards"),
        ("flipped", "flipped"),
    ):
        yield f"partial, {layout}", large, Finish(accumulate=True, side_layout=side)
        for stage in ("residual", "sums"):
            finish = replace(stages(is_float)[stage], layout=layout, side_layout=side)
            yield f"{stage}, {layout}", large, finish
    finish = stages(is_float)["residual"]
    yield "residual in place", large, replace(finish, in_place=True)
    yield "residual in place, padded", small, replace(finish, in_place=True, side_layout="padded")
    yield "params for all", large, replace(finish, params_channels=1)


def _float_zeros(x_zero: int, w_zero: int) -> Build:
    def build(sheet: Sheet) -> Instruction:
        return MatmulOp(
            input=sheet.given(f32, (4, 6)),
            weights=sheet.given(f32, (6, 5)),
            x_zero=x_zero,
            w_zero=w_zero,
            **finished(sheet, PARTIAL, (4, 5), True),
        )

    return build


def _overlapping(name: str, shift: int) -> Build:
    def build(sheet: Sheet) -> Instruction:
        operands = {
            "input": sheet.given(i8, (8, 16)),
            "weights": sheet.given(i8, (16, 16)),
        }
        fields = finished(sheet, WHOLE["requantized"], (8, 16), False)
        fields["output"] = Operand.dense("spm", operands[name].address + shift, i8, (8, 16))
        return MatmulOp(**operands, x_zero=0, w_zero=0, **fields)

    return build


# --- convolutions


@dataclass(frozen=True)
class Window:
    """A convolution; the pads are (top, left, bottom, right)."""

    hw: tuple[int, int] = (6, 7)
    ic: int = 5
    oc: int = 9
    size: tuple[int, int] = (3, 3)
    strides: tuple[int, int] = (1, 1)
    dilations: tuple[int, int] = (1, 1)
    pads: tuple[int, int, int, int] = (0, 0, 0, 0)
    x_zero: int = 0
    w_zero: int = 0
    x_layout: str = "dense"
    w_layout: str = "dense"

    @property
    def out(self) -> tuple[int, int]:
        rows, columns = (
            (
                self.hw[k]
                + self.pads[k]
                + self.pads[k + 2]
                - (self.size[k] - 1) * self.dilations[k]
                - 1
            )
            // self.strides[k]
            + 1
            for k in (0, 1)
        )
        return rows, columns


ONE = (1, 1)
WINDOWS = {
    "one": Window((1, 1), 1, 1, ONE),
    "pointwise": Window((4, 5), 8, 16, ONE),
    "pointwise, primes": Window((5, 7), 13, 17, ONE, x_zero=4),
    "pointwise, strided": Window((5, 7), 6, 10, ONE, (2, 2)),
    "3 x 3": Window(),
    "same": Window(pads=(1, 1, 1, 1), x_zero=-9),
    "top left": Window(pads=(2, 1, 0, 0), x_zero=3),
    "bottom right": Window(pads=(0, 0, 1, 2), x_zero=3),
    "only padding around": Window((2, 2), 3, 4, pads=(2, 2, 2, 2), x_zero=1),
    "much padding": Window((1, 1), 3, 4, pads=(4, 5, 5, 4), x_zero=7, w_zero=2),
    "stride 2": Window((9, 11), strides=(2, 2), pads=(1, 1, 1, 1)),
    "stride 2 by 3": Window((9, 11), strides=(2, 3), pads=(0, 1, 1, 0), x_zero=2),
    "dilation 2": Window((9, 8), dilations=(2, 2), pads=(2, 2, 2, 2)),
    "dilation 2 by 3, stride 2": Window((9, 12), strides=(2, 2), dilations=(2, 3), x_zero=-1),
    "stem": Window((17, 19), 3, 16, (7, 7), (2, 2), pads=(3, 3, 3, 3), x_zero=-128),
    "row": Window((3, 33), 4, 8, (1, 5), pads=(0, 2, 0, 2)),
    "column": Window((33, 3), 4, 8, (5, 1), pads=(2, 0, 2, 0), w_zero=3),
    "2 x 2": Window((5, 5), 16, 31, (2, 2), x_zero=5, w_zero=-3),
    "lanes": Window((6, 16), 16, 32),
    "channels": Window((4, 4), 23, 41, pads=(1, 1, 1, 1), x_zero=-4),
    "large": Window((16, 17), 16, 24, pads=(1, 1, 1, 1)),
    "3 x 3, large": Window((14, 15), 32, 33, pads=(1, 1, 1, 1), x_zero=9),
    "3 x 3, far zero point": Window((7, 8), 17, 16, pads=(0, 1, 1, 0), x_zero=-300, w_zero=1),
    "zero points": Window((6, 6), 7, 11, pads=(1, 1, 1, 1), x_zero=-17, w_zero=11),
    "padded": Window(pads=(1, 0, 0, 1), x_layout="padded", w_layout="padded", x_zero=2),
    "apart": Window(pads=(1, 0, 0, 1), x_layout="apart", w_layout="apart"),
    "permuted": Window(x_layout="permuted", w_layout="permuted", w_zero=2),
    "backwards": Window(pads=(0, 1, 1, 0), x_layout="backwards", w_layout="backwards"),
    "flipped": Window(pads=(0, 1, 1, 0), x_layout="flipped", w_layout="flipped", x_zero=1),
    "repeated": Window(x_layout="repeated", w_layout="repeated"),
    "no input channels": Window(ic=0),
    "no output channels": Window(oc=0),
    "no image": Window((0, 7), pads=(1, 1, 1, 1), size=(2, 3)),
    "no taps": Window((4, 5), size=(0, 1)),
}
FEW_WINDOWS = ("one", "same", "stride 2", "zero points", "padded", "no output channels")


def convolved(
    x: DType, w: DType, shape: Window, finish: Finish, out: tuple[int, int] | None = None
) -> Build:
    def build(sheet: Sheet) -> Instruction:
        rows, columns = out or shape.out
        return Conv2DOp(
            input=sheet.given(x, (*shape.hw, shape.ic), shape.x_layout),
            weights=sheet.given(w, (*shape.size, shape.ic, shape.oc), shape.w_layout),
            **_window_fields(shape, x.is_float),
            **finished(sheet, finish, (rows, columns, shape.oc), x.is_float),
        )

    return build


def _window_fields(shape: Window, is_float: bool) -> dict[str, Any]:
    return {
        "strides": shape.strides,
        "dilations": shape.dilations,
        "pads": shape.pads[:2],
        "x_zero": 0 if is_float else shape.x_zero,
        "w_zero": 0 if is_float else shape.w_zero,
    }


def filtered(x: DType, w: DType, shape: Window, finish: Finish) -> Build:
    def build(sheet: Sheet) -> Instruction:
        return DepthwiseConv2DOp(
            input=sheet.given(x, (*shape.hw, shape.oc), shape.x_layout),
            weights=sheet.given(w, (*shape.size, shape.oc), shape.w_layout),
            **_window_fields(shape, x.is_float),
            **finished(sheet, finish, (*shape.out, shape.oc), x.is_float),
        )

    return build


def _windowed(make: Any) -> Rows:
    for x, w in PAIRS:
        usual = (x, w) in USUAL
        some = [*stages(x.is_float).items()]
        for number, (name, shape) in enumerate(WINDOWS.items()):
            if usual or name in FEW_WINDOWS:
                stage, finish = some[number % (len(some) if usual else 3)]
                yield f"{x} {w}", f"{name}, {stage}", make(x, w, shape, finish)
    for x, w, number, finish in wide_stages():
        for name, shape in [*WINDOWS.items()][number :: len(WIDE)]:
            if shape.out[0] * shape.out[1] * shape.oc < 2000:  # more does not fit the accumulators
                yield f"{x} {w} wide", name, make(x, w, shape, finish)
    large, small = Window((5, 6), 18, 21, pads=(1, 1, 1, 1), x_zero=3), Window((3, 3), 3, 8)
    for x, w in ((i8, i8), (u8, i8), (f32, f32)):
        for name, shape, finish in _stage_cases(x.is_float, large, small):
            yield f"{x} {w} stages", name, make(x, w, shape, finish)


@generates(Conv2DOp)
def convolutions() -> Rows:
    yield from _windowed(convolved)
    yield from streams(convolved, WINDOWS, ("pointwise", "same", "channels", "zero points"))
    for x in (i8, f32):
        shape = Window((5, 6), pads=(1, 1, 0, 0), x_zero=3)
        yield "other extents of the output", f"{x}, less", convolved(x, x, shape, PARTIAL, (2, 3))
        yield "other extents of the output", f"{x}, more", convolved(x, x, shape, PARTIAL, (9, 8))


@generates(DepthwiseConv2DOp)
def depthwise_convolutions() -> Rows:
    yield from _windowed(filtered)
    yield from streams(filtered, WINDOWS, ("same", "stride 2", "large", "zero points"))
