"""Data sets on a command line: many samples for `--input`, read one at a time.

    x.npy, data.npz      arrays with one more leading dimension than the inputs: the samples
    folder/              .npy files, each one sample of the model's only input
    folder/NAME.npy      for each input, an array of samples
    folder/NAME/         for each input, a folder of files, each one sample
    NAME=folder/, ...    the same, given by input

Files are sorted by name. All headers are read and checked before the first sample is.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import IO, Any
from zipfile import BadZipFile, ZipFile

import numpy as np

from npu_dialect import files
from npu_dialect.diagnostics import Code, CompileError, error
from npu_dialect.ports import Array, Port
from npu_dialect.tools.inputs import split_option


@dataclass(frozen=True)
class Header:
    """What the head of an array in a file says."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    fortran: bool
    room: int
    """Bytes that follow."""


@dataclass(frozen=True)
class Stored:
    """An array in a file: a `.npy`, or the member of a `.npz`."""

    path: Path
    member: str = ""

    def __str__(self) -> str:
        return f"{self.path}[{self.member}]" if self.member else str(self.path)

    @contextmanager
    def open(self) -> Generator[tuple[Header, IO[bytes]]]:
        """The header, and the stream of what follows. Raises CompileError (NPU0001, NPU0003)."""
        with _explained(self):
            if not self.member:
                with self.path.open("rb") as stream:
                    yield _header(stream, self.path.stat().st_size), stream
                return
            with ZipFile(self.path) as archive:
                info = archive.getinfo(f"{self.member}.npy")
                with archive.open(info) as stream:
                    yield _header(stream, info.file_size), stream

    def header(self) -> Header:
        """The header alone."""
        with self.open() as (header, _):
            return header


class Column:
    """The samples of one input."""

    def __init__(self, port: Port, parts: Sequence[Stored], rows: int | None) -> None:
        self.port = port
        self.parts = parts
        """One array with `rows` samples; or, where that is None, an array for each sample."""
        self.rows = rows

    def __len__(self) -> int:
        return len(self.parts) if self.rows is None else self.rows

    def __iter__(self) -> Iterator[Array]:
        for part in self.parts:
            yield from _arrays(part, self.port.shape, 1 if self.rows is None else self.rows)

    def describe(self, index: int) -> str:
        """Where a sample is stored."""
        return str(self.parts[index]) if self.rows is None else f"{self.parts[0]}, sample {index}"


@dataclass(frozen=True)
class DataSet:
    """Samples for all inputs of a program; each iteration reads them anew."""

    columns: tuple[Column, ...]

    def __len__(self) -> int:
        return len(self.columns[0])

    def __iter__(self) -> Iterator[dict[str, Array]]:
        names = [c.port.name for c in self.columns]
        for arrays in zip(*self.columns, strict=True):
            yield dict(zip(names, arrays, strict=True))


def load_data_set(options: Sequence[str], ports: Sequence[Port]) -> DataSet | None:
    """The data set of some `--input` options; None where they are the arrays of a single sample.

    Raises CompileError for what cannot be read (NPU0001, NPU0003), and where samples do not fit
    the inputs or each other (NPU0501 to NPU0503).
    """
    given = [split_option(option) for option in options]
    if not ports or not any(path.is_dir() or _has_rows(name, path, ports) for name, path in given):
        return None
    columns: dict[str, Column] = {}
    for name, path in given:
        for column in _columns(name, path, ports):
            columns[column.port.name] = column
    if set(columns) != {p.name for p in ports}:
        wanted = "; ".join(map(str, ports))
        raise error(
            Code.INPUT_NAMES,
            f"a data set must have samples for exactly the inputs of the program ({wanted})",
            found=", ".join(columns) or "none",
            remedy=" ".join(f"--input {p.name}=FOLDER" for p in ports),
            source="--input",
        )
    found = DataSet(tuple(columns[p.name] for p in ports))
    _check_counts(found.columns)
    return found


