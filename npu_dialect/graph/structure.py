"""Constants, groups (what becomes one nest) and operations that graph cannot express."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
from xdsl.dialects.builtin import LocationAttr, StringAttr, TensorType
from xdsl.ir import Operation, Region, SSAValue
from xdsl.irdl import (
    irdl_op_definition,
    lazy_traits_def,
    opt_prop_def,
    prop_def,
    region_def,
    traits_def,
    var_operand_def,
    var_result_def,
)
from xdsl.traits import HasParent, IsolatedFromAbove, IsTerminator, Pure

from npu_dialect import dtypes
from npu_dialect.blob import BlobAttr
from npu_dialect.diagnostics import Code, CompileError, error
from npu_dialect.graph import references
from npu_dialect.graph.attributes import string
from npu_dialect.graph.base import (
    Array,
    DeclaredOp,
    GraphOp,
    Properties,
    Tensor,
    Types,
    Value,
    dtype_of,
    shape_of,
    tensor_type,
    type_of,
)
from npu_dialect.graph.verified import VerifiedOnce


@irdl_op_definition
class ConstantOp(DeclaredOp):
    """An array that is part of the model, in storage values.

    `%0 = graph.constant {value = #graph.blob<f32, [2], [1.0, -0.5]>} : () -> tensor<2xf32>`
    """

    name = "graph.constant"

    value = prop_def(BlobAttr)

    def __init__(
        self,
        value: npt.ArrayLike | BlobAttr,
        type: Tensor | None = None,
        location: LocationAttr | None = None,
    ) -> None:
        """`type` is needed for quantized elements; by default it follows from the array."""
        blob = value if isinstance(value, BlobAttr) else BlobAttr.of(value)
        plain = tensor_type(blob.data.shape, dtypes.element_type(blob.data.dtype))
        self._init([], {"value": blob}, type or plain, location)

    @classmethod
    def check(cls, types: Types, properties: Properties, result: Tensor) -> None:
        value = properties["value"]
        assert isinstance(value, BlobAttr)
        blob = value.data
        if blob.shape != result.get_shape() or blob.dtype != dtype_of(result):
            raise ValueError(
                f"the type must have the shape {list(blob.shape)} and the storage {blob.dtype} of "
                f"the value; found {result}"
            )

    @property
    def array(self) -> Array:
        """The elements, read-only."""
        return self.value.array

    def evaluate(self, *operands: Array) -> tuple[Array, ...]:
        return (self.value.array,)


@irdl_op_definition
class YieldOp(VerifiedOnce):
    """The results of a group.

    `graph.yield %0, %1 : tensor<4xf32>, tensor<4xf32>`
    """

    name = "graph.yield"

    results_of_group = var_operand_def(TensorType)

    traits = lazy_traits_def(lambda: (IsTerminator(), Pure(), HasParent(GroupOp)))

    assembly_format = "attr-dict ($results_of_group^ `:` type($results_of_group))?"

    def __init__(self, *results: Value) -> None:
        Operation.__init__(self, operands=[SSAValue.get(v) for v in results])


@irdl_op_definition
class GroupOp(GraphOp):
    """Operations that become one fused nest, or one task of the host.

    The block arguments are the operands.

    ```
    %2 = graph.group %0, %1 {kind = "array"} {
    ^bb0(%a: tensor<4xf32>, %b: tensor<4xf32>):
      %c = graph.add %a, %b : (tensor<4xf32>, tensor<4xf32>) -> tensor<4xf32>
      graph.yield %c : tensor<4xf32>
    } : (tensor<4xf32>, tensor<4xf32>) -> tensor<4xf32>
    ```
    """

    name = "graph.group"
    KINDS: ClassVar[tuple[str, ...]] = ("array", "vector", "move", "host", "io")

    inputs = var_operand_def(TensorType)
    outputs = var_result_def(TensorType)
    kind = prop_def(StringAttr)
    body = region_def("single_block")

    traits = traits_def(IsolatedFromAbove())

    def __init__(
        self,
        inputs: Sequence[Value],
        body: Region,
        kind: str,
        location: LocationAttr | None = None,
    ) -> None:
        """`body` has one block with an argument per input; its `graph.yield` gives the results."""
        last = body.block.last_op
        if not isinstance(last, YieldOp):
            raise ValueError(f"{self.name}: the body must end with graph.yield; found {last}")
        types = [type_of(v) for v in last.operands]
        operands = [SSAValue.get(v) for v in inputs]
        self._setup(operands, {"kind": string(kind)}, types, location, [body])
        try:
            self.check_types()
        except ValueError as error:
            raise ValueError(f"{self.name}: {error}") from error

    def check_types(self) -> None:
        if self.kind.data not in self.KINDS:
            raise ValueError(
                f"the kind must be one of {', '.join(self.KINDS)}; found {self.kind.data}"
            )
        block = self.body.block
        _check_same("the block arguments", "the operands", block.arg_types, self.operand_types)
        for op in block.ops:
            if not isinstance(op, GraphOp | YieldOp):
                raise ValueError(f"the body must hold operations of graph; found {op.name}")
        if not isinstance(block.last_op, YieldOp):
            raise ValueError("the body must end with graph.yield; found none")
        _check_same(
            "the yielded values", "the results", block.last_op.operand_types, self.result_types
        )

    @property
    def operations(self) -> list[GraphOp]:
        """The operations of the body, without the yield."""
        return [op for op in self.body.block.ops if isinstance(op, GraphOp)]

    @property
    def yielded(self) -> tuple[SSAValue, ...]:
        """The values of the body that the results are."""
        last = self.body.block.last_op
        assert last is not None
        return tuple(last.operands)

    def evaluate(self, *operands: Array) -> tuple[Array, ...]:
        from npu_dialect.graph.interpret import run_block

        return tuple(run_block(self.body.block, operands))


def _check_same(what: str, other: str, found: Sequence[Any], expected: Sequence[Any]) -> None:
    if tuple(found) != tuple(expected):
        texts = [", ".join(map(str, types)) for types in (expected, found)]
        raise ValueError(f"{what} must have the types of {other} ({texts[0]}); found {texts[1]}")


@irdl_op_definition
class OpaqueOp(GraphOp):
    """An operation that graph cannot express, run on the host by its format's own reference.

    `payload` is the bytes of an ONNX ModelProto with that one node (its inputs are the operands in
    order, its outputs the results), or what `npu_dialect/graph/references.py` says for the domain.

    `%1 = graph.opaque %0
    {domain = "", op_type = "Det", payload = #graph.blob<u8, [4], [8, 8, 18, 0]>}
    : (tensor<2x2xf32>) -> tensor<f32>`
    """

    name = "graph.opaque"

    inputs = var_operand_def(TensorType)
    outputs = var_result_def(TensorType)
    domain = prop_def(StringAttr)
    op_type = prop_def(StringAttr)
    payload = prop_def(BlobAttr)
    reason = opt_prop_def(StringAttr)

    def __init__(
        self,
        inputs: Sequence[Value],
        result_types: Sequence[Tensor],
        domain: str,
        op_type: str,
        payload: bytes,
        reason: str | None = None,
        location: LocationAttr | None = None,
    ) -> None:
        """`reason` says why graph cannot express the operation, for the report."""
        properties = {
            "domain": string(domain),
            "op_type": string(op_type),
            "payload": BlobAttr.of(np.frombuffer(payload, np.uint8)),
        }
        if reason is not None:
            properties["reason"] = string(reason)
        self._setup([SSAValue.get(v) for v in inputs], properties, result_types, location)

    def check_types(self) -> None:
        blob = self.payload.data
        if blob.dtype is not dtypes.u8 or len(blob.shape) != 1:
            raise ValueError(f"the payload must be a list of u8; found {blob}")

    def evaluate(self, *operands: Array) -> tuple[Array, ...]:
        payload = self.payload.data.array.tobytes()
        try:
            found = references.run(self.domain.data, self.op_type.data, payload, operands)
            return tuple(_typed(a, r) for a, r in zip(found, self.outputs, strict=True))
        except CompileError:
            raise
        except Exception as problem:  # whatever the reference raises: it is not ours
            raise error(
                Code.EXECUTION,
                f"the reference of {self.op_type.data} must be able to run it on these values",
                found=f"{type(problem).__name__}: {problem}",
                source=self,
            ) from problem


def _typed(found: Any, result: SSAValue) -> Array:
    array = np.asarray(found)
    if array.shape != shape_of(result) or array.dtype != dtype_of(result).numpy:
        raise ValueError(
            f"a result of {array.dtype} {list(array.shape)}, where {result.type} is stated"
        )
    return np.ascontiguousarray(array).reshape(array.shape)


OPS = [ConstantOp, GroupOp, YieldOp, OpaqueOp]
