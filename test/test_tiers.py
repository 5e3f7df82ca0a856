"""The tiers of the simulator: the same bits, what is chosen where, and what the report says."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from harness import RunTool
from npu_programs import W, X, convolve_and_pool, copy, dense, fill, program, reference_conv

from npu_dialect import api
from npu_dialect.diagnostics import CompileError, collect
from npu_dialect.dtypes import i8
from npu_dialect.npu.arrays import Conv2DOp
from npu_dialect.npu.base import Instruction
from npu_dialect.runtime import report, report_page, tiers
from npu_dialect.runtime.program import Program
from npu_dialect.runtime.simulator import Session, Step, simulate
from npu_dialect.tools import npu_run
from npu_dialect.tools.inputs import random_inputs

HERE = [t for t in tiers.TIERS if tiers.unavailable(t) is None]
"""The tiers that can be used here."""

needs_compiled = pytest.mark.skipif("compiled" not in HERE, reason="llvmlite is not installed")


def expected(x: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    sums = reference_conv(x, W, (8, 8), pads=(1, 1), x_zero=3)
    return sums.reshape(4, 2, 4, 2, 8).sum(axis=(1, 3))


def python(text: str) -> str:
    """What a Python of its own prints."""
    run = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, check=True)
    return run.stdout.strip()


# The same bits


@pytest.mark.parametrize("strict", [False, True])
@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("tier", HERE)
def test_every_tier_gives_the_same_outputs(tier: str, threads: int, strict: bool):
    session = Session(convolve_and_pool(), tier=tier, threads=threads, strict=strict)
    for x in (X, X[::-1], np.zeros_like(X), X):
        assert (session.run(x).outputs["sums"] == expected(x)).all()


MODELS = (
    "winml_mnist",
    "winml_mnist_qdq_u8s8",
    "cifar_resnet20_qdq_s8s8_pc",
    "cifar_resnet20_qop_u8s8",
    "gap_mnist_gru",
    "cct_cifar",
    "stories260k_prefill64",
)


@pytest.mark.slow
@needs_compiled
@pytest.mark.parametrize("name", MODELS)
def test_every_tier_leaves_the_same_memory_behind_a_model(models: Path, name: str):
    made = api.compile(models / f"{name}.onnx", "mobile4k")
    plain, native = Session(made, tier="plain"), Session(made, tier="compiled")
    strict = Session(made, tier="compiled", strict=True, threads=2)
    for seed in range(2):
        inputs = random_inputs(made.inputs, seed)
        for session in (plain, native, strict):
            session.run(inputs)
        want = plain.machine.memories["dram"]
        for session in (native, strict):
            assert session.native > 0
            assert (session.machine.memories["dram"] == want).all(), session.execution


@needs_compiled
def test_constants_that_are_overwritten_are_there_in_the_next_run():
    source = dense("dram", 0, i8, [4])
    ops = [copy(source, dense("dram", 64, i8, [4])), fill("dram", 0, 4, byte=7)]
    made = program(
        ops, outputs={"y": dense("dram", 64, i8, [4])}, constants={0: np.arange(4, dtype=np.int8)}
    )
    for strict in (False, True):
        session = Session(made, tier="compiled", strict=strict)
        assert [session.run({}).outputs["y"].tolist() for _ in range(2)] == [[0, 1, 2, 3]] * 2


@needs_compiled
def test_an_input_that_lies_on_a_constant_is_no_constant():
    x, y = dense("dram", 0, i8, [4]), dense("dram", 64, i8, [4])
    constants = {0: np.arange(4, dtype=np.int8)}
    made = program([copy(x, y)], inputs={"x": x}, outputs={"y": y}, constants=constants)
    session = Session(made, tier="compiled")
    for k in range(3):
        assert session.run(np.full(4, k, np.int8)).outputs["y"].tolist() == [k] * 4


@pytest.mark.parametrize("tier", HERE)
def test_sessions_run_in_several_threads(tier: str):
    made = convolve_and_pool()

    def work(seed: int) -> bool:
        x = np.random.default_rng(seed).integers(-128, 127, X.shape, np.int8)
        session = Session(made, tier=tier)
        return all((session.run(x).outputs["sums"] == expected(x)).all() for _ in range(5))

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(work, range(8)))


# What is chosen


def test_the_command_line_knows_every_tier():
    assert npu_run.TIERS == tiers.TIERS


def test_a_tier_that_is_none_is_refused():
    with pytest.raises(
        CompileError, match=r"NPU0004.: tier: a tier must be one of auto, .*found f"
    ):
        Session(convolve_and_pool(), tier="fast")


def test_threads_are_one_at_least():
    with pytest.raises(
        CompileError, match="NPU0004.: threads: threads must be at least 1; found 0"
    ):
        Session(convolve_and_pool(), threads=0)


@needs_compiled
def test_a_session_takes_the_compiled_tier_by_itself():
    session = Session(convolve_and_pool())
    assert session.tier == session.run(X).execution.tier == "compiled"
    assert session.native + sum(map(len, session.fallbacks.values())) > 0


@needs_compiled
def test_a_single_run_is_compiled_where_the_work_is_worth_it(monkeypatch: pytest.MonkeyPatch):
    made = convolve_and_pool()
    assert 0 < tiers.work(made) < tiers.WORTHWHILE
    assert tiers.work(made) > tiers.INSTRUCTION_WORK * len(list(made.executed))
    assert simulate(made, X).execution.tier == "plain"
    assert simulate(made, X, tier="compiled").execution.tier == "compiled"
    monkeypatch.setattr(tiers, "WORTHWHILE", 3 * tiers.work(made))
    assert [simulate(made, X).execution.tier for _ in range(3)] == ["plain", "compiled", "compiled"]
    assert simulate(made, X, tensors=True).execution.tier == "plain"


NO_LLVMLITE = """
import sys
sys.modules["llvmlite"] = None
sys.path.insert(0, {tests!r})
from npu_programs import convolve_and_pool, X
from npu_dialect.diagnostics import CompileError, collect
from npu_dialect.runtime.simulator import Session
with collect() as records:
    session = Session(convolve_and_pool())
