"""Wrappers that make an environment partially observable, for Python and for a zoo config's ``env_wrapper``."""

from collections.abc import Sequence
from typing import Any, ClassVar, SupportsFloat

import gymnasium as gym
import numpy as np
from gymnasium import spaces

from drqn_sb3.checks import is_number

_FLOAT_MAX = float(np.finfo(np.float32).max)

VELOCITY_INDICES: dict[str, tuple[int, ...]] = {
    "CartPole-v1": (1, 3),
    "LunarLander-v3": (2, 3, 5),
    "LunarLanderContinuous-v3": (2, 3, 5),
    "MountainCar-v0": (1,),
    "MountainCarContinuous-v0": (1,),
    "Pendulum-v1": (2,),
    "SlimeVolley-v0": (2, 3, 6, 7, 10, 11),
}
"""Which of an environment's numbers are velocities: the zoo's choice, and SlimeVolley's of agent, ball and opponent."""


class _SeesLess(gym.Wrapper):
    """
    Let an observation pass or change it, with a generator of its own.

    :param env: the environment
    """

    # Keeps the stream apart from whatever else is seeded with the same number, the environment above all
    _STREAM: ClassVar[int]

    def __init__(self, env: gym.Env) -> None:
        gym.Wrapper.__init__(self, env)
        self._generator = np.random.default_rng()

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """
        Reset the environment; what is seen of the first observation follows from the seed.

        :param seed: seeds the environment and, as a separate stream, this wrapper; ``None`` goes on with both
        :param options: passed on to the environment
        :return: observation and info
        """
        obs, info = self.env.reset(seed=seed, options=options)
        if seed is not None:
            self._generator = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(self._STREAM,)))
        return self._see(obs, info, is_first=True)

    def step(self, action: Any) -> tuple[Any, SupportsFloat, bool, bool, dict[str, Any]]:
        """
        Step the environment.

        :param action: passed on to the environment
        :return: observation, reward, terminated, truncated, info
        """
        obs, reward, terminated, truncated, info = self.env.step(action)
        obs, info = self._see(obs, info, is_first=False)
        return obs, reward, terminated, truncated, info

    def _see(self, obs: Any, info: dict[str, Any], is_first: bool) -> tuple[Any, dict[str, Any]]:
        raise NotImplementedError(f"{type(self).__name__} must define _see()")


class FlickerObservation(_SeesLess, gym.utils.RecordConstructorArgs):
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

    _STREAM = 0x0F11C4E2

    def __init__(self, env: gym.Env, observe_prob: float = 0.5) -> None:
        check_prob("observe_prob", observe_prob)
        gym.utils.RecordConstructorArgs.__init__(self, observe_prob=observe_prob)
        _SeesLess.__init__(self, env)
        self.observe_prob = float(observe_prob)
        self._eased_prob: float | None = None  # None where observe_prob holds
        self.observation_space = _with_zeros(env.observation_space)

    def ease_flicker(self, initial_prob: float, done: float) -> float:
        """
        Show observations as often as a curriculum has it, from the next one on (:class:`~drqn_sb3.FlickerCurriculum`).

        :param initial_prob: probability that an observation is shown at the curriculum's start, from 0 to 1
        :param done: share of the curriculum that is over, from 0 to 1: then ``observe_prob`` holds
        :return: the present probability
        :raises TypeError: if an argument is not a number
        :raises ValueError: if an argument is not between 0 and 1
        """
        check_prob("initial_prob", initial_prob)
        check_prob("done", done)
        self._eased_prob = initial_prob + (self.observe_prob - initial_prob) * done if done < 1 else None
        return self._present_prob

    @property
    def _present_prob(self) -> float:
        return self.observe_prob if self._eased_prob is None else self._eased_prob

    def _see(self, obs: Any, info: dict[str, Any], is_first: bool) -> tuple[Any, dict[str, Any]]:
        observed = bool(self._generator.random() < self._present_prob)
        return obs if observed else _zeros(self.observation_space), {**info, "observed": observed}


