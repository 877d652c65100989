"""Numbered games: whole ones, true scores, the same whatever else is played."""

from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from evaluation_world import ATARI, CLIP, EPISODIC_LIFE, SLIME_PIXELS, BySight, Lives
from rl_zoo3.utils import get_wrapper_class
from stable_baselines3.common.atari_wrappers import ClipRewardEnv, EpisodicLifeEnv

from drqn_sb3 import FlickerObservation
from eval.conditions import Condition
from eval.evaluation.environments import EnvSpec, know_envs
from eval.evaluation.games import FINISHED, GameRecorder, GameSeeder, Row
from eval.evaluation.playing import Settings, evaluate

FIRST_SEED = 1_000_000


class Tally(gym.Wrapper):
    """The scores of the games that are over, kept as simply as can be."""

    def __init__(self, env: gym.Env) -> None:
        super().__init__(env)
        self.rewards: list[float] = []
        self.games: list[list[float]] = []

    def reset(self, **kwargs: Any) -> tuple[Any, dict[str, Any]]:
        self.rewards = []
        return self.env.reset(**kwargs)

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        obs, reward, terminated, truncated, info = self.env.step(action)
        self.rewards.append(float(reward))
        if terminated or truncated:
            self.games.append(self.rewards)
        return obs, reward, terminated, truncated, info


def by_hand(spec: EnvSpec, condition: str, game: int) -> Row:
    """Play one game without anything that is tested here."""
    know_envs()
    tally = Tally(gym.make(spec.env_id, **spec.env_kwargs))
    wrap = get_wrapper_class({"env_wrapper": [*spec.env_wrapper, *Condition.parse(condition).env_wrappers()]})
    assert wrap is not None
    env = wrap(tally)
    agent = BySight(env.observation_space, env.action_space)
    state, start, length = None, True, 0
    obs, _ = env.reset(seed=FIRST_SEED + game)
    while not tally.games:
        (action,), state = agent.predict(obs[None], state, np.array([start]))
        obs, _, terminated, truncated, _ = env.step(action)
        length += 1
        start = terminated or truncated
        if start and not tally.games:
            obs, _ = env.reset()
    rewards = tally.games[0]
    won, lost = (sum(sign * reward > 0 for reward in rewards) for sign in (1, -1))
    return Row(game, FIRST_SEED + game, sum(rewards), length, won, lost)


def rows_of(spec: EnvSpec, condition: str, **settings: Any) -> list[Row]:
    agent = BySight(None, gym.make(spec.env_id).action_space)
    table = evaluate(agent, spec, [Condition.parse(condition)], Settings(**settings))
    return [Row(*row[1:]) for row in table.itertuples(index=False)]


SHORT = {"max_num_frames_per_episode": 500}
WORLDS: dict[str, tuple[EnvSpec, str]] = {
    "SlimeVolley, a lost point ends an episode": (SLIME_PIXELS, "normal"),
    "SlimeVolley, survival": (EnvSpec("SlimeVolleySurvivalNoFrameskip-v0", {}, SLIME_PIXELS.env_wrapper), "normal"),
    "Breakout, lives, fire, clipped rewards": (EnvSpec("BreakoutNoFrameskip-v4", {}, [ATARI]), "normal"),
    "Pong, cut short": (EnvSpec("PongNoFrameskip-v4", {"max_num_frames_per_episode": 800}, [ATARI]), "normal"),
    "lives, clipped rewards": (EnvSpec("Lives-v0", {"reward": 3.0}, [EPISODIC_LIFE, CLIP]), "normal"),
    "points lost": (EnvSpec("Lives-v0", {"reward": -0.5}, [EPISODIC_LIFE, CLIP]), "normal"),
    "Breakout, cut short, no no-ops": (
        EnvSpec("BreakoutNoFrameskip-v4", SHORT, [{ATARI: {"noop_max": 0, "terminal_on_life_loss": False}}]),
        "flicker-0.5",
    ),
    "CartPole, truncated": (EnvSpec("CartPole-v1", {"max_episode_steps": 9}, []), "noise-0.01+flicker-0.5"),
}


@pytest.mark.parametrize(("spec", "condition"), WORLDS.values(), ids=WORLDS.keys())
def test_scores_are_those_of_games_played_by_hand(spec: EnvSpec, condition: str) -> None:
    n = 2 if "NoFrameskip-v4" in spec.env_id else 6
    assert rows_of(spec, condition, games=n, n_envs=2) == [by_hand(spec, condition, game) for game in range(n)]


@pytest.mark.slow
@pytest.mark.parametrize("env_id", ["PongNoFrameskip-v4", "MsPacmanNoFrameskip-v4", "SpaceInvadersNoFrameskip-v4"])
def test_so_are_those_of_whole_atari_games(env_id: str) -> None:
    spec = EnvSpec(env_id, {}, [ATARI])
    rows = rows_of(spec, "normal", games=4, n_envs=3)
    assert rows == [by_hand(spec, "normal", game) for game in range(4)]
    if env_id.startswith("Pong"):
        assert all(max(row.won, row.lost) == 21 and row.score == row.won - row.lost for row in rows)


def test_rewards_are_neither_clipped_nor_cut_off() -> None:
    rows = rows_of(*WORLDS["lives, clipped rewards"], games=12, n_envs=4)
    assert any(row.score > row.won for row in rows) and not any(row.lost for row in rows)
    rows = rows_of(*WORLDS["points lost"], games=12, n_envs=4)
    assert any(-row.score > row.lost / 2 for row in rows) and not any(row.won for row in rows)
    rows = rows_of(*WORLDS["SlimeVolley, a lost point ends an episode"], games=4, n_envs=2)
    assert [row.score for row in rows] == [row.won - row.lost for row in rows] and all(row.lost == 5 for row in rows)


