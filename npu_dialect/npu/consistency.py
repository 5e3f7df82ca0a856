"""Whether the fields of an instruction fit each other, the program's tables, and the memories."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from npu_dialect import dtypes, rice
from npu_dialect.codecs import by_group
from npu_dialect.dtypes import DType
from npu_dialect.kernel import Kernel
from npu_dialect.machine import Operand
from npu_dialect.npu.arrays import (
    ArrayInstruction,
    Conv2DOp,
    DepthwiseConv2DOp,
    MatmulOp,
    sum_type,
)
from npu_dialect.npu.base import Instruction, Values
from npu_dialect.npu.copies import DmaDecodeOp, DmaExpandOp
from npu_dialect.npu.host import HostOp
from npu_dialect.npu.indexed import INDEX_TYPES, DmaGatherOp, DmaScatterOp, ScatterOp
from npu_dialect.npu.vectors import Pool2DOp, ReduceOp, VectorInstruction, VectorOp
from npu_dialect.target import VALUE_TYPES, Target


def out_of_bounds(operand: Operand, sizes: Mapping[str, int]) -> str:
    """What is wrong with where an operand lies; empty where nothing is."""
    low, high = operand.interval
    size = sizes[operand.space]
    if low < 0 or high > size:
        return f"must lie in {operand.space} [0, {size:#x}), found [{low:#x}, {high:#x})"
    item = operand.dtype.itemsize
    if operand.address % item or any(s % item for s in operand.strides):
        steps = list(operand.strides)
        return (
            f"must have an address and strides that are multiples of {item}, "
            f"found {operand.address:#x} and {steps}"
        )
    return ""


def overlaps_itself(operand: Operand) -> bool:
    """Whether two elements of a block may share a byte."""
    if 0 in operand.dims:
        return False
    reach = operand.dtype.itemsize
    pairs = zip(operand.dims, operand.strides, strict=True)
    for stride, d in sorted((abs(s), d) for d, s in pairs if d > 1):
        if stride < reach:
            return True
        reach += (d - 1) * stride
    return False


def unsupported(
    instruction: Instruction, values: Values, target: Target, kernels: Sequence[Kernel]
) -> Iterator[str]:
    """What an instruction asks for that the machine does not have: "must ..., found ..."."""
    if instruction.core_index >= target.cores:
        yield f"must run on one of the {target.cores} cores, found {instruction.core_index}"
    if isinstance(instruction, ArrayInstruction):
        yield from _unsupported_by_array(instruction, values, target, kernels)
    if isinstance(instruction, VectorInstruction):
        types = {o.dtype.name for name, _, o in instruction.operand_fields() if name != "params"}
        missing = sorted(types.difference(target.vector.storage))
        if missing:
            yield f"must load and store types of the vector unit, found {', '.join(missing)}"
    if isinstance(instruction, DmaExpandOp):
        codec = by_group(values["group"])
        if codec is not None and codec.name not in target.dma.codecs:
            yield f"must expand what the dma engine can, found {codec.name}"
    if isinstance(instruction, DmaDecodeOp) and rice.NAME not in target.dma.codecs:
        yield f"must decode what the dma engine can, found {rice.NAME}"
    if isinstance(instruction, DmaGatherOp | DmaScatterOp | ScatterOp):
        yield from _unsupported_indices(instruction, values, target)


def _unsupported_by_array(
    instruction: ArrayInstruction, values: Values, target: Target, kernels: Sequence[Kernel]
) -> Iterator[str]:
    if instruction.takes_dma and not target.array_reads_dram:
        yield "must find its operands where the array reads, found one in dram"
    if "stream" in values and rice.NAME not in target.dma.codecs:
        yield f"must decode what the machine can, found {rice.NAME}"
    x, w = values["input"].dtype, values["weights"].dtype
    if not target.array_can(x.name, w.name) or x.is_float != w.is_float:
        yield f"must multiply types that the array has, found {x} by {w}"
    if "partial" in values or values["kernel"] < len(kernels):
        total = sum_type(values, kernels)
        if not target.sums_in(total.name):
            yield f"must have sums that the accumulators hold, found {total}"


def _unsupported_indices(
    instruction: DmaGatherOp | DmaScatterOp | ScatterOp, values: Values, target: Target
) -> Iterator[str]:
    unit = target.vector if isinstance(instruction, ScatterOp) else target.dma
    found = values["indices"].dtype.name
    if found not in unit.index_types:
        yield f"must have indices that the {instruction.ENGINE} reads, found {found}"
    if isinstance(instruction, ScatterOp):
        stored = values["updates"].dtype.name
        if stored not in target.vector.storage:
            yield f"must load and store types of the vector unit, found {stored}"


def mistakes(
    instruction: Instruction, values: Values, kernels: Sequence[Kernel], functions: int
) -> Iterator[str]:
    """What does not fit in an instruction: "must ..., found ..."."""
    check = _SHAPES.get(type(instruction))
    if check is not None:
        yield from check(values)
    if "kernel" in values:
        yield from _kernel_mistakes(instruction, values, kernels)
    if isinstance(instruction, HostOp) and values["function"] >= functions:
        yield f"must call one of the {functions} host functions, found {values['function']}"


# --- kernels ----------------------------------------


def _kernel_mistakes(
    instruction: Instruction, values: Values, kernels: Sequence[Kernel]
) -> Iterator[str]:
    number: int = values["kernel"]
    if number >= len(kernels):
        yield f"must use one of the {len(kernels)} kernels, found {number}"
        return
    kernel = kernels[number]
    tensors = _tensors(instruction, values, kernel)
    if tensors is not None and kernel.tensors != tensors:
        yield f"must give its kernel {_names(kernel.tensors)}, found {_names(tensors)}"
    output: Operand = values["output"]
    if kernel.output != output.dtype:
        yield f"must store the {kernel.output} of its kernel, found {output.dtype}"
    yield from _params_mistakes(kernel, values.get("params"), output)
    yield from _table_mistakes(kernel, values.get("table"))


def _tensors(instruction: Instruction, values: Values, kernel: Kernel) -> tuple[DType, ...] | None:
    """The types of what the kernel is given; None where the result's type follows from the kind."""
    if isinstance(instruction, VectorOp):
        return tuple(values[n].dtype for n in "abc" if n in values)
    if isinstance(instruction, Conv2DOp | DepthwiseConv2DOp | MatmulOp):
        residual = (values["residual"].dtype,) if "residual" in values else ()
        return (_sum_type(values, kernel), *residual)
    return None


