"""What quantization cost: each layer of a quantized model against the float one; who is to blame.

    found = compare(floats, quantized, inputs)
    found.layers[3].sqnr        signal to noise of a tensor, in dB, with all that came before it
    found.layers[3].own         the same, if the layer's inputs were exact
    found.blame[0]              whose own noise alone costs the outputs most

The layers are the tensors that the quantized graph stores as integers. A module at level graph
gives all of this; a program only what its instructions leave in memory (`compare_program`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from xdsl.dialects.builtin import ArrayAttr, DictionaryAttr, ModuleOp, StringAttr
from xdsl.dialects.func import FuncOp, ReturnOp
from xdsl.ir import Block, Operation, SSAValue
from xdsl.utils.hints import isa

from npu_dialect import graph, levels, provenance
from npu_dialect.compare import aligned
from npu_dialect.diagnostics import Code, CompileError
from npu_dialect.graph import interpret
from npu_dialect.graph.base import GraphOp, quant_of
from npu_dialect.graph.quant import QuantType, uniform
from npu_dialect.graph.states import arguments_with, states_of
from npu_dialect.passes.quantizing import masks
from npu_dialect.passes.quantizing.clipping import bounds
from npu_dialect.passes.quantizing.types import of_metadata
from npu_dialect.passes.rewriting import constant
from npu_dialect.ports import Array, Inputs, bind

if TYPE_CHECKING:
    from npu_dialect.runtime.program import Program

Progress = Callable[[str, int, int], None]

CANDIDATES = 8
"""Layers, those with the most noise of their own, of which the outputs' noise is measured."""
BLAMED = 3
MOVES = (
    graph.ReshapeOp, graph.TransposeOp, graph.SliceOp, graph.BroadcastToOp, graph.ConcatOp,
    graph.GatherOp,
)  # fmt: skip
"""What makes no noise of its own, and is no layer."""
SATURATES = 0.001
"""The share of saturated values that is worth a word."""


@dataclass(frozen=True)
class Layer:
    """A tensor that is stored as integers, over all inputs."""

    name: str
    operator: str
    """Of the model's node."""
    dtype: str
    scale: float
    zero: int
    elements: int
    sqnr: float
    """Signal to noise in dB, with the noise of the layers before."""
    cosine: float
    """Of the angle between the float and the quantized tensor."""
    worst: float
    """The greatest error of an element, in steps of the tensor."""
    worst_index: tuple[int, ...]
    worst_values: tuple[float, float]
    """The float and the quantized value there."""
    saturated: float
    """The share of elements whose float value is beyond what the type holds."""
    own: float | None = None
    """Signal to noise if the layer's inputs were those of the float model, rounded."""
    alone: float | None = None
    """Signal to noise of the outputs if this layer alone were quantized; of some layers only."""


@dataclass(frozen=True)
class Fidelity:
    """The layers in the order of the model, and the outputs as a whole."""

    layers: tuple[Layer, ...]
    outputs: Mapping[str, float]
    """Signal to noise of each output, in dB."""
    inputs: int
    """How many were measured with."""
    unseen: int = 0
    """Tensors of the model that a program has inside of instructions, or in other layouts."""

    @property
    def blame(self) -> list[Layer]:
        """The layers whose noise costs the outputs most, first the worst; at most three."""
        known = [layer for layer in self.layers if layer.alone is not None]
        worst = min(self.outputs.values(), default=math.inf)
        found = sorted(known, key=lambda layer: layer.alone or 0.0)
        return [la for la in found if (la.alone or 0.0) < worst + 12][:BLAMED]

    def to_json(self) -> dict[str, Any]:
        """All of it as JSON values."""
        return {
            "inputs": self.inputs,
            "unseen": self.unseen,
            "outputs": {name: _finite(value) for name, value in self.outputs.items()},
            "layers": [
                {k: _finite(v) if isinstance(v, float) else v for k, v in asdict(layer).items()}
                for layer in self.layers
            ],
            "blame": [layer.name for layer in self.blame],
        }


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def reason(layer: Layer) -> str:
    """Why a layer is to blame, and what may help, in a sentence."""
    if layer.saturated > SATURATES:
        return (
            f"{layer.saturated:.1%} of its values saturate: --method minmax, or more samples in "
            "--calibrate"
        )
    return (
        f"its steps of {layer.scale:.3g} are coarse: --budget DB for more bits where they matter, "
        "--method mse, or --improve round"
    )


