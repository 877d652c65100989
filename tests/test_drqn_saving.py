"""Saving, loading and going on: models, replay buffers, parameters; and files that are none of these."""

import io
import json
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch as th
from sb3_contrib import QRDQN, RecurrentPPO
from stable_baselines3 import A2C, DQN, PPO
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import VecNormalize
from toy_env import POLICIES, SPACES, CountingEnv, ToyEnv

import drqn_sb3
from drqn_sb3 import DRQN, SequenceReplayBuffer
from drqn_sb3.model_files import read_model_data
from drqn_sb3.recurrent import LSTM
from drqn_sb3.type_aliases import RecurrentStates, SequenceSamples

SMALL: dict[str, Any] = {"buffer_size": 300, "learning_starts": 20, "sequence_length": 4, "batch_size": 4, "seed": 0}


def make_model(env: Any = None, policy: str = "MlpLstmPolicy", **kwargs: Any) -> DRQN:
    return DRQN(policy, env or ToyEnv(), **{**SMALL, **kwargs})


def replay_buffer(model: DRQN) -> SequenceReplayBuffer:
    assert model.replay_buffer is not None
    return model.replay_buffer


def assert_act_alike(first: DRQN, second: DRQN) -> None:
    """See whether two models give the same actions and states, step after step."""
    state = other_state = None
    first.observation_space.seed(0)
    for _ in range(5):
        observation: Any = first.observation_space.sample()
        action, state = first.predict(observation, state, deterministic=True)
        other_action, other_state = second.predict(observation, other_state, deterministic=True)
        assert action == other_action
        assert state is not None and other_state is not None
        assert all(np.array_equal(one, other) for one, other in zip(state, other_state, strict=True))


def assert_parameters_equal(first: DRQN, second: DRQN) -> None:
    for one, other in zip(first.policy.parameters(), second.policy.parameters(), strict=True):
        assert th.equal(one, other)


# --- models ---


class SquashedLSTM(LSTM):
    """A cell of one's own."""

    def step(self, layer: int, projected: th.Tensor, states: RecurrentStates) -> RecurrentStates:
        hidden, memory = super().step(layer, projected, states)
        return hidden.tanh(), memory


SAVED: dict[str, Callable[[], DRQN]] = {
    "plain": make_model,
    "image": lambda: make_model(ToyEnv(SPACES["image, channels last"]), "CnnLstmPolicy", policy_kwargs={"hidden_size": 8}),
    "dict": lambda: make_model(ToyEnv(SPACES["dict"]), POLICIES["dict"], policy_kwargs={"recurrent_cell": "gru"}),
    "own cell": lambda: make_model(policy_kwargs={"recurrent_cell": SquashedLSTM, "n_recurrent_layers": 2, "dueling": True}),
    "several environments": lambda: make_model(make_vec_env(ToyEnv, n_envs=3), policy_kwargs={"net_arch": [8]}),
    "episodes": lambda: make_model(train_freq=(1, "episode")),
    "schedule": lambda: make_model(learning_rate=lambda progress: 1e-3 * progress),
}


@pytest.mark.parametrize("make", SAVED.values(), ids=SAVED.keys())
def test_a_loaded_model_acts_alike_and_goes_on_learning(make: Callable[[], DRQN], tmp_path: Path) -> None:
    model = make()
    model.learn(60)
    model.save(tmp_path / "model")
    alone = DRQN.load(tmp_path / "model.zip")
    assert_parameters_equal(model, alone)
    assert_act_alike(model, alone)
    loaded = DRQN.load(tmp_path / "model", env=model.get_env())
    loaded.learn(40, reset_num_timesteps=False)
    assert model.num_timesteps + 40 <= loaded.num_timesteps < model.num_timesteps + 60
    assert loaded._n_updates > model._n_updates
    assert not th.equal(next(model.q_net.parameters()), next(loaded.q_net.parameters()))


