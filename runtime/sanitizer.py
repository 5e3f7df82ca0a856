"""What is suspicious about a run, although it gives results: by looking at every instruction.

    watch = Sanitizer(program)
    session.run(inputs, observe=watch)
    report = watch.report()

Found are reads of bytes that nothing has written, sums that leave the bits of an accumulator,
and floats that are no numbers any more. Counted are results at the ends of their integer type,
where they may have saturated. `prove` adds what holds for no data in particular: accesses that no
wait keeps apart.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from npu_dialect import dtypes
from npu_dialect.functional.windows import pad, sliding
from npu_dialect.machine import Array, Machine, Operand
from npu_dialect.npu.arrays import ArrayInstruction, sum_type
from npu_dialect.npu.base import Instruction, Values
from npu_dialect.npu.ordering import byte_view
from npu_dialect.npu.streams import weights_of
from npu_dialect.npu.structure import ProgramOp
from npu_dialect.npu.verifier import verify_program
from npu_dialect.runtime.executor import Step
from npu_dialect.runtime.program import Program
from npu_dialect.target import load_target

SAMPLES = 1 << 22
"""Elements of gathered windows that are summed at a time where sums are checked one by one."""


@dataclass(frozen=True)
class Finding:
    """Something wrong with an instruction. `index` is its place in `Program.instructions`."""

    kind: str
    """uninitialized-read, accumulator-overflow, not-finite or unproved."""
    index: int
    instruction: str
    layer: str
    found: str

    def __str__(self) -> str:
        place = f"instruction {self.index}, {self.instruction}" if self.index >= 0 else "program"
        return f"{self.kind}: {self.layer} ({place}): {self.found}"


@dataclass
class Limits:
    """Results of a layer at the ends of their integer type."""

    elements: int = 0
    lowest: int = 0
    """Elements that are the least value of the type. After a ReLU that is where zero is."""
    highest: int = 0


@dataclass(frozen=True)
class SanitizerReport:
    """What was seen in one run or in several."""

    findings: tuple[Finding, ...]
    limits: dict[str, Limits] = field(default_factory=dict[str, Limits])
    """By layer, in the order of execution; layers of floats have none."""

    @property
    def clean(self) -> bool:
        """Whether nothing is wrong."""
        return not self.findings

    def to_json(self) -> dict[str, Any]:
        """All of it as JSON values."""
        return {"clean": self.clean, **asdict(self)}


class Sanitizer:
    """An observer of runs of one entry of a program."""

    def __init__(self, program: Program, entry: str | None = None) -> None:
        self.program = program.entry(entry)
        self._written = {
            space: np.zeros(self._size(space), np.bool_)
            for space in ("dram", "spm", "acc")
        }  # fmt: skip
        self._mark_given()
        self._findings: dict[tuple[str, int], Finding] = {}
        self._limits: dict[str, Limits] = {}

    def _size(self, space: str) -> int:
        memory = self.program.machine.memories[space]
        return self.program.dram_size if space == "dram" else memory.size

    def _mark_given(self) -> None:
        """Constants, inputs and states have content before the first instruction."""
        dram = self._written["dram"]
        for constant in self.program.constants:
            dram[constant.address : constant.end] = True
        states = [state for state, _ in self.program.used_states]
        for binding in (*self.program.inputs, *states):
            byte_view(self._written[binding.operand.space], binding.operand)[...] = True

    def __call__(self, step: Step) -> None:
        """Looks at an instruction that was just executed."""
        op = step.instruction
        for operand in op.reads():
            self._check_read(step, operand)
        for operand in op.writes():
            byte_view(self._written[operand.space], operand)[...] = True
        if isinstance(op, ArrayInstruction):
            self._check_sums(step, op)
        for operand in op.writes():
            self._check_values(step, operand)

    def report(self) -> SanitizerReport:
        """What was seen so far."""
        return SanitizerReport(tuple(self._findings.values()), dict(self._limits))

    def _add(self, kind: str, step: Step, found: str) -> None:
        finding = Finding(kind, step.index, step.instruction.name, step.record.layer, found)
        self._findings.setdefault((kind, step.index), finding)

    # --- memory ---

    def _check_read(self, step: Step, operand: Operand) -> None:
        known = byte_view(self._written[operand.space], operand)
        missing = known.size - int(np.count_nonzero(known))
        if missing:
            low, high = operand.interval
            self._add(
                "uninitialized-read",
                step,
                f"reads {missing:,} of {known.size:,} bytes in {operand.space} "
                f"[{low:#x}, {high:#x}) that nothing has written",
            )

    # --- values ---

    def _check_values(self, step: Step, operand: Operand) -> None:
        array = step.machine.view(operand)
        if array.dtype.kind == "f":
            wrong = array.size - int(np.count_nonzero(np.isfinite(array)))
            if wrong:
                self._add("not-finite", step, f"{wrong:,} of {array.size:,} results are no numbers")
        elif array.dtype.kind in "iu" and array.dtype.itemsize < 4 and _computes(step.instruction):
            limits = self._limits.setdefault(step.record.layer, Limits())
            info = np.iinfo(array.dtype)
            limits.elements += array.size
            limits.lowest += int(np.count_nonzero(array == info.min))
            limits.highest += int(np.count_nonzero(array == info.max))

    def _check_sums(self, step: Step, op: ArrayInstruction) -> None:
        values = op.values()
        if values["input"].dtype.is_float:
            return
        start = _start(step.machine, op)
        bits = _accumulator_bits(step.machine, op)
        greatest = 2 ** (bits - 1) - 1
        if _bound(step.machine, op, start) <= greatest:
            return
        sums = exact_sums(step.machine, op) + start
        outside = int(np.count_nonzero((sums < -greatest - 1) | (sums > greatest)))
        if outside:
            self._add(
                "accumulator-overflow",
                step,
                f"{outside:,} of {sums.size:,} sums leave {bits} bits; they reach from "
                f"{int(sums.min()):,} to {int(sums.max()):,}",
            )


def prove(program: Program) -> Iterator[Finding]:
    """What the static proof finds in a program, of races too; nothing for one that was compiled."""
    for op in program.to_module().ops:
        if isinstance(op, ProgramOp):
            for f in verify_program(op, load_target(op.target.data)):
                name = f.code.name.lower().replace("_", "-")
                yield Finding("unproved", f.index, name, f.source, f"{f.rule}; found {f.found}")


def _computes(op: Instruction) -> bool:
    """Whether it makes values; copies only carry those that others made."""
    return op.engine in ("mxu", "vpu")


# --- sums -----------------------------------------------------------------------------------------


def _centered(machine: Machine, operand: Operand, zero: int) -> NDArray[np.int64]:
    return machine.view(operand).astype(np.int64) - zero


def _weights(machine: Machine, values: Values) -> NDArray[np.int64]:
    return weights_of(machine, values).astype(np.int64) - values["w_zero"]


def _start(machine: Machine, op: ArrayInstruction) -> NDArray[np.int64]:
    """What the sums of an executed instruction started from.

    Where they were left in place, that is what is there less what was added, in as many bits.
    """
    values = op.values()
    if not values["accumulate"]:
        return np.zeros(1, np.int64)
    partial = machine.view(values["partial"])
    now = partial.astype(np.int64)
    if "kernel" in values:
        return now
    return (now - exact_sums(machine, op)).astype(partial.dtype).astype(np.int64)


def _accumulator_bits(machine: Machine, op: ArrayInstruction) -> int:
    """The bits of the accumulator of an instruction's integer sums."""
    if sum_type(op.values(), machine.kernels) is not dtypes.i64:
        return 32
    return 64 if "i64" in machine.target.acc_types else 40


