"""Models of f16 and bf16 on the vector unit: each operation in f32, then rounded to their type."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest
from onnx import ModelProto, TensorProto, helper

import npu_dialect as npu

value = helper.make_tensor_value_info
TYPES = {
    "f16": (TensorProto.FLOAT16, np.dtype(np.float16)),
    "bf16": (TensorProto.BFLOAT16, np.dtype(ml_dtypes.bfloat16)),
}
BINARY = {"Add": np.add, "Sub": np.subtract, "Mul": np.multiply, "Div": np.divide}


def model(nodes: list[Any], kind: int, shape: tuple[int, ...], out: tuple[int, ...]) -> ModelProto:
    graph = helper.make_graph(
        nodes,
        "half",
        [value("x", kind, shape), value("y", kind, shape)],
        [value("z", kind, out)],
    )
    opsets = [helper.make_opsetid("", 18)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8)


def numbers(dtype: np.dtype[Any], seed: int) -> np.ndarray[Any, Any]:
    """Bit patterns of all magnitudes: zeros, subnormal numbers, infinities, NaN among them."""
    rng = np.random.default_rng(seed)
    return rng.integers(0, 2**16, (16, 512)).astype(np.uint16).view(dtype)


def same(a: np.ndarray[Any, Any], b: np.ndarray[Any, Any]) -> bool:
    """Whether two arrays are equal, bit by bit but for NaN."""
    nan = np.isnan(a.astype(np.float32))
    return bool((nan == np.isnan(b.astype(np.float32))).all()) and bool(
        (a.view(np.uint16) == b.view(np.uint16))[~nan].all()
    )


@pytest.mark.parametrize("target", ["headset2k", "mobile4k"])
@pytest.mark.parametrize("name", TYPES)
@pytest.mark.parametrize("op", BINARY)
def test_arithmetic_gives_the_bits_of_the_type_at_all_levels(
    op: str, name: str, target: str
) -> None:
    """f32 has more than twice the bits of f16 and two more, so that rounding twice is harmless."""
    kind, dtype = TYPES[name]
    nodes = [helper.make_node(op, ["x", "y"], ["z"], "node1")]
    x, y = numbers(dtype, 1), numbers(dtype, 2)
    with np.errstate(all="ignore"):
        expected = BINARY[op](x, y)
    module = npu.load(model(nodes, kind, x.shape, x.shape), target=target)
    for level in ("graph", "tile", "npu"):
        npu.lower(module, until=level)
        assert same(npu.execute(module, [x, y])["z"], expected), level
    program = npu.assemble(module)
    for tier in ("plain", "compiled"):
        assert same(npu.simulate(program, [x, y], tier=tier).outputs["z"], expected), tier
    assert {row.engine for row in program.placement} == {"vpu"}


@pytest.mark.parametrize("name", TYPES)
def test_a_chain_is_rounded_after_every_operation_though_it_is_one_kernel(name: str) -> None:
    kind, dtype = TYPES[name]
    nodes = [
        helper.make_node("Mul", ["x", "y"], ["a"], "mul1"),
        helper.make_node("Add", ["a", "x"], ["z"], "add1"),
    ]
    x, y = numbers(dtype, 3), numbers(dtype, 4)
    program = npu.compile(model(nodes, kind, x.shape, x.shape), "headset2k")
    assert len(program.kernels) == 1
    with np.errstate(all="ignore"):
        expected = x * y + x
        unrounded = (x.astype(np.float32) * y.astype(np.float32) + x.astype(np.float32)).astype(
            dtype
        )
    found = npu.simulate(program, [x, y]).outputs["z"]
    assert same(found, expected) and not same(found, unrounded)


def test_a_product_of_halves_is_left_to_the_host_where_the_array_has_no_floats() -> None:
    nodes = [helper.make_node("MatMul", ["x", "y"], ["z"], "matmul1")]
    program = npu.compile(model(nodes, TensorProto.FLOAT16, (8, 8), (8, 8)), "headset2k")
    reasons = [row.reason for row in program.placement if row.engine == "host"]
    assert reasons == [
        "The array must multiply activations and weights of these types; found f32 by f32"
    ]


def test_a_machine_without_floats_leaves_halves_to_the_host() -> None:
    nodes = [helper.make_node("Add", ["x", "y"], ["z"], "add1")]
    program = npu.compile(model(nodes, TensorProto.FLOAT16, (8, 8), (8, 8)), "edge256")
    assert {row.engine for row in program.placement} <= {"host", "io"}
    assert any("found f16, and edge256 has i8" in row.reason for row in program.placement)


# --- products on an array of halves ---------------------------------------------------------------


def product(kind: int, constant: Any = None) -> ModelProto:
    """x [24, 64] by the transpose of y [40, 64], or by a constant [64, 40]."""
    nodes = [
        helper.make_node("Transpose", ["y"], ["t"], "transpose1"),
        helper.make_node("MatMul", ["x", "t" if constant is None else "w"], ["z"], "matmul1"),
    ]
    inputs = [value("x", kind, (24, 64)), value("y", kind, (40, 64))]
    if constant is not None:
        nodes, inputs = nodes[1:], inputs[:1]
    weights = [] if constant is None else [constant]
    graph = helper.make_graph(nodes, "half", inputs, [value("z", kind, (24, 40))], weights)
    opsets = [helper.make_opsetid("", 18)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8)


def in_order(x: Any, y: Any) -> Any:
    """The sums in f32 over ascending k, product rounded, then added, as numpy's f32 has them."""
    total = np.zeros((len(x), y.shape[1]), np.float32)
    for k in range(x.shape[1]):
        total += x[:, k, None].astype(np.float32) * y[None, k].astype(np.float32)
    return total


