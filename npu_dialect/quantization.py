"""Quantization of a float model in one step: calibration on samples, then integers.

    quantize(module, Quantization("int8", "samples.npz"))

runs the pipeline that `Outcome.spec` says, which `npu-opt -p` runs as well.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from xdsl.dialects.builtin import ModuleOp
from xdsl.ir import Operation

from npu_dialect import dtypes, graph, levels, pipeline, provenance, universe
from npu_dialect.diagnostics import Code, CompileError, error, warn
from npu_dialect.graph.base import shape_of
from npu_dialect.passes.graph_assign_precision import PREPARE
from npu_dialect.passes.graph_calibrate import LEVELS
from npu_dialect.passes.graph_prune import PAIRS
from npu_dialect.passes.quantizing import calibration, samples
from npu_dialect.passes.quantizing.images import Images
from npu_dialect.passes.quantizing.precision import HALVES, able_on, lacking, scheme_named
from npu_dialect.passes.quantizing.ranges import PERCENTILE
from npu_dialect.passes.quantizing.schemes import SCHEMES, Scheme, wider
from npu_dialect.pipeline import DEFAULT_OPTIONS, Options, PassRun
from npu_dialect.target import Target

AUTO, DEFAULT_SCHEME = "auto", "int8"
MAGNITUDE = "magnitude"
DEFAULT_METHOD = "minmax"
BYTE = 8
LISTED = 5
"""Layers that a warning names."""


@dataclass(frozen=True)
class Improvement:
    """A pass that makes the quantized model better, at the cost of time."""

    spec: str
    """In `-p` syntax; `SAMPLES` and `SCHEME` stand for what it is given."""
    is_early: bool
    """Whether it comes before calibration, else between that and quantization."""
    meaning: str


IMPROVEMENTS = {
    "equalize": Improvement("graph-equalize", True, "neighbouring layers share out their ranges"),
    "smooth": Improvement(
        'graph-smooth{samples="SAMPLES"}', True, "outliers of activations go into weights"
    ),
    "bias": Improvement(
        'graph-correct-bias{samples="SAMPLES" scheme="SCHEME"}', False, "means are kept"
    ),
    "round": Improvement(
        'graph-round-weights{samples="SAMPLES" scheme="SCHEME"}',
        False,
        "weights are rounded for the least error of the sums, and means are kept",
    ),
}
"""The improvements by name, in the order in which they run."""


@dataclass(frozen=True)
class Quantization:
    """What to quantize to, and with what."""

    scheme: str = DEFAULT_SCHEME
    """A row of passes/quantizing/schemes.py, or float16 or bfloat16; or `auto`: int8 where the
    target's array multiplies no floats.
    """
    samples: samples.Source = None
    """A path, arrays by name, an iterable of samples, or a function that gives one."""
    method: str = DEFAULT_METHOD
    """How ranges follow from values (passes/quantizing/ranges.py)."""
    percent: float = PERCENTILE
    """Of the values that a range holds, with the method `percentile`."""
    statistics: str | Path | None = None
    """A file that `save_statistics` named before, instead of samples."""
    save_statistics: str | Path | None = None
    integer_io: bool = False
    """Whether inputs and outputs are integers, without conversion in the program."""
    prune: str = ""
    """Which weights become zero before: `2:4` (two of every four input channels) or a share such as
    `0.5`, by weight and input, the others made up; `magnitude:2:4` or `magnitude:0.5`, by weight.
    """
    recurrent: str = ""
    """The precision of recurrent layers, whose noise goes on from step to step; by default that of
    `scheme` with activations of 16 bits, where the target has it. Not with `budget`.
    """
    images: Images = field(default_factory=Images)
    """How the images in a folder of samples become inputs."""
    improve: Sequence[str] = ()
    """Names of `IMPROVEMENTS`, or one string with commas between them."""
    budget: float | None = None
    """Signal to noise in dB that the outputs shall keep: each layer gets the cheapest precision
    with which they do (graph-assign-precision).
    """
    objective: str = "cycles"
    """What is cheap: `cycles` or `energy`."""
    save_precisions: str | Path | None = None
    """An overrides file to write, of what `budget` chose."""

    def __post_init__(self) -> None:
        if isinstance(self.improve, str):
            names = tuple(n for name in self.improve.split(",") if (n := name.strip()))
            object.__setattr__(self, "improve", names)


@dataclass(frozen=True)
class Outcome:
    """What quantizing a module did."""

    scheme: str
    """Empty where `auto` had nothing to do; `note` says why."""
    note: str
    spec: str = ""
    """The pipeline that ran."""
    runs: tuple[PassRun, ...] = ()


def quantize(
    module: ModuleOp, wanted: Quantization, target: Target, options: Options = DEFAULT_OPTIONS
) -> Outcome:
    """Make integers of a float module that was just imported, in place.

    Raises CompileError for a scheme that there is not, or that the target lacks, for a module that
    is quantized or lowered already, and for samples that do not fit.
    """
    note = _needless(module, wanted, target)
    if note:
        return Outcome("", note)
    scheme = scheme_of(wanted)
    _check(module, wanted, scheme, target)
    found = _samples(module, wanted)
    count = f"{len(found)} sample{'s' if len(found) > 1 else ''}"
    better = f", {' and '.join(wanted.improve)}" if wanted.improve else ""
    better += f", pruned {wanted.prune}" if wanted.prune else ""
    better += f", mixed for {wanted.budget:g} dB" if wanted.budget is not None else ""
    note = f"{scheme}, ranges by {wanted.method} of {count if found else wanted.statistics}{better}"
    if scheme in HALVES:
        note = f"{scheme}{better}"
    wanted = replace(wanted, recurrent=recurrent_of(wanted, target))
    spec, runs = _run(module, wanted, found, options, whole=True)
    if scheme in SCHEMES:
        _tell_of_bytes(module, SCHEMES[scheme], target)
    return Outcome(scheme, note, spec, tuple(runs))


def prepare(
    module: ModuleOp, wanted: Quantization, options: Options = DEFAULT_OPTIONS
) -> list[PassRun]:
    """Bring a float module to what the ranges are of, in place: the one to compare with."""
    return _run(module, wanted, _samples(module, wanted), options, whole=False)[1]


def scheme_of(wanted: Quantization) -> str:
    """The scheme where there is something to quantize."""
    return DEFAULT_SCHEME if wanted.scheme == AUTO else wanted.scheme


def recurrent_of(wanted: Quantization, target: Target) -> str:
    """The precision of recurrent layers; empty where it is that of all others."""
    if wanted.recurrent or wanted.budget is not None or wanted.scheme in HALVES:
        return wanted.recurrent
    name = wider(scheme_of(wanted))
    return "" if name == scheme_of(wanted) or lacking(SCHEMES[name], target) else name


def _run(
    module: ModuleOp,
    wanted: Quantization,
    found: list[samples.Sample],
    options: Options,
    *,
    whole: bool,
) -> tuple[str, list[PassRun]]:
    """The pipeline, and what it did; the part before calibration unless it shall be whole."""
    with ExitStack() as stack:
        name = stack.enter_context(samples.held(found)) if found else ""
        if isinstance(wanted.samples, str | Path) and Path(wanted.samples).is_file():
            name = str(wanted.samples)  # what npu-opt can read again
        stack.enter_context(calibration.reporting(options.progress))
        steps = _early(wanted, name) + (_late(wanted, name) if whole else [])
        spec = ",".join(steps)
        return spec, pipeline.run(module, spec, universe.NpuContext(), options)


def _early(wanted: Quantization, name: str) -> list[str]:
    """The passes before calibration."""
    first, *rest = PREPARE
    if wanted.recurrent:
        first = f'{first}{{precision="{wanted.recurrent}"}}'
    return [first, *rest, *_pruning(wanted, name), *_improvements(wanted, name, early=True)]


def _pruning(wanted: Quantization, name: str) -> list[str]:
    """The pass that makes weights zero, where it shall."""
    if not wanted.prune:
        return []
    how = wanted.prune.removeprefix(f"{MAGNITUDE}:")
    given = f'structure="{PAIRS}"' if how == PAIRS else f"sparsity={float(how)!r}"
    given += f' samples="{name}"' if how == wanted.prune else ""
    return [f"graph-prune{{{given}}}"]


def _late(wanted: Quantization, name: str) -> list[str]:
    """Calibration, and what follows it."""
    calibrate = {
        "samples": "" if wanted.statistics else name,
        "method": wanted.method,
        "statistics": str(wanted.statistics or ""),
        "save": str(wanted.save_statistics or ""),
    }
    given = " ".join(f'{key}="{value}"' for key, value in calibrate.items() if value)
    percent = f" percent={wanted.percent!r}" if wanted.method == "percentile" else ""
    levels = SCHEMES.get(scheme_of(wanted), Scheme()).levels
    percent += f" levels={levels}" if levels != LEVELS else ""
    border = " integer_io=true" if wanted.integer_io else ""
    known = wanted.samples is not None or wanted.statistics
    return [
        *([f"graph-calibrate{{{given}{percent}}}"] if known else []),
        *_assignment(wanted, name),
        *_improvements(wanted, name, early=False),
        f'graph-quantize{{scheme="{scheme_of(wanted)}"{border}}}',
    ]


def _assignment(wanted: Quantization, name: str) -> list[str]:
    """The pass that chooses the precision of each layer, where there is a budget."""
    if wanted.budget is None:
        return []
    save = f' save="{wanted.save_precisions}"' if wanted.save_precisions else ""
    return [
        f'graph-assign-precision{{samples="{name}" budget={float(wanted.budget)!r} '
        f'objective="{wanted.objective}" scheme="{scheme_of(wanted)}"{save}}}'
    ]


def _improvements(wanted: Quantization, name: str, *, early: bool) -> list[str]:
    chosen = [each for key, each in IMPROVEMENTS.items() if key in wanted.improve]
    return [
        each.spec.replace("SAMPLES", name).replace("SCHEME", scheme_of(wanted))
        for each in chosen
        if each.is_early == early
    ]


def _samples(module: ModuleOp, wanted: Quantization) -> list[samples.Sample]:
    """The samples, read and checked; none where there are statistics, and no samples beside."""
    if wanted.samples is None:
        if wanted.statistics or wanted.scheme in HALVES:
            return []
        raise error(
            Code.OPTION,
            "there must be samples to calibrate with, or statistics of them",
            found="neither",
            remedy=samples.NO_SAMPLES,
            source="quantize",
        )
    return samples.gather(wanted.samples, levels.inputs_of(module), wanted.images)


def _tell_of_bytes(module: ModuleOp, scheme: Scheme, target: Target) -> None:
    """Warns of weights of 4 bits that keep a byte: all, where the target has no codec for them, and
    those of layers that the scheme does not fit.
    """
    if scheme.weight_bits >= BYTE:
        return
    codec = f"i4x{scheme.group}" if scheme.group else "i4"
    if not set(target.dma.codecs) & {codec, "i4"}:
        warn(
            Code.TARGET_LACKS,
            f"the target should have the codec {codec} (dma.codecs) for weights of 4 bits",
            found=f"{target.name} without, so that weights keep a byte each",
            remedy="the scheme int8, which is as fast there and more exact",
            source="quantize",
        )
    size = max(2, scheme.group)
    wide = dict.fromkeys(name for op in module.walk() for name in _wide(op, size))
    if wide:
        names = ", ".join(list(wide)[:LISTED]) + (" and others" if len(wide) > LISTED else "")
        warn(
            Code.APPROXIMATION,
            f"layers must have a multiple of {size} input channels for weights of 4 bits",
            found=f"{names}, whose weights keep 8 bits",
            source="quantize",
        )


def _wide(op: Operation, size: int) -> tuple[str, ...]:
    """The name of a layer whose constant weights are not packed by `size` input channels."""
    if not isinstance(op, graph.Conv2DOp | graph.MatmulOp):
        return ()
    weights = op.operands[1]
    maker = weights.owner
    if not isinstance(maker, graph.DequantizeOp):
        return ()
    is_constant = isinstance(maker.x.owner, graph.ConstantOp | graph.QuantizeOp)
    fits = shape_of(weights)[-2] % size == 0
    return provenance.sources(op)[-1:] if is_constant and not fits else ()


# --- what is refused ------------------------------------------------------------------------------


def _needless(module: ModuleOp, wanted: Quantization, target: Target) -> str:
    """Why `auto` has nothing to do; empty where it has, or where a scheme is named."""
    if wanted.scheme != AUTO:
        return ""
    if dtypes.f32.name in target.array.macs:
        return f"{target.name} computes with floats"
    return "the model is quantized already" if is_quantized(module) else ""


def is_quantized(module: ModuleOp) -> bool:
    """Whether a module holds quantized tensors."""
    kinds = (graph.QuantizeOp, graph.DequantizeOp, graph.RequantizeOp)
    return any(isinstance(op, kinds) for op in module.walk())


def _check(module: ModuleOp, wanted: Quantization, scheme: str, target: Target) -> None:
    if scheme not in (*SCHEMES, *HALVES):
        rule = f"a scheme must be one of {', '.join((AUTO, *SCHEMES, *HALVES))}"
        raise _refusal(rule, scheme, DEFAULT_SCHEME)
    for name in wanted.improve:
        if name not in IMPROVEMENTS:
            rule = f"an improvement must be one of {', '.join(IMPROVEMENTS)}"
            raise _refusal(rule, name, "bias")
        if wanted.samples is None and "SAMPLES" in IMPROVEMENTS[name].spec:
            rule = f"the improvement {name} must have samples beside statistics"
            raise _refusal(rule, "none", samples.NO_SAMPLES)
    _check_numbers(wanted)
    _check_recurrent(wanted, target)
    _check_pruning(wanted)
    if wanted.budget is not None and wanted.samples is None:
        rule = "a budget must come with samples that the noise is measured on"
        raise _refusal(rule, "none", samples.NO_SAMPLES)
    if levels.level(module) is not None:
        rule = "a module must be quantized before it is lowered"
        raise error(Code.LEVEL, rule, found=f"level {levels.level(module)}", source="quantize")
    if is_quantized(module):
        raise _refusal(
            "a model must be of floats to be quantized",
            "one with quantized tensors",
            "compiling it as it is, or the scheme auto",
        )
    if len(levels.entries(module)) > 1:
        names = ", ".join(f.sym_name.data for f in levels.entries(module))
        raise _refusal("a module must have one entry to be quantized", names, "one at a time")
    _check_target(scheme, target)


def _check_target(scheme: str, target: Target) -> None:
    found = lacking(scheme_named(scheme, "quantize"), target)
    if found:
        able = able_on(target)
        raise error(
            Code.TARGET_LACKS,
            f"the target must have what the scheme {scheme} needs",
            found=f"{target.name} without {found}",
            remedy=f"the scheme {', '.join(able)}" if able else "another target",
            source="quantize",
        )


def _check_pruning(wanted: Quantization) -> None:
    """Refuses what is no way to prune, and one by inputs without them."""
    if not wanted.prune:
        return
    how = wanted.prune.removeprefix(f"{MAGNITUDE}:")
    if how != PAIRS:
        try:
            share = float(how)
        except ValueError:
            share = math.nan
        if not 0 <= share < 1:
            rule = f"prune must be {PAIRS} or a share from 0 to below 1, or that with {MAGNITUDE}:"
            raise _refusal(rule, wanted.prune, f"{PAIRS}, 0.5 or {MAGNITUDE}:0.5")
    if how == wanted.prune and wanted.samples is None:
        rule = "weights are pruned by inputs, and must have samples of them"
        raise _refusal(rule, "none", f"{MAGNITUDE}:{how}, or {samples.NO_SAMPLES}")


def _check_recurrent(wanted: Quantization, target: Target) -> None:
    """Refuses a precision of recurrent layers that there is not, or that would be ignored."""
    if wanted.recurrent and wanted.budget is not None:
        rule = "with a budget, recurrent layers get the precision that it needs"
        raise _refusal(rule, f"{wanted.recurrent} for them", "one of the two")
    if wanted.recurrent in SCHEMES:
        _check_target(wanted.recurrent, target)
    elif wanted.recurrent:
        rule = f"the precision of recurrent layers must be one of {', '.join(SCHEMES)}"
        raise _refusal(rule, wanted.recurrent, "int16x8")


def _check_numbers(wanted: Quantization) -> None:
    """Refuses numbers that mean nothing, and what would be ignored."""
    if wanted.scheme in HALVES and (wanted.integer_io or wanted.budget is not None):
        what = "integers at its border" if wanted.integer_io else "a budget"
        rule = "a model of floats of 16 bits can have neither integers at its border nor a budget"
        raise _refusal(rule, f"{wanted.scheme} with {what}", DEFAULT_SCHEME)
    if wanted.budget is not None and not math.isfinite(wanted.budget):
        raise _refusal("a budget must be a finite number of decibels", wanted.budget, "30")
    if not 0 < wanted.percent <= 100:
        rule = "percent must be above 0 and at most 100"
        raise _refusal(rule, wanted.percent, f"{PERCENTILE}")
    if wanted.percent != PERCENTILE and wanted.method != "percentile":
        rule = "percent must go with the method percentile"
        raise _refusal(rule, f"the method {wanted.method}", "the method percentile")
    prunes = bool(wanted.prune) and not wanted.prune.startswith(MAGNITUDE)
    on_samples = prunes or any("SAMPLES" in IMPROVEMENTS[name].spec for name in wanted.improve)
    both = wanted.statistics and wanted.samples is not None
    if both and wanted.budget is None and not on_samples:
        rule = "ranges must come either from samples or from statistics of them"
        raise _refusal(rule, "both, and nothing else that samples are for", "one of the two")


def _refusal(rule: str, found: Any, remedy: str) -> CompileError:
    return error(Code.OPTION, rule, found=found, remedy=remedy, source="quantize")
