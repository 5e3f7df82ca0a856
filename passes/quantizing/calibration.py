"""Statistics of all float tensors of a module on samples, at level graph.

Tensors are called by the source of the operation that makes them: `conv1`, or `conv1#1` for one
before the last of the same source; arguments by the name of the input. Statistics are kept in
`.npz` files, and read again where the model is the same.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path

from xdsl.dialects.builtin import ArrayAttr, StringAttr
from xdsl.dialects.func import FuncOp
from xdsl.ir import Operation, SSAValue
from xdsl.utils.hints import isa

from npu_dialect import dtypes, files, provenance
from npu_dialect.diagnostics import Code, error
from npu_dialect.graph import interpret
from npu_dialect.graph.base import dtype_of, shape_of, type_of
from npu_dialect.graph.states import (
    INPUT_NAMES,
    State,
    arguments_with,
    initial_of,
    states_of,
)
from npu_dialect.passes.quantizing import masks
from npu_dialect.passes.quantizing import samples as sample_files
from npu_dialect.passes.quantizing.samples import NO_SAMPLES, read_arrays
from npu_dialect.passes.quantizing.statistics import Calibration, Statistics
from npu_dialect.ports import Array, Inputs, Port, bind

NUMBERS, COUNTS = "numbers/", "counts/"
"""What stands before a tensor's name in a file."""

samples_of = sample_files.samples_of
"""The samples that a pass names."""

Progress = Callable[[str, int, int], None]


def names_in(function: FuncOp) -> dict[SSAValue, str]:
    """The names of the float tensors of a function that are no constants."""
    found: dict[SSAValue, str] = {}
    found.update(zip(function.args, argument_names(function), strict=True))
    by_source: dict[str, list[SSAValue]] = {}
    for op in function.body.block.ops:
        source = (op.name, *provenance.sources(op))[-1]
        for k, value in enumerate(op.results):
            by_source.setdefault(source + (f":{k}" if k else ""), []).append(value)
    for source, values in by_source.items():
        for k, value in enumerate(values):
            found[value] = source if k + 1 == len(values) else f"{source}#{k + 1}"
    return {value: name for value, name in found.items() if is_real(value)}


def argument_names(function: FuncOp) -> list[str]:
    """What the arguments are called, states among them."""
    names = function.attributes.get(INPUT_NAMES)
    if isa(names, ArrayAttr[StringAttr]):
        return [name.data for name in names]
    return [f"in{k}" for k in range(len(function.args))]


def is_real(value: SSAValue) -> bool:
    """Whether a value is a tensor of f32 that is no constant."""
    owner = value.owner
    constant = isinstance(owner, Operation) and owner.name == "graph.constant"
    return not constant and dtype_of(value) is dtypes.f32


def ports_of(function: FuncOp) -> list[Port]:
    """The inputs of a function that are no states."""
    held = {state.argument for state in states_of(function)}
    pairs = zip(function.args, argument_names(function), strict=True)
    return [
        Port(name, dtype_of(value), shape_of(value))
        for k, (value, name) in enumerate(pairs)
        if k not in held
    ]


_PROGRESS: ContextVar[Progress | None] = ContextVar("calibration_progress", default=None)


@contextmanager
def reporting(progress: Progress | None) -> Generator[None]:
    """Calls a function before each sample, while the block runs, with "calibration", its number
    and the number of samples.
    """
    token = _PROGRESS.set(progress)
    try:
        yield
    finally:
        _PROGRESS.reset(token)


def observe(function: FuncOp, samples: Iterable[Inputs]) -> dict[str, Statistics]:
    """The statistics of a function on samples. States go on from one sample to the next.

    Raises CompileError where there is no sample, one that does not fit, or values that are no
    numbers.
    """
    names = names_in(function)
    found, record = _recorder(function, names)
    states = states_of(function)
    contents = {s.name: _initial(function, s) for s in states}
    total, count = len(samples) if isinstance(samples, Sequence) else 0, 0
    progress = _PROGRESS.get()
    for sample in samples:
        if progress:
            progress("calibration", count, total)
        count += 1
        given = arguments_with(function, bind(ports_of(function), sample), contents)
        for value, array in zip(function.args, given, strict=True):
            record(value, array)

        def note(op: Operation, results: Sequence[Array]) -> None:
            for value, array in zip(op.results, results, strict=True):
                record(value, array)

        outputs = interpret.run(function, given, record=note)
        contents |= {s.name: outputs[s.result] for s in states if s.result is not None}
    if not count:
        raise error(
            Code.OPTION,
            "there must be samples to calibrate with",
            found="none",
            remedy=NO_SAMPLES,
            source="graph-calibrate",
        )
    check(found)
    return found


def _recorder(
    function: FuncOp, names: Mapping[SSAValue, str]
) -> tuple[dict[str, Statistics], Callable[[SSAValue, Array], None]]:
    """Empty statistics, and what counts the values of a tensor in them; of what masks are put on,
    also the greatest of each row.
    """
    axes = {op.x: op.axis.value.data for op in masks.masked(function) if op.x in names}
    ends = {value for value in names if masks.reaches_softmax(value)}
    rows = [names[value] + masks.GREATEST for value in axes]
    found = {name: Statistics() for name in (*names.values(), *rows)}

    def record(value: SSAValue, array: Array) -> None:
        if value not in names:
            return
        found[names[value]].add(masks.finite(array) if value in ends else array)
        if value in axes:
            found[names[value] + masks.GREATEST].add(masks.greatest(array, axes[value]))

    return found, record


def _initial(function: FuncOp, state: State) -> Array:
    number = state.argument
    value = function.args[number] if number is not None else None
    returned = function.body.block.last_op
    if value is None:
        assert returned is not None and state.result is not None
        value = returned.operands[state.result]
    return initial_of(function, state, type_of(value))


def check(found: Calibration) -> None:
    """Raise CompileError for tensors that are no numbers."""
    for name, each in found.items():
        if each.strange:
            raise error(
                Code.OPTION,
                "the values of a tensor that is quantized must be finite",
                found=f"{each.strange:,} of {each.elements:,} are NaN or infinite",
                remedy="other samples, or leaving the layer in floats",
                source=name,
            )


# --- files ----------------------------------------------------------------------------------------


def save(path: str | Path, found: Calibration) -> None:
    """Write statistics. Raises CompileError (NPU0002)."""
    arrays: dict[str, Array] = {}
    for name, each in found.items():
        numbers, counts = each.to_arrays()
        arrays |= {f"{NUMBERS}{name}": numbers, f"{COUNTS}{name}": counts}
    files.write_npz(path, arrays)


def load(path: str | Path) -> dict[str, Statistics]:
    """Read statistics. Raises CompileError (NPU0001, NPU0003)."""
    arrays = read_arrays(path)
    names = [n.removeprefix(NUMBERS) for n in arrays if n.startswith(NUMBERS)]
    try:
        return {
            n: Statistics.of_arrays(arrays[f"{NUMBERS}{n}"], arrays[f"{COUNTS}{n}"]) for n in names
        }
    except (KeyError, ValueError) as problem:
        rule = "must hold statistics as graph-calibrate writes them"
        raise files.no_arrays(path, problem, rule) from problem
