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

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch as th

STEP_DTYPES: dict[str, type] = {
    "actions": np.int64,
    "rewards": np.float32,
    "terminated": np.bool_,
    "truncated": np.bool_,
    "episode_starts": np.bool_,
    "final": np.bool_,
}
"""What a slot holds beside its observation, by the attribute of :class:`SlotStorage`."""


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

    A slot stays as it is once there are two newer ones, until it is overwritten. Where that does not hold, as when the
    storage is cleared or unpickled, :attr:`history` becomes another object.

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
    history: object

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
        self.clear()

    def clear(self) -> None:
        """Forget everything."""
        self.n_written = np.zeros(self.n_envs, dtype=np.int64)
        self.is_open = np.zeros(self.n_envs, dtype=bool)
        self.lstm_states: list[np.ndarray] = []
        self.history = object()

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
            self._put(stored, rows, observations[key])
        for array in (self.actions, self.rewards, self.terminated, self.truncated):
            array[rows] = 0
        self.episode_starts[rows] = episode_start
        self.final[rows] = final
        self.n_written[envs] += 1
        self.is_open[envs] = ~final

    @staticmethod
    def _put(stored: th.Tensor, rows: np.ndarray, values: np.ndarray) -> None:
        if stored.device.type == "cpu":
            stored.numpy()[rows] = values  # in less time than PyTorch takes
        else:
            stored[to_device(rows, stored.device)] = to_device(values, stored.device)

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
        state = {**self.__dict__, "observations": on_host, "device": th.device("cpu")}
        # A copy goes its own way
        del state["history"]
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        tensors = {key: th.from_numpy(stored) for key, stored in state["observations"].items()}
        self.__dict__.update({**state, "observations": tensors, "device": th.device("cpu"), "history": object()})

    def end_open_episodes(self) -> None:
        """Cut running episodes off at their newest observation, as a time limit would: from here on there is no telling."""
        envs = np.flatnonzero(self.is_open)
        if len(envs) == 0:
            return
        newest = self.newest[envs]
        self.final[self.rows(envs, newest)] = True
        self.truncated[self.rows(envs, newest - 1)] = True
        self.is_open[envs] = False

    # --- whole slots, as columns ---

    @property
    def lstm_shapes(self) -> list[tuple[int, ...]]:
        """Shape of each recurrent state of a slot, ``(n_layers, hidden_size)``; none where no states are stored."""
        return [stored.shape[1:] for stored in self.lstm_states]

    def columns(self, lstm_shapes: list[tuple[int, ...]]) -> dict[str, tuple[tuple[int, ...], np.dtype]]:
        """
        Tell what a slot holds.

        :param lstm_shapes: shapes of its recurrent states
        :return: shape and dtype by column: the names in :data:`STEP_DTYPES`, ``observations_0`` and on, in the order of
            :attr:`observation_shapes`, ``lstm_states_0`` and on
        """
        columns: dict[str, tuple[tuple[int, ...], np.dtype]] = {}
        columns |= {name: ((), np.dtype(dtype)) for name, dtype in STEP_DTYPES.items()}
        columns |= {f"observations_{number}": what for number, what in enumerate(self.observation_shapes.values())}
        columns |= {f"lstm_states_{number}": (shape, np.dtype(np.float16)) for number, shape in enumerate(lstm_shapes)}
        return columns

    def read(self, rows: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
        """
        Copy slots, column by column.

        :param rows: where they lie, ``(k,)``
        :return: name and content of each of :meth:`columns`, ``(k, *shape)``, on the host
        """
        for name in STEP_DTYPES:
            yield name, getattr(self, name)[rows]
        for number, key in enumerate(self.observation_shapes):
            stored = self.observations[key]
            is_on_host = stored.device.type == "cpu"
            taken = stored.numpy()[rows] if is_on_host else stored[to_device(rows, stored.device)].cpu().numpy()
            yield f"observations_{number}", taken
        for number, states in enumerate(self.lstm_states):
            yield f"lstm_states_{number}", states[rows]

    def write(self, rows: np.ndarray, columns: dict[str, np.ndarray]) -> None:
        """
        Put slots back that :meth:`read` has copied; how many there are is not for this method to say.

        :param rows: where to, ``(k,)``, none of them twice
        :param columns: what they hold, each ``(k, *shape)``
        """
        if not self.observations:
            self._allocate()
        for name in STEP_DTYPES:
            getattr(self, name)[rows] = columns[name]
        for number, key in enumerate(self.observation_shapes):
            self._put(self.observations[key], rows, columns[f"observations_{number}"])
        states = [column for name, column in columns.items() if name.startswith("lstm_states_")]
        if not self.lstm_states:
            self.allocate_lstm_states([column.shape[1:] for column in states])
        for stored_states, column in zip(self.lstm_states, states, strict=True):
            stored_states[rows] = column

    def allocate_lstm_states(self, shapes: list[tuple[int, ...]]) -> None:
        """
        Make room for recurrent states, all zero.

        :param shapes: their shapes, each ``(n_layers, hidden_size)``
        """
        n_slots = self.capacity * self.n_envs
        self.lstm_states = [np.zeros((n_slots, *shape), dtype=np.float16) for shape in shapes]

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
        for name, column_dtype in STEP_DTYPES.items():
            setattr(self, name, np.zeros(n_slots, dtype=column_dtype))
