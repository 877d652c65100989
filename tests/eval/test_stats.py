"""Statistics against known answers, rliable's own functions and simulations whose truth is known."""

import math
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.random import Generator, default_rng
from pandas.testing import assert_frame_equal
from rliable import metrics
from rliable.library import get_interval_estimates
from scipy.stats import binomtest, norm, trim_mean
from scipy.stats import t as student

from eval.stats import (
    _degrees_of_freedom,
    curve_estimates,
    interval_estimates,
    iqm,
    performance_profiles,
    probability_of_improvement,
    seeded,
)

Scores = dict[str, Any]


def normals(seed: int, *shape: int) -> np.ndarray:
    return default_rng(seed).standard_normal(shape)


SCORES: Scores = {"dqn": normals(0, 5, 3), "drqn": normals(1, 4, 3) + 1, "random": normals(2, 10, 3)}

ESTIMATES: dict[str, Callable[[Scores, int], pd.DataFrame]] = {
    "interval_estimates": lambda scores, seed: interval_estimates(scores, seed=seed, reps=200),
    "curve_estimates": lambda scores, seed: curve_estimates(scores, [0, 10, 20], seed=seed, reps=200),
    "performance_profiles": lambda scores, seed: performance_profiles(scores, [-0.5, 0.5], seed=seed, reps=200),
    "probability_of_improvement": lambda scores, seed: probability_of_improvement(scores, seed=seed, reps=200),
}
every_estimate = pytest.mark.parametrize("estimate", ESTIMATES.values(), ids=ESTIMATES.keys())


# The same seed, the same numbers


@every_estimate
def test_the_same_seed_gives_the_same_numbers_to_the_bit(estimate: Callable[[Scores, int], pd.DataFrame]) -> None:
    np.random.seed(3)
    first = estimate(SCORES, 7)
    np.random.seed(4)
    assert_frame_equal(estimate(SCORES, 7), first, check_exact=True)


@every_estimate
def test_another_seed_gives_other_intervals_around_the_same_estimates(
    estimate: Callable[[Scores, int], pd.DataFrame],
) -> None:
    first, second = estimate(SCORES, 7), estimate(SCORES, 8)
    name = "fraction" if "fraction" in first else "estimate"
    assert_frame_equal(first.drop(columns=["low", "high"]), second.drop(columns=["low", "high"]), check_exact=True)
    assert (first["low"] != second["low"]).any() and (first["high"] != second["high"]).any()
    assert (first["low"] <= first[name]).all() and (first[name] <= first["high"]).all()


@every_estimate
def test_the_callers_global_generator_is_left_alone(estimate: Callable[[Scores, int], pd.DataFrame]) -> None:
    np.random.seed(5)
    expected = np.random.random(3)
    np.random.seed(5)
    estimate(SCORES, 7)
    np.testing.assert_array_equal(np.random.random(3), expected)


def test_the_global_generator_is_put_back_after_an_error_too() -> None:
    np.random.seed(5)
    expected = np.random.random(3)
    np.random.seed(5)
    with pytest.raises(KeyError), seeded(1):
        np.random.random()
        raise KeyError
    np.testing.assert_array_equal(np.random.random(3), expected)


@every_estimate
def test_an_agents_rows_do_not_depend_on_the_other_agents_or_their_order(
    estimate: Callable[[Scores, int], pd.DataFrame],
) -> None:
    pair = {"dqn": SCORES["dqn"], "drqn": SCORES["drqn"]}
    more = {"random": SCORES["random"], **pair}
    expected, rows = estimate(pair, 7), estimate(more, 7)
    mine = rows["agent"].isin(list(pair)) & (rows["other"].isin(list(pair)) if "other" in rows else True)
    assert_frame_equal(rows[mine].reset_index(drop=True), expected, check_exact=True)


# Estimates and intervals


@pytest.mark.parametrize("shape", [(1, 1), (3, 1), (4, 1), (5, 1), (7, 1), (5, 3), (10, 10)], ids=str)
def test_estimates_are_those_of_rliable_and_scipy(shape: tuple[int, int]) -> None:
    scores = normals(3, *shape)
    assert iqm(scores) == pytest.approx(trim_mean(scores, 0.25, axis=None), rel=1e-12)
    for statistic, twin in (("iqm", metrics.aggregate_iqm), ("mean", metrics.aggregate_mean)):
        row = interval_estimates({"dqn": scores}, statistic, seed=0, reps=100).iloc[0]
        assert row["estimate"] == pytest.approx(twin(scores), rel=1e-12)
        assert (row["agent"], row["n_runs"], row["n_tasks"]) == ("dqn", *shape)


