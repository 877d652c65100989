"""Jobs in processes of their own, killed and told to stop, on this machine."""

import argparse
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from eval.results import read_result
from eval.run import cli
from eval.run.execution import TOLD_TO_STOP, TRAINING_LOG, start_job
from eval.run.local import LocalExecutor
from eval.run.plan import make_plan, write_plan
from eval.run.training import zoo_command
from eval.suite import read_suite

ROOT = Path(__file__).parents[2]
AGENTS: dict[str, dict[str, Any]] = {
    "drqn": {
        "algo": "drqn",
        "hyperparams": {"callback": [{"drqn_sb3.RunCheckpointCallback": {"save_freq": 400}}], "exploration_steps": 1_000},
    },
    "chance": {"plug_in": "eval.evaluation.agents.RandomAgent", "like": "drqn"},
}
SUITE: dict[str, Any] = {
    "name": "killed",
    "environments": {"Recall-v0": {"steps": 4_000}},
    "agents": AGENTS,
    "seeds": [0],
    "curve": {"points": 2, "games": 4},
    "evaluation": {"games": 12, "n_envs": 4, "sweep": {"flicker": [0.5]}, "film_steps": 5},
}
LONG = {"environments": {"Recall-v0": {"steps": 1_000_000}}, "agents": {"drqn": AGENTS["drqn"]}}

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="kills processes with signals that Windows lacks")


def a_suite(folder: Path, **changes: Any) -> Path:
    path = folder / "killed.yml"
    path.write_text(yaml.safe_dump({**SUITE, **changes}, sort_keys=False))
    return path


def made(folder: Path) -> Path:
    folder.mkdir()
    return folder


def a_job(folder: Path, **changes: Any) -> Path:
    """The suite's first job."""
    suite = read_suite(a_suite(folder, **changes))
    plan = make_plan(suite, folder / "results", "cpu")
    write_plan(suite, folder / "results", plan)
    return next(iter(plan))


