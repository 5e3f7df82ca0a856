"""Kernels: the elementwise mini language of the vector unit and of the array's output stage.

A kernel is a straight line of micro-operations on scalars, applied to every element of a tile. The
same `Kernel` is carried by `tile` operations and by `npu` instructions, so that both levels compute
the same bits by construction:

    (t0: i32, t1: i8; p0: i32, p1: f32) -> i8: v0 = add.i32 t0, p0; v1 = requantize.f32 v0, p1
    {...}; ...

`t*` are tensor operands in order, `p*` are rows of the parameter block (one 4-byte value per
channel, the last dimension), `v*` are results. Values are i32, i64 or f32: a load widens (i8, u8,
i16, bool -> i32; f16, bf16 -> f32), and the store of the last value narrows (integers wrap; f32 ->
f16 and bf16 round to nearest even).
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
from xdsl.ir import Data
from xdsl.irdl import irdl_attr_definition
from xdsl.parser import AttrParser
from xdsl.printer import Printer

from npu_dialect import dtypes, numerics
from npu_dialect.dtypes import DType
from npu_dialect.numerics.arithmetic import quiet

Array = npt.NDArray[Any]
Immediate = int | float | str


@dataclass(frozen=True)
class MicroOp:
    """One micro-operation. `cost` names the row of the target's table of cycles and energies."""

    name: str
    function: Callable[..., Array]
    operands: tuple[str, ...]
    result: str
    immediates: tuple[str, ...] = ()
    cost: str = "alu"

    @property
    def looks_up(self) -> bool:
        """Whether it takes the kernel's table."""
        return self.name.startswith(("lookup.", "interpolate."))


def _comparison(function: Callable[..., Array]) -> Callable[..., Array]:
    """A comparison whose result is the value 0 or 1 of type i32."""

    def compare(a: Array, b: Array) -> Array:
        return function(a, b).astype(np.int32)

    return compare


def _cast(dtype: DType) -> Callable[..., Array]:
    """Conversion to `dtype`, as the value that a load of it gives."""
    value = VALUE_NUMPY[widened(dtype)]

    def convert(x: Array) -> Array:
        return numerics.cast(x, dtype).astype(value, copy=False)

    return convert


def _where(condition: Array, a: Array, b: Array) -> Array:
    return numerics.where(condition != 0, a, b)


def _bool_not(x: Array) -> Array:
    return (x == 0).astype(np.int32)


def _constant(kind: str) -> Callable[..., Array]:
    dtype = VALUE_NUMPY[kind]

    def constant(value: float) -> Array:
        return np.asarray(value, dtype)

    return constant


def _quantize(x: Array, scale: float, zero_point: int, low: int, high: int) -> Array:
    steps = numerics.quantize(x, scale, zero_point, dtypes.i32)
    return np.clip(steps, low, high)


def _interpolate(x: Array, *, shift: int, table: Array) -> Array:
    return numerics.interpolate(x, table, shift)


def _lookup(index: Array, *, offset: int, table: Array) -> Array:
    return table[index + offset]


def _rows() -> list[MicroOp]:
    return [
        *_integer_rows(), *_shared_rows(), *_float_rows(), *_conversion_rows(), *_wide_rows(),
    ]  # fmt: skip


def _integer_rows() -> Iterator[MicroOp]:
    n = numerics
    binary = {
        "add": n.add, "sub": n.sub, "max": n.maximum, "min": n.minimum, "and": n.bitwise_and,
        "or": n.bitwise_or, "xor": n.bitwise_xor,
    }  # fmt: skip
    for t in ("i32", "i64"):
        for name, function in binary.items():
            yield MicroOp(f"{name}.{t}", function, (t, t), t)
        yield MicroOp(f"mul.{t}", n.mul, (t, t), t, (), "mul")
        yield MicroOp(f"div.{t}", n.div_trunc, (t, t), t, (), "div")
        yield MicroOp(f"neg.{t}", n.negative, (t,), t)
        yield MicroOp(f"abs.{t}", n.absolute, (t,), t)
    yield MicroOp("not.bool", _bool_not, ("i32",), "i32")


def _shared_rows() -> Iterator[MicroOp]:
    n = numerics
    comparisons = {
        "eq": n.equal, "ne": n.not_equal, "lt": n.less, "le": n.less_equal, "gt": n.greater,
        "ge": n.greater_equal,
    }  # fmt: skip
    for t in ("i32", "i64", "f32"):
        for name, function in comparisons.items():
            yield MicroOp(f"{name}.{t}", _comparison(function), (t, t), "i32")
        yield MicroOp(f"select.{t}", _where, ("i32", t, t), t)
        yield MicroOp(f"clamp.{t}", n.clamp, (t,), t, ("low", "high"))
        yield MicroOp(f"const.{t}", _constant(t), (), t, ("value",))


