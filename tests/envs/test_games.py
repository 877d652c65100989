"""The plans against SB3's wrappers, on a game that ends, and takes lives, far more often than Atari does."""

import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces
from stable_baselines3.common.atari_wrappers import EpisodicLifeEnv, FireResetEnv, MaxAndSkipEnv, NoopResetEnv
from stable_baselines3.common.monitor import Monitor, ResultsWriter

from drqn_sb3.envs.emulators import RESET, Outcome
from drqn_sb3.envs.games import Game, Plan, Rules, Step

SKIP = 4


class RoughGame(gym.Env):
    """A game of three lives whose frames are ruled by chance; the first two of a game neither end it nor give points."""

    observation_space = spaces.Box(0, 255, (1,), np.uint8)
    action_space = spaces.Discrete(3)

    def __init__(self, seed: int) -> None:
        self._chance = np.random.default_rng(seed)
        self.lives = self.frame = self.n_frames = 0
        self.ale = SimpleNamespace(lives=lambda: self.lives)
        self.actions: list[int] = []

    def get_action_meanings(self) -> list[str]:
        return ["NOOP", "FIRE", "UP"]

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[np.ndarray, dict[str, Any]]:
        self.lives, self.frame = 3, 0
        self.actions.append(RESET)
        return self.show()

    def step(self, action: int) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        self.actions.append(action)
        self.frame += 1
        self.n_frames += 1
        event, points = self._chance.random(), float(self._chance.integers(-2, 3))
        if self.frame > 2 and event < 0.1:
            self.lives -= 1
        elif event > 0.95:
            self.lives += 1
        is_over = self.frame > 2 and (self.lives <= 0 or 0.1 < event < 0.13)
        return self.show()[0], points if self.frame > 2 else 0.0, is_over, False, self.show()[1]

    def show(self) -> tuple[np.ndarray, dict[str, Any]]:
        info = {"lives": self.lives, "episode_frame_number": self.frame, "frame_number": self.n_frames}
        return np.array([self.frame % 256], np.uint8), info


def carry_out(plan: Plan, game: RoughGame) -> Step:
    """Carry out a plan as a native emulator would that makes one no-op after a reset."""
    action, is_over, reward = next(plan), False, 0
    while True:
        if action == RESET:
            game.reset()
        reward = 0
        for _ in range(1 if action == RESET else SKIP):
            _, points, is_over, _, _ = game.step(max(action, 0))
            reward += int(points)
            if is_over:
                break
        reward = 0 if action == RESET else reward
        info = game.show()[1]
        try:
            action = plan.send(Outcome(np.zeros((1, 1, 3), np.uint8), reward, is_over, **info))
        except StopIteration as stop:
            step: Step = stop.value
            return step


def stock_env(game: RoughGame, rules: Rules) -> tuple[gym.Env, Monitor]:
    """Wrap as AtariWrapper does, up to WarpFrame, with exactly one no-op after a reset."""
    monitor = Monitor(game)
    noops = NoopResetEnv(monitor, noop_max=1)
    env: gym.Env = MaxAndSkipEnv(noops, skip=SKIP)
    if rules.terminal_on_life_loss:
        env = EpisodicLifeEnv(env)
    return (FireResetEnv(env) if rules.has_fire else env), monitor


def without_time(info: dict[str, Any]) -> dict[str, Any]:
    return {**info, **({"episode": {**info["episode"], "t": 0}} if "episode" in info else {})}


@pytest.mark.parametrize("terminal_on_life_loss", [False, True])
@pytest.mark.parametrize("has_fire", [False, True])
@pytest.mark.parametrize("seed", range(5))
def test_a_game_goes_as_under_the_wrappers(has_fire: bool, terminal_on_life_loss: bool, seed: int) -> None:
    rules = Rules(True, has_fire, terminal_on_life_loss, max_frames=np.inf)
    stock_game, our_game = RoughGame(seed), RoughGame(seed)
    env, _ = stock_env(stock_game, rules)
    game = Game(rules, None, time.time())
    actions = np.random.default_rng(seed).integers(3, size=400).tolist()
    _, info = env.reset()
    assert carry_out(game.reset(), our_game).info == info
    for count, action in enumerate(actions):
        _, reward, terminated, truncated, info = env.step(action)
        step = carry_out(game.step(action), our_game)
        assert (step.reward, step.terminated, step.truncated) == (reward, terminated, truncated)
        assert without_time(step.info) == without_time(info)
        if terminated or truncated or count % 50 == 49:
            _, info = env.reset()
            assert carry_out(game.reset(), our_game).info == info
    assert our_game.actions == stock_game.actions
    if has_fire:  # some games have ended in what follows a reset, after FIRE and after the other action
        ended_early = [our_game.actions[start + 2 :].index(RESET) for start in resets(our_game)[:-1]]
        assert min(ended_early) <= SKIP < sorted(ended_early)[len(ended_early) // 2]


def resets(game: RoughGame) -> list[int]:
    return [index for index, action in enumerate(game.actions) if action == RESET]


def test_every_game_is_written_to_the_monitor_file(tmp_path: Path) -> None:
    rules = Rules(True, True, True, max_frames=np.inf)
    stock_game, our_game = RoughGame(0), RoughGame(0)
    env, monitor = stock_env(stock_game, rules)
    game = Game(rules, ResultsWriter(str(tmp_path / "0")), time.time())
    env.reset()
    carry_out(game.reset(), our_game)
    for _ in range(200):
        if env.step(0)[2]:
            env.reset()
        if carry_out(game.step(0), our_game).is_done:
            carry_out(game.reset(), our_game)
    game.close()
    rows = [row.split(",")[:2] for row in (tmp_path / "0.monitor.csv").read_text().splitlines()[2:]]
    expected = zip(monitor.get_episode_rewards(), monitor.get_episode_lengths(), strict=True)
    assert [(float(score), int(length)) for score, length in rows] == list(expected)
    assert len(rows) > 20


def outcomes(*ends: tuple[int, bool]) -> list[Outcome]:
    """Make the outcome of a reset, and of steps that end at these frames, the game being over or not."""
    picture = np.zeros((1, 1, 3), np.uint8)
    frames = [(0, False), *ends]
    return [Outcome(picture, 1, is_over, 1, 1000 + frame, frame) for frame, is_over in frames]


LIMITS = {
    "short of it": ((9, False), (False, False, 9)),
    "at the limit": ((10, False), (False, True, 10)),
    "beyond it": ((12, False), (False, True, 10)),
    "over short of it": ((9, True), (True, False, 9)),
    "over at the limit": ((10, True), (True, True, 10)),
    "over beyond it, where the stock game has been stopped": ((11, True), (False, True, 10)),
}


@pytest.mark.parametrize(("end", "expected"), LIMITS.values(), ids=LIMITS.keys())
def test_a_game_that_lasts_too_long_is_truncated(end: tuple[int, bool], expected: tuple[bool, bool, int]) -> None:
    game = Game(Rules(False, False, True, max_frames=10), None, time.time())
    start, outcome = outcomes(end)
    for plan, sent in ((game.reset(), start), (game.step(2), outcome)):
        next(plan)
        with pytest.raises(StopIteration) as stop:
            plan.send(sent)
    step = stop.value.value
    terminated, truncated, length = expected
    assert (step.terminated, step.truncated) == (terminated, truncated)
    assert step.info["episode_frame_number"] == length
    assert step.info["frame_number"] == 1000 + length
    assert ("episode" in step.info) == step.is_done
    if step.is_done:
        assert (step.info["episode"]["r"], step.info["episode"]["l"]) == (1.0, length)
