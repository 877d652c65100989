"""SlimeVolley's wrappers beside those of SB3 and OpenCV, for whatever options, seeds, actions and pictures there are."""

from typing import Any

import cv2
import gymnasium as gym
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from stable_baselines3.common.atari_wrappers import AtariWrapper, MaxAndSkipEnv, WarpFrame

from drqn_sb3.checkpoints import ResumableEnv
from drqn_sb3.envs import DiscreteActions, SkipUnseenFrames, SlimeVolleyAtariWrapper
from drqn_sb3.envs.wrappers import HalveFrame, halved

from .matches import PIXEL_IDS, TABLE, make
from .test_wrappers import assert_steps_equal

PROPERTY = settings(max_examples=25, deadline=None, derandomize=True, database=None)
ATARI_IDS = PIXEL_IDS[1:]
MATCH_LENGTH = 3000  # frames
SEEDS = st.integers(0, 2**32 - 1)
PLAYS = st.lists(st.tuples(st.integers(0, 5), st.integers(1, 12)), min_size=1, max_size=12)
"""Actions, and how often each is repeated: matches are seldom changed by what is held down for a moment."""
FRAMES_LEFT = st.none() | st.integers(1, 60)
"""Of the match that is played first, ``None`` for all."""


def assert_plays_equal(ours: gym.Env, theirs: gym.Env, seed: int, plays: Any, frames_left: int | None) -> None:
    """Play the same with both, into the next match if the first one is made to end soon."""
    assert_steps_equal(ours.reset(seed=seed), theirs.reset(seed=seed))
    for env in (ours, theirs):
        base: Any = env.unwrapped
        if frames_left is not None:
            base.set_state({**base.get_state(), "t": MATCH_LENGTH - frames_left})
    has_buttons = ours.action_space.shape != ()
    for choice, n_times in plays:
        for _ in range(n_times):
            action: Any = np.array(TABLE[choice], np.int8) if has_buttons else choice
            result = ours.step(action)
            assert_steps_equal(result, theirs.step(action))
            if result[2] or result[3]:
                assert_steps_equal(ours.reset(), theirs.reset())


ATARI_OPTIONS = st.fixed_dictionaries(
    {},
    optional={
        "noop_max": st.integers(0, 40),
        "frame_skip": st.integers(1, 9),
        "screen_size": st.sampled_from([1, 42, 83, 84, 100]),
        "terminal_on_life_loss": st.booleans(),
        "clip_reward": st.booleans(),
        "action_repeat_probability": st.sampled_from([0.0, 0.25, 1.0]) | st.floats(0.0, 1.0),
    },
)


@PROPERTY
@given(st.sampled_from(ATARI_IDS), ATARI_OPTIONS, SEEDS, PLAYS, FRAMES_LEFT)
def test_any_options_of_sb3s_atari_wrapper_give_what_they_give_there(
    env_id: str, options: dict[str, Any], seed: int, plays: Any, frames_left: int | None
) -> None:
    ours, theirs = SlimeVolleyAtariWrapper(make(env_id), **options), AtariWrapper(make(env_id), **options)
    assert ours.observation_space == theirs.observation_space and ours.action_space == theirs.action_space
    assert_plays_equal(ours, theirs, seed, plays, frames_left)


@PROPERTY
@given(st.sampled_from(PIXEL_IDS), st.integers(2, 12), SEEDS, PLAYS, FRAMES_LEFT)
def test_frames_that_are_not_drawn_are_never_missed(
    env_id: str, skip: int, seed: int, plays: Any, frames_left: int | None
) -> None:
    ours, theirs = SkipUnseenFrames(make(env_id), skip), MaxAndSkipEnv(make(env_id), skip)
    assert_plays_equal(ours, theirs, seed, plays, frames_left)


@settings(PROPERTY, max_examples=10)
@given(SEEDS, PLAYS, FRAMES_LEFT)
def test_the_resumable_wrapper_is_not_seen_around_pixels(seed: int, plays: Any, frames_left: int | None) -> None:
    wrapped, bare = (SlimeVolleyAtariWrapper(make(ATARI_IDS[0])) for _ in range(2))
    assert_plays_equal(ResumableEnv(wrapped), bare, seed, plays, frames_left)


class Buttons(gym.ActionWrapper):
    """Presses what the original's table says, over an environment that acts with buttons."""

    def __init__(self, env: gym.Env) -> None:
        super().__init__(env)
        self.action_space = gym.spaces.Discrete(6)

    def action(self, action: int) -> Any:
        return TABLE[action]


@settings(PROPERTY, max_examples=15)
@given(st.sampled_from(["SlimeVolley-v0", "SlimeVolleyPixel-v0"]), SEEDS, PLAYS, FRAMES_LEFT)
def test_discrete_actions_play_the_match_that_buttons_play(
    env_id: str, seed: int, plays: Any, frames_left: int | None
) -> None:
    assert_plays_equal(DiscreteActions(make(env_id)), Buttons(make(env_id)), seed, plays, frames_left)


NO_ACTIONS = st.integers(max_value=-1) | st.integers(6) | st.floats() | st.none() | st.text() | st.lists(st.integers(0, 5))


@PROPERTY
@given(NO_ACTIONS)
def test_what_is_no_action_is_refused_and_plays_nothing(action: Any) -> None:
    env = DiscreteActions(make("SlimeVolley-v0"))
    env.reset(seed=0)
    before = env.unwrapped.get_state()["t"]  # type: ignore[attr-defined]
    with pytest.raises(ValueError, match="action must be a whole number from 0 to 5, got"):
        env.step(action)
    assert env.unwrapped.get_state()["t"] == before  # type: ignore[attr-defined]


# --- pictures ---

OURS, THEIRS = HalveFrame(make(ATARI_IDS[0])), WarpFrame(make(ATARI_IDS[0]))


@settings(PROPERTY, max_examples=100)
@given(st.tuples(st.integers(1, 40), st.integers(1, 40)).flatmap(lambda size: arrays(np.uint8, (size[0], 2 * size[1]))))
def test_pictures_of_any_size_are_halved_as_opencv_halves_them(grey: np.ndarray) -> None:
    height, width = grey.shape
    before = grey.copy()
    result = halved(grey)
    expected = cv2.resize(grey, (width // 2, height), interpolation=cv2.INTER_AREA).reshape(height, width // 2)
    np.testing.assert_array_equal(result, expected, strict=True)
    np.testing.assert_array_equal(grey, before)


@PROPERTY
@given(arrays(np.uint8, (84, 168, 3), fill=st.integers(0, 255)), SEEDS, st.integers(1, 42))
def test_any_picture_is_warped_as_sb3_warps_it(picture: np.ndarray, seed: int, block: int) -> None:
    # Blocks of one colour each, beside and under what hypothesis thinks of
    rng = np.random.default_rng(seed)
    blocks = np.kron(rng.integers(256, size=(84, 168, 3))[::block, ::block], np.ones((block, block, 1)))
    mixed = np.where(picture == 0, blocks[:84, :168].astype(np.uint8), picture)
    for frame in (picture, np.ascontiguousarray(mixed)):
        np.testing.assert_array_equal(OURS.observation(frame), THEIRS.observation(frame), strict=True)
