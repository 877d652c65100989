from collections.abc import Callable
from functools import partial
from typing import Any

import ale_py
import gymnasium as gym
import numpy as np
import pytest
from env_worlds import actions_of, assert_same, n_ends, play, through_a_file
from gymnasium import spaces
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rl_zoo3.wrappers import FrameSkip
from stable_baselines3.common.atari_wrappers import AtariWrapper
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import (
    DummyVecEnv,
    SubprocVecEnv,
    VecCheckNan,
    VecEnv,
    VecFrameStack,
    VecMonitor,
    VecNormalize,
    VecTransposeImage,
)

from drqn_sb3 import FlickerObservation
from drqn_sb3.checkpoints.env_state import EnvStateError, get_env_state, set_env_state
from drqn_sb3.checkpoints.resumable_env import ResumableEnv
from drqn_sb3.envs import AtariVecEnv, DiscreteActions, SlimeVolleyAtariWrapper, register_envs
from drqn_sb3.overlap import WorkWhileStepping

gym.register_envs(ale_py)
register_envs()

Maker = Callable[[int], VecEnv]


def of(env_id: str, wrapper: Callable[..., gym.Env] | None = None, vec: Any = DummyVecEnv, **kwargs: Any) -> Maker:
    return lambda seed: make_vec_env(env_id, 2, seed=seed, wrapper_class=wrapper, vec_env_cls=vec, env_kwargs=kwargs)


def slime_pixels(env: gym.Env, **kwargs: Any) -> gym.Env:
    return ResumableEnv(SlimeVolleyAtariWrapper(env, **kwargs))


def slime_numbers(env: gym.Env) -> gym.Env:
    return FrameSkip(DiscreteActions(env), skip=2)


def two_flickers(env: gym.Env) -> gym.Env:
    return ResumableEnv(FlickerObservation(FlickerObservation(env, 0.8)))


def dict_normalised(seed: int) -> VecEnv:
    def make() -> gym.Env:
        return gym.wrappers.RecordEpisodeStatistics(DictNumbers(gym.make("CartPole-v1")))

    env = DummyVecEnv([make, make])
    env.seed(seed)
    return VecMonitor(VecNormalize(env, gamma=0.9))


class DictNumbers(gym.ObservationWrapper):
    """Observations as a dict."""

    def __init__(self, env: gym.Env) -> None:
        super().__init__(env)
        box = spaces.Box(-np.inf, np.inf, (2,), np.float32)
        self.observation_space = spaces.Dict(x=box, angle=box)

    def observation(self, observation: Any) -> Any:
        return {"x": observation[:2], "angle": observation[2:]}


SHORT: dict[str, Any] = {"max_num_frames_per_episode": 200}
PONG = of("PongNoFrameskip-v4", AtariWrapper, **SHORT)
# how to make them, and how many steps are played before and after the capture
WORLDS: dict[str, tuple[Maker, int, int]] = {
    "SlimeVolley pixels": (of("SlimeVolleyNoFrameskip-v0", SlimeVolleyAtariWrapper), 130, 250),
    "SlimeVolley pixels, sticky": (
        of("SlimeVolleyNoFrameskip-v0", partial(SlimeVolleyAtariWrapper, action_repeat_probability=0.25)),
        60,
        200,
    ),
    "SlimeVolley pixels, processes": (of("drqn_sb3:SlimeVolleyNoFrameskip-v0", slime_pixels, SubprocVecEnv), 130, 250),
    "SlimeVolley numbers": (of("SlimeVolley-v0", slime_numbers), 150, 900),
    "Pong": (PONG, 130, 300),
    "Pong, sticky wrapper": (
        of("PongNoFrameskip-v4", partial(AtariWrapper, action_repeat_probability=0.25), **SHORT),
        130,
        200,
    ),
    "Pong, sticky emulator": (of("ALE/Pong-v5", **SHORT), 70, 200),
    "Pong, random frame skip": (of("ALE/Pong-v5", frameskip=(2, 5), **SHORT), 70, 200),
    "Pong, stacked": (lambda seed: VecTransposeImage(VecFrameStack(PONG(seed), 4)), 130, 150),
    "Breakout": (of("BreakoutNoFrameskip-v4", AtariWrapper), 130, 300),
    "CartPole": (of("CartPole-v1"), 50, 200),
    "CartPole, normalised": (lambda seed: VecCheckNan(VecNormalize(of("CartPole-v1")(seed))), 50, 200),
    "CartPole, normalised dict": (dict_normalised, 50, 200),
    "CartPole, flickering": (of("CartPole-v1", two_flickers), 50, 200),
    "CartPole, flickering, processes": (of("drqn_sb3:CartPole-v1", two_flickers, SubprocVecEnv), 50, 200),
    "Recall": (of("Recall-v0"), 50, 200),
    "FrozenLake": (of("FrozenLake-v1"), 50, 200),
}
CHEAP = {
    "CartPole": of("CartPole-v1", two_flickers),
    "Recall": of("Recall-v0"),
    "SlimeVolley": of("SlimeVolley-v0"),
    "normalised": lambda seed: VecNormalize(of("CartPole-v1")(seed)),
}