def _float_rows() -> Iterator[MicroOp]:
    n, f = numerics, "f32"
    for name, function in {"add": n.add, "sub": n.sub, "max": n.maximum, "min": n.minimum}.items():
        yield MicroOp(f"{name}.f32", function, (f, f), f)
    yield MicroOp("mul.f32", n.mul, (f, f), f, (), "mul")
    yield MicroOp("div.f32", n.div, (f, f), f, (), "div")
    yield MicroOp("pow.f32", n.power, (f, f), f, (), "transcendental")
    cheap = {
        "neg": n.negative, "abs": n.absolute, "relu": n.relu, "floor": n.floor, "ceil": n.ceil,
        "round": n.round_half_even, "sign": n.sign,
    }  # fmt: skip
    for name, function in cheap.items():
        yield MicroOp(f"{name}.f32", function, (f,), f)
    for name, function in {"sqrt": n.sqrt, "rsqrt": n.rsqrt, "reciprocal": n.reciprocal}.items():
        yield MicroOp(f"{name}.f32", function, (f,), f, (), "div")
    costly = {
        "exp": n.exp, "log": n.log, "tanh": n.tanh, "erf": n.erf, "sigmoid": n.sigmoid,
        "silu": n.silu, "gelu": n.gelu, "softplus": n.softplus, "sin": n.sin, "cos": n.cos,
    }  # fmt: skip
    for name, function in costly.items():
        yield MicroOp(f"{name}.f32", function, (f,), f, (), "transcendental")
    yield MicroOp("hard_swish.f32", n.hard_swish, (f,), f, (), "mul")
    yield MicroOp("leaky_relu.f32", n.leaky_relu, (f,), f, ("alpha",), "mul")
    yield MicroOp("elu.f32", n.elu, (f,), f, ("alpha",), "transcendental")
    yield MicroOp("hard_sigmoid.f32", n.hard_sigmoid, (f,), f, ("alpha", "beta"), "mul")


def _conversion_rows() -> Iterator[MicroOp]:
    n, i, f = numerics, "i32", "f32"
    ends = ("zero_in", "zero_out", "low", "high")
    yield MicroOp("requantize.f32", n.requantize_f32, (i, f), i, ends, "requantize")
    fixed = ("rounding", *ends)
    yield MicroOp("requantize.fixed", n.requantize_fixed, (i, i, i), i, fixed, "requantize")
    yield MicroOp("quantize", _quantize, (f,), i, ("scale", "zero_point", "low", "high"), "convert")
    yield MicroOp("dequantize", n.dequantize, (i,), f, ("scale", "zero_point"), "convert")
    for source in ("i32", "i64", "f32"):
        for dtype in dtypes.ALL:
            if dtype.name not in (source, "f64"):
                name = f"cast.{source}.{dtype}"
                yield MicroOp(name, _cast(dtype), (source,), widened(dtype), (), "convert")
    yield MicroOp("lookup.i32", _lookup, (i,), i, ("offset",), "lookup")
    yield MicroOp("lookup.f32", _lookup, (i,), f, ("offset",), "lookup")


def _pair(low: Array, high: Array) -> Array:
    """high * 2**32 + low, where low has no sign."""
    return (high.astype(np.int64) << 32) | low.view(np.uint32)


def _wide_rows() -> Iterator[MicroOp]:
    n, i, wide = numerics, "i32", "i64"
    ends = ("zero_in", "zero_out", "low", "high")
    yield MicroOp("requantize.f32.i64", n.requantize_f32, (wide, "f32"), i, ends, "requantize")
    fixed = ("rounding", *ends)
    name = "requantize.fixed.i64"
    yield MicroOp(name, n.requantize_fixed, (wide, i, i), i, fixed, "requantize")
    yield MicroOp("pair.i64", _pair, (i, i), wide)
    yield MicroOp("interpolate.i32", _interpolate, (i,), i, ("shift",), "requantize")


def widened(dtype: DType) -> str:
    """The value type that a load of `dtype` gives."""
    if dtype.is_float:
        return "f32"
    return "i64" if dtype is dtypes.i64 else "i32"


MICRO_OPS: dict[str, MicroOp] = {}
"""Every micro-operation by name; its position is its opcode."""

