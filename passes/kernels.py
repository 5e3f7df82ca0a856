"""From elementwise graph operations to a kernel of micro-operations.

    %a = graph.conv2d %x, %w, %bias                    (t0: i32; p0: i32, p1: f32) -> i8:
    %q = graph.requantize %a {recipe = f32, [..]}      v0 = add.i32 t0, p0
    %r = graph.relu %q                                 v1 = requantize.f32 v0, p1 {...}
                                                       v2 = clamp.i32 v1 {low=-3, high=2147483647}

`EMITTERS` has one row per elementwise operation; the names of the micro-operations that a row emits
are also what placement asks the target for. A kernel computes the bits that the operations'
`evaluate` gives.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
from xdsl.ir import Block, Operation, SSAValue

from npu_dialect import dtypes, graph
from npu_dialect.dtypes import DType
from npu_dialect.graph.base import dtype_of, quant_of, shape_of
from npu_dialect.graph.quant import QuantType
from npu_dialect.kernel import MICRO_OPS, Immediate, Kernel, KernelBuilder, widened

Array = npt.NDArray[Any]
Ref = tuple[str, int]
"""A value of a kernel under construction: ("t", tensor), ("p", parameter row) or ("v", step)."""

WORDS = {"i32": np.dtype(np.int32), "f32": np.dtype(np.float32)}
"""The value types that a parameter row can have."""

BOUNDS = {"i32": dtypes.i32, "i64": dtypes.i64}


class KernelError(Exception):
    """Why operations cannot become a kernel."""


@dataclass(frozen=True)
class KernelPlan:
    """A kernel and what it reads."""

    kernel: Kernel
    tensors: list[SSAValue]
    """The tensor operands in order; the first is the anchor's result where there is an anchor."""
    params: npt.NDArray[np.uint32] | None
    """[rows, channels] 4-byte words; channels are the last dimension of the result."""
    table: Array | None
    """The 256 entries, in their storage type."""


def build_kernel(
    ops: Sequence[Operation], result: SSAValue, anchor: Operation | None = None
) -> KernelPlan:
    """The kernel that computes `result` from the inputs of `ops`, in their order.

    With an `anchor` (which `ops` may hold too) the first tensor is its raw result, to which its
    bias is added first. Constants become immediates or parameter rows where they can, also when
    they are operands of the group around `ops`. Raises KernelError.

    Passes ask again and again; an operation keeps what it was told for as long as all is the same.
    """
    first = ops[0] if ops else anchor
    if first is None:
        return _built(ops, result, anchor)
    kept: dict[Any, tuple[list[Any], KernelPlan]] = vars(first).setdefault("kernels", {})
    key = (tuple(ops), result, anchor)
    looks = _looks(ops, anchor)
    known = kept.get(key)
    if known is None or known[0] != looks:
        known = kept[key] = looks, _built(ops, result, anchor)
    return known[1]


def _looks(ops: Sequence[Operation], anchor: Operation | None) -> list[Any]:
    """All that a kernel of some operations depends on."""
    found: list[Any] = []
    for op in ops if anchor is None or anchor in ops else (*ops, anchor):
        properties = op.properties
        found += properties
        found += properties.values()
        found += [result.type for result in op.results]
        for operand in op.operands:
            outside = resolve(operand)
            owner = outside.owner
            constant = owner.value if isinstance(owner, graph.ConstantOp) else None
            found += (operand, operand.type, outside, constant)
    return found


def _built(ops: Sequence[Operation], result: SSAValue, anchor: Operation | None) -> KernelPlan:
    emitter = _Emitter(result)
    if anchor is not None:
        emitter.start(anchor)
    for op in ops:
        if op is anchor:
            continue
        row = EMITTERS.get(type(op))
        if row is None:
            raise KernelError(f"{op.name} is not elementwise")
        emitter.values[op.results[0]] = row(emitter, op)
    return emitter.plan()


