"""Models that keep state: buffers that change in forward are states of the program."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed")

import npu_dialect as npu  # noqa: E402
from npu_dialect.diagnostics import CompileError, collect  # noqa: E402
from npu_dialect.runtime.program import Program  # noqa: E402
from npu_dialect.runtime.simulator import Session  # noqa: E402

nn = torch.nn
DICE = torch.Generator().manual_seed(4)


class Cached(nn.Module):
    """Attention of one step over the keys and values of all steps so far."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.qkv = nn.Linear(8, 24)
        self.register_buffer("keys", torch.zeros(1, 6, 8))
        self.register_buffer("values", torch.zeros(1, 6, 8))
        self.register_buffer("step", torch.tensor(0))

    def forward(self, x: Any) -> Any:
        q, k, v = self.qkv(x).chunk(3, -1)
        self.keys.index_copy_(1, self.step.reshape(1), k)
        self.values.index_copy_(1, self.step.reshape(1), v)
        seen = torch.arange(6) <= self.step
        self.step.add_(1)
        scores = (q @ self.keys.transpose(1, 2)).masked_fill(~seen, -1e9)
        return scores.softmax(-1) @ self.values


class Recurrent(nn.Module):
    """A GRU that goes on where it stopped."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.cell = nn.GRU(4, 5, batch_first=True)
        self.register_buffer("hidden", torch.randn(1, 1, 5), persistent=False)

    def forward(self, x: Any) -> Any:
        y, hidden = self.cell(x, self.hidden)
        self.hidden.copy_(hidden)
        return y


class Convolution(nn.Module):
    """A causal convolution over a stream, with its last inputs kept."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv1d(2, 3, 3)
        self.register_buffer("past", torch.zeros(1, 2, 2))

    def forward(self, x: Any) -> Any:
        whole = torch.cat([self.past, x], -1)
        self.past = whole[..., -2:]
        return self.conv(whole)


MODELS = {Cached: (1, 1, 8), Recurrent: (1, 3, 4), Convolution: (1, 2, 4)}


@pytest.mark.parametrize(
    ("kind", "shape"), MODELS.items(), ids=lambda v: getattr(v, "__name__", "")
)
def test_a_stream_gives_what_torch_gives(kind: Any, shape: tuple[int, ...]) -> None:
    module = kind().eval()
    eager = copy.deepcopy(module)
    x = torch.randn(shape, generator=DICE)
    program = npu.compile(module, (x,), target="mobile4k")
    assert {row.engine for row in program.placement}.isdisjoint({"host"})
    assert [port.name for port in program.inputs] == ["x"]
    session = Session(Program.from_bytes(program.to_bytes()))
    for _ in range(4):
        x = torch.randn(shape, generator=DICE)
        with torch.no_grad():
            wanted = eager(x)
        (found,) = session.run({"x": x.numpy()}).outputs.values()
        np.testing.assert_allclose(found, wanted.numpy(), rtol=1e-4, atol=1e-5)
    for name, buffer in eager.named_buffers():
        np.testing.assert_allclose(session.state[name], buffer.numpy(), rtol=1e-4, atol=1e-5)


def test_the_first_content_is_that_of_the_buffer() -> None:
    module = Recurrent().eval()
    program = npu.compile(module, (torch.zeros(1, 3, 4),), target="mobile4k")
    np.testing.assert_array_equal(Session(program).state["hidden"], module.hidden.numpy())


def test_a_tensor_that_is_kept_in_an_attribute_is_lost_and_named() -> None:
    class Kept(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.last = torch.zeros(3)

        def forward(self, x: Any) -> Any:
            self.last = self.last + x
            return self.last

    with collect() as records:
        npu.load(Kept(), "mobile4k", example_inputs=(torch.ones(3),))
    (warning,) = [str(r) for r in records if "captured by" not in str(r)]
    assert "must be buffers, and others are lost; found self.last; try register_buffer" in warning


def test_an_input_that_is_written_to_is_named_and_the_results_are_right() -> None:
    class Writes(nn.Module):
        def forward(self, x: Any) -> Any:
            x[:, 0] = 0
            return x * 2

    x = torch.randn(2, 3, generator=DICE)
    with collect() as records:
        graph = npu.load(Writes(), "mobile4k", example_inputs=(x.clone(),))
    assert any(
        "does not change its inputs, and the module does; found x" in str(r) for r in records
    )
    (found,) = npu.execute(graph, x.numpy()).values()
    np.testing.assert_array_equal(found, Writes()(x.clone()))


class Pair(nn.Module):
    """Two buffers that forward changes in the way of a subclass."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("a", torch.tensor([1.0, 2.0, 3.0]))
        self.register_buffer("b", torch.tensor([4.0, 5.0, 6.0]))


class SameResult(Pair):
    def forward(self, x: Any) -> Any:
        n = self.a + x
        self.a.copy_(n)
        self.b.copy_(n)
        return n * 2 + self.b


class SameInput(Pair):
    def forward(self, x: Any) -> Any:
        self.a.copy_(x)
        self.b.copy_(x)
        return self.a + self.b + 1


class SameAssigned(Pair):
    def forward(self, x: Any) -> Any:
        self.a = self.a + x
        self.b = self.a
        return self.b * 2


class Swapped(Pair):
    def forward(self, x: Any) -> Any:
        old = self.a.clone()
        self.a.copy_(self.b)
        self.b.copy_(old)
        return self.a + x


class Converted(Pair):
    def forward(self, x: Any) -> Any:
        self.a.copy_((x * 4).int())
        self.b.copy_(x.max())
        return self.a / 8 + self.b


class Viewed(Pair):
    def forward(self, x: Any) -> Any:
        self.a[0:2].copy_(x[1:])
        self.b.view(-1).copy_(x)
        self.a.copy_(self.a * 2)
        return self.a + self.b


class Learned(nn.Module):
    """A parameter that forward changes."""

    def __init__(self) -> None:
        super().__init__()
        self.p = nn.Parameter(torch.ones(3))

    def forward(self, x: Any) -> Any:
        with torch.no_grad():
            self.p.add_(x)
        return self.p * 2


@pytest.mark.parametrize(
    "kind", [SameResult, SameInput, SameAssigned, Swapped, Converted, Viewed, Learned]
)
def test_every_tensor_that_forward_changes_is_a_state(kind: Any) -> None:
    eager = kind().eval()
    x = torch.randn(3, generator=DICE)
    session = Session(npu.compile(kind().eval(), (x,), target="mobile4k"))
    for _ in range(3):
        x = torch.randn(3, generator=DICE)
        with torch.no_grad():
            wanted = eager(x)
        (found,) = session.run({"x": x.numpy()}).outputs.values()
        np.testing.assert_array_equal(found, wanted.numpy())
    assert session.state.keys() == eager.state_dict().keys()
    for name, tensor in eager.state_dict().items():
        np.testing.assert_array_equal(session.state[name], tensor.numpy())


def test_a_swap_of_attributes_is_refused_with_what_would_work() -> None:
    class Exchanged(Pair):
        def forward(self, x: Any) -> Any:
            self.a, self.b = self.b, self.a
            return self.a + x

    with pytest.raises(CompileError, match=r"in place.*self\.a = .*try self\.a\.copy_"):
        npu.load(Exchanged(), "mobile4k", example_inputs=(torch.ones(3),))
