"""The disassembler: decoded instructions as readable text, one line each."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from xdsl.ir import Operation

from npu_dialect.npu.base import Instruction
from npu_dialect.npu.structure import RepeatOp


def disassemble(ops: Iterable[Operation], comments: Sequence[str] = ()) -> str:
    """The text of instructions and repeats: number, engine, assembly, and the comment of each
    instruction.

    ```
        0  dma   npu.dma_copy source = <dram, 0x0, i8, [64], [1]>, destination = <...>  // conv1
        repeat 4 {
        1  mxu     npu.conv2d waits = {dma: 1}, ...  // conv1
        }
    ```
    """
    return "".join(f"{line}\n" for line in _lines(ops, iter(comments)))


def _lines(ops: Iterable[Operation], comments: Iterator[str]) -> Iterator[str]:
    number = 0
    for op in ops:
        if isinstance(op, RepeatOp):
            yield f"       repeat {op.count} {{"
            for each in op.instructions:
                yield _line(number, each, "  ", comments)
                number += 1
            yield "       }"
        elif isinstance(op, Instruction):
            yield _line(number, op, "", comments)
            number += 1


def _line(number: int, op: Instruction, indent: str, comments: Iterator[str]) -> str:
    comment = next(comments, "")
    queue = f"{op.core_index}.{op.engine}" if op.core_index else op.engine
    text = f"{number:6} {queue:6} {indent}{op!s}"
    return f"{text}  // {comment}" if comment else text
