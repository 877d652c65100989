"""Experience for replay buffers of every kind, and what makes two of them the same."""

from typing import Any

import numpy as np
import torch as th
from gymnasium import spaces

from drqn_sb3 import FrameStackReplayBuffer
from drqn_sb3.buffers import SequenceReplayBuffer
from drqn_sb3.windows import SequentialWindows

VECTOR = spaces.Box(-1, 1, (2,))
IMAGE = spaces.Box(0, 255, (1, 6, 6), dtype=np.uint8)
DICT = spaces.Dict({"image": IMAGE, "../a vector": VECTOR, "cue": spaces.Discrete(1_000)})
STACKED_VECTORS = spaces.Box(-1, 1, (6,))
STACKED_IMAGES = spaces.Box(0, 255, (3, 36, 36), dtype=np.uint8)
ACTIONS = spaces.Discrete(7)

KINDS: dict[str, dict[str, Any]] = {
    "random windows": {"space": VECTOR},
    "random windows, three steps to a target": {"space": IMAGE, "n_steps": 3, "burn_in": 1},
    "random windows, with states": {"space": VECTOR, "n_states": 2},
    "sequential windows": {"space": IMAGE, "replay": "sequential"},
    "sequential windows of dicts, with states": {"space": DICT, "replay": "sequential", "n_states": 1},
    "stacked vectors": {"space": STACKED_VECTORS, "n_stack": 3},
    "stacked images": {"space": STACKED_IMAGES, "n_stack": 3},
    "stacked images, three steps": {"space": STACKED_IMAGES, "n_stack": 3, "n_steps": 3, "gamma": 0.9},
}

Buffer = SequenceReplayBuffer | FrameStackReplayBuffer


class World:
    """
    Environments of noise, and buffers for what happens in them.

    :param kind: of :data:`KINDS`
    :param n_envs: number of environments
    :param capacity: slots per environment
    """

    def __init__(self, kind: str = "random windows", n_envs: int = 1, capacity: int = 12, seed: int = 0) -> None:
        self.arguments = {"n_states": 0, **KINDS[kind]}
        self.n_states, self.space = self.arguments.pop("n_states"), self.arguments.pop("space")
        self.space.seed(seed)
        self.rng = np.random.default_rng(seed)
        self.n_envs, self.capacity = n_envs, capacity
        self.n_stack = self.arguments.get("n_stack")
        self.is_new = np.ones(n_envs, dtype=bool)
        self.observations = self.observe()

    def make_buffer(self, **changes: Any) -> Buffer:
        arguments = {"n_envs": self.n_envs, "buffer_size": self.capacity * self.n_envs, **self.arguments, **changes}
        arguments = {"observation_space": self.space, "action_space": ACTIONS, "device": "cpu", **arguments}
        if self.n_stack is not None:
            return FrameStackReplayBuffer(**arguments)
        return SequenceReplayBuffer(**{"sequence_length": 3, "seed": 5, **arguments})

    def observe(self) -> Any:
        """One more observation of every environment."""
        drawn = [self.space.sample() for _ in range(self.n_envs)]
        if isinstance(self.space, spaces.Dict):
            return {key: np.stack([one[key] for one in drawn]) for key in drawn[0]}
        new = np.stack(drawn)
        if self.n_stack is None:
            return new
        # The same axis for images, channels first, and for vectors
        size = new.shape[1] // self.n_stack
        past = np.zeros_like(new) if self.is_new.all() else self.observations.copy()
        past[self.is_new] = 0
        return np.concatenate([past[:, size:], new[:, :size]], axis=1)

    def step(self, *buffers: Buffer, ends: tuple[str | None, ...] = ()) -> tuple[Any, ...]:
        """
        Have all buffers store one step of every environment; ``ends`` says how episodes end with it, or ``None``.

        :return: observations, next observations, actions and rewards
        """
        ends = ends[: self.n_envs] or (None,) * self.n_envs
        self.is_new[:] = False
        next_observations = self.observe()
        actions, rewards = self.rng.integers(7, size=self.n_envs), self.rng.normal(size=self.n_envs).astype(np.float32)
        done = np.array([end is not None for end in ends])
        infos = [{"TimeLimit.truncated": end == "truncated"} for end in ends]
        states = tuple(th.from_numpy(self.rng.normal(size=(2, self.n_envs, 3))) for _ in range(self.n_states))
        for buffer in buffers:
            buffer.add(self.observations, next_observations, actions, rewards, done, infos)
            if isinstance(buffer, SequenceReplayBuffer) and states:
                buffer.add_lstm_states(states)
        stored = (self.observations, next_observations, actions, rewards)
        self.observations = next_observations
        self.is_new[:] = done
        if done.any():
            self.restart(done)
        return stored

    def restart(self, is_new: np.ndarray) -> None:
        """Reset the environments that are marked, ``(n_envs,)``."""
        if self.n_stack is not None:
            self.is_new[:] = is_new
            fresh, mask = self.observe(), is_new.reshape(-1, *[1] * (self.observations.ndim - 1))
            self.observations = np.where(mask, fresh, self.observations)

    def play(self, buffer: Buffer, n_steps: int) -> None:
        """That many steps, every fifth the end of an episode."""
        for number in range(1, n_steps + 1):
            self.step(buffer, ends=("truncated" if number % 5 == 0 else None,) * self.n_envs)


def cut(buffer: Buffer) -> None:
    """Cut off running episodes."""
    buffer.storage.end_open_episodes()


def contents(buffer: Buffer) -> dict[str, Any]:
    """All that a buffer holds, its settings left out, slots in their order."""
    storage = buffer.storage
    found: dict[str, Any] = {
        "n_written": storage.n_written,
        "is_open": storage.is_open,
        "pos": buffer.pos,
        "full": buffer.full,
    }
    ranges = [np.arange(*ends) for ends in zip(storage.oldest, storage.n_written, strict=True)]
    rows = np.concatenate([storage.rows(env, indices) for env, indices in enumerate(ranges)])
    if storage.n_written.any():
        found |= storage.read(rows)
    if isinstance(buffer, FrameStackReplayBuffer):
        return {**found, "last_frames": buffer._last_frames}
    found["rng"] = buffer.sampler.rng.bit_generator.state
    if isinstance(buffer.sampler, SequentialWindows):
        found |= {name: getattr(buffer.sampler, name) for name in ("envs", "indices", "is_last")}
    return found


def assert_same(first: Buffer, second: Buffer) -> None:
    """Two buffers hold the same, to the last bit."""
    one, other = contents(first), contents(second)
    assert one.keys() == other.keys()
    for name, value in one.items():
        np.testing.assert_equal(other[name], value, err_msg=name, strict=isinstance(value, np.ndarray))


def sample(buffer: Buffer) -> Any:
    """A batch, drawn from NumPy's generator as it starts, where that is what the buffer draws from."""
    np.random.seed(0)
    return buffer.sample(6)


def assert_same_samples(first: Buffer, second: Buffer) -> None:
    """The next samples of two buffers are the same, to the last bit."""
    one, other = sample(first), sample(second)
    for name, value, wanted in zip(one._fields, other, one, strict=True):
        th.testing.assert_close({name: value}, {name: wanted}, rtol=0, atol=0)
