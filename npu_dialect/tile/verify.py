"""The verifier: proves by walking a function that its copies and buffers are used as they must be.

    verify(func)                 # raises CompileError with one record per broken rule and operation

- every copy is waited for, and until then its source is not written and its destination not used;
- every byte that is read was written before, in the same instance of its buffer;
- every output is written (an argument that is written is an output or a state), and constants and
  states without a result are not;
- operations find their operands in the memories that their engines reach, and the array in dram
  only constants.

Extents that do not fit are found by the walk itself.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

import numpy as np
from xdsl.dialects import func
from xdsl.dialects.builtin import TensorType
from xdsl.ir import BlockArgument, Operation, SSAValue
from xdsl.traits import SymbolTable

from npu_dialect import dtypes, provenance
from npu_dialect.diagnostics import Code, CompileError, Diagnostic
from npu_dialect.graph.states import states_of
from npu_dialect.tile.compute import HostOp
from npu_dialect.tile.contraction import STREAMED, ArrayOp
from npu_dialect.tile.descriptor import BufferKey, Descriptor, dense
from npu_dialect.tile.events import AllocEvent, CopyEvent, Event, WaitEvent
from npu_dialect.tile.indexed import GatherOp, ScatterOp
from npu_dialect.tile.kernels import KernelOp
from npu_dialect.tile.memory import AllocOp, ConstantOp, CopyOp, FillOp
from npu_dialect.tile.storage import Storage
from npu_dialect.tile.structure import ViewLikeOp
from npu_dialect.tile.syntax import TileOp, dtype_of, shape_of, space_of
from npu_dialect.tile.walk import walk


def verify(function: func.FuncOp) -> None:
    """Raises CompileError (NPU0202) with a record for each rule that an operation of `function`
    breaks.
    """
    records = check(function)
    if records:
        raise CompileError(*records)


def check(function: func.FuncOp) -> list[Diagnostic]:
    """A record for each rule that an operation breaks; empty when all is well."""
    findings = _Findings()
    for op in function.walk():
        _check_spaces(op, findings)
        if isinstance(op, HostOp):
            _check_callee(op, findings)
    arguments = function.body.block.args
    states = {arguments[s.argument]: s for s in states_of(function) if s.argument is not None}
    written = written_arguments(function)
    for argument, state in states.items():
        if state.result is None and argument in written:
            findings.add(argument, f"state {state.name} has no result and must not be written", "")
    checker = _Checker(findings, written - states.keys())
    try:
        walk(function, checker)
    except CompileError as problem:
        return [*findings.records, *problem.records]
    checker.finish(function)
    return findings.records


class _Findings:
    """The records, one for each operation and rule."""

    def __init__(self) -> None:
        self.records: list[Diagnostic] = []
        self._seen: set[tuple[object, str]] = set()

    def add(
        self, op: Operation | BlockArgument, rule: str, found: object, remedy: str = ""
    ) -> None:
        if (op, rule) in self._seen:
            return
        self._seen.add((op, rule))
        if isinstance(op, BlockArgument):
            name, source = f"argument {op.index}", ""
        else:
            name, source = op.name, ", ".join(provenance.sources(op))
        self.records.append(
            Diagnostic(Code.IR_INVALID, f"{name}: {rule}", str(found), remedy, source or name)
        )


def written_arguments(function: func.FuncOp) -> set[BlockArgument]:
    """The arguments that some operation writes: the outputs."""
    written = {_root(v) for op in function.walk() for v in destinations(op)}
    return {a for a in function.body.block.args if a in written}


def destinations(op: Operation) -> Iterator[SSAValue]:
    """The buffers that an operation writes, as it sees them."""
    if isinstance(op, CopyOp | FillOp):
        yield op.destination
    elif isinstance(op, TileOp):
        for name, _ in op.get_irdl_definition().operands:
            if name in ("out", "outs", "acc"):
                yield from op.operands_named(name)


def _root(value: SSAValue) -> SSAValue:
    """The buffer that a view looks at."""
    while isinstance(value.owner, ViewLikeOp):
        value = value.owner.source
    return value


# --- memories


def _check_spaces(op: Operation, findings: _Findings) -> None:
    if not isinstance(op, KernelOp | HostOp | FillOp | GatherOp | ScatterOp):
        return
    for name, _ in op.get_irdl_definition().operands:
        if name in ("ivs", "reduction"):
            continue
        allowed = _allowed_spaces(op, name)
        for value in op.operands_named(name):
            if isinstance(op, ArrayOp) and space_of(value) == "dram" and name in STREAMED:
                _check_streamed(op, name, value, findings)
            elif space_of(value) not in allowed:
                rule = f"{name} must lie in {' or '.join(allowed)}"
                findings.add(op, rule, space_of(value), "a copy into an alloc in that memory")


def _check_streamed(op: ArrayOp, name: str, value: SSAValue, findings: _Findings) -> None:
    """What the array reads in dram are constants."""
    owner = _root(value).owner
    if not isinstance(owner, ConstantOp):
        found = owner.name if isinstance(owner, Operation) else "an argument"
        remedy = "a copy into an alloc in spm"
        findings.add(op, f"{name} in dram must be a part of a constant", found, remedy)


def _allowed_spaces(op: TileOp, operand: str) -> tuple[str, ...]:
    if isinstance(op, HostOp):
        return ("dram",)
    if isinstance(op, FillOp):
        return ("dram", "spm", "acc")
    if isinstance(op, GatherOp):
        return ("dram", "spm")
    if isinstance(op, ScatterOp):
        return ("dram", "spm") if op.by_dma else ("spm",)
    if isinstance(op, ArrayOp) and operand == "acc":
        return ("acc",)
    return ("spm", "acc")


def _check_callee(op: HostOp, findings: _Findings) -> None:
    callee = SymbolTable.lookup_symbol(op, op.callee)
    if not isinstance(callee, func.FuncOp):
        findings.add(op, "the callee must be a function of the module", f"@{op.function}")
        return
    wanted = [[(dtype_of(v), shape_of(v)) for v in values] for values in (op.ins, op.outs)]
    kind = callee.function_type
    found = [[_port(t) for t in types] for types in (kind.inputs, kind.outputs)]
    if wanted != found:
        rule = "the callee must take and give the tensors that the buffers hold"
        findings.add(op, rule, f"@{op.function} with {kind}")


def _port(kind: object) -> tuple[dtypes.DType, tuple[int, ...]] | None:
    if not isinstance(kind, TensorType):
        return None
    tensor = cast(TensorType[Any], kind)
    return dtypes.of(tensor.element_type), tensor.get_shape()


# --- bytes


class _Checker:
    """A visitor that keeps, for every byte, whether it was written, and the copies in flight."""

    def __init__(self, findings: _Findings, outputs: set[BlockArgument]) -> None:
        self._findings = findings
        self._outputs = outputs
        self._written = Storage(0, {})
        self._pending: dict[int, CopyEvent] = {}

    def __call__(self, event: Event) -> None:
        if isinstance(event, AllocEvent):
            self._written.renew(event.result.buffer)
        elif isinstance(event, WaitEvent):
            for token in event.tokens:
                copy = self._pending.pop(token, None)
                if copy is not None:
                    self._mark(copy.destination)
        else:
            self._access(event)

    def _access(self, event: Event) -> None:
        for read in event.reads:
            self._check_read(event.op, read)
        for write in event.writes:
            self._check_write(event.op, write)
        for copy in self._pending.values():
            self._check_race(event, copy)
        if isinstance(event, CopyEvent):
            self._pending[event.token] = event
            return
        for write in event.writes:
            self._mark(write)

    def finish(self, function: func.FuncOp) -> None:
        """What only the end shows."""
        for copy in self._pending.values():
            remedy = "a tile.wait on its token, in the same loop body"
            self._findings.add(copy.op, "every copy must be waited for", str(copy.op), remedy)
        for argument in function.body.block.args:
            if argument in self._outputs:
                whole = dense(BufferKey(argument), "dram", dtype_of(argument), shape_of(argument))
                missing = int((self._written.view_bytes(whole)[..., 0] == 0).sum())
                if missing:
                    rule = "every element of an output must be written"
                    self._findings.add(argument, rule, f"{missing} that are not")

    def _tracked(self, value: Descriptor) -> bool:
        owner = value.buffer.owner
        return isinstance(owner, AllocOp) or owner in self._outputs

    def _mark(self, value: Descriptor) -> None:
        if self._tracked(value):
            self._written.view_bytes(value)[...] = 1

    def _check_read(self, op: Operation, value: Descriptor) -> None:
        if self._tracked(value) and not self._written.view_bytes(value).all():
            rule = "everything that is read must have been written and waited for before"
            self._findings.add(op, rule, f"bytes of {value} that were not")

    def _check_write(self, op: Operation, value: Descriptor) -> None:
        if isinstance(value.buffer.owner, ConstantOp):
            self._findings.add(op, "a constant must not be written", value)

    def _check_race(self, event: Event, copy: CopyEvent) -> None:
        for use in (*event.reads, *event.writes):
            if self._overlap(use, copy.destination):
                rule = "the destination of a copy must not be used before the copy is waited for"
                self._findings.add(event.op, rule, f"{use} while {copy.op} is in flight")
        for write in event.writes:
            if self._overlap(write, copy.source):
                rule = "the source of a copy must not be written before the copy is waited for"
                self._findings.add(event.op, rule, f"{write} while {copy.op} is in flight")

    def _overlap(self, a: Descriptor, b: Descriptor) -> bool:
        if a.buffer != b.buffer:
            return False
        (a_low, a_high), (b_low, b_high) = a.interval, b.interval
        if a_low >= b_high or b_low >= a_high:
            return False
        storage = self._written
        return bool(np.shares_memory(storage.view_bytes(a), storage.view_bytes(b)))
