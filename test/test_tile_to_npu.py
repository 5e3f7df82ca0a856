"""A lowered program computes what the tile function does, in any order that its waits permit."""

from __future__ import annotations

import random
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tile_nests import Conv, body, conv_nest, function, matmul_nest, pool_nest
from xdsl.builder import Builder
from xdsl.dialects.builtin import ArrayAttr, ModuleOp, StringAttr
from xdsl.dialects.func import FuncOp

from npu_dialect import dtypes
from npu_dialect.diagnostics import CompileError
from npu_dialect.dtypes import DType
from npu_dialect.kernel import Kernel
from npu_dialect.machine import Machine
from npu_dialect.npu.attributes import TargetAttr
from npu_dialect.npu.base import Instruction
from npu_dialect.npu.structure import ProgramOp
from npu_dialect.npu.verifier import ProgramImage, verify_program
from npu_dialect.passes.blocks import joint
from npu_dialect.pipeline import Options
from npu_dialect.pipeline import run as run_passes
from npu_dialect.target import load_target
from npu_dialect.tile import (
    AllocOp,
    BroadcastOp,
    CopyOp,
    FillOp,
    ReduceOp,
    TransposeOp,
    VectorOp,
    WaitOp,
)
from npu_dialect.tile.descriptor import BufferKey, Descriptor
from npu_dialect.tile.interpret import run
from npu_dialect.tile.syntax import dtype_of, shape_of

Array = npt.NDArray[Any]
QUIET = Options(verify_each=False, reproducer=None)
PASSES = "tile-allocate,tile-to-npu{order=%s},npu-sync,npu-roll"


def lower(
    func: FuncOp, inputs: int, target: str = "mobile4k", order: str = "schedule"
) -> ProgramOp:
    """The program of a function whose first `inputs` arguments are inputs."""
    names = [StringAttr(f"arg{k}") for k in range(len(func.args))]
    func.attributes["npu.input_names"] = ArrayAttr(names[:inputs])
    func.attributes["npu.output_names"] = ArrayAttr(names[inputs:])
    module = cast(ModuleOp, func.parent_op())
    module.attributes["npu.target"] = TargetAttr(target)
    run_passes(module, PASSES % order, options=QUIET)
    (program,) = [op for op in module.ops if isinstance(op, ProgramOp)]
    return program


def execute(program: ProgramOp, inputs: list[Array], seed: int) -> list[Array]:
    """The outputs, with the ready instruction of a random engine executed next."""
    image = ProgramImage.of(program)
    target = load_target(program.target.data)
    assert verify_program(image, target) == []
    machine = Machine(target, image.dram_size, image.kernels)
    for (_, operand), array in zip(image.inputs, inputs, strict=True):
        machine.view(operand)[...] = array.reshape(operand.dims)
    for constant in program.constants:
        data = np.frombuffer(constant.blob.data.bytes, np.uint8)
        start = constant.address.data
        machine.memories["dram"][start : start + data.size] = data
    queues: dict[str, list[Instruction]] = {}
    for instruction in image.instructions:
        queues.setdefault(instruction.engine, []).append(instruction)
    done = dict.fromkeys(queues, 0)
    chance = random.Random(seed)
    for _ in image.instructions:
        heads = {e: q[done[e]] for e, q in queues.items() if done[e] < len(q)}
        able = [e for e, i in heads.items() if all(done[w.engine] >= w.count for w in i.wait_list)]
        engine = able[chance.randrange(len(able))]
        heads[engine].execute(machine, heads[engine].values())
        done[engine] += 1
    return [machine.view(operand).copy() for _, operand in image.outputs]


def values(rng: np.random.Generator, shape: tuple[int, ...], dtype: DType) -> Array:
    if dtype.is_float:
        return rng.standard_normal(shape).astype(dtype.numpy)
    return rng.integers(dtype.low, dtype.high, shape, dtype.numpy, endpoint=True)


