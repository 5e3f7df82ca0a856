"""Mappings and networks beside the figures that other tools publish for the same machine.

  python benchmarks/external.py                     all comparisons
  python benchmarks/external.py accelforge gemm     those whose names hold all of these words

accelforge  single layers on the machine of AccelForge's optimal mappings (targets/accelforge.toml),
            ours with 128 KiB on the chip against its 64, 512 against its 256: bytes of DRAM and
            dynamic energy over its optimum; its mappings are those of least energy, and ours are
            chosen by energy too (`graph-map{objective=energy}`)
zigzag      networks on ZigZag's tpu_like with its energy table (targets/zigzag_tpu_like.toml):
            cycles and energy over its best; ours chosen by cycles

Layers are integer ONNX files made here, with random weights; networks are those of zoo.py in int8.
What each comparison covers and leaves out stands in docs/benchmarks.md and in the target files.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import common
import numpy as np
import zoo

if TYPE_CHECKING:
    from npu_dialect.runtime.program import Program

TARGETS = Path(__file__).parent / "targets"
COLUMNS = ("comparison", "what", "ours", "theirs", "ratio", "goal", "holds")

ACC = 16384
"""Bytes of accumulators, which are a part of the memory on the chip that is compared."""
MEMORIES = {64: (128, 0.74, 0.66), 256: (512, 1.57, 1.26)}
"""KiB of AccelForge's buffer: KiB of ours, pJ per byte read and written (section 4.2 of
shared/reference/energy.md, 22 nm).
"""


@dataclass(frozen=True)
class Layer:
    """A layer of AccelForge's table at its optimum of energy: positions along each side (rows of a
    product), input and output channels, taps along each side.
    """

    name: str
    side: int
    inputs: int
    outputs: int
    taps: int
    memory: int
    """KiB of its buffer."""
    microjoules: float
    dram: int
    """Bytes."""


LAYERS = (
    Layer("gemm_128x768x768", 128, 768, 768, 0, 64, 92.03, 884736),
    Layer("gemm_512x512x512", 512, 512, 512, 0, 64, 180.17, 1835008),
    Layer("gemm_128x3072x768", 128, 3072, 768, 0, 64, 368.12, 3538944),
    Layer("conv_56x56x64x64x3x3", 56, 64, 64, 3, 64, 82.52, 452864),
    Layer("conv_14x14x256x256x3x3", 14, 256, 256, 3, 64, 104.75, 705536),
    Layer("gemm_128x768x768", 128, 768, 768, 0, 256, 93.81, 786432),
    Layer("gemm_512x512x512", 512, 512, 512, 0, 256, 143.09, 1048576),
    Layer("gemm_128x3072x768", 128, 3072, 768, 0, 256, 356.07, 2850816),
    Layer("conv_56x56x64x64x3x3", 56, 64, 64, 3, 256, 93.85, 452864),
    Layer("conv_14x14x256x256x3x3", 14, 256, 256, 3, 256, 110.99, 705536),
    Layer("conv_7x7x512x512x3x3", 7, 512, 512, 3, 256, 224.76, 2425856),
    Layer("pw_112x112x32x16", 112, 32, 16, 1, 256, 42.54, 602624),
    Layer("pw_14x14x384x64", 14, 384, 64, 1, 256, 10.01, 112384),
)
"""Its rows for the metric ENERGY (shared/reference/energy.md, section 4.1)."""

DRAM_GOAL, ENERGY_GOAL = 1.05, 1.10


@dataclass(frozen=True)
class Network:
    """ZigZag's best cycles and energy for a network, over its runs, and the goals against them."""

    name: str
    cycles: int
    microjoules: float | None
    cycles_goal: float
    energy_goal: float | None = None


NETWORKS = (
    Network("resnet18", 3783401, 1735.2, 0.75, 0.93),
    Network("mobilenet_v2", 22573199, None, 0.10),
)
"""The least of its rows for tpu_like (shared/reference/zigzag.md, section 2)."""


def main() -> int:
    args = _parser().parse_args()
    rows = [row for name, run in _comparisons(args) if _wanted(args, name) for row in run()]
    if not rows:
        sys.exit(f"no comparison {' '.join(args.names)}")
    common.show("beside the figures of other tools", COLUMNS, map(cells, rows))
    held = sum(row["ratio"] <= row["goal"] for row in rows)
    print(f"goals held: {held} of {len(rows)}")
    return common.finish(args, rows)


def _parser() -> Any:
    parser = common.parser(__doc__ or "", models=False)
    parser.add_argument("names", nargs="*", metavar="WORD", help="comparisons with these only")
    parser.add_argument("--cache", type=Path, metavar="DIR", default=zoo.default_cache(),
                        help="where built models are kept (default: %(default)s)")  # fmt: skip
    return parser


def _wanted(args: Any, name: str) -> bool:
    return all(word in name for word in args.names)


def _comparisons(args: Any) -> Iterator[tuple[str, Callable[[], list[common.Row]]]]:
    for layer in LAYERS:
        yield f"accelforge {layer.name} {layer.memory} KiB", lambda a=layer: accelforge(a)
    for network in NETWORKS:
        yield f"zigzag {network.name}", lambda n=network: zigzag(args.cache, n)


