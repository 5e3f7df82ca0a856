"""Sizes that are free: buckets chosen at run time, and programs of torch.export with symbols."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from harness import run_in_process

torch = pytest.importorskip("torch", reason="torch is not installed")

import npu_dialect as npu  # noqa: E402
from npu_dialect.diagnostics import CompileError  # noqa: E402
from npu_dialect.frontends.torch import package  # noqa: E402

nn = torch.nn
DICE = torch.Generator().manual_seed(6)


class Rows(nn.Module):
    """Its batch may be padded; the second result has two rows for each."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layer = nn.Linear(4, 3)

    def forward(self, x: Any) -> Any:
        y = self.layer(x)
        return {"y": y.relu(), "pairs": y.reshape(-1, 3).repeat_interleave(2, 0)}


def rows(count: int) -> Any:
    return torch.randn(count, 4, generator=DICE)


def check(model: Any, module: Any, x: Any) -> None:
    with torch.no_grad():
        wanted = module(x)
    found = model.run({"x": x.numpy()}).outputs
    for name, y in wanted.items():
        np.testing.assert_allclose(found[name], y.numpy(), rtol=1e-5, atol=1e-6)


def compiled(module: Any, x: Any, **options: Any) -> Any:
    batch = {"dynamic_shapes": {"x": {0: "batch"}}, "target": "mobile4k"}
    return npu.compile(module.eval(), (x,), **batch, **options)


def test_a_bucket_is_chosen_by_the_size_of_the_input() -> None:
    model = compiled(Rows(), rows(2), buckets={"batch": [1, 3]})
    for size in (1, 3, 1):
        check(model, Rows(), rows(size))
    assert sorted(model.programs) == [(1,), (3,)]


def test_a_size_between_the_buckets_is_refused() -> None:
    model = compiled(Rows(), rows(2), buckets={"batch": [1, 3]})
    with pytest.raises(CompileError, match=r"must be one of 1, 3; found 2; try pad=\[\"batch\"\]"):
        model.run({"x": rows(2).numpy()})


def test_a_padded_size_runs_in_the_next_bucket_and_its_results_are_cut() -> None:
    model = compiled(Rows(), rows(2), buckets={"batch": [1, 4]}, pad=["batch"])
    for size in (2, 3, 4):
        check(model, Rows(), rows(size))
    assert list(model.programs) == [(4,)]
    with pytest.raises(CompileError, match="the size must be at most 4; found 5"):
        model.run({"x": rows(5).numpy()})


def test_a_size_without_buckets_is_compiled_when_it_is_first_seen() -> None:
    model = compiled(Rows(), rows(2))
    for size in (2, 5, 2):
        check(model, Rows(), rows(size))
    assert sorted(model.programs) == [(2,), (5,)]


def test_all_buckets_can_be_compiled_before() -> None:
    model = compiled(Rows(), rows(2), buckets={"batch": [1, 2]})
    model.compile_all()
    assert sorted(model.programs) == [(1,), (2,)]
    with pytest.raises(CompileError, match="must have buckets to be compiled"):
        compiled(Rows(), rows(2)).compile_all()


def test_inputs_that_share_a_size_must_agree() -> None:
    class Sum(nn.Module):
        def forward(self, x: Any, y: Any) -> Any:
            return x + y

    free = {"x": {1: "time"}, "y": {1: "time"}}
    pair = torch.randn(2, 3), torch.randn(2, 3)
    model = npu.compile(Sum(), pair, target="mobile4k", dynamic_shapes=free)
    x, y = (torch.randn(2, 5).numpy() for _ in range(2))
    np.testing.assert_array_equal(*[*model.run({"x": x, "y": y}).outputs.values(), x + y])
    with pytest.raises(CompileError, match="time must be 5, as in another input"):
        model.run({"x": x, "y": y[:, :4]})


def test_keyword_inputs_and_dimensions_of_torch_name_sizes_too() -> None:
    free = {"x": {0: torch.export.Dim("batch", min=1, max=8)}}
    model = npu.compile(Rows(), {"x": rows(2)}, target="mobile4k", dynamic_shapes=free)
    assert model.names == ["batch"]
    check(model, Rows(), rows(3))


def test_a_name_that_is_no_input_is_refused() -> None:
    with pytest.raises(CompileError, match="z, and the inputs that are tensors are x"):
        npu.compile(Rows(), (rows(2),), dynamic_shapes={"z": {0: "batch"}})
    with pytest.raises(CompileError, match="buckets and pad must name free dimensions; found time"):
        compiled(Rows(), rows(2), buckets={"time": [1]})


# Programs of torch.export


