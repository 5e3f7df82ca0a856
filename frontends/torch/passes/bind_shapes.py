"""Sizes that a program leaves free are bound, before torch decomposes it.

    %x: f32[s77, s27, 4]; %n = sym_size.int(%x, 1); %p = arange(%n)

becomes, with `x` of shape 3 x 7 x 4,

    %x: f32[3, 7, 4]; %p = arange(7)

The placeholders of a copy get the shape; the decomposition traces the graph again from them, and
what it computes of sizes are numbers then.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

from npu_dialect.diagnostics import Code, CompileError, error
from npu_dialect.frontends.torch.nodes import symbols
from npu_dialect.frontends.torch.package import torch

Shapes = Mapping[str, Sequence[int]]


def run(program: Any, shapes: Shapes) -> Any:
    """A program of fixed shapes. Raises CompileError (NPU0104, NPU0105)."""
    inputs = {n.name: n for n in program.graph.nodes
              if n.op == "placeholder" and n.name in program.graph_signature.user_inputs
              and isinstance(n.meta.get("val"), torch().Tensor)}  # fmt: skip
    for name in shapes:
        if name not in inputs:
            raise error(
                Code.SHAPE_BINDING,
                "a shape must be given for an input",
                found=f"{name}, not one of {', '.join(inputs) or 'none'}",
                source="shapes",
            )
    for name, shape in shapes.items():
        _check(program, name, inputs[name].meta["val"].shape, shape)
    _check_shared({name: inputs[name].meta["val"].shape for name in shapes}, shapes)
    free = {name: node.meta["val"].shape for name, node in inputs.items()
            if name not in shapes and not _is_fixed(node)}  # fmt: skip
    if free:
        raise unbound(program, free)
    return _bound(program, shapes) if any(not _is_fixed(n) for n in inputs.values()) else program


def unbound(program: Any, free: Mapping[str, Sequence[Any]]) -> CompileError:
    """The error of inputs with free sizes, by name."""
    found = [f"{name} of shape {_written(shape)}" for name, shape in free.items()]
    example = ", ".join(f'"{name}": {_example(program, shape)}' for name, shape in free.items())
    return error(
        Code.SHAPE_UNBOUND,
        "the shape of every input must be known when compiling",
        found=f"{', '.join(found)}{_ranges(program, free)}",
        remedy=f"shapes={{{example}}}, or --shape",
        source="forward",
    )


def _ranges(program: Any, free: Mapping[str, Sequence[Any]]) -> str:
    used = {str(s) for shape in free.values() for d in shape for s in symbols(d)}
    bounds = [f"{symbol} from {_number(found.lower)} to {_number(found.upper)}"
              for symbol, found in program.range_constraints.items()
              if str(symbol) in used]  # fmt: skip
    return f", with {', '.join(bounds)}" if bounds else ""


def _number(bound: Any) -> str:
    text = str(bound)
    return text if text.isdigit() else "any"


def _example(program: Any, shape: Sequence[Any]) -> str:
    lowest = {str(s): r.lower for s, r in program.range_constraints.items()}
    sizes = [d if isinstance(d, int) else max(2, int(lowest.get(str(d), 2))) for d in shape]
    return f"({', '.join(map(str, sizes))}{',' if len(sizes) == 1 else ''})"


def _written(shape: Sequence[Any]) -> str:
    return f"[{', '.join(map(str, shape))}]"


def _is_fixed(node: Any) -> bool:
    return not any(symbols(size) for size in node.meta["val"].shape)


def _check(program: Any, name: str, declared: Sequence[Any], shape: Sequence[int]) -> None:
    fits = len(declared) == len(shape) and all(
        symbols(d) or int(d) == size for d, size in zip(declared, shape, strict=True)
    )
    if not fits:
        raise _misfit(name, f"that of the program, {_written(declared)}", shape)
    for d, size in zip(declared, shape, strict=True):
        for symbol, bounds in program.range_constraints.items():
            if str(d) == str(symbol) and not bounds.lower <= size <= bounds.upper:
                rule = f"from {_number(bounds.lower)} to {_number(bounds.upper)} where it is {d}"
                raise _misfit(name, rule, shape)


def _check_shared(declared: Mapping[str, Sequence[Any]], shapes: Shapes) -> None:
    """A size that stands in several places has one value."""
    pairs = [(name, d, size)
             for name in shapes
             for d, size in zip(declared[name], shapes[name], strict=True)
             if symbols(d)]  # fmt: skip
    known: dict[Any, int] = {}
    for _, d, size in pairs:
        if d.node.expr.is_symbol:
            known.setdefault(d.node.expr, size)
    for name, d, size in pairs:
        wanted = d.node.expr.subs(known)
        if not wanted.free_symbols and int(wanted) != size:
            raise _misfit(name, f"{wanted} where it is {d}, as in another place", shapes[name])


def _misfit(name: str, rule: str, shape: Sequence[int]) -> CompileError:
    found = str(list(shape))
    return error(Code.SHAPE_BINDING, f"the shape must be {rule}", found=found, source=name)


def _bound(program: Any, shapes: Shapes) -> Any:
    """A copy whose placeholders have the shapes."""
    bound = copy.copy(program)
    bound._graph_module = copy.deepcopy(program.graph_module)
    for node in bound._graph_module.graph.nodes:
        if node.op == "placeholder" and node.name in shapes:
            old = node.meta["val"]
            with old.fake_mode:
                node.meta["val"] = torch().empty(tuple(shapes[node.name]), dtype=old.dtype)
    return bound
