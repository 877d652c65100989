"""What the Slurm executor does by itself. A few lines of shell stand in for Slurm; tests/clusters has the real one."""

import argparse
import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest

from eval.run import slurm
from eval.run.execution import ROOT, State
from eval.run.slurm import (
    Listed,
    SlurmExecutor,
    SlurmOptions,
    add_slurm_arguments,
    ask_slurm,
    make_slurm_executor,
    parse_squeue,
    read_numbers,
    slurm_options,
    write_numbers,
)

needs_submitit = pytest.mark.skipif(
    importlib.util.find_spec("submitit") is None, reason="submitit is not installed: pip install '.[slurm]'"
)
needs_signals = pytest.mark.skipif(sys.platform == "win32", reason="Slurm and its signals are not on Windows")


def parse(*words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    add_slurm_arguments(parser)
    return parser.parse_args(words)


class FakeSlurm:
    """Programs that say what Slurm's would, and note what was submitted."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()
        self._write("srun", "exit 0")
        self._write(
            "sbatch", f"n=$(($(cat {folder}/n) + 1)); echo $n >{folder}/n; cp $1 {folder}/$n; echo Submitted batch job $n"
        )
        (folder / "n").write_text("10\n")
        self.shows()

    def _write(self, name: str, text: str) -> None:
        program = self.folder / name
        program.write_text(f"#!/bin/sh\n{text}\n")
        program.chmod(0o755)

    def shows(self, **states: str) -> None:
        """Have squeue list jobs: ``j11_0="RUNNING"``."""
        lines = "\n".join(f"{name[1:]}|{state}|None" for name, state in states.items())
        self._write("squeue", f"cat <<END\n{lines}\nEND")

    def is_down(self) -> None:
        self._write("squeue", "echo slurm_load_jobs error: Unable to contact slurm controller >&2; exit 1")

    def submissions(self) -> list[str]:
        return [path.read_text() for path in sorted(self.folder.glob("1?"))]


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeSlurm:
    fake = FakeSlurm(tmp_path / "bin")
    monkeypatch.setenv("PATH", str(fake.folder), prepend=":")
    monkeypatch.setattr(slurm, "POLL_SECONDS", 0.0)
    monkeypatch.setattr(slurm, "GONE_SECONDS", 0.0)
    return fake


def jobs_in(results: Path, n_jobs: int = 2) -> list[Path]:
    folders = [results / "Env-v0" / "agent" / "normal" / f"seed-{seed}" for seed in range(n_jobs)]
    for folder in folders:
        folder.mkdir(parents=True)
    return folders


def test_options_are_what_the_command_line_says() -> None:
    words = "--slurm-partition gpu --slurm-account lab --slurm-minutes 30 --slurm-cpus 4 --slurm-gpus a100:1 --slurm-memory 8G"
    more = "--slurm-at-once 3 --slurm-notice 60 --slurm-set qos=low exclusive"
    assert slurm_options(parse()) == SlurmOptions()
    expected = SlurmOptions("gpu", "lab", 30, 4, "a100:1", "8G", 3, 60, {"qos": "low", "exclusive": True})
    assert slurm_options(parse(*words.split(), *more.split())) == expected


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--slurm-minutes", "0"], "minutes must be at least 1, got 0"),
        (["--slurm-cpus", "-2"], "cpus must be at least 1, got -2"),
        (["--slurm-at-once", "0"], "at_once must be at least 1, got 0"),
        (["--slurm-notice", "0"], "notice must be at least 1, got 0"),
        (["--slurm-set", "open_mode=truncate", "qos=low"], "extra must leave .*open-mode.* to the harness, got open_mode"),
    ],
)
def test_options_out_of_their_bounds_are_named(words: list[str], message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message):
        make_slurm_executor(parse(*words), tmp_path)


def test_a_machine_without_slurm_is_told_where_to_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(RuntimeError, match="needs Slurm's sbatch on the PATH"):
        make_slurm_executor(parse(), tmp_path)


def test_a_machine_without_submitit_is_told_how_to_install_it(
    fake: FakeSlurm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "submitit", None)
    with pytest.raises(RuntimeError, match=r"needs submitit: pip install '\.\[slurm\]'"):
        SlurmExecutor(tmp_path, SlurmOptions())


def test_numbers_are_read_as_they_were_written(tmp_path: Path) -> None:
    assert read_numbers(tmp_path) == {}
    write_numbers(tmp_path, {"b/seed-1": "12_1", "a/seed-0": "12_0"})
    assert read_numbers(tmp_path) == {"a/seed-0": "12_0", "b/seed-1": "12_1"}
    assert [path.name for path in tmp_path.iterdir()] == ["slurm.json"]


@pytest.mark.parametrize("text", ["", "{", "[]", '{"jobs": ["a"]}', '{"numbers": {}}'])
def test_numbers_that_were_not_written_so_are_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / "slurm.json").write_text(text)
    with pytest.raises(ValueError, match=r"slurm\.json must be as it was written .* remove it once"):
        read_numbers(tmp_path)


def test_the_queue_is_read_by_number() -> None:
    text = "12_0|RUNNING|None\n 13|PENDING|Resources | and more\n\nslurm_load_jobs: a warning\n"
    assert parse_squeue(text) == {"12_0": Listed("RUNNING", "None"), "13": Listed("PENDING", "Resources | and more")}


@needs_signals
def test_a_controller_that_is_down_is_told_of_in_its_own_words(fake: FakeSlurm) -> None:
    fake.is_down()
    with pytest.raises(RuntimeError, match=r"squeue ended with status 1: .*Unable to contact slurm controller"):
        ask_slurm()


@needs_signals
@needs_submitit
def test_jobs_are_submitted_as_one_array_with_what_was_asked_for(fake: FakeSlurm, tmp_path: Path) -> None:
    results = tmp_path / "results"
    options = SlurmOptions("gpu", "lab", 30, 4, "a100:1", "8G", 3, 60, {"qos": "low", "exclusive": True})
    SlurmExecutor(results, options).start(jobs_in(results, 5))
    (script,) = fake.submissions()
    lines = script.splitlines()
    wanted = (
        "partition=gpu account=lab time=30 cpus-per-task=4 gres=gpu:a100:1 mem=8G qos=low exclusive requeue signal=USR2@60"
    )
    for parameter in [*wanted.split(), "array=0-4%3", f"chdir={ROOT}"]:
        assert f"#SBATCH --{parameter}" in lines
    (command,) = [line for line in lines if line.startswith("srun")]
    assert " --cpus-per-task=4 " in command
    assert json.loads((results / "slurm.json").read_text())["jobs"]["Env-v0/agent/normal/seed-4"] == "11_4"


@needs_signals
@needs_submitit
def test_what_slurm_has_is_not_submitted_again(fake: FakeSlurm, tmp_path: Path) -> None:
    folders = jobs_in(tmp_path / "results")
    SlurmExecutor(tmp_path / "results", SlurmOptions()).start(folders)
    fake.shows(j11_0="PENDING", j11_1="RUNNING")
    executor = SlurmExecutor(tmp_path / "results", SlurmOptions())
    executor.start(folders)
    assert len(fake.submissions()) == 1
    assert [executor.states()[folder].name for folder in folders] == ["queued", "running"]
    assert "2 jobs go on in Slurm" in executor.stop()
    assert "`scancel 11`" in executor.stop()

    fake.shows(j11_0="PENDING", j11_1="CANCELLED")
    executor = SlurmExecutor(tmp_path / "results", SlurmOptions())
    executor.start(folders)
    assert read_numbers(tmp_path / "results") == {"Env-v0/agent/normal/seed-0": "11_0", "Env-v0/agent/normal/seed-1": "12"}
    assert "`scancel 11 12`" in executor.stop()


@needs_signals
@needs_submitit
@pytest.mark.parametrize(
    ("shown", "expected"),
    [
        ({"j11": "CANCELLED"}, State("ended", 143, "Slurm: CANCELLED")),
        ({"j11": "NODE_FAIL"}, State("ended", 143, "Slurm: NODE_FAIL")),
        ({"j11": "OUT_OF_MEMORY"}, State("ended", 1, "Slurm: OUT_OF_MEMORY")),
        ({}, State("ended", 1, "Slurm has job 11 no more")),
    ],
)
def test_a_job_that_left_no_word_has_ended_when_it_was_missed_twice(
    shown: dict[str, str], expected: State, fake: FakeSlurm, tmp_path: Path
) -> None:
    (folder,) = jobs_in(tmp_path / "results", 1)
    executor = SlurmExecutor(tmp_path / "results", SlurmOptions())
    executor.start([folder])
    fake.shows(j11="RUNNING")
    assert executor.states() == {folder: State("running")}
    fake.is_down()
    assert executor.states()[folder].name == "running"
    fake.shows(**shown)
    assert executor.states()[folder].name == "running"
    assert executor.states() == {folder: expected}
    assert executor.stop() == "Slurm has none of the jobs any more"


@needs_signals
@needs_submitit
@pytest.mark.parametrize(
    ("outcome", "status", "told"),
    [(("success", 0), 0, ""), (("success", 3), 3, ""), (("error", "No such thing"), 1, "No such")],
)
def test_a_job_that_left_word_has_ended_as_it_says(
    outcome: tuple[str, object], status: int, told: str, fake: FakeSlurm, tmp_path: Path
) -> None:
    import pickle

    (folder,) = jobs_in(tmp_path / "results", 1)
    executor = SlurmExecutor(tmp_path / "results", SlurmOptions())
    executor.start([folder])
    fake.shows(j11="COMPLETING")
    (tmp_path / "results" / "slurm" / "11_0_result.pkl").write_bytes(pickle.dumps(outcome))
    state = executor.states()[folder]
    assert (state.name, state.status) == ("ended", status)
    assert told in state.told
    # It is submitted again, even if Slurm still lists it
    SlurmExecutor(tmp_path / "results", SlurmOptions()).start([folder])
    assert len(fake.submissions()) == 2


CHECKPOINTED = """
import fcntl, os, signal, sys, threading, time
from pathlib import Path
from eval.run.slurm import SlurmTask

folder = Path(sys.argv[1])
(folder / "job.json").write_text('{"device": "cpu"}')
fcntl.flock(os.open(folder, os.O_RDONLY), fcntl.LOCK_EX)  # so that the job's process waits
task = SlurmTask(2)

def requeue(number, frame):
    later = task.checkpoint(folder)
    print(later.function.threads, later.args == (folder,), flush=True)

def send():
    while "waiting for it" not in ((folder / "training.log").read_text() if (folder / "training.log").exists() else ""):
        time.sleep(0.1)
    os.kill(task._process.pid, signal.SIGUSR2)  # as Slurm does: to all processes
    time.sleep(0.5)
    assert task._process.poll() is None
    os.kill(os.getpid(), signal.SIGUSR2)

signal.signal(signal.SIGUSR2, requeue)
threading.Thread(target=send, daemon=True).start()
print(task(folder))
"""


@needs_signals
@needs_submitit
def test_a_checkpoint_has_the_process_stop_and_is_a_task_that_goes_on(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", CHECKPOINTED, str(tmp_path)], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert done.stdout.split("\n") == ["2 True", "143", ""], done.stderr
