"""npu-verify: proves that a program is correct under every order that its waits permit.

The IR is not changed. This is refused, since nothing makes the vector unit wait for the copy:

    npu.dma_copy source = <dram, 0x0, ...>, destination = <spm, 0x0, ...>
    npu.vector a = <spm, 0x0, ...>, output = <spm, 0x40, ...>, kernel = 0

with: error[NPU0603]: relu1 (instruction 1): npu.vector: must wait for what touches the same bytes
and may not be complete ...
"""

from __future__ import annotations

from dataclasses import dataclass

from xdsl.context import Context
from xdsl.dialects.builtin import ModuleOp
from xdsl.passes import ModulePass

from npu_dialect.diagnostics import Code, CompileError, error
from npu_dialect.npu.structure import ProgramOp
from npu_dialect.npu.verifier import verify_program
from npu_dialect.target import load_target


@dataclass(frozen=True)
class NpuVerifyPass(ModulePass):
    """Prove every program of the module."""

    name = "npu-verify"

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        programs = [program for program in op.ops if isinstance(program, ProgramOp)]
        if not programs:
            raise error(
                Code.LEVEL,
                "a module must be at level npu to be proved",
                found="no npu.program",
                remedy="npu-opt --lower-to npu",
            )
        for program in programs:
            check(program)


def check(program: ProgramOp) -> None:
    """Raise CompileError (NPU0601 to NPU0604, NPU0202) with all that is not proved."""
    findings = verify_program(program, load_target(program.target.data))
    if findings:
        raise CompileError(*(finding.diagnostic() for finding in findings))
