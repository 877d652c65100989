"""
Jobs in a Ray cluster: ``python -m eval run SUITE.yml --executor ray``.

Each job is a task that starts the job's process on some node and waits for it. When a process, a worker or a node dies, Ray
starts the task again, and the job goes on from its last checkpoint, as the results lie on a file system that all nodes share.
Without an address, a Ray of this machine alone is started for as long as the suite is run.
"""

import argparse
import logging
import os
import signal
import socket
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from eval.results import RESULT
from eval.run.execution import ROOT, TOLD_TO_STOP, State, start_job

STOP_SECONDS = 120.0
"""How long jobs that were told to stop may take to write their checkpoints."""
CONNECT_SECONDS = 10.0
POLL_SECONDS = 0.5


@dataclass(frozen=True)
class RayOptions:
    """
    What a job asks of Ray.

    :param address: of a cluster, such as ``auto`` or ``HOST:6379``; None for a Ray of this machine alone
    :param cpus: per job, which are also the threads that PyTorch may use
    :param gpus: per job; a fraction has jobs share a GPU
    :param retries: how often a job whose process, worker or node died is started again; -1 for always
    :raises ValueError: naming the option, its bound and the value
    """

    address: str | None = None
    cpus: int = 1
    gpus: float = 0.0
    retries: int = 10

    def __post_init__(self) -> None:
        for name, lowest in (("cpus", 1), ("gpus", 0), ("retries", -1)):
            if getattr(self, name) < lowest:
                raise ValueError(f"{name} must be at least {lowest}, got {getattr(self, name)}")


def add_ray_arguments(parser: argparse.ArgumentParser) -> None:
    """
    :param parser: of ``python -m eval run``
    """
    default = RayOptions()
    group = parser.add_argument_group("--executor ray")
    group.add_argument(
        "--ray-address",
        metavar="ADDRESS",
        default=os.environ.get("RAY_ADDRESS"),
        help="of a cluster: auto, or HOST:PORT (default: RAY_ADDRESS of the environment, or else a Ray of this machine alone)",
    )
    group.add_argument("--ray-cpus", type=int, metavar="N", default=default.cpus, help="CPUs per job (default: %(default)s)")
    group.add_argument(
        "--ray-gpus",
        type=float,
        metavar="N",
        default=default.gpus,
        help="GPUs per job; 0.5 has two jobs share one (default: %(default)s)",
    )
    group.add_argument(
        "--ray-retries",
        type=int,
        metavar="N",
        default=default.retries,
        help="how often a job that died is started again, -1 for always (default: %(default)s)",
    )


def ray_options(args: argparse.Namespace) -> RayOptions:
    """
    :param args: of ``python -m eval run``
    :return: what they say
    :raises ValueError: if an option is out of its bounds
    """
    return RayOptions(args.ray_address, args.ray_cpus, args.ray_gpus, args.ray_retries)


def make_ray_executor(args: argparse.Namespace, results: Path) -> "RayExecutor":
    """
    :param args: of ``python -m eval run``
    :param results: the suite's folder
    :return: what runs the jobs
    :raises ValueError: if an option is out of its bounds
    :raises RuntimeError: if Ray is not here, or can't be reached
    """
    return RayExecutor(ray_options(args))


