"""The moves of a plan: what may come next at a group, and what it adds to the cost.

The next segment is the group alone, with its results in either memory, or a cascade that begins
with it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import accumulate

from xdsl.dialects.builtin import StringAttr
from xdsl.ir import SSAValue

from npu_dialect import overrides
from npu_dialect.passes.mapping.cascades import LONGEST, Option, Run, Runs
from npu_dialect.passes.mapping.lives import Lives
from npu_dialect.passes.mapping.paths import Move
from npu_dialect.passes.mapping.pinned import Pinned, pinned_cascades, pinned_option
from npu_dialect.passes.mapping.segments import Cascade, Key, Segment, Single, weights_of
from npu_dialect.passes.mapping.tiles import aligned
from npu_dialect.passes.mapping.work import Work, Works

WORTH = 0.01
"""The part of its cost that a run of groups must lose to copies before it may be a cascade."""
CROWDED = 0.75
"""The part of the scratchpad beyond which tensors that live are a reason for a cascade."""
PARTS = 8
"""Ways are told apart by the eighths of the scratchpad that their tensors take."""


class Ways:
    """The moves of one function's plan, with what is known of its cascades."""

    def __init__(self, works: Works, lives: Lives) -> None:
        self.works, self.lives = works, lives
        self.groups, self.capacity, self.pinned = works.groups, works.capacity, works.pinned
        count = len(self.groups)
        self.reserved = [0] * count
        """Bytes that are left free at each group, as offsets did not come out."""
        self.banned: set[SSAValue] = set()
        """Tensors that go to dram for good."""
        self.wanted = {g.op: overrides.pins(g.op).get("memory") for g in self.groups}
        self.runs = Runs(works, [lives.last_read(k) for k in range(count)])
        self.pinned_runs = {p.first: p for p in pinned_cascades(self.groups)}
        self.known: dict[Key, list[Option]] = {}
        self.weights = [weights_of(g) for g in self.groups]
        after = accumulate(reversed(self.weights), initial=0)
        self.later = [size / works.width for size in after][::-1]
        """Cycles in which all weights from each group on are loaded."""
        self.crowded = [False] * count
        """Groups at which all tensors that live take most of the scratchpad, where room decides."""
        self.tight = self._tight()
        """Such groups where array and vector unit wait for each other: in stripes both are at work,
        and there is room for what is loaded ahead.
        """
        self.is_limited = False
        """Whether there is less room than on the machine, so that room decides."""
        self.may_spill = True
        """Whether a tensor may lie in dram that need not."""
        self.forget()

    def crowd(self) -> None:
        """From now on room decides: cascades are where tensors would take most of the scratchpad,
        whatever is lost to copies. Where dram that is written is SRAM too, nothing is spilled.
        """
        self.is_limited = True
        most = CROWDED * self.capacity
        live = self.lives.whole
        self.crowded = [size > most for size in live]
        self.may_spill = not self.works.target.memories["dram"].read_only

    @property
    def is_crowded(self) -> bool:
        """Whether cascades are looked for since there is little room."""
        return any(self.crowded)

    def _tight(self) -> list[bool]:
        most = CROWDED * self.capacity
        pairs = zip(self.lives.whole, self.works.neighbours, strict=True)
        return [size > most and near.waits for size, near in pairs]

    def forget(self) -> None:
        """Of no group is known what it loses to copies, so that none begins a cascade."""
        self.seeks = self.is_crowded
        self.excess = [0.0] * (len(self.groups) + 1)
        self.base = [0.0] * (len(self.groups) + 1)

    def may_gain(self, segments: Sequence[Segment]) -> bool:
        """Notes what each group costs beyond what it costs with all tensors in the scratchpad;
        whether that, or what waits for little room, is worth looking for cascades.
        """
        self.base = [0.0]
        for segment in segments:
            if isinstance(segment, Cascade):  # a pinned one: nothing to gain
                for k in range(segment.option.first, segment.stop):
                    self.excess[k + 1] = self.excess[k]
                    self.base.append(self.base[-1])
                continue
            k, work = segment.number, segment.work
            near = self.works.of(k, self.lives.set_of(self.lives.inputs[k]), True, self.capacity)
            cost = work.alone
            least = cost if near is None else near.alone
            self.excess[k + 1] = self.excess[k] + max(0.0, cost - least)
            self.base.append(self.base[-1] + cost)
        self.seeks |= self.excess[-1] > WORTH * self.base[-1] or any(self.tight)
        return self.seeks

    def kind(self, state: int) -> int:
        """Of which kind a state is, for ways to be told apart."""
        return self.lives.bytes_of(state) * PARTS // self.capacity

    # --- segments of one group

    def moves(self, number: int, state: int, carry: float) -> Iterator[Move]:
        """What may come next at a group, with these tensors in the scratchpad."""
        pin = self.pinned_runs.get(number)
        if pin is not None:
            yield from self._pinned_run(pin, state, carry)
            return
        if self.seeks:
            yield from self._cascades(number, state, carry)
        resident = self.lives.set_of(state & self.lives.inputs[number])
        live = self.lives.bytes_of(state)
        results = self.lives.outputs[number]
        found = False
        for stays in self._choices(number, state):
            if not stays and found and self.wanted[self.groups[number].op] == StringAttr("spm"):
                continue
            room = self.capacity - live - self.reserved[number]
            room -= self.lives.bytes_of(results) if stays else 0
            for work in self._works(number, resident, stays, room):
                found = True
                after = (state | results if stays else state) & ~self.lives.ends[number]
                fresh = bool(self.lives.inputs[number] & ~state & self.lives.recent[number])
                carry_on, cycles = self.time(number + 1, work, carry, room - work.used, fresh)
                cost = self.works.price(work, cycles)
                yield Move(number + 1, after, carry_on, cost, Single(number, work, stays, cycles))

    def _choices(self, number: int, state: int) -> Iterator[bool]:
        """Whether a group's results may stay in the scratchpad, then that they need not."""
        op = self.groups[number].op
        results = self.lives.storages(op.results)
        if self.lives.late[number]:
            yield bool(self.lives.late[number] & state)
            return
        may_stay = all(t.may_stay and t.value not in self.banned for t in results)
        if may_stay and results and self.wanted[op] != StringAttr("dram"):
            yield True
            if not self.may_spill:
                return
        yield False

    def _works(
        self, number: int, resident: frozenset[SSAValue], stays: bool, room: int
    ) -> Iterator[Work]:
        """The work of a group with all the room, and with room for the next weights left."""
        if room < 0:
            return
        found = list(self._best(number, resident, stays, room))
        if not found:
            return
        yield from found
        work = found[0]
        later = self._next_weights(number)
        for less in (later, later // 2):
            if work.used and room - less < work.used and room > less > 0:
                other = self.works.of(number, resident, stays, room - less)
                if other is not None and other is not work:
                    yield other

    def _best(
        self, number: int, resident: frozenset[SSAValue], stays: bool, room: int
    ) -> Iterator[Work]:
        """The work of a group; of one on the array with its constants loaded and, unless that is
        decided, with constants that it reads from dram.
        """
        is_open = self.works.streams is None and self.works.target.array_reads_dram
        if not is_open or self.groups[number].kind != "array":
            work = self.works.of(number, resident, stays, room)
            if work is not None:
                yield work
            return
        for streams in (False, True):
            work = self.works.of(number, resident, stays, room, streams)
            if work is not None:
                yield work

    # --- cascades

    def _cascades(self, number: int, state: int, carry: float) -> Iterator[Move]:
        if not self._suffers(number, number + 1):
            return
        live = self.lives.bytes_of(state)
        stops = range(number + 2, min(number + LONGEST, len(self.groups)) + 1)
        ends = [stop for stop in stops if self._suffers(stop - 2, stop - 1)]
        for stop, run in self.runs.from_first(number, ends):
            if any(number < k < stop for k in self.pinned_runs):
                return
            if any(g.op in self.pinned for g in self.groups[number:stop]):
                return  # a mapping that is pinned alone is one of the whole group
            room = self.capacity - live - max(self.reserved[number:stop])
            possible = False
            for stays, bits in self._leaving(run, number, state):
                size = self.lives.bytes_of(bits & ~state)
                options = self._options(run, state, stays)
                possible |= bool(options)
                fitting = [o for o in options if o.work.used + size <= room]
                for k in sorted({0, 1, len(fitting) - 1} & set(range(len(fitting)))):
                    yield self._cascade(fitting[k], stays, state, bits, carry, room - size)
            if not possible:
                return

    def _pinned_run(self, pin: Pinned, state: int, carry: float) -> Iterator[Move]:
        """The one segment that may begin where the user pins a cascade."""
        run = self.runs.of(pin.first, pin.stop)
        assert run is not None
        room = self.capacity - self.lives.bytes_of(state) - max(self.reserved[pin.first : pin.stop])
        inputs = self.lives.set_of(state & self.lives.run_inputs(pin.first, pin.stop))
        for stays, bits in self._leaving(run, pin.first, state):
            size = self.lives.bytes_of(bits & ~state)
            option = pinned_option(run, pin, inputs, stays)
            if option is not None and option.work.used + size <= room:
                yield self._cascade(option, stays, state, bits, carry, room - size)

    def _suffers(self, *numbers: int) -> bool:
        """Whether a group at an end of a cascade, or the next one inside, loses to copies."""
        return any(self._suffers_alone(k) for k in numbers if k < len(self.groups))

    def _suffers_alone(self, number: int) -> bool:
        lost = self.excess[number + 1] - self.excess[number]
        if self.crowded[number] or self.tight[number]:
            return True
        return lost > WORTH * (self.base[number + 1] - self.base[number])

    def _leaving(self, run: Run, first: int, state: int) -> Iterator[tuple[tuple[bool, ...], int]]:
        """What of the results that are read outside may stay: all that may, or none."""
        fixed: list[bool | None] = []
        for k, leaves in enumerate(run.leaves, first):
            choices = list(self._choices(k, state)) if leaves else [True]
            fixed.append(None if len(choices) > 1 else choices[0])
        for free in (True, False) if None in fixed else (True,):
            stays = tuple(free if f is None else f for f in fixed)
            bits = 0
            for k, (stay, leaves) in enumerate(zip(stays, run.leaves, strict=True), first):
                bits |= self.lives.outputs[k] if stay and leaves else 0
            yield stays, bits

    def _options(self, run: Run, state: int, stays: tuple[bool, ...]) -> list[Option]:
        key = self._key(run.first, run.first + len(run.groups), state, stays)
        if key not in self.known:
            self.known[key] = run.options(self.lives.set_of(key[2]), stays)
        return self.known[key]

    def _key(self, first: int, stop: int, state: int, stays: tuple[bool, ...]) -> Key:
        return first, stop, state & self.lives.run_inputs(first, stop), stays

    def _cascade(
        self,
        option: Option,
        stays: tuple[bool, ...],
        state: int,
        bits: int,
        carry: float,
        room: int,
    ) -> Move:
        after = state | bits
        for k in range(option.first, option.stop):
            after &= ~self.lives.ends[k]
        first = option.first
        fresh = bool(self.lives.inputs[first] & ~state & self.lives.recent[first])
        carry_on, cycles = self.time(
            option.stop, option.work, carry, room - option.work.used, fresh
        )
        cost = self.works.price(option.work, cycles)
        key = self._key(option.first, option.stop, state, stays)
        segment = Cascade(option, stays, cycles, None if first in self.pinned_runs else key)
        return Move(option.stop, after, carry_on, cost, segment)

    def _next_weights(self, number: int) -> int:
        """Bytes that the weights of the next group with weights would like to have."""
        for k in range(number + 1, min(number + 3, len(self.groups))):
            if self.weights[k]:
                return min(aligned(self.weights[k]), self.capacity // 4)
        return 0

    def time(
        self, stop: int, work: Work, carry: float, free: int, fresh: bool = False
    ) -> tuple[float, float]:
        """(carry for what follows, cost) of work up to the group `stop`, which leaves `free` bytes
        of scratchpad.

        The carry is the time that the dma may have been loading ahead; below 0 it is still busy.
        What is `fresh` was stored in dram just before, and cannot be loaded ahead.
        """
        room = 0.0 if self.is_crowded and carry < work.slot else max(carry, 0.0)
        ahead = min(room, work.ahead - (work.ahead_data if fresh else 0.0))
        waited = max(0.0, work.first - work.first_data - ahead) + work.first_data
        first = waited if fresh else max(0.0, work.first - ahead)
        first += max(0.0, -carry)
        if work.streamed:
            first += work.latency
        elif first > 0:
            first += self.works.target.memories["dram"].latency
        left = work.dma - ahead - work.last
        cycles = max(first + work.compute, left + max(0.0, -carry))
        idle = cycles - left - max(0.0, -carry)
        limit = min(free / self.works.width, self.later[stop])
        carry_on = min(limit, max(0.0, carry - ahead) + idle) - work.last
        return carry_on, cycles
