"""
Jobs in Slurm's queue, by way of submitit: ``python -m eval run SUITE.yml --executor slurm``.

All jobs are submitted as one array. One that is preempted or comes to its time limit writes a checkpoint, goes back into the
queue and goes on from there. ``<results>/slurm.json`` holds the jobs' numbers, so that the same command, started again,
watches what is in the queue and submits only what has failed or is gone. submitit's files and logs lie in ``<results>/slurm``.
"""

import argparse
import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from eval.results import RESULT
from eval.run.execution import ROOT, TOLD_TO_STOP, State, start_job

if TYPE_CHECKING:
    from submitit.helpers import DelayedSubmission

NUMBERS, LOGS = "slurm.json", "slurm"
POLL_SECONDS = 10.0
"""Slurm's queue is asked for no more often than this: its controller serves the whole cluster."""
GONE_SECONDS = 20.0
"""How long a job must be out of the queue, and have left no word, before it is given up."""
MAX_TIMEOUTS = 100
"""How often a job may come to its time limit and go back into the queue."""
PREEMPTION_SECONDS = 600.0
"""How long a job that Slurm told to end waits for Slurm to end it."""
RUNNING = ("RUNNING", "COMPLETING", "SIGNALING", "STAGE_OUT", "SUSPENDED", "STOPPED", "RESIZING")
QUEUED = ("PENDING", "CONFIGURING", "REQUEUED", "REQUEUE_FED", "REQUEUE_HOLD", "RESV_DEL_HOLD", "SPECIAL_EXIT")
STOPPED = ("CANCELLED", "PREEMPTED", "TIMEOUT", "DEADLINE", "NODE_FAIL", "BOOT_FAIL", "REVOKED")
"""What Slurm calls a job that it ended, not the job itself: it goes on from its checkpoint when it is submitted again."""
OURS = ("array", "chdir", "error", "open-mode", "output", "requeue", "signal")
"""Parameters of sbatch that the harness sets, and needs as they are."""