class RayExecutor:
    """
    Runs jobs in Ray.

    :param options: what a job asks for, and where
    :raises RuntimeError: if Ray is not here, can't be reached, or this machine is too small for a job
    """

    def __init__(self, options: RayOptions) -> None:
        self.options = options
        self._ray = _connect(options.address)
        if options.address is None:
            _check_room(self._ray.cluster_resources(), options)
        self._tasks: dict[Any, Path] = {}
        self._states: dict[Path, State] = {}
        self._board = self._ray.remote(num_cpus=0, max_restarts=-1)(_Board).remote()
        self._news: Any = None
        self._begun: set[str] = set()

    def start(self, folders: Sequence[Path]) -> None:
        """
        :param folders: of jobs
        """
        run = self._ray.remote(
            num_cpus=self.options.cpus,
            num_gpus=self.options.gpus,
            max_retries=self.options.retries,
            retry_exceptions=[ProcessDiedError],
        )(run_task)
        for folder in folders:
            task = run.remote(str(folder.absolute()), self.options.cpus, self._board)
            self._tasks[task] = folder
            self._states[folder] = State("queued")

    def states(self) -> dict[Path, State]:
        """
        :return: how it stands with each of the jobs
        """
        if self._tasks:
            ended, _ = self._ray.wait(list(self._tasks), num_returns=len(self._tasks), timeout=0, fetch_local=False)
            for task in ended:
                self._states[self._tasks[task]] = self._outcome(task)
                del self._tasks[task]
            self._read_board()
            for folder in self._tasks.values():
                if str(folder.absolute()) in self._begun:
                    self._states[folder] = State("running")
        return dict(self._states)

    def stop(self) -> str:
        """
        Tell all jobs to stop, and wait until they have.

        :return: what became of them
        """
        n_running = sum(state.name == "running" for state in self._states.values())
        for task in self._tasks:
            # Raises KeyboardInterrupt in the task, which passes it on to the job's process
            self._ray.cancel(task, force=False)
        deadline = time.monotonic() + STOP_SECONDS
        while self._tasks and time.monotonic() < deadline:
            self.states()
            time.sleep(POLL_SECONDS)
        self._ray.shutdown()
        return f"{n_running} running jobs were told to stop; the same command goes on with them"

    def _read_board(self) -> None:
        """Note which jobs have begun, as of the board's last answer: nobody waits for the next."""
        if self._news is None:
            self._news = self._board.begun.remote()
        if self._ray.wait([self._news], timeout=0)[0]:
            with suppress(self._ray.exceptions.RayError):
                self._begun |= self._ray.get(self._news)
            self._news = None

    def _outcome(self, task: Any) -> State:
        errors = self._ray.exceptions
        folder = self._tasks[task]
        try:
            return State("ended", self._ray.get(task))
        except errors.TaskCancelledError:
            return State("ended", TOLD_TO_STOP)
        except errors.RayError as error:
            if (folder / RESULT).exists():
                return State("ended", 0)
            cause = getattr(error, "cause", None) or error
            return State("ended", 1, f"Ray: {str(cause).partition(chr(10))[0]}")


class ProcessDiedError(RuntimeError):
    """A job's process was killed, by the system if it had no memory left. The task is tried again."""


class _Board:
    """What tells the executor which tasks have begun: Ray itself does so only with its dashboard."""

    def __init__(self) -> None:
        self._begun: set[str] = set()

    def begin(self, folder: str) -> None:
        self._begun.add(folder)

    def begun(self) -> set[str]:
        return self._begun


def run_task(folder: str, threads: int, board: Any) -> int:
    """
    What is run on a node: a job's process.

    :param folder: the job's
    :param threads: that PyTorch may use
    :param board: is told that the job has begun
    :return: the process's exit status
    :raises ProcessDiedError: if the process was killed
    """
    board.begin.remote(folder)
    process = start_job(Path(folder), threads)
    try:
        while process.poll() is None:
            time.sleep(POLL_SECONDS)
    except KeyboardInterrupt:  # the task is cancelled
        process.send_signal(signal.SIGTERM)
        return process.wait()
    if process.returncode < 0 or process.returncode == TOLD_TO_STOP:
        raise ProcessDiedError(f"the job's process ended with status {process.returncode}: {folder}")
    return process.returncode


def _connect(address: str | None) -> Any:
    """Import Ray, and start or find its cluster."""
    if address is None:
        os.environ["RAY_USAGE_STATS_ENABLED"] = "0"  # it would tell its makers
    try:
        import ray
    except ImportError as error:
        raise RuntimeError("--executor ray needs Ray: pip install '.[ray]'") from error
    _check_answers(address)
    # Workers have to find this module; what else their nodes' environment says is left to them
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    settings: dict[str, Any] = {"runtime_env": {"env_vars": {"PYTHONPATH": os.pathsep.join(paths)}}}
    if address is None:
        settings["include_dashboard"] = False
    former = signal.getsignal(signal.SIGTERM)
    try:
        # "local": without it, Ray would take any cluster that it finds on this machine
        ray.init(address=address or "local", log_to_driver=False, logging_level=logging.ERROR, **settings)
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise RuntimeError(f"Ray can't be reached at {address or 'this machine'}: {error}") from error
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, former)  # Ray has put its own there
    return ray


def _check_answers(address: str | None) -> None:
    """Ray itself would try to reach a cluster for minutes."""
    host, _, port = (address or "").rpartition(":")
    if host and "/" not in host and port.isdecimal():
        try:
            socket.create_connection((host, int(port)), timeout=CONNECT_SECONDS).close()
        except OSError as error:
            raise RuntimeError(f"Ray can't be reached at {address}: {error}") from error


def _check_room(resources: Mapping[str, float], options: RayOptions) -> None:
    for name, wanted in (("CPU", options.cpus), ("GPU", options.gpus)):
        if wanted > resources.get(name, 0):
            raise RuntimeError(
                f"a job must need at most the {resources.get(name, 0):g} {name}s of this machine, got {wanted:g}"
            )
