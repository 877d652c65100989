"""Every entry of every hyperparameter file builds its agent through the zoo, and says where its values come from."""

import argparse
import re
import warnings
from pathlib import Path
from typing import Any, cast

import numpy as np
import optuna
import pytest
import torch as th
import yaml
from rl_zoo3.exp_manager import ExperimentManager
from rl_zoo3.utils import ALGOS
from stable_baselines3 import DQN
from stable_baselines3.common.vec_env import VecEnv

from drqn_sb3 import DRQN, FrameStackReplayBuffer
from drqn_sb3.zoo import NET_ARCHS, convert_drqn_params, hyperparams_file, register, sample_drqn_params

register()

FOLDER = hyperparams_file("drqn.yml").parent
FILES = {str(path.relative_to(FOLDER)): path for path in sorted(FOLDER.rglob("*.yml"))}
CONFIGS: dict[str, dict[str, dict[str, Any]]] = {name: yaml.safe_load(path.read_text()) for name, path in FILES.items()}
ENTRIES = [(name, env_id) for name, config in CONFIGS.items() for env_id in config]
# What the entries that name no environment are tried on
STAND_INS = {"default": "Acrobot-v1", "atari": "BreakoutNoFrameskip-v4"}


def algorithm(name: str) -> str:
    return "drqn" if name.endswith("drqn.yml") else "dqn"


def build(name: str, env_id: str, folder: Path, **hyperparams: Any) -> DQN:
    """Have the zoo make the agent of an entry, with few environments and a small buffer unless told otherwise."""
    small = {"n_envs": min(CONFIGS[name][env_id].get("n_envs", 1), 2), **hyperparams}
    if algorithm(name) == "dqn":
        small.setdefault("buffer_size", 100)
    manager = ExperimentManager(
        argparse.Namespace(),
        algorithm(name),
        STAND_INS.get(env_id, env_id),
        str(folder),
        eval_freq=-1,
        hyperparams=small,
        verbose=0,
        device="cpu",
        config=str(FILES[name]),
    )
    results = manager.setup_experiment()
    assert results is not None
    model = results[0]
    assert isinstance(model, DQN)
    return model


def take_steps(venv: VecEnv | None, n_steps: int) -> Any:
    assert venv is not None
    obs = venv.reset()
    for _ in range(n_steps):
        obs = venv.step(np.array([venv.action_space.sample() for _ in range(venv.num_envs)]))[0]
    return obs


@pytest.mark.parametrize(("name", "env_id"), ENTRIES)
def test_an_entry_builds_its_agent(name: str, env_id: str, tmp_path: Path) -> None:
    model = build(name, env_id, tmp_path)
    assert type(model) is ALGOS[algorithm(name)]
    obs = take_steps(model.env, 3)
    actions, _ = model.predict(obs)
    assert model.env is not None
    assert actions.shape == (model.env.num_envs,)
    model.env.close()


@pytest.mark.parametrize(("name", "env_id"), [entry for entry in ENTRIES if algorithm(entry[0]) == "dqn"])
def test_the_stock_dqn_stores_each_frame_once(name: str, env_id: str, tmp_path: Path) -> None:
    with warnings.catch_warnings():
        # SB3's, that it ignores `n_steps`
        warnings.filterwarnings("error", message=".*replay_buffer")
        model = build(name, env_id, tmp_path)
    assert model.env is not None
    model.env.close()
    entry, buffer = CONFIGS[name][env_id], model.replay_buffer
    assert isinstance(buffer, FrameStackReplayBuffer)
    assert buffer.handle_timeout_termination
    assert buffer.n_stack == entry["frame_stack"]
    assert buffer.n_steps == entry.get("n_steps", 1)
    assert buffer.n_steps == 1 or buffer.gamma == entry["gamma"] == model.gamma


