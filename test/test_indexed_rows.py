"""Rows by indices of run time: what gather and scatter mean, and that every level agrees on it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from mapped_groups import ModuleBuilder, assert_levels_agree, f32, floats
from npu_programs import dense, execute, machine, place
from onnx_support import node_model
from xdsl.dialects.builtin import i32, i64

from npu_dialect import api, dtypes, functional, graph
from npu_dialect.functional.indexing import SCATTERS
from npu_dialect.npu.indexed import DmaGatherOp, DmaScatterOp, ScatterOp
from npu_dialect.npu.verifier import ProgramImage, verify_program
from npu_dialect.passes.graph_map import mapping_attribute
from npu_dialect.passes.mapping import scatter as mapper
from npu_dialect.passes.mapping.scatter import Scatter, ScatterMapping
from npu_dialect.passes.mapping.tiles import spm_bytes
from npu_dialect.pipeline import Options
from npu_dialect.target import load_target, target_text

Array = np.ndarray[Any, Any]
few = settings(max_examples=25, deadline=None)
QUIET = Options(reproducer=None)
seeds = st.integers(0, 1 << 16)

FUNCTIONS: dict[str, Callable[[Any, Any], Any]] = {
    "set": lambda old, new: new,
    "add": np.add,
    "mul": np.multiply,
    "max": np.maximum,
    "min": np.minimum,
}


def one_by_one(kind: str, data: Array, indices: Array, updates: Array, first: int) -> Array:
    """The scatter row by row, as the manual has it."""
    result = data.copy()
    for index, row in zip(indices, updates, strict=True):
        if first <= index < first + len(data):
            result[index - first] = FUNCTIONS[kind](result[index - first], row)
    return result


# --- what it means


def test_an_index_counts_from_the_end_where_negative_and_means_the_nearest_row_where_outside():
    data = np.arange(4)[:, None]
    found = functional.gather(data, np.array([-1, 2, 9, -99]))
    assert found.ravel().tolist() == [3, 2, 3, 0]


@given(st.sampled_from(SCATTERS), st.integers(1, 5), st.integers(0, 30), seeds)
def test_rows_are_accumulated_in_order(kind: str, rows: int, count: int, seed: int):
    rng = np.random.default_rng(seed)
    data, updates = floats(rng, rows, 3), floats(rng, count, 3)
    indices, first = rng.integers(-3, rows + 3, count), int(rng.integers(3))
    expected = one_by_one(kind, data, indices, updates, first)
    functional.scatter(kind, data, indices, updates, first)
    np.testing.assert_array_equal(data, expected)


def test_a_gather_reads_dram_by_indices_that_lie_anywhere():
    m = machine()
    place(m, 0, np.arange(20, dtype=np.int8).reshape(10, 2), "dram")
    for space in ("dram", "spm"):
        place(m, 64, np.array([7, -1, 3], np.int64), space)
        instruction = DmaGatherOp(
            source=dense("dram", 0, dtypes.i8, [10, 2]),
            indices=dense(space, 64, dtypes.i64, [3]),
            destination=dense("spm", 0, dtypes.i8, [3, 2]),
        )
        execute(m, instruction)
        found = m.view(dense("spm", 0, dtypes.i8, [3, 2]))
        assert found.tolist() == [[14, 15], [18, 19], [6, 7]]


def test_a_scatter_skips_rows_that_the_output_does_not_have():
    m = machine()
    place(m, 0, np.zeros((2, 2), np.int32), "spm")
    place(m, 64, np.array([4, 5, 6, 4, -1], np.int32), "spm")
    place(m, 128, np.arange(10, dtype=np.int32).reshape(5, 2), "spm")
    instruction = ScatterOp(
        indices=dense("spm", 64, dtypes.i32, [5]),
        updates=dense("spm", 128, dtypes.i32, [5, 2]),
        output=dense("spm", 0, dtypes.i32, [2, 2]),
        kind="add",
        first=4,
    )
    execute(m, instruction)
    assert m.view(dense("spm", 0, dtypes.i32, [2, 2])).tolist() == [[6, 8], [2, 3]]


def test_rows_are_brought_into_dram_in_order_and_others_stay():
    m = machine()
    place(m, 0, np.full((4, 2), 9, np.int8), "dram")
    place(m, 64, np.array([2, 7, 1, 2, -1], np.int32))
    place(m, 128, np.arange(10, dtype=np.int8).reshape(5, 2))
    instruction = DmaScatterOp(
        source=dense("spm", 128, dtypes.i8, [5, 2]),
        indices=dense("spm", 64, dtypes.i32, [5]),
        destination=dense("dram", 0, dtypes.i8, [4, 2]),
        first=1,
    )
    execute(m, instruction)
    found = m.view(dense("dram", 0, dtypes.i8, [4, 2]))
    assert found.tolist() == [[4, 5], [6, 7], [9, 9], [9, 9]]


# --- what it costs, and what the proof asks


def gather(elements: int, count: int) -> DmaGatherOp:
    return DmaGatherOp(
        source=dense("dram", 0, dtypes.i8, [1000, elements]),
        indices=dense("spm", 0, dtypes.i32, [count]),
        destination=dense("spm", 4096, dtypes.i8, [count, elements]),
    )


def test_every_row_pays_for_whole_accesses_of_dram():
    target = load_target("edge256")
    byte, access = (gather(n, 100).cost(target, ()) for n in (1, target.memories["dram"].burst))
    assert byte.cycles == access.cycles
    assert (byte.bound, byte.reads["dram"], access.reads["dram"]) == ("dram", 100, 3200)
    assert byte.latency == target.memories["spm"].latency + target.memories["dram"].latency


def test_rows_into_dram_pay_for_whole_accesses_and_for_no_other_rows():
    target = load_target("edge256")
    op = DmaScatterOp(
        source=dense("spm", 4096, dtypes.i8, [3, 8]),
        indices=dense("spm", 0, dtypes.i32, [3]),
        destination=dense("dram", 0, dtypes.i8, [1000, 8]),
        first=0,
    )
    cost = op.cost(target, ())
    burst, width = target.memories["dram"].burst, target.memories["dram"].ports["dma"]
    assert cost.cycles == target.dma.startup + -(-3 * burst // width)
    assert (cost.reads, cost.writes) == ({"spm": 3 * 8 + 3 * 4}, {"dram": 3 * 8})


def test_all_of_the_source_must_have_been_written():
    image = ProgramImage([gather(4, 1)], (), [], [], [(0, 3999)], 4096)
    found = verify_program(image, load_target("edge256"))
    assert "must read only bytes that were written before" in str(found[0])
    assert "1 bytes of dram from 0xf9f" in str(found[0])


def test_a_machine_must_have_indices_of_the_type():
    target = load_target("edge256")
    operands = [dense("spm", 64 * k, t, d) for k, (t, d) in enumerate(
        [(dtypes.i64, [2]), (dtypes.i8, [2, 4]), (dtypes.i8, [4, 4])])]  # fmt: skip
    names = ("indices", "updates", "output")
    op = ScatterOp(**dict(zip(names, operands, strict=True)), kind="set", first=0)
    found = verify_program(ProgramImage([op], (), [], [], [], 64), target)
    assert any("must have indices that the vpu reads, found i64" in f.rule for f in found)


def test_what_is_accumulated_must_be_wide():
    op = ScatterOp(
        indices=dense("spm", 0, dtypes.i32, [2]),
        updates=dense("spm", 64, dtypes.i8, [2, 4]),
        output=dense("spm", 128, dtypes.i8, [4, 4]),
        kind="add",
        first=0,
    )
    found = verify_program(ProgramImage([op], (), [], [], [], 64), load_target("edge256"))
    assert any("must accumulate i32, i64, f32, found add of i8" in f.rule for f in found)


# --- any mapping gives the same bits


@few
@given(st.sampled_from(SCATTERS), st.integers(1, 9), st.integers(1, 9), st.integers(1, 20), seeds)
def test_any_tiling_of_a_scatter_gives_the_same_bits(
    kind: str, rows: int, elements: int, count: int, seed: int
):
    rng = np.random.default_rng(seed)
    build = ModuleBuilder(
        "mobile4k", ((rows, elements), f32), ((count,), i64), ((count, elements), f32)
    )
    y = build.group("s", "vector", build.args, lambda x, i, y: [graph.ScatterOp(x, i, y, kind)])
    assert isinstance(y.owner, graph.GroupOp)
    tile = [int(rng.integers(1, n + 1)) for n in (rows, elements, count)]
    mapping = ScatterMapping(tile[0], tile[1], tile[2])
    y.owner.attributes["npu.mapping"] = mapping_attribute(mapping)
    indices = rng.integers(-2, rows + 2, count)
    inputs = [floats(rng, rows, elements), indices, floats(rng, count, elements)]
    assert_levels_agree(build.module(y), inputs, seed)


@few
@given(st.integers(1, 9), st.integers(1, 9), st.integers(1, 20), seeds)
def test_a_gather_agrees_at_every_level(rows: int, elements: int, count: int, seed: int):
    rng = np.random.default_rng(seed)
    build = ModuleBuilder("edge256", ((rows, elements), i32), ((count,), i64))
    y = build.group("g", "move", build.args, lambda *v: [graph.GatherOp(*v)])
    data = rng.integers(-99, 99, (rows, elements), np.int32)
    indices = rng.integers(-rows - 2, rows + 2, count)
    assert_levels_agree(build.module(y), [data, indices], seed)


@given(st.integers(300, 1 << 14), st.integers(1, 400), st.integers(1, 400), st.integers(1, 400))
@few
def test_a_chosen_mapping_fits_the_capacity(capacity: int, rows: int, elements: int, count: int):
    p = Scatter("add", rows, elements, count, 4, 4, "i32")
    found = mapper.search(load_target("edge256"), p, capacity)
    assert found is None or spm_bytes(mapper.buffers(p, found[0])) <= capacity


# --- operators of ONNX, against its reference


def compiled(op: str, inputs: list[Array], attributes: dict[str, Any], target: str) -> Any:
    """The program, and the outputs at every level, of one operator whose inputs all come at run
    time.
    """
    module = api.load(node_model(op, inputs, attributes, (), opset=18), target=target)
    outputs: list[Array] = []
    for level in ("graph", "tile", "npu"):
        api.lower(module, until=level, options=QUIET)
        outputs += api.execute(module, inputs).values()
    return api.assemble(module), outputs


def reference(op: str, inputs: list[Array], attributes: dict[str, Any]) -> Array:
    from onnx.reference import ReferenceEvaluator

    model = node_model(op, inputs, attributes, (), opset=18)
    names = [v.name for v in model.graph.input]
    (found,) = ReferenceEvaluator(model).run(None, dict(zip(names, inputs, strict=True)))
    assert isinstance(found, np.ndarray)
    return found


def check(op: str, inputs: list[Array], **attributes: Any) -> None:
    """The operator runs on mobile4k without the host, and as the reference says."""
    expected = reference(op, inputs, attributes)
    for target in ("mobile4k", "edge256"):
        program, outputs = compiled(op, inputs, attributes, target)
        for found in outputs:
            assert (found.shape, found.dtype) == (expected.shape, expected.dtype)
            np.testing.assert_array_equal(found, expected)
        if target == "mobile4k":
            assert [p.op for p in program.placement if p.engine == "host"] == []


@few
@given(seeds)
def test_gather_is_that_of_onnx(seed: int):
    rng = np.random.default_rng(seed)
    shape = rng.integers(1, 5, int(rng.integers(1, 4)))
    axis = int(rng.integers(-len(shape), len(shape)))
    size = shape[axis]
    indices = rng.integers(-size, size, rng.integers(1, 4, int(rng.integers(0, 3))))
    dtype = (np.float32, np.int8, np.int64, np.float16)[int(rng.integers(4))]
    kind = (np.int32, np.int64)[int(rng.integers(2))]
    data = rng.integers(-99, 99, shape).astype(dtype)
    check("Gather", [data, np.asarray(indices, kind)], axis=axis)


@few
@given(seeds)
def test_gather_and_scatter_of_elements_are_those_of_onnx(seed: int):
    rng = np.random.default_rng(seed)
    shape = rng.integers(1, 5, int(rng.integers(1, 4)))
    axis = int(rng.integers(len(shape)))
    extents = shape.copy()
    extents[axis] = int(rng.integers(1, 5))
    indices = rng.integers(-shape[axis], shape[axis], extents)
    data = rng.integers(-9, 9, shape).astype((np.float32, np.int32, np.int64)[seed % 3])
    check("GatherElements", [data, indices], axis=axis)
    updates = rng.integers(-9, 9, extents).astype(data.dtype)
    reduction = ("none", "add", "mul", "max", "min")[int(rng.integers(5))]
    if reduction != "none":  # onnx leaves open which of equal indices is written last
        check("ScatterElements", [data, indices, updates], axis=axis, reduction=reduction)


@few
@given(st.sampled_from(["none", "add", "mul", "max", "min"]), seeds)
def test_elements_are_scattered_in_order_from_a_part_of_the_extents(reduction: str, seed: int):
    rng = np.random.default_rng(seed)
    shape = (3, 4, 2)
    axis, extents = int(rng.integers(3)), [int(rng.integers(1, n + 1)) for n in shape]
    indices = rng.integers(-shape[axis], shape[axis], extents)
    data, updates = floats(rng, *shape), floats(rng, *extents)
    inputs = [data, indices, updates]
    _, outputs = compiled("ScatterElements", inputs, {"axis": axis, "reduction": reduction},
                          "mobile4k")  # fmt: skip
    function = FUNCTIONS["set" if reduction == "none" else reduction]
    expected = data.copy()
    for at in np.ndindex(*extents):
        place = (*at[:axis], indices[at], *at[axis + 1 :])
        expected[place] = function(expected[place], updates[at])
    for found in outputs:
        np.testing.assert_array_equal(found, expected)


@few
@given(seeds)
def test_gather_and_scatter_of_tuples_are_those_of_onnx(seed: int):
    rng = np.random.default_rng(seed)
    shape = rng.integers(1, 5, int(rng.integers(1, 4)))
    length = int(rng.integers(1, len(shape) + 1))
    count = int(rng.integers(1, 4))
    indices = np.stack([rng.integers(-n, n, count) for n in shape[:length]], -1)
    data = rng.integers(-9, 9, shape).astype(np.float32)
    check("GatherND", [data, indices])
    reduction = ("add", "mul", "max", "min")[int(rng.integers(4))]
    updates = rng.integers(-9, 9, (count, *shape[length:])).astype(np.float32)
    check("ScatterND", [data, indices, updates], reduction=reduction)


def test_tuples_of_a_batch_name_rows_of_their_own():
    data = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    check("GatherND", [data, np.array([[[2]], [[-1]]])], batch_dims=1)


def test_the_last_of_equal_indices_is_written_last():
    data, updates = np.zeros((4, 2), np.float32), np.arange(6, dtype=np.float32).reshape(3, 2)
    _, outputs = compiled("ScatterND", [data, np.array([[1], [3], [1]]), updates], {}, "mobile4k")
    for found in outputs:
        assert found.tolist() == [[0, 0], [4, 5], [0, 0], [2, 3]]


# --- where it runs, and larger than the scratchpad


def test_a_row_of_an_embedding_is_one_instruction_on_a_machine_without_floats():
    table, tokens = floats(np.random.default_rng(0), 50, 16), np.array([[3, -1, 7]])
    program, outputs = compiled("Gather", [table, tokens], {"axis": 0}, "edge256")
    assert [op.name for _, op in program.executed] == ["npu.dma_gather"]
    np.testing.assert_array_equal(outputs[-1], table[tokens])
    assert {p.rule for p in program.placement} == {"row-gather", "view"}


def test_without_index_types_the_host_does_it_and_the_report_says_why(tmp_path: Path):
    lines = target_text("edge256").replace('name = "edge256"', 'name = "plain"').splitlines()
    path = tmp_path / "plain.toml"
    path.write_text("\n".join(line for line in lines if not line.startswith("index_types")))
    inputs: list[Array] = [np.zeros((4, 2), np.int32), np.array([[1]]), np.ones((1, 2), np.int32)]
    program, _ = compiled("Gather", inputs[:2], {"axis": 0}, str(path))
    (row,) = (p for p in program.placement if p.op == "graph.gather")
    assert (row.engine, row.rule) == ("host", "gather-indices")
    assert row.reason.endswith("indices of this type; found i64, and plain has none")
    program, _ = compiled("ScatterND", inputs, {}, str(path))
    assert "scatter-indices" in {p.rule for p in program.placement}


def test_rows_beyond_the_scratchpad_are_read_and_written_in_parts(tmp_path: Path):
    text = target_text("mobile4k").replace("size = 2097152 ", "size = 4096 ")
    path = tmp_path / "small.toml"
    path.write_text(text.replace('name = "mobile4k"', 'name = "small"'))
    rng = np.random.default_rng(0)
    data, updates = floats(rng, 300, 40), floats(rng, 90, 40)
    indices = rng.integers(-300, 300, (90, 1))
    program, outputs = compiled("ScatterND", [data, indices, updates], {"reduction": "add"},
                                str(path))  # fmt: skip
    expected = one_by_one("add", data, indices.ravel() % 300, updates, 0)
    for found in outputs:
        np.testing.assert_array_equal(found, expected)
    assert sum(op.name == "npu.scatter" for _, op in program.executed) > 10
    assert "host" not in {p.engine for p in program.placement}
    _, outputs = compiled("GatherND", [data, indices], {}, str(path))
    np.testing.assert_array_equal(outputs[-1], data[indices.ravel()])