def continued(make: Maker, before: int, after: int, seed: int = 0) -> tuple[list[Any], list[Any]]:
    """Play, save, and go on: in the same environments and in others that have played something else."""
    env, other = make(1), make(99)
    try:
        env.reset()
        actions = actions_of(env, seed, before + after)
        play(env, actions[:before])
        state = through_a_file(get_env_state(env))
        other.reset()
        play(other, actions_of(other, seed + 1, 13))
        set_env_state(other, state)
        return play(env, actions[before:]), play(other, actions[before:])
    finally:
        env.close()
        other.close()


@pytest.mark.parametrize("world", WORLDS)
def test_other_environments_go_on_bit_for_bit(world: str) -> None:
    make, before, after = WORLDS[world]
    expected, seen = continued(make, before, after)
    assert n_ends(expected) >= 3, "ends of episodes are to be among it"
    assert_same(seen, expected)


@pytest.mark.parametrize("world", ["SlimeVolley pixels", "Pong", "Pong, stacked", "CartPole, normalised", "Recall"])
def test_they_go_on_from_the_very_first_step_too(world: str) -> None:
    expected, seen = continued(WORLDS[world][0], 0, 80)
    assert_same(seen, expected)


@settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
@given(world=st.sampled_from(sorted(CHEAP)), before=st.integers(0, 60), seed=st.integers(0, 1000))
def test_they_go_on_from_any_step(world: str, before: int, seed: int) -> None:
    expected, seen = continued(CHEAP[world], before, 60, seed)
    assert_same(seen, expected)


@pytest.mark.parametrize("world", ["SlimeVolley pixels", "Pong, sticky emulator", "CartPole, normalised dict"])
def test_saving_changes_nothing_and_a_state_can_be_used_again(world: str) -> None:
    make, before, _ = WORLDS[world]
    env, watched = make(1), make(1)
    actions = actions_of(env, 0, before + 60)
    for each in (env, watched):
        each.reset()
    play(env, actions[:before])
    for action in actions[:before]:
        watched.step(action)
        get_env_state(watched)
    state = get_env_state(watched)
    expected = play(env, actions[before:])
    for _ in range(2):
        set_env_state(watched, state)
        assert_same(play(watched, actions[before:]), expected)


def test_a_state_of_before_the_first_reset_can_be_restored() -> None:
    make = of("CartPole-v1")
    env, other = make(1), make(2)
    state = get_env_state(env)
    other.reset()
    set_env_state(other, state)
    np.testing.assert_array_equal(other.reset(), env.reset())  # the seeds that make_vec_env left for it


@pytest.mark.parametrize("world", ["Breakout", "CartPole", "CartPole, flickering, processes"])
def test_what_was_never_reset_goes_on_in_the_midst_of_a_game(world: str) -> None:
    make, before, _ = WORLDS[world]
    env, other, another = make(1), make(2), make(3)
    try:
        env.reset()
        actions = actions_of(env, 0, before + 60)
        play(env, actions[:before])
        state = get_env_state(env)
        for each in (other, another):
            set_env_state(each, state)
        assert_same(play(other, actions[before:]), play(env, actions[before:]))
        set_env_state(env, state)
        np.testing.assert_array_equal(another.reset(), env.reset())  # a step, where a lost life counts as an end
    finally:
        for each in (env, other, another):
            each.close()