@pytest.mark.parametrize("statistic", ["iqm", "mean"])
@pytest.mark.parametrize("shape", [(3, 1), (5, 3), (10, 10)], ids=str)
def test_an_interval_holds_that_of_rliable_which_is_too_narrow(shape: tuple[int, int], statistic: str) -> None:
    scores = {"dqn": default_rng(0).gamma(2.0, 1.0, shape)}
    function = metrics.aggregate_iqm if statistic == "iqm" else metrics.aggregate_mean
    with seeded(7):
        _, ends = get_interval_estimates(scores, lambda array: np.array([function(array)]), reps=300)
    row = interval_estimates(scores, statistic, seed=7, reps=300).iloc[0]
    assert row["low"] < ends["dqn"][0, 0] < row["estimate"] < ends["dqn"][1, 0] < row["high"]


@pytest.mark.parametrize("confidence", [0.8, 0.95])
@pytest.mark.parametrize("n_runs", [3, 5, 20])
def test_the_interval_of_a_mean_on_one_task_is_students(n_runs: int, confidence: float) -> None:
    scores = normals(4, n_runs, 1)
    row = interval_estimates({"dqn": scores}, "mean", seed=0, confidence=confidence, reps=20_000).iloc[0]
    reach = student.ppf((1 + confidence) / 2, n_runs - 1) * scores.std(ddof=1) / math.sqrt(n_runs)
    assert row["high"] - row["estimate"] == pytest.approx(reach, rel=0.03)
    assert row["estimate"] - row["low"] == pytest.approx(reach, rel=0.03)


NOISE = np.array([-1.0, 0.0, 1.0])
FREEDOMS = {
    "one task": ([NOISE], "mean", 2),
    "tasks of one spread": ([NOISE, NOISE + 5, NOISE - 5], "mean", 6),
    "one task of several varies": ([NOISE, 0 * NOISE, 0 * NOISE], "mean", 2),
    "a task spreads ten times as much": ([NOISE, 10 * NOISE], "mean", 2 * 101**2 / 10001),
    "nothing varies": ([0 * NOISE, 0 * NOISE], "mean", 2),
    "tasks outside of the middle half have no say": ([NOISE, 10 * NOISE + 90, 10 * NOISE - 90, 0 * NOISE], "iqm", 2),
}


@pytest.mark.parametrize(("tasks", "statistic", "expected"), FREEDOMS.values(), ids=FREEDOMS.keys())
def test_degrees_of_freedom_come_from_the_tasks_that_vary(tasks: list[np.ndarray], statistic: str, expected: float) -> None:
    freedom = _degrees_of_freedom(np.stack(tasks, axis=1)[..., None], statistic)
    np.testing.assert_allclose(freedom, [expected], rtol=1e-12)


@pytest.mark.parametrize("statistic", ["iqm", "mean"])
@pytest.mark.parametrize("value", [0.0, 0.1, -4.87, 1e9])
@pytest.mark.parametrize("shape", [(3, 1), (5, 7), (7, 2)], ids=str)
def test_a_constant_agent_has_an_interval_of_no_width(shape: tuple[int, int], value: float, statistic: str) -> None:
    scores = {"dqn": np.full(shape, value), "columns": np.full(shape[::-1], value).T}
    for _, row in interval_estimates(scores, statistic, seed=0, reps=200).iterrows():
        assert row["low"] == row["estimate"] == row["high"] == pytest.approx(value, rel=1e-12)


@every_estimate
def test_one_run_has_an_estimate_and_no_interval(estimate: Callable[[Scores, int], pd.DataFrame]) -> None:
    rows = estimate({agent: array[:1] for agent, array in SCORES.items()}, 0)
    assert rows[["low", "high"]].isna().all(axis=None)
    assert rows.drop(columns=["low", "high"]).notna().all(axis=None)
    assert (rows["n_runs"] == 1).all()


