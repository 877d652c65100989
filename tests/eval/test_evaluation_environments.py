"""Environments of an evaluation: read from what an agent was trained with, and played under any condition."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from evaluation_world import ATARI, CARTPOLE, SLIME_NUMBERS, SLIME_PIXELS
from gymnasium import spaces
from stable_baselines3.common.atari_wrappers import AtariWrapper
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv, VecFrameStack, VecNormalize

from eval.conditions import Condition
from eval.evaluation.environments import EnvSpec, check_conditions, condition_from_config, make_env, spec_from_config
from eval.evaluation.games import FINISHED, Row

FLICKER = {"drqn_sb3.wrappers.FlickerObservation": {"observe_prob": 0.25}}
SKIP = {"rl_zoo3.wrappers.FrameSkip": {"skip": 2}}

# config -> env_wrapper, frame_stack, env_kwargs, condition
CONFIGS: dict[str, tuple[dict[str, Any], list[Any], int, dict[str, Any], str]] = {
    "nothing": ({}, [], 1, {}, "normal"),
    "empty": ({"env_wrapper": None, "frame_stack": None, "env_kwargs": None, "vec_env_wrapper": []}, [], 1, {}, "normal"),
    "a name": ({"env_wrapper": ATARI}, [ATARI], 1, {}, "normal"),
    "a dict": ({"env_wrapper": SKIP, "frame_stack": 4}, [SKIP], 4, {}, "normal"),
    "a condition behind": ({"env_wrapper": [ATARI, FLICKER]}, [ATARI], 1, {}, "flicker-0.25"),
    "a condition by another name, with defaults": (
        {"env_wrapper": ["drqn_sb3.FlickerObservation", "drqn_sb3.wrappers.FrozenObservation", "drqn_sb3.NoisyObservation"]},
        *([], 1, {}, "noise-0.1+freeze-0.5+flicker-0.5"),
    ),
    "no arguments": ({"env_wrapper": [{"drqn_sb3.wrappers.HideVelocity": None}, SKIP]}, [SKIP], 1, {}, "hide_velocity"),
    "numbers hidden by choice belong to the task": (
        {"env_wrapper": [{"drqn_sb3.wrappers.HideVelocity": {"indices": [0]}}], "env_kwargs": {"a": 1}},
        *([{"drqn_sb3.wrappers.HideVelocity": {"indices": [0]}}], 1, {"a": 1}, "normal"),
    ),
    "native games": (
        {"vec_env_wrapper": ["drqn_sb3.envs.native_atari"], "env_wrapper": None},
        *([{ATARI: {}}], 1, {}, "normal"),
    ),
    "native games, arguments": (
        {"vec_env_wrapper": [{"drqn_sb3.envs.native_atari": {"noop_max": 0, "num_threads": 2}}]},
        *([{ATARI: {"noop_max": 0}}], 1, {}, "normal"),
    ),
}


@pytest.mark.parametrize(("config", "env_wrapper", "frame_stack", "env_kwargs", "condition"), CONFIGS.values(), ids=CONFIGS)
def test_task_and_condition_are_told_apart(
    config: dict[str, Any], env_wrapper: list[Any], frame_stack: int, env_kwargs: dict[str, Any], condition: str
) -> None:
    before = str(config)
    assert spec_from_config("X-v0", config, None) == EnvSpec("X-v0", env_kwargs, env_wrapper, frame_stack, None)
    assert str(condition_from_config(config)) == condition
    assert str(config) == before


BAD: dict[str, tuple[dict[str, Any], str]] = {
    "unknown vec_env_wrapper": ({"vec_env_wrapper": "a.VecThing"}, "vec_env_wrapper must be native_atari.*got a.VecThing"),
    "native games in wrappers": (
        {"vec_env_wrapper": "drqn_sb3.envs.native_atari", "env_wrapper": [ATARI]},
        "vec_env_wrapper must be native_atari, without any env_wrapper",
    ),
    "no wrapper": ({"env_wrapper": [3]}, "a wrapper must be a dotted name.*got 3"),
    "two in one": ({"env_wrapper": [{"a.B": {}, "c.D": {}}]}, "a wrapper must be a dotted name"),
    "arguments of no kind": ({"env_wrapper": [{"a.B": 3}]}, "a wrapper must be a dotted name"),
    "stack of nothing": ({"frame_stack": -1}, "frame_stack must be a whole number above 0, got -1"),
    "stack of a text": ({"frame_stack": "4"}, "frame_stack must be a whole number above 0, got '4'"),
    "env_kwargs of a text": ({"env_kwargs": "dict(a=1)"}, "env_kwargs must be a dict"),
}


@pytest.mark.parametrize(("config", "words"), BAD.values(), ids=BAD.keys())
def test_what_cannot_be_made_is_named(config: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        spec_from_config("X-v0", config, None)


def test_held_actions_are_told_from_the_tasks_frame_skip_by_the_condition() -> None:
    condition = Condition.parse("repeat-2+flicker-0.25")
    trained = {"env_wrapper": [SKIP, *condition.env_wrappers()]}
    assert spec_from_config("X-v0", trained, None, condition).env_wrapper == [SKIP]
    assert spec_from_config("X-v0", trained, None).env_wrapper == [SKIP, SKIP]
    assert spec_from_config("X-v0", trained, None, Condition.parse("flicker-0.25")).env_wrapper == [SKIP, SKIP]
    for wrappers in ([], [ATARI], [SKIP]):
        with pytest.raises(ValueError, match="env_wrapper must end in the FrameSkip of repeat-3"):
            spec_from_config("X-v0", {"env_wrapper": wrappers}, None, Condition.parse("repeat-3"))


def test_what_an_agent_knows_by_itself_is_shown_in_the_dark() -> None:
    own = "drqn_sb3.last_action.LastAction"
    condition = Condition.parse("repeat-2+flicker-0")
    trained = {"env_wrapper": condition.around([SKIP, own])}
    spec = spec_from_config("CartPole-v1", trained, None, condition)
    assert spec.env_wrapper == [SKIP, own]
    env = make_env(spec, condition, 0, 1, 1)
    env.reset()
    obs = env.step(np.array([1]))[0]
    env.close()
    assert isinstance(obs, dict)
    assert not obs["observation"].any() and obs["last_action"].tolist() == [[0, 1]]


def test_what_an_agent_knows_by_itself_is_shown_in_the_dark_when_flattened() -> None:
    own = ["drqn_sb3.last_action.LastAction", "gymnasium.wrappers.FlattenObservation"]
    condition = Condition.parse("flicker-0")
    spec = spec_from_config("CartPole-v1", {"env_wrapper": condition.around(own)}, None, condition)
    assert spec.env_wrapper == own
    env = make_env(spec, condition, 0, 1, 1)
    env.reset()
    obs = env.step(np.array([1]))[0]
    env.close()
    assert isinstance(obs, np.ndarray)
    assert sorted(obs[0].tolist()) == [0, 0, 0, 0, 0, 1]


def test_what_hides_an_agents_own_actions_is_refused() -> None:
    wrappers = [SKIP, "drqn_sb3.last_action.LastAction", FLICKER]
    with pytest.raises(ValueError, match="LastAction outside of what hides observations, got FlickerObservation behind it"):
        spec_from_config("CartPole-v1", {"env_wrapper": wrappers}, None)


def test_two_wrappers_of_one_kind_are_no_condition() -> None:
    with pytest.raises(ValueError, match="twice"):
        condition_from_config({"env_wrapper": [FLICKER, FLICKER]})


def play(env: VecEnv, n_steps: int) -> tuple[list[Any], list[Row], list[np.ndarray]]:
    """What the same actions lead to: rewards and ends, games, observations."""
    actions = np.random.default_rng(0).integers(env.action_space.n, size=(n_steps, env.num_envs))  # type: ignore[attr-defined]
    seen: list[np.ndarray] = [np.array(env.reset())]
    outcomes, rows = [], []
    for chosen in actions:
        obs, rewards, dones, infos = env.step(chosen)
        outcomes.append((rewards.tolist(), dones.tolist()))
        rows += [row for info in infos for row in info.get(FINISHED, ())]
        seen.append(np.array(obs))
    env.close()
    return outcomes, rows, seen


PONG = EnvSpec("PongNoFrameskip-v4", {}, [ATARI])
CONDITIONS = ["flicker-0.75", "flicker-0.5", "flicker-0", "noise-0.2", "freeze-0.5", "noise-0.1+freeze-0.5+flicker-0.5"]
DYNAMICS = {
    "SlimeVolley pixels": (SLIME_PIXELS, 150, CONDITIONS),
    "SlimeVolley numbers": (SLIME_NUMBERS, 200, [*CONDITIONS, "hide_velocity", "hide_velocity+flicker-0.3"]),
    "Pong": (PONG, 70, ["flicker-0.5", "noise-0.1+freeze-0.5"]),
    "CartPole": (CARTPOLE, 150, [*CONDITIONS, "hide_velocity"]),
}


@pytest.mark.parametrize(("spec", "n_steps", "conditions"), DYNAMICS.values(), ids=DYNAMICS.keys())
def test_the_same_actions_give_the_same_rewards_whatever_is_seen(spec: EnvSpec, n_steps: int, conditions: list[str]) -> None:
    outcomes, rows, seen = play(make_env(spec, Condition(), 77, 50, 2), n_steps)
    assert len({str(outcome) for outcome in outcomes}) > 1
    for text in conditions:
        less_outcomes, less_rows, less_seen = play(make_env(spec, Condition.parse(text), 77, 50, 2), n_steps)
        assert less_outcomes == outcomes
        assert less_rows == rows
        assert not np.array_equal(less_seen, seen)


def test_observations_are_stacked_behind_the_condition() -> None:
    env = make_env(SLIME_PIXELS._replace(frame_stack=3), Condition.parse("flicker-0.5"), 0, 2, 2)
    assert isinstance(env, VecFrameStack) and env.observation_space.shape == (84, 84, 3)
    _, _, seen = play(env, 30)
    shown = {tuple(obs.any(axis=(0, 1))) for step in seen[3:] for obs in step}
    assert len(shown) > 4  # each frame of a stack flickers by itself


def test_observations_are_normalised_with_the_statistics_of_training(tmp_path: Path) -> None:
    trained = VecNormalize(make_env(CARTPOLE, Condition(), 0, 9, 1))
    play(trained, 50)
    trained.save(str(tmp_path / "vecnormalize.pkl"))
    spec = CARTPOLE._replace(vec_normalize=tmp_path / "vecnormalize.pkl", frame_stack=2)
    bare, env = make_env(CARTPOLE, Condition(), 5, 9, 1), make_env(spec, Condition(), 5, 9, 1)
    (_, rows, seen), (_, normalised_rows, normalised) = play(bare, 60), play(env, 60)
    assert normalised_rows == rows  # scores are not
    expected = np.asarray(trained.normalize_obs(np.array(seen)[:, 0]))
    np.testing.assert_allclose(np.array(normalised)[:, 0, 4:], expected, rtol=1e-6)
    with pytest.raises(ValueError, match=r"vec_normalize must be a file of running statistics, got .*none\.pkl"):
        make_env(CARTPOLE._replace(vec_normalize=tmp_path / "none.pkl"), Condition(), 5, 9, 1)


def test_native_games_are_played_in_the_stock_wrapper_with_the_same_arguments() -> None:
    config = {"vec_env_wrapper": {"drqn_sb3.envs.native_atari": {"screen_size": 42, "clip_reward": False}}}
    env = make_env(spec_from_config("PongNoFrameskip-v4", config, None), Condition(), 0, 1, 1)
    assert isinstance(env, DummyVecEnv) and env.env_is_wrapped(AtariWrapper) == [True]
    assert env.observation_space == spaces.Box(0, 255, (42, 42, 1), np.uint8)
    env.close()


def test_there_are_no_more_environments_than_games() -> None:
    assert make_env(CARTPOLE, Condition(), 0, 3, 8).num_envs == 3


def test_a_condition_that_does_not_suit_an_environment_is_named() -> None:
    with pytest.raises(ValueError, match="indices must be given for SlimeVolleyNoFrameskip-v0"):
        make_env(SLIME_PIXELS, Condition.parse("hide_velocity"), 0, 1, 1)


def needs_more(env: Any, colour: str) -> Any:
    return env


UNPLAYABLE: dict[str, tuple[EnvSpec, str, str]] = {
    "a condition that does not suit it": (SLIME_PIXELS, "hide_velocity", "under hide_velocity: indices must be given"),
    "a wrapper that is nowhere": (EnvSpec("CartPole-v1", {}, ["nowhere.Wrapper"]), "normal", "under normal: a wrapper of"),
    "a wrapper without a module": (EnvSpec("CartPole-v1", {}, ["Wrapper"]), "normal", "can't be played under normal"),
    "a wrapper that wants more": (
        EnvSpec("CartPole-v1", {}, ["test_evaluation_environments.needs_more"]),
        *("flicker-0.5", "CartPole-v1 can't be played under flicker-0.5: TypeError.*colour"),
    ),
    "an argument too many": (
        EnvSpec("CartPole-v1", {}, [{"rl_zoo3.wrappers.FrameSkip": {"skips": 2}}]),
        *("normal", "CartPole-v1 can't be played under normal: TypeError.*skips"),
    ),
    "no environment": (EnvSpec("Nope-v0", {}, []), "normal", "Nope-v0 can't be played under normal: .*Nope-v0 can't be made"),
}


@pytest.mark.parametrize(("spec", "condition", "words"), UNPLAYABLE.values(), ids=UNPLAYABLE.keys())
def test_what_cannot_be_played_is_found_without_an_agent(spec: EnvSpec, condition: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        check_conditions(spec, [Condition.parse(condition)])


def test_every_condition_is_tried_and_every_environment_closed() -> None:
    tried: list[VecEnv] = []
    conditions = [Condition(), Condition.parse("flicker-0.5"), Condition.parse("hide_velocity")]
    check_conditions(CARTPOLE, conditions, tried.append)
    assert len(tried) == 3
    with pytest.raises(ValueError, match="under hide_velocity"):
        check_conditions(SLIME_PIXELS, conditions)
    closed: list[int] = []

    def refuse(env: VecEnv) -> None:
        env.close = lambda: closed.append(1)  # type: ignore[method-assign]
        raise ValueError("does not fit")

    with pytest.raises(ValueError, match="does not fit"):
        check_conditions(CARTPOLE, conditions, refuse)
    assert closed == [1]
