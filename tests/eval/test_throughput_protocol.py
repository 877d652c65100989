"""The lines between benchmark and workers, and how long a measurement takes."""

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from eval.throughput.protocol import Meter, Task, Work, answers

ROOT = Path(__file__).parents[2]
WORK = Work("updates", "cpu", 1, 0, 0.01, 36, 16, 3, 2, 4, 2, 100, 20, {})
BUILD = {"do": "build", "work": WORK._asdict()}


def sleep_task(work: Work) -> Task:
    if work.options.get("broken"):
        raise ValueError("not today")

    def run(n_operations: int) -> int:
        time.sleep(0.001 * n_operations)
        return 7 * n_operations

    return Task(run, {"seed": work.seed}, {"parts": lambda: [1, 2]})


def replies(*messages: dict[str, Any]) -> list[dict[str, Any]]:
    return list(answers(sleep_task, map(json.dumps, messages)))


def test_a_worker_builds_measures_and_answers() -> None:
    built, measured, called = replies(BUILD, {"do": "measure", "seconds": 0.05}, {"do": "call", "name": "parts"})
    assert built == {"info": {"seed": 0}}
    assert measured["count"] > 0 and measured["count"] % 7 == 0
    assert measured["seconds"] >= 0.001 * measured["count"] / 7, "faster than it can sleep"
    assert called == {"value": [1, 2]}


def test_a_worker_stops_when_told_to() -> None:
    assert replies({"do": "quit"}, BUILD) == []


ERRORS = {
    "a worker that cannot build": (
        {**BUILD, "work": {**WORK._asdict(), "options": {"broken": True}}},
        "ValueError: not today",
    ),
    "an unknown extra": ({"do": "call", "name": "fun"}, "KeyError: 'fun'"),
    "work of another kind": ({"do": "build", "work": {"size": 3}}, "TypeError"),
}


@pytest.mark.parametrize(("message", "words"), ERRORS.values(), ids=ERRORS.keys())
def test_a_worker_survives_what_fails(message: dict[str, Any], words: str) -> None:
    failed, built = replies(message, BUILD)
    assert words in failed["error"]
    assert built == {"info": {"seed": 0}}


def test_a_meter_measures_for_about_as_long_as_told() -> None:
    n_run = []

    def run(n_operations: int) -> int:
        n_run.append(n_operations)
        time.sleep(0.002 * n_operations)
        return n_operations

    meter = Meter(run)
    meter.warm_up(0.1)
    assert meter.rate <= 500, "faster than it can sleep"
    count, seconds = meter.measure(0.1)
    assert count == n_run[-1] and 1 <= count <= 50
    assert seconds >= 0.002 * count


def test_a_meter_runs_something_however_short_the_time() -> None:
    assert Meter(lambda n_operations: n_operations).measure(1e-12)[0] == 1


def test_what_libraries_print_stays_out_of_the_answers() -> None:
    lines = [json.dumps(message) for message in (BUILD, {"do": "measure", "seconds": 0.01}, {"do": "quit"})]
    command = [sys.executable, "-m", "tests.eval.clock_worker"]
    ran = subprocess.run(command, input="\n".join(lines) + "\n", cwd=ROOT, capture_output=True, text=True, check=True)
    assert [list(json.loads(line)) for line in ran.stdout.splitlines()] == [["info"], ["count", "seconds"]]
    assert "libraries print things\n" in ran.stderr and "made of\n" in ran.stderr
