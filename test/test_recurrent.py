"""Recurrent layers: what onnxruntime computes, the same bits when unrolled and at every level."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx_recurrent_cases import ACTIVATIONS, GATES, Array, Case, case
from onnx_support import node_model, operations, run_onnxruntime
from xdsl.context import Context
from xdsl.dialects.builtin import ModuleOp
from xdsl.dialects.func import FuncOp

import npu_dialect as npu
from npu_dialect import api, graph, provenance
from npu_dialect.diagnostics import CompileError
from npu_dialect.frontends.onnx import load
from npu_dialect.functional.recurrent import Activation
from npu_dialect.graph.interpret import run
from npu_dialect.passes.graph_decompose import GraphDecomposePass
from npu_dialect.passes.host_work import HostWork
from npu_dialect.passes.placement.rules import MAX_STEPS

LAYERS = {"graph.lstm", "graph.gru", "graph.rnn"}
FUNCTIONS = {"LSTM": 3, "GRU": 2, "RNN": 1}


def imported(found: Case, constants: Sequence[int] | None = None
             ) -> tuple[ModuleOp, Any, dict[str, Array]]:  # fmt: skip
    """The module, the model and the arrays of the inputs that are not constant."""
    known = found.constants if constants is None else constants
    model = node_model(
        found.op_type, found.inputs, found.attributes, known, found.outputs, found.opset
    )
    given_arrays = {
        f"x{k}": x for k, x in enumerate(found.inputs) if x is not None and k not in known
    }
    return load(model), model, given_arrays


def unroll(module: ModuleOp, target: str = "mobile4k") -> None:
    api.set_target(module, target)
    GraphDecomposePass().apply(Context(), module)
    module.verify()
    provenance.check(module)


def layers(module: ModuleOp) -> set[str]:
    return {op.name for op in module.walk()} & LAYERS


def equal(a: Sequence[Array], b: Sequence[Array]) -> bool:
    return all(x.tobytes() == y.tobytes() for x, y in zip(a, b, strict=True))


def close(found: Sequence[Array], expected: Sequence[Array]) -> None:
    """Within 1e-5 of the range."""
    for y, reference in zip(found, expected, strict=True):
        assert y.shape == reference.shape
        np.testing.assert_allclose(y, reference, rtol=0, atol=1e-5 * max(1, np.ptp(reference)))


@st.composite
def variants(draw: st.DrawFn) -> Case:
    """Any sizes, direction, activations, lengths and settings, except batches first."""
    op_type = draw(st.sampled_from(sorted(GATES)))
    steps, batch = draw(st.integers(1, 5)), draw(st.integers(1, 3))
    directions = draw(st.integers(1, 2))
    chosen = st.sampled_from(ACTIVATIONS)
    count = FUNCTIONS[op_type] * directions
    options: dict[str, Any] = {
        "steps": steps,
        "batch": batch,
        "directions": directions,
        "size": draw(st.integers(1, 4)),
        "hidden": draw(st.integers(1, 5)),
        "optional": draw(st.booleans()),
        "seed": draw(st.integers(0, 99)),
    }
    if options["optional"]:
        lens = st.lists(st.integers(1, steps), min_size=batch, max_size=batch)
        options["lens"] = draw(st.none() | lens)
    if draw(st.booleans()):
        options["activations"] = [draw(chosen) for _ in range(count)]
        options["activation_alpha"] = [draw(st.floats(0.0625, 0.5, width=32)) for _ in range(count)]
        options["activation_beta"] = [
            draw(st.floats(0.0625, 0.875, width=32)) for _ in range(count)
        ]
    if draw(st.booleans()):
        options["clip"] = draw(st.sampled_from([0.1, 0.5, 3.0]))
    if directions == 1 and draw(st.booleans()):
        options["direction"] = "reverse"
    setting = {"LSTM": "input_forget", "GRU": "linear_before_reset"}.get(op_type)
    if setting:
        options[setting] = draw(st.integers(0, 1))
    return case(op_type, **options)


@settings(max_examples=150, deadline=None)
@given(variants())
def test_a_layer_computes_what_onnxruntime_computes(found: Case) -> None:
    if _jumps(found):
        return
    module, model, arrays = imported(found)
    assert not operations(module, "graph.opaque")
    close(run(module, list(arrays.values())), run_onnxruntime(model, arrays))


def _jumps(found: Case) -> bool:
    """Whether an activation is not continuous, so that a rounding can become any difference."""
    return "ThresholdedRelu" in found.attributes.get("activations", ())


@settings(max_examples=60, deadline=None)
@given(variants(), st.booleans())
def test_the_steps_of_a_layer_give_its_bits(found: Case, all_known: bool) -> None:
    """Also where weights and lengths are computed at run time."""
    module, _, arrays = imported(found, None if all_known else ())
    expected = run(module, list(arrays.values()))
    unroll(module)
    assert not layers(module)
    assert equal(run(module, list(arrays.values())), expected)


@pytest.mark.parametrize("constants", [(1, 2, 3, 4), (1, 2, 3)])
def test_the_steps_give_the_bits_of_a_layer_whose_sequences_end(constants: Sequence[int]) -> None:
    """Lengths that are known, and lengths of run time."""
    for op_type in GATES:
        found = case(op_type, steps=5, batch=3, lens=(5, 2, 4), directions=2)
        module, _, arrays = imported(found, constants)
        expected = run(module, list(arrays.values()))
        unroll(module)
        assert equal(run(module, list(arrays.values())), expected)
        compares = operations(module, "graph.gt")
        assert bool(compares) == (4 not in constants)


def test_no_step_is_made_beyond_the_end_of_all_sequences() -> None:
    """Two of five steps have a recurrent product; the rest of the result is 0."""
    found = case("RNN", steps=5, batch=2, lens=(2, 2))
    module, model, arrays = imported(found, (1, 2, 3, 4))
    unroll(module)
    assert len(operations(module, "graph.matmul")) == 1 + 2
    close(run(module, list(arrays.values())), run_onnxruntime(model, arrays))


LEVELS: Mapping[str, Case] = {
    "lstm": case("LSTM", steps=3),
    "gru": case("GRU", steps=3, lens=(3, 1), linear_before_reset=1),
    "gru bidirectional": case("GRU", steps=2, directions=2),
    "rnn": case("RNN", steps=3, lens=(1, 3)),
}


@pytest.mark.parametrize("name", LEVELS)
def test_a_layer_runs_on_the_accelerator_with_the_same_bits_at_all_levels(name: str) -> None:
    module, model, arrays = imported(LEVELS[name])
    expected = run(module, list(arrays.values()))
    api.set_target(module, "mobile4k")
    for level in ("graph", "tile", "npu"):
        npu.lower(module, until=level)
        assert equal(list(npu.execute(module, arrays).values()), expected), level
    program = npu.assemble(module)
    assert "host" not in {row.engine for row in program.placement}
    found = npu.simulate(program, arrays).outputs
    assert equal(list(found.values()), expected)
    close(list(found.values()), run_onnxruntime(model, arrays))


def host_reason(found: Case, target: str) -> str:
    """Why the layer is on the host; it must be the only one there."""
    module, model, arrays = imported(found)
    api.set_target(module, target)
    npu.lower(module)
    program = npu.assemble(module)
    (row,) = [row for row in program.placement if row.op in LAYERS]
    assert row.engine == "host"
    found_arrays = npu.simulate(program, arrays).outputs
    close(list(found_arrays.values()), run_onnxruntime(model, arrays))
    return f"{row.rule}: {row.reason}"


def test_a_machine_without_floats_leaves_a_layer_to_its_host() -> None:
    assert host_reason(case("LSTM"), "edge256").endswith(
        "found graph.lstm, whose float steps edge256 lacks"
    )


def test_a_longer_sequence_than_is_unrolled_stays_on_the_host() -> None:
    reason = host_reason(case("GRU", steps=MAX_STEPS + 1, batch=1), "mobile4k")
    assert reason == (
        "unrolled-steps: A recurrence on the accelerator, whose time steps are unrolled, must have "
        f"at most {MAX_STEPS}; found {MAX_STEPS + 1}, so the host does all of it"
    )


def test_the_work_of_the_host_counts_all_steps() -> None:
    """4 steps of 2 sequences: 3 inputs and 5 states by 3 gates of 5 values; and these values."""
    module, _, _ = imported(case("GRU", steps=4, batch=2, size=3, hidden=5))
    (function,) = module.ops
    assert isinstance(function, FuncOp)
    work = HostWork.of(function)
    assert work.macs == 8 * (3 + 5) * 15
    assert work.elements >= 8 * 15


# Importing


def swapped(array: Array | None) -> Array | None:
    """With the first two of three dimensions the other way round."""
    return None if array is None else np.ascontiguousarray(array.swapaxes(0, 1))


@pytest.mark.parametrize("op_type", GATES)
def test_batches_may_come_first(op_type: str) -> None:
    """layout = 1, which onnxruntime lacks, gives the results of layout = 0, transposed."""
    found = case(op_type, directions=2)
    plain, _, arrays = imported(found)
    expected = run(plain, list(arrays.values()))
    turned = [swapped(x) if k in (0, 5, 6) else x for k, x in enumerate(found.inputs)]
    first = Case(
        op_type, turned, found.attributes | {"layout": 1}, found.constants, found.outputs, 14
    )
    module, _, arrays = imported(first)
    y, *states = run(module, list(arrays.values()))
    assert np.array_equal(y, expected[0].transpose(2, 0, 1, 3))
    assert equal(states, [np.ascontiguousarray(h.transpose(1, 0, 2)) for h in expected[1:]])


def test_alphas_and_betas_go_to_the_activations_that_have_one() -> None:
    found = case(
        "LSTM", activations=["HardSigmoid", "Tanh", "LeakyRelu"], activation_alpha=[0.25, 0.125],
        activation_beta=[0.75],
    )  # fmt: skip
    module, _, _ = imported(found)
    (op,) = operations(module, "graph.lstm")
    assert isinstance(op, graph.LSTMOp)
    assert op.functions == [
        Activation("hard_sigmoid", 0.25, 0.75), Activation("tanh"), Activation("leaky_relu", 0.125)
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("attributes", "message"),
    [
        ({"direction": "sideways"}, "the direction sideways"),
        ({"hidden_size": 6}, r"hidden_size 6 and R of \[1, 20, 5\]"),
        ({"activations": ["Tanh"]}, "1 activations where 3 are needed"),
        ({"activations": ["Tanh", "Tanh", "Cos"]}, "the activation Cos"),
        ({"direction": "bidirectional"}, r"W of \[1, 20, 3\] where \[2, 20, 3\] is needed"),
    ],
)
def test_what_does_not_fit_together_is_refused(attributes: dict[str, Any], message: str) -> None:
    with pytest.raises(CompileError, match=message):
        imported(case("LSTM", **attributes))
