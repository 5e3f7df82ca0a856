"""Errors, warnings and remarks: structured records with stable codes, printed as one line each.

A record says what must hold, what was found, where, and what would work:

    error[NPU0108]: conv1: kernel_shape must be that of the weights; found [3, 3]; try ...

Raise an error with `raise error(Code.X, "... must ...", found=..., remedy=..., source=op)`;
report the rest with `warn(...)` and `remark(...)`, which `collect()` gathers.
"""

from __future__ import annotations

import json
from collections.abc import Generator, Iterable
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from xdsl.ir import Operation


class Severity(Enum):
    """How much a record matters: an error ends the compilation, the others do not."""

    ERROR = "error"
    WARNING = "warning"
    REMARK = "remark"


class Code(Enum):
    """Every kind of record: its stable number and its meaning. Numbers are never reused.

    00 files and command lines, 01 models, 02 IR, 03 targets and lowering, 04 programs, 05 running,
    06 the proof of a program, 09 the compiler itself, 10 remarks.
    """

    FILE_UNREADABLE = "NPU0001", "An input file cannot be opened or read."
    FILE_UNWRITABLE = "NPU0002", "An output file cannot be written; nothing was left half written."
    FILE_KIND = "NPU0003", "The kind of a file is not one that the tool reads."
    OPTION = "NPU0004", "An option of the command line or an argument of the API is malformed."
    PASS_UNKNOWN = "NPU0005", "A pipeline names a pass that is not registered."
    PIPELINE_SYNTAX = "NPU0006", "A pipeline string cannot be parsed, or a pass lacks that option."
    PACKAGE_MISSING = "NPU0007", "An optional package is needed for what was asked."

    MODEL_MALFORMED = "NPU0101", "The model file is truncated, corrupted, or not a valid model."
    MODEL_VERSION = "NPU0102", "The model uses an operator set or IR version that is not supported."
    OPERATOR_UNKNOWN = "NPU0103", "The model uses an operator that does not exist in its opset."
    SHAPE_UNBOUND = "NPU0104", "A dimension of a model input is symbolic and nobody bound it."
    SHAPE_BINDING = "NPU0105", "A shape given for an input does not fit the model."
    SHAPE_MISMATCH = "NPU0106", "The operands of an operation have shapes that do not fit together."
    DTYPE_MISMATCH = "NPU0107", "The operands of an operation have element types that do not fit."
    ATTRIBUTE_INVALID = "NPU0108", "An attribute of a model's node is missing or has a wrong value."
    OPERATOR_UNSUPPORTED = "NPU0109", "A model does what neither `graph` nor the host can do."
    CAPTURE = "NPU0110", "`torch.export` cannot capture the module."

    IR_SYNTAX = "NPU0201", "The text of the IR cannot be parsed."
    IR_INVALID = "NPU0202", "An operation breaks a rule of its dialect."
    SSA_ORDER = "NPU0203", "A value is used where its definition does not dominate the use."
    PROVENANCE = "NPU0204", "An operation does not know which source operation it comes from."
    BLOB_MISSING = "NPU0205", "The data of a large constant is in a side file that was not found."
    LEVEL = "NPU0206", "The module is at another level than the step needs."

    TARGET_UNKNOWN = "NPU0301", "No such target: neither a name nor a target file."
    TARGET_FILE = "NPU0302", "A target file lacks an entry or has one that means nothing."
    TARGET_LACKS = "NPU0303", "The target has no such data type, operation or engine."
    CAPACITY = "NPU0304", "The data that must be live at once exceeds a memory of the target."
    NOT_LOWERABLE = "NPU0305", "A pass met an operation that it cannot lower."
    HOST_NEEDED = "NPU0306", "An operation needs the host, and --strict allows none there."

    PROGRAM_MALFORMED = "NPU0401", "The program file is cut, corrupted, or no program at all."
    PROGRAM_VERSION = "NPU0402", "The program file was written by another version."
    PROGRAM_TARGET = "NPU0403", "The program was compiled for another target."
    FIELD_RANGE = "NPU0404", "A value does not fit the bits of its instruction field."

    INPUT_NAMES = "NPU0501", "The inputs given are not the inputs of the program."
    INPUT_SHAPE = "NPU0502", "An input array has another shape than the program's input."
    INPUT_DTYPE = "NPU0503", "An input array has another element type than the program's input."
    LEVELS_DIFFER = "NPU0504", "Two levels gave different results for the same inputs."
    EXECUTION = "NPU0505", "An execution did something that the machine cannot do."
    TIER = "NPU0506", "A tier of the simulator cannot be used here, or not for this program."
    ENTRY = "NPU0507", "A program has no such entry, or has several and none is named."

    PROOF_BOUNDS = "NPU0601", "An instruction accesses bytes outside its memory."
    PROOF_UNWRITTEN = "NPU0602", "An instruction reads bytes that nothing wrote before."
    PROOF_RACE = "NPU0603", "Two accesses that conflict are not ordered by waits."
    PROOF_DEADLOCK = "NPU0604", "An instruction waits for a count that can never be reached."

    CRASH = "NPU0901", "A pass failed in a way that it did not foresee: a defect of the compiler."

    PLACED_ON_HOST = "NPU1001", "An operation runs on the host because the NPU lacks it."
    NOT_FUSED = "NPU1002", "Operations that look fusible were not fused, for the reason given."
    LAYOUT_COPY = "NPU1003", "A change of layout could not be cancelled and costs DMA work."
    APPROXIMATION = "NPU1004", "The compiled result may differ from the model in the way stated."
    CAPTURED = "NPU1005", "A torch module was captured, in the way stated."
    IN_TORCH = "NPU1006", "A part of a model under `torch.compile` runs in torch."
    DEGENERATE = "NPU1007", "A tensor of the model holds one number, whatever its inputs are."
    SATURATION = "NPU1008", "The range of a quantized tensor leaves out many values of the samples."

    def __init__(self, number: str, meaning: str) -> None:
        self.number = number
        self.meaning = meaning


