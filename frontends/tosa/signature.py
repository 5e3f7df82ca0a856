"""Names and quantizations of a function's inputs and outputs.

    func.func @main(%x: tensor<1x8xi8> {tosa.tensor_name = "x", npu.quantized = "i8:f32, 0.05:-3"})

Else the names are those of `tf.entry_function`, or of the arguments in the text.
"""

from __future__ import annotations

from typing import Any

from xdsl.context import Context
from xdsl.dialects.builtin import ArrayAttr, Builtin, DictionaryAttr, StringAttr
from xdsl.dialects.func import FuncOp, ReturnOp
from xdsl.ir import Attribute, SSAValue
from xdsl.parser import Parser
from xdsl.utils.exceptions import ParseError

from npu_dialect import dtypes
from npu_dialect.diagnostics import Code
from npu_dialect.frontends.onnx.errors import refuse
from npu_dialect.graph.quant import Quant, QuantType, uniform

NAME, QUANTIZED, ENTRY = "tosa.tensor_name", "npu.quantized", "tf.entry_function"


class Signature:
    """What a function says of its arguments and results."""

    def __init__(self, function: FuncOp, file: str) -> None:
        self.file = file
        last = function.body.block.last_op
        results = list(last.operands) if isinstance(last, ReturnOp) else []
        arguments = list(function.args)
        inputs, outputs = _tags(function.arg_attrs), _tags(function.res_attrs)
        hints = [a.name_hint or f"arg{k}" for k, a in enumerate(arguments)]
        plain = [f"output{k}" if len(results) > 1 else "output" for k in range(len(results))]
        self.inputs = _names(inputs, _entry(function, "inputs"), hints)
        self.outputs = _names(outputs, _entry(function, "outputs"), plain)
        self.quants: dict[SSAValue, QuantType] = {}
        for values, tags in ((arguments, inputs), (results, outputs)):
            for value, tag in zip(values, tags, strict=False):
                quant = self._quant(tag.get(QUANTIZED))
                if quant is not None:
                    self.quants.setdefault(value, quant)

    def _quant(self, text: Attribute | None) -> QuantType | None:
        if text is None:
            return None
        if isinstance(text, StringAttr) and text.data in ("u8", "u16"):
            return uniform(dtypes.BY_NAME[text.data], 1.0)
        try:
            assert isinstance(text, StringAttr)
            return _parsed(text.data)
        except (ParseError, AssertionError, ValueError):
            rule = f"{QUANTIZED} must be what stands in !quant.uniform<...>"
            raise refuse(Code.MODEL_MALFORMED, self.file, rule, str(text)) from None


def _parsed(text: str) -> QuantType:
    context = Context()
    context.load_dialect(Builtin)
    context.load_dialect(Quant)
    found = Parser(context, f"!quant.uniform<{text}>").parse_type()
    assert isinstance(found, QuantType)
    return found


def _tags(attribute: Any) -> list[dict[str, Attribute]]:
    if not isinstance(attribute, ArrayAttr):
        return []
    return [
        dict(item.data) if isinstance(item, DictionaryAttr) else {}
        for item in attribute.data  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
    ]


def _entry(function: FuncOp, key: str) -> list[str]:
    found = function.attributes.get(ENTRY)
    text = found.data.get(key) if isinstance(found, DictionaryAttr) else None
    return text.data.split(",") if isinstance(text, StringAttr) else []


def _names(tags: list[dict[str, Attribute]], entry: list[str], plain: list[str]) -> list[str]:
    """A name for each, each once."""
    found: list[str] = []
    for k, name in enumerate(plain):
        tag = tags[k].get(NAME) if k < len(tags) else None
        if isinstance(tag, StringAttr):
            name = tag.data
        elif len(entry) == len(plain):
            name = entry[k]
        found.append(name if name not in found else f"{name}.{k}")
    return found
