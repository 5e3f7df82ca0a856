"""The states of a function: tensors that keep their content from one call to the next.

    func.func @main(%x: tensor<1x4xf32>, %h: tensor<1x8xf32>) -> (tensor<1x2xf32>, tensor<1x8xf32>)
      attributes {
        npu.input_names = ["x", "h"], npu.output_names = ["y", "h_next"],
        npu.states = [{name = "h", argument = 1 : i64, result = 1 : i64}]
      }

Argument 1 is the content before a call and result 1 the content after it. One of both may be
missing: a state that is only read, or only written. `initial` (a `#graph.blob` of storage values)
is the content before the first call; without it every element is zero (the zero point of a
quantized type). To the interpreters of graph and tile, states are arguments and results as all
others. At level tile a state is one argument, updated in place: `result_arguments` tells which.

Functions of a module that name the same state share it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np
from xdsl.dialects.builtin import (
    ArrayAttr,
    DictionaryAttr,
    IntegerAttr,
    MemRefType,
    ModuleOp,
    StringAttr,
    TensorType,
    i64,
)
from xdsl.dialects.func import FuncOp
from xdsl.ir import Attribute
from xdsl.utils.hints import isa

from npu_dialect import dtypes, ports
from npu_dialect.blob import BlobAttr
from npu_dialect.diagnostics import Code, CompileError, error
from npu_dialect.graph.base import Array
from npu_dialect.graph.quant import QuantType

STATES = "npu.states"
INPUT_NAMES, OUTPUT_NAMES = "npu.input_names", "npu.output_names"
_FIELDS = ("name", "argument", "result", "initial")


@dataclass(frozen=True)
class State:
    """A state of a function, by the numbers of the argument and the result that it is."""

    name: str
    argument: int | None = None
    """The argument that is its content before a call; None for a state that is only written."""
    result: int | None = None
    """The result that is its content after a call; None for a state that is only read."""
    initial: BlobAttr | None = None
    """Its content before the first call, in storage values; None for zeros."""


def states_of(function: FuncOp) -> tuple[State, ...]:
    """The states of a function at level graph or tile. Raises CompileError (NPU0202) for an
    attribute that is not as this module's text says.
    """
    attribute = function.attributes.get(STATES)
    if attribute is None:
        return ()
    if not isa(attribute, ArrayAttr[DictionaryAttr]):
        raise _wrong(function, f"{STATES} must be a list of dictionaries", attribute)
    return tuple(_state(function, each.data) for each in attribute)


def _state(function: FuncOp, fields: Mapping[str, Attribute]) -> State:
    name, initial = fields.get("name"), fields.get("initial")
    numbers = [fields.get(n) for n in ("argument", "result")]
    if (
        not isinstance(name, StringAttr)
        or not all(n is None or isinstance(n, IntegerAttr) for n in numbers)
        or not (initial is None or isinstance(initial, BlobAttr))
        or not set(fields) <= set(_FIELDS)
    ):
        rule = "a state must have a name, the numbers of an argument and a result, an initial blob"
        raise _wrong(function, rule, DictionaryAttr(dict(fields)))
    argument, result = (None if n is None else cast(Any, n).value.data for n in numbers)
    return State(name.data, argument, result, initial)


def set_states(function: FuncOp, states: Iterable[State]) -> None:
    """Declare the states of a function, all of them. Raises CompileError (NPU0202)."""
    rows = [DictionaryAttr(dict(_attributes(state))) for state in states]
    if rows:
        function.attributes[STATES] = ArrayAttr(rows)
    else:
        function.attributes.pop(STATES, None)
    _check_function(function)


def _attributes(state: State) -> Iterator[tuple[str, Attribute]]:
    yield "name", StringAttr(state.name)
    for name, number in (("argument", state.argument), ("result", state.result)):
        if number is not None:
            yield name, IntegerAttr(number, i64)
    if state.initial is not None:
        yield "initial", state.initial


def feed_back(
    function: FuncOp, names: Mapping[str, str], initial: Mapping[str, Array] | None = None
) -> None:
    """Make inputs and outputs of a function states: input name to the name of the output that it is
    at the next call. A state is called as its input. `initial` has contents by input name.

    Raises CompileError (NPU0202, NPU0501) where they do not fit.
    """
    initial = initial or {}
    found = list(states_of(function))
    inputs, outputs = (_names(function, n) for n in (INPUT_NAMES, OUTPUT_NAMES))
    taken = {state.name for state in found}
    for source, result in names.items():
        for name, known in ((source, inputs), (result, outputs)):
            if name not in known or name in taken:
                raise error(
                    Code.INPUT_NAMES,
                    "a state must be an input and an output of the model",
                    found=f"{name}, not one of {', '.join(known) or 'none'}",
                    remedy="IN=OUT, the names of an input and of the output that it is next",
                    source=f"state {source}",
                )
        blob = BlobAttr.of(np.asarray(initial[source])) if source in initial else None
        found.append(State(source, inputs.index(source), outputs.index(result), blob))
    set_states(function, found)


def _names(function: FuncOp, attribute: str) -> list[str]:
    names = function.attributes.get(attribute)
    return [item.data for item in names.data] if isa(names, ArrayAttr[StringAttr]) else []


# --- contents -------------------------------------------------------------------------------------


def initial_of(function: FuncOp, state: State, type_: TensorType[Attribute]) -> Array:
    """The content of a state of this type before the first call, in storage values: as the function
    says, or else another one that has the state.
    """
    if state.initial is not None:
        return state.initial.array
    module = function.parent_op()
    others = module.body.block.ops if isinstance(module, ModuleOp) else ()
    for other in others:
        if isinstance(other, FuncOp):
            for each in states_of(other):
                if each.name == state.name and each.initial is not None:
                    return each.initial.array
    return zeros(type_)


def zeros(type_: TensorType[Attribute]) -> Array:
    """An array of the type in which every element means zero."""
    element, shape = type_.element_type, type_.get_shape()
    if not isinstance(element, QuantType):
        return ports.zeros(shape, dtypes.of(element))
    return ports.zeros(shape, dtypes.of(element), element.zero_points.tolist(), element.axis)


# --- level tile -----------------------------------------------------------------------------------


def result_arguments(function: FuncOp, inputs: int) -> list[int]:
    """For a function at level tile with that many inputs, states among them: which of its arguments
    holds each result in the end. A state's is that of the state; the others trail the inputs.
    """
    stored = {s.result: s.argument for s in states_of(function) if s.argument is not None}
    stored.pop(None, None)
    arguments = len(function.function_type.inputs)
    trailing = iter(range(inputs, arguments))
    count = arguments - inputs + len(stored)
    return [stored[k] if k in stored else next(trailing) for k in range(count)]


# --- what must hold -------------------------------------------------------------------------------


def check(module: ModuleOp) -> None:
    """Raise CompileError (NPU0202) unless the states of every function are well formed, and those
    that functions share agree.
    """
    seen: dict[str, tuple[State, Attribute, FuncOp]] = {}
    for function in module.body.ops:
        if isinstance(function, FuncOp) and STATES in function.attributes:
            for state, type_ in _check_function(function):
                before = seen.setdefault(state.name, (state, type_, function))
                _check_shared(function, state, type_, before)
                if before[0].initial is None and state.initial is not None:
                    known = replace(before[0], initial=state.initial)
                    seen[state.name] = (known, before[1], function)


def _check_function(function: FuncOp) -> list[tuple[State, Attribute]]:
    found = [(state, _type_of(function, state)) for state in states_of(function)]
    for field in ("name", "argument", "result"):
        values = [v for state, _ in found if (v := getattr(state, field)) is not None]
        twice = sorted({str(v) for v in values if values.count(v) > 1})
        if twice:
            rule = f"every state must have its own {field}"
            raise _wrong(function, rule, f"{field} {', '.join(twice)} twice")
    for state, type_ in found:
        _check_initial(function, state, type_)
    return found


def _type_of(function: FuncOp, state: State) -> Attribute:
    """The type of the state's argument and result, which must be the same."""
    kind = function.function_type
    lowered = any(isinstance(each, MemRefType) for each in kind.inputs)
    types: list[Attribute] = []
    for what, number, known in (
        ("argument", state.argument, kind.inputs.data),
        ("result", state.result, kind.outputs.data),
    ):
        if number is None or (what == "result" and lowered):
            continue
        if not 0 <= number < len(known):
            rule = f"the {what} of a state must be one of the function's {len(known)}"
            raise _wrong(function, rule, f"{what} {number} of state {state.name}")
        types.append(known[number])
    if state.argument is None and state.result is None:
        rule = "a state must be an argument or a result of the function, or both"
        raise _wrong(function, rule, f"neither for state {state.name}")
    if len(set(types)) > 1:
        rule = "the argument and the result of a state must have the same type"
        raise _wrong(function, rule, f"{types[0]} and {types[1]} for state {state.name}")
    return types[0] if types else kind


