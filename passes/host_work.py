"""The work of a function of graph operations for the host CPU: an estimate for the cost model."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

from xdsl.dialects.builtin import TensorType
from xdsl.dialects.func import FuncOp
from xdsl.ir import Operation, Region, SSAValue
from xdsl.utils.hints import isa

from npu_dialect.graph import loops
from npu_dialect.graph.structure import OpaqueOp

CONTRACTIONS = ("graph.conv2d", "graph.matmul")
"""Operations that multiply and accumulate; their second operand is [.., summed, out channels]."""

RECURRENT = ("graph.lstm", "graph.gru", "graph.rnn")
"""Layers that multiply, in every time step of x [T, B, I], by w [I, G * H] and r [H, G * H]."""


@dataclass(frozen=True)
class HostWork:
    """Multiply-accumulates, and elements that other operations produce or take in."""

    macs: int
    elements: int

    @staticmethod
    def of(function: FuncOp) -> HostWork:
        """The work of one call."""
        return HostWork.of_region(function.body)

    @staticmethod
    def of_region(region: Region) -> HostWork:
        """The work of the operations of a region; of a loop, that of one step."""
        macs = elements = 0
        for op in region.walk():
            if op.name in CONTRACTIONS:
                macs += _macs(op)
            elif op.name in RECURRENT:
                x, w, r = op.operands[:3]
                rows = prod(_shape(x)[:-1])
                macs += rows * (_elements(w) + _elements(r))
                elements += rows * _shape(w)[-1]
            elif isinstance(op, OpaqueOp) and op.domain.data == loops.DOMAIN:
                steps = [HostWork.of(f) for f in loops.functions(op.payload.array.tobytes())]
                macs += sum(step.macs for step in steps)
                elements += sum(step.elements for step in steps)
            elif op.results and op.name != "graph.constant":
                elements += max(map(_elements, (*op.operands, *op.results)))
        return HostWork(macs, elements)


def _macs(op: Operation) -> int:
    """Products of a contraction: elements of the result times the length of each sum."""
    weights = _shape(op.operands[1])
    length = weights[-2] if op.name == "graph.matmul" else prod(weights[:-1])
    return _elements(op.results[0]) * length


def _shape(value: SSAValue) -> tuple[int, ...]:
    return value.type.get_shape() if isa(value.type, TensorType) else ()


def _elements(value: SSAValue) -> int:
    return prod(_shape(value))
