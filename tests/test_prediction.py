"""The next observation as a second lesson; its loss and gradients are compared with a plain walk in test_learner.py."""

from pathlib import Path
from typing import Any

import gymnasium as gym
import pytest
import torch as th
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.logger import configure
from stable_baselines3.common.vec_env import VecFrameStack, VecNormalize
from toy_env import ToyEnv

from drqn_sb3 import DRQN, FlickerObservation, LastAction
from drqn_sb3.prediction import prediction_error

TIME, BATCH, SIZE = 7, 5, 3


def test_the_error_equals_its_definition() -> None:
    predictions, seen = th.randn(TIME, BATCH, SIZE), th.randn(TIME, BATCH, SIZE)
    seen[th.rand(TIME, BATCH) < 0.3] = 0.0
    seen[0, 0] = th.tensor([0.0, 0.0, 1.0])
    terminated, mask = th.rand(TIME, BATCH) < 0.3, th.rand(TIME, BATCH) < 0.7
    terminated[0, 0], mask[0, 0] = False, True
    total, count = 0.0, 0
    for time in range(TIME):
        for batch in range(BATCH):
            is_hidden = seen[time, batch].tolist() == [0.0] * SIZE
            if mask[time, batch] and not terminated[time, batch] and not is_hidden:
                pairs = zip(predictions[time, batch].tolist(), seen[time, batch].tolist(), strict=True)
                total, count = total + sum(abs(told - true) for told, true in pairs) / SIZE, count + 1
    assert 1 < count < TIME * BATCH
    for observations in (seen, {"observation": seen, "last_action": th.ones(TIME, BATCH, 2)}):
        error = prediction_error(predictions, observations, terminated, mask)
        assert error.item() == pytest.approx(total / count, abs=1e-6)


def test_nothing_to_judge_is_no_error() -> None:
    predictions = th.randn(TIME, BATCH, SIZE, requires_grad=True)
    no, yes = th.zeros(TIME, BATCH, dtype=th.bool), th.ones(TIME, BATCH, dtype=th.bool)
    seen = th.randn(TIME, BATCH, SIZE)
    for observations, terminated, mask in [(th.zeros_like(seen), no, yes), (seen, yes, yes), (seen, no, no)]:
        error = prediction_error(predictions, observations, terminated, mask)
        assert error.item() == 0.0
        assert not th.autograd.grad(error, predictions)[0].any()


def make_model(env: Any = None, *, predictor: list[int] | None, **kwargs: Any) -> DRQN:
    policy_kwargs = {"hidden_size": 8, "predictor": predictor}
    venv = make_vec_env(ToyEnv, n_envs=2) if env is None else env
    policy = "MultiInputLstmPolicy" if isinstance(venv.observation_space, gym.spaces.Dict) else "MlpLstmPolicy"
    model = DRQN(policy, venv, learning_starts=50, batch_size=4, policy_kwargs=policy_kwargs, seed=3, **kwargs)
    model.set_logger(configure(None, []))
    return model


def memory(model: DRQN) -> list[th.Tensor]:
    parts = (model.q_net.encoder, model.q_net.cell, model.q_net.head)
    return [parameter.detach().clone() for part in parts for parameter in part.parameters()]


def test_its_weight_is_prediction_coef() -> None:
    without, weightless, weighty = (
        make_model(predictor=None),
        make_model(predictor=[4], prediction_coef=0),
        make_model(predictor=[4], prediction_coef=1.0),
    )
    weights = memory(without)
    for model in (weightless, weighty):
        for part in ("encoder", "cell", "head"):
            getattr(model.q_net, part).load_state_dict(getattr(without.q_net, part).state_dict())
        model.q_net_target.load_state_dict(model.q_net.state_dict())
    for model in (without, weightless, weighty):
        model.learn(80)
    assert all(map(th.equal, memory(without), memory(weightless)))
    assert not any(map(th.equal, weights[:1], memory(without)[:1])), "nothing was learned"
    assert not all(map(th.equal, memory(without), memory(weighty)))
    assert "prediction_error" not in without._learner.read_statistics()
    assert weighty._learner.read_statistics()["prediction_error"] > 0


