"""From a model to a module that carries its target: a file, an object of onnx or torch, or several
of them as entries.
"""

from __future__ import annotations

import fnmatch
import sys
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any, cast

from xdsl.dialects.builtin import ModuleOp, UnitAttr

from npu_dialect import files, levels, text
from npu_dialect.collector import rarely_collecting
from npu_dialect.diagnostics import Code, CompileError, error
from npu_dialect.graph.attributes import EXACT
from npu_dialect.graph.entries import merge
from npu_dialect.graph.states import check as check_states
from npu_dialect.graph.states import feed_back, states_of
from npu_dialect.kernel import MICRO_OPS
from npu_dialect.levels import level
from npu_dialect.target import Target, TargetError, load_target, target_names

Shapes = Mapping[str, Sequence[int]]
AnyShapes = Shapes | Mapping[str, Shapes]
"""By input; or by entry, then by input."""


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
    if not is_torch_module(source):
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
        target = load_target(name)
    except TargetError as problem:
        is_file = Path(name).suffix == ".toml" and Path(name).exists()
        if is_file:
            raise error(Code.TARGET_FILE, str(problem), source="target") from problem
        near = " or ".join(get_close_matches(str(name), target_names(), 1))
        raise error(Code.TARGET_UNKNOWN, str(problem), remedy=near, source="target") from problem
    _check_micro_ops(target, str(name))
    return target


def _check_micro_ops(target: Target, name: str) -> None:
    """Refuse patterns that no micro-operation fits: what they mean would run on the host."""
    patterns = {"array.output_stage": target.array.output_stage,
                "vector.micro_ops": target.vector.micro_ops}  # fmt: skip
    for where, each in patterns.items():
        for pattern in each:
            if not fnmatch.filter(MICRO_OPS, pattern):
                near = " or ".join(get_close_matches(pattern, MICRO_OPS, 1))
                rule = f"{name}: {where} must hold patterns of micro-operations that there are"
                raise error(Code.TARGET_FILE, rule, found=pattern, remedy=near, source="target")


def is_torch_module(source: Any) -> bool:
    """Whether this is an `nn.Module`; without importing torch, which made it if it is one."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(source, torch.nn.Module)


def _capture(module: Any, example_inputs: Any) -> ModuleOp:
    from npu_dialect.frontends import torch

    return torch.load_module(module, *arguments(example_inputs))


def arguments(example_inputs: Any) -> tuple[Sequence[Any], Mapping[str, Any]]:
    """The positional and the keyword arguments that example inputs are."""
    if isinstance(example_inputs, Mapping):
        return (), cast("Mapping[str, Any]", example_inputs)
    if example_inputs is None:
        return (), {}
    if isinstance(example_inputs, tuple | list):
        return cast("Sequence[Any]", example_inputs), {}
    return (example_inputs,), {}


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
