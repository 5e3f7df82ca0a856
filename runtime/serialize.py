"""A program as the bytes of its file, and back: one section per part, a JSON manifest for what is
not bulk.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from math import prod
from typing import Any, get_args

import numpy as np

from npu_dialect import dtypes
from npu_dialect.kernel import Kernel
from npu_dialect.machine import Operand
from npu_dialect.npu.consistency import out_of_bounds
from npu_dialect.runtime.container import ALIGNMENT, malformed, pack, unpack
from npu_dialect.runtime.program import (
    Access,
    Array,
    Binding,
    Constant,
    DebugRecord,
    Entry,
    HostCode,
    Placement,
    Program,
    Quantization,
    StateBinding,
    TensorRecord,
)

CODE, DEBUG = "code.", "debug."
"""What stands before the name of an entry in the names of its sections."""


def to_bytes(program: Program) -> bytes:
    """The content of the program's file. Equal programs give equal bytes."""
    constants, constant_rows = _pack_arrays([c.array for c in program.constants])
    blobs, blob_rows = _pack_arrays(program.host.blobs.values())
    given = [s for s in program.states if s.initial is not None]
    states, state_rows = _pack_arrays([s.content for s in given])
    initial = dict(zip((s.name for s in given), state_rows, strict=True))
    manifest = {
        "dram_size": program.dram_size,
        "target": {"name": program.target, "digest": program.target_digest},
        "entries": {name: _entry_json(entry) for name, entry in program.entries.items()},
        "order": list(program.entries),
        "states": [[_binding_json(s), initial.get(s.name)] for s in program.states],
        "constants": [
            [c.label, c.address, *row]
            for c, row in zip(program.constants, constant_rows, strict=True)
        ],
        "host": list(program.host.names),
        "blobs": [[d, *row] for d, row in zip(program.host.blobs, blob_rows, strict=True)],
    }
    sections = {
        "manifest": _json(manifest),
        "target": program.target_text.encode(),
        **{CODE + name: entry.code for name, entry in program.entries.items()},
        "kernels": b"".join(struct.pack("<I", len(k)) + k for k in _encoded(program.kernels)),
        "constants": constants,
        "states": states,
        "host": program.host.text.encode(),
        "blobs": blobs,
        **{DEBUG + name: _json(_debug_json(entry)) for name, entry in program.entries.items()},
    }
    return pack(sections)


def _entry_json(entry: Entry) -> dict[str, Any]:
    return {
        "inputs": [_binding_json(b) for b in entry.inputs],
        "outputs": [_binding_json(b) for b in entry.outputs],
        "states": list(entry.states.items()),
        "metadata": dict(entry.metadata),
    }


def _encoded(kernels: Iterable[Kernel]) -> list[bytes]:
    return [k.encode() for k in kernels]


