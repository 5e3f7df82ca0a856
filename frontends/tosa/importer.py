"""The walk over a function of TOSA: arguments, operations, results -> one function of graph.

%3 = tosa.conv2d %x, %w, %b, %zx, %zw {...}    ->   %1 = graph.conv2d %x, %w, %b
%4 = tosa.rescale %3, %m, %s, %z, %zy {...}    ->   %2 = graph.requantize %1 {recipe = ...}
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import copy
from typing import Any, cast

from xdsl.dialects.builtin import (
    ArrayAttr,
    DenseIntOrFPElementsAttr,
    DictionaryAttr,
    ModuleOp,
    StringAttr,
    TensorType,
    UnrealizedConversionCastOp,
)
from xdsl.dialects.func import FuncOp, ReturnOp
from xdsl.ir import Attribute, Block, Operation, Region, SSAValue
from xdsl.rewriter import Rewriter

from npu_dialect import dtypes, provenance
from npu_dialect.blob import BlobAttr
from npu_dialect.diagnostics import Code, CompileError
from npu_dialect.dtypes import DType
from npu_dialect.frontends.dead import erase_dead
from npu_dialect.frontends.onnx.builder import Array, element_of, shape_of
from npu_dialect.frontends.onnx.errors import Misfit, NotExpressible, refuse
from npu_dialect.frontends.tosa import control, registry
from npu_dialect.frontends.tosa.builder import Builder
from npu_dialect.frontends.tosa.ops import TOPICS
from npu_dialect.frontends.tosa.ops.rescaling import as_element
from npu_dialect.frontends.tosa.signature import Signature
from npu_dialect.frontends.tosa.storage import Storage
from npu_dialect.frontends.tosa.variables import Argument, Variables
from npu_dialect.graph.states import STATES, State, set_states
from npu_dialect.tosa import (
    CondIfOp,
    TosaOp,
    VariableOp,
    VariableReadOp,
    VariableWriteOp,
    WhileLoopOp,
    YieldOp,
)
from npu_dialect.tosa.text import array_of, numpy_type, width_of

Shapes = Mapping[str, Sequence[int]]

WIDE = {1: dtypes.bool_, 32: dtypes.i32, 48: dtypes.i64, 64: dtypes.i64}
"""Integers that are held as plain numbers, by their width."""

RESULTS = {"tosa.fft2d": 2, "tosa.rfft2d": 2}
"""How many results operations have that have not one."""

BROKEN = (ValueError, KeyError, IndexError, TypeError, OverflowError, ZeroDivisionError)
"""What malformed operations raise in the rules of graph."""


def load(module: ModuleOp, name: str, shapes: Shapes) -> ModuleOp:
    """The graph-level module of a parsed module; see `npu_dialect.frontends.tosa.load`."""
    assert all(TOPICS), "the table is filled by importing the topics"
    functions: list[FuncOp] = []
    declared = {op.sym_name.data: op for op in module.body.ops if isinstance(op, VariableOp)}
    for op in module.body.ops:
        if isinstance(op, VariableOp):
            continue
        if not isinstance(op, FuncOp) or not op.body.blocks:
            rule = "a module of TOSA must be functions of it"
            raise refuse(Code.OPERATOR_UNSUPPORTED, name, rule, op.name, "the functions alone")
        _drop_casts(op)
        functions.append(Importer(op, name, shapes, declared).run())
    if not functions:
        raise refuse(Code.MODEL_MALFORMED, name, "there must be a function", "none")
    return ModuleOp(functions)


class Importer:
    """One function: the one under construction, and the graph values of tosa values."""

    def __init__(
        self, function: FuncOp, name: str, shapes: Shapes, declared: Mapping[str, VariableOp]
    ) -> None:
        self.source = function
        if len(function.body.blocks) != 1:
            raise malformed(name, "a function of several blocks")
        self.signature = Signature(function, name)
        self.shapes = shapes
        self.block = Block()
        self.builder = Builder(self.block)
        self.scope: dict[SSAValue, Any] = {}
        self.variables = Variables(declared)
        self.unrolled = [0]
        """How many operations loops became; shared with what `apart` makes."""
        for op in function.walk():
            _check_parts(op)
        try:
            self.storage = Storage(function, self.signature.quants)
        except (Misfit, ValueError) as why:
            raise malformed(name, str(why)) from None

    def run(self) -> FuncOp:
        """Import everything."""
        for argument, name in zip(self.source.args, self.signature.inputs, strict=True):
            self._argument(argument, name)
        results: list[SSAValue] = []
        for op in self.source.body.block.ops:
            if isinstance(op, ReturnOp):
                results = [self._value(v, op) for v in op.operands]
            else:
                self._operation(op)
        states = self.variables.states(len(self.signature.inputs), len(results))
        results += [self.variables.now[name] for name in self.variables.written]
        self.builder.attach(results)
        self.block.add_op(ReturnOp(*results))
        erase_dead(self.block)
        return self._function(results, states)

    def _function(self, results: list[SSAValue], states: list[State]) -> FuncOp:
        types = [a.type for a in self.block.args], [v.type for v in results]
        made = FuncOp(self.source.sym_name.data, types, Region(self.block))
        held = list(self.variables.before)
        new = [f"{name}'" for name in self.variables.written]
        made.attributes["npu.input_names"] = _strings([*self.signature.inputs, *held])
        made.attributes["npu.output_names"] = _strings([*self.signature.outputs, *new])
        stated = self.source.attributes.get(STATES)
        if stated is not None:
            made.attributes[STATES] = _with_blobs(stated)
        elif states:
            set_states(made, states)
        return made

    # Values

    def _argument(self, value: SSAValue, name: str) -> None:
        shape, element = self._type(value, name)
        bound = self.shapes.get(name)
        if bound is not None:
            shape = tuple(int(n) for n in bound)
        if any(n < 0 for n in shape):
            open_shape = ["?" if n < 0 else n for n in shape]
            likely = ",".join(str(1 if n < 0 else n) for n in shape)
            raise refuse(Code.SHAPE_UNBOUND, name, "every dimension of an input must be known",
                         f"{open_shape}", f"--shape {name}={likely}")  # fmt: skip
        made = self.block.insert_arg(TensorType(element, shape), len(self.block.args))
        made.name_hint = name if SSAValue.is_valid_name(name) else None
        self.scope[value] = made

    def _type(self, value: SSAValue, source: str) -> tuple[tuple[int, ...], Attribute]:
        """The stated shape of a value, and its element type in graph."""
        type: Any = value.type
        if not isinstance(value.type, TensorType):
            raise malformed(source, f"a value of type {type}")
        element, shape = type.element_type, type.get_shape()
        width = width_of(element)
        if width in (4, 8, 16):
            try:
                return shape, self.storage.element(value, max(width, 8))
            except ValueError as why:
                raise malformed(source, str(why)) from None
        if width in WIDE:
            return shape, dtypes.element_type(WIDE[width])
        try:
            found = dtypes.BY_NUMPY[numpy_type(element)]
        except (ValueError, KeyError):
            raise refuse(Code.DTYPE_MISMATCH, source, "elements must be numbers or truth values",
                         str(type)) from None  # fmt: skip
        return shape, dtypes.element_type(found)

    def _value(self, value: SSAValue, reader: Operation) -> Any:
        if value not in self.scope:
            raise malformed(_name(reader), "an operand that nothing computes before")
        return self.scope[value]

    def _state(self, op: VariableReadOp | VariableWriteOp, value: SSAValue) -> Argument:
        """What makes the argument that a variable is before a call, typed as `value`."""

        def argument(name: str) -> SSAValue:
            shape, element = self._type(value, name)
            if any(n < 0 for n in shape):
                raise Misfit(f"a variable of {op.variable.data} whose shape is open")
            return self.block.insert_arg(TensorType(element, shape), len(self.block.args))

        return argument

    # Operations

    def _operation(self, op: Operation) -> None:
        source = _name(op)
        self.builder.location = op.location
        try:
            if isinstance(op, VariableReadOp):
                self.scope[op.output1] = self.variables.read(op, self._state(op, op.output1))
                return
            if isinstance(op, VariableWriteOp):
                value = self._value(op.input1, op)
                self.variables.write(op, value, self._state(op, op.input1))
                return
        except Misfit as why:
            raise malformed(source, str(why)) from None
        if isinstance(op, CondIfOp | WhileLoopOp):
            self._control(op, source)
            return
        if not isinstance(op, TosaOp):
            raise _foreign(op, source)
        if op.name == "tosa.const_shape":
            self.scope[op.results[0]] = tuple(int(n) for n in self._array(op, source).reshape(-1))
            return
        if len(op.results) != RESULTS.get(op.name, 1):
            rule = f"{op.name} must have {RESULTS.get(op.name, 1)} results"
            raise malformed(source, f"{len(op.results)}, where {rule}")
        self.builder.shape, self.builder.element = self._type(op.results[0], source)
        if op.name == "tosa.const":
            self.scope[op.results[0]] = self._constant(op, source)
            return
        operands = [self._value(v, op) for v in op.operands]
        found = self._results(op, source, operands)
        self.scope.update(zip(op.results, found, strict=True))

    def _control(self, op: CondIfOp | WhileLoopOp, source: str) -> None:
        try:
            found = control.results(self, op)
        except NotExpressible as why:
            raise refuse(Code.OPERATOR_UNSUPPORTED, source, f"{op.name} must be expressible",
                         str(why), "the model without it") from None  # fmt: skip
        except (Misfit, *BROKEN) as why:
            raise malformed(source, str(why)) from None
        self.scope.update(zip(op.results, found, strict=True))

    def region(self, region: Region, given: Sequence[Any]) -> list[SSAValue]:
        """What a region yields of the values that it is given. Raises Misfit."""
        if len(region.blocks) != 1 or len(region.block.args) != len(given):
            raise Misfit(f"a region of {len(region.blocks)} blocks for {len(given)} values")
        self.scope.update(zip(region.block.args, given, strict=True))
        for op in region.block.ops:
            if isinstance(op, YieldOp):
                return [self._value(v, op) for v in op.operands]
            self._operation(op)
        raise Misfit("a region without tosa.yield")

    def typed(self, value: SSAValue, stated: SSAValue, source: str) -> SSAValue:
        """A graph value in the type that a value of the text has. Raises Misfit."""
        return self._checked(value, stated, source)

    def apart(self, kinds: Sequence[Attribute]) -> Importer:
        """An importer of the same function's regions into another block, with nothing in scope."""
        inner = copy(self)
        inner.block = Block(arg_types=kinds)
        inner.builder = Builder(inner.block)
        inner.builder.location = self.builder.location
        inner.scope = {}
        return inner

    def _array(self, op: TosaOp, source: str) -> Array:
        try:
            return array_of(op.properties["values"])
        except (KeyError, ValueError) as why:
            raise malformed(source, str(why)) from None

    def _constant(self, op: TosaOp, source: str) -> SSAValue:
        array = self._array(op, source)
        dtype: DType = self.builder.dtype
        if dtype.is_int and array.dtype.itemsize == dtype.itemsize:
            array = array.view(dtype.numpy)
        return self.builder.constant(array.astype(dtype.numpy), self.builder.element)

    def _results(self, op: TosaOp, source: str, operands: list[Any]) -> list[SSAValue]:
        try:
            found = registry.call(self.builder, op, operands)
            return [
                self._checked(value, result, source)
                for value, result in zip(found, op.results, strict=True)
            ]
        except NotExpressible as why:
            raise refuse(
                Code.OPERATOR_UNSUPPORTED, source, f"{op.name} must be expressible in graph",
                str(why), "the model without it",
            ) from None  # fmt: skip
        except (Misfit, *BROKEN) as why:
            rule = f"the operands, attributes and result of {op.name} must fit together"
            raise refuse(Code.SHAPE_MISMATCH, source, rule, str(why)) from None

    def _checked(self, value: SSAValue, result: SSAValue, source: str) -> SSAValue:
        """A result as the type that the text states. Raises Misfit for what is something else."""
        self.builder.shape, self.builder.element = self._type(result, source)
        value = as_element(self.builder, value, self.builder.element)
        found, stated = shape_of(value), self.builder.shape
        fits = len(found) == len(stated) and all(
            b < 0 or a == b for a, b in zip(found, stated, strict=True)
        )
        if not fits or element_of(value) != self.builder.element:
            wanted = f"{self.builder.dtype} {['?' if n < 0 else n for n in stated]}"
            raise Misfit(f"{element_of(value)} {list(found)}, where {wanted} is stated")
        return value


