"""The tensors of a model while it runs, by the name of the node that makes them, at every level.

A level gives those that it holds whole: `graph` all, `tile` and `npu` the results of fused groups.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xdsl.dialects.builtin import ModuleOp

from npu_dialect.diagnostics import Code, error
from npu_dialect.ports import Array

if TYPE_CHECKING:
    from npu_dialect.runtime.program import Program


def level(
    name: str,
    module: ModuleOp,
    inputs: Sequence[Array],
    *,
    program: Program | None = None,
    seed: int | None = None,
) -> dict[str, Array]:
    """The tensors of a module that is at the level `name`; of `program` rather, at `npu`."""
    if name == "graph":
        from npu_dialect.graph import interpret

        return interpret.run_all(module, inputs)
    if name == "tile":
        from npu_dialect.tile import interpret as tile_interpret

        return tile_interpret.run_all(module, inputs)
    from npu_dialect.runtime import simulator
    from npu_dialect.runtime.program import Program

    return simulator.run_all(program or Program.from_module(module), inputs, seed=seed)


def onnxruntime(path: Path, inputs: Mapping[str, Array]) -> dict[str, Array]:
    """Every tensor that onnxruntime computes, its optimizations off.

    Raises CompileError (NPU0007) where onnxruntime is not installed.
    """
    ort = _package("onnxruntime")
    model = _package("onnx").load(path)
    keys = _keys(model)
    _expose(model, keys)
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 3
    session = ort.InferenceSession(model.SerializeToString(), options, ["CPUExecutionProvider"])
    results: list[Array] = session.run(list(keys), dict(inputs))
    return dict(zip(keys.values(), results, strict=True))


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
