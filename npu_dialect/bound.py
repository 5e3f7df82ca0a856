"""What the machine allows: a time that no program of a model can beat, from its graph and target.

For each layer (a group of the placed graph), and for the whole program, cycles of four resources:

    array    multiply-accumulates / the array's peak for the type and the kind of operation
    vector   micro-operations, weighted with their cycles / lanes
    spm      bytes of each operand once / width of the scratchpad's port, by engine
    dram     bytes of weights, inputs, initial state and outputs, each once / width of dram's port

On a target whose vector unit is the array's output stage, both take turns: array has the cycles of
both, spm the bytes.

Where the array has a port of dram, constants come through the wider one of it and that of copies,
and weights need not pass the scratchpad's. Where dram that is written is the scratchpad's own
memory (behind a part that is read only), inputs and outputs may lie in the scratchpad: of them only
what the host reads or writes counts.

The bound is the greatest of them. Resources work at the same time, and so do layers: of a program
they are sums over its layers, and its bound is the greatest sum, not the sum of bounds.

Nothing here is shared with the passes that cut, place or order the work (import-linter holds it to
that). Where a count depends on what they do, the smaller one is taken: what only moves data costs
nothing, rows that a stride skips are not read, constants that may become immediates take no bytes.
Time of the host is no part of the bound; `Bound.host` names the layers that it runs.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from math import ceil, prod
from typing import Any, cast

import numpy as np
import numpy.typing as npt
from xdsl.dialects.builtin import DictionaryAttr, IntegerAttr, ModuleOp, StringAttr
from xdsl.dialects.func import FuncOp
from xdsl.ir import Attribute, Block, BlockArgument, Operation, OpResult, SSAValue

from npu_dialect import provenance
from npu_dialect.blob import Blob, BlobAttr
from npu_dialect.codecs import CODECS, PACKED, STORED
from npu_dialect.graph.attributes import RequantAttr, values
from npu_dialect.graph.base import dtype_of, shape_of
from npu_dialect.graph.states import states_of
from npu_dialect.kernel import MICRO_OPS, widened
from npu_dialect.target import Target
from npu_dialect.zeros import ALL_MADE, MADE

RESOURCES = ("array", "vector", "spm", "dram")
"""What a bound is the greatest of, in cycles."""

METADATA, KEY = "npu.metadata", "bound."
"""Where functions, and then the program, carry the bounds of all of them as text, by name."""

CONTRACTIONS = ("graph.conv2d", "graph.matmul")
SCATTER = "graph.scatter"
POOLS = ("graph.max_pool2d", "graph.sum_pool2d", "graph.avg_pool2d")
REDUCTIONS = ("graph.reduce_sum", "graph.reduce_max", "graph.reduce_min", "graph.reduce_prod")
_ROUNDING = 1e-6
"""Cycles by which a sum of floats may be too great."""


class _ByResource:
    """Cycles by resource, of which the greatest decides."""

    resources: Mapping[str, float]

    @property
    def cycles(self) -> int:
        """The greatest of the resources."""
        return _whole(max(self.resources.values()))

    @property
    def binds(self) -> str:
        """The resource that is the greatest."""
        return max(RESOURCES, key=self.resources.__getitem__)


@dataclass(frozen=True)
class LayerBound(_ByResource):
    """Cycles of one layer by resource; none takes less time, alone on the machine. (Among others, a
    layer that only moves data may leave that to the copies of its neighbours.)
    """

    name: str
    """As the layer is called in reports."""
    resources: Mapping[str, float]
    output: float = 0.0
    """Cycles of the array's output stage, through which every result goes. `Bound.engines` counts
    them; the bound itself does not.
    """


@dataclass(frozen=True)
class Bound(_ByResource):
    """Cycles of a program by resource, and of its layers in program order.

    No makespan is shorter than the greatest.
    """

    resources: Mapping[str, float]
    layers: tuple[LayerBound, ...] = ()
    dram_bytes: int = 0
    """Compulsory bytes of dram: weights, inputs, initial state and outputs, each once."""
    host: tuple[str, ...] = ()
    """Layers of the host, whose time the bound leaves out."""

    @property
    def engines(self) -> dict[str, float]:
        """Cycles that each engine is busy at least, layer by layer: where one layer computes, the
        next one waits for the scratchpad's port and a third one for the output stage, these are
        more than each sum.
        """
        found = {"mxu": 0.0, "vpu": 0.0, "dma": self.resources["dram"]}
        for each in self.layers:
            array, vector, port = (each.resources[name] for name in ("array", "vector", "spm"))
            found["mxu"] += max(array, each.output, port if array and not vector else 0.0)
            found["vpu"] += vector if array else max(vector, port if vector else 0.0)
        return found

    @property
    def in_layers(self) -> int:
        """The cycles of the engine with the most of them: another bound, never less."""
        return max(self.cycles, _whole(max(self.engines.values())))

    def in_room(self, target: Target) -> int:
        """Cycles if layers compute in their order: when one starts, no more bytes than the
        scratchpad holds can be there for it and all later ones; the rest still has to come. Never
        less than `in_layers`.
        """
        spm, dram = target.memories["spm"], target.memories["dram"]
        ahead = spm.size / dram.width("dma", dram.read_only)
        best, left, computed = self.in_layers, self.resources["dram"], 0.0
        for layer in self.layers:
            best = max(best, _whole(computed + left - ahead))
            left -= layer.resources["dram"]
            computed += max(layer.resources["array"], layer.output)
        return best

    def to_text(self) -> str:
        """One line that `of_text` reads."""
        rows = [[r.name, *_rounded(r.resources), round(r.output, 6)] for r in self.layers]
        fields = {"resources": _rounded(self.resources), "dram_bytes": self.dram_bytes}
        return json.dumps({**fields, "host": self.host, "layers": rows}, separators=(",", ":"))

    @staticmethod
    def of_text(text: str) -> Bound:
        """The bound that `to_text` wrote."""
        found = json.loads(text)
        layers = tuple(
            LayerBound(name, _named(row[:4]), *row[4:]) for name, *row in found["layers"]
        )
        resources = _named(found["resources"])
        return Bound(resources, layers, found["dram_bytes"], tuple(found["host"]))


def _whole(cycles: float) -> int:
    return max(0, ceil(cycles - _ROUNDING))


def _rounded(resources: Mapping[str, float]) -> list[float]:
    return [round(resources[name], 6) for name in RESOURCES]


def _named(row: list[float]) -> dict[str, float]:
    return dict(zip(RESOURCES, row, strict=True))


# --- of modules -----------------------------------------------------------------------------------


def record(module: ModuleOp, target: Target) -> None:
    """Write the bounds of the functions of a placed and grouped graph into their metadata."""
    functions = [f for f in module.ops if isinstance(f, FuncOp) and not f.is_declaration]
    found = {
        f"{KEY}{f.sym_name.data}": StringAttr(of_function(f, target).to_text()) for f in functions
    }
    for function in functions:
        before = function.attributes.get(METADATA)
        kept: Mapping[str, Attribute] = before.data if isinstance(before, DictionaryAttr) else {}
        function.attributes[METADATA] = DictionaryAttr({**kept, **found})


def of_metadata(metadata: Mapping[str, str], entry: str = "main") -> Bound | None:
    """The bound of an entry of a program; None for one that was not lowered from a graph."""
    text = metadata.get(f"{KEY}{entry}")
    return None if text is None else Bound.of_text(text)


def of_function(function: FuncOp, target: Target) -> Bound:
    """The bound of a function of groups."""
    return _Count(function.body.block, target).bound()


@dataclass
class _Layer:
    """What one layer needs at least."""

    name: str
    array: float = 0.0
    output: float = 0.0
    vector: float = 0.0
    port_bytes: dict[str, int] = field(default_factory=dict[str, int])
    """Of the scratchpad, by engine."""
    dram_bytes: dict[str, int] = field(default_factory=dict[str, int])
    """By engine."""
    constant_bytes: int = 0
    """Those of them that are constants."""


class _Count:
    """Counts over the groups of one block."""

    def __init__(self, block: Block, target: Target) -> None:
        self.block, self.target = block, target
        self.groups = [op for op in block.ops if op.name == "graph.group"]
        self.layers = {group: _Layer(_name(group)) for group in self.groups}
        self.known: set[Blob] = set()
        self.stored = _stored(block)

    def bound(self) -> Bound:
        """The bound of the block."""
        for group in self.groups:
            self._compute(group)
            self._weights(group)
        self._inputs()
        self._outputs()
        layers = [self.layers[g] for g in self.groups if _kind(g) != "io"]
        by_name: dict[str, list[_Layer]] = {}
        for layer in layers:
            by_name.setdefault(layer.name, []).append(layer)
        return Bound(
            self._resources(layers),
            tuple(
                LayerBound(name, self._resources(same), sum(layer.output for layer in same))
                for name, same in by_name.items()
            ),
            sum(sum(layer.dram_bytes.values()) for layer in layers),
            tuple(_name(g) for g in self.groups if _kind(g) == "host"),
        )

    def _resources(self, layers: list[_Layer]) -> dict[str, float]:
        spm, dram = self.target.memories["spm"], self.target.memories["dram"]
        ports = {
            e: sum(layer.port_bytes.get(e, 0) for layer in layers) / spm.ports[e]
            for e in ("mxu", "vpu")
        }
        moved = {e: sum(layer.dram_bytes.get(e, 0) for layer in layers) for e in ("dma", "host")}
        buses = {e: moved[e] / dram.width(e, dram.read_only) for e in ("dma", "host")}
        widest = max(dram.ports["dma"], dram.ports.get("mxu", 0.0))
        if widest != dram.width("dma", dram.read_only):
            constants = sum(layer.constant_bytes for layer in layers)
            rest = (moved["dma"] - constants) / dram.width("dma", dram.read_only)
            buses["dma"] = constants / widest + rest
        take_turns = self.target.vector.is_output_stage
        vector = sum(layer.vector for layer in layers)
        return {
            "array": sum(layer.array for layer in layers) + (vector if take_turns else 0.0),
            "vector": vector,
            "spm": sum(ports.values()) if take_turns else max(ports.values()),
            "dram": max(buses.values()),
        }

    # --- computation and the scratchpad's ports -----------------------------

    def _compute(self, group: Operation) -> None:
        layer, kind = self.layers[group], _kind(group)
        if kind == "array":
            layer.array = mac_cycles(_body(group)[0], self.target)
            results = prod(shape_of(_body(group)[0].results[0]))
            layer.output = results / self.target.array.output_elements
        elif kind == "vector":
            layer.vector = vector_cycles(group, self.target)
        if kind in ("array", "vector"):
            engine = "mxu" if kind == "array" else "vpu"
            read = sum(
                _read_by(group, k) for k, v in enumerate(group.operands) if not _is_constant(v)
            )
            written = sum(map(_bytes, _written(group)))
            layer.port_bytes[engine] = read + self._own_constants(group) + written

    def _stored_bytes(self, blob: Blob) -> int:
        """What a constant takes in dram, where it may be packed."""
        return self.stored.get(blob, blob.array.nbytes)

    def _own_constants(self, group: Operation) -> int:
        """Bytes of the constants that must pass the scratchpad's port."""
        passed = set(_constants(group))
        if self.target.array_reads_dram:
            passed -= {_weights(group)}
        return sum(blob.array.nbytes for blob in passed)

    # --- dram -----------------------------------------------------

    def _weights(self, group: Operation) -> None:
        """Constants that must come from dram, in the layer that needs them first."""
        new = set(_constants(group)) - self.known
        self.known |= new
        size = sum(self._stored_bytes(blob) for blob in new)
        self.layers[group].constant_bytes += size
        self._add(group, "dma", size)

    def _inputs(self) -> None:
        states = _states(self.block)
        for argument in self.block.args:
            self._read(argument, argument.index in states)

    def _may_lie_on_chip(self, engine: str) -> bool:
        """Whether an input or output need not be copied."""
        return engine == "dma" and self.target.memories["dram"].read_only > 0

    def _read(self, value: SSAValue, is_state: bool) -> None:
        """Counts what is read of a tensor in dram, in the group that reads the most of it."""
        reads: dict[Operation, int] = {}
        for group in _readers(value):
            if _kind(group) == "io":
                self._read(group.results[0], is_state)
            else:
                reads[group] = _read_through(group, value)
        if reads:
            group = max(reads, key=reads.__getitem__)
            engine = "host" if _kind(group) == "host" else "dma"
            if is_state or not self._may_lie_on_chip(engine):
                self._add(group, engine, min(_bytes(value), reads[group]))

    def _outputs(self) -> None:
        last = self.block.last_op
        assert last is not None
        updated = _updated(self.block)
        for value in dict.fromkeys(
            _root(v) for k, v in enumerate(last.operands) if k not in updated
        ):
            if isinstance(value.owner, Operation) and _kind(value.owner) == "io":
                value = _root(value.owner.operands[0])
            maker = value.owner
            if isinstance(maker, Operation) and maker in self.layers:
                engine = "host" if _kind(maker) == "host" else "dma"
                if not self._may_lie_on_chip(engine):
                    self._add(maker, engine, _bytes(value))

    def _add(self, group: Operation, engine: str, size: int) -> None:
        found = self.layers[group].dram_bytes
        found[engine] = found.get(engine, 0) + size


