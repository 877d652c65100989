"""
Checks of what environments return, before any of it is stored or learned from.

NaN and infinity end the run: learned from once, they are everywhere. Observations beyond the bounds of their space do not:
environments that are a little careless there are many, and networks do not mind.
"""

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
from gymnasium import spaces
from stable_baselines3.common.preprocessing import is_image_space
from stable_baselines3.common.vec_env import VecEnv, unwrap_vec_normalize

from drqn_sb3.finite import NotFiniteError


class _Part:
    """What the observations of one ``Box`` are compared with; nothing where every number of its type is in it."""

    def __init__(self, name: str, space: spaces.Box, is_bounded: bool) -> None:
        self.name = name
        self.space = space
        self.shape = space.shape
        self.low: Any = None
        self.high: Any = None
        # An image's pixels have no bounds to overstep but those of their type
        if is_bounded and not is_image_space(space) and space.dtype != np.bool_:
            limits = _limits(space)
            if np.any(space.low > limits.min) or np.any(space.high < limits.max):
                self.low, self.high = np.maximum(space.low, limits.min), np.minimum(space.high, limits.max)
        if self.low is None:
            self.lift_bounds()

    def lift_bounds(self) -> None:
        """Look for NaN and infinity only, from now on."""
        self.low = self.high = None
        if np.issubdtype(self.space.dtype, np.floating):
            # NaN is not within any bounds, and infinity not within these
            self.low, self.high = _limits(self.space).min, _limits(self.space).max

    def holds(self, value: np.ndarray) -> bool:
        """
        :param value: one observation, or those of all environments
        :return: whether all of them are finite and within the bounds
        """
        # The ufunc's reduction is the fast half of all()
        return self.low is None or bool(np.logical_and.reduce((value >= self.low) & (value <= self.high), axis=None))

    def are_finite(self, value: np.ndarray) -> np.ndarray:
        """
        :param value: observations
        :return: of the same shape: which numbers are finite, and will be in the space's type
        """
        with np.errstate(over="ignore"):
            return np.isfinite(value.astype(self.space.dtype))


def _limits(space: spaces.Box) -> Any:
    """Tell between which numbers those of a space's type lie."""
    dtype: Any = space.dtype
    return np.finfo(dtype) if np.issubdtype(dtype, np.floating) else np.iinfo(dtype)


def _parts(space: spaces.Space, is_bounded: bool) -> dict[str, _Part]:
    """By key, the empty string for a space that is no ``Dict``."""
    subspaces = space.spaces if isinstance(space, spaces.Dict) else {"": space}
    names = {key: f" {key!r}" if isinstance(space, spaces.Dict) else "" for key in subspaces}
    return {key: _Part(names[key], part, is_bounded) for key, part in subspaces.items() if isinstance(part, spaces.Box)}


def _categories(space: spaces.Space) -> dict[str, tuple[Any, Any]]:
    """By key: the least and the greatest number of observations that stand for one of several things."""
    subspaces = space.spaces if isinstance(space, spaces.Dict) else {"": space}
    numbered = {key: part for key, part in subspaces.items() if isinstance(part, spaces.Discrete | spaces.MultiDiscrete)}
    sizes = {key: part.n if isinstance(part, spaces.Discrete) else part.nvec for key, part in numbered.items()}
    return {key: (part.start, part.start + sizes[key] - 1) for key, part in numbered.items()}


