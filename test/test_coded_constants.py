"""Constants that are coded without loss: the same bits at every level, fewer bytes of dram."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_packed_weights import constant_bytes, product, product_in_numpy
from test_wide_sums import check_everywhere
from xdsl.dialects.builtin import ModuleOp, UnitAttr

import npu_dialect as npu
from npu_dialect import dtypes, graph, rice
from npu_dialect.bound import of_metadata
from npu_dialect.cost import dma, dma_decode
from npu_dialect.dtypes import i8, u8
from npu_dialect.machine import Operand
from npu_dialect.npu.copies import DmaDecodeOp
from npu_dialect.npu.verifier import ProgramImage, verify_program
from npu_dialect.target import TargetError, load_target, target_text

Array = npt.NDArray[Any]
CODED = ("ethos_u55_256", "ethos_u65_512")
MODELS = Path(__file__).parents[2] / "shared" / "models"


def bells(shape: tuple[int, ...], spread: float, rng: np.random.Generator) -> Array:
    """Weights as trained ones are."""
    return np.clip(np.rint(rng.normal(0, spread, shape)), -128, 127).astype(np.int8)


def decodings(program: npu.Program) -> list[tuple[int, dtypes.DType]]:
    """(bytes, type of the elements) of each stream that a copy or the array decodes."""
    found: list[tuple[int, dtypes.DType]] = []
    for _, op in program.executed:
        values = op.values()
        if isinstance(op, DmaDecodeOp):
            found.append((values["source"].size, values["destination"].dtype))
        elif "stream" in values:
            found.append((values["stream"], values["weights"].dtype))
    return found


@settings(deadline=None, max_examples=12)
@given(
    depth=st.integers(1, 700),
    channels=st.integers(1, 70),
    rows=st.integers(1, 9),
    spread=st.sampled_from([0.3, 5, 25]),
    target=st.sampled_from(CODED),
    seed=st.integers(0, 1 << 30),
)
def test_products_with_coded_weights_are_exact_at_all_levels(
    depth: int, channels: int, rows: int, spread: float, target: str, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    w = bells((depth, channels), spread, rng)
    zero = int(rng.integers(-5, 6))
    x = rng.integers(-128, 128, (rows, depth)).astype(np.int8)
    y = product_in_numpy(x, zero, w)
    program = check_everywhere(product(w, graph.uniform(dtypes.i8, 0.1, zero), rows), x, y, target)
    if w.size > 2000:
        assert decodings(program)


def coded_product(size: int = 512, spread: float = 10) -> tuple[Array, ModuleOp]:
    """A product with square weights."""
    w = bells((size, size), spread, np.random.default_rng(1))
    return w, product(w, graph.uniform(dtypes.i8, 0.1), 1)


def test_all_streams_take_about_what_the_weights_take_at_once() -> None:
    w, module = coded_product()
    program = npu.compile(module, "ethos_u55_256")
    columns = np.ascontiguousarray(w.T)
    least = rice.size(columns, 512, rice.centres(columns))
    sizes = [size for size, dtype in decodings(program) if dtype == i8]
    assert least < 0.75 * w.size and sizes
    assert least <= sum(sizes) <= least + len(sizes) * 6


def test_the_bound_counts_coded_bytes() -> None:
    """The streams of the weights; input and output lie on the chip."""
    w, module = coded_product()
    bound = of_metadata(npu.compile(module, "ethos_u55_256").metadata)
    columns = np.ascontiguousarray(w.T)
    least = rice.size(columns, 512, rice.centres(columns))
    assert bound is not None and bound.dram_bytes == least


def test_a_layer_bound_by_its_weights_takes_as_much_less_time() -> None:
    """Its weights take 0.69 of their bytes."""
    cycles = [
        npu.simulate(
            npu.compile(coded_product(512, s)[1], "ethos_u55_256"), np.zeros((1, 512), np.int8)
        ).cycles
        for s in (10, 80)
    ]
    assert 0.68 < cycles[0] / cycles[1] < 0.72


def test_weights_without_order_stay_as_they_are() -> None:
    w = np.random.default_rng(3).integers(-128, 128, (256, 256)).astype(np.int8)
    program = npu.compile(product(w, graph.uniform(dtypes.i8, 0.1), 1), "ethos_u55_256")
    assert constant_bytes(program) == w.size
    assert all(dtype != i8 for _, dtype in decodings(program))


def test_a_module_may_have_its_constants_uncoded() -> None:
    w, module = coded_product(64)
    module.attributes["npu.uncoded"] = UnitAttr()
    program = npu.compile(module, "ethos_u55_256")
    assert not decodings(program) and constant_bytes(program) == w.size


def test_a_machine_that_cannot_decode_keeps_its_constants() -> None:
    w, module = coded_product(64)
    program = npu.compile(module, "mobile4k")
    assert not decodings(program) and constant_bytes(program) == w.size


@pytest.mark.parametrize("name", ["mlperf_kws_int8", "mlperf_ic_int8"])
def test_a_model_computes_the_same_bits_in_fewer_bytes(name: str) -> None:
    path = MODELS / f"{name}.tflite"
    if not path.exists():
        pytest.skip("needs the folder of models")
    program = npu.compile(str(path), "ethos_u55_256")
    module = npu.load(str(path), target="ethos_u55_256")
    module.attributes["npu.uncoded"] = UnitAttr()
    plain = npu.compile(module, "ethos_u55_256")
    size, whole = (sum(c.array.nbytes for c in p.constants) for p in (program, plain))
    assert size < 0.95 * whole and program.profile.cycles <= plain.profile.cycles
    rng = np.random.default_rng(0)
    x = {p.name: rng.integers(-128, 128, p.operand.dims).astype(np.int8) for p in program.inputs}
    expected = npu.simulate(plain, x).outputs
    for tier in ("plain", "compiled"):
        found = npu.simulate(program, x, tier=tier).outputs
        for key, value in expected.items():
            np.testing.assert_array_equal(found[key], value)


# --- the instruction ------------------------------------------------------------------------------


def test_the_slowest_of_reading_decoding_and_writing_decides() -> None:
    target = load_target("ethos_u55_256")
    destination = Operand.dense("spm", 0, i8, (4096,))
    for size in (4000, 2000, 640, 100):
        source = Operand.dense("dram", 0, u8, (size,))
        whole = target.dma.startup + max(-(-size // 32) * 32, 4096 // 8)
        assert dma_decode(target, source, destination).cycles == whole
    slow = replace(target, dma=replace(target.dma, decoded_bytes=2))
    source = Operand.dense("dram", 0, u8, (100,))
    cost = dma_decode(slow, source, destination)
    assert cost.cycles == target.dma.startup + 2048 and cost.bound == "decoder"
    assert cost.reads == {"dram": 100} == dma(target, source, destination).reads


def test_a_stream_of_another_length_is_refused() -> None:
    array = bells((640,), 9, np.random.default_rng(1))
    stream = rice.encode(array, 64, rice.centres(array))
    data = np.concatenate([stream, np.zeros(9, np.uint8)])
    target = load_target("ethos_u55_256")

    def findings(size: int, elements: int, row: int = 64) -> str:
        op = DmaDecodeOp(
            source=Operand.dense("dram", 0, u8, (size,)),
            destination=Operand.dense("spm", 0, i8, (elements,)),
            row=row,
        )
        constants = [(0, data.size)]
        image = ProgramImage([op], (), [], [], constants, 4096, contents={0: data.data})
        return "\n".join(map(str, verify_program(image, target)))

    assert not findings(stream.size, 640)
    assert f"must read the {stream.size} bytes" in findings(stream.size + 1, 640)
    assert "bytes of the elements that it decodes" in findings(stream.size, 576)
    assert "must decode bytes of one constant" in findings(data.size + 1, 640)
    found = verify_program(
        ProgramImage(
            [DmaDecodeOp(source=Operand.dense("dram", 0, u8, (9,)),
                         destination=Operand.dense("spm", 0, i8, (9,)), row=9)],
            (), [], [], [(0, 64)], 64,
        ),
        load_target("edge256"),
    )  # fmt: skip
    assert "must decode what the dma engine can" in str(found[0])


def test_a_target_that_decodes_says_how_fast(tmp_path: Path) -> None:
    path = tmp_path / "slow.toml"
    path.write_text(target_text("ethos_u55_256").replace("decoded_bytes = 8", ""))
    with pytest.raises(TargetError, match="decoded_bytes must be given with rice"):
        load_target(path)
