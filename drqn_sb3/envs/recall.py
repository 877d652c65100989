"""A task that only memory solves."""

from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from gymnasium.error import ResetNeeded

_METADATA: dict[str, Any] = {"render_modes": ["ansi", "rgb_array"], "render_fps": 4}

_TILE = 32
"""Pixels along a side of the tile that shows one number of an observation."""


class RecallEnv(gym.Env[np.ndarray, np.int64]):
    """
    See a cue, wait, name the cue.

    ::

        step            0      1 ... delay      delay + 1
        observation    cue       blank             go
        action              anything             the cue?  -> reward 1 or 0, terminated

    An observation has ``n_cues + 1`` numbers: the cue, one-hot, and whether it is time to answer. Between the two
    it is zeros throughout, and the answer's observation is the same for every cue: an agent without memory answers
    by chance, ``1 / n_cues`` of the time. The last ``info`` holds ``is_success``.

    :param delay: how many blank observations lie between cue and answer, 0 or more
    :param n_cues: how many cues there are, 2 or more
    :param render_mode: ``None``, ``"ansi"`` or ``"rgb_array"``
    :raises ValueError: if an argument is out of range
    """

    metadata = _METADATA

    def __init__(self, delay: int = 5, n_cues: int = 2, render_mode: str | None = None) -> None:
        if not _is_whole(delay) or delay < 0:
            raise ValueError(f"delay must be a whole number, 0 or more, got {delay!r}")
        if not _is_whole(n_cues) or n_cues < 2:
            raise ValueError(f"n_cues must be a whole number, 2 or more, got {n_cues!r}")
        if render_mode is not None and render_mode not in self.metadata["render_modes"]:
            raise ValueError(f'render_mode must be None, "ansi" or "rgb_array", got {render_mode!r}')
        self.delay = delay
        self.n_cues = n_cues
        self.render_mode = render_mode
        self.observation_space = spaces.Box(0.0, 1.0, shape=(n_cues + 1,), dtype=np.float32)
        self.action_space = spaces.Discrete(n_cues)
        self._cue = 0
        self._t: int | None = None

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[np.ndarray, dict[str, Any]]:
        """
        Draw a cue and show it.

        :param seed: determines this cue and the following ones; None goes on with the present generator
        :param options: ignored
        :return: the cue's observation, and an empty ``info``
        """
        super().reset(seed=seed)
        self._cue = int(self.np_random.integers(self.n_cues))
        self._t = 0
        return self._observation(), {}

    def step(self, action: np.int64) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """
        Wait, or answer when it is time to.

        :param action: the cue's number; only the answer's matters
        :return: observation, reward, terminated (answered), truncated (never), ``info``
        :raises ValueError: if the action is no cue's number
        :raises gymnasium.error.ResetNeeded: before ``reset``, and after the answer
        """
        if self._t is None:
            raise ResetNeeded("call reset() before step(), and again after an answer")
        if not self.action_space.contains(action):
            raise ValueError(f"action must be a whole number from 0 to {self.n_cues - 1}, got {action!r}")
        if self._t <= self.delay:
            self._t += 1
            return self._observation(), 0.0, False, False, {}
        observation = self._observation()
        self._t = None
        is_success = bool(action == self._cue)
        return observation, float(is_success), True, False, {"is_success": is_success}

    def render(self) -> str | np.ndarray | None:
        """
        Show what is seen: as text, or as a row of tiles, white for 1 and black for 0.

        :return: the cue's number, ``"."`` while it is time to wait, ``"?"`` when it is time to answer; or RGB,
            ``(32, 32 * (n_cues + 1), 3)`` uint8
        """
        if self.render_mode == "rgb_array":
            tiles = np.kron(self._observation(), np.ones((_TILE, _TILE), dtype=np.float32))
            return np.repeat((255 * tiles).astype(np.uint8)[:, :, None], 3, axis=2)
        if self.render_mode is None:
            return None
        if self._t == 0:
            return str(self._cue)
        return "." if self._t is not None and self._t <= self.delay else "?"

    def _observation(self) -> np.ndarray:
        observation = np.zeros(self.n_cues + 1, dtype=np.float32)
        if self._t == 0:
            observation[self._cue] = 1.0
        elif self._t == self.delay + 1:
            observation[-1] = 1.0
        return observation


def _is_whole(value: Any) -> bool:
    return isinstance(value, int | np.integer) and not isinstance(value, bool)
