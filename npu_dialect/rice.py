"""A lossless code for constants, of which the dma engine decodes each copy by itself.

The bytes of elements are coded in planes: byte 0 of every element, then byte 1, and so on. Each
plane has a centre; a byte b is the number z of its distance v = b - centre (modulo 256, -128..127):
2 v, or -2 v - 1 below 0. Elements come in rows, and the planes of a row are cut into blocks of 64
bytes, the last one shorter; a block has one of eight modes:

    0      every z is 0
    1      z + 1 is q + 1 bits long: q in the unary code, then min(q, 7) bits
    2..6   mode k: z >> k in the unary code, then the k low bits
    7      z as it is, in 8 bits

A number q in the unary code is q ones and a zero. A copy is a stream of bytes, bits from the
highest:

    3 bytes      where the third section begins, lowest byte first
    1 byte       of each plane: its centre
    modes        3 bits for each block; then
    unary codes  of all blocks, bit after bit; filled to a byte
    low bits     of one block after the other, each filled to a byte

Beyond the end of a stream all bits are 0, so that any bytes have a meaning. The low bits of a block
lie where its mode and length say, and of the unary codes many are found at once, so that an engine
can decode many bytes in a cycle.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Bytes = npt.NDArray[np.uint8]

NAME = "rice"
"""What a target lists among its codecs."""
BLOCK = 64
"""Bytes of a block."""
HEADER = 3
"""Bytes before the centres."""
MODE_BITS = 3
SAME, GROWING, WHOLE = 0, 1, 7
"""The modes that do not have their number of low bits."""
SHIFTS = range(2, 7)
"""The modes that do."""


def _tables() -> tuple[Array, Array, Array]:
    """(q, width of the low bits, low bits) by [mode, z]."""
    z = np.arange(256)
    q, widths = np.zeros((8, 256), np.int64), np.zeros((8, 256), np.int64)
    for k in SHIFTS:
        q[k], widths[k] = z >> k, k
    q[GROWING] = [int(n + 1).bit_length() - 1 for n in z]
    widths[GROWING] = np.minimum(q[GROWING], 7)
    widths[WHOLE] = 8
    low = z & ((1 << widths) - 1)
    low[GROWING] = z + 1 - (1 << q[GROWING])
    return q, widths, low


UNARY, WIDTHS, LOW = _tables()
IS_CODED = np.array([GROWING <= mode < WHOLE for mode in range(8)])
"""Whether a mode has unary codes."""


@dataclass(frozen=True)
class Blocks:
    """Where the blocks of some elements begin, in the order of the stream."""

    counts: Array
    """Bytes of each."""
    planes: Array
    """Which byte of the elements each has."""

    @staticmethod
    def of(elements: int, row: int, itemsize: int) -> Blocks:
        """Those of rows of `row` elements, the last of which may be shorter."""
        rows, rest = divmod(elements, row)
        whole, last = _cut(row), _cut(rest)
        of_row = np.tile(whole, itemsize)
        counts = np.concatenate([np.tile(of_row, rows), np.tile(last, itemsize)])
        planes = np.arange(itemsize)
        of_planes = np.tile(planes.repeat(len(whole)), rows)
        return Blocks(counts, np.concatenate([of_planes, planes.repeat(len(last))]))


def _cut(length: int) -> Array:
    whole, rest = divmod(length, BLOCK)
    return np.array([BLOCK] * whole + [rest] * bool(rest), np.int64)


def _in_planes(data: Array, row: int) -> Bytes:
    """The bytes of elements [n, itemsize] as the stream has them: plane by plane in each row."""
    rows = len(data) // row
    whole = data[: rows * row].reshape(rows, row, data.shape[1]).transpose(0, 2, 1)
    return np.concatenate([whole.reshape(-1), data[rows * row :].T.reshape(-1)])


def _from_planes(data: Bytes, elements: int, row: int, itemsize: int) -> Bytes:
    """What `_in_planes` was given, [n, itemsize]."""
    rows = elements // row
    cut = rows * row * itemsize
    whole = data[:cut].reshape(rows, itemsize, row).transpose(0, 2, 1).reshape(-1, itemsize)
    return np.concatenate([whole, data[cut:].reshape(itemsize, elements - rows * row).T])


def bytes_of(array: Array) -> Bytes:
    """The bytes of elements in row-major order: [elements, itemsize]."""
    flat = np.ascontiguousarray(array).reshape(-1)
    return flat.view(np.uint8).reshape(flat.size, array.itemsize)


def name(unit: int) -> str:
    """What a constant of which blocks have whole units of so many elements carries; 0: any."""
    return f"{NAME}{unit or ''}"


def unit(name: str) -> int | None:
    """The unit of a constant that carries `name`; None for that of another codec."""
    digits = name.removeprefix(NAME)
    if digits == name or not (digits.isdigit() or not digits):
        return None
    return int(digits or 0)


# --- choosing -------------------------------------------------------------------------------------


def centres(array: Array) -> tuple[int, ...]:
    """For each byte of the elements, the centre with which they take the fewest bits in one of the
    modes: the most frequent byte, or a median.
    """
    return tuple(_centre(plane) for plane in bytes_of(array).T)


def _centre(plane: Bytes) -> int:
    count = np.bincount(plane, minlength=256)
    known = np.flatnonzero(count)
    total = plane.size // 2
    signed = np.roll(count, 128)
    median = int(np.searchsorted(np.cumsum(count), total, side="right"))
    other = int(np.searchsorted(np.cumsum(signed), total, side="right")) - 128
    bits = (UNARY + 1 + WIDTHS)[GROWING:WHOLE]
    tried = dict.fromkeys((int(count.argmax()), min(median, 255), other & 255))
    taken = {c: int((bits[:, _number(known, c)] @ count[known]).min()) for c in tried}
    return min(taken, key=taken.__getitem__)


def _number(data: Array, centre: Array | int) -> Bytes:
    """z of bytes."""
    v = (data - centre).astype(np.uint8)
    return ((v << 1) ^ (np.uint8(0) - (v >> 7))).astype(np.uint8, copy=False)


def _byte(z: Bytes, centre: Array) -> Bytes:
    return (((z >> 1) ^ (np.uint8(0) - (z & 1))) + centre).astype(np.uint8, copy=False)


def _modes(z: Bytes, counts: Array) -> tuple[Array, Array, Array]:
    """For each block the mode of the fewest bits, the bits of its unary codes, and the bytes of its
    low bits.
    """
    if (counts == BLOCK).all():
        blocks = z.reshape(-1, BLOCK)
    else:
        blocks = np.zeros((len(counts), BLOCK), np.uint8)
        blocks[np.arange(BLOCK) < counts[:, None]] = z
    grown = UNARY[GROWING].astype(np.uint8)[blocks]
    unary = np.zeros((8, len(counts)), np.int64)
    low = np.zeros((8, len(counts)), np.int64)
    unary[GROWING] = counts + _sums(grown)
    low[GROWING] = -(-_sums(np.minimum(grown, 7)) // 8)
    for k in SHIFTS:
        unary[k] = counts + _sums(blocks >> k)
        low[k] = -(-k * counts // 8)
    low[WHOLE] = counts
    low[SAME, blocks.any(1)] = 1 << 20
    modes = (unary + 8 * low).argmin(0)
    each = np.arange(len(counts))
    return modes, unary[modes, each], low[modes, each]


def _sums(blocks: Array) -> Array:
    """The sum of each row of bytes."""
    return blocks.sum(1, dtype=np.uint16).astype(np.int64)


def bits(array: Array, row: int, centre: Sequence[int]) -> int:
    """The bits of a stream of elements but for `HEADER` and centres, before the sections are filled
    to bytes. Streams of some rows each have as many together.
    """
    data = bytes_of(array)
    blocks = Blocks.of(len(data), row, array.itemsize)
    z = _numbers(data, row, blocks, centre)
    _, unary, low = _modes(z, blocks.counts)
    return int(MODE_BITS * len(blocks.counts) + unary.sum() + 8 * low.sum())


def size(array: Array, row: int, centre: Sequence[int]) -> int:
    """The least bytes of streams that have all rows of an array."""
    return HEADER + array.itemsize - (-bits(array, row, centre) // 8)


def _numbers(data: Bytes, row: int, blocks: Blocks, centre: Sequence[int]) -> Bytes:
    """z of each byte in the order of the stream."""
    if len(centre) == 1:
        return _number(data.reshape(-1), centre[0])
    each = np.array(centre, np.uint8)[blocks.planes].repeat(blocks.counts)
    return _number(_in_planes(data, row), each)


# --- encoding -------------------------------------------------------------------------------------


def encode(array: Array, row: int, centre: Sequence[int]) -> Bytes:
    """The stream of elements in rows of `row`; the last one may be shorter."""
    data = bytes_of(array)
    blocks = Blocks.of(len(data), row, array.itemsize)
    z = _numbers(data, row, blocks, centre)
    modes, _, low = _modes(z, blocks.counts)
    of_bytes = modes.astype(np.uint8).repeat(blocks.counts)
    chosen = np.unpackbits(modes.astype(np.uint8)[:, None], axis=1)[:, 8 - MODE_BITS :].reshape(-1)
    codes = _unary_bits(_unary_codes(z, of_bytes))
    head = np.packbits(np.concatenate([chosen, codes]))
    start = HEADER + len(centre) + len(head)
    header = [start & 255, start >> 8 & 255, start >> 16, *centre]
    tail = _low_bits(z, modes, blocks.counts, low)
    return np.concatenate([np.array(header, np.uint8), head, tail])


def _unary_codes(z: Bytes, modes: Bytes) -> Bytes:
    """The numbers that have unary codes, of bytes and their modes."""
    coded = z >> modes
    grown = modes == GROWING
    if grown.any():
        coded[grown] = UNARY[GROWING].astype(np.uint8)[z[grown]]
    kept = IS_CODED[modes]
    return coded if kept.all() else coded[kept]


def _unary_bits(numbers: Bytes) -> Bytes:
    ends = np.cumsum(numbers, dtype=np.int64)
    ends += np.arange(len(ends))
    found = np.ones(int(ends[-1]) + 1 if len(ends) else 0, np.uint8)
    found[ends] = 0
    return found


def _low_bits(z: Bytes, modes: Array, counts: Array, low: Array) -> Bytes:
    """The low bits of all blocks."""
    found = np.zeros(int(low.sum()), np.uint8)
    first: Array = np.cumsum(low) - low
    starts: Array = np.cumsum(counts) - counts
    for mode in (GROWING, *SHIFTS, WHOLE):
        for count in np.flatnonzero(np.bincount(counts[modes == mode])):
            which: Array = np.flatnonzero((modes == mode) & (counts == count))
            packed = _packed(z[starts[which][:, None] + np.arange(count)], mode)
            begins: Array = first[which]
            places = cast(Array, begins[:, None] + np.arange(packed.shape[1]))
            if mode == GROWING:  # each block has its own number of bytes
                kept = places < (begins + low[which])[:, None]
                places, packed = places[kept], packed[kept]
            found[places] = packed
    return found


def _packed(z: Bytes, mode: int) -> Bytes:
    """The low bits of blocks of one mode and length, [blocks, bytes]."""
    if mode == WHOLE:
        return z
    bits = np.unpackbits(LOW[mode].astype(np.uint8)[z][..., None], axis=-1)
    if mode != GROWING:
        return np.packbits(bits[..., 8 - mode :].reshape(len(z), -1), axis=1)
    widths = WIDTHS[mode][z]
    kept = np.arange(8) >= 8 - widths[..., None]
    ends = np.cumsum(widths, axis=1)
    found = np.zeros((len(z), 8 * z.shape[1]), np.uint8)
    row = np.arange(len(z)).repeat(ends[:, -1])
    within = np.arange(len(row)) - (np.cumsum(ends[:, -1]) - ends[:, -1]).repeat(ends[:, -1])
    found[row, within] = bits[kept]
    return np.packbits(found, axis=1)


# --- decoding -------------------------------------------------------------------------------------


def decode(data: Bytes, elements: int, row: int, itemsize: int) -> Bytes:
    """The bytes [elements, itemsize] of elements in rows of `row`."""
    return Decoder.of(data, elements, row, itemsize).elements()


def length(data: Bytes, elements: int, row: int, itemsize: int) -> int:
    """The bytes that a stream of these elements has, by its header and its codes."""
    return Decoder.of(data, elements, row, itemsize).length


@dataclass(frozen=True)
class Decoder:
    """A stream with its sections found."""

    data: Bytes
    count: int
    row: int
    itemsize: int
    blocks: Blocks
    modes: Array
    numbers: Array
    """The unary code of each byte, 0 where its mode has none."""
    start: int
    """Of the low bits in bytes."""

    @staticmethod
    def of(data: Bytes, elements: int, row: int, itemsize: int) -> Decoder:
        """Finds the sections."""
        blocks = Blocks.of(elements, row, itemsize)
        start = sum(int(b) << 8 * k for k, b in enumerate(data[:HEADER]))
        first = 8 * (HEADER + itemsize)
        many = MODE_BITS * len(blocks.counts)
        triples = _bits(data, first, many).reshape(-1, MODE_BITS)
        modes = triples @ (1 << np.arange(MODE_BITS)[::-1])
        coded = IS_CODED[modes].repeat(blocks.counts)
        numbers = np.zeros(int(blocks.counts.sum()), np.int64)
        numbers[coded] = _unary(data, first + many, start, int(coded.sum()))
        return Decoder(data, elements, row, itemsize, blocks, modes, numbers, start)

    def elements(self) -> Bytes:
        """The bytes of the elements, [elements, itemsize]."""
        z = self._z().astype(np.uint8)
        kept = np.zeros(self.itemsize, np.uint8)
        found = self.data[HEADER : HEADER + self.itemsize]
        kept[: len(found)] = found
        data = _byte(z, kept[self.blocks.planes].repeat(self.blocks.counts))
        return _from_planes(data, self.count, self.row, self.itemsize)

    @property
    def length(self) -> int:
        """Bytes of the stream."""
        return self.start + int(self._low().sum())

    def _widths(self) -> Array:
        modes = self.modes.repeat(self.blocks.counts)
        return np.where(modes == GROWING, np.minimum(self.numbers, 7), WIDTHS[modes, 0])

    def _low(self) -> Array:
        """Bytes of each block's low bits."""
        if not len(self.modes):
            return self.modes
        starts = np.cumsum(self.blocks.counts) - self.blocks.counts
        return -(-np.add.reduceat(self._widths(), starts) // 8)

    def _z(self) -> Array:
        widths = self._widths()
        places = self._places(widths)
        first = np.minimum(places >> 3, len(self.data))
        padded = np.concatenate([self.data, np.zeros(2, np.uint8)]).astype(np.int64)
        pairs = padded[first] << 8 | padded[first + 1]
        low = pairs >> (16 - (places & 7) - widths) & ((1 << widths) - 1)
        modes = self.modes.repeat(self.blocks.counts)
        base = np.where(modes == GROWING, (1 << np.minimum(self.numbers, 8)) - 1, 0)
        shifted = self.numbers << np.where(IS_CODED[modes] & (modes != GROWING), modes, 0)
        return np.where(modes == GROWING, base, shifted) + low

    def _places(self, widths: Array) -> Array:
        """The first bit of each byte's low bits."""
        counts, low = self.blocks.counts, self._low()
        before = np.cumsum(widths) - widths
        starts = np.cumsum(counts) - counts
        moved = 8 * (self.start + np.cumsum(low) - low) - before[starts]
        return before + moved.repeat(counts)


def _bits(data: Bytes, first: int, count: int) -> Bytes:
    """So many bits from a place on; zeros beyond the end."""
    part = np.unpackbits(data[first >> 3 : (first + count + 7) >> 3])[first & 7 :][:count]
    return np.concatenate([part, np.zeros(count - len(part), np.uint8)])


def _unary(data: Bytes, first: int, stop: int, count: int) -> Array:
    """So many numbers in the unary code from a bit on, likely before byte `stop`."""
    for end in (max(8 * min(stop, len(data)), first), max(8 * len(data), first)):
        zeros = np.flatnonzero(_bits(data, first, end - first) == 0)
        if len(zeros) >= count:
            break
    else:
        beyond = np.arange(end - first, end - first + count - len(zeros))
        zeros = np.concatenate([zeros, beyond])
    return np.diff(zeros[:count], prepend=-1) - 1