def row(name: str, what: str, ours: float, theirs: float, goal: float) -> common.Row:
    """One figure beside another."""
    return {
        "comparison": name, "what": what, "ours": ours, "theirs": theirs,
        "ratio": ours / theirs, "goal": goal,
    }  # fmt: skip


def cells(found: common.Row) -> tuple[object, ...]:
    return (
        found["comparison"],
        found["what"],
        f"{found['ours']:,.10g}",
        f"{found['theirs']:,.10g}",
        f"{found['ratio']:.3f}",
        f"{found['goal']:.2f}",
        common.verdict(found["ratio"] <= found["goal"]),
    )


# --- single layers --------------------------------------------------------------------------------


def accelforge(layer: Layer) -> list[common.Row]:
    """Bytes of DRAM and energy of a layer beside AccelForge's."""
    program = _compiled(layer)
    name = f"accelforge {layer.name}, {MEMORIES[layer.memory][0]} KiB to {layer.memory}"
    dram = program.profile.dram_read + program.profile.dram_written
    energy = sum(program.profile.energy.dynamic.values()) * 1e-6
    return [
        row(name, "DRAM bytes", dram, layer.dram, DRAM_GOAL),
        row(name, "energy in uJ", round(energy, 2), layer.microjoules, ENERGY_GOAL),
    ]


def _compiled(layer: Layer) -> Program:
    from xdsl.dialects.builtin import StringAttr

    from npu_dialect import api

    size, read, written = MEMORIES[layer.memory]
    text = (TARGETS / "accelforge.toml").read_text()
    for old, new in (
        ("size = 114688 ", f"size = {size * 1024 - ACC} "),
        ("read_pj = 0.74 ", f"read_pj = {read} "),
        ("write_pj = 0.66 ", f"write_pj = {written} "),
    ):
        assert old in text
        text = text.replace(old, new)
    with TemporaryDirectory() as folder:
        target, model = Path(folder) / "accelforge.toml", Path(folder) / f"{layer.name}.onnx"
        target.write_text(text)
        model.write_bytes(layer_model(layer).SerializeToString())
        module = api.load(model, target)
        module.attributes["npu.objective"] = StringAttr("energy")
        api.lower(module, options=api.Options(reproducer=None))
        return api.assemble(module)


def layer_model(layer: Layer) -> Any:
    """An ONNX model of the layer in int8: activations, weights and results are integers, and images
    are channels-last outside. Convolutions are valid ones, as AccelForge has them.
    """
    from onnx import TensorProto, helper, numpy_helper

    generator = np.random.default_rng(layer.side)
    shape = (layer.outputs, layer.inputs, layer.taps, layer.taps)
    if not layer.taps:
        shape = (layer.inputs, layer.outputs)
    constants = {
        "w": generator.integers(-127, 128, shape, np.int8),
        "scale": np.float32(0.02),
        "w_scale": np.float32(0.01),
        "y_scale": np.float32(0.5),
        "zero": np.int8(0),
    }
    side = layer.side + max(0, layer.taps - 1)
    image, result = [1, side, side, layer.inputs], [1, layer.side, layer.side, layer.outputs]
    if not layer.taps:
        image, result = [layer.side, layer.inputs], [layer.side, layer.outputs]
    graph = helper.make_graph(
        _nodes(layer),
        layer.name,
        [helper.make_tensor_value_info("x", TensorProto.INT8, image)],
        [helper.make_tensor_value_info("y", TensorProto.INT8, result)],
        [numpy_helper.from_array(np.asarray(v), name) for name, v in constants.items()],
    )
    opset = [helper.make_opsetid("", 13)]
    return helper.make_model(graph, opset_imports=opset, ir_version=8)


def _nodes(layer: Layer) -> list[Any]:
    from onnx import helper

    scales = ["scale", "zero"], ["w_scale", "zero"], ["y_scale", "zero"]
    if not layer.taps:
        inputs = ["x", *scales[0], "w", *scales[1], *scales[2]]
        return [helper.make_node("QLinearMatMul", inputs, ["y"])]
    inputs = ["nchw", *scales[0], "w", *scales[1], *scales[2]]
    return [
        helper.make_node("Transpose", ["x"], ["nchw"], perm=[0, 3, 1, 2]),
        helper.make_node("QLinearConv", inputs, ["out"]),
        helper.make_node("Transpose", ["out"], ["y"], perm=[0, 2, 3, 1]),
    ]


# --- networks -------------------------------------------------------------------------------------


def zigzag(cache: Path, network: Network) -> list[common.Row]:
    """Cycles and energy of a network beside ZigZag's best."""
    from npu_dialect import api

    path = zoo._int8(cache, network.name)
    target = TARGETS / "zigzag_tpu_like.toml"
    program = api.compile(path, target, options=api.Options(reproducer=None))
    name = f"zigzag {network.name}"
    found = [row(name, "cycles", program.profile.cycles, network.cycles, network.cycles_goal)]
    if network.microjoules is not None and network.energy_goal is not None:
        energy = round(sum(program.profile.energy.dynamic.values()) * 1e-6, 1)
        found.append(row(name, "energy in uJ", energy, network.microjoules, network.energy_goal))
    return found


if __name__ == "__main__":
    sys.exit(main())
