import copy
import pickle
import warnings
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.error import ResetNeeded
from gymnasium.utils.env_checker import check_env as gymnasium_check_env
from stable_baselines3.common.atari_wrappers import AtariWrapper
from stable_baselines3.common.env_checker import check_env as sb3_check_env
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import SubprocVecEnv

from drqn_sb3.envs import SlimeVolleyEnv
from drqn_sb3.envs.slimevolley import ACTION_TABLE, T_LIMIT

from .matches import IDS, ORIGINALS, PIXEL_IDS, TABLE, actions, make, opponent_actions, original

FRAMES_PER_SEED = 500


def original_reset(env: Any) -> np.ndarray:
    """Reset the original, its opponent's memory included."""
    env.policy.reset()
    return np.asarray(env.reset())


SWEPT = [
    # What the zoo trains on in every run; the others are drawn by the same code
    env_id if env_id in ("SlimeVolley-v0", "SlimeVolleyNoFrameskip-v0") else pytest.param(env_id, marks=pytest.mark.slow)
    for env_id in IDS
]


@pytest.mark.usefixtures("original_globals")
@pytest.mark.parametrize("env_id", SWEPT)
def test_ten_thousand_frames_over_twenty_seeds_equal_the_originals(env_id: str) -> None:
    theirs, ours = ORIGINALS[env_id](), make(env_id)
    n_points = n_ends = 0
    for seed in range(20):
        theirs.seed(seed)
        expected, (observation, _) = original_reset(theirs), ours.reset(seed=seed)
        playing = actions(ours, seed)
        for t in range(FRAMES_PER_SEED):
            where = f"seed {seed}, frame {t}"
            assert np.array_equal(observation, expected.astype(observation.dtype)), where
            action = next(playing)
            expected, expected_reward, done, expected_info = theirs.step(action)
            observation, reward, terminated, truncated, info = ours.step(action)
            assert (reward, terminated or truncated) == (expected_reward, done), where
            for name, value in info.items():
                assert np.array_equal(value, expected_info[name]), f"{name}, {where}"
            n_points += abs(round(reward))
            if done:
                n_ends += 1
                expected, (observation, _) = original_reset(theirs), ours.reset()
    assert n_points >= 30 and n_ends >= 2, "the matches are to be worth comparing"


@pytest.mark.usefixtures("original_globals")
@pytest.mark.parametrize("env_id", PIXEL_IDS)
def test_pictures_for_people_equal_the_originals(env_id: str) -> None:
    env = make(env_id, render_mode="rgb_array")
    observation, _ = env.reset(seed=0)
    original.setPixelObsMode()
    np.testing.assert_array_equal(env.render(), original.upsize_image(observation))


def test_the_state_env_shows_its_window() -> None:
    env = make("SlimeVolley-v0", render_mode="rgb_array")
    env.reset(seed=0)
    first = env.render()
    assert (first.shape, first.dtype) == ((500, 1200, 3), np.uint8)
    env.step([1, 0, 1])
    assert not np.array_equal(env.render(), first)


def test_without_a_render_mode_there_is_no_picture() -> None:
    env = make("SlimeVolley-v0")
    env.reset(seed=0)
    assert env.render() is None


def rollout(env: Any, seed: int, n_steps: int = 300) -> list[Any]:
    """Everything that a match with given actions returns."""
    playing = actions(env, seed=1)
    seen: list[Any] = [env.reset(seed=seed)]
    for _ in range(n_steps):
        seen.append(env.step(next(playing)))
        if seen[-1][2] or seen[-1][3]:
            seen.append(env.reset())
    return seen


def assert_same(one: Any, other: Any) -> None:
    """Compare nested tuples, lists and dicts of arrays and numbers."""
    if isinstance(one, dict):
        assert one.keys() == other.keys()
        one, other = list(one.values()), list(other.values())
    if isinstance(one, list | tuple):
        assert len(one) == len(other)
        for a, b in zip(one, other, strict=True):
            assert_same(a, b)
    else:
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("env_id", IDS)
def test_the_seed_determines_the_match_whatever_was_played_before(env_id: str) -> None:
    fresh, used = make(env_id), make(env_id)
    rollout(used, seed=7)
    assert_same(rollout(fresh, seed=3), rollout(used, seed=3))


def test_matches_with_other_seeds_and_the_next_match_differ() -> None:
    env = make("SlimeVolley-v0")
    balls = [env.reset(seed=seed)[0][6:8].tolist() for seed in range(5)] + [env.reset()[0][6:8].tolist()]
    assert len({tuple(ball) for ball in balls}) == 6


def test_without_a_seed_the_first_match_is_a_surprise() -> None:
    balls = {tuple(make("SlimeVolley-v0").reset()[0][6:8].tolist()) for _ in range(3)}
    assert len(balls) == 3


