"""What all operations of the graph dialect share: construction, verification, text, evaluation.

A concrete operation states its operands and properties, its type rule and its meaning:

    @irdl_op_definition
    class ExpOp(UnaryOp):
        '''e**x.  `%1 = graph.exp %0 : (tensor<4xf32>) -> tensor<4xf32>`'''

        name = "graph.exp"

The type rule is written once: constructors take the result type from it (ValueError where the
operands break it) and `verify_` compares with it (VerifyException).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, ClassVar, cast

import numpy as np
import numpy.typing as npt
from xdsl.dialects.builtin import (
    ArrayAttr,
    DenseArrayBase,
    IntegerAttr,
    LocationAttr,
    TensorType,
    i64,
)
from xdsl.ir import Attribute, Operation, Region, SSAValue
from xdsl.irdl import result_def, traits_def
from xdsl.parser import Parser
from xdsl.printer import Printer
from xdsl.traits import Pure
from xdsl.utils.exceptions import VerifyException
from xdsl.utils.hints import isa

from npu_dialect import dtypes
from npu_dialect.dtypes import DType
from npu_dialect.graph.attributes import integers, values
from npu_dialect.graph.quant import QuantType
from npu_dialect.graph.verified import VerifiedOnce

Array = npt.NDArray[Any]
Value = SSAValue | Operation
Tensor = TensorType[Attribute]
Types = Sequence[Tensor]
Properties = Mapping[str, Attribute]

FLOAT = ("f32",)
WIDE = ("f32", "i32", "i64")
INTS = ("i8", "u8", "i16", "u16", "i32", "i64")
ANY = tuple(dtypes.BY_NAME)


@lru_cache(maxsize=65536)
def tensor_type(shape: tuple[int, ...], element: Attribute) -> Tensor:
    """The tensor type of a shape and an element type; cached."""
    return TensorType(element, shape)


def dtype_of(value: Tensor | SSAValue) -> DType:
    """The storage type of a tensor type or value."""
    return dtypes.of(type_of(value).element_type)


def shape_of(value: Tensor | SSAValue) -> tuple[int, ...]:
    """The shape of a tensor type or value."""
    return type_of(value).get_shape()


def quant_of(value: Tensor | SSAValue) -> QuantType | None:
    """The quantized element type of a tensor type or value, or None for a plain one."""
    element = type_of(value).element_type
    return element if isinstance(element, QuantType) else None


def type_of(value: Tensor | SSAValue) -> Tensor:
    """The tensor type of a value (or the type itself). Raises ValueError for other values."""
    found = value.type if isinstance(value, SSAValue) else value
    if not isinstance(found, TensorType):
        raise ValueError(f"a value must be a tensor; found {found}")
    return cast(Tensor, found)


@lru_cache(maxsize=4096)
def _element_name(element: Attribute) -> str:
    """ "quant", "quant8", "quant16", or the name of the storage type."""
    try:
        dtype = dtypes.of(element)
    except KeyError:
        return str(element)
    if isinstance(element, QuantType):
        return {1: "quant8", 2: "quant16"}.get(dtype.itemsize, "quant")
    return dtype.name


def integer_of(attribute: Attribute) -> int:
    """The number of an integer attribute. Raises ValueError for another attribute."""
    if not isinstance(attribute, IntegerAttr):
        raise ValueError(f"a whole number must be an integer attribute; found {attribute}")
    return attribute.value.data


def require_element(what: str, found: Tensor, allowed: Sequence[str]) -> None:
    """Raise ValueError unless the element type is one of `allowed`.

    Names are those of storage types, "quant8" and "quant16" for quantized types of 8 and 16 bits,
    "quant" for any quantized type.
    """
    name = _element_name(found.element_type)
    if name in allowed or (name in ("quant8", "quant16") and "quant" in allowed):
        return
    raise ValueError(f"{what} must have elements of type {' or '.join(allowed)}; found {found}")


def require_rank(what: str, found: Tensor, rank: int) -> tuple[int, ...]:
    """The shape of a tensor that must have `rank` dimensions."""
    shape = found.get_shape()
    if len(shape) != rank:
        raise ValueError(f"{what} must have {rank} dimensions; found {found}")
    return shape


def require_shape(result: Tensor, shape: tuple[int, ...]) -> None:
    """Raise ValueError unless the result has `shape`."""
    if result.get_shape() != shape:
        raise ValueError(f"the result must have the shape {list(shape)}; found {result}")


def require_per_tensor(what: str, found: Tensor) -> None:
    """Raise ValueError for a quantized tensor with several scales."""
    quant = quant_of(found)
    if quant is not None and quant.axis is not None:
        raise ValueError(f"{what} must have one scale for the whole tensor; found {found}")


def require_quant_axis(found: Tensor) -> None:
    """Raise ValueError unless a per-axis type has one scale per index of its dimension."""
    quant = quant_of(found)
    if quant is None or quant.axis is None:
        return
    shape = found.get_shape()
    if quant.axis >= len(shape) or shape[quant.axis] != quant.scales.size:
        raise ValueError(
            f"a type quantized along dimension {quant.axis} must have one scale per index of it; "
            f"found {quant.scales.size} scales for the shape {list(shape)}"
        )


class GraphOp(VerifiedOnce, ABC):
    """An operation on tensors without side effects."""

    traits = traits_def(Pure())

    @abstractmethod
    def evaluate(self, *operands: Array) -> tuple[Array, ...]:
        """The results for operands in storage values (numpy arrays of the storage types)."""

    @abstractmethod
    def check_types(self) -> None:
        """Raise ValueError where the types of operands and results break the operation's rule."""

    def verify_(self) -> None:
        try:
            for value in (*self.operands, *self.results):
                _check_tensor(value)
            self.check_types()
        except ValueError as error:
            raise VerifyException(f"{self.name}: {error}") from error

    def _setup(
        self,
        operands: Sequence[SSAValue],
        properties: Properties,
        result_types: Types,
        location: LocationAttr | None,
        regions: Sequence[Region] = (),
    ) -> None:
        Operation.__init__(
            self,
            operands=operands,
            properties=properties,
            result_types=result_types,
            location=location,
            regions=regions,
        )

    # Text: `graph.name %a, %b {property = ...} : (types) -> types`. Integer properties are written
    # bare, lists of them in square brackets.

    def print(self, printer: Printer) -> None:
        if self.operands:
            printer.print_string(" ")
            printer.print_list(self.operands, printer.print_ssa_value)
        _print_dictionary(printer, self.properties, self.attributes)
        for region in self.regions:
            printer.print_string(" ")
            printer.print_region(region)
        printer.print_string(" : ")
        printer.print_function_type(self.operand_types, self.result_types)

    @classmethod
    def parse(cls, parser: Parser) -> GraphOp:
        position = parser.pos
        unresolved = parser.parse_optional_undelimited_comma_separated_list(
            parser.parse_optional_unresolved_operand, parser.parse_unresolved_operand
        )
        dictionary = parser.parse_optional_attr_dict()
        regions = [parser.parse_region() for _ in cls.get_irdl_definition().regions]
        parser.parse_punctuation(":")
        types = parser.parse_function_type()
        operands = parser.resolve_operands(unresolved or [], types.inputs.data, position)
        names = cls.get_irdl_definition().properties
        return cls.create(
            operands=operands,
            result_types=types.outputs.data,
            properties={k: _property(v) for k, v in dictionary.items() if k in names},
            attributes={k: v for k, v in dictionary.items() if k not in names},
            regions=regions,
        )