@dataclass(frozen=True)
class Diagnostic:
    """One record. `rule` states what must hold; `remedy` completes "try ..."."""

    code: Code
    rule: str
    found: str = ""
    remedy: str = ""
    source: str = ""
    """The model's node, the file or the option that the record is about."""
    location: str = ""
    """File and line, where known."""
    severity: Severity = Severity.ERROR

    def __str__(self) -> str:
        where = self.source
        if self.location and self.location != self.source:
            where = f"{where} ({self.location})" if where else self.location
        parts = [f"{self.severity.value}[{self.code.number}]: ", f"{where}: " if where else ""]
        parts += [self.rule]
        parts += [f"; found {self.found}"] if self.found else []
        parts += [f"; try {self.remedy}"] if self.remedy else []
        return " ".join("".join(parts).split())

    def to_json(self) -> dict[str, Any]:
        """The fields as JSON values; `meaning` is that of the code."""
        return {
            "code": self.code.number,
            "meaning": self.code.meaning,
            "severity": self.severity.value,
            "source": self.source,
            "location": self.location,
            "rule": self.rule,
            "found": self.found,
            "remedy": self.remedy,
        }


class CompileError(Exception):
    """A compilation or a run that cannot go on; `records` say why, one line each."""

    def __init__(self, *records: Diagnostic) -> None:
        super().__init__(*records)
        self.records = records

    def __str__(self) -> str:
        return "\n".join(map(str, self.records))

    def to_json(self) -> str:
        """The records as a JSON array."""
        return json.dumps([record.to_json() for record in self.records], indent=2)


def error(
    code: Code,
    rule: str,
    *,
    found: object = "",
    remedy: str = "",
    source: str | Operation = "",
    location: str = "",
) -> CompileError:
    """The exception of one record, for `raise`. An operation as source gives its model nodes."""
    return CompileError(_record(Severity.ERROR, code, rule, found, remedy, source, location))


def warn(
    code: Code,
    rule: str,
    *,
    found: object = "",
    remedy: str = "",
    source: str | Operation = "",
    location: str = "",
) -> None:
    """Report something that the user should know and that does not end the compilation."""
    report(_record(Severity.WARNING, code, rule, found, remedy, source, location))


def remark(
    code: Code,
    rule: str,
    *,
    found: object = "",
    remedy: str = "",
    source: str | Operation = "",
    location: str = "",
) -> None:
    """Report a decision (why this ran there, why that was not fused)."""
    report(_record(Severity.REMARK, code, rule, found, remedy, source, location))


@contextmanager
def collect() -> Generator[list[Diagnostic], None, None]:
    """Gather the warnings and remarks of the block in a list.

    Outside any such block, warnings go to the log and remarks nowhere.
    """
    records: list[Diagnostic] = []
    token = _collector.set(records)
    try:
        yield records
    finally:
        _collector.reset(token)


def unique(records: Iterable[Diagnostic]) -> list[Diagnostic]:
    """The records in order, each once."""
    return list(dict.fromkeys(records))


def manual() -> str:
    """The table of all codes as Markdown, for the documentation."""
    rows = [f"| `{code.number}` | `{code.name}` | {code.meaning} |" for code in Code]
    return "\n".join(["| code | name | meaning |", "|---|---|---|", *rows, ""])


_collector: ContextVar[list[Diagnostic] | None] = ContextVar("collector", default=None)


def _record(
    severity: Severity,
    code: Code,
    rule: str,
    found: object,
    remedy: str,
    source: str | Operation,
    location: str,
) -> Diagnostic:
    name = source if isinstance(source, str) else describe(source)
    return Diagnostic(code, rule, str(found), remedy, name, location, severity)


def describe(op: Operation) -> str:
    """The model nodes that `op` comes from, or else its own name: ``conv1``, ``graph.conv2d``."""
    from npu_dialect import provenance

    names = provenance.sources(op)
    if not names:
        return op.name
    shown = ", ".join(names[:3])
    return shown if len(names) <= 3 else f"{shown} and {len(names) - 3} more"


def report(record: Diagnostic) -> None:
    """Report a record that there is already."""
    records = _collector.get()
    if records is not None:
        records.append(record)
    elif record.severity is Severity.WARNING:
        import logging

        logging.getLogger("npu_dialect").warning("%s", record)
