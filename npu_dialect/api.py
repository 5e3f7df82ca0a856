"""The compiler as functions: load a model, lower it, assemble a program, simulate it.

module = load("model.onnx", target="edge256")
lower(module, until="npu")
program = assemble(module)
run = simulate(program, {"image": x})
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, MutableMapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast, overload

from xdsl.dialects.builtin import ModuleOp, StringAttr, UnitAttr

from npu_dialect import files, levels, pipeline, text, universe
from npu_dialect.collector import rarely_collecting
from npu_dialect.diagnostics import Code, CompileError, error
from npu_dialect.graph.attributes import EXACT
from npu_dialect.graph.entries import merge
from npu_dialect.graph.states import check as check_states
from npu_dialect.graph.states import feed_back, states_of
from npu_dialect.levels import Level, level
from npu_dialect.pipeline import DEFAULT_OPTIONS, Options, PassRun
from npu_dialect.target import Target, TargetError, load_target

if TYPE_CHECKING:
    from npu_dialect.ports import Array, Inputs
    from npu_dialect.quantization import Outcome, Quantization
    from npu_dialect.runtime.buckets import Buckets
    from npu_dialect.runtime.program import Program
    from npu_dialect.runtime.run import Run

Shapes = Mapping[str, Sequence[int]]
AnyShapes = Shapes | Mapping[str, Shapes]
"""By input; or by entry, then by input."""

DEFAULT_TARGET = "edge256"


@rarely_collecting()
def load(
    source: Any,
    target: str | Path | None = None,
    *,
    shapes: AnyShapes | None = None,
    overrides: str | Path | None = None,
    example_inputs: Any = None,
    states: Mapping[str, str] | None = None,
    exact: bool = False,
) -> ModuleOp:
    """The module of a model, carrying its target.

    `source` is the path of an `.onnx`, `.pt2`, `.tflite` or `.mlir` file (of this IR, or of TOSA),
    an `onnx.ModelProto`, a `torch.export.ExportedProgram`, a `torch.nn.Module` with
    `example_inputs` (a tuple of positional ones, or a mapping of keyword ones) to capture it with,
    or a module already.
    A mapping of such sources is a module with several entries, which share constants and states.
    `target` is a name (`edge256`) or the path of a target file; a `.mlir` file may carry its own.
    `shapes` binds the symbolic dimensions of inputs, by input name; for each of several entries
    apart, by the entry's name first. `overrides` is a file of
    decisions to take instead of the compiler's (`npu_dialect.overrides`). `states` makes inputs and
    outputs states of the program, which it keeps from run to run: names of inputs to those of the
    outputs that they are next (`npu_dialect.graph.states`). `exact` leaves functions of floats to
    the host that a target without floats would compute in fixed point, within a step of the result.
    Raises CompileError for what is malformed.
    """
    if isinstance(source, Mapping):
        each = cast("Mapping[str, Any]", source)
        _check_entries(each, shapes, example_inputs)
        given = cast("Mapping[str, Any]", example_inputs or {})
        parts = {n: _import(s, _shapes_of(shapes, n), given.get(n)) for n, s in each.items()}
        module = merge(parts)
    else:
        module = _import(source, _shapes_of(shapes), example_inputs)
    if states:
        _feed_back(module, states)
    if overrides is not None:
        from npu_dialect.overrides import apply

        apply(module, overrides)
    if exact:
        module.attributes[EXACT] = UnitAttr()
    if target is not None:
        set_target(module, target)
    return module


def _check_entries(sources: Mapping[str, Any], shapes: AnyShapes | None, examples: Any) -> None:
    """Raise CompileError (NPU0004) unless there are entries, and what is given by entry is so."""
    names = ", ".join(map(str, sources)) or "none"
    keys: list[Any] = list(sources)
    if not keys or not all(isinstance(name, str) and name for name in keys):
        rule = "entries must be models by name, one or more"
        raise error(Code.OPTION, rule, found=names, remedy='{"main": model}', source="load")
    remedy = f'{{"{next(iter(sources))}": (x,)}}'
    if examples is not None and not isinstance(examples, Mapping):
        rule = f"the example inputs of several entries must be given by entry ({names})"
        raise error(Code.OPTION, rule, found=type(examples).__name__, remedy=remedy,
                    source="example_inputs")  # fmt: skip
    by_entry = [n for n, each in (shapes or {}).items() if isinstance(each, Mapping)]
    by_example = cast("Mapping[str, Any]", examples or {})
    for what, given in (("example_inputs", by_example), ("shapes", by_entry)):
        unknown = [str(name) for name in given if name not in sources]
        if unknown:
            rule = f"what is given by entry must be for one of {names}"
            raise error(Code.OPTION, rule, found=", ".join(unknown), remedy=remedy, source=what)


def _shapes_of(shapes: AnyShapes | None, entry: str | None = None) -> Shapes | None:
    """The shapes of the inputs of an entry: those that are its own, and those for all.

    Raises CompileError (NPU0004) for shapes by entry where there is one model without a name.
    """
    given = cast("Mapping[str, Any]", shapes or {})
    by_entry = {n: cast("Shapes", each) for n, each in given.items() if isinstance(each, Mapping)}
    if entry is None and by_entry:
        rule = "shapes by entry must go with models by entry"
        found = ", ".join(by_entry)
        raise error(Code.OPTION, rule, found=found, remedy='{"main": model}', source="shapes")
    common = {n: each for n, each in given.items() if n not in by_entry}
    own = by_entry.get(entry or "", {})
    return {**common, **own} or None


def _import(source: Any, shapes: Shapes | None, example_inputs: Any) -> ModuleOp:
    if not _is_torch_module(source):
        return _load(source, shapes)
    if shapes:
        raise error(
            Code.SHAPE_BINDING,
            "the shapes of an nn.Module must be those of its example inputs",
            found=f"shapes of {', '.join(shapes)}",
            remedy="example inputs of these shapes",
            source="shapes",
        )
    return _capture(source, example_inputs)


def _feed_back(module: ModuleOp, names: Mapping[str, str]) -> None:
    """Make inputs and outputs states, in every entry that has such an input."""
    if level(module) in ("tile", "npu"):
        raise error(
            Code.LEVEL,
            "states must be declared before a module is lowered to tile",
            found=f"a module at level {level(module)}",
            remedy="lowering the model again with them",
        )
    entries = levels.entries(module)
    for entry in entries:
        known = set(levels.input_names(entry)) if len(entries) > 1 else set(names)
        feed_back(entry, {n: names[n] for n in names if n in known})
    declared = {state.name for entry in entries for state in states_of(entry)}
    for name in names:
        if name not in declared:
            raise error(
                Code.INPUT_NAMES,
                "a state must be an input of an entry",
                found=f"{name}, which no entry has",
                source=f"state {name}",
            )
    check_states(module)


def set_target(module: ModuleOp, name: str | Path) -> Target:
    """Record the target in the module.

    Raises CompileError: NPU0301 and NPU0302 for the target, NPU0206 for a module that has been
    lowered for another one.
    """
    from npu_dialect.npu.attributes import TargetAttr

    target = find_target(name)
    before = module.attributes.get("npu.target")
    after = TargetAttr(str(name))
    if before not in (None, after) and level(module) in ("tile", "npu"):
        raise error(
            Code.LEVEL,
            "the target must be chosen before a module is lowered to tile",
            found=f"a module at level {level(module)} for {before}",
            remedy="lowering the model again for this target",
        )
    module.attributes["npu.target"] = after
    return target


def find_target(name: str | Path) -> Target:
    """The target of a name or file. Raises CompileError (NPU0301, NPU0302)."""
    try:
        return load_target(name)
    except TargetError as problem:
        is_file = Path(name).suffix == ".toml" and Path(name).exists()
        code = Code.TARGET_FILE if is_file else Code.TARGET_UNKNOWN
        raise error(code, str(problem), source="target") from problem


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


def _is_torch_module(source: Any) -> bool:
    """Whether this is an `nn.Module`; without importing torch, which made it if it is one."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(source, torch.nn.Module)


