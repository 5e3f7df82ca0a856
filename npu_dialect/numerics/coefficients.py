"""Constants of the transcendental functions.

Derived for this project in 60-digit arithmetic and rounded once to double. The polynomials
interpolate at the Chebyshev nodes of the stated interval; the error given is the greatest relative
one over it. `test/test_numerics_coefficients.py` derives them anew.
"""

from __future__ import annotations

import math

EXPM1 = tuple(1 / math.factorial(n) for n in range(2, 11))
"""(exp(r) - 1 - r) / r**2 in r: Taylor; exp(r) - 1 is then within 7e-13 for |r| <= ln(2) / 2."""

SIN = tuple((-1) ** n / math.factorial(2 * n + 1) for n in range(1, 7))
"""(sin(r) - r) / r**3 in r**2: Taylor; sin(r) is then within 3e-14 for |r| <= pi / 4."""

COS = tuple((-1) ** n / math.factorial(2 * n) for n in range(1, 8))
"""(cos(r) - 1) / r**2 in r**2: Taylor; cos(r) is then within 2e-15 for |r| <= pi / 4."""

ATANH = (
    1.9999999999998737,
    0.6666666668119934,
    0.39999997264242493,
    0.28571624027501186,
    0.22215400180111994,
    0.1831004363876266,
    0.1407075932464363,
    0.20068155694850642,
)
"""2 atanh(s) / s in s**2 on [0, 1/9]: 7e-14."""

ERF = (
    0.35353099564340495,
    -0.17657623330392602,
    0.13167511689547207,
    -0.10771044230403215,
    0.09020899404424358,
    -0.07472787156784315,
    0.05988690674393009,
    -0.04576504084136504,
    0.033060611596419896,
    -0.02247402944863727,
    0.01434973873577006,
    -0.008604359881842768,
    0.004852986669306072,
    -0.0025830290325423205,
    0.0012940700205056187,
    -0.0006048631720031436,
    0.0002730868781407246,
    -0.00012649419013464726,
    5.0516480984461565e-05,
    -1.2635295810882527e-05,
    5.069598611100321e-06,
    -4.586436654384096e-06,
    1.4883137738024427e-06,
)
"""erf(x) / x in x**2 / 8 - 1 on [-1, 1], that is |x| <= 4: 4e-13."""

NORMAL_TAIL = (
    0.09973540375524843,
    0.09974122638608099,
    0.09341411806311711,
    0.0818652763294236,
    0.058192548918989874,
    0.06762548867210676,
    -0.059420897062068614,
    0.21853094862927785,
    -0.40938352843933073,
    0.5764065712043975,
    -0.613774442321426,
    0.4389621425905325,
    -0.19629587375800742,
    0.04997887895539066,
    -0.005577861923800428,
)
"""exp(x**2 / 2) Q(x) / t in t = 4 / (4 + x) for 0 <= x <= 15: 7e-13. Q(x) = erfc(x / sqrt(2)) / 2
is the upper tail of the normal distribution."""

LOG2_E = float.fromhex("0x1.71547652b82fep+0")
"""1 / ln(2)."""

LN2 = (float.fromhex("0x1.62e42fefa2000p-1"), float.fromhex("0x1.9ef35793c7673p-41"))
"""ln(2) as its first 40 bits and the rest: multiples of the first to 2**13 are exact."""

TWO_OVER_PI = float.fromhex("0x1.45f306dc9c883p-1")
"""2 / pi."""

HALF_PI = (
    float.fromhex("0x1.921fb54400000p+0"),
    float.fromhex("0x1.0b4611a600000p-34"),
    float.fromhex("0x1.3198a2e037073p-69"),
)
"""pi / 2 as 33 bits, the next 33 and the rest: multiples of the first two to 2**20 are exact."""

TURN = float.fromhex("0x1.921fb54442d18p-62")
"""2 pi / 2**64."""

INVERSE_TURN = 0x28BE60DB9391054A7F09D5F47D4D377036D8A5664F10E4107F9458EAF7AEF158
"""floor(2**256 / (2 pi))."""
