"""
Interval estimates over runs, on rliable's stratified bootstrap (Agarwal et al. 2021, https://arxiv.org/abs/2108.13264).

Scores are arrays ``(n_runs, n_tasks)`` or, at several points, ``(n_runs, n_tasks, n_points)``; a run's score on a task is
one number. Runs are what is resampled, within each task: the intervals speak of other seeds on the same tasks.

Percentiles of the resamples, rliable's default, cover far too seldom with the few runs one can afford (73 instead of 95 %
with 3 runs on a task). So the interval is the estimate plus and minus Student's quantile times the bootstrap's standard
error, both corrected for the number of runs, and reaches at least as far as the percentiles do once these are corrected
too. Shares and probabilities, which end at 0 and 1, get score intervals. ``tests/eval/test_stats.py`` holds what they
cover. With one run there is an estimate and no interval: low and high are NaN.

Imports neither PyTorch, Stable-Baselines3 nor Gymnasium, and knows no plotting.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd
from rliable.library import StratifiedBootstrap, StratifiedIndependentBootstrap
from scipy.stats import norm
from scipy.stats import t as student

CUT = 0.25  # the share of scores that the interquartile mean leaves out at either end

Statistic = Callable[[np.ndarray], np.ndarray]


def _pooled_iqm(scores: np.ndarray) -> np.ndarray:
    """
    :param scores: ``(n_runs, n_tasks, n_points)``
    :return: ``(n_points,)``, as SciPy's ``trim_mean`` of all runs and tasks together
    """
    pooled = scores.reshape(-1, scores.shape[-1])  # (n_runs, n_tasks, n_points) -> (n_runs * n_tasks, n_points)
    n = len(pooled)
    cut = int(CUT * n)
    return np.partition(pooled, (cut, n - cut - 1), axis=0)[cut : n - cut].mean(axis=0)


def _pooled_mean(scores: np.ndarray) -> np.ndarray:
    """
    :param scores: ``(n_runs, n_tasks, n_points)``
    :return: ``(n_points,)``
    """
    return scores.mean(axis=(0, 1))


STATISTICS: dict[str, Statistic] = {"iqm": _pooled_iqm, "mean": _pooled_mean}


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """
    Seed NumPy's global generator for a while: rliable draws from it, whatever ``random_state`` it is given.

    :param seed: 0 to 2**32 - 1; the generator's state is put back afterwards
    :raises ValueError: if the seed is out of range
    """
    if not 0 <= seed < 2**32:
        raise ValueError(f"seed must be between 0 and 2**32 - 1, got {seed}")
    state = np.random.get_state()
    np.random.seed(seed)
    try:
        yield
    finally:
        np.random.set_state(state)


def _checked(scores: Mapping[str, Any], axes: Sequence[str]) -> dict[str, np.ndarray]:
    """
    :param scores: agent -> array
    :param axes: names of the array's axes; agents may differ in the first
    :return: agent -> float64 array
    :raises ValueError: if there is no agent, or an array is empty, of another shape or not finite
    """
    if not scores:
        raise ValueError("scores must hold at least one agent, got none")
    arrays = {agent: np.array(values, dtype=np.float64, order="C") for agent, values in scores.items()}
    first, reference = next(iter(arrays.items()))
    for agent, array in arrays.items():
        if array.ndim != len(axes):
            raise ValueError(f"scores of {agent!r} must have the axes ({', '.join(axes)}), got the shape {array.shape}")
        if array.size == 0:
            raise ValueError(f"scores of {agent!r} must not be empty, got the shape {array.shape}")
        if array.shape[1:] != reference.shape[1:]:
            raise ValueError(
                f"all agents must have the same {' and '.join(axes[1:])}, got {array.shape[1:]} for {agent!r} "
                f"and {reference.shape[1:]} for {first!r}"
            )
        if not np.isfinite(array).all():
            where = tuple(int(i) for i in np.argwhere(~np.isfinite(array))[0])
            raise ValueError(f"scores of {agent!r} must be finite, got {array[where]} at {where}; leave incomplete runs out")
    return arrays


def _check_options(confidence: float, reps: int) -> None:
    """
    :param confidence: of the intervals
    :param reps: resamples of the bootstrap
    :raises ValueError: if either is out of range
    """
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must be between 0 and 1, got {confidence}")
    if reps < 100:
        raise ValueError(f"reps must be at least 100, got {reps}: fewer resamples have no tails")


def _find_statistic(name: str) -> Statistic:
    """
    :param name: of the statistic
    :return: it
    :raises ValueError: if there is none of that name
    """
    if name not in STATISTICS:
        raise ValueError(f"statistic must be one of {sorted(STATISTICS)}, got {name!r}")
    return STATISTICS[name]


def iqm(scores: Any) -> float:
    """
    The interquartile mean: the mean of the middle half of all runs on all tasks. Below 4 scores it is the mean.

    :param scores: at least one, an array of any shape
    :return: their 25 % trimmed mean
    :raises ValueError: if they are empty or not finite
    """
    array = _checked({"the agent": np.asarray(scores).reshape(-1)}, ["score"])["the agent"]
    return float(_pooled_iqm(array.reshape(-1, 1, 1))[0])


def _degrees_of_freedom(scores: np.ndarray, statistic: str) -> np.ndarray:
    """
    Welch and Satterthwaite's: each task's spread is estimated from its own runs.

    For the interquartile mean, the spread is of scores clipped to the middle half's ends: a task that lies outside of it
    has no say in the mean's error.

    :param scores: ``(n_runs, n_tasks, n_points)``, at least 2 runs
    :param statistic: its name
    :return: ``(n_points,)``, from ``n_runs - 1`` to ``n_tasks * (n_runs - 1)``
    """
    n_runs, n_tasks, _ = scores.shape
    if statistic == "iqm":
        n = n_runs * n_tasks
        cut = int(CUT * n)
        ordered = np.sort(scores.reshape(n, -1), axis=0)  # (n_runs * n_tasks, n_points)
        scores = np.clip(scores, ordered[cut], ordered[n - cut - 1])
    variances = scores.var(axis=0, ddof=1)  # (n_tasks, n_points)
    largest = variances.max(axis=0)
    shares = np.divide(variances, largest, out=np.zeros_like(variances), where=largest > 0)
    squares = (shares**2).sum(axis=0)
    return (n_runs - 1) * np.divide(shares.sum(axis=0) ** 2, squares, out=np.ones_like(squares), where=squares > 0)


def _resampled(scores: np.ndarray, function: Statistic, reps: int) -> np.ndarray:
    """
    Runs are drawn, not numbers: all points of a run stay together, so that neighbouring points get similar intervals.

    :param scores: ``(n_runs, n_tasks, n_points)``
    :return: ``(reps, n_points)``, the statistic of each resample
    """
    n_runs, n_tasks, _ = scores.shape
    tasks = np.arange(n_tasks)
    runs = np.repeat(np.arange(n_runs)[:, None], n_tasks, axis=1)  # (n_runs, n_tasks)
    return StratifiedBootstrap(runs).apply(lambda drawn: function(scores[drawn, tasks]), reps)


def _estimate(
    scores: np.ndarray, statistic: str, *, seed: int, confidence: float, reps: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """
    :param scores: ``(n_runs, n_tasks, n_points)``
    :return: estimate, low and high, each ``(n_points,)``; low and high are NaN if there is one run
    """
    function = _find_statistic(statistic)
    estimate, n_runs = function(scores), len(scores)
    if n_runs == 1:
        return estimate, np.full_like(estimate, np.nan), np.full_like(estimate, np.nan)
    with seeded(seed):
        errors = _resampled(scores, function, reps) - estimate  # (reps, n_points)
    inflation = np.sqrt(n_runs / (n_runs - 1))  # resamples spread as if n_runs were the divisor of the variance
    tail = (1 - confidence) / 2
    reach = student.ppf(1 - tail, _degrees_of_freedom(scores, statistic)) * errors.std(axis=0) * inflation
    expanded = norm.cdf(norm.ppf(tail) * inflation)
    below, above = np.quantile(errors, (expanded, 1 - expanded), axis=0)
    return estimate, estimate + np.minimum(below, -reach), estimate + np.maximum(above, reach)


def interval_estimates(
    scores: Mapping[str, Any], statistic: str = "iqm", *, seed: int, confidence: float = 0.95, reps: int = 2000
) -> pd.DataFrame:
    """
    An aggregate score per agent. An agent's row depends on nothing but its own scores and the options.

    :param scores: agent -> ``(n_runs, n_tasks)``; the agents may differ in runs, not in tasks
    :param statistic: ``iqm`` or ``mean``
    :param seed: of the bootstrap
    :param confidence: the probability with which an interval shall cover the truth
    :param reps: resamples of the bootstrap
    :return: a row per agent: agent, n_runs, n_tasks, estimate, low, high
    :raises ValueError: if scores or options are not as said
    """
    _check_options(confidence, reps)
    rows = []
    for agent, array in _checked(scores, ["n_runs", "n_tasks"]).items():
        estimate, low, high = _estimate(array[..., None], statistic, seed=seed, confidence=confidence, reps=reps)
        rows.append((agent, *array.shape, estimate[0], low[0], high[0]))
    return pd.DataFrame(rows, columns=["agent", "n_runs", "n_tasks", "estimate", "low", "high"])


def curve_estimates(
    scores: Mapping[str, Any],
    steps: Sequence[float] | np.ndarray,
    *,
    seed: int,
    statistic: str = "iqm",
    x: str = "steps",
    confidence: float = 0.95,
    reps: int = 2000,
) -> pd.DataFrame:
    """
    An aggregate score per agent and point, as :func:`interval_estimates` has it: each interval is for its point alone.

    :param scores: agent -> ``(n_runs, n_points)``, or ``(n_runs, n_tasks, n_points)`` for a curve over several tasks
    :param steps: ``(n_points,)``, the points' place, each once: agent steps, or an observation probability
    :param seed: of the bootstrap
    :param statistic: ``iqm`` or ``mean``
    :param x: the column of ``steps``
    :param confidence: the probability with which an interval shall cover the truth
    :param reps: resamples of the bootstrap
    :return: a row per agent and point: agent, steps, estimate, low, high, n_runs, n_tasks
    :raises ValueError: if scores, steps or options are not as said
    """
    _check_options(confidence, reps)
    places = np.asarray(steps)
    whole = {agent: np.expand_dims(a, 1) if np.ndim(a) == 2 else np.asarray(a) for agent, a in scores.items()}
    frames = []
    for agent, array in _checked(whole, ["n_runs", "n_tasks", "n_points"]).items():
        if places.shape != array.shape[2:] or len(np.unique(places)) != len(places):
            raise ValueError(f"steps must be {array.shape[2]} different points, as scores has, got {places.tolist()}")
        estimate, low, high = _estimate(array, statistic, seed=seed, confidence=confidence, reps=reps)
        columns = {x: places, "estimate": estimate, "low": low, "high": high}
        frames.append(pd.DataFrame({"agent": agent, **columns, "n_runs": len(array), "n_tasks": array.shape[1]}))
    return pd.concat(frames, ignore_index=True)


def _score_interval(
    estimate: np.ndarray, errors: np.ndarray, variance: Statistic, n_tasks: int, dof: int, confidence: float
) -> tuple[np.ndarray, np.ndarray]:
    """
    The probabilities that would not be surprised by the estimate: Wilson's way.

    Unlike a standard error, it does not shrink to nothing where all runs agree. Several tasks that differ spread less than
    ``variance`` says: then the bootstrap's variance, which knows the tasks, scales it down.

    :param estimate: ``(n_points,)``, 0 to 1
    :param errors: ``(reps, n_points)``, resamples less the estimate, corrected for the number of runs
    :param variance: of the estimate, given the true probability, if all tasks are alike
    :param dof: degrees of freedom of the bootstrap's variance
    :return: low and high, each ``(n_points,)``
    """
    tail, scale = (1 - confidence) / 2, np.ones_like(estimate)
    reach = norm.ppf(1 - tail)
    if n_tasks > 1:
        spread, alike = errors.var(axis=0), variance(estimate)
        known = (spread > 0) & (alike > 0)
        scale = np.minimum(1.0, np.divide(spread, alike, out=scale, where=known))
        reach = student.ppf(1 - tail, dof)
    ends = []
    for end in (np.zeros_like(estimate), np.ones_like(estimate)):
        far, near = end, estimate
        for _ in range(50):
            middle = (far + near) / 2
            surprised = np.abs(estimate - middle) > reach * np.sqrt(scale * variance(middle))
            far, near = np.where(surprised, middle, far), np.where(surprised, near, middle)
        ends.append(np.where(np.abs(far - end) < 1e-12, end, near))
    return ends[0], ends[1]


def _profile(scores: np.ndarray, taus: np.ndarray, *, seed: int, confidence: float, reps: int) -> dict[str, np.ndarray]:
    """
    :param scores: ``(n_runs, n_tasks)``
    :param taus: ``(n_points,)``
    :return: the columns fraction, low and high, each ``(n_points,)``
    """
    above = (scores[..., None] > taus).astype(np.float64)  # (n_runs, n_tasks, n_points)
    n_runs, n_tasks, _ = above.shape
    fraction = _pooled_mean(above)
    low = high = np.full_like(fraction, np.nan)
    if n_runs > 1:
        with seeded(seed):
            errors = (_resampled(above, _pooled_mean, reps) - fraction) * np.sqrt(n_runs / (n_runs - 1))
        dof = n_tasks * (n_runs - 1)
        low, high = _score_interval(fraction, errors, lambda p: p * (1 - p) / scores.size, n_tasks, dof, confidence)
    return {"fraction": fraction, "low": low, "high": high}


def performance_profiles(
    scores: Mapping[str, Any],
    thresholds: Sequence[float] | np.ndarray,
    *,
    seed: int,
    confidence: float = 0.95,
    reps: int = 2000,
) -> pd.DataFrame:
    """
    The share of runs, over all tasks, that score above a threshold. Each interval is for its threshold alone.

    :param scores: agent -> ``(n_runs, n_tasks)``; the agents may differ in runs, not in tasks
    :param thresholds: ``(n_thresholds,)``, at least one
    :param seed: of the bootstrap
    :param confidence: the probability with which an interval shall cover the truth
    :param reps: resamples of the bootstrap
    :return: a row per agent and threshold: agent, threshold, fraction, low, high, n_runs, n_tasks
    :raises ValueError: if scores, thresholds or options are not as said
    """
    _check_options(confidence, reps)
    taus = np.asarray(thresholds, dtype=np.float64)
    if taus.ndim != 1 or taus.size == 0 or not np.isfinite(taus).all():
        raise ValueError(f"thresholds must be one axis of finite numbers, at least one, got {taus.tolist()}")
    frames = []
    for agent, array in _checked(scores, ["n_runs", "n_tasks"]).items():
        columns = _profile(array, taus, seed=seed, confidence=confidence, reps=reps)
        n_runs, n_tasks = array.shape
        frames.append(pd.DataFrame({"agent": agent, "threshold": taus, **columns, "n_runs": n_runs, "n_tasks": n_tasks}))
    return pd.concat(frames, ignore_index=True)


def _improvement(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """
    Mann and Whitney's statistic as a share of the pairs, a tie being half, averaged over tasks.

    :param one: ``(n_runs, n_tasks)``
    :param other: ``(n_other, n_tasks)``
    :return: ``(1,)``
    """
    differences = one[:, None] - other[None]  # (n_runs, n_other, n_tasks)
    return np.array([(np.sign(differences).mean() + 1) / 2])


def _improvement_variance(n_runs: int, n_other: int, n_tasks: int) -> Statistic:
    """
    Hanley and McNeil's variance with the mean sample size: method 5 of Newcombe (2006, Statistics in Medicine 25, 559-573).

    :return: true probability -> variance of the estimate
    """
    size = (n_runs + n_other) / 2 - 1

    def variance(p: np.ndarray) -> np.ndarray:
        return p * (1 - p) * (1 + size * ((1 - p) / (2 - p) + p / (1 + p))) / (n_runs * n_other * n_tasks)

    return variance


def _compare(one: np.ndarray, other: np.ndarray, *, seed: int, confidence: float, reps: int) -> tuple[float, float, float]:
    """
    :param one: ``(n_runs, n_tasks)``
    :param other: ``(n_other, n_tasks)``
    :return: estimate, low and high
    """
    (n_runs, n_tasks), n_other = one.shape, len(other)
    estimate, fewest = _improvement(one, other), min(n_runs, n_other)
    if fewest == 1:
        return float(estimate[0]), np.nan, np.nan
    with seeded(seed):
        errors = StratifiedIndependentBootstrap(one, other).apply(_improvement, reps) - estimate
    errors *= np.sqrt(fewest / (fewest - 1))
    variance, dof = _improvement_variance(n_runs, n_other, n_tasks), n_tasks * (n_runs + n_other - 2)
    low, high = _score_interval(estimate, errors, variance, n_tasks, dof, confidence)
    return float(estimate[0]), float(low[0]), float(high[0])


def probability_of_improvement(
    scores: Mapping[str, Any],
    *,
    seed: int,
    pairs: Sequence[tuple[str, str]] | None = None,
    confidence: float = 0.95,
    reps: int = 2000,
) -> pd.DataFrame:
    """
    How probable it is that a run of one agent scores above a run of the other, on a task drawn at random.

    :param scores: agent -> ``(n_runs, n_tasks)``; the agents may differ in runs, not in tasks
    :param seed: of the bootstrap
    :param pairs: which to compare; every two, in the order of ``scores``, if ``None``
    :param confidence: the probability with which an interval shall cover the truth
    :param reps: resamples of the bootstrap
    :return: a row per pair: agent, other, estimate, low, high, n_runs, n_other, n_tasks
    :raises ValueError: if scores, pairs or options are not as said
    """
    _check_options(confidence, reps)
    arrays, rows = _checked(scores, ["n_runs", "n_tasks"]), []
    for agent, other in list(combinations(arrays, 2)) if pairs is None else pairs:
        unknown = [name for name in (agent, other) if name not in arrays]
        if unknown:
            raise ValueError(f"pairs must be of agents in scores, {sorted(arrays)}, got {unknown[0]!r}")
        one, two = arrays[agent], arrays[other]
        interval = _compare(one, two, seed=seed, confidence=confidence, reps=reps)
        rows.append((agent, other, *interval, len(one), len(two), one.shape[1]))
    columns = ["agent", "other", "estimate", "low", "high", "n_runs", "n_other", "n_tasks"]
    return pd.DataFrame(rows, columns=columns)
