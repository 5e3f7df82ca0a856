"""Operands that a model computes at run time and yet states, by the shape of a result.

    one_hot = OneHot(indices, depth, values)      // declared tensor<3x12xf32>

has depth 12 whatever computes `depth`: any other value would contradict the declaration.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from onnx import NodeProto
from xdsl.dialects.builtin import TensorType
from xdsl.ir import SSAValue

from npu_dialect.frontends.onnx.builder import Builder, dtype_of

Shape = Sequence[int]
Statement = Callable[[NodeProto, Shape], NDArray[np.generic]]
"""The values of an operand, from the shape of the first result."""


def complete(
    b: Builder,
    node: NodeProto,
    values: Sequence[SSAValue | None],
    declared: Mapping[str, TensorType],
) -> list[SSAValue | None]:
    """The operands, with constants for those of `STATED` that are computed at run time."""
    result = list(values)
    position, statement = STATED.get((node.domain, node.op_type), (len(result), _depth))
    known = declared.get(node.output[0]) if node.output else None
    value = result[position] if position < len(result) else None
    if known is not None and value is not None and b.array(value) is None:
        array = statement(node, known.get_shape()).astype(dtype_of(value).numpy)
        result[position] = b.constant(array)
    return result


def _depth(node: NodeProto, shape: Shape) -> NDArray[np.generic]:
    """The size of the axis that a OneHot adds."""
    axis = next((a.i for a in node.attribute if a.name == "axis"), -1)
    fits = -len(shape) <= axis < len(shape)
    return np.array(shape[axis] if fits else 0)


STATED: Mapping[tuple[str, str], tuple[int, Statement]] = {("", "OneHot"): (1, _depth)}
"""By operator, which operand, and how the shape states it."""