def run_suite(suite: Path, out: Path, *args: str) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "eval", "run", str(suite), "--out", str(out), "--device", "cpu", "--jobs", "2", *args]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def wait_until(what: Callable[[], object], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end, f"not within {seconds} s"
        time.sleep(0.05)


def checkpoints(job: Path) -> list[Path]:
    return list(job.glob("zoo/*/*/checkpoints/checkpoint_*.zip"))


def processes_of(folder: Path) -> list[int]:
    """Processes whose command names the folder."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if str(folder).encode() in path.read_bytes():
                found.append(int(path.parent.name))
        except OSError:
            continue  # it has ended
    return found


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="looks for processes in /proc, which only Linux has")
def test_a_suite_that_is_killed_goes_on_and_ends_as_if_it_had_not_been(tmp_path: Path) -> None:
    suite, out, undisturbed = a_suite(tmp_path), tmp_path / "out", a_job(made(tmp_path / "undisturbed"))
    job, other = (out / "Recall-v0" / name / "seed-0" for name in ("drqn/normal", "chance/untrained"))
    by_itself = run_suite(suite, out, "--only", "chance")
    text, _ = by_itself.communicate()
    assert by_itself.returncode == 0, text
    first = run_suite(suite, out)
    wait_until(lambda: len(checkpoints(job)) == 2)
    first.kill()
    first.communicate()
    wait_until(lambda: not processes_of(out), 30)
    assert not (job / "result.json").exists()
    steps = max(int(path.stem.split("_")[1]) for path in checkpoints(job))
    written = {path: path.stat().st_mtime_ns for path in other.iterdir()}

    second = run_suite(suite, out)
    text, _ = second.communicate()
    assert second.returncode == 0, text
    assert "2 jobs, 1 finished, 1 to do" in text
    assert {path: path.stat().st_mtime_ns for path in other.iterdir()} == written, "what is finished is not touched"
    log = (job / TRAINING_LOG).read_text()
    assert "Going on with the run in zoo/drqn/Recall-v0_1" in log
    assert int(re.findall(r"esum\w+ from .*checkpoint_(\d+)", log)[-1]) >= steps

    assert start_job(undisturbed, 1).wait(120) == 0
    for name in ("episodes.csv", "curve.csv", "video.gif"):
        assert (job / name).read_bytes() == (undisturbed / name).read_bytes()
    assert not checkpoints(job), "they are of use to nobody any more"

    third = run_suite(suite, out)
    text, _ = third.communicate()
    assert third.returncode == 0
    assert "2 jobs, 2 finished, 0 to do" in text
    assert f"python -m eval report {out}" in text


@pytest.mark.slow
def test_a_job_that_is_told_to_stop_leaves_a_checkpoint_and_goes_on(tmp_path: Path) -> None:
    job = a_job(tmp_path, **LONG)
    process = start_job(job, 1)
    wait_until(lambda: checkpoints(job))
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == TOLD_TO_STOP
    progress = json.loads((job / "progress.json").read_text())
    assert progress["phase"] == "training"
    before = max(checkpoints(job))
    again = start_job(job, 1)
    wait_until(lambda: max(checkpoints(job)) > before)
    again.send_signal(signal.SIGTERM)
    assert again.wait(60) == TOLD_TO_STOP
    assert "Going on with the run in" in (job / TRAINING_LOG).read_text()
    assert json.loads((job / "progress.json").read_text())["seconds"]["training"] > progress["seconds"]["training"]


def test_ctrl_c_is_no_end_of_training(tmp_path: Path) -> None:
    job = a_job(tmp_path, **LONG)
    process = start_job(job, 1)
    wait_until(lambda: checkpoints(job))
    process.send_signal(signal.SIGINT)
    assert process.wait(60) == TOLD_TO_STOP
    assert not (job / "trained.json").exists()


def test_an_agent_to_begin_with_is_named_from_the_checkout(tmp_path: Path) -> None:
    assert start_job(a_job(made(tmp_path / "first"), evaluation={"games": 4}), 1).wait(120) == 0
    (model,) = (tmp_path / "first").glob("results/**/Recall-v0.zip")
    path = os.path.relpath(model, ROOT)
    warm_start = {"drqn_sb3.WarmStart": {"path": path, "verbose": 1}}
    agents = {"drqn": AGENTS["drqn"] | {"hyperparams": {"callback": [warm_start]}}}
    job = a_job(made(tmp_path / "second"), agents=agents, evaluation={"games": 4})
    assert start_job(job, 1).wait(120) == 0
    assert f"Begins with the weights of {ROOT / path}" in (job / TRAINING_LOG).read_text()
    assert read_result(job).facts["config"]["callback"] == [{"drqn_sb3.WarmStart": {"path": model.name, "verbose": 1}}]


def test_training_that_ends_before_its_budget_is_spent_is_no_result(tmp_path: Path) -> None:
    early = {"stable_baselines3.common.callbacks.StopTrainingOnMaxEpisodes": {"max_episodes": 5}}
    agents = {"drqn": AGENTS["drqn"] | {"hyperparams": {"callback": [early]}}}
    job = a_job(tmp_path, agents=agents)
    assert start_job(job, 1).wait(120) == 1
    assert "RuntimeError: training must go on for 4,000 steps, it ended after" in (job / TRAINING_LOG).read_text()
    assert not (job / "result.json").exists()


@pytest.mark.slow
def test_a_suite_goes_on_on_another_device(tmp_path: Path) -> None:
    job = a_job(tmp_path)
    process = start_job(job, 1)
    wait_until(lambda: checkpoints(job))
    process.kill()
    process.wait()
    suite = read_suite(tmp_path / "killed.yml")
    write_plan(suite, tmp_path / "results", make_plan(suite, tmp_path / "results", "auto"))
    assert start_job(job, 1).wait(120) == 0
    assert "Going on with the run in zoo/drqn/Recall-v0_1" in (job / TRAINING_LOG).read_text()
    assert read_result(job).facts["machine"]["device"]


@pytest.mark.slow
def test_killed_at_any_time_a_job_ends_as_if_it_had_not_been(tmp_path: Path) -> None:
    """Killed at random instants of starting, training, playing, filming and writing, again and again."""
    import random

    evaluation = {"games": 400, "n_envs": 4, "sweep": {"flicker": [0.5, 0.25]}, "film_steps": 5}
    job, undisturbed = (a_job(folder, evaluation=evaluation) for folder in (made(tmp_path / "a"), made(tmp_path / "b")))
    start = time.monotonic()
    assert start_job(undisturbed, 1).wait(300) == 0
    seconds, rng, n_kills = time.monotonic() - start, random.Random(0), 0
    while not (job / "result.json").exists():
        process = start_job(job, 1)
        try:
            process.wait(rng.uniform(0.2, 0.5) * seconds if n_kills < 4 else None)
        except subprocess.TimeoutExpired:
            process.kill()
            n_kills += 1
        process.wait()
    assert n_kills >= 2
    for name in ("episodes.csv", "curve.csv", "video.gif"):
        assert (job / name).read_bytes() == (undisturbed / name).read_bytes()


STAGES: dict[str, tuple[str, list[str]]] = {
    "the agent is saved, and nobody knows": ("eval.run.training.write_atomically", []),
    "one condition is played": ("eval.run.job.write_result", ["flicker-0.5.csv", "film.gif"]),
    "all is played": ("eval.run.job.write_result", []),
}


@pytest.mark.parametrize(("at", "undone"), STAGES.values(), ids=STAGES.keys())
def test_what_is_done_is_not_done_again(at: str, undone: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A job that ends where a kill may have ended it."""
    from eval.run.job import run

    job = a_job(tmp_path, environments={"Recall-v0": {"steps": 800}})

    def end(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(at, end)
        run(job)
    for name in undone:
        (job / "parts" / name).unlink()
    (model,) = job.glob("zoo/*/*/Recall-v0.zip")
    saved = model.stat().st_mtime_ns
    for part in job.glob("parts/*.csv"):  # what is played again is not what is written here
        part.write_text(part.read_text().replace(",7,", ",8,"))
    n_parts = len(list(job.glob("parts/*.csv")))
    run(job)
    assert len(list(job.glob("zoo/drqn/Recall-v0_*"))) == 1, "it was trained once"
    assert model.stat().st_mtime_ns == saved
    lengths = read_result(job).episodes().groupby("condition")["length"].max()
    assert sorted(lengths) == [7] * (2 - n_parts) + [8] * n_parts
    assert set(read_result(job).episodes()["condition"]) == {"normal", "flicker-0.5"}


@pytest.mark.slow
def test_a_job_is_one_processs_at_a_time(tmp_path: Path) -> None:
    job = a_job(tmp_path, **LONG)
    first = start_job(job, 1)
    wait_until(lambda: checkpoints(job))
    second = start_job(job, 1)
    wait_until(lambda: "another process is at this job: waiting for it" in (job / TRAINING_LOG).read_text())
    first.send_signal(signal.SIGTERM)
    assert first.wait(60) == TOLD_TO_STOP
    wait_until(lambda: "Going on with the run in" in (job / TRAINING_LOG).read_text())
    second.kill()
    second.wait()


@pytest.mark.slow
def test_jobs_that_are_told_to_stop_are_waited_for(tmp_path: Path) -> None:
    job = a_job(tmp_path, **LONG)
    executor = LocalExecutor(n_jobs=1)
    executor.start([job, job.parent / "seed-1"])
    wait_until(lambda: checkpoints(job))
    assert {folder.name: state.name for folder, state in executor.states().items()} == {
        "seed-0": "running",
        "seed-1": "queued",
    }
    assert executor.stop() == "1 running jobs were told to stop; the same command goes on with them"
    assert executor.states() == {}
    newest = max(checkpoints(job)).stat().st_mtime
    assert time.time() - newest < 10


@pytest.mark.slow
def test_ctrl_c_ends_a_suite_and_its_jobs(tmp_path: Path) -> None:
    suite, out = a_suite(tmp_path, **LONG), tmp_path / "out"
    run = run_suite(suite, out)
    wait_until(lambda: checkpoints(out / "Recall-v0/drqn/normal/seed-0"))
    run.send_signal(signal.SIGINT)
    text, _ = run.communicate(timeout=60)
    assert run.returncode == TOLD_TO_STOP, text
    assert "1 running jobs were told to stop; the same command goes on with them" in text
    assert not Path("/proc/self").exists() or not processes_of(out)


@pytest.mark.slow
def test_a_suite_is_run_by_one_process_at_a_time(tmp_path: Path) -> None:
    suite, out = a_suite(tmp_path, **LONG), tmp_path / "out"
    first = run_suite(suite, out)
    wait_until(lambda: (out / "Recall-v0/drqn/normal/seed-0/progress.json").exists())
    second = run_suite(suite, out)
    text, _ = second.communicate()
    assert second.returncode == 1
    assert f"{out} is in use: another process runs this suite" in text
    first.send_signal(signal.SIGTERM)
    first.communicate(timeout=60)


def test_a_job_that_fails_is_told_of_and_the_others_go_on(tmp_path: Path) -> None:
    agents: dict[str, Any] = {
        "bad": {"algo": "drqn", "hyperparams": {"batch_size": 0}},
        "chance": AGENTS["chance"] | {"like": "bad"},
    }
    run = run_suite(a_suite(tmp_path, agents=agents), tmp_path / "out")
    text, _ = run.communicate(timeout=120)
    assert run.returncode == 1
    assert "FAILED   Recall-v0/bad/normal/seed-0" in text
    assert "batch_size must be" in text
    assert "not finished: 1 of 2 jobs." in text
    assert text.endswith("once that is mended:\n  Recall-v0/bad/normal/seed-0\n")
    assert read_result(tmp_path / "out/Recall-v0/chance/untrained/seed-0").steps == 0


def test_gpus_are_given_to_jobs_in_turn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a job's process is told: its command is replaced by one that prints that."""
    show = "import os; print(os.environ['CUDA_VISIBLE_DEVICES'], os.environ['OMP_NUM_THREADS'])"
    monkeypatch.setattr("eval.run.execution.job_command", lambda folder: [sys.executable, "-c", show])
    folders = [tmp_path / str(i) for i in range(4)]
    for folder in folders:
        folder.mkdir()
    executor = LocalExecutor(n_jobs=4, threads=3, gpus=["2", "GPU-5"])
    executor.start(folders)
    wait_until(lambda: all(state.name == "ended" for state in executor.states().values()))
    assert [(folder / TRAINING_LOG).read_text() for folder in folders] == ["2 3\n", "GPU-5 3\n", "2 3\n", "GPU-5 3\n"]


@pytest.mark.parametrize(("visible", "n_gpus", "names"), [("", 2, ["0", "1"]), ("2,3", 2, ["2", "3"]), ("5", 1, ["5"])])
def test_gpus_are_those_that_are_visible(visible: str, n_gpus: int, names: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    import torch as th

    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    monkeypatch.setattr(th.cuda, "device_count", lambda: n_gpus)
    assert cli._gpus("auto") == names
    assert cli._gpus("cpu") == []


def test_a_gpu_that_is_not_there_is_told_of(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch as th

    monkeypatch.setattr(th.cuda, "device_count", lambda: 0)
    with pytest.raises(ValueError, match="--device cuda must find a GPU"):
        cli._gpus("cuda")


def test_numbers_of_jobs_are_checked(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="n_jobs must be at least 1, got 0"):
        LocalExecutor(n_jobs=0)
    with pytest.raises(ValueError, match="threads must be at least 1, got 0"):
        LocalExecutor(n_jobs=1, threads=0)


def test_agents_are_evaluated_greedily_during_training_too(tmp_path: Path) -> None:
    from rl_zoo3.exp_manager import ExperimentManager
    from stable_baselines3.common.callbacks import EvalCallback

    from eval.run.training import evaluated_greedily

    def greedy() -> bool:
        words = (argparse.Namespace(), "dqn", "PongNoFrameskip-v4", str(tmp_path))
        manager = ExperimentManager(
            *words, eval_freq=10, hyperparams={"n_envs": 1, "buffer_size": 10}, verbose=0, device="cpu"
        )
        manager.n_envs = 1
        manager.create_callbacks()
        (callback,) = (one for one in manager.callbacks if isinstance(one, EvalCallback))
        callback.eval_env.close()
        return callback.deterministic

    with evaluated_greedily(ExperimentManager):
        assert greedy()
    assert not greedy(), "the zoo itself has a DQN explore in Atari games"


def test_a_jobs_training_is_the_zoos_own_command(tmp_path: Path) -> None:
    job = json.loads((a_job(tmp_path) / "job.json").read_text())
    assert " ".join(zoo_command(job)) == (
        "-m rl_zoo3.train --algo drqn --env Recall-v0 --seed 0 -n 4000 -f zoo --conf-file config.yml "
        "--eval-freq 2000 --eval-episodes 4 --n-eval-envs 4 -params resume:True"
    )
    others = {**job, "algo": "trpo", "resumable": False, "curve": {"points": 0, "games": 4}, "gym_packages": ["some.package"]}
    assert " ".join(zoo_command(others)).endswith(
        "--eval-freq -1 --eval-episodes 4 --n-eval-envs 4 --gym-packages some.package"
    )


@pytest.mark.parametrize("when", ["at once", pytest.param("in training", marks=pytest.mark.slow)])
def test_a_job_whose_starter_is_gone_stops(when: str, tmp_path: Path) -> None:
    job = a_job(tmp_path, **LONG)
    starter = "import sys, time; from pathlib import Path; from eval.run.execution import start_job; "
    code = starter + "print(start_job(Path(sys.argv[1]), 1).pid, flush=True); time.sleep(600)"
    process = subprocess.Popen([sys.executable, "-c", code, str(job)], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    pid = int(process.stdout.readline())
    if when == "in training":
        wait_until(lambda: checkpoints(job))
    process.kill()
    process.wait()

    def has_ended() -> bool:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
        return "Z (zombie)" in Path(f"/proc/{pid}/status").read_text() if Path("/proc/self").exists() else False

    wait_until(has_ended, 30)
    assert "the process that has started this job is gone: stopping" in (job / TRAINING_LOG).read_text()
