import io
import json
import warnings
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch as th
from sb3_contrib import RecurrentPPO
from stable_baselines3 import DQN
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.save_util import load_from_zip_file

from drqn_sb3 import DRQN
from drqn_sb3.envs import RecallEnv
from eval.shipping.model_zip import LEFT_BEHIND, strip_model

LEARNING: dict[str, Any] = {"learning_starts": 60, "buffer_size": 500, "batch_size": 4, "target_update_interval": 1_000}
MAKERS: dict[str, Any] = {
    "drqn": lambda: DRQN("MlpLstmPolicy", RecallEnv(), seed=0, **LEARNING, sequence_length=4, device="cpu"),
    "drqn, averaged": lambda: DRQN(
        "MlpLstmPolicy",
        RecallEnv(),
        seed=0,
        **LEARNING,
        sequence_length=4,
        learning_rate=1e-2,
        policy_kwargs={"ema_decay": 0.9},
        device="cpu",
    ),
    "dqn": lambda: DQN("MlpPolicy", RecallEnv(), seed=0, **LEARNING, policy_kwargs={"net_arch": [64, 64]}, device="cpu"),
    "ppo_lstm": lambda: RecurrentPPO(
        "MlpLstmPolicy", RecallEnv(), seed=0, n_steps=64, batch_size=64, n_epochs=1, device="cpu"
    ),
}


def trained(name: str, folder: Path) -> tuple[BaseAlgorithm, Path]:
    model: BaseAlgorithm = MAKERS[name]().learn(128)
    model.save(folder / "trained.zip")
    return model, folder / "trained.zip"


@pytest.fixture(params=MAKERS, name="case", scope="module")
def fixture_case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[BaseAlgorithm, Path, Path]:
    folder = tmp_path_factory.mktemp(request.param)
    model, source = trained(request.param, folder)
    strip_model(source, folder / "small.zip")
    return model, source, folder / "small.zip"


def acts(model: Any, n: int = 40) -> tuple[list[Any], list[Any]]:
    """Actions and states on made-up observations."""
    generator, state, actions, states = np.random.default_rng(0), None, [], []
    for step in range(n):
        observations = generator.random((3, 3)).astype(np.float32)
        starts = np.full(3, step % 9 == 0)
        chosen, state = model.predict(observations, state=state, episode_start=starts, deterministic=True)
        actions.append(chosen)
        states.append(state)
    return actions, states


def test_a_stripped_model_acts_and_remembers_as_the_trained_one(case: tuple[BaseAlgorithm, Path, Path]) -> None:
    model, _, small = case
    for ours, theirs in zip(acts(type(model).load(small, device="cpu")), acts(model), strict=True):
        th.testing.assert_close(ours, theirs, rtol=0, atol=0)


def test_a_stripped_model_goes_on_learning_with_a_fresh_optimiser(case: tuple[BaseAlgorithm, Path, Path]) -> None:
    model, _, small = case
    env: Any = RecallEnv()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        loaded = type(model).load(small, env=env, device="cpu")
    assert not loaded.policy.optimizer.state
    assert loaded.num_timesteps == model.num_timesteps
    assert loaded.policy.optimizer.param_groups[0]["lr"] == model.policy.optimizer.param_groups[0]["lr"]
    before = [parameter.clone() for parameter in loaded.policy.parameters()]
    loaded.learn(128, reset_num_timesteps=False)
    assert loaded.num_timesteps >= model.num_timesteps + 128
    assert any(not th.equal(one, other) for one, other in zip(before, loaded.policy.parameters(), strict=True))
    assert loaded.policy.optimizer.state


