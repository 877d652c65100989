"""Suites in a real Ray: one that the harness starts, and a cluster that :file:`one_node_ray.sh` starts and stops."""

import importlib.util
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from cluster_runs import JOBS, assert_same_results, finish, interrupt, is_training, log_of, script, start_run, wait_for

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="Ray is not installed: pip install '.[ray]'"),
    pytest.mark.skipif(shutil.which("ps") is None, reason="ps tells the jobs' processes (apt-get install procps)"),
]


@pytest.fixture(scope="module")
def cluster() -> Iterator[dict[str, str]]:
    """Start a Ray cluster of two processors, and give the environment in which it is found."""
    folder = Path(tempfile.mkdtemp(prefix="ray"))  # its sockets' paths have to be short
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    script("one_node_ray.sh", "start", str(folder), environment={"PATH": path, "CPUS": "2", "PORT": port})
    try:
        lines = (folder / "environment").read_text().splitlines()
        yield {name: value for name, _, value in (line.removeprefix("export ").partition("=") for line in lines)}
    finally:
        script("one_node_ray.sh", "stop", str(folder))
        left = [args for args in processes().values() if str(folder) in args]
        shutil.rmtree(folder, ignore_errors=True)
        assert left == []


@pytest.fixture(scope="module")
def local_results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("local")
    finish(start_run(folder, "--executor", "local", "--jobs", "2", "--threads", "1"))
    return folder / "results"


def processes() -> dict[int, str]:
    """Commands by process id."""
    lines = subprocess.run(["ps", "-axww", "-o", "pid=,args="], capture_output=True, text=True).stdout.splitlines()
    return {int(pid): args for pid, args in (line.split(None, 1) for line in lines if len(line.split(None, 1)) == 2)}


def processes_of(job: Path) -> list[int]:
    return [pid for pid, args in processes().items() if "eval.run.job" in args and args.endswith(str(job))]


def parent_of(pid: int) -> int:
    return int(subprocess.run(["ps", "-o", "ppid=", "-p", str(pid)], capture_output=True, text=True).stdout)


def test_a_suite_ends_in_a_ray_cluster_as_on_this_machine(
    cluster: dict[str, str], local_results: Path, tmp_path: Path
) -> None:
    process = start_run(tmp_path, "--executor", "ray", environment=cluster)
    said = finish(process)
    assert process.returncode == 0, said
    assert_same_results(tmp_path / "results", local_results)
    assert "2 finished, 0 to do" in finish(start_run(tmp_path, "--executor", "ray", environment=cluster))


@pytest.mark.parametrize("victim", ["the job's process", "the worker"])
def test_a_job_that_dies_is_tried_again_and_goes_on(
    victim: str, cluster: dict[str, str], local_results: Path, tmp_path: Path
) -> None:
    process = start_run(tmp_path, "--executor", "ray", "--only", "seed-0", environment=cluster)
    job = tmp_path / "results" / JOBS[0]
    wait_for(partial(is_training, job))
    (pid,) = processes_of(job)
    os.kill(pid if victim == "the job's process" else parent_of(pid), signal.SIGKILL)
    wait_for(lambda: processes_of(job) not in ([], [pid]))
    said = finish(process)
    assert process.returncode == 0, said
    assert_same_results(tmp_path / "results", local_results, JOBS[:1])
    # A process that was killed had no time for a checkpoint; one whose worker is gone stops by itself, with one
    assert log_of(job).count("Resumed from") == (0 if victim == "the job's process" else 1)


def test_ctrl_c_ends_a_ray_of_this_machine_and_the_same_command_goes_on(local_results: Path, tmp_path: Path) -> None:
    first = start_run(tmp_path, "--executor", "ray")
    for job in JOBS:
        wait_for(partial(is_training, tmp_path / "results" / job))
    said = interrupt(first)
    assert first.returncode == 143, said
    assert "2 running jobs were told to stop" in said
    for job in JOBS:
        assert log_of(tmp_path / "results" / job).count("Told to stop (SIGTERM)") == 1
        assert processes_of(tmp_path / "results" / job) == []

    second = start_run(tmp_path, "--executor", "ray")
    said = finish(second)
    assert second.returncode == 0, said
    for job in JOBS:
        assert log_of(tmp_path / "results" / job).count("Resumed from") == 1
    assert_same_results(tmp_path / "results", local_results)


def test_a_job_that_needs_more_than_this_machine_has_is_refused(tmp_path: Path) -> None:
    process = start_run(tmp_path, "--executor", "ray", "--ray-cpus", "100000")
    said = finish(process)
    assert process.returncode == 1
    assert f"a job must need at most the {os.cpu_count()} CPUs of this machine, got 100000" in said


def test_a_cluster_that_is_not_there_is_named(tmp_path: Path) -> None:
    process = start_run(tmp_path, "--executor", "ray", "--ray-address", "127.0.0.1:1")
    said = finish(process)
    assert process.returncode == 1
    assert "Ray can't be reached at 127.0.0.1:1" in said