ARGUMENTS: dict[str, Any] = {
    "sequence_length": 6,
    "burn_in": 2,
    "n_steps": 3,
    "double_q": False,
    "initial_state": "stored",
    "replay": "random",
    "exploration_steps": 500,
    "gamma": 0.95,
    "max_grad_norm": 3.0,
    "prediction_coef": 0.25,
    "replay_buffer_kwargs": {},
    "policy_kwargs": {"hidden_size": 5, "recurrent_cell": "gru", "predictor": [4], "ema_decay": 0.9},
}


def test_a_loaded_model_has_the_arguments_it_was_made_with(tmp_path: Path) -> None:
    model = make_model(**ARGUMENTS)
    model.learn(60)
    model.save(tmp_path / "model")
    loaded = DRQN.load(tmp_path / "model")
    assert {name: getattr(loaded, name) for name in ARGUMENTS} == ARGUMENTS
    assert loaded.exploration_rate == model.exploration_rate != model.exploration_initial_eps
    buffer = replay_buffer(loaded)
    assert (buffer.sequence_length, buffer.burn_in, buffer.n_steps) == (6, 2, 3)
    assert replay_buffer(loaded).storage.observations == {}


def test_arguments_can_be_changed_when_loading(tmp_path: Path) -> None:
    make_model().save(tmp_path / "model")
    loaded = DRQN.load(tmp_path / "model", env=ToyEnv(), burn_in=3, exploration_steps=9, learning_rate=1e-2)
    loaded.learn(40)
    assert replay_buffer(loaded).burn_in == 3
    assert loaded.exploration_rate == pytest.approx(loaded.exploration_final_eps)
    with pytest.raises(ValueError, match="burn_in must be at least 0, got -1"):
        DRQN.load(tmp_path / "model", burn_in=-1)


def test_the_optimizer_goes_on_where_it_was(tmp_path: Path) -> None:
    model = make_model()
    model.learn(60)
    model.save(tmp_path / "model")
    states = [
        model.policy.optimizer.state_dict()["state"],
        DRQN.load(tmp_path / "model").policy.optimizer.state_dict()["state"],
    ]
    assert len(states[0]) > 0
    for index, state in states[0].items():
        assert th.equal(state["exp_avg"], states[1][index]["exp_avg"])


def test_a_model_can_be_saved_to_a_stream() -> None:
    stream = io.BytesIO()
    model = make_model()
    model.save(stream)
    stream.seek(0)
    assert_act_alike(model, DRQN.load(stream))


def test_a_model_may_be_loaded_with_another_number_of_environments(tmp_path: Path) -> None:
    make_model().save(tmp_path / "model")
    loaded = DRQN.load(tmp_path / "model", env=make_vec_env(ToyEnv, n_envs=3))
    loaded.learn(60)
    assert loaded.n_envs == replay_buffer(loaded).n_envs == 3


def test_a_loaded_model_learns_in_an_environment_given_later(tmp_path: Path) -> None:
    make_model().save(tmp_path / "model")
    loaded = DRQN.load(tmp_path / "model")
    loaded.set_env(ToyEnv())
    loaded.learn(40)
    assert loaded._n_updates > 0
    with pytest.raises(AssertionError, match="number of environments"):
        loaded.set_env(make_vec_env(ToyEnv, n_envs=2))
    with pytest.raises(ValueError, match="Observation spaces do not match"):
        loaded.set_env(ToyEnv(SPACES["discrete"]))


def test_normalised_environments_are_known_again_when_given(tmp_path: Path) -> None:
    model = make_model(VecNormalize(make_vec_env(ToyEnv)))
    model.learn(40)
    model.save(tmp_path / "model")
    loaded = DRQN.load(tmp_path / "model", env=model.get_env())
    loaded.learn(40)
    assert loaded.get_vec_normalize_env() is model.get_vec_normalize_env()


