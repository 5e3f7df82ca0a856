"""The walk over a graph function: arguments, operations, results -> the same function in TOSA.

    %1 = graph.conv2d %x, %w, %b              %3 = tosa.conv2d %x, %w, %b, %zx, %zw {...}
    %2 = graph.requantize %1 {recipe = ...}   %4 = tosa.rescale %3, %m, %s, %z, %zy {...}

Names and quantizations of inputs and outputs, states and locations are attributes that MLIR keeps.
"""

from __future__ import annotations

from typing import Any

from xdsl.dialects.builtin import ArrayAttr, DictionaryAttr, ModuleOp, StringAttr, TensorType
from xdsl.dialects.func import FuncOp, ReturnOp
from xdsl.ir import Attribute, Block, Operation, Region, SSAValue

from npu_dialect import dtypes, graph, provenance
from npu_dialect.blob import BlobAttr
from npu_dialect.diagnostics import Code, CompileError, error, warn
from npu_dialect.graph.base import dtype_of, quant_of, shape_of
from npu_dialect.graph.ranges import Ranges
from npu_dialect.graph.states import STATES
from npu_dialect.passes.graph_decompose import STEPS
from npu_dialect.tosa.text import elements
from npu_dialect.tosa_export.emitter import Emitter, Refused, offset, stored_as
from npu_dialect.tosa_export.ops import TOPICS
from npu_dialect.tosa_export.ops.movement import MOST_DIMENSIONS
from npu_dialect.tosa_export.ops.rescaling import retagged
from npu_dialect.tosa_export.registry import TABLE

NAME = "tosa.tensor_name"
"""What TOSA's serializer calls an argument or result."""

QUANTIZED = "npu.quantized"
"""The quantization of an argument or result: what stands in `!quant.uniform<...>`."""


def export(module: ModuleOp, *, is_open: bool = False) -> ModuleOp:
    """The module at level graph, before operations are grouped, in TOSA.

    Integers are bit for bit those of the graph. `is_open` lets them depend on what TOSA leaves open
    too. Raises CompileError (NPU0109) for what TOSA cannot express.
    """
    assert all(TOPICS), "the table is filled by importing the topics"
    found = [op for op in module.body.ops if isinstance(op, FuncOp)]
    return ModuleOp([_Export(f, is_open=is_open).run() for f in found])


class _Export:
    """One function."""

    def __init__(self, function: FuncOp, *, is_open: bool) -> None:
        self.function = function
        self.block = Block()
        self.ranges = Ranges()
        self.emitter = Emitter(self.block, self.ranges, is_open=is_open)
        self.deciding = deciding(function)

    def run(self) -> FuncOp:
        """The function in TOSA."""
        for argument in self.function.body.block.args:
            self._argument(argument)
        results: list[SSAValue] = []
        for op in self.function.body.block.ops:
            if isinstance(op, ReturnOp):
                results = [self._result(v) for v in op.operands]
                self.block.add_op(ReturnOp(*results))
            else:
                self._operation(op)
        for what, sources in self.emitter.opened.items():
            _warn(what, sources)
        return self._function(results)

    def _argument(self, argument: SSAValue) -> None:
        source = str(argument.name_hint or "an input")
        try:
            type = _boundary(argument)
        except Refused as why:
            raise _refused(source, "an input", why) from None
        made = self.block.insert_arg(type, len(self.block.args))
        made.name_hint = argument.name_hint
        self.emitter.scope[argument] = retagged(self.emitter, made, argument, is_result=False)

    def _result(self, value: SSAValue) -> SSAValue:
        try:
            _check_rank(value)
            return retagged(self.emitter, self.emitter.value(value), value, is_result=True)
        except Refused as why:
            raise _refused("an output", "a result", why) from None

    def _operation(self, op: Operation) -> None:
        self.emitter.location = op.location
        self.emitter.is_deciding = op in self.deciding
        try:
            for result in op.results:
                _check(result)
                if not dtype_of(result).is_float:
                    self.ranges.of(result)
            self._emit(op)
        except Refused as why:
            source = next(iter(provenance.sources(op)), op.name)
            raise _refused(source, op.name, why) from None

    def _emit(self, op: Operation) -> None:
        if isinstance(op, graph.ConstantOp):  # written where it is first read
            return
        if type(op) in STEPS:
            self._steps(op)
        else:
            self.emitter.scope[op.results[0]] = self._emitted(op)

    def _emitted(self, op: Operation) -> SSAValue:
        arrays = [v.owner.array for v in op.operands if isinstance(v.owner, graph.ConstantOp)]
        if isinstance(op, graph.GraphOp) and op.operands and len(arrays) == len(op.operands):
            return self.emitter.stored(op.evaluate(*arrays)[0], op.results[0])
        handler = TABLE.get(type(op))
        if handler is None or len(op.results) != 1:
            remedy = _REMEDIES.get(op.name, "")
            raise Refused("an operation that TOSA has no equivalent of", remedy)
        if not isinstance(op, graph.ReshapeOp | graph.BroadcastToOp):
            for value in (*op.operands, *op.results):
                _check_rank(value)
        return handler(self.emitter, op)

    def _steps(self, op: Operation) -> None:
        """An operation of several steps, by its steps."""
        steps = STEPS[type(op)](op)
        is_deciding = self.emitter.is_deciding
        for step in steps:
            self.emitter.is_deciding = is_deciding
            self._emit(step)
        self.emitter.scope[op.results[0]] = self.emitter.value(steps[-1].results[0])
        for step in reversed(steps):
            step.drop_all_references()

    def _function(self, results: list[SSAValue]) -> FuncOp:
        old = self.function
        types = [a.type for a in self.block.args], [v.type for v in results]
        made = FuncOp(old.sym_name.data, types, Region(self.block))
        made.arg_attrs = self._tags(old.body.block.args, "npu.input_names")
        last = old.body.block.last_op
        made.res_attrs = self._tags(last.operands if last is not None else (), "npu.output_names")
        if STATES in old.attributes:
            made.attributes[STATES] = _dense(old.attributes[STATES])
        return made

    def _tags(self, values: Any, names: str) -> ArrayAttr[DictionaryAttr]:
        """Names and quantizations of arguments or results."""
        found = self.function.attributes.get(names)
        strings: list[Any] = list(found.data) if isinstance(found, ArrayAttr) else []  # pyright: ignore[reportUnknownArgumentType, reportUnknownMemberType]
        tags: list[DictionaryAttr] = []
        for k, value in enumerate(values):
            tag: dict[str, Attribute] = {NAME: strings[k]} if k < len(strings) else {}
            quant = quant_of(value)
            if quant is not None and quant.axis is None:
                tag[QUANTIZED] = StringAttr(quant.data.text)
            elif dtype_of(value) in (dtypes.u8, dtypes.u16):
                tag[QUANTIZED] = StringAttr(dtype_of(value).name)
            tags.append(DictionaryAttr(tag))
        return ArrayAttr(tags)


