"""One random graph through the whole compiler: what must hold."""

from __future__ import annotations

import re
import warnings
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from graph_samples import Array, same
from random_graphs import INTEGER_TYPES, TYPES, random_graph
from xdsl.dialects.builtin import ModuleOp

from npu_dialect import api, graph
from npu_dialect.graph.interpret import run as run_graph
from npu_dialect.pipeline import Options

QUIET = Options(reproducer=None)
TARGETS = Path(graph.__file__).parent.parent / "targets"
SCRATCHPADS = (None, 8192, 16384, 65536)
"""Bytes; None leaves the target as it is."""


@dataclass(frozen=True)
class Case:
    """A graph and the machine that it is compiled for."""

    seed: int
    size: int
    base: str
    spm: int | None
    integers: bool = False

    @staticmethod
    def of(seed: int, size: int = 12) -> Case:
        """The case of a number."""
        rng = np.random.default_rng([seed, 1])
        base = ("edge256", "mobile4k")[int(rng.integers(2))]
        spm = SCRATCHPADS[int(rng.integers(len(SCRATCHPADS)))]
        return Case(seed, int(rng.integers(2, size + 1)), base, spm, bool(rng.random() < 0.3))

    def module(self, folder: Path) -> tuple[ModuleOp, list[Array]]:
        kinds = INTEGER_TYPES if self.integers else TYPES
        return random_graph(self.seed, target_file(folder, self.base, self.spm), self.size, kinds)


@cache
def target_file(folder: Path, base: str, spm: int | None) -> str:
    """The name of a target, or the file of one with a smaller scratchpad and accumulators."""
    if spm is None:
        return base
    text = (TARGETS / f"{base}.toml").read_text()
    for memory, size in (("spm", spm), ("acc", spm // 8)):
        text = re.sub(rf"(\[memories\.{memory}\]\nsize = )\d+", rf"\g<1>{size}", text)
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
    expected = run_graph(module, inputs)
    if case.integers and not _has_floats(again):
        _equal(before, expected, "the graph passes")
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


def _equal(expected: list[Array], found: list[Array], what: str) -> None:
    for number, (a, b) in enumerate(zip(expected, found, strict=True)):
        assert same(np.asarray(a), np.asarray(b)), f"output {number} differs: {what}"
