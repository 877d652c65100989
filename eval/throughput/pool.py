"""Worker processes, seen from the benchmark: started, asked, and ended. Imports neither PyTorch nor Stable-Baselines3."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from threading import Timer
from types import TracebackType
from typing import Any

from eval.throughput.contestants import Contestant
from eval.throughput.protocol import Work

ROOT = Path(__file__).parents[2]
NOT_INSTALLED = "not installed: make bench-peers"


class WorkerError(Exception):
    """
    A worker could not do what it was asked.

    :param reason: what to say in the report
    :param is_failure: whether something is broken, rather than missing
    """

    def __init__(self, reason: str, is_failure: bool) -> None:
        super().__init__(reason)
        self.is_failure = is_failure


class Worker:
    """
    A contestant's process.

    :param contestant: who
    :param interpreters: name -> the Python that runs it
    :param threads: for operations on the CPU
    :param log: where its stderr goes
    :param timeout: seconds after which an answer will never come
    :raises WorkerError: if there is no such interpreter
    """

    def __init__(
        self, contestant: Contestant, interpreters: Mapping[str, Path], threads: int, log: Path, timeout: float
    ) -> None:
        self.name, self.log, self.timeout = contestant.name, log, timeout
        interpreter = interpreters[contestant.interpreter]
        if not interpreter.exists():
            raise WorkerError(NOT_INSTALLED, is_failure=False)
        n_threads = str(threads)
        environment = {
            **os.environ,
            "OMP_NUM_THREADS": n_threads,
            "MKL_NUM_THREADS": n_threads,
            "PYTHONPATH": str(ROOT),
            "PYTHONWARNINGS": "ignore",
        }
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("w") as stderr:
            self.process = subprocess.Popen(
                [str(interpreter), "-m", contestant.module],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stderr,
                text=True,
                cwd=ROOT,
                env=environment,
            )

    def ask(self, message: Mapping[str, Any]) -> dict[str, Any]:
        """
        :param message: see :mod:`eval.throughput.protocol`
        :return: the answer
        :raises WorkerError: if it says that it failed, has ended, or takes longer than its timeout
        """
        assert self.process.stdin is not None and self.process.stdout is not None
        timer = Timer(self.timeout, self.process.kill)
        timer.start()
        try:
            self.process.stdin.write(json.dumps(message) + "\n")
            self.process.stdin.flush()
            line = self.process.stdout.readline()
        except BrokenPipeError:
            line = ""
        finally:
            timer.cancel()
        if not line:
            self.process.wait()
            raise WorkerError(f"ended with status {self.process.returncode}, see logs/{self.log.name}", is_failure=True)
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise WorkerError(answer["error"], is_failure=True)
        return answer

    def build(self, work: Work) -> dict[str, Any]:
        """
        :param work: what it is to do
        :return: what it has to say about itself, once it is warm
        :raises WorkerError: if it can't
        """
        info: dict[str, Any] = self.ask({"do": "build", "work": work._asdict()})["info"]
        return info

    def measure(self, seconds: float) -> dict[str, float]:
        """
        :param seconds: about how long
        :return: ``count`` and ``seconds``
        :raises WorkerError: if it can't
        """
        return self.ask({"do": "measure", "seconds": seconds})

    def call(self, name: str) -> Any:
        """
        :param name: of one of the task's extras
        :return: what it returned
        :raises WorkerError: if it can't
        """
        return self.ask({"do": "call", "name": name})["value"]

    def close(self) -> None:
        """End the process, kindly at first."""
        if self.process.poll() is None:
            try:
                # Closes stdin too, and reads what is left
                self.process.communicate('{"do": "quit"}\n', timeout=10)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.communicate()
        for stream in (self.process.stdin, self.process.stdout):
            if stream is not None:
                stream.close()

    def __enter__(self) -> "Worker":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()


def interpreters(pfrl: Path, torchrl: Path) -> dict[str, Path]:
    """
    :param pfrl: the Python of PFRL's environment
    :param torchrl: the Python of TorchRL's environment
    :return: name -> Python
    """
    return {"own": Path(sys.executable), "pfrl": pfrl, "torchrl": torchrl}