@dataclass(frozen=True)
class SlurmOptions:
    """
    What a job asks of Slurm.

    :param partition: None for the cluster's default
    :param account: that is charged, None for the user's default
    :param minutes: time limit; a job that comes to it goes on in another turn
    :param cpus: per job
    :param gpus: per job, as ``--gres`` has them behind ``gpu:``, such as ``1`` or ``a100:1``; empty for none
    :param memory: per job, as ``--mem`` has it, such as ``8G``; empty for the cluster's default
    :param at_once: jobs that may run at the same time
    :param notice: seconds before the time limit at which a job is told to write its checkpoint
    :param extra: further parameters of sbatch, ``True`` for one without a value
    :raises ValueError: naming the option, its bound and the value
    """

    partition: str | None = None
    account: str | None = None
    minutes: int = 240
    cpus: int = 1
    gpus: str = ""
    memory: str = ""
    at_once: int = 256
    notice: int = 120
    extra: Mapping[str, str | bool] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("minutes", "cpus", "at_once", "notice"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        ours = [key for key in self.extra if key.replace("_", "-") in OURS]
        if ours:
            raise ValueError(f"extra must leave {', '.join(OURS)} to the harness, got {', '.join(ours)}")


_ARGUMENTS: tuple[tuple[str, type, str, str], ...] = (
    ("partition", str, "NAME", "partition (default: the cluster's)"),
    ("account", str, "NAME", "account that is charged (default: yours)"),
    ("minutes", int, "N", "time limit of a job, which goes on in another turn when it comes to it (default: %(default)s)"),
    ("cpus", int, "N", "CPUs per job, which are also the threads that PyTorch may use (default: %(default)s)"),
    ("gpus", str, "[TYPE:]N", "GPUs per job (default: none)"),
    ("memory", str, "SIZE", "memory per job, such as 8G (default: the cluster's)"),
    ("at_once", int, "N", "jobs of an array that may run at the same time (default: %(default)s)"),
    ("notice", int, "SECONDS", "before the time limit, in which a job writes its checkpoint (default: %(default)s)"),
)
"""Options: field of :class:`SlurmOptions`, type, placeholder, help."""


def add_slurm_arguments(parser: argparse.ArgumentParser) -> None:
    """
    :param parser: of ``python -m eval run``
    """
    group = parser.add_argument_group("--executor slurm")
    for name, kind, placeholder, text in _ARGUMENTS:
        option, default = f"--slurm-{name.replace('_', '-')}", getattr(SlurmOptions(), name)
        group.add_argument(option, type=kind, metavar=placeholder, default=default, help=text)
    further = "further parameters of sbatch, such as qos=low or exclusive"
    group.add_argument("--slurm-set", nargs="+", metavar="KEY=VALUE", default=[], help=further)


def slurm_options(args: argparse.Namespace) -> SlurmOptions:
    """
    :param args: of ``python -m eval run``
    :return: what they say
    :raises ValueError: if an option is out of its bounds
    """
    extra: dict[str, str | bool] = {}
    for word in args.slurm_set:
        key, separator, value = word.lstrip("-").partition("=")
        extra[key] = value if separator else True
    return SlurmOptions(**{name: getattr(args, f"slurm_{name}") for name, *_ in _ARGUMENTS}, extra=extra)


def make_slurm_executor(args: argparse.Namespace, results: Path) -> "SlurmExecutor":
    """
    :param args: of ``python -m eval run``
    :param results: the suite's folder
    :return: what runs the jobs
    :raises ValueError: if an option is out of its bounds
    :raises RuntimeError: if Slurm or submitit is not here
    """
    return SlurmExecutor(results, slurm_options(args))


class Listed(NamedTuple):
    """
    A job as squeue shows it.

    :param state: in Slurm's words
    :param reason: why it waits
    """

    state: str
    reason: str


class SlurmExecutor:
    """
    Runs jobs in Slurm.

    :param results: the suite's folder, on a file system that all nodes share
    :param options: what a job asks for
    :raises RuntimeError: if Slurm or submitit is not here
    """

    def __init__(self, results: Path, options: SlurmOptions) -> None:
        for program in ("sbatch", "squeue", "srun"):
            if shutil.which(program) is None:
                raise RuntimeError(
                    f"--executor slurm needs Slurm's {program} on the PATH: run it on a login node of the cluster"
                )
        try:
            import submitit  # noqa: F401
        except ImportError as error:
            raise RuntimeError("--executor slurm needs submitit: pip install '.[slurm]'") from error
        self.results = results.absolute()
        self.options = options
        self._numbers = read_numbers(self.results)
        self._states: dict[Path, State] = {}
        self._gone: dict[Path, float] = {}
        self._asked = float("-inf")

    def start(self, folders: Sequence[Path]) -> None:
        """
        Submit the jobs that Slurm does not have yet.

        :param folders: of jobs that are not finished
        :raises RuntimeError: if Slurm does not answer, or does not take them
        """
        listed = ask_slurm()
        new = [folder for folder in folders if not self._is_in_slurm(folder, listed)]
        if new:
            numbers = submit(new, self.results, self.options)
            self._numbers |= {self._name(folder): number for folder, number in zip(new, numbers, strict=True)}
            write_numbers(self.results, self._numbers)
        self._states = {folder: State("queued") for folder in folders}

    def states(self) -> dict[Path, State]:
        """
        :return: how it stands with the jobs, as of the last look into the queue
        """
        if time.monotonic() - self._asked >= POLL_SECONDS:
            self._look()
            self._asked = time.monotonic()
        for folder, state in self._states.items():
            if state.name == "running":
                self._states[folder] = self._outcome(folder) or state
        return dict(self._states)

    def stop(self) -> str:
        """
        Leave the jobs to Slurm.

        :return: how to watch them, and how to end them
        """
        left = [self._numbers[self._name(folder)] for folder, state in self._states.items() if state.name != "ended"]
        if not left:
            return "Slurm has none of the jobs any more"
        arrays = " ".join(sorted({number.partition("_")[0] for number in left}, key=int))
        return f"{len(left)} jobs go on in Slurm: the same command watches them, `scancel {arrays}` ends them"

    def _look(self) -> None:
        try:
            listed = ask_slurm()
        except RuntimeError as error:
            told = str(error).partition("\n")[0]
            self._states = {
                folder: state if state.name == "ended" else state._replace(told=told) for folder, state in self._states.items()
            }
            return
        for folder, state in self._states.items():
            if state.name != "ended":
                self._states[folder] = self._outcome(folder) or self._state(folder, listed)

    def _state(self, folder: Path, listed: Mapping[str, Listed]) -> State:
        """How it stands with a job that has left no outcome."""
        found = listed.get(self._numbers[self._name(folder)])
        state = _in_queue(found)
        if state is not None:
            self._gone.pop(folder, None)
            return state
        # One that was submitted or has ended a moment ago may be neither in the queue nor, on a network's file system, here
        now = time.monotonic()
        since = self._gone.setdefault(folder, now)
        if since == now or now - since < GONE_SECONDS:
            return self._states[folder]
        if (folder / RESULT).exists():
            return State("ended", 0)
        if found is None:
            return State("ended", 1, f"Slurm has job {self._numbers[self._name(folder)]} no more")
        return State("ended", TOLD_TO_STOP if found.state in STOPPED else 1, f"Slurm: {found.state}")

    def _is_in_slurm(self, folder: Path, listed: Mapping[str, Listed]) -> bool:
        found = listed.get(self._numbers.get(self._name(folder), ""))
        return _in_queue(found) is not None and self._outcome(folder) is None

    def _outcome(self, folder: Path) -> State | None:
        """How a job has ended, if it has left word of that."""
        from submitit import SlurmJob
        from submitit.core.utils import UncompletedJobError

        job: SlurmJob[int] = SlurmJob(folder=self.results / LOGS, job_id=self._numbers[self._name(folder)])
        if not job.paths.result_pickle.exists():
            return None
        try:
            return State("ended", job.result())
        except UncompletedJobError as error:
            trace = str(error).split("-" * 22)  # what submitit frames it with
            reason = trace[1].strip().splitlines()[-1] if len(trace) == 3 else "the job's task has failed"
            return State("ended", 1, f"{reason}; see {job.paths.stdout}")

    def _name(self, folder: Path) -> str:
        """A job's folder within the results, wherever they lie."""
        return folder.absolute().relative_to(self.results).as_posix()


class SlurmTask:
    """
    What is run on a node: a job's process, which is told to write its checkpoint when the node is wanted back.

    :param threads: that PyTorch may use
    """

    def __init__(self, threads: int) -> None:
        self.threads = threads
        self._process: subprocess.Popen[bytes] | None = None
        self._is_ending = False

    def __call__(self, folder: Path) -> int:
        """
        :param folder: the job's
        :return: the process's exit status
        """
        # submitit has SIGTERM ignored; it is all that a preempted job gets to hear on many clusters
        signal.signal(signal.SIGTERM, self._end)
        # Slurm sends its signals to every process of a job. One of these tells submitit that the time is up; which one,
        # SUBMITIT_PREEMPT_SIGNAL says. It would kill the job's process
        former = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGUSR1, signal.SIGUSR2))
        self._process = start_job(folder, self.threads)
        signal.pthread_sigmask(signal.SIG_SETMASK, former)
        _await_end(self._process)
        if self._is_ending and self._process.wait() != 0:
            # Slurm takes one that ends within its time of grace for finished, and would not put it back into the queue
            time.sleep(PREEMPTION_SECONDS)
        return self._process.wait()

    def checkpoint(self, folder: Path) -> "DelayedSubmission":
        """
        Called by submitit when the time is up, or the node is wanted for another job.

        :param folder: the job's
        :return: what goes into the queue in place of this. If the job has ended just now, its next turn is a short one
        """
        from submitit.helpers import DelayedSubmission

        if self._process is not None:
            self._process.send_signal(signal.SIGTERM)
            _await_end(self._process)
        return DelayedSubmission(SlurmTask(self.threads), folder)

    def _end(self, number: int, frame: Any) -> None:
        self._is_ending = True
        if self._process is not None:
            self._process.send_signal(signal.SIGTERM)