def test_a_curves_points_are_what_interval_estimates_says_of_each() -> None:
    scores = {"dqn": normals(5, 5, 2, 4), "drqn": normals(6, 3, 2, 4)}
    curves = curve_estimates(scores, [0, 5, 10, 15], seed=7, statistic="mean", reps=200)
    assert list(curves) == ["agent", "steps", "estimate", "low", "high", "n_runs", "n_tasks"]
    assert curves["steps"].tolist() == 2 * [0, 5, 10, 15]
    for point, steps in enumerate([0, 5, 10, 15]):
        single = interval_estimates({a: s[..., point] for a, s in scores.items()}, "mean", seed=7, reps=200)
        rows = curves[curves["steps"] == steps].reset_index(drop=True)[list(single)]
        assert_frame_equal(rows, single, rtol=1e-12)


def test_a_curve_may_be_of_one_task_and_over_something_else_than_steps() -> None:
    scores = normals(5, 5, 2)
    rows = curve_estimates({"dqn": scores}, [1.0, 0.5], seed=7, x="observe_prob", reps=200)
    expected = curve_estimates({"dqn": scores[:, None]}, [1.0, 0.5], seed=7, reps=200)
    assert_frame_equal(rows.rename(columns={"observe_prob": "steps"}), expected, check_exact=True)


# Performance profiles


def test_a_profile_is_the_share_of_runs_above_each_threshold() -> None:
    scores = np.array([[0.0, 1.0], [1.0, 2.0], [2.0, 3.0], [3.0, 4.0]])
    rows = performance_profiles({"dqn": scores}, [-1, 0, 1, 2.5, 4], seed=0, reps=200)
    assert list(rows) == ["agent", "threshold", "fraction", "low", "high", "n_runs", "n_tasks"]
    assert rows["fraction"].tolist() == [1, 7 / 8, 5 / 8, 3 / 8, 0]
    assert rows["low"].iloc[-1] == 0 and rows["high"].iloc[0] == 1
    assert (rows["high"].iloc[-1] > 0) and (rows["low"].iloc[0] < 1)
    assert rows["low"].between(0, 1).all() and rows["high"].between(0, 1).all()


@pytest.mark.parametrize(("above", "n_runs"), [(0, 5), (1, 5), (3, 5), (10, 10), (3, 3)])
def test_the_band_of_one_task_is_wilsons(above: int, n_runs: int) -> None:
    scores = np.repeat([1.0, 0.0], [above, n_runs - above])[:, None]
    row = performance_profiles({"dqn": scores}, [0.5], seed=0, reps=200).iloc[0]
    twin = binomtest(above, n_runs).proportion_ci(method="wilson")
    assert (row["low"], row["high"]) == pytest.approx((twin.low, twin.high), abs=1e-9)


def test_tasks_that_differ_have_a_narrower_band_than_one_task_of_as_many_runs() -> None:
    differing = np.repeat([[0.0, 1.0]], 10, axis=0) + 0.6 * np.eye(10, 2)
    pooled = differing.reshape(-1, 1)
    rows = performance_profiles({"dqn": differing}, [0.5], seed=0).iloc[0]
    alike = performance_profiles({"dqn": pooled}, [0.5], seed=0).iloc[0]
    assert rows["fraction"] == alike["fraction"] == 0.55
    assert rows["high"] - rows["low"] < 0.7 * (alike["high"] - alike["low"])


# Probability of improvement


@pytest.mark.parametrize("shapes", [((3, 1), (3, 1)), ((5, 3), (4, 3)), ((2, 4), (7, 4))], ids=str)
def test_improvement_is_what_rliable_says_ties_being_half(shapes: tuple[tuple[int, int], tuple[int, int]]) -> None:
    one, other = (default_rng(i).integers(0, 4, shape).astype(float) for i, shape in enumerate(shapes))
    row = probability_of_improvement({"one": one, "other": other}, seed=0, reps=100).iloc[0]
    assert row["estimate"] == pytest.approx(metrics.probability_of_improvement(one, other), abs=1e-12)
    assert (row["n_runs"], row["n_other"], row["n_tasks"]) == (len(one), len(other), one.shape[1])


