"""The tensors of a model while it runs, by the name of the node that makes them, at every level.

A level gives those that it holds whole: `graph` all, `tile` and `npu` the results of fused groups.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xdsl.dialects.builtin import ModuleOp, TensorType
from xdsl.ir import Attribute, BlockArgument, Operation
from xdsl.utils.hints import isa

from npu_dialect import provenance
from npu_dialect.diagnostics import Code, error
from npu_dialect.graph.states import arguments_with
from npu_dialect.ports import Array

if TYPE_CHECKING:
    from npu_dialect.runtime.program import Program
    from npu_dialect.tile.descriptor import Descriptor
    from npu_dialect.tile.events import Event
    from npu_dialect.tile.interpret import View


OUTPUT, STATE = "output ", "state "
"""What stands before the name of an output, and of the new content of a state, to tell it from a
node.
"""

Contents = Mapping[str, Array]
"""The contents of states before the run, by name."""


def level(
    name: str,
    module: ModuleOp,
    inputs: Sequence[Array],
    *,
    program: Program | None = None,
    seed: int | None = None,
    entry: str | None = None,
    state: Contents | None = None,
) -> dict[str, Array]:
    """The tensors of an entry of a module that is at the level `name`; of `program` rather, at
    `npu`.

    The outputs are there twice: by the node that makes them, and as `output NAME`; what is left in
    a state as `state NAME`. States start from `state`, or their initial content. `seed` chooses the
    order of execution that gives outputs and states at `npu`.
    """
    if name == "graph":
        return _graph(module, inputs, entry, dict(state or {}))
    if name == "tile":
        return _tile(module, inputs, entry, dict(state or {}))
    from npu_dialect.runtime.program import Program

    return _npu(program or Program.from_module(module), inputs, seed, entry, state)


def _graph(
    module: ModuleOp, inputs: Sequence[Array], entry: str | None, state: dict[str, Array]
) -> dict[str, Array]:
    from npu_dialect import levels
    from npu_dialect.graph import interpret

    function = levels.entry_of(module, entry)
    contents = {port.name: port.initial for port in levels.states(module, entry)} | state
    tensors = interpret.run_all(function, arguments_with(function, inputs, contents))
    outputs = levels.run_graph(module, inputs, state=contents, entry=entry)
    return tensors | _outputs(levels.output_names(module, entry), outputs, contents)


def _tile(
    module: ModuleOp, inputs: Sequence[Array], entry: str | None, state: dict[str, Array]
) -> dict[str, Array]:
    from npu_dialect import levels

    recorder = _Recorder()
    outputs = levels.run_tile(module, inputs, state=state, entry=entry, observer=recorder)
    return recorder.arrays() | _outputs(levels.output_names(module, entry), outputs, state)


def _npu(
    program: Program,
    inputs: Sequence[Array],
    seed: int | None,
    entry: str | None,
    state: Contents | None,
) -> dict[str, Array]:
    from npu_dialect.runtime import simulator

    given = list(inputs)
    watched = simulator.simulate(program, given, entry=entry, state=state, tensors=True)
    run = simulator.simulate(program, given, seed, entry=entry, state=state)
    used = {name: run.state[name] for name in program.entry(entry).selected.states}
    names, arrays = list(run.outputs), list(run.outputs.values())
    return dict(watched.tensors) | _outputs(names, arrays, used)


def steps(module: ModuleOp, entry: str | None = None) -> dict[str, float]:
    """The quantization step of each tensor of reals that a module at level graph dequantizes."""
    from npu_dialect import levels
    from npu_dialect.graph import DequantizeOp, QuantType

    found: dict[str, float] = {}
    for op in module.walk():
        if isinstance(op, DequantizeOp) and isa(op.x.type, TensorType[Attribute]):
            element = op.x.type.element_type
            assert isinstance(element, QuantType)
            found[provenance.sources(op)[-1]] = float(element.scales.max())
    function = levels.entry_of(module, entry)
    returned = function.body.block.last_op
    assert returned is not None
    states = {port.result: STATE + port.name for port in levels.states(module, entry)}
    names = levels.result_names(function)
    for number, (name, value) in enumerate(zip(names, returned.operands, strict=True)):
        source = provenance.sources(value.owner) if isinstance(value.owner, Operation) else ()
        if source and source[-1] in found:
            found[states.get(number, OUTPUT + name)] = found[source[-1]]
    return found


def _outputs(
    names: Sequence[str], arrays: Sequence[Array], states: Contents | None = None
) -> dict[str, Array]:
    outputs = {OUTPUT + name: array for name, array in zip(names, arrays, strict=True)}
    return outputs | {STATE + name: array for name, array in (states or {}).items()}


class _Recorder:
    """An observer of the tile interpreter that finds the tensors between groups.

    Those are the buffers made at the level of the function, and its outputs; they hold their values
    until the end of the run. A tensor that lies within another is seen by its strides.
    """

    def __init__(self) -> None:
        self._buffers: dict[str, tuple[View, Descriptor]] = {}

    def __call__(self, event: Event, view: View) -> None:
        from npu_dialect.tile.descriptor import by_strides, dense
        from npu_dialect.tile.memory import holds_tensor
        from npu_dialect.tile.structure import strided
        from npu_dialect.tile.syntax import shape_of, values_of
        from npu_dialect.tile.verify import destinations

        for written in event.writes:
            owner = written.buffer.owner
            value = owner if isinstance(owner, BlockArgument) else owner.results[0]
            names = provenance.sources(event.op)
            if names and holds_tensor(owner):
                whole = dense(written.buffer, written.space, written.dtype, shape_of(value))
                within = next(filter(None, map(strided, destinations(event.op))), None)
                if within is not None:
                    shape, strides = shape_of(within.result), values_of(within.strides)
                    whole = by_strides(whole, within.first, shape, strides)
                self._buffers[names[-1]] = (view, whole)

    def arrays(self) -> dict[str, Array]:
        return {name: view(whole).copy() for name, (view, whole) in self._buffers.items()}


EXACT_BYTES = ("session.x64quantprecision", "1")
"""An option of onnxruntime: else, on x86 processors without VNNI, its products of bytes saturate in
16 bits, and its results are wrong.
"""


def onnxruntime(path: Path, inputs: Mapping[str, Array]) -> dict[str, Array]:
    """Every tensor that onnxruntime computes, its optimizations off.

    Raises CompileError (NPU0007) where onnxruntime is not installed.
    """
    ort = _package("onnxruntime")
    model = _package("onnx").load(path)
    keys = _keys(model)
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 3
    options.add_session_config_entry(*EXACT_BYTES)
    outputs = [output.name for output in model.graph.output]
    _expose(model, keys)
    session = ort.InferenceSession(model.SerializeToString(), options, ["CPUExecutionProvider"])
    try:
        tensors: list[Array] = session.run(list(keys), dict(inputs))
        results: list[Array] = session.run(outputs, dict(inputs))
    except Exception as problem:  # onnxruntime has no class of its own for this
        raise error(
            Code.EXECUTION,
            "onnxruntime must be able to run the model on the inputs",
            found=problem,
            remedy="inputs that mean something to the model",
            source=str(path),
        ) from problem
    return dict(zip(keys.values(), tensors, strict=True)) | _outputs(outputs, results)


def _package(name: str) -> Any:
    try:
        return import_module(name)
    except ImportError as problem:
        raise error(
            Code.PACKAGE_MISSING,
            f"{name} must be installed for comparing with onnxruntime",
            found=problem,
            remedy="pip install 'npu-dialect[onnx]'",
            source="onnxruntime",
        ) from problem


def _keys(model: Any) -> dict[str, str]:
    """By tensor: the name of the node that makes it, with `:1` and so on after the first."""
    keys: dict[str, str] = {}
    for node in model.graph.node:
        name = node.name or next((n for n in node.output if n), node.op_type)
        for index, output in enumerate(node.output):
            if output:
                keys[output] = f"{name}:{index}" if index else name
    return keys


def _expose(model: Any, keys: Mapping[str, str]) -> None:
    """Make every tensor an output of the model."""
    value_info = _package("onnx").ValueInfoProto
    known = {output.name for output in model.graph.output}
    for name in keys:
        if name not in known:
            model.graph.output.append(value_info(name=name))