def test_numpys_global_generator_is_left_alone() -> None:
    before = np.random.get_state()[1].copy()  # type: ignore[index]
    rollout(make("SlimeVolley-v0"), seed=0)
    np.testing.assert_array_equal(np.random.get_state()[1], before)  # type: ignore[index]


@pytest.mark.usefixtures("original_globals")
def test_envs_in_one_process_do_not_touch_each_other() -> None:
    alone = {env_id: rollout(make(env_id), seed=5, n_steps=80) for env_id in IDS}
    envs = {env_id: make(env_id) for env_id in IDS}
    theirs = [original_env() for original_env in ORIGINALS.values()]
    playing = {env_id: actions(env, seed=1) for env_id, env in envs.items()}
    together: dict[str, list[Any]] = {env_id: [env.reset(seed=5)] for env_id, env in envs.items()}
    for _ in range(80):
        for env_id, env in envs.items():
            together[env_id].append(env.step(next(playing[env_id])))
        for other in theirs:
            other.step(0 if other.atari_mode else [0, 1, 0])
    assert_same(together, alone)


def test_a_lost_match_is_terminated() -> None:
    env = make("SlimeVolley-v0")
    env.reset(seed=0)
    total, steps, terminated, truncated = 0.0, 0, False, False
    while not (terminated or truncated):
        _, reward, terminated, truncated, info = env.step([0, 0, 0])
        total, steps = total + reward, steps + 1
    assert (terminated, truncated, info["ale.lives"]) == (True, False, 0)
    assert steps < T_LIMIT
    assert total == -5 + 5 - info["ale.otherLives"]


def long_match() -> Any:
    """A match between equals, one step before the time is up and undecided."""
    env = make("SlimeVolley-v0")
    env.reset(seed=0)
    playing = opponent_actions(env)
    for _ in range(T_LIMIT - 1):
        *_, terminated, truncated, _ = env.step(next(playing))
        assert not terminated and not truncated
    return env


def test_the_time_limit_is_truncated() -> None:
    env = long_match()
    *_, terminated, truncated, info = env.step([0, 0, 0])
    assert (terminated, truncated) == (False, True)
    assert min(info["ale.lives"], info["ale.otherLives"]) > 0


def test_a_match_decided_in_its_very_last_step_is_terminated_only() -> None:
    env = make("SlimeVolley-v0")
    env.reset(seed=0)
    terminated = False
    while not terminated:
        state = env.get_state()
        *_, terminated, _, _ = env.step([0, 0, 0])
    env.set_state({**state, "t": T_LIMIT - 1})
    assert env.step([0, 0, 0])[2:4] == (True, False)


def test_the_survival_bonus_is_a_hundredth_per_step() -> None:
    plain, bonus = make("SlimeVolleyNoFrameskip-v0"), make("SlimeVolleySurvivalNoFrameskip-v0")
    plain.reset(seed=0)
    bonus.reset(seed=0)
    for _ in range(150):
        assert bonus.step(0)[1] == plain.step(0)[1] + 0.01


def test_action_meanings_are_in_the_tables_order() -> None:
    assert ACTION_TABLE.tolist() == TABLE
    pressed: dict[tuple[int, ...], str] = {(0, 0, 0): "NOOP", (1, 0, 0): "LEFT", (1, 0, 1): "UPLEFT"}
    pressed |= {(0, 0, 1): "UP", (0, 1, 1): "UPRIGHT", (0, 1, 0): "RIGHT"}
    for env_id in IDS:
        assert make(env_id).get_action_meanings() == [pressed[tuple(row)] for row in TABLE]


@pytest.mark.parametrize("action", range(6))
def test_a_discrete_action_presses_its_buttons(action: int) -> None:
    discrete, binary = make("SlimeVolleyNoFrameskip-v0"), make("SlimeVolleyPixel-v0")
    discrete.reset(seed=0)
    binary.reset(seed=0)
    for _ in range(3):
        assert_same(discrete.step(action), binary.step(TABLE[action]))


def test_lives_are_those_of_the_present_match() -> None:
    env = make("SlimeVolley-v0")
    assert env.ale.lives() == 5
    env.reset(seed=0)
    reward = 0.0
    while reward >= 0:
        _, reward, _, _, info = env.step([0, 0, 0])
    assert env.ale.lives() == info["ale.lives"] == 4
    _, info = env.reset()
    assert env.ale.lives() == info["ale.lives"] == 5


