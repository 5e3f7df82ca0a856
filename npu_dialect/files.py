"""Reading and writing files: a failure is one clear line, and nothing is ever half written."""

from __future__ import annotations

import errno
import os
import stat
import tempfile
from collections.abc import Generator
from contextlib import contextmanager, suppress
from io import BytesIO
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

from npu_dialect.diagnostics import Code, CompileError, error


def read_bytes(path: str | Path) -> bytes:
    """The content of a file. Raises CompileError (NPU0001) where it cannot be read."""
    try:
        return Path(path).read_bytes()
    except (OSError, ValueError) as problem:
        raise unreadable(path, problem) from problem


def read_text(path: str | Path) -> str:
    """The content of a UTF-8 text file. Raises CompileError (NPU0001, NPU0003)."""
    try:
        return read_bytes(path).decode()
    except UnicodeDecodeError as problem:
        raise error(
            Code.FILE_KIND, "must be UTF-8 text", found=problem, source=str(path)
        ) from problem


def write_bytes(path: str | Path, data: bytes) -> None:
    """Write a file whole or not at all. Raises CompileError (NPU0002)."""
    with replacing(path) as temporary:
        temporary.write_bytes(data)


def write_text(path: str | Path, text: str) -> None:
    """Write a UTF-8 text file whole or not at all. Raises CompileError (NPU0002)."""
    write_bytes(path, text.encode())


def write_npz(path: str | Path, arrays: dict[str, Any]) -> None:
    """Write numpy arrays by name, whole or not at all. Raises CompileError (NPU0002)."""
    import numpy as np

    with replacing(path) as temporary, temporary.open("wb") as stream:
        np.savez(stream, allow_pickle=False, **arrays)


def read_arrays(path: str | Path, rule: str, remedy: str = "") -> dict[str, Any]:
    """The arrays of a `.npz` by name, or the one of a `.npy` under the empty name. Raises
    CompileError (NPU0001; NPU0003 with `rule` for what holds no arrays).
    """
    import numpy as np

    content = read_bytes(path)
    try:
        loaded: Any = np.load(BytesIO(content), allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            return {"": loaded}
        with loaded:
            return {name: loaded[name] for name in loaded.files}
    except (ValueError, EOFError, BadZipFile, AttributeError, OSError) as problem:
        raise no_arrays(path, problem, rule, remedy) from problem


def no_arrays(path: str | Path, problem: Exception, rule: str, remedy: str = "") -> CompileError:
    """The error of a file that holds something else than the arrays that it should."""
    found = str(problem).splitlines()[0] if str(problem) else "an empty file"
    return error(Code.FILE_KIND, rule, found=found, remedy=remedy, source=str(path))


def make_folder(path: str | Path) -> Path:
    """The folder, created with its parents where missing. Raises CompileError (NPU0002)."""
    folder = Path(path)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as problem:
        raise unwritable(path, problem) from problem
    return folder


def check_file(path: str | Path) -> None:
    """Raises CompileError (NPU0001) where a file that is read later cannot be."""
    try:
        with Path(path).open("rb"):
            return
    except (OSError, ValueError) as problem:
        raise unreadable(path, problem) from problem


def check_folder(path: str | Path) -> None:
    """Raises CompileError (NPU0002) where the folder of a file to write is not there, or the file
    is a folder: said before the work whose result would be lost.
    """
    target = Path(os.path.realpath(path))
    if target.is_dir():
        raise unwritable(path, _is_folder())
    if target.exists() and not target.is_file():
        return  # devices and pipes are written directly
    if not target.parent.is_dir():
        raise unwritable(path, OSError(errno.ENOENT, os.strerror(errno.ENOENT)))
    if not os.access(target.parent, os.W_OK):
        raise unwritable(path, OSError(errno.EACCES, os.strerror(errno.EACCES)))


@contextmanager
def replacing(path: str | Path) -> Generator[Path, None, None]:
    """A temporary file to write, which takes the place of `path` when the block ends well.

    It lies in the same folder, so that the last step is one atomic rename. Devices and pipes are
    written directly. Raises CompileError (NPU0002) where the file cannot be written.
    """
    target = Path(os.path.realpath(path))
    if target.exists() and not target.is_file() and not target.is_dir():
        with _explained(path):
            yield target
        return
    with _explained(path):
        temporary = _temporary_beside(target)
        try:
            yield temporary
            os.chmod(temporary, _mode(target))
            os.replace(temporary, target)
        finally:
            with suppress(FileNotFoundError):
                temporary.unlink()


def unreadable(path: str | Path, problem: Exception) -> CompileError:
    """The error of a file that cannot be read."""
    return error(
        Code.FILE_UNREADABLE, "must be a readable file", found=_reason(problem), source=str(path)
    )


def unwritable(path: str | Path, problem: OSError) -> CompileError:
    """The error of a file that cannot be written."""
    return error(
        Code.FILE_UNWRITABLE,
        "must be a writable file on a disk with room",
        found=_reason(problem),
        remedy="another output path",
        source=str(path),
    )


@contextmanager
def _explained(path: str | Path) -> Generator[None, None, None]:
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as problem:
        raise unwritable(path, problem) from problem


def _temporary_beside(target: Path) -> Path:
    if target.is_dir():
        raise _is_folder()
    handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.", suffix=".part")
    os.close(handle)
    return Path(name)


def _is_folder() -> OSError:
    return IsADirectoryError(errno.EISDIR, "a folder of that name")


def _mode(target: Path) -> int:
    """The permissions of the file that is replaced, or those of any new file."""
    if target.exists():
        return stat.S_IMODE(target.stat().st_mode)
    mask = os.umask(0)
    os.umask(mask)
    return 0o666 & ~mask


def _reason(problem: Exception) -> str:
    return (getattr(problem, "strerror", None) or str(problem)).lower()


def target_names() -> list[str]:
    """The targets that come with the compiler."""
    return sorted(p.stem for p in (Path(__file__).parent / "targets").glob("*.toml"))