print(session.tier, *records)
try:
    Session(convolve_and_pool(), tier="compiled")
except CompileError as problem:
    print(problem)
"""


def test_without_llvmlite_the_plain_tier_runs_and_a_remark_says_so():
    chosen, refused = python(NO_LLVMLITE.format(tests=str(Path(__file__).parent))).splitlines()
    wanted = "tier compiled: llvmlite must be installed; found"
    assert chosen.startswith(f"plain remark[NPU0007]: {wanted}")
    assert refused.startswith(f"error[NPU0007]: {wanted}")
    assert refused.endswith("; try pip install 'npu-dialect[jit]'")


def test_llvmlite_and_torch_are_imported_by_their_tiers_alone():
    text = """
import sys
from npu_dialect import api
from npu_dialect.runtime import simulator, stream
from npu_dialect.tools import npu_run
try:
    npu_run.main(["--help"])
except SystemExit:
    pass
print({"llvmlite", "torch"} & set(sys.modules))
"""
    assert python(text).splitlines()[-1] == "set()"


@needs_compiled
def test_native_code_that_fails_its_self_test_is_not_used(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(tiers, "_self_test", lambda: "npu.conv2d i8: 3 elements differ")
    with collect() as records:
        assert Session(convolve_and_pool()).tier == "plain"
    assert "remark[NPU0506]: tier compiled: the tier must pass its self-test" in str(records[0])
    with pytest.raises(CompileError, match=r"NPU0506.*found npu.conv2d i8: 3 elements differ"):
        Session(convolve_and_pool(), tier="compiled")


@needs_compiled
def test_a_defect_of_the_translation_costs_speed_and_is_no_secret(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    def broken(*_: object) -> None:
        raise ZeroDivisionError("oh")

    monkeypatch.setattr(tiers, "_translate", broken)
    session = Session(convolve_and_pool())
    assert session.tier == "plain"
    assert "NPU0506" in caplog.text and "found ZeroDivisionError: oh" in caplog.text
    assert (session.run(X).outputs["sums"] == expected(X)).all()
    with pytest.raises(CompileError, match="NPU0506.*must be able to translate"):
        Session(convolve_and_pool(), tier="compiled")


@needs_compiled
def test_a_translation_is_made_once_per_program(monkeypatch: pytest.MonkeyPatch):
    made, calls = convolve_and_pool(), [0]
    translate = tiers._translate  # pyright: ignore[reportPrivateUsage]

    def counted(*arguments: Any) -> Any:
        calls[0] += 1
        return translate(*arguments)

    monkeypatch.setattr(tiers, "_translate", counted)
    for strict in (False, True, False, True):
        assert (Session(made, strict=strict).run(X).outputs["sums"] == expected(X)).all()
    assert calls == [2]


# What runs in the plain tier


def test_a_run_that_is_observed_takes_the_plain_tier():
    session = Session(convolve_and_pool())
    seen: list[Step] = []
    watched = session.run(X, tensors=True, observe=seen.append)
    assert (watched.execution.tier, watched.execution.native) == ("plain", 0)
    assert len(seen) == 5
    conv = reference_conv(X, W, (8, 8), pads=(1, 1), x_zero=3)
    assert (watched.tensors["conv"] == conv).all()
    assert (session.run(X).outputs["sums"] == expected(X)).all()


@pytest.mark.parametrize("tier", HERE)
def test_a_fault_names_the_instruction_in_every_tier(tier: str):
    ops: list[Instruction] = [fill("spm", 0, 4), fill("spm", 1 << 30, 4)]
    session = Session(program(ops, layers=["conv1", "conv2"]), tier=tier)
    assert session.tier in ("plain", "torch")
    with pytest.raises(CompileError, match=r"conv2: instruction 1 \(npu.dma_fill\) must be exec"):
        session.run({})


def test_fields_that_do_not_fit_are_never_native():
    wrong = Conv2DOp(
        input=dense("spm", 0, i8, [8, 8, 4]),
        weights=dense("spm", 512, i8, [3, 3, 5, 8]),
        partial=dense("acc", 0, i8, [8, 8, 8]),
        accumulate=0,
        x_zero=0,
        w_zero=0,
        strides=(1, 1),
        dilations=(1, 1),
        pads=(1, 1),
    )
    assert "[H, W, IC], [KH, KW, IC, OC]" in tiers.mistake(program([wrong]))
    assert tiers.mistake(convolve_and_pool()) == ""


@pytest.fixture
def partly(monkeypatch: pytest.MonkeyPatch) -> Program:
    """A program with convolutions, for which there is no native code."""
    translate = pytest.importorskip("npu_dialect.runtime.compiled.translate")
    emitters = pytest.importorskip("npu_dialect.runtime.compiled.emitters")
    emitters.register()
    monkeypatch.delitem(translate.LOWERINGS, Conv2DOp)
    return convolve_and_pool()


@needs_compiled
def test_what_has_no_native_code_runs_in_between(partly: Program):
    session = Session(partly, tier="compiled")
    run = session.run(X)
    assert (run.outputs["sums"] == expected(X)).all()
    assert session.fallbacks["npu.conv2d"] == {"it has no routine": 1}
    assert run.execution.native < run.execution.instructions == 5


@needs_compiled
def test_the_report_says_what_runs_in_the_plain_tier(partly: Program):
    run = Session(partly, tier="compiled").run(X)
    assert ["npu.conv2d", "it has no routine", "1"] in report.fallbacks(run)
    assert f"the tier compiled, {run.execution.native} of 5" in report.simulated_by(run)
    assert "it has no routine" in report_page.html(run)
    summary = run.summary()["simulation"]
    assert summary["tier"] == "compiled"
    assert summary["fallbacks"]["npu.conv2d"] == {"it has no routine": 1}


@needs_compiled
def test_the_table_says_what_runs_in_the_plain_tier(partly: Program, run_tool: RunTool):
    partly.save("m.npu")
    out = run_tool("npu-run", "m.npu", "--random", 0, "--tier", "compiled").out
    assert "in the plain tier" in out
    assert "it has no routine" in out
    assert "the tier plain" in run_tool("npu-run", "m.npu", "--random", 0, "--tier", "plain").out