@pytest.mark.parametrize("env_id", ["SlimeVolleyNoFrameskip-v0", "SlimeVolleySurvivalNoFrameskip-v0"])
def test_sb3s_atari_wrapper_works(env_id: str) -> None:
    env = AtariWrapper(gym.make(env_id))
    observation, _ = env.reset(seed=0)
    assert observation.shape == (84, 84, 1)
    n_lost = 0
    for _ in range(150):
        _, reward, terminated, _, _ = env.step(0)
        assert reward in (-1.0, 0.0, 1.0)
        if terminated:
            n_lost += 1
            env.reset()
    assert n_lost >= 2, "each lost life ends an episode"


@pytest.mark.parametrize("env_id", ["SlimeVolley-v0", "SlimeVolleyNoFrameskip-v0"])
def test_a_state_put_back_continues_the_same_match(env_id: str) -> None:
    env, other = make(env_id), make(env_id)
    env.reset(seed=0)
    playing = actions(env, seed=1)
    for _ in range(100):
        env.step(next(playing))
    state = pickle.loads(pickle.dumps(env.get_state()))
    later = [next(playing) for _ in range(150)]
    expected = [env.step(action) for action in later]
    other.reset(seed=1)
    for receiver in (other, env, other):
        receiver.set_state(state)
        assert_same([receiver.step(action) for action in later], expected)
    assert_same(other.reset(), env.reset())


def test_a_state_consists_of_numbers_strings_tuples_and_arrays() -> None:
    env = make("SlimeVolleyNoFrameskip-v0")
    env.reset(seed=0)
    env.step(2)

    def assert_plain(value: Any) -> None:
        assert type(value) in (dict, tuple, bool, int, float, str, np.ndarray)
        if isinstance(value, dict | tuple):
            for part in value.values() if isinstance(value, dict) else value:
                assert_plain(part)
        elif isinstance(value, np.ndarray):
            assert value.dtype == np.float64

    assert_plain(env.get_state())


def test_a_state_is_a_copy() -> None:
    env = make("SlimeVolley-v0")
    env.reset(seed=0)
    state = env.get_state()
    before = copy.deepcopy(state)
    for _ in range(100):
        env.step([1, 0, 1])
    assert_same(state, before)
    env.set_state(state)
    env.step([1, 0, 1])
    assert_same(state, before)


def test_the_games_objects_stay_the_same_ones() -> None:
    env, other = make("SlimeVolley-v0"), make("SlimeVolley-v0")
    env.reset(seed=0)
    other.reset(seed=1)
    kept = (env.game, env.game.ball, env.game.agent_right, env.game.agent_right.state, env.np_random)
    env.set_state(other.get_state())
    assert kept == (env.game, env.game.ball, env.game.agent_right, env.game.agent_right.state, env.np_random)
    assert env.game.np_random is env.np_random


@pytest.mark.parametrize("n_steps", [1, 33, 250])
def test_pictures_are_exact_whatever_was_drawn_before(n_steps: int) -> None:
    env, other = make("SlimeVolleyNoFrameskip-v0"), make("SlimeVolleyNoFrameskip-v0", render_mode="rgb_array")
    env.reset(seed=2)
    playing = actions(env, seed=2)
    for _ in range(n_steps):
        observation, *_ = env.step(next(playing))
    state = env.get_state()
    rollout(other, seed=5, n_steps=60)
    other.render()
    other.set_state(state)
    np.testing.assert_array_equal(other.render()[::4, ::4], observation)


def test_a_copied_env_continues_the_same_match() -> None:
    env = make("SlimeVolleyNoFrameskip-v0")
    env.reset(seed=0)
    for _ in range(40):
        env.step(4)
    twin = pickle.loads(pickle.dumps(copy.deepcopy(env)))
    assert_same([twin.step(4) for _ in range(100)], [env.step(4) for _ in range(100)])


def test_observations_are_blank_but_the_match_goes_on_while_nothing_is_drawn() -> None:
    env, twin = make("SlimeVolleyNoFrameskip-v0", render_mode="rgb_array"), make("SlimeVolleyNoFrameskip-v0")
    env.reset(seed=0)
    twin.reset(seed=0)
    env.draws_observations = False
    observation, *rest = env.step(1)
    expected, *expected_rest = twin.step(1)
    assert not observation.any()
    assert_same(rest, expected_rest)
    np.testing.assert_array_equal(env.render()[::4, ::4], expected)
    env.draws_observations = True
    assert_same(env.step(1), twin.step(1))


@pytest.mark.parametrize("env_id", IDS)
def test_states_are_told_in_the_last_step_and_when_asked_for(env_id: str) -> None:
    env, twin = make(env_id), make(env_id)
    assert_same(env.reset(seed=0), twin.reset(seed=0))
    env.tells_states = False
    stay = 0 if env.discrete_actions else [0, 0, 0]
    ended = False
    while not ended:
        *result, info = env.step(stay)
        *expected, expected_info = twin.step(stay)
        assert_same(result, expected)
        ended = result[2]
        assert set(info) == (set(expected_info) if ended else {"ale.lives", "ale.otherLives"})
        assert_same(info | env.states(), expected_info)
    assert_same(env.reset(), twin.reset())


