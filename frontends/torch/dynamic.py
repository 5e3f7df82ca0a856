"""Modules with sizes that are free: which they are, and a capture for each choice of them.

A capture with `torch.export`'s own symbols fails where torch cannot prove that a line holds for
every size. Here the module is captured again for each size, with example inputs of that size.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any, cast

from xdsl.dialects.builtin import ModuleOp, StringAttr

from npu_dialect.diagnostics import Code, error
from npu_dialect.frontends.torch import capture, importer
from npu_dialect.frontends.torch.package import torch

Dims = Mapping[str, Mapping[int, str]]
"""By input, the names of the dimensions whose sizes are free."""


class Family:
    """A module, and example inputs whose free dimensions can have any size."""

    def __init__(self, module: Any, args: Sequence[Any], kwargs: Mapping[str, Any],
                 dynamic_shapes: Any) -> None:  # fmt: skip
        self.module = module
        self.args = tuple(args)
        self.kwargs = dict(kwargs)
        self.dims = _dims(module, self.args, self.kwargs, dynamic_shapes)
        """By input of the program, the names of the dimensions whose sizes are free."""
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
    """The example inputs by the name that they have as inputs of the program, in order."""
    signature = inspect.signature(module.forward)
    found: dict[str, Any] = {}
    for name, value in signature.bind(*args, **kwargs).arguments.items():
        kind = signature.parameters[name].kind
        if kind == inspect.Parameter.VAR_POSITIONAL:
            found.update({f"{name}_{k}": x for k, x in enumerate(value)})
        elif kind == inspect.Parameter.VAR_KEYWORD:
            found.update(value)
        else:
            found[name] = value
    return found


def _dims(module: Any, args: Sequence[Any], kwargs: Mapping[str, Any], stated: Any) -> Dims:
    """What `dynamic_shapes` of `torch.export` states, for inputs that are tensors."""
    inputs = _arguments(module, args, kwargs)
    by_name = cast("Mapping[str, Any]", stated)
    if not isinstance(stated, Mapping):
        by_name = dict(zip(inputs, stated, strict=False))
    found: dict[str, dict[int, str]] = {}
    for name, dims in by_name.items():
        if dims is None:
            continue
        if name not in inputs or not isinstance(inputs[name], torch().Tensor):
            raise _wrong(f"{name}, and the inputs that are tensors are {', '.join(inputs)}")
        axes = (
            list(cast("Mapping[int, Any]", dims)) if isinstance(dims, Mapping) else range(len(dims))
        )
        named = {axis: _name(dims[axis], name, axis) for axis in axes if dims[axis] is not None}
        if any(not 0 <= axis < inputs[name].dim() for axis in named):
            raise _wrong(f"dimensions {sorted(named)} of {name}, which has {inputs[name].dim()}")
        found[name] = named
    if not any(found.values()):
        raise _wrong("no dimension")
    return found


def _name(dim: Any, source: str, axis: int) -> str:
    """A name, that of a `torch.export.Dim`, or `x.0` for Dim.AUTO and the like."""
    if isinstance(dim, str):
        return dim
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
