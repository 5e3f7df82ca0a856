"""Cases of every instruction: types, shapes, strides, data. Each is a legal instruction with the
memory that it finds.

`GENERATORS`, which `MODULES` fill, has a row per instruction class. A generator yields recipes in
groups (one per type or pair of types); a recipe builds an instruction on a `Sheet`, which places
operands and their data.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache, cached_property
from importlib import import_module
from math import prod

import numpy as np

from npu_dialect.dtypes import DType, i32
from npu_dialect.kernel import Kernel
from npu_dialect.machine import Array, Operand, dense_strides
from npu_dialect.npu.arrays import ArrayInstruction
from npu_dialect.npu.base import Instruction, Values
from npu_dialect.npu.consistency import overlaps_itself

SIZES = {"dram": 1 << 17, "spm": 1 << 17, "acc": 1 << 15}
"""Bytes of the memories that the cases live in."""
IMAGES = SIZES["dram"] // 2
"""Where dram keeps copies of the operands that may be constants."""
CONSTANTS = ("weights", "params", "table")
"""Operands that programs have as constants."""


@dataclass
class Sheet:
    """The memories of one case while its instruction is built."""

    name: str
    special: bool = False
    """Whether the data holds extremes, infinities, NaNs, subnormals and zeros of both signs."""
    contents: list[tuple[Operand, Array]] = field(default_factory=list[tuple[Operand, Array]])
    """What the operands that are read hold."""
    kernels: list[Kernel] = field(default_factory=list[Kernel])

    def __post_init__(self) -> None:
        self.rng = np.random.default_rng(zlib.crc32(self.name.encode()))
        self._ends = dict.fromkeys(SIZES, 0)

    def space(
        self, dtype: DType, dims: Sequence[int], layout: str = "dense", space: str = "spm"
    ) -> Operand:
        """An operand behind those before, at no better alignment than it must have."""
        item = dtype.itemsize
        strides = LAYOUTS[layout](tuple(dims), item)
        reaches = [(d - 1) * s for d, s in zip(dims, strides, strict=True)] if prod(dims) else []
        below = -sum(r for r in reaches if r < 0)
        above = sum(r for r in reaches if r > 0) + item
        address = -(-self._ends[space] // item) * item + int(self.rng.integers(6)) * item + below
        self._ends[space] = address + above
        limit = IMAGES if space == "dram" else SIZES[space]
        assert self._ends[space] <= limit, f"{self.name} must fit into {space}"
        return Operand(space, address, dtype, tuple(dims), strides)

    def last(self, dtype: DType, dims: Sequence[int], space: str = "spm") -> Operand:
        """A dense operand at the very end of a memory."""
        size = prod(dims) * dtype.itemsize
        return Operand.dense(
            space, (IMAGES if space == "dram" else SIZES[space]) - size, dtype, dims
        )

    def given(
        self,
        dtype: DType,
        dims: Sequence[int],
        layout: str = "dense",
        space: str = "spm",
        data: Array | None = None,
    ) -> Operand:
        """An operand that holds numbers."""
        return self.fill(self.space(dtype, dims, layout, space), data)

    def fill(self, operand: Operand, data: Array | None = None) -> Operand:
        """Lets an operand hold numbers."""
        if data is None:
            data = numbers(self.rng, operand.dtype, operand.dims, self.special)
        self.contents.append((operand, data))
        return operand

    def params(self, kinds: Sequence[Array], channels: int, layout: str = "dense") -> Operand:
        """A block of parameters, one row of 4-byte words per array of `channels` numbers."""
        rows = [np.ascontiguousarray(np.resize(k, channels)).view(np.int32) for k in kinds]
        return self.given(
            i32, (len(rows), channels), layout, data=np.array(rows).reshape(len(rows), channels)
        )

    def kernel(self, text: str) -> int:
        """The number of a kernel, by its text."""
        self.kernels.append(Kernel.parse(text))
        return len(self.kernels) - 1


Build = Callable[[Sheet], Instruction]


@dataclass(frozen=True)
class Recipe:
    """A case that is not built yet."""

    instruction: type[Instruction]
    group: str
    name: str
    build: Build
    special: bool

    @property
    def label(self) -> str:
        return f"{self.instruction.name} {self.group}: {self.name}{' special' * self.special}"

    def case(self) -> Case:
        sheet = Sheet(self.label, self.special)
        instruction = self.build(sheet)
        return Case(self.label, instruction, tuple(sheet.kernels), tuple(sheet.contents))


@dataclass(frozen=True)
class Case:
    """One instruction and what the operands that it reads hold."""

    label: str
    instruction: Instruction
    kernels: tuple[Kernel, ...]
    contents: tuple[tuple[Operand, Array], ...]

    @cached_property
    def values(self) -> Values:
        """The fields of the instruction."""
        return self.instruction.values()

    @cached_property
    def images(self) -> list[tuple[Operand, Operand, Array]]:
        """(where dram keeps it, operand, content) of each operand that programs have as a
        constant.
        """
        found: list[tuple[Operand, Operand, Array]] = []
        address, written = IMAGES, self.instruction.writes()
        for operand, data in self.contents:
            constant = any(self.values.get(n) == operand for n in CONSTANTS)
            if (
                operand.space != "dram"
                and constant
                and not overlaps_itself(operand)
                and operand not in written
            ):
                source = Operand.dense("dram", address, operand.dtype, operand.dims)
                address = -(-source.interval[1] // 64) * 64
                assert address <= SIZES["dram"], f"{self.label}: its constants must fit into dram"
                found.append((source, operand, data))
        return found

    @cached_property
    def held(self) -> list[tuple[int, bytes]]:
        """(address, content) of what an array instruction reads in dram, where constants lie."""
        found: list[tuple[int, bytes]] = []
        for operand, data in self.contents:
            if isinstance(self.instruction, ArrayInstruction) and operand.space == "dram":
                low, high = operand.interval
                content = np.zeros(high - low, np.uint8)
                place = np.ndarray(
                    operand.dims, data.dtype, content.data, operand.address - low, operand.strides
                )
                place[...] = data
                found.append((low, content.tobytes()))
        return found


# --- layouts


def _padded(dims: tuple[int, ...], item: int) -> tuple[int, ...]:
    """Rows with unused bytes behind them."""
    strides: list[int] = []
    step = item
    for d in reversed(dims):
        strides.append(step)
        step = step * max(d, 1) + 3 * item
    return tuple(reversed(strides))


def _apart(dims: tuple[int, ...], item: int) -> tuple[int, ...]:
    """No two elements side by side."""
    return tuple(3 * s for s in dense_strides(dims, item))


def _permuted(dims: tuple[int, ...], item: int) -> tuple[int, ...]:
    """The first dimension innermost."""
    return tuple(reversed(dense_strides(dims[::-1], item)))


def _backwards(dims: tuple[int, ...], item: int) -> tuple[int, ...]:
    """The last element first."""
    return tuple(-s for s in dense_strides(dims, item))


def _flipped(dims: tuple[int, ...], item: int) -> tuple[int, ...]:
    """Rows in the opposite order."""
    strides = _padded(dims, item)
    return tuple(-s if k == 0 else s for k, s in enumerate(strides)) if len(dims) > 1 else strides


def _repeated(dims: tuple[int, ...], item: int) -> tuple[int, ...]:
    """One row for all; only to read from."""
    return tuple(item if k == len(dims) - 1 else 0 for k in range(len(dims)))


LAYOUTS: dict[str, Callable[[tuple[int, ...], int], tuple[int, ...]]] = {
    "dense": lambda dims, item: dense_strides(dims, item),
    "padded": _padded,
    "apart": _apart,
    "permuted": _permuted,
    "backwards": _backwards,
    "flipped": _flipped,
    "repeated": _repeated,
    "one": lambda dims, item: (0,) * len(dims),
}
"""Strides by name. The last two are for operands that are only read."""
WRITABLE = ("dense", "padded", "apart", "permuted", "backwards", "flipped")


# --- numbers

FLOAT_SPECIALS = (0.0, -0.0, np.nan, np.inf, -np.inf, 1.0, -1.0, 0.5, 1.5, 2.5, -0.5)


def numbers(rng: np.random.Generator, dtype: DType, dims: Sequence[int], special: bool) -> Array:
    """Random elements; some are special where asked for."""
    shape = tuple(dims)
    if dtype.kind == "bool":
        return rng.integers(0, 2, shape).astype(bool)
    if dtype.is_float:
        return _floats(rng, dtype, shape, special)
    values = rng.integers(dtype.low, dtype.high, shape, dtype.numpy, endpoint=True)
    if special:
        extremes = np.array(
            [dtype.low, dtype.high, 0, 1, dtype.low + 1, dtype.high - 1], dtype.numpy
        )
        values = np.where(rng.random(shape) < 0.7, rng.choice(extremes, shape), values)
    return np.asarray(values, dtype.numpy)


def _floats(rng: np.random.Generator, dtype: DType, shape: tuple[int, ...], special: bool) -> Array:
    with np.errstate(all="ignore"):
        values = rng.standard_normal(shape) * 2.0 ** rng.integers(-5, 6, shape)
        values = np.asarray(values.astype(dtype.numpy))
        if not special:
            return values
        bits = rng.bytes(prod(shape) * dtype.itemsize)
        wild = np.frombuffer(bits, dtype.numpy).reshape(shape)
        table = [*FLOAT_SPECIALS, *_limits(dtype)]
        pick = rng.choice(np.array(table), shape).astype(dtype.numpy)
        chance = rng.random(shape)
        values = np.where(chance < 0.1, pick, np.where(chance < 0.2, wild, values))
    return np.asarray(values, dtype.numpy)


def _limits(dtype: DType) -> list[float]:
    """The greatest number, the least normal one and the least of all, and their negatives."""
    greatest, tiny, least = {
        "f16": (65504.0, 2.0**-14, 2.0**-24),
        "bf16": (3.3895313892515355e38, 2.0**-126, 2.0**-133),
        "f32": (3.4028234663852886e38, 2.0**-126, 2.0**-149),
        "f64": (1.7976931348623157e308, 2.0**-1022, 5e-324),
    }[dtype.name]
    return [greatest, -greatest, tiny, -tiny, least, -least]


# --- generators

Rows = Iterator[tuple[str, str, Build]]
"""Of a generator: (group, name, build)."""

GENERATORS: dict[type[Instruction], Callable[[], Rows]] = {}


def generates(cls: type[Instruction]) -> Callable[[Callable[[], Rows]], Callable[[], Rows]]:
    """Decorator: the generator of an instruction."""

    def register(function: Callable[[], Rows]) -> Callable[[], Rows]:
        GENERATORS[cls] = function
        return function

    return register


MODULES = ("matrix_copies", "matrix_arrays", "matrix_vectors", "matrix_indexed")


@cache
def recipes() -> dict[tuple[type[Instruction], str], list[Recipe]]:
    """All of them, by instruction and group. Every second one has special data."""
    for module in MODULES:
        import_module(module)
    found: dict[tuple[type[Instruction], str], list[Recipe]] = {}
    for cls, generator in GENERATORS.items():
        for group, name, build in generator():
            rows = found.setdefault((cls, group), [])
            rows.append(Recipe(cls, group, name, build, len(rows) % 2 == 1))
    return found


SHAPES: dict[str, tuple[int, ...]] = {
    "rank 0": (),
    "one": (1,),
    **{f"{n}": (n,) for n in (7, 8, 9, 15, 16, 17, 31, 33)},
    "rows": (5, 13),
    "many rows": (37, 64),
    "rank 3": (3, 4, 5),
    "rank 4": (2, 3, 4, 17),
    "rank 5": (2, 3, 2, 3, 5),
    "ones": (1, 4, 1, 6, 1),
    "long": (2500,),
    "nothing": (0,),
    "no rows": (0, 4),
    "rows of nothing": (4, 0),
}
"""Extents of elementwise work, by name."""
