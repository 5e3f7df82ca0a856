"""npu-bisect finds faults that are planted behind passes, names the pass and the operation, and
reduces the model to a part that shows them.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import onnx
import pytest
from harness import run_in_process
from onnx import helper, numpy_helper
from xdsl.context import Context
from xdsl.dialects.builtin import ArrayAttr, IntegerAttr, ModuleOp, UnitAttr
from xdsl.ir import Operation

import npu_dialect as npu
from npu_dialect import graph, tile, universe
from npu_dialect.bisect import Culprit, bisect
from npu_dialect.blob import BlobAttr
from npu_dialect.npu.attributes import OperandAttr
from npu_dialect.npu.base import Instruction
from npu_dialect.ports import Array
from npu_dialect.reduce import reduce

Corrupt = Callable[[ModuleOp], None]


# --- the models -----------------------------------------------------------------------------------


def float_model() -> onnx.ModelProto:
    """Convolution, normalization, activation, pooling, product, softmax."""
    r = np.random.default_rng(7)
    constants = {
        "w": r.normal(size=(8, 3, 3, 3)),
        "scale": r.uniform(0.5, 2, 8),
        "bias": r.normal(size=8),
        "mean": r.normal(size=8),
        "variance": r.uniform(0.5, 2, 8),
        "m": 0.02 * r.normal(size=(128, 10)),
    }
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"], "conv1", pads=[1] * 4),
        helper.make_node("BatchNormalization", ["c", "scale", "bias", "mean", "variance"], ["n"]),
        helper.make_node("Relu", ["n"], ["a"], "relu1"),
        helper.make_node("MaxPool", ["a"], ["p"], "pool1", kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("Flatten", ["p"], ["f"], "flatten1"),
        helper.make_node("MatMul", ["f", "m"], ["g"], "product1"),
        helper.make_node("Softmax", ["g"], ["y"], "softmax1"),
    ]
    return _model(nodes, constants, (1, 3, 8, 8), (1, 10))


def integer_model() -> onnx.ModelProto:
    """Two quantized convolutions, the second added to the first one's result."""
    r = np.random.default_rng(8)
    constants = {
        "w1": r.integers(-127, 128, (8, 3, 3, 3), np.int8),
        "w2": r.integers(-127, 128, (8, 8, 3, 3), np.int8),
        "s": np.float32(0.02),
        "sw": np.float32(0.01),
        "z": np.int8(3),
        "zw": np.int8(0),
    }
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q0"]),
        helper.make_node("DequantizeLinear", ["q0", "s", "z"], ["d0"]),
        *_quantized_conv("d0", "w1", "a"),
        *_quantized_conv("a", "w2", "b"),
        helper.make_node("Add", ["a", "b"], ["sum"], "add1"),
        helper.make_node("QuantizeLinear", ["sum", "s", "z"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["y"]),
    ]
    return _model(nodes, constants, (1, 3, 8, 8), (1, 8, 8, 8))


def _quantized_conv(x: str, w: str, y: str) -> list[onnx.NodeProto]:
    return [
        helper.make_node("DequantizeLinear", [w, "sw", "zw"], [f"{y}_w"]),
        helper.make_node("Conv", [x, f"{y}_w"], [f"{y}_c"], f"conv_{y}", pads=[1] * 4),
        helper.make_node("Relu", [f"{y}_c"], [f"{y}_r"], f"relu_{y}"),
        helper.make_node("QuantizeLinear", [f"{y}_r", "s", "z"], [f"{y}_q"]),
        helper.make_node("DequantizeLinear", [f"{y}_q", "s", "z"], [y]),
    ]


def _model(
    nodes: list[onnx.NodeProto],
    constants: dict[str, Any],
    x: tuple[int, ...],
    y: tuple[int, ...],
) -> onnx.ModelProto:
    arrays = {n: np.asarray(v) for n, v in constants.items()}
    kinds = {n: v.astype(np.float32) if v.dtype == np.float64 else v for n, v in arrays.items()}
    made = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, x)],
        [helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, y)],
        [numpy_helper.from_array(v, n) for n, v in kinds.items()],
    )
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)


def load(kind: str) -> tuple[ModuleOp, dict[str, Array]]:
    model, target = (float_model(), "mobile4k") if kind == "float" else (integer_model(), "edge256")
    x = np.random.default_rng(1).normal(size=(1, 3, 8, 8)).astype(np.float32)
    return npu.load(model, target=target), {"x": x}


# --- the faults -----------------------------------------------------------------------------------


def operations(module: ModuleOp, kind: type[Operation]) -> Iterator[Any]:
    return (op for op in module.walk() if isinstance(op, kind))


def _changed_constant(module: ModuleOp) -> None:
    """The largest constant is in another order."""
    op = max(
        operations(module, graph.ConstantOp), key=lambda c: c.properties["value"].data.array.size
    )
    array = cast(BlobAttr, op.properties["value"]).data.array
    op.properties["value"] = BlobAttr.of(array.reshape(-1)[::-1].reshape(array.shape).copy())


