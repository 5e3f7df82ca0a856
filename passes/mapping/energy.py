"""What copies and instructions are estimated to take in energy, and what a mapping is chosen by
where energy decides.

All energies are in pJ, all sizes in bytes; both may be numpy arrays, one element for each of many
mappings.
"""

from __future__ import annotations

from typing import Any

from npu_dialect import cost
from npu_dialect.cost import Cost
from npu_dialect.target import Target

TIES = 1e-4
"""What a cycle counts beyond what the machine leaks in it, as a part of what the array takes in a
cycle with all its multipliers: of mappings that hardly differ in energy, the fastest is taken."""


def loaded(target: Target, size: Any) -> Any:
    """Of copies of so many bytes from dram into the scratchpad."""
    dram, spm = target.memories["dram"], target.memories["spm"]
    return size * (dram.read_pj + spm.write_pj)


def stored(target: Target, size: Any) -> Any:
    """Of copies of so many bytes from the scratchpad to dram."""
    dram, spm = target.memories["dram"], target.memories["spm"]
    return size * (spm.read_pj + dram.write_pj)


def of_instruction(target: Target, found: Cost) -> Any:
    """Dynamic energy of an instruction."""
    return sum(cost.energy_pj(found, target).values())


def price(target: Target, taken: Any, cycles: Any, instructions: Any) -> Any:
    """What mappings are chosen by: the dynamic energy that they take, and a little for every cycle
    and for every instruction, which counts as one more cycle.
    """
    return taken + per_cycle(target) * (cycles + instructions)


def per_cycle(target: Target) -> float:
    """What a cycle counts: leakage, the clock, and a little that ties are broken by."""
    units = (*target.memories.values(), target.array, target.vector, target.dma)
    watts = sum(unit.leakage for unit in units) * target.cores + target.power.clock
    peak = max((_multipliers(target, t) * pj for t, pj in target.array.mac_pj.items()), default=1.0)
    return watts / target.frequency * 1e12 + TIES * peak


def _multipliers(target: Target, dtype: str) -> int:
    positions, outputs, inputs = target.array.macs.get(dtype, (0, 0, 0))
    return positions * outputs * inputs
