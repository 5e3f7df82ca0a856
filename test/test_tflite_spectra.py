"""RFFT2D and parts of complex numbers: near to TFLite's reference kernels."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("tflite")
pytest.importorskip("ai_edge_litert")

from tflite_checks import compare, seeds
from tflite_graphs import Graph, Models

import npu_dialect as npu
from npu_dialect.diagnostics import CompileError
from npu_dialect.frontends import tflite

F32, COMPLEX = "float32", "complex64"
RTOL = 2e-5


def spectrum(main: Graph, x: int, sizes: tuple[int, int]) -> int:
    made = main.tensor((2, sizes[0], sizes[1] // 2 + 1), COMPLEX)
    return main.op("RFFT2D", [x, main.constant(sizes)], [made], "Rfft2dOptions")


PARTS = {"REAL": "", "IMAG": "", "COMPLEX_ABS": "", "CAST": "CastOptions"}


@pytest.mark.parametrize("code", PARTS)
@given(seeds, st.sampled_from([(1, 16), (4, 8), (8, 2)]), st.sampled_from([(3, 5), (9, 20)]))
@settings(max_examples=3)
def test_parts_of_spectra(
    code: str, seed: int, sizes: tuple[int, int], image: tuple[int, int]
) -> None:
    m = Models()
    main = m.graph("main")
    y = spectrum(main, main.input((2, *image), F32), sizes)
    out = main.output((2, sizes[0], sizes[1] // 2 + 1), F32)
    main.op(code, [y], [out], PARTS[code])
    x = np.random.default_rng(seed).normal(size=(2, *image)).astype(np.float32)
    compare(m.bytes(), [x], target="mobile4k", rtol=RTOL)


def test_a_spectrum_may_have_another_shape() -> None:
    m = Models()
    main = m.graph("main")
    y = spectrum(main, main.input((2, 1, 8), F32), (1, 8))
    rows = main.tensor((2, 5), COMPLEX)
    y = main.op("SQUEEZE", [y], [rows], "SqueezeOptions", squeezeDims=[-2])
    y = main.op("RESHAPE", [y, main.constant([10])], [main.tensor((10,), COMPLEX)])
    main.op("REAL", [y], [main.output((10,), F32)])
    x = np.random.default_rng(0).normal(size=(2, 1, 8)).astype(np.float32)
    found = npu.execute(npu.load(tflite.load(m.bytes()), target="mobile4k"), [x])
    expected = np.fft.rfft2(x.astype(np.float64)).real.reshape(-1)
    np.testing.assert_allclose(next(iter(found.values())), expected, rtol=1e-5, atol=1e-5)


def test_other_operators_of_complex_numbers_are_refused() -> None:
    m = Models()
    main = m.graph("main")
    y = spectrum(main, main.input((2, 1, 8), F32), (1, 8))
    z = main.op("MUL", [y, y], [main.tensor((2, 1, 5), COMPLEX)], "MulOptions")
    main.op("REAL", [z], [main.output((2, 1, 5), F32)])
    with pytest.raises(CompileError, match="MUL must be expressible in graph; found complex num"):
        tflite.load(m.bytes())


def test_outputs_of_complex_numbers_are_refused() -> None:
    m = Models()
    main = m.graph("main")
    main.returns(spectrum(main, main.input((2, 1, 8), F32), (1, 8)))
    with pytest.raises(CompileError, match="inputs and outputs must be real numbers"):
        tflite.load(m.bytes())
