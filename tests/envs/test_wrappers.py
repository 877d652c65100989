import warnings
from typing import Any

import cv2
import gymnasium as gym
import numpy as np
import pytest
from gymnasium.wrappers import GrayscaleObservation, RecordEpisodeStatistics, TimeLimit
from stable_baselines3.common.atari_wrappers import AtariWrapper, MaxAndSkipEnv, WarpFrame
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.monitor import Monitor

from drqn_sb3.envs import DiscreteActions, SkipUnseenFrames, SlimeVolleyAtariWrapper
from drqn_sb3.envs.renderer import PixelRenderer
from drqn_sb3.envs.wrappers import HalveFrame, halved

from .matches import TABLE, make

ATARI_CASES: dict[str, dict[str, Any]] = {
    "defaults": {},
    "as in evaluation": {"terminal_on_life_loss": False, "clip_reward": False},
    "sticky actions": {"action_repeat_probability": 0.25},
    "no no-ops": {"noop_max": 0},
    "frame skip 1": {"frame_skip": 1},
    "frame skip 2": {"frame_skip": 2},
    "frame skip 3, small screen": {"frame_skip": 3, "screen_size": 42},
    "frame skip 7": {"frame_skip": 7},
}


class Played(gym.Wrapper):
    """Counts the frames of each agent step, to know which of them ended a match early."""

    def __init__(self, env: gym.Env) -> None:
        super().__init__(env)
        self.n_frames = 0

    def step(self, action: Any) -> Any:
        self.n_frames += 1
        return self.env.step(action)


def assert_steps_equal(one: tuple[Any, ...], other: tuple[Any, ...]) -> None:
    *numbers, info = one
    *other_numbers, other_info = other
    for a, b in zip(numbers, other_numbers, strict=True):
        np.testing.assert_array_equal(a, b)
        assert type(a) is type(b)
    assert info.keys() == other_info.keys()
    for name in info:
        np.testing.assert_array_equal(info[name], other_info[name], err_msg=name)


@pytest.mark.parametrize("env_id", ["SlimeVolleyNoFrameskip-v0", "SlimeVolleySurvivalNoFrameskip-v0"])
@pytest.mark.parametrize("kwargs", ATARI_CASES.values(), ids=ATARI_CASES.keys())
def test_everything_equals_sb3s_atari_wrapper(env_id: str, kwargs: dict[str, Any]) -> None:
    counters = [Played(make(env_id)), Played(make(env_id))]
    theirs, ours = AtariWrapper(counters[0], **kwargs), SlimeVolleyAtariWrapper(counters[1], **kwargs)
    assert ours.observation_space == theirs.observation_space
    assert ours.action_space == theirs.action_space
    rng = np.random.default_rng(0)
    assert_steps_equal(ours.reset(seed=0), theirs.reset(seed=0))
    for _ in range(250):
        action = int(rng.integers(6))
        result = ours.step(action)
        assert_steps_equal(result, theirs.step(action))
        assert counters[0].n_frames == counters[1].n_frames
        if result[2] or result[3]:
            assert_steps_equal(ours.reset(), theirs.reset())


@pytest.mark.parametrize("n_frames_left", range(1, 7))
def test_a_match_that_ends_between_two_agent_steps_shows_what_sb3_shows(n_frames_left: int) -> None:
    """The last picture is then the maximum over frames that are older by up to an agent step."""
    envs = [make("SlimeVolleyNoFrameskip-v0"), make("SlimeVolleyNoFrameskip-v0")]
    counters = [Played(env) for env in envs]
    wrapped = [AtariWrapper(counters[0], noop_max=0), SlimeVolleyAtariWrapper(counters[1], noop_max=0)]
    for env in wrapped:
        env.reset(seed=0)
    for _ in range(5):
        assert_steps_equal(*(env.step(4) for env in wrapped))
    for env in envs:
        env.set_state({**env.get_state(), "t": 3000 - n_frames_left})
    ended = False
    while not ended:
        expected, result = (env.step(4) for env in wrapped)
        assert_steps_equal(result, expected)
        ended = result[3]
    assert [counter.n_frames for counter in counters] == [20 + n_frames_left] * 2


def test_frames_that_nobody_sees_are_not_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    n_drawn = 0
    render = PixelRenderer.render

    def counting(renderer: PixelRenderer, game: Any) -> np.ndarray:
        nonlocal n_drawn
        n_drawn += 1
        return render(renderer, game)

    env = SlimeVolleyAtariWrapper(make("SlimeVolleyNoFrameskip-v0"), noop_max=0)
    env.reset(seed=0)
    monkeypatch.setattr(PixelRenderer, "render", counting)
    for _ in range(10):
        env.step(1)
    assert n_drawn == 20


