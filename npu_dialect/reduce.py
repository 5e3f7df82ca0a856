"""A small module that still shows a fault: some operations of a larger one, on the values that they
had there.

    small = reduce(module, arrays, fails)      # fails(module, inputs by name) -> bool

A module at level graph, as imported, becomes a function of few operations: its results are one
tensor, its arguments what enters from before. States become arguments and results.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from xdsl.dialects.builtin import ArrayAttr, ModuleOp, StringAttr
from xdsl.dialects.func import FuncOp, ReturnOp
from xdsl.ir import Block, Operation, Region, SSAValue

from npu_dialect import levels, provenance
from npu_dialect.graph import interpret
from npu_dialect.graph.states import INPUT_NAMES, OUTPUT_NAMES, STATES, arguments_with
from npu_dialect.ports import Array

CONSTANT = "graph.constant"
MOST_SINGLE = 24
"""Operations up to which each is tried to be left out by itself."""

Fails = Callable[[ModuleOp, Mapping[str, Array]], bool]


@dataclass(frozen=True)
class Reduced:
    """A module that shows the fault on its inputs."""

    module: ModuleOp
    inputs: Mapping[str, Array]
    operations: int
    """Of graph, without constants."""


def reduce(
    module: ModuleOp,
    inputs: Sequence[Array],
    fails: Fails,
    *,
    source: str = "",
    entry: str | None = None,
    state: Mapping[str, Array] | None = None,
) -> Reduced | None:
    """A small part of an entry for which `fails` holds; None where it does not even for all of it.

    `source` names the node at which to look first. The module is left as it is.
    """
    cutter = _Cutter(module, inputs, entry, state or {})
    whole = _Part(cutter.results, frozenset(cutter.slice(cutter.results)))
    part = next((p for p in (*cutter.ends(source), whole) if cutter.holds(fails, p)), None)
    return None if part is None else cutter.build(cutter.smaller(fails, part))


@dataclass(frozen=True)
class _Part:
    """Results, and the operations (by number) that are kept; what else they read is given."""

    results: tuple[SSAValue, ...]
    kept: frozenset[int]


class _Cutter:
    """Parts of one function."""

    def __init__(
        self,
        module: ModuleOp,
        inputs: Sequence[Array],
        entry: str | None,
        state: Mapping[str, Array],
    ) -> None:
        self.module = module
        self.function = levels.entry_of(module, entry)
        self.ops = [op for op in self.function.body.block.ops if not isinstance(op, ReturnOp)]
        self.number = {op: k for k, op in enumerate(self.ops)}
        self.values = self._values(inputs, state, entry)
        returned = self.function.body.block.last_op
        assert returned is not None
        self.results = tuple(dict.fromkeys(returned.operands))

    def _values(
        self, inputs: Sequence[Array], state: Mapping[str, Array], entry: str | None
    ) -> dict[SSAValue, Array]:
        """What every tensor of the function holds."""
        contents = {p.name: p.initial for p in levels.states(self.module, entry)} | dict(state)
        given = arguments_with(self.function, inputs, contents)
        found: dict[SSAValue, Array] = dict(zip(self.function.args, given, strict=True))

        def record(op: Operation, results: Sequence[Array]) -> None:
            found.update(zip(op.results, results, strict=True))

        interpret.run(self.function, given, record=record)
        return found

    # --- choosing
    # ---------------------------------------------------------------------------------------------

    def slice(self, results: Sequence[SSAValue]) -> set[int]:
        """The operations that results need."""
        found: set[int] = set()
        todo = [v.owner for v in results]
        while todo:
            op = todo.pop()
            if isinstance(op, Operation) and self.number[op] not in found:
                found.add(self.number[op])
                todo += [v.owner for v in op.operands]
        return found

    def ends(self, source: str) -> Iterator[_Part]:
        """Everything up to one tensor: those of the node `source`, then each result."""
        name = source.split("#")[0].split(":")[0]
        named = [op for op in self.ops if name and name in provenance.sources(op)]
        values = [v for op in reversed(named) for v in op.results]
        for value in dict.fromkeys([*values, *self.results]):
            yield _Part((value,), frozenset(self.slice([value])))

    def holds(self, fails: Fails, part: _Part) -> bool:
        """Whether the fault shows in a part."""
        if not any(self.ops[k].name != CONSTANT for k in part.kept):
            return False
        built = self.build(part)
        return fails(built.module.clone(), built.inputs)

    def smaller(self, fails: Fails, part: _Part) -> _Part:
        """The part with as few operations as can be found: its last ones, then without single
        ones.
        """
        order = [k for k in sorted(part.kept) if self.ops[k].name != CONSTANT]
        constants = part.kept - set(order)
        count, least = 1, 0
        while count < len(order):
            if self.holds(fails, _Part(part.results, constants | set(order[-count:]))):
                break
            count, least = 2 * count, count
        count = min(count, len(order))
        while count - least > 1:
            middle = (count + least) // 2
            if self.holds(fails, _Part(part.results, constants | set(order[-middle:]))):
                count = middle
            else:
                least = middle
        return self._without_single(fails, _Part(part.results, constants | set(order[-count:])))

    def _without_single(self, fails: Fails, part: _Part) -> _Part:
        order = [k for k in sorted(part.kept) if self.ops[k].name != CONSTANT]
        for number in order if len(order) <= MOST_SINGLE else ():
            less = _Part(part.results, part.kept - {number})
            if self.holds(fails, less):
                part = less
        return part

    # --- building
    # ---------------------------------------------------------------------------------------------

    def build(self, part: _Part) -> Reduced:
        """The module of a part and its inputs."""
        kept = [k for k in sorted(part.kept) if k in self._needed(part)]
        entering = self._entering(part, kept)
        names = [f"in{k}" for k in range(len(entering))]
        block = Block(arg_types=[v.type for v in entering])
        known: dict[SSAValue, SSAValue] = dict(zip(entering, block.args, strict=True))
        for k in kept:
            copy = self.ops[k].clone(known)
            block.add_op(copy)
            known.update(zip(self.ops[k].results, copy.results, strict=True))
        block.add_op(ReturnOp(*(known[v] for v in part.results)))
        module = self._module(block, part, names)
        inputs = {n: self.values[v] for n, v in zip(names, entering, strict=True)}
        operations = sum(self.ops[k].name != CONSTANT for k in kept)
        return Reduced(module, inputs, operations)

    def _needed(self, part: _Part) -> set[int]:
        """Of the kept operations, those from which a way leads to the results."""
        found: set[int] = set()
        todo = [v.owner for v in part.results]
        while todo:
            op = todo.pop()
            if isinstance(op, Operation) and self.number[op] in part.kept - found:
                found.add(self.number[op])
                todo += [v.owner for v in op.operands]
        return found

    def _entering(self, part: _Part, kept: Sequence[int]) -> list[SSAValue]:
        """What kept operations read and do not make."""
        made = {v for k in kept for v in self.ops[k].results}
        read = [v for k in kept for v in self.ops[k].operands]
        return [v for v in dict.fromkeys([*read, *part.results]) if v not in made]

    def _module(self, block: Block, part: _Part, names: Sequence[str]) -> ModuleOp:
        types = ([a.type for a in block.args], [v.type for v in part.results])
        function = FuncOp("main", types, Region(block))
        function.location = self.function.location
        function.attributes |= {n: a for n, a in self.function.attributes.items() if n != STATES}
        outputs = [f"out{k}" for k in range(len(part.results))]
        function.attributes[INPUT_NAMES] = ArrayAttr([StringAttr(n) for n in names])
        function.attributes[OUTPUT_NAMES] = ArrayAttr([StringAttr(n) for n in outputs])
        others = [
            op.clone() for op in self.module.ops if not isinstance(op, FuncOp) or op.sym_visibility
        ]
        return ModuleOp([function, *others], dict(self.module.attributes))
