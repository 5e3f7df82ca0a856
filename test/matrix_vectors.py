"""Cases of the vector unit's instructions, for the matrix of `instruction_matrix`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
from instruction_matrix import LAYOUTS, SHAPES, WRITABLE, Build, Rows, Sheet, generates

from npu_dialect import dtypes
from npu_dialect.dtypes import DType, f16, f32, i8, i16, i32, i64, u8
from npu_dialect.kernel import MICRO_OPS, MicroOp, widened
from npu_dialect.machine import Operand
from npu_dialect.npu.base import Instruction
from npu_dialect.npu.vectors import REDUCTIONS, Pool2DOp, ReduceOp, VectorOp

STORAGE = {"i32": i32, "i64": i64, "f32": f32}
"""What a value type is loaded from and stored to without a change."""

# --- npu.vector


def kernel_text(
    tensors: Sequence[DType], steps: str, output: DType, params: str = "", table: str = ""
) -> str:
    """A kernel as text; `params` are value types."""
    head = ", ".join(f"t{k}: {d}" for k, d in enumerate(tensors))
    if params:
        head += "; " + ", ".join(f"p{k}: {p}" for k, p in enumerate(params.split()))
    return f"({head}{f' | table {table}' if table else ''}) -> {output}: {steps}"


@dataclass(frozen=True)
class Elements:
    """Operands of a vector instruction: (extents, layout) of a, b and c, and of the output."""

    inputs: Sequence[tuple[Sequence[int], str]]
    output: Sequence[int]
    layout: str = "dense"


def computed(text: str, tensors: Sequence[DType], elements: Elements, output: DType) -> Build:
    def build(sheet: Sheet) -> Instruction:
        pairs = zip("abc", tensors, elements.inputs, strict=False)
        operands: Any = {n: sheet.given(d, dims, layout) for n, d, (dims, layout) in pairs}
        return VectorOp(
            **operands,
            kernel=sheet.kernel(text),
            output=sheet.space(output, elements.output, elements.layout),
        )

    return build


DIMS = (3, 4, 19)
BROADCASTS = {
    "all": [(DIMS, "dense"), (DIMS, "dense")],
    "one element": [(DIMS, "dense"), ((1, 1, 1), "dense")],
    "one element first": [((1, 1, 1), "dense"), (DIMS, "dense")],
    "a row": [(DIMS, "dense"), ((1, 1, 19), "dense")],
    "a column": [(DIMS, "dense"), ((3, 4, 1), "dense")],
    "a plane": [((3, 1, 19), "dense"), ((1, 4, 19), "padded")],
    "an outer product": [((3, 1, 19), "apart"), ((1, 4, 1), "dense")],
    "stride 0": [(DIMS, "one"), (DIMS, "dense")],
    "stride 0 in the rows": [(DIMS, "dense"), (DIMS, "repeated")],
    "both of one element": [((1, 1, 1), "dense"), (DIMS, "one")],
}
"""Extents and layouts of two operands."""


@generates(VectorOp)
def vectors() -> Rows:
    yield from _stored()
    yield from _two_operands()
    yield from _micro_operations()
    yield from _conversions()
    yield from _with_params_and_tables()
    yield from _in_place()


def _stored() -> Rows:
    """Every storage type, loaded and stored: shapes and layouts."""
    for dtype in dtypes.ALL:
        text = kernel_text([dtype], "", dtype)
        for name, dims in SHAPES.items():
            elements = Elements([(dims, "dense")], dims)
            yield dtype.name, name, computed(text, [dtype], elements, dtype)
        for number, layout in enumerate(LAYOUTS):
            to = WRITABLE[number % len(WRITABLE)]
            elements = Elements([((3, 4, 19), layout)], (3, 4, 19), to)
            yield dtype.name, f"{layout} to {to}", computed(text, [dtype], elements, dtype)
            elements = Elements([((3, 4, 19), layout)], (3, 4, 19))
            yield dtype.name, f"{layout} to dense", computed(text, [dtype], elements, dtype)
        yield dtype.name, "at the ends", _at_the_ends(text, dtype)
    for source in dtypes.ALL:
        for output in dtypes.ALL:
            if source is not output and widened(source) == widened(output):
                elements = Elements([((5, 19), "dense")], (5, 19))
                text = kernel_text([source], "", output)
                yield "types", f"{source} as {output}", computed(text, [source], elements, output)


def _at_the_ends(text: str, dtype: DType) -> Build:
    """The input at the end of the memory, behind it only what may be read without a meaning."""

    def build(sheet: Sheet) -> Instruction:
        return VectorOp(
            a=sheet.fill(sheet.last(dtype, (37,))),
            kernel=sheet.kernel(text),
            output=sheet.space(dtype, (37,)),
        )

    return build


def _two_operands() -> Rows:
    """Operands that broadcast against each other."""
    for dtype in (i8, i32, i64, f32):
        kind = widened(dtype)
        text = kernel_text([dtype, dtype], f"v0 = sub.{kind} t0, t1", dtype)
        for number, (name, inputs) in enumerate(BROADCASTS.items()):
            layout = WRITABLE[number % len(WRITABLE)] if number > 5 else "dense"
            elements = Elements(inputs, DIMS, layout)
            yield f"{dtype} broadcast", name, computed(text, [dtype, dtype], elements, dtype)
        for name, dims in SHAPES.items():
            elements = Elements([(dims, "dense"), (dims, "dense")], dims)
            yield f"{dtype} broadcast", name, computed(text, [dtype, dtype], elements, dtype)
    text = kernel_text([u8, i16, f32], "v0 = select.f32 t0, t2, t2", f32)
    yield (
        "three operands",
        "mixed types",
        computed(
            text,
            [u8, i16, f32],
            Elements([((4, 19), "padded"), ((1, 19), "dense"), ((4, 1), "dense")], (4, 19)),
            f32,
        ),
    )
    for kind, dtype in STORAGE.items():
        types = [dtypes.bool_, dtype, dtype]
        text = kernel_text(types, f"v0 = select.{kind} t0, t1, t2", dtype)
        elements = Elements([((4, 19), "dense"), ((1, 1), "dense"), ((4, 19), "apart")], (4, 19))
        yield "three operands", f"select {dtype}", computed(text, types, elements, dtype)


IMMEDIATES: dict[str, Sequence[Any]] = {
    "clamp.i32": (-100, 1000),
    "clamp.i64": (-(2**40), 2**41),
    "clamp.f32": (-0.75, 6.0),
    "const.i32": (-7,),
    "const.i64": (2**40 + 1,),
    "const.f32": (0.1,),
    "leaky_relu.f32": (0.01,),
    "elu.f32": (1.25,),
    "hard_sigmoid.f32": (0.2, 0.5),
    "requantize.f32": (-3, 5, -128, 127),
    "quantize": (0.037, 3, -128, 127),
    "dequantize": (0.037, 3),
    "lookup.i32": (128,),
    "lookup.f32": (0,),
}
"""What micro-operations are given; requantize.fixed and clamp.f32 come in more forms."""


def _micro_operations() -> Rows:
    """Every micro-operation alone, on vectors and what is left of them."""
    for name, row in MICRO_OPS.items():
        if name.startswith(("cast.", "lookup.", "requantize.", "interpolate.")):
            continue
        values = dict(zip(row.immediates, IMMEDIATES.get(name, ()), strict=True))
        for dims in ((211,), (7, 23)):
            yield f"{row.cost} {row.result}", f"{name} {list(dims)}", applied(row, values, dims)
            yield f"{row.cost} {row.result}", f"{name} {list(dims)}", applied(row, values, dims)
    for low, high in ((0.0, 6.0), (-0.0, 0.0), (-1e38, 1e-40)):
        values = {"low": low, "high": high}
        for _ in range(2):
            yield "clamp", f"{values}", applied(MICRO_OPS["clamp.f32"], values, (97,))


def applied(row: MicroOp, values: dict[str, Any], dims: Sequence[int]) -> Build:
    """A kernel of one step. Divisors, exponents and the like are among the special numbers."""
    types = [STORAGE[t] for t in row.operands] or [STORAGE[row.result]]
    args = ", ".join(f"t{k}" for k in range(len(row.operands)))
    immediates = ", ".join(f"{n}={v!r}" for n, v in values.items())
    text = f"v0 = {row.name} {args}".rstrip() + (f" {{{immediates}}}" if immediates else "")
    output = STORAGE[row.result]
    if not row.operands:  # a constant alone has no extents
        text += f"; v1 = add.{row.result} t0, v0"
    elements = Elements([(dims, "dense")] * len(types), dims)
    return computed(kernel_text(types, text, output), types, elements, output)


def _conversions() -> Rows:
    for name in MICRO_OPS:
        if name.startswith("cast."):
            _, source, target = name.split(".")
            of, to = STORAGE[source], dtypes.BY_NAME[target]
            text = kernel_text([of], f"v0 = {name} t0", to)
            for _ in range(2):
                elements = Elements([((5, 47), "dense")], (5, 47))
                yield f"casts of {source}", name, computed(text, [of], elements, to)


ROUNDINGS = ("half_even", "half_up", "half_away", "double")


def _with_params_and_tables() -> Rows:
    ends = "zero_in=-3, zero_out=5, low=-128, high=127"
    scaled = kernel_text([i32], f"v0 = requantize.f32 t0, p0 {{{ends}}}", i8, "f32")
    wide = "zero_in=2147483647, zero_out=-2147483648, low=-2147483648, high=2147483647"
    widest = kernel_text([i32], f"v0 = requantize.f32 t0, p0 {{{wide}}}", i32, "f32")
    for name, dims, channels in (
        ("per channel", (3, 5, 21), 21),
        ("for all", (3, 5, 21), 1),
        ("one channel", (45, 1), 1),
        ("many", (4, 130), 130),
        ("nothing", (0, 8), 8),
    ):
        yield "requantize.f32", name, _scaled(scaled, "m", i32, i8, dims, channels)
        yield "requantize.f32", f"{name}, ties", _scaled(scaled, "p", i32, i8, dims, channels)
        yield "requantize.f32", f"{name}, wide", _scaled(widest, "w", i32, i32, dims, channels)
        added = kernel_text([f32], "v0 = add.f32 t0, p0", f32, "f32")
        yield "params", f"{name}, floats", _scaled(added, "v", f32, f32, dims, channels)
        added = kernel_text([i8], "v0 = add.i32 t0, p0; v1 = mul.i32 v0, p1", i16, "i32 i32")
        yield "params", f"{name}, two rows", _scaled(added, "bb", i8, i16, dims, channels)
    for rounding, shifts in product(ROUNDINGS, ("s", "h", "z", "t")):
        text = kernel_text(
            [i32],
            f"v0 = requantize.fixed t0, p0, p1 {{rounding='{rounding}', {ends}}}",
            i8,
            "i32 i32",
        )
        name = f"{rounding}, {SHIFTS[shifts]}"
        for kind in "qe":
            yield "requantize.fixed", name, _scaled(text, kind + shifts, i32, i8, (5, 29), 29)
    scaled = kernel_text([i64], f"v0 = requantize.f32.i64 t0, p0 {{{ends}}}", i16, "f32")
    for kind in "mw":
        yield "wide sums", f"f32 {kind}", _scaled(scaled, kind, i64, i16, (5, 29), 29)
    for rounding, shifts in product(ROUNDINGS[:3], ("s", "h", "z", "t")):
        step = f"v0 = requantize.fixed.i64 t0, p0, p1 {{rounding='{rounding}', {ends}}}"
        text = kernel_text([i64], step, i16, "i32 i32")
        for kind in "qe":
            name = f"{rounding}, {SHIFTS[shifts]}"
            yield "wide sums", name, _scaled(text, kind + shifts, i64, i16, (5, 29), 29)
    for shift, entries in product((4, 7, 12), (i16, i32)):
        for layout in ("dense", "apart"):
            step = f"v0 = interpolate.i32 t0 {{shift={shift}}}"
            text = kernel_text([i16], step, i32, table=entries.name)
            name = f"{entries}, {1 << shift} apart, {layout}"
            yield (
                "interpolation",
                name,
                _interpolated(text, (1 << (16 - shift)) + 1, entries, layout),
            )
    for output, lookup in ((i8, "lookup.i32"), (i16, "lookup.i32"), (f32, "lookup.f32")):
        for source, offset in ((i8, 128), (u8, 0), (i8, 0)):
            text = f"v0 = {lookup} t0 {{offset={offset}}}"
            text = kernel_text([source], text, output, table=output.name)
            for layout in ("dense", "apart", "backwards"):
                name = f"{source} + {offset} in {output}, {layout}"
                yield "lookup", name, _looked_up(text, source, output, layout)


SHIFTS = {"s": "usual shifts", "h": "ties", "z": "small shifts", "t": "all shifts"}


def _row(sheet: Sheet, kind: str, count: int) -> Any:
    rng = sheet.rng
    return {
        "b": lambda: rng.integers(-999, 999, count, np.int32),
        "v": lambda: rng.standard_normal(count).astype(np.float32),
        "m": lambda: (rng.random(count) * 2.0 ** rng.integers(-30, -10, count)).astype(np.float32),
        "p": lambda: (2.0 ** rng.integers(-30, 1, count)).astype(np.float32),
        "w": lambda: (rng.random(count) * 3).astype(np.float32),
        "q": lambda: rng.integers(1 << 30, 1 << 31, count).astype(np.int32),
        "e": lambda: rng.choice([1 << 30, 1, -1, -(1 << 30), 2**31 - 1, -(2**31)], count).astype(
            np.int32
        ),
        "s": lambda: rng.integers(31, 60, count).astype(np.int32),
        "h": lambda: np.full(count, 31, np.int32),
        "z": lambda: rng.integers(0, 3, count).astype(np.int32),
        "t": lambda: rng.integers(0, 63, count).astype(np.int32),
    }[kind]()


def _scaled(
    text: str, rows: str, of: DType, to: DType, dims: Sequence[int], channels: int
) -> Build:
    def build(sheet: Sheet) -> Instruction:
        layout = ("dense", "padded")[int(sheet.rng.integers(2))]
        return VectorOp(
            a=sheet.given(of, dims),
            params=sheet.params([_row(sheet, kind, channels) for kind in rows], channels, layout),
            kernel=sheet.kernel(text),
            output=sheet.space(to, dims),
        )

    return build


def _interpolated(text: str, size: int, entries: DType, layout: str) -> Build:
    def build(sheet: Sheet) -> Instruction:
        return VectorOp(
            a=sheet.given(i16, (6, 43)),
            table=sheet.given(entries, (size,), layout),
            kernel=sheet.kernel(text),
            output=sheet.space(i32, (6, 43)),
        )

    return build


def _looked_up(text: str, source: DType, table: DType, layout: str) -> Build:
    def build(sheet: Sheet) -> Instruction:
        return VectorOp(
            a=sheet.given(source, (6, 43), layout),
            table=sheet.given(table, (256,), layout),
            kernel=sheet.kernel(text),
            output=sheet.space(table, (6, 43)),
        )

    return build


def _in_place() -> Rows:
    for shift in (0, 1, -1):
        for of, to in ((f32, f32), (i8, i8), (i32, i8), (i8, i32)):
            yield "in place", f"{of} to {to}, moved by {shift}", _placed(of, to, shift)


def _placed(of: DType, to: DType, shift: int) -> Build:
    """The output on an operand, or some elements beside it."""

    def build(sheet: Sheet) -> Instruction:
        kind = widened(of)
        sheet.space(to, (3,))
        room = sheet.space(i64, (160,))
        a, b = Operand.dense("spm", room.address, of, (7, 19)), sheet.given(of, (7, 19))
        output = Operand.dense("spm", room.address + shift * to.itemsize, to, (7, 19))
        text = kernel_text([of, of], f"v0 = add.{kind} t0, t1", to)
        return VectorOp(a=sheet.fill(a), b=b, kernel=sheet.kernel(text), output=output)

    return build


# --- npu.reduce

AXES = {
    "one": ((1,), 1),
    "none": ((3, 5), 0),
    "all of a row": ((37,), 1),
    "rows": ((5, 37), 0b01),
    "columns": ((5, 37), 0b10),
    "many rows": ((65, 16), 0b01),
    "many columns": ((300, 5), 0b10),
    "wide rows": ((5, 300), 0b01),
    "everything": ((4, 5, 6), 0b111),
    "the middle": ((3, 7, 17), 0b010),
    "the ends": ((3, 7, 5), 0b101),
    "an image": ((7, 7, 33), 0b011),
    "rank 5": ((2, 3, 4, 3, 5), 0b10110),
    "channels": ((4, 4, 31), 0b100),
    "ones": ((1, 4, 1, 9), 0b0101),
    "of nothing": ((0, 9), 0b01),
    "nothing": ((0, 9), 0b10),
    "nothing at all": ((3, 0), 0b10),
}
"""Extents and the mask of the reduced dimensions."""


def result_of(kind: str, dtype: DType) -> DType:
    """The type in which a reduction or pool leaves its result."""
    if kind in ("max", "min"):
        return dtype
    if dtype.is_float or kind == "avg":
        return f32
    return i64 if dtype is i64 else i32


@generates(ReduceOp)
def reductions() -> Rows:
    for dtype, kind in product(dtypes.ALL, REDUCTIONS):
        for number, (name, (dims, axes)) in enumerate(AXES.items()):
            zero = 0 if dtype.is_float or number % 3 else -77
            yield f"{dtype} {kind}", name, reduced(kind, dtype, dims, axes, zero)
        for number, layout in enumerate(LAYOUTS if kind in ("sum", "max") else ()):
            to = WRITABLE[number % len(WRITABLE)]
            args = (kind, dtype, (3, 7, 17), (0b010, 0b100, 0b011)[number % 3])
            yield f"{dtype} {kind}", f"{layout} to {to}", reduced(*args, 0, layout, to)
    for dtype, kind in product((i8, u8, i32, f32), REDUCTIONS):
        result = result_of(kind, dtype)
        for number, (name, text, output) in enumerate(finishes(result)):
            dims, axes = (((3, 7, 17), 0b010), ((6, 21), 0b01), ((4, 40), 0b10))[number % 3]
            args = (
                kind,
                dtype,
                dims,
                axes,
                3 * number - 9 if dtype.is_int else 0,
                "dense",
                "dense",
            )
            yield f"{dtype} kernels", f"{kind}, {name}", reduced(*args, text, output)
    for dtype, kind in product((i8, i16, f16), ("max", "min")):
        for name, text, output in finishes(dtypes.BY_NAME[widened(dtype)]):
            args = (kind, dtype, (6, 21), 0b10, 0, "dense", "dense", text, output)
            yield "widened extremes", f"{kind} of {dtype}, {name}", reduced(*args)
    for zero in (65535, -65536):
        yield "zero points", f"{zero}", reduced("sum", u8, (9, 31), 0b01, zero)
    yield "zero points", "of floats", reduced("sum", f32, (9, 31), 0b01, 5)
    yield "other types", "i8 sums as i64", reduced("sum", i8, (9, 31), 0b01, 5, output=i64)
    yield "other types", "i8 sums as i16", reduced("sum", i8, (9, 31), 0b01, 5, output=i16)
    yield "other types", "f32 sums as f16", reduced("sum", f32, (9, 31), 0b01, 0, output=dtypes.f16)
    yield "other types", "u8 maxima as i32", reduced("max", u8, (9, 31), 0b01, 0, output=i32)


def finishes(result: DType) -> list[tuple[str, str, DType]]:
    """(name, kernel, output) for what comes out of a reduction or pool."""
    kind = widened(result)
    if kind == "f32":
        return [
            ("scaled", kernel_text([result], "v0 = mul.f32 t0, p0", result, "f32"), result),
            ("halved", kernel_text([result], "", dtypes.f16), dtypes.f16),
            ("root", kernel_text([result], "v0 = sqrt.f32 t0", f32), f32),
        ]
    ends = "{zero_in=2, zero_out=-1, low=-128, high=127}"
    text = f"v0 = requantize.f32 t0, p0 {ends}"
    looked = "v0 = clamp.i32 t0 {low=-128, high=127}; v1 = lookup.i32 v0 {offset=128}"
    return [
        ("requantized", kernel_text([result], text, i8, "f32"), i8),
        ("looked up", kernel_text([result], looked, u8, table="u8"), u8),
        ("as float", kernel_text([result], "v0 = cast.i32.f32 t0", f32), f32),
        ("wrapped", kernel_text([result], "", i8), i8),
    ]


def finish(sheet: Sheet, text: str, channels: int) -> dict[str, Any]:
    """The fields of the kernel."""
    if not text:
        return {}
    fields: dict[str, Any] = {"kernel": sheet.kernel(text)}
    kernel = sheet.kernels[-1]
    if kernel.params:
        fields["params"] = sheet.params([_row(sheet, "m", channels)], channels)
    if kernel.table:
        fields["table"] = sheet.given(kernel.table, (256,))
    return fields


def reduced(
    kind: str,
    dtype: DType,
    dims: Sequence[int],
    axes: int,
    zero: int = 0,
    layout: str = "dense",
    to: str = "dense",
    text: str = "",
    output: DType | None = None,
) -> Build:
    def build(sheet: Sheet) -> Instruction:
        out = tuple(1 if axes >> k & 1 else d for k, d in enumerate(dims))
        return ReduceOp(
            input=sheet.given(dtype, dims, layout),
            kind=kind,
            axes=axes,
            x_zero=zero,
            **finish(sheet, text, out[-1]),
            output=sheet.space(output or result_of(kind, dtype), out, to),
        )

    return build


# --- npu.pool2d


@dataclass(frozen=True)
class Pool:
    """Windows of a pool."""

    hw: tuple[int, int] = (6, 7)
    channels: int = 9
    size: tuple[int, int] = (2, 2)
    strides: tuple[int, int] = (2, 2)
    dilations: tuple[int, int] = (1, 1)
    pads: tuple[int, int, int, int] = (0, 0, 0, 0)
    layout: str = "dense"
    to: str = "dense"

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


POOLS = {
    "one": Pool((1, 1), 1, (1, 1), (1, 1)),
    "2 x 2": Pool(),
    "3 x 3, stride 2": Pool((9, 11), 17, (3, 3), pads=(1, 1, 1, 1)),
    "3 x 3, stride 1": Pool((7, 6), 16, (3, 3), (1, 1), pads=(1, 1, 1, 1)),
    "whole image": Pool((7, 7), 33, (7, 7), (1, 1)),
    "row": Pool((3, 17), 3, (1, 5), (1, 2), pads=(0, 2, 0, 2)),
    "top left": Pool((6, 6), 8, (3, 3), (2, 2), pads=(2, 1, 0, 0)),
    "bottom right": Pool((6, 6), 8, (3, 3), (2, 1), pads=(0, 0, 1, 2)),
    "dilated": Pool((9, 10), 7, (3, 2), (1, 2), (2, 3), (1, 1, 1, 1)),
    "windows of padding": Pool((2, 2), 5, (2, 2), (1, 1), pads=(3, 3, 3, 3)),
    "many channels": Pool((4, 4), 131),
    "large": Pool((20, 21), 13, (3, 3), (1, 1)),
    "padded": Pool(layout="padded", to="padded"),
    "apart": Pool(layout="apart", to="apart"),
    "permuted": Pool(layout="permuted", to="permuted"),
    "backwards": Pool(layout="backwards", to="backwards"),
    "flipped": Pool(layout="flipped", to="flipped"),
    "repeated": Pool(layout="repeated"),
    "one element repeated": Pool(layout="one"),
    "no channels": Pool(channels=0),
    "no rows": Pool((1, 7), pads=(0, 0, 0, 0)),
}


@generates(Pool2DOp)
def pools() -> Rows:
    for dtype in dtypes.ALL:
        kinds = ("max", "avg") if dtype.is_float else ("max", "sum", "avg")
        for kind in kinds:
            for number, (name, shape) in enumerate(POOLS.items()):
                if min(shape.out) < 1:
                    shape = Pool(shape.hw, size=shape.hw, pads=shape.pads)
                zero = -5 if number % 2 and dtype.is_int else 0
                yield f"{dtype} {kind}", name, pooled(kind, dtype, shape, zero, number % 4 // 2)
    for dtype, kind in product((i8, u8, f32), ("max", "sum", "avg")):
        if dtype.is_float and kind == "sum":
            continue
        found = finishes(result_of(kind, dtype))
        wide = finishes(dtypes.BY_NAME[widened(dtype)]) if dtype is i8 and kind == "max" else ()
        for name, text, output in (*found, *((f"widened {n}", t, o) for n, t, o in wide)):
            for number, shape in enumerate((POOLS["3 x 3, stride 2"], POOLS["2 x 2"])):
                yield (
                    f"{dtype} kernels",
                    f"{kind}, {name}, {number}",
                    pooled(kind, dtype, shape, 3, 0, text, output),
                )
    yield "other types", "i8 sums as i64", pooled("sum", i8, Pool(), 1, 0, output=i64)


def pooled(
    kind: str,
    dtype: DType,
    shape: Pool,
    zero: int,
    include: int,
    text: str = "",
    output: DType | None = None,
) -> Build:
    def build(sheet: Sheet) -> Instruction:
        return Pool2DOp(
            input=sheet.given(dtype, (*shape.hw, shape.channels), shape.layout),
            kind=kind,
            size=shape.size,
            strides=shape.strides,
            dilations=shape.dilations,
            pads=shape.pads,
            x_zero=zero if dtype.is_int else 0,
            count_include_pad=include,
            **finish(sheet, text, shape.channels),
            output=sheet.space(
                output or (i32 if kind == "sum" else result_of(kind, dtype)),
                (*shape.out, shape.channels),
                shape.to,
            ),
        )

    return build
