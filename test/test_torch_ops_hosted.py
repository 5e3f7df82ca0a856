"""Operators that `graph` cannot express run on the host, by torch, and the program says so."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed")

import npu_dialect as npu  # noqa: E402
from npu_dialect import graph  # noqa: E402
from npu_dialect.diagnostics import CompileError  # noqa: E402
from npu_dialect.graph import references  # noqa: E402
from npu_dialect.runtime.program import Program  # noqa: E402

nn = torch.nn


class Decomposed(nn.Module):
    """Singular values between two layers that the accelerator does."""

    def forward(self, x: Any) -> Any:
        return torch.linalg.svdvals(x @ x) * 2


def program_of(module: Any, *inputs: Any) -> Program:
    return npu.compile(torch.export.export(module, inputs, strict=False), target="mobile4k")


def test_an_operator_without_importer_runs_on_the_host() -> None:
    torch.manual_seed(0)
    x = torch.randn(4, 4)
    program = Program.from_bytes(program_of(Decomposed(), x).to_bytes())
    (found,) = npu.simulate(program, x.numpy()).outputs.values()
    np.testing.assert_allclose(found, Decomposed()(x).numpy(), rtol=1e-5)
    assert [row.engine for row in program.placement] == ["mxu", "host", "vpu"]


def test_the_placement_names_the_operator_and_why() -> None:
    program = program_of(Decomposed(), torch.ones(2, 2))
    (row,) = [row for row in program.placement if row.engine == "host"]
    assert "found _linalg_svd.default (an operator without an importer)" in row.reason


def test_a_call_that_an_importer_cannot_express_runs_on_the_host_with_its_reason() -> None:
    class Far(nn.Module):
        def forward(self, x: Any) -> Any:
            return torch.sort(x)[0]

    program = program_of(Far(), torch.zeros(20000))
    assert "sort.default (sorting 20000 elements" in program.placement[0].reason


def test_numbers_of_64_bits_are_computed_on_the_host() -> None:
    class Double(nn.Module):
        def forward(self, x: Any) -> Any:
            return x.double().sin() / 3

    x = torch.linspace(-3, 3, 7)
    (found,) = npu.simulate(program_of(Double(), x), x.numpy()).outputs.values()
    np.testing.assert_array_equal(found, Double()(x).numpy())


def test_operators_that_check_their_results_run_whole() -> None:
    class Solved(nn.Module):
        def forward(self, x: Any) -> Any:
            solved = torch.linalg.solve(x, torch.ones(3))
            return torch.linalg.inv(x), solved, torch.linalg.cholesky(x)

    x = torch.tensor([[4.0, 1, 0], [1, 3, 1], [0, 1, 2]])
    found = npu.simulate(program_of(Solved(), x), x.numpy()).outputs.values()
    for y, wanted in zip(found, Solved()(x), strict=True):
        np.testing.assert_allclose(y, wanted.numpy(), rtol=1e-6)


def test_the_payload_is_plain_data() -> None:
    class Special(nn.Module):
        def forward(self, x: Any, y: Any) -> Any:
            return torch.histc(x, bins=4, min=0, max=2), torch.special.polygamma(2, y)

    module = npu.load(torch.export.export(Special(), (torch.arange(4.0), torch.ones(3))))
    found = {op.op_type.data: op for op in module.walk() if isinstance(op, graph.OpaqueOp)}
    payload = json.loads(found["histc.default"].payload.data.array.tobytes())
    assert payload == {"self": {"operand": 0}, "bins": 4, "min": 0, "max": 2}
    payload = json.loads(found["polygamma.default"].payload.data.array.tobytes())
    assert payload == {"n": 2, "self": {"operand": 0}}


def test_a_reference_writes_to_nothing() -> None:
    payload = json.dumps({"self": {"operand": 0}}).encode()
    with pytest.raises(ValueError, match=r"aten\.relu_\.default writes to its operands"):
        references.run("aten", "relu_.default", payload, [np.ones(2, np.float32)])


def test_what_json_lacks_is_spelled_out() -> None:
    tree = {"self": {"operand": 0}, "min": {"number": "-inf"}, "max": 1.0}
    x = np.array([-3.0, 5.0], np.float32)
    (found,) = references.run("aten", "clamp.default", json.dumps(tree).encode(), [x])
    np.testing.assert_array_equal(found, [-3, 1])


def test_dice_are_refused() -> None:
    class Dropped(nn.Module):
        def forward(self, x: Any) -> Any:
            return torch.native_dropout(x, 0.5, True)[0]

    with pytest.raises(CompileError, match="must give the same results each time"):
        program_of(Dropped(), torch.ones(3))


def test_complex_results_are_refused() -> None:
    class Roots(nn.Module):
        def forward(self, x: Any) -> Any:
            return torch.view_as_real(torch.linalg.eigvals(x))

    with pytest.raises(CompileError, match=r"aten\.linalg_eig\.default must be an operator"):
        program_of(Roots(), torch.eye(3))
