"""Drawing windows: which stretches of the stored slots are trained on."""

from typing import NamedTuple

import numpy as np

from drqn_sb3.slots import SlotStorage


class Windows(NamedTuple):
    """
    Which windows were drawn.

    :param envs: their environments, ``(batch,)``
    :param first: the logical index of their first training slot, ``(batch,)``
    :param carries_state: of windows that follow one another within an episode: which go on from the row's last one,
        ``(batch,)``; ``None`` where every window stands for itself
    """

    envs: np.ndarray
    first: np.ndarray
    carries_state: np.ndarray | None = None


class RandomWindows:
    """
    Draws windows so that every stored transition is trained on equally often.

    A window is named by its first training slot. All positions at which at least one training slot is stored are equally
    likely, windows that overhang the oldest or the newest slot included: so each slot is covered by exactly
    ``sequence_length`` windows, wherever it lies. What overhangs is masked out when the window is gathered.

    :param sequence_length: number of training slots
    :param rng: source of the draws
    """

    def __init__(self, sequence_length: int, rng: np.random.Generator) -> None:
        self.sequence_length = sequence_length
        self.rng = rng

    def draw(self, storage: SlotStorage, batch_size: int) -> Windows:
        """
        Draw a batch of windows.

        :param storage: where the slots are
        :param batch_size: how many
        :return: the windows
        :raises ValueError: if nothing is stored yet
        """
        first = storage.oldest - (self.sequence_length - 1)
        # The newest slot has no action yet, or is final
        n_starts = np.where(storage.newest > storage.oldest, storage.newest - first, 0)
        if n_starts.sum() == 0:
            raise ValueError("cannot sample from a replay buffer that holds no transition yet")
        ends = np.cumsum(n_starts)
        drawn = self.rng.integers(ends[-1], size=batch_size)
        envs = np.searchsorted(ends, drawn, side="right")
        return Windows(envs, first[envs] + drawn - (ends - n_starts)[envs])


class SequentialWindows:
    """
    Draws episodes and goes through each in order, ``sequence_length`` slots a draw (the paper's *bootstrapped sequential
    updates*).

    Each row of a batch follows an episode of its own, drawn uniformly, up to the episode's end or to what is stored of
    it, then draws the next. The oldest stored slot counts as an episode's start where the true one is overwritten.

    :param sequence_length: number of training slots
    :param rng: source of the draws
    """

    def __init__(self, sequence_length: int, rng: np.random.Generator) -> None:
        self.sequence_length = sequence_length
        self.rng = rng
        self.forget()

    def forget(self) -> None:
        """Draw new episodes next time."""
        self.envs = np.zeros(0, dtype=np.int64)
        self.indices = np.zeros(0, dtype=np.int64)
        self.is_last = np.zeros(0, dtype=bool)

    def draw(self, storage: SlotStorage, batch_size: int) -> Windows:
        """
        Advance every row by one window.

        :param storage: where the slots are
        :param batch_size: how many rows; a change starts all anew
        :return: the windows
        :raises ValueError: if nothing is stored yet
        """
        envs: np.ndarray
        indices: np.ndarray
        is_over: np.ndarray
        if len(self.envs) != batch_size:
            envs, indices = np.zeros(batch_size, dtype=np.int64), np.zeros(batch_size, dtype=np.int64)
            is_over = np.ones(batch_size, dtype=bool)
        else:
            envs, indices = self.envs.copy(), self.indices + self.sequence_length
            is_over = self.is_last | (indices < storage.oldest[envs]) | (indices >= storage.newest[envs])
        if is_over.any():
            episode_envs, episode_starts = self._episodes(storage)
            drawn = self.rng.integers(len(episode_envs), size=int(is_over.sum()))
            envs[is_over], indices[is_over] = episode_envs[drawn], episode_starts[drawn]
        self.envs, self.indices, self.is_last = envs, indices, self._are_last(storage, envs, indices)
        return Windows(envs, indices, carries_state=~is_over)

    def _are_last(self, storage: SlotStorage, envs: np.ndarray, indices: np.ndarray) -> np.ndarray:
        """
        Which windows are the last of their row, ``(batch,)``: nothing is left of the episode after them, or they overhang
        the newest slot, so that the state behind them has not seen what will be stored there.
        """
        # (sequence_length + 1, 1) + (batch,) -> (sequence_length + 1, batch)
        slots = indices + np.arange(self.sequence_length + 1)[:, None]
        return (slots[-1] > storage.newest[envs]) | storage.final[storage.rows(envs, slots)].any(axis=0)

    def _episodes(self, storage: SlotStorage) -> tuple[np.ndarray, np.ndarray]:
        """Environment and logical index of every episode's first stored slot."""
        envs, starts = [], []
        for env, (oldest, newest) in enumerate(zip(storage.oldest, storage.newest, strict=True)):
            if newest <= oldest:
                continue
            # The newest slot starts nothing: no action was taken there
            indices = np.arange(oldest, newest)
            rows = storage.rows(env, indices)
            begins = storage.episode_starts[rows]
            begins[0] = not storage.final[rows[0]]
            starts.append(indices[begins])
            envs.append(np.full(len(starts[-1]), env))
        if not starts:
            raise ValueError("cannot sample from a replay buffer that holds no transition yet")
        return np.concatenate(envs), np.concatenate(starts)