def micro_ops(op: Operation) -> tuple[str, ...]:
    """The micro-operations that `op` alone needs, constants apart. Raises KernelError."""
    steps = build_kernel([op], op.results[0]).kernel.steps
    return tuple(step.op for step in steps if not is_immediate(step.op))


def is_immediate(micro_op: str) -> bool:
    """Whether a micro-operation only holds a constant for the others; every engine can do that."""
    return micro_op.startswith("const.")


def is_elementwise(op: Operation) -> bool:
    """Whether kernels can hold this kind of operation."""
    return type(op) in EMITTERS


def resolve(value: SSAValue) -> SSAValue:
    """The value outside of any group that `value` stands for."""
    while isinstance(value.owner, Block):
        group = value.owner.parent_op()
        if not isinstance(group, graph.GroupOp):
            break
        value = group.operands[value.owner.args.index(value)]
    return value


def constant_of(value: SSAValue) -> Array | None:
    """The elements of a value that is a constant, also inside of a group."""
    owner = resolve(value).owner
    return owner.array if isinstance(owner, graph.ConstantOp) else None


def uniform_element(array: Array) -> Array | None:
    """The element (0-d) that all elements are, bit by bit, or None where there is none."""
    flat = array.reshape(-1)
    return flat[:1].reshape(()) if flat.size and _same_bits(flat, flat[:1]) else None


def _same_bits(a: Array, b: Array) -> bool:
    """Whether all elements are the same, telling zeros of both signs and NaNs apart; broadcasts."""
    unsigned = f"u{a.itemsize}"
    return bool((a.view(unsigned) == b.view(unsigned)).all())


