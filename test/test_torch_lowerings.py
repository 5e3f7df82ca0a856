"""Lowerings of the user's own operators, and the examples of the document about torch."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed")

import npu_dialect as npu  # noqa: E402
from npu_dialect import graph  # noqa: E402
from npu_dialect.diagnostics import CompileError  # noqa: E402
from npu_dialect.frontends.torch import lowering  # noqa: E402
from npu_dialect.frontends.torch.user_lowerings import NotExpressible, remove  # noqa: E402

nn = torch.nn
X = torch.randn(2, 3, generator=torch.Generator().manual_seed(1))


@torch.library.custom_op(
    "npu_test::halves", mutates_args=(), schema="(Tensor x, float factor) -> Tensor[]"
)
def halves(x: Any, factor: float) -> Any:
    return [x * factor, x / factor]


@halves.register_fake
def _(x: Any, factor: float) -> Any:
    return [torch.empty_like(x), torch.empty_like(x)]


class Halves(nn.Module):
    def forward(self, x: Any) -> Any:
        low, high = torch.ops.npu_test.halves(x, 2.0)
        return low - high


@pytest.fixture(autouse=True)
def clean() -> Iterator[None]:
    yield
    for name in ("npu_test::halves", "aten::gelu"):
        remove(name)


def found(module: Any) -> Any:
    (y,) = npu.execute(npu.load(module, "mobile4k", example_inputs=(X,)), X.numpy()).values()
    return y


def test_an_operator_with_several_results_and_a_number_is_lowered() -> None:
    @lowering("npu_test::halves")
    def lower(b: Any, x: Any, factor: float) -> Any:
        by = b.scalar(factor, x)
        return [b.emit(graph.MulOp(x, by)), b.emit(graph.DivOp(x, by))]

    np.testing.assert_array_equal(found(Halves()), Halves()(X).numpy())
    assert lower.__name__ == "lower"


def test_a_lowering_comes_before_the_compilers_own() -> None:
    @lowering("aten::gelu")
    def _(b: Any, x: Any, *, approximate: str) -> Any:
        return b.emit(graph.NegOp(x))

    np.testing.assert_array_equal(found(nn.GELU()), -X.numpy())


def test_a_lowering_may_refuse_a_call() -> None:
    @lowering("npu_test::halves")
    def _(b: Any, x: Any, factor: float) -> Any:
        raise NotExpressible(f"a factor of {factor}")

    with pytest.raises(CompileError, match=r"halves.*found a factor of 2\.0"):
        found(Halves())


def test_a_result_of_another_shape_is_refused() -> None:
    @lowering("npu_test::halves")
    def _(b: Any, x: Any, factor: float) -> Any:
        flat = b.emit(graph.ReshapeOp(x, (6,)))
        return [flat, flat]

    with pytest.raises(CompileError, match=r"shape \[6\] where torch has \[2, 3\]"):
        found(Halves())


def test_a_name_without_namespace_is_refused() -> None:
    with pytest.raises(CompileError, match=r"must be named with its namespace; found 'halves'"):
        lowering("halves")


def test_the_examples_of_the_document_run(root: Path, tmp_path: Path) -> None:
    # in a process of its own, since it adds operators and lowerings
    parts = (root / "docs" / "torch.md").read_text().split("```python\n")[1:]
    (tmp_path / "torch_examples.py").write_text("".join(p.partition("```")[0] for p in parts))
    run = subprocess.run(
        [sys.executable, "torch_examples.py"], cwd=tmp_path, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
