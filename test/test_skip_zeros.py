"""Arrays that leave out products with weights of zero: time and energy follow, bits do not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from harness import RunTool
from onnx import helper, numpy_helper, save

import npu_dialect as npu
from npu_dialect import cost
from npu_dialect.cost import ArrayWork
from npu_dialect.diagnostics import CompileError
from npu_dialect.target import TargetError, Zeros, load_target, parse_target, target_text
from npu_dialect.zeros import ALL_MADE, made

Array = np.ndarray[Any, Any]
RNG = np.random.default_rng(9)
DEPTH, OUT = 512, 256
SAMPLES = RNG.normal(size=(6, 1, DEPTH, 12, 12)).astype(np.float32)
WEIGHTS = (RNG.normal(size=(OUT, DEPTH, 1, 1)) / 20).astype(np.float32)


def model() -> onnx.ModelProto:
    """A convolution of one tap, whose time is that of the array."""
    graph = helper.make_graph(
        [helper.make_node("Conv", ["x", "w"], ["y"], "conv1")],
        "g",
        [helper.make_tensor_value_info("x", 1, [1, DEPTH, 12, 12])],
        [helper.make_tensor_value_info("y", 1, [1, OUT, 12, 12])],
        [numpy_helper.from_array(WEIGHTS, "w")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def machine(tmp_path: Path, zeros: str) -> str:
    """headset2k with other zeros that it leaves out, or none."""
    lines = target_text("headset2k").splitlines()
    kept = [line for line in lines if not line.startswith("zeros = ")]
    where = kept.index("[array]") + 1
    path = tmp_path / f"machine{len(list(tmp_path.iterdir()))}.toml"  # files are read once
    path.write_text("\n".join([*kept[:where], *([zeros] if zeros else []), *kept[where:]]))
    return str(path)


def compiled(target: str, prune: str = "", scheme: str = "int8") -> npu.Program:
    wanted = npu.Quantization(scheme, prune=prune)
    return npu.compile(model(), target, quantize=wanted, calibrate=list(SAMPLES))


def array_cycles(program: npu.Program) -> int:
    return sum(row.busy.get("mxu", 0) for row in program.profile.layers)


@pytest.mark.parametrize("prune", ["2:4", "magnitude:2:4"])
def test_a_layer_of_pairs_takes_half_of_the_arrays_cycles_and_has_the_same_bits(
    tmp_path: Path, prune: str
):
    plain, skips = compiled(machine(tmp_path, ""), prune), compiled("headset2k", prune)
    assert array_cycles(skips) < 0.55 * array_cycles(plain)
    assert array_cycles(compiled("headset2k")) == array_cycles(compiled(machine(tmp_path, "")))
    found = [npu.simulate(p, {"x": SAMPLES[0]}).outputs["y"] for p in (plain, skips)]
    assert np.array_equal(found[0], found[1])


def test_products_that_are_left_out_take_no_energy_of_the_array(tmp_path: Path):
    joules = [
        compiled(t, "magnitude:2:4").profile.energy.dynamic["array"]
        for t in (machine(tmp_path, ""), "headset2k")
    ]
    assert joules[1] < 0.6 * joules[0]


def test_the_bound_knows_of_it(tmp_path: Path):
    for target in (machine(tmp_path, ""), "headset2k"):
        profile = compiled(target, "magnitude:2:4").profile
        assert profile.lower_bound is not None
        assert profile.lower_bound.cycles <= profile.cycles


def test_the_levels_and_tiers_agree_and_the_program_is_read_again(tmp_path: Path):
    module = npu.load(model(), target="headset2k")
    wanted = npu.Quantization("int8", samples=list(SAMPLES), prune="magnitude:2:4")
    npu.quantize(module, wanted)
    results: list[Array] = []
    for level in ("graph", "tile", "npu"):
        npu.lower(module, until=level)
        results.append(npu.execute(module, {"x": SAMPLES[0]})["y"])
    program = npu.assemble(module)
    program.save(tmp_path / "m.npu")
    again = npu.Program.load(tmp_path / "m.npu")
    for each in (program, again):
        for tier in ("plain", "compiled"):
            results.append(npu.simulate(each, {"x": SAMPLES[0]}, tier=tier).outputs["y"])
    assert all(np.array_equal(each, results[0]) for each in results[1:])
    assert again.profile.cycles == program.profile.cycles


@pytest.mark.parametrize(("speedup", "parts"), [(8.0, 16), (4.0, 16), (2.0, 32), (1.0, None)])
def test_zeros_anywhere_count_by_their_share(tmp_path: Path, speedup: float, parts: int | None):
    """Three of four weights are zero: a quarter of the products, or what the machine can do."""
    target = machine(tmp_path, f'zeros = {{ structure = "any", speedup = {speedup} }}')
    program = compiled(target, "magnitude:0.75")
    fields = [i.fields for i in program.instructions if i.op == "npu.conv2d"]
    assert {each.get("made") for each in fields} == {parts}


def test_the_share_is_that_of_the_weights():
    pairs, anywhere = Zeros("2:4", 2.0), Zeros("any", 4.0)
    weights = np.array([[1, 0], [0, 3], [2, 0], [0, 4]], np.int8)
    assert made(weights, pairs) == ALL_MADE // 2
    assert made(np.roll(weights, 1, 0), pairs) == ALL_MADE // 2
    assert made(weights + np.int8(1), pairs) == ALL_MADE
    assert made(weights[:3], pairs) == ALL_MADE
    assert made(weights, anywhere) == ALL_MADE // 2
    assert made(np.zeros_like(weights), anywhere) == ALL_MADE // 4


@pytest.mark.parametrize("parts", [1, 16, 32, 63])
def test_cycles_and_products_of_an_instruction_are_rounded_up(parts: int):
    target = load_target("headset2k")
    work = ArrayWork("i8", 100, 9, 48, 40, 0, 0, 0)
    some = ArrayWork("i8", 100, 9, 48, 40, 0, 0, 0, made=parts)
    whole = cost.mac_cycles(target, work)[1]
    assert cost.mac_cycles(target, some)[1] == -(-whole * parts // ALL_MADE)
    assert cost.array(target, some).macs == -(-work.macs * parts // ALL_MADE)


def test_depthwise_layers_make_all_products():
    target = load_target("headset2k")
    work = ArrayWork("i8", 100, 9, 1, 40, 0, 0, 0, depthwise=True, made=32)
    assert cost.mac_cycles(target, work)[1] == -(-work.macs // 128)


@pytest.mark.parametrize(
    ("zeros", "found"),
    [
        ('{ structure = "1:4", speedup = 2.0 }', "structure must be 2:4 or any, found 1:4"),
        ('{ structure = "any", speedup = 0.5 }', "speedup must be at least 1, found 0.5"),
    ],
)
def test_a_target_must_say_what_there_is(zeros: str, found: str):
    text = target_text("headset2k").replace('{ structure = "2:4", speedup = 2.0 }', zeros)
    with pytest.raises(TargetError, match=found):
        parse_target(text, "mine")


@pytest.mark.parametrize("prune", ["3:4", "1.5", "nan", "magnitude:", "-0.1"])
def test_what_is_no_way_to_prune_is_refused(prune: str):
    with pytest.raises(CompileError, match="prune must be 2:4 or a share from 0 to below 1"):
        compiled("headset2k", prune)


def test_the_tool_prunes(tmp_path: Path, run_tool: RunTool):
    save(model(), str(tmp_path / "m.onnx"))
    np.savez(tmp_path / "s.npz", x=SAMPLES)
    options = ("--target", "headset2k", "--quantize", "int8", "--calibrate", "s.npz")
    run = run_tool("npu-compile", "m.onnx", *options, "--prune", "2:4", "-o", "m.npu")
    assert run.code == 0, run.err
    assert "quantized to int8, ranges by minmax of 6 samples, pruned 2:4" in run.out
    alone = run_tool("npu-compile", "m.onnx", "--target", "headset2k", "--prune", "2:4")
    assert "--prune must go with --quantize" in alone.err
