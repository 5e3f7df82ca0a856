"""`torch.compile(model, backend="npu")` gives what eager torch gives, and says what torch runs."""

from __future__ import annotations

import copy
import importlib.metadata
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="torch is not installed")

from npu_dialect import torch_backend  # noqa: E402
from npu_dialect.diagnostics import CompileError, collect  # noqa: E402
from npu_dialect.frontends.torch import partition  # noqa: E402

nn = torch.nn
leaves = torch.utils._pytree.tree_leaves


@pytest.fixture(autouse=True)
def fresh() -> Iterator[None]:
    torch._dynamo.reset()
    torch_backend.subgraphs.clear()
    yield
    torch._dynamo.reset()


def image(*shape: int, seed: int = 1) -> Any:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def compiled(module: Any, **options: Any) -> Any:
    return torch.compile(module.eval(), backend=torch_backend.npu, options=options or None)


def check(fast: Any, eager: Any, *inputs: Any, **named: Any) -> Any:
    """The results of the backend, which are those of eager torch."""
    with torch.no_grad():
        found, wanted = fast(*inputs, **named), eager(*inputs, **named)
    for x, y in zip(leaves(found), leaves(wanted), strict=True):
        torch.testing.assert_close(x, y, rtol=1e-4, atol=1e-5)
    return found


@torch.library.custom_op("npu_test::norms", mutates_args=(), schema="(Tensor x) -> Tensor")
def norms(x: Any) -> Any:
    """The norm of each row."""
    return x.norm(dim=1)


@norms.register_fake
def _(x: Any) -> Any:
    return x.new_empty(x.shape[0])


