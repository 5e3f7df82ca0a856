"""The references of opaque operations: how a format's own package computes one of its operations.

A payload is self-contained and plain data. That of ONNX's domains is a ModelProto of one node. That
of `aten` is JSON: the arguments of the operator by the names of its schema, in which
`{"operand": k}` is operand k, `{"dtype": "float32"}` a type of torch, and `{"number": "inf"}` what
JSON lacks. That of `npu.loop` is the text of two functions
(`loops.py`), that of `custom` says what a function of the user's needs (`custom.py`).

    {"self": {"operand": 0}, "some": false}
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Reference = Callable[[str, bytes, Sequence[Array]], Sequence[Any]]
"""Computes an operation, given its name, payload and operands."""

ATEN = "aten"
LOOP = "npu.loop"
CUSTOM = "custom"


def run(domain: str, op_type: str, payload: bytes, operands: Sequence[Array]) -> Sequence[Any]:
    """The results of an operation; raises whatever the reference does."""
    return BY_DOMAIN.get(domain, run_onnx)(op_type, payload, operands)


def run_onnx(op_type: str, payload: bytes, operands: Sequence[Array]) -> Sequence[Any]:
    """A model of one node, by ONNX's reference evaluator."""
    from onnx import ModelProto
    from onnx.reference import ReferenceEvaluator

    model = ModelProto.FromString(payload)
    names = [value.name for value in model.graph.input]
    evaluator: Any = ReferenceEvaluator(model)
    return evaluator.run(None, dict(zip(names, operands, strict=True)))


def run_aten(op_type: str, payload: bytes, operands: Sequence[Array]) -> Sequence[Any]:
    """An operator of ATen (`linalg_svd.default`), by torch."""
    torch: Any = importlib.import_module("torch")
    packet, _, overload = op_type.partition(".")
    operator = getattr(getattr(torch.ops.aten, packet), overload)
    if operator._schema.is_mutable:
        raise ValueError(f"aten.{op_type} writes to its operands")
    tensors = [_to_torch(torch, array) for array in operands]
    arguments = _filled(torch, json.loads(payload), tensors)
    with torch.no_grad():
        found = operator(**arguments)
    values = cast("Sequence[Any]", found if isinstance(found, list | tuple) else [found])
    return [_to_numpy(torch, v) for v in values]


def _filled(torch: Any, tree: Any, tensors: Sequence[Any]) -> Any:
    """JSON with operands and types put in."""
    if isinstance(tree, list):
        return [_filled(torch, v, tensors) for v in cast("list[Any]", tree)]
    if not isinstance(tree, dict):
        return tree
    entries = cast("Mapping[str, Any]", tree)
    match entries:
        case {"operand": int(k)}:
            return tensors[k]
        case {"dtype": str(name)}:
            return getattr(torch, name)
        case {"number": str(text)}:
            return float(text)
        case _:
            return {name: _filled(torch, v, tensors) for name, v in entries.items()}


def _to_torch(torch: Any, array: Array) -> Any:
    array = np.array(array)  # its own memory, which may be written to
    if array.dtype == ml_dtypes.bfloat16:
        return torch.from_numpy(array.view(np.int16)).view(torch.bfloat16)
    return torch.from_numpy(array)


def _to_numpy(torch: Any, tensor: Any) -> Array:
    plain = tensor.detach().contiguous()
    if plain.dtype == torch.bfloat16:
        return plain.view(torch.int16).numpy().view(ml_dtypes.bfloat16)
    return plain.numpy()


def run_loop(op_type: str, payload: bytes, operands: Sequence[Array]) -> Sequence[Any]:
    """A loop whose number of steps is known at run time only; see `npu_dialect.graph.loops`."""
    from npu_dialect.graph import loops

    return loops.run(op_type, payload, operands)


def run_custom(op_type: str, payload: bytes, operands: Sequence[Array]) -> Sequence[Any]:
    """A function of the user's; see `npu_dialect.graph.custom`."""
    from npu_dialect.graph import custom

    return custom.run(op_type, payload, operands)


BY_DOMAIN: dict[str, Reference] = {ATEN: run_aten, LOOP: run_loop, CUSTOM: run_custom}
"""The references other than ONNX's, by domain."""
