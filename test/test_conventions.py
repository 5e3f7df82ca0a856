"""The conventions of the project, checked rather than reviewed."""

from __future__ import annotations

import ast
import re
from importlib import import_module
from pathlib import Path
from types import ModuleType

import pytest
from harness import ROOT
from xdsl.ir import Dialect, Operation
from xdsl.passes import ModulePass
from xdsl.universe import Universe

from npu_dialect import pipeline, universe
from npu_dialect.universe import DIALECTS, LEVELS, PASSES, PIPELINES, NpuContext


def load_dialect(name: str) -> Dialect:
    dialect = NpuContext().get_optional_dialect(name)
    assert dialect is not None
    return dialect


def operations() -> list[type[Operation]]:
    return [op for name in DIALECTS for op in load_dialect(name).operations]


# A pass: one name, five places


@pytest.mark.parametrize("name", PASSES)
def test_a_pass_has_one_name(name: str):
    cls = universe.pass_class(name)
    assert issubclass(cls, ModulePass)
    assert cls.name == name
    assert (ROOT / "passes" / f"{name.replace('-', '_')}.py").exists()


@pytest.mark.parametrize("name", PASSES)
def test_a_pass_has_a_lit_test_that_runs_it(name: str):
    path = ROOT / "test" / "passes" / f"{name}.mlir"
    assert path.exists()
    runs = re.findall("RUN:(.*)", path.read_text())
    assert any(re.search(rf"-p\s+\S*{name}", line) for line in runs)


@pytest.mark.parametrize("name", PASSES)
def test_a_pass_file_opens_with_an_explanation(name: str):
    module = import_module(universe.pass_path(name).partition(":")[0])
    doc = module.__doc__ or ""
    assert doc.startswith(f"{name}:"), "the file must open with 'name: what it does'"
    assert "    " in doc, "the file must show the IR before and after"


def test_every_pass_is_registered():
    found = {name for path in (ROOT / "passes").rglob("*.py") for name in pass_names(path)}
    assert found == set(PASSES)


def pass_names(path: Path) -> list[str]:
    """The `name = "..."` of the ModulePass classes in a file."""
    classes = [n for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.ClassDef)]
    passes = [c for c in classes if any(ast.unparse(b) == "ModulePass" for b in c.bases)]
    assigned = [n for c in passes for n in c.body if isinstance(n, ast.Assign)]
    return [
        str(ast.literal_eval(n.value)) for n in assigned if ast.unparse(n.targets[0]) == "name"
    ]


# Pipelines


def test_there_is_a_pipeline_for_each_level():
    assert tuple(PIPELINES) == LEVELS


@pytest.mark.parametrize("level", LEVELS)
def test_a_pipeline_names_passes_that_exist_and_why(level: str):
    pipeline.parse(universe.pipeline(level))
    assert all(step.reason for step in PIPELINES[level])


# Dialects


@pytest.mark.parametrize("name", DIALECTS)
def test_a_dialect_has_the_name_that_it_is_registered_under(name: str):
    assert load_dialect(name).name == name


@pytest.mark.parametrize("op", operations(), ids=lambda op: op.name)
def test_an_operation_has_a_docstring_of_its_own(op: type[Operation]):
    doc = vars(op).get("__doc__") or ""
    assert doc.strip(), "an operation's docstring is its page in the manual"
    assert not doc.startswith(f"{op.__name__}("), "a dataclass's signature is no docstring"


def test_stock_xdsl_tools_can_load_the_registry():
    ours = universe.XDSL_UNIVERSE
    assert isinstance(ours, Universe)
    assert set(ours.all_dialects) == set(DIALECTS)
    assert set(ours.all_passes) == set(PASSES)


def test_names_do_not_clash_with_those_of_xdsl():
    from xdsl.universe import XDSL_UNIVERSE

    assert not set(DIALECTS) & set(XDSL_UNIVERSE.all_dialects)
    assert not set(PASSES) & set(XDSL_UNIVERSE.all_passes)


# Modules


def modules() -> list[str]:
    """Every module of the package, by its import name."""
    files = [
        *(ROOT / "npu_dialect").rglob("*.py"),
        *(p for n in ("passes", "frontends", "runtime", "tools") for p in (ROOT / n).rglob("*.py")),
    ]
    names = {p.relative_to(ROOT).with_suffix("").as_posix().replace("/", ".") for p in files}
    prefixed = {n if n.startswith("npu_dialect") else f"npu_dialect.{n}" for n in names}
    return sorted(n.removesuffix(".__init__") for n in prefixed)


@pytest.mark.parametrize("name", modules())
def test_a_module_can_be_imported_and_says_what_it_is(name: str):
    module = import_module(name)
    assert isinstance(module, ModuleType)
    assert (module.__doc__ or "").strip()


def test_public_names_are_those_that_are_promised():
    import npu_dialect

    promised = {"load", "lower", "assemble", "compile", "simulate", "Program", "CompileError"}
    assert promised <= set(npu_dialect.__all__)
    for name in npu_dialect.__all__:
        assert getattr(npu_dialect, name) is not None
