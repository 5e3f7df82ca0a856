"""The plan of a function: which tensors stay in the scratchpad, which groups are cascades, and how
every group is cut with what is left.

The groups, in program order, are covered by segments: single groups, and cascades. The cheapest
cover is found by dynamic programming (`paths`, with the moves of `ways`). The state between two
segments is the set of tensors that lie in the scratchpad there and are read later on (`lives`); the
carry is the dma's time that the next segment may use for loading ahead, as far as there is room and
something to load. What a segment costs are estimated cycles (`work`, `cascades`), with a part of
those of its copies; with the objective energy, pJ and what the machine leaks in those cycles.

At last the offsets themselves are tried (`offsets`), with the lifetimes that tile-allocate will
see. Where they do not come out, the segments there get less room, and planning starts again; where
that does not help, the largest tensor goes to dram for good. That ends, since there are only so
many tensors.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from xdsl.ir import Block, Operation

from npu_dialect.diagnostics import Code, error
from npu_dialect.passes.mapping import offsets
from npu_dialect.passes.mapping.cascades import Option
from npu_dialect.passes.mapping.critical import critical_path
from npu_dialect.passes.mapping.footprint import exact
from npu_dialect.passes.mapping.groups import Group
from npu_dialect.passes.mapping.lives import Lives
from npu_dialect.passes.mapping.paths import DeadEndError, cheapest
from npu_dialect.passes.mapping.problems import AnyMapping, buffers_of
from npu_dialect.passes.mapping.segments import (
    Cascade,
    Key,
    Plan,
    Segment,
    Single,
    Step,
    TooLargeError,
)
from npu_dialect.passes.mapping.stages import stages
from npu_dialect.passes.mapping.ways import Ways
from npu_dialect.passes.mapping.work import SHARED_DMA, Work, Works
from npu_dialect.target import Target

WIDTH = 16
"""Ways that are kept at each position."""
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
        self.lives = Lives(block, self.groups)
        self.works = Works(target, self.groups, pinned, self.capacity, objective)
        self.ways = Ways(self.works, self.lives)

    def run(self) -> Plan:
        """The plan.

        Where an array may read constants from dram, all that can do, or none: one that waits for a
        copy that runs ahead for a later one would hold up all between them. Where room or energy
        decides, each is decided alone. Raises TooLargeError where even one group alone does not
        fit, and CompileError where its mapping was decided elsewhere.
        """
        decides = self.ways.is_limited or self.works.by_energy
        if decides or not self.target.array_reads_dram:
            return self._fitting()
        best = None
        for streams in (True, False):
            self.works.streams = streams
            self.ways.known.clear()
            plan = self._fitting()
            if best is None or self.estimate(plan) <= self.estimate(best):
                best = plan
        self.works.streams = None
        self.ways.known.clear()
        assert best is not None
        return best

    def _fitting(self) -> Plan:
        """A plan of which offsets come out."""
        tries = 0
        while True:
            plan = self._attempt()
            overflow = offsets.overflow(plan, self.lives.tensors, self.capacity)
            if overflow is None:
                return plan
            steps, beyond = overflow
            tries += 1
            if tries <= RETRIES:
                self._reserve(steps, beyond)
            else:
                tries = 0
                self.ways.reserved = [0] * len(self.groups)
                self._ban(plan, set(steps))

    def limit(self, capacity: int) -> None:
        """From now on plans are made within so many bytes, and room decides (`Ways.crowd`). What
        is known of mappings stays; of cascades, as long as the next power of two is the same.
        """
        before, rounded = self.ways, 1 << (capacity - 1).bit_length()
        is_known = before.is_crowded and self.works.capacity == rounded
        self.works.capacity = rounded
        self.ways = Ways(self.works, self.lives)
        if is_known:
            self.ways.runs, self.ways.known = before.runs, before.known
        self.capacity = self.ways.capacity = capacity
        self.ways.crowd()

    def once(self) -> Plan | None:
        """A plan in one attempt; None where its offsets do not come out. Raises what `run` does."""
        plan = self._attempt()
        overflow = offsets.overflow(plan, self.lives.tensors, self.capacity, effort=0)
        return plan if overflow is None else None

    def _attempt(self) -> Plan:
        ways, count = self.ways, len(self.groups)
        while True:
            try:
                ways.forget()
                way = cheapest(count, 0, ways.moves, WIDTH, ways.kind)
                segments: list[Segment] | None = way.moves()
                if ways.is_crowded or ways.may_gain(way.moves()):
                    segments = None
                while segments is None:
                    way = cheapest(count, 0, ways.moves, WIDTH, ways.kind)
                    segments = self._exact(way.moves())
                return self._plan(segments, way.cost)
            except DeadEndError as stuck:
                if not any(ways.reserved) and not any(ways.wanted.values()):
                    self._too_large(stuck.position)
                ways.reserved = [0] * count
                ways.wanted = dict.fromkeys(ways.wanted)

    def _exact(self, segments: Sequence[Segment]) -> list[Segment] | None:
        """The segments with what their cascades really take; None where one takes more than was
        known, which is known then.
        """
        found: list[Segment] = []
        more = False
        for segment in segments:
            if isinstance(segment, Cascade) and segment.key is not None:
                options = self.ways.known[segment.key]
                at = options.index(segment.option)
                options[:] = self._exact_options(segment.key, options)
                more |= options[at].work.used > segment.option.work.used
                segment = replace(segment, option=options[at])
            found.append(segment)
        return None if more else found

    def _exact_options(self, key: Key, options: Sequence[Option]) -> list[Option]:
        first, stop, bits, stays = key
        run = self.ways.runs.of(first, stop)
        assert run is not None
        resident = self.lives.set_of(bits)
        return [o if o.is_exact else exact(run, o, resident, stays) for o in options]

    def _plan(self, segments: Sequence[Segment], cost: float) -> Plan:
        plan = Plan(segments=list(segments), cost=cost)
        cascades = 0
        for segment in segments:
            if isinstance(segment, Single):
                group = self.groups[segment.number]
                plan.steps.append(Step(group, segment.work))
                if segment.stays:
                    plan.resident.update(t.value for t in self.lives.storages(group.op.results))
                continue
            option = segment.option
            for k, member in enumerate(option.members):
                group = self.groups[option.first + k]
                plan.steps.append(Step(group, member.work, cascades, option.rows, member))
                if member.held is None and segment.stays[k]:
                    plan.resident.update(t.value for t in self.lives.storages(group.op.results))
            cascades += 1
        return plan

    # --- what is said of it

    def shared(self, work: Work) -> float:
        """What the transfers of some work count for others."""
        return SHARED_DMA * work.transfer

    @property
    def base(self) -> Sequence[float]:
        """What the groups before each one cost in the best plan without cascades."""
        return self.ways.base

    def room_beside(self, plan: Plan, number: int) -> int:
        """Bytes of scratchpad that the tensors which live at a step, its results among them, leave
        for its tiles.
        """
        live = (t for t in map(self.lives.tensors.__getitem__, plan.resident))
        return self.capacity - sum(t.aligned for t in live if t.written <= number <= t.read)

    def estimate(self, plan: Plan, capacity: int | None = None) -> float:
        """Cycles that a plan is estimated to take, with copies that run ahead in so many bytes (by
        default all that there are).
        """
        latency = self.target.memories["dram"].latency
        capacity = self.capacity if capacity is None else capacity
        found = stages(plan, self.works, self.lives, capacity)
        return critical_path(found, latency, self.ways.is_limited)

    def height(self, plan: Plan) -> int:
        """Bytes of scratchpad that a plan takes."""
        return offsets.height(plan, self.lives.tensors)

    # --- what does not fit

    def _reserve(self, steps: Sequence[int], beyond: int) -> None:
        """Less room for the steps at which something reaches over the end."""
        more = max(beyond, self.capacity // 64)
        for step in steps:
            self.ways.reserved[step] += more

    def _ban(self, plan: Plan, steps: set[int]) -> None:
        """Drops the cascades where the offsets do not come out; where there are none, sends the
        largest tensor that is live there to dram.
        """
        chosen = [s for s in plan.segments if isinstance(s, Cascade) and s.key is not None]
        chosen = [s for s in chosen if steps & set(range(s.option.first, s.stop))]
        for segment in chosen:
            assert segment.key is not None
            self.ways.known[segment.key].remove(segment.option)
        if chosen:
            return
        live = [
            t
            for t in map(self.lives.tensors.__getitem__, plan.resident)
            if any(t.written <= s <= t.read for s in steps)
        ]
        live = live or [self.lives.tensors[v] for v in plan.resident]
        if not live:
            self._too_large(min(steps))
        self.ways.banned.add(max(live, key=lambda t: (t.size, -t.written)).value)

    def _takes(self, number: int) -> str:
        """What the pinned mapping of a group takes, with all tensors in dram."""
        p = self.works.problem(number, frozenset(), False)
        assert p is not None
        found = (b for b in buffers_of(p, self.pinned[self.groups[number].op]) if b.space == "spm")
        return ", ".join(f"{b.label} {b.total}" for b in found)

    def _too_large(self, number: int) -> None:
        group = self.groups[number]
        if number in self.ways.pinned_runs:
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
