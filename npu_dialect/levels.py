"""The levels of a module: which one it is at, its inputs and outputs there, and running it."""

from __future__ import annotations

from collections.abc import Callable, MutableMapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from xdsl.dialects.builtin import ArrayAttr, MemRefType, ModuleOp, StringAttr, TensorType
from xdsl.dialects.func import FuncOp
from xdsl.ir import Attribute
from xdsl.utils.hints import isa

from npu_dialect import dtypes
from npu_dialect.diagnostics import Code, error
from npu_dialect.graph.states import (
    INPUT_NAMES,
    OUTPUT_NAMES,
    State,
    initial_of,
    states_of,
)
from npu_dialect.graph.states import arguments_with as _arguments_with
from npu_dialect.ports import Array, Inputs, Port, fits

if TYPE_CHECKING:
    from npu_dialect.tile.events import Event
    from npu_dialect.tile.interpret import View

Level = Literal["graph", "tile", "npu"]

Contents = MutableMapping[str, Array]
"""The contents of states, by name."""


def level(module: ModuleOp) -> Level | None:
    """The level that a module has reached; None for one that no pipeline has touched yet."""
    dialects = {op.name.partition(".")[0] for op in module.walk()}
    if "npu" in dialects:
        return "npu"
    if "tile" in dialects:
        return "tile"
    return "graph" if "npu.level" in module.attributes else None


def run_graph(
    module: ModuleOp,
    inputs: Sequence[Array],
    *,
    state: Contents | None = None,
    entry: str | None = None,
) -> list[Array]:
    """The outputs of a module at level graph. See `run_with` for `state`."""
    from npu_dialect.graph import interpret

    function = entry_of(module, entry)
    return run_with(function, inputs, state, lambda given: interpret.run(function, given))


def run_tile(
    module: ModuleOp,
    inputs: Sequence[Array],
    *,
    state: Contents | None = None,
    entry: str | None = None,
    observer: Callable[[Event, View], None] | None = None,
) -> list[Array]:
    """The outputs of a module at level tile, whose host functions are of level graph. See
    `run_with` for `state`.
    """
    from npu_dialect.graph import interpret as graph_interpret
    from npu_dialect.tile import interpret as tile_interpret

    def host(name: str, arrays: list[Array]) -> list[Array]:
        return graph_interpret.run(module, arrays, name)

    def run(given: list[Array]) -> list[Array]:
        return tile_interpret.run(function, given, host=host, observer=observer)

    function = entry_of(module, entry)
    return run_with(function, inputs, state, run)


def run_with(
    function: FuncOp,
    inputs: Sequence[Array],
    state: Contents | None,
    run: Callable[[list[Array]], list[Array]],
) -> list[Array]:
    """The outputs of a function that are no states, by what runs it on all of its arguments.

    `state` has the contents of the states by name: those before the call where it has them, else
    they are the initial ones; and after the call the new ones.
    """
    ports = _state_ports(function)
    contents = {p.name: p.initial for p in ports} | dict(state or {})
    results = run(_arguments_with(function, inputs, contents))
    for port in ports:
        if port.result is not None:
            contents[port.name] = results[port.result]
    if state is not None:
        state.update({p.name: contents[p.name] for p in ports})
    held = {p.result for p in ports}
    return [array for k, array in enumerate(results) if k not in held]


# --- entries --------------------------------------------------------------------------------------


def entries(module: ModuleOp) -> list[FuncOp]:
    """The functions of a module at level graph or tile that a program is made for."""
    return [
        op
        for op in module.body.ops
        if isinstance(op, FuncOp) and not op.is_declaration and op.sym_visibility is None
    ]


def entry_of(module: ModuleOp, name: str | None = None) -> FuncOp:
    """The entry called `name`; without a name @main, or the only one. Raises CompileError
    (NPU0202).
    """
    found = {op.sym_name.data: op for op in entries(module)}
    if name is None:
        name = next(iter(found)) if len(found) == 1 else "main"
    if name not in found:
        raise error(
            Code.IR_INVALID,
            f"a module must have a function @{name}",
            found=", ".join(f"@{n}" for n in found) or "none",
        )
    return found[name]


def entry_for(module: ModuleOp, inputs: Inputs) -> str:
    """The name of the only entry, or `main`, or else the one that the inputs fit. Raises
    CompileError (NPU0507) where they fit none, or several.
    """
    names = [op.sym_name.data for op in entries(module)]
    if len(names) == 1 or "main" in names:
        return entry_of(module).sym_name.data
    found = [name for name in names if fits(inputs_of(module, name), inputs)]
    if len(found) != 1:
        raise error(
            Code.ENTRY,
            f"an entry must be named where the inputs fit not exactly one of {', '.join(names)}",
            found=f"inputs that fit {' and '.join(found) or 'none'}",
            source="entry",
        )
    return found[0]


