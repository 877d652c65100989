"""A wrapper that tells an agent what it did last."""

from typing import Any, SupportsFloat

import gymnasium as gym
import numpy as np
from gymnasium import spaces

OBSERVATION = "observation"
LAST_ACTION = "last_action"


class LastAction(gym.Wrapper, gym.utils.RecordConstructorArgs):
    """
    Show, beside each observation, the action that led to it: what an agent did is part of what it knows.

    A recurrent agent that acts on Q-values alone has to work out what it did, and where it explored it can't. With the action
    as an input its memory can follow where its actions take it while it sees nothing (Zhu et al. 2017, arXiv 1704.07978).

    Observations become dicts, for ``MultiInputLstmPolicy``: ``"observation"``, or the entries of a dict observation, and
    ``"last_action"``, ``(n_actions,)``, one where the action is and zeros elsewhere; zeros only at an episode's start.

    It belongs outside of everything that hides observations: nobody's own actions are hidden from them.

    In a zoo config::

        env_wrapper:
          - drqn_sb3.wrappers.FlickerObservation
          - drqn_sb3.last_action.LastAction
        policy: 'MultiInputLstmPolicy'

    In Python::

        >>> import gymnasium as gym
        >>> from drqn_sb3 import LastAction
        >>> env = LastAction(gym.make("CartPole-v1"))
        >>> obs, info = env.reset(seed=1)
        >>> env.step(1)[0]["last_action"].tolist()
        [0.0, 1.0]

    Change log: 0.1.0, added.

    :param env: environment with a ``Discrete`` action space that starts at 0
    :raises TypeError: if the action space is another one
    :raises ValueError: if actions start elsewhere, or a dict observation has an entry ``"last_action"``
    """

    def __init__(self, env: gym.Env) -> None:
        actions, observations = env.action_space, env.observation_space
        if not isinstance(actions, spaces.Discrete):
            raise TypeError(f"action_space must be Discrete, got {actions}")
        if actions.start != 0:
            raise ValueError(f"action_space must start at 0, got {actions}")
        parts = dict(observations.spaces) if isinstance(observations, spaces.Dict) else {OBSERVATION: observations}
        if LAST_ACTION in parts:
            raise ValueError(f'observation_space must have no entry "{LAST_ACTION}", got {observations}')
        gym.utils.RecordConstructorArgs.__init__(self)
        gym.Wrapper.__init__(self, env)
        self._n_actions = int(actions.n)
        self.observation_space = spaces.Dict(
            {**parts, LAST_ACTION: spaces.Box(0.0, 1.0, (self._n_actions,), np.float32)},
        )

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """
        Reset the environment.

        :param seed: passed on to the environment
        :param options: passed on to the environment
        :return: observation and info
        """
        obs, info = self.env.reset(seed=seed, options=options)
        return self._beside(obs, None), info

    def step(self, action: Any) -> tuple[Any, SupportsFloat, bool, bool, dict[str, Any]]:
        """
        Step the environment.

        :param action: passed on to the environment, and shown
        :return: observation, reward, terminated, truncated, info
        """
        obs, reward, terminated, truncated, info = self.env.step(action)
        return self._beside(obs, int(action)), reward, terminated, truncated, info

    def _beside(self, obs: Any, action: int | None) -> dict[str, Any]:
        shown = np.zeros(self._n_actions, np.float32)
        if action is not None:
            shown[action] = 1.0
        parts = obs if isinstance(obs, dict) else {OBSERVATION: obs}
        return {**parts, LAST_ACTION: shown}
