"""The wrappers by which less is seen: what they show, what they hide, and what they leave alone."""

from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import yaml
from gymnasium import spaces
from gymnasium.utils.env_checker import check_env
from gymnasium.wrappers import FlattenObservation, FrameStackObservation
from rl_zoo3.utils import get_wrapper_class
from rl_zoo3.wrappers import MaskVelocityWrapper
from stable_baselines3.common.atari_wrappers import AtariWrapper
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import DummyVecEnv, VecFrameStack

from drqn_sb3 import LastAction
from drqn_sb3.checkpoints.env_state import get_env_state, set_env_state
from drqn_sb3.envs import DiscreteActions, SlimeVolleyAtariWrapper
from drqn_sb3.wrappers import VELOCITY_INDICES, FlickerObservation, FrozenObservation, HideVelocity, NoisyObservation

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


# --- all of them ---

LESS: dict[str, Callable[[gym.Env], gym.Env]] = {
    "noise": lambda env: NoisyObservation(env, 0.2),
    "freeze": lambda env: FrozenObservation(env, 0.5),
    "flicker": lambda env: FlickerObservation(env, 0.5),
    "all": lambda env: FlickerObservation(FrozenObservation(NoisyObservation(env, 0.2), 0.5), 0.5),
}
DYNAMICS = [(name, less) for name in ENVS for less in LESS]


def outcomes(env: gym.Env, n_steps: int) -> tuple[list[Any], dict[str, Any]]:
    """What the same actions lead to, and the state of the generator that the environment draws from."""
    actions = np.random.default_rng(0).integers(env.action_space.n, size=n_steps)  # type: ignore[attr-defined]
    env.reset(seed=3)
    seen = []
    for action in actions:
        _, *outcome, _ = env.step(action)
        seen.append(outcome)
        if any(outcome[1:]):
            env.reset()
    return seen, dict(env.unwrapped.np_random.bit_generator.state)


@pytest.mark.parametrize(("name", "less"), DYNAMICS, ids=[f"{name}, {less}" for name, less in DYNAMICS])
def test_seeing_less_leaves_the_dynamics_alone(name: str, less: str) -> None:
    assert outcomes(LESS[less](ENVS[name]()), 120) == outcomes(ENVS[name](), 120)


@pytest.mark.parametrize("less", LESS)
@pytest.mark.parametrize("space", [BOX, IMAGE, NESTED], ids=["vector", "image", "nested dict"])
def test_a_seed_fixes_what_is_seen(less: str, space: spaces.Space) -> None:
    def seen(env: gym.Env, seed: int | None) -> list[Any]:
        return [env.reset(seed=seed)[0], *(env.step(0)[0] for _ in range(9))]

    env, other = LESS[less](Constant(space)), LESS[less](Constant(space))
    first, going_on = seen(env, 1), seen(env, None)
    assert str(seen(other, 1)) == str(first)
    assert str(seen(other, None)) == str(going_on)
    assert all(obs in env.observation_space for obs in first + going_on)


def test_streams_of_one_seed_are_apart() -> None:
    env = FlickerObservation(FrozenObservation(Constant(BOX), 0.5), 0.5)
    env.reset(seed=0)
    infos = [env.step(0)[-1] for _ in range(2000)]
    same = sum(info["observed"] == info["frozen"] for info in infos)
    assert abs(same - 1000) <= 4.5 * np.sqrt(500)


@pytest.mark.parametrize("less", LESS)
def test_a_checkpoint_goes_on_with_what_would_have_been_seen(less: str) -> None:
    def make() -> DummyVecEnv:
        return DummyVecEnv([lambda: HideVelocity(LESS[less](gym.make("CartPole-v1"))) for _ in range(2)])

    def seen(env: DummyVecEnv) -> list[np.ndarray]:
        return [np.array(env.step(np.array([step % 2, 0]))[0]) for step in range(30)]

    kept, restored = make(), make()
    kept.seed(5)
    for env in (kept, restored):
        env.reset()
    seen(kept)
    state = get_env_state(kept)
    expected = seen(kept)
    set_env_state(restored, state)
    np.testing.assert_array_equal(seen(restored), expected, strict=True)


