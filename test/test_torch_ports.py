"""What a module takes and gives: containers, keywords, numbers, None, and shared parameters."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed")

import npu_dialect as npu  # noqa: E402
from npu_dialect import levels  # noqa: E402
from npu_dialect.diagnostics import CompileError, Severity, collect  # noqa: E402

nn = torch.nn
X, Y = (torch.randn(2, 3, generator=torch.Generator().manual_seed(seed)) for seed in (1, 2))


@dataclass
class Batch:
    ids: Any
    mask: Any


class Pair(NamedTuple):
    low: Any
    high: Any


torch.export.register_dataclass(Batch, serialized_type_name="npu_test.Batch")


def loaded(module: Any, inputs: Any) -> Any:
    return npu.load(module.eval(), "mobile4k", example_inputs=inputs)


def arrays(*tensors: Any) -> list[Any]:
    return [x.numpy() for x in tensors]


def test_inputs_in_containers_are_named_by_their_path() -> None:
    class Nested(nn.Module):
        def forward(self, batch: Any, pair: Any) -> Any:
            return batch["a"] + 2 * batch["more"][0] + 4 * pair[0] + 8 * pair[1]

    module = loaded(Nested(), ({"a": X, "more": [Y]}, (X, Y)))
    assert list(levels.input_names(levels.entry_of(module))) == [
        "batch_a", "batch_more_0", "pair_0", "pair_1"
    ]  # fmt: skip
    (found,) = npu.execute(module, arrays(X, Y, X, Y)).values()
    np.testing.assert_allclose(found, (5 * X + 10 * Y).numpy(), rtol=1e-6)


def test_a_dataclass_may_be_input_and_output() -> None:
    class Both(nn.Module):
        def forward(self, batch: Any) -> Any:
            return Batch(batch.ids * 2, batch.ids + batch.mask)

    found = npu.execute(loaded(Both(), (Batch(X, Y),)), arrays(X, Y))
    assert list(found) == ["ids", "mask"]
    np.testing.assert_array_equal(found["mask"], (X + Y).numpy())


def test_a_named_tuple_names_the_outputs() -> None:
    class Bounds(nn.Module):
        def forward(self, x: Any) -> Any:
            return Pair(x - 1, x + 1)

    assert list(npu.execute(loaded(Bounds(), (X,)), X.numpy())) == ["low", "high"]


def test_outputs_that_are_none_or_numbers_are_left_out() -> None:
    class Partly(nn.Module):
        def forward(self, x: Any) -> Any:
            return {"y": x + 1, "cache": None, "count": 3}

    assert list(npu.execute(loaded(Partly(), (X,)), X.numpy())) == ["y"]


def test_keyword_only_inputs_are_inputs() -> None:
    class Keywords(nn.Module):
        def forward(self, *, x: Any, y: Any) -> Any:
            return x - y

    module = loaded(Keywords(), {"y": Y, "x": X})
    (found,) = npu.execute(module, {"x": X.numpy(), "y": Y.numpy()}).values()
    np.testing.assert_array_equal(found, (X - Y).numpy())


def test_numbers_booleans_and_none_are_fixed_and_stated() -> None:
    class Numbers(nn.Module):
        def forward(self, x: Any, power: int, scale: float, flip: bool, bias: Any = None) -> Any:
            y = x**power * scale
            y = -y if flip else y
            return y if bias is None else y + bias

    with collect() as records:
        module = loaded(Numbers(), (X, 2, 1.5, True, None))
    (found,) = npu.execute(module, X.numpy()).values()
    np.testing.assert_allclose(found, -(X**2 * 1.5).numpy(), rtol=1e-6)
    assert any(
        "have the values of the example inputs; found power = 2, scale = 1.5, flip = True, "
        "bias = None" in str(record)
        for record in records
    )


def test_an_input_that_is_returned_is_an_output() -> None:
    class Same(nn.Module):
        def forward(self, x: Any) -> Any:
            return x, x + 1

    found = list(npu.execute(loaded(Same(), (X,)), X.numpy()).values())
    np.testing.assert_array_equal(found[0], X.numpy())


def test_an_input_that_is_not_used_stays_an_input() -> None:
    class Half(nn.Module):
        def forward(self, x: Any, y: Any) -> Any:
            return x * 2

    program = npu.compile(Half(), (X, Y), target="mobile4k")
    assert [port.name for port in program.inputs] == ["x", "y"]


def test_a_result_without_inputs_is_a_constant() -> None:
    class Table(nn.Module):
        def forward(self, x: Any) -> Any:
            return x + 1, torch.arange(4)

    found = list(npu.execute(loaded(Table(), (X,)), X.numpy()).values())
    np.testing.assert_array_equal(found[1], np.arange(4))


def test_tied_weights_are_one_constant() -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.embed = nn.Embedding(7, 3)
            self.head = nn.Linear(3, 7, bias=False)
            self.head.weight = self.embed.weight

        def forward(self, ids: Any) -> Any:
            return self.head(self.embed(ids))

    ids = torch.tensor([[1, 4, 6]])
    program = npu.compile(Tied().eval(), (ids,), target="mobile4k")
    sizes = [constant.array.size for constant in program.constants]
    assert sizes.count(21) == 1
    (found,) = npu.simulate(program, ids.numpy()).outputs.values()
    np.testing.assert_allclose(found, Tied()(ids).detach().numpy(), rtol=1e-5, atol=1e-6)


def test_modules_in_training_are_named() -> None:
    class Drop(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm, self.drop = nn.BatchNorm1d(3), nn.Dropout(0.5)
            self.idle, self.linear = nn.Dropout(0.0), nn.Linear(3, 3)

        def forward(self, x: Any) -> Any:
            return self.linear(self.idle(self.drop(self.norm(x))))

    with collect() as records:
        npu.load(Drop().train(), "mobile4k", example_inputs=(X,))
    (warning,) = [str(r) for r in records if r.severity is Severity.WARNING]
    assert "these are in training; found norm, drop; try module.eval()" in warning


def test_arguments_that_forward_does_not_take_are_refused() -> None:
    with pytest.raises(CompileError, match="the example inputs must be those of forward"):
        loaded(nn.ReLU(), (X, Y))
