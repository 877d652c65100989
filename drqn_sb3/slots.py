"""
Storage of experience in slots.

Every environment has a ring of slots. A slot holds one observation, once, and what was done there. An episode of
``n`` steps takes ``n + 1`` slots: the last one is marked *final*, holds the observation that the episode ended on, and is
never trained on::

    observation   o0      o1      o2      o3      o0      o1
    action        a0      a1      a2       -      a0       -
    reward        r0      r1      r2       -      r0       -
    flags         start                   final   start   newest: nothing was done here yet
                  '---- an episode of three steps '------ the running one

Slots are counted from 0 on, per environment and for ever (*logical* index); slot ``i`` lies at ``i % capacity``.
"""

from typing import Any

import numpy as np
import torch as th


def to_device(array: np.ndarray, device: th.device) -> th.Tensor:
    """
    Move an array, without waiting for the device's work.

    :param array: the array
    :param device: where to
    :return: a tensor there; on the host, of the same memory
    """
    tensor = th.as_tensor(array)
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor.to(device)


class SlotStorage:
    """
    One ring of slots per environment. Arrays are made with the first slot, not before.

    Every array is flat: slot ``i`` of environment ``e`` is row ``e * capacity + i % capacity``.

    :param capacity: slots per environment
    :param n_envs: number of environments
    :param observation_shapes: shape and dtype of an observation, by its key in the space; ``""`` for a plain space
    :param device: where observations are kept; all else is on the host
    """

    actions: np.ndarray
    rewards: np.ndarray
    terminated: np.ndarray
    truncated: np.ndarray
    episode_starts: np.ndarray
    final: np.ndarray

    def __init__(
        self,
        capacity: int,
        n_envs: int,
        observation_shapes: dict[str, tuple[tuple[int, ...], np.dtype]],
        device: th.device | str = "cpu",
    ) -> None:
        self.capacity = capacity
        self.n_envs = n_envs
        self.observation_shapes = observation_shapes
        self.device = th.device(device)
        self.observations: dict[str, th.Tensor] = {}
        self.lstm_states: list[np.ndarray] = []
        self.clear()

    def clear(self) -> None:
        """Forget everything."""
        self.n_written = np.zeros(self.n_envs, dtype=np.int64)
        self.is_open = np.zeros(self.n_envs, dtype=bool)

    @property
    def oldest(self) -> np.ndarray:
        """Logical index of each environment's oldest slot, ``(n_envs,)``."""
        return np.maximum(self.n_written - self.capacity, 0)

    @property
    def newest(self) -> np.ndarray:
        """Logical index of each environment's newest slot, ``(n_envs,)``; -1 where there is none."""
        return self.n_written - 1

    def rows(self, envs: np.ndarray | int, indices: np.ndarray) -> np.ndarray:
        """
        Where slots lie.

        :param envs: which environment
        :param indices: logical index there
        :return: rows of the flat arrays
        """
        return envs * self.capacity + indices % self.capacity

    def push(self, envs: np.ndarray, observations: dict[str, np.ndarray], episode_start: bool, final: np.ndarray) -> None:
        """
        Begin a new slot.

        :param envs: the environments concerned, ``(k,)``
        :param observations: what they show, each ``(k, *observation_shape)``
        :param episode_start: whether an episode begins there
        :param final: whether an episode ended on it, ``(k,)``
        """
        if not self.observations:
            self._allocate()
        rows = self.rows(envs, self.n_written[envs])
        for key, stored in self.observations.items():
            if stored.device.type == "cpu":
                stored.numpy()[rows] = observations[key]  # in less time than PyTorch takes
            else:
                stored[to_device(rows, stored.device)] = to_device(observations[key], stored.device)
        for array in (self.actions, self.rewards, self.terminated, self.truncated):
            array[rows] = 0
        self.episode_starts[rows] = episode_start
        self.final[rows] = final
        self.n_written[envs] += 1
        self.is_open[envs] = ~final

    def to(self, device: th.device | str) -> None:
        """
        Move the observations.

        :param device: where to
        """
        self.device = th.device(device)
        self.observations = {key: stored.to(self.device) for key, stored in self.observations.items()}

    def __getstate__(self) -> dict[str, Any]:
        # What is saved on a machine with a GPU can be loaded on one without; arrays are written without a copy, unlike tensors
        on_host = {key: stored.cpu().numpy() for key, stored in self.observations.items()}
        return {**self.__dict__, "observations": on_host, "device": th.device("cpu")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        tensors = {key: th.from_numpy(stored) for key, stored in state["observations"].items()}
        self.__dict__.update({**state, "observations": tensors, "device": th.device("cpu")})

    def end_open_episodes(self) -> None:
        """Cut running episodes off at their newest observation, as a time limit would: from here on there is no telling."""
        envs = np.flatnonzero(self.is_open)
        if len(envs) == 0:
            return
        newest = self.newest[envs]
        self.final[self.rows(envs, newest)] = True
        self.truncated[self.rows(envs, newest - 1)] = True
        self.is_open[envs] = False

    def _allocate(self) -> None:
        n_slots = self.capacity * self.n_envs
        for key, (shape, dtype) in self.observation_shapes.items():
            try:
                # numpy's zeros take no memory until they are written to
                self.observations[key] = th.from_numpy(np.zeros((n_slots, *shape), dtype=dtype)).to(self.device)
            except (MemoryError, th.OutOfMemoryError) as error:
                gigabytes = n_slots * int(np.prod(shape)) * np.dtype(dtype).itemsize / 1e9
                message = f"{n_slots:,} slots of {shape} {dtype} would take {gigabytes:.1f} GB on {self.device}"
                raise MemoryError(f"buffer_size must be smaller: {message}") from error
        self.actions = np.zeros(n_slots, dtype=np.int64)
        self.rewards = np.zeros(n_slots, dtype=np.float32)
        self.terminated = np.zeros(n_slots, dtype=bool)
        self.truncated = np.zeros(n_slots, dtype=bool)
        self.episode_starts = np.zeros(n_slots, dtype=bool)
        self.final = np.zeros(n_slots, dtype=bool)