def check(func: FuncOp, inputs: int, seed: int = 0, target: str = "mobile4k") -> ProgramOp:
    rng = np.random.default_rng(seed)
    arrays = [values(rng, shape_of(a), dtype_of(a)) for a in func.args[:inputs]]
    expected = run(func, arrays)
    program = lower(func, inputs, target, "schedule" if seed % 3 else "program")
    for k in range(3):
        for found, wanted in zip(execute(program, arrays, k), expected, strict=True):
            np.testing.assert_array_equal(found.reshape(-1), wanted.reshape(-1))
    return program


small = st.integers(1, 3)
pads = st.integers(0, 2)
seeds = st.integers(0, 1000)


@st.composite
def convs(draw: st.DrawFn, dtype: DType, depthwise: bool = False) -> Conv:
    kernel = draw(st.tuples(small, small))
    image = (draw(st.integers(7, 12)), draw(st.integers(7, 12)), draw(st.integers(1, 6)))
    return Conv(
        image=image,
        channels=image[2] if depthwise else draw(st.integers(1, 6)),
        kernel=kernel,
        strides=draw(st.tuples(small, small)),
        dilations=draw(st.tuples(small, small)),
        pads=draw(st.tuples(pads, pads, pads, pads)),
        rows=draw(st.integers(2, 6)),
        columns=draw(st.integers(2, 6)),
        out_tile=draw(st.integers(1, 6)),
        in_tile=0 if depthwise or draw(st.booleans()) else draw(st.integers(1, 6)),
        dtype=dtype,
        x_zero=draw(st.integers(-5, 5)) if dtype.is_int else 0,
        depthwise=depthwise,
    )


@settings(max_examples=24, deadline=None)
@given(convs(dtypes.i8), seeds)
def test_a_convolution_computes_the_same(conv: Conv, seed: int) -> None:
    check(conv_nest(conv), 2, seed)


@settings(max_examples=12, deadline=None)
@given(convs(dtypes.u8, depthwise=True), seeds)
def test_a_depthwise_convolution_computes_the_same(conv: Conv, seed: int) -> None:
    check(conv_nest(conv), 2, seed)


@settings(max_examples=20, deadline=None)
@given(st.tuples(*[st.integers(1, 12)] * 3), st.tuples(*[st.integers(2, 8)] * 3), seeds)
def test_a_matrix_product_computes_the_same(
    size: tuple[int, int, int], tile: tuple[int, int, int], seed: int
) -> None:
    check(matmul_nest(*size, tile, dtypes.f32), 2, seed)


@settings(max_examples=12, deadline=None)
@given(convs(dtypes.i8), st.sampled_from(["max", "sum"]), seeds)
def test_a_pool_computes_the_same(conv: Conv, kind: str, seed: int) -> None:
    check(pool_nest(conv, kind, dtypes.i8 if kind == "max" else dtypes.i32), 1, seed)


def test_a_small_memory_gives_the_same_result_in_less_space() -> None:
    conv = Conv((24, 24, 16), 24, rows=8, columns=8, out_tile=8)
    check(conv_nest(conv), 2, 1, "edge256")


# --- dimensions -----------------------------------------------------------------------------------


def unary(build: Builder, source: AllocOp, shape: tuple[int, ...]) -> AllocOp:
    out = build.insert(AllocOp(shape, dtypes.i32))
    build.insert(VectorOp([source], out, Kernel.parse("(t0: i32) -> i32: v0 = neg.i32 t0")))
    return out


def move(build: Builder, source: Any, destination: Any) -> None:
    build.insert(WaitOp(build.insert(CopyOp(source, destination))))


@settings(max_examples=20, deadline=None)
@given(st.permutations(range(7)), st.lists(st.integers(1, 3), min_size=7, max_size=7), seeds)
def test_copies_of_many_dimensions_are_cut_into_some_of_five(
    order: list[int], dims: list[int], seed: int
) -> None:
    func = function([(dims, dtypes.i32), ([dims[k] for k in order], dtypes.i32)])
    build = body(func)
    held = build.insert(AllocOp(dims, dtypes.i32))
    move(build, func.args[0], held)
    negated = unary(build, held, tuple(dims))
    move(build, build.insert(TransposeOp(negated, order)), func.args[1])
    program = check(func, 1, seed)
    assert all(len(o.dims) <= 5 for i in program.expanded() for _, _, o in i.operand_fields())


