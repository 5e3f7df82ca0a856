"""An NPU compiler: ONNX models to a simulated accelerator, bit for bit.

import npu_dialect as npu

module = npu.load("model.onnx", target="edge256")
npu.lower(module, until="npu")
program = npu.assemble(module)                 # or npu.compile("model.onnx", target="edge256")
run = npu.simulate(program, {"image": x})
run.outputs, run.cycles, run.energy_joules
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from npu_dialect.api import (
        assemble,
        compile,
        execute,
        load,
        lower,
        quantize,
        simulate,
        simulate_all,
    )
    from npu_dialect.diagnostics import Code, CompileError, Diagnostic
    from npu_dialect.graph.custom import custom_op
    from npu_dialect.passes.quantizing.images import Images
    from npu_dialect.quantization import Quantization
    from npu_dialect.runtime.program import Program
    from npu_dialect.runtime.run import Run
    from npu_dialect.runtime.simulator import Session
    from npu_dialect.target import Target, load_target, target_names
    from npu_dialect.universe import NpuContext

__all__ = [
    "Code",
    "CompileError",
    "Diagnostic",
    "Images",
    "NpuContext",
    "Program",
    "Quantization",
    "Run",
    "Session",
    "Target",
    "assemble",
    "compile",
    "custom_op",
    "execute",
    "load",
    "load_target",
    "lower",
    "quantize",
    "simulate",
    "simulate_all",
    "target_names",
]

_HOMES = {
    "api": (
        "assemble",
        "compile",
        "execute",
        "load",
        "lower",
        "quantize",
        "simulate",
        "simulate_all",
    ),
    "diagnostics": ("Code", "CompileError", "Diagnostic"),
    "graph.custom": ("custom_op",),
    "passes.quantizing.images": ("Images",),
    "quantization": ("Quantization",),
    "runtime.program": ("Program",),
    "runtime.run": ("Run",),
    "runtime.simulator": ("Session",),
    "target": ("Target", "load_target", "target_names"),
    "universe": ("NpuContext",),
}
"""Where the public names live. They are imported at first use: `import npu_dialect` stays cheap."""


def __getattr__(name: str) -> Any:
    for home, names in _HOMES.items():
        if name in names:
            return getattr(import_module(f"{__name__}.{home}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
