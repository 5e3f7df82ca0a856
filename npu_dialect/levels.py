"""The levels of a module: which one it is at, its inputs and outputs there, and running it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Literal

from xdsl.dialects.builtin import ArrayAttr, MemRefType, ModuleOp, StringAttr, TensorType
from xdsl.dialects.func import FuncOp
from xdsl.ir import Attribute
from xdsl.utils.hints import isa

from npu_dialect import dtypes
from npu_dialect.diagnostics import Code, error
from npu_dialect.ports import Array, Port

if TYPE_CHECKING:
    from npu_dialect.tile.events import Event
    from npu_dialect.tile.interpret import View

Level = Literal["graph", "tile", "npu"]


def level(module: ModuleOp) -> Level | None:
    """The level that a module has reached; None for one that no pipeline has touched yet."""
    dialects = {op.name.partition(".")[0] for op in module.walk()}
    if "npu" in dialects:
        return "npu"
    if "tile" in dialects:
        return "tile"
    return "graph" if "npu.level" in module.attributes else None


def run_graph(module: ModuleOp, inputs: Sequence[Array]) -> list[Array]:
    """The outputs of a module at level graph."""
    from npu_dialect.graph import interpret

    return interpret.run(module, inputs)


def run_tile(
    module: ModuleOp,
    inputs: Sequence[Array],
    *,
    observer: Callable[[Event, View], None] | None = None,
) -> list[Array]:
    """The outputs of a module at level tile, whose host functions are of level graph."""
    from npu_dialect.graph import interpret as graph_interpret
    from npu_dialect.tile import interpret as tile_interpret

    def host(name: str, arrays: list[Array]) -> list[Array]:
        return graph_interpret.run(module, arrays, name)

    return tile_interpret.run(main(module), inputs, host=host, observer=observer)


def main(module: ModuleOp) -> FuncOp:
    """The function `@main` of a module at level graph or tile. Raises CompileError (NPU0202)."""
    for op in module.body.ops:
        if isinstance(op, FuncOp) and op.sym_name.data == "main":
            return op
    raise error(Code.IR_INVALID, "a module must have a function @main", found="none")


def inputs_of(module: ModuleOp) -> list[Port]:
    """The inputs of a module at level graph or tile."""
    function = main(module)
    count = len(function.function_type.inputs) - _trailing_outputs(function)
    types = function.function_type.inputs.data[:count]
    names = _names(function, "npu.input_names", "in", count)
    return [_port(name, each) for name, each in zip(names, types, strict=True)]


def output_names(module: ModuleOp) -> list[str]:
    """The names of the outputs of a module at level graph or tile."""
    function = main(module)
    count = len(function.function_type.outputs) or _trailing_outputs(function)
    return _names(function, "npu.output_names", "out", count)


def _port(name: str, each: object) -> Port:
    if isa(each, TensorType[Attribute] | MemRefType[Attribute]):
        return Port(name, dtypes.of(each.element_type), each.get_shape())
    raise error(Code.IR_INVALID, "inputs must be tensors or memrefs", found=each, source=name)


def _trailing_outputs(function: FuncOp) -> int:
    """How many arguments are outputs: at level tile, where functions return nothing."""
    if function.function_type.outputs:
        return 0
    return len(_attribute(function, "npu.output_names") or [])


def _names(function: FuncOp, attribute: str, default: str, count: int) -> list[str]:
    """The names in an attribute of the function, or else in0, in1, ... Raises CompileError."""
    names = _attribute(function, attribute) or [f"{default}{i}" for i in range(count)]
    if len(names) != count:
        raise error(
            Code.IR_INVALID, f"{attribute} must have {count} names", found=len(names), source="main"
        )
    return names


def _attribute(function: FuncOp, name: str) -> list[str] | None:
    names = function.attributes.get(name)
    return [item.data for item in names.data] if isa(names, ArrayAttr[StringAttr]) else None