def test_parameters_can_be_taken_and_given(tmp_path: Path) -> None:
    model, other = make_model(), make_model(seed=1)
    model.learn(40)
    parameters: dict[str, Any] = model.get_parameters()
    other.set_parameters(parameters)
    assert_parameters_equal(model, other)
    model.save(tmp_path / "model")
    another = make_model(seed=2)
    another.set_parameters(str(tmp_path / "model.zip"))
    assert_parameters_equal(model, another)
    with pytest.raises(ValueError, match="Names of parameters do not match"):
        other.set_parameters({"policy": parameters["policy"]})
    with pytest.raises(RuntimeError, match="size mismatch"):
        make_model(policy_kwargs={"hidden_size": 5}).set_parameters(parameters)


# --- files that are no models ---


def damaged(content: bytes, at: float) -> bytes:
    """Overwrite 20 bytes of a file."""
    position = int(at * len(content))
    return content[:position] + b"\xa5" * 20 + content[position + 20 :]


DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda content: b"",
    "cut after 100 bytes": lambda content: content[:100],
    "cut in half": lambda content: content[: len(content) // 2],
    "cut at its end": lambda content: content[:-5],
    "overwritten early": lambda content: damaged(content, 0.1),
    "overwritten in its middle": lambda content: damaged(content, 0.5),
    "overwritten late": lambda content: damaged(content, 0.9),
    "text": lambda content: b"not a model",
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES.keys())
def test_a_damaged_model_is_refused(damage: Callable[[bytes], bytes], tmp_path: Path) -> None:
    path = tmp_path / "model.zip"
    make_model().save(path)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(ValueError, match=r"model\.zip is (damaged: the checksum|no saved model, or a damaged one)"):
        DRQN.load(path)


def test_an_archive_of_something_else_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "model.zip", "w") as archive:
        archive.writestr("letter.txt", "Dear reader")
    with pytest.raises(ValueError, match=r"model\.zip is no saved model, or a damaged one: it holds \['letter\.txt'\]"):
        DRQN.load(tmp_path / "model.zip")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"nowhere\.zip"):
        DRQN.load(tmp_path / "nowhere")


OTHERS: dict[str, tuple[Callable[[], BaseAlgorithm], str]] = {
    "DQN, learning at once": (lambda: DQN("MlpPolicy", ToyEnv(), learning_starts=0, buffer_size=10), "DQN"),
    "DQN": (lambda: DQN("MlpPolicy", ToyEnv(), learning_starts=100, buffer_size=10), "DQN"),
    "PPO": (lambda: PPO("MlpPolicy", ToyEnv(), n_steps=8, batch_size=4), "PPO, as it seems"),
    "A2C": (lambda: A2C("MlpPolicy", ToyEnv()), "A2C, as it seems"),
    "QR-DQN": (lambda: QRDQN("MlpPolicy", ToyEnv(), buffer_size=10), "QRDQN"),
    "recurrent PPO": (lambda: RecurrentPPO("MlpLstmPolicy", ToyEnv(), n_steps=8, batch_size=4), "RecurrentPPO"),
}


@pytest.mark.parametrize(("make", "name"), OTHERS.values(), ids=OTHERS.keys())
def test_a_model_of_another_algorithm_is_refused(make: Callable[[], BaseAlgorithm], name: str, tmp_path: Path) -> None:
    make().save(tmp_path / "model")
    with pytest.raises(ValueError, match=rf"model holds a model of {name}, not of DRQN"):
        DRQN.load(tmp_path / "model")


def test_a_run_checkpoint_is_told_from_a_model(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "run.zip", "w") as archive:
        archive.writestr("manifest.json", "{}")
    with pytest.raises(ValueError, match=r"run is a run checkpoint, not a model: resume it with RunCheckpointCallback"):
        DRQN.load(tmp_path / "run")


# --- versions ---


