"""The compiler and its simulator as a backend of ONNX (`onnx.backend.base`).

    from npu_dialect import onnx_backend

    ready = onnx_backend.prepare(model, "mobile4k")
    (y,) = ready.run([x])
    ready.program.placement

A device is a target, or `CPU`, as ONNX's own runner calls what is always there; that is `mobile4k`.

Programs have static shapes. Where an operator wants a shape, an axis, a bound or a size, a model
may leave it to an integer input. Such inputs are bound: the model is compiled when they are given,
once for each of their values. The other inputs stay inputs of the program.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

import numpy as np
import onnx
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, numpy_helper
from onnx.backend.base import Backend, BackendRep, namedtupledict

from npu_dialect import api
from npu_dialect.diagnostics import Code, error
from npu_dialect.frontends import onnx as frontend
from npu_dialect.frontends.onnx.model import free_names
from npu_dialect.loading import Shapes
from npu_dialect.pipeline import Options
from npu_dialect.ports import Array
from npu_dialect.runtime.program import Program
from npu_dialect.runtime.run import Run
from npu_dialect.runtime.simulator import simulate
from npu_dialect.target import target_names

DEFAULT_TARGET = "mobile4k"

_REDUCTIONS = (
    "Sum", "Mean", "Max", "Min", "Prod", "L1", "L2", "LogSum", "LogSumExp", "SumSquare",
)  # fmt: skip

BOUND: Mapping[str, frozenset[str]] = {
    name: frozenset(operands.split())
    for name, operands in {
        # shapes
        "AffineGrid": "size",
        "CenterCropPad": "shape",
        "Col2Im": "image_shape block_shape",
        "ConstantOfShape": "input",
        "Expand": "shape",
        "MaxUnpool": "output_shape",
        "Reshape": "shape",
        "Resize": "sizes",
        # axes
        "CumProd": "axis",
        "CumSum": "axis",
        "Squeeze": "axes",
        "Unsqueeze": "axes",
        **{f"Reduce{kind}": "axes" for kind in _REDUCTIONS},
        # bounds
        "Pad": "pads axes",
        "Range": "start limit delta",
        "Slice": "starts ends axes steps",
        "Trilu": "k",
        # sizes
        "BlackmanWindow": "size",
        "DFT": "dft_length axis",
        "HammingWindow": "size",
        "HannWindow": "size",
        "MelWeightMatrix": "num_mel_bins dft_length sample_rate",
        "NonMaxSuppression": "max_output_boxes_per_class",
        "OneHot": "depth",
        "STFT": "frame_step frame_length",
        "Split": "split",
        "Tile": "repeats",
        "TopK": "K",
    }.items()
}
"""By operator, the operands (as its schema names them) that must be known when it is compiled."""

OF_ANY_TYPE = frozenset({"Range"})
"""Where floats are bound too, if they are whole numbers: no shape says what they are."""

BY_SHAPE = frozenset({"Shape", "Size"})
"""What these compute follows from the shape of their operand."""

INTEGERS = (TensorProto.INT64, TensorProto.INT32)

Key = tuple[tuple[str, str, tuple[int, ...], bytes], ...]
"""What a program is compiled for: of each input the name, type, shape, and the value if bound."""


def bound_inputs(model: ModelProto) -> frozenset[str]:
    """The inputs of integers that an operand of `BOUND` is, or is computed from; and floats that
    are one where that may be.
    """
    versions = {entry.domain: entry.version for entry in model.opset_import}
    version = versions.get("", versions.get("ai.onnx", 1))
    wanted = _wanted(model.graph, version)
    floats = {
        name
        for node in model.graph.node
        if node.op_type in OF_ANY_TYPE
        for name in _named_operands(node, version)
    }
    return frozenset(
        value.name
        for value in required_inputs(model)
        if value.name in wanted and _is_list(value)
        if value.name in floats or value.type.tensor_type.elem_type in INTEGERS
    )


def required_inputs(model: ModelProto) -> list[onnx.ValueInfoProto]:
    """The inputs without an initializer, in order."""
    known = {tensor.name for tensor in model.graph.initializer}
    known |= {sparse.values.name for sparse in model.graph.sparse_initializer}
    return [value for value in model.graph.input if value.name not in known]


def _wanted(graph: GraphProto, version: int) -> set[str]:
    """The tensors whose values decide a shape."""
    found: set[str] = set()
    for node in reversed(graph.node):
        found.update(_named_operands(node, version))
        if node.op_type not in BY_SHAPE and found.intersection(node.output):
            found.update(free_names(node))
    return found


def _named_operands(node: NodeProto, version: int) -> list[str]:
    """The tensors that stand where `BOUND` says."""
    names = BOUND.get(node.op_type)
    if names is None or node.domain not in ("", "ai.onnx"):
        return []
    operands = onnx.defs.get_schema(node.op_type, version).inputs
    pairs = zip(operands, node.input, strict=False)
    return [given for operand, given in pairs if operand.name in names and given]


def _is_list(value: onnx.ValueInfoProto) -> bool:
    """Whether an input is a scalar or a vector."""
    return len(value.type.tensor_type.shape.dim) < 2


class NpuBackendRep(BackendRep):
    """A model that is ready to run, with a program for every shape that its inputs have had.

    `tier` is that of `simulate`. The plain one is the best for one run of a small program.
    """

    def __init__(self, model: ModelProto, target: str, tier: str = "auto") -> None:
        self.model = model
        self.target = target
        self.tier = tier
        self.bound = bound_inputs(model)
        """The inputs whose values a program is compiled for."""
        self.last: Run | None = None
        """The latest run, with cycles and energy."""
        self._names = [value.name for value in required_inputs(model)]
        self._programs: dict[Key, Program] = {}
        self._latest: Program | None = None
        if not self.bound and all(map(_is_static, required_inputs(model))):
            self._latest = self._compile({}, {})

    @property
    def program(self) -> Program:
        """The program of the latest run, or the only one. Raises CompileError (NPU0104)."""
        if self._latest is None:
            raise error(
                Code.SHAPE_UNBOUND,
                "a program must be made for known shapes, and this model takes some at run time",
                found=f"no run yet; its inputs are {', '.join(self._names)}",
                remedy="run(inputs) or compile(inputs) first",
                source=self.model.graph.name,
            )
        return self._latest

    def compile(self, inputs: Any) -> Program:
        """The program for inputs like these, made once. Raises CompileError."""
        self._latest = self._program_for(self._by_name(inputs))
        return self._latest

    def run(self, inputs: Any, **kwargs: Any) -> tuple[Any, ...]:
        """The outputs in order, which also have names. Raises CompileError.

        `inputs` are arrays in order or by name, or the only one. `seed` simulates in a random order
        that the program's waits permit.
        """
        given = self._by_name(inputs)
        self._latest = self._program_for(given)
        free = {port.name: given[port.name] for port in self._latest.inputs}
        self.last = simulate(self._latest, free, kwargs.get("seed"), tier=self.tier)
        outputs = self.last.outputs
        return namedtupledict("Outputs", list(outputs))(*outputs.values())

    def _by_name(self, inputs: Any) -> dict[str, Array]:
        if isinstance(inputs, np.ndarray):
            inputs = [inputs]
        if not isinstance(inputs, Mapping):
            self._check_names(self._names[: len(inputs)] if len(inputs) <= len(self._names) else ())
            inputs = dict(zip(self._names, inputs, strict=True))
        given = {name: as_array(x) for name, x in cast(Mapping[str, Any], inputs).items()}
        self._check_names(list(given))
        return given

    def _check_names(self, found: Sequence[str]) -> None:
        if set(found) != set(self._names):
            raise error(
                Code.INPUT_NAMES,
                f"the inputs must be exactly those of the model: {', '.join(self._names)}",
                found=", ".join(found) or "none, or arrays without names",
                source="inputs",
            )

    def _program_for(self, given: Mapping[str, Array]) -> Program:
        if not self.bound and self._latest is not None and _fits(self._latest, given):
            return self._latest
        values = {name: x for name, x in given.items() if name in self.bound and _is_whole(x)}
        key = _key(given, values)
        if key not in self._programs:
            shapes = {name: x.shape for name, x in given.items() if name not in values}
            self._programs[key] = self._compile(shapes, values)
        return self._programs[key]

    def _compile(self, shapes: Shapes, values: Mapping[str, Array]) -> Program:
        module = frontend.load(self.model, shapes, values)
        api.set_target(module, self.target)
        api.lower(module, options=Options(reproducer=None))
        return api.assemble(module)


def _key(given: Mapping[str, Array], values: Mapping[str, Array]) -> Key:
    return tuple(
        (name, str(x.dtype), x.shape, x.tobytes() if name in values else b"")
        for name, x in given.items()
    )


def _is_whole(x: Array) -> bool:
    return x.dtype.kind in "iu" or bool(np.all(x == np.trunc(x)))


def as_array(value: Any) -> Array:
    """A tensor, or what numpy takes for one, as an array."""
    return numpy_helper.to_array(value) if isinstance(value, TensorProto) else np.asarray(value)


def _is_static(value: onnx.ValueInfoProto) -> bool:
    tensor = value.type.tensor_type
    return tensor.HasField("shape") and all(dim.HasField("dim_value") for dim in tensor.shape.dim)


def _fits(program: Program, given: Mapping[str, Array]) -> bool:
    return all(port.shape == given[port.name].shape for port in program.inputs)


class NpuBackend(Backend):
    """ONNX models on simulated accelerators."""

    @classmethod
    def is_compatible(cls, model: ModelProto, device: str = "CPU", **kwargs: Any) -> bool:
        """Whether the device is one of ours: what a model needs beyond it runs on the host."""
        return cls.supports_device(device)

    @classmethod
    def prepare(cls, model: ModelProto, device: str = "CPU", **kwargs: Any) -> NpuBackendRep:
        """The model, compiled now if its shapes are known. Raises CompileError.

        `tier` chooses how it is simulated.
        """
        return NpuBackendRep(model, target_of(device), kwargs.get("tier", "auto"))

    @classmethod
    def run_model(
        cls, model: ModelProto, inputs: Any, device: str = "CPU", **kwargs: Any
    ) -> tuple[Any, ...]:
        """Compile and run once. Raises CompileError."""
        return cls.prepare(model, device, **({"tier": "plain"} | kwargs)).run(inputs)

    @classmethod
    def run_node(
        cls,
        node: NodeProto,
        inputs: Any,
        device: str = "CPU",
        outputs_info: Sequence[tuple[Any, tuple[int, ...]]] | None = None,
        **kwargs: Any,
    ) -> tuple[Any, ...]:
        """Compile and run one node, whose schema types its outputs if `outputs_info` does not.

        Raises CompileError.
        """
        model = _node_model(node, [as_array(x) for x in inputs], outputs_info, **kwargs)
        return cls.run_model(model, inputs, device)

    @classmethod
    def supports_device(cls, device: str) -> bool:
        """Whether `device` is `CPU` or names a target."""
        return device == "CPU" or device in target_names()


def target_of(device: str) -> str:
    """The target that a device is."""
    return DEFAULT_TARGET if device == "CPU" else device


def _node_model(
    node: NodeProto,
    inputs: Sequence[Array],
    outputs_info: Sequence[tuple[Any, tuple[int, ...]]] | None = None,
    opset_version: int | None = None,
) -> ModelProto:
    """A model of one node."""
    names = [name for name in node.input if name]
    typed = [_value_info(n, x.dtype, x.shape) for n, x in zip(names, inputs, strict=True)]
    results = [onnx.ValueInfoProto(name=name) for name in node.output if name]
    if outputs_info is not None:
        results = [
            _value_info(value.name, dtype, shape)
            for value, (dtype, shape) in zip(results, outputs_info, strict=True)
        ]
    graph = onnx.helper.make_graph([node], node.op_type, typed, results)
    opset = onnx.helper.make_opsetid(node.domain, opset_version or _newest(node.domain))
    return onnx.shape_inference.infer_shapes(
        onnx.helper.make_model(graph, opset_imports=[opset], ir_version=10)
    )


def _newest(domain: str) -> int:
    return onnx.defs.onnx_opset_version() if domain in ("", "ai.onnx") else 1


def _value_info(name: str, dtype: Any, shape: Sequence[int]) -> onnx.ValueInfoProto:
    code = onnx.helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    return onnx.helper.make_tensor_value_info(name, code, list(shape))


is_compatible = NpuBackend.is_compatible
prepare = NpuBackend.prepare
run_model = NpuBackend.run_model
run_node = NpuBackend.run_node
supports_device = NpuBackend.supports_device
