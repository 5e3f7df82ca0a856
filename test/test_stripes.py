"""The geometry of cascades, against counting row by row what every row is made from."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mapped_groups import ModuleBuilder, f32
from xdsl.ir import SSAValue

from npu_dialect import graph
from npu_dialect.passes.mapping import stripes
from npu_dialect.passes.mapping.groups import Group
from npu_dialect.passes.mapping.stripes import Piece

Rows = list[set[int]]
"""Of each row of a result, the rows of one input that it is made from."""

some = settings(max_examples=100, deadline=None)


class Network:
    """Poolings and additions over images of 1 column; beside the graph, the rows that each row of a
    result is made from, by (input, group).
    """

    def __init__(self, rows: int):
        self.builder = ModuleBuilder("mobile4k", ([1, rows, 1, 2], f32))
        self.values: list[SSAValue] = [self.builder.args[0]]
        self.rows = [rows]
        self.made_from: list[dict[int, Rows]] = [{}]

    def pool(self, source: int, kernel: int, stride: int, pad: int, dilation: int) -> None:
        """A window of `kernel` rows over a value; it reads what lies between them, too."""
        name = f"pool{len(self.values)}"

        def body(x: SSAValue):
            window = [kernel, 1], [stride, 1], [pad, 0, pad, 0], [dilation, 1]
            return [graph.MaxPool2DOp(x, *window)]

        value = self.builder.group(name, "vector", [self.values[source]], body)
        rows = self.rows[source]
        reach = (kernel - 1) * dilation + 1
        made = (rows + 2 * pad - reach) // stride + 1
        spans = [{a * stride - pad + t for t in range(reach)} for a in range(made)]
        self._add(value, made, {source: [span & set(range(rows)) for span in spans]})

    def add(self, first: int, second: int) -> None:
        """The sum of two values of as many rows."""
        values = [self.values[first], self.values[second]]
        value = self.builder.group(
            f"add{len(self.values)}", "vector", values, lambda a, b: [graph.AddOp(a, b)]
        )
        alike = [{row} for row in range(self.rows[first])]
        self._add(value, self.rows[first], {first: alike, second: alike})

    def _add(self, value: SSAValue, rows: int, made_from: dict[int, Rows]) -> None:
        self.values.append(value)
        self.rows.append(rows)
        self.made_from.append(made_from)

    def groups(self) -> list[Group]:
        """The groups of the finished module; what nobody reads is returned."""
        unread = [v for v in self.values[1:] if not v.uses]
        module = self.builder.module(*unread)
        return [Group(op) for op in module.walk() if op.name == "graph.group"]


@st.composite
def networks(draw: st.DrawFn) -> Network:
    """Up to six groups; poolings keep at least two rows."""
    network = Network(draw(st.integers(8, 24)))
    for _ in range(draw(st.integers(2, 6))):
        source = draw(st.integers(0, len(network.values) - 1))
        alike = [k for k, rows in enumerate(network.rows) if rows == network.rows[source]]
        if len(alike) > 1 and draw(st.booleans()):
            network.add(source, draw(st.sampled_from(alike)))
            continue
        kernel, stride = draw(st.integers(1, 4)), draw(st.integers(1, 3))
        dilation = draw(st.integers(1, 2))
        reach = (kernel - 1) * dilation + 1
        pad = draw(st.integers(0, reach - 1))
        if (network.rows[source] + 2 * pad - reach) // stride + 1 < 2:
            stride, pad = 1, reach - 1
        network.pool(source, kernel, stride, pad, dilation)
    return network


def rows_read(network: Network, value: int, piece: Piece) -> set[int]:
    """The rows of a value that the rows of a piece are made from."""
    sources = network.made_from[piece.group + 1].get(value)
    return set() if sources is None else set[int]().union(*sources[piece.start : piece.stop])


def limits(network: Network, seed: int) -> list[int | None]:
    """The most rows that some of the groups make at once."""
    rng = np.random.default_rng(seed)
    found = [int(rng.integers(1, 6)) if rng.random() < 0.7 else None for _ in network.rows[1:]]
    return found if seed else [None] * len(found)


@some
@given(networks(), st.integers(1, 30), st.integers(0, 99))
def test_every_row_is_made_once_and_after_what_it_is_made_from(
    network: Network, rows: int, seed: int
):
    made: list[set[int]] = [set(range(network.rows[0])), *(set[int]() for _ in network.rows[1:])]
    most = limits(network, seed)
    for piece in sum(stripes.steps(network.groups(), rows, most), list[Piece]()):
        assert piece.rows <= (most[piece.group] or piece.rows)
        for value in network.made_from[piece.group + 1]:
            assert rows_read(network, value, piece) <= made[value]
        new = set(range(piece.start, piece.stop))
        assert new and not new & made[piece.group + 1]
        made[piece.group + 1] |= new


@some
@given(networks(), st.integers(1, 30), st.integers(0, 99))
def test_what_is_read_outside_is_complete_at_the_end(network: Network, rows: int, seed: int):
    groups = network.groups()
    pieces = sum(stripes.steps(groups, rows, limits(network, seed)), list[Piece]())
    for number, group in enumerate(groups):
        if any(use.operation.name == "func.return" for use in group.result.uses):
            assert sum(p.rows for p in pieces if p.group == number) == network.rows[number + 1]


@some
@given(networks(), st.integers(1, 30))
def test_stripes_make_no_more_than_is_needed(network: Network, rows: int):
    groups = network.groups()
    found = stripes.steps(groups, rows)
    made = [0] * len(network.rows)
    for stripe in found[:-1]:
        for piece in stripe:
            made[piece.group + 1] = piece.stop
        for value in range(1, len(network.rows)):
            readers = [k for k, sources in enumerate(network.made_from) if value in sources]
            if readers:
                pieces = [Piece(k - 1, 0, made[k]) for k in readers]
                needed = set[int]().union(*(rows_read(network, value, p) for p in pieces))
                assert made[value] <= max(needed, default=-1) + 1


def live_rows(network: Network, value: int, pieces: Sequence[Piece]) -> int:
    """The most rows of a value that must be held at once: what a piece makes, what was made before
    and is read after it, and all between.
    """
    most = 0
    for number, piece in enumerate(pieces):
        if piece.group + 1 == value:
            later = [rows_read(network, value, p) for p in pieces[number:]]
            needed = set[int]().union(*later, {piece.start})
            most = max(most, piece.stop - min(needed))
    return most


@some
@given(networks(), st.integers(1, 30), st.integers(0, 99))
def test_row_buffers_hold_what_is_read_later(network: Network, rows: int, seed: int):
    groups = network.groups()
    most = limits(network, seed)
    pieces = sum(stripes.steps(groups, rows, most), list[Piece]())
    for value, held in stripes.least_held(groups, rows, most).items():
        assert held == live_rows(network, network.values.index(value), pieces)


@some
@given(networks(), st.integers(1, 30), st.integers(0, 99))
def test_a_row_buffer_of_an_input_holds_what_is_read_later(network: Network, rows: int, seed: int):
    groups = network.groups()
    most = limits(network, seed)
    pieces = sum(stripes.steps(groups, rows, most), list[Piece]())
    held = loaded = 0
    for number, piece in enumerate(pieces):
        stop = max(rows_read(network, 0, piece), default=-1) + 1
        if stop > loaded:
            later = set[int]().union(*(rows_read(network, 0, p) for p in pieces[number:]))
            held, loaded = max(held, stop - min({*later, loaded})), stop
    assert stripes.least_input_held(groups, rows, most)[network.values[0]] == held


# --- single groups --------------------------------------------------------------------------------


def only(builder: ModuleBuilder, *results: SSAValue) -> list[Group]:
    module = builder.module(*results)
    return [Group(op) for op in module.walk() if op.name == "graph.group"]


def test_a_convolution_reads_its_window_and_its_residual_row_by_row():
    builder = ModuleBuilder("mobile4k", ([1, 8, 8, 4], f32))
    x = builder.args[0]
    w = builder.constant(np.zeros((3, 3, 4, 4), np.float32))

    def body(x: SSAValue, w: SSAValue):
        conv = graph.Conv2DOp(x, w, pads=[1, 1, 1, 1])
        return [conv, graph.AddOp(conv.results[0], x)]

    (group,) = only(builder, builder.group("conv", "array", [x, w], body))
    assert stripes.rows_of(group) == 8
    (window,) = stripes.needs(group).values()
    assert [window.of(0, 2), window.of(3, 5), window.of(6, 8)] == [(0, 3), (2, 6), (5, 8)]


def test_a_matrix_product_of_tokens_reads_them_row_by_row_and_its_weights_whole():
    builder = ModuleBuilder("mobile4k", ([1, 12, 4], f32))
    w = builder.constant(np.zeros((4, 6), np.float32))
    body = lambda x, w: [graph.MatmulOp(x, w)]  # noqa: E731
    (group,) = only(builder, builder.group("fc", "array", [builder.args[0], w], body))
    assert stripes.rows_of(group) == 12
    assert [w.of(2, 5) for w in stripes.needs(group).values()] == [(2, 5)]


def test_rows_of_a_reshaped_tensor_are_counted_as_it_was_made():
    builder = ModuleBuilder("mobile4k", ([1, 6, 5, 4], f32))
    image = builder.group("relu", "vector", [builder.args[0]], lambda x: [graph.ReluOp(x)])
    reshape = graph.ReshapeOp(image, [1, 30, 4])
    builder.block.add_op(reshape)
    tokens = builder.group("neg", "vector", [reshape.result], lambda x: [graph.NegOp(x)])
    groups = only(builder, tokens)
    assert stripes.fits(groups) is None
    assert [w.of(4, 11) for w in stripes.needs(groups[1]).values()] == [(0, 3)]


def test_images_of_a_batch_are_rows():
    builder = ModuleBuilder("mobile4k", ([3, 6, 5, 4], f32))
    body = lambda x: [  # noqa: E731
        graph.MaxPool2DOp(x, kernel=[3, 3], strides=[1, 1], pads=[1, 1, 1, 1], dilations=[1, 1])
    ]
    (group,) = only(builder, builder.group("pool", "vector", [builder.args[0]], body))
    assert stripes.rows_of(group) == 3
    assert [w.of(1, 2) for w in stripes.needs(group).values()] == [(1, 2)]


def refusal(builder: ModuleBuilder, *results: SSAValue) -> str:
    reason = stripes.fits(only(builder, *results))
    assert reason is not None
    return reason


def test_a_reduction_over_rows_is_no_part_of_a_cascade():
    builder = ModuleBuilder("mobile4k", ([1, 8, 4, 4], f32))
    relu = builder.group("relu", "vector", [builder.args[0]], lambda x: [graph.ReluOp(x)])
    body = lambda x: [graph.ReduceSumOp(x, [1])]  # noqa: E731
    total = builder.group("sum", "vector", [relu], body)
    found = refusal(builder, total)
    assert found == "sum: rows must not be reduced, found 1x8x4x4 to 1x1x4x4"


def test_weights_that_the_cascade_computes_are_needed_whole():
    builder = ModuleBuilder("mobile4k", ([8, 4], f32), ([4, 6], f32))
    w = builder.group("relu", "vector", [builder.args[1]], lambda x: [graph.ReluOp(x)])
    body = lambda x, w: [graph.MatmulOp(x, w)]  # noqa: E731
    fc = builder.group("fc", "array", [builder.args[0], w], body)
    assert refusal(builder, fc) == "fc needs relu whole"


def test_a_cascade_is_a_run_of_groups():
    builder = ModuleBuilder("mobile4k", ([8, 4], f32))
    relu = lambda x: [graph.ReluOp(x)]  # noqa: E731
    a = builder.group("a", "vector", [builder.args[0]], relu)
    b = builder.group("b", "vector", [a], relu)
    c = builder.group("c", "vector", [b], relu)
    first, _, last = only(builder, c)
    assert stripes.fits([first, last]) == "c must follow a, found b"


@pytest.mark.parametrize("shape", [(64,), (1, 64), (1, 1, 1, 8)])
def test_a_tensor_of_one_row_cannot_be_cut(shape: tuple[int, ...]):
    builder = ModuleBuilder("mobile4k", (shape, f32))
    relu = lambda x: [graph.ReluOp(x)]  # noqa: E731
    (group,) = only(builder, builder.group("a", "vector", [builder.args[0]], relu))
    assert stripes.rows_of(group) is None