def test_actions_drawn_from_the_space_go_on() -> None:
    env, other = of("CartPole-v1")(1), of("CartPole-v1")(2)
    env.action_space.seed(5)
    state = get_env_state(env)
    expected = [env.action_space.sample() for _ in range(50)]
    set_env_state(other, state)
    assert [other.action_space.sample() for _ in range(50)] == expected


def test_whether_normalisation_learns_is_left_to_the_caller() -> None:
    env, other = VecNormalize(of("CartPole-v1")(1)), VecNormalize(of("CartPole-v1")(2))
    env.reset()
    other.reset()
    other.training = other.norm_reward = False
    set_env_state(other, get_env_state(env))
    assert not other.training and not other.norm_reward
    np.testing.assert_array_equal(other.obs_rms.mean, env.obs_rms.mean)  # type: ignore[attr-defined]


def test_work_done_between_steps_is_no_part_of_the_state() -> None:
    env, other = WorkWhileStepping(of("CartPole-v1")(1), lambda: None), of("CartPole-v1")(2)
    env.reset()
    other.reset()
    set_env_state(other, get_env_state(env))
    actions = actions_of(env, 0, 40)
    assert_same(play(other, actions), play(env, actions))


def test_the_resumable_wrapper_is_no_part_of_the_state() -> None:
    env, other = (
        of("CartPole-v1", two_flickers)(1),
        of("CartPole-v1", lambda env: FlickerObservation(FlickerObservation(env, 0.8)))(2),
    )
    env.reset()
    other.reset()
    set_env_state(other, get_env_state(env))
    actions = actions_of(env, 0, 40)
    assert_same(play(other, actions), play(env, actions))


def test_the_global_generators_of_processes_go_on() -> None:
    make = of("drqn_sb3:CartPole-v1", chancy, SubprocVecEnv)
    expected, seen = continued(make, 5, 30)
    assert len({float(rewards[0]) for _, rewards, *_ in expected}) > 20
    assert_same(seen, expected)


class Chance(gym.RewardWrapper):
    """Rewards drawn from the global generators."""

    def reward(self, reward: Any) -> float:
        import random

        return float(np.random.normal()) + random.gauss(0.0, 1.0)


def chancy(env: gym.Env) -> gym.Env:
    return ResumableEnv(Chance(env))


class Odd(gym.Wrapper):
    """Has an attribute that is no plain data."""

    def __init__(self, env: gym.Env) -> None:
        super().__init__(env)
        self.board = {"squares": [0, {1, 2}]}


def odd_process(env: gym.Env) -> gym.Env:
    return ResumableEnv(Odd(env))


def hidden(env: gym.Env) -> gym.Env:
    return FlickerObservation(ResumableEnv(env))


class FutureVecEnv(VecEnv):
    """A kind of environments that nobody knows."""

    def __init__(self) -> None:
        super().__init__(1, spaces.Discrete(2), spaces.Discrete(2))

    def reset(self) -> Any: ...

    def step_async(self, actions: np.ndarray) -> None: ...

    def step_wait(self) -> Any: ...

    def close(self) -> None: ...

    def get_attr(self, attr_name: str, indices: Any = None) -> list[Any]:
        return [None]

    def set_attr(self, attr_name: str, value: Any, indices: Any = None) -> None: ...

    def env_method(self, method_name: str, *args: Any, indices: Any = None, **kwargs: Any) -> list[Any]:
        return []

    def env_is_wrapped(self, wrapper_class: Any, indices: Any = None) -> list[bool]:
        return [False]