# --- measuring ------------------------------------------------------------------------------------


@dataclass
class _Sums:
    """What is added up of one tensor."""

    operator: str
    quant: QuantType
    signal: float = 0.0
    error: float = 0.0
    product: float = 0.0
    found: float = 0.0
    own: float = 0.0
    elements: int = 0
    saturated: int = 0
    worst: float = -1.0
    index: tuple[int, ...] = ()
    values: tuple[float, float] = (0.0, 0.0)

    def add(self, exact: Array, found: Array) -> None:
        """The float tensor and the dequantized one, in one layout."""
        a, b = exact.astype(np.float64), found.astype(np.float64)
        gap = np.abs(a - b)
        self.signal += float(np.sum(a * a))
        self.error += float(np.sum(gap * gap))
        self.product += float(np.sum(a * b))
        self.found += float(np.sum(b * b))
        self.elements += a.size
        scales, zero = self.quant.along(a.ndim)
        low, high = ((end - zero) * scales for end in (self.quant.low, self.quant.high))
        self.saturated += int(np.sum((a < low - scales / 2) | (a > high + scales / 2)))
        place = int(gap.argmax())
        if gap.size and gap.flat[place] > self.worst:
            self.worst = float(gap.flat[place])
            self.index = tuple(int(i) for i in np.unravel_index(place, gap.shape))
            self.values = float(a.flat[place]), float(b.flat[place])

    def layer(self, name: str, alone: float | None, *, has_own: bool) -> Layer:
        step = float(self.quant.scales.max())
        cosine = self.product / math.sqrt(self.signal * self.found or 1.0)
        return Layer(
            name,
            self.operator,
            self.quant.storage_dtype.name,
            step,
            int(np.max(self.quant.zero_points)),
            self.elements,
            decibels(self.signal, self.error),
            cosine if self.signal and self.found else float(self.signal == self.found),
            self.worst / step,
            self.index,
            self.values,
            self.saturated / max(1, self.elements),
            decibels(self.signal, self.own) if has_own else None,
            alone,
        )


def decibels(signal: float, noise: float) -> float:
    """10 log10(signal / noise); infinite without noise."""
    if not noise:
        return math.inf
    return 10 * math.log10(signal / noise) if signal else -math.inf


def compare(
    floats: ModuleOp,
    quantized: ModuleOp,
    inputs: Sequence[Inputs],
    progress: Progress | None = None,
) -> Fidelity:
    """The layers of a quantized module at level graph against a float module, over some inputs.

    `floats` is the module before graph-quantize, so that nodes have the same names in both. States
    go on from one input to the next, in both. Inputs are those of the float module; raises
    CompileError for inputs that do not fit.
    """
    pair = _Pair(levels.entry_of(floats), levels.entry_of(quantized))
    nodes = node_types(floats)
    sums: dict[str, _Sums] = {}
    ends: dict[str, list[float]] = {}
    first: tuple[list[Array], dict[str, Array]] | None = None
    for k, given in enumerate(inputs):
        if progress:
            progress("float and quantized", k, len(inputs))
        arguments, exact, noisy = pair.step(bind(levels.inputs_of(floats), given))
        exact.limit(noisy.levels)
        own = _Fed(pair.quantized, exact)
        own.run(pair.quantized.body.block, pair.stored(arguments))
        for name, stored in noisy.stored.items():
            _add(sums, name, nodes.get(name, ""), stored, exact)
        for name, (a, b) in own.pairs.items():
            if name in sums:
                sums[name].own += float(np.sum((a.astype(np.float64) - b) ** 2))
        for name, (a, b) in pair.outputs(exact, noisy).items():
            signal, noise = ends.setdefault(name, [0.0, 0.0])
            ends[name] = [signal + _power(a), noise + _power(a.astype(np.float64) - b)]
        first = first or (arguments, {name: b for name, (_, b) in own.pairs.items()})
    alone = _alone(pair, sums, first, progress) if first else {}
    return Fidelity(
        tuple(s.layer(n, alone.get(n), has_own=True) for n, s in sums.items()),
        {name: decibels(*both) for name, both in ends.items()},
        len(inputs),
    )