def _check_counts(columns: Sequence[Column]) -> None:
    if len({len(c) for c in columns}) > 1:
        raise error(
            Code.INPUT_SHAPE,
            "every input must have as many samples as the others",
            found=", ".join(f"{len(c)} of {c.port.name}" for c in columns),
            source="--input",
        )


# --- what an option names -------------------------------------------------------------------------


def _has_rows(name: str, path: Path, ports: Sequence[Port]) -> bool:
    """Whether a file holds an array with one more dimension than its input has."""
    try:
        headers = {part: part.header() for part in _parts(path)}
    except CompileError:  # whoever reads the file as one sample says so
        return False
    return any(
        len(h.shape) == len(port.shape) + 1
        for part, h in headers.items()
        for port in _ports(name or part.member, ports)
    )


def _parts(path: Path) -> list[Stored]:
    """The arrays in a file."""
    if path.suffix != ".npz":
        return [Stored(path)]
    with _explained(Stored(path)), ZipFile(path) as archive:
        names = archive.namelist()
    return [Stored(path, n.removesuffix(".npy")) for n in names if n.endswith(".npy")]


def _ports(name: str, ports: Sequence[Port]) -> list[Port]:
    """The input of a name; the only one, where there is no name."""
    if not name:
        return list(ports) if len(ports) == 1 else []
    return [p for p in ports if p.name == name]


def _port(name: str, ports: Sequence[Port], source: str) -> Port:
    found = _ports(name, ports)
    if found:
        return found[0]
    wanted = "; ".join(map(str, ports))
    raise error(
        Code.INPUT_NAMES,
        f"samples must be for an input of the program ({wanted})",
        found=name or "no name",
        remedy=f"--input {ports[0].name}={source}",
        source=source,
    )


def _columns(name: str, path: Path, ports: Sequence[Port]) -> Iterator[Column]:
    if path.is_dir():
        yield from _folder(name, path, ports)
        return
    for part in _parts(path):
        yield _rows(_port(name or part.member, ports, str(path)), part)


def _folder(name: str, folder: Path, ports: Sequence[Port]) -> Iterator[Column]:
    """The columns of a folder: one of files, or one for each name of an input."""
    entries = _entries(folder)
    if name or (len(ports) == 1 and not any(_is_column(e, ports[0]) for e in entries)):
        yield _files(_port(name, ports, str(folder)), folder, entries)
        return
    for entry in entries:
        port = _port(entry.name.removesuffix(".npy"), ports, str(entry))
        yield _files(port, entry, _entries(entry)) if entry.is_dir() else _rows(port, Stored(entry))


def _is_column(entry: Path, port: Port) -> bool:
    """Whether an entry of a folder holds all samples of the only input."""
    if entry.name.removesuffix(".npy") != port.name:
        return False
    return entry.is_dir() or _has_rows("", entry, [port])


def _entries(folder: Path) -> list[Path]:
    """What a folder holds but hidden files, by name."""
    try:
        entries = sorted(e for e in folder.iterdir() if not e.name.startswith("."))
    except OSError as problem:
        raise files.unreadable(folder, problem) from problem
    other = [e.name for e in entries if e.suffix != ".npy" and not e.is_dir()]
    if other or not entries:
        raise error(
            Code.FILE_KIND,
            "a folder of samples must hold .npy files, and nothing else",
            found=", ".join(other[:3]) if other else "an empty folder",
            remedy="numpy.save('sample_0000.npy', x)",
            source=str(folder),
        )
    return entries


# --- what files hold ------------------------------------------------------------------------------


def _files(port: Port, folder: Path, entries: Sequence[Path]) -> Column:
    """A column of files, each one sample."""
    for index, entry in enumerate(entries):
        if entry.is_dir():
            raise error(
                Code.FILE_KIND,
                f"every sample of {port.name} must be a .npy file",
                found=f"the folder {entry.name}",
                source=str(folder),
            )
        part = Stored(entry)
        _check(port, part, part.header(), port.shape, f"sample {index} of {port.name}")
    return Column(port, [Stored(e) for e in entries], None)


