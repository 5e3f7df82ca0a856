"""The walk: executes the loops of a function symbolically and reports every operation, resolved.

    walk(func, visitor)          # visitor(event) for each executed operation, in program order

The interpreter, the verifier and the lowering to instructions are visitors. Events are in
`events.py`. Each operation is prepared once (affine forms, roles, constants); an iteration only
evaluates.

What a buffer value resolves to:

- an argument or constant: the whole array, dense in row-major order;
- `tile.alloc`: a new buffer at every execution, dense in row-major order of its *actual* extents
  (those of `like`);
- a view: offset, extents and strides within its source. Windows are clamped to the source's actual
  extents and may come out empty. An operation that writes an empty buffer is an error; a copy of an
  empty one moves nothing.

Padding of convolutions and pools: the rows above are `-start` of the row window where that is
negative, likewise the columns. The windows are those of the *unclamped* result; where clamping cut
`c` rows in front of the result's first, the start is `c * stride` further.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

from xdsl.dialects import func
from xdsl.dialects.builtin import ArrayAttr, DenseArrayBase
from xdsl.ir import Block, Operation, SSAValue

from npu_dialect.diagnostics import Code, CompileError, error
from npu_dialect.tile.attributes import WindowAttr, clamp
from npu_dialect.tile.compute import HostOp, Pool2DOp, ReduceOp, VectorOp
from npu_dialect.tile.contraction import (
    ArrayOp,
    Conv2DOp,
    DepthwiseConv2DOp,
    MatmulOp,
    WindowedOp,
)
from npu_dialect.tile.descriptor import (
    BufferKey,
    Descriptor,
    broadcast,
    by_strides,
    dense,
    dense_strides,
    reshaped,
    transposed,
    unfolded,
)
from npu_dialect.tile.events import (
    AllocEvent,
    ArrayEvent,
    CopyEvent,
    Event,
    FillEvent,
    GatherEvent,
    HostEvent,
    PoolEvent,
    ReduceEvent,
    ScatterEvent,
    VectorEvent,
    WaitEvent,
)
from npu_dialect.tile.indexed import GatherOp, ScatterOp
from npu_dialect.tile.kernels import KernelOp
from npu_dialect.tile.memory import AllocOp, ConstantOp, CopyOp, FillOp, WaitOp
from npu_dialect.tile.structure import (
    BroadcastOp,
    EndOp,
    ForOp,
    ReshapeOp,
    StridedOp,
    TransposeOp,
    UnfoldOp,
    ViewOp,
)
from npu_dialect.tile.syntax import dtype_of, shape_of, space_of, values_of

Visitor = Callable[[Event], None]
Step = Callable[[], None]
Get = Callable[[], Descriptor]
MaybeGet = Callable[[], Descriptor | None]
Affine = tuple[int, tuple[tuple[int, int], ...]]
"""A constant, and (position in the list of loop indices, coefficient)."""


def walk(function: func.FuncOp, visitor: Visitor) -> None:
    """Executes `function` symbolically; `visitor` gets each executed operation.

    Raises CompileError (NPU0202) for an operation that is not of this level, and for extents that
    do not fit.
    """
    walker = _Walker(visitor)
    for argument in function.body.block.args:
        walker.define_whole(argument, BufferKey(argument))
    for step in walker.block(function.body.block):
        step()


def broken(op: Operation, rule: str, found: object) -> CompileError:
    """The error of an operation that breaks a rule when it is executed."""
    return error(Code.IR_INVALID, f"{op.name}: {rule}", found=found, source=op)


class _Walker:
    """Turns operations into steps over shared lists of values and of loop indices."""

    def __init__(self, visitor: Visitor) -> None:
        self.visitor = visitor
        self.values: list[Any] = []
        self.indices: list[int] = []
        self.ivs: Mapping[SSAValue, int] = {}
        self.tokens = 0
        self._places: dict[SSAValue, int] = {}

    def define(self, value: SSAValue) -> int:
        """The place of a new value in `values`."""
        self._places[value] = len(self.values)
        self.values.append(None)
        return self._places[value]

    def define_whole(self, value: SSAValue, key: BufferKey) -> None:
        """A value that is a whole buffer, the same throughout."""
        place = self.define(value)
        self.values[place] = dense(key, space_of(value), dtype_of(value), shape_of(value))

    def place(self, value: SSAValue) -> int:
        return self._places[value]

    def getter(self, value: SSAValue) -> Get:
        """Gives a buffer's descriptor at execution."""
        values, place = self.values, self.place(value)
        return lambda: values[place]

    def optional(self, value: SSAValue | None) -> MaybeGet:
        return (lambda: None) if value is None else self.getter(value)

    def affine(self, windows: ArrayAttr[WindowAttr], indices: Sequence[SSAValue]) -> list[Affine]:
        """The starts of windows, over the list of loop indices."""
        places = [self.place(i) for i in indices]
        return [(w.data.start, tuple((places[k], c) for k, c in w.data.terms)) for w in windows]

    def start(self, form: Affine) -> int:
        """The value of an affine form now."""
        start, terms = form
        for place, coefficient in terms:
            start += self.indices[place] * coefficient
        return start

    def block(self, block: Block) -> list[Step]:
        """The steps of a block's operations."""
        steps: list[Step] = []
        for op in block.ops:
            prepare = _PREPARE.get(type(op))
            if prepare is None:
                raise broken(op, "a tile function must hold tile operations only", op.name)
            step = prepare(self, op)
            if step is not None:
                steps.append(step)
        return steps

    # --- structure and views

    def nothing(self, op: Operation) -> None:
        """An operation that does nothing when executed."""

    def loop(self, op: ForOp) -> Step:
        place = len(self.indices)
        self.indices.append(0)
        self._places[op.index] = place
        steps, indices, index, trips = self.block(op.body.block), self.indices, op.index, op.count

        def run() -> None:
            outer = self.ivs
            for trip in range(trips):
                indices[place] = trip
                self.ivs = {**outer, index: trip}
                for step in steps:
                    step()
            self.ivs = outer

        return run

    def constant(self, op: ConstantOp) -> None:
        self.define_whole(op.result, BufferKey(op))

    def view(self, op: ViewOp) -> Step:
        starts = self.affine(op.windows, op.ivs)
        forms = [(s, w.data.size, w.data.step) for s, w in zip(starts, op.windows, strict=True)]
        get, place, values, evaluate = (
            self.getter(op.source),
            self.define(op.result),
            self.values,
            self.start,
        )

        def run() -> None:
            source = get()
            offset = source.byte_offset
            dims: list[int] = []
            strides: list[int] = []
            cuts: list[int] = []
            for (form, size, step), bound, stride in zip(
                forms, source.dims, source.strides, strict=True
            ):
                first, extent, cut = clamp(evaluate(form), size, step, bound)
                offset += first * stride
                dims.append(extent)
                strides.append(stride * step)
                cuts.append(cut)
            values[place] = Descriptor(
                source.buffer,
                source.space,
                offset,
                source.dtype,
                tuple(dims),
                tuple(strides),
                tuple(cuts),
            )

        return run

    def transpose(self, op: TransposeOp) -> Step:
        get, place, permutation = (
            self.getter(op.source),
            self.define(op.result),
            values_of(op.permutation),
        )

        def run() -> None:
            self.values[place] = transposed(get(), permutation)

        return run

    def broadcast(self, op: BroadcastOp) -> Step:
        get, place, shape = self.getter(op.source), self.define(op.result), shape_of(op.result)

        def run() -> None:
            self.values[place] = broadcast(get(), shape)

        return run

    def reshape(self, op: ReshapeOp) -> Step:
        get, place = self.getter(op.source), self.define(op.result)
        before, after = shape_of(op.source), shape_of(op.result)

        def run() -> None:
            try:
                self.values[place] = reshaped(get(), before, after)
            except ValueError as problem:
                rule = "merged dimensions must lie densely, and clamped ones must divide"
                raise broken(op, rule, problem) from problem

        return run

    def strided(self, op: StridedOp) -> Step:
        get, place = self.getter(op.source), self.define(op.result)
        shape, strides, first = shape_of(op.result), values_of(op.strides), op.first
        whole = shape_of(op.source)

        def run() -> None:
            source = get()
            size = source.dtype.itemsize
            rows = zip(whole, source.strides, dense_strides(whole, size), strict=True)
            if source.dims != whole or any(a != b for d, a, b in rows if d != 1):
                raise broken(op, "the source must be a whole buffer that lies densely", source)
            self.values[place] = by_strides(source, first, shape, strides)

        return run

    def unfold(self, op: UnfoldOp) -> Step:
        get, place = self.getter(op.source), self.define(op.result)
        size, step = op.columns

        def run() -> None:
            try:
                self.values[place] = unfolded(get(), size, step)
            except ValueError as problem:
                raise broken(op, "columns must lie densely", problem) from problem

        return run

    # --- memory

    def alloc(self, op: AllocOp) -> Step:
        like, place = self.optional(op.like), self.define(op.result)
        shape, dtype, space = shape_of(op.result), dtype_of(op.result), space_of(op.result)
        slots, instance = op.slots, 0

        def run() -> None:
            nonlocal instance
            view = like()
            if view is not None and any(d > s for d, s in zip(view.dims, shape, strict=True)):
                raise broken(op, f"the extents of like must fit {list(shape)}", list(view.dims))
            key = BufferKey(op, instance, instance % slots)
            instance += 1
            result = dense(key, space, dtype, shape if view is None else view)
            self.values[place] = result
            self.visitor(AllocEvent(op, self.ivs, result))

        return run

    def copy(self, op: CopyOp) -> Step:
        source, destination = self.getter(op.source), self.getter(op.destination)
        place = self.define(op.token)

        def run() -> None:
            read, written = source(), destination()
            if read.dims != written.dims:
                found = f"{list(read.dims)} to {list(written.dims)}"
                raise broken(op, "source and destination must have the same extents", found)
            self.values[place] = token = self.tokens
            self.tokens += 1
            self.visitor(CopyEvent(op, self.ivs, read, written, token))

        return run

    def wait(self, op: WaitOp) -> Step:
        places = [self.place(t) for t in op.tokens]
        return lambda: self.visitor(WaitEvent(op, self.ivs, tuple(self.values[p] for p in places)))

    def fill(self, op: FillOp) -> Step:
        get, value = self.getter(op.destination), op.number
        return lambda: self.visitor(FillEvent(op, self.ivs, get(), value))

    # --- compute

    def array(self, op: ArrayOp) -> Step:
        x, w, acc, out, params, table, residual = map(
            self.optional, (op.x, op.w, op.acc, op.out, op.params, op.table, op.residual)
        )
        kernel = None if op.kernel is None else op.kernel.data
        loops = [(self.place(i), cast(ForOp, i.owner.parent_op()).count - 1) for i in op.reduction]
        pads = self.padding(op) if isinstance(op, WindowedOp) else None
        fits = _fits_matmul if isinstance(op, MatmulOp) else _fits_image
        indices = self.indices

        def run() -> None:
            accumulate = any(indices[place] for place, _ in loops)
            last = all(indices[place] == final for place, final in loops)
            finishes = last and kernel is not None
            result = out() if finishes else acc()
            image, weights = x(), w()
            assert image is not None and weights is not None and result is not None
            event = ArrayEvent(
                op,
                self.ivs,
                _image(image),
                weights,
                pads(_image(result)) if pads is not None else (0, 0),
                accumulate,
                last,
                _maybe_image(acc() if accumulate or not finishes else None),
                _image(result) if finishes else None,
                kernel if finishes else None,
                params() if finishes else None,
                table() if finishes else None,
                _maybe_image(residual() if finishes else None),
            )
            fits(event)
            self.visitor(event)

        return run

    def padding(self, op: WindowedOp | Pool2DOp) -> Callable[[Descriptor], tuple[int, int]]:
        """Gives the rows above and columns to the left that a result [H, W, C] needs."""
        rows, columns = self.affine(op.windows, op.ivs)
        row_stride, column_stride = values_of(cast(DenseArrayBase[Any], op.strides))
        evaluate = self.start

        def pads(result: Descriptor) -> tuple[int, int]:
            top = -evaluate(rows) - result.cut[0] * row_stride
            left = -evaluate(columns) - result.cut[1] * column_stride
            return (top if top > 0 else 0, left if left > 0 else 0)

        return pads

    def kernel(self, op: KernelOp) -> tuple[Any, MaybeGet, MaybeGet]:
        kernel = None if op.kernel is None else op.kernel.data
        return kernel, self.optional(op.params), self.optional(op.table)

    def vector(self, op: VectorOp) -> Step:
        inputs, out = [self.getter(v) for v in op.inputs], self.getter(op.out)
        kernel, params, table = self.kernel(op)

        def run() -> None:
            result, tensors = written(op, out()), tuple(get() for get in inputs)
            for tensor in tensors:
                if tensor.dims != result.dims:
                    _check_broadcast(op, tensor.dims, result.dims)
            self.visitor(VectorEvent(op, self.ivs, result, kernel, params(), table(), tensors))

        return run

    def reduce(self, op: ReduceOp) -> Step:
        x, out, axes = self.getter(op.x), self.getter(op.out), values_of(op.axes)
        kernel, params, table = self.kernel(op)

        def run() -> None:
            source, result = x(), written(op, out())
            expected = tuple(1 if a in axes else d for a, d in enumerate(source.dims))
            if result.dims != expected:
                raise broken(op, f"out must have the extents {list(expected)}", list(result.dims))
            self.visitor(ReduceEvent(op, self.ivs, result, kernel, params(), table(), source, axes))

        return run

    def pool(self, op: Pool2DOp) -> Step:
        x, out, pads = self.getter(op.x), self.getter(op.out), self.padding(op)
        kernel, params, table = self.kernel(op)

        def run() -> None:
            source, result = _image(x()), _image(written(op, out()))
            if source.dims[2] != result.dims[2]:
                raise broken(op, f"out must have {source.dims[2]} channels", result.dims[2])
            self.visitor(
                PoolEvent(op, self.ivs, result, kernel, params(), table(), source, pads(result))
            )

        return run

    def gather(self, op: GatherOp) -> Step:
        x, indices, out = map(self.getter, (op.x, op.indices, op.out))

        def run() -> None:
            event = GatherEvent(op, self.ivs, x(), indices(), written(op, out()))
            _fits_rows(op, event.x, event.out, event.indices)
            self.visitor(event)

        return run

    def scatter(self, op: ScatterOp) -> Step:
        indices, updates, out = map(self.getter, (op.indices, op.updates, op.out))
        (first,) = self.affine(op.windows, op.ivs)

        def run() -> None:
            rows, number = written(op, out()), self.start(first)
            event = ScatterEvent(op, self.ivs, indices(), updates(), rows, number)
            _fits_rows(op, rows, event.updates, event.indices)
            self.visitor(event)

        return run

    def host(self, op: HostOp) -> Step:
        inputs = [self.getter(v) for v in op.ins]
        outputs = [self.getter(v) for v in op.outs]
        return lambda: self.visitor(
            HostEvent(op, self.ivs, tuple(g() for g in inputs), tuple(g() for g in outputs))
        )


