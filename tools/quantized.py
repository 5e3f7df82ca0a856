"""npu-run --compare of a quantized model: layer by layer against the floats that it was made of."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from npu_dialect.diagnostics import Code, CompileError, error
from npu_dialect.tools import common, profile_options

if TYPE_CHECKING:
    from xdsl.dialects.builtin import ModuleOp

    from npu_dialect.fidelity import Fidelity, Layer
    from npu_dialect.pipeline import Options
    from npu_dialect.ports import Inputs, Port
    from npu_dialect.quantization import Quantization
    from npu_dialect.runtime.program import Program

MOST = 64
"""Samples of a data set that are looked at, evenly over it."""


def of_model(args: argparse.Namespace, module: ModuleOp, wanted: Quantization) -> int:
    """Quantize a float module, compare it, print what was found; the exit code.

    It is 1 where the levels graph and npu of the quantized model do not give the same bits.
    """
    from npu_dialect import api, fidelity, levels, quantization
    from npu_dialect.pipeline import Options

    ports = levels.inputs_of(module)
    samples, floats = _samples(args, ports), module.clone()
    with common.progress("npu-run --compare") as progress:
        options = Options(progress=progress)
        outcome = api.quantize(module, wanted, options=options)
        if not outcome.scheme:
            raise error(
                Code.OPTION,
                "a model must be quantized to be compared with its floats",
                found=outcome.note,
                remedy="--quantize int8",
                source="npu-run",
            )
        quantization.prepare(floats, wanted, options)
        api.lower(module, "graph", options=options)
        found = fidelity.compare(floats, module, samples, progress)
        program, same = _lowered(module, _stored(ports, module, samples[0]), options)
    _finish(args, found, program, same)
    return 0 if same else common.EXIT_ERROR


def of_program(args: argparse.Namespace, module: ModuleOp, program: Program) -> int:
    """Compare a program that was quantized with the float module; the exit code."""
    from npu_dialect import fidelity, pipeline
    from npu_dialect.quantization import PREPARE

    _check_model(args, module, program)
    samples = _of_program(args, module, program)
    pipeline.run(module, ",".join(PREPARE))
    with common.progress("npu-run --compare"):
        found = fidelity.compare_program(module, program, samples)
    _finish(args, found, program, None)
    return 0


def _of_program(args: argparse.Namespace, module: ModuleOp, program: Program) -> list[Inputs]:
    """The inputs of a program, or those of the float model that it was made of."""
    from npu_dialect import levels

    try:
        return _samples(args, program.inputs)
    except CompileError as problem:
        if problem.records[0].code is not Code.INPUT_DTYPE:
            raise
    return _samples(args, levels.inputs_of(module))


def _check_model(args: argparse.Namespace, module: ModuleOp, program: Program) -> None:
    """Raises CompileError where the inputs or outputs of a model are not those of a program, which
    it then cannot have been made of. Element types may differ.
    """
    from npu_dialect import levels

    given, wanted = _shapes(levels.inputs_of(module)), _shapes(program.inputs)
    made, outputs = levels.output_names(module), [port.name for port in program.outputs]
    pairs = (("inputs", given, wanted), ("outputs", made, outputs))
    for what, found, expected in pairs:
        if found != expected:
            raise error(
                Code.OPTION,
                f"--model must be the model that {args.program} was made of, with the {what} "
                f"{', '.join(expected) or 'none'}",
                found=", ".join(found) or "none",
                source=args.model,
            )


def _shapes(ports: Sequence[Port]) -> list[str]:
    return [f"{port.name} {list(port.shape)}" for port in ports]


def is_quantized(program: Program, module: ModuleOp) -> bool:
    """Whether a program has integers where its model has floats."""
    from npu_dialect import quantization
    from npu_dialect.passes.quantizing.types import of_metadata

    known = of_metadata(program.metadata, program.entry_name())
    return bool(known) and not quantization.is_quantized(module)


def _lowered(module: ModuleOp, given: Inputs, options: Options) -> tuple[Program, bool]:
    """The program of a module at level graph, and whether it gives the same bits for inputs."""
    from npu_dialect import api
    from npu_dialect.compare import same

    expected = api.execute(module, given)
    api.lower(module, options=options)
    program = api.assemble(module)
    found = api.simulate(program, given).outputs
    return program, all(bool(np.all(same(expected[name], found[name]))) for name in expected)


def _stored(floats: Sequence[Port], module: ModuleOp, sample: Inputs) -> Any:
    """A sample of floats as the inputs of a quantized module, which may be integers."""
    from npu_dialect import levels, watched_runs
    from npu_dialect.ports import bind

    return watched_runs.stored_inputs(levels.entry_of(module), bind(floats, sample))


def _samples(args: argparse.Namespace, ports: Sequence[Port]) -> list[Inputs]:
    """The inputs that the command line names: one, or some of a data set."""
    from npu_dialect.tools.inputs import random_inputs, refusal

    if args.random is not None:
        return [random_inputs(ports, args.random)]
    if not args.input:
        raise refusal("neither", "npu-run")
    many = _many(args.input, ports)
    step = max(1, -(-len(many) // MOST))
    chosen = list(many)[::step]
    for number, sample in enumerate(chosen):
        _check_finite(ports, sample, f"--input, sample {number * step}")
    return chosen


def _check_finite(ports: Sequence[Port], sample: Inputs, source: str) -> None:
    """Raises CompileError for values that no integer stands for, which have no noise to measure."""
    from npu_dialect.ports import bind

    for port, array in zip(ports, bind(ports, sample), strict=True):
        bad = int(np.sum(~np.isfinite(array))) if port.dtype.is_float else 0
        if bad:
            raise error(
                Code.OPTION,
                "the values of an input to compare with must be finite",
                found=f"{bad:,} of {array.size:,} that are not",
                source=f"{source}, {port.name}",
            )


def _many(options: Sequence[str], ports: Sequence[Port]) -> Sequence[Inputs]:
    """One file or folder is read as samples to calibrate with are; several as data sets are."""
    from npu_dialect.passes.quantizing import samples
    from npu_dialect.tools.datasets import load_data_set
    from npu_dialect.tools.inputs import load_inputs, split_option

    name, path = split_option(options[0])
    if len(options) == 1 and not name:
        return samples.gather(path, ports, where="--input")
    many = load_data_set(options, ports)
    return [load_inputs(options)] if many is None else list(many)


# --- what is printed ------------------------------------------------------------------------------


def _finish(args: argparse.Namespace, found: Fidelity, program: Program, same: bool | None) -> None:
    from npu_dialect.runtime.run import Run

    if args.report:
        run = profile_options.at_point(args, Run.without_data(program))
        profile_options.save(args, run, found.to_json())
    if args.json:
        print(json.dumps(found.to_json() | {"levels_agree": same}, indent=2))
        return
    show(found)
    if same is not None:
        verdict = "agree bit for bit" if same else "DIFFER"
        print(f"graph and npu of the quantized model {verdict}")


def show(found: Fidelity) -> None:
    """Print the table of layers, the outputs, and who is to blame."""
    from npu_dialect.fidelity import reason
    from npu_dialect.tools import tables

    out = tables.console()
    count = f"{found.inputs} input{'s' if found.inputs > 1 else ''}"
    columns = (
        "layer", "operator", "type", "SQNR dB", "own", "cosine", "worst", "at", "saturated",
        "outputs",
    )  # fmt: skip
    rows = tables.table(f"quantized against float, {count}", columns, text=3)
    for layer in found.layers:
        rows.add_row(*_cells(layer))
    out.print(rows)
    out.print(
        "(SQNR: signal to quantization noise; own: if the inputs of the layer were exact; worst "
        "error\nin steps, and where; outputs: their SQNR if this layer alone were quantized)\n"
    )
    if found.unseen:
        out.print(
            f"({found.unseen} more tensors are inside of instructions: npu-run MODEL --quantize "
            "--compare shows them)\n"
        )
    for name, value in found.outputs.items():
        out.print(f"output {name}: SQNR {value:.1f} dB")
    for layer in found.blame:
        out.print(f"to blame: {layer.name}: {reason(layer)}", soft_wrap=True)


def _cells(layer: Layer) -> tuple[str, ...]:
    def decibels(value: float | None) -> str:
        return "" if value is None else f"{value:.1f}"

    return (
        layer.name,
        layer.operator,
        f"{layer.dtype} {layer.scale:.3g}",
        decibels(layer.sqnr),
        decibels(layer.own),
        f"{layer.cosine:.5f}",
        f"{layer.worst:.1f}",
        str(list(layer.worst_index)).replace(" ", ""),
        f"{layer.saturated:.2%}",
        decibels(layer.alone),
    )
