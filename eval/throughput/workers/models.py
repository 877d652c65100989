"""What the workers that use Stable-Baselines3 share: an environment of frames, and the experience in a model's buffer."""

from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
import torch as th
from gymnasium import spaces
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.logger import configure
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.common.vec_env import VecEnv
from torch import nn

from eval.throughput.experience import Experience, stack_frames
from eval.throughput.protocol import Work

REPLAY_ENVS = 8
"""Environments that the experience in a replay buffer comes from."""

MAX_GRAD_NORM = 10.0


class FrameEnv(gym.Env[np.ndarray, np.int64]):
    """
    Says what observations and actions look like; nobody steps it.

    :param n_frames: frames in an observation
    :param image_size: height and width of a frame
    :param n_actions: number of actions
    """

    def __init__(self, n_frames: int, image_size: int, n_actions: int) -> None:
        self.observation_space = spaces.Box(0, 255, (n_frames, image_size, image_size), np.uint8)
        self.action_space = spaces.Discrete(n_actions)


def frame_envs(work: Work, n_envs: int, n_frames: int = 1) -> VecEnv:
    """
    :param work: sizes
    :param n_envs: number of environments
    :param n_frames: frames in an observation
    :return: environments that only say what they look like
    """
    kwargs = {"n_frames": n_frames, "image_size": work.image_size, "n_actions": work.n_actions}
    return make_vec_env(FrameEnv, n_envs=n_envs, env_kwargs=kwargs)


def fill(buffer: Any, experience: Experience, n_stack: int = 1) -> int:
    """
    Tell a replay buffer the experience, as SB3 tells it: stacks as ``VecFrameStack`` makes them, zeros before an episode.

    :param buffer: with SB3's ``add``
    :param experience: made up
    :param n_stack: frames in an observation
    :return: number of steps stored
    """
    n_steps, n_envs = experience.dones.shape
    infos: list[dict[str, Any]] = [{} for _ in range(n_envs)]
    # (n_envs, n_stack, size, size)
    stacks = np.repeat(np.zeros_like(experience.frames[0]), n_stack, axis=1)
    stacks[:, -1:] = experience.frames[0]
    for step in range(n_steps):
        next_stacks = np.concatenate((stacks[:, 1:], experience.frames[step + 1]), axis=1)
        dones = experience.dones[step]
        buffer.add(stacks, next_stacks, experience.actions[step][:, None], experience.rewards[step], dones, infos)
        stacks = next_stacks.copy()
        stacks[dones, :-1] = 0
    return n_steps * n_envs


def silence(model: Any) -> None:
    """
    Give a model that ``learn`` was not called on a logger, which keeps quiet.

    :param model: SB3's
    """
    model.set_logger(configure(None, []))


def wait_for(device: th.device) -> None:
    """
    Wait until a device has done all it was given.

    :param device: where the work was sent to
    """
    if device.type == "cuda":
        th.cuda.synchronize(device)


def count_parameters(net: nn.Module) -> int:
    """
    :param net: a network
    :return: number of parameters
    """
    return sum(parameter.numel() for parameter in net.parameters())


def acting(model: OffPolicyAlgorithm, experience: Experience, n_frames: int) -> Callable[[int], int]:
    """
    Choose actions as ``learn`` does, for all environments at once, always greedily.

    :param model: a DQN or one of its kind
    :param experience: what is observed
    :param n_frames: frames in an observation
    :return: told how often, chooses that often and returns the number of actions chosen
    """
    n_steps, n_envs = experience.dones.shape
    stacks, starts = stack_frames(experience.frames, n_frames), experience.episode_starts

    def run(n_operations: int) -> int:
        for i in range(n_operations):
            model._last_obs, model._last_episode_starts = stacks[i % n_steps], starts[i % n_steps]
            model._sample_action(0, n_envs=n_envs)
        wait_for(model.device)
        return n_operations * n_envs

    return run


def versions() -> dict[str, str]:
    """
    :return: of what decides the speed of this environment
    """
    import drqn_sb3

    names = {"drqn_sb3": drqn_sb3.__version__, "torch": th.__version__, "numpy": np.__version__}
    return names | {"gpu": th.cuda.get_device_name()} if th.cuda.is_available() else names
