"""What an imported model looks like."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper
from onnx_cases import f32, floats, i64, ints, scalar
from onnx_support import model_of, node_model, operations
from xdsl.dialects.builtin import ArrayAttr, ModuleOp, StringAttr
from xdsl.dialects.func import FuncOp
from xdsl.ir import Operation

from npu_dialect import dtypes, graph, provenance
from npu_dialect.diagnostics import Code, collect
from npu_dialect.frontends.onnx import load
from npu_dialect.graph.interpret import run

F32 = "float32"


def function(module: ModuleOp) -> FuncOp:
    op = module.body.block.first_op
    assert isinstance(op, FuncOp)
    return op


def names(module: ModuleOp, attribute: str) -> list[str]:
    found = function(module).attributes[attribute]
    assert isinstance(found, ArrayAttr)
    return [item.data for item in found.data if isinstance(item, StringAttr)]


def kinds(module: ModuleOp) -> list[str]:
    """The graph ops that are not constants, in order."""
    found = [op.name.removeprefix("graph.") for op in module.walk() if op.name.startswith("graph.")]
    return [name for name in found if name != "constant"]


def element(op: Operation) -> graph.QuantType:
    result = op.results[0].type
    found = getattr(result, "element_type", None)
    assert isinstance(found, graph.QuantType)
    return found


def test_the_function_keeps_the_names_of_inputs_and_outputs() -> None:
    node = helper.make_node("Add", ["image:0", "y"], ["sum/out"])
    model = model_of([node], {"image:0": (F32, [2]), "y": (F32, [2])}, ["sum/out"])
    module = load(model)
    assert names(module, "npu.input_names") == ["image:0", "y"]
    assert names(module, "npu.output_names") == ["sum/out"]


def test_every_operation_knows_its_node() -> None:
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"], name="conv1"),
        helper.make_node("Relu", ["c"], ["y"]),
    ]
    model = model_of(nodes, {"x": (F32, [1, 2, 5, 5])}, ["y"], {"w": floats(3, 2, 3, 3)})
    module = load(model)
    provenance.check(module)
    assert {provenance.sources(op) for op in operations(module, "graph.conv2d")} == {("conv1",)}
    assert provenance.sources(operations(module, "graph.relu")[0]) == ("y",)


def test_a_convolution_is_channels_last_with_its_weights_turned() -> None:
    w = floats(3, 2, 5, 4)
    model = node_model("Conv", [floats(1, 2, 9, 9), w], {}, [1])
    module = load(model)
    assert kinds(module) == ["transpose", "conv2d", "transpose"]
    (constant,) = operations(module, "graph.constant")
    assert isinstance(constant, graph.ConstantOp)
    np.testing.assert_array_equal(constant.array, w.transpose(2, 3, 1, 0))


def test_chains_of_shapes_are_folded() -> None:
    nodes = [
        helper.make_node("Shape", ["x"], ["s"]),
        helper.make_node("Gather", ["s", "zero"], ["n"]),
        helper.make_node("Unsqueeze", ["n"], ["n1"], axes=[0]),
        helper.make_node("Concat", ["n1", "rest"], ["shape"], axis=0),
        helper.make_node("Reshape", ["x", "shape"], ["y"]),
    ]
    constants = {"zero": scalar(0, np.int64), "rest": i64(-1)}
    module = load(model_of(nodes, {"x": (F32, [2, 3, 4])}, ["y"], constants, opset=11))
    assert kinds(module) == ["reshape"]
    assert not operations(module, "graph.constant")


def test_a_quantized_weight_stays_in_its_integers() -> None:
    w = ints(3, 2, 3, 3, dtype=np.int8)
    nodes = [
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["w"], name="dq", axis=0),
        helper.make_node("Conv", ["x", "w"], ["y"], name="conv"),
    ]
    scales = f32(0.1, 0.2, 0.3)
    constants = {"q": w, "s": scales, "z": np.zeros(3, np.int8)}
    module = load(model_of(nodes, {"x": (F32, [1, 2, 5, 5])}, ["y"], constants))
    (constant,) = operations(module, "graph.constant")
    assert isinstance(constant, graph.ConstantOp)
    np.testing.assert_array_equal(constant.array, w.transpose(2, 3, 1, 0))
    assert element(constant).axis == 3
    np.testing.assert_array_equal(element(constant).scales, scales)
    assert kinds(module) == ["transpose", "dequantize", "conv2d", "transpose"]
    assert provenance.sources(operations(module, "graph.dequantize")[0]) == ("dq",)


def test_the_bias_of_a_quantized_model_is_i32() -> None:
    constants = {"q": ints(4), "s": scalar(0.001)}
    nodes = [
        helper.make_node("DequantizeLinear", ["q", "s"], ["b"]),
        helper.make_node("Add", ["x", "b"], ["y"]),
    ]
    module = load(model_of(nodes, {"x": (F32, [4])}, ["y"], constants))
    (constant,) = operations(module, "graph.constant")
    assert element(constant).storage_dtype is dtypes.i32


def test_quantize_states_scale_and_zero_point_in_its_type() -> None:
    model = node_model("QuantizeLinear", [floats(4), scalar(0.05), scalar(-3, np.int8)], {}, [1, 2])
    (op,) = operations(load(model), "graph.quantize")
    assert (element(op).scale, element(op).zero_point) == (float(np.float32(0.05)), -3)


def test_a_stored_input_takes_the_type_of_its_dequantization() -> None:
    model = node_model(
        "DequantizeLinear", [ints(4, dtype=np.uint8), scalar(0.05), scalar(7, np.uint8)], {}, [1, 2]
    )
    module = load(model)
    assert kinds(module) == ["dequantize"]
    assert "quant.uniform<u8:f32, 0.05:7>" in str(function(module).body.block.args[0].type)


def test_stored_values_may_be_read_with_other_parameters() -> None:
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "t", "u"], ["y"]),
    ]
    constants = {
        "s": scalar(0.1), "z": scalar(3, np.uint8), "t": scalar(0.2), "u": scalar(9, np.uint8)
    }  # fmt: skip
    x = f32(0, 0.1, 1.5, 80, -2)
    (y,) = run(load(model_of(nodes, {"x": (F32, [5])}, ["y"], constants)), [x])
    np.testing.assert_array_equal(y, (f32(3, 4, 18, 255, 0) - 9) * np.float32(0.2))


def test_qlinear_conv_rescales_as_onnxruntime_does() -> None:
    w_scale = f32(0.01, 0.02)
    inputs = [
        ints(1, 2, 5, 5, dtype=np.int8), scalar(0.03), scalar(1, np.int8),
        ints(2, 2, 3, 3, dtype=np.int8), w_scale, np.zeros(2, np.int8),
        scalar(0.07), scalar(4, np.int8),
    ]  # fmt: skip
    module = load(node_model("QLinearConv", inputs, {}, range(1, 8)))
    (op,) = operations(module, "graph.requantize")
    assert isinstance(op, graph.RequantizeOp)
    expected = np.float32(0.03) * w_scale / np.float32(0.07)
    np.testing.assert_array_equal(op.recipe.data.multiplier, expected)
    assert kinds(module) == ["transpose", "conv2d", "requantize", "transpose"]


def test_an_operator_that_graph_lacks_becomes_opaque_with_its_reason() -> None:
    module = load(node_model("Det", [floats(5, 5)], {}))
    (op,) = operations(module, "graph.opaque")
    assert isinstance(op, graph.OpaqueOp)
    assert op.reason is not None
    assert op.reason.data == "the determinant of 5 by 5"
    x = floats(5, 5)
    (y,) = run(module, [x])
    np.testing.assert_allclose(y, np.linalg.det(x), rtol=1e-5)


def test_an_opaque_operator_on_constants_is_folded() -> None:
    module = load(node_model("Det", [floats(5, 5)], {}, [0]))
    assert kinds(module) == []


def test_random_operators_are_not_folded() -> None:
    module = load(node_model("RandomUniform", [], {"shape": [2]}))
    assert kinds(module) == ["opaque"]


def test_composite_operators_are_expanded_by_the_body_that_onnx_gives() -> None:
    module = load(node_model("Mish", [floats(4)], {}, opset=18))
    assert kinds(module) == ["softplus", "tanh", "mul"]
    assert all(provenance.sources(op) == ("node",) for op in operations(module, "graph.tanh"))


def test_functions_of_the_model_are_inlined() -> None:
    body = [helper.make_node("LeakyRelu", ["a"], ["b"])]
    body[0].attribute.append(onnx.AttributeProto(name="alpha", ref_attr_name="slope", type="FLOAT"))
    leak = helper.make_function(
        "local", "Leak", ["a"], ["b"], body, [helper.make_opsetid("", 17)], attributes=["slope"]
    )
    node = helper.make_node("Leak", ["x"], ["y"], name="leak", domain="local", slope=0.5)
    model = model_of([node], {"x": (F32, [2])}, ["y"], functions=[leak])
    del model.graph.output[:]
    model.graph.output.append(helper.make_tensor_value_info("y", 1, [2]))
    module = load(model)
    np.testing.assert_array_equal(run(module, [f32(-2, 2)])[0], f32(-1, 2))
    assert provenance.sources(operations(module, "graph.leaky_relu")[0]) == ("leak",)


def branch(name: str, op_type: str) -> onnx.GraphProto:
    node = helper.make_node(op_type, ["x"], [name])
    return helper.make_graph([node], name, [], [helper.make_tensor_value_info(name, 1, [2])])


@pytest.mark.parametrize(("condition", "expected"), [(True, "relu"), (False, "neg")])
def test_an_if_on_a_constant_is_one_of_its_branches(condition: bool, expected: str) -> None:
    branches: dict[str, Any] = {
        "then_branch": branch("a", "Relu"),
        "else_branch": branch("b", "Neg"),
    }
    node = helper.make_node("If", ["c"], ["y"], **branches)
    model = model_of([node], {"x": (F32, [2])}, ["y"], {"c": np.array(condition)})
    assert kinds(load(model)) == [expected]


def selection(**branches: onnx.GraphProto) -> ModuleOp:
    attributes: dict[str, Any] = branches
    node = helper.make_node("If", ["c"], ["y"], **attributes)
    return load(model_of([node], {"c": ("bool", []), "x": (F32, [2])}, ["y"]))


def test_an_if_at_run_time_computes_both_branches_and_chooses() -> None:
    module = selection(then_branch=branch("a", "Relu"), else_branch=branch("b", "Neg"))
    assert kinds(module) == ["relu", "neg", "where"]
    for condition, expected in ((True, f32(0, 3)), (False, f32(1, -3))):
        found = run(module, [np.array(condition), f32(-1, 3)])
        np.testing.assert_array_equal(found[0], expected)


def test_symbolic_dimensions_are_bound_by_name_of_the_input() -> None:
    node = helper.make_node("Add", ["x", "y"], ["z"])
    model = model_of([node], {"x": (F32, ["n", 3]), "y": (F32, ["n", 1])}, ["z"])
    module = load(model, {"x": (4, 3)})
    types = [str(argument.type) for argument in function(module).body.block.args]
    assert types == ["tensor<4x3xf32>", "tensor<4x1xf32>"]


def test_an_input_that_is_a_shape_can_be_given_when_compiling() -> None:
    model = node_model("Reshape", [floats(2, 6), i64(3, 4)], {})
    module = load(model, values={"x1": i64(3, 4)})
    assert names(module, "npu.input_names") == ["x0"]
    assert kinds(module) == ["reshape"]


def test_unsorted_nodes_are_sorted() -> None:
    nodes = [helper.make_node("Relu", ["a"], ["y"]), helper.make_node("Neg", ["x"], ["a"])]
    model = model_of(nodes[::-1], {"x": (F32, [2])}, ["y"])
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    assert kinds(load(model)) == ["neg", "relu"]


def test_results_that_nobody_uses_leave_nothing() -> None:
    nodes = [helper.make_node("Relu", ["x"], ["y"]), helper.make_node("Neg", ["x"], ["z"])]
    assert kinds(load(model_of(nodes, {"x": (F32, [2])}, ["y"]))) == ["relu"]


def test_an_input_or_a_constant_may_be_an_output() -> None:
    nodes = [helper.make_node("Identity", ["x"], ["y"]), helper.make_node("Neg", ["c"], ["z"])]
    module = load(model_of(nodes, {"x": (F32, [2])}, ["y", "z"], {"c": f32(5)}))
    y, z = run(module, [f32(1, 2)])
    np.testing.assert_array_equal(y, f32(1, 2))
    np.testing.assert_array_equal(z, f32(-5))


def test_large_constant_results_are_not_folded() -> None:
    model = node_model("ConstantOfShape", [i64(1 << 13, 1 << 13)], {}, [0])
    assert kinds(load(model)) == ["broadcast_to"]


def test_half_precision_is_computed_in_f32() -> None:
    module = load(node_model("Exp", [floats(4).astype(np.float16)], {}))
    assert kinds(module) == ["cast", "exp", "cast"]


def test_data_beside_the_model_is_read(tmp_path: Path) -> None:
    w = floats(4, 5)
    model = node_model("MatMul", [floats(2, 4), w], {}, [1])
    path = tmp_path / "model.onnx"
    onnx.save_model(
        model, str(path), save_as_external_data=True, location="weights.bin", size_threshold=0
    )
    (constant,) = operations(load(path), "graph.constant")
    assert isinstance(constant, graph.ConstantOp)
    np.testing.assert_array_equal(constant.array, w)


def test_a_path_its_bytes_and_the_proto_give_the_same_module(tmp_path: Path) -> None:
    model = node_model("Relu", [floats(4)], {})
    path = tmp_path / "model.onnx"
    path.write_bytes(model.SerializeToString())
    texts = {str(load(source)) for source in (path, str(path), path.read_bytes(), model)}
    assert len(texts) == 1


def test_an_initializer_of_an_old_model_need_not_be_an_input() -> None:
    model = node_model("Add", [floats(2, 3), floats(3)], {}, constants=(1,))
    model.ir_version = 3
    (y,) = run(load(model), [floats(2, 3)])
    np.testing.assert_array_equal(y, floats(2, 3) + floats(3))


def test_a_result_of_no_elements_is_a_constant() -> None:
    module = load(node_model("Add", [floats(0, 4), floats(4)], {}))
    assert kinds(module) == []
    (y,) = run(module, [floats(0, 4), floats(4)])
    assert y.shape == (0, 4)


def test_an_infinite_scale_is_named_and_makes_a_constant() -> None:
    """onnxruntime's quantizer writes one for a mask of infinities."""
    nodes = [helper.make_node("QuantizeLinear", ["x", "s", "z"], ["y"], name="mask")]
    constants = {"s": scalar(np.inf), "z": scalar(0, np.uint8)}
    with collect() as records:
        module = load(model_of(nodes, {"x": (F32, [2, 3])}, ["y"], constants))
    (constant,) = operations(module, "graph.constant")
    assert isinstance(constant, graph.ConstantOp)
    assert not constant.array.any()
    assert [(r.code, "mask" in str(r)) for r in records] == [(Code.DEGENERATE, True)]