def deciding(function: FuncOp) -> set[Operation]:
    """The operations of floats whose results integers depend on: through floats, and through truth
    values that choose between floats.
    """
    found: set[Operation] = set()
    for op in reversed(list(function.body.block.ops)):
        decides = op in found or (isinstance(op, ReturnOp) or _is_whole(op))
        for value in op.operands if decides else ():
            if isinstance(op, ReturnOp) and dtype_of(value).is_float:
                continue
            if isinstance(value.owner, Operation) and _is_loose(value):
                found.add(value.owner)
    return found


def _is_whole(op: Operation) -> bool:
    return any(not _is_loose(result) for result in op.results)


def _is_loose(value: SSAValue) -> bool:
    """Floats, and truth values."""
    dtype = dtype_of(value)
    return dtype.is_float or dtype is dtypes.bool_


_REMEDIES = {
    "graph.opaque": "the model without it",
    "graph.lstm": "--target mobile4k, on which it becomes its time steps",
    "graph.gru": "--target mobile4k, on which it becomes its time steps",
    "graph.rnn": "--target mobile4k, on which it becomes its time steps",
}


def _check(value: SSAValue) -> None:
    """Refuse tensors that TOSA does not have."""
    if 0 in shape_of(value):
        raise Refused("a tensor without elements", "the model without it")


def _check_rank(value: SSAValue) -> None:
    if len(shape_of(value)) > MOST_DIMENSIONS:
        found = f"a tensor of {len(shape_of(value))} dimensions"
        raise Refused(found, f"{MOST_DIMENSIONS}, which TOSA has at its level 8K")


def _boundary(value: SSAValue) -> TensorType[Any]:
    """The type in TOSA of an argument."""
    _check(value)
    _check_rank(value)
    if dtype_of(value) is dtypes.i64:
        raise Refused("whole numbers of 64 bits", "inputs of 32 bits")
    if dtype_of(value) is dtypes.u16:
        raise Refused("whole numbers of 16 bits without a sign", "inputs of i16 or i32")
    assert offset(dtype_of(value)) in (0, 128)
    return TensorType(stored_as(dtype_of(value)), shape_of(value))


def _dense(attribute: Any) -> Attribute:
    """An attribute with its blobs as constants that MLIR reads."""
    if isinstance(attribute, BlobAttr):
        blob = attribute.data
        return elements(blob.array, TensorType(dtypes.element_type(blob.dtype), blob.shape))
    if isinstance(attribute, ArrayAttr):
        return ArrayAttr([_dense(item) for item in attribute.data])  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
    if isinstance(attribute, DictionaryAttr):
        return DictionaryAttr({k: _dense(v) for k, v in attribute.data.items()})
    return attribute


def _refused(source: str, name: str, why: Refused) -> CompileError:
    return error(
        Code.OPERATOR_UNSUPPORTED,
        f"{name} must be expressible in TOSA, bit for bit where it is of integers",
        found=str(why),
        remedy=why.remedy,
        source=source,
    )


def _warn(what: str, sources: list[str]) -> None:
    names = list(dict.fromkeys(sources))
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    warn(
        Code.APPROXIMATION,
        f"{what}, which the specification of TOSA leaves open",
        found=f"{len(sources)} operations: {', '.join(names[:3])}{more}",
        source="tosa",
    )
