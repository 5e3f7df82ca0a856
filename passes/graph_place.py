"""graph-place: every operation gets the engine that runs it, the rule that decided and the reason.

    %1 = graph.conv2d %x, %w {...} : (tensor<1x8x8x16x!q>, ...) -> tensor<1x8x8x16xi32>
    %2 = graph.softmax %0 {axis = 1} : (tensor<1x10xf32>) -> tensor<1x10xf32>

becomes, for a target without floats,

    %1 = graph.conv2d %x, %w {..., npu.placement = #graph.placement<mxu, "array", "...">} : ...
    %2 = graph.softmax %0 {..., npu.placement = #graph.placement<host, "several-steps", "...">}

Constants have no place: they lie in memory. A target without floats converts its inputs and outputs
on the engine `io`. Data that only moves between operations of the host stays there.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator, Sequence
from dataclasses import dataclass

from xdsl.context import Context
from xdsl.dialects.builtin import ModuleOp, StringAttr
from xdsl.dialects.func import FuncOp, ReturnOp
from xdsl.ir import Block, BlockArgument, Operation, SSAValue
from xdsl.passes import ModulePass

from npu_dialect import dtypes, graph, overrides
from npu_dialect.diagnostics import Code, remark
from npu_dialect.graph.attributes import APPROXIMATE, PLACEMENT, PlacementAttr
from npu_dialect.graph.base import dtype_of
from npu_dialect.graph.states import State, states_of
from npu_dialect.passes.kernels import build_kernel, constant_of
from npu_dialect.passes.placement.rules import fits_output_stage, has_float_lanes, place
from npu_dialect.passes.targets import module_target
from npu_dialect.target import Target

MOVES = (
    graph.ReshapeOp,
    graph.TransposeOp,
    graph.ConcatOp,
    graph.SliceOp,
    graph.PadOp,
    graph.BroadcastToOp,
    graph.GatherOp,
)
VIEWS = (graph.ReshapeOp, graph.TransposeOp)

QUANTIZE = PlacementAttr.of(
    "io", "quantize-input", "an input is quantized at the boundary: the vector unit has no floats"
)
DEQUANTIZE = PlacementAttr.of(
    "io",
    "dequantize-output",
    "an output becomes real numbers at the boundary: no float vector unit",
)
STORE_OUTPUT = PlacementAttr.of(
    "io",
    "output-type",
    "an output gets a type at the boundary that the accelerator does not store",
)
PINNED = PlacementAttr.of("host", "override", "the overrides file places it on the host")
AMONG_HOST = PlacementAttr.of(
    "host", "moves-among-host", "data that moves between operations of the host stays there"
)


OUTPUT_STAGE = PlacementAttr.of(
    "mxu", "output-stage", "the array's output stage rescales sums of 64 bits"
)


@dataclass(frozen=True)
class GraphPlacePass(ModulePass):
    """Decide the engine of every operation."""

    name = "graph-place"

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        target = module_target(op)
        for function in op.ops:
            if isinstance(function, FuncOp) and not function.is_declaration:
                _place_block(function.body.block, target, states_of(function))


def _place_block(block: Block, target: Target, states: Sequence[State]) -> None:
    ops = [op for op in block.ops if _needs_place(op)]
    for op in ops:
        pinned = overrides.pins(op).get("engine") == StringAttr("host")
        op.attributes[PLACEMENT] = PINNED if pinned else _placed(op, target)
    for op in ops:
        if isinstance(op, graph.RequantizeOp) and _is_in_output_stage(op, target):
            op.attributes[PLACEMENT] = OUTPUT_STAGE
    if not has_float_lanes(target):
        _place_boundary(ops, states)
    _keep_moves_on_host(ops)
    for op in ops:
        placement = op.attributes[PLACEMENT]
        if isinstance(placement, PlacementAttr) and placement.data.engine == "host":
            rule, _, found = placement.data.reason.partition("; found ")
            remark(Code.PLACED_ON_HOST, rule, found=found or op.name, source=op)


def _placed(op: Operation, target: Target) -> PlacementAttr:
    """Where an operation runs; the reason says too what it only comes near to."""
    found, function = place(op, target), op.attributes.get(APPROXIMATE)
    if not isinstance(function, StringAttr):
        return found
    reason = f"{found.data.reason}; {function.data} in fixed point, at most one step off"
    return PlacementAttr.of(found.data.engine, found.data.rule, reason)


def _is_in_output_stage(op: graph.RequantizeOp, target: Target) -> bool:
    """Whether sums of 64 bits are rescaled before they leave the array: the vector unit may lack
    such values.
    """
    sums = op.x.owner
    if not isinstance(sums, Operation) or dtype_of(op.x) is not dtypes.i64:
        return False
    if engine_of(sums) != "mxu" or not op.x.has_one_use() or engine_of(op) == "vpu":
        return False
    if overrides.pins(op).get("engine") == StringAttr("host"):
        return False
    return fits_output_stage(build_kernel([op], op.result, sums), target)


def _needs_place(op: Operation) -> bool:
    return isinstance(op, graph.GraphOp) and not isinstance(op, graph.ConstantOp | graph.GroupOp)


def engine_of(op: Operation) -> str | None:
    """The engine that an operation was placed on, or None before placement."""
    found = op.attributes.get(PLACEMENT)
    return found.data.engine if isinstance(found, PlacementAttr) else None


# Conversions at the boundary


def _place_boundary(ops: list[Operation], states: Sequence[State]) -> None:
    """Inputs and outputs alone: states stay on the device, and do not pass the boundary."""
    arguments = {state.argument for state in states}
    results = {state.result for state in states}
    for op in ops:
        if isinstance(op, graph.QuantizeOp):
            views = _from_argument(op.x, arguments)
            if views is not None:
                _set([op, *views], QUANTIZE)
        elif isinstance(op, graph.CastOp) and engine_of(op) == "host":
            steps = _steps_from_argument(op, arguments)
            _set([*steps, *_narrowed(op)] if steps else (), QUANTIZE)
    for op in reversed(ops):
        if _makes_real(op) and (chain := _to_output(op, results)) is not None:
            _set([op, *chain], DEQUANTIZE)
        elif _widens(op) and (chain := _to_output(op, results)) is not None:
            _set([op, *chain], STORE_OUTPUT)


def _set(ops: Iterable[Operation], placement: PlacementAttr) -> None:
    for op in ops:
        op.attributes[PLACEMENT] = placement


def _from_argument(value: SSAValue, states: Container[int | None]) -> list[Operation] | None:
    """The views through which a value comes from an argument that is no state; None where it comes
    otherwise.
    """
    views: list[Operation] = []
    while isinstance(owner := value.owner, Operation):
        if not isinstance(owner, VIEWS):
            return None
        if owner.result.has_one_use():
            views.append(owner)
        value = owner.x
    if isinstance(value, BlockArgument) and value.index in states:
        return None
    return views


STEPS = (
    graph.AddOp, graph.SubOp, graph.MulOp, graph.DivOp, graph.RoundOp, graph.SignOp, graph.EqOp,
    graph.WhereOp, graph.ClampOp, *VIEWS,
)  # fmt: skip
"""What a quantization with roundings of its own is made of."""


def _steps_from_argument(
    cast: graph.CastOp, states: Container[int | None]
) -> list[Operation] | None:
    """The steps of a quantization that ends with a cast to integers: all of them are on the host,
    read one argument that is no state, and nothing else reads their results. None for others.
    """
    if not (dtype_of(cast.x).is_float and dtype_of(cast.result).is_int):
        return None
    found: dict[Operation, None] = {cast: None}
    arguments: set[SSAValue] = set()
    todo = [cast.x]
    while todo:
        value = todo.pop()
        owner = value.owner
        if not isinstance(owner, Operation):
            arguments.add(value)
        elif owner not in found and not isinstance(owner, graph.ConstantOp):
            if not isinstance(owner, STEPS) or engine_of(owner) not in ("host", None):
                return None
            found[owner] = None
            todo += owner.operands
    inner = [op for op in found if op is not cast]
    if any(use.operation not in found for op in inner for use in op.results[0].uses):
        return None
    outside = [v for v in arguments if isinstance(v, BlockArgument) and v.index not in states]
    return list(found) if len(arguments) == len(outside) == 1 else None


def _narrowed(cast: graph.CastOp) -> list[Operation]:
    """What makes integers of an input narrower that are cast: on the other side of the boundary
    they would take more bytes.
    """
    uses = list(cast.result.uses)
    op = uses[0].operation if len(uses) == 1 else None
    is_narrower = isinstance(op, graph.RequantizeOp) and (
        dtype_of(op.result).itemsize < dtype_of(cast.result).itemsize
    )
    return [op] if op is not None and is_narrower else []


def _makes_real(op: Operation) -> bool:
    """Whether integers become real numbers: dequantize, or the cast of an accumulator."""
    if isinstance(op, graph.CastOp):
        return dtype_of(op.x).is_int and dtype_of(op.result).is_float
    return isinstance(op, graph.DequantizeOp)


def _widens(op: Operation) -> bool:
    """Whether the host makes wider integers of integers."""
    if not isinstance(op, graph.CastOp) or engine_of(op) != "host":
        return False
    kinds = dtype_of(op.x), dtype_of(op.result)
    return all(kind.is_int for kind in kinds) and kinds[1].itemsize > kinds[0].itemsize


def _to_output(op: Operation, states: Container[int | None]) -> list[Operation] | None:
    """The views and scalings through which all of a result leaves; None where it is used inside, or
    in the next run.
    """
    chain: list[Operation] = []
    todo = [op]
    while todo:
        for use in todo.pop().results[0].uses:
            user = use.operation
            if isinstance(user, ReturnOp) and use.index not in states:
                continue
            if not (isinstance(user, VIEWS) or _scales(user)):
                return None
            chain.append(user)
            todo.append(user)
    return chain


def _scales(op: Operation) -> bool:
    return isinstance(op, graph.MulOp) and any(constant_of(v) is not None for v in op.operands)


# Moves among operations of the host


def _keep_moves_on_host(ops: list[Operation]) -> None:
    seen: set[Operation] = set()
    for op in ops:
        if isinstance(op, MOVES) and op not in seen and engine_of(op) == "dma":
            moves, engines = _connected_moves(op)
            seen |= moves
            if engines == {"host"}:
                _set(moves, AMONG_HOST)


def _connected_moves(op: Operation) -> tuple[set[Operation], set[str]]:
    """The moves connected to `op`, and the engines of what they take from and give to."""
    moves: set[Operation] = {op}
    engines: set[str] = set()
    todo = [op]
    while todo:
        for other in _neighbours(todo.pop()):
            if other in moves:
                continue
            engine = engine_of(other)
            if isinstance(other, MOVES) and engine == "dma":
                moves.add(other)
                todo.append(other)
            elif engine is not None:
                engines.add(engine)
    return moves, engines


def _neighbours(op: Operation) -> Iterator[Operation]:
    for operand in op.operands:
        if isinstance(operand.owner, Operation):
            yield operand.owner
    for result in op.results:
        for use in result.uses:
            yield use.operation