def mac_cycles(op: Operation, target: Target) -> float:
    """Cycles of a contraction at the array's peak for its type; 0 for a type it does not multiply.

    Products with padding count, as the array makes them; but not those with columns beside an image
    whose channels do not fill the array: there a run of taps may be one sum, and the taps in the
    padding left out.
    """
    x, w = op.operands[:2]
    dtype, weights = dtype_of(x).name, shape_of(w)
    if dtype not in target.array.macs:
        return 0.0
    length = weights[-2] if op.name == "graph.matmul" else prod(weights[:-1])
    macs = prod(shape_of(op.results[0])) * length
    is_depthwise = op.name == "graph.conv2d" and weights[2] == 1 < weights[3] == shape_of(x)[3]
    if op.name == "graph.conv2d" and weights[2] == shape_of(x)[3] and not dtype_of(x).is_float:
        fills = weights[2] % target.array.macs[dtype][2] == 0
        beside = 0 if fills else _beside(op)
        macs -= beside * macs // (shape_of(op.results[0])[2] * weights[1])
    peak = target.array.depthwise_macs[dtype] if is_depthwise else prod(target.array.macs[dtype])
    wide = dtype_of(w).is_int and dtype_of(w).itemsize == 2
    return macs * _made(op) / ALL_MADE * (2 if wide else 1) / peak


