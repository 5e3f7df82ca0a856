"""Samples to calibrate with: files, folders, arrays, iterables, functions.

    data.npz, x.npy      arrays with a first dimension of samples, which may be that of a batch of 1
    folder of .npy       each one sample of the only input; NAME.npy: all samples of an input
    folder of .npz       each one sample of all inputs
    folder of images     each one sample of the only input; passes/quantizing/images.py
    in Python            the same as arrays by name, an iterable of samples, or a function that
                         gives one; a sample is an array, or arrays by name, or in order

Passes name samples by a path. Those of a Python program get a name while `held`.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from inspect import signature
from pathlib import Path
from typing import Any, cast

import numpy as np

from npu_dialect import files
from npu_dialect.diagnostics import Code, CompileError, error
from npu_dialect.passes.quantizing.images import SUFFIXES, Images
from npu_dialect.ports import Array, Port, bind

Sample = dict[str, Array]
Source = Any
"""A path, arrays by name, an iterable of samples, or a function that gives an iterable."""

MEMORY = "memory:"
"""What stands before the name of samples that are held."""
_held: dict[str, list[Sample]] = {}

STARTS = (b"\x93NUMPY", b"PK\x03\x04", b"PK\x05\x06")
"""How files of arrays begin: .npy, .npz, and a .npz without arrays."""
NO_FILE = "numpy.savez('samples.npz', NAME=array)"
NO_SAMPLES = "some tens of typical inputs: calibrate=samples, or --calibrate samples.npz in a shell"


@contextmanager
def held(samples: list[Sample]) -> Generator[str]:
    """A name by which passes find samples that are in no file, while the block runs."""
    name = f"{MEMORY}{len(_held)}"
    _held[name] = samples
    try:
        yield name
    finally:
        del _held[name]


def samples_of(path: str | Path, ports: Sequence[Port]) -> list[Sample]:
    """The samples that a pass names. Raises CompileError for those that do not fit."""
    if str(path).startswith(MEMORY):
        return _held_samples(str(path))
    return read(path, ports)


def _held_samples(name: str) -> list[Sample]:
    if name not in _held:
        rule = "samples must be held by the program that runs the passes"
        raise error(Code.OPTION, rule, found=name, remedy="the path of a file", source="samples")
    return _held[name]


def gather(
    source: Source, ports: Sequence[Port], images: Images | None = None, where: str = "calibrate"
) -> list[Sample]:
    """The samples of a source, checked. Raises CompileError where there are none, or one does not
    fit; it says which.
    """
    if isinstance(source, str | Path):
        return _some(read(source, ports, images), str(source))
    if callable(source):
        source = _called(cast(Callable[[], Any], source), where)
    if _is_array(source):
        source = _numpy(source)
    if isinstance(source, np.ndarray):
        return _some(_by_column(where, {"": cast(Array, source)}, ports), where)
    if isinstance(source, Mapping):
        return _some(_by_column(where, cast("Mapping[str, Array]", source), ports), where)
    if not isinstance(source, Iterable):
        raise error(
            Code.OPTION,
            "samples must be a path, arrays by name, an iterable of samples, or a function that "
            "gives one",
            found=type(source).__name__,
            source=where,
        )
    each = cast(Iterable[Any], source)
    return _some([_bound(ports, s, f"{where}, sample {k}") for k, s in enumerate(each)], where)


def _is_array(source: Any) -> bool:
    """Whether this is an array of another package, such as a torch.Tensor."""
    return hasattr(source, "__array__") and hasattr(source, "shape")


def _numpy(array: Any) -> Array:
    """An array of numpy; of a torch.Tensor, without its gradient and on the host."""
    return np.asarray(array.detach().cpu() if hasattr(array, "detach") else array)


def _called(source: Callable[[], Any], where: str) -> Any:
    """What a function gives. Raises CompileError for one that must be given something."""
    try:
        signature(source).bind()
    except TypeError as problem:
        raise error(
            Code.OPTION,
            "a function that gives samples must be called without arguments",
            found=str(problem),
            remedy="lambda: (sample(i) for i in range(64))",
            source=where,
        ) from problem
    except ValueError:
        pass  # of a builtin, whose arguments are not known
    return source()


def _some(found: list[Sample], source: str) -> list[Sample]:
    if not found:
        rule = "there must be samples to calibrate with"
        raise error(Code.OPTION, rule, found="none", remedy=NO_SAMPLES, source=source)
    return found


def _bound(ports: Sequence[Port], sample: Any, where: str) -> Sample:
    """A sample by name. Raises CompileError that says which sample it is."""
    try:
        arrays = bind(ports, _batched(ports, sample))
    except CompileError as problem:
        first = problem.records[0]
        source = f"{where}, {first.source}" if first.source != "inputs" else where
        remedy = "arrays by name" if first.code is Code.INPUT_NAMES else first.remedy
        raise error(
            first.code, first.rule, found=first.found, remedy=remedy, source=source
        ) from problem
    return {port.name: array for port, array in zip(ports, arrays, strict=True)}


def _batched(ports: Sequence[Port], sample: Any) -> dict[str, Array] | list[Array]:
    """The arrays of a sample, with the batch of one that they may lack."""
    if isinstance(sample, Mapping):
        given = cast("Mapping[str, Any]", sample)
        shapes = {port.name: port.shape for port in ports}
        return {name: _with_batch(shapes.get(name), _numpy(a)) for name, a in given.items()}
    many = list(cast("Sequence[Any]", sample)) if isinstance(sample, Sequence) else [sample]
    shapes = [port.shape for port in ports] if len(many) == len(ports) else [None] * len(many)
    return [_with_batch(s, _numpy(a)) for s, a in zip(shapes, many, strict=True)]


def _with_batch(shape: Sequence[int] | None, array: Array) -> Array:
    return array[None] if shape is not None and tuple(shape) == (1, *array.shape) else array


# --- files ----------------------------------------------------------------------------------------


def read(path: str | Path, ports: Sequence[Port], images: Images | None = None) -> list[Sample]:
    """The samples in a file or folder. Raises CompileError for what does not fit the inputs."""
    if Path(path).is_dir():
        return _folder(Path(path), ports, images)
    return _by_column(str(path), read_arrays(path), ports)


def _folder(folder: Path, ports: Sequence[Port], images: Images | None) -> list[Sample]:
    entries = sorted(e for e in folder.iterdir() if not e.name.startswith("."))
    if not entries:
        rule = "there must be samples to calibrate with"
        raise error(Code.OPTION, rule, found="an empty folder", remedy=NO_SAMPLES,
                    source=str(folder))  # fmt: skip
    kinds = {e.suffix.lower() for e in entries}
    if kinds == {".npz"}:
        return [_bound(ports, read_arrays(e), str(e)) for e in entries]
    if kinds == {".npy"} and {e.stem for e in entries} == {p.name for p in ports}:
        return _by_column(str(folder), {e.stem: read_arrays(e)[""] for e in entries}, ports)
    if kinds == {".npy"}:
        port = _only(ports, folder)
        return [_one(port, read_arrays(e)[""], str(e)) for e in entries]
    if kinds <= SUFFIXES:
        port = _only(ports, folder)
        return [{port.name: array} for array in (images or Images()).read(entries, port)]
    known = (".npy", ".npz", *SUFFIXES)
    other = [e.name for e in entries if e.suffix.lower() not in known]
    raise error(
        Code.FILE_KIND,
        "a folder of samples must hold .npy files, .npz files or images, and nothing else",
        found=other[0] if other else f"{' and '.join(sorted(kinds))} files together",
        remedy="" if other else "a folder of each kind",
        source=str(folder),
    )


def _only(ports: Sequence[Port], folder: Path) -> Port:
    if len(ports) == 1:
        return ports[0]
    names = ", ".join(port.name for port in ports)
    raise error(
        Code.INPUT_NAMES,
        f"a folder must have samples for each of the inputs ({names})",
        found="files for one input",
        remedy=f"a file {ports[0].name}.npy for each input, or .npz files with a sample each",
        source=str(folder),
    )


def _one(port: Port, array: Array, source: str) -> Sample:
    """The sample in a file, which may lack a batch of one."""
    array = _with_batch(port.shape, array)
    return _bound([port], {port.name: array}, source)


def read_arrays(path: str | Path) -> dict[str, Array]:
    """The arrays of a `.npz`, or the one of a `.npy` under the empty name. Raises CompileError
    (NPU0001, NPU0003).
    """
    content = files.read_bytes(Path(path))
    if not content.startswith(STARTS):
        raise error(
            Code.FILE_KIND,
            "samples must be in a .npy or .npz file of arrays, or in a folder",
            found=_contents(Path(path), content),
            remedy="a folder with it" if Path(path).suffix.lower() in SUFFIXES else NO_FILE,
            source=str(path),
        )
    return files.read_arrays(path, "must be a .npy or .npz file of arrays")


def _contents(path: Path, content: bytes) -> str:
    """What a file is that holds no arrays."""
    if not content:
        return "an empty file"
    if path.suffix.lower() in SUFFIXES:
        return "a single image"
    return f"a {path.suffix} file" if path.suffix not in (".npy", ".npz", "") else "other contents"


# --- arrays of many samples -----------------------------------------------------------------------


def _by_column(source: str, arrays: Mapping[str, Array], ports: Sequence[Port]) -> list[Sample]:
    """Samples of arrays by input."""
    if set(arrays) == {""} and len(ports) == 1:
        arrays = {ports[0].name: arrays[""]}
    split = {port.name: list(_split(source, port, arrays)) for port in ports}
    counts = {name: len(found) for name, found in split.items()}
    if len(set(counts.values())) > 1:
        raise error(
            Code.INPUT_NAMES,
            "there must be as many samples for each input",
            found=", ".join(f"{n} for {name}" for name, n in counts.items()),
            source=source,
        )
    names = list(split)
    return [dict(zip(names, each, strict=True)) for each in zip(*split.values(), strict=True)]


def _split(source: str, port: Port, arrays: Mapping[str, Array]) -> Iterator[Array]:
    """The samples of an input."""
    if port.name not in arrays:
        raise error(
            Code.INPUT_NAMES,
            f"there must be samples for the input {port.name}",
            found=", ".join(n or "an array without a name" for n in arrays) or "no array",
            remedy=f"numpy.savez('samples.npz', {port.name}=array)",
            source=source,
        )
    array, shape = _numpy(arrays[port.name]), tuple(port.shape)
    if array.dtype != port.dtype.numpy:
        raise error(
            Code.INPUT_DTYPE,
            f"samples of {port.name} must have element type {port.dtype.numpy}",
            found=array.dtype,
            remedy=f"array.astype(numpy.{port.dtype.numpy})",
            source=source,
        )
    if array.shape[1:] == shape:
        yield from array
    elif array.shape == shape:
        yield array
    elif shape[:1] == (1,) and array.shape[1:] == shape[1:]:
        yield from array[:, None]
    else:
        raise error(
            Code.INPUT_SHAPE,
            f"samples of {port.name} must be [samples, {', '.join(map(str, shape))}]",
            found=list(array.shape),
            remedy=_axes(array.shape, shape),
            source=source,
        )


def _axes(found: tuple[int, ...], shape: tuple[int, ...]) -> str:
    """What to do about an array of another shape, where that can be told."""
    inner = shape[1:] if shape[:1] == (1,) else shape
    if len(found) == len(inner) + 1 and sorted(found[1:]) == sorted(inner) and len(inner) == 3:
        order = (0, 3, 1, 2) if found[1:] == (*inner[1:], inner[0]) else (0, 2, 3, 1)
        return f"array.transpose{order}"
    return "samples of that shape"