def test_without_one_the_networks_are_as_ever() -> None:
    names = [name for name, _ in make_model(predictor=None).q_net.named_parameters()]
    more = [name for name, _ in make_model(predictor=[4]).q_net.named_parameters()]
    assert more[: len(names)] == names
    assert [name.split(".")[0] for name in more[len(names) :]] == ["predictor"] * 4


def test_a_memory_learns_to_tell_what_it_cannot_see() -> None:
    """Where a pole goes, from observations of which half are dark."""
    venv = make_vec_env(lambda: LastAction(FlickerObservation(gym.make("CartPole-v1"), 0.5)), n_envs=2)
    model = make_model(venv, predictor=[16], prediction_coef=1.0, learning_rate=5e-3, train_freq=2)
    model.learn(200)
    first = model._learner.read_statistics()["prediction_error"]
    model.learn(1600, reset_num_timesteps=False)
    model._learner.read_statistics()
    model.learn(200, reset_num_timesteps=False)
    assert model._learner.read_statistics()["prediction_error"] < 0.7 * first


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_model_with_one_is_saved_and_loaded(precision: str, tmp_path: Path) -> None:
    model = make_model(predictor=[4], prediction_coef=0.25, precision=precision)
    model.learn(70)
    model.save(tmp_path / "model")
    loaded = DRQN.load(tmp_path / "model", env=model.get_env())
    assert loaded.prediction_coef == 0.25
    pairs = zip(model.policy.state_dict().items(), loaded.policy.state_dict().items(), strict=True)
    assert all(name == other and th.equal(value, of_other) for (name, value), (other, of_other) in pairs)
    loaded.learn(70)
    assert loaded._learner.read_statistics()["prediction_error"] > 0


def test_normalised_observations_are_named_when_it_is_made_and_when_it_learns() -> None:
    def normalised(**kwargs: Any) -> VecNormalize:
        return VecNormalize(make_vec_env(ToyEnv, n_envs=2), **kwargs)

    words = "needs observations that are not normalised, got VecNormalize with norm_obs=True: set norm_obs=False"
    with pytest.raises(ValueError, match=words):
        make_model(normalised(), predictor=[4])
    model = make_model(normalised(norm_obs=False), predictor=[4])
    model.learn(60)
    model.set_env(normalised())
    with pytest.raises(ValueError, match=words):
        model.learn(60)
    make_model(normalised(), predictor=None).learn(60)


def test_what_else_is_normalised_does_not_matter() -> None:
    env = VecNormalize(make_vec_env(lambda: LastAction(FlickerObservation(ToyEnv())), n_envs=2), norm_obs_keys=["last_action"])
    make_model(env, predictor=[4]).learn(60)


def test_stacked_observations_are_refused() -> None:
    with pytest.raises(ValueError, match="a policy with a predictor needs single observations, got VecFrameStack"):
        make_model(VecFrameStack(make_vec_env(ToyEnv, n_envs=2), 2), predictor=[4])


def test_observations_that_are_no_vectors_are_named() -> None:
    words = 'predictor needs observations that are vectors, or dicts with a vector "observation", got'
    with pytest.raises(ValueError, match=words):
        DRQN("CnnLstmPolicy", "SlimeVolleyNoFrameskip-v0", policy_kwargs={"predictor": [8]}, buffer_size=100)


@pytest.mark.parametrize("predictor", [8, [0], ["8"], [True]])
def test_sizes_that_make_no_layers_are_named(predictor: Any) -> None:
    with pytest.raises(ValueError, match="predictor must be a list of layer sizes of at least 1, got"):
        make_model(predictor=predictor)
