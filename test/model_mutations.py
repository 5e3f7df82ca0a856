"""ONNX models with random defects: of their bytes and of their fields."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache
from random import Random
from typing import Any, cast

from byte_mutations import cut, flip, splice
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import DecodeError, Message
from onnx import ModelProto
from onnx_support import SHARED, node_model
from test_onnx_operators import CASES

Field = Any
"""A `FieldDescriptor`, of one of the implementations that protobuf has."""

SMALL_FILES = ("shark_qmlp", "winml_mnist_qdq_u8s8", "winml_mnist")
FILE_SHARE = 0.15
"""Of the cases that start from a file; the others start from one operator."""

NUMBERS = (-(2**63), -(2**31), -2, -1, 0, 1, 2, 3, 5, 16, 77, 2**20, 2**31, 2**40, 2**60, 2**63 - 1)
FLOATS = (0.0, -1.0, 1e-40, 1e38, float("inf"), float("nan"))
TEXTS = ("", "x0", "y0", "Add", "Reshape", "../secret", "com.microsoft", "\u00e9\n", "a" * 300)


@cache
def seeds() -> tuple[bytes, ...]:
    """Models of one operator."""
    return tuple(
        node_model(
            case.op_type, case.inputs, case.attributes, case.constants, case.outputs, case.opset,
            case.domain, case.result,
        ).SerializeToString()
        for case in CASES
    )  # fmt: skip


@cache
def files() -> tuple[bytes, ...]:
    """Small models as they come from exporters."""
    paths = [SHARED / "models" / f"{name}.onnx" for name in SMALL_FILES]
    return tuple(path.read_bytes() for path in paths if path.is_file())


def mutant(number: int) -> bytes:
    """The model of a case."""
    random = Random(number)
    known = files() if random.random() < FILE_SHARE else ()
    data = random.choice(known or seeds())
    for _ in range(random.choice((1, 1, 1, 2, 3))):
        data = random.choice((flip, cut, splice, _field, _field, _field, _field))(random, data)
    return data


# Fields


def _field(random: Random, data: bytes) -> bytes:
    """One field of one message changed; the bytes as they are where they are no model."""
    model = ModelProto()
    try:
        model.ParseFromString(data)
        message = random.choice(list(_messages(model)))
        _change(random, message)
        return model.SerializeToString()
    except (DecodeError, ValueError, TypeError):
        return data


def _messages(message: Message) -> Iterator[Message]:
    """A message and all inside it."""
    yield message
    for field, value in message.ListFields():
        if field.type == FieldDescriptor.TYPE_MESSAGE:
            for inner in value if _is_repeated(field) else [value]:
                yield from _messages(inner)


def _is_repeated(field: Field) -> bool:
    return bool(field.is_repeated)


def _change(random: Random, message: Message) -> None:
    field = random.choice(list(message.DESCRIPTOR.fields))
    present = [each for each, _ in message.ListFields()]
    if present and random.random() < 0.9:
        field = random.choice(present)
    if random.random() < 0.15:
        message.ClearField(field.name)
    elif _is_repeated(field):
        _change_list(random, field, getattr(message, field.name))
    elif field.type == FieldDescriptor.TYPE_MESSAGE:
        getattr(message, field.name).SetInParent()
    else:
        setattr(message, field.name, _value(random, field))


def _change_list(random: Random, field: Field, entries: Any) -> None:
    """Leave out, repeat, exchange or replace an element."""
    is_message = field.type == FieldDescriptor.TYPE_MESSAGE
    kind = random.choice(("drop", "repeat", "swap", "value"))
    if not entries:
        entries.add() if is_message else entries.append(_value(random, field))
        return
    k, j = random.randrange(len(entries)), random.randrange(len(entries))
    if kind == "drop":
        del entries[k]
    elif is_message:
        copy = type(entries[k])()
        copy.CopyFrom(entries[k])
        if kind == "swap":
            entries[k].CopyFrom(entries[j])
            entries[j].CopyFrom(copy)
        else:
            entries.append(copy)
    elif kind == "repeat":
        entries.append(entries[k])
    elif kind == "swap":
        entries[k], entries[j] = entries[j], entries[k]
    else:
        entries[k] = _value(random, field)


def _value(random: Random, field: Field) -> object:
    """A value that a field of this type can have, and most likely should not."""
    pools: dict[int, Sequence[object]] = {
        FieldDescriptor.CPPTYPE_STRING: TEXTS,
        FieldDescriptor.CPPTYPE_FLOAT: FLOATS,
        FieldDescriptor.CPPTYPE_DOUBLE: FLOATS,
    }
    value = random.choice(pools.get(field.cpp_type, NUMBERS))
    if field.type == FieldDescriptor.TYPE_BYTES:
        return bytes(random.randrange(256) for _ in range(random.choice((0, 1, 4, 64))))
    if field.type == FieldDescriptor.TYPE_ENUM:
        return random.randrange(25)
    if field.cpp_type in (FieldDescriptor.CPPTYPE_INT32, FieldDescriptor.CPPTYPE_UINT32):
        low = -(2**31) if field.cpp_type == FieldDescriptor.CPPTYPE_INT32 else 0
        return min(max(int(cast(int, value)), low), 2**31 - 1)
    if field.cpp_type == FieldDescriptor.CPPTYPE_UINT64:
        return abs(int(cast(int, value)))
    return value
