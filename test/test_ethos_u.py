"""Arrays of kind `ethos_u55`: cycles of blocks by hand and against Arm Vela, operator by operator;
the blocks that instructions take; machines whose dram begins with flash.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, cast
from unittest import mock

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from npu_programs import copy, dense, fill, kernel_of, program
from onnx import TensorProto, helper, numpy_helper

import npu_dialect as npu
from npu_dialect import cost, pipeline
from npu_dialect.cost import ArrayWork
from npu_dialect.dtypes import i8, i32
from npu_dialect.ethos_u.cycles import (
    CONVOLUTION,
    DEPTHWISE,
    POOLING,
    SUM,
    Block,
    Extents,
    Operation,
    array_cycles,
    block_cycles,
)
from npu_dialect.ethos_u.walk import output_cycles as stage_cycles
from npu_dialect.ethos_u.walk import walk
from npu_dialect.npu.arrays import MatmulOp
from npu_dialect.npu.vectors import VectorOp
from npu_dialect.passes.kernels import KernelPlan
from npu_dialect.passes.placement.rules import fits_output_stage
from npu_dialect.runtime import profile
from npu_dialect.target import Blocks, load_target, target_text

FOLDER = str(Path(__file__).parents[1] / "benchmarks")
with mock.patch.object(sys, "path", [FOLDER, *sys.path]):
    import vela_count  # pyright: ignore[reportMissingImports]
    import vela_runs  # pyright: ignore[reportMissingImports]

MODELS = Path(__file__).parents[2] / "shared" / "models"
U55 = load_target("ethos_u55_256")
U65 = load_target("ethos_u65_512")


U85 = load_target("ethos_u85_2048")


def blocks_of(target: Any) -> Blocks:
    assert target.array.blocks is not None
    return target.array.blocks


# --- Ethos-U85, by hand ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("op", "block", "cycles"),
    [
        # 16x16x64 in micro-blocks of 2x2x64: max(64, 8 x 64) cycles x 9 taps
        (
            Operation(CONVOLUTION, Extents(18, 18, 64), Extents(16, 16, 64), (3, 3)),
            Block(Extents(16, 16, 64), Extents(18, 18, 64)),
            512 * 9,
        ),
        # the same of int16: twice
        (
            Operation(CONVOLUTION, Extents(18, 18, 64), Extents(16, 16, 64), (3, 3), 16, 16),
            Block(Extents(16, 16, 64), Extents(18, 18, 64)),
            512 * 9 * 2,
        ),
        # two of four weights are zero: half
        (
            Operation(
                CONVOLUTION, Extents(18, 18, 64), Extents(16, 16, 64), (3, 3), skips=True
            ),
            Block(Extents(16, 16, 64), Extents(18, 18, 64)),
            512 * 9 // 2,
        ),
        # 16x16x16 wastes nothing in micro-blocks of 4x4x16; 9 taps are 3 parts of 4, 16 channels 2
        (
            Operation(CONVOLUTION, Extents(18, 18, 16), Extents(16, 16, 16), (3, 3)),
            Block(Extents(16, 16, 16), Extents(18, 18, 16), True),
            4 * 16 * 3 * 2,
        ),
        # a row of 8 columns in micro-blocks of 1x4x64: 64 cycles for the weights of each, 2 x 64
        # input channels
        (
            Operation(CONVOLUTION, Extents(1, 4, 128), Extents(1, 4, 128)),
            Block(Extents(1, 4, 128), Extents(1, 4, 64)),
            (64 * 2 + 0) * 2,
        ),
        # depthwise in micro-blocks of 4x4x16: max(16, 4 x 16) cycles x 3 parts x 4 of channels
        (
            Operation(DEPTHWISE, Extents(18, 18, 64), Extents(16, 16, 64), (3, 3)),
            Block(Extents(16, 16, 64), Extents(18, 18, 64)),
            64 * 3 * 4,
        ),
    ],
)  # fmt: skip
def test_a_block_of_ethos_u85_takes_the_cycles_of_its_micro_blocks(
    op: Operation, block: Block, cycles: int
):
    assert array_cycles(blocks_of(U85), op, block) == cycles


# --- cycles of a block, by hand -------------------------------------------------------------------

WHOLE = Extents(16, 16, 16)


@pytest.mark.parametrize(
    ("op", "block", "cycles"),
    [
        # 16x16x16 in micro-blocks of 2x2x8: 8 x 8 x 2; max(32, 4 x 64) cycles x 9 taps x 2
        (
            Operation(CONVOLUTION, Extents(18, 18, 32), WHOLE, (3, 3)),
            Block(WHOLE, Extents(18, 18, 32)),
            256 * 9 * 2,
        ),
        # the same with 64 input channels, of which a block has 32: twice
        (
            Operation(CONVOLUTION, Extents(18, 18, 64), WHOLE, (3, 3)),
            Block(WHOLE, Extents(18, 18, 32)),
            256 * 9 * 2 * 2,
        ),
        # 9 taps in parts of 4: 3 steps, x 2 for 16 input channels in parts of 8
        (
            Operation(CONVOLUTION, Extents(18, 18, 16), WHOLE, (3, 3)),
            Block(WHOLE, Extents(18, 18, 16), part_kernel=True),
            256 * 3 * 2 * 2,
        ),
        # int16 takes 2 taps at a time: 5 steps
        (
            Operation(CONVOLUTION, Extents(18, 18, 16), WHOLE, (3, 3), bits=16),
            Block(WHOLE, Extents(18, 18, 16), part_kernel=True),
            256 * 5 * 2 * 2,
        ),
        # depthwise: 9 taps in 3 steps; int16 takes twice the cycles of a step
        (
            Operation(DEPTHWISE, Extents(18, 18, 16), WHOLE, (3, 3)),
            Block(WHOLE, Extents(18, 18, 16)),
            256 * 3 * 2,
        ),
        (
            Operation(DEPTHWISE, Extents(18, 18, 16), WHOLE, (3, 3), bits=16),
            Block(WHOLE, Extents(18, 18, 16)),
            2 * 256 * 3 * 2,
        ),
        # a kernel of 10 x 4 is one of 8 x 4 and one of 2 x 4: 32 + 8 taps, so 8 + 2 steps of 4
        (
            Operation(CONVOLUTION, Extents(25, 19, 8), WHOLE, (10, 4)),
            Block(WHOLE, Extents(24, 20, 8), part_kernel=True),
            256 * (8 + 2) * 2,
        ),
        # pooling: max(4, 9) x 128 micro-blocks x 4
        (
            Operation(POOLING, Extents(33, 33, 16), WHOLE, (3, 3)),
            Block(WHOLE, Extents(34, 34, 16)),
            9 * 128 * 4,
        ),
        # and of one tap 4 at least
        (
            Operation(POOLING, WHOLE, WHOLE, (1, 1)),
            Block(WHOLE, WHOLE),
            4 * 128 * 4,
        ),
        # a sum of channels goes as a convolution of one tap: 256 x 2 for its 16 channels in 8s
        (Operation(SUM, WHOLE, WHOLE), Block(WHOLE, WHOLE), 256 * 2),
        # one position: its weights take 32 cycles to come, for each of 8 x 8 channels; with one
        # step no sum waits
        (
            Operation(CONVOLUTION, Extents(1, 1, 32), Extents(1, 1, 64)),
            Block(Extents(2, 2, 64), Extents(2, 2, 32)),
            32 * 8,
        ),
        # with 9 taps sums wait 2 cycles between them: (9 - 1) x 8 channels of micro-blocks
        (
            Operation(CONVOLUTION, Extents(3, 3, 32), Extents(1, 1, 64), (3, 3)),
            Block(Extents(2, 2, 64), Extents(4, 4, 32)),
            32 * 9 * 8 + 2 * 8 * 8,
        ),
        # and of a single micro-block after every step
        (
            Operation(CONVOLUTION, Extents(3, 3, 32), Extents(1, 1, 8), (3, 3)),
            Block(Extents(2, 2, 8), Extents(4, 4, 32)),
            32 * 9 + 2 * 9,
        ),
        # a single row is computed 4 columns at a time: 32 columns are 8 micro-blocks, not 16
        (
            Operation(CONVOLUTION, Extents(1, 32, 32), Extents(1, 32, 8)),
            Block(Extents(1, 32, 8), Extents(1, 32, 32)),
            4 * 8,
        ),
        # of an odd number of columns it is not
        (
            Operation(CONVOLUTION, Extents(1, 31, 32), Extents(1, 31, 8)),
            Block(Extents(1, 32, 8), Extents(1, 32, 32)),
            4 * 16,
        ),
    ],
)
def test_cycles_of_a_block(op: Operation, block: Block, cycles: int):
    assert array_cycles(blocks_of(U55), op, block) == cycles
    assert array_cycles(blocks_of(U65), op, block) == cycles // 2


def test_an_operation_takes_the_slower_stage_on_every_block_and_the_other_one_once():
    op = Operation(CONVOLUTION, Extents(34, 34, 32), Extents(32, 32, 16), (3, 3))
    block = Block(WHOLE, Extents(18, 18, 32))
    memory = U55.memories["spm"]
    found = block_cycles(blocks_of(U55), op, block, memory, 0.25, scale_latency=32, runs=(32, 16))
    assert found.count == (32 * 32) / (16 * 16)
    assert found.array == 256 * 9 * 2
    assert found.output == 0.25 * 16 * 16 * 16  # more than 10 bytes x 16 channels x 32 / 256
    assert found.load == 32 + 18 * 18 * 32 // 8
    assert found.store == 32 + 2 * 16 * 16 * 16 // 8  # runs of 16 bytes pay for bursts of 32
    assert found.commands == (found.load - found.store + found.array + found.output) / 4
    # the output stage of the last block waits for commands too
    assert found.total == 4 * found.array + found.commands + found.load + found.store
    slow = replace(found, output=9000.0)
    assert slow.total == 4 * 9000 + found.array + found.load + found.store


def test_the_wait_for_scales_is_part_of_the_output_stage():
    op = Operation(CONVOLUTION, Extents(1, 1, 32), Extents(1, 1, 128))
    block = Block(Extents(2, 2, 128), Extents(2, 2, 32))
    for latency, cycles in ((None, 32), (32, 160), (64, 320)):  # 10 bytes x 128 x latency / 256
        found = block_cycles(
            blocks_of(U55), op, block, U55.memories["spm"], 0.25,
            scale_latency=latency, runs=(32, 32),
        )  # fmt: skip
        assert found.output == cycles


# --- against Vela ---------------------------------------------------------------------------------

needs_vela = pytest.mark.skipif(
    not vela_runs.is_installed() or not MODELS.is_dir(),
    reason="needs the package ethos-u-vela and the folder of models",
)
INT8 = ("mlperf_ad_int8", "mlperf_ic_int8", "mlperf_kws_int8", "mlperf_vww_int8",
        "coral_mobilenet_v1_025_128", "coral_tf2_mobilenet_v2_ptq", "mcunet_vww", "tflm_hello_int8",
        "tflm_micro_speech_int8", "tflm_mnist_lstm_int8")  # fmt: skip


@cache
def runs(machine: str, model: str) -> vela_runs.Run:
    (found,) = (m for m in vela_runs.MACHINES if m.target == machine)
    with TemporaryDirectory() as folder:
        path = MODELS / f"{model}.tflite"
        return vela_runs.run(path, found, Path(folder), ["--enable-debug-db"])


def multiplying(machine: str, model: str) -> list[vela_runs.Operator]:
    return [o for o in runs(machine, model).operators if o.mac_cycles is not None]


@needs_vela
@pytest.mark.slow
@pytest.mark.parametrize("machine", ["ethos_u55_256", "ethos_u65_512", "ethos_u85_2048"])
@pytest.mark.parametrize("model", INT8)
def test_array_cycles_of_every_operator_are_those_of_vela(machine: str, model: str):
    """But for those that Ethos-U85 does in one go with a transposition."""
    operators = [o for o in multiplying(machine, model) if "Transpose" not in o.fused]
    assert operators
    for o in operators:
        assert vela_count.of_operator(machine, o).mac_cycles == o.mac_cycles, o


@needs_vela
@pytest.mark.slow
@pytest.mark.parametrize("model", INT8)
def test_commands_and_whole_operators_are_those_of_vela(model: str):
    """Vela adds up the parts of an operator that is cut by channels; those are left out."""
    operators = multiplying("ethos_u55_256", model)
    equal = 0
    for o in operators:
        found = vela_count.of_operator("ethos_u55_256", o)
        assert found.commands == o.command_cycles, o
        assert found.total >= 0.95 * o.cycles or o.is_buffered, o
        equal += found.total == o.cycles
    assert equal >= 0.8 * len(operators)


@needs_vela
@pytest.mark.slow
@pytest.mark.parametrize("model", INT8)
def test_array_and_output_stage_of_a_network_take_what_vela_says(model: str):
    found = runs("ethos_u55_256", model)
    ours = vela_count.of_network("ethos_u55_256", found.operators)
    assert ours >= 0.95 * found.number("cycles_npu")


# --- the blocks that instructions take ------------------------------------------------------------


def layer(**changes: Any) -> ArrayWork:
    """A 3 x 3 convolution of 32 x 32 x 16 to 16 channels."""
    numbers: dict[str, Any] = {
        "dtype": "i8", "positions": 32 * 32, "rows": 32, "taps": 9, "kernel": (3, 3),
        "in_channels": 16, "out_channels": 16, "input_bytes": 32 * 32 * 16,
        "weight_bytes": 9 * 16 * 16, "output_bytes": 32 * 32 * 16, "kernel_costs": ("requantize",),
    }  # fmt: skip
    return ArrayWork(**numbers | changes)


works = st.builds(
    lambda kernel, rows, cols, inputs, outputs, stride, depthwise, dtype: layer(
        dtype=dtype, positions=rows * cols, rows=rows, taps=kernel[0] * kernel[1], kernel=kernel,
        in_channels=1 if depthwise else inputs, out_channels=outputs, strides=(stride, stride),
        input_bytes=rows * stride * cols * stride * (outputs if depthwise else inputs),
        weight_bytes=kernel[0] * kernel[1] * outputs * (1 if depthwise else inputs),
        output_bytes=rows * cols * outputs, depthwise=depthwise,
    ),
    kernel=st.tuples(st.integers(1, 11), st.integers(1, 11)),
    rows=st.integers(1, 70), cols=st.integers(1, 70),
    inputs=st.integers(1, 100), outputs=st.integers(1, 200),
    stride=st.integers(1, 3), depthwise=st.booleans(), dtype=st.sampled_from(["i8", "u8", "i16"]),
)  # fmt: skip
some = settings(max_examples=60, deadline=None)


@some
@given(works)
def test_a_block_lies_within_the_largest_one_and_its_sums_in_half_of_the_banks(work: ArrayWork):
    blocks = blocks_of(U55)
    block = walk(U55, work).block
    assert all(1 <= extent <= most for extent, most in zip(block, blocks.largest, strict=True))
    bits = blocks.sum_bits[work.dtype]
    assert 2 * np.prod(block) * bits / 8 <= blocks.banks * blocks.bank


@some
@given(works)
def test_no_instruction_is_faster_than_the_peak_of_the_array(work: ArrayWork):
    array = U55.array
    peak = array.depthwise_macs[work.dtype] if work.depthwise else np.prod(array.macs[work.dtype])
    assert walk(U55, work).array >= work.macs / peak
    assert walk(U55, work).port >= (work.output_bytes + work.weight_bytes) / 8


@some
@given(st.lists(works, min_size=2, max_size=5), st.sampled_from([U55, U65]))
def test_many_instructions_are_counted_as_each(works: list[ArrayWork], target: Any):
    first = works[0]
    alike = [
        replace(first, positions=w.positions, rows=w.rows, out_channels=w.out_channels)
        for w in works
    ]
    fields = ("positions", "rows", "out_channels")
    many = replace(first, **{f: np.array([getattr(w, f) for w in alike]) for f in fields})
    for k, work in enumerate(alike):
        one, all_of = cost.array_stages(target, work), cost.array_stages(target, many)
        assert one == {stage: int(np.asarray(cycles)[k]) for stage, cycles in all_of.items()}
        assert cost.mac_cycles(target, work)[1] == np.asarray(cost.mac_cycles(target, many)[1])[k]


@pytest.mark.parametrize(
    ("changes", "cycles"),
    [
        ({}, 0.25),
        ({"dtype": "i16"}, 0.375),
        ({"has_residual": True}, 0.75),
        ({"kernel_costs": ("requantize", "lookup")}, 1.0),
    ],
)
def test_the_output_stage_takes_an_element_as_long_as_the_slowest_part(
    changes: dict[str, Any], cycles: float
):
    assert stage_cycles(blocks_of(U55), layer(**changes)) == cycles


def test_the_output_stage_adds_no_tensors():
    sums, other = object(), object()
    two = KernelPlan(kernel_of(i32, output=i8), cast(Any, [sums, other]), None, None)
    assert not fits_output_stage(two, U55)
    assert fits_output_stage(replace(two, tensors=two.tensors[:1]), U55)
    assert fits_output_stage(two, load_target("edge256"))


def test_a_column_of_positions_goes_as_a_row():
    product = {"taps": 1, "kernel": (1, 1), "positions": 64}
    assert walk(U55, layer(**product, rows=64)) == walk(U55, layer(**product, rows=1))


# --- one engine for products and elementwise work -------------------------------------------------


def test_array_and_vector_unit_take_turns_in_program_order():
    def times(target: str) -> profile.Profile:
        ops = [product_of(0x0), product_of(0x4000), square(), product_of(0x8000)]
        return profile.of(program(ops, kernels=[kernel_of(i32, output=i32)], target=target))

    together, apart = times("ethos_u55_256").timing, times("edge256").timing
    assert together.start[2] == together.end[1]
    assert together.start[3] == together.end[2]
    assert apart.start[2] == 0


def product_of(address: int) -> MatmulOp:
    return MatmulOp(
        input=dense("spm", address, i8, [16, 32]),
        weights=dense("spm", address + 0x1000, i8, [32, 16]),
        output=dense("spm", address + 0x2000, i32, [16, 16]),
        kernel=0, accumulate=0, x_zero=0, w_zero=0,
    )  # fmt: skip


def square() -> VectorOp:
    return VectorOp(
        a=dense("spm", 0xC000, i32, [64]), output=dense("spm", 0xD000, i32, [64]), kernel=0
    )


@pytest.mark.parametrize(
    ("kernel", "cycles"),
    [
        (("requantize",) * 3 + ("alu",) * 3, 0.75),  # an addition: its three scalings
        (("mul", "requantize"), 0.375),
        (("lookup",), 1.0),
        (("alu",), 0.25),  # never less than four elements a cycle
        (("requantize",) * 3 + ("alu",) * 16, 16 * 0.0625),
    ],
)
def test_elementwise_work_takes_the_cycles_of_the_output_stage(
    kernel: tuple[str, ...], cycles: float
):
    found = cost.vector(U55, 4096, kernel, 4096, 4096)
    assert found.cycles - U55.vector.startup == max(4096 * cycles, 2 * 4096 / 8)


def test_a_pooling_takes_whole_micro_blocks():
    # 1 x 1 x 64 of 25 x 5 taps: 8 micro-blocks x (64 + 40 + ... = 125 taps) x 4, not 64 x 125 / 8
    assert cost.pool_cycles(U55, (1, 1, 64), (25, 5), 1) == 32 + 8 * 125 * 4
    assert cost.pool_cycles(load_target("edge256"), (1, 1, 64), (25, 5), 1) == 0


def test_the_bound_adds_up_what_takes_turns():
    program = npu.compile(convolution(pooled=True), "ethos_u55_256")
    found = program.profile.lower_bound
    assert found is not None
    products = 16 * 16 * 9 * 16 * 24 / 256
    assert found.resources["vector"] > 0
    assert found.resources["array"] == products + found.resources["vector"]
    assert found.cycles <= program.profile.cycles


# --- flash ----------------------------------------------------------------------------------------

FLASH = U55.memories["dram"].read_only


@pytest.mark.parametrize(("address", "width"), [(0, 1.0), (FLASH - 64, 1.0), (FLASH, 8.0)])
def test_a_copy_takes_the_width_of_the_part_of_dram(address: int, width: float):
    op = copy(dense("dram", address, i8, [6400]), dense("spm", 0, i8, [6400]))
    assert op.cost(U55, ()).cycles == U55.dma.startup + 6400 / width


def test_nothing_is_written_to_flash():
    wrong = copy(dense("spm", 0, i8, [64]), dense("dram", FLASH - 32, i8, [64]))
    size = FLASH + 64
    found = program([fill("spm", 0, 64), wrong], dram_size=size, target="ethos_u55_256")
    with pytest.raises(npu.CompileError, match=f"only from {FLASH:#x} on: before, it is read only"):
        pipeline.run(found.to_module(), "npu-verify")


def test_constants_lie_in_flash_and_all_else_behind_it():
    found = npu.compile(convolution(), "ethos_u55_256")
    assert all(c.address + c.array.nbytes <= FLASH for c in found.constants)
    assert all(b.operand.address >= FLASH for b in (*found.inputs, *found.outputs))


def test_constants_that_do_not_fit_the_flash_are_refused(tmp_path: Path):
    small = target_text("ethos_u55_256").replace("read_only = 67108864 ", "read_only = 64 ")
    (tmp_path / "small.toml").write_text(small)
    with pytest.raises(npu.CompileError, match="must fit in the 64 bytes of dram that are read on"):
        npu.compile(convolution(), tmp_path / "small.toml")


@pytest.mark.parametrize("name", ["ethos_u55_256", "ethos_u65_512", "ethos_u85_2048"])
def test_a_program_gives_the_bits_of_the_graph(name: str):
    x = np.random.default_rng(1).standard_normal((1, 16, 18, 18)).astype(np.float32)
    found: list[Any] = []
    for level in ("graph", "tile", "npu"):
        module = npu.load(convolution(), target=name)
        npu.lower(module, until=level)
        found.append(npu.execute(module, x)["y"])
    assert (found[0] == found[1]).all() and (found[1] == found[2]).all()
    assert {row.engine for row in npu.assemble(module).placement} <= {"mxu", "io", "folded", "dma"}


def convolution(pooled: bool = False) -> Any:
    """A quantized convolution of 3 x 3 taps and 16 to 24 channels, and a pooling of 2 x 2."""
    rng = np.random.default_rng(0)
    w = rng.integers(-127, 128, (24, 16, 3, 3)).astype(np.int8)
    weights = {"w": w, "s": np.float32(0.02), "z": np.int8(0), "t": np.float32(0.1)}
    quantize = helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"], "quantize1")
    nodes = [
        quantize,
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["d"], "dequantize1"),
        helper.make_node("DequantizeLinear", ["w", "s", "z"], ["v"], "dequantize2"),
        helper.make_node("Conv", ["d", "v"], ["c"], "conv1"),
        helper.make_node("QuantizeLinear", ["c", "t", "z"], ["r"], "quantize2"),
        helper.make_node(
            "DequantizeLinear", ["r", "t", "z"], ["p" if pooled else "y"], "dequantize3"
        ),
    ]
    if pooled:
        pool = helper.make_node(
            "MaxPool", ["p"], ["o"], "pool1", kernel_shape=[2, 2], strides=[2, 2]
        )
        nodes += [
            pool,
            helper.make_node("QuantizeLinear", ["o", "t", "z"], ["n"], "quantize4"),
            helper.make_node("DequantizeLinear", ["n", "t", "z"], ["y"], "dequantize4"),
        ]
    size = 8 if pooled else 16
    graph = helper.make_graph(
        nodes,
        "quantized",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 16, 18, 18])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 24, size, size])],
        [numpy_helper.from_array(np.asarray(v), k) for k, v in weights.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