def node_types(module: ModuleOp) -> dict[str, str]:
    """The operators of the nodes that a model has, by name; empty where the module does not say."""
    found: dict[str, str] = {}
    rows = module.attributes.get("npu.nodes")
    for row in rows if isa(rows, ArrayAttr[DictionaryAttr]) else ():
        source, op = row.data.get("source"), row.data.get("op")
        if isinstance(source, StringAttr) and isinstance(op, StringAttr):
            found[source.data] = op.data
    return found


def _power(array: Array) -> float:
    return float(np.sum(np.asarray(array, np.float64) ** 2))


def _add(
    sums: dict[str, _Sums], name: str, op: str, stored: tuple[Array, QuantType], exact: _Run
) -> None:
    array, quant = stored
    if name not in exact.tensors:
        return
    old, new = aligned(exact.tensors[name], exact.seen(name, dequantized(array, quant)))
    if old is not None:
        sums.setdefault(name, _Sums(op, quant)).add(old, new)


def dequantized(array: Array, quant: QuantType) -> Array:
    """The real numbers of stored values, float32."""
    scales, zero = quant.along(array.ndim)
    return ((array.astype(np.float64) - zero) * scales).astype(np.float32)


def _rounded(array: Array, quant: QuantType) -> Array:
    """The stored values of real numbers."""
    scales, zero = quant.along(array.ndim)
    steps = np.clip(np.rint(array.astype(np.float64) / scales) + zero, quant.low, quant.high)
    return steps.astype(quant.storage_dtype.numpy)


def _alone(
    pair: _Pair,
    sums: Mapping[str, _Sums],
    first: tuple[list[Array], dict[str, Array]],
    progress: Progress | None,
) -> dict[str, float]:
    """Signal to noise of the outputs of the float function, on one input, where one of its tensors
    has the noise that its layer makes of exact inputs.
    """
    arguments, own = first
    exact = interpret.run(pair.floats, arguments)
    by_noise = sorted(sums, key=lambda n: decibels(sums[n].signal, sums[n].own))
    found: dict[str, float] = {}
    chosen = [n for n in by_noise if n in own and sums[n].own][:CANDIDATES]
    for k, name in enumerate(chosen):
        if progress:
            progress("each alone", k, len(chosen))
        results = _Injected(name, own[name]).run(pair.floats.body.block, arguments)
        noise = sum(_power(a.astype(np.float64) - b) for a, b in zip(exact, results, strict=True))
        found[name] = decibels(sum(map(_power, exact)), noise)
    return found


# --- running --------------------------------------------------------------------------------------


@dataclass
class _Run:
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


class _Pair:
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

    def step(self, inputs: Sequence[Array]) -> tuple[list[Array], _Run, _Run]:
        """The arguments of the float function, and a run of each."""
        runs: list[_Run] = []
        given = arguments_with(self.floats, list(inputs), self._contents[0])
        for k, function in enumerate((self.floats, self.quantized)):
            run = _Run()
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
            else _rounded(array, quant)
            for array, value in zip(arguments, self.quantized.args, strict=True)
        ]  # fmt: skip

    def outputs(self, exact: _Run, noisy: _Run) -> dict[str, tuple[Array, Array]]:
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
        _rounded(a, quant) if (quant := quant_of(v)) and a.dtype == np.float32 else a
        for a, v in zip(inputs, values, strict=True)
    ]


