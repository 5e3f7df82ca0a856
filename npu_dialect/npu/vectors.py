"""Instructions of the vpu engine: kernels over tiles, reductions and pooling."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
from xdsl.irdl import irdl_op_definition, opt_prop_def, prop_def
from xdsl.utils.exceptions import VerifyException

from npu_dialect import cost, functional
from npu_dialect.kernel import Kernel, widened
from npu_dialect.machine import Array, Machine, Operand
from npu_dialect.npu.base import Instruction, Values, kernel_of
from npu_dialect.npu.fields import Choice, Int, Ints, OperandField
from npu_dialect.target import Target

REDUCTIONS = ("sum", "max", "min", "prod")
POOLS = ("max", "sum", "avg")


class VectorInstruction(Instruction):
    """Shape shared by the vector unit's instructions: a result, optionally through a kernel, then
    the store.
    """

    ENGINE: ClassVar[str] = "vpu"

    params = opt_prop_def(OperandField("read", ("spm",)))
    """[rows, channels] 4-byte words for the kernel; channels are the output's last dimension."""
    table = opt_prop_def(OperandField("read", ("spm",)))
    output = prop_def(OperandField("write", ("spm",)))
    kernel = opt_prop_def(Int(16))
    """Number of the kernel; without one the result is stored as it is."""

    def finish(self, machine: Machine, values: Values, tensors: Sequence[Array]) -> None:
        """Applies the kernel, where there is one, and stores."""
        output = machine.view(values["output"])
        if "kernel" not in values:
            np.copyto(output, tensors[0])
            return
        params = machine.view(values["params"]) if "params" in values else None
        table = machine.view(values["table"]) if "table" in values else None
        np.copyto(output, kernel_of(machine.kernels, values).evaluate(tensors, params, table))

    def kernel_costs(self, kernels: Sequence[Kernel]) -> tuple[str, ...]:
        values = self.values()
        return kernel_of(kernels, values).costs() if "kernel" in values else ()

    def side_bytes(self, values: Values) -> int:
        return sum(values[n].size for n in ("params", "table") if n in values)


def lane_type(operands: Sequence[Operand]) -> str:
    """The widest value type that the operands are processed as."""
    kinds = {widened(o.dtype) for o in operands}
    return next(k for k in ("i64", "f32", "i32") if k in kinds)


@irdl_op_definition
class VectorOp(VectorInstruction):
    """Applies a kernel elementwise to one to three operands, which broadcast (extent 1, or stride
    0) to the output.

    ```
    npu.vector a = <spm, 0x0, i8, [4, 32], [32, 1]>, kernel = 1,
               output = <spm, 0x80, i8, [4, 32], [32, 1]>
    ```
    """

    name = "npu.vector"
    OPCODE: ClassVar[int] = 6

    a = prop_def(OperandField("read", ("spm",)))
    b = opt_prop_def(OperandField("read", ("spm",)))
    c = opt_prop_def(OperandField("read", ("spm",)))

    def verify_(self) -> None:
        if self.kernel is None:
            raise VerifyException("a vector instruction must have a kernel")

    def execute(self, machine: Machine, values: Values) -> None:
        self.finish(machine, values, [machine.view(values[n]) for n in "abc" if n in values])

    def cost(self, target: Target, kernels: Sequence[Kernel]) -> cost.Cost:
        values = self.values()
        inputs = [values[n] for n in "abc" if n in values]
        output = values["output"]
        read = sum(o.size for o in inputs) + self.side_bytes(values)
        lanes = lane_type([*inputs, output])
        costs = self.kernel_costs(kernels)
        return cost.vector(target, output.elements, costs, read, output.size, lanes)


