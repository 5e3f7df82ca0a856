"""The walk over the nodes of a graph: each becomes operations of `graph`, or a known value.

    linear(x, w, b) in "head"   ->   %0 = graph.matmul %x, %w, %b   loc("head"("model.py":12:0))

Nodes that depend on no input of the user are computed by torch here and become constants. A node
that cannot be imported is noted, and the walk goes on with a stand-in for it, and so all are found.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import prod
from typing import Any, cast

import numpy as np
from xdsl.dialects.builtin import LocationAttr, TensorType, UnrealizedConversionCastOp
from xdsl.ir import SSAValue
from xdsl.utils.exceptions import VerifyException

from npu_dialect import dtypes, provenance
from npu_dialect.frontends.onnx.builder import MAX_FOLDED_BYTES, shape_of
from npu_dialect.frontends.onnx.errors import Misfit, NotExpressible
from npu_dialect.frontends.torch import hosted, locations, registry, user_lowerings
from npu_dialect.frontends.torch.builder import Builder, Spec, array_of, dtype_of
from npu_dialect.frontends.torch.decompose import can_decompose
from npu_dialect.frontends.torch.nodes import is_item, symbols
from npu_dialect.frontends.torch.ops import common
from npu_dialect.frontends.torch.ops.complex_numbers import Complex, called
from npu_dialect.frontends.torch.package import torch


class Unsupported(Exception):  # noqa: N818  (noted as a problem, or a decomposition)
    """A call that no importer can express."""

    def __init__(self, node: Any, reason: str, cause: str = "operator") -> None:
        super().__init__(reason)
        self.node = node
        self.reason = reason
        self.cause = cause
        """The name of one of `problems.CAUSES`."""


class _Lost:
    """What a node is of which not even the type can be said."""


LOST = _Lost()

Higher = Callable[["Walk", Any, Sequence[Any]], Sequence[Any]]
"""Imports a call of a higher-order operator, given its arguments; gives its results."""


@dataclass
class Walk:
    """One graph under import: what each node is."""

    builder: Builder
    paths: Mapping[str, str] = field(default_factory=dict[str, str])
    """The path of a parameter or buffer, by the name of its placeholder."""
    problems: list[Unsupported] = field(default_factory=list[Unsupported])
    """The nodes that cannot be imported."""
    higher: Mapping[str, Higher] = field(default_factory=dict[str, Higher])
    """Importers of higher-order operators."""
    outside: LocationAttr | None = None
    """The location of the call whose body this is, for nodes without a line of their own."""
    values: dict[Any, Any] = field(default_factory=dict[Any, Any])
    """Values of run time by node: an SSAValue, or a list of them."""
    known: dict[Any, Any] = field(default_factory=dict[Any, Any])
    """Values that are known, by node: torch tensors, numbers, lists of them."""

    def run(self, graph: Any) -> None:
        """Import the calls of a graph, whose placeholders are in `values` or `known` already."""
        with torch().no_grad():
            for node in graph.nodes:
                if node.op == "get_attr":
                    self.known[node] = _attribute(graph.owning_module, str(node.target))
                elif node.op == "call_function":
                    self._visit(node)

    def inline(self, module: Any, operands: Sequence[Any]) -> list[Any]:
        """The results of a graph module called here; operands and results are SSA values, or known
        tensors and numbers.
        """
        here = self.builder.location
        paths = {id(x): self.paths[n.name] for n, x in self.known.items() if n.name in self.paths}
        placeholders = [n for n in module.graph.nodes if n.op == "placeholder"]
        pairs = list(zip(placeholders, operands, strict=True))
        named = {n.name: paths[id(x)] for n, x in pairs if id(x) in paths}
        inner = Walk(self.builder, named, self.problems, self.higher, here)
        for node, operand in pairs:
            inner.put(node, operand)
        inner.run(module.graph)
        found = next(n for n in module.graph.nodes if n.op == "output").args[0]
        self.builder.location = here
        results = cast("Sequence[Any]", found if isinstance(found, list | tuple) else [found])
        return [inner.find(x) for x in results]

    # Values

    def put(self, node: Any, value: Any) -> None:
        """Say what a node is."""
        is_run_time = isinstance(value, SSAValue | Complex | _Lost)
        (self.values if is_run_time else self.known)[node] = value

    def find(self, tree: Any) -> Any:
        """An argument with each node replaced by what it is: of run time, or known."""
        return self._map(tree, lambda n: self.values[n] if n in self.values else self.known[n])

    def value(self, node: Any) -> Any:
        """The SSA value of a node; a constant if it is known."""
        if node not in self.values:
            known = self.known[node]
            if not isinstance(known, torch().Tensor):
                return known
            here = self.builder.location
            if node.op == "placeholder":
                name = self.paths.get(node.name, node.name)
                self.builder.location = provenance.name_location(name)
            self.values[node] = self.constant(known)
            self.builder.location = here
        return self.values[node]

    def constant(self, known: Any) -> Any:
        """A known tensor or number as an SSA value, a complex one as two."""
        tensor = known if isinstance(known, torch().Tensor) else torch().tensor(known)
        if tensor.is_complex():
            parts = torch().view_as_real(tensor.resolve_conj()).unbind(-1)
            return Complex(*(self.constant(part) for part in parts))
        if dtype_of(tensor.dtype) is None:
            raise Misfit(f"a constant of type {tensor.dtype}")
        return self.builder.constant(array_of(tensor))

    def _map(self, tree: Any, leaf: Callable[[Any], Any]) -> Any:
        """Arguments with each node replaced."""
        if isinstance(tree, torch().fx.Node):
            return leaf(tree)
        if isinstance(tree, dict):
            return {key: self._map(v, leaf) for key, v in tree.items()}  # pyright: ignore
        if isinstance(tree, list | tuple):
            return [self._map(v, leaf) for v in tree]  # pyright: ignore
        return tree

    # Nodes

    def _visit(self, node: Any) -> None:
        if any(self.values.get(n) is LOST for n in node.all_input_nodes):
            self.values[node] = LOST  # the node that was lost is the problem
            return
        self.builder.location = self._location(node)
        try:
            self._call(node)
        except Unsupported as why:
            self.problems.append(why)
            self.values[node] = self._stand_in(node)

    def _location(self, node: Any) -> LocationAttr:
        if self.outside is None or locations.module_path(node):
            return locations.location_of(node)
        file, line = locations.source_line(node)
        caller = next(iter(provenance.sources(self.outside)), str(node.name))
        return provenance.name_location(caller, file, line) if file else self.outside

    def _stand_in(self, node: Any) -> Any:
        """Values of the types that a node's results have; `LOST` where they have none."""
        try:
            found = [None if s is None else _value_of(s) for s in specs(node)]
        except Unsupported:
            return LOST
        if isinstance(node.meta.get("val"), list | tuple):
            return [LOST if x is None else x for x in found]
        return found[0] if found and found[0] is not None else LOST

    def _call(self, node: Any) -> None:
        name = str(node.target)
        if name in registry.DROPPED:
            return
        if name in self.higher:
            self.values[node] = self._higher(node, self.higher[name])
        elif is_item(node):
            self.put(node, self._item(*node.args))
        elif self._is_known(node):
            self.known[node] = self._computed(node)
        else:
            self.values[node] = self._import(node, name)

    def _higher(self, node: Any, function: Higher) -> list[Any]:
        try:
            return list(function(self, node, [self.find(argument) for argument in node.args]))
        except (NotExpressible, Misfit) as why:
            raise Unsupported(node, str(why)) from why

    def _item(self, source: Any, index: Any) -> Any:
        """One of several results, if its importer gives it."""
        found = self.values[source] if source in self.values else self.known[source]
        if isinstance(found, torch().Tensor):
            return found[index]
        if index >= len(found) or found[index] is None:
            raise Unsupported(source, f"a use of its result {index}, which is not computed")
        return found[index]

    def _computed(self, node: Any) -> Any:
        """What torch computes of known operands."""
        known = self.known.__getitem__
        args, kwargs = self._map(node.args, known), self._map(node.kwargs, known)
        function: Callable[..., Any] = _BY_VALUE.get(str(node.target)) or node.target
        try:
            return function(*args, **kwargs)
        except Exception as why:
            raise Unsupported(node, f"{type(why).__name__}: {why}") from why

    def _is_known(self, node: Any) -> bool:
        """True if torch can compute the node here: no operand of run time, no dice, not huge."""
        if any(operand not in self.known for operand in node.all_input_nodes):
            return False
        if str(node.target) in registry.KEPT:
            return False
        if torch().Tag.nondeterministic_seeded in getattr(node.target, "tags", ()):
            return False
        sizes = [self.known[n].nbytes for n in node.all_input_nodes
                 if isinstance(self.known[n], torch().Tensor)]  # fmt: skip
        try:
            made = sum(prod(s.shape) * s.dtype.itemsize for s in specs(node) if s)
        except Unsupported:
            return True  # sizes that follow from what is known, or types that vanish later
        return made <= max([MAX_FOLDED_BYTES, *sizes])

    def _import(self, node: Any, name: str) -> Any:
        function = user_lowerings.TABLE.get(name) or registry.TABLE.get(name)
        if function is None:
            _refuse_unknown(node, name)
            return self._hosted(node, "an operator without an importer")
        try:
            self.builder.results = specs(node)
            self.builder.outputs = wanted(node)
            args, kwargs = self._map(node.args, self.value), self._map(node.kwargs, self.value)
            positional, named = registry.bind(node.target._schema, args, kwargs)
            return self._checked(called(self.builder, name, function, positional, named))
        except Misfit as why:
            raise Unsupported(node, str(why)) from why
        except (NotExpressible, ValueError, VerifyException) as why:
            reason = str(why) or type(why).__name__
            if name in user_lowerings.TABLE or can_decompose(name):
                raise Unsupported(node, reason) from why
            return self._hosted(node, reason)

    def _hosted(self, node: Any, reason: str) -> Any:
        """An operator that the host runs."""
        _refuse_random(node)
        try:
            self.builder.results = specs(node)
            args, kwargs = self._map(node.args, self.value), self._map(node.kwargs, self.value)
            return self._checked(hosted.emit(self.builder, node.target, args, kwargs, reason))
        except NotExpressible as why:
            raise Unsupported(node, reason) from why

    def _checked(self, found: Any) -> Any:
        """The results, in the types that torch says they have."""
        if not isinstance(found, list | tuple):
            return self._result(found, self.builder.results[0])
        values = cast("Sequence[Any]", found)
        return [self._result(v, s) for v, s in zip(values, self.builder.results, strict=False)]

    def _zeros(self, spec: Spec) -> SSAValue:
        return self.builder.constant(np.zeros(spec.shape, spec.dtype.numpy))

    def _result(self, value: Any, spec: Spec | None) -> Any:
        if value is None or spec is None:
            return None
        if spec.is_complex:
            part = replace(spec, is_complex=False)
            pair = value if isinstance(value, Complex) else Complex(value, self._zeros(spec))
            return pair.map(lambda x: self._result(x, part))
        if shape_of(value) != spec.shape:
            raise Misfit(f"shape {list(shape_of(value))} where torch has {list(spec.shape)}")
        return common.cast(self.builder, value, spec.dtype)


