"""make demo: train a CNN on handwritten digits, quantize it, compile it for an NPU, run every test
image, compare.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from npu_dialect.tools import common

if TYPE_CHECKING:
    import numpy.typing as npt

    from npu_dialect.runtime.program import Program
    from npu_dialect.runtime.run import Run

EXAMPLES = """\
  python -m npu_dialect.tools.demo                          edge256, files in demo_output/
  python -m npu_dialect.tools.demo --target mobile4k        another machine
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the demonstration; the exit code."""
    parser = common.Parser("demo", __doc__ or "", EXAMPLES)
    parser.add_argument("--target", default="edge256", help="default: edge256")
    parser.add_argument("--output", default="demo_output", metavar="DIR", help="where files go")
    common.add_debug_option(parser)
    return common.run_tool(parser, _run, argv)


def _run(args: argparse.Namespace) -> int:
    from npu_dialect import files
    from npu_dialect.tools.demo import digits

    folder = files.make_folder(args.output)
    with step("loading 1,797 images of handwritten digits"):
        data = digits.load()
    with step("training the fp32 network"):
        net = digits.train(data)
    fp32, int8 = folder / "digits.onnx", folder / "digits_int8.onnx"
    with step("exporting to ONNX, quantizing to int8 with onnxruntime"):
        digits.export(net, fp32)
        digits.quantize(fp32, int8, data)
    with step(f"compiling for {args.target}"):
        program = compile_model(int8, args.target, folder)
    with step(f"running {len(data.test_labels)} test images on the simulated NPU"):
        logits, run = simulate(program, data.test_images)
    with step("running the same images through onnxruntime"):
        reference = {
            "fp32, onnxruntime": digits.run_onnxruntime(fp32, data.test_images),
            "int8, onnxruntime": digits.run_onnxruntime(int8, data.test_images),
        }
    run.save_report(folder / "report.json")
    run.save_report(folder / "report.html")
    run.save_trace(folder / "trace.json")
    results = {**reference, f"int8, {args.target} simulated": logits}
    show(results, data.test_labels, output_scale(int8), run)
    print(f"\nfiles, in {folder}/\n" + "\n".join(f"  {n:16s} {what}" for n, what in FILES.items()))
    return 0


FILES = {
    "digits.onnx": "the trained network; digits_int8.onnx: quantized by onnxruntime",
    "ir/": "graph.mlir, tile.mlir, npu.mlir: the same network at every level",
    "digits_int8.npu": "the program: try  npu-run digits_int8.npu --random 0",
    "report.json": "everything above and more; report.html: the same as a page",
    "trace.json": "the timeline, for ui.perfetto.dev",
}


@contextmanager
def step(what: str) -> Iterator[None]:
    """Says what is going on, and how long it took."""
    start = time.perf_counter()
    print(f"{what} ... ", end="", flush=True)
    yield
    print(f"{time.perf_counter() - start:.1f} s")


def compile_model(path: Path, target: str, folder: Path) -> Program:
    """The program of an ONNX file; its IR at every level and the program go to `folder`."""
    from xdsl.dialects.builtin import ModuleOp

    from npu_dialect import api, files, text

    ir = files.make_folder(folder / "ir")

    def save(level: str, module: ModuleOp) -> None:
        text.write(ir / f"{level}.mlir", module)

    module = api.load(path, target)
    api.lower(module, on_level=save)
    program = api.assemble(module)
    program.save(folder / path.with_suffix(".npu").name)
    return program


def simulate(program: Program, images: npt.NDArray[Any]) -> tuple[npt.NDArray[Any], Run]:
    """Logits of all images, and the run of the last one (time and energy do not depend on the
    data).
    """
    import numpy as np

    from npu_dialect.runtime.simulator import Session

    session = Session(program)
    runs = [session.run([image[None]]) for image in images]
    return np.concatenate([run.outputs["logits"] for run in runs]), runs[-1]


def output_scale(path: Path) -> float:
    """One quantization step of the logits."""
    import onnx
    from onnx import numpy_helper

    graph = onnx.load(path).graph
    constants = {c.name: numpy_helper.to_array(c) for c in graph.initializer}
    last = next(n for n in graph.node if n.output[0] == graph.output[0].name)
    return float(constants[last.input[1]])


def show(
    results: dict[str, npt.NDArray[Any]], labels: npt.NDArray[Any], scale: float, run: Run
) -> None:
    """The page: accuracy, difference from onnxruntime, layers and totals."""
    import numpy as np

    from npu_dialect.tools import profile_tables, tables

    *_, reference, simulated = results.values()
    accuracy = tables.table("\naccuracy", ("network", "correct", "top-1"))
    for name, logits in results.items():
        right = int((logits.argmax(1) == labels).sum())
        accuracy.add_row(name, f"{right} of {len(labels)}", f"{right / len(labels):.2%}")
    tables.console().print(accuracy)
    steps = np.abs(simulated - reference) / scale
    most = int(np.rint(steps.max()))
    print(
        f"\nlargest difference from onnxruntime: {most} quantization step{'s' * (most != 1)} "
        f"({np.count_nonzero(np.rint(steps))} of {steps.size:,} logits differ)"
    )
    profile_tables.show_run(run)


if __name__ == "__main__":
    sys.exit(main())