def written(op: Operation, result: Descriptor) -> Descriptor:
    """`result`, which must have elements."""
    if 0 in result.dims:
        raise broken(op, "what is written must have at least one element", list(result.dims))
    return result


def _fits_rows(op: Operation, rows: Descriptor, listed: Descriptor, indices: Descriptor) -> None:
    if listed.dims[1] != rows.dims[1] or indices.dims != listed.dims[:1]:
        found = f"{list(rows.dims)}, {list(listed.dims)} and {list(indices.dims)}"
        raise broken(op, "extents must be [rows, n], [count, n] and [count]", found)


def _image(value: Descriptor) -> Descriptor:
    """[H, W, C] of [1, H, W, C]; anything else as it is."""
    if len(value.dims) != 4:
        return value
    return Descriptor(
        value.buffer,
        value.space,
        value.byte_offset,
        value.dtype,
        value.dims[1:],
        value.strides[1:],
        value.cut[1:],
    )


def _maybe_image(value: Descriptor | None) -> Descriptor | None:
    return None if value is None else _image(value)


def _check_broadcast(op: Operation, dims: tuple[int, ...], to: tuple[int, ...]) -> None:
    if len(dims) != len(to) or any(d not in (1, t) for d, t in zip(dims, to, strict=True)):
        raise broken(op, f"extents must broadcast to {list(to)}", list(dims))