def _made(op: Operation) -> int:
    """The parts of the products of a contraction in a group that the array makes."""
    w = op.operands[1]
    if isinstance(w, BlockArgument) and isinstance(group := w.block.parent_op(), Operation):
        w = _root(group.operands[w.index]) if group.name == "graph.group" else w
    found = w.owner.attributes.get(MADE) if isinstance(w.owner, Operation) else None
    return found.value.data if isinstance(found, IntegerAttr) else ALL_MADE


def _beside(op: Operation) -> int:
    """Taps of a kernel row that meet no column of the image, over the columns of the result."""
    columns, taps = shape_of(op.results[0])[2], shape_of(op.operands[1])[1]
    stride, left, apart = (
        int(values(op.properties[name])[1])  # type: ignore[arg-type]
        for name in ("strides", "pads", "dilations")
    )
    width = shape_of(op.operands[0])[2]
    met = (c * stride + t * apart - left for c in range(columns) for t in range(taps))
    return sum(not 0 <= place < width for place in met)


def vector_cycles(group: Operation, target: Target) -> float:
    """Cycles of a vector group with all lanes busy: every micro-operation on every element."""
    body = _body(group)
    tensors = [v for v in (*group.operands, *group.results) if not _is_constant(v)]
    lanes = max(target.vector.lanes.get(widened(dtype_of(v)), 1) for v in tensors)
    combined = max if target.vector.is_output_stage else sum
    steps = combined(_steps(op, target) for op in body)
    stored = sum(prod(shape_of(v)) for v in _written(group))
    return max(steps, float(stored)) / lanes


