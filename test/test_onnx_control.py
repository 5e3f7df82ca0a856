"""Loops of a known number of steps are unrolled, with the results that onnxruntime gives."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper
from onnx_support import operations, run_onnxruntime

from npu_dialect.frontends.onnx import load
from npu_dialect.graph.interpret import run

FLOAT = TensorProto.FLOAT


def info(name: str, *shape: int, element: int = FLOAT) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, element, shape)


def model(node: onnx.NodeProto, inputs: Any, outputs: Any, constants: Any = ()) -> onnx.ModelProto:
    graph = helper.make_graph([node], "main", inputs, outputs, initializer=list(constants))
    opset = helper.make_opsetid("", 17)
    return helper.make_model(graph, opset_imports=[opset], ir_version=8)


def running_sum() -> onnx.GraphProto:
    """A state that adds up, and each of its values."""
    nodes = [
        helper.make_node("Add", ["state", "x"], ["sum"]),
        helper.make_node("Mul", ["sum", "factor"], ["y"]),
    ]
    return helper.make_graph(
        nodes, "body", [info("state", 2), info("x", 2)], [info("sum", 2), info("y", 2)]
    )


@given(
    steps=st.integers(1, 4),
    axis=st.sampled_from([0, 1, -1]),
    backwards=st.booleans(),
    out_axis=st.sampled_from([0, 1, -1]),
    out_backwards=st.booleans(),
)
def test_a_scan_along_any_axis_in_both_directions(
    steps: int, axis: int, backwards: bool, out_axis: int, out_backwards: bool
) -> None:
    node = helper.make_node(
        "Scan", ["initial", "x"], ["last", "all"], body=running_sum(), num_scan_inputs=1,
        scan_input_axes=[axis], scan_input_directions=[int(backwards)],
        scan_output_axes=[out_axis], scan_output_directions=[int(out_backwards)],
    )  # fmt: skip
    shape = (steps, 2) if axis == 0 else (2, steps)
    result = (steps, 2) if out_axis == 0 else (2, steps)
    factor = numpy_helper.from_array(np.array(3, np.float32), "factor")
    inputs, outputs = (
        [info("initial", 2), info("x", *shape)],
        [info("last", 2), info("all", *result)],
    )
    proto = model(node, inputs, outputs, [factor])
    feeds = {
        "initial": np.array([1, 2], np.float32),
        "x": np.arange(2 * steps, dtype=np.float32).reshape(shape),
    }
    module = load(proto)
    assert not operations(module, "graph.opaque")
    for found, expected in zip(
        run(module, list(feeds.values())), run_onnxruntime(proto, feeds), strict=True
    ):
        np.testing.assert_array_equal(found, expected)


def loop(limit: int | None, stop: int | None, shape: tuple[int, ...]) -> onnx.ModelProto:
    """x doubles in each step, until the limit or while the step is before `stop`."""
    nodes = [
        helper.make_node("Add", ["x", "x"], ["double"]),
        helper.make_node("Identity", ["double"], ["row"]),
        helper.make_node("Less", ["k", "last"], ["on"])
        if stop is not None
        else helper.make_node("Identity", ["before"], ["on"]),
    ]
    body = helper.make_graph(
        nodes,
        "body",
        [info("k", element=TensorProto.INT64), info("before", element=TensorProto.BOOL),
         info("x", 2)],
        [info("on", element=TensorProto.BOOL), info("double", 2), info("row", 2)],
    )  # fmt: skip
    node = helper.make_node(
        "Loop", ["limit" if limit else "", "", "first"], ["y", "rows"], body=body
    )
    constants = [numpy_helper.from_array(np.array(stop or 0, np.int64), "last")]
    if limit:
        constants.append(numpy_helper.from_array(np.array(limit, np.int64), "limit"))
    return model(node, [info("first", 2)], [info("y", 2), info("rows", *shape)], constants)


@pytest.mark.parametrize(("limit", "stop", "steps"), [(3, None, 3), (5, 1, 2), (None, 2, 3)])
def test_a_loop_by_its_limit_or_its_condition(
    limit: int | None, stop: int | None, steps: int
) -> None:
    proto = loop(limit, stop, (steps, 2))
    x = np.array([1, -3], np.float32)
    module = load(proto)
    assert not operations(module, "graph.opaque")
    y, rows = run(module, [x])
    np.testing.assert_array_equal(y, x * 2**steps)
    np.testing.assert_array_equal(rows, [x * 2**k for k in range(1, steps + 1)])


def test_a_loop_of_many_steps_stays_one_node() -> None:
    module = load(loop(10_000, None, (10_000, 2)))
    assert len(operations(module, "graph.opaque")) == 1


def test_a_loop_with_a_condition_of_run_time_keeps_its_state_after_the_end() -> None:
    """x doubles at most five times, while it is below the bound."""
    nodes = [
        helper.make_node("Add", ["x", "x"], ["double"]),
        helper.make_node("ReduceMax", ["double"], ["most"], keepdims=0),
        helper.make_node("Less", ["most", "bound"], ["on"]),
    ]
    body = helper.make_graph(
        nodes,
        "body",
        [info("k", element=TensorProto.INT64), info("before", element=TensorProto.BOOL),
         info("x", 2)],
        [info("on", element=TensorProto.BOOL), info("double", 2)],
    )  # fmt: skip
    node = helper.make_node("Loop", ["limit", "", "first"], ["y"], body=body)
    limit = numpy_helper.from_array(np.array(5, np.int64), "limit")
    proto = model(node, [info("first", 2), info("bound")], [info("y", 2)], [limit])
    module = load(proto)
    assert not operations(module, "graph.opaque")
    for bound in (0, 3, 10, 1000):
        feeds = {"first": np.array([1, -3], np.float32), "bound": np.array(bound, np.float32)}
        (expected,) = run_onnxruntime(proto, feeds)
        (found,) = run(module, list(feeds.values()))
        np.testing.assert_array_equal(found, expected)
