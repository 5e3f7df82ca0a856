"""The list scheduler: what orders are allowed, what is gained, and how fast it is."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from npu_dialect import dtypes
from npu_dialect.dtypes import i8
from npu_dialect.kernel import Kernel
from npu_dialect.machine import Operand
from npu_dialect.npu.base import Instruction
from npu_dialect.npu.copies import DmaCopyOp
from npu_dialect.npu.vectors import VectorOp
from npu_dialect.passes.dependencies import interleaved, predecessors
from npu_dialect.passes.schedule import Tasks, best_schedule, list_schedule, longest_paths, schedule
from npu_dialect.target import load_target

COPY = Kernel((dtypes.i8,), (), (), dtypes.i8)


def block(space: str, address: int, size: int) -> Operand:
    return Operand.dense(space, address, i8, (size,))


def load(source: int, destination: int, size: int) -> Instruction:
    return DmaCopyOp(
        source=block("dram", source, size), destination=block("spm", destination, size)
    )


def store(source: int, destination: int, size: int) -> Instruction:
    return DmaCopyOp(
        source=block("spm", source, size), destination=block("dram", destination, size)
    )


def compute(source: int, destination: int, size: int) -> Instruction:
    return VectorOp(a=block("spm", source, size), output=block("spm", destination, size), kernel=0)


def tiles(count: int, slots: int, size: int = 1024) -> list[Instruction]:
    """Load, compute, store, one tile after the other, over so many slots."""
    program: list[Instruction] = []
    for k in range(count):
        slot = k % slots * 2 * size
        program += [
            load(k * size, slot, size),
            compute(slot, slot + size, size),
            store(slot + size, (count + k) * size, size),
        ]
    return program


@st.composite
def task_tables(draw: st.DrawFn) -> Tasks:
    count = draw(st.integers(1, 30))
    number = st.integers(0, count - 1)
    before = [
        sorted({draw(number) % k for _ in range(draw(st.integers(0, 3)))} if k else set())
        for k in range(count)
    ]
    queues = [draw(st.integers(0, 2)) for _ in range(count)]
    return Tasks(
        queues,
        [draw(st.integers(1, 20)) for _ in range(count)],
        [draw(st.integers(0, 9)) for _ in range(count)],
        before,
        also={t: 0 for t, q in enumerate(queues) if q == 1 and draw(st.booleans())},
    )


@given(task_tables())
def test_a_schedule_respects_dependencies_and_engines(tasks: Tasks) -> None:
    found = best_schedule(tasks)
    ends = [s + c for s, c in zip(found.starts, tasks.cycles, strict=True)]
    for task, before in enumerate(tasks.before):
        assert all(found.starts[task] >= ends[b] + tasks.lag(b, task) for b in before)
    for engine in set(tasks.queues):
        own = sorted(
            (found.starts[t], ends[t])
            for t in range(tasks.count)
            if engine in (tasks.queues[t], tasks.also.get(t))
        )
        assert all(a[1] <= b[0] for a, b in pairwise(own))
    assert found.makespan >= max(tasks.busiest, max(longest_paths(tasks)))


def test_the_best_schedule_is_no_longer_than_the_one_in_program_order() -> None:
    tasks = Tasks.of(tiles(40, 2), load_target("edge256"), [COPY])
    in_order = list_schedule(tasks, range(tasks.count, 0, -1))
    assert best_schedule(tasks).makespan <= in_order.makespan


def test_copies_run_ahead_of_the_computation_as_far_as_slots_allow() -> None:
    target = load_target("edge256")
    ordered = schedule(tiles(8, 2), target, [COPY])
    engines = [i.engine for i in ordered[:4]]
    assert engines.count("dma") >= 2
    one, two = (best_schedule(Tasks.of(tiles(8, s), target, [COPY])).makespan for s in (1, 2))
    assert two < one


def test_a_copy_of_what_a_copy_brings_starts_when_it_is_there() -> None:
    # load: 16 + ceil(64 / 3.75) = 34 cycles, complete 500 later
    tasks = Tasks.of([load(0, 0, 64), store(0, 64, 64)], load_target("edge256"), [])
    assert best_schedule(tasks).starts == [0, 34 + 500]


def test_the_order_keeps_conflicting_accesses_as_they_were() -> None:
    program = tiles(20, 3)
    place = {id(i): k for k, i in enumerate(schedule(program, load_target("edge256"), [COPY]))}
    for k, before in enumerate(predecessors(program)):
        assert all(place[id(program[b])] < place[id(program[k])] for b in before)


# --- dependencies ---------------------------------------------------------------------------------


def touched(operand: Operand) -> set[int]:
    offsets = {operand.address}
    for d, s in zip(operand.dims, operand.strides, strict=True):
        offsets = {o + i * s for o in offsets for i in range(d)}
    return {o + b for o in offsets for b in range(operand.dtype.itemsize)}


@st.composite
def operands(draw: st.DrawFn) -> Operand:
    rank = draw(st.integers(1, 3))
    dims = tuple(draw(st.integers(1, 4)) for _ in range(rank))
    strides = tuple(draw(st.sampled_from([0, 1, 2, 4, 8, 16, 32, -4, -8])) for _ in range(rank))
    return Operand(
        "spm",
        64 + draw(st.integers(0, 40)),
        draw(st.sampled_from([dtypes.i8, dtypes.i32])),
        dims,
        strides,
    )


@given(operands(), operands())
def test_blocks_that_are_called_interleaved_share_no_byte(a: Operand, b: Operand) -> None:
    assert not (interleaved(a, b) and touched(a) & touched(b))


def test_tiles_of_columns_are_independent_though_their_rows_interleave() -> None:
    left = Operand("spm", 0, i8, (4, 8, 16), (256, 16, 1))
    right = Operand("spm", 128, i8, (4, 8, 16), (256, 16, 1))
    assert interleaved(left, right)
    assert not interleaved(left, Operand("spm", 112, i8, (4, 8, 16), (256, 16, 1)))


@given(st.lists(st.tuples(operands(), operands()), max_size=24))
def test_every_conflict_is_reached_through_predecessors(
    pairs: list[tuple[Operand, Operand]],
) -> None:
    program = [VectorOp(a=a, output=b, kernel=0) for a, b in pairs]
    reached: list[set[int]] = []
    for before in predecessors(program):
        reached.append(set(before).union(*(reached[b] for b in before)))
    for k, (read, written) in enumerate(pairs):
        for j, (earlier_read, earlier_written) in enumerate(pairs[:k]):
            conflict = touched(earlier_written) & (touched(read) | touched(written))
            if conflict or touched(earlier_read) & touched(written):
                assert j in reached[k]
