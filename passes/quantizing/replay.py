"""A function run on many samples at once, operation by operation, so that a pass can look at, and
change, what is computed while later operations have yet to run.

    replay = Replay(function, arguments(function, samples))
    for op in replay:
        replay.values[op.results[0]]        the result of each sample
    replay.returned

Float contractions are computed with the host's matrix products: sums are added up in another order
than `evaluate` states, which is near enough to measure with, and many times faster.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from xdsl.dialects.func import FuncOp, ReturnOp
from xdsl.ir import Operation, SSAValue

from npu_dialect import dtypes, graph
from npu_dialect.diagnostics import Code, error
from npu_dialect.graph import interpret
from npu_dialect.graph.attributes import four, pair
from npu_dialect.graph.base import GraphOp, dtype_of, shape_of, type_of
from npu_dialect.graph.states import arguments_with, initial_of, states_of
from npu_dialect.passes.quantizing import calibration
from npu_dialect.ports import Array, Inputs, bind

Arguments = Sequence[Sequence[Array]]
"""The arguments of a function, for each sample."""


def samples(function: FuncOp, path: str, source: str) -> list[list[Array]]:
    """The arguments of a function for each sample of a file. Raises CompileError for a pass
    `source` without a file, a file that does not fit, and no samples.
    """
    if not path:
        raise error(
            Code.OPTION,
            "must be given samples",
            found="none",
            remedy=f'{source}{{samples="samples.npz"}}',
            source=source,
        )
    found = arguments(function, calibration.samples_of(path, calibration.ports_of(function)))
    if not found:
        raise error(Code.OPTION, "there must be samples", found="none", source=str(path))
    return found


def arguments(function: FuncOp, given: Iterable[Inputs]) -> list[list[Array]]:
    """The arguments of a function for each sample. States have the contents that the function
    itself leaves in them from sample to sample.
    """
    states, ports = states_of(function), calibration.ports_of(function)
    contents = {
        s.name: initial_of(function, s, type_of(function.args[s.argument]))
        for s in states
        if s.argument is not None
    }
    found: list[list[Array]] = []
    for sample in given:
        found.append(arguments_with(function, bind(ports, sample), contents))
        if states:
            outputs = interpret.run(function, found[-1])
            contents |= {s.name: outputs[s.result] for s in states if s.result is not None}
    return found


@dataclass
class Replay:
    """Runs a function. `values` has what is known and still needed, by sample."""

    function: FuncOp
    arguments: Arguments

    def __post_init__(self) -> None:
        block = self.function.body.block
        self.values: dict[SSAValue, list[Array]] = {
            arg: [np.asarray(sample[k]) for sample in self.arguments]
            for k, arg in enumerate(block.args)
        }
        self.returned: list[list[Array]] = []
        """The results of the function, for each sample, at the end."""
        self._left = Counter(v for op in block.ops for v in op.operands)

    def __iter__(self) -> Iterator[Operation]:
        """Gives every operation after it was evaluated, while its operands are still known."""
        for op in self.function.body.block.ops:
            if isinstance(op, ReturnOp):
                columns = [self.values[v] for v in op.operands]
                self.returned = [list(row) for row in zip(*columns, strict=True)]
                return
            self.evaluate(op)
            yield op
            self._forget(op)

    def evaluate(self, op: Operation) -> None:
        """Computes the results of an operation from its operands as they are now."""
        for value in op.operands:
            if value not in self.values and isinstance(value.owner, Operation):
                self.evaluate(value.owner)  # a constant that was put there meanwhile
        columns = [self.values[v] for v in op.operands]
        count = len(self.arguments)
        if all(_is_same(column) for column in columns):
            rows = [list(evaluate(op, [column[0] for column in columns]))] * count
        else:
            rows = [list(evaluate(op, row)) for row in zip(*columns, strict=True)]
        for k, result in enumerate(op.results):
            self.values[result] = [row[k] for row in rows]

    def _forget(self, op: Operation) -> None:
        for value in op.operands:
            self._left[value] -= 1
        for value in (*op.operands, *op.results):
            if self._left[value] <= 0:
                self.values.pop(value, None)


def _is_same(column: Sequence[Array]) -> bool:
    """Whether all samples have the same array, as constants do."""
    return len(column) > 0 and all(array is column[0] for array in column)


def run(function: FuncOp, given: Arguments) -> list[list[Array]]:
    """The results of a function for each sample."""
    replay = Replay(function, given)
    for _ in replay:
        pass
    return replay.returned


# --- float contractions ---------------------------------------------------------------------------


def evaluate(op: Operation, operands: Sequence[Array]) -> Sequence[Array]:
    """The results of an operation; of float contractions, sums in the host's order."""
    is_real = bool(op.operands) and dtype_of(op.operands[0]) is dtypes.f32
    if is_real and isinstance(op, graph.MatmulOp | graph.Conv2DOp):
        return (contraction(op, *operands),)
    assert isinstance(op, GraphOp), op.name
    return op.evaluate(*operands)


def contraction(
    op: graph.MatmulOp | graph.Conv2DOp, x: Array, w: Array, bias: Array | None = None
) -> Array:
    """The result of a float contraction with the attributes of `op`."""
    sums = np.matmul(x, w) if isinstance(op, graph.MatmulOp) else _convolved(op, x, w)
    found = sums if bias is None else sums + bias
    return np.ascontiguousarray(found, np.float32).reshape(shape_of(op.result))


def windows(op: graph.Conv2DOp, x: Array) -> Array:
    """A view of the input of a convolution [N, OH, OW, C, KH, KW], padding included."""
    (top, left, bottom, right), (sh, sw) = four(op.pads), pair(op.strides)
    (dh, dw), (kh, kw) = pair(op.dilations), shape_of(op.w)[:2]
    if top or left or bottom or right:
        x = np.pad(x, ((0, 0), (top, bottom), (left, right), (0, 0)))
    view = np.lib.stride_tricks.sliding_window_view
    whole = view(x, ((kh - 1) * dh + 1, (kw - 1) * dw + 1), (1, 2))
    return whole[:, ::sh, ::sw, :, ::dh, ::dw]


def _convolved(op: graph.Conv2DOp, x: Array, w: Array) -> Array:
    kh, kw, depth, out = w.shape
    groups = op.groups.value.data
    found = windows(op, x)
    if op.is_depthwise:
        taps = [found[..., i, j] * w[i, j, 0] for i in range(kh) for j in range(kw)]
        return np.asarray(sum(taps[1:], taps[0]), np.float32)
    parts: list[Array] = []
    for g in range(groups):
        rows = found[:, :, :, g * depth : (g + 1) * depth]
        columns = w[:, :, :, g * out // groups : (g + 1) * out // groups]
        size = kh * kw * depth
        flat = rows.transpose(0, 1, 2, 4, 5, 3).reshape(*rows.shape[:3], size)
        parts.append(flat @ columns.reshape(size, out // groups))
    return np.concatenate(parts, axis=-1)
