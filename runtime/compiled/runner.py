"""Runs a translation on a machine: native stretches in one call each, by one or several threads."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache

import numpy as np

from npu_dialect.machine import Array, Machine
from npu_dialect.runtime.compiled import emitters
from npu_dialect.runtime.compiled.host import Host
from npu_dialect.runtime.compiled.library import Spec, library
from npu_dialect.runtime.compiled.records import SHARED, Table
from npu_dialect.runtime.compiled.translate import Translation

DRIVER: Spec = ("driver",)
ALIGNMENT = 64

_Driver = ctypes.CFUNCTYPE(
    None,
    ctypes.c_void_p,
    ctypes.c_int64,
    ctypes.c_void_p,
    ctypes.c_int64,
    ctypes.c_int64,
    ctypes.c_void_p,
    ctypes.c_void_p,
)

emitters.register()


@dataclass(frozen=True)
class _Native:
    """A stretch whose addresses are in place. The arrays keep what they point to alive."""

    source: Table
    words: Array
    table: Array


class Runner:
    """A translation, bound to the memories of one machine."""

    def __init__(
        self, translation: Translation, machine: Machine, host: Host, threads: int = 1
    ) -> None:
        self.machine = machine
        self.threads = threads
        routines = library(host)
        tables = [s for s in translation.stretches if isinstance(s, Table)]
        routines.load([DRIVER, *(spec for table in tables for spec in table.specs)])
        self._driver = _Driver(routines.addresses[DRIVER])
        self._shared = aligned(translation.shared + ALIGNMENT)
        memories = {SHARED: self._shared, **machine.memories}
        bases = {name: memory.ctypes.data for name, memory in memories.items()}
        self._steps: list[_Native | Sequence[int]] = [
            _Native(s, *s.bind(bases, routines.addresses)) if isinstance(s, Table) else s
            for s in translation.stretches
        ]
        self._scratch = [aligned(translation.scratch + ALIGNMENT) for _ in range(threads)]
        self._barrier = aligned(ALIGNMENT)
        self._pool = ThreadPoolExecutor(threads - 1) if threads > 1 else None

    def run(self, plain: Callable[[int], None]) -> None:
        """Runs everything; `plain` executes the instruction of a position in the plain tier."""
        for step in self._steps:
            if isinstance(step, _Native):
                self._run(step.table)
            else:
                for position in step:
                    plain(position)

    def _run(self, table: Array) -> None:
        if self._pool is None:
            self._call(table, 0)
            return
        self._barrier.view(np.int64)[0] = 0
        others = [self._pool.submit(self._call, table, t) for t in range(1, self.threads)]
        self._call(table, 0)
        for other in others:
            other.result()

    def _call(self, table: Array, thread: int) -> None:
        self._driver(
            table.ctypes.data,
            len(table),
            self._scratch[thread].ctypes.data,
            thread,
            self.threads,
            self._barrier.ctypes.data,
            _yield_address(),
        )


def aligned(size: int) -> Array:
    """Zeroed bytes at an address that is a multiple of `ALIGNMENT`."""
    raw = np.zeros(size + ALIGNMENT, np.uint8)
    start = -raw.ctypes.data % ALIGNMENT
    return raw[start : start + size]


@cache
def _yield_address() -> int | None:
    """The operating system's function that lets another thread run."""
    if sys.platform == "win32":
        function = ctypes.windll.kernel32.SwitchToThread
    else:
        function = ctypes.CDLL(None).sched_yield
    return ctypes.cast(function, ctypes.c_void_p).value
