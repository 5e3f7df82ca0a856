"""What an importer works with: the builder of graph ops, and what the node's results must be."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import ml_dtypes
import numpy as np
from numpy.typing import NDArray
from xdsl.ir import Block

from npu_dialect import dtypes
from npu_dialect.dtypes import DType
from npu_dialect.frontends.onnx.builder import Builder as GraphBuilder
from npu_dialect.frontends.torch.package import torch


@dataclass(frozen=True)
class Spec:
    """The type of a tensor."""

    shape: tuple[int, ...]
    dtype: DType
    is_complex: bool = False
    """Whether it is a pair of such tensors."""


class Builder(GraphBuilder):
    """Appends graph ops on behalf of one node of an exported program at a time."""

    def __init__(self, block: Block) -> None:
        super().__init__(block)
        self.results: Sequence[Spec | None] = ()
        """What torch says the results of the current node are."""

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the node's first result."""
        return self._first.shape

    @property
    def dtype(self) -> DType:
        """The storage type of the node's first result."""
        return self._first.dtype

    @property
    def _first(self) -> Spec:
        spec = self.results[0]
        assert spec is not None
        return spec


def dtype_of(kind: Any) -> DType | None:
    """The storage type of a `torch.dtype`, None for one that tensors here cannot have.

    That of a complex tensor is the type of its parts.
    """
    name = str(kind).removeprefix("torch.")
    return _BY_TORCH.get(name)


_BY_TORCH = {
    "float32": dtypes.f32, "float64": dtypes.f64, "float16": dtypes.f16, "bfloat16": dtypes.bf16,
    "int8": dtypes.i8, "uint8": dtypes.u8, "int16": dtypes.i16, "uint16": dtypes.u16,
    "int32": dtypes.i32, "int64": dtypes.i64, "bool": dtypes.bool_, "complex64": dtypes.f32,
}  # fmt: skip


def array_of(tensor: Any) -> NDArray[Any]:
    """The values of a torch tensor."""
    plain = tensor.detach().cpu().contiguous()
    if plain.dtype == torch().bfloat16:
        return plain.view(torch().int16).numpy().view(ml_dtypes.bfloat16)
    return np.ascontiguousarray(plain.numpy()).reshape(tuple(plain.shape))
