"""What a fused group asks of the machine, read off its IR: the problem that the mapper solves and
the lowering emits.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from math import prod
from typing import Any

import numpy as np
from xdsl.dialects.builtin import IntegerAttr, LocationAttr, StringAttr
from xdsl.ir import BlockArgument, Operation, OpResult, SSAValue

from npu_dialect import provenance
from npu_dialect.codecs import PACKED, STORED
from npu_dialect.dtypes import DType
from npu_dialect.graph.attributes import values
from npu_dialect.graph.base import dtype_of, quant_of, shape_of
from npu_dialect.kernel import Kernel, widened
from npu_dialect.passes.kernels import KernelPlan, build_kernel
from npu_dialect.passes.mapping.collapse import Collapsed, align, collapse
from npu_dialect.passes.mapping.contraction import Contraction
from npu_dialect.passes.mapping.elementwise import Elementwise, Pooling, Stream
from npu_dialect.passes.mapping.scatter import Scatter
from npu_dialect.passes.mapping.views import (
    VIEW,
    Copy,
    NoViewError,
    apart,
    border,
    copies,
    place_of,
    refined,
    refined_extents,
    root,
    storage,
)
from npu_dialect.zeros import ALL_MADE, MADE

Resident = Callable[[SSAValue], bool]

CONTRACTIONS = ("graph.conv2d", "graph.matmul")
POOLS = {"graph.max_pool2d": "max", "graph.sum_pool2d": "sum", "graph.avg_pool2d": "avg"}
REDUCTIONS = {
    "graph.reduce_sum": "sum",
    "graph.reduce_max": "max",
    "graph.reduce_min": "min",
    "graph.reduce_prod": "prod",
}
SCATTER = "graph.scatter"


def is_constant(value: SSAValue) -> bool:
    """Whether a tensor is known at compile time."""
    value = root(value)
    return isinstance(value, OpResult) and value.op.name == "graph.constant"


def size_in_bytes(value: SSAValue) -> int:
    """Bytes of a dense tensor."""
    return prod(shape_of(value)) * dtype_of(value).itemsize


@dataclass(frozen=True)
class Group:
    """A `graph.group` and its parts."""

    op: Operation

    @cached_property
    def kind(self) -> str:
        attribute = self.op.properties["kind"]
        assert isinstance(attribute, StringAttr)
        return attribute.data

    @cached_property
    def body(self) -> list[Operation]:
        return [op for op in self.op.regions[0].block.ops if op.name != "graph.yield"]

    @property
    def name(self) -> str:
        """The source that the group is called by in reports and labels."""
        return provenance.sources(self.anchor or self.body[0])[0]

    @cached_property
    def location(self) -> LocationAttr:
        """All sources of the group, the one that it is called by first."""
        return provenance.fuse(self.anchor or self.body[0], self.op)

    @cached_property
    def constants_location(self) -> LocationAttr:
        """The group's sources and those of its constants, where weights and parameters are from."""
        owners = (v.owner for v in self.op.operands if is_constant(v))
        return provenance.fuse(self.location, *(o for o in owners if isinstance(o, Operation)))

    @cached_property
    def anchor(self) -> Operation | None:
        """The contraction, pooling, reduction or scatter that the group starts with, if any."""
        first = self.body[0]
        anchors = (*CONTRACTIONS, *POOLS, *REDUCTIONS, SCATTER)
        return first if self.kind in ("array", "vector") and first.name in anchors else None

    @cached_property
    def plan(self) -> KernelPlan:
        """The kernel of everything after the anchor."""
        last = self.op.regions[0].block.last_op
        assert last is not None
        return build_kernel(self.body, last.operands[0], self.anchor)

    @property
    def finish(self) -> Kernel | None:
        """The kernel after a reduction or pooling; None where its result is stored as it is."""
        assert self.anchor is not None
        kernel = self.plan.kernel
        is_raw = not kernel.steps and kernel.output == dtype_of(self.anchor.results[0])
        return None if is_raw else kernel

    @property
    def result(self) -> SSAValue:
        """The one tensor that a group for the accelerator produces."""
        return self.op.results[0]

    def outer(self, value: SSAValue) -> SSAValue:
        """The tensor outside the group that a block argument stands for."""
        assert isinstance(value, BlockArgument)
        return self.op.operands[value.index]

    @cached_property
    def tensors(self) -> list[SSAValue]:
        """The kernel's tensor operands, as they are outside; without the anchor's own result."""
        skip = 1 if self.anchor is not None else 0
        return [self.outer(v) for v in self.plan.tensors[skip:]]

    @cached_property
    def inputs(self) -> list[SSAValue]:
        """The tensors that the group reads and that are not constants, each once."""
        return list(dict.fromkeys(v for v in self.op.operands if not is_constant(v)))

    # --- numbers of the kernel
    # --------------------------------------------------------------------------------

    @property
    def param_rows(self) -> int:
        return 0 if self.plan.params is None else self.plan.params.shape[0]

    @property
    def table_bytes(self) -> int:
        return 0 if self.plan.table is None else self.plan.table.nbytes

    def zero(self, value: SSAValue) -> int:
        """The zero point of a quantized tensor, 0 for others."""
        quant = quant_of(value)
        return 0 if quant is None else int(np.ravel(quant.zero())[0])

    def setting(self, name: str) -> tuple[int, ...]:
        """A list-valued property of the anchor."""
        assert self.anchor is not None
        return tuple(int(v) for v in values(self.anchor.properties[name]))  # type: ignore[arg-type]


