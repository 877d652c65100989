"""What runs jobs: what every executor has to be able to do, and the process that each of them starts."""

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

ROOT = Path(__file__).resolve().parents[2]
TRAINING_LOG = "training.log"
TOLD_TO_STOP = 143
"""Exit status of a job that was told to stop: it goes on where it was when it is started again."""


STARTER = "DRQN_SB3_STARTER"
"""Environment variable: the process that has started a job's. When that is gone, the job stops."""


class State(NamedTuple):
    """
    How it stands with a job.

    :param name: ``"queued"``, ``"running"`` or ``"ended"``
    :param status: exit status of one that has ended; None where nobody knows
    :param told: what the executor has to say of it, for whoever watches
    """

    name: str
    status: int | None = None
    told: str = ""


class Executor(Protocol):
    """Runs jobs somewhere."""

    def start(self, folders: Sequence[Path]) -> None:
        """
        Have jobs run, as many at once as there is room for, in this order.

        :param folders: the jobs'
        """

    def states(self) -> dict[Path, State]:
        """
        :return: how it stands with each of the jobs
        """

    def stop(self) -> str:
        """
        Told to stop by Ctrl-C or a signal: end what would not go on by itself, and let it write its checkpoints.

        :return: what the user should know: what was ended, what goes on, how to end that
        """


def job_command(folder: Path) -> list[str]:
    """
    :param folder: a job's
    :return: the command that runs it, to be started in the checkout (:data:`ROOT`)
    """
    return [sys.executable, "-m", "eval.run.job", str(folder.resolve())]


def start_job(folder: Path, threads: int, extra: dict[str, str] | None = None) -> "subprocess.Popen[bytes]":
    """
    Start a job's process. What it prints is appended to ``training.log`` in its folder.

    :param folder: the job's
    :param threads: that PyTorch may use in it
    :param extra: further environment variables
    :return: the process. SIGTERM has it write a checkpoint and end with status 143; it ends so too when this process is gone
    """
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "PYTHONUNBUFFERED": "1", STARTER: str(os.getpid())}
    environment |= extra or {}
    with open(folder / TRAINING_LOG, "ab") as log:
        return subprocess.Popen(
            job_command(folder),
            cwd=ROOT,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C is for whoever watches, who then tells the jobs
        )
