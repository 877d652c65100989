"""Play whole games with an agent, several environments at once, and note what each has come to."""

import math
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from eval.conditions import Condition
from eval.evaluation.agents import Agent, fit_env, seed_agent
from eval.evaluation.environments import EnvSpec, check_conditions, make_env
from eval.evaluation.games import FINISHED, Row
from eval.results import EPISODE_COLUMNS


class Settings(NamedTuple):
    """
    How games are played.

    :param games: number of them per condition
    :param first_seed: seed of the first; the others' follow
    :param n_envs: environments at once
    :param deterministic: whether the agent takes its best action, rather than to draw one
    :param epsilon: probability that an action drawn uniformly takes the place of the agent's
    """

    games: int = 100
    first_seed: int = 1_000_000
    n_envs: int = 8
    deterministic: bool = True
    epsilon: float = 0.0


def evaluate(
    agent: Agent,
    spec: EnvSpec,
    conditions: Sequence[Condition],
    settings: Settings,
    on_progress: Callable[[str, int], None] | None = None,
) -> pd.DataFrame:
    """
    Play games under each of the conditions: the same ones, as far as the environment's seed decides.

    A game depends on the agent, the environment, the condition and its seed; not on what else is played, nor on ``n_envs``.
    Excepted are agents that draw their own actions (plug-ins, and models with ``deterministic=False``), and the last bits of
    a network's outputs, which may differ with the number of observations that it is given at once.

    :param agent: who plays
    :param spec: where
    :param conditions: what is to be seen
    :param settings: how
    :param on_progress: is told the condition and how many of its games have been played, each time there are more
    :return: a row per game, columns :data:`~eval.results.EPISODE_COLUMNS`, in the conditions' order, by number
    :raises ValueError: if a setting is out of bounds, or the agent, the environment and a condition do not go together: before
        any game; or if a score is not finite
    """
    check_agent(agent, spec, conditions, settings)
    rows = []
    for condition in conditions:
        played: list[Row] = []
        for row in _play(agent, spec, condition, settings):
            if not math.isfinite(row.score):
                raise ValueError(
                    f"{spec.env_id}: game {row.game} (seed {row.seed}) under {condition} ended with a score of {row.score}"
                )
            played.append(row)
            if on_progress is not None:
                on_progress(str(condition), len(played))
        rows += [(str(condition), *row) for row in sorted(played)]
    return pd.DataFrame(rows, columns=list(EPISODE_COLUMNS)).astype(EPISODE_COLUMNS)


def check_agent(agent: Agent, spec: EnvSpec, conditions: Sequence[Condition], settings: Settings) -> None:
    """
    Find what would keep games from being played, without playing one.

    :param agent: who is to play
    :param spec: where
    :param conditions: what is to be seen
    :param settings: how
    :raises ValueError: if a setting is out of bounds, or the agent, the environment and a condition do not go together
    """
    for name, lowest in (("games", 1), ("first_seed", 0), ("n_envs", 1)):
        value = getattr(settings, name)
        if isinstance(value, bool) or not isinstance(value, int) or value < lowest:
            raise ValueError(f"{name} must be a whole number of at least {lowest}, got {value!r}")
    if not 0 <= settings.epsilon <= 1:
        raise ValueError(f"epsilon must be from 0 to 1, got {settings.epsilon!r}")
    check_conditions(spec, conditions, lambda env: fit_env(agent, env))


def _play(agent: Agent, spec: EnvSpec, condition: Condition, settings: Settings) -> Iterator[Row]:
    seed_agent(agent, settings.first_seed, settings.deterministic)
    bare = make_env(spec, condition, settings.first_seed, settings.games, settings.n_envs, epsilon=settings.epsilon)
    try:
        env = fit_env(agent, bare)
        obs, state, starts = env.reset(), None, np.ones(env.num_envs, bool)
        n_left = settings.games
        while n_left > 0:
            actions, state = agent.predict(obs, state=state, episode_start=starts, deterministic=settings.deterministic)
            obs, _, starts, infos = env.step(actions)
            rows = [row for info in infos for row in info.get(FINISHED, ())]
            n_left -= len(rows)
            yield from rows
    finally:
        bare.close()
