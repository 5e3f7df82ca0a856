"""ONNX's tensor types and tensors as ours: element types, numpy arrays, external data."""

from __future__ import annotations

from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import SparseTensorProto, TensorProto, numpy_helper

from npu_dialect import dtypes
from npu_dialect.diagnostics import Code
from npu_dialect.dtypes import DType
from npu_dialect.frontends.onnx.errors import check_shape, refuse

Array = NDArray[Any]

_DTYPES: dict[int, DType] = {
    TensorProto.FLOAT: dtypes.f32,
    TensorProto.UINT8: dtypes.u8,
    TensorProto.INT8: dtypes.i8,
    TensorProto.UINT16: dtypes.u16,
    TensorProto.INT16: dtypes.i16,
    TensorProto.INT32: dtypes.i32,
    TensorProto.INT64: dtypes.i64,
    TensorProto.BOOL: dtypes.bool_,
    TensorProto.FLOAT16: dtypes.f16,
    TensorProto.DOUBLE: dtypes.f64,
    TensorProto.BFLOAT16: dtypes.bf16,
}
_CODES = {dtype: code for code, dtype in _DTYPES.items()}

NARROW: dict[int, DType] = {TensorProto.INT4: dtypes.i8, TensorProto.UINT4: dtypes.u8}
"""4-bit constants are held one to a byte."""


def dtype_of(code: int, source: str) -> DType:
    """The storage type of an ONNX element type; raises CompileError for those we lack."""
    if code in _DTYPES:
        return _DTYPES[code]
    raise refuse(
        Code.DTYPE_MISMATCH,
        source,
        f"tensors must be of one of {', '.join(t.name for t in _DTYPES.values())}",
        f"element type {type_name(code)}",
        "casting it to a supported type",
    )


def type_name(code: int) -> str:
    """ONNX's name of an element type."""
    try:
        return TensorProto.DataType.Name(code).lower()  # pyright: ignore[reportArgumentType]
    except ValueError:
        return str(code)


def code_of(dtype: DType) -> int:
    """The ONNX element type of a storage type."""
    return _CODES[dtype]


def array_of(tensor: TensorProto, source: str) -> Array:
    """The values of a tensor, C-contiguous, of a type that we hold (4 bits as bytes)."""
    narrow = NARROW.get(tensor.data_type)
    dtype = narrow or dtype_of(tensor.data_type, source)
    check_shape(tensor.dims, dtype.itemsize, source)
    try:
        array = numpy_helper.to_array(tensor)
        array = np.asarray(array).astype(dtype.numpy, copy=False)
        return np.ascontiguousarray(array).reshape(tuple(tensor.dims))
    except (ValueError, TypeError, OverflowError) as error:
        raise refuse(
            Code.MODEL_MALFORMED, source, "a constant must hold as many values as its shape says",
            f"{type_name(tensor.data_type)}{list(tensor.dims)}: {error}",
        ) from None  # fmt: skip


def dense(sparse: SparseTensorProto) -> Array:
    """The dense array of a sparse constant (linear or coordinate indices)."""
    source = sparse.values.name
    values = array_of(sparse.values, source)
    indices = array_of(sparse.indices, source)
    check_shape(sparse.dims, values.itemsize, source)
    shape = tuple(sparse.dims)
    result = np.zeros(shape, values.dtype)
    try:
        where = indices if indices.ndim == 1 else np.ravel_multi_index(tuple(indices.T), shape)
        result.reshape(-1)[where] = values
    except (IndexError, ValueError) as error:
        raise refuse(
            Code.MODEL_MALFORMED,
            source,
            "indices of a sparse constant must lie in its shape",
            str(error),
        ) from None
    return result


def inline(tensor: TensorProto, folder: Path | None) -> None:
    """Replace a reference to external data with the data; never reads outside `folder`."""
    fields = {entry.key: entry.value for entry in tensor.external_data}
    location = fields.get("location", "")
    path = _inside(tensor.name, location, folder)
    dtype = dtype_of(tensor.data_type, tensor.name)
    check_shape(tensor.dims, dtype.itemsize, tensor.name)
    size = prod(tensor.dims) * dtype.itemsize
    try:
        offset = int(fields.get("offset") or 0)
        length = int(fields.get("length") or size)
        data = _read(path, offset, size) if offset >= 0 and length == size else b""
    except (OSError, ValueError) as error:
        raise _external(tensor.name, location, str(error)) from None
    if len(data) != size:
        raise _external(tensor.name, location, f"not {size} bytes at its offset")
    del tensor.external_data[:]
    tensor.data_location = TensorProto.DEFAULT
    tensor.raw_data = data


def _inside(name: str, location: str, folder: Path | None) -> Path:
    if folder is None:
        raise _external(name, location, "a model that is not a file")
    root = folder.resolve()
    path = (root / location).resolve()
    if not location or path == root or not path.is_relative_to(root) or not path.is_file():
        raise _external(name, location, "no such file in the model's folder")
    return path


def _read(path: Path, offset: int, size: int) -> bytes:
    with path.open("rb") as file:
        file.seek(offset)
        return file.read(size)


def _external(name: str, location: str, found: str) -> Exception:
    return refuse(
        Code.MODEL_MALFORMED,
        name,
        "external data must be a file inside the model's folder, as long as the tensor",
        f"{location!r}: {found}",
    )


def tensor_of(array: Array, name: str = "") -> TensorProto:
    """An ONNX tensor of an array."""
    dtype = dtypes.BY_NUMPY[array.dtype]
    return onnx.helper.make_tensor(
        name, code_of(dtype), array.shape, np.ascontiguousarray(array).tobytes(), raw=True
    )


def is_held(code: int) -> bool:
    """True for the ONNX element types that a tensor of ours can have."""
    return code in _DTYPES
