"""Random graph operations for the tests of the graph passes: values and types of every kind."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from xdsl.dialects.builtin import FunctionType, ModuleOp
from xdsl.dialects.func import FuncOp, ReturnOp
from xdsl.ir import Attribute, Block, Operation, Region, SSAValue

from npu_dialect import dtypes, graph
from npu_dialect.dtypes import DType
from npu_dialect.graph.base import shape_of, tensor_type
from npu_dialect.npu.attributes import TargetAttr
from npu_dialect.provenance import name_location

Array = np.ndarray[Any, np.dtype[Any]]
Rng = np.random.Generator

SPECIAL = np.array([0.0, -0.0, 1.0, -1.0, np.inf, -np.inf, np.nan, 1e-40, 3e38, 0.5], np.float32)


class Sample:
    """A function under construction, whose operations are named after their number."""

    def __init__(self, seed: int, target: str = "mobile4k") -> None:
        self.rng = np.random.default_rng(seed)
        self.block = Block()
        self.inputs: list[Array] = []
        self.target = target

    def argument(self, shape: Sequence[int], element: Attribute | DType) -> SSAValue:
        """A further argument of the function, with a random array for it."""
        kind = dtypes.element_type(element) if isinstance(element, DType) else element
        self.inputs.append(numbers(self.rng, tuple(shape), kind))
        return self.block.insert_arg(tensor_type(tuple(shape), kind), len(self.block.args))

    def constant(self, array: Array, element: Attribute | None = None) -> SSAValue:
        """A constant of the block."""
        found = None if element is None else tensor_type(array.shape, element)
        return self.add(graph.ConstantOp(array, found))

    def add(self, op: Operation) -> SSAValue:
        """Put an operation at the end; its first result."""
        op.location = name_location(f"{op.name}.{len(list(self.block.ops))}")
        self.block.add_op(op)
        return op.results[0]

    def module(self, *results: SSAValue) -> ModuleOp:
        """The module with the function that returns `results`."""
        self.block.add_op(ReturnOp(*results))
        kind = FunctionType.from_lists(self.block.arg_types, [r.type for r in results])
        module = ModuleOp([FuncOp("main", kind, Region(self.block))])
        module.attributes["npu.target"] = TargetAttr(self.target)
        module.verify()
        return module


def numbers(rng: Rng, shape: tuple[int, ...], element: Attribute) -> Array:
    """Storage values; floats have special values among them."""
    dtype, quant = dtypes.of(element), getattr(element, "data", None)
    if dtype.is_float:
        normal = rng.normal(0, 4, shape).astype(np.float32)
        odd = rng.random(shape) < 0.1
        found = np.where(odd, rng.choice(SPECIAL, shape), normal)
        with np.errstate(over="ignore"):
            return found.astype(dtype.numpy)
    if dtype is dtypes.bool_:
        return rng.random(shape) < 0.5
    low, high = (quant.low, quant.high) if quant is not None else (dtype.low, dtype.high)
    small = rng.random() < 0.5
    low, high = (max(low, -100), min(high, 100)) if small else (low, high)
    return rng.integers(low, high, shape, np.int64, endpoint=True).astype(dtype.numpy)


def quant(rng: Rng, storage: DType, channels: int = 0, axis: int = 0) -> graph.QuantType:
    """A quantized type, per axis when `channels` are given (one zero point)."""
    zero = (
        int(rng.integers(storage.low, storage.high, endpoint=True)) if storage.itemsize < 2 else 0
    )
    if channels:
        return graph.uniform(storage, rng.uniform(0.01, 1, channels), zero, axis)
    return graph.uniform(storage, float(rng.uniform(0.01, 1)), zero)


def recipe(rng: Rng, channels: int) -> graph.RequantAttr:
    """A recipe of a random kind, for all channels or for each."""
    size = int(rng.choice([1, channels]))
    if rng.random() < 0.5:
        return graph.requant_f32(rng.uniform(-2, 2, size))
    rounding = str(rng.choice(["half_even", "half_up", "half_away", "double"]))
    shift = rng.integers(31, 40, size)
    return graph.requant_fixed(rng.integers(-(2**31), 2**31, size), shift, rounding)


def same(a: Array, b: Array) -> bool:
    """Whether two arrays have the same bits, NaNs apart."""
    if a.shape != b.shape or a.dtype != b.dtype:
        return False
    if a.dtype.kind in "iub":
        return bool((a == b).all())
    nan = np.isnan(a) & np.isnan(b)
    unsigned = f"u{a.itemsize}"
    return bool(((a.view(unsigned) == b.view(unsigned)) | nan).all())


Row = Callable[[Sample, SSAValue], Operation | None]


def operand(s: Sample, like: SSAValue) -> SSAValue:
    """A second operand of the type of `like`: itself, an argument, or a constant of some shape."""
    element, shape = like.type.element_type, shape_of(like)  # type: ignore[attr-defined]
    choice = int(s.rng.integers(5))
    if choice == 0:
        return like
    if choice == 1:
        return s.argument(shape, element)
    forms: list[tuple[int, ...]] = [(), shape[-1:], shape]
    return s.constant(np.asarray(numbers(s.rng, forms[choice - 2], element)))
