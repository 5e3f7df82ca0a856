"""Malformed models are refused in one line that says what must hold."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import ModelProto, TensorProto, helper
from onnx_cases import floats, i64
from onnx_support import model_of, node_model, value_info

from npu_dialect.diagnostics import CompileError
from npu_dialect.frontends.onnx import load

F32 = "float32"


def refused(source: object, *words: str, **arguments: object) -> str:
    with pytest.raises(CompileError) as caught:
        load(source, **arguments)  # pyright: ignore[reportArgumentType]
    text = str(caught.value)
    assert "\n" not in text
    for word in words:
        assert word in text, text
    return text


def relu() -> ModelProto:
    return node_model("Relu", [floats(4)], {})


def test_a_missing_file(tmp_path: Path) -> None:
    refused(tmp_path / "none.onnx", "NPU0001", "the model file must be readable", "none.onnx")


@pytest.mark.parametrize("data", [b"", b"not a model", b"\x08", b"\x00" * 100, b"PK\x03\x04zip"])
def test_a_file_that_is_no_model(data: bytes, tmp_path: Path) -> None:
    path = tmp_path / "bad.onnx"
    path.write_bytes(data)
    refused(path, "NPU0101", "the file must be a complete ONNX model", "bad.onnx")


def test_a_truncated_model() -> None:
    data = relu().SerializeToString()
    for length in range(len(data)):
        try:
            load(data[:length])
        except CompileError as error:
            assert "\n" not in str(error)


@pytest.mark.parametrize("version", [0, -1, 99])
def test_an_operator_set_that_does_not_exist(version: int) -> None:
    model = relu()
    model.opset_import[0].version = version
    refused(model, "NPU0102", "the operator set must be between 7 and", f"opset {version}")


def test_an_operator_whose_meaning_changed_since_an_old_set() -> None:
    model = node_model("Dropout", [floats(4)], {}, opset=7)
    model.opset_import[0].version = 6
    refused(model, "NPU0102", "Dropout of opset 6")


def test_an_ir_version_of_the_future() -> None:
    model = relu()
    model.ir_version = 999
    refused(model, "NPU0102", "the IR version must be at most")


def test_an_unknown_operator() -> None:
    model = relu()
    model.graph.node[0].op_type = "Frobnicate"
    refused(model, "NPU0103", "node", "ai.onnx.Frobnicate (opset 17)")


def test_an_unknown_domain() -> None:
    model = relu()
    model.graph.node[0].domain = "example.com"
    refused(model, "NPU0103", "example.com.Relu")


def test_an_unknown_attribute() -> None:
    model = node_model("LeakyRelu", [floats(4)], {})
    model.graph.node[0].attribute.append(helper.make_attribute("slope", 1.0))
    refused(model, "slope")


def test_an_attribute_of_a_microsoft_operator_that_nobody_handles() -> None:
    model = node_model(
        "QuickGelu", [floats(4)], {"beta": 1.0}, domain="com.microsoft", result="float32"
    )
    refused(model, "NPU0108", "QuickGelu has the attributes ['alpha']", "'beta'")


def test_a_rotation_without_its_tables() -> None:
    query, part = floats(1, 5, 32), floats(1, 5, 16)
    lengths = [np.array([4], np.int32), np.array(5, np.int32)]
    model = node_model(
        "GroupQueryAttention", [query, part, part, None, None, *lengths],
        {"num_heads": 4, "kv_num_heads": 2, "do_rotary": 1}, (6,), 3, domain="com.microsoft",
        result="float32",
    )  # fmt: skip
    refused(model, "NPU0106", "GroupQueryAttention", "without the inputs cos_cache and sin_cache")


def test_unbound_dimensions_are_listed_with_the_way_to_bind_them() -> None:
    node = helper.make_node("MatMul", ["x", "y"], ["z"])
    model = model_of([node], {"x": (F32, ["n", 3, 224, 224]), "y": (F32, [1, "c", 224])}, ["z"])
    refused(
        model, "NPU0104", "every dimension of an input must be known",
        "unbound x[n, 3, 224, 224], y[1, c, 224]", "--shape x=1,3,224,224 --shape y=1,1,224",
    )  # fmt: skip


@pytest.mark.parametrize("shape", [(3,), (2, 3, 4), (2, 5), (-1, 3)])
def test_a_shape_that_does_not_fit(shape: tuple[int, ...]) -> None:
    model = model_of([helper.make_node("Relu", ["x"], ["y"])], {"x": (F32, ["n", 3])}, ["y"])
    refused(model, "NPU0105", "x[n, 3]", shapes={"x": shape})


def test_a_shape_for_an_input_that_does_not_exist() -> None:
    refused(relu(), "NPU0105", "'z'", "the inputs are x0[4]", shapes={"z": (4,)})


def test_one_symbol_with_two_sizes() -> None:
    node = helper.make_node("Add", ["x", "y"], ["z"])
    model = model_of([node], {"x": (F32, ["n"]), "y": (F32, ["n"])}, ["z"])
    refused(model, "the dimension n must have one size", shapes={"x": (2,), "y": (3,)})


def test_a_missing_initializer() -> None:
    model = node_model("Add", [floats(4), floats(4)], {}, [1])
    del model.graph.initializer[:]
    refused(model, "NPU0101", "node", "Add reads 'x1', which nothing defines")


def test_a_cycle() -> None:
    nodes = [
        helper.make_node("Add", ["x", "b"], ["a"], name="first"),
        helper.make_node("Relu", ["a"], ["b"]),
    ]
    model = model_of([helper.make_node("Relu", ["x"], ["b"])], {"x": (F32, [2])}, ["b"])
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    refused(model, "NPU0101", "first", "without cycles", "Add depends on its own result")


def test_a_tensor_computed_twice() -> None:
    model = relu()
    model.graph.node.append(helper.make_node("Neg", ["x0"], ["y0"], name="again"))
    refused(model, "again", "a second definition of 'y0'")


@pytest.mark.parametrize("field", ["input", "initializer", "output"])
def test_a_name_given_twice(field: str) -> None:
    model = node_model("Add", [floats(4), floats(4)], {}, [1])
    entries = getattr(model.graph, field)
    entries.append(entries[0])
    refused(model, "NPU0101", f"every {field} must have a name of its own", "twice")


def test_a_model_without_outputs() -> None:
    model = relu()
    del model.graph.output[:]
    refused(model, "NPU0101", "a model must have outputs", "none")


def test_an_output_that_nothing_computes() -> None:
    model = relu()
    model.graph.output.append(value_info("z", F32, [4]))
    refused(model, "z", "every output must be computed")


def test_an_output_of_another_type() -> None:
    model = relu()
    model.graph.output[0].type.tensor_type.elem_type = TensorProto.INT64
    refused(model, "NPU0107", "declared int64, computed f32")


def test_an_initializer_with_too_little_data() -> None:
    model = node_model("Add", [floats(4), floats(4)], {}, [1])
    model.graph.initializer[0].raw_data = b"123"
    refused(model, "NPU0101")


def test_an_initializer_of_the_wrong_type() -> None:
    model = node_model("Add", [floats(4), floats(4)], {}, [1])
    model.graph.initializer[0].data_type = TensorProto.INT32
    refused(model, "NPU0106", "Add")


@pytest.mark.parametrize("code", [TensorProto.STRING, TensorProto.COMPLEX64, 77])
def test_an_input_of_a_type_that_no_tensor_has(code: int) -> None:
    model = relu()
    model.graph.input[0].type.tensor_type.elem_type = code
    refused(model)


def test_an_input_that_is_no_tensor() -> None:
    model = relu()
    sequence = helper.make_sequence_type_proto(helper.make_tensor_type_proto(1, [4]))
    model.graph.input[0].type.CopyFrom(sequence)
    refused(model, "every input of a model must be a tensor", "sequence_type")


@pytest.mark.parametrize("dims", [(1 << 60,), (1 << 31, 1 << 31), (-4,)])
def test_an_absurd_input(dims: tuple[int, ...]) -> None:
    model = relu()
    model.graph.input[0].type.tensor_type.ClearField("shape")
    for dim in dims:
        model.graph.input[0].type.tensor_type.shape.dim.add().dim_value = dim
    refused(model)


def test_an_absurd_initializer() -> None:
    model = node_model("Add", [floats(4), floats(4)], {}, [1])
    model.graph.initializer[0].dims[:] = [1 << 40, 1 << 20]
    refused(model)


@pytest.mark.parametrize("op_type", ["ConstantOfShape", "Tile", "Expand", "Pad"])
def test_an_absurd_result(op_type: str) -> None:
    huge = i64(1 << 60)
    inputs = [huge] if op_type == "ConstantOfShape" else [floats(1), huge]
    if op_type == "Pad":
        inputs = [floats(1), i64(0, 1 << 60)]
    node = helper.make_node(op_type, [f"x{k}" for k in range(len(inputs))], ["y"], name="node")
    constants = {f"x{k}": array for k, array in enumerate(inputs)}
    refused(model_of([node], {}, ["y"], constants), "at most 16 GiB")


def test_blocks_of_an_absurd_size() -> None:
    table = np.zeros((6, 16), np.uint8)
    model = node_model(
        "GatherBlockQuantized", [table, i64(1, 3), floats(6, 1)],
        {"bits": 4, "block_size": 1 << 60, "quantize_axis": 1}, (0, 2), domain="com.microsoft",
        result="float32",
    )  # fmt: skip
    refused(model, "at most 1 GiB")


@pytest.mark.parametrize("location", ["../secret", "/etc/passwd", "", ".", "none.bin"])
def test_external_data_outside_of_the_folder(location: str, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    (tmp_path / "secret").write_bytes(floats(4).tobytes())
    model = node_model("Add", [floats(4), floats(4)], {}, [1])
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value=location)
    path = folder / "model.onnx"
    path.write_bytes(model.SerializeToString())
    refused(path, "NPU0101", "external data must be a file inside the model's folder")


def external(location: str) -> TensorProto:
    tensor = TensorProto(name="c", data_type=TensorProto.FLOAT, dims=[4])
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value=location)
    return tensor


def in_a_function(tensor: TensorProto) -> ModelProto:
    """A constant in the body of a function of the model."""
    body = [
        helper.make_node("Constant", [], ["c"], value=tensor),
        helper.make_node("Add", ["a", "c"], ["b"]),
    ]
    imports = [helper.make_opsetid("", 17)]
    plus = helper.make_function("local", "Plus", ["a"], ["b"], body, imports)
    model = relu()
    model.graph.node[0].op_type, model.graph.node[0].domain = "Plus", "local"
    model.opset_import.append(helper.make_opsetid("local", 1))
    model.functions.append(plus)
    return model


def in_a_branch(tensor: TensorProto) -> ModelProto:
    """An initializer of a subgraph."""
    output = value_info("t", F32, [4])
    nodes = [helper.make_node("Identity", ["c"], ["t"])]
    branch = helper.make_graph(nodes, "branch", [], [output], [tensor])
    model = relu()
    model.graph.input.append(value_info("p", "bool", []))
    choice = helper.make_node("If", ["p"], ["y0"], then_branch=branch, else_branch=branch)
    model.graph.node[0].CopyFrom(choice)
    return model


def in_a_sparse_initializer(tensor: TensorProto) -> ModelProto:
    model = relu()
    model.graph.sparse_initializer.add(values=tensor, dims=[4])
    return model


@pytest.mark.parametrize("place", [in_a_function, in_a_branch, in_a_sparse_initializer])
def test_external_data_is_looked_at_wherever_it_stands(
    place: Callable[[TensorProto], ModelProto], tmp_path: Path
) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    (tmp_path / "secret").write_bytes(floats(4).tobytes())
    path = folder / "model.onnx"
    path.write_bytes(place(external("../secret")).SerializeToString())
    refused(path, "NPU0101", "external data must be a file inside the model's folder")


def test_external_data_of_the_wrong_length(tmp_path: Path) -> None:
    model = node_model("Add", [floats(4), floats(4)], {}, [1])
    path = tmp_path / "model.onnx"
    onnx.save_model(model, str(path), save_as_external_data=True, location="data", size_threshold=0)
    (tmp_path / "data").write_bytes(b"short")
    refused(path, "as long as the tensor", "not 16 bytes at its offset")


def test_a_function_that_calls_itself() -> None:
    body = [helper.make_node("Relu", ["a"], ["b"])]
    imports = [helper.make_opsetid("", 17), helper.make_opsetid("local", 1)]
    again = helper.make_function("local", "Again", ["a"], ["b"], body, imports)
    node = helper.make_node("Again", ["x"], ["y"], domain="local")
    model = model_of([node], {"x": (F32, [2])}, ["y"], functions=[again])
    del model.graph.output[:]
    model.graph.output.append(value_info("y", F32, [2]))
    model.functions[0].node[0].op_type = "Again"
    model.functions[0].node[0].domain = "local"
    refused(model, "NPU0101", "recursive")


def test_a_constant_without_a_value() -> None:
    model = relu()
    model.graph.node.insert(0, helper.make_node("Constant", [], ["c"], name="empty"))
    refused(model, "empty")


def test_a_result_whose_shape_depends_on_data() -> None:
    refused(node_model("NonZero", [floats(4)], {}), "NPU0104", "the shape of 'y0' depends")


MISFITS: dict[str, Callable[[], ModelProto]] = {
    "broadcast": lambda: node_model("Add", [floats(3), floats(4)], {}),
    "types": lambda: node_model("Add", [floats(3), i64(1, 2, 3)], {}),
    "matmul": lambda: node_model("MatMul", [floats(3, 4), floats(5, 6)], {}),
    "reshape": lambda: node_model("Reshape", [floats(3, 4), i64(5, 5)], {}, [1]),
    "axis": lambda: node_model("Softmax", [floats(3, 4)], {"axis": 7}),
    "channels": lambda: node_model("Conv", [floats(1, 3, 8, 8), floats(4, 5, 3, 3)], {}, [1]),
    "window": lambda: node_model("Conv", [floats(1, 3, 8, 8), floats(4, 3, 9, 9)], {}, [1]),
    "permutation": lambda: node_model("Transpose", [floats(3, 4)], {"perm": [0, 0]}),
    "step": lambda: node_model(
        "Slice", [floats(4), i64(0), i64(4), i64(0), i64(0)], {}, [1, 2, 3, 4]
    ),
    "index": lambda: node_model("Gather", [floats(4), i64(9)], {}, [0, 1]),
}  # fmt: skip


@pytest.mark.parametrize("name", MISFITS)
def test_inputs_that_do_not_fit_together(name: str) -> None:
    refused(MISFITS[name](), "NPU0106", "node", "must fit together")


@settings(
    max_examples=150, deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)  # fmt: skip
@given(st.data())
def test_a_corrupted_model_is_refused_or_imported(data: st.DataObject) -> None:
    inputs = [floats(1, 3, 8, 8), floats(4, 3, 3, 3), floats(4)]
    model = node_model("Conv", inputs, {"pads": [1, 1, 1, 1], "strides": [2, 2]}, [1, 2])
    content = bytearray(model.SerializeToString())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    try:
        load(bytes(content))
    except CompileError as error:
        assert "\n" not in str(error)


def test_the_proto_of_the_caller_is_not_changed() -> None:
    model = node_model("Conv", [floats(1, 3, 8, 8), floats(4, 3, 3, 3)], {}, [1])
    before = model.SerializeToString()
    load(model)
    assert model.SerializeToString() == before


def test_a_sequence() -> None:
    nodes = [
        helper.make_node("SequenceConstruct", ["x"], ["s"]),
        helper.make_node("SequenceLength", ["s"], ["y"]),
    ]
    model = model_of(nodes, {"x": ("float32", [3])}, ["y"])
    refused(model, "NPU0109", "the results of an operator must be tensors; found a sequence_type")


def test_an_operator_that_neither_graph_nor_the_host_can_do() -> None:
    boxes = floats(1, 5)
    model = node_model("MaxRoiPool", [floats(1, 2, 8, 8), boxes], {"pooled_shape": [2, 2]})
    refused(model, "NPU0109", "MaxRoiPool, which the host cannot run, must be expressible")
