"""Accuracy, special values and reproducibility of the transcendental functions."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable

import numpy as np
import pytest

from npu_dialect import numerics

NEAREST = 0.5001
"""Units in the last place: the correctly rounded value, or its neighbour very near to a tie."""


def vectorized(function: Callable[[float], float]) -> Callable[[np.ndarray], np.ndarray]:
    return lambda x: np.array([function(v) for v in x.tolist()])


def gelu(x: float) -> float:
    return x * math.erfc(-x / math.sqrt(2)) / 2 if math.isfinite(x) else (x if x > 0 else math.nan)


def silu(x: np.ndarray) -> np.ndarray:
    return x / (1 + np.exp(-x))


REFERENCE: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "exp": np.exp,
    "log": np.log,
    "tanh": np.tanh,
    "erf": vectorized(math.erf),
    "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    "silu": silu,
    "gelu": vectorized(gelu),
    "softplus": lambda x: np.logaddexp(x, 0.0),
    "sin": np.sin,
    "cos": np.cos,
    "hard_swish": lambda x: x * np.clip(x + 3, 0, 6) / 6,
}
"""In double precision."""


def samples() -> np.ndarray:
    rng = np.random.default_rng(0)
    patterns = rng.integers(0, 2**32, 40_000, dtype=np.uint64).astype(np.uint32).view(np.float32)
    ranges = [rng.uniform(-r, r, 20_000).astype(np.float32) for r in (1, 6, 20, 110)]
    return np.concatenate([patterns, *ranges])


SAMPLES = samples()


def ulps(got: np.ndarray, reference: np.ndarray) -> float:
    """Greatest distance from `reference` in units of the last place of float32."""
    with np.errstate(all="ignore"):
        nearest = reference.astype(np.float32)
        finite = np.isfinite(nearest) & np.isfinite(got)
        assert np.array_equal(got[~finite], nearest[~finite], equal_nan=True)
        unit = np.spacing(np.abs(nearest[finite])).astype(np.float64)
        distance = np.abs(got[finite].astype(np.float64) - reference[finite]) / unit
    return float(distance.max())


@pytest.mark.parametrize("name", REFERENCE)
def test_results_are_rounded_to_nearest(name: str) -> None:
    with np.errstate(all="ignore"):
        expected = REFERENCE[name](SAMPLES.astype(np.float64))
    assert ulps(numerics.UNARY[name](SAMPLES), expected) <= NEAREST


def test_power_is_rounded_to_nearest() -> None:
    rng = np.random.default_rng(1)
    y = rng.uniform(-30, 30, SAMPLES.size).astype(np.float32)
    y[::3] = np.rint(y[::3])
    with np.errstate(all="ignore"):
        expected = np.power(SAMPLES.astype(np.float64), y.astype(np.float64))
    assert ulps(numerics.power(SAMPLES, y), expected) <= NEAREST


def test_elu_is_rounded_to_nearest() -> None:
    x = SAMPLES[~np.isnan(SAMPLES)].astype(np.float64)
    expected = np.where(x < 0, np.expm1(np.minimum(x, 0)), x)
    assert ulps(numerics.elu(x.astype(np.float32)), expected) <= NEAREST


def test_great_angles_are_reduced_exactly() -> None:
    mpmath = pytest.importorskip("mpmath")
    rng = np.random.default_rng(2)
    x = np.exp2(rng.uniform(15, 127.9, 500)).astype(np.float32)
    with mpmath.workdps(80):
        expected = np.array([float(mpmath.sin(mpmath.mpf(float(v)))) for v in x])
    assert ulps(numerics.sin(x), expected) <= NEAREST


def test_the_angle_nearest_to_a_multiple_of_half_pi_is_accurate() -> None:
    mpmath = pytest.importorskip("mpmath")
    value = 16367173 * 2.0**72  # from the continued fractions of 2**e * 2 / pi
    with mpmath.workdps(80):
        expected = np.array([float(mpmath.cos(mpmath.mpf(value)))])
    assert ulps(numerics.cos(np.array([value], np.float32)), expected) <= NEAREST


LIMITS = {
    "exp": [(-np.inf, 0.0), (np.inf, np.inf), (0.0, 1.0), (100.0, np.inf), (-110.0, 0.0)],
    "log": [
        (0.0, -np.inf),
        (-0.0, -np.inf),
        (1.0, 0.0),
        (np.inf, np.inf),
        (-1.0, np.nan),
        (-np.inf, np.nan),
    ],
    "tanh": [(0.0, 0.0), (-0.0, -0.0), (np.inf, 1.0), (-np.inf, -1.0)],
    "erf": [(0.0, 0.0), (-0.0, -0.0), (np.inf, 1.0), (-np.inf, -1.0)],
    "sigmoid": [(0.0, 0.5), (np.inf, 1.0), (-np.inf, 0.0)],
    "silu": [(0.0, 0.0), (-0.0, -0.0), (np.inf, np.inf), (-np.inf, np.nan), (-3e38, -0.0)],
    "gelu": [(0.0, 0.0), (-0.0, -0.0), (np.inf, np.inf), (-np.inf, np.nan), (-3e38, -0.0)],
    "softplus": [(np.inf, np.inf), (-np.inf, 0.0), (-200.0, 0.0)],
    "sin": [(0.0, 0.0), (-0.0, -0.0), (np.inf, np.nan), (-np.inf, np.nan)],
    "cos": [(0.0, 1.0), (-0.0, 1.0), (np.inf, np.nan), (-np.inf, np.nan)],
    "hard_swish": [(0.0, 0.0), (-0.0, -0.0), (np.inf, np.inf), (-3.0, -0.0), (-np.inf, np.nan)],
}
"""Pairs of argument and value."""


@pytest.mark.parametrize("name", LIMITS)
def test_special_values_are_those_of_c_or_the_stated_ones(name: str) -> None:
    x, expected = np.array(LIMITS[name], np.float32).T
    got = numerics.UNARY[name](x)
    numbers = ~np.isnan(expected)
    assert np.array_equal(got, expected, equal_nan=True)
    assert np.array_equal(np.signbit(got[numbers]), np.signbit(expected[numbers]))


@pytest.mark.parametrize("name", LIMITS)
def test_nan_gives_nan(name: str) -> None:
    assert np.isnan(numerics.UNARY[name](np.full(3, np.nan, np.float32))).all()


@pytest.mark.parametrize("name", ["tanh", "erf", "sin", "silu", "gelu"])
def test_subnormal_arguments_keep_their_sign_and_size(name: str) -> None:
    tiny = np.array([2e-44, -2e-44], np.float32)
    got = numerics.UNARY[name](tiny).astype(np.float64)
    ratio = {"erf": 2 / math.sqrt(math.pi), "silu": 0.5, "gelu": 0.5}.get(name, 1.0)
    assert np.abs(got - ratio * tiny.astype(np.float64)).max() <= 0.5 * 2.0**-149


def test_exp_reaches_subnormal_results() -> None:
    x = np.linspace(-104, -87, 5001, dtype=np.float32)
    assert ulps(numerics.exp(x), np.exp(x.astype(np.float64))) <= NEAREST


def test_exp_overflows_just_above_the_logarithm_of_the_greatest_float() -> None:
    above = np.float32(88.72284)
    below = np.nextafter(above, np.float32(0))
    assert np.isfinite(numerics.exp(np.array([below])))
    assert np.isinf(numerics.exp(np.array([above])))


def test_power_follows_c_at_special_values() -> None:
    values = [0, -0.0, 1, -1, np.inf, -np.inf, np.nan, 2, -2, 0.5, -0.5, 3, -3, 1.5]
    values += [-1.5, 1e38, -1e38, 1e-45, -1e-45, 2**24 + 2]
    x, y = np.meshgrid(np.array(values, np.float32), np.array(values, np.float32))
    with np.errstate(all="ignore"):
        expected = np.power(x.astype(np.float64), y.astype(np.float64)).astype(np.float32)
    got = numerics.power(x, y)
    numbers = ~np.isnan(expected)
    assert np.array_equal(got, expected, equal_nan=True)
    assert np.array_equal(np.signbit(got[numbers]), np.signbit(expected[numbers]))


def test_power_of_whole_numbers_is_exact() -> None:
    x, y = np.meshgrid(np.arange(-12, 13), np.arange(0, 7))
    got = numerics.power(x.astype(np.float32), y.astype(np.float32))
    assert np.array_equal(got, (x.astype(object) ** y).astype(np.float32))


@pytest.mark.parametrize("name", REFERENCE)
def test_a_value_does_not_depend_on_its_neighbours_or_strides(name: str) -> None:
    function = numerics.UNARY[name]
    x = SAMPLES[:9999]
    whole = function(x).view(np.uint32)
    alone = np.concatenate([function(x[i : i + 7]) for i in range(0, x.size, 7)]).view(np.uint32)
    strided = function(x.reshape(99, 101).T).T.reshape(-1).view(np.uint32)
    numbers = ~np.isnan(x) & ~np.isnan(function(x))
    assert np.array_equal(whole[numbers], alone[numbers])
    assert np.array_equal(whole[numbers], strided[numbers])


def test_operands_of_power_broadcast() -> None:
    x = np.arange(1, 7, dtype=np.float32).reshape(2, 3)
    assert np.array_equal(numerics.power(x, np.array([2], np.float32)), x * x)


@pytest.mark.parametrize("shape", [(), (0,), (1, 1), (2, 0, 3)])
def test_the_shape_is_kept(shape: tuple[int, ...]) -> None:
    assert numerics.exp(np.ones(shape, np.float32)).shape == shape


FINGERPRINTS = {
    "exp": "038f10bca95bc32e",
    "log": "642f41c7a9172d81",
    "tanh": "d3a32485c4973a85",
    "erf": "9d8014a3529f46ce",
    "sigmoid": "e47ade102c0d228c",
    "silu": "16e6f11945e64a7a",
    "gelu": "95efcdaed473ec6b",
    "softplus": "181af70ce988a720",
    "sin": "835b6eda268a02f4",
    "cos": "c873c21286758490",
    "hard_swish": "dfc3a20f6cb55fa4",
}
"""Start of the sha256 of the results for 2**16 bit patterns, whatever the host."""


def fingerprint(name: str) -> str:
    x = (np.arange(2**16, dtype=np.uint32) << 16 | 0x5A5A).view(np.float32)
    result = numerics.UNARY[name](x)
    result[np.isnan(result)] = np.nan
    return hashlib.sha256(result.astype("<f4").tobytes()).hexdigest()[:16]


@pytest.mark.parametrize("name", FINGERPRINTS)
def test_the_bits_are_the_recorded_ones(name: str) -> None:
    assert fingerprint(name) == FINGERPRINTS[name]
