import warnings
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.error import ResetNeeded
from gymnasium.utils.env_checker import check_env as gymnasium_check_env
from stable_baselines3.common.env_checker import check_env as sb3_check_env

from drqn_sb3 import DRQN
from drqn_sb3.envs import RecallEnv


def play(env: RecallEnv, seed: int, answer: int | None = None) -> tuple[list[list[float]], float, dict[str, Any]]:
    """Play an episode; ``None`` answers with the cue. Returns all observations, the return and the last info."""
    observation, _ = env.reset(seed=seed)
    cue = int(observation[:-1].argmax())
    seen, total, terminated = [observation.tolist()], 0.0, False
    info: dict[str, Any] = {}
    while not terminated:
        action = (cue if answer is None else answer) if observation[-1] else 0
        observation, reward, terminated, truncated, info = env.step(np.int64(action))
        assert not truncated
        total += reward
        seen.append(observation.tolist())
    return seen, total, info


@pytest.mark.parametrize("delay", [0, 1, 5])
@pytest.mark.parametrize("n_cues", [2, 4])
def test_an_episode_is_a_cue_then_nothing_then_the_question(delay: int, n_cues: int) -> None:
    seen, total, info = play(RecallEnv(delay, n_cues), seed=3)
    cue = [0.0] * (n_cues + 1)
    cue[int(np.argmax(seen[0]))] = 1.0
    go = [0.0] * n_cues + [1.0]
    assert seen == [cue] + [[0.0] * (n_cues + 1)] * delay + [go, go]
    assert cue[-1] == 0.0
    assert (total, info) == (1.0, {"is_success": True})


def test_only_the_cue_is_right() -> None:
    env = RecallEnv(delay=2, n_cues=3)
    outcomes = [play(env, seed=0, answer=answer)[1:] for answer in range(3)]
    assert sorted(total for total, _ in outcomes) == [0.0, 0.0, 1.0]
    assert all(info["is_success"] == (total == 1.0) for total, info in outcomes)


def test_cues_are_equally_frequent_and_determined_by_the_seed() -> None:
    env = RecallEnv(delay=0, n_cues=4)
    env.reset(seed=0)
    cues = [int(env.reset()[0].argmax()) for _ in range(2000)]
    assert np.bincount(cues, minlength=4).min() > 440
    env.reset(seed=0)
    assert [int(env.reset()[0].argmax()) for _ in range(2000)] == cues


def test_the_text_shows_what_is_seen() -> None:
    env = RecallEnv(delay=2, render_mode="ansi")
    observation, _ = env.reset(seed=0)
    shown = [env.render()]
    for _ in range(4):
        env.step(np.int64(0))
        shown.append(env.render())
    assert shown == [str(observation.argmax()), ".", ".", "?", "?"]
    silent = RecallEnv()
    silent.reset(seed=0)
    assert silent.render() is None


def test_a_picture_shows_the_observation_as_tiles() -> None:
    env = RecallEnv(delay=0, n_cues=3, render_mode="rgb_array")
    observation, _ = env.reset(seed=0)
    for _ in range(2):
        picture = env.render()
        assert isinstance(picture, np.ndarray) and picture.shape == (32, 128, 3) and picture.dtype == np.uint8
        # The tiles' corners and middles, of every colour
        pixels = picture.reshape(32, 4, 32, 3)[[0, 15, 31]][:, :, [0, 15, 31]]
        np.testing.assert_array_equal(pixels, np.broadcast_to(255 * observation[:, None, None], pixels.shape))
        observation = env.step(np.int64(0))[0]


def test_sb3_makes_it_by_its_id() -> None:
    assert DRQN("MlpLstmPolicy", "Recall-v0").n_envs == 1


BAD_ARGUMENTS = {
    "negative delay": ({"delay": -1}, "delay must be a whole number, 0 or more, got -1"),
    "fractional delay": ({"delay": 1.5}, "delay must be a whole number, 0 or more, got 1.5"),
    "one cue": ({"n_cues": 1}, "n_cues must be a whole number, 2 or more, got 1"),
    "truth as a number": ({"n_cues": True}, "n_cues must be a whole number, 2 or more, got True"),
    "window": ({"render_mode": "human"}, 'render_mode must be None, "ansi" or "rgb_array", got \'human\''),
}


@pytest.mark.parametrize(("kwargs", "message"), BAD_ARGUMENTS.values(), ids=BAD_ARGUMENTS.keys())
def test_bad_arguments_are_named(kwargs: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        RecallEnv(**kwargs)


def test_a_bad_action_is_named() -> None:
    env = RecallEnv()
    env.reset(seed=0)
    with pytest.raises(ValueError, match=r"action must be a whole number from 0 to 1, got .*2"):
        env.step(np.int64(2))


def test_stepping_needs_a_reset_before_and_after_an_episode() -> None:
    env = RecallEnv()
    with pytest.raises(ResetNeeded):
        env.step(np.int64(0))
    play(env, seed=0)
    with pytest.raises(ResetNeeded):
        env.step(np.int64(0))


def test_both_checkers_are_content() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        gymnasium_check_env(gym.make("Recall-v0", render_mode="ansi").unwrapped)
        sb3_check_env(RecallEnv())
