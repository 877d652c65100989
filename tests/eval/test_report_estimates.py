"""Differences and ratios of the runs' means, and their intervals."""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import t as student

from eval.report.estimates import band_words, difference, ratio, with_bands


def test_welchs_interval_covers_the_truth_as_often_as_it_says() -> None:
    generator, hits = np.random.default_rng(0), 0
    for _ in range(2000):
        found = difference(generator.normal(1, 1, (5, 1)), generator.normal(0, 3, (4, 1)))
        hits += found.low < 1 < found.high
    assert 0.93 < hits / 2000 < 0.97


def test_equal_runs_differ_by_an_interval_of_no_width() -> None:
    assert difference(np.full((3, 1), 5.0), np.full((3, 1), 2.0)) == (3.0, 3.0, 3.0, 3)


def test_a_difference_over_several_tasks_spreads_as_the_tasks_do_within() -> None:
    # The tasks lie far apart, which says nothing of how other seeds would do
    generator = np.random.default_rng(0)
    one, other = (generator.normal([0, 100, 200], 1, (4, 3)) for _ in range(2))
    found = difference(one, other)
    by_hand = sum(scores[:, task].var(ddof=1) / 4 / 9 for scores in (one, other) for task in range(3))
    assert found.value == pytest.approx(one.mean() - other.mean())
    squares = sum((scores[:, task].var(ddof=1) / 4 / 9) ** 2 / 3 for scores in (one, other) for task in range(3))
    assert found.high - found.value == pytest.approx(student.ppf(0.975, by_hand**2 / squares) * by_hand**0.5)


def test_a_ratios_interval_is_that_of_taylors_formula() -> None:
    generator = np.random.default_rng(0)
    below = generator.normal(10, 2, 6)
    above = generator.normal(4, 1, (6, 3)) + below[:, None] * [0.0, 0.5, 1.0]
    value, low, high = ratio(above, below)
    for i in range(3):
        a, b = above[:, i].tolist(), below.tolist()
        r = (sum(a) / 6) / (sum(b) / 6)
        (var_a, cov), (_, var_b) = np.cov(a, b)
        variance = (var_a - 2 * r * cov + r**2 * var_b) / 6 / (sum(b) / 6) ** 2
        assert value[i] == pytest.approx(r)
        assert high[i] - r == pytest.approx(2.570582 * variance**0.5, rel=1e-6)  # Student's quantile, 5 degrees
        assert r - low[i] == pytest.approx(high[i] - r)


def test_one_run_keeps_a_share_without_an_interval() -> None:
    value, low, high = ratio(np.array([[2.0, 4.0]]), np.array([4.0]))
    assert value.tolist() == [0.5, 1.0]
    assert np.isnan([low, high]).all()


@pytest.mark.parametrize("n_runs", [3, 5])
def test_a_ratios_interval_covers_the_truth_as_often_as_it_says(n_runs: int) -> None:
    generator, hits = np.random.default_rng(0), 0
    for _ in range(2000):
        below = generator.normal(10, 2, n_runs)
        above = 0.6 * below[:, None] + generator.normal(0, 1.5, (n_runs, 1))
        _, low, high = ratio(above, below)
        hits += low[0] < 0.6 < high[0]
    assert 0.93 < hits / 2000 < 0.97


def test_two_runs_have_an_interval_and_no_band() -> None:
    curves = pd.DataFrame({"agent": ["a", "b"], "n_runs": [2, 3], "low": [-9.0, 1.0], "high": [9.0, 2.0]})
    drawn = with_bands(curves)
    assert drawn["low"].isna().tolist() == [True, False]
    assert drawn["high"].isna().tolist() == [True, False]
    assert curves["low"].tolist() == [-9.0, 1.0]
    assert band_words(drawn, "line: mean") == "line: mean, band: 95 % interval"
    assert band_words(drawn[:1], "line: mean") == "line: mean"
