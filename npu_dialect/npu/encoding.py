"""The binary form of instructions: a stream of records, each a 16-bit opcode, a 16-bit count of
words, and the words.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator

from xdsl.ir import Operation

from npu_dialect.npu.arrays import Conv2DOp, DepthwiseConv2DOp, MatmulOp
from npu_dialect.npu.base import Instruction
from npu_dialect.npu.copies import DmaCopyOp, DmaDecodeOp, DmaExpandOp, DmaFillOp
from npu_dialect.npu.host import HostOp
from npu_dialect.npu.indexed import DmaGatherOp, DmaScatterOp, ScatterOp
from npu_dialect.npu.structure import RepeatOp
from npu_dialect.npu.vectors import Pool2DOp, ReduceOp, VectorOp

INSTRUCTIONS: tuple[type[Instruction], ...] = (
    DmaCopyOp,
    DmaFillOp,
    DmaExpandOp,
    DmaDecodeOp,
    DmaGatherOp,
    DmaScatterOp,
    Conv2DOp,
    DepthwiseConv2DOp,
    MatmulOp,
    VectorOp,
    ReduceOp,
    Pool2DOp,
    ScatterOp,
    HostOp,
)
"""The instruction set, in the order of the manual."""

BY_OPCODE = {cls.OPCODE: cls for cls in INSTRUCTIONS}


class EncodingError(ValueError):
    """A value that does not fit its field; `op` is the instruction."""

    def __init__(self, op: Operation, reason: str) -> None:
        super().__init__(f"{op.name}: {reason}")
        self.op = op
        self.reason = reason


def encode(ops: Iterable[Operation]) -> bytes:
    """Instructions and repeats as bytes. Raises EncodingError where a field does not fit."""
    return b"".join(_records(ops))


def _records(ops: Iterable[Operation]) -> Iterator[bytes]:
    for op in ops:
        if isinstance(op, RepeatOp):
            body = op.instructions
            yield _record(RepeatOp.OPCODE, struct.pack("<II", op.count, len(body)))
            yield from _records(body)
        elif isinstance(op, Instruction):
            yield _record(op.OPCODE, _encoded(op))
        else:
            raise EncodingError(op, "a program must hold instructions and repeats")


def _encoded(op: Instruction) -> bytes:
    try:
        return op.encode()
    except ValueError as problem:
        raise EncodingError(op, str(problem)) from problem


def _record(opcode: int, payload: bytes) -> bytes:
    return struct.pack("<HH", opcode, len(payload) // 4) + payload


def decode(data: bytes) -> list[Operation]:
    """The instructions and repeats that `encode` wrote, detached. Raises ValueError on anything
    else.
    """
    records = _split(data)
    ops: list[Operation] = []
    for opcode, payload in records:
        if opcode == RepeatOp.OPCODE:
            trips, length = _repeat_head(payload)
            body = [_instruction(*_next(records)) for _ in range(length)]
            ops.append(RepeatOp(trips, body))
        else:
            ops.append(_instruction(opcode, payload))
    return ops


def _repeat_head(payload: bytes) -> tuple[int, int]:
    if len(payload) != 8:
        raise ValueError("a repeat must have two words, its trips and its length")
    trips, length = struct.unpack("<II", payload)
    return trips, length


def _next(records: Iterator[tuple[int, bytes]]) -> tuple[int, bytes]:
    record = next(records, None)
    if record is None:
        raise ValueError("a repeat must be followed by its instructions, found the end")
    return record


def _split(data: bytes) -> Iterator[tuple[int, bytes]]:
    at = 0
    while at < len(data):
        if at + 4 > len(data):
            raise ValueError("instructions must be whole records, found a cut one")
        opcode, words = struct.unpack_from("<HH", data, at)
        end = at + 4 + 4 * words
        if end > len(data):
            raise ValueError("instructions must be whole records, found a cut one")
        yield opcode, data[at + 4 : end]
        at = end


def _instruction(opcode: int, payload: bytes) -> Instruction:
    cls = BY_OPCODE.get(opcode)
    if cls is None:
        raise ValueError(f"an opcode must be one of {sorted(BY_OPCODE)}, found {opcode}")
    return cls.decode(payload)