def test_states_are_told_once_per_agent_step(monkeypatch: pytest.MonkeyPatch) -> None:
    base = make("SlimeVolleyNoFrameskip-v0")
    counter = Played(base)
    env = SkipUnseenFrames(counter)
    env.reset(seed=0)
    told = 0
    states = base.states

    def counting() -> dict[str, np.ndarray]:
        nonlocal told
        told += 1
        return dict(states())

    monkeypatch.setattr(base, "states", counting)
    for _ in range(10):
        info = env.step(1)[-1]
        assert set(info) == {"ale.lives", "ale.otherLives", "state", "otherState"}
    assert (told, counter.n_frames) == (10, 40)


@pytest.mark.parametrize("n_frames", range(1, 9))
def test_a_time_limit_beneath_ends_with_everything_that_sb3_tells(n_frames: int) -> None:
    envs = [TimeLimit(make("SlimeVolleyNoFrameskip-v0"), n_frames) for _ in range(2)]
    theirs, ours = MaxAndSkipEnv(Monitor(envs[0])), SkipUnseenFrames(Monitor(envs[1]))
    assert_steps_equal(ours.reset(seed=0), theirs.reset(seed=0))
    truncated = False
    while not truncated:
        result, expected = ours.step(4), theirs.step(4)
        truncated = result[3]
        if truncated:  # what Monitor measured with its clock differs
            del result[4]["episode"]["t"], expected[4]["episode"]["t"]
        assert_steps_equal(result, expected)


def test_monitor_reads_lives_and_states_where_a_match_ends() -> None:
    base = make("SlimeVolleyNoFrameskip-v0")
    env = SkipUnseenFrames(Monitor(base, info_keywords=("ale.lives", "state")))
    env.reset(seed=0)
    base.set_state({**base.get_state(), "t": 3000 - 2})
    *_, truncated, info = env.step(0)
    assert truncated
    assert info["episode"]["ale.lives"] == 5
    np.testing.assert_array_equal(info["episode"]["state"], info["state"])


def test_observations_may_be_written_to() -> None:
    env, twin = (SkipUnseenFrames(make("SlimeVolleyNoFrameskip-v0")) for _ in range(2))
    env.reset(seed=0)
    twin.reset(seed=0)
    for _ in range(5):
        observation, expected = env.step(2)[0], twin.step(2)[0]
        np.testing.assert_array_equal(observation, expected)
        observation[:] = 255


def test_every_pair_of_neighbours_is_halved_as_opencv_does() -> None:
    one, other = np.divmod(np.arange(65536), 256)
    grey = np.stack([one, other], axis=1).astype(np.uint8).reshape(256, 512)
    expected = cv2.resize(grey, (256, 256), interpolation=cv2.INTER_AREA)
    result = halved(grey)
    np.testing.assert_array_equal(result, expected)
    assert result.dtype == np.uint8 and result.shape == (256, 256)
    np.testing.assert_array_equal(result, np.round((one + other) / 2).reshape(256, 256))


def test_pictures_are_warped_as_sb3_warps_them() -> None:
    env = make("SlimeVolleyNoFrameskip-v0")
    ours, theirs = HalveFrame(env), WarpFrame(env)
    assert ours.observation_space == theirs.observation_space
    rng = np.random.default_rng(0)
    for _ in range(50):
        picture = rng.integers(256, size=(84, 168, 3), dtype=np.uint8)
        before = picture.copy()
        result, expected = ours.observation(picture), theirs.observation(picture)
        np.testing.assert_array_equal(result, expected)
        assert result.flags.c_contiguous and result.dtype == expected.dtype
        np.testing.assert_array_equal(picture, before)


@pytest.mark.parametrize("env_id", ["SlimeVolley-v0", "CartPole-v1"])
def test_pictures_of_another_shape_are_not_halved(env_id: str) -> None:
    with pytest.raises(ValueError, match=r"env must observe pictures of \(84, 168, 3\) uint8, got Box"):
        HalveFrame(gym.make(env_id))


