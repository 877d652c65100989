"""Registration with rl_zoo3, in this process: what changes, what does not, and where hyperparameters are found."""

import argparse
import os
import runpy
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import gymnasium as gym
import optuna
import pytest
import rl_zoo3
import rl_zoo3.enjoy
import rl_zoo3.exp_manager
import rl_zoo3.hyperparams_opt
import rl_zoo3.train
import rl_zoo3.utils
from rl_zoo3.exp_manager import ExperimentManager
from stable_baselines3 import DQN
from stable_baselines3.common.buffers import ReplayBuffer

from drqn_sb3 import DRQN, FrameStackReplayBuffer, SequenceReplayBuffer, zoo
from drqn_sb3.zoo import default_config, fill_in_frame_stack, hyperparams_file, register

ZOO_FOLDER = Path(rl_zoo3.__file__).parent / "hyperparams"
OURS = str(hyperparams_file("drqn.yml").parent)

register()


def test_the_algorithm_is_in_the_dicts_that_the_modules_share() -> None:
    for module in (rl_zoo3, rl_zoo3.utils, rl_zoo3.exp_manager, rl_zoo3.train, rl_zoo3.enjoy):
        assert module.ALGOS is rl_zoo3.utils.ALGOS
    assert rl_zoo3.ALGOS["drqn"] is DRQN
    for name in ("HYPERPARAMS_SAMPLER", "HYPERPARAMS_CONVERTER"):
        shared = getattr(rl_zoo3.hyperparams_opt, name)
        assert getattr(rl_zoo3.exp_manager, name) is shared
        assert callable(shared["drqn"])


def test_registering_again_changes_nothing() -> None:
    def state() -> tuple[object, ...]:
        dicts = rl_zoo3.ALGOS, rl_zoo3.exp_manager.HYPERPARAMS_SAMPLER, rl_zoo3.exp_manager.HYPERPARAMS_CONVERTER
        return (
            *(dict(shared) for shared in dicts),
            ExperimentManager.__init__,
            ExperimentManager._preprocess_hyperparams,
            dict(vars(rl_zoo3.exp_manager)),
            subprocess.call,
            dict(gym.registry),
            list(sys.meta_path),
        )

    before = state()
    register()
    assert state() == before


def test_what_the_zoo_had_is_left_alone() -> None:
    assert list(rl_zoo3.ALGOS)[-1] == "drqn"
    assert rl_zoo3.ALGOS["dqn"] is rl_zoo3.utils.DQN
    assert rl_zoo3.exp_manager.HYPERPARAMS_SAMPLER["sac"] is rl_zoo3.hyperparams_opt.sample_sac_params
    assert not (ZOO_FOLDER / "drqn.yml").exists()
    assert not hasattr(subprocess.call, "runs_enjoy_from_anywhere")  # this program is not the zoo's benchmark


# --- replay buffers in hyperparameters ---


@pytest.mark.parametrize("buffer_class", [FrameStackReplayBuffer, SequenceReplayBuffer])
def test_hyperparameters_may_name_our_buffers(buffer_class: type[ReplayBuffer]) -> None:
    manager = ExperimentManager(argparse.Namespace(), "dqn", "CartPole-v1", "logs")
    processed, *_ = manager._preprocess_hyperparams({"n_timesteps": 1, "replay_buffer_class": buffer_class.__name__})
    assert processed["replay_buffer_class"] is buffer_class


FRAME_STACK = {"replay_buffer_class": FrameStackReplayBuffer}
FILLED_IN: dict[str, tuple[dict[str, Any], int | None, dict[str, Any]]] = {
    "the depth": ({"gamma": 0.9}, 4, {"gamma": 0.9, "replay_buffer_kwargs": {"n_stack": 4}}),
    "no stacks": ({}, None, {"replay_buffer_kwargs": {"n_stack": 1}}),
    "a single step": ({"n_steps": 1}, 4, {"replay_buffer_kwargs": {"n_stack": 4}}),
    "several steps": (
        {"n_steps": 3, "gamma": 0.9},
        4,
        {"gamma": 0.9, "replay_buffer_kwargs": {"n_stack": 4, "n_steps": 3, "gamma": 0.9}},
    ),
    "SB3's discount": ({"n_steps": 3}, 4, {"replay_buffer_kwargs": {"n_stack": 4, "n_steps": 3, "gamma": 0.99}}),
    "what is given": (
        {"replay_buffer_kwargs": {"n_stack": 2, "handle_timeout_termination": False}},
        4,
        {"replay_buffer_kwargs": {"n_stack": 2, "handle_timeout_termination": False}},
    ),
}


