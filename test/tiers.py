"""One instruction in the plain tier and in the compiled one: all memories agree."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from npu_dialect.dtypes import DType
from npu_dialect.kernel import Kernel
from npu_dialect.machine import Machine, Operand
from npu_dialect.npu.base import Instruction
from npu_dialect.runtime.compiled.host import detect
from npu_dialect.runtime.compiled.runner import Runner
from npu_dialect.runtime.compiled.translate import translate
from npu_dialect.target import load_target

Array = np.ndarray[Any, Any]

SIZE = 1 << 17
"""Bytes of each memory."""
_MOBILE = load_target("mobile4k")
TARGET = replace(_MOBILE, memories={s: replace(m, size=SIZE) for s, m in _MOBILE.memories.items()})
NOISE = np.random.default_rng(1).integers(0, 256, SIZE, np.uint8)


def extremes(dtype: DType, rng: np.random.Generator, count: int) -> Array:
    """Values of a type, many of them at its ends: NaNs, zeros of both signs, subnormals."""
    if dtype.kind == "bool":
        return rng.integers(0, 2, count).astype(np.bool_)
    if dtype.is_float:
        edges = np.array([np.nan, -np.nan, np.inf, -np.inf, 0.0, -0.0, 1e-40, -1e-7, 1.0, 3e4])
        usual = rng.standard_normal(count) * 10.0 ** rng.integers(-3, 4, count)
        share = rng.choice([0.0, 0.02, 0.5])
        chosen = np.where(rng.random(count) < share, rng.choice(edges, count), usual)
        return chosen.astype(dtype.numpy)
    edges = np.array([dtype.low, dtype.high, 0, 1, dtype.high - 1])
    usual = rng.integers(max(dtype.low, -9), min(dtype.high, 9), count)
    return np.where(rng.random(count) < 0.3, rng.choice(edges, count), usual).astype(dtype.numpy)


def agree(
    instruction: Instruction,
    *,
    kernels: Sequence[Kernel] = (),
    prepare: Callable[[Machine], None] = lambda machine: None,
    hosts: Sequence[str] = ("native", "plain"),
    threads: Sequence[int] = (1, 2),
    equal: Operand | None = None,
) -> None:
    """Asserts that both tiers leave the same bytes everywhere; a NaN in `equal` may be any NaN."""
    values = instruction.values()

    def fresh() -> Machine:
        machine = Machine(TARGET, SIZE, kernels)
        for memory in machine.memories.values():
            memory[:] = NOISE
        prepare(machine)
        return machine

    plain = fresh()
    with np.errstate(all="ignore"):
        instruction.execute(plain, values)
    for name in hosts:
        host = detect(name)
        translation = translate([(instruction, values)], kernels, host, None)
        assert not translation.fallbacks, translation.fallbacks
        for count in threads:
            native = fresh()
            Runner(translation, native, host, count).run(lambda position: None)
            if equal is not None:
                _settle(native, plain, equal)
            for space, memory in native.memories.items():
                differing = np.flatnonzero(memory != plain.memories[space])
                assert not differing.size, (name, count, space, differing[:8], differing.size)


def _settle(native: Machine, plain: Machine, operand: Operand) -> None:
    """Gives NaNs that stand in the same places the same bits."""
    if operand.dtype.is_float and operand.elements:
        found, expected = native.view(operand), plain.view(operand)
        found[np.isnan(found) & np.isnan(expected)] = np.nan
        expected[np.isnan(expected)] = np.nan