def test_hyperparameters_given_by_hand_reach_the_buffer(tmp_path: Path) -> None:
    given = {"frame_stack": 10, "n_steps": 5, "gamma": 0.9, "learning_starts": 40, "batch_size": 4}
    model = build("dqn.yml", "SlimeVolley-v0", tmp_path, **given)
    buffer = model.replay_buffer
    assert isinstance(buffer, FrameStackReplayBuffer)
    assert (buffer.n_stack, buffer.n_steps, buffer.gamma) == (10, 5, 0.9)
    model.learn(60)
    assert model._n_updates > 0
    discounts = buffer.sample(64).discounts
    assert discounts is not None
    assert discounts.max() == pytest.approx(0.9, rel=1e-6)
    assert discounts.min() == pytest.approx(0.9**5, rel=1e-6)


@pytest.mark.parametrize(("name", "env_id"), ENTRIES)
def test_an_entry_is_complete(name: str, env_id: str) -> None:
    entry = CONFIGS[name][env_id]
    assert {"policy", "n_timesteps"} <= entry.keys()
    if env_id == "default":
        return
    tuned = {"learning_rate", "buffer_size", "learning_starts", "batch_size", "gamma", "train_freq", "gradient_steps"}
    tuned |= {"target_update_interval", "exploration_final_eps"}
    tuned |= {"exploration_steps", "sequence_length"} if algorithm(name) == "drqn" else {"exploration_fraction"}
    assert tuned <= entry.keys()
    # Every environment has taken more steps than a window holds by then, those of the search space included
    longest = max(35, entry.get("burn_in", 0) + entry.get("sequence_length", 0) + entry.get("n_steps", 1))
    assert entry["learning_starts"] // entry.get("n_envs", 1) >= longest
    assert entry["learning_starts"] <= entry["buffer_size"]
    assert entry["learning_starts"] < entry["n_timesteps"]
    assert entry.get("exploration_steps", 0) <= entry["n_timesteps"]


TRAINED = {
    "paper": ("presets/paper_drqn.yml", th.optim.Adadelta),
    "flicker, paper": ("presets/paper_flicker_drqn.yml", th.optim.Adadelta),
    "replication": ("presets/replication_drqn.yml", th.optim.RMSprop),
    "paper, DQN": ("presets/paper_dqn.yml", th.optim.Adadelta),
    "flicker, paper, DQN": ("presets/paper_flicker_dqn.yml", th.optim.Adadelta),
    "replication, DQN": ("presets/replication_dqn.yml", th.optim.RMSprop),
}


@pytest.mark.parametrize(("name", "optimizer"), TRAINED.values(), ids=TRAINED.keys())
def test_a_preset_trains_with_its_optimiser(name: str, optimizer: type[th.optim.Optimizer], tmp_path: Path) -> None:
    model = build(name, "SlimeVolleyNoFrameskip-v0", tmp_path, learning_starts=40, batch_size=2, buffer_size=100)
    assert type(model.policy.optimizer) is optimizer
    before = [parameter.clone() for parameter in model.q_net.parameters()]
    model.learn(45)
    assert model._n_updates > 0
    after = list(model.q_net.parameters())
    assert all(bool(parameter.isfinite().all()) for parameter in after)
    assert any(not th.equal(old, new) for old, new in zip(before, after, strict=True))


def test_the_papers_preset_is_the_papers_network(tmp_path: Path) -> None:
    q_net = build("presets/paper_drqn.yml", "atari", tmp_path).q_net
    shapes = [tuple(weights.shape) for weights in q_net.parameters() if weights.ndim > 1]
    convolutions = [(32, 1, 8, 8), (64, 32, 4, 4), (64, 64, 3, 3)]
    assert shapes == [*convolutions, (4 * 512, 64 * 7 * 7), (4 * 512, 512), (4, 512)]


@pytest.mark.parametrize("agent", ["drqn", "dqn"])
def test_the_papers_flicker_is_all_that_sets_its_presets_apart(agent: str) -> None:
    normal, flickering = (CONFIGS[f"presets/{paper}_{agent}.yml"] for paper in ("paper", "paper_flicker"))
    assert normal.keys() == flickering.keys()
    for env_id, entry in normal.items():
        flicker = {"drqn_sb3.wrappers.FlickerObservation": {"observe_prob": 0.5}}
        expected = {**entry, "env_wrapper": [*entry["env_wrapper"], flicker]}
        if agent == "dqn":
            expected["frame_stack"] = 10
        assert flickering[env_id] == expected


