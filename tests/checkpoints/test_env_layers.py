import time
import warnings
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pygame
import pytest
from env_worlds import actions_of, assert_same, play, through_a_file
from gymnasium import spaces
from gymnasium.wrappers import AtariPreprocessing, FrameStackObservation, NormalizeObservation, RecordEpisodeStatistics
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv, VecMonitor

from drqn_sb3.checkpoints.env_layers import capture_env, layers_of, restore_env
from drqn_sb3.checkpoints.env_state import EnvStateError, get_env_state, set_env_state
from drqn_sb3.checkpoints.resumable_env import ResumableEnv
from drqn_sb3.envs import register_envs

register_envs()


def recall(path: Path | None = None, **kwargs: Any) -> Monitor:
    """Episodes of seven steps."""
    return Monitor(gym.make("Recall-v0"), None if path is None else str(path), **kwargs)


def play_episodes(env: gym.Env, number: int) -> None:
    for _ in range(number):
        env.reset()
        while not env.step(0)[2]:
            pass


def rows(path: Path) -> list[str]:
    """The rows of a monitor file, without the time."""
    return [line.rsplit(",", 1)[0] for line in path.read_text().splitlines()[1:]]


def test_layers_are_listed_from_the_outermost_without_the_resumable_wrapper() -> None:
    env = ResumableEnv(recall())
    assert layers_of(env) == [env.env, env.unwrapped]


def test_rows_written_after_the_capture_are_written_again(tmp_path: Path) -> None:
    path = tmp_path / "0.monitor.csv"
    env = recall(path)
    env.reset(seed=0)
    play_episodes(env, 3)
    state = through_a_file(capture_env(env))
    play_episodes(env, 4)
    env.close()
    expected = rows(path)
    assert len(expected) == 1 + 7
    with open(path, "a") as file:
        file.write("0.5,7")  # a kill in the middle of a row
    other = recall(path, override_existing=False)
    other.reset(seed=9)
    play_episodes(other, 1)
    restore_env(other, state)
    assert rows(path) == expected[:4]
    play_episodes(other, 4)
    assert rows(path) == expected
    other.close()


def test_the_same_monitor_can_go_back(tmp_path: Path) -> None:
    path = tmp_path / "0.monitor.csv"
    env = recall(path)
    env.reset(seed=0)
    play_episodes(env, 2)
    state = capture_env(env)
    play_episodes(env, 3)
    expected = rows(path)
    restore_env(env, state)
    play_episodes(env, 3)
    assert rows(path) == expected
    assert "\0" not in path.read_text()
    env.close()


def test_a_monitor_file_begun_anew_goes_on_and_is_told_of(tmp_path: Path) -> None:
    path = tmp_path / "0.monitor.csv"
    env = recall(path)
    env.reset(seed=0)
    play_episodes(env, 5)
    state = capture_env(env)
    env.close()
    other = recall(path)
    other.reset()
    with pytest.warns(UserWarning, match=r"0\.monitor\.csv has \d+ bytes, \d+ when .* missing from it"):
        restore_env(other, state)
    play_episodes(other, 2)
    assert len(rows(path)) == 1 + 2
    assert other.get_episode_lengths() == [7] * 7
    other.close()


def test_another_monitor_file_that_is_longer_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "other.monitor.csv"
    env, other = recall(tmp_path / "0.monitor.csv"), recall(path)
    env.reset()
    other.reset()
    play_episodes(other, 3)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        restore_env(other, capture_env(env))
    assert len(rows(path)) == 1 + 3
    env.close()
    other.close()


@pytest.mark.parametrize("closed", ["saved", "restored"])
def test_a_closed_monitor_file_is_left_alone(tmp_path: Path, closed: str) -> None:
    path = tmp_path / "0.monitor.csv"
    env, other = recall(tmp_path / "saved"), recall(path)
    for each in (env, other):
        play_episodes(each, 2)
    before = path.read_text()
    (env if closed == "saved" else other).close()
    restore_env(other, capture_env(env))
    assert path.read_text() == before
    env.close()
    other.close()


