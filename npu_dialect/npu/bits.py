"""Bit strings, least significant bit first, for the instruction encoding."""

from __future__ import annotations


class BitWriter:
    """Collects fields; `bytes` pads to whole 32-bit words."""

    def __init__(self) -> None:
        self._value = 0
        self._length = 0

    def write(self, value: int, width: int, signed: bool = False) -> None:
        """Appends `width` bits, two's complement when `signed`. Raises ValueError where `value`
        does not fit.
        """
        low, high = (-(1 << (width - 1)), 1 << (width - 1)) if signed else (0, 1 << width)
        if not low <= value < high:
            kind = "two's complement" if signed else "unsigned"
            raise ValueError(f"a field of {width} bits ({kind}) must hold its value, found {value}")
        self._value |= (value & ((1 << width) - 1)) << self._length
        self._length += width

    def bytes(self) -> bytes:
        words = -(-self._length // 32)
        return self._value.to_bytes(4 * words, "little")


class BitReader:
    """Takes fields off in the order they were written."""

    def __init__(self, data: bytes) -> None:
        self._value = int.from_bytes(data, "little")
        self._left = 8 * len(data)

    def read(self, width: int, signed: bool = False) -> int:
        """The next field. Raises ValueError past the end."""
        if width > self._left:
            raise ValueError("an instruction must be whole, found its end in the middle of a field")
        value = self._value & ((1 << width) - 1)
        self._value >>= width
        self._left -= width
        return value - (1 << width) if signed and value >> (width - 1) else value
