"""Instructions as bits and as text: every field of every instruction survives both."""

from __future__ import annotations

import contextlib
import struct
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from npu_programs import copy, dense, fill, waits
from xdsl.context import Context
from xdsl.dialects.builtin import Builtin
from xdsl.ir import Operation
from xdsl.parser import Parser

from npu_dialect import dtypes
from npu_dialect.machine import Operand
from npu_dialect.npu import Npu, encoding
from npu_dialect.npu.base import Instruction, StepsField, Wait, WaitsField, field_table
from npu_dialect.npu.disassemble import disassemble
from npu_dialect.npu.encoding import BY_OPCODE, INSTRUCTIONS
from npu_dialect.npu.fields import (
    ADDRESS_BITS,
    DIM_BITS,
    MAX_RANK,
    Choice,
    Field,
    Int,
    Ints,
    OperandField,
    OperandsField,
)
from npu_dialect.npu.structure import RepeatOp
from npu_dialect.target import ENGINES


def bits(width: int, signed: bool = False) -> st.SearchStrategy[int]:
    if signed:
        return st.integers(-(1 << (width - 1)), (1 << (width - 1)) - 1)
    return st.integers(0, (1 << width) - 1)


def operands(spaces: tuple[str, ...]) -> st.SearchStrategy[Operand]:
    extent = st.tuples(bits(DIM_BITS), bits(ADDRESS_BITS, True))
    return st.builds(
        lambda space, address, dtype, dims: Operand(
            space, address, dtype, tuple(d for d, _ in dims), tuple(s for _, s in dims)
        ),
        st.sampled_from(spaces),
        bits(ADDRESS_BITS),
        st.sampled_from(dtypes.ALL),
        st.lists(extent, max_size=MAX_RANK),
    )


def wait_lists() -> st.SearchStrategy[tuple[Wait, ...]]:
    wait = st.builds(Wait, bits(4), st.sampled_from(ENGINES), bits(32))
    return st.lists(wait, min_size=1, max_size=15, unique_by=lambda w: w[:2]).map(tuple)


def values(field: Field) -> st.SearchStrategy[Any]:
    """Legal values of a field."""
    match field:
        case Int():
            return bits(field.width, field.signed)
        case Choice():
            return st.sampled_from(field.options)
        case Ints():
            each = bits(field.width, field.signed)
            return st.tuples(*[each] * field.count)
        case OperandsField():
            return st.lists(operands(field.spaces), max_size=4).map(tuple)
        case OperandField():
            return operands(field.spaces)
        case WaitsField():
            return wait_lists()
        case StepsField():
            return st.lists(bits(field.width, True), min_size=1, max_size=6).map(tuple)
        case _:
            raise AssertionError(field)


@st.composite
def instructions(draw: st.DrawFn, cls: type[Instruction]) -> Instruction:
    """An instruction with any legal value in any field; it need not make sense."""
    fields = {
        name: draw(values(row.field))
        for name, row in field_table(cls).items()
        if not row.optional or draw(st.booleans())
    }
    return cls(**fields)


def parse(text: str) -> Operation:
    context = Context()
    context.load_dialect(Builtin)
    context.load_dialect(Npu)
    return Parser(context, text).parse_op()


def same(a: Operation, b: Operation) -> bool:
    return a.is_structurally_equivalent(b) and a.name == b.name


@pytest.mark.parametrize("cls", INSTRUCTIONS, ids=lambda c: c.name)
@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_an_instruction_decodes_to_itself(cls: type[Instruction], data: st.DataObject):
    op = data.draw(instructions(cls))
    (decoded,) = encoding.decode(encoding.encode([op]))
    assert isinstance(decoded, cls)
    assert decoded.values() == op.values()
    assert same(decoded, op)


@pytest.mark.parametrize("cls", INSTRUCTIONS, ids=lambda c: c.name)
@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_an_instruction_reads_as_it_prints(cls: type[Instruction], data: st.DataObject):
    op = data.draw(instructions(cls))
    assert same(parse(str(op)), op)


