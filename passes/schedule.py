"""(placeholder)"""
from collections.abc import Sequence
from npu_dialect.kernel import Kernel
from npu_dialect.npu.base import Instruction
from npu_dialect.target import Target


def schedule(
    instructions: Sequence[Instruction], target: Target, kernels: Sequence[Kernel]
) -> list[Instruction]:
    """The instructions in program order."""
    return list(instructions)
