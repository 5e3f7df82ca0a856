"""A program that was compiled before is what compiling would give; its name says what it depends
on.
"""

import os
from pathlib import Path

import numpy as np
import pytest
from xdsl.dialects.builtin import ModuleOp, StringAttr

from npu_dialect import api, cache, graph, program_cache, text
from npu_dialect.diagnostics import collect
from npu_dialect.pipeline import Options
from npu_dialect.target import target_text

MODEL = """
func.func @main(%x: tensor<1x8x8x4xf32>) -> tensor<1x8x8x4xf32>
    attributes {npu.input_names = ["x"], npu.output_names = ["y"]} {
  %0 = graph.constant {value = #graph.blob<f32, [4], [1.0, 2.0, 3.0, 4.0]>} : () -> tensor<4xf32>
  %1 = graph.mul %x, %0 : (tensor<1x8x8x4xf32>, tensor<4xf32>) -> tensor<1x8x8x4xf32>
  %2 = graph.relu %1 : (tensor<1x8x8x4xf32>) -> tensor<1x8x8x4xf32>
  func.return %2 : tensor<1x8x8x4xf32>
}
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache that is on."""
    monkeypatch.setenv(cache.FOLDER_VARIABLE, str(tmp_path / "cache"))
    monkeypatch.delenv(cache.OFF_VARIABLE, raising=False)
    return tmp_path / "cache" / program_cache.FOLDER


def module(content: str = MODEL, target: str = "mobile4k") -> ModuleOp:
    found = text.parse(content)
    api.set_target(found, target)
    return found


def refuse(*_: object, **__: object) -> None:
    raise AssertionError("compiled again")


def test_a_program_is_found_with_the_same_bytes(monkeypatch: pytest.MonkeyPatch):
    fresh = api.build(module())
    monkeypatch.setattr(api, "lower", refuse)
    assert api.build(module()).to_bytes() == fresh.to_bytes()


def test_a_program_that_is_found_computes_what_the_model_does():
    x = np.linspace(-1, 1, 256, dtype=np.float32).reshape(1, 8, 8, 4)
    api.build(module())
    found = api.simulate(api.build(module()), {"x": x}).outputs
    expected = np.maximum(x * np.array([1, 2, 3, 4], np.float32), 0)
    np.testing.assert_array_equal(next(iter(found.values())), expected)


def test_what_is_reported_while_compiling_is_reported_again():
    on_host = module(target="edge256")  # floats
    with collect() as first:
        api.build(on_host)
    with collect() as second:
        api.build(module(target="edge256"))
    assert first and second == first


def test_compile_keeps_and_finds_programs(tmp_path: Path, folder: Path):
    path = tmp_path / "model.mlir"
    path.write_text(MODEL)
    fresh = api.compile(path, "mobile4k").to_bytes()
    assert len(list(folder.iterdir())) == 1
    assert api.compile(path, "mobile4k").to_bytes() == fresh


@pytest.mark.parametrize("off", ["programs", "1", "mappings, programs"])
def test_nothing_is_kept_where_that_is_switched_off(
    off: str, folder: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv(cache.OFF_VARIABLE, off)
    api.build(module())
    assert not folder.exists()


def test_ir_is_printed_although_the_program_is_known(capsys: pytest.CaptureFixture[str]):
    api.build(module())
    api.build(module(), options=Options(print_after=("npu-sync",)))
    assert "IR after npu-sync" in capsys.readouterr().err


def test_a_damaged_file_is_compiled_again(folder: Path):
    fresh = api.build(module()).to_bytes()
    (kept,) = folder.iterdir()
    kept.write_bytes(kept.read_bytes()[:-1])
    assert api.build(module()).to_bytes() == fresh


def test_few_programs_are_kept(folder: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(program_cache, "MOST", 1)
    api.build(module())
    api.build(module(target="edge256"))
    assert len(list(folder.iterdir())) == 1


def known() -> str:
    found = program_cache.name(module())
    assert found is not None
    return found


def test_the_name_of_a_program_is_the_same_for_the_same_module():
    assert program_cache.name(module()) == known()


@pytest.mark.parametrize(
    ("what", "old", "new"),
    [
        ("a constant", "[1.0, 2.0", "[1.5, 2.0"),
        ("an operation", "graph.relu", "graph.neg"),
        ("a shape", "1x8x8x4", "1x8x4x4"),
        ("a source", "  %2 = ", "\n  %2 = "),
    ],
)
def test_the_name_of_a_program_differs_with(what: str, old: str, new: str):
    assert program_cache.name(module(MODEL.replace(old, new))) != known()


def test_the_name_of_a_program_differs_with_the_target():
    assert program_cache.name(module(target="edge256")) != known()


def test_the_name_of_a_program_differs_with_the_content_of_the_target(
    monkeypatch: pytest.MonkeyPatch,
):
    before = known()
    monkeypatch.setattr(program_cache, "target_text", lambda name: target_text(name) + "# new")
    assert known() != before


def test_the_name_of_a_program_differs_with_the_objective():
    other = module()
    other.attributes["npu.objective"] = StringAttr("energy")
    assert program_cache.name(other) != known()


def test_the_name_of_a_program_differs_with_the_code(monkeypatch: pytest.MonkeyPatch):
    before = known()
    monkeypatch.setattr(program_cache, "_code", lambda: "other")
    assert known() != before


@pytest.mark.parametrize(("text", "seconds"), [("x = 12", 1), ("x = 2", 2)])
def test_code_differs_with_the_size_and_the_time_of_a_file(
    text: str, seconds: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(program_cache, "__file__", str(tmp_path / "program_cache.py"))
    code = program_cache._code.__wrapped__
    place = tmp_path / "passes" / "a.py"
    place.parent.mkdir()
    place.write_text("x = 1")
    os.utime(place, (1, 1))
    before = code()
    assert code() == before
    place.write_text(text)
    os.utime(place, (seconds, seconds))
    assert code() != before


def test_the_name_of_a_program_differs_with_a_large_constant():
    assert program_cache.name(with_constant(1)) != program_cache.name(with_constant(2))


def with_constant(value: float) -> ModuleOp:
    """The module with a constant that is not printed in full."""
    found = module()
    constant = next(op for op in found.walk() if isinstance(op, graph.ConstantOp))
    block = constant.parent
    assert block is not None
    wide = graph.ConstantOp(np.full(4096, value, np.float32), location=constant.location)
    block.insert_op_before(wide, constant)
    return found
