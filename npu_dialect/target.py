"""The target: one frozen description of a machine, which passes, instruction limits, cost model and
simulator all read.

A target is a TOML file (`targets/edge256.toml` is the commented example); adding a machine of a
known array kind is adding a file. Units: bytes, cycles of the machine's clock, picojoules, watts,
volts, hertz.
"""

from __future__ import annotations

import hashlib
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import MISSING, dataclass, fields, is_dataclass
from difflib import get_close_matches
from fnmatch import fnmatchcase
from functools import lru_cache
from math import isfinite
from pathlib import Path
from types import MappingProxyType, UnionType
from typing import Any, NamedTuple, cast, get_args, get_origin, get_type_hints

from npu_dialect import dtypes, rice
from npu_dialect.codecs import CODECS
from npu_dialect.files import target_names as target_names

ENGINES = ("dma", "mxu", "vpu", "host", "io")
"""The in-order engines of one core, in the order of their codes. A program names them as (core,
engine).
"""

ARRAY_KINDS = ("dot_product", "weight_stationary", "output_stationary", "ethos_u55", "ethos_u85")
"""The kinds of array that `cost.py` has a function for."""

ACC_TYPES = ("i32", "i40", "i64", "f32")
"""Types of sums. i40 is stored as i64, and takes as many bytes of `acc`."""

ZEROS = ("2:4", "any")
"""Which zeros an array may leave out."""

IN_BLOCKS = ("ethos_u55", "ethos_u85")
"""The kinds of array that go over their results in blocks, which `Array.blocks` describes."""

BLOCK_TYPES = ("i8", "u8", "i16")
"""The types that such an array multiplies."""

READ_ONLY_STEP = 64
"""Bytes that a read-only part of dram is a multiple of."""

COST_CLASSES = ("alu", "mul", "div", "requantize", "lookup", "convert", "transcendental")
"""What micro-operations cost, by class: the rows of `Vector.cycles` and `Vector.pj`."""

VALUE_TYPES = ("i32", "i64", "f32")
"""The types that the vector unit computes with."""

PORTS = {"dram": ("dma", "host"), "spm": ("dma", "mxu", "vpu"), "acc": ("mxu",)}
"""The engines that reach each memory."""

MORE_PORTS = {"dram": ("mxu",)}
"""Those that may: an array that reads constants where they lie."""

MAY_BE_ZERO = (
    *("latency", "fill", "drain", "startup", "call"),
    *("read_pj", "write_pj", "mac_pj", "pj", "leakage", "clock", "power", "read_only"),
)
"""Fields of which zero makes a machine; every other number must be positive."""

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
    """Cycles until a copy's data is there, beyond those that it streams."""
    burst: int
    """Bytes of the least access of dram: copies pay for whole ones. In the memories on the chip a
    run pays for whole beats of the port instead.
    """
    read_pj: float
    """pJ per byte read."""
    write_pj: float
    """pJ per byte written."""
    ports: Mapping[str, float]
    """Bytes per cycle, by engine. With a port of dram, the array (mxu) can read constants there."""
    leakage: float = 0.0
    """Watts while powered."""
    read_only: int = 0
    """Of dram: bytes at its start that hold the constants and cannot be written (flash), which
    `ports` read. What follows holds the inputs, outputs, states and what finds no room elsewhere.
    """
    writable_ports: Mapping[str, float] | None = None
    """Bytes per cycle of what follows the read-only part, by engine; without, as `ports`."""

    def width(self, engine: str, address: int) -> float:
        """Bytes per cycle that an engine moves at this address."""
        if self.writable_ports is not None and address >= self.read_only:
            return self.writable_ports[engine]
        return self.ports[engine]


