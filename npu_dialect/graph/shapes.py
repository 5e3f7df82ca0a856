"""Arithmetic on shapes. A ValueError says what must hold and what was found."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

Shape = tuple[int, ...]


@lru_cache(maxsize=65536)
def broadcast(*shapes: Shape) -> Shape:
    """The shape that `shapes` broadcast to, as numpy does it."""
    rank = max(map(len, shapes))
    padded = [(1,) * (rank - len(s)) + s for s in shapes]
    return tuple(_common(column, shapes) for column in zip(*padded, strict=True))


def _common(sizes: Sequence[int], shapes: Sequence[Shape]) -> int:
    found = {s for s in sizes if s != 1}
    if len(found) > 1:
        texts = " and ".join(str(list(s)) for s in shapes)
        raise ValueError(f"shapes must broadcast together; found {texts}")
    return found.pop() if found else 1


def same_elements(before: Sequence[int], after: Sequence[int]) -> list[tuple[range, range]]:
    """The smallest runs of dimensions with equal products, in order; no extent may be 0."""
    found: list[tuple[range, range]] = []
    i = j = 0
    while i < len(before) or j < len(after):
        first_i, first_j = i, j
        left, i = (before[i], i + 1) if i < len(before) else (1, i)
        right, j = (after[j], j + 1) if j < len(after) else (1, j)
        while left != right:
            if left < right:
                left, i = left * before[i], i + 1
            else:
                right, j = right * after[j], j + 1
        found.append((range(first_i, i), range(first_j, j)))
    return found


def size(shape: Shape) -> int:
    """The number of elements."""
    count = 1
    for dim in shape:
        count *= dim
    return count


def check_axis(axis: int, rank: int) -> int:
    """`axis`, which must name one of `rank` dimensions, counted from 0."""
    if not 0 <= axis < rank:
        raise ValueError(f"the axis must lie in 0..{rank - 1} for {rank} dimensions; found {axis}")
    return axis


def check_axes(axes: Shape, rank: int) -> Shape:
    """`axes`, which must be ascending without repetition."""
    for axis in axes:
        check_axis(axis, rank)
    if list(axes) != sorted(set(axes)):
        raise ValueError(f"axes must ascend without repetition; found {list(axes)}")
    return axes


def check_length(what: str, found: Shape, length: int) -> Shape:
    """`found`, which must have `length` entries."""
    if len(found) != length:
        raise ValueError(f"{what} must have {length} entries; found {list(found)}")
    return found


def check_least(what: str, found: Shape, least: int) -> Shape:
    """`found`, of which every entry must be at least `least`."""
    if any(f < least for f in found):
        raise ValueError(f"{what} must be at least {least}; found {list(found)}")
    return found


@lru_cache(maxsize=65536)
def window_shape(
    spatial: Shape, kernel: Shape, strides: Shape, pads: Shape, dilations: Shape
) -> Shape:
    """Height and width after sliding a window; `pads` are top, left, bottom, right."""
    check_least("the window", check_length("the window", kernel, 2), 1)
    check_least("strides", check_length("strides", strides, 2), 1)
    check_least("dilations", check_length("dilations", dilations, 2), 1)
    check_least("pads", check_length("pads", pads, 4), 0)
    out: list[int] = []
    for i in range(2):
        padded = spatial[i] + pads[i] + pads[i + 2]
        reach = (kernel[i] - 1) * dilations[i] + 1
        if reach > padded:
            raise ValueError(
                f"the window must fit the padded input; found a reach of {reach} over {padded} in "
                f"dimension {i + 1}"
            )
        out.append((padded - reach) // strides[i] + 1)
    return tuple(out)
