"""What an importer works with: the builder of graph ops, and what the node's results must be."""

from __future__ import annotations

from collections.abc import Sequence

from xdsl.ir import Attribute, Block, SSAValue

from npu_dialect.dtypes import DType
from npu_dialect.frontends.onnx.builder import Builder as GraphBuilder
from npu_dialect.frontends.onnx.errors import NotExpressible
from npu_dialect.frontends.tflite.model import Tensor
from npu_dialect.graph.quant import QuantType


class Builder(GraphBuilder):
    """Appends graph ops on behalf of one operator of a model at a time."""

    def __init__(self, block: Block) -> None:
        super().__init__(block)
        self.results: Sequence[Tensor] = ()
        """What the model says the results of the current operator are."""
        self.operands: Sequence[Tensor | None] = ()
        """What the model says its inputs are; None for one that is left out."""
        self.intermediates: Sequence[Tensor] = ()
        """What the model says of values inside of it, that only have quantizations."""
        self.updates: Sequence[tuple[SSAValue, SSAValue]] = ()
        """The variable tensors that the current operator writes: before and after."""

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the first result."""
        return self.results[0].shape

    @property
    def dtype(self) -> DType:
        """The storage type of the first result."""
        return self.results[0].dtype

    @property
    def element(self) -> Attribute:
        """The element type of the first result."""
        return self.results[0].element

    @property
    def quant(self) -> QuantType:
        """The quantized element type of the first result; NotExpressible without."""
        found = self.results[0].quant
        if found is None or found.axis is not None:
            raise NotExpressible(f"a result of type {self.element}")
        return found
