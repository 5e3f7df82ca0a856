"""What one instruction costs on a target: cycles of its engine, bytes per memory, actions that take
energy.

These functions are the only judge of time and energy: the mapper calls them with the sizes of a
tile that it considers, the simulator with those of a decoded instruction. All counts are per
instruction.

An instruction occupies its engine for `cycles`; its results are complete `latency` cycles later,
while the engine goes on with the next one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import ceil
from typing import Any

import numpy as np

from npu_dialect.ethos_u.cycles import POOLING, Block, Extents, Operation, array_cycles
from npu_dialect.ethos_u.walk import Walk, walk
from npu_dialect.machine import Operand
from npu_dialect.target import Target
from npu_dialect.zeros import ALL_MADE


@dataclass(frozen=True)
class Cost:
    """The cost of one instruction. `bound` names what its cycles are spent on: array, vector, spm,
    dram, acc, output, host.
    """

    cycles: int
    latency: int = 0
    bound: str = ""
    reads: Mapping[str, int] = field(default_factory=dict[str, int])
    """Bytes read by memory."""
    writes: Mapping[str, int] = field(default_factory=dict[str, int])
    """Bytes written by memory."""
    macs: int = 0
    mac_type: str = ""
    micro_ops: Mapping[str, int] = field(default_factory=dict[str, int])
    """Elementwise micro-operations by cost class."""
    host_cycles: int = 0


def energy_pj(cost: Cost, target: Target) -> dict[str, float]:
    """Dynamic energy of an instruction in pJ, by where it goes: array, vector, dram, spm, acc,
    host.
    """
    energy: dict[str, float] = {}
    for space in ("dram", "spm", "acc"):
        memory = target.memories[space]
        read, written = cost.reads.get(space, 0), cost.writes.get(space, 0)
        energy[space] = read * memory.read_pj + written * memory.write_pj
    energy["array"] = cost.macs * target.array.mac_pj[cost.mac_type] if cost.macs else 0.0
    energy["vector"] = sum(n * target.vector.pj[c] for c, n in cost.micro_ops.items())
    energy["host"] = cost.host_cycles * target.host.power / target.frequency * 1e12
    return energy


# --- data movement ----------------------------------------


def port_cycles(
    target: Target, space: str, engine: str, runs: float, run_bytes: int, address: int = 0
) -> float:
    """Cycles that `runs` stretches of consecutive bytes occupy a port: each pays for whole beats,
    and in dram for whole accesses. The address says which part of dram it is.
    """
    width = target.memories[space].width(engine, address)
    if space == "dram":
        return accessed(target, runs, run_bytes) / width
    return runs * ceil(run_bytes / width)


def accessed(target: Target, runs: float, run_bytes: int) -> float:
    """Bytes of dram that stretches of consecutive bytes occupy it for: whole accesses of each."""
    burst = target.memories["dram"].burst
    return runs * ceil(run_bytes / burst) * burst


def dma(target: Target, source: Operand, destination: Operand) -> Cost:
    """A copy. Both ports stream at once, so the slower side decides; within one memory they share
    the port. The result is there after the longer latency of the two memories.
    """
    sides = {
        (o.space, role): port_cycles(target, o.space, "dma", *o.runs, o.address)
        for o, role in ((source, "read"), (destination, "write"))
    }
    if source.space == destination.space:
        busy = sum(sides.values())
        slowest = source.space
    else:
        (slowest, _), busy = max(sides.items(), key=lambda item: item[1])
    latency = max(target.memories[o.space].latency for o in (source, destination))
    return Cost(
        cycles=target.dma.startup + ceil(busy),
        latency=latency,
        bound=slowest,
        reads={source.space: source.size},
        writes={destination.space: destination.size},
    )


def dma_decode(target: Target, source: Operand, destination: Operand) -> Cost:
    """A copy of a stream that is decoded: bytes are read, decoded and written at once, so the
    slowest of the three decides.
    """
    found = dma(target, source, destination)
    decoding = target.dma.startup + ceil(destination.size / target.dma.decoded_bytes)
    if decoding <= found.cycles:
        return found
    return replace(found, cycles=decoding, bound="decoder")


def dma_fill(target: Target, destination: Operand) -> Cost:
    """A constant fill."""
    busy = port_cycles(target, destination.space, "dma", *destination.runs, destination.address)
    return Cost(
        cycles=target.dma.startup + max(ceil(busy), ceil(destination.size / target.dma.fill_bytes)),
        latency=target.memories[destination.space].latency,
        bound=destination.space,
        writes={destination.space: destination.size},
    )


def dma_gather(target: Target, source: Operand, indices: Operand, destination: Operand) -> Cost:
    """A copy of rows by indices: indices, rows and destination stream at once, what lies in one
    memory shares its port. Every row pays for its own accesses; the first one waits for its index.
    """
    return _rows_by_indices(target, source, destination, indices)


def dma_scatter(target: Target, source: Operand, indices: Operand, destination: Operand) -> Cost:
    """A copy of rows to where indices say; otherwise as `dma_gather`. Indices that name no row cost
    as much.
    """
    return _rows_by_indices(target, source, destination, indices, scattered=True)


def _rows_by_indices(
    target: Target,
    source: Operand,
    destination: Operand,
    indices: Operand,
    scattered: bool = False,
) -> Cost:
    block, listed = (destination, source) if scattered else (source, destination)
    count, elements = listed.dims
    row = Operand(block.space, 0, block.dtype, (elements,), block.strides[1:])
    runs, run_bytes = row.runs if elements else (0, block.dtype.itemsize)
    streams = (
        (block, count * runs, run_bytes),
        (indices, *indices.runs),
        (listed, *listed.runs),
    )
    busy: dict[str, float] = {}
    for operand, number, size in streams:
        taken = port_cycles(target, operand.space, "dma", number, size, operand.address)
        busy[operand.space] = busy.get(operand.space, 0) + taken
    slowest = max(busy, key=lambda space: busy[space])
    latency = {o.space: target.memories[o.space].latency for o, _, _ in streams}
    reads = {source.space: listed.size}
    reads[indices.space] = reads.get(indices.space, 0) + indices.size
    return Cost(
        cycles=target.dma.startup + ceil(busy[slowest]),
        latency=latency[indices.space] + max(latency[source.space], latency[destination.space]),
        bound=slowest,
        reads=reads,
        writes={destination.space: listed.size},
    )


# --- the array ----------------------------------------


def parts(extent: int, part: float) -> int:
    """How many parts of a size cover an extent; of a numpy array, for each of its numbers."""
    count = -(-extent // part)
    return int(count) if isinstance(count, float) else count


def _least(a: Any, b: Any) -> Any:
    """The smaller one; of numpy arrays, of each pair."""
    return min(a, b) if isinstance(a, int) and isinstance(b, int) else np.minimum(a, b)


def _is_any(number: Any) -> bool:
    """Whether a number is not 0; of a numpy array, whether any of its numbers is not."""
    return number != 0 if isinstance(number, int) else bool(np.any(number))


@dataclass(frozen=True)
class ArrayWork:
    """What one array instruction does, in the numbers its cost depends on.

    `taps` = kernel rows x columns; a matrix product has one tap, rows as positions. For depthwise
    work in_channels is 1. Byte counts are of the whole tile; `partial_reads`/`partial_writes` are
    accumulator bytes of sums that enter or leave an instruction. `weight_bytes` and `side_bytes`
    are of the scratchpad: constants that the array reads from dram are none of them.
    """

    dtype: str
    positions: int
    taps: int
    in_channels: int
    out_channels: int
    input_bytes: int
    weight_bytes: int
    output_bytes: int
    depthwise: bool = False
    passes: int = 1
    """How often activations go through the array: `weight_passes`."""
    side_bytes: int = 0
    """Parameters, residual and table."""
    partial_reads: int = 0
    partial_writes: int = 0
    kernel_costs: Sequence[str] = ()
    has_residual: bool = False
    rows: int = 1
    """Rows of positions; an array that goes in blocks needs them, and what follows."""
    kernel: tuple[int, int] | None = None
    """Rows and columns of the kernel; without, all taps are in a row."""
    strides: tuple[int, int] = (1, 1)
    dilations: tuple[int, int] = (1, 1)
    input_pixel: int = 0
    """Bytes from pixel to pixel of the input; 0 where its channels are all that there are."""
    output_pixel: int = 0
    """The same of the result."""
    made: int = ALL_MADE
    """Of so many products (`ALL_MADE`) those that an array makes that leaves out zeros."""
    dram_bytes: int = 0
    """Bytes of weights and parameters that come from dram, as stored, in whole accesses."""
    decoded_bytes: int = 0
    """Bytes of the weights that are decoded as they come from there; 0 where they are not coded."""
    walks: dict[str, Walk] = field(
        default_factory=dict[str, Walk], init=False, repr=False, compare=False
    )
    """How arrays that go in blocks do it, by the digest of the target."""

    @property
    def macs(self) -> int:
        return self.positions * self.taps * self.in_channels * self.out_channels


def made_of(made: int, number: Any) -> Any:
    """What of so many cycles or products is made, rounded up; of a numpy array, of each."""
    return number if made == ALL_MADE else -(-number * made // ALL_MADE)


def weight_passes(dtype: str) -> int:
    """Passes for weights of a storage type: those of 16 bits are multiplied one half at a time."""
    return 2 if dtype in ("i16", "u16") else 1


@dataclass(frozen=True)
class ArrayKind:
    """A kind of array: the cycles of a product."""

    cycles: Callable[[Target, ArrayWork], int]
    is_whole: bool
    """Whether `cycles` counts fill and drain, which then follow from the array's extents."""
    walk: Callable[[Target, ArrayWork], Walk] | None = None
    """Of a kind that goes over results in blocks: all that it takes, depthwise work too."""


