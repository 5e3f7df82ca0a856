"""Which pass changes what a model computes, and at which operation: by running the module after
each pass that comes into question.

    found = bisect(npu.load("model.onnx", target="edge256"), {"image": x})
    found.spec, found.step.source      # 'graph-fold-qdq', 'conv1'

Every pass keeps the bits, so that the outputs before and after must be equal. Where a pass says
`keeps_bits = False` (floats that are added up in another order, then rounded to other steps, and so
on through all layers), the noise that it adds must be small against the signal.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from xdsl.dialects.builtin import ModuleOp, StringAttr

from npu_dialect import api, compare, levels, pipeline, taps, universe
from npu_dialect.compare import Step
from npu_dialect.diagnostics import CompileError
from npu_dialect.ports import Array, Inputs, bind

Progress = Callable[[str, int, int], None]

NOISE = 0.02
"""Root of the mean square of what a pass that does not keep bits may add, of that of the tensor."""


@dataclass(frozen=True)
class Pass:
    """A pass of the pipeline that is looked through."""

    spec: str
    level: str
    """The level of the pipeline that it belongs to; empty for a pipeline of the user's."""
    ends_level: bool = False
    keeps_bits: bool = True


@dataclass(frozen=True)
class Culprit:
    """The pass after which the model computes something else, or which fails."""

    spec: str
    number: int
    """Its place in the pipeline, from 0."""
    passes: int
    level: str
    outputs: tuple[Step, ...] = ()
    """The outputs and states that differ."""
    step: Step | None = None
    """The first tensor that differs, of those that are there before and after the pass."""
    problem: str = ""
    """The error with which the pass failed; then nothing was compared."""

    @property
    def source(self) -> str:
        """The node of the model to look at; empty where none is known."""
        return "" if self.step is None else self.step.source

    def to_json(self) -> dict[str, Any]:
        """All of it as JSON values."""
        return asdict(self) | {"source": self.source}


def passes_of(module: ModuleOp, spec: str | None = None) -> list[Pass]:
    """The passes of a pipeline string, or those that a module still has before it at level npu."""
    if spec is not None:
        return [_pass(str(each), "") for each in pipeline.parse(spec)]
    found: list[Pass] = []
    for level in api.remaining(module, "npu"):
        steps = universe.PIPELINES[level]
        found += [_pass(step.spec, level, step is steps[-1]) for step in steps]
    return found


def _pass(spec: str, level: str, ends_level: bool = False) -> Pass:
    cls = universe.pass_class(pipeline.parse(spec)[0].name)
    return Pass(spec, level, ends_level, bool(getattr(cls, "keeps_bits", True)))


def bisect(
    module: ModuleOp,
    inputs: Inputs,
    *,
    entry: str | None = None,
    state: Mapping[str, Array] | None = None,
    spec: str | None = None,
    tolerance: float = NOISE,
    progress: Progress | None = None,
) -> Culprit | None:
    """The first pass that changes the outputs of an entry for these inputs, None where all agree.

    The passes are those of the default pipelines, or of `spec`; `tolerance` is the noise, of the
    signal, that one which does not keep the bits may add. Such a pass is compared alone; of the
    others the levels first, then halves of what lies between two that differ. The module is lowered
    in place. Raises CompileError for inputs that do not fit.
    """
    arrays = bind(levels.inputs_of(module, entry), inputs)
    passes = passes_of(module, spec)
    return Search(module, arrays, passes, entry, state or {}, tolerance, progress).run()


