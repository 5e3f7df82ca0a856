"""Random programs of nested IF and WHILE with variables have the bits of the reference kernels."""

from __future__ import annotations

from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("tflite")
pytest.importorskip("ai_edge_litert")

from test_tflite_control import compare
from tflite_graphs import Graph, Models

SHAPE, F32, I32, BOOL = (2, 2), "float32", "int32", "bool"
VARIABLES = ("v", "w")


class Program:
    """A model under construction: a function of x and of the variables."""

    def __init__(self, seed: int) -> None:
        self.random, self.models = Random(seed), Models()
        main, once = self.models.graph("main"), self.models.graph("once")
        x, self.is_pure = main.input(SHAPE, F32), False
        main.op("CALL_ONCE", [], [], "CallOnceOptions", initSubgraphIndex=once.number)
        for k, name in enumerate(VARIABLES):
            first = once.constant(np.full(SHAPE, k), F32)
            once.op("ASSIGN_VARIABLE", [once.variable(name), first], [])
        main.returns(self.steps(main, x, 3))
        for name in VARIABLES:
            main.returns(main.op("READ_VARIABLE", [main.variable(name)], [main.tensor(SHAPE, F32)]))

    def steps(self, graph: Graph, x: int, depth: int) -> int:
        """A few things that are done to x."""
        kinds = [self.sum, self.product, *([] if self.is_pure else [self.variable])]
        nested = [self.branch, self.loop] if depth else []
        for _ in range(self.random.randint(1, 3)):
            x = self.random.choice(kinds + nested)(graph, x, depth - 1)
        return x

    def number(self) -> float:
        return self.random.choice((-2.0, -0.75, 0.5, 1.25, 3.0))

    def sum(self, graph: Graph, x: int, depth: int) -> int:
        return graph.binary("ADD", x, graph.constant(self.number(), F32), F32, SHAPE)

    def product(self, graph: Graph, x: int, depth: int) -> int:
        return graph.binary("MUL", x, graph.constant(self.number(), F32), F32, SHAPE)

    def variable(self, graph: Graph, x: int, depth: int) -> int:
        """v, v + x or x; the variable may become v + x."""
        handle = graph.variable(self.random.choice(VARIABLES))
        before = graph.op("READ_VARIABLE", [handle], [graph.tensor(SHAPE, F32)])
        after = graph.binary("ADD", before, x, F32, SHAPE)
        if self.random.random() < 0.7:
            graph.op("ASSIGN_VARIABLE", [handle, after], [])
        return self.random.choice((before, after, x))

    def greatest(self, graph: Graph, x: int) -> int:
        axes = graph.constant([0, 1])
        return graph.op("REDUCE_MAX", [x, axes], [graph.tensor((), F32)], "ReducerOptions")

    def counter(self, graph: Graph, x: int) -> int:
        """The greatest element as a whole number from -1 to 3."""
        found = self.greatest(graph, x)
        for code, bound in (("MINIMUM", 3.0), ("MAXIMUM", -1.0)):
            limit = graph.constant(bound, F32)
            found = graph.op(code, [found, limit], [graph.tensor((), F32)], "MaximumMinimumOptions")
        return graph.op("CAST", [found], [graph.tensor((), I32)])

    def condition(self, graph: Graph, x: int) -> int:
        """Whether the greatest element is less than a number."""
        greatest = self.greatest(graph, x)
        return graph.binary("LESS", greatest, graph.constant(self.number(), F32), BOOL, ())

    def branch(self, graph: Graph, x: int, depth: int) -> int:
        """A branch of run time, or one that is known."""
        known = self.random.random() < 0.2
        flag = graph.constant(True, BOOL) if known else self.condition(graph, x)
        branches = [self.models.graph(name) for name in ("then", "else")]
        for each in branches:
            each.returns(self.steps(each, each.input(SHAPE, F32), depth))
        numbers = {"thenSubgraphIndex": branches[0].number, "elseSubgraphIndex": branches[1].number}
        return graph.op("IF", [flag, x], [graph.tensor(SHAPE, F32)], "IfOptions", **numbers)

    def loop(self, graph: Graph, x: int, depth: int) -> int:
        """At most three steps, or exactly so many; or so many as x says, without variables."""
        is_hosted, was_pure = self.random.random() < 0.3, self.is_pure
        self.is_pure |= is_hosted
        condition, body = self.models.graph("condition"), self.models.graph("body")
        k, y = condition.input((), I32), condition.input(SHAPE, F32)
        few = condition.constant(self.random.randint(0, 3))
        holds = condition.binary("LESS", k, few, BOOL, ())
        if self.random.random() < 0.6:
            more = self.condition(condition, y)
            holds = condition.binary("LOGICAL_AND", holds, more, BOOL, ())
        condition.returns(holds)
        j, z = body.input((), I32), body.input(SHAPE, F32)
        body.returns(body.binary("ADD", j, body.constant(1), I32, ()), self.steps(body, z, depth))
        self.is_pure = was_pure
        results = [graph.tensor((), I32), graph.tensor(SHAPE, F32)]
        start = self.counter(graph, x) if is_hosted else graph.constant(0)
        numbers = {"condSubgraphIndex": condition.number, "bodySubgraphIndex": body.number}
        graph.op("WHILE", [start, x], results, "WhileOptions", **numbers)
        return results[1]


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=12)
def test_random_programs(seed: int) -> None:
    rng = np.random.default_rng(seed)
    runs = [[rng.choice([-2, -1, 0, 0.5, 3], SHAPE).astype(np.float32)] for _ in range(3)]
    compare(Program(seed).models.bytes(), *runs)
