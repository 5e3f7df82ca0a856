"""Schedules that give values their places: what they must respect, that they never get stuck, and
that they gain.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

from hypothesis import given, settings
from hypothesis import strategies as st
from test_npu_pack import dram_after, programs
from test_schedule import COPY, compute, load, store, tiles

from npu_dialect.npu.base import Instruction
from npu_dialect.passes.live_profile import LiveProfile
from npu_dialect.passes.prefetch import Search, latest, ordered
from npu_dialect.passes.rooms import (
    Basis,
    Rooms,
    Rule,
    schedule_backwards,
    schedule_in_room,
)
from npu_dialect.passes.schedule import Schedule, Tasks, best_schedule, in_order, longest_paths
from npu_dialect.target import load_target

EDGE = load_target("edge256")
Problem = tuple[Tasks, Rooms, Basis]


@st.composite
def problems(draw: st.DrawFn) -> Problem:
    """Tasks that touch values, with no more room than they need one by one in program order."""
    count = draw(st.integers(1, 24))
    number = st.integers(0, count - 1)
    before = [
        sorted({n for n in draw(st.lists(number, max_size=3)) if n < task}) for task in range(count)
    ]
    queues = [draw(st.integers(0, 3)) for _ in range(count)]
    tasks = Tasks(
        queues,
        [
            draw(st.integers(1, 20)) if queue else 0 for queue in queues
        ],  # 0: conversions, in no time
        [draw(st.integers(0, 9)) if queue else 0 for queue in queues],
        before,
        also={t: 1 for t, q in enumerate(queues) if q == 2 and draw(st.booleans())},
    )
    touched = draw(st.lists(st.lists(number, min_size=1, max_size=4), min_size=1, max_size=12))
    touched = [sorted(set(each)) for each in touched]
    sizes = [draw(st.integers(1, 64)) for _ in touched]
    alignments = [draw(st.sampled_from((1, 2, 4))) for _ in touched]
    offsets = lowest(touched, sizes, alignments)
    top = max(o + s for o, s in zip(offsets, sizes, strict=True))
    rooms = Rooms(sizes, alignments, touched, top + draw(st.sampled_from((0, 0, 40))))
    return tasks, rooms, Basis(range(count), offsets)


def lowest(
    touched: Sequence[Sequence[int]], sizes: Sequence[int], alignments: Sequence[int]
) -> list[int]:
    """Offsets at which values fit that live from the first to the last of their tasks."""
    found: list[int] = []
    for k, tasks in enumerate(touched):
        met = [j for j in range(k) if touched[j][0] <= tasks[-1] and tasks[0] <= touched[j][-1]]
        found.append(
            next(
                o
                for o in range(0, 10_000, alignments[k])
                if all(o + sizes[k] <= found[j] or found[j] + sizes[j] <= o for j in met)
            )
        )
    return found


rules = st.tuples(st.integers(0, 3), st.sampled_from((0, 2, 5, 100)))


def rule(tasks: Tasks, kind: int, window: int) -> Rule:
    ranks = range(tasks.count), range(tasks.count, 0, -1), tasks.cycles, longest_paths(tasks)
    return Rule(ranks[kind], window)


def check(tasks: Tasks, rooms: Rooms, found: Schedule, offsets: Sequence[int]) -> None:
    """That a schedule keeps dependencies and engines, and that no two values share a byte."""
    for task, before in enumerate(tasks.before):
        stops = [found.starts[b] + tasks.cycles[b] + tasks.lag(b, task) for b in before]
        assert found.starts[task] >= max(stops, default=0)
    assert found.order == sorted(found.order, key=found.starts.__getitem__)
    moments: dict[int, int] = {}
    for task in found.order:
        for queue in {tasks.queues[task], tasks.also.get(task, tasks.queues[task])}:
            assert found.starts[task] >= moments.get(queue, 0)
            moments[queue] = found.starts[task] + tasks.cycles[task]
    lives = rooms.lives(found)
    for value, (offset, size) in enumerate(zip(offsets, rooms.sizes, strict=True)):
        assert offset >= 0 and offset + size <= rooms.capacity
        assert offset % rooms.alignments[value] == 0
    for a, b in combinations(range(len(lives)), 2):
        at_once = lives[a][0] < lives[b][1] and lives[b][0] < lives[a][1]
        apart = (
            offsets[a] + rooms.sizes[a] <= offsets[b] or offsets[b] + rooms.sizes[b] <= offsets[a]
        )
        assert apart or not at_once


@given(problems(), rules)
def test_no_schedule_gets_stuck_or_lets_values_share_bytes(
    problem: Problem, chosen: tuple[int, int]
) -> None:
    tasks, rooms, basis = problem
    found, offsets = schedule_in_room(tasks, rooms, basis, rule(tasks, *chosen))
    check(tasks, rooms, found, offsets)


@given(problems(), rules)
def test_a_schedule_is_a_basis_for_the_next_one(problem: Problem, chosen: tuple[int, int]) -> None:
    tasks, rooms, basis = problem
    found, offsets = schedule_in_room(tasks, rooms, basis, rule(tasks, *chosen))
    again, offsets = schedule_in_room(
        tasks, rooms, Basis(found.order, offsets), Rule(found.starts, tasks.count)
    )
    check(tasks, rooms, again, offsets)


@given(problems(), rules)
def test_backwards_every_task_runs_before_those_it_depends_on(
    problem: Problem, chosen: tuple[int, int]
) -> None:
    tasks, rooms, basis = problem
    back = schedule_backwards(tasks, rooms, list(basis.order)[::-1], rule(tasks, *chosen))
    ends = [s + c for s, c in zip(back.starts, tasks.cycles, strict=True)]
    assert all(back.starts[b] >= ends[t] for t, before in enumerate(tasks.before) for b in before)


@given(problems(), rules)
def test_the_same_problem_has_the_same_schedule(problem: Problem, chosen: tuple[int, int]) -> None:
    tasks, rooms, basis = problem
    first, second = (schedule_in_room(tasks, rooms, basis, rule(tasks, *chosen)) for _ in range(2))
    assert (first[0].starts, first[1]) == (second[0].starts, second[1])


@given(problems(), rules)
def test_as_late_as_may_be_nothing_ends_later_and_no_value_lives_longer(
    problem: Problem, chosen: tuple[int, int]
) -> None:
    tasks, rooms, basis = problem
    found, offsets = schedule_in_room(tasks, rooms, basis, rule(tasks, *chosen))
    late = latest(tasks, rooms, found)
    check(tasks, rooms, late, offsets)
    assert late.makespan <= found.makespan
    assert all(a >= b for a, b in zip(late.starts, found.starts, strict=True))
    for (begin, end), (old_begin, old_end) in zip(
        rooms.lives(late), rooms.lives(found), strict=True
    ):
        assert old_begin <= begin <= end <= old_end or begin == end


@given(
    st.lists(st.integers(0, 99), min_size=1, max_size=20),
    st.lists(st.tuples(st.integers(0, 19), st.integers(1, 20), st.integers(-9, 9)), max_size=20),
)
def test_a_profile_of_ranges_is_one_of_single_places(
    sums: list[int], changes: list[tuple[int, int, int]]
) -> None:
    profile = LiveProfile(sums)
    for first, length, change in changes:
        first %= len(sums)
        past = min(len(sums), first + length)
        assert profile.most(first, past) == max(sums[first:past])
        profile.add(first, past, change)
        sums[first:past] = [s + change for s in sums[first:past]]


# --- programs -------------------------------------------------------------------------------------


def shuffled_slots(count: int) -> list[Instruction]:
    """Tiles that all go through the same bytes: false dependencies only."""
    return tiles(count, 1)


def test_tiles_overlap_that_were_given_the_same_bytes() -> None:
    before = best_schedule(Tasks.of(shuffled_slots(16), EDGE, [COPY])).makespan
    found = ordered(shuffled_slots(16), EDGE, [COPY])
    after = in_order(Tasks.of(found.instructions, EDGE, [COPY])).makespan
    assert after < 0.7 * before


def test_operands_say_how_far_they_have_moved() -> None:
    program = tiles(4, 1)
    before = {i: [o.address for _, _, o in i.operand_fields()] for i in program}
    found = ordered(program, EDGE, [COPY])
    for instruction in found.instructions:
        steps = found.steps.get(instruction, [0] * len(before[instruction]))
        after = [o.address for _, _, o in instruction.operand_fields()]
        assert [a + s for a, s in zip(before[instruction], steps, strict=True)] == after


def test_the_time_of_the_engines_in_order_is_that_of_the_schedule() -> None:
    program = tiles(12, 2)
    tasks = Tasks.of(program, EDGE, [COPY])
    search = Search.of(program, tasks, EDGE.memories["spm"].size)
    known = best_schedule(tasks)
    better = search.shorter_than(known)
    found = ordered(program, EDGE, [COPY])
    expected = known.makespan if better is None else better.makespan
    assert in_order(Tasks.of(found.instructions, EDGE, [COPY])).makespan <= expected


def test_a_row_buffer_written_round_by_round_keeps_its_order() -> None:
    """Rows of a ring of two: a third row takes the place of the first while the second is read."""
    ring = [
        load(0, 0, 64),
        load(64, 64, 64),
        compute(0, 256, 128),
        load(128, 0, 64),
        compute(0, 512, 128),
        store(256, 1024, 128),
        store(512, 2048, 128),
    ]
    found = ordered(ring, EDGE, [COPY]).instructions
    place = {instruction: k for k, instruction in enumerate(found)}
    for earlier, later in ((0, 2), (1, 2), (2, 3), (3, 4), (2, 5), (4, 6)):
        assert place[ring[earlier]] < place[ring[later]]


@settings(deadline=None, max_examples=20)
@given(programs())
def test_an_ordered_program_does_the_same_no_later(found: list[Instruction]) -> None:
    before, known = dram_after(found), best_schedule(Tasks.of(found, EDGE, [COPY])).makespan
    after = ordered(found, EDGE, [COPY]).instructions
    assert dram_after(after) == before
    assert in_order(Tasks.of(after, EDGE, [COPY])).makespan <= known
