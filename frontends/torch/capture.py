"""From an `nn.Module` or a `.pt2` file to an exported program."""

from __future__ import annotations

import traceback
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from xdsl.dialects.builtin import ModuleOp, StringAttr

from npu_dialect import files
from npu_dialect.diagnostics import Code, CompileError, error, remark, warn
from npu_dialect.frontends.onnx.errors import one_line
from npu_dialect.frontends.torch import importer
from npu_dialect.frontends.torch.locations import LIBRARY
from npu_dialect.frontends.torch.package import quiet, torch

CAPTURE = "npu.capture"
"""The attribute of a module that says how it was captured."""

MODES = {"non-strict": False, "strict": True}


def read(path: Path) -> Any:
    """The program of a `.pt2` file. Raises CompileError."""
    files.read_bytes(path)  # a file that is missing is reported as that
    try:
        with quiet():
            return torch().export.load(str(path))
    except Exception as problem:
        raise error(
            Code.MODEL_MALFORMED,
            "a .pt2 file must be one that torch.export.save wrote",
            found=one_line(f"{type(problem).__name__}: {problem}"),
            source=str(path),
        ) from problem


def load(module: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> ModuleOp:
    """The module captured with example inputs and imported."""
    if not args and not kwargs:
        raise error(
            Code.OPTION,
            "an nn.Module must come with example inputs",
            found="none",
            remedy="compile(module, (x,), target=...)",
            source=type(module).__name__,
        )
    program, mode = capture(module, args, kwargs)
    result = importer.load(program)
    result.attributes[CAPTURE] = StringAttr(mode)
    return result


def capture(module: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> tuple[Any, str]:
    """The exported program, and how it was captured: non-strict, or else strict."""
    problems: dict[str, Exception] = {}
    with _in_eval(module):
        for mode, strict in MODES.items():
            try:
                with quiet():
                    program = torch().export.export(module, args, dict(kwargs), strict=strict)
            except Exception as problem:
                problems[mode] = problem
            else:
                _report(module, mode, problems)
                return program, mode
    raise _refusal(module, problems)


def _report(module: Any, mode: str, problems: Mapping[str, Exception]) -> None:
    before = [f"{other} failed: {text}" for other, text in problems.items()]
    remark(
        Code.CAPTURED,
        f"captured by torch.export, {mode}",
        found=one_line("; ".join(before)),
        source=type(module).__name__,
    )


def _refusal(module: Any, problems: Mapping[str, Exception]) -> CompileError:
    """Non-strict capture runs the user's code, so its traceback has the user's line."""
    problem = problems["non-strict"]
    frames = traceback.extract_tb(problem.__traceback__)
    own = [f for f in frames if not LIBRARY.search(f.filename) and f.filename != __file__]
    return error(
        Code.CAPTURE,
        "torch.export must be able to capture the module",
        found=one_line(f"{type(problem).__name__}: {problem}"),
        remedy="torch.where or torch.cond for control flow that depends on values, and shapes and "
        "numbers that do not (no .item(), .tolist() or masks as indices)",
        source=type(module).__name__,
        location=f"{own[-1].filename}:{own[-1].lineno}" if own else "",
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
    name = type(module).__name__
    return "Dropout" in name or "BatchNorm" in name