@pytest.mark.parametrize(("name", "n_networks"), [("drqn", 2), ("drqn, averaged", 3), ("dqn", 2)])
def test_a_models_networks_share_their_storage_in_the_file_and_are_all_restored(
    name: str, n_networks: int, tmp_path: Path
) -> None:
    model: Any
    model, source = trained(name, tmp_path)
    weights: dict[str, th.Tensor] = model.policy.state_dict()
    assert any(not th.equal(weights[key], weights[key.replace("q_net_target", "q_net")]) for key in weights)
    strip_model(source, tmp_path / "small.zip")
    sizes = []
    for path in (source, tmp_path / "small.zip"):
        with zipfile.ZipFile(path) as archive, zipfile.ZipFile(io.BytesIO(archive.read("policy.pth"))) as inner:
            sizes.append(sum(info.file_size for info in inner.infolist() if "/data/" in info.filename))
    assert sizes[1] * n_networks == sizes[0]
    loaded: Any = type(model).load(tmp_path / "small.zip", device="cpu")
    for online, target in zip(loaded.q_net.parameters(), loaded.q_net_target.parameters(), strict=True):
        assert th.equal(online, target)
        assert online.data_ptr() != target.data_ptr()
    if name == "drqn, averaged":
        assert not th.equal(next(model.q_net.parameters()), next(model.policy.q_net_ema.parameters()))
        for online, average, trained_average in zip(
            *(network.parameters() for network in (loaded.q_net, loaded.policy.q_net_ema, model.policy.q_net_ema)), strict=True
        ):
            assert th.equal(online, average) and th.equal(average, trained_average)
            assert online.data_ptr() != average.data_ptr()


def test_a_stripped_q_learner_is_less_than_a_third_as_large(tmp_path: Path) -> None:
    _, source = trained("dqn", tmp_path)
    strip_model(source, tmp_path / "small.zip")
    assert (tmp_path / "small.zip").stat().st_size < source.stat().st_size / 3


def test_nothing_of_the_moment_at_which_training_ended_is_left(case: tuple[BaseAlgorithm, Path, Path]) -> None:
    _, source, small = case
    saved, _, _ = load_from_zip_file(source, device="cpu")
    kept, parameters, _ = load_from_zip_file(small, device="cpu")
    assert saved is not None and kept is not None
    assert set(saved) - set(kept) == set(LEFT_BEHIND) & set(saved)
    assert saved["_last_obs"] is not None, "there was something to leave behind"
    optimizer: Any = parameters["policy.optimizer"]
    assert optimizer["state"] == {}
    with zipfile.ZipFile(source) as archive, zipfile.ZipFile(small) as other:
        assert set(archive.namelist()) - set(other.namelist()) == {"system_info.txt"}


def test_the_same_model_gives_the_same_bytes(case: tuple[BaseAlgorithm, Path, Path], tmp_path: Path) -> None:
    _, source, small = case
    strip_model(source, tmp_path / "again.zip")
    assert small.read_bytes() == (tmp_path / "again.zip").read_bytes()
    strip_model(small, tmp_path / "twice.zip")
    assert small.read_bytes() == (tmp_path / "twice.zip").read_bytes(), "what is small stays as it is"


def a_zip(path: Path, members: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


NO_MODELS = {
    "no zip": (None, "damaged"),
    "another zip": ({"a.txt": b"a"}, "a model of Stable-Baselines3, got a zip of a.txt"),
    "no weights": ({"data": json.dumps({}).encode()}, "got a zip of data"),
    "attributes that are a list": ({"data": b"[]", "policy.pth": b""}, "damaged: its attributes must be a dict, got list"),
    "damaged weights": ({"data": b"{}", "policy.pth": b"weights"}, r"damaged: Weights only load failed[^\n]*$"),
    "weights cut short": ({"data": b"{}", "policy.pth": b""}, "damaged"),
    "damaged data": ({"data": b"{", "policy.pth": b""}, "damaged"),
}


@pytest.mark.parametrize(("members", "message"), NO_MODELS.values(), ids=NO_MODELS.keys())
def test_what_is_no_model_is_refused(members: dict[str, bytes] | None, message: str, tmp_path: Path) -> None:
    path = tmp_path / "model.zip"
    if members is None:
        path.write_bytes(b"nothing")
    else:
        a_zip(path, members)
    with pytest.raises(ValueError, match=message):
        strip_model(path, tmp_path / "small.zip")
    assert not (tmp_path / "small.zip").exists()
