"""Operators of truth values."""

from __future__ import annotations

from xdsl.ir import SSAValue

from npu_dialect import graph
from npu_dialect.frontends.tflite.builder import Builder
from npu_dialect.frontends.tflite.registry import op


@op("LOGICAL_AND")
def logical_and(b: Builder, x: SSAValue, y: SSAValue) -> SSAValue:
    """Whether both hold."""
    return b.emit(graph.AndOp(x, y))


@op("LOGICAL_OR")
def logical_or(b: Builder, x: SSAValue, y: SSAValue) -> SSAValue:
    """Whether at least one holds."""
    return b.emit(graph.OrOp(x, y))


@op("LOGICAL_NOT")
def logical_not(b: Builder, x: SSAValue) -> SSAValue:
    """Whether x does not hold."""
    return b.emit(graph.NotOp(x))