def _reshape(tensor: Any, shape: Any) -> Any:
    return tensor.reshape(shape)


_BY_VALUE: dict[str, Callable[..., Any]] = {"aten.view.default": _reshape}
"""Views that torch gives of contiguous tensors only, where a copy before it may be gone."""


def _refuse_random(node: Any) -> None:
    if torch().Tag.nondeterministic_seeded in getattr(node.target, "tags", ()):
        raise Unsupported(node, f"{node.target}, whose results are random", "random")


def _refuse_unknown(node: Any, name: str) -> None:
    """Raise Unsupported for an operator that not even the host can run."""
    _refuse_random(node)
    if torch().Tag.dynamic_output_shape in getattr(node.target, "tags", ()):
        raise Unsupported(node, f"{name}, whose result has as many elements as the values say",
                          "data-dependent-shape")  # fmt: skip
    if name.endswith(("item.default", "_local_scalar_dense.default")):
        raise Unsupported(node, "a number that is computed at run time", "item")
    namespace = getattr(node.target, "namespace", "")
    if namespace and namespace not in ("aten", "prims", "prim", "higher_order"):
        raise Unsupported(node, "a custom operator without a lowering", "custom-op")


def wanted(node: Any) -> list[str]:
    """For each result of a node its number, "" for one that nothing uses."""
    if not isinstance(node.meta.get("val"), list | tuple):
        return ["0"]
    used = {u.args[1] for u in node.users if is_item(u)}
    return [str(k) if k in used else "" for k in range(len(node.meta["val"]))]