def _written(group: Operation) -> list[SSAValue]:
    """What a group writes at least: a scatter may change its rows in place."""
    last = _body(group)[-1]
    return [last.operands[2]] if last.name == SCATTER else list(group.results)


def _steps(op: Operation, target: Target) -> float:
    """Cycles of an operation on one lane."""
    cycles = target.vector.cycles
    elements = prod(shape_of(op.results[0]))
    if op.name == SCATTER:
        return 0.0
    if op.name in REDUCTIONS:
        return prod(shape_of(op.operands[0])) * cycles["alu"]
    if op.name in POOLS:
        taps = prod(values(op.properties["kernel"]))  # type: ignore[arg-type]
        return elements * taps * cycles["alu"]
    if op.name == "graph.requantize" and _is_shift_only(op):
        return 0.0
    kinds = {widened(dtype_of(v)) for v in (*op.operands, *op.results)}
    stem = op.name.removeprefix("graph.")
    rows = [MICRO_OPS[n] for n in (f"{stem}.{k}" for k in kinds) if n in MICRO_OPS]
    rows = rows or [MICRO_OPS[n] for n in _OTHER_NAMES.get(stem, ()) if n in MICRO_OPS]
    return elements * min((cycles[row.cost] for row in rows), default=0.0)


_OTHER_NAMES = {
    "relu": ("clamp.i32",),
    "requantize": ("requantize.f32", "requantize.fixed"),
    "lookup": ("lookup.i32",),
    "interpolate": ("interpolate.i32",),
    "quantize": ("quantize",),
}
"""Micro-operations of the operations that are not called as theirs; others may take none."""


