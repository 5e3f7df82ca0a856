"""The types of a quantized model's tensors by node, as metadata of its program.

Instructions know integers, not what they mean; `npu-run --compare` compares them with floats.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

from xdsl.dialects.builtin import DictionaryAttr, ModuleOp, StringAttr, UnitAttr
from xdsl.dialects.func import FuncOp
from xdsl.ir import Attribute

from npu_dialect import dtypes, graph, provenance
from npu_dialect.bound import METADATA
from npu_dialect.graph.base import quant_of
from npu_dialect.graph.quant import QuantType, uniform

QUANTIZED = "npu.quantized"
"""On a module: graph-quantize made integers of it."""
KEY = "types."
"""What stands before a function's name in the metadata."""


def mark(module: ModuleOp) -> None:
    """Note that a module was quantized here."""
    module.attributes[QUANTIZED] = UnitAttr()


def record(module: ModuleOp) -> None:
    """Write the types of the tensors of a module at level graph, if it was quantized here."""
    if QUANTIZED not in module.attributes:
        return
    for function in module.ops:
        if isinstance(function, FuncOp) and not function.is_declaration:
            before = function.attributes.get(METADATA)
            kept: Mapping[str, Attribute] = (
                before.data if isinstance(before, DictionaryAttr) else {}
            )
            text = StringAttr(json.dumps(_types(function)))
            key = KEY + function.sym_name.data
            function.attributes[METADATA] = DictionaryAttr({**kept, key: text})


def _types(function: FuncOp) -> dict[str, tuple[str, float, int]]:
    """Storage type, scale and zero point by node, of tensors with one scale."""
    found: dict[str, tuple[str, float, int]] = {}
    for op in function.walk():
        names = provenance.sources(op)
        quant = quant_of(op.results[0]) if isinstance(op, graph.GraphOp) and op.results else None
        if names and quant is not None and quant.axis is None:
            found[names[-1]] = (quant.storage_dtype.name, float(quant.scale), quant.zero_point)
    return found


def of_metadata(metadata: Mapping[str, str], entry: str = "main") -> dict[str, QuantType]:
    """The types by node of an entry of a program; none for one that was not quantized here."""
    rows = json.loads(metadata.get(KEY + entry, "{}"))
    return {
        name: uniform(dtypes.BY_NAME[dtype], scale, zero)
        for name, (dtype, scale, zero) in rows.items()
    }
