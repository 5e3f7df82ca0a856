"""A timeline in the Trace Event Format, which Perfetto and chrome://tracing open.

The format: "Trace Event Format" (Google,
docs.google.com/document/d/1CvAClvFfyA5R-PhYUmn5OOQtYMH4h6I0nSsKchNAySU). One process per core, one
thread per engine, one complete event ("X") per instruction; counters ("C") of what the scratchpad
holds, of bytes moved and of power; flows ("s" to "f") from a copy to the first use of what it
brought, and from a result to the copy that takes it away. Times are microseconds, to the
nanosecond; events come in the order of time.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterable, Iterator
from typing import Any

from npu_dialect.runtime.profile import Profile
from npu_dialect.runtime.series import Series
from npu_dialect.target import ENGINES

STEPS = 4000
"""Values of a counter; where there would be more, each is that of an equal part of the time."""

Event = dict[str, Any]


def to_json(profile: Profile) -> str:
    """The timeline of a program as text."""
    events = [*_instructions(profile), *_counters(profile), *_flows(profile)]
    events.sort(key=lambda event: event["ts"])
    encode = json.JSONEncoder(separators=(",", ":")).encode
    rows = ",\n".join(map(encode, (*_names(profile), *events)))
    about = {"target": profile.target.name, "entry": profile.program.entry_name()}
    return f'{{"displayTimeUnit":"ns","otherData":{json.dumps(about)},"traceEvents":[\n{rows}\n]}}'


def to_bytes(profile: Profile, name: str) -> bytes:
    """The content of a file of this name: compressed where it ends with `.gz`, without a time
    stamp.
    """
    data = to_json(profile).encode()
    return gzip.compress(data, mtime=0) if name.endswith(".gz") else data


def _names(profile: Profile) -> Iterator[Event]:
    for core in sorted({core for core, _ in profile.plan.queues}):
        yield _metadata("process_name", f"{profile.target.name} core {core}", core, 0)
    for core, engine in sorted(profile.plan.queues, key=lambda q: (q[0], ENGINES.index(q[1]))):
        thread = ENGINES.index(engine)
        yield _metadata("thread_name", engine, core, thread)
        order = {"ph": "M", "name": "thread_sort_index", "pid": core, "tid": thread}
        yield order | {"args": {"sort_index": thread}}


def _metadata(kind: str, name: str, core: int, thread: int) -> Event:
    return {"ph": "M", "name": kind, "pid": core, "tid": thread, "args": {"name": name}}


class _Clock:
    """Cycles as microseconds, rounded to the nanosecond, so that what meets in cycles meets."""

    def __init__(self, profile: Profile) -> None:
        self.frequency = profile.target.frequency

    def __call__(self, cycle: int) -> float:
        return round(cycle * 1e9 / self.frequency) / 1e3


def _instructions(profile: Profile) -> Iterator[Event]:
    program, clock = profile.program, _Clock(profile)
    times = (profile.timing.start.tolist(), profile.timing.free.tolist())
    for i, ((index, op), begin, free) in enumerate(zip(program.executed, *times, strict=True)):
        core, engine = profile.plan.queues[profile.plan.queue_of[i]]
        record = program.debug[index]
        start = clock(begin)
        args: Event = {"instruction": index, "op": op.name, "bound": profile.costs[i].bound}
        args["source"] = ", ".join(record.sources)
        lines = list(dict.fromkeys(line for found in record.lines for line in found))
        if lines:
            args["lines"] = ", ".join(lines)
        yield {
            "ph": "X",
            "name": record.layer,
            "cat": engine,
            "pid": core,
            "tid": ENGINES.index(engine),
            "ts": start,
            "dur": round(clock(free) - start, 3),
            "args": args,
        }


def _counters(profile: Profile) -> Iterator[Event]:
    end, per_second = profile.cycles, profile.target.frequency
    yield from _counter(profile, "scratchpad", "KiB", profile.occupancy.peaks(end, STEPS), 1 / 1024)
    for (space, direction), series in profile.traffic.items():
        means = series.means(end, STEPS)
        yield from _counter(profile, f"{space} {direction}", "GB/s", means, per_second / 1e9)
    yield from _counter(profile, "power", "mW", profile.power.means(end, STEPS), 1e3)


def _counter(
    profile: Profile, name: str, unit: str, series: Series, scale: float
) -> Iterator[Event]:
    """Perfetto shows the unit, the key of the value, behind the name."""
    clock = _Clock(profile)
    for time, value in zip(series.times.tolist(), series.values.tolist(), strict=True):
        args = {unit: float(f"{value * scale:.6g}")}
        yield {"ph": "C", "name": name, "pid": 0, "ts": clock(time), "args": args}


def _flows(profile: Profile) -> Iterator[Event]:
    for number, (kind, before, after) in enumerate(_handovers(profile)):
        ends = (("s", before), ("f", after))
        for phase, instruction in ends:
            event = _point(profile, instruction)
            yield {"ph": phase, "name": kind, "cat": "data", "id": number, **event} | (
                {"bp": "e"} if phase == "f" else {}
            )


def _handovers(profile: Profile) -> Iterator[tuple[str, int, int]]:
    """(kind, instruction that writes, instruction that is the first to read) where one is a copy
    and the other works on another engine. Slices without duration hold no arrow.
    """
    for buffer in profile.buffers:
        before = buffer.writer
        after = _first_elsewhere(profile, before, buffer.readers)
        engines = [profile.engine_of(i) for i in (before, after) if i >= 0]
        if "dma" in engines[:1] and after >= 0:
            yield "load", before, after
        elif "dma" in engines[1:]:
            yield "store", before, after


def _first_elsewhere(profile: Profile, writer: int, readers: Iterable[int]) -> int:
    engine, busy = profile.engine_of(writer), profile.timing.busy
    if not busy[writer]:
        return -1
    return next((i for i in readers if profile.engine_of(i) != engine and busy[i]), -1)


def _point(profile: Profile, instruction: int) -> Event:
    """Where an arrow touches an instruction: at its start."""
    core, engine = profile.plan.queues[profile.plan.queue_of[instruction]]
    start = int(profile.timing.start[instruction])
    return {"pid": core, "tid": ENGINES.index(engine), "ts": _Clock(profile)(start)}