@dataclass
class _Emitter:
    """The kernel under construction for `result`."""

    result: SSAValue
    builder: KernelBuilder = field(default_factory=KernelBuilder)
    values: dict[SSAValue, Ref] = field(default_factory=dict[SSAValue, Ref])
    kinds: dict[Ref, str] = field(default_factory=dict[Ref, str])
    """The value type of every ref."""
    tensors: list[SSAValue] = field(default_factory=list[SSAValue])
    rows: list[Array] = field(default_factory=list[Array])
    known: dict[tuple[str, bytes], Ref] = field(default_factory=dict[tuple[str, bytes], Ref])
    """Constants that were emitted already."""
    table: Array | None = None

    def __post_init__(self) -> None:
        shape = shape_of(self.result)
        self.channels = shape[-1] if shape else 1

    def start(self, anchor: Operation) -> None:
        """The raw result of the anchor, as wide as it is computed, plus its bias."""
        result = anchor.results[0]
        total = self._operand(result, dtypes.BY_NAME[widened(dtype_of(result))])
        bias = getattr(anchor, "bias", None) if isinstance(anchor, CONTRACTIONS) else None
        if bias is not None and not self._adds_nothing(bias):
            total = self.step(f"add.{self.kinds[total]}", total, self.read(bias))
        self.values[result] = total

    def _adds_nothing(self, bias: SSAValue) -> bool:
        array = constant_of(bias)
        return array is not None and array.dtype.kind == "i" and not array.any()

    def plan(self) -> KernelPlan:
        """The kernel, whose last value is the result."""
        last = self.read(self.result)
        steps = self.builder.steps
        at_end = last == ("v", len(steps) - 1) if steps else last == ("t", 0)
        if not at_end:
            self.step(f"max.{self.kinds[last]}", last, last)
        params = np.stack(self.rows).view(np.uint32) if self.rows else None
        kernel = self.builder.build(dtype_of(self.result))
        return KernelPlan(kernel, self.tensors, params, self.table)

    # Operands

    def read(self, value: SSAValue) -> Ref:
        """The ref of an operand: an earlier result, a constant, or a tensor that is loaded."""
        if value not in self.values:
            array = constant_of(value)
            ref = None if array is None else self.constant(array)
            self.values[value] = self.tensor(value) if ref is None else ref
        return self.values[value]

    def tensor(self, value: SSAValue) -> Ref:
        """A further tensor operand."""
        return self._operand(value, dtype_of(value))

    def _operand(self, value: SSAValue, dtype: DType) -> Ref:
        self.tensors.append(value)
        return self._typed(self.builder.tensor(dtype), widened(dtype))

    def constant(self, array: Array) -> Ref | None:
        """An immediate or a parameter row; None where it varies along other dimensions too."""
        element = uniform_element(array)
        if element is not None:
            return self.immediate(element)
        last = array.shape[-1]
        if last != self.channels:
            return None
        lines = array.reshape(-1, last)
        if not _same_bits(lines, lines[:1]):
            return None
        if array.dtype == np.int64:
            return self._wide_row(lines[0])
        return self.row(lines[0]) if widened(dtypes.BY_NUMPY[array.dtype]) in WORDS else None

    def _wide_row(self, array: Array) -> Ref:
        """One value of 64 bits per channel, from parameters of 32."""
        low = array.astype(np.int32)
        if (low == array).all():
            return self.step("cast.i32.i64", self.row(low))
        return self.step("pair.i64", self.row(low), self.row((array >> 32).astype(np.int32)))

    def immediate(self, value: npt.ArrayLike) -> Ref:
        """A scalar."""
        array = np.asarray(value)
        kind = widened(dtypes.BY_NUMPY[array.dtype])
        plain: Immediate = float(array) if kind == "f32" else int(array)
        key = (f"const.{kind}", array.astype(np.float64 if kind == "f32" else np.int64).tobytes())
        if key not in self.known:
            self.known[key] = self.step(key[0], immediates=(plain,))
        return self.known[key]

    def i32(self, value: int) -> Ref:
        """An integer scalar."""
        return self.immediate(np.int32(value))

    def row(self, array: Array) -> Ref:
        """A parameter row: one value per channel."""
        kind = widened(dtypes.BY_NUMPY[array.dtype])
        words = np.ascontiguousarray(array, WORDS[kind])
        if words.shape != (self.channels,):
            raise KernelError(f"{words.size} values for {self.channels} channels")
        key = (kind, words.tobytes())
        if key not in self.known:
            self.rows.append(words.view(np.uint32))
            self.known[key] = self._typed(self.builder.param(kind), kind)
        return self.known[key]

    def per_channel(self, array: Array) -> Ref:
        """An immediate for one value, else a parameter row."""
        element = uniform_element(array)
        return self.row(array) if element is None else self.immediate(element)

    def lookup_table(self, value: SSAValue) -> Array:
        """Note the table of a look-up: a constant, and the only one of the kernel."""
        table = constant_of(value)
        if table is None:
            raise KernelError("the table is not constant")
        if widened(dtypes.BY_NUMPY[table.dtype]) not in WORDS:
            raise KernelError(f"a table of {table.dtype} does not fit 4-byte words")
        if self.table is not None and not np.array_equal(self.table, table):
            raise KernelError("a kernel has one table")
        self.table, self.builder.table = table, dtypes.BY_NUMPY[table.dtype]
        return table

    # Steps

    def step(self, op: str, *args: Ref, immediates: Sequence[Immediate] = ()) -> Ref:
        """One more micro-operation."""
        row = MICRO_OPS.get(op)
        if row is None:
            raise KernelError(f"there is no micro-operation {op}")
        return self._typed(self.builder.step(op, *args, immediates=immediates), row.result)

    def _typed(self, ref: Ref, kind: str) -> Ref:
        self.kinds[ref] = kind
        return ref


Emit = Callable[[_Emitter, Any], Ref]

CONTRACTIONS = (graph.Conv2DOp, graph.MatmulOp)


def _same_name(e: _Emitter, op: Operation) -> Ref:
    """The micro-operation of the operation's own name, for the type of its operands."""
    args = [e.read(v) for v in op.operands]
    return e.step(f"{op.name.removeprefix('graph.')}.{e.kinds[args[0]]}", *args)