def symbolic() -> Any:
    class Placed(nn.Module):
        def forward(self, x: Any) -> Any:
            return x + torch.arange(x.shape[1]) * x.shape[0]

    free = {"x": {0: torch.export.Dim("batch", min=2, max=16), 1: torch.export.Dim("time")}}
    with package.quiet():
        return torch.export.export(Placed(), (torch.randn(2, 5),), dynamic_shapes=free)


def test_free_sizes_of_a_program_are_listed() -> None:
    with pytest.raises(CompileError) as caught:
        npu.load(symbolic(), "mobile4k")
    text = str(caught.value)
    assert text.startswith("error[NPU0104]: forward: the shape of every input must be known")
    assert "found x of shape [s" in text and "from 2 to 16" in text
    assert 'try shapes={"x": (2, 2)}' in text


def test_free_sizes_of_a_program_are_bound() -> None:
    program, x = symbolic(), torch.randn(3, 7)
    for _ in range(2):  # the program is as before
        graph = npu.load(program, "mobile4k", shapes={"x": (3, 7)})
        (found,) = npu.execute(graph, x.numpy()).values()
        np.testing.assert_allclose(found, x.numpy() + np.arange(7) * 3, rtol=1e-6)


def test_free_sizes_of_a_file_are_bound(tmp_path: Path) -> None:
    with package.quiet():
        torch.export.save(symbolic(), tmp_path / "m.pt2")
    graph = npu.load(tmp_path / "m.pt2", "mobile4k", shapes={"x": (4, 6)})
    (found,) = npu.execute(graph, np.zeros((4, 6), np.float32)).values()
    np.testing.assert_allclose(found, np.broadcast_to(np.arange(6) * 4, (4, 6)))


def test_the_tool_binds_the_sizes_of_a_file(tmp_path: Path) -> None:
    with package.quiet():
        torch.export.save(symbolic(), tmp_path / "m.pt2")
    arguments = [str(tmp_path / "m.pt2"), "-o", str(tmp_path / "m.npu"), "--target", "mobile4k"]
    run = run_in_process("npu-compile", arguments)
    assert run.code == 1 and "error[NPU0104]: forward: " in run.err
    run = run_in_process("npu-compile", [*arguments, "--shape", "x=4,6"])
    assert run.code == 0, run.err


@pytest.mark.parametrize(
    ("shapes", "words"),
    [({"x": (17, 4)}, "must be from 2 to 16"), ({"x": (3,)}, "must be that of the program"),
     ({"y": (3, 4)}, "y, not one of x")],
)  # fmt: skip
def test_a_shape_that_does_not_fit_is_refused(shapes: Any, words: str) -> None:
    with pytest.raises(CompileError, match=rf"NPU0105.*{words}"):
        npu.load(symbolic(), "mobile4k", shapes=shapes)


def test_example_inputs_of_several_entries_must_be_by_entry() -> None:
    layer = nn.Linear(4, 3).eval()
    both = {"a": layer, "b": layer}
    for given in ((rows(2),), {"input": rows(2)}):
        with pytest.raises(CompileError, match=r'NPU0004.*example_inputs.*try .*{"a": \(x,\)}'):
            npu.compile(both, given)
    made = npu.compile(both, {"a": (rows(1)[:, :4],), "b": (rows(2)[:, :4],)}, target="mobile4k")
    assert {n: e.inputs[0].shape[0] for n, e in made.entries.items()} == {"a": 1, "b": 2}


UNUSED: dict[str, Any] = {
    "buckets": {"buckets": {"batch": [1]}},
    "pad": {"pad": ["batch"]},
    "states": {"states": {"a": "b"}, "dynamic_shapes": {"x": {0: "batch"}}},
    "shapes": {"shapes": {"x": (2, 4)}, "dynamic_shapes": {"x": {0: "batch"}}},
}


@pytest.mark.parametrize("name", UNUSED)
def test_options_that_would_be_ignored_are_refused(name: str) -> None:
    with pytest.raises(CompileError, match=f"NPU0004.*{name} must come with"):
        npu.compile(Rows(), (rows(2),), **UNUSED[name])


def test_shapes_of_a_module_are_those_of_its_example_inputs() -> None:
    with pytest.raises(CompileError, match="NPU0105.*its example inputs"):
        npu.load(Rows(), "mobile4k", example_inputs=(rows(2),), shapes={"x": (1, 4)})


def test_sizes_outside_the_bounds_of_a_dim_are_refused() -> None:
    batch = torch.export.Dim("batch", min=2, max=4)
    model = npu.compile(Rows().eval(), (rows(2),), target="mobile4k",
                        dynamic_shapes={"x": {0: batch}})  # fmt: skip
    check(model, Rows(), rows(4))
    for size in (1, 5):
        with pytest.raises(CompileError, match=f"NPU0502.*from 2 to 4; found {size}"):
            model.run({"x": rows(size).numpy()})
    with pytest.raises(CompileError, match="NPU0004.*from 2 to 4, the sizes of the Dim"):
        npu.compile(Rows(), (rows(2),), dynamic_shapes={"x": {0: batch}}, buckets={"batch": [1]})


