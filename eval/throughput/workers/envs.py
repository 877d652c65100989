"""
Environments by themselves: steps of vector environments under random actions, resets included.

``options``: ``env_id``, and ``kind``: ``"dummy"`` and ``"subproc"`` are SB3's vector environments of Atari's preprocessing,
``"native"`` is :class:`drqn_sb3.envs.AtariVecEnv`.
"""

from typing import Any

import gymnasium as gym
import numpy as np
from stable_baselines3.common.atari_wrappers import AtariWrapper
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import DummyVecEnv, SubprocVecEnv, VecEnv, VecTransposeImage

from drqn_sb3.envs import AtariVecEnv, SlimeVolleyAtariWrapper, register_envs
from eval.throughput.protocol import Task, Work, serve
from eval.throughput.workers.models import versions

N_ACTIONS_DRAWN = 1000


def atari_env(env_id: str) -> gym.Env:
    """
    :param env_id: of a game without frame skip
    :return: the game under Atari's preprocessing: 84x84 grey frames, 4 frames per step, clipped rewards
    """
    register_envs()
    if env_id.startswith("SlimeVolley"):
        return SlimeVolleyAtariWrapper(gym.make(env_id))
    import ale_py

    gym.register_envs(ale_py)
    return AtariWrapper(gym.make(env_id))


def make_venv(env_id: str, kind: str, n_envs: int, seed: int) -> VecEnv:
    """
    :param env_id: of a game without frame skip
    :param kind: ``"dummy"``, ``"subproc"`` or ``"native"``
    :param n_envs: number of environments
    :param seed: of the first, the others count up from it
    :return: the vector environment, channels first
    """
    if kind == "native":
        return VecTransposeImage(AtariVecEnv(env_id, n_envs, seed))
    vec_env_cls: Any = {"dummy": DummyVecEnv, "subproc": SubprocVecEnv}[kind]
    venv = make_vec_env(atari_env, n_envs, seed, env_kwargs={"env_id": env_id}, vec_env_cls=vec_env_cls)
    return VecTransposeImage(venv)


def build(work: Work) -> Task:
    """
    :param work: what to do
    :return: the task: an operation is a step of every environment
    """
    venv = make_venv(work.options["env_id"], work.options["kind"], work.n_envs, work.seed)
    rng = np.random.default_rng(work.seed)
    actions = rng.integers(venv.action_space.n, size=(N_ACTIONS_DRAWN, work.n_envs))  # type: ignore[attr-defined]
    venv.reset()
    position = 0

    def run(n_operations: int) -> int:
        nonlocal position
        for _ in range(n_operations):
            venv.step(actions[position % N_ACTIONS_DRAWN])
            position += 1
        return n_operations * work.n_envs

    return Task(run, {"observation": list(venv.observation_space.shape or ()), "versions": versions()})


if __name__ == "__main__":
    serve(build)