@pytest.mark.parametrize("is_constant", [False, True])
@pytest.mark.parametrize("name", TYPES)
def test_products_of_halves_run_on_an_array_that_has_them(name: str, is_constant: bool) -> None:
    kind, dtype = TYPES[name]
    rng = np.random.default_rng(7)
    x, y = (rng.normal(size=shape).astype(dtype) for shape in ((24, 64), (40, 64)))
    weights = None
    if is_constant:
        raw = np.ascontiguousarray(y.T).tobytes()
        weights = helper.make_tensor("w", kind, (64, 40), raw, raw=True)
    module = npu.load(product(kind, weights), target="mobile4k")
    expected, given = in_order(x, y.T).astype(dtype), [x] if is_constant else [x, y]
    for level in ("graph", "tile", "npu"):
        npu.lower(module, until=level)
        assert same(npu.execute(module, given)["z"], expected), level
    program = npu.assemble(module)
    for tier in ("plain", "compiled"):
        assert same(npu.simulate(program, given, tier=tier).outputs["z"], expected), tier
    assert "host" not in {row.engine for row in program.placement}
    assert name in {
        each.fields["weights"].dtype.name
        for each in program.instructions
        if each.op == "npu.matmul"
    }


def test_an_array_of_halves_takes_a_quarter_of_the_cycles_of_floats() -> None:
    """1,024 multiply-accumulates a cycle rather than 256 (targets/mobile4k.toml)."""
    cycles: list[int] = []
    for kind in (TensorProto.FLOAT16, TensorProto.FLOAT):
        shapes = ((256, 1024), (1024, 512), (256, 512))
        x, y, z = (value(n, kind, s) for n, s in zip("xyz", shapes, strict=True))
        nodes = [helper.make_node("MatMul", ["x", "y"], ["z"], "matmul1")]
        graph = helper.make_graph(nodes, "product", [x, y], [z])
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
        program = npu.compile(model, "mobile4k")
        cycles.append(sum(row.busy.get("mxu", 0) for row in program.profile.layers))
    assert 3.8 < cycles[1] / cycles[0] < 4.2