def _is_shift_only(op: Operation) -> bool:
    recipe = cast(RequantAttr, op.properties["recipe"]).data
    return bool((np.asarray(recipe.multiplier) == 1).all())


# --- what is read ---------------------------------------------------------------------------------


def _readers(value: SSAValue) -> Iterator[Operation]:
    """The groups that read a tensor, also as another view of it."""
    for use in value.uses:
        if use.operation.name == "graph.group":
            yield use.operation
        elif use.operation.name == "graph.reshape":
            yield from _readers(use.operation.results[0])


def _read_through(group: Operation, value: SSAValue) -> int:
    """The greatest number of bytes that one operand of a group reads of `value`."""
    places = (k for k, v in enumerate(group.operands) if _root(v) is value)
    return max((_read_by(group, k) for k in places), default=0)


def _read_by(group: Operation, operand: int) -> int:
    """Bytes that a group reads at least of an operand."""
    size = _bytes(group.operands[operand])
    if _kind(group) == "host":
        return size
    inner = group.regions[0].block.args[operand]
    return min(size, max((_used(group, use.operation, use.index) for use in inner.uses), default=0))


def _used(group: Operation, op: Operation, index: int) -> int:
    """Bytes that an operation in a group reads of one operand."""
    value = op.operands[index]
    if op.name == "graph.conv2d" and index == 0:
        weights = shape_of(op.operands[1])
        return _window_bytes(op, value, (weights[0], weights[1]))
    if op.name in POOLS:
        kernel = values(op.properties["kernel"])  # type: ignore[arg-type]
        return _window_bytes(op, value, (int(kernel[0]), int(kernel[1])))
    if _kind(group) == "move":
        return _moved(group, op, value)
    if op.name == SCATTER:
        return 0 if index == 0 else _bytes(value)
    return _bytes(value)


def _moved(group: Operation, op: Operation, value: SSAValue) -> int:
    """Bytes of an operand of a move that are needed, by what is read of its result."""
    result = group.results[0]
    needed = max((_read_through(g, result) for g in _readers(result)), default=0)
    if _is_returned(result):
        needed = _bytes(result)
    if op.name in ("graph.slice", "graph.transpose", "graph.reshape"):
        return min(_bytes(value), needed)
    if op.name in ("graph.pad", "graph.concat"):
        return max(0, needed - (_bytes(result) - _bytes(value)))
    return 0


def _is_returned(value: SSAValue) -> bool:
    for use in value.uses:
        if use.operation.name == "func.return":
            return True
        if use.operation.name == "graph.reshape" and _is_returned(use.operation.results[0]):
            return True
    return False


