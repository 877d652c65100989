"""The average of the online network's weights: what it is an average of, who asks it, and who does not."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch as th
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.torch_layers import FlattenExtractor
from torch import nn
from toy_env import POLICIES, SPACES, ToyEnv

from drqn_sb3 import DRQN

DECAY = 0.8
N_ACTIONS = 3


def make_model(space: str = "vector", ema_decay: float | None = DECAY, **kwargs: Any) -> DRQN:
    policy_kwargs = {"hidden_size": 8, "ema_decay": ema_decay, **kwargs.pop("policy_kwargs", {})}
    policy = POLICIES.get(space, "MlpLstmPolicy")
    env = make_vec_env(lambda: ToyEnv(SPACES[space]), n_envs=2, seed=0)
    kwargs = {"seed": 1, "learning_rate": 0.01, "learning_starts": 40, "train_freq": 2, "batch_size": 4, **kwargs}
    return DRQN(policy, env, policy_kwargs=policy_kwargs, **kwargs)


def average_of(model: DRQN) -> nn.Module:
    average = model.policy.q_net_ema
    assert average is not None
    return average


def favour(network: Any, action: int) -> None:
    """Have a network find an action best whatever it sees."""
    layers = [module for module in network.head.modules() if isinstance(module, nn.Linear)]
    with th.no_grad():
        layers[-1].weight.zero_()
        layers[-1].bias.copy_(th.arange(N_ACTIONS) == action)


def snapshot(network: nn.Module) -> list[th.Tensor]:
    return [parameter.detach().clone() for parameter in network.parameters()]


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_the_average_is_that_of_the_weights_after_each_update(precision: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = make_model(precision=precision)
    history = [snapshot(model.q_net)]
    update = model._learner.update

    def recording(samples: Any) -> None:
        update(samples)
        history.append(snapshot(model.q_net))

    monkeypatch.setattr(model._learner, "update", recording)
    model.learn(80)
    n_updates = len(history) - 1
    assert n_updates >= 10
    shares = [DECAY**n_updates] + [(1 - DECAY) * DECAY ** (n_updates - index) for index in range(1, n_updates + 1)]
    assert sum(shares) == pytest.approx(1)
    for index, parameter in enumerate(average_of(model).parameters()):
        expected = sum(share * weights[index].double() for share, weights in zip(shares, history, strict=True))
        assert isinstance(expected, th.Tensor)
        np.testing.assert_allclose(parameter.detach(), expected, atol=1e-6)
        assert not th.equal(parameter, history[-1][index])


def test_running_moments_are_taken_as_they_are() -> None:
    model = make_model("image, channels first", policy_kwargs={"predictor": [4]})
    model.learn(60)
    buffers = dict(model.q_net.named_buffers())
    assert buffers["predictor.n_updates"] > 0
    for (name, buffer), average in zip(buffers.items(), average_of(model).buffers(), strict=True):
        assert th.equal(buffer, average), name


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_predictions_ask_the_average_and_learning_acts_with_the_online_network(precision: str) -> None:
    never: dict[str, Any] = {"exploration_initial_eps": 0.0, "exploration_final_eps": 0.0}
    model = make_model(learning_rate=0.0, learning_starts=14, precision=precision, **never)
    favour(model.q_net, 1)
    favour(average_of(model), 2)
    observation = np.stack([model.observation_space.sample() for _ in range(2)])
    for predict in (model.predict, model.policy.predict):
        assert predict(observation, deterministic=True)[0].tolist() == [2, 2]
    assert model.policy(th.as_tensor(observation)).tolist() == [2, 2]
    acted: list[list[int]] = []

    def watch(found: dict[str, Any], _: dict[str, Any]) -> bool:
        acted.append(found["actions"].tolist())
        return True

    model.learn(60, callback=watch)
    assert acted[7:] == [[1, 1]] * 23  # after 14 steps of chance


class Dropping(FlattenExtractor):
    """Loses half of what it sees: a network that draws random numbers as it learns."""

    def forward(self, observations: th.Tensor) -> th.Tensor:
        return nn.functional.dropout(super().forward(observations), training=self.training)


@pytest.mark.parametrize("extractor", [FlattenExtractor, Dropping])
def test_it_changes_nothing_in_learning(extractor: type[FlattenExtractor]) -> None:
    policy_kwargs = {"features_extractor_class": extractor}
    # One after the other: making a model seeds the generator that both draw from
    models = [make_model(ema_decay=decay, policy_kwargs=policy_kwargs).learn(100) for decay in (None, DECAY)]
    assert models[0].policy.q_net_ema is None
    for one, other in zip(models[0].q_net.parameters(), models[1].q_net.parameters(), strict=True):
        assert th.equal(one, other)


def test_without_any_decay_it_is_the_online_network() -> None:
    model = make_model(ema_decay=0.0)
    model.learn(60)
    for one, other in zip(model.q_net.parameters(), average_of(model).parameters(), strict=True):
        np.testing.assert_allclose(one.detach(), other.detach(), atol=1e-7)


@pytest.mark.parametrize("space", ["vector", "image, channels first"])
def test_it_is_saved_and_loaded(space: str, tmp_path: Path) -> None:
    model = make_model(space, policy_kwargs={"predictor": [4]})
    model.learn(80)
    favour(average_of(model), 2)
    model.save(tmp_path / "model")
    loaded = DRQN.load(tmp_path / "model", env=model.env)
    states = average_of(model).state_dict(), average_of(loaded).state_dict()
    assert states[0].keys() == states[1].keys()
    for name, tensor in states[0].items():
        assert th.equal(tensor, states[1][name])
    favour(loaded.q_net, 1)
    observations = np.stack([model.observation_space.sample() for _ in range(2)])
    assert loaded.predict(observations, deterministic=True)[0].tolist() == [2, 2]
    loaded.learn(40, reset_num_timesteps=False)
    assert not th.equal(next(iter(average_of(loaded).parameters())), next(iter(average_of(model).parameters())))


@pytest.mark.parametrize("decay", [1, 1.0, -0.1, float("nan"), "0.9", True])
def test_a_decay_that_is_none_is_refused(decay: Any) -> None:
    with pytest.raises(ValueError, match=r"ema_decay must be None or a number from 0 to below 1, got"):
        make_model(ema_decay=decay)
