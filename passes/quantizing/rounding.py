"""Rounding of weights such that the sums they make, not the weights, are near the real ones.

For inputs x and weights w of a layer, with stored integers q and scales s by output channel, the
squared error of the sums over the samples is

    E[(x (s q) - x w)^2] = (s q - w)^T H (s q - w)          H = E[x^T x]

with inputs less their mean, as a bias follows. (Other real weights than those of the layer would
make up for errors of x; tried, and worse on new samples.) The integers are found as in GPTQ
(Frantar et al., 2023: one input after the other is rounded to nearest, and the error is spread over
those that follow, by the Cholesky factor of the inverse of H), and then improved by coordinate
descent (each integer in turn the best one for the others as they are) until none changes. Both
minimize the objective of AdaRound (Nagel et al., 2020, equation 10) directly, where that relaxes
it; all output channels at once.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Floats = npt.NDArray[np.float64]
Settle = Callable[..., Floats]

BLOCK = 64
"""Inputs whose errors are spread among each other at once, and then over all others."""


def damped(gram: Floats, share: float) -> Floats:
    """H [groups, K, K] with a share of its mean diagonal added: what few samples leave open is
    decided by the weights themselves. Inputs that are always zero count as much.
    """
    size = gram.shape[-1]
    mean = np.trace(gram, axis1=-2, axis2=-1)[:, None, None] / size
    return gram + np.eye(size) * np.maximum(share * mean, 1e-12)


def round_to_grid(
    target: Floats, gram: Floats, scales: Floats, low: int, high: int, sweeps: int
) -> npt.NDArray[np.int64]:
    """The stored integers [groups, K, N] of weights near `target` in the norm of `gram`.

    `scales` [groups, 1 or K, N] are the steps of the grid; at most `sweeps` of coordinate descent,
    which starts from what is better by output channel, spread errors or the nearest integers.
    Weights that are zero stay so: they were pruned.
    """
    scales = np.broadcast_to(scales, target.shape)
    kept = target != 0

    def settle(left: Floats, steps: Floats, kept: Floats) -> Floats:
        return np.where(kept, np.clip(np.rint(left / steps), low, high) * steps, 0.0)

    nearest = settle(target, scales, kept)
    spread = spread_errors(target, gram, settle, scales, kept)
    better = error(spread, target, gram) < error(nearest, target, gram)
    stored = np.rint(np.where(better[:, None, :], spread, nearest) / scales)
    limits = np.where(kept, float(low), 0.0), np.where(kept, float(high), 0.0)
    return _descend(stored, target, gram, scales, limits, np.rint, sweeps).astype(np.int64)


def refit(target: Floats, gram: Floats, kept: Array, sweeps: int) -> Floats:
    """Real weights [groups, K, N] near `target` in the norm of `gram`, zero where they are not
    `kept`; at most `sweeps` of coordinate descent, which goes on to the least squares.
    """
    start = spread_errors(target, gram, lambda left, kept: left * kept, kept)
    limits = np.where(kept, -np.inf, 0.0), np.where(kept, np.inf, 0.0)
    return _descend(start, target, gram, np.ones_like(target), limits, np.asarray, sweeps)


def error(weights: Floats, target: Floats, gram: Floats) -> Floats:
    """The squared error of the sums by output channel, [groups, N]."""
    off = weights - target
    return np.sum(off * (gram @ off), axis=1)


def spread_errors(target: Floats, gram: Floats, settle: Settle, *beside: Array) -> Floats:
    """Weights [groups, K, N] that are settled one input after the other, in the order of their
    power; the error of each is spread over those that follow. `settle` gives the weights of one
    input [groups, N] from what they are by then, and its rows of `beside` [groups, K, N].
    """
    order = np.argsort(-np.diagonal(gram, axis1=-2, axis2=-1), axis=-1)
    undo = np.argsort(order, axis=-1)[..., None]
    rows = np.take_along_axis(gram, order[..., None], 1)
    upper = _inverse_factor(np.take_along_axis(rows, order[:, None], 2))
    left = np.take_along_axis(target, order[..., None], 1)
    others = [np.take_along_axis(each, order[..., None], 1) for each in beside]
    settled = np.empty_like(left)
    size = left.shape[1]
    for first in range(0, size, BLOCK):
        last = min(first + BLOCK, size)
        errors = np.empty((len(left), last - first, left.shape[2]))
        for k in range(first, last):
            settled[:, k] = settle(left[:, k], *(each[:, k] for each in others))
            off = (left[:, k] - settled[:, k]) / upper[:, k, k, None]
            left[:, k + 1 : last] -= upper[:, k, k + 1 : last, None] * off[:, None]
            errors[:, k - first] = off
        left[:, last:] -= upper[:, first:last, last:].transpose(0, 2, 1) @ errors
    return np.take_along_axis(settled, undo, 1)


def _inverse_factor(gram: Floats) -> Floats:
    """The upper Cholesky factor U of the inverse: H^-1 = U^T U."""
    inverse = np.linalg.inv(gram)
    symmetric = (inverse + inverse.transpose(0, 2, 1)) / 2
    return np.asarray(np.linalg.cholesky(symmetric), np.float64).transpose(0, 2, 1)


def _descend(
    stored: Floats,
    target: Floats,
    gram: Floats,
    scales: Floats,
    limits: tuple[Floats, Floats],
    whole: Callable[[Floats], Floats],
    sweeps: int,
) -> Floats:
    """Each number in turn becomes the best for the others, until none changes."""
    off = stored * scales - target
    slope = gram @ off
    diagonal = np.diagonal(gram, axis1=-2, axis2=-1)
    size, (low, high) = stored.shape[1], limits
    for _ in range(sweeps):
        changed = 0
        for first in range(0, size, BLOCK):
            last = min(first + BLOCK, size)
            inside = gram[:, first:last, first:last]
            moves = np.zeros((len(stored), last - first, stored.shape[2]))
            local = slope[:, first:last].copy()
            for k in range(first, last):
                j = k - first
                wanted = stored[:, k] - local[:, j] / (diagonal[:, k, None] * scales[:, k])
                best = np.clip(whole(wanted), low[:, k], high[:, k])
                move = (best - stored[:, k]) * scales[:, k]
                stored[:, k] = best
                moves[:, j] = move
                local += inside[:, :, j, None] * move[:, None]
            changed += int(np.count_nonzero(moves))
            slope += gram[:, :, first:last] @ moves
        if not changed:
            break
    return stored
