"""The walk over an exported program: parameters, inputs, nodes, outputs -> `func.func @main`.

    linear(x, w, b) in "head"   ->   %0 = graph.matmul %x, %w, %b   loc("head"("model.py":12:0))

Nodes that depend on no input of the user are computed by torch here and become constants.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from math import prod
from typing import Any, cast

from xdsl.dialects.builtin import ArrayAttr, ModuleOp, StringAttr, TensorType
from xdsl.dialects.func import FuncOp, ReturnOp
from xdsl.ir import Block, Operation, Region, SSAValue
from xdsl.traits import is_side_effect_free
from xdsl.utils.exceptions import VerifyException

from npu_dialect import dtypes, provenance
from npu_dialect.diagnostics import Code, CompileError, error
from npu_dialect.frontends.onnx.builder import MAX_FOLDED_BYTES, shape_of
from npu_dialect.frontends.onnx.errors import Misfit, NotExpressible, one_line
from npu_dialect.frontends.torch import locations, registry, signature
from npu_dialect.frontends.torch.builder import Builder, Spec, array_of, dtype_of
from npu_dialect.frontends.torch.decompose import can_decompose, decompose
from npu_dialect.frontends.torch.ops import TOPICS, common
from npu_dialect.frontends.torch.package import torch


class Unsupported(Exception):  # noqa: N818  (becomes a CompileError, or a decomposition)
    """A call that no importer can express."""

    def __init__(self, node: Any, reason: str) -> None:
        super().__init__(reason)
        self.node = node
        self.reason = reason


def load(program: Any) -> ModuleOp:
    """The module of an exported program; see `npu_dialect.frontends.torch.load`.

    An operator of the table that cannot be expressed as it is called is given back to torch.
    """
    assert len(TOPICS), "the table is filled by importing the topics"
    torch()
    given_back: set[str] = set()
    while True:
        try:
            return Importer(decompose(program, given_back)).run()
        except Unsupported as why:
            name = str(why.node.target)
            if name in given_back or name not in registry.TABLE or not can_decompose(name):
                raise _refusal(why) from None
            given_back.add(name)


def _refusal(why: Unsupported) -> CompileError:
    node = why.node
    return error(
        Code.OPERATOR_UNSUPPORTED,
        f"{node.target} must be an operator that graph can express",
        found=one_line(why.reason),
        remedy="writing that line with other operators (docs/torch.md lists those that import)",
        source=locations.name_of(node),
        location=locations.written(node),
    )


class Importer:
    """One import: the function under construction, and what each node is."""

    def __init__(self, program: Any) -> None:
        self.program = program
        self.ports = signature.read(program)
        self.block = Block()
        self.builder = Builder(self.block)
        self.values: dict[Any, Any] = {}
        """Values of run time by node: an SSAValue, or a list of them."""
        self.known: dict[Any, Any] = {}
        """Values that are known, by node: torch tensors, numbers, lists of them."""

    def run(self) -> ModuleOp:
        """Import everything; the results are the user's outputs in order."""
        with torch().no_grad():
            for node in self.program.graph.nodes:
                if node.op == "placeholder":
                    self._placeholder(node)
                elif node.op == "call_function":
                    self.builder.location = locations.location_of(node)
                    self._call(node)
        outputs = [self.value(node) for node in self.ports.outputs.values()]
        self.builder.attach(outputs)
        self.block.add_op(ReturnOp(*outputs))
        _erase_dead(self.block)
        types = [argument.type for argument in self.block.args], [v.type for v in outputs]
        function = FuncOp("main", types, Region(self.block))
        function.attributes["npu.input_names"] = _strings(self.ports.inputs.values())
        function.attributes["npu.output_names"] = _strings(self.ports.outputs)
        return ModuleOp([function])

    def _placeholder(self, node: Any) -> None:
        name = self.ports.inputs.get(node.name)
        if name is None:
            self.known[node] = self.ports.tensors.get(node.name)
            return
        (spec,) = _specs(node)
        if spec is None:
            raise Unsupported(node, f"the input {name}, of type {type(node.meta['val']).__name__}")
        kind = TensorType(dtypes.element_type(spec.dtype), spec.shape)
        argument = self.block.insert_arg(kind, len(self.block.args))
        argument.name_hint = name if SSAValue.is_valid_name(name) else None
        self.values[node] = argument

    # Values

    def value(self, node: Any) -> Any:
        """The SSA value of a node; a constant if it is known."""
        if node not in self.values:
            known = self.known[node]
            if not isinstance(known, torch().Tensor):
                return known
            here = self.builder.location
            if node.op == "placeholder":
                name = self.ports.parameters.get(node.name, node.name)
                self.builder.location = provenance.name_location(name)
            self.values[node] = self._constant(known)
            self.builder.location = here
        return self.values[node]

    def _constant(self, tensor: Any) -> SSAValue:
        if dtype_of(tensor.dtype) is None:
            raise Misfit(f"a constant of type {tensor.dtype}")
        return self.builder.constant(array_of(tensor))

    # Nodes

    def _call(self, node: Any) -> None:
        name = str(node.target)
        if name in registry.DROPPED:
            return
        if self._is_known(node):
            known = self.known.__getitem__
            args, kwargs = self._map(node.args, known), self._map(node.kwargs, known)
            self.known[node] = node.target(*args, **kwargs)
        elif getattr(node.target, "__name__", "") == "getitem":
            self.values[node] = self._item(*node.args)
        else:
            self.values[node] = self._import(node, name)

    def _item(self, source: Any, index: int) -> SSAValue:
        """One of several results, if its importer gives it."""
        found = self.value(source)
        if index >= len(found) or found[index] is None:
            raise Unsupported(source, f"a use of its result {index}, which is not computed")
        return found[index]

    def _is_known(self, node: Any) -> bool:
        """True if torch can compute the node here: no operand of run time, no dice, not huge."""
        if any(operand not in self.known for operand in node.all_input_nodes):
            return False
        if torch().Tag.nondeterministic_seeded in getattr(node.target, "tags", ()):
            return False
        sizes = [self.known[n].nbytes for n in node.all_input_nodes
                 if isinstance(self.known[n], torch().Tensor)]  # fmt: skip
        made = sum(prod(s.shape) * s.dtype.itemsize for s in _specs(node) if s)
        return made <= max([MAX_FOLDED_BYTES, *sizes])

    def _map(self, tree: Any, leaf: Callable[[Any], Any]) -> Any:
        """Arguments with each node replaced."""
        if isinstance(tree, torch().fx.Node):
            return leaf(tree)
        if isinstance(tree, dict):
            return {key: self._map(v, leaf) for key, v in tree.items()}  # pyright: ignore
        if isinstance(tree, list | tuple):
            return [self._map(v, leaf) for v in tree]  # pyright: ignore
        return tree

    def _import(self, node: Any, name: str) -> Any:
        function = registry.TABLE.get(name)
        if function is None:
            raise Unsupported(node, "an operator without an importer")
        try:
            self.builder.results = _specs(node)
            self.builder.outputs = _wanted(node, len(self.builder.results))
            args, kwargs = self._map(node.args, self.value), self._map(node.kwargs, self.value)
            positional, named = registry.bind(node.target._schema, args, kwargs)
            return self._checked(function(self.builder, *positional, **named))
        except (NotExpressible, Misfit, ValueError, VerifyException) as why:
            raise Unsupported(node, str(why) or type(why).__name__) from why

    def _checked(self, found: Any) -> Any:
        """The results, in the types that torch says they have."""
        if not isinstance(found, list | tuple):
            return self._result(found, self.builder.results[0])
        values = cast("Sequence[Any]", found)
        return [self._result(v, s) for v, s in zip(values, self.builder.results, strict=False)]

    def _result(self, value: SSAValue | None, spec: Spec | None) -> SSAValue | None:
        if value is None or spec is None:
            return None
        if shape_of(value) != spec.shape:
            raise Misfit(f"shape {list(shape_of(value))} where torch has {list(spec.shape)}")
        return common.cast(self.builder, value, spec.dtype)