def _other_side(module: ModuleOp) -> None:
    """A convolution whose padding is on the other sides."""
    op = next(operations(module, graph.Conv2DOp))
    op.properties["pads"] = ArrayAttr(IntegerAttr(v, 64) for v in (2, 2, 0, 0))


def _exchanged_operands(name: str) -> Corrupt:
    def corrupt(module: ModuleOp) -> None:
        op = next(op for op in module.walk() if op.name == name)
        first, second = op.operands[:2]
        op.operands[0], op.operands[1] = second, first

    return corrupt


def _without_activation(module: ModuleOp) -> None:
    op = next(op for op in module.walk() if op.name == "graph.relu")
    op.results[0].replace_all_uses_with(op.operands[0])
    op.detach()
    op.erase()


def _other_zero_point(module: ModuleOp) -> None:
    """An array operation of level tile subtracts another zero point."""
    op = next(op for op in module.walk() if isinstance(op, tile.Conv2DOp))
    op.properties["x_zero"] = IntegerAttr(op.x_zero.value.data + 1, 64)


def _exchanged_weights(module: ModuleOp) -> None:
    """A constant of level tile whose channels are in another order."""
    op = max(operations(module, tile.ConstantOp), key=lambda c: c.value.data.array.size)
    op.properties["value"] = BlobAttr.of(op.value.data.array[::-1].copy())


def _same_place(module: ModuleOp) -> None:
    """All buffers of the function in the scratchpad begin at 0."""
    for op in operations(module, tile.AllocOp):
        if '"spm"' in str(op.result.type):
            op.properties["offset"] = IntegerAttr(0, 64)


def instructions(module: ModuleOp) -> list[Instruction]:
    return [op for op in module.walk() if isinstance(op, Instruction)]


def _other_order(module: ModuleOp) -> None:
    """The last computation comes first."""
    ops = instructions(module)
    last = [op for op in ops if op.engine in ("mxu", "vpu")][-1]
    block = last.parent
    assert block is not None
    last.detach()
    block.insert_op_before(last, ops[0])


def _moved_result(module: ModuleOp) -> None:
    """A computation writes 64 bytes further."""
    op = next(op for op in instructions(module) if op.engine == "mxu")
    op.properties["output"] = OperandAttr(cast(OperandAttr, op.properties["output"]).data.moved(64))


def _left_out(module: ModuleOp) -> None:
    """The last copy is missing."""
    op = [op for op in instructions(module) if op.engine == "dma"][-1]
    op.detach()
    op.erase()


@dataclass(frozen=True)
class Fault:
    """A pass, and what is done to the module behind it."""

    after: str
    kind: str
    corrupt: Corrupt
    found: str = ""
    """The pass that is named, where it is another one: offsets mean nothing until tile-to-npu."""


FAULTS = (
    Fault("graph-canonicalize", "float", _other_side),
    Fault("graph-fold-constants", "float", _changed_constant),
    Fault("graph-channels-last", "float", _other_side),
    Fault("graph-fuse-batch-norm", "float", _changed_constant),
    Fault("graph-fold-qdq", "integer", _without_activation),
    Fault("graph-decompose", "float", _exchanged_operands("graph.sub")),
    Fault("graph-place", "integer", _changed_constant),
    Fault("graph-group", "float", _exchanged_operands("graph.div")),
    Fault("graph-map", "integer", _other_side),
    Fault("graph-to-tile", "integer", _other_zero_point),
    Fault("graph-to-tile", "float", _exchanged_weights),
    Fault("tile-allocate", "integer", _same_place, found="tile-to-npu"),
    Fault("tile-to-npu", "integer", _other_order),
    Fault("npu-pack", "integer", _moved_result),
    Fault("npu-sync", "float", _left_out),
)


def plant(monkeypatch: pytest.MonkeyPatch, fault: Fault) -> None:
    """Adds a fault to what a pass does when it first runs on a module."""
    cls = universe.pass_class(fault.after)
    right = cls.apply

    def wrong(self: Any, ctx: Context, op: ModuleOp) -> None:
        right(self, ctx, op)
        if "test.planted" not in op.attributes:
            op.attributes["test.planted"] = UnitAttr()
            fault.corrupt(op)

    monkeypatch.setattr(cls, "apply", wrong)


def search(kind: str) -> Culprit | None:
    module, inputs = load(kind)
    return bisect(module, inputs)


@pytest.mark.parametrize("kind", ["float", "integer"])
def test_without_a_fault_all_passes_agree(kind: str):
    assert search(kind) is None


@pytest.mark.parametrize("fault", FAULTS, ids=lambda f: f"{f.after}-{f.corrupt.__name__}")
def test_a_planted_fault_is_found(fault: Fault, monkeypatch: pytest.MonkeyPatch):
    plant(monkeypatch, fault)
    found = search(fault.kind)
    assert found is not None
    assert found.spec == (fault.found or fault.after)


