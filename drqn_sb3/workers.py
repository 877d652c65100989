"""
Watching the processes that environments run in, so that one which dies or hangs ends in an error that says so.

SB3's ``SubprocVecEnv`` waits for its workers' answers for ever, and tells of a dead one by an ``EOFError``. Here, while an
algorithm learns, its connections are replaced by such as keep an eye on the worker at the other end.
"""

import math
import multiprocessing.connection
import os
import select
import signal
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from types import TracebackType
from typing import Any

from stable_baselines3.common.vec_env import SubprocVecEnv, VecEnv, VecEnvWrapper

_BIT = 1.0  # seconds
_SERVER_GONE = 255  # multiprocessing's exit code for a process that its fork server can't tell of
_GRACE = 5.0  # seconds that a process is given to end by itself
_ADVICE = (
    "The other environments' processes have been ended. Make the environments anew; "
    "a run with checkpoints (RunCheckpointCallback) can be resumed from the last one"
)


def find_subprocesses(env: VecEnv | None) -> SubprocVecEnv | None:
    """
    Look below the wrappers for environments in processes of their own.

    :param env: vectorised environments
    :return: the ``SubprocVecEnv`` at the bottom; ``None`` if there is another kind
    """
    while isinstance(env, VecEnvWrapper):
        env = env.venv
    return env if isinstance(env, SubprocVecEnv) else None


class WorkerWatch:
    """
    A context within which no worker of a ``SubprocVecEnv`` dies or hangs unnoticed. Whatever is asked of the workers is
    watched: steps, resets, methods and attributes.

    With environments of another kind (``DummyVecEnv``, ``AtariVecEnv``) nothing can be watched, and nothing is done. Nor are
    other environments, such as those that a callback evaluates on.

    After an error the workers are ended and the environments closed: ``close()`` returns at once then.

    :param env: the environments, wrapped or not
    :param timeout: seconds to wait for an answer, counted from when one begins to wait; ``None`` for ever
    :param count_steps: tells how many steps were taken, for the error
    """

    def __init__(self, env: VecEnv | None, timeout: float | None, count_steps: Callable[[], int]) -> None:
        self.env = find_subprocesses(env)
        self.timeout = timeout
        self.count_steps = count_steps
        self._remotes: tuple[Connection, ...] = ()
        self._watched: tuple[_WatchedConnection, ...] = ()

    def __enter__(self) -> None:
        """
        Begin to watch.

        :raises RuntimeError: if a worker is dead already, or the environments are closed
        """
        if self.env is None:
            return
        if self.env.closed:
            raise RuntimeError("env is closed: its processes have ended. Make the environments anew")
        self._remotes = tuple(self.env.remotes)
        self._watched = tuple(
            _WatchedConnection(self, remote, process)
            for remote, process in zip(self._remotes, self.env.processes, strict=True)
        )
        if not all(process.is_alive() for process in self.env.processes):
            raise self.end()
        self.env.remotes = self._watched

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        """Watch no longer; answers that an interruption has left unread are thrown away."""
        if self.env is None:
            return
        if not self.env.closed and any(watched.n_owed > 0 for watched in self._watched):
            if all(watched.discard_answers() for watched in self._watched):
                self.env.waiting = False
            else:
                self._end_processes([])
        self.env.remotes = self._remotes

    def end(self, failed: BaseProcess | None = None) -> RuntimeError | TimeoutError:
        """
        End all workers and close the environments.

        :param failed: a worker whose connection has broken
        :return: what has happened
        """
        assert self.env is not None
        processes = self.env.processes
        if failed is not None:
            failed.join(_GRACE)
        dead = {index: process for index, process in enumerate(processes) if not process.is_alive() or process is failed}
        hung = [index for index, watched in enumerate(self._watched) if index not in dead and watched.is_awaited()]
        steps = f"after {self.count_steps()} steps"
        error: RuntimeError | TimeoutError
        if dead:
            reports = "; ".join(f"environment {index} {_cause_of_death(process)}" for index, process in dead.items())
            error = RuntimeError(f"{len(dead)} of {len(processes)} environments died {steps}: {reports}. {_ADVICE}")
        else:
            names = ", ".join(str(index) for index in hung)
            error = TimeoutError(
                f"{len(hung)} of {len(processes)} environments did not answer for {self.timeout} seconds (step_timeout) "
                f"{steps}: environment {names}. If a step or a reset may take so long, raise step_timeout, or set it to None "
                f"to wait for ever. {_ADVICE}"
            )
        self._end_processes([process for index, process in enumerate(processes) if index not in dead and index not in hung])
        return error

    def _end_processes(self, healthy: list[BaseProcess]) -> None:
        """Ask those to end that may listen, make the others, and leave the environments closed."""
        assert self.env is not None
        for watched in self._watched:
            if watched.process in healthy:
                _ask_to_close(watched.connection)
        deadline = time.monotonic() + _GRACE
        for process in healthy:
            process.join(max(deadline - time.monotonic(), 0.0))
        for process in self.env.processes:
            if process.is_alive():
                process.kill()
        for process in self.env.processes:
            process.join(_GRACE)
        for remote in self._remotes:
            remote.close()
        self.env.waiting, self.env.closed = False, True


