"""Operators that run subgraphs: IF, WHILE, CALL, CALL_ONCE and STABLEHLO_COMPOSITE.

A program is a list of instructions without jumps. So what a subgraph computes is written out where
it is run:

    CALL g, composite of g      the operators of g
    IF c, constant              those of the branch
    IF c, of run time           those of both branches; a `where` chooses each result
    WHILE, constant condition   those of the body, as often as the condition holds
    WHILE i < 10 and c          the same; a `where` chooses the values of the first step without c
    any other WHILE             `graph.opaque`, a loop of the host (`hosted.py`)

Whether a condition is constant is found out by folding constants, as everywhere in an importer:
counters of loops are constants in every step. What is computed for nothing has no effect, since
variables are chosen as results are.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Any

from xdsl.ir import SSAValue

from npu_dialect import dtypes, graph
from npu_dialect.diagnostics import Code, remark
from npu_dialect.frontends.onnx.builder import dtype_of, element_of, shape_of
from npu_dialect.frontends.onnx.errors import Misfit, NotExpressible, refuse
from npu_dialect.frontends.onnx.ops.common import reshape, where
from npu_dialect.frontends.tflite.builder import Builder
from npu_dialect.frontends.tflite.frame import Frame, Given
from npu_dialect.frontends.tflite.hosted import HostedLoop
from npu_dialect.frontends.tflite.model import Operator, Subgraph
from npu_dialect.frontends.tflite.ops.rescaling import as_type
from npu_dialect.frontends.tflite.package import schema
from npu_dialect.frontends.tflite.variables import Content

if TYPE_CHECKING:
    from npu_dialect.frontends.tflite.importer import Importer

MAX_UNROLLED = 4096
"""Operators that a loop may become; one that would become more is left to the host."""

MAX_INLINED = 1 << 16
"""Operators that all subgraphs together may become, with what is tried to be unrolled."""

MAX_DEPTH = 32
"""Subgraphs that run each other deeper than this are taken for a recursion."""


class TooLong(Exception):  # noqa: N818  (control flow, not an error)
    """A loop would become more operators than it may."""


def call(run: Run) -> list[Given]:
    """CALL: the operators of the subgraph."""
    return run.subgraph(run.index("Subgraph"), run.given)


def composite(run: Run) -> list[Given]:
    """STABLEHLO_COMPOSITE: the operators of the subgraph that says what it is made of."""
    return run.subgraph(run.index("DecompositionSubgraphIndex"), run.given)


def call_once(run: Run) -> list[Given]:
    """CALL_ONCE: what the subgraph assigns to variables is their content before the first run."""
    index = run.index("InitSubgraphIndex")
    if run.frame.conditions:
        raise NotExpressible("variables that are initialized under a condition of run time")
    variables = run.importer.variables
    if index in variables.initialized:
        return []
    variables.initialized.add(index)
    inner = run.importer.apart()
    inner.subgraph(index, [], run.frame)
    for name, found in inner.variables.by_name.items():
        value = inner.builder.array(found.value)
        if value is None:
            raise NotExpressible("variables that are initialized with what is computed at run time")
        variables.initialize(name, value)
    return []


def if_(run: Run) -> list[Given]:
    """IF: a branch, or both and the choice."""
    condition, *given = run.given
    if not isinstance(condition, SSAValue):
        raise Misfit("no condition")
    flag = _flag(run.b, condition)
    branches = [run.index(f"{name}SubgraphIndex") for name in ("Then", "Else")]
    known = run.b.array(flag)
    if known is not None:
        return run.subgraph(branches[not known.item()], given)
    _remark(run.b, "both branches of an IF run", "a condition that is known when compiling")
    before = run.importer.variables.contents()
    then = run.subgraph(branches[0], given, flag)
    after = run.importer.variables.contents()
    run.importer.variables.restore(before)
    otherwise = run.subgraph(branches[1], given, run.b.emit(graph.NotOp(flag)))
    old = run.importer.variables.contents()
    run.importer.variables.restore(after)
    run.importer.variables.choose(run.b, flag, old)
    return _chosen(run.b, flag, then, otherwise)


def while_(run: Run) -> list[Given]:
    """WHILE: the steps, or a loop of the host."""
    loop = Loop(run, run.index("CondSubgraphIndex"), run.index("BodySubgraphIndex"))
    variables = run.importer.variables
    before = variables.contents()
    try:
        with run.importer.at_most(MAX_UNROLLED):
            return loop.unrolled()
    except TooLong:
        if run.importer.limit is not None:
            raise  # it is the loop around this one that is too long
        reason = f"a loop of more than {MAX_UNROLLED} operators"
    except NotUnrolled:
        reason = "a loop whose number of steps is known at run time only"
    variables.restore(before)
    return HostedLoop(run, loop.condition, loop.body, reason).results()


HANDLERS: Mapping[str, Callable[[Run], list[Given]]] = {
    "CALL": call,
    "CALL_ONCE": call_once,
    "IF": if_,
    "STABLEHLO_COMPOSITE": composite,
    "WHILE": while_,
}
"""The operators that run subgraphs."""

OPTIONS = {"CALL": "CallOptions", "CALL_ONCE": "CallOnceOptions", "IF": "IfOptions",
           "STABLEHLO_COMPOSITE": "StableHLOCompositeOptions",
           "WHILE": "WhileOptions"}  # fmt: skip


@dataclass(frozen=True)
class Run:
    """One of the operators, in the subgraph that it is part of."""

    importer: Importer
    frame: Frame
    node: Operator
    given: Sequence[Given]

    @property
    def b(self) -> Builder:
        return self.importer.builder

    def index(self, field: str) -> int:
        """The number of a subgraph in the options. Raises Misfit."""
        kind = OPTIONS[self.node.name]
        if self.node.options_kind != kind or self.node.options is None:
            raise Misfit(f"options of type {self.node.options_kind}")
        table: Any = getattr(schema(), kind)()
        table.Init(self.node.options.Bytes, self.node.options.Pos)
        found, count = int(getattr(table, field)()), len(self.importer.model.subgraphs)
        if not 0 < found < count:
            raise Misfit(f"subgraph {found} of {count}")
        return found

    def body(self, index: int) -> Subgraph:
        """A subgraph."""
        return self.importer.model.subgraphs[index]

    def subgraph(self, index: int, given: Sequence[Given], *conditions: SSAValue) -> list[Given]:
        """The results of a subgraph that is used where the conditions hold."""
        return self.importer.subgraph(index, given, self.frame, *conditions)


class NotUnrolled(Exception):  # noqa: N818  (control flow, not an error)
    """The number of steps of a loop is not known."""


@dataclass(frozen=True)
class Step:
    """The values of a loop before a step that is done where a condition of run time holds."""

    condition: SSAValue
    values: Sequence[Given]
    variables: Mapping[str, Content]


@dataclass(frozen=True)
class Loop:
    """A WHILE."""

    run: Run
    condition: int
    body: int

    def unrolled(self) -> list[Given]:
        """The values after the last step. Raises NotUnrolled and TooLong."""
        run, values = self.run, list(self.run.given)
        steps: list[Step] = []
        while True:
            conditions = [step.condition for step in steps]
            parts = _conjuncts(run.b, self._holds(values, conditions))
            known = [run.b.array(part) for part in parts]
            if any(a is not None and not a.any() for a in known):
                break
            unknown = [part for part, a in zip(parts, known, strict=True) if a is None]
            if len(unknown) == len(parts):
                raise NotUnrolled
            for part in unknown:
                steps.append(Step(part, values, run.importer.variables.contents()))
            run.importer.count()
            conditions = [step.condition for step in steps]
            values = run.subgraph(self.body, values, *conditions)
        if steps:
            remedy = "a number of steps that is known when compiling"
            _remark(run.b, "all steps of a WHILE that there can be run", remedy)
        for step in reversed(steps):
            values = _chosen(run.b, step.condition, values, step.values)
            run.importer.variables.choose(run.b, step.condition, step.variables)
        return values

    def _holds(self, values: Sequence[Given], conditions: Sequence[SSAValue]) -> SSAValue:
        found = self.run.subgraph(self.condition, values, *conditions)
        if len(found) != 1 or not isinstance(found[0], SSAValue):
            raise Misfit(f"a condition of {len(found)} results")
        return _flag(self.run.b, found[0])


def _remark(b: Builder, what: str, remedy: str) -> None:
    remark(
        Code.APPROXIMATION,
        f"{what}, and a selection follows, since its condition is of run time",
        remedy=f"{remedy}, where that is too much",
        source=b.source,
    )


def _flag(b: Builder, condition: SSAValue) -> SSAValue:
    """A condition as a truth value without dimensions."""
    if dtype_of(condition) is not dtypes.bool_:
        raise Misfit(f"a condition of type {condition.type}")
    return reshape(b, condition, ())


def _conjuncts(b: Builder, condition: SSAValue) -> list[SSAValue]:
    """The conditions of which all must hold."""
    op = condition.owner
    if isinstance(op, graph.AndOp):
        return [part for operand in op.operands for part in _conjuncts(b, _flag(b, operand))]
    if isinstance(op, graph.ReshapeOp) and prod(shape_of(op.operands[0])) == 1:
        inner = _conjuncts(b, op.operands[0])
        return [_flag(b, part) for part in inner] if len(inner) > 1 else [condition]
    return [condition]


def _chosen(
    b: Builder, condition: SSAValue, new: Sequence[Given], old: Sequence[Given]
) -> list[Given]:
    """The new values where a condition of run time holds, else the old ones."""
    if len(new) != len(old):
        raise Misfit(f"{len(new)} and {len(old)} results")
    return [_either(b, condition, x, y) for x, y in zip(new, old, strict=True)]


def _either(b: Builder, condition: SSAValue, x: Given, y: Given) -> Given:
    if x is y:
        return x
    if not isinstance(x, SSAValue) or not isinstance(y, SSAValue):
        raise NotExpressible("a handle that depends on a condition of run time")
    if shape_of(x) != shape_of(y):
        found = f"{list(shape_of(x))} or {list(shape_of(y))}"
        raise refuse(
            Code.OPERATOR_UNSUPPORTED, b.source,
            "what a condition of run time chooses between must have one shape, as all of a program",
            found,
            "results padded to one shape with their length as another one, or a condition that is "
            "known when compiling",
        )  # fmt: skip
    return where(b, condition, x, as_type(b, y, element_of(x)))