def rewrite(path: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Change what a saved model says about itself."""
    with zipfile.ZipFile(path) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    data = json.loads(parts["data"])
    change(data)
    parts["data"] = json.dumps(data).encode()
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in parts.items():
            archive.writestr(name, content)


def saved_model(path: Path) -> DRQN:
    model = make_model()
    model.learn(60)
    model.save(path)
    return model


def test_a_model_is_saved_with_the_version_that_wrote_it(tmp_path: Path) -> None:
    saved_model(tmp_path / "model.zip")
    assert read_model_data(tmp_path / "model")["drqn_sb3_version"] == drqn_sb3.__version__


NEWER = ["99.0.0", "0.999.3.dev1", "next", 5]


@pytest.mark.parametrize("version", NEWER)
def test_a_newer_version_s_model_is_loaded_with_a_warning_and_without_what_is_unknown(version: Any, tmp_path: Path) -> None:
    path = tmp_path / "model.zip"
    model = saved_model(path)
    rewrite(path, lambda data: data.update(drqn_sb3_version=version, soft_burn_in=3, attention=True))
    with pytest.warns(UserWarning, match=f"saved by drqn_sb3 {version}, this is .* left out: attention, soft_burn_in$"):
        loaded = DRQN.load(path)
    assert_parameters_equal(model, loaded)
    assert not hasattr(loaded, "soft_burn_in") and not hasattr(loaded, "attention")
    assert vars(loaded)["drqn_sb3_version"] == drqn_sb3.__version__


def test_of_a_newer_version_s_model_without_anything_unknown_nothing_is_left_out(tmp_path: Path) -> None:
    saved_model(tmp_path / "model.zip")
    rewrite(tmp_path / "model.zip", lambda data: data.update(drqn_sb3_version="99.0.0"))
    with pytest.warns(UserWarning, match="may act or learn otherwise than there$"):
        DRQN.load(tmp_path / "model.zip")


OLDER: dict[str, Callable[[dict[str, Any]], None]] = {
    "without a version": lambda data: data.pop("drqn_sb3_version"),
    "an older one": lambda data: data.update(drqn_sb3_version="0.0.9"),
    "another patch": lambda data: data.update(drqn_sb3_version=f"{drqn_sb3.__version__}.7"),
    "with an attribute of the user's": lambda data: data.update(note="mine"),
}


@pytest.mark.parametrize("change", OLDER.values(), ids=OLDER.keys())
def test_other_models_are_loaded_as_they_are(change: Callable[[dict[str, Any]], None], tmp_path: Path) -> None:
    path = tmp_path / "model.zip"
    model = saved_model(path)
    rewrite(path, change)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        loaded = DRQN.load(path)
    assert_parameters_equal(model, loaded)
    assert getattr(loaded, "note", "mine") == "mine"


def test_matters_of_the_machine_are_not_saved(tmp_path: Path) -> None:
    make_model(step_timeout=5.0, buffer_device="cpu").save(tmp_path / "model")
    loaded = DRQN.load(tmp_path / "model")
    assert (loaded.step_timeout, loaded.buffer_device) == (600.0, "auto")
    assert DRQN.load(tmp_path / "model", step_timeout=None).step_timeout is None


def test_a_stream_is_read_from_where_it_is(tmp_path: Path) -> None:
    stream = io.BytesIO()
    model = saved_model(tmp_path / "model.zip")
    stream.write((tmp_path / "model.zip").read_bytes())
    stream.seek(0)
    assert_parameters_equal(model, DRQN.load(stream))


# --- replay buffers ---


def assert_samples_equal(first: SequenceSamples, second: SequenceSamples) -> None:
    for name, one, other in zip(first._fields, first, second, strict=True):
        if isinstance(one, tuple):
            assert isinstance(other, tuple)
            assert all(th.equal(*pair) for pair in zip(one, other, strict=True)), name
        else:
            assert one is other is None or th.equal(one, other), name  # type: ignore[arg-type]


BUFFERS: dict[str, dict[str, Any]] = {
    "plain": {},
    "stored, burn-in": {"initial_state": "stored", "burn_in": 2, "n_steps": 3},
    "3 environments": {"env": make_vec_env(CountingEnv, n_envs=3)},
}


@pytest.mark.parametrize("kwargs", BUFFERS.values(), ids=BUFFERS.keys())
def test_a_loaded_replay_buffer_goes_on_as_the_saved_one_would(kwargs: dict[str, Any], tmp_path: Path) -> None:
    model = make_model(**{"env": make_vec_env(CountingEnv), **kwargs})
    model.learn(100)
    model.save_replay_buffer(tmp_path / "buffer")
    other = make_model(**{"env": make_vec_env(CountingEnv), **kwargs})
    other.load_replay_buffer(tmp_path / "buffer", truncate_last_traj=False)
    assert replay_buffer(other).size() == replay_buffer(model).size() > 100
    for _ in range(3):
        assert_samples_equal(replay_buffer(model).sample(16), replay_buffer(other).sample(16))
    other.learn(40)
    assert other._n_updates > 0


@pytest.mark.parametrize("is_cut", [True, False], ids=["cut off", "left open"])
def test_a_loaded_replay_buffers_running_episode_is_cut_off_unless_told_otherwise(is_cut: bool, tmp_path: Path) -> None:
    model = make_model(make_vec_env(CountingEnv), train_freq=1, gradient_steps=0)
    model.learn(38)
    model.save_replay_buffer(tmp_path / "buffer")
    model.load_replay_buffer(tmp_path / "buffer", truncate_last_traj=is_cut)
    storage = replay_buffer(model).storage
    newest = int(storage.newest[0])
    assert storage.final[newest] == storage.truncated[newest - 1] == is_cut
    model.learn(1, reset_num_timesteps=False)
    assert storage.observations[""].numpy()[newest + 1].tolist() == ([5, 3] if is_cut else [5, 4])
    assert storage.episode_starts[newest + 1] == is_cut


def test_a_loaded_model_begins_new_episodes_for_its_recurrent_states_are_gone(tmp_path: Path) -> None:
    env = make_vec_env(CountingEnv)
    model = make_model(env, initial_state="stored")
    model.learn(38)
    model.save(tmp_path / "model")
    model.save_replay_buffer(tmp_path / "buffer")
    loaded = DRQN.load(tmp_path / "model", env=env, force_reset=False)
    loaded.load_replay_buffer(tmp_path / "buffer", truncate_last_traj=False)
    storage = replay_buffer(loaded).storage
    newest = int(storage.newest[0])
    assert loaded._last_obs is not None and storage.is_open[0]
    loaded.learn(1, reset_num_timesteps=False)
    assert storage.truncated[newest - 1] and storage.final[newest] and storage.episode_starts[newest + 1]


def test_rows_of_a_loaded_sequential_buffer_begin_with_an_episode(tmp_path: Path) -> None:
    model = make_model(make_vec_env(CountingEnv), replay="sequential", batch_size=8)
    model.learn(100)
    model.save_replay_buffer(tmp_path / "buffer")
    model.load_replay_buffer(tmp_path / "buffer")
    assert replay_buffer(model).sample(8).episode_starts[0].all()
    model.train(3, batch_size=8)


REFUSED_BUFFERS: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    # what the saved model was made with, what the loading one is, and what is said
    "environments": ({}, {"env": make_vec_env(ToyEnv, n_envs=2)}, "has n_envs=1, the model needs 2"),
    "observations": ({"env": ToyEnv(SPACES["discrete"])}, {}, r"has observation_space=Discrete\(5\), the model needs Box\("),
    "actions": ({"env": ToyEnv(n_actions=4)}, {}, r"has action_space=Discrete\(4\), the model needs Discrete\(3\)"),
    "sequence": ({"sequence_length": 6}, {}, "has sequence_length=6, the model needs 4"),
    "burn-in": ({"burn_in": 2}, {}, "has burn_in=2, the model needs 0"),
    "n steps": ({"n_steps": 3}, {}, "has n_steps=3, the model needs 1"),
    "replay": ({"replay": "sequential"}, {}, 'was made for another replay than the model\'s "random"'),
    "no states": ({}, {"initial_state": "stored"}, r"holds states of shapes \[\], the model needs \[\(1, 64\), \(1, 64\)\]"),
    "states of another cell": (
        {"initial_state": "stored", "policy_kwargs": {"recurrent_cell": "gru"}},
        {"initial_state": "stored"},
        r"holds states of shapes \[\(1, 64\)\], the model needs \[\(1, 64\), \(1, 64\)\]",
    ),
    "smaller states": (
        {"initial_state": "stored", "policy_kwargs": {"hidden_size": 8}},
        {"initial_state": "stored"},
        r"holds states of shapes \[\(1, 8\), \(1, 8\)\], the model needs \[\(1, 64\)",
    ),
}


@pytest.mark.parametrize(("saved", "own", "message"), REFUSED_BUFFERS.values(), ids=REFUSED_BUFFERS.keys())
def test_a_replay_buffer_that_does_not_fit_is_refused(
    saved: dict[str, Any], own: dict[str, Any], message: str, tmp_path: Path
) -> None:
    model = make_model(**saved)
    model.learn(30)
    model.save_replay_buffer(tmp_path / "buffer")
    loading = make_model(**own)
    kept = loading.replay_buffer
    with pytest.raises(ValueError, match=rf"the replay buffer in .*buffer {message}"):
        loading.load_replay_buffer(tmp_path / "buffer")
    assert loading.replay_buffer is kept


def test_a_replay_buffer_given_by_hand_must_hold_states_if_they_are_wanted() -> None:
    model, stored = make_model(), make_model(initial_state="stored")
    model.learn(30)
    stored.learn(4)
    stored.replay_buffer = model.replay_buffer
    with pytest.raises(ValueError, match='initial_state="stored" needs a replay buffer filled with stored states'):
        stored.train(1)


def test_a_stock_replay_buffer_is_refused(tmp_path: Path) -> None:
    DQN("MlpPolicy", ToyEnv(), buffer_size=10).save_replay_buffer(tmp_path / "buffer")
    with pytest.raises(TypeError, match=r"expected a SequenceReplayBuffer in .*buffer, got ReplayBuffer"):
        make_model().load_replay_buffer(tmp_path / "buffer")


@pytest.mark.parametrize("damage", [DAMAGES[name] for name in ("empty", "cut in half", "cut at its end", "text")])
def test_a_damaged_replay_buffer_is_refused(damage: Callable[[bytes], bytes], tmp_path: Path) -> None:
    model = make_model()
    model.learn(30)
    path = tmp_path / "buffer.pkl"
    model.save_replay_buffer(path)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(ValueError, match=r"buffer\.pkl holds no replay buffer, or is damaged: ."):
        model.load_replay_buffer(path)


def test_a_model_is_no_replay_buffer(tmp_path: Path) -> None:
    model = make_model()
    model.save(tmp_path / "model.zip")
    with pytest.raises(ValueError, match=r"model\.zip holds no replay buffer, or is damaged"):
        model.load_replay_buffer(tmp_path / "model.zip")


def test_where_observations_are_kept_is_no_matter_of_the_saved_model(tmp_path: Path) -> None:
    model = make_model(buffer_device="cpu")
    model.buffer_device = "cuda"  # as one trained on a GPU
    model.save(tmp_path / "model")
    loaded = DRQN.load(tmp_path / "model", env=model.get_env(), device="cpu")
    assert loaded.buffer_device == "auto"
    assert replay_buffer(loaded).storage.device.type == "cpu"