@dataclass(frozen=True)
class Blocks:
    """How an array of kind `ethos_u55` or `ethos_u85` goes over its result: in blocks, made of
    micro-blocks. A block's input and its sums lie in buffers of banks, two of each.
    """

    micro: tuple[int, ...]
    """Rows, columns and channels of a micro-block: the results that one core computes at once."""
    largest: tuple[int, ...]
    """Rows, columns and channels of the largest block."""
    cores: int
    """Cores that share the channels of a block."""
    written: int
    """Channels of a pixel that a core writes at once."""
    delay: int
    """Cycles that a sum takes until the next one can be added to it."""
    bank: int
    """Bytes of a bank."""
    banks: int
    """Banks for inputs and sums; those of the output stage and of the table are not counted."""
    input_granule: int
    """Banks of which the input's buffers take a multiple."""
    sum_granule: Mapping[str, int]
    """Banks of which the sums' buffers take a multiple, by storage type of the activations."""
    sum_bits: Mapping[str, int]
    """Bits of a sum, by storage type of the activations."""
    output_cycles: Mapping[str, float]
    """Cycles of an element in the output stage, by storage type of the activations."""
    residual_cycles: float
    """Cycles of an element to which a second operand is added there."""
    lookup_cycles: float
    """Cycles of an element that goes through the table there."""
    others: tuple[tuple[int, ...], ...] = ()
    """Micro-blocks of convolutions that come before `micro`: the one that computes the fewest
    results too many is taken.
    """
    decoded: int = 8
    """Weights that a core, or all that share no block, decodes in a cycle."""
    depth: int = 32
    """Input channels of a block that is not taken in parts of the kernel. With 64, a step takes a
    cycle for every 8 of them; with 32 (16 of int16) it takes four.
    """
    buffers: tuple[int, ...] = ()
    """Bytes for inputs and for sums, where these have memories of their own rather than banks."""


@dataclass(frozen=True)
class Zeros:
    """An array that leaves out products of integers whose weight is zero (not depthwise ones)."""

    structure: str
    """Which zeros, of `ZEROS`: `2:4` of weights of which at most two in every four input channels
    are others; `any` wherever they are.
    """
    speedup: float
    """How many times as fast it is with zeros enough."""


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
    """Cycles before the first result of an instruction leaves the array. The closed forms of the
    systolic kinds count fill and drain themselves; depthwise work takes these on all kinds.
    """
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
    residual: bool = True
    """Whether the output stage takes a second operand: a tensor that is added, say."""
    zeros: Zeros | None = None
    """How it leaves out products with weights of zero; without, it makes them all."""
    blocks: Blocks | None = None
    """Of an array of kind `ethos_u55`; the other kinds have none."""


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
    index_types: tuple[str, ...] = ()
    """Types of the indices by which it writes or accumulates rows; without any it cannot."""
    is_output_stage: bool = False
    """Whether it is the output stage of the array. Then only one of both works at a time; and its
    micro-operations work at the same time, those of a class one after the other, so that the
    slowest class decides, with a cycle of all lanes at least.
    """

    def kernel_cycles(self, costs: Iterable[str]) -> float:
        """Cycles of all lanes for a kernel whose micro-operations are of these cost classes."""
        taken: dict[str, float] = {}
        for each in costs:
            taken[each] = taken.get(each, 0.0) + self.cycles[each]
        if self.is_output_stage:
            return max(1.0, *taken.values()) if taken else 1.0
        return sum(taken.values()) or 1.0


@dataclass(frozen=True)
class Dma:
    """The copy engine(s)."""

    channels: int
    """Copies that run at the same time; 1 in this version."""
    startup: int
    """Cycles to decode and issue one descriptor."""
    max_rank: int
    """Dimensions that a descriptor counts."""
    fill_bytes: int
    """Bytes a cycle when filling with a constant."""
    leakage: float = 0.0
    """Watts while powered."""
    index_types: tuple[str, ...] = ()
    """Types of the indices by which it copies rows; without any it cannot."""
    codecs: tuple[str, ...] = ()
    """What it expands constant weights from (`npu_dialect/codecs.py`): i4, i4x32 and so on; `rice`:
    all constants that it copies may be coded without loss (`npu_dialect/rice.py`).
    """
    decoded_bytes: float = 0.0
    """Bytes a cycle that come out of its decoder of `rice`."""


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
    """Whether the accelerator can be switched off between frames (`--frames-per-second`)."""
    operating_points: tuple[OperatingPoint, ...]
    """What `npu-run --operating-point` may choose; one has the target's frequency, at whose voltage
    the tables of energy and leakage hold.
    """


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
    """The sums that the array's accumulators hold, of `ACC_TYPES`. Sums of 64 bits need i64, or a
    proof that they fit 40 bits and i40.
    """
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

    @property
    def array_reads_dram(self) -> bool:
        """Whether the array can read weights and parameters where they lie in dram."""
        return "mxu" in self.memories["dram"].ports

    def sums_in(self, dtype: str) -> bool:
        """Whether the array's accumulators hold sums of `dtype`: i32, f32, or i64, for which 40
        bits are enough where a sum was proved to fit them.
        """
        return dtype in self.acc_types or (dtype == "i64" and "i40" in self.acc_types)

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