@pytest.mark.parametrize(
    ("wrapper", "kwargs"),
    [
        (NoisyObservation, {"noise_std": 0.25}),
        (FrozenObservation, {"freeze_prob": 0.25}),
        (HideVelocity, {"indices": [0, 3]}),
        (HideVelocity, {"indices": None}),
    ],
)
def test_any_of_them_can_be_made_again_from_its_spec(wrapper: type[gym.Wrapper], kwargs: dict[str, Any]) -> None:
    spec = wrapper(gym.make("CartPole-v1"), **kwargs).spec
    assert spec is not None
    again = gym.make(gym.envs.registration.EnvSpec.from_json(spec.to_json()))
    assert isinstance(again, wrapper)
    made = {name: getattr(again, name) for name in kwargs}
    assert made == ({"indices": [1, 3]} if kwargs == {"indices": None} else kwargs)


@pytest.mark.filterwarnings("ignore::UserWarning")  # that a wrapper was given, that CartPole's bounds are infinite
@pytest.mark.parametrize("wrapper", [NoisyObservation, FrozenObservation, HideVelocity])
def test_gymnasium_accepts_all_of_them(wrapper: Callable[..., gym.Env]) -> None:
    check_env(wrapper(gym.make("CartPole-v1", disable_env_checker=True)), skip_render_check=True)


WORD: Any = "1"
BETWEEN: Any = 0.5
BAD: dict[str, tuple[Callable[[], gym.Env], type[Exception], str]] = {
    "noise below": (
        lambda: NoisyObservation(Constant(BOX), -0.1),
        ValueError,
        "noise_std must be finite and 0 or more, got -0.1",
    ),
    "endless noise": (lambda: NoisyObservation(Constant(BOX), np.inf), ValueError, "noise_std must be finite.*got inf"),
    "noise that is no number": (
        lambda: NoisyObservation(Constant(BOX), np.nan),
        ValueError,
        "noise_std must be finite.*got nan",
    ),
    "noise of text": (
        lambda: NoisyObservation(Constant(BOX), WORD),
        TypeError,
        "noise_std must be a number of 0 or more, got '1'",
    ),
    "noisy choices": (
        lambda: NoisyObservation(Constant(spaces.Dict({"mode": spaces.Discrete(3)}))),
        TypeError,
        r"observation_space\['mode'\] must be a Box of numbers or a Dict of them, got Discrete\(3\)",
    ),
    "freezing below": (
        lambda: FrozenObservation(Constant(BOX), -0.1),
        ValueError,
        "freeze_prob must be from 0 to 1, got -0.1",
    ),
    "freezing above": (lambda: FrozenObservation(Constant(BOX), 1.1), ValueError, "freeze_prob must be from 0 to 1, got 1.1"),
    "freezing, truth value": (
        lambda: FrozenObservation(Constant(BOX), True),
        TypeError,
        "freeze_prob must be a number from 0 to 1, got True",
    ),
    "frozen choices": (lambda: FrozenObservation(Constant(spaces.Discrete(3))), TypeError, "observation_space must be a Box"),
    "unknown velocities": (
        lambda: HideVelocity(gym.make("Acrobot-v1")),
        ValueError,
        "indices must be given for Acrobot-v1, whose velocities are not known",
    ),
    "pictures": (
        lambda: HideVelocity(gym.make("SlimeVolleyNoFrameskip-v0")),
        ValueError,
        "indices must be given for SlimeVolleyNoFrameskip-v0",
    ),
    "indices of pictures": (
        lambda: HideVelocity(Constant(IMAGE), [0]),
        ValueError,
        "indices must be of the numbers of a vector",
    ),
    "velocities of stacked frames": (
        lambda: HideVelocity(FlattenObservation(FrameStackObservation(gym.make("CartPole-v1"), 4))),
        ValueError,
        r"where a wrapper has changed the shape of CartPole-v1's observations, got \(16,\) instead of \(4,\): or hide",
    ),
    "velocities behind the last action": (
        lambda: HideVelocity(FlattenObservation(LastAction(gym.make("CartPole-v1")))),
        ValueError,
        "indices must be given where a wrapper has changed",
    ),
    "indices of a dict": (lambda: HideVelocity(Constant(NESTED), [0]), TypeError, "observation_space must be a Box, got Dict"),
    "index above": (lambda: HideVelocity(Constant(BOX), [3]), ValueError, r"indices must be.*got \[3\]"),
    "index below": (lambda: HideVelocity(Constant(BOX), [-1]), ValueError, r"indices must be.*got \[-1\]"),
    "index between": (lambda: HideVelocity(Constant(BOX), [BETWEEN]), TypeError, "indices must be whole numbers, got 0.5"),
}