class _WatchedConnection:
    """
    One end of a connection to a worker that notices when the worker does not answer.

    :param watch: whom to tell
    :param connection: the connection
    :param process: the worker
    """

    def __init__(self, watch: WorkerWatch, connection: Connection, process: BaseProcess) -> None:
        self.watch = watch
        self.connection = connection
        self.process = process
        self.n_owed = 0
        self._file = connection.fileno()
        self._poll: Any = None
        # One system call a step, where multiprocessing's wait would take several; a fork's siblings may hold its end open:
        # therefore the sentinel
        if sys.platform != "win32":
            self._poll = select.poll()
            self._poll.register(self._file, select.POLLIN)
            self._poll.register(process.sentinel, select.POLLIN)

    def send(self, message: Any) -> None:
        """
        Ask something of the worker.

        :param message: what SB3 would send
        :raises RuntimeError: if the worker is dead
        """
        try:
            self.connection.send(message)
        except (BrokenPipeError, ConnectionResetError) as error:
            raise self.watch.end(self.process) from error
        except OSError as error:
            raise RuntimeError("env is closed: its processes have ended. Make the environments anew") from error
        self.n_owed += 1

    def recv(self) -> Any:
        """
        Wait for the worker's answer.

        :return: the answer
        :raises RuntimeError: if the worker is dead
        :raises TimeoutError: if it does not answer in time
        """
        self._wait()
        try:
            answer = self.connection.recv()
        except (EOFError, ConnectionResetError) as error:
            raise self.watch.end(self.process) from error
        self.n_owed -= 1
        return answer

    def is_awaited(self) -> bool:
        """
        :return: whether an answer is due that has not come
        """
        return self.n_owed > 0 and not self.connection.poll()

    def discard_answers(self) -> bool:
        """
        Read what is due, and forget it.

        :return: whether nothing is due any more
        """
        with suppress(EOFError, OSError):
            while self.n_owed > 0 and self.connection.poll(_GRACE):
                self.connection.recv()
                self.n_owed -= 1
        return self.n_owed == 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self.connection, name)

    def _wait(self) -> None:
        """Return when there is something to read, or the connection is broken."""
        left = math.inf if self.watch.timeout is None else self.watch.timeout
        while not self._is_ready(min(left, _BIT)):
            # Bit by bit, and one more: while all processes are stopped, as those of a suspended job, time goes on
            if left <= 0:
                raise self.watch.end()
            left -= _BIT

    def _is_ready(self, seconds: float) -> bool:
        """Whether there is something to read, or the connection is broken, within some seconds."""
        if self._poll is not None:
            ready = self._poll.poll((seconds if seconds > 0 else _BIT) * 1000)
            # First comes what was registered first
            if ready and ready[0][0] == self._file:
                return True
        else:
            ready = multiprocessing.connection.wait([self.connection, self.process.sentinel], seconds if seconds > 0 else _BIT)
        # A process that has ended may have answered before
        if not ready or self.connection.poll():
            return bool(ready)
        if self._poll is None or not _outlives_its_server(self.process):
            raise self.watch.end(self.process)
        self._poll.unregister(self.process.sentinel)
        return False


def _outlives_its_server(process: BaseProcess) -> bool:
    """
    Whether a worker is alive whose fork server is not, and which multiprocessing therefore takes for dead.

    Schedulers end all processes of a job at once. The server heeds them, workers (``ResumableEnv``) wait for their orders.
    """
    if process.exitcode != _SERVER_GONE or process.pid is None:
        return False
    try:
        os.kill(process.pid, 0)
    except OSError:
        return False
    return True


def _ask_to_close(connection: Connection) -> None:
    # If that fails, it will be killed
    with suppress(OSError):
        connection.send(("close", None))


def _cause_of_death(process: BaseProcess) -> str:
    """Say how a worker ended, as far as its exit code tells."""
    code, who = process.exitcode, f"(process {process.pid})"
    if code is None:
        return f"{who} has closed its connection"
    if code >= 0:
        return f"{who} ended with exit code {code}: most likely an exception in the environment, whose traceback is on stderr"
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = f"signal {-code}"
    hint = ": often the kernel, out of memory" if name == "SIGKILL" else ""
    return f"{who} was killed by {name}{hint}"