@settings(max_examples=20, deadline=None)
@given(data=st.data())
def test_a_repeat_survives_bits_and_text(data: st.DataObject):
    classes = data.draw(st.lists(st.sampled_from(INSTRUCTIONS), min_size=1, max_size=3))
    body = [data.draw(instructions(cls)) for cls in classes]
    repeat = RepeatOp(data.draw(bits(32)), body)
    (decoded,) = encoding.decode(encoding.encode([repeat]))
    assert same(decoded, repeat)
    assert same(parse(str(repeat)), repeat)


def test_opcodes_are_unique_and_none_is_that_of_repeat():
    assert len(BY_OPCODE) == len(INSTRUCTIONS)
    assert RepeatOp.OPCODE not in BY_OPCODE


def test_a_repeat_moves_addresses_and_waits_at_every_trip():
    op = copy(
        dense("dram", 100, dtypes.i8, [4]),
        dense("spm", 0, dtypes.i8, [4]),
        waits=waits(mxu=1),
        address_steps=(4, -8),
        wait_steps=(2,),
    )
    third = op.at(3)
    assert [o.address for o in (*third.reads(), *third.writes())] == [112, -24]
    assert third.wait_list == waits(mxu=7)


# What does not fit


def test_a_value_that_does_not_fit_its_field_is_refused():
    op = fill("spm", 0, 1, core=16)
    with pytest.raises(encoding.EncodingError, match=r"npu.dma_fill: a field of 4 bits.*found 16"):
        encoding.encode([op])


@pytest.mark.parametrize(("value", "fits"), [(-(1 << 16), True), (1 << 16, False)])
def test_a_signed_field_has_one_bit_less_above(value: int, fits: bool):
    source, output = dense("spm", 0, dtypes.i8, [1]), dense("spm", 8, dtypes.i32, [1])
    cls = BY_OPCODE[7]
    op = cls(input=source, output=output, kind="sum", axes=1, x_zero=value)
    if fits:
        (decoded,) = encoding.decode(encoding.encode([op]))
        assert isinstance(decoded, Instruction)
        assert decoded.values()["x_zero"] == value
    else:
        with pytest.raises(encoding.EncodingError, match="two's complement"):
            encoding.encode([op])


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"\x01", "whole records, found a cut one"),
        (struct.pack("<HH", 1, 9), "whole records, found a cut one"),
        (struct.pack("<HH", 999, 0), "an opcode must be one of .* found 999"),
        (struct.pack("<HH", 1, 0), "whole, found its end in the middle of a field"),
        (struct.pack("<HH", 15, 1) + bytes(4), "a repeat must have two words"),
        (struct.pack("<HHII", 15, 2, 4, 1), "a repeat must be followed by its instructions"),
    ],
)
def test_bytes_that_are_no_instructions_are_refused(data: bytes, message: str):
    with pytest.raises(ValueError, match=message):
        encoding.decode(data)


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=64))
def test_any_bytes_decode_or_raise_a_value_error(data: bytes):
    with contextlib.suppress(ValueError):
        encoding.decode(data)


# The disassembler


def test_the_disassembly_numbers_instructions_and_names_their_layers():
    ops = [
        fill("spm", 0, 4, waits=waits(mxu=2)),
        RepeatOp(3, [fill("spm", 4, 4, address_steps=(4,), core=1)]),
    ]
    assert disassemble(ops, ["conv1", "conv2"]).splitlines() == [
        "     0 dma    npu.dma_fill destination = <spm, 0x0, u8, [4], [1]>, bits = 0, "
        "waits = {mxu: 2}  // conv1",
        "       repeat 3 {",
        "     1 1.dma    npu.dma_fill destination = <spm, 0x4, u8, [4], [1]>, bits = 0, "
        "core = 1, address_steps = [4]  // conv2",
        "       }",
    ]
