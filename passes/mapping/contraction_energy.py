"""What mappings of convolutions and matrix products take in energy, many of them at once.

The array's accesses are counted over the same classes of tiles as its cycles
(`contraction_cost.py`); copies count the bytes that they move, since dram's energy is one of bytes,
not of accesses.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from npu_dialect import cost
from npu_dialect.cost import ArrayWork
from npu_dialect.passes.mapping import energy
from npu_dialect.passes.mapping.contraction_cost import (
    Numbers,
    copied_input,
    extents_of,
    over_nests,
    over_streams,
)
from npu_dialect.passes.mapping.contraction_problem import (
    Contraction,
    ContractionMapping,
    Trips,
    itemsize,
    loop_trips,
    stored_part,
    weight_bytes,
    weight_repeats,
)
from npu_dialect.passes.mapping.contraction_taps import whole_columns
from npu_dialect.target import Target


def energy_of(target: Target, p: Contraction, m: ContractionMapping) -> float:
    """Dynamic energy of a mapping in pJ."""
    joined, streamed = np.array([m.taps == "joined"]), m.weights == "stream"
    found = energies(target, p, m, array_pj(target, p, extents_of(m), joined, streamed))
    return float(np.ravel(found)[0])


def energies(target: Target, p: Contraction, m: ContractionMapping, array: Any) -> Any:
    """Dynamic energy in pJ of mappings of which that of the array is known. The extents of `m` are
    arrays.
    """
    n = loop_trips(p, m)
    outputs = p.batch * p.groups * p.oh * p.ow * p.oc
    read: Any = copied_input(p, m, n) + _constants(p, m, n)
    if p.residual_type and not p.residual_resident:
        read = read + outputs * itemsize(p.residual_type)
    written = 0 if p.out_resident else outputs * itemsize(p.out_type)
    return array + energy.loaded(target, read) + energy.stored(target, written)


def _constants(p: Contraction, m: ContractionMapping, n: Trips) -> Any:
    """Bytes of all copies of weights, parameters and table."""
    if m.weights == "stream":
        return p.table_bytes
    stored = weight_bytes(p) * stored_part(p)
    total: Any = 0 if p.w_resident else stored * weight_repeats(p, m, n)
    if p.constants_resident:
        return total
    is_again = m.order == "rows_outer" and m.weights != "held"
    params = p.param_rows * p.oc * p.groups * 4
    return total + params * (p.batch * n.spatial if is_again else 1) + p.table_bytes


def array_pj(
    target: Target,
    p: Contraction,
    extents: tuple[Numbers, ...],
    joined: npt.NDArray[np.bool_] | None = None,
    streamed: bool = False,
) -> Any:
    """Dynamic energy in pJ of the array's instructions for the layer cut into tiles of these
    extents (rows, columns, channels, reduction); `joined` says for which the taps of a kernel row
    are one sum, `streamed` whether weights and parameters are read from dram.
    """
    if not streamed:
        return over_nests(target, p, extents, _instruction_pj, joined)
    measure = over_streams(p, _instruction_pj)
    return over_nests(target, p, extents, measure, joined, whole_columns(p))


def _instruction_pj(target: Target, work: ArrayWork) -> Any:
    """Of array instructions, by the accesses that `cost.array` counts."""
    dram, spm, acc = (target.memories[name] for name in ("dram", "spm", "acc"))
    read = cost.operand_traffic(target, work) + work.side_bytes
    outputs = work.positions * work.out_channels
    return np.asarray(
        read * spm.read_pj
        + cost.streamed_bytes(target, work) * dram.read_pj
        + work.output_bytes * spm.write_pj
        + work.partial_reads * acc.read_pj
        + work.partial_writes * acc.write_pj
        + work.macs * work.passes * target.array.mac_pj[work.dtype]
        + outputs * sum(target.vector.pj[c] for c in work.kernel_costs),
        np.float64,
    )
