"""The interpreter: what a tile function computes, with the least that its waits permit.

    outputs = run(func, [image], host=lambda name, arrays: ...)

Execution is adversarial. A copy happens when its token is waited for, and reads its source then; a
copy that is never waited for never happens. Fresh memory holds 0xA5 in every byte, and so do
outputs before they are written.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from xdsl.dialects import func
from xdsl.ir import BlockArgument, Operation

from npu_dialect import dtypes, functional, provenance
from npu_dialect.diagnostics import Code, error
from npu_dialect.graph.states import result_arguments
from npu_dialect.kernel import Kernel
from npu_dialect.tile.compute import Pool2DOp
from npu_dialect.tile.contraction import ArrayOp, DepthwiseConv2DOp, WindowedOp
from npu_dialect.tile.descriptor import BufferKey, Descriptor, dense
from npu_dialect.tile.events import (
    AllocEvent,
    ArrayEvent,
    CopyEvent,
    Event,
    FillEvent,
    GatherEvent,
    HostEvent,
    KernelEvent,
    PoolEvent,
    ReduceEvent,
    ScatterEvent,
    VectorEvent,
    WaitEvent,
)
from npu_dialect.tile.kernels import int_of
from npu_dialect.tile.memory import AllocOp
from npu_dialect.tile.storage import Array, Bytes, Storage
from npu_dialect.tile.syntax import dtype_of, shape_of, space_of, values_of
from npu_dialect.tile.walk import broken, walk

POISON = 0xA5

Host = Callable[[str, list[Array]], Sequence[Array]]
"""Runs the named function of graph operations: inputs to outputs, in storage values."""
View = Callable[[Descriptor], Array]
Observer = Callable[[Event, View], None]
"""Called after each event has taken effect (a copy: when it is waited for), with access to all
buffers.
"""


def run(
    function: func.FuncOp,
    inputs: Sequence[Array],
    *,
    host: Host | None = None,
    observer: Observer | None = None,
) -> list[Array]:
    """The results of `function` (its trailing arguments) for `inputs` (its leading ones), in
    storage values. The result that is the new content of a state is the state's argument.

    Raises CompileError for inputs of another shape or type (NPU0502, NPU0503), and for a function
    that breaks the rules of its dialect when executed (NPU0202).
    """
    arguments = function.body.block.args
    given: dict[Operation | BlockArgument, Bytes] = {}
    for argument, array in zip(arguments, inputs, strict=False):
        given[argument] = _input_bytes(argument, array)
    storage = Storage(POISON, given)
    walk(function, _Interpreter(storage, host, observer))
    places = result_arguments(function, len(inputs))
    return [_whole(storage, arguments[place]).copy() for place in places]


def _input_bytes(argument: BlockArgument, array: Array) -> Bytes:
    shape, dtype = shape_of(argument), dtype_of(argument)
    source = f"input {argument.index}"
    if array.shape != shape:
        rule = f"the input must have the shape {list(shape)}"
        raise error(Code.INPUT_SHAPE, rule, found=list(array.shape), source=source)
    if array.dtype != dtype.numpy:
        rule = f"the input must have the type {dtype}"
        raise error(Code.INPUT_DTYPE, rule, found=array.dtype, source=source)
    return np.array(array, order="C", copy=True).reshape(-1).view(np.uint8)


def _whole(storage: Storage, owner: BlockArgument | AllocOp, slot: int = 0) -> Array:
    value = owner.result if isinstance(owner, AllocOp) else owner
    key = BufferKey(owner, slot, slot)
    return storage.view(dense(key, space_of(value), dtype_of(value), shape_of(value)))


class _Interpreter:
    """A visitor that computes."""

    def __init__(self, storage: Storage, host: Host | None, observer: Observer | None) -> None:
        self._storage = storage
        self._view = storage.view
        self._host = host
        self._observer = observer
        self._pending: dict[int, CopyEvent] = {}
        self._prepared: dict[Operation, Callable[..., Array]] = {}

    def __call__(self, event: Event) -> None:
        _EXECUTE[type(event)](self, event)
        if self._observer is not None and not isinstance(event, CopyEvent):
            self._observer(event, self._view)

    def alloc(self, event: AllocEvent) -> None:
        self._storage.renew(event.result.buffer)

    def copy(self, event: CopyEvent) -> None:
        self._pending[event.token] = event

    def wait(self, event: WaitEvent) -> None:
        for token in event.tokens:
            copy = self._pending.pop(token, None)
            if copy is None:
                continue
            self._store(copy, copy.destination, self._view(copy.source))
            if self._observer is not None:
                self._observer(copy, self._view)

    def fill(self, event: FillEvent) -> None:
        self._view(event.destination)[...] = event.value

    def array(self, event: ArrayEvent) -> None:
        contract = self._prepare(event.op, _contraction)
        start = None
        if event.accumulate:
            assert event.acc is not None
            start = self._view(event.acc)
        sums = contract(
            self._view(event.x), self._view(event.w), event.pads, event.target.dims, start
        )
        if event.kernel is None:
            self._store(event, event.target, sums)
            return
        tensors = [sums, *([] if event.residual is None else [self._view(event.residual)])]
        self._store(event, event.target, self._apply(event.kernel, tensors, event))

    def vector(self, event: VectorEvent) -> None:
        self._finish(event, [self._view(t) for t in event.tensors])

    def reduce(self, event: ReduceEvent) -> None:
        op = event.op
        x_zero = int_of(op.x_zero)
        result = functional.reduce(op.kind.data, self._view(event.x), event.axes, x_zero=x_zero)
        self._finish(event, [result])

    def pool(self, event: PoolEvent) -> None:
        pool = self._prepare(event.op, _pooling)
        self._finish(event, [pool(self._view(event.x), event.pads, event.out.dims)])

    def gather(self, event: GatherEvent) -> None:
        rows = functional.gather(self._view(event.x), self._view(event.indices))
        self._store(event, event.out, rows)

    def scatter(self, event: ScatterEvent) -> None:
        rows, indices, updates = map(self._view, (event.out, event.indices, event.updates))
        functional.scatter(event.op.kind.data, rows, indices, updates, event.first)

    def host(self, event: HostEvent) -> None:
        if self._host is None:
            raise broken(event.op, "a function with host tasks must be run with `host`", "none")
        results = self._host(event.op.function, [self._view(d).copy() for d in event.inputs])
        if len(results) != len(event.outputs):
            rule = f"@{event.op.function} must give {len(event.outputs)} results"
            raise broken(event.op, rule, len(results))
        for output, result in zip(event.outputs, results, strict=True):
            if result.dtype != output.dtype.numpy or result.shape != output.dims:
                rule = f"@{event.op.function} must give {output.dtype}{list(output.dims)}"
                raise broken(event.op, rule, f"{result.dtype}{list(result.shape)}")
            self._store(event, output, result)

    def _prepare(
        self, op: Operation, make: Callable[[Any], Callable[..., Array]]
    ) -> Callable[..., Array]:
        """The function of an operation, with its settings read once."""
        found = self._prepared.get(op)
        if found is None:
            found = self._prepared[op] = make(op)
        return found

    def _finish(self, event: KernelEvent, tensors: list[Array]) -> None:
        result = tensors[0] if event.kernel is None else self._apply(event.kernel, tensors, event)
        self._store(event, event.out, result)

    def _apply(
        self, kernel: Kernel, tensors: list[Array], event: ArrayEvent | KernelEvent
    ) -> Array:
        params = None if event.params is None else self._view(event.params)
        table = None if event.table is None else self._view(event.table)
        return kernel.evaluate(tensors, params, table)

    def _store(self, event: Event, to: Descriptor, values: Array) -> None:
        destination = self._view(to)
        if not destination.flags.writeable:
            raise broken(event.op, "a constant must not be written", to)
        np.copyto(destination, values)


def _contraction(op: ArrayOp) -> Callable[..., Array]:
    """(x, w, pads, result extents, start or None) -> sums."""
    x_zero, w_zero = op.zero_points
    wide = op.sum_type is dtypes.i64
    if not isinstance(op, WindowedOp):

        def multiply(x: Array, w: Array, pads: Any, dims: Any, start: Array | None) -> Array:
            return functional.matmul(x, w, x_zero, w_zero, start, wide)

        return multiply
    convolve = (
        functional.depthwise_conv2d if isinstance(op, DepthwiseConv2DOp) else functional.conv2d
    )
    settings: dict[str, Any] = {
        "strides": values_of(op.strides),
        "dilations": values_of(op.dilations),
        "x_zero": x_zero,
        "w_zero": w_zero,
        "wide": wide,
    }

    def windowed(
        x: Array, w: Array, pads: tuple[int, int], dims: tuple[int, ...], start: Array | None
    ) -> Array:
        acc = None if start is None else start[None]
        hw = (dims[0], dims[1])
        return convolve(x[None], w, pads=(*pads, 0, 0), out_hw=hw, acc=acc, **settings)[0]

    return windowed


def _pooling(op: Pool2DOp) -> Callable[..., Array]:
    """(x, pads, result extents) -> pooled values."""
    settings: dict[str, Any] = {
        "kernel": values_of(op.size),
        "strides": values_of(op.strides),
        "dilations": values_of(op.dilations),
    }
    kind = op.kind.data
    if kind == "sum":
        settings["x_zero"] = int_of(op.x_zero)
    elif kind == "avg":
        settings["count_include_pad"] = op.count_include_pad is not None
    function = {
        "max": functional.max_pool2d,
        "sum": functional.sum_pool2d,
        "avg": functional.avg_pool2d,
    }[kind]

    def pool(x: Array, pads: tuple[int, int], dims: tuple[int, ...]) -> Array:
        return function(x[None], pads=(*pads, 0, 0), out_hw=(dims[0], dims[1]), **settings)[0]

    return pool


_EXECUTE: dict[type[Event], Callable[[_Interpreter, Any], None]] = {
    AllocEvent: _Interpreter.alloc,
    CopyEvent: _Interpreter.copy,
    WaitEvent: _Interpreter.wait,
    FillEvent: _Interpreter.fill,
    ArrayEvent: _Interpreter.array,
    VectorEvent: _Interpreter.vector,
    ReduceEvent: _Interpreter.reduce,
    PoolEvent: _Interpreter.pool,
    GatherEvent: _Interpreter.gather,
    ScatterEvent: _Interpreter.scatter,
    HostEvent: _Interpreter.host,
}


class Recorder:
    """An observer that keeps every array that a run leaves in dram, by label or source names.

    recorder = Recorder()
    run(func, inputs, observer=recorder)
    recorder.arrays()["conv1"]
    """

    def __init__(self) -> None:
        self._buffers: dict[str, tuple[View, Descriptor]] = {}

    def __call__(self, event: Event, view: View) -> None:
        for written in event.writes:
            owner = written.buffer.owner
            if written.space == "dram" and isinstance(owner, AllocOp):
                whole = dense(written.buffer, "dram", written.dtype, shape_of(owner.result))
                self._buffers[buffer_name(owner)] = (view, whole)

    def arrays(self) -> dict[str, Array]:
        """The arrays by name, as the run left them."""
        return {name: view(whole).copy() for name, (view, whole) in self._buffers.items()}


def buffer_name(op: AllocOp) -> str:
    """The label of a buffer, or the names of the model's nodes that it comes from."""
    if op.label is not None:
        return op.label.data
    return "+".join(provenance.sources(op)) or "unnamed"