DOMINANCE = {"better": (100.0, 1.0), "worse": (-100.0, 0.0), "the same": (0.0, 0.5)}


@pytest.mark.parametrize(("shift", "expected"), DOMINANCE.values(), ids=DOMINANCE.keys())
@pytest.mark.parametrize("n_tasks", [1, 4])
def test_who_dominates_improves_for_sure_and_equals_toss_a_coin(shift: float, expected: float, n_tasks: int) -> None:
    scores = normals(6, 5, n_tasks)
    row = probability_of_improvement({"one": scores + shift, "other": scores}, seed=0, reps=200).iloc[0]
    assert row["estimate"] == expected
    assert 0 <= row["low"] <= expected <= row["high"] <= 1
    assert row["high"] - row["low"] > 0.1  # five runs prove nothing for sure


@pytest.mark.parametrize("difference", [0.0, 0.5, 1.5])
def test_the_probability_of_two_normal_agents_is_the_known_one(difference: float) -> None:
    quantiles = np.repeat(norm.ppf((np.arange(200) + 0.5) / 200)[:, None], 2, axis=1)
    scores = {"one": quantiles + difference, "other": quantiles}
    row = probability_of_improvement(scores, seed=0, reps=100).iloc[0]
    truth = norm.cdf(difference / math.sqrt(2))
    assert row["estimate"] == pytest.approx(truth, abs=0.002)
    assert row["low"] < truth < row["high"] and row["high"] - row["low"] < 0.1


def test_the_interval_on_one_task_solves_newcombes_equation() -> None:
    one, other = normals(9, 6, 1) + 1, normals(10, 4, 1)
    row = probability_of_improvement({"one": one, "other": other}, seed=0, reps=100).iloc[0]
    for p in (row["low"], row["high"]):
        variance = p * (1 - p) * (1 + (10 / 2 - 1) * ((1 - p) / (2 - p) + p / (1 + p))) / 24
        assert abs(row["estimate"] - p) == pytest.approx(norm.ppf(0.975) * math.sqrt(variance), abs=1e-9)


def test_turned_round_the_probability_is_the_rest() -> None:
    pairs = [("dqn", "random"), ("random", "dqn")]
    scores = {agent: array[:, :1] for agent, array in SCORES.items()}
    there, back = (row for _, row in probability_of_improvement(scores, seed=0, pairs=pairs, reps=100).iterrows())
    assert there["estimate"] == pytest.approx(1 - back["estimate"])
    assert (there["low"], there["high"]) == pytest.approx((1 - back["high"], 1 - back["low"]))


def test_every_two_agents_are_compared_unless_pairs_are_named() -> None:
    rows = probability_of_improvement(SCORES, seed=0, reps=100)
    assert list(zip(rows["agent"], rows["other"], strict=True)) == [("dqn", "drqn"), ("dqn", "random"), ("drqn", "random")]
    rows = probability_of_improvement(SCORES, seed=0, pairs=[("random", "dqn")], reps=100)
    assert rows[["agent", "other"]].to_numpy().tolist() == [["random", "dqn"]]


# What is refused

