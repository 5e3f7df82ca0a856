"""Programs for several sizes of the same model, and the choice between them at run time.

    model = npu.compile(module, (x,), dynamic_shapes={"x": {0: "batch"}}, buckets={"batch": [1, 8]})
    model.run({"x": one})         # the program for 1
    model.run({"x": eight})       # the program for 8

A name without buckets may have any size: its program is made at the first run with that size and
kept. A name with buckets has those sizes only, unless it is padded: then the smallest bucket that
is large enough runs, with zeros behind the data, and the results are cut to what the size gives.
That is exact where elements along the dimension do not see each other, as those of a batch do.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from itertools import product
from typing import Any, cast

import numpy as np

from npu_dialect.diagnostics import Code, CompileError, error
from npu_dialect.ports import Array, Inputs
from npu_dialect.runtime.program import Program
from npu_dialect.runtime.run import Run
from npu_dialect.runtime.simulator import simulate

Sizes = Mapping[str, int]
Dims = Mapping[str, Mapping[int, str]]


class Buckets:
    """A model of free sizes as programs of fixed ones. Safe for threads."""

    def __init__(
        self,
        make: Callable[[Sizes], Program],
        output_shapes: Callable[[Sizes], Sequence[tuple[int, ...]]],
        dims: Dims,
        buckets: Mapping[str, Sequence[int]],
        pad: Sequence[str] = (),
        *,
        ranges: Mapping[str, tuple[int, int]] | None = None,
        inputs: Sequence[str] = (),
    ) -> None:
        self.dims = dims
        """By input, the names of the dimensions whose sizes are free."""
        self.ranges = dict(ranges or {})
        """By name, the least and the greatest size; names without have any."""
        self.inputs = tuple(inputs)
        """The names of all inputs in order; empty where they must be given by name."""
        _check_types(buckets, pad)
        self.buckets = {name: tuple(sorted(set(sizes))) for name, sizes in buckets.items()}
        """By name, the sizes that there are programs for; names without buckets have any."""
        self.pad = frozenset(pad)
        """The names whose data is padded to the next bucket."""
        self._make, self._output_shapes = make, output_shapes
        self._programs: dict[tuple[int, ...], Program] = {}
        self._lock = threading.Lock()
        self.names = sorted({n for each in dims.values() for n in each.values()})
        _check(self.names, self.buckets, self.pad, self.ranges)

    @property
    def programs(self) -> Mapping[tuple[int, ...], Program]:
        """The programs that were made, by the sizes of `names` in order."""
        return dict(self._programs)

    def compile_all(self) -> None:
        """Make the programs of all buckets now. Raises CompileError (NPU0104) for open names."""
        open_names = [name for name in self.names if name not in self.buckets]
        if open_names:
            raise error(
                Code.SHAPE_UNBOUND,
                "every free size must have buckets to be compiled before it is known",
                found=", ".join(open_names),
                remedy=f'buckets={{"{open_names[0]}": [1, 8]}}',
                source="buckets",
            )
        for sizes in product(*(self.buckets[name] for name in self.names)):
            self.program(dict(zip(self.names, sizes, strict=True)))

    def program(self, sizes: Sizes) -> Program:
        """The program for sizes by name, made once. Raises CompileError."""
        key = tuple(sizes[name] for name in self.names)
        with self._lock:
            if key not in self._programs:
                self._programs[key] = self._make(dict(zip(self.names, key, strict=True)))
            return self._programs[key]

    def choose(self, sizes: Sizes) -> dict[str, int]:
        """The sizes of the program that runs for these. Raises CompileError (NPU0503)."""
        return {name: self._bucket(name, size) for name, size in sizes.items()}

    def run(self, inputs: Inputs, **options: Any) -> Run:
        """Run the program of the inputs' sizes: arrays by name, or in order, or the only one;
        `options` are those of `simulate`.

        Raises CompileError (NPU0501 to NPU0503) for inputs that do not fit.
        """
        given = self._by_name(inputs)
        sizes = self._sizes(given)
        chosen = self.choose(sizes)
        padded = {name: self._padded(name, x, chosen) for name, x in given.items()}
        run = simulate(self.program(chosen), padded, **options)
        return run if chosen == sizes else self._cut(run, sizes)

    def _by_name(self, inputs: Inputs) -> dict[str, Array]:
        if isinstance(inputs, Mapping):
            return {name: np.asarray(x) for name, x in inputs.items()}
        each = list(inputs) if isinstance(inputs, tuple | list) else [cast(Array, inputs)]
        if len(each) != len(self.inputs):
            names = ", ".join(self.inputs or self.dims)
            found, remedy = f"{len(each)} arrays without names", "arrays by name"
            raise error(Code.INPUT_NAMES, f"the inputs must be exactly {names}", found=found,
                        remedy=remedy, source="inputs")  # fmt: skip
        return {name: np.asarray(x) for name, x in zip(self.inputs, each, strict=True)}

    def _sizes(self, given: Mapping[str, Array]) -> dict[str, int]:
        sizes: dict[str, int] = {}
        for name, dims in self.dims.items():
            if name not in given:
                raise error(Code.INPUT_NAMES, "an input with free sizes must be given",
                            found=", ".join(given) or "none", source=name)  # fmt: skip
            for axis, symbol in dims.items():
                shape = given[name].shape
                if axis >= len(shape):
                    rule = f"the input must have a dimension {axis}, {symbol}"
                    raise _misfit(name, rule, str(list(shape)))
                size = shape[axis]
                if sizes.setdefault(symbol, size) != size:
                    raise _misfit(name, f"{symbol} must be {sizes[symbol]}, as in another input",
                                  f"{size}, dimension {axis}")  # fmt: skip
        return sizes

    def _bucket(self, name: str, size: int) -> int:
        buckets = self.buckets.get(name)
        low, high = self.ranges.get(name, (0, sys.maxsize))
        if not low <= size <= high:
            raise _misfit(name, f"the size must be {_between(low, high)}", str(size))
        if buckets is None or size in buckets:
            return size
        larger = [bucket for bucket in buckets if bucket > size]
        if name in self.pad and larger and size > 0:
            return larger[0]
        rule = f"the size must be at most {buckets[-1]}" if name in self.pad else (
            f"the size must be one of {', '.join(map(str, buckets))}")  # fmt: skip
        raise _misfit(name, rule, str(size), f'pad=["{name}"], or a bucket of {size}')

    def _padded(self, name: str, x: Array, chosen: Sizes) -> Array:
        dims = self.dims.get(name, {})
        behind = [(0, chosen[dims[k]] - n if k in dims else 0) for k, n in enumerate(x.shape)]
        return np.pad(x, behind) if any(after for _, after in behind) else x

    def _cut(self, run: Run, sizes: Sizes) -> Run:
        shapes = self._output_shapes(sizes)
        pairs = zip(run.outputs.items(), shapes, strict=True)
        cut = {name: x[tuple(slice(n) for n in shape)] for (name, x), shape in pairs}
        return replace(run, outputs=cut)


def _check_types(buckets: Any, pad: Any) -> None:
    """Raise CompileError (NPU0004) unless these are sizes by name, and names."""
    is_mapping = isinstance(buckets, Mapping)
    given: list[Any] = list(buckets.values()) if is_mapping else []  # pyright: ignore
    if not is_mapping or not all(map(_are_sizes, given)):
        raise error(Code.OPTION, "buckets must be lists of sizes by name", found=repr(buckets),
                    remedy='buckets={"batch": [1, 8]}', source="buckets")  # fmt: skip
    if isinstance(pad, str):
        raise error(Code.OPTION, "pad must be a list of names", found=repr(pad),
                    remedy=f'pad=["{pad}"]', source="pad")  # fmt: skip


def _are_sizes(sizes: Any) -> bool:
    return isinstance(sizes, Collection) and all(
        isinstance(n, int | np.integer) and not isinstance(n, bool)
        for n in cast("Collection[Any]", sizes)
    )


def _check(
    names: Sequence[str],
    buckets: Mapping[str, Sequence[int]],
    pad: frozenset[str],
    ranges: Mapping[str, tuple[int, int]],
) -> None:
    for name in [*buckets, *pad]:
        if name not in names:
            raise error(
                Code.OPTION,
                "buckets and pad must name free dimensions",
                found=f"{name}, not one of {', '.join(names)}",
                source="buckets",
            )
    for name in pad:
        if name not in buckets:
            raise error(Code.OPTION, "what is padded must have buckets", found=name, source="pad")
    for name, sizes in buckets.items():
        low, high = ranges.get(name, (1, sys.maxsize))
        if not sizes or min(sizes) < 1:
            raise error(Code.OPTION, "buckets must be positive sizes", found=list(sizes),
                        source=name)  # fmt: skip
        if sizes[0] < low or sizes[-1] > high:
            raise error(Code.OPTION, f"buckets must be {_between(low, high)}, the sizes of the Dim",
                        found=list(sizes), source=name)  # fmt: skip


def _between(low: int, high: int) -> str:
    return f"at least {low}" if high == sys.maxsize else f"from {low} to {high}"


def _misfit(source: str, rule: str, found: str, remedy: str = "") -> CompileError:
    return error(Code.INPUT_SHAPE, rule, found=found, remedy=remedy, source=source)
