"""DRQN in the ways that people use SB3's algorithms: every kind of environment and argument, logs, seeds, callbacks."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from stable_baselines3.common.callbacks import CallbackList, CheckpointCallback, ConvertCallback
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.logger import KVWriter, Logger
from stable_baselines3.common.vec_env import SubprocVecEnv, VecEnv, VecFrameStack, VecNormalize, VecTransposeImage
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator  # type: ignore[import-untyped]
from torch import nn
from toy_env import POLICIES, SPACES, CountingEnv, ToyEnv

from drqn_sb3 import DRQN
from drqn_sb3.recurrent import GRU

SMALL: dict[str, Any] = {"buffer_size": 300, "learning_starts": 20, "sequence_length": 4, "batch_size": 4, "seed": 0}


def make_model(env: Any = None, policy: str = "MlpLstmPolicy", **kwargs: Any) -> DRQN:
    return DRQN(policy, env or ToyEnv(), **{**SMALL, **kwargs})


def parameters_of(model: DRQN) -> list[th.Tensor]:
    return [parameter.detach().clone() for parameter in model.q_net.parameters()]


def assert_learns(model: DRQN, n_steps: int = 60) -> None:
    """See whether learning changes every parameter, and none beyond measure."""
    before = parameters_of(model)
    model.learn(n_steps)
    assert model._n_updates > 0
    for (name, new), old in zip(model.q_net.named_parameters(), before, strict=True):
        assert th.isfinite(new).all()
        assert not th.equal(old, new), f"{name} has not changed"


@pytest.mark.parametrize("n_envs", [1, 3])
@pytest.mark.parametrize("name", SPACES)
def test_every_observation_space_can_be_learned_from(name: str, n_envs: int) -> None:
    env = make_vec_env(ToyEnv, n_envs=n_envs, env_kwargs={"space": SPACES[name]})
    assert_learns(make_model(env, POLICIES.get(name, "MlpLstmPolicy")))


NORMALIZED: dict[str, tuple[str, dict[str, Any]]] = {
    "vector": ("vector", {}),
    "float64": ("float64", {"norm_reward": False}),
    "dict": ("dict", {"norm_obs_keys": ["vector"]}),
    "rewards of an image": ("image, channels last", {"norm_obs": False}),
    "rewards of channels first": ("image, channels first", {"norm_obs": False}),
}


@pytest.mark.parametrize(("name", "kwargs"), NORMALIZED.values(), ids=NORMALIZED.keys())
def test_normalised_environments_can_be_learned_from(name: str, kwargs: dict[str, Any]) -> None:
    env = make_vec_env(ToyEnv, n_envs=2, env_kwargs={"space": SPACES[name]})
    if name in ("dict", "image, channels last"):
        env = VecTransposeImage(env)
    assert_learns(make_model(VecNormalize(env, **kwargs), POLICIES.get(name, "MlpLstmPolicy")))


@pytest.mark.parametrize("name", ["image, channels last", "dict"])
def test_images_turned_after_normalisation_are_refused(name: str) -> None:
    env = make_vec_env(ToyEnv, env_kwargs={"space": SPACES[name]})
    kwargs: dict[str, Any] = {"norm_obs": False} if name != "dict" else {"norm_obs_keys": ["vector"]}
    with pytest.raises(ValueError, match=r"VecNormalize must come after .* it has .*\(40, 38, 1\).* gets .*\(1, 40, 38\)"):
        make_model(VecNormalize(env, **kwargs), POLICIES[name])


STACKED: dict[str, tuple[str, tuple[int, ...]]] = {
    # observation space, shape of what the agent gets: 4 observations, channels first
    "vector": ("vector", (12,)),
    "image, channels last": ("image, channels last", (4, 40, 38)),
    "image, channels first": ("image, channels first", (8, 36, 36)),
}


@pytest.mark.parametrize(("name", "shape"), STACKED.values(), ids=STACKED.keys())
def test_stacked_frames_can_be_learned_from(name: str, shape: tuple[int, ...]) -> None:
    env = VecFrameStack(make_vec_env(ToyEnv, n_envs=2, env_kwargs={"space": SPACES[name]}), n_stack=4)
    model = make_model(env, POLICIES.get(name, "MlpLstmPolicy"))
    assert model.observation_space.shape == shape
    assert_learns(model)


class LeakyGRU(GRU):
    """A cell of one's own."""

    def step(self, layer: int, projected: th.Tensor, states: tuple[th.Tensor, ...]) -> tuple[th.Tensor, ...]:
        (new,) = super().step(layer, projected, states)
        return (0.9 * new + 0.1 * states[0],)


