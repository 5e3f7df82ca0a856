"""All levels and onnxruntime on the same input, layer by layer: where do they first differ?

The levels graph, tile and npu must agree bit for bit. onnxruntime is an independent reference
with a tolerance: other orders of summation, other roundings.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from xdsl.dialects.builtin import ModuleOp

from npu_dialect import api, levels, pipeline, taps
from npu_dialect.graph.states import arguments_with
from npu_dialect.ports import Array, Inputs, bind

if TYPE_CHECKING:
    from npu_dialect.runtime.program import Program

EXACT = ("graph", "tile", "npu")
"""The levels that agree bit for bit, in the order of lowering."""

RTOL = 1e-3
ATOL = 1e-4
"""The tolerance of floats against onnxruntime; the absolute one relative to the tensor's range."""


@dataclass(frozen=True)
class Step:
    """One tensor of the model at two levels."""

    source: str
    before: str
    """The level compared with: onnxruntime, graph or tile."""
    level: str
    differing: int
    """Elements that are not the same bits (NaNs are the same)."""
    elements: int
    largest: float
    """The largest difference; of quantized tensors in steps."""
    agrees: bool
    """Bit for bit, or within the tolerance against onnxruntime."""
    first: tuple[int, ...] = ()
    """The index of the first differing element, and its two values."""
    values: tuple[float, float] = (0.0, 0.0)


@dataclass(frozen=True)
class Comparison:
    """The steps in the order of the model. Tensors that a level never holds have no step there."""

    steps: tuple[Step, ...]
    reference: bool
    """Whether onnxruntime took part."""

    @property
    def levels_agree(self) -> bool:
        """Whether graph, tile and npu gave the same bits everywhere."""
        return all(step.agrees for step in self.steps if step.before in EXACT)

    @property
    def reference_agrees(self) -> bool:
        """Whether all outputs and states are within the tolerance of onnxruntime.

        Tensors inside may be further away: a quantized value that is one step off, times weights.
        """
        ends = (taps.OUTPUT, taps.STATE)
        outputs = (s for s in self.steps if s.source.startswith(ends))
        return all(step.agrees for step in outputs if step.before not in EXACT)

    def first_difference(self, level: str) -> Step | None:
        """The first tensor where `level` does not agree with the one before it."""
        return next((s for s in self.steps if s.level == level and not s.agrees), None)

    def to_json(self) -> dict[str, Any]:
        """All of it as JSON values."""
        return {
            "levels_agree": self.levels_agree,
            "reference_agrees": self.reference_agrees if self.reference else None,
            "steps": [asdict(step) for step in self.steps],
        }


def compare(
    module: ModuleOp,
    inputs: Inputs,
    *,
    model: str | Path | None = None,
    program: Program | None = None,
    seed: int | None = None,
    entry: str | None = None,
    state: Mapping[str, Array] | None = None,
    progress: pipeline.Progress | None = None,
) -> Comparison:
    """Run an entry of a module as imported at every level, and the .onnx file `model` in
    onnxruntime, all from the same contents of the states (`state`, else the initial ones).

    The module is lowered in place. With a `program`, that one is run rather than the module's own.
    `seed` chooses the order of execution of the npu level.
    """
    arrays = bind(levels.inputs_of(module, entry), inputs)
    held: dict[str, Mapping[str, Array]] = {}
    quanta: dict[str, float] = {}
    if model is not None and str(model).endswith(".onnx"):
        held["onnxruntime"] = _reference(Path(model), module, arrays, entry, state or {})

    def tap(level: levels.Level, lowered: ModuleOp) -> None:
        held[level] = taps.level(
            level, lowered, arrays, program=program, seed=seed, entry=entry, state=state
        )
        if level == "graph":
            quanta.update(taps.steps(lowered, entry))

    api.lower(module, options=pipeline.Options(progress=progress), on_level=tap)
    return Comparison(tuple(_steps(held, quanta)), "onnxruntime" in held)


