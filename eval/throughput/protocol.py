"""
What the benchmark and its workers say to each other: a line of JSON on stdin, a line of JSON back on stdout.

=============================  ==========================================================
asked                          answered
=============================  ==========================================================
``{"do": "build", "work":..}`` ``{"info": {...}}``, once built and warm
``{"do": "measure",            ``{"count": 12, "seconds": 1.02}``: units done, and how long
"seconds": 1.0}``              they took, about as long as asked for
``{"do": "call",               ``{"value": ...}``: what one of the task's extras returned
"name": "profile"}``
``{"do": "quit"}``             nothing, the worker ends
anything that fails            ``{"error": "..."}``
=============================  ==========================================================

Runs in every contestant's interpreter: the standard library only.
"""

import json
import os
import sys
import time
import traceback
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TextIO

WARM_UP_SHARE = 0.25
"""Warming up ends with a measurement of at least this share of the time that a round gives."""


class Work(NamedTuple):
    """
    What a worker is to do; the same for all of them, except for ``options``.

    :param measurement: ``"updates"``, ``"acting"``, or another that the worker knows
    :param device: PyTorch's name of it
    :param threads: for PyTorch's operations on the CPU
    :param seed: of networks and experience
    :param seconds: about how long a measurement will take
    :param image_size: height and width of a frame
    :param hidden_size: features of the LSTM
    :param n_actions: number of actions
    :param batch_size: number of windows in an update
    :param sequence_length: steps in a window
    :param n_envs: environments acted in at once
    :param buffer_size: frames in the replay buffer
    :param episode_length: steps of an episode, on average
    :param options: what only this worker knows
    """

    measurement: str
    device: str
    threads: int
    seed: int
    seconds: float
    image_size: int
    hidden_size: int
    n_actions: int
    batch_size: int
    sequence_length: int
    n_envs: int
    buffer_size: int
    episode_length: int
    options: dict[str, Any]


@dataclass(frozen=True)
class Task:
    """
    What a worker measures.

    :param run: do so many operations and wait until they are done; returns the units to count, which may be more. ``None``
        where there is nothing to repeat
    :param info: what the report should know, as JSON
    :param extras: what else can be called by name, each returns JSON
    """

    run: Callable[[int], int] | None
    info: dict[str, Any]
    extras: dict[str, Callable[[], Any]] = field(default_factory=dict)


class Meter:
    """
    Measures a task for about as long as it is told to.

    The number of operations is set before the clock starts, from the rate of the last measurement: nothing looks at the
    clock, or waits for a device, while it runs.

    :param run: the task's
    """

    def __init__(self, run: Callable[[int], int]) -> None:
        self.run = run
        self.rate = 0.0

    def count(self, n_operations: int) -> tuple[int, float]:
        """
        :param n_operations: how many
        :return: units done, and the seconds they took
        """
        start = time.perf_counter()
        units = self.run(n_operations)
        seconds = max(time.perf_counter() - start, 1e-9)
        self.rate = n_operations / seconds
        return units, seconds

    def measure(self, seconds: float) -> tuple[int, float]:
        """
        :param seconds: about how long
        :return: units done, and the seconds they took
        """
        return self.count(max(1, round(self.rate * seconds)))

    def warm_up(self, seconds: float) -> None:
        """
        Run until a single count takes long enough for its rate to mean something.

        :param seconds: about how long the measurements will be
        """
        self.count(1)
        n_operations = 1
        while self.count(n_operations)[1] < WARM_UP_SHARE * seconds:
            n_operations *= 2


def answers(build: Callable[[Work], Task], lines: Iterable[str]) -> Iterable[dict[str, Any]]:
    """
    Answer what is asked, line by line.

    :param build: makes the task
    :param lines: what is asked
    :return: an answer to each, until told to quit
    """
    task, meter = Task(None, {}), Meter(int)
    for line in lines:
        message = json.loads(line)
        try:
            if message["do"] == "quit":
                return
            if message["do"] == "build":
                work = Work(**message["work"])
                task = build(work)
                if task.run is not None:
                    meter = Meter(task.run)
                    meter.warm_up(work.seconds)
                yield {"info": task.info}
            elif message["do"] == "measure":
                count, seconds = meter.measure(message["seconds"])
                yield {"count": count, "seconds": seconds}
            else:
                yield {"value": task.extras[message["name"]]()}
        except Exception as error:  # whatever it is, the benchmark goes on and reports it
            traceback.print_exc()
            yield {"error": f"{type(error).__name__}: {error}"}


def take_stdout() -> TextIO:
    """
    Keep stdout to ourselves: what libraries print goes to stderr from now on.

    :return: the real stdout
    """
    sys.stdout.flush()
    stream = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    return stream


def serve(build: Callable[[Work], Task]) -> None:
    """
    Be a worker, until told to quit.

    :param build: makes the task
    """
    stdout = take_stdout()
    for answer in answers(build, sys.stdin):
        print(json.dumps(answer), file=stdout, flush=True)