WAYS: dict[str, dict[str, Any]] = {
    "burn-in, n steps, stored": {"burn_in": 3, "n_steps": 3, "initial_state": "stored"},
    "sequential": {"replay": "sequential"},
    "the paper's optimizer": {"policy_kwargs": {"optimizer_class": th.optim.Adadelta, "optimizer_kwargs": {"rho": 0.95}}},
    "the replication's optimizer": {"policy_kwargs": {"optimizer_class": th.optim.RMSprop, "optimizer_kwargs": {"eps": 0.01}}},
    "gru": {"policy_kwargs": {"recurrent_cell": "gru"}},
    "own cell": {"policy_kwargs": {"recurrent_cell": LeakyGRU, "hidden_size": 5}},
    "dueling, 2 layers": {"policy_kwargs": {"dueling": True, "n_recurrent_layers": 2}},
    "layers behind": {"policy_kwargs": {"net_arch": [8], "activation_fn": nn.Tanh}},
    "layers before and behind": {"policy_kwargs": {"net_arch": {"encoder": [8], "head": [8]}, "activation_fn": nn.Tanh}},
    "learning rate schedule": {"learning_rate": lambda progress: 1e-3 * progress},
    "soft target updates": {"tau": 0.01, "target_update_interval": 1},
    "single q": {"double_q": False},
    "shortest window with a past": {"sequence_length": 1, "burn_in": 1, "learning_starts": 3},
    "buffer of a window": {"buffer_size": 5},
}


@pytest.mark.parametrize("kwargs", WAYS.values(), ids=WAYS.keys())
def test_every_argument_can_be_learned_with(kwargs: dict[str, Any]) -> None:
    assert_learns(make_model(**kwargs))


def test_an_episode_longer_than_the_buffer_can_be_learned_from() -> None:
    assert_learns(make_model(CountingEnv(length=1000), buffer_size=12), n_steps=100)


FREQUENCIES: dict[str, tuple[dict[str, Any], int, int]] = {
    # arguments, environments, updates: 60 steps, learning starts after 20, episodes have 7 steps
    "every 4 steps": ({"train_freq": 4}, 1, 10),
    "every 4 steps, as a tuple": ({"train_freq": (4, "step")}, 1, 10),
    "twice every 4 steps": ({"train_freq": (4, "step"), "gradient_steps": 2}, 1, 20),
    "as many as steps": ({"train_freq": (4, "step"), "gradient_steps": -1}, 1, 40),
    "never": ({"train_freq": (4, "step"), "gradient_steps": 0}, 1, 0),
    "every episode": ({"train_freq": (1, "episode")}, 1, 7),
    "every other episode, as many as steps": ({"train_freq": (2, "episode"), "gradient_steps": -1}, 1, 56),
    "3 environments": ({"train_freq": (4, "step")}, 3, 4),
    "3 environments, as many as steps": ({"train_freq": (4, "step"), "gradient_steps": -1}, 3, 48),
}


@pytest.mark.parametrize(("kwargs", "n_envs", "n_updates"), FREQUENCIES.values(), ids=FREQUENCIES.keys())
def test_updates_are_as_frequent_as_asked_for(kwargs: dict[str, Any], n_envs: int, n_updates: int) -> None:
    model = make_model(make_vec_env(CountingEnv, n_envs=n_envs), **kwargs)
    model.learn(60)
    assert model._n_updates == n_updates


