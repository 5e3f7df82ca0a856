"""The neighbours of groups on other engines, and how long they take: a layer waits for its
neighbours' rows, and they for its own, so that how a layer is cut decides whether both engines are
at work at once.

Vector work counts as another engine for itself: a chain of it is worth cutting when its ends are.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from math import prod
from typing import Any, NamedTuple

from xdsl.ir import SSAValue

from npu_dialect.graph.base import shape_of
from npu_dialect.passes.mapping import contraction, elementwise
from npu_dialect.passes.mapping.groups import Group
from npu_dialect.passes.mapping.problems import problem
from npu_dialect.passes.mapping.views import storage
from npu_dialect.target import Target

KINDS = ("array", "vector")


class Neighbours(NamedTuple):
    """What is next to a group."""

    before: SSAValue | None = None
    """Its input that was made last, where another engine made it."""
    taken: int = 0
    """Cycles of the group that made it, less those for which this group's engine has other work."""
    handed: int = 0
    """The same of the group that reads the result first."""
    heads: int = 1
    """How many heads the group works on: it is a product of several, or follows one."""

    @property
    def waits(self) -> bool:
        """Whether the group and another engine wait for each other."""
        return self.before is not None or self.handed > 0


def neighbours(target: Target, groups: Sequence[Group]) -> list[Neighbours]:
    """The neighbours of each group; none on a target whose array and vector unit take turns."""
    if target.vector.is_output_stage:
        return [Neighbours()] * len(groups)
    problems: list[Any] = [problem(g, lambda _: False, False) for g in groups]
    cycles = [_cycles(target, p) for p in problems]
    until = {kind: _sums(kind, groups, cycles) for kind in KINDS}
    makers: dict[SSAValue, int] = {}
    found = [Neighbours()] * len(groups)
    has_reader: set[int] = set()
    heads = [1] * len(groups)
    for number, group in enumerate(groups):
        made = [(makers[v], v) for v in map(storage, group.inputs) if v in makers]
        for maker, value in made:
            kinds = groups[maker].kind, group.kind
            if "vector" in kinds and set(kinds) <= set(KINDS):
                between = [until[k][number] - until[k][maker + 1] for k in kinds]
                if (maker, value) == max(made, key=lambda item: item[0]):
                    taken = _rounded(cycles[maker] - between[1])
                    found[number] = found[number]._replace(before=value, taken=taken)
                if maker not in has_reader:
                    handed = _rounded(cycles[number] - between[0])
                    found[maker] = found[maker]._replace(handed=handed)
            has_reader.add(maker)
        for value in map(storage, group.op.results):
            makers[value] = number
        heads[number] = _heads(group, problems[number], [heads[maker] for maker, _ in made])
        found[number] = found[number]._replace(heads=heads[number])
    return found


def _heads(group: Group, p: Any, before: Sequence[int]) -> int:
    """Heads of a group, of which the groups that make its inputs have so many."""
    if isinstance(p, contraction.Contraction):
        return p.batch if p.batched_weights else 1
    if isinstance(p, elementwise.Elementwise) and p.dims:
        heads = prod(shape_of(group.result)[:-2])
        return heads if heads in before and p.dims[0] % heads == 0 else 1
    return 1


def _sums(kind: str, groups: Sequence[Group], cycles: Sequence[int]) -> list[int]:
    """Cycles of the groups of a kind before each group, and of all of them."""
    own = (c if g.kind == kind else 0 for g, c in zip(groups, cycles, strict=True))
    return list(accumulate(own, initial=0))


def _rounded(cycles: int) -> int:
    """The next power of two, so that layers which hardly differ are searched once; 0 for less."""
    return 1 << (cycles - 1).bit_length() if cycles > 0 else 0


def _cycles(target: Target, p: Any) -> int:
    """Cycles that a group's own engine takes for its problem at least."""
    if isinstance(p, contraction.Contraction):
        return contraction.least_compute(target, p)
    if isinstance(p, elementwise.Pooling):
        whole = elementwise.PoolingMapping(p.oh, p.ow, p.channels)
        return int(elementwise.pooling_estimate(target, p, whole).compute)
    if isinstance(p, elementwise.Elementwise):
        extent = p.dims[0] if p.dims else 1
        return int(
            elementwise.estimate(target, p, elementwise.ElementwiseMapping(0, extent)).compute
        )
    return 0
