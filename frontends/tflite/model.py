"""A `.tflite` file as plain data: tensors, operators, options; checked against its size.

Every offset of a flatbuffer is untrusted. The accessors of the schema raise for what lies outside
of the file; lists are never longer than the file could hold.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from math import prod
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
from numpy.typing import NDArray
from xdsl.ir import Attribute

from npu_dialect import dtypes, files
from npu_dialect.diagnostics import Code, CompileError
from npu_dialect.dtypes import DType
from npu_dialect.frontends.onnx.errors import refuse
from npu_dialect.frontends.tflite import sparse
from npu_dialect.frontends.tflite.package import names, schema
from npu_dialect.frontends.tflite.sparse import Sparsity
from npu_dialect.graph.quant import QuantType, uniform

Array = NDArray[Any]

IDENTIFIER = b"TFL3"
MAX_BYTES = 1 << 34
"""No tensor may be larger: 16 GiB."""

BROKEN = (
    struct.error, IndexError, ValueError, TypeError, AttributeError, OverflowError, MemoryError,
)  # fmt: skip
"""What the accessors of the schema raise for offsets that lead outside of the file."""

COMPLEX = "COMPLEX64"
"""The type of complex numbers: two floats each, in a dimension of their own, which is the last."""

DTYPES: dict[str, DType] = {
    "FLOAT32": dtypes.f32, "FLOAT16": dtypes.f16, "FLOAT64": dtypes.f64, "BFLOAT16": dtypes.bf16,
    "INT8": dtypes.i8, "UINT8": dtypes.u8, "INT16": dtypes.i16, "UINT16": dtypes.u16,
    "INT32": dtypes.i32, "INT64": dtypes.i64, "BOOL": dtypes.bool_, "INT4": dtypes.i8,
    COMPLEX: dtypes.f32,
}  # fmt: skip
"""The storage types by their names in the schema; values of 4 bits are held one to a byte."""

QUANTIZED = (dtypes.i8, dtypes.u8, dtypes.i16)
"""The storage types whose scales are part of the type; i32 with a scale is a sum or a bias."""


@dataclass(frozen=True)
class Tensor:
    """A tensor of a subgraph."""

    index: int
    name: str
    kind: str
    """The name of its type in the schema."""
    shape: tuple[int, ...]
    scales: Array
    """float32; empty where it is not quantized."""
    zeros: Array
    """int64, one for all scales or one each."""
    axis: int
    """The dimension along which scales differ, where there are several."""
    data: bytes | None
    """The values of a constant, None for a tensor that is computed."""
    is_variable: bool = False
    why: str = ""
    """Why it is no tensor that a program can have; empty where it is one."""
    signature: tuple[int, ...] = ()
    """The shape with -1 for dimensions that are free; empty where none is."""
    sparsity: Sparsity | None = None
    """Where its values are, of a constant that is stored sparsely."""

    @property
    def dtype(self) -> DType:
        """The storage type. Raises ValueError for a tensor that a program cannot have."""
        if self.kind not in DTYPES:
            raise ValueError(self.why)
        return DTYPES[self.kind]

    @cached_property
    def element(self) -> Attribute:
        """The element type: with its scales where it is quantized. Raises ValueError."""
        if not self.scales.size or self.dtype not in QUANTIZED:
            return dtypes.element_type(self.dtype)
        axis = None if self.scales.size == 1 else self.axis
        low, high = (-8, 7) if self.kind == "INT4" else (None, None)
        return uniform(self.dtype, self.scales, self.zeros, axis, low, high)

    @property
    def quant(self) -> QuantType | None:
        """The element type if it is quantized."""
        return self.element if isinstance(self.element, QuantType) else None

    def array(self) -> Array:
        """The values of a constant, of its shape. Raises ValueError."""
        assert self.data is not None
        count = prod(self.shape)
        if self.kind == "INT4":
            found = _unpacked(np.frombuffer(self.data, np.uint8))
            found = found if self.sparsity is not None else found[:count]
        else:
            found = np.frombuffer(self.data, self.dtype.numpy)
        if self.sparsity is not None:
            return self.sparsity.dense(found, self.shape)
        if found.size != count:
            raise ValueError(f"{len(self.data)} bytes for {self.kind} {list(self.shape)}")
        return found.reshape(self.shape)


def _unpacked(pairs: Array) -> Array:
    """Values of 4 bits, two in a byte, the lower half first."""
    halves = np.stack([pairs & 15, pairs >> 4], axis=-1).reshape(-1).astype(np.int8)
    return np.where(halves > 7, halves - 16, halves).astype(np.int8)


@dataclass(frozen=True)
class Operator:
    """An operator of a subgraph; inputs and outputs number its tensors, -1 for none."""

    name: str
    """`CONV_2D`; a custom operator has its own name."""
    is_custom: bool
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    options_kind: str
    """The name of the table of its options, `NONE` without."""
    options: Any
    """That table as the schema has it."""
    custom_options: bytes = b""
    """The options of a custom operator, in whatever format it has."""
    intermediates: tuple[int, ...] = ()
    """Tensors that are only the quantizations of values inside of it."""


@dataclass(frozen=True)
class Subgraph:
    """A graph: the main one, or a body of control flow."""

    name: str
    tensors: tuple[Tensor, ...]
    operators: tuple[Operator, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]


@dataclass(frozen=True)
class Model:
    """A file: its subgraphs, of which the first is the main one."""

    source: str
    subgraphs: tuple[Subgraph, ...]
    signatures: dict[str, int] = field(default_factory=dict[str, int])
    """The subgraphs that are called from outside, by name; empty where only the main one is."""
    entry: int = 0
    """The subgraph that is imported."""

    @property
    def main(self) -> Subgraph:
        """What the model computes."""
        return self.subgraphs[self.entry]


def read(source: str | Path | bytes) -> Model:
    """The model of a file. Raises CompileError for one that is malformed."""
    name = "the model" if isinstance(source, bytes) else str(source)
    data = source if isinstance(source, bytes) else files.read_bytes(Path(source))
    if len(data) < 8 or data[4:8] != IDENTIFIER:
        rule = "a .tflite file must be a flatbuffer with the identifier TFL3"
        raise refuse(Code.MODEL_MALFORMED, name, rule, repr(data[4:8])[1:])
    try:
        return _Reader(data, name).model()
    except struct.error:
        found = f"an offset that leads outside of its {len(data):,} bytes"
        raise malformed(name, found, "the whole file, if it was cut off") from None
    except BROKEN as problem:
        raise malformed(name, f"{type(problem).__name__}: {problem}") from None


def malformed(source: str, found: str, remedy: str = "") -> CompileError:
    """The error of a file whose tables contradict each other or lead outside of it."""
    rule = "the tables of a .tflite file must lie in it and fit together"
    return refuse(Code.MODEL_MALFORMED, source, rule, found, remedy)


class _Reader:
    def __init__(self, data: bytes, source: str) -> None:
        self.data = data
        self.source = source
        self.root = schema().Model.GetRootAs(data, 0)

    def model(self) -> Model:
        codes = self._all(self.root.OperatorCodesLength(), self.root.OperatorCodes)
        operators = [self._code(code) for code in codes]
        count = self.root.SubgraphsLength()
        graphs = self._all(count, self.root.Subgraphs)
        if not graphs:
            raise ValueError("no subgraph")
        found = tuple(self._subgraph(g, operators) for g in graphs)
        return Model(self.source, found, self._signatures(len(found)))

    def _signatures(self, count: int) -> dict[str, int]:
        tables = self._all(self.root.SignatureDefsLength(), self.root.SignatureDefs)
        found = {_text(t.SignatureKey()): int(t.SubgraphIndex()) for t in tables}
        if any(not 0 <= index < count for index in found.values()):
            raise ValueError(f"a signature of a subgraph that is not one of the {count}")
        return found

    def _all(self, count: int, get: Callable[[int], Any]) -> list[Any]:
        """The tables of a list, each of which takes four bytes of the file or more."""
        if count * 4 > len(self.data):
            raise ValueError(f"a list of {count} tables in {len(self.data)} bytes")
        found = [get(k) for k in range(count)]
        if any(each is None for each in found):
            raise ValueError("a list with a table that is missing")
        return found

    def _code(self, code: Any) -> tuple[str, bool]:
        """The name of an operator, and whether it is a custom one."""
        number = max(code.BuiltinCode(), code.DeprecatedBuiltinCode())
        name = names("BuiltinOperator").get(number, f"operator {number}")
        if name != "CUSTOM":
            return name, False
        return _text(code.CustomCode()) or "CUSTOM", True

    def _subgraph(self, graph: Any, operators: list[tuple[str, bool]]) -> Subgraph:
        tensors = self._all(graph.TensorsLength(), graph.Tensors)
        found = tuple(self._tensor(k, tensor) for k, tensor in enumerate(tensors))
        nodes = self._all(graph.OperatorsLength(), graph.Operators)
        inputs, outputs = _ints(graph.InputsAsNumpy()), _ints(graph.OutputsAsNumpy())
        result = Subgraph(
            _text(graph.Name()), found, tuple(self._operator(node, operators) for node in nodes),
            inputs, outputs,
        )  # fmt: skip
        used = [*inputs, *outputs]
        for node in result.operators:
            used += [k for k in (*node.inputs, *node.outputs) if k != -1]
            used += node.intermediates
        if any(not 0 <= k < len(found) for k in used):
            raise ValueError(f"a tensor that is not one of the {len(found)}")
        return result

    def _operator(self, node: Any, operators: list[tuple[str, bool]]) -> Operator:
        name, is_custom = operators[int(node.OpcodeIndex())]
        kind = names("BuiltinOptions").get(node.BuiltinOptionsType(), "unknown")
        options = node.BuiltinOptions()
        if kind == "NONE" and node.BuiltinOptions2Type():
            kind = names("BuiltinOptions2").get(node.BuiltinOptions2Type(), "unknown")
            options = node.BuiltinOptions2()
        return Operator(
            name, is_custom, _ints(node.InputsAsNumpy()), _ints(node.OutputsAsNumpy()),
            kind, options, self._custom_options(node) if is_custom else b"",
            _ints(node.IntermediatesAsNumpy()),
        )  # fmt: skip

    def _custom_options(self, node: Any) -> bytes:
        if node.LargeCustomOptionsOffset() > 1:
            return self._outside(node.LargeCustomOptionsOffset(), node.LargeCustomOptionsSize())
        return node.CustomOptionsAsNumpy().tobytes() if node.CustomOptionsLength() else b""

    def _outside(self, start: int, size: int) -> bytes:
        """Bytes behind the flatbuffer, which has at most 2 GiB."""
        if start + size > len(self.data):
            raise ValueError(f"{size} bytes at {start} of {len(self.data)}")
        return self.data[start : start + size]

    def _tensor(self, index: int, tensor: Any) -> Tensor:
        shape = _ints(tensor.ShapeAsNumpy())
        kind = names("TensorType").get(tensor.Type(), "unknown")
        scales, zeros, axis = _quantization(tensor.Quantization())
        why = "" if kind in DTYPES else f"a tensor of type {kind} ({tensor.Type()})"
        if not why and (any(size < 0 for size in shape) or prod(shape) * 8 > MAX_BYTES):
            raise ValueError(f"a tensor of shape {list(shape)}")
        signature = _ints(tensor.ShapeSignatureAsNumpy())
        if signature and len(signature) != len(shape):
            raise ValueError(f"a signature {list(signature)} of {list(shape)}")
        if kind == COMPLEX:
            shape, signature = (*shape, 2), (*signature, 2) if signature else ()
        sparsity, data = tensor.Sparsity(), self._buffer(tensor.Buffer())
        if sparsity is not None and data is None:
            why = "a sparse tensor that is computed"
        return Tensor(
            index, _text(tensor.Name()) or f"tensor{index}", kind, shape, scales, zeros, axis,
            data, bool(tensor.IsVariable()), why, signature,
            None if sparsity is None else sparse.read(sparsity, shape),
        )  # fmt: skip

    def _buffer(self, index: int) -> bytes | None:
        """The bytes of a constant; buffer 0 and those without bytes are of computed tensors."""
        if not index:
            return None
        if not 0 <= index < self.root.BuffersLength():
            raise ValueError(f"buffer {index} of {self.root.BuffersLength()}")
        buffer = self.root.Buffers(index)
        if buffer.Offset() > 1:
            return self._outside(buffer.Offset(), buffer.Size())
        return buffer.DataAsNumpy().tobytes() if buffer.DataLength() else None


def _quantization(table: Any) -> tuple[Array, Array, int]:
    empty = np.zeros(0, np.float32), np.zeros(0, np.int64), 0
    if table is None or not table.ScaleLength():
        return empty
    scales = np.array(table.ScaleAsNumpy(), np.float32)
    zeros = np.array(table.ZeroPointAsNumpy() if table.ZeroPointLength() else [0], np.int64)
    if not np.abs(np.nan_to_num(scales, nan=1.0)).max():
        return empty
    return scales, zeros, int(table.QuantizedDimension())


def _ints(array: Any) -> tuple[int, ...]:
    """A list of a table, which is 0 where the table has none."""
    return () if isinstance(array, int) else tuple(int(n) for n in array)


def _text(found: bytes | None) -> str:
    return (found or b"").decode("utf-8", "replace")


assert ml_dtypes  # registers bfloat16 with numpy