@pytest.mark.parametrize(("interval", "n_envs"), [(10, 1), (12, 3)])
def test_the_target_network_is_updated_at_its_interval_only(interval: int, n_envs: int) -> None:
    model = make_model(make_vec_env(ToyEnv, n_envs=n_envs), target_update_interval=interval, train_freq=1, learning_rate=1e-2)
    changes, before = [], [parameter.clone() for parameter in model.q_net_target.parameters()]

    def watch(_locals: Any, _globals: Any) -> bool:
        nonlocal before
        now = [parameter.clone() for parameter in model.q_net_target.parameters()]
        if not all(th.equal(one, other) for one, other in zip(now, before, strict=True)):
            changes.append(model.num_timesteps - n_envs)
        before = now
        return True

    model.learn(60, watch)
    # Nothing has been learned at the first ones
    assert changes == [steps for steps in range(interval, 60, interval) if steps > SMALL["learning_starts"] + n_envs]


# --- logs and callbacks ---

LOGGED = ["loss", "q_mean", "td_error", "grad_norm", "terminal_share", "state_norm", "learning_rate"]


def test_tensorboard_holds_what_is_worth_watching(tmp_path: Path) -> None:
    model = make_model(make_vec_env(CountingEnv, n_envs=2), tensorboard_log=str(tmp_path), batch_size=64)
    model.learn(200, log_interval=1, tb_log_name="watched")
    (run,) = tmp_path.glob("watched_1")
    events = EventAccumulator(str(run)).Reload()
    scalars = {tag: [event.value for event in events.Scalars(tag)] for tag in events.Tags()["scalars"]}
    for tag in [*(f"train/{name}" for name in LOGGED), "time/fps", "rollout/exploration_rate", "rollout/ep_rew_mean"]:
        assert len(scalars[tag]) > 3 and np.isfinite(scalars[tag]).all(), tag
    assert all(0 < value < 0.3 for value in scalars["train/terminal_share"][-3:])  # 1 in 14 on the whole
    assert all(
        value > 0 for name in ("loss", "td_error", "grad_norm", "state_norm") for value in scalars[f"train/{name}"][-3:]
    )


class Recorder(KVWriter):
    """Keeps what is logged."""

    def __init__(self) -> None:
        self.written: dict[str, Any] = {}

    def write(self, key_values: dict[str, Any], key_excluded: dict[str, tuple[str, ...]], step: int = 0) -> None:
        self.written.update(key_values)

    def close(self) -> None:
        pass


def test_logged_numbers_are_means_since_the_last_log() -> None:
    model = make_model()
    model.learn(40, log_interval=10**6)
    sums, n_summed = {name: value.item() for name, value in model._learner._sums.items()}, model._learner._n_summed
    assert n_summed == model._n_updates == 5
    recorder = Recorder()
    model.set_logger(Logger(None, [recorder]))
    model.dump_logs()
    for name, total in sums.items():
        assert recorder.written[f"train/{name}"] == pytest.approx(total / n_summed)
    assert model._learner.read_statistics() == {}
    model.train(1)
    assert model._learner._n_summed == 1
    assert model._learner.read_statistics().keys() == sums.keys()


def test_a_progress_bar_can_be_shown(capfd: pytest.CaptureFixture[str]) -> None:
    make_model().learn(40, progress_bar=True)
    captured = capfd.readouterr()
    assert "40/40" in captured.out + captured.err


def test_callbacks_see_every_step_and_can_save(tmp_path: Path) -> None:
    seen: list[int] = []

    def watch(local_variables: dict[str, Any], _globals: Any) -> bool:
        seen.append(local_variables["self"].num_timesteps)
        return len(seen) < 30

    checkpoints = CheckpointCallback(10, str(tmp_path), save_replay_buffer=True)
    model = make_model()
    model.learn(100, [ConvertCallback(watch), CallbackList([checkpoints])])
    assert seen == list(range(1, 31))
    names = {path.name for path in tmp_path.iterdir()}
    assert {"rl_model_20_steps.zip", "rl_model_replay_buffer_20_steps.pkl"} <= names
    DRQN.load(tmp_path / "rl_model_20_steps.zip").load_replay_buffer(tmp_path / "rl_model_replay_buffer_20_steps.pkl")


