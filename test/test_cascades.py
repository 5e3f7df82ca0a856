"""Cascades: whatever the stripes, row buffers and held constants, no bit changes."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from cascade_samples import QUIET, attention, network
from graph_samples import Array, same
from hypothesis import given, settings
from hypothesis import strategies as st
from mapped_groups import ModuleBuilder, f32, floats
from xdsl.dialects.builtin import DictionaryAttr, IntegerAttr, ModuleOp, StringAttr, i64

from npu_dialect import api, graph, pipeline, taps
from npu_dialect.diagnostics import CompileError
from npu_dialect.graph.interpret import run as run_graph
from npu_dialect.passes.graph_map import mapping_attribute
from npu_dialect.passes.mapping.elementwise import PoolingMapping
from npu_dialect.passes.mapping.groups import Group
from npu_dialect.passes.mapping.stripes import fits
from npu_dialect.universe import NpuContext

some = settings(max_examples=40, deadline=None)


@some
@given(st.integers(0, 1 << 32))
def test_random_cascades_give_the_same_bits_at_every_level(seed: int):
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        check(*network(seed))


@some
@given(st.integers(0, 1 << 32))
def test_attention_in_stripes_of_heads_gives_the_same_bits(seed: int):
    check(*attention(seed))


def test_the_heads_of_attention_are_rows_of_one_cascade():
    module, _, _ = attention(2)
    groups = [Group(op) for op in module.walk() if op.name == "graph.group"]
    products = [k for k, g in enumerate(groups) if g.kind == "array"]
    assert len(products) == 2
    assert fits(groups[products[0] : products[1] + 1]) is None


def check(module: ModuleOp, inputs: list[Array], rng: np.random.Generator) -> None:
    """Raises where a level differs, or where npu-verify finds something."""
    expected = run_graph(module, inputs)
    pipeline.run(module, "graph-to-tile,tile-allocate", NpuContext(), QUIET)
    module.attributes["npu.level"] = StringAttr("tile")
    assert_same(expected, list(api.execute(module, inputs).values()), "tile")
    api.lower(module, "npu", options=QUIET)
    for order in (int(rng.integers(1 << 16)), None):
        found = list(api.execute(module, inputs, seed=order).values())
        assert_same(expected, found, f"npu, order {order}")


def assert_same(expected: object, found: object, what: str) -> None:
    for number, (a, b) in enumerate(zip(expected, found, strict=True)):  # type: ignore[call-overload]
        assert same(np.asarray(a), np.asarray(b)), f"output {number} differs: {what}"


# --- what it says where it cannot -----------------------------------------------------------------


def chain(**more: int | str) -> ModuleOp:
    """Two poolings of 3 rows in stripes of two, the first one with the given attributes."""
    build = ModuleBuilder("mobile4k", ((1, 8, 4, 2), f32))
    value = build.args[0]
    for name in ("first", "second"):
        pool = lambda x: [graph.MaxPool2DOp(x, (3, 1), (1, 1), (1, 0, 1, 0))]  # noqa: E731
        value = build.group(name, "vector", [value], pool)
    module = build.module(value)
    groups = [op for op in module.walk() if isinstance(op, graph.GroupOp)]
    for op in groups:
        settings_ = {"number": IntegerAttr(0, i64), "rows": IntegerAttr(2, i64)}
        op.attributes["npu.cascade"] = DictionaryAttr(settings_)
        op.attributes["npu.mapping"] = mapping_attribute(PoolingMapping(2, 4, 2))
        op.attributes["npu.memory"] = StringAttr("dram")
    for name, value in more.items():
        attribute = StringAttr(value) if isinstance(value, str) else IntegerAttr(value, i64)
        groups[0].attributes[f"npu.{name}"] = attribute
    return module


def refusal(module: ModuleOp) -> str:
    with pytest.raises(CompileError) as caught:
        pipeline.run(module, "graph-to-tile", NpuContext(), QUIET)
    return str(caught.value)


def test_a_row_buffer_that_is_too_small_is_refused():
    found = refusal(chain(memory="rows", held=3))
    assert "first: npu.held must be 4 at least; found 3" in found


def test_an_input_buffer_that_is_too_small_is_refused():
    found = refusal(chain(input_held=1))
    assert "first: npu.input_held must be 4 at least; found 1" in found


def test_rows_that_are_made_at_once_must_be_some():
    assert "first: npu.rows must be 1 at least; found 0" in refusal(chain(rows=0))


def test_a_stripe_has_rows_of_the_last_result():
    module = chain()
    for op in module.walk():
        if isinstance(op, graph.GroupOp):
            values = {"number": IntegerAttr(0, i64), "rows": IntegerAttr(9, i64)}
            op.attributes["npu.cascade"] = DictionaryAttr(values)
    assert "second: a stripe must have 1 to 8 rows; found 9" in refusal(module)


def test_a_cascade_says_its_number_and_its_rows():
    module = chain(cascade=0)
    assert "npu.cascade must be {number = ..., rows = ...}" in refusal(module)


def test_what_is_no_cascade_is_refused_with_the_reason():
    module = chain()
    groups = [op for op in module.walk() if isinstance(op, graph.GroupOp)]
    del groups[1].attributes["npu.cascade"]
    assert "a cascade must have two groups at least, found 1" in refusal(module)


def test_weights_are_held_or_not():
    assert 'first: npu.weights must be "held" or absent; found "kept"' in refusal(
        chain(weights="kept")
    )


def test_row_buffers_are_for_cascades():
    module = chain(memory="rows", held=5)
    for op in module.walk():
        op.attributes.pop("npu.cascade", None)
    assert "only a group of a cascade may hold some rows of its result" in refusal(module)


def test_each_layer_of_a_cascade_reports_its_own_work():
    module = chain(memory="rows", held=5, input_held=6)
    pipeline.run(module, "graph-to-tile,tile-allocate", NpuContext(), QUIET)
    module.attributes["npu.level"] = StringAttr("tile")
    api.lower(module, "npu", options=QUIET)
    profile = api.assemble(module).profile
    assert [layer.name for layer in profile.layers] == ["first", "second"]
    for engine in profile.engines:
        assert sum(layer.busy.get(engine.name, 0) for layer in profile.layers) == engine.busy


def test_row_buffers_and_held_constants_are_no_tensors_of_the_model():
    module = chain(memory="rows", held=5)
    x = floats(np.random.default_rng(0), 1, 8, 4, 2)
    expected = run_graph(module, [x])
    pipeline.run(module, "graph-to-tile,tile-allocate", NpuContext(), QUIET)
    module.attributes["npu.level"] = StringAttr("tile")
    for level in ("tile", "npu"):
        api.lower(module, level, options=QUIET)
        found = taps.level(level, module, [x])
        assert set(found) == {"second", taps.OUTPUT + "output0"}
        np.testing.assert_array_equal(found["second"], expected[0])
