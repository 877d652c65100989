"""NaN, infinity and what is out of bounds, in what environments return: before any of it is stored."""

import re
import warnings
from typing import Any

import numpy as np
import pytest
from gymnasium import spaces
from stable_baselines3.common.running_mean_std import RunningMeanStd
from stable_baselines3.common.vec_env import DummyVecEnv, SubprocVecEnv, VecEnv, VecNormalize
from toy_env import IMAGE, POLICIES, SPACES, VECTOR, ToyEnv

from drqn_sb3 import DRQN
from drqn_sb3.experience import ExperienceCheck
from drqn_sb3.finite import NotFiniteError

N_STEPS = 30
UNBOUNDED = spaces.Box(-np.inf, np.inf, (3,), np.float32)
SPACES_WITH_FLOATS = {"vector": VECTOR, "unbounded": UNBOUNDED, "float64": SPACES["float64"], "dict": SPACES["dict"]}


class SpoiltEnv(ToyEnv):
    """
    Returns something else in its 30th step, or as the first observation.

    :param space: its observation space
    :param value: what one number of that observation, or the reward, is
    :param what: ``"observation"``, ``"reward"``, ``"last observation"`` (of an episode) or ``"first observation"``
    """

    def __init__(self, space: spaces.Space, value: float, what: str) -> None:
        super().__init__(space)
        self.value, self.what, self.n_steps = value, what, 0

    def spoil(self, observation: Any) -> Any:
        part = observation["vector"] if isinstance(observation, dict) else observation
        first = (1,) + (0,) * (part.ndim - 1)
        part[first] = self.value
        return observation

    def reset(self, **kwargs: Any) -> tuple[Any, dict[str, Any]]:
        observation, info = super().reset(**kwargs)
        return (self.spoil(observation) if self.what == "first observation" else observation), info

    def step(self, action: np.int64) -> Any:
        self.n_steps += 1
        observation, reward, terminated, truncated, info = super().step(action)
        if self.n_steps == N_STEPS:
            if "observation" in self.what:
                observation = self.spoil(observation)
                terminated, truncated = self.what == "last observation", False
            else:
                reward = self.value
        elif self.n_steps == N_STEPS - 1:
            terminated = True
        return observation, reward, terminated, truncated, info


def make_envs(space: spaces.Space, value: float, what: str = "observation", kind: Any = DummyVecEnv) -> VecEnv:
    return kind([lambda: ToyEnv(space), lambda: SpoiltEnv(space, value, what)])


def make_model(env: VecEnv, **kwargs: Any) -> DRQN:
    policy = POLICIES["dict"] if isinstance(env.observation_space, spaces.Dict) else "MlpLstmPolicy"
    kwargs = {"buffer_size": 300, "learning_starts": 20, "seed": 0, "policy_kwargs": {"hidden_size": 8}, **kwargs}
    return DRQN(policy, env, **kwargs)


def assert_nothing_spoilt_is_stored(model: DRQN) -> None:
    assert model.replay_buffer is not None
    storage = model.replay_buffer.storage
    assert np.isfinite(storage.rewards).all()
    for stored in storage.observations.values():
        assert bool(stored.isfinite().all())


VALUES = [float("nan"), float("inf"), float("-inf")]


@pytest.mark.parametrize("value", VALUES)
@pytest.mark.parametrize("kind", [DummyVecEnv, SubprocVecEnv], ids=["dummy", "sub"])
def test_a_reward_that_is_not_finite_is_refused(value: float, kind: Any) -> None:
    model = make_model(make_envs(VECTOR, value, "reward", kind))
    with pytest.raises(NotFiniteError, match=f"^environment 1 returned a reward of {value} after 58 steps: see to it"):
        model.learn(200)
    assert_nothing_spoilt_is_stored(model)
    assert model.env is not None
    model.env.close()


@pytest.mark.parametrize("value", VALUES)
@pytest.mark.parametrize("space", SPACES_WITH_FLOATS.values(), ids=SPACES_WITH_FLOATS.keys())
def test_an_observation_that_is_not_finite_is_refused(space: spaces.Space, value: float) -> None:
    model = make_model(make_envs(space, value))
    key = " 'vector'" if isinstance(space, spaces.Dict) else ""
    place = "(1, 0)" if space.shape == (2, 2) else "(1,)"
    message = f"environment 1 returned an observation{key} with {value} at component {place} after 58 steps"
    with pytest.raises(NotFiniteError, match=f"^{re.escape(message)}"):
        model.learn(200)
    assert_nothing_spoilt_is_stored(model)


def test_it_is_an_error_of_numbers_and_of_values() -> None:
    assert issubclass(NotFiniteError, FloatingPointError) and issubclass(NotFiniteError, ValueError)


