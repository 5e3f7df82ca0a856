"""What must hold for a model with defects: it is refused in a line, or compiled correctly."""

from __future__ import annotations

import signal
import traceback
import warnings
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import numpy.typing as npt
from model_mutations import mutant
from xdsl.dialects.builtin import ModuleOp

from npu_dialect import api, levels
from npu_dialect.diagnostics import CompileError
from npu_dialect.frontends.onnx import load
from npu_dialect.pipeline import Options
from npu_dialect.ports import Port
from npu_dialect.runtime.program import Program
from npu_dialect.runtime.simulator import simulate

SECONDS = 60
"""What one case may take."""

SMALL = 1 << 16
"""Elements of inputs and outputs up to which a program is run."""

WRONG = "WRONG: the program gives other results than the model as imported"

DEFECT = "NPU09"
"""What the codes of defects of the compiler begin with."""


class TookTooLong(Exception):  # noqa: N818  (says what happened)
    """A case that does not end."""


def outcome(number: int, compile: bool = False) -> str:
    """What becomes of an ONNX model with defects; see `judged`."""
    return judged(lambda: mutant(number), load, compile)


def judged(
    model: Callable[[], bytes], load: Callable[[bytes], ModuleOp], compile: bool = False
) -> str:
    """`refused` or `imported`, `compiled` with `compile`; what is wrong for anything else."""
    try:
        data = model()
        with _limited(SECONDS), warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            return _outcome(load(data), compile)
    except CompileError as problem:
        lines = str(problem).splitlines()
        clear = len(lines) == len(problem.records) and DEFECT not in str(problem)
        return "refused" if clear else f"DEFECT {lines[0][:200]}"
    except (Exception, MemoryError) as problem:  # every case is judged
        frame = traceback.extract_tb(problem.__traceback__)[-1]
        text = " ".join(str(problem).split())[:160]
        return f"{type(problem).__name__} at {Path(frame.filename).name}:{frame.lineno}: {text}"


def _outcome(module: ModuleOp, compile: bool) -> str:
    if not compile:
        return "imported"
    before = module.clone()
    api.set_target(module, "mobile4k")
    api.lower(module, options=Options(reproducer=None))
    program = api.assemble(module)
    agrees = all(_agrees(program.entry(name), before, name) for name in program.entries)
    return "compiled" if agrees else WRONG


def _agrees(program: Program, before: ModuleOp, entry: str) -> bool:
    """Whether a program gives the results of the model as imported, if it is a small one."""
    ports = [*program.inputs, *program.outputs]
    if sum(int(np.prod(port.shape)) for port in ports) > SMALL or len(program.executed) >= 2000:
        return True
    inputs = [_ones(port) for port in levels.inputs_of(before, entry)]
    expected = api.execute(before, inputs, entry=entry).values()
    found = simulate(program, inputs, tier="plain").outputs.values()
    return all(_close(y, x) for y, x in zip(found, expected, strict=True))


def _ones(port: Port) -> npt.NDArray[Any]:
    """Small numbers, all of which every type can hold."""
    count = int(np.prod(port.shape))
    return (np.arange(count) % 3).reshape(port.shape).astype(port.dtype.numpy)


def _close(y: npt.NDArray[Any], reference: npt.NDArray[Any]) -> bool:
    a, b = y.astype(np.float64), reference.astype(np.float64)
    return y.shape == reference.shape and np.allclose(a, b, rtol=1e-2, atol=1e-3, equal_nan=True)


@contextmanager
def _limited(seconds: int) -> Generator[None, None, None]:
    """Raises TookTooLong in the block after some seconds."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise TookTooLong(f"after {seconds} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
