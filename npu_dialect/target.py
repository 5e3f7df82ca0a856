"""The target: one frozen description of a machine, which passes, instruction limits, cost model and
simulator all read.

A target is a TOML file (`targets/edge256.toml` is the commented example); adding a machine of a
known array kind is adding a file. Units: bytes, cycles of the machine's clock, picojoules, watts,
volts, hertz.
"""

from __future__ import annotations

import hashlib
import tomllib
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields
from fnmatch import fnmatchcase
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType
from typing import Any, get_args, get_origin, get_type_hints

ENGINES = ("dma", "mxu", "vpu", "host", "io")
"""The in-order engines of one core, in the order of their codes. A program names them as (core,
engine).
"""

ARRAY_KINDS = ("dot_product", "weight_stationary", "output_stationary")
"""The kinds of array that `cost.py` has a function for."""

SPACES = ("dram", "spm", "acc")
"""The memories, in the order of their codes."""


class TargetError(ValueError):
    """A target file that does not describe a machine, or a name that names none."""


@dataclass(frozen=True)
class Memory:
    """One memory: `ports` gives the bytes per cycle that each engine can move through its own
    port.
    """

    size: int
    """Bytes."""
    latency: int
    """Cycles to the first byte."""
    burst: int
    """Bytes of an access. Copies pay for whole accesses of dram, taken as 32 bytes at most."""
    read_pj: float
    """pJ per byte read."""
    write_pj: float
    """pJ per byte written."""
    ports: Mapping[str, float]
    """Bytes per cycle, by engine."""
    leakage: float = 0.0
    """Watts while powered."""


@dataclass(frozen=True)
class Array:
    """The matrix/convolution array. `macs` gives (positions, output channels, input channels)
    multiplied a cycle.
    """

    kind: str
    """The name of a cost function: a row of `ARRAY_KINDS` in `npu_dialect/cost.py`."""
    macs: Mapping[str, tuple[int, int, int]]
    """By storage type of the activations; a type that is missing is not multiplied."""
    depthwise_macs: Mapping[str, int]
    """Multiply-accumulates a cycle of a depthwise convolution, by storage type."""
    fill: int
    """Cycles before the first result of an instruction leaves the array."""
    drain: int
    """Cycles after the last multiply-accumulate until the last result is stored."""
    input_buffer: int
    """Bytes of activations that the array keeps; what is larger is streamed again."""
    weight_buffer: int
    """Bytes of weights that the array keeps."""
    weight_types: tuple[str, ...]
    """Storage types of weights."""
    output_stage: tuple[str, ...]
    """Patterns of the micro-operations that the output stage can do."""
    output_elements: int
    """Elements a cycle through the output stage."""
    output_micro_ops: int
    """Length of the output stage's pipeline: micro-operations that a kernel may have there."""
    mac_pj: Mapping[str, float]
    """pJ per multiply-accumulate, by storage type of the activations."""
    leakage: float = 0.0
    """Watts while powered."""


@dataclass(frozen=True)
class Vector:
    """The vector unit: `lanes` by value type (i32, i64, f32), `cycles` and `pj` by cost class of
    micro-operation.
    """

    lanes: Mapping[str, int]
    """Elements a cycle, by value type; without a row the unit has no such values."""
    startup: int
    """Cycles before the first element of an instruction."""
    micro_ops: tuple[str, ...]
    """Patterns of the micro-operations that it can do."""
    storage: tuple[str, ...]
    """Storage types that it can load and store."""
    cycles: Mapping[str, float]
    """Cycles of one micro-operation on all lanes."""
    pj: Mapping[str, float]
    """pJ per micro-operation and element."""
    leakage: float = 0.0
    """Watts while powered."""


@dataclass(frozen=True)
class Dma:
    """The copy engine(s)."""

    channels: int
    """Copies that run at the same time; declared, and one queue is used in this version."""
    startup: int
    """Cycles to decode and issue one descriptor."""
    max_rank: int
    """Dimensions that a descriptor counts."""
    fill_bytes: int
    """Bytes a cycle when filling with a constant."""
    leakage: float = 0.0
    """Watts while powered."""


@dataclass(frozen=True)
class Host:
    """The CPU that runs what the accelerator cannot, in cycles of the accelerator's clock."""

    macs_per_cycle: float
    """Multiply-accumulates a cycle."""
    elements_per_cycle: float
    """Elementwise operations a cycle."""
    bytes_per_cycle: float
    """Bytes read or written a cycle."""
    call: int
    """Cycles to hand a task over and to take its result back."""
    power: float
    """Watts while busy."""


@dataclass(frozen=True)
class OperatingPoint:
    """A voltage and a clock frequency at which the machine may run."""

    name: str
    voltage: float
    frequency: float