@irdl_op_definition
class ReduceOp(VectorInstruction):
    """Reduces the dimensions of `input` in which the output has extent 1 and the input more,
    row-major ascending.

    Integer sums are int32 (wrapping), of elements minus `x_zero`; float sums are f32.

    ```
    npu.reduce input = <spm, 0x0, i8, [49, 64], [64, 1]>, kind = sum, x_zero = -3, axes = 1,
               output = <spm, 0x1000, i32, [1, 64], [256, 4]>
    ```
    """

    name = "npu.reduce"
    OPCODE: ClassVar[int] = 7

    input = prop_def(OperandField("read", ("spm",)))
    kind = prop_def(Choice(REDUCTIONS))
    x_zero = prop_def(Int(17, signed=True))
    axes = prop_def(Int(5))
    """Bit mask of the reduced dimensions."""

    def execute(self, machine: Machine, values: Values) -> None:
        x = machine.view(values["input"])
        axes = tuple(a for a in range(x.ndim) if values["axes"] >> a & 1)
        self.finish(
            machine, values, [functional.reduce(values["kind"], x, axes, x_zero=values["x_zero"])]
        )

    def cost(self, target: Target, kernels: Sequence[Kernel]) -> cost.Cost:
        values = self.values()
        source, output = values["input"], values["output"]
        read = source.size + self.side_bytes(values)
        base = cost.vector(
            target, source.elements, ("alu",), read, output.size, lane_type([source])
        )
        return add_kernel(
            target, base, output.elements, self.kernel_costs(kernels), lane_type([output])
        )


@irdl_op_definition
class Pool2DOp(VectorInstruction):
    """Pools one tile: input [H, W, C], output [OH, OW, C]; `avg` divides an f32 sum by its count of
    elements.

    Padding takes part as the least value (max) or as zero (sum, avg).

    ```
    npu.pool2d input = <spm, 0x0, i8, [4, 32, 16], [512, 16, 1]>, kind = max, size = [2, 2], ...
    ```
    """

    name = "npu.pool2d"
    OPCODE: ClassVar[int] = 8

    input = prop_def(OperandField("read", ("spm",)))
    kind = prop_def(Choice(POOLS))
    size = prop_def(Ints(2, 12))
    """Rows and columns of the window; so for strides and dilations."""
    strides = prop_def(Ints(2, 12))
    dilations = prop_def(Ints(2, 12))
    pads = prop_def(Ints(4, 12))
    """Rows above, columns to the left, rows below, columns to the right."""
    x_zero = prop_def(Int(17, signed=True))
    """Subtracted from every element that `sum` adds; padding is zero after that."""
    count_include_pad = prop_def(Int(1))
    """Whether `avg` divides by the whole window or by its elements within the input."""

    def execute(self, machine: Machine, values: Values) -> None:
        rows, columns, _ = values["output"].dims
        x = machine.view(values["input"])[None]
        window: dict[str, Any] = {
            "kernel": values["size"],
            "strides": values["strides"],
            "pads": values["pads"],
            "dilations": values["dilations"],
            "out_hw": (rows, columns),
        }
        if values["kind"] == "max":
            result = functional.max_pool2d(x, **window)
        elif values["kind"] == "sum":
            result = functional.sum_pool2d(x, x_zero=values["x_zero"], **window)
        else:
            include = bool(values["count_include_pad"])
            result = functional.avg_pool2d(x, count_include_pad=include, **window)
        self.finish(machine, values, [result[0]])

    def cost(self, target: Target, kernels: Sequence[Kernel]) -> cost.Cost:
        values = self.values()
        source, output = values["input"], values["output"]
        taps = values["size"][0] * values["size"][1]
        steps = ("alu",) * taps + (("div",) if values["kind"] == "avg" else ())
        read = source.size + self.side_bytes(values)
        base = cost.vector(target, output.elements, steps, read, output.size, lane_type([source]))
        least = cost.pool_cycles(target, output.dims, values["size"], source.dtype.itemsize)
        base = replace(base, cycles=max(base.cycles, least))
        return add_kernel(
            target, base, output.elements, self.kernel_costs(kernels), lane_type([output])
        )


def add_kernel(
    target: Target, base: cost.Cost, elements: int, costs: Sequence[str], lanes: str
) -> cost.Cost:
    """`base` followed by a kernel on its results, in the same instruction."""
    if not costs:
        return base
    extra = cost.vector(target, elements, costs, 0, 0, lanes)
    counts = dict(base.micro_ops)
    for name, n in extra.micro_ops.items():
        counts[name] = counts.get(name, 0) + n
    return cost.Cost(
        cycles=base.cycles + extra.cycles - target.vector.startup,
        bound=base.bound,
        reads=base.reads,
        writes=base.writes,
        micro_ops=counts,
    )
