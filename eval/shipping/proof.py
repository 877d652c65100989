"""
Proof that two models act alike: they are shown the same games, and their actions and recurrent states are compared. So are
their weights, for actions alone tell little of those of an agent without a memory.
"""

from typing import TYPE_CHECKING, Any

import numpy as np
import torch as th

from eval.conditions import Condition
from eval.evaluation.agents import load_agent
from eval.evaluation.models import Contestant
from eval.evaluation.playing import Settings, evaluate

if TYPE_CHECKING:
    from stable_baselines3.common.base_class import BaseAlgorithm

DECISIONS = 400
N_ENVS = 2


class _SeenEnoughError(Exception):
    """The games may end: as many decisions as were asked for have been compared."""


class Twins:
    """
    Plays as one model does, and looks whether another one does the same.

    :param model: whose actions are taken
    :param other: whose actions are compared
    :param decisions: number of them after which :class:`_SeenEnoughError` ends the games
    """

    def __init__(self, model: "BaseAlgorithm", other: "BaseAlgorithm", decisions: int) -> None:
        self.observation_space, self.action_space = model.observation_space, model.action_space
        self._models = model, other
        self._left = decisions

    def predict(
        self,
        observation: Any,
        state: tuple[Any, ...] | None = None,
        episode_start: np.ndarray | None = None,
        deterministic: bool = False,
    ) -> tuple[np.ndarray, tuple[Any, ...] | None]:
        """
        Have both choose.

        :param observation: ``(n_envs, ...)``, or a dict of such
        :param state: what the last call has returned: both models' states are the same
        :param episode_start: ``(n_envs,)`` bool: whose episode has just begun
        :param deterministic: whether to take the best action
        :return: the actions and the state of the first
        :raises ValueError: if the other's differ
        """
        if self._left <= 0:
            raise _SeenEnoughError
        (actions, state_1), (others, state_2) = (
            model.predict(observation, state=state, episode_start=episode_start, deterministic=deterministic)
            for model in self._models
        )
        if not np.array_equal(actions, others):
            raise ValueError(f"the small agent must act as the trained one, which did {actions}, it did {others}")
        if not _is_same_state(state_1, state_2):
            raise ValueError("the small agent must remember what the trained one does, its recurrent states differ")
        self._left -= len(actions)
        return actions, state_1


def _is_same_state(one: tuple[Any, ...] | None, other: tuple[Any, ...] | None) -> bool:
    if one is None or other is None:
        return one is other
    return len(one) == len(other) and all(map(np.array_equal, one, other))


def check_same_play(
    trained: Contestant, small: Contestant, condition: str, first_seed: int, decisions: int = DECISIONS
) -> None:
    """
    Let both play, greedily, in the trained agent's environment, and compare their weights bit for bit.

    :param trained: the agent as training has left it
    :param small: the one to be shipped
    :param condition: that is played in
    :param first_seed: of the games
    :param decisions: number of them to compare at least
    :raises ValueError: if they differ in an action, a recurrent state or a weight, or are not made for the same environment
    """
    if trained.spec._replace(vec_normalize=None) != small.spec._replace(vec_normalize=None):
        raise ValueError(f"the small agent must be of the environment {trained.spec}, its files say {small.spec}")
    assert trained.model is not None and small.model is not None
    model, other = (load_agent(path, trained.algo, "cpu") for path in (trained.model, small.model))
    # A game has one decision at least
    settings = Settings(games=decisions + N_ENVS, first_seed=first_seed, n_envs=N_ENVS)
    try:
        evaluate(Twins(model, other, decisions), small.spec, [Condition.parse(condition)], settings)
    except _SeenEnoughError:
        _check_same_weights(model, other)
        return
    raise AssertionError("the games ended before the decisions were made")


def _check_same_weights(model: "BaseAlgorithm", other: "BaseAlgorithm") -> None:
    """But for networks by which nobody acts: targets, and online ones beside their averages."""
    ours, theirs = (_acting_weights(one.policy.state_dict()) for one in (model, other))
    differing = [name for name in {**ours, **theirs} if not _is_same_tensor(ours.get(name), theirs.get(name))]
    if differing:
        raise ValueError(f"the small agent must have the trained one's weights, got others of {', '.join(differing)}")


def _acting_weights(weights: dict[str, th.Tensor]) -> dict[str, th.Tensor]:
    averaged = {name.replace("_ema.", ".", 1) for name in weights if "_ema." in name}
    return {name: tensor for name, tensor in weights.items() if "_target." not in name and name not in averaged}


def _is_same_tensor(one: th.Tensor | None, other: th.Tensor | None) -> bool:
    return one is not None and other is not None and one.dtype == other.dtype and th.equal(one, other)
