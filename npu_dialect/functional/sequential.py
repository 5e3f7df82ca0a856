"""Float32 sums of products in a stated order.

Each output is its start value, to which the products are added in ascending order of the summed
index; every product and every sum is rounded to float32. Vectorised over the outputs, never over
the sum.
"""

from __future__ import annotations

import numpy as np

from npu_dialect.functional.windows import Array

WORK = 16384
"""Outputs computed at a time: the sums and one array of products stay in a second-level cache."""
RUN = 2048
"""Outputs of one row computed at a time."""
PRODUCTS = 65536
"""Products formed by one call when there are few outputs."""


def add_products(a: Array, b: Array, sums: Array) -> None:
    """sums[n, p, q] += a[k, n, p] * b[k, n, q] for k = 0, 1, ...; fastest where q is longest."""
    _, batch, rows = a.shape
    columns = b.shape[2]
    if not sums.size:
        return
    run = min(columns, RUN)
    height = min(rows, max(1, WORK // max(run, 1)))
    depth = min(batch, max(1, WORK // max(run * height, 1)))
    for n in range(0, batch, depth):
        for p in range(0, rows, height):
            left = a[:, n : n + depth, p : p + height, None]
            for q in range(0, columns, run):
                right = b[:, n : n + depth, None, q : q + run]
                _add_block(left, right, sums[n : n + depth, p : p + height, q : q + run])


def _add_block(left: Array, right: Array, sums: Array) -> None:
    total = sums if sums.flags.c_contiguous else np.ascontiguousarray(sums)
    length = len(left)
    step = max(1, min(length, PRODUCTS // max(total.size, 1)))
    products = np.empty((step, *total.shape), np.float32)
    rows = list(products)
    for k in range(0, length, step):
        count = min(step, length - k)
        np.multiply(left[k : k + count], right[k : k + count], out=products[:count])
        for row in rows[:count]:
            np.add(total, row, out=total)
    if total is not sums:
        sums[...] = total


def fold(operation: np.ufunc, rows: Array, start: float) -> Array:
    """((start . rows[:, 0]) . rows[:, 1]) ...: [P, R] to [P], rounded after each operation."""
    result = np.empty(len(rows), np.float32)
    height = max(1, PRODUCTS // (rows.shape[1] + 1))
    for p in range(0, len(rows), height):
        block = np.insert(rows[p : p + height], 0, start, axis=1)
        result[p : p + height] = operation.accumulate(block, axis=1, out=block)[:, -1]
    return result
