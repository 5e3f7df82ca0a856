"""Einstein sums: traces, sums and products of tensors whose dimensions have labels."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import prod

from npu_dialect import graph
from npu_dialect.frontends.onnx.ops import common
from npu_dialect.frontends.onnx.ops.common import Builder, Misfit, SSAValue, dtype_of, shape_of
from npu_dialect.frontends.onnx.registry import op

TERM = re.compile(r"[A-Za-z]*(\.\.\.)?[A-Za-z]*")


@dataclass(frozen=True)
class Labelled:
    """A tensor and the label of each of its dimensions."""

    value: SSAValue
    labels: tuple[str, ...]

    def size(self, label: str) -> int:
        """The extent along a label."""
        return shape_of(self.value)[self.labels.index(label)]


@op("Einsum")
def einsum(b: Builder, *xs: SSAValue, equation: str) -> SSAValue:
    """The factors are multiplied from left to right; what no one needs any more is summed."""
    terms, result = _parse(equation, [len(shape_of(x)) for x in xs])
    factors = [_diagonal(b, Labelled(x, t)) for x, t in zip(xs, terms, strict=True)]
    factors = _without_broadcast(b, factors)
    total, *rest = factors
    total = _summed(b, total, _needed(rest, result))
    for k, factor in enumerate(rest):
        needed = _needed(rest[k + 1 :], result)
        total = _product(b, total, _summed(b, factor, needed | {*total.labels}), needed)
    return common.transpose(b, total.value, [total.labels.index(label) for label in result])


def _needed(factors: Iterable[Labelled], result: Iterable[str]) -> set[str]:
    return {*result}.union(*(factor.labels for factor in factors))


# The equation


def _parse(equation: str, ranks: Sequence[int]) -> tuple[list[tuple[str, ...]], tuple[str, ...]]:
    """The labels of the factors and of the result; those of `...` are numbers, "0" the last."""
    left, arrow, right = equation.replace(" ", "").partition("->")
    terms = left.split(",")
    if len(terms) != len(ranks) or not all(TERM.fullmatch(term) for term in (*terms, right)):
        raise Misfit(f"the equation {equation!r} for {len(ranks)} tensors")
    labels = [_labels(term, rank) for term, rank in zip(terms, ranks, strict=True)]
    hidden = max(sum(label.isdigit() for label in term) for term in labels)
    if not arrow:
        return labels, _implied(labels, hidden)
    result = _labels(right, len(right.replace("...", "")) + ("..." in right) * hidden)
    if len(set(result)) != len(result) or not {*result} <= {*"".join(terms), *_dots(hidden)}:
        raise Misfit(f"the equation {equation!r}")
    return labels, result


def _labels(term: str, rank: int) -> tuple[str, ...]:
    first, dots, last = term.partition("...")
    hidden = rank - len(first) - len(last)
    if hidden < 0 or (hidden and not dots):
        raise Misfit(f"the labels {term!r} of a tensor of rank {rank}")
    return (*first, *_dots(hidden), *last)


def _dots(count: int) -> tuple[str, ...]:
    return tuple(str(k) for k in reversed(range(count)))


def _implied(terms: Sequence[Sequence[str]], hidden: int) -> tuple[str, ...]:
    """Without an arrow: the dimensions of `...`, then the labels that occur once, in order."""
    counts = Counter(label for term in terms for label in term if not label.isdigit())
    return (*_dots(hidden), *sorted(label for label, n in counts.items() if n == 1))


# The factors


def _diagonal(b: Builder, x: Labelled) -> Labelled:
    """A label that a factor has twice: its diagonal, the last dimension of the result."""
    twice = next((label for label, n in Counter(x.labels).items() if n > 1), None)
    if twice is None:
        return x
    first, second = [k for k, label in enumerate(x.labels) if label == twice][:2]
    others = [k for k in range(len(x.labels)) if k not in (first, second)]
    shape = shape_of(x.value)
    size = shape[first]
    if size != shape[second]:
        raise Misfit(f"the diagonal of {size} by {shape[second]}")
    outer = [shape[k] for k in others]
    rows = common.transpose(b, x.value, [*others, first, second])
    rows = common.reshape(b, rows, (prod(outer), size * size))
    diagonal = common.along(b, rows, 1, 0, size, size + 1)
    labels = (*(x.labels[k] for k in others), twice)
    return _diagonal(b, Labelled(common.reshape(b, diagonal, (*outer, size)), labels))


def _without_broadcast(b: Builder, factors: Sequence[Labelled]) -> list[Labelled]:
    """Dimensions of 1 that another factor makes larger are left out."""
    sizes: dict[str, int] = {}
    for factor in factors:
        for label, size in zip(factor.labels, shape_of(factor.value), strict=True):
            if size != 1 and sizes.get(label, 1) not in (1, size):
                raise Misfit(f"{size} and {sizes[label]} elements along {label}")
            sizes[label] = size if sizes.get(label, 1) == 1 else sizes[label]
    return [_squeezed(b, factor, sizes) for factor in factors]


def _squeezed(b: Builder, x: Labelled, sizes: dict[str, int]) -> Labelled:
    kept = [label for label in x.labels if x.size(label) == sizes[label]]
    value = common.reshape(b, x.value, [sizes[label] for label in kept])
    return Labelled(value, tuple(kept))


def _summed(b: Builder, x: Labelled, needed: set[str]) -> Labelled:
    """Without the labels that are not needed."""
    axes = [k for k, label in enumerate(x.labels) if label not in needed]
    value = common.reduce(b, graph.ReduceSumOp, x.value, axes, 0)
    return Labelled(value, tuple(label for label in x.labels if label in needed))


# Products


def _product(b: Builder, x: Labelled, y: Labelled, needed: set[str]) -> Labelled:
    """x * y, summed over the labels of both that are not needed."""
    shared = [label for label in x.labels if label in y.labels]
    inner = [label for label in shared if label not in needed]
    batch = [label for label in shared if label in needed]
    left = [label for label in x.labels if label not in y.labels]
    right = [label for label in y.labels if label not in x.labels]
    rows, columns = _ordered(b, x, batch, left, inner), _ordered(b, y, batch, inner, right)
    if inner and dtype_of(x.value).is_float:
        value = b.emit(graph.MatmulOp(rows, columns))
    else:
        value = _sum_of_products(b, rows, columns)
    labels = (*batch, *left, *right)
    sizes = [x.size(label) if label in x.labels else y.size(label) for label in labels]
    return Labelled(common.reshape(b, value, sizes), labels)


def _ordered(b: Builder, x: Labelled, *groups: Sequence[str]) -> SSAValue:
    """`x` with one dimension for each group of labels."""
    order = [x.labels.index(label) for group in groups for label in group]
    sizes = [prod(x.size(label) for label in group) for group in groups]
    return common.reshape(b, common.transpose(b, x.value, order), sizes)


def _sum_of_products(b: Builder, x: SSAValue, y: SSAValue) -> SSAValue:
    """A matrix product by multiplication, for types that the array has no products of."""
    (batch, rows, inner), columns = shape_of(x), shape_of(y)[2]
    x = common.reshape(b, x, (batch, rows, inner, 1))
    y = common.reshape(b, y, (batch, 1, inner, columns))
    return common.reduce(b, graph.ReduceSumOp, common.mul(b, x, y), (2,), 0)
