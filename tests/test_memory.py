"""
What storing takes, measured by allocation: of 84x84 grey frames, a frame and little else per step.

An episode of ``n`` steps takes ``n + 1`` slots. Per slot the figures are the same for all episodes; per step they are larger
by ``1 / n``, which is below 1 % for the games that the buffers are made for, and doubles them for episodes of one step.
"""

import tracemalloc
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from stable_baselines3.common.buffers import ReplayBuffer

from drqn_sb3 import FrameStackReplayBuffer, SequenceReplayBuffer

FRAME = 84 * 84
ACTIONS = spaces.Discrete(6)
HIDDEN_SIZE = 512
N_SLOTS = 3_000


def stacks(n_stack: int) -> spaces.Box:
    return spaces.Box(0, 255, (n_stack, 84, 84), np.uint8)


def fill(buffer: ReplayBuffer, n_steps: int, length: int, after_add: Callable[[], None] = lambda: None) -> None:
    """Store as many steps of all environments together; episodes end after ``length`` of them, every other one cut off."""
    n_envs = buffer.n_envs
    obs = np.zeros((n_envs, *buffer.obs_shape), np.uint8)
    infos: list[dict[str, Any]] = [{"TimeLimit.truncated": True}, {}]
    for step in range(1, n_steps + 1):
        next_obs = np.roll(obs, -1, axis=1)
        next_obs[:, -1] = step % 255 + 1
        is_over = step % length == 0
        done = np.full(n_envs, is_over)
        buffer.add(obs, next_obs, np.zeros(n_envs), np.ones(n_envs), done, [infos[step // length % 2]] * n_envs)
        after_add()
        obs = np.zeros_like(obs) if is_over else next_obs


def bytes_taken(work: Callable[[], Any]) -> int:
    """What a function allocates and its result keeps."""
    tracemalloc.start()
    try:
        kept = work()
        taken, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert kept is not None
    return taken


def n_slots_of(n_steps: int, length: int) -> int:
    """Slots that as many steps of one environment take: one more for each episode begun."""
    return n_steps + -(-n_steps // length)


WORLDS = {
    "one environment, long episodes": (1, 1_500),
    "eight environments, long episodes": (8, 350),
    "eight environments, episodes of 100 steps": (8, 100),
    "three environments, episodes of 10 steps": (3, 10),
    "two environments, episodes of one step": (2, 1),
}


@pytest.mark.parametrize("n_stack", [4, 10])
@pytest.mark.parametrize(("n_envs", "length"), WORLDS.values(), ids=WORLDS.keys())
def test_a_frame_stack_takes_little_more_than_its_newest_frame(n_envs: int, length: int, n_stack: int) -> None:
    capacity = N_SLOTS // n_envs
    n_steps = capacity
    while n_slots_of(n_steps, length) > capacity:
        n_steps -= 1

    def store() -> FrameStackReplayBuffer:
        buffer = FrameStackReplayBuffer(N_SLOTS, stacks(n_stack), ACTIONS, "cpu", n_envs, n_stack=n_stack)
        fill(buffer, n_steps, length)
        # Full, and nothing overwritten
        assert capacity - 1 <= buffer.storage.n_written.min() == n_slots_of(n_steps, length) <= capacity
        return buffer

    taken = bytes_taken(store)
    # Beside the slots: a copy of the last stacks, and the bounds of the observation space
    assert taken / N_SLOTS < 1.1 * FRAME
    if length >= 100:
        assert taken / (n_envs * n_steps) < 1.1 * FRAME
    assert taken > FRAME * n_envs * n_steps


@pytest.mark.parametrize("stores_state", [False, True], ids=["without a state", "with a state"])
@pytest.mark.parametrize(("n_envs", "length"), WORLDS.values(), ids=WORLDS.keys())
def test_a_sequence_takes_little_more_than_its_frames(n_envs: int, length: int, stores_state: bool) -> None:
    capacity = N_SLOTS // n_envs
    n_steps = capacity
    while n_slots_of(n_steps, length) > capacity:
        n_steps -= 1
    state = tuple(th.zeros(1, n_envs, HIDDEN_SIZE) for _ in range(2))

    def store() -> SequenceReplayBuffer:
        buffer = SequenceReplayBuffer(N_SLOTS, stacks(1), ACTIONS, "cpu", n_envs)
        fill(buffer, n_steps, length, (lambda: buffer.add_lstm_states(state)) if stores_state else (lambda: None))
        assert capacity - 1 <= buffer.storage.n_written.min() == n_slots_of(n_steps, length) <= capacity
        return buffer

    taken = bytes_taken(store)
    # Half precision: two bytes each of both parts of an LSTM's state
    state_bytes = 2 * 2 * HIDDEN_SIZE if stores_state else 0
    assert taken / N_SLOTS <= 1.05 * FRAME + state_bytes
    if length >= 100:
        assert taken / (n_envs * n_steps) <= 1.05 * FRAME + state_bytes
    assert taken > (FRAME + state_bytes) * n_envs * n_steps


@pytest.mark.parametrize("n_stack", [4, 10])
def test_sb3s_own_buffer_takes_every_stack_twice(n_stack: int) -> None:
    n_steps = 100

    def store() -> ReplayBuffer:
        buffer = ReplayBuffer(n_steps, stacks(n_stack), ACTIONS, "cpu")
        fill(buffer, n_steps, 30)
        return buffer

    assert bytes_taken(store) / n_steps == pytest.approx(2 * n_stack * FRAME, rel=0.05)


@pytest.mark.parametrize("buffer_class", [FrameStackReplayBuffer, SequenceReplayBuffer])
def test_a_buffer_takes_nothing_before_it_is_used(buffer_class: type[ReplayBuffer]) -> None:
    arguments: dict[str, Any] = {"n_stack": 4} if buffer_class is FrameStackReplayBuffer else {}
    space = stacks(4)
    taken = bytes_taken(lambda: buffer_class(1_000_000, space, ACTIONS, "cpu", **arguments))
    assert taken < 100_000
