"""
Replay of stacked frames, each stored once, for SB3's DQN and its relatives.

A slot (:mod:`drqn_sb3.slots`) holds the newest frame of a stack. The older ones lie in the slots before it, back to the
episode's start; before that a stack holds zeros, as :class:`~stable_baselines3.common.vec_env.VecFrameStack` has it. What
came of a step is the stack of the slot after it::

    slot         0    1    2    3         stacks of 3      obs           next_obs
    frame        f0   f1   f2   f3        slot 0           0  0  f0      0  f0 f1
    flags        start          final     slot 2           f0 f1 f2      f1 f2 f3
"""

from typing import Any

import numpy as np
import torch as th
from gymnasium import spaces
from stable_baselines3.common.buffers import BaseBuffer, ReplayBuffer
from stable_baselines3.common.preprocessing import is_image_space, is_image_space_channels_first
from stable_baselines3.common.type_aliases import ReplayBufferSamples
from stable_baselines3.common.vec_env import VecNormalize

from drqn_sb3.checks import check_integer, is_number
from drqn_sb3.slots import SlotStorage


class FrameStackReplayBuffer(ReplayBuffer):
    """
    SB3's replay buffer for observations that ``VecFrameStack`` has stacked, at the memory of single frames.

    To be given to the algorithm, which passes on all arguments but those in ``replay_buffer_kwargs``::

        DQN(
            "CnnPolicy",
            VecFrameStack(venv, 4),
            replay_buffer_class=FrameStackReplayBuffer,
            replay_buffer_kwargs=dict(n_stack=4),
        )

    A sample holds, for the transitions drawn, what ``ReplayBuffer`` would hold, or ``NStepReplayBuffer`` if ``n_steps`` is
    above 1, be it from images or vectors, to the last bit. What differs:

    - ``buffer_size`` counts slots. An episode of ``n`` steps takes ``n + 1``, so a little less than that many transitions
      are kept. One that is first met halfway takes ``n_stack - 1`` more.
    - All transitions stored are equally likely, but for those whose stack has lost a frame to the ring's write position: of
      each environment at most the oldest ``n_stack - 1`` are never drawn, fewer if an episode starts among them.
    - Where environments have been reset in the midst of an episode and show something else than before, as when ``learn()``
      is called again, the episode is cut off as by a time limit. ``NStepReplayBuffer`` would add up rewards across.
    - A float observation that an episode ended on holds its older frames as they came, where
      :class:`~stable_baselines3.common.vec_env.VecNormalize` is used: SB3 hands over a copy that was normalised and back.

    Every stack handed in is compared with the one before: what would not be rebuilt as it was is never stored. Memory is
    taken with the first :meth:`add`. As in SB3, draws come from NumPy's global generator. ``pos``, ``full`` and
    :meth:`size` are slots of the environment of which least is stored.

    :param buffer_size: number of slots in all, shared equally by the environments
    :param observation_space: space of the stacks, a ``Box``
    :param action_space: action space, discrete
    :param device: where samples are put
    :param n_envs: number of parallel environments
    :param optimize_memory_usage: must be False: every frame is stored once anyway
    :param handle_timeout_termination: whether to bootstrap from where a time limit struck; if not, that is a termination
    :param n_stack: number of frames in a stack
    :param n_steps: rewards to add up before bootstrapping; SB3's algorithms do not pass on theirs
    :param gamma: discount factor, to be given if ``n_steps`` is above 1
    :param channels_order: ``"first"`` or ``"last"``: the axis that is stacked; ``None`` finds it as ``VecFrameStack`` does
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
        handle_timeout_termination: bool = True,
        *,
        n_stack: int,
        n_steps: int = 1,
        gamma: float | None = None,
        channels_order: str | None = None,
    ) -> None:
        # Not ReplayBuffer's own constructor: it would allocate transitions
        BaseBuffer.__init__(self, buffer_size, observation_space, action_space, device, n_envs)
        for name, value in (("buffer_size", buffer_size), ("n_envs", n_envs), ("n_stack", n_stack), ("n_steps", n_steps)):
            check_integer(name, value, 1)
        if not isinstance(action_space, spaces.Discrete):
            raise ValueError(f"action_space must be Discrete, got {action_space}")
        if optimize_memory_usage:
            raise ValueError("optimize_memory_usage must be False, got True: every frame is stored once anyway")
        if n_steps > 1 and (gamma is None or not is_number(gamma) or not 0 <= gamma <= 1):
            raise ValueError(f"gamma must be the algorithm's, from 0 to 1, where n_steps is above 1, got {gamma!r}")
        self.optimize_memory_usage = False
        self.handle_timeout_termination = handle_timeout_termination
        self.n_stack, self.n_steps, self.gamma = n_stack, n_steps, 1.0 if gamma is None else gamma
        # Too few are no error before something is stored: whoever loads an agent to watch it makes do with one
        self.buffer_size = max(buffer_size // n_envs, 1)
        self.frame_shape = self._find_frames(observation_space, channels_order)
        frame = (self.frame_shape, np.dtype(observation_space.dtype))
        self.storage = SlotStorage(self.buffer_size, n_envs, {"": frame})
        self._last_frames: np.ndarray | None = None

    def _find_frames(self, space: spaces.Space, channels_order: str | None) -> tuple[int, ...]:
        """Find out which axis is stacked, and what shape that leaves for a frame."""
        if not isinstance(space, spaces.Box) or not space.shape:
            raise ValueError(f"observation_space must be a Box with an axis to stack frames along, got {space}")
        if channels_order not in (None, "first", "last"):
            raise ValueError(f'channels_order must be "first", "last" or None, got {channels_order!r}')
        if channels_order is None:
            channels_order = "first" if is_image_space(space) and is_image_space_channels_first(space) else "last"
        self.channels_first = channels_order == "first"
        shape, axis = list(space.shape), 0 if self.channels_first else -1
        if shape[axis] % self.n_stack:
            raise ValueError(
                f"n_stack must divide the {channels_order} axis of the observations' shape {space.shape}, got {self.n_stack}"
            )
        shape[axis] //= self.n_stack
        return tuple(shape)

    def reset(self) -> None:
        """Forget everything stored."""
        super().reset()
        self.storage.clear()
        self._last_frames = None

    # --- storing ---

    def add(
        self,
        obs: np.ndarray,
        next_obs: np.ndarray,
        action: np.ndarray,
        reward: np.ndarray,
        done: np.ndarray,
        infos: list[dict[str, Any]],
    ) -> None:
        """
        Store one step of every environment; arguments as in SB3's buffer.

        :param obs: the stacks that were acted on, ``(n_envs, *observation_shape)``
        :param next_obs: those that came of it; where ``done``, the one that the episode ended on
        :param action: ``(n_envs,)`` or ``(n_envs, 1)``
        :param reward: ``(n_envs,)``
        :param done: ``(n_envs,)``, terminated or truncated
        :param infos: a step that is done is truncated if its info says ``TimeLimit.truncated``, else terminated
        :raises ValueError: if ``next_obs`` is not ``obs`` moved on by a frame, or ``buffer_size`` is too small; nothing has
            been stored then
        """
        storage, envs = self.storage, np.arange(self.n_envs)
        # All that can fail comes before anything is stored
        frames, next_frames = self._split(obs), self._split(next_obs)
        actions, rewards = np.asarray(action).reshape(self.n_envs), np.asarray(reward).reshape(self.n_envs)
        done = np.asarray(done, dtype=bool).reshape(self.n_envs)
        timeouts = np.zeros(self.n_envs, dtype=bool)
        if self.handle_timeout_termination:
            timeouts[:] = [info.get("TimeLimit.truncated", False) for info in infos]
        self._check_frames(frames, next_frames, done)
        if self._was_reset(frames):
            storage.end_open_episodes()
        self._begin_episodes(frames)
        rows = storage.rows(envs, storage.newest)
        storage.actions[rows] = actions
        storage.rewards[rows] = rewards
        storage.terminated[rows] = done & ~timeouts
        storage.truncated[rows] = done & timeouts
        storage.push(envs, {"": next_frames[:, -1]}, episode_start=False, final=done)
        self._last_frames = next_frames.copy(order="K")
        fewest = int(storage.n_written.min())
        self.pos, self.full = fewest % self.buffer_size, fewest >= self.buffer_size

    def _split(self, observations: np.ndarray) -> np.ndarray:
        """View stacks as frames, oldest first: ``(n_envs, n_stack, *frame_shape)``."""
        stacks = np.asarray(observations, dtype=self.observation_space.dtype).reshape(self.n_envs, *self.obs_shape)
        if self.channels_first:
            # (n_envs, n_stack * channels, ...) -> (n_envs, n_stack, channels, ...)
            return stacks.reshape(self.n_envs, self.n_stack, *self.frame_shape)
        # (n_envs, ..., n_stack * channels) -> (n_envs, ..., n_stack, channels) -> (n_envs, n_stack, ..., channels)
        stacks = stacks.reshape(self.n_envs, *self.frame_shape[:-1], self.n_stack, self.frame_shape[-1])
        return np.moveaxis(stacks, -2, 1)

    def _check_frames(self, frames: np.ndarray, next_frames: np.ndarray, done: np.ndarray) -> None:
        if self.buffer_size <= self.n_stack:
            raise ValueError(
                f"buffer_size must be at least n_stack + 1 = {self.n_stack + 1} slots for each of {self.n_envs} environments, "
                f"got {self.buffer_size} for each"
            )
        # VecNormalize's rounding, see the class
        is_exact = ~done if np.issubdtype(frames.dtype, np.floating) else np.ones_like(done)
        if not self._move_on(frames, next_frames) and not _are_equal(frames[:, 1:], next_frames[:, :-1], is_exact):
            raise ValueError(
                f"n_stack must be the number of frames stacked, got {self.n_stack} (and channels_order "
                f"{'first' if self.channels_first else 'last'}): next_obs is not obs moved on by a frame of {self.frame_shape}"
            )

    def _move_on(self, frames: np.ndarray, next_frames: np.ndarray) -> bool:
        """
        Whether stacks are the ones before them, moved on by a frame.

        ``VecTransposeImage`` leaves the frames of a stack pixel by pixel beside one another in memory. Compared there in one
        go, they take a tenth of the time that they take frame by frame.
        """
        last = frames.ndim - 1
        order = (0, *range(3, last + 1), 1, 2) if self.channels_first else (0, *range(2, last), 1, last)
        # (n_envs, ..., n_stack, channels)
        pixels, next_pixels = frames.transpose(order), next_frames.transpose(order)
        if not (pixels.flags.c_contiguous and next_pixels.flags.c_contiguous):
            return np.array_equal(frames[:, 1:], next_frames[:, :-1])
        n_channels = pixels.shape[-1]
        differs = np.zeros(pixels.size, dtype=bool)
        np.not_equal(pixels.reshape(-1)[n_channels:], next_pixels.reshape(-1)[:-n_channels], out=differs[:-n_channels])
        # The newest frame has not been there before
        differs.reshape(-1, self.n_stack * n_channels)[:, -n_channels:] = False
        return not differs.any()

    def _was_reset(self, frames: np.ndarray) -> bool:
        """Whether a running episode is not where the last call has left it."""
        return self._last_frames is not None and not _are_equal(frames, self._last_frames, self.storage.is_open)

    def _begin_episodes(self, frames: np.ndarray) -> None:
        """
        Store the first observation of episodes that begin.

        One that is first met halfway has older frames too, as when a new buffer takes over from another. They get slots of
        their own, marked final, so that nothing is trained on there.
        """
        storage, begins = self.storage, np.flatnonzero(~self.storage.is_open)
        if len(begins) == 0:
            return
        older = frames[begins, :-1]
        is_halfway = older.any(axis=tuple(range(1, older.ndim)))
        fresh, halfway = begins[~is_halfway], begins[is_halfway]
        if len(fresh):
            storage.push(fresh, {"": frames[fresh, -1]}, episode_start=True, final=np.zeros(len(fresh), dtype=bool))
        for age in range(self.n_stack) if len(halfway) else ():
            is_older = np.full(len(halfway), age < self.n_stack - 1)
            storage.push(halfway, {"": frames[halfway, age]}, episode_start=age == 0, final=is_older)

    # --- drawing and gathering ---

    def sample(self, batch_size: int, env: VecNormalize | None = None) -> ReplayBufferSamples:
        """
        Draw transitions and gather what they hold.

        :param batch_size: number of transitions
        :param env: normalises observations and rewards, if given
        :return: the transitions, on :attr:`device`
        :raises ValueError: if nothing is stored yet
        """
        return self.gather(*self.draw(batch_size), env)

    def draw(self, batch_size: int) -> tuple[np.ndarray, np.ndarray]:
        """
        Draw transitions, each as likely as any other.

        :param batch_size: how many
        :return: their environments and their slots' logical indices, each ``(batch_size,)``
        :raises ValueError: if nothing is stored yet
        """
        # Nothing was done in the newest slot yet, or it is final
        n_slots = (self.storage.newest - self.storage.oldest).clip(0)
        ends = np.cumsum(n_slots)
        if ends[-1] == 0:
            raise ValueError("cannot sample from a replay buffer that holds no transition yet")
        envs, indices = np.zeros((2, 0), dtype=np.int64)
        # Slots without a transition are few, but for very short episodes
        while len(indices) < batch_size:
            drawn = np.random.randint(ends[-1], size=2 * batch_size)
            drawn_envs = np.searchsorted(ends, drawn, side="right")
            drawn_indices = self.storage.oldest[drawn_envs] + drawn - (ends - n_slots)[drawn_envs]
            accepted = self.holds_transition(drawn_envs, drawn_indices)
            envs = np.concatenate([envs, drawn_envs[accepted]])
            indices = np.concatenate([indices, drawn_indices[accepted]])
        return envs[:batch_size], indices[:batch_size]

    def holds_transition(self, envs: np.ndarray, indices: np.ndarray) -> np.ndarray:
        """
        Tell which slots can be drawn: something was done there, and the stack is stored to its oldest frame.

        :param envs: their environments, ``(batch,)``
        :param indices: their logical indices, from the oldest to the newest, ``(batch,)``
        :return: whether they can, ``(batch,)``
        """
        storage = self.storage
        _, slots, is_before_start = self._stack_slots(envs, indices)
        is_whole = (is_before_start | (slots >= storage.oldest[envs][:, None])).all(axis=1)
        return is_whole & ~storage.final[storage.rows(envs, indices)] & (indices < storage.newest[envs])

    def gather(self, envs: np.ndarray, indices: np.ndarray, env: VecNormalize | None = None) -> ReplayBufferSamples:
        """
        Gather transitions.

        :param envs: their environments, ``(batch,)``
        :param indices: their slots' logical indices, ``(batch,)``; :meth:`holds_transition` says which there are
        :param env: normalises observations and rewards, if given
        :return: the transitions, on :attr:`device`; ``discounts`` only if ``n_steps`` is above 1
        """
        storage = self.storage
        n_taken, rewards = self._returns(envs, indices, env)
        last = indices + n_taken - 1
        observations, next_observations = self._gather_stacks(envs, indices, last + 1, env)
        actions = storage.actions[storage.rows(envs, indices)].astype(self.action_space.dtype)
        dones = storage.terminated[storage.rows(envs, last)].astype(np.float32)
        discounts = None
        if self.n_steps > 1:
            discounts = self._as_tensor(self.gamma ** n_taken[:, None].astype(np.float32))
        return ReplayBufferSamples(
            observations=observations,
            # (batch,) -> (batch, 1)
            actions=self._as_tensor(actions[:, None]),
            next_observations=next_observations,
            dones=self._as_tensor(dones[:, None]),
            rewards=self._as_tensor(rewards),
            discounts=discounts,
        )

    def _as_tensor(self, array: np.ndarray) -> th.Tensor:
        return th.as_tensor(array, device=self.device)

    def _stack_slots(self, envs: np.ndarray, indices: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Rows and logical indices of the slots of stacks, and whether they lie before the episode's start; oldest first."""
        storage = self.storage
        # (batch, 1) + (n_stack,) -> (batch, n_stack)
        slots = indices[:, None] + np.arange(1 - self.n_stack, 1)
        rows = storage.rows(envs[:, None], slots)
        # Where a slot has been overwritten, its row speaks of another
        starts = storage.episode_starts[rows] & (slots >= storage.oldest[envs][:, None])
        is_before_start = np.zeros_like(starts)
        # The episode starts at a slot that is newer
        is_before_start[:, :-1] = np.logical_or.accumulate(starts[:, :0:-1], axis=1)[:, ::-1]
        return rows, slots, is_before_start

    def _returns(self, envs: np.ndarray, indices: np.ndarray, env: VecNormalize | None) -> tuple[np.ndarray, np.ndarray]:
        """
        Add up rewards: up to ``n_steps``, to the episode's end, or as far as is known.

        :return: how many steps were added up, ``(batch,)``, and their discounted sum, ``(batch, 1)``
        """
        storage = self.storage
        # (batch, 1) + (n_steps,) -> (batch, n_steps)
        slots = indices[:, None] + np.arange(self.n_steps)
        rows = storage.rows(envs[:, None], slots)
        rewards = self._normalize_reward(storage.rewards[rows], env)
        if self.n_steps == 1:
            return np.ones_like(indices), rewards
        is_last = storage.terminated[rows] | storage.truncated[rows] | (slots >= storage.newest[envs][:, None] - 1)
        n_taken = np.where(is_last.any(axis=1), is_last.argmax(axis=1) + 1, self.n_steps)
        is_taken = np.arange(self.n_steps) < n_taken[:, None]
        discounts = self.gamma ** np.arange(self.n_steps, dtype=np.float32)
        return n_taken, (rewards * discounts * is_taken).sum(axis=1, keepdims=True)

    def _gather_stacks(
        self, envs: np.ndarray, indices: np.ndarray, next_indices: np.ndarray, env: VecNormalize | None
    ) -> tuple[th.Tensor, th.Tensor]:
        """Rebuild both stacks of transitions, each ``(batch, *observation_shape)``."""
        both = np.concatenate([indices, next_indices])
        rows, _, is_before_start = self._stack_slots(np.concatenate([envs, envs]), both)
        # (2 * batch * n_stack, *frame_shape)
        frames = self.storage.observations[""].index_select(0, th.from_numpy(rows.reshape(-1)))
        frames.index_fill_(0, th.from_numpy(np.flatnonzero(is_before_start)), 0)
        frames = frames.reshape(len(both), self.n_stack, *self.frame_shape)
        # (2 * batch, n_stack, *frame_shape) -> (2 * batch, *observation_shape)
        stacks = (frames if self.channels_first else frames.movedim(1, -2)).reshape(len(both), *self.obs_shape)
        if env is not None:
            stacks = th.from_numpy(self._normalize_obs(stacks.numpy(), env))
        observations, next_observations = stacks.to(self.device).split(len(indices))
        return observations, next_observations


def _are_equal(left: np.ndarray, right: np.ndarray, envs: np.ndarray) -> bool:
    """Whether two arrays are equal where ``envs``, a mask of their first axis, is set; NaN equals itself."""
    if not envs.all():
        left, right = left[envs], right[envs]
    # Looking for NaN takes fifty times as long
    return np.array_equal(left, right) or (left.dtype.kind == "f" and np.array_equal(left, right, equal_nan=True))
