"""
Atari games in threads of their own, each free to run ahead of the others: ale_py's native vector environment, a game each.

One native environment of many games steps all of them at once. Here a game that has ended can be reset and taken through
its first steps while the others stand still or finish theirs.
"""

from collections import deque
from typing import NamedTuple

import numpy as np
from ale_py import AtariVectorEnv
from gymnasium.vector import AutoresetMode

# In place of an action: start the game anew.
RESET = -1

# The native environment's own limit on a game's frames leaves no picture of the end; whoever wants one counts them.
_NO_LIMIT = 2**30


class Outcome(NamedTuple):
    """
    What a game shows after an action or a reset.

    :param picture: RGB, ``(height, width, 3)`` uint8: per channel, the larger value of the last two frames
    :param reward: points, summed over the frames of the action
    :param is_over: whether the game has ended
    :param lives: how many are left; 0 in a game without lives
    :param frame_number: frames since the game was loaded
    :param episode_frame_number: frames since the reset, its no-ops included
    """

    picture: np.ndarray
    reward: int
    is_over: bool
    lives: int
    frame_number: int
    episode_frame_number: int


class GamePool:
    """
    Several games of one kind. An action handed in is carried out in the background; outcomes are collected one by one.

    :param game: ale_py's name of the game, e.g. ``"space_invaders"``
    :param n_games: how many of them
    :param picture_shape: height and width of the game's screen
    :param frame_skip: for how many frames an action is repeated; if 1, the picture is that frame's
    :param noop_max: a reset is followed by 0 to ``noop_max`` frames without an action, each number as likely as the others
    :param repeat_action_probability: probability that a frame repeats the previous frame's action instead
    :param full_action_space: all 18 actions, instead of those that the game knows
    :param num_threads: how many games run at once at most; ``None``: all of them, as far as there are cores
    """

    def __init__(
        self,
        game: str,
        n_games: int,
        *,
        picture_shape: tuple[int, int],
        frame_skip: int,
        noop_max: int,
        repeat_action_probability: float,
        full_action_space: bool,
        num_threads: int | None,
    ) -> None:
        height, width = picture_shape
        self._games = [
            AtariVectorEnv(
                game,
                1,
                num_threads=1,
                max_num_frames_per_episode=_NO_LIMIT,
                repeat_action_probability=repeat_action_probability,
                full_action_space=full_action_space,
                autoreset_mode=AutoresetMode.NEXT_STEP,
                img_height=height,
                img_width=width,
                grayscale=False,
                stack_num=1,
                frameskip=frame_skip,
                maxpool=frame_skip > 1,
                noop_max=noop_max + 1 if noop_max else 0,  # it draws from 0 to one less
                reward_clipping=False,
                use_fire_reset=False,
            )
            for _ in range(n_games)
        ]
        self._limit = num_threads or n_games
        self._waiting: deque[tuple[int, int]] = deque()
        self._running: deque[int] = deque()
        self._outcomes: dict[int, Outcome] = {}
        self._is_over = [False] * n_games
        self._seeds: list[int | None] = [None] * n_games

    def seed(self, index: int, seed: int) -> None:
        """
        Seed a game's no-ops and repeated actions at its next reset.

        :param index: which game
        :param seed: from 0 to 2**31 - 1
        """
        self._seeds[index] = seed

    def submit(self, index: int, action: int) -> None:
        """
        Have a game carry out an action, after whatever was submitted before.

        :param index: which game; its previous outcome has been collected
        :param action: from 0, or ``RESET``
        """
        self._waiting.append((index, action))
        self._start_games()

    @property
    def is_busy(self) -> bool:
        """Whether there are outcomes to collect."""
        return bool(self._running or self._waiting)

    def collect(self) -> tuple[int, Outcome]:
        """
        Wait for the outcome of what was submitted first.

        :return: which game, and what it shows
        """
        index = self._running.popleft()
        outcome = self._outcomes.pop(index, None)
        if outcome is None:
            pictures, rewards, ends, _, info = self._games[index].recv()
            outcome = _outcome(pictures, int(rewards[0]), bool(ends[0]), info)
        self._is_over[index] = outcome.is_over
        self._start_games()
        return index, outcome

    def close(self) -> None:
        """End the threads. Closing twice is harmless."""
        self._games.clear()
        self._running.clear()
        self._waiting.clear()

    def _start_games(self) -> None:
        while self._waiting and len(self._running) < self._limit:
            index, action = self._waiting.popleft()
            self._start(index, action)
            self._running.append(index)

    def _start(self, index: int, action: int) -> None:
        game, seed = self._games[index], self._seeds[index]
        if action != RESET:
            game.send(np.array([action]))
        elif self._is_over[index] and seed is None:
            game.send(np.array([0]))  # whatever the action, a game that is over starts anew, in its own thread
        else:
            self._seeds[index] = None
            pictures, info = game.reset(seed=seed)
            self._outcomes[index] = _outcome(pictures, 0, False, info)


def _outcome(pictures: np.ndarray, reward: int, is_over: bool, info: dict[str, np.ndarray]) -> Outcome:
    """Unpack what a native environment of one game returns; ``pictures`` is (1, 1, height, width, 3)."""
    counts = (int(info[name][0]) for name in ("lives", "frame_number", "episode_frame_number"))
    return Outcome(pictures[0, 0], reward, is_over, *counts)
