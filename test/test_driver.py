"""The driver: pipelines, verification after every pass, printing, reproducers."""

import io
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from harness import RunTool
from xdsl.context import Context
from xdsl.dialects.builtin import ModuleOp, UnknownLoc
from xdsl.ir import Operation
from xdsl.passes import ModulePass
from xdsl.rewriter import Rewriter

from npu_dialect import pipeline, text, universe
from npu_dialect.diagnostics import CompileError
from npu_dialect.graph import ConstantOp, NegOp, ReluOp
from npu_dialect.pipeline import Options
from npu_dialect.provenance import name_location

QUIET = Options(reproducer=None)

RELU = """
func.func @main(%x: tensor<4xf32>) -> tensor<4xf32> {
  %0 = graph.relu %x : (tensor<4xf32>) -> tensor<4xf32> loc("relu1")
  func.return %0 : tensor<4xf32>
}
"""


def first(module: ModuleOp, name: str) -> Operation:
    return next(op for op in module.walk() if op.name == name)


Body = Callable[[ModuleOp], None]


@pytest.fixture
def register(monkeypatch: pytest.MonkeyPatch) -> Callable[[str, Body], None]:
    """Make a function a pass of that name."""
    known = universe.pass_class

    def register(pass_name: str, body: Body) -> None:
        @dataclass(frozen=True)
        class TestPass(ModulePass):
            name = pass_name

            def apply(self, ctx: Context, op: ModuleOp) -> None:
                body(op)

        passes[pass_name] = TestPass

    passes: dict[str, type[ModulePass]] = {}
    monkeypatch.setattr(universe, "pass_class", lambda name: passes.get(name) or known(name))
    return register


def add_constant(module: ModuleOp) -> None:
    relu = first(module, "graph.relu")
    constant = ConstantOp(np.ones(100, np.float32), location=name_location("weights"))
    assert relu.parent
    relu.parent.insert_op_before(constant, relu)


def divide_by_zero(module: ModuleOp) -> None:
    _ = 1 // 0


# Pipelines


def test_a_pipeline_string_is_parsed_and_spelled_back():
    assert pipeline.spell(pipeline.parse("cse,verify-ssa-order")) == "cse,verify-ssa-order"


def test_an_unknown_pass_is_refused_with_the_nearest_names():
    with pytest.raises(CompileError, match=r"NPU0005.*found 'verify-ssa-ordre'; try verify-ssa-or"):
        pipeline.parse("verify-ssa-ordre")


def test_a_malformed_pipeline_is_refused():
    with pytest.raises(CompileError, match="NPU0006.*must be a pipeline such as"):
        pipeline.parse("cse{")


def test_an_unknown_option_of_a_pass_is_refused():
    rule = r"NPU0006.*cse: must be given options that it has \(.*found speed$"
    with pytest.raises(CompileError, match=rule):
        pipeline.parse("cse{speed=3}")


def test_passes_run_in_order_and_are_timed(register: Callable[[str, Body], None]):
    seen: list[str] = []
    register("test-a", lambda module: seen.append("a"))
    register("test-b", lambda module: seen.append("b"))
    runs = pipeline.run(text.parse(RELU), "test-a,test-b", options=QUIET)
    assert seen == ["a", "b"]
    assert [run.spec for run in runs] == ["test-a", "test-b"]
    assert all(run.seconds >= 0 and run.operations == 4 for run in runs)


def test_the_ir_is_printed_where_asked(register: Callable[[str, Body], None]):
    register("test-a", lambda module: None)
    stream = io.StringIO()
    options = Options(print_after=("test-a",), print_before=("test-a",), print_to=stream)
    pipeline.run(text.parse(RELU), "test-a", options=options)
    assert re.findall("// -----.*", stream.getvalue()) == [
        "// ----- IR before test-a -----",
        "// ----- IR after test-a -----",
    ]


# Verification


def forget_source(module: ModuleOp) -> None:
    first(module, "graph.relu").location = UnknownLoc()


def use_before_definition(module: ModuleOp) -> None:
    relu = first(module, "graph.relu")
    negation = NegOp(relu.results[0], location=relu.location)
    assert relu.parent
    relu.parent.insert_op_before(negation, relu)
    Rewriter.replace_op(relu, ReluOp(negation.results[0], location=relu.location), [])


def break_types(module: ModuleOp) -> None:
    first(module, "func.return").operands = []


@pytest.mark.parametrize(
    ("body", "complaint"),
    [
        (forget_source, "NPU0204.*every operation must know its source"),
        (break_types, "NPU0202.*func.return must satisfy the rules of its dialect"),
    ],
)
def test_a_pass_that_leaves_invalid_ir_is_named(
    register: Callable[[str, Body], None], body: Body, complaint: str
):
    register("test-bad", body)
    blame = "NPU0901.*test-bad: the pass must not fail"
    with pytest.raises(CompileError, match=f"{blame}.*{complaint}"):
        pipeline.run(text.parse(RELU), "test-bad", options=QUIET)


