"""Films: what happens on the left, what is seen on the right."""

from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from evaluation_world import CARTPOLE, SLIME_NUMBERS, SLIME_PIXELS
from gymnasium import spaces
from PIL import Image, ImageSequence
from stable_baselines3 import PPO

from eval.conditions import Condition
from eval.evaluation import filming
from eval.evaluation.agents import RandomAgent
from eval.evaluation.environments import EnvSpec, make_env
from eval.evaluation.filming import MAX_BYTES, SIDE, Shot, draw_shots, film

MARK = (230, 159, 0)
BAR = (86, 180, 233)


def frames_of(path: Path) -> list[np.ndarray]:
    with Image.open(path) as image:
        return [np.asarray(frame.convert("RGB")) for frame in ImageSequence.Iterator(image)]


def filmed(spec: EnvSpec, condition: str, path: Path, n_steps: int) -> list[np.ndarray]:
    env = make_env(spec, Condition(), 0, 1, 1)
    film(RandomAgent(env.observation_space, env.action_space, 0), spec, Condition.parse(condition), path, 1000, n_steps)
    env.close()
    return frames_of(path)


def right(frame: np.ndarray) -> np.ndarray:
    """What the agent sees: the panel without its border."""
    top = 22
    return frame[top : top + SIDE, -SIDE - 6 : -6]


def has(picture: np.ndarray, colour: tuple[int, int, int]) -> bool:
    return bool((picture == colour).all(axis=2).any())


@pytest.mark.parametrize(
    "spec", [SLIME_PIXELS, SLIME_NUMBERS, CARTPOLE, EnvSpec("Recall-v0", {}, [])], ids=lambda spec: spec.env_id
)
def test_a_hidden_observation_is_marked_and_the_others_are_shown(spec: EnvSpec, tmp_path: Path) -> None:
    frames = filmed(spec, "flicker-0.5", tmp_path / "film.gif", 24)
    marked = [has(right(frame), MARK) for frame in frames]
    assert 4 < sum(marked) < len(frames) - 4
    for frame, is_hidden in zip(frames, marked, strict=True):
        assert not (is_hidden and has(right(frame), BAR))
        if is_hidden:
            assert not right(frame)[:60].any() and not right(frame)[-60:].any()  # above and below the word
    assert len({frame.shape for frame in frames}) == 1
    assert (tmp_path / "film.gif").stat().st_size < MAX_BYTES


def test_the_right_picture_is_the_observation_enlarged(tmp_path: Path) -> None:
    frames = filmed(SLIME_PIXELS, "normal", tmp_path / "film.gif", 8)
    env = make_env(SLIME_PIXELS, Condition(), 1000, 1, 1)
    agent = RandomAgent(env.observation_space, env.action_space, 0)
    obs, state = env.reset(), None
    for frame in frames[:5]:
        picture = right(frame)
        assert np.array_equal(picture[::2, ::2], picture[1::2, 1::2])  # each pixel twice as high and wide
        shown = picture[::2, ::2].astype(int).mean(axis=2)
        assert np.abs(shown - np.asarray(obs)[0, :, :, 0]).mean() < 4  # as close as few colours come
        actions, state = agent.predict(obs, state)
        obs, *_ = env.step(actions)
    env.close()


def test_the_left_picture_is_what_is_rendered(tmp_path: Path) -> None:
    first, *_ = filmed(SLIME_PIXELS, "flicker-0", tmp_path / "film.gif", 3)
    env = make_env(SLIME_PIXELS, Condition.parse("flicker-0"), 1000, 1, 1, "rgb_array")
    env.reset()
    rendered = env.render()
    assert rendered is not None
    left = first[22 : 22 + SIDE, 6 : 6 + 2 * SIDE].astype(int)
    assert np.abs(left - rendered[::2, ::2].astype(int)).mean() < 4
    env.close()


def test_the_same_film_has_the_same_bytes(tmp_path: Path) -> None:
    filmed(CARTPOLE, "noise-0.1+flicker-0.5", tmp_path / "one.gif", 15)
    filmed(CARTPOLE, "noise-0.1+flicker-0.5", tmp_path / "other.gif", 15)
    assert (tmp_path / "one.gif").read_bytes() == (tmp_path / "other.gif").read_bytes()