def _reference(
    model: Path,
    module: ModuleOp,
    arrays: Sequence[Array],
    entry: str | None,
    state: Mapping[str, Array],
) -> dict[str, Array]:
    """The tensors of onnxruntime, to which states are inputs and outputs."""
    function = levels.entry_of(module, entry)
    ports = levels.states(module, entry)
    contents = {port.name: port.initial for port in ports} | dict(state)
    given = arguments_with(function, arrays, contents)
    names, results = levels.input_names(function), levels.result_names(function)
    tensors = taps.onnxruntime(model, dict(zip(names, given, strict=True)))
    for port in ports:
        if port.result is not None:
            tensors[taps.STATE + port.name] = tensors.pop(taps.OUTPUT + results[port.result])
    return tensors


def _steps(held: Mapping[str, Mapping[str, Array]], quanta: Mapping[str, float]) -> Iterator[Step]:
    """Each tensor at each level against the nearest level before that holds it."""
    order = dict.fromkeys(name for tensors in held.values() for name in tensors)
    for name in order:
        holders = [level for level, tensors in held.items() if name in tensors]
        for before, level in pairwise(holders):
            old, new = aligned(held[before][name], held[level][name])
            if old is not None:
                yield compare_arrays(name, before, level, old, new, quanta.get(name, 0.0))


def aligned_tensors(
    old: Mapping[str, Array], new: Mapping[str, Array]
) -> Iterator[tuple[str, Array, Array]]:
    """Name and both arrays, in one layout, of the tensors that two modules hold in common."""
    for name in old:
        if name in new:
            before, after = aligned(old[name], new[name])
            if before is not None:
                yield name, before, after


def aligned(old: Array, new: Array) -> tuple[Array | None, Array]:
    """The arrays with one layout: channels last, or as flat where only ones were moved.

    None for arrays that do not hold the same values, such as reals and their quantized form.
    """
    if old.dtype != new.dtype:
        return None, new
    last = np.moveaxis(old, 1, -1) if old.ndim > 2 else old
    layouts = [each for each in (old, last) if each.shape == new.shape]
    if layouts:
        return min(layouts, key=lambda each: _distance(each, new)), new
    for each in (old, last):
        if _without_ones(each) == _without_ones(new):
            return each.reshape(new.shape), new
    return None, new


def _distance(a: Array, b: Array) -> float:
    """How far arrays of one shape are apart: where every extent is the same, this tells layouts."""
    with np.errstate(invalid="ignore", over="ignore"):
        return float(np.nansum(np.abs(a.astype(np.float64) - b.astype(np.float64))))


def _without_ones(array: Array) -> tuple[int, ...]:
    return tuple(n for n in array.shape if n != 1)


def compare_arrays(
    source: str, before: str, level: str, old: Array, new: Array, quantum: float = 0.0
) -> Step:
    """Compare two arrays of one shape and type; `quantum` is the step of dequantized values."""
    differs = ~same(old, new)
    count = int(np.count_nonzero(differs))
    if not count:
        return Step(source, before, level, 0, old.size, 0.0, True)
    wide_old, wide_new = old.astype(np.float64), new.astype(np.float64)
    with np.errstate(invalid="ignore"):
        gap = np.abs(wide_new - wide_old)
    index = tuple(int(i) for i in np.argwhere(differs)[0])
    return Step(
        source=source,
        before=before,
        level=level,
        differing=count,
        elements=old.size,
        largest=float(np.max(np.where(differs, gap, 0.0))),
        agrees=before not in EXACT
        and within_tolerance(wide_old, wide_new, old.dtype.kind, quantum),
        first=index,
        values=(float(old[index]), float(new[index])),
    )


def same(old: Array, new: Array) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """Where two arrays hold the same bits; any NaN equals any other, +0 and -0 differ."""
    if old.dtype.kind in "iub":
        return np.asarray(old == new)
    both_nan = np.isnan(old) & np.isnan(new)
    return np.asarray(((old == new) & (np.signbit(old) == np.signbit(new))) | both_nan)


def within_tolerance(old: Array, new: Array, kind: str, quantum: float = 0.0) -> bool:
    """Whether `new` is near enough to the reference `old`: what was quantized within one step."""
    if kind in "iub" or quantum:
        return bool(np.max(np.abs(new - old)) <= 1.001 * (quantum or 1.0))
    finite = np.isfinite(old)
    spread = float(np.ptp(old[finite])) if finite.any() else 0.0
    return bool(np.allclose(new, old, rtol=RTOL, atol=ATOL * spread, equal_nan=True))
