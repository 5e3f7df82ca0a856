"""Programs as files and as modules."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from npu_programs import binding, copy, dense, fill, kernel_of, program, waits
from xdsl.dialects.builtin import ModuleOp

from npu_dialect import blob, text
from npu_dialect.diagnostics import CompileError
from npu_dialect.dtypes import bf16, f32, i8, i32
from npu_dialect.npu.structure import RepeatOp
from npu_dialect.npu.vectors import VectorOp
from npu_dialect.runtime import container
from npu_dialect.runtime.program import (
    Binding,
    HostCode,
    Placement,
    Program,
    Quantization,
    TensorRecord,
)
from npu_dialect.runtime.simulator import simulate
from npu_dialect.target import target_text

HOST = HostCode(
    ("host_0",),
    """builtin.module {
  func.func @host_0(%x: tensor<4xf32>) -> tensor<4xf32> {
    %0 = graph.neg %x : (tensor<4xf32>) -> tensor<4xf32>
    func.return %0 : tensor<4xf32>
  }
}""",
)


def sample() -> Program:
    """A program with something in every part."""
    a, b = dense("spm", 0, i8, [4]), dense("spm", 16, i8, [4])
    ops = [
        copy(dense("dram", 0, i8, [4]), a),
        VectorOp(a=a, output=b, kernel=0, waits=waits(dma=1)),
        RepeatOp(2, [fill("spm", 64, 4, address_steps=(8,))]),
        copy(b, dense("dram", 64, i8, [4]), waits=waits(vpu=1)),
    ]
    made = program(
        ops,
        inputs={"x": dense("dram", 0, i8, [4])},
        outputs={"y": dense("dram", 64, i8, [4])},
        constants={
            128: np.arange(100, dtype=np.int8),
            256: np.array([1.5, -2.0], bf16.numpy),
            512: np.array(7, np.int32),
        },
        kernels=[kernel_of(i8, ("neg.i32", ()), output=i8), kernel_of(i32, output=i32)],
        layers=["load", "neg", "clear", "neg"],
        host=HOST,
        tensors=[TensorRecord(1, binding("neg", b))],
        placements=[Placement("neg", "graph.neg", "vpu", "vector", "the unit has neg.i32")],
    )
    quantized = Binding(
        "x",
        i8,
        (4,),
        dense("dram", 0, i8, [4]),
        "tensor<4x!quant.uniform<i8:f32, 0.1:-3>>",
        Quantization((float(np.float32(0.1)),), (-3,)),
    )
    metadata = {"pipeline": "a,b", "compiler": "1"}
    entries = {"main": replace(made.selected, inputs=(quantized,), metadata=metadata)}
    return replace(made, entries=entries)


def same(a: Program, b: Program) -> bool:
    """Equal in every field; arrays by type, shape and bytes."""

    def plain(p: Program) -> object:
        constants = [
            (c.label, c.address, c.array.dtype, c.array.shape, c.array.tobytes())
            for c in p.constants
        ]
        return (
            p.target_text, {n: vars(e) for n, e in p.entries.items()}, p.kernels, constants,
            p.dram_size, [(s.name, s.operand, s.type, s.content.tolist()) for s in p.states],
            p.host.names, p.host.text,
        )  # fmt: skip

    return plain(a) == plain(b)


# Files


def test_a_program_loads_as_it_was_saved(tmp_path: Path):
    sample().save(tmp_path / "p.npu")
    assert same(Program.load(tmp_path / "p.npu"), sample())


def test_equal_programs_are_equal_files(tmp_path: Path):
    sample().save(tmp_path / "a.npu")
    Program.load(tmp_path / "a.npu").save(tmp_path / "b.npu")
    assert (tmp_path / "a.npu").read_bytes() == (tmp_path / "b.npu").read_bytes()


def test_a_loaded_program_runs():
    loaded = Program.from_bytes(sample().to_bytes())
    assert simulate(loaded, np.arange(4, dtype=np.int8)).outputs["y"].tolist() == [0, -1, -2, -3]


def test_a_program_carries_its_target(tmp_path: Path):
    toml = target_text("edge256").replace('name = "edge256"', 'name = "mine"')
    made = program(
        [fill("spm", 0, 1)], target_toml=toml.replace("frequency = 1.0e9 ", "frequency = 2.0e9 ")
    )
    loaded = Program.from_bytes(made.to_bytes())
    assert (loaded.target, loaded.machine.frequency) == ("mine", 2.0e9)
    assert loaded.target_digest == made.machine.digest


def test_constants_are_aligned_and_not_copied():
    loaded = Program.from_bytes(sample().to_bytes())
    assert not any(c.array.flags.owndata or c.array.flags.writeable for c in loaded.constants)


def test_saving_replaces_a_file_whole_or_not_at_all(tmp_path: Path):
    path = tmp_path / "p.npu"
    path.write_bytes(b"old")
    sample().save(path)
    assert path.read_bytes() == sample().to_bytes()
    assert os.listdir(tmp_path) == ["p.npu"]


def test_a_folder_that_does_not_exist_is_one_clear_line(tmp_path: Path):
    with pytest.raises(CompileError, match="NPU0002.*must be a writable file"):
        sample().save(tmp_path / "missing" / "p.npu")


DATA = sample().to_bytes()


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", r"NPU0401.*p.npu: must be a program file \(.npu\); found an empty file"),
        (b"\x08\x07onnx-model", "NPU0401.*must be a program file"),
        (DATA[:4], "NPU0401.*whole and unchanged; found 4 bytes, less than a header"),
        (DATA[:100], "NPU0401.*whole and unchanged; found 100 bytes instead of"),
        (DATA[:-1], "NPU0401.*whole and unchanged; found"),
        (DATA + b"\0", "NPU0401.*whole and unchanged; found"),
        (DATA[:-1] + b"\xff", "NPU0401.*content that does not match its checksum"),
        (DATA[:8] + b"\x63" + DATA[9:], "NPU0402.*must have version 5; found version 99"),
    ],
)
def test_a_damaged_file_is_one_clear_line(tmp_path: Path, data: bytes, message: str):
    path = tmp_path / "p.npu"
    path.write_bytes(data)
    with pytest.raises(CompileError, match=message) as raised:
        Program.load(path)
    assert len(str(raised.value).splitlines()) == 1


def test_a_missing_file_is_one_clear_line(tmp_path: Path):
    with pytest.raises(CompileError, match="NPU0001.*must be a readable file"):
        Program.load(tmp_path / "none.npu")


@settings(max_examples=60, deadline=None)
@given(st.integers(0, len(DATA) - 1), st.integers(1, 255))
def test_any_changed_byte_is_found(position: int, change: int):
    data = bytearray(DATA)
    data[position] ^= change
    with pytest.raises(CompileError):
        Program.from_bytes(bytes(data))


SECTIONS = (
    "manifest",
    "target",
    "code.main",
    "kernels",
    "constants",
    "states",
    "host",
    "blobs",
    "debug.main",
)


@pytest.mark.parametrize("name", SECTIONS)
@pytest.mark.parametrize("damage", [b"", b"[1]", b"\xff" * 7])
def test_a_forged_section_is_found_when_it_is_read(name: str, damage: bytes):
    sections = {n: bytes(s) for n, s in container.unpack(DATA, "p").items()}
    if sections[name] == damage:
        return
    forged = container.pack(sections | {name: damage})
    try:
        loaded = Program.from_bytes(forged)
        simulate(loaded, np.zeros(4, np.int8))
    except CompileError:
        return
    assert name in ("states", "host", "blobs", "kernels")  # not needed by this program


# Modules


def test_a_program_becomes_a_module_and_the_same_program_again():
    made = Program.from_module(sample().to_module())  # prints its host functions anew
    assert same(made, replace(sample(), host=made.host))
    assert Program.from_module(made.to_module()).to_bytes() == made.to_bytes()


def test_the_module_of_a_program_survives_text():
    module = sample().to_module()
    with blob.blobs_from(blob.collect_blobs(module)):
        parsed = text.parse(text.to_text(module, locations=True))
    parsed.verify()
    made = Program.from_module(parsed)
    assert same(made, replace(sample(), host=made.host))


def test_assembling_needs_a_program():
    with pytest.raises(
        CompileError, match="NPU0202.*must hold an npu.program to be assembled; found none"
    ):
        Program.from_module(ModuleOp([]))


def test_an_instruction_must_know_its_layer():
    module = text.parse(
        'npu.program @main target <"edge256"> dram_size 64 inputs [] outputs [] constants [] '
        "kernels [] host_functions [] "
        "{ npu.dma_fill destination = <spm, 0x0, i8, [1], [1]>, bits = 0 loc(unknown) }"
    )
    for op in module.walk():
        op.location = ModuleOp([]).location
    with pytest.raises(CompileError, match="NPU0204.*every instruction must know its layer"):
        Program.from_module(module)


def test_a_value_that_does_not_fit_its_field_names_the_source():
    module = program([fill("spm", 0, 1)], layers=["conv1"]).to_module()
    (op,) = (o for o in module.walk() if o.name == "npu.dma_fill")
    op.properties["core"] = fill("spm", 0, 1, core=16).properties["core"]
    with pytest.raises(CompileError, match="NPU0404.*conv1: npu.dma_fill: a field of 4 bits"):
        Program.from_module(module)


def test_a_host_function_must_be_in_the_module():
    module = sample().to_module()
    for op in list(module.body.ops):
        if op.name == "func.func":
            op.detach()
    with pytest.raises(CompileError, match="must be functions of the module; found no host_0"):
        Program.from_module(module)


# Inspection


def test_instructions_list_engine_operation_fields_and_source():
    rows = sample().instructions
    assert [(r.index, r.engine, r.op, r.layer, r.trips) for r in rows] == [
        (0, "dma", "npu.dma_copy", "load", 1),
        (1, "vpu", "npu.vector", "neg", 1),
        (2, "dma", "npu.dma_fill", "clear", 2),
        (3, "dma", "npu.dma_copy", "neg", 1),
    ]
    assert rows[1].fields["kernel"] == 0
    assert rows[1].waits == waits(dma=1)
    assert rows[1].source == ("neg",)


def test_placement_gives_reason_layer_and_cycles():
    (row,) = sample().placement
    assert (row.source, row.engine, row.rule, row.layer) == ("neg", "vpu", "vector", "neg")
    assert row.cycles > 0


def test_inputs_have_name_type_shape_and_quantization():
    (x,) = Program.from_bytes(DATA).inputs
    assert str(x) == "x: i8[4]"
    assert x.quantization == Quantization((float(np.float32(0.1)),), (-3,))
    assert x.type == "tensor<4x!quant.uniform<i8:f32, 0.1:-3>>"


def test_disassembly_has_a_line_per_instruction():
    lines = sample().disassembly().splitlines()
    assert len(lines) == 6
    assert lines[1].startswith("     1 vpu    npu.vector a = <spm, 0x0, i8, [4], [1]>")
    assert lines[1].endswith("// neg")


def test_a_program_describes_itself():
    assert repr(sample()) == "Program(edge256, 4 instructions, 2 kernels, 108 bytes of constants)"


def test_a_float_input_is_bound_as_it_is():
    o = dense("dram", 0, f32, [2])
    run = simulate(program([], inputs={"x": o}, outputs={"y": o}), np.array([1.5, 2], np.float32))
    assert run.outputs["y"].tolist() == [1.5, 2.0]