def _relu(e: _Emitter, op: graph.ReluOp) -> Ref:
    x = e.read(op.x)
    kind = e.kinds[x]
    if kind == "f32":
        return e.step("relu.f32", x)
    quant = quant_of(op.x)
    low = zero_point(quant) if quant else 0
    return e.step(f"clamp.{kind}", x, immediates=(low, BOUNDS[kind].high))


def _clamp(e: _Emitter, op: graph.ClampOp) -> Ref:
    x = e.read(op.x)
    return e.step(f"clamp.{e.kinds[x]}", x, immediates=op.bounds)


def _leaky_relu(e: _Emitter, op: graph.LeakyReluOp) -> Ref:
    return e.step("leaky_relu.f32", e.read(op.x), immediates=(op.alpha.value.data,))


def _elu(e: _Emitter, op: graph.EluOp) -> Ref:
    return e.step("elu.f32", e.read(op.x), immediates=(op.alpha.value.data,))


def _hard_sigmoid(e: _Emitter, op: graph.HardSigmoidOp) -> Ref:
    immediates = (op.alpha.value.data, op.beta.value.data)
    return e.step("hard_sigmoid.f32", e.read(op.x), immediates=immediates)


def _not(e: _Emitter, op: graph.NotOp) -> Ref:
    return e.step("not.bool", e.read(op.x))


def _where(e: _Emitter, op: graph.WhereOp) -> Ref:
    condition, a, b = (e.read(v) for v in (op.condition, op.a, op.b))
    return e.step(f"select.{e.kinds[a]}", condition, a, b)


def _cast(e: _Emitter, op: graph.CastOp) -> Ref:
    x, source, target = e.read(op.x), dtype_of(op.x), dtype_of(op.result)
    if target in (source, dtypes.BY_NAME[e.kinds[x]]):
        return x
    return e.step(f"cast.{e.kinds[x]}.{target}", x)


def zero_point(quant: QuantType) -> int:
    """The zero point of a type that has only one. Raises KernelError."""
    zero = quant.zero()
    if not isinstance(zero, int):
        raise KernelError("the zero points differ by channel")
    return zero


def _require_last_axis(value: SSAValue, quant: QuantType) -> None:
    if quant.axis not in (None, len(shape_of(value)) - 1):
        raise KernelError("the scales differ along another dimension than the last")


def _quant(value: SSAValue) -> QuantType:
    quant = quant_of(value)
    assert quant is not None, "verified"
    return quant


def _quantize(e: _Emitter, op: graph.QuantizeOp) -> Ref:
    """One micro-operation for one scale; else rint(x / row), saturated, plus the zero point."""
    quant = _quant(op.result)
    zero = zero_point(quant)
    x = e.read(op.x)
    if quant.axis is None:
        return e.step("quantize", x, immediates=(quant.scale, zero, quant.low, quant.high))
    _require_last_axis(op.result, quant)
    steps = e.step("round.f32", e.step("div.f32", x, e.per_channel(quant.scales)))
    whole = e.step("cast.f32.i32", steps)
    kept = e.step("clamp.i32", whole, immediates=(quant.low - zero, quant.high - zero))
    return e.step("add.i32", kept, e.i32(zero)) if zero else kept


def _dequantize(e: _Emitter, op: graph.DequantizeOp) -> Ref:
    """One micro-operation for one scale; else f32(x - zero points) * scales."""
    quant = _quant(op.x)
    x = e.read(op.x)
    if quant.axis is None:
        return e.step("dequantize", x, immediates=(quant.scale, quant.zero_point))
    _require_last_axis(op.x, quant)
    if quant.zero_points.any():
        x = e.step("sub.i32", x, e.per_channel(quant.zero_points))
    return e.step("mul.f32", e.step("cast.i32.f32", x), e.per_channel(quant.scales))