# --- problems ----------------------------------------
# ------------------


@dataclass(frozen=True)
class Matrices:
    """A matrix product as loops over batches: `x` is [batch..., M, K], `w` is [batch..., K, N],
    aligned in rank.
    """

    batch: tuple[int, ...]
    x_batch: tuple[int, ...]
    w_batch: tuple[int, ...]
    m: int
    k: int
    n: int


def matrices(group: Group) -> Matrices:
    """The loops of a matmul group; batches of activations against one weight matrix become rows.

    Batches and rows are split as far as the places of the operands ask for it. Raises NoViewError
    where no split is enough.
    """
    assert group.anchor is not None
    a, b = (shape_of(v) for v in group.anchor.operands[:2])
    if prod(b[:-2]) == 1:
        return _addressed(group, Matrices((), (), (), prod(a[:-1]), a[-1], b[-1]))
    rank = max(len(a), len(b)) - 2
    x_batch = (1,) * (rank - len(a) + 2) + a[:-2]
    w_batch = (1,) * (rank - len(b) + 2) + b[:-2]
    batch = tuple(max(x, w) for x, w in zip(x_batch, w_batch, strict=True))
    return _addressed(group, Matrices(batch, x_batch, w_batch, a[-2], a[-1], b[-1]))


LEAST_ROWS = 16
"""Rows of a product that are left together where its operands lie such that rows must be split."""


def _addressed(group: Group, p: Matrices) -> Matrices:
    """The product with batches and rows split so that every operand has strides."""
    assert group.anchor is not None
    x, w = (group.outer(v) for v in group.anchor.operands[:2])
    outputs = [group.result, *group.tensors]
    read = [x] if is_constant(w) else [x, w]
    if all(place_of(v).is_whole for v in (*outputs, *read)):
        return p
    loops = (*p.batch, p.m, p.k, p.n)
    of_x, of_w = (*p.x_batch, p.m, p.k, 1), (*p.w_batch, 1, p.k, p.n)
    operands = [(place_of(v), (*p.batch, p.m, 1, p.n)) for v in outputs]
    operands += [(place_of(v), dims) for v, dims in zip(read, (of_x, of_w), strict=False)]
    fine = refined(loops, operands)
    if fine is None or fine[-2:] != (p.k, p.n):
        raise NoViewError("columns or the dimension of the sum that have no single stride")
    if fine[-3] != p.m and fine[-3] < LEAST_ROWS:
        raise NoViewError(f"parts of {fine[-3]} rows for the array")
    x_dims, w_dims = (refined_extents(loops, fine, dims) for dims in (of_x, of_w))
    return Matrices(fine[:-3], x_dims[:-3], w_dims[:-3], fine[-3], p.k, p.n)


