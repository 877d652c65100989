"""FlickerObservation: what it shows, what it hides, and what it leaves alone."""

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import yaml
from gymnasium import spaces
from gymnasium.utils.env_checker import check_env
from rl_zoo3.utils import get_wrapper_class
from stable_baselines3.common.atari_wrappers import AtariWrapper
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import VecFrameStack

from drqn_sb3.envs import DiscreteActions, SlimeVolleyAtariWrapper
from drqn_sb3.wrappers import FlickerObservation

BOX = spaces.Box(-1.0, 1.0, (3,), np.float32)
IMAGE = spaces.Box(0, 255, (4, 5, 1), np.uint8)
NESTED = spaces.Dict({"screen": IMAGE, "body": spaces.Dict({"position": BOX})})


class Constant(gym.Env):
    """Observes the upper bounds of its space, always in the same arrays, for ten steps."""

    action_space = spaces.Discrete(2)

    def __init__(self, observation_space: spaces.Space) -> None:
        self.observation_space = observation_space
        self.observation = self.highest(observation_space)
        self.info: dict[str, Any] = {"n": 0}

    @classmethod
    def highest(cls, space: spaces.Space) -> Any:
        if isinstance(space, spaces.Dict):
            return {name: cls.highest(subspace) for name, subspace in space.items()}
        return space.high.copy() if isinstance(space, spaces.Box) else space.sample()

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.n = 0
        return self.observation, self.info

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.n += 1
        return self.observation, 1.0, self.n == 10, False, self.info


def is_dark(obs: Any) -> bool:
    return all(map(is_dark, obs.values())) if isinstance(obs, dict) else not np.any(obs)


def is_shown(obs: Any) -> bool:
    return all(map(is_shown, obs.values())) if isinstance(obs, dict) else bool(np.all(obs))


def pattern(env: gym.Env, n_steps: int, seed: int | None = None) -> list[bool]:
    """Which of the observations of a reset and ``n_steps`` steps are shown; over episodes, the resets in them left out."""
    shown = [env.reset(seed=seed)[1]["observed"]]
    for _ in range(n_steps):
        _, _, terminated, truncated, info = env.step(env.action_space.sample())
        shown.append(info["observed"])
        if terminated or truncated:
            env.reset()
    return shown


ENVS = {
    "vector": lambda: gym.make("CartPole-v1"),
    "vector, memory of an opponent": lambda: DiscreteActions(gym.make("SlimeVolley-v0")),
    "image": lambda: SlimeVolleyAtariWrapper(gym.make("SlimeVolleyNoFrameskip-v0")),
    "image, random starts": lambda: AtariWrapper(gym.make("PongNoFrameskip-v4")),
}


@pytest.mark.parametrize("make", ENVS.values(), ids=ENVS.keys())
def test_a_flickering_run_has_the_dynamics_of_a_normal_one(make: Any) -> None:
    bare, flickering = make(), FlickerObservation(make(), observe_prob=0.5)
    actions = np.random.default_rng(0).integers(bare.action_space.n, size=150)
    hidden = 0
    (obs, _), (seen, info) = bare.reset(seed=3), flickering.reset(seed=3)
    for action in actions:
        obs, *outcome, _ = bare.step(action)
        seen, *flickering_outcome, info = flickering.step(action)
        assert outcome == flickering_outcome
        np.testing.assert_array_equal(seen, obs if info["observed"] else np.zeros_like(obs), strict=True)
        hidden += not info["observed"]
        if any(outcome[1:]):
            bare.reset()
            flickering.reset()
    assert 30 < hidden < 120
    bare_state, flickering_state = (env.unwrapped.np_random.bit_generator.state for env in (bare, flickering))
    assert bare_state == flickering_state


@pytest.mark.parametrize("observe_prob", [0.0, 0.1, 0.5, 0.9, 1.0])
def test_observations_are_shown_with_the_given_probability(observe_prob: float) -> None:
    n_steps = 4000
    shown = pattern(FlickerObservation(Constant(BOX), observe_prob), n_steps, seed=0)[1:]
    bound = 4.5 * np.sqrt(n_steps * observe_prob * (1 - observe_prob))
    assert abs(sum(shown) - n_steps * observe_prob) <= bound


