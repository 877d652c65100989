"""The outermost wrapper of environments that are to be saved with a run, in a worker process above all."""

import atexit
import gc
import multiprocessing
import multiprocessing.util
import random
import signal
import threading
import time
from collections.abc import Mapping
from types import FrameType
from typing import Any, SupportsFloat

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from stable_baselines3.common.vec_env import SubprocVecEnv

from drqn_sb3.checkpoints.env_layers import capture_env, class_name, layers_of, restore_env
from drqn_sb3.checkpoints.object_restorer import check_generator_state, set_python_state

SECONDS_AFTER_SIGTERM = 30
"""How long a worker process lives on after SIGTERM, at most."""

_NOTICE = 0.2  # seconds for a process to take a signal


class ResumableEnv(gym.Wrapper, gym.utils.RecordConstructorArgs):
    """
    Lets the main process have the state of an environment in a worker process, and refuses observations that would be cast.

    It must be the **outermost** wrapper of every environment of a ``SubprocVecEnv`` whose state is to be saved. With it,

    - ``get_run_state`` and ``set_run_state`` save and restore all layers, and in a worker process the global generators of
      ``random`` and ``numpy.random``;
    - a worker process outlives SIGTERM for a while. Schedulers send it to all processes of a job, and the main one still has
      to ask the workers for their state. It ends when the main process closes the environments or is gone, after
      ``seconds_after_sigterm`` at the latest, and at once upon a second SIGTERM. Windows has no such signals;
    - an observation that the space cannot hold is an error, where a ``VecEnv`` would make another one of it: one of another
      shape, or 300, 0.5 or NaN where the space has uint8.

    In a zoo config it stands last, in Python::

        SubprocVecEnv([lambda: ResumableEnv(FlickerObservation(gym.make("CartPole-v1")))])

    Change log: 0.1.0, added.

    :param env: the environment
    :param seconds_after_sigterm: how long a worker process lives on after SIGTERM, at least 1
    :raises ValueError: if ``seconds_after_sigterm`` is not a whole number of seconds, 1 or more
    """

    def __init__(self, env: gym.Env, seconds_after_sigterm: int = SECONDS_AFTER_SIGTERM) -> None:
        if isinstance(seconds_after_sigterm, bool) or not isinstance(seconds_after_sigterm, int) or seconds_after_sigterm < 1:
            raise ValueError(f"seconds_after_sigterm must be a whole number, 1 or more, got {seconds_after_sigterm!r}")
        gym.utils.RecordConstructorArgs.__init__(self, seconds_after_sigterm=seconds_after_sigterm)
        gym.Wrapper.__init__(self, env)
        if _is_worker():
            _outlive_sigterm(seconds_after_sigterm)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """
        Reset the environment.

        :param seed: passed on
        :param options: passed on
        :return: observation and info
        :raises ValueError: if the space cannot hold the observation
        """
        # A wrapper may have no argument "options", as some of the zoo's
        arguments = {} if options is None else {"options": options}
        observation, info = self.env.reset(seed=seed, **arguments)
        self._check(observation, self.observation_space)
        return observation, info

    def step(self, action: Any) -> tuple[Any, SupportsFloat, bool, bool, dict[str, Any]]:
        """
        Step the environment.

        :param action: passed on
        :return: observation, reward, terminated, truncated, info
        :raises ValueError: if the space cannot hold the observation
        """
        results = self.env.step(action)
        self._check(results[0], self.observation_space)
        return results

    def get_layer_names(self) -> list[str]:
        """
        Name the classes whose state ``get_run_state`` saves.

        :return: from the outermost wrapper, without this one, to the environment itself
        """
        return [class_name(layer) for layer in layers_of(self)]

    def get_run_state(self) -> dict[str, Any]:
        """
        Save everything that the rest of the run depends on. An exception would end a worker process: there is none.

        :return: plain data; ``{"error": why}`` if something cannot be saved
        """
        try:
            state = capture_env(self)
        except ValueError as error:
            return {"error": str(error)}
        if _is_worker():
            state["process"] = {"random": random.getstate(), "numpy": np.random.get_state(legacy=False)}
        return state

    def set_run_state(self, state: dict[str, Any]) -> str | None:
        """
        Go on from a saved state. An exception would end a worker process: there is none.

        :param state: what ``get_run_state`` returned
        :return: what is wrong with it, ``None`` if nothing is
        """
        try:
            restore_env(self, state)
            if _is_worker() and "process" in state:
                set_python_state(random, state["process"]["random"])
                check_generator_state(state["process"]["numpy"], "MT19937")
                np.random.set_state(state["process"]["numpy"])
        except ValueError as error:
            return str(error)
        return None

    def _check(self, observation: Any, space: spaces.Space, key: str = "") -> None:
        if isinstance(space, spaces.Dict):
            if not isinstance(observation, Mapping) or not set(space.spaces) <= set(observation):
                got = sorted(observation) if isinstance(observation, Mapping) else type(observation).__name__
                self._refuse(key, f"a dict with {sorted(space.spaces)}", str(got))
            for name, part in space.spaces.items():
                self._check(observation[name], part, f"{key}[{name!r}]")
        elif isinstance(space, spaces.Tuple):
            if not isinstance(observation, tuple | list) or len(observation) != len(space.spaces):
                self._refuse(key, f"a tuple of {len(space.spaces)}", type(observation).__name__)
            for index, part in enumerate(space.spaces):
                self._check(observation[index], part, f"{key}[{index}]")
        elif space.dtype is not None and space.shape is not None:
            array = np.asarray(observation)
            if array.shape != space.shape:
                self._refuse(key, str(space), f"shape {array.shape}")
            if array.dtype != space.dtype and not _fits(array, space.dtype):
                self._refuse(key, str(space), f"{array.dtype} values that it cannot hold, {_extremes(array)}")

    def _refuse(self, key: str, wanted: str, got: str) -> None:
        name = self.spec.id if self.spec is not None else class_name(self.unwrapped)
        raise ValueError(f"the observation{key} of {name} must be {wanted}, got {got}")


