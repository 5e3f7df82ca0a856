"""How the back end grows: instructions or buffers a second, at several sizes.

python benchmarks/scaling.py

The programs are made up: tiles that are loaded, computed and stored one after the other. Each
figure is the best of two runs; growth is the time of the greatest size over that of the size
before, where 4 is linear.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Callable, Sequence
from time import perf_counter
from typing import Any

import common

from npu_dialect import dtypes
from npu_dialect.kernel import Kernel
from npu_dialect.machine import Operand
from npu_dialect.npu.base import Instruction
from npu_dialect.npu.copies import DmaCopyOp
from npu_dialect.npu.vectors import VectorOp
from npu_dialect.npu.verifier import ProgramImage, verify_program
from npu_dialect.passes.allocation import Buffer, allocate, live_bound
from npu_dialect.passes.npu_roll import rolled
from npu_dialect.passes.npu_sync import set_waits, waits
from npu_dialect.passes.schedule import schedule
from npu_dialect.target import load_target

COPY = Kernel((dtypes.i8,), (), (), dtypes.i8)
SIZES = (3_000, 12_000, 48_000)
"""Instructions, and buffers."""


def main() -> int:
    parser = common.parser(__doc__ or "", models=False)
    args = parser.parse_args()
    rows = [row(name, run) for name, run in STEPS.items()]
    head = ("step", *(f"{n:,}" for n in SIZES), "a second", "growth")
    common.show("seconds by number of instructions", head, [text(r) for r in rows])
    return common.finish(args, rows)


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
    "npu-sync": syncing,
    "npu-roll": rolling,
    "npu-verify": verifying,
    "allocation (a quarter as many buffers)": allocating,
}
"""What is timed: each prepares its input, and gives what to run."""


if __name__ == "__main__":
    sys.exit(main())