def contraction(group: Group, resident: Resident, out_resident: bool) -> Contraction:
    """The mapper's problem for an array group; `resident` tells which tensors lie in the
    scratchpad.
    """
    anchor = group.anchor
    assert anchor is not None
    x, w = (group.outer(v) for v in anchor.operands[:2])
    common: dict[str, Any] = {
        "x_type": dtype_of(x).name,
        "w_type": dtype_of(w).name,
        "out_type": dtype_of(group.result).name,
        "sum_type": group.plan.kernel.tensors[0].name,
        "residual_type": dtype_of(group.tensors[0]).name if group.tensors else None,
        "param_rows": group.param_rows,
        "table_bytes": group.table_bytes,
        "kernel_costs": group.plan.kernel.costs(),
        "constant_weights": is_constant(w),
        "w_codec": _codec(w),
        "w_part": _part(w),
        "made": _made(w),
        "x_resident": resident(storage(x)),
        "w_resident": not is_constant(w) and resident(storage(w)),
        "residual_resident": bool(group.tensors) and resident(storage(group.tensors[0])),
        "out_resident": out_resident,
    }
    if anchor.name == "graph.matmul":
        loops = matrices(group)
        rows, columns = (*loops.batch, loops.m, 1, loops.n), (*loops.x_batch, loops.m, 1, loops.k)
        found = Contraction(
            oh=loops.m, ow=1, oc=loops.n, ic=loops.k, ih=loops.m, iw=1,
            batch=prod(loops.batch), batched_weights=prod(loops.w_batch) > 1, **common,
        )  # fmt: skip
        weights = (*loops.w_batch, loops.k, loops.n)
    else:
        found = _convolution(group, x, w, common)
        rows, columns, weights = (shape_of(v) for v in _images(anchor))
    x_strides = inner_strides(x, columns, 3)
    is_dense = x_strides is None or x_strides[1:] == (columns[-1], 1)
    return replace(
        found,
        x_strides=None if found.x_resident else x_strides,
        dense_columns=is_dense or not found.x_resident,
        out_strides=None if out_resident else inner_strides(group.result, rows, 3),
        w_strides=None if is_constant(w) or found.w_resident else inner_strides(w, weights, 2),
    )


def _codec(w: SSAValue) -> str | None:
    """The codec of constant weights."""
    owner = root(w).owner
    name = owner.attributes.get(PACKED) if isinstance(owner, Operation) else None
    return name.data if isinstance(name, StringAttr) else None


def _made(w: SSAValue) -> int:
    """The parts of the products with weights that the array makes."""
    owner = root(w).owner
    found = owner.attributes.get(MADE) if isinstance(owner, Operation) else None
    return found.value.data if isinstance(found, IntegerAttr) else ALL_MADE


PARTS = 16
"""The share of their bytes that coded weights take counts in so many parts of them, so that layers
of the same shape are mostly the same problem.
"""


def _part(w: SSAValue) -> float:
    """The share of its bytes that a coded constant takes in dram; 1 for others."""
    owner = root(w).owner
    size = owner.attributes.get(STORED) if isinstance(owner, Operation) else None
    if not isinstance(size, IntegerAttr):
        return 1.0
    share = size.value.data / max(1, prod(shape_of(w)) * dtype_of(w).itemsize)
    return min(1.0, max(1, round(PARTS * share)) / PARTS)


def _images(anchor: Operation) -> tuple[SSAValue, SSAValue, SSAValue]:
    return anchor.results[0], anchor.operands[0], anchor.operands[1]


def inner_strides(value: SSAValue, dims: Sequence[int], count: int) -> tuple[int, ...] | None:
    """The strides of a tensor along the last `count` of `dims`; None where it lies densely."""
    place = place_of(value)
    if place.is_whole:
        return None
    strides = place.strides(dims)
    return None if strides is None else strides[-count:]


def is_depthwise(group: Group) -> bool:
    """Whether a convolution has one input channel for each output channel."""
    assert group.anchor is not None
    if group.anchor.name != "graph.conv2d":
        return False
    channels = shape_of(group.anchor.operands[0])[3]
    _, _, per_group, outputs = shape_of(group.anchor.operands[1])
    return per_group == 1 and outputs == channels and channels > 1


def _convolution(group: Group, x: SSAValue, w: SSAValue, common: dict[str, Any]) -> Contraction:
    assert group.anchor is not None
    n, ih, iw, channels = shape_of(group.anchor.operands[0])
    kh, kw, per_group, outputs = shape_of(group.anchor.operands[1])
    _, oh, ow, _ = shape_of(group.anchor.results[0])
    depthwise = is_depthwise(group)
    groups = 1 if depthwise else channels // per_group
    strides, dilations = group.setting("strides"), group.setting("dilations")
    pads = group.setting("pads")
    steps = (1, 1)
    if (kh, kw) == (1, 1) and not any(pads):
        steps, strides, ih, iw = (strides[0], strides[1]), (1, 1), oh, ow
    return Contraction(
        oh=oh, ow=ow, oc=outputs // groups, ic=per_group, ih=ih, iw=iw, kh=kh, kw=kw,
        strides=(strides[0], strides[1]), dilations=(dilations[0], dilations[1]),
        pads=(pads[0], pads[1]), steps=steps,
        groups=groups, batch=n, depthwise=depthwise, **common,
    )  # fmt: skip