@pytest.mark.parametrize("env_id", IDS)
def test_both_checkers_are_content(env_id: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        gymnasium_check_env(gym.make(env_id).unwrapped)
        sb3_check_env(gym.make(env_id, render_mode="rgb_array").unwrapped)


def test_envs_in_other_processes_play_the_same_matches() -> None:
    # the module in front of the id is imported, so that a fresh process knows the id
    env_id = "drqn_sb3:SlimeVolleyNoFrameskip-v0"
    vec_env = make_vec_env(env_id, n_envs=2, seed=11, vec_env_cls=SubprocVecEnv)
    twins = [make(env_id), make(env_id)]
    expected = [twin.reset(seed=11 + i)[0] for i, twin in enumerate(twins)]
    np.testing.assert_array_equal(vec_env.reset(), np.array(expected))
    for action in (1, 4, 2, 5):
        observations, rewards, _, _ = vec_env.step(np.array([action, 3]))
        results = [twin.step(a) for twin, a in zip(twins, (action, 3), strict=True)]
        np.testing.assert_array_equal(np.array(observations), np.array([result[0] for result in results]))
        np.testing.assert_array_equal(rewards, [result[1] for result in results])
    vec_env.close()


@pytest.mark.parametrize("render_mode", ["ansi", "state", ""])
def test_a_bad_render_mode_is_named(render_mode: str) -> None:
    with pytest.raises(ValueError, match=f'must be None, "rgb_array" or "human", got {render_mode!r}'):
        SlimeVolleyEnv(render_mode=render_mode)


BAD_DISCRETE = [-1, 6, 1.5, None, "1", [0, 0, 0], np.array([1, 2])]
BAD_BINARY = [0, None, [0, 0], [0, 0, 0, 0], [0, 0, 2], [0.5, 0, 0], "010", np.zeros((3, 2))]


@pytest.mark.parametrize("action", BAD_DISCRETE, ids=str)
def test_a_bad_discrete_action_is_named(action: Any) -> None:
    env = make("SlimeVolleyNoFrameskip-v0")
    env.reset(seed=0)
    with pytest.raises(ValueError, match="action must be a whole number from 0 to 5, got "):
        env.step(action)


@pytest.mark.parametrize("action", BAD_BINARY, ids=str)
def test_a_bad_binary_action_is_named(action: Any) -> None:
    env = make("SlimeVolley-v0")
    env.reset(seed=0)
    with pytest.raises(ValueError, match="action must be three numbers that are 0 or 1, got "):
        env.step(action)


@pytest.mark.parametrize("action", [3, np.int64(3), np.array(3), np.uint8(3)], ids=repr)
def test_whole_numbers_of_all_kinds_are_actions(action: Any) -> None:
    env = make("SlimeVolleyNoFrameskip-v0")
    env.reset(seed=0)
    env.step(action)


def test_stepping_before_the_first_reset_is_an_error() -> None:
    with pytest.raises(ResetNeeded):
        make("SlimeVolley-v0").step([0, 0, 0])


@pytest.mark.parametrize("state", [None, {}, {"t": 0}], ids=str)
def test_a_state_from_elsewhere_is_refused(state: Any) -> None:
    with pytest.raises(ValueError, match="state must be what get_state"):
        make("SlimeVolley-v0").set_state(state)


@pytest.mark.parametrize("change", [{"game": {"ball": 0}}, {"game": None}, {"opponent": {}}], ids=str)
def test_a_state_of_another_game_is_refused_and_the_match_goes_on(change: dict[str, Any]) -> None:
    env, twin = make("SlimeVolley-v0"), make("SlimeVolley-v0")
    assert_same(env.reset(seed=0), twin.reset(seed=0))
    env.step([1, 0, 1])
    twin.step([1, 0, 1])
    with pytest.raises(ValueError, match="got one of another game"):
        env.set_state({**env.get_state(), **change})
    assert_same([env.step([0, 1, 0]) for _ in range(60)], [twin.step([0, 1, 0]) for _ in range(60)])


@pytest.mark.parametrize("part", ["ball", "agent_left"])
def test_a_state_with_a_part_of_another_kind_is_refused(part: str) -> None:
    env = make("SlimeVolley-v0")
    env.reset(seed=0)
    for other in (1.0, {"x": 0.0}):
        state = env.get_state()
        state["game"][part] = other
        with pytest.raises(ValueError, match="got one of another game"):
            env.set_state(state)
