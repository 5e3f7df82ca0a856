"""Why `torch.export` cannot capture a module: every place at once, not the first one alone.

The draft of torch (`torch.export.draft_export`) runs the module on the example inputs and goes on
where a branch or a size depends on values; what it notes is reported, and what of its program
cannot be imported. Where even that fails, Dynamo lists the places at which it would break a graph.
"""

from __future__ import annotations

import inspect
import logging
import os
import re
import tempfile
import traceback
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

from npu_dialect.frontends.torch import importer
from npu_dialect.frontends.torch.locations import is_users, name_of, source_line
from npu_dialect.frontends.torch.package import quiet, torch
from npu_dialect.frontends.torch.problems import Problem, Refused, cause_of

_HERE = Path(__file__).parent

CAPTURED_ITEM = re.compile(r"\.(item|tolist)\(|\b(int|float)\(|\brange\(")
"""Source lines that make numbers of tensors."""


def refusal(
    module: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any], failures: Sequence[Exception]
) -> Refused:
    """The error of a module that was not captured; `failures` are those of torch.export."""
    found = [*_drafted(module, args, kwargs)]
    if not any(p.is_capture for p in found):
        found += _broken(module, args, kwargs)
    if not any(p.is_capture for p in found):
        found = [_raised(module, failures[0]), *found]
    return Refused(type(module).__name__, found)


def _drafted(module: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> list[Problem]:
    """What the draft notes, and what of its program cannot be imported."""
    draft = getattr(torch().export, "draft_export", None)
    if draft is None:
        return []
    try:
        with quiet(everything=True), _log_removed():
            program = draft(module, args, dict(kwargs))
            found = list(_noted(module, program))
            imported = importer.problems(program)
    except Exception:  # the draft is a help: what stops it is found in another way
        return []
    lines = {(p.file, p.line) for p in found if p.cause != "missing-fake-kernel"}
    return found + [p for p in imported if (p.file, p.line) not in lines]


@contextmanager
def _log_removed() -> Generator[None]:
    """Let torch write the log from which a draft is reported into a folder that goes afterwards."""
    internal, variable = torch()._logging._internal, "TORCH_TRACE"
    before = os.environ.get(variable)
    with tempfile.TemporaryDirectory() as folder:
        os.environ[variable] = folder
        try:
            yield
        finally:
            if before is None:
                del os.environ[variable]
            else:
                os.environ[variable] = before
            references: list[Any] = list(logging._handlerList)  # pyright: ignore
            for handler in [reference() for reference in references]:
                if isinstance(handler, internal.LazyTraceHandler) and handler.root_dir == folder:
                    handler.close()


def _noted(module: Any, program: Any) -> Iterator[Problem]:
    for failure in program._report.failures:
        kind, data = str(failure.failure_type), failure.data
        if "FAKE_KERNEL" in kind:
            yield from _called(program, str(data["op"]), str(data.get("reason", "")))
        elif "DATA_DEPENDENT" in kind:
            frames = [(_file(f["filename"]), int(f["line"])) for f in data["user_stack"]]
            yield from _at(module, frames, "control-flow", "a value of run time decides here")


def _file(number: Any) -> str:
    """The name of a file that the log of torch states by number."""
    table = torch()._logging.structured.INTERN_TABLE
    return next((str(name) for name, k in table.items() if k == number), str(number))


def _called(program: Any, op: str, reason: str) -> Iterator[Problem]:
    """The calls of an operator that does not say what its result is."""
    for node in program.graph.nodes:
        if str(node.target) == op:
            file, line = source_line(node)
            yield Problem("missing-fake-kernel", op, reason, name_of(node), file, line)


def _broken(module: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> list[Problem]:
    """Where Dynamo would break the graph."""
    try:
        with quiet(everything=True):
            reasons = torch()._dynamo.explain(module)(*args, **kwargs).break_reasons
    except Exception:  # likewise
        return []
    finally:
        torch()._dynamo.reset()
    found: list[Problem] = []
    for reason in reasons:
        frames = [(str(f.filename), int(f.lineno)) for f in reason.user_stack]
        text = str(reason.reason)
        found += _at(module, frames, cause_of(text), _explanation(text))
    return found


def _explanation(text: str) -> str:
    """What Dynamo says in a sentence."""
    if text.startswith("generic_jump"):
        return "a branch on a tensor"
    found = re.search(r"Explanation: (.*)", text)
    return found[1] if found else text.splitlines()[0]


def _raised(module: Any, problem: Exception) -> Problem:
    """Non-strict capture runs the user's code, so its traceback has the user's line."""
    text = f"{type(problem).__name__}: {problem}"
    frames = [(f.filename, int(f.lineno or 0)) for f in traceback.extract_tb(problem.__traceback__)]
    own = [frame for frame in frames if is_users(frame[0]) and Path(frame[0]).parent != _HERE]
    file, line = own[-1] if own else ("", 0)
    path = _running(module, problem.__traceback__)
    return Problem(_refined(cause_of(text), file, line), _operator(text), text, path, file, line)


def _running(module: Any, trace: TracebackType | None) -> str:
    """The path of the module that ran innermost."""
    names = {id(child): str(name) for name, child in module.named_modules()}
    path = ""
    while trace is not None:
        path = names.get(id(trace.tb_frame.f_locals.get("self")), "") or path
        trace = trace.tb_next
    return path


def _operator(text: str) -> str:
    found = re.search(r"CustomOpDef\((\w+)::(\w+)\)|torch\.ops\.(\w+)\.(\w+)", text)
    return ".".join(part for part in found.groups() if part) if found else ""


def _at(
    module: Any, frames: Iterable[tuple[str, int]], cause: str, reason: str
) -> Iterator[Problem]:
    """The problem at the innermost line of the user, once for each module whose code has it."""
    own = [frame for frame in frames if is_users(frame[0])]
    file, line = own[-1] if own else ("", 0)
    for path in _having(module, file, line):
        yield Problem(_refined(cause, file, line), "", reason, path, file, line)


def _refined(cause: str, file: str, line: int) -> str:
    """A guard on a number that the line itself makes of a tensor is about that number."""
    code = Problem(cause, file=file, line=line).code
    if cause not in ("control-flow", "python"):
        return cause
    return "item" if CAPTURED_ITEM.search(code) else cause


def _having(module: Any, file: str, line: int) -> list[str]:
    """The modules whose class has the line; the whole model if none has."""
    children: list[tuple[str, Any]] = list(module.named_modules())
    return [name for name, child in children if _has(type(child), file, line)] or [""]


def _has(cls: Any, file: str, line: int) -> bool:
    try:
        lines, first = inspect.getsourcelines(cls)
        return inspect.getsourcefile(cls) == file and first <= line < first + len(lines)
    except (OSError, TypeError):
        return False
