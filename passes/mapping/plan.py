"""The plan of a function: which tensors stay in the scratchpad, which groups are cascades, and how
every group is cut with what is left.

The groups, in program order, are covered by segments: single groups, and cascades. The cheapest
cover is found by dynamic programming (`paths`). The state between two segments is the set of
tensors that lie in the scratchpad there and are read later on; the carry is the dma's time that the
next segment may use for loading ahead, as far as there is room. What a segment costs are estimated
cycles (`work`, `cascades`), with a little for every byte of dram; with the objective energy, pJ and
what the machine leaks in those cycles.

At last the offsets themselves are tried, with the lifetimes that tile-allocate will see. Where they
do not come out, the segments there get less room, and planning starts again; where that does not
help, the largest tensor goes to dram for good. That ends, since there are only so many tensors.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import accumulate
from math import inf

from xdsl.dialects.builtin import StringAttr
from xdsl.ir import Block, Operation, SSAValue

from npu_dialect import overrides
from npu_dialect.diagnostics import Code, error
from npu_dialect.passes import allocation
from npu_dialect.passes.mapping.cascades import LONGEST, Option, Run, Runs
from npu_dialect.passes.mapping.critical import Reader, Stage, critical_path
from npu_dialect.passes.mapping.footprint import exact
from npu_dialect.passes.mapping.groups import Group
from npu_dialect.passes.mapping.paths import DeadEndError, Move, cheapest
from npu_dialect.passes.mapping.pinned import Pinned, pinned_cascades, pinned_option
from npu_dialect.passes.mapping.problems import AnyMapping, buffers_of
from npu_dialect.passes.mapping.segments import (
    Cascade,
    Key,
    Plan,
    Segment,
    Single,
    Step,
    Tensor,
    TooLargeError,
    first_of,
    tensors,
    weights_of,
)
from npu_dialect.passes.mapping.tiles import ALIGNMENT, aligned
from npu_dialect.passes.mapping.views import storage
from npu_dialect.passes.mapping.work import SHARED_DMA, Work, Works
from npu_dialect.target import Target

WIDTH = 16
"""Ways that are kept at each position."""
WORTH = 0.01
"""The part of its cost that a run of groups must lose to copies before it may be a cascade."""
PARTS = 8
"""Ways are told apart by the eighths of the scratchpad that their tensors take."""
RETRIES = 6
"""Plans with less room where offsets did not come out, before a tensor is sent to dram."""


class Planner:
    """Plans one function within `capacity` bytes of scratchpad (all of it, where it is None).
    `pinned` gives mappings that were decided elsewhere, by group; `objective` is latency or energy.
    """

    def __init__(
        self,
        target: Target,
        block: Block,
        pinned: Mapping[Operation, AnyMapping],
        capacity: int | None = None,
        objective: str = "latency",
    ):
        self.target = target
        self.pinned = pinned
        self.capacity = target.memories["spm"].size if capacity is None else capacity
        self.groups = [Group(op) for op in block.ops if op.name == "graph.group"]
        self.tensors = tensors(block, self.groups)
        self.works = Works(target, self.groups, pinned, self.capacity, objective)
        self.reserved = [0] * len(self.groups)
        self.banned: set[SSAValue] = set()
        self.wanted = {g.op: overrides.pins(g.op).get("memory") for g in self.groups}
        self._number()
        self.runs = Runs(self.works, [self._last_read(g) for g in self.groups])
        self.pinned_runs = {p.first: p for p in pinned_cascades(self.groups)}
        self._known: dict[Key, list[Option]] = {}

    def _last_read(self, group: Group) -> float:
        """The last step that reads a group's result; infinite for what is wanted elsewhere, or is a
        part of another tensor.
        """
        tensor = self.tensors.get(group.op.results[0])
        if tensor is None or not tensor.may_stay or tensor.value in self.banned:
            return inf
        return tensor.read if tensor.read > tensor.written else inf

    def _number(self) -> None:
        """Bits of the tensors, and what each step reads, writes and reads last, by bits."""
        by_bit = list(self.tensors.values())
        for k, tensor in enumerate(by_bit):
            tensor.bit = 1 << k
        self.by_bit = by_bit
        count = len(self.groups)
        self.inputs, self.outputs, self.ends = [0] * count, [0] * count, [0] * count
        self.late = [0] * count
        for k, group in enumerate(self.groups):
            for tensor in self._storages(group.inputs):
                self.inputs[k] |= tensor.bit
            for tensor in self._storages(group.op.results):
                if tensor.written == k:
                    self.outputs[k] |= tensor.bit
                else:
                    self.late[k] |= tensor.bit
        self.recent = [0] * count
        for k in range(1, count):
            self.recent[k] = self.outputs[k - 1] | (self.outputs[k - 2] if k > 1 else 0)
        for tensor in by_bit:
            self.ends[tensor.read] |= tensor.bit
        self._sizes: dict[int, int] = {0: 0}
        self._sets: dict[int, frozenset[SSAValue]] = {0: frozenset()}
        self.weights = [weights_of(g) for g in self.groups]
        after = accumulate(reversed(self.weights), initial=0)
        self.later = [size / self.works.width for size in after][::-1]
        """Cycles in which all weights from each group on are loaded."""

    def _storages(self, values: Sequence[SSAValue]) -> list[Tensor]:
        found = (self.tensors.get(storage(v)) for v in values)
        return [t for t in found if t is not None]

    def bytes_of(self, bits: int) -> int:
        """Bytes of the tensors of a set."""
        found = self._sizes.get(bits)
        if found is None:
            top = bits.bit_length() - 1
            rest = bits ^ (1 << top)
            found = self._sizes[bits] = self.bytes_of(rest) + self.by_bit[top].aligned
        return found

    def set_of(self, bits: int) -> frozenset[SSAValue]:
        """The tensors of a set."""
        found = self._sets.get(bits)
        if found is None:
            top = bits.bit_length() - 1
            rest = bits ^ (1 << top)
            found = self._sets[bits] = self.set_of(rest) | {self.by_bit[top].value}
        return found

    def run(self) -> Plan:
        """The plan.

        Raises TooLargeError where even one group alone does not fit, and CompileError where its
        mapping was decided elsewhere.
        """
        tries = 0
        while True:
            plan = self._attempt()
            overflow = self._overflow(plan)
            if overflow is None:
                return plan
            tries += 1
            if tries <= RETRIES:
                self._reserve(plan, overflow)
            else:
                tries = 0
                self.reserved = [0] * len(self.groups)
                self._ban(plan, overflow)

    def once(self) -> Plan | None:
        """A plan in one attempt; None where its offsets do not come out. Raises what `run` does."""
        plan = self._attempt()
        return plan if self._overflow(plan, effort=0) is None else None

    def _attempt(self) -> Plan:
        count = len(self.groups)
        while True:
            try:
                self.excess = [0.0] * (count + 1)
                way = cheapest(count, 0, self._moves, WIDTH, self._kind)
                segments: list[Segment] | None = way.moves()
                if self._may_gain(way.moves()):
                    segments = None
                while segments is None:
                    way = cheapest(count, 0, self._moves, WIDTH, self._kind)
                    segments = self._exact(way.moves())
                return self._plan(segments, way.cost)
            except DeadEndError as stuck:
                if any(self.reserved) or any(self.wanted.values()):
                    self.reserved = [0] * count
                    self.wanted = dict.fromkeys(self.wanted)
                    continue
                self._too_large(stuck.position)

    def _exact(self, segments: Sequence[Segment]) -> list[Segment] | None:
        """The segments with what their cascades really take; None where one takes more than was
        known, which is known then.
        """
        found: list[Segment] = []
        more = False
        for segment in segments:
            if isinstance(segment, Cascade) and segment.key is not None:
                options = self._known[segment.key]
                at = options.index(segment.option)
                options[:] = self._exact_options(segment.key, options)
                more |= options[at].work.used > segment.option.work.used
                segment = replace(segment, option=options[at])
            found.append(segment)
        return None if more else found

    def _exact_options(self, key: Key, options: Sequence[Option]) -> list[Option]:
        first, stop, bits, stays = key
        run = self.runs.of(first, stop)
        assert run is not None
        resident = self.set_of(bits)
        return [o if o.is_exact else exact(run, o, resident, stays) for o in options]

    def _may_gain(self, segments: Sequence[Segment]) -> bool:
        """Notes what each group costs beyond what it costs with all tensors in the scratchpad;
        whether that is worth looking for cascades.
        """
        self.base = [0.0]
        for segment in segments:
            if isinstance(segment, Cascade):  # a pinned one: nothing to gain
                for k in range(segment.option.first, segment.stop):
                    self.excess[k + 1] = self.excess[k]
                    self.base.append(self.base[-1])
                continue
            k, work = segment.number, segment.work
            near = self.works.of(k, self.set_of(self.inputs[k]), True, self.capacity)
            cost = work.alone
            least = cost if near is None else near.alone
            self.excess[k + 1] = self.excess[k] + max(0.0, cost - least)
            self.base.append(self.base[-1] + cost)
        return self.excess[-1] > WORTH * self.base[-1]

    def _kind(self, state: int) -> int:
        return self.bytes_of(state) * PARTS // self.capacity

    def _plan(self, segments: Sequence[Segment], cost: float) -> Plan:
        plan = Plan(segments=list(segments), cost=cost)
        cascades = 0
        for segment in segments:
            if isinstance(segment, Single):
                group = self.groups[segment.number]
                plan.steps.append(Step(group, segment.work))
                if segment.stays:
                    plan.resident.update(t.value for t in self._storages(group.op.results))
                continue
            option = segment.option
            for k, member in enumerate(option.members):
                group = self.groups[option.first + k]
                plan.steps.append(Step(group, member.work, cascades, option.rows, member))
                if member.held is None and segment.stays[k]:
                    plan.resident.update(t.value for t in self._storages(group.op.results))
            cascades += 1
        return plan

    # --- segments of one group

    def _moves(self, number: int, state: int, carry: float) -> Iterator[Move]:
        pin = self.pinned_runs.get(number)
        if pin is not None:
            yield from self._pinned_run(pin, state, carry)
            return
        if self.excess[-1]:
            yield from self._cascades(number, state, carry)
        resident = self.set_of(state & self.inputs[number])
        live = self.bytes_of(state)
        results = self.outputs[number]
        found = False
        for stays in self._choices(number, state):
            if not stays and found and self.wanted[self.groups[number].op] == StringAttr("spm"):
                continue
            room = self.capacity - live - self.reserved[number]
            room -= self.bytes_of(results) if stays else 0
            for work in self._works(number, resident, stays, room):
                found = True
                after = (state | results if stays else state) & ~self.ends[number]
                fresh = bool(self.inputs[number] & ~state & self.recent[number])
                carry_on, cycles = self.time(number + 1, work, carry, room - work.used, fresh)
                cost = self.works.price(work, cycles)
                yield Move(number + 1, after, carry_on, cost, Single(number, work, stays, cycles))

    def _choices(self, number: int, state: int) -> Iterator[bool]:
        """Whether a group's results may stay in the scratchpad, then that they need not."""
        op = self.groups[number].op
        results = self._storages(op.results)
        if self.late[number]:
            yield bool(self.late[number] & state)
            return
        may_stay = all(t.may_stay and t.value not in self.banned for t in results)
        if may_stay and results and self.wanted[op] != StringAttr("dram"):
            yield True
        yield False

    def _works(
        self, number: int, resident: frozenset[SSAValue], stays: bool, room: int
    ) -> Iterator[Work]:
        """The work of a group with all the room, and with room for the next weights left."""
        if room < 0:
            return
        work = self.works.of(number, resident, stays, room)
        if work is None:
            return
        yield work
        later = self._next_weights(number)
        for less in (later, later // 2):
            if work.used and room - less < work.used and room > less > 0:
                other = self.works.of(number, resident, stays, room - less)
                if other is not None and other is not work:
                    yield other

    # --- cascades

    def _cascades(self, number: int, state: int, carry: float) -> Iterator[Move]:
        if not self._suffers(number, number + 1):
            return
        live = self.bytes_of(state)
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
                size = self.bytes_of(bits & ~state)
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
        room = self.capacity - self.bytes_of(state) - max(self.reserved[pin.first : pin.stop])
        inputs = self.set_of(state & self.run_inputs(pin.first, pin.stop))
        for stays, bits in self._leaving(run, pin.first, state):
            size = self.bytes_of(bits & ~state)
            option = pinned_option(run, pin, inputs, stays)
            if option is not None and option.work.used + size <= room:
                yield self._cascade(option, stays, state, bits, carry, room - size)

    def _suffers(self, *numbers: int) -> bool:
        """Whether a group at an end of a cascade, or the next one inside, loses to copies."""
        lost = (k for k in numbers if k < len(self.groups))
        return any(
            self.excess[k + 1] - self.excess[k] > WORTH * (self.base[k + 1] - self.base[k])
            for k in lost
        )

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
                bits |= self.outputs[k] if stay and leaves else 0
            yield stays, bits

    def _options(self, run: Run, state: int, stays: tuple[bool, ...]) -> list[Option]:
        key = self._key(run.first, run.first + len(run.groups), state, stays)
        if key not in self._known:
            self._known[key] = run.options(self.set_of(key[2]), stays)
        return self._known[key]

    def _key(self, first: int, stop: int, state: int, stays: tuple[bool, ...]) -> Key:
        return first, stop, state & self.run_inputs(first, stop), stays

    def run_inputs(self, first: int, stop: int) -> int:
        """The tensors from outside that the groups of a run read."""
        bits = 0
        for k in range(first, stop):
            bits |= self.inputs[k]
        return bits

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
            after &= ~self.ends[k]
        first = option.first
        fresh = bool(self.inputs[first] & ~state & self.recent[first])
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
        ahead = min(max(carry, 0.0), work.ahead - (work.ahead_data if fresh else 0.0))
        waited = max(0.0, work.first - work.first_data - ahead) + work.first_data
        first = waited if fresh else max(0.0, work.first - ahead)
        first += max(0.0, -carry)
        if first > 0:
            first += self.target.memories["dram"].latency
        left = work.transfer - ahead - work.last
        cycles = max(first + work.compute, left + max(0.0, -carry))
        idle = cycles - left - max(0.0, -carry)
        limit = min(free / self.works.width, self.later[stop])
        carry_on = min(limit, max(0.0, carry - ahead) + idle) - work.last
        return carry_on, cycles

    # --- what is said of it

    def shared(self, work: Work) -> float:
        """What the transfers of some work count for others."""
        return SHARED_DMA * work.transfer

    def written(self, number: int) -> list[Tensor]:
        """The tensors with memory of their own that a step writes, or writes parts of."""
        return self._storages(self.groups[number].op.results)

    def may_stay(self, number: int) -> bool:
        """Whether the results of a step might lie in either memory."""
        found = self.written(number)
        return bool(found) and not self.late[number] and all(t.may_stay for t in found)

    def room_beside(self, plan: Plan, number: int) -> int:
        """Bytes of scratchpad that the tensors which live at a step, its results among them, leave
        for its tiles.
        """
        live = (t for t in map(self.tensors.__getitem__, plan.resident))
        return self.capacity - sum(t.aligned for t in live if t.written <= number <= t.read)

    # --- how long it takes

    def stages(self, plan: Plan) -> list[Stage]:
        """The segments of a plan as the estimate sees them."""
        maker: dict[SSAValue, int] = {}
        found: list[Stage] = []
        for number, segment in enumerate(plan.segments):
            steps = range(first_of(segment), segment.stop)
            work = segment.work if isinstance(segment, Single) else segment.option.work
            inputs = {v for k in steps for v in self.works.reads[k]}
            reads = [Reader(maker[v], v not in plan.resident) for v in inputs if v in maker]
            live = {v for v in plan.resident if self._lives(v, steps)}
            size = sum(self.tensors[v].aligned for v in live) + work.used
            free = max(0, self.capacity - size) / self.works.width
            found.append(Stage(work, work.engines, free, reads))
            for k in steps:
                for value in map(storage, self.groups[k].op.results):
                    maker[value] = number
        return found

    def _lives(self, value: SSAValue, steps: range) -> bool:
        tensor = self.tensors[value]
        return tensor.written < steps.stop and steps.start <= tensor.read

    def estimate(self, plan: Plan) -> float:
        """Cycles that a plan is estimated to take."""
        return critical_path(self.stages(plan), self.target.memories["dram"].latency)

    # --- what does not fit

    def _overflow(self, plan: Plan, effort: float = 1) -> allocation.Overflow | None:
        """Why the offsets do not come out although the sums do; None where they do."""
        items = self._items = list(self._lifetimes(plan))
        try:
            allocation.allocate(items, self.capacity, effort)
        except allocation.Overflow as overflow:
            return overflow
        return None

    def _lifetimes(self, plan: Plan) -> Iterator[allocation.Buffer]:
        """The buffers of a plan as tile-allocate will see them, in steps. What a cascade holds it
        holds from its first step to its last.
        """
        start, stop = list(range(len(self.groups))), list(range(1, len(self.groups) + 1))
        for segment in plan.segments:
            if isinstance(segment, Cascade):
                run = range(segment.option.first, segment.stop)
                for k in run:
                    start[k], stop[k] = run.start, run.stop
        number = 0
        for value in plan.resident:
            t = self.tensors[value]
            yield self._item(number, start[t.written], stop[t.read], t.aligned)
            number += 1
        for k, step in enumerate(plan.steps):
            for buffer in step.buffers:
                yield self._item(number, k, k + 1, buffer.total)
                number += 1
            if step.member is not None:
                for size in (step.member.held_bytes, step.member.weights, step.member.input_bytes):
                    if size:
                        yield self._item(number, start[k], stop[k], size)
                        number += 1

    def height(self, plan: Plan) -> int:
        """Bytes of scratchpad that a plan takes, with the lifetimes that tile-allocate will see."""
        items = list(self._lifetimes(plan))
        offsets = allocation.pack(items, effort=0)
        return max((offsets[i.id] + i.size for i in items), default=0)

    @staticmethod
    def _item(number: int, lower: int, upper: int, size: int) -> allocation.Buffer:
        return allocation.Buffer(number, lower, upper, size, ALIGNMENT)

    def _reserve(self, plan: Plan, overflow: allocation.Overflow) -> None:
        """Less room for the steps at which something reaches over the end."""
        more = max(overflow.peak - self.capacity, self.capacity // 64)
        for number in overflow.over:
            item = self._items[number]
            for step in range(item.lower, item.upper):
                self.reserved[step] += more

    def _ban(self, plan: Plan, overflow: allocation.Overflow) -> None:
        """Drops the cascades where the offsets do not come out; where there are none, sends the
        largest tensor that is live there to dram.
        """
        steps = {
            s for n in overflow.over for s in range(self._items[n].lower, self._items[n].upper)
        }
        chosen = [s for s in plan.segments if isinstance(s, Cascade) and s.key is not None]
        chosen = [s for s in chosen if steps & set(range(s.option.first, s.stop))]
        for segment in chosen:
            assert segment.key is not None
            self._known[segment.key].remove(segment.option)
        if chosen:
            return
        live = [
            t
            for t in map(self.tensors.__getitem__, plan.resident)
            if any(t.written <= s <= t.read for s in steps)
        ]
        live = live or [self.tensors[v] for v in plan.resident]
        if not live:
            self._too_large(min(steps))
        self.banned.add(max(live, key=lambda t: (t.size, -t.written)).value)

    def _takes(self, number: int) -> str:
        """What the pinned mapping of a group takes, with all tensors in dram."""
        p = self.works.problem(number, frozenset(), False)
        assert p is not None
        found = (b for b in buffers_of(p, self.pinned[self.groups[number].op]) if b.space == "spm")
        return ", ".join(f"{b.label} {b.total}" for b in found)

    def _too_large(self, number: int) -> None:
        group = self.groups[number]
        if number in self.pinned_runs:
            raise error(
                Code.CAPACITY,
                "what a pinned cascade holds must fit the scratchpad",
                found=f"more than {self.capacity} bytes",
                remedy="fewer layers or rows, or weights that are streamed",
                source=group.op,
            )
        if group.op not in self.pinned:
            raise TooLargeError(group)
        raise error(
            Code.CAPACITY,
            "the tiles of a mapping must fit the scratchpad",
            found=f"a mapping of {group.name} beyond {self.capacity} bytes: {self._takes(number)}",
            remedy="smaller tiles, or leaving the mapping to the compiler",
            source=group.op,
        )