HOLED = normals(0, 3, 2) * [[1, 1], [1, math.nan], [1, 1]]
REFUSED: dict[str, tuple[Callable[[], object], str]] = {
    "no agent": (lambda: interval_estimates({}, seed=0), "at least one agent, got none"),
    "no run": (
        lambda: interval_estimates({"dqn": np.empty((0, 3))}, seed=0),
        r"'dqn' must not be empty, got the shape \(0, 3\)",
    ),
    "one axis": (lambda: interval_estimates({"dqn": [1, 2]}, seed=0), r"'dqn' must have the axes \(n_runs, n_tasks\)"),
    "nan": (lambda: interval_estimates({"dqn": HOLED}, seed=0), r"'dqn' must be finite, got nan at \(1, 1\)"),
    "infinite": (lambda: performance_profiles({"dqn": [[math.inf]]}, [0], seed=0), r"must be finite, got inf at \(0, 0\)"),
    "other tasks": (
        lambda: interval_estimates({"dqn": [[1, 2]], "drqn": [[1, 2, 3]]}, seed=0),
        r"the same n_tasks, got \(3,\) for 'drqn' and \(2,\) for 'dqn'",
    ),
    "unknown statistic": (lambda: interval_estimates(SCORES, "mode", seed=0), r"one of \['iqm', 'mean'\], got 'mode'"),
    "confidence": (lambda: interval_estimates(SCORES, seed=0, confidence=95), "between 0 and 1, got 95"),
    "few reps": (lambda: interval_estimates(SCORES, seed=0, reps=10), "at least 100, got 10"),
    "negative seed": (lambda: interval_estimates(SCORES, seed=-1), r"between 0 and 2\*\*32 - 1, got -1"),
    "fewer steps than points": (lambda: curve_estimates(SCORES, [0, 1], seed=0), r"3 different points.*got \[0, 1\]"),
    "steps twice": (lambda: curve_estimates(SCORES, [0, 1, 1], seed=0), r"3 different points.*got \[0, 1, 1\]"),
    "curve of one axis": (lambda: curve_estimates({"dqn": [1, 2]}, [0, 1], seed=0), r"\(n_runs, n_tasks, n_points\)"),
    "no threshold": (lambda: performance_profiles(SCORES, [], seed=0), r"at least one, got \[\]"),
    "nan threshold": (lambda: performance_profiles(SCORES, [math.nan], seed=0), r"finite numbers.*got \[nan\]"),
    "unknown pair": (
        lambda: probability_of_improvement(SCORES, seed=0, pairs=[("dqn", "ppo")]),
        r"\['dqn', 'drqn', 'random'\], got 'ppo'",
    ),
    "iqm of nothing": (lambda: iqm([]), "must not be empty"),
    "iqm of nan": (lambda: iqm([1.0, math.nan]), "must be finite, got nan"),
}


