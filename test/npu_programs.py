"""Small programs written by hand, and plain integer references for what instructions do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from npu_dialect import dtypes
from npu_dialect.dtypes import DType, i8, i32
from npu_dialect.kernel import Kernel, KernelBuilder
from npu_dialect.machine import Machine, Operand
from npu_dialect.npu import encoding
from npu_dialect.npu.arrays import Conv2DOp, MatmulOp
from npu_dialect.npu.base import Instruction, Wait
from npu_dialect.npu.copies import DmaCopyOp, DmaFillOp
from npu_dialect.npu.structure import RepeatOp
from npu_dialect.npu.vectors import Pool2DOp, VectorOp
from npu_dialect.runtime.program import (
    Binding,
    Constant,
    DebugRecord,
    Entry,
    HostCode,
    Placement,
    Program,
    TensorRecord,
)
from npu_dialect.target import load_target, target_text

dense = Operand.dense


def waits(**counts: int) -> tuple[Wait, ...]:
    """`waits(dma=2)`: for two instructions of the dma engine of core 0."""
    return tuple(Wait(0, engine, count) for engine, count in counts.items())


def binding(name: str, operand: Operand) -> Binding:
    """An input or output with the operand's own shape."""
    shape = "x".join(map(str, operand.dims))
    type_ = f"tensor<{shape}x{dtypes.element_type(operand.dtype)}>"
    return Binding(name, operand.dtype, operand.dims, operand, type_)


def program(
    ops: Sequence[Instruction | RepeatOp],
    *,
    inputs: Mapping[str, Operand] | None = None,
    outputs: Mapping[str, Operand] | None = None,
    constants: Mapping[int, np.ndarray[Any, Any]] | None = None,
    kernels: Sequence[Kernel] = (),
    layers: Sequence[str] = (),
    dram_size: int = 1 << 16,
    host: HostCode | None = None,
    tensors: Sequence[TensorRecord] = (),
    placements: Sequence[Placement] = (),
    target: str = "edge256",
    target_toml: str | None = None,
) -> Program:
    """A program; `layers` names the layer of each static instruction (default: its operation)."""
    flat = [i for op in ops for i in (op.instructions if isinstance(op, RepeatOp) else [op])]
    names = layers or [op.name for op in flat]
    return Program(
        target_text=target_toml or target_text(target),
        entries={
            "main": Entry(
                code=encoding.encode(ops),
                inputs=tuple(binding(n, o) for n, o in (inputs or {}).items()),
                outputs=tuple(binding(n, o) for n, o in (outputs or {}).items()),
                debug=tuple(DebugRecord(n, (n,)) for n in names),
                tensors=tuple(tensors),
                placements=tuple(placements),
            )
        },
        kernels=tuple(kernels),
        constants=tuple(Constant(f"c{a}", a, x) for a, x in (constants or {}).items()),
        dram_size=dram_size,
        host=host or HostCode(),
    )


def copy(source: Operand, destination: Operand, **fields: Any) -> DmaCopyOp:
    return DmaCopyOp(source=source, destination=destination, **fields)


def fill(space: str, address: int, size: int, byte: int = 0, **fields: Any) -> DmaFillOp:
    """`size` bytes of the value `byte`."""
    return DmaFillOp(destination=dense(space, address, dtypes.u8, [size]), bits=byte, **fields)


def on(engine: str, **fields: Any) -> Instruction:
    """An instruction of the dma, mxu or vpu, where what it does plays no part. A "stream" is one of
    the mxu that reads dram.
    """
    one, sums = dense("spm", 0, dtypes.i8, [1, 1]), dense("acc", 0, dtypes.i32, [1, 1])
    if engine == "dma":
        return fill("spm", 0, 1, **fields)
    if engine == "vpu":
        return VectorOp(a=one, output=one, kernel=0, **fields)
    weights = dense("dram", 0, dtypes.i8, [1, 1]) if engine == "stream" else one
    values = {"accumulate": 0, "x_zero": 0, "w_zero": 0} | fields
    return MatmulOp(input=one, weights=weights, partial=sums, **values)