WHY = r"environment 0: Odd\.board\['squares'\]\[1\] is a builtins\.set, which cannot be saved"
REFUSED: dict[str, tuple[Callable[[], VecEnv], str]] = {
    "attribute": (lambda: of("CartPole-v1", Odd)(0), WHY),
    "attribute around them": (lambda: _with_attribute(VecCheckNan(of("CartPole-v1")(0))), r"VecCheckNan\.file is a _io\.Text"),
    "native": (lambda: AtariVecEnv("PongNoFrameskip-v4", 1), "games begin anew"),
    "unknown": (FutureVecEnv, r"FutureVecEnv gives no access to the state of its environments"),
    "bare processes": (lambda: of("CartPole-v1", None, SubprocVecEnv)(0), "ResumableEnv as their outermost wrapper"),
    "hidden processes": (lambda: of("CartPole-v1", hidden, SubprocVecEnv)(0), "ResumableEnv as their outermost wrapper"),
}


def _with_attribute(env: Any) -> VecEnv:
    import sys

    env.file = sys.__stdout__
    return env


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_saved_is_named(case: str) -> None:
    make, why = REFUSED[case]
    env = make()
    try:
        with pytest.raises(EnvStateError, match=why):
            get_env_state(env)
    finally:
        env.close()


def test_processes_that_refused_live_on() -> None:
    env = of("CartPole-v1", odd_process, SubprocVecEnv)(0)
    env.reset()
    with pytest.raises(EnvStateError, match=WHY):
        get_env_state(env)
    env.step(np.array([0, 1]))
    env.close()


def test_processes_in_the_middle_of_a_step_are_refused() -> None:
    env = of("CartPole-v1", two_flickers, SubprocVecEnv)(0)
    env.reset()
    env.step_async(np.array([0, 1]))
    with pytest.raises(EnvStateError, match="middle of a step"):
        get_env_state(env)
    env.step_wait()
    get_env_state(env)
    env.close()


FOREIGN: dict[str, tuple[Maker, Maker, str]] = {
    "other number": (of("CartPole-v1"), lambda seed: make_vec_env("CartPole-v1", 3, seed=seed), "is of 2 environments, got 3"),
    "other environment": (of("Recall-v0"), of("CartPole-v1"), r"of other environments: of .*RecallEnv.*, not .*CartPoleEnv"),
    "other wrapper": (
        of("CartPole-v1", FlickerObservation),
        of("CartPole-v1"),
        "of other environments: of .*FlickerObservation",
    ),
    "other wrapper around them": (lambda seed: VecCheckNan(of("CartPole-v1")(seed)), of("CartPole-v1"), "of .*VecCheckNan"),
    "processes": (of("CartPole-v1", two_flickers), of("CartPole-v1", two_flickers, SubprocVecEnv), "not .*SubprocVecEnv"),
    "other processes": (
        of("CartPole-v1", chancy, SubprocVecEnv),
        of("CartPole-v1", two_flickers, SubprocVecEnv),
        "of other environments: of .*Chance",
    ),
}


@pytest.mark.parametrize("case", FOREIGN)
def test_a_state_of_other_environments_is_refused_before_anything_changes(case: str) -> None:
    make, make_other, why = FOREIGN[case]
    env, other, twin = make(1), make_other(1), make_other(1)
    try:
        for each in (env, other, twin):
            each.reset()
        state = get_env_state(env)
        with pytest.raises(ValueError, match=why):
            set_env_state(other, state)
        actions = actions_of(other, 0, 30)
        assert_same(play(other, actions), play(twin, actions))
    finally:
        for each in (env, other, twin):
            each.close()


def test_a_process_tells_what_is_wrong_with_a_state() -> None:
    env = of("CartPole-v1", two_flickers, SubprocVecEnv)(1)
    env.reset()
    state = get_env_state(env)
    layer = state["envs"][1]["layers"][-1]
    layer["attributes"]["action_space"] = {"object": len(state["envs"][1]["objects"])}
    state["envs"][1]["objects"].append({"kind": "space", "generator": None, "parts": [{"object": 0}]})
    with pytest.raises(ValueError, match="environment 1: the state is of other environments: it needs another space"):
        set_env_state(env, state)
    env.step(np.array([0, 1]))
    env.close()


@pytest.mark.parametrize("state", [None, {}, [], {"layers": [], "envs": []}], ids=str)
def test_what_is_no_state_is_refused(state: Any) -> None:
    with pytest.raises(ValueError, match=r"state must be what get_env_state\(\) returned"):
        set_env_state(of("CartPole-v1")(0), state)
