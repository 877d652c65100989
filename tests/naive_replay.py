"""
The slow, obvious twin of the replay buffer, and what feeds both with the same experience.

The twin keeps whole episodes in lists, for ever, and works out from them what a window must hold.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch as th
from gymnasium import spaces

from drqn_sb3.buffers import SequenceReplayBuffer
from drqn_sb3.windows import Windows

ENDS = (None, "terminated", "truncated")

SPACES: dict[str, spaces.Space] = {
    "a vector": spaces.Box(-1, 1, (2,)),
    "double precision": spaces.Box(-1, 1, (2,), dtype=np.float64),
    "an image": spaces.Box(0, 255, (1, 4, 4), dtype=np.uint8),
    "discrete": spaces.Discrete(1_000_000),
    "multi-discrete": spaces.MultiDiscrete([1_000, 1_000]),
    "multi-binary": spaces.MultiBinary(20),
    "a dict": spaces.Dict(
        {
            "image": spaces.Box(0, 255, (1, 4, 4), dtype=np.uint8),
            "vector": spaces.Box(-1, 1, (2,)),
            "cue": spaces.Discrete(1_000_000),
        }
    ),
}


@dataclass
class Episode:
    """``n`` actions, their rewards and the states they were taken in, and the ``n + 1`` observations around them."""

    observations: list[Any]
    actions: list[int] = field(default_factory=list)
    rewards: list[float] = field(default_factory=list)
    lstm_states: list[Any] = field(default_factory=list)
    end: str | None = None


class NaiveReplay:
    """
    Every episode of every environment.

    Slots are numbered from 0 on, one for each observation, in the order in which they were seen; of each environment the
    last ``capacity`` are stored.
    """

    def __init__(self, capacity: int, n_envs: int, sequence_length: int, burn_in: int, n_steps: int) -> None:
        self.capacity, self.n_envs = capacity, n_envs
        self.sequence_length, self.burn_in, self.n_steps = sequence_length, burn_in, n_steps
        self.episodes: list[list[Episode]] = [[] for _ in range(n_envs)]

    def add(
        self, env: int, observation: Any, next_observation: Any, action: int, reward: float, end: str | None, state: Any
    ) -> None:
        episodes = self.episodes[env]
        if not episodes or episodes[-1].end is not None:
            episodes.append(Episode([observation]))
        episode = episodes[-1]
        episode.actions.append(action)
        episode.rewards.append(reward)
        episode.lstm_states.append(state)
        episode.observations.append(next_observation)
        episode.end = end

    def cut(self) -> None:
        for episodes in self.episodes:
            if episodes and episodes[-1].end is None:
                episodes[-1].end = "truncated"

    def slots(self, env: int) -> list[tuple[Episode, int]]:
        """The episode and the step in it, by slot."""
        return [(episode, step) for episode in self.episodes[env] for step in range(len(episode.observations))]

    def stored(self, env: int) -> range:
        n_slots = sum(len(episode.observations) for episode in self.episodes[env])
        return range(max(n_slots - self.capacity, 0), n_slots)

    def is_trainable(self, episode: Episode, step: int) -> bool:
        """Whether an action was taken, and what came of it is known: ``n_steps`` on, or to the episode's end."""
        acted = step < len(episode.actions)
        return acted and (episode.end is not None or step + self.n_steps <= len(episode.actions))

    def trainable(self) -> list[tuple[int, int]]:
        """Environment and slot of all there is to train on."""
        found = []
        for env in range(self.n_envs):
            slots = self.slots(env)
            found += [(env, index) for index in self.stored(env) if self.is_trainable(*slots[index])]
        return found

    def windows(self) -> list[tuple[int, int]]:
        """Environment and first training slot of every window that has a stored step among its training slots."""
        found = []
        for env in range(self.n_envs):
            stored = self.stored(env)
            steps = stored[:-1]  # nothing was done in the newest slot
            if len(steps):
                found += [(env, first) for first in range(steps[0] - self.sequence_length + 1, steps[-1] + 1)]
        return found

    def first_slots_of_episodes(self) -> list[tuple[int, int]]:
        """Environment and slot where what is stored of an episode begins, if any of its steps are."""
        found = []
        for env in range(self.n_envs):
            slots, stored = self.slots(env), self.stored(env)
            for index in stored:
                episode, step = slots[index]
                if step < len(episode.actions) and (step == 0 or index == stored[0]):
                    found.append((env, index))
        return found

    def expected(self, env: int, first: int) -> Iterator[tuple[int, Episode, int, bool]]:
        """
        What a window must hold, slot by slot: slot, episode, step, and whether it is stored. In place of a slot that is not
        stored, the window repeats the nearest one that is.
        """
        slots, stored = self.slots(env), self.stored(env)
        for index in range(first - self.burn_in, first + self.sequence_length + self.n_steps):
            nearest = min(max(index, stored[0]), stored[-1])
            yield index, *slots[nearest], index in stored


