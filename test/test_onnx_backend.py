"""The compiler as a backend of ONNX, as its users call it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import ModelProto, helper
from onnx.backend.base import Backend, BackendRep
from onnx_support import model_of, node_model, value_info

from npu_dialect import onnx_backend
from npu_dialect.diagnostics import CompileError
from npu_dialect.runtime.program import Program

F32, I64 = "float32", "int64"
X = np.arange(12, dtype=np.float32).reshape(3, 4) - 5


def reshape() -> ModelProto:
    """Its shape is an input."""
    return node_model("Reshape", [X, np.array([4, 3])], {})


def relu(*shape: int | str) -> ModelProto:
    return model_of([helper.make_node("Relu", ["x"], ["y"])], {"x": (F32, shape)}, ["y"])


def test_it_is_a_backend_of_onnx() -> None:
    assert issubclass(onnx_backend.NpuBackend, Backend)
    ready = onnx_backend.prepare(relu(3, 4))
    assert isinstance(ready, BackendRep)
    assert isinstance(ready.program, Program)


def test_outputs_are_a_tuple_with_names() -> None:
    found = onnx_backend.prepare(relu(3, 4)).run([X])
    np.testing.assert_array_equal(found[0], np.maximum(X, 0))
    assert found["y"] is found[0]  # pyright: ignore[reportArgumentType, reportCallIssue]


@pytest.mark.parametrize("inputs", [X, [X], (X,), {"x": X}])
def test_inputs_come_in_order_or_by_name(inputs: Any) -> None:
    (y,) = onnx_backend.run_model(relu(3, 4), inputs)
    np.testing.assert_array_equal(y, np.maximum(X, 0))


@pytest.mark.parametrize("inputs", [[], [X, X], {"z": X}])
def test_other_inputs_are_refused(inputs: Any) -> None:
    with pytest.raises(CompileError, match="the inputs must be exactly those of the model: x"):
        onnx_backend.run_model(relu(3, 4), inputs)


@pytest.mark.parametrize(
    ("device", "target"), [("CPU", "mobile4k"), ("mobile4k", "mobile4k"), ("edge256", "edge256")]
)
def test_a_device_is_a_target(device: str, target: str) -> None:
    assert onnx_backend.supports_device(device)
    assert onnx_backend.prepare(relu(3, 4), device).program.target == target


def test_there_is_no_other_device() -> None:
    assert not onnx_backend.supports_device("CUDA")
    with pytest.raises(CompileError, match="CUDA"):
        onnx_backend.prepare(relu(3, 4), "CUDA")


def test_one_node_runs() -> None:
    node = helper.make_node("Add", ["a", "b"], ["c"])
    (c,) = onnx_backend.run_node(node, [X, X])
    np.testing.assert_array_equal(c, X + X)


# Operands that are bound


def test_a_shape_given_at_run_time_is_no_input_of_the_program() -> None:
    ready = onnx_backend.prepare(reshape())
    assert ready.bound == {"x1"}
    assert ready.run([X, np.array([4, 3])])[0].shape == (4, 3)
    assert [port.name for port in ready.program.inputs] == ["x0"]


def test_a_program_is_made_once_for_each_value() -> None:
    ready = onnx_backend.prepare(node_model("Slice", [X, *map(np.array, ([0], [2]))], {}))
    first = ready.compile([X, np.array([0]), np.array([2])])
    assert ready.compile([X, np.array([1]), np.array([2])]) is not first
    assert ready.compile([X + 1, np.array([0]), np.array([2])]) is first


def test_symbolic_dimensions_are_those_of_the_inputs() -> None:
    ready = onnx_backend.prepare(relu("n", 4))
    assert ready.run([X])[0].shape == (3, 4)
    assert ready.run([X[:2]])[0].shape == (2, 4)


def test_before_shapes_are_known_there_is_no_program() -> None:
    with pytest.raises(CompileError, match="NPU0104.*its inputs are x0, x1; try run"):
        _ = onnx_backend.prepare(reshape()).program


def test_what_a_shape_is_computed_from_is_bound_and_its_shape_is_not() -> None:
    nodes = [
        helper.make_node("Add", ["n", "n"], ["twice"]),
        helper.make_node("Expand", ["x", "twice"], ["wide"]),
        helper.make_node("Shape", ["like"], ["shape"]),
        helper.make_node("Reshape", ["wide", "shape"], ["y"]),
    ]
    inputs = {"x": (F32, [1]), "n": (I64, [1]), "like": (I64, [3])}
    assert onnx_backend.bound_inputs(model_of(nodes, inputs, ["y"])) == {"n"}


@pytest.mark.parametrize(
    ("op_type", "operands"),
    [("Add", [X, X]), ("Gather", [X, np.array([1])]), ("Where", [X > 0, X, X]),
     ("OneHot", [np.array([1]), np.float32(3), X[0, :2]])],
)  # fmt: skip
def test_data_is_never_bound(op_type: str, operands: list[Any]) -> None:
    assert not onnx_backend.bound_inputs(node_model(op_type, operands, {}))


def test_floats_are_bound_where_whole_numbers_say_how_long_a_range_is() -> None:
    whole, broken = ([np.asarray(x, np.float32) for x in (1, end, 2)] for end in (7, 7.5))
    ready = onnx_backend.prepare(node_model("Range", whole, {}))
    np.testing.assert_array_equal(ready.run(whole)[0], [1, 3, 5])
    with pytest.raises(CompileError, match="NPU0104"):
        ready.run(broken)


def test_every_bound_operand_is_one_of_its_schema() -> None:
    import onnx

    for op_type, operands in onnx_backend.BOUND.items():
        assert operands <= {operand.name for operand in onnx.defs.get_schema(op_type).inputs}


def test_the_depth_of_a_one_hot_is_stated_by_the_shape_of_its_result() -> None:
    operands = [np.array([0, 2]), np.float32(3), X[0, :2]]
    model = node_model("OneHot", operands, {})
    model.graph.output[0].CopyFrom(value_info("y0", F32, (2, 3)))
    (y,) = onnx_backend.run_model(model, operands)
    np.testing.assert_array_equal(y, [[-4, -5, -5], [-5, -5, -4]])
