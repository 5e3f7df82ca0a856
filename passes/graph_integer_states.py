"""graph-integer-states: a state that is quantized where it is read, and dequantized where it is
written, is kept in integers.

    func.func @main(%h: tensor<4xf32>) -> tensor<4xf32>
        attributes {npu.states = [{name = "h", argument = 0 : i64, result = 0 : i64}], ...} {
      %0 = graph.quantize %h : (tensor<4xf32>) -> tensor<4x!q>
      %1 = graph.relu %0 : (tensor<4x!q>) -> tensor<4x!q>
      %2 = graph.dequantize %1 : (tensor<4x!q>) -> tensor<4xf32>
      return %2

becomes

    func.func @main(%h: tensor<4x!q>) -> tensor<4x!q> attributes {...} {
      %1 = graph.relu %h : (tensor<4x!q>) -> tensor<4x!q>
      return %1

Quantizing what was dequantized gives the same integers, so later steps are the same. The first one
is, too: the initial content is quantized here. It must hold in every function that has the state,
and in one of them the state must be read and written.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from xdsl.context import Context
from xdsl.dialects.builtin import FunctionType, ModuleOp, TensorType
from xdsl.dialects.func import FuncOp, ReturnOp
from xdsl.ir import Attribute, SSAValue
from xdsl.passes import ModulePass
from xdsl.utils.hints import isa

from npu_dialect import dtypes, graph
from npu_dialect.blob import BlobAttr
from npu_dialect.graph.states import State, set_states, states_of

EXACT_BYTES = 2
"""Integers of as many bytes come back from f32 as they were."""


@dataclass(frozen=True)
class GraphIntegerStatesPass(ModulePass):
    """Keep states in the integers that they are quantized to."""

    name = "graph-integer-states"

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        uses = [Use(f, s) for f in op.ops if isinstance(f, FuncOp) for s in states_of(f)]
        by_name: dict[str, list[Use]] = {}
        for use in uses:
            by_name.setdefault(use.state.name, []).append(use)
        for found in by_name.values():
            form = _form(found)
            if form is not None:
                for use in found:
                    use.rewrite(form)


@dataclass(frozen=True)
class Use:
    """A state of a function."""

    function: FuncOp
    state: State

    @property
    def returned(self) -> ReturnOp:
        last = self.function.body.block.last_op
        assert isinstance(last, ReturnOp)
        return last

    @property
    def argument(self) -> SSAValue | None:
        number = self.state.argument
        return None if number is None else self.function.body.block.args[number]

    @property
    def result(self) -> SSAValue | None:
        number = self.state.result
        return None if number is None else self.returned.operands[number]

    @property
    def forms(self) -> set[Attribute | None]:
        """The types of integers that the state is quantized to and dequantized from; None for a use
        as it is.
        """
        found: set[Attribute | None] = set()
        if self.argument is not None:
            users = [use.operation for use in self.argument.uses]
            found |= {u.result.type if isinstance(u, graph.QuantizeOp) else None for u in users}
        if self.result is not None:
            owner = self.result.owner
            found.add(owner.x.type if isinstance(owner, graph.DequantizeOp) else None)
        return found

    def rewrite(self, form: TensorType[Attribute]) -> None:
        """The argument and the result become integers."""
        if self.result is not None:
            made = self.result.owner
            assert isinstance(made, graph.DequantizeOp) and self.state.result is not None
            self.returned.operands[self.state.result] = made.x
            if not made.result.uses:
                made.detach()
                made.erase()
        if self.state.argument is not None:
            self._retype(self.state.argument, form)
        states = states_of(self.function)
        kinds = self.function.body.block.arg_types, [v.type for v in self.returned.operands]
        self.function.properties["function_type"] = FunctionType.from_lists(*kinds)
        set_states(self.function, [self._in(form) if s == self.state else s for s in states])

    def _retype(self, number: int, form: TensorType[Attribute]) -> None:
        block = self.function.body.block
        old, new = block.args[number], block.insert_arg(form, number)
        new.name_hint = old.name_hint
        for use in list(old.uses):
            op = use.operation
            op.results[0].replace_all_uses_with(new)
            op.detach()
            op.erase()
        block.erase_arg(old)

    def _in(self, form: TensorType[Attribute]) -> State:
        """The state with its initial content in integers. That of zeros remains."""
        if self.state.initial is None:
            return self.state
        real = graph.ConstantOp(self.state.initial)
        quant = form.element_type
        assert isinstance(quant, graph.QuantType)
        (stored,) = graph.QuantizeOp(real, quant).evaluate(real.array)
        return replace(self.state, initial=BlobAttr.of(stored))


def _form(uses: Sequence[Use]) -> TensorType[Attribute] | None:
    """The type of integers that all uses of a state agree on."""
    forms = set[Attribute | None]().union(*(use.forms for use in uses))
    is_kept = any(use.argument is not None and use.result is not None for use in uses)
    only = next(iter(forms)) if len(forms) == 1 else None
    if not is_kept or not isa(only, TensorType[Attribute]):
        return None
    return only if dtypes.of(only.element_type).itemsize <= EXACT_BYTES else None
