"""Cascades: whatever the stripes, row buffers and held constants, no bit changes."""

from __future__ import annotations

import warnings

import numpy as np
from cascade_samples import QUIET, network
from graph_samples import same
from hypothesis import given, settings
from hypothesis import strategies as st
from xdsl.dialects.builtin import StringAttr

from npu_dialect import api, pipeline
from npu_dialect.graph.interpret import run as run_graph
from npu_dialect.universe import NpuContext

some = settings(max_examples=40, deadline=None)


@some
@given(st.integers(0, 1 << 32))
def test_random_cascades_give_the_same_bits_at_every_level(seed: int):
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        check(seed)


def check(seed: int) -> None:
    """Raises where a level differs, or where npu-verify finds something."""
    module, inputs, rng = network(seed)
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