VALUE_NUMPY = {"i32": np.dtype(np.int32), "i64": np.dtype(np.int64), "f32": np.dtype(np.float32)}


TABLE_SIZE = 256
"""Entries that are looked up by 8-bit values."""


@dataclass(frozen=True)
class Step:
    """One micro-operation of a kernel. `args` number the values: tensors, then params, then earlier
    results.
    """

    op: str
    args: tuple[int, ...]
    immediates: tuple[Immediate, ...] = ()


@dataclass(frozen=True)
class Kernel:
    """A straight-line elementwise program. See the module docstring."""

    tensors: tuple[DType, ...]
    params: tuple[str, ...]
    """Value type of each parameter row: "i32" or "f32"."""
    steps: tuple[Step, ...]
    output: DType
    table: DType | None = None
    """Storage type of the table, when a step looks up."""

    def __post_init__(self) -> None:
        for number, step in enumerate(self.steps):
            self._check(number, step)
        last = self.value_types[-1] if self.steps else self._value_type(0)
        if last != widened(self.output):
            raise ValueError(f"a kernel's last value must widen {self.output}, found {last}")

    def _check(self, number: int, step: Step) -> None:
        row = MICRO_OPS.get(step.op)
        if row is None:
            raise ValueError(f"a kernel's step must be a known micro-operation, found {step.op}")
        bound = len(self.tensors) + len(self.params) + number
        if any(not 0 <= a < bound for a in step.args):
            raise ValueError(f"{step.op}: operands must be earlier values, found {step.args}")
        found = tuple(self._value_type(a) for a in step.args)
        if found != row.operands:
            raise ValueError(f"{step.op} must have operands of types {row.operands}, found {found}")
        if len(step.immediates) != len(row.immediates):
            raise ValueError(f"{step.op} must have the immediates {row.immediates}")
        if step.op == "requantize.fixed.i64" and step.immediates[0] == "double":
            raise ValueError(f"{step.op} must not round twice, which is of 32 bits")
        if row.looks_up and self.table is None:
            raise ValueError(f"{step.op} must have a table, and the kernel has none")
        if row.looks_up and _entries(step) != self.table_size:
            raise ValueError(f"{step.op} must have a table of {_entries(step)}, and shares another")
        if step.op == "interpolate.i32" and (self.table is None or widened(self.table) != "i32"):
            raise ValueError(f"{step.op} must have a table of integers, found {self.table}")

    @property
    def table_size(self) -> int:
        """Entries of the table: 256, or what interpolation takes."""
        return next((_entries(s) for s in self.steps if MICRO_OPS[s.op].looks_up), TABLE_SIZE)

    @cached_property
    def value_types(self) -> tuple[str, ...]:
        """Types of the results of the steps."""
        return tuple(MICRO_OPS[s.op].result for s in self.steps)

    def _value_type(self, number: int) -> str:
        if number < len(self.tensors):
            return widened(self.tensors[number])
        number -= len(self.tensors)
        if number < len(self.params):
            return self.params[number]
        return MICRO_OPS[self.steps[number - len(self.params)].op].result

    @cached_property
    def _program(
        self,
    ) -> tuple[tuple[Callable[..., Array], tuple[int, ...], dict[str, Any], bool], ...]:
        rows = [MICRO_OPS[s.op] for s in self.steps]
        return tuple(
            (
                row.function,
                step.args,
                dict(zip(row.immediates, step.immediates, strict=True)),
                row.looks_up,
            )
            for row, step in zip(rows, self.steps, strict=True)
        )

    @quiet
    def evaluate(
        self, tensors: Sequence[Array], params: Array | None = None, table: Array | None = None
    ) -> Array:
        """The kernel over whole arrays.

        `tensors`: storage arrays that broadcast together; `params`: [rows, channels] 4-byte words,
        channels along the last dimension; `table`: [`table_size`]. Returns an array of `output`'s
        numpy type with the broadcast shape.
        """
        values: list[Array] = [
            t.astype(VALUE_NUMPY[widened(d)], copy=False)
            for t, d in zip(tensors, self.tensors, strict=True)
        ]
        for number, kind in enumerate(self.params):
            assert params is not None
            values.append(params[number].view(VALUE_NUMPY[kind]))
        if table is not None and self.table is not None:
            table = table.astype(VALUE_NUMPY[widened(self.table)], copy=False)
        for function, args, immediates, looks_up in self._program:
            operands = [values[a] for a in args]
            if looks_up:
                values.append(function(*operands, **immediates, table=table))
            else:
                values.append(function(*operands, **immediates))
        result = values[-1] if self.steps else values[0]
        return result.astype(self.output.numpy, copy=False)

    def costs(self) -> tuple[str, ...]:
        """The cost class of every step; constants are immediates of the others and cost nothing."""
        return tuple(MICRO_OPS[s.op].cost for s in self.steps if not s.op.startswith("const."))

    # --- text ----------------------------------------

    def _name(self, number: int) -> str:
        for prefix, size in (("t", len(self.tensors)), ("p", len(self.params))):
            if number < size:
                return f"{prefix}{number}"
            number -= size
        return f"v{number}"

    def __str__(self) -> str:
        head = ", ".join(f"t{i}: {d}" for i, d in enumerate(self.tensors))
        if self.params:
            head += "; " + ", ".join(f"p{i}: {d}" for i, d in enumerate(self.params))
        if self.table is not None:
            head += f" | table {self.table}"
        steps = [self._step_text(i, s) for i, s in enumerate(self.steps)]
        return f"({head}) -> {self.output}: " + "; ".join(steps)

    def _step_text(self, number: int, step: Step) -> str:
        args = ", ".join(map(self._name, step.args))
        names = MICRO_OPS[step.op].immediates
        values = ", ".join(f"{n}={v!r}" for n, v in zip(names, step.immediates, strict=True))
        return f"v{number} = {step.op} {args}".rstrip() + (f" {{{values}}}" if values else "")

    @staticmethod
    def parse(text: str) -> Kernel:
        """The kernel that prints as `text`. Raises ValueError where it does not read as one."""
        match = _HEAD.fullmatch(text)
        if match is None:
            raise ValueError(f"a kernel must read '(t0: i8; p0: f32) -> i8: steps', found {text!r}")
        tensors = tuple(_dtype(x.split(":")[1]) for x in _items(match["tensors"], ","))
        params = tuple(x.split(":")[1].strip() for x in _items(match["params"] or "", ","))
        names = [f"t{i}" for i in range(len(tensors))] + [f"p{i}" for i in range(len(params))]
        steps: list[Step] = []
        for item in _items(match["steps"], ";"):
            steps.append(_parse_step(item, names))
            names.append(f"v{len(steps) - 1}")
        table = _dtype(match["table"]) if match["table"] else None
        return Kernel(tensors, params, tuple(steps), _dtype(match["output"]), table)

    # --- binary ----------------------------------------

    def encode(self) -> bytes:
        """The kernel as it lies in a program: a header of counts and types, then opcode, operands,
        immediates.
        """
        opcodes = {name: code for code, name in enumerate(MICRO_OPS)}
        table = 255 if self.table is None else self.table.code
        out = bytearray([len(self.tensors), len(self.params), self.output.code, table])
        out += struct.pack("<H", len(self.steps))
        out += bytes(d.code for d in self.tensors)
        out += bytes(dtypes.BY_NAME[p].code for p in self.params)
        for step in self.steps:
            out += struct.pack("<HBB", opcodes[step.op], len(step.args), len(step.immediates))
            out += struct.pack(f"<{len(step.args)}H", *step.args)
            for value in step.immediates:
                out += _encode_immediate(value)
        return bytes(out)

    @staticmethod
    def decode(data: bytes) -> Kernel:
        """The kernel that `encode` wrote. Raises ValueError on bytes that are not one."""
        try:
            return _decode(data)
        except (struct.error, IndexError, KeyError, UnicodeDecodeError) as error:
            raise ValueError(f"a kernel section must hold whole kernels, found {error}") from error


