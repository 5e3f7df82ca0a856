"""What reproduces a failing pass: a folder with IR, constants, pipeline, target and traceback."""

from __future__ import annotations

import shutil
import traceback
from collections.abc import Iterator
from pathlib import Path

from xdsl.dialects.builtin import ModuleOp

from npu_dialect import files, text
from npu_dialect.diagnostics import CompileError
from npu_dialect.npu.attributes import TargetAttr


def write(folder: Path, module: ModuleOp, spec: str, cause: BaseException) -> str:
    """Write IR, pipeline, target and traceback to `folder`; the command that runs them again."""
    folder = files.make_folder(folder)
    path = folder / "repro.mlir"
    command = f"npu-opt {path} -p '{spec}'"
    command += "".join(f" --target {t}" for t in copy_target(module, folder))
    text.write(path, module, header="".join(f"// {line}\n" for line in _story(command, cause)))
    files.write_text(folder / "traceback.txt", "".join(traceback.format_exception(cause)))
    return command


def _story(command: str, cause: BaseException) -> Iterator[str]:
    import platform

    yield command
    yield f"fails with {one_line(cause)} (see traceback.txt)"
    packages = ", ".join(f"{name} {_version(name)}" for name in ("npu-dialect", "xdsl"))
    yield f"{packages}, Python {platform.python_version()}"


def copy_target(module: ModuleOp, folder: Path) -> list[str]:
    """Where a target file of the user's was copied to, so that the folder is complete; nothing for
    a target that is ours.
    """
    name = target_name(module)
    if not name or not name.endswith(".toml") or not Path(name).exists():
        return []
    shutil.copy(name, folder / "target.toml")
    return [str(folder / "target.toml")]


def target_name(module: ModuleOp) -> str | None:
    """The name or path in the module's `npu.target`."""
    attribute = module.attributes.get("npu.target")
    return attribute.data if isinstance(attribute, TargetAttr) else None


def one_line(cause: BaseException) -> str:
    """An exception as one line."""
    if isinstance(cause, CompileError):
        return str(cause).splitlines()[0]
    message = str(cause).strip().splitlines()
    return f"{type(cause).__name__}: {message[0]}" if message else type(cause).__name__


def _version(package: str) -> str:
    from importlib.metadata import version

    try:
        return version(package)
    except ImportError:
        return "(not installed)"