def _slightly_changed_constants(module: ModuleOp) -> None:
    """Half a percent on every float constant: less noise than a pass that rounds may add."""
    for op in operations(module, graph.ConstantOp):
        array = cast(BlobAttr, op.properties["value"]).data.array
        if array.dtype == np.float32:
            op.properties["value"] = BlobAttr.of(array * np.float32(1.005))


@pytest.mark.parametrize("after", ["graph-canonicalize", "graph-decompose"])
def test_a_fault_smaller_than_the_noise_of_other_passes_is_found(
    after: str, monkeypatch: pytest.MonkeyPatch
):
    plant(monkeypatch, Fault(after, "float", _slightly_changed_constants))
    found = search("float")
    assert found is not None
    assert found.spec == after


@pytest.mark.parametrize(
    ("fault", "source"),
    [
        (Fault("graph-decompose", "float", _exchanged_operands("graph.sub")), "softmax1"),
        (Fault("graph-to-tile", "integer", _other_zero_point), "conv_a"),
    ],
    ids=["graph", "tile"],
)
def test_the_operation_is_named(fault: Fault, source: str, monkeypatch: pytest.MonkeyPatch):
    plant(monkeypatch, fault)
    found = search(fault.kind)
    assert found is not None
    assert found.step is not None
    assert source.split("_")[-1] in found.source


def test_a_model_is_reduced_to_the_operation_at_fault(monkeypatch: pytest.MonkeyPatch):
    plant(monkeypatch, Fault("graph-decompose", "float", _exchanged_operands("graph.sub")))
    module, inputs = load("float")

    def fails(part: ModuleOp, given: Any) -> bool:
        found = bisect(part, given)
        return found is not None and found.spec == "graph-decompose"

    found = reduce(module, list(inputs.values()), fails, source="softmax1")
    assert found is not None
    assert found.operations == 1
    assert [op.name for op in found.module.walk() if op.name == "graph.softmax"]


def test_what_does_not_fail_is_not_reduced():
    module, inputs = load("float")
    assert reduce(module, list(inputs.values()), lambda part, given: False) is None


def test_a_pass_that_fails_is_named(monkeypatch: pytest.MonkeyPatch):
    cls = universe.pass_class("graph-group")
    monkeypatch.setattr(cls, "apply", lambda self, ctx, op: 1 // 0)  # pyright: ignore
    found = search("float")
    assert found is not None
    assert found.spec == "graph-group"
    assert "ZeroDivisionError" in found.problem


# --- the tool -------------------------------------------------------------------------------------


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "model.onnx"
    onnx.save(float_model(), path)
    return path


def test_the_tool_says_that_all_agree(model: Path):
    found = run_in_process("npu-bisect", [str(model), "--target", "mobile4k", "--random", "0"])
    assert found.code == 0
    assert "agree on these inputs" in found.out


def test_the_tool_writes_a_case_that_shows_the_fault(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    plant(monkeypatch, Fault("graph-decompose", "float", _exchanged_operands("graph.sub")))
    options = ["--target", "mobile4k", "--random", "0", "--json"]
    case = tmp_path / "case"
    found = run_in_process("npu-bisect", [str(model), *options, "--reduce", str(case)])
    assert json.loads(found.out)["culprit"]["spec"] == "graph-decompose"
    again = run_in_process(
        "npu-bisect", [str(case / "reduced.mlir"), "--input", str(case / "inputs.npz")]
    )
    assert again.code == 1
    assert "graph-decompose" in again.out


def test_the_tool_takes_the_noise_that_a_pass_may_add(model: Path, monkeypatch: pytest.MonkeyPatch):
    plant(monkeypatch, Fault("graph-fuse-batch-norm", "float", _slightly_changed_constants))
    options = [str(model), "--target", "mobile4k", "--random", "0"]
    assert run_in_process("npu-bisect", [*options, "--tolerance", "0.5"]).code == 0
    found = run_in_process("npu-bisect", [*options, "--tolerance", "1e-5"])
    assert found.code == 1
    assert "graph-fuse-batch-norm" in found.out


def test_the_tool_needs_inputs(model: Path):
    found = run_in_process("npu-bisect", [str(model)])
    assert found.code == 1
    assert "--input or --random" in found.err


def test_a_model_can_be_quantized_first(tmp_path: Path):
    onnx.save(float_model(), tmp_path / "m.onnx")
    shape = (4, *[d.dim_value for d in float_model().graph.input[0].type.tensor_type.shape.dim][1:])
    np.savez(tmp_path / "s.npz", x=np.random.default_rng(0).normal(size=shape).astype(np.float32))
    options = ["--quantize", "int8", "--calibrate", str(tmp_path / "s.npz"), "--random", "0"]
    run = run_in_process("npu-bisect", [str(tmp_path / "m.onnx"), "--target", "edge256", *options])
    assert run.code == 0, run.err
    assert "passes agree on these inputs" in run.out
