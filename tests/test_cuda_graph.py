"""Updates captured as a CUDA graph, against updates that are not."""

from pathlib import Path
from typing import Any

import pytest
import torch as th
from stable_baselines3.common.env_util import make_vec_env
from toy_env import SPACES, ToyEnv

from drqn_sb3 import DRQN
from drqn_sb3.cuda_graph import N_WARM_UP, CapturedUpdate

NEEDS_CUDA = pytest.mark.skipif(not th.cuda.is_available(), reason="needs a CUDA device")
OPTIMIZERS: dict[str, dict[str, Any]] = {
    "fused Adam": {},
    "plain Adam": {"optimizer_kwargs": {"fused": False}},
    "RMSprop": {"optimizer_class": th.optim.RMSprop},
    "Adadelta": {"optimizer_class": th.optim.Adadelta},
    "SGD": {"optimizer_class": th.optim.SGD},
}


def make_model(policy_kwargs: dict[str, Any] | None = None, **kwargs: Any) -> DRQN:
    """A model that acts at random, so that what it sees does not hang on the last digits."""
    env = make_vec_env(lambda: ToyEnv(SPACES["image, channels last"]), n_envs=2, seed=0)
    kwargs = {"buffer_size": 400, "learning_starts": 40, "target_update_interval": 20, "seed": 1, "device": "cuda", **kwargs}
    kwargs["exploration_final_eps"] = 1.0
    return DRQN("CnnLstmPolicy", env, policy_kwargs={"hidden_size": 32, "ema_decay": 0.9, **(policy_kwargs or {})}, **kwargs)


def weights(model: DRQN) -> th.Tensor:
    """The online network's, and their average."""
    networks = (model.q_net, model.policy.predicting_net)
    return th.cat([th.nn.utils.parameters_to_vector(network.parameters()) for network in networks])


@NEEDS_CUDA
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("kwargs", [{}, {"burn_in": 3, "n_steps": 3, "initial_state": "stored"}], ids=["zero", "stored"])
@pytest.mark.parametrize(("precision", "bound"), [("float32", 0.02), ("bfloat16", 0.1)])
def test_captured_updates_equal_plain_ones(precision: str, bound: float, kwargs: dict[str, Any], optimizer: str) -> None:
    learned = []
    for capture_graph in (True, False):
        kwargs = {**kwargs, "precision": precision, "learning_rate": lambda left: 1e-3 * left}
        model = make_model(OPTIMIZERS[optimizer], capture_graph=capture_graph, **kwargs)
        before = weights(model)
        model.learn(300)
        take_step = model._learner._take_step
        is_captured = isinstance(take_step, CapturedUpdate) and take_step._graph is not None
        assert is_captured == (capture_graph and optimizer != "SGD")
        assert model._n_updates > 10 * N_WARM_UP
        learned.append(weights(model))
        assert model._learner.read_statistics()["loss"] > 0
    assert (learned[0] - learned[1]).norm() < bound * (learned[1] - before).norm()


@pytest.mark.parametrize("is_capturable", [True, False])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_an_optimizer_goes_on_wherever_its_state_was_saved(optimizer: str, is_capturable: bool, tmp_path: Path) -> None:
    model = make_model(OPTIMIZERS[optimizer], device="cpu").learn(60)
    for group in model.policy.optimizer.param_groups:
        # As on a CUDA device, or before there was a fused Adam here
        group.update({name: is_capturable for name in ("capturable", "fused") if name in group})
    model.save(tmp_path / "model")
    loaded = DRQN.load(tmp_path / "model", env=model.get_env(), device="cpu")
    loaded.learn(60)
    before = th.nn.utils.parameters_to_vector(loaded.q_net.parameters())
    loaded.train(2)
    assert not th.equal(before, th.nn.utils.parameters_to_vector(loaded.q_net.parameters()))
    for group, own in zip(loaded.policy.optimizer.param_groups, make_groups(optimizer), strict=True):
        assert {name: group.get(name) for name in ("capturable", "fused")} == own


def make_groups(optimizer: str) -> list[dict[str, Any]]:
    """The flags of an optimiser that was just made."""
    groups = make_model(OPTIMIZERS[optimizer], device="cpu").policy.optimizer.param_groups
    return [{name: group.get(name) for name in ("capturable", "fused")} for group in groups]


@NEEDS_CUDA
def test_batches_of_another_size_and_loaded_weights_are_no_obstacle() -> None:
    model = make_model().learn(200)
    model.train(5, batch_size=32)
    model.train(2, batch_size=16)
    model.set_parameters(make_model().get_parameters())
    before = [parameter.clone() for parameter in model.q_net.parameters()]
    model.train(2 * N_WARM_UP, batch_size=32)
    assert all(th.isfinite(parameter).all() for parameter in model.q_net.parameters())
    assert any(not th.equal(one, other) for one, other in zip(before, model.q_net.parameters(), strict=True))


@NEEDS_CUDA
def test_frames_live_on_the_gpu_if_they_fit_and_save_for_machines_without(tmp_path: Path) -> None:
    model = make_model().learn(100)
    assert model.replay_buffer is not None
    assert model.replay_buffer.storage.observations[""].device.type == "cuda"
    on_host = make_model(buffer_device="cpu").learn(100)
    assert on_host.replay_buffer is not None
    assert th.equal(on_host.replay_buffer.storage.observations[""], model.replay_buffer.storage.observations[""].cpu())
    model.save_replay_buffer(tmp_path / "buffer.pkl")
    on_host.load_replay_buffer(tmp_path / "buffer.pkl")
    assert on_host.replay_buffer.storage.observations[""].device.type == "cpu"
