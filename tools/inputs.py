"""The arrays that a command line names: `x.npy`, `name=x.npy`, or an `.npz` with all of them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from npu_dialect import files
from npu_dialect.diagnostics import Code, CompileError, error
from npu_dialect.ports import Array, Inputs, Port

if TYPE_CHECKING:
    import argparse


def given(args: argparse.Namespace, ports: Sequence[Port], source: str) -> Inputs:
    """What --input or --random give. Raises CompileError where there are inputs, and neither or
    both are given.
    """
    if args.input and args.random is not None:
        raise refusal("both", source)
    if ports and not args.input and args.random is None:
        raise refusal("neither", source)
    return load_inputs(args.input) if args.input else random_inputs(ports, args.random or 0)


def refusal(found: str, source: str) -> CompileError:
    """The error of a command line with neither --input nor --random, or both."""
    rule, remedy = "must be given either --input or --random", "--input x.npy, or --random 0"
    return error(Code.OPTION, rule, found=found, remedy=remedy, source=source)


def load_inputs(options: Sequence[str], option: str = "--input") -> Inputs:
    """The arrays of some `--input` options, or of another option like it: by name, or in order
    where none has a name.

    Raises CompileError for files that are no arrays (NPU0003) and for names beside no names.
    """
    named: dict[str, Array] = {}
    unnamed: list[Array] = []
    for text in options:
        name, path = split_option(text)
        content = _load(path)
        if isinstance(content, dict):
            named |= content
        elif name:
            named[name] = content
        else:
            unnamed.append(content)
    if named and unnamed:
        raise error(
            Code.OPTION,
            "must give a name to every array or to none",
            found=f"{len(named)} with and {len(unnamed)} without",
            remedy=f"{option} name=file.npy for each",
            source=option,
        )
    return named or unnamed


def load_array(path: str) -> Array:
    """The array of a `.npy` file. Raises CompileError (NPU0001, NPU0003)."""
    content = _load(Path(path))
    if isinstance(content, dict):
        raise error(Code.FILE_KIND, "must be a .npy file", found="an .npz file", source=path)
    return content


def random_inputs(ports: Sequence[Port], seed: int) -> dict[str, Array]:
    """Arrays that fit: floats of a normal distribution, integers of up to 16 bits over their whole
    range; wider ones, which are indices more often than not, from 0 to 9.
    """
    generator = np.random.default_rng(seed)
    return {port.name: _random(port, generator) for port in ports}


def _random(port: Port, generator: np.random.Generator) -> Array:
    if port.dtype.is_float:
        return generator.standard_normal(port.shape).astype(port.dtype.numpy)
    if port.dtype.is_int and port.dtype.itemsize > 2:
        return generator.integers(0, 10, port.shape).astype(port.dtype.numpy)
    if port.dtype.is_int:
        type_: Any = port.dtype.numpy.type
        return generator.integers(port.dtype.low, port.dtype.high, port.shape, type_, endpoint=True)
    return generator.random(port.shape) < 0.5


def split_option(option: str) -> tuple[str, Path]:
    """Name and path; a file that exists under the whole text has no name."""
    name, separator, path = option.rpartition("=")
    if not separator or Path(option).exists():
        return "", Path(option)
    return name, Path(path)


def _load(path: Path) -> Array | dict[str, Array]:
    if path.is_dir():
        raise error(
            Code.FILE_KIND,
            "an input must be a file; a folder is a data set, which runs at level npu alone",
            found="a folder",
            source=str(path),
        )
    rule = "an input must be a .npy or .npz file of arrays"
    found = files.read_arrays(path, rule, "numpy.save('x.npy', x)")
    return found[""] if list(found) == [""] else found
