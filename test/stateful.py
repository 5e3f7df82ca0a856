"""Small models with states, each beside what numpy says that it does in a step."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from xdsl.dialects.builtin import ArrayAttr, ModuleOp, StringAttr
from xdsl.dialects.func import FuncOp, ReturnOp
from xdsl.ir import Block, Operation, Region, SSAValue

from npu_dialect import dtypes, graph
from npu_dialect.blob import BlobAttr
from npu_dialect.dtypes import DType
from npu_dialect.graph.base import Array, tensor_type
from npu_dialect.graph.states import State, set_states
from npu_dialect.npu.attributes import TargetAttr
from npu_dialect.provenance import name_location

Arrays = dict[str, Array]
Step = Callable[[Arrays], Arrays]
"""Inputs and states to outputs and new states, by name."""


class Builder:
    """An entry function under construction."""

    def __init__(self) -> None:
        self.block = Block()
        self.inputs: list[str] = []

    def argument(self, name: str, shape: Sequence[int], dtype: DType = dtypes.f32) -> SSAValue:
        self.inputs.append(name)
        kind = tensor_type(tuple(shape), dtypes.element_type(dtype))
        return self.block.insert_arg(kind, len(self.block.args))

    def constant(self, array: Array) -> SSAValue:
        return self.add(graph.ConstantOp(array))

    def add(self, op: Operation) -> SSAValue:
        op.location = name_location(f"{op.name.partition('.')[2]}{len(list(self.block.ops))}")
        self.block.add_op(op)
        return op.results[0]

    def function(
        self,
        results: Mapping[str, SSAValue],
        initial: Mapping[str, Array] | None = None,
        name: str = "main",
    ) -> FuncOp:
        """A result called `s'` is the new content of state s; a state that is only read stands in
        `initial`.
        """
        self.block.add_op(ReturnOp(*results.values()))
        kinds = ([a.type for a in self.block.args], [v.type for v in results.values()])
        function = FuncOp(name, kinds, Region(self.block))
        for what, names in (("input", self.inputs), ("output", list(results))):
            function.attributes[f"npu.{what}_names"] = ArrayAttr(map(StringAttr, names))
        set_states(function, self._states(list(results), initial or {}))
        return function

    def _states(self, results: list[str], initial: Mapping[str, Array]) -> list[State]:
        new = {name[:-1]: k for k, name in enumerate(results) if name.endswith("'")}
        names = dict.fromkeys((*new, *initial))
        return [
            State(
                name,
                self.inputs.index(name) if name in self.inputs else None,
                new.get(name),
                BlobAttr.of(initial[name]) if name in initial else None,
            )
            for name in names
        ]


def module_of(*functions: FuncOp, target: str = "mobile4k") -> ModuleOp:
    module = ModuleOp(list(functions))
    module.attributes["npu.target"] = TargetAttr(target)
    return module


@dataclass(frozen=True)
class Model:
    """A module, how it steps, and random inputs for it."""

    build: Callable[[], FuncOp]
    step: Step
    draw: Callable[[np.random.Generator], Arrays]
    states: Arrays = field(default_factory=dict[str, Array])
    """The contents before the first step."""
    in_place: tuple[str, ...] = ()
    """The states that are updated where they are."""
    tolerance: float = 0.0
    """The one of floats that are summed in another order by numpy."""
    target: str = "mobile4k"

    def module(self) -> ModuleOp:
        return module_of(self.build(), target=self.target)

    def inputs(self, steps: int) -> list[Arrays]:
        generator = np.random.default_rng(0)
        return [self.draw(generator) for _ in range(steps)]

    def expected(self, inputs: Sequence[Arrays]) -> list[tuple[Arrays, Arrays]]:
        """Outputs and states after each step."""
        states, found = dict(self.states), list[tuple[Arrays, Arrays]]()
        for given in inputs:
            made = self.step(states | given)
            states |= {name: made[f"{name}'"] for name in states if f"{name}'" in made}
            found.append(({n: a for n, a in made.items() if not n.endswith("'")}, dict(states)))
        return found


def floats(generator: np.random.Generator, *shape: int) -> Array:
    return generator.normal(0, 1, shape).astype(np.float32)


# --- the models -----------------------------------------------------------------------------------


def _counter() -> FuncOp:
    b = Builder()
    x, n = b.argument("x", (3, 40), dtypes.i32), b.argument("n", (3, 40), dtypes.i32)
    new = b.add(graph.AddOp(n, x))
    return b.function(
        {"y": b.add(graph.MulOp(new, new)), "n'": new}, {"n": np.full((3, 40), 7, np.int32)}
    )


def _count(a: Arrays) -> Arrays:
    new = a["n"] + a["x"]
    return {"y": new * new, "n'": new}


COUNTER = Model(
    _counter,
    _count,
    lambda g: {"x": g.integers(-9, 9, (3, 40), np.int32)},
    {"n": np.full((3, 40), 7, np.int32)},
    in_place=("n",),
)

WEIGHTS = floats(np.random.default_rng(1), 16, 16) / 4


def _recurrent() -> FuncOp:
    b = Builder()
    h, x = b.argument("h", (1, 16)), b.argument("x", (1, 16))
    product = b.add(graph.MatmulOp(h, b.constant(WEIGHTS)))
    new = b.add(graph.ReluOp(b.add(graph.AddOp(product, x))))
    return b.function({"h'": new, "y": b.add(graph.NegOp(new))})


def _recur(a: Arrays) -> Arrays:
    new = np.maximum(a["h"] @ WEIGHTS + a["x"], 0)
    return {"h'": new, "y": -new}


RECURRENT = Model(
    _recurrent,
    _recur,
    lambda g: {"x": floats(g, 1, 16)},
    {"h": np.zeros((1, 16), np.float32)},
    tolerance=1e-5,
)


def _delay() -> FuncOp:
    b = Builder()
    x, one, two = (b.argument(n, (2, 30)) for n in ("x", "one", "two"))
    return b.function({"y": b.add(graph.AddOp(two, x)), "one'": x, "two'": one})


DELAY = Model(
    _delay,
    lambda a: {"y": a["two"] + a["x"], "one'": a["x"], "two'": a["one"]},
    lambda g: {"x": floats(g, 2, 30)},
    {n: np.zeros((2, 30), np.float32) for n in ("one", "two")},
)


def _swap() -> FuncOp:
    b = Builder()
    x, first, second = (b.argument(n, (20,)) for n in ("x", "first", "second"))
    y = b.add(graph.SubOp(first, x))
    start = {"first": np.arange(20, dtype=np.float32)}
    return b.function({"y": y, "first'": second, "second'": first, "old": first}, start)


SWAP = Model(
    _swap,
    lambda a: {
        "y": a["first"] - a["x"],
        "first'": a["second"],
        "second'": a["first"],
        "old": a["first"],
    },
    lambda g: {"x": floats(g, 20)},
    {"first": np.arange(20, dtype=np.float32), "second": np.zeros(20, np.float32)},
)


def _window() -> FuncOp:
    b = Builder()
    x, past = b.argument("x", (1, 8)), b.argument("past", (5, 8))
    kept = b.add(graph.SliceOp(past, (1, 0), (4, 8)))
    new = b.add(graph.ConcatOp([kept, x], 0))
    return b.function({"y": b.add(graph.ReduceMaxOp(new, (0,))), "past'": new})


def _slide(a: Arrays) -> Arrays:
    new = np.concatenate([a["past"][1:], a["x"]])
    return {"y": new.max(0, keepdims=True), "past'": new}


WINDOW = Model(
    _window, _slide, lambda g: {"x": floats(g, 1, 8)}, {"past": np.zeros((5, 8), np.float32)}
)


def _part() -> FuncOp:
    b = Builder()
    x, cache = b.argument("x", (2, 8)), b.argument("cache", (6, 8))
    before = b.add(graph.SliceOp(cache, (0, 0), (2, 8)))
    after = b.add(graph.SliceOp(cache, (4, 0), (2, 8)))
    old = b.add(graph.ReduceMaxOp(cache, (0,)))
    new = b.add(graph.ConcatOp([before, b.add(graph.NegOp(x)), after], 0))
    return b.function({"y": b.add(graph.AddOp(b.add(graph.AbsOp(new)), old)), "cache'": new})


def _write_part(a: Arrays) -> Arrays:
    new = np.concatenate([a["cache"][:2], -a["x"], a["cache"][4:]])
    return {"y": np.abs(new) + a["cache"].max(0, keepdims=True), "cache'": new}


PART = Model(
    _part,
    _write_part,
    lambda g: {"x": floats(g, 2, 8)},
    {"cache": np.zeros((6, 8), np.float32)},
    in_place=("cache",),
)


def _overtaken() -> FuncOp:
    b = Builder()
    x, past = b.argument("x", (2, 8)), b.argument("past", (4, 8))
    parts = [b.add(graph.NegOp(x)), b.add(graph.AbsOp(x))]
    old = b.add(graph.ReduceMaxOp(past, (0,)))
    return b.function({"y": old, "past'": b.add(graph.ConcatOp(parts, 0))})


OVERTAKEN = Model(
    _overtaken,
    lambda a: {
        "y": a["past"].max(0, keepdims=True),
        "past'": np.concatenate([-a["x"], np.abs(a["x"])]),
    },
    lambda g: {"x": floats(g, 2, 8)},
    {"past": np.zeros((4, 8), np.float32)},
)


def _settings() -> FuncOp:
    b = Builder()
    x, gain = b.argument("x", (4, 6)), b.argument("gain", (6,))
    y = b.add(graph.MulOp(x, gain))
    return b.function(
        {"y": y, "last'": b.add(graph.NegOp(x))}, {"gain": np.arange(6, dtype=np.float32)}
    )


SETTINGS = Model(
    _settings,
    lambda a: {"y": a["x"] * a["gain"], "last'": -a["x"]},
    lambda g: {"x": floats(g, 4, 6)},
    {"gain": np.arange(6, dtype=np.float32), "last": np.zeros((4, 6), np.float32)},
    in_place=("last",),
)


def _cache() -> FuncOp:
    b = Builder()
    row, at = b.argument("row", (1, 24)), b.argument("at", (1,), dtypes.i32)
    cache = b.argument("cache", (50, 24))
    new = b.add(graph.ScatterOp(cache, at, row))
    return b.function({"y": b.add(graph.ReduceSumOp(new, (1,))), "cache'": new})


def _remember(a: Arrays) -> Arrays:
    new = a["cache"].copy()
    new[a["at"][0]] = a["row"][0]
    return {"y": new.sum(1, keepdims=True), "cache'": new}


CACHE = Model(
    _cache,
    _remember,
    lambda g: {"row": floats(g, 1, 24), "at": g.integers(0, 50, 1, np.int32)},
    {"cache": np.zeros((50, 24), np.float32)},
    in_place=("cache",),
    tolerance=1e-5,
)


def _read_later() -> FuncOp:
    b = Builder()
    x, n = b.argument("x", (8, 16)), b.argument("n", (8, 16))
    new = b.add(graph.AddOp(n, x))
    old = b.add(graph.ReduceSumOp(n, (0,)))
    return b.function(
        {"n'": new, "y": b.add(graph.MulOp(old, b.add(graph.ReduceMaxOp(new, (0,)))))}
    )


READ_LATER = Model(
    _read_later,
    lambda a: {
        "n'": a["n"] + a["x"],
        "y": a["n"].sum(0, keepdims=True) * (a["n"] + a["x"]).max(0, keepdims=True),
    },
    lambda g: {"x": floats(g, 8, 16)},
    {"n": np.zeros((8, 16), np.float32)},
    tolerance=1e-5,
)

SCALE, ZERO = 0.05, 3


def _integer_sum() -> FuncOp:
    """A QDQ model: the sum of what comes and what was, in i8."""
    b = Builder()
    x, h = b.argument("x", (2, 24)), b.argument("h", (2, 24))
    kind = graph.uniform(dtypes.i8, SCALE, ZERO)
    terms = [b.add(graph.DequantizeOp(b.add(graph.QuantizeOp(v, kind)))) for v in (x, h)]
    total = b.add(graph.AddOp(terms[0], terms[1]))
    new = b.add(graph.DequantizeOp(b.add(graph.QuantizeOp(total, kind))))
    return b.function({"y": new, "h'": new}, {"h": np.full((2, 24), 0.5, np.float32)})


def stored(x: Array) -> Array:
    """What i8 holds of real numbers."""
    return np.clip(np.rint(x / np.float32(SCALE)) + ZERO, -128, 127).astype(np.int8)


def _real(x: Array) -> Array:
    return (x.astype(np.float32) - ZERO) * np.float32(SCALE)


def _sum_stored(a: Arrays) -> Arrays:
    total = _real(stored(a["x"])) + _real(stored(a["h"]))
    new = _real(stored(total))
    return {"y": new, "h'": new}


INTEGER_SUM = Model(
    _integer_sum,
    _sum_stored,
    lambda g: {"x": floats(g, 2, 24)},
    {"h": np.full((2, 24), 0.5, np.float32)},
    target="edge256",
)
"""Not among the others: its state is stored in integers."""

def _residual() -> FuncOp:
    b = Builder()
    x, h = b.argument("x", (24, 16)), b.argument("h", (24, 16))
    product = b.add(graph.MatmulOp(x, b.constant(WEIGHTS)))
    return b.function({"h'": b.add(graph.AddOp(product, h))})


RESIDUAL = Model(
    _residual,
    lambda a: {"h'": a["h"] + a["x"] @ WEIGHTS},
    lambda g: {"x": floats(g, 24, 16)},
    {"h": np.zeros((24, 16), np.float32)},
    in_place=("h",),
    tolerance=1e-5,
)

MODELS = {
    "residual": RESIDUAL,
    "counter": COUNTER,
    "recurrent": RECURRENT,
    "delay": DELAY,
    "swap": SWAP,
    "window": WINDOW,
    "part": PART,
    "overtaken": OVERTAKEN,
    "settings": SETTINGS,
    "cache": CACHE,
    "read_later": READ_LATER,
}
