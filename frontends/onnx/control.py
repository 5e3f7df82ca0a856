"""Loop and Scan, unrolled where the number of their steps is known; If, of which both are computed.

    y, z = Scan(initial, x)                       // x is tensor<3x2xf32>

becomes the nodes of the body three times, on the parts of `x` one after the other; what the body
gives in each step is joined to `z`. Of an If both branches are computed, and a `where` chooses. So
it is with the states of a Loop of at most so many steps whose condition is one of run time. What
cannot be unrolled stays one node of the host.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from onnx import GraphProto, NodeProto
from xdsl.dialects.builtin import TensorType
from xdsl.ir import SSAValue

from npu_dialect import graph
from npu_dialect.diagnostics import CompileError
from npu_dialect.frontends.onnx import registry
from npu_dialect.frontends.onnx.builder import Builder, shape_of
from npu_dialect.frontends.onnx.errors import NotExpressible
from npu_dialect.frontends.onnx.ops import common

MAX_NODES = 4096
"""Nodes that a loop may become."""

Values = Sequence[SSAValue | None]
Run = Callable[[GraphProto, Mapping[str, SSAValue]], list[SSAValue]]
"""Imports a body, given its inputs by name; gives its outputs."""


@dataclass(frozen=True)
class Nest:
    """A node with a body, and how to import it."""

    b: Builder
    node: NodeProto
    values: Values
    declared: Mapping[str, TensorType]
    """The static types that the model states for results."""
    body: Run

    @property
    def attributes(self) -> dict[str, Any]:
        return {a.name: registry.attribute_value(a) for a in self.node.attribute}

    def run(self, inputs: Sequence[SSAValue]) -> list[SSAValue]:
        """One step."""
        inner: GraphProto = self.attributes["body"]
        names = [value.name for value in inner.input]
        return self.body(inner, dict(zip(names, inputs, strict=True)))

    def check_steps(self, steps: int) -> None:
        """Raise NotExpressible if so many steps are too many."""
        inner: GraphProto = self.attributes["body"]
        if steps * len(inner.node) > MAX_NODES:
            raise NotExpressible(f"{steps} steps")


def unrolled(nest: Nest, version: int) -> list[SSAValue] | None:
    """The results of a Loop, Scan or If; None for any other node, and for what is not unrolled."""
    if nest.node.domain not in ("", "ai.onnx") or nest.node.op_type not in ("If", "Loop", "Scan"):
        return None
    try:
        if nest.node.op_type == "If":
            return _selected(nest)
        if nest.node.op_type == "Loop":
            return _loop(nest)
        return _scan(nest) if version >= 9 else _scan_8(nest)
    except (NotExpressible, CompileError, ValueError):
        return None


def _selected(nest: Nest) -> list[SSAValue]:
    condition = nest.values[0]
    assert condition is not None
    branches = [nest.body(nest.attributes[name], {}) for name in ("then_branch", "else_branch")]
    return _chosen(nest.b, condition, branches[0], branches[1])


def _chosen(
    b: Builder, condition: SSAValue, new: Sequence[SSAValue], old: Sequence[SSAValue]
) -> list[SSAValue]:
    """The new values where the condition holds, else the old ones, which have their types."""
    if [value.type for value in new] != [value.type for value in old]:
        raise NotExpressible("values whose types depend on a condition of run time")
    flag = common.reshape(b, condition, ())
    return [common.where(b, flag, x, y) for x, y in zip(new, old, strict=True)]


def _loop(nest: Nest) -> list[SSAValue]:
    condition, *states = nest.values[1:]
    b, held = nest.b, [value for value in states if value is not None]
    steps, is_stated = _steps(nest, len(held))
    current = condition if condition is not None else b.constant(np.array(True))
    rows: list[list[SSAValue]] = []
    while steps is None or len(rows) < steps:
        known = b.array(current)
        if known is None and not is_stated:
            return _guarded(nest, current, held, len(rows), steps)
        if known is not None and not known.any():
            break
        nest.check_steps(len(rows) + 1)
        step = b.constant(np.array(len(rows), np.int64))
        current, *results = nest.run([step, current, *held])
        held, row = results[: len(held)], results[len(held) :]
        rows.append(row)
    if not rows and len(nest.node.output) > len(held):
        raise NotExpressible("no step")
    return [*held, *(_stacked(b, column, 0) for column in zip(*rows, strict=True))]


def _guarded(
    nest: Nest, condition: SSAValue, held: list[SSAValue], first: int, steps: int | None
) -> list[SSAValue]:
    """The states after the steps from `first` on, which change them while the condition holds."""
    b = nest.b
    if steps is None or len(nest.node.output) > len(held):
        raise NotExpressible("a condition of run time")
    nest.check_steps(steps)
    for k in range(first, steps):
        again, *results = nest.run([b.constant(np.array(k, np.int64)), condition, *held])
        held = _chosen(b, condition, results[: len(held)], held)
        condition = b.emit(
            graph.AndOp(common.reshape(b, condition, ()), common.reshape(b, again, ()))
        )
    return held


def _steps(nest: Nest, states: int) -> tuple[int | None, bool]:
    """The limit, and whether it is the number of steps: a declared result of a loop says so."""
    for name in nest.node.output[states:]:
        if name in nest.declared:
            return nest.declared[name].get_shape()[0], True
    if nest.values[0] is None:
        return None, False
    return nest.b.ints(nest.values[0], "a number of steps")[0], False


def _scan(nest: Nest) -> list[SSAValue]:
    attributes, count = nest.attributes, int(nest.attributes["num_scan_inputs"])
    values = [value for value in nest.values if value is not None]
    states, inputs = values[: len(values) - count], values[len(values) - count :]
    outputs = len(nest.node.output) - len(states)
    axes = attributes.get("scan_input_axes") or (0,) * count
    backwards = attributes.get("scan_input_directions") or (0,) * count
    split = [_parts(nest.b, x, *how) for x, *how in zip(inputs, axes, backwards, strict=True)]
    rows: list[list[SSAValue]] = []
    nest.check_steps(len(split[0]))
    for parts in zip(*split, strict=True):
        results = nest.run([*states, *parts])
        states, row = results[: len(states)], results[len(states) :]
        rows.append(row)
    if not rows:
        raise NotExpressible("no step")
    axes = attributes.get("scan_output_axes") or (0,) * outputs
    reversed_ = attributes.get("scan_output_directions") or (0,) * outputs
    columns = zip(*rows, strict=True)
    turned = [c[::-1] if r else c for c, r in zip(columns, reversed_, strict=True)]
    return [*states, *(_stacked(nest.b, c, axis) for c, axis in zip(turned, axes, strict=True))]


def _scan_8(nest: Nest) -> list[SSAValue]:
    """In opset 8 the first dimension is the batch, and the second the steps."""
    lengths, *values = nest.values
    if lengths is not None:
        raise NotExpressible("lengths of the sequences")
    given = [value for value in values if value is not None]
    node = NodeProto()
    node.CopyFrom(nest.node)
    for attribute in node.attribute:
        if attribute.name == "directions":
            attribute.name = "scan_input_directions"
    split = [_parts(nest.b, value, 0, 0) for value in given]
    nest.check_steps(len(split[0]) * shape_of(given[-1])[1])
    items = [
        _scan(Nest(nest.b, node, item, nest.declared, nest.body))
        for item in zip(*split, strict=True)
    ]
    return [_stacked(nest.b, column, 0) for column in zip(*items, strict=True)]


def _parts(b: Builder, x: SSAValue, axis: int, backwards: int) -> list[SSAValue]:
    """The parts of `x` at each index of an axis, without that axis."""
    axis = common.normalize_axis(axis, len(shape_of(x)))
    size = shape_of(x)[axis]
    order = range(size - 1, -1, -1) if backwards else range(size)
    return [common.squeeze(b, common.along(b, x, axis, k, 1), [axis]) for k in order]


def _stacked(b: Builder, parts: Sequence[SSAValue], axis: int) -> SSAValue:
    """The parts along a new axis."""
    shape = shape_of(parts[0])
    axis = common.normalize_axis(axis, len(shape) + 1)
    rows = [common.reshape(b, part, (*shape[:axis], 1, *shape[axis:])) for part in parts]
    return common.concat(b, rows, axis)
