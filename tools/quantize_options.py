"""The options that quantize a float model: those of npu-compile, and of npu-run for a model."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from npu_dialect.diagnostics import Code, error
from npu_dialect.tools import common

if TYPE_CHECKING:
    from xdsl.dialects.builtin import ModuleOp

    from npu_dialect.pipeline import Options
    from npu_dialect.quantization import Outcome, Quantization

METHODS = ("minmax", "moving", "percentile", "mse", "entropy")
"""Those of passes/quantizing/ranges.py, which is not imported for --help."""

OPTIONS = {
    "calibrate": None,
    "method": None,
    "percent": None,
    "improve": None,
    "budget": None,
    "save_precisions": None,
    "prune": None,
    "recurrent": None,
    "statistics": None,
    "save_statistics": None,
    "image_scale": None,
    "image_mean": None,
    "image_std": None,
    "image_fit": None,
    "integer_io": False,
}
"""What means something beside --quantize alone, and what it is where it is not given."""


def add(parser: common.Parser) -> None:
    """Add --quantize and what belongs to it."""
    group = parser.add_argument_group(
        "quantization",
        "A float model becomes one of integers; docs/quantization.md. The values that a tensor has "
        "on samples\ndecide its range.",
    )
    _add_schemes(group.add_argument)
    _add_samples(group.add_argument)
    _add_images(group.add_argument)


def _add_schemes(add: Callable[..., Any]) -> None:
    """What tensors are quantized to, and by which passes."""
    add(
        "--quantize",
        metavar="SCHEME",
        help="int8, or another scheme that docs/quantization.md lists; auto: int8 where the target "
        "has no floats, else nothing",
    )
    add(
        "--improve",
        metavar="NAME,...",
        help="passes that take time and lose less: equalize, smooth, bias, round",
    )
    add(
        "--budget",
        type=float,
        metavar="DB",
        help="mixed precision: the outputs keep this signal-to-noise ratio, and each layer gets "
        "the precision with the fewest cycles (--objective energy: least energy); prints the table",
    )
    add(
        "--save-precisions",
        metavar="FILE",
        type=common.output_file,
        help="what --budget chose, as a file for --overrides",
    )
    add(
        "--prune",
        metavar="HOW",
        help="make weights zero first: 2:4 (two of every four input channels) or a share such as "
        "0.5, by weight and input; magnitude:0.5 by weight alone",
    )
    add(
        "--recurrent",
        metavar="SCHEME",
        help="of recurrent layers, whose noise goes on from step to step (default: that of "
        "--quantize with activations of 16 bits)",
    )
    add("--integer-io", action="store_true", help="inputs and outputs are integers, too")


def _add_samples(add: Callable[..., Any]) -> None:
    """Where ranges come from."""
    add(
        "--calibrate",
        metavar="SAMPLES",
        help=".npz or .npy with a first dimension of samples, or a folder of .npy files, of .npz "
        "files or of images, each one sample",
    )
    add("--method", choices=METHODS, help="how ranges follow from values (default: minmax)")
    add("--percent", type=float, metavar="P", help="with --method percentile (default: 99.99)")
    add("--statistics", metavar="FILE", help="what --save-statistics wrote, instead of samples")
    add(
        "--save-statistics",
        metavar="FILE",
        type=common.output_file,
        help="write the statistics of all tensors (.npz)",
    )


def _add_images(add: Callable[..., Any]) -> None:
    """How images among the samples become inputs."""
    add(
        "--image-scale",
        type=float,
        metavar="S",
        help="an image becomes (pixel * S - mean) / std, pixels 0 to 255 (default: 1/255)",
    )
    add("--image-mean", metavar="M,...", help="one, or one for each channel (default: 0)")
    add("--image-std", metavar="D,...", help="one, or one for each channel (default: 1)")
    add(
        "--image-fit",
        choices=("crop", "stretch"),
        help="how images get the size of the input (default: crop, the middle)",
    )


def asked(args: argparse.Namespace) -> bool:
    """Whether to quantize. Raises CompileError (NPU0004) for options without --quantize."""
    if args.quantize is not None:
        return True
    for name, default in OPTIONS.items():
        if getattr(args, name) != default:
            option = f"--{name.replace('_', '-')}"
            raise error(
                Code.OPTION,
                f"{option} must go with --quantize",
                found=f"{option} alone",
                remedy="--quantize int8",
                source="quantize",
            )
    return False


def quantize(args: argparse.Namespace, module: ModuleOp, options: Options) -> Outcome | None:
    """Quantize a module that was just loaded, as the options say; None where they do not."""
    wanted = wanted_of(args)
    if wanted is None:
        from npu_dialect import overrides

        overrides.check_precisions(module)
        return None
    from npu_dialect import api

    return api.quantize(module, wanted, options=options)


def wanted_of(args: argparse.Namespace) -> Quantization | None:
    """What the options ask for; None without --quantize. Raises CompileError (NPU0004)."""
    if not asked(args):
        return None
    from npu_dialect.quantization import Quantization

    fields: dict[str, Any] = {
        "samples": args.calibrate,
        "method": args.method,
        "percent": args.percent,
        "statistics": args.statistics,
        "save_statistics": args.save_statistics,
        "images": _images(args),
        "budget": args.budget,
        "save_precisions": args.save_precisions,
        "prune": args.prune,
        "recurrent": args.recurrent,
        "objective": "energy" if getattr(args, "objective", "") == "energy" else None,
        "improve": args.improve or None,
    }
    given = {name: value for name, value in fields.items() if value is not None}
    if args.percent is not None and args.method != "percentile":
        raise error(
            Code.OPTION,
            "--percent must go with --method percentile",
            found=f"--method {args.method}" if args.method else "no --method",
            source="quantize",
        )
    return Quantization(args.quantize, integer_io=args.integer_io, **given)


def _images(args: argparse.Namespace) -> Any:
    from npu_dialect.passes.quantizing.images import Images

    fields: dict[str, Any] = {
        "scale": args.image_scale,
        "mean": _numbers(args.image_mean, "--image-mean"),
        "std": _numbers(args.image_std, "--image-std"),
        "fit": args.image_fit,
    }
    return Images(**{name: value for name, value in fields.items() if value is not None})


def _numbers(text: str | None, option: str) -> tuple[float, ...] | None:
    if text is None:
        return None
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError as problem:
        raise error(
            Code.OPTION,
            "must be numbers with commas between them",
            found=repr(text),
            remedy=f"{option} 0.485,0.456,0.406",
            source=option,
        ) from problem
