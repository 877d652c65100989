"""
Replay of sequences: storing (:mod:`drqn_sb3.slots`), drawing (:mod:`drqn_sb3.windows`) and gathering them.

Axis order ``(time, batch, ...)``.
"""

from typing import Any

import numpy as np
import torch as th
from gymnasium import spaces
from stable_baselines3.common.buffers import BaseBuffer, ReplayBuffer
from stable_baselines3.common.preprocessing import get_obs_shape
from stable_baselines3.common.vec_env import VecNormalize

from drqn_sb3.checks import check_integer
from drqn_sb3.slots import SlotStorage, to_device
from drqn_sb3.type_aliases import RecurrentStates, SequenceSamples
from drqn_sb3.windows import RandomWindows, SequentialWindows, Windows

Observations = np.ndarray | dict[str, np.ndarray]
"""One observation per environment, ``(n_envs, *observation_shape)``, or a dict of such."""


class SequenceReplayBuffer(ReplayBuffer):
    """
    Replay buffer of sequences for recurrent Q-learning.

    Each observation is stored once, episodes of any length lie behind one another, nothing is padded.
    :mod:`drqn_sb3.slots` draws the slots, :class:`~drqn_sb3.type_aliases.SequenceSamples` says what a sample holds. Memory
    is taken with the first :meth:`add`. ``pos`` and ``full`` are those of the environment of which least is stored.

    :param buffer_size: number of slots in all, shared equally by the environments
    :param observation_space: observation space
    :param action_space: action space, discrete
    :param device: where samples are put
    :param n_envs: number of parallel environments
    :param optimize_memory_usage: must be False: every observation is stored once anyway
    :param sequence_length: training slots of a window
    :param burn_in: slots before them that only warm up the state
    :param n_steps: slots after them that targets bootstrap from
    :param replay: ``"random"`` windows, or ``"sequential"`` ones, see :class:`RandomWindows`, :class:`SequentialWindows`
    :param seed: of the draws
    :param buffer_device: where observations are kept: ``"cpu"``, ``device``, or ``"auto"``: on ``device`` if that is a GPU and
        they fit in half of its free memory
    :raises TypeError, ValueError: naming the argument, its bound and what was received
    """

    def __init__(
        self,
        buffer_size: int,
        observation_space: spaces.Space,
        action_space: spaces.Space,
        device: th.device | str = "auto",
        n_envs: int = 1,
        optimize_memory_usage: bool = False,
        sequence_length: int = 10,
        burn_in: int = 0,
        n_steps: int = 1,
        replay: str = "random",
        seed: int | np.random.SeedSequence | None = None,
        buffer_device: th.device | str = "auto",
    ) -> None:
        # Not ReplayBuffer's own constructor: it would allocate transitions
        BaseBuffer.__init__(self, buffer_size, observation_space, action_space, device, n_envs)
        check_integer("buffer_size", buffer_size, 1)
        check_integer("n_envs", n_envs, 1)
        check_integer("sequence_length", sequence_length, 1)
        check_integer("burn_in", burn_in, 0)
        check_integer("n_steps", n_steps, 1)
        if not isinstance(action_space, spaces.Discrete):
            raise ValueError(f"action_space must be Discrete, got {action_space}")
        parts = observation_space.spaces.values() if isinstance(observation_space, spaces.Dict) else ()
        if any(isinstance(part, spaces.Dict) for part in parts):
            raise ValueError(f"observation_space must not nest dicts, got {observation_space}")
        if replay not in ("random", "sequential"):
            raise ValueError(f'replay must be "random" or "sequential", got {replay!r}')
        if replay == "sequential" and burn_in > 0:
            raise ValueError(f'burn_in must be 0 with replay="sequential", which carries the state on, got {burn_in}')
        if optimize_memory_usage:
            raise ValueError("optimize_memory_usage must be False, got True: every observation is stored once anyway")
        self.sequence_length, self.burn_in, self.n_steps = sequence_length, burn_in, n_steps
        self.window_length = burn_in + sequence_length + n_steps
        self.buffer_size = buffer_size // n_envs
        if self.buffer_size < self.window_length:
            raise ValueError(
                f"buffer_size must be at least a window (burn_in + sequence_length + n_steps = {self.window_length}) "
                f"for each of {n_envs} environments, {self.window_length * n_envs} in all, got {buffer_size}"
            )
        self.optimize_memory_usage = False
        self.handle_timeout_termination = True
        self.storage = SlotStorage(self.buffer_size, n_envs, self._observation_shapes(), self._storage_device(buffer_device))
        sampler_class = RandomWindows if replay == "random" else SequentialWindows
        self.sampler: RandomWindows | SequentialWindows = sampler_class(sequence_length, np.random.default_rng(seed))

    def seed(self, seed: int | np.random.SeedSequence | None) -> None:
        """
        Seed the draws.

        :param seed: the seed
        """
        self.sampler.rng = np.random.default_rng(seed)

    def size(self) -> int:
        """
        Count what is stored; unlike in SB3's buffers, over all environments.

        :return: number of slots filled
        """
        return int(np.minimum(self.storage.n_written, self.buffer_size).sum())

    def reset(self) -> None:
        """Forget everything stored."""
        super().reset()
        self.storage.clear()
        if isinstance(self.sampler, SequentialWindows):
            self.sampler.forget()

    # --- storing ---

    def add(
        self,
        obs: Observations,
        next_obs: Observations,
        action: np.ndarray,
        reward: np.ndarray,
        done: np.ndarray,
        infos: list[dict[str, Any]],
    ) -> None:
        """
        Store one step of every environment; arguments as in SB3's buffer.

        :param obs: what was acted on; read where an episode begins, elsewhere it is the last call's ``next_obs``
        :param next_obs: what came of it; where ``done``, the observation the episode ended on
        :param action: ``(n_envs,)`` or ``(n_envs, 1)``
        :param reward: ``(n_envs,)``
        :param done: ``(n_envs,)``, terminated or truncated
        :param infos: a step that is done is truncated if its info says ``TimeLimit.truncated``, else terminated
        """
        storage, envs = self.storage, np.arange(self.n_envs)
        # All that can fail comes before anything is stored
        observations, next_observations = self._by_key(obs), self._by_key(next_obs)
        actions, rewards = np.asarray(action).reshape(self.n_envs), np.asarray(reward).reshape(self.n_envs)
        done = np.asarray(done, dtype=bool).reshape(self.n_envs)
        timeouts = np.array([info.get("TimeLimit.truncated", False) for info in infos], dtype=bool).reshape(self.n_envs)
        begins = np.flatnonzero(~storage.is_open)
        if len(begins):
            first = {key: value[begins] for key, value in observations.items()}
            storage.push(begins, first, episode_start=True, final=np.zeros(len(begins), dtype=bool))
        rows = storage.rows(envs, storage.newest)
        storage.actions[rows] = actions
        storage.rewards[rows] = rewards
        storage.terminated[rows] = done & ~timeouts
        storage.truncated[rows] = done & timeouts
        storage.push(envs, next_observations, episode_start=False, final=done)
        fewest = int(storage.n_written.min())
        self.pos, self.full = fewest % self.buffer_size, fewest >= self.buffer_size

    def add_lstm_states(self, lstm_states: RecurrentStates) -> None:
        """
        Store, in half precision, the states with which the last :meth:`add`'s observations were met.

        :param lstm_states: each ``(n_layers, n_envs, hidden_size)``
        """
        storage = self.storage
        # (n_layers, n_envs, hidden_size) -> (n_envs, n_layers, hidden_size)
        arrays = [state.transpose(0, 1).cpu().numpy() for state in lstm_states]
        if not storage.lstm_states:
            storage.allocate_lstm_states([array.shape[1:] for array in arrays])
        rows = storage.rows(np.arange(self.n_envs), storage.newest - 1)
        for stored, array in zip(storage.lstm_states, arrays, strict=True):
            stored[rows] = array

    def end_open_episodes(self) -> None:
        """Cut off every running episode, as a time limit would; to be called before the environments are reset."""
        self.storage.end_open_episodes()

    # --- drawing and gathering ---

    def sample(self, batch_size: int, env: VecNormalize | None = None) -> SequenceSamples:  # type: ignore[override]
        """
        Draw windows and gather what they hold.

        :param batch_size: number of windows
        :param env: normalises observations and rewards, if given
        :return: the windows, on :attr:`device`
        """
        return self.gather(self.sampler.draw(self.storage, batch_size), env)

    def gather(self, windows: Windows, env: VecNormalize | None = None) -> SequenceSamples:
        """
        Gather windows.

        :param windows: which
        :param env: normalises observations and rewards, if given
        :return: the windows, on :attr:`device`
        """
        storage = self.storage
        oldest, newest = storage.oldest[windows.envs], storage.newest[windows.envs]
        # (window, 1) + (batch,) -> (window, batch)
        indices = windows.first + np.arange(-self.burn_in, self.sequence_length + self.n_steps)[:, None]
        stored = (indices >= oldest) & (indices <= newest)
        rows = storage.rows(windows.envs, indices.clip(oldest, newest))
        terminated, truncated = storage.terminated[rows] & stored, storage.truncated[rows] & stored
        episode_starts = storage.episode_starts[rows]
        mask = self._trainable(indices, newest, stored & ~storage.final[rows], terminated | truncated)
        if windows.carries_state is not None:
            episode_starts[0] |= ~windows.carries_state
            # A row stops where its episode does
            mask &= np.cumsum(storage.final[rows][: self.sequence_length], axis=0) == 0
        rewards = self._normalize_reward(storage.rewards[rows], env)
        return SequenceSamples(
            observations=self._gather_observations(rows, env),
            actions=self._as_tensor(storage.actions[rows]),
            rewards=self._as_tensor(rewards),
            terminated=self._as_tensor(terminated),
            truncated=self._as_tensor(truncated),
            episode_starts=self._as_tensor(episode_starts),
            window_starts=self._as_tensor(self._window_starts(indices, oldest)),
            mask=self._as_tensor(mask),
            lstm_states=self._gather_lstm_states(rows[0]),
        )

    def _as_tensor(self, array: np.ndarray) -> th.Tensor:
        return to_device(array, self.device)

    def _trainable(self, indices: np.ndarray, newest: np.ndarray, acted: np.ndarray, done: np.ndarray) -> np.ndarray:
        """Which training slots count: an action was taken there, and what followed is known for ``n_steps`` or to the end."""
        stop = self.burn_in + self.sequence_length
        known = indices[self.burn_in : stop] + self.n_steps <= newest
        for ahead in range(self.n_steps):
            known |= done[self.burn_in + ahead : stop + ahead]
        return acted[self.burn_in : stop] & known

    @staticmethod
    def _window_starts(indices: np.ndarray, oldest: np.ndarray) -> np.ndarray:
        window_starts = indices <= oldest
        window_starts[0] = True
        return window_starts

    def _gather_observations(self, rows: np.ndarray, env: VecNormalize | None) -> th.Tensor | dict[str, th.Tensor]:
        index = rows.reshape(-1)
        gathered = {}
        for key, stored in self.storage.observations.items():
            # (window * batch, *observation_shape) -> (window, batch, *observation_shape)
            flat = stored.index_select(0, to_device(index, stored.device))
            gathered[key] = flat.reshape(*rows.shape, *stored.shape[1:])
        if env is not None:
            arrays = self._normalize_obs(self._from_key({key: value.cpu().numpy() for key, value in gathered.items()}), env)
            gathered = {key: th.from_numpy(value) for key, value in self._by_key(arrays, reshape=False).items()}
        return self._from_key({key: value.to(self.device) for key, value in gathered.items()})

    def _gather_lstm_states(self, rows: np.ndarray) -> RecurrentStates | None:
        if not self.storage.lstm_states:
            return None
        # (batch, n_layers, hidden_size) -> (n_layers, batch, hidden_size)
        return tuple(self._as_tensor(stored[rows]).float().transpose(0, 1) for stored in self.storage.lstm_states)

    def _storage_device(self, buffer_device: th.device | str) -> th.device:
        """Where observations are kept."""
        if buffer_device != "auto":
            try:
                device = th.device(buffer_device)
            except RuntimeError:
                device = None
            if device is None or device.type not in ("cpu", self.device.type):
                raise ValueError(
                    f'buffer_device must be "auto", "cpu" or the device of the model, "{self.device}", got "{buffer_device}"'
                )
            return device
        if self.device.type != "cuda":
            return th.device("cpu")
        n_slots = self.buffer_size * self.n_envs
        n_bytes = sum(n_slots * int(np.prod(shape)) * dtype.itemsize for shape, dtype in self._observation_shapes().values())
        return self.device if n_bytes <= th.cuda.mem_get_info(self.device)[0] / 2 else th.device("cpu")

    # --- plain observations and dicts of them, alike ---

    def _observation_shapes(self) -> dict[str, tuple[tuple[int, ...], np.dtype]]:
        space = self.observation_space
        parts = space.spaces if isinstance(space, spaces.Dict) else {"": space}
        return {key: (get_obs_shape(part), np.dtype(part.dtype)) for key, part in parts.items()}  # type: ignore[misc]

    def _by_key(self, observations: Observations, reshape: bool = True) -> dict[str, np.ndarray]:
        by_key = observations if isinstance(observations, dict) else {"": observations}
        if not reshape:
            return by_key
        # Discrete spaces: (n_envs,) -> (n_envs, 1)
        shapes = self.storage.observation_shapes
        return {key: np.asarray(value).reshape(self.n_envs, *shapes[key][0]) for key, value in by_key.items()}

    @staticmethod
    def _from_key(by_key: dict[str, Any]) -> Any:
        return by_key[""] if set(by_key) == {""} else by_key