def _check_tensor(value: SSAValue) -> None:
    found = type_of(value)
    if any(d < 0 for d in found.get_shape()):
        raise ValueError(f"every dimension must be known; found {found}")
    require_element("a tensor", found, (*ANY, "quant"))
    require_quant_axis(found)


def _print_dictionary(printer: Printer, properties: Properties, attributes: Properties) -> None:
    if not properties and not attributes:
        return
    printer.print_string(" ")
    with printer.in_braces():
        items = [(name, value, True) for name, value in properties.items()]
        items += [(name, value, False) for name, value in attributes.items()]
        printer.print_list(items, lambda item: _print_entry(printer, *item))


def _print_entry(printer: Printer, name: str, value: Attribute, is_property: bool) -> None:
    printer.print_identifier_or_string_literal(name)
    printer.print_string(" = ")
    if is_property and isa(value, DenseArrayBase) and value.elt_type == i64:
        printer.print_string(str(list(values(value))))
    elif is_property and isa(value, IntegerAttr) and value.type == i64:
        printer.print_string(str(value.value.data))
    else:
        printer.print_attribute(value)


def _property(value: Attribute) -> Attribute:
    """A list of integers is a dense array; all else is as written."""
    if isa(value, ArrayAttr[IntegerAttr]):
        return integers([item.value.data for item in value.data])
    return value


