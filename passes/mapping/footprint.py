"""What a cascade takes of the scratchpad, piece by piece as it will be lowered.

The options of a cascade are compared by one whole stripe. Pieces of the first stripes may have more
rows, so that a tile which was the only one gets slots to rotate:

    stripe of 2 rows    x 192 in 2 slots, out 264
    first stripe, 3     x 192 in 2 slots, out 264 in 2 slots

What a plan chooses must fit with the most that any piece takes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import chain
from typing import Any

from xdsl.ir import SSAValue

from npu_dialect.passes.mapping.cascades import Member, Option, Run, with_input
from npu_dialect.passes.mapping.parts import clipped, part
from npu_dialect.passes.mapping.problems import AnyMapping, Problem, buffers_of
from npu_dialect.passes.mapping.scatter import Scatter
from npu_dialect.passes.mapping.stripes import Piece, held_inputs, held_results, stripes_of
from npu_dialect.passes.mapping.tiles import Buffer, aligned, spm_bytes


def exact(
    run: Run,
    option: Option,
    resident: frozenset[SSAValue],
    stays: Sequence[bool],
) -> Option:
    """An option with the buffers, row buffers and bytes that its pieces really take. The inputs in
    `resident` and the results that `stays` tells lie in the scratchpad.
    """
    flow = run.flow
    pieces = list(chain.from_iterable(stripes_of(flow, option.rows, option.most)))
    least, inputs = held_results(flow, pieces), held_inputs(flow, pieces)
    sources = run.held_sources(option.members)
    near = run.near(resident, stays, [s.value for s in sources.values()])
    members: list[Member] = []
    for k, member in enumerate(option.members):
        p = run.works.problem(run.first + k, near[k], stays[k] if run.leaves[k] else True)
        assert p is not None
        own = [piece for piece in pieces if piece.group == k]
        buffers = _most(run, p, member, own, run.is_buffered(k, sources))
        work = replace(member.work, buffers=buffers, used=spm_bytes(list(buffers)))
        held = member.held
        if held is not None:
            held = max(held, least[k])
        size = 0 if held is None else aligned(held * run.row_bytes[k])
        found = replace(member, work=work, held=held, held_bytes=size)
        if member.input_held is not None:
            source = sources[k]
            found = with_input(found, source, max(member.input_held, inputs[source.value]))
        members.append(found)
    used = sum(m.holds for m in members) + max(m.work.used for m in members)
    work = replace(option.work, used=used)
    return replace(option, members=tuple(members), work=work, is_exact=True)


def _most(
    run: Run, p: Problem, member: Member, pieces: Sequence[Piece], buffered: bool
) -> tuple[Buffer, ...]:
    """The buffers of a group, each as large as in the piece in which it takes the most."""
    assert not isinstance(p, Scatter)
    mapping: Any = member.work.mapping
    found: dict[str, Buffer] = {}
    seen: set[Problem] = set()
    for piece in pieces:
        group = run.groups[piece.group]
        some: Any = part(p, group, piece.start, piece.stop, member.holds_weights, buffered)  # pyright: ignore[reportArgumentType]
        if some in seen:
            continue
        seen.add(some)
        for buffer in _buffers(some, clipped(mapping, some)):
            known = found.get(buffer.label)
            if known is None or known.total < buffer.total:
                found[buffer.label] = buffer
    return tuple(found.values())


def _buffers(p: Problem, mapping: AnyMapping) -> list[Buffer]:
    return [b for b in buffers_of(p, mapping) if b.space == "spm"]
