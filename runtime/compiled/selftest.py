"""The compiled tier tests itself against the plain one before it is first used on a machine.

    if trusted(detect()):
        ...  # translate and run

What a processor's instructions are known to get wrong, or a compiler may change: sums of byte
products that saturate, rows that do not fill a vector, ties of a rounding, sums of products in one
rounding, transcendental functions.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import numpy as np

from npu_dialect import dtypes
from npu_dialect.dtypes import DType, f32, i8, i16, i32
from npu_dialect.kernel import Kernel
from npu_dialect.machine import Array, Machine, Operand
from npu_dialect.npu.arrays import Conv2DOp, DepthwiseConv2DOp, MatmulOp
from npu_dialect.npu.base import Instruction, Values
from npu_dialect.npu.copies import DmaCopyOp
from npu_dialect.npu.vectors import Pool2DOp, ReduceOp, VectorOp
from npu_dialect.runtime.compiled.constants import Constants
from npu_dialect.runtime.compiled.host import Host
from npu_dialect.runtime.compiled.library import cache_folder, version
from npu_dialect.runtime.compiled.runner import Runner
from npu_dialect.runtime.compiled.translate import translate
from npu_dialect.target import load_target

TARGET = "edge256"
"""Any target does; its memories are small."""


@cache
def trusted(host: Host) -> bool:
    """Whether the compiled tier passes its test. It is run once per machine and version: a file
    beside the compiled routines says that it was passed.
    """
    parts = (version(), host.name, host.triple, host.cpu, host.features)
    digest = hashlib.sha256("\n".join(parts).encode()).hexdigest()
    marker = cache_folder() / f"{digest[:40]}.tested"
    if marker.exists():
        return True
    if run(host) is not None:
        return False
    try:
        marker.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=marker.parent)
        os.close(handle)
        os.replace(temporary, marker)
    except OSError:  # it is then tested again
        pass
    return True


def run(host: Host) -> str | None:
    """Carries out a few instructions in both tiers, constants known and not. What differs; None
    where all is right.
    """
    program = _program()
    try:
        plain = program.machine()
        with np.errstate(all="ignore"):
            for _, instruction, values in program.rows:
                instruction.execute(plain, values)
        for folds in (False, True):
            native = program.machine()
            _execute(program, native, host, folds)
            for title, instruction, _ in program.rows:
                if wrong := _difference(instruction, plain, native):
                    return f"{title} ({instruction.name}): {wrong}"
            for space, memory in native.memories.items():
                if (memory != plain.memories[space]).any():
                    return f"bytes of {space} change that are not results"
    except Exception as problem:  # whatever it is, native code is not to be used
        return f"{type(problem).__name__}: {problem}"
    return None


Row = tuple[str, Instruction, Values]


@dataclass
class _Program:
    """Instructions under construction, each with what it tests, and what the memories hold."""

    rng: np.random.Generator = field(default_factory=lambda: np.random.default_rng(5))
    rows: list[Row] = field(default_factory=list[Row])
    kernels: list[Kernel] = field(default_factory=list[Kernel])
    contents: list[tuple[Operand, Array]] = field(default_factory=list[tuple[Operand, Array]])
    constants: list[tuple[Operand, Array]] = field(default_factory=list[tuple[Operand, Array]])
    """What dram holds of that in every run."""
    ends: dict[str, int] = field(default_factory=lambda: {"dram": 0, "spm": 0, "acc": 0})

    def add(self, title: str, instruction: Instruction) -> None:
        self.rows.append((title, instruction, instruction.values()))

    def space(self, dtype: DType, dims: Sequence[int], space: str = "spm") -> Operand:
        """An operand for a result, aligned no better than it must be."""
        operand = Operand.dense(space, self.ends[space], dtype, dims)
        self.ends[space] = -(-operand.interval[1] // 8) * 8 + 8
        return operand

    def given(self, data: Array) -> Operand:
        """An operand that holds `data`."""
        operand = self.space(dtypes.BY_NUMPY[data.dtype], data.shape)
        self.contents.append((operand, data))
        return operand

    def constant(self, data: Array) -> Operand:
        """An operand that is copied from a constant in dram."""
        operand = self.given(data)
        source = self.space(operand.dtype, data.shape, "dram")
        self.constants.append((source, data))
        self.add("a copy", DmaCopyOp(source=source, destination=operand))
        return operand

    def params(self, *rows: Array) -> Operand:
        """A constant block of parameters."""
        return self.constant(np.array([r.view(np.int32) for r in rows]))

    def kernel(self, text: str) -> int:
        self.kernels.append(Kernel.parse(text))
        return len(self.kernels) - 1

    def machine(self) -> Machine:
        """A machine that holds the operands, the copied ones too: copies may be left out."""
        machine = Machine(load_target(TARGET), self.ends["dram"], self.kernels)
        for operand, data in (*self.contents, *self.constants):
            np.copyto(machine.view(operand), data)
        return machine


def _execute(program: _Program, machine: Machine, host: Host, folds: bool) -> None:
    constants = None
    if folds:
        constants = Constants(machine.target, program.ends["dram"])
        for operand, data in program.constants:
            constants.hold(operand.address, np.frombuffer(data.tobytes(), np.uint8))
    pairs = [(instruction, values) for _, instruction, values in program.rows]
    translation = translate(pairs, program.kernels, host, constants)

    def plain(position: int) -> None:
        instruction, values = pairs[position]
        instruction.execute(machine, values)

    Runner(translation, machine, host).run(plain)


def _difference(instruction: Instruction, plain: Machine, native: Machine) -> str:
    """Where a result differs in its bits."""
    for operand in instruction.writes():
        wanted, found = (m.view(operand) for m in (plain, native))
        bits = np.dtype(f"u{operand.dtype.itemsize}")
        wrong = wanted.view(bits) != found.view(bits)
        if wrong.any():
            index = tuple(int(k[0]) for k in np.nonzero(wrong))
            return f"must give {wanted[index]!r} at {list(index)}, found {found[index]!r}"
    return ""


# --- the instructions


@cache
def _program() -> _Program:
    program = _Program()
    for add in (_dot_products, _output_stages, _convolutions, _floats, _vectors):
        add(program)
    return program


def _product(program: _Program, title: str, x: Array, w: Array, **fields: Any) -> None:
    """A matrix product, by default left as sums."""
    if "output" not in fields:
        sums = f32 if x.dtype == np.float32 else i32
        fields["partial"] = program.space(sums, (x.shape[0], w.shape[1]), "acc")
    zeros = {"x_zero": 0, "w_zero": 0, "accumulate": 0}
    operands = {"input": program.given(x), "weights": program.constant(w)}
    program.add(title, MatmulOp(**operands, **(zeros | fields)))


def _dot_products(program: _Program) -> None:
    rng = program.rng
    for k in (1, 66, 1029):
        least = np.full((3, k), -128, np.int8)
        title = f"sums of {k} products of the least bytes"
        _product(program, title, least, np.full((k, 19), -128, np.int8), x_zero=127)
        most = np.full((3, k), 255, np.uint8)
        title = f"sums of {k} products of the greatest bytes"
        _product(program, title, most, np.full((k, 19), 127, np.int8))
    w = rng.choice(np.array([127, -128], np.int8), (39, 33))
    x = rng.choice(np.array([255, 254], np.uint8), (7, 39))
    _product(program, "pairs of products beyond 16 bits", x, w, x_zero=3, w_zero=-7)
    x = rng.integers(-32768, 32768, (5, 39)).astype(np.int16)
    _product(program, "products of 16 bits by 8", x, w)
    x = np.full((2, 4099), -32768, np.int16)
    _product(program, "sums that wrap around", x, np.full((4099, 3), -128, np.int8))


def _output_stages(program: _Program) -> None:
    """Sums of small numbers times 1/2, 1/4 ...: many ties."""
    rng, channels = program.rng, 37
    x = rng.integers(-9, 10, (6, 10)).astype(np.int8)
    w = rng.integers(-9, 10, (10, channels)).astype(np.int8)
    bias = rng.integers(-99, 99, channels).astype(np.int32)
    scale = (2.0 ** -rng.integers(0, 4, channels)).astype(np.float32)
    ends = "zero_in=0, zero_out=1, low=-128, high=127"
    kernel = program.kernel(
        "(t0: i32; p0: i32, p1: f32) -> i8: v0 = add.i32 t0, p0; "
        f"v1 = requantize.f32 v0, p1 {{{ends}}}"
    )
    output = program.space(i8, (6, channels))
    params = program.params(bias, scale)
    fields: dict[str, Any] = {"kernel": kernel, "output": output, "params": params}
    _product(program, "ties of a requantization", x, w, **fields)
    for rounding in ("half_even", "half_up", "half_away", "double"):
        kernel = program.kernel(
            f"(t0: i32; p0: i32, p1: i32) -> i16: v0 = requantize.fixed t0, p0, p1 "
            f"{{rounding='{rounding}', {ends}}}"
        )
        factor = np.full(channels, 1 << 30, np.int32)
        shift = rng.integers(30, 35, channels).astype(np.int32)
        output = program.space(i16, (6, channels))
        fields = {"kernel": kernel, "output": output, "params": program.params(factor, shift)}
        _product(program, f"rounding {rounding}", x, w, **fields)


def _convolutions(program: _Program) -> None:
    rng = program.rng
    x = rng.choice(np.array([-128, 127, 5], np.int8), (6, 7, 5))
    fields: dict[str, Any] = {"strides": (1, 1), "dilations": (1, 1), "pads": (1, 1)}
    fields |= {"x_zero": -128, "w_zero": 0, "accumulate": 0}
    w = rng.choice(np.array([-128, 127, -3], np.int8), (3, 3, 5, 18))
    conv = Conv2DOp(
        input=program.given(x),
        weights=program.constant(w),
        partial=program.space(i32, (6, 7, 18), "acc"),
        **fields,
    )
    program.add("a convolution of extremes", conv)
    depthwise = DepthwiseConv2DOp(
        input=program.given(x),
        weights=program.constant(np.ascontiguousarray(w[..., 0])),
        partial=program.space(i32, (6, 7, 5), "acc"),
        **fields,
    )
    program.add("a depthwise convolution of extremes", depthwise)
    pool = Pool2DOp(
        input=program.given(x),
        output=program.space(i8, (3, 3, 5)),
        kind="max",
        size=(2, 2),
        strides=(2, 2),
        dilations=(1, 1),
        pads=(0, 0, 0, 0),
        x_zero=0,
        count_include_pad=0,
    )
    program.add("maxima of windows", pool)


def _floats(program: _Program) -> None:
    """Random numbers: products and sums in one rounding give other bits."""
    x, w = (program.rng.standard_normal(s).astype(np.float32) for s in ((5, 43), (43, 21)))
    _product(program, "sums of products, each rounded", x, w)
    total = ReduceOp(
        input=program.given(x),
        output=program.space(f32, (5, 1)),
        kind="sum",
        axes=0b10,
        x_zero=0,
    )
    program.add("sums in order", total)


VECTORS: dict[str, tuple[str, Callable[[np.random.Generator], Array]]] = {
    "a product and a sum, each rounded": (
        "(t0: f32) -> f32: v0 = mul.f32 t0, t0; v1 = add.f32 v0, t0",
        lambda rng: rng.standard_normal(85).astype(np.float32),
    ),
    "exponentials": (
        "(t0: f32) -> f32: v0 = exp.f32 t0",
        lambda rng: np.append(rng.normal(0, 40, 85), [-0.0, 88.9, -104.0]).astype(np.float32),
    ),
    "subnormal numbers": (
        "(t0: f32) -> f32: v0 = const.f32 {value=0.5}; v1 = mul.f32 t0, v0",
        lambda rng: rng.integers(1, 1 << 23, 85).astype(np.int32).view(np.float32),
    ),
    "narrow floats": (
        "(t0: f32) -> f16: v0 = relu.f32 t0",
        lambda rng: np.append(rng.normal(0, 2000, 85), [65519.0, 1e-7]).astype(np.float32),
    ),
}
"""What is tested: a kernel, and its operand."""


def _vectors(program: _Program) -> None:
    for title, (text, numbers) in VECTORS.items():
        data = numbers(program.rng)
        kernel = program.kernel(text)
        output = program.space(program.kernels[kernel].output, data.shape)
        program.add(title, VectorOp(a=program.given(data), kernel=kernel, output=output))