def specs(node: Any) -> list[Spec | None]:
    """The types of a node's results; None for what is no tensor that we can hold."""
    value: Any = node.meta.get("val")
    values: list[Any] = [*value] if isinstance(value, list | tuple) else [value]
    return [_spec(v, node) for v in values]


def _spec(value: Any, node: Any) -> Spec | None:
    if not isinstance(value, torch().Tensor):
        return None
    dtype = dtype_of(value.dtype)
    if dtype is None:
        raise Unsupported(node, f"a tensor of type {value.dtype}", "dtype")
    if value.layout != torch().strided:
        raise Unsupported(node, f"a tensor of layout {value.layout}", "dtype")
    shape = [_static(size) for size in value.shape]
    if None in shape:
        free = ", ".join(sorted({str(s) for size in value.shape for s in symbols(size)}))
        found = f"the shape {list(value.shape)}, with {free} unbound"
        raise Unsupported(node, found, _cause_of_symbols(value.shape))
    return Spec(tuple(size for size in shape if size is not None), dtype, value.is_complex())


def _cause_of_symbols(shape: Any) -> str:
    """Sizes that values decide are called u0, u1, ... by torch; the others are those of inputs."""
    names = {str(s) for size in shape for s in symbols(size)}
    return "data-dependent-shape" if any(n.startswith("u") for n in names) else "symbolic-shape"


def _static(size: Any) -> int | None:
    if isinstance(size, int):
        return size
    return None if symbols(size) else int(size)


def _value_of(spec: Spec) -> SSAValue | Complex:
    kind = TensorType(dtypes.element_type(spec.dtype), spec.shape)
    made = UnrealizedConversionCastOp.get([], [kind]).results[0]
    return Complex(made, made) if spec.is_complex else made


def _attribute(module: Any, path: str) -> Any:
    for name in path.split("."):
        module = getattr(module, name)
    return module