def _check_initial(function: FuncOp, state: State, type_: Attribute) -> None:
    if state.initial is None or not isa(type_, TensorType[Attribute]):
        return
    blob = state.initial.data
    if blob.shape != type_.get_shape() or blob.dtype != dtypes.of(type_.element_type):
        rule = f"the initial content of state {state.name} must have the storage of {type_}"
        raise _wrong(function, rule, f"{blob.dtype}{list(blob.shape)}")


def _check_shared(
    function: FuncOp, state: State, type_: Attribute, before: tuple[State, Attribute, FuncOp]
) -> None:
    other, kind, owner = before
    if isa(type_, TensorType[Attribute]) and isa(kind, TensorType[Attribute]) and type_ != kind:
        rule = f"state {state.name} must have one type in all functions"
        raise _wrong(function, rule, f"{type_}, and {kind} in @{owner.sym_name.data}")
    given = [i for i in (state.initial, other.initial) if i is not None]
    if len(set(given)) > 1:
        rule = f"state {state.name} must have one initial content"
        raise _wrong(function, rule, f"another one in @{owner.sym_name.data}")


def _wrong(function: FuncOp, rule: str, found: object) -> CompileError:
    return error(Code.IR_INVALID, rule, found=found, source=function.sym_name.data)


def arguments_with(
    function: FuncOp, inputs: Sequence[Array], contents: Mapping[str, Array]
) -> list[Array]:
    """All arguments of a function: `inputs` for those that are no states, else the contents."""
    names = {s.argument: s.name for s in states_of(function) if s.argument is not None}
    plain = iter(inputs)
    count = len(inputs) + len(names)
    return [contents[names[k]] if k in names else next(plain) for k in range(count)]
