"""Agents with memory beside agents without."""

from itertools import combinations, product
from typing import NamedTuple

import numpy as np
import pandas as pd

from eval.report.data import Collection
from eval.report.estimates import Estimate, Estimates, difference
from eval.report.published import game_of, reference_scores

FEWEST_RUNS = 3
"""Of each agent, for a verdict: with fewer, the spread between runs is hardly known."""


class Comparison(NamedTuple):
    """
    The best agent with memory beside the best one without, by the mean of their runs.

    :param recurrent: name of the first
    :param other: name of the second
    :param gain: how much the first is above the second
    :param improvement: the probability that a run of the first beats a run of the second
    :param farthest: the end towards 0.5 that this probability's interval would have if every run of the better one beat every
        run of the other
    """

    recurrent: str
    other: str
    gain: Estimate
    improvement: Estimate
    farthest: float

    @property
    def verdict(self) -> str:
        """``helps``, ``costs``, ``undecided``, or ``too few runs``."""
        if self.gain.n_runs < FEWEST_RUNS:
            return "too few runs"
        return "helps" if self.gain.low > 0 else "costs" if self.gain.high < 0 else "undecided"


def contestants(collection: Collection, env: str, training: str, evaluated: str) -> dict[str, np.ndarray]:
    """
    :param collection: the results
    :param env: an environment
    :param training: condition of training
    :param evaluated: condition of evaluation
    :return: agent -> scores of its runs, shape (n_runs, 1), best mean first; without those that act at random
    """
    matrix = collection.matrix(collection.select(env, training, evaluated))
    random = collection.random_agents(env)
    return {
        agent: matrix[agent] for agent in sorted(matrix, key=lambda name: (-matrix[name].mean(), name)) if agent not in random
    }


def pairs_of(agents: list[str], memory: dict[str, bool | None]) -> list[tuple[str, str]]:
    """
    :param agents: best first
    :param memory: agent -> whether it is recurrent
    :return: agents with memory, each with each without; every two where one kind is missing; the best ones first
    """
    recurrent = [agent for agent in agents if memory.get(agent)]
    others = [agent for agent in agents if memory.get(agent) is False]
    pairs = list(product(recurrent, others)) if recurrent and others else list(combinations(agents, 2))
    return sorted(pairs, key=lambda pair: agents.index(pair[0]) + agents.index(pair[1]))


def compare(estimates: Estimates, matrix: dict[str, np.ndarray], memory: dict[str, bool | None]) -> Comparison | None:
    """
    :param estimates: of the report
    :param matrix: agent -> scores of its runs, best mean first
    :param memory: agent -> whether it is recurrent
    :return: the comparison; None where one kind is missing
    """
    recurrent = next((agent for agent in matrix if memory.get(agent)), None)
    other = next((agent for agent in matrix if memory.get(agent) is False), None)
    if recurrent is None or other is None:
        return None
    gain = difference(matrix[recurrent], matrix[other])
    is_better = gain.value >= 0
    extremes = {
        "the one": np.full_like(matrix[recurrent], is_better, dtype=float),
        "the other": np.full_like(matrix[other], not is_better, dtype=float),
    }
    improvement = _improvement(estimates, matrix, recurrent, other)
    clear = _improvement(estimates, extremes, "the one", "the other")
    return Comparison(recurrent, other, gain, improvement, clear.low if is_better else clear.high)


def _improvement(estimates: Estimates, matrix: dict[str, np.ndarray], one: str, other: str) -> Estimate:
    (row,) = estimates.improvement(matrix, [(one, other)]).to_dict("records")
    return Estimate(float(row["estimate"]), float(row["low"]), float(row["high"]), min(row["n_runs"], row["n_other"]))


def learned(collection: Collection, training: str, envs: list[str]) -> dict[str, np.ndarray]:
    """
    :param collection: the results
    :param training: condition of training and of evaluation
    :param envs: environments that have reference scores
    :return: agent -> normalised scores, shape (n_runs, n_envs), best mean first; without those that act at random
    """
    matrix = normalised(collection, training, envs)
    random = {agent for env in envs for agent in collection.random_agents(env)}
    return {
        agent: matrix[agent] for agent in sorted(matrix, key=lambda name: (-matrix[name].mean(), name)) if agent not in random
    }


def measured_envs(collection: Collection, training: str) -> list[str]:
    """
    :param collection: the results
    :param training: condition of training
    :return: environments with it that have reference scores
    """
    return [env for env in collection.envs if training in collection.trainings(env) and game_of(env) in reference_scores()]


def normalised(collection: Collection, training: str, envs: list[str]) -> dict[str, np.ndarray]:
    """
    :param collection: the results
    :param training: condition of training and of evaluation
    :param envs: environments that have reference scores
    :return: agent -> normalised scores, shape (n_runs, n_envs), of the agents and seeds that are in all of them
    """
    table = _normalised(collection, training, envs).dropna()
    return {str(agent): part.to_numpy() for agent, part in table.groupby(level="agent")}


def dropped_seeds(collection: Collection, training: str, envs: list[str]) -> dict[str, list[int]]:
    """
    :param collection: the results
    :param training: condition of training and of evaluation
    :param envs: environments that have reference scores
    :return: agent -> seeds that :func:`normalised` leaves out, as they are not in all environments; of agents that it has
    """
    table = _normalised(collection, training, envs)
    dropped = table.index[table.isna().any(axis=1)]
    kept = set(normalised(collection, training, envs))
    found: dict[str, list[int]] = {}
    for agent, seed in sorted(dropped):
        if agent in kept:
            found.setdefault(str(agent), []).append(int(seed))
    return found


def _normalised(collection: Collection, training: str, envs: list[str]) -> pd.DataFrame:
    columns = {}
    for env in envs:
        rows = collection.select(env, training, training)
        columns[env] = rows.set_index(["agent", "seed"])["score"].map(reference_scores()[game_of(env)].normalise)
    return pd.DataFrame(columns)
