"""The next observation as a second lesson; its loss and gradients are compared with a plain walk in test_learner.py."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch as th
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.logger import configure
from stable_baselines3.common.vec_env import VecFrameStack, VecNormalize
from toy_env import SPACES, ToyEnv

from drqn_sb3 import DRQN, FlickerObservation, LastAction
from drqn_sb3.prediction import NextObservation, NextPicture, make_predictor

TIME, BATCH, SIZE = 7, 5, 3
SHAPE = (2, 9, 14)  # of pictures: two channels of 2x3 cells, and something left over
CELLS = 2 * 2 * 3


def predict_vectors() -> NextObservation:
    return make_predictor(gym.spaces.Box(-9, 9, (SIZE,)), hidden_size=6, n_actions=2, net_arch=[])


def predict_pictures(shape: tuple[int, ...] = SHAPE) -> NextObservation:
    return make_predictor(gym.spaces.Box(0, 255, shape, np.uint8), hidden_size=6, n_actions=2, net_arch=[4])


def some_vectors() -> th.Tensor:
    seen = th.randn(TIME, BATCH, SIZE)
    seen[th.rand(TIME, BATCH) < 0.3] = 0.0
    seen[0, 0] = th.tensor([0.0, 0.0, 1.0])
    return seen


def some_pictures() -> th.Tensor:
    """Of random pixels; some are dark, one but for a pixel, and in all of them one cell is always the same."""
    seen = th.randint(0, 256, (TIME, BATCH, *SHAPE), dtype=th.uint8)
    seen[..., 0, :4, :4] = 7
    seen[th.rand(TIME, BATCH) < 0.3] = 0
    seen[0, 0] = 0
    seen[0, 0, 1, 6, 9] = 200
    return seen


def some_slots() -> tuple[th.Tensor, th.Tensor]:
    """Which are terminated, and which count; the first does."""
    terminated, mask = th.rand(TIME, BATCH) < 0.3, th.rand(TIME, BATCH) < 0.7
    terminated[0, 0], mask[0, 0] = False, True
    return terminated, mask


def judged(seen: th.Tensor, terminated: th.Tensor, mask: th.Tensor) -> list[tuple[int, int]]:
    """The slots that can be judged, one by one."""
    slots = [(time, batch) for time in range(TIME) for batch in range(BATCH)]
    slots = [at for at in slots if mask[at] and not terminated[at] and seen[at].count_nonzero() > 0]
    assert 1 < len(slots) < TIME * BATCH
    return slots


def test_the_error_of_vectors_equals_its_definition() -> None:
    predictions, seen, (terminated, mask) = th.randn(TIME, BATCH, SIZE), some_vectors(), some_slots()
    misses = [
        sum(abs(told - true) for told, true in zip(predictions[at].tolist(), seen[at].tolist(), strict=True)) / SIZE
        for at in judged(seen, terminated, mask)
    ]
    for observations in (seen, {"observation": seen, "last_action": th.ones(TIME, BATCH, 2)}):
        error = predict_vectors().error(predictions, observations, terminated, mask)
        assert error.item() == pytest.approx(np.mean(misses), abs=1e-6)


def cells_of(picture: th.Tensor) -> list[float]:
    """The means of its cells, pixel by pixel; what is left over at the right and at the bottom belongs to none."""
    channels, height, width = SHAPE
    corners = [(c, y, x) for c in range(channels) for y in range(0, height - 3, 4) for x in range(0, width - 3, 4)]
    return [sum(picture[c, y + dy, x + dx].item() for dy in range(4) for dx in range(4)) / 16 / 255 for c, y, x in corners]


def test_the_error_of_pictures_equals_its_definition() -> None:
    predictor = predict_pictures()
    assert isinstance(predictor, NextPicture)
    mean, variance = [0.0] * CELLS, [0.0] * CELLS
    for n_updates in (1, 2, 3, 100, 101, 150):
        predictor.n_updates.fill_(n_updates - 1)
        seen, (terminated, mask) = some_pictures(), some_slots()
        if n_updates == 150:
            seen[0, 0, 0, :4, :4] = 255  # further from what is usual there than counts
        predictions = 3 * th.randn(TIME, BATCH, CELLS)
        observations = {"observation": seen, "last_action": th.ones(TIME, BATCH, 2)} if n_updates % 2 else seen
        error = predictor.error(predictions, observations, terminated, mask)
        slots = judged(seen, terminated, mask)
        cells = {at: cells_of(seen[at]) for at in slots}
        misses, rate = [], 1 / min(n_updates, 100)
        for i in range(CELLS):
            mean[i] += rate * (sum(cells[at][i] for at in slots) / len(slots) - mean[i])
            variance[i] += rate * (sum((cells[at][i] - mean[i]) ** 2 for at in slots) / len(slots) - variance[i])
            for at in slots:
                usual = (cells[at][i] - mean[i]) / (math.sqrt(variance[i]) + 0.003)
                misses.append((predictions[(*at, i)].item() - max(-10.0, min(10.0, usual))) ** 2)
        assert error.item() == pytest.approx(np.mean(misses), rel=1e-4)


@pytest.mark.parametrize(("make", "draw"), [(predict_vectors, some_vectors), (predict_pictures, some_pictures)])
def test_nothing_to_judge_is_no_error(make: Callable[[], NextObservation], draw: Callable[[], th.Tensor]) -> None:
    predictor, seen = make(), draw()
    no, yes = th.zeros(TIME, BATCH, dtype=th.bool), th.ones(TIME, BATCH, dtype=th.bool)
    actions = th.zeros(TIME, BATCH, dtype=th.int64)
    predictions = predictor(th.randn(TIME, BATCH, 6), actions)
    for observations, terminated, mask in [(th.zeros_like(seen), no, yes), (seen, yes, yes), (seen, no, no)]:
        error = predictor.error(predictions, observations, terminated, mask)
        assert error.item() == 0.0
        assert not th.autograd.grad(error, predictions)[0].any()
    assert not any(buffer.any() for buffer in predictor.buffers())


def test_what_is_usual_is_learnt_in_training_only() -> None:
    predictor, (terminated, mask) = predict_pictures().eval(), some_slots()
    predictor.error(th.zeros(TIME, BATCH, CELLS), some_pictures(), terminated, mask)
    assert not any(buffer.any() for buffer in predictor.buffers())
    predictor.train().error(th.zeros(TIME, BATCH, CELLS), some_pictures(), terminated, mask)
    assert all(buffer.any() for buffer in predictor.buffers())


def make_model(env: Any = None, *, predictor: list[int] | None, **kwargs: Any) -> DRQN:
    policy_kwargs = {"hidden_size": 8, "predictor": predictor}
    venv = make_vec_env(ToyEnv, n_envs=2) if env is None else env
    if isinstance(venv.observation_space, gym.spaces.Dict):
        policy = "MultiInputLstmPolicy"
    else:
        policy = "MlpLstmPolicy" if len(venv.observation_space.shape or ()) == 1 else "CnnLstmPolicy"
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


@pytest.mark.parametrize("space", ["vector", "image, channels last"])
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_model_with_one_is_saved_and_loaded(precision: str, space: str, tmp_path: Path) -> None:
    venv = make_vec_env(lambda: ToyEnv(SPACES[space]), n_envs=2)
    model = make_model(venv, predictor=[4], prediction_coef=0.25, precision=precision)
    model.learn(70)
    for buffer in model.q_net.buffers():
        assert buffer.any(), "what is usual was not learnt"
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


@pytest.mark.parametrize(
    "space",
    [
        gym.spaces.Discrete(3),
        gym.spaces.Box(0, 1, (4, 4)),
        gym.spaces.Box(0, 1, (1, 36, 36)),
        gym.spaces.Box(0, 255, (36, 36, 1), np.uint8),
        gym.spaces.Box(0, 255, (1, 3, 36), np.uint8),
        gym.spaces.Dict({"seen": gym.spaces.Box(0, 1, (4,))}),
    ],
)
def test_what_cannot_be_predicted_is_named(space: gym.Space) -> None:
    words = "predictor needs observations that are vectors, or images, channels first, of 4x4 pixels or more, or dicts"
    with pytest.raises(ValueError, match=words):
        make_predictor(space, hidden_size=4, n_actions=2, net_arch=[])


@pytest.mark.parametrize("predictor", [8, [0], ["8"], [True]])
def test_sizes_that_make_no_layers_are_named(predictor: Any) -> None:
    with pytest.raises(ValueError, match="predictor must be a list of layer sizes of at least 1, got"):
        make_model(predictor=predictor)