def _json(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


def _debug_json(entry: Entry) -> dict[str, Any]:
    """Layers and their sources once each; instructions refer to them by number."""
    numbers = {record: i for i, record in enumerate(dict.fromkeys(entry.debug))}
    return {
        "layers": [[r.layer, r.sources, r.lines] for r in numbers],
        "instructions": [numbers[r] for r in entry.debug],
        "tensors": [[t.instruction, _binding_json(t.binding)] for t in entry.tensors],
        "placements": [list(asdict(p).values()) for p in entry.placements],
    }


def _binding_json(binding: Binding) -> dict[str, Any]:
    o = binding.operand
    return {
        "name": binding.name,
        "dtype": binding.dtype.name,
        "shape": list(binding.shape),
        "operand": [o.space, o.address, o.dtype.name, list(o.dims), list(o.strides)],
        "type": binding.type,
        "quantization": asdict(binding.quantization) if binding.quantization else None,
    }


Row = tuple[str, list[int], int]
"""Storage type, shape, and offset in its section."""


def _pack_arrays(arrays: Iterable[Array]) -> tuple[bytes, list[Row]]:
    data: list[bytes] = []
    rows: list[Row] = []
    size = 0
    for array in arrays:
        gap = -size % ALIGNMENT
        rows.append((dtypes.BY_NUMPY[array.dtype].name, list(array.shape), size + gap))
        data += [bytes(gap), array.tobytes()]
        size += gap + array.nbytes
    return b"".join(data), rows


# --- reading --------------------------------------------------------------------------------------


def from_bytes(data: bytes, source: str) -> Program:
    """The program of a file's content. Raises CompileError (NPU0401, NPU0402)."""
    sections = unpack(data, source)
    try:
        program = _program(sections)
        _check(program)
    except (KeyError, ValueError, TypeError, IndexError, AttributeError, struct.error) as problem:
        raise malformed(source, f"{type(problem).__name__}: {problem}") from problem
    return program


def _check(program: Program) -> None:
    """Raises ValueError where the parts of a program do not fit each other."""
    if not program.entries:
        raise ValueError("no entry")
    known = {state.name for state in program.states}
    if len(known) != len(program.states):
        raise ValueError("two states of one name")
    for name, entry in program.entries.items():
        alone = program.entry(name)
        if len(entry.debug) != len(alone.static):
            raise ValueError(f"{len(entry.debug)} records for {len(alone.static)} instructions")
        if not set(entry.states) <= known:
            raise ValueError(f"entry {name} has states that the program lacks")
        if not set(entry.states.values()) <= set(get_args(Access)):
            raise ValueError(f"entry {name} has an unknown access to a state")
    sizes = {name: memory.size for name, memory in program.machine.memories.items()}
    if program.dram_size > sizes["dram"]:
        raise ValueError(f"{program.dram_size} bytes of dram, where there are {sizes['dram']}")
    sizes["dram"] = program.dram_size
    bound = (b for e in program.entries.values() for b in (*e.inputs, *e.outputs))
    for each in (*bound, *program.states):
        _check_binding(each, sizes)
    for state in program.states:
        _check_state(state)


def _check_binding(binding: Binding, sizes: Mapping[str, int]) -> None:
    place, name = binding.operand, binding.name
    if place.space not in sizes or place.dtype != binding.dtype:
        raise ValueError(f"{name} must lie in a memory as {binding.dtype}")
    if wrong := out_of_bounds(place, sizes):
        raise ValueError(f"{name} {wrong}")
    if place.elements != prod(binding.shape):
        raise ValueError(f"{name} must have a place for every element")


def _check_state(state: StateBinding) -> None:
    given = state.initial
    if state.operand.space != "dram":
        raise ValueError(f"state {state.name} must lie in dram")
    if given is not None and (given.shape, given.dtype) != (state.shape, state.dtype.numpy):
        raise ValueError(f"state {state.name} must have an initial content of its own type")


def _program(sections: dict[str, memoryview]) -> Program:
    manifest = json.loads(bytes(sections["manifest"]))
    constants, blobs = sections["constants"], sections["blobs"]
    order: list[str] = manifest["order"]
    if set(order) != set(manifest["entries"]):
        raise ValueError("entries that are not those of the order")
    return Program(
        target_text=bytes(sections["target"]).decode(),
        entries={name: _entry(name, manifest["entries"][name], sections) for name in order},
        kernels=tuple(_kernels(sections["kernels"])),
        constants=tuple(
            Constant(_string(label), _sizes([address])[0], _array(constants, *row))
            for label, address, *row in manifest["constants"]
        ),
        dram_size=_sizes([manifest["dram_size"]])[0],
        states=tuple(
            StateBinding(
                **vars(_binding(row)),
                initial=None if initial is None else _array(sections["states"], *initial),
            )
            for row, initial in manifest["states"]
        ),
        host=HostCode(
            tuple(manifest["host"]),
            bytes(sections["host"]).decode(),
            {digest: _array(blobs, *row) for digest, *row in manifest["blobs"]},
        ),
    )


def _entry(name: str, row: dict[str, Any], sections: dict[str, memoryview]) -> Entry:
    debug = json.loads(bytes(sections[DEBUG + name]))
    layers = [
        DebugRecord(layer, tuple(sources), tuple(map(tuple, lines)))
        for layer, sources, lines in debug["layers"]
    ]
    numbers: list[int] = debug["instructions"]
    return Entry(
        code=bytes(sections[CODE + name]),
        inputs=tuple(map(_binding, row["inputs"])),
        outputs=tuple(map(_binding, row["outputs"])),
        states=dict(row["states"]),
        debug=tuple(layers[i] for i in numbers),
        tensors=tuple(TensorRecord(i, _binding(b)) for i, b in debug["tensors"]),
        placements=tuple(Placement(*p) for p in debug["placements"]),
        metadata=row["metadata"],
    )


def _kernels(section: memoryview) -> list[Kernel]:
    kernels: list[Kernel] = []
    at = 0
    while at < len(section):
        (size,) = struct.unpack_from("<I", section, at)
        at += 4 + size
        kernels.append(Kernel.decode(bytes(section[at - size : at])))
    return kernels


def _array(section: memoryview, dtype: str, shape: Sequence[int], offset: int) -> Array:
    """Read-only, over the file's bytes."""
    storage = dtypes.BY_NAME[dtype].numpy
    count = int(np.prod(shape, dtype=np.int64))
    return np.frombuffer(section, storage, count, offset).reshape(shape)


def _operand(space: str, address: int, dtype: str, dims: Any, strides: Any) -> Operand:
    (start,), steps, extents = _integers([address]), _integers(strides), _sizes(dims)
    if len(extents) != len(steps):
        raise ValueError(f"{len(extents)} extents with {len(steps)} strides")
    return Operand(_string(space), start, dtypes.BY_NAME[dtype], extents, steps)


def _string(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{value!r} where there must be a text")
    return value


def _integers(values: Sequence[Any]) -> tuple[int, ...]:
    if not all(type(v) is int for v in values):
        raise ValueError(f"{values!r} where there must be integers")
    return tuple(values)


def _sizes(values: Sequence[Any]) -> tuple[int, ...]:
    if any(v < 0 for v in _integers(values)):
        raise ValueError(f"{values!r} where there must be no negative extents")
    return tuple(values)


def _binding(row: dict[str, Any]) -> Binding:
    space, address, dtype, dims, strides = row["operand"]
    given = row["quantization"]
    return Binding(
        name=_string(row["name"]),
        dtype=dtypes.BY_NAME[row["dtype"]],
        shape=_sizes(row["shape"]),
        operand=_operand(space, address, dtype, dims, strides),
        type=_string(row["type"]),
        quantization=Quantization(
            tuple(given["scales"]), tuple(given["zero_points"]), given["axis"]
        )
        if given
        else None,
    )