def _bound(machine: Machine, op: ArrayInstruction, start: Array) -> int:
    """What no sum exceeds: the greatest input times all weights of an output channel."""
    values = op.values()
    x = _centered(machine, values["input"], values["x_zero"])
    w = np.abs(_weights(machine, values))
    per_channel = w.reshape(-1, w.shape[-1]).sum(0) if w.size else np.zeros(1, np.int64)
    greatest = int(np.abs(x).max(initial=0)) * int(per_channel.max(initial=0))
    return greatest + int(np.abs(start).max(initial=0))


def exact_sums(machine: Machine, op: ArrayInstruction) -> NDArray[np.int64]:
    """The sums of an integer instruction in 64 bits, shaped like its output."""
    values = op.values()
    window = op.window(values)
    x = _centered(machine, values["input"], values["x_zero"]).reshape(1, *window.image)
    w = _weights(machine, values)
    w = w.reshape(*window.kernel, -1, w.shape[-1]) if not op.DEPTHWISE else w
    image = pad(x, np.int64, 0, window.corner, window.extent)
    views = sliding(image, window.kernel, window.strides, window.dilations, window.out_hw)[0]
    rows = [_products(part, w, op.DEPTHWISE) for part in _blocks(views)]
    result = (values["output"] if "output" in values else values["partial"]).dims
    return np.concatenate(rows).reshape(result)


def _blocks(views: Array) -> Sequence[Array]:
    """Rows of windows, few enough at a time."""
    step = max(1, SAMPLES // max(1, views[0].size))
    return [views[k : k + step] for k in range(0, len(views), step)]


def _products(windows: Array, w: Array, depthwise: bool) -> NDArray[np.int64]:
    """Sums of windows [OH, OW, KH, KW, C] with weights [KH, KW, C, OC], or [KH, KW, C]."""
    if depthwise:
        return np.einsum("abhwc,hwc->abc", windows, w)
    length = w.shape[0] * w.shape[1] * w.shape[2]
    flat = np.ascontiguousarray(windows).reshape(*windows.shape[:2], length)
    return flat @ w.reshape(length, -1)