@dataclass(frozen=True)
class Streams:
    """The collapsed view of a vector group: operand extents by tensor, and which dimensions are
    reduced.
    """

    shape: Collapsed
    inputs: tuple[SSAValue, ...]
    whole: tuple[int, ...]


def streams(group: Group) -> Streams:
    """The tensors of a vector group (no pooling) with as few dimensions as possible; the output is
    the last operand.

    Raises NoViewError where there are none that all of them can be addressed along.
    """
    keep_last = group.param_rows > 0
    out = shape_of(group.result)
    if group.anchor is None:
        inputs = tuple(group.tensors)
        pairs = [(v, shape_of(v)) for v in (*inputs, group.result)]
        return Streams(common(out, pairs, keep_last), inputs, ())
    source = group.outer(group.anchor.operands[0])
    dims = shape_of(group.anchor.operands[0])
    reduced = shape_of(group.anchor.results[0])
    shape = common(dims, [(source, dims), (group.result, reduced)], keep_last)
    pairs = zip(shape.dims, shape.operands[1], strict=True)
    whole = tuple(a for a, (d, r) in enumerate(pairs) if r != d)
    return Streams(shape, (source,), whole)


MOST_DIMS = 5
"""Dimensions of an operand of the machine."""


def common(
    dims: tuple[int, ...], operands: Sequence[tuple[SSAValue, tuple[int, ...]]], keep_last: bool
) -> Collapsed:
    """As few dimensions as address all operands, which come with their extents: `dims`, or 1 where
    they repeat.

    Raises NoViewError where there are none, or too many.
    """
    places = [place_of(v) for v, _ in operands]
    if all(place.is_whole for place in places):
        return collapse(dims, [shape for _, shape in operands], keep_last)
    full = align(dims, max(1, len(dims)))
    shapes = [align(shape, len(full)) for _, shape in operands]
    fine = refined(full, list(zip(places, shapes, strict=True)))
    if fine is None:
        raise NoViewError("operands whose parts do not divide along with each other")
    if keep_last and fine[-1] != full[-1]:
        raise NoViewError("channels with parameters that have no single stride")
    extents = [refined_extents(full, fine, shape) for shape in shapes]
    breaks = apart(fine, list(zip(places, extents, strict=True)))
    found = collapse(fine, extents, keep_last, breaks)
    if len(found.dims) > MOST_DIMS:
        raise NoViewError(f"{len(found.dims)} dimensions, {MOST_DIMS} at most")
    return found


def elementwise(group: Group, resident: Resident, out_resident: bool) -> Elementwise:
    """The mapper's problem for elementwise chains and reductions."""
    found = streams(group)
    inputs = tuple(
        _stream(v, dims, not is_constant(v) and resident(storage(v)))
        for v, dims in zip(found.inputs, found.shape.operands, strict=False)
    )
    out_type = dtype_of(group.result)
    return Elementwise(
        dims=found.shape.dims,
        inputs=inputs,
        output=_stream(group.result, found.shape.operands[-1], out_resident),
        whole=found.whole,
        param_rows=group.param_rows,
        table_bytes=group.table_bytes,
        kernel_costs=group.plan.kernel.costs() + (("alu",) if group.anchor is not None else ()),
        value_type=_value_type([*map(dtype_of, found.inputs), out_type]),
    )


def _stream(value: SSAValue, dims: tuple[int, ...], resident: bool) -> Stream:
    strides = None if resident else inner_strides(value, dims, len(dims))
    return Stream(dims, dtype_of(value).itemsize, resident, strides)