def test_verbose_tells_what_is_made(capsys: pytest.CaptureFixture[str]) -> None:
    make_model("CartPole-v1", verbose=1).learn(60, log_interval=1)
    printed = capsys.readouterr().out
    assert "Creating environment from the given name 'CartPole-v1'" in printed
    assert "Computing in float32" in printed
    assert "exploration_rate" in printed and "td_error" in printed


# --- memory ---


def test_memory_is_taken_when_learning_begins_and_not_before() -> None:
    frames = spaces.Box(0, 255, (1, 84, 84), np.uint8)
    # 7 petabytes
    huge = make_model(ToyEnv(frames), "CnnLstmPolicy", buffer_size=10**12, policy_kwargs={"hidden_size": 4})
    assert huge.predict(frames.sample())[0].shape == ()
    model = make_model()
    assert model.replay_buffer is not None and model.replay_buffer.storage.observations == {}
    model.learn(4)
    assert model.replay_buffer.storage.observations[""].shape == (300, 3)


# --- seeds ---


@pytest.fixture(scope="module")
def subprocesses() -> Iterator[VecEnv]:
    envs = make_vec_env(ToyEnv, n_envs=2, vec_env_cls=SubprocVecEnv)
    yield envs
    envs.close()


def run(seed: int | None, **kwargs: Any) -> list[th.Tensor]:
    model = make_model(seed=seed, learning_rate=1e-2, **kwargs)
    model.learn(80)
    return [*parameters_of(model), th.as_tensor(model.replay_buffer.storage.actions)]  # type: ignore[union-attr]


def are_equal(first: list[th.Tensor], second: list[th.Tensor]) -> bool:
    return all(th.equal(one, other) for one, other in zip(first, second, strict=True))


RUNS: dict[str, dict[str, Any]] = {
    "plain": {},
    "stored, burn-in": {"initial_state": "stored", "burn_in": 2, "n_steps": 2},
    "sequential": {"replay": "sequential"},
}


@pytest.mark.parametrize("kwargs", RUNS.values(), ids=RUNS.keys())
@pytest.mark.parametrize("n_envs", [1, 3])
def test_a_seed_reproduces_a_run_bit_for_bit(n_envs: int, kwargs: dict[str, Any]) -> None:
    first = run(7, env=make_vec_env(ToyEnv, n_envs=n_envs), **kwargs)
    np.random.seed(123)
    th.manual_seed(123)
    assert are_equal(first, run(7, env=make_vec_env(ToyEnv, n_envs=n_envs), **kwargs))
    assert not are_equal(first, run(8, env=make_vec_env(ToyEnv, n_envs=n_envs), **kwargs))


def test_a_seed_reproduces_a_run_in_subprocesses_bit_for_bit(subprocesses: VecEnv) -> None:
    first = run(7, env=subprocesses)
    assert are_equal(first, run(7, env=subprocesses))
    assert are_equal(first, run(7, env=make_vec_env(ToyEnv, n_envs=2)))
    assert not are_equal(first, run(8, env=subprocesses))


def test_runs_without_a_seed_differ() -> None:
    assert not are_equal(run(None), run(None))


def random_actions(model: DRQN) -> list[int]:
    """What was done in the first 20 steps; where nothing was done, at an episode's end, is left out."""
    model.learn(20)
    assert model.replay_buffer is not None
    storage = model.replay_buffer.storage
    return storage.actions[~storage.final][:20].tolist()


def test_exploration_hangs_on_the_seed_set_last() -> None:
    assert random_actions(make_model(seed=1)) == random_actions(make_model(seed=1)) != random_actions(make_model(seed=2))
    model, other = make_model(seed=1), make_model(seed=2)
    model.set_random_seed(5)
    other.set_random_seed(5)
    assert random_actions(model) == random_actions(other) != random_actions(make_model(seed=1))
