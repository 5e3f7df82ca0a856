"""The processor that compiled programs run on: its vector registers, its integer dot products."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cache
from typing import Any

from npu_dialect.diagnostics import Code, error
from npu_dialect.runtime.compiled.llvm import binding

VARIABLE = "NPU_SIMULATOR_HOST"
"""Environment variable that names one of `HOSTS`, to try another instruction set than the best."""


@dataclass(frozen=True)
class Host:
    """What code is generated for."""

    name: str
    triple: str
    cpu: str
    """As LLVM names it."""
    features: str
    vector_bytes: int
    """Bytes of a vector register."""
    registers: int
    """Vector registers."""
    instructions: tuple[str, ...]
    """Features that code may use, as LLVM names them."""
    dot4: bool
    """Whether products of bytes are summed four u8 x s8 per 32-bit lane, else two i16 x i16."""
    native: bool
    """Whether the processor has the instruction for that; else it is spelled out, and slow."""

    @property
    def lanes(self) -> int:
        """32-bit elements of a vector register."""
        return self.vector_bytes // 4

    def machine(self) -> Any:
        """LLVM's code generator for this host."""
        initialize()
        target = binding.Target.from_triple(self.triple)
        return target.create_target_machine(
            cpu=self.cpu, features=self.features, opt=2, codemodel="jitdefault", jit=True
        )


KINDS: dict[str, tuple[int, int, bool, set[str]]] = {
    "avx512vnni": (64, 32, True, {"avx512vnni", "avx512bw", "avx512vl"}),
    "avxvnni": (32, 16, True, {"avxvnni"}),
    "avx2": (32, 16, False, {"avx2"}),
    "plain": (16, 16, False, set()),
}
"""By name, best first: bytes of a vector register, registers, `dot4`, the features it needs.

`plain` is any processor: code for vectors of 16 bytes (SSE2, NEON) without special instructions.
"""


@cache
def initialize() -> None:
    """Makes LLVM's code generator for this machine available."""
    binding.initialize_native_target()
    binding.initialize_native_asmprinter()


def detect(name: str | None = None) -> Host:
    """The host of a name of `KINDS`; by default the environment's choice, or the best of this
    machine. A kind that the machine lacks computes the same, slower. Raises CompileError (NPU0004).
    """
    return _host(name or os.environ.get(VARIABLE) or "native")


@cache
def _host(name: str) -> Host:
    initialize()
    flags = binding.get_host_cpu_features()
    features = {feature for feature, on in flags.items() if on}
    if name == "native":
        name = next(n for n, kind in KINDS.items() if kind[3] <= features)
    if name not in KINDS:
        raise error(
            Code.OPTION,
            f"{VARIABLE} must be native or one of {', '.join(KINDS)}",
            found=name,
            source=VARIABLE,
        )
    width, registers, dot4, needs = KINDS[name]
    triple = binding.get_process_triple()
    if name == "plain":
        base = ("sse2",) if triple.startswith("x86_64") else ()
        return Host(name, triple, "", "", width, registers, base, dot4, True)
    cpu = binding.get_host_cpu_name()
    able = needs <= features
    used = tuple(sorted(features))
    return Host(name, triple, cpu, flags.flatten(), width, registers, used, dot4, able)
