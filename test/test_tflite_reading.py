"""What a .tflite file may hold: sparse and 16-bit constants, data outside, free sizes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import npu_dialect as npu
from npu_dialect.diagnostics import CompileError

pytest.importorskip("tflite")
pytest.importorskip("ai_edge_litert")

from tflite_graphs import Models
from tflite_models import Array, Tensor, constant, model, reference, schema

from npu_dialect.frontends import tflite

F32, I32 = "float32", "int32"


def unpacked(source: bytes) -> Any:
    return schema().ModelT.InitFromPackedBuf(source, 0)


def packed(found: Any) -> bytes:
    import flatbuffers

    builder = flatbuffers.Builder(1024)
    builder.Finish(found.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def outputs(source: bytes, *inputs: Array) -> list[Array]:
    """At level graph, as imported."""
    return list(npu.execute(npu.load(tflite.load(source)), list(inputs)).values())


# Sparse constants


def sparse(dense: Array, order: list[int], block: tuple[int, ...], formats: list[int]) -> Any:
    """A sparsity table and the stored values, found position by position."""
    s, rank = schema(), dense.ndim
    blocked = [k for k in range(rank) if block[k] > 1]
    outer = [dense.shape[k] // block[k] for k in range(rank)]
    sizes = [*outer, *(block[k] for k in blocked)]

    def at(path: list[int]) -> Any:
        """The part of the tensor below the first stored dimensions: what it holds, flat."""
        index = dict(zip(order, path, strict=False))
        found: list[Any] = []
        for place in np.ndindex(*dense.shape):
            coordinates = [place[k] // block[k] for k in range(rank)]
            coordinates += [place[k] % block[k] for k in blocked]
            if all(coordinates[axis] == i for axis, i in index.items()):
                found.append(dense[place])
        return found

    table = s.SparsityParametersT()
    table.traversalOrder, table.blockMap, table.dimMetadata = order, blocked, []
    paths: list[list[int]] = [[]]
    for axis, is_sparse in zip(order, formats, strict=True):
        each, longer = s.DimensionMetadataT(), list[list[int]]()
        each.format, each.denseSize = is_sparse, sizes[axis]
        segments, indices = [0], list[int]()
        for path in paths:
            kept = [i for i in range(sizes[axis]) if not is_sparse or any(at([*path, i]))]
            longer += [[*path, i] for i in kept]
            indices += kept
            segments.append(len(indices))
        if is_sparse:
            each.arraySegmentsType = each.arrayIndicesType = s.SparseIndexVector.Int32Vector
            each.arraySegments, each.arrayIndices = s.Int32VectorT(), s.Int32VectorT()
            each.arraySegments.values, each.arrayIndices.values = segments, indices
        table.dimMetadata.append(each)
        paths = longer
    values = [at(path)[0] for path in paths]
    return table, np.array(values, dense.dtype)


def with_sparse_constant(dense: Array, table: Any, values: Array) -> bytes:
    """y = x + DENSIFY(constant)."""
    m = Models()
    main = m.graph("main")
    w = main.tensor(dense.shape, F32, values=values)
    main.made.tensors[w].sparsity = table
    d = main.op("DENSIFY", [w], [main.tensor(dense.shape, F32)], "DensifyOptions")
    x = main.input(dense.shape, F32)
    main.op("ADD", [x, d], [main.output(dense.shape, F32)], "AddOptions")
    return m.bytes()


PATTERNS = [
    ((3, 4), [0, 1], (1, 1), [0, 1]),
    ((3, 4), [1, 0], (1, 1), [0, 1]),
    ((4, 4), [0, 1, 2], (1, 2), [0, 1, 0]),
    ((4, 6), [0, 1, 2, 3], (2, 3), [0, 1, 0, 0]),
    ((2, 3, 4), [0, 1, 2], (1, 1, 1), [0, 1, 1]),
]


@pytest.mark.parametrize("pattern", PATTERNS)
@given(st.integers(0, 2**32 - 1))
@settings(max_examples=8)
def test_sparse_constants_are_those_of_the_reference(pattern: Any, seed: int) -> None:
    shape, order, block, formats = pattern
    rng = np.random.default_rng(seed)
    dense = (rng.integers(1, 9, shape) * (rng.random(shape) < 0.4)).astype(np.float32)
    source = with_sparse_constant(dense, *sparse(dense, order, block, formats))
    x = np.zeros(shape, np.float32)
    np.testing.assert_array_equal(outputs(source, x)[0], dense)
    np.testing.assert_array_equal(reference(source, [x])[0], dense)


def test_sparse_values_that_do_not_fit_are_refused() -> None:
    dense = np.eye(4, dtype=np.float32)
    table, values = sparse(dense, [0, 1], (1, 1), [0, 1])
    with pytest.raises(CompileError, match="3 sparse values, where 4 are stated|do not fit"):
        tflite.load(with_sparse_constant(dense, table, values[:3]))
    table.dimMetadata[1].arrayIndices.values = [0, 1, 2, 9]
    with pytest.raises(CompileError, match=r"sparse values outside of \[4, 4\]"):
        tflite.load(with_sparse_constant(dense, table, values))
    table.dimMetadata[0].denseSize = 1 << 30
    with pytest.raises(CompileError, match="1 times 1073741824 sparse values, of 16"):
        tflite.load(with_sparse_constant(dense, table, values))


# Weights of 16-bit floats


def test_weights_of_16_bit_floats_become_those_of_32_bits() -> None:
    m, rng = Models(), np.random.default_rng(0)
    main = m.graph("main")
    w = main.constant(rng.normal(size=(5, 3, 3, 2)), "float16")
    b = main.constant(rng.normal(size=5), "float16")
    wide = main.op("DEQUANTIZE", [w], [main.tensor((5, 3, 3, 2), F32)])
    more = main.op("DEQUANTIZE", [b], [main.tensor((5,), F32)])
    x, y = main.input((1, 6, 6, 2), F32), main.output((1, 6, 6, 5), F32)
    main.op("CONV_2D", [x, wide, more], [y], "Conv2DOptions", strideW=1, strideH=1)
    image = rng.normal(size=(1, 6, 6, 2)).astype(np.float32)
    (function,) = tflite.load(m.bytes()).ops
    assert [op.name for op in function.regions[0].block.ops].count("graph.constant") == 2
    np.testing.assert_array_equal(outputs(m.bytes(), image)[0], reference(m.bytes(), [image])[0])


# Data behind the flatbuffer


def test_buffers_may_lie_behind_the_flatbuffer() -> None:
    x = Tensor((2, 3), F32)
    values = np.arange(6, dtype=np.float32).reshape(2, 3)
    plain = model("ADD", [x, constant(values, F32)], [x], "AddOptions")
    found = unpacked(plain)
    data = bytes(found.buffers[1].data)
    found.buffers[1].data, found.buffers[1].offset, found.buffers[1].size = None, 2, len(data)
    start = (len(packed(found)) + 15) // 16 * 16
    found.buffers[1].offset = start
    source = packed(found).ljust(start, b"\0") + data
    image = np.ones((2, 3), np.float32)
    np.testing.assert_array_equal(outputs(source, image)[0], values + 1)
    np.testing.assert_array_equal(reference(source, [image])[0], values + 1)
    with pytest.raises(CompileError, match=f"24 bytes at {start}"):
        tflite.load(source[:-1])


# Free dimensions


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("mlperf_ad_int8", (3, 640)),
        ("mlperf_kws_int8", (2, 49, 10, 1)),
        ("mlperf_ic_int8", (2, 32, 32, 3)),
    ],
)
def test_a_free_dimension_may_be_bound(models: Path, name: str, shape: tuple[int, ...]) -> None:
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    path = models / f"{name}.tflite"
    if not path.is_file():
        pytest.skip(f"{path} is missing")
    interpreter: Any = Interpreter(
        str(path), experimental_op_resolver_type=OpResolverType.BUILTIN_REF
    )
    (into,), (out,) = interpreter.get_input_details(), interpreter.get_output_details()
    interpreter.resize_tensor_input(into["index"], shape)
    interpreter.allocate_tensors()
    x = np.random.default_rng(0).integers(-128, 128, shape, np.int8)
    interpreter.set_tensor(into["index"], x)
    interpreter.invoke()
    module = npu.load(path, target="edge256", shapes={into["name"]: shape})
    npu.lower(module, until="graph")
    (found,) = npu.execute(module, x).values()
    np.testing.assert_array_equal(found, interpreter.get_tensor(out["index"]))


def free(signature: list[int]) -> bytes:
    m = Models()
    main = m.graph("main")
    x, y = main.input((1, 4), F32), main.output((1, 4), F32)
    main.op("ABS", [x], [y])
    for k in (x, y):
        main.made.tensors[k].shapeSignature = signature
    return m.bytes()


@pytest.mark.parametrize(
    ("shapes", "words"),
    [
        ({"z": (2, 4)}, r"found 'z'; the inputs are t0\[\?, 4\]"),
        ({"t0": (2, 5)}, r"a shape given for t0\[\?, 4\] must fit it \(\? is free\); found 2,5"),
        ({"t0": (2, 4, 1)}, "found 2,4,1"),
        ({"t0": (0, 4)}, "found 0,4"),
    ],
)
def test_shapes_that_do_not_fit_are_refused(shapes: dict[str, Any], words: str) -> None:
    with pytest.raises(CompileError, match=words):
        tflite.load(free([-1, 4]), shapes)


def test_a_dimension_that_is_not_free_is_not_bound() -> None:
    line = r"a shape given for t0\[1, 4\] must fit it .* try converting .* with a free dimension"
    with pytest.raises(CompileError, match=line):
        tflite.load(free([1, 4]), {"t0": (2, 4)})


# Signatures


def two_signatures() -> bytes:
    """`add` and `get`, which share a variable that `add` initializes."""
    m = Models()
    add, get, once = m.graph("add_graph"), m.graph("get_graph"), m.graph("once")
    x = add.input((3,), F32, name="x")
    add.op("CALL_ONCE", [], [], "CallOnceOptions", initSubgraphIndex=once.number)
    handle = add.variable("sum")
    before = add.op("READ_VARIABLE", [handle], [add.tensor((3,), F32)])
    after = add.binary("ADD", before, x, F32, (3,), name="after")
    add.op("ASSIGN_VARIABLE", [handle, after], [])
    add.returns(after)
    y = get.input((1,), F32, name="factor")
    now = get.op("READ_VARIABLE", [get.variable("sum")], [get.tensor((3,), F32)])
    get.returns(get.binary("MUL", now, y, F32, (3,), name="scaled"))
    once.op("ASSIGN_VARIABLE", [once.variable("sum"), once.constant([1, 2, 3], F32)], [])
    s = schema()
    m.found.signatureDefs = []
    for graph, key in ((add, "add"), (get, "get")):
        made = s.SignatureDefT()
        made.signatureKey, made.subgraphIndex = key, graph.number
        made.inputs, made.outputs = [], []
        for into, numbers in ((made.inputs, graph.made.inputs), (made.outputs, graph.made.outputs)):
            for k in numbers:
                tensor = s.TensorMapT()
                tensor.name, tensor.tensorIndex = graph.made.tensors[k].name, k
                into.append(tensor)
        m.found.signatureDefs.append(made)
    return m.bytes()


def test_several_signatures_are_entries_that_share_variables() -> None:
    from ai_edge_litert.interpreter import Interpreter

    source = two_signatures()
    interpreter: Any = Interpreter(model_content=source)
    add, get = (interpreter.get_signature_runner(name) for name in ("add", "get"))
    program = npu.compile(tflite.load(source), "mobile4k")
    run = npu.Session(program)
    assert sorted(program.entries) == ["add", "get"]
    for value in (1.0, 2.5):
        x, factor = np.full(3, value, np.float32), np.full(1, 2, np.float32)
        found = run.run({"x": x}, entry="add").outputs["after"]
        np.testing.assert_array_equal(found, add(x=x)["after"])
        found = run.run({"factor": factor}, entry="get").outputs["scaled"]
        np.testing.assert_array_equal(found, get(factor=factor)["scaled"])


def test_one_signature_is_the_main_entry(models: Path) -> None:
    path = models / "tflm_hello_int8.tflite"
    if not path.is_file():
        pytest.skip(f"{path} is missing")
    assert list(npu.compile(path, "edge256").entries) == ["main"]


# Names


def test_joined_names_are_brief_where_that_is_enough() -> None:
    m = Models()
    main = m.graph("main")
    x = main.input((2,), F32, name="x")
    for name in ("conv/Relu;conv/BiasAdd", "a;b", "a;c", ";d"):
        x = main.op("ABS", [x], [main.tensor((2,), F32, name=name)])
    main.returns(x)
    module = tflite.load(m.bytes())
    nodes: Any = module.attributes["npu.nodes"]
    found = [node.data["source"].data for node in nodes]
    assert found == ["conv/Relu", "a;b", "a;c", ";d"]
    assert list(npu.execute(npu.load(module), np.zeros(2, np.float32))) == [";d"]


def test_floats_for_a_quantized_input_are_told_how_to_become_integers() -> None:
    x = Tensor((4,), "int8", 0.5, 3)
    program = npu.compile(tflite.load(model("ABS", [x], [x])), "edge256")
    real = np.array([-200, -1.25, 0, 3.5], np.float32)
    with pytest.raises(CompileError, match=r"try numpy.clip\(numpy.round\(array / 0.5\) \+ 3, -12"):
        npu.simulate(program, real)


def test_a_shape_may_be_one_of_an_input_of_one_signature() -> None:
    m = Models()
    s = schema()
    m.found.signatureDefs = []
    for key in ("one", "two"):
        graph = m.graph(key)
        x = graph.input((1, 4), F32, name=f"x_{key}")
        graph.returns(graph.op("ABS", [x], [graph.tensor((1, 4), F32)]))
        for tensor in graph.made.tensors:
            tensor.shapeSignature = [-1, 4]
        made = s.SignatureDefT()
        made.signatureKey, made.subgraphIndex = key, graph.number
        m.found.signatureDefs.append(made)
    program = npu.compile(tflite.load(m.bytes(), {"x_two": (3, 4)}), "mobile4k")
    shapes = [program.entry(name).inputs[0].shape for name in ("one", "two")]
    assert shapes == [(1, 4), (3, 4)]
