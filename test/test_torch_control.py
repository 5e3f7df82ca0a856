"""Higher-order operators of torch through the importer, compared with eager torch."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed")

from torch._higher_order_ops import scan, while_loop  # noqa: E402

import npu_dialect as npu  # noqa: E402
from npu_dialect.diagnostics import CompileError, collect  # noqa: E402

nn = torch.nn
X = torch.randn(2, 3, generator=torch.Generator().manual_seed(2))


def both(module: Any, *inputs: Any) -> tuple[Any, list[str]]:
    """The graph and its remarks; it gives what eager torch gives."""
    module.eval()
    with torch.no_grad():
        wanted = torch.utils._pytree.tree_leaves(module(*inputs))
    with collect() as records:
        graph = npu.load(module, "mobile4k", example_inputs=inputs)
    found = npu.execute(graph, [x.numpy() for x in inputs]).values()
    for x, y in zip(found, wanted, strict=True):
        np.testing.assert_allclose(x, torch.as_tensor(y).numpy(), rtol=1e-5, atol=1e-6)
    return graph, [str(record) for record in records if "captured by" not in str(record)]


def names(graph: Any) -> list[str]:
    return [op.name.removeprefix("graph.") for op in graph.walk() if op.name.startswith("graph.")]


class Gate(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.wide = nn.Linear(3, 3)

    def forward(self, x: Any) -> Any:
        return torch.cond(x.sum() > 0, lambda a: self.wide(a) + 1, lambda a: a.relu() * 2, (x,))


@pytest.mark.parametrize("sign", [1, -1])
def test_both_branches_of_a_condition_of_run_time_run_and_one_is_selected(sign: int) -> None:
    x = X.abs() * sign
    graph, (remark,) = both(Gate(), x)
    assert "where" in names(graph)
    assert "both branches of a cond run" in remark and "operations in both" in remark


def test_operations_of_a_branch_know_the_module_that_calls_it() -> None:
    inner = nn.Sequential(nn.ReLU(), Gate())
    graph, _ = both(inner, X)
    locations = {str(op.location) for op in graph.walk() if op.name == "graph.matmul"}
    assert all(f'"1"("{__file__}"' in location for location in locations) and locations
    constants = {str(op.location) for op in graph.walk() if op.name == "graph.constant"}
    assert 'loc("1.wide.bias")' in constants


def test_a_nan_of_the_other_branch_is_not_selected() -> None:
    class Root(nn.Module):
        def forward(self, x: Any) -> Any:
            return torch.cond(x.sum() > 0, lambda a: a.sqrt(), lambda a: a * 2, (x,))

    both(Root(), -X.abs())


def test_a_condition_that_is_known_takes_one_branch() -> None:
    class Known(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("is_wide", torch.tensor(False))

        def forward(self, x: Any) -> Any:
            return torch.cond(self.is_wide, lambda a: a.exp(), lambda a: a * 2, (x,))

    graph, remarks = both(Known(), X)
    assert names(graph) == ["constant", "mul"]
    assert not remarks


def test_a_loop_with_a_known_counter_becomes_its_steps() -> None:
    class Counted(nn.Module):
        def forward(self, x: Any) -> Any:
            start = torch.tensor(0)
            return while_loop(lambda i, _: i < 3, lambda i, x: (i + 1, x * 2 + i), (start, x))

    graph, _ = both(Counted(), X)
    assert names(graph).count("mul") == 3


def test_a_loop_may_count_in_python() -> None:
    class Counted(nn.Module):
        def forward(self, x: Any) -> Any:
            return while_loop(lambda i, _: i < 2, lambda i, x: (i + 1, x * 2), (0, x))[1]

    graph, _ = both(Counted(), X)
    assert names(graph).count("mul") == 2


def test_a_loop_whose_condition_depends_on_values_is_refused() -> None:
    class Free(nn.Module):
        def forward(self, x: Any) -> Any:
            return while_loop(lambda x: x.sum() < 10, lambda x: (x * 2,), (x,))[0]

    with pytest.raises(CompileError) as caught:
        npu.load(Free(), "mobile4k", example_inputs=(X.abs(),))
    text = str(caught.value)
    assert "a while_loop must have a number of steps that is known when compiling" in text
    assert "a condition that is computed at run time, in step 1" in text


def test_a_loop_of_too_many_steps_is_refused() -> None:
    class Long(nn.Module):
        def forward(self, x: Any) -> Any:
            return while_loop(lambda i, _: i < 9999, lambda i, x: (i + 1, x * 2), (0, x))[1]

    with pytest.raises(CompileError, match="and 4096 are the limit"):
        npu.load(Long(), "mobile4k", example_inputs=(X,))


def test_scan_carries_a_value_and_stacks_the_others() -> None:
    class Sums(nn.Module):
        def forward(self, x: Any) -> Any:
            return scan(lambda c, row: (c + row, c * row), torch.zeros(3), x, dim=0)

    both(Sums(), X)


def test_scan_may_go_backwards() -> None:
    class Sums(nn.Module):
        def forward(self, x: Any) -> Any:
            return scan(lambda c, row: (c + row, c * row), torch.zeros(3), x, dim=0, reverse=True)

    both(Sums(), X)


def test_map_applies_a_function_to_each_row() -> None:
    class Rows(nn.Module):
        def forward(self, x: Any, w: Any) -> Any:
            return torch._higher_order_ops.map(lambda row, w: (row * w).relu(), x, w)

    both(Rows(), X, torch.tensor([1.0, -2.0, 3.0]))


def test_a_cond_may_stand_in_a_loop() -> None:
    class Nested(nn.Module):
        def forward(self, x: Any) -> Any:
            def step(i: Any, x: Any) -> Any:
                return i + 1, torch.cond(x.sum() > 1, lambda a: a / 2, lambda a: a * 3, (x,))

            return while_loop(lambda i, _: i < 3, step, (torch.tensor(0), x))[1]

    both(Nested(), X.abs())