def kernel_of(dtype: DType, *steps: tuple[str, tuple[int | float, ...]], output: DType) -> Kernel:
    """A kernel on one tensor: a chain of (micro-operation, immediates)."""
    builder = KernelBuilder()
    value = builder.tensor(dtype)
    for name, immediates in steps:
        value = builder.step(name, value, immediates=immediates)
    return builder.build(output)


def machine(
    target: str = "edge256", dram: int = 1 << 16, kernels: Sequence[Kernel] = ()
) -> Machine:
    return Machine(load_target(target), dram, kernels)


def place(
    machine: Machine, address: int, array: np.ndarray[Any, Any], space: str = "spm"
) -> Operand:
    """Writes an array to memory; its operand."""
    operand = dense(space, address, dtypes.BY_NUMPY[array.dtype], array.shape)
    np.copyto(machine.view(operand), array)
    return operand


def execute(machine: Machine, instruction: Instruction) -> None:
    """What a decoded copy of the instruction does."""
    decoded = type(instruction).decode(instruction.encode())
    decoded.verify()
    decoded.execute(machine, decoded.values())


def wrap(sums: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """int64 modulo 2**32, as int32."""
    return sums.astype(np.int64).astype(np.uint64).astype(np.uint32).view(np.int32)


def reference_conv(
    x: np.ndarray[Any, Any],
    w: np.ndarray[Any, Any],
    out: tuple[int, int],
    strides: tuple[int, int] = (1, 1),
    dilations: tuple[int, int] = (1, 1),
    pads: tuple[int, int] = (0, 0),
    x_zero: int = 0,
    w_zero: int = 0,
) -> np.ndarray[Any, Any]:
    """Convolution [H, W, IC] * [KH, KW, IC, OC] in int64, position by position and tap by tap."""
    sums = np.zeros((*out, w.shape[3]), np.int64)
    for row, column in np.ndindex(*out):
        for i, j in np.ndindex(*w.shape[:2]):
            r = row * strides[0] + i * dilations[0] - pads[0]
            c = column * strides[1] + j * dilations[1] - pads[1]
            if 0 <= r < x.shape[0] and 0 <= c < x.shape[1]:
                products = (x[r, c].astype(np.int64) - x_zero) @ (w[i, j].astype(np.int64) - w_zero)
                sums[row, column] += products
    return sums


X = np.random.default_rng(0).integers(-128, 128, (8, 8, 4)).astype(np.int8)
W = np.random.default_rng(1).integers(-128, 128, (3, 3, 4, 8)).astype(np.int8)


def convolve_and_pool() -> Program:
    """Weights and image from dram, a convolution, a sum over 2 x 2 windows, the result to dram."""
    weights, image = dense("spm", 0, i8, [3, 3, 4, 8]), dense("spm", 1024, i8, [8, 8, 4])
    sums, pooled = dense("spm", 2048, i32, [8, 8, 8]), dense("spm", 8192, i32, [4, 4, 8])
    given, result = dense("dram", 4096, i8, [8, 8, 4]), dense("dram", 8192, i32, [4, 4, 8])
    ops = [
        copy(dense("dram", 0, i8, [3, 3, 4, 8]), weights),
        copy(given, image),
        Conv2DOp(
            input=image,
            weights=weights,
            output=sums,
            kernel=0,
            accumulate=0,
            strides=(1, 1),
            dilations=(1, 1),
            pads=(1, 1),
            x_zero=3,
            w_zero=0,
            waits=waits(dma=2),
        ),
        Pool2DOp(
            input=sums,
            output=pooled,
            kind="sum",
            size=(2, 2),
            strides=(2, 2),
            dilations=(1, 1),
            pads=(0, 0, 0, 0),
            x_zero=0,
            count_include_pad=0,
            waits=waits(mxu=1),
        ),
        copy(pooled, result, waits=waits(vpu=1)),
    ]
    return program(
        ops,
        inputs={"image": given},
        outputs={"sums": result},
        constants={0: W},
        kernels=[kernel_of(i32, output=i32)],
        layers=["conv", "conv", "conv", "pool", "pool"],
        tensors=[TensorRecord(2, binding("conv", sums))],
    )