def _sum_type(values: Values, kernel: Kernel) -> DType:
    """The type of the sums that an instruction gives its kernel: i64 where that takes i64."""
    if "partial" in values:
        return values["partial"].dtype
    first = kernel.tensors[0] if kernel.tensors else dtypes.i32
    known = sum_types(values["input"].dtype)
    return first if first in known else known[0]


def sum_types(dtype: DType) -> tuple[DType, ...]:
    """The types that sums of products of `dtype` may have."""
    return (dtypes.f32,) if dtype.is_float else (dtypes.i32, dtypes.i64)


def _names(types: Sequence[DType]) -> str:
    return "(" + ", ".join(map(str, types)) + ")"


def _params_mistakes(kernel: Kernel, params: Operand | None, output: Operand) -> Iterator[str]:
    rows = len(kernel.params)
    if (params is None) != (rows == 0):
        yield f"must have params for the {rows} rows of its kernel, found {params and params.dims}"
    elif params is not None:
        channels = output.dims[-1] if output.dims else 1
        fits = len(params.dims) == 2 and params.dims[0] == rows and params.dims[1] in (1, channels)
        if not fits or params.dtype.itemsize != 4:
            found = f"{params.dtype} {list(params.dims)}"
            rule = f"must have params of 4-byte words [{rows}, {channels}] or [{rows}, 1]"
            yield f"{rule}, found {found}"


def _table_mistakes(kernel: Kernel, table: Operand | None) -> Iterator[str]:
    if (table is None) != (kernel.table is None):
        yield "must have a table exactly where its kernel looks one up"
    elif table is not None and (table.dtype, table.dims) != (kernel.table, (kernel.table_size,)):
        rule = f"must have a table of {kernel.table_size} x {kernel.table}"
        yield f"{rule}, found {table.dtype} {list(table.dims)}"


# --- shapes ----------------------------------------


def _result(values: Values) -> Operand:
    """Where an array instruction leaves its result."""
    return values["output"] if "output" in values else values["partial"]


def _array_shapes(values: Values) -> Iterator[str]:
    x, result = values["input"], _result(values)
    for name in ("partial", "residual"):
        if name in values and not _broadcasts(values[name].dims, result.dims, name == "residual"):
            yield f"must have {name} {list(result.dims)}, found {list(values[name].dims)}"
    known = sum_types(x.dtype)
    if "partial" in values and values["partial"].dtype not in known:
        names = " or ".join(map(str, known))
        yield f"must have partial sums of {names}, found {values['partial'].dtype}"


def _broadcasts(dims: Sequence[int], to: Sequence[int], ones: bool = True) -> bool:
    return len(dims) == len(to) and all(
        d == t or (ones and d == 1) for d, t in zip(dims, to, strict=True)
    )


