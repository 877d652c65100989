"""The results as one table of scores: a row per run and condition. A run is one agent, trained once."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from eval.conditions import NORMAL, Condition
from eval.report.published import game_of, reference_scores
from eval.results import Result

NOT_TRAINED = "not trained here"
"""Stands for the training condition of agents that were not trained, or on something else, or nobody knows on what."""

RECURRENT_ALGOS = frozenset({"drqn", "ppo_lstm"})
RANDOM_AGENT = "RandomAgent"


def trained_on(result: Result) -> str:
    """
    :param result: a result
    :return: the condition of observation in training, as a canonical text, or :data:`NOT_TRAINED`
    """
    is_elsewhere = result.facts["trained_env"] not in (None, result.env)
    return NOT_TRAINED if result.condition is None or is_elsewhere else str(Condition.parse(result.condition))


def is_plug_in(result: Result) -> bool:
    """
    :param result: a result
    :return: whether its agent is made by a piece of code, not by training
    """
    return "." in result.algo or ":" in result.algo


def has_memory(result: Result) -> bool | None:
    """
    :param result: a result
    :return: whether the agent's network is recurrent; None where that can't be known (a plug-in)
    """
    if result.algo in RECURRENT_ALGOS or "lstm" in str(result.facts["config"].get("policy", "")).lower():
        return True
    return None if is_plug_in(result) else False


def is_random(result: Result) -> bool:
    """
    :param result: a result
    :return: whether the agent acts at random
    """
    return result.algo.replace(":", ".").rsplit(".", 1)[-1] == RANDOM_AGENT


def frame_stack(result: Result) -> int:
    """
    :param result: a result
    :return: observations that the agent sees at once, by its config
    """
    value = result.facts["config"].get("frame_stack")
    return int(value) if isinstance(value, int | float) else 1


@dataclass(frozen=True)
class Anchor:
    """
    The score that counts as nothing learned.

    :param score: the score
    :param source: where it is from
    :param is_known: whether it is that of random actions
    """

    score: float
    source: str
    is_known: bool = True


class Collection:
    """
    Results that have been checked.

    :param results: each env, agent, condition and seed once
    """

    def __init__(self, results: Sequence[Result]) -> None:
        self.results = sorted(results, key=sort_key)

    @cached_property
    def scores(self) -> pd.DataFrame:
        """
        A row per run and condition of evaluation: env, agent, trained, seed (-1 for none), evaluated, steps, games, and the
        means of its games: score, length, won, lost.
        """
        frames = [_summarise(result) for result in self.results]
        return pd.concat(frames, ignore_index=True)

    @property
    def agents(self) -> list[str]:
        """Names of all agents, sorted: their order decides how they are drawn."""
        return sorted({result.agent for result in self.results})

    @property
    def envs(self) -> list[str]:
        """Environments, sorted."""
        return sorted({result.env for result in self.results})

    @property
    def all_trainings(self) -> list[str]:
        """Conditions of training in any environment, normal first."""
        return sorted({training for env in self.envs for training in self.trainings(env)}, key=condition_key)

    def of(self, env: str) -> list[Result]:
        """
        :param env: an environment
        :return: its results
        """
        return [result for result in self.results if result.env == env]

    def trainings(self, env: str) -> list[str]:
        """
        :param env: an environment
        :return: conditions that agents were trained in, normal first; ``normal`` alone where none was trained here
        """
        found = {trained_on(result) for result in self.of(env)} - {NOT_TRAINED}
        return sorted(found, key=condition_key) or [NORMAL]

    def select(self, env: str, training: str, evaluated: str | None = None) -> pd.DataFrame:
        """
        :param env: an environment
        :param training: condition of training: agents that were not trained here belong to each
        :param evaluated: condition of evaluation, None for all
        :return: rows of :attr:`scores`
        """
        rows = self.scores
        rows = rows[(rows["env"] == env) & rows["trained"].isin([training, NOT_TRAINED])]
        return rows if evaluated is None else rows[rows["evaluated"] == evaluated]

    def matrix(self, rows: pd.DataFrame, column: str = "score") -> dict[str, np.ndarray]:
        """
        :param rows: of :attr:`scores`, of one env and one condition of evaluation
        :param column: of numbers
        :return: agent -> its runs' values, shape (n_runs, 1)
        """
        return {str(agent): part.sort_values("seed")[column].to_numpy()[:, None] for agent, part in rows.groupby("agent")}

    def memory(self, env: str) -> dict[str, bool | None]:
        """
        :param env: an environment
        :return: agent -> whether it is recurrent; None where that can't be known, or where it was not trained like the others
        """
        return {result.agent: None if trained_on(result) == NOT_TRAINED else has_memory(result) for result in self.of(env)}

    def random_agents(self, env: str) -> set[str]:
        """
        :param env: an environment
        :return: names of the agents that act at random
        """
        return {result.agent for result in self.of(env) if is_random(result)}

    def anchor(self, env: str) -> Anchor:
        """
        :param env: an environment
        :return: the random agent's score on normal observations, from these results, else as published, else 0
        """
        rows = self.scores
        own = rows[(rows["env"] == env) & rows["agent"].isin(self.random_agents(env)) & (rows["evaluated"] == NORMAL)]
        if len(own):
            return Anchor(float(own["score"].mean()), "the random agent of these results")
        reference = reference_scores().get(game_of(env))
        if reference is not None:
            return Anchor(reference.random, f"random actions as published: {reference.source}")
        return Anchor(0.0, "no score of random actions is known, so 0 stands in its place", is_known=False)


def condition_key(condition: str) -> tuple[bool, int, tuple[tuple[str, float], ...]]:
    """
    :param condition: of observation
    :return: to sort by: normal first, then fewer parts first, then by kind and level, much seen before little
    """
    if condition == NOT_TRAINED:
        return True, 0, ()
    parts = Condition.parse(condition).parts
    levels = tuple((part.kind, (-1 if part.kind == "flicker" else 1) * (part.level or 0.0)) for part in parts)
    return False, len(parts), levels


def sort_key(result: Result) -> tuple[Any, ...]:
    """
    :param result: a result
    :return: to sort by: env, agent, training condition, seed
    """
    return result.env, result.agent, condition_key(trained_on(result)), -1 if result.seed is None else result.seed


def _summarise(result: Result) -> pd.DataFrame:
    games = result.episodes()
    games["evaluated"] = [str(Condition.parse(text)) for text in games["condition"]]
    means = games.groupby("evaluated", sort=False)[["score", "length", "won", "lost"]].mean()
    means["games"] = games.groupby("evaluated", sort=False).size()
    facts: dict[str, Any] = {"env": result.env, "agent": result.agent, "trained": trained_on(result)}
    facts |= {"seed": -1 if result.seed is None else result.seed, "steps": result.steps}
    return means.reset_index().assign(**facts)
