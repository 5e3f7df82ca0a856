"""Instructions of the dma engine."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np
from xdsl.irdl import irdl_op_definition, prop_def
from xdsl.utils.exceptions import VerifyException

from npu_dialect import cost, dtypes, rice
from npu_dialect.codecs import CODECS, by_group
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
class DmaExpandOp(Instruction):
    """Copies weights of 4 bits, two in a byte (the low half first), as i8.

    With a `group` of 16 to 128, a byte m comes before the bytes of so many elements, each of which
    becomes its value times m, modulo 256. With a `group` of 4, elements have 8 bits, and of every
    four at most two are not zero: eight elements are four bytes, two for each four, and a byte with
    their places, two bits each from the lowest on; of one place the later byte counts. The source's
    last dimension is the bytes of the destination's, which is dense and of whole blocks; the others
    are the same.

    ```
    npu.dma_expand source = <dram, 0x1000, u8, [8, 17], [17, 1]>,
                   destination = <spm, 0x0, i8, [8, 32], [32, 1]>, group = 32
    ```
    """

    name = "npu.dma_expand"
    OPCODE: ClassVar[int] = 14
    ENGINE: ClassVar[str] = "dma"

    source = prop_def(OperandField("read", ("dram",)))
    destination = prop_def(OperandField("write", ("spm",)))
    group = prop_def(Int(8))
    """Elements that share a multiplier: 16, 32, 64 or 128; 0 without; 4: two of four."""

    def verify_(self) -> None:
        values = self.values()
        source, destination = values["source"], values["destination"]
        codec = by_group(values["group"])
        if codec is None:
            known = ", ".join(str(c.group) for c in CODECS.values())
            raise VerifyException(f"the group must be one of {known}, found {values['group']}")
        if (source.dtype, destination.dtype) != (dtypes.u8, dtypes.i8):
            found = f"{source.dtype} and {destination.dtype}"
            raise VerifyException(f"the operands must be u8 and i8, found {found}")
        *outer, count = destination.dims
        if count % codec.elements or source.dims != (*outer, codec.size(count)):
            raise VerifyException(
                f"the source must have {codec.bytes} bytes for {codec.elements} elements of the "
                f"destination, found {source.dims} and {destination.dims}"
            )
        if any(o.strides[-1] != 1 for o in (source, destination)):
            raise VerifyException("the last dimensions must be dense")

    def execute(self, machine: Machine, values: Values) -> None:
        codec = by_group(values["group"])
        assert codec is not None, "verified"
        machine.view(values["destination"])[...] = codec.expand(machine.view(values["source"]))

    def cost(self, target: Target, kernels: Sequence[Kernel]) -> cost.Cost:
        values = self.values()
        return cost.dma(target, values["source"], values["destination"])


@irdl_op_definition
class DmaDecodeOp(Instruction):
    """Copies elements that are stored by the code of `npu_dialect/rice.py`: the stream of source
    bytes becomes the elements of the destination, in rows of `row` elements, the last of which may
    be shorter. Both are dense and have one dimension.

    ```
    npu.dma_decode source = <dram, 0x1000, u8, [901], [1]>,
                   destination = <spm, 0x0, i8, [1152], [1]>, row = 144
    ```
    """

    name = "npu.dma_decode"
    OPCODE: ClassVar[int] = 16
    ENGINE: ClassVar[str] = "dma"

    source = prop_def(OperandField("read", ("dram",)))
    destination = prop_def(OperandField("write", ("spm",)))
    row = prop_def(Int(32))
    """Elements after which blocks begin anew."""

    def verify_(self) -> None:
        values = self.values()
        source, destination = values["source"], values["destination"]
        if source.dtype != dtypes.u8:
            raise VerifyException(f"the source must be bytes (u8), found {source.dtype}")
        for operand in (source, destination):
            if len(operand.dims) != 1 or operand.strides[0] != operand.dtype.itemsize:
                rule = "the operands must be dense, of one dimension"
                found = f"extents {operand.dims} with strides {operand.strides}"
                raise VerifyException(f"{rule}, found {found}")
        if values["row"] == 0:
            raise VerifyException("a row must have elements, found 0")

    def execute(self, machine: Machine, values: Values) -> None:
        destination = machine.view(values["destination"])
        data = np.ascontiguousarray(machine.view(values["source"]))
        found = rice.decode(data, destination.size, values["row"], destination.itemsize)
        destination[...] = found.reshape(-1).view(destination.dtype)

    def cost(self, target: Target, kernels: Sequence[Kernel]) -> cost.Cost:
        values = self.values()
        return cost.dma_decode(target, values["source"], values["destination"])


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
