"""The functions that `npu.host` calls: graph operations, kept in a program as text and evaluated on
the host.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property, partial
from typing import Any, cast

import numpy as np
from xdsl.context import Context
from xdsl.dialects.builtin import Builtin, ModuleOp, TensorType
from xdsl.dialects.func import Func, FuncOp
from xdsl.ir import Attribute
from xdsl.utils.exceptions import ParseError, VerifyException

from npu_dialect import blob, dtypes
from npu_dialect.kernel import Kernel, Step
from npu_dialect.machine import Array, HostFunction
from npu_dialect.parser import Utf8Parser
from npu_dialect.runtime.container import malformed
from npu_dialect.runtime.program import HostCode


def graph_context() -> Context:
    """A context that reads functions of graph operations and the types of a program's inputs and
    outputs.
    """
    from npu_dialect.graph import Graph
    from npu_dialect.graph.quant import Quant

    context = Context()
    for dialect in (Builtin, Func, Graph, Quant):
        context.load_dialect(dialect)
    return context


def parse_type(text: str) -> Attribute:
    """The tensor type that `text` spells."""
    return Utf8Parser(graph_context(), text).parse_type()


def functions(code: HostCode) -> Mapping[int, HostFunction]:
    """The host functions of a program by number; their text is parsed when one is first called."""
    library = _Library(code)
    return {number: partial(library.call, name) for number, name in enumerate(code.names)}


def parse(code: HostCode) -> ModuleOp:
    """The module of a program's host functions. Raises CompileError (NPU0401)."""
    try:
        with blob.blobs_from(code.blobs):
            return Utf8Parser(graph_context(), code.text).parse_module()
    except (ParseError, VerifyException) as problem:
        raise malformed("program", f"host functions that do not parse: {problem}") from problem


def kernels(code: HostCode) -> Mapping[int, Kernel]:
    """The host functions that one kernel can do on every element, by number: quantization and
    dequantization by one scale.
    """
    if not code.names:
        return {}
    library = _Library(code).functions
    found = {n: _kernel(library[name]) for n, name in enumerate(code.names)}
    return {number: kernel for number, kernel in found.items() if kernel}


def _kernel(function: FuncOp) -> Kernel | None:
    from npu_dialect.graph.base import dtype_of, quant_of
    from npu_dialect.graph.quantization import DequantizeOp, QuantizeOp

    op, *rest = function.body.block.ops
    if len(rest) != 1 or not isinstance(op, QuantizeOp | DequantizeOp):
        return None
    found = quant_of(op.result if isinstance(op, QuantizeOp) else op.x)
    if found is None or found.axis is not None:
        return None
    storage, scale, zero = found.storage_dtype, found.scale, found.zero_point
    if isinstance(op, DequantizeOp):
        step = Step("dequantize", (0,), (scale, zero))
        return Kernel((storage,), (), (step,), dtypes.f32)
    step = Step("quantize", (0,), (scale, zero, found.low, found.high))
    return Kernel((dtype_of(op.x),), (), (step,), storage)


class _Library:
    """The parsed functions of a program."""

    def __init__(self, code: HostCode) -> None:
        self.code = code

    @cached_property
    def functions(self) -> dict[str, FuncOp]:
        ops = parse(self.code).body.ops
        return {op.sym_name.data: op for op in ops if isinstance(op, FuncOp)}

    def call(self, name: str, inputs: Sequence[Array]) -> Sequence[Array]:
        """Evaluates a function; `inputs` get the shapes of its arguments (operands have rank 5 at
        most).
        """
        from npu_dialect.graph import interpret

        function = self.functions[name]
        shapes = [_shape(t) for t in function.function_type.inputs]
        shaped = [np.reshape(a, s) for a, s in zip(inputs, shapes, strict=True)]
        return interpret.run(function, shaped)


def _shape(type_: Attribute) -> tuple[int, ...]:
    return cast(TensorType[Any], type_).get_shape()
