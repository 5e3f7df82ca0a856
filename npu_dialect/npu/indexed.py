"""Instructions with an index stream: rows read or written in the order of a list of indices."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np
from xdsl.irdl import irdl_op_definition, prop_def

from npu_dialect import cost, functional
from npu_dialect.functional.indexing import SCATTERS
from npu_dialect.kernel import Kernel
from npu_dialect.machine import Machine
from npu_dialect.npu.base import Instruction, Values
from npu_dialect.npu.fields import Choice, Int, OperandField
from npu_dialect.npu.vectors import lane_type
from npu_dialect.target import Target

INDEX_TYPES = ("i32", "i64")
"""Storage types of indices."""


@irdl_op_definition
class DmaGatherOp(Instruction):
    """Copies row `indices[k]` of the source [rows, elements] to row k of the destination, between
    any two memories that the engine reaches.

    A negative index counts from the last row. One that is outside still means the nearest row. All
    of the source counts as read.

    ```
    npu.dma_gather source = <dram, 0x0, i8, [100, 16], [16, 1]>,
                   indices = <spm, 0x0, i32, [4], [4]>,
                   destination = <spm, 0x40, i8, [4, 16], [16, 1]>
    ```
    """

    name = "npu.dma_gather"
    OPCODE: ClassVar[int] = 10
    ENGINE: ClassVar[str] = "dma"

    source = prop_def(OperandField("read", ("dram", "spm")))
    indices = prop_def(OperandField("read", ("dram", "spm")))
    """One i32 or i64 per row of the destination."""
    destination = prop_def(OperandField("write", ("dram", "spm")))

    def execute(self, machine: Machine, values: Values) -> None:
        source, indices = (machine.view(values[n]) for n in ("source", "indices"))
        np.copyto(machine.view(values["destination"]), functional.gather(source, indices))

    def cost(self, target: Target, kernels: Sequence[Kernel]) -> cost.Cost:
        values = self.values()
        return cost.dma_gather(target, values["source"], values["indices"], values["destination"])


@irdl_op_definition
class DmaScatterOp(Instruction):
    """Copies row k of the source [count, elements] to row `indices[k] - first` of the destination
    [rows, elements], between any two memories that the engine reaches. Other rows stay.

    Rows are taken one after the other in ascending order of k. An index that is not one of a row of
    the destination, negative ones among them, writes nothing. All of the destination counts as read
    and written.

    ```
    npu.dma_scatter source = <spm, 0x40, i8, [4, 16], [16, 1]>, indices = <spm, 0x0, i32, [4], [4]>,
                    destination = <dram, 0x0, i8, [100, 16], [16, 1]>, first = 0
    ```
    """

    name = "npu.dma_scatter"
    OPCODE: ClassVar[int] = 12
    ENGINE: ClassVar[str] = "dma"

    source = prop_def(OperandField("read", ("dram", "spm")))
    indices = prop_def(OperandField("read", ("dram", "spm")))
    """One i32 or i64 per row of the source."""
    destination = prop_def(OperandField("update", ("dram", "spm")))
    first = prop_def(Int(32))
    """The index of the destination's first row."""

    def execute(self, machine: Machine, values: Values) -> None:
        source, indices, destination = (
            machine.view(values[n]) for n in ("source", "indices", "destination")
        )
        functional.scatter("set", destination, indices, source, values["first"])

    def cost(self, target: Target, kernels: Sequence[Kernel]) -> cost.Cost:
        values = self.values()
        return cost.dma_scatter(target, values["source"], values["indices"], values["destination"])


@irdl_op_definition
class ScatterOp(Instruction):
    """Row k of the updates [count, elements] becomes row `indices[k] - first` of the output [rows,
    elements] (kind set), or is added to it, multiplied with it, or replaces it where it is greater
    (max) or smaller (min).

    Rows are taken one after the other in ascending order of k. An index that is not one of a row of
    the output, negative ones among them, writes nothing. Integers wrap; NaN is both greatest and
    smallest.

    ```
    npu.scatter indices = <spm, 0x0, i32, [4], [4]>, updates = <spm, 0x40, f32, [4, 16], [64, 4]>,
                output = <spm, 0x400, f32, [100, 16], [64, 4]>, kind = add, first = 0
    ```
    """

    name = "npu.scatter"
    OPCODE: ClassVar[int] = 11
    ENGINE: ClassVar[str] = "vpu"

    indices = prop_def(OperandField("read", ("spm",)))
    """One i32 or i64 per row of the updates."""
    updates = prop_def(OperandField("read", ("spm",)))
    output = prop_def(OperandField("update", ("spm",)))
    kind = prop_def(Choice(SCATTERS))
    first = prop_def(Int(32))
    """The index of the output's first row."""

    def execute(self, machine: Machine, values: Values) -> None:
        output, indices, updates = (
            machine.view(values[n]) for n in ("output", "indices", "updates")
        )
        functional.scatter(values["kind"], output, indices, updates, values["first"])

    def cost(self, target: Target, kernels: Sequence[Kernel]) -> cost.Cost:
        values = self.values()
        count, elements = values["updates"].dims
        return cost.scatter(
            target,
            values["kind"],
            count,
            elements,
            values["updates"].dtype.itemsize,
            values["indices"].dtype.itemsize,
            lane_type([values["updates"]]),
        )
