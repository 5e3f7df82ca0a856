"""Running graph-level IR on numpy arrays: the definition of what a module computes.

outputs = run(module, [image])            # storage values, in the order of the results
everything = run_all(module, [image])     # and every intermediate, by the name of its source
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import numpy as np
from xdsl.dialects.builtin import ModuleOp
from xdsl.dialects.func import FuncOp, ReturnOp
from xdsl.ir import Block, Operation, SSAValue

from npu_dialect import provenance
from npu_dialect.graph.base import Array, GraphOp, dtype_of, shape_of
from npu_dialect.graph.structure import GroupOp, YieldOp

Record = Callable[[Operation, Sequence[Array]], None]


def run(
    module: ModuleOp | FuncOp,
    inputs: Sequence[Array],
    entry: str = "main",
    record: Record | None = None,
) -> list[Array]:
    """The outputs of a function, or of the function `entry` of a module.

    `record` is called with every executed operation and its results, inside groups too. Raises
    ValueError for inputs of another number, shape or type than the arguments.
    """
    func = find(module, entry)
    block = func.body.block
    if len(inputs) != len(block.args):
        raise ValueError(f"there must be {len(block.args)} inputs; found {len(inputs)}")
    arrays = [_checked(i, a, v) for i, (a, v) in enumerate(zip(inputs, block.args, strict=True))]
    return run_block(block, arrays, record)


def run_all(
    module: ModuleOp | FuncOp, inputs: Sequence[Array], entry: str = "main"
) -> dict[str, Array]:
    """Every result of every operation, by the name of the (last) node that it comes from.

    Operations made of the same node are told apart in order: the last has the plain name, which is
    where the value of the node itself is; those before it have `#1`, `#2`, ... appended. Results
    after the first have `:1`, `:2`, ...
    """
    found: dict[str, list[Sequence[Array]]] = {}

    def record(op: Operation, results: Sequence[Array]) -> None:
        names = provenance.sources(op)
        found.setdefault(names[-1] if names else op.name, []).append(results)

    run(module, inputs, entry, record)
    return {
        name + (f"#{i + 1}" if i + 1 < len(runs) else "") + (f":{k}" if k else ""): array
        for name, runs in found.items()
        for i, results in enumerate(runs)
        for k, array in enumerate(results)
    }


def find(module: ModuleOp | FuncOp, entry: str = "main") -> FuncOp:
    """The function called `entry`, or the function itself. ValueError where there is none."""
    if isinstance(module, FuncOp):
        return module
    functions = [op for op in module.ops if isinstance(op, FuncOp)]
    for op in functions:
        if op.sym_name.data == entry:
            return op
    names = ", ".join(op.sym_name.data for op in functions) or "none"
    raise ValueError(f"the module must have a function called {entry}; found {names}")


def run_block(block: Block, inputs: Iterable[Array], record: Record | None = None) -> list[Array]:
    """The values that the terminator of a block names, for the values of its arguments."""
    known: dict[SSAValue, Array] = dict(zip(block.args, inputs, strict=True))
    for op in block.ops:
        operands = [known[v] for v in op.operands]
        if isinstance(op, ReturnOp | YieldOp):
            return operands
        results = _evaluate(op, operands, record)
        known.update(zip(op.results, results, strict=True))
        if record is not None:
            record(op, results)
    raise ValueError("a block must end with func.return or graph.yield; found neither")


def _evaluate(op: Operation, operands: Sequence[Array], record: Record | None) -> Sequence[Array]:
    if isinstance(op, GroupOp):
        return run_block(op.body.block, operands, record)
    if isinstance(op, GraphOp):
        return op.evaluate(*operands)
    raise ValueError(f"only operations of graph can be run at this level; found {op.name}")


def _checked(index: int, array: Array, argument: SSAValue) -> Array:
    array = np.asarray(array)
    shape, dtype = shape_of(argument), dtype_of(argument)
    if array.shape != shape or array.dtype != dtype.numpy:
        raise ValueError(
            f"input {index} must be {dtype} with the shape {list(shape)}; "
            f"found {array.dtype} with {list(array.shape)}"
        )
    return np.ascontiguousarray(array).reshape(shape)
