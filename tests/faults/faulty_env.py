"""Environments that fail in every way there is."""

import os
import signal
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import gymnasium as gym
import numpy as np
from stable_baselines3.common.vec_env import DummyVecEnv, SubprocVecEnv

from drqn_sb3.checkpoints import ResumableEnv

AT_STEP = 30

Fault = Callable[[Any, float], tuple[Any, float]]
"""Takes an observation and a reward, and returns what comes of them, if it returns."""


def kill(obs: Any, reward: float) -> tuple[Any, float]:
    os.kill(os.getpid(), signal.SIGKILL)
    return obs, reward


def hang(obs: Any, reward: float) -> tuple[Any, float]:
    time.sleep(3600)
    return obs, reward


def fail(obs: Any, reward: float) -> tuple[Any, float]:
    raise KeyError("the simulator has lost its ball")


def sigterm(obs: Any, reward: float) -> tuple[Any, float]:
    signal.raise_signal(signal.SIGTERM)
    return obs, reward


def nan_reward(obs: Any, reward: float) -> tuple[Any, float]:
    return obs, float("nan")


def nan_observation(obs: Any, reward: float) -> tuple[Any, float]:
    return np.full_like(obs, np.nan), reward


def far_observation(obs: Any, reward: float) -> tuple[Any, float]:
    return np.array([7.0, *obs[1:]], dtype=obs.dtype), reward


def oversized_pixels(obs: Any, reward: float) -> tuple[Any, float]:
    return np.full(obs.shape, 300, dtype=np.int64), reward


class Faulty(gym.Wrapper):
    """
    Does as its environment does, but for one step.

    :param env: the environment
    :param fault: what happens at step :data:`AT_STEP`
    """

    def __init__(self, env: gym.Env, fault: Fault) -> None:
        super().__init__(env)
        self.fault, self.n_steps = fault, 0

    def step(self, action: Any) -> Any:
        obs, reward, *others = self.env.step(action)
        self.n_steps += 1
        if self.n_steps == AT_STEP:
            obs, reward = self.fault(obs, float(reward))
        return obs, reward, *others


def make_one(env_id: str, fault: Fault | None) -> gym.Env:
    env = gym.make(f"drqn_sb3:{env_id}")
    return ResumableEnv(env if fault is None else Faulty(env, fault))


def alone(fault: Fault, env_id: str = "Recall-v0") -> DummyVecEnv:
    """Two environments in this process, of which the second has the fault."""
    return DummyVecEnv([partial(make_one, env_id, None), partial(make_one, env_id, fault)])


def apart(fault: Fault) -> SubprocVecEnv:
    """Two environments in processes of their own, of which the second has the fault."""
    return SubprocVecEnv([partial(make_one, "Recall-v0", None), partial(make_one, "Recall-v0", fault)])
