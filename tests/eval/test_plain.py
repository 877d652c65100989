"""The fast path against the plain one: what an update is, what acting is, and what comes of a whole run."""

from copy import deepcopy
from typing import Any

import pytest
import torch as th
from gymnasium import spaces
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.logger import Logger
from toy_env import IMAGE, SPACES, VECTOR, ToyEnv

from drqn_sb3 import DRQN, FlickerObservation, LastAction
from eval.throughput.plain import PlainDRQN

KINDS: dict[str, dict[str, Any]] = {
    "the paper's": {},
    "stored states and burn-in": {"initial_state": "stored", "burn_in": 3, "n_steps": 3},
    "without double Q-learning": {"double_q": False, "n_steps": 2},
    "a GRU": {"policy_kwargs": {"recurrent_cell": "gru"}},
    "layer normalisation": {"policy_kwargs": {"layer_norm": True, "net_arch": {"encoder": [32], "head": [24]}}},
    "averaged weights": {"policy_kwargs": {"ema_decay": 0.5}},
    "standardised images": {"policy_kwargs": {"features_extractor_kwargs": {"standardize": True}}},
    "a predictor of pictures": {"policy_kwargs": {"predictor": [16]}, "prediction_coef": 0.1, "burn_in": 2},
    "images beside vectors": {
        "policy_kwargs": {"predictor": [16], "features_extractor_kwargs": {"standardize": True}},
        "prediction_coef": 0.1,
    },
    "a predictor of vectors": {"policy_kwargs": {"predictor": [16]}, "prediction_coef": 0.5, "n_steps": 3},
}
EACH_KIND = pytest.mark.parametrize("kind", KINDS)


def make_pair(precision: str, kind: str, space: str = "image, channels last", **kwargs: Any) -> tuple[DRQN, PlainDRQN]:
    """A fast model and a plain one that are alike and have seen the same: images, but for a predictor of vectors."""
    told: dict[str, spaces.Space] = {"a predictor of vectors": VECTOR, "images beside vectors": IMAGE}
    kwargs = {"learning_starts": 100, "buffer_size": 600, "seed": 0, **KINDS[kind], **kwargs}
    kwargs["policy_kwargs"] = {"hidden_size": 64, **kwargs.get("policy_kwargs", {})}
    models = []
    for model_class in (DRQN, PlainDRQN):
        if kind in told:
            env = make_vec_env(lambda: LastAction(FlickerObservation(ToyEnv(told[kind], max_length=20))), n_envs=2, seed=0)
            policy = "MultiInputLstmPolicy"
        else:
            env = make_vec_env(lambda: ToyEnv(SPACES[space], max_length=20), n_envs=2, seed=0)
            policy = "CnnLstmPolicy" if space.startswith("image") else "MlpLstmPolicy"
        models.append(model_class(policy, env, **{**kwargs, "precision": precision}))
    fast, plain = models
    assert isinstance(plain, PlainDRQN)
    return fast, plain


def fill(*models: DRQN) -> None:
    for model in models:
        model.learn(400)  # one that ends before the first update, if learning_starts says so
        model.q_net_target.load_state_dict(deepcopy(model.q_net.state_dict()))
        with th.no_grad():
            for parameter in model.q_net.parameters():
                parameter.mul_(1.2)
        model._learner.pull_weights()
        model.set_logger(Logger(None, []))


def loss_and_gradients(model: DRQN, samples: Any) -> tuple[th.Tensor, th.Tensor]:
    """The loss, and all gradients in one vector."""
    if isinstance(model, PlainDRQN):
        loss, network = model.compute_loss(samples), model.q_net
    else:
        loss, network = model._learner.compute_loss(samples)[0], model._learner.online.network
    gradients = th.autograd.grad(loss, list(network.parameters()))
    return loss, th.cat([gradient.float().flatten() for gradient in gradients])


@EACH_KIND
def test_in_float32_an_update_is_the_plain_one(kind: str) -> None:
    fast, plain = make_pair("float32", kind, learning_starts=400)
    fill(fast, plain)
    assert fast.replay_buffer is not None
    samples = fast.replay_buffer.sample(32)
    (loss, gradients), (plain_loss, plain_gradients) = (loss_and_gradients(model, samples) for model in (fast, plain))
    th.testing.assert_close(loss, plain_loss, rtol=1e-5, atol=1e-6)
    assert (gradients - plain_gradients).norm() < 1e-5 * plain_gradients.norm()
    assert plain.replay_buffer is not None
    plain.replay_buffer.sample(32)  # so that both go on to draw the same
    before = th.nn.utils.parameters_to_vector(plain.q_net.parameters())
    for model in (fast, plain):
        model.train(3)
    assert (plain.policy.q_net_ema is not None) == (kind == "averaged weights")
    # Adam's first steps divide gradients by their own size: where those are noise, so are the steps
    for networks in ([model.q_net for model in (fast, plain)], [model.policy.predicting_net for model in (fast, plain)]):
        after = [th.nn.utils.parameters_to_vector(network.parameters()) for network in networks]
        assert (after[0] - after[1]).norm() < 1e-2 * (after[1] - before).norm()


@EACH_KIND
def test_in_bfloat16_an_update_is_the_plain_one_within_its_precision(kind: str) -> None:
    fast, plain = make_pair("bfloat16", kind, learning_starts=400)
    fill(fast, plain)
    assert fast.replay_buffer is not None
    samples = fast.replay_buffer.sample(32)
    (loss, gradients), (plain_loss, plain_gradients) = (loss_and_gradients(model, samples) for model in (fast, plain))
    assert loss.dtype == th.float32
    assert 0 < (loss - plain_loss).abs() < 0.01 * plain_loss
    difference = (gradients - plain_gradients).norm() / plain_gradients.norm()
    assert 0 < difference < 0.08
    assert th.cosine_similarity(gradients, plain_gradients, dim=0) > 0.997


@pytest.mark.parametrize(("precision", "bound"), [("float32", 1e-5), ("bfloat16", 0.01)])
def test_q_values_while_acting_are_the_plain_ones(precision: str, bound: float) -> None:
    fast, plain = make_pair(precision, "the paper's", learning_starts=400)
    fill(fast, plain)
    network = fast._learner.online.network
    states, plain_states = network.zero_states(2), plain.q_net.zero_states(2)
    scale = 0.0
    for time in range(20):
        observations = th.randint(0, 255, (2, 1, 40, 38), dtype=th.uint8)
        starts = th.tensor([time % 7 == 0, time % 5 == 0])
        with th.inference_mode():
            q_values, states = network(observations, states, starts)
        with th.no_grad():
            plain_q_values, plain_states = plain.q_net(observations, plain_states, starts)
        scale = max(scale, plain_q_values.abs().max().item())
        assert (q_values - plain_q_values).abs().max() < bound * scale


@pytest.mark.parametrize(("kind", "space"), [("the paper's", "image, channels last"), ("a GRU", "vector")])
def test_a_whole_run_in_float32_learns_what_the_plain_one_learns(kind: str, space: str) -> None:
    # Random actions: the plain one would act on new weights a step earlier
    kwargs = {"exploration_final_eps": 1.0, "learning_rate": 1e-3, "target_update_interval": 50, "train_freq": 5}
    fast, plain = make_pair("float32", kind, space, **kwargs)
    after = []
    for model in (fast, plain):
        before = th.nn.utils.parameters_to_vector(model.q_net.parameters())
        model.learn(600)
        assert model._n_updates == 50
        after.append(th.nn.utils.parameters_to_vector(model.q_net.parameters()))
    assert (after[0] - after[1]).norm() < 0.01 * (after[1] - before).norm()