def _both(floats: ModuleOp, program: Program, given: Inputs) -> tuple[list[Array], list[Array]]:
    """Inputs as a program reads them, and as its float module does, where they are one or the other
    of both.
    """
    ports = program.inputs
    try:
        stored = list(bind(ports, given))
        return stored, [_real(a, p) for a, p in zip(stored, ports, strict=True)]
    except CompileError as problem:
        if problem.records[0].code is not Code.INPUT_DTYPE:
            raise
    reals = list(bind(levels.inputs_of(floats), given))
    types = [_type_of(p) for p in ports]
    pairs = zip(reals, types, strict=True)
    return [a if quant is None else _rounded(a, quant) for a, quant in pairs], reals


class _Walk:
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


class _Fed(_Walk):
    """A quantized function in which every layer reads what the float one computed."""

    def __init__(self, function: FuncOp, exact: _Run) -> None:
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
        return _rounded(old, quant)


class _Injected(_Walk):
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


# --- a program ------------------------------------------------------------------------------------


def compare_program(floats: ModuleOp, program: Program, inputs: Sequence[Inputs]) -> Fidelity:
    """The tensors that a program names against a float module. Inputs are those of the program, or
    of the float module; states go on from one to the next, in both. Raises CompileError for inputs
    that do not fit.
    """
    from npu_dialect.runtime import simulator

    nodes, types = node_types(floats), of_metadata(program.metadata, program.entry_name())
    sums: dict[str, _Sums] = {}
    ends: dict[str, list[float]] = {}
    contents: dict[str, Array] = {}
    stored: Mapping[str, Array] = {}
    for given in inputs:
        bound, reals = _both(floats, program, given)
        run = simulator.simulate(program, bound, state=stored, tensors=True)
        stored = run.state
        exact, outputs = _float_step(floats, reals, contents)
        exact.limit(max((q.high - q.low + 1 for q in types.values()), default=1))
        for name, array in run.tensors.items():
            quant = types.get(name)
            if quant is not None and array.dtype == quant.storage_dtype.numpy:
                _add(sums, name, nodes.get(name, ""), (array, quant), exact)
        for port, a in zip(program.outputs, outputs, strict=True):
            b = _real(run.outputs[port.name], port)
            signal, noise = ends.setdefault(port.name, [0.0, 0.0])
            ends[port.name] = [signal + _power(a), noise + _power(a.astype(np.float64) - b)]
    layers = tuple(s.layer(n, None, has_own=False) for n, s in sums.items())
    outputs_sqnr = {n: decibels(*both) for n, both in ends.items()}
    return Fidelity(layers, outputs_sqnr, len(inputs), len(types.keys() - sums.keys()))


def _float_step(
    module: ModuleOp, inputs: Sequence[Array], contents: dict[str, Array]
) -> tuple[_Run, list[Array]]:
    """A run of a float module, and its outputs; `contents` of its states are those before, and
    after the call the new ones.
    """
    run = _Run()

    def interpreted(given: list[Array]) -> list[Array]:
        return interpret.run(levels.entry_of(module), given, record=run.record)

    outputs = levels.run_with(levels.entry_of(module), list(inputs), contents, interpreted)
    return run, outputs


def _type_of(port: Any) -> QuantType | None:
    """The quantized type of a tensor of a program."""
    if port.quantization is None:
        return None
    q = port.quantization
    scales = np.asarray(q.scales, np.float32)
    if q.axis is None:
        return uniform(port.dtype, float(scales[0]), int(q.zero_points[0]))
    return uniform(port.dtype, scales, np.asarray(q.zero_points), q.axis)


def _real(array: Array, port: Any) -> Array:
    quant = _type_of(port)
    return array if quant is None else dequantized(array, quant)
