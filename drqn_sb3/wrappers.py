"""Wrappers that make an environment partially observable, for Python and for a zoo config's ``env_wrapper``."""

from typing import Any, SupportsFloat

import gymnasium as gym
import numpy as np
from gymnasium import spaces

# Keeps the flicker's stream apart from whatever else is seeded with the same number, the environment above all.
_FLICKER_STREAM = 0x0F11C4E2


class FlickerObservation(gym.Wrapper, gym.utils.RecordConstructorArgs):
    """
    Replace each observation by zeros with probability ``1 - observe_prob``, independently at every step and at reset.

    This is how Hausknecht & Stone (2015, arXiv 1507.06527, section 5) turn a game that a few frames describe into one
    that has to be remembered. It belongs after frame skip and image warping, so that an agent's whole decision is shown
    or not, and before frame stacking, so that each frame of a stack flickers by itself. A dict observation goes dark as
    a whole.

    The wrapper draws from a generator of its own, which ``reset(seed=...)`` seeds: a flickering environment and a bare
    one, given the same seed and actions, go through the same states and rewards. ``info["observed"]`` says whether the
    observation that came with it was shown.

    In a zoo config::

        env_wrapper:
          - stable_baselines3.common.atari_wrappers.AtariWrapper
          - drqn_sb3.wrappers.FlickerObservation:
              observe_prob: 0.5

    In Python::

        >>> import gymnasium as gym
        >>> from drqn_sb3.wrappers import FlickerObservation
        >>> env = FlickerObservation(gym.make("CartPole-v1"), observe_prob=0.5)
        >>> obs, info = env.reset(seed=1)
        >>> bool(obs.any()) == info["observed"]
        True

    Change log: 0.1.0, added.

    :param env: environment whose observations are arrays (``Box``) or (nested) dicts of arrays
    :param observe_prob: probability that an observation is shown, from 0 to 1
    :raises TypeError: if ``observe_prob`` is not a number, or the observation space is neither a ``Box`` nor a ``Dict``
        of these
    :raises ValueError: if ``observe_prob`` is not between 0 and 1
    """

    def __init__(self, env: gym.Env, observe_prob: float = 0.5) -> None:
        if isinstance(observe_prob, bool) or not isinstance(observe_prob, int | float | np.integer | np.floating):
            raise TypeError(f"observe_prob must be a number from 0 to 1, got {observe_prob!r}")
        if not 0.0 <= observe_prob <= 1.0:
            raise ValueError(f"observe_prob must be from 0 to 1, got {observe_prob!r}")
        gym.utils.RecordConstructorArgs.__init__(self, observe_prob=observe_prob)
        gym.Wrapper.__init__(self, env)
        self.observe_prob = float(observe_prob)
        self.observation_space = _with_zeros(env.observation_space)
        self._generator = np.random.default_rng()

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """
        Reset the environment and show or hide the first observation.

        :param seed: seeds the environment and, as a separate stream, the flicker; ``None`` goes on with both
        :param options: passed on to the environment
        :return: observation and info
        """
        obs, info = self.env.reset(seed=seed, options=options)
        if seed is not None:
            self._generator = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(_FLICKER_STREAM,)))
        return self._flicker(obs, info)

    def step(self, action: Any) -> tuple[Any, SupportsFloat, bool, bool, dict[str, Any]]:
        """
        Step the environment and show or hide the observation.

        :param action: passed on to the environment
        :return: observation, reward, terminated, truncated, info
        """
        obs, reward, terminated, truncated, info = self.env.step(action)
        obs, info = self._flicker(obs, info)
        return obs, reward, terminated, truncated, info

    def _flicker(self, obs: Any, info: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        observed = bool(self._generator.random() < self.observe_prob)
        return obs if observed else _zeros(self.observation_space), {**info, "observed": observed}


def _zeros(space: spaces.Space) -> Any:
    """Make an observation of ``space`` that is zero everywhere."""
    if isinstance(space, spaces.Dict):
        return {name: _zeros(subspace) for name, subspace in space.spaces.items()}
    assert isinstance(space, spaces.Box)
    return np.zeros(space.shape, space.dtype)


def _with_zeros(space: spaces.Space, name: str = "") -> spaces.Space:
    """
    Widen the bounds of ``space`` until they hold zero.

    :param space: observation space
    :param name: where in a dict space it lies, for the error
    :return: the same object where zero already lies within the bounds
    :raises TypeError: if there is anything but boxes in it
    """
    if isinstance(space, spaces.Dict):
        widened = {key: _with_zeros(subspace, f"{name}[{key!r}]") for key, subspace in space.spaces.items()}
        return space if all(widened[key] is space[key] for key in widened) else spaces.Dict(widened)
    if not isinstance(space, spaces.Box):
        raise TypeError(f"observation_space{name} must be a Box or a Dict of them, got {space}")
    if np.all(space.low <= 0) and np.all(space.high >= 0):
        return space
    dtype: Any = space.dtype
    return spaces.Box(np.minimum(space.low, 0).astype(dtype), np.maximum(space.high, 0).astype(dtype), dtype=dtype)
