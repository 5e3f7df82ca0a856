"""The program and its repeats: what holds instructions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import ClassVar, cast

from xdsl.dialects.builtin import ArrayAttr, StringAttr, SymbolNameConstraint
from xdsl.ir import Block, Operation, Region
from xdsl.irdl import (
    IRDLOperation,
    irdl_op_definition,
    opt_prop_def,
    prop_def,
    region_def,
    traits_def,
)
from xdsl.parser import Parser
from xdsl.printer import Printer
from xdsl.traits import NoTerminator, SymbolOpInterface
from xdsl.utils.exceptions import VerifyException

from npu_dialect.kernel import KernelAttr
from npu_dialect.npu.attributes import BindingAttr, ConstantAttr, StateAttr, TargetAttr
from npu_dialect.npu.base import Instruction
from npu_dialect.npu.fields import Int, integer


@irdl_op_definition
class RepeatOp(IRDLOperation):
    """Executes its instructions `trips` times; addresses and waits move by the stated steps at
    every trip.

    ```
    npu.repeat 4 {
      npu.dma_copy source = ..., destination = ..., waits = {mxu: 2}, address_steps = [64, 0],
                   wait_steps = [1]
    }
    ```
    Only the encoder's reader and the simulator expand it.
    """

    name = "npu.repeat"
    OPCODE: ClassVar[int] = 15

    trips = prop_def(Int(32))
    body = region_def("single_block")

    traits = traits_def(NoTerminator())

    def __init__(self, trips: int, instructions: Sequence[Instruction]):
        super().__init__(
            properties={"trips": integer(trips)}, regions=[Region(Block(list(instructions)))]
        )

    @property
    def count(self) -> int:
        return Int(32).value(self.trips)

    @property
    def instructions(self) -> list[Instruction]:
        return [cast(Instruction, op) for op in self.body.block.ops]

    def verify_(self) -> None:
        for op in self.body.block.ops:
            if not isinstance(op, Instruction):
                raise VerifyException(f"a repeat must hold instructions, found {op.name}")
            steps = op.values().get("address_steps")
            operands = len(list(op.operand_fields()))
            if steps is None or len(steps) != operands:
                raise VerifyException(f"{op.name} in a repeat must have {operands} address steps")

    def print(self, printer: Printer) -> None:
        printer.print_string(f" {self.count} ")
        printer.print_region(self.body)

    @classmethod
    def parse(cls, parser: Parser) -> RepeatOp:
        trips = parser.parse_integer()
        region = parser.parse_region()
        return cls.create(properties={"trips": integer(trips)}, regions=[region])


@irdl_op_definition
class ProgramOp(IRDLOperation):
    """A whole program: instructions in program order, with the kernels, constants and bindings that
    they refer to.

    Program order is one order that satisfies all waits; each engine takes its own instructions in
    this order. `dram_size` is the bytes of external memory that constants, states, bindings and
    intermediate results take.

    The programs of a module are the entries of one: they share constants, states (by name),
    kernels and host functions.
    """

    name = "npu.program"

    sym_name = prop_def(SymbolNameConstraint())
    target = prop_def(TargetAttr)
    dram_size = prop_def(Int(48))
    inputs = prop_def(ArrayAttr[BindingAttr])
    outputs = prop_def(ArrayAttr[BindingAttr])
    states = opt_prop_def(ArrayAttr[StateAttr])
    constants = prop_def(ArrayAttr[ConstantAttr])
    kernels = prop_def(ArrayAttr[KernelAttr])
    host_functions = prop_def(ArrayAttr[StringAttr])
    """Names of the functions of graph operations that `npu.host` runs, by number."""
    body = region_def("single_block")

    traits = traits_def(SymbolOpInterface(), NoTerminator())
    assembly_format = (
        "$sym_name `target` $target `dram_size` $dram_size `inputs` $inputs `outputs` $outputs "
        "(`states` $states^)? `constants` $constants `kernels` $kernels "
        "`host_functions` $host_functions attr-dict-with-keyword $body"
    )

    def verify_(self) -> None:
        for op in self.body.block.ops:
            if not isinstance(op, Instruction | RepeatOp):
                raise VerifyException(
                    f"a program must hold instructions and repeats, found {op.name}"
                )

    @property
    def state_list(self) -> tuple[StateAttr, ...]:
        """The states that the program reads or writes."""
        return tuple(self.states or ())

    def walk_instructions(self) -> Iterator[Instruction]:
        """Every instruction once, also those inside repeats."""
        for op in self.body.block.ops:
            if isinstance(op, RepeatOp):
                yield from op.instructions
            else:
                yield cast(Instruction, op)

    def expanded(self) -> Iterator[Instruction]:
        """Every instruction as often as it is executed, repeats unrolled."""
        return expand(self.body.block.ops)


def expand(ops: Sequence[Operation] | Iterator[Operation] | object) -> Iterator[Instruction]:
    """The executed sequence of instructions and repeats."""
    for op in cast(Sequence[Operation], ops):
        if isinstance(op, RepeatOp):
            body = op.instructions
            for trip in range(op.count):
                for instruction in body:
                    yield instruction.at(trip)
        else:
            yield cast(Instruction, op)
