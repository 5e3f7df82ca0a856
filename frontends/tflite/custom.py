"""Custom operators: a user's lowering to `graph` (`user_lowerings.py`), or else a numpy function
of the user's (`graph/custom.py`), which the host runs; or one of `LOWERINGS`. What has none of
them is refused.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

from xdsl.dialects.builtin import TensorType
from xdsl.ir import SSAValue

from npu_dialect import graph
from npu_dialect.diagnostics import Code
from npu_dialect.frontends.onnx.builder import dtype_of, element_of, shape_of
from npu_dialect.frontends.onnx.errors import Misfit, refuse
from npu_dialect.frontends.tflite.builder import Builder
from npu_dialect.frontends.tflite.model import Operator, Tensor
from npu_dialect.frontends.tflite.ops import transposed
from npu_dialect.frontends.tflite.user_lowerings import TABLE
from npu_dialect.functional import detection
from npu_dialect.graph import custom
from npu_dialect.graph.quant import QuantType

Shapes = Callable[[Mapping[str, Any]], Sequence[tuple[int, ...]]]

SHAPES: dict[str, Shapes] = {"TFLite_Detection_PostProcess": detection.shapes}
"""Operators whose results have the shapes that options say, whatever the file states."""

LOWERINGS: Mapping[str, Callable[..., SSAValue]] = {
    "Convolution2DTransposeBias": transposed.with_bias
}
"""Operators of MediaPipe, which are expressible in graph. A user's function comes before."""

FLEX = "Flex"
"""What the names of TensorFlow's operators begin with, which a converter took over as they are."""


def call(b: Builder, node: Operator, values: Sequence[SSAValue | None]) -> list[SSAValue]:
    """The results of a custom operator. Raises CompileError (NPU0109) without a function."""
    is_ours = node.name in LOWERINGS and node.name not in custom.TABLE
    if node.name not in TABLE and node.name not in custom.TABLE and not is_ours:
        raise _unknown(b, node.name)
    about = custom.Call(
        node.name,
        tuple(None if value is None else _operand(value) for value in values),
        tuple(map(_result, b.results)),
        options(node.custom_options),
        node.custom_options,
    )
    if node.name in TABLE or is_ours:
        found = {**LOWERINGS, **TABLE}[node.name](b, about, *values)
        return cast("list[SSAValue]", found) if isinstance(found, list) else [found]
    return _hosted(b, about, [value for value in values if value is not None])


def _hosted(b: Builder, about: custom.Call, values: Sequence[SSAValue]) -> list[SSAValue]:
    kinds = [TensorType(tensor.element, tensor.shape) for tensor in b.results]
    if about.name in SHAPES:
        shapes = SHAPES[about.name](about.options)
        if len(shapes) != len(kinds):
            raise Misfit(f"{len(kinds)} results")
        pairs = zip(kinds, shapes, strict=True)
        kinds = [TensorType(kind.get_element_type(), shape) for kind, shape in pairs]
    payload = custom.payload(about)
    op = graph.OpaqueOp(values, kinds, custom.DOMAIN, about.name, payload, "a custom operator")
    b.insert(op)
    return list(op.results)


def _unknown(b: Builder, name: str) -> Exception:
    remedy = f'npu.custom_op("{name}") with a function of numpy (--custom FILE.py)'
    if name.startswith(FLEX):
        remedy = f"a conversion without SELECT_TF_OPS, or {remedy}"
    rule = "a custom operator must have a function that says what it computes"
    return refuse(Code.OPERATOR_UNSUPPORTED, b.source, rule, name, remedy)


def options(data: bytes) -> Mapping[str, Any]:
    """The options, if they are a flexbuffer of a map; none for what is not."""
    flexbuffers: Any = importlib.import_module("flatbuffers.flexbuffers")
    try:
        found: Any = flexbuffers.Loads(data) if data else {}
    except Exception:  # whatever the package raises for bytes in another format
        return {}
    return cast("Mapping[str, Any]", found) if _is_plain(found, dict) else {}


def _is_plain(found: Any, *kinds: type) -> bool:
    """Whether something can be JSON."""
    if isinstance(found, dict):
        entries = cast("dict[Any, Any]", found)
        return all(isinstance(k, str) and _is_plain(v) for k, v in entries.items())
    if isinstance(found, list):
        return not kinds and all(map(_is_plain, cast("list[Any]", found)))
    return not kinds and (found is None or isinstance(found, bool | int | float | str))


def _operand(value: SSAValue) -> custom.Operand:
    return _about(shape_of(value), dtype_of(value).numpy.name, element_of(value))


def _result(tensor: Tensor) -> custom.Operand:
    return _about(tensor.shape, tensor.dtype.numpy.name, tensor.element)


def _about(shape: tuple[int, ...], dtype: str, element: Any) -> custom.Operand:
    if not isinstance(element, QuantType) or element.axis is not None:
        return custom.Operand(shape, dtype)
    return custom.Operand(shape, dtype, float(element.scales[0]), element.zero_point)
