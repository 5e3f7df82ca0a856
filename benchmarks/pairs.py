"""What quantization costs TFLite models, on stored inputs: the int8 model beside its float twin.

`accuracy.py --pairs`. A pair are two files of the folder of models, `NAME_int8.tflite` and
`NAME_fp32.tflite`; an int8 model without a twin is shown alone. Both are compiled, and run on the
inputs that are stored for the int8 model; the float twin gets the numbers that these mean. States
go from one input to the next, as in the stored runs.

    bits      outputs that are, bit for bit, those of TFLite's reference kernels as stored
    top-1     inputs for which both have their greatest output in the same place
    labels    inputs whose greatest output is the label, int8 / float; where labels are stored
    SQNR      power of the float outputs over that of the difference, of all outputs together
    error     mean squared difference of input and output, int8 / float: of autoencoders

A figure that is missing could not be computed from what is stored.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import common
import numpy as np
from reference import Array

if TYPE_CHECKING:
    from npu_dialect.runtime.program import Binding, Program

INT8, FLOAT = "_int8", "_fp32"
TARGETS = {INT8: "edge256", FLOAT: "mobile4k"}
LABELLED = "label = case index"
"""What the notes of the manifest say of models whose stored inputs are one of each class."""

COLUMNS = ("model", "inputs", "bits", "top-1", "labels", "SQNR dB", "error")


def main(args: argparse.Namespace) -> int:
    """Measure the pairs, or those named; the exit code."""
    stems = sorted(path.stem.removesuffix(INT8) for path in args.models.glob(f"*{INT8}.tflite"))
    rows = [measure(args.models, stem) for stem in stems if not args.names or stem in args.names]
    common.show("int8 models beside their float twins", COLUMNS, map(cells, rows))
    return common.finish(args, rows) or int(any(row["bits"] < row["inputs"] for row in rows))


@dataclass(frozen=True)
class Runs:
    """The runs of a model on some inputs."""

    program: Program
    inputs: Sequence[Array]
    outputs: Sequence[Array]

    @cached_property
    def reals(self) -> Array:
        """The numbers that the outputs mean, a row for each input."""
        (port,) = self.program.outputs
        return np.stack([real(y, port).reshape(-1) for y in self.outputs])


def measure(folder: Path, stem: str) -> common.Row:
    """The figures of an int8 model, and of its float twin if there is one."""
    stored = list(cases(folder / f"{stem}{INT8}.npz"))
    whole = runs(folder, stem, INT8, [x for x, _ in stored])
    row: common.Row = {"model": stem, "target": TARGETS[INT8], "inputs": len(stored)}
    pairs = zip(whole.outputs, stored, strict=True)
    row["bits"] = sum(np.array_equal(y, wanted) for y, (_, wanted) in pairs)
    labels = np.arange(len(stored)) if is_labelled(folder, stem + INT8) else None
    if labels is not None:
        row["labels"] = [top_1(whole, labels)]
    (port,) = whole.program.inputs
    inputs = [real(x, port) for x, _ in stored]
    is_coder = inputs[0].size > 1 and inputs[0].shape == whole.outputs[0].shape
    if is_coder:
        row["error"] = [error(inputs, whole)]
    if not (folder / f"{stem}{FLOAT}.tflite").is_file():
        return row
    twin = runs(folder, stem, FLOAT, inputs)
    noise = np.square(whole.reals - twin.reals).sum()
    row["sqnr"] = float(10 * np.log10(np.square(twin.reals).sum() / noise))
    if is_coder:
        row["error"].append(error(inputs, twin))
    else:
        row["top-1"] = top_1(whole, twin.reals.argmax(axis=1))
    if labels is not None:
        row["labels"].append(top_1(twin, labels))
    return row


def cases(path: Path) -> Iterator[tuple[Array, Array]]:
    """The stored inputs, and the outputs of TFLite's reference kernels for them."""
    with np.load(path) as found:
        for k in range(sum(name.endswith("/in0") for name in found)):
            yield found[f"case{k}/in0"], found[f"case{k}/out0"]


def runs(folder: Path, stem: str, kind: str, inputs: Sequence[Array]) -> Runs:
    """The outputs of a model's program, which keeps its states."""
    from npu_dialect import api
    from npu_dialect.runtime.simulator import Session

    program = api.compile(folder / f"{stem}{kind}.tflite", TARGETS[kind])
    session = Session(program)
    outputs = [next(iter(session.run([x]).outputs.values())) for x in inputs]
    return Runs(program, inputs, outputs)


def is_labelled(folder: Path, name: str) -> bool:
    """Whether the manifest says that input k is of class k."""
    manifest: list[dict[str, Any]] = json.loads((folder / "manifest.json").read_text())
    return any(each["id"] == name and LABELLED in (each["note"] or "") for each in manifest)


def real(stored: Array, port: Binding) -> Array:
    """The numbers, in float32, that stored values mean."""
    quant = port.quantization
    if quant is None:
        return stored
    ((scale,), (zero,)) = quant.scales, quant.zero_points
    return (stored.astype(np.float32) - zero) * np.float32(scale)


def top_1(found: Runs, wanted: Array) -> int:
    """Inputs whose greatest output is the one that is wanted."""
    return int((found.reals.argmax(axis=1) == wanted).sum())


def error(inputs: Sequence[Array], found: Runs) -> float:
    """The mean squared difference of inputs and outputs."""
    return float(np.square(np.stack([x.reshape(-1) for x in inputs]) - found.reals).mean())


def cells(row: common.Row) -> tuple[object, ...]:
    both = {name: " / ".join(f"{v:.4g}" for v in row.get(name, [])) for name in ("labels", "error")}
    sqnr = f"{row['sqnr']:.1f}" if "sqnr" in row else ""
    bits, top = f"{row['bits']} of {row['inputs']}", row.get("top-1", "")
    return (row["model"], row["inputs"], bits, top, both["labels"], sqnr, both["error"])
