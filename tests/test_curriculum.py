"""A curriculum for flickering environments: how often observations are shown, when, and to whom."""

from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch as th
import yaml
from rl_zoo3.utils import get_callback_list
from stable_baselines3 import PPO
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback, StopTrainingOnMaxEpisodes
from stable_baselines3.common.vec_env import DummyVecEnv, SubprocVecEnv, VecEnv, VecFrameStack
from toy_env import ToyEnv

from drqn_sb3 import DRQN, FlickerCurriculum, FlickerObservation, RunCheckpointCallback
from drqn_sb3.envs import AtariVecEnv


def flickering(observe_prob: float = 0.5) -> gym.Env:
    return FlickerObservation(ToyEnv(), observe_prob)


def make_model(env: VecEnv, **kwargs: Any) -> DRQN:
    kwargs = {"buffer_size": 300, "learning_starts": 20, "seed": 0, **kwargs}
    return DRQN("MlpLstmPolicy", env, policy_kwargs={"hidden_size": 8}, **kwargs)


class Watch(BaseCallback):
    """Keeps how likely each environment's next observation is shown, after each step."""

    def __init__(self) -> None:
        super().__init__()
        self.probs: list[list[float]] = []

    def _on_step(self) -> bool:
        self.probs.append(self.training_env.get_attr("_present_prob"))
        return True


def learn(model: BaseAlgorithm, n_steps: int, **kwargs: Any) -> np.ndarray:
    watch = Watch()
    model.learn(n_steps, callback=[FlickerCurriculum(**kwargs), watch])
    return np.array(watch.probs)


@pytest.mark.parametrize("kind", [DummyVecEnv, SubprocVecEnv], ids=["dummy", "sub"])
def test_observations_are_shown_less_and_less_until_the_environments_own_probability_holds(kind: Any) -> None:
    env = kind([flickering, lambda: flickering(0.2)])
    probs = learn(make_model(env, train_freq=20), 1000, fraction=0.5, initial_prob=0.9)
    env.close()
    done = np.minimum(np.arange(1, 501) * 2 / 500, 1.0)[:, None]
    assert probs == pytest.approx(0.9 + (np.array([[0.5, 0.2]]) - 0.9) * done, abs=0.71 / 200)
    assert (probs[250:] == [0.5, 0.2]).all() and (probs[:249] > [0.5, 0.2]).all()


def test_as_many_are_shown_as_it_says() -> None:
    env = flickering(0.2)
    assert isinstance(env, FlickerObservation)
    for done, expected in ((0.0, 1.0), (0.5, 0.6), (1.0, 0.2)):
        assert env.ease_flicker(1.0, done) == pytest.approx(expected)
        env.reset(seed=0)
        shown = [env.step(np.int64(0))[4]["observed"] for _ in range(2000)]
        assert np.mean(shown) == pytest.approx(expected, abs=0.04)


def test_on_policy_algorithms_and_stacks_of_frames_take_it_too() -> None:
    model = PPO("MlpPolicy", VecFrameStack(DummyVecEnv([flickering]), 2), n_steps=32, batch_size=32, seed=0)
    probs = learn(model, 128, fraction=1.0)
    assert probs[0, 0] == pytest.approx(1 - 0.5 / 128, abs=0.5 / 200) and probs[-1, 0] == 0.5


def test_training_that_ends_early_leaves_environments_as_they_were() -> None:
    model = make_model(DummyVecEnv([flickering]))
    stop = StopTrainingOnMaxEpisodes(max_episodes=1)
    model.learn(10_000, callback=[FlickerCurriculum(), stop])
    assert model.num_timesteps < 100
    assert model.env is not None and model.env.get_attr("_present_prob") == [0.5]


def test_a_budget_of_nothing_is_none_of_its_business() -> None:
    model = make_model(DummyVecEnv([flickering]))
    model.learn(0, callback=FlickerCurriculum())
    assert model.num_timesteps == 0


def test_the_present_probability_is_logged() -> None:
    model = make_model(DummyVecEnv([flickering]))
    learn(model, 100, fraction=1.0)
    assert model.logger.name_to_value["rollout/observe_prob"] == 0.5


def test_every_run_begins_anew() -> None:
    model = make_model(DummyVecEnv([flickering]))
    assert (learn(model, 100)[[0, -1], 0] == learn(model, 100)[[0, -1], 0]).all()


@pytest.mark.parametrize("make", [lambda: DummyVecEnv([ToyEnv]), lambda: SubprocVecEnv([ToyEnv])], ids=["dummy", "sub"])
def test_where_nothing_flickers_nothing_is_done_but_to_warn(make: Any) -> None:
    env = make()
    with pytest.warns(UserWarning, match="does nothing here: not every environment has a FlickerObservation"):
        make_model(env).learn(40, callback=FlickerCurriculum())
    env.close()


def test_native_atari_does_not_flicker() -> None:
    env = AtariVecEnv("PongNoFrameskip-v4", n_envs=1, seed=0)
    with pytest.warns(UserWarning, match="does nothing here"):
        PPO("CnnPolicy", env, n_steps=2, batch_size=2, n_epochs=1).learn(2, callback=FlickerCurriculum())
    env.close()


def test_a_run_that_is_resumed_goes_on_as_it_would_have(tmp_path: Path) -> None:
    """Checkpoints are written between two stages of the curriculum."""

    class Interrupt(BaseCallback):
        def _on_step(self) -> bool:
            return self.num_timesteps < 137

    def run(folder: str, *interruptions: BaseCallback) -> DRQN:
        model = make_model(DummyVecEnv([flickering]), train_freq=20)
        checkpoints = RunCheckpointCallback(str(tmp_path / folder), save_freq=66, resume=True)
        return model.learn(1000, callback=[checkpoints, FlickerCurriculum(fraction=1.0), *interruptions])

    whole = run("whole")
    run("parts", Interrupt())
    with pytest.warns(UserWarning, match="there was a callback Interrupt"):
        resumed = run("parts")
    assert resumed.num_timesteps == whole.num_timesteps
    for one, other in zip(whole.q_net.parameters(), resumed.q_net.parameters(), strict=True):
        assert th.equal(one, other)


BAD_ARGUMENTS: dict[str, tuple[dict[str, Any], type[Exception], str]] = {
    "no time": ({"fraction": 0.0}, ValueError, "fraction must be above 0, got 0.0"),
    "longer than the run": ({"fraction": 1.5}, ValueError, "fraction must be from 0 to 1, got 1.5"),
    "text": ({"fraction": "half"}, TypeError, "fraction must be a number from 0 to 1, got 'half'"),
    "not a probability": ({"initial_prob": -0.1}, ValueError, "initial_prob must be from 0 to 1, got -0.1"),
}


@pytest.mark.parametrize(("kwargs", "error", "words"), BAD_ARGUMENTS.values(), ids=BAD_ARGUMENTS.keys())
def test_bad_arguments_are_named(kwargs: dict[str, Any], error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=f"^{words}$"):
        FlickerCurriculum(**kwargs)


def test_a_zoo_config_can_name_it() -> None:
    config = yaml.safe_load("callback: [{drqn_sb3.FlickerCurriculum: {fraction: 0.25}}]")
    (callback,) = get_callback_list(config)
    assert isinstance(callback, FlickerCurriculum) and callback.fraction == 0.25
