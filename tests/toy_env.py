"""Environments for the tests: one of noise, over any observation space, and one that counts."""

from copy import deepcopy
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces

VECTOR = spaces.Box(-1.0, 1.0, (3,), np.float32)
IMAGE = spaces.Box(0, 255, (40, 38, 1), np.uint8)
SPACES: dict[str, spaces.Space] = {
    "vector": VECTOR,
    "float64": spaces.Box(-1.0, 1.0, (2, 2), np.float64),
    "image, channels last": IMAGE,
    "image, channels first": spaces.Box(0, 255, (2, 36, 36), np.uint8),
    "discrete": spaces.Discrete(5),
    "multi-discrete": spaces.MultiDiscrete([3, 2]),
    "multi-binary": spaces.MultiBinary(4),
    "dict": spaces.Dict(image=IMAGE, vector=VECTOR, room=spaces.Discrete(4)),
}
POLICIES = {
    "image, channels last": "CnnLstmPolicy",
    "image, channels first": "CnnLstmPolicy",
    "dict": "MultiInputLstmPolicy",
}
"""For the spaces that ``MlpLstmPolicy`` is not for."""


_METADATA: dict[str, Any] = {"render_modes": ["rgb_array"], "render_fps": 30}


class ToyEnv(gym.Env[Any, np.int64]):
    """
    Random observations and rewards, whatever the actions are.

    :param space: observation space
    :param n_actions: number of actions
    :param max_length: episodes have 1 to as many steps
    :param truncated_prob: how likely an episode is to be truncated, not terminated
    :param render_mode: ``"rgb_array"`` or ``None``
    """

    metadata = _METADATA

    def __init__(
        self,
        space: spaces.Space = VECTOR,
        n_actions: int = 3,
        max_length: int = 7,
        truncated_prob: float = 0.5,
        render_mode: str | None = None,
    ) -> None:
        self.observation_space = deepcopy(space)
        self.action_space = spaces.Discrete(n_actions)
        self.max_length, self.truncated_prob = max_length, truncated_prob
        self.render_mode = render_mode

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        if seed is not None:
            self.observation_space.seed(seed)
        self._steps_left = int(self.np_random.integers(1, self.max_length + 1))
        return self.observation_space.sample(), {}

    def step(self, action: np.int64) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        assert self.action_space.contains(action)
        self._steps_left -= 1
        is_truncated = self.np_random.random() < self.truncated_prob
        is_over = self._steps_left == 0
        reward = float(self.np_random.normal())
        return self.observation_space.sample(), reward, is_over and not is_truncated, is_over and is_truncated, {}

    def render(self) -> np.ndarray:
        return np.zeros((32, 32, 3), np.uint8)


class CountingEnv(gym.Env[np.ndarray, np.int64]):
    """
    Shows which episode and which step it is, both from 0 on; every other episode is truncated, the first terminated.

    :param length: number of steps of every episode
    """

    def __init__(self, length: int = 7) -> None:
        self.observation_space = spaces.Box(-1.0, 1000.0, (2,), np.float32)
        self.action_space = spaces.Discrete(3)
        self.length = length
        self.episode = -1

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[np.ndarray, dict[str, Any]]:
        super().reset(seed=seed)
        self.episode += 1
        self.t = 0
        return self._observation(), {}

    def step(self, action: np.int64) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        self.t += 1
        is_over, is_truncated = self.t == self.length, self.episode % 2 == 1
        return self._observation(), float(self.t), is_over and not is_truncated, is_over and is_truncated, {}

    def _observation(self) -> np.ndarray:
        return np.array([self.episode, self.t], np.float32)
