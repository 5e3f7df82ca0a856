"""Many inputs through one program: several sessions in as many threads, results in order.

    for run in map_inputs(program, samples):        # samples: any iterable, taken as needed
        ...

Native code does not hold Python's lock, nor does much of numpy: two sessions on two cores get
through 1.2 to 1.6 times as many samples in any tier, and lose nothing where a run takes 0.1 ms.
"""

from __future__ import annotations

import os
from collections import Counter, deque
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence, Sized
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from queue import SimpleQueue
from typing import Any, cast

from npu_dialect.diagnostics import Code, error
from npu_dialect.ports import Array, Inputs, fits
from npu_dialect.runtime import tiers
from npu_dialect.runtime.program import MAIN, Program
from npu_dialect.runtime.run import Run
from npu_dialect.runtime.simulator import Session

AHEAD = 2
"""Samples per job that are taken from the data before their turn."""


def map_inputs(
    program: Program,
    samples: Iterable[Inputs],
    *,
    jobs: int | None = None,
    tier: str = "auto",
    strict: bool = False,
    threads: int = 1,
    seed: int | None = None,
    entry: str | None = None,
    sequence: bool = False,
    state: Mapping[str, Array] | None = None,
) -> Generator[Run]:
    """The runs of an entry of a program (default: the only one, `main`, or for each sample the one
    that it fits) on many inputs, in their order.

    Samples are independent: the program's states start from their initial content, or from `state`,
    for each. With `sequence` they are the steps of one stream, each from the states that the one
    before left, and one job runs them.

    `jobs` sessions (default: `default_jobs`) run at once, each with a machine of
    its own and `threads` threads; `tier` and `strict` are those of `Session`, and so is `seed`. No
    more than a few samples per job are in memory at once, and results only until they are taken.
    Where `samples` has a length, `auto` is the plain tier if their work is done before a program is
    translated (`tiers.WORTHWHILE`).

    Raises what `Session` and `Session.run` raise, when its turn comes; then nothing more runs.
    """
    if tier == "auto" and isinstance(samples, Sized):
        tier = _tier(program, samples, entry)
    options: dict[str, Any] = {"tier": tier, "strict": strict, "threads": threads, "seed": seed}
    make = partial(_session, program, state or {}, options)
    first = make()
    count = _jobs(jobs, threads, sequence)
    if count == 1:
        for sample in samples:
            if not sequence:
                first.reset()
            yield first.run(sample, entry=entry)
    else:
        yield from _in_threads(first, make, samples, count, entry)


def _tier(program: Program, samples: Sized, entry: str | None) -> str:
    """What `auto` means for so many runs, of an entry or of those that the samples fit."""
    if entry is not None or len(program.entries) == 1 or MAIN in program.entries:
        return tiers.for_runs(program.entry(entry), len(samples))
    if not isinstance(samples, Sequence):
        return "auto"
    each = cast("Sequence[Inputs]", samples)
    ports = {name: program.entry(name).inputs for name in program.entries}
    counts = Counter(n for sample in each for n in ports if fits(ports[n], sample))
    found = [tiers.for_runs(program.entry(name), count) for name, count in counts.items()]
    return "plain" if set(found) <= {"plain"} else "auto"


def _session(program: Program, state: Mapping[str, Array], options: Mapping[str, Any]) -> Session:
    made = Session(program, **options)
    made.set_initial(state)
    return made


def _jobs(jobs: int | None, threads: int, sequence: bool) -> int:
    if jobs is None:
        return 1 if sequence else default_jobs(threads)
    if jobs < 1:
        raise error(Code.OPTION, "jobs must be at least 1", found=jobs, source="jobs")
    if sequence and jobs > 1:
        rule = "the steps of one stream must run one after the other, in one job"
        raise error(Code.OPTION, rule, found=f"{jobs} jobs", source="jobs")
    return jobs


def _in_threads(
    first: Session,
    make: Callable[[], Session],
    samples: Iterable[Inputs],
    count: int,
    entry: str | None,
) -> Generator[Run]:
    """Runs samples by `count` sessions, made when the samples for them are there."""
    idle: SimpleQueue[Session] = SimpleQueue()
    idle.put(first)
    made = 1
    waiting: deque[Future[Run]] = deque()

    def run(sample: Inputs) -> Run:
        session = idle.get()
        try:
            session.reset()
            return session.run(sample, entry=entry)
        finally:
            idle.put(session)

    pool = ThreadPoolExecutor(count)
    try:
        for sample in samples:
            if made <= len(waiting) and made < count:
                idle.put(make())
                made += 1
            waiting.append(pool.submit(run, sample))
            if len(waiting) > AHEAD * count:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def default_jobs(threads: int) -> int:
    """As many sessions of so many threads as keep all cores busy."""
    return max(1, cores() // threads)


def cores() -> int:
    """The processors that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