def _rows(port: Port, part: Stored) -> Column:
    """A column of the rows of an array."""
    header = part.header()
    rows = header.shape[0] if header.shape else 0
    _check(port, part, header, (rows, *port.shape), f"the samples of {port.name}")
    if not rows:
        raise error(
            Code.INPUT_SHAPE,
            f"the samples of {port.name} must be at least one",
            found=list(header.shape),
            source=str(part),
        )
    return Column(port, [part], rows)


def _check(port: Port, part: Stored, header: Header, shape: tuple[int, ...], what: str) -> None:
    if header.dtype != port.dtype.numpy:
        raise error(
            Code.INPUT_DTYPE,
            f"{what} must have element type {port.dtype.numpy}",
            found=header.dtype,
            remedy=f"array.astype(numpy.{port.dtype.numpy})",
            source=str(part),
        )
    if header.shape != shape:
        by_rows = len(shape) > len(port.shape)
        wanted = f"[N, {', '.join(map(str, port.shape))}]" if by_rows else list(shape)
        raise error(
            Code.INPUT_SHAPE,
            f"{what} must have shape {wanted}",
            found=list(header.shape),
            remedy=_reshaping(header.shape, port.shape, by_rows),
            source=str(part),
        )
    size = prod(shape) * header.dtype.itemsize
    if header.room != size:
        raise error(
            Code.FILE_KIND,
            f"{what} must take {size} bytes",
            found=f"{header.room} bytes in the file",
            source=str(part),
        )


def _reshaping(found: tuple[int, ...], shape: tuple[int, ...], by_rows: bool) -> str:
    rows, row = ("-1, ", found[1:]) if by_rows else ("", found)
    if prod(row) == prod(shape):
        return f"array.reshape({rows}{', '.join(map(str, shape))})"
    return ""


def _arrays(part: Stored, shape: tuple[int, ...], rows: int) -> Iterator[Array]:
    """The samples of an array, read one at a time (all at once where they are interleaved)."""
    with part.open() as (header, stream):
        item, count = header.dtype.itemsize, prod(shape)
        if header.fortran and rows > 1:
            whole = np.frombuffer(_read(stream, rows * count * item, part, 0), header.dtype)
            yield from whole.reshape((rows, *shape), order="F")
            return
        for index in range(rows):
            data = np.frombuffer(_read(stream, count * item, part, index), header.dtype)
            yield data.reshape(shape, order="F" if header.fortran else "C")


def _read(stream: IO[bytes], size: int, part: Stored, index: int) -> bytes:
    data = stream.read(size)
    if len(data) != size:  # the file was whole when its header was read
        raise error(
            Code.FILE_KIND,
            f"sample {index} must take {size} bytes",
            found=f"{len(data)} bytes, and the end of the file",
            source=str(part),
        )
    return data


def _header(stream: IO[bytes], size: int) -> Header:
    version = np.lib.format.read_magic(stream)
    read: Mapping[tuple[int, int], Callable[[IO[bytes]], Any]] = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }
    if version not in read:
        raise ValueError(f"version {version[0]}.{version[1]} of the .npy format")
    shape, fortran, dtype = read[version](stream)
    if dtype.hasobject:
        raise ValueError("an array of Python objects")
    return Header(tuple(shape), dtype, bool(fortran), size - stream.tell())


@contextmanager
def _explained(part: Stored) -> Generator[None]:
    """Turns what reading an array raises into one line."""
    try:
        yield
    except (FileNotFoundError, PermissionError, IsADirectoryError) as problem:
        raise files.unreadable(part.path, problem) from problem
    except (ValueError, EOFError, BadZipFile, KeyError, OSError) as problem:
        raise error(
            Code.FILE_KIND,
            "an input must be a .npy or .npz file of arrays",
            found=str(problem).splitlines()[0] if str(problem) else "an empty file",
            remedy="numpy.save('x.npy', x)",
            source=str(part),
        ) from problem
