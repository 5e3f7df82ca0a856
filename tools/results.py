"""What comes out of a data set: the outputs of all samples, and how many of them are right."""

from __future__ import annotations

import shutil
from collections.abc import Generator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import SpooledTemporaryFile
from typing import IO, Any, cast
from zipfile import ZipFile

import numpy as np

from npu_dialect.diagnostics import Code, error
from npu_dialect.ports import Array, Port
from npu_dialect.tools.inputs import load_array

KEPT_BYTES = 64 << 20
"""Bytes of an output that are kept in memory; more go to a temporary file."""


class Results:
    """The outputs of all samples, in order, written as one `.npz` in the end."""

    def __init__(self, ports: Sequence[Port], parts: Mapping[str, IO[bytes]]) -> None:
        """`parts` are temporary files, by the names of the outputs."""
        self.ports = ports
        self.count = 0
        self._parts = parts

    def add(self, outputs: Mapping[str, Array]) -> None:
        """The outputs of the next sample."""
        for name, part in self._parts.items():
            part.write(outputs[name].tobytes())
        self.count += 1

    def write(self, path: Path) -> None:
        """Write an `.npz` file, as numpy does."""
        with ZipFile(path, "w") as archive:
            for port in self.ports:
                part = self._parts[port.name]
                part.seek(0)
                with archive.open(f"{port.name}.npy", "w", force_zip64=True) as stream:
                    header = {
                        "descr": np.lib.format.dtype_to_descr(port.dtype.numpy),
                        "fortran_order": False,
                        "shape": (self.count, *port.shape),
                    }
                    np.lib.format.write_array_header_1_0(cast(Any, stream), header)
                    shutil.copyfileobj(part, stream)


@contextmanager
def collected(ports: Sequence[Port]) -> Generator[Results]:
    """Results that are kept, in memory or temporary files, until the block ends."""
    with ExitStack() as stack:
        parts = {p.name: stack.enter_context(SpooledTemporaryFile(KEPT_BYTES)) for p in ports}
        yield Results(ports, parts)


class Labels:
    """The right classes of all samples, and how many of them are found."""

    def __init__(self, path: str, count: int, outputs: Sequence[Port]) -> None:
        """Raises CompileError (NPU0001, NPU0003, NPU0502, NPU0503)."""
        if len(outputs) != 1:
            raise error(
                Code.OPTION,
                "--labels must be for a model with one output",
                found=", ".join(p.name for p in outputs),
                source="npu-run",
            )
        self.labels = load_array(path)
        self.right = 0
        self._seen = 0
        self._check(path, count, int(np.prod(outputs[0].shape)))

    def add(self, outputs: Mapping[str, Array]) -> None:
        """The outputs of the next sample: its class is where the greatest value is."""
        (scores,) = outputs.values()
        self.right += int(np.argmax(scores)) == int(self.labels[self._seen])
        self._seen += 1

    @property
    def accuracy(self) -> float:
        """The part of the samples whose class was found."""
        return self.right / len(self.labels)

    def _check(self, path: str, count: int, classes: int) -> None:
        labels = self.labels
        if labels.dtype.kind not in "iu":
            rule = "labels must be integers, the class of each sample"
            raise error(Code.INPUT_DTYPE, rule, found=labels.dtype, source=path)
        if labels.shape != (count,):
            rule = f"there must be a label for each of the {count} samples, shape [{count}]"
            raise error(Code.INPUT_SHAPE, rule, found=list(labels.shape), source=path)
        if labels.min() < 0 or labels.max() >= classes:
            rule = f"labels must be classes from 0 to {classes - 1}"
            raise error(Code.OPTION, rule, found=f"{labels.min()} to {labels.max()}", source=path)
