"""Runs of the zoo that are killed, told to stop, and gone on with: its own commands, literally, from an empty directory."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch as th
from stable_baselines3.common.results_plotter import load_results

from drqn_sb3 import DRQN
from drqn_sb3.checkpoints.store import list_checkpoints, steps_of

ENV = "SlimeVolley-v0"
CALLBACK = "callback:{'drqn_sb3.RunCheckpointCallback':{'save_freq':400}}"
# A small network and short matches, of which many end
SMALL = (
    *("n_envs:2", "buffer_size:2000", "learning_starts:100", "batch_size:4", "exploration_steps:500"),
    "policy_kwargs:dict(hidden_size=16,net_arch=dict(encoder=[16],head=[]))",
)
TOTAL = 3000
# Of Ctrl-C the zoo thinks as of an early end, and saves the agent
STATUSES = {signal.SIGKILL: -9, signal.SIGTERM: 143, signal.SIGINT: 0}


def command(*args: str, algo: str = "drqn", params: tuple[str, ...] = ()) -> list[str]:
    zoo = [sys.executable, "-m", "rl_zoo3.train", "--algo", algo, "--env", ENV, "--seed", "3", "-n", str(TOTAL)]
    zoo += ["--eval-freq", "1000", "--eval-episodes", "1", *args]
    return [*zoo, "-params", *SMALL, CALLBACK, *params]


def start(cwd: Path, args: list[str]) -> "subprocess.Popen[str]":
    env = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | {"OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        args, cwd=cwd, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )


def finish(process: "subprocess.Popen[str]") -> str:
    out, err = process.communicate()
    assert process.returncode == 0, err
    return out


def fail(process: "subprocess.Popen[str]") -> str:
    _, err = process.communicate()
    assert process.returncode == 1
    return err


def stop(process: "subprocess.Popen[str]", run: Path, steps: int, how: signal.Signals) -> str:
    """Send a signal when there is a checkpoint of so many steps; give what was printed."""
    while process.poll() is None and not any(steps_of(path) >= steps for path in list_checkpoints(run / "checkpoints")):
        time.sleep(0.02)
    # To all of its processes, as schedulers and terminals do
    os.killpg(process.pid, how)
    out, err = process.communicate()
    assert process.returncode == STATUSES[how], err
    return out


def assert_same_run(run: Path, other: Path) -> None:
    """The final agents are the same, to the bit, and so is what was written on the way."""
    one, two = (DRQN.load(folder / f"{ENV}.zip") for folder in (run, other))
    assert one.num_timesteps == two.num_timesteps == TOTAL
    for parameter, same in zip(one.policy.parameters(), two.policy.parameters(), strict=True):
        assert th.equal(parameter, same)
    evaluations, others = (np.load(folder / "evaluations.npz") for folder in (run, other))
    for name in ("timesteps", "results", "ep_lengths"):
        np.testing.assert_array_equal(evaluations[name], others[name])
    episodes, same_episodes = (load_results(str(folder))[["r", "l"]].sort_values(["l", "r"]) for folder in (run, other))
    assert len(episodes) > 0
    np.testing.assert_array_equal(episodes, same_episodes)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("undisturbed")
    finish(start(folder, command()))
    return folder / "logs" / "drqn" / f"{ENV}_1"


@pytest.mark.slow
@pytest.mark.parametrize("vec_env", ["dummy", "subproc"])
def test_the_same_command_goes_on_until_the_run_is_finished(tmp_path: Path, undisturbed: Path, vec_env: str) -> None:
    run = tmp_path / "logs" / "drqn" / f"{ENV}_1"
    again = command("--vec-env", vec_env, params=("resume:True",))
    stop(start(tmp_path, again), run, 400, signal.SIGKILL)
    out = stop(start(tmp_path, again), run, 1200, signal.SIGTERM)
    assert f"Going on with the run in {run.relative_to(tmp_path)}" in out and "Resumed from" in out
    assert "Told to stop (SIGTERM): the run can be resumed from step" in out
    assert (run / f"{ENV}.zip").exists()
    stop(start(tmp_path, again), run, 2000, signal.SIGINT)
    assert (run / f"{ENV}.zip").exists() and not (run / "checkpoints" / "finished").exists()
    assert "Resumed from" in finish(start(tmp_path, again))
    assert_same_run(run, undisturbed)
    out = finish(start(tmp_path, again))
    assert f"{ENV}_1 is finished: nothing is left to do" in out
    assert [path.name for path in run.parent.iterdir()] == [f"{ENV}_1"]


@pytest.mark.slow
def test_a_checkpoint_can_be_named_as_the_trained_agent(tmp_path: Path, undisturbed: Path) -> None:
    run = tmp_path / "logs" / "drqn" / f"{ENV}_1"
    stop(start(tmp_path, command()), run, 1200, signal.SIGKILL)
    configuration = (run / ENV / "command.txt").read_text()
    checkpoint = list_checkpoints(run / "checkpoints")[0]
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    assert "got " in fail(start(tmp_path, command("--trained-agent", str(checkpoint), params=("n_envs:3",))))
    (tmp_path / checkpoint.name).write_bytes(checkpoint.read_bytes())
    elsewhere = start(tmp_path, command("--trained-agent", checkpoint.name))
    assert "trained_agent must lie where a run of SlimeVolley-v0 has written it" in fail(elsewhere)
    # What was refused has changed nothing
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before
    out = finish(start(tmp_path, command("--trained-agent", str(checkpoint))))
    assert f"Resumed from {checkpoint}, at step {steps_of(checkpoint):,} of {TOTAL:,}" in out
    assert_same_run(run, undisturbed)
    assert [path.name for path in run.parent.iterdir()] == [f"{ENV}_1"]
    assert (run / ENV / "command.txt").read_text() == configuration


@pytest.mark.slow
def test_a_run_without_a_checkpoint_is_begun_anew_and_that_is_said(tmp_path: Path) -> None:
    again = command(params=("resume:True",))
    first, second = (tmp_path / "logs" / "drqn" / f"{ENV}_{number}" for number in (1, 2))
    process = start(tmp_path, again)
    while process.poll() is None and not (first / ENV / "command.txt").exists():
        time.sleep(0.001)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    assert list_checkpoints(first / "checkpoints") == []
    out = stop(start(tmp_path, again), second, 400, signal.SIGKILL)
    assert f"Not going on with {first.relative_to(tmp_path)}: it has no checkpoint (yet)" in out


@pytest.mark.slow
def test_two_at_once_do_not_share_a_run(tmp_path: Path) -> None:
    again = command(params=("resume:True",))
    runs = tmp_path / "logs" / "drqn"
    first = start(tmp_path, again)
    while first.poll() is None and not list_checkpoints(runs / f"{ENV}_1" / "checkpoints"):
        time.sleep(0.02)
    second = start(tmp_path, again)
    out = stop(second, runs / f"{ENV}_2", 400, signal.SIGKILL)
    assert "another process is doing so" in out
    finish(first)
    assert (runs / f"{ENV}_1" / f"{ENV}.zip").exists()


def test_optimization_writes_no_checkpoints(tmp_path: Path) -> None:
    search = command("-optimize", "--n-trials", "1", "--n-jobs", "1", "--no-optim-plots", "-n", "300")
    finish(start(tmp_path, search))
    assert not list(tmp_path.rglob("checkpoint_*.zip"))


@pytest.mark.slow
def test_native_games_begin_anew_and_their_monitor_files_go_on(tmp_path: Path) -> None:
    env = "PongNoFrameskip-v4"
    config = subprocess.run(
        [sys.executable, "-m", "drqn_sb3.zoo", "presets/native_atari_drqn.yml"], capture_output=True, text=True, check=True
    ).stdout.strip()
    small = ("n_envs:2", "buffer_size:2000", "learning_starts:100", "batch_size:2", "policy_kwargs:dict(hidden_size=8)")
    again = [sys.executable, "-m", "rl_zoo3.train", "--algo", "drqn", "--env", env, "--conf-file", config, "--seed", "1"]
    again += ["-n", "2600", "--eval-freq", "-1", "-params", *small, CALLBACK, "resume:True"]
    run = tmp_path / "logs" / "drqn" / f"{env}_1"
    stop(start(tmp_path, again), run, 2000, signal.SIGTERM)
    episodes = (run / "0.monitor.csv").read_text().splitlines()
    process = start(tmp_path, again)
    out, err = process.communicate()
    assert process.returncode == 0 and "Resumed from" in out
    assert "games begin anew" in err
    assert (run / "0.monitor.csv").read_text().splitlines()[: len(episodes)] == episodes


def test_resume_is_yes_or_no(tmp_path: Path) -> None:
    process = start(tmp_path, command(params=("resume:'yes'",)))
    _, err = process.communicate()
    assert process.returncode != 0
    assert "resume must be True or False, got 'yes'; a checkpoint is named with --trained-agent" in err