def pooling(group: Group, resident: Resident, out_resident: bool) -> Pooling:
    """The mapper's problem for a pooling group."""
    assert group.anchor is not None
    x = group.outer(group.anchor.operands[0])
    n, ih, iw, channels = shape_of(group.anchor.operands[0])
    _, oh, ow, _ = shape_of(group.anchor.results[0])
    size, strides, dilations = (group.setting(n) for n in ("kernel", "strides", "dilations"))
    return Pooling(
        oh=oh, ow=ow, channels=channels, ih=ih, iw=iw, batch=n,
        size=(size[0], size[1]), strides=(strides[0], strides[1]),
        dilations=(dilations[0], dilations[1]),
        x_bytes=dtype_of(x).itemsize, out_bytes=dtype_of(group.result).itemsize,
        param_rows=group.param_rows, table_bytes=group.table_bytes,
        kernel_costs=group.plan.kernel.costs(),
        value_type=_value_type([dtype_of(x), dtype_of(group.result)]),
        x_resident=resident(storage(x)), out_resident=out_resident,
    )  # fmt: skip


def scatter(group: Group, resident: Resident, out_resident: bool) -> Scatter:
    """The mapper's problem for a scatter group."""
    assert group.anchor is not None
    kind = group.anchor.properties["kind"]
    assert isinstance(kind, StringAttr)
    x, indices, updates = (group.outer(v) for v in group.anchor.operands)
    rows, elements = shape_of(group.anchor.results[0])
    return Scatter(
        kind=kind.data,
        rows=rows,
        elements=elements,
        count=shape_of(group.anchor.operands[1])[0],
        itemsize=dtype_of(x).itemsize,
        index_bytes=dtype_of(indices).itemsize,
        value_type=widened(dtype_of(x)),
        indices_resident=not is_constant(indices) and resident(storage(indices)),
        updates_resident=not is_constant(updates) and resident(storage(updates)),
        out_resident=out_resident,
    )


def _value_type(types: Sequence[DType]) -> str:
    kinds = {widened(t) for t in types}
    return next(k for k in ("i64", "f32", "i32") if k in kinds)


# --- addresses ------------------------------------------------------------------------------------


def obstacle(group: Group) -> str | None:
    """Why a group cannot address its tensors where they lie; None where it can."""
    try:
        _address(group)
    except NoViewError as problem:
        return str(problem)
    return None


def _address(group: Group) -> None:
    """Raises NoViewError where a group cannot address its tensors."""
    anchor = group.anchor
    if group.kind == "move":
        _check_move(group)
    elif group.kind in ("host", "io") or (anchor is not None and anchor.name == SCATTER):
        _need_whole(group, f"{group.kind if anchor is None else anchor.name} takes whole tensors")
    elif anchor is not None and anchor.name == "graph.matmul":
        matrices(group)
    elif anchor is not None and (anchor.name == "graph.conv2d" or anchor.name in POOLS):
        _need_strides(group, anchor)
    else:
        streams(group)


def _check_move(group: Group) -> None:
    if group.body[0].name == "graph.gather":
        for inner in group.body[0].operands:
            if place_of(group.outer(inner)).strides(shape_of(inner)) is None:
                raise NoViewError("rows that have no single stride")
        if place_of(group.result).strides(shape_of(group.result)) is None:
            raise NoViewError("rows that have no single stride")
        return
    for copy in copies(group.op):
        dims = copied_dims(copy)
        if len(dims) > MOST_DIMS:
            raise NoViewError(f"a copy with {len(dims)} dimensions, {MOST_DIMS} at most")
    if group.body[0].name == "graph.pad" and VIEW not in group.op.attributes:
        for place, sizes in border(group.op):
            if place.strides(sizes) is None:
                raise NoViewError("a border that has no single stride")


def copied_dims(copy: Copy) -> tuple[int, ...]:
    """The fewest dimensions along which both sides of a copy have strides.

    Raises NoViewError where there are none.
    """
    both = [(place, (copy.count,)) for place in (copy.source, copy.destination)]
    fine = refined((copy.count,), both)
    if fine is None:
        raise NoViewError("a copy between parts that do not divide along with each other")
    breaks = apart(fine, [(place, fine) for place, _ in both])
    return collapse(fine, [fine, fine], keep_last=False, apart=breaks).dims


def _need_whole(group: Group, rule: str) -> None:
    if not all(place_of(v).is_whole for v in (*group.op.operands, *group.op.results)):
        raise NoViewError(rule)


def _need_strides(group: Group, anchor: Operation) -> None:
    """An image has one stride along each of its dimensions."""
    pairs = [(group.outer(v), shape_of(v)) for v in anchor.operands[:2]]
    pairs += [(v, shape_of(anchor.results[0])) for v in (group.result, *group.tensors)]
    for value, shape in pairs:
        if not is_constant(value) and place_of(value).strides(shape) is None:
            raise NoViewError("a dimension of an image that has no single stride")
