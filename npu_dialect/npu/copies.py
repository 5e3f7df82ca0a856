"""Instructions of the dma engine."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np
from xdsl.irdl import irdl_op_definition, prop_def
from xdsl.utils.exceptions import VerifyException

from npu_dialect import cost
from npu_dialect.kernel import Kernel
from npu_dialect.machine import Machine
from npu_dialect.npu.base import Instruction, Values
from npu_dialect.npu.fields import Int, OperandField
from npu_dialect.target import Target


@irdl_op_definition
class DmaCopyOp(Instruction):
    """Copies a strided block to another of the same extents, between any two memories that the
    engine reaches.

    ```
    npu.dma_copy source = <dram, 0x1000, i8, [8, 32], [64, 1]>,
                 destination = <spm, 0x0, i8, [8, 32], [32, 1]>
    ```
    Transposition is a permutation of the strides; a stride of 0 at the source repeats.
    """

    name = "npu.dma_copy"
    OPCODE: ClassVar[int] = 1
    ENGINE: ClassVar[str] = "dma"

    source = prop_def(OperandField("read", ("dram", "spm")))
    destination = prop_def(OperandField("write", ("dram", "spm")))

    def verify_(self) -> None:
        source, destination = self.values()["source"], self.values()["destination"]
        if source.dims != destination.dims or source.dtype != destination.dtype:
            raise VerifyException(
                "a copy's operands must have the same extents and type, found "
                f"{source.dtype} {source.dims} and {destination.dtype} {destination.dims}"
            )

    def execute(self, machine: Machine, values: Values) -> None:
        np.copyto(machine.view(values["destination"]), machine.view(values["source"]))

    def cost(self, target: Target, kernels: Sequence[Kernel]) -> cost.Cost:
        values = self.values()
        return cost.dma(target, values["source"], values["destination"])


@irdl_op_definition
class DmaFillOp(Instruction):
    """Fills a strided block with one element, given by its bits.

    ```
    npu.dma_fill destination = <spm, 0x0, i8, [4, 32], [32, 1]>, bits = 128
    ```
    """

    name = "npu.dma_fill"
    OPCODE: ClassVar[int] = 2
    ENGINE: ClassVar[str] = "dma"

    destination = prop_def(OperandField("write", ("dram", "spm")))
    bits = prop_def(Int(64))

    def execute(self, machine: Machine, values: Values) -> None:
        destination = values["destination"]
        pattern = int(values["bits"]).to_bytes(8, "little")[: destination.dtype.itemsize]
        machine.view(destination)[...] = np.frombuffer(pattern, destination.dtype.numpy)[0]

    def cost(self, target: Target, kernels: Sequence[Kernel]) -> cost.Cost:
        return cost.dma_fill(target, self.values()["destination"])
