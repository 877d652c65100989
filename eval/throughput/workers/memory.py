"""
Bytes that a replay buffer takes per step stored, measured while it fills up: a fresh process for each.

Measured twice, as each sees what the other does not: ``traced`` is what Python and numpy have asked for (tracemalloc),
``resident`` by how much the process has grown, PyTorch's own memory included. ``device`` is what lies on the GPU.
``options``: ``buffer``, a key of :data:`BUFFERS`.
"""

import gc
import os
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch as th
from gymnasium import spaces
from stable_baselines3.common.buffers import ReplayBuffer

from drqn_sb3 import FrameStackReplayBuffer, SequenceReplayBuffer
from eval.throughput.experience import experience_of
from eval.throughput.protocol import Task, Work, serve
from eval.throughput.workers.models import REPLAY_ENVS, fill, versions

N_STACK = 4


def make_sequence_buffer(work: Work, buffer_size: int) -> Any:
    """
    :param work: sizes and device
    :param buffer_size: number of slots
    :return: this project's buffer of sequences
    """
    spaces_of = observation_space(work, 1), spaces.Discrete(work.n_actions)
    return SequenceReplayBuffer(
        buffer_size, *spaces_of, work.device, REPLAY_ENVS, sequence_length=work.sequence_length, seed=work.seed
    )


def make_stock_buffer(work: Work, buffer_size: int) -> Any:
    """
    :param work: sizes and device
    :param buffer_size: number of transitions
    :return: SB3's buffer, of stacks of 4 frames
    """
    return ReplayBuffer(
        buffer_size, observation_space(work, N_STACK), spaces.Discrete(work.n_actions), work.device, REPLAY_ENVS
    )


def make_frame_stack_buffer(work: Work, buffer_size: int) -> Any:
    """
    :param work: sizes and device
    :param buffer_size: number of slots
    :return: this project's buffer of stacks of 4 frames
    """
    spaces_of = observation_space(work, N_STACK), spaces.Discrete(work.n_actions)
    return FrameStackReplayBuffer(buffer_size, *spaces_of, work.device, REPLAY_ENVS, n_stack=N_STACK)


def observation_space(work: Work, n_frames: int) -> spaces.Box:
    """
    :param work: sizes
    :param n_frames: frames in an observation
    :return: the space
    """
    return spaces.Box(0, 255, (n_frames, work.image_size, work.image_size), np.uint8)


# buffer -> how to make it, frames in an observation
BUFFERS: dict[str, tuple[Callable[[Work, int], Any], int]] = {
    "SequenceReplayBuffer": (make_sequence_buffer, 1),
    "FrameStackReplayBuffer": (make_frame_stack_buffer, N_STACK),
    "ReplayBuffer": (make_stock_buffer, N_STACK),
}


def resident_bytes() -> int:
    """
    :return: memory of this process
    """
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def device_bytes() -> int:
    """
    :return: what tensors take on the GPU
    """
    return th.cuda.memory_allocated() if th.cuda.is_available() else 0


def measure(work: Work) -> dict[str, float]:
    """
    Fill a buffer up and see what that has taken.

    :param work: sizes, and which buffer
    :return: bytes per step: ``traced``, ``resident`` and ``device``; and the number of ``steps``
    """
    make, n_stack = BUFFERS[work.options["buffer"]]
    # A slot is lost with each episode's end: fill what is left when every ring has lost as many as the unluckiest
    n_slots = work.buffer_size // REPLAY_ENVS
    experience = experience_of(work, n_slots, REPLAY_ENVS)
    n_steps = n_slots - 1 - int(experience.dones.sum(axis=0).max())
    experience = experience._replace(
        frames=experience.frames[: n_steps + 1],
        actions=experience.actions[:n_steps],
        rewards=experience.rewards[:n_steps],
        dones=experience.dones[:n_steps],
    )
    # What comes with first use, such as imports, is no matter of the buffer
    rehearsal = make(work, REPLAY_ENVS * (work.sequence_length + 2))
    fill(rehearsal, experience._replace(dones=experience.dones[: work.sequence_length]), n_stack)
    del rehearsal
    gc.collect()
    before = resident_bytes(), device_bytes()
    tracemalloc.start()
    buffer = make(work, work.buffer_size)
    steps = fill(buffer, experience, n_stack)
    gc.collect()
    traced, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    taken = {"traced": traced, "resident": resident_bytes() - before[0], "device": device_bytes() - before[1]}
    return {"steps": steps, **{kind: value / steps for kind, value in taken.items()}}


def build(work: Work) -> Task:
    """
    :param work: what to do
    :return: a task with ``bytes`` to call; there is nothing to repeat
    """
    return Task(None, {"versions": versions()}, {"bytes": lambda: measure(work)})


if __name__ == "__main__":
    serve(build)
