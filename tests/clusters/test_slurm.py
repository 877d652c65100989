"""Suites in a real Slurm of one node, which :file:`one_node_slurm.sh` starts and stops."""

import importlib.util
import json
import os
import socket
import subprocess
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from cluster_runs import (
    JOBS,
    assert_same_results,
    finish,
    interrupt,
    is_training,
    log_of,
    missing,
    script,
    start_run,
    wait_for,
)

_absent = missing("munged", "slurmctld", "slurmd", "sbatch", "srun", "squeue", "scancel", "scontrol")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(bool(_absent), reason=f"Slurm is not installed (apt-get install slurm-wlm munge): no {_absent}"),
    pytest.mark.skipif(
        importlib.util.find_spec("submitit") is None, reason="submitit is not installed: pip install '.[slurm]'"
    ),
]


@pytest.fixture(scope="module")
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """Start a Slurm, and give the environment in which it is found."""
    folder = tmp_path_factory.mktemp("slurm")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = {"PORT": str(free.getsockname()[1])}
    script("one_node_slurm.sh", "start", str(folder), environment=port)
    try:
        yield {"SLURM_CONF": str(folder / "slurm.conf")}
    finally:
        script("one_node_slurm.sh", "stop", str(folder))
        assert not processes_that_name(folder)


@pytest.fixture(scope="module")
def local_results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("local")
    finish(start_run(folder, "--executor", "local", "--jobs", "2", "--threads", "1"))
    return folder / "results"


def processes_that_name(folder: Path) -> list[str]:
    found = subprocess.run(["ps", "-axww", "-o", "args="], capture_output=True, text=True).stdout.splitlines()
    return [line for line in found if str(folder) in line]


def tell(slurm: dict[str, str], *command: str) -> str:
    return subprocess.run(command, env={**os.environ, **slurm}, check=True, capture_output=True, text=True).stdout


def numbers(folder: Path) -> dict[str, str]:
    found: dict[str, str] = json.loads((folder / "results" / "slurm.json").read_text())["jobs"]
    return found


def queue(slurm: dict[str, str]) -> list[str]:
    return tell(slurm, "squeue", "--me", "--array", "--noheader", "--format=%i %T").splitlines()


def test_a_suite_ends_in_slurm_as_on_this_machine(slurm: dict[str, str], local_results: Path, tmp_path: Path) -> None:
    process = start_run(tmp_path, "--executor", "slurm", environment=slurm)
    said = finish(process)
    assert process.returncode == 0, said
    assert_same_results(tmp_path / "results", local_results)
    array = {number.partition("_")[0] for number in numbers(tmp_path).values()}
    assert len(array) == 1  # both jobs are of one array
    again = start_run(tmp_path, "--executor", "slurm", environment=slurm)
    assert "2 finished, 0 to do" in finish(again)


def preempt(slurm: dict[str, str], number: str) -> None:
    cpus = tell(slurm, "sinfo", "--noheader", "--format=%c", "--partition=urgent").strip()
    tell(slurm, "sbatch", "--partition=urgent", f"--ntasks={cpus}", "--output=/dev/null", "--wrap=sleep 1")


WAYS = {
    "the time limit's signal": lambda slurm, number: tell(slurm, "scancel", "--signal=USR2", number),
    "a job that is more urgent": preempt,
    "an administrator's requeue": lambda slurm, number: tell(slurm, "scontrol", "requeue", number),
}


@pytest.mark.parametrize("way", WAYS)
def test_a_job_that_slurm_takes_off_its_node_goes_on_from_its_checkpoint(
    way: str, slurm: dict[str, str], local_results: Path, tmp_path: Path
) -> None:
    process = start_run(tmp_path, "--executor", "slurm", "--only", "seed-0", environment=slurm)
    job = tmp_path / "results" / JOBS[0]
    wait_for(partial(is_training, job))
    WAYS[way](slurm, numbers(tmp_path)[JOBS[0].as_posix()])
    said = finish(process)
    assert process.returncode == 0, said
    assert log_of(job).count("Told to stop (SIGTERM)") == 1
    assert log_of(job).count("Resumed from") == 1
    assert_same_results(tmp_path / "results", local_results, JOBS[:1])


def test_the_same_command_watches_what_is_in_the_queue_and_submits_only_what_is_gone(
    slurm: dict[str, str], local_results: Path, tmp_path: Path
) -> None:
    first = start_run(tmp_path, "--executor", "slurm", environment=slurm)
    for job in JOBS:
        wait_for(partial(is_training, tmp_path / "results" / job))
    said = interrupt(first)
    assert first.returncode == 143, said
    submitted = numbers(tmp_path)
    array = submitted[JOBS[0].as_posix()].partition("_")[0]
    assert f"2 jobs go on in Slurm: the same command watches them, `scancel {array}` ends them" in said
    assert sorted(queue(slurm)) == [f"{number} RUNNING" for number in sorted(submitted.values())]

    tell(slurm, "scancel", submitted[JOBS[1].as_posix()])
    second = start_run(tmp_path, "--executor", "slurm", environment=slurm)
    said = finish(second)
    if second.returncode != 0:  # the command was quicker than Slurm: it still had the job, and watched its end
        assert "Slurm: CANCELLED" in said
        third = start_run(tmp_path, "--executor", "slurm", environment=slurm)
        said = finish(third)
        assert third.returncode == 0, said
    assert numbers(tmp_path)[JOBS[0].as_posix()] == submitted[JOBS[0].as_posix()]
    assert numbers(tmp_path)[JOBS[1].as_posix()] != submitted[JOBS[1].as_posix()]
    assert "Resumed from" not in log_of(tmp_path / "results" / JOBS[0])
    assert "Resumed from" in log_of(tmp_path / "results" / JOBS[1])
    assert_same_results(tmp_path / "results", local_results)


def test_a_partition_that_is_not_there_is_named(slurm: dict[str, str], tmp_path: Path) -> None:
    process = start_run(tmp_path, "--executor", "slurm", "--slurm-partition", "nowhere", environment=slurm)
    said = finish(process)
    assert process.returncode != 0
    assert "Slurm has not taken the jobs" in said
    assert "invalid partition specified: nowhere" in said
    assert not (tmp_path / "results" / "slurm.json").exists()