class Middle(nn.Module):
    """A call without importer between two layers."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.last = nn.Linear(4, 4), nn.Linear(4, 3)

    def forward(self, x: Any) -> Any:
        y = self.first(x).relu()
        y = y + torch.ops.npu_test.norms(y).sum()
        return {"out": self.last(y), "sum": y.sum(1)}


def test_the_backend_is_registered() -> None:
    found = importlib.metadata.entry_points(group="torch_dynamo_backends", name="npu")
    assert [entry.value for entry in found] == ["npu_dialect.torch_backend:npu"]


def test_a_convolutional_network_is_one_program() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveAvgPool2d(1),
        nn.Flatten(), nn.Dropout(), nn.Linear(8, 5),
    ).eval()  # fmt: skip
    check(compiled(net), net, image(2, 3, 8, 8))
    (graph,) = torch_backend.subgraphs
    assert len(graph.programs) == 1 and not graph.in_torch
    assert graph.cycles > 0


@pytest.mark.parametrize("norm_first", [False, True])
@pytest.mark.parametrize("activation", ["relu", "gelu"])
def test_a_transformer_layer_is_one_program(norm_first: bool, activation: str) -> None:
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(
        8, 2, 16, batch_first=True, norm_first=norm_first, activation=activation
    ).eval()
    hidden = torch.tensor([[False, False, False, True, True]])
    check(compiled(layer), layer, image(1, 5, 8), src_key_padding_mask=hidden)
    assert [len(graph.programs) for graph in torch_backend.subgraphs] == [1]


def test_attention_gives_its_weights() -> None:
    torch.manual_seed(0)
    layer = nn.MultiheadAttention(8, 2, batch_first=True).eval()
    x = image(2, 5, 8)
    check(compiled(layer), layer, x, x, x)
    assert not any(graph.in_torch for graph in torch_backend.subgraphs)


def test_an_operator_without_importer_runs_in_torch_between_two_programs() -> None:
    with collect() as records:
        check(compiled(Middle()), Middle().eval(), image(2, 4))
    (graph,) = torch_backend.subgraphs
    assert len(graph.programs) == 2
    (left,) = graph.in_torch
    assert left.op == "npu_test.norms.default" and left.problem is not None
    assert (left.read, left.written) == (4 * 8, 4 * 2)
    (warning,) = [str(record) for record in records]
    assert "npu_test.norms.default: 1 operators, 40 bytes" in warning
    assert "test_torch_backend.py" in warning
    assert "2 programs of 6 operators" in torch_backend.report()


def test_strict_refuses_what_torch_would_run() -> None:
    with torch.no_grad(), pytest.raises(Exception, match=r"NPU0109.*norms"):
        compiled(Middle(), strict=True)(image(2, 4))


class Hosted(nn.Module):
    """A call of ATen that has no importer."""

    def forward(self, x: Any) -> Any:
        return torch.linalg.matrix_exp(x * 2).relu()


def test_work_of_the_host_within_a_program_is_reported() -> None:
    with collect() as records:
        check(compiled(Hosted()), Hosted(), image(3, 3))
    (graph,) = torch_backend.subgraphs
    assert graph.on_host and graph.bytes_moved >= 2 * 4 * 9
    assert any("NPU1006" in str(record) and "matrix_exp" in str(record) for record in records)
    assert "on the host" in torch_backend.report()


def test_strict_refuses_work_of_the_host() -> None:
    with torch.no_grad(), pytest.raises(Exception, match="NPU0306"):
        compiled(Hosted(), strict=True)(image(3, 3))


def test_a_copy_of_an_input_is_a_copy() -> None:
    class Copies(nn.Module):
        def forward(self, x: Any) -> Any:
            return x.clone(), x + 1

    x = image(2, 4)
    copied, _ = check(compiled(Copies()), Copies(), x)
    copied.zero_()
    assert x.abs().sum() > 0


def test_a_graph_that_cannot_be_captured_runs_in_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: Any) -> Any:
        raise RuntimeError("not this one")

    monkeypatch.setattr(partition, "split", fails)
    with collect() as records:
        check(compiled(Middle()), Middle().eval(), image(2, 4))
    assert "found RuntimeError: not this one" in str(records[0])
    assert "all in torch: RuntimeError: not this one" in torch_backend.report()
    torch._dynamo.reset()
    with torch.no_grad(), pytest.raises(Exception, match=r"NPU0110.*not this one"):
        compiled(Middle(), strict=True)(image(2, 4))


def test_each_side_of_a_graph_break_is_compiled() -> None:
    class Branch(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.first, self.last = nn.Linear(4, 4), nn.Linear(4, 3)

        def forward(self, x: Any) -> Any:
            y = self.first(x)
            y = y.relu() if y.sum() > 0 else y.tanh()
            return self.last(y)

    fast, eager = compiled(Branch()), Branch().eval()
    check(fast, eager, image(2, 4))
    check(fast, eager, -image(2, 4))
    assert len(torch_backend.subgraphs) == 3
    assert not any(graph.in_torch for graph in torch_backend.subgraphs)


def test_a_new_shape_is_compiled_and_an_old_one_is_not() -> None:
    fast, eager = compiled(Middle()), Middle().eval()
    for rows in (2, 3, 5, 3, 5):
        check(fast, eager, image(rows, 4))
    assert [graph.runs for graph in torch_backend.subgraphs] == [1, 2, 2]


def test_a_changed_parameter_is_compiled_again() -> None:
    module = Middle().eval()
    fast, eager = compiled(module), copy.deepcopy(module)
    check(fast, eager, image(2, 4))
    for each in (module, eager):
        with torch.no_grad():
            each.first.weight.mul_(2)
    check(fast, eager, image(2, 4))


def test_a_buffer_that_changes_is_changed() -> None:
    class Sums(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("total", torch.zeros(4))

        def forward(self, x: Any) -> Any:
            self.total.add_(x.sum(0))
            return self.total * 2

    module = Sums().eval()
    fast, eager = compiled(module), copy.deepcopy(module)
    for seed in range(3):
        check(fast, eager, image(2, 4, seed=seed))
    torch.testing.assert_close(module.total, eager.total)
    assert [graph.runs for graph in torch_backend.subgraphs] == [3]


def test_an_input_that_changes_is_changed() -> None:
    class Writes(nn.Module):
        def forward(self, x: Any) -> Any:
            x[:, 0] = 0
            return x * 2

    fast, x = compiled(Writes()), image(2, 4)
    y = x.clone()
    with torch.no_grad():
        torch.testing.assert_close(fast(x), Writes()(y))
    torch.testing.assert_close(x, y)


def test_threads_share_the_programs() -> None:
    fast, eager = compiled(Middle()), Middle().eval()
    check(fast, eager, image(2, 4))

    def run(seed: int) -> Any:
        with torch.no_grad():
            return fast(image(2, 4, seed=seed))["out"]

    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(run, range(8)))
    with torch.no_grad():
        for seed, y in enumerate(found):
            torch.testing.assert_close(y, eager(image(2, 4, seed=seed))["out"])
    assert len(torch_backend.subgraphs) == 1


def test_numbers_and_keywords_are_arguments() -> None:
    class Scaled(nn.Module):
        def forward(self, x: Any, *, factor: float = 1.0, flip: bool = False) -> Any:
            return (-x if flip else x) * factor

    fast, eager = compiled(Scaled()), Scaled()
    check(fast, eager, image(3), factor=2.5)
    check(fast, eager, image(3), factor=2.5, flip=True)


def test_a_call_with_gradients_warns_that_there_are_none() -> None:
    with collect() as records:
        found = compiled(nn.Linear(4, 3))(image(2, 4))
    assert not found.requires_grad
    assert any("their results carry no gradients" in str(record) for record in records)


def test_an_unknown_option_is_refused() -> None:
    with torch.no_grad(), pytest.raises(Exception, match="must be among target, strict, tier"):
        compiled(nn.Linear(4, 3), speed=3)(image(2, 4))


class SameContent(nn.Module):
    """Two buffers that get the same new value, and an input that does."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("a", torch.ones(3))
        self.register_buffer("b", torch.zeros(3))

    def forward(self, x: Any, y: Any) -> Any:
        n = self.a + x
        self.a.copy_(n)
        self.b.copy_(n)
        y.copy_(n)
        return n * 2 + self.b


