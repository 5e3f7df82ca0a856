"""The passes over FX graphs: what each makes of a graph, and that the results stay."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed")

import npu_dialect as npu  # noqa: E402
from npu_dialect.diagnostics import CompileError  # noqa: E402
from npu_dialect.frontends.torch import package  # noqa: E402
from npu_dialect.frontends.torch.passes import (  # noqa: E402
    fold_shapes,
    remove_checks,
    remove_noops,
    scalar_operands,
    separate_copies,
)

nn = torch.nn
X = torch.randn(2, 4, generator=torch.Generator().manual_seed(3))


def exported(function: Any, *inputs: Any, **options: Any) -> Any:
    """The graph module of a function, in core ATen."""

    class Module(nn.Module):
        def forward(self, *inputs: Any) -> Any:
            return function(*inputs)

    with package.quiet():
        program = torch.export.export(Module().eval(), inputs, **options)
        return program.run_decompositions({}).graph_module


def calls(module: Any) -> list[str]:
    nodes = [n for n in module.graph.nodes if n.op == "call_function"]
    return [getattr(n.target, "__name__", str(n.target)).partition(".")[0] for n in nodes]


def test_checks_go_and_what_only_they_need() -> None:
    def checked(x: Any) -> Any:
        torch._assert_async(x.max() < 5, "too large")
        return x.relu()

    module = exported(checked, X)
    assert "_assert_async" in calls(module)
    remove_checks.run(module)
    assert calls(module) == ["relu"]


def test_checks_of_numbers_go() -> None:
    def checked(x: Any) -> Any:
        torch._check(x.max().item() < 9)
        return x.relu()

    module = exported(checked, X)
    assert "_assert_scalar" in calls(module)
    remove_checks.run(module)
    assert calls(module) == ["relu"]


def test_what_gives_its_operand_back_goes() -> None:
    def idle(x: Any) -> Any:
        x = nn.functional.dropout(x.detach(), 0.5, training=False)
        return x.to(torch.float32).clone().view(2, 4).relu().expand(2, 4)

    module = exported(idle, X)
    remove_checks.run(module)
    remove_noops.run(module)
    assert calls(module) == ["relu"]


def test_a_conversion_and_a_view_that_change_something_stay() -> None:
    module = exported(lambda x: x.to(torch.float16).view(4, 2), X)
    remove_checks.run(module)
    remove_noops.run(module)
    assert calls(module) == ["_to_copy", "view"]


def test_dropout_in_training_stays() -> None:
    graph = torch.fx.Graph()
    x = graph.placeholder("x")
    graph.output(graph.call_function(torch.ops.aten.dropout.default, (x, 0.5, True)))
    module = torch.fx.GraphModule(nn.Module(), graph)
    remove_noops.run(module)
    assert calls(module) == ["dropout"]


def test_numbers_of_shapes_become_constants() -> None:
    graph = torch.fx.Graph()
    x = graph.placeholder("x")
    size = graph.call_function(torch.ops.aten.sym_size.int, (x, 1))
    size.meta["val"] = 4
    view = graph.call_function(torch.ops.aten.view.default, (x, [1, size]))
    graph.output(view)
    module = torch.fx.GraphModule(nn.Module(), graph)
    fold_shapes.run(module)
    assert calls(module) == ["view"]
    assert view.args[1] == [1, 4]


def test_a_number_of_run_time_stays_a_tensor() -> None:
    module = exported(lambda x: x * x.max().item() + 1, X)
    scalar_operands.run(module)
    assert "item" not in calls(module) and "_local_scalar_dense" not in calls(module)
    assert "mul" in calls(module)


def test_a_number_that_would_change_the_type_stays() -> None:
    module = exported(lambda x, y: x * y.max().item(), X.to(torch.int32), X)
    scalar_operands.run(module)
    assert {"item", "_local_scalar_dense"} & set(calls(module))


# Modules that need them


def same(module: Any, *inputs: Any) -> None:
    """The module's graph gives what torch gives."""
    graph = npu.load(module.eval(), "mobile4k", example_inputs=tuple(x.clone() for x in inputs))
    (found,) = npu.execute(graph, [x.numpy() for x in inputs]).values()
    np.testing.assert_allclose(found, module(*(x.clone() for x in inputs)), rtol=1e-6)


def test_a_factor_that_was_read_as_a_number_compiles() -> None:
    class Normed(nn.Module):
        def forward(self, x: Any) -> Any:
            return x * float(x.abs().max())

    same(Normed(), X)


def test_writes_into_views_of_a_copy_compile() -> None:
    class Written(nn.Module):
        def forward(self, x: Any) -> Any:
            y = x.clone()
            y[:, 0].add_(1)
            y.view(-1)[2:4].zero_()
            y[y > 1] = 7
            return y

    same(Written(), X)


def test_sizes_that_are_read_from_buffers_are_constants() -> None:
    class Cut(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("size", torch.tensor(3))

        def forward(self, x: Any) -> Any:
            return x[:, : self.size.item()] * 2

    same(Cut(), X)


def test_lists_that_are_read_from_buffers_are_constants() -> None:
    class Split(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("sizes", torch.tensor([2, 2]))

        def forward(self, x: Any) -> Any:
            low, high = x.split((self.sizes + 0).tolist(), 1)
            return low * high

    same(Split(), X)


def test_a_number_of_a_buffer_that_changes_is_none() -> None:
    class Grows(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("size", torch.tensor(1))

        def forward(self, x: Any) -> Any:
            self.size.add_(1)
            return x[:, : self.size.item()] * 2

    with pytest.raises(CompileError, match="NPU0110"):
        npu.load(Grows(), "mobile4k", example_inputs=(X,))


def test_what_is_copied_into_two_buffers_becomes_two_values() -> None:
    class Module(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("a", torch.zeros(2, 4))
            self.register_buffer("b", torch.zeros(2, 4))

        def forward(self, x: Any) -> Any:
            self.a.copy_(x)
            self.b.copy_(x)
            return x + 1

    with package.quiet():
        program = torch.export.export(Module().eval(), (X,))
    separate = separate_copies.run(program)
    assert calls(program.graph_module) == ["copy_", "copy_", "add"]
    assert calls(separate.graph_module) == ["clone", "copy_", "clone", "copy_", "add"]
