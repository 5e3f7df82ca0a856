"""Steps over time, against a count cycle by cycle."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from npu_dialect.runtime.series import Series, levels, rates, total

END = 40
Spans = list[tuple[int, int, int]]

spans = st.lists(
    st.tuples(st.integers(0, END - 1), st.integers(1, END), st.integers(0, 9)).map(
        lambda s: (s[0], min(END, s[0] + s[1]), s[2])
    ),
    max_size=8,
)


def by_cycle(series: Series) -> list[float]:
    """The value in each cycle."""
    at = np.searchsorted(series.times, np.arange(END), side="right") - 1
    return [float(series.values[k]) if k >= 0 else 0.0 for k in at]


def arrays(found: Spans) -> tuple[np.ndarray, np.ndarray, list[int]]:
    begin = np.array([b for b, _, _ in found], np.int64)
    end = np.array([e for _, e, _ in found], np.int64)
    return begin, end, [a for _, _, a in found]


@given(spans)
def test_a_level_is_the_sum_of_what_is_held(found: Spans):
    expected = [sum(a for b, e, a in found if b <= t < e) for t in range(END)]
    assert by_cycle(levels(*arrays(found))) == expected


@given(spans)
def test_a_rate_spreads_an_amount_over_its_cycles(found: Spans):
    expected = [sum(a / (e - b) for b, e, a in found if b <= t < e) for t in range(END)]
    assert by_cycle(rates(*arrays(found))) == pytest.approx(expected)


def test_what_takes_no_time_has_no_rate():
    assert rates(np.array([3]), np.array([3]), [5]).peak == 0


@given(spans, st.integers(1, 12))
def test_means_keep_the_area(found: Spans, bins: int):
    series = levels(*arrays(found))
    coarse = series.means(END, bins)
    area = sum(by_cycle(series))
    assert (coarse.values * np.diff(coarse.times, append=END)).sum() == pytest.approx(area)
    assert len(coarse.times) <= max(bins, len(series.times) if len(series.times) <= bins else 0)


@given(spans, st.integers(1, 12))
def test_peaks_keep_the_peak_and_lie_above(found: Spans, bins: int):
    series = levels(*arrays(found))
    coarse = series.peaks(END, bins)
    assert coarse.peak == series.peak
    assert all(c >= s for c, s in zip(by_cycle(coarse), by_cycle(series), strict=True))


@given(spans, spans)
def test_a_total_is_the_sum_of_series(one: Spans, other: Spans):
    a, b = levels(*arrays(one)), levels(*arrays(other))
    expected = [x + y for x, y in zip(by_cycle(a), by_cycle(b), strict=True)]
    assert by_cycle(total(a, b, end=END)) == expected


def test_the_mean_of_some_leaves_out_where_there_is_nothing():
    # 6 in [0, 2), nothing in [2, 8), 3 in [8, 9): (12 + 3) / 3
    assert levels(np.array([0, 8]), np.array([2, 9]), [6, 3]).mean_of_some == 5
