"""Strided blocks: fewer dimensions for the same elements, and loops over what is left of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from npu_dialect.runtime.compiled.builder import Function, Value, Whole

RANK = 5
"""Most dimensions of an operand."""

End = tuple[Value, Sequence[Value]]
"""An address and the strides of the dimensions."""


def merged(dims: Sequence[int], *strides: Sequence[int]) -> tuple[list[int], list[list[int]]]:
    """The same elements with as few dimensions as possible: those of extent 1 left out, neighbours
    joined where every list of strides allows it.
    """
    kept_dims: list[int] = []
    kept: list[list[int]] = [[] for _ in strides]
    for axis, extent in enumerate(dims):
        if extent == 1:
            continue
        steps = [s[axis] for s in strides]
        if kept_dims and all(k[-1] == extent * step for k, step in zip(kept, steps, strict=True)):
            kept_dims[-1] *= extent
            for k, step in zip(kept, steps, strict=True):
                k[-1] = step
            continue
        kept_dims.append(extent)
        for k, step in zip(kept, steps, strict=True):
            k.append(step)
    return kept_dims, kept


def padded(items: Sequence[int], fill: int, size: int = RANK) -> list[int]:
    """`items` with `fill` in front, to `size` of them."""
    return [fill] * (size - len(items)) + list(items)


def product(f: Function, extents: Sequence[Value]) -> Whole:
    """The product of some i64 values."""
    total: Whole = 1
    for extent in extents:
        total = f.mul(total, extent)
    return total


def moved(f: Function, index: Value, dims: Sequence[Value], ends: Sequence[End]) -> list[Value]:
    """Each (address, strides) moved to position number `index` of `dims`, counted row-major."""
    rest, places = index, list[Value]()
    for number, extent in enumerate(reversed(dims), 1):
        if number == len(dims):
            places.append(rest)
            break
        places.append(f.b.urem(rest, extent))
        rest = f.b.udiv(rest, extent)
    found: list[Value] = []
    for pointer, strides in ends:
        for place, stride in zip(reversed(places), strides, strict=False):
            pointer = f.at(pointer, f.mul(place, stride))
        found.append(pointer)
    return found


def each_stretch(
    f: Function,
    dims: Sequence[Value],
    inner: Value,
    ends: Sequence[End],
    body: Callable[[Sequence[Value], Value, Value], None],
) -> None:
    """A thread's share of all positions of `dims` times `inner`: body(addresses, first, last) for
    each position of `dims`, at whose `addresses` the pieces [first, last) of `inner` are its own.

    `inner` is not 0; `dims` may hold a 0.
    """
    low, high = f.share(f.mul(product(f, dims), inner), f["thread"], f["threads"])

    def position(index: Value, _: list[Value]) -> None:
        before = f.mul(index, inner)
        first, last = f.max(f.sub(low, before), 0), f.min(f.sub(high, before), inner)
        body(moved(f, index, dims, ends), first, last)

    end = f.div(f.add(high, f.sub(inner, 1)), inner)
    f.loop(f.div(low, inner), end, position)


def transposed(f: Function, rows: Sequence[Value]) -> list[Value]:
    """The columns of a square of n vectors of n elements, n a power of two."""
    n = len(rows)
    low = [lane for i in range(n // 2) for lane in (i, n + i)]
    high = [lane + n // 2 for lane in low]
    rows = list(rows)
    for _ in range(n.bit_length() - 1):
        pairs = zip(rows[: n // 2], rows[n // 2 :], strict=True)
        rows = [f.shuffle(a, b, lanes) for a, b in pairs for lanes in (low, high)]
    return rows