def _capture(module: Any, example_inputs: Any) -> ModuleOp:
    from npu_dialect.frontends import torch

    return torch.load_module(module, *_arguments(example_inputs))


def _arguments(example_inputs: Any) -> tuple[Sequence[Any], Mapping[str, Any]]:
    """Positional and keyword ones."""
    if isinstance(example_inputs, Mapping):
        return (), cast("Mapping[str, Any]", example_inputs)
    if example_inputs is None:
        return (), {}
    if isinstance(example_inputs, tuple | list):
        return cast("Sequence[Any]", example_inputs), {}
    return (example_inputs,), {}


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
    if not _is_torch_module(source):
        raise error(
            Code.OPTION,
            "dynamic_shapes must go with an nn.Module and example inputs",
            found=type(source).__qualname__,
            remedy="shapes={...}, which binds the sizes of a model",
            source="dynamic_shapes",
        )
    from npu_dialect.frontends.torch.dynamic import Family
    from npu_dialect.runtime.buckets import Buckets

    family = Family(source, *_arguments(example_inputs), dynamic_shapes)

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


def _load(source: Any, shapes: Shapes | None) -> ModuleOp:
    if isinstance(source, ModuleOp):
        if shapes:
            raise _fixed_shapes("a module", "shapes")
        return source
    if isinstance(source, str | Path):
        return _load_file(Path(source), shapes)
    package = type(source).__module__.partition(".")[0]
    if package == "onnx":
        from npu_dialect.frontends import onnx

        return onnx.load(source, shapes)
    if hasattr(source, "graph_signature") and hasattr(source, "run_decompositions"):
        from npu_dialect.frontends import torch

        return torch.load(source, shapes)
    raise error(
        Code.FILE_KIND,
        "a model must be a path, an onnx.ModelProto, a torch.export.ExportedProgram or a module",
        found=f"{type(source).__module__}.{type(source).__qualname__}",
        source="load",
    )


def _load_file(path: Path, shapes: Shapes | None) -> ModuleOp:
    match path.suffix:
        case ".onnx":
            from npu_dialect.frontends import onnx

            return onnx.load(path, shapes)
        case ".mlir":
            with text.side_data(path):
                return text.parse_model(files.read_text(path), str(path), shapes)
        case ".pt2":
            from npu_dialect.frontends import torch

            return torch.load_file(path, shapes)
        case ".tflite":
            from npu_dialect.frontends import tflite

            return tflite.load(path, shapes)
        case suffix:
            files.read_bytes(path)  # a file that is missing is reported as that
            raise error(
                Code.FILE_KIND,
                "a model must be an .onnx, .pt2, .tflite or .mlir file",
                found=f"the suffix {suffix!r}",
                source=str(path),
            )


def _fixed_shapes(what: str, source: str) -> CompileError:
    return error(
        Code.SHAPE_BINDING,
        "shapes must be bound when a model is imported",
        found=f"{what}, whose shapes are fixed",
        source=source,
    )
