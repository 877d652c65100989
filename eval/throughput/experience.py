"""
Made-up experience that every contestant's replay buffer is filled with: random frames in episodes of random lengths.

Needs numpy only, as it runs in every contestant's interpreter.
"""

from typing import NamedTuple

import numpy as np

from eval.throughput.protocol import Work


class Experience(NamedTuple):
    """
    Steps of several environments; axis order ``(time, env, ...)``.

    :param frames: ``(n_steps + 1, n_envs, 1, size, size)``, uint8: what was observed, the last frame is what came of it all
    :param actions: ``(n_steps, n_envs)``, int64
    :param rewards: ``(n_steps, n_envs)``, float32: -1, 0 or 1
    :param dones: ``(n_steps, n_envs)``, bool: the episode ended (terminated) with this step
    """

    frames: np.ndarray
    actions: np.ndarray
    rewards: np.ndarray
    dones: np.ndarray

    @property
    def episode_starts(self) -> np.ndarray:
        """``(n_steps, n_envs)``, bool: an episode begins with this step."""
        starts = np.ones_like(self.dones)
        starts[1:] = self.dones[:-1]
        return starts


def episode_ends(n_steps: int, episode_length: int, rng: np.random.Generator) -> np.ndarray:
    """
    Where the episodes of an environment end: lengths uniform between half and one and a half times the average.

    :param n_steps: number of steps
    :param episode_length: the average
    :param rng: the source of the lengths
    :return: ``(n_steps,)``, bool
    """
    dones = np.zeros(n_steps, dtype=bool)
    shortest, longest = max(episode_length // 2, 1), episode_length + episode_length // 2
    end = int(rng.integers(shortest, longest + 1)) - 1
    while end < n_steps:
        dones[end] = True
        end += int(rng.integers(shortest, longest + 1))
    return dones


def make_experience(n_steps: int, n_envs: int, image_size: int, n_actions: int, episode_length: int, seed: int) -> Experience:
    """
    Make experience up.

    :param n_steps: steps of each environment
    :param n_envs: number of environments
    :param image_size: height and width of a frame
    :param n_actions: number of actions
    :param episode_length: steps of an episode, on average
    :param seed: the same seed makes the same experience
    :return: the experience
    """
    rng = np.random.default_rng(seed)
    return Experience(
        frames=rng.integers(256, size=(n_steps + 1, n_envs, 1, image_size, image_size), dtype=np.uint8),
        actions=rng.integers(n_actions, size=(n_steps, n_envs)),
        rewards=rng.integers(-1, 2, size=(n_steps, n_envs)).astype(np.float32),
        dones=np.stack([episode_ends(n_steps, episode_length, rng) for _ in range(n_envs)], axis=1),
    )


def experience_of(work: Work, n_steps: int, n_envs: int) -> Experience:
    """
    :param work: sizes and seed
    :param n_steps: steps of each environment
    :param n_envs: number of environments
    :return: made-up experience
    """
    return make_experience(n_steps, n_envs, work.image_size, work.n_actions, work.episode_length, work.seed)


def stack_frames(frames: np.ndarray, n_stack: int) -> np.ndarray:
    """
    Frame stacks, the newest frame last, as a stock DQN sees them; stacks are not cut at episode starts.

    :param frames: ``(n_frames, n_envs, 1, size, size)``
    :param n_stack: frames in a stack
    :return: ``(n_frames, n_envs, n_stack, size, size)``, contiguous as ``VecFrameStack``'s are
    """
    index = np.maximum(np.arange(len(frames))[:, None] + np.arange(1 - n_stack, 1), 0)
    # (n_frames, n_stack, n_envs, 1, size, size) -> (n_frames, n_envs, n_stack, size, size)
    return np.ascontiguousarray(frames[index].squeeze(3).swapaxes(1, 2))