def test_the_last_observation_of_an_episode_is_looked_at() -> None:
    model = make_model(make_envs(VECTOR, np.nan, "last observation"))
    with pytest.raises(
        NotFiniteError, match=r"environment 1 returned the last observation of an episode with nan at .*\(1,\)"
    ):
        model.learn(200)
    assert_nothing_spoilt_is_stored(model)


def test_the_first_observations_are_looked_at() -> None:
    with pytest.raises(NotFiniteError, match=r"environment 1 returned an observation with nan at .* after 0 steps"):
        make_model(make_envs(VECTOR, np.nan, "first observation")).learn(200)


@pytest.mark.parametrize("what", ["reward", "observation"])
@pytest.mark.parametrize("value", VALUES)
@pytest.mark.parametrize("norm", [True, False])
def test_below_normalisation_the_original_is_named(what: str, value: float, norm: bool) -> None:
    model = make_model(VecNormalize(make_envs(VECTOR, value, what), norm_obs=norm, norm_reward=norm))
    with (
        np.errstate(invalid="ignore"),
        pytest.raises(
            NotFiniteError, match=f"returned an? {what} .*{value} .*VecNormalize has taken it .* checkpoint written"
        ),
    ):
        model.learn(200)
    assert_nothing_spoilt_is_stored(model)


def test_statistics_that_were_spoilt_before_are_noticed() -> None:
    env = VecNormalize(DummyVecEnv([ToyEnv]))
    assert isinstance(env.obs_rms, RunningMeanStd)
    env.obs_rms.mean[2] = np.nan
    env.reset()
    env.training = False
    with pytest.raises(NotFiniteError, match=r"returned a normalised observation with nan at component \(2,\) after 0 steps"):
        make_model(env).learn(50)


def test_a_number_too_large_for_the_space_s_type_is_not_finite() -> None:
    env = DummyVecEnv([lambda: ToyEnv(UNBOUNDED)])
    check = ExperienceCheck(env, lambda: 7)
    with pytest.raises(NotFiniteError, match=r"observation with 1e\+39 at component \(2,\) after 7 steps"):
        check.check_observations(np.array([[0.0, 1.0, 1e39]]))
    check.check_observations(np.array([[0.0, 1.0, 3e38]]))


OVERSTEPPING: dict[str, tuple[spaces.Space, float]] = {
    "vector": (VECTOR, 1.5),
    "float64": (SPACES["float64"], -1.0000001),
    "dict": (SPACES["dict"], -7.0),
    "integers": (spaces.Box(0, 5, (3,), np.int64), 6),
}


@pytest.mark.parametrize(("space", "value"), OVERSTEPPING.values(), ids=OVERSTEPPING.keys())
def test_an_observation_out_of_bounds_is_warned_of_once_and_learned_from(space: spaces.Space, value: float) -> None:
    model = make_model(make_envs(space, value, "first observation"))
    with pytest.warns(UserWarning, match="environment 1 returned an observation.* outside its space") as caught:
        model.learn(96)
    (warning,) = [str(one.message) for one in caught if "outside its space" in str(one.message)]
    vector = space["vector"] if isinstance(space, spaces.Dict) else space
    assert isinstance(vector, spaces.Box)
    assert f"is {value}, its bounds are {vector.low.flat[0]} and {vector.high.flat[0]}" in warning
    assert model.num_timesteps == 96
    assert model.replay_buffer is not None
    stored = model.replay_buffer.storage.observations["vector" if isinstance(space, spaces.Dict) else ""]
    assert bool((stored == np.asarray(value, vector.dtype).item()).any())


def test_after_the_warning_what_is_not_finite_is_still_refused() -> None:
    check = ExperienceCheck(DummyVecEnv([ToyEnv]), lambda: 0)
    with pytest.warns(UserWarning, match="outside its space"):
        check.check_observations(np.array([[0, 0, 2]], np.float32))
    with pytest.raises(NotFiniteError):
        check.check_observations(np.array([[0, 2, np.nan]], np.float32))


def test_a_huge_reward_is_a_reward() -> None:
    check = ExperienceCheck(DummyVecEnv([ToyEnv] * 2), lambda: 0)
    observations = np.zeros((2, 3), np.float32)
    with np.errstate(all="raise"):
        for reward in (3e38, -3e38, 0.0):
            check.check_step(observations, np.full(2, reward, np.float32), np.zeros(2, bool), [{}, {}])


def test_a_reward_too_huge_for_the_buffer_is_infinite() -> None:
    check = ExperienceCheck(DummyVecEnv([ToyEnv] * 2), lambda: 7)
    with pytest.raises(FloatingPointError, match=r"environment 1 returned a reward of 1e\+39 after 7 steps"):
        check.check_step(np.zeros((2, 3), np.float32), np.array([0.0, 1e39]), np.zeros(2, bool), [{}, {}])