@lru_cache
def _read(path: Path, name: str) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        known = ", ".join(target_names())
        why = f" ({error.strerror})" if name.endswith(".toml") else ""
        raise TargetError(
            f"a target must be one of {known} or a .toml file, found {name}{why}"
        ) from error


@lru_cache
def _parse(data: bytes, where: str) -> Target:
    try:
        table = tomllib.loads(data.decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise TargetError(f"{where}: a target must be a TOML file, found: {error}") from error
    table["digest"] = hashlib.sha256(data).hexdigest()
    target: Target = _build(Target, table, where)
    for mistake in _mistakes(target):
        raise TargetError(f"{where}: {mistake}")
    return target


def _mistakes(target: Target) -> Iterator[str]:
    """What keeps well-formed fields from describing a machine."""
    array, vector = target.array, target.vector
    yield from _names("memories", target.memories, SPACES, optional=False)
    for space, memory in target.memories.items():
        yield from _ports(f"memories.{space}.ports", space, memory.ports)
        yield from _read_only(space, memory)
    yield from _names("vector.lanes", vector.lanes, VALUE_TYPES)
    yield from _names("vector.cycles", vector.cycles, COST_CLASSES, optional=False)
    yield from _names("vector.pj", vector.pj, COST_CLASSES, optional=False)
    yield from _names("array.depthwise_macs", array.depthwise_macs, array.macs, optional=False)
    yield from _names("array.mac_pj", array.mac_pj, array.macs, optional=False)
    yield from _zeros(array)
    yield from _names("acc_types", target.acc_types, ACC_TYPES)
    yield from _names("dma.codecs", target.dma.codecs, (*CODECS, rice.NAME))
    if (rice.NAME in target.dma.codecs) != (target.dma.decoded_bytes > 0):
        found = f"{target.dma.decoded_bytes:g}"
        yield f"dma.decoded_bytes must be given with {rice.NAME}, found {found}"
    for where, types in _types(target):
        yield from _names(where, types, dtypes.BY_NAME)
    if array.kind not in ARRAY_KINDS:
        yield f"array.kind must be one of {', '.join(ARRAY_KINDS)}, found {array.kind}"
    for dtype, (positions, _, channels) in array.macs.items():
        if array.kind == "weight_stationary" and positions != 1:
            yield f"array.macs.{dtype} must be one position x columns x rows, found {positions}"
        if array.kind == "output_stationary" and channels != 1:
            yield f"array.macs.{dtype} must be rows x columns x one channel, found {channels}"
    yield from _blocks(array)
    if target.dma.channels != 1:
        yield f"dma.channels must be 1 in this version, found {target.dma.channels}"


def _ports(where: str, space: str, ports: Iterable[str]) -> Iterator[str]:
    """What is wrong with the ports of a memory."""
    more = MORE_PORTS.get(space, ())
    yield from _names(where, [p for p in ports if p not in more], PORTS[space], optional=False)


def _read_only(space: str, memory: Memory) -> Iterator[str]:
    """What is wrong with a part that cannot be written."""
    where = f"memories.{space}"
    if memory.read_only and space != "dram":
        yield f"{where}.read_only must be 0, found {memory.read_only}: only dram holds constants"
    if memory.read_only % READ_ONLY_STEP or memory.read_only >= memory.size:
        yield (
            f"{where}.read_only must be a multiple of {READ_ONLY_STEP} less than the size, "
            f"found {memory.read_only}"
        )
    if memory.writable_ports is None:
        return
    if not memory.read_only:
        yield f"{where}.writable_ports must come with read_only, found none"
    where += ".writable_ports"
    yield from _names(where, memory.writable_ports, PORTS[space], optional=False)


def _blocks(array: Array) -> Iterator[str]:
    """What keeps the blocks of an array from describing one."""
    blocks = array.blocks
    if (blocks is not None) != (array.kind in IN_BLOCKS):
        has = "none" if blocks is None else "some"
        yield f"array.blocks must describe an array of kind {', '.join(IN_BLOCKS)}, found {has}"
    if blocks is None:
        return
    for name in ("micro", "largest"):
        extents = getattr(blocks, name)
        if len(extents) != 3:
            yield f"array.blocks.{name} must be 3 values, found {len(extents)}"
            return
    rows, cols, channels = blocks.micro
    for dtype, (positions, outputs, _) in array.macs.items():
        if (positions, outputs) != (rows * cols, channels * blocks.cores):
            need = f"{rows * cols} positions x {channels * blocks.cores} channels"
            yield f"array.macs.{dtype} must be {need}, found {positions} x {outputs}"
    for name in ("sum_granule", "sum_bits", "output_cycles"):
        yield from _names(f"array.blocks.{name}", getattr(blocks, name), array.macs, optional=False)
    yield from _names("array.macs", array.macs, BLOCK_TYPES)


def _types(target: Target) -> Iterator[tuple[str, Iterable[str]]]:
    """The lists of storage types."""
    yield "array.macs", target.array.macs
    yield "array.weight_types", target.array.weight_types
    yield "vector.storage", target.vector.storage
    yield "vector.index_types", target.vector.index_types
    yield "dma.index_types", target.dma.index_types


def _zeros(array: Array) -> Iterator[str]:
    """What keeps an array from leaving zeros out as it says."""
    if array.zeros is None:
        return
    if array.zeros.structure not in ZEROS:
        yield f"array.zeros.structure must be {' or '.join(ZEROS)}, found {array.zeros.structure}"
    if array.zeros.speedup < 1:
        yield f"array.zeros.speedup must be at least 1, found {array.zeros.speedup:g}"
    if array.kind != "dot_product":
        yield f"array.zeros must go with the kind dot_product, found {array.kind}"


def _names(
    where: str, found: Iterable[str], known: Iterable[str], optional: bool = True
) -> Iterator[str]:
    """Names that are not known; with `optional` false, also known ones that are missing."""
    known = list(known)
    for name in found:
        if name not in known:
            yield f"{where} must name only {', '.join(known)}, found {name}"
    missing = [name for name in known if name not in found]
    if missing and not optional:
        yield f"{where} must name {', '.join(known)}, found no {', '.join(missing)}"


def _build(cls: type[Any], table: Mapping[str, Any], where: str) -> Any:
    """A dataclass from a TOML table, every field checked."""
    hints = get_type_hints(cls)
    known = {f.name for f in fields(cls)}
    for key in table:
        if key not in known:
            near = "".join(f"; try {name}" for name in get_close_matches(key, known, 1))
            raise TargetError(f"{where}: must have only known fields, found {key!r}{near}")
    values: dict[str, Any] = {}
    for f in fields(cls):
        if f.name in table:
            place = _Place(f"{where}: {f.name}", f.name in MAY_BE_ZERO)
            values[f.name] = _convert(hints[f.name], table[f.name], place)
    for f in fields(cls):
        if f.name not in values and f.default is MISSING:
            raise TargetError(f"{where}: must have the field {f.name}, found none")
    return cls(**values)


class _Place(NamedTuple):
    """Where a value stands, for errors, and whether it may be zero."""

    name: str
    may_be_zero: bool


def _convert(hint: Any, value: Any, place: _Place) -> Any:
    origin, args = get_origin(hint), get_args(hint)
    if origin is UnionType:
        return _convert(args[0], value, place)
    if origin is tuple:
        return _tuple(args, _of_type(list, value, place), place)
    if origin is Mapping:
        items = _of_type(dict, value, place).items()
        inner = ((k, v, place._replace(name=f"{place.name}.{k}")) for k, v in items)
        return MappingProxyType({k: _convert(args[1], v, at) for k, v, at in inner})
    if is_dataclass(hint):
        return _build(cast(type[Any], hint), _of_type(dict, value, place), place.name)
    if hint in (int, float):
        return _number(hint, value, place)
    return _of_type(hint, value, place)


def _tuple(items: tuple[Any, ...], value: list[Any], place: _Place) -> tuple[Any, ...]:
    if items[-1] is not Ellipsis and len(value) != len(items):
        raise TargetError(f"{place.name} must be {len(items)} values, found {len(value)}")
    return tuple(_convert(items[0], v, place) for v in value)


def _number(hint: type[Any], value: Any, place: _Place) -> Any:
    """A number that is finite, and positive unless zero has a meaning."""
    number = float(value) if hint is float and type(value) is int else value
    number = _of_type(hint, number, place)
    if not isfinite(number) or number < 0 or (number == 0 and not place.may_be_zero):
        rule = "must not be negative" if place.may_be_zero else "must be greater than zero"
        raise TargetError(f"{place.name} {rule}, found {value}")
    return number


TOML_NAMES = {list: "list", dict: "table"}


def _of_type(hint: type[Any], value: Any, place: _Place) -> Any:
    if type(value) is not hint:
        name = TOML_NAMES.get(hint, hint.__name__)
        raise TargetError(f"{place.name} must be of type {name}, found {value!r}")
    return value
