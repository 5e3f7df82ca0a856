"""How the compiler grows: instructions or buffers a second, and layers, at several sizes.

python benchmarks/scaling.py

The programs are made up: tiles that are loaded, computed and stored one after the other, over
slots of the scratchpad. Each figure is the best of two runs; growth is the time of the greatest
size over that of the size before, where 4 is linear. "schedule with room" tries several schedules
up to passes/prefetch.py's MOST instructions, and one beyond. Models of layers are convolutions in a
row in fp32 on mobile4k, compiled once each; n log n grows by 15 from 100 layers to 1,000.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Any

import common
import numpy as np

from npu_dialect import api, dtypes
from npu_dialect.kernel import Kernel
from npu_dialect.machine import Operand
from npu_dialect.npu.base import Instruction
from npu_dialect.npu.copies import DmaCopyOp
from npu_dialect.npu.vectors import VectorOp
from npu_dialect.npu.verifier import ProgramImage, verify_program
from npu_dialect.passes.allocation import Buffer, allocate, live_bound
from npu_dialect.passes.npu_roll import rolled
from npu_dialect.passes.npu_sync import set_waits, waits
from npu_dialect.passes.prefetch import ordered
from npu_dialect.passes.schedule import schedule
from npu_dialect.target import load_target

COPY = Kernel((dtypes.i8,), (), (), dtypes.i8)
SIZES = (3_000, 12_000, 48_000)
"""Instructions, and buffers."""
LAYERS = (10, 100, 1_000)
LAYER_HEAD = ("layers", "instructions", "seconds", "growth", "/busiest")


def main() -> int:
    parser = common.parser(__doc__ or "", models=False)
    args = parser.parse_args()
    rows = [row(name, run) for name, run in STEPS.items()]
    head = ("step", *(f"{n:,}" for n in SIZES), "a second", "growth")
    common.show("seconds by number of instructions", head, [text(r) for r in rows])
    layers = [layers_row(count) for count in LAYERS]
    for before, after in pairwise(layers):
        after["growth"] = after["seconds"] / before["seconds"]
    common.show("compiling by number of layers", LAYER_HEAD, [layers_text(r) for r in layers])
    return common.finish(args, rows + layers)


def text(found: common.Row) -> tuple[str, ...]:
    seconds = [f"{s:.2f}" for s in found["seconds"]]
    return (found["step"], *seconds, f"{found['a second']:,.0f}", f"{found['growth']:.1f}")


def row(name: str, run: Callable[[int], Callable[[], Any]]) -> common.Row:
    seconds = [min(timed(run(size)) for _ in range(2)) for size in SIZES]
    growth = seconds[-1] / seconds[-2]
    return {
        "step": name,
        "seconds": seconds,
        "a second": SIZES[-1] / seconds[-1],
        "growth": growth,
    }


def layers_row(count: int) -> common.Row:
    """What it takes to compile a model of so many layers."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "layers.onnx"
        write_layers(count, path)
        began = perf_counter()
        built = api.compile(path, "mobile4k", options=api.Options(reproducer=None))
        seconds = perf_counter() - began
    profile = built.profile
    busiest = max(engine.busy for engine in profile.engines)
    return {
        "layers": count,
        "instructions": len(built.executed),
        "seconds": seconds,
        "over_busiest": profile.cycles / busiest,
        "growth": None,
    }


def layers_text(found: common.Row) -> tuple[str, ...]:
    growth = "" if found["growth"] is None else f"{found['growth']:.1f}"
    numbers = (f"{found['layers']:,}", f"{found['instructions']:,}", f"{found['seconds']:.1f}")
    return (*numbers, growth, f"{found['over_busiest']:.3f}")


def write_layers(count: int, path: Path) -> None:
    """A model of `count` convolutions [16, 16, 3, 3] in a row over [1, 16, 32, 32]."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    chance = np.random.default_rng(0)
    nodes, constants = list[Any](), list[Any]()
    for k in range(count):
        weights = chance.normal(0, 0.08, (16, 16, 3, 3)).astype(np.float32)
        constants.append(numpy_helper.from_array(weights, f"w{k}"))
        inputs = [f"x{k}", f"w{k}"]
        nodes.append(helper.make_node("Conv", inputs, [f"x{k + 1}"], f"conv{k}", pads=[1, 1, 1, 1]))
    ends = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 16, 32, 32])
        for name in ("x0", f"x{count}")
    ]
    graph = helper.make_graph(nodes, "layers", ends[:1], ends[1:], constants)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]), path)


def timed(run: Callable[[], Any]) -> float:
    began = perf_counter()
    run()
    return perf_counter() - began


def block(space: str, address: int) -> Operand:
    return Operand.dense(space, address, dtypes.i8, (64,))


def tiles(count: int, slots: int = 8) -> list[Instruction]:
    """Load, compute, store, for so many tiles in turn over a few slots of the scratchpad."""
    program: list[Instruction] = []
    for k in range(count):
        slot = k % slots * 128
        program += [
            DmaCopyOp(source=block("dram", 64 * k), destination=block("spm", slot)),
            VectorOp(a=block("spm", slot), output=block("spm", slot + 64), kernel=0),
            DmaCopyOp(source=block("spm", slot + 64), destination=block("dram", 64 * (count + k))),
        ]
    return program


def synced(program: Sequence[Instruction]) -> list[Instruction]:
    found = list(program)
    for instruction, needed in zip(found, waits(found), strict=True):
        set_waits(instruction, needed)
    return found


def scheduling(size: int) -> Callable[[], Any]:
    program = tiles(size // 3)
    return lambda: schedule(program, load_target("edge256"), [COPY])


def prefetching(size: int) -> Callable[[], Any]:
    return lambda: ordered(tiles(size // 3), load_target("edge256"), [COPY])


def syncing(size: int) -> Callable[[], Any]:
    program = tiles(size // 3)
    return lambda: waits(program)


def rolling(size: int) -> Callable[[], Any]:
    program = synced(tiles(size // 3))
    return lambda: rolled(program)


def verifying(size: int) -> Callable[[], Any]:
    image = ProgramImage(synced(tiles(size // 3)), [COPY], [], [], [], 64 * 2 * size)
    return lambda: verify_program(image, load_target("edge256"))


def allocating(size: int) -> Callable[[], Any]:
    chance = random.Random(2)
    items: list[Buffer] = []
    for k in range(size // 4):
        begin = chance.randrange(size)
        items.append(Buffer(k, begin, begin + chance.randint(1, 20), chance.randint(1, 500) * 64))
    capacity = 4 * live_bound(items)[0]
    return lambda: allocate(items, capacity)


STEPS = {
    "schedule": scheduling,
    "schedule with room": prefetching,
    "npu-sync": syncing,
    "npu-roll": rolling,
    "npu-verify": verifying,
    "allocation (a quarter as many buffers)": allocating,
}
"""What is timed: each prepares its input, and gives what to run."""


if __name__ == "__main__":
    sys.exit(main())
