"""The routine that runs all others: every thread walks the table, and all meet after an entry that
others may depend on.
"""

from __future__ import annotations

from typing import Any

from npu_dialect.runtime.compiled.builder import I64, POINTER, Function, Value
from npu_dialect.runtime.compiled.host import Host
from npu_dialect.runtime.compiled.library import emitter
from npu_dialect.runtime.compiled.records import ALONE, MEET

SPINS = 2000
"""Looks at the barrier before a waiting thread offers its processor to others."""


@emitter("driver")
def emit(module: Any, symbol: str, host: Host) -> None:
    """void(ptr table, i64 entries, ptr scratch, i64 thread, i64 threads, ptr barrier, ptr yield).

    `barrier` is one i64, 0 before the first thread starts; `yield` gives the processor away.
    """
    names = ("table", "entries", "scratch", "thread", "threads", "barrier", "yield")
    types: dict[str, Any] = dict.fromkeys(names, I64)
    types |= dict.fromkeys(("table", "scratch", "barrier", "yield"), POINTER)
    f = Function(module, symbol, types)
    several = f.b.icmp_signed(">", f["threads"], I64(1))
    first = f.b.icmp_signed("==", f["thread"], I64(0))

    def entry(index: Value, carried: list[Value]) -> list[Value]:
        row = f.at(f["table"], f.mul(index, 24))
        routine, record, flags = f.load(POINTER, row), f.load(POINTER, row, 8), f.load(I64, row, 16)
        alone = _has(f, flags, ALONE)
        thread = f.b.select(alone, I64(0), f["thread"])
        threads = f.b.select(alone, I64(1), f["threads"])
        mine = f.b.or_(first, f.b.not_(alone))
        f.when(mine, lambda: f.call(routine, [record, f["scratch"], thread, threads]))
        meet = f.b.and_(several, _has(f, flags, MEET))
        met = f.b.select(meet, f.add(carried[0], f["threads"]), carried[0])
        f.when(meet, lambda: _meet(f, met))
        return [met]

    f.loop(0, f["entries"], entry, [I64(0)])
    f.done()


def _has(f: Function, flags: Value, flag: int) -> Value:
    return f.b.icmp_signed("!=", f.b.and_(flags, I64(flag)), I64(0))


def _meet(f: Function, goal: Value) -> None:
    """Waits until all threads together have counted to `goal`."""
    f.b.atomic_rmw("add", f["barrier"], I64(1), "acq_rel")
    before = f.b.block
    spin, again, rest, after = (f.b.append_basic_block(n) for n in ("spin", "again", "rest", "met"))
    f.b.branch(spin)
    f.b.position_at_end(spin)
    spins = f.b.phi(I64)
    count = f.b.load_atomic(f["barrier"], "acquire", 8, typ=I64)
    f.b.cbranch(f.b.icmp_signed("<", count, goal), again, after)
    f.b.position_at_end(again)
    more = f.b.add(spins, I64(1))
    f.b.cbranch(f.b.icmp_signed("<", more, I64(SPINS)), spin, rest)
    f.b.position_at_end(rest)
    f.call(f["yield"], [])
    f.b.branch(spin)
    spins.add_incoming(I64(0), before)
    spins.add_incoming(more, again)
    spins.add_incoming(I64(0), rest)
    f.b.position_at_end(after)