def _await_end(process: "subprocess.Popen[bytes]") -> None:
    """Wait without ``Popen.wait``, whose lock a signal's handler would wait for in vain while the same thread holds it."""
    with suppress(ChildProcessError):  # it has ended, and been waited for
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)


def submit(folders: Sequence[Path], results: Path, options: SlurmOptions) -> list[str]:
    """
    Put jobs into the queue, as one array.

    :param folders: the jobs'
    :param results: the suite's folder
    :param options: what a job asks for
    :return: their numbers in Slurm
    :raises RuntimeError: if Slurm does not take them
    """
    import submitit

    extra = {"chdir": str(ROOT), "requeue": True, **({"mem": options.memory} if options.memory else {}), **options.extra}
    asked = {
        "partition": options.partition,
        "account": options.account,
        "gres": f"gpu:{options.gpus}" if options.gpus else None,
    }
    executor = submitit.SlurmExecutor(folder=results / LOGS, max_num_timeout=MAX_TIMEOUTS)
    executor.update_parameters(
        job_name=f"eval-{results.name}",
        time=options.minutes,
        cpus_per_task=options.cpus,
        array_parallelism=options.at_once,
        signal_delay_s=options.notice,
        stderr_to_stdout=True,
        srun_args=[f"--cpus-per-task={options.cpus}"],  # since Slurm 22.05, srun does not take that over from the job
        additional_parameters=extra,
        **{key: value for key, value in asked.items() if value is not None},
    )
    try:
        jobs = executor.map_array(SlurmTask(options.cpus), [folder.absolute() for folder in folders])
    except submitit.core.utils.FailedJobError as error:
        raise RuntimeError(f"Slurm has not taken the jobs: {error}") from error
    return [job.job_id for job in jobs]