@pytest.mark.parametrize(("make", "error", "words"), BAD.values(), ids=BAD.keys())
def test_what_they_cannot_do_is_named(make: Callable[[], gym.Env], error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        make()


# --- noise ---

UNITS = {
    "bounded": (spaces.Box(-50.0, 150.0, (2000,), np.float32), 50.0, 20.0),
    "bounded, double": (spaces.Box(-50.0, 150.0, (2000,), np.float64), 50.0, 20.0),
    "picture": (spaces.Box(0, 255, (50, 40, 1), np.uint8), 128.0, 25.5),
    "whole numbers": (spaces.Box(-300, 300, (2000,), np.int16), 0.0, 60.0),
    "unbounded": (spaces.Box(-np.inf, np.inf, (2000,), np.float32), 7.0, 0.1),
    "unbounded above": (spaces.Box(-1000.0, np.inf, (2000,), np.float32), 7.0, 0.1),
    "bounds that mean none": (spaces.Box(-np.finfo(np.float32).max, np.finfo(np.float32).max, (2000,), np.float32), 7.0, 0.1),
}


@pytest.mark.parametrize(("space", "value", "expected"), UNITS.values(), ids=UNITS.keys())
def test_noise_is_a_share_of_the_range_where_there_is_one(space: spaces.Box, value: float, expected: float) -> None:
    inner = Constant(space)
    inner.observation = np.full(space.shape, value, space.dtype)
    env = NoisyObservation(inner, 0.1)
    obs, _ = env.reset(seed=0)
    noise = obs.astype(np.float64) - value
    assert obs.dtype == space.dtype and obs in space
    assert abs(noise.std() - expected) < 4.5 * expected / np.sqrt(2 * 2000)
    assert abs(noise.mean()) < 4.5 * expected / np.sqrt(2000)
    # Every number and every step has its own
    again = env.step(0)[0].astype(np.float64) - value
    assert abs(np.corrcoef(noise.ravel(), again.ravel())[0, 1]) < 4.5 / np.sqrt(2000)
    assert len(np.unique(noise)) > 50


def test_noise_is_rounded_not_cut_off() -> None:
    inner = Constant(spaces.Box(0, 255, (20_000,), np.uint8))
    inner.observation = np.full(20_000, 100, np.uint8)
    noise = NoisyObservation(inner, 1 / 255).reset(seed=0)[0].astype(float) - 100
    assert abs(noise.mean()) < 4.5 / np.sqrt(20_000)  # cut off, it would be -0.5


def test_noise_stays_within_the_bounds_of_the_widest_type() -> None:
    space = spaces.Box(np.iinfo(np.int64).min, np.iinfo(np.int64).max, (500,), np.int64)
    with np.errstate(all="raise"):
        obs, _ = NoisyObservation(Constant(space), 0.1).reset(seed=0)
    assert obs in space
    assert 0.4 < np.mean(obs == space.high) < 0.6  # half of the noise leads beyond the bound


def test_without_noise_nothing_changes() -> None:
    inner = Constant(NESTED)
    obs, _ = NoisyObservation(inner, 0.0).reset(seed=0)
    assert str(obs) == str(inner.observation)


def test_a_lost_number_stays_one() -> None:
    inner = Constant(BOX)
    inner.observation = np.array([np.nan, 0.0, 0.0], np.float32)
    assert np.isnan(NoisyObservation(inner, 0.1).reset(seed=0)[0]).tolist() == [True, False, False]


@pytest.mark.parametrize("space", [BOX, IMAGE, NESTED], ids=["vector", "image", "nested dict"])
def test_noise_is_not_written_into_what_the_environment_keeps(space: spaces.Space) -> None:
    inner = Constant(space)
    before = str(inner.observation)
    env = NoisyObservation(inner, 0.5)
    env.reset(seed=0)
    assert str(env.step(0)[0]) != before
    assert str(inner.observation) == before


# --- freeze ---


class Counting(Constant):
    """Shows how many steps there have been, over all episodes, always in the same arrays."""

    def __init__(self, space: spaces.Space = NESTED) -> None:
        super().__init__(space)
        self.total = 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        _, info = super().reset(seed=seed, options=options)
        return self.counted(), info

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        _, *outcome = super().step(action)
        return self.counted(), *outcome

    def counted(self) -> Any:
        self.total += 1
        self.observation["screen"][:] = self.total % 256
        self.observation["body"]["position"][:] = self.total / 1e6
        return self.observation


def test_a_frozen_observation_is_the_last_one_shown() -> None:
    env = FrozenObservation(Counting(), 0.6)
    total, shown, n_frozen = 0, 0, 0
    for episode in range(30):
        obs, info = env.reset(seed=0 if episode == 0 else None)
        total += 1
        shown = total
        assert not info["frozen"] and obs["screen"][0, 0, 0] == shown % 256
        over = False
        while not over:
            obs, _, over, _, info = env.step(0)
            total += 1
            shown = shown if info["frozen"] else total
            n_frozen += info["frozen"]
            assert np.all(obs["screen"] == shown % 256)
            assert np.all(obs["body"]["position"] == np.float32(shown / 1e6))
            obs["screen"][:] = 0  # whoever gets it may write into it
            obs["body"]["position"][:] = 0
            env.unwrapped.observation["screen"] = np.zeros_like(obs["screen"])  # type: ignore[attr-defined]
            env.unwrapped.observation["body"]["position"] = np.zeros_like(obs["body"]["position"])  # type: ignore[attr-defined]
    assert abs(n_frozen - 180) <= 4.5 * np.sqrt(300 * 0.24)


@pytest.mark.parametrize(("freeze_prob", "expected"), [(0.0, 0), (1.0, 10)])
def test_it_freezes_never_or_always(freeze_prob: float, expected: int) -> None:
    env = FrozenObservation(Constant(BOX), freeze_prob)
    assert not env.reset(seed=0)[1]["frozen"]
    assert sum(env.step(0)[-1]["frozen"] for _ in range(10)) == expected


# --- velocities ---


def test_velocities_are_those_that_the_zoo_masks() -> None:
    zoo = {env_id: tuple(indices.tolist()) for env_id, indices in MaskVelocityWrapper.velocity_indices.items()}
    assert {env_id: indices for env_id, indices in VELOCITY_INDICES.items() if env_id != "SlimeVolley-v0"} == zoo


def test_velocities_of_slimevolley_are_how_far_things_move() -> None:
    bare, hiding = DiscreteActions(gym.make("SlimeVolley-v0")), HideVelocity(DiscreteActions(gym.make("SlimeVolley-v0")))
    seen = [bare.reset(seed=0)[0]]
    hiding.reset(seed=0)
    positions, velocities = [0, 1, 4, 5, 8, 9], [2, 3, 6, 7, 10, 11]
    for action in np.random.default_rng(0).integers(6, size=60).repeat(5):
        seen.append(bare.step(action)[0])
        shown, *_ = hiding.step(action)
        assert np.all(shown[velocities] == 0)
        np.testing.assert_array_equal(shown[positions], seen[-1][positions])
    # A serve is waited for, and walls turn things round within a step: nearly always is a way the velocity's thirtieth part
    ways, speeds = np.diff(np.array(seen)[:, positions], axis=0), np.array(seen)[1:, velocities]
    for way, speed in zip(ways.T, speeds.T, strict=True):
        is_moving = way != 0
        assert is_moving.sum() > 50
        assert np.mean(np.isclose(30 * way[is_moving], speed[is_moving], rtol=0.25, atol=0.15)) > 0.8


@pytest.mark.parametrize("env_id", ["CartPole-v1", "MountainCar-v0", "Pendulum-v1"])
def test_it_sees_what_the_zoos_wrapper_lets_see(env_id: str) -> None:
    hiding, masked = HideVelocity(gym.make(env_id)), MaskVelocityWrapper(gym.make(env_id))
    hiding.action_space.seed(0)
    np.testing.assert_array_equal(hiding.reset(seed=1)[0], masked.reset(seed=1)[0])
    for _ in range(20):
        action = hiding.action_space.sample()
        np.testing.assert_array_equal(hiding.step(action)[0], masked.step(action)[0], strict=True)


def test_only_the_bounds_of_hidden_numbers_are_widened() -> None:
    inner = Constant(spaces.Box(1.0, 2.0, (3,), np.float32))
    env = HideVelocity(inner, [1])
    low = np.array([1, 0, 1], np.float32)
    assert env.observation_space == spaces.Box(low, np.full(3, 2, np.float32), dtype=np.float32)
    obs, _ = env.reset()
    assert obs in env.observation_space and obs.tolist() == [2, 0, 2]
    assert inner.observation.tolist() == [2, 2, 2]
    assert HideVelocity(Constant(BOX), [1]).observation_space == BOX
