"""cond_if and while_loop: operations with regions.

    cond_if c, constant                 the operations of the region
    cond_if c, of run time              those of both; a `where` chooses each result
    while_loop, constant condition      those of the body, as often as the condition holds
    any other while_loop                `graph.opaque`, a loop of the host (`graph/loops.py`)

What a loop of the host reads from around it are values of the loop, too, which stay as they are;
constants are constants in it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, cast

from xdsl.dialects.func import FuncOp, ReturnOp
from xdsl.ir import Operation, Region, SSAValue

from npu_dialect import dtypes, graph
from npu_dialect.frontends.dead import erase_dead
from npu_dialect.frontends.onnx.builder import dtype_of, element_of
from npu_dialect.frontends.onnx.errors import Misfit, NotExpressible
from npu_dialect.frontends.onnx.ops.common import reshape, where
from npu_dialect.graph import loops
from npu_dialect.tosa import CondIfOp, VariableReadOp, VariableWriteOp, WhileLoopOp, YieldOp

if TYPE_CHECKING:
    from npu_dialect.frontends.tosa.importer import Importer

MAX_UNROLLED = 4096
"""Operations that a loop may become; one that would become more is left to the host."""

MAX_INLINED = 1 << 16
"""Operations that all loops together may become, with what is tried to be unrolled."""

REASON = "a loop whose number of steps is known at run time only"


def same_values(op: Operation) -> Iterator[tuple[SSAValue, SSAValue]]:
    """The values of control flow that hold the same stored numbers."""
    if not isinstance(op, CondIfOp | WhileLoopOp):
        return
    for region in op.regions:
        for block in region.blocks:
            yield from zip(op.inputs, block.args, strict=False)
            last = block.last_op
            is_condition = isinstance(op, WhileLoopOp) and region is op.cond_graph
            if isinstance(last, YieldOp) and not is_condition:
                yield from zip(op.results, last.operands, strict=False)
    if isinstance(op, WhileLoopOp):
        yield from zip(op.inputs, op.results, strict=False)


def results(importer: Importer, op: CondIfOp | WhileLoopOp) -> list[SSAValue]:
    """The results of an operation. Raises NotExpressible and Misfit."""
    if any(isinstance(inner, VariableReadOp | VariableWriteOp) for inner in op.walk()):
        raise NotExpressible("variables in its regions")
    given = [importer.scope[value] for value in op.inputs if value in importer.scope]
    if len(given) != len(op.inputs):
        raise Misfit("an operand that nothing computes before")
    if isinstance(op, CondIfOp):
        return _chosen(importer, op, given)
    if len(op.results) != len(given):
        raise Misfit(f"{len(op.results)} results of {len(given)} values")
    found = _unrolled(importer, op, given)
    return _hosted(importer, op, given) if found is None else found


def _tensor(found: Any) -> SSAValue | None:
    """What is in scope, if it is no list of sizes."""
    return cast("SSAValue", found) if isinstance(found, SSAValue) else None


def _flag(importer: Importer, found: Any) -> SSAValue:
    value = _tensor(found)
    if value is None or dtype_of(value) is not dtypes.bool_:
        raise Misfit("a condition that is no truth value")
    return reshape(importer.builder, value, ())


def _typed(importer: Importer, op: Operation, found: Sequence[SSAValue]) -> list[SSAValue]:
    """Results in the types that the text states."""
    if len(found) != len(op.results):
        raise Misfit(f"{len(found)} values for {len(op.results)} results")
    pairs = zip(found, op.results, strict=True)
    return [importer.typed(value, stated, op.name) for value, stated in pairs]


def _chosen(importer: Importer, op: CondIfOp, given: Sequence[Any]) -> list[SSAValue]:
    b = importer.builder
    if op.condition not in importer.scope:
        raise Misfit("an operand that nothing computes before")
    flag = _flag(importer, importer.scope[op.condition])
    known = b.array(flag)
    if known is not None:
        region = op.then_graph if known.item() else op.else_graph
        return _typed(importer, op, importer.region(region, given))
    then = _typed(importer, op, importer.region(op.then_graph, given))
    otherwise = _typed(importer, op, importer.region(op.else_graph, given))
    return [where(b, flag, x, y) for x, y in zip(then, otherwise, strict=True)]


def _unrolled(importer: Importer, op: WhileLoopOp, given: Sequence[Any]) -> list[SSAValue] | None:
    """The values after the last step, None where the number of steps is not known or too great."""
    values, before = list(given), importer.unrolled[0]
    size = sum(1 for region in op.regions for _ in region.walk())
    while importer.unrolled[0] - before <= MAX_UNROLLED:
        importer.unrolled[0] += size
        if importer.unrolled[0] > MAX_INLINED:
            raise NotExpressible(f"loops of more than {MAX_INLINED} operations, written out")
        holds = importer.region(op.cond_graph, values)
        if len(holds) != 1:
            raise Misfit(f"a condition of {len(holds)} results")
        known = importer.builder.array(_flag(importer, holds[0]))
        if known is None:
            return None
        if not known.item():
            return values
        values = _typed(importer, op, importer.region(op.body_graph, values))
    return None


def _hosted(importer: Importer, op: WhileLoopOp, given: Sequence[Any]) -> list[SSAValue]:
    """The values after the last step, which the host does."""
    b = importer.builder
    given = _typed(importer, op, given)
    around = _around(op)
    read = [importer.scope[v] for v in around if v in importer.scope]
    if len(read) != len(around):
        raise Misfit("an operand that nothing computes before")
    tensors = [v for v in map(_tensor, read) if v is not None]
    held = [v for v in tensors if b.array(v) is None]
    kinds: list[Any] = [v.type for v in (*given, *held)]
    functions: list[FuncOp] = []
    for region in (op.cond_graph, op.body_graph):
        inner = importer.apart(kinds)
        values, rest = inner.block.args[: len(given)], iter(inner.block.args[len(given) :])
        for value, known in zip(around, read, strict=True):
            inner.scope[value] = _inside(inner, known, rest)
        found = inner.region(region, values)
        if region is op.body_graph:
            found = [*_typed(inner, op, found), *inner.block.args[len(given) :]]
        functions.append(_function(inner, found))
    payload, constants = loops.payload(*functions)
    known = [b.constant(c.array, element_of(c.results[0])) for c in constants]
    made = graph.OpaqueOp([*given, *held, *known], kinds, loops.DOMAIN, "WHILE", payload, REASON)
    b.insert(made)
    return list(made.results[: len(given)])


def _around(op: WhileLoopOp) -> list[SSAValue]:
    """What the regions read that is computed outside of them, each once."""
    inside = {value for inner in op.walk() for value in inner.results if inner is not op}
    blocks = [block for inner in op.walk() for region in inner.regions for block in region.blocks]
    inside |= {argument for block in blocks for argument in block.args}
    read = [v for inner in op.walk() if inner is not op for v in inner.operands]
    return list(dict.fromkeys(v for v in read if v not in inside))


def _inside(inner: Importer, found: Any, rest: Iterator[SSAValue]) -> Any:
    """A value from around as one of the function: a shape, a constant, or an argument."""
    value = _tensor(found)
    if value is None:
        return found
    owner = value.owner
    if isinstance(owner, graph.ConstantOp):
        return inner.builder.constant(owner.array, element_of(value))
    return next(rest)


def _function(inner: Importer, found: Sequence[SSAValue]) -> FuncOp:
    inner.builder.attach(found)
    inner.block.add_op(ReturnOp(*found))
    erase_dead(inner.block)
    types = [a.type for a in inner.block.args], [v.type for v in found]
    return FuncOp("step", types, Region(inner.block))
