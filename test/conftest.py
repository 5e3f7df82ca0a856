"""The fixtures that the tests share."""

from __future__ import annotations

import gc
import os
from pathlib import Path

import pytest
from harness import ROOT, RunTool, ToolRun, run_in_process
from hypothesis import settings

from npu_dialect.collector import RARELY

# What modules and parameters hold lives as long as the suite: looking through it takes a third.
gc.set_threshold(*RARELY)

# The suite's verdict depends on the commit alone; NPU_EXPLORE=1 draws other examples each time.
settings.register_profile("same", derandomize=True, deadline=None)
settings.register_profile("explore", print_blob=True, deadline=None)
settings.load_profile("explore" if os.environ.get("NPU_EXPLORE") else "same")


# Tests compile: that a program was compiled before proves nothing.
os.environ.setdefault("NPU_NO_CACHE", "programs")


@pytest.fixture
def run_tool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunTool:
    """`run_tool("npu-opt", "in.mlir", "-p", "cse", stdin="")`, in an empty folder."""
    monkeypatch.chdir(tmp_path)

    def run(tool: str, *arguments: object, stdin: str = "") -> ToolRun:
        return run_in_process(tool, [str(a) for a in arguments], stdin)

    return run


@pytest.fixture
def mapping_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder where searches of mappings are kept, and none in memory."""
    from npu_dialect import cache
    from npu_dialect.passes.mapping import contraction

    folder = tmp_path / "cache"
    folder.mkdir()
    monkeypatch.setenv(cache.FOLDER_VARIABLE, str(folder))
    contraction.fronts.cache_clear()
    contraction.search.cache_clear()
    return folder


@pytest.fixture(scope="session")
def root() -> Path:
    """The folder of the project."""
    return ROOT


@pytest.fixture(scope="session")
def models() -> Path:
    """The folder of reference models, beside the project or where NPU_MODELS says."""
    folder = Path(os.environ.get("NPU_MODELS", ROOT.parent / "shared" / "models"))
    if not folder.is_dir():
        pytest.skip(f"the reference models are not in {folder}; set NPU_MODELS")
    return folder
