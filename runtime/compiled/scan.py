"""The scan of `runtime/timing.py` as native code: when each instruction starts, and the critical
path, in one pass each over arrays.

Instructions are numbered from 1 here; number 0 is none and stands complete at 0, so that the scan
has no branches.
"""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np
import numpy.typing as npt

from npu_dialect.runtime.compiled.builder import I64, POINTER, Function, Value
from npu_dialect.runtime.compiled.host import Host
from npu_dialect.runtime.compiled.library import emitter, library

Words = npt.NDArray[np.int64]

_SCAN, _PATH = ("timing_scan",), ("timing_path",)


def scan(
    order: Words,
    queue: Words,
    offsets: Words,
    awaited: Words,
    turn: Words,
    cycles: Words,
    latency: Words,
) -> tuple[Words, Words, Words, Words, Words]:
    """(start, free, end, cause, before) of each instruction: `cause` is the one that it waited for
    last, `before` the one before it in its queue, -1 for none.

    `order` is one that the waits permit, `queue` by instruction; instruction i waits for
    `awaited[offsets[i] : offsets[i + 1]]`, and until the engine of `turn[i]` is free.
    """
    n = len(queue)
    start, free, end, cause, before = (np.empty(n + 1, np.int64) for _ in range(5))
    free[0] = end[0] = 0
    last = np.zeros(int(queue.max(initial=0)) + 1, np.int64)
    shifted, turns = awaited + 1, turn + 1
    arrays = (order, queue, offsets, shifted, turns, cycles, latency, last, start, free, end, cause)
    _routine(_SCAN, len(arrays) + 1)(n, *map(_address, (*arrays, before)))
    return start[1:], free[1:], end[1:], cause[1:] - 1, before[1:] - 1


def path(
    start: Words, free: Words, end: Words, latency: Words, cause: Words, before: Words
) -> Words:
    """The critical path as rows of (instruction, begin, end), in order of time."""
    spans = np.empty((len(start) + 1, 3), np.int64)
    last = int(np.argmax(end)) if len(end) else 0
    time = int(end[last]) if len(end) else 0
    arrays = (start, free, end, latency, cause, before, spans)
    whole = tuple(map(np.ascontiguousarray, arrays[:-1]))
    count = _routine(_PATH, len(arrays), last)(time, *map(_address, (*whole, spans)), last)
    return spans[:count][::-1]


def _address(array: npt.NDArray[Any]) -> int:
    return array.ctypes.data


def _routine(spec: tuple[str, ...], pointers: int, *more: int) -> Any:
    """The function of a whole number, addresses, and more whole numbers, that gives one."""
    found = library()
    found.load([spec])
    arguments = [ctypes.c_int64, *[ctypes.c_void_p] * pointers, *[ctypes.c_int64] * len(more)]
    return ctypes.CFUNCTYPE(ctypes.c_int64, *arguments)(found.addresses[spec])


# --- the code -------------------------------------------------------------------------------------

_ARRAYS = ("order", "queue", "offsets", "awaited", "turn", "cycles", "latency")
_RESULTS = ("last", "start", "free", "end", "cause", "before")


@emitter("timing_scan")
def _emit_scan(module: Any, symbol: str, host: Host) -> None:
    names = (*_ARRAYS, *_RESULTS)
    f = Function(module, symbol, {"n": I64, **dict.fromkeys(names, POINTER)}, I64)

    def step(k: Value, _: list[Value]) -> None:
        i = _get(f, "order", k)
        queue, number = _get(f, "queue", i), f.add(i, 1)
        before = _get(f, "last", queue)
        bounds = _get(f, "offsets", i), _get(f, "offsets", number)

        def wait(j: Value, carried: list[Value]) -> list[Value]:
            begin, why = carried
            awaited = _get(f, "awaited", j)
            complete = _get(f, "end", awaited)
            later = f.less(begin, complete)
            return [f.b.select(later, complete, begin), f.b.select(later, awaited, why)]

        turn, own = _get(f, "turn", i), _get(f, "free", before)
        other = _get(f, "free", turn)
        later = f.less(own, other)
        first = [f.b.select(later, other, own), f.b.select(later, turn, before)]
        begin, why = f.loop(*bounds, wait, first)
        free = f.add(begin, _get(f, "cycles", i))
        end = f.max(f.add(free, _get(f, "latency", i)), _get(f, "end", before))
        results = {"start": begin, "free": free, "end": end, "cause": why, "before": before}
        for name, value in results.items():
            _set(f, name, number, value)
        _set(f, "last", queue, number)

    f.loop(0, f["n"], step)
    f.b.ret(I64(0))


@emitter("timing_path")
def _emit_path(module: Any, symbol: str, host: Host) -> None:
    """Walks back from the last end, as `timing.critical_path` does."""
    names = ("start", "free", "end", "latency", "cause", "before", "spans")
    arguments = {"time": I64, **dict.fromkeys(names, POINTER), "last": I64}
    f = Function(module, symbol, arguments, I64)
    b = f.b
    entry = b.block
    head, inside, back, further, emit, done = (
        b.append_basic_block(n) for n in ("head", "inside", "back", "further", "emit", "done")
    )
    b.branch(head)

    b.position_at_end(head)
    i, time, count = (b.phi(I64) for _ in range(3))
    b.cbranch(f.less(0, time), inside, done)

    b.position_at_end(inside)
    b.cbranch(b.icmp_signed("==", time, _get(f, "end", i)), back, emit)

    b.position_at_end(back)  # completed with an earlier one of its queue, or an earlier one of that
    late = b.phi(I64)
    own = f.add(_get(f, "free", late), _get(f, "latency", late))
    b.cbranch(f.less(own, _get(f, "end", late)), further, emit)

    b.position_at_end(further)
    previous = _get(f, "before", late)
    b.branch(back)
    late.add_incoming(i, inside)
    late.add_incoming(previous, further)

    b.position_at_end(emit)
    found = b.phi(I64)
    found.add_incoming(i, inside)
    found.add_incoming(late, back)
    begin = _get(f, "start", found)
    for place, value in enumerate((found, begin, time)):
        f.store(value, f["spans"], f.add(f.mul(count, 24), 8 * place))
    more = b.select(f.less(begin, time), I64(1), I64(0))
    counted, why = f.add(count, more), _get(f, "cause", found)
    b.branch(head)
    for phi, first, again in (
        (i, f["last"], why),
        (time, f["time"], begin),
        (count, I64(0), counted),
    ):
        phi.add_incoming(first, entry)
        phi.add_incoming(again, emit)

    b.position_at_end(done)
    b.ret(count)


def _get(f: Function, name: str, index: Value) -> Value:
    return f.load(I64, f[name], f.mul(index, 8))


def _set(f: Function, name: str, index: Value, value: Value) -> None:
    f.store(value, f[name], f.mul(index, 8))