class SingleResultOp(GraphOp, ABC):
    """An operation with one result."""

    result = result_def(TensorType)

    @property
    def type(self) -> Tensor:
        """The type of the result."""
        return type_of(self.result)

    @property
    def operand_tensors(self) -> list[Tensor]:
        """The types of the operands."""
        return [type_of(v) for v in self.operands]


class InferredOp(SingleResultOp, ABC):
    """An operation whose operands and properties decide the type of its result."""

    @classmethod
    @abstractmethod
    def infer(cls, types: Types, properties: Properties) -> Tensor:
        """The type of the result. Raises ValueError where operands or properties break the rule."""

    def _init(
        self,
        operands: Sequence[Value | None],
        properties: Properties,
        location: LocationAttr | None,
    ) -> None:
        """Construct with the inferred type; operands that are None are left out."""
        found = [SSAValue.get(v) for v in operands if v is not None]
        try:
            result = self.infer([type_of(v) for v in found], properties)
        except ValueError as error:
            raise ValueError(f"{self.name}: {error}") from error
        self._setup(found, properties, [result], location)

    def check_types(self) -> None:
        expected = self.infer(self.operand_tensors, self.properties)
        if expected != self.type:
            raise ValueError(f"the result must have the type {expected}; found {self.type}")


class DeclaredOp(SingleResultOp, ABC):
    """An operation whose result type (or a part of it) is stated by its creator."""

    @classmethod
    @abstractmethod
    def check(cls, types: Types, properties: Properties, result: Tensor) -> None:
        """Raise ValueError where operands, properties and the stated type do not fit."""

    def _init(
        self,
        operands: Sequence[Value],
        properties: Properties,
        result: Tensor,
        location: LocationAttr | None,
    ) -> None:
        found = [SSAValue.get(v) for v in operands]
        try:
            self.check([type_of(v) for v in found], properties, result)
        except ValueError as error:
            raise ValueError(f"{self.name}: {error}") from error
        self._setup(found, properties, [result], location)

    def check_types(self) -> None:
        self.check(self.operand_tensors, self.properties, self.type)


class UnaryOp(InferredOp, ABC):
    """One operand, a result of the same type."""

    ELEMENTS: ClassVar[tuple[str, ...]] = FLOAT

    @classmethod
    def infer(cls, types: Types, properties: Properties) -> Tensor:
        require_element("the operand", types[0], cls.ELEMENTS)
        return types[0]


def restore(array: Array, result: Tensor | SSAValue) -> Array:
    """`array` as the array of a result: of its storage type, with its shape, C-contiguous."""
    array = np.asarray(array, dtype_of(result).numpy)
    if array.shape != shape_of(result):
        array = np.broadcast_to(array, shape_of(result))
    return np.ascontiguousarray(array).reshape(shape_of(result))
