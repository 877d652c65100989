"""
The benchmark's rounds: everyone is built first, then they are measured in turn, one at a time, while the others wait.

Imports neither PyTorch nor Stable-Baselines3.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

from eval.throughput.contestants import Contestant, Measurement
from eval.throughput.pool import Worker, WorkerError
from eval.throughput.protocol import Work
from eval.throughput.stats import rotated

Tick = Callable[[str], None]
"""Told of every piece of work that is about to begin."""

Extras = Mapping[str, Sequence[str]]
"""Contestant -> names of its task's extras."""


class Field(NamedTuple):
    """
    What all workers share.

    :param interpreters: name -> the Python that runs them
    :param log_folder: where their stderr goes
    :param timeout: seconds after which an answer will never come
    """

    interpreters: Mapping[str, Path]
    log_folder: Path
    timeout: float

    def start(self, measurement: str, contestant: Contestant, threads: int) -> Worker:
        """
        :param measurement: name of it
        :param contestant: who
        :param threads: for operations on the CPU
        :return: its process
        :raises WorkerError: if it can't be started
        """
        words = "".join(character if character.isalnum() else "_" for character in f"{measurement} {contestant.name}")
        log = self.log_folder / f"{words}.log"
        return Worker(contestant, self.interpreters, threads, log, self.timeout)


def run_measurement(
    measurement: Measurement, work: Work, field: Field, n_rounds: int, tick: Tick, extras: Extras | None = None
) -> dict[str, Any]:
    """
    Measure all contestants of a measurement.

    :param measurement: what to measure
    :param work: sizes; the measurement adds what it decides
    :param field: what all workers share
    :param n_rounds: how often each is measured
    :param tick: told of progress
    :param extras: what else to ask, when all rounds are over
    :return: the measurement, as the results have it
    """
    entries: dict[str, dict[str, Any]] = {}
    work = work._replace(measurement=measurement.task, seconds=measurement.seconds, n_envs=measurement.n_envs)
    with ExitStack() as stack:
        workers: dict[str, Worker] = {}
        for contestant in measurement.contestants:
            name = contestant.name
            tick(f"{name}: building")
            entries[name] = {"status": "measured", "info": {}, "rounds": [], "extras": {}}
            try:
                worker = stack.enter_context(field.start(measurement.name, contestant, work.threads))
                entries[name]["info"] = worker.build(work._replace(options=contestant.options))
                workers[name] = worker
            except WorkerError as error:
                give_up(entries[name], error)
        alternate(workers, entries, n_rounds, measurement.seconds, tick)
        for name, questions in (extras or {}).items():
            if name in workers and entries[name]["status"] == "measured":
                call_extras(workers[name], entries[name], questions, tick)
    fields = {key: getattr(measurement, key) for key in ("name", "title", "unit", "reference")}
    return {**fields, "contestants": entries}


def alternate(
    workers: Mapping[str, Worker], entries: dict[str, dict[str, Any]], n_rounds: int, seconds: float, tick: Tick
) -> None:
    """
    Measure in turn, in an order that rotates from round to round.

    :param workers: name -> a worker that is ready; one that fails is not asked again
    :param entries: name -> where its rounds go
    :param n_rounds: how often each is measured
    :param seconds: about how long each time
    :param tick: told of progress
    """
    left = list(workers)
    for i in range(n_rounds):
        for position, name in enumerate(rotated(list(workers), i)):
            tick(f"{name}: round {i + 1}/{n_rounds}")
            if name not in left:
                continue
            try:
                taken = workers[name].measure(seconds)
                entries[name]["rounds"].append({"round": i, "position": position, **taken})
            except WorkerError as error:
                give_up(entries[name], error)
                left.remove(name)


def call_extras(worker: Worker, entry: dict[str, Any], names: Sequence[str], tick: Tick) -> None:
    """
    :param worker: whom to ask
    :param entry: where the answers go
    :param names: what to ask for
    :param tick: told of progress
    """
    for name in names:
        tick(f"{worker.name}: {name}")
        try:
            entry["extras"][name] = worker.call(name)
        except WorkerError as error:
            # What was measured stands
            entry["extras"][f"{name}_error"] = str(error)


def give_up(entry: dict[str, Any], error: WorkerError) -> None:
    """
    :param entry: of a contestant
    :param error: why nothing more will come of it
    """
    entry["status"] = f"failed: {error}" if error.is_failure else str(error)


def run_memory(contestants: Sequence[Contestant], work: Work, field: Field, tick: Tick) -> dict[str, dict[str, Any]]:
    """
    Measure the memory of replay buffers, each in a fresh process.

    :param contestants: the buffers
    :param work: sizes
    :param field: what all workers share
    :param tick: told of progress
    :return: buffer -> ``status`` and bytes per step
    """
    entries: dict[str, dict[str, Any]] = {}
    for contestant in contestants:
        tick(f"{contestant.name}: memory")
        entry = entries[contestant.name] = {"status": "measured"}
        try:
            with field.start("memory", contestant, work.threads) as worker:
                worker.build(work._replace(measurement="memory", options=contestant.options))
                entry.update(worker.call("bytes"))
        except WorkerError as error:
            give_up(entry, error)
    return entries


def n_ticks(measurements: Sequence[Measurement], n_rounds: int, n_more: int) -> int:
    """
    How often ``tick`` will be called at most.

    :param measurements: all of them
    :param n_rounds: how often each contestant is measured
    :param n_more: pieces of work outside of the measurements
    :return: number of calls
    """
    return sum(len(measurement.contestants) * (1 + n_rounds) for measurement in measurements) + n_more