def _conv_shapes(values: Values) -> Iterator[str]:
    x, w = values["input"].dims, values["weights"].dims
    y = _result(values).dims
    if len(x) != 3 or len(y) != 3 or len(w) != 4 or (w[2], w[3]) != (x[2], y[2]):
        yield _shape_text("[H, W, IC], [KH, KW, IC, OC] and [OH, OW, OC]", x, w, y)
    yield from _array_shapes(values)


def _depthwise_shapes(values: Values) -> Iterator[str]:
    x, w = values["input"].dims, values["weights"].dims
    y = _result(values).dims
    if len(x) != 3 or len(y) != 3 or len(w) != 3 or not x[2] == w[2] == y[2]:
        yield _shape_text("[H, W, C], [KH, KW, C] and [OH, OW, C]", x, w, y)
    yield from _array_shapes(values)


def _matmul_shapes(values: Values) -> Iterator[str]:
    a, b = values["input"].dims, values["weights"].dims
    y = _result(values).dims
    if not len(a) == len(b) == len(y) == 2 or a[1] != b[0] or y != (a[0], b[1]):
        yield _shape_text("[M, K], [K, N] and [M, N]", a, b, y)
    yield from _array_shapes(values)


def _shape_text(rule: str, *found: Sequence[int]) -> str:
    return f"must have extents {rule}, found " + ", ".join(str(list(f)) for f in found)


def _vector_shapes(values: Values) -> Iterator[str]:
    output = values["output"].dims
    for name in "abc":
        if name in values and not _broadcasts(values[name].dims, output):
            found = list(values[name].dims)
            yield f"must have operands that broadcast to {list(output)}, found {name} {found}"


def _reduce_shapes(values: Values) -> Iterator[str]:
    x, y, mask = values["input"].dims, values["output"].dims, values["axes"]
    expected = tuple(1 if mask >> k & 1 else d for k, d in enumerate(x))
    if y != expected:
        yield f"must write {list(expected)}, found {list(y)}"


def _pool_shapes(values: Values) -> Iterator[str]:
    x, y = values["input"].dims, values["output"].dims
    if len(x) != 3 or len(y) != 3 or x[2] != y[2]:
        yield _shape_text("[H, W, C] and [OH, OW, C]", x, y)
        return
    top, left, bottom, right = values["pads"]
    for k, before, after in ((0, top, bottom), (1, left, right)):
        span = (values["size"][k] - 1) * values["dilations"][k] + 1
        reach = (y[k] - 1) * values["strides"][k] + span
        if reach > x[k] + before + after:
            found = f"windows that reach {reach}"
            padded = x[k] + before + after
            yield f"must have windows inside the {padded} padded inputs, found {found}"


def _gather_shapes(values: Values) -> Iterator[str]:
    x, y, indices = values["source"], values["destination"], values["indices"]
    yield from _row_mistakes(x, y, indices)
    if y.elements and not x.elements:
        yield f"must have a row to copy, found {list(x.dims)}"


def _dma_scatter_shapes(values: Values) -> Iterator[str]:
    return _row_mistakes(values["destination"], values["source"], values["indices"])


def _scatter_shapes(values: Values) -> Iterator[str]:
    updates = values["updates"]
    yield from _row_mistakes(values["output"], updates, values["indices"])
    if values["kind"] != "set" and updates.dtype.name not in VALUE_TYPES:
        found = f"{values['kind']} of {updates.dtype}"
        yield f"must accumulate {', '.join(VALUE_TYPES)}, found {found}"


def _row_mistakes(rows: Operand, listed: Operand, indices: Operand) -> Iterator[str]:
    """What does not fit in a block of rows, and some of them in the order of indices."""
    x, y = rows.dims, listed.dims
    if len(x) != 2 or len(y) != 2 or x[1] != y[1] or indices.dims != y[:1]:
        rule = "[rows, elements], [count, elements] and [count]"
        yield _shape_text(rule, x, y, indices.dims)
    if rows.dtype != listed.dtype:
        yield f"must have rows of the same type, found {rows.dtype} and {listed.dtype}"
    if indices.dtype.name not in INDEX_TYPES:
        yield f"must have indices of {' or '.join(INDEX_TYPES)}, found {indices.dtype}"


_SHAPES: dict[type[Instruction], Callable[[dict[str, Any]], Iterator[str]]] = {
    Conv2DOp: _conv_shapes,
    DepthwiseConv2DOp: _depthwise_shapes,
    MatmulOp: _matmul_shapes,
    VectorOp: _vector_shapes,
    ReduceOp: _reduce_shapes,
    Pool2DOp: _pool_shapes,
    DmaGatherOp: _gather_shapes,
    DmaScatterOp: _dma_scatter_shapes,
    ScatterOp: _scatter_shapes,
}