def test_gymnasiums_checker_finds_nothing_wrong_with_frames_that_are_not_drawn() -> None:
    checked = gym.make("SlimeVolleyNoFrameskip-v0", disable_env_checker=False)
    env = SlimeVolleyAtariWrapper(checked, noop_max=0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        env.reset(seed=0)
        env.step(1)


def test_a_step_that_fails_leaves_drawing_on() -> None:
    base = make("SlimeVolleyNoFrameskip-v0")
    env = SkipUnseenFrames(base)
    env.reset(seed=0)
    with pytest.raises(ValueError, match="action must be"):
        env.step(17)
    assert base.draws_observations and base.tells_states


def test_it_works_with_what_gymnasium_and_sb3_put_beneath() -> None:
    vec_env = make_vec_env("SlimeVolleyNoFrameskip-v0", n_envs=2, seed=0, wrapper_class=SlimeVolleyAtariWrapper)
    first = vec_env.reset()
    assert isinstance(first, np.ndarray) and first.shape == (2, 84, 84, 1)
    vec_env.step(np.array([1, 2]))
    env = SlimeVolleyAtariWrapper(RecordEpisodeStatistics(Monitor(gym.make("SlimeVolleyNoFrameskip-v0"))))
    assert env.reset(seed=0)[0].any()


def test_it_works_on_discrete_actions_over_buttons() -> None:
    over_buttons = SlimeVolleyAtariWrapper(DiscreteActions(make("SlimeVolleyPixel-v0")))
    discrete = SlimeVolleyAtariWrapper(make("SlimeVolleyNoFrameskip-v0"))
    assert_steps_equal(over_buttons.reset(seed=0), discrete.reset(seed=0))
    for action in range(6):
        assert_steps_equal(over_buttons.step(action), discrete.step(action))


BAD_ENVS = {
    "state observations": lambda: gym.make("SlimeVolley-v0"),
    "another game": lambda: gym.make("CartPole-v1"),
    "changed observations": lambda: GrayscaleObservation(gym.make("SlimeVolleyNoFrameskip-v0")),
}


@pytest.mark.parametrize("make_env", BAD_ENVS.values(), ids=BAD_ENVS.keys())
def test_an_env_that_it_cannot_speed_up_is_refused(make_env: Any) -> None:
    with pytest.raises(ValueError, match=r"env must be a SlimeVolley|must come after"):
        SkipUnseenFrames(make_env())


BAD_ARGUMENTS = {
    "noop_max must be 0 or more, got -1": {"noop_max": -1},
    "frame_skip must be 1 or more, got 0": {"frame_skip": 0},
    "screen_size must be 1 or more, got 0": {"screen_size": 0},
    "action_repeat_probability must be from 0.0 to 1.0, got 1.5": {"action_repeat_probability": 1.5},
}


@pytest.mark.parametrize(("message", "kwargs"), BAD_ARGUMENTS.items())
def test_bad_arguments_are_named(message: str, kwargs: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=message):
        SlimeVolleyAtariWrapper(make("SlimeVolleyNoFrameskip-v0"), **kwargs)


def test_a_skip_below_two_is_refused() -> None:
    with pytest.raises(ValueError, match="skip must be 2 or more, got 1"):
        SkipUnseenFrames(make("SlimeVolleyNoFrameskip-v0"), skip=1)


@pytest.mark.parametrize("env_id", ["SlimeVolley-v0", "SlimeVolleyPixel-v0"])
def test_discrete_actions_press_the_tables_buttons(env_id: str) -> None:
    env, twin = DiscreteActions(gym.make(env_id)), make(env_id)
    assert env.action_space == gym.spaces.Discrete(6)
    env.reset(seed=0)
    twin.reset(seed=0)
    for action in range(6):
        assert_steps_equal(env.step(np.int64(action)), twin.step(TABLE[action]))


def test_discrete_actions_refuse_other_envs_and_actions() -> None:
    with pytest.raises(ValueError, match=r"env must act with MultiBinary\(3\), got Discrete\(6\)"):
        DiscreteActions(gym.make("SlimeVolleyNoFrameskip-v0"))
    env = DiscreteActions(gym.make("SlimeVolley-v0"))
    env.reset(seed=0)
    with pytest.raises(ValueError, match="action must be a whole number from 0 to 5, got 6"):
        env.step(6)  # type: ignore[arg-type]


def test_discrete_actions_can_be_made_again_from_their_spec() -> None:
    spec = DiscreteActions(gym.make("SlimeVolley-v0")).spec
    assert spec is not None
    assert gym.make(spec).action_space == gym.spaces.Discrete(6)