def _dot_product(target: Target, work: ArrayWork) -> int:
    """A block of positions x out_channels outputs a step, each a dot product over a block of input
    channels.
    """
    p, o, i = target.array.macs[work.dtype]
    blocks = parts(work.positions, p) * parts(work.out_channels, o)
    return blocks * parts(work.in_channels, i) * work.taps


def _weight_stationary(target: Target, work: ArrayWork) -> int:
    """SCALE-Sim 3.0.0's closed form for an R x C systolic array: ceil(K/R) ceil(N/C) (M + 2R + C -
    2) - 1.
    """
    _, c, r = target.array.macs[work.dtype]
    k = work.taps * work.in_channels
    return parts(k, r) * parts(work.out_channels, c) * (work.positions + 2 * r + c - 2) - 1


def _output_stationary(target: Target, work: ArrayWork) -> int:
    """SCALE-Sim 3.0.0's closed form for an R x C systolic array: ceil(M/R) ceil(N/C) (K + R + C -
    2) - 1.
    """
    r, c, _ = target.array.macs[work.dtype]
    k = work.taps * work.in_channels
    return parts(work.positions, r) * parts(work.out_channels, c) * (k + r + c - 2) - 1


def _in_blocks(target: Target, work: ArrayWork) -> int:
    """Arm Vela's count for Ethos-U55, U65 and U85, see `npu_dialect/ethos_u/cycles.py`."""
    found = walk(target, work)
    return found.array + found.fill


