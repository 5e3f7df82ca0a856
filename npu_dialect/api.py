"""The compiler as functions: load a model, lower it, assemble a program, simulate it.

module = load("model.onnx", target="edge256")
lower(module, until="npu")
program = assemble(module)
run = simulate(program, {"image": x})
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, MutableMapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

from xdsl.dialects.builtin import ModuleOp, StringAttr

from npu_dialect import levels, pipeline, universe
from npu_dialect.collector import rarely_collecting
from npu_dialect.diagnostics import Code, error
from npu_dialect.graph.states import states_of
from npu_dialect.levels import Level, level
from npu_dialect.loading import AnyShapes, arguments, is_torch_module
from npu_dialect.loading import find_target as find_target
from npu_dialect.loading import load as load
from npu_dialect.loading import set_target as set_target
from npu_dialect.pipeline import DEFAULT_OPTIONS, Options, PassRun

if TYPE_CHECKING:
    from npu_dialect.ports import Array, Inputs
    from npu_dialect.quantization import Outcome, Quantization
    from npu_dialect.runtime.buckets import Buckets
    from npu_dialect.runtime.program import Program
    from npu_dialect.runtime.run import Run

DEFAULT_TARGET = "edge256"


def remaining(module: ModuleOp, until: Level) -> tuple[Level, ...]:
    """The levels whose pipelines bring the module to `until`. Raises CompileError (NPU0206)."""
    every: tuple[Level, ...] = ("graph", "tile", "npu")
    if until not in every:
        raise error(Code.LEVEL, f"a level must be one of {', '.join(every)}", found=until)
    reached = level(module)
    first = 0 if reached is None else every.index(reached) + 1
    if first > every.index(until) + 1:
        raise error(
            Code.LEVEL, f"the module must not be below {until} already", found=f"level {reached}"
        )
    return every[first : every.index(until) + 1]


@rarely_collecting()
def lower(
    module: ModuleOp,
    until: Level = "npu",
    *,
    options: Options = DEFAULT_OPTIONS,
    on_level: Callable[[Level, ModuleOp], None] | None = None,
) -> list[PassRun]:
    """Bring a module to the level `until`, in place, verified after every pass.

    What runs is `universe.pipeline(level)` of each level in turn; `npu-opt -p` runs the same by
    hand. `on_level` sees the module at the end of each. Raises CompileError.
    """
    from npu_dialect.passes.quantizing import types

    context = universe.NpuContext()
    if "npu.target" not in module.attributes:
        set_target(module, DEFAULT_TARGET)
    runs: list[PassRun] = []
    for each in remaining(module, until):
        spec = universe.pipeline(each)
        runs += pipeline.run(module, spec, context, options, verified=bool(runs))
        module.attributes["npu.level"] = StringAttr(each)
        if level(module) != each:
            raise error(
                Code.LEVEL,
                f"the pipeline {each} must end at level {each}",
                found=f"level {level(module)}",
                source=spec or "an empty pipeline",
            )
        if each == "graph":
            types.record(module)
        if on_level:
            on_level(each, module)
    return runs


def quantize(
    module: ModuleOp, wanted: Quantization, *, options: Options = DEFAULT_OPTIONS
) -> Outcome:
    """Make integers of a float module that `load` gave, in place, before it is lowered; see
    `npu_dialect.quantization`. Raises CompileError.
    """
    from npu_dialect import quantization
    from npu_dialect.passes.targets import module_target

    if "npu.target" not in module.attributes:
        set_target(module, DEFAULT_TARGET)
    return quantization.quantize(module, wanted, module_target(module), options)


@rarely_collecting()
def assemble(module: ModuleOp) -> Program:
    """The program of a module at level `npu`, proved by npu-verify. Raises CompileError."""
    from npu_dialect.runtime.program import Program

    if level(module) != "npu":
        raise error(
            Code.LEVEL,
            "a module must be at level npu to be assembled",
            found=f"level {level(module)}",
            remedy='lower(module, until="npu") first',
        )
    return Program.from_module(module)


def build(module: ModuleOp, *, options: Options = DEFAULT_OPTIONS) -> Program:
    """Lower and assemble in one step, or the program that is kept from when the same module was
    compiled before (`npu_dialect.program_cache`). Always compiles where `options` print IR.

    The module is used up. Raises CompileError.
    """
    from npu_dialect import program_cache
    from npu_dialect.diagnostics import Diagnostic, collect

    if "npu.target" not in module.attributes:
        set_target(module, DEFAULT_TARGET)
    prints = options.print_after_all or options.print_before or options.print_after
    name = None if prints else program_cache.name(module)
    kept = None if name is None else program_cache.read(name)
    if kept is not None:
        program_cache.report(kept[1])
        return kept[0]
    records: list[Diagnostic] = []
    try:
        with collect() as records:
            lower(module, options=options)
            program = assemble(module)
    finally:
        program_cache.report(records)
    if name is not None:
        program_cache.write(name, program, records)
    return program


@overload
def compile(
    source: Any,
    inputs_or_target: Any = None,
    *,
    target: str | Path | None = None,
    shapes: AnyShapes | None = None,
    overrides: str | Path | None = None,
    exact: bool = False,
    states: Mapping[str, str] | None = None,
    quantize: str | Quantization | None = None,
    calibrate: Any = None,
    options: Options = DEFAULT_OPTIONS,
) -> Program: ...


@overload
def compile(
    source: Any,
    inputs_or_target: Any = None,
    *,
    target: str | Path | None = None,
    overrides: str | Path | None = None,
    exact: bool = False,
    options: Options = DEFAULT_OPTIONS,
    dynamic_shapes: Any,
    buckets: Mapping[str, Sequence[int]] | None = None,
    pad: Sequence[str] = (),
) -> Buckets: ...


def compile(  # the name that users look for
    source: Any,
    inputs_or_target: Any = None,
    *,
    target: str | Path | None = None,
    shapes: AnyShapes | None = None,
    overrides: str | Path | None = None,
    exact: bool = False,
    states: Mapping[str, str] | None = None,
    quantize: str | Quantization | None = None,
    calibrate: Any = None,
    options: Options = DEFAULT_OPTIONS,
    dynamic_shapes: Any = None,
    buckets: Mapping[str, Sequence[int]] | None = None,
    pad: Sequence[str] = (),
) -> Program | Buckets:
    """Load, lower and assemble in one step; the target is edge256 unless stated.

    compile("model.onnx", "edge256")
    compile({"prefill": "p.onnx", "decode": "d.onnx"}, states={"past": "present"})
    compile(torch_module, (x,), target="mobile4k")  # captured with example inputs
    compile("float.onnx", "edge256", quantize="int8", calibrate=samples)
    compile(torch_module, (x,), dynamic_shapes={"x": {0: "batch"}}, buckets={"batch": [1, 8]})

    `quantize` is a scheme, `auto` or a `Quantization` with more options; `calibrate` has samples: a
    path, arrays by name, an iterable of inputs, or a function that gives one.
    The last gives a program for each size (`runtime.buckets`); `pad` names sizes that may lie
    between the buckets.
    """
    example_inputs = None
    if inputs_or_target is None or isinstance(inputs_or_target, str | Path):
        target = target or inputs_or_target
    else:
        example_inputs = inputs_or_target
    others = {"buckets": buckets, "pad": pad} if dynamic_shapes is None else {
        "states": states, "shapes": shapes, "quantize": quantize}  # fmt: skip
    _check_absent(others, dynamic_shapes)
    if dynamic_shapes is not None:
        return _buckets(
            source,
            example_inputs,
            target,
            overrides,
            exact,
            options,
            dynamic_shapes,
            buckets or {},
            pad,
        )
    module = load(
        source,
        target,
        shapes=shapes,
        overrides=overrides,
        example_inputs=example_inputs,
        states=states,
        exact=exact,
    )
    _quantize(module, quantize, calibrate, options)
    return build(module, options=options)


def _quantize(
    module: ModuleOp, wanted: str | Quantization | None, calibrate: Any, options: Options
) -> None:
    from dataclasses import replace

    from npu_dialect.overrides import check_precisions
    from npu_dialect.quantization import Quantization

    if wanted is None:
        if calibrate is not None:
            rule = "samples must go with a scheme to quantize to"
            raise error(Code.OPTION, rule, found="calibrate alone", remedy='quantize="int8"',
                        source="compile")  # fmt: skip
        check_precisions(module)
        return
    if not isinstance(wanted, Quantization):
        wanted = Quantization(wanted)
    if calibrate is not None:
        wanted = replace(wanted, samples=calibrate)
    quantize(module, wanted, options=options)


def _check_absent(others: Mapping[str, Any], dynamic_shapes: Any) -> None:
    """Refuse options that mean nothing with `dynamic_shapes`, or without."""
    for name, value in others.items():
        if value:
            without = dynamic_shapes is None
            raise error(
                Code.OPTION,
                f"{name} must come {'with' if without else 'without'} dynamic_shapes",
                found=f"{name}={value}",
                remedy='dynamic_shapes={"x": {0: "batch"}}' if without else f"no {name}",
                source=name,
            )


def simulate(
    program: Program,
    inputs: Inputs,
    *,
    trace: bool = False,
    entry: str | None = None,
    state: Mapping[str, Array] | None = None,
    seed: int | None = None,
    tier: str = "auto",
    strict: bool = False,
    threads: int = 1,
) -> Run:
    """Run a program: outputs by name, cycles, seconds, joules, layers.

    `inputs` are arrays by name, or in order, or the only one. States start from their initial
    content, or from `state`, and `Run.state` is what they are after; a `Session` keeps them from
    run to run. `entry` names one of several entries (default: `main`).

    Any order of execution that the program's waits permit gives the same bits: `seed` picks one at
    random. So does any `tier`, and any number of `threads` (`runtime.simulator.simulate` explains
    them). Raises CompileError for inputs that do not fit.
    """
    from npu_dialect.runtime import simulator

    return simulator.simulate(
        program,
        inputs,
        seed,
        trace,
        entry=entry,
        state=state,
        tier=tier,
        strict=strict,
        threads=threads,
    )


def simulate_all(
    program: Program,
    samples: Iterable[Inputs],
    *,
    jobs: int | None = None,
    tier: str = "auto",
    strict: bool = False,
    threads: int = 1,
    seed: int | None = None,
    entry: str | None = None,
    sequence: bool = False,
    state: Mapping[str, Array] | None = None,
) -> Iterator[Run]:
    """Run a program on many inputs, one after the other or `jobs` at once; the runs in order.

    States start anew for every sample, from their initial content or from `state`; with `sequence`
    the samples are steps of one stream, each from the states that the one before left. Samples are
    taken as they are needed, so that they may come from a generator:

        for run in simulate_all(program, ({"image": load(p)} for p in paths)):
            ...
    """
    from npu_dialect.runtime.stream import map_inputs

    return map_inputs(
        program,
        samples,
        jobs=jobs,
        tier=tier,
        strict=strict,
        threads=threads,
        seed=seed,
        entry=entry,
        sequence=sequence,
        state=state,
    )


def execute(
    module: ModuleOp,
    inputs: Inputs,
    *,
    entry: str | None = None,
    state: MutableMapping[str, Array] | None = None,
    seed: int | None = None,
) -> dict[str, Array]:
    """Run a module at the level it is at; the outputs by name.

    `graph` evaluates its operations, `tile` is interpreted, `npu` is assembled and simulated.
    `state` has the contents of the states by name, and after the call the new ones; those that it
    lacks, or all without it, start from their initial content.
    """
    from npu_dialect.ports import bind

    reached = level(module)
    if reached == "npu":
        found = simulate(assemble(module), inputs, entry=entry, state=state, seed=seed)
        if state is not None:
            state.update(found.state)
        return dict(found.outputs)
    run = levels.run_tile if reached == "tile" else levels.run_graph
    entry = entry or levels.entry_for(module, inputs)
    arrays = bind(levels.inputs_of(module, entry), inputs)
    results = run(module, arrays, state=state, entry=entry)
    return dict(zip(levels.output_names(module, entry), results, strict=True))


def _buckets(
    source: Any,
    example_inputs: Any,
    target: str | Path | None,
    overrides: str | Path | None,
    exact: bool,
    options: Options,
    dynamic_shapes: Any,
    buckets: Mapping[str, Sequence[int]],
    pad: Sequence[str],
) -> Buckets:
    """Programs of a module for several sizes; those of buckets are made when they are needed."""
    if not is_torch_module(source):
        raise error(
            Code.OPTION,
            "dynamic_shapes must go with an nn.Module and example inputs",
            found=type(source).__qualname__,
            remedy="shapes={...}, which binds the sizes of a model",
            source="dynamic_shapes",
        )
    from npu_dialect.frontends.torch.dynamic import Family
    from npu_dialect.runtime.buckets import Buckets

    family = Family(source, *arguments(example_inputs), dynamic_shapes)

    def make(sizes: Mapping[str, int]) -> Program:
        module = load(family.load(sizes), target, overrides=overrides, exact=exact)
        if any(states_of(entry) for entry in levels.entries(module)):
            raise error(
                Code.OPTION,
                "a model with states must have fixed shapes",
                found="buffers that forward changes",
                remedy="dynamic_shapes=None",
                source="dynamic_shapes",
            )
        lower(module, options=options)
        return assemble(module)

    return Buckets(
        make,
        family.output_shapes,
        family.dims,
        buckets,
        pad,
        ranges=family.ranges,
        inputs=family.inputs,
    )
