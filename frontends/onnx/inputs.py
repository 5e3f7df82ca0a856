"""The types of a model's inputs: symbolic dimensions bound, the rest checked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from onnx import ValueInfoProto
from xdsl.dialects.builtin import TensorType

from npu_dialect import dtypes
from npu_dialect.diagnostics import Code
from npu_dialect.dtypes import DType
from npu_dialect.frontends.onnx import tensors
from npu_dialect.frontends.onnx.errors import check_shape, refuse
from npu_dialect.frontends.onnx.model import Model

Dim = int | str | None


@dataclass(frozen=True)
class Input:
    """A declared input; a dimension is a number, a symbol, or None where nothing is said."""

    name: str
    dtype: DType
    dims: tuple[Dim, ...] | None

    def __str__(self) -> str:
        if self.dims is None:
            return f"{self.name}[?]"
        shown = ", ".join("?" if dim is None else str(dim) for dim in self.dims)
        return f"{self.name}[{shown}]"


def bind(
    model: Model,
    shapes: Mapping[str, Sequence[int]],
    values: Mapping[str, NDArray[np.generic]],
) -> dict[str, TensorType]:
    """The tensor type of each input that stays one, in graph order."""
    constants = {tensor.name for tensor in model.graph.initializer}
    constants |= {sparse.values.name for sparse in model.graph.sparse_initializer}
    declared = [_declared(v) for v in model.graph.input if v.name not in constants]
    _check_names(declared, [*shapes, *values])
    declared = [entry for entry in declared if entry.name not in values]
    bound = {entry.name: _given(entry, shapes.get(entry.name)) for entry in declared}
    symbols = _symbols(declared, bound)
    resolved = {name: tuple(_resolve(dim, symbols) for dim in dims) if dims is not None else None
                for name, dims in bound.items()}  # fmt: skip
    _check_bound(declared, resolved, model.name)
    return {entry.name: _type(entry, resolved[entry.name] or ()) for entry in declared}


def _declared(value: ValueInfoProto) -> Input:
    if not value.type.HasField("tensor_type"):
        kind = value.type.WhichOneof("value") or "no type"
        raise refuse(
            Code.DTYPE_MISMATCH, value.name, "every input of a model must be a tensor", kind
        )
    tensor = value.type.tensor_type
    dtype = tensors.dtype_of(tensor.elem_type, value.name)
    if not tensor.HasField("shape"):
        return Input(value.name, dtype, None)
    dims: list[Dim] = []
    for dim in tensor.shape.dim:
        known = dim.HasField("dim_value")
        dims.append(dim.dim_value if known and dim.dim_value >= 0 else dim.dim_param or None)
    return Input(value.name, dtype, tuple(dims))


def _check_names(declared: Sequence[Input], given: Sequence[str]) -> None:
    names = {entry.name for entry in declared}
    for name in given:
        if name not in names:
            raise refuse(
                Code.SHAPE_BINDING, name, "a shape must be given for an input of the model",
                f"{name!r}; the inputs are {', '.join(map(str, declared))}",
            )  # fmt: skip


def _given(entry: Input, shape: Sequence[int] | None) -> tuple[Dim, ...] | None:
    """The dimensions after what the user gave, which must agree with what is declared."""
    if shape is None:
        return entry.dims
    dims = entry.dims if entry.dims is not None else (None,) * len(shape)
    fits = len(dims) == len(shape) and all(
        size >= 0 and (size == dim or type(dim) is not int)
        for dim, size in zip(dims, shape, strict=True)
    )
    if not fits:
        raise refuse(
            Code.SHAPE_BINDING, entry.name, f"a shape given for {entry} must fit it",
            ",".join(map(str, shape)),
        )  # fmt: skip
    return tuple(int(size) for size in shape)


def _symbols(
    declared: Sequence[Input], bound: Mapping[str, tuple[Dim, ...] | None]
) -> dict[str, int]:
    """The value of each symbol that some bound input fixes."""
    found: dict[str, int] = {}
    for entry in declared:
        sizes = bound[entry.name] or ()
        for dim, size in zip(entry.dims or (), sizes, strict=False):
            if not isinstance(dim, str) or not isinstance(size, int):
                continue
            if found.setdefault(dim, size) != size:
                raise refuse(
                        Code.SHAPE_BINDING, entry.name,
                        f"the dimension {dim} must have one size", f"{found[dim]} and {size}",
                    )  # fmt: skip
    return found


def _resolve(dim: Dim, symbols: Mapping[str, int]) -> Dim:
    return symbols.get(dim, dim) if isinstance(dim, str) else dim


def _check_bound(
    declared: Sequence[Input], resolved: Mapping[str, tuple[Dim, ...] | None], name: str
) -> None:
    def is_open(dims: tuple[Dim, ...] | None) -> bool:
        return dims is None or any(not isinstance(dim, int) for dim in dims)

    unbound = [Input(e.name, e.dtype, resolved[e.name]) for e in declared
               if is_open(resolved[e.name])]  # fmt: skip
    if unbound:
        raise refuse(
            Code.SHAPE_UNBOUND, name, "every dimension of an input must be known",
            "unbound " + ", ".join(map(str, unbound)),
            " ".join(_example(entry) for entry in unbound),
        )  # fmt: skip


def _example(entry: Input) -> str:
    dims = (1, 3, 224, 224) if entry.dims is None else entry.dims
    sizes = ",".join(str(dim) if isinstance(dim, int) else "1" for dim in dims)
    return f"--shape {entry.name}={sizes}"


def _type(entry: Input, dims: Sequence[Dim]) -> TensorType:
    shape = [dim for dim in dims if isinstance(dim, int)]
    check_shape(shape, entry.dtype.itemsize, entry.name)
    return TensorType(dtypes.element_type(entry.dtype), shape)
