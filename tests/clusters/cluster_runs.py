"""A tiny suite, run by ``python -m eval run`` in a process of its own, and what its results have to have in common."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from eval.run.execution import ROOT, TRAINING_LOG
from eval.run.progress import read_progress

HERE = Path(__file__).parent
SUITE = """
name: tiny
environments:
  CartPole-v1: {{steps: {steps}}}
agents:
  dqn: {{algo: dqn, hyperparams: {{learning_starts: 100, train_freq: 64, gradient_steps: 16}}}}
seeds: [0, 1]
curve: {{points: 2, games: 2}}
evaluation: {{games: 3, n_envs: 2, film_steps: 0}}
"""
STEPS = 12_000
JOBS = [Path(f"CartPole-v1/dqn/normal/seed-{seed}") for seed in (0, 1)]
OF_THE_MOMENT = ("git", "machine", "changes", "seconds", "model_sha256", "sha256")
"""Facts that differ between two runs of the same job; a model's file holds the time at which it began to learn."""


def start_run(folder: Path, *words: str, environment: Mapping[str, str] | None = None) -> "subprocess.Popen[str]":
    """Start the tiny suite, in a process group of its own, with its results in ``folder / "results"``."""
    folder.mkdir(parents=True, exist_ok=True)
    suite = folder / "tiny.yml"
    suite.write_text(SUITE.format(steps=STEPS))
    command = [sys.executable, "-m", "eval", "run", str(suite), "--out", str(folder / "results"), "--device", "cpu", *words]
    return subprocess.Popen(
        command,
        cwd=ROOT,
        env={**os.environ, **(environment or {})},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def finish(process: "subprocess.Popen[str]", seconds: float = 300) -> str:
    """Wait for a run, and return what it said."""
    try:
        return process.communicate(timeout=seconds)[0]
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)


def interrupt(process: "subprocess.Popen[str]") -> str:
    """Do what Ctrl-C in a terminal does: to every process of the group."""
    os.killpg(process.pid, signal.SIGINT)
    return finish(process, 150)


def wait_for(claim: Callable[[], Any], seconds: float = 120) -> Any:
    deadline = time.monotonic() + seconds
    while not (found := claim()):
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.2)
    return found


def is_training(folder: Path) -> bool:
    """Whether a job is somewhere in the first half of its training."""
    progress = read_progress(folder)
    if progress is None or progress.phase != "training" or progress.done < 500:
        return False
    assert progress.done < STEPS / 2, "the job is too far to be interrupted: more STEPS are needed"
    return True


def log_of(folder: Path) -> str:
    return (folder / TRAINING_LOG).read_text()


def assert_same_results(results: Path, expected: Path, jobs: list[Path] = JOBS) -> None:
    for job in jobs:
        found, wanted = (json.loads((path / job / "result.json").read_text()) for path in (results, expected))
        for name in OF_THE_MOMENT:
            del found[name], wanted[name]
        assert found == wanted
        for name in ("episodes.csv", "curve.csv"):
            assert (results / job / name).read_bytes() == (expected / job / name).read_bytes()


def missing(*programs: str) -> str:
    """What is not installed of these, for a skip's reason."""
    return ", ".join(program for program in programs if shutil.which(program) is None)


def script(name: str, *words: str, environment: Mapping[str, str] | None = None) -> None:
    done = subprocess.run(
        [str(HERE / name), *words], env={**os.environ, **(environment or {})}, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