@pytest.mark.parametrize(("call", "words"), REFUSED.values(), ids=REFUSED.keys())
def test_what_makes_no_sense_is_refused(call: Callable[[], object], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        call()


def test_statistics_and_plots_import_no_learning_library_and_no_pyplot() -> None:
    heavy = ["torch", "stable_baselines3", "sb3_contrib", "rl_zoo3", "gymnasium", "drqn_sb3", "matplotlib.pyplot"]
    code = f"import sys, eval.stats, eval.plots; print([m for m in {heavy} if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"


# Coverage: how often an interval that shall hold the truth 95 times in 100 does

Shape = Callable[[Generator, tuple[int, ...]], np.ndarray]
SHAPES: dict[str, Shape] = {
    "normal": lambda generator, size: generator.standard_normal(size),
    "skewed": lambda generator, size: generator.gamma(2.0, 1.0, size),
    # Runs that learned, and the 30 in 100 that did not.
    "bimodal": lambda generator, size: np.where(
        generator.random(size) < 0.7, generator.beta(8, 2, size), generator.beta(1, 20, size)
    ),
}


def coverage(shape: str, statistic: str, n_runs: int, n_tasks: int, alike: bool = True, reps: int = 400) -> float:
    """:return: percent of simulated experiments whose interval holds the truth; an experiment is a point of a curve."""
    generator = default_rng(n_runs + n_tasks)
    places, spreads = (
        (np.zeros(n_tasks), np.ones(n_tasks)) if alike else (np.linspace(0, 3, n_tasks), np.linspace(1, 2, n_tasks))
    )
    population = SHAPES[shape](generator, (200_000, n_tasks)) * spreads + places
    truth = population.mean() if statistic == "mean" else trim_mean(population, 0.25, axis=None)
    n = 4000 if n_runs * n_tasks <= 50 else 2000
    scores = np.moveaxis(SHAPES[shape](generator, (n, n_runs, n_tasks)) * spreads + places, 0, -1)
    rows = curve_estimates({"agent": scores}, np.arange(n), seed=0, statistic=statistic, reps=reps)
    return 100 * float(((rows["low"] <= truth) & (truth <= rows["high"])).mean())


@pytest.mark.parametrize(("n_runs", "n_tasks"), [(3, 1), (5, 1), (10, 1), (3, 5), (5, 5)])
@pytest.mark.parametrize("statistic", ["iqm", "mean"])
def test_intervals_cover_the_truth_95_times_in_100(statistic: str, n_runs: int, n_tasks: int) -> None:
    assert 93 <= coverage("normal", statistic, n_runs, n_tasks, reps=250) <= 97.5


@pytest.mark.slow
@pytest.mark.parametrize("alike", [True, False], ids=["tasks alike", "tasks that differ"])
@pytest.mark.parametrize("n_tasks", [5, 10])
@pytest.mark.parametrize("n_runs", [3, 5, 10, 20])
@pytest.mark.parametrize("statistic", ["iqm", "mean"])
@pytest.mark.parametrize("shape", SHAPES)
def test_on_several_tasks_intervals_cover_whatever_the_scores_look_like(
    shape: str, statistic: str, n_runs: int, n_tasks: int, alike: bool
) -> None:
    assert 93 <= coverage(shape, statistic, n_runs, n_tasks, alike) <= 97.5


# On one task, with scores that are far from normal, a few runs do not show what the scores look like: no interval that
# knows nothing else covers then. These are the limits.
ONE_TASK = {
    ("normal", "mean"): (93, 93, 93, 93),
    ("normal", "iqm"): (93, 93, 93, 93),
    ("skewed", "mean"): (91, 90, 92, 93),
    ("skewed", "iqm"): (93, 93, 93, 93),
    ("bimodal", "mean"): (80, 84, 93, 93),
    ("bimodal", "iqm"): (87, 90, 93, 93),
}


@pytest.mark.slow
@pytest.mark.parametrize(("shape", "statistic"), ONE_TASK)
def test_on_one_task_intervals_cover_but_for_few_runs_with_odd_scores(shape: str, statistic: str) -> None:
    measured = [coverage(shape, statistic, n_runs, 1) for n_runs in (3, 5, 10, 20)]
    assert all(floor <= value <= 98 for floor, value in zip(ONE_TASK[shape, statistic], measured, strict=True)), measured


def improvement_coverage(n_runs: int, n_tasks: int, difference: float, n: int) -> float:
    generator, held = default_rng(0), 0
    shifts = difference * (np.linspace(-0.5, 1.5, n_tasks) if n_tasks > 1 else np.ones(1))
    truth = norm.cdf(shifts / math.sqrt(2)).mean()
    for _ in range(n):
        one, other = generator.standard_normal((2, n_runs, n_tasks))
        row = probability_of_improvement({"one": one + shifts, "other": other}, seed=0, reps=100).iloc[0]
        held += int(row["low"] <= truth <= row["high"])
    return 100 * held / n


def profile_coverage(n_runs: int, n_tasks: int, difference: float, n: int) -> float:
    generator, held = default_rng(0), 0
    shifts = difference * (np.linspace(-0.5, 1.5, n_tasks) if n_tasks > 1 else np.ones(1))
    truth = norm.cdf(shifts).mean()
    for _ in range(n):
        scores = generator.standard_normal((n_runs, n_tasks)) + shifts
        row = performance_profiles({"one": scores}, [0.0], seed=0, reps=100).iloc[0]
        held += int(row["low"] <= truth <= row["high"])
    return 100 * held / n


@pytest.mark.parametrize("measure", [improvement_coverage, profile_coverage])
@pytest.mark.parametrize(("n_runs", "n_tasks", "difference"), [(5, 1, 1.0), (3, 5, 1.0)])
def test_shares_and_probabilities_are_covered(
    measure: Callable[..., float], n_runs: int, n_tasks: int, difference: float
) -> None:
    assert 90 <= measure(n_runs, n_tasks, difference, n=300) <= 99.5


@pytest.mark.slow
@pytest.mark.parametrize("measure", [improvement_coverage, profile_coverage])
@pytest.mark.parametrize("difference", [0.0, 2.0])
@pytest.mark.parametrize(("n_runs", "n_tasks"), [(5, 1), (10, 1), (3, 5), (5, 5), (10, 5), (3, 10)])
def test_shares_and_probabilities_are_covered_where_they_are_extreme_too(
    measure: Callable[..., float], n_runs: int, n_tasks: int, difference: float
) -> None:
    # Of 5 runs on one task, 4 or 5 lie above the threshold that 98 in 100 do: no share in between can be seen.
    floor = 88 if (measure, n_runs, n_tasks) == (profile_coverage, 5, 1) else 91.5
    assert floor <= measure(n_runs, n_tasks, difference, n=400) <= 99.5