@dataclass(frozen=True)
class Power:
    """What energy needs beside the per-action tables."""

    clock: float
    """Watts of the clock tree and control while any engine is busy, at the nominal operating
    point.
    """
    clock_gating: bool
    """Whether the clock stops while no engine of the accelerator is busy."""
    power_gating: bool
    """Whether idle units can be switched off; declared, and not used yet."""
    operating_points: tuple[OperatingPoint, ...]
    """Declared, and not used yet: times and energies are those of `frequency`."""


@dataclass(frozen=True)
class Target:
    """A machine. `digest` is the SHA-256 of its file, recorded in every program that is compiled
    for it.
    """

    name: str
    description: str
    """One line, for lists."""
    frequency: float
    """Of the clock that all cycles count."""
    cores: int
    """Copies of all engines. Leakage counts them; programs use the first one in this version."""
    acc_types: tuple[str, ...]
    """Storage types of partial sums; declared, and not used yet."""
    memories: Mapping[str, Memory]
    array: Array
    vector: Vector
    dma: Dma
    host: Host
    power: Power
    digest: str = ""

    def output_stage_can(self, micro_op: str) -> bool:
        """Whether the array's output stage can do the micro-operation of this name."""
        return any(fnmatchcase(micro_op, p) for p in self.array.output_stage)

    def vector_can(self, micro_op: str) -> bool:
        """Whether the vector unit can do the micro-operation of this name."""
        return any(fnmatchcase(micro_op, p) for p in self.vector.micro_ops)

    def array_can(self, dtype: str, weight_dtype: str) -> bool:
        """Whether the array multiplies activations of `dtype` by weights of `weight_dtype`."""
        return dtype in self.array.macs and weight_dtype in self.array.weight_types

    def __hash__(self) -> int:
        return hash((self.name, self.digest))


def load_target(name: str | Path) -> Target:
    """The target of this name (`edge256`) or of this file (`my_machine.toml`).

    Raises TargetError where there is none, or where the file lacks or misspells a field.
    """
    path = _path(name)
    return _parse(_read(path, str(name)), str(path))


def target_text(name: str | Path) -> str:
    """The file of the target of this name, or this file. Raises TargetError where there is none."""
    return _read(_path(name), str(name)).decode()


def parse_target(text: str, where: str) -> Target:
    """The target that the text of a target file describes; `where` names the text in errors
    (TargetError).
    """
    return _parse(text.encode(), where)


def _path(name: str | Path) -> Path:
    path = Path(name)
    if path.suffix != ".toml":
        path = Path(__file__).parent / "targets" / f"{name}.toml"
    return path.resolve()


def target_names() -> list[str]:
    """The targets that come with the compiler."""
    return sorted(p.stem for p in (Path(__file__).parent / "targets").glob("*.toml"))


@lru_cache
def _read(path: Path, name: str) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        known = ", ".join(target_names())
        raise TargetError(
            f"a target must be one of {known} or a .toml file, found {name} ({error.strerror})"
        ) from error


@lru_cache
def _parse(data: bytes, where: str) -> Target:
    try:
        table = tomllib.loads(data.decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise TargetError(f"{where}: a target must be a TOML file, found: {error}") from error
    table["digest"] = hashlib.sha256(data).hexdigest()
    target: Target = _build(Target, table, where)
    if target.array.kind not in ARRAY_KINDS:
        kinds = ", ".join(ARRAY_KINDS)
        raise TargetError(f"{where}: array.kind must be one of {kinds}, found {target.array.kind}")
    return target


def _build(cls: type[Any], table: Mapping[str, Any], where: str) -> Any:
    """A dataclass from a TOML table, every field checked."""
    hints = get_type_hints(cls)
    known = {f.name for f in fields(cls)}
    for key in table:
        if key not in known:
            raise TargetError(f"{where}: must have only known fields, found {key!r}")
    values: dict[str, Any] = {}
    for f in fields(cls):
        if f.name in table:
            values[f.name] = _convert(hints[f.name], table[f.name], f"{where}: {f.name}")
    for f in fields(cls):
        if f.name not in values and f.default is MISSING:
            raise TargetError(f"{where}: must have the field {f.name}, found none")
    return cls(**values)


def _convert(hint: Any, value: Any, where: str) -> Any:
    origin, args = get_origin(hint), get_args(hint)
    if hasattr(hint, "__dataclass_fields__"):
        return _build(hint, value, where)
    if origin is tuple:
        item = args[0]
        return tuple(_convert(item, v, where) for v in value)
    if origin is Mapping:
        return MappingProxyType({k: _convert(args[1], v, f"{where}.{k}") for k, v in value.items()})
    if hint is float and isinstance(value, int):
        return float(value)
    if not isinstance(value, hint):
        raise TargetError(f"{where} must be of type {hint.__name__}, found {value!r}")
    return value