@pytest.mark.parametrize("env_id", CONFIGS["dqn.yml"])
def test_the_stock_dqn_is_on_equal_terms(env_id: str) -> None:
    dqn, drqn = CONFIGS["dqn.yml"][env_id], CONFIGS["drqn.yml"][env_id]
    for name in ("env_wrapper", "n_timesteps", "n_envs", "buffer_size", "learning_starts", "gamma", "n_steps"):
        assert dqn.get(name) == drqn.get(name)
    assert dqn["exploration_final_eps"] == drqn["exploration_final_eps"]
    assert dqn["exploration_fraction"] * dqn["n_timesteps"] == pytest.approx(drqn["exploration_steps"], rel=0.01)
    assert dqn["frame_stack"] == 4
    assert replay_ratio(dqn) == pytest.approx(replay_ratio(drqn), rel=0.01)


def replay_ratio(entry: dict[str, Any]) -> float:
    """How often a step of experience is trained on."""
    trained = entry["gradient_steps"] * entry["batch_size"] * entry.get("sequence_length", 1)
    return trained / (entry["train_freq"] * entry["n_envs"])


@pytest.mark.parametrize("name", FILES)
def test_every_value_says_where_it_comes_from(name: str) -> None:
    text = FILES[name].read_text()
    known = set(re.findall(r"^#   (\w+) ", text, flags=re.MULTILINE))
    used = set()
    for line in re.findall(r"^  \w+:.*$", text, flags=re.MULTILINE):
        _, _, comment = line.partition("  # ")
        sources = re.sub(r"\([^)]*\)", "", comment).replace(", as above", "").split(", ")
        assert {source.strip() for source in sources} <= known, line
        used |= {source.strip() for source in sources}
    assert used == known


def test_the_survival_bonus_is_not_rounded_up_to_a_point(tmp_path: Path) -> None:
    model = build("drqn.yml", "SlimeVolleySurvivalNoFrameskip-v0", tmp_path)
    assert model.env is not None
    model.env.reset()
    rewards = [model.env.step(np.zeros(2, dtype=int))[1] for _ in range(5)]
    assert rewards == [pytest.approx([0.02, 0.02])] * 5  # two frames of 0.01, not their sign


class Extreme(optuna.trial.FixedTrial):
    """A trial that takes an end of every range."""

    def __init__(self, takes_last: bool) -> None:
        super().__init__({})
        self.end = -1 if takes_last else 0

    def suggest_float(self, name: str, low: float, high: float, **kwargs: Any) -> float:
        return (low, high)[self.end]

    def suggest_int(self, name: str, low: int, high: int, **kwargs: Any) -> int:
        return (low, high)[self.end]

    def suggest_categorical(self, name: str, choices: Any) -> Any:
        return choices[self.end]


@pytest.mark.parametrize("takes_last", [False, True])
@pytest.mark.parametrize("env_id", ["default", "CartPoleNoVel-v1", "SlimeVolley-v0", "Recall-v0"])
def test_the_ends_of_the_search_space_train(env_id: str, takes_last: bool, tmp_path: Path) -> None:
    sampled = sample_drqn_params(cast(optuna.Trial, Extreme(takes_last)), 0, 1, {})
    model = build("drqn.yml", env_id, tmp_path, **{**sampled, "batch_size": 2, "learning_starts": 100})
    model.learn(140)
    assert model._n_updates > 0


def test_a_stored_trial_converts_to_what_was_sampled() -> None:
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    for _ in range(20):
        trial = study.ask()
        sampled = sample_drqn_params(trial, 0, 1, {})
        assert convert_drqn_params(trial.params) == sampled
        assert sampled["policy_kwargs"]["net_arch"] in NET_ARCHS.values()
        assert sampled["gamma"] == trial.user_attrs["gamma"]
        assert sampled["batch_size"] == trial.user_attrs["batch_size"]
        assert DRQN("MlpLstmPolicy", "CartPole-v1", **sampled).sequence_length == sampled["sequence_length"]
