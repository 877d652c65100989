"""What the tests of the environments' state share: going on with two environments, and comparing what comes of it."""

import io
import json
from copy import deepcopy
from typing import Any

import numpy as np
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv

from drqn_sb3.checkpoints.plain import pack, unpack


def through_a_file(state: Any) -> Any:
    """Write plain data as JSON and .npy and read it again."""
    structure, arrays = pack(state)
    return unpack(json.loads(json.dumps(structure)), [_through_npy(array) for array in arrays])


def _through_npy(array: np.ndarray) -> np.ndarray:
    file = io.BytesIO()
    np.save(file, array, allow_pickle=False)
    file.seek(0)
    loaded: np.ndarray = np.load(file, allow_pickle=False)
    return loaded


def actions_of(env: VecEnv, seed: int, n_steps: int) -> list[np.ndarray]:
    """Draw actions for all environments, from a generator of its own."""
    rng = np.random.default_rng(seed)
    space = env.action_space
    if space.shape == ():
        return list(rng.integers(space.n, size=(n_steps, env.num_envs)))  # type: ignore[attr-defined]
    return list(rng.integers(2, size=(n_steps, env.num_envs, *(space.shape or ()))))


def play(env: VecEnv, actions: list[np.ndarray]) -> list[Any]:
    """Step and return all that comes of it but the time that episodes took."""
    seen = []
    for action in actions:
        observations, rewards, dones, infos = env.step(action)
        infos = [_without_time(info) for info in infos]
        # SubprocVecEnv's processes send their last reset's again with every step, out of reach for anybody: until the next one
        told = np.ones_like(dones) if isinstance(env.unwrapped, DummyVecEnv) else dones
        resets = [dict(info) for info, is_told in zip(env.reset_infos, told, strict=True) if is_told]
        seen.append((deepcopy(observations), np.copy(rewards), np.copy(dones), infos, resets))
    return seen


def _without_time(info: dict[str, Any]) -> dict[str, Any]:
    if "episode" not in info:
        return info
    return {**info, "episode": {name: value for name, value in info["episode"].items() if name != "t"}}


def n_ends(seen: list[Any]) -> int:
    return int(sum(dones.sum() for _, _, dones, *_ in seen))


def assert_same(one: Any, other: Any, where: str = "") -> None:
    """Compare nested containers; arrays and numbers are equal in type and bit for bit."""
    assert type(one) is type(other), where
    if isinstance(one, dict):
        assert list(one) == list(other), where
        for key in one:
            assert_same(one[key], other[key], f"{where}[{key!r}]")
    elif isinstance(one, list | tuple):
        assert len(one) == len(other), where
        for index, (a, b) in enumerate(zip(one, other, strict=True)):
            assert_same(a, b, f"{where}[{index}]")
    elif isinstance(one, np.ndarray):
        assert (one.dtype, one.shape) == (other.dtype, other.shape), where
        assert one.tobytes() == other.tobytes(), where
    else:
        assert one == other or (one != one and other != other), where