class Search:
    """One search. `modules[k]` is the module before pass k."""

    def __init__(
        self,
        module: ModuleOp,
        inputs: Sequence[Array],
        passes: Sequence[Pass],
        entry: str | None,
        state: Mapping[str, Array],
        tolerance: float,
        progress: Progress | None,
    ) -> None:
        self.module, self.inputs, self.passes = module, inputs, passes
        self.entry, self.state = entry, state
        self.tolerance, self.progress = tolerance, progress
        self.modules: list[ModuleOp] = []
        self.known: dict[int, dict[str, Array]] = {}

    def run(self) -> Culprit | None:
        """What `bisect` gives."""
        failed = self._lower()
        before = 0
        for bound in self._bounds():
            if self._differing(before, bound):
                return self._between(before, bound)
            before = bound
        return failed

    # --- the modules
    # ------------------------------------------------------------------------------------------

    def _lower(self) -> Culprit | None:
        """Runs the passes; the one that fails."""
        context = universe.NpuContext()
        options = pipeline.Options(reproducer=None)
        for number, each in enumerate(self.passes):
            self.modules.append(self.module.clone())
            if self.progress:
                self.progress(each.spec, number, len(self.passes))
            try:
                pipeline.run(self.module, each.spec, context, options)
            except CompileError as problem:
                return self._culprit(number, problem=str(problem).splitlines()[0])
            if each.ends_level:
                self.module.attributes["npu.level"] = StringAttr(each.level)
        self.modules.append(self.module)
        return None

    def _bounds(self) -> Iterator[int]:
        """Where levels end, where the passes do, and around each that does not keep the bits: what
        it may add hides no fault of those that must keep them.
        """
        last = len(self.modules) - 1
        for number in range(1, last):
            before, after = self.passes[number - 1], self.passes[number]
            if before.ends_level or not (before.keeps_bits and after.keeps_bits):
                yield number
        yield last

    # --- what they compute
    # ------------------------------------------------------------------------------------------

    def _outputs(self, number: int) -> dict[str, Array]:
        """Outputs and states after `number` passes."""
        if number not in self.known:
            self.known[number] = _outputs(
                self.modules[number], self.inputs, self.entry, dict(self.state)
            )
        return self.known[number]

    def _differing(self, first: int, last: int) -> tuple[Step, ...]:
        """The outputs that differ too much after `first` and after `last` passes."""
        return tuple(self._steps(first, last, self._outputs(first), self._outputs(last)))

    def _steps(
        self, first: int, last: int, old: Mapping[str, Array], new: Mapping[str, Array]
    ) -> Iterator[Step]:
        """The tensors that differ more than the passes between may make them."""
        exact = all(each.keeps_bits for each in self.passes[first:last])
        for name, before, after in compare.aligned_tensors(old, new):
            step = compare.compare_arrays(name, "graph", "npu", before, after)
            if not step.agrees and (exact or noise(before, after) > self.tolerance):
                yield step

    def _between(self, first: int, last: int) -> Culprit:
        """The pass to blame, where what is computed after `first` and `last` passes differs."""
        low, high = first, last
        while high - low > 1:
            middle = (low + high) // 2
            if self._differing(low, middle):
                high = middle
            else:
                low = middle
        return self._culprit(low, self._differing(low, low + 1), self._first(low))

    def _first(self, number: int) -> Step | None:
        """The first tensor that pass `number` changes."""
        found = self._steps(number, number + 1, self._tensors(number), self._tensors(number + 1))
        return next((s for s in found if not s.source.startswith((taps.OUTPUT, taps.STATE))), None)

    def _tensors(self, number: int) -> dict[str, Array]:
        module = self.modules[number]
        level = levels.level(module) or "graph"
        return taps.level(level, module, self.inputs, entry=self.entry, state=self.state)

    def _culprit(
        self,
        number: int,
        outputs: tuple[Step, ...] = (),
        step: Step | None = None,
        problem: str = "",
    ) -> Culprit:
        each = self.passes[number]
        return Culprit(each.spec, number, len(self.passes), each.level, outputs, step, problem)


def _outputs(
    module: ModuleOp, inputs: Sequence[Array], entry: str | None, state: dict[str, Array]
) -> dict[str, Array]:
    """Outputs and new states of a module at any level."""
    outputs = api.execute(module, inputs, entry=entry, state=state)
    named = {taps.OUTPUT + name: array for name, array in outputs.items()}
    return named | {taps.STATE + name: array for name, array in state.items()}


def noise(old: Array, new: Array) -> float:
    """Root of the mean square of the difference, of that of `old`; infinite where NaNs or
    infinities differ.
    """
    before, after = old.astype(np.float64), new.astype(np.float64)
    special = ~(np.isfinite(before) & np.isfinite(after))
    if not compare.same(before[special], after[special]).all():
        return float("inf")
    gap, signal = (after - before)[~special], before[~special]
    if not gap.size or not gap.any():
        return 0.0
    power = float(np.mean(signal**2))
    return float(np.sqrt(np.mean(gap**2) / power)) if power else float("inf")
