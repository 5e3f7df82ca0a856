"""Arm Vela 5.2.0 on a .tflite file: what it estimates, and what it says of every operator.

Vela is the package `ethos-u-vela`; its estimates of a network are in a CSV file, those of its
operators in the debug database, tables of CSV in XML. Importing this is cheap.
"""

from __future__ import annotations

import csv
import io
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from time import perf_counter
from xml.etree import ElementTree

Row = dict[str, str]

CONFIGURATION = "Arm/vela.ini"
"""The file of system configurations and memory modes that comes with Vela."""


@dataclass(frozen=True)
class Machine:
    """What Vela compiles for, and the target that describes the same machine."""

    target: str
    accelerator: str
    system: str
    memory: str
    sram_latency: int
    off_chip_latency: int
    """Cycles of a read, as CONFIGURATION has them."""


MACHINES = (
    Machine("ethos_u55_256", "ethos-u55-256", "Ethos_U55_High_End_Embedded", "Shared_Sram", 32, 64),
    Machine(
        "ethos_u65_512", "ethos-u65-512", "Ethos_U65_High_End", "Dedicated_Sram_512KB", 32, 500
    ),
    Machine(
        "ethos_u85_2048", "ethos-u85-2048", "Ethos_U85_SYS_DRAM_High", "Dedicated_Sram_512KB",
        32, 500,
    ),
)  # fmt: skip
"""Cycles of off-chip accesses are counted otherwise on Ethos-U85: see docs/targets.md."""


@dataclass(frozen=True)
class Operator:
    """An operator that Vela runs on the accelerator. Extents are rows, columns, channels."""

    kind: str
    fused: tuple[str, ...]
    """Activations that are part of it."""
    input: tuple[int, int, int]
    second: tuple[int, int, int]
    """Of the second input; zeros without one."""
    output: tuple[int, int, int]
    kernel: tuple[int, int]
    input_type: str
    output_type: str
    formats: tuple[str, str]
    """How input and result lie in memory: NHWC or NHCWB16."""
    memories: tuple[str, str]
    input_block: tuple[int, int, int]
    output_block: tuple[int, int, int]
    traversal: str
    has_scales: bool
    is_buffered: bool
    """Whether weights and scales are copied on the chip first."""
    skips: bool
    """Whether two of every four weights are zero, and not multiplied (Ethos-U85)."""
    mac_cycles: int | None
    """Of operators that multiply or pool."""
    command_cycles: int
    cycles: int
    """Of array and output stage, where the operator is not cut by channels."""
    npu_cycles: int
    """With the copies of weights that it waits for."""


@dataclass(frozen=True)
class Run:
    """What Vela made of a model. Sizes in bytes."""

    operators: tuple[Operator, ...]
    summary: Row
    seconds: float
    """Of the whole process, by the wall clock."""
    cpu_seconds: float

    def number(self, name: str) -> float:
        """A field of the summary."""
        return float(self.summary[name])

    @property
    def on_chip(self) -> int:
        """The most bytes of SRAM at once."""
        return round(self.number("sram_memory_used") * 1024)

    @property
    def off_chip(self) -> int:
        """Bytes moved from and to flash or DRAM."""
        spaces = ("dram", "on_chip_flash", "off_chip_flash")
        return round(sum(self.number(f"{space}_total_bytes") for space in spaces))


def is_installed() -> bool:
    """Whether Vela can be run."""
    return find_spec("ethosu") is not None


def run(model: Path, machine: Machine, folder: Path, options: Sequence[str] = ()) -> Run:
    """Compile a model; files go into the folder. Raises RuntimeError with Vela's last line."""
    command = [sys.executable, "-m", "ethosu.vela", str(model)]
    command += ["--accelerator-config", machine.accelerator, "--config", CONFIGURATION]
    command += ["--system-config", machine.system, "--memory-mode", machine.memory]
    command += ["--output-dir", str(folder), *options]
    before, start = os.times(), perf_counter()
    done = subprocess.run(command, capture_output=True, text=True)
    seconds, after = perf_counter() - start, os.times()
    if done.returncode:
        lines = (done.stderr or done.stdout).strip().splitlines()
        raise RuntimeError(f"Vela: {(lines or ['no output'])[-1]}")
    used = after.children_user - before.children_user
    used += after.children_system - before.children_system
    (summary,) = folder.glob(f"{model.stem}_summary_*.csv")
    (row,) = csv.DictReader(io.StringIO(summary.read_text()))
    debug = folder / f"{model.stem}_debug.xml"
    found = operators(debug.read_text()) if debug.exists() else ()
    return Run(found, row, seconds, used)


def operators(text: str) -> tuple[Operator, ...]:
    """Those of a debug database (`--enable-debug-db`)."""
    tables: dict[str, list[Row]] = {}
    for table in ElementTree.fromstring(text):  # one of a name for each part of the network
        rows = csv.DictReader(io.StringIO((table.text or "").strip()))
        tables.setdefault(table.attrib["name"], []).extend(rows)
    about = {row["id"]: row for row in tables["perf_debug"]}
    named = {row["id"]: row for row in tables["perf"]}
    fused: dict[str, list[str]] = {}
    for row in tables.get("group", []):
        if row["id"] in named:
            fused.setdefault(row["group_id"], []).append(named[row["id"]]["operator"])
    return tuple(
        _operator(row, about[row["id"]], named[row["id"]], tuple(fused.get(row["id"], ())))
        for row in tables.get("perf_debug_main", [])
        if row["id"] in named
    )


def _operator(main: Row, about: Row, named: Row, fused: tuple[str, ...]) -> Operator:
    return Operator(
        kind=named["operator"],
        fused=fused,
        input=_shape(about, "ifm"),
        second=_shape(about, "ifm2"),
        output=_shape(about, "ofm"),
        kernel=(int(about["kernel_size_y"]), int(about["kernel_size_x"])),
        input_type=about["ifm_dtype"],
        output_type=about["ofm_dtype"],
        formats=(about["ifm_format"], about["ofm_format"]),
        memories=(about["ifm_memory"], about["ofm_memory"]),
        input_block=_extents(main, "ifm_block"),
        output_block=_extents(main, "ofm_block"),
        traversal=main["traversal"],
        has_scales=bool(about["weight_format"]),
        is_buffered=bool(about["weight_buffering"]),
        skips="Sparse2_4" in about["weight_format"],
        mac_cycles=int(main["mac_cycles"]) if main["mac_cycles"] else None,
        command_cycles=int(main["cmd_cycles"]),
        cycles=int(about["est_op_cycles_without_buffering"]),
        npu_cycles=int(named["npu_cycles"]),
    )


def _shape(row: Row, name: str) -> tuple[int, int, int]:
    """The part of a tensor that an operator takes, or all of it."""
    part = _extents(row, f"{name}_slice")
    return part if all(part) else _extents(row, f"{name}_shape")


def _extents(row: Row, name: str) -> tuple[int, int, int]:
    rows, cols, channels = (int(row[f"{name}_{axis}"] or 1) for axis in "hwc")
    return rows, cols, channels
