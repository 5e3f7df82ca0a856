"""Run passes on IR: read .mlir (also of TOSA), .onnx, .pt2 or .tflite, write .mlir."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from npu_dialect.diagnostics import Code, CompileError, collect, error
from npu_dialect.tools import common, mapping_options

if TYPE_CHECKING:
    from xdsl.dialects.builtin import ModuleOp

    from npu_dialect.pipeline import Progress

EXAMPLES = """\
  npu-opt model.onnx                                   import a model and print it
  npu-opt model.onnx --shape x=1,3,224,224             the same, binding symbolic dimensions
  npu-opt model.onnx -p canonicalize,cse -o out.mlir   run two passes, write a file
  npu-opt model.onnx --lower-to tile --target edge256  run the default pipelines to a level
  npu-opt out.mlir -p "pass-a{option=1}" --print-ir-after-all
  npu-opt npu-reproducer/repro.mlir -p "..."           run again what failed
  npu-opt --list-passes

A file that is written keeps the source of every operation, and the data of large constants in
a side file: out.blobs.npz beside out.mlir.
"""

SEPARATOR = "// -----"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the tool; the exit code."""
    return common.run_tool(_parser(), _run, argv)


def _parser() -> common.Parser:
    parser = common.Parser("npu-opt", __doc__ or "", EXAMPLES)
    add = parser.add_argument
    add("input", nargs="?", default="-", help=".mlir, .onnx, .pt2 or .tflite; - is stdin (default)")
    add("-p", "--passes", default="", metavar="PIPELINE", help="what to run: pass-a,pass-b{x=1}")
    add("--lower-to", choices=("graph", "tile", "npu"), help="run the default pipelines, then -p")
    add(
        *("-o", "--output"),
        metavar="FILE",
        type=common.output_file,
        default="-",
        help="default: standard output",
    )
    common.add_model_options(parser)
    _add_text_options(parser)
    common.add_driver_options(parser)
    add("--list-passes", action="store_true", help="list the passes and the default pipelines")
    add("--remarks", action="store_true", help="print the remarks of the passes (stderr)")
    common.add_debug_option(parser)
    return parser


def _add_text_options(parser: common.Parser) -> None:
    add = parser.add_argument_group("the text").add_argument
    add(
        "--locations",
        action=argparse.BooleanOptionalAction,
        help="print the source of every operation (default: into files only)",
    )
    add("--generic", action="store_true", help="print the form that any MLIR tool reads")
    add("--split-input-file", action="store_true", help=f"treat parts between {SEPARATOR} apart")
    add(
        "--verify-diagnostics",
        action="store_true",
        help="print errors to the output and succeed: for tests of errors",
    )


def _run(args: argparse.Namespace) -> int:
    if args.list_passes:
        return _list_passes()
    modules: list[ModuleOp] = []
    texts: list[str] = []
    with collect() as records, common.progress("npu-opt") as progress:
        for part in _parts(args):
            texts.append(_process(args, part, modules, progress))
    _write(args.output, f"{SEPARATOR}\n".join(texts), modules)
    common.show_records(records, remarks=args.remarks)
    return 0


def _parts(args: argparse.Namespace) -> Iterator[tuple[str, int]]:
    """The texts to treat, with the line each starts at; none for a file that is not text."""
    from npu_dialect import files

    if args.input.endswith((".onnx", ".pt2", ".tflite")):
        yield "", 0
        return
    if args.input.endswith(".npu"):
        raise error(
            Code.FILE_KIND,
            "must be IR or a model, and a .npu file is a program",
            found=args.input,
            remedy="npu-run, or npu-compile --emit npu for the IR",
            source="npu-opt",
        )
    text = sys.stdin.read() if args.input == "-" else files.read_text(args.input)
    line = 0
    for part in text.split(SEPARATOR) if args.split_input_file else [text]:
        yield part, line
        line += part.count("\n")


def _process(
    args: argparse.Namespace,
    part: tuple[str, int],
    modules: list[ModuleOp],
    progress: Progress,
) -> str:
    """The text of one part after its passes; with --verify-diagnostics of its error."""
    from npu_dialect import text

    try:
        module = _load(args, *part)
        _apply(args, module, progress)
    except CompileError as problem:
        if args.verify_diagnostics:
            return f"{problem}\n"
        raise
    modules.append(module)
    locations = args.output != "-" if args.locations is None else args.locations
    return text.to_text(module, locations=locations, generic=args.generic)


def _load(args: argparse.Namespace, source: str, line: int) -> ModuleOp:
    from npu_dialect import text

    if args.input.endswith((".onnx", ".pt2", ".tflite")):
        return common.load_model(args, args.input, None)
    shapes = common.parse_shapes(args.shape)
    if args.input == "-":
        return text.parse_model(source, "<stdin>", shapes, line)
    with text.side_data(args.input):
        return text.parse_model(source, args.input, shapes, line)


def _apply(args: argparse.Namespace, module: ModuleOp, progress: Progress) -> None:
    from npu_dialect import api, pipeline

    options = common.driver_options(args, progress)
    if args.target:
        api.set_target(module, args.target)
    mapping_options.note(args, module)
    runs = api.lower(module, args.lower_to, options=options) if args.lower_to else []
    runs += pipeline.run(module, args.passes, options=options)
    if args.timing:
        common.show_timing(runs)


def _write(output: str, content: str, modules: Sequence[ModuleOp]) -> None:
    from npu_dialect import text

    if output == "-":
        sys.stdout.write(content)
    else:
        text.save(Path(output), content, modules)


def _list_passes() -> int:
    from npu_dialect import universe

    for name in universe.PASSES:
        lines = (universe.pass_class(name).__doc__ or "").strip().splitlines()
        print(f"{name:28} {lines[0] if lines else ''}")
    for level, steps in universe.PIPELINES.items():
        print(f"\npipeline {level}:")
        for step in steps:
            print(f"  {step.spec:26} {step.reason}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