def main(module: ModuleOp) -> FuncOp:
    """The entry of a module at level graph or tile that has one. Raises CompileError (NPU0202)."""
    return entry_of(module)


# --- ports ----------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class StatePort(Port):
    """A state of a function, which is its argument and its result of these numbers."""

    argument: int | None
    result: int | None
    initial: Array
    """Its content before the first call."""


def inputs_of(module: ModuleOp, entry: str | None = None) -> list[Port]:
    """The inputs of a module at level graph or tile, without its states."""
    function = entry_of(module, entry)
    ports = _arguments(function)
    held = {state.argument for state in states_of(function)}
    return [port for k, port in enumerate(ports) if k not in held]


def output_names(module: ModuleOp, entry: str | None = None) -> list[str]:
    """The names of the outputs of a module at level graph or tile, without its states."""
    function = entry_of(module, entry)
    held = {state.result for state in states_of(function)}
    return [name for k, name in enumerate(result_names(function)) if k not in held]


def states(module: ModuleOp, entry: str | None = None) -> list[StatePort]:
    """The states of a module at level graph or tile."""
    return _state_ports(entry_of(module, entry))


def _arguments(function: FuncOp) -> list[Port]:
    count = len(function.function_type.inputs) - _trailing_outputs(function)
    types = function.function_type.inputs.data[:count]
    names = _names(function, INPUT_NAMES, "in", count)
    return [_port(name, each) for name, each in zip(names, types, strict=True)]


def input_names(function: FuncOp) -> list[str]:
    """The names of all arguments that a function takes, states among them."""
    return [port.name for port in _arguments(function)]


def result_names(function: FuncOp) -> list[str]:
    """The names of all results of a function, states among them."""
    stored = sum(s.argument is not None and s.result is not None for s in states_of(function))
    trailing = _trailing_outputs(function)
    count = len(function.function_type.outputs) or (trailing + stored)
    return _names(function, OUTPUT_NAMES, "out", count)


def _state_ports(function: FuncOp) -> list[StatePort]:
    found: list[StatePort] = []
    for state in states_of(function):
        type_ = _tensor_of(function, state)
        storage = dtypes.of(type_.element_type)
        found.append(
            StatePort(
                state.name,
                storage,
                type_.get_shape(),
                state.argument,
                state.result,
                initial_of(function, state, type_),
            )
        )
    return found


def _tensor_of(function: FuncOp, state: State) -> TensorType[Attribute]:
    """The type of a state as a tensor; at level tile it stands in an attribute."""
    kind = function.function_type
    for number, types, attribute in (
        (state.argument, kind.inputs.data, "npu.input_types"),
        (state.result, kind.outputs.data, "npu.output_types"),
    ):
        kept = function.attributes.get(attribute)
        known = kept.data if isa(kept, ArrayAttr[Attribute]) else types
        if number is not None and number < len(known):
            found = known[number]
            if isa(found, MemRefType[Attribute]):
                return TensorType(found.element_type, found.get_shape())
            if isa(found, TensorType[Attribute]):
                return found
    raise error(Code.IR_INVALID, "a state must be a tensor or memref", source=state.name)


def _port(name: str, each: object) -> Port:
    if isa(each, TensorType[Attribute] | MemRefType[Attribute]):
        return Port(name, dtypes.of(each.element_type), each.get_shape())
    raise error(Code.IR_INVALID, "inputs must be tensors or memrefs", found=each, source=name)


def _trailing_outputs(function: FuncOp) -> int:
    """How many arguments are outputs: at level tile, where functions return nothing."""
    if function.function_type.outputs:
        return 0
    names = _attribute(function, OUTPUT_NAMES) or []
    stored = sum(s.argument is not None and s.result is not None for s in states_of(function))
    return max(0, len(names) - stored)


def _names(function: FuncOp, attribute: str, default: str, count: int) -> list[str]:
    """The names in an attribute of the function, or else in0, in1, ... Raises CompileError."""
    names = _attribute(function, attribute) or [f"{default}{i}" for i in range(count)]
    if len(names) != count:
        raise error(
            Code.IR_INVALID,
            f"{attribute} must have {count} names",
            found=len(names),
            source=function.sym_name.data,
        )
    return names


def _attribute(function: FuncOp, name: str) -> list[str] | None:
    names = function.attributes.get(name)
    return [item.data for item in names.data] if isa(names, ArrayAttr[StringAttr]) else None