class NoisyObservation(_SeesLess, gym.utils.RecordConstructorArgs):
    """
    Add Gaussian noise to each observation, independently for each of its numbers, at every step and at reset.

    The unit of ``noise_std`` is the range of the number it is added to, where that is bounded on both sides: 0.1 is a
    tenth of ``high - low``, which for pictures of uint8 is 25.5 grey levels. Where it is not, it is the observation's own
    unit; float32's greatest numbers, which stand for no bound in many environments, do not count as bounds. The sum is
    clipped to the space, and rounded where the space has whole numbers.

    It belongs after image warping and before frame stacking. It draws from a generator of its own, which
    ``reset(seed=...)`` seeds: the environment's states and rewards are those without noise.

    In a zoo config::

        env_wrapper:
          - stable_baselines3.common.atari_wrappers.AtariWrapper
          - drqn_sb3.wrappers.NoisyObservation:
              noise_std: 0.1

    In Python::

        >>> import gymnasium as gym
        >>> from drqn_sb3.wrappers import NoisyObservation
        >>> env = NoisyObservation(gym.make("CartPole-v1"), noise_std=0.01)
        >>> obs, info = env.reset(seed=1)

    Change log: 0.1.0, added.

    :param env: environment whose observations are arrays of numbers (``Box``) or (nested) dicts of them
    :param noise_std: standard deviation of the noise, 0 or more, as a share of the range or in the observation's unit
    :raises TypeError: if ``noise_std`` is not a number, or the observation space is neither a ``Box`` of numbers nor a
        ``Dict`` of these
    :raises ValueError: if ``noise_std`` is below 0 or not finite
    """

    _STREAM = 0x4015E

    def __init__(self, env: gym.Env, noise_std: float = 0.1) -> None:
        if not is_number(noise_std):
            raise TypeError(f"noise_std must be a number of 0 or more, got {noise_std!r}")
        if not 0.0 <= noise_std < np.inf:
            raise ValueError(f"noise_std must be finite and 0 or more, got {noise_std!r}")
        _check_boxes(env.observation_space)
        gym.utils.RecordConstructorArgs.__init__(self, noise_std=noise_std)
        _SeesLess.__init__(self, env)
        self.noise_std = float(noise_std)

    def _see(self, obs: Any, info: dict[str, Any], is_first: bool) -> tuple[Any, dict[str, Any]]:
        return self._with_noise(obs, self.env.observation_space), info

    def _with_noise(self, obs: Any, space: spaces.Space) -> Any:
        if isinstance(space, spaces.Dict):
            return {name: self._with_noise(obs[name], subspace) for name, subspace in space.spaces.items()}
        assert isinstance(space, spaces.Box)
        noise = self._generator.standard_normal(space.shape) * (self.noise_std * _units(space))
        return obs if self.noise_std == 0 else _added(obs, noise, space)


class FrozenObservation(_SeesLess, gym.utils.RecordConstructorArgs):
    """
    Show the last shown observation once more with probability ``freeze_prob``, drawn independently at every step.

    A picture that stays still for a while, as over a bad line: nothing is dark, but what is seen may be old. The first
    observation of an episode is always fresh. A dict observation freezes as a whole.

    It belongs after frame skip and image warping, before frame stacking. It draws from a generator of its own, which
    ``reset(seed=...)`` seeds: the environment's states and rewards are those of one that does not freeze.
    ``info["frozen"]`` says whether the observation that came with it was an old one.

    In a zoo config::

        env_wrapper:
          - stable_baselines3.common.atari_wrappers.AtariWrapper
          - drqn_sb3.wrappers.FrozenObservation:
              freeze_prob: 0.5

    In Python::

        >>> import gymnasium as gym
        >>> from drqn_sb3.wrappers import FrozenObservation
        >>> env = FrozenObservation(gym.make("CartPole-v1"), freeze_prob=1.0)
        >>> first, info = env.reset(seed=1)
        >>> bool((env.step(0)[0] == first).all())
        True

    Change log: 0.1.0, added.

    :param env: environment whose observations are arrays (``Box``) or (nested) dicts of arrays
    :param freeze_prob: probability that the last shown observation is shown again, from 0 to 1
    :raises TypeError: if ``freeze_prob`` is not a number, or the observation space is neither a ``Box`` nor a ``Dict`` of
        these
    :raises ValueError: if ``freeze_prob`` is not between 0 and 1
    """

    _STREAM = 0xF40F3

    def __init__(self, env: gym.Env, freeze_prob: float = 0.5) -> None:
        check_prob("freeze_prob", freeze_prob)
        _check_boxes(env.observation_space)
        gym.utils.RecordConstructorArgs.__init__(self, freeze_prob=freeze_prob)
        _SeesLess.__init__(self, env)
        self.freeze_prob = float(freeze_prob)
        self._last_shown: Any = None

    def _see(self, obs: Any, info: dict[str, Any], is_first: bool) -> tuple[Any, dict[str, Any]]:
        frozen = not is_first and bool(self._generator.random() < self.freeze_prob)
        if not frozen:
            self._last_shown = _copied(obs)  # the environment may go on to write into its own
        return _copied(self._last_shown) if frozen else obs, {**info, "frozen": frozen}