@pytest.mark.parametrize(("hyperparams", "frame_stack", "expected"), FILLED_IN.values(), ids=FILLED_IN.keys())
def test_what_the_frame_stacks_buffer_has_to_know_is_filled_in(
    hyperparams: dict[str, Any], frame_stack: int | None, expected: dict[str, Any]
) -> None:
    assert fill_in_frame_stack({**FRAME_STACK, **hyperparams}, frame_stack) == {**FRAME_STACK, **expected}


OTHER_BUFFERS = {
    "none": {"n_steps": 3},
    "the sequences'": {"replay_buffer_class": SequenceReplayBuffer, "n_steps": 3},
    "SB3's": {"replay_buffer_class": ReplayBuffer, "replay_buffer_kwargs": {"handle_timeout_termination": False}},
}


@pytest.mark.parametrize("hyperparams", OTHER_BUFFERS.values(), ids=OTHER_BUFFERS.keys())
def test_other_buffers_are_told_nothing(hyperparams: dict[str, Any]) -> None:
    assert fill_in_frame_stack(hyperparams, 4) is hyperparams


@pytest.mark.parametrize("algo", ["dqn", "qrdqn"])
def test_a_sampled_discount_reaches_the_buffer(algo: str) -> None:
    sampler = rl_zoo3.hyperparams_opt.HYPERPARAMS_SAMPLER[algo]
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))

    def sample(buffer_kwargs: dict[str, Any]) -> dict[str, Any]:
        return sampler(study.ask(), 0, 1, {"using_her_replay_buffer": False, "her_kwargs": buffer_kwargs})

    given = {"n_stack": 4, "n_steps": 3, "gamma": 0.99}
    sampled = sample(given)
    assert sampled["gamma"] != 0.99
    assert sampled["replay_buffer_kwargs"] == {**given, "gamma": sampled["gamma"]}
    assert given["gamma"] == 0.99
    for other in ({}, {"n_stack": 4}, {"n_steps": 3, "gamma": 0.99}):
        assert "replay_buffer_kwargs" not in sample(other)