class Twins:
    """
    A buffer and its naive twin, fed with the same random experience.

    :param capacity: slots per environment
    :param space: name of the observation space
    :param state_shape: of the recurrent states to store, ``(n_layers, hidden_size)``; none when ``None``
    """

    def __init__(
        self,
        capacity: int,
        n_envs: int = 1,
        sequence_length: int = 4,
        burn_in: int = 0,
        n_steps: int = 1,
        replay: str = "random",
        space: str = "a vector",
        state_shape: tuple[int, int] | None = None,
        seed: int = 0,
    ) -> None:
        self.rng = np.random.default_rng(seed)
        self.space = SPACES[space]
        self.space.seed(seed)
        self.n_envs, self.state_shape = n_envs, state_shape
        self.buffer = SequenceReplayBuffer(
            capacity * n_envs + n_envs - 1,  # what does not divide is left over
            self.space,
            spaces.Discrete(1_000),
            "cpu",
            n_envs,
            sequence_length=sequence_length,
            burn_in=burn_in,
            n_steps=n_steps,
            replay=replay,
            seed=seed,
        )
        self.naive = NaiveReplay(capacity, n_envs, sequence_length, burn_in, n_steps)
        self.observations = self._observe()

    def _observe(self) -> list[Any]:
        return [self.space.sample() for _ in range(self.n_envs)]

    def step(self, ends: list[str | None]) -> None:
        """One step of every environment: ``ends`` says how its episode ends with it, or ``None``."""
        next_observations, after_reset = self._observe(), self._observe()
        actions = self.rng.integers(1_000, size=self.n_envs)
        rewards = self.rng.normal(size=self.n_envs).astype(np.float32)
        states = [self.rng.normal(size=(2, *self.state_shape)).astype(np.float32) if self.state_shape else None for _ in ends]
        self.buffer.add(
            stack(self.observations),
            stack(next_observations),
            actions,
            rewards,
            np.array([end is not None for end in ends]),
            [{"TimeLimit.truncated": end == "truncated"} for end in ends],
        )
        if self.state_shape is not None:
            # n_envs x (n_states, n_layers, hidden_size) -> (n_states, n_layers, n_envs, hidden_size)
            by_state = np.stack([state for state in states if state is not None], axis=2)
            self.buffer.add_lstm_states(tuple(th.from_numpy(array) for array in by_state))
        for env, end in enumerate(ends):
            step = (self.observations[env], next_observations[env], int(actions[env]), float(rewards[env]), end, states[env])
            self.naive.add(env, *step)
            self.observations[env] = next_observations[env] if end is None else after_reset[env]

    def cut(self) -> None:
        """Reset all environments in the middle of what they are doing."""
        self.buffer.end_open_episodes()
        self.naive.cut()
        self.observations = self._observe()

    def step_randomly(self, end_prob: float, truncated_prob: float = 0.5) -> None:
        """One step, after which each episode ends with probability ``end_prob``."""
        ends: list[str | None] = []
        for _ in range(self.n_envs):
            how = "truncated" if self.rng.random() < truncated_prob else "terminated"
            ends.append(how if self.rng.random() < end_prob else None)
        self.step(ends)

    def play_episodes(self, lengths: list[int], n_rounds: int) -> None:
        """Environment ``i`` plays episodes of ``lengths[i]`` steps, ended by turns in both ways, for that many steps."""
        for time in range(1, n_rounds + 1):
            how = ("terminated", "truncated")
            self.step([how[time // length % 2] if time % length == 0 else None for length in lengths])


def stack(observations: list[Any]) -> Any:
    """A batch of observations as a ``VecEnv`` gives it."""
    if isinstance(observations[0], dict):
        return {key: np.stack([observation[key] for observation in observations]) for key in observations[0]}
    return np.stack(observations)


def as_windows(pairs: list[tuple[int, int]]) -> Windows:
    """Windows from environments and first training slots."""
    envs, first = np.array(pairs, dtype=np.int64).T
    return Windows(envs, first)
