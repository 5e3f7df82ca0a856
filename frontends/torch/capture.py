"""From an `nn.Module` or a `.pt2` file to an exported program."""

from __future__ import annotations

import copy
import re
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from xdsl.dialects.builtin import ModuleOp, StringAttr

from npu_dialect import files
from npu_dialect.diagnostics import Code, error, remark, warn
from npu_dialect.frontends.onnx.errors import one_line
from npu_dialect.frontends.torch import diagnose, importer
from npu_dialect.frontends.torch.package import quiet, torch

CAPTURE = "npu.capture"
"""The attribute of a module that says how it was captured."""

MODES = {"non-strict": False, "strict": True}


def read(path: Path) -> Any:
    """The program of a `.pt2` file. Raises CompileError."""
    files.read_bytes(path)  # a file that is missing is reported as that
    try:
        with quiet(everything=True):
            return torch().export.load(str(path))
    except Exception as problem:
        raise error(
            Code.MODEL_MALFORMED,
            "a .pt2 file must be one that torch.export.save wrote",
            found=one_line(f"{type(problem).__name__}: {problem}"),
            remedy="exporting the model again, or checking that the file is complete",
            source=str(path),
        ) from problem


def load(module: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> ModuleOp:
    """The module captured with example inputs and imported."""
    program, mode = capture(module, args, kwargs)
    result = importer.load(program, type(module).__name__)
    result.attributes[CAPTURE] = StringAttr(mode)
    return result


def capture(
    module: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any], dynamic_shapes: Any = None
) -> tuple[Any, str]:
    """The exported program, and how it was captured: non-strict, or else strict.

    `dynamic_shapes` are those of `torch.export.export`. Raises CompileError (NPU0004, NPU0110).
    """
    if not args and not kwargs:
        raise error(
            Code.OPTION,
            "an nn.Module must come with example inputs",
            found="none",
            remedy="compile(module, (x,), target=...)",
            source=type(module).__name__,
        )
    options = {"dynamic_shapes": dynamic_shapes} if dynamic_shapes else {}
    failures: dict[str, Exception] = {}
    with _in_eval(module):
        for mode, strict in MODES.items():
            try:
                with quiet(everything=True) as warnings:
                    program = torch().export.export(
                        module, args, dict(kwargs), strict=strict, **options
                    )
            except Exception as problem:
                failures[mode] = problem
            else:
                if strict:
                    _refuse_assigned(module, args, kwargs)
                _report(module, mode, failures)
                _warn_of_attributes(module, warnings)
                return program, mode
        raise diagnose.refusal(module, args, kwargs, list(failures.values()))


def _report(module: Any, mode: str, failures: Mapping[str, Exception]) -> None:
    before = [f"{other} failed: {text}" for other, text in failures.items()]
    remark(
        Code.CAPTURED,
        f"captured by torch.export, {mode}",
        found=one_line("; ".join(before)),
        source=type(module).__name__,
    )


ASSIGNED = re.compile(r"The tensor attributes? (.*?) (?:was|were) assigned during export")


def _warn_of_attributes(module: Any, warnings: Sequence[str]) -> None:
    """Tensors that forward keeps in attributes are lost; those in buffers would be states."""
    for found in filter(None, map(ASSIGNED.search, warnings)):
        warn(
            Code.APPROXIMATION,
            "tensors that forward keeps for the next call must be buffers, and others are lost",
            found=found[1],
            remedy="register_buffer in __init__: buffers that change are states of the program",
            source=type(module).__name__,
        )


def _refuse_assigned(module: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
    """A strict capture loses the buffers that forward assigns: the module is run once to see them.

    Raises CompileError (NPU0110).
    """
    try:
        with torch().no_grad(), torch().random.fork_rng(devices=()):
            trial, inputs, named = copy.deepcopy((module, args, dict(kwargs)))
            before = dict(trial.named_buffers())
            trial(*inputs, **named)
    except Exception:  # what cannot be copied or run here was captured all the same
        return
    names = [name for name, x in trial.named_buffers() if before.get(name) is not x]
    if names:
        raise error(
            Code.CAPTURE,
            "buffers must be written in place where only a strict capture is possible",
            found=", ".join(f"self.{name} = ..." for name in names),
            remedy=f"self.{names[0]}.copy_(...); for a swap, of a clone()",
            source=type(module).__name__,
        )


@contextmanager
def _in_eval(module: Any) -> Generator[None]:
    """Capture for inference; a warning names the modules that were in training."""
    modes = {child: child.training for child in module.modules()}
    names = [name or type(child).__name__ for name, child in module.named_modules()
             if child.training and _differs_in_training(child)]  # fmt: skip
    if names:
        warn(
            Code.APPROXIMATION,
            "modules are compiled as in evaluation, and these are in training",
            found=", ".join(names[:5]) + (f" and {len(names) - 5} more" if names[5:] else ""),
            remedy="module.eval()",
            source=type(module).__name__,
        )
    module.eval()
    try:
        yield
    finally:
        for child, training in modes.items():
            child.training = training


def _differs_in_training(module: Any) -> bool:
    """Dropout of some rate, batch norm, and whatever else has a rate of its own.

    Names alone would miss DropPath and the like, and a rate of 0 differs in nothing.
    """
    if isinstance(module, torch().nn.modules.batchnorm._NormBase):
        return bool(module.track_running_stats) or "Instance" not in type(module).__name__
    names = ("p", "drop_prob", "dropout") if "Drop" in type(module).__name__ else ("dropout",)
    rates = [getattr(module, name, None) for name in names]
    return any(isinstance(rate, int | float) and rate > 0 for rate in rates)
