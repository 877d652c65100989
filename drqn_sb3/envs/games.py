"""
The rules by which SB3's wrappers play an Atari game, as plans: generators that yield actions and are sent their outcomes.

``Monitor``, ``NoopResetEnv``, ``EpisodicLifeEnv`` and ``FireResetEnv`` call the environment beneath them and wait. A plan
does not wait: whoever carries it out may carry out those of other games meanwhile.
"""

import time
from collections.abc import Generator
from dataclasses import dataclass
from typing import Any

import numpy as np
from stable_baselines3.common.monitor import ResultsWriter

from drqn_sb3.envs.emulators import RESET, Outcome

NOOP = 0


@dataclass
class Step:
    """
    What an environment returns.

    :param picture: RGB, ``(height, width, 3)`` uint8
    :param reward: points, not clipped
    :param terminated: whether the game has ended, or a life if that counts
    :param truncated: whether the game has lasted too long
    :param info: that of ale_py, and ``"episode"`` at the end of a game, as ``Monitor`` has it
    """

    picture: np.ndarray
    reward: int
    terminated: bool
    truncated: bool
    info: dict[str, Any]

    @property
    def is_done(self) -> bool:
        """Whether the episode has ended."""
        return self.terminated or self.truncated


Plan = Generator[int, Outcome, Step]


@dataclass(frozen=True)
class Rules:
    """
    The arguments of ``AtariWrapper`` that decide what is done when.

    :param has_noops: whether a reset is followed by one no-op at least
    :param has_fire: whether a reset is followed by the actions 1 (FIRE) and 2
    :param terminal_on_life_loss: whether the loss of a life ends an episode
    :param max_frames: length at which a game is truncated, may be infinite
    """

    has_noops: bool
    has_fire: bool
    terminal_on_life_loss: bool
    max_frames: float


class Game:
    """
    A game under these rules, and what the wrappers remember of it.

    :param rules: the rules
    :param writer: of the monitor file, if there is one
    :param start_time: seconds since the epoch, from which ``info["episode"]["t"]`` counts
    """

    def __init__(self, rules: Rules, writer: ResultsWriter | None, start_time: float) -> None:
        self._rules = rules
        self._writer = writer
        self._start_time = start_time
        self._score = 0
        self._lives = 0
        self.was_real_done = True
        """Whether the next reset starts a new game, instead of going on after the loss of a life."""

    def reset(self) -> Plan:
        """Plan a reset, which returns the first observation of an episode and its info, as FireResetEnv has it."""
        step = yield from self._reset_life()
        if not self._rules.has_fire:
            return step
        for action in (1, 2):
            step = yield from self.step(action)
            if step.is_done:
                yield from self._reset_life()
        step.info = {}
        return step

    def step(self, action: int) -> Plan:
        """
        Plan a step, as EpisodicLifeEnv has it.

        :param action: from 0
        """
        step = yield from self._act(action)
        if self._rules.terminal_on_life_loss:
            self.was_real_done = step.is_done
            lives = step.info["lives"]
            step.terminated |= 0 < lives < self._lives
            self._lives = lives
        return step

    def close(self) -> None:
        """Close the monitor file."""
        if self._writer is not None:
            self._writer.close()

    def _reset_life(self) -> Plan:
        """Start a new game if the last one is over, as EpisodicLifeEnv has it; else take a step without an action."""
        if self.was_real_done:
            step = yield from self._start()
        else:
            step = yield from self._act(NOOP)
            if step.is_done:
                step = yield from self._start()
        self._lives = step.info["lives"]
        return step

    def _start(self) -> Plan:
        """Start a new game. The emulator draws the no-ops, 0 being one of the numbers; NoopResetEnv has none of that."""
        outcome = yield RESET
        while self._rules.has_noops and outcome.episode_frame_number == 0:
            outcome = yield RESET
        self._score = 0
        return Step(outcome.picture, 0, False, False, _info(outcome, 0))

    def _act(self, action: int) -> Plan:
        """Take a step of the running game, and keep its score as Monitor does."""
        outcome = yield action
        excess = max(0, outcome.episode_frame_number - self._rules.max_frames)
        truncated = outcome.episode_frame_number >= self._rules.max_frames
        # The stock game would have stopped before it came to an end in frames beyond the limit
        terminated = outcome.is_over and not excess
        self._score += outcome.reward
        info = _info(outcome, int(excess))
        if terminated or truncated:
            info["episode"] = self._record(info["episode_frame_number"])
        return Step(outcome.picture, outcome.reward, terminated, truncated, info)

    def _record(self, length: int) -> dict[str, Any]:
        elapsed = round(time.time() - self._start_time, 6)
        episode: dict[str, Any] = {"r": float(self._score), "l": length, "t": elapsed}
        if self._writer is not None:
            self._writer.write_row(episode)
        return episode


def _info(outcome: Outcome, excess: int) -> dict[str, Any]:
    """ale_py's info, ``excess`` frames ago."""
    return {
        "lives": outcome.lives,
        "episode_frame_number": outcome.episode_frame_number - excess,
        "frame_number": outcome.frame_number - excess,
    }