@settings(max_examples=20, deadline=None)
@given(
    st.lists(st.tuples(st.integers(1, 3), st.booleans()), min_size=1, max_size=7),
    st.sampled_from(["sum", "max"]),
    seeds,
)
def test_reductions_of_many_dimensions_compute_the_same(
    dims: list[tuple[int, bool]], kind: str, seed: int
) -> None:
    shape = [d for d, _ in dims]
    axes = [k for k, (_, reduced) in enumerate(dims) if reduced]
    out_shape = [1 if reduced else d for d, reduced in dims]
    func = function([(shape, dtypes.i32), (out_shape, dtypes.i32)])
    build = body(func)
    held, out = (
        build.insert(AllocOp(shape, dtypes.i32)),
        build.insert(AllocOp(out_shape, dtypes.i32)),
    )
    move(build, func.args[0], held)
    build.insert(ReduceOp(held, out, kind, axes))
    move(build, out, func.args[1])
    check(func, 1, seed)


@settings(max_examples=20, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 3), st.booleans()), min_size=1, max_size=5), seeds)
def test_broadcast_operands_are_read_once_per_element(
    dims: list[tuple[int, bool]], seed: int
) -> None:
    shape = [d for d, _ in dims]
    narrow = [1 if repeated else d for d, repeated in dims]
    func = function([(shape, dtypes.i32), (narrow, dtypes.i32), (shape, dtypes.i32)])
    build = body(func)
    held = [build.insert(AllocOp(s, dtypes.i32)) for s in (shape, narrow, shape)]
    move(build, func.args[0], held[0])
    move(build, func.args[1], held[1])
    add = Kernel.parse("(t0: i32, t1: i32) -> i32: v0 = add.i32 t0, t1")
    build.insert(VectorOp(held[:2], held[2], add))
    move(build, held[2], func.args[2])
    check(func, 2, seed)


def test_a_repeated_source_is_copied_with_a_stride_of_zero() -> None:
    func = function([((1, 4), dtypes.i8), ((3, 4), dtypes.i8)])
    build = body(func)
    held = build.insert(AllocOp((3, 4), dtypes.i8))
    move(build, build.insert(BroadcastOp(func.args[0], (3, 4))), held)
    move(build, held, func.args[1])
    program = check(func, 1)
    first = next(iter(program.expanded()))
    assert first.values()["source"].strides == (0, 1)


@pytest.mark.parametrize("dtype", [dtypes.i8, dtypes.f32, dtypes.f16, dtypes.i32])
def test_a_fill_writes_the_value(dtype: DType) -> None:
    func = function([((2,), dtypes.i8), ((2, 6), dtype)])
    body(func).insert(FillOp(func.args[1], -3.0 if dtype.is_float else -3))
    check(func, 1)


def test_dense_dimensions_merge_in_all_operands_or_in_none() -> None:
    key = BufferKey(cast(Any, None))
    dense = Descriptor(key, "spm", 0, dtypes.i8, (4, 8, 16), (128, 16, 1), (0, 0, 0))
    cut = Descriptor(key, "spm", 0, dtypes.i8, (4, 8, 16), (256, 16, 1), (0, 0, 0))
    assert joint([dense], dense.dims).dims == (512,)
    assert joint([dense], dense.dims, keep_last=True).dims == (32, 16)
    assert joint([dense, cut], dense.dims).dims == (4, 128)


# --- what cannot be lowered -----------------------------------------------------------------------


def test_buffers_without_offsets_are_refused() -> None:
    func = conv_nest(Conv((8, 8, 4), 4))
    module = cast(ModuleOp, func.parent_op())
    module.attributes["npu.target"] = TargetAttr("edge256")
    with pytest.raises(CompileError, match="must have an offset"):
        run_passes(module, "tile-to-npu", options=QUIET)


def test_an_unknown_order_is_refused() -> None:
    module = ModuleOp([])
    module.attributes["npu.target"] = TargetAttr("edge256")
    with pytest.raises(CompileError, match="order must be schedule or program"):
        run_passes(module, "tile-to-npu{order=random}")