ARRAY_KINDS = {
    "dot_product": ArrayKind(_dot_product, is_whole=False),
    "weight_stationary": ArrayKind(_weight_stationary, is_whole=True),
    "output_stationary": ArrayKind(_output_stationary, is_whole=True),
    "ethos_u55": ArrayKind(_in_blocks, is_whole=False, walk=walk),
    "ethos_u85": ArrayKind(_in_blocks, is_whole=False, walk=walk),
}
"""The kinds of array by name; `target.ARRAY_KINDS` lists the names."""


def mac_cycles(target: Target, work: ArrayWork) -> tuple[int, int, int]:
    """(fill, multiply-accumulates, drain) of an instruction in cycles."""
    array = target.array
    kind = ARRAY_KINDS[array.kind]
    if kind.walk is not None:
        found = kind.walk(target, work)
        return array.fill, found.array + found.fill, array.drain
    if work.depthwise:
        cycles = work.passes * parts(work.macs, array.depthwise_macs[work.dtype])
        return array.fill, cycles, array.drain
    cycles = made_of(work.made, work.passes * kind.cycles(target, work))
    return (0, cycles, 0) if kind.is_whole else (array.fill, cycles, array.drain)


def operand_traffic(target: Target, work: ArrayWork) -> int:
    """Bytes of activations and weights that the array reads from the scratchpad.

    The array keeps a block of one operand in its buffer and streams the other past it, once per
    block; the cheaper of the two orders is taken. An operand that fits its buffer is read once.
    Weights that come from dram go past once. (One that goes over results in blocks fetches what
    each block needs.)
    """
    array = target.array
    in_blocks = ARRAY_KINDS[array.kind].walk
    if in_blocks is not None:
        return in_blocks(target, work).fetched - work.side_bytes
    if _is_any(work.dram_bytes) and not _is_any(work.weight_bytes):
        streamed: Any = work.decoded_bytes if _is_any(work.decoded_bytes) else work.dram_bytes
        return work.input_bytes * (1 if work.depthwise else parts(streamed, array.weight_buffer))
    weight_blocks = parts(work.weight_bytes, array.weight_buffer)
    input_blocks = parts(work.input_bytes, array.input_buffer)
    if work.depthwise:
        return work.input_bytes + work.weight_bytes
    return _least(
        work.weight_bytes + work.input_bytes * weight_blocks,
        work.input_bytes + work.weight_bytes * input_blocks,
    )


