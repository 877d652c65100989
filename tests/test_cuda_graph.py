"""Updates captured as a CUDA graph, against updates that are not."""

from typing import Any

import pytest
import torch as th
from stable_baselines3.common.env_util import make_vec_env
from toy_env import SPACES, ToyEnv

from drqn_sb3 import DRQN
from drqn_sb3.cuda_graph import N_WARM_UP, CapturedUpdate

pytestmark = pytest.mark.skipif(not th.cuda.is_available(), reason="needs a CUDA device")


def make_model(**kwargs: Any) -> DRQN:
    env = make_vec_env(lambda: ToyEnv(SPACES["image, channels last"]), n_envs=2, seed=0)
    kwargs = {"buffer_size": 400, "learning_starts": 40, "target_update_interval": 20, "seed": 1, "device": "cuda", **kwargs}
    return DRQN("CnnLstmPolicy", env, policy_kwargs={"hidden_size": 32}, **kwargs)


@pytest.mark.parametrize("kwargs", [{}, {"burn_in": 3, "n_steps": 3, "initial_state": "stored"}], ids=["zero", "stored"])
@pytest.mark.parametrize(("precision", "tolerance"), [("float32", 1e-4), ("bfloat16", 2e-2)])
def test_captured_updates_equal_plain_ones(precision: str, tolerance: float, kwargs: dict[str, Any]) -> None:
    learned, statistics = [], []
    for capture_graph in (True, False):
        model = make_model(precision=precision, capture_graph=capture_graph, learning_rate=lambda left: 1e-3 * left, **kwargs)
        model.learn(300)
        model.train(20)
        assert isinstance(model._learner._take_step, CapturedUpdate) == capture_graph
        assert model._n_updates > 10 * N_WARM_UP
        learned.append([parameter.detach() for parameter in model.policy.parameters()])
        statistics.append(model._learner.read_statistics())
    for one, other in zip(*learned, strict=True):
        th.testing.assert_close(one, other, rtol=tolerance, atol=tolerance)
    assert statistics[0] == pytest.approx(statistics[1], rel=10 * tolerance)


def test_batches_of_another_size_and_loaded_weights_are_no_obstacle() -> None:
    model = make_model().learn(200)
    model.train(5, batch_size=32)
    model.train(2, batch_size=16)
    model.set_parameters(make_model().get_parameters())
    before = [parameter.clone() for parameter in model.q_net.parameters()]
    model.train(2 * N_WARM_UP, batch_size=32)
    assert all(th.isfinite(parameter).all() for parameter in model.q_net.parameters())
    assert any(not th.equal(one, other) for one, other in zip(before, model.q_net.parameters(), strict=True))


def test_frames_live_on_the_gpu_if_they_fit_and_save_for_machines_without(tmp_path: Any) -> None:
    model = make_model().learn(100)
    assert model.replay_buffer is not None
    assert model.replay_buffer.storage.observations[""].device.type == "cuda"
    on_host = make_model(buffer_device="cpu").learn(100)
    assert on_host.replay_buffer is not None
    assert th.equal(on_host.replay_buffer.storage.observations[""], model.replay_buffer.storage.observations[""].cpu())
    model.save_replay_buffer(tmp_path / "buffer.pkl")
    on_host.load_replay_buffer(tmp_path / "buffer.pkl")
    assert on_host.replay_buffer.storage.observations[""].device.type == "cpu"
