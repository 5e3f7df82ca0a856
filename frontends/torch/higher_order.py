"""Higher-order operators: cond, while_loop, scan, map.

    y, = cond(pred, true_graph, false_graph, (x,))

becomes the branch that is taken, if `pred` is known; else both branches and a `graph.where` for
each result: `graph` has no side effects, and a NaN of the other branch is not selected. Loops
become their bodies one after the other; of `while_loop` the condition must be known in each step.
What is known stays known from step to step, so that a counter costs nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

from xdsl.ir import SSAValue

from npu_dialect import graph
from npu_dialect.diagnostics import Code, remark
from npu_dialect.frontends.onnx.builder import shape_of
from npu_dialect.frontends.onnx.errors import Misfit, NotExpressible
from npu_dialect.frontends.torch.builder import dtype_of
from npu_dialect.frontends.torch.ops import common
from npu_dialect.frontends.torch.package import torch
from npu_dialect.frontends.torch.walk import LOST, Higher, Unsupported, Walk

MAX_NODES = 4096
"""Nodes that a loop may become."""


def cond(walk: Walk, node: Any, arguments: Sequence[Any]) -> Sequence[Any]:
    """The branch that is taken, or both and a selection."""
    predicate, true, false, *rest = arguments
    operands = list(rest[0]) if rest else []
    if not isinstance(predicate, SSAValue):
        return walk.inline(true if bool(predicate) else false, operands)
    before = len(list(walk.builder.block.ops))
    branches = [walk.inline(branch, operands) for branch in (true, false)]
    made = len(list(walk.builder.block.ops)) - before
    remark(
        Code.APPROXIMATION,
        "both branches of a cond run, and a selection follows, since its condition is of run time",
        found=f"{made} operations in both",
        remedy="a condition that is known when compiling, where that is too much",
        source=walk.builder.source,
    )
    chosen = cast("SSAValue[Any]", predicate)
    return [_selected(walk, chosen, *pair) for pair in zip(*branches, strict=True)]


def _selected(walk: Walk, predicate: SSAValue, true: Any, false: Any) -> Any:
    if true is None or true is LOST or false is LOST:
        return true if true is None else LOST
    b = walk.builder
    values = [_tensor(walk, x) for x in (true, false)]
    if shape_of(values[0]) != shape_of(values[1]):
        found = f"{list(shape_of(values[0]))} and {list(shape_of(values[1]))}"
        raise Misfit(f"branches of the shapes {found}")
    scalar = common.reshape(b, common.truth(b, predicate), ())
    mask = common.broadcast(b, scalar, shape_of(values[0]))
    return b.emit(graph.WhereOp(mask, values[0], values[1]))


def while_loop(walk: Walk, node: Any, arguments: Sequence[Any]) -> Sequence[Any]:
    """The body as often as the condition, which must be known, holds."""
    condition, body, carried, *rest = arguments
    carried, others = list(carried), list(rest[0]) if rest else []
    steps = 0
    while True:
        (again,) = walk.inline(condition, [*carried, *others])
        if isinstance(again, SSAValue):
            found = f"a condition that is computed at run time, in step {steps + 1}"
            raise Unsupported(node, found, "loop")
        if again is LOST or not bool(again):
            return carried
        steps += 1
        _check_size(node, body, steps)
        carried = walk.inline(body, [*carried, *others])


def scan(walk: Walk, node: Any, arguments: Sequence[Any]) -> Sequence[Any]:
    """The body for each row of `xs`; the last carried values, and the rows of the others."""
    body, carried, xs, *rest = arguments
    carried, others = list(carried), list(rest[0]) if rest else []
    count = _rows(xs)
    _check_size(node, body, count)
    rows: list[list[Any]] = []
    for k in range(count):
        step = [_row(walk, x, k) for x in xs]
        results = walk.inline(body, [*carried, *step, *others])
        carried, row = results[: len(carried)], results[len(carried) :]
        rows.append(row)
    return [*carried, *(_stacked(walk, column) for column in zip(*rows, strict=True))]


def map_rows(walk: Walk, node: Any, arguments: Sequence[Any]) -> Sequence[Any]:
    """The body for each row of `xs`; the rows of its results."""
    body, xs, *rest = arguments
    return scan(walk, node, [body, [], xs, *rest])


def _rows(xs: Sequence[Any]) -> int:
    if not xs:
        raise NotExpressible("no tensor whose rows are the steps")
    first = cast("SSAValue[Any]", xs[0])
    count = int((shape_of(first) if isinstance(xs[0], SSAValue) else xs[0].shape)[0])
    if not count:
        raise NotExpressible("no step")
    return count


def _check_size(node: Any, body: Any, steps: int) -> None:
    size = sum(1 for n in body.graph.nodes if n.op == "call_function")
    if steps * size > MAX_NODES:
        found = f"{steps} steps of {size} operators, and {MAX_NODES} are the limit"
        raise Unsupported(node, found, "loop")


def _row(walk: Walk, x: Any, k: int) -> Any:
    if not isinstance(x, SSAValue):
        return x[k]
    rows = cast("SSAValue[Any]", x)
    return common.squeeze(walk.builder, common.along(walk.builder, rows, 0, k, 1), [0])


def _stacked(walk: Walk, rows: Sequence[Any]) -> Any:
    tensor = torch().Tensor
    if any(row is LOST for row in rows):
        return LOST
    if all(isinstance(row, tensor) for row in rows):
        return torch().stack(list(rows))
    values = [_tensor(walk, row) for row in rows]
    b, shape = walk.builder, shape_of(values[0])
    return common.concat(b, [common.reshape(b, v, (1, *shape)) for v in values], 0)


def _tensor(walk: Walk, x: Any) -> SSAValue:
    """A value of run time or a known one as an SSA value."""
    if isinstance(x, torch().Tensor) and dtype_of(x.dtype) is None:
        raise Misfit(f"a constant of type {x.dtype}")
    return cast("SSAValue[Any]", x) if isinstance(x, SSAValue) else walk.constant(x)


TABLE: Mapping[str, Higher] = {
    "cond": cond,
    "map_impl": map_rows,
    "scan": scan,
    "while_loop": while_loop,
}
"""The importers by the name of the operator."""