def ask_slurm() -> dict[str, Listed]:
    """
    :return: the user's jobs that Slurm knows of, by number (``12``, in an array ``12_0``)
    :raises RuntimeError: if Slurm does not answer
    """
    command = ["squeue", "--me", "--array", "--states=all", "--noheader", "--format=%i|%T|%r"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=60)
    except subprocess.TimeoutExpired as error:
        raise RuntimeError("Slurm does not answer: squeue has taken more than a minute") from error
    if answer.returncode != 0:
        raise RuntimeError(f"Slurm does not answer: squeue ended with status {answer.returncode}: {answer.stderr.strip()}")
    return parse_squeue(answer.stdout)


def parse_squeue(text: str) -> dict[str, Listed]:
    """
    :param text: lines ``NUMBER|STATE|REASON``
    :return: the jobs by number
    """
    rows = [line.strip().split("|", 2) for line in text.splitlines() if line.count("|") >= 2]
    return {number: Listed(state, reason) for number, state, reason in rows}


def _in_queue(found: Listed | None) -> State | None:
    """State of a job that waits or runs; None for any other."""
    if found is None or found.state not in RUNNING + QUEUED:
        return None
    return State("running") if found.state in RUNNING else State("queued", told=found.reason.replace("None", ""))


def read_numbers(results: Path) -> dict[str, str]:
    """
    :param results: a suite's folder
    :return: jobs' folders within it -> their numbers in Slurm; empty if nothing was submitted
    :raises ValueError: if the file is not what was written
    """
    path = results / NUMBERS
    if not path.exists():
        return {}
    try:
        numbers = json.loads(path.read_text())["jobs"]
        return {str(folder): str(number) for folder, number in numbers.items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            f"{path} must be as it was written ({error!r}): remove it once `squeue --me` shows none of the jobs"
        ) from error


def write_numbers(results: Path, numbers: Mapping[str, str]) -> None:
    """
    :param results: a suite's folder
    :param numbers: jobs' folders within it -> their numbers in Slurm
    """
    unfinished = results / f"{NUMBERS}.unfinished"
    unfinished.write_text(json.dumps({"jobs": dict(numbers)}, indent=1, sort_keys=True) + "\n")
    os.replace(unfinished, results / NUMBERS)