def _requantize(e: _Emitter, op: graph.RequantizeOp) -> Ref:
    recipe, source, target = op.recipe.data, quant_of(op.x), quant_of(op.result)
    zero_in = zero_point(source) if source else 0
    zero_out = zero_point(target) if target else 0
    low, high = (target.low, target.high) if target else (dtypes.i32.low, dtypes.i32.high)
    x, ends = e.read(op.x), (zero_in, zero_out, low, high)
    wide = ".i64" if e.kinds[x] == "i64" else ""
    if recipe.kind == "f32":
        multiplier = e.per_channel(recipe.multiplier)
        return e.step(f"requantize.f32{wide}", x, multiplier, immediates=ends)
    if target is None and not wide and _is_one(recipe.multiplier, recipe.shift):
        return e.step("sub.i32", x, e.i32(zero_in)) if zero_in else x
    factors = (e.per_channel(recipe.multiplier), e.per_channel(recipe.shift))
    return e.step(f"requantize.fixed{wide}", x, *factors, immediates=(recipe.rounding, *ends))


def _rescale(e: _Emitter, op: graph.RescaleOp) -> Ref:
    factors = (e.read(op.multiplier), e.i32(op.shift.value.data))
    immediates = (op.rounding.data, *op.ends)
    return e.step("requantize.fixed", e.read(op.x), *factors, immediates=immediates)


def _is_one(multiplier: Array, shift: Array) -> bool:
    return bool((multiplier == 1).all()) and not shift.any()


def _lookup(e: _Emitter, op: graph.LookupOp) -> Ref:
    table = e.lookup_table(op.table)
    offset = 128 if dtype_of(op.x) is dtypes.i8 else 0
    kind = widened(dtypes.BY_NUMPY[table.dtype])
    return e.step(f"lookup.{kind}", e.read(op.x), immediates=(offset,))


def _interpolate(e: _Emitter, op: graph.InterpolateOp) -> Ref:
    table = e.lookup_table(op.table)
    found = e.step("interpolate.i32", e.read(op.x), immediates=(op.shift,))
    dtype = dtypes.BY_NUMPY[table.dtype]
    return found if dtype is dtypes.i32 else e.step(f"cast.i32.{dtype}", found)


_SAME_NAME: tuple[type[Operation], ...] = (
    graph.NegOp,
    graph.AbsOp,
    graph.ExpOp,
    graph.LogOp,
    graph.SqrtOp,
    graph.RsqrtOp,
    graph.ReciprocalOp,
    graph.TanhOp,
    graph.SigmoidOp,
    graph.ErfOp,
    graph.FloorOp,
    graph.CeilOp,
    graph.RoundOp,
    graph.SinOp,
    graph.CosOp,
    graph.SignOp,
    graph.GeluOp,
    graph.SiluOp,
    graph.HardSwishOp,
    graph.SoftplusOp,
    graph.AddOp,
    graph.SubOp,
    graph.MulOp,
    graph.DivOp,
    graph.MaxOp,
    graph.MinOp,
    graph.PowOp,
    graph.AndOp,
    graph.OrOp,
    graph.XorOp,
    graph.EqOp,
    graph.NeOp,
    graph.LtOp,
    graph.LeOp,
    graph.GtOp,
    graph.GeOp,
)

EMITTERS: Mapping[type[Operation], Emit] = {
    **dict.fromkeys(_SAME_NAME, _same_name),
    graph.ReluOp: _relu,
    graph.ClampOp: _clamp,
    graph.LeakyReluOp: _leaky_relu,
    graph.EluOp: _elu,
    graph.HardSigmoidOp: _hard_sigmoid,
    graph.NotOp: _not,
    graph.WhereOp: _where,
    graph.CastOp: _cast,
    graph.QuantizeOp: _quantize,
    graph.DequantizeOp: _dequantize,
    graph.RequantizeOp: _requantize,
    graph.RescaleOp: _rescale,
    graph.LookupOp: _lookup,
    graph.InterpolateOp: _interpolate,
}
"""How each elementwise operation becomes micro-operations."""


def storage_types(op: Operation) -> tuple[DType, ...]:
    """The storage types of the operands and results of `op`."""
    return tuple(dict.fromkeys(dtype_of(v) for v in (*op.operands, *op.results)))
