"""Runs of a float and of a quantized function that are watched tensor by tensor, for
`npu_dialect.fidelity`: what each makes, and what each would make of the other's tensors.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import cast

import numpy as np
from xdsl.dialects.builtin import ModuleOp
from xdsl.dialects.func import FuncOp, ReturnOp
from xdsl.ir import Block, Operation, SSAValue

from npu_dialect import graph, levels, provenance
from npu_dialect.compare import aligned
from npu_dialect.graph import interpret
from npu_dialect.graph.base import GraphOp, quant_of
from npu_dialect.graph.quant import QuantType
from npu_dialect.graph.states import arguments_with, states_of
from npu_dialect.passes.quantizing import masks
from npu_dialect.passes.quantizing.clipping import bounds
from npu_dialect.passes.rewriting import constant
from npu_dialect.ports import Array

MOVES = (
    graph.ReshapeOp, graph.TransposeOp, graph.SliceOp, graph.BroadcastToOp, graph.ConcatOp,
    graph.GatherOp,
)  # fmt: skip
"""What makes no noise of its own, and is no layer."""


@dataclass
class WatchedRun:
    """What one run of a function made."""

    results: list[Array] = field(default_factory=list[Array])
    tensors: dict[str, Array] = field(default_factory=dict[str, Array])
    """Tensors of reals, by the node that makes them."""
    stored: dict[str, tuple[Array, QuantType]] = field(
        default_factory=dict[str, tuple[Array, QuantType]]
    )
    """Tensors of integers that are no others moved: the values and their type."""
    floors: dict[str, float] = field(default_factory=dict[str, float])
    """Numbers below which the readers of a tensor of reals tell nothing apart, as masks have it."""
    _values: dict[SSAValue, tuple[str, Array]] = field(
        default_factory=dict[SSAValue, tuple[str, Array]]
    )
    """Tensors of reals that only softmaxes read, before they are limited, and their names."""

    @property
    def levels(self) -> int:
        """How many values the widest of the tensors of integers have."""
        return max((q.high - q.low + 1 for _, q in self.stored.values()), default=1)

    def seen(self, name: str, array: Array) -> Array:
        """What the readers of a tensor tell apart of its values."""
        return np.maximum(array, self.floors.get(name, -np.inf), dtype=array.dtype)

    def limit(self, levels: int) -> None:
        """Limits the tensors of reals to what their readers tell apart where softmax has so many
        levels.
        """

        def of_softmax(op: graph.SoftmaxOp) -> float:
            if op.x not in self._values:
                return -math.inf
            array, axis = self._values[op.x][1], op.axis.value.data
            rows = masks.greatest(array, axis)
            return float(rows.min()) - masks.distance(array.shape[axis], levels) if rows.size else 0

        def high(value: SSAValue) -> float:
            if value in self._values:
                return max(float(self._values[value][1].max(initial=0.0)), 0.0)
            array = constant(value)
            return math.inf if array is None else float(array.max(initial=0.0))

        for value, (name, _) in self._values.items():
            floor = masks.least(value, of_softmax, high)
            if math.isfinite(floor):
                self.floors[name] = floor
                self.tensors[name] = self.seen(name, self.tensors[name])

    def record(self, op: Operation, results: Sequence[Array]) -> None:
        """Notes what an operation made, if it is no other tensor moved; what groups yield is what
        one inside has made.
        """
        name = (op.name, *provenance.sources(op))[-1]
        for value, array in zip(op.results, results, strict=True):
            if array.dtype == np.float32 and masks.reaches_softmax(value):
                self._values[value] = name, array
        if isinstance(op, (graph.GroupOp, *MOVES)):
            return
        for value, array in zip(op.results, results, strict=True):
            quant = quant_of(value)
            if quant is not None and not isinstance(op, graph.ConstantOp):
                self.stored[name] = array, quant
            elif array.dtype == np.float32:
                low, high = bounds(value)  # beyond them a stored tensor may saturate
                self.tensors[name] = np.clip(array, low, high)


class Pair:
    """Both functions, and what is in their states."""

    def __init__(self, floats: FuncOp, quantized: FuncOp) -> None:
        self.floats, self.quantized = floats, quantized
        module = floats.parent_op()
        assert isinstance(module, ModuleOp)
        other = quantized.parent_op()
        assert isinstance(other, ModuleOp)
        entry = floats.sym_name.data
        self._contents = [
            {port.name: port.initial for port in levels.states(m, entry)} for m in (module, other)
        ]
        held = {state.result for state in states_of(floats)}
        names = levels.result_names(floats)
        self._outputs = {k: name for k, name in enumerate(names) if k not in held}

    def step(self, inputs: Sequence[Array]) -> tuple[list[Array], WatchedRun, WatchedRun]:
        """The arguments of the float function, and a run of each."""
        runs: list[WatchedRun] = []
        given = arguments_with(self.floats, list(inputs), self._contents[0])
        for k, function in enumerate((self.floats, self.quantized)):
            run = WatchedRun()
            arguments = given
            if k == 1:
                own = arguments_with(function, stored_inputs(function, inputs), self._contents[1])
                arguments = own
            run.results = interpret.run(function, arguments, record=run.record)
            for state in states_of(function):
                if state.result is not None:
                    self._contents[k][state.name] = run.results[state.result]
            runs.append(run)
        return given, runs[0], runs[1]

    def stored(self, arguments: Sequence[Array]) -> list[Array]:
        """Arguments of the float function as those of the quantized one."""
        return [
            array if (quant := quant_of(value)) is None or array.dtype != np.float32
            else rounded(array, quant)
            for array, value in zip(arguments, self.quantized.args, strict=True)
        ]  # fmt: skip

    def outputs(self, exact: WatchedRun, noisy: WatchedRun) -> dict[str, tuple[Array, Array]]:
        """The outputs of reals of both runs."""
        found: dict[str, tuple[Array, Array]] = {}
        returned = cast(ReturnOp, self.quantized.body.block.last_op)
        for k, name in self._outputs.items():
            quant, array = quant_of(returned.operands[k]), noisy.results[k]
            real = array if quant is None else dequantized(array, quant)
            if exact.results[k].dtype == np.float32:
                found[name] = exact.results[k], real
        return found


def stored_inputs(function: FuncOp, inputs: Sequence[Array]) -> list[Array]:
    """Inputs of a float function as those of a quantized one, where they are integers."""
    held = {state.argument for state in states_of(function)}
    values = [v for k, v in enumerate(function.args) if k not in held]
    return [
        rounded(a, quant) if (quant := quant_of(v)) and a.dtype == np.float32 else a
        for a, v in zip(inputs, values, strict=True)
    ]


def dequantized(array: Array, quant: QuantType) -> Array:
    """The real numbers of stored values, float32."""
    scales, zero = quant.along(array.ndim)
    return ((array.astype(np.float64) - zero) * scales).astype(np.float32)


def rounded(array: Array, quant: QuantType) -> Array:
    """The stored values of real numbers."""
    scales, zero = quant.along(array.ndim)
    steps = np.clip(np.rint(array.astype(np.float64) / scales) + zero, quant.low, quant.high)
    return steps.astype(quant.storage_dtype.numpy)


class Walk:
    """Evaluates a function, and lets a result be another one."""

    def run(self, block: Block, operands: Sequence[Array]) -> list[Array]:
        """What the terminator of a block names."""
        known: dict[SSAValue, Array] = dict(zip(block.args, operands, strict=True))
        *body, last = block.ops
        for op in body:
            results = self._evaluate(op, [known[v] for v in op.operands])
            if len(results) == 1:
                results = [self.replaced(op, results[0])]
            known.update(zip(op.results, results, strict=True))
        return [known[v] for v in last.operands]

    def _evaluate(self, op: Operation, operands: Sequence[Array]) -> list[Array]:
        if isinstance(op, graph.GroupOp):
            return self.run(op.body.block, operands)
        assert isinstance(op, GraphOp)
        return list(op.evaluate(*operands))

    def replaced(self, op: Operation, found: Array) -> Array:
        raise NotImplementedError


class Fed(Walk):
    """A quantized function in which every layer reads what the float one computed."""

    def __init__(self, function: FuncOp, exact: WatchedRun) -> None:
        self.exact = exact
        self.pairs: dict[str, tuple[Array, Array]] = {}
        """The float tensor, and what the layer made of exact inputs, in one layout."""
        self.last = _last_by_name(
            function, lambda op: quant_of(op.results[0]) is not None and not isinstance(op, MOVES)
        )

    def replaced(self, op: Operation, found: Array) -> Array:
        name = self.last.get(op, "")
        tensors = self.exact.tensors
        quant = quant_of(op.results[0]) if name in tensors else None
        if quant is None:
            return found
        old, new = aligned(tensors[name], self.exact.seen(name, dequantized(found, quant)))
        if old is None:
            return found
        self.pairs[name] = (old, new)
        return rounded(old, quant)


class Injected(Walk):
    """A float function in which one tensor is another one."""

    def __init__(self, name: str, array: Array) -> None:
        self.name, self.array = name, array
        self.last: dict[Operation, str] | None = None

    def run(self, block: Block, operands: Sequence[Array]) -> list[Array]:
        function = block.parent_op()
        if self.last is None and isinstance(function, FuncOp):
            self.last = _last_by_name(function, lambda op: not isinstance(op, MOVES))
        return super().run(block, operands)

    def replaced(self, op: Operation, found: Array) -> Array:
        if self.last is None or self.last.get(op) != self.name or found.dtype != np.float32:
            return found
        return restored(self.array, found)


def restored(array: Array, like: Array) -> Array:
    """An array in the layout of another one, of which it is a version; see `compare.aligned`."""
    if array.size != like.size:
        return like
    layouts: list[Array] = [array.reshape(like.shape)]
    if like.ndim > 2:
        last = np.moveaxis(like, 1, -1)
        layouts.append(np.moveaxis(array.reshape(last.shape), -1, 1))
    wide = like.astype(np.float64)
    return min(layouts, key=lambda each: float(np.sum(np.abs(each - wide))))


def _last_by_name(
    function: FuncOp, counts: Callable[[Operation], bool]
) -> dict[Operation, str]:  # fmt: skip
    """The operations that make the tensors of nodes, and the names of those."""
    last: dict[str, Operation] = {}
    for op in _inner(function.body.block):
        if len(op.results) == 1 and counts(op):
            last[(op.name, *provenance.sources(op))[-1]] = op
    return {op: name for name, op in last.items()}


def _inner(block: Block) -> Iterator[Operation]:
    """The operations of a function, those in groups rather than the groups."""
    for op in block.ops:
        if isinstance(op, graph.GroupOp):
            yield from _inner(op.body.block)
        elif isinstance(op, GraphOp) and not isinstance(op, graph.ConstantOp):
            yield op
