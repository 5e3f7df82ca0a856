"""Loops of the host: `graph.opaque` whose payload has the text of two functions.

    func.func @condition(%i: tensor<i32>, %x: tensor<4xf32>) -> tensor<1xi1> { ... }
    func.func @body(%i: tensor<i32>, %x: tensor<4xf32>) -> (tensor<i32>, tensor<4xf32>) { ... }

While the condition holds of the values, they become what the body makes of them. The operands are a
truth value, if there is one more than the functions take (without it, no step is done), the values,
and the constants that are too large for text: those of the condition, then those of the body. Other
arrays that the text names by digest (tables, payloads) are in the payload, which is JSON.
"""

from __future__ import annotations

import json
from base64 import b64decode, b64encode
from collections.abc import Sequence
from functools import lru_cache
from io import StringIO
from typing import Any

import numpy as np
from xdsl.context import Context
from xdsl.dialects.builtin import Builtin, ModuleOp, StringAttr
from xdsl.dialects.func import Func, FuncOp
from xdsl.printer import Printer

from npu_dialect import blob
from npu_dialect.graph import interpret
from npu_dialect.graph.base import Array
from npu_dialect.graph.references import LOOP
from npu_dialect.graph.structure import ConstantOp
from npu_dialect.parser import Utf8Parser

DOMAIN = LOOP
CONDITION, BODY = "condition", "body"

MAX_STEPS = 100_000
"""A loop that does more steps is taken for one without end."""


def payload(condition: FuncOp, body: FuncOp) -> tuple[bytes, list[ConstantOp]]:
    """The payload of a loop, and the constants that become operands after the values."""
    constants = [op for function in (condition, body) for op in _taken_out(function)]
    condition.properties["sym_name"] = StringAttr(CONDITION)
    body.properties["sym_name"] = StringAttr(BODY)
    stream, module = StringIO(), ModuleOp([condition, body])
    Printer(stream=stream).print_op(module)
    blobs = {name: _encoded(a) for name, a in blob.collect_blobs(module).items()}
    found = {"text": stream.getvalue(), "blobs": blobs}
    return json.dumps(found, sort_keys=True).encode(), constants


def _encoded(array: Array) -> str:
    return b64encode(np.ascontiguousarray(array).tobytes()).decode()


def _taken_out(function: FuncOp) -> list[ConstantOp]:
    """Make arguments of the large constants of a function."""
    block, found = function.body.block, list[ConstantOp]()
    for op in list(block.ops):
        if isinstance(op, ConstantOp) and not op.value.data.is_inline:
            op.results[0].replace_all_uses_with(
                block.insert_arg(op.results[0].type, len(block.args))
            )
            op.detach()
            found.append(op)
    function.update_function_type()
    return found


@lru_cache(maxsize=64)
def functions(text: bytes) -> tuple[FuncOp, FuncOp]:
    """The condition and the body of a payload."""
    from npu_dialect.graph import Graph
    from npu_dialect.graph.quant import Quant

    context = Context()
    for dialect in (Builtin, Func, Graph, Quant):
        context.load_dialect(dialect)
    found = json.loads(text)
    blobs = {name: np.frombuffer(b64decode(a), np.uint8) for name, a in found["blobs"].items()}
    with blob.blobs_from(blobs):
        module = Utf8Parser(context, found["text"]).parse_module()
    return interpret.find(module, CONDITION), interpret.find(module, BODY)


def run(op_type: str, text: bytes, operands: Sequence[Array]) -> Sequence[Any]:
    """The values after the last step. Raises ValueError for a loop without end."""
    condition, body = functions(text)
    count = len(body.function_type.outputs)
    first = len(condition.body.block.args)
    used = first + len(body.body.block.args) - count
    if len(operands) > used and not operands[0].any():
        return operands[1 : 1 + count]
    operands = operands[len(operands) - used :]
    values = list(operands[:count])
    for _ in range(MAX_STEPS):
        if not interpret.run(condition, [*values, *operands[count:first]])[0].any():
            return values
        values = interpret.run(body, [*values, *operands[first:]])
    raise ValueError(f"a {op_type} must end; found more than {MAX_STEPS} steps")
