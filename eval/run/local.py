"""Jobs on this machine: a process each, as many at once as there are cores or GPUs for."""

import os
import signal
import subprocess
import time
from collections import deque
from collections.abc import Sequence
from pathlib import Path

from eval.run.execution import State, start_job

STOP_SECONDS = 120.0
"""How long jobs that were told to stop may take to write their checkpoints."""


class LocalExecutor:
    """
    Runs jobs on this machine.

    :param n_jobs: processes at once
    :param threads: that PyTorch may use in each; None shares the cores out evenly
    :param gpus: names of the CUDA devices to share among them, as ``CUDA_VISIBLE_DEVICES`` has them; none for the processor
    :raises ValueError: if a number is below 1
    """

    def __init__(self, n_jobs: int, threads: int | None = None, gpus: Sequence[str] = ()) -> None:
        for name, value in (("n_jobs", n_jobs), ("threads", threads)):
            if value is not None and value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")
        self.n_jobs = n_jobs
        self.threads = threads or max(cores() // n_jobs, 1)
        self._places = deque(gpus[i % len(gpus)] if gpus else "" for i in range(n_jobs))
        self._waiting: deque[Path] = deque()
        self._running: dict[Path, tuple[subprocess.Popen[bytes], str]] = {}
        self._ended: dict[Path, State] = {}

    def start(self, folders: Sequence[Path]) -> None:
        """
        :param folders: of jobs, which are run in this order
        """
        self._waiting.extend(folders)
        self._fill()

    def states(self) -> dict[Path, State]:
        """
        :return: how it stands with each of the jobs; a job that has ended makes room for the next
        """
        for folder, (process, place) in list(self._running.items()):
            status = process.poll()
            if status is not None:
                self._ended[folder] = State("ended", status, _describe(status))
                self._places.append(place)
                del self._running[folder]
        self._fill()
        running = {folder: State("running") for folder in self._running}
        return {**self._ended, **running, **{folder: State("queued") for folder in self._waiting}}

    def stop(self) -> str:
        """
        Tell all jobs to stop, and wait until they have.

        :return: what became of them
        """
        self._waiting.clear()
        n_told = len(self._running)
        for process, _ in self._running.values():
            process.send_signal(signal.SIGTERM)
        deadline = time.monotonic() + STOP_SECONDS
        for process, _ in self._running.values():
            try:
                process.wait(max(deadline - time.monotonic(), 0.1))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self._running.clear()
        return f"{n_told} running jobs were told to stop; the same command goes on with them"

    def _fill(self) -> None:
        while self._waiting and self._places:
            folder, place = self._waiting.popleft(), self._places.popleft()
            extra = {"CUDA_VISIBLE_DEVICES": place} if place else None
            self._running[folder] = start_job(folder, self.threads, extra), place


def cores() -> int:
    """
    :return: number of cores that this process may use
    """
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _describe(status: int) -> str:
    if status >= 0:
        return ""
    try:
        return f"killed by {signal.Signals(-status).name}"
    except ValueError:
        return f"killed by signal {-status}"
