"""Find the pass that changes what a model computes, and the operation to blame."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from npu_dialect.diagnostics import Code, error
from npu_dialect.tools import common, quantize_options

if TYPE_CHECKING:
    from xdsl.dialects.builtin import ModuleOp

    from npu_dialect.bisect import Culprit
    from npu_dialect.compare import Step
    from npu_dialect.ports import Array, Inputs
    from npu_dialect.reduce import Reduced

EXAMPLES = """\
  npu-bisect model.onnx --target edge256 --input x.npy   the default pipelines to level npu
  npu-bisect model.onnx --target edge256 --random 0      on random inputs
  npu-bisect in.mlir -p "graph-canonicalize,my-pass"     passes of your own
  npu-bisect model.onnx --random 0 --reduce case         and write a small case to the folder case
  npu-bisect model.onnx --random 0 --target edge256 --quantize int8 --calibrate samples.npz
                                                         the passes behind quantization

Every pass keeps the bits of the outputs, so the module is run after passes until the one is found
that does not. The exit code is 1 where there is one, 0 where all agree on these inputs.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the tool; the exit code."""
    return common.run_tool(_parser(), _run, argv)


def _parser() -> common.Parser:
    parser = common.Parser("npu-bisect", __doc__ or "", EXAMPLES)
    add = parser.add_argument
    add("model", help=".onnx, .pt2, .tflite or .mlir")
    add(
        "--input",
        action="append",
        default=[],
        metavar="[NAME=]FILE",
        help=".npy or .npz; may be repeated",
    )
    add("--random", type=int, metavar="SEED", help="random inputs instead")
    add("-p", "--passes", metavar="PIPELINE", help="these instead of the default pipelines")
    add("--entry", metavar="NAME", help="the entry to run (default: main, or the only one)")
    add(
        "--tolerance",
        type=float,
        metavar="X",
        help="noise over signal (root mean squares) that a pass which does not keep the bits may "
        "add to an output (default: 0.02)",
    )
    add("--reduce", metavar="DIR", help="write the smallest part that shows the fault, and inputs")
    common.add_model_options(parser)
    quantize_options.add(parser)
    add("--json", action="store_true", help="print JSON")
    common.add_debug_option(parser)
    return parser


def _run(args: argparse.Namespace) -> int:
    from npu_dialect import bisect, levels
    from npu_dialect.pipeline import Options
    from npu_dialect.tools.inputs import given

    module = common.load_model(args, args.model, args.target)
    with common.progress("npu-bisect") as progress:
        quantize_options.quantize(args, module, Options(progress=progress))
        inputs = given(args, levels.inputs_of(module, args.entry), "npu-bisect")
        start = module.clone()
        found = bisect.bisect(module, inputs, entry=args.entry, progress=progress, **_options(args))
        reduced = None
        if found and args.reduce:
            _check_level(levels.level(start))
            reduced = _reduced(args, start, inputs, found)
    count = len(bisect.passes_of(start, args.passes))
    if args.json:
        print(json.dumps(_json(found, reduced, args.reduce), indent=2))
    else:
        _show(found, count)
        if found and args.reduce:
            _show_reduced(reduced, args)
    return common.EXIT_ERROR if found else 0


def _options(args: argparse.Namespace) -> dict[str, Any]:
    """What every search of this run has in common."""
    given = {"spec": args.passes, "tolerance": args.tolerance}
    return {name: value for name, value in given.items() if value is not None}


def _check_level(level: str | None) -> None:
    if level not in (None, "graph"):
        raise error(
            Code.LEVEL,
            "--reduce must begin with a module at level graph",
            found=f"level {level}",
            remedy="the model that it comes from",
            source="npu-bisect",
        )


def _reduced(
    args: argparse.Namespace, module: ModuleOp, inputs: Inputs, found: Culprit
) -> Reduced | None:
    """A part of the model in which the same pass is to blame, written to the folder."""
    from npu_dialect import bisect, files, levels, reduce, reproducer, text
    from npu_dialect.diagnostics import CompileError
    from npu_dialect.ports import bind

    def fails(part: ModuleOp, given: Mapping[str, Array]) -> bool:
        try:
            again = bisect.bisect(part, given, **_options(args))
        except CompileError:
            return False
        return again is not None and again.spec == found.spec

    arrays = bind(levels.inputs_of(module, args.entry), inputs)
    result = reduce.reduce(module, arrays, fails, source=found.source, entry=args.entry)
    if result is not None:
        folder = files.make_folder(Path(args.reduce))
        reproducer.copy_target(result.module, folder)
        files.write_npz(folder / "inputs.npz", dict(result.inputs))
        header = f"// {found.spec} changes what this computes\n// {_command(args)}\n"
        text.write(folder / "reduced.mlir", result.module, header=header)
    return result


def _command(args: argparse.Namespace) -> str:
    """What runs the reduced case."""
    folder = Path(args.reduce)
    command = f"npu-bisect {folder / 'reduced.mlir'} --input {folder / 'inputs.npz'}"
    target = folder / "target.toml"
    command += f" --target {target}" if target.exists() else ""
    return command + (f" -p '{args.passes}'" if args.passes else "")


def _show(found: Culprit | None, count: int) -> None:
    if found is None:
        print(f"all {count} passes agree on these inputs")
        return
    level = f" of level {found.level}" if found.level else ""
    print(f"pass       {found.spec} ({found.number + 1} of {found.passes}{level})")
    if found.problem:
        print(f"fails      {found.problem}")
    if found.step is not None:
        print(f"first at   {found.step.source}: {_difference(found.step)}")
    for step in found.outputs:
        print(f"{step.source:10} {_difference(step)}")


def _difference(step: Step) -> str:
    before, after = step.values
    return (
        f"{step.differing:,} of {step.elements:,} elements differ, by at most {step.largest:.6g}; "
        f"{list(step.first)} was {before:.9g} and is {after:.9g}"
    )


def _show_reduced(reduced: Reduced | None, args: argparse.Namespace) -> None:
    if reduced is None:
        print("reduced    not: no part of the model shows the same pass at fault")
        return
    operations = f"{reduced.operations} operation{'s' if reduced.operations != 1 else ''}"
    print(f"reduced    {operations}: {_command(args)}")


def _json(found: Culprit | None, reduced: Reduced | None, folder: str | None) -> dict[str, Any]:
    result: dict[str, Any] = {"agrees": found is None}
    if found is not None:
        result |= {"culprit": found.to_json()}
    if reduced is not None:
        result |= {"reduced": {"folder": folder, "operations": reduced.operations}}
    return result


if __name__ == "__main__":
    sys.exit(main())