def _window_bytes(op: Operation, x: SSAValue, kernel: tuple[int, int]) -> int:
    """Bytes of the rows and columns that some window of a convolution or pooling touches."""
    n, height, width, channels = shape_of(x)
    _, oh, ow, _ = shape_of(op.results[0])
    strides, pads, dilations = (
        [int(v) for v in values(op.properties[name])]  # type: ignore[arg-type]
        for name in ("strides", "pads", "dilations")
    )
    rows, cols = (
        {o * strides[a] + k * dilations[a] - pads[a] for o in range(out) for k in range(kernel[a])}
        for a, out in enumerate((oh, ow))
    )
    touched = len(rows & set(range(height))) * len(cols & set(range(width)))
    return n * touched * channels * dtype_of(x).itemsize


def _stored(block: Block) -> dict[Blob, int]:
    """The bytes in dram of the constants that are stored packed."""
    found: dict[Blob, int] = {}
    for op in block.ops:
        name, blob = op.attributes.get(PACKED), _blob(op.results[0]) if op.results else None
        if isinstance(name, StringAttr) and blob is not None:
            size = op.attributes.get(STORED)
            coded = isinstance(size, IntegerAttr)
            taken = size.value.data if coded else CODECS[name.data].size(blob.array.size)
            found[blob] = min(taken, found.get(blob, taken))
    return found


def _constants(group: Operation) -> list[Blob]:
    """Constants of a group that must lie in memory: weights, and what no parameter row holds."""
    found: dict[Blob, None] = {}
    if _kind(group) not in ("array", "vector"):
        return []
    first = _body(group)[0]
    for k, value in enumerate(group.operands):
        blob = _blob(value)
        if blob is None:
            continue
        inner = group.regions[0].block.args[k]
        is_weight = first.name in CONTRACTIONS and first.operands[1] is inner
        if is_weight or _varies(np.reshape(blob.array, shape_of(value))):
            found[blob] = None
    return list(found)


def _weights(group: Operation) -> Blob | None:
    """The weights of a contraction, where they are constant."""
    first = _body(group)[0]
    inner = first.operands[1] if first.name in CONTRACTIONS else None
    if not isinstance(inner, BlockArgument) or inner.block is not group.regions[0].block:
        return None
    return _blob(group.operands[inner.index])


def _states(block: Block) -> set[int]:
    """The arguments that are states."""
    function = block.parent_op()
    states = states_of(function) if isinstance(function, FuncOp) else ()
    return {s.argument for s in states if s.argument is not None}


def _updated(block: Block) -> set[int]:
    """The results that are states: they may be updated in place, as far as they change."""
    function = block.parent_op()
    states = states_of(function) if isinstance(function, FuncOp) else ()
    return {s.result for s in states if s.result is not None}


def _varies(array: npt.NDArray[Any]) -> bool:
    """Whether an array differs along another dimension than the last."""
    if array.ndim < 2 or not array.size:
        return False
    lines = array.reshape(-1, array.shape[-1]).view(f"u{array.itemsize}")
    return bool((lines != lines[:1]).any())


# --- values ---------------------------------------------------------------------------------------


def _kind(group: Operation) -> str:
    kind = group.properties.get("kind")
    return kind.data if isinstance(kind, StringAttr) else ""


def _name(group: Operation) -> str:
    """The source that a layer is called by: that of its first operation."""
    return (*provenance.sources(_body(group)[0]), "")[0]


def _body(group: Operation) -> list[Operation]:
    return [op for op in group.regions[0].block.ops if op.name != "graph.yield"]


def _bytes(value: SSAValue) -> int:
    return prod(shape_of(value)) * dtype_of(value).itemsize


def _root(value: SSAValue) -> SSAValue:
    """The tensor whose memory `value` is."""
    while isinstance(value, OpResult) and value.op.name == "graph.reshape":
        value = value.op.operands[0]
    return value


def _blob(value: SSAValue) -> Blob | None:
    owner = _root(value).owner
    if isinstance(owner, Block) or owner.name != "graph.constant":
        return None
    return cast(BlobAttr, owner.properties["value"]).data


def _is_constant(value: SSAValue) -> bool:
    return _blob(value) is not None