def test_frozen_observations_are_marked_and_stay(tmp_path: Path) -> None:
    frames = filmed(SLIME_PIXELS, "freeze-0.6", tmp_path / "film.gif", 20)
    marked = [has(right(frame), MARK) for frame in frames]
    assert 4 < sum(marked) < 19
    corners = [right(frame)[SIDE // 2 + 20 :] for frame in frames]  # below the mark
    for before, after, is_frozen in zip(corners, corners[1:], marked[1:], strict=False):
        assert not is_frozen or np.array_equal(before, after)


def test_what_cannot_be_compressed_is_cut_short(tmp_path: Path) -> None:
    frames = filmed(SLIME_PIXELS, "noise-0.2", tmp_path / "film.gif", 150)
    assert 300_000 < (tmp_path / "film.gif").stat().st_size <= MAX_BYTES
    assert len(frames) > 25


class Blind(gym.Env[Any, np.int64]):
    """Nothing to draw; a dict to see."""

    def __init__(self) -> None:
        picture = spaces.Box(0, 255, (3, 20, 30), np.uint8)
        numbers = spaces.Box(-np.inf, np.inf, (2,), np.float32)
        self.observation_space = spaces.Dict(body=numbers, eye=picture)
        self.action_space = spaces.Discrete(2)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.t = 0
        return self._observation(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.t += 1
        return self._observation(), 1.0, self.t == 3, False, {}

    def _observation(self) -> Any:
        picture = np.zeros((3, 20, 30), np.uint8)
        picture[0] = 250
        return {"body": np.ones(2, np.float32), "eye": picture}


gym.register("Blind-v0", entry_point=lambda **kwargs: Blind(**kwargs), disable_env_checker=True)


def test_an_environment_that_cannot_be_drawn_shows_what_is_seen(tmp_path: Path) -> None:
    first, *_ = filmed(EnvSpec("Blind-v0", {}, []), "normal", tmp_path / "film.gif", 9)
    red = first[22 : 22 + 100, 6 : 6 + 150]  # enlarged five times, channels last again
    assert (red[..., 0] > 200).all() and (red[..., 1:] < 40).all()
    assert first.shape[1] == 300


def test_steps_scores_and_games_are_counted() -> None:
    bars = np.array([1.0, -2.0, 0.0])
    shots = [Shot(None, bars, "", 1, 0, 0.0), Shot(None, -bars, "", 1, 1, 2.0), Shot(None, -bars, "", 2, 0, 0.0)]
    one, other, third = (np.asarray(frame) for frame in draw_shots(shots, "title"))
    footer = slice(-16, None)
    assert not np.array_equal(one[footer], other[footer]) and not np.array_equal(one[footer], third[footer])
    title = slice(-32, -16)
    np.testing.assert_array_equal(one[title], other[title])
    # Each bar is scaled by the greatest it comes to: up and down as far, and zero is none
    panel = one[22 : 22 + SIDE, 6 : 6 + SIDE]
    blue = (panel == BAR).all(axis=2)
    up, down, none = blue[:, : SIDE // 3], blue[:, SIDE // 3 : 2 * SIDE // 3], blue[:, 2 * SIDE // 3 :]
    assert up[:84].any() and not up[90:].any() and down[90:].any() and not down[:80].any() and not none.any()
    assert abs(int(up.any(axis=1).sum()) - int(down.any(axis=1).sum())) <= 2


def test_games_follow_each_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Shot] = []

    def watch(shots: list[Shot], title: str) -> Any:
        seen.extend(shots)
        return draw_shots(shots, title)

    monkeypatch.setattr(filming, "draw_shots", watch)
    filmed(EnvSpec("Recall-v0", {"delay": 1}, []), "normal", tmp_path / "film.gif", 9)
    assert [(shot.game, shot.step) for shot in seen] == [(game, step) for game in (1, 2, 3) for step in range(4)]
    assert {shot.score for shot in seen if shot.step == 3} <= {0.0, 1.0}


@pytest.mark.parametrize("max_steps", [0, -1])
def test_a_film_of_nothing_is_refused(max_steps: int, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=f"max_steps must be at least 1, got {max_steps}"):
        filmed(CARTPOLE, "normal", tmp_path / "film.gif", max_steps)


def test_a_film_shows_how_the_evaluation_is_played(tmp_path: Path) -> None:
    model = PPO("MlpPolicy", make_env(CARTPOLE, Condition(), 0, 9, 1), seed=0)
    ways: dict[str, dict[str, Any]] = {
        "best": {},
        "drawn": {"deterministic": False},
        "drawn again": {"deterministic": False},
        "at random": {"epsilon": 1.0},
        "at random, drawn": {"epsilon": 1.0, "deterministic": False},
    }
    films = {}
    for way, settings in ways.items():
        film(model, CARTPOLE, Condition(), tmp_path / "film.gif", 1000, 12, **settings)
        films[way] = (tmp_path / "film.gif").read_bytes()
    assert films["drawn"] == films["drawn again"]
    assert films["at random"] == films["at random, drawn"]  # the model does not matter
    assert len(set(films.values())) == 3


@pytest.mark.parametrize("epsilon", [-0.1, 1.5, float("nan")])
def test_a_probability_that_is_none_is_refused(epsilon: float, tmp_path: Path) -> None:
    agent = RandomAgent(None, spaces.Discrete(2), 0)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=f"epsilon must be from 0 to 1, got {epsilon}"):
        film(agent, CARTPOLE, Condition(), tmp_path / "film.gif", 0, 9, epsilon=epsilon)
