"""
Two wrappers that make an environment's episodes into numbered games: one innermost, one outermost.

::

    GameSeeder(condition's wrappers(config's wrappers(GameRecorder(gym.make(...)))))

Between the two, episodes may end where games do not: with a life, or with a lost point. What is known of a game is known
innermost; what an agent decides, and what its wrappers draw, begins outermost.
"""

from collections.abc import Sequence
from copy import deepcopy
from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np

FINISHED = "finished_games"
"""Key of ``info`` under which the rows of games that are finished reach whoever steps the environment."""

_CONDITION_STREAM = 0xC0D1
_EXPLORATION_STREAM = 0xE95


class Row(NamedTuple):
    """
    A finished game.

    :param game: its number
    :param seed: its seed
    :param score: sum of its rewards, as the environment gives them
    :param length: number of the agent's decisions
    :param won: number of steps of the environment with a reward above 0
    :param lost: the same, below 0
    """

    game: int
    seed: int
    score: float
    length: int
    won: int
    lost: int


class GameRecorder(gym.Wrapper):
    """
    Play given games, one after the other, each from its own seed, and keep their true scores.

    It goes directly around the environment, beneath whatever clips rewards or ends episodes early. Seeds that it is given
    are ignored: each game has its own. A reset starts the next game if the agent has played in the present one; otherwise
    it starts that one again. After the last game the environment rests: it shows what it last showed, without rewards.

    :param env: as ``gym.make`` made it
    :param games: numbers of the games
    :param first_seed: seed of game 0; the others' follow
    """

    def __init__(self, env: gym.Env, games: Sequence[int], first_seed: int) -> None:
        super().__init__(env)
        self.first_seed = first_seed
        self.finished: list[Row] = []
        """Rows of finished games; whoever takes them empties the list."""
        self.length = 0
        """Decisions of the agent in this game: the outermost wrapper counts them."""
        self.score = 0.0
        """Of this game, so far."""
        self._games = list(games)
        self._index = -1
        self._is_finished = self._begins_anew = False
        self._won = self._lost = 0
        self._last: tuple[Any, dict[str, Any]] = (None, {})

    @property
    def game(self) -> int | None:
        """Number of the game; ``None`` before the first, and when all have been played."""
        return self._games[self._index] if 0 <= self._index < len(self._games) else None

    @property
    def upcoming(self) -> int | None:
        """Number of the game that will be played after an outermost reset; ``None`` when all have been played."""
        if self.game is not None and not self._is_finished:
            return self.game
        return self._games[self._index + 1] if self._index + 1 < len(self._games) else None

    @property
    def is_going_on(self) -> bool:
        """Whether the agent is in the middle of a game."""
        return self.game is not None and not self._is_finished and self.length > 0

    def begin_anew(self) -> None:
        """
        Have the game, in which nothing has been decided yet, start once more at the next reset.

        A wrapper that takes a step in place of a reset, as at the loss of a life, learns from that step that it has to.
        """
        self._begins_anew = self.game is not None

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """
        Start the next game, or this one again.

        :param seed: ignored
        :param options: passed on to the environment
        :return: observation and info
        """
        if self.is_going_on:
            self._finish()  # a wrapper has ended it
        if self._index < 0 or self.length > 0:
            self._index += 1
        self.score, self.length, self._won, self._lost = 0.0, 0, 0, 0
        self._is_finished = self._begins_anew = False
        if self.game is not None:
            self._last = self.env.reset(seed=self.first_seed + self.game, options=options)
        return self._last

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """
        Step the environment, unless all games have been played.

        :param action: passed on to the environment
        :return: observation, reward, terminated, truncated, info
        """
        if self.game is None or self._begins_anew:
            obs, info = self._last
            return obs, 0.0, self._begins_anew, False, dict(info)
        obs, reward, terminated, truncated, info = self.env.step(action)
        self._last = obs, info
        points = float(reward)
        self.score += points
        self._won += points > 0
        self._lost += points < 0
        if (terminated or truncated) and self.length > 0:
            self._finish()
        return obs, points, terminated, truncated, info

    def _finish(self) -> None:
        assert self.game is not None
        row = Row(self.game, self.first_seed + self.game, self.score, self.length, self._won, self._lost)
        self.finished.append(row)
        self._is_finished = True


class GameSeeder(gym.Wrapper):
    """
    Seed what lies between this wrapper and the recorder, count decisions, and hand on what games have come to.

    Every reset is seeded: the one that begins a game with the game's seed, the following ones within it with seeds that
    follow from that and from how many there have been. So nothing that is drawn in a game depends on other games.

    :param env: the environment, wrapped
    :param recorder: the innermost wrapper
    :param epsilon: probability that an action drawn uniformly takes the place of the agent's
    """

    def __init__(self, env: gym.Env, recorder: GameRecorder, epsilon: float = 0.0) -> None:
        super().__init__(env)
        self.recorder = recorder
        self.epsilon = epsilon
        self.seen: tuple[Any, dict[str, Any]] = (None, {})
        """The last observation and its info."""
        self._n_resets = 0
        self._generator = np.random.default_rng(0)
        self._actions = deepcopy(env.action_space)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """
        Go on with the game, or begin the next one.

        :param seed: ignored
        :param options: passed on to the environment
        :return: observation and info
        """
        recorder = self.recorder
        upcoming = recorder.upcoming
        if recorder.is_going_on:
            self._n_resets += 1
            self.seen = self._reset(upcoming, options)
        if not recorder.is_going_on or recorder.game != upcoming:
            # What was to go on has ended meanwhile, and the next game has begun with wrappers seeded for the former
            self._n_resets = 0
            if recorder.upcoming == recorder.game:
                recorder.begin_anew()
            self._seed_exploration(recorder.upcoming)
            self.seen = self._reset(recorder.upcoming, options)
        return self.seen

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """
        Take a decision.

        :param action: the agent's
        :return: observation, reward, terminated, truncated, and info, which has the rows of finished games under
            :data:`FINISHED`
        """
        recorder = self.recorder
        if recorder.game is not None:
            recorder.length += 1
            if self.epsilon > 0 and self._generator.random() < self.epsilon:
                action = self._actions.sample()
        obs, reward, terminated, truncated, info = self.env.step(action)
        self.seen = obs, info
        if recorder.finished:
            info = {**info, FINISHED: recorder.finished}
            recorder.finished = []
        return obs, reward, terminated, truncated, info

    def _reset(self, game: int | None, options: dict[str, Any] | None) -> tuple[Any, dict[str, Any]]:
        return self.env.reset(seed=None if game is None else self._seed_of(game), options=options)

    def _seed_of(self, game: int) -> int:
        seed = self.recorder.first_seed + game
        if self._n_resets == 0:
            return seed
        return _derived(seed, _CONDITION_STREAM, self._n_resets)

    def _seed_exploration(self, game: int | None) -> None:
        if game is not None and self.epsilon > 0:
            seed = _derived(self.recorder.first_seed + game, _EXPLORATION_STREAM)
            self._generator = np.random.default_rng(seed)
            self._actions.seed(seed)


def _derived(seed: int, *key: int) -> int:
    """Derive a seed from another one: of 32 bits, as SB3 and Gymnasium take it."""
    return int(np.random.SeedSequence(seed, spawn_key=key).generate_state(1)[0])
