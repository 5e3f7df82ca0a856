"""One random graph through the whole compiler: what must hold."""

from __future__ import annotations

import re
import warnings
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from graph_samples import Array, same
from random_graphs import INTEGER_TYPES, MOVING, TYPES, WIDE, random_graph
from xdsl.dialects.builtin import ModuleOp

from npu_dialect import api, dtypes, graph
from npu_dialect.graph.base import GraphOp, dtype_of
from npu_dialect.graph.interpret import run as run_graph
from npu_dialect.pipeline import Options

QUIET = Options(reproducer=None)
TARGETS = Path(graph.__file__).parent.parent / "targets"
BASES = (
    "edge256", "mobile4k", "edge512", "headset2k", "systolic32_ws", "systolic32_os",
    "ethos_u55_256", "ethos_u65_512",
)  # fmt: skip
SCRATCHPADS = (None, 4096, 8192, 16384, 65536)
"""Bytes; None leaves the target as it is."""


KINDS = {"all": TYPES, "integers": INTEGER_TYPES, "floats": (dtypes.f32,), "wide": WIDE}
SMOOTH = (
    graph.AddOp, graph.SubOp, graph.MulOp, graph.MaxOp, graph.MinOp, graph.ReluOp, graph.NegOp,
    graph.AbsOp, graph.TanhOp, graph.SigmoidOp, graph.ErfOp, graph.GeluOp, graph.SiluOp,
    graph.HardSwishOp, graph.SoftplusOp, graph.ClampOp, graph.LeakyReluOp, graph.EluOp,
    graph.HardSigmoidOp, graph.ReshapeOp, graph.TransposeOp, graph.ConcatOp, graph.SliceOp,
    graph.PadOp, graph.BroadcastToOp, graph.ReduceSumOp, graph.ReduceMeanOp, graph.ReduceMaxOp,
    graph.ReduceMinOp, graph.SoftmaxOp, graph.LogSoftmaxOp, graph.BatchNormOp, graph.Conv2DOp,
    graph.MatmulOp, graph.MaxPool2DOp, graph.AvgPool2DOp, graph.ConstantOp,
)  # fmt: skip
"""Operations of floats that do not make a small difference great."""


@dataclass(frozen=True)
class Case:
    """A graph and the machine that it is compiled for."""

    seed: int
    size: int
    base: str
    spm: int | None
    kinds: str = "all"
    moves: bool = False
    """Whether half of the operations move data."""

    @staticmethod
    def of(seed: int, size: int = 12) -> Case:
        """The case of a number."""
        rng = np.random.default_rng([seed, 1])
        base = BASES[int(rng.integers(len(BASES)))]
        spm = SCRATCHPADS[int(rng.integers(len(SCRATCHPADS)))]
        kinds = ("all", "integers", "floats")[int(rng.integers(3))]
        count, moves = int(rng.integers(2, size + 1)), int(rng.integers(4)) == 0
        return Case(seed, count, base, spm, kinds, moves)

    def module(self, folder: Path) -> tuple[ModuleOp, list[Array]]:
        target = target_file(folder, self.base, self.spm)
        makers = MOVING if self.moves else None
        return random_graph(self.seed, target, self.size, KINDS[self.kinds], makers)


@cache
def target_file(folder: Path, base: str, spm: int | None) -> str:
    """The name of a target, or the file of one with a smaller scratchpad and accumulators."""
    if spm is None:
        return base
    text = (TARGETS / f"{base}.toml").read_text()
    for memory, size in (("spm", spm), ("acc", spm // 8)):
        text = re.sub(rf"(\[memories\.{memory}\]\nsize = )\d+", rf"\g<1>{size}", text)
    folder.mkdir(exist_ok=True)
    path = folder / f"{base}_{spm}.toml"
    path.write_text(text)
    return str(path)


def check(case: Case, folder: Path) -> None:
    """Raises where a level or a second compilation differs, or where a pass fails."""
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        _check(case, folder)


def _check(case: Case, folder: Path) -> None:
    module, inputs = case.module(folder)
    again = module.clone()
    before = run_graph(module, inputs)
    api.lower(module, "graph", options=QUIET)
    _attached(module)
    expected = run_graph(module, inputs)
    if not _has_floats(again):
        _equal(before, expected, "the graph passes")
    elif _is_smooth(again):
        _close(before, expected)
    api.lower(module, "tile", options=QUIET)
    _equal(expected, list(api.execute(module, inputs).values()), "tile")
    api.lower(module, "npu", options=QUIET)
    program = api.assemble(module)
    for seed in (case.seed, None):
        found = api.simulate(program, inputs, seed=seed).outputs.values()
        _equal(expected, list(found), f"npu, seed {seed}")
    api.lower(again, "npu", options=QUIET)
    assert api.assemble(again).to_bytes() == program.to_bytes(), "a second compilation differs"


def _has_floats(module: ModuleOp) -> bool:
    """Whether real numbers are computed anywhere, which passes may round otherwise."""
    kinds = (str(r.type) for op in module.walk() for r in op.results)
    return any(re.search(r"x(f|bf)\d+>", kind) or "<f" in kind for kind in kinds)


def _attached(module: ModuleOp) -> None:
    """Raises where an operation that is not in the module uses a value of it."""
    for op in module.walk():
        for result in op.results:
            for use in result.uses:
                assert use.operation.parent is not None, f"{use.operation.name} uses {op.name}"


def _is_smooth(module: ModuleOp) -> bool:
    """Whether everything is computed in floats, and by smooth functions."""
    ops = [op for op in module.walk() if isinstance(op, GraphOp)]
    kinds = {str(dtype_of(r)) for op in ops for r in op.results}
    return kinds == {"f32"} and all(isinstance(op, SMOOTH) for op in ops)


def _close(expected: list[Array], found: list[Array]) -> None:
    """Where nothing overflows or nearly does."""
    for a, b in zip(expected, found, strict=True):
        largest = float(np.abs(a).max(initial=1))
        if not largest < 1e6:
            return
        np.testing.assert_allclose(b, a, rtol=1e-3, atol=1e-5 * largest, err_msg="graph passes")


def _equal(expected: list[Array], found: list[Array], what: str) -> None:
    for number, (a, b) in enumerate(zip(expected, found, strict=True)):
        assert same(np.asarray(a), np.asarray(b)), f"output {number} differs: {what}"
