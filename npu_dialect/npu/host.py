"""The instruction that hands a task to the host CPU, and takes its results back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np
from xdsl.irdl import irdl_op_definition, prop_def

from npu_dialect import cost
from npu_dialect.kernel import Kernel
from npu_dialect.machine import Machine
from npu_dialect.npu.base import Instruction, Values
from npu_dialect.npu.fields import Choice, Int, OperandsField
from npu_dialect.target import Target


@irdl_op_definition
class HostOp(Instruction):
    """Runs host function number `function` of the program on whole arrays in dram.

    `place` is the queue: `host` for operations that the accelerator lacks, `io` for conversions of
    the program's inputs and outputs.

    ```
    npu.host place = host, function = 0, inputs = [<dram, 0x0, f32, [10], [4]>],
             outputs = [<dram, 0x40, f32, [10], [4]>], macs = 0, elements = 10
    ```
    """

    name = "npu.host"
    OPCODE: ClassVar[int] = 9
    ENGINE: ClassVar[str] = "host"

    place = prop_def(Choice(("host", "io")))
    function = prop_def(Int(16))
    inputs = prop_def(OperandsField("read", ("dram",)))
    outputs = prop_def(OperandsField("write", ("dram",)))
    macs = prop_def(Int(48))
    """Multiply-accumulates of the task, for its cost; `elements`: its other operations."""
    elements = prop_def(Int(48))

    @property
    def engine(self) -> str:
        return self.values()["place"]

    def execute(self, machine: Machine, values: Values) -> None:
        inputs = [machine.view(o).copy() for o in values["inputs"]]
        results = machine.host_functions[values["function"]](inputs)
        for operand, result in zip(values["outputs"], results, strict=True):
            np.copyto(machine.view(operand), np.reshape(result, operand.dims))

    def cost(self, target: Target, kernels: Sequence[Kernel]) -> cost.Cost:
        values = self.values()
        read = sum(o.size for o in values["inputs"])
        written = sum(o.size for o in values["outputs"])
        return cost.host(target, values["macs"], values["elements"], read, written)
