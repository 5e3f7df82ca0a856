"""Modules with sizes that are free: which they are, and a capture for each choice of them.

A capture with `torch.export`'s own symbols fails where torch cannot prove that a line holds for
every size. Here the module is captured again for each size, with example inputs of that size.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Mapping, Sequence
from typing import Any, cast

from xdsl.dialects.builtin import ModuleOp, StringAttr

from npu_dialect.diagnostics import Code, error
from npu_dialect.frontends.torch import capture, importer
from npu_dialect.frontends.torch.package import torch

Dims = Mapping[str, Mapping[int, str]]
"""By input, the names of the dimensions whose sizes are free."""

Ranges = Mapping[str, tuple[int, int]]
"""By name, the least and the greatest size."""


class Family:
    """A module, and example inputs whose free dimensions can have any size."""

    def __init__(self, module: Any, args: Sequence[Any], kwargs: Mapping[str, Any],
                 dynamic_shapes: Any) -> None:  # fmt: skip
        self.module = module
        self.args = tuple(args)
        self.kwargs = dict(kwargs)
        given = _arguments(module, self.args, self.kwargs)
        self.dims, self.ranges = _stated(given, dynamic_shapes)
        """By input of the program, the names of the dimensions whose sizes are free; and of names,
        the sizes that `torch.export.Dim` permits."""
        self.inputs = _ports(given)
        """The names of all inputs of the program in order; empty where some are in containers."""
        self._shapes: dict[tuple[tuple[str, int], ...], list[tuple[int, ...]]] = {}

    def load(self, sizes: Mapping[str, int]) -> ModuleOp:
        """The graph-level module for sizes by name. Raises CompileError."""
        program, mode = self._captured(sizes)
        result = importer.load(program, type(self.module).__name__)
        result.attributes[capture.CAPTURE] = StringAttr(mode)
        return result

    def output_shapes(self, sizes: Mapping[str, int]) -> list[tuple[int, ...]]:
        """The shapes of the results for sizes by name."""
        key = tuple(sorted(sizes.items()))
        if key not in self._shapes:
            program, _ = self._captured(sizes)
            nodes = {n.name: n for n in program.graph.nodes}
            results = [nodes[n] for n in program.graph_signature.user_outputs if n in nodes]
            self._shapes[key] = [tuple(int(d) for d in n.meta["val"].shape) for n in results]
        return self._shapes[key]

    def _captured(self, sizes: Mapping[str, int]) -> tuple[Any, str]:
        given = _arguments(self.module, self.args, self.kwargs)
        resized = {name: self._resized(name, x, sizes) for name, x in given.items()}
        args = tuple(x for name, x in resized.items() if name not in self.kwargs)
        return capture.capture(self.module, args, {n: resized[n] for n in self.kwargs})

    def _resized(self, name: str, x: Any, sizes: Mapping[str, int]) -> Any:
        """An example input repeated or cut, so that its values stay ones that the module takes."""
        for axis, symbol in self.dims.get(name, {}).items():
            rows = torch().arange(sizes[symbol]) % x.shape[axis]
            x = x.index_select(axis, rows)
        return x


def _arguments(module: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """The example inputs by the name that they have as inputs of the program, in order.

    Raises CompileError (NPU0004) for inputs that forward does not take.
    """
    signature = inspect.signature(module.forward)
    try:
        bound = signature.bind(*args, **kwargs).arguments
    except TypeError as problem:
        raise error(
            Code.OPTION,
            f"example inputs must be arguments of forward{signature}",
            found=f"{len(args)} by position, by name {', '.join(kwargs) or 'none'}: {problem}",
            remedy="compile(module, (x,), dynamic_shapes=...)",
            source=type(module).__name__,
        ) from problem
    found: dict[str, Any] = {}
    for name, value in bound.items():
        kind = signature.parameters[name].kind
        if kind == inspect.Parameter.VAR_POSITIONAL:
            found.update({f"{name}_{k}": x for k, x in enumerate(value)})
        elif kind == inspect.Parameter.VAR_KEYWORD:
            found.update(value)
        else:
            found[name] = value
    return found


def _ports(inputs: Mapping[str, Any]) -> tuple[str, ...]:
    tensor = torch().Tensor
    if any(isinstance(x, tuple | list | Mapping) for x in inputs.values()):
        return ()
    return tuple(name for name, x in inputs.items() if isinstance(x, tensor))


def _stated(inputs: Mapping[str, Any], stated: Any) -> tuple[Dims, Ranges]:
    """What `dynamic_shapes` of `torch.export` states, for inputs that are tensors."""
    found: dict[str, dict[int, str]] = {}
    ranges: dict[str, tuple[int, int]] = {}
    for name, dims in _by_input(inputs, stated).items():
        if dims is None:
            continue
        found[name] = {}
        for axis, dim in _by_axis(name, dims, inputs).items():
            if _is_fixed(dim, inputs[name].shape[axis], f"dimension {axis} of {name}"):
                continue
            symbol = found[name][axis] = _name(dim, name, axis)
            if inputs[name].shape[axis] == 0:
                raise _wrong(f"an example input of size 0, dimension {axis} of {name}")
            low, high = ranges.get(symbol, (0, sys.maxsize))
            least, most = getattr(dim, "min", None), getattr(dim, "max", None)
            ranges[symbol] = (max(low, least) if isinstance(least, int) else low,
                              min(high, most) if isinstance(most, int) else high)  # fmt: skip
    if not any(found.values()):
        raise _wrong("no dimension")
    return found, ranges


def _by_input(inputs: Mapping[str, Any], stated: Any) -> Mapping[str, Any]:
    if isinstance(stated, Mapping):
        return cast("Mapping[str, Any]", stated)
    if not isinstance(stated, tuple | list):
        raise _wrong(repr(stated))
    each = cast("Sequence[Any]", stated)
    if len(each) > len(inputs):
        raise _wrong(f"{len(each)} inputs, and there are {', '.join(inputs)}")
    return dict(zip(inputs, each, strict=False))


def _by_axis(name: str, dims: Any, inputs: Mapping[str, Any]) -> dict[int, Any]:
    """What is stated of the dimensions of an input, without those of which nothing is."""
    if name not in inputs or not isinstance(inputs[name], torch().Tensor):
        tensors = [n for n, x in inputs.items() if isinstance(x, torch().Tensor)]
        raise _wrong(f"{name}, and the inputs that are tensors are {', '.join(tensors) or 'none'}")
    if not isinstance(dims, Mapping | tuple | list):
        raise _wrong(f"{dims!r} for {name}")
    given = cast("Any", dims)
    named = dict(given) if isinstance(dims, Mapping) else dict(enumerate(given))
    rank = inputs[name].dim()
    if any(not isinstance(axis, int) or not 0 <= axis < rank for axis in named):
        raise _wrong(f"dimensions {list(named)} of {name}, which has {rank}")
    return {axis: dim for axis, dim in named.items() if dim is not None}


def _is_fixed(dim: Any, size: int, source: str) -> bool:
    """Whether a dimension keeps the size of its example: a number, or Dim.STATIC."""
    if isinstance(dim, int):
        if dim != size:
            raise _wrong(f"{dim} for {source}, whose size is {size}")
        return True
    return getattr(getattr(dim, "type", None), "name", "") == "STATIC"


def _name(dim: Any, source: str, axis: int) -> str:
    """A name, that of a `torch.export.Dim`, or `x.0` for Dim.AUTO and the like."""
    if isinstance(dim, str):
        return dim
    if hasattr(dim, "root"):
        raise _wrong(f"{dim.__name__}, which depends on {dim.root.__name__}, for {source}")
    name = getattr(dim, "__name__", "")
    return name or f"{source}.{axis}"


def _wrong(found: str) -> Exception:
    return error(
        Code.OPTION,
        "dynamic_shapes must name dimensions of inputs",
        found=found,
        remedy='dynamic_shapes={"x": {0: "batch"}}',
        source="dynamic_shapes",
    )