def test_a_vec_monitors_file_goes_back_too(tmp_path: Path) -> None:
    path = tmp_path / "all.monitor.csv"
    env = VecMonitor(DummyVecEnv([lambda: gym.make("Recall-v0")] * 2), str(path))
    env.seed(0)
    env.reset()
    actions = actions_of(env, 0, 100)
    play(env, actions[:40])
    state = through_a_file(get_env_state(env))
    seen = play(env, actions[40:])
    expected, count = rows(path), env.episode_count
    set_env_state(env, state)
    assert env.episode_count < count
    assert_same(play(env, actions[40:]), seen)
    assert (rows(path), env.episode_count) == (expected, count)
    env.close()


@pytest.mark.parametrize("wrapper", [Monitor, RecordEpisodeStatistics])
def test_elapsed_time_goes_on(wrapper: Any) -> None:
    def seconds(env: gym.Env) -> float:
        while True:
            *_, terminated, _, info = env.step(0)
            if terminated:
                return float(info["episode"]["t"])

    env, other = wrapper(gym.make("Recall-v0")), wrapper(gym.make("Recall-v0"))
    env.reset()
    time.sleep(0.2)
    state = through_a_file(capture_env(env))
    time.sleep(1.0)
    other.reset()
    restore_env(other, state)
    assert 0.2 <= seconds(other) < 1.0  # not the time in between
    assert seconds(env) >= 1.2


def test_an_episode_under_way_goes_on_in_the_monitor() -> None:
    env, other = Monitor(gym.make("CartPole-v1")), Monitor(gym.make("CartPole-v1"))
    env.reset(seed=0)
    env.step(0)
    other.reset(seed=1)
    restore_env(other, through_a_file(capture_env(env)))
    ended = False
    while not ended:
        *_, ended, _, info = env.step(0)
        *_, also_ended, _, other_info = other.step(0)
        assert ended == also_ended
    assert info["episode"]["r"] == other_info["episode"]["r"] == info["episode"]["l"]
    assert other.get_total_steps() == env.get_total_steps()


class Noise(gym.Env[np.ndarray, Any]):
    """Is asked for its state, which ``stored`` says how to tell."""

    observation_space = spaces.Box(0, 1, (2,))
    action_space = spaces.Discrete(2)

    def __init__(self, stored: Any = None) -> None:
        self.level = 0
        self.secret = {1, 2}  # no plain data, but who can tell its state is not looked into
        self.stored = stored

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[np.ndarray, dict[str, Any]]:
        super().reset(seed=seed)
        return np.zeros(2, np.float32), {}

    def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        self.level += 1
        return np.zeros(2, np.float32), float(self.level), False, False, {}

    def get_state(self) -> Any:
        return {"level": [self.level]} if self.stored is None else self.stored()

    def set_state(self, state: Any) -> None:
        self.level = state["level"].pop()


def test_a_layer_that_can_tell_its_state_is_asked() -> None:
    env, other = Noise(), Noise()
    env.reset(seed=3)
    env.step(0)
    other.reset(seed=4)
    state = capture_env(env)
    for _ in range(2):  # a state can be used again, whatever set_state does with it
        restore_env(other, state)
        assert other.level == 1
    assert other.np_random_seed == 3


@pytest.mark.parametrize(
    ("stored", "why"),
    [
        (lambda: {"x": {1}}, r"Noise\.get_state\(\)\['x'\] is a builtins\.set"),
        (lambda: 1 / 0, r"Noise\.get_state\(\) failed: Zero"),
    ],
    ids=["not plain", "fails"],
)
def test_what_an_environment_tells_must_be_plain_data(stored: Any, why: str) -> None:
    with pytest.raises(EnvStateError, match=why):
        capture_env(Noise(stored))


class Counting(gym.Env[np.ndarray, Any]):
    """Tells what is observed, under the name of a state, and forgets to tell how many steps were taken."""

    observation_space = spaces.Box(0, 1, (1,))
    action_space = spaces.Discrete(2)
    n_steps = 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[np.ndarray, dict[str, Any]]:
        super().reset(seed=seed)
        self.n_steps, self.observation = 0, np.zeros(1, np.float32)
        return self.observation, {}

    def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        self.n_steps += 1
        return self.observation, 0.0, False, False, {}

    def get_state(self) -> np.ndarray:
        return self.observation

    def set_state(self, state: np.ndarray) -> None:
        self.observation = state


