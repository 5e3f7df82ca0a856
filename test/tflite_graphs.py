"""TFLite models of several subgraphs, written tensor by tensor and operator by operator.

    m = Models()
    main, body = m.graph("main"), m.graph("body")
    x = main.input((4,), "float32")
    main.op("CALL", [x], [main.output((4,), "float32")], "CallOptions", subgraph=body.number)

Needs ai-edge-litert, whose object API of the schema writes the files.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from typing import Any

import numpy as np
from tflite_models import Array, Tensor, schema, set_options, written


class Graph:
    """A subgraph; tensors are known by their numbers."""

    def __init__(self, models: Models, name: str, made: Any = None) -> None:
        self.models, self.number = models, len(models.found.subgraphs)
        self.made: Any = made or schema().SubGraphT()
        self.made.name = name
        if made is None:
            self.made.tensors, self.made.operators = [], []
            self.made.inputs, self.made.outputs = [], []
        models.found.subgraphs.append(self.made)

    def copy(self, other: Graph, tensor: int) -> int:
        """A tensor as one of another subgraph is."""
        made = deepcopy(other.made.tensors[tensor])
        made.name, made.buffer = f"t{len(self.made.tensors)}", 0
        self.made.tensors.append(made)
        return len(self.made.tensors) - 1

    def tensor(self, shape: Sequence[int], dtype: str = "int8", **more: Any) -> int:
        """A tensor that an operator computes, or a constant with `values`."""
        number = len(self.made.tensors)
        name = more.pop("name", f"t{number}")
        given = Tensor(shape, dtype, **more)
        self.made.tensors.append(written(self.models.found, given, name))
        return number

    def constant(self, values: Any, dtype: str = "int32", **more: Any) -> int:
        array = np.asarray(values, dtype)
        return self.tensor(array.shape, dtype, values=array, **more)

    def handle(self) -> int:
        """A tensor that means a variable."""
        number = self.tensor((), "int32")
        self.made.tensors[number].type = schema().TensorType.RESOURCE
        return number

    def input(self, shape: Sequence[int], dtype: str = "int8", **more: Any) -> int:
        self.made.inputs.append(self.tensor(shape, dtype, **more))
        return self.made.inputs[-1]

    def output(self, shape: Sequence[int], dtype: str = "int8", **more: Any) -> int:
        self.returns(self.tensor(shape, dtype, **more))
        return self.made.outputs[-1]

    def takes(self, *tensors: int) -> None:
        self.made.inputs = [*self.made.inputs, *tensors]

    def returns(self, *tensors: int) -> None:
        self.made.outputs += tensors

    def op(
        self,
        code: str,
        inputs: Sequence[int],
        outputs: Sequence[int],
        options: str = "",
        **fields: Any,
    ) -> int:
        """An operator; its first result."""
        node = schema().OperatorT()
        node.inputs, node.outputs = list(inputs), list(outputs)
        node.opcodeIndex = self.models.code(code)
        set_options(node, options, fields)
        if not options and "custom" in fields:
            node.customOptions = list(fields["custom"])
        self.made.operators.append(node)
        return outputs[0] if outputs else -1

    def variable(self, name: str) -> int:
        """The handle of a variable."""
        return self.op("VAR_HANDLE", [], [self.handle()], "VarHandleOptions", sharedName=name)

    def binary(
        self, code: str, x: int, y: int, dtype: str, shape: Sequence[int], **more: Any
    ) -> int:
        """An operator of two operands, without options."""
        options = {"ADD": "AddOptions", "SUB": "SubOptions", "MUL": "MulOptions"}.get(code, "")
        return self.op(code, [x, y], [self.tensor(shape, dtype, **more)], options)


class Models:
    """A model under construction."""

    def __init__(self, source: bytes | None = None) -> None:
        """An empty model, or one with the operators and constants of a file."""
        s = schema()
        self.found: Any = s.ModelT() if source is None else s.ModelT.InitFromPackedBuf(source, 0)
        if source is None:
            self.found.version, self.found.buffers = 3, [s.BufferT()]
            self.found.operatorCodes = []
        self.before: list[Any] = self.found.subgraphs or []
        """The subgraphs of the file, which are not part of the model yet."""
        self.found.subgraphs = []
        self._codes: dict[str, int] = {}

    def graph(self, name: str) -> Graph:
        """A new subgraph; the first is the main one."""
        return Graph(self, name)

    def taken(self, name: str) -> Graph:
        """The next subgraph of the file, as one of the model."""
        return Graph(self, name, self.before.pop(0))

    def code(self, name: str) -> int:
        """The number of an operator; one that the schema lacks is a custom one."""
        if name not in self._codes:
            s, made = schema(), schema().OperatorCodeT()
            made.builtinCode = getattr(s.BuiltinOperator, name, s.BuiltinOperator.CUSTOM)
            made.customCode = None if hasattr(s.BuiltinOperator, name) else name
            made.deprecatedBuiltinCode, made.version = min(made.builtinCode, 127), 1
            self._codes[name] = len(self.found.operatorCodes)
            self.found.operatorCodes.append(made)
        return self._codes[name]

    def bytes(self) -> bytes:
        """The file."""
        import flatbuffers

        builder = flatbuffers.Builder(1024)
        builder.Finish(self.found.Pack(builder), b"TFL3")
        return bytes(builder.Output())


def options(**fields: Any) -> bytes:
    """A map as a flexbuffer, which the options of custom operators are."""
    from flatbuffers import flexbuffers  # pyright: ignore[reportMissingTypeStubs]

    builder: Any = flexbuffers.Builder()
    with builder.Map():
        for name, value in fields.items():
            builder.Key(name)
            builder.Add(value)
    return bytes(builder.Finish())


def session(source: bytes) -> Any:
    """A function of inputs in order that gives the outputs of the reference kernels, which keep
    their variables from call to call.
    """
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    interpreter: Any = Interpreter(
        model_content=source, experimental_op_resolver_type=OpResolverType.BUILTIN_REF
    )
    interpreter.allocate_tensors()

    def call(inputs: Sequence[Array]) -> list[Array]:
        for detail, array in zip(interpreter.get_input_details(), inputs, strict=True):
            interpreter.set_tensor(detail["index"], array)
        interpreter.invoke()
        return [interpreter.get_tensor(d["index"]).copy() for d in interpreter.get_output_details()]

    return call
