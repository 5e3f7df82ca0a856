"""A program as the bytes of its file, and back: one section per part, a JSON manifest for what is
not bulk.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from npu_dialect import dtypes
from npu_dialect.kernel import Kernel
from npu_dialect.machine import Operand
from npu_dialect.runtime.container import ALIGNMENT, malformed, pack, unpack
from npu_dialect.runtime.program import (
    Array,
    Binding,
    Constant,
    DebugRecord,
    HostCode,
    Placement,
    Program,
    Quantization,
    TensorRecord,
)

CODE = "code."


def to_bytes(program: Program) -> bytes:
    """The content of the program's file. Equal programs give equal bytes."""
    constants, constant_rows = _pack_arrays([c.array for c in program.constants])
    blobs, blob_rows = _pack_arrays(program.host.blobs.values())
    manifest = {
        "dram_size": program.dram_size,
        "target": {"name": program.target, "digest": program.target_digest},
        "inputs": [_binding_json(b) for b in program.inputs],
        "outputs": [_binding_json(b) for b in program.outputs],
        "constants": [
            [c.label, c.address, *row]
            for c, row in zip(program.constants, constant_rows, strict=True)
        ],
        "host": list(program.host.names),
        "blobs": [[d, *row] for d, row in zip(program.host.blobs, blob_rows, strict=True)],
        "metadata": dict(program.metadata),
    }
    sections = {
        "manifest": _json(manifest),
        "target": program.target_text.encode(),
        **{CODE + name: code for name, code in program.entries.items()},
        "kernels": b"".join(struct.pack("<I", len(k)) + k for k in _encoded(program.kernels)),
        "constants": constants,
        "host": program.host.text.encode(),
        "blobs": blobs,
        "debug": _json(_debug_json(program)),
    }
    return pack(sections)


def _encoded(kernels: Iterable[Kernel]) -> list[bytes]:
    return [k.encode() for k in kernels]


def _json(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


def _debug_json(program: Program) -> dict[str, Any]:
    """Layers and their sources once each; instructions refer to them by number."""
    numbers = {record: i for i, record in enumerate(dict.fromkeys(program.debug))}
    return {
        "layers": [[r.layer, list(r.sources)] for r in numbers],
        "instructions": [numbers[r] for r in program.debug],
        "tensors": [[t.instruction, _binding_json(t.binding)] for t in program.tensors],
        "placements": [list(asdict(p).values()) for p in program.placements],
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
    data = bytearray()
    rows: list[Row] = []
    for array in arrays:
        data += bytes(-len(data) % ALIGNMENT)
        rows.append((dtypes.BY_NUMPY[array.dtype].name, list(array.shape), len(data)))
        data += array.tobytes()
    return bytes(data), rows


# --- reading --------------------------------------------------------------------------------------


def from_bytes(data: bytes, source: str) -> Program:
    """The program of a file's content. Raises CompileError (NPU0401, NPU0402)."""
    sections = unpack(data, source)
    try:
        program = _program(sections)
        if len(program.debug) != len(program.static):
            raise ValueError(f"{len(program.debug)} records for {len(program.static)} instructions")
    except (KeyError, ValueError, TypeError, IndexError, struct.error) as problem:
        raise malformed(source, f"{type(problem).__name__}: {problem}") from problem
    return program


def _program(sections: dict[str, memoryview]) -> Program:
    manifest = json.loads(bytes(sections["manifest"]))
    debug = json.loads(bytes(sections["debug"]))
    layers = [DebugRecord(name, tuple(sources)) for name, sources in debug["layers"]]
    numbers: list[int] = debug["instructions"]
    constants, blobs = sections["constants"], sections["blobs"]
    return Program(
        target_text=bytes(sections["target"]).decode(),
        entries={n[len(CODE) :]: bytes(s) for n, s in sections.items() if n.startswith(CODE)},
        kernels=tuple(_kernels(sections["kernels"])),
        constants=tuple(
            Constant(label, address, _array(constants, *row))
            for label, address, *row in manifest["constants"]
        ),
        dram_size=manifest["dram_size"],
        inputs=tuple(map(_binding, manifest["inputs"])),
        outputs=tuple(map(_binding, manifest["outputs"])),
        host=HostCode(
            tuple(manifest["host"]),
            bytes(sections["host"]).decode(),
            {digest: _array(blobs, *row) for digest, *row in manifest["blobs"]},
        ),
        debug=tuple(layers[i] for i in numbers),
        tensors=tuple(TensorRecord(i, _binding(b)) for i, b in debug["tensors"]),
        placements=tuple(Placement(*p) for p in debug["placements"]),
        metadata=manifest["metadata"],
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


def _binding(row: dict[str, Any]) -> Binding:
    space, address, dtype, dims, strides = row["operand"]
    given = row["quantization"]
    return Binding(
        name=row["name"],
        dtype=dtypes.BY_NAME[row["dtype"]],
        shape=tuple(row["shape"]),
        operand=Operand(space, address, dtypes.BY_NAME[dtype], tuple(dims), tuple(strides)),
        type=row["type"],
        quantization=Quantization(
            tuple(given["scales"]), tuple(given["zero_points"]), given["axis"]
        )
        if given
        else None,
    )
