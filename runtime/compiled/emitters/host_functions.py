"""Host functions that are elementwise, such as the quantization of a program's inputs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from npu_dialect.machine import Operand
from npu_dialect.npu.base import Values
from npu_dialect.npu.host import HostOp
from npu_dialect.runtime.compiled.emitters.vectors import lower_vector
from npu_dialect.runtime.compiled.records import Call
from npu_dialect.runtime.compiled.translate import Context, NotEmittedError, lowers


@lowers(HostOp)
def lower_host(values: Values, context: Context) -> Call | Sequence[Call]:
    """A host function as a vector instruction with the kernel that it amounts to."""
    kernel = context.elementwise.get(values["function"])
    if kernel is None:
        raise NotEmittedError("it runs an operation of the model on the host")
    (source,), (output,) = values["inputs"], values["outputs"]
    if source.elements != output.elements or not (_dense(source) and _dense(output)):
        raise NotEmittedError("its operands are not dense")
    flat = {name: _flat(o) for name, o in (("a", source), ("output", output))}
    return lower_vector({**flat, "kernel": 0}, replace(context, kernels=[kernel]))


def _dense(operand: Operand) -> bool:
    return operand.strides == Operand.dense("dram", 0, operand.dtype, operand.dims).strides


def _flat(operand: Operand) -> Operand:
    dims: Sequence[int] = (operand.elements,)
    return Operand.dense(operand.space, operand.address, operand.dtype, dims)
