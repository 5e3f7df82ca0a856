"""The cheapest way through a sequence of positions: dynamic programming over segments.

A way starts at position 0 and goes to the last one in moves, each over one or more positions. At a
position it has a state, on which its further moves depend, and a carry: what it has done ahead
already, in units of cost. A unit of carry saves one unit of cost later on at most, so a way that is
cheaper even if the other one's carry saves all that it can makes the other one superfluous.

    moves(0, start, 0)  ->  Move(stop=1, state, carry, cost, what), Move(stop=3, ...), ...

With `width` only so many ways are kept at each position: the cheapest of each `kind` of state, in
turn, so that ways which pay now for what they gain later are not all lost.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

Kind = Callable[[Any], Hashable]


@dataclass(frozen=True)
class Move:
    """A step of a way: where it leads, and what it costs; `what` is for the caller."""

    stop: int
    state: Hashable
    carry: float
    cost: float
    what: Any = None


Moves = Callable[[int, Any, float], Iterable[Move]]


@dataclass(eq=False)
class Way:
    """A way up to a position."""

    position: int
    state: Hashable
    carry: float
    cost: float
    what: Any = None
    before: Way | None = None

    def moves(self) -> list[Any]:
        """What the moves of the way are, in order."""
        found: list[Any] = []
        way: Way | None = self
        while way is not None and way.before is not None:
            found.append(way.what)
            way = way.before
        return found[::-1]


class DeadEndError(Exception):
    """No way leads beyond `position`."""

    def __init__(self, position: int):
        super().__init__(position)
        self.position = position


@dataclass
class _Front:
    """The ways that have reached a position, by state."""

    ways: dict[Hashable, list[Way]] = field(default_factory=dict[Hashable, list[Way]])

    def add(self, way: Way) -> None:
        """Keeps a way unless another one makes it superfluous."""
        others = self.ways.setdefault(way.state, [])
        if any(o.cost + max(0.0, way.carry - o.carry) <= way.cost for o in others):
            return
        others[:] = [o for o in others if way.cost + max(0.0, o.carry - way.carry) > o.cost]
        others.append(way)

    def best(self, width: int | None, kind: Kind) -> list[Way]:
        """The ways to go on with, the cheapest first."""
        every = sorted((w for ways in self.ways.values() for w in ways), key=_promise)
        if width is None or len(every) <= width:
            return every
        return list(_in_turn(every, width, kind))


def _promise(way: Way) -> float:
    return way.cost - way.carry


def _in_turn(ways: list[Way], width: int, kind: Kind) -> Iterator[Way]:
    """The first of each kind, then the second of each, until there are `width`."""
    by_kind: dict[Hashable, list[Way]] = {}
    for way in ways:
        by_kind.setdefault(kind(way.state), []).append(way)
    turns = [(n, k, way) for k, group in enumerate(by_kind.values()) for n, way in enumerate(group)]
    turns.sort(key=lambda turn: turn[:2])
    for _, _, way in turns[:width]:
        yield way


def cheapest(
    count: int,
    start: Hashable,
    moves: Moves,
    width: int | None = None,
    kind: Kind = lambda state: None,
) -> Way:
    """The cheapest way from position 0 to `count`. Raises DeadEndError where none leads on."""
    fronts = [_Front() for _ in range(count + 1)]
    fronts[0].add(Way(0, start, 0.0, 0.0))
    furthest = 0
    for position in range(count):
        for way in fronts[position].best(width, kind):
            furthest = position
            for move in moves(position, way.state, way.carry):
                cost = way.cost + move.cost
                new = Way(move.stop, move.state, move.carry, cost, move.what, way)
                fronts[move.stop].add(new)
        fronts[position].ways.clear()
    final = fronts[count].best(None, kind)
    if not final:
        raise DeadEndError(furthest)
    return min(final, key=lambda way: way.cost)