def test_each_step_is_drawn_anew() -> None:
    n_steps = 4000
    shown = np.array(pattern(FlickerObservation(Constant(BOX), 0.5), n_steps, seed=0))
    same_as_before = np.sum(shown[1:] == shown[:-1])
    assert abs(same_as_before - n_steps / 2) <= 4.5 * np.sqrt(n_steps / 4)


def test_the_first_observation_flickers_too() -> None:
    env = FlickerObservation(Constant(BOX), 0.5)
    shown = [env.reset(seed=seed) for seed in range(1000)]
    assert all(is_shown(obs) if info["observed"] else is_dark(obs) for obs, info in shown)
    assert abs(sum(info["observed"] for _, info in shown) - 500) <= 4.5 * np.sqrt(250)


def test_a_seed_fixes_the_pattern() -> None:
    env, other = (FlickerObservation(Constant(BOX), 0.5) for _ in range(2))
    assert pattern(env, 100, seed=1) == pattern(other, 100, seed=1) == pattern(env, 100, seed=1)
    assert pattern(env, 100, seed=1) != pattern(env, 100, seed=2)


def test_a_reset_without_a_seed_goes_on_with_the_pattern() -> None:
    env, other = (FlickerObservation(Constant(BOX), 0.5) for _ in range(2))
    first, second = pattern(env, 100, seed=1), pattern(env, 100)
    assert first != second
    assert pattern(other, 100, seed=1) + pattern(other, 100) == first + second


def test_without_any_seed_two_environments_differ() -> None:
    assert pattern(FlickerObservation(Constant(BOX), 0.5), 100) != pattern(FlickerObservation(Constant(BOX), 0.5), 100)


def test_the_stream_is_not_that_of_an_environment_with_the_same_seed() -> None:
    env = FlickerObservation(Constant(BOX), 0.5)
    same = 0
    for seed in range(400):
        observed = env.reset(seed=seed)[1]["observed"]
        same += observed == (env.unwrapped.np_random.random() < 0.5)
    assert abs(same - 200) <= 4.5 * np.sqrt(100)


@pytest.mark.parametrize("space", [BOX, IMAGE, NESTED], ids=["vector", "image", "nested dict"])
def test_an_observation_is_shown_or_hidden_as_a_whole(space: spaces.Space) -> None:
    env = FlickerObservation(Constant(space), 0.5)
    observations = [env.reset(seed=seed) for seed in range(50)]
    assert all(obs in env.observation_space for obs, _ in observations)
    assert [is_shown(obs) for obs, _ in observations] == [info["observed"] for _, info in observations]
    assert [is_dark(obs) for obs, _ in observations] == [not info["observed"] for _, info in observations]


@pytest.mark.parametrize("space", [IMAGE, NESTED], ids=["image", "dict"])
def test_what_the_environment_keeps_is_not_written_to(space: spaces.Space) -> None:
    inner = Constant(space)
    env = FlickerObservation(inner, 0.0)
    assert is_dark(env.reset()[0])
    assert is_dark(env.step(0)[0])
    assert is_shown(inner.observation)
    assert inner.info == {"n": 0}


def test_hidden_observations_do_not_share_memory() -> None:
    env = FlickerObservation(Constant(IMAGE), 0.0)
    first = env.reset()[0]
    first += 1
    assert is_dark(env.step(0)[0])


BOUNDS = {
    "above zero": (1.0, 2.0, 0.0, 2.0),
    "below zero": (-2.0, -1.0, -2.0, 0.0),
    "unbounded above": (1.0, np.inf, 0.0, np.inf),
}


@pytest.mark.parametrize(("low", "high", "new_low", "new_high"), BOUNDS.values(), ids=BOUNDS.keys())
def test_bounds_are_widened_to_hold_zero(low: float, high: float, new_low: float, new_high: float) -> None:
    inner = Constant(spaces.Box(low, high, (2,), np.float32))
    inner.observation = np.full(2, low, np.float32)
    env = FlickerObservation(inner, 0.5)
    assert env.observation_space == spaces.Box(new_low, new_high, (2,), np.float32)
    assert all(env.reset(seed=seed)[0] in env.observation_space for seed in range(10))