def _entries(step: Step) -> int:
    """The entries of the table that a step looks up in."""
    return (1 << (16 - int(step.immediates[0]))) + 1 if step.op.startswith("int") else TABLE_SIZE


_HEAD = re.compile(
    r"\((?P<tensors>[^;|)]*)(?:;(?P<params>[^|)]*))?(?:\| table (?P<table>\w+))?\)"
    r" -> (?P<output>\w+):(?P<steps>.*)",
    re.S,
)
_STEP = re.compile(r"v\d+ = (?P<op>[\w.]+)(?P<args>[^{]*)(?:\{(?P<imm>.*)\})?", re.S)


def _items(text: str, separator: str) -> list[str]:
    return [x.strip() for x in text.split(separator) if x.strip()]


def _dtype(name: str) -> DType:
    if name.strip() not in dtypes.BY_NAME:
        raise ValueError(f"a kernel's types must be storage types, found {name.strip()}")
    return dtypes.BY_NAME[name.strip()]


def _parse_step(text: str, names: list[str]) -> Step:
    match = _STEP.fullmatch(text)
    if match is None:
        raise ValueError(
            f"a kernel's step must read 'v0 = name operands {{immediates}}', found {text!r}"
        )
    args = tuple(names.index(a) for a in _items(match["args"], ","))
    values = tuple(_immediate(x.split("=", 1)[1]) for x in _items(match["imm"] or "", ","))
    return Step(match["op"], args, values)