def _fits(array: np.ndarray, dtype: np.dtype) -> bool:
    """Whether all values can be had in a type; rounding of fractions to fewer digits is no harm."""
    if np.can_cast(array.dtype, dtype, "safe"):
        return True
    if array.dtype.kind not in "biuf" or dtype.kind not in "biuf":
        return False
    with np.errstate(invalid="ignore", over="ignore"):
        values = array.astype(dtype)
    if dtype.kind == "f":
        return bool(np.array_equal(np.isfinite(values), np.isfinite(array)))
    return bool(np.array_equal(values, array))  # what a cast has wrapped around or cut off differs


def _extremes(array: np.ndarray) -> str:
    return f"from {array.min()} to {array.max()}" if array.size and array.dtype.kind in "biuf" else f"such as {array!r:.80}"


def _is_worker() -> bool:
    return multiprocessing.parent_process() is not None


def _outlive_sigterm(seconds: int) -> None:
    """Have the first SIGTERM set an alarm that ends the process, and the second end it."""
    if not hasattr(signal, "SIGALRM") or threading.current_thread() is not threading.main_thread():
        return

    def on_sigterm(signum: int, frame: FrameType | None) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.alarm(seconds)

    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.signal(signal.SIGTERM, on_sigterm)


def _forewarn_workers() -> None:
    """
    Send the first SIGTERM to workers of environments that nobody has closed.

    When Python exits it sends one to each, and waits until they have ended: that is then the second. Other processes are no
    concern of ours.
    """
    children = set(multiprocessing.active_children())
    if not children:
        return  # it is not worth looking through all there is
    open_envs = [thing for thing in gc.get_objects() if issubclass(type(thing), SubprocVecEnv) and not thing.closed]
    workers = [process for env in open_envs for process in env.processes if process in children]
    for worker in workers:
        worker.terminate()
    if workers:
        time.sleep(_NOTICE)  # two signals at once are one


if hasattr(signal, "SIGALRM"):
    # The last to be registered is the first to be called: before multiprocessing's, which its module util has registered
    atexit.register(_forewarn_workers)
