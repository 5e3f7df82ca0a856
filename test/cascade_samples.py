"""Random networks of images and of tokens with cascades set by hand: any run of groups that may be
one, with any rows, row buffers, held or streamed constants.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import random_graphs as rg
from graph_samples import Array, quant
from xdsl.dialects.builtin import (
    DictionaryAttr,
    IntegerAttr,
    ModuleOp,
    StringAttr,
    f32,
    i64,
)
from xdsl.ir import Attribute, Operation, SSAValue

from npu_dialect import api, dtypes, graph, pipeline
from npu_dialect.passes.graph_map import mapping_attribute, mapping_of
from npu_dialect.passes.mapping import stripes
from npu_dialect.passes.mapping.contraction import ContractionMapping
from npu_dialect.passes.mapping.elementwise import PoolingMapping
from npu_dialect.passes.mapping.groups import Group
from npu_dialect.passes.mapping.rows import reads, reshaped
from npu_dialect.pipeline import Options
from npu_dialect.universe import NpuContext

QUIET = Options(reproducer=None)
ATTRIBUTES = ("npu.cascade", "npu.held", "npu.weights", "npu.input_held", "npu.rows")

MOVES = (rg._concat, rg._slice, rg._transpose, rg._reshape)  # pyright: ignore[reportPrivateUsage]
IMAGES = (*[rg._conv] * 6, rg._pool, rg._pool, *[rg._plain] * 3, *[rg._quantize] * 2)  # pyright: ignore[reportPrivateUsage]
TOKENS = (*[rg._matmul] * 4, rg._norm, rg._softmax, rg._reduce, *[rg._plain] * 4, rg._quantize)  # pyright: ignore[reportPrivateUsage]


class Network(rg.Graph):
    """A network of rows; `images` or tokens."""

    def __init__(self, seed: int, target: str, images: bool, kinds: Sequence[dtypes.DType]) -> None:
        self.images = images
        super().__init__(seed, target, kinds)
        self.pool = [self.argument(self.shape(), self.element()) for _ in range(self.below(2) + 1)]
        self.choices = (IMAGES if images else TOKENS) + (MOVES if self.chance(0.3) else ())

    def shape(self) -> tuple[int, ...]:
        batch = 3 if self.chance(0.1) else 1
        if self.images:
            return (batch, self.below(14) + 6, self.below(8) + 2, self.below(12) + 1)
        return (batch, self.below(14) + 6, self.below(16) + 1)

    def element(self) -> Attribute:
        kind = self.kinds[self.below(len(self.kinds))]
        return f32 if kind is dtypes.f32 else quant(self.rng, kind)

    def random(self, shape: Sequence[int], element: Attribute) -> SSAValue:
        return self.constant(self.numbers(tuple(shape), element), element)

    def grow(self) -> None:
        for _ in range(8):
            recent = self.pool[-1:] if self.chance(0.7) else self.pool[-4:]
            make = self.choices[self.below(len(self.choices))]
            op = self._try(make, self.pick(recent))
            if op is not None:
                self.pool.append(self.add(op))
                return


def network(seed: int) -> tuple[ModuleOp, list[Array], np.random.Generator]:
    """A module at level graph, mapped, with cascades; inputs; and what draws further choices."""
    rng = np.random.default_rng([seed, 2])
    floats = bool(rng.integers(2))
    kinds = (dtypes.f32,) if floats else (dtypes.i8, dtypes.i8, dtypes.u8)
    target = "mobile4k" if floats else ("edge256", "mobile4k")[int(rng.integers(2))]
    s = Network(seed, target, bool(rng.random() < 0.7), kinds)
    for _ in range(int(rng.integers(2, 9))):
        s.grow()
    return mapped(s, rng)


def attention(seed: int) -> tuple[ModuleOp, list[Array], np.random.Generator]:
    """The same of an attention of several heads, perhaps with transposed views of its inputs."""
    rng = np.random.default_rng([seed, 3])
    s = Network(seed, "mobile4k", False, (dtypes.f32,))
    heads, m, n, d = (int(rng.integers(2, high)) for high in (5, 20, 20, 9))

    def operand(rows: int, columns: int) -> SSAValue:
        if rng.random() < 0.5:
            return s.argument((1, heads, rows, columns), f32)
        return s.add(graph.TransposeOp(s.argument((1, rows, heads, columns), f32), (0, 2, 1, 3)))

    scores = s.add(graph.MatmulOp(operand(m, d), operand(d, n), None))
    weighed = s.add(graph.MatmulOp(s.add(graph.SoftmaxOp(scores, 3)), operand(n, d), None))
    s.pool = [s.add(graph.TransposeOp(weighed, (0, 2, 1, 3))) if rng.random() < 0.5 else weighed]
    return mapped(s, rng)


def mapped(
    s: Network, rng: np.random.Generator
) -> tuple[ModuleOp, list[Array], np.random.Generator]:
    """The network at level graph, mapped, with cascades set by hand."""
    module = s.finished()
    api.lower(module, "graph", options=QUIET)
    pipeline.run(module, "graph-map", NpuContext(), QUIET)
    groups = [Group(op) for op in module.walk() if op.name == "graph.group"]
    for group in groups:
        for name in ATTRIBUTES:
            group.op.attributes.pop(name, None)
        if group.op.attributes.get("npu.memory") == StringAttr("rows"):
            group.op.attributes["npu.memory"] = StringAttr("dram")
    for number, run in enumerate(runs(groups, rng)):
        make_cascade(run, number, rng)
    return module, s.inputs, rng


def runs(groups: Sequence[Group], rng: np.random.Generator) -> list[list[Group]]:
    """Disjoint runs of groups that may be cascades."""
    found: list[list[Group]] = []
    start = 0
    while start < len(groups) - 1:
        stop = start + 2
        while stop <= len(groups) and stripes.fits(groups[start:stop]) is None:
            stop += 1
        longest = stop - 1 - start
        if longest < 2:
            start += 1
            continue
        count = longest if rng.random() < 0.5 else int(rng.integers(2, longest + 1))
        found.append(list(groups[start : start + count]))
        start += count
    return found


def make_cascade(groups: Sequence[Group], number: int, rng: np.random.Generator) -> None:
    """Sets the attributes of one cascade."""
    total = stripes.rows_of(groups[-1])
    assert total is not None
    rows = int(rng.integers(1, min(total, 6) + 1)) if rng.random() < 0.8 else total
    most = [int(rng.integers(1, 5)) if rng.random() < 0.3 else None for _ in groups]
    least = stripes.least_held(groups, rows, most)
    for group, limit in zip(groups, most, strict=True):
        attributes = group.op.attributes
        cascade = {"number": IntegerAttr(number, i64), "rows": IntegerAttr(rows, i64)}
        attributes["npu.cascade"] = DictionaryAttr(cascade)
        if group.result in least and rng.random() < 0.8:
            attributes["npu.memory"] = StringAttr("rows")
            held = least[group.result] + int(rng.integers(0, 4))
            attributes["npu.held"] = IntegerAttr(held, i64)
        if limit is not None:
            attributes["npu.rows"] = IntegerAttr(limit, i64)
        if rng.random() < 0.5:
            attributes["npu.weights"] = StringAttr("held")
        _cut_tiles(group, rng)
    _hold_inputs(groups, stripes.least_input_held(groups, rows, most), rng)


def _cut_tiles(group: Group, rng: np.random.Generator) -> None:
    """Tiles of some rows of a stripe."""
    mapping = mapping_of(group)
    if isinstance(mapping, ContractionMapping | PoolingMapping):
        rows = int(rng.integers(1, mapping.rows + 1))
        group.op.attributes["npu.mapping"] = mapping_attribute(replace(mapping, rows=rows))


def _hold_inputs(
    groups: Sequence[Group], held: dict[SSAValue, int], rng: np.random.Generator
) -> None:
    for source in stripes.Flow(tuple(groups)).inputs:
        first = groups[source.readers[0][0]]
        is_first = reshaped(reads(first)[0].value) is source.value
        if is_first and not lies_in_scratchpad(source.value) and rng.random() < 0.5:
            more = held[source.value] + int(rng.integers(0, 4))
            first.op.attributes["npu.input_held"] = IntegerAttr(more, i64)


def lies_in_scratchpad(value: SSAValue) -> bool:
    """Whether the result of a group does, whole."""
    owner = value.owner
    return isinstance(owner, Operation) and owner.attributes.get("npu.memory") == StringAttr("spm")
