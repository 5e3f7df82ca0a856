"""The bytes behind descriptors, as numpy arrays: what the interpreter and the verifier keep per
buffer.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from xdsl.ir import BlockArgument, Operation

from npu_dialect.tile.descriptor import BufferKey, Descriptor
from npu_dialect.tile.memory import AllocOp, ConstantOp
from npu_dialect.tile.syntax import dtype_of, shape_of

Array = npt.NDArray[Any]
Bytes = npt.NDArray[np.uint8]


class Storage:
    """One byte array per argument, constant and slot of an alloc; `fill` is what fresh memory
    holds.
    """

    def __init__(self, fill: int, given: Mapping[Operation | BlockArgument, Bytes]) -> None:
        """`given` holds the bytes of arguments and constants that exist beforehand."""
        self._fill = fill
        self._bytes: dict[tuple[Operation | BlockArgument, int], Bytes] = {
            (owner, 0): data for owner, data in given.items()
        }

    def bytes_of(self, key: BufferKey) -> Bytes:
        """The bytes of a buffer, made at its first use."""
        place = (key.owner, key.slot)
        found = self._bytes.get(place)
        if found is None:
            found = self._bytes[place] = self._make(key.owner)
        return found

    def _make(self, owner: Operation | BlockArgument) -> Bytes:
        if isinstance(owner, ConstantOp):
            return np.frombuffer(owner.value.data.bytes, np.uint8)
        value = owner.result if isinstance(owner, AllocOp) else owner
        assert not isinstance(value, Operation)
        size = dtype_of(value).itemsize
        for extent in shape_of(value):
            size *= extent
        return np.full(size, self._fill, np.uint8)

    def renew(self, key: BufferKey) -> None:
        """Fresh memory for an alloc's new instance: what its slot held is lost."""
        found = self._bytes.get((key.owner, key.slot))
        if found is not None:
            found.fill(self._fill)

    def view(self, value: Descriptor) -> Array:
        """The elements that a descriptor names; writes go through."""
        return np.ndarray(
            value.dims,
            value.dtype.numpy,
            buffer=self.bytes_of(value.buffer),
            offset=value.byte_offset,
            strides=value.strides,
        )

    def view_bytes(self, value: Descriptor) -> Bytes:
        """The bytes of the elements, in one more dimension."""
        return np.ndarray(
            (*value.dims, value.dtype.itemsize),
            np.uint8,
            buffer=self.bytes_of(value.buffer),
            offset=value.byte_offset,
            strides=(*value.strides, 1),
        )
