"""Estimates with intervals, each made once with the report's seed."""

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy.stats import t as student

from eval import stats
from eval.report.data import Collection

CONFIDENCE = 0.95
FEWEST_FOR_BANDS = 3
"""Runs. With two, Student's quantile is 12.7: the table says so, a figure would show nothing else."""


class Options(NamedTuple):
    """
    :param seed: of every bootstrap
    :param reps: its resamples
    """

    seed: int = 0
    reps: int = 2000


class Estimate(NamedTuple):
    """
    A number with its interval.

    :param value: the estimate
    :param low: lower end, NaN where there is no interval
    :param high: upper end, likewise
    :param n_runs: that it is estimated from
    """

    value: float
    low: float
    high: float
    n_runs: int


class Estimates:
    """
    :param collection: the results
    :param options: of the bootstrap
    """

    def __init__(self, collection: Collection, options: Options) -> None:
        self.collection = collection
        self.options = options
        self._known: dict[tuple[str, tuple[int, ...], bytes], pd.DataFrame] = {}

    def references(self, env: str, drawn: Iterable[str] = ()) -> dict[str, float]:
        """
        :param env: an environment
        :param drawn: agents that are drawn anyway
        :return: lines to draw: the score of random actions, where it is known and not drawn anyway
        """
        if self.collection.random_agents(env) & set(drawn):
            return {}
        anchor = self.collection.anchor(env)
        return {"random actions": anchor.score} if anchor.is_known else {}

    def scores(self, env: str, training: str, evaluated: str, statistic: str, column: str = "score") -> pd.DataFrame:
        """
        :param env: an environment
        :param training: condition of training
        :param evaluated: condition of evaluation
        :param statistic: ``iqm`` or ``mean``
        :param column: of the table of scores
        :return: a row per agent: agent, n_runs, n_tasks, estimate, low, high; none where nothing was evaluated so
        """
        rows = self.collection.select(env, training, evaluated)
        return self.of(self.collection.matrix(rows, column), statistic)

    def of(self, matrix: Mapping[str, np.ndarray], statistic: str) -> pd.DataFrame:
        """
        :param matrix: agent -> scores of its runs, shape (n_runs, n_tasks)
        :param statistic: ``iqm`` or ``mean``
        :return: as :func:`eval.stats.interval_estimates`; no rows where there are no agents
        """
        if not matrix:
            return pd.DataFrame(columns=["agent", "n_runs", "n_tasks", "estimate", "low", "high"])
        # An agent's row depends on nothing but its own scores, and the same scores are asked for in several sections
        rows = []
        for agent, values in matrix.items():
            key = statistic, values.shape, values.astype(float).tobytes()
            if key not in self._known:
                options = self.options._asdict()
                self._known[key] = stats.interval_estimates({"": values}, statistic, confidence=CONFIDENCE, **options)
            rows.append(self._known[key].assign(agent=agent))
        return pd.concat(rows, ignore_index=True)

    def curves(self, matrix: Mapping[str, np.ndarray], points: Sequence[float], x: str = "steps") -> pd.DataFrame:
        """
        :param matrix: agent -> scores of its runs, shape (n_runs, n_points)
        :param points: of the horizontal axis
        :param x: name of the column of points
        :return: as :func:`eval.stats.curve_estimates`, with means
        """
        options = self.options._asdict()
        return stats.curve_estimates(matrix, points, x=x, statistic="mean", confidence=CONFIDENCE, **options)

    def improvement(self, matrix: Mapping[str, np.ndarray], pairs: Sequence[tuple[str, str]] | None = None) -> pd.DataFrame:
        """
        :param matrix: agent -> scores of its runs, shape (n_runs, n_tasks)
        :param pairs: agents to compare, by default every two
        :return: as :func:`eval.stats.probability_of_improvement`
        """
        return stats.probability_of_improvement(matrix, pairs=pairs, confidence=CONFIDENCE, **self.options._asdict())

    def profiles(self, matrix: Mapping[str, np.ndarray]) -> pd.DataFrame:
        """
        :param matrix: agent -> scores of its runs, shape (n_runs, n_tasks)
        :return: as :func:`eval.stats.performance_profiles`, at 101 thresholds over the range of the scores
        """
        scores = np.concatenate([values.ravel() for values in matrix.values()])
        margin = 0.05 * (scores.max() - scores.min()) or 1.0
        thresholds = np.linspace(scores.min() - margin, scores.max() + margin, 101)
        return stats.performance_profiles(matrix, thresholds, confidence=CONFIDENCE, **self.options._asdict())


def with_bands(curves: pd.DataFrame) -> pd.DataFrame:
    """
    :param curves: agent, low, high, n_runs
    :return: to be drawn: without intervals of fewer than :data:`FEWEST_FOR_BANDS` runs, which would fill the figure
    """
    has_band = curves["n_runs"] >= FEWEST_FOR_BANDS
    return curves.assign(low=curves["low"].where(has_band), high=curves["high"].where(has_band))


def band_words(curves: pd.DataFrame, lines: str) -> str:
    """
    :param curves: what is drawn, as :func:`with_bands` has it
    :param lines: what its lines are
    :return: for the figure's foot: bands are named where there are some
    """
    return f"{lines}, band: 95 % interval" if curves["low"].notna().any() else lines


def difference(one: np.ndarray, other: np.ndarray) -> Estimate:
    """
    Difference of two means, with Welch's interval: the agents' runs may spread differently, and the tasks too.

    :param one: scores of an agent's runs, shape (n_runs, n_tasks)
    :param other: of another's, shape (n_other, n_tasks)
    :return: how much the first is above the second, and the fewer of both's runs; no interval if that is one
    """
    value, n_runs = float(one.mean() - other.mean()), min(len(one), len(other))
    if n_runs < 2:
        return Estimate(value, np.nan, np.nan, n_runs)
    n_tasks = one.shape[1]
    variances = np.array([scores.var(axis=0, ddof=1) / len(scores) / n_tasks**2 for scores in (one, other)])  # (2, n_tasks)
    squares = float((variances**2 / np.array([[len(one) - 1], [len(other) - 1]])).sum())
    dof = float(variances.sum() ** 2 / squares) if squares > 0 else 1.0
    reach = float(student.ppf((1 + CONFIDENCE) / 2, dof) * np.sqrt(variances.sum()))
    return Estimate(value, value - reach, value + reach, n_runs)


def ratio(above: np.ndarray, below: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """
    Ratio of two means over the same runs, with the delta method's interval and Student's quantile: a run that is good above
    is good below, so what counts is by how much the runs' pairs miss the common ratio.

    :param above: of the runs, shape (n_runs, n_points)
    :param below: of the same runs, shape (n_runs,), of a mean above 0
    :return: ratio, low and high, each of shape (n_points,); no interval for one run
    """
    n_runs, divisor = len(below), below.mean()
    value = above.mean(axis=0) / divisor
    if n_runs < 2:
        return value, np.full_like(value, np.nan), np.full_like(value, np.nan)
    missed = above - below[:, None] * value  # (n_runs, n_points), of mean 0
    errors = missed.std(axis=0, ddof=1) / np.sqrt(n_runs) / divisor
    reach = student.ppf((1 + CONFIDENCE) / 2, n_runs - 1) * errors
    return value, value - reach, value + reach