LIVES = EnvSpec("Lives-v0", {}, [EPISODIC_LIFE])
CONDITIONS = ["normal", "flicker-0.5", "noise-0.05+freeze-0.3+flicker-0.6", "repeat-2+flicker-0.5"]


@pytest.mark.parametrize("epsilon", [0.0, 0.3])
@pytest.mark.parametrize("condition", CONDITIONS)
def test_a_game_is_the_same_whatever_else_is_played(condition: str, epsilon: float) -> None:
    n = 24
    together = rows_of(LIVES, condition, games=n, n_envs=1, epsilon=epsilon)
    assert [row.game for row in together] == list(range(n))
    assert [row.seed for row in together] == list(range(FIRST_SEED, FIRST_SEED + n))
    for n_envs in (2, 5, 24, 99):
        assert rows_of(LIVES, condition, games=n, n_envs=n_envs, epsilon=epsilon) == together
    alone = [rows_of(LIVES, condition, games=1, first_seed=FIRST_SEED + k, epsilon=epsilon)[0] for k in range(n)]
    assert [row._replace(game=0) for row in together] == alone
    assert len({(row.score, row.length) for row in together}) > 5


def test_in_some_of_these_games_the_step_in_place_of_a_reset_ended_the_game() -> None:
    env = EpisodicLifeEnv(GameRecorder(Lives(), range(24), FIRST_SEED))
    ended = 0
    for _ in range(24):
        env.reset()
        over = False
        while not over:
            env.env.length += 1  # type: ignore[attr-defined]
            over = env.step(1)[2]
        before = len(env.env.finished)  # type: ignore[attr-defined]
        env.reset()
        ended += len(env.env.finished) > before  # type: ignore[attr-defined]
    assert ended > 3


@pytest.mark.parametrize(
    "spec", [SLIME_PIXELS, EnvSpec("BreakoutNoFrameskip-v4", SHORT, [ATARI])], ids=lambda spec: spec.env_id
)
def test_real_games_are_the_same_with_any_number_of_environments(spec: EnvSpec) -> None:
    one = rows_of(spec, "flicker-0.5", games=3, n_envs=1, epsilon=0.1)
    assert rows_of(spec, "flicker-0.5", games=3, n_envs=2, epsilon=0.1) == one


class Restless(gym.Wrapper):
    """Resets twice, and ends an episode after five steps though the environment goes on."""

    def reset(self, **kwargs: Any) -> tuple[Any, dict[str, Any]]:
        self.n = 0
        self.env.reset(**kwargs)
        return self.env.reset(**kwargs)

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        obs, reward, terminated, truncated, info = self.env.step(action)
        self.n += 1
        return obs, reward, terminated, truncated or self.n == 5, info


def test_a_game_that_a_wrapper_ends_is_a_game() -> None:
    recorder = GameRecorder(gym.make("CartPole-v1"), range(3), FIRST_SEED)
    env = GameSeeder(FlickerObservation(Restless(recorder), 0.5), recorder)
    rows: list[Row] = []
    first_obs = []
    env.reset()
    while len(rows) < 3:
        *_, terminated, truncated, info = env.step(0)
        rows += info.get(FINISHED, [])
        if terminated or truncated:
            first_obs.append(env.reset()[0])
    assert [(row.game, row.length, row.score) for row in rows] == [(0, 5, 5.0), (1, 5, 5.0), (2, 5, 5.0)]
    alone = FlickerObservation(gym.make("CartPole-v1"), 0.5)
    for game, obs in enumerate(first_obs[:2], start=1):
        np.testing.assert_array_equal(alone.reset(seed=FIRST_SEED + game)[0], obs)


def test_a_second_reset_before_any_decision_starts_the_same_game_again() -> None:
    recorder = GameRecorder(Lives(), range(3), FIRST_SEED)
    env = GameSeeder(EpisodicLifeEnv(recorder), recorder)
    first, second = env.reset()[0], env.reset()[0]
    np.testing.assert_array_equal(first, second)
    assert recorder.game == 0 and recorder.finished == []


def test_after_the_last_game_the_environment_rests() -> None:
    recorder = GameRecorder(Lives(), range(2), FIRST_SEED)
    env = GameSeeder(ClipRewardEnv(EpisodicLifeEnv(recorder)), recorder, epsilon=0.5)
    env.reset()
    rows: list[Row] = []
    resting = 0
    for _ in range(200):
        _, reward, terminated, truncated, info = env.step(2)
        rows += info.get(FINISHED, [])
        if recorder.game is None:
            resting += 1
            assert reward == 0 and not terminated
        elif terminated or truncated:
            env.reset()
    assert [row.game for row in rows] == [0, 1] and resting > 100


EPSILONS: dict[str, tuple[float, Callable[[float], bool]]] = {
    "never": (0.0, lambda share: share == 0),
    "always": (1.0, lambda share: 0.55 < share < 0.78),  # a third of the drawn actions are the agent's own
    "at times": (0.3, lambda share: 0.1 < share < 0.3),
}


@pytest.mark.parametrize(("epsilon", "is_right"), EPSILONS.values(), ids=EPSILONS.keys())
def test_epsilon_is_the_share_of_drawn_actions(epsilon: float, is_right: Callable[[float], bool]) -> None:
    recorder = GameRecorder(gym.make("Lives-v0"), range(200), FIRST_SEED)
    env = GameSeeder(recorder, recorder, epsilon)
    env.reset()
    rewards = []
    while recorder.game is not None:
        _, reward, terminated, _, _ = env.step(1)
        rewards.append(reward)
        if terminated:
            env.reset()
    assert len(rewards) > 500
    assert is_right(float(np.mean(np.array(rewards) != 1)))