class HideVelocity(gym.ObservationWrapper, gym.utils.RecordConstructorArgs):
    """
    Replace the velocities among an observation's numbers by zeros: where things move to has to be remembered.

    Which numbers these are is known for the environments of :data:`VELOCITY_INDICES`, and has to be said of others.

    In a zoo config::

        env_wrapper:
          - drqn_sb3.wrappers.HideVelocity

    In Python::

        >>> import gymnasium as gym
        >>> from drqn_sb3.wrappers import HideVelocity
        >>> env = HideVelocity(gym.make("CartPole-v1"))
        >>> obs, info = env.reset(seed=1)
        >>> obs[[1, 3]].tolist()
        [0.0, 0.0]

    Change log: 0.1.0, added.

    :param env: environment whose observations are vectors (``Box`` of shape ``(n,)``)
    :param indices: which numbers are hidden, from 0 to ``n - 1``; ``None`` looks them up by the environment's id
    :raises TypeError: if the observation space is no ``Box``, or an index is no whole number
    :raises ValueError: if observations are no vectors, an index is out of range, or ``indices`` is ``None`` and the
        environment's velocities are not known, or are no longer where they were
    """

    def __init__(self, env: gym.Env, indices: Sequence[int] | None = None) -> None:
        hidden = _known_velocities(env) if indices is None else _checked_indices(indices)
        space = env.observation_space
        if not isinstance(space, spaces.Box):
            raise TypeError(f"observation_space must be a Box, got {space}")
        if len(space.shape) != 1 or not all(0 <= index < space.shape[0] for index in hidden):
            raise ValueError(f"indices must be of the numbers of a vector, got {hidden} for observations of {space}")
        gym.utils.RecordConstructorArgs.__init__(self, indices=None if indices is None else hidden)
        gym.ObservationWrapper.__init__(self, env)
        self.indices = hidden
        low, high = space.low.copy(), space.high.copy()
        low[hidden], high[hidden] = np.minimum(low[hidden], 0), np.maximum(high[hidden], 0)
        if (low != space.low).any() or (high != space.high).any():
            self.observation_space = spaces.Box(low, high, space.shape, space.dtype.type)

    def observation(self, observation: np.ndarray) -> np.ndarray:
        """
        Hide the velocities.

        :param observation: ``(n,)``; it is not written to
        :return: ``(n,)``, zero at the indices
        """
        shown = observation.copy()
        shown[self.indices] = 0
        return shown


def _known_velocities(env: gym.Env) -> list[int]:
    spec = env.unwrapped.spec
    env_id = spec.id if spec is not None else str(env)
    if env_id not in VELOCITY_INDICES:
        known = ", ".join(VELOCITY_INDICES)
        raise ValueError(f"indices must be given for {env_id}, whose velocities are not known (known: {known})")
    own, got = env.unwrapped.observation_space.shape, env.observation_space.shape
    if got != own:
        raise ValueError(
            f"indices must be given where a wrapper has changed the shape of {env_id}'s observations, got {got} instead of "
            f"{own}: or hide velocities inside of that wrapper"
        )
    return list(VELOCITY_INDICES[env_id])


def _checked_indices(indices: Sequence[int]) -> list[int]:
    for index in indices:
        if isinstance(index, bool) or not isinstance(index, int | np.integer):
            raise TypeError(f"indices must be whole numbers, got {index!r}")
    return [int(index) for index in indices]


def check_prob(name: str, prob: Any) -> None:
    """
    See whether an argument is a probability, or a share.

    :param name: the argument's
    :param prob: its value
    :raises TypeError: if it is not a number
    :raises ValueError: if it is not from 0 to 1
    """
    if not is_number(prob):
        raise TypeError(f"{name} must be a number from 0 to 1, got {prob!r}")
    if not 0.0 <= prob <= 1.0:
        raise ValueError(f"{name} must be from 0 to 1, got {prob!r}")


def _check_boxes(space: spaces.Space, name: str = "") -> None:
    if isinstance(space, spaces.Dict):
        for key, subspace in space.spaces.items():
            _check_boxes(subspace, f"{name}[{key!r}]")
    elif not isinstance(space, spaces.Box) or space.dtype.kind not in "iuf":
        raise TypeError(f"observation_space{name} must be a Box of numbers or a Dict of them, got {space}")


def _copied(obs: Any) -> Any:
    return {name: _copied(part) for name, part in obs.items()} if isinstance(obs, dict) else np.array(obs)


def _units(space: spaces.Box) -> np.ndarray:
    """The range of each number, 1 where it has none: shape of the space, float64."""
    low, high = space.low.astype(np.float64), space.high.astype(np.float64)
    is_bounded = (low > -_FLOAT_MAX) & (high < _FLOAT_MAX)
    return np.where(is_bounded, np.where(is_bounded, high, 0.0) - np.where(is_bounded, low, 0.0), 1.0)


def _added(obs: np.ndarray, noise: np.ndarray, space: spaces.Box) -> np.ndarray:
    """Add noise within the space's bounds and type, without a cast that could overflow."""
    noisy: np.ndarray = np.asarray(obs, np.float64) + noise
    if space.dtype.kind != "f":
        noisy = np.rint(noisy)
    is_below, is_above = noisy <= space.low, noisy >= space.high
    is_inside = ~(is_below | is_above)
    inside = np.where(is_inside, noisy, 0.0).astype(space.dtype)
    return np.where(is_inside, inside, np.where(is_above, space.high, space.low))


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
    low, high = np.minimum(space.low, 0).astype(dtype), np.maximum(space.high, 0).astype(dtype)
    return spaces.Box(low, high, space.shape, dtype)
