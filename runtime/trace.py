"""A timeline in the Trace Event Format, which Perfetto and chrome://tracing open.

The format: "Trace Event Format" (Google,
docs.google.com/document/d/1CvAClvFfyA5R-PhYUmn5OOQtYMH4h6I0nSsKchNAySU). One process per core, one
thread per engine, one complete event ("X") per instruction, times in microseconds.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from npu_dialect.runtime.profile import Profile
from npu_dialect.target import ENGINES


def to_json(profile: Profile) -> str:
    """The timeline of a program as text."""
    events = [*_names(profile), *_instructions(profile)]
    return json.dumps({"displayTimeUnit": "ns", "traceEvents": events})


def _names(profile: Profile) -> Iterator[dict[str, Any]]:
    for core in sorted({core for core, _ in profile.plan.queues}):
        yield _metadata("process_name", f"{profile.target.name} core {core}", core, 0)
    for core, engine in profile.plan.queues:
        yield _metadata("thread_name", engine, core, ENGINES.index(engine))


def _metadata(kind: str, name: str, core: int, thread: int) -> dict[str, Any]:
    return {"ph": "M", "name": kind, "pid": core, "tid": thread, "args": {"name": name}}


def _instructions(profile: Profile) -> Iterator[dict[str, Any]]:
    program, timing = profile.program, profile.timing
    scale = 1e6 / profile.target.frequency
    for i, (index, op) in enumerate(program.executed):
        core, engine = profile.plan.queues[profile.plan.queue_of[i]]
        begin, free, end = (int(x[i]) for x in (timing.start, timing.free, timing.end))
        yield {
            "ph": "X",
            "name": program.debug[index].layer,
            "cat": engine,
            "pid": core,
            "tid": ENGINES.index(engine),
            "ts": begin * scale,
            "dur": (free - begin) * scale,
            "args": {
                "instruction": index,
                "op": op.name,
                "sources": list(program.debug[index].sources),
                "cycles": [begin, free, end],
                "bound": profile.costs[i].bound,
            },
        }