def array_stages(target: Target, work: ArrayWork) -> dict[str, int]:
    """Cycles of each of the stages that overlap; in blocks, with what no other block hides, which
    the scratchpad's port moves too. The numbers of `work` may be numpy arrays, and
    then so are the cycles.
    """
    in_blocks = ARRAY_KINDS[target.array.kind].walk
    if in_blocks is not None:
        found = in_blocks(target, work)
        return {
            "array": found.array + found.fill,
            "spm": found.port,
            "output": found.output + found.fill,
            **_stream_stages(target, work),
        }
    read = operand_traffic(target, work) + work.side_bytes
    port = target.memories["spm"].ports["mxu"]
    stages = {
        "array": mac_cycles(target, work)[1],
        "spm": parts(read + work.output_bytes, port),
    }
    if work.kernel_costs or _is_any(work.output_bytes):
        outputs = work.positions * work.out_channels
        stages["output"] = parts(outputs, target.array.output_elements)
    if _is_any(work.partial_reads) or _is_any(work.partial_writes):
        port = target.memories["acc"].ports["mxu"]
        stages["acc"] = parts(work.partial_reads + work.partial_writes, port)
    return stages | _stream_stages(target, work)


def streamed_bytes(target: Target, work: ArrayWork) -> Any:
    """Bytes of constants that an instruction reads from dram: an array that goes over its result in
    blocks reads them for every block of positions, as it does those of the scratchpad.
    """
    return work.dram_bytes * _stream_reads(target, work)


def _stream_reads(target: Target, work: ArrayWork) -> Any:
    in_blocks = ARRAY_KINDS[target.array.kind].walk
    return 1 if in_blocks is None else in_blocks(target, work).again


def _stream_stages(target: Target, work: ArrayWork) -> dict[str, Any]:
    """Cycles of reading constants from dram, and of decoding them."""
    if not _is_any(work.dram_bytes):
        return {}
    port = target.memories["dram"].ports["mxu"]
    stages = {"dram": parts(streamed_bytes(target, work), port)}
    if _is_any(work.decoded_bytes):
        decoded = work.decoded_bytes * _stream_reads(target, work)
        stages["decoder"] = parts(decoded, target.dma.decoded_bytes)
    return stages


def array(target: Target, work: ArrayWork) -> Cost:
    """One array instruction: multiply-accumulates, ports, decoder and output stage overlap; the
    slowest decides. One that reads constants from dram starts as a copy does: its results are there
    later by the time until the first of them come.
    """
    stages = array_stages(target, work)
    fill, _, drain = mac_cycles(target, work)
    streamed = streamed_bytes(target, work) if work.dram_bytes else 0
    first = target.memories["dram"].latency + target.dma.startup if streamed else 0
    read = operand_traffic(target, work) + work.side_bytes
    outputs = work.positions * work.out_channels
    bound, busy = max(stages.items(), key=lambda item: item[1])
    return Cost(
        cycles=busy + fill,
        latency=drain + first,
        bound=bound,
        reads={"spm": read, "acc": work.partial_reads} | ({"dram": streamed} if streamed else {}),
        writes={"spm": work.output_bytes, "acc": work.partial_writes},
        macs=made_of(work.made, work.macs * work.passes),
        mac_type=work.dtype,
        micro_ops=_count(work.kernel_costs, outputs),
    )


