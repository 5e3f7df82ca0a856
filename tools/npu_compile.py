"""Compile a model to a program for the NPU: .onnx, .pt2, .tflite or .mlir to .npu."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from npu_dialect.diagnostics import Code, CompileError, Diagnostic, collect, error, unique
from npu_dialect.tools import common, quantize_options

if TYPE_CHECKING:
    from xdsl.dialects.builtin import ModuleOp

    from npu_dialect.pipeline import PassRun, Progress
    from npu_dialect.quantization import Outcome
    from npu_dialect.runtime.program import Program

EXAMPLES = """\
  npu-compile model.onnx                                   to model.npu, for edge256
  npu-compile model.onnx --target mobile4k -o fast.npu     for another machine
  npu-compile model.pt2                                    what torch.export.save wrote
  npu-compile model.onnx --shape x=1,3,224,224             binding symbolic dimensions
  npu-compile rnn.onnx --state h=h_next                    the state stays on the device
  npu-compile --entry prefill=p.onnx --entry decode=d.onnx --state past=present -o llm.npu
                                                           several models in one program
  npu-compile model.onnx --quantize int8 --calibrate samples.npz
                                                           integers for floats, ranges from samples
  npu-compile model.onnx --explain                         where each operation runs, and why
  npu-compile model.onnx --export-mappings m.toml          what --overrides takes, to change by hand
  npu-compile model.onnx --strict                          no program if the host would have work
  npu-compile model.onnx --emit tile                       print the IR at a level instead
  npu-compile model.tflite --emit tosa -o model.mlir       as TOSA, which this tool reads as well
  npu-compile model.onnx --save-ir ir --report report.json keep the IR of every level, and a report
  npu-run model.npu --input x.npy                          then run it
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the tool; the exit code."""
    return common.run_tool(_parser(), _run, argv)


def _parser() -> common.Parser:
    parser = common.Parser("npu-compile", __doc__ or "", EXAMPLES)
    add = parser.add_argument
    add("model", nargs="?", help="an .onnx, .pt2 or .tflite model, or .mlir (also of TOSA)")
    add(
        "--entry",
        metavar="NAME=FILE",
        action="append",
        default=[],
        help="a model as an entry of the program, instead of MODEL; the entries share constants "
        "and states of one name",
    )
    add(
        *("-o", "--output"),
        metavar="FILE",
        type=common.output_file,
        help="default: the model's name with .npu",
    )
    common.add_model_options(parser)
    add(
        "--strict",
        action="store_true",
        help="fail (NPU0306) if an operation needs the host; the conversion of inputs and outputs "
        "at the boundary (engine io) is allowed",
    )
    _add_texts(parser)
    _add_reports(parser)
    quantize_options.add(parser)
    common.add_driver_options(parser)
    common.add_debug_option(parser)
    return parser


def _add_texts(parser: common.Parser) -> None:
    """Add what writes IR."""
    add = parser.add_argument_group("the IR").add_argument
    add(
        "--emit",
        choices=("tosa", "graph", "tile", "npu"),
        help="write the IR at this level instead; tosa: the model in TOSA 1.0, as text that "
        "mlir-opt reads, integers bit for bit (docs/tosa.md)",
    )
    add(
        "--tosa-open",
        action="store_true",
        help="with --emit tosa: let integers depend on what TOSA leaves open too, such as the "
        "order of sums of floats; a warning says on what",
    )
    add("--save-ir", metavar="DIR", help="also write the IR of every level into this folder")


def _add_reports(parser: common.Parser) -> None:
    """Add what tells of the program and of how it came to be."""
    add = parser.add_argument_group("why it became what it is").add_argument
    add(
        "--explain",
        action="store_true",
        help="print how every layer is mapped, what binds it and what was rejected, with the "
        "cycles more that it would take by itself (or less: room and neighbours count, too); "
        "where every operation runs; for the host the rule that failed, what going there and back "
        "costs, and what would fix it",
    )
    add(
        "--export-mappings",
        metavar="FILE",
        type=common.output_file,
        help="write how every layer is mapped, as a file for --overrides",
    )
    add(
        "--report",
        metavar="FILE",
        type=common.output_file,
        help="write a JSON report: placement, passes, diagnostics",
    )
    add("--remarks", action="store_true", help="print the remarks of the passes (stderr)")


def _load(args: argparse.Namespace) -> ModuleOp:
    """The module; under `--explain`, all that stands in the way of a torch program is printed."""
    try:
        return common.load_model(args, _models(args), args.target)
    except CompileError as problem:
        from npu_dialect.frontends.torch.problems import Refused

        if args.explain and isinstance(problem, Refused):
            print(problem.report())
        raise


def _run(args: argparse.Namespace) -> int:
    from npu_dialect import api

    with collect() as records, common.progress("npu-compile") as progress:
        module = _load(args)
        outcome = quantize_options.quantize(args, module, common.driver_options(args, progress))
        imported = module.clone() if args.explain or args.strict else None
        mappings: list[str] = []
        passes = list(outcome.runs if outcome else ())
        if _looks_inside(args):
            module, program = _inside(args, module, progress, mappings, passes)
        else:
            program = api.build(module, options=common.driver_options(args, progress))
    if program is None:
        _emit(args, module)
    else:
        if imported is not None:
            for name in program.entries:
                if args.explain and len(program.entries) > 1:
                    print(f"entry {name}")
                _explain(args, program.entry(name), imported)
        for line in mappings:
            print(line)
        _save(args, program, outcome)
    if args.report:
        _write_report(args.report, program, passes, records)
    if args.timing:
        common.show_timing(passes)
    common.show_records(records, remarks=args.remarks)
    return 0


def _models(args: argparse.Namespace) -> str | dict[str, str]:
    """The model, or those of the entries by their names."""
    entries = common.parse_pairs(args.entry, "--entry", "NAME=FILE")
    if bool(entries) == bool(args.model):
        raise error(
            Code.OPTION,
            "must be given either a model or entries",
            found="both" if entries else "neither",
            remedy="--entry NAME=FILE for each model",
            source="npu-compile",
        )
    if entries and not (args.output or args.emit):
        rule = "a program of several models must be given a name"
        raise error(Code.OPTION, rule, found="none", remedy="-o FILE.npu", source="npu-compile")
    return entries or args.model


def _looks_inside(args: argparse.Namespace) -> bool:
    """Whether more is asked for than the program: then it is compiled, even if it was before."""
    inner = (args.emit, args.save_ir, args.report, args.timing, args.explain, args.export_mappings)
    return any(inner)


def _inside(
    args: argparse.Namespace,
    module: ModuleOp,
    progress: Progress,
    mappings: list[str],
    passes: list[PassRun],
) -> tuple[ModuleOp, Program | None]:
    """The lowered module, and the program where no IR is asked for; `passes` takes what ran."""
    from npu_dialect import api, exchange

    if args.emit == "tosa":
        options = common.driver_options(args, progress)
        return exchange.to_tosa(module, is_open=args.tosa_open, options=options, runs=passes), None
    passes += _lower(args, module, progress, mappings)
    return module, None if args.emit else api.assemble(module)


def _lower(
    args: argparse.Namespace, module: ModuleOp, progress: Progress, mappings: list[str]
) -> list[PassRun]:
    """Lower the module as the options say; what is said of the mappings is added to `mappings`."""
    from npu_dialect import api, files, text

    folder = files.make_folder(args.save_ir) if args.save_ir else None

    def save(level: str, module: ModuleOp) -> None:
        if folder:
            text.write(folder / f"{level}.mlir", module)
        if level == "graph" and (args.explain or args.export_mappings):
            mappings.extend(_mappings(args, module))

    options = common.driver_options(args, progress)
    return api.lower(module, args.emit or "npu", options=options, on_level=save)


def _mappings(args: argparse.Namespace, module: ModuleOp) -> Iterator[str]:
    """Export how the layers of a module at level graph are going to be mapped; what to print."""
    from npu_dialect.tools import mappings

    found = mappings.explanations(module)
    if args.explain:
        for name, rows in found.items():
            yield f"mappings{f' of {name}' if len(found) > 1 else ''}, in estimated cycles:"
            yield from mappings.table(rows)
    if args.export_mappings:
        count = mappings.export(args.export_mappings, [r for rows in found.values() for r in rows])
        yield f"{args.export_mappings}: {count} layers"


def _explain(args: argparse.Namespace, program: Program, imported: ModuleOp) -> None:
    """Print why things run where they do; raises CompileError (NPU0306) as `--strict` asks."""
    from npu_dialect.tools import explain
    from npu_dialect.tools.gap import gap

    hosted = any(op.engine == "host" for op in program.placement)
    other = explain.elsewhere(imported, program) if hosted else explain.nowhere
    if args.explain:
        for line in explain.report(program, other):
            print(line)
        found = gap(program)
        for line in () if found is None else found.lines():
            print(line)
    if args.strict:
        explain.check_strict(program, other)


def _emit(args: argparse.Namespace, module: ModuleOp) -> None:
    from npu_dialect import exchange, text

    if args.emit == "tosa" and args.output:
        exchange.write_tosa(args.output, module)
    elif args.emit == "tosa":
        sys.stdout.write(exchange.tosa_text(module))
    elif args.output:
        text.write(args.output, module)
    else:
        sys.stdout.write(text.to_text(module))


def _save(args: argparse.Namespace, program: Program, outcome: Outcome | None) -> None:
    path = Path(args.output or Path(args.model).with_suffix(".npu").name)
    program.save(path)
    size = path.stat().st_size if path.is_file() else 0
    print(f"{path}: {_instructions(program)} for {program.target}, {size:,} bytes")
    for line in [*quantization_summary(program, outcome), *state_summary(program)]:
        print(line)
    for name in program.entries:
        alone = program.entry(name)
        label = f"{name}: {_instructions(alone)}, " if len(program.entries) > 1 else ""
        print(f"  {label}{time_summary(alone)}")
        for line in host_summary(alone):
            print(line)


def _instructions(program: Program) -> str:
    count = sum(len(program.entry(name).static) for name in program.entries)
    return f"{count:,} instructions"


def quantization_summary(program: Program, outcome: Outcome | None) -> list[str]:
    """What the program was quantized to, and what its integer inputs and outputs mean."""
    if outcome is None or not outcome.scheme:
        return [f"  not quantized: {outcome.note}"] if outcome else []
    lines = [f"  quantized to {outcome.note}"]
    for port in (*program.inputs, *program.outputs):
        if port.quantization is not None:
            scale, zero = port.quantization.scales[0], port.quantization.zero_points[0]
            stored = f"(stored {'-' if zero > 0 else '+'} {abs(zero)})"
            lines.append(f"  {port.name}: {port.dtype}, real = {stored} * {scale:.9g}")
    return lines


def state_summary(program: Program) -> list[str]:
    """What the program keeps from run to run: a line per state."""
    return [
        f"  state {s}: {s.operand.size:,} bytes at {s.operand.address:#x}" for s in program.states
    ]


def time_summary(program: Program) -> str:
    """The cycles of a program beside those that no program of the model can beat."""
    from npu_dialect.planned import estimate_of

    profile = program.profile
    bound = profile.lower_bound
    text = f"{profile.cycles:,} cycles"
    if bound is None or not bound.cycles:
        return text
    estimate = estimate_of(program.metadata, program.entry_name())
    if estimate is not None:
        text += f", estimated before scheduling {estimate:,}"
    ratio = profile.cycles / bound.cycles
    return f"{text}; the {bound.binds} alone takes {bound.cycles:,} ({ratio:.2f} x)"


def host_summary(program: Program, names: int = 3) -> list[str]:
    """What left the accelerator: a line per reason, with its first operations."""
    from npu_dialect.runtime.quantities import short

    causes: dict[str, list[str]] = {}
    for row in program.placement:
        if row.engine == "host":
            causes.setdefault(row.reason, []).append(row.source)
    lines: list[str] = []
    for reason, sources in causes.items():
        found = list(dict.fromkeys(sources))
        more = f" and {len(found) - names} more" if len(found) > names else ""
        first = ", ".join(short(name) for name in found[:names])
        lines.append(f"  on the host: {first}{more}: {reason}")
    if lines:
        lines.append("  (--explain says what that costs, and what would help)")
    return lines


def _write_report(
    path: str, program: Program | None, passes: Sequence[PassRun], records: Sequence[Diagnostic]
) -> None:
    from npu_dialect import files
    from npu_dialect.runtime import profile
    from npu_dialect.runtime.run import Run

    report: dict[str, Any] = {
        "passes": [asdict(run) for run in passes],
        "diagnostics": [record.to_json() for record in unique(records)],
    }
    if program is not None:
        found = {
            name: Run({}, profile.of(program.entry(name))).summary() for name in program.entries
        }
        report |= {"program": found[next(iter(found))]} if len(found) == 1 else {"entries": found}
    files.write_text(path, json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    sys.exit(main())
