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
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from xdsl.dialects.builtin import ArrayAttr, DictionaryAttr, ModuleOp, StringAttr
from xdsl.utils.hints import isa

from npu_dialect import levels
from npu_dialect.compare import aligned
from npu_dialect.diagnostics import Code, CompileError
from npu_dialect.graph import interpret
from npu_dialect.graph.quant import QuantType, uniform
from npu_dialect.passes.quantizing.types import of_metadata
from npu_dialect.ports import Array, Inputs, bind
from npu_dialect.watched_runs import Fed, Injected, Pair, WatchedRun, dequantized, rounded

if TYPE_CHECKING:
    from npu_dialect.runtime.program import Program

Progress = Callable[[str, int, int], None]

CANDIDATES = 8
"""Layers, those with the most noise of their own, of which the outputs' noise is measured."""
BLAMED = 3
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
    pair = Pair(levels.entry_of(floats), levels.entry_of(quantized))
    nodes = node_types(floats)
    sums: dict[str, _Sums] = {}
    ends: dict[str, list[float]] = {}
    first: tuple[list[Array], dict[str, Array]] | None = None
    for k, given in enumerate(inputs):
        if progress:
            progress("float and quantized", k, len(inputs))
        arguments, exact, noisy = pair.step(bind(levels.inputs_of(floats), given))
        exact.limit(noisy.levels)
        own = Fed(pair.quantized, exact)
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
    sums: dict[str, _Sums], name: str, op: str, stored: tuple[Array, QuantType], exact: WatchedRun
) -> None:
    array, quant = stored
    if name not in exact.tensors:
        return
    old, new = aligned(exact.tensors[name], exact.seen(name, dequantized(array, quant)))
    if old is not None:
        sums.setdefault(name, _Sums(op, quant)).add(old, new)


def _alone(
    pair: Pair,
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
        results = Injected(name, own[name]).run(pair.floats.body.block, arguments)
        noise = sum(_power(a.astype(np.float64) - b) for a, b in zip(exact, results, strict=True))
        found[name] = decibels(sum(map(_power, exact)), noise)
    return found


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
    return [a if quant is None else rounded(a, quant) for a, quant in pairs], reals


def _float_step(
    module: ModuleOp, inputs: Sequence[Array], contents: dict[str, Array]
) -> tuple[WatchedRun, list[Array]]:
    """A run of a float module, and its outputs; `contents` of its states are those before, and
    after the call the new ones.
    """
    run = WatchedRun()

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
