"""What is printed for models that cannot be compiled: every place, its cause, what to change."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import FunctionType
from typing import Any

import pytest
from harness import run_in_process

torch = pytest.importorskip("torch", reason="torch is not installed")

import npu_dialect as npu  # noqa: E402
from npu_dialect.frontends.torch import package  # noqa: E402
from npu_dialect.frontends.torch.problems import CAUSES, Problem, Refused, cause_of  # noqa: E402

nn = torch.nn
HERE = Path(__file__).name
X = torch.ones(4, 3)


@torch.library.custom_op("npu_test::unsaid", mutates_args=(), schema="(Tensor x) -> Tensor")
def unsaid(x: Any) -> Any:
    return x * 2


@torch.library.custom_op("npu_test::unlowered", mutates_args=(), schema="(Tensor x) -> Tensor")
def unlowered(x: Any) -> Any:
    return x * 2


@unlowered.register_fake
def _(x: Any) -> Any:
    return torch.empty_like(x)


class Unknown:
    """Not what torch knows as a container."""


class Function(nn.Module):
    """A function of a tensor as a module; torch notes the lines of functions called `forward`."""

    def __init__(self, function: Any) -> None:
        super().__init__()
        code = function.__code__.replace(co_name="forward")
        self.function = FunctionType(code, function.__globals__)

    def forward(self, x: Any) -> Any:
        return self.function(x)


def refused(module: Any, *inputs: Any) -> Refused:
    with pytest.raises(Refused) as caught:
        npu.load(module.eval(), "mobile4k", example_inputs=inputs or (X,))
    return caught.value


# Functions that cannot be compiled. The comment on a line is the cause that must be found there.


def branch(x: Any) -> Any:
    if x.sum() > 0:  # control-flow
        return x * 2
    return x


def loop(x: Any) -> Any:
    while x.sum() < 100:  # control-flow
        x = x * 2
    return x


def two_branches(x: Any) -> Any:
    if x.max() > 3:  # control-flow
        x = x + 1
    if x.min() < 0:  # control-flow
        x = x - 1
    return x


def indexed(x: Any) -> Any:
    return x[int(x[0, 0])]  # item


def count(x: Any) -> Any:
    return torch.stack([x * k for k in range(int(x[0, 0]))])  # item


def listed(x: Any) -> Any:
    return sum(v for row in x.tolist() for v in row)  # item


def masked(x: Any) -> Any:
    return x[x > 0]  # data-dependent-shape


def places(x: Any) -> Any:
    return torch.nonzero(x)  # data-dependent-shape


def distinct(x: Any) -> Any:
    return torch.unique(x)  # data-dependent-shape


def mismatched(x: Any) -> Any:
    return x @ torch.ones(7, 7)  # shape-mismatch


def noisy(x: Any) -> Any:
    return x + torch.randn_like(x)  # random


def said_by_nobody(x: Any) -> Any:
    return torch.ops.npu_test.unsaid(x)  # missing-fake-kernel


def without_lowering(x: Any) -> Any:
    return torch.ops.npu_test.unlowered(x)  # custom-op


def sparse(x: Any) -> Any:
    return x.to_sparse() * 2  # dtype


def branch_and_noise(x: Any) -> Any:
    if x.sum() > 0:  # control-flow
        x = x * 2
    x = x + torch.rand_like(x)  # random
    return torch.ops.npu_test.unlowered(x)  # custom-op


AWKWARD = [branch, loop, two_branches, indexed, count, listed, masked, places, distinct, mismatched,
           noisy, said_by_nobody, without_lowering, sparse, branch_and_noise]  # fmt: skip


def expected(function: Callable[[Any], Any]) -> set[tuple[str, int]]:
    """The causes and lines that the comments of a function state."""
    first = function.__code__.co_firstlineno
    lines = Path(__file__).read_text().splitlines()[first - 1 :]
    body = lines[: lines.index("")]
    return {(line.split("  # ")[1], first + k) for k, line in enumerate(body) if "  # " in line}


@pytest.mark.parametrize("function", AWKWARD, ids=lambda f: f.__name__)
def test_every_place_is_found_with_its_cause(function: Callable[[Any], Any]) -> None:
    problem = refused(Function(function))
    found = {(p.cause, p.line) for p in problem.problems}
    assert expected(function) <= found
    assert all(p.file == __file__ for p in problem.problems)
    for record in problem.records:
        assert record.location.startswith(__file__) and record.remedy


def test_an_output_that_torch_does_not_know_is_named() -> None:
    (record,) = refused(Function(lambda x: Unknown())).records
    assert "containers that torch knows" in str(record) and "register_dataclass" in str(record)


def test_example_inputs_that_do_not_fit_are_named() -> None:
    (record,) = refused(Function(lambda x: x), X, X).records
    assert "the example inputs must be those of forward" in str(record)


class Gate(nn.Module):
    def forward(self, x: Any) -> Any:
        if x.sum() > 0:
            x = x.relu()
        return torch.ops.npu_test.unlowered(x)


def test_the_same_line_in_several_modules_is_one_record_with_all_of_them() -> None:
    problem = refused(nn.Sequential(Gate(), nn.Linear(3, 3), Gate()))
    assert {(p.cause, p.module) for p in problem.problems} == {
        ("control-flow", "0"), ("control-flow", "2"), ("custom-op", "0"), ("custom-op", "2")
    }  # fmt: skip
    assert len(problem.records) == 2
    assert all(record.source == "0, 2" for record in problem.records)


def test_the_report_groups_by_cause_and_shows_the_code() -> None:
    lines = refused(nn.Sequential(Gate(), nn.Linear(3, 3), Gate())).report().splitlines()
    assert lines[0] == "Sequential: 4 problems of 2 causes"
    assert any(
        line.startswith("control-flow: branches and loops") and line.endswith("(2 places)")
        for line in lines
    )
    assert sum(line.endswith("if x.sum() > 0:") and HERE in line for line in lines) == 2
    assert sum("  try " in line for line in lines) == 2


def test_the_tool_explains_what_a_file_cannot_do(tmp_path: Path) -> None:
    with package.quiet():
        program = torch.export.export(Function(without_lowering), (X,))
        torch.export.save(program, tmp_path / "m.pt2")
    run = run_in_process("npu-compile", [str(tmp_path / "m.pt2"), "--explain"])
    assert run.code == 1
    assert "1 problem of 1 cause" in run.out
    assert "custom-op: a custom operator must have a lowering (1 place)" in run.out
    assert run.err.startswith("error[NPU0109]: ")


def test_a_line_that_fails_many_times_is_one_place() -> None:
    assert len(refused(Function(listed)).problems) == 1


# The table of causes


def test_every_cause_says_what_must_hold_and_what_would_work() -> None:
    for cause in CAUSES:
        problem = Problem(cause.name, "mylib.op.default")
        assert " must " in f" {problem.rule} " and problem.remedy
        assert "{" not in problem.rule and "{op" not in problem.remedy


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        ("GuardOnDataDependentSymNode: Could not guard on data-dependent expression Eq(u0, 1)",
         "control-flow"),
        ("Unsupported Tensor.item() call with capture_scalar_outputs=False", "item"),
        ("Dynamic shape operator\n  Explanation: Operator `aten.nonzero.default`",
         "data-dependent-shape"),
        ("There was no fake impl registered for <CustomOpDef(a::b)>", "missing-fake-kernel"),
        (".numpy() is not supported for tensor subclasses.", "numpy"),
        ("mat1 and mat2 shapes cannot be multiplied (4x3 and 7x7)", "shape-mismatch"),
        ("forward() missing 1 required positional argument: 'y'", "arguments"),
        ("Constraints violated (batch)!", "dynamic-shapes"),
        ("KeyError: 'weight'", "python"),
    ],
)  # fmt: skip
def test_what_torch_says_has_a_cause(text: str, cause: str) -> None:
    assert cause_of(text) == cause


def test_the_table_of_the_documentation_has_every_cause(root: Path) -> None:
    text = (root / "docs" / "torch.md").read_text()
    for cause in CAUSES:
        assert f"| {cause.name} |" in text, cause.name