def test_a_trial_adds_up_rewards_with_its_own_discount(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    models: list[DQN] = []

    class KeptDQN(DQN):
        def learn(self, *args: Any, **kwargs: Any) -> Any:
            models.append(self)
            return super().learn(*args, **kwargs)

    monkeypatch.setitem(rl_zoo3.ALGOS, "dqn", KeptDQN)
    manager = ExperimentManager(
        argparse.Namespace(),
        "dqn",
        "SlimeVolley-v0",
        str(tmp_path),
        n_timesteps=60,
        hyperparams={"n_envs": 1, "buffer_size": 100, "learning_starts": 200},
        optimize_hyperparameters=True,
        n_eval_episodes=1,
        device="cpu",
    )
    assert manager.setup_experiment() is None
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    study.optimize(manager.objective, n_trials=2)
    buffers = [model.replay_buffer for model in models]
    assert all(isinstance(buffer, FrameStackReplayBuffer) and buffer.n_steps == 3 for buffer in buffers)
    gammas = [model.gamma for model in models]
    assert [buffer.gamma for buffer in buffers if isinstance(buffer, FrameStackReplayBuffer)] == gammas
    assert gammas == [trial.user_attrs["gamma"] for trial in study.trials]
    assert len(set(gammas)) == 2


@pytest.mark.parametrize(
    "env_id",
    [
        "SlimeVolley-v0",
        "SlimeVolleyPixel-v0",
        "SlimeVolleyNoFrameskip-v0",
        "SlimeVolleySurvivalNoFrameskip-v0",
        "Recall-v0",
        "Recall20-v0",
        "Recall50-v0",
        "CartPoleNoVel-v1",
        "PongNoFrameskip-v4",
    ],
)
def test_the_environments_are_registered(env_id: str) -> None:
    assert env_id in gym.registry


DEFAULTS = {
    "ours alone": ("drqn", "SlimeVolleyNoFrameskip-v0", OURS),
    "ours alone, Atari": ("drqn", "PongNoFrameskip-v4", OURS),
    "ours alone, no entry": ("drqn", "Acrobot-v1", OURS),
    "both, entry in ours": ("dqn", "SlimeVolleyNoFrameskip-v0", OURS),
    "both, entry in ours, state": ("dqn", "SlimeVolley-v0", OURS),
    "both, entry in the zoo's": ("dqn", "CartPole-v1", str(ZOO_FOLDER)),
    "both, Atari": ("dqn", "PongNoFrameskip-v4", str(ZOO_FOLDER)),
    "both, no entry": ("dqn", "CartPoleNoVel-v1", str(ZOO_FOLDER)),
    "the zoo's alone": ("ppo", "SlimeVolleyNoFrameskip-v0", str(ZOO_FOLDER)),
}


@pytest.mark.parametrize(("algo", "env_id", "folder"), DEFAULTS.values(), ids=DEFAULTS.keys())
def test_a_run_without_a_config_finds_one(algo: str, env_id: str, folder: str, tmp_path: Path) -> None:
    manager = ExperimentManager(argparse.Namespace(), algo, env_id, str(tmp_path))
    assert manager.config == str(Path(folder) / f"{algo}.yml")


def test_an_entry_of_the_zoos_own_comes_first(tmp_path: Path) -> None:
    zoo_config = tmp_path / "dqn.yml"
    zoo_config.write_text("default: {}\n")
    assert default_config("dqn", "Recall-v0", str(zoo_config)) == f"{OURS}/dqn.yml"
    zoo_config.write_text("default: {}\nRecall-v0: {}\n")
    assert default_config("dqn", "Recall-v0", str(zoo_config)) == str(zoo_config)


EXPLICIT = ["my.yml", "my_package.hyperparams", str(ZOO_FOLDER / "dqn.yml"), str(ZOO_FOLDER / "drqn.yml")]


@pytest.mark.parametrize("config", EXPLICIT)
@pytest.mark.parametrize("algo", ["dqn", "drqn"])
def test_a_given_config_is_left_alone(algo: str, config: str, tmp_path: Path) -> None:
    manager = ExperimentManager(argparse.Namespace(), algo, "SlimeVolleyNoFrameskip-v0", str(tmp_path), config=config)
    assert manager.config == config


def test_subclasses_of_the_manager_find_the_config_too(tmp_path: Path) -> None:
    class Manager(ExperimentManager):
        pass

    assert Manager(argparse.Namespace(), "drqn", "CartPole-v1", str(tmp_path)).config == f"{OURS}/drqn.yml"


def test_a_hyperparameter_file_is_found_in_the_checkout() -> None:
    assert hyperparams_file("presets/paper_drqn.yml").read_text().startswith("# The DRQN of Hausknecht & Stone")


def test_a_wheels_own_hyperparameters_come_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for folder in ("site/hyperparams", "site/drqn_sb3/hyperparams"):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "drqn.yml").touch()
    monkeypatch.setattr(zoo, "__file__", str(tmp_path / "site/drqn_sb3/zoo.py"))
    assert hyperparams_file("drqn.yml") == tmp_path / "site/drqn_sb3/hyperparams/drqn.yml"


