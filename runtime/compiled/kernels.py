"""Kernels as code. A kernel is split into its shape, which routines are specialised by, and its
numbers, which are words of a record.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from npu_dialect.dtypes import DType
from npu_dialect.kernel import MICRO_OPS, Kernel, widened
from npu_dialect.runtime.compiled import micro_conversions
from npu_dialect.runtime.compiled.builder import Function, Value
from npu_dialect.runtime.compiled.elements import VALUES, item_size, load, store
from npu_dialect.runtime.compiled.host import Host
from npu_dialect.runtime.compiled.micro_ops import ROWS, Scope, word
from npu_dialect.runtime.compiled.rescaling import code_steps
from npu_dialect.runtime.compiled.translate import NotEmittedError

assert micro_conversions, "it fills the table of rows"

__all__ = ["Prepared", "Shape", "evaluate", "load", "prepare", "split", "store"]

Variant = tuple[str, ...]
"""The form of a step's code, then the types of its numbers."""


@dataclass(frozen=True)
class Shape:
    """A kernel without its numbers: what its code depends on."""

    tensors: tuple[str, ...]
    params: tuple[str, ...]
    steps: tuple[tuple[str, tuple[int, ...], Variant], ...]
    """(micro-operation, numbers of its operands, variant)."""
    output: str
    table: str | None = None
    bounded: bool = False
    """Whether results are within the output type's range, so that saturation changes nothing."""

    @property
    def heavy(self) -> bool:
        """Whether its code is long, so that it is not unrolled."""
        return len(self.steps) > 12 or any(ROWS[op].heavy for op, _, _ in self.steps)

    @property
    def shuffled_table(self) -> str | None:
        """The type of a table whose entries are looked up one by one, by 8-bit values."""
        interpolates = any(op == "interpolate.i32" for op, _, _ in self.steps)
        return None if interpolates else self.table

    @property
    def item_size(self) -> int:
        """Bytes of the longest element that it reads, params included."""
        return max(4, *map(item_size, self.tensors))

    @staticmethod
    def store(source: DType, output: DType) -> Shape:
        """Elements as they are, bit by bit, or in another type that numpy's `copyto` makes of them.
        Raises NotEmittedError.
        """
        if source is output:
            name = {1: "u8", 2: "i16", 4: "i32", 8: "i64"}[source.itemsize]
            return Shape((name,), (), (), name)
        kinds = widened(source), widened(output)
        if kinds == ("i32", "i64"):
            return Shape((source.name,), (), (("cast.i32.i64", (0,), ("",)),), output.name)
        if kinds[0] != kinds[1] or "bool" in (source.name, output.name):
            raise NotEmittedError(f"{source} is stored as {output} without a kernel")
        return Shape((source.name,), (), (), output.name)


@dataclass(frozen=True)
class Prepared:
    """The numbers of a kernel as vectors, per step."""

    lanes: int
    numbers: tuple[tuple[Value, ...], ...]


_SPLIT: dict[int, tuple[Kernel, tuple[Shape, Sequence[int]]]] = {}
"""By the identity of a kernel, which is kept: kernels with 0.0 and -0.0 are equal, and are not."""
KEPT = 4096


def split(kernel: Kernel) -> tuple[Shape, Sequence[int]]:
    """A kernel's shape, and its numbers as words. Raises NotEmittedError."""
    found = _SPLIT.get(id(kernel))
    if found is None:
        if len(_SPLIT) >= KEPT:
            _SPLIT.clear()
        found = _SPLIT[id(kernel)] = (kernel, _split(kernel))
    return found[1]


def _split(kernel: Kernel) -> tuple[Shape, Sequence[int]]:
    steps: list[tuple[str, tuple[int, ...], Variant]] = []
    words: list[int] = []
    for step in kernel.steps:
        _check_table(kernel, step.op)
    for step in code_steps(kernel):
        form, numbers = step.encoded
        steps.append((step.op, step.args, (form, *(kind for kind, _ in numbers))))
        words += [word(kind, number) for kind, number in numbers]
    shape = Shape(
        tuple(d.name for d in kernel.tensors),
        kernel.params,
        tuple(steps),
        kernel.output.name,
        None if kernel.table is None else kernel.table.name,
        _is_bounded(kernel),
    )
    return shape, tuple(words)


_CLAMPING = (
    "clamp.i32", "requantize.f32", "requantize.fixed", "quantize", "requantize.f32.i64",
    "requantize.fixed.i64",
)  # fmt: skip


def _is_bounded(kernel: Kernel) -> bool:
    if not kernel.steps or kernel.steps[-1].op not in _CLAMPING or not kernel.output.is_int:
        return False
    low, high = (int(i) for i in kernel.steps[-1].immediates[-2:])
    return kernel.output.low <= low <= high <= kernel.output.high


def _check_table(kernel: Kernel, op: str) -> None:
    if not op.startswith("lookup.") or kernel.table is None:
        return
    if widened(kernel.table) != MICRO_OPS[op].result:
        raise NotEmittedError(f"{op} with a table of {kernel.table}")


def prepare(f: Function, host: Host, shape: Shape, words: Value, lanes: int) -> Prepared:
    """Loads a kernel's numbers from the words at an address. To be called before loops."""
    numbers: list[tuple[Value, ...]] = []
    position = 0
    for _, _, (_, *kinds) in shape.steps:
        found: list[Value] = []
        for kind in kinds:
            found.append(f.splat(f.load(VALUES[kind], words, 8 * position), lanes))
            position += 1
        numbers.append(tuple(found))
    return Prepared(lanes, tuple(numbers))


def evaluate(
    f: Function,
    host: Host,
    shape: Shape,
    prepared: Prepared,
    tensors: Sequence[Value],
    params: Sequence[Value] = (),
    table: Value = None,
) -> Value:
    """The kernel on vectors of values; the result is to be stored as `shape.output`."""
    scope = Scope(f, host, prepared.lanes, table, shape.table or "")
    values = [*tensors, *params]
    for (op, args, (form, *_)), numbers in zip(shape.steps, prepared.numbers, strict=True):
        values.append(ROWS[op].emit(scope, form, numbers, *(values[a] for a in args)))
    return values[-1] if shape.steps else values[0]