# --- the vector unit ----------------------------------------


def vector(
    target: Target,
    elements: int,
    kernel_costs: Sequence[str],
    read: int,
    written: int,
    value_type: str = "i32",
) -> Cost:
    """One vector instruction over `elements`, each going through every micro-operation; `read`,
    `written` in bytes.
    """
    unit = target.vector
    lanes = unit.lanes[value_type]
    per_vector = unit.kernel_cycles(kernel_costs)
    stages = {
        "vector": ceil(ceil(elements / lanes) * per_vector),
        "spm": ceil((read + written) / target.memories["spm"].ports["vpu"]),
    }
    bound, busy = max(stages.items(), key=lambda item: item[1])
    return Cost(
        cycles=busy + unit.startup,
        latency=0,
        bound=bound,
        reads={"spm": read},
        writes={"spm": written},
        micro_ops=_count(kernel_costs, elements),
    )


def pool_cycles(
    target: Target, output: tuple[int, int, int], window: tuple[int, int], itemsize: int
) -> int:
    """What pooling takes at least on a target whose vector unit is the output stage of an array
    that goes in blocks, as Arm Vela counts it: the array's micro-blocks, each tap by tap; elsewhere
    0. `output` and `window` in elements, `itemsize` of the input in bytes.
    """
    blocks = target.array.blocks
    if blocks is None or not target.vector.is_output_stage or not all(output):
        return 0
    whole = Extents(*output)
    op = Operation(POOLING, whole, whole, window, 8 * itemsize)
    return target.vector.startup + int(array_cycles(blocks, op, Block(whole, whole)))


SCATTER_COSTS = {"set": (), "add": ("alu",), "mul": ("mul",), "max": ("alu",), "min": ("alu",)}
"""The micro-operation of each kind of scatter, by cost class."""


def scatter(
    target: Target,
    kind: str,
    count: int,
    elements: int,
    itemsize: int,
    index_bytes: int,
    value_type: str,
) -> Cost:
    """`count` rows of `elements` written or accumulated by indices. Rows go one after the other,
    each in whole vectors and whole beats of the port; accumulating reads a row before it is
    written.
    """
    unit, width = target.vector, target.memories["spm"].ports["vpu"]
    costs = SCATTER_COSTS[kind]
    row = elements * itemsize
    passes = 2 + bool(costs)
    stages = {
        "vector": count * ceil(ceil(elements / unit.lanes[value_type]) * unit.kernel_cycles(costs)),
        "spm": count * passes * ceil(row / width) + ceil(count * index_bytes / width),
    }  # fmt: skip
    bound, busy = max(stages.items(), key=lambda item: item[1])
    return Cost(
        cycles=busy + unit.startup,
        bound=bound,
        reads={"spm": count * (row * (passes - 1) + index_bytes)},
        writes={"spm": count * row},
        micro_ops=_count(costs, count * elements),
    )


def _count(kernel_costs: Sequence[str], elements: int) -> dict[str, int]:
    counts: dict[str, int] = {}
    for c in kernel_costs:
        counts[c] = counts.get(c, 0) + elements
    return counts


# --- the host ----------------------------------------


def host(target: Target, macs: int, elements: int, read: int, written: int) -> Cost:
    """A task on the CPU: the call, then the slower of its arithmetic and its memory traffic (bytes
    read, written), which goes at the slower of its own pace and that of its port.
    """
    cpu = target.host
    dram = target.memories["dram"]
    pace = min(cpu.bytes_per_cycle, dram.width("host", dram.read_only))
    work = macs / cpu.macs_per_cycle + elements / cpu.elements_per_cycle
    busy = max(work, (read + written) / pace)
    cycles = cpu.call + ceil(busy)
    return Cost(
        cycles=cycles,
        bound="host",
        reads={"dram": read},
        writes={"dram": written},
        host_cycles=cycles,
    )