def _wanted(node: Any, count: int) -> list[str]:
    """For each result of a node its number, "" for one that nothing uses."""
    used = {
        user.args[1] for user in node.users if getattr(user.target, "__name__", "") == "getitem"
    }
    all_are = len(used) < len(node.users) and not used
    return [str(k) if all_are or k in used else "" for k in range(count)]


def _specs(node: Any) -> list[Spec | None]:
    """The types of a node's results; None for what is no tensor that we can hold."""
    value: Any = node.meta.get("val")
    values: list[Any] = [*value] if isinstance(value, list | tuple) else [value]
    return [_spec(v, node) for v in values]


def _spec(value: Any, node: Any) -> Spec | None:
    if not isinstance(value, torch().Tensor):
        return None
    dtype = dtype_of(value.dtype)
    if dtype is None:
        raise Unsupported(node, f"a tensor of type {value.dtype}")
    if any(not isinstance(size, int) for size in value.shape):
        raise Unsupported(node, f"the symbolic shape {list(value.shape)}: export with fixed shapes")
    return Spec(tuple(int(size) for size in value.shape), dtype)


def _strings(names: Any) -> ArrayAttr[StringAttr]:
    return ArrayAttr([StringAttr(name) for name in names])


def _erase_dead(block: Block) -> None:
    for op in _backwards(block):
        if is_side_effect_free(op) and not any(r.uses.get_length() for r in op.results):
            op.detach()
            op.erase()


def _backwards(block: Block) -> Iterator[Operation]:
    return (op for op in reversed(list(block.ops)) if not isinstance(op, ReturnOp))
