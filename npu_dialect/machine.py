"""The architectural state of one core: its memories, and how an instruction's operand names a part
of them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from npu_dialect.dtypes import DType
from npu_dialect.functional.products import Products
from npu_dialect.kernel import Kernel
from npu_dialect.target import SPACES, Target

Array = npt.NDArray[Any]
Form = tuple[int, tuple[int, ...], tuple[int, ...]]
"""Bytes of an element, dimensions, strides in bytes."""


@dataclass(frozen=True)
class Operand:
    """A strided block of one memory: what an instruction reads or writes.

    `address` is in bytes; `dims` in elements, at most five; `strides` in bytes, one per dimension
    (0 repeats an element, a negative one walks backwards).
    """

    space: str
    address: int
    dtype: DType
    dims: tuple[int, ...]
    strides: tuple[int, ...]

    @cached_property
    def _hash(self) -> int:
        return hash((self.space, self.address, self.dtype.code, self.dims, self.strides))

    def __hash__(self) -> int:
        return self._hash

    @cached_property
    def form(self) -> Form:
        """How the block lies, apart from where it begins."""
        return self.dtype.itemsize, self.dims, self.strides

    @cached_property
    def elements(self) -> int:
        count = 1
        for d in self.dims:
            count *= d
        return count

    @property
    def size(self) -> int:
        """Bytes of all elements."""
        return self.elements * self.dtype.itemsize

    @cached_property
    def interval(self) -> tuple[int, int]:
        """The half-open range of byte addresses that encloses every element; (address, address)
        when empty.
        """
        if self.elements == 0:
            return (self.address, self.address)
        low = high = self.address
        for d, s in zip(self.dims, self.strides, strict=True):
            reach = (d - 1) * s
            low, high = (low, high + reach) if reach >= 0 else (low + reach, high)
        return (low, high + self.dtype.itemsize)

    @cached_property
    def runs(self) -> tuple[int, int]:
        """(number of runs, bytes in each) of consecutive addresses, after merging dimensions that
        are dense. What is repeated (stride 0) counts as often.
        """
        pairs = list(zip(self.dims, self.strides, strict=True))
        run = self.dtype.itemsize
        for stride, d in sorted((abs(s), d) for d, s in pairs):
            if stride == run and d > 1:
                run *= d
        return self.size // run, run

    def moved(self, step: int) -> Operand:
        """The same block, `step` bytes further; what is known of it but where it begins stays."""
        other = object.__new__(Operand)
        known = vars(other)
        known.update(vars(self))
        known["address"] = self.address + step
        known.pop("_hash", None)
        if "interval" in known:
            low, high = known["interval"]
            known["interval"] = low + step, high + step
        return other

    @staticmethod
    def dense(space: str, address: int, dtype: DType, dims: Sequence[int]) -> Operand:
        """A contiguous row-major block."""
        return Operand(space, address, dtype, tuple(dims), dense_strides(dims, dtype.itemsize))


def dense_strides(dims: Sequence[int], itemsize: int) -> tuple[int, ...]:
    """Row-major strides in bytes."""
    strides: list[int] = []
    step = itemsize
    for d in reversed(dims):
        strides.append(step)
        step *= d
    return tuple(reversed(strides))


KEPT_BYTES = 64 << 20
"""Bytes of memory content for which a machine keeps derived values."""
KEPT_VIEWS = 1 << 17
"""Operands whose views a machine keeps."""

GUARD = 64
"""Bytes behind each memory that may be read, with no meaning: vector loads end there. Memories
begin at a multiple of it.
"""

HostFunction = Callable[[Sequence[Array]], Sequence[Array]]


class MemoryFaultError(RuntimeError):
    """An operand that reaches outside its memory."""


@dataclass
class Machine:
    """The state that instructions execute on. `dram_size` bounds the simulated part of the external
    memory.
    """

    target: Target
    dram_size: int
    kernels: Sequence[Kernel] = ()
    host_functions: Mapping[int, HostFunction] = field(default_factory=dict[int, HostFunction])
    products: Products = field(default_factory=Products)
    """What computes whole-number sums of products."""
    memories: dict[str, npt.NDArray[np.uint8]] = field(init=False)
    kept: dict[object, object] = field(init=False, default_factory=dict[object, object])
    """Values derived from the content of memory (converted weights), by that content."""
    _kept_bytes: int = field(init=False, default=0)
    _views: dict[int, tuple[Operand, Array]] = field(
        init=False, default_factory=dict[int, tuple[Operand, Array]]
    )
    """By the identity of the operand, which is quicker than its value; it keeps the operand."""

    def __post_init__(self) -> None:
        sizes = {s: self.target.memories[s].size for s in SPACES}
        sizes["dram"] = self.dram_size
        # A pattern that is no plausible value: reading what was never written shows in the results.
        self.memories = {s: _memory(n) for s, n in sizes.items()}

    def view(self, operand: Operand) -> Array:
        """The operand as an array over the memory itself: reading and writing it reads and writes
        the machine.
        """
        found = self._views.get(id(operand))
        if found is None:
            if len(self._views) >= KEPT_VIEWS:
                self._views.clear()
            found = self._views[id(operand)] = (operand, self._make_view(operand))
        return found[1]

    def keep(self, key: object, value: object, size: int) -> None:
        """Adds to `kept`, which is emptied when the sizes in bytes exceed `KEPT_BYTES`."""
        if self._kept_bytes + size > KEPT_BYTES:
            self.kept.clear()
            self._kept_bytes = 0
        self.kept[key] = value
        self._kept_bytes += size

    def _make_view(self, operand: Operand) -> Array:
        memory = self.memories[operand.space]
        low, high = operand.interval
        if low < 0 or high > memory.size:
            raise MemoryFaultError(
                f"an operand must lie in {operand.space} [0, {memory.size:#x}), "
                f"found [{low:#x}, {high:#x})"
            )
        return np.ndarray(
            operand.dims, operand.dtype.numpy, memory.data, operand.address, operand.strides
        )


def _memory(size: int) -> npt.NDArray[np.uint8]:
    """Bytes with the pattern of a memory that was never written."""
    whole = np.full(size + 2 * GUARD, 0xA5, np.uint8)
    start = -whole.ctypes.data % GUARD
    return whole[start : start + size]