def test_a_layer_is_asked_only_if_its_attributes_cannot_be_saved() -> None:
    env, other = Counting(), Counting()
    env.reset()
    other.reset()
    env.step(0)
    restore_env(other, capture_env(env))
    assert other.n_steps == 1


class Engine:
    """A simulator of somebody's own."""


class Held(gym.Env[np.ndarray, Any]):
    """Keeps all that matters in one attribute."""

    observation_space = spaces.Box(0, 1, (1,))
    action_space = spaces.Discrete(2)


@pytest.mark.parametrize("name", ["env", "venv", "envs", "rect"])
def test_a_simulator_is_not_passed_over_whatever_it_is_called(name: str) -> None:
    env = Held()
    setattr(env, name, pygame.Rect(0, 0, 2, 2) if name == "rect" else Engine())
    with pytest.raises(EnvStateError, match=rf"Held\.{name} is a .*(Engine|Rect)"):
        capture_env(env)


class Slotted(gym.Wrapper):
    """Keeps an attribute where ``vars`` does not show it."""

    __slots__ = ("hidden",)


def test_attributes_in_slots_are_refused() -> None:
    with pytest.raises(EnvStateError, match=r"Slotted keeps \['hidden'\] in __slots__"):
        capture_env(Slotted(gym.make("Recall-v0")))


class Lazy(gym.Wrapper):
    """Makes an attribute when it is first needed."""

    def step(self, action: Any) -> Any:
        self.n_steps = getattr(self, "n_steps", 0) + 1
        return self.env.step(action)


def test_attributes_that_came_later_go_and_come() -> None:
    env, other = Lazy(gym.make("Recall-v0")), Lazy(gym.make("Recall-v0"))
    env.reset()
    other.reset()
    first = capture_env(env)
    env.step(0)
    restore_env(other, capture_env(env))
    assert other.n_steps == 1
    restore_env(other, first)
    assert "n_steps" not in vars(other)


def gymnasium_atari() -> gym.Env:
    env = gym.make("BreakoutNoFrameskip-v4")
    return FrameStackObservation(AtariPreprocessing(env, terminal_on_life_loss=True), 3)


def gymnasium_cartpole() -> gym.Env:
    return RecordEpisodeStatistics(FrameStackObservation(NormalizeObservation(gym.make("CartPole-v1")), 3))


def drawn_cartpole() -> gym.Env:
    return gym.make("CartPole-v1", render_mode="rgb_array")


@pytest.mark.parametrize("make", [gymnasium_atari, gymnasium_cartpole, drawn_cartpole])
def test_gymnasiums_own_wrappers_and_pictures_go_on(make: Any) -> None:
    env, other = DummyVecEnv([make]), DummyVecEnv([make])
    env.seed(0)
    env.reset()
    other.reset()
    if env.render_mode == "rgb_array":
        env.render()
    actions = actions_of(env, 0, 300)
    play(env, actions[:45])
    set_env_state(other, through_a_file(get_env_state(env)))
    assert_same(play(other, actions[45:]), play(env, actions[45:]))
    if env.render_mode == "rgb_array":
        np.testing.assert_array_equal(other.render(), env.render())


@pytest.mark.parametrize("n_steps", [0, 40])
def test_an_atari_games_counters_and_lives_go_on(n_steps: int) -> None:
    env, other = gym.make("BreakoutNoFrameskip-v4"), gym.make("BreakoutNoFrameskip-v4")
    env.reset(seed=0)
    for _ in range(n_steps):
        env.step(1)
    other.reset(seed=1)
    restore_env(other, through_a_file(capture_env(env)))
    for _ in range(400):
        one, two = env.step(1), other.step(1)
        np.testing.assert_array_equal(one[0], two[0])
        assert one[1:] == two[1:]
    assert one[4]["frame_number"] == 400 + n_steps
    assert one[4]["lives"] < 5
    np.testing.assert_array_equal(env.reset()[0], other.reset()[0])