def _drop_casts(function: FuncOp) -> None:
    """Drop conversions from a type to itself, which other tools leave behind."""
    for op in list(function.walk()):
        if isinstance(op, UnrealizedConversionCastOp) and op.operand_types == op.result_types:
            Rewriter.replace_op(op, [], list(op.operands))


def _check_parts(op: Operation) -> None:
    """Refuse an operation without the operands, attributes and the result that it must have."""
    if not isinstance(op, TosaOp):
        return
    count, has_any = len(op.OPERANDS), any(n.startswith("*") for n in op.OPERANDS)
    absent = [n for n in op.REQUIRED if n not in op.properties]
    if absent:
        raise malformed(_name(op), f"{op.name} without {', '.join(absent)}")
    if (len(op.operands) != count and not has_any) or (has_any and not op.operands):
        raise malformed(_name(op), f"{op.name} of {len(op.operands)} operands")
    if op.attributes:
        raise malformed(_name(op), f"{op.name} with the attribute {next(iter(op.attributes))}")


def _foreign(op: Operation, source: str) -> CompileError:
    """The error of an operation that is not in the table's dialect."""
    found = getattr(op, "op_name", None)
    name = found.data if isinstance(found, StringAttr) else op.name
    rule = "operations must be of TOSA 1.0"
    return refuse(Code.OPERATOR_UNSUPPORTED, source, rule, name, "a model in such operations")


def malformed(source: str, found: str) -> CompileError:
    """The error of text that contradicts itself."""
    return refuse(Code.MODEL_MALFORMED, source, "must be a valid function of TOSA", found)


def _name(op: Operation) -> str:
    return next(iter(provenance.sources(op)), op.name)


def _strings(names: Sequence[str]) -> ArrayAttr[StringAttr]:
    return ArrayAttr([StringAttr(n) for n in names])


def _with_blobs(attribute: Any) -> Attribute:
    """States as graph has them: their contents are blobs."""
    if isinstance(attribute, DenseIntOrFPElementsAttr):
        return BlobAttr.of(array_of(cast("Attribute", attribute)))
    if isinstance(attribute, ArrayAttr):
        return ArrayAttr([_with_blobs(item) for item in attribute.data])  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
    if isinstance(attribute, DictionaryAttr):
        return DictionaryAttr({k: _with_blobs(v) for k, v in attribute.data.items()})
    return attribute