class ExperienceCheck:
    """
    Checks observations and rewards as they come.

    With ``VecNormalize``, both what came from the environments and what it made of that are checked.

    :param env: the environments, as wrapped for the model
    :param count_steps: tells how many steps were taken, for the error
    """

    def __init__(self, env: VecEnv, count_steps: Callable[[], int]) -> None:
        self.env = env
        self.count_steps = count_steps
        self._normalize = unwrap_vec_normalize(env)
        self._shown = _parts(env.observation_space, is_bounded=self._normalize is None)
        self._categories = _categories(env.observation_space)
        self._original: dict[str, _Part] = {}
        if self._normalize is not None:
            self._original = _parts(self._normalize.venv.observation_space, is_bounded=True)

    def check_step(self, observations: Any, rewards: np.ndarray, dones: np.ndarray, infos: Any) -> None:
        """
        Check what a step of all environments came to.

        :param observations: ``(n_envs, ...)``, or a dict of such
        :param rewards: ``(n_envs,)``
        :param dones: ``(n_envs,)``, bool
        :param infos: of each environment; those that are done have a ``"terminal_observation"``
        :raises NotFiniteError: naming environment, what came and the steps taken, if there is NaN or infinity
        :raises ValueError: if observations have another shape than their space
        """
        if self._normalize is not None:
            self._check_rewards(self._normalize.old_reward, "a reward")
            self._check_rewards(rewards, "a normalised reward")
        else:
            self._check_rewards(rewards, "a reward")
        self.check_observations(observations)
        for index in np.asarray(dones).nonzero()[0]:
            last = infos[index].get("terminal_observation")
            if last is not None:
                # As the environment returned it: in its type, which a VecEnv casts to the space's
                one = {key: self._as_in_space(key, value)[np.newaxis] for key, value in _by_key(last).items()}
                self._check_parts(self._shown, one, "the last observation of an episode", int(index))
                self._check_categories(one, "the last observation of an episode", int(index))

    def check_observations(self, observations: Any) -> None:
        """
        Check the observations that are the last ones to have come, of a step or a reset.

        :param observations: ``(n_envs, ...)``, or a dict of such
        :raises NotFiniteError: naming environment, what came and the steps taken, if there is NaN or infinity
        :raises ValueError: if they have another shape than their space, or stand for something that is not in it
        """
        self._check_categories(_by_key(observations), "observations")
        if self._normalize is not None:
            self._check_parts(self._original, _by_key(self._normalize.old_obs), "an observation")
            self._check_parts(self._shown, _by_key(observations), "a normalised observation")
        else:
            self._check_parts(self._shown, _by_key(observations), "an observation")

    def _check_categories(self, values: dict[str, np.ndarray], what: str, first_env: int = 0) -> None:
        """Networks have one input for each of them, and none for another."""
        for key, (least, greatest) in self._categories.items():
            is_within = (values[key] >= least) & (values[key] <= greatest)
            if not is_within.all():
                index = int(np.argwhere(~is_within)[0][0])
                name = f" {key!r}" if key else ""
                raise ValueError(
                    f"{what}{name} must be from {least} to {greatest}, got {values[key][index]} from environment "
                    f"{first_env + index} {self._steps()}"
                )

    def _as_in_space(self, key: str, value: Any) -> np.ndarray:
        with np.errstate(over="ignore", invalid="ignore"):
            return np.asarray(value, dtype=self._shown[key].space.dtype) if key in self._shown else np.asarray(value)

    def _check_rewards(self, rewards: np.ndarray, what: str) -> None:
        # The replay buffer's type: what is too large for it is infinite there
        with np.errstate(over="ignore"):
            try:
                is_finite = np.isfinite(np.asarray(rewards, dtype=np.float32))
            except (TypeError, ValueError) as error:
                raise ValueError(f"rewards must be numbers, got {rewards!r} {self._steps()}") from error
        if not np.logical_and.reduce(is_finite, axis=None):
            index = int(np.argwhere(~is_finite)[0][0])
            raise self._not_finite(index, f"{what} of {rewards[index]}")

    def _check_parts(self, parts: dict[str, _Part], values: dict[str, np.ndarray], what: str, first: int = 0) -> None:
        """Check observations of environments from ``first`` on."""
        for key, part in parts.items():
            value = values[key]
            if value.shape[1:] != part.shape:
                raise ValueError(
                    f"observations{part.name} must be of the space's shape {part.shape}, got {value.shape[1:]} "
                    f"from environment {first} {self._steps()}"
                )
            if not part.holds(value):
                self._judge(part, value, f"{what}{part.name}", first)

    def _judge(self, part: _Part, value: np.ndarray, what: str, first: int) -> None:
        """Tell what is wrong with observations that are not all finite and within the bounds."""
        is_finite = part.are_finite(value)
        if not is_finite.all():
            place = tuple(np.argwhere(~is_finite)[0].tolist())
            raise self._not_finite(first + place[0], f"{what} with {value[place]} at component {place[1:]}")
        place = tuple(np.argwhere((value < part.low) | (value > part.high))[0].tolist())
        component = place[1:]
        warnings.warn(
            f"environment {first + place[0]} returned {what} outside its space {self._steps()}: component {component} is "
            f"{value[place]}, its bounds are {part.space.low[component]} and {part.space.high[component]}. "
            "Learning goes on with it as it is; there is no second warning in this run",
            stacklevel=2,
        )
        for other in (*self._shown.values(), *self._original.values()):
            other.lift_bounds()

    def _not_finite(self, index: int, what: str) -> NotFiniteError:
        hint = "see to it in the environment or in a wrapper"
        if self._normalize is not None:
            hint += (
                ". VecNormalize has taken it into its running statistics: do not save these, "
                "go on from a checkpoint written before"
            )
        return NotFiniteError(f"environment {index} returned {what} {self._steps()}: {hint}")

    def _steps(self) -> str:
        return f"after {self.count_steps()} steps"


def _by_key(observations: Any) -> dict[str, np.ndarray]:
    return observations if isinstance(observations, dict) else {"": observations}