def test_a_definition_after_its_use_is_found(register: Callable[[str, Body], None]):
    def swap(module: ModuleOp) -> None:
        relu, user = first(module, "graph.relu"), first(module, "graph.neg")
        relu.detach()
        assert user.parent
        user.parent.insert_op_after(relu, user)

    negation = '%1 = graph.neg %0 : (tensor<4xf32>) -> tensor<4xf32> loc("neg1")'
    module = text.parse(RELU.replace("func.return %0", f"{negation}\nfunc.return %1"))
    register("test-swap", swap)
    with pytest.raises(CompileError, match="test-swap.*NPU0203.*neg1: the operands of graph.neg"):
        pipeline.run(module, "test-swap", options=QUIET)


def test_invalid_input_is_not_blamed_on_a_pass():
    module = text.parse(RELU)
    forget_source(module)
    with pytest.raises(CompileError, match="^error.NPU0204"):
        pipeline.run(module, "cse", options=QUIET)


def test_verification_can_be_switched_off(register: Callable[[str, Body], None]):
    register("test-bad", forget_source)
    pipeline.run(text.parse(RELU), "test-bad", options=Options(verify_each=False, reproducer=None))


def test_an_error_that_a_pass_foresaw_is_passed_on(register: Callable[[str, Body], None]):
    from npu_dialect.diagnostics import Code, error

    def refuse(module: ModuleOp) -> None:
        raise error(Code.CAPACITY, "must fit", source="conv1")

    register("test-refuse", refuse)
    with pytest.raises(CompileError, match="^error.NPU0304.: conv1: must fit$"):
        pipeline.run(text.parse(RELU), "test-refuse", options=QUIET)


# Reproducers


def test_a_crash_leaves_a_reproducer_that_can_be_run(
    register: Callable[[str, Body], None], tmp_path: Path, run_tool: RunTool
):
    register("test-add", add_constant)
    register("test-crash", divide_by_zero)
    folder = tmp_path / "repro"
    with pytest.raises(CompileError) as caught:
        pipeline.run(
            text.parse(RELU), "test-add,test-crash,cse", options=Options(reproducer=folder)
        )
    command = f"npu-opt {folder}/repro.mlir -p 'test-crash,cse'"
    assert f"found ZeroDivisionError: integer division or modulo by zero; try {command}" in str(
        caught.value
    )
    assert sorted(p.name for p in folder.iterdir()) == [
        "repro.blobs.npz",
        "repro.mlir",
        "traceback.txt",
    ]
    assert command in (folder / "repro.mlir").read_text().splitlines()[0]
    assert "divide_by_zero" in (folder / "traceback.txt").read_text()

    replay = run_tool("npu-opt", folder / "repro.mlir", "-p", "test-crash,cse")
    assert replay.code == 1
    assert "test-crash: the pass must not fail" in replay.err


def test_the_reproducer_starts_just_before_the_pass_that_failed(
    register: Callable[[str, Body], None], tmp_path: Path
):
    register("test-add", add_constant)
    register("test-crash", divide_by_zero)
    with pytest.raises(CompileError):
        pipeline.run(text.parse(RELU), "test-add,test-crash", options=Options(reproducer=tmp_path))
    assert "graph.constant" in text.to_text(text.read(tmp_path / "repro.mlir"))


def test_a_reproducer_that_cannot_be_written_does_not_hide_the_failure(
    register: Callable[[str, Body], None],
):
    register("test-crash", divide_by_zero)
    with pytest.raises(CompileError, match="ZeroDivisionError.*not written"):
        pipeline.run(
            text.parse(RELU), "test-crash", options=Options(reproducer=Path("/dev/null/x"))
        )


# Text


def test_an_operation_without_a_location_gets_its_line():
    module = text.parse(RELU.replace(' loc("relu1")', ""), "net.mlir")
    assert str(first(module, "graph.relu").location) == 'loc("net.mlir":3:3)'


def test_a_file_keeps_large_constants_and_sources(tmp_path: Path):
    module = text.parse(RELU)
    add_constant(module)
    text.write(tmp_path / "net.mlir", module)
    again = text.read(tmp_path / "net.mlir")
    assert again.is_structurally_equivalent(module)
    assert text.to_text(again, locations=True) == text.to_text(module, locations=True)


def test_a_lost_side_file_is_one_line(tmp_path: Path):
    module = text.parse(RELU)
    add_constant(module)
    text.write(tmp_path / "net.mlir", module)
    text.side_file(tmp_path / "net.mlir").unlink()
    with pytest.raises(CompileError, match="NPU0205"):
        text.read(tmp_path / "net.mlir")