def test_an_unknown_hyperparameter_file_is_named_with_those_there_are() -> None:
    with pytest.raises(ValueError, match=r"name must be one of \['dqn.yml', 'drqn.yml', 'presets/.*got 'ppo.yml'"):
        hyperparams_file("ppo.yml")


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # that the module has been imported already
def test_the_module_prints_where_hyperparameters_are(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["zoo.py", "presets/paper_drqn.yml"])
    runpy.run_module("drqn_sb3.zoo", run_name="__main__")
    assert capsys.readouterr().out == f"{OURS}/presets/paper_drqn.yml\n"
    monkeypatch.setattr(sys, "argv", ["zoo.py", "presets/none.yml"])
    with pytest.raises(SystemExit, match=r"name must be one of .*got 'presets/none.yml'"):
        runpy.run_module("drqn_sb3.zoo", run_name="__main__")


COMMAND_LINES = {
    "plain": (["python", "-m", "rl_zoo3.benchmark", "--log-dir", "logs"], 2),
    "no arguments": (["python", "-m", "rl_zoo3.benchmark"], 0),
    "with options": (["python", "-X", "importtime", "-u", "-m", "rl_zoo3.benchmark", "--no-hub"], 1),
    "in one word": (["python", "-mrl_zoo3.benchmark", "-n", "10"], 2),
}


@pytest.mark.parametrize(("orig_argv", "n_arguments"), COMMAND_LINES.values(), ids=COMMAND_LINES.keys())
def test_the_module_that_python_is_about_to_run_is_known(
    orig_argv: list[str], n_arguments: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "__main__", ModuleType("__main__"))
    monkeypatch.setattr(sys, "orig_argv", orig_argv)
    monkeypatch.setattr(sys, "argv", ["-m", *orig_argv[len(orig_argv) - n_arguments :]])
    assert zoo._running_module() == "rl_zoo3.benchmark"


def test_a_script_is_no_module_that_python_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "__main__", ModuleType("__main__"))
    monkeypatch.setattr(sys, "orig_argv", ["python", "train.py", "rl_zoo3.benchmark"])
    monkeypatch.setattr(sys, "argv", ["train.py", "rl_zoo3.benchmark"])
    assert zoo._running_module() == ""


@pytest.fixture
def benchmark_call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., int]]:
    """``subprocess.call`` as the zoo's benchmark sees it, in an empty directory, with this interpreter as ``python``."""
    original = subprocess.call
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setattr(subprocess, "call", original)
    zoo._run_enjoy_from_anywhere()
    zoo._run_enjoy_from_anywhere()
    assert subprocess.call.__wrapped__ is original  # type: ignore[attr-defined]
    yield subprocess.call


def test_benchmark_runs_enjoy_in_a_directory_without_it(benchmark_call: Callable[..., int], tmp_path: Path) -> None:
    with open(tmp_path / "out", "w") as out:
        assert benchmark_call(["python", "enjoy.py", "--help"], stdout=out) == 0
    assert "--algo {" in (tmp_path / "out").read_text()


def test_benchmark_runs_the_enjoy_that_lies_there(benchmark_call: Callable[..., int], tmp_path: Path) -> None:
    (tmp_path / "enjoy.py").write_text("import sys; sys.exit(len(sys.argv))")
    assert benchmark_call(["python", "enjoy.py", "-n", "10"]) == 3


OTHER_COMMANDS = {
    "another script": ["python", "other.py", "enjoy.py"],
    "another interpreter": [sys.executable, "enjoy.py"],
    "a module": ["python", "-m", "enjoy"],
}


@pytest.mark.parametrize("command", OTHER_COMMANDS.values(), ids=OTHER_COMMANDS.keys())
def test_other_commands_run_as_they_are(command: list[str], benchmark_call: Callable[..., int]) -> None:
    assert benchmark_call(command, stderr=subprocess.DEVNULL) in {1, 2}  # no such file, no such module


def test_other_forms_of_the_call_pass_through(benchmark_call: Callable[..., int]) -> None:
    assert benchmark_call(f'"{sys.executable}" -c "raise SystemExit(4)"', shell=True) == 4
    assert benchmark_call((sys.executable, "-c", "raise SystemExit(5)"), timeout=60) == 5
    with pytest.raises(subprocess.TimeoutExpired):
        benchmark_call([sys.executable, "-c", "import time; time.sleep(60)"], timeout=0.1)