def _immediate(text: str) -> Immediate:
    text = text.strip()
    if text.startswith("'"):
        return text.strip("'")
    try:
        return int(text)
    except ValueError:
        return float(text)


def _encode_immediate(value: Immediate) -> bytes:
    if isinstance(value, str):
        data = value.encode()
        return b"s" + struct.pack("<B", len(data)) + data
    if isinstance(value, int):
        return b"i" + struct.pack("<q", value)
    return b"f" + struct.pack("<d", value)


def _decode_immediate(data: bytes, at: int) -> tuple[Immediate, int]:
    kind = data[at : at + 1]
    if kind == b"s":
        end = at + 2 + data[at + 1]
        return data[at + 2 : end].decode(), end
    form = {b"i": "<q", b"f": "<d"}[kind]
    return struct.unpack_from(form, data, at + 1)[0], at + 9


def _decode(data: bytes) -> Kernel:
    tensors, params, output, table, count = struct.unpack_from("<BBBBH", data)
    at = 6
    types = [dtypes.BY_CODE[c] for c in data[at : at + tensors + params]]
    at += tensors + params
    names = list(MICRO_OPS)
    steps: list[Step] = []
    for _ in range(count):
        opcode, n_args, n_imm = struct.unpack_from("<HBB", data, at)
        args = struct.unpack_from(f"<{n_args}H", data, at + 4)
        at += 4 + 2 * n_args
        immediates: list[Immediate] = []
        for _ in range(n_imm):
            value, at = _decode_immediate(data, at)
            immediates.append(value)
        steps.append(Step(names[opcode], args, tuple(immediates)))
    return Kernel(
        tuple(types[:tensors]),
        tuple(t.name for t in types[tensors:]),
        tuple(steps),
        dtypes.BY_CODE[output],
        None if table == 255 else dtypes.BY_CODE[table],
    )


Draft = tuple[str, tuple[Any, ...], tuple[Immediate, ...]]
"""A step while a kernel is built: operands as (kind, number)."""


@dataclass
class KernelBuilder:
    """Builds a kernel step by step; values are numbered as they are added.

    Tensors and params must be declared before the first step.
    """

    tensors: list[DType] = field(default_factory=list[DType])
    params: list[str] = field(default_factory=list[str])
    steps: list[Draft] = field(default_factory=list[Draft])
    table: DType | None = None

    def tensor(self, dtype: DType) -> tuple[str, int]:
        self.tensors.append(dtype)
        return ("t", len(self.tensors) - 1)

    def param(self, kind: str) -> tuple[str, int]:
        self.params.append(kind)
        return ("p", len(self.params) - 1)

    def step(
        self, op: str, *args: tuple[str, int], immediates: Sequence[Immediate] = ()
    ) -> tuple[str, int]:
        self.steps.append((op, args, tuple(immediates)))
        return ("v", len(self.steps) - 1)

    def build(self, output: DType) -> Kernel:
        base = {"t": 0, "p": len(self.tensors), "v": len(self.tensors) + len(self.params)}
        steps = tuple(
            Step(op, tuple(base[k] + n for k, n in args), imm) for op, args, imm in self.steps
        )
        return Kernel(tuple(self.tensors), tuple(self.params), steps, output, self.table)


@irdl_attr_definition
class KernelAttr(Data[Kernel]):
    """`#npu.kernel<"(t0: i32; p0: f32) -> i8: v0 = ...">`: a kernel as an attribute."""

    name = "npu.kernel"

    @classmethod
    def parse_parameter(cls, parser: AttrParser) -> Kernel:
        with parser.in_angle_brackets():
            text = parser.parse_str_literal("a kernel as a string")
            try:
                return Kernel.parse(text)
            except ValueError as error:
                parser.raise_error(str(error))

    def print_parameter(self, printer: Printer) -> None:
        with printer.in_angle_brackets():
            printer.print_string_literal(str(self.data))


MICRO_OPS.update((row.name, row) for row in _rows())
