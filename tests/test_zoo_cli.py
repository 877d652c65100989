"""The zoo's own commands, literally, from an empty directory: for ``drqn``, and for the stock ``dqn`` on SlimeVolley."""

import os
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
import yaml
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from rl_zoo3.hyperparams_opt import convert_offpolicy_params

from drqn_sb3 import DRQN
from drqn_sb3.zoo import convert_drqn_params, hyperparams_file

ENV = "SlimeVolleyNoFrameskip-v0"
OFF = {"DRQN_SB3_ZOO_HOOK": "0"}
# Two environments, a small buffer, a few small updates
SMALL = ("-params", "n_envs:2", "buffer_size:500", "learning_starts:64", "batch_size:4")


def python(cwd: Path, *args: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run the interpreter in ``cwd`` as a user would who has no screen, from an environment without PYTHONPATH."""
    env = {name: value for name, value in os.environ.items() if name not in {"PYTHONPATH", *OFF}}
    env |= {"OMP_NUM_THREADS": "1", "SDL_VIDEODRIVER": "dummy", "MPLBACKEND": "Agg", "COLUMNS": "200"}
    return subprocess.run([sys.executable, *args], cwd=cwd, env={**env, **variables}, capture_output=True, text=True)


def zoo(cwd: Path, script: str, *args: str) -> str:
    """Run a script of the zoo that has to succeed, and return what it prints."""
    done = python(cwd, "-m", f"rl_zoo3.{script}", *args)
    assert done.returncode == 0, done.stderr
    assert "could not register" not in done.stderr
    assert "Gym has been unmaintained" not in done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory that was empty before both agents were trained in it, without any flag that names us or our files."""
    folder = tmp_path_factory.mktemp("trained")
    often = ("-n", "160", "--eval-freq", "80", "--eval-episodes", "2", "-P", "--tensorboard-log", "tensorboard")
    for algo in ("drqn", "dqn"):
        out = zoo(folder, "train", "--algo", algo, "--env", ENV, *often, *SMALL)
        assert f"Loading hyperparameters from: {hyperparams_file(f'{algo}.yml')}" in out
        assert "Saving to logs" in out
    return folder


@pytest.fixture(params=["drqn", pytest.param("dqn", marks=pytest.mark.slow)])
def algo(request: pytest.FixtureRequest) -> str:
    """An agent of the command: ours, and in the slow tests the zoo's own too."""
    return str(request.param)


def config(run: Path) -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.load((run / ENV / "config.yml").read_text(), Loader=yaml.UnsafeLoader)
    return dict(loaded)


@pytest.mark.parametrize("algo", ["drqn", "dqn"])
def test_train_leaves_what_the_zoo_leaves(trained: Path, algo: str) -> None:
    run = trained / "logs" / algo / f"{ENV}_1"
    entry = yaml.safe_load(hyperparams_file(f"{algo}.yml").read_text())[ENV]
    changed = {"n_envs": 2, "buffer_size": 500, "learning_starts": 64, "batch_size": 4}
    assert config(run) == {**entry, **changed}
    assert np.load(run / "evaluations.npz")["results"].shape == (2, 2)
    assert {"best_model.zip", f"{ENV}.zip", "0.monitor.csv", "1.monitor.csv"} <= {path.name for path in run.iterdir()}
    assert list((trained / "tensorboard").rglob("events*"))


def test_enjoy_opens_a_window(trained: Path) -> None:
    out = zoo(trained, "enjoy", "--algo", "drqn", "--env", ENV, "-f", "logs", "-n", "5", "--load-best")
    assert f"Loading logs/drqn/{ENV}_1/best_model.zip" in out


@pytest.mark.slow
def test_enjoy_plays_without_one(trained: Path) -> None:
    out = zoo(trained, "enjoy", "--algo", "dqn", "--env", ENV, "-f", "logs", "-n", "500", "--no-render")
    assert "Mean reward: " in out


@pytest.mark.slow
def test_enjoy_takes_several_environments(trained: Path, algo: str) -> None:
    zoo(trained, "enjoy", "--algo", algo, "--env", ENV, "-f", "logs", "-n", "5", "--n-envs", "2", "--no-render")


def test_record_video(trained: Path, algo: str) -> None:
    zoo(trained, "record_video", "--algo", algo, "--env", ENV, "-f", "logs", "-n", "10", "-o", f"videos/{algo}")
    (video,) = (trained / "videos" / algo).glob("*.mp4")
    assert video.stat().st_size > 1000


@pytest.mark.slow
def test_benchmark(trained: Path) -> None:
    zoo(trained, "benchmark", "--log-dir", "logs", "--no-hub", "-n", "400", "--num-threads", "1", "--verbose", "0")
    rows = (trained / "benchmark.md").read_text().splitlines()[-2:]
    assert [row.split("|")[1].strip() for row in rows] == ["dqn", "drqn"]
    assert all(ENV in row for row in rows)


def test_plot_train(trained: Path, algo: str) -> None:
    assert zoo(trained, "cli", "plot_train", "-a", algo, "-e", ENV, "-f", "logs", "-w", "2") == ""


def test_all_plots(trained: Path) -> None:
    algos = ("-a", "drqn", "dqn")
    zoo(trained, "plots.all_plots", *algos, "-e", ENV, "-f", "logs", "-o", "plots", "--no-display")
    with open(trained / "plots.pkl", "rb") as file:
        results = pickle.load(file)
    for algo in ("drqn", "dqn"):
        evaluations = np.load(trained / "logs" / algo / f"{ENV}_1" / "evaluations.npz")["results"]
        np.testing.assert_array_equal(results[ENV][f"{algo.upper()}-logs"]["mean"], evaluations.mean(axis=1))


def test_training_goes_on_from_a_trained_agent(trained: Path, algo: str, tmp_path: Path) -> None:
    agent = str(trained / "logs" / algo / f"{ENV}_1" / f"{ENV}.zip")
    args = ("--trained-agent", agent, "-n", "80", "--eval-freq", "-1", *SMALL)
    out = zoo(tmp_path, "train", "--algo", algo, "--env", ENV, *args)
    assert "Loading pretrained agent" in out
    assert (tmp_path / "logs" / algo / f"{ENV}_1" / f"{ENV}.zip").exists()


def test_a_study_is_run_and_its_trial_rebuilt(algo: str, tmp_path: Path) -> None:
    study_args = ("--storage", "study.log", "--study-name", "study")
    # Too short to learn anything: the stock search space has batches of 2048 stacks
    short = ("-n", "40", "--eval-episodes", "1", *SMALL)
    args = ("-optimize", "--n-trials", "2", "--n-evaluations", "1", "--sampler", "random", "--no-optim-plots", *study_args)
    out = zoo(tmp_path, "train", "--algo", algo, "--env", ENV, *args, *short)
    assert "Number of finished trials:  2" in out
    assert len(list((tmp_path / "logs" / algo).glob("report_*.csv"))) == 1

    rebuilt = ("-n", "40", "--eval-freq", "-1", "--trial-id", "1", "-params", "n_envs:2", "buffer_size:500")
    zoo(tmp_path, "train", "--algo", algo, "--env", ENV, *study_args, *rebuilt)
    storage = JournalStorage(JournalFileBackend(str(tmp_path / "study.log")))
    params = optuna.load_study(storage=storage, study_name="study").trials[1].params
    entry = yaml.safe_load(hyperparams_file(f"{algo}.yml").read_text())[ENV]
    sampled = {"drqn": convert_drqn_params, "dqn": convert_offpolicy_params}[algo](params)
    (run,) = (folder for folder in (tmp_path / "logs" / algo).glob(f"{ENV}_*") if (folder / ENV / "config.yml").exists())
    assert config(run) == {**entry, **sampled, "n_envs": 2, "buffer_size": 500}
    if algo == "drqn":
        model = DRQN.load(run / f"{ENV}.zip")
        assert {name: getattr(model, name) for name in ("batch_size", "sequence_length", "gamma")} == {
            name: sampled[name] for name in ("batch_size", "sequence_length", "gamma")
        }
        assert model.q_net.cell.hidden_size == sampled["policy_kwargs"]["hidden_size"]


def test_without_the_hook_the_zoo_is_as_it_was(tmp_path: Path) -> None:
    done = python(tmp_path, "-m", "rl_zoo3.train", "--algo", "drqn", **OFF)
    assert done.returncode == 2
    assert "argument --algo: invalid choice: 'drqn'" in done.stderr


def test_without_the_hook_register_does_it_by_hand(tmp_path: Path) -> None:
    script = f"""if True:
        import sys, gymnasium, rl_zoo3.train
        from rl_zoo3.exp_manager import ALGOS, HYPERPARAMS_CONVERTER, HYPERPARAMS_SAMPLER, ExperimentManager
        print({ENV!r} in gymnasium.registry, "drqn_sb3" in sys.modules, hasattr(ExperimentManager.__init__, "__wrapped__"))
        print(*("drqn" in shared for shared in (ALGOS, HYPERPARAMS_CONVERTER, HYPERPARAMS_SAMPLER)))
        from drqn_sb3.zoo import register
        register()
        sys.argv[1:] = "--algo drqn --env Recall-v0 -n 50 --eval-freq -1".split()
        rl_zoo3.train.train()
    """
    done = python(tmp_path, "-c", script, **OFF)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[:2] == ["False False False"] * 2
    assert (tmp_path / "logs/drqn/Recall-v0_1/Recall-v0.zip").exists()