def test_a_dimension_that_is_stated_as_fixed_is_not_free() -> None:
    free = {"x": {0: torch.export.Dim.AUTO, 1: torch.export.Dim.STATIC}}
    model = npu.compile(Rows(), (rows(2),), target="mobile4k", dynamic_shapes=free)
    assert model.names == ["x.0"]


MISTAKEN: dict[str, tuple[Any, str]] = {
    "a number": ({"x": 0}, "0 for x"),
    "a name": ({"x": "batch"}, "'batch' for x"),
    "a name alone": ("batch", "'batch'"),
    "a number alone": (5, "5"),
    "an axis that is a name": ({"x": {"a": "b"}}, r"dimensions \['a'\] of x"),
    "another size": ({"x": {0: 3}}, "3 for dimension 0 of x, whose size is 2"),
    "a dimension that depends on another": (
        {"x": {0: 2 * torch.export.Dim("b")}},
        r"2\*b, which depends on b",
    ),
    "too many inputs": (({0: "a"}, {0: "b"}), "2 inputs, and there are x"),
}


@pytest.mark.parametrize("kind", MISTAKEN)
def test_mistakes_in_dynamic_shapes_are_named(kind: str) -> None:
    stated, found = MISTAKEN[kind]
    with pytest.raises(CompileError, match=f"NPU0004.*must name dimensions.*found {found}"):
        npu.compile(Rows(), (rows(2),), dynamic_shapes=stated)


def test_example_inputs_must_be_arguments_of_forward() -> None:
    for given in ((rows(2), rows(2)), {"z": rows(2)}):
        with pytest.raises(CompileError, match=r"NPU0004.*arguments of forward\(x"):
            npu.compile(Rows(), given, dynamic_shapes={"x": {0: "batch"}})
    with pytest.raises(CompileError, match="NPU0004.*an example input of size 0"):
        npu.compile(Rows(), (rows(0),), dynamic_shapes={"x": {0: "batch"}})


@pytest.mark.parametrize("buckets", [{"batch": 4}, {"batch": ["a"]}, {"batch": "a"}, [1], 4])
def test_buckets_must_be_lists_of_sizes(buckets: Any) -> None:
    with pytest.raises(CompileError, match="NPU0004.*lists of sizes by name"):
        compiled(Rows(), rows(2), buckets=buckets)


def test_names_to_pad_are_a_list() -> None:
    with pytest.raises(CompileError, match=r'NPU0004.*pad must be a list.*try pad=\["batch"\]'):
        compiled(Rows(), rows(2), buckets={"batch": [4]}, pad="batch")


def test_inputs_in_order_are_those_of_forward() -> None:
    class Difference(nn.Module):
        def forward(self, x: Any, y: Any) -> Any:
            return x - y

    x, y = rows(2), rows(2)
    free = {"y": {0: "batch"}, "x": {0: "batch"}}
    model = npu.compile(Difference(), (x, y), target="mobile4k", dynamic_shapes=free)
    for given in ([x.numpy(), y.numpy()], (x.numpy(), y.numpy())):
        (found,) = model.run(given).outputs.values()
        np.testing.assert_array_equal(found, (x - y).numpy())
    with pytest.raises(CompileError, match="NPU0501.*exactly x, y; found 1 arrays"):
        model.run([x.numpy()])


def test_an_input_with_too_few_dimensions_is_named() -> None:
    free = {"x": {1: "width"}}
    model = npu.compile(
        nn.ReLU(), (rows(2),), target="mobile4k", dynamic_shapes={"input": free["x"]}
    )
    with pytest.raises(CompileError, match=r"NPU0502.*a dimension 1, width; found \[4\]"):
        model.run(np.ones(4, np.float32))


def test_a_size_that_inputs_share_is_bound_once() -> None:
    class Sum(nn.Module):
        def forward(self, x: Any, y: Any) -> Any:
            return x + y

    size = torch.export.Dim("n")
    free = {"x": {0: size}, "y": {0: size}}
    with package.quiet():
        program = torch.export.export(Sum(), (rows(2), rows(2)), dynamic_shapes=free)
    with pytest.raises(CompileError, match=r"NPU0105.*y: the shape must be 3 where.*\[5, 4\]"):
        npu.load(program, "mobile4k", shapes={"x": (3, 4), "y": (5, 4)})