def _fits_image(event: ArrayEvent) -> None:
    channels, result = event.x.dims[2], event.target.dims[2]
    expected = (channels, result) if len(event.w.dims) == 4 else (channels,)
    if event.w.dims[2:] != expected or (len(expected) == 1 and result != channels):
        found = f"{list(event.w.dims)}, for {channels} channels to {result}"
        raise broken(event.op, "w must have the channels of x and of the result", found)
    _fits(event)


def _fits_matmul(event: ArrayEvent) -> None:
    x, w, target = event.x.dims, event.w.dims, event.target.dims
    if x[1] != w[0] or target != (x[0], w[1]):
        found = f"{list(x)}, {list(w)} and {list(target)}"
        raise broken(event.op, "extents must be [M, K], [K, N] and [M, N]", found)
    _fits(event)


def _fits(event: ArrayEvent) -> None:
    target = written(event.op, event.target).dims
    if event.residual is not None:
        _check_broadcast(event.op, event.residual.dims, target)
    if event.acc is not None and event.acc.dims != target:
        raise broken(event.op, f"acc must have the extents {list(target)}", list(event.acc.dims))


_PREPARE: dict[type[Operation], Callable[[_Walker, Any], Step | None]] = {
    func.ReturnOp: _Walker.nothing,
    EndOp: _Walker.nothing,
    ForOp: _Walker.loop,
    ConstantOp: _Walker.constant,
    ViewOp: _Walker.view,
    TransposeOp: _Walker.transpose,
    BroadcastOp: _Walker.broadcast,
    ReshapeOp: _Walker.reshape,
    StridedOp: _Walker.strided,
    UnfoldOp: _Walker.unfold,
    AllocOp: _Walker.alloc,
    CopyOp: _Walker.copy,
    WaitOp: _Walker.wait,
    FillOp: _Walker.fill,
    Conv2DOp: _Walker.array,
    DepthwiseConv2DOp: _Walker.array,
    MatmulOp: _Walker.array,
    VectorOp: _Walker.vector,
    ReduceOp: _Walker.reduce,
    Pool2DOp: _Walker.pool,
    GatherOp: _Walker.gather,
    ScatterOp: _Walker.scatter,
    HostOp: _Walker.host,
}
