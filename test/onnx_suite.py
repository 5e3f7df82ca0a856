"""The tests that ship with onnx (onnx.backend.test), through the compiler and the simulator."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import ModelProto, TensorProto

from npu_dialect import onnx_backend
from npu_dialect.diagnostics import CompileError
from npu_dialect.onnx_backend import as_array
from npu_dialect.runtime.program import Placement, Program

Array = npt.NDArray[Any]

KINDS = ("node", "simple", "real", "pytorch-converted", "pytorch-operator")
WORKING = ("dma", "mxu", "vpu")
"""The engines whose instructions count as work of the accelerator."""


@dataclass(frozen=True)
class Suite:
    """One test: a model, data sets of inputs and expected outputs, and its tolerance."""

    name: str
    model: ModelProto
    sets: tuple[tuple[list[Any], list[Any]], ...]
    rtol: float
    atol: float


@dataclass(frozen=True)
class Outcome:
    """What became of a test."""

    name: str
    error: str = ""
    """Empty where it passed."""
    is_defect: bool = False
    """Whether it failed in another way than by a clear message."""
    all_npu: bool = False
    seconds: float = 0.0
    """What compiling took, for all of its data."""
    hosted: tuple[Placement, ...] = field(default=())


@cache
def tests() -> dict[str, Any]:
    """The tests of every kind by name."""
    from onnx.backend.test.loader import load_model_tests

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return {test.name: test for kind in KINDS for test in load_model_tests(kind=kind)}


def find(name: str) -> Suite | None:
    """A test by name; None where this onnx has none."""
    test = tests().get(name)
    if test is None:
        return None
    if test.model is not None:
        return Suite(name, test.model, tuple(test.data_sets), test.rtol, test.atol)
    if test.model_dir is None:
        return _light(test)
    folder = Path(test.model_dir)
    model = onnx.load(folder / "model.onnx")
    return Suite(name, model, tuple(_data_sets(folder)), test.rtol, test.atol)


def _light(test: Any) -> Suite | None:
    """A model without weights, that onnx ships with the outputs for inputs it generates."""
    from onnx.backend.test.runner import Runner

    path = Path(onnx.__file__).parent.parent / (test.url or "")
    if not path.is_file():
        return None
    model = onnx.load(path)
    known = {tensor.name for tensor in model.graph.initializer}
    made = [
        Runner.generate_dummy_data(v, seed=0, name=test.model_name, random=False)
        for v in model.graph.input
        if v.name not in known
    ]
    files = sorted(path.parent.glob(f"{path.stem}_output_*.pb"))
    return Suite(test.name, model, ((made, [*map(_tensor, files)]),), test.rtol, test.atol)


def _data_sets(folder: Path) -> Iterator[tuple[list[Array], list[Array]]]:
    for part in sorted(folder.glob("test_data_set_*")):
        yield _tensors(part, "input"), _tensors(part, "output")


def _tensors(folder: Path, what: str) -> list[Array]:
    count = len(list(folder.glob(f"{what}_*.pb")))
    return [_tensor(folder / f"{what}_{k}.pb") for k in range(count)]


def _tensor(path: Path) -> Array:
    return as_array(TensorProto.FromString(path.read_bytes()))


def is_all_npu(program: Program) -> bool:
    """Whether the accelerator does work and the host does none."""
    engines = {op.engine for _, op in program.executed}
    return bool(engines.intersection(WORKING)) and "host" not in engines


def hosted(program: Program) -> tuple[Placement, ...]:
    """What the host does."""
    return tuple(p for p in program.placements if p.engine == "host")


def check(found: Sequence[Array], expected: Sequence[Array], rtol: float, atol: float) -> None:
    """Compares as the runner of onnx does. Raises AssertionError."""
    assert len(found) == len(expected), f"{len(found)} outputs instead of {len(expected)}"
    for a, b in zip(found, expected, strict=True):
        assert a.dtype == b.dtype, f"{a.dtype} instead of {b.dtype}"
        assert a.shape == b.shape, f"{a.shape} instead of {b.shape}"
        wide = (a, b) if a.dtype.kind in "biufc" else (a.astype(np.float32), b.astype(np.float32))
        np.testing.assert_allclose(*wide, rtol=rtol, atol=atol)


def run(suite: Suite, target: str = "mobile4k", seed: int | None = None) -> Outcome:
    """Compiles and simulates a test on all of its data."""
    all_npu, seconds, host = True, 0.0, dict[Placement, None]()
    for inputs, outputs in suite.sets:
        begin = perf_counter()
        ready = onnx_backend.prepare(suite.model, target, tier="plain")
        program = ready.compile(inputs)
        seconds += perf_counter() - begin
        found = ready.run(inputs, seed=seed)
        check(found, [as_array(y) for y in outputs], suite.rtol, suite.atol)
        all_npu &= is_all_npu(program)
        host.update(dict.fromkeys(hosted(program)))
    return Outcome(suite.name, all_npu=all_npu, seconds=seconds, hosted=tuple(host))


def outcome(name: str, target: str = "mobile4k", seed: int | None = None) -> Outcome:
    """What becomes of a test, whatever it is."""
    suite = find(name)
    if suite is None:
        return Outcome(name, "this onnx has no such test")
    try:
        return run(suite, target, seed)
    except CompileError as problem:
        defect = "pass must not fail" in str(problem)
        return Outcome(name, str(problem).splitlines()[0], defect)
    except Exception as problem:  # one test that fails must not hide the others
        text = " ".join(str(problem).split())
        return Outcome(name, f"{type(problem).__name__}: {text}"[:300], True)