def test_tensors_that_get_the_same_new_value_all_get_it() -> None:
    module, eager = SameContent(), SameContent()
    fast = compiled(module)
    ys = torch.zeros(3), torch.zeros(3)
    for k in range(3):
        x = image(3, seed=k)
        with torch.no_grad():
            torch.testing.assert_close(fast(x, ys[0]), eager(x, ys[1]))
        torch.testing.assert_close(ys[0], ys[1])
        torch.testing.assert_close(module.state_dict(), eager.state_dict())


def clone_then_add(x: Any, y: Any) -> Any:
    before = x.clone()
    x.add_(1)
    return before, y + 1


def view_then_add(x: Any, y: Any) -> Any:
    before = x.clone().view(-1)
    x.add_(1)
    return before, y + 1


def swap(x: Any, y: Any) -> Any:
    before = x.clone()
    x.copy_(y)
    y.copy_(before)
    return x + y


@pytest.mark.parametrize("function", [clone_then_add, view_then_add, swap])
def test_what_is_read_before_a_write_keeps_its_value(function: Any) -> None:
    fast = torch.compile(function, backend=torch_backend.npu)
    mine, theirs = ([image(2, 2), image(2, 2, seed=2)] for _ in range(2))
    with torch.no_grad():
        found, wanted = fast(*mine), function(*theirs)
    torch.testing.assert_close(found, wanted)
    torch.testing.assert_close(mine, theirs)


def test_a_result_is_not_a_view_of_an_argument() -> None:
    fast = torch.compile(lambda x: (x.clone().reshape(-1), x + 1), backend=torch_backend.npu)
    x = image(2, 2)
    before = x.clone()
    found, _ = fast(x)
    x.zero_()
    torch.testing.assert_close(found, before.reshape(-1))


def through_data(layer: Any) -> None:
    layer.weight.data.mul_(2)


def in_inference_mode(layer: Any) -> None:
    with torch.inference_mode():
        layer.weight.mul_(2)


def through_numpy(layer: Any) -> None:
    layer.weight.detach().numpy()[...] *= 2


def rows_in_another_order(layer: Any) -> None:
    layer.weight.data.copy_(layer.weight.data.flip(0).clone())


WRITES = [through_data, in_inference_mode, through_numpy, rows_in_another_order]


@pytest.mark.parametrize("write", WRITES)
def test_a_parameter_is_compiled_again_however_it_was_written(write: Any) -> None:
    torch.manual_seed(0)
    layer = nn.Linear(4, 3)
    fast = compiled(layer)
    check(fast, layer, image(2, 4))
    write(layer)
    check(fast, layer, image(2, 4))
    check(fast, layer, image(2, 4))
    assert len(torch_backend.subgraphs) == 2


def test_parameters_made_in_inference_mode_are_compiled_again() -> None:
    with torch.inference_mode():
        layer = nn.Linear(4, 3)
        fast = compiled(layer)
        check(fast, layer, image(2, 4))
        layer.weight.mul_(2)
        check(fast, layer, image(2, 4))


WRONG: list[dict[str, Any]] = [{"target": 5}, {"target": None}, {"strict": "no"}, {"tier": "quick"}]


@pytest.mark.parametrize("options", WRONG, ids=str)
def test_options_of_another_kind_are_refused(options: dict[str, Any]) -> None:
    (name,) = options
    with pytest.raises(CompileError, match=f"NPU0004.*{name} must be"):
        torch_backend.npu(None, (), options=options)
