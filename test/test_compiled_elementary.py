"""Transcendental functions in native code: the bits of `numerics`, on every kind of host."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("llvmlite")

from npu_dialect import numerics
from npu_dialect.numerics import transcendental
from npu_dialect.runtime.compiled import elementary
from npu_dialect.runtime.compiled.builder import F32, I64, POINTER, Function, Value, vector
from npu_dialect.runtime.compiled.host import KINDS, Host, detect
from npu_dialect.runtime.compiled.library import CACHE_VARIABLE, emitter, library

HOSTS = ("native", *(name for name in KINDS if name != detect().name))
"""A kind that this machine lacks computes the same, with other vectors."""
IMMEDIATES = {"elu": (0.7,), "hard_sigmoid": (0.2, 0.5)}
UNARY = (
    *("cos", "elu", "erf", "exp", "gelu", "hard_sigmoid", "hard_swish", "log", "sigmoid"),
    *("silu", "sin", "softplus", "tanh"),
)


ARGUMENTS = {"out": POINTER, "a": POINTER, "b": POINTER, "immediates": POINTER, "vectors": I64}


@emitter("test_elementary")
def emit_test(
    module: Any, symbol: str, host: Host, name: str, count: int, immediates: int, lanes: int
) -> None:
    """void(ptr out, ptr a, ptr b, ptr immediates, i64 vectors)."""
    f = Function(module, symbol, ARGUMENTS)
    splats = [f.splat(f.load(F32, f["immediates"], 4 * i), lanes) for i in range(immediates)]

    def body(index: Value, _: list[Value]) -> None:
        offset = f.mul(index, 4 * lanes)
        operands = [f.load(vector(F32, lanes), f[x], offset) for x in ("a", "b")[:count]]
        f.store(elementary.emit(f, name, *operands, immediates=splats), f["out"], offset)

    f.loop(0, f["vectors"], body)
    f.done()


SIGNATURE = ctypes.CFUNCTYPE(None, *[ctypes.c_void_p] * 4, ctypes.c_int64)


@pytest.fixture(scope="module", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The routines of this file are not kept: their emitter is not a part of their names."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(CACHE_VARIABLE, str(tmp_path_factory.mktemp("routines")))
        yield


def native(
    name: str,
    *operands: np.ndarray,
    immediates: Sequence[float] = (),
    host: str = "native",
    lanes: int | None = None,
) -> np.ndarray:
    """The function of vectors of float32, computed in native code."""
    kind = detect(host)
    lanes = lanes or kind.lanes
    vectors = -(-operands[0].size // lanes)
    padded = [np.resize(x, vectors * lanes) for x in operands]
    numbers, out = np.array(immediates, np.float32), np.empty_like(padded[0])
    spec = ("test_elementary", name, len(operands), len(immediates), lanes)
    routines = library(kind)
    routines.load([spec])
    arrays = (out, padded[0], padded[-1], numbers)
    SIGNATURE(routines.addresses[spec])(*(x.ctypes.data for x in arrays), vectors)
    return out[: operands[0].size]


def plain(name: str, *operands: np.ndarray, immediates: Sequence[float] = ()) -> np.ndarray:
    function = numerics.power if name == "pow" else getattr(numerics, name)
    return function(*operands, *immediates)


def check_bits(got: np.ndarray, expected: np.ndarray, *operands: np.ndarray) -> None:
    """Equal bits, but for those of NaN."""
    wrong = got.view(np.uint32) != expected.view(np.uint32)
    wrong &= ~(np.isnan(got) & np.isnan(expected))
    first = np.flatnonzero(wrong)[:4]
    report = [(*(float(x[i]).hex() for x in operands), got[i], expected[i]) for i in first]
    assert not wrong.any(), f"{wrong.sum()} differ, such as {report}"


def patterns() -> np.ndarray:
    """Every sign, exponent and start of a mantissa, with some ends of it; numbers of all sizes."""
    high = np.arange(2**16, dtype=np.uint32) << 16
    lows = (0, 1, 0x5A5A, 0xFFFF)
    rng = np.random.default_rng(0)
    ranges = [rng.uniform(-r, r, 50_000).astype(np.float32) for r in (1, 6, 20, 110, 2e6)]
    return np.concatenate([*((high | low).view(np.float32) for low in lows), *ranges])


PATTERNS = patterns()
SPECIAL = np.array(
    [0, 1, 2, 3, 0.5, 1.5, np.inf, np.nan, 1e38, 1e-38, 1e-45, 2**23 + 1, 2**24 + 2, 1 + 2**-23],
    np.float32,
)
SPECIAL = np.concatenate([SPECIAL, -SPECIAL])


@pytest.mark.parametrize("host", HOSTS)
@pytest.mark.parametrize("name", UNARY)
def test_every_kind_of_argument_gives_the_bits_of_numerics(name: str, host: str) -> None:
    immediates = IMMEDIATES.get(name, ())
    got = native(name, PATTERNS, immediates=immediates, host=host)
    check_bits(got, plain(name, PATTERNS, immediates=immediates), PATTERNS)


@pytest.mark.parametrize("host", HOSTS)
def test_power_gives_the_bits_of_numerics(host: str) -> None:
    rng = np.random.default_rng(1)
    y = rng.uniform(-30, 30, PATTERNS.size).astype(np.float32)
    y[::3] = np.rint(y[::3])
    y[1::7] = rng.choice(SPECIAL, y[1::7].size)
    some = rng.choice(SPECIAL, PATTERNS.size)
    grid = [x.reshape(-1) for x in np.meshgrid(SPECIAL, SPECIAL)]
    for x, exponent in ((PATTERNS, y), (some, PATTERNS), (PATTERNS, PATTERNS[::-1].copy()), grid):
        check_bits(native("pow", x, exponent, host=host), plain("pow", x, exponent), x, exponent)


@pytest.mark.parametrize("name", IMMEDIATES)
def test_immediates_are_numbers_of_the_run(name: str) -> None:
    for numbers in ((0.0, 0.0), (-1.5, 2.0), (np.inf, 1.0), (np.nan, -0.0), (1e-45, -np.inf)):
        immediates = numbers[: len(IMMEDIATES[name])]
        got = native(name, SPECIAL, immediates=immediates)
        check_bits(got, plain(name, SPECIAL, immediates=immediates), SPECIAL)


@pytest.mark.parametrize("lanes", [1, 3, 4, 32])
@pytest.mark.parametrize("name", ["sin", "log"])
def test_vectors_may_have_any_number_of_lanes(name: str, lanes: int) -> None:
    x = PATTERNS[: 2**16 : 7]
    check_bits(native(name, x, lanes=lanes), plain(name, x), x)


ANY_FLOAT = st.integers(0, 2**32 - 1).map(lambda bits: np.uint32(bits).view(np.float32))


@settings(deadline=None, max_examples=150)
@given(
    st.sampled_from((*UNARY, "pow")),
    st.lists(st.tuples(ANY_FLOAT, ANY_FLOAT), min_size=1, max_size=40),
    st.sampled_from(HOSTS),
)
def test_neighbours_do_not_matter(
    name: str, pairs: list[tuple[np.float32, np.float32]], host: str
) -> None:
    operands = np.array(pairs, np.float32).T.copy()[: 2 if name == "pow" else 1]
    immediates = IMMEDIATES.get(name, ())
    got = native(name, *operands, immediates=immediates, host=host)
    check_bits(got, plain(name, *operands, immediates=immediates), *operands)


@pytest.mark.parametrize(("name", "branches"), [("sin", 1), ("cos", 1), ("exp", 0), ("pow", 0)])
def test_only_great_angles_take_a_branch(name: str, branches: int) -> None:
    text = library(detect()).ir(("test_elementary", name, 2 if name == "pow" else 1, 0, 8))
    assert text.count("br i1") == branches + 1  # and the loop


def test_every_function_of_doubles_has_code() -> None:
    assert transcendental.DEFINITIONS.keys() <= elementary.FUNCTIONS.keys()
    assert set(UNARY) | {"pow", "power"} == elementary.FUNCTIONS.keys()