def test_a_reward_that_is_no_number_is_refused() -> None:
    check = ExperienceCheck(DummyVecEnv([ToyEnv] * 2), lambda: 7)
    with pytest.raises(ValueError, match=r"rewards must be numbers, got array.*'a'.* after 7 steps"):
        check.check_step(np.zeros((2, 3), np.float32), np.array([0.0, "a"], object), np.zeros(2, bool), [{}, {}])


class Numbered(ToyEnv):
    """Shows a number that its space does not have, after a while."""

    def __init__(self, space: spaces.Space, beyond: Any, **kwargs: Any) -> None:
        super().__init__(space, **kwargs)
        self.beyond, self.n_steps = beyond, 0

    def step(self, action: np.int64) -> Any:
        observation, *rest = super().step(action)
        self.n_steps += 1
        return self.beyond if self.n_steps > 30 else observation, *rest


NUMBERS = pytest.mark.parametrize(
    ("space", "beyond", "words"),
    [
        (spaces.Discrete(5), 5, r"observations must be from 0 to 4, got 5"),
        (spaces.MultiDiscrete([3, 2]), np.array([0, -1]), r"observations must be from \[0 0\] to \[2 1\], got \[ 0 -1\]"),
    ],
    ids=["Discrete", "MultiDiscrete"],
)


@NUMBERS
def test_a_number_that_its_space_does_not_have_is_refused(space: spaces.Space, beyond: Any, words: str) -> None:
    env = Numbered(space, beyond, max_length=1_000)
    model = DRQN("MlpLstmPolicy", env, buffer_size=300, learning_starts=20, batch_size=2, seed=0)
    with pytest.raises(ValueError, match=f"^{words} from environment 0 after 30 steps"):
        model.learn(100)


@NUMBERS
def test_an_episode_may_not_end_on_a_number_that_its_space_does_not_have(space: spaces.Space, beyond: Any, words: str) -> None:
    words = words.replace("observations", "the last observation of an episode", 1)
    check = ExperienceCheck(DummyVecEnv([lambda: ToyEnv(space)] * 2), lambda: 7)
    observations, rewards = np.zeros((2, *np.shape(beyond)), dtype=int), np.zeros(2)
    infos = [{}, {"terminal_observation": beyond}]
    with pytest.raises(ValueError, match=f"^{words} from environment 1 after 7 steps"):
        check.check_step(observations, rewards, np.array([False, True]), infos)
    check.check_step(observations, rewards, np.array([False, True]), [{}, {"terminal_observation": observations[0]}])


def test_the_last_observation_of_an_episode_is_seen_as_the_space_has_it() -> None:
    """0.7 in double precision is beyond 0.7 in single precision."""
    check = ExperienceCheck(DummyVecEnv([lambda: ToyEnv(spaces.Box(-0.7, 0.7, (1,)))]), lambda: 0)
    info = {"terminal_observation": np.array([0.7])}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check.check_step(np.zeros((1, 1), np.float32), np.zeros(1), np.ones(1, bool), [info])


def test_another_shape_than_the_space_s_is_refused() -> None:
    class Grown(ToyEnv):
        def step(self, action: np.int64) -> Any:
            observation, *rest = super().step(action)
            return np.append(observation, 0), *rest

    env = SubprocVecEnv([Grown] * 2)
    try:
        with pytest.raises(
            ValueError, match=r"must be of the space's shape \(3,\), got \(4,\) from environment 0 after 0 steps"
        ):
            make_model(env).learn(50)
    finally:
        env.close()


class Untouchable(np.ndarray):
    """An array that nothing may be computed with."""

    def __array_ufunc__(self, *args: Any, **kwargs: Any) -> Any:
        raise AssertionError("computed with")

    def __array_function__(self, *args: Any, **kwargs: Any) -> Any:
        raise AssertionError("computed with")


def test_images_are_not_looked_at() -> None:
    check = ExperienceCheck(DummyVecEnv([lambda: ToyEnv(IMAGE)]), lambda: 0)
    check.check_observations(np.zeros((1, *IMAGE.shape), np.uint8).view(Untouchable))
    with pytest.raises(AssertionError, match="computed with"):
        ExperienceCheck(DummyVecEnv([ToyEnv]), lambda: 0).check_observations(np.zeros((1, 3), np.float32).view(Untouchable))


@pytest.mark.parametrize("space", SPACES.values(), ids=SPACES.keys())
def test_what_lies_in_a_space_is_accepted(space: spaces.Space) -> None:
    env = DummyVecEnv([lambda: ToyEnv(space)] * 2)
    check = ExperienceCheck(env, lambda: 0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check.check_observations(env.reset())
        for _ in range(30):
            check.check_step(*env.step(np.zeros(2, np.int64)))