def test_bounds_are_widened_per_element_and_keep_their_type() -> None:
    low, high = np.array([0, 10], np.uint8), np.array([5, 20], np.uint8)
    env = FlickerObservation(Constant(spaces.Dict({"image": spaces.Box(low, high, dtype=np.uint8)})))
    assert env.observation_space == spaces.Dict({"image": spaces.Box(np.array([0, 0], np.uint8), high, dtype=np.uint8)})


@pytest.mark.parametrize("space", [BOX, IMAGE, NESTED], ids=["vector", "image", "nested dict"])
def test_a_space_that_holds_zero_stays_the_same(space: spaces.Space) -> None:
    assert FlickerObservation(Constant(space)).observation_space is space


BAD_ARGUMENTS = {
    "below": (BOX, -0.1, ValueError, r"observe_prob must be from 0 to 1, got -0.1"),
    "above": (BOX, 1.5, ValueError, r"observe_prob must be from 0 to 1, got 1.5"),
    "not a number": (BOX, float("nan"), ValueError, r"observe_prob must be from 0 to 1, got nan"),
    "text": (BOX, "0.5", TypeError, r"observe_prob must be a number from 0 to 1, got '0.5'"),
    "truth value": (BOX, True, TypeError, r"observe_prob must be a number from 0 to 1, got True"),
    "missing": (BOX, None, TypeError, r"observe_prob must be a number from 0 to 1, got None"),
    "discrete": (spaces.Discrete(3), 0.5, TypeError, r"observation_space must be a Box or a Dict of them, got Discrete"),
    "discrete in a dict": (
        spaces.Dict({"body": spaces.Dict({"mode": spaces.Discrete(3)})}),
        0.5,
        TypeError,
        r"observation_space\['body'\]\['mode'\] must be a Box or a Dict of them, got Discrete\(3\)",
    ),
}


@pytest.mark.parametrize(("space", "observe_prob", "error", "words"), BAD_ARGUMENTS.values(), ids=BAD_ARGUMENTS.keys())
def test_bad_arguments_are_named(space: spaces.Space, observe_prob: Any, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        FlickerObservation(Constant(space), observe_prob)


@pytest.mark.parametrize("observe_prob", [0, 1, np.float32(0.5), np.float64(0.5), np.int64(1)])
def test_every_kind_of_number_will_do(observe_prob: Any) -> None:
    assert FlickerObservation(Constant(BOX), observe_prob).observe_prob == float(observe_prob)


def test_the_environment_can_be_made_again_from_its_spec() -> None:
    env = FlickerObservation(gym.make("CartPole-v1"), observe_prob=0.25)
    assert env.spec is not None
    again = gym.make(env.spec)
    assert isinstance(again, FlickerObservation)
    assert again.observe_prob == 0.25


@pytest.mark.filterwarnings("ignore::UserWarning")  # that a wrapper was given, that CartPole's bounds are infinite
@pytest.mark.parametrize("env_id", ["CartPole-v1", "Recall-v0"])
def test_gymnasium_accepts_it(env_id: str) -> None:
    check_env(FlickerObservation(gym.make(env_id, disable_env_checker=True), 0.5), skip_render_check=True)


def test_a_zoo_config_puts_it_behind_the_preprocessing_and_before_the_stack() -> None:
    hyperparams = yaml.safe_load(
        """
        env_wrapper:
          - stable_baselines3.common.atari_wrappers.AtariWrapper
          - drqn_sb3.wrappers.FlickerObservation:
              observe_prob: 0.3
        """
    )
    venv = make_vec_env("SlimeVolleyNoFrameskip-v0", n_envs=2, seed=0, wrapper_class=get_wrapper_class(hyperparams))
    assert venv.get_attr("observe_prob") == [0.3, 0.3]
    stacked = VecFrameStack(venv, n_stack=4)
    stacked.reset()
    patterns = set()
    for _ in range(40):
        obs, _, dones, infos = stacked.step(np.array([0, 1]))
        for frames, done, info in zip(obs, dones, infos, strict=True):
            assert done or frames[..., -1].any() == info["observed"]
            patterns.add(tuple(frames.any(axis=(0, 1))))
    assert len(patterns) > 8  # of 16: each frame of a stack flickers by itself
