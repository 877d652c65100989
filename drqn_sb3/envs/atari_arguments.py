"""What AtariVecEnv is given: checks, and what ale_py's own environment tells of the game."""

from collections.abc import Sequence
from typing import Any

import gymnasium as gym
import numpy as np
from ale_py.env import AtariEnv

from drqn_sb3.checks import check_integer, is_number

# Arguments of ale_py's AtariEnv that the native emulators do not have, and the values at which that does not matter.
_STOCK_ONLY: dict[str, Any] = {"mode": None, "difficulty": None, "obs_type": "rgb", "continuous": False, "sound_obs": False}


def check_sizes(**sizes: Any) -> None:
    """
    Check arguments that are whole numbers.

    :param sizes: by their names; ``seed`` and ``num_threads`` may be ``None``
    :raises TypeError: if one is no whole number
    :raises ValueError: if one is below 1, or below 0 in the case of ``seed`` and ``noop_max``
    """
    for name, size in sizes.items():
        if size is not None or name not in {"seed", "num_threads"}:
            check_integer(name, size, 0 if name in {"seed", "noop_max"} else 1)


def stock_env(env_id: str, env_kwargs: dict[str, Any]) -> tuple[AtariEnv, dict[str, Any]]:
    """
    Make the stock environment, to read from it what the game is like.

    :param env_id: an id of Gymnasium's registry
    :param env_kwargs: arguments of ``AtariEnv`` and ``render_mode``, which only is checked
    :return: the environment, closed, and all its arguments, the registered ones included
    :raises ValueError: if it is no Atari game, or if the native emulators cannot do the same
    """
    render_mode = env_kwargs["render_mode"]
    if render_mode not in {None, "rgb_array", "human"}:
        raise ValueError(f'render_mode must be None, "rgb_array" or "human", got {render_mode!r}')
    wanted = f"env_id must name an Atari game of ale_py, such as 'PongNoFrameskip-v4', got {env_id!r}"
    try:
        env = gym.make(env_id, **{**env_kwargs, "render_mode": None}).unwrapped
    except gym.error.UnregisteredEnv as error:
        raise ValueError(wanted) from error
    if not isinstance(env, AtariEnv) or env.spec is None:
        raise ValueError(wanted)
    env.close()
    kwargs = env.spec.kwargs
    if kwargs["frameskip"] != 1:
        raise ValueError(
            f"frameskip must be 1, for AtariVecEnv skips frames itself, and {env_id} has {kwargs['frameskip']}: give "
            "env_kwargs={'frameskip': 1} (the zoo: --env-kwargs frameskip:1), or use an id like 'PongNoFrameskip-v4'"
        )
    for name, value in _STOCK_ONLY.items():
        if kwargs.get(name, value) != value:
            raise ValueError(f"{name} must be {value!r} in native environments, got {kwargs[name]!r}: use AtariWrapper")
    return env, kwargs


def has_fire(meanings: Sequence[str], env_id: str) -> bool:
    """
    Tell whether ``FireResetEnv`` belongs to a game.

    :param meanings: the game's actions, by name
    :param env_id: the game, for the error
    :return: whether it does
    :raises ValueError: if the game has FIRE, but not as action 1, which ``FireResetEnv`` does not accept either
    """
    if "FIRE" not in meanings:
        return False
    if meanings[1] != "FIRE" or len(meanings) < 3:
        raise ValueError(f"env_id must name a game whose action 1 is FIRE, if it has FIRE, got {env_id!r}: {meanings}")
    return True


def repeat_probability(wrappers: float, envs: float) -> float:
    """
    Choose the probability that a frame repeats the action of the frame before.

    :param wrappers: ``action_repeat_probability`` of ``AtariWrapper``
    :param envs: ``repeat_action_probability`` of ``AtariEnv``
    :return: the one that is not 0
    :raises ValueError: if neither is 0, or if the former is no probability
    """
    if not is_number(wrappers) or not 0 <= wrappers <= 1:
        raise ValueError(f"action_repeat_probability must be from 0 to 1, got {wrappers!r}")
    if wrappers and envs:
        raise ValueError(
            f"action_repeat_probability must be 0 where the environment repeats actions itself, with probability {envs}, "
            f"got {wrappers}: set one of them to 0, the latter by env_kwargs={{'repeat_action_probability': 0.0}}"
        )
    return float(wrappers or envs)


def native_seed(seed: int) -> int:
    """
    Derive an emulator's seed as ale_py's ``AtariEnv`` does, without the sign that the native environments do not take.

    :param seed: of an environment, 0 or more
    :return: from 0 to 2**31 - 1
    """
    return int(np.random.SeedSequence(seed).generate_state(2)[1]) & 0x7FFFFFFF
