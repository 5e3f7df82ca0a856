"""Every importer of ATen means what torch computes: the graph is evaluated, eager torch is run."""

from __future__ import annotations

import inspect
from functools import cache
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed")

from torch_cases import TOPICS, Case, Known  # noqa: E402

import npu_dialect as npu  # noqa: E402
from npu_dialect.frontends.torch import importer, registry  # noqa: E402

assert importer, "importing it fills the table"


def operator(name: str) -> Any:
    """The operator `aten.relu.default`."""
    library, packet, overload = name.split(".")
    return getattr(getattr(getattr(torch.ops, library), packet), overload)


class Call(torch.nn.Module):
    """A module that calls one operator; the tensors of `Known` are its buffers."""

    def __init__(self, case: Case) -> None:
        super().__init__()
        self.case = case
        self.operator = operator(registry.full_name(case.name))
        self.inputs: list[Any] = []
        self.args = self.described(list(case.args))

    def described(self, tree: Any) -> Any:
        """The arguments, with a name for each tensor."""
        if isinstance(tree, list):
            return [self.described(v) for v in tree]
        if isinstance(tree, Known):
            name = f"known{len(list(self.buffers()))}"
            self.register_buffer(name, tree.tensor)
            return ("buffer", name)
        if isinstance(tree, torch.Tensor):
            kind = "complex" if tree.is_complex() else "input"
            self.inputs.append(_real(tree))
            return (kind, len(self.inputs) - 1)
        return tree

    def filled(self, tree: Any, inputs: Any) -> Any:
        if isinstance(tree, list):
            return [self.filled(v, inputs) for v in tree]
        if isinstance(tree, tuple):
            kind, which = tree
            if kind == "buffer":
                return getattr(self, which)
            return torch.view_as_complex(inputs[which]) if kind == "complex" else inputs[which]
        return tree

    def forward(self, *inputs: Any) -> Any:
        found = self.operator(*self.filled(self.args, inputs), **self.case.kwargs)
        if isinstance(found, list | tuple):
            return tuple(_real(found[k]) for k in self.case.outputs)
        return (_real(found),)


def _real(x: Any) -> Any:
    """Complex numbers as pairs, since a program has none as inputs and outputs."""
    return torch.view_as_real(x.resolve_conj()) if x.is_complex() else x


class Calls(torch.nn.ModuleList):
    """The calls of a topic, each with its own inputs."""

    def forward(self, *inputs: Any) -> Any:
        left = list(inputs)
        taken = [[left.pop(0) for _ in call.inputs] for call in self]
        return [call(*given) for call, given in zip(self, taken, strict=True)]


@cache
def results(topic: str) -> list[list[tuple[Any, Any]]]:
    """For each case of a topic, the results of the graph and of torch."""
    calls = Calls([Call(case) for case in TOPICS[topic]])
    inputs = [x for call in calls for x in call.inputs]
    program = torch.export.export(calls, tuple(inputs), strict=False)
    found = npu.execute(npu.load(program, target="mobile4k"), [x.numpy() for x in inputs])
    left = list(found.values())
    return [[(left.pop(0), x.numpy()) for x in wanted] for wanted in calls(*inputs)]


CASES = [
    pytest.param(topic, k, id=f"{topic}-{k}-{case.name}")
    for topic, cases in TOPICS.items()
    for k, case in enumerate(cases)
]


@pytest.mark.parametrize(("topic", "k"), CASES)
def test_an_operator_means_what_torch_computes(topic: str, k: int) -> None:
    tolerance = TOPICS[topic][k].tolerance
    for found, expected in results(topic)[k]:
        assert found.dtype == expected.dtype
        np.testing.assert_allclose(found, expected, rtol=tolerance, atol=tolerance)


def test_every_row_of_the_table_has_a_case() -> None:
    names = {registry.full_name(case.name) for cases in TOPICS.values() for case in cases}
    assert set(registry.TABLE) == names


@pytest.mark.parametrize("name", registry.TABLE)
def test_the_signature_of_an_importer_is_the_schema(name: str) -> None:
    schema = operator(name)._schema
    parameters = list(inspect.signature(registry.TABLE[name]).parameters.values())[1:]
    named = [p.name for p in parameters if p.kind == p.KEYWORD_ONLY]
    arguments = [a for a in schema.arguments if a.name not in registry.IGNORED or not a.kwarg_only]
    assert [p.name for p in parameters if p.name not in named] == [
        a.name for a in arguments if not a.kwarg_only
    ]
    assert sorted(named) == sorted(a.name for a in arguments if a.kwarg_only)
