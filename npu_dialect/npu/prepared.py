"""Array instructions made ready: what follows from their fields and from the weights and parameters
in memory is computed once, and used for as long as those bytes stay the same.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cached_property
from typing import cast

import numpy as np

from npu_dialect.functional import Weights
from npu_dialect.functional.exact import contraction
from npu_dialect.functional.output_stage import requantization
from npu_dialect.functional.products import Product, Window
from npu_dialect.machine import Array, Machine, Operand
from npu_dialect.npu.base import Values, kernel_of
from npu_dialect.npu.streams import decoded_weights, stored_weights

ENTRY_BYTES = 1 << 10
"""What is charged for an instruction itself."""
CHANGES = 2
"""After so many changes of its constants, an instruction is no longer made ready for them."""

Action = Callable[[Array, Array | None, Array], None]
"""From an input and a residual to the output, or to the partial sums."""


class Prepared:
    """An instruction on a machine: views of its operands, and its action."""

    def __init__(self, machine: Machine, values: Values, window: Window, depthwise: bool) -> None:
        self.values = values
        self._machine = machine
        self._window = window
        self._depthwise = depthwise
        self._changes = 0
        self._memory = [_bytes(machine, operand) for operand in _operands(values)]
        self._input = machine.view(values["input"]).reshape(window.image)
        residual = values.get("residual")
        self._residual = None if residual is None else machine.view(residual)
        self._output = machine.view(values["output" if "output" in values else "partial"])
        self._use(self._constants())

    def run(self) -> bool:
        """Execute, if there is a fast way; False where nothing was done."""
        for known, now in self._pairs:
            if known != now:
                self._changes += 1
                self._use(self._constants())
                break
        if self._action is None:
            return False
        self._action(self._input, self._residual, self._output)
        return True

    @property
    def weights(self) -> Weights:
        """The weights as they lie in memory now, if `run` was just called."""
        return self._known.weights

    def sums(self, start: Array | None, wide: bool) -> Array | None:
        """The sums of products from `start` or zero, if `run` was just called; None where float32
        is not proved exact. They are i64 where `wide`.
        """
        product = self._known.product if self._changes < CHANGES else None
        if product is None:
            return None
        dtype = np.int64 if wide else np.int32
        whole = product(self._input).reshape(self._output.shape).astype(dtype)
        return whole if start is None else np.add(whole, start, out=whole)

    def _use(self, known: Constants) -> None:
        self._known = known
        pairs = zip(known.data, self._memory, strict=True)
        self._pairs: list[tuple[bytearray, object]] = list(pairs)
        self._action = known.action if self._changes < CHANGES else None

    def _constants(self) -> Constants:
        values, kept = self.values, self._machine.kept
        data = tuple(bytes(m) for m in self._memory)
        operands = tuple(values.get(n) for n in ("weights", "params"))
        forms = tuple(o and (o.dtype.code, o.dims, o.strides) for o in operands)
        fields = tuple(values.get(n) for n in ("w_zero", "kernel", "accumulate", "row"))
        key = (data, forms, fields, self._window, self._depthwise, values["input"].dtype.code)
        found = kept.get(key)
        if found is None:
            found = Constants(self._machine, values, self._window, self._depthwise)
            self._machine.keep(key, found, sum(map(len, data)))
        return cast(Constants, found)


def prepared(machine: Machine, values: Values) -> Prepared | None:
    """What is kept for the instruction with these very `values`."""
    found = machine.kept.get(id(values))
    # That a Prepared holds its values keeps their identity from being used again.
    return found if isinstance(found, Prepared) and found.values is values else None


def prepare(machine: Machine, values: Values, window: Window, depthwise: bool) -> Prepared:
    """Makes an instruction ready and keeps that."""
    made = Prepared(machine, values, window, depthwise)
    machine.keep(id(values), made, ENTRY_BYTES)
    return made


def _operands(values: Values) -> list[Operand]:
    """The weights and parameters, as they lie in memory."""
    return [stored_weights(values), *([values["params"]] if "params" in values else [])]


def _bytes(machine: Machine, operand: Operand) -> memoryview:
    """The memory that an operand lies in."""
    machine.view(operand)  # raises an error where it lies outside of the memory
    low, high = operand.interval
    return machine.memories[operand.space].data[low:high]


def _array(operand: Operand, data: bytearray) -> Array:
    """The operand in a copy of the memory that it lies in."""
    offset = operand.address - operand.interval[0]
    return np.ndarray(operand.dims, operand.dtype.numpy, data, offset, operand.strides)


class Constants:
    """Weights and parameters, and what is made of them for all instructions that share them."""

    def __init__(self, machine: Machine, values: Values, window: Window, depthwise: bool) -> None:
        self._products, self._kernels = machine.products, machine.kernels
        self._values, self._window, self._depthwise = values, window, depthwise
        operands = _operands(values)
        # A bytearray is compared with memory as one block of bytes, bytes or a memoryview are not.
        self.data = [bytearray(_bytes(machine, operand)) for operand in operands]
        arrays = [_array(o, d) for o, d in zip(operands, self.data, strict=True)]
        weights = decoded_weights(values, arrays[0]) if "stream" in values else arrays[0]
        self.weights = Weights(weights, values["w_zero"])
        self._params = arrays[1] if len(arrays) > 1 else None

    @cached_property
    def action(self) -> Action | None:
        """The whole instruction, where it is sums that are exact in float32 and then a kernel that
        is known; else None.
        """
        if "kernel" not in self._values or self._values["accumulate"]:
            return None
        return self._finished()

    @cached_property
    def product(self) -> Product | None:
        """The sums alone, from zero."""
        return self._product(np.zeros(self.weights.shape[-1], np.int64))

    def _finished(self) -> Action | None:
        found = requantization(kernel_of(self._kernels, self._values))
        if found is None or self._params is None:
            return None
        channels = self.weights.shape[-1]
        words = np.ascontiguousarray(np.broadcast_to(self._params, (2, channels)))
        multiplier = words[1].view(np.float32)
        product = self._product(words[0].view(np.int32).astype(np.int64))
        if product is None or not found.fits(multiplier):
            return None
        finish = found.finish(multiplier, self._window.positions)

        def run(x: Array, residual: Array | None, output: Array) -> None:
            finish(product(x), residual, output)

        return run

    def _product(self, bias: Array) -> Product | None:
        window = self._window
        types = self.weights.dtype, self._values["input"].dtype.numpy
        if any(t.kind not in "iu" or t.itemsize > 2 for t in types):
            return None
        if not (self.weights.array.size and window.positions and math.prod(window.image)):
            return None
        filters = self.weights.array.astype(np.int32) - self._values["w_zero"]
        if filters.ndim == 2:
            filters = filters[None, None]
        dtype = self._values["input"].dtype.numpy
        return contraction(self._products, window, filters, dtype, bias, self._depthwise)
